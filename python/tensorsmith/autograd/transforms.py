"""`jvp`, `jacobian` and `hessian` as functions of functions: JAX's words, and `torch.func`'s."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from tensorsmith import _core
from tensorsmith.autograd import _function, _inside, _nested, _places, enable_grad, is_grad_enabled
from tensorsmith.autograd.functional import _differentiable, _filled, _linear, _push, _rows, _vectors

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["hessian", "jacobian", "jvp"]


def _carried(given: Iterable[Any]) -> bool:
    """Whether results carry gradients: where one of `given` does, or another transform is at work, which will
    differentiate what this one returns.
    """
    return is_grad_enabled() and (_nested() or any(getattr(x, "requires_grad", False) for x in given))


def _local(name: str, what: str, x: Any) -> Tensor:
    """A tensor with the value of x, where the gradient stops."""
    from tensorsmith.ops import asarray

    tensor = asarray(x)
    _differentiable(name, what, tensor)
    return tensor.reshape(tensor.shape) if tensor.requires_grad else tensor.detach().requires_grad_()


def _leaves(name: str, value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _leaves(name, part)
    elif isinstance(value, _core.TensorBase):
        yield cast("Tensor", value)
    else:
        raise TypeError(
            f"{name}: the function must return tensors, in tuples and lists, got {type(value).__name__}"
        )


def _like(value: Any, leaves: Iterator[Any]) -> Any:
    """The structure of `value` with other leaves."""
    if isinstance(value, (tuple, list)):
        parts = [_like(part, leaves) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return next(leaves)


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """(value, tangent) of `function` at `primals`: the tangent is the product of its Jacobian with `tangents`.

    primals, tangents: tuples of the function's arguments, floating-point or complex, and of tensors of their shapes;
    value and tangent have the structure of what the function returns: tensors, in tuples and lists. It takes two
    backward passes (see `ts.autograd.functional`). The results carry gradients if a primal or a tangent does, or inside
    another transform. ValueError where the tangents do not fit.
    """
    _function("jvp", function)
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"jvp: {what} must be a tuple of the function's arguments, got {type(given).__name__}"
            )
    create = _carried((*primals, *tangents))
    with enable_grad(), _inside():
        local = tuple(_local("jvp", f"primal {i}", x) for i, x in enumerate(primals))
        from tensorsmith.ops import asarray

        vs = _vectors("jvp", tuple(asarray(t) for t in tangents), local, "primal", create, "tangents")
        value = function(*local)
        outputs = list(_leaves("jvp", value))
        u, pulled = _linear(outputs, local)
        product = _filled("jvp", _push(u, pulled, vs, create), outputs, False, "", create)
    if not create:
        outputs, product = [y.detach() for y in outputs], tuple(t.detach() for t in product)
    return _like(value, iter(outputs)), _like(value, iter(product))


def jacobian(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of `function` with respect to its argument(s) `argnums`.

    It has the structure of what the function returns (tensors, in tuples and lists); each place holds a tensor shaped
    as the output and the argument together, or for a sequence of argnums a tuple of them. It takes a backward pass for
    each element of the outputs, which must be real. The result carries a gradient if one of these arguments does, or
    inside another transform: `jacobian(jacobian(f))` has the second derivatives.
    """
    _function("jacobian", function)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        places = _places("jacobian", argnums, len(args))
        create = _carried(args[n] for n in places)
        with enable_grad(), _inside():
            full = list(args)
            for n in places:
                full[n] = _local("jacobian", f"argument {n}", args[n])
            value = function(*full, **kwargs)
            outputs = list(_leaves("jacobian", value))
            for place, y in enumerate(outputs):
                if y.dtype.kind == "complex":
                    raise TypeError(f"jacobian: output {place} is {y.dtype}; it must be real")
            blocks = _rows(outputs, tuple(full[n] for n in places), create)
        if not create:
            blocks = [[x.detach() for x in block] for block in blocks]
        many = isinstance(argnums, (tuple, list))
        return _like(value, iter([tuple(block) if many else block[0] for block in blocks]))

    return wrapped


def hessian(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of `function`, `jacobian(jacobian(function))`.

    Of one output and one argument: a tensor shaped as the output, the argument and the argument again. For a sequence
    of argnums, hessian[i][j] belongs to arguments i and j.
    """
    _function("hessian", function)
    return jacobian(jacobian(function, argnums), argnums)
