"""Layers, losses and initialisation against float64 NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F

Array = np.ndarray[Any, Any]


def tensor(values: Any, dtype: Any = None, requires_grad: bool = False) -> ts.Tensor:
    result = ts.asarray(np.asarray(values), dtype=dtype)
    return result.requires_grad_() if requires_grad else result


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


# --- layers --------------------------------------------------------------------------------------


def conv_reference(
    x: Array, w: Array, b: Array, s: tuple[int, int], p: tuple[int, int], d: tuple[int, int], g: int
) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (p[0], p[0]), (p[1], p[1])))
    n, _, h, width = x.shape
    o, cg, kh, kw = w.shape
    rows = (h - d[0] * (kh - 1) - 1) // s[0] + 1
    columns = (width - d[1] * (kw - 1) - 1) // s[1] + 1
    y = np.zeros((n, o, rows, columns)) + b[:, None, None]
    for group in range(g):
        outs = slice(group * o // g, (group + 1) * o // g)
        ins = slice(group * cg, (group + 1) * cg)
        for i in range(kh):
            for j in range(kw):
                patch = x[:, ins, i * d[0] :: s[0], j * d[1] :: s[1]][:, :, :rows, :columns]
                y[:, outs] += np.einsum("nchw,oc->nohw", patch, w[outs, :, i, j])
    return y


def test_linear() -> None:
    layer = nn.Linear(4, 3, dtype=ts.float64)
    x = random(2, 5, 4)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    close(layer(tensor(x)), x @ w.T + b)
    close(F.linear(tensor(x), layer.weight), x @ w.T)
    assert nn.Identity(1, a=2)(layer) is layer


@pytest.mark.parametrize(
    ("options", "image"),
    [
        ({"kernel_size": 3}, (6, 7)),
        ({"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}, (7, 9)),
        ({"kernel_size": 3, "groups": 2, "padding": 1}, (5, 5)),
        ({"kernel_size": 3, "padding": "same", "dilation": 2}, (8, 7)),
        ({"kernel_size": (2, 4), "padding": "same"}, (5, 6)),
        ({"kernel_size": 3, "padding": "valid", "bias": False}, (5, 6)),
    ],
)
def test_conv2d(options: dict[str, Any], image: tuple[int, int]) -> None:
    layer = nn.Conv2d(4, 6, **options, dtype=ts.float64)
    x = random(2, 4, *image)
    w = layer.weight.detach().numpy()
    b = np.zeros(6) if layer.bias is None else layer.bias.detach().numpy()
    y = layer(tensor(x))
    if options.get("padding") == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        before = [t // 2 for t in totals]
        padded = np.pad(x, ((0, 0), (0, 0), *((a, t - a) for a, t in zip(before, totals, strict=True))))
        expected = conv_reference(padded, w, b, (1, 1), (0, 0), layer.dilation, layer.groups)
        assert expected.shape[2:] == image
    else:
        padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
        expected = conv_reference(x, w, b, layer.stride, padding, layer.dilation, layer.groups)
    close(y, expected)
    close(layer(tensor(x[0])), expected[0])


def test_pools() -> None:
    x = random(2, 3, 6, 8)
    windows = x.reshape(2, 3, 3, 2, 4, 2)
    close(nn.MaxPool2d(2)(tensor(x)), windows.max((3, 5)))
    close(nn.AvgPool2d(2)(tensor(x)), windows.mean((3, 5)))
    close(nn.MaxPool2d(2)(tensor(x[0])), windows.max((3, 5))[0])
    ones = ts.ones((1, 1, 2, 2))
    assert nn.AvgPool2d(2, padding=1)(ones).numpy().tolist() == [[[[0.25, 0.25], [0.25, 0.25]]]]
    assert nn.AvgPool2d(2, padding=1, count_include_pad=False)(ones).numpy().tolist() == [[[[1, 1], [1, 1]]]]
    assert nn.AvgPool2d(2, divisor_override=3)(ones).numpy().ravel().tolist() == pytest.approx([4 / 3])
    assert nn.MaxPool2d(3, stride=2, ceil_mode=True)(ts.ones((1, 1, 6, 6))).shape == (1, 1, 3, 3)


@pytest.mark.parametrize("channels, width", [(33, 20), (700, 300)])  # rows of shares that fit, and not
def test_overlapping_averages_have_the_same_gradient_in_both_layouts(channels: int, width: int) -> None:
    x, upstream = random(2, channels, 7, width), random(2, channels, 4, width, seed=1)
    gradients = []
    for to_last, to_first in (((0, 1, 2, 3), (0, 1, 2, 3)), ((0, 2, 3, 1), (0, 3, 1, 2))):

        def laid_out(values: Array, to_last: Any = to_last, to_first: Any = to_first) -> ts.Tensor:
            return ts.permute_dims(
                tensor(np.ascontiguousarray(values.transpose(to_last)), ts.float32), to_first
            )

        leaf = laid_out(x).requires_grad_()
        pooled = F.avg_pool2d(leaf, 3, stride=(2, 1), padding=1, count_include_pad=False)
        pooled.backward(laid_out(upstream))
        gradients.append(leaf.grad.numpy())
    assert gradients[0].tobytes() == np.ascontiguousarray(gradients[1]).tobytes()
    counts = np.zeros((7, width))
    for p, q in np.ndindex(4, width):
        rows, columns = range(max(2 * p - 1, 0), min(2 * p + 2, 7)), range(max(q - 1, 0), min(q + 2, width))
        counts[np.ix_(rows, columns)] += upstream[1, 2, p, q].astype(np.float32) / (len(rows) * len(columns))
    np.testing.assert_allclose(gradients[1][1, 2], counts, rtol=1e-5, atol=1e-5)


def test_pools_refuse_windows_of_other_ranks() -> None:
    line, plane = ts.ones((1, 1, 6)), ts.ones((1, 1, 6, 6))
    calls: list[tuple[Any, type[Exception], str]] = [
        (
            lambda: F.max_pool1d(line, (2, 3)),
            ValueError,
            r"max_pool1d: kernel_size must be an integer, got \(2, 3\)",
        ),
        (
            lambda: F.max_pool1d(line, 2.5),
            TypeError,
            r"max_pool1d: kernel_size must be an integer, got float 2\.5",
        ),
        (
            lambda: F.avg_pool1d(line, 2, padding=(1, 0)),
            ValueError,
            "avg_pool1d: padding must be an integer, got",
        ),
        (lambda: F.avg_pool3d(ts.ones((1, 4, 4, 4)), (2, 2)), ValueError, "must be an integer or 3 of them"),
        (
            lambda: F.unfold(plane, 2, padding=(1, 1, 1)),
            ValueError,
            "padding must be an integer or a pair of them",
        ),
    ]
    for call, error, words in calls:
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(3, dtype=ts.float64)
    axes = (0, *range(2, len(shape)))
    column = (1, 3) + (1,) * (len(shape) - 2)
    running_mean, running_var = np.zeros(3), np.ones(3)
    with ts.no_grad():
        layer.weight.copy_(tensor([1.0, 2.0, 3.0]))
        layer.bias.copy_(tensor([0.5, 0.0, -1.0]))
    w, b = np.array([1.0, 2.0, 3.0]).reshape(column), np.array([0.5, 0.0, -1.0]).reshape(column)
    for step in range(3):
        x = random(*shape, seed=step) * 2 + 1
        mean, var = x.mean(axes), x.var(axes)
        expected = (x - mean.reshape(column)) / np.sqrt(var.reshape(column) + 1e-5) * w + b
        close(layer(tensor(x)), expected, 1e-10)
        count = x.size // 3
        running_mean = 0.9 * running_mean + 0.1 * mean
        running_var = 0.9 * running_var + 0.1 * var * count / (count - 1)
    close(layer.running_mean, running_mean)
    close(layer.running_var, running_var)
    assert int(layer.num_batches_tracked) == 3
    layer.eval()
    expected = (x - running_mean.reshape(column)) / np.sqrt(running_var.reshape(column) + 1e-5) * w + b
    close(layer(tensor(x)), expected, 1e-10)
    assert int(layer.num_batches_tracked) == 3
    layer.reset_running_stats()
    assert not layer.running_mean.numpy().any()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (33, 5, 7), (4, 17, 9, 11), (3, 64, 40, 40)])
def test_batch_norm_takes_a_relu(shape: tuple[int, ...], affine: bool, last: bool) -> None:
    """The bits of the two layers, forward and backward, in both layouts; a hook between them keeps them apart."""
    order = (0, *range(2, len(shape)), 1)
    back = (0, len(shape) - 1, *range(1, len(shape) - 1))
    x, dy = (random(*shape, seed=s).astype(np.float32) for s in (0, 1))
    if last:
        x, dy = (np.ascontiguousarray(a.transpose(order)).transpose(back) for a in (x, dy))
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    results = []
    for together in (True, False):
        layer = kind(shape[1], affine=affine)
        if affine:
            with ts.no_grad():
                layer.weight.copy_(ts.asarray(random(shape[1], seed=2).astype(np.float32)))
                layer.bias.copy_(ts.asarray(random(shape[1], seed=3).astype(np.float32)))
        net = nn.Sequential(layer, nn.ReLU())
        if not together:
            layer.register_forward_hook(lambda *_: None)
        leaf = ts.asarray(x).requires_grad_()
        y = net(leaf)
        y.backward(ts.asarray(dy))
        gradients = [leaf.grad] + ([layer.weight.grad, layer.bias.grad] if affine else [])
        results.append([y.detach(), *gradients, layer.running_mean, layer.running_var])
    for a, b in zip(*results, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
        assert a.strides == b.strides


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 1),
        (40, 2, 561),
        (17, 33, 225),
        (32, 64, 1024),
        (9, 5, 4096),
        (700, 70, 1),
        (300, 67, 49),
        (3, 16, 70_000),
    ],
)
def test_batch_statistics_of_a_large_mean(shape: tuple[int, ...], dtype: str) -> None:
    """Right to a few roundings though the mean is 10,000 deviations; the same bits in both layouts."""
    values = (random(*shape) * 0.1 + 1000).astype(dtype)
    x, last = ts.asarray(values), ts.asarray(np.ascontiguousarray(values.transpose(0, 2, 1))).permute(0, 2, 1)
    statistics = []
    for v in (x, last):
        mean, var = ts.zeros(shape[1], dtype=dtype), ts.zeros(shape[1], dtype=dtype)
        F.batch_norm(v, mean, var, training=True, momentum=1.0)
        statistics.append((mean.numpy(), var.numpy()))
    for a, b in zip(*statistics, strict=True):
        np.testing.assert_array_equal(a, b)
    exact = x.numpy().astype(np.longdouble)
    mean, var = statistics[0]
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(mean, exact.mean((0, 2)), rtol=4 * eps)
    np.testing.assert_allclose(var, exact.var((0, 2), ddof=1), rtol=8 * eps)


def test_batch_norm_cumulative_and_untracked() -> None:
    layer = nn.BatchNorm1d(2, momentum=None, dtype=ts.float64)
    xs = [random(5, 2, seed=s) for s in range(3)]
    for x in xs:
        layer(tensor(x))
    close(layer.running_mean, np.mean([x.mean(0) for x in xs], axis=0))
    free = nn.BatchNorm1d(2, track_running_stats=False, affine=False, dtype=ts.float64).eval()
    assert list(free.state_dict()) == []
    close(free(tensor(xs[0])), (xs[0] - xs[0].mean(0)) / np.sqrt(xs[0].var(0) + 1e-5), 1e-10)
    with pytest.raises(TypeError, match="batch_norm: eps must be a number, got str 'a'"):
        F.batch_norm(tensor(xs[0]), tensor(xs[0][0]), tensor(xs[0][0]), eps="a")
    with pytest.raises(TypeError, match=r"normalized_shape must be an integer or several, got 2\.0"):
        F.layer_norm(tensor(xs[0]), 2.0)
    with pytest.raises(ValueError, match="more than one value per channel"):
        nn.BatchNorm1d(2)(ts.zeros((1, 2)))
        nn.BatchNorm1d(2)(ts.zeros((1, 2)))
    layer.track_running_stats = False
    state = {name: value.tolist() for name, value in layer.state_dict().items()}
    close(layer(tensor(xs[0])), (xs[0] - xs[0].mean(0)) / np.sqrt(xs[0].var(0) + 1e-5), 1e-10)
    assert {name: value.tolist() for name, value in layer.state_dict().items()} == state
    with pytest.raises(
        ValueError, match=r"BatchNorm2d: input must be 4-dimensional, \(N, C, H, W\), got shape"
    ):
        nn.BatchNorm2d(2)(ts.zeros((1, 2)))


def test_layer_norm() -> None:
    x = random(2, 3, 4) * 3 + 1
    layer = nn.LayerNorm((3, 4), dtype=ts.float64)
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    close(layer(tensor(x)), (x - mean) / np.sqrt(var + 1e-5), 1e-10)
    plain = nn.LayerNorm(4, elementwise_affine=False)
    assert list(plain.state_dict()) == []
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]


def test_dropout() -> None:
    ts.manual_seed(0)
    layer = nn.Dropout(0.25)
    x = tensor(np.ones((100, 100)), ts.float32, True)
    y = layer(x)
    kept = y.detach().numpy() != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(y.detach().numpy()[kept], 4 / 3, rtol=1e-6)
    y.sum().backward()
    close(x.grad, np.where(kept, 4 / 3, 0), 1e-6)
    assert layer.eval()(x) is x
    assert not nn.Dropout(1.0)(x).detach().numpy().any()


def test_embedding() -> None:
    layer = nn.Embedding(5, 3, padding_idx=1)
    table = layer.weight.detach().numpy()
    assert not table[1].any()
    index = np.array([[0, 1, 4], [4, 4, 2]])
    y = layer(tensor(index))
    close(y, table[index], 0)
    y.sum().backward()
    assert layer.weight.grad.numpy()[:, 0].tolist() == [1, 0, 1, 0, 3]
    given = nn.Embedding.from_pretrained(ts.ones((2, 3)))
    assert not given.weight.requires_grad
    with pytest.raises(IndexError, match="5"):
        layer(tensor([0, 5]))


def test_flatten_unflatten() -> None:
    x = ts.zeros((2, 3, 4, 5))
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(1, 2)(x).shape == (2, 12, 5)
    assert nn.Flatten(0)(x).shape == (120,)
    assert nn.Unflatten(1, (3, -1))(ts.zeros((2, 12))).shape == (2, 3, 4)
    with pytest.raises(IndexError, match="start_dim 3 and end_dim 1"):
        nn.Flatten(3, 1)(x)
    with pytest.raises(ValueError, match="axis 1 has extent 12"):
        nn.Unflatten(1, (5, -1))(ts.zeros((2, 12)))


def erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


ACTIVATIONS = [
    (nn.ReLU(), F.relu, lambda x: np.maximum(x, 0)),
    (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    (nn.ELU(1.5), lambda x: F.elu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    (nn.Sigmoid(), F.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    (nn.LogSigmoid(), F.logsigmoid, lambda x: -np.log1p(np.exp(-x))),
    (nn.Tanh(), F.tanh, np.tanh),
    (nn.GELU(), F.gelu, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    (
        nn.GELU("tanh"),
        lambda x: F.gelu(x, "tanh"),
        lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    (nn.SiLU(), F.silu, lambda x: x / (1 + np.exp(-x))),
    (nn.Softplus(2.0), lambda x: F.softplus(x, 2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    (nn.Softmax(1), lambda x: F.softmax(x, 1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    (
        nn.LogSoftmax(-1),
        lambda x: F.log_softmax(x, -1),
        lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    ),
]


@pytest.mark.parametrize(
    ("layer", "function", "reference"), ACTIVATIONS, ids=lambda v: repr(v) if isinstance(v, nn.Module) else ""
)
def test_activation(layer: nn.Module, function: Any, reference: Any) -> None:
    x = random(4, 5) * 3
    close(layer(tensor(x)), reference(x), 1e-11)
    close(function(tensor(x)), reference(x), 1e-11)
    v = tensor(x, requires_grad=True)
    dy = random(4, 5, seed=1)
    layer(v).backward(tensor(dy))
    step = 1e-6
    numeric = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        numeric[i] = ((reference(up) - reference(down)) * dy).sum() / (2 * step)
    close(v.grad, numeric, 1e-7)


# --- losses --------------------------------------------------------------------------------------


def log_softmax(x: Array, axis: int = 1) -> Array:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def huber(d: Array, delta: float) -> Array:
    return np.where(np.abs(d) < delta, d * d / 2, delta * (np.abs(d) - delta / 2))


def logits_loss(x: Array, t: Array) -> Array:
    return np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))


X, T = random(4, 5) * 2, random(4, 5, seed=1)
P, Q = 1 / (1 + np.exp(-X)), np.abs(np.tanh(T))
LOSSES = [
    (nn.MSELoss, {}, X, T, lambda x, t: (x - t) ** 2),
    (nn.L1Loss, {}, X, T, lambda x, t: np.abs(x - t)),
    (nn.SmoothL1Loss, {}, X, T, lambda x, t: huber(x - t, 1.0)),
    (nn.SmoothL1Loss, {"beta": 0.5}, X, T, lambda x, t: huber(x - t, 0.5) / 0.5),
    (nn.SmoothL1Loss, {"beta": 0.0}, X, T, lambda x, t: np.abs(x - t)),
    (nn.HuberLoss, {"delta": 2.0}, X, T, lambda x, t: huber(x - t, 2.0)),
    (nn.BCELoss, {}, P, Q, lambda x, t: -(t * np.log(x) + (1 - t) * np.log1p(-x))),
    (nn.BCEWithLogitsLoss, {}, X, Q, logits_loss),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("cls", "options", "x", "t", "reference"), LOSSES)
def test_elementwise_loss(
    cls: Any, options: dict[str, Any], x: Array, t: Array, reference: Any, reduction: str
) -> None:
    loss = cls(**options, reduction=reduction)
    expected = reference(x, t)
    reduced = {"mean": expected.mean(), "sum": expected.sum(), "none": expected}[reduction]
    v, target = tensor(x, requires_grad=True), tensor(t, requires_grad=True)
    value = loss(v, target)
    close(value, reduced, 1e-11)
    ops_sum = value.sum()
    ops_sum.backward()
    scale = 1 / x.size if reduction == "mean" else 1.0
    step = 1e-6
    close(v.grad, scale * (reference(x + step, t) - reference(x - step, t)) / (2 * step), 1e-7)
    close(target.grad, scale * (reference(x, t + step) - reference(x, t - step)) / (2 * step), 1e-7)
    with pytest.raises(ValueError, match=r"target has shape \(4,\), input \(4, 5\); losses do not broadcast"):
        loss(tensor(x), tensor(t[:, 0]))


def test_shape_mismatch_tells_the_fix() -> None:
    with pytest.raises(
        ValueError,
        match=r"mse_loss: target has shape \(4,\), input \(4, 1\);.*use target\.reshape\(\(4, 1\)\)",
    ):
        F.mse_loss(ts.zeros((4, 1)), ts.zeros((4,)))
    with pytest.raises(ValueError, match=r"ts\.broadcast_arrays"):
        F.l1_loss(ts.zeros((4, 3)), ts.zeros((3,)))
    with pytest.raises(ValueError, match="must describe the same elements"):
        F.l1_loss(ts.zeros((4, 3)), ts.zeros((4, 2)))


PAIRED: list[tuple[Any, int]] = [  # losses of tensors of one shape, and how many of them they take
    (F.kl_div, 2),
    (F.poisson_nll_loss, 2),
    (F.soft_margin_loss, 2),
    (F.hinge_embedding_loss, 2),
    (F.multilabel_soft_margin_loss, 2),
    (F.margin_ranking_loss, 3),
    (F.triplet_margin_loss, 3),
]


@pytest.mark.parametrize(("loss", "count"), PAIRED, ids=[loss.__name__ for loss, _ in PAIRED])
def test_losses_do_not_broadcast_and_take_the_old_reductions(loss: Any, count: int) -> None:
    x = [tensor(random(4, 5, seed=seed)) for seed in range(count)]
    for wrong in range(1, count):
        with pytest.raises(ValueError, match=rf"{loss.__name__}: \w+ has shape \(4, 1\).*do not broadcast"):
            loss(*(v[:, :1] if i == wrong else v for i, v in enumerate(x)))
    with pytest.raises(ValueError, match="reduction must be"):
        loss(*x, reduction="sums")
    every = loss(*x, reduction="none")
    close(loss(*x, reduce=False), every.numpy(), 0)
    close(loss(*x, size_average=False), every.numpy().sum(), 1e-12)
    close(loss(*x), every.numpy().mean(), 1e-12)


def test_other_losses_refuse_shapes_that_do_not_fit() -> None:
    x, t = tensor(random(4, 5)), tensor(np.ones(4))
    with pytest.raises(ValueError, match=r"target must have shape \(4,\), a number for each vector"):
        F.cosine_embedding_loss(x, x, t[:1])
    with pytest.raises(ValueError, match=r"input2 has shape \(4, 1\)"):
        F.cosine_embedding_loss(x, x[:, :1], t)
    with pytest.raises(ValueError, match=r"target has shape \(5,\)"):
        F.gaussian_nll_loss(x, x[0], 1.0)
    with pytest.raises(ValueError, match=r"input must be \(N, C\) with target \(N\)"):
        F.multi_margin_loss(x, ts.zeros((3,), dtype="int64"))
    for var in (ts.ones((5,)), ts.ones((3, 4, 5)), ts.ones((4, 2))):
        with pytest.raises(ValueError, match=r"gaussian_nll_loss: var must have shape \(4, 5\), \(4,\)"):
            F.gaussian_nll_loss(x, x, var)
    for weight in (ts.ones((4,)), ts.ones((3, 4, 5))):
        with pytest.raises(ValueError, match=r"pos_weight must broadcast to the input's shape \(4, 5\)"):
            F.binary_cross_entropy_with_logits(x, x, pos_weight=weight)
    for loss in (F.binary_cross_entropy_with_logits, F.binary_cross_entropy, F.mse_loss):
        name = loss.__name__
        with pytest.raises(TypeError, match=f"{name}: weight must be a tensor, got a list; use ts.asarray"):
            loss(x, x, weight=[1.0] * 5)
        with pytest.raises(ValueError, match=f"{name}: weight must broadcast to the input's shape"):
            loss(x, x, weight=ts.ones(3))
    with pytest.raises(
        ValueError, match=r"weight must broadcast to the input's shape \(4, 5\), got \(3, 4, 5\)"
    ):
        F.multilabel_soft_margin_loss(x, x, ts.ones((3, 4, 5)))
    for call in (
        lambda: F.multi_margin_loss(x, [0, 1, 2, 3]),
        lambda: F.cosine_embedding_loss(x, x, [1, 1, 1, 1]),
    ):
        with pytest.raises(TypeError, match=r"target must be a tensor, got a list; use ts\.asarray"):
            call()


def test_one_class_number_in_a_row_gives_a_loss_in_a_row() -> None:
    x = tensor(random(4))
    every = F.multi_margin_loss(x, tensor(2), reduction="none")
    assert every.shape == ()
    assert F.multi_margin_loss(x, tensor([2]), reduction="none").tolist() == [every.item()]


def test_distances_and_norms_take_lists() -> None:
    x = [[3.0, 4.0], [0.0, 2.0]]
    close(F.normalize(x), [[0.6, 0.8], [0.0, 1.0]], 1e-7)
    close(F.cosine_similarity(x, x), [1.0, 1.0], 1e-6)
    close(F.pairwise_distance(x, x, eps=0.0), [0.0, 0.0])
    for norm in (
        lambda v: F.rms_norm(v, 2),
        lambda v: F.group_norm(v, 1),
        lambda v: F.local_response_norm(v, 2),
        lambda v: F.instance_norm(v),
    ):
        close(norm([x]), norm(ts.asarray([x])).numpy(), 0)


def test_losses_beside_nan_and_infinity() -> None:
    x, nan = tensor(random(3)), math.nan
    loss = F.kl_div(x, ts.asarray([0.0, nan, -1.0]), reduction="none").numpy()
    assert np.isnan(loss).tolist() == [False, True, True]
    loss = F.gaussian_nll_loss(x, x, ts.asarray([math.inf, 1e-9, nan]), reduction="none").numpy()
    assert loss[0] == math.inf and loss[1] == np.float32(0.5 * math.log(1e-6)) and np.isnan(loss[2])


def test_losses_that_check_their_values_within_jit() -> None:
    rows, var = ts.nn.functional.log_softmax(tensor(random(4, 3)), 1), ts.full((4, 3), 2.0)
    nll = ts.jit(lambda x, t: F.nll_loss(x, t, ts.asarray([1.0, 2.0, 3.0]), ignore_index=-1))
    for target in ([0, 1, 2, 2], [-1, 2, 0, 1]):
        t = ts.asarray(target)
        close(nll(rows, t), F.nll_loss(rows, t, ts.asarray([1.0, 2.0, 3.0]), ignore_index=-1).numpy(), 0)
    for wrong in (3, -2):
        with pytest.raises(IndexError, match=f"index {wrong}"):
            nll(rows, ts.asarray([0, 1, wrong, 2]))
    gaussian = ts.jit(lambda x, v: F.gaussian_nll_loss(x, x, v))
    for v in (var, var * 2):
        close(gaussian(rows, v), F.gaussian_nll_loss(rows, rows, v).numpy(), 0)
    assert math.isnan(float(gaussian(rows, -var)))


def test_gaussian_nll_takes_a_variance_for_each_vector() -> None:
    x, t = random(3, 3), random(3, 3, seed=1)
    for var in (
        np.array(0.3),
        np.abs(random(3, seed=2)),
        np.abs(random(1, 3, seed=3)),
        np.abs(random(3, 3, seed=4)),
    ):
        wide = var[:, None] if var.ndim == 1 else var
        expected = 0.5 * (np.log(wide) + (x - t) ** 2 / wide)
        close(F.gaussian_nll_loss(tensor(x), tensor(t), tensor(var), reduction="none"), expected, 1e-12)


@pytest.mark.parametrize(("first", "second"), [((1, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (2, 3, 4))])
def test_cosine_similarity_broadcasts(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Before it takes norms: the axis of the cosine may be one that grows."""
    x, y = random(*first), random(*second, seed=1)
    a, b = np.broadcast_arrays(x, y)
    for axis in range(a.ndim):
        norms = np.linalg.norm(a, axis=axis) * np.linalg.norm(b, axis=axis)
        close(F.cosine_similarity(tensor(x), tensor(y), axis), (a * b).sum(axis) / norms, 1e-12)


