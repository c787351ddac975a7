"""ts.jit: what a recording cannot hold is refused, with the line, and replays check what eager calls check."""

from __future__ import annotations

import copy
import copyreg
import math
import pickle
import random
import threading
import types
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from jit_steps import tensor
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F
from tensorsmith.train import parameters_hash


@pytest.mark.parametrize(
    "read",
    [
        lambda y: float(y.sum()), lambda y: int(y.sum()), lambda y: bool(y.sum() > 0), lambda y: y.sum().item(),
        lambda y: y.numpy(), lambda y: y.tolist(), lambda y: np.asarray(y), lambda y: 1 if y.sum() > 0 else 2,
        lambda y: repr(y), lambda y: [1, 2, 3][ts.argmax(y)], lambda y: memoryview(y), lambda y: y.__dlpack__(),
        lambda y: complex(y.sum()), lambda y: not (y > 0).any(), lambda y: y.sum() == 3 or 2, lambda y: f"{y}",
        lambda y: f"{y.sum():.2f}", lambda y: print(y), lambda y: list(range(ts.argmax(y))), lambda y: max(y[0], y[1]),
        lambda y: y[0] in [y[1]], lambda y: 3 in y, lambda y: math.sqrt(y[0]), lambda y: bytes(y),
        lambda y: pickle.dumps(y), lambda y: y[ts.argmax(y) :], lambda y: ts.reshape(y, (ts.argmax(y), -1)),
        lambda y: ts.zeros((ts.argmax(y),)), lambda y: ts.eye(ts.argmax(y)), lambda y: ts.allclose(y, y),
        lambda y: F.dropout(y, y[0]),
    ],
    ids=[
        "float", "int", "bool", "item", "numpy", "tolist", "asarray", "if", "repr", "index", "buffer", "dlpack",
        "complex", "not", "or", "format", "format with digits", "print", "range", "max", "is in", "contains", "math",
        "bytes", "pickle", "slice", "reshape", "zeros", "eye", "allclose", "probability",
    ],
)  # fmt: skip
def test_reading_on_the_host_is_refused(read: Any) -> None:
    @ts.jit
    def f(x: Any) -> Any:
        y = x * 2
        read(y)  # the line in question
        return y

    with pytest.raises(
        RuntimeError, match=r"reads a value on the host.*test_jit_refusals.py:\d+ in <lambda>"
    ):
        f(ts.ones((3,)))
    assert f.cache_info().currsize == 0
    assert not ts._core.capturing()
    assert (ts.ones((3,)) * 2).tolist() == [2, 2, 2]


def test_shapes_that_depend_on_values_are_refused() -> None:
    for f in (
        lambda x: x[x > 0],
        lambda x: ts.nonzero(x),
        lambda x: ts.argwhere(x > 0),
        lambda x: ts.where(x > 0),
        lambda x: ts.masked_select(x, x > 0),
        lambda x: ts.unique_values(x),
        lambda x: ts.unique_counts(x),
        lambda x: ts.bincount(ts.abs(x).astype(ts.int64)),
    ):
        with pytest.raises(RuntimeError, match=r"depends on values.*test_jit_refusals.py:\d+ in <lambda>"):
            ts.jit(f)(tensor(5))
    for f in (
        lambda x: ts.repeat(x, ts.abs(x).astype(ts.int64)),
        lambda x: F.one_hot(ts.abs(x).astype(ts.int64)),
        lambda x: ts.split(x, ts.argsort(x)[:1]),
        lambda x: ts.linspace(x[0], x[1], 5),
    ):
        with pytest.raises(RuntimeError, match=r"value on the host.*test_jit_refusals.py:\d+ in <lambda>"):
            ts.jit(f)(tensor(5))


