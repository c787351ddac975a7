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
from tensorsmith.ops.generator import Generator, _state
from tensorsmith.ops.parameters import (
    _check,
    _extents,
    _finite,
    _floating,
    _named,
    _parameter,
    _require,
    _spread,
    _wide,
)
from tensorsmith.tensor import Tensor

__all__: list[str] = []  # `tensorsmith.random` names what is public


def _like(draw: Tensor, y: Any) -> Any:
    """y in the dtype that was drawn, whatever the parameters' is."""
    return core.astype(y, draw.dtype, False)


@_named
def standard_exponential(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Exponential numbers with mean 1, never 0."""
    return draws.exponential(1.0, size, dtype, generator)


@_named
def lognormal(
    mean: Any = 0.0, sigma: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """exp of normal numbers with this mean and deviation."""
    mean, sigma = _parameter(mean), _parameter(sigma)
    _finite("lognormal", mean=mean)
    _check("lognormal", "sigma", sigma, zero=True)
    z = draws.standard_normal(_spread("lognormal", size, mean=mean, sigma=sigma), dtype, generator)
    return _like(z, core.exp(core.add(core.multiply(z, sigma), mean)))


@_named
def laplace(
    loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Density exp(-|x - loc| / scale) / (2 scale): the difference of two exponential numbers."""
    loc, scale = _parameter(loc), _parameter(scale)
    _finite("laplace", loc=loc)
    _check("laplace", "scale", scale, zero=True)
    shape = _spread("laplace", size, loc=loc, scale=scale)
    first, second = (standard_exponential(shape, dtype, generator) for _ in range(2))
    return _like(first, core.add(core.multiply(core.subtract(first, second), scale), loc))


@_named
def gumbel(
    loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Distribution function exp(-exp(-(x - loc) / scale))."""
    loc, scale = _parameter(loc), _parameter(scale)
    _finite("gumbel", loc=loc)
    _check("gumbel", "scale", scale, zero=True)
    e = standard_exponential(_spread("gumbel", size, loc=loc, scale=scale), dtype, generator)
    return _like(e, core.subtract(loc, core.multiply(core.log(e), scale)))


@_named
def logistic(
    loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Distribution function 1 / (1 + exp(-(x - loc) / scale))."""
    loc, scale = _parameter(loc), _parameter(scale)
    _finite("logistic", loc=loc)
    _check("logistic", "scale", scale, zero=True)
    shape = _spread("logistic", size, loc=loc, scale=scale)
    first, second = (standard_exponential(shape, dtype, generator) for _ in range(2))
    between = core.subtract(core.log(first), core.log(second))
    return _like(first, core.add(core.multiply(between, scale), loc))


@_named
def weibull(a: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Distribution function 1 - exp(-x^a), a > 0."""
    a = _parameter(a)
    _check("weibull", "a", a)
    e = standard_exponential(_spread("weibull", size, a=a), dtype, generator)
    return _like(e, core.power(e, 1.0 / a))


@_named
def rayleigh(
    scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Distribution function 1 - exp(-x^2 / (2 scale^2))."""
    scale = _parameter(scale)
    _check("rayleigh", "scale", scale, zero=True)
    e = standard_exponential(_spread("rayleigh", size, scale=scale), dtype, generator)
    return _like(e, core.multiply(core.sqrt(core.multiply(e, 2.0)), scale))


@_named
def pareto(a: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Distribution function 1 - (1 + x)^-a, a > 0."""
    a = _parameter(a)
    _check("pareto", "a", a)
    e = standard_exponential(_spread("pareto", size, a=a), dtype, generator)
    return _like(e, core.expm1(core.divide(e, a)))


@_named
def power(a: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Distribution function x^a on [0, 1], a > 0."""
    a = _parameter(a)
    _check("power", "a", a)
    e = standard_exponential(_spread("power", size, a=a), dtype, generator)
    return _like(e, core.exp(core.negative(core.divide(e, a))))


@_named
def standard_cauchy(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Density 1 / (pi (1 + x^2)): the quotient of two normal numbers."""
    above, below = (draws.standard_normal(size, dtype, generator) for _ in range(2))
    return core.divide(above, below)


@_named
def standard_t(df: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Student's t with df > 0 degrees of freedom."""
    df = _parameter(df)
    _check("standard_t", "df", df)
    shape = _spread("standard_t", size, df=df)
    z = draws.standard_normal(shape, dtype, generator)
    square = draws.chisquare(df, shape, dtype, generator)
    return _like(z, core.multiply(z, core.sqrt(core.divide(df, square))))


@_named
def f(dfnum: Any, dfden: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Fisher's F: the quotient of two chi-squared numbers, each by its degrees of freedom."""
    dfnum, dfden = _parameter(dfnum), _parameter(dfden)
    _check("f", "dfnum", dfnum)
    _check("f", "dfden", dfden)
    shape = _spread("f", size, dfnum=dfnum, dfden=dfden)
    above = draws.chisquare(dfnum, shape, dtype, generator)
    below = draws.chisquare(dfden, shape, dtype, generator)
    return _like(above, core.divide(core.divide(above, dfnum), core.divide(below, dfden)))


@_named
def triangular(
    left: Any, mode: Any, right: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """A density that rises linearly from left to mode and falls to right. ValueError unless left <= mode <= right and
    left < right."""
    left, mode, right = (_parameter(p) for p in (left, mode, right))
    _finite("triangular", left=left, mode=mode, right=right)
    ordered = (left <= mode) & (mode <= right) & (left < right)
    if not (ordered if isinstance(ordered, bool) else bool(core.all(ordered))):
        raise ValueError("triangular: left <= mode <= right and left < right are needed")
    left, mode, right = (_wide(p) for p in (left, mode, right))
    u = draws.random(_spread("triangular", size, left=left, mode=mode, right=right), dtype, generator)
    width, rise, fall = core.subtract(right, left), core.subtract(mode, left), core.subtract(right, mode)
    low = core.add(left, core.sqrt(core.multiply(u, core.multiply(width, rise))))
    high = core.subtract(right, core.sqrt(core.multiply(core.subtract(1.0, u), core.multiply(width, fall))))
    y = core.where(core.less(core.multiply(u, width), rise), low, high)
    return _like(u, y)


@_named
def geometric(p: Any, size: Any = None, generator: Generator | None = None) -> Any:
    """int64: the number of trials of probability p in (0, 1] up to the first success."""
    p = _parameter(p)
    _check("geometric", "p", p, most=1.0)
    e = standard_exponential(_spread("geometric", size, p=p), "float64", generator)
    rate = core.negative(core.log1p(core.negative(_wide(p))))
    return core.astype(core.maximum(core.ceil(core.divide(e, rate)), 1.0), "int64")


@_named
def negative_binomial(n: Any, p: Any, size: Any = None, generator: Generator | None = None) -> Any:
    """int64: the number of failures before the n-th success, n > 0, p in (0, 1]; a Poisson draw of a gamma one."""
    n, p = _parameter(n), _parameter(p)
    _check("negative_binomial", "n", n)
    _check("negative_binomial", "p", p, most=1.0)
    shape = _spread("negative_binomial", size, n=n, p=p)
    wide = _wide(p)
    scale = core.broadcast_to(core.divide(core.subtract(1.0, wide), wide), shape)
    count = _wide(n)
    largest = core.multiply(core.add(core.add(count, core.multiply(core.sqrt(count), 40.0)), 800.0), scale)
    if not bool(core.all(core.less(largest, 2.0**52))):  # what a gamma number does not reach
        raise ValueError("negative_binomial: n is too large or p too small: counts beyond 2**52 could come")
    return draws.poisson(
        core.multiply(draws.gamma(n, 1.0, shape, "float64", generator), scale), None, generator
    )


@_named
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
    _finite("multivariate_normal", mean=mean)
    wide = core.astype(cov, "float64", False)
    largest = float(core.max(core.absolute(wide))) if wide.size else 0.0
    gap = core.subtract(wide, core.matrix_transpose(wide))
    if not math.isfinite(largest) or (wide.size and float(core.max(core.absolute(gap))) > 1e-6 * largest):
        raise ValueError("multivariate_normal: cov must be finite and symmetric")
    values, vectors = eigh(wide)
    if wide.size and float(core.min(values)) < -1e-6 * largest:
        raise ValueError(f"multivariate_normal: cov has the eigenvalue {float(core.min(values)):g} below 0")
    root = core.multiply(vectors, core.sqrt(core.maximum(values, 0.0)))
    dtype = _floating("multivariate_normal", dtype)
    z = draws.standard_normal((*_extents(size), mean.shape[0]), dtype, generator)
    y = core.matmul(z, core.astype(core.matrix_transpose(root), dtype, False))
    return core.add(y, core.astype(mean, dtype, False))


@_named
def wald(
    mean: Any, scale: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """The inverse Gaussian distribution, mean > 0 and scale > 0 (Michael, Schucany and Haas 1976)."""
    mean, scale = _parameter(mean), _parameter(scale)
    _check("wald", "mean", mean)
    _check("wald", "scale", scale)
    shape, kind = _spread("wald", size, mean=mean, scale=scale), _floating("wald", dtype)
    m, s = _wide(mean), _wide(scale)
    square = core.square(draws.standard_normal(shape, "float64", generator))
    part = core.divide(core.multiply(m, square), core.multiply(s, 2.0))
    # The smaller root of a quadratic as mean / (1 + part + sqrt(part^2 + 2 part)): nothing cancels.
    root = core.sqrt(core.add(core.square(part), core.multiply(part, 2.0)))
    low = core.divide(m, core.add(core.add(part, root), 1.0))
    u = draws.random(shape, "float64", generator)
    chosen = core.less_equal(core.multiply(u, core.add(m, low)), m)
    return core.astype(core.where(chosen, low, core.divide(core.square(m), low)), kind)


@_named
def noncentral_chisquare(
    df: Any, nonc: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Sums of df squares of normal numbers whose means' squares sum up to nonc >= 0; df > 0."""
    df, nonc = _parameter(df), _parameter(nonc)
    _check("noncentral_chisquare", "df", df)
    _check("noncentral_chisquare", "nonc", nonc, zero=True, most=2.0**52)
    shape = _spread("noncentral_chisquare", size, df=df, nonc=nonc)
    pairs = draws.poisson(core.broadcast_to(core.multiply(_wide(nonc), 0.5), shape), None, generator)
    return draws.chisquare(
        core.add(core.multiply(core.astype(pairs, "float64"), 2), df), None, dtype, generator
    )


@_named
def noncentral_f(
    dfnum: Any, dfden: Any, nonc: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """The quotient of a non-central chi-squared number and a chi-squared one, each by its degrees of freedom."""
    dfnum, dfden, nonc = (_parameter(p) for p in (dfnum, dfden, nonc))
    _check("noncentral_f", "dfnum", dfnum)
    _check("noncentral_f", "dfden", dfden)
    _check("noncentral_f", "nonc", nonc, zero=True, most=2.0**52)
    shape = _spread("noncentral_f", size, dfnum=dfnum, dfden=dfden, nonc=nonc)
    above = noncentral_chisquare(dfnum, nonc, shape, dtype, generator)
    below = draws.chisquare(dfden, shape, dtype, generator)
    return _like(above, core.divide(core.divide(above, dfnum), core.divide(below, dfden)))


@_named
def logseries(p: Any, size: Any = None, generator: Generator | None = None) -> Any:
    """int64 k >= 1 with probability -p^k / (k log(1 - p)), 0 <= p < 1 (Kemp 1981)."""
    p = _parameter(p)
    _require("logseries", "p", p, ">= 0 and < 1", lambda v: (v >= 0) & (v < 1))
    shape = _spread("logseries", size, p=p)
    rate = core.log1p(core.negative(_wide(p)))
    q = core.negative(core.expm1(core.multiply(draws.random(shape, "float64", generator), rate)))
    e = draws.exponential(1.0, shape, "float64", generator)
    steps = core.floor(core.divide(e, core.negative(core.log(q))))
    return core.astype(core.add(core.minimum(steps, 2.0**62), 1.0), "int64")


@_named
def permuted(x: Any, axis: int | None = None, generator: Generator | None = None) -> Any:
    """x with the elements along an axis in random order, each row in its own; of all where axis is None."""
    x = asarray(x)
    if axis is None:
        return core.reshape(draws.permutation(core.reshape(x, (-1,)), 0, generator), x.shape)
    state = _state("permuted", generator, x)
    order = core.argsort(core.random_uniform(state, x.shape, 0.0, 1.0, "float64"), axis, False)
    return core.take_along_axis(x, order, axis)


def rand(*shape: int) -> Any:
    """`random` with the extents as arguments."""
    return draws.random(shape)


def randn(*shape: int) -> Any:
    """`standard_normal` with the extents as arguments."""
    return draws.standard_normal(shape)


def randint(low: Any, high: Any = None, size: Any = None, dtype: Any = None) -> Any:
    """`integers` of the default generator."""
    return draws.integers(low, high, size, dtype)


@_named
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
    logseries, lognormal, multivariate_normal, negative_binomial, noncentral_chisquare, noncentral_f, pareto, permuted,
    power, rayleigh, shuffle, standard_cauchy, standard_exponential, standard_t, triangular, wald, weibull,
):  # fmt: skip
    setattr(Generator, _draw.__name__, _method(_draw))
