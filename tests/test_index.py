"""Indexing: errors before effects, equal indices, overlap of source and destination, threads."""

from __future__ import annotations

import gc
import itertools
import operator
import sys
import weakref
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


def _views(x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Layouts whose axes join, do not join, and run backwards."""
    wide = np.repeat(np.repeat(x, 2, 0), 3, 2)
    return [
        x,
        np.asfortranarray(x),
        x[::-1],
        x[:, ::-1, ::-1],
        wide[::2, :, ::3],
        x.transpose(1, 2, 0).copy().transpose(2, 0, 1),
    ]


I, J, K = np.array([2, 0, -1, 2]), np.array([[1], [-2]]), np.array([0, 3, 3, 1])
KEYS = [
    (I,), (slice(None), J), (Ellipsis, K), (I, K % 4), (I, slice(None), K), (slice(1), J, K), (J, I), (J, I, K), (0, I),
    (I, 1), (slice(None), 1, K), (None, I, None, K), (Ellipsis, 1, I[:1], None), (1, slice(None), K), (np.int64(1), J),
    (True, I), (I[:1], False), ([],), ([[0, 1], [1, 0]],), (np.zeros((0, 2), int), slice(1, None)),
]  # fmt: skip


@pytest.mark.parametrize("layout", range(6))
@pytest.mark.parametrize("key", KEYS, ids=[str(i) for i in range(len(KEYS))])
def test_array_keys_on_every_layout(key: Any, layout: int) -> None:
    base = np.arange(60.0).reshape(3, 5, 4)
    rng = np.random.default_rng(0)
    masks = (base % 7 > 2, base[:, :, 0] % 3 > 0, base[0] % 5 > 1)
    for k in (
        key,
        masks[0],
        masks[1],
        (slice(None), masks[2]),
        (masks[1], slice(1, 3)),
        (masks[1], 2),
        (1, masks[2]),
    ):
        x = _views(base)[layout]

        t = ts.asarray(x)
        expected = x[k]
        got = t[k]
        assert got.shape == expected.shape
        np.testing.assert_array_equal(got.numpy(), expected)
        for value in (rng.normal(size=expected.shape), -1.5, rng.normal(size=expected.shape[-1:])):
            mine, theirs = x.copy(order="K"), x.copy(order="K")
            ts.asarray(mine)[k] = value
            theirs[k] = value
            np.testing.assert_array_equal(mine, theirs)


def test_array_keys_and_shared_memory() -> None:
    x = ts.arange(6)
    x[x] = x  # the key and the value are the target
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    x[ts.flip(x)] = x
    assert x.tolist() == [5, 4, 3, 2, 1, 0]
    m = ts.asarray([True, False, True])
    m[m] = False
    assert m.tolist() == [False] * 3
    y = ts.arange(4.0)
    y[y > 0] = y[3]
    assert y.tolist() == [0, 3, 3, 3]


def test_a_key_that_changes_later() -> None:
    """A recording keeps the key as it was."""
    for key in (np.array([0, 2]), ts.asarray([0, 2]), [0, 2], np.array([True, False, True])):
        x = ts.arange(3.0).requires_grad_()
        y = x[key]
        key[:] = key[::-1] if isinstance(key, list) else 0 * key
        y.sum().backward()
        assert x.grad.tolist() == [1, 0, 1]


def test_gradient_of_array_keys() -> None:
    x = ts.arange(12.0).reshape(3, 4).requires_grad_()
    y = x * 1
    v = ts.arange(4.0).requires_grad_()
    y[[0, 2, 0, 0], [1, 1, 1, 3]] = v  # (0, 1) twice: the later stays
    (y * ts.arange(12.0).reshape(3, 4)).sum().backward()
    assert v.grad.tolist() == [0, 9, 1, 3]
    expected = np.arange(12.0).reshape(3, 4)
    expected[[0, 2, 0], [1, 1, 3]] = 0
    assert x.grad.tolist() == expected.tolist()
    z = ts.tensor(np.arange(3) + 1j).requires_grad_()
    (z[[1, 1, 2]] * ts.asarray([1, 1j, 2])).real.sum().backward()
    np.testing.assert_array_equal(z.grad.numpy(), [0, 1 - 1j, 2])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (np.array([3]), "index 3 .* axis 0 of x has size 3"),
        ((slice(None), np.array([-6])), "index -6 .* axis 1 of x has size 5"),
        (np.array([0.5]), "integers or booleans, got float64"),
        (np.ones((3, 4), bool), "a mask of shape"),
        ((I, K, I, I), "4 indices for 3 dimensions"),
        ((I, K[:3]), "do not broadcast"),
        ((Ellipsis, I, Ellipsis), "only one Ellipsis"),
        ((7, I), "index 7 is out of range for axis 0"),
    ],
)
def test_array_keys_that_do_not_fit(key: Any, message: str) -> None:
    x = ts.zeros((3, 5, 4))
    with pytest.raises(IndexError, match=message):
        x[key]
    with pytest.raises(IndexError, match=message):
        x[key] = 1
    assert not x.any()


# --- basic keys, which are read straight into the view ----------------------------------------------------

ITEMS = (
    0,
    -1,
    2,
    3,
    slice(None),
    slice(1, None),
    slice(-1, None, -2),
    slice(5, 1),
    slice(None, 10**30),
    None,
    ...,
)


def test_basic_keys_are_numpys() -> None:
    whole = np.arange(3 * 4 * 3).reshape(3, 4, 3)
    for x in (
        whole,
        whole.transpose(2, 0, 1)[:, ::-1],
        whole[1],
        whole[1, ::2],
        np.array(5),
        np.zeros((0, 3)),
    ):
        t = ts.asarray(x)
        for count in (0, 1, 2, 3, 4):
            for key in (
                itertools.product(ITEMS, repeat=count)
                if count < 4
                else [(0, 1, 2, 0), (None,) * 4, (..., ...)]
            ):
                for k in (key, key[0]) if count == 1 else (key,):
                    try:
                        expected = x[k]
                    except IndexError:
                        with pytest.raises(IndexError, match="getitem"):
                            t[k]
                        continue
                    y = t[k]
                    assert y.shape == expected.shape and (y.numpy() == expected).all(), (x.shape, k)
                    assert expected.base is None or y.size == 0 or y.strides == expected.strides, (x.shape, k)


def test_basic_keys_that_are_left_to_the_general_way() -> None:
    x = np.arange(12).reshape(3, 4)
    t = ts.asarray(x)

    class Two:
        def __index__(self) -> int:
            return 2

    for key in (
        np.int64(1),
        Two(),
        (Two(), slice(np.int64(1), Two())),
        (np.int8(-1), None),
        True,
        (0, False),
    ):
        assert t[key].numpy().tolist() == x[key].tolist(), key  # type: ignore[index]
    for key, message in (
        (10**30, "index"),
        (3, "axis 0 of extent 3"),
        ((0, -5), "axis 1"),
        ((0, 0, 0), "3 indices"),
    ):
        with pytest.raises(IndexError, match=message):
            t[key]
        with pytest.raises(IndexError, match=message):
            t[key] = 1
    with pytest.raises(ValueError, match="step"):
        t[::0]
    assert (t.numpy() == np.arange(12).reshape(3, 4)).all()
    deep = ts.zeros((1,) * 6)
    assert deep[None].ndim == 7 and deep[..., None, None].ndim == 8 and deep[None, 0, 0].shape == (1,) * 5
    assert ts.zeros((1,) * 9)[0, ..., 0].ndim == 7


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int16", "int64", "uint64", "float16", "float32", "float64", "complex64"],
)
def test_writing_one_element(dtype: str) -> None:
    for value in (True, 3, 2.5, -0.0):
        x = np.zeros((2, 3), dtype)
        t = ts.asarray(x.copy())
        view, version = t.T[::-1], t._version
        t[1, -2] = value
        x[1, -2] = value
        assert t._version == version + 1
        view[0, 0] = value
        x.T[::-1][0, 0] = value
        assert (t.numpy() == x).all(), value
    if dtype in ("uint8", "int16"):
        with pytest.raises(OverflowError, match=r"setitem.*100000"):
            t[0, 0] = 100000
    if dtype != "complex64" and dtype != "bool":
        with pytest.raises(TypeError, match="setitem: a complex number"):
            t[0, 0] = 1j
    assert (t.numpy() == x).all()


def test_one_element_that_cannot_be_written() -> None:
    fixed = np.zeros(3)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="setitem: the destination is read-only"):
        ts.from_numpy(fixed)[0] = 1
    wide = ts.broadcast_to(ts.zeros(1), (3,))
    with pytest.raises(RuntimeError, match="overlaps itself"):
        wide[0] = 1.0
    leaf = ts.zeros(3, dtype="float64").requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        leaf[0] = 1.0
    with ts.no_grad():
        leaf[0] = 1.0
    y = leaf * 2
    y[1] = 5.0
    y.sum().backward()
    assert leaf.grad.numpy().tolist() == [2, 0, 2]  # type: ignore[union-attr]
    z = leaf * leaf
    with ts.no_grad():
        leaf[2] = 7.0
    with pytest.raises(RuntimeError, match=r"changed|version|written"):
        z.sum().backward()


def test_a_recording_sees_single_elements() -> None:
    @ts.jit
    def f(x: Any) -> Any:
        y = x * 1
        y[1] = 5.0
        return y[1:] + y[0]

    for start in (0.0, 10.0, 20.0):
        assert f(ts.asarray([start, 1.0, 2.0])).numpy().tolist() == [start + 5, start + 2]


def test_tensors_come_and_go() -> None:
    """Memory of tensors is used again: no reference to a class, a storage or an old weak reference stays behind."""
    x = ts.asarray(np.arange(100.0).reshape(10, 10))

    class Named(ts.Tensor):
        pass

    def calls() -> None:
        for i in range(200):
            views = [
                x[0],
                x[i % 10, 3],
                x[1:3],
                x[..., None],
                x.T,
                x.reshape(100),
                x.reshape((5, -1)),
                x @ x[0],
            ]
            x[0, i % 10] = 1.0
            x[1:3] = 2.0
            named = Named([1.0, 2.0])
            assert type(named[0]) is ts.Tensor and type(named) is Named
            tracked = (views[0] * 1).requires_grad_()
            (tracked * 2).sum().backward()
            del views, named, tracked

    calls()
    gc.collect()
    types, owners = sys.getrefcount(ts.Tensor), sys.getrefcount(x)
    live = ts.allocator_stats()["live_bytes"]
    calls()
    gc.collect()
    assert abs(sys.getrefcount(ts.Tensor) - types) <= 64 and sys.getrefcount(x) == owners
    assert ts.allocator_stats()["live_bytes"] == live
    first = x[0]
    gone = weakref.ref(first)
    del first
    again = [x[0] for _ in range(100)]
    assert gone() is None and len({id(t) for t in again}) == 100
    assert all(not t.requires_grad and t.grad is None for t in again)


def test_reshape_takes_extents_or_a_tuple() -> None:
    x = ts.asarray(np.arange(12.0))
    for shape in ((3, 4), (-1, 2), (12,), (2, 1, 6)):
        for y in (
            x.reshape(*shape),
            x.reshape(shape),
            x.reshape(list(shape)),
            x.reshape(*map(np.int64, shape)),
        ):
            assert (y.numpy() == np.arange(12.0).reshape(shape)).all()
    assert x[:1].reshape().shape == () and x.reshape(12).shape == (12,)
    assert (x.reshape(3, 4).T.reshape(2, 6).numpy() == np.arange(12.0).reshape(3, 4).T.reshape(2, 6)).all()
    for bad in ((5, 5), (-1, -1), (-2, 3)):
        with pytest.raises(ValueError, match="reshape"):
            x.reshape(*bad)
    with pytest.raises(TypeError):
        x.reshape(1.5, 2)  # type: ignore[arg-type]
    y = x.requires_grad_().reshape(3, 4)
    y.sum().backward()
    assert x.grad.shape == (12,)  # type: ignore[union-attr]


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


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "float16"])
@pytest.mark.parametrize("k", [1, 10, 100, 700])
@pytest.mark.parametrize("kind", ["random", "ties", "ascending", "descending"])
def test_topk_of_long_rows(kind: str, k: int, dtype: str) -> None:
    """Against a stable sort: of equals the first, NaN above every number."""
    rng = np.random.default_rng(k)
    x = rng.standard_normal((3, 5003)) * 20 + 100
    if kind == "ties":
        x = np.round(x / 16)
    elif kind != "random":
        x = np.sort(x, -1)[:, :: 1 if kind == "ascending" else -1]
    x = x.astype(dtype)
    if dtype.startswith("float"):
        x[1, 4000:4020:3] = np.nan
        x[2, 100:104] = [0.0, -0.0, 0.0, -0.0]
    for largest in (True, False):
        key = x.astype(np.float64)
        key = -np.where(np.isnan(key), np.inf, key) if largest else np.where(np.isnan(key), np.inf, key)
        order = np.argsort(key, axis=-1, kind="stable")[:, :k]
        values, index = ts.topk(ts.asarray(x), k, largest=largest)
        np.testing.assert_array_equal(index.numpy(), order)
        np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order, -1))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_many_positions(dtype: str) -> None:
    """Blocks of indices that one thread checks as it takes them: what two threads give, and the same errors."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 300_001).astype(dtype)
    index = rng.integers(0, x.size, 140_003)
    below = np.where(np.arange(index.size) == 139_999, -3, index)
    threads = ts.get_num_threads()
    try:
        for count in (1, 2):
            ts.set_num_threads(count)
            for i in (index, below):
                np.testing.assert_array_equal(ts.take(ts.asarray(x), i, axis=0).numpy(), x[i])
                np.testing.assert_array_equal(ts.take(ts.asarray(x), i).numpy(), x[i])
                np.testing.assert_array_equal(ts.asarray(x)[i].numpy(), x[i])
                np.testing.assert_array_equal(ts.asarray(x)[::-2][i % 1000].numpy(), x[::-2][i % 1000])
            for place, value in ((7, x.size), (139_999, x.size + 1), (70_000, -x.size - 1)):
                bad = index.copy()
                bad[place] = value
                with pytest.raises(IndexError, match=rf"index {value} .* size 300001"):
                    ts.asarray(x)[bad]
                with pytest.raises(IndexError, match=rf"index {value} .* size 300001"):
                    ts.take(ts.asarray(x), bad, axis=0)
    finally:
        ts.set_num_threads(threads)


@pytest.mark.parametrize("width", [63, 64, 65, 300, 1100])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "uint8"])
def test_the_last_of_equal_rows(width: int, dtype: str) -> None:
    rng = np.random.default_rng(width)
    source = rng.integers(0, 99, (701, 2 * width)).astype(dtype)
    x = rng.integers(0, 99, (97, width)).astype(dtype)
    threads = ts.get_num_threads()
    try:
        for count, n, rows in itertools.product((1, 2), (97, 5), (source[:, :width], source[::-1, ::2])):
            ts.set_num_threads(count)
            index = rng.integers(0, n, 701)
            ours, expected = ts.asarray(x.copy()), x.copy()
            ours[index] = ts.asarray(rows)
            expected[index] = rows
            np.testing.assert_array_equal(ours.numpy(), expected)
            ours[index] = ts.asarray(rows[:1])  # one row for all
            expected[index] = rows[:1]
            np.testing.assert_array_equal(ours.numpy(), expected)
    finally:
        ts.set_num_threads(threads)


