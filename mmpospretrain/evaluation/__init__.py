"""Measures of what a backbone has learned; importing it registers them."""

from .position_accuracy import PositionAccuracy

__all__ = ['PositionAccuracy']
