"""NumPy's functions that ask an array about itself, or write at places in it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.dtypes import as_dtype
from tensorsmith.inspection import can_cast, result_type
from tensorsmith.ops.creation import asarray, is_number
from tensorsmith.ops.manipulate import _axis, _sequence, broadcast_to
from tensorsmith.tensor import Tensor

__all__ = [
    "apply_along_axis", "apply_over_axes", "argpartition", "array_equal", "array_equiv", "asanyarray",
    "asarray_chkfinite", "ascontiguousarray", "asfortranarray", "copyto", "diag_indices", "diag_indices_from",
    "diagflat", "fill_diagonal", "frombuffer", "fromfunction", "fromiter", "index_exp", "isfortran", "isscalar",
    "iterable", "lexsort", "mask_indices", "may_share_memory",
    "mgrid", "ndenumerate", "ndim", "ndindex", "ogrid", "partition", "piecewise", "place", "put", "put_along_axis",
    "putmask", "s_", "shape", "shares_memory", "size", "tril_indices_from", "triu_indices_from",
]  # fmt: skip

_Function = TypeVar("_Function", bound=Callable[..., None])

# Python's own: slices and tuples of integers, no arrays.
index_exp, ndindex, s_ = np.index_exp, np.ndindex, np.s_


# --- questions ----------------------------------------------------------------------------------------------


def shape(x: Any) -> tuple[int, ...]:
    """The extents."""
    return tuple(asarray(x).shape)


def ndim(x: Any) -> int:
    """The number of axes."""
    return int(asarray(x).ndim)


def size(x: Any, axis: int | Iterable[int] | None = None) -> int:
    """The number of elements, or the extent of one axis or the product of several."""
    x = asarray(x)
    if axis is None:
        return int(x.size)
    axes: Any = axis if isinstance(axis, (tuple, list)) else (axis,)
    return math.prod(x.shape[_axis("size", a, x.ndim)] for a in axes)


def isscalar(x: Any) -> bool:
    """Whether x is a number (or a string), and no array."""
    return bool(np.isscalar(x))


def iterable(x: Any) -> bool:
    """Whether x can be walked through; a 0-d tensor cannot."""
    try:
        iter(x)
    except TypeError:
        return False
    return True


def may_share_memory(a: Any, b: Any) -> bool:
    """Whether the spans of memory that a and b lie in meet."""
    return bool(np.may_share_memory(*_on_the_host("may_share_memory", a, b)))


def shares_memory(a: Any, b: Any) -> bool:
    """Whether any element of a is one of b's too."""
    return bool(np.shares_memory(*_on_the_host("shares_memory", a, b)))


def _on_the_host(operation: str, *arrays: Any) -> list[Any]:
    for x in arrays:
        if getattr(x, "device", "cpu") != "cpu":
            raise TypeError(f"{operation}: arrays on the CPU are needed, got one on {x.device}")
    return [x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in arrays]


def array_equal(a: Any, b: Any, equal_nan: bool = False) -> bool:
    """Whether a and b have one shape and equal elements; NaNs are equal only if asked."""
    a, b = asarray(a), asarray(b)
    if a.shape != b.shape:
        return False
    same = core.equal(a, b)
    if equal_nan:
        same = core.logical_or(same, core.logical_and(core.isnan(a), core.isnan(b)))
    return bool(core.all(same))


def array_equiv(a: Any, b: Any) -> bool:
    """Whether a and b broadcast to equal elements."""
    try:
        return bool(core.all(core.equal(asarray(a), asarray(b))))
    except ValueError:
        return False


