"""Images and volumes at given points: affine grids and `grid_sample`."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define, vjp
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.halves import is_half, widened

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["affine_grid", "grid_sample"]


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The points (N, H, W, 2) of `grid_sample` under theta (N, 2, 3), for images (N, C, H, W) = size; or
    (N, D, H, W, 3) under theta (N, 3, 4), for volumes (N, C, D, H, W).
    """
    theta = asarray(theta)
    try:
        n, _, *extents = (operator.index(extent) for extent in size)
    except (TypeError, ValueError):
        raise ValueError(
            f"affine_grid: size must be the integers (N, C, H, W) or (N, C, D, H, W), got {size!r}"
        ) from None
    rank = len(extents)
    if min(extents, default=0) < 1:
        raise ValueError(f"affine_grid: the extents of an image must be >= 1, got size {tuple(size)}")
    if theta.dtype.kind != "floating":
        raise TypeError(f"affine_grid: theta must be floating-point, got {theta.dtype}")
    if rank not in (2, 3) or tuple(theta.shape) != (n, rank, rank + 1):
        raise ValueError(
            f"affine_grid: theta must have shape {(n, 2, 3)} for (N, C, H, W) or {(n, 3, 4)} for (N, C, D, H, W), got "
            f"{tuple(theta.shape)} for {tuple(size)}"
        )
    core.empty(
        (n, *extents, rank), theta.dtype, device=theta.device
    )  # or MemoryError, before tables are made

    def line(m: int) -> np.ndarray:
        at = np.linspace(-1, 1, m) if m > 1 else np.zeros(m)
        return at if align_corners else at * ((m - 1) / m)

    axes = np.meshgrid(*(line(m) for m in extents), indexing="ij")
    flat = np.stack([*reversed(axes), np.ones(extents)], -1).reshape(1, -1, rank + 1)
    points = core.broadcast_to(asarray(flat, dtype=theta.dtype, device=theta.device), (n, *flat.shape[1:]))
    return core.reshape(core.matmul(points, core.matrix_transpose(theta)), (n, *extents, rank))


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


def _cubic_weights(t: Tensor) -> list[Tensor]:
    """Keys's kernel with a = -3/4 at the four points around t in [0, 1), as PyTorch's."""
    a = -0.75

    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


_PADDINGS = ("zeros", "border", "reflection")


def _grid_sample_rule(
    dy: Any, x: Any, grid: Any, nearest: bool, padding: int, align: bool, needs: Any
) -> Any:
    if _core.is_grad_enabled():  # to be differentiated again
        mode = "nearest" if nearest else "bilinear"

        def sample(x: Any, grid: Any) -> Any:
            wide_x, wide_grid = widened(x, grid)
            y = _sampled(wide_x, wide_grid, mode, _PADDINGS[padding], align)
            return core.astype(y, x.dtype) if is_half(x) else y

        gradients = vjp(sample, x, grid)[1](dy)
    else:
        gradients = core.grid_sample_backward(dy, x, grid, nearest, padding, align)
    return tuple(g if need else None for g, need in zip(gradients, needs))


define(
    core.grid_sample,
    """input (N, C, H, W) at the points grid (N, P, Q, 2) of (x, y) in [-1, 1]: (N, C, P, Q), channels last in memory.

    nearest: the nearest pixel, else bilinear; padding: 0 zeros, 1 border, 2 reflection; align: -1 and 1 are the centres
    of the outer pixels. float32 or float64. Raises ValueError where shapes do not fit.""",
    wrt="x grid",
    vjp=_grid_sample_rule,
)
define(
    core.grid_sample_backward,
    "The gradients of grid_sample with respect to x and grid; no second ones.",
)