def test_values_that_stay_on_the_device_are_not_refused() -> None:
    def chosen(x: Any) -> Any:
        y = x.clone()
        y[x > 0] = 0.0
        y[ts.argmax(x)] = 5.0
        first, *others = x
        return [
            y, x[ts.argmin(x)], first * sum(others), ts.full((3,), x[0]), ts.clip(x, x[0], x[1] + 9), x ** x[1],
            copy.deepcopy(x), np.ones(4, np.float32) + x, np.sum(x), ts.take(x, ts.argsort(x)), x if x.ndim == 1 else y,
        ]  # fmt: skip

    f = ts.jit(chosen)
    for i in range(3):
        x = ts.abs(tensor(4, seed=i))
        for a, b in zip(chosen(x), f(x), strict=True):
            assert a.dtype == b.dtype and a.tolist() == b.tolist()
    assert f.cache_info()[:2] == (2, 1)


def test_what_other_libraries_registered_for_copies_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drawn:
        pass

    source = random.Random(0)
    monkeypatch.setitem(copyreg.dispatch_table, Drawn, lambda drawn: (float, (source.random(),)))
    f = ts.jit(lambda x: copy.deepcopy(x) + 1)
    x = tensor(3)
    for _ in range(2):
        assert f(x).tolist() == (x + 1).tolist()


NUMBERS = iter([1.0, 2.0, 3.0, 4.0])
RANDOM = np.random.default_rng(0)


def test_what_is_used_up_is_refused() -> None:
    x = tensor(3)
    drawn = random.Random(0)
    batches = {"train": iter([1.0, 2.0])}

    class Noise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = np.random.default_rng(0)

        def forward(self, x: Any) -> Any:
            return x * self.source.random()

    noise = Noise()
    for f, name in (
        (lambda x: x * next(NUMBERS), "NUMBERS"),
        (lambda x: x * RANDOM.random(), "RANDOM"),
        (lambda x: x * drawn.random(), "drawn"),
        (lambda x: x * next(batches["train"]), r"batches\['train'\]"),
        (lambda x: noise(x), "noise.source"),
    ):
        with pytest.raises(RuntimeError, match=f"it uses {name}, of type .*gives something else each time"):
            ts.jit(f)(x)
    with pytest.raises(RuntimeError, match="it uses argument 1, of type generator"):
        ts.jit(lambda x, items: x * sum(items))(x, (float(i) for i in range(3)))
    f = ts.jit(lambda x, items: x * next(items), fallback=True)
    numbers = iter([2.0, 3.0])
    with pytest.warns(RuntimeWarning, match="it uses argument 1"):
        assert f(ts.ones((1,)), numbers).tolist() == [2]
    assert f(ts.ones((1,)), numbers).tolist() == [3]

    # Its name alone, as that of an attribute, is no use of it.
    f = ts.jit(lambda x: x * types.SimpleNamespace(NUMBERS=2.0).NUMBERS)
    assert f(ts.ones((1,))).tolist() == f(ts.ones((1,))).tolist() == [2]


def test_a_result_with_a_graph_is_refused() -> None:
    w = ts.ones((3,)).requires_grad_()
    f = ts.jit(lambda x: x * w)
    with pytest.raises(RuntimeError, match="carries a gradient"):
        f(ts.ones((3,)))
    with ts.no_grad():
        assert f(ts.ones((3,))).tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="computed with its gradient recorded"):
        ts.jit(lambda x: x.detach())(w * 2)


def test_what_outlives_the_call_is_refused_after_two_tries() -> None:
    kept = []

    @ts.jit
    def f(x: Any) -> Any:
        y = x + 1
        kept.append(y)
        return y * 2

    assert f(ts.ones((1,))).tolist() == [4] and f(ts.ones((1,))).tolist() == [4]
    with pytest.raises(RuntimeError, match="it changes kept"):
        f(ts.ones((1,)))

    holder = threading.local()  # whose attributes nobody can look at

    @ts.jit
    def g(x: Any) -> Any:
        holder.last = x + 1
        return x

    g(ts.ones((1,)))
    g(ts.ones((1,)))
    with pytest.raises(RuntimeError, match=r"add at .*test_jit_refusals.py:\d+ in g.*still held"):
        g(ts.ones((1,)))


