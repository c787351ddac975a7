"""Recurrent layers: PyTorch's numbers from PyTorch's weights, packed sequences, bits and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn.utils import rnn as sequences


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def twins(kind: str, *args: Any, **options: Any) -> tuple[Any, Any, Any]:
    """PyTorch's module and ours with the same parameters."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(*args, **options, dtype=torch.float64)
    ours = getattr(nn, kind)(*args, **options, dtype="float64")
    ours.load_state_dict({k: ts.asarray(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    return torch, theirs, ours


def flat(result: Any) -> list[Any]:
    if isinstance(result, (tuple, list)):
        return [x for part in result for x in flat(part)]
    return [result]


def compare(torch: Any, ours: nn.Module, theirs: Any, mine: list[Any], other: list[Any]) -> None:
    total, total_other = 0.0, 0.0
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=1e-13)
        w = random(*a.shape, seed=20 + i)
        total, total_other = total + (a * ts.asarray(w)).sum(), total_other + (b * torch.from_numpy(w)).sum()
    total.backward()
    total_other.backward()
    for (key, p), (other_key, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == other_key
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=0, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"bias": False, "num_layers": 3},
    ],
)
@pytest.mark.parametrize("state", [False, True])
def test_layers(kind: str, options: dict[str, Any], state: bool) -> None:
    torch, theirs, ours = twins(kind, 5, 7, **options)
    directions = 2 if options.get("bidirectional") else 1
    shape = (directions * options.get("num_layers", 1), 3, 7)
    starts = [random(*shape, seed=3), random(*shape, seed=4)][: 2 if kind == "LSTM" else 1]
    x = random(3, 6, 5) if options.get("batch_first") else random(6, 3, 5)
    for batched in (True, False):
        ours.zero_grad(), theirs.zero_grad()
        one = x if batched else (x[0] if options.get("batch_first") else x[:, 0]).copy()
        given = starts if batched else [s[:, 0].copy() for s in starts]
        hx = tx = None
        if state:
            hx, tx = tuple(map(ts.asarray, given)), tuple(map(torch.from_numpy, given))
            hx, tx = (hx, tx) if kind == "LSTM" else (hx[0], tx[0])
        compare(torch, ours, theirs, flat(ours(ts.asarray(one), hx)), flat(theirs(torch.from_numpy(one), tx)))


def test_relu_and_positional_arguments() -> None:
    torch, theirs, ours = twins("RNN", 4, 5, 2, "relu")
    x = random(3, 2, 4)
    compare(torch, ours, theirs, flat(ours(ts.asarray(x))), flat(theirs(torch.from_numpy(x))))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_packed(kind: str) -> None:
    torch, theirs, ours = twins(kind, 4, 6, num_layers=2, bidirectional=True)
    x, lengths = random(7, 4, 4), [3, 7, 1, 5]
    state = random(4, 4, 6, seed=5)
    packed = sequences.pack_padded_sequence(ts.asarray(x), lengths, enforce_sorted=False)
    other = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.tensor(lengths), enforce_sorted=False
    )
    for a, b in zip(packed, other, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    hx = (ts.asarray(state),) * 2 if kind == "LSTM" else ts.asarray(state)
    tx = (torch.from_numpy(state),) * 2 if kind == "LSTM" else torch.from_numpy(state)
    y, ends = ours(packed, hx)
    ty, tends = theirs(other, tx)
    np.testing.assert_array_equal(y.batch_sizes.numpy(), ty.batch_sizes.numpy())
    padded, given = sequences.pad_packed_sequence(y, total_length=9, padding_value=-1.0)
    tpadded, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, total_length=9, padding_value=-1.0)
    assert given.numpy().tolist() == lengths
    compare(torch, ours, theirs, [y.data, padded, *flat(ends)], [ty.data, tpadded, *flat(tends)])


def test_order_of_sequences_that_descend() -> None:
    torch = pytest.importorskip("torch")
    x = random(3, 2, 4)
    for enforce in (True, False):
        packed = sequences.pack_padded_sequence(ts.asarray(x), [3, 1], enforce_sorted=enforce)
        other = torch.nn.utils.rnn.pack_padded_sequence(
            torch.from_numpy(x), torch.tensor([3, 1]), enforce_sorted=enforce
        )
        for a, b in zip(packed, other, strict=True):
            assert (a is None) == (b is None) and (a is None or a.tolist() == b.tolist())


def test_padding() -> None:
    parts = [ts.asarray(random(n, 2, seed=n)) for n in (2, 4, 3)]
    padded = sequences.pad_sequence(parts, batch_first=True, padding_value=9.0)
    assert padded.shape == (3, 4, 2)
    assert (padded.numpy()[0, 2:] == 9).all()
    back, lengths = sequences.pad_packed_sequence(
        sequences.pack_sequence(parts, enforce_sorted=False), True, 9.0
    )
    np.testing.assert_array_equal(back.numpy(), padded.numpy())
    assert lengths.numpy().tolist() == [2, 4, 3]
    with pytest.raises(ValueError, match="lengths must descend"):
        sequences.pack_sequence(parts)
    with pytest.raises(ValueError, match="every length must be at least 1, got 0"):
        sequences.pack_padded_sequence(padded, [0, 1, 2], True)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(kind: str) -> None:
    torch, theirs, ours = twins(kind, 3, 5)
    x, h = random(4, 3), random(4, 5, seed=1)
    hx = (ts.asarray(h),) * 2 if kind == "LSTMCell" else ts.asarray(h)
    tx = (torch.from_numpy(h),) * 2 if kind == "LSTMCell" else torch.from_numpy(h)
    compare(torch, ours, theirs, flat(ours(ts.asarray(x), hx)), flat(theirs(torch.from_numpy(x), tx)))
    one, other = flat(ours(ts.asarray(x[0]))), flat(theirs(torch.from_numpy(x[0])))
    np.testing.assert_allclose(one[0].detach().numpy(), other[0].detach().numpy(), rtol=0, atol=1e-14)


