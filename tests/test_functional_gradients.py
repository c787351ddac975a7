"""Jacobians, Hessians and their products: PyTorch's numbers on random programs, and definitions where it is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F

AF = ts.autograd.functional


def array(*values: float) -> Any:
    return ts.asarray(list(values), dtype="float64")


def close(a: Any, b: Any, context: Any = "", tolerance: float = 1e-8) -> None:
    """The same structure, shapes and numbers, whichever library's."""
    if isinstance(a, (tuple, list)):
        assert isinstance(b, (tuple, list)) and len(a) == len(b), context
        for x, y in zip(a, b, strict=True):
            close(x, y, context, tolerance)
        return
    a, b = (np.asarray(x.detach().numpy() if hasattr(x, "detach") else x) for x in (a, b))
    assert a.shape == b.shape, (context, a.shape, b.shape)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=str(context))


# --- random programs ------------------------------------------------------------------------------


def program(seed: int, scalar: bool) -> tuple[list[Any], Callable[[Any, Any], Callable[..., Any]]]:
    """Inputs, and a function of (library, softmax) that makes the program."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    shapes = [[(2, 3), (3,), (), (1, 3)][int(rng.integers(4))] for _ in range(count)]
    inputs = [rng.uniform(0.3, 1.5, shape) for shape in shapes]
    steps = [(int(rng.integers(14)), int(rng.integers(99)), int(rng.integers(99))) for _ in range(5)]
    many = int(rng.integers(1, 4))

    def make(lib: Any, softmax: Any) -> Callable[..., Any]:
        def run(*xs: Any) -> Any:
            pool = list(xs)
            for kind, i, j in steps:
                a, b = pool[i % len(pool)], pool[j % len(pool)]
                pool.append(
                    [
                        lambda a, b: a * b + 1,
                        lambda a, b: lib.sin(a) - b,
                        lambda a, b: lib.tanh(a) * 2,
                        lambda a, b: lib.exp(-a * 0.5) / (1 + b * b),
                        lambda a, b: softmax(a + b, -1) if (a + b).ndim else a - b,
                        lambda a, b: lib.log(1 + a * a),
                        lambda a, b: lib.sqrt(a * a + b * b + 0.1),
                        lambda a, b: a.sum() * b,
                        lambda a, b: (a + b).reshape(-1)[:1] * a,
                        lambda a, b: lib.cumsum(a, -1) if a.ndim else a * a,
                        lambda a, b: (a.T @ a).mean() - b if a.ndim == 2 else a**3,
                        lambda a, b: lib.maximum(a, b * 0.5),
                        lambda a, b: lib.where(a > 0.8, a * a, b),
                        lambda a, b: lib.sigmoid(a) * b.mean(),
                    ][kind](a, b)
                )
            if scalar:
                return (pool[-1] * pool[-2]).sum() + pool[0].sum() ** 2
            return pool[-1] if many == 1 else tuple(pool[-many:])

        return run

    return inputs, make


def both(seed: int, scalar: bool = False) -> tuple[Any, Any, Any, Any, Any]:
    torch = pytest.importorskip("torch")
    inputs, make = program(seed, scalar)
    ours = make(ts, lambda x, axis: F.softmax(x, axis))
    theirs = make(torch, torch.softmax)
    mine = tuple(ts.asarray(x) for x in inputs)
    other = tuple(torch.tensor(x) for x in inputs)
    if len(mine) == 1:
        mine, other = mine[0], other[0]
    return torch, ours, theirs, mine, other


def drawn(rng: Any, like: Any) -> Any:
    if isinstance(like, (tuple, list)):
        return tuple(drawn(rng, x) for x in like)
    return rng.standard_normal(tuple(like.shape))


def converted(function: Any, v: Any) -> Any:
    return tuple(converted(function, x) for x in v) if isinstance(v, tuple) else function(v)


@pytest.mark.parametrize("chunk", range(10))
def test_random_programs(chunk: int) -> None:
    for seed in range(chunk * 20, chunk * 20 + 20):
        torch, ours, theirs, mine, other = both(seed)
        TF = torch.autograd.functional
        rng = np.random.default_rng(seed)
        jacobian = TF.jacobian(theirs, other)
        close(AF.jacobian(ours, mine), jacobian, seed)
        close(AF.jacobian(ours, mine, strategy="forward-mode"), jacobian, seed)
        args = mine if isinstance(mine, tuple) else (mine,)
        argnums = tuple(range(len(args))) if isinstance(mine, tuple) else 0
        close(ts.jacobian(ours, argnums)(*args), jacobian, seed)
        value = theirs(*(other if isinstance(other, tuple) else (other,)))
        v, w = drawn(rng, other), drawn(rng, value)
        pushed = TF.jvp(theirs, other, converted(torch.tensor, v))
        close(AF.jvp(ours, mine, converted(ts.asarray, v)), pushed, seed)
        close(ts.jvp(ours, args, v if isinstance(v, tuple) else (v,)), pushed, seed)
        close(
            AF.vjp(ours, mine, converted(ts.asarray, w)),
            TF.vjp(theirs, other, converted(torch.tensor, w)),
            seed,
        )


@pytest.mark.parametrize("chunk", range(10))
def test_random_second_derivatives(chunk: int) -> None:
    for seed in range(chunk * 10, chunk * 10 + 10):
        torch, ours, theirs, mine, other = both(seed, scalar=True)
        TF = torch.autograd.functional
        rng = np.random.default_rng(seed)
        hessian = TF.hessian(theirs, other)
        close(AF.hessian(ours, mine), hessian, seed)
        close(AF.hessian(ours, mine, outer_jacobian_strategy="forward-mode"), hessian, seed)
        args = mine if isinstance(mine, tuple) else (mine,)
        argnums = tuple(range(len(args))) if isinstance(mine, tuple) else 0
        close(ts.hessian(ours, argnums)(*args), hessian, seed)
        v = drawn(rng, other)
        for name in ("hvp", "vhp"):
            close(
                getattr(AF, name)(ours, mine, converted(ts.asarray, v)),
                getattr(TF, name)(theirs, other, converted(torch.tensor, v)),
                seed,
            )


def squares(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return sum(squares(x) for x in value)
    return (value * value).sum()


@pytest.mark.parametrize("name", ["jacobian", "forward", "vjp", "jvp", "hessian", "hvp", "vhp"])
def test_gradients_through_random_programs(name: str) -> None:
    for seed in range(15):
        torch, ours, theirs, mine, other = both(seed, scalar=name in ("hessian", "hvp", "vhp"))
        rng = np.random.default_rng(seed)
        mine, other = (tuple(x) if isinstance(x, tuple) else (x,) for x in (mine, other))
        for x in (*mine, *other):
            x.requires_grad_()
        results = []
        for lib, function, xs, make, module in (
            (ts, ours, mine, ts.tensor, AF),
            (torch, theirs, other, torch.tensor, torch.autograd.functional),
        ):
            options: dict[str, Any] = {"create_graph": True}
            leaves = list(xs)
            if name in ("vjp", "jvp", "hvp", "vhp"):
                rng = np.random.default_rng(seed)
                like = function(*xs) if name == "vjp" else xs
                v = converted(make, drawn(rng, like))
                leaves += [x.requires_grad_() for x in (v if isinstance(v, tuple) else (v,))]
                options["v"] = v
            if name == "forward" and lib is ts:
                options["strategy"] = "forward-mode"
            result = getattr(module, "jacobian" if name == "forward" else name)(function, xs, **options)
            squares(result).backward()
            results.append([np.zeros(tuple(x.shape)) if x.grad is None else x.grad.numpy() for x in leaves])
        close(results[0], results[1], seed, 1e-7)


# --- definitions ----------------------------------------------------------------------------------


def test_by_definition() -> None:
    x, m = array(1, 2, 3), ts.asarray(np.arange(6.0).reshape(2, 3))

    def f(x: Any) -> Any:
        return m @ (x * x)

    expected = m.numpy() * 2 * x.numpy()
    close(ts.jacobian(f)(x), expected)
    close(AF.jacobian(f, x, strategy="forward-mode"), expected)
    close(ts.jvp(f, (x,), (array(1, 0, -1),)), (f(x), expected @ [1, 0, -1]))
    close(AF.vjp(f, x, array(1, 2)), (f(x), [1, 2] @ expected))
    close(ts.hessian(f)(x), 2 * m.numpy()[:, :, None] * np.eye(3))
    close(AF.hessian(lambda x: (x * x * x).sum(), x), np.diag(6 * x.numpy()))
    close(AF.hvp(lambda x: (x * x * x).sum(), x, array(1, 1, 2)), (array(36).sum(), [6, 12, 36]))


def test_structures_and_shapes() -> None:
    a, b = ts.ones((2, 3), dtype="float64"), ts.ones((4,), dtype="float64")

    def f(a: Any, b: Any) -> Any:
        return a.sum(axis=0), b[:2] * 2

    blocks = AF.jacobian(f, (a, b))
    assert [[y.shape for y in row] for row in blocks] == [[(3, 2, 3), (3, 4)], [(2, 2, 3), (2, 4)]]
    assert not blocks[0][1].any() and not blocks[1][0].any()
    assert AF.jacobian(lambda a: f(a, b), a)[0].shape == (3, 2, 3)
    assert AF.jacobian(lambda a, b: a.sum(), (a, b))[1].shape == (4,)
    rows = AF.hessian(lambda a, b: a.sum() * b.sum(), (a, b))
    assert [[y.shape for y in row] for row in rows] == [[(2, 3, 2, 3), (2, 3, 4)], [(4, 2, 3), (4, 4)]]
    assert AF.hessian(lambda a: (a * a).sum().reshape(1, 1), (a,))[0][0].shape == (2, 3, 2, 3)
    assert AF.jacobian(lambda a: a * 2, ts.zeros((0, 3))).shape == (0, 3, 0, 3)
    assert AF.jacobian(lambda a: a.sum(), ts.zeros((0,)), strategy="forward-mode").shape == (0,)
    nested = ts.jacobian(lambda a, b: [a.sum(), (b, a)], 1)(a, b)
    assert isinstance(nested, list) and nested[0].shape == (4,) and nested[1][0].shape == (4, 4)
    assert not nested[1][1].any()
    x = ts.ones((3,), dtype="float32")
    assert ts.jacobian(lambda x: x.astype("float64") * x)(x).dtype == ts.float32
    value, tangent = ts.jvp(lambda x: (ts.argmax(x), x), (x,), (x,))
    assert tangent[0].item() == 0 and value[0].dtype == tangent[0].dtype


def test_transforms_nest() -> None:
    x = array(0.5, 1.5)

    def f(x: Any) -> Any:
        return (ts.sin(x) * x[0]).sum()

    expected = AF.hessian(f, x)
    v = array(1, -2)
    close(ts.jacobian(ts.grad(f))(x), expected)
    close(ts.jvp(ts.grad(f), (x,), (v,))[1], expected @ v)
    close(ts.grad(lambda x: ts.jvp(f, (x,), (v,))[1])(x), expected @ v)
    close(ts.jacobian(lambda x: ts.vjp(f, x)[1](ts.asarray(1.0, dtype="float64"))[0])(x), expected)
    close(ts.jvp(lambda x: ts.jvp(f, (x,), (v,))[1], (x,), (v,))[1], v @ expected @ v)
    close(ts.jacobian(lambda x: ts.jacobian(f)(x))(x), expected)
    close(ts.grad(lambda x: ts.jacobian(lambda y: x * y * y)(x).sum())(x), 4 * x.numpy())
    # d/dx (x * d/dy (x + y)) is 1: the inner derivative does not see the outer one's x.
    one = ts.asarray(1.0, dtype="float64")
    close(ts.jvp(lambda x: x * ts.jvp(lambda y: x + y, (one,), (one,))[1], (one,), (one,))[1], 1.0)
    third = ts.jacobian(ts.hessian(lambda x: (x**4).sum()))(x)
    assert third.shape == (2, 2, 2) and np.isclose(third[1, 1, 1].item(), 24 * 1.5)


def test_transforms_see_what_inner_functions_close_over() -> None:
    x, w, v = array(1, 2), array(3, 4), array(1, 1)

    def inner(w: Any) -> Callable[..., Any]:
        return lambda x: w * x * x

    grad = lambda w: ts.grad(lambda x: inner(w)(x).sum())(x)  # noqa: E731
    pulled = lambda w: ts.vjp(inner(w), x)[1](v)[0]  # noqa: E731
    pushed = lambda w: ts.jvp(inner(w), (x,), (v,))[1]  # noqa: E731

    def check(product: Any) -> None:
        close(ts.jacobian(product)(w), np.diag([2, 4]))
        close(AF.jacobian(product, w), np.diag([2, 4]))
        close(AF.jvp(product, w, v)[1], array(2, 4))
        close(ts.vjp(product, w)[1](v)[0], array(2, 4))
        close(ts.grad(lambda w: (w + product(w)).sum())(w), array(3, 5))
        close(AF.hessian(lambda w: (w * product(w)).sum(), w), np.diag([4, 8]))
        assert not product(w).requires_grad

    for product in (grad, pulled, pushed):
        check(product)


def test_what_results_carry() -> None:
    x = ts.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    weight = ts.tensor([3.0, 4.0], dtype="float64", requires_grad=True)

    def f(x: Any) -> Any:
        return weight * x * x

    for result in (
        AF.jacobian(f, x),
        *AF.jvp(f, x, x),
        *AF.vjp(f, x, x),
        *AF.hvp(lambda x: f(x).sum(), x, x),
        AF.hessian(lambda x: f(x).sum(), x),
        *ts.jvp(f, (x.detach(),), (x.detach(),)),
        ts.jacobian(f)(x.detach()),
    ):
        assert not result.requires_grad
    assert x.grad is None and weight.grad is None
    AF.jacobian(f, x.detach(), create_graph=True).sum().backward()  # through what f closes over
    assert weight.grad.tolist() == [2, 4] and x.grad is None
    ts.jacobian(f)(x).sum().backward()
    assert x.grad.tolist() == [6, 8]
    with ts.no_grad():
        close(AF.jacobian(f, x), np.diag([6, 16]))
        close(ts.jvp(f, (x,), (array(1, 1),))[1], [6, 16])
        assert not ts.is_grad_enabled()


def test_complex_numbers() -> None:
    torch = pytest.importorskip("torch")
    z, v = np.array([1 + 2j, -0.5 + 1j]), np.array([0.3 - 1j, 2 + 0.1j])

    def f(lib: Any) -> Any:
        return lambda z: lib.exp(z) * z[0] + lib.conj(z)

    ours = AF.jvp(f(ts), ts.asarray(z), ts.asarray(v))
    close(ours, torch.autograd.functional.jvp(f(torch), torch.tensor(z), torch.tensor(v)))
    step = 1e-6
    close(ours[1], (f(np)(z + step * v) - f(np)(z - step * v)) / (2 * step), tolerance=1e-7)
    close(ts.jvp(f(ts), (z,), (v,)), ours)
    close(
        AF.vjp(f(ts), ts.asarray(z), ts.asarray(v)),
        torch.autograd.functional.vjp(f(torch), torch.tensor(z), torch.tensor(v)),
    )
    real = AF.jacobian(lambda z: ts.abs(z) ** 2, ts.asarray(z))
    close(real, np.diag(2 * z))
    with pytest.raises(TypeError, match="jacobian: output 0 is complex128; it must be real"):
        AF.jacobian(f(ts), ts.asarray(z))
    with pytest.raises(TypeError, match="hessian: input 0 is complex128; it must be real"):
        AF.hessian(lambda z: ts.abs(z).sum(), ts.asarray(z))


def test_layers() -> None:
    """The Jacobian of a network, each way, and its product with the parameters' tangents."""
    ts.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 2)).double()
    x = ts.asarray(np.random.default_rng(0).standard_normal((3,)))
    step, expected = 1e-6, []
    with ts.no_grad():
        for i in range(3):
            unit = ts.asarray(np.eye(3)[i] * step)
            expected.append(((net(x + unit) - net(x - unit)) / (2 * step)).numpy())
    for strategy in ("forward-mode", "reverse-mode"):
        close(AF.jacobian(net, x, strategy=strategy), np.stack(expected, -1), tolerance=1e-7)
    assert all(p.grad is None for p in net.parameters())


