"""Everything of ts.random and nn.init on the GPU: the CPU's bits. (Dropout is in test_cuda.py.)

Skipped where there is no GPU; runs on the host as tests/test_cuda.py says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

pytestmark = pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or "")


@pytest.fixture(autouse=True)
def cpu_afterwards() -> Any:
    yield
    ts.set_default_device("cpu")


def numbers(*values: float) -> Any:
    return ts.array(np.array(values))


# By name; g is a generator.
DRAWS = {
    "bernoulli": [
        lambda g: ts.random.bernoulli(0.3, size=1001, generator=g),
        lambda g: ts.random.bernoulli(ts.linspace(0, 1, 77), generator=g),
    ],
    "beta": [lambda g: ts.random.beta(0.5, 2.0, size=101, generator=g)],
    "binomial": [
        lambda g: ts.random.binomial(10, 0.3, size=300, generator=g),
        lambda g: ts.random.binomial(5000, 0.7, size=300, generator=g),
        lambda g: ts.random.binomial(
            numbers(0, 3, 40, 1e3, 1e9, 1e12, 7), numbers(0.5, 1, 0.5, 0.99, 1e-8, 0.3, 0), generator=g
        ),
    ],
    "categorical": [
        lambda g: ts.random.categorical(numbers(0.2, 0, 3, 1), 50, replacement=True, generator=g),
        lambda g: ts.random.categorical(numbers(0.2, 0, 3, 1), 3, generator=g),
    ],
    "chisquare": [lambda g: ts.random.chisquare(numbers(0.1, 1, 7, 1e6), generator=g)],
    "choice": [
        lambda g: ts.random.choice(ts.arange(10) * 3, 20, generator=g),
        lambda g: ts.random.choice(10, 5, replace=False, generator=g),
    ],
    "dirichlet": [lambda g: ts.random.dirichlet(numbers(0.3, 1, 4), size=20, generator=g)],
    "exponential": [
        lambda g: ts.random.exponential(2.5, size=1003, generator=g),
        lambda g: ts.random.exponential(size=101, dtype="float64", generator=g),
    ],
    "f": [lambda g: ts.random.f(3.0, 7.0, size=50, generator=g)],
    "gamma": [
        lambda g: ts.random.gamma(numbers(0, 1e-3, 0.2, 0.999, 1, 3, 1e4, 1e17, 1e30), generator=g),
        lambda g: ts.random.gamma(2.2, 3.0, size=(9, 111), generator=g),
        lambda g: ts.random.gamma(0.7, size=500, dtype="float64", generator=g),
    ],
    "geometric": [lambda g: ts.random.geometric(0.2, size=50, generator=g)],
    "gumbel": [lambda g: ts.random.gumbel(0.5, 2.0, size=50, generator=g)],
    "integers": [
        lambda g: ts.random.integers(-5, 1000, size=99, generator=g),
        lambda g: ts.random.integers(-(2**40), 2**41, size=9, generator=g),
    ],
    "laplace": [lambda g: ts.random.laplace(-1.0, 2.0, size=50, generator=g)],
    "logistic": [lambda g: ts.random.logistic(0.5, 2.0, size=50, generator=g)],
    "lognormal": [lambda g: ts.random.lognormal(0.3, 0.7, size=50, generator=g)],
    "multinomial": [lambda g: ts.random.multinomial(50, [0.2, 0.5, 0.3], size=40, generator=g)],
    "multivariate_normal": [
        lambda g: ts.random.multivariate_normal([0.0, 1.0], [[2.0, 0.5], [0.5, 1.0]], size=20, generator=g)
    ],
    "negative_binomial": [lambda g: ts.random.negative_binomial(5, 0.4, size=50, generator=g)],
    "normal": [
        lambda g: ts.random.normal(size=1001, generator=g),
        lambda g: ts.random.normal(2, 3, size=101, dtype="float64", generator=g),
    ],
    "pareto": [lambda g: ts.random.pareto(2.5, size=50, generator=g)],
    "logseries": [lambda g: ts.random.logseries(0.6, size=300, generator=g)],
    "noncentral_chisquare": [lambda g: ts.random.noncentral_chisquare(3.0, 1.0, size=50, generator=g)],
    "noncentral_f": [lambda g: ts.random.noncentral_f(3.0, 5.0, 1.0, size=50, generator=g)],
    "permutation": [
        lambda g: ts.random.permutation(100, generator=g),
        lambda g: ts.random.permutation(ts.arange(12.0).reshape(4, 3), axis=1, generator=g),
    ],
    "permuted": [lambda g: ts.random.permuted(ts.arange(12.0).reshape(4, 3), axis=1, generator=g)],
    "poisson": [
        lambda g: ts.random.poisson(3.0, size=300, generator=g),
        lambda g: ts.random.poisson(
            numbers(0, 1e-9, 1, 9.999, 10, 100, 1e6, 1e15).broadcast_to((50, 8)), generator=g
        ),
    ],
    "power": [lambda g: ts.random.power(1.5, size=50, generator=g)],
    "random": [lambda g: ts.random.random(501, generator=g)],
    "rayleigh": [lambda g: ts.random.rayleigh(2.0, size=50, generator=g)],
    "standard_cauchy": [lambda g: ts.random.standard_cauchy(50, generator=g)],
    "standard_exponential": [lambda g: ts.random.standard_exponential(50, generator=g)],
    "standard_gamma": [lambda g: ts.random.standard_gamma(5.0, 301, generator=g)],
    "standard_normal": [lambda g: ts.random.standard_normal((3, 5), generator=g)],
    "standard_t": [lambda g: ts.random.standard_t(5.0, size=50, generator=g)],
    "triangular": [lambda g: ts.random.triangular(-1.0, 0.5, 2.0, size=50, generator=g)],
    "uniform": [
        lambda g: ts.random.uniform(-1, 2, size=(77, 3), generator=g),
        lambda g: ts.random.uniform(size=5, dtype="float64", generator=g),
    ],
    "wald": [lambda g: ts.random.wald(1.5, 2.0, size=50, generator=g)],
    "weibull": [lambda g: ts.random.weibull(1.7, size=50, generator=g)],
}
NOT_DRAWS = {
    "Generator", "default_generator", "default_rng", "get_state", "manual_seed", "seed", "set_state", "shuffle",
    "rand", "randint", "randn",  # draws above, from the default generator
}  # fmt: skip
# Made of sums and quotients of draws; sums go by another tree on the GPU.
ROUNDED = {"dirichlet"}


def test_every_function_is_here() -> None:
    assert set(DRAWS) == set(ts.random.__all__) - NOT_DRAWS


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_the_cpus(name: str) -> None:
    for draw in DRAWS[name]:
        results, states = [], []
        for device in ("cpu", "cuda"):
            ts.set_default_device(device)
            g = ts.random.Generator(3)
            drawn = [draw(g) for _ in range(2)]
            assert all(y.device == device for y in drawn)
            results.append([y.cpu().numpy() for y in drawn])
            states.append(g.get_state())
        for mine, cpu in zip(results[1], results[0], strict=True):
            if name in ROUNDED:
                np.testing.assert_allclose(mine, cpu, rtol=1e-6)
            else:
                np.testing.assert_array_equal(mine, cpu)
        assert states[0] == states[1]


def test_parameters_lead_to_their_device_and_are_checked() -> None:
    assert ts.random.poisson(numbers(1, 2).cuda()).device == "cuda"
    assert ts.random.gamma(2.0, numbers(1, 2).cuda()).device == "cuda"
    assert ts.random.binomial(numbers(1, 2).cuda(), 0.5).device == "cuda"
    assert ts.random.beta(numbers(1, 2).cuda(), 2.0).device == "cuda"
    assert ts.random.beta(2.0, numbers(1, 2).cuda()).device == "cuda"
    assert ts.random.choice(numbers(1, 2).cuda(), 3).device == "cuda"
    assert ts.random.multinomial(5, numbers(0.1, 0.9).cuda(), 2).device == "cuda"
    assert ts.random.categorical(numbers(0.1, 0.9).cuda(), 2).device == "cuda"
    for draw, match in (
        (lambda: ts.random.poisson(numbers(1, -2).cuda()), "mean must be in .*, got -2"),
        (lambda: ts.random.gamma(numbers(1, np.nan, np.inf).cuda()), "shape must be in .*, got nan"),
        (lambda: ts.random.binomial(numbers(1, 3).cuda(), 1.5), "p must be in .*, got 1.5"),
    ):
        with pytest.raises(ValueError, match=match):
            draw()
    before = ts.random.get_state()
    with pytest.raises(RuntimeError, match="gamma: shape is on cpu, scale on cuda"):
        ts.random.gamma(numbers(1, 2), numbers(1, 2).cuda())
    with pytest.raises(ValueError, match="got -2"):
        ts.random.beta(1.0, numbers(1, -2).cuda())
    assert ts.random.get_state() == before


def test_methods_fill_in_place() -> None:
    for fill in (
        lambda x: x.exponential_(0.5),
        lambda x: x.uniform_(-1, 1),
        lambda x: x.normal_(1, 2),
        lambda x: x.bernoulli_(0.4),
        lambda x: x.T.exponential_(2.0),
    ):
        found = []
        for device in ("cpu", "cuda"):
            ts.manual_seed(5)
            x = ts.zeros(7, 31, device=device)
            fill(x)
            found.append(x.cpu().numpy())
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", [n for n in vars(ts.nn.init) if n[0] != "_" and n.endswith("_")])
def test_initial_weights_are_the_cpus(name: str) -> None:
    rest = {"constant_": (2.0,), "sparse_": (0.3,)}.get(name, ())
    found = []
    for device in ("cpu", "cuda"):
        ts.manual_seed(11)
        w = ts.zeros(12, 8, 3, device=device) if name == "dirac_" else ts.zeros(12, 8, device=device)
        assert getattr(ts.nn.init, name)(w, *rest) is w
        found.append(w.cpu().numpy())
    if name == "orthogonal_":
        np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found[1], found[0])
