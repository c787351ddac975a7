"""`r_` and `c_`: arrays put together from slices, numbers and arrays between brackets, as NumPy's."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.inspection import result_type
from tensorsmith.ops.creation import arange, asarray, linspace

__all__ = ["c_", "r_"]


def _piece(name: str, item: Any) -> Any:
    if isinstance(item, str):
        raise TypeError(f"{name}: directives such as {item!r} are not supported; use concat or stack")
    if not isinstance(item, slice):
        return asarray(item)
    if item.stop is None:
        raise ValueError(f"{name}: a slice needs an end, got {item}")
    start = 0 if item.start is None else item.start
    if isinstance(item.step, complex):  # so many numbers, the end included
        return linspace(start, item.stop, int(abs(item.step)))
    return arange(start, item.stop, 1 if item.step is None else item.step)


class _Concatenator:
    def __init__(self, name: str, doc: str, columns: bool) -> None:
        self._name, self.__doc__, self._columns = name, doc, columns

    def __getitem__(self, key: Any) -> Any:
        items = key if isinstance(key, tuple) else (key,)
        pieces = [_piece(self._name, item) for item in items]
        numbers = [not isinstance(item, slice) and p.ndim == 0 for item, p in zip(items, pieces)]
        # Numbers of Python take the dtype of the arrays beside them.
        weak = [
            item if number and isinstance(item, (int, float, complex)) else p
            for item, p, number in zip(items, pieces, numbers)
        ]
        dtype = result_type(*weak) if weak else None
        pieces = [core.astype(p, dtype, False) for p in pieces]
        pieces = [core.reshape(p, (1,)) if p.ndim == 0 else p for p in pieces]
        if self._columns:
            pieces = [core.expand_dims(p, 1) if p.ndim == 1 else p for p in pieces]
        return core.concat(pieces, -1 if self._columns else 0)

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"<{self._name}[...]>"


r_ = _Concatenator(
    "r_",
    "r_[1:4, 0, x]: slices as ranges (a:b:5j as 5 numbers), numbers and arrays, one after another.",
    False,
)
c_ = _Concatenator("c_", "c_[x, y]: the same as columns, along the last axis.", True)
