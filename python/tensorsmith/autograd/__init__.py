"""Gradients: rules for operations, modes, functional transforms and custom functions.

The tape itself is in the core (csrc/python/autograd.cpp). An operation is recorded when an argument carries a
gradient; its rule says what backward needs by the names of its parameters.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tensorsmith import _core

if TYPE_CHECKING:
    from tensorsmith.autograd import functional
    from tensorsmith.autograd.differences import (
        GradcheckError as GradcheckError,
        gradcheck as gradcheck,
        gradgradcheck as gradgradcheck,
    )
    from tensorsmith.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

# --- rules ----------------------------------------------------------------------------------------


def _sources(op: _core.Op, rule: Callable[..., Any]) -> tuple[tuple[str, int], ...]:
    parameters, outputs = op._parameters, op._outputs
    sources: list[tuple[str, int]] = []
    code = rule.__code__
    for name in code.co_varnames[: code.co_argcount]:
        if name in parameters:
            sources.append(("parameter", parameters.index(name)))
        elif name in outputs:
            sources.append(("output", outputs.index(name)))
        elif name == "dy":
            sources.append(("dy", 0))
        elif name in ("dys", "needs"):
            sources.append((name, 0))
        elif name[0] == "d" and name[1:] in outputs:
            sources.append(("dy", outputs.index(name[1:])))
        elif name.endswith("_shape") and name[:-6] in parameters:
            sources.append(("shape", parameters.index(name[:-6])))
        else:
            raise TypeError(
                f"the gradient rule of {op.__name__} asks for {name}, which is neither dy nor one of its names"
            )
    return tuple(sources)


def define(
    op: _core.Op,
    doc: str = "",
    /,
    *,
    wrt: str = "",
    vjp: Callable[..., Any] | None = None,
    conjugate: bool = True,
    **rules: Callable[..., Any],
) -> _core.Op:
    """Gives an operation of the core its docstring and its gradient rules; returns the operation.

    Either one rule for each differentiable parameter, under its name, or `vjp`, one rule for all parameters named in
    `wrt`, which returns a tuple of gradients (None where one is not needed). The names of a rule's parameters say
    what it is called with:

    - `dy`: the gradient of the first output (`d` + name for any output, `dys` for a tuple of all);
    - a parameter of the operation: the tensor or value that it was called with;
    - a parameter's name + `_shape`: only the shape of that tensor, whose elements are then not kept;
    - an output: what the operation returned;
    - `needs`: a tuple of bool, which of `wrt` are wanted.

    A rule may return a gradient of the broadcast shape or of another dtype: it is summed and cast to fit.

    A rule multiplies dy by the derivative f'. Where dy is complex the engine conjugates it before and the result after,
    which gives the gradient conj(f') dy. conjugate=False: not for this operation, whose rules are right without: a
    linear map with real coefficients, or a function that has no complex derivative (abs, conj).

    The in-place form of an operation (`name_`) shares its rules.
    """
    table: list[tuple[Callable[..., Any], tuple[tuple[str, int], ...], tuple[int, ...], bool]] = []
    if vjp is not None:
        table.append((vjp, _sources(op, vjp), tuple(op._parameters.index(p) for p in wrt.split()), True))
    for parameter, rule in rules.items():
        table.append((rule, _sources(op, rule), (op._parameters.index(parameter),), False))
    op._define(table, conjugate)
    if doc:
        op.__doc__ = doc
    in_place = getattr(_core.ops, f"{op.__name__}_", None)
    if in_place is not None and in_place._parameters == op._parameters:
        in_place._define(table, conjugate)
        in_place.__doc__ = f"`{op.__name__}` into its first argument, which is returned."
    return op


# --- modes ----------------------------------------------------------------------------------------


_GENERATOR = 0x20  # inspect.CO_GENERATOR: to import inspect takes milliseconds


class _Mode:
    """What `with` and decorators of a gradient mode share. One object may be entered by several threads, and more
    than once.
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._local = threading.local()

    def __enter__(self) -> None:
        before = self._local.__dict__.setdefault("before", [])
        before.append(_core.set_grad_enabled(self.mode))

    def __exit__(self, *exc: object) -> None:
        _core.set_grad_enabled(self._local.before.pop())

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise TypeError(f"{type(self).__name__}: expected a function, got {type(function).__name__}")
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & _GENERATOR:
            return cast(F, self._each_step(function))

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast(F, call)

    def _each_step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Of a generator function: the mode holds while it runs, and not for whoever asks for the next item."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                generator = function(*args, **kwargs)
                step: Callable[[], Any] = functools.partial(next, generator)
            while True:
                try:
                    with self:
                        item = step()
                except StopIteration as end:
                    return end.value
                try:
                    sent = yield item
                except GeneratorExit:
                    with self:
                        generator.close()
                    raise
                except BaseException as error:
                    step = functools.partial(generator.throw, error)
                else:
                    step = functools.partial(generator.send, sent)

        return call


class set_grad_enabled(_Mode):
    """Records operations of this thread or not, from here on or for a `with` block or decorated function."""

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        # The mode to go back to, until it is taken.
        self._first: list[bool] = [_core.set_grad_enabled(self.mode)]

    def __enter__(self) -> None:
        super().__enter__()
        if self._first:
            self._local.before[-1] = self._first.pop()

    def __call__(self, function: F) -> F:
        if self._first:
            _core.set_grad_enabled(self._first.pop())
        return super().__call__(function)


class _Plain(_Mode):
    """no_grad and enable_grad: decorators with parentheses or without."""

    _mode: bool

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        super().__init__(self._mode)


class no_grad(_Plain):
    """Operations inside are not recorded: `with ts.no_grad(): ...` or `@ts.no_grad()`."""

    _mode = False


class enable_grad(_Plain):
    """Operations inside are recorded, even within no_grad."""

    _mode = True


is_grad_enabled = _core.is_grad_enabled

# --- backward -------------------------------------------------------------------------------------


def _tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Accumulates the gradients of `tensors` into the `.grad` of the leaves they were computed from.

    grad_tensors: one gradient per tensor, of its shape; may be None for tensors with one element.
    RuntimeError if a tensor has no gradient history or its graph was freed. If anything fails, no `.grad` has changed.
    """
    roots = _tuple(tensors)
    seeds = (None,) * len(roots) if grad_tensors is None else _tuple(grad_tensors)
    retain = create_graph if retain_graph is None else retain_graph
    _core.backward(roots, seeds, None, retain, create_graph)


def gradients(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of `outputs` with respect to `inputs`, which may be leaves or not; no `.grad` changes.

    create_graph: the gradients carry a graph themselves, for higher derivatives.
    RuntimeError for an input that the outputs do not depend on, unless allow_unused (then None).
    """
    roots, wanted = _tuple(outputs), _tuple(inputs)
    seeds = (None,) * len(roots) if grad_outputs is None else _tuple(grad_outputs)
    retain = create_graph if retain_graph is None else retain_graph
    result = _core.backward(roots, seeds, wanted, retain, create_graph)
    if not allow_unused and any(g is None for g in result):
        missing = [i for i, g in enumerate(result) if g is None]
        raise RuntimeError(
            f"grad: the outputs do not depend on input {missing[0]}; pass allow_unused=True to get None"
        )
    return result


# --- transforms -----------------------------------------------------------------------------------


def _places(name: str, argnums: int | Sequence[int], count: int) -> list[int]:
    """Which of `count` arguments `argnums` are."""
    numbers = _tuple(argnums)
    if not all(hasattr(n, "__index__") for n in numbers):
        raise TypeError(f"{name}: argnums must be an integer or several, got {argnums!r}")
    if any(not -count <= n < count for n in numbers):
        raise ValueError(f"{name}: argnums {argnums} for a call with {count} arguments")
    return [n % count for n in numbers]


def _function(name: str, function: Any) -> None:
    """A transform is of a function: what PyTorch's `grad` takes is no mistake to find out about later."""
    if not callable(function):
        computed = isinstance(function, _core.TensorBase)
        hint = "; ts.autograd.gradients(outputs, inputs) takes tensors" if computed else ""
        raise TypeError(f"{name}: expected a function, got {type(function).__name__}{hint}")


_transforms = threading.local()


def _nested() -> bool:
    """Whether a transform calls its function at present: what another one returns inside is differentiated too, also by
    what its function closes over.
    """
    return getattr(_transforms, "depth", 0) > 0


class _inside:
    """While a transform calls its function."""

    def __enter__(self) -> None:
        _transforms.depth = getattr(_transforms, "depth", 0) + 1

    def __exit__(self, *exc: object) -> None:
        _transforms.depth -= 1


def _leaf(x: Any) -> Tensor:
    from tensorsmith.ops import asarray

    return asarray(x).detach().requires_grad_()


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """(value, pullback) of `function` at `primals` (JAX's `vjp`).

    pullback(cotangent): the product of the cotangent with the Jacobian, one tensor per primal. It can be called again,
    and its results carry gradients if the cotangent or the primals do, or inside another transform.
    """
    _function("vjp", function)
    with enable_grad():
        inputs = tuple(x if getattr(x, "requires_grad", False) else _leaf(x) for x in primals)
        # A view of each, so that the gradient stops here even where a primal is itself computed.
        local = tuple(x.reshape(x.shape) for x in inputs)
        with _inside():
            value = function(*local)
    outputs = _tuple(value)

    def pullback(cotangents: Any) -> tuple[Tensor, ...]:
        cotangents = _tuple(cotangents)
        create = (_nested() and is_grad_enabled()) or any(
            getattr(c, "requires_grad", False) for c in (*cotangents, *primals)
        )
        gs = gradients(outputs, local, cotangents, retain_graph=True, create_graph=create, allow_unused=True)
        from tensorsmith.ops import zeros_like

        return tuple(zeros_like(x) if g is None else g for g, x in zip(gs, local))

    return value, pullback


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns (value, gradient) of `function`, whose value must have one element.

    argnums: which arguments to differentiate; the gradient is a tensor for an int, a tuple for a sequence.
    """
    _function("value_and_grad", function)

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        places = _places("grad", argnums, len(args))
        nested = _nested()
        with enable_grad(), _inside():
            full = list(args)
            for n in places:
                full[n] = (
                    args[n].reshape(args[n].shape)
                    if getattr(args[n], "requires_grad", False)
                    else _leaf(args[n])
                )
            value = function(*full, **kwargs)
            gs = gradients(value, [full[n] for n in places], create_graph=nested)
        return value if nested else value.detach(), gs if isinstance(argnums, (tuple, list)) else gs[0]

    return wrapped


def grad(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of `function` with respect to its argument(s) `argnums` (JAX's `grad`).

    It nests: `grad(grad(f))` is the second derivative of a scalar function. For tensors with a history, see
    `ts.autograd.gradients`.
    """
    _function("grad", function)
    both = value_and_grad(function, argnums)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return wrapped


# --- custom functions -----------------------------------------------------------------------------


class Context:
    """What a Function's forward keeps for its backward."""

    def __init__(self) -> None:
        self._saved: tuple[tuple[Tensor | None, int], ...] = ()
        self._constant: tuple[Tensor, ...] = ()
        self._zeros = True
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors; backward checks that they were not modified in place since."""
        self._saved = tuple((t, 0 if t is None else t._version) for t in tensors)

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Of forward's results: these carry no gradient, and backward gets zeros for them."""
        self._constant = outputs

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        for i, (t, version) in enumerate(self._saved):
            if t is not None and t._version != version:
                raise RuntimeError(
                    f"backward: saved tensor {i} was modified in place: it is at version {t._version}, "
                    f"expected {version}"
                )
        return tuple(t for t, _ in self._saved)


class Function:
    """An operation with a gradient of its own (PyTorch's `torch.autograd.Function`).

    Subclasses define static `forward(ctx, *args)` and `backward(ctx, *gradients)`; `apply` runs it. Instead of a ctx
    in forward there may be a static `setup_context(ctx, inputs, output)`. backward gets a gradient for each result of
    forward (None for one that is no tensor), and returns one (or None) for each argument of forward.
    """

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is not instantiated: call {type(self).__name__}.apply(...)")

    # Typed so that a subclass may have any parameters of its own.
    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function must define forward(ctx, *args)")

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Any) -> Any:
        raise NotImplementedError("a Function whose forward takes no ctx must define setup_context")

    @staticmethod
    def backward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function must define backward(ctx, *gradients)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        ctx = Context()
        ctx.needs_input_grad = tuple(bool(getattr(a, "requires_grad", False)) for a in args)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                result = cls.forward(ctx, *args)
            else:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
        if not (_core.is_grad_enabled() and any(ctx.needs_input_grad)):
            return result
        outputs = tuple(
            y.detach() if isinstance(y, _core.TensorBase) and any(y is a for a in args) else y
            for y in _tuple(result)
        )
        constant = {id(y) for y in ctx._constant}
        # By output: whether it is recorded; None for what is no tensor.
        kinds = [id(y) not in constant if isinstance(y, _core.TensorBase) else None for y in _tuple(result)]
        shapes = [x.shape if needed else None for x, needed in zip(args, ctx.needs_input_grad)]
        plain = {i: (y.shape, y.dtype, y.device) for i, y in enumerate(outputs) if kinds[i] is False}

        def run(*dys: Tensor) -> tuple[Any, ...]:
            left = iter(dys)
            given = [
                next(left) if recorded else None if recorded is None else _zeros(*plain[i])
                for i, recorded in enumerate(kinds)
            ]
            return _fitting(cls.__name__, _tuple(cls.backward(ctx, *given)), shapes)

        _core.record(cls.__name__, run, args, tuple(y for y, recorded in zip(outputs, kinds) if recorded))
        return outputs if isinstance(result, (tuple, list)) else outputs[0]


