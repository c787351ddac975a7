"""Sorting and searching where kernels take other ways: lanes, long rows, halves."""

from __future__ import annotations

import numpy as np
import pytest

import tensorsmith as ts

DTYPES = ["float32", "float64", "int32", "int64", "uint32", "uint64", "int16", "uint8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(dtype: str, side: str) -> None:
    """Every count of numbers around whole registers, rows of every length, NaN and both zeros, any stride."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 31, 100, 1000, 5000):
        row = np.sort(rng.integers(0, 120, n).astype(dtype))
        x = rng.integers(0, 121, 4300).astype(dtype)
        if dtype.startswith("float"):
            row[: n // 4] -= 60
            row[n - n // 5 :] = np.nan
            row[(row == 0) & (rng.random(n) < 0.5)] = -0.0
            row = np.sort(row)
            x[::7], x[::11], x[::13] = np.nan, -0.0, -np.inf
        elif dtype.startswith("int"):
            row, x = row - row.dtype.type(60), x - x.dtype.type(60)
        for m in (0, 1, 15, 16, 63, 64, 65, 127, 130, 4300):
            expected = np.searchsorted(row, x[:m], side)
            found = ts.searchsorted(ts.asarray(row), ts.asarray(x[:m]), side=side)
            np.testing.assert_array_equal(found.numpy(), expected, err_msg=f"{n} {m}")
        strided = ts.asarray(np.repeat(row, 2))[::2]
        found = ts.searchsorted(strided, ts.asarray(x), side=side)
        np.testing.assert_array_equal(found.numpy(), np.searchsorted(row, x, side))


def test_searchsorted_by_a_sorter() -> None:
    x = ts.asarray([3.0, 1.0, 2.0])
    assert ts.searchsorted(x, ts.asarray([1.5]), sorter=ts.asarray([1, 2, 0])).tolist() == [1]
    with pytest.raises(ValueError, match=r"searchsorted: sorter .* \(2,\) and \(3,\)"):
        ts.searchsorted(x, ts.asarray([1.5]), sorter=ts.asarray([1, 2]))


def _halves(shape: tuple[int, ...], dtype: str, seed: int = 0) -> ts.Tensor:
    """Many equal ones, both zeros, infinities, NaN of both signs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    flat = x.reshape(-1)
    flat[rng.integers(0, x.size, x.size // 10 + 1)] = 0.0
    flat[rng.integers(0, x.size, x.size // 10)] = -0.0
    for value in (np.nan, -np.nan, np.inf, -np.inf, 1e-7, 3.0):
        flat[rng.integers(0, x.size, x.size // 20)] = value
    return ts.asarray(x).astype(dtype)


def _same(mine: ts.Tensor, expected: ts.Tensor, dtype: str) -> None:
    assert mine.dtype == dtype
    a, b = mine.astype("float32").numpy(), expected.numpy()
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a)[a == 0], np.signbit(b)[b == 0])


LENGTHS = [1, 2, 5, 33, 255, 511, 513, 1000, 2048, 2049, 5000, 32_767, 32_768, 65_536, 65_537, 300_001]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sort_of_halves(dtype: str, threads: int) -> None:
    """The order of the floats that they stand for, stable."""
    before = ts.get_num_threads()
    ts.set_num_threads(threads)
    try:
        for n in LENGTHS:
            for x in (_halves((3, n) if n < 70_000 else (n,), dtype, n), ts.full((n,), -1.5, dtype=dtype)):
                wide = x.astype("float32")
                for descending in (False, True):
                    _same(ts.sort(x, descending=descending), ts.sort(wide, descending=descending), dtype)
                    order = ts.argsort(x, descending=descending)
                    expected = ts.argsort(wide, descending=descending)
                    np.testing.assert_array_equal(order.numpy(), expected.numpy())
                for largest in (False, True):
                    for k in {1, min(n, 10), min(n, 300)}:
                        values, places = ts.topk(x, k, largest=largest)
                        wanted, at = ts.topk(wide, k, largest=largest)
                        _same(values, wanted, dtype)
                        np.testing.assert_array_equal(places.numpy(), at.numpy())
        x = _halves((500, 40), dtype)
        _same(ts.sort(x, axis=0), ts.sort(x.astype("float32"), axis=0), dtype)
    finally:
        ts.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_sort_of_two_bytes(dtype: str) -> None:
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    for n in LENGTHS:
        for low, high in ((info.min, info.max + 1), (0, 50)):
            x = rng.integers(low, high, n).astype(dtype)
            t = ts.asarray(x)
            np.testing.assert_array_equal(ts.sort(t).numpy(), np.sort(x))
            np.testing.assert_array_equal(ts.sort(t, descending=True).numpy(), np.sort(x)[::-1])
            np.testing.assert_array_equal(ts.argsort(t).numpy(), np.argsort(x, kind="stable"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_order_statistics_of_every_length(dtype: str) -> None:
    """Around what is sorted in registers, and what is parted in place."""
    rng = np.random.default_rng(0)
    for n in [*range(1, 300), 511, 512, 513, 1025]:
        x = rng.standard_normal(n).astype(dtype)
        places = sorted({0, n // 10, n // 2, n - 1 - n // 3, n - 1})
        quantiles = ts.quantile(ts.asarray(x), [p / max(n - 1, 1) for p in places], method="nearest")
        assert np.array_equal(quantiles.numpy(), np.sort(x)[places]), n


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
