"""Histograms of one and more dimensions. They carry no gradient but through weights."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorsmith._core import default_dtype
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.dtypes import float64
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _is_index
from tensorsmith.tensor import Tensor

if TYPE_CHECKING:
    from tensorsmith.dtypes import DType

__all__ = ["histogram", "histogram2d", "histogram_bin_edges", "histogramdd"]

define(core.histogram_counts, "How many elements lie between neighbouring edges.")


def _limits(operation: str, x: Tensor, range: Any) -> tuple[float, float]:
    """Where the bins begin and end."""
    if range is not None:
        try:
            low, high = map(float, range)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{operation}: range must be two numbers, got {range!r}") from None
    elif x.size == 0:
        low, high = 0.0, 1.0
    else:
        low, high = float(core.min(x)), float(core.max(x))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{operation}: the range from {low} to {high} is not finite")
    if low > high:
        raise ValueError(f"{operation}: range must be ascending, got {low} to {high}")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return low, high


def _edges(operation: str, x: Tensor, bins: int, range: Any, dtype: DType) -> Tensor:
    if bins < 1:
        raise ValueError(f"{operation}: bins must be >= 1, got {bins}")
    low, high = _limits(operation, x, range)
    step = (high - low) / bins
    try:
        i = np.arange(1, bins)
        inner = low + step * i if math.isfinite(step) else low * ((bins - i) / bins) + high * (i / bins)
    except (MemoryError, OverflowError, ValueError):
        raise ValueError(f"{operation}: {bins} bins are more than the memory holds") from None
    kind = {"float64": np.float64, "float16": np.float16}.get(dtype.name, np.float32)
    with np.errstate(over="ignore"):
        first, last = kind(low), kind(high)
    if not (np.isfinite(first) and np.isfinite(last) and first < last):
        raise ValueError(f"{operation}: {dtype} has no bins from {low} to {high}")
    return asarray(np.concatenate([[low], inner, [high]]), dtype=dtype, device=x.device)


def _counted_in(x: Tensor) -> DType:
    """The dtype in which numbers meet edges: float64 for integers, which the default float does not tell apart."""
    return x.dtype if x.dtype.kind == "floating" else float64


_RULES = ("auto", "doane", "fd", "rice", "scott", "sqrt", "stone", "sturges")


def _width(rule: str, x: Tensor, limits: tuple[float, float]) -> float:
    """How wide a rule makes the bins of float64 x between the limits; 0 where it has none.

    sqrt, Sturges (1926), Doane (1976), Scott (1979), Freedman and Diaconis (1981, "fd"), Rice, and Stone (1984), whose
    least estimate of the risk is looked for. auto: Freedman and Diaconis', but at least half of sqrt's and at most
    Sturges'."""
    from tensorsmith.ops.quantile import percentile

    n, spread = x.size, float(core.subtract(core.max(x), core.min(x)))
    if rule == "auto":
        return min(max(_width("fd", x, limits), _width("sqrt", x, limits) / 2), _width("sturges", x, limits))
    if rule == "fd":
        low, high = percentile(x, [25, 75]).tolist()
        return float(2 * (high - low) / n ** (1 / 3))
    if rule == "scott":
        return float((24 * math.sqrt(math.pi) / n) ** (1 / 3) * math.sqrt(float(core.var(x))))
    if rule == "doane":
        deviation = math.sqrt(float(core.var(x)))
        if n <= 2 or deviation == 0:
            return 0.0
        skew = float(core.mean(core.power(core.divide(core.subtract(x, core.mean(x)), deviation), 3)))
        usual = math.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)))
        return spread / (1 + math.log2(n) + math.log2(1 + abs(skew) / usual))
    if rule == "stone":
        return _least_risk(x, spread, limits)
    divisor = {"sqrt": math.sqrt(n), "rice": 2 * n ** (1 / 3), "sturges": math.log2(n) + 1}
    return spread / divisor[rule]


def _least_risk(x: Tensor, spread: float, limits: tuple[float, float]) -> float:
    n = x.size
    if n <= 1 or spread == 0:
        return 0.0

    def risk(bins: int) -> float:
        share = core.divide(core.astype(histogram(x, bins, limits)[0], "float64"), n)
        return float((2 - (n + 1) * float(core.sum(core.square(share)))) * bins / spread)

    return spread / min(builtins.range(1, max(100, math.isqrt(n)) + 1), key=risk)


