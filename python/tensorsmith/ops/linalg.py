"""Linear algebra on factorisations: docstrings and gradient rules. Matrices are the last two axes.

The gradients are those of Giles (2008) and of Walter & Lehmann (2010).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tensorsmith._core import default_dtype, promote_types
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops import unitary, unitary_gradients
from tensorsmith.ops.creation import asarray, eye, tril, triu
from tensorsmith.ops.manipulate import _integer, broadcast_shapes
from tensorsmith.ops.unitary_gradients import coupled

__all__: list[str] = []  # tensorsmith.linalg is where they are public


class QR(NamedTuple):
    """The factors of `qr`."""

    Q: Any
    R: Any


class Eigen(NamedTuple):
    """What `eigh` and `eig` find; the eigenvectors are columns."""

    eigenvalues: Any
    eigenvectors: Any


class SVD(NamedTuple):
    """The factors of `svd`."""

    U: Any
    S: Any
    Vh: Any


class LeastSquares(NamedTuple):
    """What `lstsq` finds."""

    x: Any
    residuals: Any
    rank: Any
    s: Any


class Slogdet(NamedTuple):
    """The sign (of complex matrices the phase) of a determinant, and the logarithm of its size."""

    sign: Any
    logabsdet: Any


def _t(x: Any) -> Any:
    return core.matrix_transpose(x)


def _eye(a: Any) -> Any:
    return core.broadcast_to(eye(a.shape[-1], dtype=a.dtype, device=a.device), a.shape)


def _diagonal(x: Any) -> Any:
    """The diagonal of square matrices, by a product with the identity."""
    return core.sum(x * eye(x.shape[-1], dtype=x.dtype), -1)


def _matrix(operation: str, a: Any, square: bool = False, halves: bool = False) -> Any:
    a = asarray(a)
    if a.dtype in ("float16", "bfloat16") and not halves:
        raise TypeError(f"{operation}: a is {a.dtype}; float32, float64, complex64 or complex128 is needed")
    if a.dtype.kind not in ("floating", "complex"):
        from tensorsmith import get_default_dtype

        a = core.astype(a, get_default_dtype())
    if a.ndim < 2 or (square and a.shape[-1] != a.shape[-2]):
        form = "square matrices (..., N, N)" if square else "matrices (..., M, N)"
        raise ValueError(f"{operation}: {form} are needed, got shape {tuple(a.shape)}")
    return a


# --- rules of the core's operations ---------------------------------------------------------------


def _lower_inverse_both(l: Any, x: Any) -> Any:
    """l^-T x l^-1 for a lower triangle l."""
    x = core.solve_triangular(_t(l), x, True)
    return _t(core.solve_triangular(_t(l), _t(x), True))


def _cholesky_rule(dl: Any, l: Any) -> Any:
    inner = core.matmul(_t(l), dl)
    half = tril(inner) - 0.5 * inner * eye(l.shape[-1], dtype=l.dtype)
    g = _lower_inverse_both(l, half)
    return 0.5 * (g + _t(g))


cholesky_core = define(core.cholesky, "The lower Cholesky factor.", a=_cholesky_rule)


def _lu_rule(dfactors: Any, factors: Any, pivots: Any) -> Any:
    m, n = factors.shape[-2:]
    if m != n:
        raise NotImplementedError(
            f"lu: the gradient of {m} x {n} matrices is not supported, only of square ones"
        )
    upper = triu(factors)
    lower = tril(factors, -1) + _eye(factors)
    inner = tril(core.matmul(_t(lower), tril(dfactors, -1)), -1) + triu(
        core.matmul(triu(dfactors), _t(upper))
    )
    # L^-T inner U^-T
    x = core.solve_triangular(_t(lower), inner, True, True)
    x = _t(core.solve_triangular(upper, _t(x), True))
    return core.swap_rows(x, pivots, True)


define(core.lu, "L below the diagonal and U above it, with partial pivoting.", a=_lu_rule)
define(
    core.swap_rows,
    "b with the row swaps of lu applied, or undone.",
    conjugate=False,
    b=lambda dy, pivots, inverse: core.swap_rows(dy, pivots, not inverse),
)


def _triangular_rule(dx: Any, a: Any, x: Any, upper: Any, unit: Any, needs: Any) -> Any:
    db = core.solve_triangular(_t(a), dx, not upper, unit)
    da = None
    if needs[0]:
        full = -core.matmul(db, _t(x))
        offset = 1 if unit else 0
        da = triu(full, offset) if upper else tril(full, -offset)
    return da, db


define(core.solve_triangular, "a^-1 b for one triangle of a.", wrt="a b", vjp=_triangular_rule)


def _qr_rule(dys: Any, q: Any, r: Any) -> Any:
    m, n, k = q.shape[-2], r.shape[-1], r.shape[-2]
    if k != n or k > m or q.shape[-1] != n:
        raise NotImplementedError(
            f"qr: the gradient is supported for M >= N in reduced mode, not for {m} x {n}"
        )
    dq = core.zeros(q.shape, dtype=q.dtype, device=q.device) if dys[0] is None else dys[0]
    dr = core.zeros(r.shape, dtype=r.dtype, device=r.device) if dys[1] is None else triu(dys[1])
    inner = core.matmul(r, _t(dr)) - core.matmul(_t(dq), q)
    symmetric = tril(inner) + _t(tril(inner, -1))
    g = dq + core.matmul(q, symmetric)
    return _t(core.solve_triangular(r, _t(g), True))  # g r^-T


define(core.qr, "Q and R.", wrt="a", vjp=lambda dys, q, r: (_qr_rule(dys, q, r),))


def _eigh_rule(dys: Any, w: Any, v: Any) -> Any:
    inner = 0.0 if dys[0] is None else core.expand_dims(dys[0], -1) * eye(w.shape[-1], dtype=w.dtype)
    if dys[1] is not None:
        inner = inner + coupled(core.matmul(_t(v), dys[1]), w)
    g = core.matmul(core.matmul(v, inner), _t(v))
    return 0.5 * (g + _t(g))


def _eigh_both(dys: Any, w: Any, v: Any, vectors: Any) -> Any:
    if not vectors:
        raise RuntimeError("eigh: eigenvalues without eigenvectors have no gradient; ask for both")
    return (_eigh_rule(dys, w, v),)


define(core.eigh, "Eigenvalues, ascending, and eigenvectors of symmetric matrices.", wrt="a", vjp=_eigh_both)


def _svd_rule(dys: Any, u: Any, s: Any, vh: Any, vectors: Any) -> Any:
    if not vectors:
        raise RuntimeError("svd: singular values without vectors have no gradient; ask for both")
    du, ds, dvh = dys
    same = eye(s.shape[-1], dtype=s.dtype)
    square = s * s
    row = core.expand_dims(s, -2)
    inner = 0.0 if ds is None else core.expand_dims(ds, -1) * same
    if du is not None:
        j = coupled(core.matmul(_t(u), du), square)
        inner = inner + (j + _t(j)) * row
    if dvh is not None:
        k = coupled(core.matmul(vh, _t(dvh)), square)
        inner = inner + core.expand_dims(s, -1) * (k + _t(k))
    return (core.matmul(core.matmul(u, inner), vh),)


define(core.eig, "w, v of square matrices of float64 or complex128, complex128; `eig` has their gradients.")
define(core.svd_square, "u, s (descending) and vh of square matrices.", wrt="a", vjp=_svd_rule)


# --- the public functions -------------------------------------------------------------------------


def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """The lower triangle L with a = L L^T (or with `upper` its transpose) of symmetric positive definite matrices.

    a: (..., N, N), of which the lower triangle (with `upper` the upper one) is read. ValueError where a matrix is not
    positive definite."""
    a = _matrix("cholesky", a, True)
    a = core.conj(_t(a)) if upper else a
    l = unitary_gradients.Cholesky.apply(a) if unitary.is_complex(a) else core.cholesky(a)
    return core.conj(_t(l)) if upper else l


def lu_factor(a: Any, /) -> tuple[Any, Any]:
    """(factors, pivots): U on and above the diagonal, L below it (its own diagonal is 1), (..., M, N); row i was
    swapped with row pivots[i]."""
    factors, pivots = core.lu(_matrix("lu_factor", a))
    return factors, pivots


def lu(a: Any, /) -> tuple[Any, Any, Any]:
    """(P, L, U) with a = P L U: P a permutation matrix, L (..., M, K) with a diagonal of 1, U (..., K, N)."""
    a = _matrix("lu", a)
    factors, pivots = core.lu(a)
    m, n = a.shape[-2:]
    k = min(m, n)
    lower = tril(factors[..., :k], -1) + core.broadcast_to(eye(m, k, dtype=a.dtype), (*a.shape[:-1], k))
    identity = core.broadcast_to(eye(m, dtype=a.dtype), (*a.shape[:-2], m, m))
    return core.swap_rows(identity, pivots, True), lower, triu(factors[..., :k, :])


def _singular(operation: str, factors: Any) -> None:
    d = _diagonal(factors.detach())
    if bool(core.any(d == 0)):
        raise ValueError(f"{operation}: a matrix is singular")


def _aligned(operation: str, a: Any, b: Any) -> tuple[Any, Any, bool]:
    """a and b with equal leading axes, b as matrices, and whether it was one vector."""
    a, b = _matrix(operation, a, True, True), asarray(b)
    common = promote_types(a.dtype, b.dtype) if b.dtype.kind in ("floating", "complex") else a.dtype
    a, b = _matrix(operation, core.astype(a, common, False)), core.astype(b, common, False)
    vector = b.ndim == 1
    if vector:
        b = core.expand_dims(b, 1)
    if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
        raise ValueError(
            f"{operation}: b must be a vector of N or matrices (..., N, K) with N = {a.shape[-1]}, got shape "
            f"{tuple(b.shape)}"
        )
    leading = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = core.broadcast_to(a, (*leading, *a.shape[-2:]))
    return a, core.broadcast_to(b, (*leading, *b.shape[-2:])), vector


def solve(a: Any, b: Any, /) -> Any:
    """x with a x = b, by LU with partial pivoting.

    a: (..., N, N)    b: (N,) or (..., N, K); leading axes broadcast. ValueError where a is exactly singular."""
    a, b, vector = _aligned("solve", a, b)
    x = _solved(a, b, True)
    return core.squeeze(x, -1) if vector else x


def _solved(a: Any, b: Any, check: bool) -> Any:
    if unitary.is_complex(a):
        parts = _solved(unitary.embed(a), core.concat([core.real(b), core.imag(b)], -2), check)
        n = a.shape[-1]
        return core.from_parts(parts[..., :n, :], parts[..., n:, :])
    factors, pivots = core.lu(a)
    if check:
        _singular("solve", factors)
    x = core.solve_triangular(factors, core.swap_rows(b, pivots), False, True)
    return core.solve_triangular(factors, x, True)


def solve_triangular(a: Any, b: Any, /, *, upper: bool = False, unitriangular: bool = False) -> Any:
    """x with a x = b, where only the lower (or upper) triangle of a is read; its diagonal taken as 1 if asked.

    a: (..., N, N)    b: (N,) or (..., N, K); leading axes broadcast. A 0 on the diagonal gives inf or NaN."""
    a, b, vector = _aligned("solve_triangular", a, b)
    if unitary.is_complex(a):
        offset = int(unitriangular)
        a = triu(a, offset) if upper else tril(a, -offset)
        x = _solved(a + _eye(a) if unitriangular else a, b, False)
    else:
        x = core.solve_triangular(a, b, upper, unitriangular)
    return core.squeeze(x, -1) if vector else x


def inv(a: Any, /) -> Any:
    """The inverse of square matrices. ValueError where one is exactly singular."""
    return _inverse(_matrix("inv", a, True), True)


def _inverse(a: Any, check: bool) -> Any:
    if unitary.is_complex(a):
        return unitary.extract(_inverse(unitary.embed(a), check))
    factors, pivots = core.lu(a)
    if check:
        _singular("inv", factors)
    x = core.solve_triangular(factors, core.swap_rows(_eye(a), pivots), False, True)
    return core.solve_triangular(factors, x, True)


def _sign_of_swaps(pivots: Any, dtype: Any) -> Any:
    swapped = core.astype(pivots != core.arange(pivots.shape[-1], device=pivots.device), dtype)
    return core.prod(1 - 2 * swapped, -1)


def det(a: Any, /) -> Any:
    """The determinant of square matrices: (...). Its gradient is not finite where one is singular."""
    a = _matrix("det", a, True)
    if unitary.is_complex(a):
        return unitary_gradients.Determinant.apply(a)
    factors, pivots = core.lu(a)
    return unitary.product(_diagonal(factors)) * _sign_of_swaps(pivots, a.dtype)


def slogdet(a: Any, /) -> Slogdet:
    """(sign, log |det|) of square matrices: without overflow; (0, -inf) where one is singular."""
    a = _matrix("slogdet", a, True)
    if unitary.is_complex(a):
        return Slogdet(*unitary_gradients.LogDeterminant.apply(a))
    factors, pivots = core.lu(a)
    d = _diagonal(factors)
    sign = core.prod(core.sign(d.detach()), -1) * _sign_of_swaps(pivots, a.dtype)
    return Slogdet(sign, core.sum(core.log(core.absolute(d)), -1))


def qr(a: Any, /, mode: str = "reduced") -> Any:
    """(Q, R) with a = Q R, the columns of Q orthonormal, R upper triangular.

    a: (..., M, N)    "reduced": Q (..., M, K), R (..., K, N), K = min(M, N); "complete": K = M;
    "r": the R of "reduced" alone.
    Gradients for M >= N in reduced mode. ValueError for another mode, and for more than 131072 rows."""
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    a = _matrix("qr", a)
    if mode == "r":
        return qr(a).R
    if unitary.is_complex(a):
        return QR(*unitary_gradients.Factors.apply(a, mode == "complete"))
    return QR(*core.qr(a, mode == "complete"))


def _lower(operation: str, a: Any, UPLO: str) -> Any:
    """Square matrices with what is to be read in their lower triangle."""
    a = _matrix(operation, a, True)
    if UPLO not in ("L", "U", "l", "u"):
        raise ValueError(f"{operation}: UPLO must be 'L' or 'U', got {UPLO!r}")
    return a if UPLO in ("L", "l") else core.conj(_t(a))


def eigh(a: Any, /, UPLO: str = "L") -> Eigen:
    """(w, v): eigenvalues (..., N), ascending, and eigenvectors, the columns of v (..., N, N), of symmetric matrices.

    The lower triangle is read, or with UPLO="U" the upper one. The gradient of v is not finite where eigenvalues are
    equal. ValueError for inf or NaN, and for another UPLO."""
    a = _lower("eigh", a, UPLO)
    return Eigen(
        *(unitary_gradients.Eigenvectors.apply(a, core.eigh) if unitary.is_complex(a) else core.eigh(a))
    )


def eig(a: Any, /) -> Eigen:
    """The eigenvalues (..., N) and eigenvectors, the columns of (..., N, N), of square matrices, complex.

    In no order; vectors are of length 1, the largest element of a complex one real. By Francis's QR steps in double
    precision, on the host wherever a is. The gradient is that of a loss that does not depend on the phases of the
    vectors, and of v not finite where eigenvalues are equal. ValueError for inf or NaN and for N > 32768."""
    return Eigen(*unitary_gradients.GeneralEigenvectors.apply(_matrix("eig", a, True, True)))


def eigvals(a: Any, /) -> Any:
    """The eigenvalues of square matrices, complex, in no order; see `eig`."""
    a = _matrix("eigvals", a, True, True)
    return eig(a).eigenvalues if a.requires_grad else unitary.eig(a, False)[0]


def eigvalsh(a: Any, /, UPLO: str = "L") -> Any:
    """The eigenvalues of symmetric matrices, ascending; see `eigh`."""
    a = _lower("eigvalsh", a, UPLO)
    if unitary.is_complex(a) and a.requires_grad:
        return eigh(a).eigenvalues
    if unitary.is_complex(a):
        return unitary.halves(eigvalsh(unitary.embed(unitary.hermitian(a))))
    return core.eigh(a, bool(a.requires_grad))[0]


def _svd_flushed(b: Any) -> Any:
    return core.svd_square(unitary.flushed(b), True)


def svd(a: Any, /, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """(u, s, vh) with a = u diag(s) vh, s >= 0 descending.

    a: (..., M, N)    u: (..., M, M) and vh: (..., N, N), or without full_matrices (..., M, K) and (..., K, N), where
    K = min(M, N)    compute_uv=False: s alone    hermitian: a is what its lower triangle says
    Gradients without full_matrices, or of square matrices; those of u and vh are NaN where singular values are equal
    or 0. ValueError for inf or NaN."""
    a = _matrix("svd", a, hermitian)
    a = unitary.hermitian(a) if hermitian else a
    if not compute_uv:
        return svdvals(a)
    if unitary.is_complex(a):
        return SVD(*unitary_gradients.SingularVectors.apply(a, full_matrices, _svd_flushed))
    m, n = a.shape[-2:]
    if m < n:
        u, s, vh = svd(_t(a), full_matrices=full_matrices)
        return SVD(_t(vh), s, _t(u))
    a, scale = unitary.scaled(a)
    if m == n:
        u, s, vh = core.svd_square(unitary.flushed(a), True)
        return SVD(u, s * scale, vh)
    if full_matrices:
        q, r = core.qr(a, True)
        u, s, vh = _svd_flushed(r[..., :n, :])
        return SVD(core.concat([core.matmul(q[..., :n], u), q[..., n:]], -1), s * scale, vh)
    q, r = core.qr(a)
    u, s, vh = _svd_flushed(r)
    return SVD(core.matmul(q, u), s * scale, vh)


def svdvals(a: Any, /) -> Any:
    """The singular values, descending: (..., min(M, N))."""
    a = _matrix("svdvals", a)
    if a.requires_grad:
        return svd(a, full_matrices=False)[1]
    if unitary.is_complex(a):
        return unitary.halves(svdvals(unitary.embed(a)))
    a, scale = unitary.scaled(a)
    if a.shape[-2] != a.shape[-1]:
        a = core.qr(a if a.shape[-2] > a.shape[-1] else _t(a))[1]
    s = core.svd_square(unitary.flushed(a), False)[1]
    return s * scale


def _cutoff(a: Any, s: Any, rtol: Any) -> Any:
    relative = max(a.shape[-2:]) * (2.0**-23 if s.dtype.itemsize == 4 else 2.0**-52) if rtol is None else rtol
    if not isinstance(relative, (int, float)):
        relative = core.expand_dims(core.astype(asarray(relative), s.dtype, False), -1)
    return core.max(s, -1, True) * relative if s.shape[-1] else s


def matrix_rank(a: Any, /, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """How many singular values are above tol, or rtol (max(M, N) eps unless given) times the largest: (...), int64. Of
    a vector or a number 0 where all of it is 0, else 1.

    hermitian: a is what its lower triangle says. ValueError where both tol and rtol are given."""
    if tol is not None and rtol is not None:
        raise ValueError("matrix_rank: one of tol and rtol may be given, not both")
    a = asarray(a)
    if a.ndim < 2:
        return core.astype(core.any(core.not_equal(a, 0)), "int64")
    a = _matrix("matrix_rank", a, hermitian)
    s = svdvals(unitary.hermitian(a.detach()) if hermitian else a.detach())
    if tol is None:
        tol = _cutoff(a, s, rtol)
    elif not isinstance(tol, (int, float)):
        tol = core.expand_dims(asarray(tol), -1)
    return core.sum(core.astype(s > tol, "int64"), -1)


def _inverted(s: Any, cutoff: Any) -> tuple[Any, Any]:
    """Which singular values are above the cutoff, and their reciprocals, 0 for the others."""
    keep = s > cutoff
    return keep, core.where(keep, 1 / core.where(keep, s, 1.0), 0.0)


def pinv(a: Any, /, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """The Moore-Penrose inverse (..., N, M); singular values up to rtol (or rcond; max(M, N) eps) times the largest
    count as 0.

    hermitian: a is what its lower triangle says. The gradient is that of matrices of the same rank. ValueError where
    both rtol and rcond are given."""
    if rcond is not None and rtol is not None:
        raise ValueError("pinv: rcond and rtol are two names of one argument; one of them may be given")
    a = _matrix("pinv", a, hermitian)
    a = unitary.hermitian(a) if hermitian else a
    return _pinv(a, svd(a.detach(), full_matrices=False), rtol if rcond is None else rcond)


def _pinv(a: Any, factors: SVD, rtol: Any) -> Any:
    u, s, vh = factors
    return unitary_gradients.PseudoInverse.apply(a, u, _inverted(s, _cutoff(a, s, rtol))[1], vh)


def lstsq(a: Any, b: Any, /, rcond: float | None = None) -> LeastSquares:
    """(x, residuals, rank, s): the x of least norm among those that make |a x - b| least, as numpy.linalg.lstsq.

    a: (..., M, N)    b: (M,) or (..., M, K)    x: (N,) or (..., N, K)
    residuals: the squares of |a x - b|, (K,), or empty where the rank is below N or M <= N; s: the singular values,
    of which those up to rcond (max(M, N) eps; half of eps where it is not in (0, 1)) times the largest count as 0.
    The gradient is that of matrices of the same rank."""
    a, b = _matrix("lstsq", a, halves=True), asarray(b)
    if b.dtype.kind not in ("floating", "complex"):
        b = core.astype(b, default_dtype())
    common = promote_types(a.dtype, b.dtype)
    a, b = _matrix("lstsq", core.astype(a, common, False)), core.astype(b, common, False)
    if not (rcond is None or hasattr(rcond, "__float__")):
        raise TypeError(f"lstsq: rcond must be a number or None, got {rcond!r}")
    if rcond is not None and not 0 < rcond < 1:  # as LAPACK
        rcond = 2.0**-24 if core.real(a).dtype.itemsize == 4 else 2.0**-53
    rows = b.shape[0] if b.ndim == 1 else b.shape[-2] if b.ndim else 0
    if rows != a.shape[-2]:
        raise ValueError(f"lstsq: a has {a.shape[-2]} rows, but b of shape {tuple(b.shape)} has {rows}")
    column = core.expand_dims(b, 1) if b.ndim == 1 else b
    factors = svd(a, full_matrices=False)
    u, s, vh = (y.detach() for y in factors)
    keep, inverse = _inverted(s, _cutoff(a, s, rcond))
    x = core.matmul(core.conj(_t(vh)), core.expand_dims(inverse, -1) * core.matmul(core.conj(_t(u)), column))
    if a.requires_grad:
        p = _pinv(a, SVD(u, s, vh), rcond)
        x = unitary_gradients.LeastSolution.apply(a, column, x.detach(), p)
    rank = core.sum(core.astype(keep, "int64"), -1)
    if a.shape[-2] > a.shape[-1] and bool(core.all(core.equal(rank, a.shape[-1]))):
        residuals = core.sum(core.square(core.absolute(core.matmul(a, x) - column)), -2)
    else:
        residuals = core.zeros((0,), s.dtype, device=s.device)
    return LeastSquares(core.squeeze(x, -1) if b.ndim == 1 else x, residuals, rank, factors.S)


def cond(a: Any, /, p: Any = None) -> Any:
    """The condition number of matrices: of norm 2 the largest over the smallest singular value, of another norm
    |a| |a^-1|; see `matrix_norm` for p. inf where a matrix is singular; ValueError for empty ones."""
    from tensorsmith.ops.matrix import matrix_norm

    a = _matrix("cond", a)
    if 0 in a.shape[-2:]:
        raise ValueError(
            f"cond: a of shape {tuple(a.shape)} has empty matrices, which have no condition number"
        )
    if p in (None, 2, -2):
        s = svdvals(a)
        large, small = core.max(s, -1), core.min(s, -1)
        y = large / small if p != -2 else small / large
    else:
        a = _matrix("cond", a, True)
        inverse = _inverse(a, False)
        there = core.all(core.isfinite(inverse.detach()), (-2, -1), True)
        y = matrix_norm(a, ord=p) * matrix_norm(core.where(there, inverse, 0), ord=p)
        y = core.where(core.logical_or(there[..., 0, 0], core.isnan(y.detach())), y, math.inf)
    lost = core.logical_and(core.isnan(y), core.logical_not(core.any(core.isnan(a.detach()), (-2, -1))))
    return core.where(lost, math.inf, y)


def tensorinv(a: Any, /, ind: int = 2) -> Any:
    """The inverse of a as a map from its last axes to its first `ind`."""
    a, ind = asarray(a), _integer("tensorinv", "ind", ind)
    if ind < 1:
        raise ValueError(f"tensorinv: ind must be >= 1, got {ind}")
    first, last = a.shape[:ind], a.shape[ind:]
    return core.reshape(inv(core.reshape(a, (math.prod(first), math.prod(last)))), (*last, *first))


def tensorsolve(a: Any, b: Any, /, axes: Any = None) -> Any:
    """x with tensordot(a, x, x.ndim) = b, after a's `axes` were moved to its end."""
    a, b = asarray(a), asarray(b)
    if axes is not None:
        moved = (axes,) if hasattr(axes, "__index__") else tuple(axes)
        a = core.moveaxis(a, moved, tuple(range(a.ndim - len(moved), a.ndim)))
    shape = a.shape[b.ndim :]
    return core.reshape(solve(core.reshape(a, (b.size, math.prod(shape))), core.reshape(b, (-1,))), shape)


