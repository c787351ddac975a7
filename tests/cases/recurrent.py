"""Recurrent layers against their formulas, a step at a time in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, Make, normal

GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def reference(cell: str, reverse: bool, lengths: list[int] | None) -> Callable[..., tuple[np.ndarray, ...]]:
    def run(
        x: np.ndarray,
        wi: np.ndarray,
        wh: np.ndarray,
        bi: np.ndarray,
        bh: np.ndarray,
        h: np.ndarray,
        c: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        t_count, n = x.shape[:2]
        ends = np.full(n, t_count) if lengths is None else np.array(lengths)
        y = np.zeros((t_count, n, h.shape[1]))
        h, c = h.copy(), h.copy() if c is None else c.copy()
        for t in range(t_count)[:: -1 if reverse else 1]:
            on = t < ends
            a, r = x[t] @ wi.T + bi, h @ wh.T + bh
            if cell == "lstm":
                i, f, g, o = np.split(a + r, 4, 1)
                c = np.where(on[:, None], sigmoid(f) * c + sigmoid(i) * np.tanh(g), c)
                new = sigmoid(o) * np.tanh(c)
            elif cell == "gru":
                a, r = np.split(a, 3, 1), np.split(r, 3, 1)
                z = sigmoid(a[1] + r[1])
                new = (1 - z) * np.tanh(a[2] + sigmoid(a[0] + r[0]) * r[2]) + z * h
            else:
                new = np.tanh(a + r) if cell == "tanh" else np.maximum(a + r, 0)
            h = np.where(on[:, None], new, h)
            y[t] = np.where(on[:, None], new, 0)
        return (y, h, c) if cell == "lstm" else (y, h)

    return run


def case(cell: str, lengths: list[int] | None = None, reverse: bool = False, large: bool = False) -> Case:
    def inputs(t: int, n: int, i: int, h: int) -> list[Make]:
        g = GATES[cell] * h
        shapes = [(t, n, i), (g, i), (g, h), (g,), (g,), (n, h)] + [(n, h)] * (cell == "lstm")
        return [normal(*s, scale=0.5 if len(s) != 2 else 0.3) for s in shapes]

    def op(x: Any, wi: Any, wh: Any, bi: Any, bh: Any, h: Any, c: Any = None) -> Any:
        limits = None if lengths is None else ts.array(lengths)
        y, hn, cn = ts.recurrent(x, wi, wh, bi, bh, h, c, limits, cell, reverse)
        return (y, hn, cn) if cell == "lstm" else (y, hn)

    name = f"recurrent {cell}" + (" reverse" if reverse else "") + (" lengths" if lengths else "")
    return Case(
        name,
        op,
        reference(cell, reverse, lengths),
        inputs(4, 3, 2, 3),
        tolerance=16,
        scale=4.0,
        second=False,
        large=inputs(5, 40, 30, 50) if large else None,
    )


CASES = [
    *(case(cell, reverse=reverse, large=not reverse) for cell in GATES for reverse in (False, True)),
    *(case(cell, [2, 4, 1], reverse) for cell in GATES for reverse in (False, True)),
]
