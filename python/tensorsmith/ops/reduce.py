"""Reductions and cumulative sums: docstrings and gradient rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.dtypes import as_dtype
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.halves import rounded_once, widened
from tensorsmith.ops.reduce_where import variance_where

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "cumprod", "cumsum", "logcumsumexp",
    "cumulative_prod", "cumulative_sum", "logsumexp", "max", "mean", "min", "prod", "std", "sum", "var", "vector_norm",
]  # fmt: skip

_AXES = """

    axis: an integer, a tuple of them, or None for all axes; keepdims: reduced axes stay, with extent 1.
    AxisError for an axis that x does not have."""
_WHERE = """
    where: the elements that count, bool, broadcast to x's shape."""
_INITIAL = (
    _WHERE
    + """
    initial: a number where the reduction begins, in the result's dtype."""
)

# The gradient of a sum: dy at every element it came from. Its own gradient is that sum.
expand_reduced = define(
    core.expand_reduced,
    "A view of x, the result of a reduction over `axis`, broadcast to the `shape` it came from.",
    conjugate=False,
    x=lambda dy, axis, keepdims: core.sum(dy, axis, None, keepdims),
)

sum = define(
    core.sum,
    """The sum along axes. bool and integers are summed in int64, unsigned ones in uint64, and wrap; of nothing it is 0.

    dtype: what x is converted to first. Floating sums go by a fixed tree: the same bits for every layout and
    thread count, avx2 or avx512, within 2 sqrt(K) eps of the sum of magnitudes."""
    + _AXES
    + _INITIAL,
    conjugate=False,
    x=lambda dy, x_shape, axis, keepdims: core.expand_reduced(dy, x_shape, axis, keepdims),
)


