"""Matrix products of every path: against float64, and the same bits for a row alone and in company, a matrix alone and
in a batch, and for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tensorsmith as ts

LAYOUTS = ("NN", "NT", "TN", "TT")
# M N K: vectors, tiny, few rows, ends of tiles, blocks of K (1,024 in float32, 512 in float64) and their seams,
# packed operands, fetching ahead, A' in place by steps of k.
SHAPES = (
    (1, 1, 1), (1, 1, 1500), (3, 2, 5), (4, 4, 4), (1, 33, 700), (33, 1, 700), (2, 130, 67), (5, 96, 1025),
    (8, 200, 512), (9, 47, 31), (15, 17, 1024), (31, 49, 2049), (57, 65, 64), (64, 64, 64), (130, 300, 1100),
    (70, 1100, 900), (80, 3, 130), (300, 11, 520), (40, 600, 3000), (130, 96, 700), (400, 40, 500),
)  # fmt: skip


def operands(
    layout: str, m: int, n: int, k: int, dtype: str = "float32"
) -> tuple[np.ndarray, np.ndarray, ts.Tensor, ts.Tensor]:
    """a (M, K) and b (K, N) as NumPy has them, and as tensors with rows further apart than they are long and not at
    the beginning of a cache line; T is a transposed view."""
    rng = np.random.default_rng(m * 1000003 + n * 1009 + k)
    arrays, tensors = [], []
    for letter, shape in zip(layout, ((m, k), (k, n)), strict=True):
        rows, columns = shape if letter == "N" else shape[::-1]
        whole = rng.uniform(-1, 1, (rows + 1, columns + 5)).astype(dtype)
        view, tensor = whole[1:, 3 : columns + 3], ts.asarray(whole)[1:, 3 : columns + 3]
        arrays.append(view if letter == "N" else view.T)
        tensors.append(tensor if letter == "N" else tensor.T)
    return arrays[0], arrays[1], tensors[0], tensors[1]


def same_bits(a: ts.Tensor, b: ts.Tensor, what: str) -> None:
    assert a.shape == b.shape, what
    assert a.numpy().tobytes() == b.numpy().tobytes(), what


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = ts.get_num_threads()
    ts.set_num_threads(1)
    yield
    ts.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape: tuple[int, int, int], layout: str, dtype: str) -> None:
    m, n, k = shape
    x, w, a, b = operands(layout, m, n, k, dtype)
    reference = x.astype(np.longdouble) @ w.astype(np.longdouble)
    allowed = 2 * np.sqrt(k) * np.finfo(dtype).eps * (abs(x) @ abs(w))
    assert (abs((a @ b).numpy() - reference) <= allowed).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_alone(shape: tuple[int, int, int], layout: str, dtype: str) -> None:
    m, n, k = shape
    _, _, a, b = operands(layout, m, n, k, dtype)
    bias = ts.asarray(np.random.default_rng(2).uniform(-1, 1, n).astype(dtype))
    c, y = a @ b, ts.linear_relu(a, b.T, bias)
    for i in sorted({0, m // 2, m - 1}):
        for count in (1, 2, 3, 5, 8, 13):
            if i + count <= m:
                rows = slice(i, i + count)
                same_bits(a[rows] @ b, c[rows], f"rows {i} to {i + count} of {m}")
                same_bits(
                    ts.linear_relu(a[rows], b.T, bias), y[rows], f"linear_relu, rows {i} to {i + count}"
                )
    for j in sorted({0, n // 2, n - 1}):
        for count in (1, 7, 16):
            if j + count <= n:
                same_bits(a @ b[:, j : j + count], c[:, j : j + count], f"columns {j} to {j + count} of {n}")


# K: registers, stripes, leaves (2,048 in float32, 1,024 in float64), chunks and their seams.
DEPTHS = (1, 3, 4, 8, 15, 16, 17, 63, 64, 65, 100, 513, 1023, 1024, 1025, 2047, 2048, 2049, 5000)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", DEPTHS)
def test_products_with_vectors(k: int, dtype: str) -> None:
    """One order for every layout, alone and in a batch: that of the sum of K numbers."""
    for rows in (1, 2, 3, 4, 5, 9, 64, 70):
        x, w, a, b = operands("NN", rows, 1, k, dtype)
        v = b[:, 0]  # not contiguous
        y = a @ v
        allowed = 2 * np.sqrt(k) * np.finfo(dtype).eps * (abs(x) @ abs(w))[:, 0]
        assert (abs(y.numpy() - (x.astype(np.longdouble) @ w.astype(np.longdouble))[:, 0]) <= allowed).all()
        across = ts.asarray(np.asfortranarray(x))
        strided = ts.asarray(np.repeat(np.repeat(x, 2, 1), 2, 0))[::2, ::2]
        dense = ts.asarray(w[:, 0].copy())
        for name, other in {
            "by columns": across @ v, "contiguous": ts.asarray(x.copy()) @ dense, "strided": strided @ v,
            "vector first": dense @ a.T, "vector first, by columns": v @ across.T,
            "vecdot": ts.vecdot(a, v), "einsum": ts.einsum("ij,j->i", a, v),
            "batch": (ts.stack([a, a]) @ v)[1], "batch of the right": (v @ ts.stack([a.T, a.T]))[1],
        }.items():  # fmt: skip
            same_bits(other, y, f"{rows} rows, {name}")
        for i in sorted({0, rows // 2, rows - 1}):
            same_bits(a[i] @ v, y[i], f"row {i} of {rows}")
            same_bits(ts.vdot(v, a[i]), y[i], f"row {i} of {rows}, vdot")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_and_vectors(dtype: str) -> None:
    for m, k in ((1, 600_001), (3, 300_000), (700, 700), (40, 20_000), (20_000, 40)):
        a = ts.asarray(np.random.default_rng(m).uniform(-1, 1, (m, k)).astype(dtype))
        v = ts.asarray(np.random.default_rng(k).uniform(-1, 1, k).astype(dtype))
        ts.set_num_threads(1)
        y = a @ v
        across = ts.asarray(np.asfortranarray(a.numpy()))
        for threads in (1, 2, 3):
            ts.set_num_threads(threads)
            same_bits(a @ v, y, f"{m}x{k} on {threads} threads")
            same_bits(across @ v, y, f"{m}x{k} by columns on {threads} threads")
            same_bits(a[0] @ v, y[0], f"{k} on {threads} threads")


def test_vectors_with_special_values() -> None:
    rng = np.random.default_rng(5)
    for k in (1, 5, 16, 70, 3000):
        x, v = rng.uniform(-1, 1, (6, k)).astype("float32"), rng.uniform(-1, 1, k).astype("float32")
        clean = (ts.asarray(x) @ ts.asarray(v)).numpy()
        x[1, -1], x[3, 0], x[4, k // 2] = np.nan, np.inf, -np.inf
        for m in (ts.asarray(x), ts.asarray(np.asfortranarray(x))):
            y = (m @ ts.asarray(v)).numpy()
            assert np.isnan(y[1]) and np.isinf(y[3]) and np.isinf(y[4])
            assert y[[0, 2, 5]].tobytes() == clean[[0, 2, 5]].tobytes()
    # Products too small for the dtype leave no -0, on any way through the tree.
    for k in (1, 8, 16, 17, 40):
        tiny = np.full((5, k), -1e-30, "float32")
        for m in (ts.asarray(tiny), ts.asarray(np.asfortranarray(tiny))):
            y = m @ ts.full((k,), 1e-30)
            assert y.numpy().tobytes() == bytes(20)
    assert (ts.zeros((3, 0)) @ ts.zeros((0,))).numpy().tolist() == [0, 0, 0]
    assert (ts.zeros((0,)) @ ts.zeros((0,))).item() == 0
    assert (ts.zeros((0, 3)) @ ts.zeros((3,))).shape == (0,)
    assert (ts.zeros((3,)) @ ts.zeros((2, 3, 0))).shape == (2, 0)


def test_vectors_of_other_dtypes() -> None:
    x = np.arange(-6, 6).reshape(3, 4)
    for dtype in ("int8", "int32", "uint16", "int64", "complex64", "complex128"):
        m = x.astype(dtype)
        a, v = ts.asarray(m), ts.asarray(m[1])
        assert (a @ v).numpy().tolist() == (m @ m[1]).tolist() and (a @ v).dtype == dtype
        assert ts.vecdot(a, v).numpy().tolist() == np.vecdot(m, m[1]).tolist()
        assert ts.einsum("ij,ij->", a, a).numpy().tolist() == np.einsum("ij,ij->", m, m).tolist()
    a = ts.asarray(x.astype("float16"))
    assert (a @ a[0]).dtype == "float16" and (a @ a[0]).numpy().tolist() == (x @ x[0]).tolist()
    a = ts.asarray(x > 0)
    assert (a @ a[2]).numpy().tolist() == ((x > 0) @ (x > 0)[2]).tolist()
    with pytest.raises(ValueError, match="matmul"):
        ts.zeros((3, 4)) @ ts.zeros((3,))
    with pytest.raises(ValueError, match="matmul"):
        ts.zeros((3,)) @ ts.zeros((4, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_agree(layout: str) -> None:
    for m, n, k in SHAPES:
        x, w, a, b = operands(layout, m, n, k)
        dense = ts.asarray(np.ascontiguousarray(x)) @ ts.asarray(np.ascontiguousarray(w))
        same_bits(a @ b, dense, f"{m}x{n}x{k}")
        same_bits((b.T @ a.T).T, dense, f"{m}x{n}x{k}, by columns")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads(layout: str) -> None:
    for m, n, k in ((1, 1500, 1500), (7, 3000, 600), (3000, 7, 600), (260, 520, 1100), (64, 64, 4096)):
        _, _, a, b = operands(layout, m, n, k)
        ts.set_num_threads(1)
        alone = a @ b
        for threads in (2, 3):
            ts.set_num_threads(threads)
            same_bits(a @ b, alone, f"{m}x{n}x{k} on {threads} threads")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 4, 4), (1, 70, 40), (9, 17, 33), (40, 50, 60)], ids=str)
def test_batches(shape: tuple[int, int, int], layout: str) -> None:
    m, n, k = shape
    rng = np.random.default_rng(3)

    def stack(letter: str, leading: tuple[int, ...], rows: int, columns: int) -> ts.Tensor:
        if letter == "N":
            return ts.asarray(rng.uniform(-1, 1, (*leading, rows, columns)).astype("float32"))
        return ts.matrix_transpose(
            ts.asarray(rng.uniform(-1, 1, (*leading, columns, rows)).astype("float32"))
        )

    for of_a, of_b in (
        ((5,), (5,)),
        ((5,), ()),
        ((), (5,)),
        ((3, 1), (1, 2)),
        ((2, 3), (3,)),
        ((4, 1), (4, 2)),
    ):
        a, b = stack(layout[0], of_a, m, k), stack(layout[1], of_b, k, n)
        c = a @ b
        leading = np.broadcast_shapes(of_a, of_b)
        assert c.shape == (*leading, m, n)
        wide_a, wide_b = ts.broadcast_to(a, (*leading, m, k)), ts.broadcast_to(b, (*leading, k, n))
        for at in np.ndindex(leading):
            same_bits(wide_a[at] @ wide_b[at], c[at], f"matrix {at} of {of_a} times {of_b}")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("shape", [(7, 64, 96, 200), (40, 33, 130, 257), (3, 300, 70, 90)], ids=str)
def test_matrices_that_share_b_and_cannot_be_joined(shape: tuple[int, int, int, int]) -> None:
    """Axes of the batch swapped: a thread packs B once for all matrices, and another B anew."""
    batch, m, n, k = shape
    rng = np.random.default_rng(n)
    a, bias, *weights = (
        ts.asarray(rng.uniform(-1, 1, s).astype("float32"))
        for s in ((m, batch, k), n, (n, k), (n, k), (n, k))
    )
    swapped = a.permute_dims((1, 0, 2))
    for threads in (1, 2):
        ts.set_num_threads(threads)
        for w in weights:
            c = ts.nn.functional.linear(swapped, w, bias)
            for i in range(batch):
                same_bits(ts.nn.functional.linear(swapped[i], w, bias), c[i], f"matrix {i} of {shape}")


def test_no_inner_axis_and_nothing_at_all() -> None:
    assert (ts.zeros((3, 0)) @ ts.zeros((0, 4))).numpy().tolist() == [[0.0] * 4] * 3
    assert (ts.zeros((0, 3)) @ ts.zeros((3, 4))).shape == (0, 4)
    assert (ts.zeros((2, 0, 3)) @ ts.zeros((3, 4))).shape == (2, 0, 4)


@pytest.mark.parametrize("shape", [(5, 40, 2500), (17, 70, 2500), (64, 200, 3000)])
def test_bias_comes_after_every_block(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(k)
    x, w, bias = (ts.asarray(rng.uniform(-1, 1, s).astype("float32")) for s in ((m, k), (n, k), (n,)))
    same_bits(ts.nn.functional.linear(x, w, bias), x @ w.T + bias, f"linear {shape}")


def test_special_values_stay_in_their_row() -> None:
    _, _, a, b = operands("NN", 20, 40, 90)
    clean = (a @ b).numpy()
    values = a.numpy().copy()
    values[7, 11], values[13, 5] = np.nan, np.inf
    c = (ts.asarray(values) @ b).numpy()
    others = [i for i in range(20) if i not in (7, 13)]
    assert np.isnan(c[7]).all() and np.isinf(c[13]).all()
    assert c[others].tobytes() == clean[others].tobytes()


def test_a_vector_of_one_element_of_another() -> None:
    """A view of one element is contiguous whatever its stride: its offset counts."""
    x = ts.asarray(np.arange(10.0))
    m = ts.asarray(np.arange(4.0)[:, None])
    for v in (x[7:8], x[7::5], x[7:2:-9]):
        assert (m @ v).numpy().tolist() == [0, 7, 14, 21] and (v @ m.T).numpy().tolist() == [0, 7, 14, 21]
        assert (v @ x[3:4]).item() == 21


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_b_packed_at_once(layout: str) -> None:
    """768 rows and 3 MiB of B, two blocks of K, an odd end: what single rows and a batch of few of them take."""
    m, n, k = 770, 810, 1031
    x, w, a, b = operands(layout, m, n, k)
    c = a @ b
    reference = x.astype(np.float64) @ w.astype(np.float64)
    assert (abs(c.numpy() - reference) <= 2 * np.sqrt(k) * np.finfo("float32").eps * (abs(x) @ abs(w))).all()
    for i in (0, 383, 765):
        same_bits(a[i : i + 5] @ b, c[i : i + 5], f"rows {i} to {i + 5}")


def test_out_is_written_without_a_copy() -> None:
    _, _, a, b = operands("NT", 130, 70, 300)
    expected = a @ b
    for out in (ts.zeros((130, 70)), ts.zeros((70, 130)).T, ts.zeros((130, 140))[:, ::2]):
        before = ts.config()["allocator"]["allocations"]
        assert ts.matmul(a, b, out=out) is out
        assert ts.config()["allocator"]["allocations"] == before
        same_bits(out, expected, "out")
    batch, outs = ts.stack([a, a]), ts.zeros((2, 130, 70))
    same_bits(ts.matmul(batch, b, out=outs)[1], expected, "batch")


def test_out_that_is_an_operand_or_does_not_fit() -> None:
    _, _, a, b = operands("NN", 64, 64, 64)
    expected, square = a @ b, ts.copy(a)
    same_bits(ts.matmul(square, b, out=square), expected, "out is an operand")
    held = ts.asarray(np.broadcast_to(np.zeros(64, np.float32), (64, 64)))
    for out, error in (
        (ts.zeros((3, 3)), ValueError),
        (ts.zeros((64, 64), dtype="int32"), TypeError),
        (held, ValueError),
    ):
        kept = out.numpy().copy()
        with pytest.raises(error, match=r"^matmul: "):
            ts.matmul(a, b, out=out)
        assert (out.numpy() == kept).all()
    with pytest.raises(RuntimeError, match="records no gradient"):
        ts.matmul(ts.copy(a).requires_grad_(), b, out=ts.zeros((64, 64)))
