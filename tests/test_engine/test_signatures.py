"""What constructors accept, read from their signatures and sources."""

import pytest
from torch import nn

from mmpospretrain.engine.signatures import accepted_keywords, string_literals


class Parent(nn.Module):
    def __init__(self, depth, *, width=1):
        super().__init__()


class Forwards(Parent):
    def __init__(self, heads=1, **kwargs):
        super().__init__(depth=3, **kwargs)


class Inherits(Forwards):
    pass


class TakesSome(Forwards):
    def __init__(self, **options):
        options = {'heads': 2, **options}
        options['depth'] = options.pop('layers', 12)
        if 'wide' in options:
            del self.unused
        super().__init__(**options)


class Sideways(Parent):
    def __init__(self, **kwargs):
        super().__init__(1)
        self.part = nn.Linear(**kwargs)


class Swallows(Parent):
    def __init__(self, **kwargs):
        super().__init__(1)


class ToBoth(Parent):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.options = kwargs


class SkipsParent(Forwards):
    def __init__(self, **kwargs):
        super(Forwards, self).__init__(**kwargs)


class Old(Forwards):
    def __init__(self, **kwargs):
        super(Old, self).__init__(**kwargs)  # noqa: UP008


class Mixin:
    def __init__(self, mixed=0, **kwargs):
        super().__init__(**kwargs)


class Diamond(Mixin, Parent):
    def __init__(self, own, **kwargs):
        super().__init__(**kwargs)


class ToObject:
    def __init__(self, last=0, **kwargs):
        super().__init__(**kwargs)


def function(a, /, b, *args, c=1):
    pass


def free_function(a, **kwargs):
    pass


@pytest.mark.parametrize(
    ('target', 'names'),
    [
        (Parent, {'depth', 'width'}),
        (Forwards, {'heads', 'depth', 'width'}),
        (Inherits, {'heads', 'depth', 'width'}),
        (TakesSome, {'heads', 'depth', 'width', 'layers', 'wide'}),
        (Old, {'heads', 'depth', 'width'}),
        (Diamond, {'own', 'mixed', 'depth', 'width'}),
        (ToObject, {'last'}),  # object() rejects the rest
        (nn.ReLU, {'inplace'}),
        (function, {'b', 'c'}),
        # Whoever gets these **kwargs, it is not the parent, or not it alone.
        (Sideways, None),
        (Swallows, None),
        (ToBoth, None),
        (SkipsParent, None),
        (free_function, None),
        (min, None),  # compiled, without a signature
    ],
)
def test_accepted_keywords(target, names):
    assert accepted_keywords(target, {}) == names


def test_kwargs_kept_for_later():
    assert accepted_keywords(Swallows, {Swallows: function}) == {'b', 'c'}


def test_string_literals():
    assert {'heads', 'layers', 'wide'} <= string_literals(TakesSome)
    assert 'depth' in string_literals(type('Child', (TakesSome,), {}))
    assert 'kwargs' not in string_literals(Forwards)
