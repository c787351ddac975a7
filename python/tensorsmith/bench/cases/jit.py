"""Recordings: the training steps replayed, a pointwise chain, what a replay costs beyond its kernels, and what making a
recording costs. Ours as eager calls are in `steps`; JAX's are jitted there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tensorsmith.bench.case import Task
from tensorsmith.bench.jax_models import jax_step
from tensorsmith.bench.libraries import Thunk
from tensorsmith.bench.models import STEPS, Step, ours, torch_step

_CHAIN = 10**6
_OPS = 1000


def _recorded(step: Step) -> Thunk:
    """Each call makes a recording, as the first one does."""
    import tensorsmith as ts

    f = ts.jit(ours(step))

    def run() -> None:
        f.cache_clear()
        f()

    return run


def _many_small() -> Thunk:
    import tensorsmith as ts

    x = ts.ones((8,))

    def chain(x: Any) -> Any:
        for _ in range(_OPS):
            x = x + 1
        return x

    f = ts.jit(chain)
    return lambda: f(x)


def _chain(relu: Any, x: Any, y: Any) -> Any:
    return (relu(x * 2 + 1) * y).sum()


def _values() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(_CHAIN, np.float32) for _ in range(2)]


def _our_chain() -> Thunk:
    import tensorsmith as ts
    from tensorsmith.nn import functional as F

    x, y = (ts.asarray(a) for a in _values())
    f = ts.jit(partial(_chain, F.relu))
    return lambda: f(x, y)


def _torch_chain(compiled: bool) -> Thunk:
    import torch

    x, y = (torch.from_numpy(a) for a in _values())
    f = partial(_chain, torch.relu)
    if compiled:
        f = torch.compile(f, dynamic=False)
    return lambda: f(x, y)


def _jax_chain() -> Thunk:
    import jax

    x, y = (jax.numpy.asarray(a) for a in _values())
    f = jax.jit(partial(_chain, jax.nn.relu))
    return lambda: f(x, y).block_until_ready()


def cases() -> Iterator[Task]:
    for step in STEPS:
        makers = {
            "tensorsmith": partial(ours, step, recorded=True),
            "torch": partial(torch_step, step),
            "torch.compile": partial(torch_step, step, compiled=True),
            "jax": partial(jax_step, step),
        }
        yield Task(step.name, makers, step.flops)
    yield Task(
        "((x*2+1).relu()*y).sum(), 10^6",
        {
            "tensorsmith": _our_chain,
            "torch": partial(_torch_chain, False),
            "torch.compile": partial(_torch_chain, True),
            "jax": _jax_chain,
        },
        bytes=8.0 * _CHAIN,
    )
    yield Task("1000 calls on 8 elements", {"tensorsmith": _many_small})
    for step in STEPS:
        yield Task(f"recording {step.name}", {"tensorsmith": partial(_recorded, step)})
