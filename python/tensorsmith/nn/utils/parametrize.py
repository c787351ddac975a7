"""Parametrizations: a parameter of a module as a function of what is trained instead.

After `register_parametrization(layer, "weight", symmetric)`, `layer.weight` is `symmetric(original)`, computed whenever
it is read, and `layer.parametrizations.weight.original` is the parameter. The module's class becomes one with a
property of that name; `remove_parametrizations` goes back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from tensorsmith import _core
from tensorsmith.autograd import is_grad_enabled, no_grad
from tensorsmith.nn.container import ModuleDict, ModuleList
from tensorsmith.nn.lazy import _Lazy
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]


# --- the originals and what is made of them -------------------------------------------------------


def _inverse(parametrization: Module, value: Any) -> Any:
    """What the parametrization makes `value` of; `value` itself where it does not say."""
    invert = getattr(parametrization, "right_inverse", None)
    try:
        return value if invert is None else invert(value)
    except NotImplementedError:
        return value


def _like(what: str, tensor: Any, wanted: Tensor, of: str) -> Tensor:
    """`tensor`, which must have the shape and dtype of another."""
    if not isinstance(tensor, Tensor):
        raise ValueError(
            f"register_parametrization: {what} must return a tensor, got {type(tensor).__name__}"
        )
    if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
        raise ValueError(
            f"register_parametrization: {what} returned {tensor.dtype}{tuple(tensor.shape)}, where {of} is "
            f"{wanted.dtype}{tuple(wanted.shape)}; pass unsafe=True if that is meant"
        )
    return tensor


def _set(target: Tensor, value: Tensor) -> None:
    """Gives the target other elements; it stays the same object."""
    if value is target:
        return
    if (target.shape, target.dtype, target.device) == (value.shape, value.dtype, value.device):
        target.detach().copy_(value.detach())
    else:
        target._share(value.detach().copy())


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in the order in which they apply, and what the first one applies to: the
    parameter or buffer `original`, or `original0`, `original1`, … where its right_inverse returns several tensors.

    Called, it computes the tensor.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        super().__init__()
        self.unsafe = unsafe
        parametrization = modules[0]
        with no_grad():
            value = _inverse(parametrization, original)
            self.is_tensor = isinstance(value, Tensor)
            if not self.is_tensor and not (
                isinstance(value, Sequence) and value and all(isinstance(x, Tensor) for x in value)
            ):
                raise ValueError(
                    "register_parametrization: right_inverse must return a tensor or several, got "
                    f"{type(value).__name__}"
                )
            self.ntensors = 1 if self.is_tensor else len(value)
            if not unsafe:
                if self.is_tensor:
                    _like("right_inverse", value, original, "the original")
                result = parametrization(value) if self.is_tensor else parametrization(*value)
                _like("the parametrization", result, original, "the tensor")
            if self.is_tensor:
                _set(original, value)
                self._own("original", original)
            else:
                for number, part in enumerate(value):
                    part = part.detach().copy()  # it may be the original, or a view of it
                    trained = original.requires_grad and part.dtype.kind in ("floating", "complex")
                    owned = Parameter(part, trained) if isinstance(original, Parameter) else part
                    self._own(f"original{number}", owned)
        self.extend(modules)

    def _own(self, name: str, tensor: Tensor) -> None:
        if isinstance(tensor, Parameter):
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, tensor)

    def _originals(self) -> list[Tensor]:
        names = ["original"] if self.is_tensor else [f"original{n}" for n in range(self.ntensors)]
        return [getattr(self, name) for name in names]

    def right_inverse(self, value: Tensor) -> None:
        """Gives the originals the values for which the tensor is `value`, as far as the parametrizations' right_inverse
        goes. RuntimeError where one has none, ValueError where what it returns does not fit; nothing has changed then.
        """
        originals = self._originals()
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrize: {type(module).__name__} has no right_inverse")
                value = module.right_inverse(value)
            values = [value] if self.is_tensor else value
            if not isinstance(values, Sequence) or len(values) != len(originals):
                got = f"{len(values)}" if isinstance(values, Sequence) else type(values).__name__
                raise ValueError(
                    f"parametrize: right_inverse must return {len(originals)} tensors, got {got}"
                )
            for number, (new, original) in enumerate(zip(values, originals)):
                if not isinstance(new, Tensor):
                    raise ValueError(
                        f"parametrize: right_inverse must return tensors, got {type(new).__name__} at {number}"
                    )
                if new.dtype != original.dtype or (new.shape != original.shape and not self.unsafe):
                    raise ValueError(
                        f"parametrize: right_inverse returned {new.dtype}{tuple(new.shape)} for an original "
                        f"{original.dtype}{tuple(original.shape)}"
                    )
            # One may be made of another's memory.
            for original, new in zip(originals, [x if self.is_tensor else x.detach().copy() for x in values]):
                _set(original, new)

    def forward(self) -> Tensor:
        first, *rest = self
        value: Tensor = first(*self._originals())
        for module in rest:
            value = module(value)
        return value


# --- the tensor that is computed ------------------------------------------------------------------


class _Cache(threading.local):
    def __init__(self) -> None:
        self.depth = 0
        # With the module, so that no other gets its id meanwhile.
        self.values: dict[tuple[int, str, bool], tuple[Module, Tensor]] = {}


_cache = _Cache()


@contextmanager
def cached() -> Iterator[None]:
    """Within the block, on this thread, a parametrized tensor is computed once, and again after it was assigned to:

        with parametrize.cached():
            for x in sequence:
                h = cell(x, h)

    The originals must not change inside. Blocks nest. RuntimeError where a tensor is read in a function under `ts.jit`.
    """
    _cache.depth += 1
    try:
        yield
    finally:
        _cache.depth -= 1
        if not _cache.depth:
            _cache.values.clear()


def _property(name: str) -> property:
    def get(self: Module) -> Tensor:
        made: ParametrizationList = cast(Any, self).parametrizations[name]
        if not _cache.depth:
            return made()
        if _core.capturing():
            raise RuntimeError(
                f"jit: {name!r} of {type(self).__name__} is read under parametrize.cached(), whose values a recording "
                "cannot keep"
            )
        key = id(self), name, is_grad_enabled()
        if key not in _cache.values:
            _cache.values[key] = self, made()
        return _cache.values[key][1]

    def assign(self: Module, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"cannot assign a {type(value).__name__} as the parametrized {name!r} of {type(self).__name__}: "
                "a Tensor is expected"
            )
        cast(Any, self).parametrizations[name].right_inverse(value)
        for mode in (False, True):
            _cache.values.pop((id(self), name, mode), None)

    return property(get, assign)


def _class_of(base: type[Module], names: tuple[str, ...]) -> type[Module]:
    """The class of modules of `base` whose tensors of these names are computed; `base` keeps it."""
    made: dict[tuple[str, ...], type[Module]] = base.__dict__.get("_parametrized_by_names", {})
    if names not in made:
        cast(Any, base)._parametrized_by_names = {**made, names: _new_class(base, names)}
        return _class_of(base, names)
    return made[names]


def _new_class(base: type[Module], names: tuple[str, ...]) -> type[Module]:
    def __reduce__(self: Module) -> Any:
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _new, (base, names), state

    def _upgrade_state_dict(self: Any, state: dict[str, Any], prefix: str) -> None:
        base._upgrade_state_dict(self, state, prefix)
        for name in names:
            for module in self.parametrizations[name]:
                if hasattr(module, "_upgrade_tensor"):
                    module._upgrade_tensor(state, prefix, name)

    members = {name: _property(name) for name in names}
    methods = {"__reduce__": __reduce__, "_upgrade_state_dict": _upgrade_state_dict, "_parametrized": base}
    return type(
        f"Parametrized{base.__name__}", (base,), {**methods, **members, "__module__": base.__module__}
    )


def _new(base: type[Module], names: tuple[str, ...]) -> Module:
    made = _class_of(base, names)
    return made.__new__(made)


# --- what is public -------------------------------------------------------------------------------


def _lists(module: Module) -> dict[str, Module]:
    """The parametrizations by the name of the tensor."""
    return module.__dict__["parametrizations"]._modules if hasattr(type(module), "_parametrized") else {}


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether the module has a parametrization, or one of this tensor."""
    lists = _lists(module)
    return bool(lists) if tensor_name is None else tensor_name in lists


