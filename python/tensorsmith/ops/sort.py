"""Orders, ranks and counts: sorting, searching, unique elements.

NaN comes last, whichever the direction, and counts as one value; +0 and -0 are equal. Orders are stable, and the same
for every thread count and SIMD level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tensorsmith._core import default_dtype
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _axis
from tensorsmith.tensor import Tensor

__all__ = [
    "argsort", "bincount", "cummax", "cummin", "digitize", "searchsorted", "sort", "sort_complex", "topk", "unique",
    "unique_all", "unique_counts", "unique_inverse", "unique_values",
]  # fmt: skip

# --- orders ---------------------------------------------------------------------------------------

define(
    core.sort,
    "x in order along an axis.",
    x=lambda dy, x, axis, descending: core.gather_backward(
        dy, axis, core.argsort(x, axis, descending), x.shape
    ),
)
define(core.argsort, "The positions that put x in order along an axis.")
define(
    core.order_statistics,
    "What a sort along the last axis would put at places.",
    x=lambda dy, x, places: core.gather_backward(
        dy, -1, core.take(core.argsort(x, -1, False), places, -1), x.shape
    ),
)
define(core.topk_index, "The positions of the k largest or smallest along an axis, best first.")


def _along(x: Any, axis: int | None) -> tuple[Tensor, int]:
    x = asarray(x)
    return (core.reshape(x, (-1,)), 0) if axis is None else (x, axis)


def _argsort(x: Any, axis: int, descending: bool) -> Tensor:
    """core.argsort; complex numbers by their real parts, then the imaginary ones, as NumPy orders them."""
    if x.dtype.kind != "complex":
        return core.argsort(x, axis, descending)
    first = core.argsort(core.imag(x), axis, descending)
    second = core.argsort(core.take_along_axis(core.real(x), first, axis), axis, descending)
    order = core.take_along_axis(first, second, axis)
    missing = core.isnan(x)
    if not bool(core.any(missing)):
        return order
    # Behind the numbers what lacks the imaginary part, then what lacks the real one.
    lacks = core.where(core.isnan(core.real(x)), 2, core.astype(missing, "int64"))
    return core.take_along_axis(
        order, core.argsort(core.take_along_axis(lacks, order, axis), axis, False), axis
    )


_KINDS = (None, "quicksort", "mergesort", "heapsort", "stable")


def _check_kind(operation: str, kind: Any) -> None:
    if kind not in _KINDS:
        raise ValueError(f"{operation}: kind must be one of {', '.join(map(str, _KINDS[1:]))}, got {kind!r}")


def sort(
    x: Any,
    axis: int | None = -1,
    kind: str | None = None,
    *,
    descending: bool = False,
    stable: bool | None = True,
) -> Tensor:
    """A sorted copy along `axis` (None: of the flattened x), as numpy.sort and the Array API's.

    descending: largest first; NaN stays last. Of zeros the negative ones come first. `kind` and `stable` are
    accepted: the order of equal values cannot be told from the values.
    """
    _check_kind("sort", kind)
    x, axis = _along(x, axis)
    if x.ndim == 0:
        raise ValueError("sort: x must have at least one dimension, got shape ()")
    if x.dtype.kind == "complex":
        return core.take_along_axis(x, _argsort(x, axis, descending), axis)
    return core.sort(x, axis, descending)


def argsort(
    x: Any,
    axis: int | None = -1,
    kind: str | None = None,
    *,
    descending: bool = False,
    stable: bool | None = True,
) -> Tensor:
    """int64 positions that put x in order along `axis`: equal values (and NaN) keep their order, whatever `kind` and
    `stable` say."""
    _check_kind("argsort", kind)
    x, axis = _along(x, axis)
    if x.ndim == 0:
        raise ValueError("argsort: x must have at least one dimension, got shape ()")
    return _argsort(x, axis, descending)


def sort_complex(x: Any) -> Tensor:
    """x as complex numbers in order along the last axis: by the real part, then by the imaginary one."""
    x = asarray(x)
    small = x.dtype.kind in ("signed", "unsigned") and x.dtype.itemsize <= 2
    dtype = x.dtype if x.dtype.kind == "complex" else "complex64" if small else "complex128"
    return sort(core.astype(x, dtype, False))


class Extremes(NamedTuple):
    """Values, and where along the axis they lie."""

    values: Tensor
    indices: Tensor


def topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extremes:
    """The k largest (or smallest) elements along `dim` and their int64 positions, as torch.topk.

    Best first, whether or not `sorted`; of equals the first. NaN is larger than every number.
    ValueError for k outside 0 ... the extent.
    """
    x = asarray(x)
    index = core.topk_index(x.detach(), k, dim, largest)
    return Extremes(core.gather(x, dim, index), index)


def _running_rule(dy: Any, index: Any, axis: int, x_shape: Sequence[int]) -> Any:
    return core.gather_backward(dy, axis, index, x_shape)


define(core.cummax, "The largest so far along an axis, and where it was last seen.", x=_running_rule)
define(core.cummin, "The smallest so far along an axis, and where it was last seen.", x=_running_rule)


def cummax(x: Any, dim: int) -> Extremes:
    """The largest element so far along `dim` and its int64 position, the last of equals, as torch.cummax.

    NaN stays once it was seen.
    """
    return Extremes(*core.cummax(asarray(x), dim))


def cummin(x: Any, dim: int) -> Extremes:
    """The smallest element so far along `dim` and its int64 position, the last of equals, as torch.cummin."""
    return Extremes(*core.cummin(asarray(x), dim))


# --- places ---------------------------------------------------------------------------------------

define(core.searchsorted, "How many of `sorted` are before each x.")


def searchsorted(
    x1: Any, x2: Any, /, side: str = "left", sorter: Any = None, *, right: bool = False
) -> Tensor:
    """int64: where each of x2 belongs in the ascending x1, as numpy.searchsorted.

    x1:    (N,), or x2's shape but for the last dimension (a row for each of x2's, as in torch)
    side:  "left": before equal elements; "right" (or right=True): after them
    sorter: positions that put a 1-D x1 in order, as many
    """
    if side not in ("left", "right"):
        raise ValueError(f'searchsorted: side must be "left" or "right", got {side!r}')
    x1 = asarray(x1)
    if sorter is not None:
        sorter = asarray(sorter)
        if x1.ndim != 1 or sorter.shape != x1.shape:
            raise ValueError(
                f"searchsorted: sorter must have a position for each of a 1-D x1, got shapes "
                f"{sorter.shape} and {x1.shape}"
            )
        x1 = core.take(x1, sorter, 0)
    return core.searchsorted(x1, asarray(x2), right or side == "right")


def digitize(x: Any, bins: Any, right: bool = False) -> Tensor:
    """The bin of each x among ascending edges: i with bins[i-1] <= x < bins[i] (right: <  and <=); among descending
    ones, i with bins[i-1] > x >= bins[i] (right: >= and >). ValueError for edges that do neither."""
    x, bins = asarray(x), asarray(bins)
    if bins.ndim != 1:
        raise ValueError(f"digitize: bins must be 1-D, got shape {bins.shape}")
    before, after = bins[:-1], bins[1:]
    if not bool(core.any(core.less(after, before))):
        return core.searchsorted(bins, x, not right)
    if bool(core.any(core.greater(after, before))):
        raise ValueError("digitize: bins must ascend or descend")
    return core.subtract(bins.shape[0], core.searchsorted(core.flip(bins), x, not right))


# --- unique ---------------------------------------------------------------------------------------

define(core.run_starts, "Which elements of a sorted (N,) differ from the one before.")


class UniqueAll(NamedTuple):
    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    values: Tensor
    inverse_indices: Tensor


def _counts(starts: Tensor, size: int) -> Tensor:
    ends = (
        core.concat((starts[1:], core.arange(size, size + 1, device=starts.device)), 0)
        if starts.size
        else starts
    )
    return core.subtract(ends, starts)


def _inverse(order: Tensor, starts: Tensor, shape: Sequence[int]) -> Tensor:
    rank = core.subtract(core.cumsum(starts), 1)
    inverse = core.scatter(core.zeros(order.shape, rank.dtype, device=order.device), 0, order, rank)
    return core.reshape(inverse, shape)


def _starts(s: Tensor, one_nan: bool) -> Tensor:
    """Which elements of the sorted s are the first of their value; complex numbers with NaN are one, at the end."""
    flags = core.run_starts(s, one_nan)
    if not one_nan or s.dtype.kind != "complex" or not s.size:
        return flags
    missing = core.isnan(s)
    return core.where(missing, core.equal(core.cumsum(missing), 1), flags)


def _unique(x: Any, one_nan: bool, positions: bool) -> UniqueAll:
    x = asarray(x)
    flat = core.reshape(x.detach(), (-1,))
    positions = positions or x.requires_grad
    order = _argsort(flat, 0, False) if positions or flat.dtype.kind == "complex" else None
    s = core.sort(flat) if order is None else core.take(flat, order, 0)
    flags = _starts(s, one_nan)
    starts = core.nonzero_flat(flags)
    values, counts = core.take(s, starts, 0), _counts(starts, s.size)
    if order is None or not positions:
        return UniqueAll(values, starts, starts, counts)
    indices = core.take(order, starts, 0)
    if x.requires_grad:
        values = core.take(core.reshape(x, (-1,)), indices, 0)
    return UniqueAll(values, indices, _inverse(order, flags, x.shape), counts)


def _distinct(x: Any, one_nan: bool) -> Tensor:
    x = asarray(x)
    if x.requires_grad:
        return _unique(x, one_nan, True).values
    flat = core.reshape(x, (-1,))
    if flat.dtype.kind in ("signed", "unsigned") and flat.size > 64:
        found = core.distinct_integers(flat)
        if found.size:
            return found
    s = sort(flat) if flat.dtype.kind == "complex" else core.sort(flat)
    return core.getitem(s, _starts(s, one_nan))


def unique_all(x: Any, /) -> UniqueAll:
    """Values in order, where each is first, which value each element is, how often it occurs (Array API).

    Every NaN is a value of its own.
    """
    return _unique(x, False, True)


def unique_counts(x: Any, /) -> UniqueCounts:
    """The values in order and how often each occurs."""
    u = _unique(x, False, False)
    return UniqueCounts(u.values, u.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """The values in order, and which of them each element of x is: values[inverse_indices] is x."""
    u = _unique(x, False, True)
    return UniqueInverse(u.values, u.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    """The distinct elements of x in order."""
    return _distinct(x, False)


def unique(
    x: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """The distinct elements of the flattened x in order (whether or not `sorted`), as numpy.unique; NaN is one value
    if equal_nan. The gradient of a value goes to the first element that is equal to it.

    axis: the distinct slices along it, in the order of their first elements that differ; slices with NaN are distinct.
    With flags a tuple: the values, then where each is first, which value each element is, how often it occurs.
    """
    if axis is not None:
        parts = _unique_slices(asarray(x), axis)
        chosen = (True, return_index, return_inverse, return_counts)
        found = tuple(part for part, wanted in zip(parts, chosen) if wanted)
        return found if len(found) > 1 else found[0]
    if not (return_index or return_inverse or return_counts):
        return _distinct(x, equal_nan)
    u = _unique(x, equal_nan, return_index or return_inverse)
    chosen = (True, return_index, return_inverse, return_counts)
    return tuple(part for part, wanted in zip(u, chosen) if wanted)


def _unique_slices(x: Tensor, axis: int) -> UniqueAll:
    n = x.shape[_axis("unique", axis, x.ndim)]
    rows = core.reshape(core.moveaxis(x.detach(), axis, 0), (n, -1 if x.size else 0))
    order = core.arange(n, device=x.device)
    for column in range(rows.shape[1] - 1, -1, -1):  # the last deciding key first: each order is stable
        order = core.take(order, _argsort(core.take(rows[:, column], order, 0), 0, False), 0)
    ordered = core.take(rows, order, 0)
    first = core.ones((min(n, 1),), "bool", device=x.device)
    flags = core.concat([first, core.any(core.not_equal(ordered[1:], ordered[:-1]), 1)], 0)
    starts = core.nonzero_flat(flags)
    indices = core.take(order, starts, 0)
    inverse = _inverse(order, flags, (n,))
    return UniqueAll(core.take(x, indices, axis), indices, inverse, _counts(starts, n))


# --- counts ---------------------------------------------------------------------------------------

define(core.bincount, "How often each integer from 0 on occurs.")


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each of 0 ... max(x) occurs in the integers x (N,), or the sum of their weights.

    weights: (N,), added in ascending order of position, in their floating dtype. int64 without them.
    ValueError for a negative integer.
    """
    x = asarray(x)
    x = core.astype(x, "int64") if x.dtype == "bool" else x
    counts = core.bincount(x, minlength)
    if weights is None:
        return counts
    weights = asarray(weights)
    if weights.shape != x.shape:
        raise ValueError(
            f"bincount: weights must have the shape of x, got {tuple(weights.shape)} and {tuple(x.shape)}"
        )
    if weights.dtype.kind != "floating":
        weights = core.astype(weights, default_dtype())
    return core.index_add(core.zeros(counts.shape, weights.dtype, device=x.device), 0, x, weights)


for _method in (sort, argsort, searchsorted, topk, cummax, cummin, unique):
    setattr(Tensor, _method.__name__, _method)
