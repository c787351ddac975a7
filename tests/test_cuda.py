"""Every case of the table on the GPU: values against float64, bits against a second run, gradients against the CPU's.

Skipped where there is no GPU. tests/cuda_host builds the same kernels for the host; TENSORSMITH_CUDA_LIBRARY then
names that library, and these tests run through it. A case whose kernels CUDA lacks is an expected failure that names
the kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from cases import Case, load, make_inputs
from test_ops import EPS, floats, outputs, rounded, weighted

pytestmark = pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or "")
CASES = load()
# Cases of math/pointwise.h, one formula each.
FORMULAS = set(
    """negative absolute square sqrt rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh asin
    acos atan erf floor ceil trunc round relu sigmoid log_sigmoid silu gelu gelu_tanh softplus add subtract multiply
    divide floor_divide remainder power maximum minimum atan2 hypot logaddexp copysign leaky_relu elu clip fma
    lerp""".split()
)


def tensors(arrays: list[np.ndarray], dtype: str) -> list[Any]:
    return [ts.array(a, dtype=dtype if a.dtype == np.float64 else None).cuda() for a in arrays]


@pytest.fixture(autouse=True)
def new_tensors_on_the_gpu() -> Any:
    """Cases make tensors of their own (an index, a shape); they belong beside the operands."""
    ts.set_default_device("cuda")
    yield
    ts.set_default_device("cpu")


def run(case: Case, inputs: list[Any]) -> list[Any]:
    try:
        return outputs(case.op(*inputs))
    except NotImplementedError as error:
        pytest.xfail(str(error))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case: Case) -> None:
    arrays = make_inputs(case.inputs)
    for dtype in case.dtypes:
        with np.errstate(all="ignore"):
            expected = outputs(case.reference(*rounded(case, arrays, dtype)))
        inputs = tensors(arrays, dtype)
        got, again = run(case, inputs), run(case, inputs)
        for y, second, e in zip(got, again, expected, strict=True):
            assert y.device == "cuda"
            y, e = y.cpu().numpy(), np.asarray(e)
            np.testing.assert_array_equal(y, second.cpu().numpy())
            assert y.shape == e.shape
            if case.exact or e.dtype.kind in "biu":
                np.testing.assert_array_equal(y, e)
                continue
            # Sums go by another tree than the CPU's.
            bound = 2 * case.tolerance * EPS[str(y.dtype)] * (np.abs(e) + case.scale)
            error = np.abs(y.astype(np.float64) - e)
            bad = ~((error <= bound) | (y == e) | (np.isnan(e) & np.isnan(y)))
            assert not bad.any(), f"{bad.sum()} of {bad.size} off, worst {error[bad].max():.3g}"
        for x, a in zip(inputs, tensors(arrays, dtype), strict=True):
            np.testing.assert_array_equal(x.cpu().numpy(), a.cpu().numpy())


@pytest.mark.parametrize("case", [c for c in CASES if c.layouts], ids=str)
def test_layouts(case: Case) -> None:
    """The bits do not depend on how the inputs lie in memory."""
    inputs = tensors(make_inputs(case.inputs), case.dtypes[0])
    expected = run(case, inputs)
    for layout in ("transposed", "reversed"):
        moved = []
        for x in inputs:
            if layout == "transposed":
                axes = tuple(range(x.ndim))[::-1]
                y = ts.contiguous(ts.permute_dims(x, axes)) if x.ndim else x
                moved.append(ts.permute_dims(y, axes) if x.ndim else y)
            else:
                wide = ts.zeros(*[2 * n + 1 for n in x.shape], dtype=x.dtype) if x.ndim else x
                index = tuple(slice(2 * n - 1, None, -2) if n else slice(0, 0) for n in x.shape)
                if x.ndim:
                    wide[index] = x
                moved.append(wide[index] if x.ndim else x)
        for y, e in zip(run(case, moved), expected, strict=True):
            np.testing.assert_array_equal(y.cpu().numpy(), e.cpu().numpy(), err_msg=layout)


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=str)
def test_gradient(case: Case) -> None:
    """float64 gradients are the CPU's (which the full Jacobian holds to account) but for rounding."""
    arrays = make_inputs(case.inputs)
    found = []
    for device in ("cpu", "cuda"):
        ts.set_default_device(device)
        inputs = [ts.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
        try:
            weighted(case.op(*inputs)).backward()
        except NotImplementedError as error:
            pytest.xfail(str(error))
        found.append([None if inputs[i].grad is None else inputs[i].grad.cpu().numpy() for i in floats(arrays)])
    for mine, cpu in zip(found[1], found[0], strict=True):
        assert (mine is None) == (cpu is None)
        if cpu is not None:
            np.testing.assert_allclose(mine, cpu, rtol=1e-10, atol=1e-11 * max(1, np.abs(cpu).max(initial=0)))


@pytest.mark.parametrize("case", [c for c in CASES if str(c) in FORMULAS], ids=str)
def test_pointwise_bits(case: Case) -> None:
    """Formulas have the CPU's bits."""
    arrays = make_inputs(case.inputs)
    for dtype in case.dtypes:
        mine = run(case, tensors(arrays, dtype))
        ts.set_default_device("cpu")
        theirs = outputs(case.op(*(ts.array(a, dtype=dtype if a.dtype == np.float64 else None) for a in arrays)))
        ts.set_default_device("cuda")
        for y, e in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(y.cpu().numpy(), e.numpy())


def test_out_of_memory_leaves_everything_usable() -> None:
    x = ts.ones(1000)
    with pytest.raises(MemoryError, match=r"no memory for .* MiB are live in \d+ blocks"):
        ts.empty(1 << 40)
    assert (x + 1).sum().item() == 2000
    stats = ts.cuda.memory_stats()
    assert 4000 <= stats["live_bytes"] <= stats["system_bytes"]


def test_an_index_out_of_range_is_an_index_error() -> None:
    x = ts.ones(4, 3)
    with pytest.raises(IndexError, match="index 4 in .* is out of range"):
        ts.take(x, ts.array([0, 4]), axis=0)
    assert (x + 1).sum().item() == 24


def test_mixed_devices() -> None:
    x, y = ts.ones(3, device="cpu"), ts.ones(3)
    with pytest.raises(RuntimeError, match="add: a is on cpu, b on cuda; move one of them"):
        x + y
    assert (y + np.ones(3, np.float32)).device == "cuda"  # NumPy's follow the tensors
    x[:] = y + 1  # and assignment copies
    assert x.tolist() == [2, 2, 2]


def test_gradients_cross_devices() -> None:
    w = ts.ones(3, device="cpu").requires_grad_()
    (w.cuda() * 2).sum().backward()
    assert w.grad.device == "cpu" and w.grad.tolist() == [2, 2, 2]


def test_shapes_around_every_tile() -> None:
    """Integers: sums are exact, so any wrong index shows."""
    rng = np.random.default_rng(5)
    for n in (1, 31, 32, 33, 255, 257, 1023, 1025, 2049, 4097):
        a = rng.integers(-9, 10, (3, n)).astype(np.float32)
        x = ts.array(a)
        for axis in (0, 1, None):
            np.testing.assert_array_equal(ts.sum(x, axis=axis).cpu().numpy(), a.sum(axis))
        np.testing.assert_array_equal((x.T * 3 + 1).cpu().numpy(), a.T * 3 + 1)
