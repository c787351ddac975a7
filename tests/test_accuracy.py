"""The pointwise functions are right to 2 units of the last place: samples of all float32 inputs, and the validation
sets that NumPy ships. `bench/accuracy.cpp` walks all 2^32."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tensorsmith as ts

Reference = Callable[[np.ndarray], np.ndarray]
erf: Reference = np.vectorize(math.erf, otypes=["float64"])
erfc: Reference = np.vectorize(math.erfc, otypes=["float64"])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return np.where(x == -np.inf, -0.0, x * sigmoid(x))


def gelu(x: np.ndarray) -> np.ndarray:
    return np.where(x == -np.inf, -0.0, x * 0.5 * erfc(-x * math.sqrt(0.5)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    w = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return np.where(x == -np.inf, -0.0, x * sigmoid(w))


def mish(x: np.ndarray) -> np.ndarray:
    e = np.exp(np.minimum(x, 30))
    w = e * (e + 2)
    return np.where(x > 30, x, np.where(x == -np.inf, -0.0, x * (w / (w + 2))))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def power(exponent: float) -> tuple[Callable[[ts.Tensor], ts.Tensor], Reference]:
    return lambda x: ts.pow(x, exponent), lambda x: np.power(x, np.float64(np.float32(exponent)))


FUNCTIONS: dict[str, tuple[Callable[[ts.Tensor], ts.Tensor], Reference]] = {
    **{
        name: (getattr(ts, name), getattr(np, name))
        for name in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh")
    },
    "tanh": (ts.tanh, np.tanh),
    "rsqrt": (ts.rsqrt, lambda x: 1 / np.sqrt(x)),
    "erf": (ts.erf, erf),
    "sigmoid": (ts.sigmoid, sigmoid),
    "silu": (ts.silu, silu),
    "gelu": (ts.gelu, gelu),
    "gelu_tanh": (lambda x: ts.gelu(x, approximate="tanh"), gelu_tanh),
    "mish": (ts.mish, mish),
    "softplus": (ts.softplus, softplus),
    "log_sigmoid": (ts.log_sigmoid, lambda x: -softplus(-x)),
    **{f"pow {e}": power(e) for e in (-2.0, -0.5, 0.333, 1.5, 10.1)},
}  # fmt: skip


def samples() -> np.ndarray:
    """Every 60,493rd bit pattern (a prime step, so that no bit stands still), and the edges."""
    spread = np.arange(0, 2**32, 60493, dtype=np.uint64).astype(np.uint32)
    near = np.arange(-3, 4, dtype=np.int64)
    places = np.array([0, 1, 2, 4, 8, 16, 88, 89, 103, 104, 127, 128, 0.5, 0.25, 1e-3, 1e-20, 3e-39, 3.4e38])
    # Where the tables of csrc/math/decay.h begin, change and end, and tanh's.
    inner = [(np.arange(16) + 0.5) / s for s in (1, 1.125, 1.375, 1.5, 3.25, 3.5, 3.75)]
    quarters = np.exp2(np.arange(-1, 4))[:, None] * (1 + np.arange(4) / 4) - 0.625
    ends = [4.42, 4.75, 4.125, 5.4, 9.1, 11.25, 13.75, 15.5]
    places = np.concatenate([places, *inner, quarters.ravel()[quarters.ravel() >= 0], ends])
    bits = places.astype(np.float32).view(np.uint32).astype(np.int64)
    edges = np.clip(bits[:, None] + near, 0, 0x7F800001).astype(np.uint32).ravel()
    return np.concatenate([spread, edges, edges | np.uint32(1 << 31)]).view(np.float32)


def ulps(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The distance of y from the exact results in units of the last place of float32."""
    rounded = exact.astype(np.float32)
    exponent = np.maximum(
        np.floor(np.log2(np.abs(exact), where=exact != 0, out=np.full_like(exact, -126.0))), -126
    )
    with np.errstate(all="ignore"):
        error = np.abs(y.astype(np.float64) - exact) / np.exp2(exponent - 23)
    return np.where((y == rounded) | (np.isnan(y) & np.isnan(exact)), 0, error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples(name: str) -> None:
    function, reference = FUNCTIONS[name]
    x = samples()
    with np.errstate(all="ignore"):
        error = ulps(function(ts.array(x)).numpy(), reference(x.astype(np.float64)))
    worst = int(np.argmax(np.nan_to_num(error, nan=np.inf)))
    assert error[worst] <= 2, f"{name}({x[worst]!r}) is {error[worst]:.3g} ULP off"


def logits_and_targets() -> tuple[np.ndarray, np.ndarray]:
    x = samples()
    x = x[np.abs(x) < 1e30]
    rng = np.random.default_rng(0)
    t = np.where(rng.random(x.size) < 0.5, rng.integers(0, 2, x.size), rng.random(x.size)).astype(np.float32)
    return x, t


def test_cross_entropy_of_logits() -> None:
    """Relative to the loss, however small; a slope relative to the larger of the terms that it is the difference of."""
    x, t = logits_and_targets()
    wide, target = x.astype(np.float64), t.astype(np.float64)
    amiss, rest = np.where(x > 0, 1 - target, target), np.exp(-np.abs(wide))
    error = ulps(ts.bce_with_logits(ts.array(x), ts.array(t)).numpy(), np.abs(wide) * amiss + np.log1p(rest))
    worst = int(np.argmax(np.nan_to_num(error, nan=np.inf)))
    assert error[worst] <= 3, f"({x[worst]!r}, {t[worst]!r}) is {error[worst]:.3g} ULP off"
    one = ts.array(t) * 3
    weighted = 3 * target if (one.numpy() == 3 * target).all() else one.numpy().astype(np.float64)
    zero = (1 - t).astype(np.float64)
    near = np.where(x > 0, zero, weighted)
    exact = np.abs(wide) * near + (zero + weighted) * np.log1p(rest)
    error = ulps(ts.weighted_bce_with_logits(ts.array(x), ts.array(1 - t), one).numpy(), exact)
    worst = int(np.argmax(np.nan_to_num(error, nan=np.inf)))
    assert error[worst] <= 4, f"({x[worst]!r}, {t[worst]!r}) is {error[worst]:.3g} ULP off, weighted"
    leaf = ts.array(x).requires_grad_()
    ts.bce_with_logits(leaf, ts.array(t)).sum().backward()
    terms = [np.where(x > 0, amiss, -amiss), np.where(x > 0, -1, 1) * (rest / (1 + rest))]
    error = np.abs(leaf.grad.numpy() - sum(terms)) / np.maximum(np.max(np.abs(terms), 0), 1e-37) * 2**24
    worst = int(np.argmax(error))
    assert error[worst] <= 8, f"the slope at ({x[worst]!r}, {t[worst]!r}) is {error[worst]:.3g} units off"


SLOPES: dict[str, tuple[Callable[[ts.Tensor], ts.Tensor], Callable[[np.ndarray], list[np.ndarray]]]] = {
    "gelu": (ts.gelu, lambda x: [0.5 * erfc(-x * math.sqrt(0.5)), x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)]),
    "gelu_tanh": (
        lambda x: ts.gelu(x, approximate="tanh"),
        lambda x: gelu_tanh_terms(x, 2 * math.sqrt(2 / math.pi)),
    ),
    "silu": (ts.silu, lambda x: [sigmoid(x), x * sigmoid(x) * sigmoid(-x)]),
    "softplus": (ts.softplus, lambda x: [sigmoid(x)]),
    "mish": (ts.mish, lambda x: mish_terms(np.exp(x), x)),
}  # fmt: skip


