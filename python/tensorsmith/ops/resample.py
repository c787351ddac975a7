"""Images in other sizes: interpolation, adaptive pooling, padding.

Along each axis such an operation is linear: every output is a weighted sum of a few inputs. Those sums are rows of a
small sparse matrix (`csr_matmul`), one for each axis; their transposes give the gradients.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import Function, define
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.halves import is_half, raised
from tensorsmith.ops.sparse import csr_transpose

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["adaptive_avg_pool", "adaptive_max_pool", "interpolate", "pad"]

# --- linear maps along one axis -------------------------------------------------------------------


@lru_cache(maxsize=256)
def _taps(
    device: str, make: Callable[..., tuple[Any, ...]], *options: Any
) -> tuple[Tensor, Tensor, np.ndarray]:
    """starts and columns on `device`, and weights.

    From `make(*options)`: lists of columns and weights, one for each output.
    """
    columns, weights = make(*options)
    starts = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    flat = np.concatenate([*columns, np.zeros(0, np.int64)]).astype(np.int64)
    return (
        asarray(starts, device=device),
        asarray(flat, device=device),
        np.concatenate([*weights, np.zeros(0)]),
    )


def _along(x: Tensor, axis: int, make: Callable[..., tuple[Any, ...]], *options: Any) -> Tensor:
    starts, columns, weights = _taps(x.device, make, *options)
    return core.csr_matmul(x, starts, columns, asarray(weights, dtype=x.dtype, device=x.device), axis)


def _resample2d_rule(
    dy: Any,
    x_shape: Any,
    row_starts: Any,
    rows: Any,
    column_starts: Any,
    columns: Any,
    row_values: Any,
    column_values: Any,
) -> Any:
    *down, down_values = csr_transpose(row_starts, rows, row_values, columns_count=x_shape[2])
    *across, across_values = csr_transpose(column_starts, columns, column_values, columns_count=x_shape[3])
    return core.resample2d(dy, *down, *across, down_values, across_values)


define(
    core.resample2d,
    """x (N, C, H, W) with a sparse matrix applied along H and one along W: the bits of `csr_matmul` along both, but for
    the sign of 0. The matrices are in CSR form as there; values may be None for ones. Channels last where x is.

    Differentiable in x.""",
    x=_resample2d_rule,
)


@lru_cache(maxsize=256)
def _pair_of_maps(
    device: str, dtype: str, makes: tuple[tuple[Any, ...], ...], sizes: tuple[int, ...] | None
) -> Any:
    """What `resample2d` takes after x; with the `sizes` of H and W, their transposes."""
    places, values = [], []
    for i, make in enumerate(makes):
        starts, columns, weights = _taps("cpu", *make)  # the host makes the transposes
        if sizes is not None:
            # As csr_transpose, but on the host: a recording must not hold what this cache keeps.
            at, ends = columns.numpy(), starts.numpy()
            order = np.argsort(at, kind="stable")
            rows = np.repeat(np.arange(ends.size - 1), np.diff(ends))[order]
            counts = np.bincount(at, minlength=sizes[i])
            starts = asarray(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), device="cpu")
            columns, weights = asarray(rows.astype(np.int64), device="cpu"), weights[order]
        places += [asarray(starts, device=device), asarray(columns, device=device)]
        values.append(asarray(weights, dtype=dtype, device=device))
    return (*places, *values)


class _AlongBoth(Function):
    """`resample2d` by maps whose transposes are made once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, makes: Any, sizes: Any) -> Tensor:
        ctx.makes, ctx.back = makes, x.shape[2:] if sizes is None else None
        weights = "float32" if is_half(x) else str(x.dtype)
        return core.resample2d(x, *_pair_of_maps(x.device, weights, makes, sizes))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _AlongBoth.apply(gradients[0], ctx.makes, ctx.back), None, None


def _along_both(x: Tensor, makes: Sequence[tuple[Any, ...]]) -> Tensor:
    """Images (N, C, H, W) with a linear map along H and one along W, each as `_along` takes it."""
    y: Tensor = _AlongBoth.apply(x, tuple(makes), None)
    return y


