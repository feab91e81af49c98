"""Layer-wise learning rate decay for the whole suite, by MMPretrain's constructor."""

from collections.abc import Callable
from functools import partial

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmpospretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(LearningRateDecayOptimWrapperConstructor):
    """MMPretrain's constructor, for detectors and segmentors as well.

    MMPretrain asks the model for the depth of a parameter, which its classifiers know
    and those of MMDetection and MMSegmentation do not. The constructors of those two
    know the backbones that came with them. Here the model's backbone is asked, any that
    has ``get_layer_depth``: embeddings are layer 0, block i is layer i + 1, and what
    comes after the blocks has the full learning rate.

    ``paramwise_cfg`` is MMPretrain's: ``layer_decay_rate``, ``norm_decay_mult``,
    ``bias_decay_mult``, ``flat_decay_mult``, ``custom_keys`` with ``decay_mult``.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs,
    ) -> None:
        """As upstream.

        Raises:
            ValueError: If the model has no backbone that knows its layers.
        """
        if get_layer_depth is None:
            backbone = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise ValueError(
                    f'{type(module).__name__} has no backbone with get_layer_depth, '
                    'which layer-wise decay needs: take a ViT of MMPretrain or of '
                    'mmpospretrain, or drop the constructor from optim_wrapper'
                )
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)
