"""Activations where a formula is easily wrong: at kinks, at NaN, near the end of the range, in halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F

Array = np.ndarray[Any, Any]


def wide(x: ts.Tensor) -> Array:
    return x.detach().astype(ts.float64).numpy()


def slopes(f: Callable[[Any], Any], x: ts.Tensor) -> Array:
    return wide(ts.grad(lambda v: ts.sum(f(v)))(x))


def test_limits_pass_no_gradient() -> None:
    x = ts.asarray([-1.0, -0.0, 0.0, 0.5, 1.0, 6.0, 7.0])
    assert slopes(F.relu6, x).tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert slopes(F.hardtanh, x).tolist() == [0, 1, 1, 1, 0, 0, 0]
    for f in (F.relu6, F.hardtanh):
        with_gradient = f(ts.asarray(x.numpy()).requires_grad_())
        assert with_gradient.detach().numpy().tobytes() == f(x).numpy().tobytes()
        assert np.isnan(f(ts.asarray([np.nan]).requires_grad_()).item())
    with pytest.raises(ValueError, match="hardtanh: min_val must be <= max_val, got 1 and 0"):
        F.hardtanh(x, 1, 0)


def test_threshold_keeps_nan() -> None:
    y = F.threshold(ts.asarray([np.nan, 1.0, 0.5]), 0.5, 7.0).numpy()
    assert np.isnan(y[0]) and y[1:].tolist() == [1, 7]


@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-15), ("float32", 3e-7), ("bfloat16", 2.0**-8)])
def test_slopes_of_elu_far_to_the_left(dtype: str, error: float) -> None:
    x = ts.asarray([-0.5, -3.0, -6.0, -20.0, -50.0]).astype(dtype)
    slope = np.exp(wide(x))
    np.testing.assert_allclose(slopes(lambda v: F.elu(v, 0.5), x), 0.5 * slope, rtol=error)
    np.testing.assert_allclose(slopes(F.celu, x), slope, rtol=error)
    np.testing.assert_allclose(slopes(F.selu, x), 1.7580993408473766 * slope, rtol=error)


def test_celu_of_any_alpha() -> None:
    x = np.asarray([-2.0, -0.5, 0.0, 0.5, 3.0])
    for alpha in (0.3, 2.0, -1.5):
        expected = np.where(x > 0, x, alpha * np.expm1(x / alpha))
        slope = np.where(x > 0, 1, np.exp(x / alpha))
        np.testing.assert_allclose(F.celu(ts.asarray(x), alpha).numpy(), expected, rtol=1e-14)
        np.testing.assert_allclose(slopes(lambda v, a=alpha: F.celu(v, a), ts.asarray(x)), slope, rtol=1e-14)
    assert F.celu(ts.arange(3)).dtype == F.softplus(ts.arange(3), 2.0).dtype == ts.float32
    large = ts.asarray([3e38, 7.0], dtype=ts.float32)
    assert F.celu(large, 0.3).tolist() == large.tolist() == F.softplus(large, 2.5).tolist()
    assert F.celu(ts.asarray([6e4]).astype(ts.float16), 0.3).item() == 6e4


@pytest.mark.parametrize(
    ("f", "reference"),
    [
        (F.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
        (F.tanhshrink, lambda x: x - np.tanh(x)),
        (lambda x: F.softplus(x, 0.1), lambda x: np.log1p(np.exp(0.1 * x)) / 0.1),
        (
            lambda x: F.glu(ts.stack((x, x))[None], 1)[0, 0],
            lambda x: x / (1 + np.exp(-x)),
        ),
    ],
)
def test_halves_are_rounded_once(f: Any, reference: Any) -> None:
    x = ts.asarray(np.linspace(-20, 3, 200)).astype(ts.bfloat16)
    np.testing.assert_allclose(wide(f(x)), reference(wide(x)), rtol=1.001 * 2.0**-8, atol=1e-7)


def test_slopes_of_halves_are_rounded_once() -> None:
    x = ts.asarray(np.linspace(-2.9, 2.9, 300)).astype(ts.bfloat16)
    v = wide(x)
    np.testing.assert_allclose(slopes(F.hardswish, x), v / 3 + 0.5, rtol=1.001 * 2.0**-8, atol=1e-7)
    np.testing.assert_allclose(slopes(F.softsign, x), (1 + abs(v)) ** -2.0, rtol=1.001 * 2.0**-8)


def test_glu_names_what_it_cannot_halve() -> None:
    with pytest.raises(IndexError, match="glu: axis 5 is out of range"):
        F.glu(ts.ones((2, 4)), 5)
    with pytest.raises(IndexError, match="glu: axis -1 is out of range"):
        F.glu(ts.asarray(1.0))


X = ts.ones((2, 3))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: F.dropout(X, "a"), "dropout: p must be a number, got str 'a'"),
        (lambda: F.softshrink(X, None), "softshrink: lambd must be a number, got NoneType None"),
        (lambda: F.celu(X, "a"), "celu: alpha must be a number, got str 'a'"),
        (lambda: F.hardtanh(X, "a", 1), "hardtanh: min_val must be a number"),
        (lambda: F.hardshrink(X, "a"), "hardshrink: lambd must be a number"),
        (lambda: F.threshold(X, None, 1), "threshold: threshold must be a number, got NoneType"),
        (lambda: F.rrelu(X, "a"), "rrelu: lower must be a number"),
        (lambda: F.normalize(X, "a"), "normalize: p must be a number"),
        (lambda: F.cosine_similarity(X, X, eps="a"), "cosine_similarity: eps must be a number"),
        (lambda: F.pairwise_distance(X, X, "a"), "pairwise_distance: p must be a number"),
        (
            lambda: F.margin_ranking_loss(X, X, X, "a"),
            "margin_ranking_loss: margin must be a number",
        ),
        (
            lambda: F.triplet_margin_loss(X, X, X, "a"),
            "triplet_margin_loss: margin must be a number",
        ),
        (
            lambda: F.cross_entropy(X, ts.asarray([0, 1]), label_smoothing="a"),
            "cross_entropy: label_smoothing must be a number",
        ),
        (lambda: nn.init.uniform_(ts.ones(2), "a"), "uniform_: a must be a number"),
        (lambda: nn.init.xavier_uniform_(X, "a"), "xavier_uniform_: gain must be a number"),
        (lambda: nn.ParameterList().extend(3), "ParameterList: can only be extended by a sequence"),
    ],
)
def test_options_that_are_no_numbers(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
