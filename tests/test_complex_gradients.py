"""Gradients of complex numbers: dL/dx + i dL/dy of a real loss, against central differences and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import fft, linalg

STEP = 1e-6


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng([seed, *shape])
    return scale * (rng.normal(size=shape) + 1j * rng.normal(size=shape))


def reals(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).uniform(0.5, 2.0, shape)


def definite(n: int) -> np.ndarray[Any, Any]:
    a = numbers(n, n, seed=5)
    return a @ a.conj().T + n * np.eye(n)


Z, W, M, A, X = numbers(3, 4), numbers(3, 4, seed=1), numbers(4, 2), numbers(4, 4, seed=2), reals(3, 4)
INDEX = np.array([2, 0, 0, 1])
MASK = X > 1.2


def hermitian(a: Any) -> Any:
    return a + ts.conj(a.mT)


def _projector(u: Any) -> Any:
    """What does not depend on the phases of the columns."""
    return u[..., :, :2] @ ts.conj(u[..., :, :2].mT)


# name, function, inputs, whether PyTorch has it under the same name and arguments
CASES: list[tuple[str, Callable[..., Any], list[Any]]] = [
    ("add", lambda a, b: a + b, [Z, W]),
    ("add broadcast", lambda a, b: a + b, [Z, W[:1]]),
    ("add real", lambda a, b: a + b, [X, W]),
    ("subtract", lambda a, b: a - b, [Z, W]),
    ("multiply", lambda a, b: a * b, [Z, W]),
    ("multiply real", lambda a, b: a * b, [X, W]),
    ("multiply number", lambda a: a * (2 - 3j), [Z]),
    ("real times number", lambda a: a * (2 - 3j), [X]),
    ("divide", lambda a, b: a / b, [Z, W]),
    ("divide real", lambda a, b: a / b, [X, W]),
    ("divide by real", lambda a, b: a / b, [Z, X]),
    ("negative", lambda a: -a, [Z]),
    ("power", lambda a, b: a**b, [Z, W]),
    ("power 3", lambda a: a**3, [Z]),
    ("power -1.5", lambda a: a**-1.5, [Z]),
    ("power real", lambda a, b: a**b, [X, W]),
    ("number to a power", lambda b: 2.0**b, [W]),
    ("complex number to a power", lambda b: (1 + 2j) ** b, [W]),
    *[
        (name, getattr(ts, name), [Z])
        for name in (
            "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "square", "reciprocal", "sin", "cos",
            "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "abs", "sign", "angle",
            "conj", "real", "imag",
        )
    ],
    ("polar", lambda r, t: r * ts.exp(1j * t), [X, X + 1]),
    ("from parts", lambda a, b: ts._core.ops.from_parts(a, b), [X, X[:1] + 1]),
    ("astype", lambda a: ts.astype(a, "complex128") * (1 + 2j), [X]),
    ("where", lambda a, b: ts.where(ts.asarray(MASK), a, b), [Z, W]),
    ("sum", lambda a: ts.sum(a, axis=1), [Z]),
    ("mean", lambda a: ts.mean(a, axis=0, keepdims=True), [Z]),
    ("prod", lambda a: ts.prod(a, axis=1), [Z]),
    ("var", lambda a: ts.var(a, axis=1), [Z]),
    ("cumsum", lambda a: ts.cumsum(a, 1), [Z]),
    ("cumprod", lambda a: ts.cumprod(a, 1), [Z]),
    ("norm", lambda a: linalg.norm(a), [Z]),
    ("matmul", lambda a, b: a @ b, [Z, M]),
    ("matmul real", lambda a, b: a @ b, [X, M]),
    ("matmul vector", lambda a, b: a @ b, [Z, M[:, 0]]),
    ("matmul batch", lambda a, b: a @ b, [numbers(2, 3, 4), M]),
    ("matmul batch of real", lambda a, b: a @ b, [reals(2, 3, 4), M]),
    ("einsum", lambda a, b: ts.einsum("ij,jk->k", a, b), [Z, M]),
    ("einsum diagonal", lambda a: ts.einsum("ii->i", a), [A]),
    ("vdot", ts.vdot, [Z, W]),
    ("vecdot", ts.vecdot, [Z, W]),
    ("outer", ts.outer, [Z[0], W[0]]),
    ("getitem", lambda a: a[1:, ::-2], [Z]),
    ("getitem array", lambda a: a[:, INDEX], [Z]),
    ("getitem mask", lambda a: a[MASK], [Z]),
    ("take", lambda a: ts.take(a, ts.asarray(INDEX), 0), [Z]),
    ("take_along_axis", lambda a: ts.take_along_axis(a, ts.asarray(INDEX[None]), 0), [Z]),
    ("reshape", lambda a: a.reshape(2, 6).T, [Z]),
    ("flip roll", lambda a: ts.roll(ts.flip(a, 0), 1, 1), [Z]),
    ("concat", lambda a, b: ts.concat([a, b], 1), [Z, X]),
    ("stack", lambda a, b: ts.stack([a, b]), [Z, W]),
    ("broadcast", lambda a: ts.broadcast_to(a, (2, 3, 4)), [Z]),
    ("pad", lambda a: ts.pad(a, 1), [Z]),
    ("tril", lambda a: ts.tril(a), [A]),
    ("fft", fft.fft, [Z]),
    ("fft cut", lambda a: fft.fft(a, 3), [Z]),
    ("fft padded, ortho", lambda a: fft.fft(a, 7, norm="ortho"), [Z]),
    ("fft of real", fft.fft, [X]),
    ("ifft", lambda a: fft.ifft(a, axis=0), [Z]),
    ("rfft", fft.rfft, [X]),
    ("rfft odd", lambda a: fft.rfft(a, axis=0), [X]),
    ("irfft", fft.irfft, [Z]),
    ("irfft odd", lambda a: fft.irfft(a, 5, norm="forward"), [Z]),
    ("hfft", fft.hfft, [Z]),
    ("ihfft", fft.ihfft, [X]),
    ("fftn", fft.fftn, [Z]),
    ("rfftn", fft.rfftn, [X]),
    ("irfftn", fft.irfftn, [Z]),
    ("fft2", fft.fft2, [Z]),
    ("fftshift", fft.fftshift, [Z]),
    ("convolution", lambda a, b: fft.ifft(fft.fft(a) * fft.fft(b)), [Z, W]),
    ("solve", linalg.solve, [A, M]),
    ("solve_triangular", linalg.solve_triangular, [A, M]),
    ("solve_triangular upper", lambda a, b: linalg.solve_triangular(a, b, upper=True, unitriangular=True),
     [A, M[:, 0]]),
    ("inv", linalg.inv, [A]),
    ("det", linalg.det, [A]),
    ("slogdet sign", lambda a: linalg.slogdet(a).sign, [A]),
    ("slogdet size", lambda a: linalg.slogdet(a).logabsdet, [A]),
    ("cholesky", lambda a: linalg.cholesky(hermitian(a)), [definite(4)]),
    ("qr Q", lambda a: linalg.qr(a).Q, [M]),
    ("qr R", lambda a: linalg.qr(a).R, [M]),
    ("eigh values", lambda a: linalg.eigh(hermitian(a)).eigenvalues, [A]),
    ("eigh vectors", lambda a: _projector(linalg.eigh(hermitian(a)).eigenvectors), [A]),
    ("eigvalsh", lambda a: linalg.eigvalsh(hermitian(a)), [A]),
    ("eig values", linalg.eigvals, [A]),
    ("eig vectors", lambda a: ts.square(ts.abs(linalg.eig(a).eigenvectors)), [A]),
    ("eig of real, values", linalg.eigvals, [reals(4, 4, seed=5)]),
    ("eig of real, vectors", lambda a: ts.square(ts.abs(linalg.eig(a).eigenvectors)), [reals(4, 4, seed=5)]),
    ("svd values", lambda a: linalg.svd(a, full_matrices=False).S, [M]),
    ("svdvals", linalg.svdvals, [M]),
    ("svd U", lambda a: _projector(linalg.svd(a).U), [A]),
    ("svd low rank", lambda a: (lambda f: f.U[:, :1] @ f.Vh[:1] * ts.log(f.S[0]))(linalg.svd(a, full_matrices=False)),
     [M]),
    ("svd wide", lambda a: (lambda f: f.U[:, :1] @ f.Vh[:1])(linalg.svd(a, full_matrices=False)), [M.T]),
    ("pinv", linalg.pinv, [M]),
    ("lstsq", lambda a, b: linalg.lstsq(a, b).x, [M, A]),
]  # fmt: skip
IDS = [name for name, *_ in CASES]


def loss(function: Callable[..., Any], *tensors: Any) -> Any:
    """A real number that looks at every part of the result."""
    y = function(*tensors)
    weight = ts.asarray(numbers(*y.shape, seed=9) if y.dtype.kind == "complex" else reals(*y.shape, seed=9))
    return ts.sum(ts.real(ts.conj(weight) * y))


def leaves(arrays: list[Any]) -> list[Any]:
    return [ts.tensor(a).requires_grad_() for a in arrays]


def differences(function: Callable[..., float], arrays: list[Any]) -> list[np.ndarray[Any, Any]]:
    """dL/dx + i dL/dy of every element by central differences."""
    result = []
    for i, a in enumerate(arrays):
        g = np.zeros_like(a)
        for place in np.ndindex(*a.shape):
            for direction in (1, 1j) if a.dtype.kind == "c" else (1,):
                values = []
                for sign in (1, -1):
                    moved = [b.copy() for b in arrays]
                    moved[i][place] += sign * direction * STEP
                    values.append(function(*moved))
                g[place] += direction * (values[0] - values[1]) / (2 * STEP)
        result.append(g)
    return result


@pytest.mark.parametrize(("name", "function", "arrays"), CASES, ids=IDS)
def test_central_differences(name: str, function: Any, arrays: list[Any]) -> None:
    tensors = leaves(arrays)
    gs = ts.autograd.gradients(loss(function, *tensors), tensors)
    expected = differences(lambda *a: loss(function, *map(ts.asarray, a)).item(), arrays)
    for g, e, a in zip(gs, expected, arrays):
        assert g.dtype == a.dtype
        np.testing.assert_allclose(g.numpy(), e, rtol=1e-6, atol=1e-7 * max(1.0, float(np.abs(e).max())))


# Twice: the gradient of a number made of the gradient.
@pytest.mark.parametrize(("name", "function", "arrays"), CASES, ids=IDS)
def test_second_derivatives(name: str, function: Any, arrays: list[Any]) -> None:
    def slope(*tensors: Any) -> Any:
        gs = ts.autograd.gradients(loss(function, *tensors), tensors, create_graph=True, allow_unused=True)
        total: Any = 0.0
        for i, g in enumerate(gs):
            weight = ts.asarray(numbers(*g.shape, seed=20 + i))
            total = total + ts.sum(ts.real(ts.conj(weight) * g)) if g is not None else total
        return total

    tensors = leaves(arrays)
    s = slope(*tensors)
    if not s.requires_grad:  # linear
        return
    gs = ts.autograd.gradients(s, tensors, allow_unused=True)
    expected = differences(lambda *a: slope(*leaves(list(a))).item(), arrays)
    for g, e in zip(gs, expected):
        value = np.zeros_like(e) if g is None else g.numpy()
        np.testing.assert_allclose(value, e, rtol=1e-5, atol=1e-6 * max(1.0, float(np.abs(e).max())))


TORCH: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "exp": lambda torch: torch.exp, "log": lambda torch: torch.log, "sin": lambda torch: torch.sin,
    "cos": lambda torch: torch.cos, "tanh": lambda torch: torch.tanh, "sqrt": lambda torch: torch.sqrt,
    "abs": lambda torch: torch.abs, "angle": lambda torch: torch.angle, "sign": lambda torch: torch.sgn,
    "conj": lambda torch: torch.conj, "real": lambda torch: torch.real, "imag": lambda torch: torch.imag,
    "asin": lambda torch: torch.asin, "acosh": lambda torch: torch.acosh, "atan": lambda torch: torch.atan,
    "multiply": lambda torch: torch.mul, "divide": lambda torch: torch.div, "power": lambda torch: torch.pow,
    "matmul": lambda torch: torch.matmul, "vdot": lambda torch: lambda a, b: torch.vdot(a.ravel(), b.ravel()),
    "prod": lambda torch: lambda a: torch.prod(a, 1), "cumprod": lambda torch: lambda a: torch.cumprod(a, 1),
    "fft": lambda torch: torch.fft.fft, "rfft": lambda torch: torch.fft.rfft, "irfft": lambda torch: torch.fft.irfft,
    "irfftn": lambda torch: torch.fft.irfftn, "fftn": lambda torch: torch.fft.fftn,
    "hfft": lambda torch: torch.fft.hfft,
    "solve": lambda torch: torch.linalg.solve, "inv": lambda torch: torch.linalg.inv,
    "det": lambda torch: torch.linalg.det, "slogdet sign": lambda torch: lambda a: torch.linalg.slogdet(a)[0],
    "cholesky": lambda torch: lambda a: torch.linalg.cholesky(a + a.mH), "svdvals": lambda torch: torch.linalg.svdvals,
    "eigvalsh": lambda torch: lambda a: torch.linalg.eigvalsh(a + a.mH), "pinv": lambda torch: torch.linalg.pinv,
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    _, function, arrays = CASES[IDS.index(name)]
    tensors = leaves(arrays)
    y = function(*tensors)
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    their_y = TORCH[name](torch)(*theirs)
    np.testing.assert_allclose(
        y.detach().numpy(), their_y.detach().resolve_conj().numpy(), rtol=1e-9, atol=1e-12
    )
    dy = numbers(*y.shape, seed=3) if y.dtype.kind == "complex" else reals(*y.shape, seed=3)
    y.backward(ts.asarray(dy))
    their_y.backward(torch.tensor(dy))
    for t, o in zip(tensors, theirs):
        np.testing.assert_allclose(t.grad.numpy(), o.grad.resolve_conj().numpy(), rtol=1e-9, atol=1e-10)


def test_the_gradient_descends() -> None:
    """Steps along -grad find the complex spectrum of a signal."""
    signal = ts.asarray(numbers(16, seed=7))
    spectrum = ts.zeros(16, dtype="complex128").requires_grad_()
    for _ in range(60):
        error = ts.sum(ts.square(ts.abs(fft.ifft(spectrum, norm="ortho") - signal)))
        error.backward()
        with ts.no_grad():
            spectrum -= 0.25 * spectrum.grad
        spectrum.grad = None
    np.testing.assert_allclose(
        spectrum.detach().numpy(), np.fft.fft(signal.numpy(), norm="ortho"), rtol=1e-9, atol=1e-9
    )


def test_a_complex_loss_needs_a_gradient() -> None:
    z = ts.tensor(1 + 2j, dtype="complex64").requires_grad_()
    with pytest.raises(RuntimeError, match="only for a real tensor; this one is complex64"):
        (z * z).backward()


@pytest.mark.parametrize("dtype", ["int32", "bool", "uint8"])
def test_whole_numbers_have_none(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"only floating and complex dtypes have gradients, got {dtype}"):
        ts.zeros(3, dtype=dtype).requires_grad_()


def test_equal_values_without_their_vectors() -> None:
    """Eigenvalues and singular values that are equal have a gradient, as long as no vector is asked for."""
    a = ts.tensor(np.eye(3)).requires_grad_()
    linalg.eigvalsh(a).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.eye(3), atol=1e-12)
    b = ts.tensor(np.eye(3) + 0j).requires_grad_()
    linalg.svdvals(b).sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), np.eye(3), atol=1e-12)


def test_the_angle_of_zero_passes_no_gradient() -> None:
    x = ts.tensor(np.array([0j, 2j, -0.0 - 0j])).requires_grad_()
    y = ts.angle(x)
    np.testing.assert_array_equal(y.detach().numpy(), np.angle(x.detach().numpy()))
    ts.sum(y).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, -0.5, 0])
