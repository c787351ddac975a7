"""NumPy's keywords of operations of the core that are put together from others.

dtype, casting: what `concat` and `stack` convert to, and which conversions may be; those of `astype` too
shape:          of the `_like` functions, instead of x's
N, M:           the rows and columns of `eye`
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.inspection import can_cast
from tensorsmith.ops.creation import asarray

__all__: list[str] = []


def _cast(operation: str, arrays: Sequence[Any], dtype: Any, casting: str) -> list[Any]:
    tensors = [asarray(a) for a in arrays]
    if dtype is None:
        return tensors
    for t in tensors:
        if not can_cast(t.dtype, dtype, casting):
            raise TypeError(f"{operation}: {t.dtype} does not become {dtype} with casting {casting!r}")
    return [core.astype(t, dtype, False) for t in tensors]


def _joined(operation: str, join: Callable[..., Any]) -> Callable[..., Any]:
    def joined(arrays: Any, axis: Any = 0, *, dtype: Any = None, casting: str = "same_kind") -> Any:
        parts = _cast(operation, arrays, dtype, casting)
        if axis is None:
            parts, axis = [core.reshape(p, (-1,)) for p in parts], 0
        return join(parts, axis)

    return joined


def _extents(shape: Any) -> tuple[int, ...]:
    if hasattr(shape, "__index__"):
        return (operator.index(shape),)
    return tuple(operator.index(n) for n in shape)


def _like(name: str) -> Callable[..., Any]:
    def like(x: Any, dtype: Any = None, device: Any = None, *, shape: Any = None) -> Any:
        x = asarray(x)
        if shape is None:
            return getattr(core, name)(x, dtype, device)
        make = getattr(core, name.removesuffix("_like"))
        return make(_extents(shape), dtype=dtype or x.dtype, device=device or x.device)

    return like


def _full_like(x: Any, fill_value: Any, dtype: Any = None, device: Any = None, *, shape: Any = None) -> Any:
    x = asarray(x)
    if shape is None:
        return core.full_like(x, fill_value, dtype, device)
    return core.full(_extents(shape), fill_value, dtype or x.dtype, device=device or x.device)


def _eye(
    rows: Any = None,
    columns: Any = None,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
    *,
    N: Any = None,
    M: Any = None,
) -> Any:
    if (rows is None) == (N is None):
        raise TypeError("eye: rows and N are the same; give one of them")
    if columns is not None and M is not None:
        raise TypeError("eye: columns and M are the same; give one of them")
    return core.eye(N if rows is None else rows, M if columns is None else columns, k, dtype, device)


def _astype(x: Any, dtype: Any, copy: bool = True, *, casting: str = "unsafe") -> Any:
    x = asarray(x)
    if not can_cast(x.dtype, dtype, casting):
        raise TypeError(f"astype: {x.dtype} does not become {dtype} with casting {casting!r}")
    return core.astype(x, dtype, copy)


core.astype._extend(("casting",), _astype)
core.eye._extend(("N", "M"), _eye)
core.concat._extend(("dtype", "casting"), _joined("concat", core.concat))
core.stack._extend(("dtype", "casting"), _joined("stack", core.stack))
for _name in ("empty_like", "zeros_like", "ones_like"):
    getattr(core, _name)._extend(("shape",), _like(_name))
core.full_like._extend(("shape",), _full_like)
