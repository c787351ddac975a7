"""Pointwise functions and small numerical tools of NumPy's that are put together from others, gradients and all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.inspection import finfo, result_type
from tensorsmith.ops import elementwise, matrix
from tensorsmith.ops.creation import asarray, is_number
from tensorsmith.ops.halves import is_half
from tensorsmith.ops.manipulate import _axis
from tensorsmith.ops.ufunc import pointwise
from tensorsmith.tensor import Tensor

__all__ = [
    "around", "bartlett", "bitwise_count", "blackman", "cbrt", "cross", "deg2rad", "degrees", "divmod", "fabs", "fix",
    "float_power", "fmax", "fmin", "fmod", "frexp", "gcd", "hamming", "hanning", "heaviside", "i0", "iscomplex",
    "isneginf", "isposinf", "isreal", "kaiser", "lcm", "ldexp", "logaddexp2", "matvec", "modf", "packbits", "rad2deg",
    "radians", "real_if_close", "sinc", "spacing", "unpackbits", "unwrap", "vecmat",
]  # fmt: skip


def _floating(x: Any) -> Any:
    x = asarray(x)
    return x if x.dtype.kind in ("floating", "complex") else core.astype(x, _core.default_dtype())


def _real(operation: str, x: Any) -> Any:
    x = _floating(x)
    if x.dtype.kind == "complex":
        raise TypeError(f"{operation}: real numbers are needed, got {x.dtype}")
    return x


def _promoted(*values: Any) -> list[Any]:
    """As tensors of their common dtype; beside a tensor a number of Python takes the tensor's."""
    kept = [v if is_number(v) else asarray(v) for v in values]
    dtype, device = result_type(*kept), next((v.device for v in kept if isinstance(v, Tensor)), None)
    return [
        core.astype(v, dtype, False) if isinstance(v, Tensor) else core.full((), v, dtype, device=device)
        for v in kept
    ]


def _real_pair(operation: str, a: Any, b: Any) -> tuple[Any, Any]:
    # Beside integers a number need not be one that they hold.
    a, b = (float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in (a, b))
    a, b = _promoted(a, b)
    return _real(operation, a), _real(operation, b)


# --- pointwise --------------------------------------------------------------------------------------------


around = elementwise.round
fix = elementwise.trunc


def divmod(a: Any, b: Any, /) -> tuple[Any, Any]:
    """(a // b, a % b)."""
    return core.floor_divide(a, b), core.remainder(a, b)


@pointwise
def fmod(a: Any, b: Any, /) -> Any:
    """The remainder of a / b with the sign of a, as C's; exact. ZeroDivisionError for an integer 0 in b."""
    a, b = _promoted(a, b)
    if a.dtype.kind == "complex":
        raise TypeError(f"fmod: real numbers are needed, got {a.dtype}")
    if a.dtype.kind == "floating":
        return core.copysign(core.remainder(core.absolute(a), core.absolute(b)), a)
    rest = core.remainder(a, b)  # with the sign of b, which is taken off where a has the other one
    if a.dtype.kind != "signed":
        return rest
    other = core.logical_and(core.not_equal(rest, 0), core.not_equal(core.less(rest, 0), core.less(a, 0)))
    return core.where(other, core.subtract(rest, b), rest)


def modf(x: Any, /) -> tuple[Any, Any]:
    """The fractional and the integer part, both with the sign of x."""
    x = _floating(x)
    whole = core.trunc(x)
    return core.copysign(core.where(core.isinf(x), 0.0, core.subtract(x, whole)), x), whole


