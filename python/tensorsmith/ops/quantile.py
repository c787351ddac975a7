"""Quantiles along axes: of each row the elements at the places between which they lie."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.halves import is_half, widened
from tensorsmith.ops.manipulate import _axis, _is_index, _sequence
from tensorsmith.ops.statistics import _floating, _into
from tensorsmith.tensor import Tensor

__all__ = [
    "median", "percentile", "quantile",
]  # fmt: skip

# How a quantile between two elements is taken: (a, b) of the virtual index n q + a + q (1 - a - b) - 1.
_CONTINUOUS = {
    "linear": (1.0, 1.0),
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}
_ELEMENTS = (
    "inverted_cdf",
    "closest_observation",
    "lower",
    "higher",
    "nearest",
)  # what they give are elements
_BETWEEN = ("averaged_inverted_cdf", "midpoint", *_ELEMENTS)


def _axes_last(operation: str, x: Any, axis: Any) -> tuple[Any, list[int]]:
    """x with the axes to be reduced joined at the end, and which they were."""
    if x.ndim == 1 and axis in (None, 0, -1):
        return x, [0]
    axes = list(range(x.ndim)) if axis is None else [axis] if _is_index(axis) else axis
    axes = _sequence(operation, "axis", axes, "an integer or several")
    axes = [_axis(operation, a, x.ndim) for a in axes]
    if len(set(axes)) != len(axes):
        raise ValueError(f"{operation}: axis {axis} names an axis twice")
    rest = [a for a in range(x.ndim) if a not in axes]
    y = core.permute_dims(x, [*rest, *axes])
    return core.reshape(y, (*(x.shape[a] for a in rest), math.prod(x.shape[a] for a in axes))), axes


def _positions(q: float, n: int, method: str) -> tuple[int, int, float]:
    """Between which of n sorted elements the quantile q lies, and how far."""
    if method in ("inverted_cdf", "averaged_inverted_cdf", "closest_observation"):
        return _steps(q, n, method)
    if method in _CONTINUOUS:
        a, b = _CONTINUOUS[method]
        at = n * q + (a + q * (1 - a - b)) - 1 if method != "linear" else (n - 1) * q
    else:
        at = (n - 1) * q
    at = min(max(at, 0.0), n - 1.0)
    low = math.floor(at)
    high = min(low + 1, n - 1)
    part = at - low
    if method == "lower":
        return low, low, 0.0
    if method == "higher":
        return math.ceil(at), math.ceil(at), 0.0
    if method == "nearest":
        k = low + (1 if part > 0.5 or (part == 0.5 and low % 2) else 0)
        return k, k, 0.0
    if method == "midpoint":
        return low, high if part else low, 0.5 if part else 0.0
    return low, high, part


def _steps(q: float, n: int, method: str) -> tuple[int, int, float]:
    """`_positions` of the methods that invert the empirical distribution, a staircase."""
    at = n * q - (1.5 if method == "closest_observation" else 1.0)
    low = math.floor(at)
    whole = at == low and (method != "closest_observation" or low % 2 == 1)
    if method == "averaged_inverted_cdf" and whole and 0 <= low < n - 1:
        return low, low + 1, 0.5
    k = min(max(low if whole else low + 1, 0), n - 1)
    return k, k, 0.0


@functools.lru_cache(maxsize=256)
def _kept(places: tuple[int, ...]) -> Any:
    return asarray(places, "int64", device="cpu")


def _tensor_of(places: list[int], device: str) -> Any:
    """The places as a tensor; what a recording makes is the recording's."""
    if device == "cpu" and not _core.capturing():
        return _kept(tuple(places))
    return asarray(places, "int64", device=device)


def _at_places(x: Any, places: list[int]) -> dict[int, Any]:
    """What a sort of x along its last axis puts at these places, which ascend; NaN where there is one."""
    if x.dtype in ("float32", "float64") and x.device == "cpu":
        found = core.order_statistics(x, _tensor_of(places, "cpu"))
    else:
        ordered = core.sort(x, -1, False)
        found = core.take(ordered, _tensor_of(places, x.device), -1)
        if x.dtype.kind == "floating":
            found = core.where(core.isnan(ordered[..., -1:]), math.nan, found)
    if len(places) == 1:
        return {places[0]: core.squeeze(found, -1)}
    return {place: found[..., i] for i, place in enumerate(places)}


def middle(a: Any, b: Any) -> Any:
    """The mean of two, which two infinities of one sign have as well."""
    if is_half(a):
        return core.astype(middle(*widened(a, b)), a.dtype)
    return core.multiply(core.add(a, b), 0.5)


def _quantile(
    operation: str, x: Any, q: Any, axis: Any, out: Any, method: str, keepdims: bool, percent: bool = False
) -> Any:
    if method not in _CONTINUOUS and method not in _BETWEEN:
        raise ValueError(f"{operation}: method must be one of {[*_CONTINUOUS, *_BETWEEN]}, got {method!r}")
    x = asarray(x)
    if x.dtype.kind == "complex":
        raise TypeError(f"{operation}: x is complex; a real dtype is needed")
    try:
        choices = np.asarray(q.detach().cpu().numpy() if isinstance(q, Tensor) else q, "float64")
    except (TypeError, ValueError):
        raise TypeError(f"{operation}: q must be a number or an array of numbers, got {q!r}") from None
    shape, values = choices.shape, choices.ravel().tolist()
    most = 100 if percent else 1
    if any(not 0 <= v <= most for v in values):
        raise ValueError(f"{operation}: q must be from 0 to {most}, got {q}")
    if percent:
        values = [v / 100 for v in values]
    y, axes = _axes_last(operation, x if method in _ELEMENTS else _floating(x), axis)
    n = y.shape[-1]
    if n == 0:
        raise ValueError(f"{operation}: an empty input has no quantiles: x has shape {x.shape}")
    between = [_positions(v, n, method) for v in values]
    found = _at_places(y, sorted({k for low, high, _ in between for k in (low, high)})) if between else {}
    if operation == "median":
        parts = [middle(found[low], found[high]) if weight else found[low] for low, high, weight in between]
    else:
        parts = [
            core.lerp(found[low], found[high], weight) if weight else found[low]
            for low, high, weight in between
        ]
    kept = [1 if i in axes else e for i, e in enumerate(x.shape)] if keepdims else y.shape[:-1]
    if keepdims:
        parts = [core.reshape(p, kept) for p in parts]
    if not shape:
        return _into(parts[0], out)
    result = core.stack(parts, 0) if parts else core.zeros((0, *kept), y.dtype, device=y.device)
    return _into(core.reshape(result, (*shape, *result.shape[1:])), out)


def quantile(
    x: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """The q-quantiles along axes, 0 <= q <= 1; NaN where an element is. Several q make the first axis of the result.

    method: "linear" or another of NumPy's. "lower", "higher", "nearest", "inverted_cdf" and "closest_observation" give
    elements, in x's dtype.
    ValueError for q outside [0, 1], another method, or nothing to choose from."""
    return _quantile("quantile", x, q, axis, out, method, keepdims)


def percentile(
    x: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """`quantile` with q from 0 to 100."""
    return _quantile("percentile", x, q, axis, out, method, keepdims, percent=True)


def median(
    x: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    """The middle element along axes, or the mean of the middle two; NaN where an element is, and of nothing."""
    x = asarray(x)
    if x.size == 0:
        return _into(core.mean(_floating(x), axis, None, keepdims), out)
    return _quantile("median", x, 0.5, axis, out, "linear", keepdims)
