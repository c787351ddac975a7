"""Indexing by arrays of integers, and the positions of what is not zero.

An index out of range is an IndexError that names it, before anything is read or written. Negative indices
count from the end in `take` and `take_along_axis` (NumPy's) and are errors in the rest (PyTorch's).
"""

from __future__ import annotations

import math
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import broadcast_shapes
from tensorsmith.tensor import Tensor

__all__ = [
    "argwhere", "embedding", "flatnonzero", "gather", "index_add", "index_add_", "index_copy",
    "index_copy_", "index_select", "masked_fill", "masked_select", "nonzero", "one_hot", "scatter",
    "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "take", "take_along_axis",
]  # fmt: skip

# --- along one axis -------------------------------------------------------------------------------

take = define(
    core.take,
    """The slices of x at `indices` along `axis`, as numpy.take.

    x:       any shape and dtype
    indices: integers, any shape; negative ones count from the end
    axis:    None takes from the flattened x
    returns: x.shape with `axis` replaced by indices.shape

    IndexError for an index out of range, TypeError for indices that are not integers.
    """,
    conjugate=False,
    x=lambda dy, x_shape, indices, axis: core.take_backward(dy, indices, x_shape, axis),
)
define(
    core.take_backward,
    """Zeros of `shape` with dy added at `indices`: the gradient of take. Equal indices add up in
    ascending order.
    """,
    conjugate=False,
    dy=lambda ddx, indices, axis: core.take(ddx, indices, axis),
)

index_select = define(
    core.index_select,
    """The slices of x at `index` (one dimension) along `dim`, as torch.index_select.

    IndexError for an index outside 0 ... size - 1: negative ones do not wrap.
    """,
    conjugate=False,
    x=lambda dy, x_shape, dim, index: core.take_backward(dy, index, x_shape, dim),
)

embedding = define(
    core.embedding,
    """Rows of `weight` (V, D) at the integers x (*): (*, D), as torch.nn.functional.embedding.

    padding_idx: a row that gets no gradient. IndexError for an index outside 0 ... V - 1.
    """,
    conjugate=False,
    weight=lambda dy, x, weight_shape, padding_idx: core.embedding_backward(
        dy, x, weight_shape[0], padding_idx
    ),
)


def _embedding_backward_rule(ddweight: Any, x: Any, padding_idx: int | None) -> Any:
    ddy = core.embedding(x, ddweight)
    if padding_idx is None:
        return ddy
    return core.where(core.expand_dims(core.equal(x, padding_idx), -1), 0.0, ddy)


define(
    core.embedding_backward,
    "Zeros (rows, D) with dy added at the integers x; row padding_idx stays zero.",
    conjugate=False,
    dy=_embedding_backward_rule,
)


def _take_along_axis_rule(dy: Any, x_shape: Any, indices: Any, axis: int) -> Any:
    full = list(dy.shape)  # x's shape after broadcasting; the engine sums what broadcasting added
    axis %= len(full)
    full[axis] = x_shape[axis]
    wrapped = core.broadcast_to(core.remainder(asarray(indices), max(x_shape[axis], 1)), dy.shape)
    return core.gather_backward(dy, axis, wrapped, full)


take_along_axis = define(
    core.take_along_axis,
    """y[..., j, ...] = x[..., indices[..., j, ...], ...] along `axis`, as numpy.take_along_axis.

    Off the axis x and indices broadcast; negative indices count from the end.
    """,
    conjugate=False,
    x=_take_along_axis_rule,
)

# --- element by element ---------------------------------------------------------------------------

gather = define(
    core.gather,
    """y[i][j][k] = x[index[i][j][k]][j][k] for dim 0, and likewise for other dims, as torch.gather.

    index: integers of x's rank, off `dim` not longer than x. IndexError for one outside 0 ... size - 1.
    """,
    conjugate=False,
    x=lambda dy, x_shape, dim, index: core.gather_backward(dy, dim, index, x_shape),
)
define(
    core.gather_backward,
    "Zeros of `shape` with dy added at the positions that gather read.",
    conjugate=False,
    dy=lambda ddx, dim, index: core.gather(ddx, dim, index),
)


