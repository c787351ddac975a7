"""Expressions that are the same in NumPy and here, keywords and all: values, shapes, dtypes and kinds of errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

RNG = np.random.default_rng(0)
X = RNG.standard_normal(20)
ARRAYS = {
    "x": X, "s": np.sort(X), "b": X > 0, "i": RNG.integers(-5, 9, 20), "m": RNG.standard_normal((4, 5)),
    "t": RNG.standard_normal((2, 3, 4)), "k": RNG.integers(0, 3, (6, 2)), "z": X + 1j * np.round(X),
    "odd": np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.5, 3e-320, 1e300, 0.5]),
    "u": np.arange(11, dtype=np.uint8) * 23,
}  # fmt: skip

EXPRESSIONS = """
xp.divide(x, s, out=xp.zeros_like(x), where=b)
xp.divide(1.0, odd, out=xp.full_like(odd, 7.0), where=odd != 0)
xp.floor_divide(i, i, out=xp.full_like(i, -1), where=i != 0)
xp.remainder(7, i, out=xp.full_like(i, -1), where=i != 0)
xp.log(x, out=xp.zeros_like(x), where=x > 0)
xp.add(m, m[0], out=xp.ones_like(m), where=m[:, :1] > 0)
xp.add(m[0], 1, out=xp.ones_like(m), where=m > 0)
xp.add(m, m, out=xp.ones_like(m), where=m[:3] > 0)
xp.add(x, 1, out=xp.zeros_like(x), where=i)
xp.less(x, s, out=xp.zeros_like(b), where=b)
xp.isnan(odd, out=xp.ones((10,), dtype="bool"), where=odd > 0)
xp.add(i, i, dtype="float64")
xp.add(x, x, dtype="float32")
xp.add(i, 1, dtype="int8", casting="unsafe")
xp.add(i, i, dtype="int8")
xp.add(x, x, dtype="int32")
xp.add(x, x, out=xp.zeros_like(i), casting="unsafe")
xp.add(x, x, out=xp.zeros_like(i))
xp.sqrt(u, dtype="float64")
xp.divide(i, 2, dtype="int64")
xp.multiply(u, u, dtype="int32", casting="safe")
xp.multiply(i, i, dtype="int32", casting="safe")
xp.matmul(xp.abs(i), i, dtype="float64")
xp.fmod(i, 3, out=xp.zeros_like(i), where=i > 2)
xp.fmod(i, i, out=xp.zeros_like(i), where=i != 0)
xp.cbrt(x, out=xp.zeros_like(x))
xp.cbrt(xp.abs(i), dtype="float64")
xp.gcd(i, 6, out=xp.zeros_like(i), where=b)
xp.positive(x, out=xp.zeros_like(x), where=b)
xp.nansum(odd, where=odd < 2, initial=3.0)
xp.nansum(t, axis=(0, 2), where=t[0] > 0)
xp.nanprod(m, axis=1, keepdims=True, initial=2.0)
xp.nanmean(odd[5:], where=odd[5:] < 2)
xp.nanmean(t, axis=1, where=t > 0)
xp.nanvar(t, axis=1, where=t < 1, ddof=1)
xp.nanstd(m, where=m[0] < 1)
xp.nanmax(odd, initial=0.0, where=odd < 0)
xp.nanmin(i, axis=0, initial=9, where=i > 0)
xp.nanmax(odd, where=odd < 0)
xp.take(m, [7, -8, 2], axis=1, mode="wrap")
xp.take(m, [7, -8, 2], axis=0, mode="clip")
xp.take(m, xp.asarray([[1, 19], [-20, 3]]), mode="raise")
xp.take(m, [1, 20], mode="raise")
xp.take(m, [1, 20], mode="bogo")
xp.take(m, [1, 30], mode="wrap", out=xp.zeros((2,), dtype="float64"))
xp.polyfit(s, x, 2, full=True)[0]
xp.polyfit(s, x, 2, full=True)[1]
xp.polyfit(s, xp.stack([x, s], axis=1), 1, full=True)[1]
xp.polyfit(s, x, 3, None, True)[3]
xp.polyfit(s, x, 3, 0.3)
xp.polyfit(s[:2], x[:2], 1, full=True)[1]
xp.histogram(x, "auto")
xp.histogram(x, "fd")
xp.histogram(x, "doane")
xp.histogram(x, "scott", (-1, 1))
xp.histogram(x, "stone")
xp.histogram(x, "rice", density=True)
xp.histogram(x, "sturges")
xp.histogram(x[:0], "auto")
xp.histogram(x[:1], "stone")
xp.histogram(x * 0, "auto")
xp.histogram_bin_edges(xp.asarray([1.0, 1, 1, 1, 1, 9]), "fd")
xp.histogram_bin_edges(i, "auto")
xp.histogram_bin_edges(i, "sqrt", range=(0, 3))
xp.histogram_bin_edges(u, "sqrt")
xp.histogram(x, "bogo")
xp.histogram(x, "auto", weights=s)
xp.linspace(0, 1, 5, False)
xp.linspace(0, 1, 5, retstep=True)
xp.linspace(0, 1, 1, retstep=True)
xp.linspace(0, 1, 0)
xp.linspace(0, 10, 4, dtype="int64")
xp.linspace(-3, 10, 4, dtype="int32", endpoint=False)
xp.linspace(xp.asarray([0.0, 1]), xp.asarray([5.0, 6]), 4)
xp.linspace(xp.asarray([0.0, 1]), 6, 4, axis=1)
xp.linspace([0, 1], [[5], [6]], 3, endpoint=False, retstep=True)
xp.linspace([0, 1], 6, 1)
xp.linspace([0, 1], 6, 0)
xp.linspace(1j, 2, 3)
xp.logspace(0, 2, 5, endpoint=False)
xp.meshgrid(x, s, sparse=True)
xp.meshgrid(x, s, copy=False)
xp.meshgrid(x, s, m[0], indexing="ij", sparse=True, copy=False)
xp.unravel_index(7, (3, 4), order="F")
xp.unravel_index(xp.abs(i), (3, 4))
xp.unravel_index([3, 11], (3, 2, 2), "F")
xp.unravel_index(5, 8)
xp.unravel_index(b, (3, 4))
xp.unravel_index(u, (16, 16))
xp.unravel_index(1.5, (3, 4))
xp.ravel_multi_index((xp.abs(i), xp.abs(i)), (4, 4), mode="clip")
xp.ravel_multi_index((i, i), (4, 5), mode=("wrap", "clip"))
xp.ravel_multi_index((xp.abs(i), xp.abs(i)), (9, 9), order="F")
xp.ravel_multi_index((3, 4), (3, 4))
xp.ravel_multi_index(([1.0], [2]), (3, 4))
xp.ravel_multi_index((xp.asarray([-128, 127], dtype="int8"), 3), (300, 300), mode="wrap")
xp.cov(m, fweights=[1, 2, 3, 1, 1])
xp.cov(m, aweights=[1, 2.5, 3, 1, 1], bias=True)
xp.cov(m, aweights=[1, 2.5, 3, 1, 1])
xp.cov(m, fweights=[1, 2, 3, 1, 1], aweights=[1, 2.5, 3, 1, 1], ddof=0)
xp.cov(z, s)
xp.cov(m, aweights=[0, 0, 0, 0, 0])
xp.polyfit(s, x, 1, w=xp.abs(x))
xp.polyfit(s, x, 2, cov=True)
xp.polyfit(s, xp.stack([x, s], axis=1), 2, cov=True)
xp.polyfit(s, x, 2, w=xp.abs(x) + 1, cov="unscaled")
xp.polyfit(s[:3], x[:3], 2, cov=True)
xp.roots([1, -3, 2])
xp.roots([1.0, 0, 1, 0])
xp.poly([1, 2, 3])
xp.poly([1j, -1j, 2])
xp.poly([1j, 2])
xp.poly([[1.0, 2], [2, 5]])
xp.polyadd([1, 2], [3, 4, 5])
xp.polysub([1, 2], [3, 4, 5])
xp.polysub([1, 2, 3], [1, 4, 5])
xp.polymul([0, 1, 2], [3, 4, 5])
xp.polymul(x, [0, 0])
xp.polydiv([1, 2, 3], [1, 1])
xp.polydiv([1.0, 2, 3, 4], [2, 1, 7])
xp.polydiv([1.0, 2], [2, 1, 7])
xp.polydiv([3.0, 6], [2])
xp.polydiv([1, 3, 3 + 1e-10, 1], [1, 1, 1])
xp.polyder([1, 2, 3])
xp.polyder(x, 3)
xp.polyder([7], 2)
xp.polyint([1, 2, 3])
xp.polyint([1, 2, 3], 2, [5, 6])
xp.polyint([1.0, 2], 2, 3)
xp.piecewise(x, [x < 0, x >= 0], [-1, 1])
xp.piecewise(x, [x < 0], [lambda v: -v, lambda v: v * 2])
xp.piecewise(x, [x < -1, x > 1, x > 1.5], [-1, lambda v: v, lambda v, a=2: v * a])
xp.piecewise(x, x < 0, [-1, 1])
xp.piecewise(m, [m < 0, m > 90], [lambda v, a: v * a, 3, 4], 2.0)
xp.piecewise(i, [i < 0], [2.9])
xp.piecewise(3.0, [True], [lambda v: v + 1])
xp.piecewise(x, [x < 0], [1, 2, 3])
xp.intersect1d(i, [1, 2, 3], return_indices=True)
xp.unique(m > 0, axis=0)
xp.unique(k, axis=0, return_index=True, return_inverse=True, return_counts=True)
xp.unique(k, axis=1, return_counts=True)
xp.unique(k[:, 0], axis=0, return_inverse=True)
xp.unique(k.reshape((3, 2, 2)), axis=-1)
xp.unique(k[:0], axis=0, return_counts=True)
xp.unique(k, axis=2)
xp.sort(x, kind="mergesort")
xp.sort(x, 0, "stable")
xp.argsort(m, axis=0, kind="stable")
xp.sort(x, kind="bogo")
xp.sort_complex(z[::-1])
xp.sort_complex(i)
xp.digitize(x, s[::-4])
xp.digitize(x, s[::-4], right=True)
xp.digitize(x, s[::4], right=True)
xp.digitize(x, [1.0, 0.0, 2.0])
xp.digitize(odd, [1.0])
xp.histogram(x, bins=[-1, 0, 1])
xp.histogram(i, 5)
xp.histogram(m, 3, weights=m)
xp.histogram(m, 3, weights=m.T)
xp.histogram_bin_edges(x, 5)
xp.histogram_bin_edges(x, 5, range=(-1, 2))
xp.histogram2d(x, s, 4)
xp.histogram2d(x, s, bins=[3, 4], range=[[-1, 1], [-2, 2]])
xp.histogram2d(x, s, bins=[-1.0, 0, 1, 2])
xp.histogram2d(x, s, bins=[3, xp.asarray([-1.0, 0, 1, 2])], density=True)
xp.histogram2d(x, s, 3, weights=xp.abs(x))
xp.histogram2d(m, m, 2)
xp.histogramdd(t, 2)
xp.histogramdd(m, 2)
xp.histogramdd((x, s, x * s), (2, 3, 4), density=True)
xp.cross([1.0, 2, 3], [4.0, 5, 6])
xp.cross(m[:, :3], m[0, 1:4])
xp.cross(t, t[::-1], axis=1)
xp.cross(t, t[::-1].transpose((1, 0, 2)), axisa=1, axisb=0, axisc=0)
xp.cross(x, x)
xp.angle(z, deg=True)
xp.angle([1, -1], True)
xp.frexp(odd)
xp.frexp(z)
xp.frexp(x * 1e-3)
xp.frexp(xp.asarray([1, 2, 3, 8]))
xp.frexp(xp.asarray([0.25, 7.0, 1e-45, 3e38], dtype="float32"))
xp.fabs(i)
xp.fabs(z)
xp.spacing(odd[5:])
xp.spacing(xp.asarray([-1.0, 3.0], dtype="float32"))
xp.bitwise_count(i)
xp.bitwise_count(u)
xp.bitwise_count(b)
xp.bitwise_count(x)
xp.bitwise_count(xp.asarray([-128, 127, -1], dtype="int8"))
xp.bitwise_count(xp.asarray([-(2**31)], dtype="int32"))
xp.bitwise_count(xp.asarray([2**62 - 1, -(2**62)]))
xp.packbits(b)
xp.packbits(b, bitorder="little")
xp.packbits(m > 0, axis=0)
xp.packbits(i)
xp.packbits(x)
xp.unpackbits(u)
xp.unpackbits(u, count=7)
xp.unpackbits(u, count=-3, bitorder="little")
xp.unpackbits(u, count=100)
xp.unpackbits(u.reshape((11, 1)), axis=1)
xp.unpackbits(i)
xp.real_if_close(x + 0j)
xp.real_if_close(z)
xp.real_if_close(x + 1e-5j, tol=1e-3)
xp.diag_indices_from(xp.eye(3))
xp.diag_indices_from(m)
xp.mask_indices(3, xp.triu)
xp.mask_indices(4, xp.tril, -1)
xp.may_share_memory(x, x[2:])
xp.shares_memory(x[::2], x[1::2])
xp.shares_memory(x[::2], x[1::3])
xp.shares_memory(x, x.copy())
xp.iterable(x)
xp.iterable(3)
xp.apply_over_axes(xp.sum, t, [0, 2])
xp.apply_over_axes(xp.cumsum, t, -1)
xp.fromfunction(lambda a, b: a + b, (3, 4))
xp.fromfunction(lambda a, b: a * b, (3, 4), dtype=int)
s.searchsorted(x)
s.searchsorted(x, side="right")
m.compress([True, False, True], 0)
m.compress([True, False], axis=1)
m.compress([True, False, True])
xp.euler_gamma
""".strip().splitlines()


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    before = ts.get_default_dtype()
    ts.set_default_dtype("float64")
    yield
    ts.set_default_dtype(before)


def evaluate(source: str, xp: Any) -> Any:
    names = {k: v.copy() if xp is np else ts.asarray(v.copy()) for k, v in ARRAYS.items()}
    with np.errstate(all="ignore"):
        return eval(source, {"xp": xp, **names})


def flat(result: Any) -> list[Any]:
    return [leaf for part in result for leaf in flat(part)] if isinstance(result, (tuple, list)) else [result]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", EXPRESSIONS)
def test_the_same_as_numpy(source: str) -> None:
    try:
        expected = flat(evaluate(source, np))
    except Exception as error:
        with pytest.raises((ValueError, TypeError, IndexError, ZeroDivisionError)) as caught:
            evaluate(source, ts)
        if not isinstance(error, np.exceptions.AxisError):
            assert isinstance(caught.value, TypeError if isinstance(error, TypeError) else type(error))
        return
    got = flat(evaluate(source, ts))
    assert len(got) == len(expected)
    for g, e in zip(got, expected):
        g, e = g.numpy() if isinstance(g, ts.Tensor) else np.asarray(g), np.asarray(e)
        assert (g.shape, g.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-11)


def gradient(f: Any, x: np.ndarray) -> np.ndarray:
    t = ts.asarray(x.copy()).requires_grad_()
    f(t).sum().backward()
    return t.grad.numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ts.piecewise(x, [x < 0, x > 1], [lambda v: v**2, lambda v: ts.exp(v), lambda v: v * 3]),
        lambda x: ts.linspace(x[:3], x[3:6] ** 2, 4) ** 2,
        lambda x: ts.linspace(x[0], x[1] ** 2, 4) ** 2,
        lambda x: ts.logspace(x[0], 1.0, 4) ** 2,
        lambda x: ts.geomspace(x[1], -(x[3] ** 2), 4) ** 2,
        lambda x: ts.meshgrid(x[:3], x[3:6])[0] ** 2,
        lambda x: ts.cross(x[:3], x[3:6]) ** 2,
        lambda x: ts.frexp(x)[0] ** 2,
        lambda x: ts.polymul(x[:3], x[2:6]) ** 2,
        lambda x: ts.polydiv(x[:5], x[5:7])[0] ** 2,
        lambda x: ts.polyint(ts.polyder(x) ** 2) ** 2,
        lambda x: ts.poly(x[:3]) ** 2,
        lambda x: ts.polyfit(ts.arange(8.0), x, 2, w=ts.arange(1.0, 9)) ** 2,
        lambda x: ts.cov(ts.reshape(x, (2, 4)), aweights=[1.0, 2, 3, 4]) ** 2,
        lambda x: ts.cov(ts.asarray([1.0, 5, 2, 7]), aweights=x[4:] ** 2) ** 2,
        lambda x: ts.histogram2d(ts.arange(8.0), ts.arange(8.0), 2, weights=x)[0] ** 2,
        lambda x: ts.fabs(x) ** 2,
        lambda x: ts.divide(x, x - 0.3, where=x > 0.5),
        lambda x: ts.atanh(x, where=ts.abs(x) < 1) ** 2,
        lambda x: ts.cbrt(x, where=x > 0),
        lambda x: np.multiply(x, x, where=(x > 0).detach()),
        lambda x: np.cbrt(x) ** 2,
        lambda x: ts.nanmean(x, where=x > 0) ** 2,
    ],
)
def test_gradients(f: Any) -> None:
    x = np.array([0.3, -1.7, 2.5, 0.8, -0.4, 1.3, 0.6, 1.9])
    found = gradient(f, x)
    for j in range(len(x)):
        step = np.eye(len(x))[j] * 1e-6
        after, before = (float(f(ts.asarray(x + d)).sum()) for d in (step, -step))
        assert found[j] == pytest.approx((after - before) / 2e-6, rel=2e-5, abs=2e-5)


def test_messages_name_what_is_wrong() -> None:
    x = ts.arange(4.0)
    for message, call in {
        "linspace: endpoint must be a bool": lambda: ts.linspace(0, 1, 5, "float32"),
        "histogram: bins must be a number": lambda: ts.histogram(x, "automatic"),
        "histogram: bins='auto' knows no weights": lambda: ts.histogram(x, "auto", weights=x),
        "add: where must hold bools, got int64": lambda: ts.add(x, x, where=ts.asarray([1, 0, 1, 1])),
        "add: float64 does not become int32 with casting 'same_kind'": lambda: ts.add(x, x, dtype="int32"),
        "divide: the result is float64, not int64": lambda: ts.divide(1, 2, dtype="int64"),
        "exp: a result of float64 does not become out's int64": lambda: ts.exp(
            x, out=ts.arange(4), where=x > 1
        ),
        'take: mode must be "raise", "wrap" or "clip"': lambda: ts.take(x, [1], mode="bend"),
        r"add: out has shape \(4,\), the result \(5,\)": lambda: ts.add(
            ts.ones(5), 1, out=ts.zeros(4), where=ts.ones(5) > 0
        ),
        "bend": lambda: ts.add(x, x, casting="bend"),
        "polyfit: rcond must be a number": lambda: ts.polyfit(x, x, 1, "a"),
        "add: out must be a tensor, got list": lambda: ts.add(x, x, out=[0.0] * 4, where=x > 1),
        r"add: where of shape \(3,\) and operands of .* do not broadcast": lambda: ts.add(
            x, x, where=ts.ones(3, dtype="bool")
        ),
        "histogram: .* bins are more than the memory holds": lambda: ts.histogram(x, 2**70),
        "histogram: [0-9]* bins are more than": lambda: ts.histogram(np.append(np.arange(99.0), 1e20), "fd"),
        "polyfit: w must have the shape": lambda: ts.polyfit(x, x, 1, w=x[:2]),
        "polyval: p must hold": lambda: ts.polyval(3, x),
        "cov: aweights must not be negative": lambda: ts.cov(x, aweights=-x),
        "piecewise: 3 functions for 1 conditions": lambda: ts.piecewise(x, [x < 0], [1, 2, 3]),
        "ravel_multi_index: mode": lambda: ts.ravel_multi_index((1, 2), (3, 4), mode="bend"),
        "unravel_index: order": lambda: ts.unravel_index(1, (3, 4), order="A"),
        "digitize: bins must ascend or descend": lambda: ts.digitize(x, [1, 3, 2]),
        "argsort: kind must be one of": lambda: ts.argsort(x, kind="bogo"),
        "histogramdd: 3 bins for 1 dimensions": lambda: ts.histogramdd(x, [1, 2, 3]),
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            call()


def test_linspace_keeps_the_precision_asked_for() -> None:
    ts.set_default_dtype("float32")
    single = ts.asarray([1.0, 2.0])
    assert ts.linspace(single, 3, 3).dtype == ts.linspace(0.5, single, 3).dtype == "float32"
    np.testing.assert_array_equal(ts.linspace([0.1], 0.7, 2, dtype="float64").numpy(), [[0.1], [0.7]])
    assert ts.linspace([1j], 2, 3, dtype="complex64").dtype == "complex64"