def _adaptive_windows(size: int, out: int) -> list[tuple[int, int]]:
    return [(i * size // out, -((i + 1) * size // -out)) for i in range(out)]


def _adaptive(size: int, out: int) -> tuple[Any, ...]:
    windows = _adaptive_windows(size, out)
    return [np.arange(a, b) for a, b in windows], [np.full(b - a, 1 / (b - a)) for a, b in windows]


def _centres(size: int, out: int, scale: float, align: bool) -> np.ndarray:
    at = np.arange(out, dtype=np.float64)
    if align:
        return at * ((size - 1) / (out - 1)) if out > 1 else at * 0
    return (at + 0.5) * scale - 0.5


def _nearest_places(size: int, out: int, scale: float, centres: bool, image: bool = False) -> np.ndarray:
    # In float32 and in this order, as PyTorch: where a product falls on a border, rounding takes one of two pixels.
    half, factor, at = np.float32(0.5), np.float32(scale), np.arange(out, dtype=np.float32)
    if centres and not image:  # a fused multiply-add
        at = ((at + half) * np.float64(factor) - 0.5).astype(np.float32) + half
    else:
        at = (at + half if centres else at) * factor
    return np.minimum(np.floor(at).astype(np.int64), size - 1)


def _nearest(size: int, out: int, scale: float, centres: bool) -> tuple[Any, ...]:
    return _nearest_places(size, out, scale, centres, True)[:, None], np.ones((out, 1))


def _linear(size: int, out: int, scale: float, align: bool) -> tuple[Any, ...]:
    at = np.maximum(_centres(size, out, scale, align), 0)
    low = np.minimum(np.floor(at).astype(np.int64), size - 1)
    part = at - low
    return [np.array([i, min(i + 1, size - 1)]) for i in low], [np.array([1 - t, t]) for t in part]


def _cubic(size: int, out: int, scale: float, align: bool) -> tuple[Any, ...]:
    # Keys's kernel with a = -3/4, as PyTorch's.
    a = -0.75
    at = _centres(size, out, scale, align)
    low = np.floor(at).astype(np.int64)
    columns, weights = [], []
    for i, t in zip(low, at - low):
        far, near, near2, far2 = 1 + t, t, 1 - t, 2 - t
        columns.append(np.clip(np.arange(i - 1, i + 3), 0, size - 1))
        weights.append(
            np.array(
                [
                    ((a * far - 5 * a) * far + 8 * a) * far - 4 * a,
                    ((a + 2) * near - (a + 3)) * near * near + 1,
                    ((a + 2) * near2 - (a + 3)) * near2 * near2 + 1,
                    ((a * far2 - 5 * a) * far2 + 8 * a) * far2 - 4 * a,
                ]
            )
        )
    return columns, weights


def _each(value: Any, rank: int) -> tuple[Any, ...]:
    """One for each axis: a sequence as it is, anything else repeated."""
    several = isinstance(value, (list, tuple)) or getattr(value, "ndim", None)
    return tuple(value) if several else (value,) * rank


def _sizes(name: str, value: Any, rank: int) -> tuple[Any, ...]:
    """Integers or None."""
    try:
        sizes = tuple(None if size is None else operator.index(size) for size in _each(value, rank))
    except TypeError:
        sizes = ()
    if len(sizes) != rank:
        raise ValueError(f"{name}: the output size must be an integer or {rank} of them, got {value!r}")
    return sizes


def _check_sizes(name: str, x: Tensor, sizes: Sequence[int]) -> None:
    """That there is a result of these spatial sizes, before tables are made for it."""
    extents = tuple(x.shape[x.ndim - len(sizes) :])
    if min(sizes) < 1 or min(extents) < 1:
        raise ValueError(f"{name}: sizes must be >= 1, got {tuple(sizes)} from {extents}")
    if max(sizes) >= 1 << 31:
        raise ValueError(f"{name}: sizes must be below 2^31, got {tuple(sizes)}")
    if math.prod(sizes) > 1 << 24:
        core.empty((*x.shape[: x.ndim - len(sizes)], *sizes), x.dtype, device=x.device)  # or MemoryError


def _check_floating(name: str, x: Tensor) -> None:
    if x.dtype.kind != "floating":
        raise TypeError(f"{name}: x must be floating-point, got {x.dtype}")


# --- adaptive pooling -----------------------------------------------------------------------------


def _adaptive_sizes(name: str, x: Tensor, output_size: Any, rank: int) -> list[tuple[int, int]]:
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name}: x must have {rank + 1} or {rank + 2} dimensions, got shape {tuple(x.shape)}"
        )
    given = _sizes(name, output_size, rank)
    sizes = [n if size is None else size for n, size in zip(x.shape[-rank:], given)]
    _check_sizes(name, x, sizes)
    return list(zip(range(-rank, 0), sizes))


