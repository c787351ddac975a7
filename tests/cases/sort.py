"""Orders, places and counts."""

from __future__ import annotations

import numpy as np

import tensorsmith as ts
from cases import Case, apart, bools, integers, normal, off_zero
from tensorsmith._core import ops as core


def descending(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.flip(np.sort(x, axis), axis)


def stable_descending(x: np.ndarray) -> np.ndarray:
    return np.argsort(-x.astype("float64"), -1, kind="stable")


def top(x: np.ndarray, k: int, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    index = np.take(np.argsort(-x.astype("float64"), axis, kind="stable"), range(k), axis)
    return np.take_along_axis(x, index, axis), index


def last_places(x: np.ndarray, axis: int, accumulate: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    y = accumulate.accumulate(x, axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    at = np.where(x == y, np.arange(x.shape[axis]).reshape(shape), -1)
    return y, np.maximum.accumulate(at, axis)


LENGTHS = (1, 2, 31, 700, 3001)
FEW = integers(0, 7, 6, 700)
EVERY = ("int64", "int32", "uint8")

CASES = [
    *(Case(f"sort {a}", lambda x, a=a: ts.sort(x, a), lambda x, a=a: np.sort(x, a), [apart(2, 3, 4)], exact=True, large=[normal(40, 33, 129)]) for a in (0, 1, -1)),
    Case("sort flat", lambda x: ts.sort(x, None), lambda x: np.sort(x, None), [apart(3, 5)], exact=True, large=[normal(200_000)]),
    Case("sort descending", lambda x: ts.sort(x, descending=True), descending, [apart(3, 5)], exact=True, large=[normal(3, 150_000)]),
    Case("sort empty", ts.sort, np.sort, [normal(3, 0)], exact=True),
    *(Case(f"sort of {n}", ts.sort, np.sort, [normal(2, n)], exact=True, gradient=False) for n in LENGTHS),
    *(Case(f"sort {d}", ts.sort, np.sort, [integers(0, 200, 5, 700, dtype=d)], gradient=False, large=[integers(0, 250, 300_000, dtype=d)]) for d in EVERY),
    Case("sort bool", ts.sort, np.sort, [bools(5, 70)], gradient=False),
    *(Case(f"argsort of {n}", ts.argsort, lambda x: np.argsort(x, kind="stable"), [integers(0, max(2, n // 5), 3, n)], gradient=False) for n in LENGTHS),
    *(Case(f"argsort {d}", ts.argsort, lambda x: np.argsort(x, kind="stable"), [integers(0, 200, 5, 700, dtype=d)], gradient=False, large=[integers(0, 250, 300_000, dtype=d)]) for d in EVERY),
    Case("argsort floats", ts.argsort, lambda x: np.argsort(x, kind="stable"), [normal(3, 1000)], gradient=False, large=[normal(200_000)]),
    Case("argsort descending", lambda x: ts.argsort(x, descending=True), stable_descending, [FEW], gradient=False),
    *(Case(f"order_statistics of {n}", lambda x, n=n: core.order_statistics(x, ts.asarray([0, n // 3, n // 2, n - 1])), lambda x, n=n: np.sort(x, -1)[..., [0, n // 3, n // 2, n - 1]], [normal(3, n)], exact=True, gradient=n == 31) for n in (31, 700, 3001)),
    Case("order_statistics few", lambda x: core.order_statistics(x, ts.asarray([299, 300])), lambda x: np.sort(x, -1)[..., [299, 300]], [lambda rng: np.round(rng.standard_normal((3, 600)))], gradient=False, large=[lambda rng: np.round(9 * rng.standard_normal((2, 140_000)))]),
    Case("quantile", lambda x: ts.quantile(x, ts.asarray([0.1, 0.5], "float64"), 0), lambda x: np.quantile(x, [0.1, 0.5], 0), [apart(5, 8)]),
    Case("allclose", lambda x, y: core.all_close(x, x + y, 0.0, 2.0, False), lambda x, y: np.asarray(np.abs(y).max() <= 2), [normal(5, 70), normal(5, 70)], gradient=False),
    Case("topk", lambda x: ts.topk(x, 3), lambda x: top(x, 3), [apart(4, 9)], exact=True, large=[normal(2, 140_000)]),
    Case("topk smallest", lambda x: ts.topk(x, 2, 0, False), lambda x: tuple(-y if y.dtype == float else y for y in top(-x, 2, 0)), [apart(4, 9)], exact=True),
    Case("topk many", lambda x: ts.topk(x, 600), lambda x: top(x, 600), [FEW], gradient=False),
    Case("cummax", lambda x: ts.cummax(x, 1), lambda x: last_places(x, 1, np.maximum), [apart(5, 8)], exact=True, large=[normal(70, 3000)]),
    Case("cummin", lambda x: ts.cummin(x, 0), lambda x: last_places(x, 0, np.minimum), [apart(5, 8)], exact=True),
    Case("cummax int64", lambda x: ts.cummax(x, 1), lambda x: last_places(x, 1, np.maximum), [integers(0, 5, 4, 9)], gradient=False),
    Case("cumprod", lambda x: ts.cumprod(x, axis=1), lambda x: np.cumprod(x, 1), [off_zero(3, 5)], scale=1.0, large=[off_zero(64, 1000)]),
    Case("cumprod zeros", lambda x: ts.cumprod(x, axis=1), lambda x: np.cumprod(x, 1), [lambda rng: rng.standard_normal((4, 5)) * ([[1] * 5, [1, 0, 1, 1, 1], [0, 1, 1, 0, 1], [1, 1, 1, 1, 0]])], scale=1.0, second=False),
    Case("cumprod int64", lambda x: ts.cumprod(x, axis=0), lambda x: np.cumprod(x, 0), [integers(-3, 4, 6, 2)], gradient=False),
    Case("cumulative_prod initial", lambda x: ts.cumulative_prod(x, axis=0, include_initial=True), lambda x: np.vstack([np.ones((1, 2)), np.cumprod(x, 0)]), [off_zero(3, 2)], scale=1.0),
    *(
        Case(f"vector_norm {o} {a}", lambda x, o=o, a=a: ts.vector_norm(x, axis=a, ord=o), lambda x, o=o, a=a: np.linalg.vector_norm(x, axis=a, ord=o), [apart(2, 3, 4)], tolerance=8, scale=4.0, large=[normal(40, 33, 129)])
        for o in (1, 2, 3, np.inf, -np.inf)
        for a in (None, -1, (0, 2))
    ),
    *(Case(f"searchsorted {side}", lambda s, x, side=side: ts.searchsorted(s, x, side=side), lambda s, x, side=side: np.searchsorted(s, x, side), [lambda rng: np.sort(rng.integers(0, 30, 40)), integers(-2, 33, 5, 17)], gradient=False) for side in ("left", "right")),
    Case("searchsorted rows", ts.searchsorted, lambda s, x: np.stack([np.searchsorted(a, b) for a, b in zip(s, x)]), [lambda rng: np.sort(rng.standard_normal((3, 50))), normal(3, 20)], gradient=False),
    Case("bincount", ts.bincount, np.bincount, [integers(0, 30, 300)], gradient=False, large=[integers(0, 30, 500_000)]),
    Case("bincount weights", ts.bincount, np.bincount, [integers(0, 5, 30), normal(30)], scale=20.0),
    Case("histogram", lambda x: ts.histogram(x, 13, (-2.0, 2.0)), lambda x: np.histogram(x, 13, (-2.0, 2.0)), [normal(500)], scale=1.0, gradient=False, large=[normal(500_000)]),
    Case("histogram edges", lambda x: ts.histogram(x, [-1.0, 0.0, 0.25, 3.0])[0], lambda x: np.histogram(x, [-1.0, 0.0, 0.25, 3.0])[0], [normal(500)], gradient=False),
    Case("histogram weights", lambda x, w: ts.histogram(x, 4, (-2.0, 2.0), weights=w)[0], lambda x, w: np.histogram(x, 4, (-2.0, 2.0), weights=w)[0], [normal(50), normal(50)], scale=20.0, gradient=False),
    Case("unique", lambda x: ts.unique(x, True, True, True), lambda x: np.unique(x, True, True, True), [integers(0, 30, 10, 20)], gradient=False, large=[integers(0, 3000, 300_000)]),
    Case("unique_counts", lambda x: tuple(ts.unique_counts(x)), lambda x: np.unique(x, return_counts=True), [integers(0, 9, 40)], gradient=False),
    Case("unique_values", ts.unique_values, np.unique, [integers(0, 9, 4, 5)], gradient=False),
]  # fmt: skip
