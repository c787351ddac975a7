"""Pointwise operations: docstrings and gradient rules.

Operands broadcast and promote as in NumPy; a Python number takes the dtype of the tensor it meets. A
floating operation makes the default float of integers and bools. Elementary functions are within 2 units in
the last place of the exact value everywhere (docs/kernels/pointwise.md), with the same bits at every
position, length, layout and thread count. What NumPy has as a ufunc takes its keywords `out`, `where`, `dtype`
and `casting` (ufunc.py).
"""

from __future__ import annotations

import cmath
import math
import operator
from typing import TYPE_CHECKING, Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.halves import widened
from tensorsmith.ops.ufunc import pointwise

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "allclose", "arccos", "arccosh", "arcsin", "arcsinh",
    "arctan", "arctan2", "arctanh", "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "ceil", "clip", "contiguous", "copy", "copysign", "cos", "cosh", "divide", "elu",
    "equal", "erf", "exp", "exp2", "expm1", "floor", "floor_divide", "fma", "gelu", "greater",
    "greater_equal", "hardsigmoid", "hardswish", "hypot", "invert", "isclose", "isfinite", "isinf", "isnan",
    "leaky_relu",
    "left_shift", "lerp", "less", "less_equal", "log", "log10", "log1p", "log2", "log_sigmoid",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "mish", "mod",
    "multiply", "negative", "nextafter", "not_equal", "positive", "pow", "power", "reciprocal", "relu",
    "remainder", "right_shift", "rint", "round", "rsqrt", "sigmoid", "sign", "signbit", "silu", "sin",
    "sinh", "softplus", "softsign", "sqrt", "square", "subtract", "tan", "tanh", "true_divide", "trunc", "where",
]  # fmt: skip

_LN2 = math.log(2.0)
_LN10 = math.log(10.0)
_GELU_LINEAR = 2.0 * math.sqrt(2.0 / math.pi)  # gelu_tanh(x) = x sigmoid(linear x + cubic x^3)
_GELU_CUBIC = _GELU_LINEAR * 0.044715


def _step(dy: Tensor) -> Any:
    """The gradient of a step function: 0."""
    return dy * 0


def _sign_gradient(dy: Tensor, x: Tensor, y: Tensor) -> Any:
    if x.dtype.kind != "complex":
        return dy * 0
    # What turns z / |z|: the part of dy across it.
    size = core.absolute(x)
    across = dy - y * core.real(core.conj(y) * dy)
    return core.where(core.equal(size, 0), 0, across / core.where(core.equal(size, 0), 1, size))


# --- arithmetic -----------------------------------------------------------------------------------

negative = define(core.negative, "-x; integers wrap around.", conjugate=False, x=lambda dy: -dy)
absolute = define(
    core.absolute, "|x|. The gradient at 0 is 0.", conjugate=False, x=lambda dy, x: dy * core.sign(x)
)
sign = define(
    core.sign, "-1, 0 or 1, and z / |z| of complex numbers; NaN of NaN.", conjugate=False, x=_sign_gradient
)
square = define(core.square, "x * x.", x=lambda dy, x: dy * (x * 2))
sqrt = define(core.sqrt, "The square root, correctly rounded; NaN below 0.", x=lambda dy, y: dy * 0.5 / y)
rsqrt = define(core.rsqrt, "1 / sqrt(x).", x=lambda dy, y: dy * (y * y * y * -0.5))
reciprocal = define(core.reciprocal, "1 / x, floating.", x=lambda dy, y: -(dy * y * y))
floor = define(core.floor, "The largest integer not above x.", x=_step)
ceil = define(core.ceil, "The smallest integer not below x.", x=_step)
trunc = define(core.trunc, "The integer part of x.", x=_step)
_round = define(core.round, "The nearest integer, halves to the even one.", x=_step)
rint = _round


