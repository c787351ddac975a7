"""ts.jit: pointwise steps behind a product run on its blocks, with the bits of single steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith.nn import functional as F


def tensor(*shape: int, seed: int = 0, dtype: Any = ts.float32) -> ts.Tensor:
    return ts.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def images(*shape: int, seed: int = 0, dtype: Any = ts.float32) -> ts.Tensor:
    """Channels last beneath, as convolutions leave them."""
    n, c, h, w = shape
    return tensor(n, h, w, c, seed=seed, dtype=dtype).permute_dims((0, 3, 1, 2))


# c is the product, y of its shape, b a value for each column, kept an operand that is written in place.
EPILOGUES: dict[str, Any] = {
    "one": lambda c, y, b, kept: F.gelu(c),
    "long": lambda c, y, b, kept: ts.asinh(c),
    "residual": lambda c, y, b, kept: y + c,
    "several": lambda c, y, b, kept: F.relu(c * b + y) * c,
    "both": lambda c, y, b, kept: (c, ts.tanh(c) * 2),
    "in place": lambda c, y, b, kept: kept.__iadd__(c),
    "on itself": lambda c, y, b, kept: c.__imul__(y).__iadd__(c),
    "cast": lambda c, y, b, kept: (c > y, c.astype(ts.float64) + y),
    "scalar": lambda c, y, b, kept: ts.where(c > 0, c, c * 0.1),
    "twice": lambda c, y, b, kept: (c + y, (c + y) * c),
}


def same_bits(f: Any, *args: Any) -> str:
    g = ts.jit(f)

    def run(f: Any) -> list[bytes]:
        kept = args[-1].clone()
        result = f(*args[:-1], kept)
        return [v.numpy().tobytes() for v in (*(result if isinstance(result, tuple) else (result,)), kept)]

    run(g)
    for _ in range(2):
        assert run(f) == run(g)
    assert g.cache_info().misses == 1
    text: str = g.graph()
    return text


@pytest.mark.parametrize("name", EPILOGUES)
@pytest.mark.parametrize("shape", [(17_001, 40, 37), (3, 6000, 33, 48), (9_000, 1030, 63), (40_001, 7, 16)])
@pytest.mark.parametrize("dtype", [ts.float32, ts.float64])
def test_after_a_matrix_product(name: str, shape: tuple[int, ...], dtype: Any, threads: int) -> None:
    *rows, k, n = shape
    x, w = tensor(*rows, k, dtype=dtype), tensor(k, n, seed=1, dtype=dtype)
    y, b = tensor(*rows, n, seed=2, dtype=dtype), tensor(n, seed=3, dtype=dtype)
    text = same_bits(
        lambda x, y, b, kept: EPILOGUES[name](x @ w, y, b, kept),
        x,
        y,
        b,
        tensor(*rows, n, seed=4, dtype=dtype),
    )
    # Long arithmetic gains nothing behind few columns.
    assert ("gemm+" in text) == (n >= 32 or name != "long")


@pytest.mark.parametrize("name", EPILOGUES)
@pytest.mark.parametrize(
    "shape, weight, options",
    [
        ((5, 24, 61, 60), (32, 24, 3, 3), {"padding": 1}),
        ((4, 16, 113, 113), (56, 16, 3, 3), {"stride": 2, "padding": 1}),
        ((7, 40, 50, 50), (33, 40, 1, 1), {}),
        ((600, 32, 9, 7), (32, 32, 3, 3), {"padding": 1}),
        ((9, 32, 64, 64), (32, 4, 3, 3), {"padding": 1, "groups": 8}),
        ((8, 64, 40, 40), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
        ((1, 3, 300, 300), (48, 3, 5, 5), {"padding": 2}),
    ],
)
def test_after_a_convolution(name: str, shape: Any, weight: Any, options: Any, threads: int) -> None:
    x, w, bias = images(*shape), tensor(*weight, seed=1), tensor(weight[0], seed=2)

    def conv(x: Any) -> Any:
        return F.conv2d(x, w, bias, **options)

    like = conv(x).shape
    y, b, kept = images(*like, seed=3), tensor(like[1], 1, 1, seed=4), images(*like, seed=5)
    text = same_bits(lambda x, y, b, kept: EPILOGUES[name](conv(x), y, b, kept), x, y, b, kept)
    assert "conv2d+" in text


def test_after_an_input_gradient(threads: int) -> None:
    x, w = images(8, 32, 50, 50), tensor(32, 32, 3, 3, seed=1)

    def step(x: Any) -> Any:
        x = x.detach().requires_grad_()
        F.conv2d(F.relu(x * 2), w, None, 1, 1).sum().backward()
        return x.grad

    g = ts.jit(step)
    g(x)
    assert "conv2d_input_backward+relu_backward+multiply" in g.graph()
    assert g(x).numpy().tobytes() == step(x).numpy().tobytes()


def test_steps_that_lie_between() -> None:
    x, w, v = tensor(20_000, 32), tensor(32, 32, seed=1), tensor(32, 40, seed=2)

    @ts.jit
    def apart(x: Any) -> Any:  # the sum needs nothing of the tanh, which moves to before it
        c = x @ w
        d = x.sum(axis=0)
        return ts.tanh(c), d

    @ts.jit
    def behind(x: Any) -> Any:  # the tanh needs the sum
        c = x @ w
        d = c.sum(axis=0)
        return ts.tanh(c) * d

    @ts.jit
    def checked(x: Any, i: Any) -> Any:  # what may raise stays before
        c = x @ w
        d = ts.take(v, i, axis=0)
        return ts.tanh(c), d

    i = ts.asarray([0, 31])
    for _ in range(2):
        a, b, c = apart(x), behind(x), checked(x, i)
    assert "gemm+tanh" in apart.graph() and "gemm+" not in behind.graph() and "gemm+" not in checked.graph()
    product = x @ w
    for got, expected in (
        (a[0], ts.tanh(product)),
        (b, ts.tanh(product) * product.sum(axis=0)),
        (c[0], ts.tanh(product)),
    ):
        assert got.numpy().tobytes() == expected.numpy().tobytes()
    with pytest.raises(IndexError):
        checked(x, ts.asarray([0, 32]))
    assert checked(x, i)[1].numpy().tobytes() == c[1].numpy().tobytes()


def test_an_operand_of_the_product_is_not_written_before_its_end() -> None:
    w = tensor(48, 48, seed=1)

    def f(x: Any) -> Any:
        x += x @ w
        return x * 2

    g = ts.jit(f)
    for _ in range(3):
        assert g(tensor(12_000, 48)).numpy().tobytes() == f(tensor(12_000, 48)).numpy().tobytes()
    assert "gemm+" not in g.graph()


def test_small_and_wide_results_are_left_alone() -> None:
    """The small one is in cache when it is read; the wide one is made in strips."""
    for m, n in ((1000, 48), (2048, 512)):
        x, w = tensor(m, 16), tensor(16, n, seed=1)
        g = ts.jit(lambda x, w=w: F.relu(x @ w) + 1)
        g(x)
        assert "gemm+" not in g.graph()
        assert g(x).numpy().tobytes() == (F.relu(x @ w) + 1).numpy().tobytes()


def test_no_memory_for_a_result_that_nobody_else_reads() -> None:
    x, w = tensor(40_000, 32), tensor(32, 32, seed=1)
    g = ts.jit(lambda x: ts.tanh(x @ w))
    g(x)
    assert g.memory()[0]["arena_bytes"] == 0


ADDS: dict[str, Any] = {
    "after": lambda x, w, b, y: y + F.linear(x, w, b),
    "before": lambda x, w, b, y: F.linear(x, w, b) + y,
    "without a bias": lambda x, w, b, y: y + x @ w.T,
    "chain": lambda x, w, b, y: y + x @ w.T + F.linear(x, w, b) + (x * 2) @ w.T,
    "in place": lambda x, w, b, y: (y * 2).__iadd__(x @ w.T).__iadd__(F.linear(x, w, b)),
    "bias apart": lambda x, w, b, y: y + F.linear(x, w, ts.stack((b, b), axis=1)[:, 0]),
    "bias apart, in place": lambda x, w, b, y: (y * 2).__iadd__(
        F.linear(x, w, ts.stack((b, b), axis=1)[:, 0])
    ),
}


@pytest.mark.parametrize("name", ADDS)
@pytest.mark.parametrize(
    "shape",
    [(12, 64, 128, 128), (700, 33, 257), (130, 2100, 96), (90, 1200, 130), (6, 300, 1500), (2, 64, 5000)],
)
@pytest.mark.parametrize("dtype", [ts.float32, ts.float64])
def test_a_product_adds_another_matrix(name: str, shape: tuple[int, ...], dtype: Any, threads: int) -> None:
    """Results of any size and width; a long K, summed in blocks; few rows, which have kernels of their own."""
    *rows, k, n = shape
    x, w, b = tensor(*rows, k, dtype=dtype), tensor(n, k, seed=1, dtype=dtype), tensor(n, seed=2, dtype=dtype)
    text = same_bits(
        lambda x, w, b, y, kept: ADDS[name](x, w, b, y), x, w, b, tensor(*rows, n, seed=3, dtype=dtype), x
    )
    one_block = k * (4 if dtype == ts.float32 else 8) <= 4096  # else what is in place would be written over
    assert ("gemm+add" in text) == ("in place" not in name or (name == "in place" and one_block))


def test_what_a_product_does_not_add() -> None:
    x, w, y = tensor(512, 64), tensor(64, 128, seed=1), tensor(512, 128, seed=2)
    b, turned = tensor(128, seed=3), tensor(128, 512, seed=4).T
    for f in (
        lambda: (x @ w) + b,  # a row for all
        lambda: (lambda c: (c + y, c))(x @ w),  # the product itself is asked for
        lambda: (lambda c: c + c)(x @ w),
        lambda: (x @ w) + turned,  # columns where the product has rows
    ):
        g = ts.jit(f)
        g()
        assert "gemm+" not in g.graph()
        for got, expected in zip(np.atleast_1d(g()), np.atleast_1d(f()), strict=True):
            assert np.asarray(got).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("name", EPILOGUES)
@pytest.mark.parametrize("shape", [(5, 24, 31, 30), (32, 64, 8, 8), (3, 33, 40, 17), (2, 1040, 3, 5)])
@pytest.mark.parametrize("dtype", [ts.float32, ts.float64])
def test_after_a_batch_norm(name: str, shape: tuple[int, ...], dtype: Any, threads: int) -> None:
    c = shape[1]
    weight, bias, mean, var = (tensor(c, seed=k, dtype=dtype) for k in range(4))

    def norm(x: Any) -> Any:
        return F.batch_norm(x, mean, var, weight, bias, training=True)

    x, y, kept = (images(*shape, seed=k, dtype=dtype) for k in (4, 5, 6))
    b = tensor(c, 1, 1, seed=7, dtype=dtype)
    text = same_bits(lambda x, y, b, kept: EPILOGUES[name](norm(x), y, b, kept), x, y, b, kept)
    assert ("batch_norm+" in text) == (c >= 32 or name != "long")


@pytest.mark.parametrize("shape", [(8, 64, 128), (700, 33), (3, 5000)])
@pytest.mark.parametrize("dtype", [ts.float32, ts.float64])
def test_a_layer_norm_adds_the_gradient_that_there_is(
    shape: tuple[int, ...], dtype: Any, threads: int
) -> None:
    weight, bias = tensor(shape[-1], seed=1, dtype=dtype), tensor(shape[-1], seed=2, dtype=dtype)
    x, t = tensor(*shape, dtype=dtype), tensor(*shape, seed=3, dtype=dtype)

    def step(x: Any, t: Any) -> Any:
        x, w = x.detach().requires_grad_(), weight.detach().requires_grad_()
        h = F.layer_norm(
            x, (shape[-1],)
        )  # used twice: what the norm sends back is added to what the sum does
        (t * (h + F.gelu(F.layer_norm(h, (shape[-1],), w, bias)))).sum().backward()
        return x.grad, w.grad

    g = ts.jit(step)
    g(x, t)
    assert "layer_norm_backward+add" in g.graph()
    for got, expected in zip(g(x, t), step(x, t), strict=True):
        assert got.numpy().tobytes() == expected.numpy().tobytes()
