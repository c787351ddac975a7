"""Complex numbers and Fourier transforms on the GPU: NumPy's values, and the CPU's bits where formulas are shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

pytestmark = pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or "")
TYPES = ["complex64", "complex128"]
EPS = {"complex64": 2.0**-23, "complex128": 2.0**-52, "float32": 2.0**-23, "float64": 2.0**-52}


@pytest.fixture(autouse=True)
def on_the_gpu() -> Any:
    ts.set_default_device("cuda")
    yield
    ts.set_default_device("cpu")


def numbers(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


def on_both(dtype: str, call: Callable[..., Any], *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for device in ("cuda", "cpu"):
        ts.set_default_device(device)
        y = call(*(ts.array(a) for a in arrays))
        assert y.device == device
        found.append(y.cpu().numpy())
    ts.set_default_device("cuda")
    return found[0], found[1]


SHARED = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b,
    "negative": lambda a, b: -a, "square": lambda a, b: ts.square(a),
    "reciprocal": lambda a, b: ts.reciprocal(b), "scalar": lambda a, b: a * (2 - 1j) + 3, "power": lambda a, b: a**3,
    "inverse power": lambda a, b: a**-2, "real": lambda a, b: ts.real(a), "imag": lambda a, b: ts.imag(a + b),
    "conj": lambda a, b: ts.conj(a), "equal": lambda a, b: a == b, "not_equal": lambda a, b: a != b,
    "logical_and": lambda a, b: ts.logical_and(a, b), "isnan": lambda a, b: ts.isnan(a / 0),
    "isfinite": lambda a, b: ts.isfinite(a / b), "bool": lambda a, b: a.astype("bool"),
    "wide": lambda a, b: a.astype("complex128"), "narrow": lambda a, b: a.astype("complex64"),
    "where": lambda a, b: ts.where(ts.real(a) > 0, a, b), "row": lambda a, b: a + b[0],
    "column": lambda a, b: a[:, :1] - b, "across": lambda a, b: ts.contiguous(ts.permute_dims(a, (1, 0))),
    "strided": lambda a, b: a[::2, ::-1] - b[::2, 1:2], "take": lambda a, b: a[:, ts.array([3, 0, 3])],
}  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SHARED)
def test_bits_are_the_cpus(name: str, dtype: str) -> None:
    for shape in ((3, 5), (17, 33)):
        a, b = numbers(dtype, *shape), numbers(dtype, *shape, seed=1)
        b[0, 0], a[1, 1], b[1, 1] = 0, a[2, 2], a[2, 2]
        mine, cpu = on_both(dtype, SHARED[name], a, b)
        np.testing.assert_array_equal(mine, cpu)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "source", ["bool", "int8", "uint8", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_casts_from_real_numbers(source: str, dtype: str) -> None:
    a = np.array([0.0, 1.0, 5.0, 100.0])
    mine, cpu = on_both(dtype, lambda x: x.astype(source).astype(dtype), a)
    np.testing.assert_array_equal(mine, cpu)


FUNCTIONS = ["exp", "log", "sqrt", "sin", "cos", "sinh", "cosh", "sign"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, dtype: str) -> None:
    """To a few roundings of the result's size, over sizes from 2^-20 to 2^6 and all quadrants."""
    z = (numbers("complex128", 600) * np.exp2(np.random.default_rng(2).uniform(-20, 5, 600))).astype(dtype)
    z[:4] = 1, -1, 1j, -2.5
    y = getattr(ts, name)(ts.array(z)).cpu().numpy()
    e = getattr(np, name)(z.astype("complex128"))
    assert str(y.dtype) == dtype
    # A part may cancel where the other is large; for log near the unit circle what counts is z's own rounding.
    bound = 8 * EPS[dtype] * (np.abs(e) + (1 if name == "log" else 0))
    assert (np.abs(y - e) <= bound).all(), np.abs((y - e) / bound).max()


