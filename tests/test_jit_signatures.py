"""ts.jit: which calls are the same work on other elements."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from jit_steps import tensor

Pair = collections.namedtuple("Pair", "a b")


def test_nested_arguments_and_results() -> None:
    @ts.jit
    def f(pair: Any, *, scale: float, extra: dict[str, Any]) -> Any:
        return Pair([pair.a * scale, pair.b], {"x": extra["x"][0] + 1, "n": 3})

    for i in range(3):
        a, b, x = tensor(2, seed=i), tensor(3, seed=i), tensor(4, seed=i)
        result = f(Pair(a, b), scale=2.0, extra={"x": [x]})
        assert isinstance(result, Pair) and result.a[1] is b and result.b["n"] == 3
        assert np.array_equal(result.a[0].numpy(), a.numpy() * 2)
        assert np.array_equal(result.b["x"].numpy(), x.numpy() + 1)
    assert f.cache_info()[:2] == (2, 1)
    f(Pair(a, b), scale=3.0, extra={"x": [x]})
    assert f.cache_info().misses == 2


def test_numpy_arguments() -> None:
    f = ts.jit(lambda x: x.sum())
    for i in range(3):
        x = np.random.default_rng(i).standard_normal(7).astype(np.float32)
        assert float(f(x)) == float(ts.asarray(x).sum())
    assert f.cache_info().hits == 2


def test_each_signature_has_its_recording() -> None:
    f = ts.jit(lambda x, k=1: x * k)
    calls = [
        (tensor(3),), (tensor(4),), (tensor(3).double(),), (tensor(3, 2)[:, 0],), (tensor(3), 2), (tensor(3), 2.0),
        (tensor(3), True),
    ]  # fmt: skip
    for _ in range(2):
        for args in calls:
            x, k = args[0], args[1] if len(args) > 1 else 1
            y = f(*args)
            assert y.dtype == (x * k).dtype and np.array_equal(y.numpy(), (x * k).numpy())
    assert f.cache_info()[:2] == (len(calls), len(calls))
    with ts.no_grad():
        f(tensor(3))
    assert f.cache_info().misses == len(calls) + 1


def test_order_and_class_of_what_holds_the_arguments() -> None:
    class Batch(dict):  # type: ignore[type-arg]
        scale = 1.0

    def f(*args: Any, **named: Any) -> Any:
        items = [x for a in args for x in a.values()] + list(named.values())
        scale = 2.0 if any(isinstance(a, collections.OrderedDict) for a in args) else 1.0
        return ts.stack(items) * scale * getattr(args[0], "scale", 1.0) if args else ts.stack(items)

    a, b, replayed = tensor(3), tensor(3, seed=1), ts.jit(f)
    moved = collections.OrderedDict(a=a, b=b)
    moved.move_to_end("a")
    scaled = Batch(a=a, b=b)
    scaled.scale = 3.0  # type: ignore[misc]
    calls: list[Any] = [
        ((), {"a": a, "b": b}), ((), {"b": b, "a": a}), (({"a": a, "b": b},), {}), ((moved,), {}),
        ((collections.OrderedDict(a=a, b=b),), {}), ((Batch(a=a, b=b),), {}), ((scaled,), {}),
    ]  # fmt: skip
    for _ in range(2):
        for args, named in calls:
            assert np.array_equal(replayed(*args, **named).numpy(), f(*args, **named).numpy())
    assert replayed.cache_info()[:2] == (len(calls), len(calls))


def test_a_parameter_is_another_argument_than_a_tensor() -> None:
    f = ts.jit(lambda x: x * (2.0 if isinstance(x, ts.nn.Parameter) else 3.0))
    x = ts.ones((2,))
    for _ in range(2):
        assert f(ts.nn.Parameter(x, requires_grad=False)).tolist() == [2, 2] and f(x).tolist() == [3, 3]


def test_arrays_whose_memory_no_tensor_shares() -> None:
    f = ts.jit(lambda x: x.add_(1))
    with pytest.raises(ValueError, match="jit: an argument is an array of dtype >f4"):
        f(np.ones(3, ">f4"))


def test_the_cache_is_bounded() -> None:
    f = ts.jit(lambda x: x + 1, cache_size=3)
    for n in range(1, 7):
        f(ts.ones((n,)))
    assert f.cache_info() == (0, 6, 3, 3, 0, 0)
    f(ts.ones((6,)))
    f(ts.ones((1,)))  # gone by now
    assert f.cache_info()[:2] == (1, 7)
    f.cache_clear()
    assert f.cache_info() == (0, 0, 3, 0, 0, 0)


def test_the_same_tensor_twice_is_another_signature() -> None:
    f = ts.jit(lambda a, b: a.add_(b))
    x = ts.ones((4,))
    assert f(x, x).tolist() == [2] * 4
    a, b = ts.ones((4,)), ts.full((4,), 5.0)
    assert f(a, b).tolist() == [6] * 4 and b.tolist() == [5] * 4
    both = ts.ones((6,))
    assert f(both[:4], both[2:]).tolist() == [2] * 4 and both.tolist() == [2] * 4 + [1] * 2
    assert f(a, b).tolist() == [11] * 4


def test_an_argument_that_is_also_outside() -> None:
    w = ts.ones((3,))
    f = ts.jit(lambda x: x * 2 + w)
    assert f(w).tolist() == [3] * 3
    y = ts.full((3,), 10.0)
    assert f(y).tolist() == [21] * 3 and f(w).tolist() == [3] * 3 and f(y).tolist() == [21] * 3


def test_methods_and_jit_within_jit() -> None:
    inner = ts.jit(lambda x: x * 3)

    class Scale:
        def __init__(self, k: float) -> None:
            self.k = k

        @ts.jit
        def __call__(self, x: Any) -> Any:
            return inner(x) * self.k

    two, five = Scale(2.0), Scale(5.0)
    for _ in range(3):
        assert two(ts.ones((2,))).tolist() == [6, 6] and five(ts.ones((2,))).tolist() == [15, 15]
    five.k = 7.0
    assert five(ts.ones((2,))).tolist() == [21, 21]
    assert inner.cache_info().currsize == 0


def test_a_result_that_comes_twice_is_one_tensor() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        return y, [y, y[1:]], x, x

    g = ts.jit(f)
    for i in range(3):
        x = tensor(4, seed=i)
        a, (b, c), d, e = g(x)
        assert a is b and d is x and e is x
        a[1] = 5
        assert c[0].item() == 5


def test_results_that_are_views_of_arguments() -> None:
    f = ts.jit(lambda x: (x[1:], x.T, x.reshape(-1)))
    for i in range(3):
        x = tensor(3, 4, seed=i)
        below, turned, flat = f(x)
        below[0, 1] = 9.0
        assert x[1, 1].item() == turned[1, 1].item() == flat[5].item() == 9
        x[2, 0] = 7.0
        assert below[1, 0].item() == turned[0, 2].item() == flat[8].item() == 7
    assert f.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (slice(0, 4), slice(4, 8)), (slice(0, 4), slice(2, 6)), (slice(2, 6), slice(0, 4)), (slice(0, 4), slice(0, 4)),
        (slice(0, 8, 2), slice(1, 8, 2)), (slice(7, 3, -1), slice(0, 4)), (slice(7, 3, -1), slice(4, 8)),
    ],
)  # fmt: skip
def test_arguments_that_share_memory_and_are_written(a: slice, b: slice) -> None:
    def f(x: Any, y: Any) -> Any:
        x.add_(y)
        y.mul_(2)
        return x * y

    def run(f: Any) -> list[Any]:
        memory = tensor(8)
        results = [f(memory[a], memory[b]).tolist() for _ in range(4)]
        other = [tensor(4, seed=1), tensor(4, seed=2)]
        return [results, memory.tolist(), f(*other).tolist(), [x.tolist() for x in other]]

    assert run(f) == run(ts.jit(f))


def test_numpy_arguments_that_share_memory() -> None:
    def f(x: Any, y: Any) -> Any:
        x = ts.asarray(x)
        x += ts.asarray(y)
        return x * 2

    def run(f: Any) -> list[Any]:
        memory = np.arange(8, dtype=np.float32)
        results = [f(memory[:4], memory[2:6]).tolist() for _ in range(3)]
        return [results, [f(memory[:4], memory[4:]).tolist() for _ in range(3)], memory.tolist()]

    assert run(f) == run(ts.jit(f))


def test_recursion() -> None:
    def f(x: Any, n: int) -> Any:
        return x if n == 0 else f(x * 2 + n, n - 1)

    g = ts.jit(f)
    for n in (0, 3, 3, 2, 3, 0):
        assert g(tensor(3), n).tolist() == f(tensor(3), n).tolist()
    assert g.cache_info()[:2] == (3, 3)


def test_modes_of_the_process_are_part_of_the_signature() -> None:
    f = ts.jit(lambda: ts.ones((3,)) * 2)
    assert f().dtype == ts.float32
    ts.set_default_dtype(ts.float64)
    try:
        assert f().dtype == ts.float64
    finally:
        ts.set_default_dtype(ts.float32)
    assert f().dtype == ts.float32 and f.cache_info()[:2] == (1, 2)
