"""Indexing, with NumPy's rules: integers, slices, None and Ellipsis make a view, arrays of integers and masks gather.

Integer arrays broadcast against each other; a boolean mask stands for the positions where it is True; the result's new
axes stand where the arrays stood, or in front if a slice, None or Ellipsis separates them. IndexError for an index out
of range, before anything is read or written.
"""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__: list[str] = []

getitem = define(
    core.getitem,
    "x[key]: a view for integers, slices, None and Ellipsis; with arrays a copy.",
    conjugate=False,
    x=lambda dy, key, x_shape: core.getitem_backward(dy, key, x_shape),
)
define(
    core.getitem_backward,
    "Zeros of `shape` with dy added at `key`.",
    conjugate=False,
    dy=lambda ddx, key: core.getitem(ddx, key),
)


def _value_gradient(dy: Any, key: Any) -> Any:
    dvalue = core.getitem(dy, key)
    items = key if isinstance(key, tuple) else (key,)
    if not any(hasattr(item, "shape") and item.ndim for item in items):
        return dvalue
    # Where places are equal the last value stays, and only it has a gradient.
    order = core.reshape(core.arange(dvalue.size, device=dy.device), dvalue.shape)
    stayed = core.getitem(core.setitem(core.zeros(dy.shape, "int64", device=dy.device), key, order), key)
    return core.where(core.equal(stayed, order), dvalue, 0)


define(
    core.setitem,
    "A copy of x with x[key] replaced by value; of equal places the last value stays.",
    conjugate=False,
    x=lambda dy, key: core.setitem(dy, key, 0),
    value=_value_gradient,
)
