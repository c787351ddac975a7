"""Polynomials by their coefficients, the highest power first, with the gradients of what they are made of."""

from __future__ import annotations

from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.inspection import finfo
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _integer
from tensorsmith.ops.statistics import convolve

__all__ = [
    "poly", "polyadd", "polyder", "polydiv", "polyfit", "polyint", "polymul", "polysub", "polyval", "roots",
]  # fmt: skip


def _floating(x: Any) -> Any:
    """x, with integers and bools in the default float."""
    x = asarray(x)
    return x if x.dtype.kind in ("floating", "complex") else core.astype(x, _core.default_dtype())


def _coefficients(operation: str, p: Any) -> Any:
    p = asarray(p)
    if p.ndim > 1:
        raise ValueError(f"{operation}: coefficients are a vector, got shape {p.shape}")
    return core.reshape(p, (-1,))


def _stripped(p: Any) -> Any:
    """Without the zeros before the first coefficient; of 0 itself, one."""
    places = core.nonzero_flat(core.not_equal(p, 0))
    return p[int(places[0]) :] if places.size else p[:1]


def polyval(p: Any, x: Any) -> Any:
    """The polynomial with the coefficients p, the highest power first, at x (Horner)."""
    p, x = asarray(p), asarray(x)
    if p.ndim == 0:
        raise ValueError("polyval: p must hold coefficients along its first axis, got shape ()")
    y = core.multiply(x, 0)
    for i in range(p.shape[0]):
        y = core.add(core.multiply(y, x), core.getitem(p, i))
    return y


def polyfit(
    x: Any, y: Any, deg: int, rcond: float | None = None, full: bool = False, w: Any = None, cov: bool | str = False
) -> Any:  # fmt: skip
    """The coefficients, the highest power first, of the polynomial of degree `deg` that is nearest to (x, y) in least
    squares.

    x: (M,)    y: (M,) or (M, K)    w: (M,), factors of the residuals    returns: (deg + 1,) or (deg + 1, K)
    rcond: singular values up to rcond (M eps) times the largest count as 0
    full: also the sums of squared residuals, the rank, the singular values of the scaled powers, and rcond
    cov: also the coefficients' covariances (deg + 1, deg + 1) or (deg + 1, deg + 1, K), estimated from the residuals,
    or with "unscaled" for weights that are 1 / standard deviation; ValueError where M <= deg + 1."""
    from tensorsmith.ops.linalg import lstsq, pinv

    x, y = _floating(x), _floating(y)
    if x.ndim != 1 or x.size == 0 or y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ValueError(
            f"polyfit: x of shape {x.shape} and y of shape {y.shape} are not (M,) and (M,) or (M, K)"
        )
    deg = _integer("polyfit", "deg", deg)
    if deg < 0:
        raise ValueError(f"polyfit: deg must be >= 0, got {deg}")
    powers = core.stack([core.power(x, k) for k in range(deg, -1, -1)], 1)
    if w is not None:
        w = _floating(w)
        if w.shape != x.shape:
            raise ValueError(f"polyfit: w must have the shape of x, {x.shape}, got {w.shape}")
        powers = core.multiply(powers, core.expand_dims(w, 1))
        y = core.multiply(y, w if y.ndim == 1 else core.expand_dims(w, 1))
    scale = core.sqrt(core.sum(core.square(powers), 0))
    if rcond is None:
        rcond = x.shape[0] * float(finfo(x.dtype).eps)
    elif not hasattr(rcond, "__float__"):
        raise TypeError(f"polyfit: rcond must be a number or None, got {rcond!r}")
    if full:
        fit = lstsq(core.divide(powers, scale), y, rcond)
        found = core.divide(fit.x, scale if y.ndim == 1 else core.expand_dims(scale, 1))
        return found, fit.residuals, fit.rank, fit.s, rcond
    inverse = core.divide(pinv(core.divide(powers, scale), rtol=rcond), core.expand_dims(scale, 1))
    found = core.matmul(inverse, y)
    if not cov:
        return found
    spread = core.matmul(inverse, core.matrix_transpose(inverse))
    if cov == "unscaled":
        return found, spread
    left = x.shape[0] - (deg + 1)
    if left <= 0:
        raise ValueError(f"polyfit: {x.shape[0]} points are too few to estimate covariances of degree {deg}")
    residual = core.sum(core.square(core.absolute(core.subtract(core.matmul(powers, found), y))), 0) / left
    return found, core.multiply(spread if y.ndim == 1 else core.expand_dims(spread, 2), residual)


def roots(p: Any) -> Any:
    """The zeros of the polynomial with the coefficients p, the highest power first: its companion's eigenvalues; real
    where all of them are."""
    from tensorsmith.ops.linalg import eigvals

    p = _floating(p)
    if p.ndim != 1:
        raise ValueError(f"roots: p must be a vector, got shape {p.shape}")
    places = core.nonzero_flat(core.not_equal(p, 0)).tolist()
    if not places:
        return core.zeros((0,), p.dtype, device=p.device)
    zeros_at_end = p.shape[0] - 1 - places[-1]
    p = core.getitem(p, slice(places[0], places[-1] + 1))
    n = p.shape[0] - 1
    if n:
        top = core.reshape(core.divide(-core.getitem(p, slice(1, None)), core.getitem(p, 0)), (1, n))
        found = eigvals(core.concat([top, core.eye(n - 1, n, 0, p.dtype, device=p.device)], 0))
    else:
        found = core.zeros((0,), p.dtype, device=p.device)
    if found.dtype.kind == "complex" and p.dtype.kind != "complex" and not bool(core.any(core.imag(found))):
        found = core.real(found)
    return core.concat([found, core.zeros((zeros_at_end,), found.dtype, device=found.device)], 0)