def test_the_same_bits_on_any_number_of_threads() -> None:
    x = ts.asarray(np.random.default_rng(0).standard_normal((40, 50)))
    seen, threads = [], ts.get_num_threads()
    try:
        for count in (1, 2):
            ts.set_num_threads(count)
            seen.append(ts.jvp(lambda x: F.softmax(x @ x.T, -1), (x,), (x,))[1].numpy().tobytes())
    finally:
        ts.set_num_threads(threads)
    assert seen[0] == seen[1]


def test_strict() -> None:
    x, y = array(1, 2), array(3, 4)
    one = array(1).sum()
    for call, message in (
        (lambda: AF.jacobian(lambda x: y, x, strict=True), "jacobian: output 0 does not depend on the inputs"),
        (lambda: AF.jacobian(lambda x, y: x, (x, y), strict=True), "jacobian: output 0, .* input 1"),
        (lambda: AF.jacobian(lambda x: x * 2, x, True, True), "jacobian: output 0, or its Jacobian, .* input 0"),
        (lambda: AF.vjp(lambda x, y: x, (x, y), x, strict=True), "vjp: .* input 1"),
        (lambda: AF.jvp(lambda x, y: x, (x, y), (x, y), strict=True), "jvp: .* input 1"),
        (lambda: AF.jvp(lambda x: (x, one), x, x, strict=True), "jvp: output 1 does not depend"),
        (lambda: AF.hvp(lambda x: x.sum(), x, x, strict=True), "hvp: the output, or its gradient, .* input 0"),
        (lambda: AF.hessian(lambda x: x.sum(), x, strict=True), "hessian: the output, or its gradient, .* input 0"),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=message):
            call()  # type: ignore[no-untyped-call]
    close(AF.jacobian(lambda x: x * x, x, True, True), np.diag([2, 4]))
    close(AF.hessian(lambda x: (x**3).sum(), x, strict=True), np.diag([6, 12]))
    close(AF.hessian(lambda x: x.sum(), x), np.zeros((2, 2)))
    close(AF.jvp(lambda x: (x, one), x, x)[1], (x, 0.0))