def test_weights_of_elementwise_losses() -> None:
    x, t, w = tensor(X), tensor(T), np.abs(random(4, 5, seed=2))
    close(F.mse_loss(x, t, weight=tensor(w)), ((X - T) ** 2 * w).sum() / w.sum())
    q, pw = tensor(Q), np.array([1.0, 2.0, 0.5, 3.0, 1.0])
    close(F.binary_cross_entropy(tensor(P), q, tensor(w)), (logits_loss(X, Q) * w).mean(), 1e-11)
    expected = (1 - Q) * X + (1 + (pw - 1) * Q) * np.log1p(np.exp(-X))
    close(F.binary_cross_entropy_with_logits(x, q, pos_weight=tensor(pw)), expected.mean(), 1e-11)


def test_bce_at_the_edges() -> None:
    x = tensor([0.0, 1.0, 0.0, 1.0], ts.float64, True)
    loss = F.binary_cross_entropy(x, tensor([0.0, 1.0, 1.0, 0.0]), reduction="none")
    assert loss.detach().numpy().tolist() == [0, 0, 100, 100]
    loss.sum().backward()
    assert x.grad.numpy().tolist() == [0, 0, -1e12, 1e12]
    assert np.isnan(float(F.binary_cross_entropy(tensor([1.5]), tensor([1.0]))))
    right = F.binary_cross_entropy_with_logits(tensor([20.0, -20.0]), tensor([1.0, 0.0]), reduction="none")
    close(right, np.log1p(np.exp(-20.0)) * np.ones(2), 1e-20)
    weighted = F.binary_cross_entropy_with_logits(
        tensor([20.0, -20.0]), tensor([1.0, 0.0]), reduction="none", pos_weight=tensor([3.0, 3.0])
    )
    close(weighted, np.log1p(np.exp(-20.0)) * np.array([3.0, 1.0]), 1e-20)
    for positive in (None, tensor([3.0, 3.0])):
        masked = tensor([-np.inf, np.inf])
        masked.requires_grad_()
        none = F.binary_cross_entropy_with_logits(
            masked, tensor([0.0, 1.0]), reduction="none", pos_weight=positive
        )
        none.sum().backward()
        assert none.detach().numpy().tolist() == [0, 0] == masked.grad.numpy().tolist()
    far = F.binary_cross_entropy_with_logits(tensor([1000.0, -1000.0]), tensor([1.0, 1.0]), reduction="none")
    assert far.numpy().tolist() == [0, 1000]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("extra", [(), (3,)])