def round(x: Any, /, decimals: int = 0, out: Any = None) -> Any:
    """The nearest multiple of 10^-decimals, halves to the even one; complex numbers by their parts."""
    x = asarray(x)
    try:
        decimals = operator.index(decimals)
    except TypeError:
        raise TypeError(f"round: decimals must be an integer, got {decimals!r}") from None
    if decimals == 0:
        y = _round(x)
    elif x.dtype.kind == "complex":
        y = core.from_parts(round(core.real(x), decimals), round(core.imag(x), decimals))
    elif x.dtype.kind in ("signed", "unsigned", "bool"):
        if decimals > 0:
            y = core.copy(x)
        else:
            unit = 10**-decimals
            y = core.astype(
                core.multiply(_round(core.divide(core.astype(x, "float64"), unit)), unit), x.dtype
            )
    elif decimals > 0:
        y = core.divide(_round(core.multiply(x, 10.0**decimals)), 10.0**decimals)
    else:
        y = core.multiply(_round(core.divide(x, 10.0**-decimals)), 10.0**-decimals)
    return y if out is None else store(y, out)


add = define(core.add, "a + b; of bools: or.", conjugate=False, a=lambda dy: dy, b=lambda dy: dy)
subtract = define(
    core.subtract, "a - b; TypeError for bools.", conjugate=False, a=lambda dy: dy, b=lambda dy: -dy
)
multiply = define(core.multiply, "a * b; of bools: and.", a=lambda dy, b: dy * b, b=lambda dy, a: dy * a)
divide = define(core.divide, "a / b, floating.", a=lambda dy, b: dy / b, b=lambda dy, b, y: -(dy * (y / b)))
floor_divide = define(
    core.floor_divide,
    "floor(a / b), as Python's //. ZeroDivisionError for an integer 0 in b.",
    a=_step,
    b=_step,
)
remainder = define(
    core.remainder,
    "a - floor(a / b) b, exact, with the sign of b, as Python's %. ZeroDivisionError for an integer 0 in b.",
    a=lambda dy: dy,
    b=lambda dy, a, b: -(dy * core.floor_divide(a, b)),
)


def _power_base(dy: Tensor, a: Tensor, b: Any) -> Any:
    if not hasattr(b, "shape"):
        if b in (0, 1, 2):
            return dy * (a * 2) if b == 2 else dy * b
        return dy * (core.power(a, b - 1) * b)
    # 0^0 = 1 whatever the base is near: its slope is 0, not 0 * inf
    return dy * core.where(core.equal(b, 0), 0, b * core.power(a, b - 1))


def _power_exponent(dy: Tensor, a: Any, y: Tensor) -> Any:
    if not hasattr(a, "shape"):
        if isinstance(a, complex) or (y.dtype.kind == "complex" and a != 0):
            return dy * (y * cmath.log(a))
        if a > 0:
            return dy * (y * math.log(a))
        flat = core.equal(y, 0) if a else core.isfinite(y)
        return dy * core.where(flat, 0, math.nan)
    # Of a base of 0 the slope is 0, at 0^0 = 1 too, as PyTorch has it
    flat = core.logical_or(core.equal(y, 0), core.logical_and(core.equal(a, 0), core.isfinite(y)))
    return dy * core.where(flat, 0, y * core.log(core.where(flat, 1, core.astype(a, y.dtype, False))))


power = define(
    core.power,
    """a ** b. x^0 and 1^x are 1, NaN included; integers wrap around.

    ValueError for integers to a negative integer power.""",
    a=_power_base,
    b=_power_exponent,
)


def _extreme(better: Any) -> dict[str, Any]:
    # Equal operands share the gradient.
    return {
        "a": lambda dy, a, b: core.where(core.equal(a, b), dy * 0.5, core.where(better(a, b), dy, 0)),
        "b": lambda dy, a, b: core.where(core.equal(a, b), dy * 0.5, core.where(better(b, a), dy, 0)),
    }


