"""Attention of bfloat16 numbers: against float64 within what rounding its weights explains, the sums of ADR 6, the same
bits in any company, layout and thread count, every engine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from engines import ENGINES, run_pinned
from tensorsmith import _core, nn
from tensorsmith._core import ops as core
from tensorsmith.nn import functional as F

ENGINE = _core.bf16_engine()[0]
EPS = 2.0**-8  # half a unit in the last place of bfloat16, at most


def bf16(x: Any) -> ts.Tensor:
    return ts.asarray(np.ascontiguousarray(x, dtype=np.float32)).astype(ts.bfloat16)


def wide(x: ts.Tensor) -> np.ndarray:
    return x.detach().astype(ts.float32).numpy().astype(np.float64)


def normal(seed: int, *shape: int) -> np.ndarray:
    return wide(bf16(np.random.default_rng(seed).standard_normal(shape)))


class Reference:
    """Attention and its gradients in float64, and how far rounding weights and results may move each."""

    def __init__(
        self, q: Any, k: Any, v: Any, dy: Any, seen: Any = None, added: Any = 0.0, kept: Any = 1.0
    ) -> None:
        group, self.shape = q.shape[1] // k.shape[1], k.shape
        k, v = (np.repeat(x, group, 1) for x in (k, v))
        scale = 1 / math.sqrt(q.shape[-1])
        s = q @ k.swapaxes(-1, -2) * scale + added
        if seen is not None:
            s = np.where(seen, s, -np.inf)
        top = s.max(-1, keepdims=True, initial=-np.inf)
        p = np.exp(s - np.where(np.isfinite(top), top, 0))
        total = p.sum(-1, keepdims=True)
        p /= np.where(total == 0, 1, total)
        dropped, dp = p * kept, dy @ v.swapaxes(-1, -2) * kept
        y = dropped @ v
        ds = p * (dp - (dy * y).sum(-1, keepdims=True))
        y_slack = 2.2 * EPS * (dropped @ np.abs(v)) + 1e-6
        ds_slack = 1.1 * EPS * np.abs(ds) + p * (np.abs(dy) * y_slack).sum(-1, keepdims=True)
        ds_slack += 1e-5 * p * (np.abs(dy) @ np.abs(v).swapaxes(-1, -2) * kept + np.abs(ds))
        self.values = [y, ds @ k * scale, self.grouped(ds.swapaxes(-1, -2) @ q * scale)]
        self.values += [self.grouped(dropped.swapaxes(-1, -2) @ dy), ds]
        self.slack = [y_slack, ds_slack @ np.abs(k) * scale]
        self.slack.append(self.grouped(ds_slack.swapaxes(-1, -2) @ np.abs(q) * scale))
        self.slack.append(self.grouped(1.1 * EPS * dropped.swapaxes(-1, -2) @ np.abs(dy)))
        self.slack.append(ds_slack)

    def grouped(self, x: np.ndarray) -> np.ndarray:
        b, g, s = self.shape[:3]
        return x.reshape(b, g, -1, s, x.shape[-1]).sum(2)

    def check(self, *found: ts.Tensor | None) -> None:
        for name, x, exact, slack in zip(("y", "dq", "dk", "dv", "dmask"), found, self.values, self.slack):
            if x is None:
                continue
            x = wide(x)
            assert x.shape == exact.shape
            over = np.abs(x - exact) - (slack + 1.1 * EPS * np.abs(exact) + 1e-6)
            assert over.max(initial=-1) <= 0, (name, over.max(), np.unravel_index(over.argmax(), over.shape))


def run(
    q: Any, k: Any, v: Any, dy: Any, mask: Any = None, keys: Any = None, **options: Any
) -> list[ts.Tensor]:
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    y = ts.attention(*inputs, mask, keys, **options)
    y.backward(dy)
    return [y, *(x.grad for x in inputs)]


SIZES = [
    (1, 1, 8, 8),
    (7, 7, 20, 20),
    (33, 33, 64, 64),
    (257, 257, 80, 80),
    (1, 300, 128, 128),
    (300, 7, 1, 33),
]
SIZES += [(33, 257, 64, 20), (65, 600, 500, 40)]


@pytest.mark.parametrize("t, s, d, e", SIZES)
@pytest.mark.parametrize("kind", ["full", "causal", "window", "grouped", "bool", "added", "keys"])
def test_values(t: int, s: int, d: int, e: int, kind: str) -> None:
    b, h, g = (2, 4, 2) if kind == "grouped" else (1, 2, 2) if kind == "full" else (2, 2, 2)
    q, k, v, dy = (
        normal(i, b, heads, n, f)
        for i, (heads, n, f) in enumerate([(h, t, d), (g, s, d), (g, s, e), (h, t, e)])
    )
    rng = np.random.default_rng(9)
    ahead = np.arange(s) - np.arange(t)[:, None]
    seen: Any = None
    mask: Any = None
    keys: Any = None
    added: Any = 0.0
    options: dict[str, Any] = {}
    if kind == "causal":
        seen, options = ahead <= 0, {"causal": True}
    elif kind == "window":
        seen, options = (ahead <= 1) & (ahead >= -40), {"window": (40, 1)}
    elif kind == "bool":
        seen = rng.random((b, 1, t, s)) < 0.7
        mask = ts.asarray(seen)
    elif kind == "added":
        mask = bf16(3 * rng.standard_normal((h, t, s))).requires_grad_()
        added = wide(mask)
    elif kind == "keys":
        shown = rng.random((b, s)) < 0.7
        seen, keys = (shown[:, None, None] & (ahead <= 3)), ts.asarray(shown)
        options = {"window": (None, 3)}
    found = run(bf16(q), bf16(k), bf16(v), bf16(dy), mask, keys, **options)
    assert all(x.dtype == ts.bfloat16 for x in found)
    reference = Reference(q, k, v, dy, seen, added)
    reference.check(*found)
    if kind == "added":
        exact, slack = reference.values[4].sum(0), reference.slack[4].sum(0)
        # One rounding of ds, one of the sum over batches.
        assert np.all(
            np.abs(wide(mask.grad) - exact) <= slack + 4 * EPS * np.abs(reference.values[4]).sum(0) + 1e-6
        )


@pytest.mark.parametrize("t, s, causal", [(150, 2300, False), (1300, 1300, True), (9, 5000, False)])
def test_long(t: int, s: int, causal: bool) -> None:
    """More keys than are packed at once, and than a chunk of backward."""
    q, k, v, dy = (normal(i, 1, 2, n, 16) for i, n in enumerate((t, s, s, t)))
    found = run(bf16(q), bf16(k), bf16(v), bf16(dy), causal=causal)
    Reference(q, k, v, dy, np.tri(t, s, dtype=bool) if causal else None).check(*found)


@pytest.mark.parametrize("d, s", [(300, 700), (2000, 400)])
def test_many_features(d: int, s: int) -> None:
    q, k, v, dy = (normal(i, 1, 1, n, d) for i, n in enumerate((40, s, s, 40)))
    found = run(bf16(q), bf16(k), bf16(v), bf16(dy), window=(None, 500))
    Reference(q, k, v, dy, np.arange(s) - np.arange(40)[:, None] <= 500).check(*found)


def test_dropout() -> None:
    """The weights that survive are those of the draw, scaled; backward draws the same."""
    t, s, p = 40, 170, 0.25
    q, k, identity = normal(1, 1, 2, t, 16), normal(2, 1, 2, s, 16), np.broadcast_to(np.eye(s), (1, 2, s, s))
    dy = normal(3, 1, 2, t, s)
    generator = ts.random.Generator(7)
    found = run(*(bf16(x) for x in (q, k, identity, dy)), dropout=p, generator=generator)
    kept = wide(found[0]) != 0
    assert abs(kept.mean() - (1 - p)) < 0.02
    # The draw is that of float32.
    plain = ts.attention(
        *(ts.asarray(x).astype("float32") for x in (q, k, identity)),
        dropout=p,
        generator=ts.random.Generator(7),
    )
    np.testing.assert_array_equal(plain.numpy() != 0, kept)
    Reference(q, k, identity, dy, kept=kept / (1 - p)).check(*found)
    assert not wide(ts.attention(*(bf16(x) for x in (q, k, identity)), dropout=1.0)).any()


@pytest.mark.skipif(ENGINE == "float32", reason="tiles")
@pytest.mark.parametrize("d", [5, 64, 100])
def test_sums_are_those_of_products(d: int) -> None:
    """Where scores are 0 and weights 1: y, dv and, by the gradient of a mask, dy . v are matmul_bf16's, bit by bit."""
    t, keys = 70, 700
    zeros = [ts.zeros((1, 1, n, d), dtype=ts.bfloat16) for n in (t, keys)]
    v, dy = bf16(normal(1, 1, 1, keys, d)), bf16(normal(2, 1, 1, t, d))
    sums = core.matmul_bf16(ts.ones((t, keys), dtype=ts.bfloat16), v[0, 0], ts.float32)
    y = wide(ts.attention(*zeros, v))[0, 0]
    np.testing.assert_array_equal(y, wide((sums * np.float32(1 / np.float32(keys))).astype(ts.bfloat16)))
    mask, nothing = ts.zeros((t, keys), dtype=ts.bfloat16), ts.zeros((1, 1, t), dtype=ts.float32)
    seed = ts.zeros((0,), dtype="uint64")
    _, _, dv, dmask = core.attention_backward(
        dy, *zeros, v, zeros[0], nothing, seed, mask, None, 1.0, -1, -1, 0.0, True
    )
    np.testing.assert_array_equal(wide(dmask)[0, 0], wide(ts.matmul(dy[0, 0], ts.matrix_transpose(v[0, 0]))))
    ones = ts.ones((keys, t), dtype=ts.bfloat16)
    np.testing.assert_array_equal(wide(dv)[0, 0], wide(ts.matmul(ones, dy[0, 0])))


