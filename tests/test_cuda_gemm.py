"""Products on tensor cores: every layout and alignment, exact on integers; modes for float32; chunks of K; bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

pytestmark = pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or "")
TYPES = ["bfloat16", "float16", "split", "tf32"]


@pytest.fixture(autouse=True)
def on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TENSORSMITH_CUDA_WGMMA", "0")  # tests/test_cuda_wgmma.py has that one
    ts.set_default_device("cuda")
    yield
    ts.cuda.set_matmul_precision("ieee")
    ts.set_default_device("cpu")


def mode(kind: str) -> str:
    """Chooses the float32 mode that `kind` names, and returns the dtype."""
    if kind in ("bfloat16", "float16"):
        return kind
    ts.cuda.set_matmul_precision(kind)  # type: ignore[arg-type]
    return "float32"


def laid_out(a: np.ndarray, dtype: str, layout: str) -> Any:
    """The matrix with its columns or rows contiguous, at an odd address, or with no unit stride."""
    x = ts.array(a).astype(dtype)
    if layout == "rows":
        return x
    if layout == "columns":
        return ts.contiguous(x.T).T
    wide = ts.zeros(a.shape[0] * 2, a.shape[1] * 3 + 1, dtype=dtype)
    place = (
        (slice(None, a.shape[0]), slice(1, a.shape[1] + 1))
        if layout == "odd"
        else (slice(None, None, 2), slice(1, None, 3))
    )
    wide[place] = x
    return wide[place]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (17, 9, 33), (64, 64, 64), (65, 130, 129), (130, 257, 72), (3, 200, 5)]
)
def test_layouts_are_exact_on_integers(kind: str, shape: tuple[int, int, int]) -> None:
    dtype, (m, n, k) = mode(kind), shape
    rng = np.random.default_rng(sum(shape))
    a = rng.integers(-3, 4, (m, k)).astype(np.float32)
    b = rng.integers(-3, 4, (k, n)).astype(np.float32)
    expected = ts.array(a @ b).astype(dtype).astype("float32").cpu().numpy()
    for left in ("rows", "columns", "odd", "strided"):
        for right in (
            ("rows", "columns", "odd", "strided") if m * n * k < 40000 or left == "rows" else ("columns",)
        ):
            y = ts.matmul(laid_out(a, dtype, left), laid_out(b, dtype, right))
            np.testing.assert_array_equal(
                y.astype("float32").cpu().numpy(), expected, err_msg=f"{left} {right}"
            )


@pytest.mark.parametrize("kind", TYPES)
def test_error(kind: str) -> None:
    """Against float64; `split` is held to what the float32 kernel itself does."""
    dtype = mode(kind)
    rng = np.random.default_rng(7)
    for k in (1, 7, 64, 500):
        a, b = rng.standard_normal((70, k)), rng.standard_normal((k, 66))
        x, y = ts.array(a, dtype=dtype), ts.array(b, dtype=dtype)
        a, b = (v.astype("float64").cpu().numpy() for v in (x, y))
        bound = np.abs(a) @ np.abs(b)

        def error() -> float:
            z = ts.matmul(x, y).astype("float64").cpu().numpy()  # noqa: B023
            least = 2.0**-25 if kind == "float16" else 0  # half of the smallest float16
            return float(((np.abs(z - a @ b) - least) / bound).max())  # noqa: B023

        found = error()
        if kind == "split":
            ts.cuda.set_matmul_precision("ieee")
            assert found <= max(error(), 1.25 * 2.0**-24), k
            ts.cuda.set_matmul_precision("split")
        else:
            assert found <= {"bfloat16": 2.0**-8, "float16": 2.0**-10.5, "tf32": 2.0**-10}[kind], k


def test_split_keeps_extreme_values() -> None:
    ts.cuda.set_matmul_precision("split")
    big = np.finfo(np.float32).max
    a = ts.array(
        np.array([[big, 0], [np.inf, 1], [np.nan, 1], [-big, 2]], np.float32)
    )  # inf times a part of 0: NaN
    y = ts.matmul(a, ts.array(np.array([[1.0], [1.0]], np.float32))).cpu().numpy().ravel()
    assert y[0] == big and np.isnan(y[1]) and np.isnan(y[2]) and y[3] == -big


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("m", "n"), [(5, 6), (130, 129)])
def test_chunks_of_k(kind: str, m: int, n: int) -> None:
    """K beyond 4096: the chunks' sums, apart or in one block, in the same order."""
    if kind == "split" and m > 100:
        pytest.skip("the same code as bfloat16's, six times the work on a host")
    dtype, k = mode(kind), 4200
    rng = np.random.default_rng(3)
    a, b = rng.integers(-1, 2, (m, k)).astype(np.float32), rng.integers(-1, 2, (k, n)).astype(np.float32)
    x, y = ts.array(a, dtype=dtype), ts.array(b, dtype=dtype)
    expected = ts.array(a @ b).astype(dtype).astype("float32").cpu().numpy()
    got = ts.matmul(x, y).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", TYPES)
