"""Padding as modules: constant, zero, reflection, replication and circular, in one to three dimensions."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from tensorsmith.nn import functional
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor


class _Pad(Module):
    """`padding`: an integer for every side, or (before, after) of the last axis, then of the one before it, ..."""

    _rank: int
    _mode = "constant"
    value = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        if hasattr(padding, "__index__"):
            padding = (operator.index(padding),) * (2 * self._rank)
        elif isinstance(padding, str) or not isinstance(padding, Sequence):
            raise TypeError(f"{self._get_name()}: padding must be integers, got {padding!r}")
        self.padding = tuple(padding)
        if len(self.padding) != 2 * self._rank:
            raise ValueError(
                f"{self._get_name()}: padding must be an integer or {2 * self._rank} of them, got {padding!r}"
            )

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(
            input, self.padding, self._mode, self.value if self._mode == "constant" else None
        )

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Pads the last axis with `value`."""

    _rank = 1


class ConstantPad2d(_ConstantPad):
    """Pads the last two axes with `value`."""

    _rank = 2


class ConstantPad3d(_ConstantPad):
    """Pads the last three axes with `value`."""

    _rank = 3


class ZeroPad1d(_Pad):
    """Pads the last axis with zeros."""

    _rank = 1


class ZeroPad2d(_Pad):
    """Pads the last two axes with zeros."""

    _rank = 2


class ZeroPad3d(_Pad):
    """Pads the last three axes with zeros."""

    _rank = 3


class ReflectionPad1d(_Pad):
    """Pads the last axis with what lies inside, mirrored at the edge."""

    _rank = 1
    _mode = "reflect"


class ReflectionPad2d(_Pad):
    """Pads the last two axes with what lies inside, mirrored at the edge."""

    _rank = 2
    _mode = "reflect"


class ReflectionPad3d(_Pad):
    """Pads the last three axes with what lies inside, mirrored at the edge."""

    _rank = 3
    _mode = "reflect"


class ReplicationPad1d(_Pad):
    """Pads the last axis with the edge repeated."""

    _rank = 1
    _mode = "replicate"


class ReplicationPad2d(_Pad):
    """Pads the last two axes with the edge repeated."""

    _rank = 2
    _mode = "replicate"


class ReplicationPad3d(_Pad):
    """Pads the last three axes with the edge repeated."""

    _rank = 3
    _mode = "replicate"


class CircularPad1d(_Pad):
    """Pads the last axis with the other side."""

    _rank = 1
    _mode = "circular"


class CircularPad2d(_Pad):
    """Pads the last two axes with the other side."""

    _rank = 2
    _mode = "circular"


class CircularPad3d(_Pad):
    """Pads the last three axes with the other side."""

    _rank = 3
    _mode = "circular"
