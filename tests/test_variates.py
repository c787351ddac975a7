"""NumPy's further distributions: their distribution functions, parameters, errors, and generators with methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

stats = pytest.importorskip("scipy.stats")

SIZE = 20_000
CONTINUOUS: dict[str, tuple[Callable[..., Any], Any]] = {
    "standard_exponential": (lambda r, **k: r.standard_exponential(**k), stats.expon()),
    "lognormal": (lambda r, **k: r.lognormal(0.3, 0.7, **k), stats.lognorm(0.7, scale=np.exp(0.3))),
    "laplace": (lambda r, **k: r.laplace(-1.0, 2.0, **k), stats.laplace(-1, 2)),
    "gumbel": (lambda r, **k: r.gumbel(0.5, 2.0, **k), stats.gumbel_r(0.5, 2)),
    "logistic": (lambda r, **k: r.logistic(0.5, 2.0, **k), stats.logistic(0.5, 2)),
    "weibull": (lambda r, **k: r.weibull(1.7, **k), stats.weibull_min(1.7)),
    "rayleigh": (lambda r, **k: r.rayleigh(1.5, **k), stats.rayleigh(scale=1.5)),
    "pareto": (lambda r, **k: r.pareto(2.5, **k), stats.lomax(2.5)),
    "power": (lambda r, **k: r.power(2.5, **k), stats.powerlaw(2.5)),
    "standard_cauchy": (lambda r, **k: r.standard_cauchy(**k), stats.cauchy()),
    "standard_t": (lambda r, **k: r.standard_t(3.5, **k), stats.t(3.5)),
    "f": (lambda r, **k: r.f(3.0, 7.0, **k), stats.f(3, 7)),
    "wald": (lambda r, **k: r.wald(2.0, 3.0, **k), stats.invgauss(2 / 3, scale=3)),
    "noncentral_chisquare": (lambda r, **k: r.noncentral_chisquare(3.5, 2.0, **k), stats.ncx2(3.5, 2)),
    "noncentral_f": (lambda r, **k: r.noncentral_f(3.0, 7.0, 2.0, **k), stats.ncf(3, 7, 2)),
    "triangular": (lambda r, **k: r.triangular(-1.0, 0.5, 3.0, **k), stats.triang(0.375, -1, 4)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_distribution_functions(name: str, dtype: str) -> None:
    draw, expected = CONTINUOUS[name]
    x = draw(ts.random.default_rng(5), size=SIZE, dtype=dtype)
    assert x.dtype == dtype and x.shape == (SIZE,)
    assert stats.kstest(x.numpy(), expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda r: r.geometric(0.3, size=SIZE), stats.geom(0.3)),
        (lambda r: r.geometric(1.0, size=SIZE), stats.geom(1.0)),
        (lambda r: r.negative_binomial(2.5, 0.4, size=SIZE), stats.nbinom(2.5, 0.4)),
        (lambda r: r.logseries(0.7, size=SIZE), stats.logser(0.7)),
        (lambda r: r.poisson(np.full(SIZE, 2.5)), stats.poisson(2.5)),
        (lambda r: r.binomial([6], 0.3, SIZE), stats.binom(6, 0.3)),
    ],
)
def test_counts(draw: Any, expected: Any) -> None:
    x = draw(ts.random.default_rng(3))
    assert x.dtype == "int64"
    found = np.bincount(x.numpy(), minlength=40)[:40] / SIZE
    np.testing.assert_allclose(found, expected.pmf(np.arange(40)), atol=5 * np.sqrt(0.25 / SIZE))


def test_multivariate_normal() -> None:
    mean, root = np.array([1.0, -2.0, 0.5]), np.array([[1.0, 0, 0], [0.5, 2, 0], [-1, 0.3, 0]])  # of rank 2
    cov = root @ root.T
    x = ts.random.default_rng(1).multivariate_normal(ts.asarray(mean), ts.asarray(cov), (100, 500), "float64")
    assert x.shape == (100, 500, 3)
    flat = x.numpy().reshape(-1, 3)
    np.testing.assert_allclose(flat.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(flat.T), cov, atol=0.12)
    assert ts.random.multivariate_normal(mean, cov).shape == (3,)
    for bad in (-np.eye(3), root, np.full((3, 3), np.nan), np.eye(2)):
        with pytest.raises(ValueError, match="multivariate_normal: "):
            ts.random.multivariate_normal(mean, bad)


def test_tensors_of_parameters_broadcast() -> None:
    scale = ts.asarray([[1.0], [1000.0]])
    x = ts.random.laplace(ts.asarray([0.0, 1e6, -1e6]), scale)
    assert x.shape == (2, 3)
    assert abs(float(x[0, 1]) - 1e6) < 100
    assert ts.random.weibull(ts.ones(3), size=(4, 3)).shape == (4, 3)
    assert ts.random.geometric(ts.asarray([0.1, 0.9])).shape == (2,)
    with pytest.raises(ValueError, match="broadcast"):
        ts.random.weibull(ts.ones(3), size=(3, 4))


def test_lists_are_arrays_of_parameters() -> None:
    rng = ts.random.default_rng(2)
    for call in (
        lambda p, **k: rng.lognormal(p, 0.5, **k),
        lambda p, **k: rng.laplace(p, 1.0, **k),
        lambda p, **k: rng.gumbel(p, 1.0, **k),
        lambda p, **k: rng.logistic(0.0, p, **k),
        lambda p, **k: rng.weibull(p, **k),
        lambda p, **k: rng.rayleigh(p, **k),
        lambda p, **k: rng.pareto(p, **k),
        lambda p, **k: rng.power(p, **k),
        lambda p, **k: rng.standard_t(p, **k),
        lambda p, **k: rng.f(p, 3.0, **k),
        lambda p, **k: rng.geometric([0.1, 0.1], **k),
        lambda p, **k: rng.negative_binomial(p, 0.01, **k),
    ):
        pairs = [call([0.5, 0.5]).tolist() for _ in range(20)]
        assert any(a != b for a, b in pairs)  # each has a draw of its own
        assert call([0.5, 0.5], size=(3, 2)).shape == (3, 2)


@pytest.mark.parametrize(
    "name", ["laplace", "weibull", "rayleigh", "pareto", "power", "standard_t", "lognormal"]
)
def test_the_dtype_is_the_one_asked_for_whatever_the_parameters_are(name: str) -> None:
    draw = getattr(ts.random, name)
    for dtype in ("float32", "float64"):
        assert draw(np.ones(3), dtype=dtype).dtype == dtype
        assert draw(ts.ones(3, "float32"), dtype=dtype).dtype == dtype


def test_what_is_wrong_is_told_before_the_generator_moves() -> None:
    rng = ts.random.default_rng(0)
    before = rng.get_state()
    for call in (
        lambda: rng.lognormal(0, -1),
        lambda: rng.laplace(np.nan, 1),
        lambda: rng.gumbel(0, np.inf),
        lambda: rng.weibull(0),
        lambda: rng.standard_t(-1),
        lambda: rng.f(1, 0),
        lambda: rng.geometric(0.0),
        lambda: rng.geometric(1.5),
        lambda: rng.negative_binomial(0, 0.5),
        lambda: rng.triangular(0, 2, 1),
        lambda: rng.triangular(1, 1, 1),
        lambda: rng.pareto(ts.asarray([1.0, -1.0])),
    ):
        with pytest.raises(ValueError, match=r"^\w+: "):
            call()
    assert rng.get_state() == before


def test_shuffle() -> None:
    x = ts.reshape(ts.arange(60), (20, 3))
    ts.random.shuffle(x, generator=ts.random.default_rng(0))
    assert sorted(x[:, 0].tolist()) == list(range(0, 60, 3)) and x[:, 0].tolist() != list(range(0, 60, 3))
    assert (x[:, 1] - x[:, 0]).tolist() == [1] * 20
    y = ts.reshape(ts.arange(60), (3, 20))
    ts.random.default_rng(1).shuffle(y, axis=1)
    assert sorted(y[2].tolist()) == list(range(40, 60)) and (y[1] - y[0]).tolist() == [20] * 20
    with pytest.raises(IndexError, match="permutation: axis 2 is out of range"):
        ts.random.shuffle(y, 2)
    with pytest.raises(TypeError, match="shuffle: x must be a tensor"):
        ts.random.shuffle([1, 2])  # type: ignore[arg-type]


def test_generators_have_methods_of_the_functions_names() -> None:
    rng = ts.random.default_rng(7)
    assert ts.random.default_rng(rng) is rng
    for call in (
        lambda m, **k: m.normal(1.0, 2.0, size=5, **k),
        lambda m, **k: m.integers(0, 10, size=5, **k),
        lambda m, **k: m.random((2, 3), **k),
        lambda m, **k: m.choice(ts.arange(9), 4, **k),
        lambda m, **k: m.permutation(8, **k),
        lambda m, **k: m.laplace(size=3, **k),
        lambda m, **k: m.poisson(3.0, size=4, **k),
    ):
        expected = call(ts.random, generator=ts.random.Generator(7))
        assert call(ts.random.default_rng(7)).tolist() == expected.tolist()
    assert "trials" in ts.random.Generator.geometric.__doc__  # type: ignore[attr-defined]


SPREAD: dict[str, tuple[Callable[..., Any], list[float]]] = {
    "normal": (lambda r, a, **k: r.normal(a, 0.5, **k), [0.0, 10.0, 20.0]),
    "normal of deviations": (
        lambda r, a, **k: r.normal(1.0, [x * 0 + 1e-3 for x in a], **k),
        [1.0, 1.0, 1.0],
    ),
    "uniform": (lambda r, a, **k: r.uniform(a, [x + 1 for x in a], **k), [0.0, 10.0, 20.0]),
    "exponential": (lambda r, a, **k: r.exponential(a, **k), [1.0, 10.0, 100.0]),
    "poisson": (lambda r, a, **k: r.poisson(a, **k), [1.0, 10.0, 100.0]),
    "binomial": (lambda r, a, **k: r.binomial(40, [x / 40 for x in a], **k), [1.0, 10.0, 30.0]),
    "integers": (
        lambda r, a, **k: r.integers([int(x) for x in a], [int(x) + 3 for x in a], **k),
        [-4.0, 10.0, 90.0],
    ),
    "gamma": (lambda r, a, **k: r.gamma(a, [1.0] * 3, **k), [1.0, 10.0, 100.0]),
    "chisquare": (lambda r, a, **k: r.chisquare(a, **k), [1.0, 10.0, 100.0]),
}


@pytest.mark.parametrize("name", SPREAD)
def test_parameters_are_numbers_lists_or_arrays(name: str) -> None:
    draw, places = SPREAD[name]
    rng = ts.random.default_rng(1)
    assert draw(rng, places).shape == (3,)
    x = draw(rng, places, size=(4000, 3))
    assert x.shape == (4000, 3)
    means = x.numpy().astype(float).mean(0)
    offset = {"uniform": 0.5, "integers": 1.0}.get(name, 0.0)
    np.testing.assert_allclose(means, np.add(places, offset), atol=0.15 + 0.1 * np.max(np.abs(places)))
    with pytest.raises(ValueError, match=f"{name.split()[0]}: .*does not broadcast to"):
        draw(rng, places, size=(3, 4))


def test_uniform_stays_below_its_upper_bounds() -> None:
    low = np.float32(1) - np.finfo("float32").eps
    x = ts.random.default_rng(0).uniform(np.full(3000, low), [1.0]).numpy()
    assert (x >= low).all() and (x < 1).all()
    same = ts.random.uniform([2.0, 3.0], [2.0, 3.0])
    np.testing.assert_array_equal(same.numpy(), [2, 3])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: r.normal(size=-1), ValueError, "normal: dimension 0"),
        (lambda r: r.lognormal(size=(2, -1)), ValueError, "lognormal: dimension 1"),
        (lambda r: r.laplace(dtype="int32"), TypeError, "laplace: dtype is int32"),
        (lambda r: r.chisquare(-1), ValueError, "chisquare: "),
        (lambda r: r.f(1, 2, size=1.5), TypeError, "f: size must be an integer or a sequence of integers"),
        (lambda r: r.negative_binomial(3, 0.5, size=(-1,)), ValueError, "negative_binomial: "),
        (lambda r: r.normal([1, 2], [1, 2, 3]), ValueError, "normal: shapes"),
        (lambda r: r.normal([1.0], -1), ValueError, "normal: scale must be >= 0"),
        (lambda r: r.uniform([3.0], 1), ValueError, "uniform: low must be at most high"),
        (lambda r: r.integers([1.5], 3), TypeError, "integers: low must hold integers"),
        (lambda r: r.integers(5, [6, 2]), ValueError, "integers: low must be below high"),
        (lambda r: r.power(2.0, size=-1), ValueError, "power: dimension 0"),
        (lambda r: r.logseries(1.0), ValueError, "logseries: p must be >= 0"),
        (lambda r: r.wald(0.0, 1.0), ValueError, "wald: mean must be > 0"),
    ],
)
def test_errors_name_what_was_called(call: Any, error: type[Exception], message: str) -> None:
    rng = ts.random.default_rng(0)
    before = rng.get_state()
    with pytest.raises(error, match=f"^{message}"):
        call(rng)
    assert rng.get_state() == before


def test_permuted_rows_and_old_names() -> None:
    rng = ts.random.default_rng(0)
    x = np.arange(60).reshape(3, 20)
    y = rng.permuted(ts.asarray(x), axis=1).numpy()
    np.testing.assert_array_equal(np.sort(y, 1), x)
    assert len({tuple(np.argsort(row)) for row in y}) == 3
    assert sorted(rng.permuted(x).numpy().ravel()) == list(range(60))
    assert sorted(rng.permutation([3, 1, 2]).tolist()) == [1, 2, 3]
    assert ts.random.rand(2, 3).shape == ts.random.randn(2, 3).shape == (2, 3)
    assert set(ts.random.randint(3, 5, 100).tolist()) == {3, 4}


def test_integers_in_a_dtype() -> None:
    """NumPy's fourth argument, which was taken for `endpoint`."""
    for dtype in ("int8", "uint16", np.int32, np.dtype("uint64")):
        x = ts.random.default_rng(0).integers(0, 5, 100, dtype)
        assert x.dtype == np.dtype(dtype).name and set(x.tolist()) == set(range(5))
        assert x.tolist() == ts.random.default_rng(0).integers(0, 5, 100).tolist()
    assert ts.random.randint(0, 5, 3, "uint8").dtype == "uint8"
    assert ts.random.default_rng(0).integers([0, 9], [2, 11], dtype="int8").dtype == "int8"
    rng = ts.random.default_rng(0)
    assert set(rng.integers(-128, 127, 9999, "int8", endpoint=True).tolist()) == set(range(-128, 128))
    for bounds in ((0, 129), (-129, 0), ([0], [129]), ([-129], [0])):
        with pytest.raises(
            ValueError, match=r"integers: int8 holds -128 to 127, got bounds (0 and 129|-129 and 0)"
        ):
            rng.integers(*bounds, dtype="int8")
    with pytest.raises(ValueError, match=r"integers: "):
        rng.integers(0, 0, dtype="int8")
    with pytest.raises(TypeError, match="integers: dtype must be an integer dtype, got float32"):
        rng.integers(0, 5, 3, "float32")