def test_cross_entropy(reduction: str, smoothing: float, weighted: bool, extra: tuple[int, ...]) -> None:
    x = random(6, 5, *extra) * 3
    target = np.random.default_rng(1).integers(0, 5, (6, *extra))
    target.flat[2] = -100
    w = np.array([1.0, 0.5, 2.0, 1.5, 0.25]) if weighted else np.ones(5)
    logp = log_softmax(x)
    kept = target != -100
    picked = np.take_along_axis(logp, np.where(kept, target, 0)[:, None], 1)[:, 0]
    wt = np.where(kept, w[np.where(kept, target, 0)], 0)
    column = (5,) + (1,) * len(extra)
    smooth = -(logp * w.reshape(column)).sum(1) * kept / 5
    losses = (1 - smoothing) * -picked * wt + smoothing * smooth
    expected = {"mean": losses.sum() / wt.sum(), "sum": losses.sum(), "none": losses}[reduction]
    loss = nn.CrossEntropyLoss(
        tensor(w) if weighted else None, reduction=reduction, label_smoothing=smoothing
    )
    v = tensor(x, requires_grad=True)
    value = loss(v, tensor(target))
    close(value, expected, 1e-11)
    value.sum().backward()
    if smoothing == 0.0:
        scale = wt / (wt.sum() if reduction == "mean" else 1.0)
        onehot = np.moveaxis(np.eye(5)[np.where(kept, target, 0)], -1, 1)
        close(v.grad, (np.exp(logp) - onehot) * scale[:, None], 1e-11)
        nll = nn.NLLLoss(tensor(w) if weighted else None, reduction=reduction)
        close(nll(tensor(logp), tensor(target)), expected, 1e-11)


