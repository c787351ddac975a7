"""Training steps alone, and beside a process that keeps one of the cores busy."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tensorsmith.bench.case import Task
from tensorsmith.bench.cases import steps


def cases() -> Iterator[Task]:
    if len(os.sched_getaffinity(0)) > 1:
        yield from steps.cases(beside=True)
