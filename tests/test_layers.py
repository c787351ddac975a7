"""Layers and losses made of other operations, against their definitions in NumPy, and their errors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F

RNG = np.random.default_rng(0)
X, Y, Z = RNG.standard_normal((3, 6, 5))
SIGN = np.where(RNG.random((6, 5)) < 0.5, -1.0, 1.0)
LOG_P, Q = np.log(RNG.dirichlet(np.ones(5), 6)), RNG.dirichlet(np.ones(5), 6)
COUNTS = RNG.integers(0, 5, (6, 5)).astype(np.float64)
CLASSES = RNG.integers(0, 5, 6)


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a - b + 1e-6) ** 2).sum(-1))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def margins(p: int) -> float:
    rows = np.arange(6)
    gap = np.maximum(0, 1 - X[rows, CLASSES][:, None] + X) ** p
    gap[rows, CLASSES] = 0
    return float((gap.sum(1) / 5).mean())


LABELS = np.array(
    [
        [0, 3, -1, 2, 1],
        [-1, 0, 1, 2, 3],
        [4, 3, 2, 1, 0],
        [2, -1, 2, -1, 2],
        [1, 4, 0, -1, -1],
        [3, 3, 2, -1, 0],
    ]
)


def multilabel() -> float:
    total = 0.0
    for row, labels in zip(X, LABELS):
        inside = list(labels[: np.argmax(labels < 0) if (labels < 0).any() else 5])
        outside = [i for i in range(5) if i not in inside]
        total += sum(max(0.0, 1 - row[j] + row[i]) for j in inside for i in outside) / 5
    return total / len(X)


def taxi(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b).sum(-1)


COS, VAR = cosine(X, Y), Z * Z + 0.1
COS_LOSS = np.where(SIGN[:, 0] == 1, 1 - COS, np.maximum(0, COS - 0.1))
LOSSES: dict[str, tuple[nn.Module, tuple[np.ndarray, ...], Any]] = {
    "kl_div": (nn.KLDivLoss(reduction="batchmean"), (LOG_P, Q), (Q * (np.log(Q) - LOG_P)).sum() / 6),
    "kl_div log": (nn.KLDivLoss(log_target=True), (LOG_P, np.log(Q)), (Q * (np.log(Q) - LOG_P)).mean()),
    "poisson": (nn.PoissonNLLLoss(), (X, COUNTS), (np.exp(X) - COUNTS * X).mean()),
    "gaussian": (nn.GaussianNLLLoss(), (X, Y, VAR), 0.5 * (np.log(VAR) + (X - Y) ** 2 / VAR).mean()),
    "hinge": (nn.HingeEmbeddingLoss(), (X, SIGN), np.where(SIGN == 1, X, np.maximum(0, 1 - X)).mean()),
    "ranking": (nn.MarginRankingLoss(0.3), (X, Y, SIGN), np.maximum(0, -SIGN * (X - Y) + 0.3).mean()),
    "cosine": (nn.CosineEmbeddingLoss(0.1), (X, Y, SIGN[:, 0]), COS_LOSS.mean()),
    "soft margin": (nn.SoftMarginLoss(reduction="sum"), (X, SIGN), np.log1p(np.exp(-SIGN * X)).sum()),
    "multilabel": (nn.MultiLabelSoftMarginLoss(), (X, (SIGN + 1) / 2), np.log1p(np.exp(-SIGN * X)).mean()),
    "multi margin": (nn.MultiMarginLoss(), (X, CLASSES), margins(1)),
    "multi margin 2": (nn.MultiMarginLoss(2), (X, CLASSES), margins(2)),
    "multilabel margin": (nn.MultiLabelMarginLoss(), (X, LABELS), multilabel()),
    "triplet of any distance": (
        nn.TripletMarginWithDistanceLoss(distance_function=nn.PairwiseDistance(1.0, 0.0), swap=True),
        (X, Y, Z),
        np.maximum(0, taxi(X, Y) - np.minimum(taxi(X, Z), taxi(Y, Z)) + 1).mean(),
    ),
    "triplet": (nn.TripletMarginLoss(), (X, Y, Z), np.maximum(0, distance(X, Y) - distance(X, Z) + 1).mean()),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str) -> None:
    loss, arrays, expected = LOSSES[name]
    inputs = [ts.array(a) for a in arrays]
    inputs[0].requires_grad_()
    value = loss(*inputs)
    np.testing.assert_allclose(float(value), expected, rtol=1e-9)
    value.backward()
    direction = np.random.default_rng(1).standard_normal(arrays[0].shape)
    h = 1e-6
    ends = [float(loss(ts.array(arrays[0] + s * h * direction), *inputs[1:])) for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * h)
    np.testing.assert_allclose((inputs[0].grad.numpy() * direction).sum(), slope, rtol=1e-6, atol=1e-8)


ACTIVATIONS: dict[str, tuple[nn.Module, Any]] = {
    "SELU": (nn.SELU(), lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "CELU": (nn.CELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
    "Hardtanh": (nn.Hardtanh(-0.5, 1.5), lambda x: np.clip(x, -0.5, 1.5)),
    "ReLU6": (nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
    "Softshrink": (nn.Softshrink(0.3), lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.3, 0)),
    "Hardshrink": (nn.Hardshrink(0.3), lambda x: np.where(np.abs(x) <= 0.3, 0, x)),
    "Tanhshrink": (nn.Tanhshrink(), lambda x: x - np.tanh(x)),
    "Threshold": (nn.Threshold(0.1, 20.0), lambda x: np.where(x > 0.1, x, 20.0)),
    "PReLU": (nn.PReLU(dtype=ts.float64), lambda x: np.where(x > 0, x, 0.25 * x)),
    "GLU": (nn.GLU(0), lambda x: x[:3] / (1 + np.exp(-x[3:]))),
    "RReLU": (nn.RReLU(0.1, 0.3).eval(), lambda x: np.where(x > 0, x, 0.2 * x)),
    "Softmin": (nn.Softmin(1), lambda x: np.exp(-x) / np.exp(-x).sum(1, keepdims=True)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    layer, reference = ACTIVATIONS[name]
    np.testing.assert_allclose(layer(ts.array(X)).detach().numpy(), reference(X), rtol=1e-12, atol=1e-13)


def test_mish_keeps_its_tails() -> None:
    """It does not vanish before x e^x does, nor overflow."""
    x = np.array([-100.0, -90.0, -30.0, 30.0, 3e38, -np.inf], np.float32)
    wide = x[:-1].astype(np.float64)
    exact = wide * np.exp(np.minimum(wide, 0))
    y = ts.mish(ts.array(x)).numpy()
    np.testing.assert_allclose(y[:2], exact[:2], rtol=1e-6, atol=2 * 2.0**-149)
    np.testing.assert_allclose(y[2:5], exact[2:5], rtol=1e-6)
    assert abs(y[5]) < 1e-30


@pytest.mark.parametrize(
    ("layer", "shape", "whole"),
    [
        (nn.Dropout1d(0.3), (40, 50, 7), (40, 50, 1)),
        (nn.Dropout2d(0.3), (40, 50, 3, 2), (40, 50, 1, 1)),
        (nn.Dropout2d(0.3), (2000, 3, 2), (2000, 1, 1)),
        (nn.Dropout3d(0.3), (40, 50, 2, 2, 2), (40, 50, 1, 1, 1)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_dropout_of_channels(layer: nn.Module, shape: tuple[int, ...], whole: tuple[int, ...]) -> None:
    ts.manual_seed(0)
    x = ts.ones(shape).requires_grad_()
    y = layer(x)
    y.sum().backward()
    kept = y.detach().numpy() > 0
    scale = np.float32(1) / np.float32(0.7)
    np.testing.assert_allclose(y.detach().numpy(), np.where(kept, scale, 0), rtol=1e-6)
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    one = kept.reshape(*whole[: whole.index(1)], -1)
    assert (one == one[..., :1]).all()
    assert abs(one[..., 0].mean() - 0.7) < 0.05
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match="dimensions, got shape"):
        layer.train()(ts.ones((2,)))


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    ts.manual_seed(0)
    x = ts.random.normal(size=(400, 500), dtype="float64")
    for layer in (nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.2)):
        y = layer(x)
        assert abs(float(y.mean())) < 0.02 and abs(float(ts.var(y)) - 1) < 0.02
        assert layer.eval()(x) is x
    channels = nn.FeatureAlphaDropout(0.5)(ts.zeros((30, 40, 3, 3))).numpy()
    assert (channels == channels[..., :1, :1]).all() and len(np.unique(channels)) == 2
    assert not nn.AlphaDropout(1.0)(x).numpy().any()


def test_gumbel_softmax_samples_and_passes_gradients() -> None:
    ts.manual_seed(0)
    p = np.array([0.1, 0.2, 0.7])
    logits = ts.broadcast_to(ts.array(np.log(p)), (20000, 3)).requires_grad_()
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True)
    values = hard.detach().numpy()
    np.testing.assert_allclose(np.sort(values, 1), [[0, 0, 1]] * 20000, atol=1e-12)
    np.testing.assert_allclose(values.mean(0), p, atol=0.015)
    (hard * ts.array([1.0, 2.0, 3.0])).sum().backward()
    assert logits.grad is not None and (np.abs(logits.grad.numpy()).sum(1) > 0).mean() > 0.9
    soft = F.gumbel_softmax(logits.detach(), tau=2.0, dim=0)
    np.testing.assert_allclose(soft.numpy().sum(0), 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_random_layers_take_halves(dtype: str) -> None:
    x = ts.full((400, 5), -1.0, dtype=dtype)
    assert F.rrelu(x, training=True).dtype == dtype
    y = F.gumbel_softmax(x, hard=True)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype("float32").numpy().sum(1), 1, atol=0.02)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_parameters_of_halves(dtype: str) -> None:
    """A layer made of halves has the parameters of a float32 one, rounded."""
    layers = (
        lambda **kw: nn.Linear(3, 4, **kw),
        lambda **kw: nn.Embedding(5, 4, padding_idx=1, **kw),
        lambda **kw: nn.Conv2d(2, 3, 3, **kw),
        lambda **kw: nn.LSTM(3, 4, **kw),
        lambda **kw: nn.MultiheadAttention(4, 2, add_bias_kv=True, **kw),
    )
    for layer in layers:
        ts.manual_seed(0)
        low = layer(dtype=dtype)
        ts.manual_seed(0)
        for a, b in zip(low.parameters(), layer().parameters(), strict=True):
            assert a.dtype == dtype and a.requires_grad
            np.testing.assert_array_equal(
                *(v.detach().astype(dtype).astype("float32").numpy() for v in (a, b))
            )
    with pytest.raises(TypeError, match="uniform_: x is complex64"):
        nn.Linear(3, 4, dtype="complex64")


def test_rrelu_draws_its_slopes() -> None:
    ts.manual_seed(0)
    x = ts.array(RNG.standard_normal(10000)).requires_grad_()
    y = nn.RReLU(0.1, 0.3)(x)
    slopes = (y.detach().numpy() / x.detach().numpy())[x.detach().numpy() < 0]
    assert 0.1 <= slopes.min() < 0.11 and 0.29 < slopes.max() < 0.3
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy()[x.detach().numpy() < 0], slopes, rtol=1e-12)


def test_local_response_norm() -> None:
    x = RNG.standard_normal((2, 7, 3, 4))
    for size in (1, 2, 3, 5, 9):
        expected = np.empty_like(x)
        for c in range(7):
            near = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
            expected[:, c] = x[:, c] / (2.0 + 0.5 / size * (near**2).sum(1)) ** 0.75
        y = nn.LocalResponseNorm(size, alpha=0.5, k=2.0)(ts.array(x))
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    for shape in ((0, 4, 5), (2, 0, 5), (2, 4, 0)):
        assert F.local_response_norm(ts.ones(shape), 3).shape == shape


def test_bilinear_and_distances() -> None:
    layer = nn.Bilinear(5, 4, 3, dtype=ts.float64)
    x, y = RNG.standard_normal((2, 6, 5)), RNG.standard_normal((2, 6, 4))
    expected = (
        np.einsum("...a,oab,...b->...o", x, layer.weight.detach().numpy(), y) + layer.bias.detach().numpy()
    )
    np.testing.assert_allclose(layer(ts.array(x), ts.array(y)).detach().numpy(), expected, rtol=1e-12)
    assert list(dict(layer.named_parameters())) == ["weight", "bias"]
    with pytest.raises(ValueError, match="the last extent of input2 must be weight's, 4"):
        layer(ts.array(x), ts.array(x))
    np.testing.assert_allclose(
        nn.PairwiseDistance()(ts.array(X), ts.array(Y)).numpy(), distance(X, Y), rtol=1e-12
    )
    np.testing.assert_allclose(
        nn.CosineSimilarity()(ts.array(X), ts.array(Y)).numpy(), cosine(X, Y), rtol=1e-12
    )


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # of PyTorch's encoder
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_is_pytorchs(batch_first: bool, norm_first: bool) -> None:
    torch = pytest.importorskip("torch")
    options: dict[str, Any] = {
        "d_model": 12, "nhead": 3, "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 20,
        "dropout": 0.0, "batch_first": batch_first, "norm_first": norm_first,
    }  # fmt: skip
    ours = nn.Transformer(**options, dtype=ts.float64)
    theirs = torch.nn.Transformer(**options, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(np.array(v.numpy())) for k, v in ours.state_dict().items()})
    source, target = RNG.standard_normal((4, 4, 12)), RNG.standard_normal((4, 4, 12))
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=ts.float64)
    y = ours(ts.array(source), ts.array(target), tgt_mask=mask)
    expected = theirs(
        torch.from_numpy(source), torch.from_numpy(target), tgt_mask=torch.from_numpy(np.array(mask.numpy()))
    )
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-11)


def test_a_transformer_keeps_an_empty_encoder() -> None:
    nothing = nn.Sequential()
    model = nn.Transformer(4, 2, 1, 1, 8, custom_encoder=nothing)
    assert model.encoder is nothing


def test_layers_are_made_on_their_device() -> None:
    """Every layer with parameters takes device=, and refuses one that is not there."""
    for layer in vars(nn).values():
        if isinstance(layer, type) and issubclass(layer, nn.Module):
            names = inspect.signature(layer.__init__).parameters
            assert ("device" in names) == ("dtype" in names), layer.__name__
    makers: list[Any] = [
        lambda device: nn.PReLU(device=device),
        lambda device: nn.LSTM(3, 4, device=device),
        lambda device: nn.GRUCell(3, 4, device=device),
        lambda device: nn.Bilinear(2, 3, 4, device=device),
        lambda device: nn.GroupNorm(2, 4, device=device, bias=False),
        lambda device: nn.InstanceNorm2d(4, affine=True, device=device, bias=False),
    ]
    for make in makers:
        assert make("cpu").state_dict()
        with pytest.raises((ValueError, RuntimeError), match="tpu"):
            make("tpu")


def test_instance_norm_tracks() -> None:
    layer = nn.InstanceNorm2d(3, track_running_stats=True, dtype=ts.float64)
    x = RNG.standard_normal((4, 3, 5, 6)) * 2 + 1
    layer(ts.array(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * x.mean((0, 2, 3)))
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * x.var((2, 3), ddof=1).mean(0))
    layer.eval()
    expected = (x - layer.running_mean.numpy()[:, None, None]) / np.sqrt(layer.running_var.numpy() + 1e-5)[
        :, None, None
    ]
    np.testing.assert_allclose(layer(ts.array(x)).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("norm", [nn.RMSNorm(65), nn.GroupNorm(2, 8), nn.InstanceNorm1d(8)], ids=str)
def test_an_image_alone_has_the_bits_of_the_batch(norm: nn.Module) -> None:
    x = ts.array(RNG.standard_normal((9, 8, 65)).astype(np.float32))
    whole = norm(x).detach().numpy()
    for i in range(9):
        np.testing.assert_array_equal(norm(x[i : i + 1]).detach().numpy()[0], whole[i])


def test_modules_of_resampling() -> None:
    x = ts.array(RNG.standard_normal((1, 2, 4, 4)))
    assert nn.Upsample(scale_factor=2)(x).shape == (1, 2, 8, 8)
    assert nn.AdaptiveAvgPool2d((2, None))(x).shape == (1, 2, 2, 4)
    assert nn.AdaptiveMaxPool2d(3)(x).shape == (1, 2, 3, 3)
    assert nn.LPPool2d(2, 2)(ts.abs(x)).shape == (1, 2, 2, 2)
    assert nn.ReflectionPad2d((1, 2, 3, 0))(x).shape == (1, 2, 7, 7)
    assert nn.ConstantPad1d(2, 7.0)(x[0]).numpy()[0, 0, 0] == 7.0
    assert nn.MaxPool3d(2)(x[0][None, None]).shape == (1, 1, 1, 2, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: F.pad(ts.ones((2, 3)), (3, 0), "reflect"), "too much for mode 'reflect'"),
        (lambda: F.pad(ts.ones((2, 3)), (1, 2, 3)), "a pair for each"),
        (lambda: F.interpolate(ts.ones((1, 1, 4))), "give size or scale_factor"),
        (lambda: F.interpolate(ts.ones((1, 1, 4)), 8, mode="bilinear"), "needs 4 dimensions"),
        (lambda: F.group_norm(ts.ones((1, 6, 2)), 4), "must divide the 6 channels"),
        (lambda: F.gumbel_softmax(ts.ones(3, dtype="int64")), "gumbel_softmax: input must be floating-point"),
        (lambda: F.rrelu(ts.ones(3, dtype="int64"), training=True), "rrelu: input must be floating-point"),
        (
            lambda: F.bilinear(ts.ones((2, 3)), ts.ones((2, 4)), ts.ones((5, 3, 4)), ts.ones((7, 1, 5))),
            r"bilinear: bias must have weight's first extent, \(5,\)",
        ),
        (
            lambda: F.multi_margin_loss(ts.ones((2, 3)), ts.array([0, 1]), weight=ts.ones(5)),
            r"multi_margin_loss: weight must have shape \(3,\), got \(5,\)",
        ),
        (lambda: F.multi_margin_loss(ts.ones((2, 3)), ts.array([[0], [1]])), r"with target \(N\)"),
        (
            lambda: F.multilabel_margin_loss(ts.ones((1, 3)), ts.array([[True, False, True]])),
            "multilabel_margin_loss: target must hold integers",
        ),
        (lambda: nn.Transformer.generate_square_subsequent_mask(2.5), "sz must be an integer"),
        (
            lambda: nn.Transformer.generate_square_subsequent_mask(2, dtype="int64"),
            "dtype must be floating-point, got int64",
        ),
        (lambda: F.group_norm(ts.ones((1, 6, 2)), "a"), "num_groups must be an integer, got 'a'"),
        (lambda: F.grid_sample(ts.ones((1, 1, 2, 2)), ts.ones((2, 1, 1, 2))), "grid"),
        (lambda: ts.csr_matmul(ts.ones((3, 2)), [0, 1, 2], [0]), "starts must go from 0 to 1"),
        (lambda: ts.csr_matmul(ts.ones((3, 2)), [0, 1], [3]), "column 3 is out of range"),
        (lambda: ts.csr_matmul(ts.ones((3, 2)), [0, 2, 1, 3], [0, 1, 2]), "must not descend"),
        (lambda: ts.scatter_reduce(ts.ones(3), 0, [0], ts.ones(1), "median"), 'got "median"'),
        (lambda: ts.topk(ts.ones(3), 4), "k must be in 0 to 3"),
        (lambda: ts.bincount(ts.array([1, -1])), "must not be negative, got -1"),
        (lambda: ts.histogram(ts.array([1.0, np.nan])), "not finite"),
        (lambda: F.glu(ts.ones(3)), "must be even"),
    ],
)
def test_errors_say_what_is_wrong(call: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError, IndexError), match=words):
        call()


def test_second_derivative_of_windows_of_padding_alone() -> None:
    x = ts.asarray([[[[1.0, 2.0]]]]).requires_grad_()  # rows -1 and 1 are padding
    y = F.max_pool2d(x, (2, 1), 1, (1, 0), (2, 1))
    v = ts.ones_like(y.detach()).requires_grad_()
    (dx,) = ts.autograd.gradients(y, (x,), v, create_graph=True)
    (dv,) = ts.autograd.gradients(ts.sum(dx), (v,))
    assert y.tolist() == [[[[-np.inf] * 2]]] and dx.tolist() == [[[[0.0] * 2]]] and dv.tolist() == dx.tolist()


def test_second_derivative_of_group_norm_without_images() -> None:
    x, w = ts.ones((0, 6, 2)).requires_grad_(), ts.ones(6).requires_grad_()
    (first,) = ts.autograd.gradients(ts.sum(F.group_norm(x, 3, w) ** 2), (x,), create_graph=True)
    dx, dw = ts.autograd.gradients(ts.sum(first**2), (x, w))
    assert dx.shape == (0, 6, 2)
    assert dw.tolist() == [0.0] * 6


def test_masks_of_integers_are_refused() -> None:
    layer, x = nn.MultiheadAttention(4, 2, batch_first=True), ts.ones((1, 3, 4))
    with pytest.raises(TypeError, match="key_padding_mask must be bool or floating-point, got int64"):
        layer(x, x, x, key_padding_mask=ts.asarray([[0, 0, 1]]))
    with pytest.raises(TypeError, match="attn_mask must be a tensor, got a list"):
        layer(x, x, x, attn_mask=[[0.0] * 3] * 3)


def test_the_weights_of_attention_are_those_used() -> None:
    ts.manual_seed(0)
    layer = nn.MultiheadAttention(4, 1, dropout=0.5, batch_first=True)
    x = ts.ones((2, 5, 4))
    with ts.no_grad():
        assert (layer(x, x, x)[1].numpy() == 0).any()
        layer.eval()
        np.testing.assert_allclose(layer(x, x, x)[1].numpy().sum(-1), 1, rtol=1e-6)


def test_equal_extremes_of_a_segment_share_the_gradient() -> None:
    for how in ("max", "min"):
        x = ts.asarray([[1.0], [1.0], [3.0], [3.0], [3.0], [7.0]]).requires_grad_()
        ts.segment_reduce(x, ts.asarray([0, 2, 5, 6]), how).sum().backward()
        np.testing.assert_allclose(x.grad.numpy()[:, 0], [1 / 2] * 2 + [1 / 3] * 3 + [1], rtol=1e-6)


def test_old_spellings_of_a_reduction() -> None:
    x, t = ts.asarray([[0.2, 0.8]]).log(), ts.asarray([[0.5, 0.5]])
    assert float(F.mse_loss(x, x + 2, size_average=0)) == 8
    assert F.mse_loss(x, x + 2, reduce=0).shape == (1, 2)
    for layer in (nn.KLDivLoss(size_average=True, reduction="batchmean"), nn.KLDivLoss()):
        assert float(layer(x, t)) == float(F.kl_div(x, t))


def test_a_packed_sequence_knows_both_orders() -> None:
    rnn = nn.utils.rnn
    packed = rnn.PackedSequence(ts.arange(5.0), ts.asarray([2, 2, 1]), ts.asarray([1, 0]))
    assert rnn.pad_packed_sequence(packed)[1].tolist() == [2, 3]
    assert rnn.pad_packed_sequence(packed.to(ts.float64).cpu())[0].dtype == ts.float64
    ragged = [ts.asarray([1.0, 2.0]), ts.zeros(0)]
    back = rnn.unpad_sequence(rnn.pad_sequence(ragged), ts.asarray([2, 0]))
    assert [x.tolist() for x in back] == [[1, 2], []]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda x: nn.LSTMCell(3, 5)(x, (ts.zeros((2, 5)),)),
            ValueError,
            r"hx must be a pair \(h, c\), got 1",
        ),
        (
            lambda x: nn.GRUCell(3, 5)(x, (ts.zeros((2, 5)),)),
            TypeError,
            "GRUCell: hx must be a tensor, got a tuple",
        ),
        (lambda x: nn.LSTM(3, 5)(x, (None, None)), TypeError, "LSTM: hx must be a tensor, got a NoneType"),
        (lambda x: nn.Embedding(3, 2, padding_idx=1.5), TypeError, "padding_idx must be an integer"),
        (lambda x: nn.ZeroPad2d(None), TypeError, "ZeroPad2d: padding must be integers, got None"),
        (
            lambda x: F.cross_entropy(x, [0, 1]),
            TypeError,
            "cross_entropy: target must be a tensor, got a list",
        ),
        (lambda x: nn.utils.clip_grad_norm_([], 1.0, "two"), TypeError, "norm_type must be a number"),
        (
            lambda x: nn.utils.rnn.pack_padded_sequence(ts.ones(3), [3]),
            ValueError,
            r"input must be \(T, N, ...\), got shape \(3,\)",
        ),
    ],
)
def test_what_layers_cannot_take_is_named(call: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call(ts.ones((2, 3)))
    assert nn.ZeroPad2d(np.int64(1)).padding == (1, 1, 1, 1)