def test_integers_of_every_width() -> None:
    rng = ts.random.default_rng(0)
    for low, high, dtype in ((-128, 127, "int8"), (0, 255, "uint8"), (-(2**31), 2**31 - 1, "int32")):
        bounds = np.array([low], dtype), np.array([high], dtype)
        x = rng.integers(*bounds, size=20_000, endpoint=True).numpy()
        assert x.dtype == "int64" and x.min() >= low and x.max() <= high
        assert x.min() < low + (high - low) // 100 + 1 and x.max() > high - (high - low) // 100 - 1
        assert (rng.integers(*bounds, size=2000).numpy() < high).all()
    limits = -(2**63), 2**63 - 1
    for x in (
        rng.integers(np.array([limits[0]]), np.array([limits[1]]), size=2000, endpoint=True).numpy(),
        rng.integers(np.array([limits[0]]), np.array([limits[1]]), size=2000).numpy(),
        rng.integers(*limits, size=2000, endpoint=True).numpy(),
    ):
        assert x.min() < -0.99 * 2**63 and x.max() > 0.99 * 2**63 and abs((x < 0).mean() - 0.5) < 0.06
    assert rng.integers([5], [5], endpoint=True).tolist() == [5]
    assert rng.integers(np.array([2**63 - 2]), np.array([2**63 - 1]), size=9).tolist() == [2**63 - 2] * 9
    with pytest.raises(ValueError, match=r"integers: high must be below 2\*\*63, got 18446744073709551615"):
        rng.integers([0], np.array([2**64 - 1], "uint64"))