def test_results_that_are_used_up_are_refused() -> None:
    @ts.jit
    def steps(x: Any) -> Any:
        yield x * 2

    with pytest.raises(RuntimeError, match="jit: the result is or holds a generator, which is used up"):
        steps(ts.ones(2))
    with pytest.raises(RuntimeError, match="jit: the result is or holds a map"):
        ts.jit(lambda x: (x, map(abs, [1])))(ts.ones(2))
    relaxed = ts.jit(fallback=True)(lambda x: (y * 2 for y in [x]))
    with pytest.warns(RuntimeWarning, match="is or holds a generator"):
        assert [next(relaxed(ts.ones(1))).item() for _ in range(5)] == [2.0] * 5


def test_a_replay_that_fails_has_counted_what_it_wrote() -> None:
    @ts.jit
    def f(x: Any, i: Any) -> Any:
        x.add_(1)
        return ts.take(x, i, 0)

    x, fine = ts.ones((3,)), ts.asarray([0, 1])
    f(x, fine)
    a = ts.ones((3,)).requires_grad_()
    y = (a * x).sum()
    with pytest.raises(IndexError, match="take: index 9"):
        f(x, ts.asarray([0, 9]))
    assert x.tolist() == [3, 3, 3]
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()


def test_a_cache_may_be_filled_by_the_first_call() -> None:
    cache: dict[int, Any] = {}

    @ts.jit
    def f(x: Any) -> Any:
        if 0 not in cache:
            cache[0] = ts.arange(3, dtype=ts.float32) * 2
        return x + cache[0]

    for _ in range(4):
        assert f(ts.ones((3,))).tolist() == [1, 3, 5]
    assert f.cache_info()[:2] == (2, 2)


def test_fallback_runs_eagerly_and_says_so_once() -> None:
    @ts.jit(fallback=True)
    def f(x: Any) -> float:
        return float(x.sum())

    with pytest.warns(RuntimeWarning, match=r"runs without recordings.*test_jit_refusals.py:\d+ in f"):
        assert f(ts.ones((3,))) == 3
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(ts.full((3,), 2.0)) == 6


def test_a_refusal_that_the_function_swallows_is_still_one() -> None:
    @ts.jit
    def f(x: Any) -> Any:
        try:
            k = float(x.sum())
        except RuntimeError:
            k = 0.0
        return x * k

    with pytest.raises(RuntimeError, match="reads a value on the host"):
        f(ts.ones((2,)))


def test_an_exception_leaves_nothing_behind() -> None:
    @ts.jit
    def f(x: Any, fail: bool) -> Any:
        y = x + 1
        if fail:
            raise KeyError("mine")
        return y

    with pytest.raises(KeyError):
        f(ts.ones((2,)), True)
    assert not ts._core.capturing()
    assert f(ts.ones((2,)), False).tolist() == [2, 2] == f(ts.ones((2,)), False).tolist()


def test_indices_are_checked_in_replays() -> None:
    table = nn.Embedding(5, 3)

    @ts.jit
    def f(x: Any) -> Any:
        return table(x).detach()

    good, bad = ts.asarray([0, 4]), ts.asarray([0, 5])
    f(good)
    with pytest.raises(IndexError, match=r"embedding: index 5 .*recorded at .*test_jit_refusals.py:\d+ in f"):
        f(bad)
    assert np.array_equal(f(good).numpy(), table(good).detach().numpy())
    assert f.cache_info().misses == 1


def test_classes_are_checked_in_replays_before_anything_changes() -> None:
    ts.manual_seed(0)
    model = nn.Linear(4, 3)
    opt = optim.SGD(model.parameters(), lr=0.1)

    @ts.jit
    def step(x: Any, t: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), t)
        loss.backward()
        opt.step()
        return loss

    x = tensor(2, 4)
    step(x, ts.asarray([0, 1]))
    before = parameters_hash(model)
    with pytest.raises(IndexError, match=r"cross_entropy: target 3 at position 1 .*in step"):
        step(x, ts.asarray([0, 3]))
    assert parameters_hash(model) == before
    step(x, ts.asarray([2, 2]))