def gelu_tanh_terms(x: np.ndarray, c: float) -> list[np.ndarray]:
    w = c * (x + 0.044715 * x**3)
    return [sigmoid(w), x * sigmoid(w) * sigmoid(-w) * c * (1 + 3 * 0.044715 * x * x)]


def mish_terms(e: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    w = e * (e + 2)
    return [w / (w + 2), x * sigmoid(x) * 4 * (1 + w) / (w + 2) ** 2]


@pytest.mark.parametrize("name", SLOPES)
def test_slopes(name: str) -> None:
    """A gradient is within a few units of the last place of the largest term that it is the sum of."""
    function, terms = SLOPES[name]
    x = samples()
    x = x[np.abs(x) < 7]
    leaf = ts.array(x).requires_grad_()
    function(leaf).sum().backward()
    exact = terms(x.astype(np.float64))
    error = np.abs(leaf.grad.numpy() - sum(exact)) / np.maximum(np.max(np.abs(exact), 0), 1e-37) * 2**24
    worst = int(np.argmax(error))
    assert error[worst] <= 8, f"the slope of {name} at {x[worst]!r} is {error[worst]:.3g} units off"


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_far_out(name: str) -> None:
    x = np.array([200, 1e4, 3e38, np.inf], np.float32)
    leaf = ts.array(np.stack([x, -x])).requires_grad_()
    SLOPES[name][0](leaf).sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), [[1] * 4, [0] * 4])


