"""Products with Jacobians and Hessians, and these themselves, under PyTorch's names (`torch.autograd.functional`).

All rest on backward passes. A product of the Jacobian J with v takes two of them: u -> u J is linear, and the gradient
of <u J, v> with respect to u is J v, whatever u is (Townsend 2017). So every operation's rule must be differentiable.

`inputs` is a tensor or a tuple of tensors, which the function gets as its arguments; it returns one or a tuple. Results
have their structure. create_graph: results carry a graph, to the inputs and `v` that require a gradient and to what the
function closes over; without it they carry none. strict: RuntimeError for an output that does not depend on an input,
where there would be zeros. Inputs are not changed, and neither are their `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tensorsmith import _core
from tensorsmith.autograd import _inside, enable_grad

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

STRATEGIES = ("forward-mode", "reverse-mode")


# --- what all share -------------------------------------------------------------------------------


def _several(name: str, what: str, value: Any) -> tuple[bool, tuple[Tensor, ...]]:
    """Whether `value` is a tuple, and its tensors."""
    many = isinstance(value, tuple)
    for place, x in enumerate(value if many else (value,)):
        if not isinstance(x, _core.TensorBase):
            where = f" at index {place}" if many else ""
            raise TypeError(
                f"{name}: {what} must be a tensor or a tuple of tensors, got {type(x).__name__}{where}"
            )
    return many, value if many else (value,)


def _locals(name: str, inputs: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    """Tensors with the inputs' values where gradients stop; behind them, with create_graph, the inputs' own history."""
    local = []
    for place, x in enumerate(inputs):
        _differentiable(name, f"input {place}", x)
        keep = create_graph and x.requires_grad
        local.append(x.reshape(x.shape) if keep else x.detach().requires_grad_())
    return tuple(local)


def _differentiable(name: str, what: str, x: Tensor) -> None:
    if x.dtype.kind not in ("floating", "complex"):
        raise TypeError(f"{name}: {what} must be floating-point or complex, got {x.dtype}")


def _vectors(
    name: str, v: Any, fitting: Sequence[Tensor], what: str, create_graph: bool, called: str = "v"
) -> tuple[Any, ...]:
    """v, checked against what it is multiplied with; without one, 1 for a single element."""
    if v is None:
        if len(fitting) != 1 or fitting[0].size != 1:
            raise ValueError(f"{name}: v may be None only where there is one {what} with one element")
        from tensorsmith.ops import ones_like

        return (ones_like(fitting[0].detach()),)
    _, vs = _several(name, called, v)
    if len(vs) != len(fitting):
        raise ValueError(
            f"{name}: {called} must have a tensor for each {what}, {len(fitting)}, got {len(vs)}"
        )
    checked = []
    for place, (x, other) in enumerate(zip(vs, fitting)):
        if x.shape != other.shape:
            raise ValueError(
                f"{name}: {called} must have the shape of {what} {place}, {tuple(other.shape)}, got {tuple(x.shape)}"
            )
        if x.dtype.kind == "complex" and other.dtype.kind != "complex":
            raise TypeError(f"{name}: {called} is {x.dtype} where {what} {place} is {other.dtype}")
        x = x if create_graph else x.detach()
        checked.append(x if x.dtype == other.dtype else x.astype(other.dtype))
    return tuple(checked)


def _call(
    name: str, function: Any, local: tuple[Tensor, ...], strict: bool
) -> tuple[bool, tuple[Tensor, ...]]:
    if not callable(function):
        raise TypeError(f"{name}: func must be a function, got {type(function).__name__}")
    with _inside():
        value = function(*local)
    many, outputs = _several(name, "what the function returns", value)
    if strict:
        for place, y in enumerate(outputs):
            if not y.requires_grad:
                raise RuntimeError(f"{name}: output {place} does not depend on the inputs (strict=True)")
    return many, outputs


def _one(name: str, many: bool, outputs: tuple[Tensor, ...]) -> Tensor:
    if many or outputs[0].size != 1:
        got = f"{len(outputs)} tensors" if many else f"shape {tuple(outputs[0].shape)}"
        raise ValueError(f"{name}: the function must return one tensor with one element, got {got}")
    if outputs[0].dtype.kind == "complex":
        raise TypeError(f"{name}: the function must return a real number, got {outputs[0].dtype}")
    return outputs[0].reshape(())


def _pull(
    outputs: Sequence[Any], seeds: Sequence[Any], inputs: tuple[Tensor, ...], create_graph: bool
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs`, None among them or without a history too; the graph stays."""
    roots = [(y, seed) for y, seed in zip(outputs, seeds) if y is not None and y.requires_grad]
    if not roots:
        return (None,) * len(inputs)
    pulled: tuple[Tensor | None, ...] = _core.backward(
        tuple(y for y, _ in roots), tuple(seed for _, seed in roots), inputs, True, create_graph
    )
    return pulled


