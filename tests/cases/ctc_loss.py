"""Connectionist temporal classification against the sum over alignments, frame by frame in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, integers, normal


def ctc_loss(x: np.ndarray, labels: Any, frames: int, blank: int = 0) -> float:
    """-log sum exp over the paths through blank, label, blank, ..., of one sequence (T, C)."""
    states = [blank]
    for label in labels:
        states += [label, blank]
    if frames == 0:
        return 0.0 if len(labels) == 0 else np.inf
    alpha = np.full(len(states), -np.inf)
    alpha[: min(2, len(states))] = x[0, states[:2]]
    for t in range(1, frames):
        ways = [alpha.copy()]
        ways.append(np.concatenate([[-np.inf], alpha[:-1]]))
        leap = np.concatenate([[-np.inf, -np.inf], alpha[:-2]])[: len(states)]
        for s in range(len(states)):
            if s < 2 or states[s] == blank or states[s] == states[s - 2]:
                leap[s] = -np.inf
        ways.append(leap)
        alpha = np.logaddexp.reduce(ways) + x[t, states]
    return -float(np.logaddexp.reduce(alpha[-2:]))


def case(
    name: str, shape: tuple[int, int, int], counts: list[int], frames: list[int], blank: int = 0
) -> Case:
    t, n, c = shape
    most = max(counts)

    def labels(targets: np.ndarray) -> np.ndarray:  # never the blank
        return targets + (targets >= blank)

    def op(x: Any, targets: Any) -> Any:
        wanted = ts.asarray(labels(targets.cpu().numpy()))
        return ts.ctc_loss(x, wanted, ts.asarray(frames), ts.asarray(counts), blank)

    def reference(x: np.ndarray, targets: np.ndarray) -> np.ndarray:
        every = zip(labels(targets), counts, frames)
        return np.array([ctc_loss(x[:, i], row[:k], f, blank) for i, (row, k, f) in enumerate(every)])

    inputs = [normal(t, n, c), integers(0, c - 1, n, most)]
    return Case(f"ctc_loss {name}", op, reference, inputs, tolerance=16, scale=2.0 * t, second=False)


CASES = [
    case("lengths", (9, 4, 5), [3, 0, 4, 1], [9, 5, 8, 9]),
    case("blank", (12, 3, 4), [5, 2, 4], [12, 12, 10], blank=2),
    case("many labels", (40, 2, 3), [17, 16], [40, 38]),
]
