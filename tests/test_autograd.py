"""The tape: what it promises about modes, hooks, versions, views, custom functions and memory."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts


def leaf(*values: float) -> Any:
    return ts.tensor(list(values), dtype="float64", requires_grad=True)


def test_backward_accumulates() -> None:
    x = leaf(1, 2, 3)
    (x * x).sum().backward()
    (x * 2).sum().backward()
    assert x.grad.tolist() == [4, 6, 8]


def test_grad_does_not_alias_what_it_came_from() -> None:
    a, b = leaf(1, 2), leaf(3, 4)
    dy = ts.ones(2, dtype="float64")
    (a + b).backward(dy)
    a.grad.fill_(5)
    assert b.grad.tolist() == [1, 1] and dy.tolist() == [1, 1]


def test_shared_subgraph_is_visited_once() -> None:
    calls = []
    x = leaf(2)
    y = x * 3
    y.register_hook(lambda g: calls.append(g.item()))
    (y * y + y).sum().backward()
    assert calls == [13.0] and x.grad.item() == 39.0


def test_deep_chain_needs_no_recursion() -> None:
    x = leaf(1)
    y = x
    for _ in range(50_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.item() == 1
    del y  # freeing the chain must not recurse either


def test_no_grad_and_enable_grad() -> None:
    x = leaf(1)
    with ts.no_grad():
        assert not (x * 2).requires_grad
        with ts.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @ts.no_grad()
    def f(x: Any) -> Any:
        return x * 2

    assert not f(x).requires_grad and ts.is_grad_enabled()


def test_no_grad_is_left_when_the_body_raises() -> None:
    with pytest.raises(KeyError), ts.no_grad():
        raise KeyError
    assert ts.is_grad_enabled()


def test_modes_as_decorators() -> None:
    off = ts.set_grad_enabled(False)(ts.is_grad_enabled)
    on = ts.set_grad_enabled(True)(ts.is_grad_enabled)
    assert ts.is_grad_enabled() and not off() and on() and ts.is_grad_enabled()
    with ts.no_grad():
        assert on() and not ts.is_grad_enabled()
    assert not ts.no_grad(ts.is_grad_enabled)() and not ts.no_grad()(ts.is_grad_enabled)()
    with pytest.raises(TypeError, match="no_grad: expected a function, got int"):
        ts.no_grad(3)
    mode = ts.set_grad_enabled(False)
    with mode:
        with mode:
            assert not ts.is_grad_enabled()
        assert not ts.is_grad_enabled()
    assert ts.is_grad_enabled()


def test_a_mode_holds_while_a_generator_runs() -> None:
    @ts.no_grad()
    def steps() -> Any:
        got = yield ts.is_grad_enabled()
        try:
            yield got, ts.is_grad_enabled()
        except KeyError:
            yield ts.is_grad_enabled()
        return "end"

    run = steps()
    assert next(run) is False and ts.is_grad_enabled()
    assert run.send(5) == (5, False) and ts.is_grad_enabled()
    assert run.throw(KeyError) is False and ts.is_grad_enabled()
    with pytest.raises(StopIteration, match="end"):
        next(run)
    assert ts.is_grad_enabled()


def test_one_mode_entered_by_two_threads() -> None:
    mode, inside, left, after = ts.no_grad(), threading.Event(), threading.Event(), []

    def other() -> None:
        ts.set_grad_enabled(False)
        inside.wait(10)
        with mode:
            pass
        after.append(ts.is_grad_enabled())
        left.set()

    thread = threading.Thread(target=other)
    thread.start()
    with mode:
        inside.set()
        left.wait(10)
    thread.join()
    assert ts.is_grad_enabled() and after == [False]


def test_leaf_hook_sees_the_total_and_can_replace_it() -> None:
    x = leaf(1, 1)
    handle = x.register_hook(lambda g: g * 10)
    (x + x).sum().backward()
    assert x.grad.tolist() == [20, 20]
    handle.remove()
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_retain_grad() -> None:
    x = leaf(2)
    y = x * x
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.item() == 3


def test_retain_grad_twice_and_behind_other_hooks() -> None:
    x = leaf(1, 2)
    y = x * 3
    y.retain_grad()
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    y.register_hook(lambda g: g + 1)
    y.sum().backward()
    assert y.grad.tolist() == [3, 3] and x.grad.tolist() == [9, 9]
    with pytest.raises(RuntimeError, match="retain_grad: the tensor does not require a gradient"):
        ts.ones(2).retain_grad()
    with pytest.raises(TypeError, match="register_hook: hook must be callable, got int"):
        x.register_hook(3)


def test_hook_cycle_is_collected() -> None:
    x = leaf(1)
    y = x * 2
    y.register_hook(lambda g, y=y: g)
    gone = weakref.ref(y)
    del y
    gc.collect()
    assert gone() is None


def test_graph_is_freed_without_the_collector() -> None:
    gc.disable()
    try:
        x = leaf(1)
        y = x.exp()  # saves its own output
        gone = weakref.ref(y)
        del y
        assert gone() is None
    finally:
        gc.enable()


def test_failed_backward_changes_no_grad() -> None:
    x, w = leaf(1), leaf(2)

    class Broken(ts.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            raise KeyError("broken")

    with pytest.raises(KeyError):
        (w * 2 + Broken.apply(x)).sum().backward()
    assert x.grad is None and w.grad is None


def test_gradients_of_leaves_and_others() -> None:
    x = leaf(3)
    y = x * x
    z = y * y
    gx, gy = ts.autograd.gradients(z, [x, y])
    assert gx.item() == 4 * 27 and gy.item() == 18 and x.grad is None
    with pytest.raises(RuntimeError, match="do not depend"):
        ts.autograd.gradients((x * 1).sum(), [leaf(1)])


def test_higher_derivatives() -> None:
    def f(x: Any) -> Any:
        return ts.sin(x) * x

    x = 0.7
    second = ts.grad(ts.grad(f))(ts.array(x, dtype="float64")).item()
    assert second == pytest.approx(2 * np.cos(x) - x * np.sin(x))
    third = ts.grad(ts.grad(ts.grad(f)))(ts.array(x, dtype="float64")).item()
    assert third == pytest.approx(-3 * np.sin(x) - x * np.cos(x))


def test_grad_nests_through_closures() -> None:
    # d/dx of d/dy (x y^2) at y = x is d/dx (2 x x) = 4 x.
    outer = ts.grad(lambda x: ts.grad(lambda y: x * y * y)(x))
    assert outer(ts.array(3.0)).item() == pytest.approx(12.0)


def test_vjp() -> None:
    value, pullback = ts.vjp(lambda a, b: a * b, ts.array([1.0, 2.0]), ts.array([3.0, 4.0]))
    assert value.tolist() == [3, 8]
    da, db = pullback(ts.array([1.0, 10.0]))
    assert da.tolist() == [3, 40] and db.tolist() == [1, 20]


def test_custom_function() -> None:
    class Cube(ts.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, scale: float) -> Any:
            ctx.save_for_backward(x)
            ctx.scale = scale
            return x * x * x * scale

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * x * x * 3 * ctx.scale, None

    x = leaf(2)
    Cube.apply(x, 2.0).sum().backward()
    assert x.grad.item() == 24
    y = Cube.apply(leaf(2), 1.0)
    (g,) = ts.autograd.gradients(y.sum(), [x := leaf(1)], allow_unused=True)
    assert g is None

    x = leaf(2)
    y = Cube.apply(x, 1.0)
    with ts.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()


class Halves(ts.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, places: Any, scale: float) -> Any:
        ctx.scale = scale
        order = x * 0
        ctx.mark_non_differentiable(order)
        return x * scale, places, order, x[1:]

    @staticmethod
    def backward(ctx: Any, *dys: Any) -> Any:
        assert dys[1] is None and dys[2].tolist() == [0, 0, 0]
        dx = dys[0] * ctx.scale
        dx[1:] += dys[3]
        return dx, None, None, None


def test_custom_function_with_other_results() -> None:
    x = leaf(1, 2, 3)
    y, places, order, rest = Halves.apply(x, [7], 2.0)
    assert places == [7] and not order.requires_grad and y.requires_grad and rest.requires_grad
    (y.sum() + rest.sum() * 10).backward()
    assert x.grad.tolist() == [2, 12, 12]


def test_custom_function_with_setup_context() -> None:
    class Cube(ts.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:  # type: ignore[override]
            return x * x * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * 3 * ctx.saved_tensors[0] ** 2

    x = leaf(1, 2)
    Cube.apply(x).sum().backward()
    assert x.grad.tolist() == [3, 12]


def test_custom_gradients_that_do_not_fit_are_named() -> None:
    class Wrong(ts.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return ts.ones(7)

    with pytest.raises(
        ValueError, match=r"Wrong.backward: the gradient for argument 0 has shape \(7,\).*\(2,\)"
    ):
        Wrong.apply(leaf(1, 2)).sum().backward()


def test_second_derivative_of_custom_function() -> None:
    class Square(ts.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * x * 2

    x = leaf(3)
    (g,) = ts.autograd.gradients(Square.apply(x).sum(), [x], create_graph=True)
    (h,) = ts.autograd.gradients(g.sum(), [x])
    assert h.item() == 2


def test_in_place_is_recorded() -> None:
    x = leaf(1, 2)
    y = x * 3
    y += x
    y *= 2
    y.sum().backward()
    assert x.grad.tolist() == [8, 8]


def test_in_place_assignment_is_recorded() -> None:
    x, v = leaf(1, 2, 3), leaf(5)
    y = x * 2
    y[1] = v[0]
    (y * y).sum().backward()
    assert x.grad.tolist() == [8, 0, 24] and v.grad.tolist() == [10]


def test_stale_view_is_refused() -> None:
    x = leaf(1, 2)
    y = x * 2
    view = y[0]
    with ts.no_grad():
        y.mul_(3)
    with pytest.raises(RuntimeError, match="view"):
        view * 2  # its value changed, its history did not


def test_recorded_write_to_shared_memory_is_refused() -> None:
    base = ts.zeros(3, dtype="float64")
    view = base[:2]
    with pytest.raises(RuntimeError, match="shares its memory"):
        view.add_(leaf(1, 2))
    assert base.tolist() == [0, 0, 0]


@pytest.mark.parametrize("change", ["add_", "zero_", "setitem", "detach alias"])
def test_saved_values_are_protected(change: str) -> None:
    x = leaf(1, 2)
    w = leaf(3, 4)
    y = x * w  # saves both
    with ts.no_grad():
        if change == "add_":
            x.add_(1)
        elif change == "zero_":
            x.zero_()
        elif change == "setitem":
            x[0] = 5
        else:
            x.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()


def test_integers_have_no_gradient() -> None:
    with pytest.raises(TypeError, match="floating"):
        ts.array([1, 2]).requires_grad_()
    x = leaf(1, 3, 2)
    assert not ts.argmax(x).requires_grad
    assert not (x > 1).requires_grad


def test_numpy_refuses_to_lose_a_gradient() -> None:
    x = leaf(1)
    with pytest.raises(RuntimeError, match="detach"):
        x.numpy()
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(x * 2)
    assert x.detach().numpy().tolist() == [1]


def test_gradient_dtype_and_shape_follow_the_input() -> None:
    x = ts.tensor([[1.0], [2.0]], requires_grad=True)
    y = ts.tensor([1.0, 2.0, 3.0], dtype="float64", requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.shape == (2, 1) and x.grad.dtype == ts.float32
    assert y.grad.shape == (3,) and y.grad.dtype == ts.float64


def test_wrong_gradients_are_caught_by_the_checker() -> None:
    """The numerical check of test_ops tells a gradient that is 0.05 % off."""
    from test_ops import numerical

    class Off(ts.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0] * (2 * 1.0005)

    x = leaf(1, -2, 3)
    Off.apply(x).sum().backward()
    expected = numerical(lambda xs: float((xs[0] * xs[0]).sum()), [x.detach().numpy()], 0)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_what_changes_nothing_gives_the_leaf_itself() -> None:
    x = ts.ones((2, 2)).requires_grad_()
    for y in (
        x.to("cpu"), x.to(ts.float32), x.to(x), x.to("cpu:0", "float32"), x.float(), x.cpu(), x.type_as(x),
        x.to_device("cpu"),
    ):  # fmt: skip
        assert y is x
    assert x.to("cpu", copy=True) is not x
    x.to("cpu").sum().backward()
    assert x.grad.tolist() == [[1, 1], [1, 1]]


def test_a_fill_value_keeps_its_gradient() -> None:
    value, like = ts.array(2.0).requires_grad_(), ts.ones((2, 3)).requires_grad_()
    (ts.full((2, 3), value) * ts.arange(6.0).reshape(2, 3)).sum().backward()
    assert value.grad == 15
    ts.full_like(like, value).sum().backward()
    assert value.grad == 21 and like.grad is None
    assert not ts.full_like(like, 2.0).requires_grad and not ts.full(3, value, dtype="int64").requires_grad


def test_unique_values_keep_their_gradient() -> None:
    """It goes to the first of the elements that are equal."""
    x = ts.array([3.0, 1.0, 3.0, 2.0, 1.0]).requires_grad_()
    for values in (
        ts.unique(x),
        ts.unique_values(x),
        ts.unique_counts(x).values,
        ts.unique(x, return_inverse=True)[0],
    ):
        x.grad = None
        (values * ts.array([1.0, 2.0, 3.0])).sum().backward()
        assert x.grad.tolist() == [3, 1, 0, 2, 0]
    rows = ts.array([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]]).requires_grad_()
    ts.unique(rows, axis=0).sum().backward()
    assert rows.grad.tolist() == [[1, 1], [0, 0], [1, 1]]
