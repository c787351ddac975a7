"""Matrix products: every transposition, batches, vectors, K across the blocks of the kernel."""

from __future__ import annotations

import numpy as np

import tensorsmith as ts
from cases import Case, Make, integers, normal
from tensorsmith._core import ops as core


def product(name: str, a: tuple[int, ...], b: tuple[int, ...], **options: object) -> Case:
    return Case(
        f"matmul {name}", ts.matmul, np.matmul, [normal(*a), normal(*b)], tolerance=8, scale=4.0, **options
    )  # type: ignore[arg-type]


def wide(name: str, m: int, k: int, n: int) -> Case:
    """Too big for numerical gradients: values and bits only. The reference rounds in float64 as well, in an order of its
    own, so the bound has room for both: it is a tenth of 2 sqrt(K) eps of the absolute sum for K = 3001."""
    return Case(
        f"matmul {name}",
        ts.matmul,
        np.matmul,
        [normal(m, k), normal(k, n)],
        gradient=False,
        scale=64.0 * float(np.sqrt(k)),
    )


def small(*shape: int) -> Make:
    """Integers whose products and sums are exact in any precision and order."""
    return lambda rng: rng.integers(-3, 4, shape).astype(float)


CASES = [
    product("2x2", (3, 4), (4, 2), large=[normal(201, 330), normal(330, 65)]),
    product("TN", (3, 4), (4, 5)),
    Case("matmul transposed", lambda a, b: a.T @ b.T, lambda a, b: a.T @ b.T, [normal(4, 3), normal(2, 4)], tolerance=8, scale=4.0),
    product("vector matrix", (4,), (4, 3)),
    product("matrix vector", (3, 4), (4,)),
    product("vectors", (4,), (4,), large=[normal(300_000), normal(300_000)]),
    product("many rows and a vector", (7, 70), (70,), large=[normal(900, 301), normal(301)]),
    product("a vector and many columns", (70,), (70, 7), large=[normal(301), normal(301, 900)]),
    product("batch and a vector", (2, 3, 5), (5,)),
    product("vector and a batch", (4,), (2, 4, 3)),
    Case("vecdot", ts.vecdot, lambda a, b: (a * b).sum(-1), [normal(3, 1, 20), normal(2, 20)], tolerance=8, scale=4.0),
    Case("vecdot axis", lambda a, b: ts.vecdot(a, b, axis=-2), lambda a, b: (a * b).sum(-2), [normal(3, 20, 2), normal(3, 20, 2)], tolerance=8, scale=4.0, large=[normal(30, 90, 70), normal(30, 90, 70)]),
    Case("einsum ij,ij->i", lambda a, b: ts.einsum("ij,ij->i", a, b), lambda a, b: (a * b).sum(-1), [normal(3, 20), normal(3, 20)], tolerance=8, scale=4.0),
    Case("einsum ij,ji->", lambda a, b: ts.einsum("ij,ji->", a, b), lambda a, b: (a * b.T).sum(), [normal(3, 4), normal(4, 3)], tolerance=8, scale=4.0),
    Case("einsum ij,j->i", lambda a, b: ts.einsum("ij,j->i", a, b), lambda a, b: a @ b, [normal(3, 4), normal(4)], tolerance=8, scale=4.0),
    Case("einsum k,kj->j", lambda a, b: ts.einsum("k,kj->j", a, b), lambda a, b: a @ b, [normal(3), normal(3, 4)], tolerance=8, scale=4.0),
    Case("tensordot 2", lambda a, b: ts.tensordot(a, b, 2), lambda a, b: np.tensordot(a, b, 2), [normal(3, 4), normal(3, 4)], tolerance=8, scale=4.0),
    product("batch", (2, 2, 3), (2, 3, 2)),
    product("batch broadcast", (2, 1, 2, 3), (3, 3, 1)),
    product("shared right", (2, 3, 2), (2, 2)),
    product("empty", (0, 3), (3, 2)),
    product("no inner", (2, 0), (0, 3), exact=True),
    wide("one row", 1, 700, 33),
    wide("one column", 33, 700, 1),
    wide("long K", 5, 3001, 7),
    wide("odd", 37, 129, 65),
    wide("tall", 301, 9, 5),
    Case("matmul int64", ts.matmul, np.matmul, [integers(-9, 9, 3, 4), integers(-9, 9, 4, 2)], gradient=False),
    Case("linear", ts.linear, lambda x, w, b: x @ w.T + b, [normal(3, 4), normal(2, 4), normal(2)], tolerance=8, scale=4.0, large=[normal(300, 200), normal(130, 200), normal(130)]),
    Case("linear no bias", ts.linear, lambda x, w: x @ w.T, [normal(2, 2, 3), normal(2, 3)], tolerance=8, scale=4.0),
    Case("linear_relu", ts.linear_relu, lambda x, w, b: np.maximum(x @ w.T + b, 0), [normal(3, 4), normal(2, 4), normal(2)], tolerance=8, scale=4.0),
    Case("matmul_bf16", lambda a, b: core.matmul_bf16(a, b, "float32"), np.matmul, [small(5, 70), small(70, 33)], dtypes=("float32",), gradient=False, exact=True, large=[small(301, 330), small(330, 165)]),
    Case("linear_bf16", lambda x, w, b: core.linear_bf16(x, w, b).astype("float32"), lambda x, w, b: x @ w.T + b, [small(2, 3, 9), small(4, 9), small(4)], dtypes=("float32",), gradient=False, exact=True),
]  # fmt: skip