maximum = define(core.maximum, "The larger of a and b; NaN where either is.", **_extreme(core.greater))
minimum = define(core.minimum, "The smaller of a and b; NaN where either is.", **_extreme(core.less))
hypot = define(
    core.hypot,
    "sqrt(a^2 + b^2) without overflow; inf where either is infinite.",
    a=lambda dy, a, y: dy * (a / y),
    b=lambda dy, b, y: dy * (b / y),
)
copysign = define(
    core.copysign,
    "|a| with the sign of b.",
    wrt="a b",
    vjp=lambda dy, a, b: (core.where(core.equal(core.signbit(a), core.signbit(b)), dy, -dy), None),
)
nextafter = define(
    core.nextafter,
    "The neighbour of a in the direction of b.",
    wrt="a b",
    vjp=lambda dy: (dy, None),
)
fma = define(
    core.fma,
    "a * b + c, rounded once.",
    a=lambda dy, b: dy * b,
    b=lambda dy, a: dy * a,
    c=lambda dy: dy,
)
lerp = define(
    core.lerp,
    "a + c (b - a): from a to b as c goes from 0 to 1.",
    a=lambda dy, c: dy * (1 - c),
    b=lambda dy, c: dy * c,
    c=lambda dy, a, b: dy * (b - a),
)
define(
    core.clip,
    "a limited to [b, c]; NaN stays.",
    a=lambda dy, a, b, c: core.where(
        core.logical_and(core.greater_equal(a, b), core.less_equal(a, c)), dy, 0
    ),
    b=lambda dy, a, b, c: core.where(core.logical_and(core.less(a, b), core.less_equal(b, c)), dy, 0),
    c=lambda dy, a, b, c: core.where(core.logical_or(core.greater(a, c), core.greater(b, c)), dy, 0),
)


def clip(
    x: Any, /, min: Any = None, max: Any = None, out: Any = None, *, a_min: Any = None, a_max: Any = None
) -> Any:
    """x limited to [min, max]; None leaves that side open. NaN stays; max wins where min > max.

    The result has x's dtype where the bounds are Python numbers. out: a tensor that takes the result. a_min and a_max
    are NumPy's other words for min and max; TypeError for both words."""
    if a_min is not None or a_max is not None:
        for name, bound, other in (("min", min, a_min), ("max", max, a_max)):
            if bound is not None and other is not None:
                raise TypeError(f"clip: {name} and a_{name} are the same; give one of them")
        min, max = a_min if min is None else min, a_max if max is None else max
    x = asarray(x)
    if x.dtype.kind in ("signed", "unsigned") and all(b is None or isinstance(b, int) for b in (min, max)):
        min, max = (b if b is None else _within(b, x.dtype) for b in (min, max))
    if min is None and max is None:
        y = core.copy(x)
    elif min is not None and max is not None:
        y = core.clip(x, min, max)
    elif x.dtype.kind == "floating":  # whose gradient at the bound is 1, that of an extreme of two halves
        y = core.clip(x, -math.inf if min is None else min, math.inf if max is None else max)
    else:
        y = minimum(x, max) if min is None else maximum(x, min)
    return y if out is None else store(y, out)


def _within(bound: int, dtype: Any) -> int:
    """A bound beyond an integer dtype limits as its last value does."""
    bits = 8 * dtype.itemsize
    low, high = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.kind == "signed" else (0, (1 << bits) - 1)
    )
    return low if bound < low else high if bound > high else bound


def store(y: Any, out: Any) -> Any:
    """`y` in the tensor `out`, as `out=` of every operation does it."""
    return core.copy(y, out=out)


@pointwise
def positive(x: Any, /) -> Any:
    """+x: a copy."""
    return core.copy(x)


# --- exponentials and logarithms --------------------------------------------------------------------