def test_shares_of_tiny_shapes() -> None:
    rng = ts.random.default_rng(0)
    for a in (1e-3, 1e-8):
        x = rng.beta(a, 3 * a, size=40_000, dtype="float64").numpy()
        assert np.isfinite(x).all() and abs(x.mean() - 0.25) < 0.01
    y = rng.dirichlet([1e-3, 2e-3, 0.0, 1e-3], 40_000, "float64").numpy()
    np.testing.assert_allclose(y.sum(1), 1)
    np.testing.assert_allclose(y.mean(0), [0.25, 0.5, 0, 0.25], atol=0.01)
    assert stats.kstest(rng.beta(0.05, 0.3, SIZE, "float64").numpy(), stats.beta(0.05, 0.3).cdf).pvalue > 1e-3
    assert stats.kstest(rng.beta(700.0, 3.0, SIZE, "float64").numpy(), stats.beta(700, 3).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["beta", "triangular", "laplace", "weibull", "geometric", "wald"])
def test_draws_with_numbers_are_recorded(name: str) -> None:
    numbers = {"beta": (2.0, 3.0), "triangular": (0.0, 1.0, 2.0), "geometric": (0.01,), "weibull": (2.0,)}
    draw = ts.jit(lambda: getattr(ts.random, name)(*numbers.get(name, (1.0, 2.0)), size=5))
    assert len({tuple(draw().tolist()) for _ in range(4)}) == 4


