"""Products with sparse matrices in CSR form, and what is one of them in disguise: averaging windows, resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray, zeros_like
from tensorsmith.ops.manipulate import _axis
from tensorsmith.ops.reduce import vector_norm

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["RowSparse", "csr_matmul", "csr_transpose", "segment_reduce", "segment_softmax"]


def _rows_of(starts: Tensor, entries: int) -> Tensor:
    """The row of every entry."""
    return core.subtract(core.searchsorted(starts, core.arange(entries, device=starts.device), True), 1)


def csr_transpose(
    starts: Any, columns: Any, values: Any = None, *, columns_count: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The transpose of a matrix in CSR form with `columns_count` columns: its starts, columns and values.

    Entries of a row of the result keep the order of the rows they came from.
    """
    starts, columns = asarray(starts), asarray(columns)
    order = core.argsort(columns)
    if _core.capturing():  # what bincount returns has a length that depends on values
        ones = core.ones((columns.size,), "int64", device=columns.device)
        counts = core.scatter_add(
            core.zeros((columns_count,), "int64", device=columns.device), 0, columns, ones
        )
    else:
        counts = core.bincount(columns, columns_count)
        if counts.size > columns_count:
            raise IndexError(
                f"csr_transpose: column {counts.size - 1} is out of range: valid are 0 to {columns_count - 1}"
            )
    ends = core.cumsum(counts)
    first = core.concat((core.zeros((1,), ends.dtype, device=ends.device), ends), 0)
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

    x: floating-point    starts: (M + 1,) integers from 0 on, ascending    columns: (K,) integers in [0, N)
    values: (K,) of x's dtype, or None for ones. Terms are added in the order of k, for any number of threads.

    Differentiable in x and values. IndexError for a column out of range, ValueError for starts that descend or
    do not end at K.""",
    x=_x_rule,
    values=_values_rule,
)


def _segments(name: str, data: Any, offsets: Any, axis: int) -> tuple[Tensor, Tensor, int]:
    """Data, offsets and axis, all but the numbers checked."""
    x, offsets = asarray(data), asarray(offsets)
    axis = _axis(name, axis, x.ndim)
    if offsets.dtype.kind not in ("signed", "unsigned"):
        raise TypeError(f"{name}: offsets must hold integers, got {offsets.dtype}")
    if offsets.ndim != 1 or offsets.size == 0:
        raise ValueError(f"{name}: offsets must be (M + 1,) for M segments, got shape {tuple(offsets.shape)}")
    return x, offsets, axis


def _check_ends(name: str, offsets: Tensor, extent: int, axis: int) -> None:
    if _core.capturing():  # nothing can be read here
        return
    if int(offsets[0]) != 0 or int(offsets[-1]) != extent:
        raise ValueError(
            f"{name}: offsets must go from 0 to {extent}, the extent of axis {axis}, got "
            f"{int(offsets[0])} to {int(offsets[-1])}"
        )
    if bool(core.any(core.less(offsets[1:], offsets[:-1]))):
        raise ValueError(f"{name}: offsets must not descend, got {offsets.tolist()}")


def segment_reduce(data: Any, offsets: Any, reduce: str = "sum", axis: int = 0) -> Tensor:
    """Sums, means, products, maxima or minima of the segments offsets[m] <= i < offsets[m + 1] along `axis`.

    An empty segment gives 0 for sums and means, 1 for products; for extremes it is a ValueError, and equal ones
    share the gradient. That of a product needs elements that are not 0.
    """
    x, offsets, axis = _segments("segment_reduce", data, offsets, axis)
    if reduce not in ("sum", "mean", "max", "min", "prod"):
        raise ValueError(
            f'segment_reduce: reduce must be "sum", "mean", "max", "min" or "prod", got {reduce!r}'
        )
    lengths = core.subtract(offsets[1:], offsets[:-1])
    if reduce in ("max", "min", "prod"):
        _check_ends("segment_reduce", offsets, x.shape[axis], axis)
        if reduce != "prod" and bool(core.any(core.less_equal(lengths, 0))):
            raise ValueError(f"segment_reduce: an empty segment has no {reduce}")
        front = core.moveaxis(x, axis, 0)
        rows = _rows_of(offsets, x.shape[axis])
        if reduce == "prod":
            start = core.ones((lengths.size, *front.shape[1:]), x.dtype, device=x.device)
        else:
            start = core.index_select(front, 0, offsets[:-1])
            if _core.is_grad_enabled() and x.requires_grad:  # each element once: equals share the gradient
                later = core.add(core.nonzero_flat(core.equal(rows[1:], rows[:-1])), 1)
                front, rows = core.index_select(front, 0, later), core.take(rows, later, 0)
        index = core.broadcast_to(core.reshape(rows, (-1,) + (1,) * (x.ndim - 1)), front.shape)
        how = {"max": "amax", "min": "amin"}.get(reduce, reduce)
        return core.moveaxis(core.scatter_reduce(start, 0, index, front, how), 0, axis)
    y = core.csr_matmul(x, offsets, core.arange(x.shape[axis], device=x.device), None, axis)
    if reduce == "mean":
        shape = [1] * x.ndim
        shape[axis] = -1
        y = core.divide(y, core.astype(core.reshape(core.maximum(lengths, 1), shape), y.dtype))
    return y


def segment_softmax(data: Any, offsets: Any, axis: int = 0) -> Tensor:
    """exp(x - m) / sum exp(x - m) within each segment offsets[m] <= i < offsets[m + 1] along `axis`, m its maximum."""
    x, offsets, axis = _segments("segment_softmax", data, offsets, axis)
    _check_ends("segment_softmax", offsets, x.shape[axis], axis)
    if x.shape[axis] == 0:
        return x
    rows = _rows_of(offsets, x.shape[axis])
    # The maxima start from the segments' first elements; what an empty one starts from, nobody reads.
    firsts = core.minimum(offsets[:-1], x.shape[axis] - 1)
    front = core.moveaxis(x.detach(), axis, 0)
    index = core.broadcast_to(core.reshape(rows, (-1,) + (1,) * (x.ndim - 1)), front.shape)
    top = core.scatter_reduce(core.index_select(front, 0, firsts), 0, index, front, "amax")
    e = core.exp(core.subtract(x, core.index_select(core.moveaxis(top, 0, axis), axis, rows)))
    return core.divide(e, core.index_select(segment_reduce(e, offsets, "sum", axis), axis, rows))


# --- row-sparse gradients -------------------------------------------------------------------------


class RowSparse:
    """A gradient of `shape` that is zero but for some rows: `data[k]` is added to row `rows[k]`.

    rows: int64 (K,), in any order, equal ones allowed until `coalesce`    data: (K, *shape[1:])

    `F.embedding(..., sparse=True)` makes them; they add up with each other and with tensors, scale by numbers, and
    SGD, Adagrad and SparseAdam take them. The words are those of PyTorch's sparse tensors.
    """

    __slots__ = ("_coalesced", "data", "rows", "shape")
    is_sparse = True

    def __init__(self, rows: Any, data: Any, shape: Any, coalesced: bool = False) -> None:
        self.rows, self.data, self.shape = asarray(rows), asarray(data), tuple(shape)
        self._coalesced = coalesced
        if self.rows.ndim != 1 or str(self.rows.dtype) != "int64":
            raise TypeError(
                f"RowSparse: rows must be int64 of one dimension, got {self.rows.dtype} {self.rows.shape}"
            )
        if not self.shape or tuple(self.data.shape) != (self.rows.size, *self.shape[1:]):
            raise ValueError(
                f"RowSparse: {self.rows.size} rows of {self.shape} need data of shape "
                f"{(self.rows.size, *self.shape[1:])}, got {tuple(self.data.shape)}"
            )

    dtype = property(lambda self: self.data.dtype)
    device = property(lambda self: self.data.device)
    ndim = property(lambda self: len(self.shape))

    def is_coalesced(self) -> bool:
        """Whether rows ascend and differ."""
        return self._coalesced

    def indices(self) -> Tensor:
        """The rows as int64 (1, K)."""
        return core.expand_dims(self.rows, 0)

    def values(self) -> Tensor:
        """What belongs to each row: (K, ...)."""
        return self.data

    def coalesce(self) -> RowSparse:
        """The same with ascending rows that differ; what fell together was added in order of appearance, so that it
        has the bits of the dense gradient.

        RuntimeError within a `ts.jit` recording: how many rows there are would be taken for granted.
        """
        if self._coalesced:
            return self
        if _core.capturing():
            raise RuntimeError(
                "a row-sparse gradient cannot be part of a ts.jit recording, which would take the number of its "
                "rows for granted; use sparse=False there"
            )
        order = core.argsort(self.rows)
        ascending = core.take(self.rows, order, 0)
        first = core.concat(
            (
                core.ones((min(1, ascending.size),), "bool", device=ascending.device),
                core.not_equal(ascending[1:], ascending[:-1]),
            ),
            0,
        )
        starts = core.nonzero_flat(first)
        ends = core.concat((starts, core.full((1,), ascending.size, "int64", device=starts.device)), 0)
        flat = core.reshape(self.data, (self.rows.size, -1)) if self.data.size else self.data
        sums = core.csr_matmul(flat, ends, order, None, 0)
        data = core.reshape(sums, (starts.size, *self.shape[1:]))
        return RowSparse(core.take(ascending, starts, 0), data, self.shape, True)

    def to_dense(self) -> Tensor:
        """The gradient as a tensor."""
        return core.take_backward(self.data, self.rows, self.shape, 0)

    def empty(self) -> RowSparse:
        """A gradient of the same kind without any rows."""
        return RowSparse(self.rows[:0], self.data[:0], self.shape, True)

    def detach(self) -> RowSparse:
        """This gradient: it has no history."""
        return self

    def to(self, device: Any = None, dtype: Any = None) -> RowSparse:
        """The same on another device or of another dtype."""
        rows, data = self.rows.to(device=device), self.data.to(device=device, dtype=dtype)
        return RowSparse(rows, data, self.shape, self._coalesced)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, RowSparse):
            if (self.shape, self.dtype) != (other.shape, other.dtype):
                raise ValueError(
                    f"add: row-sparse gradients of {self.dtype} {self.shape} and {other.dtype} {other.shape}"
                )
            if not other.rows.size:
                return self
            if not self.rows.size:
                return other
            return RowSparse(
                core.concat((self.rows, other.rows), 0), core.concat((self.data, other.data), 0), self.shape
            )
        return core.add(self.to_dense(), other)

    __radd__ = __add__

    def __mul__(self, factor: Any) -> RowSparse:
        if getattr(factor, "ndim", 0) != 0:
            raise TypeError("multiply: a row-sparse gradient takes a number, not a tensor of elements")
        return RowSparse(self.rows, core.multiply(self.data, factor), self.shape, self._coalesced)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"RowSparse({self.rows.size} rows of {self.shape}, dtype={self.dtype})"


_core.set_row_sparse(RowSparse)


def cleared(gradient: Any) -> Any:
    """A gradient of zeros, in the memory of this one unless that has a history or is not its own to write."""
    if isinstance(gradient, RowSparse):
        return gradient.empty()
    if gradient.requires_grad or gradient._read_only or 0 in gradient.strides:
        return zeros_like(gradient.detach())
    gradient.fill_(0)
    return gradient


def limit_rows(weight: Any, x: Any, max_norm: float, norm_type: float) -> None:
    """Scale the rows of `weight` at x whose norm is above max_norm down to it, in place."""
    if not (max_norm > 0 and norm_type > 0):
        raise ValueError(f"embedding: max_norm and norm_type must be > 0, got {max_norm} and {norm_type}")
    rows = core.reshape(asarray(x), (-1,))
    table = weight.detach()
    found = core.embedding(rows, table)
    norms = vector_norm(found, axis=1, keepdims=True, ord=norm_type)
    limited = core.multiply(found, core.divide(max_norm, core.add(norms, 1e-7)))
    core.index_set_(table, 0, rows, core.where(core.greater(norms, max_norm), limited, found))


def sparse_embedding(
    x: Any, weight: Any, padding_idx: int | None, sparse: bool = True, by_frequency: bool = False
) -> Tensor:
    """`embedding` whose gradient with respect to `weight` is a RowSparse, or is divided by how often its row was
    looked up. No second derivatives.
    """
    x = asarray(x)
    y = core.embedding(x, weight.detach(), padding_idx)
    if not (_core.is_grad_enabled() and weight.requires_grad):
        return y
    if sparse and _core.capturing():
        raise RuntimeError(
            "embedding: sparse=True cannot be part of a ts.jit recording; use sparse=False there"
        )
    shape = tuple(weight.shape)

    def run(dy: Tensor) -> tuple[Any]:
        if _core.is_grad_enabled():
            raise NotImplementedError(
                "embedding: sparse=True and scale_grad_by_freq=True have no second derivatives"
            )
        rows = core.reshape(core.astype(x, "int64"), (-1,))
        data = core.reshape(dy, (rows.size, shape[1]))
        if by_frequency:
            count = core.take(core.bincount(rows, shape[0]), rows, 0)
            data = core.divide(data, core.expand_dims(core.astype(count, data.dtype), 1))
        if not sparse:
            return (core.embedding_backward(data, rows, shape[0], padding_idx),)
        if padding_idx is not None:
            kept = core.nonzero_flat(core.not_equal(rows, padding_idx))
            rows, data = core.take(rows, kept, 0), core.take(data, kept, 0)
        return (RowSparse(rows, data, shape),)

    _core.record("embedding", run, (weight,), (y,))
    return y
