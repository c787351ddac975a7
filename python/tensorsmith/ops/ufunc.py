"""The keywords of NumPy's ufuncs, for pointwise operations.

where:   the elements that are computed, bool, broadcast with the operands. The others keep what `out` holds; without
         `out` they are 0, where NumPy leaves what the memory held
dtype:   what the operands are converted to first; the result must be of it
casting: which conversions may be, of operands to `dtype` and of the result to the dtype of `out`
out:     the tensor that takes the result
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tensorsmith._core import TensorBase, is_grad_enabled
from tensorsmith._core import ops as core
from tensorsmith.dtypes import as_dtype
from tensorsmith.inspection import can_cast
from tensorsmith.ops.creation import asarray, is_number
from tensorsmith.ops.manipulate import broadcast_shapes

__all__: list[str] = []

KEYWORDS = ("where", "dtype", "casting")  # beside out
TAKE_KEYWORDS: set[str] = set()  # the names of the functions that take them

_ARITHMETIC = (
    "absolute", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "conj", "copysign", "cos", "cosh",
    "divide", "exp", "exp2", "expm1", "floor", "floor_divide", "hypot", "log", "log10", "log1p", "log2", "logaddexp",
    "maximum", "minimum", "multiply", "negative", "nextafter", "power", "reciprocal", "remainder", "round", "sign",
    "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc",
)  # fmt: skip
_PREDICATES = (
    "equal", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and",
    "logical_not", "logical_or", "logical_xor", "not_equal", "signbit",
)  # fmt: skip


def _converted(operation: str, x: Any, dtype: Any, casting: str) -> Any:
    x = asarray(x)
    if not can_cast(x.dtype, dtype, casting):
        raise TypeError(f"{operation}: {x.dtype} does not become {dtype} with casting {casting!r}")
    return core.astype(x, dtype, False)


def _mask(operation: str, where: Any, operands: tuple[Any, ...]) -> Any:
    try:
        mask = asarray(where)
    except (TypeError, ValueError):
        raise TypeError(f"{operation}: where must hold bools, got {where!r}") from None
    if mask.dtype != "bool":
        raise TypeError(f"{operation}: where must hold bools, got {mask.dtype}")
    shapes = [tuple(getattr(x, "shape", ())) for x in operands]
    try:
        broadcast_shapes(mask.shape, *shapes)
    except ValueError:
        raise ValueError(
            f"{operation}: where of shape {tuple(mask.shape)} and operands of {shapes} do not broadcast"
        ) from None
    return mask


def _shown(mask: Any, x: Any) -> Any:
    """An operand with 1 where the mask hides it, so that nothing hidden raises an error."""
    if is_number(x):
        return x
    x = asarray(x)
    return core.where(mask, x, core.ones((), x.dtype, device=x.device))


def _stored(operation: str, y: Any, out: Any, mask: Any, casting: str) -> Any:
    out = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    if not isinstance(out, TensorBase):
        raise TypeError(f"{operation}: out must be a tensor, got {type(out).__name__}")
    if not can_cast(y.dtype, out.dtype, casting):
        raise TypeError(
            f"{operation}: a result of {y.dtype} does not become out's {out.dtype} with casting {casting!r}"
        )
    if is_grad_enabled() and (y.requires_grad or out.requires_grad):
        raise RuntimeError(
            f"{operation}: out= records no gradient; use `with ts.no_grad():` or assign the result"
        )
    shape = tuple(y.shape if mask is None else broadcast_shapes(mask.shape, y.shape))
    if shape != tuple(out.shape):
        raise ValueError(f"{operation}: out has shape {tuple(out.shape)}, the result {shape}")
    y = core.astype(y, out.dtype, False)
    return core.copy_(out, y if mask is None else core.where(mask, y, out))


def with_keywords(name: str, operate: Callable[..., Any], *, predicate: bool = False) -> Callable[..., Any]:
    """`operate`, which takes operands alone and gives one tensor, with the keywords above."""

    def ufunc(
        *operands: Any,
        out: Any = None,
        where: Any = True,
        dtype: Any = None,
        casting: str = "same_kind",
        **options: Any,
    ) -> Any:
        if casting != "same_kind":
            can_cast("bool", "bool", casting)  # ValueError where it is none
        if dtype is not None and not predicate:
            operands = tuple(_converted(name, x, dtype, casting) for x in operands)
        mask = None if where is True else _mask(name, where, operands)
        if mask is not None:
            operands = tuple(_shown(mask, x) for x in operands)
        y = operate(*operands, **options)
        if dtype is not None and y.dtype != as_dtype(dtype):
            raise TypeError(f"{name}: the result is {y.dtype}, not {dtype}")
        if out is not None:
            return _stored(name, y, out, mask, casting)
        return y if mask is None else core.where(mask, y, core.zeros((), y.dtype, device=y.device))

    return ufunc


def pointwise(operate: Callable[..., Any]) -> Callable[..., Any]:
    """A function of operands, put together from operations, with the keywords above."""
    ufunc = with_keywords(operate.__name__, operate)
    TAKE_KEYWORDS.add(operate.__name__)

    @functools.wraps(operate)
    def called(*operands: Any, **keywords: Any) -> Any:
        return ufunc(*operands, **keywords) if keywords else operate(*operands)

    return called


for _name in (*_ARITHMETIC, *_PREDICATES):
    _operation = getattr(core, _name)
    _operation._extend((*KEYWORDS, "out"), with_keywords(_name, _operation, predicate=_name in _PREDICATES))
    TAKE_KEYWORDS.add(_name)
for _name in ("matmul", "vecdot"):
    _operation = getattr(core, _name)
    _operation._extend(("dtype", "casting", "out"), with_keywords(_name, _operation))
    TAKE_KEYWORDS.add(_name)