def test_parameters_beyond_float32() -> None:
    rng = ts.random.default_rng(0)
    assert abs(float(rng.laplace(0, 1e39, dtype="float64"))) > 1e36
    assert 1e36 < float(ts.max(rng.normal(np.zeros(50), 1e39, dtype="float64"))) < 1e41
    assert abs(float(rng.normal([0.0], 10**30)[0])) < 1e32
    assert (rng.triangular(0.1, 0.1, 0.3, 20_000, dtype="float64").numpy() >= 0.1).all()
    for dtype in ("float32", "float64"):
        assert rng.gamma(2.0, np.ones(3), dtype=dtype).dtype == dtype


def test_probabilities_and_choices_of_any_kind() -> None:
    rng = ts.random.default_rng(0)
    for p in ([0.0, 1.0], np.array([0.0, 1.0]), ts.asarray([0, 1])):
        assert rng.bernoulli(p, size=(3, 2)).tolist() == [[False, True]] * 3
    for a in (np.int64(5), ts.asarray(5), 5):
        assert set(rng.choice(a, 200).tolist()) == set(range(5))
    assert int(ts.sum(rng.multinomial(10, [0.1] * 10 + [0.0]))) == 10  # 0.1 rounds up in float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda r: r.normal([0.0, 1.0], [1.0, -2.5]),
            ValueError,
            "normal: scale must be >= 0 and finite, got -2.5",
        ),
        (lambda r: r.uniform([0.0], [1.0, np.inf]), ValueError, "uniform: high must be finite, got inf"),
        (lambda r: r.uniform([-3e38], [3e38]), ValueError, "uniform: high - low overflows float32"),
        (
            lambda r: r.uniform(np.array([-1.7e308]), 1.7e308, dtype="float64"),
            ValueError,
            "uniform: high - low over",
        ),
        (lambda r: r.beta(0.0, 1.0), ValueError, "beta: a must be > 0 and finite, got 0"),
        (lambda r: r.beta(1.0, [1.0, np.nan]), ValueError, "beta: b must be > 0 and finite, got nan"),
        (lambda r: r.dirichlet([0.0, 0.0]), ValueError, "dirichlet: alpha must not be 0"),
        (lambda r: r.dirichlet(1.0), ValueError, "dirichlet: alpha must be"),
        (lambda r: r.chisquare(0), ValueError, "chisquare: df must be > 0 and finite, got 0"),
        (lambda r: r.bernoulli([0.5, 1.5]), ValueError, r"bernoulli: p must be in \[0, 1\], got 1.5"),
        (lambda r: r.binomial([2.5], 0.5), ValueError, "binomial: n must be whole, got 2.5"),
        (
            lambda r: r.negative_binomial(1.0, 1e-300),
            ValueError,
            "negative_binomial: n is too large or p too small",
        ),
        (
            lambda r: r.noncentral_f(-1, 2, 3),
            ValueError,
            "noncentral_f: dfnum must be > 0 and finite, got -1",
        ),
        (lambda r: r.noncentral_f(1, 2, [1e300]), ValueError, "noncentral_f: nonc must be"),
        (
            lambda r: r.noncentral_chisquare(2, 1e300),
            ValueError,
            "noncentral_chisquare: nonc must be .* got 1e.300",
        ),
        (lambda r: r.logseries([0.5, -0.5]), ValueError, "logseries: p must be >= 0 and < 1, got -0.5"),
        (
            lambda r: r.multivariate_normal([0.0, np.nan], np.eye(2)),
            ValueError,
            "multivariate_normal: mean must be",
        ),
        (lambda r: r.laplace("a"), TypeError, "laplace: cannot make an array of a string"),
        (lambda r: r.laplace([1j]), TypeError, "laplace: loc must be real, got complex"),
        (
            lambda r: r.normal([1.0], size=[2.5]),
            TypeError,
            "normal: size must be an integer or a sequence of integers",
        ),
        (lambda r: r.choice(0, 3), ValueError, "choice: there must be something to choose from, got 0"),
        (lambda r: r.choice(2.5), ValueError, "choice: a must be an integer or have an axis"),
    ],
)
def test_bad_parameters_are_named_with_their_value(call: Any, error: type[Exception], message: str) -> None:
    test_errors_name_what_was_called(call, error, message)