@pytest.mark.parametrize("dtype", TYPES)
def test_functions_at_the_edges(dtype: str) -> None:
    inf, nan, big = np.inf, np.nan, float(np.finfo(dtype).max)
    z = np.array(
        [0, -0.0, complex(0, -0.0), inf, -inf, complex(1, inf), complex(-inf, 2), big, complex(big, big)],
        dtype,
    )
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(ts.sqrt(ts.array(z)).cpu().numpy(), np.sqrt(z), rtol=4 * EPS[dtype])
    z = np.array([complex(-inf, nan), complex(-inf, 3), complex(nan, 0), 0, complex(0, np.pi)], dtype)
    y = ts.exp(ts.array(z)).cpu().numpy()
    assert y[0] == 0 and y[1] == 0 and np.isnan(y[2].real) and y[3] == 1 and abs(y[4] + 1) < 4 * EPS[dtype]
    with pytest.raises(NotImplementedError, match="cuda"):
        ts.tan(ts.array(z))


@pytest.mark.parametrize("dtype", TYPES)
def test_sums_and_products(dtype: str) -> None:
    a, b = numbers(dtype, 7, 30), numbers(dtype, 30, 6, seed=1)
    x, y = ts.array(a), ts.array(b)
    scale = 60 * EPS[dtype]
    for mine, e in (
        (ts.sum(x), a.sum()), (ts.sum(x, axis=0), a.sum(0)), (ts.mean(x, axis=1), a.mean(1)),
        (ts.prod(x[:, :5], axis=1), a[:, :5].prod(1)), (x @ y, a @ b), (ts.matmul(x[0], y), a[0] @ b),
        (ts.absolute(x), np.abs(a)), (ts.angle(x) if hasattr(ts, "angle") else ts.real(x),
                                      np.angle(a) if hasattr(ts, "angle") else a.real),
        (ts.cumsum(x, axis=1), a.cumsum(1)),
    ):  # fmt: skip
        assert mine.device == "cuda"
        np.testing.assert_allclose(mine.cpu().numpy(), e, rtol=scale, atol=scale * 8)


# In shared memory several rows a block and one; large radices; Bluestein; a launch a pass.
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 12, 31, 64, 93, 100, 127, 360, 1000, 1024, 2310, 4096, 9216, 20000]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_fft(length: int, dtype: str) -> None:
    """Complex both ways, real to complex and back: near float64's, and the CPU's bits but for Bluestein's products."""
    real = "float32" if dtype == "complex64" else "float64"
    rows = 3 if length < 2000 else 1
    z, x = numbers(dtype, rows, length), np.random.default_rng(1).standard_normal((rows, length)).astype(real)
    half = np.fft.rfft(x).astype(dtype)
    for call, e, a in (
        (ts.fft.fft, np.fft.fft(z.astype("complex128")), z),
        (ts.fft.ifft, np.fft.ifft(z.astype("complex128")), z),
        (ts.fft.rfft, np.fft.rfft(x.astype("float64")), x),
        (lambda v: ts.fft.irfft(v, n=length), np.fft.irfft(half.astype("complex128"), n=length), half),
    ):
        mine, cpu = on_both(dtype, call, a)
        if length != 127:
            np.testing.assert_array_equal(mine, cpu)
        error = np.abs(mine - e).max() / max(np.abs(e).max(), 1e-30)
        assert error <= 30 * EPS[dtype], error


def test_fft_of_other_axes_and_gradients() -> None:
    a = numbers("complex64", 4, 12, 5)
    mine, cpu = on_both("complex64", lambda x: ts.fft.fft(x, axis=1), a)
    np.testing.assert_array_equal(mine, cpu)
    mine, cpu = on_both("complex64", lambda x: ts.fft.fft2(x, axes=(0, 1)), a)
    np.testing.assert_array_equal(mine, cpu)
    found = []
    for device in ("cuda", "cpu"):
        x = ts.array(
            np.random.default_rng(3).standard_normal(24).astype(np.float32), device=device
        ).requires_grad_()
        y = ts.fft.rfft(x)
        (ts.real(y) ** 2 + ts.imag(y) ** 2).sum().backward()
        found.append(x.grad.cpu().numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
