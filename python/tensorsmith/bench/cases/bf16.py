"""bfloat16: products, and training steps under autocast. M N K: rows and columns of the result, depth.

Shares are of the float32 FMA peak: with AMX a product goes past it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tensorsmith.bench.case import Task
from tensorsmith.bench.libraries import Thunk
from tensorsmith.bench.models import STEPS, ours, torch_step

SHAPES = (
    (64, 64, 64), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (1000, 1001, 1003),
    (768, 384, 128), (768, 512, 128), (768, 128, 512), (2048, 1536, 384), (2048, 384, 1536), (128, 512, 784),
)  # fmt: skip


def _operands(m: int, n: int, k: int, layout: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if layout[0] == "T" else (m, k), np.float32)
    b = rng.standard_normal((n, k) if layout[1] == "T" else (k, n), np.float32)
    return a, b


def _product(m: int, n: int, k: int, layout: str) -> Thunk:
    import tensorsmith as ts

    a, b = (ts.asarray(x).astype(ts.bfloat16) for x in _operands(m, n, k, layout))
    left = ts.matrix_transpose(a) if layout[0] == "T" else a
    right = ts.matrix_transpose(b) if layout[1] == "T" else b
    return lambda: ts.matmul(left, right)


def _torch_product(m: int, n: int, k: int, layout: str) -> Thunk:
    import torch

    a, b = (torch.from_numpy(x).bfloat16() for x in _operands(m, n, k, layout))
    left, right = a.T if layout[0] == "T" else a, b.T if layout[1] == "T" else b
    result: Any = torch.empty((m, n), dtype=torch.bfloat16)
    return lambda: torch.matmul(left, right, out=result)


def cases() -> Iterator[Task]:
    for m, n, k in SHAPES:
        for layout in ("NN", "NT", "TN", "TT"):
            makers = {
                "tensorsmith": partial(_product, m, n, k, layout),
                "torch": partial(_torch_product, m, n, k, layout),
            }
            size = 2.0 * (m * k + k * n + m * n)
            yield Task(f"{m}x{n}x{k} {layout}", makers, 2.0 * m * n * k, size)
    for step in STEPS:
        makers = {
            "tensorsmith": partial(ours, step, autocast=True),
            "torch": partial(torch_step, step, autocast=True),
        }
        yield Task(f"{step.name}, autocast", makers, step.flops)
