"""Convolutions of bfloat16 numbers: values and gradients against float64, bits, layers, and under autocast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from cases.conv import reference
from tensorsmith import nn
from tensorsmith.nn import functional as F

core = ts._core.ops
SHAPES = [
    # x                  filters        stride  padding dilation groups
    ((2, 35, 12, 31), (20, 35, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 64, 9, 9), (70, 64, 3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((2, 40, 7, 12), (33, 40, 3, 2), (1, 2), (2, 1), (2, 3), 1),
    ((2, 3, 21, 37), (17, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((2, 1, 11, 11), (9, 1, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 16, 8, 8), (16, 16, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    ((2, 96, 7, 6), (64, 96, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 70, 9, 8), (36, 70, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((2, 24, 8, 9), (36, 12, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((2, 80, 6, 10), (40, 40, 3, 3), (3, 2), (1, 1), (1, 1), 2),
    ((2, 18, 9, 10), (18, 1, 3, 3), (1, 1), (1, 1), (1, 1), 18),
    ((2, 12, 6, 6), (24, 4, 3, 3), (2, 1), (1, 1), (1, 1), 3),
    ((1, 260, 5, 5), (10, 260, 3, 3), (1, 1), (0, 1), (1, 1), 1),
    ((2, 8, 4, 70), (130, 8, 1, 5), (1, 1), (0, 4), (1, 2), 1),
]


def rounded(rng: np.random.Generator, *shape: int) -> ts.Tensor:
    return ts.asarray(rng.standard_normal(shape).astype(np.float32)).astype(ts.bfloat16)


def wide(x: ts.Tensor) -> np.ndarray:
    return x.astype(ts.float64).numpy()


def operands(i: int) -> tuple[ts.Tensor, ts.Tensor, ts.Tensor, ts.Tensor, tuple[Any, ...]]:
    """x, weight, bias, dy and the options of SHAPES[i]."""
    x, w, *options = SHAPES[i]
    rng = np.random.default_rng(i)
    a, f, b = rounded(rng, *x), rounded(rng, *w), rounded(rng, w[0])
    return a, f, b, rounded(rng, *core.conv2d(a, f, b, *options).shape), tuple(options)


def close(found: ts.Tensor, exact: np.ndarray, absolute: np.ndarray, terms: float, eps: float) -> None:
    """One rounding to eps, and float32's bound of the sum."""
    bound = eps * np.abs(exact) + 2 * np.sqrt(terms) * 2.0**-23 * absolute + 1e-30
    error = np.abs(wide(found) - exact)
    assert (error <= bound).all(), float((error / bound).max())


