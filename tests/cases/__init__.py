"""The operations as data: name -> operation, float64 reference, inputs.

Every test and benchmark that means "all operations" walks this table. A family's cases are in the file of its name:

    CASES = [Case("exp", ts.exp, np.exp, [normal(3, 5)]), ...]

The operation is called with tensors, the reference with float64 (or integer) NumPy arrays of the same values.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Make = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    name: str
    op: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: Sequence[Make]
    dtypes: Sequence[str] = ("float32", "float64")  # of the floating inputs; integer inputs keep theirs
    tolerance: float = 4.0  # in eps of the dtype, times the magnitude of the result (and of `scale`)
    scale: float = 0.0  # magnitude of what is summed, where cancellation makes the result smaller
    gradient: bool = True  # differentiable with respect to its floating inputs
    second: bool = True  # and once more
    exact: bool = False  # the result must equal the reference bit for bit
    layouts: bool = True  # the same bits whatever the strides of the inputs
    large: Sequence[Make] | None = None  # inputs big enough for several threads

    def __str__(self) -> str:
        return self.name


def normal(*shape: int, scale: float = 1.0) -> Make:
    """Standard normal numbers times `scale`."""
    return lambda rng: rng.standard_normal(shape) * scale


def uniform(low: float, high: float, *shape: int) -> Make:
    """Uniform numbers in [low, high)."""
    return lambda rng: rng.uniform(low, high, shape)


def apart(*shape: int) -> Make:
    """Normal numbers no two of which are close: for operations with kinks where elements tie."""
    return lambda rng: (rng.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) / 2 + 0.3) * 0.37


def off_zero(*shape: int, gap: float = 0.2) -> Make:
    """Normal numbers at least `gap` away from 0."""

    def make(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal(shape)
        return x + np.copysign(gap, x)

    return make


def integers(low: int, high: int, *shape: int, dtype: str = "int64") -> Make:
    """Integers in [low, high)."""
    return lambda rng: rng.integers(low, high, shape).astype(dtype)


def bools(*shape: int) -> Make:
    """Fair coins."""
    return lambda rng: rng.random(shape) < 0.5


def make_inputs(makers: Sequence[Make], seed: int = 0) -> list[np.ndarray]:
    """The inputs of a case, the same on every call."""
    rng = np.random.default_rng(seed)
    return [np.array(make(rng)) for make in makers]


def load() -> list[Case]:
    """Every family's cases."""
    cases: list[Case] = []
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        cases.extend(importlib.import_module(f"{__name__}.{module}").CASES)
    names = [c.name for c in cases]
    assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
    return cases
