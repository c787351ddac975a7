"""Factorisations of complex matrices, made of operations on tensors.

A complex matrix a + b i is the real one E = [[a, -b], [b, a]] of twice the size: products, inverses and singular values
of E are those of the complex matrix (the latter twice). What needs more goes column by column through Householder's
reflections: QR, and the reductions to a real tridiagonal or bidiagonal matrix, which the real kernels finish.
Gradients: `unitary_gradients`.
"""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core

__all__: list[str] = []  # of tensorsmith.linalg


def _adjoint(x: Any) -> Any:
    return core.conj(core.matrix_transpose(x))


def flushed(b: Any) -> Any:
    """b with 0 for elements whose squares would underflow; beside an element of size 1 they are nothing."""
    small = 2.0**-60 if core.real(b).dtype.itemsize == 4 else 2.0**-500
    return core.where(core.less(core.absolute(b.detach()), small), 0, b)


def _least(x: Any) -> float:
    """The smallest number that others are divided by, for the real dtype of x: its reciprocal is a number as well."""
    return 2.0**-100 if x.dtype.itemsize == 4 else 2.0**-1000


def scaled(a: Any) -> tuple[Any, Any]:
    """(b, scale) with a = b scale, scale (..., 1) a power of two for each matrix, the largest part of b in [1, 2): so
    that sums of squares do not overflow."""
    parts = core.maximum(core.absolute(core.real(a).detach()), core.absolute(core.imag(a.detach())))
    if 0 in a.shape:
        return a, core.ones((*a.shape[:-2], 1), parts.dtype, device=parts.device)
    size = core.max(parts, (-2, -1), True)
    usual = core.logical_and(core.greater(size, 0), core.isfinite(size))
    scale = core.exp2(core.floor(core.log2(core.maximum(core.where(usual, size, 1), _least(parts)))))
    return flushed(core.divide(a, scale)), scale[..., 0]


def _identity(n: int, like: Any) -> Any:
    """Identity matrices that can be written, one for each matrix of `like`."""
    return core.copy(
        core.broadcast_to(core.eye(n, None, 0, like.dtype, device=like.device), (*like.shape[:-2], n, n))
    )


def embed(a: Any) -> Any:
    """[[re, -im], [im, re]]."""
    re, im = core.contiguous(core.real(a)), core.contiguous(core.imag(a))
    return core.concat([core.concat([re, -im], -1), core.concat([im, re], -1)], -2)


def extract(e: Any) -> Any:
    """The complex matrix of an embedded one."""
    m, n = e.shape[-2] // 2, e.shape[-1] // 2
    return core.from_parts(e[..., :m, :n], e[..., m:, :n])


def phase(z: Any) -> Any:
    """z / |z|, and 1 for 0."""
    size = core.absolute(z)
    least = _least(size)
    z = core.where(core.less(size, least), core.divide(z, least), z)
    size = core.absolute(z)
    return core.where(core.equal(size, 0), 1, core.divide(z, core.where(core.equal(size, 0), 1, size)))


def product(d: Any) -> Any:
    """The product along the last axis; by logarithms where it leaves the range of numbers on the way."""
    y = core.prod(d, -1)
    if d.shape[-1] < 3:
        return y
    known, seen = d.detach(), y.detach()
    usual = core.logical_and(core.isfinite(seen), core.not_equal(seen, 0))
    lost = core.logical_and(
        core.logical_not(usual),
        core.all(core.logical_and(core.isfinite(known), core.not_equal(known, 0)), -1),
    )
    each = core.expand_dims(lost, -1)
    size = core.exp(core.sum(core.log(core.absolute(core.where(each, d, 1))), -1))
    turns = core.prod(phase(core.where(each, known, 1)), -1)
    return core.where(lost, core.multiply(turns, size), core.prod(core.where(each, 1, d), -1))


