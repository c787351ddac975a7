"""Running log-sum-exps beyond the table of cases: what is far apart, infinities, long rows, PyTorch's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tensorsmith as ts


def gradient(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """dx_j = the sum over i >= j of dy_i e^(x_j - y_i), in float64."""
    y = np.logaddexp.accumulate(x)
    shares = np.exp(np.minimum(x[:, None] - y[None], 0))
    return (np.triu(shares) * dy).sum(1)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 2000])
def test_long_rows_and_wide_numbers(n: int, scale: float) -> None:
    """float32 keeps what is small beside a later, larger number, and loses nothing over the row."""
    rng = np.random.default_rng(n)
    x, dy = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
    x *= np.float32(scale)
    leaf = ts.tensor(x, requires_grad=True)
    y = ts.logcumsumexp(leaf, 0)
    y.backward(ts.asarray(dy))
    exact = np.logaddexp.accumulate(x.astype(np.float64))
    most = np.maximum.accumulate(np.abs(x))
    assert np.all(np.abs(y.detach().numpy() - exact) <= 2e-7 * (most + np.log(n) + 1))
    wide, steep = x.astype(np.float64), dy.astype(np.float64)
    # e^(x - y) is as exact as y, which is rounded.
    room = 3e-7 * (np.abs(x).max() + 10) * gradient(wide, np.abs(steep))
    assert np.all(np.abs(leaf.grad.numpy() - gradient(wide, steep)) <= room + 1e-30)


def test_infinities_and_nan() -> None:
    inf, nan = math.inf, math.nan
    for dtype in ("float32", "float64"):
        x = ts.asarray([-inf, -inf, 2.0, -inf, inf, 3.0, inf, nan, 1.0], dtype=dtype)
        np.testing.assert_array_equal(
            ts.logcumsumexp(x, 0).numpy(), [-inf, -inf, 2, 2, inf, inf, inf, nan, nan]
        )
        leaf = ts.tensor([-inf, 0.0, -inf, 1.0], dtype=dtype, requires_grad=True)
        ts.logcumsumexp(leaf, 0)[-1].backward()
        share = 1 / (1 + math.e)
        np.testing.assert_allclose(leaf.grad.numpy(), [0, share, 0, 1 - share], rtol=1e-6)


def test_second_derivatives_where_the_gradient_is_zero() -> None:
    """The Hessian of sum y^2 at places where y, and with it the first gradient, is 0."""
    x = np.array([0.0, -1.0, 0.5, 0.25])

    def hessian(f):  # type: ignore[no-untyped-def]
        return np.array([ts.grad(lambda v, k=k: ts.grad(f)(v)[k])(ts.asarray(x)).numpy() for k in range(4)])

    def composed(v):  # type: ignore[no-untyped-def]
        return ts.sum(ts.square(ts.log(ts.cumsum(ts.exp(v), 0))))

    mine = hessian(lambda v: ts.sum(ts.square(ts.logcumsumexp(v, 0))))
    np.testing.assert_allclose(mine, hessian(composed), atol=1e-13)


def test_pytorchs_numbers() -> None:
    torch = pytest.importorskip("torch")
    x, dy = np.random.default_rng(0).standard_normal((2, 3, 70, 5)) * 4
    for axis in (0, 1, 2, -1):
        theirs, ours = torch.tensor(x, requires_grad=True), ts.tensor(x, requires_grad=True)
        expected, y = torch.logcumsumexp(theirs, axis), ts.logcumsumexp(ours, axis)
        expected.backward(torch.tensor(dy)), y.backward(ts.asarray(dy))
        np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=0, atol=1e-12)


def test_no_axes_and_no_elements() -> None:
    assert float(ts.logcumsumexp(ts.asarray(2.5), 0)) == 2.5
    leaf = ts.tensor(2.5, requires_grad=True)
    ts.logcumsumexp(leaf, -1).backward()
    assert float(leaf.grad) == 1
    for shape in ((0,), (3, 0), (0, 3)):
        leaf = ts.zeros(shape).requires_grad_()
        y = ts.logcumsumexp(leaf, -1)
        y.sum().backward()
        assert y.shape == leaf.grad.shape == shape


def test_errors() -> None:
    with pytest.raises(
        TypeError, match="logcumsumexp: x is int64; float32, float64, bfloat16 or float16 is needed"
    ):
        ts.logcumsumexp(ts.asarray([1, 2]), 0)
    with pytest.raises(IndexError, match="logcumsumexp: axis 2 is out of"):
        ts.logcumsumexp(ts.zeros((2, 3)), 2)
