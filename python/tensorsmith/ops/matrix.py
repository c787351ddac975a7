"""Products, norms and diagonals: what `tensorsmith.linalg` has beside the factorisations."""

from __future__ import annotations

import builtins
import math
from typing import Any

from tensorsmith._core import default_dtype
from tensorsmith._core import ops as core
from tensorsmith.dtypes import float32, float64
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.diagonal import diagonal as _diagonal
from tensorsmith.ops.halves import rounded_once
from tensorsmith.ops.linalg import svdvals
from tensorsmith.ops.manipulate import _axis
from tensorsmith.tensor import Tensor

__all__: list[str] = []  # of tensorsmith.linalg; the namespace has NumPy's functions of these names


def _floating(x: Any) -> Any:
    if not isinstance(x, Tensor):
        x = asarray(x)
    if x.dtype.kind in ("floating", "complex"):
        return x
    return core.astype(x, default_dtype())


def _matrices(operation: str, x: Any) -> Any:
    if x.ndim < 2:
        raise ValueError(f"{operation}: x must have at least 2 dimensions, got shape {x.shape}")
    return x


def cross(a: Any, b: Any, /, *, axis: int = -1) -> Any:
    """The cross product of vectors of 3 elements along an axis; the other axes broadcast.

    ValueError where the axis has another extent."""
    from tensorsmith.ops.manipulate import broadcast_shapes

    a, b = asarray(a), asarray(b)
    for name, x in (("a", a), ("b", b)):
        if x.shape[_axis("cross", axis, x.ndim)] != 3:
            raise ValueError(f"cross: axis {axis} of {name} must have extent 3, got shape {x.shape}")
    a, b = core.moveaxis(a, axis, -1), core.moveaxis(b, axis, -1)
    broadcast_shapes(a.shape, b.shape)
    (a0, a1, a2), (b0, b1, b2) = ([x[..., i] for i in range(3)] for x in (a, b))
    parts = [a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0]
    return core.moveaxis(core.stack(parts, -1), -1, axis)


def outer(a: Any, b: Any, /) -> Any:
    """All products of an element of the vector a and one of b. ValueError unless both are 1-D."""
    a, b = asarray(a), asarray(b)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"outer: a and b must be 1-D, got shapes {a.shape} and {b.shape}")
    return core.multiply(core.expand_dims(a, 1), core.expand_dims(b, 0))


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """A view of a diagonal of the last two axes, as the last axis."""
    return _diagonal(_matrices("diagonal", asarray(x)), offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """The sum of a diagonal of the last two axes."""
    return core.sum(diagonal(x, offset=offset), -1, dtype)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
    """(sum |x|^ord)^(1/ord) along axes (all if None); inf, -inf: the largest, smallest |x|; 0: how many are not 0."""
    from tensorsmith.ops.reduce import vector_norm as real_norm

    x = _floating(x)
    if not isinstance(ord, (int, float)):
        if isinstance(ord, str) or not hasattr(ord, "__float__"):
            raise ValueError(f"vector_norm: ord must be a number, got {ord!r}")
        ord = float(ord)
    if x.dtype.kind == "complex" and ord == 2:  # as of twice as many real numbers
        axes = range(x.ndim) if axis is None else [axis] if hasattr(axis, "__index__") else axis
        axes = [*(_axis("vector_norm", i, x.ndim) for i in axes), x.ndim]
        y = real_norm(core.stack([core.real(x), core.imag(x)], -1), axis=axes, keepdims=keepdims)
        return core.squeeze(y, -1) if keepdims else y
    if x.dtype.kind == "complex":
        x = core.absolute(x)
    if x.dtype not in ("float32", "float64"):
        return rounded_once(lambda x: real_norm(x, axis=axis, keepdims=keepdims, ord=ord), x, raised=True)
    return real_norm(x, axis=axis, keepdims=keepdims, ord=ord)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """A norm of the matrices in the last two axes: "fro" (or None), 1 and -1 (the largest and smallest column sum), inf
    and -inf (row sums), "nuc" (the sum of the singular values), 2 and -2 (the largest and smallest of them)."""
    x = _matrices("matrix_norm", _floating(x))
    if ord in (1, 2, math.inf) and 0 in x.shape[-2:]:
        ord = "fro"  # as that of nothing, 0
    if ord in (None, "fro"):
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in (1, -1, math.inf, -math.inf):
        sums = core.sum(core.absolute(x), -2 if abs(ord) == 1 else -1, None, True)
        return (core.max if ord > 0 else core.min)(sums, (-2, -1), keepdims)
    if ord in (2, -2, "nuc"):
        values = svdvals(x)
        y = core.sum(values, -1) if ord == "nuc" else (core.max if ord > 0 else core.min)(values, -1)
        return core.reshape(y, (*y.shape, 1, 1)) if keepdims else y
    raise ValueError(f'matrix_norm: ord must be "fro", "nuc", 1, -1, 2, -2, inf or -inf, got {ord!r}')


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """NumPy's norm: of a vector along one axis, of matrices along two, of all elements with neither."""
    x = _floating(x)
    if (
        axis is None
        and (ord is None or (ord == 2 and x.ndim == 1))
        and (x.dtype is float32 or x.dtype is float64)
    ):
        return core.vector_norm(x, None, 2.0, keepdims)
    if axis is None and (ord is None or x.ndim == 1):
        y = vector_norm(core.reshape(x, (-1,)), ord=2 if ord is None else ord)
        return core.reshape(y, (1,) * x.ndim) if keepdims else y
    try:
        axes = list(range(x.ndim)) if axis is None else [axis] if hasattr(axis, "__index__") else list(axis)
    except TypeError:
        raise TypeError(f"norm: axis must be an integer or two of them, got {axis!r}") from None
    if len(axes) == 1:
        return vector_norm(x, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ValueError(f"norm: one axis or two, got {len(axes)}")
    a, b = (_axis("norm", i, x.ndim) for i in axes)
    y = matrix_norm(core.moveaxis(x, (a, b), (-2, -1)), ord="fro" if ord is None else ord)
    return core.expand_dims(y, builtins.sorted((a, b))) if keepdims else y


def multi_dot(arrays: Any) -> Any:
    """The product of several matrices, in the order that takes the fewest multiplications; the first and the last may
    be vectors."""
    from tensorsmith.ops.einsum import einsum

    if not hasattr(arrays, "__iter__"):
        raise TypeError(f"multi_dot: a sequence of arrays is needed, got {type(arrays).__name__}")
    tensors = [asarray(a) for a in arrays]
    if len(tensors) < 2:
        raise ValueError(f"multi_dot: at least 2 arrays are needed, got {len(tensors)}")
    if any(x.ndim != 2 and not (x.ndim == 1 and i in (0, len(tensors) - 1)) for i, x in enumerate(tensors)):
        raise ValueError(
            f"multi_dot: matrices are needed, the first and the last may be vectors, got shapes "
            f"{', '.join(str(x.shape) for x in tensors)}"
        )
    letters = [chr(ord("a") + i) for i in range(len(tensors) + 1)]
    terms = [letters[i] + letters[i + 1] for i in range(len(tensors))]
    first, last = letters[0], letters[-1]
    if tensors[0].ndim == 1:
        terms[0], first = letters[1], ""
    if tensors[-1].ndim == 1:
        terms[-1], last = letters[-2], ""
    return einsum(f"{','.join(terms)}->{first}{last}", *tensors)
