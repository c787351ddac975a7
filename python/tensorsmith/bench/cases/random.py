"""Random numbers, into existing memory where a library can."""

from __future__ import annotations

from collections.abc import Iterator

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
