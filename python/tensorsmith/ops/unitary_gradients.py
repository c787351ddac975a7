"""Factorisations of complex matrices with their gradients, by formula: of `unitary`'s steps nothing is recorded.

The formulas are those of Walter & Lehmann (2010) and, for singular vectors, of Wan & Zhang (2019, arXiv:1909.02659).
Eigenvectors and singular vectors are determined but for a phase: the gradient is that of a loss that does not depend
on it.
"""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import Context, Function
from tensorsmith.ops import unitary

__all__: list[str] = []  # of tensorsmith.linalg


def _adjoint(x: Any) -> Any:
    return core.conj(core.matrix_transpose(x))


def _saved(ctx: Context) -> Any:
    return ctx.saved_tensors


def _diagonal(x: Any) -> Any:
    """The diagonal as a vector."""
    return core.sum(x * core.eye(x.shape[-1], None, 0, x.dtype, device=x.device), -1)


def _diagonal_matrix(d: Any) -> Any:
    return core.expand_dims(d, -1) * core.eye(d.shape[-1], None, 0, d.dtype, device=d.device)


def coupled(coupling: Any, values: Any) -> Any:
    """coupling_ij / (values_j - values_i), 0 on the diagonal; between equal values 0 if nothing couples them, else
    NaN: their vectors have no gradient."""
    differences = core.expand_dims(values, -2) - core.expand_dims(values, -1)
    equal = core.equal(differences, 0)
    idle = core.logical_or(
        core.equal(coupling, 0), core.eye(values.shape[-1], None, 0, "bool", device=values.device)
    )
    return core.where(
        equal, core.where(idle, 0.0, float("nan")), coupling / core.where(equal, 1, differences)
    )


class Cholesky(Function):
    """l of a = l l^H."""

    @staticmethod
    def forward(ctx: Context, a: Any) -> Any:
        l = unitary.cholesky(a)
        ctx.save_for_backward(l)
        return l

    @staticmethod
    def backward(ctx: Context, dl: Any) -> Any:
        from tensorsmith.ops.linalg import solve

        (l,) = _saved(ctx)
        adjoint = _adjoint(l)
        inner = core.matmul(adjoint, dl)
        half = core.tril(inner) - 0.5 * _diagonal_matrix(_diagonal(inner))
        g = _adjoint(solve(adjoint, _adjoint(solve(adjoint, half))))  # l^-H half l^-1
        return 0.5 * (g + _adjoint(g))


class Factors(Function):
    """q, r of a = q r, the diagonal of r real and not negative."""

    @staticmethod
    def forward(ctx: Context, a: Any, complete: bool) -> Any:
        q, r, _ = unitary.qr(a, complete)
        k = min(a.shape[-2:])
        phase = unitary.phase(_diagonal(r[..., :k, :k]))
        q = core.concat([q[..., :k] * core.expand_dims(phase, -2), q[..., k:]], -1)
        r = core.concat([r[..., :k, :] * core.expand_dims(core.conj(phase), -1), r[..., k:, :]], -2)
        # The diagonal without what rounding left of its imaginary parts.
        square = r[..., :k, :k]
        corrected = square - _diagonal_matrix(core.imag(_diagonal(square)) * 1j)
        r = core.concat([core.concat([corrected, r[..., :k, k:]], -1), r[..., k:, :]], -2)
        ctx.save_for_backward(q, r)
        return q, r

    @staticmethod
    def backward(ctx: Context, dq: Any, dr: Any) -> Any:
        from tensorsmith.ops.linalg import solve

        q, r = _saved(ctx)
        m, n = q.shape[-2], r.shape[-1]
        if n > m or q.shape[-1] != n:
            raise NotImplementedError(
                f"qr: the gradient is supported for M >= N in reduced mode, not for {m} x {n}"
            )
        inner = core.tril(core.matmul(r, _adjoint(core.triu(dr))) - core.matmul(_adjoint(dq), q))
        symmetric = inner + _adjoint(inner)
        symmetric = symmetric - _diagonal_matrix(0.5 * _diagonal(symmetric))
        g = dq + core.matmul(q, symmetric)
        return _adjoint(solve(r, _adjoint(g))), None  # g r^-H


class Eigenvectors(Function):
    """w, v of a Hermitian a = v diag(w) v^H; solve: for real symmetric matrices."""

    @staticmethod
    def forward(ctx: Context, a: Any, solve: Any) -> Any:
        w, v = unitary.eigh(a, solve)
        ctx.save_for_backward(w, v)
        return w, v

    @staticmethod
    def backward(ctx: Context, dw: Any, dv: Any) -> Any:
        w, v = _saved(ctx)
        inner = _diagonal_matrix(dw) + coupled(core.matmul(_adjoint(v), dv), w)
        g = core.matmul(core.matmul(v, inner), _adjoint(v))
        return 0.5 * (g + _adjoint(g)), None


