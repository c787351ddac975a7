"""Max pooling of rows: values, winning taps and gradients of all kinds of windows, to the bit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith._core import ops as core
from tensorsmith.nn import functional as F

DTYPES = ["float32", "float64", "bfloat16", "float16"]


def places(extent: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    room = extent + 2 * padding - dilation * (kernel - 1) - 1
    if room < 0:
        return 0
    count = (room + (stride - 1) * ceil) // stride + 1
    return count - (ceil and (count - 1) * stride >= extent + padding)


def pooled(x: np.ndarray, shape: list[int], options: list[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """Maxima, the taps that they are, and their places in a plane (-1: a window of padding alone)."""
    (kernel, stride, padding, dilation), image = options, x.shape[2:]
    best, taps, at = np.full(shape, -np.inf, x.dtype), np.zeros(shape, int), np.full(shape, -1)
    for tap, ij in enumerate(itertools.product(range(kernel[0]), range(kernel[1]))):
        h, w = (np.arange(shape[2 + a]) * stride[a] - padding[a] + ij[a] * dilation[a] for a in range(2))
        inside = ((h >= 0) & (h < image[0]))[:, None] & ((w >= 0) & (w < image[1]))
        place = h.clip(0, image[0] - 1)[:, None] * image[1] + w.clip(0, image[1] - 1)
        value = x.reshape(*shape[:2], -1)[:, :, place]
        wins = inside & ((at < 0) | (value > best) | (np.isnan(value) & ~np.isnan(best)))
        best, taps, at = np.where(wins, value, best), np.where(wins, tap, taps), np.where(wins, place, at)
    return best, taps, at


def numbers(shape: tuple[int, ...], kind: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.integers(-3, 4, shape) if kind == 0 else rng.integers(-2000, 2000, shape) / 64
    x = x.astype(np.float32)
    if kind == 1:
        x = np.where(rng.random(shape) < 0.9, np.float32(-np.inf), x)
    if kind == 2:
        x = np.where(rng.random(shape) < 0.1, np.float32(np.nan), x)
    return np.where(x == 0, np.copysign(x, rng.random(shape) - 0.5), x).astype(np.float32)


def check(dtype: str, shape: tuple[int, ...], options: list[tuple[int, int]], ceil: bool, seed: int) -> None:
    rng, what = np.random.default_rng(seed), (dtype, shape, options, ceil, seed)
    out = [*shape[:2], *(places(shape[2 + a], *(o[a] for o in options), ceil) for a in range(2))]
    if min(out) <= 0:
        return
    wide = "float64" if dtype == "float64" else "float32"

    def given(values: np.ndarray) -> Any:
        return ts.asarray(values.astype(wide)).astype(dtype)

    def same(mine: Any, values: np.ndarray) -> None:
        a, b = (np.where(np.isnan(v), np.float32(np.nan), v) for v in (mine.astype(wide).numpy(), values))
        np.testing.assert_array_equal(a.view(f"i{a.itemsize}"), b.view(f"i{b.itemsize}"), err_msg=str(what))

    x = given(numbers(shape, seed % 4, rng)).requires_grad_()
    y = ts.max_pool2d(x, *options, ceil)
    best, taps, at = pooled(x.detach().astype(wide).numpy(), out, options)
    same(y.detach(), best)
    held = at >= 0
    if seed % 8 < 4:
        where = F.max_pool2d(x.detach(), *options, ceil, True)[1].numpy()
        np.testing.assert_array_equal(where[held], at[held], err_msg=str(what))

    dy = given(rng.standard_normal(out))
    dx = np.zeros((shape[0] * shape[1], shape[2] * shape[3]), wide)
    plane = np.arange(len(dx)).reshape(*shape[:2], 1, 1) + np.zeros(out, int)
    np.add.at(dx, (plane[held], at[held]), dy.astype(wide).numpy()[held])
    expected = given(dx.reshape(shape)).astype(wide).numpy()
    y.backward(dy)
    same(x.grad, expected)
    index = ts.asarray(taps.astype(np.uint8 if np.prod(options[0]) <= 256 else np.int32))
    same(core.max_pool2d_backward(dy, index, shape, *options, ceil), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_width(dtype: str) -> None:
    for width in [*range(1, 41), 65, 71]:
        for kernel, stride, padding in [(3, 2, 1), (3, 1, 1), (3, 2, 0), (2, 2, 0), (2, 1, 1), (5, 2, 2)]:
            options = [(kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1)]
            check(dtype, (2, 2, 9, width), options, False, width)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_window(dtype: str) -> None:
    rng = np.random.default_rng(5)
    for seed in range(400):
        kernel, stride = rng.integers(1, 6, 2), rng.integers(1, 4, 2)
        padding = [rng.integers(0, k // 2 + 1) for k in kernel]
        dilation = rng.integers(1, 3, 2) if seed % 3 == 0 else (1, 1)
        options = [tuple(int(v) for v in o) for o in (kernel, stride, padding, dilation)]
        shape = (1, 3, int(rng.integers(1, 20)), int(rng.integers(1, 75)))
        check(dtype, shape, options, bool(rng.integers(2)), seed)


def test_planes_cut_into_strips_and_pieces() -> None:
    for options in (
        [(3, 3), (1, 1), (1, 1), (1, 1)],
        [(3, 3), (2, 2), (1, 1), (1, 1)],
        [(5, 2), (7, 1), (2, 1), (1, 1)],
    ):
        check("float32", (1, 2, 301, 130), options, False, 0)
        check("float32", (1, 1, 33, 3001), options, True, 3)
    check("float32", (1, 1, 70, 40), [(17, 17), (1, 1), (8, 8), (1, 1)], False, 3)  # taps are int32
    check(
        "float32", (1, 1, 3, 100_003), [(3, 3), (2, 2), (1, 1), (1, 1)], False, 3
    )  # rows too long for scratch


def test_taps_that_no_window_has_take_nothing() -> None:
    for stride, shape in [(1, (7, 38)), (2, (4, 19))]:
        index, dy = ts.asarray(np.full((2, 3, *shape), 9, np.uint8)), ts.ones((2, 3, *shape))
        options = [(3, 3), (stride, stride), (1, 1), (1, 1)]
        assert not core.max_pool2d_backward(dy, index, (2, 3, 7, 38), *options, False).numpy().any()
