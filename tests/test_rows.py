"""A row's bits do not depend on the rows beside it: alone, among a few, among enough for several pieces of work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

F = ts.nn.functional
ROWS = 300  # of 130 columns: more than two pieces of 16,384 elements


def reduction(name: str) -> Callable[[Any, Any], Any]:
    return lambda x, t: getattr(ts, name)(x, axis=-1)


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": lambda x, t: F.softmax(x, -1),
    "log_softmax": lambda x, t: F.log_softmax(x, -1),
    "cross_entropy": lambda x, t: F.cross_entropy(x, t, reduction="none", label_smoothing=0.1),
    "layer_norm": lambda x, t: F.layer_norm(x, (x.shape[-1],)),
    "rms_norm": lambda x, t: F.rms_norm(x, (x.shape[-1],)),
    **{
        name: reduction(name)
        for name in ("sum", "prod", "mean", "var", "max", "min", "argmax", "argmin", "logsumexp")
    },
    "norm": lambda x, t: ts.linalg.vector_norm(x, axis=-1),
    "any": lambda x, t: ts.any(x > 2, axis=-1),
    "cumsum": lambda x, t: ts.cumsum(x, axis=-1),
    "cumprod": lambda x, t: ts.cumprod(x, axis=-1),
    "sort": lambda x, t: ts.sort(x, axis=-1),
    "argsort": lambda x, t: ts.argsort(x, axis=-1),
    "topk": lambda x, t: ts.topk(x, 5)[0],
}


def with_gradient(function: Callable[[Any, Any], Any], x: np.ndarray, t: np.ndarray) -> list[np.ndarray]:
    leaf = ts.array(x).requires_grad_()
    y = function(leaf, ts.array(t))
    if not y.requires_grad:
        return [y.numpy()]
    weights = np.linspace(0.5, 1.5, max(1, y[0].size)).reshape(y[0].shape)  # the same for every row
    y.backward(ts.array(np.broadcast_to(weights, y.shape).copy(), dtype=y.dtype))
    return [y.detach().numpy(), leaf.grad.numpy()]


@pytest.mark.parametrize("columns", [1, 7, 130, 4097])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_row_alone_has_the_bits_of_the_batch(name: str, dtype: str, columns: int) -> None:
    if name == "topk" and columns < 5:
        pytest.skip("fewer than k")
    rows = ROWS if columns < 4097 else 12
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((rows, columns)).astype(dtype)
    t = rng.integers(0, columns, rows)
    whole = with_gradient(FUNCTIONS[name], x, t)
    for first, last in ((0, 1), (5, 6), (3, 8), (rows - 1, rows), (rows // 2, rows)):
        for part, full in zip(
            with_gradient(FUNCTIONS[name], x[first:last], t[first:last]), whole, strict=True
        ):
            np.testing.assert_array_equal(part, full[first:last], err_msg=f"{name}: rows {first} to {last}")
