"""Indexing, basic and by arrays, read and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import Case, normal

MASK = np.array([[True, False, True], [False, True, True]])
KEYS: dict[str, Any] = {
    "integer": 1,
    "integers": (0, -1),
    "slices": (slice(None), slice(None, None, -2)),
    "ellipsis": (..., None, 1),
    "empty slice": slice(2, 1),
    "array": [1, 0, 1],
    "arrays": ([0, 1, 1], [2, -1, 0]),
    "outer": (np.array([[0], [1]]), [0, 2]),
    "array and slice": (slice(None), [2, 0]),
    "mask": MASK,
    "row mask": np.array([False, True]),
}


def assign(key: Any) -> Callable[[Any, Any], Any]:
    def run(x: Any, value: Any) -> Any:
        y = x.copy()
        y[key] = value
        return y

    return run


def fill(key: Any) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        y = x.copy()
        y[key] = 2.5
        return y

    return run


def value_shape(key: Any) -> tuple[int, ...]:
    # No row twice: which of two writes stays is not part of the contract of a gradient.
    return np.zeros((2, 3))[key].shape


CASES = [
    *(Case(f"getitem {n}", lambda x, k=k: x[k], lambda x, k=k: x[k], [normal(2, 3)], exact=True) for n, k in KEYS.items()),
    *(
        Case(f"setitem {n}", assign(k), assign(k), [normal(2, 3), normal(*value_shape(k))], exact=True)
        for n, k in KEYS.items()
        if n not in ("array",)
    ),
    *(Case(f"setitem scalar {n}", fill(k), fill(k), [normal(2, 3)], exact=True) for n, k in KEYS.items()),
    Case(
        "getitem separated",
        lambda x: x[[0, 1], :, [1, 0]],
        lambda x: x[[0, 1], :, [1, 0]],
        [normal(2, 3, 2)],
        exact=True,
    ),
]  # fmt: skip