def test_junk_is_refused_by_name() -> None:
    x = array(1, 2)
    for call, error, message in (
        (lambda: AF.jacobian(abs, 3), TypeError, "jacobian: inputs must be a tensor or a tuple of tensors, got int"),
        (lambda: AF.vjp(abs, (x, 3)), TypeError, "vjp: inputs must be .* got int at index 1"),
        (lambda: AF.jacobian(3, x), TypeError, "jacobian: func must be a function, got int"),
        (lambda: AF.jacobian(lambda x: 3, x), TypeError, "jacobian: what the function returns must be .* got int"),
        (lambda: AF.jacobian(abs, ts.asarray([1])), TypeError, "input 0 must be floating-point or complex, got int64"),
        (lambda: AF.jacobian(abs, x, strategy="both"), ValueError, "must be 'forward-mode' or .* got 'both'"),
        (lambda: AF.jacobian(abs, x, False, True, strategy="forward-mode"), ValueError, "strict=True is for"),
        (lambda: AF.vjp(abs, x), ValueError, "vjp: v may be None only where there is one output with one element"),
        (lambda: AF.jvp(abs, x), ValueError, "jvp: v may be None only where there is one input with one element"),
        (lambda: AF.jvp(abs, x, x[:1]), ValueError, r"v must have the shape of input 0, \(2,\), got \(1,\)"),
        (lambda: AF.vjp(abs, x, (x, x)), ValueError, "vjp: v must have a tensor for each output, 1, got 2"),
        (lambda: AF.vjp(abs, x, "x"), TypeError, "vjp: v must be a tensor or a tuple of tensors, got str"),
        (lambda: AF.jvp(abs, x, x * 1j), TypeError, "jvp: v is complex128 where input 0 is float64"),
        (lambda: AF.hessian(abs, x), ValueError, r"hessian: the function must return one tensor with one element, got"),
        (lambda: AF.hvp(lambda x: (x.sum(), x), x, x), ValueError, "hvp: .* got 2 tensors"),
        (lambda: ts.jvp(abs, x, x), TypeError, "jvp: primals must be a tuple of the function's arguments, got Tensor"),
        (lambda: ts.jvp(abs, (x,), (x, x)), ValueError, "jvp: tangents must have a tensor for each primal, 1, got 2"),
        (lambda: ts.jvp(abs, (1,), (1,)), TypeError, "jvp: primal 0 must be floating-point or complex, got int64"),
        (lambda: ts.jacobian(abs)([1]), TypeError, "jacobian: argument 0 must be floating-point or complex, got int64"),
        (lambda: ts.jacobian(3), TypeError, "jacobian: expected a function, got int"),
        (lambda: ts.grad(x, x), TypeError, r"grad: expected a function, got Tensor; ts.autograd.gradients"),
        (lambda: ts.value_and_grad(3), TypeError, "value_and_grad: expected a function, got int"),
        (lambda: ts.vjp(x, x), TypeError, "vjp: expected a function, got Tensor"),
        (lambda: ts.jvp(3, (x,), (x,)), TypeError, "jvp: expected a function, got int"),
        (lambda: ts.hessian(x), TypeError, "hessian: expected a function, got Tensor"),
        (lambda: ts.jacobian(abs, "a")(x), TypeError, "jacobian: argnums must be an integer or several, got 'a'"),
        (lambda: ts.grad(abs, 0.5)(x), TypeError, "grad: argnums must be an integer or several, got 0.5"),
        (lambda: ts.jvp(lambda x: {"x": x}, (x,), (x,)), TypeError, "jvp: the function must return tensors, .* dict"),
        (lambda: ts.jacobian(abs, 1)(x), ValueError, "jacobian: argnums 1 for a call with 1 arguments"),
        (lambda: ts.jacobian(lambda x: x * 1j)(x), TypeError, "jacobian: output 0 is complex128; it must be real"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]