def type_before_parametrizations(module: Module) -> type[Module]:
    """The class that the module has without its parametrizations."""
    base: type[Module] = getattr(type(module), "_parametrized", type(module))
    return base


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Makes the module's parameter or buffer `tensor_name` the result of `parametrization`; returns the module.

    The parameter becomes `module.parametrizations.<tensor_name>.original`, the same object, with the elements that
    `parametrization.right_inverse` returns for the tensor, if there is one. Where that returns several tensors they are
    the new parameters `original0`, `original1`, …, and the parametrization is called with them. A further
    parametrization of a tensor applies to the result of those before it.

    Parametrization and right_inverse must keep shape and dtype (ValueError), unless `unsafe`. ValueError too for a
    tensor that the module does not have; RuntimeError for a lazy layer that has not seen an input. After an error the
    module is as it was.
    """
    for what, value in (("module", module), ("parametrization", parametrization)):
        if not isinstance(value, Module):
            raise TypeError(f"register_parametrization: {what} must be a Module, got {type(value).__name__}")
    if not isinstance(tensor_name, str):
        raise TypeError(
            f"register_parametrization: tensor_name must be a string, got {type(tensor_name).__name__}"
        )
    if is_parametrized(module, tensor_name):
        _append(module, tensor_name, parametrization, unsafe)
        return module
    original = module._parameters.get(tensor_name)
    if original is None:
        original = cast(Any, module._buffers.get(tensor_name))
    if original is None:
        raise ValueError(
            f"register_parametrization: {type(module).__name__} has no parameter or buffer {tensor_name!r}"
        )
    if isinstance(module, _Lazy):
        raise RuntimeError(
            f"register_parametrization: {type(module).__name__} has not got its shapes yet; call it with an input first"
        )
    if not is_parametrized(module) and hasattr(module, "parametrizations"):
        raise ValueError(
            f"register_parametrization: {type(module).__name__} has an attribute 'parametrizations' of its own"
        )
    if hasattr(ModuleDict, tensor_name):
        raise ValueError(
            f"register_parametrization: a tensor of the name {tensor_name!r} cannot be parametrized"
        )
    temporary = tensor_name in module._non_persistent_buffers_set
    made = ParametrizationList([parametrization], original, unsafe)
    if temporary:
        made._non_persistent_buffers_set.update(made._buffers)
    parametrization.train(module.training)
    delattr(module, tensor_name)
    names = (*_lists(module), tensor_name)
    if not is_parametrized(module):
        cast(Any, module).parametrizations = ModuleDict().train(module.training)
    cast(Any, module).parametrizations[tensor_name] = made.train(module.training)
    module.__class__ = _class_of(type_before_parametrizations(module), names)  # from here on it is computed
    return module


def _append(module: Module, name: str, parametrization: Module, unsafe: bool) -> None:
    made = cast(ParametrizationList, _lists(module)[name])
    if not unsafe:
        with no_grad():
            before = getattr(module, name)
            after = _like("the parametrization", parametrization(before), before, "the tensor")
            _like("right_inverse", _inverse(parametrization, after), before, "the tensor")
    made.append(parametrization.train(module.training))
    made.unsafe |= unsafe
    for mode in (False, True):
        _cache.values.pop((id(module), name, mode), None)


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Takes all parametrizations of a tensor off; returns the module.

    leave_parametrized: the tensor keeps the value that it had; else it is the original again, and ValueError where that
    is several tensors. A single original stays the same object, so an optimizer still knows it; one made of several is
    a new parameter. ValueError for a tensor that is not parametrized.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(
            f"remove_parametrizations: {type(module).__name__} has no parametrization of {tensor_name!r}"
        )
    made = cast(ParametrizationList, _lists(module)[tensor_name])
    if not (made.is_tensor or leave_parametrized):
        raise ValueError(
            f"remove_parametrizations: {tensor_name!r} is made of {made.ntensors} tensors, so leave_parametrized must "
            "be True"
        )
    value = getattr(module, tensor_name)
    if made.is_tensor:
        tensor = made._originals()[0]
        if leave_parametrized:
            _set(tensor, value)
    else:
        tensor = value.detach().copy()
        if made._parameters:
            tensor = Parameter(tensor, value.requires_grad)
    temporary = bool(made._non_persistent_buffers_set)
    base = type_before_parametrizations(module)
    for mode in (False, True):
        _cache.values.pop((id(module), tensor_name, mode), None)
    del cast(Any, module).parametrizations[tensor_name]
    names = tuple(_lists(module))
    if not names:
        del cast(Any, module).parametrizations
    module.__class__ = _class_of(base, names) if names else base
    if isinstance(tensor, Parameter):
        module.register_parameter(tensor_name, tensor)
    else:
        module.register_buffer(tensor_name, tensor, persistent=not temporary)
    return module