def poly(zeros: Any) -> Any:
    """The coefficients of the polynomial with these zeros (N,), or the characteristic one of a matrix (N, N): (N + 1,),
    the first is 1. Zeros in conjugate pairs make it real."""
    from tensorsmith.ops.linalg import eigvals

    zeros = _floating(zeros)
    if zeros.ndim == 2 and zeros.shape[0] == zeros.shape[1] and zeros.size:
        zeros = eigvals(zeros)
    elif zeros.ndim > 1:
        raise ValueError(f"poly: a vector or a square matrix is needed, got shape {zeros.shape}")
    zeros = core.reshape(zeros, (-1,))
    y = core.ones((1,), zeros.dtype, device=zeros.device)
    none = core.zeros((1,), zeros.dtype, device=zeros.device)
    for i in range(zeros.shape[0]):
        y = core.subtract(core.concat([y, none], 0), core.concat([none, core.multiply(y, zeros[i])], 0))
    if y.dtype.kind == "complex":
        above, below = zeros[core.greater(core.imag(zeros), 0)], zeros[core.less(core.imag(zeros), 0)]
        if above.shape == below.shape and bool(
            core.all(core.equal(_ordered(above), _ordered(core.conj(below))))
        ):
            y = core.real(y)
    return y


def _ordered(z: Any) -> Any:
    from tensorsmith.ops.sort import sort

    return sort(z) if z.size else z


def _aligned(operation: str, a: Any, b: Any) -> tuple[Any, Any]:
    a, b = _coefficients(operation, a), _coefficients(operation, b)
    n = max(a.shape[0], b.shape[0])
    return core.pad_constant(a, [n - a.shape[0]], [0]), core.pad_constant(b, [n - b.shape[0]], [0])


def polyadd(a: Any, b: Any) -> Any:
    """The coefficients of the sum."""
    return core.add(*_aligned("polyadd", a, b))


def polysub(a: Any, b: Any) -> Any:
    """The coefficients of the difference."""
    return core.subtract(*_aligned("polysub", a, b))


def polymul(a: Any, b: Any) -> Any:
    """The coefficients of the product, without zeros before the first."""
    return convolve(_stripped(_coefficients("polymul", a)), _stripped(_coefficients("polymul", b)))


def polydiv(u: Any, v: Any) -> tuple[Any, Any]:
    """Quotient and remainder: u = quotient v + remainder. ZeroDivisionError where v begins with 0."""
    u, v = _coefficients("polydiv", _floating(u)), _coefficients("polydiv", _floating(v))
    if v.size == 0 or not bool(core.not_equal(v[0], 0)):
        raise ZeroDivisionError("polydiv: the first coefficient of the divisor must not be 0")
    dtype = _core.promote_types(u.dtype, v.dtype)
    rest, v = core.astype(u, dtype, False), core.astype(v, dtype, False)
    m, n = u.shape[0], v.shape[0]
    quotient = []
    for k in range(m - n + 1):
        factor = core.divide(rest[k], v[0])
        quotient.append(factor)
        rest = core.subtract(rest, core.pad_constant(core.multiply(v, factor), [k], [m - n - k]))
    y = core.stack(quotient, 0) if quotient else core.zeros((1,), dtype, device=u.device)
    if quotient:
        rest = rest[m - n + 1 :] if n > 1 else rest[-1:] * 0
    small = 1e-8  # what is left of rounding, as numpy.polydiv drops it
    while rest.shape[0] > 1 and bool(core.less_equal(core.absolute(rest[0]), small)):
        rest = rest[1:]
    return y, rest


def polyder(p: Any, m: int = 1) -> Any:
    """The coefficients of the m-th derivative."""
    p, m = _coefficients("polyder", p), _integer("polyder", "m", m)
    if m < 0:
        raise ValueError(f"polyder: m must be >= 0, got {m}")
    for _ in range(m):
        n = p.shape[0] - 1
        p = core.multiply(p[:-1], core.arange(n, 0, -1, device=p.device)) if n > 0 else p[:0]
    return p


def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """The coefficients of the m-th integral; k: the constants of integration, one or m of them (0)."""
    p, m = _coefficients("polyint", _floating(p)), _integer("polyint", "m", m)
    if m < 0:
        raise ValueError(f"polyint: m must be >= 0, got {m}")
    constants = core.reshape(asarray(0 if k is None else k), (-1,))
    if constants.shape[0] not in (1, m):
        raise ValueError(f"polyint: k must hold 1 or {m} constants, got {constants.shape[0]}")
    for i in range(m):
        constant = core.astype(constants[i % constants.shape[0]], p.dtype, False)
        powers = core.arange(p.shape[0], 0, -1, _core.default_dtype(), p.device)
        p = core.concat([core.divide(p, powers), core.reshape(constant, (1,))], 0)
    return p
