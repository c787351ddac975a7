"""Attention forward by wgmma and TMA (compute capability 9.0), which is used where TENSORSMITH_CUDA_WGMMA asks for it:
which key and which feature each number comes from, exact on integers; against float64; bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

if not ts.cuda.is_available():
    pytest.skip(ts.cuda.why_not() or "", allow_module_level=True)
DEVICE = ts.cuda.get_device_properties()
CAPABILITY = tuple(DEVICE["capability"])
pytestmark = pytest.mark.skipif(CAPABILITY != (9, 0), reason=f"compute capability 9.0, not {CAPABILITY}")
ON_HOST = DEVICE["name"].startswith("the host")
TYPES = ["bfloat16", "float16"]
SIZES = [64, 128]  # of heads


@pytest.fixture(autouse=True)
def only_wgmma(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No attention here is to be the other kernel's."""
    monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", "only")
    ts.set_default_device("cuda")
    yield
    ts.set_default_device("cpu")


def array(values: np.ndarray, dtype: str) -> Any:
    return ts.array(values.astype(np.float32)).astype(dtype)


def attend(q: Any, k: Any, v: Any, **options: Any) -> np.ndarray:
    return ts.attention(q, k, v, **options).astype("float32").cpu().numpy()


def integers(rng: np.random.Generator, *shape: int, largest: int = 60) -> np.ndarray:
    return rng.integers(-largest, largest + 1, shape)


