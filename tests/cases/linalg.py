"""Linear algebra on small, well-conditioned matrices: values, gradients, layouts, bits. Residuals of larger ones stand
in test_linalg.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, Make, normal
from tensorsmith import linalg


def near_identity(*shape: int) -> Make:
    """4 on the diagonal, uniform in +-1 beside it: far from singular."""
    return lambda rng: rng.uniform(-1, 1, shape) + 4 * np.eye(*shape[-2:])


def symmetrised(f: Callable[..., Any], t: Callable[[Any], Any]) -> Callable[..., Any]:
    """f(a + a'): whatever its input, of a symmetric matrix."""
    return lambda a, *rest: f(a + t(a), *rest)


def spread(n: int) -> Make:
    """A matrix whose a + a' has eigenvalues about 2 apart."""
    return lambda rng: rng.uniform(-0.2, 0.2, (n, n)) + np.diag(np.arange(1.0, n + 1))


def t(a: np.ndarray) -> np.ndarray:
    return a.swapaxes(-1, -2)


def case(name: str, op: Any, reference: Any, inputs: list[Make], **options: Any) -> Case:
    return Case(f"linalg {name}", op, reference, inputs, **({"tolerance": 64, "scale": 4.0} | options))  # type: ignore[arg-type]


def expm_reference(a: np.ndarray) -> np.ndarray:
    total, term = np.eye(a.shape[-1]), np.eye(a.shape[-1])
    for k in range(1, 60):
        term = term @ a / k
        total = total + term
    return total


T = ts.matrix_transpose
CASES = [
    case("cholesky", symmetrised(linalg.cholesky, T), symmetrised(np.linalg.cholesky, t), [near_identity(2, 3, 3)], large=[lambda rng: rng.uniform(-1, 1, (150, 150)) + 150 * np.eye(150)]),
    case("solve", linalg.solve, np.linalg.solve, [near_identity(3, 3), normal(3, 2)], large=[near_identity(150, 150), normal(150, 140)]),
    case("solve vector", linalg.solve, np.linalg.solve, [near_identity(4, 4), normal(4)]),
    case("solve batch", linalg.solve, np.linalg.solve, [near_identity(2, 1, 2, 2), normal(3, 2, 2)]),
    case("solve_triangular", lambda a, b: linalg.solve_triangular(a, b), lambda a, b: np.linalg.solve(np.tril(a), b), [near_identity(3, 3), normal(3, 2)]),
    case("solve_triangular upper", lambda a, b: linalg.solve_triangular(a, b, upper=True), lambda a, b: np.linalg.solve(np.triu(a), b), [near_identity(3, 3), normal(3, 2)], large=[near_identity(150, 150), normal(150, 140)]),
    case("inv", linalg.inv, np.linalg.inv, [near_identity(2, 3, 3)]),
    case("det", linalg.det, np.linalg.det, [near_identity(2, 3, 3)], scale=100.0),
    case("slogdet", lambda a: linalg.slogdet(a)[1], lambda a: np.linalg.slogdet(a)[1], [near_identity(3, 3)]),
    case("qr", lambda a: [x * x for x in linalg.qr(a)], lambda a: [x * x for x in np.linalg.qr(a)], [near_identity(4, 3)], scale=40.0, large=[near_identity(150, 140)]),
    case("eigh", lambda a: (lambda w, v: (w, v * v))(*linalg.eigh(a + T(a))), lambda a: (lambda w, v: (w, v * v))(*np.linalg.eigh(a + t(a))), [spread(3)], scale=16.0, large=[lambda rng: rng.standard_normal((60, 60)) + 100 * np.diag(np.arange(60.0))]),
    case("svdvals", lambda a: linalg.svd(a, full_matrices=False)[1], lambda a: np.linalg.svd(a)[1], [near_identity(4, 3)], scale=16.0, large=[lambda rng: rng.standard_normal((70, 60))]),
    case("svd vectors", lambda a: (lambda u, s, vh: (u * u, vh * vh))(*linalg.svd(a, full_matrices=False)), lambda a: (lambda u, s, vh: (u * u, vh * vh))(*np.linalg.svd(a, full_matrices=False)), [spread(3)], scale=16.0),
    case("pinv", linalg.pinv, np.linalg.pinv, [near_identity(3, 4)], scale=16.0),
    case("lstsq", lambda a, b: linalg.lstsq(a, b).x, lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0], [near_identity(4, 3), normal(4, 2)], scale=16.0),
    case("expm", linalg.expm, expm_reference, [normal(3, 3)], scale=100.0),
    case("matrix_power", lambda a: linalg.matrix_power(a, -3), lambda a: np.linalg.matrix_power(a, -3), [near_identity(3, 3)]),
]  # fmt: skip