def _zeros(shape: Any, dtype: Any, device: Any) -> Tensor:
    from tensorsmith.ops import zeros

    return zeros(shape, dtype=dtype, device=device)


def _fitting(name: str, gradients: tuple[Any, ...], shapes: list[Any]) -> tuple[Any, ...]:
    """What a Function's backward returned, where it fits the arguments; shapes: of those that need a gradient."""
    count = len(shapes)
    if len(gradients) < count or any(g is not None for g in gradients[count:]):
        raise ValueError(f"{name}.backward returned {len(gradients)} gradients for {count} arguments")
    for i, (g, shape) in enumerate(zip(gradients, shapes)):
        have = getattr(g, "shape", shape)
        if shape is None or have == shape:
            continue
        if len(have) < len(shape) or any(n not in (1, m) for n, m in zip(shape[::-1], have[::-1])):
            raise ValueError(
                f"{name}.backward: the gradient for argument {i} has shape {tuple(have)}, which does not fit the "
                f"argument's, {tuple(shape)}"
            )
    return gradients[:count]


def __getattr__(name: str) -> Any:
    """`ts.autograd.functional` and `gradcheck` are imported at their first use."""
    import importlib

    if name == "functional":
        return importlib.import_module("tensorsmith.autograd.functional")
    if name in ("GradcheckError", "gradcheck", "gradgradcheck"):
        return getattr(importlib.import_module("tensorsmith.autograd.differences"), name)
    raise AttributeError(f"module 'tensorsmith.autograd' has no attribute {name!r}")
