"""Cross-entropy against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, integers, normal, uniform
from cases.softmax import log_softmax


def cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    reduction: str = "mean",
    smoothing: float = 0.0,
    ignore: int = -100,
) -> Any:
    logp, classes = log_softmax(x, 1), x.shape[1]
    w = np.ones(classes) if weight is None else weight
    kept = target != ignore
    t = np.where(kept, target, 0)
    picked = -w[t] * logp[np.arange(len(t)), t]
    spread = -(w * logp).sum(1) / classes
    loss = np.where(kept, (1 - smoothing) * picked + smoothing * spread, 0)
    if reduction == "mean":
        return loss.sum() / (w[t] * kept).sum()
    return loss.sum() if reduction == "sum" else loss


def case(name: str, options: dict[str, Any], weighted: bool = False) -> Case:
    ours = {
        {"smoothing": "label_smoothing", "ignore": "ignore_index"}.get(k, k): v for k, v in options.items()
    }

    def op(x: Any, target: Any, *weight: Any) -> Any:
        return ts.cross_entropy(x, target, weight=weight[0] if weight else None, **ours)

    def reference(x: np.ndarray, target: np.ndarray, *weight: np.ndarray) -> Any:
        return cross_entropy(x, target, weight[0] if weight else None, **options)

    inputs = [normal(4, 5), integers(0, 5, 4)]
    if weighted:
        # The weights are constants of the loss.
        weight = uniform(0.5, 2, 5)(np.random.default_rng(3))
        base_op, base_reference = op, reference

        def op(x: Any, target: Any) -> Any:  # type: ignore[misc]
            return base_op(x, target, ts.array(weight, dtype=x.dtype))

        def reference(x: np.ndarray, target: np.ndarray) -> Any:  # type: ignore[misc]
            return base_reference(x, target, weight)

    large = [normal(3000, 50), integers(0, 5, 3000)] if not weighted else None
    return Case(f"cross_entropy {name}", op, reference, inputs, tolerance=16, scale=4.0, large=large)


def bce_with_logits(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    return (1 - t) * np.logaddexp(0, x) + t * np.logaddexp(0, -x)


def weighted_bce_with_logits(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a * np.logaddexp(0, x) + b * np.logaddexp(0, -x)


CASES = [
    Case("bce_with_logits", ts.bce_with_logits, bce_with_logits, [normal(3, 5, scale=3), uniform(0, 1, 3, 5)],
         scale=1e-3, large=[normal(70_001, scale=3), uniform(0, 1, 70_001)]),
    Case("weighted_bce_with_logits", ts.weighted_bce_with_logits, weighted_bce_with_logits,
         [normal(3, 5, scale=3), uniform(0, 2, 3, 5), uniform(0, 2, 3, 5)],
         scale=1e-3, large=[normal(70_001, scale=3), uniform(0, 2, 70_001), uniform(0, 2, 70_001)]),
    case("mean", {}),
    case("sum", {"reduction": "sum"}),
    case("none", {"reduction": "none"}),
    case("smoothing", {"smoothing": 0.2}),
    case("ignore", {"ignore": 3, "reduction": "sum"}),
    case("weight", {"smoothing": 0.1}, weighted=True),
]  # fmt: skip