def test_bits_do_not_depend_on_company() -> None:
    """A head alone, a prefix, one query, shared heads of keys give the bits that they gave among others."""
    q, k, v, dy = (bf16(normal(i, 3, 4, 310, 40)) for i in range(4))
    full = run(q, k, v, dy, causal=True)
    alone = run(*(x[1:2, 2:3] for x in (q, k, v, dy)), causal=True)
    for a, b in zip(full, alone):
        np.testing.assert_array_equal(wide(a)[1:2, 2:3], wide(b))
    before = run(*(x[:, :, :101] for x in (q, k, v, dy)), causal=True)
    np.testing.assert_array_equal(wide(full[0])[:, :, :101], wide(before[0]))
    np.testing.assert_array_equal(wide(full[1])[:, :, :101], wide(before[1]))
    np.testing.assert_array_equal(wide(full[0])[:, :, 309:], wide(ts.attention(q[:, :, 309:], k, v)))
    one = ts.attention(q[:, :, 309:], k[:, :2], v[:, :2])
    shared = ts.attention(q, k[:, :2], v[:, :2])
    repeated = ts.attention(q, *(ts.stack([x[:, i // 2] for i in range(4)], 1) for x in (k, v)))
    np.testing.assert_array_equal(wide(shared), wide(repeated))
    np.testing.assert_array_equal(wide(shared)[:, :, 309:], wide(one))
    shown = ts.asarray(np.tri(310, dtype=bool))
    for a, b in zip(full, run(q, k, v, dy, shown)):
        np.testing.assert_array_equal(wide(a), wide(b))


def test_bits_do_not_depend_on_layout_or_threads() -> None:
    shapes = [(3, 4, 270, 48), (3, 2, 270, 48), (3, 2, 270, 72), (3, 4, 270, 72)]
    arrays = [bf16(normal(i, *shape)) for i, shape in enumerate(shapes)]
    whole = [wide(x) for x in run(*arrays, window=(100, 20))]

    def same(*arrays: ts.Tensor) -> None:
        for a, b in zip(whole, run(*arrays, window=(100, 20))):
            np.testing.assert_array_equal(a, wide(b))

    def moved(x: ts.Tensor, axes: tuple[int, ...]) -> ts.Tensor:
        return ts.permute_dims(ts.copy(ts.permute_dims(x, axes)), tuple(np.argsort(axes).tolist()))

    def strided(x: ts.Tensor) -> ts.Tensor:
        sparse = ts.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), dtype=x.dtype)
        sparse[..., 1::2] = x
        return sparse[..., 1::2]

    same(*(moved(x, (0, 2, 1, 3)) for x in arrays))
    same(*(moved(x, (0, 1, 3, 2)) for x in arrays))
    same(*(strided(x) for x in arrays))
    before = ts.get_num_threads()
    try:
        for count in (1, 2, 5):
            ts.set_num_threads(count)
            same(*arrays)
    finally:
        ts.set_num_threads(before)


def test_not_finite() -> None:
    """Scores that are not finite make their own query NaN, nobody else's."""
    q, k, v = (np.ones((1, 1, 40, 4)) for _ in range(3))
    q[0, 0, 3], k[0, 0, 15] = np.nan, np.inf
    y = wide(ts.attention(*(bf16(x) for x in (q, k, v)), causal=True))[0, 0]
    assert np.isnan(y[3]).all() and np.isnan(y[15:]).all()
    assert (y[[0, 1, 2, *range(4, 15)]] == 1).all()
    # A mask of -inf hides; a query that sees nothing gives 0 and no gradient.
    q, k, v, dy = (normal(i, 1, 1, 40, 8) for i in range(4))
    mask = np.where(np.tri(40, dtype=bool), 0, -np.inf)
    mask[7] = -np.inf
    found = run(*(bf16(x) for x in (q, k, v, dy)), bf16(mask))
    Reference(q, k, v, dy, mask == 0).check(*found)
    assert not wide(found[0])[0, 0, 7].any() and not wide(found[1])[0, 0, 7].any()
    none = run(*(bf16(x) for x in (q, k, v, dy)), None, ts.zeros((1, 40), dtype="bool"))
    assert not any(wide(x).any() for x in none)


def test_scale_that_is_not_positive() -> None:
    q, k, v, dy = (normal(i, 1, 1, 70, 16) for i in range(4))
    found = run(*(bf16(x) for x in (q, k, v, dy)), scale=-0.25)
    Reference(-q, k, v, dy).check(found[0], -found[1], -found[2] * -1.0 if False else found[2], found[3])
    flat = wide(ts.attention(bf16(q), bf16(k), bf16(v), scale=0.0))
    np.testing.assert_allclose(flat, np.broadcast_to(v.mean(2, keepdims=True), flat.shape), atol=2e-3)


def test_autocast_attends_in_bfloat16() -> None:
    """float32 operands are rounded, bfloat16 ones read as they are; gradients come back in the leaves' dtype."""
    q, k, v = (ts.asarray(normal(i, 2, 2, 70, 16)).astype("float32").requires_grad_() for i in range(3))
    mask = ts.asarray(normal(5, 70, 70)).astype("float32")
    with ts.autocast():
        y = F.scaled_dot_product_attention(q, k, v, mask)
        assert ts.is_autocast_enabled()
    assert y.dtype == ts.bfloat16
    expected = ts.attention(*(x.detach().astype("bfloat16") for x in (q, k, v, mask)))
    np.testing.assert_array_equal(wide(y), wide(expected))
    ts.sum(y.astype("float32")).backward()
    assert q.grad.dtype == k.grad.dtype == v.grad.dtype == ts.float32
    with ts.autocast():
        half = ts.attention(*(x.detach().astype("float16") for x in (q, k, v)))
        assert half.dtype == ts.float16


@pytest.mark.parametrize("jit", [False, True])
def test_multihead_attention_under_autocast(jit: bool) -> None:
    ts.manual_seed(0)
    layer = nn.MultiheadAttention(64, 4, batch_first=True)
    x = ts.asarray(normal(1, 3, 50, 64)).astype("float32")

    def step(x: ts.Tensor) -> Any:
        layer.zero_grad()
        with ts.autocast():
            y = layer(x, x, x, need_weights=False, is_causal=True)[0]
        (y.astype("float32") ** 2).mean().backward()
        return y

    y = (ts.jit(step) if jit else step)(x)
    assert y.dtype == ts.bfloat16
    grads = [p.grad.numpy().copy() for p in layer.parameters()]
    layer.zero_grad()
    exact = layer(x, x, x, need_weights=False, is_causal=True)[0]
    (exact**2).mean().backward()
    assert np.abs(wide(y) - wide(exact)).max() < 0.02 * np.abs(wide(exact)).max()
    for p, g in zip(layer.parameters(), grads):
        assert p.grad.dtype == ts.float32
        assert np.abs(g - p.grad.numpy()).max() <= 0.03 * np.abs(p.grad.numpy()).max() + 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine(engine: str) -> None:
    run_pinned(__file__, engine)


@pytest.mark.parametrize("size", [1e3, 2e4, 1e5, 1e6])
@pytest.mark.parametrize("scale", [0.3, 0.7])
def test_the_only_key_has_all_the_weight(size: float, scale: float) -> None:
    """However large its score: products are rounded before the maximum is subtracted, as the maximum was."""
    q = ts.full((1, 1, 1, 1), size, dtype="bfloat16")
    v = ts.ones((1, 1, 1, 1), dtype="bfloat16").requires_grad_()
    y = ts.attention(q, q, v, scale=scale)
    y.backward(ts.ones_like(y.detach()))
    assert y.item() == 1 and v.grad.item() == 1