_LAST_AXES = {1: (-1,), 2: (-2, -1), 3: (-3, -2, -1)}


def adaptive_avg_pool(x: Any, output_size: Any, rank: int) -> Tensor:
    """The means of `output_size` windows along each of the last `rank` axes: window i is [floor(i n / m),
    ceil((i + 1) n / m)). None keeps an extent. Floating-point; halves are computed in float32.
    """
    x = raised(asarray(x))
    if type(output_size) is int and output_size == 1:  # the end of many a network: no lists for it
        shape = x.shape
        if len(shape) in (rank + 1, rank + 2) and 0 not in shape[-rank:] and x.dtype.kind == "floating":
            return core.mean(x, _LAST_AXES[rank], None, True)
    sizes = _adaptive_sizes("adaptive_avg_pool", x, output_size, rank)
    _check_floating("adaptive_avg_pool", x)
    if all(size == 1 for _, size in sizes):
        return core.mean(x, tuple(axis for axis, _ in sizes), None, True)
    if rank == 2 and x.ndim == 4 and all(1 < size != x.shape[axis] for axis, size in sizes):
        return _along_both(x, [(_adaptive, x.shape[axis], size) for axis, size in sizes])
    if is_half(x):
        return core.astype(adaptive_avg_pool(core.astype(x, "float32"), output_size, rank), x.dtype)
    for axis, size in sizes:
        if size == 1:
            x = core.mean(x, axis, None, True)
        elif size != x.shape[axis]:
            x = _along(x, axis, _adaptive, x.shape[axis], size)
    return x


def _even_windows(size: int, out: int) -> tuple[int, int] | None:
    """The length and the step of the adaptive windows, where all have the same."""
    windows = _adaptive_windows(size, out)
    if out < 2 or len({b - a for a, b in windows}) > 1:
        return None
    step = windows[1][0]
    return None if any(a != i * step for i, (a, _) in enumerate(windows)) else (windows[0][1], step)


def _channels_last(x: Tensor) -> bool:
    channels, strides = x.shape[1], x.strides
    return (
        x.device == "cpu"
        and str(x.dtype) in ("float32", "float64")
        and channels > 1
        and strides[1] == x.itemsize
        and strides[3] == channels * x.itemsize
    )