def frexp(x: Any, /) -> tuple[Any, Any]:
    """x = mantissa 2^exponent: the mantissa, 1/2 <= |mantissa| < 1, and the exponent in int32.

    0, infinities and NaN are their own mantissa, with exponent 0."""
    x = _real("frexp", x)
    size = core.absolute(x.detach())
    usual = core.logical_and(core.greater(size, 0), core.isfinite(size))
    lift = {"float64": 64, "float16": 10}.get(x.dtype.name, 32)  # subnormal numbers, made normal
    tiny = core.less(size, finfo(x.dtype).smallest_normal)
    size = core.where(tiny, core.multiply(size, 2.0**lift), size)
    exponent = core.floor(core.log2(core.where(usual, size, 1)))
    scaled = ldexp(size, core.astype(core.negative(exponent), "int32"))  # the logarithm may be off by one
    exponent = core.add(
        exponent, core.where(core.greater_equal(scaled, 2), 2, core.where(core.less(scaled, 1), 0, 1))
    )
    exponent = core.subtract(exponent, core.where(tiny, float(lift), 0.0))
    exponent = core.astype(core.where(usual, exponent, 0), "int32")
    return core.where(usual, ldexp(x, core.negative(exponent)), x), exponent


@pointwise
def ldexp(x: Any, exponent: Any, /) -> Any:
    """x 2^exponent, rounded once; the exponents are integers."""
    x, exponent = _real("ldexp", x), asarray(exponent)
    if exponent.dtype.kind not in ("bool", "signed", "unsigned"):
        raise TypeError(f"ldexp: exponents must be integers, got {exponent.dtype}")
    if exponent.dtype == "uint64":
        exponent = core.minimum(exponent, 1 << 15)
    exponent = core.astype(exponent, "int64", False)
    # In three steps: 2^exponent alone may overflow. What can round comes last.
    most = {"float64": 1022, "float16": 14}.get(x.dtype.name, 126)
    exponent = core.clip(exponent, -3 * most, 3 * most)
    last = core.clip(exponent, -most, most)
    rest = core.subtract(exponent, last)
    middle = core.clip(rest, -most, most)
    for step in (core.subtract(rest, middle), middle, last):
        x = core.multiply(x, core.exp2(core.astype(step, x.dtype)))
    return x


@pointwise
def fabs(x: Any, /) -> Any:
    """|x| as a float."""
    return core.absolute(_real("fabs", x))


@pointwise
def spacing(x: Any, /) -> Any:
    """The distance from x to the next number away from 0, with the sign of x; NaN of what is not finite."""
    x = _floating(x).detach()
    size = core.absolute(x)
    y = core.where(core.isfinite(x), core.nextafter(size, math.inf) - size, math.nan)
    return core.where(core.equal(x, 0), y, core.copysign(y, x))


@pointwise
def bitwise_count(x: Any, /) -> Any:
    """How many bits of |x| are set, in uint8. TypeError unless x holds integers or bools."""
    x = asarray(x)
    if x.dtype.kind not in ("bool", "signed", "unsigned"):
        raise TypeError(f"bitwise_count: integers or bools are needed, got {x.dtype}")
    if x.dtype.kind == "signed":
        x = core.absolute(core.astype(x, "int64", False))  # int8 has no 128
    x = core.astype(x, "uint64")
    for shift, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        low = core.bitwise_and(x, core.full((), mask, "uint64", device=x.device))
        high = core.bitwise_right_shift(x, core.full((), shift, "uint64", device=x.device))
        x = core.add(low, core.bitwise_and(high, core.full((), mask, "uint64", device=x.device)))
    y: Any = 0  # a byte holds the count of its own
    for byte in range(8):
        moved = core.bitwise_right_shift(x, core.full((), 8 * byte, "uint64", device=x.device))
        y = core.add(core.astype(moved, "uint8"), y)
    return y


_BIT_ORDERS = {"big": (7, 6, 5, 4, 3, 2, 1, 0), "little": (0, 1, 2, 3, 4, 5, 6, 7)}


def _bit_order(operation: str, bitorder: str) -> tuple[int, ...]:
    if bitorder not in _BIT_ORDERS:
        raise ValueError(f'{operation}: bitorder must be "big" or "little", got {bitorder!r}')
    return _BIT_ORDERS[bitorder]


