"""Convolutions of one to three dimensions and transposed: the layers against PyTorch's, and errors."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from cases.conv import volumes
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
            "conv_transpose1d: output_padding must be smaller than stride or dilation, got 2, 2 and 1",
        ),
        (
            lambda: F.conv_transpose3d(volume, ts.zeros((2, 1, 1, 1, 1)), padding=2),
            ValueError,
            "conv_transpose3d: the result would have extent 0",
        ),
        (lambda: F.conv3d(volume, None), TypeError, "conv3d: weight must be an array, got NoneType"),
        (
            lambda: F.conv3d(volume.astype("int64"), ts.zeros((2, 2, 1, 1, 1), dtype="int64")),
            TypeError,
            "conv3d: x is int64; float32",
        ),
        (
            lambda: F.conv_transpose2d(volume[0], ts.zeros((2, 1, 1, 1)), stride=1.5),
            TypeError,
            "conv_transpose2d: stride must be an integer or 2 of them, got 1.5",
        ),
        (lambda: F.conv1d(x, w, groups="1"), TypeError, "conv1d: groups must be an integer, got '1'"),
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


def test_arrays_and_numpy_integers() -> None:
    """Lists and NumPy arrays are operands, NumPy's integers are options, for every convolution."""
    x, w, one = np.ones((1, 1, 3, 3, 3), np.float32), [[[[[2.0]]]]], np.int64(1)
    for call in (ts.conv3d, ts.conv_transpose3d):
        y = call(x, w, [1.0], stride=one, padding=[np.int32(0)], groups=one)
        np.testing.assert_array_equal(y.numpy(), np.full((1, 1, 3, 3, 3), 3))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axes, groups", [(1, 1), (2, 1), (2, 4), (3, 1)])