def test_cross_entropy_with_probabilities() -> None:
    x, w = random(4, 5, 2), np.array([1.0, 0.5, 2.0, 1.5, 0.25])
    q = np.exp(log_softmax(random(4, 5, 2, seed=1)))
    smoothed = q * 0.9 + 0.1 / 5
    expected = -(smoothed * w[:, None] * log_softmax(x)).sum(1)
    close(
        F.cross_entropy(tensor(x), tensor(q), tensor(w), label_smoothing=0.1, reduction="none"),
        expected,
        1e-11,
    )
    close(F.cross_entropy(tensor(x), tensor(q)), -(q * log_softmax(x)).sum(1).mean(), 1e-11)
    with pytest.raises(ValueError, match="probabilities need the input's shape"):
        F.cross_entropy(tensor(x), tensor(q[0]))


def test_cross_entropy_errors() -> None:
    with pytest.raises(ValueError, match="ignore_index=1 names a class, but target holds probabilities"):
        F.cross_entropy(ts.zeros((2, 3)), ts.ones((2, 3)), ignore_index=1)
    x = ts.zeros((2, 3))
    with pytest.raises(IndexError, match="3"):
        F.cross_entropy(x, tensor([0, 3]))
    with pytest.raises(IndexError, match="3"):
        F.nll_loss(x, tensor([0, 3]))
    with pytest.raises(ValueError, match="cross_entropy"):
        F.cross_entropy(x, tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none', got 'avg'"):
        F.mse_loss(x, x, reduction="avg")
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 2"):
        nn.CrossEntropyLoss(label_smoothing=2)
    with pytest.raises(TypeError, match="nll_loss: target is float32; class indices of an integer dtype"):
        F.nll_loss(x, ts.zeros((2,)))
    with pytest.raises(TypeError, match="nll_loss: ignore_index must be an integer, got float"):
        F.nll_loss(x, tensor([0, 1]), ignore_index=1.5)


def test_a_batch_that_is_ignored_throughout_has_no_curvature() -> None:
    x, ignored = tensor(random(2, 3), requires_grad=True), tensor([-100, -100])
    (dx,) = ts.autograd.gradients(F.cross_entropy(x, ignored), x, create_graph=True)
    (ddx,) = ts.autograd.gradients(ts.sum(dx * tensor(random(2, 3, seed=1))), x)
    close(dx, np.zeros((2, 3)))
    close(ddx, np.zeros((2, 3)))


@pytest.mark.parametrize("width", [1.0, 0.3])
def test_huber_is_a_parabola_at_its_bottom_too(width: float) -> None:
    x, v = random(4, 5), random(4, 5, seed=1)
    t = np.concatenate([x[:2], random(2, 5, seed=2)])
    near = np.abs(x - t) < width
    for loss, factor in (
        (lambda a, b: F.huber_loss(a, b, "sum", width), 1.0),
        (lambda a, b: F.smooth_l1_loss(a, b, reduction="sum", beta=width), 1 / width),
    ):
        a, b = tensor(x, requires_grad=True), tensor(t, requires_grad=True)
        da, db = ts.autograd.gradients(loss(a, b), (a, b), create_graph=True)
        close(da, factor * np.clip(x - t, -width, width), 1e-12)
        close(db, -factor * np.clip(x - t, -width, width), 1e-12)
        (dda,) = ts.autograd.gradients(ts.sum(da * tensor(v)), a)
        close(dda, factor * v * near, 1e-12)


def test_a_mean_of_weighted_huber_losses_is_no_weighted_mean() -> None:
    x, t, w = random(4, 5), random(4, 5, seed=1), np.abs(random(4, 5, seed=2))
    d = np.abs(x - t)
    every = w * np.where(d < 0.7, d * d / 2, 0.7 * (d - 0.35))
    close(F.huber_loss(tensor(x), tensor(t), "mean", 0.7, tensor(w)), every.mean())
    close(F.huber_loss(tensor(x), tensor(t), "mean", math.inf), (d * d / 2).mean())
    close(F.smooth_l1_loss(tensor(x), tensor(t), beta=math.inf), 0.0)


def test_what_lies_on_the_margin_is_moved() -> None:
    x, one = np.array([[1.0, 0.0], [0.0, 2.0]]), np.ones(2)
    a, b = tensor(x, requires_grad=True), tensor(x, requires_grad=True)
    F.margin_ranking_loss(a, b, ts.ones_like(b.detach()), reduction="sum").backward()
    close(a.grad, -np.ones((2, 2)))
    close(b.grad, np.ones((2, 2)))
    a = tensor(one, requires_grad=True)
    F.hinge_embedding_loss(a, tensor(-one), reduction="sum").backward()
    close(a.grad, -one)
    a = tensor(x[0], requires_grad=True)
    F.cosine_embedding_loss(a, tensor([0.0, 1.0]), tensor(-1)).backward()
    close(a.grad, [0.0, 1.0], 1e-7)
    a = tensor(x[0], requires_grad=True)
    F.triplet_margin_loss(a, tensor([1.0, 1.0]), tensor([2.0, 0.0]), margin=0.0, eps=0.0).backward()
    close(a.grad, [1.0, -1.0])


def test_one_hot() -> None:
    assert F.one_hot(tensor([0, 2])).numpy().tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(tensor([[1]]), 3).numpy().tolist() == [[[0, 1, 0]]]
    assert F.one_hot([0, 2]).numpy().tolist() == [[1, 0, 0], [0, 0, 1]]


# --- bad layer arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(-1, 2), "Linear: in_features must be >= 0, got -1"),
        (lambda: nn.Conv2d(0, 1, 3), "Conv2d: in_channels must be >= 1, got 0"),
        (lambda: nn.Conv2d(1, 1, 3, stride=0), "Conv2d: stride must be >= 1, got 0"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), "Conv2d: kernel_size must be an integer or a pair"),
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            "Conv2d: in_channels must be divisible by groups, got 3 and 2",
        ),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding must be >= 0, got -1"),
        (
            lambda: nn.Conv2d(1, 1, 3, padding="full"),
            "Conv2d: padding must be one of 'valid', 'same', got 'full'",
        ),
        (lambda: nn.Conv2d(1, 1, 3, 2, "same"), r"Conv2d: padding='same' needs stride 1, got \(2, 2\)"),
        (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size must be >= 1, got 0"),
        (lambda: nn.AvgPool2d(2, 0), "AvgPool2d: stride must be >= 1, got 0"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), "AvgPool2d: divisor_override"),
        (lambda: nn.BatchNorm2d(0), "BatchNorm2d: num_features must be >= 1, got 0"),
        (lambda: nn.BatchNorm1d(2, eps=-1), "BatchNorm1d: eps must be >= 0, got -1"),
        (lambda: nn.BatchNorm1d(2, momentum=1.5), r"BatchNorm1d: momentum must be in \[0, 1\], got 1.5"),
        (lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape must name at least one axis"),
        (lambda: nn.LayerNorm((3, 0)), "LayerNorm: normalized_shape must be >= 1, got 0"),
        (lambda: nn.Dropout(1.5), r"Dropout: p must be in \[0, 1\], got 1.5"),
        (lambda: nn.Dropout(math.nan), "Dropout: p"),
        (lambda: nn.Embedding(0, 3), "Embedding: num_embeddings must be >= 1, got 0"),
        (lambda: nn.Embedding(3, 3, padding_idx=3), r"padding_idx must be in \[-3, 3\), got 3"),
        (lambda: nn.Embedding(3, 3, max_norm=0.0), "Embedding: max_norm must be > 0, got 0.0"),
        (lambda: nn.GELU("erf"), "GELU: approximate must be one of 'none', 'tanh', got 'erf'"),
        (lambda: nn.Softplus(0), "Softplus: beta must be > 0, got 0"),
        (lambda: nn.HuberLoss(delta=0), "HuberLoss: delta must be > 0, got 0"),
        (lambda: nn.MSELoss(reduction="avg"), "MSELoss: reduction must be one of"),
        (lambda: nn.Unflatten(1, (-1, -1)), "Unflatten: unflattened_size may hold one -1"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_not_an_integer() -> None:
    with pytest.raises(TypeError, match=r"Linear: in_features must be an integer, got float 2\.5"):
        nn.Linear(2.5, 2)  # type: ignore[arg-type]


# --- initialisation ------------------------------------------------------------------------------


def test_default_initialisation_is_pytorchs() -> None:
    ts.manual_seed(0)
    layer = nn.Linear(100, 400)
    bound = 1 / math.sqrt(100)
    for values in (layer.weight.detach().numpy(), layer.bias.detach().numpy()):
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.95 * bound
    assert abs(layer.weight.detach().numpy().std() - bound / math.sqrt(3)) < 0.001
    conv = nn.Conv2d(8, 16, 5, groups=2)
    assert 0.95 / math.sqrt(100) < np.abs(conv.weight.detach().numpy()).max() <= 1 / math.sqrt(100)
    assert abs(nn.Embedding(100, 100).weight.detach().numpy().std() - 1) < 0.02
    ts.manual_seed(0)
    assert nn.Linear(100, 400).weight.detach().numpy().tobytes() == layer.weight.detach().numpy().tobytes()


@pytest.mark.parametrize(
    ("fill", "std", "bound"),
    [
        (lambda w: nn.init.xavier_uniform_(w), math.sqrt(2 / 700), math.sqrt(6 / 700)),
        (lambda w: nn.init.xavier_normal_(w, gain=2.0), 2 * math.sqrt(2 / 700), None),
        (lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), math.sqrt(2 / 300), math.sqrt(6 / 300)),
        (lambda w: nn.init.kaiming_normal_(w, a=1.0, mode="fan_out"), math.sqrt(1 / 400), None),
        (lambda w: nn.init.normal_(w, 0.0, 0.3), 0.3, None),
        (lambda w: nn.init.uniform_(w, -2.0, 2.0), 2 / math.sqrt(3), 2.0),
        (lambda w: nn.init.trunc_normal_(w), 0.87963, 2.0),
        (lambda w: nn.init.trunc_normal_(w, std=1.0, a=-0.1, b=0.1), 0.0577, 0.1),
    ],
)
def test_init(fill: Any, std: float, bound: float | None) -> None:
    ts.manual_seed(1)
    w = nn.Parameter(ts.empty((400, 300)))
    assert fill(w) is w
    values = w.detach().numpy()
    assert abs(values.mean()) < 0.02 * std
    assert abs(values.std() / std - 1) < 0.02
    if bound is not None:
        assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
    assert w.requires_grad
    assert w.is_leaf


def test_truncated_tail() -> None:
    w = nn.init.trunc_normal_(ts.empty((200, 200)), a=4.0, b=6.0)
    values = w.numpy()
    assert values.min() >= 4
    assert values.max() <= 6
    assert abs(values.mean() - 4.2257) < 0.01  # the mean of a normal beyond 4


def test_constants_gains_and_errors() -> None:
    w = ts.empty((2, 3))
    assert nn.init.constant_(w, 2.5).numpy().tolist() == [[2.5] * 3] * 2
    assert nn.init.ones_(w).numpy().all()
    assert not nn.init.zeros_(w).numpy().any()
    assert nn.init.eye_(w).numpy().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert nn.init.calculate_gain("tanh") == 5 / 3
    assert nn.init.calculate_gain("leaky_relu", 1.0) == 1.0
    with pytest.raises(ValueError, match="nonlinearity must be one of"):
        nn.init.calculate_gain("softmax")
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        nn.init.xavier_uniform_(ts.empty((3,)))
    with pytest.raises(ValueError, match="mode must be one of 'fan_in', 'fan_out', got 'fan'"):
        nn.init.kaiming_normal_(w, mode="fan")
    with pytest.raises(ValueError, match="a must be < b"):
        nn.init.trunc_normal_(w, a=1.0, b=1.0)


# --- utilities -----------------------------------------------------------------------------------


def with_gradients(dtype: Any = None) -> tuple[list[nn.Parameter], Array]:
    params = [nn.Parameter(ts.zeros(shape, dtype=dtype)) for shape in ((3, 4), (5,), ())]
    params.append(nn.Parameter(ts.zeros((2,))))  # without a gradient
    grads = [random(*p.shape, seed=i) for i, p in enumerate(params[:3])]
    for p, g in zip(params, grads, strict=False):
        p.grad = tensor(g, p.dtype)
    return params, np.concatenate([np.ravel(g) for g in grads])


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, math.inf])
def test_clip_grad_norm(order: float) -> None:
    params, flat = with_gradients(ts.float64)
    norm = np.abs(flat).max() if order == math.inf else (np.abs(flat) ** order).sum() ** (1 / order)
    total = nn.utils.clip_grad_norm_(iter(params), 0.5, order)
    close(total, norm, 1e-12)
    clipped = np.concatenate([np.ravel(p.grad.numpy()) for p in params[:3]])
    np.testing.assert_allclose(clipped, flat * 0.5 / (norm + 1e-6), rtol=1e-12)
    nn.utils.clip_grad_norm_(params, 1e9, order)
    if order == math.inf:
        close(nn.utils.get_total_norm([p.grad for p in params[:3]], "inf"), np.abs(clipped).max())
    np.testing.assert_array_equal(clipped, np.concatenate([np.ravel(p.grad.numpy()) for p in params[:3]]))
    assert params[3].grad is None


