"""Reading and writing by keys, x[key]: what NumPy gives, on every layout, or a clear error and nothing changed."""

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
    for name, act in (("getitem", lambda: x[key]), ("setitem", lambda: operator.setitem(x, key, 2))):
        with pytest.raises(IndexError, match=f"^(index|{name}): .*integers"):
            act()
    assert (x == 1).all()
