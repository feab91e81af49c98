"""A student, and a teacher that is a slow copy of it: what I-JEPA and DINOv2 share."""

import copy
from collections.abc import Mapping
from types import MappingProxyType

from mmpretrain.models.selfsup import BaseSelfSupervisor


class TeacherStudent(BaseSelfSupervisor):
    """Base of models with a teacher, which gets no gradient and drops nothing.

    ``TeacherHook`` moves it after every optimizer step.
    """

    _taught: Mapping[str, str] = MappingProxyType({})

    def add_teacher(self, **parts: str) -> None:
        """Copy parts of the student: name of the copy = name of the part."""
        self._taught = self._taught | parts
        for teacher, student in parts.items():
            part = copy.deepcopy(getattr(self, student)).requires_grad_(False)
            part.train(False)  # MMPretrain's ViT returns nothing from `eval`
            setattr(self, teacher, part)

    def init_weights(self) -> None:
        """Initialise all parts; the teacher starts as the student."""
        super().init_weights()
        for teacher, student in self._taught.items():
            getattr(self, teacher).load_state_dict(getattr(self, student).state_dict())

    def train(self, mode: bool = True) -> 'TeacherStudent':
        """As upstream, but the teacher never drops anything."""
        super().train(mode)
        for teacher in self._taught:
            getattr(self, teacher).train(False)
        return self
