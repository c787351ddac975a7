"""Unpooling, positions of maxima, windows as columns, shuffled pixels, bags, segments, sampling of volumes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F
from tensorsmith.ops.sampling import _sampled


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- maxima and where they lie --------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("options", [(2,), (3, 2, 1)])
def test_positions_of_maxima(rank: int, options: tuple[int, ...]) -> None:
    x = normal(2, 3, *(9, 7, 6)[:rank])
    y, index = getattr(F, f"max_pool{rank}d")(ts.asarray(x), *options, return_indices=True)
    assert index.dtype == ts.int64 and index.shape == y.shape
    flat = x.reshape(2, 3, -1)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, index.numpy().reshape(2, 3, -1), 2), y.numpy().reshape(2, 3, -1)
    )
    np.testing.assert_array_equal(getattr(F, f"max_pool{rank}d")(ts.asarray(x), *options).numpy(), y.numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpool_puts_maxima_back(rank: int) -> None:
    x = ts.asarray(normal(2, 3, *(8, 6, 4)[:rank])).requires_grad_()
    pool = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)
    y, index = pool(x)
    back = getattr(nn, f"MaxUnpool{rank}d")(2)(y, index)
    expected = np.zeros(x.shape, np.float32).reshape(2, 3, -1)
    np.put_along_axis(expected, index.numpy().reshape(2, 3, -1), y.detach().numpy().reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(back.detach().numpy(), expected.reshape(x.shape))
    (back * back).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * expected.reshape(x.shape))


def test_unpool_sizes_and_errors() -> None:
    y, index = F.max_pool2d(ts.asarray(normal(1, 1, 5, 5)), 2, return_indices=True)
    assert F.max_unpool2d(y, index, 2, output_size=(1, 1, 5, 5)).shape == (1, 1, 5, 5)
    with pytest.raises(IndexError, match="scatter"):  # positions in an image of 5 x 5
        F.max_unpool2d(y, ts.asarray([[[[24, 0], [1, 2]]]]), 2)
    with pytest.raises(ValueError, match="output_size must be within a stride"):
        F.max_unpool2d(y, index, 2, output_size=(9, 9))
    with pytest.raises(ValueError, match="max_unpool2d: indices have shape"):
        F.max_unpool2d(y, index[..., :1], 2)
    with pytest.raises(IndexError, match="scatter"):
        F.max_unpool2d(y, index + 100, 2)


def test_adaptive_maxima() -> None:
    x = normal(2, 3, 7, 8)
    y, index = nn.AdaptiveMaxPool2d((3, 5), return_indices=True)(ts.asarray(x))
    for p in range(3):
        for q in range(5):
            window = x[:, :, p * 7 // 3 : -((p + 1) * 7 // -3), q * 8 // 5 : -((q + 1) * 8 // -5)]
            np.testing.assert_array_equal(y.numpy()[:, :, p, q], window.max((2, 3)))
    np.testing.assert_array_equal(
        np.take_along_axis(x.reshape(2, 3, -1), index.numpy().reshape(2, 3, -1), 2),
        y.numpy().reshape(2, 3, -1),
    )
    # Channels last, with windows of one length and one step: a pool like any other.
    wide = normal(2, 56, 30, 5)
    last = ts.permute_dims(ts.asarray(wide), (0, 3, 1, 2))
    first = ts.asarray(np.ascontiguousarray(wide.transpose(0, 3, 1, 2)))
    for size in (5, (5, 15), (7, 4)):
        np.testing.assert_array_equal(
            F.adaptive_max_pool2d(last, size).numpy(), F.adaptive_max_pool2d(first, size).numpy()
        )
    # Of equals the first in row-major order.
    assert F.adaptive_max_pool2d(ts.ones((1, 4, 4)), 2, return_indices=True)[1].tolist() == [
        [[0, 2], [8, 10]]
    ]


def fractional_starts(u: float, n: int, kernel: int, count: int, dtype: type) -> list[int]:
    if count == 1:
        return [n - kernel]
    step = dtype(n - kernel) / dtype(count - 1)
    first = int(dtype(u) * step)
    return [int((dtype(i) + dtype(u)) * step) - first for i in range(count - 1)] + [n - kernel]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "kernel", "size"),
    [((2, 3, 9, 12), (2, 2), (5, 7)), ((2, 3, 9, 12), (3, 3), (4, 1)), ((3, 11, 8), (2, 3), (10, 6))],
)
def test_fractional_maxima(shape: tuple[int, ...], kernel: Any, size: Any, dtype: type) -> None:
    x, u = (
        normal(*shape).astype(dtype),
        np.random.default_rng(1).random((*(1,) * (4 - len(shape)), *shape[:-2], 2)).astype(dtype),
    )
    leaf = ts.asarray(x).requires_grad_()
    y, index = F.fractional_max_pool2d(leaf, kernel, size, return_indices=True, _random_samples=ts.asarray(u))
    dy = normal(*y.shape).astype(dtype)
    y.backward(ts.asarray(dy))
    planes, samples = x.reshape(-1, *shape[-2:]), u.reshape(-1, 2)
    dx = np.zeros_like(planes)
    for a, plane in enumerate(planes):
        rows = fractional_starts(samples[a, 1], shape[-2], kernel[0], size[0], dtype)
        columns = fractional_starts(samples[a, 0], shape[-1], kernel[1], size[1], dtype)
        for p, row in enumerate(rows):
            for q, column in enumerate(columns):
                window = plane[row : row + kernel[0], column : column + kernel[1]]
                i, j = np.unravel_index(window.argmax(), window.shape)
                place = np.ravel_multi_index((a, p, q), (len(planes), *size))
                assert y.detach().numpy().reshape(-1)[place] == window[i, j]
                assert index.numpy().reshape(-1)[place] == (row + i) * shape[-1] + column + j
                dx[a, row + i, column + j] += dy.reshape(-1)[place]
    np.testing.assert_allclose(leaf.grad.numpy().reshape(dx.shape), dx, rtol=1e-6, atol=1e-6)


def test_fractional_maxima_as_torch_has_them() -> None:
    torch = pytest.importorskip("torch")
    for shape, kernel, options in (
        ((3, 5, 32, 31), 2, {"output_size": (17, 20)}),
        ((2, 2, 56, 57), (3, 3), {"output_ratio": (0.7, 0.5)}),
        ((4, 40, 23), (4, 2), {"output_ratio": (0.6, 0.6)}),
    ):
        for bad in (False, True):
            x = normal(*shape).astype(np.float32)
            if bad:
                x.reshape(-1)[::9] = np.nan
                x.reshape(-1)[::7] = -np.inf
            u = np.random.default_rng(1).random((*(1,) * (4 - len(shape)), *shape[:-2], 2)).astype(np.float32)
            ours, theirs = ts.asarray(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
            y, index = F.fractional_max_pool2d(
                ours, kernel, return_indices=True, _random_samples=ts.asarray(u), **options
            )
            expected, places = torch.nn.functional.fractional_max_pool2d(
                theirs, kernel, return_indices=True, _random_samples=torch.from_numpy(u), **options
            )
            np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())
            np.testing.assert_array_equal(index.numpy(), places.numpy())
            y.sum().backward()
            expected.sum().backward()
            np.testing.assert_array_equal(ours.grad.numpy(), theirs.grad.numpy())


def test_fractional_layer_and_errors() -> None:
    x = ts.asarray(normal(2, 3, 16, 16))
    pool = nn.FractionalMaxPool2d(2, output_size=(9, 7), return_indices=True)
    ts.random.manual_seed(0)
    first, second = pool(x), pool(x)
    assert first[0].shape == (2, 3, 9, 7) and first[1].tolist() != second[1].tolist()
    ts.random.manual_seed(0)
    assert pool(x)[1].tolist() == first[1].tolist()
    np.testing.assert_array_equal(
        np.take_along_axis(x.numpy().reshape(2, 3, -1), first[1].numpy().reshape(2, 3, -1), 2),
        first[0].numpy().reshape(2, 3, -1),
    )
    for bad, words in (
        (lambda: nn.FractionalMaxPool2d(2), "output_size or output_ratio"),
        (lambda: nn.FractionalMaxPool2d(2, 3, 0.5), "one of the two"),
        (lambda: nn.FractionalMaxPool2d(2, output_ratio=1.0), r"output_ratio must be a number in \(0, 1\)"),
        (
            lambda: F.fractional_max_pool2d(x, 3, 15),
            "kernel_size \\+ output_size - 1 must be at most the extent 16",
        ),
        (lambda: F.fractional_max_pool2d(x, 2, 8, _random_samples=ts.zeros((2, 3, 1))), "samples must"),
        (lambda: F.fractional_max_pool2d(x, 0, 8), "kernel_size must be >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            bad()
    assert F.fractional_max_pool2d(x, 2, output_ratio=np.float32(0.5)).shape == (2, 3, 8, 8)
    for bad in (math.nan, math.inf, -0.25, 1.5):
        for dtype in ("float32", "float64"):
            samples = np.full((2, 3, 2), 0.5, dtype)
            samples[1, 0, 1] = bad
            with pytest.raises(ValueError, match=rf"samples must be in \[0, 1\], got {bad} at position 7"):
                F.fractional_max_pool2d(x.astype(dtype), 2, 8, _random_samples=ts.asarray(samples))
    edges = ts.asarray(np.array([0, 1], np.float32).repeat(6).reshape(2, 3, 2))
    assert F.fractional_max_pool2d(x, 2, 8, _random_samples=edges).shape == (2, 3, 8, 8)


# --- rearrangements -------------------------------------------------------------------------------


def test_pixel_and_channel_shuffle() -> None:
    x = normal(2, 12, 3, 5)
    y = nn.PixelShuffle(2)(ts.asarray(x)).numpy()
    assert y.shape == (2, 3, 6, 10)
    for i in range(2):
        for j in range(2):
            np.testing.assert_array_equal(y[:, :, i::2, j::2], x[:, i * 2 + j :: 4])
    np.testing.assert_array_equal(nn.PixelUnshuffle(2)(ts.asarray(y)).numpy(), x)
    z = nn.ChannelShuffle(3)(ts.asarray(x)).numpy()
    np.testing.assert_array_equal(z, x.reshape(2, 3, 4, 3, 5).swapaxes(1, 2).reshape(x.shape))
    with pytest.raises(ValueError, match="C a multiple of 9"):
        F.pixel_shuffle(ts.asarray(x), 3)
    with pytest.raises(ValueError, match="multiples of 2"):
        F.pixel_unshuffle(ts.asarray(x), 2)
    with pytest.raises(ValueError, match="C a multiple of 5"):
        F.channel_shuffle(ts.asarray(x), 5)


OPTIONS = [((2, 3), 1, 0, 1), (3, 1, 1, 2), ((2, 2), (2, 1), (1, 0), (1, 3))]


@pytest.mark.parametrize("options", OPTIONS)
def test_unfold_and_fold(options: Any) -> None:
    kernel, dilation, padding, stride = ((o, o) if isinstance(o, int) else o for o in options)
    x = normal(2, 3, 7, 8)
    full = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    rows = range(0, full.shape[2] - dilation[0] * (kernel[0] - 1), stride[0])
    cols = range(0, full.shape[3] - dilation[1] * (kernel[1] - 1), stride[1])
    expected = np.stack(
        [
            full[
                :,
                :,
                r : r + dilation[0] * kernel[0] : dilation[0],
                c : c + dilation[1] * kernel[1] : dilation[1],
            ][:, :, : kernel[0], : kernel[1]].reshape(2, -1)
            for r in rows
            for c in cols
        ],
        -1,
    )
    y = nn.Unfold(*options)(ts.asarray(x))
    np.testing.assert_array_equal(y.numpy(), expected)
    # fold is unfold's transpose: <unfold(x), w> = <x, fold(w)>.
    w = normal(*y.shape, seed=1)
    back = nn.Fold((7, 8), *options)(ts.asarray(w))
    np.testing.assert_allclose(
        (expected.astype(float) * w).sum(), (x.astype(float) * back.numpy()).sum(), rtol=1e-5
    )
    leaf = ts.asarray(x).requires_grad_()
    (F.unfold(leaf, *options) * ts.asarray(w)).sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), back.numpy())
    columns = ts.asarray(w).requires_grad_()
    (F.fold(columns, (7, 8), *options) * ts.asarray(x)).sum().backward()
    np.testing.assert_array_equal(columns.grad.numpy(), expected)


def test_unfold_keeps_what_is_not_finite_apart() -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0] = np.inf
    y = F.unfold(ts.asarray(x), 2).numpy()
    assert np.isinf(y).sum() == 1 and not np.isnan(y).any()
    with pytest.raises(ValueError, match="windows of"):
        F.unfold(ts.asarray(x), 5)
    with pytest.raises(ValueError, match="fold: input must be"):
        F.fold(ts.asarray(y), (5, 5), 2)


# --- bags and segments ----------------------------------------------------------------------------

INDEX = np.random.default_rng(3).integers(0, 10, 20)
OFFSETS = np.array([0, 3, 3, 9])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, int(INDEX[4])])
def test_embedding_bag(mode: str, padding: int | None) -> None:
    layer = nn.EmbeddingBag(10, 6, mode=mode, padding_idx=padding)
    w = layer.weight.detach().numpy()
    expected = []
    for a, b in zip(OFFSETS, [*OFFSETS[1:], 20], strict=True):
        rows = w[[i for i in INDEX[a:b] if i != padding]]
        expected.append(getattr(rows, mode)(0) if len(rows) else np.zeros(6))
    y = layer(ts.asarray(INDEX), ts.asarray(OFFSETS))
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    last = F.embedding_bag(
        ts.asarray(INDEX),
        layer.weight,
        ts.asarray([*OFFSETS, 20]),
        mode=mode,
        include_last_offset=True,
        padding_idx=padding,
    )
    np.testing.assert_array_equal(last.detach().numpy(), y.detach().numpy())
    y.sum().backward()
    moved = np.zeros((10, 6))
    for a, b in zip(OFFSETS, [*OFFSETS[1:], 20], strict=True):
        rows = [i for i in INDEX[a:b] if i != padding]
        for c in range(6):
            if mode == "max" and rows:
                best = w[rows, c].max()
                winners = [i for i in rows if w[i, c] == best]
                for i in winners:
                    moved[i, c] += 1 / len(winners)
            else:
                for i in rows:
                    moved[i, c] += 1 if mode == "sum" else 1 / len(rows)
    np.testing.assert_allclose(layer.weight.grad.numpy(), moved, rtol=1e-5)


def test_embedding_bag_options() -> None:
    w, weights = normal(10, 6), normal(4, 5)
    y = F.embedding_bag(
        ts.asarray(INDEX.reshape(4, 5)), ts.asarray(w), mode="sum", per_sample_weights=ts.asarray(weights)
    )
    np.testing.assert_allclose(
        y.numpy(), (w[INDEX.reshape(4, 5)] * weights[..., None]).sum(1), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match='go with mode "sum"'):
        F.embedding_bag(
            ts.asarray(INDEX.reshape(4, 5)), ts.asarray(w), per_sample_weights=ts.asarray(weights)
        )
    with pytest.raises(ValueError, match="with offsets"):
        F.embedding_bag(ts.asarray(INDEX), ts.asarray(w))
    with pytest.raises(ValueError, match="offsets must not descend"):
        F.embedding_bag(ts.asarray(INDEX), ts.asarray(w), ts.asarray([0, 9, 3]))


def test_segments() -> None:
    x, bounds = normal(20, 3), [0, 3, 3, 9, 20]
    data = ts.asarray(x).requires_grad_()
    p = ts.segment_reduce(data, ts.asarray(bounds), "prod")
    np.testing.assert_allclose(
        p.detach().numpy(), [x[a:b].prod(0) for a, b in itertools.pairwise(bounds)], rtol=1e-5
    )
    p.sum().backward()
    np.testing.assert_allclose(data.grad.numpy()[0], x[1] * x[2], rtol=1e-4)
    data = ts.asarray(x).requires_grad_()
    y = ts.segment_softmax(data, ts.asarray(bounds))
    np.testing.assert_allclose(
        ts.segment_reduce(y, ts.asarray(bounds)).detach().numpy()[[0, 2, 3]], 1, rtol=1e-5
    )
    np.testing.assert_allclose(y.detach().numpy()[3:9], np.exp(x[3:9]) / np.exp(x[3:9]).sum(0), rtol=1e-5)
    weights = normal(20, 3, seed=2)
    (y * ts.asarray(weights)).sum().backward()
    s = y.detach().numpy()
    inner = np.concatenate(
        [np.broadcast_to((s[a:b] * weights[a:b]).sum(0), (b - a, 3)) for a, b in itertools.pairwise(bounds)]
    )
    np.testing.assert_allclose(data.grad.numpy(), s * (weights - inner), rtol=1e-3, atol=1e-6)
    big = ts.segment_softmax(ts.asarray([1000.0, 1000.0, -1000.0]), ts.asarray([0, 3]))
    np.testing.assert_allclose(big.numpy(), [0.5, 0.5, 0])


def test_segments_in_a_recorded_step() -> None:
    """Where no length may depend on values: empty segments and gradients as they are eagerly."""

    def step(x: Any, offsets: Any) -> Any:
        x = x.detach().requires_grad_()
        y = ts.segment_softmax(x, offsets)
        loss = (ts.segment_reduce(y * x, offsets) ** 2).sum() + ts.segment_reduce(x, offsets, "mean").sum()
        return y.detach(), *ts.autograd.gradients(loss, x)

    recorded = ts.jit(step)
    for bounds in ([0, 3, 3, 9, 20], [0, 0, 4, 20, 20], [0, 5, 10, 15, 20]):
        x, offsets = ts.asarray(normal(20, 3)), ts.asarray(bounds)
        for ours, expected in zip(recorded(x, offsets), step(x, offsets), strict=True):
            np.testing.assert_array_equal(ours.numpy(), expected.numpy())
    assert recorded.cache_info().hits == 2
    for bounds in ([0, 3, 2, 9, 20], [0, 3, 3, 9, 19], [1, 3, 3, 9, 20], [-1, 3, 3, 9, 20]):
        with pytest.raises((IndexError, ValueError)):
            recorded(x, ts.asarray(bounds))


def test_columns_that_a_transpose_does_not_have() -> None:
    with pytest.raises(IndexError, match="csr_transpose: column 5 is out of range: valid are 0 to 2"):
        ts.csr_transpose([0, 1, 2], [0, 5], columns_count=3)


# --- sampling of points ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("align", [False, True])
def test_the_identity_samples_a_volume_as_it_is(mode: str, align: bool) -> None:
    x = normal(2, 3, 4, 5, 6)
    theta = np.broadcast_to(np.eye(3, 4, dtype=np.float32), (2, 3, 4)).copy()
    grid = F.affine_grid(ts.asarray(theta), x.shape, align)
    assert grid.shape == (2, 4, 5, 6, 3)
    y = F.grid_sample(ts.asarray(x), grid, mode, align_corners=align)
    np.testing.assert_allclose(y.numpy(), x, atol=2e-6)


def test_bicubic_is_that_of_interpolate() -> None:
    x = normal(1, 2, 5, 6)
    centres = [(np.arange(2 * m) + 0.5) / m - 1 for m in (5, 6)]
    rows, cols = np.meshgrid(*centres, indexing="ij")
    grid = np.stack([cols, rows], -1)[None].astype(np.float32)
    y = F.grid_sample(ts.asarray(x), ts.asarray(grid), "bicubic", "border", align_corners=False).numpy()
    expected = F.interpolate(ts.asarray(x), scale_factor=2, mode="bicubic").numpy()
    np.testing.assert_allclose(y, expected, atol=1e-5)
    with pytest.raises(ValueError, match="is for images"):
        F.grid_sample(ts.ones((1, 1, 2, 2, 2)), ts.zeros((1, 1, 1, 1, 3)), "bicubic")


def test_outside_is_zero_whatever_is_inside() -> None:
    x = ts.full((1, 1, 3, 3), np.inf)
    grid = ts.asarray(np.array([[5.0, 5.0], [np.nan, 0.0]], np.float32).reshape(1, 1, 2, 2))
    assert F.grid_sample(x, grid).tolist() == [[[[0.0, 0.0]]]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 16, 37])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_images_are_sampled_as_by_a_sparse_product(
    mode: str, padding: str, align: bool, channels: int, last: bool, dtype: str
) -> None:
    """The kernel beside the composition that volumes and second derivatives use: values and gradients."""
    image = normal(2, channels, 5, 7).astype(dtype)
    points = (normal(2, 4, 3, 2, seed=1) * 1.2).astype(dtype)
    dy = normal(2, channels, 4, 3, seed=2).astype(dtype)
    if last:
        image = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    results = []
    for sample in (F.grid_sample, _sampled):
        x, grid = (ts.asarray(a.copy(order="K")).requires_grad_() for a in (image, points))
        y = sample(x, grid, mode, padding, align)
        y.backward(ts.asarray(dy))
        still = np.zeros_like(points) if grid.grad is None else grid.grad.numpy()
        results.append((y.detach().numpy(), x.grad.numpy(), still))
    close = {"rtol": 0, "atol": 1e-4 if dtype == "float32" else 1e-12}
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, **close)


def test_second_derivatives_of_sampled_images() -> None:
    image, points = normal(1, 2, 4, 5).astype(np.float64), normal(1, 2, 3, 2, seed=1).astype(np.float64) * 0.4

    def slope(f: Any) -> Any:
        x, grid = ts.asarray(image).requires_grad_(), ts.asarray(points).requires_grad_()
        (dgrid,) = ts.autograd.gradients(
            (f(x, grid, "bilinear", "zeros", False) ** 2).sum(), grid, create_graph=True
        )
        return [g.numpy() for g in ts.autograd.gradients((dgrid**2).sum(), (x, grid))]

    for ours, expected in zip(slope(F.grid_sample), slope(_sampled), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 20, 70])
@pytest.mark.parametrize("last", [False, True])
def test_images_are_resampled_with_the_bits_of_two_products(last: bool, channels: int, dtype: str) -> None:
    image = normal(2, channels, 9, 45).astype(dtype)
    if last:
        image = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    rng = np.random.default_rng(1)
    for p, q, most in ((5, 70, 3), (20, 13, 6)):
        matrices = []
        for rows, size in ((p, 9), (q, 45)):
            counts = rng.integers(0, most, rows)
            starts = np.concatenate([[0], np.cumsum(counts)])
            columns = np.concatenate(
                [np.sort((r * size // rows + np.arange(n)) % size) for r, n in enumerate(counts)]
            ).astype(np.int64)
            matrices.append(
                [
                    ts.asarray(a)
                    for a in (starts, columns, np.random.default_rng(1).random(columns.size).astype(dtype))
                ]
            )
        x = ts.asarray(image.copy(order="K"))
        (*down, u), (*across, v) = matrices
        y = ts._core.ops.resample2d(x, *down, *across, u, v)
        for axis, matrix in enumerate(matrices, 2):
            x = ts.csr_matmul(x, *matrix, axis)
        np.testing.assert_array_equal(y.numpy(), x.numpy())  # 0 equals -0
        assert (y.strides[1] == y.itemsize) == (last and channels > 1)


def test_nearest_neighbours_are_copies() -> None:
    x = ts.asarray(np.array([[[[-0.0, 0.0], [np.inf, np.nan]]]], np.float32))
    for mode in ("nearest", "nearest-exact"):
        y = F.interpolate(x, scale_factor=2, mode=mode).numpy()
        assert y.tobytes() == np.repeat(np.repeat(x.numpy(), 2, 2), 2, 3).tobytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.resample2d(ts.ones((2, 3)), [0, 1], [0], [0, 1], [0]), "resample2d: x must"),
        (
            lambda c: c.resample2d(ts.ones((1, 1, 2, 2)), [0, 1], [2], [0, 1], [0]),
            "column 2 is out",
        ),
        (
            lambda c: c.resample2d(ts.ones((1, 1, 2, 2)), [0, 2], [0], [0, 1], [0]),
            "starts must go",
        ),
        (lambda c: c.grid_sample(ts.ones((1, 1, 2, 2)), ts.ones((1, 1, 1, 3))), "grid_sample: grid must"),
        (
            lambda c: c.grid_sample(ts.ones((1, 1, 2, 2)), ts.ones((1, 1, 1, 2)), False, 3),
            "padding must be 0",
        ),
        (
            lambda c: c.grid_sample_backward(
                ts.ones((1, 1, 1, 1)), ts.ones((1, 1, 2, 2)), ts.ones((1, 1, 2, 2))
            ),
            "grid_sample_backward: gradient must",
        ),
    ],
)
def test_wrong_images_and_points(call: Any, message: str) -> None:
    with pytest.raises((ValueError, IndexError), match=message):
        call(ts._core.ops)


def test_samples_do_not_depend_on_threads() -> None:
    x, grid = ts.asarray(normal(3, 20, 17, 19)), ts.asarray(normal(3, 40, 40, 2) * 0.6)
    threads = ts.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            ts.set_num_threads(count)
            results.append(
                [F.grid_sample(x, grid, mode).numpy().tobytes() for mode in ("bilinear", "bicubic")]
            )
    finally:
        ts.set_num_threads(threads)
    assert results[0] == results[1]


def test_sizes_and_scales_that_are_none() -> None:
    x = ts.ones((1, 1, 4, 4))
    for size in ("ab", 2.5, (None, 2), (1, 2, 3), ()):
        with pytest.raises(ValueError, match="the output size must be an integer or 2 of them, got "):
            F.interpolate(x, size)
    for scale in (0, -1.0, float("nan"), float("inf"), "a", (2.0,), 1j, 10**400):
        with pytest.raises(ValueError, match="scale_factor must be a positive number or 2 of them, got "):
            F.interpolate(x, scale_factor=scale)
    for call in (F.interpolate, F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
        with pytest.raises(ValueError, match="sizes must be >= 1, got"):
            call(x, 0)
        with pytest.raises(ValueError, match=r"sizes must be below 2\^31"):
            call(x, 2**70)
        with pytest.raises(MemoryError):  # at once: no table is made for it
            call(x, 1_000_000)
        assert call(x, np.int64(2)).shape == (1, 1, 2, 2)


def test_dtypes_and_sizes_are_named_at_the_door() -> None:
    x = ts.ones((1, 1, 4, 4), dtype=ts.int64)
    with pytest.raises(TypeError, match="interpolate: x must be floating-point, got int64"):
        F.interpolate(x, 2, mode="bilinear")
    with pytest.raises(TypeError, match="adaptive_avg_pool: x must be floating-point, got int64"):
        F.adaptive_avg_pool2d(x, 2)
    with pytest.raises(TypeError, match="input and grid must have one floating dtype, got int64"):
        F.grid_sample(x, ts.zeros((1, 2, 2, 2)))
    theta = ts.ones((1, 2, 3))
    for size in ((1, 1, 2.5, 2), None, "abcd"):
        with pytest.raises(ValueError, match="affine_grid: size must be the integers"):
            F.affine_grid(theta, size)
    with pytest.raises(ValueError, match="affine_grid: the extents of an image must be >= 1"):
        F.affine_grid(theta, (1, 1, 0, 2))
    with pytest.raises(MemoryError):
        F.affine_grid(theta, (1, 1, 10**7, 10**7))
    with pytest.raises(TypeError, match="affine_grid: theta must be floating-point, got int64"):
        F.affine_grid(ts.ones((1, 2, 3), dtype=ts.int64), (1, 1, 2, 2))


def test_adaptive_windows_that_stay_in_place() -> None:
    for layout in ((2, 5, 1, 1), (2, 5, 1, 4)):
        x = ts.permute_dims(
            ts.asarray(np.arange(np.prod(layout)).reshape(2, *layout[2:], 5) * 1.0), (0, 3, 1, 2)
        )
        y = F.adaptive_max_pool2d(x, (3, 4))
        np.testing.assert_array_equal(y.numpy(), np.broadcast_to(x.numpy(), (2, 5, 3, 4)))


@pytest.mark.parametrize("kind", ["max", "avg", "lp"])
def test_windows_that_hang_over_the_end(kind: str) -> None:
    x = ts.asarray(np.arange(1.0, 7.0).reshape(1, 1, 2, 3))
    options = {"kernel_size": (3, 4), "stride": (2, 4), "ceil_mode": True}
    if kind == "lp":
        y, expected = F.lp_pool2d(x, 1.0, **options), 3.5 * 12
    else:
        y, expected = getattr(F, f"{kind}_pool2d")(x, **options), 6 if kind == "max" else 3.5
    np.testing.assert_allclose(y.numpy(), [[[[expected]]]])
    with pytest.raises(ValueError, match="larger than the padded input"):
        F.max_pool2d(x, (3, 5), (2, 2), ceil_mode=True)


def test_norms_of_windows() -> None:
    x = ts.asarray([[[3.0, -5.0, -1.0, 2.0, 0.0, 0.0]]]).requires_grad_()
    assert F.lp_pool1d(x, 1.0, 2).tolist() == [[[-2.0, 1.0, 0.0]]]
    assert F.lp_pool1d(x, np.inf, 2).tolist() == [[[5.0, 2.0, 0.0]]]
    assert F.lp_pool1d(x, -np.inf, 2).tolist() == [[[3.0, 1.0, 0.0]]]
    assert np.isnan(
        F.lp_pool1d(x.detach(), 3.0, 2).numpy()[0, 0, 0]
    )  # the cube root of a negative sum, as PyTorch's
    ts.sum(F.lp_pool1d(x, 2.0, 2)).backward()
    assert x.grad.tolist()[0][0][4:] == [0.0, 0.0]


def test_batches_of_nothing() -> None:
    assert F.pixel_shuffle(ts.zeros((0, 4, 2, 2)), 2).shape == (0, 1, 4, 4)
    assert F.pixel_unshuffle(ts.zeros((2, 0, 4, 2)), 2).shape == (2, 0, 2, 1)
    assert F.unfold(ts.zeros((0, 2, 4, 4)), 3).shape == (0, 18, 4)
    assert [y.shape for y in F.max_pool3d(ts.zeros((0, 2, 4, 4, 4)), 2, return_indices=True)] == [
        (0, 2, 2, 2, 2)
    ] * 2
    assert F.avg_pool3d(ts.zeros((0, 2, 4, 4, 4)), 2).shape == (0, 2, 2, 2, 2)


def test_padding_that_takes_away() -> None:
    x = ts.arange(3.0)[None]
    assert F.pad(x, (-1, 1), "circular").tolist() == [[1.0, 2.0, 1.0]]
    assert F.pad(x, (2, -1), "circular").tolist() == [[0.0, 1.0, 0.0, 1.0]]
    for mode in ("constant", "reflect"):
        with pytest.raises(ValueError, match="leaves nothing of dimension 1"):
            F.pad(x, (2, -4), mode)


def test_nearest_neighbours_of_kept_and_doubled_extents() -> None:
    x = ts.asarray([[[[0.0, 1.0], [2.0, 3.0]]]])
    assert F.interpolate(x, scale_factor=1.3).tolist() == x.tolist()
    assert F.interpolate(x, scale_factor=(1.3, 2.3)).tolist() == [
        [[[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]]]
    ]
    with pytest.raises(ValueError, match="recompute_scale_factor goes with scale_factor"):
        F.interpolate(x, size=4, recompute_scale_factor=True)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_pixels_are_pytorchs(mode: str) -> None:
    torch = pytest.importorskip("torch")
    for rank in (1, 2, 3):
        for n in (2, 16, 26, 37):
            x = np.arange(n, dtype=np.float32).reshape(1, 1, n, *(1,) * (rank - 1))
            for options in (
                *({"size": (m,) + (1,) * (rank - 1)} for m in range(1, 80)),
                *({"scale_factor": (s,) + (1.0,) * (rank - 1)} for s in (0.7, 1.2, 1.3, 3.3)),
            ):
                expected = torch.nn.functional.interpolate(torch.from_numpy(x), mode=mode, **options)
                y = F.interpolate(ts.asarray(x), mode=mode, **options)
                np.testing.assert_array_equal(y.numpy(), expected.numpy(), str((rank, n, options)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.pad(x, 3), TypeError, "pad: pad must be integers, a pair for each axis, got 3"),
        (
            lambda x: F.lp_pool2d(x, 0, 2),
            ValueError,
            "lp_pool2d: norm_type must be a number other than 0, got 0",
        ),
        (lambda x: F.lp_pool2d(x, None, 2), ValueError, "lp_pool2d: norm_type must be a number"),
        (lambda x: F.lp_pool2d(x, 2, (2, None)), TypeError, "lp_pool2d: kernel_size must be an integer"),
        (lambda x: F.unfold(x, 2, stride=2**70), ValueError, r"unfold: stride must be < 2\*\*31"),
        (
            lambda x: F.avg_pool3d(x[None], 2, divisor_override=0),
            ValueError,
            "avg_pool3d: divisor_override must not be 0",
        ),
        (
            lambda x: F.avg_pool3d(x[None], 2, divisor_override="a"),
            TypeError,
            "avg_pool3d: divisor_override must be",
        ),
        (
            lambda x: F.max_unpool2d(x, x, 2, output_size=3),
            ValueError,
            "max_unpool2d: output_size must be within",
        ),
        (lambda x: F.pixel_shuffle(None, 2), TypeError, "cannot make an array of None"),
        (lambda x: F.max_pool3d(None, 2), TypeError, "cannot make an array of None"),
    ],
)
def test_wrong_options_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(ts.ones((1, 4, 4, 4)))


def test_numpys_integers_and_arrays() -> None:
    x, two = np.arange(16.0).reshape(1, 1, 4, 4), np.int64(2)
    y, at = F.max_pool2d(x, two, return_indices=True)
    assert y.tolist() == at.tolist() == [[[[5, 7], [13, 15]]]]
    assert F.lp_pool2d(x, 1, two).tolist() == [[[[10, 18], [42, 50]]]]
    assert F.pixel_unshuffle(x, two).shape == (1, 4, 2, 2)
    assert F.max_unpool2d(y.numpy(), at.numpy(), two).shape == (1, 1, 4, 4)


def test_lists_take_the_precision_of_what_has_a_dtype() -> None:
    wide, narrow, half = np.float64(0.1), ts.tensor(0.1), np.float16(2)
    for values, dtype in (
        ([0.1, wide], "float64"),
        ([wide, 0.1], "float64"),
        ([narrow, 2.5], "float32"),
        ([[1.0, 2.0], [3.0, half]], "float16"),
        ([narrow, wide], "float64"),
        ([np.int64(1), 0.5], "float64"),
        ([0.5, 1], "float32"),
        ([1j, 0.5], "complex64"),
        ([1j, wide], "complex128"),
        ([narrow, 1j], "complex64"),
    ):
        assert str(ts.array(values).dtype) == dtype, values
    assert ts.array([0.1, wide])[0].item() == 0.1


def test_an_array_joins_its_rows() -> None:
    values = np.arange(12.0).reshape(2, 3, 2)
    x = ts.tensor(values, requires_grad=True)
    joined = ts.concat(x, axis=1)
    assert np.array_equal(joined.detach().numpy(), np.concatenate(values, axis=1))
    (joined * ts.arange(12.0).reshape(3, 4)).sum().backward()
    assert np.array_equal(x.grad.numpy(), np.arange(12.0).reshape(3, 2, 2).transpose(1, 0, 2))
    assert np.array_equal(ts.stack(x, axis=1).detach().numpy(), np.stack(values, axis=1))
    assert np.array_equal(ts.concat(values).numpy(), np.concatenate(values))
    assert np.array_equal(np.stack(x.detach()).numpy(), values)
    for bad in (ts.tensor(1.0), np.float64(1), ts.zeros((0, 3)), 5):
        with pytest.raises((TypeError, ValueError), match=r"^concat: "):
            ts.concat(bad)


def test_reshape_takes_extents_or_a_tuple() -> None:
    x = ts.asarray(np.arange(12.0))
    for shape in ((3, 4), (-1, 2), (12,), (2, 1, 6)):
        for y in (
            x.reshape(*shape),
            x.reshape(shape),
            x.reshape(list(shape)),
            x.reshape(*map(np.int64, shape)),
        ):
            assert (y.numpy() == np.arange(12.0).reshape(shape)).all()
    assert x[:1].reshape().shape == () and x.reshape(12).shape == (12,)
    assert (x.reshape(3, 4).T.reshape(2, 6).numpy() == np.arange(12.0).reshape(3, 4).T.reshape(2, 6)).all()
    for bad in ((5, 5), (-1, -1), (-2, 3)):
        with pytest.raises(ValueError, match="reshape"):
            x.reshape(*bad)
    with pytest.raises(TypeError):
        x.reshape(1.5, 2)  # type: ignore[arg-type]
    y = x.requires_grad_().reshape(3, 4)
    y.sum().backward()
    assert x.grad.shape == (12,)  # type: ignore[union-attr]
