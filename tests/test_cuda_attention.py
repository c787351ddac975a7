"""Attention and its gradients by wgmma and TMA (compute capability 9.0), which are used where TENSORSMITH_CUDA_WGMMA
asks for them: which key and which feature each number comes from, exact on integers; against float64; bits."""

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


def gradients(q: Any, k: Any, v: Any, dy: Any, **options: Any) -> list[np.ndarray]:
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    (ts.attention(*leaves, **options) * dy).sum().backward()
    return [x.grad.astype("float32").cpu().numpy() for x in leaves]


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


def each_pair_once(size: int, dtype: str) -> bool:
    """On a host, where a case takes seconds, a size is tested in one type."""
    return not ON_HOST or (size == 64) == (dtype == "bfloat16")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("T", "S", "window"),
    [
        (1, 64, None),
        (130, 128, None),
        (65, 64, None),
        (200, 190, (63, 0)),
        (300, 270, (60, 67)),
        (63, 300, (0, 63)),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [0, 1])
def test_gradients_of_integers(
    size: int, dtype: str, T: int, S: int, window: tuple[int, int] | None, first: int
) -> None:
    """Keys and queries have no feature in common, so all scores are 0 and the keys that a query sees weigh alike; where
    these are a power of two, all is exact but the last rounding: which query, key and feature each number is of."""
    if not each_pair_once(size, dtype):
        pytest.skip("once for each size and dtype on a host")
    rng = np.random.default_rng(T + S + first)
    b, h, g = 1, 2, 1
    i, j = np.arange(T)[:, None], np.arange(S)[None, :]
    seen = np.ones((T, S), bool) if window is None else (j >= i - window[0]) & (j <= i + window[1])
    count = S if window is None else sum(window) + 1
    whole = seen.sum(1) == count
    q, k = integers(rng, b, h, T, size, largest=4), integers(rng, b, g, S, size, largest=4)
    q[..., first::2] = 0
    k[..., 1 - first :: 2] = 0
    v = integers(rng, b, g, S, size, largest=1)
    dy = (np.arange(size) == rng.integers(0, size, (b, h, T, 1))) * rng.choice([-1, 1], (b, h, T, 1))
    dy[:, :, ~whole] = 0

    def rounded(x: np.ndarray) -> np.ndarray:
        return array(x, dtype).astype("float32").cpu().numpy()

    options: dict[str, Any] = {"scale": 2.0} if window is None else {"scale": 2.0, "window": window}
    found = gradients(*(array(x, dtype) for x in (q, k, v, dy)), **options)
    p = seen / count
    ds = p * (dy @ np.swapaxes(v, 2, 3) - np.sum(dy * (p @ v), -1, keepdims=True))
    assert np.array_equal(rounded(ds), ds)
    expected = [
        2.0 * ds @ k,
        2.0 * (np.swapaxes(ds, 2, 3) @ q).sum(1, keepdims=True),
        (p.T @ dy).sum(1, keepdims=True),
    ]
    for name, mine, exact in zip(["dq", "dk", "dv"], found, expected, strict=True):
        assert np.any(exact) or not np.any(whole)
        np.testing.assert_array_equal(mine, rounded(exact), name)


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
    """Not further from float64 than mma.sync's kernels are, y and the gradients."""
    beside_the_other_kernel(size, dtype, sizes, options, monkeypatch)


