"""pad: more elements around an array, in NumPy's modes."""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.inspection import iinfo
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.manipulate import _axis
from tensorsmith.ops.quantile import median

__all__ = ["pad"]


def _widths(width: Any, rank: int) -> list[tuple[int, int]]:
    if isinstance(width, dict):
        pairs = [(0, 0)] * rank
        for axis, w in width.items():
            pairs[_axis("pad", axis, rank)] = (
                (w, w) if isinstance(w, int) else (operator.index(w[0]), operator.index(w[1]))
            )
        return pairs
    if hasattr(width, "tolist"):
        width = width.tolist()
    if isinstance(width, int):
        return [(width, width)] * rank
    rows = [w if isinstance(w, (list, tuple)) else (w,) for w in width]
    if all(not isinstance(w, (list, tuple)) for w in width):  # one pair, or one number, for every axis
        pair = tuple(width) * (2 // len(width)) if len(width) in (1, 2) else ()
        rows = [pair] * rank
    if len(rows) == 1:
        rows = list(rows) * rank
    if len(rows) != rank or any(len(r) not in (1, 2) for r in rows):
        raise ValueError(f"pad: pad_width {width} fits no array of {rank} dimensions")
    return [(operator.index(r[0]), operator.index(r[-1])) for r in rows]


def pad(x: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    """x with more elements before and after it along each axis.

    pad_width: one number, (before, after), or such a pair for each axis. mode: "constant" (constant_values, 0 by
    default), "edge", "reflect", "symmetric" (both also with reflect_type="odd"), "wrap", "linear_ramp" (end_values),
    "maximum", "minimum", "mean", "median" (stat_length), "empty". ValueError for a negative width or an empty axis to
    repeat."""
    x = asarray(x)
    try:
        widths = _widths(pad_width, x.ndim)
    except TypeError:
        raise TypeError(f"pad: pad_width must be made of integers, got {pad_width!r}") from None
    if any(w < 0 for pair in widths for w in pair):
        raise ValueError(f"pad: widths must be >= 0, got {pad_width}")
    known = {
        "constant": {"constant_values"}, "edge": set(), "empty": set(), "wrap": set(), "linear_ramp": {"end_values"},
        "reflect": {"reflect_type"}, "symmetric": {"reflect_type"}, "maximum": {"stat_length"},
        "minimum": {"stat_length"}, "mean": {"stat_length"}, "median": {"stat_length"},
    }  # fmt: skip
    if mode not in known:
        raise ValueError(f"pad: mode must be one of {sorted(known)}, got {mode!r}")
    if unknown := set(options) - known[mode]:
        raise ValueError(f"pad: {sorted(unknown)} are no options of mode {mode!r}")
    options = {name: _numbers(value) if name != "reflect_type" else value for name, value in options.items()}
    if mode in ("constant", "empty"):
        values = options.get("constant_values", 0)
        if isinstance(values, (int, float)) and not _needs_integers(x, values):
            return core.pad_constant(x, [b for b, _ in widths], [a for _, a in widths], float(values))
        return _pad_constants(x, widths, values)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = _pad_axis(x, axis, before, after, mode, options)
    return x


def _needs_integers(x: Any, value: float) -> bool:
    """Whether float64 would change `value`, which must fit x's integers."""
    if not isinstance(value, int) or x.dtype.kind not in ("signed", "unsigned"):
        return False
    limits = iinfo(x.dtype)
    if not limits.min <= value <= limits.max:
        raise OverflowError(
            f"pad: constant_values must be from {limits.min} to {limits.max}, the limits of {x.dtype}, got {value}"
        )
    return abs(value) > 1 << 53


def _numbers(values: Any) -> Any:
    """NumPy's numbers, arrays and tensors as numbers and lists of Python."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_numbers(v) for v in values] if isinstance(values, (list, tuple)) else values


def _pair_for(values: Any, axis: int, rank: int) -> tuple[Any, Any]:
    if not isinstance(values, (int, float, complex, list)):
        raise TypeError(f"pad: a number, a pair or a pair for each axis is needed, got {values!r}")
    if isinstance(values, (int, float, complex)):
        return values, values
    rows = list(values)
    if all(isinstance(v, (int, float, complex)) for v in rows):
        return rows[0], rows[-1]
    row = list(rows[axis if len(rows) == rank else 0])
    return row[0], row[-1]


def _pad_constants(x: Any, widths: list[tuple[int, int]], values: Any) -> Any:
    rank = x.ndim
    for axis, (before, after) in enumerate(widths):
        low, high = _pair_for(values, axis, rank)
        shape = list(x.shape)
        parts = [x]
        for n, value, place in ((before, low, 0), (after, high, 2)):
            shape[axis] = n
            parts.insert(place, core.full(shape, value, x.dtype, device=x.device))
        x = core.concat(parts, axis)
    return x


def _pad_axis(x: Any, axis: int, before: int, after: int, mode: str, options: dict[str, Any]) -> Any:
    n = x.shape[axis]
    if n == 0:
        raise ValueError(f"pad: axis {axis} is empty; mode {mode!r} has nothing to repeat")
    if mode in ("edge", "wrap", "reflect", "symmetric"):
        positions = list(range(-before, n + after))
        if mode == "edge":
            index = [min(max(i, 0), n - 1) for i in positions]
        elif mode == "wrap":
            index = [i % n for i in positions]
        elif mode == "symmetric":
            index = [min(i % (2 * n), 2 * n - 1 - i % (2 * n)) for i in positions]
        else:
            period = max(2 * (n - 1), 1)
            index = [min(i % period, (period - i % period) if n > 1 else 0) for i in positions]
        y = core.take(x, asarray(index, "int64"), axis)
        if options.get("reflect_type", "even") != "odd" or mode not in ("reflect", "symmetric"):
            return y
        return _odd(x, y, axis, positions, n, mode)
    keys = [slice(None)] * x.ndim
    if mode == "linear_ramp":
        low, high = _pair_for(options.get("end_values", 0), axis, x.ndim)
        parts = [x]
        for count, value, place, side in ((before, low, 0, slice(0, 1)), (after, high, 2, slice(n - 1, n))):
            keys[axis] = side
            edge = core.getitem(x, tuple(keys))
            shape = [1] * x.ndim
            shape[axis] = count
            steps = core.reshape(core.arange(count, device=x.device), shape)
            if x.dtype.kind in ("signed", "unsigned"):  # from the end value on, in steps
                edge = core.astype(edge, "float64")
                steps = steps if place == 0 else core.subtract(count - 1, steps)
                step = core.divide(core.subtract(edge, value), float(builtins.max(count, 1)))
                ramp = core.floor(core.add(core.multiply(core.astype(steps, "float64"), step), value))
                parts.insert(place, core.astype(ramp, x.dtype, False))
                continue
            weight = core.divide(steps if place == 0 else core.add(steps, 1), builtins.max(count, 1))
            ramp = (
                edge * weight + value * (1 - weight) if place == 0 else edge * (1 - weight) + value * weight
            )
            parts.insert(place, core.astype(ramp, x.dtype, False))
        return core.concat(parts, axis)
    length = options.get("stat_length")
    parts = [x]
    for count, place in ((before, 0), (after, 2)):
        m = n if length is None else min(int(_pair_for(length, axis, x.ndim)[place // 2]), n)
        if m < 1:
            raise ValueError(f"pad: stat_length must be >= 1, got {length}")
        keys[axis] = slice(0, m) if place == 0 else slice(n - m, n)
        reduce = {"maximum": core.max, "minimum": core.min}.get(mode)
        piece = core.getitem(x, tuple(keys))
        whole = x.dtype.kind in ("signed", "unsigned")
        if reduce:
            value = reduce(piece, axis, True)
        elif mode == "mean":
            value = core.mean(core.astype(piece, "float64", False) if whole else piece, axis, None, True)
        else:
            value = median(core.astype(piece, "float64", False) if whole else piece, axis, keepdims=True)
        if not reduce and whole:
            value = core.round(value)
        shape = list(x.shape)
        shape[axis] = count
        parts.insert(place, core.broadcast_to(core.astype(value, x.dtype, False), shape))
    return core.concat(parts, axis)


def _odd(x: Any, y: Any, axis: int, positions: list[int], n: int, mode: str) -> Any:
    """Reflection through the edges' values: 2 edge - y, once for each edge that lies between."""
    shape = [1] * x.ndim
    shape[axis] = len(positions)
    keys = [slice(None)] * x.ndim
    keys[axis] = slice(0, 1)
    first = core.getitem(x, tuple(keys))
    keys[axis] = slice(n - 1, n)
    last = core.getitem(x, tuple(keys))
    period = n if mode == "symmetric" else builtins.max(n - 1, 1)
    folds = [i // period if mode == "symmetric" or i < n else (i - 1) // period for i in positions]
    if mode == "reflect":
        folds = [
            0 if 0 <= i < n else math.floor(i / period) if i < 0 else (i - 1) // period for i in positions
        ]
    # After an even number of folds the values are shifted by a multiple of twice the span; after an odd one mirrored.
    even = asarray([f % 2 == 0 for f in folds], device=x.device)
    shift = core.reshape(asarray([f - f % 2 for f in folds], "int64", device=x.device), shape)
    if x.dtype.kind in ("signed", "unsigned"):  # modulo 2^bits: uint64 and int64 would meet in float64
        shift = core.astype(shift, x.dtype, False)
    span = core.subtract(last, first)
    base = core.where(core.reshape(even, shape), y, core.subtract(core.multiply(last, 2), y))
    return core.astype(core.add(base, core.multiply(span, shift)), x.dtype, False)