def gradient(function: Callable[[ts.Tensor], ts.Tensor]) -> Callable[[ts.Tensor], ts.Tensor]:
    def slope(x: ts.Tensor) -> ts.Tensor:
        leaf = x.detach().requires_grad_()
        function(leaf).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    return slope


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*FUNCTIONS, *(f"slope of {name}" for name in SLOPES)])
def test_a_nan_does_not_depend_on_its_neighbours(name: str, dtype: str) -> None:
    """Not even its sign: a register with numbers that take the long way takes it alone."""
    function = (
        FUNCTIONS[name][0] if name in FUNCTIONS else gradient(SLOPES[name.removeprefix("slope of ")][0])
    )
    x = np.array([np.nan, -np.nan], dtype)
    alone = function(ts.array(x)).numpy()
    for other in (0.5, -0.5, 20, -20, 1e4, -1e30, np.inf):
        for n in (6, 14, 30):
            beside = function(ts.array(np.append(x, np.full(n, other, dtype)))).numpy()[:2]
            assert alone.tobytes() == beside.tobytes(), f"beside {n} of {other}"


def test_power_of_pairs() -> None:
    """Bases everywhere and near 1, exponents that use up the range of the result."""
    rng = np.random.default_rng(0)
    base = np.concatenate([rng.uniform(0.75, 1.5, 100_000), np.exp2(rng.uniform(-149, 128, 100_000))])
    x = base.astype(np.float32)
    with np.errstate(all="ignore"):
        y = (rng.uniform(-150, 150, x.size) / np.log2(x.astype(np.float64))).astype(np.float32)
        error = ulps(
            ts.pow(ts.array(x), ts.array(y)).numpy(), np.power(x.astype(np.float64), y.astype(np.float64))
        )
    worst = int(np.argmax(np.nan_to_num(error, nan=np.inf)))
    assert error[worst] <= 2, f"{x[worst]!r} ** {y[worst]!r} is {error[worst]:.3g} ULP off"


def test_nextafter() -> None:
    """The neighbour, bit for bit; across 0, at the ends, and of NaN."""
    for dtype in ("float32", "float64"):
        ends = np.array(
            [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).tiny]
        )
        a = np.concatenate([ends, np.random.default_rng(0).standard_normal(23)]).astype(dtype)
        y = ts.nextafter(ts.array(a)[:, None], ts.array(a)[None, :]).numpy()
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(y, np.nextafter(a[:, None], a[None, :]))


DATA = Path(np.__file__).parent / "_core/tests/data"
NAMES = {
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
}
FMA = ts.config()["simd"]["level"] != "baseline"
SETS = sorted(p.stem.removeprefix("umath-validation-set-") for p in DATA.glob("umath-validation-set-*.csv"))


@pytest.mark.skipif(not SETS, reason="this NumPy came without its tests' data")
@pytest.mark.parametrize("name", SETS)
def test_numpy_validation_set(name: str) -> None:
    """Inputs and correctly rounded results as bits, with the error that NumPy allows itself; ours is at most that
    and 2. Without FMA (baseline) it is at most 2."""
    function = getattr(ts, NAMES.get(name, name), None)
    if function is None:
        pytest.skip(f"there is no {name}")
    rows: dict[str, list[tuple[int, int, int]]] = {"float32": [], "float64": []}
    with open(DATA / f"umath-validation-set-{name}.csv") as file:
        for row in csv.reader(line for line in file if line.startswith("np.")):
            rows[row[0][3:]].append((int(row[1], 16), int(row[2], 16), int(row[3])))
    for dtype, entries in rows.items():
        if not entries:
            continue
        word = np.uint32 if dtype == "float32" else np.uint64
        x = np.array([e[0] for e in entries], word).view(dtype)
        expected = np.array([e[1] for e in entries], word).view(dtype)
        allowed = np.minimum(2, [e[2] if FMA else 2 for e in entries])
        y = function(ts.array(x)).numpy()
        with np.errstate(all="ignore"):
            error = np.abs(y.astype(np.longdouble) - expected) / np.spacing(np.abs(expected)).astype(
                np.longdouble
            )
        good = (y == expected) | (np.isnan(y) & np.isnan(expected)) | (error <= allowed)
        assert good.all(), f"{name} of {x[~good][:3]}: {y[~good][:3]} for {expected[~good][:3]}"


def test_sqrt_rounds_correctly():
    """Every mantissa with an even and an odd exponent, every 1,009th number of all: NumPy's bits, NaN and -0 too."""
    mantissas = np.arange(0x3F800000, 0x40800000, dtype=np.uint32).view(np.float32)
    assert np.array_equal(ts.sqrt(ts.from_numpy(mantissas)).numpy(), np.sqrt(mantissas))
    x = np.arange(0, 2**32, 1009, dtype=np.int64).astype(np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        expected = np.sqrt(x)
    got = ts.sqrt(ts.from_numpy(x)).numpy()
    number = ~np.isnan(expected)
    assert (
        np.array_equal(got[number].view(np.uint32), expected[number].view(np.uint32))
        and np.isnan(got[~number]).all()
    )