def packbits(x: Any, /, axis: int | None = None, bitorder: str = "big") -> Any:
    """Eight bools (or integers: not 0) to a uint8 along an axis, 0 behind the last; None: of the flattened x."""
    x = asarray(x)
    order = _bit_order("packbits", bitorder)
    if x.dtype.kind not in ("bool", "signed", "unsigned"):
        raise TypeError(f"packbits: bools or integers are needed, got {x.dtype}")
    x, axis = (core.reshape(x, (-1,)), 0) if axis is None else (x, _axis("packbits", axis, x.ndim))
    bits = core.moveaxis(core.astype(core.not_equal(x, 0), "uint8"), axis, -1)
    bits = core.pad_constant(bits, [0] * bits.ndim, [0] * (bits.ndim - 1) + [-bits.shape[-1] % 8])
    bits = core.reshape(bits, (*bits.shape[:-1], bits.shape[-1] // 8, 8))
    y: Any = 0
    for i, shift in enumerate(order):
        y = core.add(core.multiply(bits[..., i], 1 << shift), y)
    return core.moveaxis(y, -1, axis)


def unpackbits(x: Any, /, axis: int | None = None, count: int | None = None, bitorder: str = "big") -> Any:
    """The bits of uint8 x as 0 and 1 in uint8 along an axis, eight for one; None: of the flattened x.

    count: as many of them, zeros where there are fewer; negative: without the last ones"""
    x = asarray(x)
    order = _bit_order("unpackbits", bitorder)
    if x.dtype != "uint8":
        raise TypeError(f"unpackbits: uint8 is needed, got {x.dtype}")
    x, axis = (core.reshape(x, (-1,)), 0) if axis is None else (x, _axis("unpackbits", axis, x.ndim))
    x = core.moveaxis(x, axis, -1)
    bits = core.stack([core.remainder(core.floor_divide(x, 1 << shift), 2) for shift in order], -1)
    bits = core.reshape(bits, (*x.shape[:-1], 8 * x.shape[-1]))
    if count is not None:
        n = bits.shape[-1]
        if count < -n:
            raise ValueError(f"unpackbits: count must be >= -{n}, got {count}")
        bits = bits[..., : count if count >= 0 else n + count]
        missing = max(count - n, 0)
        bits = core.pad_constant(bits, [0] * bits.ndim, [0] * (bits.ndim - 1) + [missing])
    return core.moveaxis(bits, -1, axis)


def real_if_close(x: Any, tol: float = 100) -> Any:
    """The real part of a complex x whose imaginary parts are all below `tol` (above 1: units of its precision)."""
    x = asarray(x)
    if x.dtype.kind != "complex":
        return x
    limit = tol * finfo(x.dtype).eps if tol > 1 else tol
    return core.real(x) if bool(core.all(core.less(core.absolute(core.imag(x)), limit))) else x


@pointwise
def fmax(a: Any, b: Any, /) -> Any:
    """The larger of a and b, where one is NaN the other."""
    a, b = _promoted(a, b)
    return core.where(core.isnan(a), b, core.where(core.isnan(b), a, core.maximum(a, b)))


@pointwise
def fmin(a: Any, b: Any, /) -> Any:
    """The smaller of a and b, where one is NaN the other."""
    a, b = _promoted(a, b)
    return core.where(core.isnan(a), b, core.where(core.isnan(b), a, core.minimum(a, b)))


@pointwise
def heaviside(x: Any, middle: Any, /) -> Any:
    """0 below 0, 1 above, `middle` at 0; NaN of NaN."""
    x, middle = _real_pair("heaviside", x, middle)
    return core.where(
        core.equal(x, 0), middle, core.where(core.isnan(x), x, core.astype(core.greater(x, 0), x.dtype))
    )


@pointwise
def cbrt(x: Any, /) -> Any:
    """The cube root."""
    x = _real("cbrt", x)
    size = core.absolute(x)
    y = core.power(size, 1.0 / 3.0)
    usual = core.logical_and(core.greater(size, 0), core.isfinite(size))
    safe = core.where(usual, y, 1)
    step = core.divide(
        core.subtract(safe, core.divide(size, core.square(safe))), 3.0
    )  # Newton's, for the last bits
    return core.copysign(core.where(usual, core.subtract(safe, step), y), x)


@pointwise
def float_power(a: Any, b: Any, /) -> Any:
    """a^b in float64 at least."""
    a, b = (v if is_number(v) else asarray(v) for v in (a, b))
    wide = "complex128" if result_type(a, b).kind == "complex" else "float64"
    return core.power(asarray(a, wide), asarray(b, wide))


@pointwise
def logaddexp2(a: Any, b: Any, /) -> Any:
    """log2(2^a + 2^b), without overflow."""
    a, b = _real_pair("logaddexp2", a, b)
    ln2 = math.log(2.0)
    return core.divide(core.logaddexp(core.multiply(a, ln2), core.multiply(b, ln2)), ln2)


@pointwise
def deg2rad(x: Any, /) -> Any:
    """Degrees in radians."""
    return core.multiply(_real("deg2rad", x), math.pi / 180.0)


@pointwise
def rad2deg(x: Any, /) -> Any:
    """Radians in degrees."""
    return core.multiply(_real("rad2deg", x), 180.0 / math.pi)


radians, degrees = deg2rad, rad2deg


def sinc(x: Any, /) -> Any:
    """sin(pi x) / (pi x), 1 at 0."""
    x = _floating(x)
    if is_half(x):
        return core.astype(sinc(core.astype(x, "float32")), x.dtype)
    y = core.multiply(core.where(core.equal(x, 0), 1e-20, x), math.pi)
    return core.divide(core.sin(y), y)


def isposinf(x: Any, /, out: Any = None) -> Any:
    """Where x is inf."""
    return core.equal(_real("isposinf", x), math.inf, out=out)


def isneginf(x: Any, /, out: Any = None) -> Any:
    """Where x is -inf."""
    return core.equal(_real("isneginf", x), -math.inf, out=out)


def isreal(x: Any, /) -> Any:
    """Where the imaginary part is 0."""
    return core.equal(core.imag(asarray(x)), 0)


def iscomplex(x: Any, /) -> Any:
    """Where the imaginary part is not 0."""
    return core.not_equal(core.imag(asarray(x)), 0)


def _integers(operation: str, a: Any, b: Any) -> tuple[Any, Any]:
    a, b = _promoted(a, b)
    if a.dtype.kind not in ("signed", "unsigned"):
        raise TypeError(f"{operation}: integers are needed, got {a.dtype}")
    return a, b


@pointwise
def gcd(a: Any, b: Any, /) -> Any:
    """The greatest common divisor of integers, by Euclid."""
    a, b = _integers("gcd", a, b)
    a, b = core.add(a, core.multiply(b, 0)), core.add(b, core.multiply(a, 0))
    while bool(core.any(b)):
        rest = core.remainder(a, core.where(core.equal(b, 0), 1, b))
        a, b = core.where(core.equal(b, 0), a, b), core.where(core.equal(b, 0), 0, rest)
    return core.absolute(a)


@pointwise
def lcm(a: Any, b: Any, /) -> Any:
    """The least common multiple of integers."""
    a, b = _integers("lcm", a, b)
    divisor = gcd(a, b)
    one = core.floor_divide(core.absolute(a), core.where(core.equal(divisor, 0), 1, divisor))
    return core.multiply(one, core.absolute(b))


# --- along an axis ------------------------------------------------------------------------------------------


def unwrap(x: Any, /, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi) -> Any:
    """Angles without jumps: multiples of the period are added where neighbours differ by more than its half. Integers
    stay integers where the period is one."""
    x = asarray(x)
    dtype, whole = x.dtype, x.dtype.kind in ("signed", "unsigned") and isinstance(period, int)
    x = core.astype(x, "int64", False) if whole else _real("unwrap", x)
    axis = _axis("unwrap", axis, x.ndim)
    if x.shape[axis] < 2:
        return core.astype(x, dtype) if whole else core.copy(x)
    before, after = (slice(None),) * axis + (slice(0, -1),), (slice(None),) * axis + (slice(1, None),)
    jumps = core.subtract(core.getitem(x, after), core.getitem(x, before))
    half = period // 2 if whole else period / 2
    rest = core.subtract(core.remainder(core.add(jumps, half), period), half)
    if 2 * half == period:
        rest = core.where(core.logical_and(core.equal(rest, -half), core.greater(jumps, 0)), half, rest)
    small = core.less(core.absolute(jumps), period / 2 if discont is None else max(discont, period / 2))
    correction = core.cumsum(core.where(small, 0, core.subtract(rest, jumps)), axis)
    widths = [1 if i == axis else 0 for i in range(x.ndim)]
    y = core.add(x, core.pad_constant(correction, widths, [0] * x.ndim, 0.0))
    return core.astype(y, dtype, False) if whole else y


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """The cross products of vectors of 3 elements along axisa of a and axisb of b, along axisc; `axis` is all three.

    ValueError where an axis has another extent."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = core.moveaxis(asarray(a), axisa, -1), core.moveaxis(asarray(b), axisb, -1)
    return core.moveaxis(matrix.cross(a, b), -1, axisc)


def _matrix_and_vector(operation: str, a: Any, x: Any, axis: int) -> tuple[Any, Any]:
    a, x = asarray(a), asarray(x)
    if a.ndim < 2 or x.ndim < 1 or a.shape[axis] != x.shape[-1]:
        raise ValueError(
            f"{operation}: matrices of shape {tuple(a.shape)} and vectors of shape {tuple(x.shape)} do not fit"
        )
    return a, x


def matvec(a: Any, x: Any, /) -> Any:
    """Matrices (..., M, N) times vectors (..., N); leading axes broadcast."""
    a, x = _matrix_and_vector("matvec", a, x, -1)
    return core.squeeze(core.matmul(a, core.expand_dims(x, -1)), -1)


def vecmat(x: Any, a: Any, /) -> Any:
    """The conjugates of vectors (..., M) times matrices (..., M, N); leading axes broadcast."""
    a, x = _matrix_and_vector("vecmat", a, x, -2)
    return core.squeeze(core.matmul(core.expand_dims(core.conj(x), -2), a), -2)


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


def i0(x: Any) -> Any:
    """The modified Bessel function of the first kind and order 0, by its power series and, from |x| = 30 on, by the
    asymptotic one (Abramowitz and Stegun 9.6.12, 9.7.1)."""
    size = core.absolute(_real("i0", x))
    # Beyond 2000 it is infinite in every dtype.
    near, far = core.minimum(size, 30.0), core.minimum(core.maximum(size, 30.0), 2000.0)
    square = core.multiply(core.square(near), 0.25)
    term = series = core.ones_like(near)
    for k in range(1, 70):  # no term is negative
        term = core.multiply(term, core.multiply(square, 1.0 / (k * k)))
        series = core.add(series, term)
    term = tail = core.ones_like(far)
    for k in range(1, 25):
        term = core.multiply(term, core.divide((2 * k - 1) ** 2 / (8.0 * k), far))
        tail = core.add(tail, term)
    root = core.sqrt(core.multiply(far, 2 * math.pi))
    # exp in two halves: i0 is finite a little beyond where exp is.
    half = core.exp(core.multiply(far, 0.5))
    return core.where(
        core.greater(size, 30.0), core.multiply(core.multiply(half, core.divide(tail, root)), half), series
    )


def kaiser(m: int, beta: float) -> Any:
    """Kaiser's window of m points: i0(beta sqrt(1 - r^2)) / i0(beta), r from -1 to 1."""
    m = int(m)
    if m <= 1:
        return core.ones((max(m, 0),))
    r = core.divide(core.subtract(core.multiply(core.arange(m, dtype="float64"), 2.0), m - 1.0), m - 1.0)
    inside = core.sqrt(core.maximum(core.subtract(1.0, core.square(r)), 0.0))
    y = core.divide(i0(core.multiply(inside, float(beta))), i0(core.full((), float(beta), "float64")))
    return core.astype(y, _core.default_dtype(), False)


def _divmod(a: Any, b: Any) -> Any:
    return divmod(a, b)


def _rdivmod(a: Any, b: Any) -> Any:
    return divmod(b, a)


for _name, _method in {"__divmod__": _divmod, "__rdivmod__": _rdivmod}.items():
    setattr(Tensor, _name, _method)
