"""From the CPU, where masks are drawn, to where the model is."""

import torch
from torch import Tensor


@torch.compiler.disable  # which knows no pinned memory
def send(tensor: Tensor, device: torch.device | str | None) -> Tensor:
    """Copy from the CPU to a device, without waiting for what a GPU still has to do.

    Masks are small and waiting is long: by itself, ``to`` ends when the GPU is through
    with all that was asked of it before.
    """
    if torch.device(device or 'cpu').type != 'cuda' or tensor.device.type != 'cpu':
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