def definite(a: Any) -> Any:
    return ts.linalg.cholesky(a)


def eigen(a: Any) -> Any:
    return ts.linalg.eigh(a)[0]


def singular(a: Any) -> Any:
    return ts.linalg.svdvals(a)


@pytest.mark.parametrize(
    ("f", "bad", "message"),
    [
        (definite, -np.eye(3), "cholesky: matrix 0 .* not positive definite"),
        (eigen, np.full((3, 3), np.nan), "eigh: matrix 0 of the batch holds inf or NaN"),
        (singular, np.full((3, 3), np.inf), "svd: matrix 0 of the batch holds inf or NaN"),
    ],
)
def test_factorisations_are_checked_in_replays(f: Any, bad: Any, message: str) -> None:
    g = ts.jit(f)
    for scale in (1.0, 2.0):
        a = ts.asarray(np.eye(3) * scale)
        assert np.array_equal(g(a).numpy(), f(a).numpy())
    with pytest.raises(ValueError, match=message + r".*recorded at .*test_jit_refusals.py:\d+ in"):
        g(ts.asarray(bad))
    assert np.array_equal(g(a).numpy(), f(a).numpy()) and g.cache_info().misses == 1


def test_lengths_are_checked_in_replays() -> None:
    recurrent = ts._core.ops.recurrent
    x, w = tensor(5, 2, 3), [tensor(16, 3), tensor(16, 4), None, None, ts.zeros((2, 4)), ts.zeros((2, 4))]
    f = ts.jit(lambda x, n: recurrent(x, *w, n, "lstm", False)[0])
    for lengths in ([5, 3], [1, 5]):
        n = ts.asarray(lengths)
        assert np.array_equal(f(x, n).numpy(), recurrent(x, *w, n, "lstm", False)[0].numpy())
    with pytest.raises(ValueError, match=r"lengths must be in \[0, 5\], got 6 at 1 .*recorded at"):
        f(x, ts.asarray([5, 6]))
    assert f.cache_info().misses == 1


def test_sparse_rows_are_checked_in_replays() -> None:
    multiply = ts._core.ops.csr_matmul
    f = ts.jit(lambda x, starts, columns: multiply(x, starts, columns, None, 0))
    x = tensor(4, 3)
    for starts, columns in ([0, 1, 3], [3, 0, 1]), ([0, 2, 3], [1, 1, 2]):
        a, b = ts.asarray(starts), ts.asarray(columns)
        assert np.array_equal(f(x, a, b).numpy(), multiply(x, a, b, None, 0).numpy())
    with pytest.raises(ValueError, match=r"starts must not descend.*recorded at"):
        f(x, ts.asarray([0, 4, 3]), b)
    with pytest.raises(IndexError, match=r"column 4 is out of range.*recorded at"):
        f(x, a, ts.asarray([1, 1, 4]))
    assert f.cache_info().misses == 1


def test_indexing_by_arrays() -> None:
    f = ts.jit(lambda x, i, j: (x[i, j], ts.take(x, i, 0)))
    x = tensor(4, 5)
    for i, j in ([0, 1], [2, 3]), ([-1, 3], [-5, 4]), ([1, 1], [0, 0]):
        a, b = f(x, np.asarray(i), np.asarray(j))
        assert np.array_equal(a.numpy(), x.numpy()[i, j]) and np.array_equal(b.numpy(), x.numpy()[i])
    with pytest.raises(IndexError, match="index 4"):
        f(x, np.asarray([0, 4]), np.asarray([0, 0]))
    with pytest.raises(IndexError, match="index -6"):
        f(x, np.asarray([0, 1]), np.asarray([0, -6]))
    assert f.cache_info().misses == 1
