"""Dropout (Hinton et al. 2012): docstring and gradient rules."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.generator import Generator, _state
from tensorsmith.tensor import Tensor

__all__ = ["dropout"]

define(
    core.dropout,
    """Dropout by a generator's state, over x in row-major order; the mask, one bit an element, is
    kept for backward.
    """,
    x=lambda dy, mask, p: core.dropout_backward(dy, mask, p),
)
define(
    core.dropout_backward,
    "dy / (1 - p) where the mask's bit is set, 0 elsewhere.",
    dy=lambda ddx, mask, p: core.dropout_backward(ddx, mask, p),
)


def dropout(x: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Any:
    """x / (1 - p) where a draw says keep (probability 1 - p), 0 elsewhere; x itself unless `training`.

    x: floating-point, any shape; the result has its memory order. ValueError for p outside [0, 1].
    """
    if not training:
        return x
    if not isinstance(x, Tensor):
        x = asarray(x)
    state = _state("dropout", generator, x)
    if x.is_contiguous():
        return core.dropout(state, x, p)
    # The numbers follow the memory, so that a channels-last x needs no copy.
    strides = x.strides
    order = sorted(range(x.ndim), key=lambda axis: -abs(strides[axis]))
    inverse = sorted(range(x.ndim), key=order.__getitem__)
    return core.permute_dims(core.dropout(state, core.permute_dims(x, order), p), inverse)
