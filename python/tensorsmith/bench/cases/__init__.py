"""The table of cases: a module for each family, whose `cases()` are its rows."""

from __future__ import annotations

from importlib import import_module

from tensorsmith.bench.case import Case, Reading, Task

NAMES = (
    "gemm",
    "bf16",
    "conv",
    "attention",
    "recurrent",
    "linalg",
    "pointwise",
    "reduce",
    "rows",
    "pool",
    "index",
    "sort",
    "random",
    "optim",
    "memory",
    "stream",
    "steps",
    "jit",
    "overhead",
    "neighbour",
)


def cases(family: str) -> tuple[Case | Task | Reading, ...]:
    """The rows of a family, in the order of the table; their names differ."""
    return tuple(import_module(f"tensorsmith.bench.cases.{family}").cases())
