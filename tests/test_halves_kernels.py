"""Kernels that read and write float16 and bfloat16: the bits of widening whole operands, computing, rounding once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
import tensorsmith.nn.functional as F
from tensorsmith._core import ops as core

HALVES = ["float16", "bfloat16"]


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def _threads(request: Any) -> Iterator[None]:
    before = ts.get_num_threads()
    ts.set_num_threads(request.param)
    yield
    ts.set_num_threads(before)


pytestmark = pytest.mark.usefixtures("_threads")


def wide(x: Any) -> Any:
    return x.astype("float32") if isinstance(x, ts.Tensor) and str(x.dtype) in HALVES else x


def same(mine: Any, expected: Any, what: Any = None) -> None:
    """Results that are halves against float32 ones, which are rounded here; others as they are. Any NaN is one."""
    mine, expected = (y if isinstance(y, tuple) else (y,) for y in (mine, expected))
    assert len(mine) == len(expected)
    for a, b in zip(mine, expected, strict=True):
        assert a.shape == b.shape, what
        if str(a.dtype) in HALVES:
            b = b.astype(a.dtype)
        else:
            assert a.dtype == b.dtype, what
        a, b = (wide(y).numpy() for y in (a, b))
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=str(what))
        np.testing.assert_array_equal(
            np.where(np.isnan(a), 0, a), np.where(np.isnan(b), 0, b), err_msg=str(what)
        )
        np.testing.assert_array_equal(
            np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)], err_msg=str(what)
        )


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0, special: bool = False) -> ts.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 3
    if special and x.size > 8:
        flat = x.reshape(-1)
        flat[rng.integers(0, x.size, 6)] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40]
    return ts.asarray(x).astype(dtype)


def layouts(shape: tuple[int, int], dtype: str, special: bool = False) -> Iterator[ts.Tensor]:
    m, n = shape
    yield numbers((m, n), dtype, 1, special)
    yield numbers((n, m), dtype, 2, special).T
    yield numbers((m, 2 * n), dtype, 3, special)[:, ::2]
    yield numbers((m, n), dtype, 4, special)[::-1, ::-1]
    yield numbers((m, n + 3), dtype, 5, special)[:, 3:]


SHAPES = [(1, 1), (3, 5), (2, 16), (7, 33), (5, 257), (40, 1000), (3, 4099), (130, 64), (2050, 17)]

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": ts.sum,
    "mean": ts.mean,
    "prod": ts.prod,
    "max": ts.max,
    "min": ts.min,
    "var": ts.var,
    "argmax": ts.argmax,
    "argmin": ts.argmin,
    "logsumexp": ts.logsumexp,
    "norm1": lambda x, axis: ts.linalg.vector_norm(x, axis=axis, ord=1),
    "norm2": lambda x, axis: ts.linalg.vector_norm(x, axis=axis),
    "norm inf": lambda x, axis: ts.linalg.vector_norm(x, axis=axis, ord=math.inf),
    "cumsum": lambda x, axis: ts.cumsum(x, axis=axis),
    "cumprod": lambda x, axis: ts.cumprod(x, axis=axis),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, dtype: str) -> None:
    reduce = REDUCTIONS[name]
    for shape in SHAPES:
        for special in (False, True):
            for x in layouts(shape, dtype, special):
                for axis in (None, 0, 1):
                    with np.errstate(all="ignore"):
                        same(
                            reduce(x, axis=axis),
                            reduce(wide(x), axis=axis),
                            (shape, special, axis, x.strides),
                        )


@pytest.mark.parametrize("name", ["sum", "max", "argmax", "var", "logsumexp"])
def test_long_reductions(name: str) -> None:
    """Several pieces, the first and last of them not whole; and columns that no cache holds."""
    reduce = REDUCTIONS[name]
    x = numbers((1_100_003,), "bfloat16")
    same(reduce(x, axis=None), reduce(wide(x), axis=None))
    x = numbers((6, 300_001), "bfloat16")
    for axis in (0, 1):
        same(reduce(x, axis=axis), reduce(wide(x), axis=axis))
    x = ts.permute_dims(numbers((40, 3, 128), "bfloat16"), (1, 0, 2))
    axis = 1 if name == "argmax" else (0, 2)
    same(reduce(x, axis=axis), reduce(wide(x), axis=axis))


def test_sum_into_float32_and_float64() -> None:
    x = numbers((300, 301), "bfloat16")
    for dtype in ("float32", "float64"):
        assert ts.sum(x, axis=0, dtype=dtype).tolist() == ts.sum(x.astype(dtype), axis=0).tolist()
    assert ts.cumsum(x, axis=1, dtype="float32").tolist() == ts.cumsum(wide(x), axis=1).tolist()


def test_nothing_to_reduce() -> None:
    x = ts.zeros((0, 3), dtype="bfloat16")
    same(ts.sum(x, axis=0), ts.zeros((3,)))
    same(ts.logsumexp(x, axis=0), ts.full((3,), -math.inf))
    assert ts.sum(x, axis=1).shape == (0,)
    with pytest.raises(ValueError, match="max: an empty input has no maximum"):
        ts.max(x, axis=0)


ROWS: dict[str, Callable[..., Any]] = {
    "softmax": lambda x, dy, w, b: core.softmax(x, -1),
    "softmax axis 0": lambda x, dy, w, b: core.softmax(x, 0),
    "softmax_backward": lambda x, dy, w, b: core.softmax_backward(dy, x, -1),
    "log_softmax": lambda x, dy, w, b: core.log_softmax(x, 1),
    "log_softmax_backward": lambda x, dy, w, b: core.log_softmax_backward(dy, x, 1),
    "layer_norm": lambda x, dy, w, b: core.layer_norm(x, (x.shape[1],), w, b, 1e-5),
    "layer_norm plain": lambda x, dy, w, b: core.layer_norm(x, (x.shape[1],), None, None, 1e-5),
    "rms_norm": lambda x, dy, w, b: core.rms_norm(x, (x.shape[1],), w, 1e-5),
    "channel_affine": lambda x, dy, w, b: core.channel_affine(x, w, b),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str, dtype: str) -> None:
    f = ROWS[name]
    for shape in SHAPES:
        for special in (False, True):
            w, b = (numbers((shape[1],), dtype, s) for s in (7, 8))
            for x in layouts(shape, dtype, special):
                dy = numbers(shape, dtype, 9)
                same(f(x, dy, w, b), f(*map(wide, (x, dy, w, b))), (shape, special, x.strides))
                if "softmax" not in name:  # with parameters of float32
                    same(f(x, dy, wide(w), wide(b)), f(*map(wide, (x, dy, w, b))), shape)
    long = numbers((2, 300_001), dtype)  # rows for all threads
    w, b = (numbers((300_001,), dtype, s) for s in (7, 8))
    same(f(long, long, w, b), f(*map(wide, (long, long, w, b))), "long rows")


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_norms(dtype: str) -> None:
    for shape in [(1, 1), (3, 5), (7, 33), (70, 257), (300, 64), (2, 300_001)]:
        x, dy = numbers(shape, dtype, 1), numbers(shape, dtype, 2)
        w = numbers((shape[1],), dtype, 3)
        statistics = [core.mean(wide(x), 1, None, False), core.exp(core.mean(wide(x), 1, None, False))]
        a = core.layer_norm_backward(dy, x, w, *statistics, (shape[1],), True)
        b2 = core.layer_norm_backward(*map(wide, (dy, x, w)), *statistics, (shape[1],), True)
        assert str(a[1].dtype) == "float32"  # rounded where the graph hands it on
        same(a, b2, shape)
        same(
            core.rms_norm_backward(dy, x, w, statistics[1], (shape[1],)),
            core.rms_norm_backward(*map(wide, (dy, x, w)), statistics[1], (shape[1],)),
            shape,
        )


IMAGES = [(2, 3, 5, 7), (4, 8, 6, 6), (3, 64, 9, 5), (2, 1, 1, 3), (5, 16), (2, 4, 40_001)]


def images(shape: tuple[int, ...], dtype: str, seed: int) -> Iterator[ts.Tensor]:
    yield numbers(shape, dtype, seed)
    if len(shape) == 4:
        n, c, h, w = shape
        yield ts.permute_dims(numbers((n, h, w, c), dtype, seed), (0, 3, 1, 2))  # channels last
        yield numbers((n, c, h, 2 * w), dtype, seed)[..., ::2]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm(dtype: str, relu: bool) -> None:
    f = core.batch_norm_relu if relu else core.batch_norm
    g = core.batch_norm_relu_backward if relu else core.batch_norm_backward
    for shape in IMAGES:
        c = shape[1]
        w, b = numbers((c,), dtype, 3), numbers((c,), dtype, 4)
        for x, dy in zip(images(shape, dtype, 1), images(shape, dtype, 2), strict=True):
            running = [ts.zeros(c), ts.ones(c)]
            wide_running = [ts.zeros(c), ts.ones(c)]
            narrow = [numbers((c,), dtype, 5), ts.abs(numbers((c,), dtype, 6))]
            rounded = [wide(r) for r in narrow]
            expected = f(wide(x), wide(w), wide(b), *wide_running, 0.1, 1e-5)
            same(f(x, w, b, *running, 0.1, 1e-5), expected, shape)
            same(tuple(running), tuple(wide_running), shape)
            f(x, wide(w), wide(b), *narrow, 0.1, 1e-5)  # running statistics of halves: rounded once
            f(wide(x), wide(w), wide(b), *rounded, 0.1, 1e-5)
            same(tuple(narrow), tuple(rounded), shape)
            axes = (0, *range(2, x.ndim))
            mean, rstd = (
                core.mean(wide(x), axes, None, False),
                1 / core.mean(core.absolute(wide(x)), axes, None, False),
            )
            more = (b,) if relu else ()
            same(
                g(dy, x, w, *more, mean, rstd),
                g(*map(wide, (dy, x, w, *more)), mean, rstd),
                shape,
            )


@pytest.mark.parametrize("dtype", HALVES)
def test_group_norm(dtype: str) -> None:
    for shape in IMAGES:
        c = shape[1]
        for groups in {1, c}:
            w, b = numbers((c,), dtype, 3), numbers((c,), dtype, 4)
            x, dy = numbers(shape, dtype, 1), numbers(shape, dtype, 2)
            mean, rstd = (
                numbers((shape[0] * groups,), "float32", 5),
                numbers((shape[0] * groups,), "float32", 6),
            )
            same(
                core.group_norm(x, groups, w, b, 1e-5),
                core.group_norm(*map(wide, (x,)), groups, wide(w), wide(b), 1e-5),
            )
            same(
                core.group_norm_backward(dy, x, w, mean, rstd, groups),
                core.group_norm_backward(*map(wide, (dy, x, w)), mean, rstd, groups),
            )


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy(dtype: str, smoothing: float, reduction: str) -> None:
    rng = np.random.default_rng(0)
    for n, c in [(1, 1), (3, 5), (17, 33), (40, 1000), (2, 300_001)]:
        x, w = numbers((n, c), dtype), ts.abs(numbers((c,), dtype, 2))
        t = rng.integers(0, c, n)
        t[0] = -100 if n > 1 else t[0]
        target = ts.asarray(t)
        for weight in (None, w):
            options = (-100, reduction, smoothing)
            mine = core.cross_entropy(x, target, weight, *options)
            expected = core.cross_entropy(wide(x), target, wide(weight), *options)
            same(mine, expected, (n, c))
            narrow, broad = x.detach().requires_grad_(), wide(x).detach().requires_grad_()
            y = core.cross_entropy(narrow, target, weight, *options)
            z = core.cross_entropy(broad, target, wide(weight), *options)
            y.backward(ts.ones_like(y))
            z.backward(ts.ones_like(z))
            same(narrow.grad, broad.grad, (n, c))


@pytest.mark.parametrize("dtype", HALVES)
def test_dropout(dtype: str) -> None:
    for size in (1, 7, 33, 1000, 100_003):
        x = numbers((size,), dtype)
        found = []
        for v in (x, wide(x)):
            ts.manual_seed(5)
            v = v.detach().requires_grad_()
            y = ts.nn.functional.dropout(v, 0.3)
            y.backward(ts.ones_like(y))
            found.append((y.detach(), v.grad))
        same(*found, size)


def test_second_derivatives_are_computed_in_float32() -> None:
    """Rules of several operations do not round between them."""
    mean, rstd = numbers((4,), "float32", 5), ts.abs(numbers((4,), "float32", 6))
    rules: dict[str, Callable[..., Any]] = {
        "softmax": lambda dy, x, w: core.softmax_backward(dy, x, -1),
        "log_softmax": lambda dy, x, w: core.log_softmax_backward(dy, x, -1),
        "layer_norm": lambda dy, x, w: core.layer_norm_backward(dy, x, w, mean, rstd, (9,), True)[0],
        "rms_norm": lambda dy, x, w: core.rms_norm_backward(dy, x, w, rstd, (9,))[0],
    }
    for name, rule in rules.items():
        operands = [numbers(shape, "bfloat16", seed) for seed, shape in enumerate([(4, 9), (4, 9), (9,)])]
        dy = numbers((4, 9), "bfloat16", 7)
        narrow, broad = (
            [convert(x).detach().requires_grad_() for x in operands] for convert in (ts.array, wide)
        )
        rule(*narrow).backward(dy)
        rule(*broad).backward(wide(dy))
        for mine, expected in zip(narrow, broad, strict=True):
            if expected.grad is not None:
                assert mine.grad.dtype == "bfloat16"
                same(mine.grad, expected.grad, name)


@pytest.mark.parametrize("dtype", HALVES)
def test_tables_have_the_bits_of_computing(dtype: str) -> None:
    """Large operands look results up; small ones, before there is a table, compute: every half, and any layout."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    every = (
        ts.asarray((bits.astype(np.uint32) << 16).view(np.float32)).astype(dtype)
        if dtype == "bfloat16"
        else ts.asarray(bits.view(np.float16))
    )
    many = ts.concat([every, every[::-1], every])
    with np.errstate(all="ignore"):
        for f in (ts.tanh, ts.gelu, ts.log1p, ts.erf, ts.sigmoid, ts.sin):
            for x in (every[:999], many, many.reshape(3, -1).T, every[::2], many):
                same(f(x), f(wide(x)), f)
            row = ts.broadcast_to(every[:512], (500, 512))
            same(f(row), f(wide(row)), f)
            y = ts.array(many)
            y[:] = f(y)
            same(y, f(wide(many)), f)