def ndenumerate(x: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """(position, element) of all elements in row-major order; the elements are 0-d tensors."""
    x = asarray(x)
    return ((place, x[place]) for place in np.ndindex(*x.shape))


# --- arrays from other things ---------------------------------------------------------------------------------

asanyarray = asarray


def ascontiguousarray(x: Any, dtype: Any = None) -> Any:
    """x in row-major order with one axis at least; itself where nothing changes."""
    y = core.contiguous(asarray(x, dtype))
    return core.reshape(y, (1,)) if y.ndim == 0 else y


def asfortranarray(x: Any, dtype: Any = None) -> Any:
    """x in column-major order: a copy of another one."""
    y = asarray(x, dtype)
    return core.permute_dims(core.contiguous(core.permute_dims(y)))


def isfortran(x: Any) -> bool:
    """Whether x is in column-major order and not in row-major order."""
    flags = asarray(x).flags
    return bool(flags.f_contiguous and not flags.c_contiguous)


def asarray_chkfinite(x: Any, dtype: Any = None) -> Any:
    """asarray, but ValueError for NaN and infinities."""
    y = asarray(x, dtype)
    if not bool(core.all(core.isfinite(y))):
        raise ValueError("asarray_chkfinite: x holds NaN or infinities")
    return y


def frombuffer(buffer: Any, dtype: Any = float, count: int = -1, offset: int = 0) -> Any:
    """The buffer's memory as one dimension, shared: read-only where the buffer is. ValueError where it does not fit."""
    return asarray(np.frombuffer(buffer, np.dtype(getattr(dtype, "dtype", dtype)), count, offset))


def fromiter(values: Iterable[Any], dtype: Any, count: int = -1) -> Any:
    """The numbers of an iterable, in one dimension."""
    return asarray(np.fromiter(values, as_dtype(dtype).dtype, count))


def fromfunction(function: Callable[..., Any], shape: Any, *, dtype: Any = None, **options: Any) -> Any:
    """function(i, j, ...) of the coordinates, each a tensor of the shape in `dtype` (None: the default float)."""
    from tensorsmith.ops.join import indices

    return function(*indices(shape, _core.default_dtype() if dtype is None else dtype), **options)


class _Grid:
    """mgrid[0:3, 0:1:5j]: coordinates of a grid, the same shape each; ogrid: ones that broadcast."""

    def __init__(self, open: bool) -> None:
        self._open = open

    def __getitem__(self, key: Any) -> Any:
        y = (np.ogrid if self._open else np.mgrid)[key]
        return tuple(map(self._tensor, y)) if isinstance(y, (tuple, list)) else self._tensor(y)

    @staticmethod
    def _tensor(x: Any) -> Any:
        y = asarray(x)
        return core.astype(y, _core.default_dtype(), False) if y.dtype.kind == "floating" else y


mgrid, ogrid = _Grid(False), _Grid(True)


# --- writing at places ----------------------------------------------------------------------------------------


def _cycled(values: Any, count: int, dtype: Any) -> Any:
    """As many values, from the start again when they are used up."""
    flat = core.reshape(core.astype(asarray(values, dtype), dtype, False), (-1,))
    if flat.size == 0 and count:
        raise ValueError(f"0 values for {count} places")
    return core.take(flat, core.remainder(core.arange(count, device=flat.device), max(flat.size, 1)), 0)


def _coordinates(flat: Any, extents: tuple[int, ...]) -> tuple[Any, ...]:
    coordinates = []
    for extent in reversed(extents):
        coordinates.append(core.remainder(flat, max(extent, 1)))
        flat = core.floor_divide(flat, max(extent, 1))
    return tuple(reversed(coordinates))


def _writer(function: _Function) -> _Function:
    """Of a function that writes into its first argument: that must be an array, and errors name the function."""
    name = function.__name__

    @functools.wraps(function)
    def writer(x: Any, *args: Any, **options: Any) -> None:
        if not isinstance(x, (Tensor, np.ndarray)):
            raise TypeError(f"{name}: the destination must be a tensor, got {type(x).__name__}")
        try:
            function(x, *args, **options)
        except (IndexError, TypeError, ValueError) as error:
            inner, colon, rest = str(error).partition(":")
            if not colon or inner not in ("copy_", "copyto", "getitem", "put", "scatter_", "setitem"):
                raise
            raise type(error)(f"{name}:{rest}") from None

    return cast(_Function, writer)


@_writer
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    """Writes `src`, which broadcasts, into dst where the mask is True. TypeError where `casting` does not allow it."""
    number = is_number(src)
    source = src if number else asarray(src)
    # A number of Python fits where it is of no higher kind.
    dtype = result_type(source, dst) if number else source.dtype
    if not can_cast(dtype, dst.dtype, casting):
        raise TypeError(f"copyto: {dtype} does not become {dst.dtype} with casting {casting!r}")
    if where is True:
        core.copy_(asarray(dst, copy=False), source)
    else:
        value = (
            core.full((), source, dst.dtype, device=dst.device)
            if number
            else core.astype(source, dst.dtype, False)
        )
        dst[...] = core.where(asarray(where), value, dst)


def _within(operation: str, indices: Any, extent: int, mode: str) -> Any:
    """Indices of an axis of `extent` elements, those outside treated as `mode` says."""
    if mode == "wrap":
        return core.remainder(indices, max(extent, 1))
    if mode == "clip":
        return core.minimum(core.maximum(indices, 0), extent - 1)
    if mode == "raise":
        return core.checked_positions(indices, 0, extent)
    raise ValueError(f'{operation}: mode must be "raise", "wrap" or "clip", got {mode!r}')


def _take(x: Any, indices: Any, axis: int | None = None, *, mode: str = "raise", out: Any = None) -> Any:
    x = asarray(x)
    if axis is None:
        x, axis = core.reshape(x, (-1,)), 0
    extent = x.shape[_axis("take", axis, x.ndim)]
    return core.take(x, _within("take", asarray(indices, device=x.device), extent, mode), axis, out=out)


core.take._extend(("mode",), _take)


@_writer
def put(x: Any, indices: Any, values: Any, mode: str = "raise") -> None:
    """x.flat[indices] = values, which are repeated if they are fewer. mode: "raise" an IndexError, "wrap" or "clip"."""
    flat = _within("put", core.reshape(asarray(indices), (-1,)), x.size, mode)
    if not asarray(values).size:
        return
    if not x.ndim:
        x = core.reshape(x, (1,))
    x[_coordinates(flat, x.shape)] = _cycled(values, flat.size, x.dtype)


@_writer
def place(x: Any, mask: Any, values: Any) -> None:
    """x[mask] = the first of the values, as many as are needed, which are repeated if they are fewer."""
    mask = core.astype(asarray(mask), "bool", False)
    x[mask] = _cycled(values, int(core.sum(mask)), x.dtype)


@_writer
def putmask(x: Any, mask: Any, values: Any) -> None:
    """x.flat[n] = values[n] where mask.flat[n] is True; values are repeated if they are fewer."""
    every = core.reshape(_cycled(values, x.size, x.dtype), x.shape)
    copyto(x, every, where=core.astype(asarray(mask), "bool", False))


@_writer
def put_along_axis(x: Any, indices: Any, values: Any, axis: int | None) -> None:
    """x[..., indices[..., j, ...], ...] = values along an axis, or in the flattened x; see `take_along_axis`."""
    if axis is None:
        return put(x, indices, values)
    axis = _axis("put_along_axis", axis, x.ndim)
    index = core.checked_positions(asarray(indices), axis, x.shape[axis])
    target = [index.shape[i] if i == axis else n for i, n in enumerate(x.shape)]
    index = broadcast_to(index, target)
    source = broadcast_to(core.astype(asarray(values, x.dtype), x.dtype, False), target)
    core.scatter_(asarray(x, copy=False), axis, index, source)
    return None


@_writer
def fill_diagonal(x: Any, value: Any, wrap: bool = False) -> None:
    """Writes the value, or the values in turn, to the diagonal of a matrix, or of a cube of equal extents.

    wrap: in a tall matrix the diagonal starts again after a row."""
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) != 1):
        raise ValueError(f"fill_diagonal: a matrix or a cube of equal extents is needed, got shape {x.shape}")
    if x.ndim == 2 and wrap:
        flat = core.arange(0, x.size, x.shape[1] + 1, device=x.device)
        x[_coordinates(flat, x.shape)] = _cycled(value, flat.size, x.dtype)
        return
    n = min(x.shape)
    x[(core.arange(n, device=x.device),) * x.ndim] = _cycled(value, n, x.dtype)