def _reflector(x: Any) -> tuple[Any, Any]:
    """(v, s) with (1 - s v v^H) x a multiple of the first unit vector; s = 0 where x is 0."""
    if x.shape[-1]:  # of any size: squares of small elements would vanish
        most = core.max(core.absolute(x), -1, True)
        x = core.divide(x, core.maximum(most, _least(most)))
    norm = core.sqrt(core.sum(core.square(core.absolute(x)), -1, None, True))
    v = core.concat([core.add(x[..., :1], core.multiply(phase(x[..., :1]), norm)), x[..., 1:]], -1)
    square = core.sum(core.square(core.absolute(v)), -1, None, True)
    zero = core.equal(square, 0)
    s = core.where(zero, 0, core.divide(2, core.where(zero, 1, square)))
    return core.expand_dims(v, -1), core.expand_dims(s, -1)


def _from_left(a: Any, v: Any, s: Any) -> Any:
    return core.subtract(a, core.multiply(s, core.matmul(v, core.matmul(_adjoint(v), a))))


def _from_right(a: Any, v: Any, s: Any) -> Any:
    return core.subtract(a, core.multiply(s, core.matmul(core.matmul(a, v), _adjoint(v))))


def cholesky(a: Any) -> Any:
    """The lower triangle l with a = l l^H, column by column; ValueError where a is not positive definite."""
    n = a.shape[-1]
    l = core.zeros(a.shape, a.dtype, device=a.device)
    for j in range(n):
        row = l[..., j : j + 1, :j]
        column = core.subtract(a[..., j:, j : j + 1], core.matmul(l[..., j:, :j], _adjoint(row)))
        pivot = core.real(column[..., :1, :])
        if not bool(core.all(core.greater(pivot, 0))):
            raise ValueError(
                f"cholesky: a matrix is not positive definite: its leading minor of order {j + 1}"
            )
        l[..., j : j + 1, j : j + 1] = core.sqrt(pivot)
        l[..., j + 1 :, j : j + 1] = core.divide(column[..., 1:, :], core.sqrt(pivot))
    return l


def qr(a: Any, complete: bool) -> tuple[Any, Any, Any]:
    """(q, r, the determinant of q, real) of a = q r."""
    m, n = a.shape[-2:]
    # A matrix with inf or NaN gives NaN throughout.
    finite = core.all(core.isfinite(a), (-2, -1), True)
    b, scale = scaled(a)
    r, q = core.where(finite, b, complex("nan+nanj")), _identity(m, a)
    sign = core.ones(a.shape[:-2], core.real(a).dtype, device=a.device)
    for k in range(min(m - 1, n)):
        v, s = _reflector(r[..., k:, k])
        r[..., k:, k:] = _from_left(r[..., k:, k:], v, s)
        q[..., :, k:] = _from_right(q[..., :, k:], v, s)
        sign = core.where(core.equal(s[..., 0, 0], 0), sign, -sign)
    rows = m if complete else min(m, n)
    return q[..., :rows], core.multiply(core.triu(r[..., :rows, :]), core.expand_dims(scale, -1)), sign


def slogdet(a: Any) -> tuple[Any, Any]:
    """The phase of the determinant and the logarithm of its size."""
    n = a.shape[-1]
    _, r, sign = qr(a, True)
    d = core.sum(core.multiply(r, core.eye(n, None, 0, r.dtype, device=r.device)), -1)
    size = core.absolute(d)
    turns = core.where(core.equal(size, 0), 0, phase(d))
    return core.multiply(core.prod(turns, -1), sign), core.sum(core.log(size), -1)


def det(a: Any) -> Any:
    """The determinant."""
    n = a.shape[-1]
    _, r, sign = qr(a, True)
    return core.multiply(
        product(core.sum(core.multiply(r, core.eye(n, None, 0, r.dtype, device=r.device)), -1)), sign
    )


def hermitian(a: Any) -> Any:
    """The matrix whose lower triangle is a's, without the imaginary parts of the diagonal."""
    lower = core.tril(a, -1)
    diagonal = core.where(core.eye(a.shape[-1], None, 0, "bool", device=a.device), core.real(a), 0)
    return core.add(core.add(lower, _adjoint(lower)), diagonal)


