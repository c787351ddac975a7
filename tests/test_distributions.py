"""Exponential, gamma, Poisson, binomial and what is made of them: against SciPy's distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

stats = pytest.importorskip("scipy.stats")
N = 200_000


def smirnov(sample: np.ndarray, dist: Any) -> float:
    """The Kolmogorov-Smirnov statistic times the root of n: above 2.72 with probability 1e-6."""
    return float(stats.kstest(sample.astype(np.float64), dist.cdf).statistic * np.sqrt(len(sample)))


def chi_square(sample: np.ndarray, dist: Any) -> float:
    """By how many standard deviations the statistic is too large."""
    low, high = int(dist.ppf(1e-4)), int(dist.ppf(1 - 1e-4))
    counts = np.bincount(np.clip(sample, low, high) - low, minlength=high - low + 1)
    expected = len(sample) * dist.pmf(np.arange(low, high + 1))
    expected[0], expected[-1] = len(sample) * dist.cdf(low), len(sample) * dist.sf(high - 1)
    degrees = len(expected) - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * max(degrees, 1)))


CONTINUOUS: dict[str, tuple[Callable[..., Any], Any]] = {
    "exponential": (lambda **o: ts.random.exponential(2.0, size=N, **o), stats.expon(scale=2)),
    **{
        f"gamma {k:g}": (lambda k=k, **o: ts.random.gamma(k, 3.0, size=N, **o), stats.gamma(k, scale=3))
        for k in (0.2, 1.0, 2.5, 50.0, 1e4)
    },
    "chisquare": (lambda **o: ts.random.chisquare(3, size=N, **o), stats.chi2(3)),
    "beta": (lambda **o: ts.random.beta(0.7, 2.0, size=N, **o), stats.beta(0.7, 2)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous(name: str, dtype: str) -> None:
    draw, dist = CONTINUOUS[name]
    x = draw(dtype=dtype, generator=ts.random.Generator(3))
    assert str(x.dtype) == dtype
    assert smirnov(x.numpy(), dist) < 2.72


DISCRETE: dict[str, tuple[Callable[..., Any], Any]] = {
    **{
        f"poisson {m:g}": (lambda m=m, **o: ts.random.poisson(m, size=N, **o), stats.poisson(m))
        for m in (0.5, 3, 9.99, 10, 25.3, 1000)
    },
    **{
        f"binomial {n} {p}": (lambda n=n, p=p, **o: ts.random.binomial(n, p, size=N, **o), stats.binom(n, p))
        for n, p in ((1, 0.3), (10, 0.9), (100, 0.05), (100, 0.2), (1000, 0.4), (1000, 0.99), (10**6, 0.5))
    },
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete(name: str) -> None:
    draw, dist = DISCRETE[name]
    x = draw(generator=ts.random.Generator(1))
    assert x.dtype == ts.int64
    assert chi_square(x.numpy(), dist) < 6


def test_edges() -> None:
    r = ts.random
    assert not r.poisson(0.0, size=100).numpy().any()
    assert (r.binomial(7, 1.0, size=100).numpy() == 7).all()
    assert not r.binomial(7, 0.0, size=100).numpy().any()
    assert not r.binomial(0, 0.5, size=100).numpy().any()
    assert not r.gamma(0.0, size=100).numpy().any()
    assert (r.exponential(size=10_000).numpy() > 0).all()
    assert r.poisson(3.0).shape == () and r.gamma(2.0, size=0).shape == (0,)
    means = np.array([[0.5], [30.0]])
    x = r.poisson(ts.asarray(means), size=(2, 50_000)).numpy()
    np.testing.assert_allclose(x.mean(1), means[:, 0], rtol=0.02)
    assert r.gamma(ts.asarray([1.0, 2.0]), ts.asarray([[1.0], [5.0]])).shape == (2, 2)
    assert r.binomial(ts.asarray([5, 50]), ts.asarray([[0.1], [0.9]])).shape == (2, 2)


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_length_and_threads_do_not_matter(name: str) -> None:
    if name == "beta":
        pytest.skip("two draws")
    draw = {
        "e": lambda n, g: ts.random.exponential(2.0, size=n, generator=g),
        "g": lambda n, g: ts.random.gamma(float(name.split()[1]), size=n, generator=g),
        "c": lambda n, g: ts.random.chisquare(3, size=n, generator=g),
        "p": lambda n, g: ts.random.poisson(float(name.split()[1]), size=n, generator=g),
        "b": lambda n, g: ts.random.binomial(*(float(v) for v in name.split()[1:]), size=n, generator=g),
    }[name[0]]
    threads = ts.get_num_threads()
    try:
        ts.set_num_threads(2)
        long = draw(20_003, ts.random.Generator(11)).numpy()
        ts.set_num_threads(1)
        np.testing.assert_array_equal(draw(20_003, ts.random.Generator(11)).numpy(), long)
    finally:
        ts.set_num_threads(threads)
    for length in (1, 2, 7, 8, 9, 100):
        np.testing.assert_array_equal(draw(length, ts.random.Generator(11)).numpy(), long[:length])


def test_categorical() -> None:
    p = np.array([0.1, 0.0, 0.5, 0.4, 0.0])
    g = ts.random.Generator(2)
    x = ts.random.categorical(p, N, replacement=True, generator=g).numpy()
    counts = np.bincount(x, minlength=5)
    assert counts[1] == counts[4] == 0
    kept = p > 0
    assert ((counts - N * p)[kept] ** 2 / (N * p[kept])).sum() < 2 + 10 * 2
    rows = ts.random.categorical(ts.asarray([p, p[::-1].copy()]), 1000, replacement=True, generator=g).numpy()
    assert rows.shape == (2, 1000) and set(rows[0]) == {0, 2, 3} and set(rows[1]) == {1, 2, 4}
    pairs = np.array([ts.random.categorical(p, 2, generator=g).tolist() for _ in range(6000)])
    assert (pairs[:, 0] != pairs[:, 1]).all()
    expected = {(a, b): p[a] * p[b] / (1 - p[a]) for a in (0, 2, 3) for b in (0, 2, 3) if a != b}
    statistic = sum(
        (int((pairs == pair).all(1).sum()) - 6000 * e) ** 2 / (6000 * e) for pair, e in expected.items()
    )
    assert statistic < 5 + 10 * np.sqrt(10)


def test_choice_multinomial_dirichlet() -> None:
    g = ts.random.Generator(4)
    assert sorted(ts.random.choice(10, 10, replace=False, generator=g).tolist()) == list(range(10))
    assert ts.random.choice(ts.asarray([[1.0, 2.0], [3.0, 4.0]]), 5, generator=g).shape == (5, 2)
    assert set(ts.random.choice(3, 100, p=[0.5, 0.0, 0.5], generator=g).tolist()) == {0, 2}
    p = [0.2, 0.3, 0.5]
    counts = ts.random.multinomial(100, p, size=20_000, generator=g).numpy()
    assert (counts.sum(1) == 100).all()
    for k in range(3):
        assert chi_square(counts[:, k], stats.binom(100, p[k])) < 6
    x = ts.random.dirichlet([1.0, 2.0, 3.0], size=50_000, dtype="float64", generator=g).numpy()
    np.testing.assert_allclose(x.sum(1), 1)
    assert smirnov(x[:, 1], stats.beta(2, 4)) < 2.72


def test_in_place() -> None:
    x = ts.zeros((100, 1000))
    assert x.exponential_(4.0, generator=ts.random.Generator(2)) is x
    assert smirnov(x.numpy().ravel(), stats.expon(scale=0.25)) < 2.72


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.exponential(-1.0), "scale must be finite and >= 0, got -1"),
        (lambda r: r.gamma(-0.5), r"shape must be in \[0, inf\), got -0.5"),
        (lambda r: r.gamma(float("nan")), "shape must be"),
        (lambda r: r.gamma(1.0, -1.0), r"scale must be in \[0, inf\), got -1"),
        (lambda r: r.gamma(1.0, float("inf")), "scale must be in"),
        (lambda r: r.gamma(1.0, ts.asarray([1.0, float("nan")])), "scale must be in"),
        (
            lambda r: r.gamma(1.0, ts.ones(3), size=2),
            r"gamma: scale of shape \(3,\) does not broadcast to \(2,\)",
        ),
        (lambda r: r.gamma(1.0, ts.ones(3), size=(1,)), "does not broadcast"),
        (lambda r: r.beta(1.0, -2.0), "b must be > 0 and finite, got -2"),
        (lambda r: r.beta(ts.ones(3), ts.asarray([1.0, 2.0, float("inf")])), "got inf"),
        (lambda r: r.beta(1.0, ts.ones(2), size=3), r"beta: b of shape \(2,\) does not broadcast to \(3,\)"),
        (lambda r: r.beta(1.0, 2.0, dtype="int32"), "beta: dtype is .*int32"),
        (lambda r: r.dirichlet([1.0, 2.0], dtype="int32"), "dirichlet: dtype is .*int32"),
        (lambda r: r.poisson(-1), r"mean must be in \[0, .*got -1"),
        (lambda r: r.poisson(1e300), "mean must be in"),
        (lambda r: r.binomial(-1, 0.5), "n must be in"),
        (lambda r: r.binomial(5, 1.5), r"p must be in \[0, 1\], got 1.5"),
        (lambda r: r.poisson(ts.ones((2, 3)), size=(4,)), "poisson: shape"),
        (lambda r: r.categorical([0.0, 0.0], 1), "not all 0"),
        (lambda r: r.categorical([1.0, -1.0], 1), ">= 0"),
        (lambda r: r.categorical([1.0, 0.0], 2), "as many positive"),
        (lambda r: r.categorical([1.0, 2.0], True), "num_samples must be an integer, got bool"),
        (lambda r: r.categorical(ts.full(2, 1e308, dtype="float64"), 1), "as is their sum"),
        (lambda r: r.choice(3, 5, replace=False), "5 samples without replacement from 3"),
        (lambda r: r.choice(3, p=[1.0]), r"p must have shape \(3,\)"),
        (lambda r: r.multinomial(5, [0.9, 0.9, 0.1]), "sum of at most 1"),
        (lambda r: r.multinomial(-5, [1.0]), "n must be >= 0, got -5"),
        (lambda r: r.multinomial(2.5, [0.5, 0.5]), "n must be an integer, got float"),
        (lambda r: ts.zeros((3,)).exponential_(0.0), "lambd must be > 0"),
    ],
)
def test_errors_leave_the_generator(call: Any, message: str) -> None:
    before = ts.random.get_state()
    with pytest.raises((ValueError, TypeError), match=message):
        call(ts.random)
    assert ts.random.get_state() == before
