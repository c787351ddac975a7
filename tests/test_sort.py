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