def _filled(
    name: str, found: Sequence[Tensor | None], like: Sequence[Tensor], strict: bool, text: str, create: bool
) -> tuple[Tensor, ...]:
    """Zeros where nothing was found; with `strict` an error, also where a graph is wanted and there is none."""
    from tensorsmith.ops import zeros_like

    if strict:
        for place, g in enumerate(found):
            if g is None or (create and not g.requires_grad):
                raise RuntimeError(f"{name}: {text.format(place)} (strict=True)")
    return tuple(zeros_like(x.detach()) if g is None else g for g, x in zip(found, like))


def _linear(outputs: Sequence[Tensor], local: tuple[Tensor, ...]) -> tuple[list[Any], tuple[Any, ...]]:
    """u and u J, recorded: the gradient of <u J, v> with respect to u is J v. None for an output without a gradient."""
    from tensorsmith.ops import zeros_like

    u = [zeros_like(y.detach()).requires_grad_() if y.requires_grad else None for y in outputs]
    return u, _pull(outputs, u, local, True)


def _push(u: list[Any], pulled: tuple[Any, ...], v: Sequence[Any], create_graph: bool) -> list[Tensor | None]:
    """J v, from what `_linear` returned."""
    found = iter(_pull(pulled, v, tuple(x for x in u if x is not None), create_graph))
    return [None if x is None else next(found) for x in u]


def _results(tensors: Sequence[Tensor], many: bool, create_graph: bool) -> Any:
    done = tuple(tensors) if create_graph else tuple(x.detach() for x in tensors)
    return done if many else done[0]


# --- products -------------------------------------------------------------------------------------


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(outputs, v J): the product of v, shaped as the outputs, with the Jacobian; it is shaped as the inputs.

    v may be None for one output with one element. ValueError where v does not fit.
    """
    with enable_grad():
        many_in, given = _several("vjp", "inputs", inputs)
        local = _locals("vjp", given, create_graph)
        many, outputs = _call("vjp", func, local, strict)
        vs = _vectors("vjp", v, outputs, "output", create_graph)
        pulled = _pull(outputs, vs, local, create_graph)
        text = "the outputs do not depend on input {}, or their Jacobian does not"
        product = _filled("vjp", pulled, local, strict, text, create_graph)
    return _results(outputs, many, create_graph), _results(product, many_in, create_graph)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(outputs, J v): the product of the Jacobian with v, shaped as the inputs; it is shaped as the outputs.

    v may be None for one input with one element. ValueError where v does not fit.
    """
    with enable_grad():
        _, given = _several("jvp", "inputs", inputs)
        local = _locals("jvp", given, create_graph)
        vs = _vectors("jvp", v, local, "input", create_graph)
        many, outputs = _call("jvp", func, local, strict)
        u, pulled = _linear(outputs, local)
        _filled("jvp", pulled, local, strict, "the outputs do not depend on input {}", False)
        text = "the Jacobian of output {} does not depend on the inputs"
        product = _filled("jvp", _push(u, pulled, vs, create_graph), outputs, strict, text, create_graph)
    return _results(outputs, many, create_graph), _results(product, many, create_graph)


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(output, v H): the product of v with the Hessian of a function that returns one element; both are shaped as the
    inputs.
    """
    return _hessian_product("vhp", func, inputs, v, create_graph, strict)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(output, H v), shaped as the inputs; the function returns one element.

    It is computed as v H, which is the same as second derivatives commute, and takes two backward passes, where
    PyTorch's takes three.
    """
    return _hessian_product("hvp", func, inputs, v, create_graph, strict)


def _hessian_product(
    name: str, func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool, strict: bool
) -> tuple[Any, Any]:
    with enable_grad():
        many_in, given = _several(name, "inputs", inputs)
        local = _locals(name, given, create_graph)
        vs = _vectors(name, v, local, "input", create_graph)
        many, outputs = _call(name, func, local, strict)
        first = _pull((_one(name, many, outputs),), (None,), local, True)
        text = "the output, or its gradient, does not depend on input {}"
        _filled(name, first, local, strict, text, True)
        product = _filled(name, _pull(first, vs, local, create_graph), local, strict, text, create_graph)
    return _results(outputs, many, create_graph), _results(product, many_in, create_graph)


# --- whole matrices -------------------------------------------------------------------------------


def _unit(like: Tensor, place: int) -> Tensor:
    from tensorsmith.ops import zeros

    flat = zeros((like.size,), dtype=like.dtype, device=like.device)
    flat[place] = 1
    return flat.reshape(like.shape)


