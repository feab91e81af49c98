"""One ViT for the whole suite, open at its seam: patchify → add positions → encode.

Letters: B images, N patches of the grid, V tokens given to the encoder, P prefix tokens
that come out ([CLS] or none), R registers, D embedding width.
"""

import logging
import math
from collections.abc import Collection
from typing import ClassVar

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpospretrain.checks import check_at_least, check_choice
from mmpospretrain.registry import MODELS, builds
from mmpospretrain.zoo.pretrained import strict_init_cfg

from ..attention import ALL, run_layer
from ..positions import (
    GridSize,
    RelativePositionBias,
    sincos_pos_embed,
    to_grid_size,
)

POSITIONS = ('sincos', 'learned', 'relative', 'none')
ARCH_KEYS = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}


def loads_weights(module: BaseModule) -> bool:
    """Whether the ``init_cfg`` of a module loads it from a checkpoint."""
    cfgs = module.init_cfg if isinstance(module.init_cfg, list) else [module.init_cfg]
    return any(cfg and builds(cfg, PretrainedInit, WEIGHT_INITIALIZERS) for cfg in cfgs)


def check_position_embedding(method: str, backbone: 'PositionViT') -> None:
    """Raise a ValueError if a method that needs position embeddings has none."""
    if backbone.pos_embed is None:
        raise ValueError(
            f"{method} needs a backbone with positions='sincos' or 'learned', got "
            f'{backbone.positions!r}'
        )


