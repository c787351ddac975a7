"""Layer and batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, normal, uniform

EPS = 1e-5


def normalise(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS)


def train(x: Any, w: Any, b: Any) -> Any:
    return ts.batch_norm(x, None, None, w, b, True, 0.1, EPS)


def evaluate(x: Any, w: Any, b: Any) -> Any:
    mean, var = ts.array([0.5, -0.25], dtype=x.dtype), ts.array([2.0, 0.5], dtype=x.dtype)
    return ts.batch_norm(x, mean, var, w, b, False, 0.1, EPS)


def evaluate_reference(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    mean, var = np.array([0.5, -0.25])[:, None, None], np.array([2.0, 0.5])[:, None, None]
    return (x - mean) / np.sqrt(var + EPS) * w[:, None, None] + b[:, None, None]


CASES = [
    Case(
        "layer_norm",
        lambda x, w, b: ts.layer_norm(x, 4, w, b, EPS),
        lambda x, w, b: normalise(x, (-1,)) * w + b,
        [normal(3, 4), uniform(0.5, 2, 4), normal(4)],
        tolerance=32,
        scale=4.0,
        large=[normal(500, 130), uniform(0.5, 2, 130), normal(130)],
    ),
    Case(
        "layer_norm plain",
        lambda x: ts.layer_norm(x, (3, 2), None, None, EPS),
        lambda x: normalise(x, (-2, -1)),
        [normal(2, 3, 2)],
        tolerance=32,
        scale=4.0,
    ),
    Case(
        "batch_norm",
        train,
        lambda x, w, b: normalise(x, (0, 2, 3)) * w[:, None, None] + b[:, None, None],
        [normal(3, 2, 2, 2), uniform(0.5, 2, 2), normal(2)],
        tolerance=32,
        scale=4.0,
        large=[normal(40, 2, 33, 17), uniform(0.5, 2, 2), normal(2)],
    ),
    Case(
        "batch_norm_relu",
        lambda x, w, b: ts.batch_norm_relu(x, None, None, w, b, True, 0.1, EPS),
        lambda x, w, b: np.maximum(normalise(x, (0, 2, 3)) * w[:, None, None] + b[:, None, None], 0),
        [normal(3, 2, 2, 2), uniform(0.5, 2, 2), normal(2)],
        tolerance=32,
        scale=4.0,
        large=[normal(40, 2, 33, 17), uniform(0.5, 2, 2), normal(2)],
    ),
    Case(
        "batch_norm inference",
        evaluate,
        evaluate_reference,
        [normal(2, 2, 2, 2), uniform(0.5, 2, 2), normal(2)],
        tolerance=32,
        scale=4.0,
    ),
    Case(
        "rms_norm",
        lambda x, w: ts.rms_norm(x, x.shape[-1], w, EPS),
        lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * w,
        [normal(3, 4), uniform(0.5, 2, 4)],
        tolerance=32,
        scale=4.0,
        large=[normal(500, 130), uniform(0.5, 2, 130)],
    ),
    Case(
        "group_norm",
        lambda x, w, b: ts.group_norm(x, 2, w, b, EPS),
        lambda x, w, b: (
            normalise(x.reshape(3, 2, -1), (2,)).reshape(x.shape) * w[:, None, None] + b[:, None, None]
        ),
        [normal(3, 4, 2, 2), uniform(0.5, 2, 4), normal(4)],
        tolerance=32,
        scale=4.0,
        large=[normal(3, 4, 33, 67), uniform(0.5, 2, 4), normal(4)],
    ),
    Case(
        "instance_norm",
        lambda x: ts.instance_norm(x, eps=EPS),
        lambda x: normalise(x, (2, 3)),
        [normal(3, 2, 3, 2)],
        tolerance=32,
        scale=4.0,
    ),
]
# The layer norm of `large` has its own width.
CASES[0] = Case(
    **{**CASES[0].__dict__, "op": lambda x, w, b: ts.layer_norm(x, x.shape[-1], w, b, EPS)},
)
