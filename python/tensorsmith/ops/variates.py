"""NumPy's further distributions, each a formula of uniform, normal, exponential or gamma draws (Devroye 1986).

Parameters are numbers or arrays, which broadcast, to `size` if there is one. Whatever is wrong with them raises
ValueError before the first draw, which moves the generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.ops import random as draws
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import broadcast_shapes
from tensorsmith.ops.random import Generator
from tensorsmith.tensor import Tensor

__all__: list[str] = []  # `tensorsmith.random` names what is public


def _shape(operation: str, size: Any, *parameters: Any) -> tuple[int, ...]:
    spread = broadcast_shapes(*(tuple(getattr(p, "shape", ())) for p in parameters))
    if size is None:
        return tuple(spread)
    extents = draws._extents(size)
    for p in parameters:
        draws._check_spread(operation, "a parameter", p, extents)
    return extents


def _like(draw: Tensor, y: Any) -> Any:
    """y in the dtype that was drawn, whatever the parameters' is."""
    return core.astype(y, draw.dtype, False)


def _check(operation: str, name: str, x: Any, *, zero: bool = False, most: float = math.inf) -> None:
    """x > 0, or >= 0 with `zero`, finite and up to `most`."""
    low = core.greater_equal(asarray(x), 0) if zero else core.greater(asarray(x), 0)
    high = core.less_equal(asarray(x), most) if most < math.inf else core.isfinite(asarray(x))
    if not bool(core.all(core.logical_and(low, high))):
        bounds = f"{'>=' if zero else '>'} 0 and {'finite' if most == math.inf else f'<= {most:g}'}"
        raise ValueError(f"{operation}: {name} must be {bounds}")


def _finite(operation: str, **parameters: Any) -> None:
    for name, x in parameters.items():
        if not bool(core.all(core.isfinite(asarray(x)))):
            raise ValueError(f"{operation}: {name} must be finite")


