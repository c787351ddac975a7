"""Factorisations of complex matrices and eigenvalues of general ones, against what defines them."""

from __future__ import annotations

import numpy as np
import pytest

import tensorsmith as ts

SHAPES = [(1, 1), (2, 2), (5, 5), (3, 4, 4), (6, 3), (2, 3, 6), (12, 12), (0, 0)]


def matrices(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(x, -1, -2))


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_qr_and_svd(shape: tuple[int, ...]) -> None:
    a = matrices(shape)
    for mode in ("reduced", "complete"):
        q, r = (x.numpy() for x in ts.linalg.qr(ts.asarray(a), mode=mode))
        close(q @ r, a)
        close(adjoint(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], *q.shape[-1:] * 2)))
        assert not np.tril(r, -1).any()
    for full in (False, True):
        u, s, vh = (x.numpy() for x in ts.linalg.svd(ts.asarray(a), full_matrices=full))
        k = s.shape[-1]
        close((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a)
        close(s, np.linalg.svd(a, compute_uv=False))
        close(adjoint(u) @ u, np.broadcast_to(np.eye(u.shape[-1]), (*shape[:-2], *u.shape[-1:] * 2)))
    close(ts.linalg.svdvals(ts.asarray(a)).numpy(), np.linalg.svd(a, compute_uv=False))
    if 0 not in shape:
        close(ts.linalg.pinv(ts.asarray(a)).numpy(), np.linalg.pinv(a))


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1] == s[-2] and s[-1]], ids=str)
def test_square(shape: tuple[int, ...]) -> None:
    a, b = matrices(shape), matrices(shape, 1)
    x = ts.asarray(a)
    close(ts.linalg.solve(x, ts.asarray(b)).numpy(), np.linalg.solve(a, b))
    close(ts.linalg.inv(x).numpy(), np.linalg.inv(a))
    close(ts.linalg.det(x).numpy(), np.linalg.det(a))
    sign, size = ts.linalg.slogdet(x)
    close(sign.numpy() * np.exp(size.numpy()), np.linalg.det(a))
    h = a + adjoint(a)
    w, v = (y.numpy() for y in ts.linalg.eigh(ts.asarray(h)))
    close(w, np.linalg.eigvalsh(h))
    close(h @ v, v * w[..., None, :])
    close(ts.linalg.eigvalsh(ts.asarray(h)).numpy(), w)
    l = ts.linalg.cholesky(ts.asarray(a @ adjoint(a))).numpy()
    close(l @ adjoint(l), a @ adjoint(a))
    for general in (a, a.real):
        w, v = (y.numpy() for y in ts.linalg.eig(ts.asarray(general)))
        close(general @ v, v * w[..., None, :])
        close(
            np.sort_complex(ts.linalg.eigvals(ts.asarray(general)).numpy().round(9)).sum(-1),
            w.round(9).sum(-1),
        )


def test_degenerate() -> None:
    for a in (
        np.zeros((3, 3)),
        np.eye(3),
        np.diag([2.0, 2.0, 1.0]),
        np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    ):
        w, v = (y.numpy() for y in ts.linalg.eig(ts.asarray(a)))
        close(a @ v, v * w)
        h = (a + a.T) * (1 + 0j)
        w, v = (y.numpy() for y in ts.linalg.eigh(ts.asarray(h)))
        close(h @ v, v * w)
        close(adjoint(v) @ v, np.eye(3))
    with pytest.raises(ValueError, match="inf or NaN"):
        ts.linalg.eig(ts.asarray([[1.0, np.inf], [0, 1]]))


def general_matrices(n: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n))
    if kind == "hessenberg":
        return np.triu(a, -1)
    if kind == "scaled":
        return a * 10.0 ** rng.integers(-8, 8, (n, n))
    if kind == "cycle":
        return np.roll(np.eye(n), 1, 0)
    if kind == "defective":
        return np.triu(np.ones((n, n)))
    if kind == "complex":
        return a + 1j * rng.standard_normal((n, n))
    if kind == "blocks":
        return np.kron(np.eye(n), [[1.0, 2.0], [-3.0, 1.0]]) + np.triu(np.ones((2 * n, 2 * n)), 2)
    return a