def _rows(
    outputs: Sequence[Tensor], local: tuple[Tensor, ...], create_graph: bool, check: Any = None
) -> list[list[Tensor]]:
    """The Jacobian of each output with respect to each input, shaped as both together: a backward pass a row."""
    from tensorsmith.ops import stack, zeros, zeros_like

    blocks = []
    for number, y in enumerate(outputs):
        rows: list[list[Tensor]] = [[] for _ in local]
        for place in range(y.size if y.requires_grad else 0):
            found = _pull((y,), (_unit(y, place),), local, create_graph)
            for column, (g, x) in enumerate(zip(found, local)):
                if check is not None:
                    check(number, column, g)
                rows[column].append(zeros_like(x.detach()) if g is None else g)
        blocks.append(
            [
                stack(row).reshape((*y.shape, *x.shape))
                if row
                else zeros((*y.shape, *x.shape), dtype=x.dtype, device=x.device)
                for row, x in zip(rows, local)
            ]
        )
    return blocks


def _columns(outputs: Sequence[Tensor], local: tuple[Tensor, ...], create_graph: bool) -> list[list[Tensor]]:
    """What `_rows` returns, by a pass a column."""
    from tensorsmith.ops import stack, zeros, zeros_like

    u, pulled = _linear(outputs, local)
    blocks: list[list[Tensor]] = [[] for _ in outputs]
    for number, x in enumerate(local):
        columns: list[list[Tensor]] = [[] for _ in outputs]
        for place in range(x.size):
            found = _push(u, pulled[number : number + 1], (_unit(x, place),), create_graph)
            for column, g, y in zip(columns, found, outputs):
                column.append(zeros_like(y.detach()) if g is None else g)
        for block, column, y in zip(blocks, columns, outputs):
            shape = (*y.shape, *x.shape)
            block.append(
                stack(column, -1).reshape(shape) if column else zeros(shape, dtype=y.dtype, device=y.device)
            )
    return blocks


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian, shaped as an output and an input together: jacobian[i][j] of output i and input j where both are
    tuples, jacobian[i] where one is.

    strategy: "reverse-mode" takes a backward pass for each element of the outputs, "forward-mode" (not with `strict`)
    one for each element of the inputs. vectorize is accepted and ignored. TypeError for complex outputs, whose
    Jacobian is no matrix of numbers.
    """
    return _jacobian("jacobian", func, inputs, create_graph, strict, strategy)


def _jacobian(
    name: str, func: Callable[..., Any], inputs: Any, create_graph: bool, strict: bool, strategy: str
) -> Any:
    if strategy not in STRATEGIES:
        raise ValueError(f"{name}: the strategy must be 'forward-mode' or 'reverse-mode', got {strategy!r}")
    forward = strategy == "forward-mode"
    if forward and strict:
        raise ValueError(f"{name}: strict=True is for strategy='reverse-mode'")

    def check(number: int, column: int, g: Tensor | None) -> None:
        if g is None or (create_graph and not g.requires_grad):
            raise RuntimeError(
                f"{name}: output {number}, or its Jacobian, does not depend on input {column} (strict=True)"
            )

    with enable_grad():
        many_in, given = _several(name, "inputs", inputs)
        local = _locals(name, given, create_graph)
        many, outputs = _call(name, func, local, strict)
        for what, tensors in (("output", outputs), ("input", local if forward else ())):
            for place, y in enumerate(tensors):
                if y.dtype.kind == "complex":
                    raise TypeError(f"{name}: {what} {place} is {y.dtype}; it must be real")
        blocks = (
            _columns(outputs, local, create_graph)
            if forward
            else _rows(outputs, local, create_graph, check if strict else None)
        )
    rows = [_results(block, many_in, create_graph) for block in blocks]
    return tuple(rows) if many else rows[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function that returns one element: hessian[i][j], shaped as inputs i and j together,
    of a tuple of inputs.

    outer_jacobian_strategy: as `strategy` of `jacobian`, for the Jacobian of the gradient. vectorize is accepted and
    ignored.
    """

    def gradient(*local: Tensor) -> Any:
        many, outputs = _call("hessian", func, local, strict)
        found = _pull((_one("hessian", many, outputs),), (None,), local, True)
        text = "the output, or its gradient, does not depend on input {}"
        return _filled("hessian", found, local, strict, text, True)

    many_in, given = _several("hessian", "inputs", inputs)
    for place, x in enumerate(given):
        if x.dtype.kind == "complex":
            raise TypeError(f"hessian: input {place} is {x.dtype}; it must be real")
    rows = _jacobian("hessian", gradient, inputs, create_graph, strict, outer_jacobian_strategy)
    return rows if many_in else rows[0]