class GeneralEigenvectors(Function):
    """w, v of a = v diag(w) v^-1, the columns of v of length 1."""

    @staticmethod
    def forward(ctx: Context, a: Any) -> Any:
        w, v = unitary.eig(a, True)
        ctx.save_for_backward(w, v)
        return w, v

    @staticmethod
    def backward(ctx: Context, dw: Any, dv: Any) -> Any:
        from tensorsmith.ops.linalg import solve

        w, v = _saved(ctx)
        adjoint = _adjoint(v)
        turned = core.matmul(adjoint, dv)
        lengths = core.matmul(adjoint, v) * core.expand_dims(core.real(_diagonal(turned)), -2)
        inner = _diagonal_matrix(dw) + coupled(turned - lengths, core.conj(w))
        return solve(adjoint, core.matmul(inner, adjoint))


class SingularVectors(Function):
    """u, s, vh of a = u diag(s) vh; solve: for real square matrices."""

    @staticmethod
    def forward(ctx: Context, a: Any, full_matrices: bool, solve: Any) -> Any:
        b, scale = unitary.scaled(a)
        u, s, vh = unitary.svd(b, full_matrices, solve)
        s = s * scale
        ctx.save_for_backward(u, s, vh)
        return u, s, vh

    @staticmethod
    def backward(ctx: Context, du: Any, ds: Any, dvh: Any) -> Any:
        u, s, vh = _saved(ctx)
        m, n, k = u.shape[-2], vh.shape[-1], s.shape[-1]
        if u.shape[-1] != k or vh.shape[-2] != k:
            raise NotImplementedError(
                f"svd: the gradient of {m} x {n} matrices is supported without full_matrices"
            )
        v, uh, dv = _adjoint(vh), _adjoint(u), _adjoint(dvh)
        left, right = core.matmul(uh, du), core.matmul(vh, dv)
        turned_left, turned_right = left - _adjoint(left), right - _adjoint(right)
        row, column = core.expand_dims(s, -2), core.expand_dims(s, -1)
        phases = _diagonal(turned_left)
        positive = core.where(core.equal(s, 0), 1, s)
        phases = core.where(core.equal(phases, 0), 0, phases / (2 * positive))
        inner = coupled(turned_left * row + column * turned_right, s * s) + _diagonal_matrix(ds + phases)
        da = core.matmul(core.matmul(u, inner), vh)
        if m > k:
            da = da + core.matmul((du - core.matmul(u, left)) / core.expand_dims(positive, -2), vh)
        if n > k:
            rest = dvh - core.matmul(core.matmul(dvh, v), vh)
            da = da + core.matmul(u, rest / core.expand_dims(positive, -1))
        return da, None, None


class PseudoInverse(Function):
    """a^+, of matrices whose rank does not change (Golub & Pereyra 1973); equal singular values do no harm."""

    @staticmethod
    def forward(ctx: Context, a: Any, u: Any, inverse: Any, vh: Any) -> Any:
        p = core.matmul(_adjoint(vh) * core.expand_dims(inverse, -2), _adjoint(u))
        ctx.save_for_backward(a, p)
        return p

    @staticmethod
    def backward(ctx: Context, dp: Any) -> Any:
        a, p = _saved(ctx)
        adjoint, turned = _adjoint(p), _adjoint(dp)
        left = turned - core.matmul(a, core.matmul(p, turned))
        right = turned - core.matmul(core.matmul(turned, p), a)
        da = core.matmul(core.matmul(left, p), adjoint) + core.matmul(adjoint, core.matmul(p, right))
        return da - core.matmul(core.matmul(adjoint, dp), adjoint), None, None, None


class LeastSolution(Function):
    """x = a^+ b, computed already; p: a^+, with its own gradient."""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any, x: Any, p: Any) -> Any:
        x = core.copy(x)
        ctx.save_for_backward(a, b, x, p)
        return x

    @staticmethod
    def backward(ctx: Context, dx: Any) -> Any:
        a, b, x, p = _saved(ctx)
        adjoint = _adjoint(p)
        db = core.matmul(adjoint, dx)
        da = core.matmul(b - core.matmul(a, x), _adjoint(core.matmul(p, db))) - core.matmul(db, _adjoint(x))
        rest = dx - core.matmul(p, core.matmul(a, dx))
        return da + core.matmul(core.matmul(adjoint, x), _adjoint(rest)), db, None, None


class Determinant(Function):
    """det a."""

    @staticmethod
    def forward(ctx: Context, a: Any) -> Any:
        y = unitary.det(a)
        ctx.save_for_backward(a, y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        from tensorsmith.ops.linalg import _inverse

        a, y = _saved(ctx)
        return core.expand_dims(core.expand_dims(dy * core.conj(y), -1), -1) * _adjoint(_inverse(a, False))


class LogDeterminant(Function):
    """The phase and the logarithm of the size of det a."""

    @staticmethod
    def forward(ctx: Context, a: Any) -> Any:
        sign, size = unitary.slogdet(a)
        ctx.save_for_backward(a, sign)
        return sign, size

    @staticmethod
    def backward(ctx: Context, dsign: Any, dsize: Any) -> Any:
        from tensorsmith.ops.linalg import _inverse

        a, sign = _saved(ctx)
        turn = core.imag(core.conj(sign) * dsign)
        return core.expand_dims(core.expand_dims(core.from_parts(dsize, turn), -1), -1) * _adjoint(
            _inverse(a, False)
        )