def test_bits_do_not_depend_on_the_batch() -> None:
    ts.manual_seed(0)
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        layer = kind(20, 70)
        x = random(9, 37, 20).astype(np.float32)
        full = layer(ts.asarray(x))[0].detach().numpy()
        for rows in (slice(5, 6), slice(3, 20), slice(2, 31), slice(0, 7), slice(0, 15)):
            part = layer(ts.asarray(np.ascontiguousarray(x[:, rows])))[0].detach().numpy()
            np.testing.assert_array_equal(full[:, rows], part)


def test_dropout_between_layers() -> None:
    layer = nn.LSTM(3, 4, num_layers=2, dropout=1.0)
    x = ts.asarray(random(5, 2, 3).astype(np.float32))
    trained = layer(x)[0].detach().numpy()
    np.testing.assert_array_equal(
        trained, layer(-x)[0].detach().numpy()
    )  # nothing of the first layer arrives
    assert (layer.eval()(x)[0].detach().numpy() != trained).any()


def test_errors() -> None:
    layer = nn.LSTM(3, 4)
    x = ts.zeros((5, 2, 3))
    bad = [
        (lambda: layer(ts.zeros((5, 2, 4))), ValueError, "LSTM: input has 4 features, but input_size is 3"),
        (lambda: layer(x, (ts.zeros((1, 2, 4)),)), ValueError, r"hx must be a pair \(h_0, c_0\)"),
        (
            lambda: nn.GRU(3, 4)(x, ts.zeros((2, 2, 4))),
            ValueError,
            r"hx must have shape \(1, 2, 4\), got \(2, 2, 4\)",
        ),
        (lambda: nn.LSTM(3, 4, proj_size=2), ValueError, "proj_size=2 is not supported"),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ValueError, "nonlinearity must be one of"),
        (lambda: nn.GRU(3, 0), ValueError, "GRU: hidden_size must be >= 1, got 0"),
        (
            lambda: ts.recurrent(
                x,
                ts.zeros((4, 3)),
                ts.zeros((4, 4)),
                None,
                None,
                ts.zeros((2, 4)),
                None,
                ts.array([6, 1]),
                "tanh",
            ),
            ValueError,
            r"lengths must be in \[0, 5\], got 6 at 0",
        ),
        (
            lambda: ts.recurrent(
                x, ts.zeros((4, 3)), ts.zeros((4, 4)), None, None, ts.zeros((2, 4)), None, None, "x"
            ),
            ValueError,
            "cell must be",
        ),
        (
            lambda: ts.recurrent(x, ts.zeros((8, 3)), ts.zeros((8, 4)), None, None, ts.zeros((2, 4))),
            ValueError,
            r"w_hidden must have shape \(4 H, H\)",
        ),
    ]
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()


def test_an_lstm_learns() -> None:
    """The parity of bits so far needs memory."""
    ts.manual_seed(1)
    lstm, head = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 2)
    optimizer = ts.optim.Adam([*lstm.parameters(), *head.parameters()], lr=2e-2)
    bits = np.random.default_rng(0).integers(0, 2, (64, 8))
    target = ts.asarray(np.cumsum(bits, 1).reshape(-1) % 2)
    x = ts.asarray(bits[..., None].astype(np.float32))
    for _ in range(250):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(lstm(x)[0]).reshape(-1, 2), target)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru"])
def test_padding_is_not_seen(cell: str, reverse: bool, dtype: str) -> None:
    """Whatever lies beyond a sequence's end: the same bits of results and gradients, 0 for its own."""
    t, n, i, h = 6, 4, 5, 7
    gates = {"lstm": 4, "gru": 3}.get(cell, 1)
    lengths = ts.asarray([6, 0, 3, 1])
    inside = np.arange(t)[:, None] < np.array([6, 0, 3, 1])
    found = []
    for filler in (0.0, 7.5, np.nan, np.inf):
        shapes = [(t, n, i), (gates * h, i), (gates * h, h), (gates * h,), (gates * h,), (n, h), (n, h)]
        given = [random(*shape, seed=k) for k, shape in enumerate(shapes)]
        given[0][~inside] = filler
        leaves = [ts.tensor(a, dtype=dtype, requires_grad=True) for a in given]
        if cell != "lstm":
            leaves[6] = None
        run = ts.ops.recurrent if dtype == "float32" else ts._core.ops.recurrent_bf16
        results = run(*leaves, lengths, cell, reverse)[:3]
        ts.sum(
            sum(ts.sum(r * ts.asarray(random(*r.shape, seed=9), dtype=r.dtype)) for r in results if r.size)
        ).backward()
        found.append([r.detach() for r in results] + [x.grad for x in leaves if x is not None])
    for values in zip(*found, strict=True):
        first, *others = (v.astype("float32").numpy() for v in values)
        assert np.isfinite(first).all()
        for other in others:
            np.testing.assert_array_equal(other, first)
    assert not found[0][3].astype("float32").numpy()[~inside].any()