def gradients(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray, options: tuple[Any, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of x, weight and bias, from the definition, in float64."""
    torch = pytest.importorskip("torch")
    a, f, g = (torch.from_numpy(v) for v in (x, w, dy))
    s, p, d, groups = options
    return (
        torch.nn.grad.conv2d_input(a.shape, f, g, s, p, d, groups).numpy(),
        torch.nn.grad.conv2d_weight(a, f.shape, g, s, p, d, groups).numpy(),
        dy.sum((0, 2, 3)),
    )


@pytest.mark.parametrize("i", range(len(SHAPES)))
def test_forward(i: int) -> None:
    x, w, b, _, options = operands(i)
    run = reference(*options)
    exact = run(wide(x), wide(w), wide(b))
    absolute = run(np.abs(wide(x)), np.abs(wide(w)), np.abs(wide(b)))
    terms = float(np.prod(w.shape[1:])) + 1
    y = ts.conv2d(x, w, b, *options)
    assert y.dtype == ts.bfloat16
    close(y, exact, absolute, terms, 2.0**-8)
    close(ts.conv2d_relu(x, w, b, *options), np.maximum(exact, 0), absolute, terms, 2.0**-8)
    # float32 operands are rounded to the same numbers
    np.testing.assert_array_equal(
        wide(core.conv2d_bf16(x.astype(ts.float32), w, b.astype(ts.float32), *options)), wide(y)
    )


@pytest.mark.parametrize("i", range(len(SHAPES)))
def test_gradients(i: int) -> None:
    x, w, _, dy, options = operands(i)
    exact = gradients(wide(x), wide(w), wide(dy), options)
    absolute = gradients(np.abs(wide(x)), np.abs(wide(w)), np.abs(wide(dy)), options)
    terms = (float(np.prod(w.shape)), *(float(dy.size / dy.shape[1]),) * 2)
    for dtype, eps in (("bfloat16", 2.0**-8), ("float32", 2.0**-23)):
        found = (
            core.conv2d_input_backward_bf16(dy, w, x.shape, *options, dtype),
            *core.conv2d_weight_backward_bf16(dy, x, w.shape, *options, dtype),
        )
        for values in zip(found, exact, absolute, terms, strict=True):
            assert str(values[0].dtype) == dtype
            close(*values, eps)
    np.testing.assert_array_equal(
        wide(core.conv2d_input_backward(dy, w, x.shape, *options)),
        wide(core.conv2d_input_backward_bf16(dy.astype(ts.float32), w, x.shape, *options)),
    )


@pytest.mark.parametrize("i", range(len(SHAPES)))
def test_bits(i: int) -> None:
    """Layouts, threads, and the other images of the batch change nothing."""
    x, w, b, dy, options = operands(i)

    def last(v: ts.Tensor) -> ts.Tensor:
        return ts.permute_dims(ts.permute_dims(v, (0, 2, 3, 1)) + 0, (0, 3, 1, 2))

    def run(a: ts.Tensor, g: ts.Tensor) -> list[np.ndarray]:
        return [
            wide(core.conv2d(a, w, b, *options)),
            wide(core.conv2d_input_backward_bf16(g, w, a.shape, *options, "float32")),
            *map(wide, core.conv2d_weight_backward_bf16(g, a, w.shape, *options, "float32")),
        ]

    whole = run(x, dy)
    threads = ts.get_num_threads()
    try:
        ts.set_num_threads(1)
        alone = run(x, dy)
    finally:
        ts.set_num_threads(threads)
    strided = ts.permute_dims(ts.permute_dims(x, (3, 1, 0, 2)) + 0, (2, 1, 3, 0))
    for other in (alone, run(last(x), last(dy)), run(strided, dy)):
        assert all(np.array_equal(p, q) for p, q in zip(whole, other, strict=True))
    n = x.shape[0] - 1
    for v, one in zip(whole[:2], run(x[n:], dy[n:])[:2], strict=True):
        np.testing.assert_array_equal(v[n:], one)


def test_autocast() -> None:
    ts.manual_seed(0)
    rng = np.random.default_rng(0)
    x = ts.asarray(rng.standard_normal((2, 3, 9, 9)).astype(np.float32)).requires_grad_()
    # Smooth: where rounding turns a relu on or off, gradients would differ by whole terms.
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.Tanh(), nn.Conv2d(12, 5, 3, stride=2))
    with ts.autocast():
        y = net(x)
        assert y.dtype == ts.bfloat16
        assert F.conv2d(x.astype(ts.float64), ts.ones((2, 3, 1, 1), dtype=ts.float64)).dtype == ts.float64
    (y.astype(ts.float32) ** 2).sum().backward()
    found = [p.grad for p in (x, *net.parameters())]
    assert all(g.dtype == ts.float32 for g in found)
    x.grad = None
    net.zero_grad()
    plain = net(x)
    assert plain.dtype == ts.float32
    (plain**2).sum().backward()
    np.testing.assert_allclose(wide(y.detach()), wide(plain.detach()), atol=0.02)
    for g, p in zip(found, (x, *net.parameters()), strict=True):
        np.testing.assert_allclose(
            wide(g), wide(p.grad), atol=0.02 * float(ts.max(ts.abs(p.grad)).item()) + 1e-6
        )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_layers_under_autocast(rank: int, kind: str) -> None:
    ts.manual_seed(1)
    rng = np.random.default_rng(1)
    layers = [getattr(nn, f"{kind}{rank}d")(4, 4, 2, stride=2) for _ in range(2)]
    x = ts.asarray(rng.standard_normal((2, 4, *(8, 4, 6)[:rank])).astype(np.float32))
    exact = layers[1](layers[0](x))
    with ts.autocast():
        y = layers[1](layers[0](x))
    np.testing.assert_allclose(wide(y.detach()), wide(exact.detach()), atol=0.03)


def test_second_derivative() -> None:
    """The rules of the bfloat16 operations are those of the float32 ones."""
    rng = np.random.default_rng(2)
    x, w = (ts.asarray(rng.standard_normal(s).astype(np.float32)) for s in ((1, 9, 5, 5), (10, 9, 3, 3)))

    def norm(lowered: bool) -> list[np.ndarray]:
        a, f = (ts.asarray(v.numpy().copy()).requires_grad_() for v in (x, w))
        with ts.autocast(enabled=lowered):
            y = F.conv2d(a, f, padding=1)
        y = y.astype(ts.float32)
        ga, gf = ts.autograd.gradients((y * y).sum(), (a, f), create_graph=True)
        ((ga * ga).sum() + (gf * gf).sum()).backward()
        return [wide(a.grad), wide(f.grad)]

    for low, high in zip(norm(True), norm(False), strict=True):
        assert np.abs(low - high).max() <= 0.02 * np.abs(high).max()


def test_errors() -> None:
    x, w = ts.ones((1, 9, 4, 4), dtype=ts.bfloat16), ts.ones((3, 9, 3, 3), dtype=ts.bfloat16)
    for call, message in [
        (lambda: ts.conv2d(x, w.astype(ts.float32)), "conv2d: weight is float32"),
        (lambda: ts.conv2d(x, w, ts.ones((3,))), "conv2d: bias is float32"),
        (
            lambda: core.conv2d_bf16(x, w.astype(ts.float64)),
            "conv2d_bf16: weight is float64; bfloat16 or float32",
        ),
        (
            lambda: core.conv2d_input_backward_bf16(x, w, (1, 9, 4, 4), 1, 0, 1, 1, "float64"),
            "conv2d_input_backward_bf16: dtype must be bfloat16 or float32, got float64",
        ),
    ]:
        with pytest.raises(TypeError, match=message):
            call()
