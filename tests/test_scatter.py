"""Operations by index (scatter, index_add, take, embedding): errors before effects, equal indices, overlap of source
and destination, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts


def matrix() -> Any:
    return ts.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: ts.embedding([0, 5], ts.ones((5, 3))),
            IndexError,
            "embedding: index 5 .* weight .* 0 to 4",
        ),
        (lambda x: ts.embedding([-1], ts.ones((5, 3))), IndexError, "embedding: index -1 .* 0 to 4"),
        (lambda x: ts.embedding([0.5], ts.ones((5, 3))), TypeError, "integers, got float32"),
        (lambda x: ts.embedding([0], ts.ones((5, 3)), 5), ValueError, "padding_idx must be in 0 to 4"),
        (lambda x: ts.embedding([0], ts.ones((0, 3))), IndexError, "size 0: no index is valid"),
        (lambda x: ts.gather(x, 1, [[4]]), IndexError, "gather: index 4 .* size 4"),
        (lambda x: ts.gather(x, 2, [[0]]), IndexError, "axis 2"),
        (lambda x: ts.gather(x, 0, [0]), ValueError, "as many dimensions"),
        (lambda x: ts.gather(x, 0, [[0] * 5]), ValueError, "size 5 in dimension 1"),
        (lambda x: x.scatter_(0, [[3, 0, 0, 0]], 1.0), IndexError, "scatter_: index 3 .* 0 to 2"),
        (lambda x: x.scatter_(0, [[-1]], 1.0), IndexError, "scatter_: index -1"),
        (lambda x: x.scatter_(0, [[0, 0]], ts.ones((1, 1))), ValueError, "of src"),
        (lambda x: x.scatter_add_(1, [[0]], ts.ones((1, 1), dtype=ts.float64)), TypeError, "float64"),
        (lambda x: x.index_select(0, [-1]), IndexError, "index_select: index -1 .* 0 to 2"),
        (lambda x: x.index_add_(0, [0, 3], ts.ones((2, 4))), IndexError, "index_add_: index 3"),
        (lambda x: x.index_add_(0, [0, 1], ts.ones((2, 3))), ValueError, r"shape \(2, 4\), got \(2, 3\)"),
        (lambda x: ts.take(x, [12]), IndexError, "take: index 12 .* -12 to 11"),
        (lambda x: ts.take(x, [-4], axis=0), IndexError, "take: index -4 .* -3 to 2"),
        (lambda x: ts.one_hot([0, 3], 3), IndexError, "one_hot: index 3 .* num_classes is 3"),
        (lambda x: ts.masked_select(x, x), TypeError, "mask must be bool"),
    ],
)
def test_errors_come_before_effects(call: Any, error: type[Exception], message: str) -> None:
    x = matrix()
    with pytest.raises(error, match=message):
        call(x)
    np.testing.assert_array_equal(x.numpy(), np.arange(12.0, dtype=np.float32).reshape(3, 4))


def test_a_destination_that_overlaps_itself() -> None:
    x = ts.broadcast_to(ts.ones((1,)), (3,))
    for call in (
        lambda: x.scatter_(0, [0], 1.0),
        lambda: x.index_add_(0, [0], ts.ones((1,))),
        lambda: x.index_copy_(0, [0], ts.ones((1,))),
    ):
        with pytest.raises(RuntimeError, match="overlaps itself"):
            call()


def test_source_and_destination_may_share_memory() -> None:
    x = ts.arange(8.0)
    x.scatter_(0, ts.asarray([0, 1, 2, 3]), x[4:])
    assert x.tolist() == [4, 5, 6, 7, 4, 5, 6, 7]
    x = ts.arange(8.0)
    x[1:].index_add_(0, [0, 1, 2], x[:3])
    assert x.tolist() == [0, 1, 3, 5, 4, 5, 6, 7]
    i = ts.arange(4)
    i.scatter_(0, i, 3)
    assert i.tolist() == [3, 3, 3, 3]


def test_equal_indices() -> None:
    """The last one wins; sums are taken in ascending order."""
    assert ts.index_copy(ts.zeros((2,)), 0, [1, 1, 1], [1.0, 2.0, 3.0]).tolist() == [0, 3]
    assert ts.scatter(ts.zeros((2,)), 0, [1, 1], [1.0, 2.0]).tolist() == [0, 2]
    terms = np.array([1.0, 2.0**24, -(2.0**24), 1.0], np.float32)
    assert ts.index_add(ts.zeros((1,)), 0, [0] * 4, terms).tolist() == [1]
    assert ts.index_add(ts.zeros((1,)), 0, [0] * 4, terms[::-1].copy()).tolist() == [2]
    flags = ts.index_add(ts.zeros((2,), dtype=ts.bool_), 0, [0, 0], ts.ones((2,), dtype=ts.bool_))
    assert flags.tolist() == [True, False]


def test_gradient_of_equal_destinations() -> None:
    """What was overwritten has no gradient."""
    for op in (ts.scatter, ts.index_copy):
        source = ts.asarray([1.0, 2.0, 3.0]).requires_grad_()
        y = op(ts.zeros((3,)), 0, [0, 1, 0], source)
        (y * y).sum().backward()
        assert source.grad.tolist() == [0, 4, 6]


@pytest.mark.parametrize("shape", [(1000, 256), (5000, 64), (40_000, 1), (30, 40, 50)])
def test_threads_do_not_matter(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(0, shape[0], 20_000)
    source = rng.standard_normal((20_000, *shape[1:]), np.float32)
    expected = np.zeros(shape, np.float32)
    for i, row in zip(index, source, strict=True):
        expected[i] += row
    threads = ts.get_num_threads()
    try:
        for count in (1, 2, 3):
            ts.set_num_threads(count)
            np.testing.assert_array_equal(ts.index_add(ts.zeros(shape), 0, index, source).numpy(), expected)
    finally:
        ts.set_num_threads(threads)


@pytest.mark.parametrize("rows", [1, 300, 20_000])
def test_sources_counted_in_pieces(rows: int) -> None:
    rng = np.random.default_rng(1)
    index = rng.integers(0, rows, 140_001)
    source = rng.standard_normal((140_001, 17), np.float32)
    threads = ts.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            ts.set_num_threads(count)
            results.append(ts.index_add(ts.zeros((rows, 17)), 0, index, source).numpy())
        expected = np.zeros((rows, 17), np.float32)
        np.add.at(expected, index, source)
        np.testing.assert_array_equal(results[1], expected)
        np.testing.assert_array_equal(results[0], expected)
    finally:
        ts.set_num_threads(threads)


@pytest.mark.parametrize("rows", [1, 3, 701, 9000])
@pytest.mark.parametrize("how", ["random", "skewed", "strided"])
def test_sources_found_by_range(rows: int, how: str) -> None:
    """Few sources: each piece counts those of its own destinations."""
    rng = np.random.default_rng(2)
    index = (
        rng.integers(0, rows, 2 * 5003)
        if how != "skewed"
        else np.minimum(rng.geometric(0.3, 2 * 5003), rows) - 1
    )
    index = index[::2] if how == "strided" else index[:5003]
    source = rng.standard_normal((5003, 33), np.float32)
    expected = np.zeros((rows, 33), np.float32)
    np.add.at(expected, index, source)
    threads = ts.get_num_threads()
    try:
        for count in (1, 2, 5):
            ts.set_num_threads(count)
            given = ts.index_add(ts.zeros((rows, 33)), 0, ts.asarray(index), source)
            np.testing.assert_array_equal(given.numpy(), expected)
    finally:
        ts.set_num_threads(threads)


def test_embedding_padding() -> None:
    weight = ts.ones((4, 2)).requires_grad_()
    ts.embedding([[0, 2], [2, 2]], weight, padding_idx=0).sum().backward()
    assert weight.grad.tolist() == [[0, 0], [0, 0], [3, 3], [0, 0]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("width", [1, 7, 33, 64, 300])
def test_one_index_for_a_row(width: int, dtype: str) -> None:
    """An index that is the same across a row, repeated by a stride of 0 or in memory: the same bits."""
    rng = np.random.default_rng(width)
    x, source = (rng.integers(0, 9, (n, width)).astype(dtype) for n in (11, 700))
    if dtype == "float32":
        x, source = x / np.float32(7), source / np.float32(3)
        source[5, 0] = np.nan
    index = rng.integers(0, 11, 700)
    repeated = ts.broadcast_to(ts.asarray(index)[:, None], source.shape)
    copied = ts.asarray(np.broadcast_to(index[:, None], source.shape).copy())
    a, s = ts.asarray(x), ts.asarray(source)
    operations: list[Any] = [
        lambda i: ts.scatter(a, 0, i, s),
        lambda i: ts.gather(a, 0, i),
        lambda i: ts.scatter_reduce(a, 0, i, s, "amax"),
        lambda i: ts.scatter_reduce(a, 0, i, s, "amin"),
        lambda i: ts.scatter_reduce(a, 0, i, s, "prod"),
        lambda i: ts.scatter_add(a, 0, i, s),
        lambda i: ts.scatter_add(a, 0, i, s[::-1]),
        lambda i: ts.scatter_add(ts.asarray(np.asfortranarray(x)), 0, i, s),
    ]
    for operation in operations:
        assert operation(repeated).numpy().tobytes() == operation(copied).numpy().tobytes()
    if dtype != "bool":
        expected = x.copy()
        np.maximum.at(expected, index, source)
        np.testing.assert_array_equal(ts.scatter_reduce(a, 0, repeated, s, "amax").numpy(), expected)
    with pytest.raises(IndexError, match=r"index 11 .* size 11"):
        ts.scatter_add(a, 0, ts.broadcast_to(ts.asarray([[11]]), (700, width)), s)
