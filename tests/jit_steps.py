"""Whole trainings that run with and without ts.jit, for the tests that compare them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F
from tensorsmith.optim.lr_scheduler import OneCycleLR
from tensorsmith.train import parameters_hash

# The model from the nn module, the shape of its input, whether that is tokens, the number of classes.
Model = tuple[Callable[[Any], Any], tuple[int, ...], bool, int]


def tensor(*shape: int, seed: int = 0) -> ts.Tensor:
    return ts.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def train(
    model: Model, jit: bool, steps: int, dropout: float = 0.1, fused_clipping: bool = False
) -> tuple[str, list[float], Any]:
    """With dropout, clipping and a schedule, on the default device: the parameters' hash, the losses, and what ran."""
    make, shape, tokens, classes = model
    ts.manual_seed(3)
    net = make(nn).to(ts.get_default_device())
    drop = nn.Dropout(dropout)
    optimizer = optim.AdamW(net.parameters(), lr=1e-3)
    schedule = OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)

    def step(x: Any, t: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(drop(net(x)), t)
        loss.backward()
        if fused_clipping:
            optimizer.step(max_norm=1.0)
        else:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        schedule.step()
        return loss

    run = ts.jit(step) if jit else step
    rng = np.random.default_rng(5)
    losses, kept = [], []
    for _ in range(steps):
        if tokens:
            x = rng.integers(0, classes, shape)
            t = rng.integers(0, classes, shape[0] * shape[1])
        else:
            x = rng.standard_normal(shape, np.float32)
            t = rng.integers(0, classes, shape[0])
        losses.append(run(ts.asarray(x), ts.asarray(t)))
        kept.append(x)  # nothing comes at the same address by chance alone
    return parameters_hash(net.to("cpu")), [loss.item() for loss in losses], run