def standard_exponential(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Exponential numbers with mean 1, never 0."""
    return draws.exponential(1.0, size, dtype, generator)


def lognormal(
    mean: Any = 0.0, sigma: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """exp of normal numbers with this mean and deviation."""
    mean, sigma = draws._parameter(mean), draws._parameter(sigma)
    _finite("lognormal", mean=mean)
    _check("lognormal", "sigma", sigma, zero=True)
    z = draws.standard_normal(_shape("lognormal", size, mean, sigma), dtype, generator)
    return _like(z, core.exp(core.add(core.multiply(z, sigma), mean)))


def laplace(
    loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Density exp(-|x - loc| / scale) / (2 scale): the difference of two exponential numbers."""
    loc, scale = draws._parameter(loc), draws._parameter(scale)
    _finite("laplace", loc=loc)
    _check("laplace", "scale", scale, zero=True)
    shape = _shape("laplace", size, loc, scale)
    first, second = (standard_exponential(shape, dtype, generator) for _ in range(2))
    return _like(first, core.add(core.multiply(core.subtract(first, second), scale), loc))


def gumbel(
    loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Distribution function exp(-exp(-(x - loc) / scale))."""
    loc, scale = draws._parameter(loc), draws._parameter(scale)
    _finite("gumbel", loc=loc)
    _check("gumbel", "scale", scale, zero=True)
    e = standard_exponential(_shape("gumbel", size, loc, scale), dtype, generator)
    return _like(e, core.subtract(loc, core.multiply(core.log(e), scale)))


def logistic(
    loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Distribution function 1 / (1 + exp(-(x - loc) / scale))."""
    loc, scale = draws._parameter(loc), draws._parameter(scale)
    _finite("logistic", loc=loc)
    _check("logistic", "scale", scale, zero=True)
    shape = _shape("logistic", size, loc, scale)
    first, second = (standard_exponential(shape, dtype, generator) for _ in range(2))
    between = core.subtract(core.log(first), core.log(second))
    return _like(first, core.add(core.multiply(between, scale), loc))


def weibull(a: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Distribution function 1 - exp(-x^a), a > 0."""
    a = draws._parameter(a)
    _check("weibull", "a", a)
    e = standard_exponential(_shape("weibull", size, a), dtype, generator)
    return _like(e, core.power(e, core.divide(1.0, asarray(a))))


def rayleigh(
    scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Distribution function 1 - exp(-x^2 / (2 scale^2))."""
    scale = draws._parameter(scale)
    _check("rayleigh", "scale", scale, zero=True)
    e = standard_exponential(_shape("rayleigh", size, scale), dtype, generator)
    return _like(e, core.multiply(core.sqrt(core.multiply(e, 2.0)), scale))


def pareto(a: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Distribution function 1 - (1 + x)^-a, a > 0."""
    a = draws._parameter(a)
    _check("pareto", "a", a)
    e = standard_exponential(_shape("pareto", size, a), dtype, generator)
    return _like(e, core.expm1(core.divide(e, a)))


def power(a: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Distribution function x^a on [0, 1], a > 0."""
    a = draws._parameter(a)
    _check("power", "a", a)
    e = standard_exponential(_shape("power", size, a), dtype, generator)
    return _like(e, core.exp(core.negative(core.divide(e, a))))


def standard_cauchy(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Density 1 / (pi (1 + x^2)): the quotient of two normal numbers."""
    above, below = (draws.standard_normal(size, dtype, generator) for _ in range(2))
    return core.divide(above, below)


def standard_t(df: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Student's t with df > 0 degrees of freedom."""
    df = draws._parameter(df)
    _check("standard_t", "df", df)
    shape = _shape("standard_t", size, df)
    z = draws.standard_normal(shape, dtype, generator)
    square = draws.chisquare(df, shape, dtype, generator)
    return _like(z, core.multiply(z, core.sqrt(core.divide(df, square))))


def f(dfnum: Any, dfden: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Fisher's F: the quotient of two chi-squared numbers, each by its degrees of freedom."""
    dfnum, dfden = draws._parameter(dfnum), draws._parameter(dfden)
    _check("f", "dfnum", dfnum)
    _check("f", "dfden", dfden)
    shape = _shape("f", size, dfnum, dfden)
    above = draws.chisquare(dfnum, shape, dtype, generator)
    below = draws.chisquare(dfden, shape, dtype, generator)
    return _like(above, core.divide(core.divide(above, dfnum), core.divide(below, dfden)))


def triangular(
    left: Any, mode: Any, right: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """A density that rises linearly from left to mode and falls to right. ValueError unless left <= mode <= right and
    left < right."""
    _finite("triangular", left=left, mode=mode, right=right)
    left, mode, right = asarray(left), asarray(mode), asarray(right)
    ordered = core.logical_and(core.less_equal(left, mode), core.less_equal(mode, right))
    if not bool(core.all(core.logical_and(ordered, core.less(left, right)))):
        raise ValueError("triangular: left <= mode <= right and left < right are needed")
    u = draws.random(_shape("triangular", size, left, mode, right), dtype, generator)
    width, rise, fall = core.subtract(right, left), core.subtract(mode, left), core.subtract(right, mode)
    low = core.add(left, core.sqrt(core.multiply(u, core.multiply(width, rise))))
    high = core.subtract(right, core.sqrt(core.multiply(core.subtract(1.0, u), core.multiply(width, fall))))
    y = core.where(core.less(core.multiply(u, width), rise), low, high)
    return _like(u, y)


def geometric(p: Any, size: Any = None, generator: Generator | None = None) -> Any:
    """int64: the number of trials of probability p in (0, 1] up to the first success."""
    p = draws._parameter(p)
    _check("geometric", "p", p, most=1.0)
    e = standard_exponential(_shape("geometric", size, p), "float64", generator)
    rate = core.negative(core.log1p(core.negative(core.astype(asarray(p), "float64", False))))
    return core.astype(core.maximum(core.ceil(core.divide(e, rate)), 1.0), "int64")


def negative_binomial(n: Any, p: Any, size: Any = None, generator: Generator | None = None) -> Any:
    """int64: the number of failures before the n-th success, n > 0, p in (0, 1]; a Poisson draw of a gamma one."""
    n, p = draws._parameter(n), draws._parameter(p)
    _check("negative_binomial", "n", n)
    _check("negative_binomial", "p", p, most=1.0)
    shape = _shape("negative_binomial", size, n, p)
    wide = core.astype(asarray(p), "float64", False)
    scale = core.broadcast_to(core.divide(core.subtract(1.0, wide), wide), shape)
    return draws.poisson(
        core.multiply(draws.gamma(n, 1.0, shape, "float64", generator), scale), None, generator
    )


def multivariate_normal(
    mean: Any, cov: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Normal vectors (*size, N) with mean (N,) and covariances cov (N, N), by the eigenvectors of cov.

    ValueError where shapes do not fit or cov is not symmetric, or has an eigenvalue below 0 beyond rounding."""
    from tensorsmith.ops.linalg import eigh

    mean, cov = asarray(mean), asarray(cov)
    if mean.ndim != 1 or cov.shape != (mean.shape[0], mean.shape[0]):
        raise ValueError(
            f"multivariate_normal: mean must be (N,) and cov (N, N), got shapes {mean.shape} and {cov.shape}"
        )
    wide = core.astype(cov, "float64", False)
    largest = float(core.max(core.absolute(wide))) if wide.size else 0.0
    gap = core.subtract(wide, core.matrix_transpose(wide))
    if not math.isfinite(largest) or (wide.size and float(core.max(core.absolute(gap))) > 1e-6 * largest):
        raise ValueError("multivariate_normal: cov must be finite and symmetric")
    values, vectors = eigh(wide)
    if wide.size and float(core.min(values)) < -1e-6 * largest:
        raise ValueError(f"multivariate_normal: cov has the eigenvalue {float(core.min(values)):g} below 0")
    root = core.multiply(vectors, core.sqrt(core.maximum(values, 0.0)))
    dtype = draws._floating("multivariate_normal", dtype)
    z = draws.standard_normal((*draws._extents(size), mean.shape[0]), dtype, generator)
    y = core.matmul(z, core.astype(core.matrix_transpose(root), dtype, False))
    return core.add(y, core.astype(mean, dtype, False))


def shuffle(x: Any, axis: int = 0, generator: Generator | None = None) -> None:
    """Puts the slices of x along an axis in random order, in place."""
    if not isinstance(x, Tensor):
        raise TypeError(f"shuffle: x must be a tensor, got {type(x).__name__}; permutation makes a new one")
    x[...] = draws.permutation(x, axis, generator)


def default_rng(seed: int | Generator | None = None) -> Generator:
    """A generator with this seed, without one from the operating system; a generator is itself."""
    return seed if isinstance(seed, Generator) else Generator(seed)


def _method(draw: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Generator, *args: Any, **options: Any) -> Any:
        return draw(*args, generator=self, **options)

    method.__name__, method.__doc__ = draw.__name__, draw.__doc__
    return method


# rng.normal(size=3), as NumPy's generators have it.
for _draw in (
    draws.bernoulli, draws.beta, draws.binomial, draws.categorical, draws.chisquare, draws.choice, draws.dirichlet,
    draws.exponential, draws.gamma, draws.integers, draws.multinomial, draws.normal, draws.permutation, draws.poisson,
    draws.random, draws.standard_gamma, draws.standard_normal, draws.uniform, f, geometric, gumbel, laplace, logistic,
    lognormal, multivariate_normal, negative_binomial, pareto, power, rayleigh, shuffle, standard_cauchy,
    standard_exponential, standard_t, triangular, weibull,
):  # fmt: skip
    setattr(Generator, _draw.__name__, _method(_draw))