# Numerators of the [13/13] Pade approximant of exp (Higham 2005), and the norm up to which it is exact to 2^-53.
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_PADE_NORM = 5.371920351148152


def expm(a: Any, /) -> Any:
    """The exponential of square matrices, sum of a^k / k!, by scaling and squaring (Higham 2005)."""
    a = _matrix("expm", a, True)
    if not a.size:
        return a
    # Each matrix is halved as often as its own norm asks for.
    norm = core.max(core.sum(core.absolute(a.detach()), -2, None, True), -1, True)
    halvings = core.ceil(core.log2(core.maximum(norm, _PADE_NORM) / _PADE_NORM))
    halvings = core.where(core.isnan(halvings), 0.0, core.minimum(halvings, 1100.0))
    a = a * core.exp2(-halvings)
    identity, a2 = _eye(a), core.matmul(a, a)
    a4 = core.matmul(a2, a2)
    a6 = core.matmul(a2, a4)
    b = _PADE
    odd = (
        core.matmul(a6, b[13] * a6 + b[11] * a4 + b[9] * a2)
        + b[7] * a6
        + b[5] * a4
        + b[3] * a2
        + b[1] * identity
    )
    even = (
        core.matmul(a6, b[12] * a6 + b[10] * a4 + b[8] * a2)
        + b[6] * a6
        + b[4] * a4
        + b[2] * a2
        + b[0] * identity
    )
    odd = core.matmul(a, odd)
    x = solve(even - odd, even + odd)
    for i in range(int(core.max(halvings))):
        square = core.matmul(x, x)
        x = core.where(halvings > i, square, x) if norm.size > 1 else square
    return x


def matrix_power(a: Any, n: int, /) -> Any:
    """The product of |n| square matrices a, by squaring; of their inverses where n is negative. Integers stay integers
    where it is not."""
    a, n = asarray(a), _integer("matrix_power", "n", n)
    if n < 0 or a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        a = _matrix("matrix_power", a, True)
    if n < 0:
        a, n = inv(a), -n
    result = None
    while n:
        if n % 2:
            result = a if result is None else core.matmul(result, a)
        n //= 2
        if n:
            a = core.matmul(a, a)
    return core.copy(_eye(a)) if result is None else result
