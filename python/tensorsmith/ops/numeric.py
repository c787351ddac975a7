"""Pointwise functions and small numerical tools of NumPy's that are put together from others, gradients and all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.ops import elementwise
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _axis
from tensorsmith.tensor import Tensor

__all__ = [
    "around", "bartlett", "blackman", "cbrt", "deg2rad", "degrees", "divmod", "fix", "float_power", "fmax", "fmin",
    "fmod", "gcd", "hamming", "hanning", "heaviside", "iscomplex", "isneginf", "isposinf", "isreal", "lcm", "ldexp",
    "logaddexp2", "matvec", "modf", "polyfit", "polyval", "rad2deg", "radians", "roots", "sinc", "unwrap", "vecmat",
]  # fmt: skip


def _floating(x: Any) -> Any:
    x = asarray(x)
    return x if x.dtype.kind in ("floating", "complex") else core.astype(x, _core.default_dtype())


# --- pointwise --------------------------------------------------------------------------------------------


around = elementwise.round
fix = elementwise.trunc


def divmod(a: Any, b: Any, /) -> tuple[Any, Any]:
    """(a // b, a % b)."""
    return core.floor_divide(a, b), core.remainder(a, b)


def fmod(a: Any, b: Any, /) -> Any:
    """The remainder of a / b with the sign of a, as C's; exact. ZeroDivisionError for an integer 0 in b."""
    a, b = asarray(a), asarray(b)
    rest = core.remainder(core.absolute(a), core.absolute(b))
    return (
        core.copysign(rest, a) if rest.dtype.kind == "floating" else core.where(core.less(a, 0), -rest, rest)
    )


def modf(x: Any, /) -> tuple[Any, Any]:
    """The fractional and the integer part, both with the sign of x."""
    x = _floating(x)
    whole = core.trunc(x)
    return core.copysign(core.where(core.isinf(x), 0.0, core.subtract(x, whole)), x), whole


def ldexp(x: Any, exponent: Any, /) -> Any:
    """x 2^exponent."""
    x, exponent = _floating(x), asarray(exponent)
    half = core.floor_divide(exponent, 2)  # in two steps: 2^exponent alone may overflow
    power = (
        core.exp2(core.astype(half, x.dtype)),
        core.exp2(core.astype(core.subtract(exponent, half), x.dtype)),
    )
    return core.multiply(core.multiply(x, power[0]), power[1])


def fmax(a: Any, b: Any, /) -> Any:
    """The larger of a and b, where one is NaN the other."""
    a, b = asarray(a), asarray(b)
    return core.where(core.isnan(a), b, core.where(core.isnan(b), a, core.maximum(a, b)))


def fmin(a: Any, b: Any, /) -> Any:
    """The smaller of a and b, where one is NaN the other."""
    a, b = asarray(a), asarray(b)
    return core.where(core.isnan(a), b, core.where(core.isnan(b), a, core.minimum(a, b)))


def heaviside(x: Any, middle: Any, /) -> Any:
    """0 below 0, 1 above, `middle` at 0; NaN of NaN."""
    x = _floating(x)
    return core.where(
        core.equal(x, 0), middle, core.where(core.isnan(x), x, core.astype(core.greater(x, 0), x.dtype))
    )


def cbrt(x: Any, /) -> Any:
    """The cube root."""
    x = _floating(x)
    size = core.absolute(x)
    y = core.power(size, 1.0 / 3.0)
    usual = core.logical_and(core.greater(size, 0), core.isfinite(size))
    safe = core.where(usual, y, 1)
    step = core.divide(
        core.subtract(safe, core.divide(size, core.square(safe))), 3.0
    )  # Newton's, for the last bits
    return core.multiply(core.where(usual, core.subtract(safe, step), y), core.sign(x))


def float_power(a: Any, b: Any, /) -> Any:
    """a^b in float64 at least."""
    a, b = asarray(a), asarray(b)
    wide = "complex128" if "complex" in (a.dtype.kind, b.dtype.kind) else "float64"
    return core.power(core.astype(a, wide, False), core.astype(b, wide, False))


def logaddexp2(a: Any, b: Any, /) -> Any:
    """log2(2^a + 2^b), without overflow."""
    ln2 = math.log(2.0)
    return core.divide(
        core.logaddexp(core.multiply(_floating(a), ln2), core.multiply(_floating(b), ln2)), ln2
    )


def deg2rad(x: Any, /) -> Any:
    """Degrees in radians."""
    return core.multiply(_floating(x), math.pi / 180.0)


def rad2deg(x: Any, /) -> Any:
    """Radians in degrees."""
    return core.multiply(_floating(x), 180.0 / math.pi)


radians, degrees = deg2rad, rad2deg


def sinc(x: Any, /) -> Any:
    """sin(pi x) / (pi x), 1 at 0."""
    x = _floating(x)
    y = core.multiply(core.where(core.equal(x, 0), 1e-20, x), math.pi)
    return core.divide(core.sin(y), y)


def isposinf(x: Any, /) -> Any:
    """Where x is inf."""
    return core.equal(_floating(x), math.inf)


def isneginf(x: Any, /) -> Any:
    """Where x is -inf."""
    return core.equal(_floating(x), -math.inf)


def isreal(x: Any, /) -> Any:
    """Where the imaginary part is 0."""
    return core.equal(core.imag(asarray(x)), 0)


def iscomplex(x: Any, /) -> Any:
    """Where the imaginary part is not 0."""
    return core.not_equal(core.imag(asarray(x)), 0)


def gcd(a: Any, b: Any, /) -> Any:
    """The greatest common divisor of integers, by Euclid."""
    a, b = core.absolute(asarray(a)), core.absolute(asarray(b))
    if "floating" in (a.dtype.kind, b.dtype.kind):
        raise TypeError(f"gcd: integers are needed, got {a.dtype} and {b.dtype}")
    a, b = core.add(a, core.multiply(b, 0)), core.add(b, core.multiply(a, 0))
    while bool(core.any(b)):
        rest = core.remainder(a, core.where(core.equal(b, 0), 1, b))
        a, b = core.where(core.equal(b, 0), a, b), core.where(core.equal(b, 0), 0, rest)
    return a


def lcm(a: Any, b: Any, /) -> Any:
    """The least common multiple of integers."""
    divisor = gcd(a, b)
    one = core.floor_divide(core.absolute(asarray(a)), core.where(core.equal(divisor, 0), 1, divisor))
    return core.multiply(one, core.absolute(asarray(b)))


# --- along an axis ------------------------------------------------------------------------------------------


def unwrap(x: Any, /, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi) -> Any:
    """Angles without jumps: multiples of the period are added where neighbours differ by more than its half."""
    x = _floating(x)
    axis = _axis("unwrap", axis, x.ndim)
    if x.shape[axis] < 2:
        return core.copy(x)
    before, after = (slice(None),) * axis + (slice(0, -1),), (slice(None),) * axis + (slice(1, None),)
    jumps = core.subtract(core.getitem(x, after), core.getitem(x, before))
    half = period / 2
    rest = core.subtract(core.remainder(core.add(jumps, half), period), half)
    rest = core.where(core.logical_and(core.equal(rest, -half), core.greater(jumps, 0)), half, rest)
    small = core.less(core.absolute(jumps), half if discont is None else max(discont, half))
    correction = core.cumsum(core.where(small, 0.0, core.subtract(rest, jumps)), axis)
    widths = [1 if i == axis else 0 for i in range(x.ndim)]
    return core.add(x, core.pad_constant(correction, widths, [0] * x.ndim, 0.0))


def matvec(a: Any, x: Any, /) -> Any:
    """Matrices (..., M, N) times vectors (..., N); leading axes broadcast."""
    return core.squeeze(core.matmul(asarray(a), core.expand_dims(asarray(x), -1)), -1)


def vecmat(x: Any, a: Any, /) -> Any:
    """The conjugates of vectors (..., M) times matrices (..., M, N); leading axes broadcast."""
    return core.squeeze(core.matmul(core.expand_dims(core.conj(asarray(x)), -2), asarray(a)), -2)


# --- polynomials --------------------------------------------------------------------------------------------


def polyval(p: Any, x: Any) -> Any:
    """The polynomial with the coefficients p, the highest power first, at x (Horner)."""
    p, x = asarray(p), asarray(x)
    y = core.multiply(x, 0)
    for i in range(p.shape[0]):
        y = core.add(core.multiply(y, x), core.getitem(p, i))
    return y


def polyfit(x: Any, y: Any, deg: int) -> Any:
    """The coefficients, the highest power first, of the polynomial of degree `deg` that is nearest to (x, y) in least
    squares.

    x: (M,)    y: (M,) or (M, K)    returns: (deg + 1,) or (deg + 1, K)"""
    from tensorsmith.ops.linalg import pinv

    x, y = _floating(x), _floating(y)
    if x.ndim != 1 or x.size == 0 or y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ValueError(
            f"polyfit: x of shape {x.shape} and y of shape {y.shape} are not (M,) and (M,) or (M, K)"
        )
    if deg < 0:
        raise ValueError(f"polyfit: deg must be >= 0, got {deg}")
    powers = core.stack([core.power(x, k) for k in range(deg, -1, -1)], 1)
    scale = core.sqrt(core.sum(core.square(powers), 0))
    solution = core.matmul(pinv(core.divide(powers, scale)), y)
    return core.divide(solution, scale if y.ndim == 1 else core.expand_dims(scale, 1))


def roots(p: Any) -> Any:
    """The zeros of the polynomial with the coefficients p, the highest power first: its companion's eigenvalues."""
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
    return core.concat([found, core.zeros((zeros_at_end,), found.dtype, device=found.device)], 0)


# --- windows ------------------------------------------------------------------------------------------------


def _cosines(m: int, weights: Sequence[float]) -> Any:
    if m < 1:
        return core.zeros((0,))
    if m == 1:
        return core.ones((1,))
    angle = core.multiply(core.astype(core.arange(m), "float64"), 2 * math.pi / (m - 1))
    y: Any = weights[0]
    for k, weight in enumerate(weights[1:], 1):
        y = core.add(core.multiply(core.cos(core.multiply(angle, k)), weight), y)
    return core.astype(y, _core.default_dtype())


def hanning(m: int) -> Any:
    """The Hann window of m points."""
    return _cosines(m, (0.5, -0.5))


def hamming(m: int) -> Any:
    """The Hamming window of m points."""
    return _cosines(m, (0.54, -0.46))


def blackman(m: int) -> Any:
    """The Blackman window of m points."""
    return _cosines(m, (0.42, -0.5, 0.08))


def bartlett(m: int) -> Any:
    """The triangular window of m points, 0 at its ends."""
    if m < 2:
        return core.ones((max(m, 0),))
    place = core.divide(core.astype(core.arange(m), "float64"), (m - 1) / 2)
    return core.astype(core.subtract(1.0, core.absolute(core.subtract(place, 1.0))), _core.default_dtype())


def _divmod(a: Any, b: Any) -> Any:
    return divmod(a, b)


def _rdivmod(a: Any, b: Any) -> Any:
    return divmod(b, a)


for _name, _method in {"__divmod__": _divmod, "__rdivmod__": _rdivmod}.items():
    setattr(Tensor, _name, _method)
