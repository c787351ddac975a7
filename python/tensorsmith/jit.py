"""`ts.jit`: a function's kernels are recorded once and replayed from then on, with no Python between them.

    @ts.jit
    def step(x, t):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

The first call with a new signature runs as always and is recorded on the way; later calls replay the recording,
with the same bits. The rules are in docs/jit.md. In short: Python runs at recording only, whatever changes from
call to call comes in as an argument or lives in tensors, and what a recording took for granted (attributes,
globals, closures, modes, the tensors themselves) is looked at before every replay: where it has changed, the
function is recorded anew.
"""

from __future__ import annotations

import functools
import gc
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tensorsmith import _core
from tensorsmith.tensor import Tensor

__all__ = ["CacheInfo", "Jitted", "aside", "jit", "replayed"]

_core.set_package_folder(str(Path(__file__).parent) + "/")

_WARM_UPS = 2  # calls that may run without leaving a recording (they fill caches), before that is an error
_Result = TypeVar("_Result")
_SCALARS = (int, float, bool, str, bytes, complex, type(None))


class CacheInfo(NamedTuple):
    """Calls that were replayed, calls that ran, how many recordings there may be and are, and how many of them the GPU
    replays as graphs and how many kernel by kernel (`Jitted.graph` says why).
    """

    hits: int
    misses: int
    maxsize: int
    currsize: int
    cuda_graphs: int = 0
    kernel_by_kernel: int = 0


# --- what host code does about captures -----------------------------------------------------------


@contextmanager
def aside() -> Iterator[None]:
    """What runs inside is not part of a recording that is being made: state that is created once."""
    capture = _core.put_capture_aside()
    try:
        yield
    finally:
        _core.take_capture_up(capture)


