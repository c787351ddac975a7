"""Indexing: basic keys make views in the core; keys with arrays are gathered and scattered here.

NumPy's rules: integer arrays broadcast against each other; a boolean mask stands for the positions where it is True;
the result's new axes stand where the arrays stood, or in front if a slice separates them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__: list[str] = []

getitem = define(
    core.getitem,
    "x[key] for integers, slices, None and Ellipsis: a view.",
    conjugate=False,
    x=lambda dy, key, x_shape: core.getitem_backward(dy, key, x_shape),
)
define(
    core.getitem_backward,
    "Zeros of `shape` with dy at `key`.",
    conjugate=False,
    dy=lambda ddx, key: core.getitem(ddx, key),
)
define(
    core.setitem,
    "A copy of x with x[key] replaced by value.",
    conjugate=False,
    x=lambda dy, key: core.setitem(dy, key, 0),
    value=lambda dy, key: core.getitem(dy, key),
)


def _as_index(item: Any, x: Any) -> Any:
    """An int64 or bool tensor of an index array; IndexError for other dtypes."""
    from tensorsmith.ops.creation import asarray

    index = asarray(item)
    if index.size == 0 and isinstance(item, (list, tuple)):
        index = core.astype(index, "int64")
    if index.dtype.kind not in ("bool", "signed", "unsigned"):
        raise IndexError(f"getitem: indices must be integers or booleans, got {index.dtype}")
    return index if index.dtype.kind == "bool" else core.astype(index, "int64", False)


def _positions(mask: Any, axis: int, x: Any) -> list[Any]:
    """The coordinates of a mask's True elements, one index array per axis of the mask."""
    expected = x.shape[axis : axis + mask.ndim]
    # The standard lets extents of 0 stand for any: such a mask chooses nothing.
    if len(expected) != mask.ndim or any(n not in (0, e) for n, e in zip(mask.shape, expected)):
        raise IndexError(f"getitem: a mask of shape {mask.shape} does not fit the axes of shape {expected}")
    flat = core.nonzero_flat(core.reshape(mask, (-1,)))
    coordinates = []
    for extent in reversed(mask.shape):
        coordinates.append(core.remainder(flat, max(extent, 1)))
        flat = core.floor_divide(flat, max(extent, 1))
    return coordinates[::-1]


class _Plan:
    """A key taken apart: the view that its basic parts make, and where its arrays act on it."""

    def __init__(self, x: Any, key: Any) -> None:
        items = list(key) if isinstance(key, tuple) else [key]
        arrays = {
            i: _as_index(item, x)
            for i, item in enumerate(items)
            if not (
                item is None
                or item is Ellipsis
                or (isinstance(item, (slice, int)) and not isinstance(item, bool))
            )
        }
        consumed = sum(
            arrays[i].ndim
            if i in arrays and arrays[i].dtype.kind == "bool"
            else item not in (None, Ellipsis)
            if i not in arrays
            else 1
            for i, item in enumerate(items)
        )
        if consumed > x.ndim:
            raise IndexError(f"getitem: {consumed} indices for {x.ndim} dimensions (shape {x.shape})")
        if not any(item is Ellipsis for item in items):
            items.append(Ellipsis)
        basic: list[Any] = []
        indices: list[Any] = []
        axes: list[int] = []
        source = 0  # the axis of x that the next item takes
        for i, item in enumerate(items):
            if i in arrays:
                index = arrays[i]
                if index.dtype.kind == "bool" and index.ndim == 0:  # it picks all or nothing of a new axis
                    indices.append((core.nonzero_flat(core.reshape(index, (1,))), None))
                    axes.append(len(basic))
                    basic.append(None)
                    continue
                parts = _positions(index, source, x) if index.dtype.kind == "bool" else [index]
                for part in parts:
                    indices.append((part, source))
                    axes.append(len(basic))
                    basic.append(slice(None))
                    source += 1
            elif item is None:
                basic.append(None)
            elif item is Ellipsis:
                fill = x.ndim - consumed
                basic.extend([slice(None)] * fill)
                source += fill
            elif isinstance(item, int):
                from tensorsmith.ops.creation import asarray

                indices.append((asarray(item), source))
                axes.append(len(basic))
                basic.append(slice(None))
                source += 1
            else:
                basic.append(item)
                source += 1
        self.basic = tuple(basic)
        self.axes = axes
        # A slice, None or Ellipsis in the key separates arrays, even an Ellipsis that stands for no axis.
        places = [
            i
            for i, item in enumerate(items)
            if i in arrays or not (item is None or item is Ellipsis or isinstance(item, slice))
        ]
        self.separated = places != list(range(places[0], places[0] + len(places)))
        self.index, self.extents, self.shape = self._flatten(x, indices)

    def _flatten(self, x: Any, indices: list[Any]) -> tuple[Any, list[int], tuple[int, ...]]:
        """One flat index into the joined axes."""
        from tensorsmith.ops.manipulate import broadcast_shapes

        shapes = [index.shape for index, _ in indices]
        try:
            shape = broadcast_shapes(*shapes)
        except ValueError:
            raise IndexError(f"getitem: index arrays of shapes {shapes} do not broadcast") from None
        extents = [1 if axis is None else x.shape[axis] for _, axis in indices]
        flat: Any = None
        for (index, axis), extent in zip(indices, extents):
            if index.size and axis is not None:
                index = core.checked_positions(index, axis, extent)
            flat = index if flat is None else core.add(core.multiply(flat, extent), index)
        return core.reshape(core.broadcast_to(flat, shape), (-1,)), extents, shape

    def joined(self, x: Any) -> tuple[Any, tuple[int, ...], tuple[int, ...], int]:
        """The basic view with the indexed axes joined into one: it, the axes before and after, its place."""
        y = core.getitem(x, self.basic)
        place = 0 if self.separated else self.axes[0]
        others = [a for a in range(y.ndim) if a not in self.axes]
        y = core.permute_dims(y, [*others[:place], *self.axes, *others[place:]])
        before, after = y.shape[:place], y.shape[place + len(self.axes) :]
        return y, before, after, place


