"""A row's bits do not depend on the rows beside it: alone, among a few, among enough for several pieces of work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

F = ts.nn.functional
ROWS = 300  # of 130 columns: more than two pieces of 16,384 elements


def reduction(name: str) -> Callable[[Any, Any], Any]:
    return lambda x, t: getattr(ts, name)(x, axis=-1)


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": lambda x, t: F.softmax(x, -1),
    "log_softmax": lambda x, t: F.log_softmax(x, -1),
    "cross_entropy": lambda x, t: F.cross_entropy(x, t, reduction="none", label_smoothing=0.1),
    "layer_norm": lambda x, t: F.layer_norm(x, (x.shape[-1],)),
    "rms_norm": lambda x, t: F.rms_norm(x, (x.shape[-1],)),
    **{
        name: reduction(name)
        for name in ("sum", "prod", "mean", "var", "max", "min", "argmax", "argmin", "logsumexp")
    },
    "norm": lambda x, t: ts.linalg.vector_norm(x, axis=-1),
    "any": lambda x, t: ts.any(x > 2, axis=-1),
    "cumsum": lambda x, t: ts.cumsum(x, axis=-1),
    "cumprod": lambda x, t: ts.cumprod(x, axis=-1),
    "sort": lambda x, t: ts.sort(x, axis=-1),
    "argsort": lambda x, t: ts.argsort(x, axis=-1),
    "topk": lambda x, t: ts.topk(x, 5)[0],
}


def with_gradient(function: Callable[[Any, Any], Any], x: np.ndarray, t: np.ndarray) -> list[np.ndarray]:
    leaf = ts.array(x).requires_grad_()
    y = function(leaf, ts.array(t))
    if not y.requires_grad:
        return [y.numpy()]
    weights = np.linspace(0.5, 1.5, max(1, y[0].size)).reshape(y[0].shape)  # the same for every row
    y.backward(ts.array(np.broadcast_to(weights, y.shape).copy(), dtype=y.dtype))
    return [y.detach().numpy(), leaf.grad.numpy()]


@pytest.mark.parametrize("columns", [1, 7, 130, 4097])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_row_alone_has_the_bits_of_the_batch(name: str, dtype: str, columns: int) -> None:
    if name == "topk" and columns < 5:
        pytest.skip("fewer than k")
    rows = ROWS if columns < 4097 else 12
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((rows, columns)).astype(dtype)
    t = rng.integers(0, columns, rows)
    whole = with_gradient(FUNCTIONS[name], x, t)
    for first, last in ((0, 1), (5, 6), (3, 8), (rows - 1, rows), (rows // 2, rows)):
        for part, full in zip(
            with_gradient(FUNCTIONS[name], x[first:last], t[first:last]), whole, strict=True
        ):
            np.testing.assert_array_equal(part, full[first:last], err_msg=f"{name}: rows {first} to {last}")


# Around registers, blocks of 64 and the lengths where the way through a row changes.
LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 320, 1000, 2049, 5000)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8"])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_first_place_of_the_extreme(name: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        few = rng.integers(0, 3, (9, n)).astype(dtype)  # many equals
        many = (
            rng.permuted(np.tile(np.arange(n), (9, 1)), axis=1) % 251 - (0 if dtype == "uint8" else 90)
        ).astype(dtype)
        arrays = [few, many]
        if dtype.startswith("float"):
            holes = many.copy()
            for row in range(9):
                holes[row, rng.integers(0, n)] = (np.nan, np.inf, -np.inf, -0.0)[row % 4]
            arrays += [holes, np.full((9, n), np.nan, dtype), np.full((9, n), -np.inf, dtype), few * -0.0]
        for x in arrays:
            expected = getattr(x, name)(axis=1)
            wide = np.repeat(x, 2, axis=1)[:, ::2]
            for y in (x, np.asfortranarray(x), wide):
                assert (getattr(ts.asarray(y), name)(axis=1).numpy() == expected).all(), n
            assert getattr(ts.asarray(x), name)().item() == getattr(x, name)(), n


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_one_element_decides(dtype: str) -> None:
    """any and all, with the deciding element everywhere; NaN is true, -0 is not."""
    for n in (0, 1, 5, 63, 64, 65, 300, 4095, 4096, 4097, 9000):
        for at in sorted({0, n // 2, n - 1} & set(range(n))):
            x = np.zeros(n, dtype)
            x[at] = np.nan if dtype == "float32" else 1
            nots = np.ones(n, dtype)
            nots[at] = -0.0 if dtype.startswith("float") else 0
            for y in (x, np.repeat(x, 2)[::2], x[::-1]):
                assert ts.any(ts.asarray(y)).item() is True
            assert ts.all(ts.asarray(nots)).item() is False and ts.all(ts.asarray(x == 0)).item() is False
        assert (
            ts.any(ts.zeros(n, dtype=dtype)).item() is False
            and ts.all(ts.ones(n, dtype=dtype)).item() is True
        )
    m = np.zeros((40, 70), dtype)
    m[3, 5] = m[39, 69] = 1
    for axis in (0, 1):
        assert (ts.any(ts.asarray(m), axis=axis).numpy() == m.any(axis=axis)).all()
        assert (
            ts.all(ts.asarray(1 - m if dtype != "bool" else ~m), axis=axis).numpy() == (m == 0).all(axis=axis)
        ).all()


def test_one_element_of_many_decides() -> None:
    n = 3_000_000
    x = np.zeros(n, "bool")
    before = ts.get_num_threads()
    try:
        for threads in (1, 2, 3):
            ts.set_num_threads(threads)
            for at in (0, 65_535, 65_536, 70_000, 2_000_000, n - 1):
                x[at] = True
                t = ts.asarray(x)
                assert ts.any(t).item() is True and ts.all(t).item() is False and ts.all(~t).item() is False
                x[at] = False
            assert ts.any(ts.asarray(x)).item() is False and ts.all(ts.asarray(~x)).item() is True
            assert ts.any(ts.stack([ts.asarray(x), ts.asarray(~x)]), axis=1).numpy().tolist() == [False, True]
    finally:
        ts.set_num_threads(before)


def test_large_results_go_past_the_caches_with_the_same_bits() -> None:
    x = ts.random.uniform(-1.0, 1.0, (16384, 1024))  # 64 MiB
    w, b = ts.random.uniform(0.5, 2.0, (1024,)), ts.random.uniform(0.5, 2.0, (1024,))
    few = slice(8190, 8200)
    for f in (
        lambda x: F.softmax(x, -1),
        lambda x: F.layer_norm(x, (1024,), w, b),
        lambda x: F.layer_norm(x, (1024,)),
        lambda x: ts.channel_affine(x, w, b),
    ):
        assert f(x)[few].numpy().tobytes() == f(x[few]).numpy().tobytes()
    images = ts.reshape(x, (256, 64, 1024))
    some = ts.channel_affine(images, w[:64], b[:64])[100:102]
    assert some.numpy().tobytes() == ts.channel_affine(images[100:102], w[:64], b[:64]).numpy().tobytes()
    np.testing.assert_array_equal(ts.copy(ts.matrix_transpose(x)).numpy(), x.numpy().T)
