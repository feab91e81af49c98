"""What a format of ViT checkpoints is: where the backbone is, and how it is named."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..positions import possible_grids

# The patch embedding in MMPretrain's names: every ViT has one, and exactly one.
PATCHES = 'patch_embed.projection.weight'
REGISTERS = 'register_tokens'  # (1, R, D), of `PositionViT`
# What the same weights are wrapped in, from outside to inside.
WRAPPERS = ('state_dict', 'model')
# What no backbone here has, so that features would be others without it.
REFUSED = {'dist_token': 'a distillation token'}


def flat_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """All weights in a checkpoint, under one name each.

    The name of a dict of weights becomes a prefix, as in ``target_encoder.norm.bias``.
    ``module.``, of parallel training, is left out wherever it is; so are optimizers
    and all else.
    """
    for wrapper in WRAPPERS:
        if isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
    weights = {}
    for key, value in checkpoint.items():
        if isinstance(value, Tensor):
            weights[key] = value
        elif isinstance(value, Mapping):
            inner = {f'{key}.{k}': v for k, v in value.items()}
            if all(isinstance(v, Tensor) for v in inner.values()):
                weights |= inner
    return {re.sub(r'(^|\.)module\.', r'\1', key): v for key, v in weights.items()}


def translate(key: str, names: Mapping[str, str]) -> str | None:
    """A key in other names; None if they have none for it.

    Args:
        key: Such as ``'blocks.3.norm1.bias'``.
        names: From names to names, without ``.weight`` and ``.bias``, and with ``{}``
            for the index of the layer: ``{'blocks.{}.norm1': 'layers.{}.ln1'}``.
    """
    layer = re.search(r'(?<=\.)\d+(?=\.)', key)  # the first number
    stem = key.replace(f'.{layer[0]}.', '.{}.', 1) if layer else key
    for end in ('', '.weight', '.bias'):
        if stem.endswith(end) and (name := names.get(stem.removesuffix(end))):
            return name.format(layer and layer[0]) + end
    return None


@dataclass(frozen=True)
class Family:
    """Checkpoints that are recognised, and converted, in one way."""

    name: str
    """For the log."""
    mark: str
    """Matches a key that tells this family from those that are asked later."""
    names: Mapping[str, str]
    """From theirs to MMPretrain's, as for `translate`."""
    branches: tuple[str, ...] = ('',)
    """Prefixes of its backbones, the one that is evaluated first."""
    registers_have_positions: bool = False
    """As [CLS] has, unless ``pos_embed`` is that of patches alone."""
    square: bool = False
    """Whether its code knows square grids alone, so that 36 positions are 6 x 6."""
    surplus: str = '(?!)'
    """Matches keys beside a backbone, without prefix, that no backbone needs."""
    adjust: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """What a backbone needs before its keys are renamed."""

    @property
    def patches(self) -> str:
        """Its name of the patch embedding."""
        ours = PATCHES.removesuffix('.weight')
        return next(k for k, v in self.names.items() if v == ours) + '.weight'

    def recognises(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether these are weights of this family, as from `flat_weights`."""
        return bool(self._prefixes(weights)) and any(
            re.search(self.mark, key) for key in weights
        )

    def to_backbone(
        self,
        weights: Mapping[str, Tensor],
        source: str,
        prefix: str | None = None,
        grid: tuple[int, int] | None = None,
    ) -> tuple[dict[str, Tensor], list[str]]:
        """The weights of a backbone in the names of `PositionViT`, MMPretrain's.

        Args:
            weights: As from `flat_weights`.
            source: Of the checkpoint, for errors.
            prefix: Of the backbone, if not the one that is evaluated.
            grid: Rows and columns that ``pos_embed`` may have if it is no square, to
                tell whether [CLS] and registers have positions.

        Returns:
            All of the backbone, and what was done, the recognition first.

        Raises:
            ValueError: If no backbone has such a prefix, several might be meant, it has
                what ours lack, or keys are left over.
        """
        if prefix is None:
            prefix = self._prefix(weights, source)
        elif prefix and not prefix.endswith('.'):
            prefix += '.'
        if prefix not in self._prefixes(weights):
            raise ValueError(
                f'{source} has no backbone with prefix {prefix!r}; {self.name} '
                f'checkpoints have {self._prefixes(weights)} here'
            )
        inside = {k: v for k, v in weights.items() if k.startswith(prefix)}
        others = [key for key in weights if key not in inside]
        inside = {key.removeprefix(prefix): value for key, value in inside.items()}
        for part, what in REFUSED.items():
            if keys := [key for key in inside if key.endswith(part)]:
                raise ValueError(
                    f'{source} ({self.name}) has {what}, {keys[0]}, which neither '
                    "MMPretrain's VisionTransformer nor PositionViT has: without, the "
                    'features would be others; nothing was loaded. Take a checkpoint '
                    f'that was trained without {what}'
                )
        surplus = [key for key in inside if re.match(self.surplus, key)]
        inside = self.adjust({k: v for k, v in inside.items() if k not in surplus})
        ours = {key: translate(key, self.names) for key in inside}
        if unknown := [prefix + key for key, name in ours.items() if name is None]:
            raise ValueError(
                f'{source} looks like {self.name}, but nobody here knows '
                f'{len(unknown)} of its keys; nothing was loaded: '
                f'{", ".join(unknown[:10])}{", …" if len(unknown) > 10 else ""}'
            )
        notes = [f'recognised as {self.name}{f", {prefix[:-1]!r}" if prefix else ""}']
        if others or surplus:
            names = [_part(key, prefix) for key in others] + [
                key.partition('.')[0] for key in surplus
            ]
            parts = ', '.join(dict.fromkeys(names))
            notes.append(f'{len(names)} of other parts skipped ({parts})')
        backbone = {ours[key]: value for key, value in inside.items()}
        notes += _fit_prefix_positions(backbone, grid, self.registers_have_positions)
        return backbone, notes

    def _prefixes(self, weights: Mapping[str, Tensor]) -> list[str]:
        return [
            key.removesuffix(self.patches)
            for key in weights
            if f'.{key}'.endswith(f'.{self.patches}')
        ]

    def _prefix(self, weights: Mapping[str, Tensor], source: str) -> str:
        found = self._prefixes(weights)
        preferred = [branch for branch in self.branches if branch in found]
        if len(found) > 1 and not preferred:
            raise ValueError(
                f'{source} ({self.name}) holds several backbones: choose with prefix, '
                f'one of {found}'
            )
        return (preferred or found)[0]


def _part(key: str, prefix: str) -> str:
    """The name of a part beside the backbone: two words if the first is shared."""
    first, _, rest = key.partition('.')
    shared = rest and prefix.startswith(f'{first}.')
    return f'{first}.{rest.partition(".")[0]}' if shared else first


def _fit_prefix_positions(
    weights: dict[str, Tensor],
    grid: tuple[int, int] | None,
    registers_have_positions: bool,
) -> list[str]:
    """Positions for [CLS] and patches alone, whatever the format gives them to.

    Those of registers, in timm, are added to the registers. In DeiT III, and others of
    timm, [CLS] has none: it gets zeros.
    """
    if 'pos_embed' not in weights:
        return []
    cls = int('cls_token' in weights)
    number = cls  # of prefix tokens with a position, if any has
    if REGISTERS in weights and registers_have_positions:
        number += weights[REGISTERS].shape[1]
    pos_embed = weights['pos_embed']  # (1, number + N, D) or (1, N, D)

    def are_patches(n: int) -> bool:
        return bool(possible_grids(n, grid or (1, 1)))

    total = pos_embed.shape[1]
    alone = are_patches(total) and not are_patches(total - number)
    count = 0 if alone else number
    splits = min(cls, count), count
    of_cls, of_registers, of_patches = pos_embed.tensor_split(splits, dim=1)
    notes = []
    if of_registers.numel():
        weights[REGISTERS] = weights[REGISTERS] + of_registers
        notes.append('positions of registers added to them')
    if cls and not count:
        of_cls = pos_embed.new_zeros(1, 1, pos_embed.shape[2])
        notes.append('[CLS] without a position, zeros')
    weights['pos_embed'] = torch.cat((of_cls, of_patches), dim=1)
    return notes
