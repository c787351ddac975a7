"""Random numbers, into existing memory where a library can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tensorsmith.bench.case import Task
from tensorsmith.bench.libraries import Thunk

# Name, parameters, and the peers' words: of float32 where there are floats.
DISTRIBUTIONS: tuple[tuple[str, tuple[float, ...], dict[str, str]], ...] = (
    ("bernoulli", (0.3,), {"torch": "bernoulli_", "jax": "bernoulli"}),
    ("exponential", (), {"numpy": "standard_exponential", "torch": "exponential_", "jax": "exponential"}),
    ("gamma", (2.5,), {"numpy": "gamma", "torch": "_standard_gamma", "jax": "gamma"}),
    ("gamma", (0.5,), {"numpy": "gamma", "torch": "_standard_gamma", "jax": "gamma"}),
    ("poisson", (3.0,), {"numpy": "poisson", "torch": "poisson", "jax": "poisson"}),
    ("poisson", (100.0,), {"numpy": "poisson", "torch": "poisson", "jax": "poisson"}),
    ("binomial", (10, 0.3), {"numpy": "binomial", "torch": "binomial"}),
    ("binomial", (1000, 0.4), {"numpy": "binomial", "torch": "binomial"}),
    ("integers", (0, 1000), {"numpy": "integers", "torch": "random_"}),
    ("permutation", (), {"numpy": "permutation", "torch": "randperm"}),
)


def floats(row: str, name: str, n: int) -> Task:
    """n numbers, `uniform` or `normal`."""

    def ours() -> Thunk:
        import tensorsmith as ts

        return lambda: getattr(ts.random, name)(size=n)

    def numpy() -> Thunk:
        rng, out = np.random.default_rng(0), np.empty(n, np.float32)
        draw = rng.random if name == "uniform" else rng.standard_normal
        return lambda: draw(dtype=np.float32, out=out)

    def torch() -> Thunk:
        import torch

        return getattr(torch.empty(n), f"{name}_")

    def jax() -> Thunk:
        import jax

        key, draw = jax.random.key(0), jax.jit(lambda k: getattr(jax.random, name)(k, (n,)))
        return lambda: draw(key).block_until_ready()

    makers = {"tensorsmith": ours, "numpy": numpy, "torch": torch, "jax": jax}
    return Task(row, makers, bytes=4.0 * n)


def distribution(row: str, name: str, parameters: tuple[float, ...], n: int) -> Task:
    """n numbers of one of DISTRIBUTIONS."""
    peers = next(peers for other, ps, peers in DISTRIBUTIONS if (other, ps) == (name, parameters))

    def ours() -> Thunk:
        import tensorsmith as ts

        draw = getattr(ts.random, name)
        if name == "permutation":
            return lambda: draw(n)
        return lambda: draw(*parameters, size=n)

    def numpy() -> Thunk:
        draw = getattr(np.random.default_rng(0), peers["numpy"])
        if name == "permutation":
            return lambda: draw(n)
        return lambda: draw(*parameters, size=n)

    def torch() -> Thunk:
        import torch

        word = peers["torch"]
        if word == "randperm":
            return lambda: torch.randperm(n)
        if word.endswith("_"):
            dtype = {"integers": torch.int64, "bernoulli": torch.bool}.get(name, torch.float32)
            fill = getattr(torch.empty(n, dtype=dtype), word)
            return lambda: fill(*parameters)
        full = [torch.full((n,), float(p)) for p in parameters]
        return lambda: getattr(torch, word)(*full)

    def jax() -> Thunk:
        import jax

        draw = jax.jit(lambda k: getattr(jax.random, peers["jax"])(k, *parameters, shape=(n,)))
        key = jax.random.key(0)
        return lambda: draw(key).block_until_ready()

    makers: dict[str, Callable[[], Thunk]] = {"tensorsmith": ours, "numpy": numpy, "torch": torch, "jax": jax}
    makers = {
        library: maker for library, maker in makers.items() if library == "tensorsmith" or library in peers
    }
    return Task(row, makers, bytes=float(n) * (1 if name == "bernoulli" else 4))


def categorical(row: str, categories: int, n: int) -> Task:
    """n draws from weights: PyTorch's multinomial, NumPy's choice."""
    weights = np.random.default_rng(0).uniform(0.1, 1.0, categories).astype(np.float32)

    def ours() -> Thunk:
        import tensorsmith as ts

        w = ts.asarray(weights)
        return lambda: ts.random.categorical(w, n, True)

    def torch() -> Thunk:
        import torch

        w = torch.from_numpy(weights)
        return lambda: torch.multinomial(w, n, True)

    def numpy() -> Thunk:
        p: Any = weights.astype(np.float64)
        p, rng = p / p.sum(), np.random.default_rng(0)
        return lambda: rng.choice(categories, n, p=p)

    def jax() -> Thunk:
        import jax

        p, key = jax.numpy.asarray(weights / weights.sum()), jax.random.key(0)
        draw = jax.jit(lambda k: jax.random.choice(k, categories, (n,), p=p))
        return lambda: draw(key).block_until_ready()

    return Task(row, {"tensorsmith": ours, "numpy": numpy, "torch": torch, "jax": jax}, bytes=8.0 * n)


def cases() -> Iterator[Task]:
    for label, n in (("4 KB", 1000), ("4 MB", 1 << 20)):
        for name in ("uniform", "normal"):
            yield floats(f"{name} {label}", name, n)
    for name, parameters, _ in DISTRIBUTIONS:
        label = f"({', '.join(f'{p:g}' for p in parameters)})" if parameters else ""
        yield distribution(f"{name}{label} 1M", name, parameters, 1 << 20)