exp = define(core.exp, "e^x, within 1 ULP.", x=lambda dy, y: dy * y)
exp2 = define(core.exp2, "2^x.", x=lambda dy, y: dy * (y * _LN2))
expm1 = define(core.expm1, "e^x - 1, precise near 0.", x=lambda dy, y: dy * (y + 1))
log = define(core.log, "The natural logarithm: -inf at 0, NaN below.", x=lambda dy, x: dy / x)
log2 = define(core.log2, "The logarithm to base 2; exact at powers of 2.", x=lambda dy, x: dy / (x * _LN2))
log10 = define(core.log10, "The logarithm to base 10.", x=lambda dy, x: dy / (x * _LN10))
log1p = define(core.log1p, "log(1 + x), precise near 0.", x=lambda dy, x: dy / (x + 1))
logaddexp = define(
    core.logaddexp,
    "log(e^a + e^b), without overflow.",
    a=lambda dy, a, b: dy * core.sigmoid(a - b),
    b=lambda dy, a, b: dy * core.sigmoid(b - a),
)

# --- circular and hyperbolic functions --------------------------------------------------------------

sin = define(core.sin, "The sine of x in radians, of any size.", x=lambda dy, x: dy * core.cos(x))
cos = define(core.cos, "The cosine of x in radians, of any size.", x=lambda dy, x: -(dy * core.sin(x)))
tan = define(core.tan, "The tangent of x in radians, of any size.", x=lambda dy, y: dy * (y * y + 1))
asin = define(
    core.asin, "The angle in [-pi/2, pi/2] whose sine is x.", x=lambda dy, x: dy / core.sqrt(1 - x * x)
)
acos = define(
    core.acos, "The angle in [0, pi] whose cosine is x.", x=lambda dy, x: -(dy / core.sqrt(1 - x * x))
)
atan = define(core.atan, "The angle in [-pi/2, pi/2] whose tangent is x.", x=lambda dy, x: dy / (x * x + 1))
atan2 = define(
    core.atan2,
    "The angle in [-pi, pi] of the point (b, a).",
    a=lambda dy, a, b: dy * (b / (a * a + b * b)),
    b=lambda dy, a, b: -(dy * (a / (a * a + b * b))),
)
sinh = define(core.sinh, "(e^x - e^-x) / 2.", x=lambda dy, x: dy * core.cosh(x))
cosh = define(core.cosh, "(e^x + e^-x) / 2.", x=lambda dy, x: dy * core.sinh(x))
asinh = define(
    core.asinh, "The number whose hyperbolic sine is x.", x=lambda dy, x: dy / core.sqrt(x * x + 1)
)
acosh = define(
    core.acosh,
    "The number >= 0 whose hyperbolic cosine is x; NaN below 1.",
    x=lambda dy, x: dy / (core.sqrt(x - 1) * core.sqrt(x + 1)),
)
atanh = define(
    core.atanh, "The number whose hyperbolic tangent is x; NaN beyond 1.", x=lambda dy, x: dy / (1 - x * x)
)
tanh = define(
    core.tanh,
    "The hyperbolic tangent.",
    x=lambda dy, y: dy * (1 - y * y) if y.dtype.kind == "complex" else core.tanh_backward(dy, y),
)
define(
    core.tanh_backward,
    "The gradient of tanh: a (1 - b^2), b its result.",
    a=lambda dy, b: core.tanh_backward(dy, b),
    b=lambda dy, a, b: dy * a * (b * -2),
)
erf = define(
    core.erf,
    "The error function, 2 / sqrt(pi) times the integral of e^-t^2 from 0 to x.",
    x=lambda dy, x: dy * (core.exp(-(x * x)) * (2.0 / math.sqrt(math.pi))),
)

# --- activations --------------------------------------------------------------------------------------