def _windowed(x: Tensor, axis: int, size: int) -> Tensor | None:
    """The adaptive windows along `axis` (from the end) as an axis of their own behind it, a view, where they have one
    length and one step."""
    even = _even_windows(x.shape[axis], size)
    if even is None:
        return None
    length, step = even
    at = x.ndim + axis
    strides = [s // x.itemsize for s in x.strides]
    shape = (*x.shape[:at], size, length, *x.shape[at + 1 :])
    return core.as_strided(x, shape, (*strides[:at], strides[at] * step, *strides[at:]), 0)


def adaptive_max_pool(x: Any, output_size: Any, rank: int, return_indices: bool = False) -> Any:
    """The maxima of the windows of `adaptive_avg_pool`. NaN wins; gradients are shared evenly among equals,
    axis by axis, the last first.

    return_indices: also the int64 positions of the maxima (the first of equals) in their flattened last `rank` axes.
    """
    x = raised(asarray(x))
    sizes = _adaptive_sizes("adaptive_max_pool", x, output_size, rank)
    recorded = _core.is_grad_enabled() and x.requires_grad
    if rank == 2 and x.ndim == 4 and not (return_indices or recorded) and _channels_last(x):
        even = [_even_windows(x.shape[axis], size) for axis, size in sizes]
        if all(
            windows and windows[1] for windows in even
        ):  # a pool like any other, whose registers are channels
            lengths, steps = zip(*even)
            y: Tensor = core.max_pool2d(x, lengths, steps)
            return y
    places: dict[int, Tensor] = {}  # by axis: where along it the maximum lies
    y = x
    # The last axis first keeps the first of equals; without positions the first axis goes first, whose maxima are
    # taken across rows and leave less for the others.
    for axis, size in reversed(sizes) if return_indices else sizes:
        n = y.shape[axis]
        windows = [(..., slice(a, b), *(slice(None),) * (-1 - axis)) for a, b in _adaptive_windows(n, size)]
        if return_indices:
            at = core.concat([core.argmax(y[w], axis, True) for w in windows], axis)
            first = asarray([a for a, _ in _adaptive_windows(n, size)], device=x.device)
            at = core.add(at, core.reshape(first, (-1,) + (1,) * (-1 - axis)))
            places = {other: core.take_along_axis(place, at, axis) for other, place in places.items()}
            places[axis] = at
        if size != n:
            together = None if recorded else _windowed(y, axis, size)
            if together is not None:
                y = core.max(together, axis)
            else:
                y = core.concat([core.max(y[w], axis, True) for w in windows], axis)
    if not return_indices:
        return y
    index = places[-rank]
    for axis in range(-rank + 1, 0):
        index = core.add(core.multiply(index, x.shape[axis]), places[axis])
    return y, index


# --- interpolation --------------------------------------------------------------------------------

_MODES = {"linear": (3, _linear), "bilinear": (4, _linear), "trilinear": (5, _linear), "bicubic": (4, _cubic)}


def interpolate(
    input: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """input (N, C, ...) with other spatial extents, as torch.nn.functional.interpolate.

    size or scale_factor: one of the two, a number or one for each spatial axis
    mode: "nearest", "nearest-exact" and "area" for any rank, "linear" (3-D), "bilinear" and "bicubic" (4-D),
          "trilinear" (5-D)
    align_corners: the corners' centres stay in place (linear and cubic modes)

    Floating-point (halves are computed in float32), the nearest modes any dtype. ValueError for options that do not
    fit. antialias is not supported.
    """
    name = "interpolate"
    x = asarray(input)
    rank = x.ndim - 2
    if rank < 1:
        raise ValueError(f"{name}: input must be (N, C, ...), got shape {tuple(x.shape)}")
    if antialias:
        raise ValueError(f"{name}: antialias=True is not supported")
    if recompute_scale_factor and size is not None:
        raise ValueError(f"{name}: recompute_scale_factor goes with scale_factor, not with size")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{name}: give size or scale_factor, one of the two")
    extents = tuple(x.shape[2:])
    if size is not None:
        sizes = _sizes(name, size, rank)
        if None in sizes:
            raise ValueError(f"{name}: the output size must be an integer or {rank} of them, got {size!r}")
        _check_sizes(name, x, sizes)
        scales = [n / m for n, m in zip(extents, sizes)]
    else:
        try:
            factors = [float(factor) for factor in _each(scale_factor, rank)]
        except (TypeError, ValueError, OverflowError):
            factors = []
        if len(factors) != rank or not all(0 < factor < math.inf for factor in factors):
            raise ValueError(
                f"{name}: scale_factor must be a positive number or {rank} of them, got {scale_factor!r}"
            )
        sizes = tuple(math.floor(n * factor) for n, factor in zip(extents, factors))
        _check_sizes(name, x, sizes)
        scales = [n / m if recompute_scale_factor else 1 / f for n, m, f in zip(extents, sizes, factors)]
    if mode == "area":
        return adaptive_avg_pool(x, sizes, rank)
    if mode in ("nearest", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(f'{name}: align_corners does not go with mode "{mode}"')
        centres = mode == "nearest-exact"
        if rank == 2 and mode == "nearest":  # as PyTorch: an extent kept or doubled does so evenly
            scales = [n / m if m in (n, 2 * n) else s for n, m, s in zip(extents, sizes, scales)]
        if rank == 2 and (str(x.dtype) in ("float32", "float64") or (is_half(x) and x.device == "cpu")):
            return _along_both(x, [(_nearest, n, m, s, centres) for n, m, s in zip(extents, sizes, scales)])
        for axis, (n, m, s) in enumerate(zip(extents, sizes, scales), 2):
            places = _nearest_places(n, m, s, centres, rank == 2)
            x = core.index_select(x, axis, asarray(places, device=x.device))
        return x
    if mode not in _MODES:
        raise ValueError(
            f"{name}: mode must be one of nearest, nearest-exact, area, {', '.join(_MODES)}; got {mode!r}"
        )
    wanted, make = _MODES[mode]
    if x.ndim != wanted:
        raise ValueError(f"{name}: mode {mode!r} needs {wanted} dimensions, got shape {tuple(x.shape)}")
    _check_floating(name, x)
    if rank == 2 and all(n != m or s != 1.0 for n, m, s in zip(extents, sizes, scales)):
        return _along_both(
            x, [(make, n, m, s, bool(align_corners)) for n, m, s in zip(extents, sizes, scales)]
        )
    if is_half(x):
        wide = core.astype(x, "float32")
        y = interpolate(wide, size, scale_factor, mode, align_corners, recompute_scale_factor)
        return core.astype(y, x.dtype)
    for axis, (n, m, s) in enumerate(zip(extents, sizes, scales), 2):
        if n != m or s != 1.0:
            x = _along(x, axis, make, n, m, s, bool(align_corners))
    return x


# --- padding --------------------------------------------------------------------------------------


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """input with more (or, for negative numbers, fewer) elements around it, as torch.nn.functional.pad.

    pad:  (before, after) of the last axis, then of the one before it, ...
    mode: "constant" (`value`, by default 0), "reflect" (without the edge), "replicate" or "circular"
    """
    name = "pad"
    x = asarray(input)
    try:
        widths = tuple(operator.index(width) for width in pad)
    except TypeError:
        raise TypeError(f"{name}: pad must be integers, a pair for each axis, got {pad!r}") from None
    if len(widths) % 2 or len(widths) > 2 * x.ndim:
        raise ValueError(f"{name}: pad must have a pair for each of at most {x.ndim} axes, got {widths}")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(
            f'{name}: mode must be "constant", "reflect", "replicate" or "circular", got {mode!r}'
        )
    pairs = [(x.ndim - 1 - i, widths[2 * i], widths[2 * i + 1]) for i in range(len(widths) // 2)]
    for axis, before, after in pairs:
        n = x.shape[axis]
        if n + min(before, 0) + min(after, 0) < 0:
            raise ValueError(
                f"{name}: {(before, after)} leaves nothing of dimension {axis}, whose size is {n}"
            )
        most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}.get(mode, math.inf)
        if max(before, after) > most:
            raise ValueError(
                f"{name}: {(before, after)} is too much for mode {mode!r}: dimension {axis} has size {n}"
            )
    if mode == "constant":
        cut = [slice(None)] * x.ndim
        first, last = [0] * x.ndim, [0] * x.ndim
        for axis, before, after in pairs:
            n = x.shape[axis]
            cut[axis] = slice(max(-before, 0), n - max(-after, 0))
            first[axis], last[axis] = max(before, 0), max(after, 0)
        return core.pad_constant(x[tuple(cut)], first, last, 0.0 if value is None else float(value))
    for axis, before, after in pairs:
        n = x.shape[axis]
        if before == after == 0:
            continue
        at = np.arange(-before, n + after)
        if mode == "circular":  # round what is left of it
            start, left = max(-before, 0), n + min(before, 0) + min(after, 0)
            at = (at - start) % left + start
        elif mode == "replicate":
            at = np.clip(at, 0, n - 1)
        else:
            at = np.abs(at)
            at = np.where(at >= n, 2 * (n - 1) - at, at)
        x = core.index_select(x, axis, asarray(at, device=x.device))
    return x
