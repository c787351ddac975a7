"""Results that no cache holds are stored past the caches, and what is read far away is asked for ahead: the bits are
those of the same elements computed in small parts, wherever an array begins and whatever its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

LARGE = (1 << 22) + 4099  # floats: more than the 16 MiB from which results go past the caches
PART = 65_537

POINTWISE: dict[str, Callable[[Any], Any]] = {
    "exp": ts.exp,
    "gelu": ts.nn.functional.gelu,
    "add": lambda x: x + x,
    "multiply by a number": lambda x: x * 2.5,
    "number minus": lambda x: 1.0 - x,
    "copy": ts.copy,
    "to float64": lambda x: x.astype("float64"),
    "where": lambda x: ts.where(x > 0.5, x, -1.0),
}


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("first", [0, 1])
def test_pointwise(name: str, first: int) -> None:
    x = ts.array(np.random.default_rng(0).random(LARGE + 1, dtype=np.float32))[first:]
    f = POINTWISE[name]
    whole = f(x).numpy()
    parts = [f(x[i : i + PART]).numpy() for i in range(0, LARGE, PART)]
    np.testing.assert_array_equal(whole, np.concatenate(parts)[: len(whole)])
