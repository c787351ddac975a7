"""CUDA kernels beside the CPU's, where their cases in the table do not reach: shapes around every tile, rows of every
length, every layout. Skipped where there is no GPU; test_cuda.py says how the host runs them."""

from __future__ import annotations

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith.nn import functional as F
from test_ops import EPS

pytestmark = [
    pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or ""),
    pytest.mark.usefixtures("new_tensors_on_the_gpu"),
]


def test_shapes_around_every_tile() -> None:
    """Integers: sums are exact, so any wrong index shows."""
    rng = np.random.default_rng(5)
    for n in (1, 31, 32, 33, 255, 257, 1023, 1025, 2049, 4097):
        a = rng.integers(-9, 10, (3, n)).astype(np.float32)
        x = ts.array(a)
        for axis in (0, 1, None):
            np.testing.assert_array_equal(ts.sum(x, axis=axis).cpu().numpy(), a.sum(axis))
        np.testing.assert_array_equal((x.T * 3 + 1).cpu().numpy(), a.T * 3 + 1)


def test_sums_of_every_length_and_layout() -> None:
    """One chunk, some, and more than a thousand; aligned or not; several axes; integers, so that sums are exact."""
    rng = np.random.default_rng(6)
    for length in (1, 3, 4, 127, 129, 4095, 4097, 12289, 4096 * 1025 + 3):
        a = rng.integers(-3, 4, length + 1).astype(np.float32)
        x = ts.array(a)
        assert ts.sum(x[1:]).item() == a[1:].sum(dtype=np.float64)
        assert ts.argmax(x[1:]).item() == a[1:].argmax()
    for shape in ((5, 3, 8, 40), (3, 2, 9, 700), (2, 40, 4, 1030)):
        a = rng.integers(-9, 10, shape).astype(np.float64)
        x = ts.array(a)
        for axes in ((0, 3), (1, 3), (0, 2), (0, 1), (1, 2), (0, 1, 2), (0, 2, 3)):
            np.testing.assert_array_equal(ts.sum(x, axis=axes).cpu().numpy(), a.sum(axes))
            flipped = ts.permute_dims(x, (3, 2, 1, 0))
            other = tuple(3 - axis for axis in axes)
            np.testing.assert_array_equal(ts.sum(flipped, axis=other).cpu().numpy(), a.transpose().sum(other))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_every_length(dtype: str) -> None:
    """A warp a row, a block of every size, rows that are streamed; aligned, and one element off."""
    rng = np.random.default_rng(8)
    core, eps = ts._core.ops, 50 * EPS[dtype]
    for length in (1, 5, 256, 511, 513, 1030, 2049, 4100, 8195, 16384, 17000):
        a, g = (rng.standard_normal((3, length + 1)).astype(dtype) for _ in range(2))
        w, b = (rng.standard_normal(length).astype(dtype) for _ in range(2))
        t = rng.integers(0, length, 3)
        for start in (0, 1):
            found = []
            for device in ("cpu", "cuda"):
                ts.set_default_device(device)
                x, dy = (ts.array(v)[:, start : start + length] for v in (a, g))
                weight, bias, target = ts.array(w), ts.array(b), ts.array(t)
                y = core.softmax(x)
                mean = ts.mean(x, axis=1)
                rstd = 1.0 / ts.sqrt(ts.var(x, axis=1) + 1e-5)
                square = 1.0 / ts.sqrt(ts.mean(x * x, axis=1) + 1e-5)
                p, q = ts.tensor(x, requires_grad=True), ts.tensor(x, requires_grad=True)
                loss = ts.nn.functional.cross_entropy(p, target)
                smooth = ts.nn.functional.cross_entropy(q, target, weight * weight, label_smoothing=0.1)
                loss.backward(), smooth.backward()
                found.append(
                    [y, core.log_softmax(x), core.softmax_backward(dy, y)]
                    + [core.log_softmax_backward(dy, core.log_softmax(x))]
                    + [core.layer_norm(x, (length,), weight, bias), core.rms_norm(x, (length,), weight)]
                    + list(core.layer_norm_backward(dy, x, weight, mean, rstd, (length,)))
                    + list(core.rms_norm_backward(dy, x, weight, square, (length,)))
                    + [loss.detach(), smooth.detach(), p.grad, q.grad]
                )
            for i, (cpu, mine) in enumerate(zip(*found, strict=True)):
                for mine_, cpu_ in zip(
                    mine if isinstance(mine, tuple) else (mine,),
                    cpu if isinstance(cpu, tuple) else (cpu,),
                    strict=True,
                ):
                    e = cpu_.numpy()
                    np.testing.assert_allclose(
                        mine_.cpu().numpy(),
                        e,
                        rtol=eps,
                        atol=eps * np.abs(e).max(),
                        err_msg=f"{length} {start} {i}",
                    )


