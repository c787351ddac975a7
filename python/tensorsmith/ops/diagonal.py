"""Diagonals and triangles of matrices."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.inspection import promote_types
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _axis, _integer
from tensorsmith.tensor import Tensor

__all__ = ["diag", "diagonal", "trace", "tri", "tril_indices", "triu_indices", "vander"]


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """A view of the elements whose indices along two axes differ by `offset`, as the last axis."""
    x, offset = asarray(x), _integer("diagonal", "offset", offset)
    a, b = _axis("diagonal", axis1, x.ndim), _axis("diagonal", axis2, x.ndim)
    offset = _integer("diagonal", "offset", offset)
    if a == b:
        raise ValueError(f"diagonal: axis1 and axis2 are both {axis1}")
    rest = [i for i in range(x.ndim) if i not in (a, b)]
    y = core.permute_dims(x, [*rest, a, b])
    rows, columns = y.shape[-2:]
    first = (max(-offset, 0), max(offset, 0))
    n = max(min(rows - first[0], columns - first[1]), 0)
    if n == 0:
        return core.zeros((*y.shape[:-2], 0), x.dtype, device=x.device)
    y = core.getitem(y, (Ellipsis, slice(first[0], first[0] + n), slice(first[1], first[1] + n)))
    if not x.requires_grad:
        strides = [s // x.itemsize for s in y.strides]
        return core.as_strided(y, (*y.shape[:-2], n), (*strides[:-2], strides[-2] + strides[-1]))
    flat = core.reshape(y, (*y.shape[:-2], n * n))
    return core.getitem(flat, (Ellipsis, slice(0, None, n + 1)))


def diag(x: Any, k: int = 0) -> Any:
    """The k-th diagonal of a matrix, or a matrix with the vector x there."""
    x, k = asarray(x), _integer("diag", "k", k)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: x must be a vector or a matrix, got shape {x.shape}")
    n = x.shape[0] + abs(k)
    rows = core.add(core.arange(x.shape[0], device=x.device), max(-k, 0))
    places = core.add(core.multiply(rows, n), core.add(core.arange(x.shape[0], device=x.device), max(k, 0)))
    return core.reshape(core.index_set(core.zeros((n * n,), x.dtype, device=x.device), 0, places, x), (n, n))


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """The sum of a diagonal of two axes."""
    return core.sum(diagonal(x, offset, axis1, axis2), -1, dtype, out=out)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones on and below the k-th diagonal of an (N, M) matrix of zeros."""
    return core.tril(core.ones((N, N if M is None else M), dtype), k)


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, ...]:
    """The positions on and below the k-th diagonal of an (n, m) matrix: rows and columns."""
    return _coordinates(core.tril(core.ones((n, n if m is None else m), "bool"), k))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, ...]:
    """The positions on and above the k-th diagonal of an (n, m) matrix: rows and columns."""
    return _coordinates(core.triu(core.ones((n, n if m is None else m), "bool"), k))


def _coordinates(mask: Any) -> tuple[Any, ...]:
    """The coordinates of a mask's True elements."""
    from tensorsmith.ops.index import nonzero

    return nonzero(mask)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The powers of the vector x as columns, from x^(N-1) down to 1, or upwards."""
    x = asarray(x)
    if x.dtype.kind in ("bool", "signed", "unsigned"):  # powers outgrow small integers
        x = core.astype(x, promote_types(x.dtype, "int64"), False)
    count = x.shape[0] if N is None else N
    powers = (
        core.arange(count, device=x.device) if increasing else core.flip(core.arange(count, device=x.device))
    )
    return core.power(core.expand_dims(x, 1), core.astype(powers, x.dtype, False) if count else powers)


for _method in (diagonal, trace):
    setattr(Tensor, _method.__name__, _method)
