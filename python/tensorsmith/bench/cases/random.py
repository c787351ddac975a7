"""Random numbers, into existing memory where a library can."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tensorsmith.bench.case import Task
from tensorsmith.bench.libraries import Thunk


def cases() -> Iterator[Task]:
    for label, n in (("4 KB", 1000), ("4 MB", 1 << 20)):
        for name in ("uniform", "normal"):

            def ours(name: str = name, n: int = n) -> Thunk:
                import tensorsmith as ts

                return lambda: getattr(ts.random, name)(size=n)

            def numpy(name: str = name, n: int = n) -> Thunk:
                rng, out = np.random.default_rng(0), np.empty(n, np.float32)
                draw = rng.random if name == "uniform" else rng.standard_normal
                return lambda: draw(dtype=np.float32, out=out)

            def torch(name: str = name, n: int = n) -> Thunk:
                import torch

                return getattr(torch.empty(n), f"{name}_")

            def jax(name: str = name, n: int = n) -> Thunk:
                import jax

                key, draw = jax.random.key(0), jax.jit(lambda k: getattr(jax.random, name)(k, (n,)))
                return lambda: draw(key).block_until_ready()

            makers = {"tensorsmith": ours, "numpy": numpy, "torch": torch, "jax": jax}
            yield Task(f"{name} {label}", makers, bytes=4.0 * n)
    yield from _distributions(1 << 20)


def _distributions(n: int) -> Iterator[Task]:
    """Of float32 where there are floats; PyTorch's and JAX's names and parameters differ."""
    draws: tuple[tuple[str, tuple[float, ...], dict[str, str]], ...] = (
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
    for name, parameters, peers in draws:

        def ours(name: str = name, parameters: tuple[float, ...] = parameters) -> Thunk:
            import tensorsmith as ts

            draw = getattr(ts.random, name)
            if name == "permutation":
                return lambda: draw(n)
            return lambda: draw(*parameters, size=n)

        def numpy(parameters: tuple[float, ...] = parameters, word: str = peers["numpy"]) -> Thunk:
            draw = getattr(np.random.default_rng(0), word)
            if word == "permutation":
                return lambda: draw(n)
            return lambda: draw(*parameters, size=n)

        def torch(parameters: tuple[float, ...] = parameters, word: str = peers["torch"]) -> Thunk:
            import torch

            if word == "randperm":
                return lambda: torch.randperm(n)
            if word.endswith("_"):
                dtype = torch.int64 if parameters else torch.float32
                fill = getattr(torch.empty(n, dtype=dtype), word)
                return lambda: fill(*parameters)
            full = [torch.full((n,), float(p)) for p in parameters]
            return lambda: getattr(torch, word)(*full)

        makers: dict[str, Callable[[], Thunk]] = {"tensorsmith": ours, "numpy": numpy, "torch": torch}
        if "jax" in peers:

            def jax(parameters: tuple[float, ...] = parameters, word: str = peers["jax"]) -> Thunk:
                import jax

                key = jax.random.key(0)
                draw = jax.jit(lambda k: getattr(jax.random, word)(k, *parameters, shape=(n,)))
                return lambda: draw(key).block_until_ready()

            makers["jax"] = jax
        label = f"({', '.join(f'{p:g}' for p in parameters)})" if parameters else ""
        yield Task(f"{name}{label} 1M", makers, bytes=4.0 * n)
