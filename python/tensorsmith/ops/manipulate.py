"""Shapes and orders: views wherever the strides allow one, and their gradients."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tensorsmith._core import AxisError, TensorBase
from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__ = [
    "as_strided", "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "concatenate", "cat", "expand",
    "expand_dims", "flatten", "flip", "matrix_transpose", "moveaxis", "permute_dims", "ravel", "repeat", "reshape",
    "roll", "split", "squeeze", "stack", "sum_to", "swapaxes", "tile", "transpose", "unstack",
]  # fmt: skip


def _inverse(axes: Sequence[int]) -> list[int]:
    order = [a % len(axes) for a in axes]
    return sorted(range(len(order)), key=order.__getitem__)


def _axis(operation: str, axis: int, ndim: int) -> int:
    """The axis counted from the front; AxisError if there is none such."""
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"{operation}: an axis must be an integer, got {axis!r}") from None
    if not -ndim <= axis < ndim:
        raise AxisError(f"{operation}: axis {axis} is out of range for an array of {ndim} dimensions")
    return axis % ndim


def _integer(operation: str, argument: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{operation}: {argument} must be an integer, got {value!r}") from None


def _sequence(operation: str, name: str, values: Any, wanted: str = "a sequence") -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{operation}: {name} must be {wanted}, got {values!r}") from None


def _is_index(x: Any) -> bool:
    """Whether x is one integer, and no array of several."""
    return hasattr(x, "__index__") and not getattr(x, "ndim", 0)


_reshape = define(
    core.reshape,
    """The elements of x in another shape, in row-major order; a view where the strides allow one.

    shape: the new extents; one may be -1 and follows from the others. ValueError if the sizes differ.""",
    conjugate=False,
    x=lambda dy, x_shape: core.reshape(dy, x_shape),
)


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> Any:
    """The elements of x in another shape, in row-major order; a view where the strides allow one.

    shape: the new extents; one may be -1 and follows from the others. copy: True always copies, False raises
    ValueError where a copy would be needed. ValueError if the sizes differ."""
    if copy is None:
        return _reshape(x, shape)
    return core.view(x, shape) if copy is False else core.reshape(core.copy(x), shape)


define(
    core.view,
    "x in another shape without a copy; ValueError where the strides do not allow that.",
    conjugate=False,
    x=lambda dy, x_shape: core.reshape(dy, x_shape),
)
flatten = define(
    core.flatten,
    "x with the axes start_dim to end_dim (inclusive) joined into one.",
    conjugate=False,
    x=lambda dy, x_shape: core.reshape(dy, x_shape),
)
permute_dims = define(
    core.permute_dims,
    "A view with the axes in the given order; reversed if axes is None.",
    conjugate=False,
    x=lambda dy, axes: core.permute_dims(dy, None if axes is None else _inverse(axes)),
)
swapaxes = define(
    core.swapaxes,
    "A view with two axes exchanged.",
    conjugate=False,
    x=lambda dy, axis1, axis2: core.swapaxes(dy, axis1, axis2),
)
moveaxis = define(
    core.moveaxis,
    "A view with the axes `source` moved to `destination`, the others in order.",
    conjugate=False,
    x=lambda dy, source, destination: core.moveaxis(dy, destination, source),
)
matrix_transpose = define(
    core.matrix_transpose,
    "A view with the last two axes exchanged.",
    conjugate=False,
    x=lambda dy: core.matrix_transpose(dy),
)
expand_dims = define(
    core.expand_dims,
    "A view with new axes of extent 1 at the given positions of the result.",
    conjugate=False,
    x=lambda dy, x_shape: core.reshape(dy, x_shape),
)
squeeze = define(
    core.squeeze,
    "A view without the given axes of extent 1 (all of them if None); ValueError where the extent is not 1.",
    conjugate=False,
    x=lambda dy, x_shape: core.reshape(dy, x_shape),
)
# The engine sums a gradient of the broadcast shape back to the operand's.
broadcast_to = define(
    core.broadcast_to, "A view with extents of 1 repeated to give `shape`.", conjugate=False, x=lambda dy: dy
)
expand = define(core.expand, "broadcast_to, with -1 for an extent to keep.", conjugate=False, x=lambda dy: dy)
sum_to = define(
    core.sum_to,
    "The sum over the axes that broadcasting `shape` to x's shape added or repeated.",
    conjugate=False,
    x=lambda dy, x_shape: core.broadcast_to(dy, x_shape),
)
flip = define(
    core.flip,
    "A view with the given axes (all if None) reversed.",
    conjugate=False,
    x=lambda dy, axis: core.flip(dy, axis),
)
as_strided = define(
    core.as_strided,
    """A view of x's memory with any shape and strides (in elements) that stay inside it, else ValueError.

    It has no gradient rule.""",
)


def _split_like(dy: Any, arrays: Sequence[Any], axis: int | None) -> Any:
    if axis is None:
        parts = core.split(dy, [a.size for a in arrays], 0)
        return [core.reshape(p, a.shape) for p, a in zip(parts, arrays)]
    return core.split(dy, [a.shape[axis] for a in arrays], axis)


concat = define(
    core.concat,
    """The arrays joined along an existing axis (flattened first if axis is None); dtypes are promoted.

    ValueError unless all other extents agree.""",
    conjugate=False,
    arrays=_split_like,
)
stack = define(
    core.stack,
    "The arrays, all of one shape, joined along a new axis.",
    conjugate=False,
    arrays=lambda dy, arrays, axis: [core.squeeze(p, axis) for p in core.split(dy, [1] * len(arrays), axis)],
)
_split = define(
    core.split,
    "Views of consecutive parts of x along an axis; `sizes` add up to its extent.",
    conjugate=False,
    x=lambda dys, axis: core.concat(dys, axis),
)
define(
    core.pad_constant,
    "x in the middle of `value`: before[i] and after[i] more elements along axis i.",
    conjugate=False,
    x=lambda dy, before, x_shape: core.getitem(dy, tuple(slice(b, b + n) for b, n in zip(before, x_shape))),
)

concatenate = cat = concat


def transpose(x: Any, axes: Any = None) -> Any:
    """x with its axes in the given order, or reversed (NumPy's `transpose`)."""
    return core.permute_dims(x, axes)


def ravel(x: Any) -> Any:
    """x in one dimension."""
    return core.reshape(x, (-1,))


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Any, ...]:
    """NumPy's `split`: into that many equal parts (ValueError if they are not equal), or at the given positions."""
    x = _asarray(x)
    extent = x.shape[_axis("split", axis, x.ndim)]
    if _is_index(indices_or_sections):
        count = operator.index(indices_or_sections)  # type: ignore[arg-type]
        if count < 1 or extent % count:
            raise ValueError(
                f"split: {count} equal sections of axis {axis}, whose extent is {extent}, do not exist"
            )
        sizes = [extent // count] * count
    else:
        try:
            cuts = [0, *(operator.index(i) for i in indices_or_sections), extent]  # type: ignore[union-attr]
        except TypeError:
            raise TypeError(
                f"split: a number of sections or positions, integers, are needed, got {indices_or_sections!r}"
            ) from None
        if any(a > b for a, b in pairwise(cuts)):
            before = (slice(None),) * _axis("split", axis, x.ndim)
            return tuple(core.getitem(x, (*before, slice(a, b))) for a, b in pairwise(cuts))
        sizes = [b - a for a, b in pairwise(cuts)]
    return core.split(x, sizes, axis)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices of x along an axis, which they lose."""
    x = _asarray(x)
    axis = _axis("unstack", axis, x.ndim)
    return tuple(core.squeeze(p, axis) for p in core.split(x, [1] * x.shape[axis], axis))


def tile(x: Any, /, reps: int | Sequence[int]) -> Any:
    """x repeated as a whole along each axis (NumPy's `tile`)."""
    x = _asarray(x)
    try:
        counts = [operator.index(n) for n in ([reps] if _is_index(reps) else reps)]  # type: ignore
    except TypeError:
        raise TypeError(f"tile: reps must be made of integers, got {reps!r}") from None
    if min(counts, default=0) < 0:
        raise ValueError(f"tile: reps must be >= 0, got {reps!r}")
    if len(counts) == x.ndim == 1:
        n, count = x.shape[0], counts[0]
        return core.reshape(core.broadcast_to(x, (count, n)), (count * n,))
    shape = [1] * (len(counts) - x.ndim) + list(x.shape)
    counts = [1] * (len(shape) - len(counts)) + counts
    interleaved = [n for pair in zip([1] * len(shape), shape) for n in pair]
    wide = [n for pair in zip(counts, shape) for n in pair]
    return core.reshape(
        core.broadcast_to(core.reshape(x, interleaved), wide), [c * n for c, n in zip(counts, shape)]
    )


_AS_COLUMN = (slice(None), None)


def _asarray(x: Any) -> Any:
    from tensorsmith.ops.creation import asarray

    return asarray(x)


def repeat(x: Any, /, repeats: Any, axis: int | None = None) -> Any:
    """Every element (or slice along `axis`) `repeats` times in a row; repeats may differ from one to the next.

    ValueError for a negative count, or as many counts as there are not elements."""
    if not isinstance(x, TensorBase):
        x = _asarray(x)
    if axis is None:
        x, axis = x if x.ndim == 1 else core.reshape(x, (-1,)), 0
    else:
        axis = _axis("repeat", axis, x.ndim)
    if not isinstance(repeats, int):
        counts = _asarray(repeats)
        if counts.dtype.kind not in ("signed", "unsigned", "bool"):
            raise TypeError(f"repeat: repeats must be integers, got {counts.dtype}")
        if counts.ndim > 1 or counts.size not in (1, x.shape[axis]):
            raise ValueError(f"repeat: {counts.size} counts for {x.shape[axis]} elements along axis {axis}")
        if counts.size == 1:
            repeats = int(core.reshape(counts, ()))
        else:
            return _repeat_each(x, core.astype(counts, "int64", False), axis)
    if repeats < 0:
        raise ValueError(f"repeat: repeats must be >= 0, got {repeats}")
    if x.ndim == 1:
        return core.reshape(core.broadcast_to(x[_AS_COLUMN], (x.size, repeats)), (x.size * repeats,))
    shape = list(x.shape)
    wide = [*shape[: axis + 1], repeats, *shape[axis + 1 :]]
    shape[axis] *= repeats
    apart = x[(slice(None),) * (axis + 1) + (None,)]
    return core.reshape(core.broadcast_to(apart, wide), shape)


def _repeat_each(x: Any, counts: Any, axis: int) -> Any:
    """With a count for each slice: the position of every copy's source, by a running sum of ones at the starts."""
    if counts.size and int(core.min(counts)) < 0:
        raise ValueError(f"repeat: repeats must be >= 0, got {int(core.min(counts))}")
    ends = core.cumsum(counts, 0)
    total = int(ends[-1]) if counts.size else 0
    starts = core.subtract(ends, counts)
    inside = core.less(starts, total)  # an empty slice at the end starts nowhere
    marks = core.zeros((total,), "int64", device=x.device)
    core.scatter_add_(marks, 0, _compress(starts, inside), _compress(core.ones_like(starts), inside))
    return core.take(x, core.subtract(core.cumsum(marks, 0), 1), axis)


def _compress(x: Any, mask: Any) -> Any:
    return core.take(x, core.nonzero_flat(mask), 0)


def roll(x: Any, /, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """Elements moved by `shift` along `axis`, those that fall off returning at the other end."""
    x = _asarray(x)
    if axis is None:
        return core.reshape(roll(ravel(x), shift, 0), x.shape)
    try:
        shifts = [operator.index(s) for s in ([shift] if _is_index(shift) else shift)]  # type: ignore
    except TypeError:
        raise TypeError(f"roll: shift must be made of integers, got {shift!r}") from None
    axes: list[Any] = [axis] if _is_index(axis) else _sequence("roll", "axis", axis, "an integer or several")
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ValueError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    count = max(len(shifts), len(axes)) if shifts and axes else 0
    for i in range(count):
        s, a = shifts[i % len(shifts)], _axis("roll", axes[i % len(axes)], x.ndim)
        n = x.shape[a]
        if n and s % n:
            x = core.concat(core.split(x, [n - s % n, s % n], a)[::-1], a)
    return x


def broadcast_shapes(*shapes: int | Sequence[int]) -> tuple[int, ...]:
    """The shape that all shapes broadcast to; ValueError where two extents differ and neither is 1."""
    lists = [
        (operator.index(s),) if _is_index(s) else tuple(_sequence("broadcast_shapes", "a shape", s))  # type: ignore
        for s in shapes
    ]
    rank = max((len(s) for s in lists), default=0)
    result = [1] * rank
    for s in lists:
        for i, n in enumerate(s, rank - len(s)):
            if n != 1 and result[i] not in (1, n):
                raise ValueError(f"broadcast_shapes: shapes {', '.join(str(t) for t in lists)} do not agree")
            result[i] = n if result[i] == 1 else result[i]
    return tuple(result)


def broadcast_arrays(*arrays: Any) -> tuple[Any, ...]:
    """Views of the arrays in the shape that they broadcast to."""
    from tensorsmith.ops.creation import asarray

    tensors = [asarray(a) for a in arrays]
    shape = broadcast_shapes(*(a.shape for a in tensors))
    return tuple(core.broadcast_to(a, shape) for a in tensors)
