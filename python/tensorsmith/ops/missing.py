"""Reductions for which NaN is a missing value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.dtypes import as_dtype
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.quantile import _axes_last, middle
from tensorsmith.ops.reduce_where import mask_of
from tensorsmith.ops.statistics import _floating, _into

__all__ = [
    "nan_to_num", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian",
    "nanmin", "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar",
]  # fmt: skip


def _check_dtype(operation: str, dtype: Any) -> None:
    if dtype is not None and as_dtype(dtype).kind not in ("floating", "complex"):
        raise TypeError(f"{operation}: dtype is {dtype}; a floating or complex dtype is needed")


def _filled(x: Any, value: float) -> tuple[Any, Any]:
    """x with `value` for NaN, and where it has numbers."""
    x = asarray(x)
    if x.dtype.kind not in ("floating", "complex"):
        return x, core.isfinite(x)
    present = core.logical_not(core.isnan(x))
    return core.where(present, x, value), present


def _counted(operation: str, x: Any, where: Any) -> tuple[Any, Any]:
    """x with 0 for NaN and for what `where` leaves out, and which elements are left."""
    filled, present = _filled(x, 0)
    mask = mask_of(operation, filled, where)
    if mask is None:
        return filled, present
    present = core.logical_and(present, mask)
    return core.where(present, filled, 0), present


def nansum(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    """The sum of what is not NaN; of nothing 0. initial, where: as those of `sum`"""
    y = core.sum(_filled(x, 0)[0], axis, dtype, keepdims, initial=initial, where=where)
    return _into(y, out)


def nanprod(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    """The product of what is not NaN; of nothing 1. initial, where: as those of `prod`"""
    y = core.prod(_filled(x, 1)[0], axis, dtype, keepdims, initial=initial, where=where)
    return _into(y, out)


def nancumsum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """The running sum, NaN counting as 0."""
    return _into(core.cumsum(_filled(x, 0)[0], axis, dtype), out)


def nancumprod(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """The running product, NaN counting as 1."""
    return _into(core.cumprod(_filled(x, 1)[0], axis, dtype), out)


def nanmean(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
) -> Any:
    """The mean of what is not NaN, among what `where` chooses; of nothing NaN."""
    _check_dtype("nanmean", dtype)
    filled, present = _counted("nanmean", _floating(x), where)
    count = core.sum(present, axis, None, keepdims)
    total = core.sum(filled, axis, dtype, keepdims)
    return _into(core.divide(total, core.astype(count, total.dtype)), out)


def nanvar(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False, *,
    where: Any = True, mean: Any = None, correction: float | None = None,
) -> Any:  # fmt: skip
    """The variance of what is not NaN, among what `where` chooses; NaN where no more than ddof numbers are left.

    mean: where it is known already, of the shape that keepdims=True gives it    correction: another word for ddof"""
    ddof = ddof if correction is None else correction
    _check_dtype("nanvar", dtype)
    x = _floating(x) if dtype is None else core.astype(asarray(x), dtype)
    filled, present = _counted("nanvar", x, where)
    count = core.astype(core.sum(present, axis, None, True), core.real(x).dtype)
    middle = core.sum(filled, axis, None, True) / count if mean is None else asarray(mean, device=x.device)
    centred = core.where(present, filled - middle, 0)
    size = core.square(core.absolute(centred))
    divisor = core.sum(core.astype(present, size.dtype), axis, None, keepdims) - ddof
    y = core.sum(size, axis, None, keepdims) / divisor
    return _into(core.where(core.greater(divisor, 0), y, math.nan), out)


def nanstd(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False, *,
    where: Any = True, mean: Any = None, correction: float | None = None,
) -> Any:  # fmt: skip
    """The standard deviation of what is not NaN; see `nanvar`."""
    y = nanvar(x, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return _into(core.sqrt(y), out)


def _nan_extreme(
    reduce: Callable[..., Any], lowest: float, x: Any, axis: Any, out: Any, keepdims: bool, initial: Any, where: Any
) -> Any:  # fmt: skip
    filled, present = _filled(x, lowest)
    if where is not True or initial is not None:
        return _into(reduce(filled, axis, keepdims, initial=initial, where=where), out)
    y = reduce(filled, axis, keepdims)
    if filled.dtype.kind == "floating":
        y = core.where(core.any(present, axis, keepdims), y, math.nan)
    return _into(y, out)


def nanmax(
    x: Any, axis: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Any:
    """The largest of what is not NaN; NaN where nothing is left. initial, where: as those of `max`"""
    return _nan_extreme(core.max, -math.inf, x, axis, out, keepdims, initial, where)


def nanmin(
    x: Any, axis: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Any:
    """The smallest of what is not NaN; NaN where nothing is left. initial, where: as those of `min`"""
    return _nan_extreme(core.min, math.inf, x, axis, out, keepdims, initial, where)


def _nan_position(
    reduce: Callable[..., Any], name: str, worst: float, x: Any, axis: Any, keepdims: bool
) -> Any:
    filled, present = _filled(x, worst)
    if not bool(core.all(core.any(present, axis, False))):
        raise ValueError(f"{name}: x has a slice of NaN alone")
    return reduce(filled, axis, keepdims)


def nanargmax(x: Any, axis: int | None = None, out: Any = None, *, keepdims: bool = False) -> Any:
    """The position of the largest of what is not NaN. ValueError where nothing is left."""
    return _into(_nan_position(core.argmax, "nanargmax", -math.inf, x, axis, keepdims), out)


def nanargmin(x: Any, axis: int | None = None, out: Any = None, *, keepdims: bool = False) -> Any:
    """The position of the smallest of what is not NaN. ValueError where nothing is left."""
    return _into(_nan_position(core.argmin, "nanargmin", math.inf, x, axis, keepdims), out)


def _nanquantile(
    operation: str, x: Any, q: Any, axis: Any, out: Any, method: str, keepdims: bool, most: int = 1
) -> Any:
    if method != "linear":
        raise ValueError(f'{operation}: method must be "linear", got {method!r}')
    x = _floating(x)
    choices = asarray(q, "float64")
    values = core.reshape(choices, (-1,)).tolist()
    if any(not 0 <= v <= most for v in values):
        raise ValueError(f"{operation}: q must be from 0 to {most}, got {q}")
    y, axes = _axes_last(operation, x, axis)
    if y.shape[-1] == 0:  # nothing is as much as NaN
        y = core.full((*y.shape[:-1], 1), math.nan, y.dtype, device=y.device)
    ordered = core.sort(y, -1, False)  # NaN last
    count = core.sum(core.logical_not(core.isnan(ordered)), -1, None, True)
    parts = []
    for v in values:
        at = core.multiply(core.maximum(core.subtract(count, 1), 0), asarray(v / most, "float64"))
        low = core.floor(at)
        place = core.astype(low, "int64")
        above = core.minimum(core.add(place, 1), core.maximum(core.subtract(count, 1), 0))
        a, b = core.take_along_axis(ordered, place, -1), core.take_along_axis(ordered, above, -1)
        whole = core.equal(at, low)  # not between two, of which one may be infinite
        if operation == "nanmedian":
            part = middle(a, b)
        else:
            part = core.lerp(a, b, core.astype(at - low, ordered.dtype))
        parts.append(core.squeeze(core.where(whole, a, part), -1))
    kept = [1 if i in axes else e for i, e in enumerate(x.shape)] if keepdims else y.shape[:-1]
    if keepdims:
        parts = [core.reshape(p, kept) for p in parts]
    if choices.ndim == 0:
        return _into(parts[0], out)
    result = core.stack(parts, 0) if parts else core.zeros((0, *kept), y.dtype, device=y.device)
    return _into(core.reshape(result, (*choices.shape, *result.shape[1:])), out)


def nanquantile(
    x: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """The q-quantiles of what is not NaN along axes (method "linear"); NaN where nothing is left."""
    return _nanquantile("nanquantile", x, q, axis, out, method, keepdims)


def nanpercentile(
    x: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """`nanquantile` with q from 0 to 100."""
    return _nanquantile("nanpercentile", x, q, axis, out, method, keepdims, 100)


def nanmedian(
    x: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    """The median of what is not NaN; NaN where nothing is left."""
    return _nanquantile("nanmedian", x, 0.5, axis, out, "linear", keepdims)


def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """x with numbers for NaN and the infinities: `nan`, and the largest and smallest of the dtype or those given."""
    from tensorsmith.inspection import finfo

    x = asarray(x)
    if x.dtype.kind == "complex":
        return core.from_parts(
            nan_to_num(core.real(x), True, nan, posinf, neginf),
            nan_to_num(core.imag(x), True, nan, posinf, neginf),
        )
    if x.dtype.kind != "floating":
        return core.copy(x) if copy else x
    limits = finfo(x.dtype)
    y = core.where(core.isnan(x), nan, x)
    y = core.where(core.equal(x, math.inf), limits.max if posinf is None else posinf, y)
    y = core.where(core.equal(x, -math.inf), limits.min if neginf is None else neginf, y)
    return y if copy else core.copy_(x, y)