def test_copies_across() -> None:
    """Tiles through shared memory: every item size, edges, rows that are not 16-byte aligned, axes between."""
    rng = np.random.default_rng(9)
    for dtype in ("uint8", "bfloat16", "float32", "float64"):
        for shape, axes in (
            ((16, 16), (1, 0)),
            ((70, 130), (1, 0)),
            ((128, 192), (1, 0)),
            ((3, 65, 33), (0, 2, 1)),
            ((2, 24, 3, 40), (0, 3, 2, 1)),
            ((17, 2, 64, 2), (3, 2, 1, 0)),
            ((2, 20, 7, 5), (0, 2, 3, 1)),
        ):
            a = rng.integers(0, 100, shape)
            x = ts.array(a).astype(dtype)
            for y, e in ((x, a), (x[..., 1:], a[..., 1:])):
                got = ts.contiguous(ts.permute_dims(y, axes)).astype("int64")
                np.testing.assert_array_equal(
                    got.cpu().numpy(), e.transpose(axes), err_msg=f"{dtype} {shape}"
                )
    wide = ts.empty(50, 200)
    wide[:, 1:66] = ts.array(np.arange(65 * 50.0)).reshape(65, 50).T
    np.testing.assert_array_equal(wide[:, 1:66].cpu().numpy(), np.arange(65 * 50.0).reshape(65, 50).T)


