"""Attention beyond the table of cases: long sequences, bits, dropout, errors, and the layers against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F


def random(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def explicit(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize(("t", "s", "causal"), [(150, 2300, False), (1200, 1200, True), (9, 9000, False)])
def test_long(t: int, s: int, causal: bool) -> None:
    """More keys than one chunk of backward: gradients against those of the explicit matrix."""
    arrays = [random(1, 2, n, 6, seed=i) for i, n in enumerate((t, s, s))]
    dy = ts.asarray(random(1, 2, t, 6, seed=3))
    ours = [ts.tensor(a, requires_grad=True) for a in arrays]
    y = ts.attention(*ours, causal=causal)
    np.testing.assert_allclose(y.detach().numpy(), explicit(*arrays, causal), rtol=0, atol=1e-14)
    y.backward(dy)
    plain = [ts.tensor(a, requires_grad=True) for a in arrays]
    scores = plain[0] @ ts.matrix_transpose(plain[1]) / np.sqrt(6)
    if causal:
        scores = ts.where(ts.asarray(np.tri(t, s, dtype=bool)), scores, -np.inf)
    (ts.softmax(scores, -1) @ plain[2]).backward(dy)
    for mine, other in zip(ours, plain):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=0, atol=1e-13)


def results(q: Any, k: Any, v: Any, dy: Any, **options: Any) -> list[np.ndarray]:
    inputs = [ts.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (q, k, v)]
    y = ts.attention(*inputs, **options)
    y.backward(ts.asarray(np.ascontiguousarray(dy)))
    return [y.detach().numpy(), *(x.grad.numpy() for x in inputs)]


def test_bits_do_not_depend_on_company() -> None:
    """A head alone, and the queries before a position, give the bits that they gave among others."""
    q, k, v, dy = (random(3, 4, 310, 20, seed=i, dtype="float32") for i in range(4))
    full = results(q, k, v, dy, causal=True)
    alone = results(q[1:2, 2:3], k[1:2, 2:3], v[1:2, 2:3], dy[1:2, 2:3], causal=True)
    for a, b in zip(full, alone):
        np.testing.assert_array_equal(a[1:2, 2:3], b)
    before = ts.attention(*(ts.asarray(np.ascontiguousarray(x[:, :, :101])) for x in (q, k, v)), causal=True)
    np.testing.assert_array_equal(full[0][:, :, :101], before.numpy())
    one = ts.attention(ts.asarray(q[:, :, 309:]), ts.asarray(k), ts.asarray(v))
    np.testing.assert_array_equal(full[0][:, :, 309:], one.numpy())
    grouped = ts.attention(*(ts.asarray(x) for x in (q, k[:, :2], v[:, :2])))
    repeated = ts.attention(ts.asarray(q), *(ts.asarray(np.repeat(x[:, :2], 2, 1)) for x in (k, v)))
    np.testing.assert_array_equal(grouped.numpy(), repeated.numpy())


def test_dropout() -> None:
    """The weights that survive are those of the draw, scaled; backward draws the same."""
    t, s, p = 40, 170, 0.3
    q, k = random(1, 2, t, 8), random(1, 2, s, 8, seed=1)
    identity = np.broadcast_to(np.eye(s), (1, 2, s, s)).copy()  # y is then the matrix of weights
    tensors = [ts.tensor(a, requires_grad=True) for a in (q, k, identity)]
    weights = ts.attention(*tensors[:2], tensors[2]).detach().numpy()
    generator = ts.random.Generator(7)
    y = ts.attention(*tensors, dropout=p, generator=generator)
    dropped = y.detach().numpy()
    kept = dropped != 0
    assert abs(kept.mean() - (1 - p)) < 0.02
    assert kept[0, 0].tobytes() != kept[0, 1].tobytes()
    np.testing.assert_allclose(dropped[kept], (weights / (1 - p))[kept], rtol=1e-13)
    again = ts.attention(*tensors, dropout=p, generator=generator)
    assert (again.detach().numpy() != 0).tobytes() != kept.tobytes()
    dy = random(1, 2, t, s, seed=2)
    y.backward(ts.asarray(dy))
    plain = [ts.tensor(a, requires_grad=True) for a in (q, k, identity)]
    p_explicit = ts.softmax(plain[0] @ ts.matrix_transpose(plain[1]) / np.sqrt(8), -1)
    (ts.where(ts.asarray(kept), p_explicit / (1 - p), 0.0) @ plain[2]).backward(ts.asarray(dy))
    for mine, other in zip(tensors, plain):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=0, atol=1e-13)
    assert not ts.attention(*tensors, dropout=1.0).detach().numpy().any()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_hidden_keys_give_a_mask_the_gradient_plus_zero(dropout: float) -> None:
    """Tiles, which cut queries differently at every level, leave no trace in the signs of zeros."""
    t = 70
    q, k, v, dy = (random(1, 2, t, 5, seed=i) for i in range(4))
    mask = ts.tensor(random(t, t, seed=4), requires_grad=True)
    full = ts.broadcast_to(mask, (1, 2, t, t))
    full.retain_grad()
    y = ts.attention(*(ts.asarray(x) for x in (q, k, v)), full, causal=True, dropout=dropout)
    y.backward(ts.asarray(dy))
    hidden = full.grad.numpy()[..., np.triu(np.ones((t, t), bool), 1)]
    assert not hidden.any() and not np.signbit(hidden).any()


def test_not_finite() -> None:
    q, k, v = (np.ones((1, 1, 20, 4), np.float32) for _ in range(3))
    q[0, 0, 3] = np.nan
    k[0, 0, 15] = np.inf
    y = ts.attention(*(ts.asarray(x) for x in (q, k, v)), causal=True).numpy()[0, 0]
    assert np.isnan(y[3]).all() and np.isnan(y[15:]).all()
    assert (y[[0, 1, 2, *range(4, 15)]] == 1).all()


def test_axes_and_errors() -> None:
    q, k, v = (ts.asarray(random(2, 3, 4, 5, 6, seed=i)) for i in range(3))
    five = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    four = F.scaled_dot_product_attention(*(x.reshape(6, 4, 5, 6) for x in (q, k, v)), is_causal=True)
    np.testing.assert_array_equal(five.numpy().reshape(6, 4, 5, 6), four.numpy())
    two = F.scaled_dot_product_attention(q[0, 0, 0], k[0, 0, 0], v[0, 0, 0], is_causal=True)
    np.testing.assert_array_equal(two.numpy(), five.numpy()[0, 0, 0])
    np.testing.assert_array_equal(
        F.scaled_dot_product_attention(q, k[:1, :, :1], v[:1, :, :1]).numpy(),
        F.scaled_dot_product_attention(
            q, *(ts.broadcast_to(x[:1, :, :1], (2, 3, 4, 5, 6)) for x in (k, v))
        ).numpy(),
    )
    bad = [
        (lambda: ts.attention(q, k[..., :5], v), ValueError, "q has 6 features, but k has 5"),
        (lambda: ts.attention(q[..., :0], k[..., :0], v), ValueError, "q must have at least 1 feature"),
        (lambda: ts.attention(q, k[:, :, :3], v[:, :, :3]), ValueError, "heads of k and v must be equal and divide"),
        (lambda: ts.attention(q, k, v[..., :4, :]), ValueError, "k has 5 keys, but v has 4 values"),
        (lambda: ts.attention(q, k.astype("float32"), v), TypeError, "k is float32"),
        (lambda: ts.attention(q, k, v, ts.zeros((4, 5), dtype="int64")), TypeError, "mask"),
        (lambda: ts.attention(q, k, v, ts.zeros((4, 5), dtype="float64")), ValueError, "broadcast"),
        (lambda: ts.attention(q, k, v, None, ts.ones((6, 4), dtype="bool")), ValueError, r"keys must have shape"),
        (lambda: ts.attention(q, k, v, window=(-3, 1)), ValueError, "window must be"),
        (lambda: ts.attention(q, k, v, dropout=1.5), ValueError, r"dropout must be in \[0, 1\]"),
        (lambda: F.scaled_dot_product_attention(q, k, v, ts.ones((5, 5)), 0.0, True), ValueError, "do not go together"),
        (lambda: nn.MultiheadAttention(6, 4), ValueError, "embed_dim must be divisible by num_heads"),
    ]  # fmt: skip
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()


# --- layers --------------------------------------------------------------------------------------


def twins(ours: nn.Module, theirs: Any) -> None:
    """Gives ours the parameters of a PyTorch module, whose state_dict must have the same keys."""
    ours.load_state_dict({k: ts.asarray(v.numpy().copy()) for k, v in theirs.state_dict().items()})


def compare(ours: Any, theirs: Any, ours_module: nn.Module, theirs_module: Any) -> None:
    """Outputs, and after a backward pass the parameters' gradients."""
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=0, atol=1e-12)
    dy = random(*ours.shape, seed=9)
    ours.backward(ts.asarray(dy))
    theirs.backward(pytest.importorskip("torch").from_numpy(dy))
    gradients = {k: p.grad for k, p in theirs_module.named_parameters()}
    for key, p in ours_module.named_parameters():
        if gradients[key] is None:
            assert p.grad is None
        else:
            np.testing.assert_allclose(
                p.grad.numpy(), gradients[key].numpy(), rtol=0, atol=1e-11, err_msg=key
            )


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True},
        {"kdim": 5, "vdim": 7, "bias": False},
        {"add_bias_kv": True, "add_zero_attn": True},
    ],
)
def test_multihead_attention(options: dict[str, Any], need_weights: bool) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(12, 3, dtype=torch.float64, **options)
    ours = nn.MultiheadAttention(12, 3, dtype="float64", **options)
    twins(ours, theirs)
    order = (1, 0, 2) if options.get("batch_first") else (0, 1, 2)
    q = random(5, 2, 12).transpose(order).copy()
    k = random(4, 2, options.get("kdim", 12), seed=1).transpose(order).copy()
    v = random(4, 2, options.get("vdim", 12), seed=2).transpose(order).copy()
    hidden = np.zeros((2, 4), bool)
    hidden[0, 3] = hidden[1, 1] = True
    for padding, mask in (
        (None, None),
        (hidden, None),
        (None, random(5, 4, seed=4)),
        (hidden, random(5, 4, seed=4) > 1),
        (hidden * -0.5, random(6, 5, 4, seed=4)),
    ):
        ours.zero_grad(), theirs.zero_grad()
        y, w = ours(
            *(ts.asarray(x) for x in (q, k, v)),
            None if padding is None else ts.asarray(padding),
            need_weights,
            None if mask is None else ts.asarray(mask),
        )
        ty, tw = theirs(
            *(torch.from_numpy(x) for x in (q, k, v)),
            None if padding is None else torch.from_numpy(padding),
            need_weights,
            None if mask is None else torch.from_numpy(mask),
        )
        compare(y, ty, ours, theirs)
        if need_weights:
            np.testing.assert_allclose(w.detach().numpy(), tw.detach().numpy(), rtol=0, atol=1e-13)
        else:
            assert w is None