def _prod_gradient(dy: Tensor, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    # The product of the others: y / x without a zero; with one zero the rest at its place; 0 with more.
    zero = core.equal(x, 0)
    ones = core.where(zero, 1, x)
    rest = core.expand_reduced(core.prod(ones, axis, None, True), x.shape, axis, True)
    zeros = core.expand_reduced(core.sum(zero, axis, None, True), x.shape, axis, True)
    others = core.where(core.equal(zeros, 0), rest / ones, core.where(zero & core.equal(zeros, 1), rest, 0))
    return core.expand_reduced(dy, x.shape, axis, keepdims) * others


prod = define(
    core.prod,
    """The product along axes, in int64 for bool and integers, in uint64 for unsigned ones; of nothing it is 1.

    The gradient is right with zeros; second derivatives at zeros are not."""
    + _AXES
    + _INITIAL,
    x=_prod_gradient,
)


def _mean_gradient(dy: Tensor, x_shape: Sequence[int], axis: Any, keepdims: bool) -> Tensor:
    size = _size(x_shape)
    if size:
        factor = _size(dy.shape) / size
        # Halves have two bytes: their factor is not rounded to one.
        dy = dy * factor if dy.itemsize > 2 else core.astype(widened(dy)[0] * factor, dy.dtype)
    return core.expand_reduced(dy, x_shape, axis, keepdims)


mean = define(
    core.mean,
    "The mean along axes, of integers in the default floating dtype; of nothing it is NaN." + _AXES + _WHERE,
    conjugate=False,
    x=_mean_gradient,
)


def _size(shape: Sequence[int]) -> int:
    n = 1
    for extent in shape:
        n *= extent
    return n


def _count(x: Tensor, axis: Any) -> int:
    if axis is None:
        return _size(x.shape)
    return _size([x.shape[a] for a in ((axis,) if hasattr(axis, "__index__") else axis)])


def _var_gradient(dy: Tensor, x: Tensor, axis: Any, correction: float, keepdims: bool) -> Tensor:
    centred = x - core.mean(x, axis, None, True)
    scale = 2.0 / (_count(x, axis) - correction)
    return core.expand_reduced(dy * scale, x.shape, axis, keepdims) * centred


_var = define(
    core.var,
    "sum (x - mean x)^2 / (K - correction) along axes, in two passes." + _AXES,
    conjugate=False,
    x=_var_gradient,
)


def _variance(
    operation: str,
    x: Any,
    axis: Any,
    dtype: Any,
    ddof: float,
    keepdims: bool,
    correction: float | None,
    where: Any,
    mean: Any = None,
) -> Tensor:
    if dtype is not None:
        if as_dtype(dtype).kind not in ("floating", "complex"):
            raise TypeError(f"{operation}: dtype is {dtype}; a floating or complex dtype is needed")
        x = core.astype(x, dtype)
    correction = float(ddof if correction is None else correction)
    if where is True and mean is None:
        return core.var(x, axis, correction, keepdims)
    return variance_where(operation, x, where, axis, correction, keepdims, mean)


def var(
    x: Tensor,
    axis: int | Sequence[int] | None = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    correction: float | None = None,
    where: Any = True,
    mean: Any = None,
) -> Tensor:
    """The variance along axes: sum (x - mean x)^2 / (K - ddof), in two passes; NumPy's arguments.

    correction: the Array API's word for ddof. Integers give the default float; K <= ddof gives inf or NaN.
    where: the elements that count, bool, broadcast to x's shape.
    mean:  the mean where it is known already, of the shape that keepdims=True gives it.
    """
    y = _variance("var", x, axis, dtype, ddof, keepdims, correction, where, mean)
    return y if out is None else core.copy(y, out=out)


def std(
    x: Tensor,
    axis: int | Sequence[int] | None = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    correction: float | None = None,
    where: Any = True,
    mean: Any = None,
) -> Tensor:
    """The standard deviation along axes: the square root of `var`, with the same arguments."""
    y = core.sqrt(_variance("std", x, axis, dtype, ddof, keepdims, correction, where, mean))
    return y if out is None else core.copy(y, out=out)


def _extreme_gradient(dy: Tensor, x: Tensor, y: Tensor, axis: Any, keepdims: bool) -> Tensor:
    # Shared evenly among equals.
    winners = core.astype(core.equal(x, core.expand_reduced(y, x.shape, axis, keepdims)), dy.dtype)
    share = dy / core.sum(winners, axis, None, keepdims)
    return winners * core.expand_reduced(share, x.shape, axis, keepdims)


_EXTREME = """

    NaN propagates. The gradient is shared evenly among equals. ValueError for an empty choice
    without `initial`, which `where` needs."""
_EXTREME += _AXES + _INITIAL
max = define(core.max, "The largest element along axes." + _EXTREME, x=_extreme_gradient)
min = define(core.min, "The smallest element along axes." + _EXTREME, x=_extreme_gradient)
amax, amin = max, min
any = define(core.any, "Whether any element along axes is not 0; of nothing, False." + _AXES + _WHERE)
all = define(core.all, "Whether all elements along axes are not 0; of nothing, True." + _AXES + _WHERE)

_POSITION = """ as int64: the first of equals, or the first NaN.

    axis: an integer, or None for the position in the flattened array. ValueError for an empty choice."""
argmax = define(core.argmax, "The position of the largest element" + _POSITION)
argmin = define(core.argmin, "The position of the smallest element" + _POSITION)

logsumexp = define(
    core.logsumexp,
    "log sum exp x along axes, shifted by the maximum: -inf of nothing or of -inf alone." + _AXES,
    x=lambda dy, x, y, axis, keepdims: (
        core.expand_reduced(dy, x.shape, axis, keepdims)
        * core.exp(x - core.expand_reduced(y, x.shape, axis, keepdims))
    ),
)


def _cumsum_gradient(dy: Tensor, x_shape: Sequence[int], axis: int | None) -> Tensor:
    along = 0 if axis is None else axis
    return core.reshape(core.flip(core.cumsum(core.flip(dy, along), along), along), x_shape)


cumsum = define(
    core.cumsum,
    """The running sum along an axis, of the flattened array if axis is None; bool and integers in int64, unsigned
    ones in uint64.""",
    conjugate=False,
    x=_cumsum_gradient,
)


def _cumprod_gradient(dy: Tensor, x: Tensor, axis: int | None) -> Tensor:
    along = 0 if axis is None else axis
    flat = core.reshape(x, (-1,)) if axis is None else x

    def after(g: Tensor) -> Tensor:  # sums from each place to the end
        return core.flip(core.cumsum(core.flip(g, along), along), along)

    # Before the first zero dx = after(dy y) / x. At it, the products that leave it out. Behind it 0.
    zero = core.equal(flat, 0)
    zeros = core.cumsum(zero, along)
    first = core.logical_and(zero, core.equal(zeros, 1))
    filled = core.where(first, 1.0, flat)
    before = core.divide(after(core.multiply(dy, core.cumprod(flat, along))), core.where(zero, 1.0, flat))
    at = after(core.multiply(core.where(core.equal(zeros, 0), 0.0, dy), core.cumprod(filled, along)))
    dx = core.where(core.equal(zeros, 0), before, core.where(first, at, 0.0))
    return core.reshape(dx, x.shape)


cumprod = define(
    core.cumprod,
    """The running product along an axis, of the flattened array if axis is None; bool and integers in int64, unsigned
    ones in uint64.

    The gradient is right with zeros; second derivatives at zeros are not.""",
    x=_cumprod_gradient,
)


def _logcumsumexp_gradient(dy: Tensor, x: Tensor, y: Tensor, axis: int) -> Tensor:
    # Sums up to a place are -inf where all before it is: its slope is 1.
    apart = core.where(core.equal(y, -math.inf), 0.0, x - y)
    return core.exp(apart) * core.logcumsumexp_backward(dy, y, axis)


logcumsumexp = define(
    core.logcumsumexp,
    """The running log sum exp along an axis, log(e^x_0 + ... + e^x_i), as torch.logcumsumexp.

    Sums are of e^(x_j - m), m the largest so far, in float64: nothing overflows, and what is small before something
    large keeps its digits. Floating-point. IndexError for an axis that is none.""",
    x=_logcumsumexp_gradient,
)


def _decayed_sum_gradients(
    dy: Tensor, gradient: Tensor, result: Tensor, sums: Tensor, axis: int
) -> tuple[Tensor, Tensor]:
    # Its transpose sums over j <= i: the same of what is turned round.
    dgradient = core.flip(
        core.logcumsumexp_backward(core.flip(dy, axis), core.flip(-result, axis), axis), axis
    )
    return dgradient, dy * sums - gradient * dgradient


define(
    core.logcumsumexp_backward,
    "The sum over j >= i of gradient_j e^(result_i - result_j) along an axis, in which result does not fall.",
    wrt="gradient result",
    vjp=_decayed_sum_gradients,
)


def _with_initial(y: Tensor, axis: int, value: float) -> Tensor:
    before = [0] * y.ndim
    before[axis] = 1
    return core.pad_constant(y, before, [0] * y.ndim, value)


def cumulative_sum(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """The running sum along an axis, which may be left out for a 1-D x (Array API).

    include_initial: start with a 0, so that the axis is one longer.
    """
    x = asarray(x)
    if axis is None:
        if x.ndim > 1:
            raise ValueError(
                f"cumulative_sum: axis is needed for {x.ndim} dimensions (shape {tuple(x.shape)})"
            )
        x, axis = core.reshape(x, (-1,)), 0
    y = core.cumsum(x, axis, dtype)
    return _with_initial(y, axis, 0.0) if include_initial else y


def cumulative_prod(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """The running product along an axis, which may be left out for a 1-D x (Array API).

    include_initial: start with a 1, so that the axis is one longer.
    """
    x = asarray(x)
    if axis is None:
        if x.ndim > 1:
            raise ValueError(
                f"cumulative_prod: axis is needed for {x.ndim} dimensions (shape {tuple(x.shape)})"
            )
        x, axis = core.reshape(x, (-1,)), 0
    y = core.cumprod(x, axis, dtype)
    return _with_initial(y, axis, 1.0) if include_initial else y


def _norm_gradient(dy: Tensor, x: Tensor, y: Tensor, axis: Any, order: float, keepdims: bool) -> Tensor:
    norm = core.expand_reduced(y, x.shape, axis, keepdims)
    dy = core.expand_reduced(dy, x.shape, axis, keepdims)
    if order == 2:
        return core.where(core.equal(norm, 0), 0.0, dy * (x / core.where(core.equal(norm, 0), 1.0, norm)))
    if order == 1:
        return dy * core.sign(x)
    winners = core.astype(core.equal(core.absolute(x), norm), dy.dtype)  # shared evenly among equals
    share = winners / core.expand_reduced(core.sum(winners, axis, None, keepdims), x.shape, axis, keepdims)
    return dy * share * core.sign(x)


define(core.vector_norm, "The norm of order 1, 2, inf or -inf along axes." + _AXES, x=_norm_gradient)


def vector_norm(
    x: Tensor, /, *, axis: int | Sequence[int] | None = None, keepdims: bool = False, ord: float = 2
) -> Tensor:
    """(sum |x|^ord)^(1/ord) along axes, as linalg.vector_norm of the Array API; inf and -inf are max and min |x|, 0
    counts what is not 0.

    Orders 1, 2, inf and -inf read x once. Of nothing 0; ValueError for the smallest of nothing."""
    x = asarray(x)
    if x.dtype.kind != "floating":
        x = core.astype(x, _core.default_dtype())
    if ord == math.inf and not x.size:
        ord = 1
    if ord in (1, 2, math.inf, -math.inf):
        return core.vector_norm(x, axis, float(ord), keepdims)
    if ord == 0:
        return core.astype(core.sum(core.not_equal(x, 0), axis, None, keepdims), x.dtype)
    return rounded_once(lambda x: _other_norm(x, axis, keepdims, float(ord)), x, raised=True)


def _other_norm(x: Tensor, axis: Any, keepdims: bool, ord: float) -> Tensor:
    """What has no derivative, an element that is 0 or a norm that is, passes no gradient."""
    a = core.absolute(x)
    if ord < 2:
        zero = core.equal(a, 0)
        powers = core.where(zero, 0.0 if ord > 0 else math.inf, core.power(core.where(zero, 1.0, a), ord))
    else:
        powers = core.power(a, ord)
    total = core.sum(powers, axis, None, keepdims)
    none = core.equal(total, 0.0 if ord > 0 else math.inf)
    return core.where(none, 0.0, core.power(core.where(none, 1.0, total), 1.0 / ord))


def count_nonzero(x: Tensor, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
    """How many elements along axes are not 0, as int64."""
    x = asarray(x)
    if axis is None and not keepdims:
        return core.count_nonzero_flat(x)
    return core.sum(core.not_equal(x, 0), axis, None, keepdims)