def normal(seed: int, dtype: str, *shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [array(rng.standard_normal(shape), dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("T", "S"), [(1, 1), (64, 127), (128, 128), (70, 129), (257, 300)])
def test_each_query_picks_a_key(size: int, dtype: str, T: int, S: int) -> None:
    """Keys are words of +1 and -1, and a query is one of them: it gets that key's values, exactly, so a wrong fragment,
    swap or descriptor shows which number stands where."""
    if ON_HOST and T > 200 and (size == 64) == (dtype == "bfloat16"):
        pytest.skip("once for each size and dtype on a host")
    rng = np.random.default_rng(size + S)
    while True:
        words = rng.integers(0, 2, (S, size)) * 2 - 1
        if S == 1 or np.max(words @ words.T - 2 * size * np.eye(S, dtype=np.int64)) < size - 4:
            break
    picked = rng.integers(0, S, T)
    v = integers(rng, S, size)
    y = attend(
        array(words[picked][None, None], dtype),
        array(words[None, None], dtype),
        array(v[None, None], dtype),
        scale=64.0,  # the second best key's weight is below 2^-500
    )
    np.testing.assert_array_equal(y[0, 0], v[picked])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options", [{}, {"causal": True}, {"window": (63, 0)}, {"window": (20, 200)}], ids=str
)
def test_means_of_integers(size: int, dtype: str, options: dict[str, Any]) -> None:
    """Queries of zeros weigh all keys that they see alike: sums of integers, exact before the division."""
    rng = np.random.default_rng(3)
    T, S = 200, 260
    v = integers(rng, 2, 1, S, size, largest=8)
    left, right = options.get("window", (S + T, 0 if options else S + T))
    i, j = np.arange(T)[:, None], np.arange(S)[None, :]
    seen = (j >= i - left) & (j <= i + right)
    y = attend(
        array(np.zeros((2, 2, T, size)), dtype),
        *normal(1, dtype, (2, 1, S, size)),
        array(v, dtype),
        **options,
    )
    expected = seen.astype(np.float64) @ v / seen.sum(1, keepdims=True)
    once = 2.0**-8 if dtype == "bfloat16" else 2.0**-11
    np.testing.assert_allclose(y, np.broadcast_to(expected, y.shape), rtol=once, atol=1e-7)
    whole = np.log2(seen.sum(1)) % 1 == 0  # then nothing is rounded but the result
    exact = array(np.broadcast_to(expected, y.shape), dtype).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(y[:, :, whole], exact[:, :, whole])


CASES = [
    ((1, 2, 2, 130, 130), {}),
    ((1, 2, 1, 200, 200), {"causal": True}),
    ((2, 2, 1, 65, 390), {"causal": True}),
    ((1, 1, 1, 300, 150), {"window": (70, 9)}),  # the last queries see no key
    ((1, 2, 2, 129, 257), {"scale": 0.3}),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("sizes", "options"), CASES, ids=str)
def test_beside_the_other_kernel(
    size: int, dtype: str, sizes: tuple[int, ...], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not further from float64 than mma.sync's kernel is, y and the gradients that come of its statistics."""
    b, h, g, t, s = sizes
    inputs = normal(7, dtype, (b, h, t, size), (b, g, s, size), (b, g, s, size), (b, h, t, size))
    found = {}
    for wanted in ("exact", "only", "0"):
        wide = wanted == "exact"
        monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", "0" if wide else wanted)
        x = [a.cpu().astype("float64") if wide else a.detach() for a in inputs]
        leaves = [a.requires_grad_() for a in x[:3]]
        y = ts.attention(*leaves, **options)
        (y * x[3]).sum().backward()
        all_of = (y.detach(), *(a.grad for a in leaves))
        found[wanted] = [a.cpu().astype("float64").numpy() for a in all_of]
    for i, exact in enumerate(found["exact"]):
        mine, other = (np.abs(found[k][i] - exact).max() for k in ("only", "0"))
        assert np.isfinite(mine) and mine <= 1.5 * other + 1e-6, (i, mine, other)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_layouts(size: int, dtype: str) -> None:
    """Heads split off an axis, slices, rows off 16 bytes (which are copied), batches and heads apart: the same bits."""
    b, h, t, s = 2, 2, 70, 140
    q, k, v = normal(5, dtype, (b, h, t, size), (b, h, s, size), (b, h, s, size))
    whole = attend(q, k, v, causal=True)

    def split(x: Any) -> Any:
        return ts.contiguous(ts.swapaxes(x, 1, 2)).swapaxes(1, 2)

    def sliced(x: Any, by: int) -> Any:
        room = ts.full((b, h, x.shape[2] + 3, size + 24), float("nan")).astype(dtype)
        inside = room[:, :, 2:-1, by : by + size]
        inside[:] = x
        return inside

    for change in (split, lambda x: sliced(x, 8), lambda x: sliced(x, 3)):
        np.testing.assert_array_equal(attend(change(q), change(k), change(v), causal=True), whole)
    out = attend(q[1:, 1:], k[1:, 1:], v[1:, 1:], causal=True)
    np.testing.assert_array_equal(out, whole[1:, 1:])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_bits(size: int, dtype: str) -> None:
    """Run after run, and whatever queries, heads and later keys stand beside: the same bits."""
    t = 300 if ON_HOST else 2000
    h = 1 if ON_HOST else 24
    q, k, v = normal(9, dtype, (1, h, t, size), (1, h, t, size), (1, h, t, size))
    whole = attend(q, k, v, causal=True)
    assert np.isfinite(whole).all()
    for _ in range(1 if ON_HOST else 50):
        np.testing.assert_array_equal(attend(q, k, v, causal=True), whole)
    n = 150
    np.testing.assert_array_equal(attend(q[:, :, :n], k[:, :, :n], v[:, :, :n], causal=True), whole[:, :, :n])
    every = attend(q, k, v)
    np.testing.assert_array_equal(attend(q[:, :, 200:260], k, v), every[:, :, 200:260])


@pytest.mark.skipif(not ON_HOST, reason="about the host's copies")
@pytest.mark.parametrize("size", SIZES)
def test_copies_that_come_early(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that was given up too soon would be overwritten at once; one that was used too soon is not yet there."""
    t = 128 * (6 if size == 64 else 5)  # more tiles than stages, twice around
    q, k, v = normal(2, "bfloat16", (1, 1, 130, size), (1, 1, t, size), (1, 1, t, size))
    late = attend(q, k, v)
    monkeypatch.setenv("CUDA_HOST_COPIES", "early")
    np.testing.assert_array_equal(attend(q, k, v), late)


def test_what_it_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = normal(4, "bfloat16", (1, 2, 20, 64), (1, 2, 30, 64), (1, 2, 30, 64))
    mask = ts.ones((20, 30), dtype=ts.bool)
    odd = ts.contiguous(q[..., :40])
    shared = ts.broadcast_to(k[:, :1], k.shape)
    calls = [
        lambda: ts.attention(q, k, v, mask),
        lambda: ts.attention(q, k, v, scale=-1.0),
        lambda: ts.attention(q, k, v, dropout=0.5),
        lambda: ts.attention(odd, ts.contiguous(k[..., :40]), v),
        lambda: ts.attention(q, shared, v),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="attention: TENSORSMITH_CUDA_WGMMA is 'only'"):
            call()
    monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", "1")
    for call in calls:
        assert np.isfinite(call().astype("float32").cpu().numpy()).all()


@pytest.mark.skipif(ON_HOST, reason="for a GPU: minutes each on a host")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("causal", [False, True])
def test_long_sequences(size: int, dtype: str, causal: bool) -> None:
    """Every stage many times around, more blocks than processors: each query picks a key among 4096."""
    rng = np.random.default_rng(0)
    b, h, t = 2, 20, 4096
    words = rng.integers(0, 2, (b, h, t, size)) * 2 - 1
    picked = rng.integers(0, np.arange(1, t + 1) if causal else t, (b, h, t))
    v = integers(rng, b, h, t, size)
    q = np.take_along_axis(words, picked[..., None], 2)
    arrays = [array(x, dtype) for x in (q, words, v)]
    expected = np.take_along_axis(v, picked[..., None], 2)
    for _ in range(5):
        np.testing.assert_array_equal(attend(*arrays, scale=64.0, causal=causal), expected)