relu = define(core.relu, "max(x, 0); NaN stays NaN.", x=lambda dy, y: core.relu_backward(dy, y))
define(
    core.relu_backward,
    "The gradient of relu: a where its result b is above 0, else 0.",
    wrt="a b",
    vjp=lambda dy, b: (core.relu_backward(dy, b), None),
)
leaky_relu = define(
    core.leaky_relu,
    "a where above 0, else a * b.",
    a=lambda dy, a, b: core.leaky_relu_backward(dy, a, b),
    b=lambda dy, a: dy * core.minimum(a, 0),
)
define(
    core.leaky_relu_backward,
    "The gradient of leaky_relu: a where b is above 0, else a * c.",
    wrt="a b c",
    vjp=lambda dy, a, b, c: (
        core.leaky_relu_backward(dy, b, c),
        None,
        core.where(core.greater(b, 0), 0, dy * a),
    ),
)


def _elu_gradient(dy: Tensor, a: Tensor, b: Any) -> Any:
    """From a, for what is left of y + b cancels."""
    dy, a = widened(dy, a)
    below = core.exp(core.where(core.greater(a, 0), 0.0, a))
    return core.where(core.greater(a, 0), dy, dy * (below * b))


elu = define(
    core.elu,
    "a where above 0, else b (e^a - 1) (Clevert et al. 2015).",
    a=_elu_gradient,
    b=lambda dy, a: dy * core.expm1(core.minimum(a, 0)),
)
sigmoid = define(
    core.sigmoid,
    "1 / (1 + e^-x); never 0 where a normal number is due.",
    x=lambda dy, y: core.sigmoid_backward(dy, y),
)
define(
    core.sigmoid_backward,
    "The gradient of sigmoid: a b (1 - b), b its result.",
    a=lambda dy, b: core.sigmoid_backward(dy, b),
    b=lambda dy, a, b: dy * a * (1 - b * 2),
)
log_sigmoid = define(core.log_sigmoid, "log(sigmoid(x)).", x=lambda dy, x: dy * core.sigmoid(-x))
softplus = define(
    core.softplus, "log(1 + e^x), without overflow.", x=lambda dy, x: core.softplus_backward(dy, x)
)
define(
    core.softplus_backward,
    "The gradient of softplus: a sigmoid(b).",
    a=lambda dy, b: core.softplus_backward(dy, b),
    b=lambda dy, a, b: core.sigmoid_backward(dy * a, core.sigmoid(b)),
)
silu = define(core.silu, "x sigmoid(x), also called swish.", x=lambda dy, x: core.silu_backward(dy, x))


def _silu_second(dy: Tensor, a: Tensor, b: Tensor) -> Any:
    s = core.sigmoid(b)
    return dy * a * (s * (1 - s) * (b * (1 - s * 2) + 2))


define(
    core.silu_backward,
    "The gradient of silu: a s (1 + b (1 - s)), s = sigmoid(b).",
    a=lambda dy, b: core.silu_backward(dy, b),
    b=_silu_second,
)
hardsigmoid = define(
    core.hardsigmoid,
    "clip(x + 3, 0, 6) / 6.",
    x=lambda dy, x: core.where(core.less(core.absolute(x), 3), dy * (1 / 6), 0.0),
)


def _hardswish_gradient(dy: Tensor, x: Tensor) -> Any:
    dy, x = widened(dy, x)
    slope = dy * (x * (1 / 3) + 0.5)
    return core.where(core.less(core.absolute(x), 3), slope, core.where(core.less(x, 0), 0.0, dy))


hardswish = define(core.hardswish, "x clip(x + 3, 0, 6) / 6 (Howard et al. 2019).", x=_hardswish_gradient)


def _softsign_gradient(dy: Tensor, x: Tensor) -> Any:
    dy, x = widened(dy, x)
    return dy * core.square(core.reciprocal(core.absolute(x) + 1))


softsign = define(core.softsign, "x / (1 + |x|).", x=_softsign_gradient)
mish = define(
    core.mish,
    "x tanh(log(1 + e^x)) (Misra 2019); within 4 units in the last place.",
    x=lambda dy, x: core.mish_backward(dy, x),
)


