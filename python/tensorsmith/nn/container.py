"""Modules that hold modules or parameters: `Sequential`, `ModuleList`, `ModuleDict`, `ParameterList`,
`ParameterDict`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from tensorsmith.nn import _checks
from tensorsmith.nn.activation import ReLU
from tensorsmith.nn.conv import Conv2d
from tensorsmith.nn.linear import Linear
from tensorsmith.nn.module import Module, _indent, _note_path
from tensorsmith.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor

M = TypeVar("M", bound=Module)


def _position(container: str, index: Any, length: int) -> int:
    number = operator.index(index)
    if not -length <= number < length:
        raise IndexError(f"{container}: index {number} is out of range for {length} entries")
    return number % length


class _Numbered(Module):
    """Children under the names "0", "1", ...: what `Sequential` and `ModuleList` share."""

    _modules: dict[str, Module]  # type: ignore[assignment]  # never None here

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def _key(self, index: int) -> str:
        return list(self._modules)[_position(self._get_name(), index, len(self))]

    def _renumber(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        for name in list(self._modules):
            delattr(self, name)
        for number, module in enumerate(modules):
            self.add_module(str(number), module)

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        if isinstance(index, slice):
            del modules[index]
        else:
            del modules[_position(self._get_name(), index, len(self))]
        self._renumber(modules)

    def _append(self, module: Module) -> None:
        self.add_module(str(len(self)), module)

    def _insert(self, index: int, module: Module) -> None:
        if not -len(self) <= index <= len(self):
            raise IndexError(f"{self._get_name()}: index {index} is out of range for {len(self)} entries")
        if not isinstance(module, Module):
            raise TypeError(f"{self._get_name()}: only a Module can be inserted, got {type(module).__name__}")
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)

    def pop(self, key: int) -> Module:
        """Remove and return the module at `key`."""
        module = self._modules[self._key(key)]
        del self[key]
        return module


# Layers whose kernels apply a ReLU as they write their result: the same bits, one pass over memory less.
_TAKE_RELU = frozenset((Linear, Conv2d, BatchNorm1d, BatchNorm2d, BatchNorm3d))


def _with_relu(layer: Any, input: Any) -> Any:
    try:
        return layer._forward_relu(input)
    except Exception as error:
        _note_path(error, layer, (input,))
        raise


class Sequential(_Numbered):
    """Modules applied one after the other.

    `Sequential(a, b, c)`, or `Sequential(OrderedDict(first=a, second=b))` to name them. A `ReLU` right after
    a `Linear`, `Conv2d` or batch norm is computed together with it, unless one of them has hooks.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for number, module in enumerate(args):
                self.add_module(str(number), module)

    def forward(self, input: Any) -> Any:
        held: Any = None  # a layer that waits to see whether a ReLU follows
        for module in self._modules.values():
            if held is not None:
                if (
                    type(module) is ReLU
                    and not (module._hooked or held._hooked)
                    and "forward" not in held.__dict__
                ):
                    input, held = _with_relu(held, input), None
                    continue
                input, held = held(input), None
            if type(module) in _TAKE_RELU:
                held = module
            else:
                input = module(input)
        return input if held is None else held(input)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            part = Sequential()
            for name, module in list(self._modules.items())[index]:
                part.add_module(name, module)
            return part
        return self._modules[self._key(index)]

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise TypeError(f"Sequential: can only be added to a Sequential, got {type(other).__name__}")
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise TypeError(f"Sequential: can only be added to a Sequential, got {type(other).__name__}")
        return self.extend(other)

    def _times(self, count: Any) -> list[Module]:
        return list(self) * _checks.integer("Sequential", "the number of repetitions", count, 1)

    def __mul__(self, count: int) -> Sequential:
        return Sequential(*self._times(count))

    __rmul__ = __mul__

    def __imul__(self, count: int) -> Sequential:
        return self.extend(self._times(count)[len(self) :])

    def append(self, module: Module) -> Sequential:
        """Add a module at the end; returns self."""
        self._append(module)
        return self

    def extend(self, modules: Iterable[Module]) -> Sequential:
        """Add modules at the end; returns self."""
        for module in list(modules):
            self._append(module)
        return self

    def insert(self, index: int, module: Module) -> Sequential:
        """Put a module before position `index`; returns self."""
        self._insert(index, module)
        return self


