"""Pictures and pages of what was learned; needs Matplotlib (extra ``vis``)."""

from .curves import plot_curve, plot_seeds, read_scalars
from .positions import draw_reconstruction, plot_position_table, plot_reconstructions
from .predictions import plot_predictions
from .report import Picture, Section, render_page

__all__ = [
    'Picture',
    'Section',
    'draw_reconstruction',
    'plot_curve',
    'plot_position_table',
    'plot_predictions',
    'plot_reconstructions',
    'plot_seeds',
    'read_scalars',
    'render_page',
]
