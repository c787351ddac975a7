"""Statistics and small numerical tools: differences, quantiles, reductions that skip NaN, interpolation.

NumPy's names and arguments. Gradients are those of the operations they are made of.
"""

from __future__ import annotations

import math
from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.inspection import can_cast, result_type
from tensorsmith.ops import elementwise
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _axis, _integer
from tensorsmith.tensor import Tensor

__all__ = [
    "average", "convolve", "corrcoef", "correlate", "cov", "diff", "ediff1d", "gradient", "interp", "ptp",
    "trapezoid",
]  # fmt: skip


def _floating(x: Any) -> Any:
    """x, with integers and bools in the default float."""
    x = asarray(x)
    return x if x.dtype.kind in ("floating", "complex") else core.astype(x, _core.default_dtype())


def _part(x: Any, axis: int, part: slice) -> Any:
    return x[(slice(None),) * axis + (part,)] if axis else x[part]


def _into(y: Any, out: Any) -> Any:
    return y if out is None else elementwise.store(y, out)


# --- differences ------------------------------------------------------------------------------------


def diff(x: Any, /, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The n-th differences of neighbours along an axis, which is n shorter; of bools, whether they differ.

    prepend, append: put before and after x first; numbers stand for one slice. ValueError for a negative n."""
    x, n = asarray(x), _integer("diff", "n", n)
    if n < 0:
        raise ValueError(f"diff: n must be >= 0, got {n}")
    if n == 0:
        return x
    axis = _axis("diff", axis, x.ndim)
    parts = []
    for piece in (prepend, x, append):
        if piece is None:
            continue
        number = isinstance(piece, (bool, int, float, complex))
        y = asarray(piece, result_type(x, piece) if number else None)
        if y.ndim == 0:
            shape = list(x.shape)
            shape[axis] = 1
            y = core.broadcast_to(y, shape)
        parts.append(y)
    if len(parts) > 1:
        x = core.concat(parts, axis)
    for _ in range(n):
        after, before = _part(x, axis, slice(1, None)), _part(x, axis, slice(None, -1))
        x = core.not_equal(after, before) if x.dtype == "bool" else core.subtract(after, before)
    return x


def ediff1d(x: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """The differences of neighbours in the flattened x, between `to_begin` and `to_end` if given."""
    y = diff(core.reshape(asarray(x), (-1,)))
    for name, p in (("to_begin", to_begin), ("to_end", to_end)):
        if p is not None and not can_cast(asarray(p).dtype, y.dtype, "same_kind"):
            raise TypeError(f"ediff1d: {name} of {asarray(p).dtype} does not become {y.dtype}")
    parts = [
        core.reshape(core.astype(asarray(p), y.dtype, False), (-1,))
        for p in (to_begin, to_end)
        if p is not None
    ]
    if to_begin is not None:
        return core.concat([parts[0], y, *parts[1:]], 0)
    return core.concat([y, *parts], 0) if parts else y


def gradient(x: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """The slope by central differences inside and one-sided ones (of edge_order 1 or 2) at the ends.

    varargs: one distance for all axes, or for each axis a distance or the coordinates. Several axes give a tuple.
    ValueError for an axis with fewer than edge_order + 1 elements."""
    x = _floating(x)
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order must be 1 or 2, got {edge_order}")
    axes = [
        _axis("gradient", a, x.ndim)
        for a in (range(x.ndim) if axis is None else [axis] if hasattr(axis, "__index__") else axis)
    ]
    if len(varargs) not in (0, 1, len(axes)):
        raise ValueError(f"gradient: {len(varargs)} distances for {len(axes)} axes")
    spacing = [1.0] * len(axes) if not varargs else list(varargs) * (len(axes) if len(varargs) == 1 else 1)
    results = tuple(_gradient(x, h, a, edge_order) for h, a in zip(spacing, axes))
    return results[0] if len(results) == 1 else results


def _gradient(x: Any, spacing: Any, axis: int, edge_order: int) -> Any:
    n = x.shape[axis]
    if n < edge_order + 1:
        raise ValueError(
            f"gradient: axis {axis} has {n} elements; edge_order {edge_order} needs {edge_order + 1}"
        )
    x = core.moveaxis(x, axis, -1)
    h = spacing if isinstance(spacing, (int, float)) else asarray(spacing)
    if not isinstance(h, (int, float)) and h.ndim == 0:
        h = float(h)
    inner, last = x[..., 2:], x[..., :-2]
    if isinstance(h, (int, float)):
        middle = (inner - last) / (2.0 * h)
        d1 = d2 = dn1 = dn2 = float(h)
    else:
        if h.shape != (n,):
            raise ValueError(f"gradient: {h.shape} coordinates for axis {axis} of {n} elements")
        d = core.astype(diff(h), x.dtype, False)
        a, b = d[:-1], d[1:]
        middle = inner * (a / (b * (a + b))) + x[..., 1:-1] * ((b - a) / (a * b)) - last * (b / (a * (a + b)))
        d1, dn1 = d[0], d[-1]
        d2, dn2 = (d[1], d[-2]) if n > 2 else (d[0], d[0])
    if edge_order == 1:
        first, end = (x[..., 1:2] - x[..., :1]) / d1, (x[..., -1:] - x[..., -2:-1]) / dn1
    else:
        first = (
            x[..., :1] * (-(2.0 * d1 + d2) / (d1 * (d1 + d2)))
            + x[..., 1:2] * ((d1 + d2) / (d1 * d2))
            - x[..., 2:3] * (d1 / (d2 * (d1 + d2)))
        )
        end = (
            x[..., -3:-2] * (dn1 / (dn2 * (dn1 + dn2)))
            - x[..., -2:-1] * ((dn1 + dn2) / (dn1 * dn2))
            + x[..., -1:] * ((2.0 * dn1 + dn2) / (dn1 * (dn1 + dn2)))
        )
    return core.moveaxis(core.concat([first, middle, end], -1), -1, axis)


def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    """The integral along an axis by the trapezoidal rule, over the coordinates x or steps of dx."""
    y = _floating(y)
    axis = _axis("trapezoid", axis, y.ndim)
    width: Any = dx
    if x is not None:
        x = asarray(x)
        width = diff(x, axis=-1 if x.ndim == 1 else axis)
        if x.ndim == 1:
            shape = [1] * y.ndim
            shape[axis] = width.shape[0]
            width = core.reshape(width, shape)
    both = core.add(_part(y, axis, slice(1, None)), _part(y, axis, slice(None, -1)))
    return core.sum(core.multiply(both, width), axis) * 0.5


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: float | None = None) -> Any:
    """The piecewise linear function through the points (xp, fp), xp ascending, at x; left and right of them the first
    and the last value, or `left` and `right`. period: x and xp are taken modulo it."""
    x, xp, fp = _floating(x), _floating(xp), _floating(fp)
    if xp.ndim != 1 or xp.shape != fp.shape or xp.size == 0:
        raise ValueError(
            f"interp: xp and fp must be 1-D, of one length above 0; got shapes {xp.shape} and {fp.shape}"
        )
    if period is not None:
        if period == 0:
            raise ValueError("interp: period must not be 0")
        period = math.fabs(period)
        x, xp = core.remainder(x, period), core.remainder(xp, period)
        order = core.argsort(xp)
        xp, fp = core.take(xp, order, 0), core.take(fp, order, 0)
        xp = core.concat([xp[-1:] - period, xp, xp[:1] + period], 0)
        fp = core.concat([fp[-1:], fp, fp[:1]], 0)
        left = right = None
    n = xp.shape[0]
    if n == 1:
        y = core.where(core.isnan(x), x, core.broadcast_to(fp, x.shape) if x.ndim else fp[0])
    else:
        place = core.searchsorted(xp, x, True)
        i = core.minimum(core.maximum(core.subtract(place, 1), 0), n - 2)
        x0, f0 = core.take(xp, i, 0), core.take(fp, i, 0)
        x1, f1 = core.take(xp, core.add(i, 1), 0), core.take(fp, core.add(i, 1), 0)
        y = f0 + (f1 - f0) / (x1 - x0) * (x - x0)
        y = core.where(core.equal(x, x1), f1, core.where(core.equal(x, x0), f0, y))
    y = core.where(core.less(x, xp[0]), fp[0] if left is None else left, y)
    return core.where(core.greater(x, xp[-1]), fp[-1] if right is None else right, y)


def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """The convolution of two vectors: sum_j a_j v_(k - j). mode: "full" (M + N - 1 elements), "same" (of the longer) or
    "valid" (where they overlap wholly)."""
    a, v = asarray(a), asarray(v)
    if a.ndim > 1 or v.ndim > 1 or a.size == 0 or v.size == 0:
        raise ValueError(
            f"convolve: two vectors with elements are needed, got shapes {a.shape} and {v.shape}"
        )
    a, v = core.reshape(a, (-1,)), core.reshape(v, (-1,))
    return _slide("convolve", a, v, mode, True)


def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    """The cross-correlation of two vectors: sum_n a_(n + k) conj(v_n); see `convolve` for the modes."""
    a, v = asarray(a), asarray(v)
    if a.ndim > 1 or v.ndim > 1 or a.size == 0 or v.size == 0:
        raise ValueError(
            f"correlate: two vectors with elements are needed, got shapes {a.shape} and {v.shape}"
        )
    a, v = core.reshape(a, (-1,)), core.flip(core.conj(core.reshape(v, (-1,))))
    return _slide("correlate", a, v, mode, False)


def _slide(operation: str, a: Any, v: Any, mode: str, commutes: bool) -> Any:
    """Every sum as a row of windows times the shorter vector."""
    dtype = _core.promote_types(a.dtype, v.dtype)
    a, v = core.astype(a, dtype, False), core.astype(v, dtype, False)
    swapped = v.shape[0] > a.shape[0]
    if swapped:
        a, v = v, a
    n = v.shape[0]
    if mode == "full":
        before = after = n - 1
    elif mode == "same":
        before, after = n // 2, (n - 1) // 2
        if swapped and not commutes:
            before, after = after, before
    elif mode == "valid":
        before = after = 0
    else:
        raise ValueError(f'{operation}: mode must be "full", "same" or "valid", got {mode!r}')
    wide = core.contiguous(core.pad_constant(a, [before], [after]))
    windows = _windows(wide, n)
    return core.matmul(windows, core.flip(v))


def _windows(x: Any, n: int) -> Any:
    """All runs of n neighbours, (x.size - n + 1, n): a view where no gradient flows, else gathered."""
    count = x.shape[0] - n + 1
    if not x.requires_grad:
        return core.as_strided(x, (count, n), (1, 1))
    places = core.add(
        core.reshape(core.arange(count, device=x.device), (-1, 1)), core.arange(n, device=x.device)
    )
    return core.take(x, places, 0)


# --- means and spreads --------------------------------------------------------------------------------


def average(
    x: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False
) -> Any:
    """The mean, or with weights sum w x / sum w. returned: also the sum of the weights.

    weights: x's shape, or one axis's. ZeroDivisionError if they add up to 0."""
    x = asarray(x)
    if weights is None:
        y = core.mean(x, axis, None, keepdims)
        if not returned:
            return y
        return y, core.full_like(y, x.size / max(y.size, 1))
    w = asarray(weights)
    if w.shape != x.shape:
        if not hasattr(axis, "__index__") or w.ndim != 1 or w.shape[0] != x.shape[axis]:
            raise ValueError(
                f"average: weights of shape {w.shape} fit neither x of shape {x.shape} nor axis {axis}"
            )
        extents = [1] * x.ndim
        extents[axis] = w.shape[0]
        w = core.broadcast_to(core.reshape(w, extents), x.shape)
    x, w = _floating(x), _floating(w)
    total = core.sum(w, axis, None, keepdims)
    if core.any(core.equal(total, 0)):
        raise ZeroDivisionError("average: the weights add up to 0")
    y = core.sum(core.multiply(x, w), axis, None, keepdims) / total
    return (y, core.broadcast_to(total, y.shape)) if returned else y


def ptp(x: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    """The largest element minus the smallest along axes."""
    return _into(
        core.subtract(core.max(asarray(x), axis, keepdims), core.min(asarray(x), axis, keepdims)), out
    )


def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: float | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """The covariances of variables: the rows of m (and of y), or with rowvar=False the columns.

    Divided by N - 1, by N with bias, or by N - ddof.
    fweights: how often each observation counts, integers    aweights: how much each counts. (N,) and not negative"""
    rows = _variables(m, rowvar)
    if y is not None:
        rows = core.concat([rows, _variables(y, rowvar)], 0)
    if dtype is None:
        rows = core.astype(rows, _core.promote_types(rows.dtype, _core.default_dtype()), False)
    else:
        rows = core.astype(rows, dtype, False)
    n = rows.shape[1]
    ddof = float(not bias if ddof is None else ddof)
    weights = _observation_weights(n, fweights, aweights)
    if weights is None:
        centred, divisor = rows - core.mean(rows, 1, None, True), n - ddof
        weighted = centred
    else:
        total = core.sum(weights)
        if bool(core.equal(total, 0)):
            raise ZeroDivisionError("cov: the weights must not sum to 0")
        centred = rows - core.matmul(rows, core.astype(weights, rows.dtype, False))[:, None] / total
        weighted = centred * weights
        square = 1.0 if aweights is None else core.sum(weights * asarray(aweights)) / total
        divisor = total - square * ddof
    product = core.matmul(weighted, core.conj(core.matrix_transpose(centred)))
    # Without a degree of freedom: infinities and NaN, as NumPy's.
    y = core.squeeze(product / core.maximum(divisor, 0))
    return y if dtype is None else core.astype(y, dtype, False)


def _observation_weights(n: int, fweights: Any, aweights: Any) -> Any:
    """The product of both, or None."""
    weights = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        w = asarray(given)
        if name == "fweights" and w.dtype.kind not in ("signed", "unsigned"):
            raise TypeError(f"cov: fweights must be integers, got {w.dtype}")
        if w.shape != (n,):
            raise ValueError(f"cov: {name} must have shape ({n},), got {w.shape}")
        if bool(core.any(core.less(w, 0))):
            raise ValueError(f"cov: {name} must not be negative")
        w = _floating(w)
        weights = w if weights is None else weights * w
    return weights


def _variables(m: Any, rowvar: bool) -> Any:
    m = _floating(m)
    if m.ndim > 2:
        raise ValueError(f"cov: at most 2 dimensions, got shape {m.shape}")
    if m.ndim < 2:
        return core.reshape(m, (1, -1))
    return m if rowvar else core.matrix_transpose(m)


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """The correlation coefficients of variables; see `cov`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = core.sqrt(core.getitem(core.reshape(core.real(c), (-1,)), slice(None, None, c.shape[0] + 1)))
    return c / core.reshape(deviation, (-1, 1)) / deviation


Tensor.ptp = ptp  # type: ignore[attr-defined]