def test_bits(kind: str) -> None:
    """A row's result does not depend on the rows beside it, on tiles, layouts or runs."""
    dtype = mode(kind)
    rng = np.random.default_rng(5)
    a, b = (
        rng.standard_normal((150, 200)).astype(np.float32),
        rng.standard_normal((200, 140)).astype(np.float32),
    )
    x, y = ts.array(a, dtype=dtype), ts.array(b, dtype=dtype)
    whole = ts.matmul(x, y).astype("float32").cpu().numpy()
    for rows in (1, 40, 65):
        part = ts.matmul(ts.contiguous(x[:rows]), y).astype("float32").cpu().numpy()
        np.testing.assert_array_equal(part, whole[:rows])
    moved = ts.matmul(ts.contiguous(x.T).T, ts.contiguous(y.T).T).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(moved, whole)


@pytest.mark.parametrize("kind", TYPES)
def test_epilogue_and_batches(kind: str) -> None:
    dtype = mode(kind)
    rng = np.random.default_rng(9)
    x, w = (
        rng.integers(-3, 4, (3, 20, 40)).astype(np.float32),
        rng.integers(-3, 4, (24, 40)).astype(np.float32),
    )
    bias = rng.integers(-9, 10, 24).astype(np.float32)
    args = [ts.array(v, dtype=dtype) for v in (x, w, bias)]
    y = ts.nn.functional.linear(*args).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(y, ts.array(x @ w.T + bias).astype(dtype).astype("float32").cpu().numpy())
    v = rng.integers(-3, 4, (3, 40, 10)).astype(np.float32)
    z = ts.matmul(args[0], ts.array(v, dtype=dtype)).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(z, x @ v)
    empty = ts.matmul(args[0][:, :, :0], ts.array(v, dtype=dtype)[:, :0]).astype("float32").cpu().numpy()
    np.testing.assert_array_equal(empty, np.zeros((3, 20, 10)))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("layout", ["rows", "odd", "columns", "odd columns", "strided"])
def test_results_in_any_layout(kind: str, layout: str) -> None:
    """Rows that 16-byte stores take and rows that they do not, results along M, and nothing written beside them."""
    dtype = mode(kind)
    rng = np.random.default_rng(11)
    for m, n, k in ((70, 136, 24), (66, 67, 40)):
        a, b = rng.integers(-3, 4, (m, k)).astype(np.float32), rng.integers(-3, 4, (k, n)).astype(np.float32)
        steps = (2, 3) if layout == "strided" else (1, 1)
        shape = (n, m) if "columns" in layout else (m, n)
        begin = 1 if "odd" in layout else 8
        room = ts.full((shape[0] * steps[0] + 2, shape[1] * steps[1] + 16), -99.0).astype(dtype)
        inside = (
            slice(1, 1 + shape[0] * steps[0], steps[0]),
            slice(begin, begin + shape[1] * steps[1], steps[1]),
        )
        expected = np.full(room.shape, ts.array(-99.0).astype(dtype).astype("float32").cpu().numpy())
        product = ts.array(a @ b).astype(dtype).astype("float32").cpu().numpy()
        expected[inside] = product.T if "columns" in layout else product
        y = room[inside].T if "columns" in layout else room[inside]
        ts.matmul(ts.array(a, dtype=dtype), ts.array(b, dtype=dtype), out=y)
        np.testing.assert_array_equal(room.astype("float32").cpu().numpy(), expected, err_msg=f"{m} {n}")


@pytest.mark.parametrize("right", ["rows", "columns"])
@pytest.mark.parametrize("left", ["rows", "columns"])
@pytest.mark.parametrize("k", [6, 160, 1100, 4200])
def test_large_float32_products(left: str, right: str, k: int) -> None:
    """Tiles of 128 x 128 read 16 bytes at a time; rows at odd addresses are read one by one: the same bits."""
    m, n = (257, 262) if k < 1000 else (140, 260)
    rng = np.random.default_rng(k)
    a, b = integers(rng, m, k), integers(rng, k, n)
    bias = ts.array(integers(rng, n))
    y = ts.matmul(laid_out(a, "float32", left), laid_out(b, "float32", right)).cpu().numpy()
    np.testing.assert_array_equal(y, a @ b)
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    x, w = laid_out(a, "float32", left), laid_out(b, "float32", right)
    y = ts.nn.functional.linear(x, w.T, bias).cpu().numpy()
    plain = ts.nn.functional.linear(laid_out(a, "float32", "odd"), w.T, bias).cpu().numpy()
    np.testing.assert_array_equal(y, plain)
    part = ts.nn.functional.linear(x[:5], w.T, bias).cpu().numpy()
    np.testing.assert_array_equal(y[:5], part)