def test_strides_far_past_the_image(axes: int, groups: int, dtype: str) -> None:
    """One window, at the origin; the gradient takes the time of x, not of the stride."""
    call = {1: ts.conv1d, 2: ts.conv2d, 3: ts.conv3d}[axes]
    x = ts.ones((1, 4, *(5,) * axes), dtype=dtype).requires_grad_()
    w = ts.ones((4, 4 // groups, *(3,) * axes), dtype=dtype).requires_grad_()
    y = call(x, w, None, 2**31 - 1, 0, 1, groups)
    y.sum().backward()
    want = np.zeros(x.shape)
    want[(..., *(slice(3),) * axes)] = 4 // groups
    assert y.shape == (1, 4, *(1,) * axes)
    np.testing.assert_array_equal(x.grad.astype("float64").numpy(), want)
    np.testing.assert_array_equal(w.grad.astype("float64").numpy(), np.ones(w.shape))


def _rows(rng: np.random.Generator, *shape: int) -> Any:
    return ts.asarray(rng.standard_normal(shape).astype(np.float32))


def _errors(x: Any, w: Any, padding: int) -> tuple[float, float]:
    """Of the two algorithms, forward, root mean square, relative to the result's."""
    exact = ts.conv2d(x.astype("float64"), w.astype("float64"), None, 1, padding).numpy()
    direct = ts.conv2d(x, w, None, 1, padding).numpy()
    with ts.conv_algorithm("winograd"):
        fast = ts.conv2d(x, w, None, 1, padding).numpy()
    assert not np.array_equal(direct, fast)
    size = float(np.sqrt(np.mean(exact**2)))
    return tuple(float(np.sqrt(np.mean((y - exact) ** 2))) / size for y in (direct, fast))  # type: ignore[return-value]


@pytest.mark.parametrize("channels", [32, 100, 256])
def test_winograd_error(channels: int) -> None:
    rng = np.random.default_rng(channels)
    direct, fast = _errors(_rows(rng, 2, channels, 13, 18), _rows(rng, 48, channels, 3, 3), 1)
    assert fast < 6 * direct and fast < 3e-6


def test_winograd_gradients() -> None:
    """In float64 they agree with the direct algorithm's to rounding, with bias, relu, groups and odd sizes."""
    rng = np.random.default_rng(0)
    for n, c, o, h, w, padding, groups in (
        (2, 32, 33, 5, 6, 1, 1),
        (1, 72, 64, 11, 9, 0, 2),
        (3, 34, 32, 8, 23, 2, 1),
    ):
        x, k, b = (rng.standard_normal(s) for s in ((n, c, h, w), (o, c // groups, 3, 3), (o,)))
        results = []
        for algorithm in ("direct", "winograd"):
            with ts.conv_algorithm(algorithm):
                leaves = [ts.tensor(a, requires_grad=True) for a in (x, k, b)]
                y = F.relu(ts.conv2d(*leaves, 1, padding, 1, groups))
                (y * y).sum().backward()
                plain = ts.conv2d_relu(*(leaf.detach() for leaf in leaves), 1, padding, 1, groups)
                assert np.array_equal(plain.numpy(), y.detach().numpy())
                results.append([y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)])
        for a, d in zip(results[1], results[0], strict=True):
            np.testing.assert_allclose(a, d, rtol=0, atol=1e-13 * np.abs(d).max() * 50)


def test_winograd_bits() -> None:
    """A result depends on its own image, whatever the batch, the layout and the threads."""
    rng = np.random.default_rng(1)
    x, w = _rows(rng, 5, 40, 10, 17), _rows(rng, 64, 40, 3, 3)
    last = ts.permute_dims(ts.asarray(np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1))), (0, 3, 1, 2))
    threads = ts.get_num_threads()
    try:
        with ts.conv_algorithm("winograd"):
            y = ts.conv2d(x, w).numpy()
            assert np.array_equal(ts.conv2d(last, w).numpy(), y)
            assert np.array_equal(ts.conv2d(x[3:4], w).numpy(), y[3:4])
            ts.set_num_threads(1)
            assert np.array_equal(ts.conv2d(x, w).numpy(), y)
    finally:
        ts.set_num_threads(threads)


def test_winograd_is_a_wish_of_one_thread() -> None:
    rng = np.random.default_rng(2)
    x, w, small = _rows(rng, 2, 32, 9, 9), _rows(rng, 32, 32, 3, 3), _rows(rng, 32, 31, 3, 3)
    direct, other = ts.conv2d(x, w).numpy(), []
    step = ts.jit(lambda x, w: ts.conv2d(x, w) + 1)
    step(x, w), step(x, w)

    @ts.jit
    def both(x: ts.Tensor, w: ts.Tensor) -> tuple[ts.Tensor, ts.Tensor]:
        with ts.conv_algorithm("winograd"):
            y = ts.conv2d(x, w)
        return y, ts.conv2d(x, w)

    with ts.conv_algorithm("winograd"):
        assert np.array_equal(ts.conv2d(x, w, stride=2).numpy(), direct[:, :, ::2, ::2])
        thread = threading.Thread(target=lambda: other.append(ts.conv2d(x, w).numpy()))
        thread.start(), thread.join()
        assert np.array_equal(other[0], direct)
        fast = ts.conv2d(x, w).numpy()
        assert not np.array_equal(fast, direct)
        assert np.array_equal(step(x, w).numpy(), fast + 1)  # part of a recording's signature
    for _ in range(3):
        y, z = both(x, w)
        assert np.array_equal(y.numpy(), fast) and np.array_equal(z.numpy(), direct)
    with ts.conv_algorithm("winograd"):
        few = ts.conv2d(x[:, :31], small).numpy()
        with ts.conv_algorithm("direct"):
            assert np.array_equal(ts.conv2d(x, w).numpy(), direct)
            assert np.array_equal(ts.conv2d(x[:, :31], small).numpy(), few)
    assert np.array_equal(ts.conv2d(x, w).numpy(), direct)
    assert np.array_equal(step(x, w).numpy(), direct + 1)
    with pytest.raises(
        ValueError, match="conv_algorithm: algorithm must be 'direct' or 'winograd', got 'fft'"
    ):
        ts.conv_algorithm("fft")


def test_winograd_not_finite() -> None:
    """inf or NaN reaches every result that sees it, and at most the 4 x 4 tiles around."""
    rng = np.random.default_rng(3)
    x, w = _rows(rng, 1, 32, 16, 16).numpy().copy(), _rows(rng, 32, 32, 3, 3)
    x[0, 5, 6, 9] = np.inf
    with ts.conv_algorithm("winograd"):
        bad = ~np.isfinite(ts.conv2d(ts.asarray(x), w, padding=1).numpy())
    assert bad[:, :, 5:8, 8:11].all() and not bad[:, :, :4].any() and not bad[:, :, 8:].any()


def test_narrow_layouts_agree() -> None:
    """Depthwise, narrow groups and few outputs: the same bits for every layout, forward and backward."""
    rng = np.random.default_rng(4)
    core = ts._core.ops
    for c, o, groups, stride in (
        (37, 37, 37, 1),
        (37, 37, 37, 2),
        (24, 48, 12, 1),
        (20, 3, 1, 1),
        (9, 33, 1, 2),
    ):
        x, w = rng.standard_normal((2, c, 12, 31)), rng.standard_normal((o, c // groups, 3, 3))
        dy = rng.standard_normal(ts.conv2d(ts.asarray(x), ts.asarray(w), None, stride, 1, 1, groups).shape)
        options = (stride, 1, 1, groups)
        results = []
        for order in ((0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)):
            back = tuple(np.argsort(order))
            a, d = (
                ts.permute_dims(ts.asarray(np.ascontiguousarray(v.transpose(order))), back) for v in (x, dy)
            )
            results.append(
                [
                    ts.conv2d(a, ts.asarray(w), None, *options).numpy(),
                    core.conv2d_input_backward(d, ts.asarray(w), x.shape, *options).numpy(),
                    *(g.numpy() for g in core.conv2d_weight_backward(d, a, w.shape, *options)),
                ]
            )
        for other in results[1:]:
            assert all(np.array_equal(p, q) for p, q in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "kernel", "stride", "padding"),
    [
        (35, 20, 1, 1, 1, 0),
        (35, 20, 1, 1, 2, 0),
        (16, 33, 1, 1, 3, 0),
        (5, 17, 1, 1, 5, 0),
        (32, 9, 1, 1, 2, 1),
        (19, 12, 1, 3, 2, 1),
        (3, 12, 1, 3, 1, 1),
        (32, 32, 8, 3, 1, 1),
        (20, 30, 10, 3, 2, 1),
        (7, 7, 7, 3, 1, 1),
        (37, 37, 37, 3, 1, 1),
        (48, 48, 48, 5, 2, 2),
        (16, 16, 16, 4, 1, 1),
        (33, 33, 33, 2, 3, 1),
        (32, 32, 32, 7, 1, 3),
    ],
)
def test_layouts_agree(
    dtype: str, channels: int, outputs: int, groups: int, kernel: int, stride: int, padding: int
) -> None:
    """Images whose rows, whose channels or neither of them are contiguous: the same bits, and the definition's."""
    rng = np.random.default_rng(5)
    x = rng.integers(-4, 5, (2, channels, 11, 38)).astype(dtype)
    w = rng.integers(-4, 5, (outputs, channels // groups, kernel, kernel)).astype(dtype)
    options = (stride, padding, 1, groups)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride].reshape(2, groups, channels // groups, -1, kernel, kernel)
    want = np.einsum("ngcqij,gocij->ngoq", windows, w.reshape(groups, -1, *w.shape[1:]))
    dy = rng.standard_normal(ts.conv2d(ts.asarray(x), ts.asarray(w), None, *options).shape).astype(dtype)
    results = []
    for order in ((0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)):
        back = tuple(np.argsort(order))
        a, d = (ts.permute_dims(ts.asarray(np.ascontiguousarray(v.transpose(order))), back) for v in (x, dy))
        y = ts.conv2d(a, ts.asarray(w), None, *options).numpy()
        np.testing.assert_array_equal(y.reshape(want.shape), want)
        dx = ts._core.ops.conv2d_input_backward(d, ts.asarray(w), x.shape, *options)
        dw, db = ts._core.ops.conv2d_weight_backward(d, a, w.shape, *options)
        results.append((y, dx.numpy(), dw.numpy(), db.numpy()))
    for other in results[1:]:
        assert all(np.array_equal(p, q) for p, q in zip(results[0], other, strict=True))


VOLUMES = [  # n, c, o, groups; depth, height, width of x, the filter; stride, padding, dilation
    (2, 3, 40, 1, (5, 9, 19), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    (3, 20, 33, 1, (4, 5, 6), (2, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),  # rows in pairs
    (2, 17, 35, 1, (7, 6, 31), (3, 3, 2), (2, 1, 2), (1, 0, 0), (1, 1, 1)),
    (1, 9, 12, 1, (9, 8, 21), (3, 3, 3), (1, 1, 1), (2, 1, 1), (2, 1, 1)),  # slides
    (2, 16, 5, 1, (6, 7, 18), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),  # few outputs
    (2, 8, 3, 1, (8, 5, 17), (2, 1, 3), (3, 1, 1), (1, 0, 1), (2, 1, 1)),
    (2, 20, 20, 1, (4, 5, 18), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),  # volumes that join
    (2, 20, 36, 1, (5, 4, 7), (1, 1, 1), (2, 2, 2), (1, 0, 0), (1, 1, 1)),
    (2, 20, 36, 1, (5, 4, 18), (3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1)),
    (2, 24, 40, 2, (4, 6, 17), (3, 3, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1)),
    (1, 4, 6, 1, (2, 3, 16), (2, 2, 2), (2, 1, 1), (4, 3, 1), (1, 1, 1)),  # windows outside x
    (1, 1, 16, 1, (6, 9, 20), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    (0, 9, 9, 1, (3, 4, 5), (2, 2, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", VOLUMES)
def test_volumes(sizes: Any, dtype: str) -> None:
    """conv3d's kernels: the definition's numbers (integers: exact), the same bits for every layout and thread count."""
    n, c, o, groups, extents, kernel, stride, padding, dilation = sizes
    rng = np.random.default_rng(6)
    x = rng.integers(-4, 5, (n, c, *extents)).astype(dtype)
    w = rng.integers(-4, 5, (o, c // groups, *kernel)).astype(dtype)
    b = rng.integers(-4, 5, o).astype(dtype)
    want = volumes(stride, padding, dilation, groups)(x, w, b)
    dy = rng.integers(-4, 5, want.shape).astype(dtype)
    options = (stride, padding, dilation, groups)
    floats = [ts.asarray(rng.standard_normal(v.shape).astype(dtype)) for v in (x, w)]
    results = []
    threads = ts.get_num_threads()
    for order in ((0, 1, 2, 3, 4), (0, 2, 3, 4, 1), (4, 3, 2, 1, 0), (0, 2, 3, 4, 1)):
        back = tuple(np.argsort(order))
        a, d = (ts.permute_dims(ts.asarray(np.ascontiguousarray(v.transpose(order))), back) for v in (x, dy))
        leaves = [ts.tensor(v, requires_grad=True) for v in (w, b)]
        a.requires_grad_()
        y = ts.conv3d(a, *leaves, *options)
        np.testing.assert_array_equal(y.detach().numpy(), want)
        y.backward(d)
        results.append(
            [
                *(leaf.grad.numpy() for leaf in (a, *leaves)),
                ts.conv3d(
                    ts.permute_dims(ts.permute_dims(floats[0], order).copy(), back), floats[1], None, *options
                ).numpy(),
            ]
        )
        ts.set_num_threads(1 if len(results) == 3 else threads)
    ts.set_num_threads(threads)
    for other in results[1:]:
        assert all(np.array_equal(p, q) for p, q in zip(results[0], other, strict=True))
    # Gradients against the transposed definition: sum(dy * conv3d(x, w)) is linear in each.
    dx, dw, db = (g.astype("float64") for g in results[0][:3])
    other_x, other_w = rng.integers(-4, 5, x.shape).astype(dtype), rng.integers(-4, 5, w.shape).astype(dtype)
    zero = np.zeros_like(b)
    forward = volumes(stride, padding, dilation, groups)
    assert (dx * other_x).sum() == (dy.astype("float64") * forward(other_x, w, zero)).sum()
    assert (dw * other_w).sum() == (dy.astype("float64") * forward(x, other_w, zero)).sum()
    assert np.array_equal(db, dy.astype("float64").sum((0, 2, 3, 4)))


def test_depthwise_past_the_caches() -> None:
    """Results of 16 MiB are written past the caches: the same bits as image by image."""
    rng, core = np.random.default_rng(7), ts._core.ops
    x, w = _rows(rng, 2, 260, 260, 32), _rows(rng, 32, 1, 3, 3)
    x = ts.permute_dims(x, (0, 3, 1, 2))
    for stride in (1, 2):
        options = (stride, 1, 1, 32)
        y = ts.conv2d(x, w, None, *options)
        dx = core.conv2d_input_backward(y, w, x.shape, *options).numpy()
        for n in range(2):
            one = ts.conv2d(x[n : n + 1], w, None, *options)
            assert np.array_equal(one.numpy(), y.numpy()[n : n + 1])
            alone = core.conv2d_input_backward(one, w, (1, *x.shape[1:]), *options).numpy()
            assert np.array_equal(alone, dx[n : n + 1])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_output_padding_below_the_dilation(axes: int) -> None:
    torch = pytest.importorskip("torch")
    name, rng = f"conv_transpose{axes}d", np.random.default_rng(axes)
    x, w, b = (
        rng.standard_normal((2, 4, *(5, 4, 3)[:axes])),
        rng.standard_normal((4, 3, *[3] * axes)),
        np.ones(6),
    )
    for padding, dilation in ((0, 3), (2, 3), (1, 4)):
        options = {
            "stride": (1, 2, 1)[:axes],
            "padding": padding,
            "output_padding": (2, 0, 2)[:axes],
            "dilation": dilation,
            "groups": 2,
        }
        expected = getattr(torch.nn.functional, name)(*map(torch.tensor, (x, w, b)), **options)
        y = getattr(F, name)(*map(ts.asarray, (x, w, b)), **options)
        np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_volumes(dtype: str) -> None:
    x = ts.zeros((0, 4, 3, 3, 3), dtype=dtype).requires_grad_()
    w = ts.ones((4, 2, 2, 2, 2), dtype=dtype).requires_grad_()
    for f in (F.conv3d, F.conv_transpose3d):
        y = f(x, w, groups=2)
        ts.sum(y).backward()
        assert y.shape[0] == 0 and not w.grad.astype("float32").numpy().any()
