"""Whole training steps: forward, backward, AdamW."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tensorsmith.bench.case import Task
from tensorsmith.bench.jax_models import jax_step
from tensorsmith.bench.models import STEPS, ours, torch_step


def cases(beside: bool = False) -> Iterator[Task]:
    for step in STEPS:
        makers = {
            "tensorsmith": partial(ours, step),
            "torch": partial(torch_step, step),
            "torch.compile": partial(torch_step, step, compiled=True),
            "jax": partial(jax_step, step),
        }
        yield Task(step.name, makers, step.flops, beside=beside)