def test_packs_of_broadcast_rows() -> None:
    """Pointwise operations whose innermost axis is contiguous or one element, with rows on and off 16 bytes."""
    rng = np.random.default_rng(10)
    for columns in (4, 7, 64, 1001):
        a, b = (rng.integers(-9, 10, (300, columns)).astype(np.float32) for _ in range(2))
        x, y = ts.array(a), ts.array(b)
        for p, q, e, f in ((x, y[0], a, b[0]), (x, y[:, :1], a, b[:, :1]), (x[::2], y[::2], a[::2], b[::2])):
            np.testing.assert_array_equal((p + q).cpu().numpy(), e + f)
            np.testing.assert_array_equal((p * 2 + q).cpu().numpy(), e * 2 + f)
        np.testing.assert_array_equal(ts.fma(x, y, x[3]).cpu().numpy(), a * b + a[3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_of_every_layout(dtype: str) -> None:
    """Packs of channels or of pixels, and single numbers: the same bits, and the CPU's values."""
    rng = np.random.default_rng(12)
    core = ts._core.ops
    for shape in ((3, 8, 4, 4), (2, 12, 5, 3), (3, 5, 2, 8), (2, 3, 3, 3), (5, 1, 4, 1), (4, 16, 1, 1)):
        a, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        w, b = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
        found = []
        for layout in ("cpu", "first", "last", "odd"):
            ts.set_default_device("cpu" if layout == "cpu" else "cuda")
            x, dy = ts.array(a), ts.array(g)
            if layout == "last":
                x, dy = (
                    ts.permute_dims(ts.contiguous(ts.permute_dims(v, (0, 2, 3, 1))), (0, 3, 1, 2))
                    for v in (x, dy)
                )
            elif layout == "odd":
                wide = [ts.zeros(shape[0], shape[1], shape[2], shape[3] + 1, dtype=dtype) for _ in range(2)]
                for to, v in zip(wide, (x, dy), strict=True):
                    to[..., 1:] = v
                x, dy = (v[..., 1:] for v in wide)
            p, weight, bias = (ts.tensor(v, requires_grad=True) for v in (x, ts.array(w), ts.array(b)))
            y = ts.nn.functional.batch_norm(p, None, None, weight, bias, training=True)
            y.backward(dy)
            fixed = core.channel_affine(x, ts.array(w), ts.array(b))
            found.append([v.detach().cpu().numpy() for v in (y, p.grad, weight.grad, bias.grad, fixed)])
        for i, expected in enumerate(found[0]):
            np.testing.assert_allclose(found[1][i], expected, rtol=200 * EPS[dtype], atol=200 * EPS[dtype])
            for other in found[2:]:
                np.testing.assert_array_equal(other[i], found[1][i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_group_norm_of_every_length(dtype: str) -> None:
    """Rows of a warp, of a block, streamed; channels of a warp and of a block; and the bits of unaligned images."""
    rng = np.random.default_rng(13)
    for n, c, groups, pixels in (
        (2, 4, 2, (3, 5)), (3, 6, 6, (7,)), (2, 8, 1, ()), (2, 6, 3, (32, 33)), (1, 4, 2, (70, 64)),
        (1, 2, 1, (100, 99)), (2, 600, 2, (3,)), (1, 2, 2, (1024,)), (1, 3, 1, (1023,)),
    ):  # fmt: skip
        a, g = (rng.standard_normal((n, c, *pixels)).astype(dtype) for _ in range(2))
        w, b = (rng.standard_normal(c).astype(dtype) for _ in range(2))
        found = []
        for device, start in (("cpu", 0), ("cuda", 0), ("cuda", 1)):
            ts.set_default_device(device)
            room = ts.zeros(a.size + start, dtype=dtype)
            room[start:] = ts.array(a.ravel())
            x = ts.tensor(room[start:].reshape(a.shape), requires_grad=True)
            weight, bias = (ts.tensor(ts.array(v), requires_grad=True) for v in (w, b))
            y = F.group_norm(x, groups, weight, bias)
            plain = F.group_norm(x, groups, weight)
            y.backward(ts.array(g))
            found.append([v.detach().cpu().numpy() for v in (y, plain, x.grad, weight.grad, bias.grad)])
        for i, expected in enumerate(found[0]):
            bound = 200 * EPS[dtype]
            np.testing.assert_allclose(found[1][i], expected, rtol=bound, atol=bound * np.abs(expected).max())
            np.testing.assert_array_equal(found[1][i], found[2][i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_products_of_every_layout(dtype: str) -> None:
    """Integers, so sums are exact; and the bits of a row are those of the row alone."""
    rng = np.random.default_rng(14)
    for rows, k in ((1, 1), (3, 5), (40, 129), (7, 4097), (33, 1000)):
        a, v = rng.integers(-4, 5, (rows, k)).astype(dtype), rng.integers(-4, 5, k).astype(dtype)
        x, u = ts.array(a), ts.array(v)
        other = ts.array(np.ascontiguousarray(a.T))
        for y, e in (
            (x @ u, a @ v), (u @ other, v @ a.T), (other.T @ u, a @ v), (u @ x.T, v @ a.T), (u @ u, v @ v),
            (ts.vecdot(x, u), a @ v), (ts.einsum("ij,ij->i", x, x), (a * a).sum(1)), (ts.vdot(x, x), (a * a).sum()),
            (ts.inner(u, x), a @ v), (x[:, ::-1] @ u[::-1], a @ v), (ts.stack([x, x]) @ u, np.stack([a @ v] * 2)),
        ):  # fmt: skip
            np.testing.assert_array_equal(y.cpu().numpy(), e)
    x = ts.array(rng.standard_normal((9, 5001)).astype(dtype))
    together, transposed = (x @ x[0]).cpu().numpy(), (x[0] @ ts.contiguous(x.T)).cpu().numpy()
    np.testing.assert_array_equal(together, [(x[i] @ x[0]).item() for i in range(9)])
    np.testing.assert_array_equal(together, transposed)
    assert np.signbit((ts.array([-1e-300]) @ ts.array([1e-300])).item()) == 0


def test_pooling_of_nothing() -> None:
    for shape in ((2, 0, 4, 4), (0, 3, 4, 4)):
        x = ts.zeros(shape).requires_grad_()
        for pool in (F.max_pool2d, F.avg_pool2d):
            y = pool(x, 2)
            y.backward(ts.ones_like(y.detach()))
            assert tuple(y.shape) == (*shape[:2], 2, 2) and tuple(x.grad.shape) == shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fractional_pooling_is_the_cpus(dtype: str) -> None:
    rng = np.random.default_rng(15)
    for shape, kernel, out in (
        ((2, 3, 9, 11), 2, (4, 5)),
        ((1, 2, 40, 33), 3, (30, 1)),
        ((5, 20, 21), (1, 4), (7, 18)),
    ):
        a = rng.standard_normal(shape).astype(dtype)
        a.ravel()[::17] = np.nan
        found = []
        for device in ("cpu", "cuda"):
            ts.set_default_device(device)
            ts.manual_seed(3)
            x = ts.tensor(ts.array(a), requires_grad=True)
            y, index = F.fractional_max_pool2d(x, kernel, output_size=out, return_indices=True)
            (y * y).backward(ts.ones(*y.shape, dtype=dtype))
            found.append([v.detach().cpu().numpy() for v in (y, index, x.grad)])
        for mine, cpu in zip(found[1], found[0], strict=True):
            assert mine.tobytes() == cpu.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resampled_images_are_the_cpus(dtype: str) -> None:
    """Values and gradients, bit for bit, with points outside and many on one pixel."""
    rng = np.random.default_rng(6)
    image = rng.standard_normal((2, 19, 9, 7)).astype(dtype)
    grid = np.concatenate([rng.uniform(-1.6, 1.6, (2, 8, 5, 2)), rng.uniform(0, 0.1, (2, 8, 5, 2))], 1)

    def results(device: str) -> list[np.ndarray]:
        y = []
        for f in (
            *(
                lambda x, g, m=m, p=p, a=a: F.grid_sample(x, g, m, p, a)
                for m in ("bilinear", "nearest")
                for p in ("zeros", "border", "reflection")
                for a in (False, True)
            ),
            lambda x, g: F.interpolate(x, (13, 5), mode="nearest"),
            lambda x, g: F.interpolate(x, (13, 5), mode="bicubic"),
            lambda x, g: F.adaptive_avg_pool2d(
                ts.moveaxis(ts.moveaxis(x, 1, -1).contiguous(), -1, 1), (4, 3)
            ),
        ):
            x = ts.tensor(image, device=device, requires_grad=True)
            g = ts.tensor(grid.astype(dtype), device=device, requires_grad=True)
            out = f(x, g)
            (out * out).backward(out.detach() + 1)
            y += [t.cpu().numpy() for t in (out.detach(), x.grad, g.grad) if t is not None]
        return y

    for mine, theirs in zip(results("cuda"), results("cpu"), strict=True):
        assert mine.tobytes() == theirs.tobytes()


def test_dropout_is_the_cpus() -> None:
    found = []
    for device in ("cpu", "cuda"):
        ts.manual_seed(7)
        x = ts.arange(1003.0, device=device).requires_grad_()
        y = ts.nn.functional.dropout(x, 0.4)
        y.sum().backward()
        found.append((y.detach().cpu().numpy(), x.grad.cpu().numpy()))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    "dtype, size", [("bfloat16", 1e3), ("bfloat16", 5e4), ("float16", 1e3), ("float32", 5e4)]
)
def test_the_only_key_has_all_the_weight(dtype: str, size: float) -> None:
    """However large its score: products are rounded before the maximum is subtracted, as the maximum was."""
    q = ts.full((1, 1, 1, 1), size, dtype=dtype, device="cuda")
    v = ts.ones((1, 1, 1, 1), dtype=dtype, device="cuda").requires_grad_()
    y = ts.attention(q, q, v, scale=0.7)
    y.backward(ts.ones_like(y.detach()))
    assert y.item() == 1 and v.grad.item() == 1
