"""`ts.autograd.gradcheck` and `gradgradcheck`: right gradients pass, wrong ones do not, and nothing is changed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.autograd import GradcheckError, gradcheck, gradgradcheck


def leaf(*shape: int, dtype: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype[0] == "c" else 0)
    return ts.asarray(values).astype(dtype).requires_grad_()


class Wrong(ts.autograd.Function):
    """x^2 whose gradient is off at one element, by as much as `by`; 0 is right."""

    @staticmethod
    def forward(ctx: Any, x: Any, by: float) -> Any:
        ctx.save_for_backward(x)
        ctx.by = by
        return x * x

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        off = np.zeros(x.shape)
        off.reshape(-1)[-1] = ctx.by
        return dy * 2 * x + ts.asarray(off), None


FUNCTIONS = [
    (lambda x: x * x * x, [(3, 2)]),
    (lambda x, y: (x @ y, ts.sin(x).sum()), [(2, 3), (3, 2)]),
    (lambda x: ts.exp(x), [()]),
    (lambda x: x.sum(), [(0, 3)]),
    (lambda x, y: ts.where(x > 0, x * y, y * y), [(4,), (4,)]),
]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("function", "shapes"), FUNCTIONS)
def test_right_gradients(function: Any, shapes: Any, fast: bool) -> None:
    inputs = tuple(leaf(*shape, seed=i) for i, shape in enumerate(shapes))
    before = [(x.tolist(), x._version) for x in inputs]
    assert gradcheck(function, inputs, fast_mode=fast)
    assert gradgradcheck(function, inputs, fast_mode=fast)
    assert gradgradcheck(function, inputs, fast_mode=fast, gen_non_contig_grad_outputs=True)
    assert [(x.tolist(), x._version) for x in inputs] == before
    assert all(x.grad is None for x in inputs)


@pytest.mark.parametrize("fast", [False, True])
def test_complex_numbers(fast: bool) -> None:
    z, x = leaf(3, dtype="complex128"), leaf(3)
    for function, inputs in (
        (lambda z: z * z, (z,)),
        (lambda z: z.conj() * z.real, (z,)),
        (lambda z, x: (ts.exp(z * x), ts.abs(z)), (z, x)),
    ):
        assert gradcheck(function, inputs, fast_mode=fast) and gradgradcheck(function, inputs, fast_mode=fast)

    class Unconjugated(ts.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Any) -> Any:
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return 2 * ctx.saved_tensors[0] * dy

    with pytest.raises(GradcheckError, match="the Jacobian of output 0 with respect to input 0 is wrong"):
        gradcheck(Unconjugated.apply, z, fast_mode=fast)


@pytest.mark.parametrize("fast", [False, True])
def test_wrong_gradients(fast: bool) -> None:
    x = leaf(2, 2)
    assert gradcheck(lambda x: Wrong.apply(x, 0.0), x, fast_mode=fast)
    message = "with respect to input 0 is wrong: the gradients say .* and the differences"
    with pytest.raises(GradcheckError, match=message):
        gradcheck(lambda x: Wrong.apply(x, 0.1), x, fast_mode=fast)
    assert gradcheck(lambda x: Wrong.apply(x, 0.1), x, fast_mode=fast, raise_exception=False) is False
    assert gradcheck(lambda x: Wrong.apply(x, 0.1), x, fast_mode=fast, atol=0.5)
    with pytest.raises(GradcheckError, match="output 1 with respect to input 2"):
        gradcheck(lambda x, n, y: (x + y, x + y.detach()), (leaf(2), 3, leaf(2)), fast_mode=fast)


def test_where_it_is_wrong() -> None:
    with pytest.raises(GradcheckError, match=r"at \(3, 3\) of its components"):
        gradcheck(lambda x: Wrong.apply(x, 0.1) * ts.asarray([[0.0, 0.0], [0.0, 1.0]]), leaf(2, 2))


def test_wrong_second_derivatives() -> None:
    class Once(ts.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            x = ctx.saved_tensors[0].detach()  # whose own gradient is lost
            return 3 * x * x * dy

    x = leaf(3)
    assert gradcheck(Once.apply, x)
    with pytest.raises(GradcheckError, match="the Jacobian of output 0 with respect to input 0 is wrong"):
        gradgradcheck(Once.apply, x)
    assert gradgradcheck(Once.apply, x, raise_exception=False) is False
    assert gradgradcheck(lambda x: x * x * x, x, ts.ones(3, dtype="float64"))


def test_nan_is_wrong() -> None:
    x = ts.tensor([0.0, 1.0], dtype="float64", requires_grad=True)
    with np.errstate(all="ignore"), pytest.raises(GradcheckError):
        gradcheck(lambda x: ts.sqrt(x), x)


def test_no_output_has_a_gradient() -> None:
    x = leaf(3)
    assert gradcheck(lambda x: ts.ones(2), x)
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x.detach() * 2, x)


def test_backward_that_is_not_the_same_twice() -> None:
    class Counts(ts.autograd.Function):
        calls = 0

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            Counts.calls += 1
            return dy * (2 + 1e-8 * Counts.calls)

    with pytest.raises(GradcheckError, match=r"two backward passes of output 0 .* more than nondet_tol"):
        gradcheck(Counts.apply, leaf(3))
    assert gradcheck(Counts.apply, leaf(3), nondet_tol=1e-4)


def test_parameters_that_the_function_reaches_by_itself() -> None:
    net, x = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double(), leaf(4, 3)
    before = [p.tolist() for p in net.parameters()]
    pending = (net(x) ** 2).sum()  # saved the weights
    assert gradcheck(lambda *_: net(x), (x, *net.parameters()))
    assert gradgradcheck(lambda *_: net(x), (x, *net.parameters()))
    assert [p.tolist() for p in net.parameters()] == before
    pending.backward()
    assert x.grad is not None


def test_inputs_come_back_after_an_error() -> None:
    x, calls = leaf(3), []
    before = x.tolist()

    def function(x: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise KeyError("fourth")
        return x * 2

    with pytest.raises(KeyError, match="fourth"):
        gradcheck(function, x, raise_exception=False)
    assert x.tolist() == before


def test_views_and_other_dtypes() -> None:
    x = leaf(4, 3).detach().T[::2].requires_grad_()
    assert not x.is_contiguous() and gradcheck(lambda x: x * x, x)
    computed = leaf(3) * 2
    assert gradcheck(lambda x: x * x, computed)
    for dtype, step in (("float32", 1e-2), ("bfloat16", 0.25)):
        with pytest.warns(UserWarning, match=f"input 0 is {dtype}"):
            assert gradcheck(lambda x: x * 2, leaf(3, dtype=dtype), eps=step, atol=0.1, rtol=0.1)
    with ts.no_grad():
        assert gradcheck(lambda x: x * x, leaf(3))


def test_what_is_refused() -> None:
    x = leaf(3)
    wide = ts.broadcast_to(ts.zeros(1, dtype="float64"), (3,)).requires_grad_()
    array = np.zeros(3)
    array.flags.writeable = False
    for call, error, message in (
        (lambda: gradcheck(3, x), TypeError, "gradcheck: func must be a function, got int"),
        (lambda: gradcheck(ts.sin, x.detach()), ValueError, "none of the inputs is a tensor that requires a gradient"),
        (lambda: gradcheck(ts.sin, x, eps=0), ValueError, "eps must be > 0, got 0"),
        (lambda: gradcheck(ts.sin, x, atol=-1.0), ValueError, "atol must be >= 0, got -1.0"),
        (lambda: gradcheck(ts.sin, x, rtol="1"), TypeError, "rtol must be a number, got '1'"),
        (lambda: gradcheck(ts.sin, x, check_forward_ad=True), NotImplementedError, "check_forward_ad=True"),
        (lambda: gradcheck(ts.sin, x, check_batched_grad=True), NotImplementedError, "check_batched_grad=True"),
        (lambda: gradcheck(ts.sin, x, check_backward_ad=False), ValueError, "check_backward_ad must be True"),
        (lambda: gradcheck(lambda x: 3, x), ValueError, "func must return a tensor or several, got int"),
        (lambda: gradcheck(ts.sin, wide), ValueError, "input 0 has elements that share memory"),
        (
            lambda: gradcheck(ts.sin, ts.asarray(array).requires_grad_()), ValueError, "input 0 is read-only",
        ),
        (lambda: gradgradcheck(ts.sin, x, ts.ones(2)), ValueError, r"must be tensors of the shapes .* \[\(3,\)\]"),
        (lambda: gradgradcheck(lambda x: x.detach(), x), ValueError, "no output of func has a gradient"),
        (lambda: gradcheck(lambda x: (), x), ValueError, "func must return a tensor or several, got none"),
        (lambda: gradgradcheck(ts.sin, x, check_fwd_over_rev=True), NotImplementedError, "check_fwd_over_rev=True"),
        (lambda: gradgradcheck(ts.sin, x, check_rev_over_rev=False), ValueError, "check_rev_over_rev must be True"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


def test_arguments_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for name in ("gradcheck", "gradgradcheck"):
        mine, theirs = (inspect.signature(getattr(lib.autograd, name)).parameters for lib in (ts, torch))
        assert list(mine) == list(theirs)
        for key, p in mine.items():
            assert (p.default, p.kind) == (theirs[key].default, theirs[key].kind), key
