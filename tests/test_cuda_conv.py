"""Convolution's CUDA kernels: exact on integers in every mode, layout and geometry; bits; errors; the kernels taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from cases.conv import reference

pytestmark = pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or "")
MODES = ["ieee", "split", "tf32", "bfloat16"]
core = ts._core.ops


@pytest.fixture(autouse=True)
def on_the_gpu() -> Any:
    ts.set_default_device("cuda")
    yield
    ts.cuda.set_matmul_precision("ieee")
    ts.set_default_device("cpu")


def last(x: Any) -> Any:
    """The same image with its channels side by side."""
    return ts.permute_dims(ts.contiguous(ts.permute_dims(x, (0, 2, 3, 1))), (0, 3, 1, 2))


def strided(x: Any) -> Any:
    """The same image among others' numbers, at an odd address."""
    n, c, h, w = x.shape
    wide = ts.full((n, h, w + 1, 2 * c + 1), float("nan"))
    place = (slice(None), slice(None), slice(1, None), slice(1, None, 2))
    wide[place] = ts.permute_dims(x, (0, 2, 3, 1))
    return ts.permute_dims(wide[place], (0, 3, 1, 2))


LAYOUTS = {"first": ts.contiguous, "last": last, "strided": strided}

# x, weight, stride, padding, dilation, groups: tiles of 64 and 128 and pieces of 4 and 8 channels straddled
GEOMETRIES = [
    ((2, 8, 9, 7), (16, 8, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((1, 3, 17, 15), (65, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((3, 16, 7, 6), (24, 16, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((3, 16, 7, 6), (24, 16, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((2, 13, 8, 9), (10, 13, 3, 2), (2, 1), (1, 0), (1, 2), 1),
    ((2, 32, 6, 5), (24, 16, 3, 3), (1, 1), (2, 1), (2, 1), 2),
    ((2, 27, 5, 6), (30, 9, 3, 3), (2, 3), (1, 2), (2, 3), 3),
    ((2, 8, 6, 6), (8, 1, 3, 3), (1, 1), (1, 1), (1, 1), 8),
    ((5, 72, 5, 4), (72, 72, 2, 2), (1, 1), (0, 0), (1, 1), 1),
    ((1, 8, 4, 4), (8, 8, 3, 3), (5, 6), (2, 2), (1, 1), 1),
    ((2, 20, 11, 12), (132, 20, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 3, 13, 19), (132, 3, 7, 7), (2, 1), (3, 3), (1, 1), 1),
    ((1, 12, 16, 18), (136, 12, 3, 3), (1, 1), (0, 1), (1, 1), 1),
]


def gradients(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """dx and dw, one tap at a time."""
    h, wide = x.shape[2:]
    o, each, kh, kw = w.shape
    p, q = dy.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dilation[0], i * dilation[0] + (p - 1) * stride[0] + 1, stride[0])
            columns = slice(j * dilation[1], j * dilation[1] + (q - 1) * stride[1] + 1, stride[1])
            for g in range(groups):
                cs, os = slice(g * each, (g + 1) * each), slice(g * (o // groups), (g + 1) * (o // groups))
                dw[os, :, i, j] = np.einsum("nopq,ncpq->oc", dy[:, os], padded[:, cs, rows, columns])
                dx[:, cs, rows, columns] += np.einsum("nopq,oc->ncpq", dy[:, os], w[os, :, i, j])
    return dx[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + wide], dw


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g[0]} {g[1][2:]} s{g[2]} g{g[5]}")
def test_exact_on_integers(geometry: Any, mode: Any) -> None:
    """Forward and both gradients; a wrong place, tap, channel or group would show."""
    shape, filters, *options = geometry
    rng = np.random.default_rng(sum(shape))
    x = rng.integers(-3, 4, shape).astype(np.float64)
    w = rng.integers(-3, 4, filters).astype(np.float64)
    b = rng.integers(-3, 4, filters[0]).astype(np.float64)
    y = reference(*options)(x, w, b)
    dy = rng.integers(-3, 4, y.shape).astype(np.float64)
    dx, dw = gradients(x, w, dy, *options)
    ts.cuda.set_matmul_precision(mode)
    found = []
    for layout in LAYOUTS.values():
        image, filter_ = layout(ts.array(x, dtype="float32")), ts.array(w, dtype="float32")
        gradient, bias = layout(ts.array(dy, dtype="float32")), ts.array(b, dtype="float32")
        results = [
            core.conv2d(image, filter_, bias, *options),
            core.conv2d_relu(image, filter_, bias, *options),
            core.conv2d_input_backward(gradient, filter_, shape, *options),
            *core.conv2d_weight_backward(gradient, image, filters, *options),
        ]
        found.append([v.cpu().numpy() for v in results])
    for i, e in enumerate((y, np.maximum(y, 0), dx, dw, dy.sum((0, 2, 3)))):
        for layout, values in zip(LAYOUTS, found, strict=True):
            np.testing.assert_array_equal(values[i], e, err_msg=f"result {i}, channels {layout}")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g[0]} {g[1][2:]} s{g[2]} g{g[5]}")
def test_halves_are_rounded_once(geometry: Any, dtype: str) -> None:
    """Of integers, whose sums are exact in float32: forward and both gradients, in every layout."""
    shape, filters, *options = geometry
    rng = np.random.default_rng(sum(shape))
    x, w, b = (rng.integers(-3, 4, s).astype(np.float64) for s in (shape, filters, filters[:1]))
    y = reference(*options)(x, w, b)
    dy = rng.integers(-3, 4, y.shape).astype(np.float64)
    dx, dw = gradients(x, w, dy, *options)
    expected = (y, np.maximum(y, 0), dx, dw, dy.sum((0, 2, 3)))
    for name, layout in LAYOUTS.items():
        image, gradient, filter_, bias = (ts.array(v, dtype="float32") for v in (x, dy, w, b))
        image, gradient = layout(image), layout(gradient)
        if name == "strided":  # copies of another dtype are dense
            image, gradient = (ts.concat([v, v], 1).astype(dtype)[:, : v.shape[1]] for v in (image, gradient))
        image, gradient, filter_, bias = (v.astype(dtype) for v in (image, gradient, filter_, bias))
        results = [
            core.conv2d(image, filter_, bias, *options),
            core.conv2d_relu(image, filter_, bias, *options),
            core.conv2d_input_backward(gradient, filter_, shape, *options),
            *core.conv2d_weight_backward(gradient, image, filters, *options),
        ]
        for i, (found, e) in enumerate(zip(results, expected, strict=True)):
            assert str(found.dtype) == dtype
            rounded = ts.array(e, dtype="float32").astype(dtype).astype("float32")
            np.testing.assert_array_equal(
                found.astype("float32").cpu().numpy(), rounded.cpu().numpy(), err_msg=f"result {i}, {name}"
            )


def test_halves_beside_float32() -> None:
    """What autocast calls: float32 operands are rounded to bfloat16, the others are it; the same products."""
    rng = np.random.default_rng(6)
    for c, o, k, stride, g in (
        (16, 24, 3, 1, 1),
        (12, 20, 3, 2, 1),
        (16, 24, 1, 1, 1),
        (3, 8, 7, 2, 1),
        (8, 8, 3, 1, 8),
    ):
        shape, filters, options = (2, c, 11, 10), (o, c // g, k, k), (stride, k // 2, 1, g)
        x, w, b = (ts.array(rng.standard_normal(s).astype(np.float32)) for s in (shape, filters, (o,)))
        lx, lw = x.astype("bfloat16"), w.astype("bfloat16")
        y = core.conv2d_bf16(lx, lw, b, *options)
        dy = ts.array(rng.standard_normal(y.shape).astype(np.float32)).astype("bfloat16")
        dx = core.conv2d_input_backward_bf16(dy, lw, shape, *options, "float32")
        dw = core.conv2d_weight_backward_bf16(dy, lx, filters, *options, "float32")
        for image, filter_ in ((x, w), (lx, w), (x, lw)):
            assert core.conv2d_bf16(image, filter_, b, *options).tolist() == y.tolist()
            assert (
                core.conv2d_input_backward_bf16(dy, filter_, shape, *options, "float32").tolist()
                == dx.tolist()
            )
            for found, e in zip(
                core.conv2d_weight_backward_bf16(dy, image, filters, *options, "float32"), dw, strict=True
            ):
                assert str(found.dtype) == "float32" and found.tolist() == e.tolist()
        wide = dy.astype("float32")
        assert core.conv2d_input_backward_bf16(wide, w, shape, *options, "float32").tolist() == dx.tolist()
        narrow = core.conv2d_input_backward_bf16(dy, w, shape, *options)
        assert narrow.tolist() == dx.astype("bfloat16").tolist()


def test_halves_are_read_where_they_lie() -> None:
    """Channels last, in whole pieces of 16 bytes: no copy of an image, for any of the three."""
    if ts.cuda.get_device_properties()["capability"] < (8, 0):
        pytest.skip("computed in float32 there")
    x, dy = (last(ts.ones(16, 64, 16, 16)).astype("bfloat16") for _ in range(2))
    w = ts.ones(64, 64, 3, 3).astype("bfloat16")
    image = x.size * 2
    assert x.strides[1] == 2  # bytes
    for compute, results in (
        (lambda: core.conv2d(x, w, None, 1, 1, 1, 1), image),
        (lambda: core.conv2d_input_backward(dy, w, x.shape, 1, 1, 1, 1), image),
        (lambda: core.conv2d_weight_backward(dy, x, w.shape, 1, 1, 1, 1), 0),
    ):
        compute()  # its memory is in the pool
        ts.cuda.reset_peak_memory_stats()
        before = ts.cuda.memory_stats()["live_bytes"]
        y = compute()
        assert ts.cuda.memory_stats()["peak_bytes"] - before < results + image  # and room for filters
        del y


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_bits_of_halves_do_not_depend_on_layout_or_batch(dtype: str) -> None:
    """K beyond 4096 is cut the same; channels that are copied first and such that are read in place."""
    rng = np.random.default_rng(7)
    for c, o in ((480, 72), (60, 68)):
        a, g = (rng.standard_normal((3, n, 8, 9)).astype(np.float32) for n in (c, o))
        x, dy = ts.array(a).astype(dtype), ts.array(g).astype(dtype)
        w = ts.array(rng.standard_normal((o, c, 3, 3)).astype(np.float32)).astype(dtype)
        options = (1, 1, 1, 1)
        whole = core.conv2d(x, w, None, *options), core.conv2d_input_backward(dy, w, a.shape, *options)
        again = (
            core.conv2d(last(x), w, None, *options),
            core.conv2d_input_backward(last(dy), w, a.shape, *options),
        )
        alone = (
            core.conv2d(x[1:2], w, None, *options),
            core.conv2d_input_backward(dy[1:2], w, (1, *a.shape[1:]), *options),
        )
        for e, found, one in zip(whole, again, alone, strict=True):
            assert found.tolist() == e.tolist() and one[0].tolist() == e[1].tolist()
        filters = [
            core.conv2d_weight_backward(f(dy), f(x), w.shape, *options)[0].tolist()
            for f in (last, ts.contiguous)
        ]
        assert filters[0] == filters[1]
        wide = core.conv2d(x.astype("float32"), w.astype("float32"), None, *options)
        np.testing.assert_allclose(
            whole[0].astype("float32").cpu().numpy(), wide.cpu().numpy(),
            rtol={"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype], atol=1e-3,
        )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_bits_do_not_depend_on_layout_or_batch(mode: Any) -> None:
    """Also where a larger batch takes larger tiles; K beyond 512, and of the filter's gradient beyond 4096."""
    ts.cuda.set_matmul_precision(mode)
    rng = np.random.default_rng(2)
    a, g = (rng.standard_normal((2, n, 16, 17)).astype(np.float32) for n in (60, 68))
    x, dy, w = ts.array(a), ts.array(g), ts.array(rng.standard_normal((68, 60, 3, 3)).astype(np.float32))
    options = (1, 1, 1, 1)
    whole = core.conv2d(x, w, None, *options), core.conv2d_input_backward(dy, w, a.shape, *options)
    for layout in (last, strided):
        np.testing.assert_array_equal(
            core.conv2d(layout(x), w, None, *options).cpu().numpy(), whole[0].cpu().numpy()
        )
    one = (
        core.conv2d(x[1:2], w, None, *options),
        core.conv2d_input_backward(dy[1:2], w, (1, *a.shape[1:]), *options),
    )
    for all_, alone in zip(whole, one, strict=True):
        np.testing.assert_array_equal(alone[0].cpu().numpy(), all_[1].cpu().numpy())
    x, dy = (ts.array(rng.standard_normal((9, n, 22, 21)).astype(np.float32)) for n in (12, 8))
    small = [core.conv2d_weight_backward(f(dy), f(x), (8, 12, 3, 3), *options)[0] for f in (last, strided)]
    np.testing.assert_array_equal(small[0].cpu().numpy(), small[1].cpu().numpy())


@pytest.mark.parametrize("mode", MODES)
def test_error(mode: Any) -> None:
    """Against float64, relative to the absolute sum; `split` is no worse than float32's multiply-adds."""
    rng = np.random.default_rng(3)
    a, f = rng.standard_normal((2, 40, 9, 9)), rng.standard_normal((36, 40, 3, 3))
    x, w = ts.array(a, dtype="float32"), ts.array(f, dtype="float32")
    a, f = (v.astype("float64").cpu().numpy() for v in (x, w))
    sums = reference((1, 1), (1, 1), (1, 1), 1)
    bound = sums(np.abs(a), np.abs(f))
    found = {}
    for kind in ("ieee", mode):
        ts.cuda.set_matmul_precision(kind)
        y = core.conv2d(x, w, None, 1, 1, 1, 1).astype("float64").cpu().numpy()
        found[kind] = float((np.abs(y - sums(a, f)) / bound).max())
    limit = {
        "ieee": 2.0**-20,
        "split": max(found["ieee"], 1.25 * 2.0**-24),
        "tf32": 2.0**-10,
        "bfloat16": 2.0**-8,
    }
    assert found[mode] <= limit[mode]


def test_no_pixel_of_a_neighbour_is_read() -> None:
    """NaN around what a convolution sees, and in the channels of other groups."""
    for mode in MODES:
        ts.cuda.set_matmul_precision(mode)
        x = ts.full((3, 24, 6, 6), float("nan"))
        x[1, :12] = 1
        w = ts.ones(16, 12, 3, 3)
        y = core.conv2d(last(x), w, None, 1, 1, 1, 2).cpu().numpy()
        inside = np.pad(np.ones((6, 6)), 1)
        e = 12 * sum(inside[i : i + 6, j : j + 6] for i in range(3) for j in range(3))
        np.testing.assert_array_equal(y[1, :8], np.broadcast_to(e, (8, 6, 6)))
        assert np.isnan(y[[0, 2]]).all() and np.isnan(y[1, 8:]).all()


def test_an_axis_that_is_too_long_is_refused() -> None:
    x, w = ts.ones(1, 1, 8, 8), ts.ones(1, 1, 2, 2)
    with pytest.raises(NotImplementedError, match=r"conv2d.*2\^30 or more pixels along an axis"):
        core.conv2d(x, w, None, 2**31 - 1, 2**30, 2**30, 1)


def test_training_step_in_every_mode() -> None:
    """A residual block's loss follows the CPU's within the mode's precision."""
    rng = np.random.default_rng(5)
    images, labels = rng.standard_normal((4, 3, 12, 12)).astype(np.float32), rng.integers(0, 5, 4)
    found = {}
    for mode in ("cpu", *MODES):
        device = "cpu" if mode == "cpu" else "cuda"
        ts.set_default_device("cpu")
        ts.manual_seed(3)
        net = ts.nn.Sequential(
            ts.nn.Conv2d(3, 16, 3, 2, 1), ts.nn.BatchNorm2d(16), ts.nn.ReLU(), ts.nn.Conv2d(16, 24, 3, 1, 1, groups=2),
            ts.nn.ReLU(), ts.nn.Conv2d(24, 8, 1), ts.nn.AdaptiveAvgPool2d(1), ts.nn.Flatten(), ts.nn.Linear(8, 5),
        ).to(device)  # fmt: skip
        if device == "cuda":
            ts.cuda.set_matmul_precision(mode)  # type: ignore[arg-type]
        optimizer = ts.optim.SGD(net.parameters(), lr=0.1)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = ts.nn.functional.cross_entropy(
                net(ts.array(images, device=device)), ts.array(labels, device=device)
            )
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found[mode] = losses
    for mode in MODES:
        np.testing.assert_allclose(
            found[mode], found["cpu"], rtol={"tf32": 2e-3, "bfloat16": 2e-2}.get(mode, 1e-4), err_msg=mode
        )
