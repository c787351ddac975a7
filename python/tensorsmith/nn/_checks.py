"""Checks of layer arguments: one ValueError that names layer, argument, value and what is allowed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any

from tensorsmith.tensor import Tensor


def integer(layer: str, argument: str, value: Any, least: int = 1) -> int:
    """`value` as an int, at least `least`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{layer}: {argument} must be an integer, got {type(value).__name__} {value!r}"
        ) from None
    if number < least:
        raise ValueError(f"{layer}: {argument} must be >= {least}, got {number}")
    return number


def pair(layer: str, argument: str, value: Any, least: int = 1) -> tuple[int, int]:
    """An int for both axes, or one for each: (height, width)."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) == 1:
            value = (value[0], value[0])
        if len(value) != 2:
            raise ValueError(f"{layer}: {argument} must be an integer or a pair of them, got {value!r}")
        return integer(layer, argument, value[0], least), integer(layer, argument, value[1], least)
    number = integer(layer, argument, value, least)
    return number, number


def several(layer: str, argument: str, value: Any, count: int, least: int = 1) -> tuple[int, ...]:
    """An int for all axes, or one for each of `count`, below 2^31."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) == 1:
            value = (value[0],) * count
        if len(value) != count:
            more = {1: "", 2: " or a pair of them"}.get(count, f" or {count} of them")
            raise ValueError(f"{layer}: {argument} must be an integer{more}, got {value!r}")
        numbers = tuple(integer(layer, argument, n, least) for n in value)
    else:
        numbers = (integer(layer, argument, value, least),) * count
    if numbers and max(numbers) >= 1 << 31:
        raise ValueError(f"{layer}: {argument} must be < 2**31, got {value!r}")
    return numbers


def ratios(layer: str, argument: str, value: Any) -> tuple[float, float]:
    """A number for both axes, or one for each, strictly between 0 and 1."""
    pair_of = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(pair_of) != 2 or not all(isinstance(r, Real) and 0 < float(r) < 1 for r in pair_of):
        raise ValueError(f"{layer}: {argument} must be a number in (0, 1) or two, got {value!r}")
    return float(pair_of[0]), float(pair_of[1])


def number(layer: str, argument: str, value: Any) -> Any:
    """`value`, which must be a real number; NaN is one."""
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise TypeError(f"{layer}: {argument} must be a number, got {type(value).__name__} {value!r}")
    return value


def probability(layer: str, argument: str, value: float) -> float:
    """`value`, which must lie in [0, 1]."""
    number(layer, argument, value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{layer}: {argument} must be in [0, 1], got {value!r}")
    return value


def at_least(layer: str, argument: str, value: float, least: float = 0.0) -> float:
    """`value`, which must be a number >= `least` (NaN is not)."""
    number(layer, argument, value)
    if not value >= least:
        raise ValueError(f"{layer}: {argument} must be >= {least:g}, got {value!r}")
    return value


def more_than(layer: str, argument: str, value: float, bound: float = 0.0) -> float:
    """`value`, which must be a number > `bound` (NaN is not)."""
    number(layer, argument, value)
    if not value > bound:
        raise ValueError(f"{layer}: {argument} must be > {bound:g}, got {value!r}")
    return value


def choice(layer: str, argument: str, value: Any, allowed: Sequence[Any]) -> Any:
    """`value`, which must be one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{layer}: {argument} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def only(layer: str, argument: str, value: Any, supported: Any) -> None:
    """Refuse what PyTorch has and this library has not, in words."""
    if value != supported:
        raise ValueError(f"{layer}: {argument}={value!r} is not supported; only {supported!r} is")


def tensor_rank(layer: str, shape: tuple[int, ...], allowed: Sequence[int], form: str) -> None:
    """The number of dimensions of an input."""
    if len(shape) not in allowed:
        ranks = " or ".join(map(str, allowed))
        raise ValueError(f"{layer}: input must be {ranks}-dimensional, {form}, got shape {shape}")


def tensor(layer: str, input: Any, argument: str = "input") -> tuple[int, ...]:
    """The shape of an input."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{layer}: {argument} must be a tensor, got a {type(input).__name__}; use ts.asarray")
    return tuple(input.shape)


def spatial(layer: str, shape: tuple[int, ...], rank: int) -> None:
    """(N, C, ...) or (C, ...) with `rank` extents."""
    if len(shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{layer}: input must have {rank + 1} or {rank + 2} dimensions, got shape {tuple(shape)}"
        )
