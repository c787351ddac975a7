"""Chains of operators: intermediate values give their memory to results, and nothing else does."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import operator
import os
import shutil
import subprocess
import sysconfig
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

N = 1 << 17  # above the size from which it is done


def pair(dtype: str = "float32") -> tuple[ts.Tensor, ts.Tensor]:
    rng = np.random.default_rng(0)
    return tuple(ts.asarray(rng.standard_normal(N).astype(dtype)) for _ in range(2))


def blocks(run: Callable[[], Any]) -> int:
    run()
    before = ts.allocator_stats()["allocations"]
    run()
    return ts.allocator_stats()["allocations"] - before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_chain_needs_a_block_for_each_live_value(dtype: str) -> None:
    x, y = pair(dtype)
    assert blocks(lambda: x + y) == 1
    assert blocks(lambda: x + y + x - 2.0 * y) == 2  # x + y, which takes the sums; 2 y
    assert blocks(lambda: x - (x * y)) == 1  # the second operand
    assert blocks(lambda: 1 / (x * y)) == 1
    assert blocks(lambda: (x + y) * 3) == 1
    a, b = x.numpy(), y.numpy()
    np.testing.assert_array_equal((x + y + x - 2.0 * y).numpy(), a + b + a - np.asarray(2, dtype) * b)
    np.testing.assert_array_equal((x - x * y).numpy(), a - a * b)
    np.testing.assert_array_equal((1 / (x * y)).numpy(), 1 / (a * b))


def test_small_values_and_other_layouts_take_their_own() -> None:
    x, y = pair()
    assert blocks(lambda: x[:100] + y[:100] + y[:100]) == 2
    assert blocks(lambda: (x + y)[::-1] + x) == 2
    assert blocks(lambda: (x + y) + y.astype("float64")) >= 2
    m = (x + y).reshape(1, -1) + x.reshape(-1, 1)[:2]
    a, b = x.numpy(), y.numpy()
    np.testing.assert_array_equal(m.numpy(), (a + b).reshape(1, -1) + a.reshape(-1, 1)[:2])


def test_whatever_is_held_keeps_its_values() -> None:
    """Each of these holds the one reference to a tensor while an operator is given it."""
    x, y = pair()
    expected, plus = (x * y).numpy().copy(), (x * y + 1).numpy().copy()

    def check(held: Any, result: Any) -> None:
        np.testing.assert_array_equal(held.numpy(), expected)
        np.testing.assert_array_equal(result.numpy(), plus)

    named = x * y
    check(named, named + 1)
    listed = [x * y]
    result = listed[0] + 1
    check(listed[0], result)
    result = next(map(operator.add, listed, [1]))
    check(listed[0], result)
    add_one = functools.partial(operator.add, x * y)
    for _ in range(3):  # a partial function lends what it holds
        result = add_one(1)
        np.testing.assert_array_equal(result.numpy(), plus)
    result = functools.reduce(operator.add, [x * y, 1])
    np.testing.assert_array_equal(result.numpy(), plus)
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv):
        bound = functools.partial(operation, x * y)
        np.testing.assert_array_equal(bound(2).numpy(), bound(2).numpy())
    method = (x * y).__add__
    np.testing.assert_array_equal(method(1).numpy(), method(1).numpy())
    sums = list(itertools.accumulate([x * y, 1, 1]))
    check(sums[0], sums[1])
    total = sum(t for t in [x * y])
    np.testing.assert_array_equal(total.numpy(), expected + 0)

    class Holder:
        def __init__(self) -> None:
            self.value = x * y

        def __add__(self, other: Any) -> Any:
            return self.value + other

    holder = Holder()
    check(holder.value, holder + 1)
    check(holder.value, 1 + holder.value)


HOLDER = r"""
#include <Python.h>
static PyObject* held;
static PyObject* hold(PyObject* m, PyObject* o) { Py_INCREF(o); Py_XSETREF(held, o); Py_RETURN_NONE; }
static PyObject* plus(PyObject* m, PyObject* o) { return PyNumber_Add(held, o); }
static PyObject* twice(PyObject* m, PyObject* o) {
  PyObject* first = PyNumber_Add(o, held);
  return first ? Py_BuildValue("NN", first, PyNumber_Add(o, held)) : NULL;
}
static PyMethodDef methods[] = {
  {"hold", hold, METH_O, ""}, {"plus", plus, METH_O, ""}, {"twice", twice, METH_O, ""}, {0}
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "holder", 0, -1, methods};
PyMODINIT_FUNC PyInit_holder(void) { return PyModule_Create(&module); }
"""


def test_what_c_code_holds_keeps_its_values(tmp_path: Path) -> None:
    """`plus` jumps to PyNumber_Add and leaves no frame; `twice` is lent a value of the caller's stack."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    headers = Path(sysconfig.get_path("include"))
    if compiler is None or not (headers / "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python")
    source, library = tmp_path / "holder.c", tmp_path / "holder.so"
    source.write_text(HOLDER)
    built = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", f"-I{headers}", str(source), "-o", str(library)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    spec = importlib.util.spec_from_file_location("holder", library)
    assert spec is not None and spec.loader is not None
    holder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(holder)
    x, y = pair()
    plus = (x * y).numpy() + np.float32(1)

    def hold() -> None:
        holder.hold(x * y)

    hold()
    for _ in range(40):  # until the interpreter has specialised the call
        result = holder.plus(1)
    np.testing.assert_array_equal(result.numpy(), plus)
    holder.hold(1)
    for result in holder.twice(x * y):
        np.testing.assert_array_equal(result.numpy(), plus)


