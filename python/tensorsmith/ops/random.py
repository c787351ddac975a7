"""Random draws of a generator's numbers; `tensorsmith.random` is this module's public face."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.dtypes import DType, as_dtype
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.generator import Generator, _integer, _state
from tensorsmith.ops.manipulate import _axis, broadcast_shapes
from tensorsmith.ops.parameters import (
    _check,
    _check_spread,
    _extents,
    _finite,
    _floating,
    _named,
    _numbers,
    _parameter,
    _require,
    _shape,
    _spread,
    _tensor,
    _wide,
)
from tensorsmith.ops.sort import topk
from tensorsmith.tensor import Tensor

__all__: list[str] = []  # `tensorsmith.random` names what is public

for _op, _doc in (
    (core.random_bits, "uint32: the generator's words themselves."),
    (core.random_uniform, "Uniform in [low, high), with 24 (float32) or 53 (float64) random bits."),
    (core.random_normal, "Normal by Box and Muller's transform."),
    (core.random_exponential, "Exponential: -scale ln u."),
    (core.random_gamma, "Gamma of shape parameter k and scale 1 (Marsaglia and Tsang)."),
    (core.random_poisson, "Poisson: inversion, from a mean of 10 on Hörmann's PTRS."),
    (core.random_binomial, "Binomial: inversion, from n min(p, 1 - p) = 10 on Hörmann's BTRS."),
    (core.random_bernoulli, "True with probability p, to 2**-33."),
    (core.random_integers, "Integers in [low, high); bias below 2**-32."),
    (core.random_permutation, "0 ... n - 1 in random order (Fisher and Yates)."),
):
    define(_op, _doc + " `state` is a generator's uint64 {seed, counter, stream}.")
for _op in (core.uniform_, core.normal_, core.exponential_, core.bernoulli_):
    define(_op, "The draw of the same name into x.", x=lambda dy: core.zeros_like(dy))


@_named
def uniform(
    low: Any = 0.0,
    high: Any = 1.0,
    size: Any = None,
    dtype: Any = None,
    generator: Generator | None = None,
) -> Any:
    """Floats from [low, high), never `high`; shape `size` (None: the bounds' shape), float32 by default.

    low, high: numbers or arrays, which broadcast, to `size` if there is one. ValueError where low > high or a bound is
    not finite.
    """
    low, high = _parameter(low), _parameter(high)
    state = _state("uniform", generator, _tensor(low, high))
    if _numbers(low, high):
        return core.random_uniform(state, _shape(size), low, high, dtype)
    _finite("uniform", low=low, high=high)
    if bool(core.any(core.greater(low, high))):
        raise ValueError("uniform: low must be at most high")
    kind = _floating("uniform", dtype)
    shape = _spread("uniform", size, low=low, high=high)
    low, high = (core.astype(asarray(p, device=state.device), kind, False) for p in (low, high))
    if not bool(core.all(core.isfinite(core.subtract(high, low)))):
        raise ValueError(f"uniform: high - low overflows {kind}")
    u = core.random_uniform(state, shape, 0.0, 1.0, kind)
    y = core.add(core.multiply(u, core.subtract(high, low)), low)
    return core.maximum(core.minimum(y, core.nextafter(high, -math.inf)), low)  # rounding may reach high


@_named
def random(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Floats from [0, 1)."""
    return core.random_uniform(_state("random", generator), _shape(size), 0.0, 1.0, dtype)


@_named
def normal(
    loc: Any = 0.0,
    scale: Any = 1.0,
    size: Any = None,
    dtype: Any = None,
    generator: Generator | None = None,
) -> Any:
    """Normal numbers with mean `loc` and standard deviation `scale` >= 0: numbers or arrays, which broadcast, to
    `size` if there is one."""
    loc, scale = _parameter(loc), _parameter(scale)
    state = _state("normal", generator, _tensor(loc, scale))
    if _numbers(loc, scale):
        return core.random_normal(state, _shape(size), loc, scale, dtype)
    _finite("normal", loc=loc)
    _check("normal", "scale", scale, zero=True)
    z = core.random_normal(state, _spread("normal", size, loc=loc, scale=scale), 0.0, 1.0, dtype)
    return core.astype(core.add(core.multiply(z, scale), loc), z.dtype, False)


@_named
def standard_normal(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Normal numbers with mean 0 and standard deviation 1."""
    return core.random_normal(_state("standard_normal", generator), _shape(size), 0.0, 1.0, dtype)


@_named
def exponential(
    scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Exponential numbers with mean `scale` >= 0, a number or an array, never 0 unless scale is."""
    scale = _parameter(scale)
    state = _state("exponential", generator, _tensor(scale))
    if _numbers(scale):
        return core.random_exponential(state, _shape(size), scale, dtype)
    _check("exponential", "scale", scale, zero=True)
    e = core.random_exponential(state, _spread("exponential", size, scale=scale), 1.0, dtype)
    return core.astype(core.multiply(e, scale), e.dtype, False)


def _size(size: Any, *parameters: Any) -> Any:
    """The shape of a draw, or None where tensors of parameters say it."""
    if size is not None or any(getattr(p, "ndim", 0) for p in parameters):
        return size
    return ()


@_named
def gamma(
    shape: Any, scale: Any = 1.0, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Gamma numbers with density x^(shape - 1) exp(-x / scale) / (Gamma(shape) scale^shape).

    shape, scale: numbers or tensors, which broadcast, to `size` if there is one; shape >= 0. ValueError for
    negative or infinite ones.
    """
    shape, scale = _parameter(shape), _parameter(scale)
    state = _state("gamma", generator, _tensor(shape, scale))
    if isinstance(scale, Tensor):
        fine = bool(core.all(core.logical_and(core.greater_equal(scale, 0), core.less(scale, math.inf))))
    else:
        scale = float(scale) if isinstance(scale, int) else scale
        fine = 0 <= scale < math.inf
    # Whatever is wrong with scale is told before the draw, which moves the generator.
    if not fine:
        raise ValueError(f"gamma: scale must be in [0, inf), got {scale}")
    if isinstance(scale, Tensor):
        if scale.device != state.device:
            raise RuntimeError(
                f"gamma: shape is on {state.device}, scale on {scale.device}; move one of them with .to()"
            )
        size = broadcast_shapes(getattr(shape, "shape", ()), scale.shape) if size is None else _extents(size)
        _check_spread("gamma", "scale", scale, size)
    y = core.random_gamma(state, shape, _size(size, shape), dtype)
    return (
        core.astype(core.multiply(y, scale), y.dtype, False) if isinstance(scale, Tensor) or scale != 1 else y
    )


@_named
def standard_gamma(
    shape: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Gamma numbers of scale 1."""
    return gamma(shape, 1.0, size, dtype, generator)


@_named
def chisquare(df: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Sums of df squares of normal numbers; df > 0, a number or an array."""
    df = _parameter(df)
    _check("chisquare", "df", df)
    return gamma(core.multiply(df, 0.5) if isinstance(df, Tensor) else df / 2, 2.0, size, dtype, generator)


def _log_gamma(state: Any, k: Any, size: tuple[int, ...]) -> Any:
    """Logarithms of gamma numbers of shape k: near k = 0 most of these are below the least float."""
    k = k if isinstance(k, (int, float)) else core.broadcast_to(_wide(k), size)
    above = core.random_gamma(state, k + 1.0, size, "float64")
    power = core.random_exponential(state, size, 1.0, "float64")
    return core.subtract(core.log(above), core.divide(power, k))


@_named
def beta(a: Any, b: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Beta numbers, density proportional to x^(a - 1) (1 - x)^(b - 1): the share of one of two gamma numbers.

    a, b > 0: numbers or arrays, which broadcast, to `size` if there is one. ValueError for others."""
    a, b, kind = _parameter(a), _parameter(b), _floating("beta", dtype)
    _check("beta", "a", a)
    _check("beta", "b", b)
    state, shape = _state("beta", generator, _tensor(a, b)), _spread("beta", size, a=a, b=b)
    x, y = (_log_gamma(state, k, shape) for k in (a, b))
    return core.astype(core.sigmoid(core.subtract(x, y)), kind)


@_named
def dirichlet(alpha: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Points of the simplex, (*size, K) for alpha (K) >= 0, of which one is more. ValueError for others."""
    alpha, kind = asarray(alpha), _floating("dirichlet", dtype)
    if alpha.ndim < 1:
        raise ValueError("dirichlet: alpha must be (K), got a number")
    _check("dirichlet", "alpha", alpha, zero=True)
    if not bool(core.all(core.any(alpha, -1))):
        raise ValueError("dirichlet: alpha must not be 0 throughout")
    state = _state("dirichlet", generator, alpha)
    x = _log_gamma(state, alpha, (*_extents(size), *alpha.shape))
    return core.astype(core.softmax(x, -1), kind)


@_named
def poisson(lam: Any = 1.0, size: Any = None, generator: Generator | None = None) -> Any:
    """int64 counts of events with mean `lam` >= 0, a number or an array."""
    lam = _parameter(lam)
    return core.random_poisson(_state("poisson", generator, _tensor(lam)), lam, _size(size, lam))


@_named
def binomial(n: Any, p: Any, size: Any = None, generator: Generator | None = None) -> Any:
    """int64 counts of successes in n trials of probability p: numbers or arrays, which broadcast."""
    n, p = _parameter(n), _parameter(p)
    _require("binomial", "n", n, "whole", lambda v: v % 1 == 0)
    return core.random_binomial(_state("binomial", generator, _tensor(n, p)), n, p, _size(size, n, p))


def _weights(name: str, p: Any) -> Any:
    """Probabilities, or weights of any sum, as float64."""
    p = core.astype(asarray(p), "float64")
    if p.ndim < 1 or p.shape[-1] < 1:
        raise ValueError(f"{name}: there must be at least one probability, got shape {tuple(p.shape)}")
    fine = core.logical_and(core.isfinite(p), core.greater_equal(p, 0))
    sums = core.sum(p, -1)
    if not bool(core.all(fine)) or not bool(
        core.all(core.logical_and(core.greater(sums, 0), core.isfinite(sums)))
    ):
        raise ValueError(f"{name}: probabilities must be finite and >= 0, as is their sum, and not all 0")
    return p


@_named
def categorical(
    probs: Any, num_samples: int, replacement: bool = False, generator: Generator | None = None
) -> Any:
    """int64 (*, num_samples): positions drawn with probability proportional to `probs` (*, C), as torch.multinomial.

    Without replacement no position comes twice in a row, and they come in the order in which they were drawn.
    ValueError where a row has not enough positive weights for that.
    """
    name = "categorical"
    p = _weights(name, probs)
    num_samples = _integer(name, "num_samples", num_samples)
    state = _state(name, generator, p)
    if num_samples < 1:
        raise ValueError(f"{name}: num_samples must be >= 1, got {num_samples}")
    if replacement:
        sums = core.cumsum(p, -1)
        total = sums[..., -1:]
        u = core.multiply(
            core.random_uniform(state, (*p.shape[:-1], num_samples), 0.0, 1.0, "float64"), total
        )
        # Rounding must not lead behind the last positive weight.
        last = core.sum(core.less(sums, total), -1, None, True)
        lines = core.reshape(sums, (-1, p.shape[-1]))
        found = [
            core.searchsorted(line, at, True)
            for line, at in zip(lines, core.reshape(u, (-1, num_samples)), strict=True)
        ]
        if not found:
            return core.zeros(u.shape, "int64", device=u.device)
        y = core.reshape(core.stack(found, 0), u.shape)
        return core.minimum(y, last)
    if num_samples > p.shape[-1] or bool(core.any(core.less(core.sum(core.greater(p, 0), -1), num_samples))):
        raise ValueError(
            f"{name}: {num_samples} samples without replacement need as many positive probabilities in every row"
        )
    # The smallest of exponential numbers of rates p come in the order of draws without replacement.
    e = core.random_exponential(state, p.shape, 1.0, "float64")
    _, index = topk(core.divide(p, e), num_samples)
    return index


@_named
def choice(
    a: Any, size: Any = None, replace: bool = True, p: Any = None, generator: Generator | None = None
) -> Any:
    """Elements of `a` (an integer stands for 0 ... a - 1; a tensor for its slices along axis 0) with equal
    probability, or in proportion to p.
    """
    number_of = hasattr(a, "__index__") and not getattr(a, "ndim", 0)
    a = _integer("choice", "a", a) if number_of else asarray(a)
    if not number_of and a.ndim == 0:
        raise ValueError(f"choice: a must be an integer or have an axis, got {a}")
    count = a if number_of else a.shape[0]
    if count < 1 and math.prod(_extents(size)):
        raise ValueError(f"choice: there must be something to choose from, got {count}")
    shape = _extents(size)
    number = math.prod(shape)
    if p is not None:
        if tuple(asarray(p).shape) != (count,):
            raise ValueError(f"choice: p must have shape ({count},), got {tuple(asarray(p).shape)}")
        index = categorical(p, max(number, 1), replace, generator)[:number]
    elif replace:
        index = integers(0, max(count, 1), number, generator=generator)
    else:
        if number > count:
            raise ValueError(f"choice: {number} samples without replacement from {count}")
        index = permutation(count, generator=generator)[:number]
    index = core.reshape(index, shape)
    if number_of:
        return index
    return core.take(a, core.to_device(index, a.device), 0)


@_named
def multinomial(n: int, pvals: Any, size: Any = None, generator: Generator | None = None) -> Any:
    """int64 (*size, K): how often each of K outcomes of probabilities `pvals` comes in n trials."""
    n = _integer("multinomial", "n", n)
    if n < 0:
        raise ValueError(f"multinomial: n must be >= 0, got {n}")
    pvals = asarray(pvals)
    weights = _weights("multinomial", pvals)
    p = weights.cpu().numpy()
    rounding = 1e-9 if pvals.dtype.itemsize > 4 else p.size * float(np.finfo("float32").eps)
    if p.ndim != 1 or p[:-1].sum() > 1 + rounding:
        raise ValueError("multinomial: pvals must be one dimension of probabilities with a sum of at most 1")
    shape = _extents(size)
    left = core.to_device(core.full(shape, n, "int64"), weights.device)
    rest = 1.0
    counts = []
    for chance in p[:-1]:
        share = min(max(float(chance) / rest, 0.0), 1.0) if rest > 0 else 0.0
        counts.append(binomial(left, share, shape, generator))
        left = core.subtract(left, counts[-1])
        rest -= float(chance)
    return core.stack([*counts, left], -1)


@_named
def exponential_(x: Any, lambd: float = 1.0, *, generator: Generator | None = None) -> Any:
    """Fill x with exponential numbers of rate lambd > 0 (mean 1 / lambd); returns x."""
    return core.exponential_(x, _state("exponential_", generator, x), lambd)


@_named
def bernoulli(p: Any = 0.5, size: Any = None, generator: Generator | None = None) -> Any:
    """bool: True with probability p, a number or an array, which broadcasts to `size` if there is one."""
    p = _parameter(p)
    state = _state("bernoulli", generator, _tensor(p))
    if _numbers(p):
        return core.random_bernoulli(state, _shape(size), p)
    _require("bernoulli", "p", p, "in [0, 1]", lambda v: (v >= 0) & (v <= 1))
    shape = _spread("bernoulli", size, p=p)
    kind = p.dtype if p.dtype.kind == "floating" else _core.default_dtype()
    if kind.itemsize == 2:
        kind = "float32"
    return core.less(core.random_uniform(state, shape, 0.0, 1.0, kind), p)


def _whole(name: str, bound: Any, device: Any) -> Any:
    """A bound of integers as int64."""
    x = asarray(bound, device=device)
    if isinstance(bound, float) or x.dtype.kind not in ("signed", "unsigned"):
        raise TypeError(f"integers: {name} must hold integers")
    if x.dtype == "uint64":
        _require("integers", name, x, "below 2**63", lambda v: v <= 2**63 - 1)
    return core.astype(x, "int64", False)


@_named
def integers(
    low: Any,
    high: Any = None,
    size: Any = None,
    dtype: Any = None,
    endpoint: bool = False,
    generator: Generator | None = None,
) -> Any:
    """Integers from [low, high), or [low, high] with `endpoint`; one bound given is `high`, and `low` 0.

    Bounds are integers or arrays of them, which broadcast, to `size` if there is one (then of 53 random bits).
    dtype: an integer dtype, int64 if None, for the same numbers. ValueError where there is nothing to draw from, or a
    bound that `dtype` does not hold.
    """
    kind = as_dtype("int64" if dtype is None else dtype)
    if kind.kind not in ("signed", "unsigned"):
        raise TypeError(f"integers: dtype must be an integer dtype, got {kind}")
    if high is None:
        low, high = 0, low
    end = high + 1 if endpoint and isinstance(high, int) else high
    if _numbers(low, end) and end != 2**63:
        _fits(kind, low, end)
        return core.astype(
            core.random_integers(_state("integers", generator), _shape(size), low, end), kind, False
        )
    low, high = _parameter(low), _parameter(high)
    state = _state("integers", generator, _tensor(low, high))
    low, high = _whole("low", low, state.device), _whole("high", high, state.device)
    if not bool(core.all(core.less_equal(low, high) if endpoint else core.less(low, high))):
        raise ValueError(f"integers: low must {'not be above' if endpoint else 'be below'} high")
    if kind != "int64" and low.size and high.size:
        _fits(kind, int(core.min(low)), int(core.max(high)) + bool(endpoint))
    shape = _spread("integers", size, low=low, high=high)
    # Where high - low is beyond int64, it and the sum wrap around, and are right.
    most = core.astype(core.subtract(core.subtract(high, low), 0 if endpoint else 1), "uint64")
    u = core.random_uniform(state, shape, 0.0, 1.0, "float64")
    at = core.astype(core.floor(core.multiply(u, core.add(core.astype(most, "float64"), 1.0))), "uint64")
    return core.astype(core.add(core.astype(core.minimum(at, most), "int64"), low), kind, False)


def _fits(kind: DType, low: Any, end: Any) -> None:
    """ValueError unless the dtype holds all integers of [low, end); int64 holds what can be drawn."""
    bits = 8 * kind.itemsize
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind.kind == "signed" else (0, 2**bits - 1)
    if kind != "int64" and low < end and not (least <= low and end - 1 <= most):
        raise ValueError(f"integers: {kind} holds {least} to {most}, got bounds {low} and {end}")


@_named
def permutation(x: Any, axis: int = 0, generator: Generator | None = None) -> Any:
    """0 ... x - 1 in random order, or for an array its slices along `axis` in random order."""
    x = x if hasattr(x, "__index__") and not getattr(x, "ndim", 0) else asarray(x)
    state = _state("permutation", generator, x if isinstance(x, Tensor) else None)
    if isinstance(x, Tensor):
        axis = _axis("permutation", axis, x.ndim)
        return core.take(x, core.random_permutation(state, x.shape[axis]), axis)
    return core.random_permutation(state, x)


@_named
def uniform_(x: Any, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Any:
    """Fill x from [low, high); returns x."""
    return core.uniform_(x, _state("uniform_", generator, x), low, high)


@_named
def normal_(x: Any, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Any:
    """Fill x with normal numbers; returns x."""
    return core.normal_(x, _state("normal_", generator, x), mean, std)


@_named
def bernoulli_(x: Any, p: float = 0.5, *, generator: Generator | None = None) -> Any:
    """Fill x with 1 where a draw of probability p succeeds, 0 elsewhere; returns x."""
    return core.bernoulli_(x, _state("bernoulli_", generator, x), p)


for _method in (uniform_, normal_, exponential_, bernoulli_):
    setattr(Tensor, _method.__name__, _method)