def diagflat(x: Any, k: int = 0) -> Any:
    """A matrix with the elements of x on its k-th diagonal."""
    from tensorsmith.ops.diagonal import diag

    return diag(core.reshape(asarray(x), (-1,)), k)


def diag_indices(n: int, ndim: int = 2) -> tuple[Any, ...]:
    """The positions on the diagonal of an (n, n, ...) array."""
    return (core.arange(n),) * ndim


def diag_indices_from(x: Any) -> tuple[Any, ...]:
    """The coordinates of the main diagonal of x, whose extents are equal; ValueError where they are not."""
    x = asarray(x)
    if x.ndim < 2 or len(set(x.shape)) != 1:
        raise ValueError(f"diag_indices_from: two equal extents or more are needed, got shape {x.shape}")
    return diag_indices(x.shape[0], x.ndim)


def mask_indices(n: int, mask_function: Callable[..., Any], k: Any = 0) -> tuple[Any, ...]:
    """The coordinates of an (n, n) array at which mask_function(ones, k), such as ts.triu, is not 0."""
    from tensorsmith.ops.index import nonzero

    return tuple(nonzero(core.not_equal(mask_function(core.ones((n, n), "int64"), k), 0)))


def tril_indices_from(x: Any, k: int = 0) -> tuple[Any, ...]:
    """`tril_indices` of a matrix of x's shape."""
    from tensorsmith.ops.diagonal import tril_indices

    return tril_indices(x.shape[-2], k, x.shape[-1])


