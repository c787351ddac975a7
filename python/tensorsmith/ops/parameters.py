"""Parameters of random draws: their numbers, the shape that they spread to, and errors that name who was called."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from tensorsmith._core import ops as core
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import broadcast_shapes
from tensorsmith.tensor import Tensor

__all__: list[str] = []

_Draw = TypeVar("_Draw", bound=Callable[..., Any])
# Names in errors that the caller of a draw did not write.
_INNER = {"asarray", "broadcast_shapes", "broadcast_to", "draw", "random_gamma"}


_PLAIN = frozenset((bool, int, float))


def _named(draw: _Draw) -> _Draw:
    """Errors of the draws and kernels that this one is made of name this one."""
    _INNER.update((draw.__name__, f"random_{draw.__name__}"))

    @functools.wraps(draw)
    def named(*args: Any, **options: Any) -> Any:
        try:
            return draw(*args, **options)
        except (TypeError, ValueError) as error:
            name, colon, rest = str(error).partition(":")
            if not colon or name not in _INNER or type(error) not in (TypeError, ValueError):
                raise
            raise type(error)(f"{draw.__name__}:{rest}") from None

    return cast(_Draw, named)


def _tensor(*parameters: Any) -> Any:
    """The first tensor among them: a draw is made where it is."""
    for p in parameters:
        if isinstance(p, Tensor):
            return p
    return None


def _parameter(p: Any) -> Any:
    """A number stays one: it is checked without waiting for the GPU."""
    if type(p) is float:
        return p
    if isinstance(p, (np.number, np.bool_)):
        p = p.item()
    if isinstance(p, int) and not -(2**63) <= p < 2**64:  # what no tensor holds
        try:
            return float(p)
        except OverflowError:
            return math.copysign(math.inf, p)
    return p if isinstance(p, (int, float)) else asarray(p)


def _shape(size: Any) -> Any:
    return () if size is None else size


def _extents(size: Any) -> tuple[int, ...]:
    try:
        if size is None:
            return ()
        return tuple(map(operator.index, size)) if np.iterable(size) else (operator.index(size),)
    except TypeError:
        raise TypeError(f"draw: size must be an integer or a sequence of integers, got {size!r}") from None


def _check_spread(operation: str, name: str, x: Any, size: tuple[int, ...]) -> None:
    shape = tuple(getattr(x, "shape", ()))
    fits = len(shape) <= len(size) and all(n in (1, m) for n, m in zip(shape[::-1], size[::-1]))
    if not fits:
        raise ValueError(f"{operation}: {name} of shape {shape} does not broadcast to {size}")


def _spread(operation: str, size: Any, **parameters: Any) -> tuple[int, ...]:
    """The shape of a draw whose parameters broadcast, to `size` if there is one."""
    if size is None:
        return tuple(broadcast_shapes(*(tuple(getattr(p, "shape", ())) for p in parameters.values())))
    extents = _extents(size)
    for name, p in parameters.items():
        _check_spread(operation, name, p, extents)
    return extents


def _wide(p: Any) -> Any:
    """A parameter as float64, which a number of Python is."""
    return asarray(p, "float64") if isinstance(p, (int, float)) else core.astype(p, "float64", False)


def _require(operation: str, name: str, x: Any, bounds: str, fine: Callable[[Any], Any]) -> None:
    """ValueError unless fine(x) throughout; a number is looked at here, whatever the device."""
    if isinstance(x, (int, float)):
        wrong = [] if fine(x) else [x]
    else:
        if x.dtype.kind == "complex":
            raise TypeError(f"{operation}: {name} must be real, got {x.dtype}")
        good = fine(x)
        if bool(core.all(good)):
            return
        wrong = core.reshape(x, (-1,))[core.reshape(core.logical_not(good), (-1,))][:1].tolist()
    if wrong:
        raise ValueError(f"{operation}: {name} must be {bounds}, got {wrong[0]}")


def _check(operation: str, name: str, x: Any, *, zero: bool = False, most: float = math.inf) -> None:
    """x > 0, or >= 0 with `zero`, finite and up to `most`."""
    bounds = f"{'>=' if zero else '>'} 0 and {'finite' if most == math.inf else f'<= {most:g}'}"
    _require(operation, name, x, bounds, lambda v: (v >= 0 if zero else v > 0) & (v <= most) & (v < math.inf))


def _finite(operation: str, **parameters: Any) -> None:
    for name, x in parameters.items():
        _require(operation, name, x, "finite", lambda v: (v > -math.inf) & (v < math.inf))


def _numbers(*parameters: Any) -> bool:
    return _PLAIN.issuperset(map(type, parameters))


def _floating(operation: str, dtype: Any) -> Any:
    """The dtype itself, of None the default one."""
    found = core.zeros((), dtype).dtype
    if found.kind != "floating":
        raise TypeError(f"{operation}: dtype is {found}; a floating-point one is needed")
    return found
