"""Pixels, channels and windows in another order; padding, resizing and sampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.ops import resample, sampling
from tensorsmith.tensor import Tensor

interpolate, pad = resample.interpolate, resample.pad
affine_grid, grid_sample = sampling.affine_grid, sampling.grid_sample


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C r^2, H, W) -> (*, C, H r, W r): channels become r x r blocks of pixels (Shi et al. 2016)."""
    input, r = ops.asarray(input), _checks.integer("pixel_shuffle", "upscale_factor", upscale_factor)
    if input.ndim < 3 or input.shape[-3] % (r * r):
        raise ValueError(
            f"pixel_shuffle: input must be (*, C, H, W) with C a multiple of {r * r}, got shape {tuple(input.shape)}"
        )
    *lead, c, h, w = input.shape
    x = ops.reshape(input, (math.prod(lead), c // (r * r), r, r, h, w))
    return ops.reshape(ops.permute_dims(x, (0, 1, 4, 2, 5, 3)), (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(*, C, H r, W r) -> (*, C r^2, H, W): the inverse of pixel_shuffle."""
    input, r = ops.asarray(input), _checks.integer("pixel_unshuffle", "downscale_factor", downscale_factor)
    if input.ndim < 3 or input.shape[-2] % r or input.shape[-1] % r:
        raise ValueError(
            f"pixel_unshuffle: input must be (*, C, H, W) with multiples of {r} for H and W, got shape "
            f"{tuple(input.shape)}"
        )
    *lead, c, h, w = input.shape
    x = ops.reshape(input, (math.prod(lead), c, h // r, r, w // r, r))
    return ops.reshape(ops.permute_dims(x, (0, 1, 3, 5, 2, 4)), (*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels (N, C, ...) in the order first of each group, second of each group, ... (Zhang et al. 2018)."""
    input, g = ops.asarray(input), _checks.integer("channel_shuffle", "groups", groups)
    if input.ndim < 3 or input.shape[1] % g:
        raise ValueError(
            f"channel_shuffle: input must be (N, C, ...) with C a multiple of {g}, got shape {tuple(input.shape)}"
        )
    n, c, *rest = input.shape
    return ops.reshape(ops.swapaxes(ops.reshape(input, (n, g, c // g, *rest)), 1, 2), (n, c, *rest))


def _columns(name: str, size: tuple[int, ...], options: Any) -> tuple[Any, tuple[int, int], tuple[int, int]]:
    """Where window l's tap k reads in the padded plane: int64 (K L); the padded extents; the padding."""
    k, d, p, s = options
    full = (size[0] + 2 * p[0], size[1] + 2 * p[1])
    counts = [(full[i] - d[i] * (k[i] - 1) - 1) // s[i] + 1 for i in (0, 1)]
    if min(counts) < 1:
        raise ValueError(f"{name}: windows of {k} do not fit an image of {size} padded by {p}")
    rows, cols = (np.arange(k[i])[:, None] * d[i] + np.arange(counts[i]) * s[i] for i in (0, 1))
    at = rows[:, None, :, None] * full[1] + cols[None, :, None, :]
    return ts.asarray(at.reshape(-1)), full, p


def _window_options(name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    return (
        _checks.several(name, "kernel_size", kernel_size, 2),
        _checks.several(name, "dilation", dilation, 2),
        _checks.several(name, "padding", padding, 2, 0),
        _checks.several(name, "stride", stride, 2),
    )


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of (N, C, H, W) as columns: (N, C KH KW, L), L windows in row-major order; zeros around."""
    name, input = "unfold", ops.asarray(input)
    _checks.spatial(name, input.shape, 2)
    batch = input if input.ndim == 4 else ops.expand_dims(input, 0)
    options = _window_options(name, kernel_size, dilation, padding, stride)
    at, full, p = _columns(name, tuple(batch.shape[-2:]), options)
    n, c = batch.shape[:2]
    flat = ops.reshape(pad(batch, (p[1], p[1], p[0], p[0])), (n, c, full[0] * full[1]))
    taps = math.prod(options[0])
    y = ops.reshape(ops.index_select(flat, 2, at.to(device=flat.device)), (n, c * taps, at.size // taps))
    return y if input.ndim == 4 else y[0]


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """(N, C KH KW, L) -> (N, C, H, W): each column's window added to where `unfold` takes it from."""
    name, input = "fold", ops.asarray(input)
    if input.ndim not in (2, 3):
        raise ValueError(
            f"{name}: input must be (N, C KH KW, L) or (C KH KW, L), got shape {tuple(input.shape)}"
        )
    batch = input if input.ndim == 3 else ops.expand_dims(input, 0)
    options = _window_options(name, kernel_size, dilation, padding, stride)
    size = _checks.several(name, "output_size", output_size, 2)
    at, full, p = _columns(name, size, options)
    taps = math.prod(options[0])
    n, rows, count = batch.shape
    if rows % taps or taps * count != at.size:
        raise ValueError(
            f"{name}: input must be (N, C {taps}, {at.size // taps}) for these windows of {size}, got shape "
            f"{tuple(input.shape)}"
        )
    columns = ops.reshape(batch, (n, rows // taps, taps * count))
    y = ops.index_add(
        ops.zeros((n, rows // taps, full[0] * full[1]), batch.dtype, device=batch.device),
        2,
        at.to(device=batch.device),
        columns,
    )
    y = ops.reshape(y, (n, rows // taps, *full))[..., p[0] : p[0] + size[0], p[1] : p[1] + size[1]]
    return y if input.ndim == 3 else y[0]