def triu_indices_from(x: Any, k: int = 0) -> tuple[Any, ...]:
    """`triu_indices` of a matrix of x's shape."""
    from tensorsmith.ops.diagonal import triu_indices

    return triu_indices(x.shape[-2], k, x.shape[-1])


# --- orders ---------------------------------------------------------------------------------------------------


def _check_kth(operation: str, kth: Any, x: Any, axis: int) -> None:
    axis = _axis(operation, axis, x.ndim)
    try:
        core.checked_positions(core.reshape(asarray(kth), (-1,)), axis, x.shape[axis])
    except TypeError:
        raise TypeError(f"{operation}: kth must be integers, got {kth!r}") from None
    except IndexError:
        n = x.shape[axis]
        raise ValueError(f"{operation}: kth must be from {-n} to {n - 1}, got {kth!r}") from None


def partition(x: Any, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Any:
    """x with its kth element where sorting puts it, smaller ones before and larger behind: all in order, in fact."""
    x = asarray(x)
    x, axis = (core.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    _check_kth("partition", kth, x, axis)
    return core.sort(x, axis)


def argpartition(x: Any, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Any:
    """The positions that `partition` takes the elements from."""
    x = asarray(x)
    x, axis = (core.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    _check_kth("argpartition", kth, x, axis)
    return core.argsort(x, axis)


def lexsort(keys: Any, axis: int = -1) -> Any:
    """The order that sorts by the last key, of equals by the last but one, and so on."""
    columns = [asarray(k) for k in _sequence("lexsort", "keys", keys)]
    if not columns:
        raise TypeError("lexsort: at least one key is needed")
    if any(key.shape != columns[0].shape for key in columns):
        raise ValueError(
            f"lexsort: the keys must have one shape, got {[tuple(key.shape) for key in columns]}"
        )
    order = core.argsort(columns[0], axis)
    for key in columns[1:]:
        order = core.take_along_axis(order, core.argsort(core.take_along_axis(key, order, axis), axis), axis)
    return order


def apply_along_axis(function: Callable[..., Any], axis: int, x: Any, *args: Any, **options: Any) -> Any:
    """function(v, ...) of every vector v along an axis; what it returns stands where the axis stood."""
    x = asarray(x)
    axis = _axis("apply_along_axis", axis, x.ndim)
    rows = core.moveaxis(x, axis, -1)
    lead = rows.shape[:-1]
    if 0 in lead:
        raise ValueError(
            f"apply_along_axis: there is no vector along axis {axis} of an array of shape {x.shape}"
        )
    results = [asarray(function(rows[i], *args, **options)) for i in np.ndindex(*lead)]
    y = core.reshape(core.stack(results), (*lead, *results[0].shape))
    places = tuple(range(len(lead), y.ndim))
    return core.moveaxis(y, places, tuple(axis + i for i in range(len(places))))


def apply_over_axes(function: Callable[..., Any], x: Any, axes: int | Iterable[int]) -> Any:
    """function(x, axis) of one axis after the other, each left with extent 1 where the function drops it."""
    y = asarray(x)
    n = y.ndim
    for axis in (axes,) if isinstance(axes, int) else axes:
        axis = _axis("apply_over_axes", axis, n)
        result = asarray(function(y, axis))
        if result.ndim == n - 1:
            result = core.expand_dims(result, axis)
        if result.ndim != n:
            raise ValueError(f"apply_over_axes: the function made {result.ndim} axes of {n}")
        y = result
    return y


def piecewise(x: Any, conditions: Any, functions: Iterable[Any], *args: Any, **options: Any) -> Any:
    """Where conditions[i] holds, functions[i](x there, ...), or functions[i] itself where it is a number; of several
    that hold the last one; 0 where none does, or what one function more than conditions says. The dtype is x's.

    ValueError where the functions are neither as many as the conditions nor one more, and for NaN or an infinity in
    place of an integer."""
    x, functions = asarray(x), list(functions)
    if not isinstance(conditions, (list, tuple)) or (not iterable(conditions[0]) and x.ndim):
        conditions = [conditions]
    masks = [
        core.broadcast_to(core.astype(asarray(c, device=x.device), "bool", False), x.shape)
        for c in conditions
    ]
    if len(functions) == len(masks) + 1:
        any_holds = masks[0]
        for mask in masks[1:]:
            any_holds = core.logical_or(any_holds, mask)
        masks.append(core.logical_not(any_holds))
    if len(functions) != len(masks):
        raise ValueError(f"piecewise: {len(functions)} functions for {len(masks)} conditions")
    y = core.zeros_like(x)
    for mask, f in zip(masks, functions):
        value = f
        if callable(f):
            inside = x[mask]
            if inside.size == 0:
                continue
            results = core.broadcast_to(asarray(f(inside, *args, **options)), inside.shape)
            at = core.subtract(core.cumsum(core.reshape(mask, (-1,)), 0), 1)
            value = core.reshape(core.take(results, core.maximum(at, 0), 0), x.shape)
        value = asarray(value, x.dtype if type(value) in (bool, int) else None, device=x.device)
        if value.ndim == 0 and x.dtype.kind in ("signed", "unsigned") and not bool(core.isfinite(value)):
            raise ValueError(f"piecewise: {float(value)} cannot be an element of {x.dtype}")
        y = core.where(mask, core.astype(value, x.dtype, False), y)
    return y


# --- methods ----------------------------------------------------------------------------------------------------


def _fill(x: Any, value: Any) -> None:
    """Every element becomes `value`."""
    x[...] = value


def _partition_in_place(x: Any, kth: Any, axis: int = -1) -> None:
    x[...] = partition(x, kth, axis)


for _name, _method in {
    "fill": _fill,
    "put": put,
    "partition": _partition_in_place,
    "argpartition": argpartition,
}.items():
    setattr(Tensor, _name, _method)
