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

import copy
import functools
import gc
import os.path
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, overload

import numpy as np

from tensorsmith import _core
from tensorsmith.tensor import Tensor

__all__ = ["CacheInfo", "Jitted", "aside", "jit", "replayed"]

_core.set_package_folder(os.path.dirname(__file__) + "/")

_WARM_UPS = 2  # calls that may run without leaving a recording (they fill caches), before that is an error


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
    from tensorsmith.ops.creation import asarray, lies_apart

    tensor: Tensor = asarray(array)
    if lies_apart(array):  # what the function writes to the copy would be lost
        raise ValueError(
            f"jit: an argument is an array of dtype {array.dtype} in another byte order, unaligned, or with gaps "
            "between its elements, whose memory no tensor can share; pass ts.asarray(array)"
        )
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
        session = _core.Session(self._function, args, kwargs, self._fallback)
        try:
            session.begin()
            result = self._function(*args, **kwargs)
        except Exception as error:
            session.end()
            # What was refused may have come out as another error: "shape must be an integer".
            if session.refusal and session.refusal not in str(error):
                raise RuntimeError(f"jit: {session.refusal}") from error
            raise
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

    def __deepcopy__(self, memo: dict[int, Any]) -> Jitted:
        """Of a method: the copied object's, without recordings. A function is not copied, and neither is its jit."""
        function = copy.deepcopy(self._function, memo)
        return self if function is self._function else Jitted(function, self._fallback, self._limit)

    def __reduce__(self) -> Any:
        """By name where the module has it under its name, else what it was made of; recordings are left behind."""
        found: Any = sys.modules.get(self.__module__)
        name = getattr(self, "__qualname__", self.__name__)
        for part in name.split("."):
            found = getattr(found, part, None)
        return name if found is self else (Jitted, (self._function, self._fallback, self._limit))

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


@overload
def jit(function: Callable[..., Any], *, fallback: bool = False, cache_size: int = 16) -> Jitted: ...
@overload
def jit(
    function: None = None, *, fallback: bool = False, cache_size: int = 16
) -> Callable[[Callable[..., Any]], Jitted]: ...
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
    if not hasattr(cache_size, "__index__"):
        raise TypeError(f"jit: cache_size must be an integer, got {type(cache_size).__name__}")
    return Jitted(function, fallback, cache_size)
