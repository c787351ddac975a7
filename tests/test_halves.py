"""float16 and bfloat16 through every operation: computed in float32, rounded once, gradients of the same dtype."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from cases import Case, load, make_inputs
from tensorsmith.nn import functional as F
from test_ops import outputs, weighted

HALVES = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # their eps
# Factorisations take float32 and float64, as NumPy's do, and so do kernels that halves go past (medians sort
# them); some cases choose a dtype themselves.
CASES = [
    c
    for c in load()
    if "float32" in c.dtypes
    and not str(c).startswith(("linalg", "fft", "rfft", "irfft", "astype", "order_statistics", "allclose"))
    and "16" not in str(c)
]


def operands(case: Case, dtype: str) -> tuple[list[Any], list[Any]]:
    """The floating inputs as halves, and the same numbers as float32."""
    narrow, wide = [], []
    for a in make_inputs(case.inputs):
        floating = a.dtype == np.float64
        narrow.append(ts.asarray(a).astype(dtype) if floating else ts.asarray(a))
        wide.append(narrow[-1].astype("float32") if floating else narrow[-1])
    return narrow, wide


def plain(t: Any) -> np.ndarray:
    return t.detach().astype("float64").numpy() if t.dtype.kind == "floating" else t.numpy()


def exactly(t: Any) -> bytes:
    return plain(t).tobytes()


def close(case: Case, y: Any, expected: Any, dtype: str, steps: float) -> None:
    """Within some roundings of the largest number around: compositions round between their operations."""
    if expected.dtype.kind != "floating":
        return  # a rounded tie may choose another place
    assert str(y.dtype) == dtype, case
    assert y.shape == expected.shape
    with np.errstate(all="ignore"):
        a, b = plain(y), plain(expected.astype(dtype))
        finite = np.isfinite(b)
        bound = steps * HALVES[dtype] * max(np.abs(b[finite]).max(initial=0.0), case.scale, 2.0**-10)
        assert np.all(np.abs(a - b)[finite] <= bound), (case, np.abs(a - b)[finite].max(), bound)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case: Case, dtype: str) -> None:
    narrow, wide = operands(case, dtype)
    for y, expected in zip(outputs(case.op(*narrow)), outputs(case.op(*wide)), strict=True):
        close(case, y, expected, dtype, 8)


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=str)
def test_gradient(case: Case) -> None:
    dtype = "bfloat16"
    found = []
    for inputs in operands(case, dtype):
        wrt = [x.requires_grad_() for x in inputs if x.dtype.kind == "floating"]
        weighted(case.op(*inputs)).backward()
        found.append([x.grad for x in wrt])
    for mine, expected in zip(*found, strict=True):
        assert (mine is None) == (expected is None)
        if mine is not None:
            close(case, mine, expected, dtype, 16)


def test_dropout() -> None:
    ts.manual_seed(3)
    x = ts.ones((40, 50), dtype="bfloat16").requires_grad_()
    y = F.dropout(x, 0.5)
    ts.sum(y).backward()
    assert str(y.dtype) == str(x.grad.dtype) == "bfloat16"
    np.testing.assert_array_equal(plain(y), plain(x.grad))
    assert set(np.unique(plain(y))) == {0.0, 2.0}


def test_bfloat16_is_read_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ts.asarray([0.5, -2.0, 3.0]).astype("bfloat16")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert x.tolist() == [0.5, -2.0, 3.0] and x[1].tolist() == -2.0
    assert repr(x) == "tensor([ 0.5, -2. ,  3. ], dtype=bfloat16)"
    assert x.tobytes() == b"\x00\x3f\x00\xc0\x40\x40"


def test_running_statistics_are_of_either_dtype() -> None:
    x = ts.ones((4, 3, 2, 2), dtype="bfloat16")
    mean, var = ts.zeros(3), ts.ones(3)
    assert str(F.batch_norm(x, mean, var, training=True).dtype) == "bfloat16"
    assert mean.tolist() == pytest.approx([0.1] * 3)
    narrow, var = ts.zeros(3, dtype="bfloat16"), ts.ones(3, dtype="bfloat16")
    F.batch_norm(x, narrow, var, training=True)
    assert narrow.tolist() == mean.astype("bfloat16").tolist()
    assert str(F.batch_norm(x, narrow, var).dtype) == "bfloat16"
    model = ts.nn.BatchNorm2d(3).to(dtype="bfloat16")
    assert str(model(x).dtype) == str(model.running_mean.dtype) == "bfloat16"
    with pytest.raises(TypeError, match="running_mean is float64 where float32 is needed"):
        F.batch_norm(x, mean.astype("float64"), var, training=True)


def test_errors_name_halves_among_what_is_allowed() -> None:
    x, ones = ts.asarray([[1, 2]]), ts.ones((2,))
    for name, call in {
        "softmax: x": lambda: F.softmax(x, -1),
        "layer_norm: x": lambda: F.layer_norm(x, (2,)),
        "batch_norm: x": lambda: F.batch_norm(x, None, None, ones, ones, training=True),
        "cross_entropy: x": lambda: F.cross_entropy(x, ts.asarray([0])),
        "dropout: x": lambda: F.dropout(x, 0.5),
        "logsumexp: x": lambda: ts.logsumexp(x),
        "gradient_norm: grads": lambda: ts.ops.optim.gradient_norm([x]),
    }.items():
        with pytest.raises(
            TypeError, match=f"{name} is int64; float32, float64, bfloat16 or float16 is needed"
        ):
            call()


def test_factorisations_say_what_they_take() -> None:
    with pytest.raises(
        TypeError, match="cholesky: a is bfloat16; float32, float64, complex64 or complex128 is needed"
    ):
        ts.linalg.cholesky(ts.eye(2, dtype="bfloat16"))


@pytest.mark.parametrize("threads", [1, 3])
def test_pointwise_in_blocks_is_pointwise_in_float32(threads: int) -> None:
    """Bit for bit, for layouts that blocks take and those that they do not."""
    rng = np.random.default_rng(2)
    before = ts.get_num_threads()
    ts.set_num_threads(threads)
    try:
        for dtype in HALVES:
            for m, n in ((1, 1), (3, 5), (7, 4096), (70, 5000), (9000, 3), (1, 70_001)):
                x, y = (ts.asarray(rng.standard_normal((m, n))).astype(dtype) for _ in range(2))
                row, column = y[0], x[:, :1]
                for a, b in (
                    (x, y), (x, row), (column, y), (x, 1.75), (2, y), (x.T, y.T), (row, column), (x, y[:, ::-1]),
                    (x[:, ::2], y[:, ::2]), (x[None], y[:, None] if m * n < 10_000 else y), (x > 0, y),
                ):  # fmt: skip
                    wide = [
                        t.astype("float32") if isinstance(t, ts.Tensor) and t.dtype.kind == "floating" else t
                        for t in (a, b)
                    ]
                    for f in (ts.multiply, ts.logaddexp, ts.less, ts.copysign):
                        if f is not ts.multiply and not isinstance(a, ts.Tensor):
                            continue
                        mine, expected = f(a, b), f(*wide)
                        assert exactly(mine) == exactly(expected.astype(mine.dtype))
                expected = ts.exp(x.astype("float32")).astype(dtype)
                assert exactly(ts.exp(x)) == exactly(expected)
                z = ts.array(x)
                z *= y
                assert exactly(z) == exactly(x * y)
    finally:
        ts.set_num_threads(before)


@pytest.mark.parametrize("axis, names", [((0, 1), ["sum"]), (-1, ["cast", "sum"])])
def test_recorded_sums_down_columns_read_halves(axis: Any, names: list[str]) -> None:
    """A cast would join nothing there; before a sum of rows it joins what is before it. The bits are the same."""
    x = ts.asarray(np.random.default_rng(1).standard_normal((3, 40, 50)).astype(np.float32)).astype(
        "bfloat16"
    )

    def total(x: ts.Tensor) -> ts.Tensor:
        return ts.sum(x, axis, dtype="float32")

    recorded = ts.jit(total)
    np.testing.assert_array_equal(recorded(x).numpy(), total(x).numpy())
    with ts.profiler.profile() as p:
        recorded(x)
    assert [name for event in p.events for name in event.name.split("+")] == names


def test_recorded_sums_keep_their_bits() -> None:
    x = ts.asarray(np.random.default_rng(2).standard_normal((7, 33)).astype(np.float32)).astype("bfloat16")
    for axis in (None, 0, 1, (0, 1)):
        for op in (ts.sum, ts.mean):
            np.testing.assert_array_equal(
                ts.jit(lambda x, op=op, axis=axis: op(x, axis))(x).astype("float32").numpy(),
                op(x, axis).astype("float32").numpy(),
            )


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_cross_entropy_has_second_derivatives(reduction: str, weighted: bool, autocast: bool) -> None:
    rng = np.random.default_rng(0)
    logits, target = ts.array(rng.standard_normal((5, 4)).astype(np.float32)), ts.array([0, 1, 2, 3, 0])
    weight = ts.array([0.5, 1.0, 2.0, 0.25]) if weighted else None

    def second(x: ts.Tensor) -> np.ndarray:
        x = x.detach().requires_grad_()
        with ts.autocast(enabled=autocast):
            loss = F.cross_entropy(x, target, weight, reduction=reduction)
        (slope,) = ts.autograd.gradients(
            loss if loss.ndim == 0 else ts.sum(loss * loss), [x], create_graph=True
        )
        assert slope.dtype == x.dtype
        ts.sum(slope * slope).backward()
        assert x.grad is not None and x.grad.dtype == x.dtype
        return x.grad.astype(ts.float32).numpy()

    half = logits.astype(ts.bfloat16)
    exact = second(half.astype(ts.float32))
    np.testing.assert_allclose(second(half), exact, atol=0.05 * np.abs(exact).max())
