"""Norms: halves are rounded once, vectors of zeros have gradients, parameters that do not fit change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F


def wide(x: ts.Tensor) -> Any:
    return x.detach().astype(ts.float64).numpy()


@pytest.mark.parametrize(
    "f",
    [
        F.normalize,
        lambda x: F.normalize(x, 3.0),
        lambda x: F.cosine_similarity(x, ts.flip(x, axis=0)),
        lambda x: F.pairwise_distance(x, ts.flip(x, axis=0)),
        lambda x: F.local_response_norm(x, 3, 0.3),
        lambda x: F.group_norm(x, 2, None, ts.asarray([-1, -0.5, 0, 0.5, 1, 2]).astype(x.dtype)),
    ],
    ids=[
        "normalize",
        "normalize3",
        "cosine_similarity",
        "pairwise_distance",
        "local_response_norm",
        "group_norm",
    ],
)
def test_halves_are_rounded_once(f: Any) -> None:
    x = ts.asarray(np.random.default_rng(0).normal(size=(5, 6, 20))).astype(ts.bfloat16)
    y = f(x)
    assert y.dtype == ts.bfloat16
    np.testing.assert_allclose(wide(y), wide(f(x.astype(ts.float64))), rtol=1.01 * 2.0**-8, atol=1e-5)
    with ts.autocast():
        assert f(x).dtype == ts.float32


def test_group_norm_with_a_bias_alone() -> None:
    x = ts.asarray(np.random.default_rng(0).normal(size=(2, 4, 3))).astype(ts.bfloat16)
    assert F.group_norm(x, 2, None, ts.ones(4)).dtype == ts.bfloat16
    with pytest.raises(ValueError, match=r"group_norm: bias must have shape \(4,\), got \(3,\)"):
        F.group_norm(x, 2, None, ts.ones(3))


def test_float16_rows_of_zeros_stay() -> None:
    x = ts.zeros((2, 3), dtype=ts.float16)
    for y in (F.normalize(x), F.cosine_similarity(x, x), F.normalize(x, 3.0)):
        assert not wide(y).any()


@pytest.mark.parametrize("p", [0.5, 1.5, 3.0, -1.0])
def test_norms_of_zeros_pass_no_gradient(p: float) -> None:
    x = ts.asarray([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]], dtype=ts.float64)
    dx = ts.grad(lambda v: ts.sum(F.pairwise_distance(v, ts.zeros((3, 2), dtype=ts.float64), p, eps=0.0)))(x)
    np.testing.assert_allclose(dx.numpy()[:2], [[0, 0], [1 if p > 0 else 0, 0]], rtol=1e-15)
    v = np.asarray([3.0, 4.0])
    np.testing.assert_allclose(dx.numpy()[2], v ** (p - 1) * np.sum(v**p) ** (1 / p - 1), rtol=1e-13)
    assert np.isfinite(ts.grad(lambda v: ts.sum(F.normalize(v, p)[0]))(x).numpy()[0]).all()


def test_parameters_of_norms_fit_the_channels() -> None:
    x, one, four = ts.asarray(np.random.default_rng(0).normal(size=(2, 4, 3))), ts.ones(1), ts.zeros(4)
    for options, name in (
        ({"running_mean": one, "running_var": four}, "running_mean"),
        ({"running_mean": four, "running_var": one}, "running_var"),
        ({"running_mean": four, "running_var": four, "weight": one}, "weight"),
        ({"running_mean": four, "running_var": four, "bias": one}, "bias"),
    ):
        for operation, f in (("batch_norm", F.batch_norm), ("instance_norm", F.instance_norm)):
            with pytest.raises(ValueError, match=rf"{operation}: {name} must have shape \(4,\), got \(1,\)"):
                f(x, **options)
            assert not four.numpy().any()
    with pytest.raises(ValueError, match="instance_norm: use_input_stats=False needs"):
        F.instance_norm(x, use_input_stats=False)
    for extent in (3, np.int64(3), [3]):
        np.testing.assert_array_equal(F.layer_norm(x, extent).numpy(), F.layer_norm(x, (3,)).numpy())
        assert nn.LayerNorm(extent).normalized_shape == nn.RMSNorm(extent).normalized_shape == (3,)