def test_memory_that_others_see_is_not_taken() -> None:
    x, y = pair()
    array = np.ones(N, np.float32)
    np.testing.assert_array_equal((ts.asarray(array) + 1).numpy(), 2)
    np.testing.assert_array_equal(array, 1)
    exported = np.asarray(x * y)
    before = exported.copy()
    np.testing.assert_array_equal((ts.asarray(exported) + 1).numpy(), before + 1)
    np.testing.assert_array_equal(exported, before)
    whole = x * y
    np.testing.assert_array_equal((whole[:] + 1).numpy(), before + 1)
    np.testing.assert_array_equal((whole.reshape(2, -1) + 1).numpy().ravel(), before + 1)
    np.testing.assert_array_equal((whole.detach() + 1).numpy(), before + 1)
    np.testing.assert_array_equal(whole.numpy(), before)
    seen: list[Any] = []

    def watched() -> ts.Tensor:
        t = x * y
        seen.append(weakref.ref(t, lambda _: seen.append("gone")))
        return t

    result = watched() + 1
    assert seen[1:] == ["gone"] and seen[0]() is None
    np.testing.assert_array_equal(result.numpy(), before + 1)


def test_gradients_of_chains() -> None:
    x, y = pair("float64")
    x = x.detach().requires_grad_()
    z = x * y * x + (2.0 * y) * x - (x + y) / (1 + y * y)
    z.sum().backward()
    expected = 2 * x.detach() * y + 2 * y - 1 / (1 + y * y)
    np.testing.assert_allclose(x.grad.numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)
    with ts.no_grad():
        assert blocks(lambda: x + y + y) == 1


def test_an_error_leaves_the_operands() -> None:
    x, y = pair()
    before = [v.numpy().copy() for v in (x, y)]
    held = functools.partial(operator.add, x * y)
    for other, error in ((10**400, OverflowError), (y[:-1], ValueError)):
        with pytest.raises(error):
            (x + y) + other
        with pytest.raises(error):
            held(other)
    for v, values in zip((x, y, held.args[0]), (*before, before[0] * before[1]), strict=True):
        np.testing.assert_array_equal(v.numpy(), values)
