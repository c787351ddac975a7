"""Products with sparse matrices in CSR form, and what is one of them in disguise: averaging windows, resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["csr_matmul", "csr_transpose", "segment_reduce"]


def _rows_of(starts: Tensor, entries: int) -> Tensor:
    """The row of every entry."""
    return core.subtract(core.searchsorted(starts, core.arange(entries), True), 1)


def csr_transpose(
    starts: Any, columns: Any, values: Any = None, *, columns_count: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The transpose of a matrix in CSR form with `columns_count` columns: its starts, columns and values.

    Entries of a row of the result keep the order of the rows they came from.
    """
    starts, columns = asarray(starts), asarray(columns)
    order = core.argsort(columns)
    counts = core.bincount(columns, columns_count)
    ends = core.cumsum(counts)
    first = core.concat((core.zeros((1,), ends.dtype), ends), 0)
    rows = core.take(_rows_of(starts, columns.size), order, 0)
    return first, rows, None if values is None else core.take(asarray(values), order, 0)


def _x_rule(dy: Any, x_shape: Any, starts: Any, columns: Any, values: Any, axis: int) -> Any:
    first, rows, flipped = csr_transpose(starts, columns, values, columns_count=x_shape[axis])
    return core.csr_matmul(dy, first, rows, flipped, axis)


def _values_rule(dy: Any, x: Any, starts: Any, columns: Any, axis: int) -> Any:
    rows = _rows_of(asarray(starts), asarray(columns).size)
    products = core.multiply(core.index_select(dy, axis, rows), core.index_select(x, axis, columns))
    axis %= x.ndim
    return core.sum(products, tuple(i for i in range(x.ndim) if i != axis))


csr_matmul = define(
    core.csr_matmul,
    """A sparse matrix (M, N) times x along `axis`, whose extent N becomes M:
    y[m] = sum of values[k] x[columns[k]] over starts[m] <= k < starts[m + 1].

    x: float32 or float64    starts: (M + 1,) integers from 0 on, ascending    columns: (K,) integers in [0, N)
    values: (K,) of x's dtype, or None for ones. Terms are added in the order of k, for any number of threads.

    Differentiable in x and values. IndexError for a column out of range, ValueError for starts that descend or
    do not end at K.""",
    x=_x_rule,
    values=_values_rule,
)


def segment_reduce(data: Any, offsets: Any, reduce: str = "sum", axis: int = 0) -> Tensor:
    """Sums, means, maxima or minima of the segments offsets[m] <= i < offsets[m + 1] along `axis`.

    An empty segment gives 0 for sums and means; for extremes it is a ValueError.
    """
    x, offsets = asarray(data), asarray(offsets)
    if reduce not in ("sum", "mean", "max", "min"):
        raise ValueError(f'segment_reduce: reduce must be "sum", "mean", "max" or "min", got {reduce!r}')
    every = core.arange(x.shape[axis])
    lengths = core.subtract(offsets[1:], offsets[:-1])
    if reduce in ("max", "min"):
        if bool(core.any(core.less_equal(lengths, 0))):
            raise ValueError(f"segment_reduce: an empty segment has no {reduce}")
        front = core.moveaxis(x, axis, 0)
        rows = core.reshape(_rows_of(offsets, x.shape[axis]), (-1,) + (1,) * (x.ndim - 1))
        index = core.broadcast_to(rows, front.shape)
        start = core.index_select(front, 0, offsets[:-1])
        return core.moveaxis(
            core.scatter_reduce(start, 0, index, front, "amax" if reduce == "max" else "amin"), 0, axis
        )
    y = core.csr_matmul(x, offsets, every, None, axis)
    if reduce == "mean":
        shape = [1] * x.ndim
        shape[axis] = -1
        y = core.divide(y, core.astype(core.reshape(core.maximum(lengths, 1), shape), y.dtype))
    return y
