"""Every second element (`x[::2]`): the bits of a copy, and nothing read behind the last element."""

import ctypes
import mmap

import numpy as np
import pytest

import tensorsmith as ts

SIZES = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 255, 257, 511, 1023, 1025, 2049, 5000, 40001]


def pairs(n: int, dtype: str, lead: int = 0) -> tuple[ts.Tensor, ts.Tensor]:
    """n elements that are every second one of an array which ends with the last of them, and their copy."""
    rng = np.random.default_rng(n)
    array = (rng.standard_normal(max(lead + 2 * n - 1, 0)) * 100).astype(dtype)
    return ts.asarray(array)[lead::2], ts.asarray(array[lead::2].copy())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "int16", "complex64"])
@pytest.mark.parametrize("lead", [0, 1, 3])
def test_pointwise(dtype: str, lead: int) -> None:
    for n in SIZES:
        x, copied = pairs(n, dtype, lead)
        other = ts.asarray(np.arange(n).astype(dtype))
        for f in (
            lambda a: a + a,
            lambda a: a * 3,
            lambda a, other=other: other - a,
            lambda a, other=other: ts.where(other == a, a, other),
            lambda a: ts.copy(a),
            lambda a, other=other: a == other,
            lambda a: a.astype("complex128"),
            lambda a: ts.abs(a),
        ):
            assert f(x).numpy().tobytes() == f(copied).numpy().tobytes(), n


def test_into_an_array_in_place() -> None:
    for n in SIZES:
        x, copied = pairs(n, "float64")
        y = ts.arange(n, dtype="float64")
        expected = y.numpy() + copied.numpy()
        y += x
        np.testing.assert_array_equal(y.numpy(), expected)
    whole = ts.arange(4000, dtype="float32")
    ts.add(whole[::2], whole[1::2], out=whole[:2000])  # where the result lies in what is read
    np.testing.assert_array_equal(whole.numpy()[:2000], np.arange(2000) * 4 + 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_past_the_caches(dtype: str) -> None:
    x, copied = pairs((16 << 20) // np.dtype(dtype).itemsize + 77, dtype)
    assert (x + 1).numpy().tobytes() == (copied + 1).numpy().tobytes()
    assert ts.copy(x).numpy().tobytes() == copied.numpy().tobytes()
    assert x.astype("float64").numpy().tobytes() == copied.astype("float64").numpy().tobytes()
    y = ts.ones(x.shape, dtype=dtype)
    y *= x
    assert y.numpy().tobytes() == copied.numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod", "std", "argmax"])
def test_reductions(dtype: str, reduce: str) -> None:
    for n in [*SIZES[1:], 300001]:
        for lead in (0, 1):
            x, copied = pairs(n, dtype, lead)
            result, expected = getattr(ts, reduce)(x), getattr(ts, reduce)(copied)
            assert result.numpy().tobytes() == expected.numpy().tobytes(), (n, lead)
    table = ts.asarray(np.random.default_rng(0).standard_normal((7, 2 * 700 - 1)).astype(dtype))[:, ::2]
    for axis in (0, 1):
        result = getattr(ts, reduce)(table, axis=axis)
        assert result.numpy().tobytes() == getattr(ts, reduce)(ts.copy(table), axis=axis).numpy().tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0])
def test_special_values(value: float) -> None:
    for at in (0, 2, 66, 130, 398):
        array = np.zeros(399)
        array[1::2] = np.nan  # what lies between is not looked at
        array[at] = value
        x = ts.asarray(array)[::2]
        for reduce in (ts.sum, ts.max, ts.min):
            assert reduce(x).numpy().tobytes() == reduce(ts.copy(x)).numpy().tobytes()


def test_nothing_behind_the_last_is_read() -> None:
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(start + 2 * page), ctypes.c_size_t(page), 0) == 0
    try:
        for dtype in (np.float32, np.float64):
            whole = np.frombuffer(memory, dtype, 2 * page // np.dtype(dtype).itemsize)
            for n in [*range(1, 70), 255, 256, 257, 500]:
                x = ts.asarray(whole[len(whole) - 2 * n + 1 :])[::2]
                assert x.shape == (n,)
                assert (
                    float(ts.sum(x))
                    == float(ts.max(x))
                    == float(ts.sum(x + x))
                    == float(ts.sum(ts.copy(x)))
                    == 0
                )
    finally:
        protect(ctypes.c_void_p(start + 2 * page), ctypes.c_size_t(page), 3)
