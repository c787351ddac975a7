"""Optimizer steps over one large parameter and over many small ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tensorsmith.bench.case import Task
from tensorsmith.bench.libraries import Thunk

_PARAMETERS: dict[str, list[tuple[int, ...]]] = {"1 x 1M": [(1 << 20,)], "100 x 1024": [(1024,)] * 100}
_OPTIMIZERS: dict[str, tuple[dict[str, Any], float]] = {  # settings, bytes moved per parameter
    "SGD": ({"lr": 1e-3, "momentum": 0.9}, 20),
    "Adam": ({"lr": 1e-3}, 28),
    "AdamW": ({"lr": 1e-3}, 28),
    "RMSprop": ({"lr": 1e-3}, 20),
    "Adagrad": ({"lr": 1e-3}, 20),
    "Adadelta": ({"lr": 1.0}, 28),
    "Adamax": ({"lr": 1e-3}, 28),
    "NAdam": ({"lr": 1e-3}, 28),
    "RAdam": ({"lr": 1e-3}, 28),
    "Rprop": ({"lr": 1e-3}, 28),
    "ASGD": ({"lr": 1e-3}, 20),
}
_FUSED_IN_TORCH = ("SGD", "Adam", "AdamW", "Adagrad")


def step_of(row: str, name: str, shapes: Sequence[tuple[int, ...]], dtype: str = "float32") -> Task:
    """One step of the optimizer `name` over parameters of `shapes`. Of bfloat16 ours has its state in float32,
    PyTorch's in bfloat16: a third fewer bytes.
    """
    settings, per_parameter = _OPTIMIZERS[name]

    def ours() -> Thunk:
        import tensorsmith as ts

        parameters = [ts.nn.Parameter(ts.full(s, 0.5, dtype=dtype)) for s in shapes]
        for p in parameters:
            p.grad = ts.ones_like(p.detach())
        return getattr(ts.optim, name)(parameters, **settings).step

    def torch() -> Thunk:
        import torch

        parameters = [torch.nn.Parameter(torch.full(s, 0.5, dtype=getattr(torch, dtype))) for s in shapes]
        for p in parameters:
            p.grad = torch.ones_like(p)
        fused = {"fused": True} if name in _FUSED_IN_TORCH else {"foreach": True}
        return getattr(torch.optim, name)(parameters, **settings, **fused).step

    if dtype == "bfloat16":
        per_parameter -= 6  # the parameter is read and written, the gradient read
    count = sum(int(np.prod(s)) for s in shapes)
    return Task(row, {"tensorsmith": ours, "torch": torch}, bytes=per_parameter * count)


def cases() -> Iterator[Task]:
    for name in _OPTIMIZERS:
        for label, shapes in _PARAMETERS.items():
            yield step_of(f"{name} {label}", name, shapes)
