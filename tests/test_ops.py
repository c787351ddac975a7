"""Every case of the table against its reference: values, gradients, layouts, bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from cases import Case, load, make_inputs

CASES = load()
EPS = {"float32": 2.0**-24, "float64": 2.0**-53}


def tensors(case: Case, arrays: list[np.ndarray], dtype: str) -> list[Any]:
    return [ts.array(a, dtype=dtype if a.dtype == np.float64 else None) for a in arrays]


def outputs(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def rounded(case: Case, arrays: list[np.ndarray], dtype: str) -> list[np.ndarray]:
    """The values that the operation really gets, in float64."""
    return [a.astype(dtype).astype(np.float64) if a.dtype == np.float64 else a for a in arrays]


def check(case: Case, got: Any, expected: Any, dtype: str) -> None:
    for y, e in zip(outputs(got), outputs(expected), strict=True):
        e = np.asarray(e)
        assert y.shape == e.shape
        if case.exact or e.dtype.kind in "biu":
            np.testing.assert_array_equal(y.numpy(), e)
        else:
            bound = case.tolerance * EPS[str(y.dtype)] * (np.abs(e) + case.scale)
            error = np.abs(y.numpy().astype(np.float64) - e)
            bad = ~((error <= bound) | (y.numpy() == e) | (np.isnan(e) & np.isnan(y.numpy())))
            assert not bad.any(), (
                f"{case.name}: {bad.sum()} of {bad.size} off, worst {error[bad].max():.3g}, e.g. "
                f"{y.numpy()[bad][0]!r} for {e[bad][0]!r}"
            )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case: Case) -> None:
    arrays = make_inputs(case.inputs)
    for dtype in case.dtypes:
        with np.errstate(all="ignore"):
            expected = case.reference(*rounded(case, arrays, dtype))
        check(case, case.op(*tensors(case, arrays, dtype)), expected, dtype)


def rearranged(x: Any, layout: str) -> Any:
    """The same values behind other strides."""
    values = x.numpy()
    if layout == "transposed":
        return ts.from_numpy(np.asfortranarray(values))
    wide = np.full([2 * n + 1 for n in values.shape], 7, values.dtype)
    index = tuple(slice(1, 1 + 2 * n, 2) for n in values.shape)
    if layout == "reversed":
        index = tuple(slice(2 * n - 1, None, -2) if n else slice(0, 0) for n in values.shape)
    wide[index] = values
    return ts.from_numpy(wide)[index]


@pytest.mark.parametrize("case", [c for c in CASES if c.layouts], ids=str)
def test_layouts(case: Case) -> None:
    """The bits do not depend on how the inputs lie in memory."""
    inputs = tensors(case, make_inputs(case.inputs), case.dtypes[0])
    expected = outputs(case.op(*inputs))
    for layout in ("transposed", "strided", "reversed"):
        got = outputs(case.op(*(rearranged(x, layout) for x in inputs)))
        for y, e in zip(got, expected, strict=True):
            np.testing.assert_array_equal(y.numpy(), e.numpy(), err_msg=f"{case.name}, {layout}")


def floats(arrays: list[np.ndarray]) -> list[int]:
    return [i for i, a in enumerate(arrays) if a.dtype == np.float64]


def weighted(result: Any, seed: int = 1) -> Any:
    """A scalar that every output element enters with a weight of its own."""
    rng = np.random.default_rng(seed)
    total = None
    for y in outputs(result):
        if y.dtype.kind == "floating":
            term = (y * ts.array(rng.uniform(0.5, 1.5, y.shape), dtype=y.dtype)).sum()
            total = term if total is None else total + term
    return total


def numerical(function: Any, arrays: list[np.ndarray], i: int, h: float = 1e-5) -> np.ndarray:
    """Central differences of a scalar function in float64."""
    g = np.zeros_like(arrays[i])
    flat = g.reshape(-1)
    for k in range(flat.size):
        values = []
        for step in (h, -h):
            moved = [a.copy() for a in arrays]
            moved[i].reshape(-1)[k] += step
            values.append(function(moved))
        flat[k] = (values[0] - values[1]) / (2 * h)
    return g


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=str)
def test_gradient(case: Case) -> None:
    arrays = make_inputs(case.inputs)

    def value(xs: list[np.ndarray]) -> float:
        with ts.no_grad():
            return float(weighted(case.op(*(ts.array(x) for x in xs))))

    inputs = [ts.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
    weighted(case.op(*inputs)).backward()
    for i in floats(arrays):
        expected = numerical(value, arrays, i)
        # None where no rule is: right only if the gradient is 0.
        got = np.zeros_like(expected) if inputs[i].grad is None else inputs[i].grad.numpy()
        np.testing.assert_allclose(
            got, expected, rtol=1e-5, atol=1e-7 * max(1, np.abs(expected).max(initial=0))
        )


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient and c.second], ids=str)
def test_second_derivative(case: Case) -> None:
    arrays = make_inputs(case.inputs)
    places = floats(arrays)

    def gradient_sum(xs: list[np.ndarray], differentiable: bool = False) -> tuple[Any, list[Any]]:
        inputs = [ts.tensor(x, requires_grad=x.dtype == np.float64) for x in xs]
        gs = ts.autograd.gradients(
            weighted(case.op(*inputs)), [inputs[i] for i in places], create_graph=True, allow_unused=True
        )
        total = sum(
            (weighted(g, 2 + k) for k, g in enumerate(gs) if g is not None), ts.array(0.0, dtype="float64")
        )
        return total, inputs

    total, inputs = gradient_sum(arrays)
    if not total.requires_grad:  # linear: the second derivative is 0 everywhere
        for i in places:
            expected = numerical(lambda xs: float(gradient_sum(xs)[0].detach()), arrays, i)
            np.testing.assert_allclose(expected, 0, atol=1e-6)
        return
    gs = ts.autograd.gradients(total, [inputs[i] for i in places], allow_unused=True)
    for g, i in zip(gs, places):
        expected = numerical(lambda xs: float(gradient_sum(xs)[0].detach()), arrays, i)
        got = np.zeros_like(expected) if g is None else g.numpy()
        np.testing.assert_allclose(
            got, expected, rtol=1e-4, atol=1e-6 * max(1, np.abs(expected).max(initial=0))
        )


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=str)
def test_product_with_the_jacobian(case: Case) -> None:
    """ts.jvp, against the difference along the tangents: rules are right in what they are multiplied with, too."""
    arrays = make_inputs(case.inputs)
    places = floats(arrays)
    rng = np.random.default_rng(1)
    tangents = [rng.standard_normal(arrays[i].shape) for i in places]

    def function(*xs: Any) -> Any:
        full = [ts.array(a) for a in arrays]
        for i, x in zip(places, xs, strict=True):
            full[i] = x
        return [y for y in outputs(case.op(*full)) if y.dtype.kind == "floating"]

    primals = [ts.array(arrays[i]) for i in places]
    if not case.second:
        try:
            ts.jvp(function, primals, tangents)
        except NotImplementedError as error:
            assert "has no gradient rule" in str(error)
            return
    _, products = ts.jvp(function, primals, tangents)
    with ts.no_grad():
        ends = [
            function(*(ts.array(arrays[i] + h * v) for i, v in zip(places, tangents, strict=True)))
            for h in (1e-6, -1e-6)
        ]
    for got, up, down in zip(products, *ends, strict=True):
        expected = (up.numpy() - down.numpy()) / 2e-6
        np.testing.assert_allclose(
            got.numpy(), expected, rtol=1e-4, atol=1e-6 * max(1, np.abs(expected).max(initial=0))
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_repeatable_and_unchanged(case: Case) -> None:
    """A second run gives the same bits, for every number of threads, and no input is touched."""
    inputs = tensors(case, make_inputs(case.large or case.inputs), case.dtypes[0])
    before = [x.numpy().copy() for x in inputs]
    results = []
    count = ts.get_num_threads()
    try:
        for threads in (1, 2, 3):
            ts.set_num_threads(threads)
            results.append(outputs(case.op(*inputs)))
    finally:
        ts.set_num_threads(count)
    for other in results[1:]:
        for y, e in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(y.numpy(), e.numpy())
    for x, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x.numpy(), b)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "int64", "float64", "complex128"])
@pytest.mark.parametrize("extra", [0, 3])
def test_results_that_no_cache_holds(dtype: str, extra: int) -> None:
    """From 16 MiB on results are stored past the caches: also from places that are no line of cache, to odd ends."""
    n = (17 << 20) // np.dtype(dtype).itemsize + extra
    if dtype != "complex128":
        np.testing.assert_array_equal(
            ts.arange(5, n + 5, dtype=dtype).numpy(), np.arange(5, n + 5).astype(dtype)
        )
    x = (np.arange(n) % 113).astype(dtype)
    t = ts.asarray(x)
    np.testing.assert_array_equal(ts.add(t, t).numpy(), x + x)
    np.testing.assert_array_equal(ts.astype(t, dtype, copy=True).numpy(), x)
    out = ts.zeros(n + 1, dtype=dtype)
    ts.add(t, t, out=out[1:])
    np.testing.assert_array_equal(out[1:].numpy(), x + x)
    padded = ts.pad(t.reshape(1, n), ((1, 0), (2, 1)), constant_values=7).numpy()
    np.testing.assert_array_equal(padded, np.pad(x.reshape(1, n), ((1, 0), (2, 1)), constant_values=7))


def test_linspace_of_many_numbers() -> None:
    for n in (1000, 3_000_001):
        np.testing.assert_allclose(
            ts.linspace(-2, 3, n, dtype="float64").numpy(), np.linspace(-2, 3, n), rtol=1e-15, atol=1e-15
        )