@MODELS.register_module()
class PositionViT(VisionTransformer):
    """MMPretrain's ViT whose positions are added by whoever calls it.

    Weights have the names of :class:`mmpretrain.models.VisionTransformer`, so that
    without registers a checkpoint of one loads into the other. It differs in four ways:
    the steps of ``forward`` are methods of their own; any grid works, rows ≠ cols
    included; there is a choice of positions, sin-cos unless asked otherwise; and there
    may be registers (Darcet et al., ICLR 2024), tokens without a position that layers
    may write to. They stand between [CLS] and patches, and are in no output.

    Args:
        arch: ``'small'``, ``'base'``, ``'large'``, ``'huge'`` and what else MMPretrain
            knows, or a dict of ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``.
        positions: How the backbone learns where a patch is. ``'sincos'`` and
            ``'learned'`` (random at first: truncated normal, std .02) are embeddings
            added to the patches; ``'relative'`` is a :class:`RelativePositionBias` in
            every layer; with ``'none'`` it is never told. Neither of the last two has
            a ``pos_embed``.
        learnable_pos_embed: Whether sin-cos embeddings are trained; of no meaning for
            other positions, which always are. The default, fixed sin-cos, is the best
            row of Tab. S1 of DropPos.
        num_registers: As many more tokens; MMPretrain's ViT has none.
        out_type: ``'raw'`` (B, P + N, D), ``'featmap'`` (B, D, rows, cols),
            ``'cls_token'``, ``'avg_featmap'`` or ``'pooled'`` (B, D). ``'pooled'`` is
            :meth:`pooled`; ``'avg_featmap'``, as upstream, adds a norm of its own, and
            leaves out the final norm before the last layer.
        with_cp: Whether to compute layers anew in the backward pass (activation
            checkpointing): less memory, more time.
        init_cfg: As everywhere in MMEngine; weights that are ``Pretrained`` are loaded
            by :class:`mmpospretrain.zoo.PretrainedBackbone`: all of them, or none.
        **kwargs: Everything else of MMPretrain's ``VisionTransformer``: ``img_size``,
            ``patch_size``, ``drop_path_rate``, ``out_indices``, …

    Raises:
        ValueError: If the patch does not divide the image, ``in_channels`` is not
            positive, ``num_registers`` is negative, or ``arch`` or ``positions`` is
            unknown.
    """

    OUT_TYPES: ClassVar[set] = VisionTransformer.OUT_TYPES | {'pooled'}

    # MMPretrain's 's' is 768 wide and 8 deep; the field's ViT-S is DeiT's.
    arch_zoo: ClassVar[dict] = {
        **VisionTransformer.arch_zoo,
        **dict.fromkeys(['s', 'small'], VisionTransformer.arch_zoo['deit-small']),
    }

    def __init__(
        self,
        *,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        positions: str = 'sincos',
        learnable_pos_embed: bool = False,
        num_registers: int = 0,
        out_type: str = 'raw',
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        if isinstance(arch, str):
            check_choice('arch', arch.lower(), self.arch_zoo)
        elif not arch.keys() >= ARCH_KEYS:
            raise ValueError(f'arch needs {sorted(ARCH_KEYS)}, got {dict(arch)}')
        check_at_least('in_channels', in_channels, 1)
        check_choice('positions', positions, POSITIONS)
        check_at_least('num_registers', num_registers, 0)
        self.grid_size: GridSize = to_grid_size(img_size, patch_size)
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            out_type=out_type,
            init_cfg=strict_init_cfg(init_cfg),
            **kwargs,
        )
        self.patch_size = patch_size
        self.with_cp = with_cp
        self.in_channels = in_channels
        self.positions = positions
        self._warned = False  # of another grid
        self.num_registers = num_registers
        self.register_tokens = None
        if num_registers:
            self.register_tokens = nn.Parameter(
                torch.zeros(1, num_registers, self.embed_dims)
            )
        if positions in ('relative', 'none'):
            self.pos_embed = None
        else:
            self.pos_embed.requires_grad = learnable_pos_embed or positions == 'learned'
            self._init_pos_embed()
        if positions == 'relative':
            for layer in self.layers:
                layer.attn.rel_pos_bias = RelativePositionBias(
                    self.grid_size,
                    layer.attn.num_heads,
                    self.num_extra_tokens + num_registers,
                )
        if self.frozen_stages > 0:
            self._freeze_stages()  # what was made since upstream did so, too
            if num_registers:
                self.register_tokens.requires_grad_(False)

    def _init_pos_embed(self) -> None:
        if self.positions == 'sincos':
            sincos = sincos_pos_embed(
                self.grid_size, self.embed_dims, self.num_extra_tokens
            )
            self.pos_embed.data.copy_(sincos)
        elif self.positions == 'learned':
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def _prepare_pos_embed(self, *args, **kwargs) -> None:
        if self.pos_embed is not None:  # upstream resizes what it loads
            super()._prepare_pos_embed(*args, **kwargs)

    def init_weights(self) -> None:
        """Initialise as MAE does; weights that ``init_cfg`` has loaded stay."""
        super().init_weights()
        if loads_weights(self):
            return
        self._init_pos_embed()  # upstream has just made it random
        # The patch projection is a linear layer over the pixels of a patch.
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.flatten(1))
        for token in (self.cls_token, self.register_tokens):
            if token is not None:
                nn.init.normal_(token, std=0.02)

    def train(self, mode: bool = True) -> 'PositionViT':
        """As upstream, which returns nothing."""
        super().train(mode)
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """As upstream; registers are embeddings, as [CLS] is."""
        if param_name == f'{prefix}register_tokens':
            param_name = f'{prefix}cls_token'
        return super().get_layer_depth(param_name, prefix)

    def patchify(self, images: Tensor) -> tuple[Tensor, GridSize]:
        """Embed the patches of images, without positions.

        Args:
            images: (B, C, H, W), any H and W that the patch divides.

        Returns:
            Patch tokens (B, N, D) in row-major order, and their grid.

        Raises:
            ValueError: If the patch does not divide the images, or C is wrong.
        """
        if images.shape[1] != self.in_channels:
            raise ValueError(
                f'the backbone takes {self.in_channels} channels, got images of shape '
                f'{tuple(images.shape)}'
            )
        grid_size = to_grid_size(tuple(images.shape[-2:]), self.patch_size)
        return self.patch_embed(images)[0], grid_size

    def check_grid(self, grid_size: GridSize) -> None:
        """Warn, once, if whole images have another grid than that of ``img_size``.

        Positions are resampled then in every step, after a checkpoint's have been
        resampled to ``img_size``. Views that are parts of an image, and maps for
        detection and segmentation, are meant to have any grid, and are not checked.
        """
        if grid_size == self.grid_size or self.positions == 'none' or self._warned:
            return
        self._warned = True
        own, arriving = (
            f'{rows} x {cols} patches ({rows * self.patch_size} x '
            f'{cols * self.patch_size} pixels)'
            for rows, cols in (self.grid_size, grid_size)
        )
        print_log(
            f'the backbone has img_size for {own}, but images of {arriving} arrive: '
            'positions are resampled in every step. Set model.backbone.img_size to the '
            'size that the pipeline gives, or have it give that of the backbone',
            logger='current',
            level=logging.WARNING,
        )

    def patchify_own_grid(self, images: Tensor) -> Tensor:
        """As :meth:`patchify`, for images of ``img_size`` only: (B, N, D).

        Raises:
            ValueError: If the images have another grid, or as :meth:`patchify`.
        """
        patches, grid_size = self.patchify(images)
        if grid_size != self.grid_size:
            raise ValueError(
                f'the model tells {self.grid_size} places apart, but images of shape '
                f'{tuple(images.shape)} have {grid_size}; crop them to img_size or set '
                'the img_size of the backbone'
            )
        return patches

    def patch_positions(self, grid_size: GridSize | None = None) -> Tensor:
        """Position embeddings of the patches, resampled if the grid is another.

        Returns:
            (1, N, D) for ``grid_size``, by default the grid of ``img_size``; zeros if
            there are no embeddings.
        """
        if self.pos_embed is None:
            rows, cols = grid_size or self.grid_size
            weight = self.patch_embed.projection.weight
            return weight.new_zeros(1, rows * cols, self.embed_dims)
        pos_embed = resize_pos_embed(
            self.pos_embed,
            self.grid_size,
            grid_size or self.grid_size,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens,
        )
        return pos_embed[:, self.num_extra_tokens :]

    def encode(
        self,
        patches: Tensor,
        out_indices: Collection[int] | None = None,
        num_context: int | None = None,
        grid_size: GridSize | None = None,
    ) -> tuple[Tensor, ...]:
        """Run the encoder over patch tokens that already carry their positions.

        Args:
            patches: (B, V, D), any number of patches in any order; with relative
                positions all of a grid, row-major.
            out_indices: Layers wanted, from 0; by default the backbone's own.
            num_context: Only so many patches, the first, and prefix tokens and
                registers are looked at by attention; by default all are.
            grid_size: Of the patches, for relative positions; by default the backbone's
                own.

        Returns:
            One (B, P + V, D) for each of ``out_indices``; the last layer's is normed.

        Raises:
            ValueError: If positions are relative and patches are no whole grid.
        """
        out_indices = self.out_indices if out_indices is None else out_indices
        x = self._add_prefix(patches)  # (B, P + R + V, D)
        x = self.pre_norm(self.drop_after_pos(x))
        grid_size = grid_size or self.grid_size
        if self.positions == 'relative' and math.prod(grid_size) != patches.shape[1]:
            raise ValueError(
                f'relative positions need all patches of a grid of {grid_size}, row-'
                f'major; got {patches.shape[1]}'
            )
        keys = ALL
        if num_context is not None and num_context < patches.shape[1]:
            keys = slice(self.num_extra_tokens + self.num_registers + num_context)

        outputs = []
        for index, layer in enumerate(self.layers):
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(
                    self._run_layer, layer, x, keys, grid_size, use_reentrant=False
                )
            else:
                x = self._run_layer(layer, x, keys, grid_size)
            if index == self.num_layers - 1 and self.final_norm:
                x = self.norm1(x)
            if index in out_indices:
                outputs.append(self._without_registers(x))
        return tuple(outputs)

    def _add_prefix(self, patches: Tensor) -> Tensor:
        tokens = []
        if self.cls_token is not None:
            cls_token = self.cls_token
            if self.pos_embed is not None:
                cls_token = cls_token + self.pos_embed[:, : self.num_extra_tokens]
            tokens.append(cls_token)
        if self.num_registers:
            tokens.append(self.register_tokens)
        if not tokens:
            return patches
        tokens = (token.expand(len(patches), -1, -1) for token in tokens)
        return torch.cat((*tokens, patches), dim=1)

    def _without_registers(self, x: Tensor) -> Tensor:
        if not self.num_registers:
            return x
        start = self.num_extra_tokens
        return torch.cat((x[:, :start], x[:, start + self.num_registers :]), dim=1)

    def _run_layer(
        self, layer: nn.Module, x: Tensor, keys: slice, grid_size: GridSize
    ) -> Tensor:
        if self.positions == 'relative':
            # (1, H, P + R + N, P + R + N)
            bias = layer.attn.rel_pos_bias(grid_size)
            return run_layer(layer, x, keys=keys, bias=bias[..., keys])
        return layer(x) if keys == ALL else run_layer(layer, x, keys=keys)

    def pooled(
        self, images: Tensor, out_indices: Collection[int] | None = None
    ) -> tuple[Tensor, ...]:
        """Frozen features as I-JEPA and StoP evaluate them.

        Args:
            images: (B, C, H, W).
            out_indices: Layers wanted, from 0; by default the backbone's own.

        Returns:
            One (B, D) for each layer, ascending: its patch tokens, normed by the final
            norm and averaged.
        """
        out_indices = self.out_indices if out_indices is None else out_indices
        patches, grid_size = self.patchify(images)
        self.check_grid(grid_size)
        patches = patches + self.patch_positions(grid_size)
        outputs = self.encode(patches, out_indices, grid_size=grid_size)
        normed = self.num_layers - 1 if self.final_norm else None  # by `encode`
        return tuple(
            (x if index == normed else self.ln1(x))[:, self.num_extra_tokens :].mean(1)
            for index, x in zip(sorted(out_indices), outputs, strict=True)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of whole images, one per ``out_indices``, shaped by ``out_type``."""
        if self.out_type == 'pooled':
            return self.pooled(images)
        patches, grid_size = self.patchify(images)
        if self.out_type != 'featmap':
            self.check_grid(grid_size)
        patches = patches + self.patch_positions(grid_size)
        outputs = self.encode(patches, grid_size=grid_size)
        return tuple(self._format_output(x, grid_size) for x in outputs)