def eigh(a: Any, solve: Any) -> tuple[Any, Any]:
    """Of Hermitian matrices, by `solve`, which takes real symmetric ones. The lower triangle is read."""
    n = a.shape[-1]
    t, scale = scaled(hermitian(a))
    q = _identity(n, a)
    for k in range(n - 2):
        v, s = _reflector(t[..., k + 1 :, k])
        t[..., k + 1 :, :] = _from_left(t[..., k + 1 :, :], v, s)
        t[..., :, k + 1 :] = _from_right(t[..., :, k + 1 :], v, s)
        q[..., :, k + 1 :] = _from_right(q[..., :, k + 1 :], v, s)
    phases = [core.ones(a.shape[:-2], a.dtype, device=a.device)]
    for k in range(n - 1):
        phases.append(core.multiply(phases[-1], phase(t[..., k + 1, k])))
    d = core.stack(phases, -1) if n else core.zeros((*a.shape[:-2], 0), a.dtype, device=a.device)
    real = core.real(
        core.multiply(core.multiply(core.conj(core.expand_dims(d, -1)), t), core.expand_dims(d, -2))
    )
    w, vectors = solve(core.contiguous(real))
    return core.multiply(w, scale), core.matmul(core.multiply(q, core.expand_dims(d, -2)), vectors)


def svd(a: Any, full_matrices: bool, solve: Any) -> tuple[Any, Any, Any]:
    """By `solve`, which takes real square matrices."""
    m, n = a.shape[-2:]
    if m < n:
        u, s, vh = svd(_adjoint(a), full_matrices, solve)
        return _adjoint(vh), s, _adjoint(u)
    b, u, v = core.copy(a), _identity(m, a), _identity(n, a)
    for k in range(n):
        if k < m - 1:
            h, s = _reflector(b[..., k:, k])
            b[..., k:, :] = _from_left(b[..., k:, :], h, s)
            u[..., :, k:] = _from_right(u[..., :, k:], h, s)
        if k < n - 2:
            h, s = _reflector(core.conj(b[..., k, k + 1 :]))
            b[..., :, k + 1 :] = _from_right(b[..., :, k + 1 :], h, s)
            v[..., :, k + 1 :] = _from_right(v[..., :, k + 1 :], h, s)
    right = core.ones(a.shape[:-2], a.dtype, device=a.device)
    lefts, rights = [], []
    for k in range(n):
        lefts.append(core.multiply(phase(b[..., k, k]), right))
        rights.append(right)
        if k < n - 1:
            right = core.multiply(core.conj(phase(b[..., k, k + 1])), lefts[-1])
    size = core.absolute(b[..., :n, :])
    band = core.subtract(core.triu(size), core.triu(size, 2))
    p, s, qh = solve(band)
    if n:
        first = core.multiply(u[..., :n], core.expand_dims(core.stack(lefts, -1), -2))
        v = core.multiply(v, core.expand_dims(core.stack(rights, -1), -2))
    else:
        first = u[..., :0]
    first = core.matmul(first, p)
    u = core.concat([first, u[..., n:]], -1) if full_matrices else first
    return u, s, core.matmul(qh, _adjoint(v))


def eig(a: Any, vectors: bool) -> tuple[Any, Any]:
    """Eigenvalues and (if wanted) eigenvectors of square matrices, in double precision on the host."""
    wide = core.astype(a.detach(), "complex128" if is_complex(a) else "float64", False)
    w, v = core.eig(core.to_device(wide, "cpu"), vectors)
    narrow = "complex128" if a.dtype in ("float64", "complex128") else "complex64"
    return (
        core.to_device(core.astype(w, narrow, False), a.device),
        core.to_device(core.astype(v, narrow, False), a.device),
    )


def halves(values: Any) -> Any:
    """Every second of sorted values that come in pairs."""
    return core.contiguous(values[..., ::2])


def is_complex(*arrays: Any) -> bool:
    """Whether an array is complex."""
    return any(a.dtype.kind == "complex" for a in arrays)