class ModuleList(_Numbered):
    """A list of modules whose parameters are registered; it has no `forward`."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return ModuleList(list(self)[index])
        return self._modules[self._key(index)]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end; returns self."""
        self._append(module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end; returns self."""
        for module in list(modules):
            self._append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before position `index`."""
        self._insert(index, module)

    def __repr__(self) -> str:
        lines: list[str] = []
        first, text = 0, ""
        for number, module in enumerate(self):  # equal neighbours share a line: (0-3): 4 x Linear(...)
            current = repr(module)
            if number and current != text:
                lines.append(_repeated(first, number - 1, text))
                first = number
            text = current
        if not len(self):
            return f"{self._get_name()}()"
        lines.append(_repeated(first, len(self) - 1, text))
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _repeated(first: int, last: int, text: str) -> str:
    if first == last:
        return f"({first}): {_indent(text)}"
    return f"({first}-{last}): {last - first + 1} x {_indent(text)}"


class ModuleDict(Module):
    """A dictionary of modules whose parameters are registered; it has no `forward`."""

    _modules: dict[str, Module]  # type: ignore[assignment]  # never None here

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self._modules:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove every module."""
        for key in list(self._modules):
            del self[key]

    def pop(self, key: str) -> Module:
        """Remove and return the module under `key`."""
        module = self[key]
        del self[key]
        return module

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module) pairs."""
        return self._modules.items()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules from a mapping or from pairs."""
        pairs = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        for key, module in list(pairs):
            self[key] = module


def _as_parameter(owner: str, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if isinstance(value, Tensor):
        return Parameter(value)
    raise TypeError(f"{owner}: entries must be Parameters or Tensors, got {type(value).__name__}")


class ParameterList(Module):
    """A list of parameters, registered under "0", "1", ...; a plain tensor becomes a Parameter."""

    _parameters: dict[str, Parameter]  # type: ignore[assignment]  # never None here

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return self._parameters[str(_position("ParameterList", index, len(self)))]

    def __setitem__(self, index: int, value: Any) -> None:
        name = str(_position("ParameterList", index, len(self)))
        self.register_parameter(name, _as_parameter("ParameterList", value))

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end; returns self."""
        self.register_parameter(str(len(self)), _as_parameter("ParameterList", value))
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add parameters at the end; returns self."""
        if isinstance(values, Tensor) or not isinstance(values, Iterable):
            raise TypeError(f"ParameterList: can only be extended by a sequence, got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self) -> str:
        return "\n".join(_parameter_line(name, value) for name, value in self._parameters.items())


class ParameterDict(Module):
    """A dictionary of parameters; a plain tensor becomes a Parameter."""

    _parameters: dict[str, Parameter]  # type: ignore[assignment]  # never None here

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Parameter:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _as_parameter("ParameterDict", value))

    def __delitem__(self, key: str) -> None:
        if key not in self._parameters:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: object) -> bool:
        return key in self._parameters

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._parameters)

    def __or__(self, other: ParameterDict) -> ParameterDict:
        if not isinstance(other, ParameterDict):
            return NotImplemented
        return ParameterDict([*self.items(), *other.items()])

    def __ior__(self, other: ParameterDict) -> ParameterDict:
        self.update(other.items())
        return self

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parameters.keys()

    def items(self) -> Iterable[tuple[str, Parameter]]:
        """(name, parameter) pairs."""
        return self._parameters.items()

    def values(self) -> Iterable[Parameter]:
        """The parameters."""
        return self._parameters.values()

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace parameters from a mapping or from pairs."""
        pairs = parameters.items() if isinstance(parameters, (Mapping, ParameterDict)) else parameters
        for key, value in list(pairs):
            self[key] = value

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter of this name, or `default`."""
        return self._parameters.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Parameter | None:
        """The parameter of this name, which is made from `default` where there is none."""
        if key not in self._parameters and default is not None:
            self[key] = default
        return self._parameters.get(key)

    def pop(self, key: str) -> Parameter:
        """Take out the parameter of this name. KeyError where there is none."""
        value = self._parameters[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Parameter]:
        """Take out the last parameter, with its name. KeyError where there is none."""
        if not self._parameters:
            raise KeyError("ParameterDict: popitem of an empty dictionary")
        key = next(reversed(self._parameters))
        return key, self.pop(key)

    def clear(self) -> None:
        """Take out all parameters."""
        for key in list(self._parameters):
            del self[key]

    def copy(self) -> ParameterDict:
        """A new dictionary of the same parameters."""
        return ParameterDict(self.items())

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new dictionary with `default` under every name."""
        return ParameterDict((key, default) for key in keys)

    def extra_repr(self) -> str:
        return "\n".join(_parameter_line(name, value) for name, value in self._parameters.items())


def _parameter_line(name: str, value: Tensor) -> str:
    size = "x".join(map(str, value.shape)) or "()"
    return f"({name}): Parameter of {value.dtype} {size}"
