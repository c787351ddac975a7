"""Factorisations by LAPACK's measure: residuals and orthogonality in units of N eps |A|; edges and errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import linalg

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
SIZES = (1, 2, 5, 31, 64, 65, 130, 257)
BOUND = 30  # LAPACK's own tests take this


def matrices(n: int, dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    graded = rng.standard_normal((n, n)) * 10.0 ** np.linspace(0, -8, n)[:, None]
    low_rank = rng.standard_normal((n, (n + 1) // 2)) @ rng.standard_normal(((n + 1) // 2, n))
    all_of_them = {
        "normal": rng.standard_normal((n, n)),
        "graded": graded,
        "low rank": low_rank,
        "identity": np.eye(n),
        "zero": np.zeros((n, n)),
        "large": rng.standard_normal((n, n)) * (1e30 if dtype == "float32" else 1e250),
        "small": rng.standard_normal((n, n)) * (1e-30 if dtype == "float32" else 1e-250),
    }
    return {k: v.astype(dtype) for k, v in all_of_them.items()}


def residual(left: np.ndarray, a: np.ndarray) -> float:
    """|left - a| / (N eps |a|), in the 1-norm, computed in float64 of matrices scaled to 1."""
    scale = float(np.abs(a).max()) or 1.0
    a64 = a.astype(np.float64) / scale
    difference = np.abs(left / scale - a64).sum(0).max(initial=0)
    return float(difference / (max(a.shape) * EPS[str(a.dtype)] * max(np.abs(a64).sum(0).max(), 1e-300)))


def orthogonality(q: np.ndarray) -> float:
    q64 = q.astype(np.float64)
    return float(
        np.abs(q64.T @ q64 - np.eye(q.shape[1])).sum(0).max(initial=0) / (max(q.shape) * EPS[str(q.dtype)])
    )


def values(*tensors: Any) -> list[np.ndarray]:
    return [x.numpy().astype(np.float64) for x in tensors]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("n", SIZES)
def test_residuals(n: int, dtype: str) -> None:
    for name, a in matrices(n, dtype).items():
        x = ts.asarray(a)
        p, l, u = values(*linalg.lu(x))
        assert residual(p @ (l @ u), a) < BOUND, name
        assert np.abs(l).max() <= 1, name
        q, r = linalg.qr(x)
        assert residual(values(q)[0] @ values(r)[0], a) < BOUND, name
        assert orthogonality(q.numpy()) < BOUND, name
        assert not np.tril(r.numpy(), -1).any(), name
        symmetric = np.tril(a) + np.tril(a, -1).T
        w, v = linalg.eigh(x)
        v64 = values(v)[0]
        assert residual(v64 * values(w)[0] @ v64.T, symmetric) < BOUND, name
        assert orthogonality(v.numpy()) < BOUND, name
        assert (np.diff(w.numpy()) >= 0).all(), name
        np.testing.assert_allclose(
            linalg.eigvalsh(x).numpy(),
            w.numpy(),
            rtol=0,
            atol=40 * EPS[dtype] * float(np.abs(w.numpy()).max()),
        )
        u, s, vh = linalg.svd(x)
        assert residual(values(u)[0] * values(s)[0] @ values(vh)[0], a) < BOUND, name
        assert orthogonality(u.numpy()) < BOUND and orthogonality(vh.numpy().T) < BOUND, name
        assert (np.diff(s.numpy()) <= 0).all() and (s.numpy() >= 0).all(), name


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("n", SIZES)
def test_solving(n: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n)).astype(dtype)
    spd = (a @ a.T + n * np.eye(n)).astype(dtype)
    l = values(linalg.cholesky(ts.asarray(spd)))[0]
    assert residual(l @ l.T, spd) < BOUND
    assert not np.triu(l, 1).any()
    b = rng.standard_normal((n, 150)).astype(dtype)
    x = values(linalg.solve(ts.asarray(a), ts.asarray(b)))[0]
    norms = np.abs(a).sum(0).max() * np.abs(x).sum(0).max()
    assert np.abs(a @ x - b).sum(0).max() / (norms * n * EPS[dtype]) < BOUND
    for upper in (False, True):
        triangle = np.triu(spd) if upper else np.tril(spd)
        y = values(linalg.solve_triangular(ts.asarray(spd), ts.asarray(b), upper=upper))[0]
        assert (
            np.abs(triangle @ y - b).max()
            / (np.abs(triangle).sum(0).max() * np.abs(y).max() * n * EPS[dtype])
            < BOUND
        )
    np.testing.assert_array_equal(
        linalg.solve(ts.asarray(a), ts.asarray(b[:, 0])).numpy().astype(np.float64), x[:, 0]
    )


@pytest.mark.parametrize(("m", "n"), [(200, 70), (70, 200), (33, 1), (1, 33), (129, 128), (3, 0), (0, 3)])
def test_rectangles(m: int, n: int) -> None:
    a = np.random.default_rng(0).standard_normal((2, m, n))
    x = ts.asarray(a)
    for mode in ("reduced", "complete"):
        q, r = (y.numpy() for y in linalg.qr(x, mode=mode))
        expected_q, expected_r = np.linalg.qr(a, mode=mode)
        assert q.shape == expected_q.shape and r.shape == expected_r.shape
        np.testing.assert_allclose(q @ r, a, rtol=0, atol=1e-13)
        np.testing.assert_allclose(
            q.swapaxes(1, 2) @ q, np.broadcast_to(np.eye(q.shape[2]), (2, *q.shape[2:] * 2)), atol=1e-13
        )
    for full in (True, False):
        u, s, vh = (y.numpy() for y in linalg.svd(x, full_matrices=full))
        expected = np.linalg.svd(a, full_matrices=full)
        assert [y.shape for y in (u, s, vh)] == [y.shape for y in expected]
        np.testing.assert_allclose(s, expected[1], atol=1e-12)
        k = min(m, n)
        np.testing.assert_allclose(u[..., :k] * s[:, None] @ vh[:, :k], a, atol=1e-12)
        np.testing.assert_allclose(
            u.swapaxes(1, 2) @ u, np.broadcast_to(np.eye(u.shape[2]), (2, *u.shape[2:] * 2)), atol=1e-13
        )
    p, l, u = (y.numpy() for y in linalg.lu(x))
    np.testing.assert_allclose(p @ l @ u, a, atol=1e-13)
    np.testing.assert_allclose(linalg.pinv(x).numpy(), np.linalg.pinv(a), atol=1e-12)
    np.testing.assert_array_equal(linalg.matrix_rank(x).numpy(), [min(m, n)] * 2)


def test_derived() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 6))
    x = ts.asarray(a)
    sign, log = linalg.slogdet(x)
    np.testing.assert_allclose([float(sign), float(log)], np.linalg.slogdet(a), rtol=1e-13)
    np.testing.assert_allclose(float(linalg.det(x)), np.linalg.det(a), rtol=1e-12)
    singular = ts.asarray(np.ones((3, 3)))
    assert float(linalg.det(singular)) == 0
    assert [float(y) for y in linalg.slogdet(singular)] == [0, -np.inf]
    assert int(linalg.matrix_rank(singular)) == 1
    large = np.diag([3e200, 1e200, 2e200])
    np.testing.assert_allclose(
        [float(y) for y in linalg.slogdet(ts.asarray(large))], np.linalg.slogdet(large)
    )
    np.testing.assert_array_equal(linalg.matrix_power(x, 0).numpy(), np.eye(6))
    for scale in (1e-3, 1.0, 30.0):  # exp(a) exp(-a) = 1 for any norm
        b = scale * (a - a.T)
        product = linalg.expm(ts.asarray(b)).numpy() @ linalg.expm(ts.asarray(-b)).numpy()
        np.testing.assert_allclose(product, np.eye(6), rtol=0, atol=1e-12 * max(scale, 1))
    wide = rng.standard_normal((3, 6))
    wide[2] = wide[0] + wide[1]
    b = rng.standard_normal(3)
    np.testing.assert_allclose(
        linalg.lstsq(ts.asarray(wide), ts.asarray(b)).x.numpy(),
        np.linalg.lstsq(wide, b, rcond=None)[0],
        atol=1e-13,
    )


def test_bits_do_not_depend_on_the_batch() -> None:
    a = np.random.default_rng(0).standard_normal((5, 90, 90)).astype(np.float32)
    for f in (linalg.lu, linalg.qr, linalg.eigh, linalg.svd):
        full, one = f(ts.asarray(a)), f(ts.asarray(a[3].copy()))
        for x, y in zip(full, one):
            np.testing.assert_array_equal(x.numpy()[3], y.numpy())


def test_complex_cholesky_reads_the_real_parts_of_the_diagonal() -> None:
    a = np.array([[4 + 3j, 1 - 1j], [1 + 1j, 5 - 2j]])
    np.testing.assert_allclose(linalg.cholesky(ts.asarray(a)).numpy(), np.linalg.cholesky(a), atol=1e-15)


def test_errors() -> None:
    nan = ts.asarray(np.full((2, 2), np.nan))
    bad: list[tuple[Any, type[Exception], str]] = [
        (
            lambda: linalg.cholesky(ts.asarray(np.diag([1.0, 2.0, -1.0]))),
            ValueError,
            "leading minor of order 3",
        ),
        (lambda: linalg.cholesky(nan), ValueError, "not positive definite"),
        (lambda: linalg.solve(ts.zeros((2, 2)), ts.ones((2,))), ValueError, "solve: a matrix is singular"),
        (lambda: linalg.inv(ts.ones((2, 2, 2))), ValueError, "inv: a matrix is singular"),
        (lambda: linalg.inv(ts.ones((2, 3))), ValueError, r"inv: square matrices .* got shape \(2, 3\)"),
        (lambda: linalg.eigh(nan), ValueError, "eigh: matrix 0 of the batch holds inf or NaN"),
        (lambda: linalg.svd(nan), ValueError, "svd: matrix 0 of the batch holds inf or NaN"),
        (lambda: linalg.solve(ts.ones((2, 2)), ts.ones((3,))), ValueError, "solve: b must be a vector of N"),
        (
            lambda: linalg.qr(ts.ones((2, 2)), mode="raw"),
            ValueError,
            "mode must be 'reduced', 'complete' or 'r'",
        ),
        (
            lambda: linalg.lstsq(ts.ones((2, 2)), ts.ones((3,))),
            ValueError,
            "lstsq: a has 2 rows, but b of shape",
        ),
        (lambda: linalg.det(ts.ones((3,))), ValueError, "det: square matrices"),
    ]
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()
    assert linalg.inv(ts.zeros((0, 0))).shape == (0, 0)
    assert linalg.eigh(ts.zeros((4, 0, 0)))[0].shape == (4, 0)
    np.testing.assert_array_equal(linalg.inv(ts.asarray([[2, 0], [0, 4]])).numpy(), [[0.5, 0], [0, 0.25]])


@pytest.mark.parametrize("beside", [np.nan, np.inf, 1e300])
def test_eigh_reads_the_lower_triangle_alone(beside: float) -> None:
    rng = np.random.default_rng(0)
    for a in (rng.standard_normal((5, 5)), rng.standard_normal((5, 5)) + 1j * rng.standard_normal((5, 5))):
        w, _ = np.linalg.eigh(a)
        a[np.triu_indices(5, 1)] = beside
        np.testing.assert_allclose(linalg.eigh(ts.asarray(a))[0].numpy(), w, atol=1e-13)
        np.testing.assert_allclose(linalg.eigvalsh(ts.asarray(a)).numpy(), w, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e300])
def test_factorisations_at_the_ends_of_the_range(scale: float, dtype: str) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((4, 3)) * scale
    if dtype == "complex128":
        a = a + 1j * rng.standard_normal((4, 3)) * scale
    q, r = (x.numpy() for x in linalg.qr(ts.asarray(a)))
    close = {"rtol": 0, "atol": 1e-12 * np.abs(a).max()}
    np.testing.assert_allclose(q @ r, a, **close)
    np.testing.assert_allclose(np.conj(q.T) @ q, np.eye(3), atol=1e-13)
    u, s, vh = (x.numpy() for x in linalg.svd(ts.asarray(a), full_matrices=False))
    np.testing.assert_allclose((u * s) @ vh, a, **close)
    h = np.tril(a[:3], -1)
    h = h + np.conj(h.T)
    w, v = (x.numpy() for x in linalg.eigh(ts.asarray(h)))
    np.testing.assert_allclose((v * w) @ np.conj(v.T), h, **close)
    sign, size = linalg.slogdet(ts.asarray(a[:3]))
    expected = np.linalg.slogdet(a[:3] * 2.0**900 if scale < 1 else a[:3] * 2.0**-900)
    np.testing.assert_allclose(sign.numpy(), expected[0], atol=1e-11)
    np.testing.assert_allclose(
        size.numpy(), expected[1] - 2700 * np.log(2) * (1 if scale < 1 else -1), atol=1e-8
    )


def test_expm_of_a_matrix_does_not_depend_on_its_batch() -> None:
    rng = np.random.default_rng(2)
    a = np.stack(
        [np.eye(3), np.diag([-1e12, 0, 0]), np.full((3, 3), np.nan), rng.standard_normal((3, 3)) * 9]
    )
    full = linalg.expm(ts.asarray(a)).numpy()
    for one, y in zip(a, full):
        np.testing.assert_array_equal(linalg.expm(ts.asarray(one)).numpy(), y)
    np.testing.assert_allclose(full[0], np.eye(3) * np.e, rtol=1e-15)
    x = ts.asarray(a[[0, 1]]).requires_grad_()
    ts.sum(linalg.expm(x)).backward()
    np.testing.assert_allclose(x.grad.numpy()[0], np.full((3, 3), np.e), rtol=1e-14)


def test_determinants_leave_the_range_on_the_way() -> None:
    for turn in (1.0, 1j):
        d = np.array([1e70] * 5 + [2.0 * turn] + [1e-70] * 5)
        assert abs(linalg.det(ts.asarray(np.diag(d))).item() - 2 * turn) < 1e-12
    x = ts.asarray(np.diag([1e200, 1e200, 1e200, 1e-200, 1e-200, 1e-200])).requires_grad_()
    linalg.det(x).backward()
    np.testing.assert_allclose(np.diag(x.grad.numpy()), [1e-200] * 3 + [1e200] * 3, rtol=1e-12)


def test_condition_numbers_of_singular_matrices() -> None:
    a = np.array([[[1.0, 2], [2, 4]], [[0.0, 0], [0, 0]], [[2.0, 1], [0, 1]]])
    for p in (None, 1, -1, np.inf, "fro", "nuc"):
        y = linalg.cond(ts.asarray(a), p).numpy()
        np.testing.assert_array_equal(np.minimum(y, 1e15)[:2], [1e15] * 2)
        np.testing.assert_allclose(y[2], np.linalg.cond(a[2], p))
    with pytest.raises(ValueError, match=r"cond: .* empty matrices"):
        linalg.cond(ts.zeros((0, 0)))


def test_powers_of_integers() -> None:
    a = np.array([[1, 1], [1, 0]])
    y = linalg.matrix_power(ts.asarray(a), 80)
    assert y.dtype == "int64"
    np.testing.assert_array_equal(y.numpy(), np.linalg.matrix_power(a, 80))
    assert linalg.matrix_power(ts.asarray(a), 0).tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(linalg.matrix_power(ts.asarray(a), -2).numpy(), np.linalg.matrix_power(a, -2))
    with pytest.raises(TypeError):
        linalg.matrix_power(ts.asarray(a), 2.0)  # type: ignore[arg-type]


def test_norms_and_ranks_of_little() -> None:
    for order in (1, 2, np.inf, "fro", "nuc"):
        assert linalg.matrix_norm(ts.zeros((3, 2, 0)), ord=order).tolist() == [0, 0, 0]
    assert linalg.vector_norm(ts.zeros((2, 0)), ord=np.inf, axis=-1).tolist() == [0, 0]
    with pytest.raises(ValueError, match="no norm of order -inf"):
        linalg.vector_norm(ts.zeros((2, 0)), ord=-np.inf, axis=-1)
    assert [linalg.matrix_rank(ts.asarray(x)).item() for x in (0.0, 2.0, [0.0, 0.0], [0.0, 1.0])] == [
        0,
        1,
        0,
        1,
    ]


def test_lstsq_takes_cutoffs_and_dtypes_as_numpy() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((5, 2)), rng.standard_normal((5, 1))
    for rcond in (-1, 0, 1.5, 0.9):
        for mine, expected in zip(
            linalg.lstsq(ts.asarray(a), ts.asarray(b), rcond), np.linalg.lstsq(a, b, rcond)
        ):
            np.testing.assert_allclose(mine.numpy(), expected, atol=1e-13)
    x = linalg.lstsq(ts.asarray(a.astype("float32")), ts.asarray(b)).x
    np.testing.assert_allclose(x.numpy(), np.linalg.lstsq(a.astype("float32"), b, None)[0], atol=1e-13)


def test_singular_values_of_graded_complex_matrices() -> None:
    """Rows from 1e-15 to 1e15: reflections near the smallest numbers gave NaN, and the iteration no end."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        a = rng.standard_normal((3, 33, 33)) + 1j * rng.standard_normal((3, 33, 33))
        a = (a * 10.0 ** rng.uniform(-15, 15, (3, 33, 1))).astype(np.complex64)
        ours = ts.linalg.svdvals(ts.asarray(a)).numpy()
        wanted = np.linalg.svd(a.astype(np.complex128), compute_uv=False)
        assert (np.abs(ours - wanted) <= 1e-5 * wanted[:, :1]).all()


