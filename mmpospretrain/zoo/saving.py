"""Files of tensors, to be read by whom the umask lets read."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_safetensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a ``.safetensors`` file with the mode of any other new file.

    The library itself moves a file of mode 0600 into place, which a colleague or a web
    server cannot read.
    """
    path.touch()
    mode = path.stat().st_mode
    # Clones, since tensors that share memory cannot be saved in this format.
    whole = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(whole, path, metadata and {**metadata})
    path.chmod(mode)
