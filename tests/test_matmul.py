"""Matrix products of every path: against float64, and the same bits for a row alone and in company, a matrix alone and
in a batch, and for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tensorsmith as ts

LAYOUTS = ("NN", "NT", "TN", "TT")
# M N K: vectors, tiny, few rows, ends of tiles, blocks of K (1,024 in float32, 512 in float64) and their seams,
# packed operands, fetching ahead.
SHAPES = (
    (1, 1, 1), (1, 1, 1500), (3, 2, 5), (4, 4, 4), (1, 33, 700), (33, 1, 700), (2, 130, 67), (5, 96, 1025),
    (8, 200, 512), (9, 47, 31), (15, 17, 1024), (31, 49, 2049), (57, 65, 64), (64, 64, 64), (130, 300, 1100),
    (70, 1100, 900), (80, 3, 130), (300, 11, 520),
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
        same_bits(a[i] @ b, c[i], f"the vector {i} of {m}")
        for count in (1, 2, 3, 5, 8, 13):
            if i + count <= m:
                rows = slice(i, i + count)
                same_bits(a[rows] @ b, c[rows], f"rows {i} to {i + count} of {m}")
                same_bits(
                    ts.linear_relu(a[rows], b.T, bias), y[rows], f"linear_relu, rows {i} to {i + count}"
                )
    for j in sorted({0, n // 2, n - 1}):
        same_bits(a @ b[:, j], c[:, j], f"the column {j} of {n}")
        for count in (1, 7, 16):
            if j + count <= n:
                same_bits(a @ b[:, j : j + count], c[:, j : j + count], f"columns {j} to {j + count} of {n}")


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


def test_no_inner_axis_and_nothing_at_all() -> None:
    assert (ts.zeros((3, 0)) @ ts.zeros((0, 4))).numpy().tolist() == [[0.0] * 4] * 3
    assert (ts.zeros((0, 3)) @ ts.zeros((3, 4))).shape == (0, 4)
    assert (ts.zeros((2, 0, 3)) @ ts.zeros((3, 4))).shape == (2, 0, 4)


def test_special_values_stay_in_their_row() -> None:
    _, _, a, b = operands("NN", 20, 40, 90)
    clean = (a @ b).numpy()
    values = a.numpy().copy()
    values[7, 11], values[13, 5] = np.nan, np.inf
    c = (ts.asarray(values) @ b).numpy()
    others = [i for i in range(20) if i not in (7, 13)]
    assert np.isnan(c[7]).all() and np.isinf(c[13]).all()
    assert c[others].tobytes() == clean[others].tobytes()