EDGES = [
    ((1, 1, 1, 1, 1), {}),
    ((1, 1, 1, 63, 65), {"causal": True}),
    ((2, 3, 1, 64, 64), {"causal": True}),
    ((1, 1, 1, 65, 63), {"causal": True}),
    ((1, 2, 1, 127, 129), {}),
    ((1, 1, 1, 129, 127), {"causal": True}),
    ((1, 4, 2, 66, 193), {"window": (0, 64)}),
    ((1, 1, 1, 321, 200), {"window": (40, 40)}),  # more tiles than stages; the last queries see no key
    ((1, 1, 1, 70, 400), {"window": (10, 30)}),  # the last keys are seen by nobody
    ((1, 2, 1, 390, 400), {"causal": True}),
    ((1, 3, 1, 500, 300), {"window": (130, 5)}),  # a warpgroup leaves out tiles before and behind its own
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("sizes", "options"), EDGES, ids=str)
def test_gradients_at_the_edges_of_tiles(
    size: int, dtype: str, sizes: tuple[int, ...], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not each_pair_once(size, dtype):
        pytest.skip("once for each size and dtype on a host")
    beside_the_other_kernel(size, dtype, sizes, options, monkeypatch)


def beside_the_other_kernel(
    size: int, dtype: str, sizes: tuple[int, ...], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
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

    if not each_pair_once(size, dtype):
        return
    (dy,) = normal(6, dtype, (b, h, t, size))
    of_all = gradients(q, k, v, dy, causal=True)
    for change in (split, lambda x: sliced(x, 8), lambda x: sliced(x, 3)):
        for mine, other in zip(gradients(*map(change, (q, k, v, dy)), causal=True), of_all, strict=True):
            np.testing.assert_array_equal(mine, other)
    for mine, other in zip(gradients(*(x[1:, 1:] for x in (q, k, v, dy)), causal=True), of_all, strict=True):
        np.testing.assert_array_equal(mine, other[1:, 1:])


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


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_bits_of_gradients(size: int, dtype: str) -> None:
    """Run after run; and a query's gradient does not depend on the others, nor a head's on other batches and groups."""
    if not each_pair_once(size, dtype):
        pytest.skip("once for each size and dtype on a host")
    t, h = (200, 2) if ON_HOST else (2000, 24)
    q, k, v, dy = normal(
        9, dtype, (1, h, t, size), (1, h // 2, t, size), (1, h // 2, t, size), (1, h, t, size)
    )
    whole = gradients(q, k, v, dy)
    for _ in range(1 if ON_HOST else 50):
        for mine, other in zip(gradients(q, k, v, dy), whole, strict=True):
            np.testing.assert_array_equal(mine, other)
    for rows in (slice(0, 150), slice(100, 140)):
        mine = gradients(q[:, :, rows], k, v, dy[:, :, rows])[0]
        np.testing.assert_array_equal(mine, whole[0][:, :, rows])


@pytest.mark.skipif(not ON_HOST, reason="about the host's copies")
@pytest.mark.parametrize("size", SIZES)
def test_copies_that_come_early(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that was given up too soon would be overwritten at once; one that was used too soon is not yet there."""
    t = 128 * (6 if size == 64 else 5)  # more tiles than stages, twice around
    q, k, v = normal(2, "bfloat16", (1, 1, 130, size), (1, 1, t, size), (1, 1, t, size))
    late = attend(q, k, v)
    monkeypatch.setenv("CUDA_HOST_COPIES", "early")
    np.testing.assert_array_equal(attend(q, k, v), late)


@pytest.mark.skipif(not ON_HOST, reason="about the host's copies")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("causal", [False, True])
def test_copies_of_gradients_that_come_early(
    size: int, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = 64 * 9 + 10  # four stages, more than twice around
    q, k, v, dy = normal(
        2, "bfloat16", (1, 2, t, size), (1, 1, 130, size), (1, 1, 130, size), (1, 2, t, size)
    )
    of_keys = gradients(q, k, v, dy, causal=causal)
    of_queries = gradients(k, q[:, :1], q[:, 1:], k)
    monkeypatch.setenv("CUDA_HOST_COPIES", "early")
    for mine, other in zip(gradients(q, k, v, dy, causal=causal), of_keys, strict=True):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(gradients(k, q[:, :1], q[:, 1:], k), of_queries, strict=True):
        np.testing.assert_array_equal(mine, other)


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
    leaf = q.detach().requires_grad_()
    y = ts.attention(leaf, k, v)
    one = ts.broadcast_to(ts.contiguous(q[:, :, :1]), y.shape)  # a row for all
    with pytest.raises(RuntimeError, match="attention: TENSORSMITH_CUDA_WGMMA is 'only'"):
        y.backward(one)
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
