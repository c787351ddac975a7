"""Pointwise operations. References are NumPy's in float64, or SciPy-free formulas of `math`."""

from __future__ import annotations

import math

import numpy as np

import tensorsmith as ts
from cases import Case, apart, bools, integers, normal, off_zero, uniform

_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])
BIG = (70_001,)


def sigmoid(x):  # type: ignore[no-untyped-def]
    return 1 / (1 + np.exp(-x))


def gelu_tanh(x):  # type: ignore[no-untyped-def]
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def floor_divide(a, b):  # type: ignore[no-untyped-def]
    return np.floor(a / b)


S = (3, 5)
UNARY = {
    # name: (operation, reference, maker)
    "negative": (ts.negative, np.negative, normal),
    "absolute": (ts.absolute, np.abs, off_zero),
    "sign": (ts.sign, np.sign, off_zero),
    "square": (ts.square, np.square, normal),
    "sqrt": (ts.sqrt, np.sqrt, lambda *s: uniform(0.1, 4, *s)),
    "rsqrt": (ts.rsqrt, lambda x: 1 / np.sqrt(x), lambda *s: uniform(0.1, 4, *s)),
    "reciprocal": (ts.reciprocal, lambda x: 1 / x, off_zero),
    "exp": (ts.exp, np.exp, normal),
    "exp2": (ts.exp2, np.exp2, normal),
    "expm1": (ts.expm1, np.expm1, normal),
    "log": (ts.log, np.log, lambda *s: uniform(0.1, 4, *s)),
    "log2": (ts.log2, np.log2, lambda *s: uniform(0.1, 4, *s)),
    "log10": (ts.log10, np.log10, lambda *s: uniform(0.1, 4, *s)),
    "log1p": (ts.log1p, np.log1p, lambda *s: uniform(-0.8, 4, *s)),
    "sin": (ts.sin, np.sin, lambda *s: normal(*s, scale=5)),
    "cos": (ts.cos, np.cos, lambda *s: normal(*s, scale=5)),
    "tan": (ts.tan, np.tan, lambda *s: uniform(-1, 1, *s)),
    "sinh": (ts.sinh, np.sinh, normal),
    "cosh": (ts.cosh, np.cosh, normal),
    "tanh": (ts.tanh, np.tanh, normal),
    "asin": (ts.asin, np.arcsin, lambda *s: uniform(-0.9, 0.9, *s)),
    "acos": (ts.acos, np.arccos, lambda *s: uniform(-0.9, 0.9, *s)),
    "atan": (ts.atan, np.arctan, normal),
    "asinh": (ts.asinh, np.arcsinh, normal),
    "acosh": (ts.acosh, np.arccosh, lambda *s: uniform(1.1, 4, *s)),
    "atanh": (ts.atanh, np.arctanh, lambda *s: uniform(-0.9, 0.9, *s)),
    "erf": (ts.erf, _erf, normal),
    "relu": (ts.relu, lambda x: np.maximum(x, 0), off_zero),
    "sigmoid": (ts.sigmoid, sigmoid, normal),
    "log_sigmoid": (ts.log_sigmoid, lambda x: -np.log1p(np.exp(-x)), normal),
    "silu": (ts.silu, lambda x: x * sigmoid(x), normal),
    "gelu": (ts.gelu, lambda x: 0.5 * x * _erfc(-x / math.sqrt(2)), normal),
    "gelu tanh": (lambda x: ts.gelu(x, approximate="tanh"), gelu_tanh, normal),
    "softplus": (ts.softplus, lambda x: np.log1p(np.exp(x)), normal),
    "mish": (ts.mish, lambda x: x * np.tanh(np.log1p(np.exp(x))), normal),
    "hardswish": (ts.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6, off_zero),
    "hardsigmoid": (ts.hardsigmoid, lambda x: np.clip(x + 3, 0, 6) / 6, off_zero),
    "softsign": (ts.softsign, lambda x: x / (1 + np.abs(x)), off_zero),
    "elu": (lambda x: ts.elu(x, 1.3), lambda x: np.where(x > 0, x, 1.3 * np.expm1(x)), off_zero),
    "leaky_relu": (lambda x: ts.leaky_relu(x, 0.125), lambda x: np.where(x > 0, x, 0.125 * x), off_zero),
}
# Whole numbers apart from the halves: the value is exact, the gradient 0.
ROUNDING = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.round}

BINARY = {
    "add": (ts.add, np.add, normal, normal),
    "subtract": (ts.subtract, np.subtract, normal, normal),
    "multiply": (ts.multiply, np.multiply, normal, normal),
    "divide": (ts.divide, np.divide, normal, off_zero),
    "power": (ts.power, np.power, lambda *s: uniform(0.3, 3, *s), normal),
    "maximum": (ts.maximum, np.maximum, normal, normal),
    "minimum": (ts.minimum, np.minimum, normal, normal),
    "atan2": (ts.atan2, np.arctan2, off_zero, off_zero),
    "hypot": (ts.hypot, np.hypot, off_zero, off_zero),
    "logaddexp": (ts.logaddexp, np.logaddexp, normal, normal),
    "copysign": (ts.copysign, np.copysign, off_zero, off_zero),
}
COMPARE = {
    "equal": (ts.equal, np.equal),
    "not_equal": (ts.not_equal, np.not_equal),
    "less": (ts.less, np.less),
    "less_equal": (ts.less_equal, np.less_equal),
    "greater": (ts.greater, np.greater),
    "greater_equal": (ts.greater_equal, np.greater_equal),
    "logical_and": (ts.logical_and, np.logical_and),
    "logical_or": (ts.logical_or, np.logical_or),
    "logical_xor": (ts.logical_xor, np.logical_xor),
}
INTEGERS = {
    "add": (ts.add, np.add),
    "subtract": (ts.subtract, np.subtract),
    "multiply": (ts.multiply, np.multiply),
    "floor_divide": (ts.floor_divide, np.floor_divide),
    "remainder": (ts.remainder, np.remainder),
    "maximum": (ts.maximum, np.maximum),
    "minimum": (ts.minimum, np.minimum),
    "bitwise_and": (ts.bitwise_and, np.bitwise_and),
    "bitwise_or": (ts.bitwise_or, np.bitwise_or),
    "bitwise_xor": (ts.bitwise_xor, np.bitwise_xor),
}

