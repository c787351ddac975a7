"""Putting arrays together and taking them apart: NumPy's stack and split families, append, insert, choose."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from tensorsmith._core import AxisError, default_dtype
from tensorsmith._core import ops as core
from tensorsmith.ops.complex import iscomplexobj
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _axis, _integer, _is_index, _sequence, concat, split
from tensorsmith.ops.numeric import _promoted
from tensorsmith.tensor import Tensor

__all__ = [
    "append", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "block", "choose", "column_stack",
    "compress", "delete", "dsplit", "dstack", "extract", "fliplr", "flipud", "geomspace", "hsplit", "hstack",
    "identity", "indices", "insert", "ix_", "logspace", "ravel_multi_index", "resize", "rollaxis", "rot90",
    "row_stack", "select", "trim_zeros", "unravel_index", "vsplit", "vstack",
]  # fmt: skip


# --- more dimensions ----------------------------------------------------------------------------------


def _at_least(name: str, arrays: tuple[Any, ...], rank: int) -> Any:
    results = []
    for a in arrays:
        x = asarray(a)
        if x.ndim == 0:
            x = core.reshape(x, (1,) * rank)
        elif rank >= 2 and x.ndim == 1:
            x = core.expand_dims(x, 0)
            x = core.expand_dims(x, 2) if rank == 3 else x
        elif rank == 3 and x.ndim == 2:
            x = core.expand_dims(x, 2)
        results.append(x)
    return results[0] if len(results) == 1 else tuple(results)


def atleast_1d(*arrays: Any) -> Any:
    """The arrays with at least 1 dimension."""
    return _at_least("atleast_1d", arrays, 1)


def atleast_2d(*arrays: Any) -> Any:
    """The arrays with at least 2 dimensions; a vector becomes a row."""
    return _at_least("atleast_2d", arrays, 2)


def atleast_3d(*arrays: Any) -> Any:
    """The arrays with at least 3 dimensions; (N,) becomes (1, N, 1), (M, N) becomes (M, N, 1)."""
    return _at_least("atleast_3d", arrays, 3)


def rollaxis(x: Any, axis: int, start: int = 0) -> Any:
    """A view with the axis moved before the axis `start`."""
    x = asarray(x)
    axis, start = _axis("rollaxis", axis, x.ndim), _integer("rollaxis", "start", start)
    if not -x.ndim <= start <= x.ndim:
        raise AxisError(f"rollaxis: start must be from {-x.ndim} to {x.ndim}, got {start}")
    start = start + x.ndim if start < 0 else start
    return core.moveaxis(x, axis, start - 1 if axis < start else start)


# --- joining --------------------------------------------------------------------------------------------


def _joined(parts: list[Any], axis: int, dtype: Any, casting: str) -> Any:
    return core.concat(parts, axis) if dtype is None else concat(parts, axis, dtype=dtype, casting=casting)


def vstack(arrays: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Any:
    """The arrays on top of each other; vectors are rows. dtype, casting: as of `concat`."""
    return _joined([atleast_2d(a) for a in _sequence("vstack", "arrays", arrays)], 0, dtype, casting)


row_stack = vstack


def hstack(arrays: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Any:
    """The arrays side by side: along the second axis, of vectors along the only one. dtype, casting: as of `concat`."""
    parts = [atleast_1d(a) for a in _sequence("hstack", "arrays", arrays)]
    return _joined(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype, casting)


def dstack(arrays: Sequence[Any]) -> Any:
    """The arrays behind each other, along the third axis."""
    return core.concat([atleast_3d(a) for a in _sequence("dstack", "arrays", arrays)], 2)


def column_stack(arrays: Sequence[Any]) -> Any:
    """Vectors as the columns of a matrix; matrices side by side."""
    parts = [asarray(a) for a in _sequence("column_stack", "arrays", arrays)]
    return core.concat([core.reshape(p, (-1, 1)) if p.ndim < 2 else p for p in parts], 1)


def append(x: Any, values: Any, axis: int | None = None) -> Any:
    """x and after it the values, along an axis, or both flattened."""
    x, values = asarray(x), asarray(values)
    if axis is None:
        return core.concat([core.reshape(x, (-1,)), core.reshape(values, (-1,))], 0)
    return core.concat([x, values], axis)


def block(arrays: Any) -> Any:
    """An array of nested lists of blocks: the innermost lists are joined along the last axis, and so on outwards."""

    def depth(a: Any) -> int:
        return 1 + max((depth(b) for b in a), default=0) if isinstance(a, list) else 0

    levels = depth(arrays)

    def leaves(a: Any) -> list[Any]:
        return [x for b in a for x in leaves(b)] if isinstance(a, list) else [asarray(a)]

    every = leaves(arrays)
    if not every:
        raise ValueError("block: the lists hold no arrays")
    rank = max(levels, max(x.ndim for x in every))

    def join(a: Any, level: int) -> Any:
        if not isinstance(a, list):
            x = asarray(a)
            return core.reshape(x, (1,) * (rank - x.ndim) + x.shape)
        return core.concat([join(b, level - 1) for b in a], -level)

    return join(arrays, levels)


# --- taking apart -----------------------------------------------------------------------------------------


def array_split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Any, ...]:
    """`split`, where a number of parts need not divide the extent: the first ones are one longer."""
    x = asarray(x)
    if not _is_index(indices_or_sections):
        return split(x, indices_or_sections, axis)
    count = operator.index(indices_or_sections)  # type: ignore[arg-type]
    if count < 1:
        raise ValueError(f"array_split: the number of sections must be >= 1, got {count}")
    n, extra = divmod(x.shape[_axis("array_split", axis, x.ndim)], count)
    return core.split(x, [n + (i < extra) for i in range(count)], axis)


def _split_axis(name: str, x: Any, parts: Any, axis: int, rank: int) -> tuple[Any, ...]:
    x = asarray(x)
    if x.ndim < rank:
        raise ValueError(f"{name}: x must have at least {rank} dimensions, got shape {x.shape}")
    return split(x, parts, axis)


def vsplit(x: Any, indices_or_sections: int | Sequence[int]) -> tuple[Any, ...]:
    """`split` along the first of at least 2 axes."""
    return _split_axis("vsplit", x, indices_or_sections, 0, 2)


def hsplit(x: Any, indices_or_sections: int | Sequence[int]) -> tuple[Any, ...]:
    """`split` along the second axis, of a vector along the only one."""
    x = asarray(x)
    return _split_axis("hsplit", x, indices_or_sections, 0 if x.ndim == 1 else 1, 1)


def dsplit(x: Any, indices_or_sections: int | Sequence[int]) -> tuple[Any, ...]:
    """`split` along the third axis."""
    return _split_axis("dsplit", x, indices_or_sections, 2, 3)


# --- mirrored and turned --------------------------------------------------------------------------------


def fliplr(x: Any) -> Any:
    """A view with the second axis reversed."""
    return core.flip(asarray(x), 1)


def flipud(x: Any) -> Any:
    """A view with the first axis reversed."""
    return core.flip(asarray(x), 0)


def rot90(x: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Any:
    """x turned by k quarter turns, from the first of two axes towards the second."""
    x = asarray(x)
    a, b = (_axis("rot90", i, x.ndim) for i in axes)
    if a == b:
        raise ValueError(f"rot90: axes must be different, got {tuple(axes)}")
    k = _integer("rot90", "k", k) % 4
    if k == 2:
        return core.flip(x, (a, b))
    if k == 0:
        return core.getitem(x, Ellipsis)
    return core.swapaxes(core.flip(x, b), a, b) if k == 1 else core.flip(core.swapaxes(x, a, b), b)


# --- ranges -----------------------------------------------------------------------------------------------


def identity(n: int, dtype: Any = None) -> Any:
    """The identity matrix."""
    return core.eye(n, None, 0, dtype)


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """`num` numbers from base^start to base^stop, evenly spaced on a logarithmic scale; of arrays along a new axis."""
    from tensorsmith import get_default_dtype
    from tensorsmith.ops.creation import linspace

    y = core.power(
        core.astype(asarray(base), "float64"), linspace(start, stop, num, endpoint, False, "float64", axis)
    )
    return core.astype(y, dtype or get_default_dtype(), False)


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    """`num` numbers from start to stop, each the same multiple of the one before; of arrays along a new `axis`.
    ValueError for 0 or mixed signs."""
    if iscomplexobj(start) or iscomplexobj(stop):
        raise TypeError(f"geomspace: start and stop must be real, got {start} and {stop}")
    if any(isinstance(b, (list, tuple)) or getattr(b, "ndim", 0) > 0 for b in (start, stop)):
        return _geomspaces(start, stop, num, endpoint, dtype, axis)
    if start == 0 or stop == 0 or (start < 0) != (stop < 0):
        raise ValueError(f"geomspace: start and stop must be of one sign, and not 0, got {start} and {stop}")
    from tensorsmith import get_default_dtype

    sign = -1.0 if start < 0 else 1.0
    if getattr(start, "requires_grad", False) or getattr(stop, "requires_grad", False):
        low, high = (core.log10(core.absolute(core.astype(asarray(b), "float64"))) for b in (start, stop))
        y = core.multiply(logspace(low, high, num, endpoint, 10.0, "float64"), sign)
        return core.astype(y, dtype or get_default_dtype(), False)
    y = logspace(math.log10(abs(start)), math.log10(abs(stop)), num, endpoint, 10.0, "float64") * sign
    if num > 0:
        y[0] = float(start)
        if endpoint and num > 1:
            y[-1] = float(stop)
    return core.astype(y, dtype or get_default_dtype(), False)


def _geomspaces(start: Any, stop: Any, num: int, endpoint: bool, dtype: Any, axis: int) -> Any:
    from tensorsmith.ops.manipulate import broadcast_arrays

    first, last = broadcast_arrays(asarray(start), asarray(stop))
    if bool(core.any(core.less_equal(core.multiply(core.sign(first), core.sign(last)), 0))):
        raise ValueError("geomspace: start and stop must be of one sign, and not 0")
    low, high = (core.log10(core.absolute(core.astype(b, "float64"))) for b in (first, last))
    y = core.multiply(logspace(low, high, num, endpoint, 10.0, "float64"), core.sign(first))
    if num > 0:  # the ends are what was given
        parts = [core.expand_dims(core.astype(first, "float64"), 0), y[1:]]
        if endpoint and num > 1:
            parts = [parts[0], y[1:-1], core.expand_dims(core.astype(last, "float64"), 0)]
        y = core.concat(parts, 0)
    from tensorsmith.inspection import result_type

    kind = result_type(first, last)
    kind = kind if kind.kind == "floating" else default_dtype()
    return core.moveaxis(core.astype(y, dtype or kind, False), 0, axis)


def indices(dimensions: Sequence[int], dtype: Any = "int64", sparse: bool = False) -> Any:
    """The coordinates of a grid: one array for each axis, stacked; a tuple of broadcastable ones if sparse."""
    dimensions = _sequence("indices", "dimensions", dimensions)
    n = len(dimensions)
    parts = []
    for i, extent in enumerate(dimensions):
        shape = [extent if j == i else 1 for j in range(n)]
        parts.append(core.reshape(core.arange(0, extent, 1, dtype), shape))
    if sparse:
        return tuple(parts)
    if not parts:
        return core.zeros((0,), dtype)
    return core.stack([core.broadcast_to(p, list(dimensions)) for p in parts], 0)


def ix_(*sequences: Any) -> tuple[Any, ...]:
    """Index arrays that select the cross product of 1-D index lists or masks."""
    from tensorsmith.ops.index import flatnonzero

    results = []
    for i, s in enumerate(sequences):
        x = asarray(s)
        if x.ndim != 1:
            raise ValueError(f"ix_: argument {i} must be 1-D, got shape {x.shape}")
        x = flatnonzero(x) if x.dtype == "bool" else core.astype(x, "int64", False) if x.size == 0 else x
        results.append(core.reshape(x, [-1 if j == i else 1 for j in range(len(sequences))]))
    return tuple(results)


def _in_memory(operation: str, extents: Sequence[int], order: str) -> Sequence[int]:
    """Extents from the slowest axis to the fastest: order "C" or "F"."""
    if order not in ("C", "F"):
        raise ValueError(f'{operation}: order must be "C" or "F", got {order!r}')
    return extents if order == "C" else extents[::-1]


def _positions(operation: str, x: Any) -> Any:
    x = asarray(x)
    if x.dtype.kind not in ("bool", "signed", "unsigned"):
        raise TypeError(f"{operation}: integers are needed, got {x.dtype}")
    return core.astype(x, "int64", False)


def unravel_index(index: Any, shape: int | Sequence[int], order: str = "C") -> tuple[Any, ...]:
    """The coordinates of flat positions in an array of that shape; order "F": the first axis is the fastest.

    ValueError for a position that it does not have."""
    flat = _positions("unravel_index", index)
    shape = (operator.index(shape),) if _is_index(shape) else tuple(shape)  # type: ignore
    size = math.prod(shape)
    if flat.size and (int(core.min(flat)) < 0 or int(core.max(flat)) >= size):
        raise ValueError(f"unravel_index: positions must be from 0 to {size - 1} for shape {tuple(shape)}")
    coordinates = []
    for extent in reversed(_in_memory("unravel_index", shape, order)):
        coordinates.append(core.remainder(flat, max(extent, 1)))
        flat = core.floor_divide(flat, max(extent, 1))
    return tuple(reversed(coordinates)) if order == "C" else tuple(coordinates)


def ravel_multi_index(
    multi_index: Sequence[Any], dims: Sequence[int], mode: str | Sequence[str] = "raise", order: str = "C"
) -> Any:
    """The flat positions of coordinates; order "F": the first axis is the fastest.

    mode: for coordinates outside their extent, of all axes or of each: "raise" (ValueError), "wrap" or "clip"."""
    dims = tuple(_sequence("ravel_multi_index", "dims", dims))
    if len(multi_index) != len(dims):
        raise ValueError(f"ravel_multi_index: {len(multi_index)} coordinates for {len(dims)} dimensions")
    modes = (mode,) * len(dims) if isinstance(mode, str) else tuple(mode)
    if len(modes) != len(dims) or not {"raise", "wrap", "clip"}.issuperset(modes):
        raise ValueError(
            f'ravel_multi_index: mode must be "raise", "wrap" or "clip", one or {len(dims)}, got {mode!r}'
        )
    coordinates = []
    for i, (coordinate, extent, outside) in enumerate(zip(multi_index, dims, modes)):
        c = _positions("ravel_multi_index", coordinate)
        if outside == "wrap" and extent:
            c = core.remainder(c, extent)
        elif outside == "clip" and extent:
            c = core.minimum(core.maximum(c, 0), extent - 1)
        if c.size and (int(core.min(c)) < 0 or int(core.max(c)) >= extent):
            raise ValueError(f"ravel_multi_index: coordinate {i} must be from 0 to {extent - 1}")
        coordinates.append(c)
    flat: Any = 0
    for c, extent in zip(
        _in_memory("ravel_multi_index", coordinates, order), _in_memory("ravel_multi_index", dims, order)
    ):
        flat = core.add(core.multiply(flat, extent), c)
    return flat


# --- choosing -----------------------------------------------------------------------------------------------


def compress(condition: Any, x: Any, axis: int | None = None, out: Any = None) -> Any:
    """The slices of x along an axis where the 1-D condition holds."""
    from tensorsmith.ops.index import flatnonzero

    return core.take(asarray(x), flatnonzero(asarray(condition)), axis, out=out)


def extract(condition: Any, x: Any) -> Any:
    """The elements of x where the condition holds, in order."""
    return compress(core.reshape(asarray(condition), (-1,)), core.reshape(asarray(x), (-1,)))


def choose(a: Any, choices: Sequence[Any], out: Any = None, mode: str = "raise") -> Any:
    """Of the choices (which broadcast with a) the one that a names, element by element.

    mode: "raise" (IndexError), "wrap" or "clip" for numbers out of range."""
    a = asarray(a)
    a = core.astype(a, "int64") if a.dtype == "bool" else a
    choices = _sequence("choose", "choices", choices)
    n = len(choices)
    if mode == "wrap":
        a = core.remainder(a, n)
    elif mode == "clip":
        a = core.minimum(core.maximum(a, 0), n - 1)
    elif mode != "raise":
        raise ValueError(f'choose: mode must be "raise", "wrap" or "clip", got {mode!r}')
    elif a.size and (int(core.min(a)) < 0 or int(core.max(a)) >= n):
        raise IndexError(f"choose: a must hold 0 to {n - 1}, the positions of the choices")
    from tensorsmith.ops.manipulate import broadcast_arrays

    place, *options = broadcast_arrays(a, *_promoted(*choices))
    stacked = core.stack([core.contiguous(o) for o in options], 0)
    y = core.squeeze(core.take_along_axis(stacked, core.expand_dims(place, 0), 0), 0)
    return y if out is None else core.copy(y, out=out)


def select(conditions: Sequence[Any], choices: Sequence[Any], default: Any = 0) -> Any:
    """Of the choices the one whose condition is the first to hold, else `default`."""
    conditions, choices = (
        _sequence("select", "conditions", conditions),
        _sequence("select", "choices", choices),
    )
    if len(conditions) != len(choices) or not conditions:
        raise ValueError(
            f"select: {len(conditions)} conditions for {len(choices)} choices; at least 1 of each"
        )
    *choices, y = _promoted(*choices, default)
    for condition, choice in zip(reversed(conditions), reversed(choices)):
        y = core.where(asarray(condition), choice, y)
    return y


def delete(x: Any, index: Any, axis: int | None = None) -> Any:
    """x without the slices at `index` (an integer, a slice, or several of them) along an axis, or flattened."""
    x = asarray(x)
    if axis is None:
        x, axis = core.reshape(x, (-1,)), 0
    axis = _axis("delete", axis, x.ndim)
    keep = core.ones((x.shape[axis],), "bool", device=x.device)
    if not isinstance(index, slice):
        index = asarray(index)
        index = index if index.size or index.dtype == "bool" else core.astype(index, "int64", False)
    keep[index] = False
    return compress(keep, x, axis)


def insert(x: Any, index: Any, values: Any, axis: int | None = None) -> Any:
    """x with the values put in before the given positions along an axis, or flattened.

    index: one position, at which all values go, or one for each value, counted in x, or a mask of them; IndexError
           beyond it
    values: an array or numbers, which x's dtype must hold, laid out as x; at a single position (no list of one) the
           first axis of the values is the one along which they go in."""
    x = asarray(x)
    values = asarray(values) if isinstance(values, Tensor) else asarray(values, x.dtype)
    if axis is None:
        x, axis = core.reshape(x, (-1,)), 0
    axis = _axis("insert", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(index, slice):
        index = list(range(*index.indices(n)))
    index = asarray(index)
    if index.dtype == "bool":
        from tensorsmith.ops.index import flatnonzero

        index = flatnonzero(index)
    if (index.size and index.dtype.kind not in ("signed", "unsigned")) or index.ndim > 1:
        raise IndexError(
            f"insert: positions must be integers in one dimension, got {index.dtype} {index.shape}"
        )
    places = core.reshape(index, (-1,)).tolist()
    for p in places:
        if not -n <= p <= n:
            raise IndexError(f"insert: position {p} is out of range: valid are {-n} to {n}")
    places = [p + n if p < 0 else p for p in places]
    y = core.moveaxis(x, axis, 0)
    values = core.astype(values, x.dtype, False)
    if len(places) == 1:
        values = core.reshape(values, (1,) * (x.ndim - values.ndim) + tuple(values.shape))
        values = core.moveaxis(values, 0, axis) if index.ndim == 0 else values
        places = places * values.shape[axis]
    shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
    added = core.moveaxis(core.broadcast_to(values, shape), axis, 0)
    order = sorted(range(len(places)), key=lambda i: places[i])
    target = [places[i] + k for k, i in enumerate(order)]
    source: list[int] = []
    taken = dict(zip(target, order))
    old = 0
    for position in range(n + len(places)):
        if position in taken:
            source.append(n + taken[position])
        else:
            source.append(old)
            old += 1
    both = core.concat([y, added], 0)
    return core.moveaxis(core.take(both, asarray(source, "int64"), 0), 0, axis)


def resize(x: Any, new_shape: int | Sequence[int]) -> Any:
    """The elements of x in another shape, repeated from the start as often as needed."""
    x = core.reshape(asarray(x), (-1,))
    extents = [new_shape] if _is_index(new_shape) else _sequence("resize", "new_shape", new_shape)
    shape = tuple(_integer("resize", "an extent", n) for n in extents)
    if any(n < 0 for n in shape):
        raise ValueError(f"resize: extents must be >= 0, got {shape}")
    size = math.prod(shape)
    if x.shape[0] == 0 or size == 0:
        return core.zeros(shape, x.dtype, device=x.device)
    from tensorsmith.ops.manipulate import tile

    repeated = tile(x, -(-size // x.shape[0]))
    return core.reshape(core.getitem(repeated, slice(0, size)), shape)


def trim_zeros(x: Any, trim: str = "fb", axis: int | Sequence[int] | None = None) -> Any:
    """x without the zeros at the front and back ("f", "b" or "fb") of the axes: slices that hold nothing else."""
    from tensorsmith.ops.index import argwhere

    if trim.lower() not in ("f", "b", "fb", "bf"):
        raise ValueError(f'trim_zeros: trim must be "f", "b" or "fb", got {trim!r}')
    x = asarray(x)
    axes = range(x.ndim) if axis is None else [axis] if hasattr(axis, "__index__") else list(axis)
    places = argwhere(x.detach())
    keys = [slice(None)] * x.ndim
    for a in axes:
        a = _axis("trim_zeros", a, x.ndim)  # type: ignore[arg-type]
        if places.shape[0] == 0:
            keys[a] = slice(0, 0)
            continue
        first = int(core.min(places[:, a])) if "f" in trim.lower() else 0
        keys[a] = slice(first, int(core.max(places[:, a])) + 1 if "b" in trim.lower() else None)
    return core.getitem(x, tuple(keys))


def _compress(x: Any, condition: Any, axis: int | None = None, out: Any = None) -> Any:
    return compress(condition, x, axis, out)


Tensor.choose, Tensor.compress = choose, _compress  # type: ignore[attr-defined]