# --- assignments to few elements, which take a way of their own ------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int32", "int64", "uint16", "float32", "float64", "complex64"]
)
@pytest.mark.parametrize("step", [1, 2, -3])
@pytest.mark.parametrize("count", [0, 1, 5, 128, 129])
def test_assigning_to_few_elements_is_numpys(dtype: str, step: int, count: int) -> None:
    rng = np.random.default_rng(count)
    base = rng.integers(0, 100, 120).astype(dtype)
    index = rng.integers(-40, 40, count)  # some twice: the last one stays
    values = rng.integers(0, 100, count).astype(dtype)
    theirs, ours = base.copy(), ts.asarray(base.copy())
    np.testing.assert_array_equal(ours[::step][ts.asarray(index)].numpy(), theirs[::step][index])
    theirs[::step][index], ours[::step][ts.asarray(index)] = values, ts.asarray(values)
    np.testing.assert_array_equal(ours.numpy(), theirs)


def test_assigning_to_few_elements_reads_first_and_counts_as_a_write() -> None:
    x = ts.arange(6)
    x[x] = ts.asarray([5, 4, 3, 2, 1, 0])  # the target is the index
    assert x.tolist() == [5, 4, 3, 2, 1, 0]
    x[ts.asarray([0, 1, 2])] = x[1:4]
    assert x.tolist() == [4, 3, 2, 2, 1, 0]
    w = ts.ones(3, dtype="float64").requires_grad_()
    y = ts.exp(w)
    z = y * y
    with ts.no_grad():
        y[ts.asarray([0])] = ts.asarray([2.0], dtype="float64")
    with pytest.raises(RuntimeError, match=r"version|changed|modified"):
        z.sum().backward()
    fixed = np.zeros(3)
    fixed.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        ts.asarray(fixed)[ts.asarray([0])] = ts.asarray([2.0], dtype="float64")


@pytest.mark.parametrize(
    "key",
    [4, -5, (0, 0), [4], [-5], ([0], [0]), [True, False], ts.asarray([0, 4]), (..., ...), ts.asarray([0.5])],
    ids=str,
)
def test_an_assignment_names_itself(key: Any) -> None:
    x = ts.arange(4)
    for value in (1, ts.asarray([1]), ts.asarray([1, 2])):
        with pytest.raises(IndexError, match=r"^setitem: "):
            x[key] = value
    assert x.tolist() == [0, 1, 2, 3]
    with pytest.raises(IndexError, match=r"^getitem: "):
        x[key]


@pytest.mark.parametrize("key", ["a", b"x", {}, object(), ["a"], (0, "a"), 1.5, [1.5]])
def test_what_is_no_index(key: object) -> None:
    """An IndexError that says what an index is, as in NumPy, and nothing is changed."""
    x = ts.ones((3, 3))
    for act in (lambda: x[key], lambda: operator.setitem(x, key, 2)):
        with pytest.raises(IndexError, match="integers"):
            act()
    assert (x == 1).all()