def replayed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Of work on Python's own numbers (a schedule's step): a recording calls it again at each replay, with the
    same arguments, at the same place between the kernels.
    """

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _core.capturing():
            return method(*args, **kwargs)
        _core.at_replay(functools.partial(method, *args, **kwargs))
        capture = _core.put_capture_aside()
        try:
            return method(*args, **kwargs)
        finally:
            _core.take_capture_up(capture)

    return call


# --- what a recording takes for granted -----------------------------------------------------------

# Kinds of guards, in the order of csrc/python/guard.h.
_ITEM, _EQUAL_ITEM, _TRUTH_ITEM, _DICT_SIZE, _LIST_ITEM, _LIST_SIZE, _CELL, _EQUAL_CELL, _MEMORY = range(9)


def _remembered(f: Callable[[Any], _Result]) -> Callable[[Any], _Result]:
    return functools.lru_cache(1024)(f)


_FOREIGN = ("tensorsmith", "numpy", "builtins", "torch", "jax", "scipy")


@_remembered
def _foreign_name(module: str) -> bool:
    return module.split(".", 1)[0] in _FOREIGN


def _foreign(module: Any) -> bool:
    # A C type may have a descriptor there.
    return not isinstance(module, str) or _foreign_name(module)


# What the walk does with an object is decided by its class, once.
(
    _SCALAR,
    _NOTHING,
    _MODULE_OF_PYTHON,
    _TENSOR,
    _CALLABLE,
    _CONTAINER,
    _LAYER,
    _OPTIMIZER,
    _PARTIAL,
    _INSTANCE,
) = range(10)


@_remembered
def _kind(of: type) -> int:
    from tensorsmith.nn.module import Module
    from tensorsmith.optim.lr_scheduler import LRScheduler
    from tensorsmith.optim.optimizer import Optimizer

    kinds: tuple[tuple[Any, int], ...] = (
        (_SCALARS, _SCALAR),
        (types.ModuleType, _MODULE_OF_PYTHON),
        (Tensor, _TENSOR),
        ((types.FunctionType, types.MethodType, Jitted), _CALLABLE),
        ((list, tuple, dict), _CONTAINER),
        (Module, _LAYER),
        (Optimizer, _OPTIMIZER),
        (LRScheduler, _NOTHING),  # its step runs at every replay
        (functools.partial, _PARTIAL),
        ((type, np.ndarray, np.generic), _NOTHING),
    )
    found = next((kind for classes, kind in kinds if issubclass(of, classes)), _INSTANCE)
    return _NOTHING if found == _INSTANCE and _foreign(of.__module__) else found


@_remembered
def _own_classes(of: type) -> tuple[type, ...]:
    """The class and its bases, without those whose code is known."""
    return tuple(base for base in of.__mro__ if not _foreign(base.__module__))


# Of a layer's attributes: walked by themselves, or of no consequence to a call.
_GROUPS = ("_parameters", "_buffers", "_modules")
_APART = frozenset((*_GROUPS, "_non_persistent_buffers_set"))
_HOOKS = frozenset(("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"))


class _Walk:
    """Collects guards over everything that the function can reach: closures, the globals that its code names,
    attributes of modules and other objects, containers.
    """

    def __init__(self) -> None:
        # Five for each: its kind, container, key, what is expected, and a name for people.
        self.guards: list[Any] = []
        self._seen: dict[int, Any] = {}
        self._names: set[str] = set()  # that the code seen so far asks for
        self._instances: list[tuple[dict[Any, Any], str, set[str]]] = []  # with the names that were looked at

    def _first(self, value: Any) -> bool:
        if id(value) in self._seen:
            return False
        self._seen[id(value)] = value  # kept, so that its id stays its own
        return True

    def function(self, f: Any, path: str) -> None:
        f = getattr(f, "__func__", f)
        f = getattr(f, "__wrapped__", f) if isinstance(f, Jitted) else f
        if not isinstance(f, types.FunctionType) or not self._first(f):
            return
        code = f.__code__
        names = _names(code)
        self._names |= names
        for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            if _kind(type(value)) == _SCALAR:
                self.guards.extend((_EQUAL_CELL, cell, None, value, name))
            else:
                self.guards.extend((_CELL, cell, None, value, name))
                self.value(value, name)
        for name in names & f.__globals__.keys():
            self.entry(f.__globals__, name, name, names)
        for position, value in enumerate(f.__defaults__ or ()):
            self.value(value, f"{path}.__defaults__[{position}]")
        wrapped = getattr(f, "__wrapped__", None)
        if wrapped is not None:
            self.function(wrapped, path)

    def entry(self, table: dict[Any, Any], key: Any, path: str, names: frozenset[str] | None = None) -> None:
        """One item of a dict."""
        value = table[key]
        kind = _kind(type(value))
        if kind == _SCALAR:
            self.guards.extend((_EQUAL_ITEM, table, key, value, path))
        elif kind == _MODULE_OF_PYTHON:
            if names and not _foreign(value.__name__) and self._first(value):
                for name in names & value.__dict__.keys():
                    self.entry(value.__dict__, name, f"{path}.{name}")
        else:
            self.guards.extend((_ITEM, table, key, value, path))
            if kind != _NOTHING and id(value) not in self._seen:
                self.value(value, path)

    def value(self, value: Any, path: str) -> None:
        kind = _kind(type(value))
        if kind == _TENSOR:
            if self._first(value):
                self.guards.extend((_MEMORY, None, None, value, path))
        elif kind == _CALLABLE:
            if isinstance(value, types.MethodType):
                self.value(value.__self__, path)
            if not _foreign(getattr(value, "__module__", None)):
                self.function(value, path)
        elif kind == _CONTAINER:
            if self._first(value):
                self.container(value, path)
        elif kind == _LAYER:
            if self._first(value):
                self.module(value, path)
        elif kind == _OPTIMIZER:
            if self._first(value):
                self.optimizer(value, path)
        elif kind == _PARTIAL:
            self.value(value.func, path)
            self.container(list(value.args), path)
            self.container(value.keywords, path)
        elif kind == _INSTANCE and self._first(value):
            self.instance(value, path)

    def container(self, value: Any, path: str) -> None:
        if isinstance(value, dict):
            self.guards.extend((_DICT_SIZE, value, len(value), None, path))
            for key in value:
                self.entry(value, key, f"{path}[{key!r}]")
            return
        if isinstance(value, list):
            self.guards.extend((_LIST_SIZE, value, len(value), None, path))
        for number, item in enumerate(value):
            if isinstance(value, list):
                self.guards.extend((_LIST_ITEM, value, number, item, f"{path}[{number}]"))
            if _kind(type(item)) != _SCALAR:
                self.value(item, f"{path}[{number}]")

    def module(self, module: Any, path: str) -> None:
        table = vars(module)
        guards = self.guards
        guards.extend((_DICT_SIZE, table, len(table), None, path))
        # Where no hook is in place, which `_hooked` tells, nobody looks at the tables of hooks.
        skip = _APART if table.get("_hooked", True) else _APART | _HOOKS
        for name in table:
            if name not in skip:
                self.entry(table, name, f"{path}.{name}")
        for group in _GROUPS:
            items = table[group]
            guards.extend((_ITEM, table, group, items, path))
            guards.extend((_DICT_SIZE, items, len(items), None, path))
            for name in items:
                self.entry(items, name, f"{path}.{name}")
        self.methods(module, path)

    def optimizer(self, optimizer: Any, path: str) -> None:
        """Numbers that its kernels read from memory may change; what chooses the kernel's work may not."""
        groups = optimizer.param_groups
        self.guards.extend((_LIST_SIZE, groups, len(groups), None, f"{path}.param_groups"))
        for number, group in enumerate(groups):
            where = f"{path}.param_groups[{number}]"
            self.guards.extend((_LIST_ITEM, groups, number, group, where))
            for key, value in group.items():
                if key == "params" or isinstance(value, bool):
                    self.entry(group, key, f"{where}[{key!r}]")
                elif key == "momentum":
                    self.guards.extend((_TRUTH_ITEM, group, key, bool(value), f"{where}[{key!r}]"))
        buckets = optimizer._buckets
        for bucket in buckets:
            self.value(bucket.hyper, path)
            self.container(bucket.state, f"{path}.state")

    def instance(self, value: Any, path: str) -> None:
        """Any other object with attributes of its own."""
        self.methods(value, path)
        table = getattr(value, "__dict__", None)
        if isinstance(table, dict):
            self._instances.append((table, path, set()))

    def finish(self) -> list[Any]:
        """The guards; attributes last, for only now it is known which of them the code names."""
        fresh = True
        while fresh:
            fresh = False
            for table, path, known in self._instances:
                for name in (self._names & table.keys()) - known:
                    fresh = True
                    known.add(name)
                    self.entry(table, name, f"{path}.{name}")
        return self.guards

    def methods(self, value: Any, path: str) -> None:
        """The functions of a user's class, whose code names globals."""
        for base in _own_classes(type(value)):
            for name, member in vars(base).items():
                member = getattr(member, "fget", member)  # of a property
                if isinstance(member, types.FunctionType):
                    self.function(member, f"{path}.{name}")