def test_gradients_of_lookups() -> None:
    """Summed in float32, rounded once."""
    rng = np.random.default_rng(0)
    dy = numbers((4000, 33), "bfloat16")
    index = ts.asarray(rng.integers(0, 50, 4000))
    same(core.embedding_backward(dy, index, 50, 3), core.embedding_backward(wide(dy), index, 50, 3))
    places = ts.asarray(rng.integers(0, 20, (4000, 33)))
    same(core.gather_backward(dy, 0, places, (20, 33)), core.gather_backward(wide(dy), 0, places, (20, 33)))


@pytest.mark.parametrize("dtype", HALVES)
def test_index_add(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for n, m, b in [(1, 1, 1), (5, 9, 7), (300, 1000, 65), (3, 5000, 33), (4000, 100, 130), (2, 0, 3)]:
        index = ts.asarray(rng.integers(0, n, m))
        y, x = numbers((n, b), dtype, 1), numbers((m, b), dtype, 2)
        expected = ts.index_add(wide(y), 0, index, wide(x))
        same(ts.index_add(y, 0, index, x), expected, (n, m, b))
        same(ts.index_add(y.T, 1, index, x.T), expected.T, (n, m, b))
        same(ts.index_add(ts.array(y.T), 1, index, ts.array(x.T)), expected.T, (n, m, b))


def test_short_formulas_on_bfloat16() -> None:
    """Pairs in registers: every number with many others, and any layout."""
    bits = np.arange(1 << 16, dtype=np.uint32)
    every = ts.asarray((bits << 16).view(np.float32)).astype("bfloat16")
    others = ts.roll(every, 12_345)
    x, y = numbers((70, 333), "bfloat16", 1, True), numbers((70, 333), "bfloat16", 2, True)
    with np.errstate(all="ignore"):
        for f in (ts.add, ts.subtract, ts.multiply, ts.divide, core.relu_backward):
            for n in (1, 2, 31, 32, 33, 65, 1000, 1 << 16):
                same(f(every[-n:], others[:n]), f(wide(every[-n:]), wide(others[:n])), (f, n))
            for a, b in (
                (x, y[0]),
                (x[:, :1], y),
                (x.T, y.T),
                (x, ts.array(y.T).T),
                (x[:, 1::2], y[:, :332:2]),
                (x, y[::-1]),
            ):
                same(f(a, b), f(wide(a), wide(b)), (f, a.strides, b.strides))
            if f is not core.relu_backward:
                same(f(x, 1.7), f(wide(x), float(ts.asarray(1.7).astype("bfloat16"))), f)
                same(f(3, x), f(3.0, wide(x)), f)
            z = ts.array(x)
            z += y
            same(z, ts.add(wide(x), wide(y)))
        same(ts.nn.functional.relu(every), ts.nn.functional.relu(wide(every)))
        same(ts.nn.functional.relu(x[:, ::3]), ts.nn.functional.relu(wide(x[:, ::3])))
        out = ts.zeros(x.shape, dtype="bfloat16")
        same(ts.add(x, wide(y), out=ts.zeros(x.shape)), ts.add(wide(x), wide(y)))  # float32 beside bfloat16
        ts.multiply(x, y, out=out)
        same(out, ts.multiply(wide(x), wide(y)))


POOLS: list[tuple[Any, ...]] = [  # kernel, stride, padding, dilation
    (2, 2, 0, 1),
    (3, 2, 1, 1),
    (3, 1, 1, 1),
    ((2, 3), (1, 2), (1, 0), (2, 1)),
    (7, 1, 3, 1),  # 49 windows meet in an input
    (17, 1, 8, 1),  # more taps than a byte counts
]
POOLED = [(1, 1, 2, 2), (2, 3, 18, 35), (2, 16, 9, 9), (1, 33, 8, 67), (1, 1030, 7, 7)]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_pooling(pool: tuple[Any, ...], dtype: str) -> None:
    kernel, stride, padding, dilation = pool
    span = max(kernel) * 2 if isinstance(kernel, tuple) else kernel
    for shape in POOLED:
        if min(shape[2:]) < span or (span > 9 and shape[1] > 16):
            continue
        for x in images(shape, dtype, 1):
            for f in _pools(kernel, stride, padding, dilation):
                for v in (x, ts.where(x > 3, math.nan, x)):
                    narrow, broad = v.detach().requires_grad_(), wide(v).detach().requires_grad_()
                    y, z = f(narrow), f(broad)
                    same(y.detach(), z.detach(), (shape, x.strides))
                    for dy in images(tuple(y.shape), dtype, 2):
                        narrow.grad = broad.grad = None
                        y.backward(dy, retain_graph=True)
                        z.backward(wide(dy), retain_graph=True)
                        same(narrow.grad, broad.grad, (shape, x.strides, dy.strides))


def _pools(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Iterator[Callable[..., Any]]:
    yield lambda x: core.max_pool2d(x, kernel, stride, padding, dilation, False)
    if dilation == 1:
        yield lambda x: core.avg_pool2d(x, kernel, stride, padding, False, False, None)


RESAMPLED: dict[str, Callable[..., Any]] = {
    "bilinear up": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear down": lambda x: F.interpolate(x, size=(3, 5), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, size=(11, 40), mode="bicubic"),
    "nearest": lambda x: F.interpolate(x, size=(9, 30), mode="nearest"),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive 1": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive mixed": lambda x: F.adaptive_avg_pool2d(x, (1, 4)),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", RESAMPLED)
def test_resampling(name: str, dtype: str) -> None:
    f = RESAMPLED[name]
    for shape in [(1, 1, 5, 7), (2, 3, 6, 33), (2, 16, 9, 9), (1, 33, 8, 67), (3, 40, 40, 24)]:
        for x in images(shape, dtype, 1):
            narrow, broad = x.detach().requires_grad_(), wide(x).detach().requires_grad_()
            y, z = f(narrow), f(broad)
            same(y.detach(), z.detach(), (shape, x.strides))
            dy = numbers(tuple(y.shape), dtype, 2)
            y.backward(dy)
            z.backward(wide(dy))
            same(narrow.grad, broad.grad, (shape, x.strides))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode: str, dtype: str) -> None:
    for shape in [(1, 1, 5, 7), (2, 16, 9, 9), (1, 33, 8, 17), (2, 70, 5, 4)]:
        points = core.clip(numbers((shape[0], 6, 5, 2), dtype, 3) * 0.4, -1.3, 1.3)
        for x in images(shape, dtype, 1):
            results = []
            for convert in (ts.array, wide):
                v, grid = (convert(t).detach().requires_grad_() for t in (x, points))
                y = F.grid_sample(v, grid, mode, align_corners=False)
                dy = convert(numbers(tuple(y.shape), dtype, 2))
                y.backward(dy)
                results.append((y.detach(), v.grad, grid.grad))
            same(*results, (shape, x.strides))


def test_second_derivatives_of_grid_sample() -> None:
    results = []
    for convert in (ts.array, wide):
        x, grid = (
            convert(t).detach().requires_grad_()
            for t in (numbers((1, 3, 5, 6), "bfloat16", 1), numbers((1, 4, 4, 2), "bfloat16", 2) * 0.3)
        )
        y = F.grid_sample(x, grid, align_corners=True)
        y.backward(convert(numbers((1, 3, 4, 4), "bfloat16", 3)), create_graph=True)
        results.append((x.grad.detach(), grid.grad.detach()))
        assert grid.grad.requires_grad
    same(*results)


@pytest.mark.parametrize("dtype", HALVES)
def test_scatter_add(dtype: str) -> None:
    rng = np.random.default_rng(2)
    for n, m, b in [(1, 1, 1), (5, 9, 7), (30, 1000, 65), (1000, 20_000, 33), (3, 300, 130)]:
        x, source = numbers((n, b), dtype, 1), numbers((m, b), dtype, 2)
        each = ts.asarray(rng.integers(0, n, (m, b)))
        row = ts.broadcast_to(ts.asarray(rng.integers(0, n, (m, 1))), (m, b))
        for index in (each, row):
            expected = ts.scatter_add(wide(x), 0, index, wide(source))
            same(ts.scatter_add(x, 0, index, source), expected, (n, m, b))
            same(ts.scatter_add(ts.array(x.T), 1, index.T, ts.array(source.T)), expected.T, (n, m, b))
            same(
                core.gather_backward(source, 0, index, (n, b)),
                core.gather_backward(wide(source), 0, index, (n, b)),
                (n, m, b),
            )


@pytest.mark.parametrize("dtype", HALVES)
def test_running_extremes(dtype: str) -> None:
    for shape in SHAPES:
        for special in (False, True):
            for x in layouts(shape, dtype, special):
                for f in (ts.cummax, ts.cummin):
                    for axis in (0, 1):
                        same(tuple(f(x, axis)), tuple(f(wide(x), axis)), (shape, special, axis, x.strides))