def in_fours(a: np.ndarray, layout: str) -> Any:
    """The matrix in rows (columns) that begin on 16 bytes, with NaN between them."""
    if layout == "columns":
        return in_fours(a.T, "rows").T
    wide = ts.full((a.shape[0], a.shape[1] // 4 * 4 + 8), float("nan"))
    wide[:, : a.shape[1]] = ts.array(a)
    return wide[:, : a.shape[1]]


@pytest.mark.parametrize("right", ["rows", "columns"])
@pytest.mark.parametrize("left", ["rows", "columns"])
def test_large_float32_tiles_at_their_edges(left: str, right: str) -> None:
    """M and N around 128, K around the tiles' 8, around three of them, blocks of 512 and chunks of 4096."""
    rng = np.random.default_rng(6)
    cases = [(m, n, 19) for m in (129, 255, 256, 258) for n in (130, 256, 257)]
    cases += [(65, 386, 19), (127, 512, 21), (385, 66, 19), (512, 128, 16)]
    cases += [(129, 262, k) for k in (1, 3, 4, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 40)]
    cases += [(131, 256, k) for k in (504, 511, 512, 513, 519, 520, 521, 528, 529, 1023, 1024, 1025, 1041)]
    cases += [(256, 129, k) for k in (4095, 4096, 4097, 4104, 4110)]
    for m, n, k in cases:
        a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
        times = -(-ts.cuda.get_device_properties()["multiprocessors"] // (-(-m // 128) * -(-n // 128)))
        x, w = (ts.broadcast_to(v, (times, *v.shape)) for v in (in_fours(a, left), in_fours(b, right)))
        y = ts.matmul(x, w).cpu().numpy()  # as many as it takes for these tiles to be chosen
        plain = ts.matmul(laid_out(a, "float32", "odd"), in_fours(b, right)).cpu().numpy()
        np.testing.assert_array_equal(y, np.broadcast_to(plain, y.shape), err_msg=f"{m} {n} {k}")
        np.testing.assert_allclose(plain, a @ b, rtol=1e-4, atol=1e-3, err_msg=f"{m} {n} {k}")


@pytest.mark.parametrize("right", ["rows", "columns"])
@pytest.mark.parametrize("left", ["rows", "columns"])
def test_large_float32_products_in_batches(left: str, right: str) -> None:
    """Each batch from its own place; one operand for all of them."""
    rng = np.random.default_rng(8)
    a, b = integers(rng, 3, 140, 36), integers(rng, 3, 36, 132)

    def laid(x: np.ndarray, layout: str) -> Any:
        return ts.array(x) if layout == "rows" else ts.contiguous(ts.array(x).mT).mT

    y = ts.matmul(laid(a, left), laid(b, right)).cpu().numpy()
    np.testing.assert_array_equal(y, a @ b)
    y = ts.matmul(laid(a, left), laid(b, right)[1]).cpu().numpy()
    np.testing.assert_array_equal(y, a @ b[1])


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-3, 4, shape).astype(np.float32)


def test_gradients_of_a_16_bit_layer() -> None:
    """All three products of training in bfloat16."""
    rng = np.random.default_rng(1)
    x, w = rng.integers(-2, 3, (6, 16)).astype(np.float32), rng.integers(-2, 3, (8, 16)).astype(np.float32)
    a, b = (ts.array(v, dtype="bfloat16").requires_grad_() for v in (x, w))
    ts.nn.functional.linear(a, b).astype("float32").sum().backward()
    np.testing.assert_array_equal(a.grad.astype("float32").cpu().numpy(), np.ones((6, 8)) @ w)
    np.testing.assert_array_equal(b.grad.astype("float32").cpu().numpy(), np.ones((6, 8)).T @ x)


def test_products_of_bfloat16_in_any_mixture() -> None:
    """What autocast asks for: float32 operands are rounded to bfloat16, results are float32 or bfloat16."""
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((20, 40)).astype(np.float32), rng.standard_normal((40, 24)).astype(np.float32)
    core = ts._core.ops
    low = [ts.array(v, dtype="bfloat16") for v in (a, b)]
    rounded = [x.astype("float32").cpu().numpy().astype(np.float64) for x in low]
    expected, bound = rounded[0] @ rounded[1], np.abs(rounded[0]) @ np.abs(rounded[1])
    for x in (ts.array(a), low[0]):
        for y in (ts.array(b), low[1], ts.contiguous(low[1].T).T):
            z = core.matmul_bf16(x, y, ts.float32)
            assert z.dtype == ts.float32
            assert (np.abs(z.cpu().numpy() - expected) <= 2.0**-20 * bound).all()
            np.testing.assert_array_equal(
                core.matmul_bf16(x, y).astype("float32").cpu().numpy(),
                z.astype("bfloat16").astype("float32").cpu().numpy(),
            )


def test_float32_in_bfloat16() -> None:
    """The mode rounds the operands alone: sums and results are float32's."""
    rng = np.random.default_rng(11)
    x, y = (ts.array(rng.standard_normal(s).astype(np.float32)) for s in ((70, 90), (90, 40)))
    rounded = x.astype("bfloat16").astype("float32"), y.astype("bfloat16").astype("float32")
    expected = ts.matmul(*rounded).cpu().numpy()
    ts.cuda.set_matmul_precision("bfloat16")
    z = ts.matmul(x, y)
    assert str(z.dtype) == "float32"
    np.testing.assert_allclose(z.cpu().numpy(), expected, rtol=1e-5, atol=1e-5)
