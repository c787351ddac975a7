"""`where=` and `initial=` of the reductions, as NumPy's: what the operations of the core call for these keywords.

where:   the elements that count, bool, broadcast to x's shape; of none the result is that of nothing
initial: a number where the reduction begins, in the result's dtype
"""

from __future__ import annotations

import math
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.inspection import iinfo
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.halves import is_half

__all__: list[str] = []


def mask_of(operation: str, x: Any, where: Any) -> Any:
    """`where` as bool of x's shape, or None where it is true throughout."""
    if where is True:
        return None
    try:
        mask = core.astype(asarray(False if where is None else where, device=x.device), "bool", False)
    except (TypeError, ValueError):
        raise TypeError(f"{operation}: where must hold bools, got {where!r}") from None
    try:
        return core.broadcast_to(mask, x.shape)
    except ValueError:
        raise ValueError(
            f"{operation}: where of shape {tuple(mask.shape)} does not broadcast to x's {tuple(x.shape)}"
        ) from None


def _begun(operation: str, initial: Any, y: Any) -> Any:
    """`initial` in the dtype of the result y. ValueError where an integer result has no such number."""
    try:
        value: Any = initial if isinstance(initial, (int, float)) else asarray(initial, device=y.device)
    except (TypeError, ValueError):
        raise TypeError(f"{operation}: initial must be a number, got {initial!r}") from None
    if getattr(value, "ndim", 0):
        raise ValueError(f"{operation}: initial must be a number, got an array of shape {tuple(value.shape)}")
    if getattr(value, "dtype", None) == y.dtype:
        return value
    if y.dtype.kind in ("signed", "unsigned"):
        number, limits = getattr(value, "item", lambda: value)(), iinfo(y.dtype)
        if not isinstance(number, complex) and not limits.min <= number <= limits.max:
            raise ValueError(
                f"{operation}: initial must be from {limits.min} to {limits.max}, the limits of {y.dtype}, "
                f"got {number}"
            )
    return core.astype(asarray(value, device=y.device), y.dtype, False)


def _accumulation(operation: str, reduce: Any, nothing: int, combine: Any) -> Any:
    """`reduce` with both keywords; `nothing` is what it makes of no element."""

    def reduction(
        x: Any,
        axis: Any = None,
        dtype: Any = None,
        keepdims: bool = False,
        *,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        x = asarray(x)
        mask = mask_of(operation, x, where)
        y = reduce(x if mask is None else core.where(mask, x, nothing), axis, dtype, keepdims)
        return y if initial is None else combine(y, _begun(operation, initial, y))

    return reduction


def _mean_dtype(x: Any, dtype: Any) -> Any:
    return core.mean(core.zeros((0,), x.dtype), None, dtype).dtype


def _mean(x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, *, where: Any = True) -> Any:
    x = asarray(x)
    mask = mask_of("mean", x, where)
    if mask is None:
        return core.mean(x, axis, dtype, keepdims)
    result = _mean_dtype(x, dtype)
    kind = "float32" if result.itemsize == 2 else result  # a sum of halves may be none
    total = core.sum(core.where(mask, x, 0), axis, kind, keepdims)
    count = core.astype(core.sum(mask, axis, None, keepdims), total.dtype)
    return core.astype(core.divide(total, count), result, False)


def variance_where(
    operation: str, x: Any, where: Any, axis: Any, correction: float, keepdims: bool, mean: Any = None
) -> Any:
    """sum (x - mean x)^2 / (K - correction) of what `where` chooses; NaN or inf where K <= correction."""
    x = asarray(x)
    mask = mask_of(operation, x, where)
    if mask is None:
        if mean is None:
            return core.var(x, axis, correction, keepdims)
        mask = core.ones(x.shape, "bool", device=x.device)
    result = _mean_dtype(x, None)
    if is_half(x) or x.dtype.kind not in ("floating", "complex"):
        x = core.astype(x, "float32" if result.itemsize == 2 else result)
    middle = _mean(x, axis, None, True, where=mask) if mean is None else asarray(mean, device=x.device)
    centred = core.where(mask, core.subtract(x, middle), 0)
    if centred.shape != x.shape:
        raise ValueError(f"{operation}: mean of shape {middle.shape} does not broadcast to x's {x.shape}")
    size = core.square(core.absolute(centred))
    count = core.astype(core.sum(mask, axis, None, keepdims), size.dtype)
    y = core.divide(core.sum(size, axis, None, keepdims), core.maximum(core.subtract(count, correction), 0))
    return core.astype(y, result, False) if result.itemsize == 2 else y


def _extreme(operation: str, x: Any, axis: Any, keepdims: bool, initial: Any, where: Any) -> Any:
    x = asarray(x)
    mask = mask_of(operation, x, where)
    reduce, combine = (core.max, core.maximum) if operation == "max" else (core.min, core.minimum)
    if initial is None:
        if mask is not None:
            raise ValueError(f"{operation}: where needs an initial value: nothing has no {operation}imum")
        return reduce(x, axis, keepdims)
    if x.dtype.kind == "complex":
        raise TypeError(f"{operation}: where and initial need real numbers, got {x.dtype}")
    if x.dtype.kind == "bool":
        worst: Any = operation == "min"
    elif x.dtype.kind == "floating":
        worst = -math.inf if operation == "max" else math.inf
    else:
        worst = iinfo(x.dtype).min if operation == "max" else iinfo(x.dtype).max
    chosen = x if mask is None else core.where(mask, x, worst)
    shape = core.any(x, axis, keepdims).shape
    start = core.broadcast_to(_begun(operation, initial, x), shape)
    if not x.size:
        return core.copy(start)
    return combine(reduce(chosen, axis, keepdims), start)


def _max(x: Any, axis: Any = None, keepdims: bool = False, *, initial: Any = None, where: Any = True) -> Any:
    return _extreme("max", x, axis, keepdims, initial, where)


def _min(x: Any, axis: Any = None, keepdims: bool = False, *, initial: Any = None, where: Any = True) -> Any:
    return _extreme("min", x, axis, keepdims, initial, where)


def _any(x: Any, axis: Any = None, keepdims: bool = False, *, where: Any = True) -> Any:
    x = asarray(x)
    mask = mask_of("any", x, where)
    return core.any(x if mask is None else core.logical_and(x, mask), axis, keepdims)


def _all(x: Any, axis: Any = None, keepdims: bool = False, *, where: Any = True) -> Any:
    x = asarray(x)
    mask = mask_of("all", x, where)
    return core.all(x if mask is None else core.logical_or(x, core.logical_not(mask)), axis, keepdims)


core.sum._extend(("initial", "where"), _accumulation("sum", core.sum, 0, core.add))
core.prod._extend(("initial", "where"), _accumulation("prod", core.prod, 1, core.multiply))
core.max._extend(("initial", "where"), _max)
core.min._extend(("initial", "where"), _min)
core.mean._extend(("where",), _mean)
core.any._extend(("where",), _any)
core.all._extend(("where",), _all)
