"""Calls on tensors so small that the arithmetic costs nothing, and the import."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tensorsmith.bench.case import Case, Reading, Task
from tensorsmith.bench.libraries import Thunk
from tensorsmith.bench.measure import import_seconds


def cases() -> Iterator[Case | Task | Reading]:
    tiny = (8,)
    yield Case("a + b, 8 elements", (tiny, tiny), lambda m, a, b: a + b)

    def ours(record: Any) -> Thunk:
        import tensorsmith as ts

        return record(*(ts.asarray(np.ones(8, np.float32)).requires_grad_() for _ in range(2)))

    def torch(record: Any) -> Thunk:
        import torch

        return record(*(torch.ones(8).requires_grad_() for _ in range(2)))

    def recorded(a: Any, b: Any) -> Thunk:
        return lambda: a + b

    def backward(a: Any, b: Any) -> Thunk:
        def run() -> None:
            (a * b).sum().backward()
            a.grad = b.grad = None

        return run

    for name, record in (
        ("a + b, 8 elements, recorded", recorded),
        ("(a * b).sum().backward(), 8 elements", backward),
    ):
        yield Task(
            name,
            {"tensorsmith": lambda r=record: ours(r), "torch": lambda r=record: torch(r)},  # type: ignore[misc]
        )
    yield Reading("import", import_seconds)
