"""Recurrent layers with products of bfloat16 numbers: exact where exact is possible, the same step by step, bits, every
engine, autocast, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from engines import ENGINES, run_pinned
from tensorsmith import nn
from tensorsmith._core import ops as core

GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
NAMES = ["x", "w_input", "w_hidden", "b_input", "b_hidden", "h0", "c0"]


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def operands(cell: str, t: int, n: int, i: int, h: int) -> list[np.ndarray]:
    g = GATES[cell] * h
    scale = 1 / np.sqrt(h)
    shapes = [(t, n, i), (g, i), (g, h), (g,), (g,), (n, h)] + [(n, h)] * (cell == "lstm")
    return [normal(k, *s, scale=scale if k in (1, 2) else 1) for k, s in enumerate(shapes)]


def run(op: Any, arrays: Any, cell: str, lengths: Any = None, reverse: bool = False) -> list[np.ndarray]:
    """Results, then the gradients of a weighted sum of them."""
    inputs = [(a if isinstance(a, ts.Tensor) else ts.asarray(a)).detach().requires_grad_() for a in arrays]
    given = [*inputs, None] if len(inputs) == 6 else inputs
    limits = None if lengths is None else ts.array(lengths)
    ys = op(*given, limits, cell, reverse)[: 3 if cell == "lstm" else 2]
    total = sum(ts.sum(y * ts.asarray(np.rint(normal(50 + k, *y.shape)))) for k, y in enumerate(ys) if y.size)
    total.backward()
    return [y.detach().numpy() for y in ys] + [
        x.grad.astype(ts.float32).numpy() if x.dtype == ts.bfloat16 else x.grad.numpy() for x in inputs
    ]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "t, n, i, h",
    [(1, 1, 1, 1), (3, 5, 3, 31), (2, 17, 2, 33), (3, 33, 5, 16), (2, 70, 3, 70), (2, 3, 40, 130)],
)
@pytest.mark.parametrize("padded", [False, True])
def test_exact_sums(t: int, n: int, i: int, h: int, reverse: bool, padded: bool) -> None:
    """Small integers, of which every sum is a bfloat16 number: any difference from float32 is a fault."""
    rng = np.random.default_rng(n)
    sparse = [(rng.random(s) < 2 / s[-1]) * rng.integers(-2, 3, s) for s in ((h, i), (h, h))]
    arrays = [
        rng.integers(-2, 3, (t, n, i)),
        *sparse,
        *rng.integers(-2, 3, (2, h)),
        rng.integers(0, 3, (n, h)),
    ]
    arrays = [a.astype(np.float32) for a in arrays]
    lengths = rng.integers(0, t + 1, n).tolist() if padded else None
    expected = run(ts.recurrent, arrays, "relu", lengths, reverse)
    assert np.abs(expected[0]).max() < 256
    for mine, exact in zip(run(core.recurrent_bf16, arrays, "relu", lengths, reverse), expected, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, exact)


def step_by_step(*given: Any) -> tuple[Any, ...]:
    """recurrent_bf16 made of other operations, whose gradients are rounded where its are."""
    x, w_input, w_hidden, b_input, b_hidden, h, c, lengths, cell, reverse = given
    t_count, n = x.shape[:2]
    ends = np.full(n, t_count) if lengths is None else lengths.numpy()
    ys: list[Any] = [None] * t_count
    for t in range(t_count)[:: -1 if reverse else 1]:
        on = ts.asarray((t < ends)[:, None])
        a = core.matmul_bf16(x[t], ts.matrix_transpose(w_input), ts.float32) + b_input
        r = core.matmul_bf16(h, ts.matrix_transpose(w_hidden), ts.float32) + b_hidden
        size = h.shape[1]
        a, r = ([v[:, k : k + size] for k in range(0, v.shape[1], size)] for v in (a, r))
        if cell == "lstm":
            i, f, o = (ts.sigmoid(a[k] + r[k]) for k in (0, 1, 3))
            new_c = f * c + i * ts.tanh(a[2] + r[2])
            c, new = ts.where(on, new_c, c), o * ts.tanh(new_c)
        elif cell == "gru":
            z = ts.sigmoid(a[1] + r[1])
            candidate = ts.tanh(a[2] + ts.sigmoid(a[0] + r[0]) * r[2])
            new = (1 - z) * candidate + z * h
        else:
            new = ts.tanh(a[0] + r[0]) if cell == "tanh" else ts.relu(a[0] + r[0])
        h = ts.where(on, new, h)
        ys[t] = ts.where(on, new, 0.0)
    return ts.stack(ys, 0), h, c


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "n, i, h, lengths", [(1, 3, 40, None), (3, 70, 33, [5, 0, 3]), (20, 8, 64, None), (45, 9, 17, "any")]
)
def test_steps(cell: str, reverse: bool, n: int, i: int, h: int, lengths: Any) -> None:
    """Forward and backward are what a layer of single operations computes; a rounding may fall the other way."""
    if lengths == "any":
        lengths = np.random.default_rng(1).integers(0, 6, n).tolist()
    arrays = operands(cell, 5, n, i, h)
    mine = run(core.recurrent_bf16, arrays, cell, lengths, reverse)
    expected = run(step_by_step, arrays, cell, lengths, reverse)
    for a, b in zip(mine, expected, strict=True):
        difference = np.abs(a - b)
        size = max(1.0, np.abs(b).max())
        assert difference.max() <= 2.0**-7 * size
        assert np.median(difference) <= 2.0**-9 * size


@pytest.mark.parametrize("h", [100, 256])
def test_error_bound(h: int) -> None:
    """One step of a linear cell against float64: the bound of products of bfloat16 numbers."""
    n = 9
    weight = normal(1, h, h, scale=0.1)
    state = np.abs(normal(2, n, h))
    low = [ts.asarray(v).astype(ts.bfloat16).astype(ts.float64).numpy() for v in (state, weight)]
    y, _, _ = core.recurrent_bf16(
        ts.zeros((1, n, 1)),
        ts.zeros((h, 1)),
        ts.asarray(weight),
        None,
        ts.full((h,), 100.0),
        ts.asarray(state),
        None,
        None,
        "relu",
    )
    exact, size = low[0] @ low[1].T + 100, np.abs(low[0]) @ np.abs(low[1]).T + 100
    assert np.all(np.abs(y.numpy()[0] - exact) <= 2 * np.sqrt(h) * 2.0**-24 * size)


@pytest.mark.parametrize("cell", GATES)
def test_close_to_float64(cell: str) -> None:
    arrays = operands(cell, 30, 5, 20, 64)
    exact = run(ts.recurrent, [a.astype(np.float64) for a in arrays], cell)
    for a, b in zip(run(core.recurrent_bf16, arrays, cell), exact, strict=True):
        assert np.linalg.norm(a - b) <= (0.06 if cell == "relu" else 0.02) * np.linalg.norm(b)


@pytest.mark.parametrize("cell", GATES)
def test_bits_do_not_depend_on_threads_batch_or_layout(cell: str) -> None:
    inputs = [ts.asarray(a) for a in operands(cell, 4, 70, 24, 90)]
    x, weights, states = inputs[0], inputs[1:5], inputs[5:]
    low = [w.astype(ts.bfloat16) for w in weights[:2]]  # what the products read
    low[1] = ts.matrix_transpose(ts.copy(ts.matrix_transpose(low[1])))
    before = ts.get_num_threads()
    try:
        ts.set_num_threads(1)
        whole = run(core.recurrent_bf16, inputs, cell)
        for threads in (2, 3):
            ts.set_num_threads(threads)
            for a, b in zip(run(core.recurrent_bf16, inputs, cell), whole, strict=True):
                np.testing.assert_array_equal(a, b)
            for first, last in ((0, 1), (5, 21), (3, 40), (0, 69)):
                part = [x[:, first:last], *weights, *(s[first:last] for s in states)]
                y, hn = run(core.recurrent_bf16, part, cell)[:2]
                np.testing.assert_array_equal(y, whole[0][:, first:last])
                np.testing.assert_array_equal(hn, whole[1][first:last])
        y, hn = run(core.recurrent_bf16, [x, *low, *weights[2:], *states], cell)[:2]
        np.testing.assert_array_equal(y, whole[0])
        np.testing.assert_array_equal(hn, whole[1])
    finally:
        ts.set_num_threads(before)


def test_nothing_to_do() -> None:
    for t, n in ((0, 3), (2, 0)):
        y, hn, cn = core.recurrent_bf16(*(ts.asarray(a) for a in operands("lstm", t, n, 4, 5)))
        assert y.shape == (t, n, 5) and hn.shape == cn.shape == (n, 5)
        if t == 0:
            run(core.recurrent_bf16, operands("lstm", t, n, 4, 5), "lstm")
        for kind in (nn.RNN, nn.LSTM, nn.GRU):
            assert kind(4, 5)(ts.zeros((t, n, 4)))[0].shape == (t, n, 5)


def test_infinities_and_nans_stay_in_their_rows() -> None:
    arrays = operands("gru", 3, 20, 6, 40)
    clean = run(core.recurrent_bf16, arrays, "gru")[0]
    arrays[0][1, 3] = np.inf
    arrays[0][0, 7] = np.nan
    y = run(core.recurrent_bf16, arrays, "gru")[0]
    rest = [k for k in range(20) if k not in (3, 7)]
    np.testing.assert_array_equal(y[:, rest], clean[:, rest])
    assert np.isnan(y[:, 7]).all()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_autocast(kind: str) -> None:
    ts.manual_seed(0)
    layer = getattr(nn, kind)(6, 20, num_layers=2, bidirectional=True, batch_first=True)
    x = ts.asarray(normal(1, 3, 7, 6))
    packed = nn.utils.rnn.pack_padded_sequence(x, [7, 2, 5], batch_first=True, enforce_sorted=False)

    def gradients(enabled: bool, given: Any) -> list[np.ndarray]:
        layer.zero_grad()
        with ts.autocast(enabled=enabled):
            y = layer(given)[0]
        y = y.data if given is packed else y
        assert y.dtype == ts.float32
        ts.sum(y * ts.asarray(normal(2, *y.shape))).backward()
        assert all(p.grad.dtype == ts.float32 for p in layer.parameters())
        return [y.detach().numpy()] + [p.grad.numpy().copy() for p in layer.parameters()]

    for given in (x, packed):
        for a, b in zip(gradients(True, given), gradients(False, given), strict=True):
            assert not np.array_equal(a, b)
            assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(b)
    with ts.autocast():
        assert layer(x.astype(ts.bfloat16))[0].dtype == ts.float32
    wide = getattr(nn, kind)(6, 20, dtype="float64")
    with ts.autocast():
        assert wide(x.astype(ts.float64))[0].dtype == ts.float64


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_under_autocast(kind: str) -> None:
    cell = getattr(nn, kind)(6, 20)
    x = ts.asarray(normal(1, 3, 6))
    exact = cell(x)
    with ts.autocast():
        low = cell(x)
    for a, b in zip(low, exact) if kind == "LSTMCell" else [(low, exact)]:
        assert a.dtype == ts.float32 and not np.array_equal(a.detach().numpy(), b.detach().numpy())
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=0.02)


def test_recorded_steps_have_the_bits_of_eager_ones() -> None:
    def losses(recorded: bool) -> list[float]:
        ts.manual_seed(0)
        lstm, head = nn.LSTM(5, 33, batch_first=True), nn.Linear(33, 4)
        optimizer = ts.optim.AdamW([*lstm.parameters(), *head.parameters()], lr=1e-2)
        x, t = ts.asarray(normal(1, 18, 6, 5)), ts.asarray(np.arange(18) % 4)

        def step(x: ts.Tensor, t: ts.Tensor) -> ts.Tensor:
            optimizer.zero_grad()
            with ts.autocast():
                loss = nn.functional.cross_entropy(head(lstm(x)[0][:, -1]), t)
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = ts.jit(step) if recorded else step
        return [float(run(x, t)) for _ in range(10)]

    eager = losses(False)
    assert eager == losses(True)
    assert eager[-1] < 0.9 * eager[0]


@pytest.mark.parametrize("cell", GATES)
def test_tensors_of_bfloat16(cell: str) -> None:
    """Results and gradients are those of the same numbers, rounded once."""
    low = [ts.asarray(a).astype(ts.bfloat16) for a in operands(cell, 4, 6, 7, 35)]

    def results(op: Any, wide: bool) -> list[Any]:
        inputs = [(a.astype(ts.float32) if wide else a).detach().requires_grad_() for a in low]
        ys = op(*inputs, *[None] * (7 - len(inputs)), None, cell)[: 3 if cell == "lstm" else 2]
        dys = [ts.asarray(normal(9 + k, *y.shape)).astype(ts.bfloat16) for k, y in enumerate(ys)]
        total = sum(ts.sum(y.astype(ts.float32) * dy.astype(ts.float32)) for y, dy in zip(ys, dys))
        total.backward()
        return [*ys, *(x.grad for x in inputs)]

    for a, b in zip(results(ts.recurrent, False), results(core.recurrent_bf16, True), strict=True):
        assert a.dtype == ts.bfloat16 and b.dtype == ts.float32
        np.testing.assert_array_equal(
            a.detach().astype(ts.float32).numpy(), b.detach().astype(ts.bfloat16).astype(ts.float32).numpy()
        )


def test_float16_is_computed_in_float32() -> None:
    low = [ts.asarray(a).astype(ts.float16) for a in operands("lstm", 4, 6, 7, 35)]
    y = ts.recurrent(*low)[0]
    expected = ts.recurrent(*(a.astype(ts.float32) for a in low))[0]
    with ts.autocast():
        np.testing.assert_array_equal(ts.recurrent(*low)[0].numpy(), y.numpy())
    np.testing.assert_array_equal(y.numpy(), expected.astype(ts.float16).numpy())


def test_errors() -> None:
    arrays = [ts.asarray(a) for a in operands("lstm", 4, 3, 2, 5)]
    wide = [a.astype(ts.float64) for a in arrays]
    for k, name in enumerate(NAMES):
        mixed = [*arrays]
        mixed[k] = wide[k]
        argument = {"w_input": "weight", "b_input": "bias"}.get(name, name)
        with pytest.raises(TypeError, match=f"_bf16: {argument} is float64; bfloat16 or float32 is needed"):
            core.recurrent_bf16(*mixed)
    with pytest.raises(ValueError, match=r"recurrent_bf16: lengths must be in \[0, 4\], got 5 at 1"):
        core.recurrent_bf16(*arrays, ts.array([1, 5, 2]))
    with pytest.raises(ValueError, match=r"recurrent_bf16: w_hidden must have shape \(4 H, H\)"):
        core.recurrent_bf16(arrays[0], arrays[1][:8], arrays[2][:8], *arrays[3:])
    with pytest.raises(TypeError, match="recurrent_bf16: c0 is missing"):
        core.recurrent_bf16(*arrays[:6])
    x = arrays[0].requires_grad_()
    y = core.recurrent_bf16(x, *arrays[1:])[0]
    ts.sum(y * y).backward(create_graph=True)
    with pytest.raises(RuntimeError, match="recurrent_bf16_backward"):
        ts.sum(x.grad).backward()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine(engine: str) -> None:
    run_pinned(__file__, engine)
