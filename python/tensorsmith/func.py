"""Functions of functions and modules as functions, under the names of `torch.func`.

`grad`, `hessian`, `jvp` and `vjp` are those of `ts`; `jacrev` and `jacfwd` both are `ts.jacobian`, which takes backward
passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tensorsmith as ts
from tensorsmith.autograd import grad, value_and_grad, vjp
from tensorsmith.autograd.transforms import hessian, jacobian, jvp
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "stack_module_state",
    "vjp",
]

jacrev = jacfwd = jacobian


def grad_and_value(func: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns (gradient, value) of `func`, whose value must have one element."""
    both = value_and_grad(func, argnums)

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, gradient = both(*args, **kwargs)
        return gradient, value

    return wrapped


# --- modules as functions -------------------------------------------------------------------------

Place = tuple[dict[str, Any], dict[str, Any], str]  # a registry, its module's attributes, the name


def _places(module: Module) -> dict[str, Place]:
    """Where each parameter and buffer is, by its dotted name; a shared one under each of its names."""
    found: dict[str, Place] = {}
    for path, inner in module.named_modules(remove_duplicate=False):
        for registry in (inner._parameters, inner._buffers):
            for name, value in registry.items():
                if value is not None:
                    found[f"{path}.{name}" if path else name] = (registry, inner.__dict__, name)
    return found


def _value(place: Place) -> Any:
    registry, _, name = place
    return registry.get(name)


def _put(place: Place, value: Any) -> None:
    registry, attributes, name = place
    registry[name] = attributes[name] = value


def _given(dicts: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of one dict or several, and the dict that each came from."""
    several = [dicts] if isinstance(dicts, Mapping) else dicts
    if not isinstance(several, Sequence) or not all(isinstance(d, Mapping) for d in several):
        raise TypeError(
            "functional_call: parameter_and_buffer_dicts must be a dict or a sequence of dicts, got "
            f"{type(dicts).__name__}"
        )
    tensors: dict[str, Tensor] = {}
    sources: dict[str, Any] = {}
    for source in several:
        for name, value in source.items():
            if name in tensors:
                raise ValueError(f"functional_call: {name!r} is in several of parameter_and_buffer_dicts")
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"functional_call: parameter_and_buffer_dicts has a {type(value).__name__} under {name!r}, "
                    "where a tensor is needed"
                )
            tensors[name], sources[name] = value, source
    return tensors, sources


def _tied(tensors: dict[str, Tensor], places: dict[str, Place]) -> dict[str, Tensor]:
    """With each tensor under all names of what it replaces."""
    names: dict[int, list[str]] = {}
    for name, place in places.items():
        names.setdefault(id(_value(place)), []).append(name)
    result = dict(tensors)
    for together in names.values():
        given = [name for name in together if name in tensors]
        if any(tensors[name] is not tensors[given[0]] for name in given):
            raise ValueError(
                f"functional_call: {', '.join(map(repr, given))} are one tensor of the module but several in "
                "parameter_and_buffer_dicts; pass one, or tie_weights=False"
            )
        if given:
            result.update((name, tensors[given[0]]) for name in together)
    return result


@contextmanager
def _replaced(
    places: dict[str, Place], tensors: dict[str, Tensor], sources: dict[str, Any]
) -> Iterator[None]:
    before = [(place, _value(place)) for place in (places[name] for name in tensors)]
    try:
        for name, value in tensors.items():
            _put(places[name], value)
        yield
    finally:
        # What the module put in a buffer's place is the new buffer.
        for name, source in sources.items():
            now = _value(places[name]) if name in places else None
            if now is not None and now is not tensors[name]:
                source[name] = now
        for place, value in reversed(before):
            _put(place, value)


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """`module(*args, **kwargs)` with other tensors in the place of its parameters and buffers, for this call only.

        names = [name for name, _ in model.named_parameters()]
        loss = lambda *tensors: F.mse_loss(functional_call(model, dict(zip(names, tensors)), x), t)

    parameter_and_buffer_dicts: tensors by their dotted names, or several such dicts without a name in common. Gradients
    flow to them, and buffers that the module updates are updated there; one that it replaces is replaced in the dict.
    What is not named stays the module's own, and names that it does not have are ignored; with `strict` both are
    RuntimeErrors. args: the arguments, one that is no tuple alone. tie_weights: a tensor that the module has under
    several names is replaced under all of them; ValueError for several replacements.

    Afterwards the module is as it was, also where the call raises. Other threads must not use it meanwhile.
    """
    if not isinstance(module, Module):
        raise TypeError(f"functional_call: module must be a Module, got {type(module).__name__}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"functional_call: kwargs must be a dict, got {type(kwargs).__name__}")
    tensors, sources = _given(parameter_and_buffer_dicts)
    places = _places(module)
    full = _tied(tensors, places) if tie_weights else tensors
    if strict:
        missing = [name for name in places if name not in full]
        unexpected = [name for name in full if name not in places]
        wrong = [
            f"{what} {', '.join(map(repr, names))}"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        if wrong:
            raise RuntimeError(f"functional_call: parameter_and_buffer_dicts, strict: {'; '.join(wrong)}")
    full = {name: value for name, value in full.items() if name in places}
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(places, full, sources):
        return module(*arguments, **(kwargs or {}))


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(parameters, buffers) of modules of one class, by name, each stacked along a new first axis: leaves that require
    a gradient where the parameters do.

    ValueError for no modules, TypeError for several classes, RuntimeError where they do not agree: in training and
    evaluation mode, names, shapes, or whether a parameter requires a gradient.
    """
    several = list(models)
    if not several:
        raise ValueError("stack_module_state: models is empty")
    first = several[0]
    for place, model in enumerate(several):
        if not isinstance(model, Module) or type(model) is not type(first):
            raise TypeError(
                f"stack_module_state: models must be Modules of one class, got {type(first).__name__} and at index "
                f"{place} {type(model).__name__}"
            )
        if model.training != first.training:
            raise RuntimeError(f"stack_module_state: model {place} is not in the mode of the first")
    return (
        _stacked([dict(model.named_parameters()) for model in several]),
        _stacked([dict(model.named_buffers()) for model in several]),
    )


def _stacked(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    result = {}
    for name, first in states[0].items():
        for place, state in enumerate(states):
            if list(state) != list(states[0]):
                raise RuntimeError(f"stack_module_state: model {place} has other names than the first")
            have = state[name]
            if (have.shape, have.requires_grad) != (first.shape, first.requires_grad):
                raise RuntimeError(
                    f"stack_module_state: {name!r} of model {place} has shape {tuple(have.shape)}, requires_grad="
                    f"{have.requires_grad}, and that of the first {tuple(first.shape)}, {first.requires_grad}"
                )
        result[name] = ts.stack([state[name].detach() for state in states])
        if first.requires_grad:
            result[name].requires_grad_()
    return result
