"""Sets of elements: membership, union, intersection and difference. They carry no gradient."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.inspection import result_type
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.sort import sort, unique

__all__ = ["intersect1d", "isin", "setdiff1d", "setxor1d", "union1d"]


def isin(
    x1: Any, x2: Any, /, assume_unique: bool = False, invert: bool = False, *, kind: str | None = None
) -> Any:
    """Which elements of x1 are in x2, as bool of x1's shape; with invert, which are not. NaN is in nothing.

    kind: None, "sort" or "table", accepted as NumPy's; the result is the same."""
    if kind not in (None, "sort", "table"):
        raise ValueError(f'isin: kind must be None, "sort" or "table", got {kind!r}')
    dtype = result_type(x1 if isinstance(x1, (bool, int, float, complex)) else asarray(x1),
                        x2 if isinstance(x2, (bool, int, float, complex)) else asarray(x2))  # fmt: skip
    a, b = (
        core.astype(asarray(x1), dtype, False).detach(),
        core.reshape(core.astype(asarray(x2), dtype, False), (-1,)),
    )
    b = b.detach()
    if b.size == 0:
        found = core.zeros(a.shape, "bool", device=a.device)
    elif b.size <= 8 or dtype.kind == "complex":
        found = core.equal(a, b[0])
        for i in range(1, b.shape[0]):
            found = core.logical_or(found, core.equal(a, b[i]))
    else:
        # Found where the numbers of elements before and up to it differ.
        ordered = core.sort(b, -1, False)
        found = core.less(core.searchsorted(ordered, a, False), core.searchsorted(ordered, a, True))
        if dtype.kind == "floating":
            found = core.logical_and(found, core.equal(a, a))
    return core.logical_not(found) if invert else found


def _flat(*arrays: Any) -> list[Any]:
    tensors = [asarray(a).detach() for a in arrays]
    dtype = result_type(*tensors)
    return [core.reshape(core.astype(t, dtype, False), (-1,)) for t in tensors]


def union1d(a: Any, b: Any) -> Any:
    """The distinct elements of a and b in order."""
    return unique(core.concat(_flat(a, b), 0))


def intersect1d(a: Any, b: Any, assume_unique: bool = False, return_indices: bool = False) -> Any:
    """The distinct elements that are in both, in order; return_indices: also where each is first in a and in b."""
    first, second = _flat(a, b)
    if return_indices:
        values, at = unique(first, return_index=True)
        others, there = unique(second, return_index=True)
        mine, theirs = isin(values, others), isin(others, values)
        return values[mine], at[mine], there[theirs]
    values = first if assume_unique else unique(first)
    kept = core.take(values, core.nonzero_flat(isin(values, second)), 0)
    return core.sort(kept, -1, False) if assume_unique else kept


def setdiff1d(a: Any, b: Any, assume_unique: bool = False) -> Any:
    """The distinct elements of a that are not in b, in order and in a's dtype."""
    first = core.reshape(asarray(a).detach(), (-1,))
    values = first if assume_unique else unique(first)
    return core.take(values, core.nonzero_flat(isin(values, asarray(b), invert=True)), 0)


def setxor1d(a: Any, b: Any, assume_unique: bool = False) -> Any:
    """The distinct elements that are in one of a and b, in order."""
    first, second = _flat(a, b)
    alone = core.concat([setdiff1d(first, second), setdiff1d(second, first)], 0)
    return sort(alone)
