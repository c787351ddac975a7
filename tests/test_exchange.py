"""Memory shared with other libraries: DLPack, NumPy's protocols, files. Zero-copy is proved by writing through."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">f2", ">i2", ">u8", ">c16"])
def test_numbers_in_another_order_of_bytes(dtype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)[:, ::-1]
    x = ts.asarray(array)
    assert x.dtype == array.dtype.newbyteorder("=") and np.array_equal(x.numpy(), array)
    assert np.array_equal(ts.asarray(array[0, 0]).numpy(), array[0, 0])
    with pytest.raises(ValueError, match=f"asarray: an array of dtype {dtype}.* only by a copy"):
        ts.asarray(array, copy=False)


def test_fields_of_records_and_unaligned_arrays() -> None:
    records = np.zeros(4, [("a", "u1"), ("x", "f8"), ("y", "f4")])
    records["x"], records["y"] = np.arange(4), np.arange(4) + 0.5
    for name in ("a", "x", "y"):
        x = ts.asarray(records[name])
        assert x.dtype == records[name].dtype and np.array_equal(x.numpy(), records[name])
    unaligned = np.frombuffer(b"\0" + np.arange(4.0).tobytes(), offset=1)
    assert np.array_equal(ts.asarray(unaligned).numpy(), unaligned)


def test_objects_with_an_array_interface_keep_their_dtype() -> None:
    class Picture:
        def __init__(self, array: Any) -> None:
            self.array, self.__array_interface__ = array, array.__array_interface__

    assert ts.asarray(Picture(np.ones(3))).dtype == ts.float64


def test_what_an_object_says_of_itself_reaches_the_caller() -> None:
    class Picture:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise ValueError("there is no picture")

    with pytest.raises(ValueError, match="there is no picture"):
        ts.asarray(Picture())
    with pytest.raises(RuntimeError, match=r"carries a gradient.*detach"):
        ts.Tensor([ts.ones(2).requires_grad_()])


def test_deepcopy_takes_the_gradient_along() -> None:
    x = ts.ones(2).requires_grad_()
    (x * 2).sum().backward()
    y = copy.deepcopy(x)
    x.grad.fill_(0)
    assert y.grad.tolist() == [2, 2] and y.requires_grad


DTYPES = [d for d in ts.dtypes.ALL if d.name != "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dlpack_both_ways(dtype: Any) -> None:
    x = ts.ones((3, 4), dtype=dtype)[::2, ::-1]
    y = np.from_dlpack(x)
    assert y.dtype == dtype and y.shape == x.shape and y.strides == x.strides
    y[0, 0] = 0
    assert not bool(x[0, 0])
    z = ts.from_dlpack(y)
    assert z.dtype == dtype and z.shape == y.shape
    z[1, 1] = 0
    assert not y[1, 1]


def test_dlpack_flags() -> None:
    array = np.arange(4.0)
    array.flags.writeable = False
    x = ts.from_dlpack(array)
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1
    with pytest.raises(BufferError, match="read-only"):
        x.__dlpack__()
    assert not np.from_dlpack(x).flags.writeable
    y = ts.ones(3)
    z = ts.from_dlpack(y, copy=True)
    z[0] = 5
    assert y.tolist() == [1, 1, 1]
    capsule = y.__dlpack__(max_version=(1, 0), copy=True)
    ts.from_dlpack(capsule)[0] = 7
    assert y.tolist() == [1, 1, 1]
    assert y.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="device"):
        y.__dlpack__(dl_device=(2, 0))


def test_a_capsule_is_consumed_once() -> None:
    before = ts.allocator_stats()["live_blocks"]
    x = ts.ones(100)
    capsule = x.__dlpack__(max_version=(1, 0))
    y = ts.from_dlpack(capsule)
    with pytest.raises(BufferError, match="once"):
        ts.from_dlpack(capsule)
    del x, capsule
    assert y.tolist() == [1.0] * 100
    del y
    unused = ts.ones(100).__dlpack__()
    del unused
    assert ts.allocator_stats()["live_blocks"] == before


def test_dlpack_refuses_to_lose_a_gradient() -> None:
    x = ts.ones(3).requires_grad_()
    with pytest.raises(BufferError, match="gradient"):
        x.__dlpack__()
    with pytest.raises(TypeError, match="DLPack capsule"):
        ts.from_dlpack([1, 2])


def test_random_lifetimes() -> None:
    """Create, view, export and delete in any order: values stay, every block comes back, every array once.

    tests/asan.sh runs 100,000 steps under AddressSanitizer."""
    rng = np.random.default_rng(0)
    gc.collect()
    before = ts.allocator_stats()["live_blocks"]
    made, released = 0, []
    alive: list[tuple[Any, float]] = []
    for step in range(int(os.environ.get("TENSORSMITH_LIFETIME_STEPS", "10000"))):
        action = int(rng.integers(9))
        if action == 0 or not alive:
            alive.append((ts.full((int(rng.integers(1, 9)), 3), float(step)), float(step)))
            continue
        if action == 1:
            array = np.full((int(rng.integers(1, 9)), 3), float(step))
            weakref.finalize(array, released.append, step)
            made += 1
            alive.append((array, float(step)))
            del array
            continue
        i = int(rng.integers(len(alive)))
        x, value = alive[i]
        if action == 2:
            alive.append((x[::-1] if isinstance(x, np.ndarray) else ts.flip(x), value))
        elif action == 3:
            alive.append((np.from_dlpack(x), value))
        elif action == 4:
            alive.append((ts.from_dlpack(x), value))
        elif action == 5:
            alive.append((np.asarray(x), value))
        elif action == 6:
            alive.append((ts.asarray(x), value))
        elif action == 7:  # a capsule that nobody takes, or that one takes
            capsule = ts.asarray(x).__dlpack__(max_version=(1, 0))
            if step % 2:
                alive.append((ts.from_dlpack(capsule), value))
            del capsule
        if action == 8 or len(alive) > 200:
            x, value = alive.pop(i)
            assert np.all(np.asarray(x) == value)
    alive.clear()
    del x
    gc.collect()
    assert ts.allocator_stats()["live_blocks"] == before
    assert len(released) == len(set(released)) == made


def test_numpy_functions_give_tensors() -> None:
    x = ts.asarray(np.arange(6.0).reshape(2, 3))
    for y, expected in (
        (np.exp(x), np.exp(x.numpy())),
        (np.arange(3.0) + x, np.arange(3.0) + x.numpy()),
        (np.add.reduce(x), np.add.reduce(x.numpy())),
        (np.add.accumulate(x, 1), np.add.accumulate(x.numpy(), 1)),
        (np.multiply.outer(x, x), np.multiply.outer(x.numpy(), x.numpy())),
        (np.concatenate([x, x]), np.concatenate([x.numpy()] * 2)),
        (np.linalg.norm(x), np.linalg.norm(x.numpy())),
        (np.fft.fft(x), np.fft.fft(x.numpy())),
        (np.i0(x), np.i0(x.numpy())),  # NumPy's alone
    ):
        assert isinstance(y, ts.Tensor)
        np.testing.assert_allclose(y.numpy(), expected)
    out = np.zeros((2, 3))
    assert np.add(x, 1, out=out) is out and out[1, 2] == 6
    array = np.ones(3)
    array += x[0]
    assert array.tolist() == [1, 2, 3]
    assert np.shape(x) == (2, 3) and np.size(x) == 6


def test_numpy_functions_keep_the_gradient_or_refuse() -> None:
    x = ts.ones(3).requires_grad_()
    np.sum(np.exp(x)).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.e * np.ones(3), rtol=1e-6)
    with pytest.raises(TypeError, match="gradient"):
        np.maximum.accumulate(x)
    with pytest.raises(TypeError, match="gradient"):
        np.array2string(x)
    x.grad = None
    ts.abs(np.fft.fft(x)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.ones(3), rtol=1e-6)


def test_out() -> None:
    a, out = ts.arange(3.0), ts.zeros(3)
    assert ts.add(a, 1, out=out) is out and out.tolist() == [1, 2, 3]
    assert ts.sum(ts.ones(2, 3), axis=0, out=out).tolist() == [2, 2, 2]
    with pytest.raises(TypeError, match="cannot be stored"):
        ts.add(a, 0.5, out=ts.zeros(3, dtype="int64"))
    with pytest.raises(ValueError, match="shape"):
        ts.add(a, 1, out=ts.zeros(2))
    with pytest.raises(RuntimeError, match="gradient"):
        ts.add(ts.ones(3).requires_grad_(), 1, out=out)


def test_out_is_written_in_place() -> None:
    x, big = ts.arange(1 << 20, dtype="float32"), ts.zeros(1 << 20)
    ts._core.reset_peak()
    before = ts._core.allocator_stats()["peak_bytes"]
    ts.multiply(x, 2.0, out=big)
    assert ts._core.allocator_stats()["peak_bytes"] == before  # no temporary
    assert big[-1] == 2.0 * ((1 << 20) - 1)
    y = ts.arange(6.0)
    ts.add(y[:-1], 1.0, out=y[1:])  # read before it is overwritten
    assert y.tolist() == [0, 1, 2, 3, 4, 5]
    wide = ts.zeros(3, dtype="float64")
    assert ts.multiply(ts.arange(3, dtype="float32"), 2, out=wide) is wide and wide.tolist() == [0, 2, 4]


def test_numpy_protocols() -> None:
    x = ts.arange(3.0)
    np.asarray(x)[1] = 9
    assert x.tolist() == [0, 9, 2]
    memoryview(x)[0] = 4.0
    assert x.tolist() == [4, 9, 2]
    assert x.__array_interface__["data"][0] == np.asarray(x).__array_interface__["data"][0]
    assert np.asarray(x, dtype="float64").dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        x.__array__(np.float64, copy=False)
    for dtype in DTYPES:
        y = ts.ones((2, 2), dtype=dtype)
        z = pickle.loads(pickle.dumps(y))
        assert z.dtype == dtype and z.tolist() == y.tolist()
        assert copy.deepcopy(y).dtype == dtype
    assert range(5)[ts.asarray(3)] == 3 and complex(ts.asarray(1 + 2j)) == 1 + 2j
    assert (ts.zeros(2) == [0, 1]).tolist() == [True, False]


def test_bfloat16_crosses_with_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy's bfloat16 is in ml_dtypes")
    x = ts.asarray([1.5, -2.0], dtype="bfloat16")
    assert x.numpy().dtype == ml_dtypes.bfloat16
    x.numpy()[0] = 3
    assert x.tolist() == [3.0, -2.0]
    y = ts.asarray(np.array([0.5, 2], ml_dtypes.bfloat16))
    assert y.dtype == "bfloat16" and (y * 2).tolist() == [1.0, 4.0]


def test_the_dtype_compares_to_anything() -> None:
    assert ts.float32 != None and ts.float32 != 3 and ts.float32 == np.float32  # noqa: E711


def test_small_numpy_rules() -> None:
    assert (ts.asarray([True]) << ts.asarray([True])).dtype == "int8"
    x = ts.asarray(np.array([0, 255], np.uint8))
    assert (x < 300).tolist() == [True, True] and (x == -1).tolist() == [False, False]
    assert ts.sum(ts.asarray(2.0), axis=0).item() == 2.0
    assert abs(ts.asarray([True])).dtype == "bool"
    assert not ts.signbit(ts.asarray([True])).item()
    assert ts.round(ts.asarray([1.25, -3.55], dtype="float64"), 1).tolist() == [1.2, -3.6]
    assert ts.floor(ts.asarray([1, 2], dtype="int16")).dtype == "int16"
    with pytest.raises(OverflowError, match="300 does not fit uint8"):
        ts.add(x, 300)


def test_dlpack_of_a_producer_that_names_no_device() -> None:
    class Producer:
        def __dlpack__(self, **asked: Any) -> Any:
            return np.arange(3.0).__dlpack__(**asked)

    assert ts.from_dlpack(Producer()).tolist() == [0.0, 1.0, 2.0]
