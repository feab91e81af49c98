"""Parameters that are trained alike, in one group of the optimizer."""

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmpospretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, which makes a group of every parameter, with few groups.

    An optimizer starts its kernels group by group: with 170 groups, a step of a ViT
    waits longer for them to be started than for what they do.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs
    ) -> None:
        """As upstream, which calls it for every part; merges when it has them all."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return
        merged: dict[str, dict] = {}
        for group in params:
            parameters = group.pop('params')
            alike = repr(sorted(group.items()))
            merged.setdefault(alike, {**group, 'params': []})['params'] += parameters
        params[:] = merged.values()
