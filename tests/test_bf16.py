"""Products of bfloat16 numbers: exact where exact is possible, the order of the sums, the same bits whatever the
layout, the batch and the threads, every engine, gradients, errors.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from engines import ENGINES, run_pinned
from tensorsmith import _core
from tensorsmith._core import ops as core

ENGINE = _core.bf16_engine()[0]


def bf16(x: Any) -> ts.Tensor:
    return ts.asarray(np.asarray(x, dtype=np.float32)).astype(ts.bfloat16)


def float32(x: ts.Tensor) -> np.ndarray:
    return x.astype(ts.float32).numpy()


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small_integers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def laid_out(x: ts.Tensor, layout: str) -> ts.Tensor:
    """The same matrix in other memory."""
    rows, columns = x.shape
    if layout == "columns":
        return ts.matrix_transpose(ts.copy(ts.matrix_transpose(x)))
    if layout == "strided":
        wide = ts.zeros((2 * rows, 2 * columns), dtype=x.dtype)
        wide[::2, ::2] = x
        return wide[::2, ::2]
    return x


LAYOUTS = ("rows", "columns", "strided")


@pytest.mark.parametrize("k", [0, 1, 2, 31, 33, 255, 257, 500, 600, 2049, 2500])
@pytest.mark.parametrize("m, n", [(1, 1), (1, 33), (33, 1), (16, 17), (31, 64), (100, 97)])
def test_exact_sums(m: int, n: int, k: int) -> None:
    """Sums of small integers are exact in float32, in any order, so any difference is a fault."""
    a, b = small_integers(1, m, k), small_integers(2, k, n)
    expected = a @ b
    for left, right, wide in itertools.product(LAYOUTS, LAYOUTS, (False, True)):
        x, y = laid_out(bf16(a), left), laid_out(ts.asarray(b) if wide else bf16(b), right)
        np.testing.assert_array_equal(core.matmul_bf16(x, y, ts.float32).numpy(), expected)
    np.testing.assert_array_equal(
        float32(ts.matmul(bf16(a), bf16(b))), float32(ts.asarray(expected).astype(ts.bfloat16))
    )


@pytest.mark.parametrize("m, k, n", [(1, 700, 33), (37, 129, 65), (130, 1000, 70), (5, 3001, 7)])
def test_error_bound(m: int, k: int, n: int) -> None:
    a, b = bf16(normal(1, m, k)), bf16(normal(2, k, n))
    wide_a, wide_b = (float32(x).astype(np.float64) for x in (a, b))
    exact, size = wide_a @ wide_b, np.abs(wide_a) @ np.abs(wide_b)
    y = core.matmul_bf16(a, b, ts.float32).numpy()
    assert np.all(np.abs(y - exact) <= 2 * np.sqrt(k) * 2.0**-24 * size)
    rounded = float32(ts.matmul(a, b))
    assert np.all(np.abs(rounded - exact) <= 2 * np.sqrt(k) * 2.0**-24 * size + 2.0**-8 * np.abs(exact))


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Products of bfloat16 numbers are exact in float64, and so, nearly always, is the sum: rounded once."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


@pytest.mark.skipif(ENGINE != "amx", reason="the order of AMX")
@pytest.mark.parametrize("k", [5, 32, 70, 300, 2100])
def test_order_of_amx(k: int) -> None:
    """For every 32 k a chain over the even k and one over the odd, their sum added to what was there."""
    m, n = 3, 20
    a, b = float32(bf16(normal(3, m, k))), float32(bf16(normal(4, k, n)))
    total = np.zeros((m, n), np.float32)
    for step in range(0, k, 32):
        even, odd = np.zeros((m, n), np.float32), np.zeros((m, n), np.float32)
        for i in range(step, min(step + 32, k)):
            if i % 2 == 0:
                even = fma(a[:, i, None], b[None, i], even)
            else:
                odd = fma(a[:, i, None], b[None, i], odd)
        total = total + (even + odd)
    np.testing.assert_array_equal(core.matmul_bf16(bf16(a), bf16(b), ts.float32).numpy(), total)


def test_bits_do_not_depend_on_layout_position_or_threads() -> None:
    a, b = bf16(normal(5, 200, 700)), bf16(normal(6, 700, 300))
    whole = float32(ts.matmul(a, b))
    for left, right in itertools.product(LAYOUTS, LAYOUTS):
        np.testing.assert_array_equal(float32(ts.matmul(laid_out(a, left), laid_out(b, right))), whole)
    np.testing.assert_array_equal(float32(ts.matmul(a[37:38], b[:, 5:99])), whole[37:38, 5:99])
    batch = ts.stack([a[i : i + 50] for i in range(0, 150, 7)])
    np.testing.assert_array_equal(
        float32(ts.matmul(batch, b)), np.stack([whole[i : i + 50] for i in range(0, 150, 7)])
    )
    np.testing.assert_array_equal(
        float32(ts.matmul(batch, ts.stack([b] * batch.shape[0]))), float32(ts.matmul(batch, b))
    )
    before = ts.get_num_threads()
    try:
        for count in (1, 2, 5):
            ts.set_num_threads(count)
            np.testing.assert_array_equal(float32(ts.matmul(a, b)), whole)
    finally:
        ts.set_num_threads(before)


def test_special_values() -> None:
    a = np.zeros((3, 40), np.float32)
    a[0, 0], a[1, 3], a[2, 39] = np.inf, np.nan, -np.inf
    b = np.ones((40, 5), np.float32)
    y = float32(ts.matmul(bf16(a), bf16(b)))
    assert np.all(y[0] == np.inf) and np.all(np.isnan(y[1])) and np.all(y[2] == -np.inf)
    # Padding must not meet an infinity: 33 is one more than a step of the tiles.
    full = np.full((33, 33), np.inf, np.float32)
    assert np.all(float32(ts.matmul(bf16(full), bf16(full))) == np.inf)


@pytest.mark.parametrize("dtypes", [("bfloat16",) * 3, ("float32", "bfloat16", "float32")])
def test_linear(dtypes: tuple[str, ...]) -> None:
    x, w, b = small_integers(1, 2, 70, 40), small_integers(2, 33, 40), small_integers(3, 33)
    inputs = [ts.asarray(v).astype(d) for v, d in zip((x, w, b), dtypes)]
    expected = x @ w.T + b
    for op, low, reference in (
        (ts.linear, core.linear_bf16, expected),
        (ts.linear_relu, core.linear_relu_bf16, np.maximum(expected, 0)),
    ):
        want = float32(ts.asarray(reference).astype(ts.bfloat16))
        np.testing.assert_array_equal(float32(low(*inputs)), want)
        if dtypes[0] == dtypes[2] == "bfloat16":
            np.testing.assert_array_equal(float32(op(*inputs)), want)
    np.testing.assert_array_equal(
        float32(core.linear_bf16(inputs[0][0, 0], inputs[1], inputs[2])),
        float32(ts.asarray(expected[0, 0]).astype(ts.bfloat16)),
    )


@pytest.mark.parametrize(
    "shapes", [((5, 7), (7, 3)), ((2, 5, 7), (7, 3)), ((2, 5, 7), (2, 7, 3)), ((7,), (7, 3))]
)
@pytest.mark.parametrize("wide", [False, True])
def test_gradients(shapes: Any, wide: bool) -> None:
    """Those of the float32 operation on the same numbers, where everything is exact."""
    a, b = (small_integers(i, *s) for i, s in enumerate(shapes))
    dy = small_integers(9, *np.matmul(a, b).shape)
    low = [(ts.asarray(v) if wide else bf16(v)).requires_grad_() for v in (a, b)]
    core.matmul_bf16(*low).backward(bf16(dy))
    high = [ts.asarray(v).requires_grad_() for v in (a, b)]
    ts.matmul(*high).backward(ts.asarray(dy))
    for x, y in zip(low, high):
        assert x.grad.dtype == x.dtype
        np.testing.assert_array_equal(float32(x.grad), y.grad.numpy())


def test_linear_gradients_stay_in_float32() -> None:
    x, w, b = (ts.asarray(v).requires_grad_() for v in (normal(1, 600, 50), normal(2, 20, 50), normal(3, 20)))
    y = core.linear_bf16(x, w, b)
    assert y.dtype == ts.bfloat16
    dy = bf16(normal(4, 600, 20))
    y.backward(dy)
    assert x.grad.dtype == w.grad.dtype == b.grad.dtype == ts.float32
    exact = float32(dy).astype(np.float64)
    np.testing.assert_allclose(b.grad.numpy(), exact.sum(0), rtol=1e-5, atol=1e-5)
    expected = exact.T @ float32(bf16(x.detach().numpy())).astype(np.float64)
    assert np.max(np.abs(w.grad.numpy() - expected)) < 1e-3  # bfloat16 would be off by up to 0.2


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine(engine: str) -> None:
    run_pinned(__file__, engine)


def test_unknown_engine() -> None:
    environment = {**os.environ, "TENSORSMITH_BF16": "vnni"}
    program = "from tensorsmith import _core; _core.bf16_engine()"
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "TENSORSMITH_BF16 must be float32, avx512_bf16 or amx, got 'vnni'" in run.stderr


def test_errors() -> None:
    a, b = bf16(np.ones((2, 3))), bf16(np.ones((4, 2)))
    with pytest.raises(
        ValueError, match=r"matmul: a of shape \(2, 3\) has 3 columns, but b of shape \(4, 2\)"
    ):
        ts.matmul(a, b)
    with pytest.raises(TypeError, match="matmul_bf16: a is float64; bfloat16 or float32 is needed"):
        core.matmul_bf16(ts.ones((2, 3), dtype=ts.float64), b)
    with pytest.raises(TypeError, match="matmul_bf16: dtype must be bfloat16 or float32, got float64"):
        core.matmul_bf16(b, a, ts.float64)
    with pytest.raises(TypeError, match="linear: weight"):
        ts.linear(a, ts.ones((5, 3)))