# Equal singular values, and some that are 0: those of a factorisation have no derivative there, these have one.
DEGENERATE = {
    "identity": np.eye(3),
    "orthonormal": np.eye(4, 2),
    "of rank 1": np.outer([1.0, 2, 3], [1.0, -1]),
    "twice 2 and 0": np.diag([2.0, 2, 0, 0]),
    "complex": np.outer([1, 2j, 3], [1, -1j]),
    "wide batch": np.stack([np.eye(2, 3), 2 * np.eye(2, 3)]),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_gradients_of_inverses_with_equal_singular_values(name: str) -> None:
    torch = pytest.importorskip("torch")
    a = DEGENERATE[name]
    rng = np.random.default_rng(0)
    b = rng.standard_normal((*a.shape[:-1], 2)).astype(a.dtype)

    def derivatives(lib: Any, pinv: Any, solve: Any, make: Any, gradients: Any) -> list[np.ndarray]:
        found = []
        for f in (pinv, solve):
            x, y = make(a), make(b)
            first = gradients(lib.sum(lib.abs(f(x, y) - 0.5) ** 2), (x, y))
            found += [g for g in first if g is not None]
            found += gradients(lib.sum(lib.abs(found[-1]) ** 2), (x,))
        return [g.detach().numpy() for g in found]

    ours = derivatives(
        ts,
        lambda x, _: linalg.pinv(x, rtol=1e-8),
        lambda x, y: linalg.lstsq(x, y, 1e-8).x,
        lambda x: ts.tensor(x).requires_grad_(),
        lambda y, xs: ts.autograd.gradients(y, xs, create_graph=True, allow_unused=True),
    )
    theirs = derivatives(
        torch,
        lambda x, _: torch.linalg.pinv(x, rtol=1e-8),
        lambda x, y: torch.linalg.pinv(x, rtol=1e-8) @ y,
        lambda x: torch.tensor(x, requires_grad=True),
        lambda y, xs: torch.autograd.grad(y, xs, create_graph=True, allow_unused=True),
    )
    assert len(ours) == len(theirs)
    for mine, expected in zip(ours, theirs):
        np.testing.assert_allclose(mine, expected, atol=1e-10)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_arguments_are_those_of_numpy(kind: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 3, 3)) + (1j * rng.standard_normal((2, 3, 3)) if kind == "complex" else 0)
    h = a + a.conj().swapaxes(1, 2)
    lower, x = np.tril(h), ts.asarray(a)
    for uplo in ("L", "U", "u"):
        np.testing.assert_allclose(linalg.eigh(x, uplo)[0].numpy(), np.linalg.eigh(a, uplo)[0], atol=1e-13)
        np.testing.assert_allclose(
            linalg.eigvalsh(x, UPLO=uplo).numpy(), np.linalg.eigvalsh(a, uplo), atol=1e-13
        )
    assert linalg.svd(x[..., :2], False)[0].shape == (2, 3, 2)
    np.testing.assert_allclose(
        linalg.svd(x, compute_uv=False).numpy(), np.linalg.svd(a, compute_uv=False), atol=1e-13
    )
    low = ts.asarray(lower)
    np.testing.assert_allclose(
        linalg.svd(low, hermitian=True)[1].numpy(), np.linalg.svd(lower, hermitian=True)[1], atol=1e-13
    )
    np.testing.assert_allclose(
        linalg.pinv(low, hermitian=True).numpy(), np.linalg.pinv(lower, hermitian=True), atol=1e-12
    )
    np.testing.assert_allclose(linalg.pinv(x, 0.5).numpy(), np.linalg.pinv(a, 0.5), atol=1e-12)
    np.testing.assert_array_equal(linalg.matrix_rank(x, 1.0).numpy(), np.linalg.matrix_rank(a, 1.0))
    np.testing.assert_array_equal(
        linalg.matrix_rank(x, ts.asarray([0.1, 9])).numpy(), np.linalg.matrix_rank(a, np.array([0.1, 9]))
    )
    assert linalg.matrix_rank(low, hermitian=True).tolist() == [3, 3]
    np.testing.assert_allclose(np.abs(linalg.qr(x, "r").numpy()), np.abs(np.linalg.qr(a, "r")), atol=1e-13)
    definite = a @ a.conj().swapaxes(1, 2) + np.eye(3)
    for upper in (False, True):
        triangle = np.triu(definite) if upper else np.tril(definite)
        np.testing.assert_allclose(
            linalg.cholesky(ts.asarray(triangle), upper=upper).numpy(),
            np.linalg.cholesky(definite, upper=upper),
            atol=1e-13,
        )
    for call, message in (
        (lambda: linalg.eigh(x, "x"), "eigh: UPLO must be 'L' or 'U', got 'x'"),
        (lambda: linalg.pinv(x, 0.1, rtol=0.1), "pinv: rcond and rtol"),
        (lambda: linalg.matrix_rank(x, 0.1, rtol=0.1), "matrix_rank: one of tol and rtol"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_norms_of_complex_numbers_have_second_derivatives_at_zero() -> None:
    a = np.array([[3 + 4j, 0], [0, 1j]])
    x = ts.tensor(a).requires_grad_()
    (g,) = ts.autograd.gradients(linalg.norm(x), [x], create_graph=True)
    (h,) = ts.autograd.gradients(ts.sum(ts.real(g)), [x])
    size = np.linalg.norm(a)
    np.testing.assert_allclose(h.numpy(), np.ones((2, 2)) / size - a * a.real.sum() / size**3, atol=1e-14)
    for axis, keepdims in ((None, True), (0, False), ((0, 1), True), (-1, True)):
        np.testing.assert_allclose(
            linalg.vector_norm(ts.asarray(a), axis=axis, keepdims=keepdims).numpy(),
            np.linalg.vector_norm(a, axis=axis, keepdims=keepdims),
        )
    assert float(linalg.matrix_norm(ts.asarray(a), ord=None)) == float(linalg.norm(ts.asarray(a)))


def test_axes_of_operands_of_different_ranks() -> None:
    a, b = np.arange(15.0).reshape(3, 5), np.array([1.0, -2, 3])
    x, y = ts.asarray(a), ts.asarray(b)
    np.testing.assert_array_equal(linalg.cross(x, y, axis=0).numpy(), np.linalg.cross(a, b, axis=0))
    np.testing.assert_array_equal(ts.vecdot(x, y, axis=0).numpy(), np.vecdot(a, b, axis=0))
    identity = linalg.matrix_power(ts.ones((2, 2, 2)), 0)
    identity[0, 0, 0] = 5
    assert identity.tolist() == [[[5, 0], [0, 1]], [[1, 0], [0, 1]]]


def test_arguments_that_are_no_numbers() -> None:
    x = ts.ones((4, 4))
    bad: list[tuple[Any, type[Exception], str]] = [
        (lambda: linalg.tensorinv(x, 1.5), TypeError, "tensorinv: ind must be an integer, got 1.5"),
        (lambda: linalg.matrix_power(x, "2"), TypeError, "matrix_power: n must be an integer, got '2'"),
        (lambda: linalg.norm(x[0], "fro"), ValueError, "vector_norm: ord must be a number, got 'fro'"),
        (lambda: linalg.vector_norm(x, ord="inf"), ValueError, "vector_norm: ord must be a number"),
        (
            lambda: linalg.norm(x, axis=1.5),
            TypeError,
            "norm: axis must be an integer or two of them, got 1.5",
        ),
        (lambda: linalg.lstsq(x, x, "small"), TypeError, "lstsq: rcond must be a number or None"),
        (lambda: linalg.multi_dot(3), TypeError, "multi_dot: a sequence of arrays is needed, got int"),
        (lambda: linalg.multi_dot([x, x[None], x]), ValueError, "multi_dot: matrices are needed"),
        (lambda: linalg.trace(x, offset=0.5), TypeError, "diagonal: offset must be an integer, got 0.5"),
        (lambda: ts.tensordot(x, x, 1.5), TypeError, "tensordot: axes must be a number or"),
        (lambda: ts.tensordot(x, x, ((0,),)), ValueError, "tensordot: axes must be a number or"),
        (lambda: ts.polyfit(x[0], x[0], 1.5), TypeError, "polyfit: deg must be an integer, got 1.5"),
        (lambda: ts.polyder(x[0], 1.5), TypeError, "polyder: m must be an integer"),
        (lambda: ts.polyint(x[0], "1"), TypeError, "polyint: m must be an integer"),
        (lambda: linalg.inv(ts.astype(x, "float16")), TypeError, "inv: a is float16; float32, float64,"),
        (lambda: linalg.solve(ts.astype(x, "float16"), x[0].astype("bfloat16")[:0]), ValueError, "solve: b"),
    ]
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()


def test_the_determinant_of_a_singular_complex_matrix_has_no_gradient_and_no_error() -> None:
    a = np.stack([np.eye(2), np.ones((2, 2))]) + 0j
    for f in (linalg.det, lambda x: linalg.slogdet(x)[1]):
        x = ts.tensor(a).requires_grad_()
        ts.sum(ts.real(f(x))).backward()
        np.testing.assert_allclose(x.grad.numpy()[0], np.eye(2))
        assert not np.isfinite(x.grad.numpy()[1]).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_below_the_diagonal_reaches_the_factors(dtype: str) -> None:
    a = ts.asarray([[1.0, 0], [math.nan, 2], [0, 1]], dtype)
    assert np.isnan(ts.linalg.qr(a).R.numpy()).any()
    with pytest.raises(ValueError, match="svd"):
        ts.linalg.svd(a)