def grid_sample(
    input: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """input (N, C, H, W) at the points grid (N, P, Q, 2), whose (x, y) go from -1 to 1 over the image: (N, C, P, Q),
    as torch.nn.functional.grid_sample. Volumes (N, C, D, H, W) take grids (N, O, P, Q, 3) of (x, y, z).

    mode: "bilinear" (of volumes trilinear), "nearest" or, for images, "bicubic"; padding_mode: "zeros", "border" or
    "reflection" for points outside; what is NaN, or reflected from infinity, reads 0. Halves are computed in float32.
    Differentiable in input and grid.
    """
    name = "grid_sample"
    x, grid = asarray(input), asarray(grid)
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f'{name}: mode must be "bilinear", "nearest" or "bicubic", got {mode!r}')
    if padding_mode not in _PADDINGS:
        raise ValueError(
            f'{name}: padding_mode must be "zeros", "border" or "reflection", got {padding_mode!r}'
        )
    rank = x.ndim - 2
    if rank not in (2, 3) or grid.ndim != x.ndim or grid.shape[0] != x.shape[0] or grid.shape[-1] != rank:
        raise ValueError(
            f"{name}: input must be (N, C, H, W) and grid (N, P, Q, 2), or (N, C, D, H, W) and (N, O, P, Q, 3), got "
            f"shapes {tuple(x.shape)} and {tuple(grid.shape)}"
        )
    if mode == "bicubic" and rank != 2:
        raise ValueError(f'{name}: mode "bicubic" is for images (N, C, H, W), got shape {tuple(x.shape)}')
    if x.dtype.kind != "floating" or grid.dtype != x.dtype:
        raise TypeError(
            f"{name}: input and grid must have one floating dtype, got {x.dtype} and {grid.dtype}"
        )
    if 0 in x.shape[2:]:
        raise ValueError(f"{name}: input has no elements to sample, its shape is {tuple(x.shape)}")
    align = bool(align_corners)
    if rank == 2 and mode != "bicubic":
        return core.grid_sample(x, grid, mode == "nearest", _PADDINGS.index(padding_mode), align)
    wide_x, wide_grid = widened(x, grid)
    y = _sampled(wide_x, wide_grid, mode, padding_mode, align)
    return core.astype(y, x.dtype) if is_half(x) else y


def _sampled(x: Tensor, grid: Tensor, mode: str, padding_mode: str, align: bool) -> Tensor:
    """grid_sample by a sparse product."""
    n, c, *extents = x.shape
    rank, shape = len(extents), tuple(grid.shape[1:-1])
    points, elements = math.prod(shape), math.prod(extents)
    offsets: tuple[int, ...]
    at = []  # along the axes of x, in their order
    for i, size in enumerate(extents):
        place = _unnormalised(core.reshape(grid[..., rank - 1 - i], (-1,)), size, align)
        if mode != "bicubic":
            place = _padded(place, size, align, padding_mode)
        at.append(place)
    low = [(core.round(a) if mode == "nearest" else core.floor(a)).detach() for a in at]
    part = [a - b for a, b in zip(at, low)]
    if mode == "nearest":
        offsets, weights = (0,), None
    elif mode == "bilinear":
        offsets, weights = (0, 1), [[1 - t, t] for t in part]
    else:
        offsets, weights = (-1, 0, 1, 2), [_cubic_weights(t) for t in part]
    # Every point is a row of a sparse matrix over the elements of its image; what lies outside reads a zero behind all.
    images = core.floor_divide(core.arange(n * points, device=x.device), max(points, 1)) * elements
    columns, values = [], []
    for taps in itertools.product(range(len(offsets)), repeat=rank):
        inside, index, value = None, None, None
        for i, tap in enumerate(taps):
            place = low[i] + float(offsets[tap])
            if mode == "bicubic":
                place = _padded(place, extents[i], align, padding_mode)
            within = (place >= 0) & (place < extents[i])  # NaN is outside
            inside = within if inside is None else inside & within
            whole = core.astype(core.where(within, place, 0.0), "int64")
            index = whole if index is None else index * extents[i] + whole
            if weights is not None:
                value = weights[i][tap] if value is None else value * weights[i][tap]
        columns.append(core.where(inside, index + images, n * elements))
        if value is not None:
            values.append(core.where(inside, value, 0.0))
    count = len(columns)
    starts = asarray(np.arange(0, n * points * count + 1, count), device=x.device)
    rows = core.reshape(core.moveaxis(x, 1, -1), (n * elements, c))
    rows = core.concat((rows, core.zeros((1, c), x.dtype, device=x.device)), 0)
    y = core.csr_matmul(
        rows,
        starts,
        core.reshape(core.stack(columns, 1), (-1,)),
        core.astype(core.reshape(core.stack(values, 1), (-1,)), x.dtype) if values else None,
        0,
    )
    return core.moveaxis(core.reshape(y, (n, *shape, c)), -1, 1)


def _padded(at: Tensor, n: int, align: bool, mode: str) -> Tensor:
    """Where a point outside reads."""
    if mode == "border":
        return core.clip(at, 0.0, float(n - 1))
    return _folded(at, n, align) if mode == "reflection" else at
