"""Convolutions of one to three dimensions and transposed: the layers against PyTorch's, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F

SIZES = (7, 6, 8)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Conv", {}),
        ("Conv", {"stride": 2, "padding": 1, "groups": 2, "bias": False}),
        ("Conv", {"padding": "same", "dilation": 2}),
        ("ConvTranspose", {}),
        ("ConvTranspose", {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2, "dilation": 2}),
    ],
)
def test_layers(axes: int, kind: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, f"{kind}{axes}d")(4, 6, 3, **options, dtype=torch.float64)
    ours = getattr(nn, f"{kind}{axes}d")(4, 6, 3, **options, dtype="float64")
    ours.load_state_dict({k: ts.asarray(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    for shape in ((2, 4, *SIZES[:axes]), (4, *SIZES[:axes])):
        values = np.random.default_rng(0).standard_normal(shape)
        x, t = ts.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
        y, u = ours(x), theirs(t)
        np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=0, atol=1e-13)
        dy = np.random.default_rng(1).standard_normal(y.shape)
        ours.zero_grad(), theirs.zero_grad()
        y.backward(ts.asarray(dy)), u.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=0, atol=1e-12)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=0, atol=1e-11)


def test_output_size() -> None:
    down, up = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)
    x = ts.ones((1, 2, 10, 9))
    assert up(down(x)).shape == (1, 2, 9, 9)
    assert up(down(x), output_size=x.shape).shape == x.shape
    with pytest.raises(ValueError, match=r"output_size must be from \(9, 9\) to \(10, 10\), got \(11, 9\)"):
        up(down(x), output_size=(11, 9))


def test_errors() -> None:
    x, w = ts.zeros((2, 3, 8)), ts.zeros((4, 3, 3))
    volume = ts.zeros((1, 2, 4, 4, 4))
    bad = [
        (lambda: F.conv1d(x, w[:, :2]), ValueError, "conv1d: x has 3 channels, but weight .* takes 2"),
        (
            lambda: F.conv1d(x, ts.zeros((4, 3, 9))),
            ValueError,
            "conv1d: kernel_size 9 .* larger than the padded input 8",
        ),
        (lambda: F.conv1d(x, w.astype("float64")), TypeError, "conv1d: weight is float64"),
        (
            lambda: F.conv1d(x, w, ts.zeros((3,))),
            ValueError,
            r"conv1d: bias must have shape \(4,\), got \(3,\)",
        ),
        (
            lambda: F.conv1d(x, w, stride=0),
            ValueError,
            "conv1d: stride must be an integer or 1 of them, each >= 1",
        ),
        (
            lambda: F.conv1d(x[0, 0], w),
            ValueError,
            r"conv1d: x must have 3 dimensions \(N, C, L\) or 2 without N",
        ),
        (
            lambda: F.conv3d(volume, ts.zeros((2, 2, 5, 1, 1))),
            ValueError,
            r"conv3d: kernel_size 5 .* \(dimension 2\)",
        ),
        (
            lambda: F.conv3d(volume, ts.zeros((3, 1, 1, 1, 1)), groups=2),
            ValueError,
            "conv3d: groups must be >= 1 and divide",
        ),
        (
            lambda: F.conv_transpose1d(x, ts.zeros((3, 4, 3)), stride=2, output_padding=2),
            ValueError,
            "conv_transpose1d: output_padding must be smaller than stride, got 2 and 2",
        ),
        (
            lambda: F.conv_transpose3d(volume, ts.zeros((2, 1, 1, 1, 1)), padding=2),
            ValueError,
            "conv_transpose3d: the result would have extent 0",
        ),
        (lambda: nn.Conv1d(4, 6, 3, groups=3), ValueError, "Conv1d: in_channels must be divisible by groups"),
        (
            lambda: nn.ConvTranspose2d(4, 6, (3, 3, 3)),
            ValueError,
            "ConvTranspose2d: kernel_size must be an integer or a pair",
        ),
    ]
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()