def _fitted(dsrc: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of a src that was longer than the index: zero where it was not read."""
    if len(shape) == 0 or dsrc.shape == tuple(shape):
        return dsrc
    return core.pad_constant(dsrc, [0] * len(shape), [n - m for n, m in zip(shape, dsrc.shape)], 0.0)


def _scatter_source_rule(dy: Any, dim: int, index: Any, src_shape: tuple[int, ...]) -> Any:
    index = asarray(index)
    # Of the elements that met in one place only the last was kept, and only it has a gradient.
    place = core.reshape(core.arange(index.size, device=dy.device), index.shape)
    kept = core.scatter(core.zeros(dy.shape, place.dtype, device=dy.device), dim, index, place)
    won = core.equal(core.gather(kept, dim, index), place)
    return _fitted(core.where(won, core.gather(dy, dim, index), 0.0), src_shape)


scatter = define(
    core.scatter,
    """A copy of x with x[index[i][j][k]][j][k] = src[i][j][k] for dim 0, and so on, as torch.scatter.

    src: a tensor not shorter than index in any dimension, or a number. Of equal destinations the last one
    wins.
    IndexError for an index outside 0 ... size - 1; then nothing has changed.
    """,
    conjugate=False,
    x=lambda dy, dim, index: core.scatter(dy, dim, index, 0.0),
    src=_scatter_source_rule,
)
scatter_ = core.scatter_

scatter_add = define(
    core.scatter_add,
    """A copy of x with src[i][j][k] added to x[index[i][j][k]][j][k] for dim 0, and so on, as
    torch.scatter_add.

    Terms are added in ascending order of i, whatever the number of threads.
    """,
    conjugate=False,
    x=lambda dy: dy,
    src=lambda dy, dim, index, src_shape: _fitted(core.gather(dy, dim, index), src_shape),
)
scatter_add_ = core.scatter_add_


def _scatter_reduce_rule(
    dy: Any, x: Any, dim: int, index: Any, src: Any, reduce: str, y: Any
) -> tuple[Any, Any]:
    there = core.gather(y, dim, index)
    part = src if tuple(src.shape) == tuple(index.shape) else src[tuple(slice(n) for n in index.shape)]
    if reduce == "prod":  # where nothing is 0
        return dy * (y / x), _fitted(core.gather(dy, dim, index) * (there / part), src.shape)
    mine, theirs = (core.astype(core.equal(a, b), dy.dtype) for a, b in ((x, y), (part, there)))
    share = dy / core.scatter_add(mine, dim, index, theirs)  # evenly among equals
    return share * mine, _fitted(core.gather(share, dim, index) * theirs, src.shape)


define(
    core.scatter_reduce,
    "The product or extreme of x and all src that meet in a place.",
    wrt="x src",
    vjp=_scatter_reduce_rule,
)


def scatter_reduce(x: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """A copy of x where all src[i][j][k] with the same index[i][j][k] (for dim 0, and so on) are combined, as
    torch.scatter_reduce.

    reduce: "sum", "prod", "mean", "amax" or "amin"; include_self: with x's own element, else only places that
    get no src keep it. Combined in ascending order of i. NaN propagates to extremes, whose gradient is shared
    evenly among equals; the gradient of "prod" needs elements that are not 0.
    """
    x, index, src = asarray(x), asarray(index), asarray(src)
    mean = reduce == "mean"
    if mean or not include_self:
        count = core.scatter_add(
            core.zeros(x.shape, "int64", device=x.device),
            dim,
            index,
            core.ones(index.shape, "int64", device=x.device),
        )
    if not include_self:
        start = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -math.inf, "amin": math.inf}.get(reduce)
        if x.dtype.kind != "floating" and reduce in ("amax", "amin"):
            first = core.scatter(x, dim, index, src)  # an element of src for each place
        else:
            first = core.astype(core.where(core.equal(count, 0), x, start), x.dtype, False)
        x = first
    if reduce in ("sum", "mean"):
        y = core.scatter_add(x, dim, index, src)
        if mean:
            own = core.astype(count, y.dtype)
            own = own + 1 if include_self else core.maximum(own, 1)
            y = core.divide(y, own) if y.dtype.kind == "floating" else core.floor_divide(y, own)
        return y
    return core.scatter_reduce(x, dim, index, src, reduce)


define(
    core.index_add,
    "A copy of x with source[:, m] added to x[:, index[m]], `dim` in the middle; m ascending.",
    conjugate=False,
    x=lambda dy: dy,
    source=lambda dy, dim, index: core.index_select(dy, dim, index),
)


def index_add(x: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """A copy of x with alpha * source[:, m] added to x[:, index[m]], `dim` in the middle, as torch.index_add.

    source: x.shape with `dim` replaced by len(index). Terms are added in ascending order of m, whatever the
    number of threads. IndexError for an index outside 0 ... size - 1.
    """
    return core.index_add(x, dim, index, source if alpha == 1 else core.multiply(source, alpha))


def index_add_(x: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """`index_add` into x, which is returned."""
    return core.index_add_(x, dim, index, source if alpha == 1 else core.multiply(source, alpha))


def _index_set_source_rule(dy: Any, dim: int, index: Any) -> Any:
    index = core.reshape(asarray(index), (-1,))
    place = core.arange(index.size, device=dy.device)
    last = core.index_set(core.zeros((dy.shape[dim],), place.dtype, device=dy.device), 0, index, place)
    won = core.equal(core.index_select(last, 0, index), place)
    shape = [1] * dy.ndim
    shape[dim] = index.size
    return core.where(core.reshape(won, shape), core.index_select(dy, dim, index), 0.0)


def _index_set_rule(dy: Any, dim: int, index: Any) -> Any:
    shape = list(dy.shape)
    shape[dim] = asarray(index).size
    return core.index_set(
        dy, dim, index, core.broadcast_to(core.zeros((1,), dy.dtype, device=dy.device), shape)
    )


index_copy = define(
    core.index_set,
    """A copy of x with x[:, index[m]] = source[:, m], `dim` in the middle, as torch.index_copy.

    Of equal indices the last one wins. IndexError for an index outside 0 ... size - 1.
    """,
    conjugate=False,
    x=_index_set_rule,
    source=_index_set_source_rule,
)
index_copy_ = core.index_set_

# --- positions ------------------------------------------------------------------------------------

flatnonzero = define(
    core.nonzero_flat, "int64 positions, in the flattened x, of what is not zero; ascending."
)
define(core.count_nonzero_flat, "How many elements are not zero, as int64.")


def nonzero(x: Any) -> tuple[Any, ...]:
    """The coordinates of what is not zero: one int64 tensor for each axis of x, in row-major order."""
    x = x if isinstance(x, Tensor) else asarray(x)
    if x.ndim == 0:
        raise ValueError("nonzero: x must have at least one dimension, got shape (); use flatnonzero")
    flat = core.nonzero_flat(x)
    coordinates = []
    for extent in reversed(x.shape[1:]):
        coordinates.append(core.remainder(flat, max(extent, 1)))
        flat = core.floor_divide(flat, max(extent, 1))
    coordinates.append(flat)
    return tuple(reversed(coordinates))


def argwhere(x: Any) -> Any:
    """The coordinates of what is not zero as int64 (K, ndim), in row-major order."""
    x = asarray(x)
    if x.ndim == 0:
        return core.zeros((int(bool(x)), 0), "int64", device=x.device)
    return core.stack(nonzero(x), 1)


def masked_select(x: Any, mask: Any) -> Any:
    """The elements of x where mask is True, in row-major order: one dimension. The two broadcast."""
    mask = asarray(mask)
    if mask.dtype.kind != "bool":
        raise TypeError(f"masked_select: mask must be bool, got {mask.dtype}")
    x = x if isinstance(x, Tensor) else asarray(x)
    if mask.shape != x.shape:
        shape = broadcast_shapes(x.shape, mask.shape)
        x, mask = core.broadcast_to(x, shape), core.broadcast_to(mask, shape)
    return core.take(core.reshape(x, (-1,)), core.nonzero_flat(mask), 0)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    """x with `value` where mask, which broadcasts to x, is True."""
    mask = asarray(mask)
    if mask.dtype.kind != "bool":
        raise TypeError(f"masked_fill: mask must be bool, got {mask.dtype}")
    x = x if isinstance(x, Tensor) else asarray(x)
    result = core.where(core.broadcast_to(mask, x.shape), value, x)
    return result if result.dtype == x.dtype else core.astype(result, x.dtype)


one_hot = define(
    core.one_hot,
    """int64 (*, num_classes): 1 at the place of each integer of x (*), 0 elsewhere.

    IndexError for an integer outside 0 ... num_classes - 1.
    """,
)

for _method in (index_add, index_add_, scatter_reduce, nonzero, argwhere, masked_select, masked_fill):
    setattr(Tensor, _method.__name__, _method)
Tensor.index_copy, Tensor.index_copy_ = index_copy, index_copy_  # type: ignore[attr-defined]
