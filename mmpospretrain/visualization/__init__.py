"""Pictures and pages of what was learned; needs Matplotlib (extra ``vis``)."""

from .attention import (
    plot_attention_diversity,
    plot_position_correlation,
    plot_query_attention,
    plot_relative_maps,
)
from .curves import plot_curve, plot_seeds, read_scalars
from .images import as_rgb, find_images, load_sample
from .jigsaw import cut_patches, mix_patches, plot_jigsaws, plot_mix
from .latent import plot_position_similarity, plot_predicted_tokens, predict_token
from .positions import (
    draw_reconstruction,
    plot_position_curve,
    plot_position_table,
    plot_reconstructions,
)
from .predictions import plot_predictions
from .report import Picture, Section, render_page

__all__ = [
    'Picture',
    'Section',
    'as_rgb',
    'cut_patches',
    'draw_reconstruction',
    'find_images',
    'load_sample',
    'mix_patches',
    'plot_attention_diversity',
    'plot_curve',
    'plot_jigsaws',
    'plot_mix',
    'plot_position_correlation',
    'plot_position_curve',
    'plot_position_similarity',
    'plot_position_table',
    'plot_predicted_tokens',
    'plot_predictions',
    'plot_query_attention',
    'plot_reconstructions',
    'plot_relative_maps',
    'plot_seeds',
    'predict_token',
    'read_scalars',
    'render_page',
]
