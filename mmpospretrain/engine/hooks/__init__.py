"""Hooks; importing it registers them."""

from .checkpoint import AtomicCheckpointHook
from .finite_guard import FiniteGuardHook
from .freeze import FreezeHook
from .knn import KNNHook
from .result import ResultHook
from .scalar_schedule import ScalarScheduleHook, WeightDecayScheduleHook
from .step_seed import StepSeedHook, keep_worker_seed
from .strict_load import StrictLoadHook
from .teacher import CollapseWatchHook, TeacherHook
from .throughput import ThroughputHook

__all__ = [
    'AtomicCheckpointHook',
    'CollapseWatchHook',
    'FiniteGuardHook',
    'FreezeHook',
    'KNNHook',
    'ResultHook',
    'ScalarScheduleHook',
    'StepSeedHook',
    'StrictLoadHook',
    'TeacherHook',
    'ThroughputHook',
    'WeightDecayScheduleHook',
    'keep_worker_seed',
]