def _mish_second(dy: Tensor, a: Tensor, b: Tensor) -> Any:
    s, t = core.sigmoid(b), core.tanh(core.softplus(b))
    bend = s * (1 - t * t)
    return dy * a * bend * (2 + b * (1 - s - 2 * t * s))


define(
    core.mish_backward,
    "The gradient of mish.",
    a=lambda dy, b: core.mish_backward(dy, b),
    b=_mish_second,
)
_gelu = define(core.gelu, "x P(N < x) for a normal N.", x=lambda dy, x: core.gelu_backward(dy, x))
define(
    core.gelu_backward,
    "The gradient of gelu: a (P(N < b) + b p(b)).",
    a=lambda dy, b: core.gelu_backward(dy, b),
    b=lambda dy, a, b: dy * a * (core.exp(b * b * -0.5) * (2 - b * b) * (1.0 / math.sqrt(2.0 * math.pi))),
)
_gelu_tanh = define(
    core.gelu_tanh, "gelu by its tanh approximation.", x=lambda dy, x: core.gelu_tanh_backward(dy, x)
)


def _gelu_tanh_second(dy: Tensor, a: Tensor, b: Tensor) -> Any:
    square = b * b
    s = core.sigmoid(b * (square * _GELU_CUBIC + _GELU_LINEAR))
    slope = square * (3 * _GELU_CUBIC) + _GELU_LINEAR
    return dy * a * (s * (1 - s) * (slope * 2 + b * ((1 - s * 2) * (slope * slope) + b * (6 * _GELU_CUBIC))))


define(
    core.gelu_tanh_backward,
    "The gradient of gelu_tanh.",
    a=lambda dy, b: core.gelu_tanh_backward(dy, b),
    b=_gelu_tanh_second,
)


def gelu(x: Any, approximate: str = "none") -> Any:
    """x P(N < x) for a normal N: x/2 (1 + erf(x / sqrt 2)) (Hendrycks and Gimpel 2016).

    approximate: "none", or "tanh" for x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    ValueError for others."""
    if approximate == "none":
        return _gelu(x)
    if approximate == "tanh":
        return _gelu_tanh(x)
    raise ValueError(f'gelu: approximate is {approximate!r}; allowed are "none" and "tanh"')


# --- comparisons, logic and bits ------------------------------------------------------------------------

equal = define(core.equal, "a == b, as bool.")
not_equal = define(core.not_equal, "a != b, as bool.")
less = define(core.less, "a < b, as bool.")
less_equal = define(core.less_equal, "a <= b, as bool.")
greater = define(core.greater, "a > b, as bool.")
greater_equal = define(core.greater_equal, "a >= b, as bool.")
logical_and = define(core.logical_and, "a != 0 and b != 0, as bool.")
logical_or = define(core.logical_or, "a != 0 or b != 0, as bool.")
logical_xor = define(core.logical_xor, "Whether exactly one of a and b is not 0.")
logical_not = define(core.logical_not, "x == 0, as bool.")
isnan = define(core.isnan, "Where x is NaN.")
isinf = define(core.isinf, "Where x is inf or -inf.")
isfinite = define(core.isfinite, "Where x is neither infinite nor NaN.")
signbit = define(core.signbit, "Where the sign bit is set: below 0, and -0.0.")
bitwise_and = define(core.bitwise_and, "The bits in both a and b; integers and bools.")
bitwise_or = define(core.bitwise_or, "The bits in a or b; integers and bools.")
bitwise_xor = define(core.bitwise_xor, "The bits in one of a and b; integers and bools.")
bitwise_invert = define(core.bitwise_invert, "Every bit the other way; of bools: not.")
bitwise_left_shift = define(core.bitwise_left_shift, "a 2^b; 0 where b is not below the width.")
bitwise_right_shift = define(core.bitwise_right_shift, "floor(a / 2^b).")

