"""Hooks; importing it registers them."""

from .finite_guard import FiniteGuardHook
from .result import ResultHook
from .scalar_schedule import ScalarScheduleHook
from .step_seed import StepSeedHook, keep_worker_seed
from .strict_load import StrictLoadHook
from .throughput import ThroughputHook

__all__ = [
    'FiniteGuardHook',
    'ResultHook',
    'ScalarScheduleHook',
    'StepSeedHook',
    'StrictLoadHook',
    'ThroughputHook',
    'keep_worker_seed',
]