@pytest.mark.parametrize("kind", ["dense", "hessenberg", "scaled", "cycle", "defective", "complex", "blocks"])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 31, 64, 130, 300])
def test_eig_leaves_no_more_than_rounding(n: int, kind: str) -> None:
    """|A V - V W| within a few units of |A| n, as LAPACK tests its own; the values are those of the values alone."""
    a = general_matrices(n, kind)
    x = ts.asarray(a)
    w, v = (y.numpy() for y in ts.linalg.eig(x))
    assert np.abs(a @ v - v * w).max() <= 20 * np.finfo(float).eps * len(a) * np.abs(a).max()
    np.testing.assert_allclose(np.linalg.norm(v, axis=0), 1, rtol=1e-12)
    if kind not in ("cycle", "defective", "blocks"):
        expected, alone = np.linalg.eigvals(a), ts.linalg.eigvals(x).numpy()
        for values in (w, alone):
            nearest = np.abs(values[:, None] - expected).min(1)
            assert nearest.max() <= 1e-7 * np.abs(expected).max()
    sizes = np.abs(v)  # a largest element is real
    assert (np.abs(v.imag) + sizes.max(0) - sizes).min(0).max() <= 1e-12


@pytest.mark.parametrize("kind", ["dense", "complex"])
def test_eig_has_one_result(kind: str) -> None:
    """For any number of threads, and alone or in a batch."""
    a = general_matrices(150, kind)
    batch = ts.asarray(np.stack([a.T, a, a + 1]))
    threads = ts.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            ts.set_num_threads(count)
            results += [[y.numpy().tobytes() for y in ts.linalg.eig(ts.asarray(a))]]
            results += [[y.numpy()[1].tobytes() for y in ts.linalg.eig(batch)]]
    finally:
        ts.set_num_threads(threads)
    assert results[1:] == results[:1] * 3


def test_eig_of_any_size_of_number() -> None:
    a = general_matrices(6, "dense")
    for scale in (2.0**-1060, 2.0**-500, 2.0**500, 2.0**1020):
        w, v = (y.numpy() for y in ts.linalg.eig(ts.asarray(a * scale)))
        expected = np.sort_complex(np.linalg.eigvals(a).round(6))
        if scale > 2.0**-1000:  # what is left of smaller ones is a few bits
            np.testing.assert_allclose(np.sort_complex((w / scale).round(6)), expected, atol=2e-6)
        assert np.isfinite(v).all()
    w = ts.linalg.eigvals(ts.asarray(a.astype("float32")))
    assert w.dtype == ts.complex64
    assert ts.linalg.eigvals(ts.zeros((2, 0, 0))).shape == (2, 0)


def test_complex_order() -> None:
    rng = np.random.default_rng(0)
    z = rng.integers(-2, 3, 200) + 1j * rng.integers(-2, 3, 200)
    assert ts.sort(ts.asarray(z)).tolist() == np.sort(z).tolist()
    assert ts.argsort(ts.asarray(z)).tolist() == np.argsort(z, kind="stable").tolist()
    values, counts = ts.unique_counts(ts.asarray(z))
    expected = np.unique(z, return_counts=True)
    assert values.tolist() == expected[0].tolist() and counts.tolist() == expected[1].tolist()


def test_singular_values_of_any_size() -> None:
    """Neither overflow nor underflow: entries from the smallest to the largest float."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 6))
        a = np.where(
            rng.random((n, n)) < 0.3, 0, rng.standard_normal((n, n)) * 10.0 ** rng.integers(-25, 38, (n, n))
        )
        a = a.astype("float32")
        u, s, vh = (x.numpy().astype("float64") for x in ts.linalg.svd(ts.asarray(a)))
        expected = np.linalg.svd(a.astype("float64"), compute_uv=False)
        np.testing.assert_allclose(s, expected, atol=1e-5 * expected[0])
        np.testing.assert_allclose((u * s) @ vh, a, atol=1e-5 * expected[0])


def test_complex_triangles() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 2, 5, 5)) + 4 * np.eye(5), rng.standard_normal((2, 5, 3))
    a, b = a[0] + 1j * a[1], b + 0j
    for upper in (False, True):
        for unit in (False, True):
            t = np.triu(a) if upper else np.tril(a)
            if unit:
                t[:, range(5), range(5)] = 1
            x = ts.linalg.solve_triangular(ts.asarray(a), ts.asarray(b), upper=upper, unitriangular=unit)
            np.testing.assert_allclose(t @ x.numpy(), b, atol=1e-9 * np.abs(x.numpy()).max())
    assert not np.isfinite(
        ts.linalg.solve_triangular(ts.zeros((2, 2), "complex64"), ts.ones(2, "complex64")).numpy()
    ).any()