define(
    core.where,
    "a where the condition holds, b elsewhere.",
    conjugate=False,
    a=lambda dy, condition: core.where(condition, dy, 0),
    b=lambda dy, condition: core.where(condition, 0, dy),
)


def where(condition: Any, a: Any = None, b: Any = None, /) -> Any:
    """a where the condition holds, b elsewhere; with the condition alone, `nonzero`.

    condition: bool. The three broadcast together. ValueError for only one of a and b."""
    if a is None and b is None:
        from tensorsmith.ops.index import nonzero

        return nonzero(condition)
    if a is None or b is None:
        raise ValueError("where: give both a and b, or neither")
    return core.where(condition, a, b)


def _comparable(x: Any) -> Any:
    """Integers and bools as float64, in which differences do not wrap around."""
    if isinstance(x, (int, float)):
        return float(x)
    if not hasattr(x, "requires_grad"):
        x = asarray(x)
    return x if x.dtype.kind in ("floating", "complex") else core.astype(x, "float64")


def _check_tolerances(name: str, **values: Any) -> None:
    for key, value in values.items():
        if not isinstance(value, (int, float)) and not hasattr(value, "dtype"):
            raise TypeError(f"{name}: {key} must be a number or a tensor, got {value!r}")


def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """|a - b| <= atol + rtol |b|, as bool; equal infinities are close, NaNs only by `equal_nan`."""
    _check_tolerances("isclose", rtol=rtol, atol=atol)
    a, b = _comparable(a), _comparable(b)
    near = core.logical_and(
        core.less_equal(core.absolute(core.subtract(a, b)), core.absolute(b) * rtol + atol), core.isfinite(b)
    )
    near = core.logical_or(near, core.equal(a, b))
    return core.logical_or(near, core.logical_and(core.isnan(a), core.isnan(b))) if equal_nan else near


def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close; see `isclose`."""
    _check_tolerances("allclose", rtol=rtol, atol=atol)
    a, b = _comparable(a), _comparable(b)
    numbers = all(isinstance(v, (int, float)) for v in (rtol, atol))
    if numbers and not isinstance(a, float) and not isinstance(b, float):
        alike = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device == "cpu"
        if alike and a.dtype in ("float32", "float64"):
            return bool(core.all_close(a, b, rtol, atol, bool(equal_nan)))
    return bool(core.all(isclose(a, b, rtol, atol, equal_nan)))


# --- copies and conversions -------------------------------------------------------------------------------

contiguous = define(
    core.contiguous,
    "x itself if dense in row-major order, else such a copy.",
    conjugate=False,
    x=lambda dy: dy,
)
copy = define(core.copy, "A copy of x.", conjugate=False, x=lambda dy: dy)
_astype = define(
    core.astype,
    """x converted to another dtype; itself where nothing changes and copy is False.

    float to integer truncates and saturates, NaN becomes 0; integers wrap around; to bool it is x != 0.""",
    conjugate=False,
    x=lambda dy: dy,
)


def astype(x: Any, dtype: Any, /, copy: bool = True, *, device: Any = None) -> Any:
    """x in another dtype, and on another device; itself where nothing changes and copy is False.

    float to integer truncates and saturates, NaN becomes 0; integers wrap around; to bool it is x != 0. TypeError from
    complex to real."""
    y = _astype(x, dtype, copy)
    return y if device is None else core.to_device(y, device)


define(
    core.copy_,
    "Converts and broadcasts `source` into x, which is returned.",
    conjugate=False,
    wrt="x source",
    vjp=lambda dy: (None, dy),
)

# NumPy's and the array standard's other names.
abs = absolute
pow = power
arccos = acos
arcsin = asin
arctan = atan
arctan2 = atan2
arccosh = acosh
arcsinh = asinh
arctanh = atanh
invert = bitwise_not = bitwise_invert
left_shift = bitwise_left_shift
right_shift = bitwise_right_shift
true_divide = divide
mod = remainder
