"""Images in other sizes: interpolation, adaptive pooling, padding, sampling at points.

Along each axis such an operation is linear: every output is a weighted sum of a few inputs. Those sums are rows of a
small sparse matrix (`csr_matmul`), one for each axis; their transposes give the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tensorsmith._core import ops as core
from tensorsmith.ops.creation import asarray
from tensorsmith.tensor import Tensor

__all__ = ["adaptive_avg_pool", "adaptive_max_pool", "affine_grid", "grid_sample", "interpolate", "pad"]

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


def _sizes(name: str, value: Any, rank: int) -> tuple[int, ...]:
    sizes = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(sizes) != rank:
        raise ValueError(f"{name}: the output size must be an integer or {rank} of them, got {value!r}")
    return sizes


# --- adaptive pooling -----------------------------------------------------------------------------


def _adaptive_sizes(name: str, x: Tensor, output_size: Any, rank: int) -> list[tuple[int, int]]:
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name}: x must have {rank + 1} or {rank + 2} dimensions, got shape {tuple(x.shape)}"
        )
    sizes = []
    for axis, out in zip(range(-rank, 0), _sizes(name, output_size, rank)):
        size = x.shape[axis] if out is None else out
        if size < 1 or x.shape[axis] < 1:
            raise ValueError(f"{name}: sizes must be >= 1, got {size} from shape {tuple(x.shape)}")
        sizes.append((axis, size))
    return sizes


def adaptive_avg_pool(x: Any, output_size: Any, rank: int) -> Tensor:
    """The means of `output_size` windows along each of the last `rank` axes: window i is [floor(i n / m),
    ceil((i + 1) n / m)). None keeps an extent. Float32 or float64.
    """
    x = asarray(x)
    for axis, size in _adaptive_sizes("adaptive_avg_pool", x, output_size, rank):
        if size == 1:
            x = core.mean(x, axis, None, True)
        elif size != x.shape[axis]:
            x = _along(x, axis, _adaptive, x.shape[axis], size)
    return x


def adaptive_max_pool(x: Any, output_size: Any, rank: int) -> Tensor:
    """The maxima of the windows of `adaptive_avg_pool`. NaN wins; gradients are shared evenly among equals."""
    x = asarray(x)
    for axis, size in _adaptive_sizes("adaptive_max_pool", x, output_size, rank):
        n = x.shape[axis]
        if size == n:
            continue
        parts = []
        for a, b in _adaptive_windows(n, size):
            window = (..., slice(a, b), *(slice(None),) * (-1 - axis))
            parts.append(core.max(x[window], axis, True))
        x = core.concat(parts, axis)
    return x


# --- interpolation --------------------------------------------------------------------------------

_MODES = {"linear": (3, _linear), "bilinear": (4, _linear), "trilinear": (5, _linear), "bicubic": (4, _cubic)}


def interpolate(
    x: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """x (N, C, ...) with other spatial extents, as torch.nn.functional.interpolate.

    size or scale_factor: one of the two, a number or one for each spatial axis
    mode: "nearest", "nearest-exact" and "area" for any rank, "linear" (3-D), "bilinear" and "bicubic" (4-D),
          "trilinear" (5-D)
    align_corners: the corners' centres stay in place (linear and cubic modes)

    ValueError for options that do not fit. antialias is not supported.
    """
    name = "interpolate"
    x = asarray(x)
    rank = x.ndim - 2
    if rank < 1:
        raise ValueError(f"{name}: x must be (N, C, ...), got shape {tuple(x.shape)}")
    if antialias:
        raise ValueError(f"{name}: antialias=True is not supported")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{name}: give size or scale_factor, one of the two")
    extents = tuple(x.shape[2:])
    if size is not None:
        sizes = _sizes(name, size, rank)
        scales = [n / m if m else 0.0 for n, m in zip(extents, sizes)]
    else:
        one = isinstance(scale_factor, (int, float))
        factors = [float(f) for f in ([scale_factor] * rank if one else scale_factor)]  # type: ignore[arg-type, union-attr]
        if len(factors) != rank:
            raise ValueError(f"{name}: scale_factor needs {rank} numbers, got {scale_factor!r}")
        sizes = tuple(math.floor(n * f) for n, f in zip(extents, factors))
        scales = [
            n / m if recompute_scale_factor and m else 1 / f for n, m, f in zip(extents, sizes, factors)
        ]
    if min(sizes) < 1 or min(extents) < 1:
        raise ValueError(f"{name}: sizes must be >= 1, got {tuple(sizes)} from {extents}")
    if mode == "area":
        return adaptive_avg_pool(x, sizes, rank)
    if mode in ("nearest", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(f'{name}: align_corners does not go with mode "{mode}"')
        shift = 0.5 if mode == "nearest-exact" else 0.0
        for axis, (n, m, s) in enumerate(zip(extents, sizes, scales), 2):
            at = np.floor((np.arange(m) + shift) * s).astype(np.int64)
            x = core.index_select(x, axis, asarray(np.minimum(at, n - 1)))
        return x
    if mode not in _MODES:
        raise ValueError(
            f"{name}: mode must be one of nearest, nearest-exact, area, {', '.join(_MODES)}; got {mode!r}"
        )
    wanted, make = _MODES[mode]
    if x.ndim != wanted:
        raise ValueError(f"{name}: mode {mode!r} needs {wanted} dimensions, got shape {tuple(x.shape)}")
    for axis, (n, m, s) in enumerate(zip(extents, sizes, scales), 2):
        if n != m or s != 1.0:
            x = _along(x, axis, make, n, m, s, bool(align_corners))
    return x


# --- padding --------------------------------------------------------------------------------------


def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """x with more (or, for negative numbers, fewer) elements around it, as torch.nn.functional.pad.

    pad:  (before, after) of the last axis, then of the one before it, ...
    mode: "constant" (`value`, by default 0), "reflect" (without the edge), "replicate" or "circular"
    """
    name = "pad"
    x = asarray(x)
    widths = tuple(pad)
    if len(widths) % 2 or len(widths) > 2 * x.ndim:
        raise ValueError(f"{name}: pad must have a pair for each of at most {x.ndim} axes, got {widths}")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(
            f'{name}: mode must be "constant", "reflect", "replicate" or "circular", got {mode!r}'
        )
    pairs = [(x.ndim - 1 - i, widths[2 * i], widths[2 * i + 1]) for i in range(len(widths) // 2)]
    for axis, before, after in pairs:
        n = x.shape[axis]
        if n + before + after < 0:
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
        if mode == "circular":
            at %= n
        elif mode == "replicate":
            at = np.clip(at, 0, n - 1)
        else:
            at = np.abs(at)
            at = np.where(at >= n, 2 * (n - 1) - at, at)
        x = core.index_select(x, axis, asarray(at))
    return x


# --- sampling at points ---------------------------------------------------------------------------


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """The points (N, H, W, 2) of `grid_sample` under theta (N, 2, 3), for images (N, C, H, W) = size."""
    theta = asarray(theta)
    n, _, h, w = size
    if tuple(theta.shape) != (n, 2, 3):
        raise ValueError(f"affine_grid: theta must have shape {(n, 2, 3)}, got {tuple(theta.shape)}")

    def line(m: int) -> np.ndarray:
        at = np.linspace(-1, 1, m) if m > 1 else np.zeros(m)
        return at if align_corners else at * ((m - 1) / m)

    xs, ys = np.meshgrid(line(w), line(h))
    points = asarray(np.stack([xs, ys, np.ones_like(xs)], -1).reshape(1, h * w, 3), dtype=theta.dtype)
    y = core.matmul(core.broadcast_to(points, (n, h * w, 3)), core.matrix_transpose(theta))
    return core.reshape(y, (n, h, w, 2))


def _unnormalised(at: Tensor, n: int, align: bool) -> Tensor:
    return (at + 1) * ((n - 1) / 2) if align else ((at + 1) * n - 1) / 2


def _folded(at: Tensor, n: int, align: bool) -> Tensor:
    """Reflected at the borders until inside."""
    low, span = (0.0, float(n - 1)) if align else (-0.5, float(n))
    if span == 0:
        return at * 0
    off = core.absolute(at - low)
    turns = core.floor(off / span).detach()
    rest = off - turns * span
    odd = core.not_equal(core.remainder(turns, 2.0), 0)
    return core.clip(core.where(odd, span - rest, rest) + low, 0.0, float(n - 1))


def grid_sample(
    x: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """x (N, C, H, W) at the points grid (N, P, Q, 2), whose (x, y) go from -1 to 1 over the image: (N, C, P, Q),
    as torch.nn.functional.grid_sample.

    mode: "bilinear" or "nearest"; padding_mode: "zeros", "border" or "reflection" for points outside.
    Differentiable in x and grid.
    """
    name = "grid_sample"
    x, grid = asarray(x), asarray(grid)
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f'{name}: mode must be "bilinear" or "nearest", got {mode!r}')
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f'{name}: padding_mode must be "zeros", "border" or "reflection", got {padding_mode!r}'
        )
    if x.ndim != 4 or grid.ndim != 4 or grid.shape[0] != x.shape[0] or grid.shape[3] != 2:
        raise ValueError(
            f"{name}: x must be (N, C, H, W) and grid (N, P, Q, 2), got shapes {tuple(x.shape)} and {tuple(grid.shape)}"
        )
    n, c, h, w = x.shape
    if h == 0 or w == 0:
        raise ValueError(f"{name}: x has no elements to sample, its shape is {tuple(x.shape)}")
    p, q = grid.shape[1:3]
    align = bool(align_corners)
    flat = core.reshape(x, (n, c, h * w))
    at = [
        _unnormalised(core.reshape(grid[..., i], (n, 1, p * q)), size, align) for i, size in ((0, w), (1, h))
    ]
    if padding_mode == "border":
        at = [core.clip(a, 0.0, float(size - 1)) for a, size in zip(at, (w, h))]
    elif padding_mode == "reflection":
        at = [_folded(a, size, align) for a, size in zip(at, (w, h))]

    def corner(col: Tensor, row: Tensor, weight: Tensor | None) -> Tensor:
        inside = (col >= 0) & (col < w) & (row >= 0) & (row < h)  # NaN is outside
        place = core.where(inside, row, 0.0) * w + core.where(inside, col, 0.0)
        index = core.broadcast_to(core.astype(place.detach(), "int64"), (n, c, p * q))
        value = core.gather(flat, 2, index)
        value = core.where(inside, value, 0.0)
        return value if weight is None else value * core.where(inside, weight, 0.0)

    if mode == "nearest":
        y = corner(core.round(at[0]).detach(), core.round(at[1]).detach(), None)
    else:
        low = [core.floor(a).detach() for a in at]
        part = [a - b for a, b in zip(at, low)]
        y = None
        for i in (0, 1):
            for j in (0, 1):
                wx, wy = part[0] if i else 1 - part[0], part[1] if j else 1 - part[1]
                term = corner(low[0] + i, low[1] + j, wx * wy)
                y = term if y is None else y + term
    return core.reshape(y, (n, c, p, q))