def _plain_integers(key: Any) -> tuple[Any, bool]:
    """The key with NumPy's integer scalars as Python's, which make views; whether no array is left in it."""
    items = key if isinstance(key, tuple) else (key,)
    if not any(isinstance(item, np.integer) for item in items):
        return key, False
    items = tuple(int(item) if isinstance(item, np.integer) else item for item in items)
    basic = all(item is None or item is Ellipsis or type(item) in (int, slice) for item in items)
    return items, basic


def _getitem_arrays(x: Any, key: Any) -> Any:
    key, basic = _plain_integers(key)
    if basic:
        return core.getitem(x, key)
    plan = _Plan(x, key)
    y, before, after, place = plan.joined(x)
    y = core.reshape(y, (*before, math.prod(plan.extents), *after))
    return core.reshape(core.take(y, plan.index, place), (*before, *plan.shape, *after))


def _setitem_arrays(x: Any, key: Any, value: Any) -> Any:
    from tensorsmith.ops.creation import asarray

    key, basic = _plain_integers(key)
    if basic:
        return core.setitem_(x, key, value)
    recording = _core.is_grad_enabled() and (x.requires_grad or getattr(value, "requires_grad", False))
    plan = _Plan(x, key)
    # While gradients are recorded, no view of x may be alive when x itself is written.
    y, before, after, place = plan.joined(core.copy(x) if recording else x)
    target = (*before, *plan.shape, *after)
    if isinstance(value, (float, list, tuple)) and not isinstance(value, np.generic):
        source = asarray(value, x.dtype)  # not by way of float32
    else:
        source = asarray(value) if not hasattr(value, "requires_grad") else value
    if isinstance(value, int) and x.dtype.kind in ("signed", "unsigned") and source.astype(x.dtype) != source:
        raise OverflowError(f"setitem: the integer {value} does not fit {x.dtype}")
    while source.ndim > len(target) and source.shape[0] == 1:
        source = core.squeeze(source, 0)
    source = core.broadcast_to(source, target)
    if source.dtype != x.dtype:
        source = core.astype(source, x.dtype)
    source = core.reshape(source, (*before, plan.index.size, *after))
    shape = (*before, math.prod(plan.extents), *after)
    if not recording:
        try:
            joined = core.view(y, shape)
        except ValueError:
            pass  # the axes do not join without a copy
        else:
            return core.index_set_(joined, place, plan.index, source)
    new = core.reshape(core.index_set(core.reshape(y, shape), place, plan.index, source), y.shape)
    others = [a for a in range(y.ndim) if a not in plan.axes]
    order = [*others[:place], *plan.axes, *others[place:]]
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return core.setitem_(x, plan.basic, core.permute_dims(new, inverse))
