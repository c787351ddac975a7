"""Products by wgmma and TMA (compute capability 9.0): exact on integers in every layout, around every tile; bits."""

from __future__ import annotations

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
TYPES = ["bfloat16", "float16", "split", "tf32"]
LAYOUTS = [(left, right) for left in ("rows", "columns") for right in ("rows", "columns")]


@pytest.fixture(autouse=True)
def only_wgmma(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No product here is to be one of the other kernels."""
    monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", "only")
    ts.set_default_device("cuda")
    yield
    ts.cuda.set_matmul_precision("ieee")
    ts.set_default_device("cpu")


def mode(kind: str) -> str:
    if kind in ("bfloat16", "float16"):
        return kind
    ts.cuda.set_matmul_precision(kind)  # type: ignore[arg-type]
    return "float32"


def laid_out(a: np.ndarray, dtype: str, layout: str) -> Any:
    x = ts.array(a).astype(dtype)
    return x if layout == "rows" else ts.contiguous(ts.swapaxes(x, -1, -2)).swapaxes(-1, -2)


def integers(rng: np.random.Generator, *shape: int, largest: int = 3) -> np.ndarray:
    return rng.integers(-largest, largest + 1, shape).astype(np.float32)


def rounded(a: np.ndarray, dtype: str) -> np.ndarray:
    return ts.array(a).astype(dtype).astype("float32").cpu().numpy()


def product(x: Any, y: Any, **more: Any) -> np.ndarray:
    return ts.matmul(x, y, **more).astype("float32").cpu().numpy()


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
@pytest.mark.parametrize("kind", TYPES)
def test_descriptors(kind: str, layout: tuple[str, str]) -> None:
    """One number of A times one of B, for each place in a tile that a wrong descriptor would move: which of them it
    was can be read off the result."""
    dtype = mode(kind)
    m, n, k = 128, 128, 64
    a = np.arange(m * k, dtype=np.float32).reshape(m, k) % 251 - 125
    b = np.zeros((k, n), np.float32)
    for p in range(k):
        b[p, (p * 37 + 5) % n] = 1
    y = product(laid_out(a, dtype, layout[0]), laid_out(b, dtype, layout[1]))
    np.testing.assert_array_equal(y, a @ b)
    c = np.zeros((m, k), np.float32)
    for p in range(k):
        c[(p * 29 + 3) % m, p] = 1
    d = np.arange(k * n, dtype=np.float32).reshape(k, n) % 241 - 120
    y = product(laid_out(c, dtype, layout[0]), laid_out(d, dtype, layout[1]))
    np.testing.assert_array_equal(y, c @ d)


SHAPES = [
    (1, 1, 1), (1, 8, 8), (17, 9, 33), (64, 64, 64), (65, 130, 72), (127, 128, 65), (129, 255, 16), (128, 257, 63),
    (130, 256, 128), (257, 129, 200), (3, 200, 5),
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_on_integers(kind: str, shape: tuple[int, int, int]) -> None:
    dtype, (m, n, k) = mode(kind), shape
    rng = np.random.default_rng(sum(shape))
    a, b = integers(rng, m, k), integers(rng, k, n)
    expected = rounded(a @ b, dtype)
    large = ON_HOST and m * n * k > 500_000
    for left, right in LAYOUTS[1:3] if large else LAYOUTS:
        y = product(laid_out(a, dtype, left), laid_out(b, dtype, right))
        np.testing.assert_array_equal(y, expected, err_msg=f"{left} {right}")


@pytest.mark.skipif(ON_HOST, reason="for a GPU: seconds each on a host")
@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
@pytest.mark.parametrize("kind", TYPES)
def test_many_tiles(kind: str, layout: tuple[str, str]) -> None:
    """Several tiles a block, all stages, groups of tiles that end early."""
    dtype = mode(kind)
    rng = np.random.default_rng(2)
    for m, n, k in ((4000, 1800, 776), (2200, 3336, 1032), (9000, 264, 4200)):
        a, b = integers(rng, m, k, largest=1), integers(rng, k, n, largest=1)
        y = product(laid_out(a, dtype, layout[0]), laid_out(b, dtype, layout[1]))
        np.testing.assert_array_equal(y, rounded(a @ b, dtype), err_msg=f"{m} {n} {k}")


@pytest.mark.parametrize("n", [250, 187])
@pytest.mark.parametrize("kind", TYPES)
def test_wide_tiles(kind: str, n: int) -> None:
    """Two tiles of 256 (192) columns a multiprocessor: narrower ones would take more rounds."""
    dtype = mode(kind)
    rng = np.random.default_rng(6)
    m, k = 256 * DEVICE["multiprocessors"] - 3, 40 if ON_HOST else 520
    a, b = integers(rng, m, k), integers(rng, k, n)
    for left, right in LAYOUTS[:1] + LAYOUTS[3:] if ON_HOST else LAYOUTS:
        y = product(laid_out(a, dtype, left), laid_out(b, dtype, right))
        np.testing.assert_array_equal(y, rounded(a @ b, dtype), err_msg=f"{left} {right}")


@pytest.mark.parametrize("kind", TYPES)
def test_chunks_of_k(kind: str) -> None:
    """K beyond 4096: chunks apart and added by a second kernel (few tiles), or one after the other in a block."""
    dtype, k = mode(kind), 4200
    rng = np.random.default_rng(3)
    # On the host 4 multiprocessors: 8 tiles are not few.
    shapes = [(5, 6)] if ON_HOST else [(5, 6), (300, 500), (128 * 40, 128 * 17)]
    if ON_HOST and kind == "bfloat16":
        shapes.append((128 * 7 + 1, 9))
    for m, n in shapes:
        a, b = integers(rng, m, k, largest=1), integers(rng, k, n, largest=1)
        y = product(ts.array(a, dtype=dtype), ts.array(b, dtype=dtype))
        np.testing.assert_array_equal(y, rounded(a @ b, dtype), err_msg=f"{m} {n}")


@pytest.mark.parametrize("kind", TYPES)
def test_epilogue_and_batches(kind: str) -> None:
    dtype = mode(kind)
    rng = np.random.default_rng(9)
    x, w, bias = integers(rng, 3, 20, 40), integers(rng, 24, 40), integers(rng, 24, largest=9)
    args = [ts.array(v, dtype=dtype) for v in (x, w, bias)]
    y = ts.nn.functional.linear(*args).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(y, rounded(x @ w.T + bias, dtype))
    core = ts._core.ops
    y = core.linear_relu(*args).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(y, rounded(np.maximum(x @ w.T + bias, 0), dtype))
    v = integers(rng, 3, 40, 16)
    np.testing.assert_array_equal(product(args[0], ts.array(v, dtype=dtype)), x @ v)
    shared = integers(rng, 40, 16)  # by all batches
    np.testing.assert_array_equal(product(args[0], ts.array(shared, dtype=dtype)), x @ shared)


@pytest.mark.parametrize("layout", ["rows", "odd", "columns", "strided"])
@pytest.mark.parametrize("kind", TYPES)
def test_results_in_any_layout(kind: str, layout: str) -> None:
    """Nothing is written beside the result, whose rows may be anywhere."""
    dtype = mode(kind)
    rng = np.random.default_rng(11)
    for m, n, k in ((70, 136, 24), (66, 67, 40)):
        a, b = integers(rng, m, k), integers(rng, k, n)
        steps = (2, 3) if layout == "strided" else (1, 1)
        shape = (n, m) if layout == "columns" else (m, n)
        begin = 1 if layout == "odd" else 8
        room = ts.full((shape[0] * steps[0] + 2, shape[1] * steps[1] + 16), -99.0).astype(dtype)
        inside = (
            slice(1, 1 + shape[0] * steps[0], steps[0]),
            slice(begin, begin + shape[1] * steps[1], steps[1]),
        )
        expected = np.full(room.shape, rounded(np.float32(-99.0), dtype))
        found = rounded(a @ b, dtype)
        expected[inside] = found.T if layout == "columns" else found
        y = room[inside].T if layout == "columns" else room[inside]
        ts.matmul(ts.array(a, dtype=dtype), ts.array(b, dtype=dtype), out=y)
        np.testing.assert_array_equal(room.astype("float32").cpu().numpy(), expected, err_msg=f"{m} {n}")


@pytest.mark.parametrize("kind", TYPES)
def test_bits(kind: str) -> None:
    """A row's result does not depend on the rows beside it, on tiles, layouts or runs."""
    dtype = mode(kind)
    rng = np.random.default_rng(5)
    m, n, k = (150, 140, 200) if ON_HOST else (128 * 70, 1100, 4200)
    a, b = (
        rng.standard_normal((m, k)).astype(np.float32),
        rng.standard_normal((k, n)).astype(np.float32),
    )
    x, y = ts.array(a, dtype=dtype), ts.array(b, dtype=dtype)
    whole = product(x, y)
    for _ in range(1 if ON_HOST else 20):
        np.testing.assert_array_equal(product(x, y), whole)
    for rows in (1, 65):
        np.testing.assert_array_equal(product(ts.contiguous(x[:rows]), y), whole[:rows])
    np.testing.assert_array_equal(product(x, ts.contiguous(y[:, :72])), whole[:, :72])
    moved = product(ts.contiguous(x.T).T, ts.contiguous(y.T).T)
    np.testing.assert_array_equal(moved, whole)


@pytest.mark.parametrize("kind", TYPES)
def test_beside_the_other_kernel(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """mma.sync may add in another order; neither is further from float64 than its numbers allow."""
    dtype = mode(kind)
    rng = np.random.default_rng(8)
    m, n, k = (70, 66, 500) if ON_HOST else (700, 660, 5000)
    x, y = (
        ts.array(rng.standard_normal(shape).astype(np.float32), dtype=dtype) for shape in ((m, k), (k, n))
    )
    a, b = (v.astype("float64").cpu().numpy() for v in (x, y))
    bound = np.abs(a) @ np.abs(b)
    found = {}
    for wanted in ("only", "0"):
        monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", wanted)
        z = ts.matmul(x, y).astype("float64").cpu().numpy()
        found[wanted] = float((np.abs(z - a @ b) / bound).max())
    least = {"bfloat16": 2.0**-9, "float16": 2.0**-12, "split": 2.0**-25, "tf32": 2.0**-12}[kind]
    assert found["only"] <= max(1.25 * found["0"], least), found


@pytest.mark.skipif(not ON_HOST, reason="about the host's copies")
@pytest.mark.parametrize("kind", TYPES)
def test_copies_that_come_early(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that was given up too soon would be overwritten at once; one that was used too soon is not yet there."""
    dtype = mode(kind)
    rng = np.random.default_rng(4)
    x, y = (ts.array(integers(rng, *shape), dtype=dtype) for shape in ((130, 600), (600, 20)))
    late = product(x, y)
    monkeypatch.setenv("CUDA_HOST_COPIES", "early")
    np.testing.assert_array_equal(product(x, y), late)


def test_gradients_of_a_16_bit_layer() -> None:
    rng = np.random.default_rng(1)
    x, w = integers(rng, 6, 16), integers(rng, 8, 16)
    a, b = (ts.array(v, dtype="bfloat16").requires_grad_() for v in (x, w))
    ts.nn.functional.linear(a, b).astype("float32").sum().backward()
    np.testing.assert_array_equal(a.grad.astype("float32").cpu().numpy(), np.ones((6, 8)) @ w)
    np.testing.assert_array_equal(b.grad.astype("float32").cpu().numpy(), np.ones((6, 8)).T @ x)


def test_what_it_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for all is the other kernel's; an unknown value of the variable is an error."""
    core = ts._core.ops
    x, w = ts.broadcast_to(ts.ones((1, 16), dtype="bfloat16"), (4, 16)), ts.ones((16, 8), dtype="bfloat16")
    with pytest.raises(RuntimeError, match="'only'"):
        core.matmul(x, w)
    for wanted in ("1", "2"):
        monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", wanted)
        assert (product(x, w) == 16).all()
    monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", "fast")
    with pytest.raises(RuntimeError, match="'fast'"):
        core.matmul(x, w)