@_remembered
def _names(code: types.CodeType) -> frozenset[str]:
    """What the code and the functions within ask for."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return frozenset(code.co_names).union(*inner)


def _assumptions(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    walk = _Walk()
    walk.value(function, getattr(function, "__name__", "function"))
    if isinstance(function, types.FunctionType):
        walk.function(function, function.__name__)
    elif callable(function) and not isinstance(function, types.MethodType):
        walk.value(function, "self")

    def look(value: Any, path: str) -> None:
        # Tensors, containers and numbers among the arguments are in the signature; objects have attributes.
        if isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                look(item, f"{path}[{number}]")
        elif isinstance(value, dict):
            for key, item in value.items():
                look(item, f"{path}[{key!r}]")
        elif _kind(type(value)) not in (_TENSOR, _SCALAR):
            walk.value(value, path)

    for number, value in enumerate(args):
        look(value, f"argument {number}")
    for name, value in kwargs.items():
        look(value, f"argument {name}")
    return walk.finish()


# --- the callable ---------------------------------------------------------------------------------


def _as_tensors(value: Any) -> Any:
    """Arguments with NumPy arrays as tensors over the same memory."""
    if isinstance(value, np.ndarray):
        return _shared(value)
    if type(value) in (tuple, list):
        return type(value)(_as_tensors(item) for item in value)
    if type(value) is dict:
        return {key: _as_tensors(item) for key, item in value.items()}
    return value


def _shared(array: np.ndarray[Any, Any]) -> Tensor:
    from tensorsmith.ops.creation import asarray

    tensor: Tensor = asarray(array)
    return tensor


class Jitted(_core.Replays):
    """What `ts.jit` returns: call it like the function. Also a method, where the function is one."""

    def __init__(self, function: Callable[..., Any], fallback: bool, cache_size: int) -> None:
        functools.update_wrapper(self, function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self._limit = cache_size
        self._fallback = fallback
        self._function = function
        self._failed: str | None = None  # why it runs eagerly from now on
        self._warm_ups = 0
        self._reasons: list[str] = []

    def _record(self, args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> Any:
        """Runs the function for a call that no recording serves, and records it; the core calls this."""
        if reason == "inside" or self._failed is not None:
            return self._function(*args, **kwargs)
        self._miss()
        self._reasons = [*self._reasons[-31:], reason]
        args, kwargs = _as_tensors(args), _as_tensors(kwargs)
        session = _core.Session(args, kwargs, _assumptions(self._function, args, kwargs), self._fallback)
        try:
            session.begin()
            result = self._function(*args, **kwargs)
        finally:
            session.end()
        if session.refusal:  # with fallback, or the function caught the error
            return self._refuse(session.refusal, result)
        why = self._finish(session, result)
        if why is None:
            self._warm_ups = 0
            return self._strip(result)
        # It may have filled a cache, which it finds filled the next time.
        self._warm_ups += 1
        if self._warm_ups > _WARM_UPS:
            return self._refuse(f"{self.__name__} cannot be replayed: {why}", result)
        return self._strip(result)

    def _finish(self, session: Any, result: Any) -> str | None:
        """Keeps the recording, or says why there is none yet."""
        changed = session.changed()
        if changed is not None:
            return (
                f"it changes {changed} while it runs, which a replay would not; return the new value instead"
            )
        try:
            why = self._keep(session, result)
            if why is not None:
                gc.collect()  # what only a cycle holds is not held
                why = self._keep(session, result)
        except RuntimeError as error:
            if not self._fallback:
                raise
            return str(error)
        return None if why is None else f"{why}; return it instead"

    def _refuse(self, why: str, result: Any) -> Any:
        if not self._fallback:
            raise RuntimeError(why if why.startswith("jit: ") else f"jit: {why}")
        return self._give_up(why, result)

    def _give_up(self, why: str, result: Any) -> Any:
        self._failed = why
        warnings.warn(
            f"jit: {self.__name__} runs without recordings from now on: {why}", RuntimeWarning, stacklevel=3
        )
        return result

    def cache_info(self) -> CacheInfo:
        """How often it was replayed and how often it ran."""
        return CacheInfo(*self._counts, *self._on_cuda)

    def why(self) -> list[str]:
        """Why each of the last 32 calls that ran was not replayed, the latest last."""
        return list(self._reasons)

    def graph(self) -> str:
        """The recordings, readably: signature, memory, and each step with its operands and Python line."""
        return "\n\n".join(_print(entry) for entry in self._entries()) or "nothing is recorded"

    def memory(self) -> list[dict[str, int]]:
        """Bytes of each recording: the arena, what its tensors would take without sharing, and the results."""
        return [
            {name: entry[name] for name in ("arena_bytes", "unshared_bytes", "result_bytes")}
            for entry in self._entries()
        ]

    def __repr__(self) -> str:
        return f"<jit of {self.__name__}, {self.cache_info().currsize} recordings>"


def _print(entry: dict[str, Any]) -> str:
    lines = [
        f"({entry['signature']}): {entry['kept']} steps of {entry['captured']} calls, {entry['replays']} replays",
        f"arena {entry['arena_bytes']:,} B for {entry['unshared_bytes']:,} B of tensors, "
        f"results {entry['result_bytes']:,} B",
    ]
    if entry["cuda"]:
        lines += [f"kernel by kernel: {reason}" for reason in entry["kernel_by_kernel"]]
        graphs = ", ".join(f"steps {begin} to {end - 1}" for begin, end, made in entry["graphs"] if made)
        waiting = "" if entry["replays"] else "; the first replay makes graphs"
        lines.append(f"on cuda, graphs: {graphs or 'none'}{waiting}")
    marks = {"inside": "%", "input": "arg", "outside": "@", "constant": "const", "result": "out"}
    for number, (name, operands, line, batch) in enumerate(entry["steps"]):
        texts: dict[bool, list[str]] = {False: [], True: []}
        for kind, slot, shape, dtype, written, offset in operands:
            if kind == "none":
                continue
            at = f"+{offset}" if offset and kind != "number" else ""
            label = "number" if kind == "number" else f"{marks[kind]}{slot}{at}"
            texts[written].append(f"{label}:{dtype}{list(shape)}")
        where = line.rsplit("/", 1)[-1]
        results = f" -> {', '.join(texts[True])}" if texts[True] else ""
        mark = "|" if batch else " "  # may run at once with its neighbours that have one
        lines.append(f"{number:4d} {mark}{name}({', '.join(texts[False])}){results}    # {where}")
    return "\n".join(lines)


def jit(function: Callable[..., Any] | None = None, *, fallback: bool = False, cache_size: int = 16) -> Any:
    """Records the kernels of a function at the first call and replays them afterwards; also `@ts.jit(...)`.

    fallback: where the function does what a recording cannot hold (it reads a value on the host, say), run it
    as it is from then on, with one warning, instead of raising RuntimeError.
    cache_size: how many recordings to keep, one for each signature; the one not used for longest goes first.

    Arguments and results may be nested tuples, lists and dicts of tensors; other arguments count by value or,
    where they have none, by identity. Parameters, buffers, optimizer state, gradients and random generators
    change as they do without jit. A result carries no gradient.
    """
    if function is None:
        return functools.partial(jit, fallback=fallback, cache_size=cache_size)
    if not callable(function):
        raise TypeError(f"jit: expected a function, got {type(function).__name__}")
    return Jitted(function, fallback, cache_size)