CASES = [
    *(Case(n, op, ref, [make(*S)], scale=1e-3, large=[make(*BIG)]) for n, (op, ref, make) in UNARY.items()),
    *(Case(n, getattr(ts, n), ref, [apart(*S)], exact=True) for n, ref in ROUNDING.items()),
    *(
        Case(n, op, ref, [a(*S), b(*S)], scale=1e-3, large=[a(*BIG), b(*BIG)])
        for n, (op, ref, a, b) in BINARY.items()
    ),
    *(
        Case(f"{n} broadcast", op, ref, [a(3, 1), b(1, 5)], scale=1e-3)
        for n, (op, ref, a, b) in BINARY.items()
    ),
    *(Case(f"{n} scalar", lambda x, op=op: op(x, 1.5), lambda x, r=ref: r(x, 1.5), [a(*S)], scale=1e-3) for n, (op, ref, a, b) in BINARY.items()),
    Case("0-d", ts.multiply, np.multiply, [normal(), normal()]),
    Case("empty", ts.add, np.add, [normal(0, 3), normal(3)], exact=True),
    Case("floor_divide", ts.floor_divide, floor_divide, [apart(*S), lambda rng: np.full(S, 2.0)], exact=True),
    Case("remainder", ts.remainder, np.remainder, [apart(*S), lambda rng: np.full(S, -2.0)], scale=2.0),
    Case("square by **", lambda x: x**2, np.square, [normal(*S)]),
    Case("cube by **", lambda x: x**3, lambda x: x**3, [normal(*S)], scale=1e-3),
    Case("1 - x", lambda x: 1 - x, lambda x: 1 - x, [normal(*S)]),
    Case("2 / x", lambda x: 2 / x, lambda x: 2 / x, [off_zero(*S)]),
    Case("where", ts.where, np.where, [bools(*S), normal(*S), normal(5)], exact=True),
    Case("clip", lambda x: ts.clip(x, -0.5, 1), lambda x: np.clip(x, -0.5, 1), [apart(*S)], exact=True),
    Case("clip below", lambda x: ts.clip(x, -0.5, None), lambda x: np.clip(x, -0.5, None), [apart(*S)], exact=True),
    Case("fma", ts.fma, lambda a, b, c: a * b + c, [normal(*S), normal(*S), normal(*S)], scale=1.0),
    Case("lerp", ts.lerp, lambda a, b, c: a + c * (b - a), [normal(*S), normal(*S), uniform(0, 1, *S)], scale=2.0),
    Case("astype", lambda x: ts.astype(x, "float64"), lambda x: x, [normal(*S)], exact=True),
    *(Case(n, op, ref, [normal(*S), normal(*S)], gradient=False) for n, (op, ref) in COMPARE.items()),
    *(
        Case(f"{n} {d}", op, ref, [integers(0, 100, *S, dtype=d), integers(1, 9, *S, dtype=d)], gradient=False,
             dtypes=("float32",), large=[integers(0, 100, *BIG, dtype=d), integers(1, 9, *BIG, dtype=d)])
        for d in ("int64", "int32", "uint8")
        for n, (op, ref) in INTEGERS.items()
    ),
    Case("bitwise_invert", ts.bitwise_invert, np.invert, [integers(-9, 9, *S)], gradient=False),
    Case("bitwise_left_shift", ts.bitwise_left_shift, np.left_shift, [integers(-9, 9, *S), integers(0, 9, *S)], gradient=False),
    Case("bitwise_right_shift", ts.bitwise_right_shift, np.right_shift, [integers(-99, 99, *S), integers(0, 9, *S)], gradient=False),
    Case("power int64", ts.power, np.power, [integers(-5, 5, *S), integers(0, 9, *S)], gradient=False),
    Case("logical_not", ts.logical_not, np.logical_not, [bools(*S)], gradient=False),
    Case("isnan", ts.isnan, np.isnan, [lambda rng: np.array([1.0, np.nan, np.inf, -np.inf, -0.0])], gradient=False),
    Case("isinf", ts.isinf, np.isinf, [lambda rng: np.array([1.0, np.nan, np.inf, -np.inf, -0.0])], gradient=False),
    Case("isfinite", ts.isfinite, np.isfinite, [lambda rng: np.array([1.0, np.nan, np.inf, -np.inf, -0.0])], gradient=False),
    Case("signbit", ts.signbit, np.signbit, [lambda rng: np.array([1.0, -2.0, np.inf, -np.inf, -0.0])], gradient=False),
    Case("isclose", ts.isclose, np.isclose, [normal(*S), normal(*S)], gradient=False),
]  # fmt: skip