def test_clip_others() -> None:
    params, flat = with_gradients()
    nn.utils.clip_grad_value_(params, 0.3)
    clipped = np.concatenate([np.ravel(p.grad.numpy()) for p in params[:3]])
    np.testing.assert_allclose(clipped, np.clip(flat, -0.3, 0.3), rtol=1e-6)
    params[0].grad = tensor(np.full((3, 4), np.nan), ts.float32)
    with pytest.raises(ValueError, match="it must be finite"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert float(nn.utils.clip_grad_norm_([], 1.0)) == 0
    with pytest.raises(ValueError, match="max_norm must be >= 0"):
        nn.utils.clip_grad_norm_(params, -1.0)
    with pytest.raises(TypeError, match="clip_grad_norm_: every parameter must be a tensor, got a float"):
        nn.utils.clip_grad_norm_([1.0], 1.0)
    with pytest.raises(
        TypeError, match="clip_grad_value_: parameters must be a tensor or several, got a int"
    ):
        nn.utils.clip_grad_value_(3, 1.0)


def test_total_norm_of_one_tensor_and_of_rows() -> None:
    rows = ts.RowSparse(ts.asarray([0, 0]), ts.ones((2, 2)), (3, 2))
    close(nn.utils.get_total_norm(rows), np.sqrt(8), 1e-12)
    close(nn.utils.get_total_norm([rows, ts.ones(())]), 3, 1e-12)
    close(nn.utils.get_total_norm(ts.full((), -2.0)), 2, 1e-12)


def test_vector() -> None:
    layer = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (8,)
    nn.utils.vector_to_parameters(vector * 2, layer.parameters())
    close(nn.utils.parameters_to_vector(layer.parameters()), 2 * vector.detach().numpy(), 1e-6)
    with pytest.raises(ValueError, match=r"with 8 elements, got shape \(7,\)"):
        nn.utils.vector_to_parameters(ts.zeros((7,)), layer.parameters())
    base = ts.arange(4, dtype=ts.float32)
    first, second = nn.Parameter(base[:2]), nn.Parameter(base[2:])
    nn.utils.vector_to_parameters(base[::-1], [first, second])
    assert base.numpy().tolist() == [3, 2, 1, 0]
    memory = np.ones(2, np.float32)
    memory.flags.writeable = False
    with pytest.raises(ValueError, match="a parameter is read-only"):
        nn.utils.vector_to_parameters(ts.zeros((4,)), [first, nn.Parameter(ts.asarray(memory, copy=False))])
    assert base.numpy().tolist() == [3, 2, 1, 0]
