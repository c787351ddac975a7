"""Short rows are reduced a register's width of them at once; each has the bits that it has alone."""

from __future__ import annotations

import numpy as np
import pytest

import tensorsmith as ts

LENGTHS = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 255, 256, 257, 300]


def numbers(rows: int, columns: int, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(columns)
    if dtype.startswith("int"):
        return rng.integers(-(2**31), 2**31 - 1, (rows, columns)).astype(dtype)
    x = rng.standard_normal((rows, columns)).astype(dtype)
    x[rng.random(x.shape) < 0.05] = -0.0
    x[rng.random(x.shape) < 0.002] = np.nan
    x[3, 0] = np.inf
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod"])
def test_each_row_as_alone(name: str, dtype: str) -> None:
    if name == "mean" and dtype.startswith("int"):
        pytest.skip("means are of floating-point numbers")
    reduce = getattr(ts, name)
    for columns in LENGTHS:
        x = ts.array(numbers(53, columns, dtype))
        wide = ts.array(numbers(106, columns + 5, dtype))
        for part in (x, x[1:34], wide[:, 2 : columns + 2], wide[::2, :columns], wide[:, columns - 1 :: -1]):
            together = reduce(part, axis=1).numpy()
            alone = np.array([reduce(part[i]).numpy() for i in range(len(part))])
            np.testing.assert_array_equal(
                together.view(f"i{together.itemsize}"), alone.view(f"i{alone.itemsize}")
            )