def _by_rule(operation: str, x: Tensor, bins: Any, range: Any, weights: Any) -> Any:
    """The number of bins where `bins` names a rule; else `bins`."""
    if not isinstance(bins, str):
        return bins
    if bins not in _RULES:
        raise ValueError(f"{operation}: bins must be a number, edges or one of {list(_RULES)}, got {bins!r}")
    if weights is not None:
        raise TypeError(f"{operation}: bins={bins!r} knows no weights; give the number of bins")
    low, high = _limits(operation, x, range)
    flat = core.astype(core.reshape(x.detach(), (-1,)), "float64")
    if range is not None:
        flat = flat[core.logical_and(core.greater_equal(flat, low), core.less_equal(flat, high))]
    width = _width(bins, flat, (low, high)) if flat.size else 0.0
    if width and x.dtype.kind in ("signed", "unsigned"):
        width = max(width, 1.0)
    count = (high - low) / width if width else 1
    if not math.isfinite(count):
        raise ValueError(f"{operation}: the rule {bins!r} asks for more bins than there are numbers")
    return math.ceil(count)


def _bins(operation: str, x: Tensor, bins: Any, range: Any) -> tuple[Tensor, bool]:
    """The edges, and whether the bins are equally wide."""
    if isinstance(bins, str):
        raise ValueError(f"{operation}: bins must be a number of bins or their edges, got {bins!r}")
    dtype = _counted_in(x)
    if _is_index(bins):
        return _edges(operation, x, int(bins), range, dtype), True
    edges = asarray(bins, device=x.device)
    if edges.dtype.kind == "floating" and not hasattr(bins, "dtype"):  # Python's, in full
        edges = asarray(bins, dtype, device=x.device)
    if edges.ndim != 1:
        raise ValueError(f"{operation}: edges must be 1-D, got shape {edges.shape}")
    if edges.shape[0] < 2:
        raise ValueError(f"{operation}: there must be at least two edges, got {edges.shape[0]}")
    if not bool(core.all(core.greater_equal(edges[1:], edges[:-1]))):
        raise ValueError(f"{operation}: the edges must ascend, without NaN")
    return edges, False


def histogram_bin_edges(
    x: Any, bins: Any = 10, range: tuple[float, float] | None = None, weights: Any = None
) -> Tensor:
    """The edges that `histogram` takes."""
    x = asarray(x)
    bins = _by_rule("histogram_bin_edges", x, bins, range, weights)
    return _bins("histogram_bin_edges", x, bins, range)[0]


def histogram(
    x: Any,
    bins: int | Any = 10,
    range: tuple[float, float] | None = None,
    density: bool = False,
    weights: Any = None,
) -> tuple[Tensor, Tensor]:
    """How many elements of x fall into each bin, and the edges of the bins, as numpy.histogram.

    bins:    a number of equal bins over `range` (by default from min to max), ascending edges (B + 1), or the rule that
             chooses the number: "auto", "doane", "fd", "rice", "scott", "sqrt", "stone" or "sturges"
    density: divided by the total and the bin widths, so that the integral is 1
    weights: of x's shape: their sum in each bin, added in order, in place of int64 counts

    Bins are half open, the last one closed; their edges are of x's dtype, of integers in float64. ValueError for edges
    that descend, a range that is not finite or too narrow for x's dtype.
    """
    x = asarray(x)
    bins = _by_rule("histogram", x, bins, range, weights)
    given, uniform = _bins("histogram", x, bins, range)
    edges, dtype = given, _counted_in(x)
    whole = x.dtype.kind != "floating" and given.dtype.kind in ("signed", "unsigned")
    if not whole:  # integers among integers stay what they are
        edges = core.astype(given, dtype, False)
    if weights is None and not whole:
        counts = core.histogram_counts(core.astype(x, dtype, False), edges, uniform)
    else:
        flat = core.reshape(x if whole else core.astype(x, dtype, False), (-1,))
        place = core.searchsorted(edges[:-1], flat, True)  # 0 and, above the last edge, B + 1 are outside
        above = core.greater(flat, edges[-1])
        if not whole:
            above = core.logical_or(above, core.isnan(flat))
        place = core.where(above, edges.size, place)
        if weights is None:
            counts = core.bincount(place, edges.size + 1)[1:-1]
        else:
            counts = _weighed(x, weights, place, edges.size + 1)[1:-1]
    if density:
        widths = core.subtract(edges[1:], edges[:-1])
        counts = core.divide(core.divide(counts, core.sum(counts)), widths)
    return counts, given


