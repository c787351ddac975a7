"""Results that no cache holds are stored past the caches, and what is read far away is asked for ahead: the bits are
those of the same elements computed in small parts, wherever an array begins and whatever its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

LARGE = (1 << 22) + 4099  # floats: more than the 16 MiB from which results go past the caches
PART = 65_537

POINTWISE: dict[str, Callable[[Any], Any]] = {
    "exp": ts.exp,
    "gelu": ts.nn.functional.gelu,
    "add": lambda x: x + x,
    "multiply by a number": lambda x: x * 2.5,
    "number minus": lambda x: 1.0 - x,
    "copy": ts.copy,
    "to float64": lambda x: x.astype("float64"),
    "where": lambda x: ts.where(x > 0.5, x, -1.0),
}


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("first", [0, 1])
def test_pointwise(name: str, first: int) -> None:
    x = ts.array(np.random.default_rng(0).random(LARGE + 1, dtype=np.float32))[first:]
    f = POINTWISE[name]
    whole = f(x).numpy()
    parts = [f(x[i : i + PART]).numpy() for i in range(0, LARGE, PART)]
    np.testing.assert_array_equal(whole, np.concatenate(parts)[: len(whole)])


ROWS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: ts.softmax(x, -1),
    "log_softmax": lambda x: ts.log_softmax(x, -1),
    "layer_norm": lambda x: ts.layer_norm(x, 1040, ts.arange(1040, dtype="float32"), ts.ones(1040)),
    "layer_norm plain": lambda x: ts.layer_norm(x, 1040),
    "rms_norm": lambda x: ts.rms_norm(x, 1040, ts.arange(1040, dtype="float32")),
}


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_many_rows(name: str, gradient: bool) -> None:
    x = ts.array(np.random.default_rng(1).standard_normal((16_400, 1040), dtype=np.float32))

    def f(x: Any) -> Any:
        if not gradient:
            return ROWS[name](x)
        x = x.detach().requires_grad_()
        ROWS[name](x).backward(x.detach() * 0.5)
        return x.grad

    whole = f(x)
    for first in (0, 5, 8_195, 16_391):
        np.testing.assert_array_equal(whole[first : first + 9].numpy(), f(x[first : first + 9]).numpy())


def test_batch_norm_of_large_images() -> None:
    x = np.random.default_rng(2).standard_normal((69, 8, 32, 1024), dtype=np.float32)
    w, b = ts.arange(8, dtype="float32") + 1.0, ts.arange(8, dtype="float32")
    first = ts.batch_norm(ts.array(x), None, None, w, b, True).numpy()
    last = ts.batch_norm(ts.array(np.moveaxis(x, 1, 3).copy()).permute(0, 3, 1, 2), None, None, w, b, True)
    np.testing.assert_array_equal(first, last.numpy())
    wide = x[:, 3].astype(np.float64)
    expected = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5) * 4 + 3
    np.testing.assert_allclose(first[:, 3], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
@pytest.mark.parametrize(
    ("dtype", "rows", "columns"),
    [
        ("float32", 16_461, 515),
        ("float32", 40_003, 521),
        ("float32", 2049, 3075),
        ("float64", 8225, 389),
        ("float64", 20_481, 259),
        ("float64", 3333, 947),
    ],
)
def test_columns_that_no_cache_holds(name: str, dtype: str, rows: int, columns: int) -> None:
    x = ts.array(np.random.default_rng(3).standard_normal((rows, columns)).astype(dtype) - 6)
    reduce = getattr(ts, name)
    along_rows = reduce(ts.copy(x.T), axis=1)
    np.testing.assert_array_equal(reduce(x, axis=0).numpy(), along_rows.numpy())
