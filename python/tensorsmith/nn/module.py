"""`Module`: the base of every layer and network.

A module owns parameters, buffers and child modules under their attribute names. PyTorch's
`torch.nn.Module` is the model for names, `state_dict` keys and semantics; two things are stricter:

- `load_state_dict` is all or nothing: every key, shape and value is checked before a byte changes.
- An error raised inside `forward` carries a note with the path of the module that raised it and the
  shapes that it was given.

Parameters, buffers and children live both in their registries (`_parameters`, `_buffers`, `_modules`),
which fix the order, and in the instance `__dict__`, so that reading `self.weight` costs what any
attribute costs. `__setattr__` and the `register_*` methods keep the two alike; do not edit the
registries by hand.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import tensorsmith as ts
from tensorsmith.dtypes import DType
from tensorsmith.nn._backward_hooks import Watch
from tensorsmith.nn._hooks import RemovableHandle
from tensorsmith.nn._load import Source, checked_source, separate
from tensorsmith.nn.parameter import Parameter
from tensorsmith.ops.sparse import cleared
from tensorsmith.tensor import Tensor

M = TypeVar("M", bound="Module")

_REGISTRIES = ("_parameters", "_buffers", "_modules")


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` skipped."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class _Hook(NamedTuple):
    call: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


class _Uninitialised:
    """A class attribute that instances shadow; to read it means that Module.__init__ did not run."""

    if TYPE_CHECKING:

        def __new__(cls) -> Any: ...

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(_not_initialised(instance, f"using {self.name!r}"))


class Module:
    """Base class of layers: subclass it, call `super().__init__()`, assign parameters and layers,
    define `forward`.

    Source: the interface of `torch.nn.Module`.
    """

    # Stand-ins until __init__ has run. There is no __getattr__: it would slow every attribute down.
    training: bool
    _parameters: dict[str, Parameter | None] = _Uninitialised()
    _buffers: dict[str, Tensor | None] = _Uninitialised()
    _modules: dict[str, Module | None] = _Uninitialised()
    _non_persistent_buffers_set: set[str] = _Uninitialised()
    _forward_pre_hooks: dict[int, _Hook] = _Uninitialised()
    _forward_hooks: dict[int, _Hook] = _Uninitialised()
    _backward_pre_hooks: dict[int, _Hook] = _Uninitialised()
    _backward_hooks: dict[int, _Hook] = _Uninitialised()
    _hooked = True

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _non_persistent_buffers_set=set(),
            _modules={},
            _hooked=False,
            _forward_pre_hooks={},
            _forward_hooks={},
            _backward_pre_hooks={},
            _backward_hooks={},
        )

    # --- calling -----------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every subclass defines its own."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._hooked:
                return self._call_hooked(args, kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            _note_path(error, self, args)
            raise

    def _call_hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        always = {key: hook for key, hook in self._forward_hooks.items() if hook.always_call}
        result: Any = None
        try:
            for hook in list(self._forward_pre_hooks.values()):
                if hook.with_kwargs:
                    changed = hook.call(self, args, kwargs)
                    if changed is not None:
                        if not (isinstance(changed, tuple) and len(changed) == 2):
                            raise TypeError(
                                "forward pre-hook with with_kwargs=True must return None or (args, kwargs), "
                                f"got {type(changed).__name__}"
                            )
                        args, kwargs = changed
                else:
                    changed = hook.call(self, args)
                    if changed is not None:
                        args = changed if isinstance(changed, tuple) else (changed,)
            watched = None
            if self._backward_hooks or self._backward_pre_hooks:
                watched = Watch(
                    self, list(self._backward_pre_hooks.values()), list(self._backward_hooks.values())
                )
                args = watched.inputs(args)
            result = self.forward(*args, **kwargs)
            for key, hook in list(self._forward_hooks.items()):
                always.pop(key, None)
                replaced = (
                    hook.call(self, args, kwargs, result)
                    if hook.with_kwargs
                    else hook.call(self, args, result)
                )
                if replaced is not None:
                    result = replaced
            if watched is not None:
                result = watched.outputs(result)
            return result
        except Exception:
            for hook in always.values():
                try:
                    if hook.with_kwargs:
                        hook.call(self, args, kwargs, result)
                    else:
                        hook.call(self, args, result)
                except Exception as second:  # the first error is the one to report
                    sys.stderr.write(
                        f"forward hook with always_call=True failed after an error: {second!r}\n"
                    )
            raise

    # --- hooks -------------------------------------------------------------------------------

    def _hooks_changed(self) -> None:
        self.__dict__["_hooked"] = bool(
            self._forward_pre_hooks or self._forward_hooks or self._backward_pre_hooks or self._backward_hooks
        )

    def _add_hook(self, hooks: dict[int, _Hook], hook: _Hook, prepend: bool) -> RemovableHandle:
        if not callable(hook.call):
            raise TypeError(f"hook must be callable, got {type(hook.call).__name__}")
        handle = RemovableHandle(hooks, self)
        if prepend:
            others = dict(hooks)
            hooks.clear()
            hooks[handle.id] = hook
            hooks.update(others)
        else:
            hooks[handle.id] = hook
        self._hooks_changed()
        return handle

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before `forward`; what it returns (if not None) replaces the
        arguments.
        """
        return self._add_hook(self._forward_pre_hooks, _Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after `forward`;
        what it returns (if not None) replaces the output.
        """
        return self._add_hook(self._forward_hooks, _Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of the outputs are known;
        a tuple replaces them.
        """
        return self._add_hook(self._backward_pre_hooks, _Hook(hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known.

        `grad_input` has one entry for each positional argument, None where it is not a tensor that needs
        gradients. What the hook returns (if not None) replaces `grad_input`.
        """
        return self._add_hook(self._backward_hooks, _Hook(hook), prepend)

    # --- registration ------------------------------------------------------------------------

    def _check_name(self, kind: str, name: str) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(_not_initialised(self, f"registering {kind} {name!r}"))
        if not isinstance(name, str):
            raise TypeError(f"{kind} name must be a string, got {type(name).__name__}")
        if name == "" or "." in name:
            raise KeyError(f"{kind} name {name!r} must be non-empty and must not contain '.'")
        known = any(name in self.__dict__[registry] for registry in _REGISTRIES)
        if not known and (name in self.__dict__ or hasattr(type(self), name)):
            raise KeyError(
                f"{type(self).__name__} already has an attribute {name!r}; choose another {kind} name"
            )

    def _register(self, registry: str, name: str, value: Any) -> None:
        for other in _REGISTRIES:
            if other != registry and self.__dict__[other].pop(name, self) is not self:
                self._non_persistent_buffers_set.discard(name)
        self.__dict__[registry][name] = value
        self.__dict__[name] = value

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under `name`; None keeps the name free and out of `state_dict`."""
        self._check_name("parameter", name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot register a {type(param).__name__} as parameter {name!r} of {type(self).__name__}: "
                "wrap it in nn.Parameter"
            )
        if param is not None and not param.is_leaf:
            raise ValueError(
                f"parameter {name!r} of {type(self).__name__} must be a leaf, not the result of an operation"
            )
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not trained; `persistent=False` keeps it out of `state_dict`."""
        self._check_name("buffer", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"buffer {name!r} of {type(self).__name__} must be a Tensor or None, got "
                f"{type(tensor).__name__}"
            )
        self._register("_buffers", name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under `name`."""
        self._check_name("module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                f"module {name!r} of {type(self).__name__} must be a Module or None, got "
                f"{type(module).__name__}"
            )
        self._register("_modules", name, module)

    register_module = add_module

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = self.__dict__
        parameters = attributes.get("_parameters")
        if isinstance(value, (Parameter, Module)):
            if parameters is None:
                raise AttributeError(_not_initialised(self, f"assigning {name!r}"))
            if isinstance(value, Parameter):
                if name not in parameters:
                    attributes.pop(name, None)
                self.register_parameter(name, value)
            else:
                if name in parameters:
                    raise TypeError(
                        f"cannot assign a {type(value).__name__} as parameter {name!r} of {type(self).__name__}: "
                        "an nn.Parameter or None is expected"
                    )
                if name not in attributes["_modules"]:
                    attributes.pop(name, None)
                self.add_module(name, value)
            return
        if parameters is not None:
            if name in parameters:
                if value is not None:
                    raise TypeError(
                        f"cannot assign a {type(value).__name__} as parameter {name!r} of "
                        f"{type(self).__name__}: "
                        "an nn.Parameter or None is expected"
                    )
                parameters[name] = None
            elif name in attributes["_modules"]:
                if value is not None:
                    raise TypeError(
                        f"cannot assign a {type(value).__name__} as module {name!r} of "
                        f"{type(self).__name__}: "
                        "a Module or None is expected"
                    )
                attributes["_modules"][name] = None
            elif name in attributes["_buffers"]:
                if value is not None and not isinstance(value, Tensor):
                    raise TypeError(
                        f"cannot assign a {type(value).__name__} as buffer {name!r} of "
                        f"{type(self).__name__}: "
                        "a Tensor or None is expected"
                    )
                attributes["_buffers"][name] = value
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for registry in _REGISTRIES:
            self.__dict__.get(registry, {}).pop(name, None)
        self.__dict__.get("_non_persistent_buffers_set", set()).discard(name)
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted(key for key in super().__dir__() if not key[0].isdigit())

    # --- walking -----------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Every module below and including this one, depth first, with its dotted path ("" for this one)."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def _named_members(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in module.__dict__[registry].items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their dotted names; a shared one appears once unless `remove_duplicate=False`."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their dotted names, persistent or not."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, each once."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter, in the order of `named_parameters`."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Every buffer, in the order of `named_buffers`."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return (child for _, child in self.named_children())

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """Every module below and including this one."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; "" is this one. AttributeError names the part that is missing."""
        module = self
        path = ""
        for part in target.split(".") if target else ():
            child = module._modules.get(part)
            if child is None:
                raise AttributeError(
                    f"{type(module).__name__} at {path!r} has no module {part!r} (of {target!r})"
                )
            module, path = child, f"{path}.{part}" if path else part
        return module

    def _get_member(self, registry: str, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        value = module.__dict__[registry].get(name)
        if value is None:
            raise AttributeError(f"{type(module).__name__} at {path!r} has no {kind} {name!r}")
        return value

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        parameter: Parameter = self._get_member("_parameters", "parameter", target)
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        buffer: Tensor = self._get_member("_buffers", "buffer", target)
        return buffer

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn(module)` on every module below and then on this one; returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # --- mode, gradients, dtype --------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Put this module and all below into training mode (dropout drops, batch norm uses the batch)."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be True or False, got {mode!r}")
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self: M) -> M:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Switch gradients of every parameter on or off."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget every parameter's gradient, or fill it with zeros, in its memory."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else cleared(parameter.grad)

    def to(self: M, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> M:
        """Cast floating-point parameters and buffers to `dtype` and move everything to `device`, in place:
        optimizers keep their references.

        `to(ts.float64)`, `to("cuda")`, `to("cpu", ts.float64)`, or `to(tensor)`: where and what that is. Gradients
        follow. Optimizer state does not: make the optimizer afterwards. RuntimeError where the device is not available.
        `non_blocking` is taken and changes nothing.
        """
        if isinstance(device, Tensor):  # as PyTorch's to(tensor)
            dtype = device.dtype if dtype is None else dtype
            device = device.device
        if device is not None and dtype is None and isinstance(device, DType):
            device, dtype = None, device
        if dtype is not None and not ts.isdtype(dtype, "real floating"):
            raise TypeError(f"Module.to: dtype must be a floating-point type, got {dtype}")
        casts: list[tuple[Tensor, Tensor, Tensor | None]] = []  # all before the first change
        for tensor in [*self.parameters(), *self.buffers()]:
            wanted = dtype if dtype is not None and ts.isdtype(tensor.dtype, "real floating") else None
            value = tensor.detach().to(dtype=wanted, device=device)
            if value.dtype != tensor.dtype or value.device != tensor.device:
                grad = None if tensor.grad is None else tensor.grad.detach().to(dtype=wanted, device=device)
                casts.append((tensor, value, grad))
        for tensor, value, grad in casts:
            tensor._share(value)
            tensor.grad = grad
        return self

    def float(self: M) -> M:
        """`to(ts.float32)`."""
        return self.to(dtype=ts.float32)

    def double(self: M) -> M:
        """`to(ts.float64)`."""
        return self.to(dtype=ts.float64)

    def half(self: M) -> M:
        """`to(ts.float16)`."""
        return self.to(dtype=ts.float16)

    def bfloat16(self: M) -> M:
        """`to(ts.bfloat16)`."""
        return self.to(dtype=ts.bfloat16)

    def cpu(self: M) -> M:
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self: M) -> M:
        """`to("cuda")`."""
        return self.to("cuda")

    # --- state -------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in [*self._parameters.items(), *self._buffers.items()]:
            if value is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = value if keep_vars else value.detach()

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Every parameter and persistent buffer under its dotted name, in registration order.

        The tensors share memory with the module (copy what must stay); `keep_vars=True` gives the
        parameters themselves instead of detached views.
        """
        destination = OrderedDict() if destination is None else destination
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return destination

    def _upgrade_state_dict(self, state: dict[str, Any], prefix: str) -> None:
        """Bring entries saved by an older layout up to date; `state` is a private copy."""

    def _awaited(self, state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
        """Of a lazy layer: what is to take the place of parameters that get their shapes from `state`."""
        return {}

    def _adopt(self, tensors: Mapping[str, Tensor]) -> None:
        """Put `_awaited`'s tensors in their places, once they have their values."""

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy `state_dict` (of tensors, NumPy arrays or PyTorch tensors) into this module: all or nothing.

        Every entry is checked first; if one is wrong, RuntimeError lists all that are and nothing changes.
        Values are cast to the dtype they go to. `strict=False` skips missing and unexpected keys, never
        wrong shapes. `assign=True` adopts the given values' dtypes instead of casting to the module's.

        Returns `(missing_keys, unexpected_keys)`.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: state_dict must be a mapping, got {type(state_dict).__name__}")
        state = dict(state_dict)
        targets: dict[str, Tensor] = {}
        awaited: list[tuple[Module, dict[str, Tensor]]] = []
        for path, module in self.named_modules(remove_duplicate=False):
            prefix = f"{path}." if path else ""
            module._upgrade_state_dict(state, prefix)
            module._save_to_state_dict(targets, prefix, True)
            if tensors := module._awaited(state, prefix):
                awaited.append((module, tensors))
                targets.update((prefix + name, tensor) for name, tensor in tensors.items())
        missing = [key for key in targets if key not in state]
        unexpected = [key for key in state if key not in targets]
        errors: list[str] = []
        if strict and missing:
            errors.append("missing keys: " + ", ".join(map(repr, missing)))
        if strict and unexpected:
            errors.append("unexpected keys: " + ", ".join(map(repr, unexpected)))
        sources: list[Source] = []
        for key, target in targets.items():
            if key in state:
                try:
                    sources.append(checked_source(key, target, state[key], keep_dtype=assign))
                except (TypeError, ValueError) as error:
                    errors.append(str(error))
        if errors:
            raise RuntimeError(
                f"load_state_dict: {type(self).__name__} cannot take this state_dict; nothing was "
                "changed:\n  " + "\n  ".join(errors)
            )
        separate(sources)
        for source in sources:
            source.write()
        for module, tensors in awaited:
            module._adopt(tensors)
        return IncompatibleKeys(missing, unexpected)

    # --- text --------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses of `repr`; layers override it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [f"({name}): " + _indent(repr(child)) for name, child in self._modules.items()]
        if not child_lines and len(extra_lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(extra_lines + child_lines) + "\n)"


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _not_initialised(module: Module, doing: str) -> str:
    name = type(module).__name__
    return f"{name}.__init__() must call super().__init__() first, before {doing}"


# --- the path of a failing module ----------------------------------------------------------------


class _Failure:
    """Where an exception left `forward`: rewritten with a longer path at every module on the way out."""

    __slots__ = ("description", "message", "module", "note", "path")

    def __init__(self, error: Exception, module: Module, args: tuple[Any, ...]) -> None:
        self.module = module
        self.path = ""
        layer = module._get_name() if module._modules else repr(module)
        self.description = f"{layer}, called with {_describe(args)}"
        self.note = ""
        self.message = error.args[0] if len(error.args) == 1 and isinstance(error.args[0], str) else None


def _describe(args: Iterable[Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, Tensor):
            return f"{value.dtype} {tuple(value.shape)}"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(map(one, value[:4])) + (", ..." if len(value) > 4 else "") + "]"
        return type(value).__name__

    return "(" + ", ".join(map(one, args)) + ")"


def _note_path(error: Exception, module: Module, args: tuple[Any, ...]) -> None:
    try:
        failure = getattr(error, "_module_failure", None)
        if failure is None:
            failure = _Failure(error, module, args)
            error._module_failure = failure  # type: ignore[attr-defined]
        else:
            name = next((name for name, inner in module.named_modules() if inner is failure.module), None)
            if name is None:
                return  # the failing module is not registered below this one: keep the path we have
            failure.path = f"{name}.{failure.path}" if failure.path and name else name or failure.path
            failure.module = module
        root = module._get_name()
        note = f"in {root}.{failure.path}: " if failure.path else f"in {root}: "
        if failure.path or not failure.description.startswith(root):
            note += failure.description
        else:
            note = f"in {failure.description}"
        if sys.version_info >= (3, 11):
            notes = getattr(error, "__notes__", [])
            if failure.note in notes:
                notes[notes.index(failure.note)] = note
            else:
                error.add_note(note)
        elif failure.message is not None:
            error.args = (f"{failure.message}\n{note}",)
        failure.note = note
    except Exception:  # describing an error must never hide it
        return