def _weighed(x: Tensor, weights: Any, place: Tensor, count: int) -> Tensor:
    """The sums of weights at every place."""
    weights = asarray(weights)
    if x.shape != weights.shape:
        raise ValueError(f"histogram: weights must have the shape of x, {x.shape}, got {weights.shape}")
    weights = core.reshape(weights, (-1,))
    if weights.dtype.kind not in ("signed", "unsigned", "floating"):
        weights = core.astype(weights, x.dtype if x.dtype.kind == "floating" else default_dtype())
    return core.index_add(core.zeros((count,), weights.dtype, device=weights.device), 0, place, weights)


def histogramdd(
    sample: Any,
    bins: Any = 10,
    range: Sequence[Any] | None = None,
    density: bool = False,
    weights: Any = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """How many points fall into each cell of a grid, in the default float, and the edges along each axis.

    sample:  (N, D), or D vectors of N    bins: a number, or for each axis a number or edges    range: one for each axis
    density: divided by the total and the cells' volumes
    weights: (N,): their sums in place of counts

    Bins are half open, the last one closed, as `histogram`'s. ValueError where the arguments do not fit D.
    """
    columns = _columns(sample)
    d = len(columns)
    each = list(bins) if isinstance(bins, (list, tuple)) else [bins] * d
    ranges = [None] * d if range is None else list(range)
    for name, given in (("bins", each), ("range", ranges)):
        if len(given) != d:
            raise ValueError(f"histogramdd: {len(given)} {name} for {d} dimensions")
    edges: list[Tensor] = []
    cell: Any = None
    inside: Any = None
    for x, one, span in zip(columns, each, ranges):
        along, _ = _bins("histogramdd", x, one, span)
        n = along.shape[0] - 1
        place = core.subtract(core.searchsorted(along, x, True), 1)
        place = core.where(core.equal(x, along[-1]), n - 1, place)
        fits = core.logical_and(core.greater_equal(place, 0), core.less(place, n))
        place = core.where(fits, place, 0)
        cell = place if cell is None else core.add(core.multiply(cell, n), place)
        inside = fits if inside is None else core.logical_and(inside, fits)
        edges.append(along)
    shape = [along.shape[0] - 1 for along in edges]
    if weights is None:
        counts = core.astype(core.bincount(cell[inside], math.prod(shape)), default_dtype())
    else:
        weights = asarray(weights)
        if weights.shape != columns[0].shape:
            raise ValueError(f"histogramdd: weights must have shape {columns[0].shape}, got {weights.shape}")
        weights = weights if weights.dtype.kind == "floating" else core.astype(weights, default_dtype())
        zeros = core.zeros((math.prod(shape),), weights.dtype, device=weights.device)
        counts = core.index_add(zeros, 0, cell[inside], weights[inside])
    counts = core.reshape(counts, shape)
    if density:
        counts = core.divide(counts, core.sum(counts))
        for axis, along in enumerate(edges):
            widths = core.astype(core.subtract(along[1:], along[:-1]), counts.dtype, False)
            counts = core.divide(
                counts, core.reshape(widths, [-1 if i == axis else 1 for i in builtins.range(d)])
            )
    return counts, tuple(edges)


def _columns(sample: Any) -> list[Tensor]:
    if isinstance(sample, (list, tuple)):
        columns = [asarray(x) for x in sample]
        columns = [core.reshape(x, (-1,)) if x.ndim == 0 else x for x in columns]
    else:
        x = asarray(sample)
        if x.ndim > 2:
            raise ValueError(f"histogramdd: sample must be (N, D) or D vectors of N, got shape {x.shape}")
        x = x if x.ndim == 2 else core.reshape(x, (-1, 1))
        columns = [x[:, i] for i in builtins.range(x.shape[1])]
    if not columns or columns[0].ndim != 1 or any(c.shape != columns[0].shape for c in columns):
        raise ValueError(
            f"histogramdd: vectors of one length are needed, got shapes {[c.shape for c in columns]}"
        )
    return columns


def histogram2d(
    x: Any,
    y: Any,
    bins: Any = 10,
    range: Sequence[Any] | None = None,
    density: bool = False,
    weights: Any = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """How many of the points (x, y) fall into each cell, (bins of x, bins of y), and the edges of both.

    bins: a number or edges for both, or a pair of them; see `histogramdd`."""
    pair = isinstance(bins, (list, tuple)) and len(bins) == 2
    counts, (along_x, along_y) = histogramdd([x, y], bins if pair else [bins, bins], range, density, weights)
    return counts, along_x, along_y
