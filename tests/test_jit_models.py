"""ts.jit on every model of the bench, the command line and the examples: a training that is replayed ends with the bits
of one that is not, with dropout and a schedule, on one thread and on two.

The models are made smaller where 200 steps would last; TENSORSMITH_FULL_JIT=1 takes those of the bench as they are
(minutes).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from jit_steps import Model, train
from tensorsmith.bench import models
from tensorsmith.train import MODELS

LONG = {"cnn": 40, "gpt 1x128": 40}  # steps, of those that take their time
FULL = os.environ.get("TENSORSMITH_FULL_JIT") == "1"
STEPS = 200


def digits(nn: Any) -> Any:  # of examples/digits.py
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 4 * 4, 10),
    )  # fmt: skip


SMALL: dict[str, Model] = {
    "mlp": (models._mlp(196, 128, 64, 10), (32, 196), False, 10),
    "tiny mlp": (models._mlp(64, 32, 10), (32, 64), False, 10),
    "cnn": (models._cnn, (1, 1, 28, 28), False, 10),
    "resnet": (models._resnet(1), (2, 3, 16, 16), False, 10),
    "gpt": (models.gpt(2, 2, 64, 32), (4, 32), True, 256),
    # As wide as the bench's: its products are run side by side.
    "gpt 1x128": (models.gpt(1, 4, 128, 64), (6, 64), True, 256),
    "lstm": (models._lstm(32, 48), (4, 12), True, 256),
    "digits": (digits, (8, 1, 8, 8), False, 10),
    "command line mlp": (lambda nn: MODELS["mlp"]((8, 8), 10, 0.2), (16, 1, 8, 8), False, 10),
    "command line cnn": (lambda nn: MODELS["cnn"]((8, 8), 10, 0.2), (8, 1, 8, 8), False, 10),
}
BENCH: dict[str, Model] = {
    step.name: (step.model, step.batch, step.tokens, step.classes) for step in models.STEPS
}


@pytest.mark.parametrize("name", BENCH if FULL else SMALL)
def test_200_replayed_steps_have_the_bits_of_200_eager_ones(name: str) -> None:
    model = (BENCH if FULL else SMALL)[name]
    before = ts.get_num_threads()
    ends = []
    try:
        for threads in (1, 2):
            ts.set_num_threads(threads)
            steps = STEPS if FULL else LONG.get(name, STEPS)
            *replayed, run = train(model, True, steps)
            assert run.cache_info()[:2] == (steps - 1, 1)
            ends += [replayed, train(model, False, steps)[:2]]
    finally:
        ts.set_num_threads(before)
    assert all(tuple(end) == tuple(ends[0]) for end in ends)
    assert np.isfinite(ends[0][1]).all()


def test_a_fit_by_exact_derivatives() -> None:  # of examples/from_numpy.py
    time = np.linspace(0, 4, 200)
    t, y = ts.asarray(time), ts.asarray(np.exp(-0.7 * time) * np.sin(5.0 * time))

    def misfit(p: Any) -> Any:
        return ((ts.exp(-p[0] * t) * ts.sin(p[1] * t) - y) ** 2).mean()

    gradient = ts.grad(misfit)

    def step(p: Any) -> Any:
        return (p - gradient(p) * 0.05).detach()

    def run(f: Any) -> list[float]:
        p = ts.asarray(np.array([0.5, 4.8]))
        for _ in range(STEPS):
            p = f(p)
        values: list[float] = p.tolist()
        return values

    replayed = ts.jit(step)
    assert run(step) == run(replayed) and replayed.cache_info().misses == 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_products_side_by_side(threads: int) -> None:
    rng = np.random.default_rng(0)
    x, *weights = (ts.asarray(rng.standard_normal((192, 192), np.float32)) for _ in range(6))

    def several(x: Any) -> Any:
        products = [x @ w for w in weights]
        return [*products, products[0] @ products[1], products[2].sum(axis=0)]

    before = ts.get_num_threads()
    ts.set_num_threads(threads)
    try:
        f = ts.jit(several)
        f(x)
        assert "|matmul" in f.graph() or "|gemm" in f.graph()
        for _ in range(3):
            for a, b in zip(several(x), f(x), strict=True):
                assert np.array_equal(a.numpy(), b.numpy())
    finally:
        ts.set_num_threads(before)