def test_self_attention_unbatched_and_causal() -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = (
        torch.nn.MultiheadAttention(8, 2, dtype=torch.float64),
        nn.MultiheadAttention(8, 2, dtype="float64"),
    )
    twins(ours, theirs)
    x = random(6, 8)
    triangle = np.triu(np.ones((6, 6), bool), 1)
    xs, tx = ts.asarray(x), torch.from_numpy(x)
    for need in (True, False):
        y, _ = ours(xs, xs, xs, None, need, None, True, True)
        ty, _ = theirs(tx, tx, tx, None, need, torch.from_numpy(triangle))
        ours.zero_grad(), theirs.zero_grad()
        compare(y, ty, ours, theirs)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}])
def test_causal_beside_other_masks(options: dict[str, Any], need_weights: bool) -> None:
    """An added padding mask does not take the place of the triangle; keys of the layer's own are seen by all."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64, **options)
    ours = nn.MultiheadAttention(8, 2, batch_first=True, dtype="float64", **options)
    twins(ours, theirs)
    x = random(2, 5, 8)
    triangle = torch.from_numpy(np.triu(np.full((5, 5), -np.inf), 1))
    xs, tx = ts.asarray(x), torch.from_numpy(x)
    hidden = np.array([[False] * 5, [False] * 4 + [True]])
    for padding in (None, hidden, random(2, 5, seed=1)):
        given = None if padding is None else ts.asarray(padding)
        other = None
        if padding is not None:
            other = torch.from_numpy(np.where(padding, -np.inf, 0) if padding.dtype == bool else padding)
        for p in (*ours.parameters(), *theirs.parameters()):
            p.grad = None
        y, _ = ours(xs, xs, xs, given, need_weights, None, is_causal=True)
        ty, _ = theirs(tx, tx, tx, other, need_weights, triangle)
        compare(y, ty, ours, theirs)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer(norm_first: bool, activation: str) -> None:
    torch = pytest.importorskip("torch")
    options: dict[str, Any] = {
        "dim_feedforward": 10, "dropout": 0.0, "activation": activation, "norm_first": norm_first, "batch_first": True
    }  # fmt: skip
    x, memory = random(2, 5, 8), random(2, 4, 8, seed=1)
    triangle = np.triu(np.full((5, 5), -np.inf), 1)
    np.testing.assert_array_equal(
        nn.transformer.generate_square_subsequent_mask(5, dtype="float64").numpy(), triangle
    )

    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(8, 2, dtype=torch.float64, **options), 2, enable_nested_tensor=False
    )
    ours = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, dtype="float64", **options), 2)
    twins(ours, theirs)
    compare(
        ours(ts.asarray(x), ts.asarray(triangle)),
        theirs(torch.from_numpy(x), torch.from_numpy(triangle)),
        ours,
        theirs,
    )

    theirs = torch.nn.TransformerDecoder(
        torch.nn.TransformerDecoderLayer(8, 2, dtype=torch.float64, **options), 2
    )
    ours = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, dtype="float64", **options), 2)
    twins(ours, theirs)
    y = ours(ts.asarray(x), ts.asarray(memory), ts.asarray(triangle))
    compare(
        y, theirs(torch.from_numpy(x), torch.from_numpy(memory), torch.from_numpy(triangle)), ours, theirs
    )


def test_a_transformer_learns() -> None:
    """Copying the previous token needs attention: the loss of a causal model falls to nearly nothing."""
    ts.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 16), nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True))
    position, head = nn.Parameter(ts.random.normal(0, 0.1, (12, 16))), nn.Linear(16, 6)
    optimizer = ts.optim.AdamW([*model.parameters(), *head.parameters(), position], lr=1e-2)
    tokens = np.random.default_rng(0).integers(0, 6, (400, 13))
    for step in range(120):
        batch = tokens[(step * 32) % 384 :][:32]
        optimizer.zero_grad()
        x = model[1](model[0](ts.asarray(batch[:, 1:])) + position, is_causal=True)
        loss = F.cross_entropy(head(x).reshape(-1, 6)[1:], ts.asarray(batch[:, :-1].reshape(-1)[1:]))
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.35  # the first position of each row cannot be known: log(6) / 12


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not ts.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((1, 1, 1, 1, 1, 8, 8), {}),
        ((2, 2, 2, 65, 129, 32, 32), {}),
        ((1, 4, 2, 130, 200, 64, 64), {"causal": True}),
        ((1, 2, 1, 129, 190, 96, 80), {"window": (40, 9)}),
        ((1, 2, 2, 70, 70, 128, 128), {"causal": True}),
        ((1, 1, 1, 40, 66, 20, 33), {}),  # rows off 16 bytes
        ((1, 2, 1, 70, 90, 16, 16), {"mask": "float"}),
        ((2, 2, 1, 70, 90, 16, 24), {"mask": "bool", "keys": True}),
        ((1, 1, 1, 5, 6, 130, 10), {}),  # more features than tiles have
        ((1, 2, 1, 66, 130, 24, 24), {"scale": -0.3}),
    ],
)
def test_low_precision(sizes: tuple[int, ...], options: dict[str, Any], dtype: str, device: str) -> None:
    """float16 and bfloat16 against float64 on the same numbers; gradients too, and the same bits again."""
    b, h, g, t, s, d, e = sizes
    rng = np.random.default_rng(3)
    options = dict(options)
    kinds = {"mask": options.pop("mask", None), "keys": options.pop("keys", None)}
    shapes = [(b, h, t, d), (b, g, s, d), (b, g, s, e), (b, h, t, e)]
    arrays = [ts.array(rng.standard_normal(n), dtype="float32").astype(dtype) for n in shapes]
    mask = keys = None
    if kinds["mask"]:
        values = rng.standard_normal((h, t, s))
        mask = (
            ts.array(values > 1.5)
            if kinds["mask"] == "bool"
            else ts.array(values, dtype="float32").astype(dtype)
        )
    if kinds["keys"]:
        keys = ts.array(rng.random((b, s)) < 0.7)
    found = []
    for wide in (True, False, False):
        where = "cpu" if wide else device
        to = [x.astype("float64") if wide else x.detach().to(where) for x in arrays]
        bias = (
            None
            if mask is None
            else mask.astype("float64")
            if wide and kinds["mask"] == "float"
            else mask.detach().to(where)
        )
        inputs = [x.requires_grad_() for x in to[:3]]
        if kinds["mask"] == "float":
            inputs.append(bias.requires_grad_())
        y = ts.attention(*inputs[:3], bias, None if keys is None else keys.to(where), **options)
        assert y.dtype == inputs[0].dtype
        (y * to[3]).sum().backward()
        found.append([x.detach().cpu().astype("float64").numpy() for x in (y, *(x.grad for x in inputs))])
    eps = 2.0**-8 if dtype == "bfloat16" else 2.0**-11
    for i, (exact, mine, again) in enumerate(zip(*found, strict=True)):
        np.testing.assert_array_equal(mine, again)
        np.testing.assert_allclose(
            mine, exact, rtol=2 * eps, atol=3 * eps * max(1.0, np.abs(exact).max()), err_msg=str(i)
        )


def test_dtypes_that_cannot_attend() -> None:
    q, half = ts.ones((1, 2, 4, 8), dtype="int32"), ts.ones((1, 2, 4, 8), dtype="bfloat16")
    with pytest.raises(
        TypeError, match="attention: q is int32; float32, float64, bfloat16 or float16 is needed"
    ):
        ts.attention(q, q, q)
    with pytest.raises(TypeError, match="attention: k is float32 where bfloat16 is needed"):
        ts.attention(half, ts.ones((1, 2, 4, 8)), half)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("window", [(None, 2**63 - 1), (2**63 - 1, 0), (2**62, 2**62)])
def test_windows_past_the_ends_are_none(dtype: str, window: tuple[int | None, int]) -> None:
    found = []
    for w in (window, tuple(None if n and n > 9 else n for n in window)):
        q = ts.asarray(random(1, 1, 5, 4)).astype(dtype).requires_grad_()
        y = ts.attention(q, q, q, window=w)
        y.sum().backward()
        found.append((y.detach().astype("float32").numpy(), q.grad.astype("float32").numpy()))
    for mine, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, expected)
