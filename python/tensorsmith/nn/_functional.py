"""The rarer functions of `functional`: activations, distances, losses and pools made of other operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.ops import resample, sampling
from tensorsmith.ops.sparse import limit_rows
from tensorsmith.tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "affine_grid", "avg_pool1d", "avg_pool3d", "celu",
    "channel_shuffle", "cosine_embedding_loss", "cosine_similarity", "embedding_bag", "fold", "fractional_max_pool2d",
    "gaussian_nll_loss",
    "glu", "grid_sample", "group_norm", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hinge_embedding_loss", "instance_norm", "interpolate", "kl_div", "lp_pool1d", "lp_pool2d", "lp_pool3d",
    "margin_ranking_loss", "max_pool1d", "max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d", "mish",
    "multi_margin_loss", "multilabel_soft_margin_loss", "normalize", "pad", "pairwise_distance", "pixel_shuffle",
    "pixel_unshuffle", "poisson_nll_loss", "prelu", "relu6", "rms_norm", "selu", "soft_margin_loss", "softmin",
    "softshrink", "softsign", "tanhshrink", "threshold", "triplet_margin_loss", "unfold",
]  # fmt: skip

interpolate, pad = resample.interpolate, resample.pad
affine_grid, grid_sample = sampling.affine_grid, sampling.grid_sample

# --- activations ----------------------------------------------------------------------------------

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale elu(x, alpha) with the constants of Klambauer et al. 2017."""
    return ops.elu(input, _SELU_ALPHA) * _SELU_SCALE


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (exp(x / alpha) - 1) (Barron 2017)."""
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    return ops.elu(input * (1 / alpha), 1.0) * alpha


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x))."""
    return ops.mish(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x clip(x + 3, 0, 6) / 6."""
    return ops.hardswish(input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """clip(x + 3, 0, 6) / 6."""
    return ops.hardsigmoid(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]."""
    return ops.clip(input, min_val, max_val)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """x limited to [0, 6]."""
    return ops.clip(input, 0.0, 6.0)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return ops.softsign(input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return input - ops.tanh(input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, 0 within it."""
    _checks.at_least("softshrink", "lambd", lambd)
    return input - ops.clip(input, -lambd, lambd)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where |x| <= lambd, else x."""
    return ops.where(ops.abs(input) <= lambd, 0.0, input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value."""
    return ops.where(input > threshold, input, value)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight x: one weight, or one for each channel (axis 1)."""
    if weight.size != 1:
        if input.ndim < 2 or input.shape[1] != weight.size:
            raise ValueError(
                f"prelu: weight must have 1 element or one for each channel, got {weight.size} for "
                f"input {tuple(input.shape)}"
            )
        weight = weight.reshape((-1,) + (1,) * (input.ndim - 2))
    return ops.leaky_relu(input, weight.reshape(()) if weight.size == 1 else weight)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a sigmoid(b) for the halves a and b of x along `dim` (Dauphin et al. 2017)."""
    if input.shape[dim] % 2:
        raise ValueError(f"glu: dimension {dim} must be even, got shape {tuple(input.shape)}")
    a, b = ops.split(input, 2, dim)
    return a * ops.sigmoid(b)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    from tensorsmith.nn.functional import softmax

    return softmax(-input, dim, dtype=dtype)


# --- norms ----------------------------------------------------------------------------------------


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean x^2 + eps) weight over the last axes; eps None is the dtype's epsilon."""
    if eps is None:
        eps = 2.0**-52 if input.dtype == ts.float64 else 2.0**-23
    return ops.rms_norm(input, tuple(normalized_shape), weight, eps)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each group of channels of each image (N, C, ...)."""
    return ops.group_norm(input, num_groups, weight, bias, eps)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each image (N, C, ...)."""
    return ops.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(norm of order p along `dim`, eps)."""
    return input / ops.maximum(ops.vector_norm(input, axis=dim, keepdims=True, ord=p), eps)


# --- pools ----------------------------------------------------------------------------------------


def _lifted(name: str, x: Tensor, rank: int) -> None:
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name}: input must have {rank + 1} or {rank + 2} dimensions, got shape {tuple(x.shape)}"
        )


def _single(value: Any) -> int:
    return int(value[0] if isinstance(value, (tuple, list)) else value)


def _triple(name: str, argument: str, value: Any, least: int = 1) -> tuple[int, int, int]:
    values = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(values) != 3:
        raise ValueError(f"{name}: {argument} must be an integer or three of them, got {value!r}")
    a, b, c = (_checks.integer(name, argument, v, least) for v in values)
    return a, b, c


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (N, C, L) or (C, L); with return_indices also where the maxima lie."""
    name = "max_pool1d"
    _lifted(name, input, 1)
    k, p, d = (_single(value) for value in (kernel_size, padding, dilation))
    s = k if stride is None else _single(stride)
    options = ((1, k), (1, s), (0, p), (1, d), ceil_mode)
    wide = ops.expand_dims(input, -2)
    y = ops.squeeze(ops.max_pool2d(wide, *options), -2)
    if not return_indices:
        return y
    return y, ops.squeeze(ops.max_pool2d_indices(wide.detach(), *options), -2)


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, L) or (C, L)."""
    name = "avg_pool1d"
    _lifted(name, input, 1)
    k, p = _single(kernel_size), _single(padding)
    s = k if stride is None else _single(stride)
    y = ops.avg_pool2d(ops.expand_dims(input, -2), (1, k), (1, s), (0, p), ceil_mode, count_include_pad)
    return ops.squeeze(y, -2)


def _by_planes(x: Tensor, planes: Any, depths: Any) -> Tensor:
    """`planes` over (H, W) and then `depths` over D of (..., D, H, W): windows are products of intervals."""
    lead, (d, h, w) = tuple(x.shape[:-3]), x.shape[-3:]
    x = planes(ops.reshape(x, (-1, d, h, w)))
    h, w = x.shape[-2:]
    x = depths(ops.reshape(x, (-1, 1, d, h * w)))
    return ops.reshape(x, (*lead, x.shape[-2], h, w))


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (N, C, D, H, W) or (C, D, H, W); with return_indices also the int64 positions of
    the maxima in their flattened volume.
    """
    name = "max_pool3d"
    _lifted(name, input, 3)
    k, p, d = (
        _triple(name, a, v, least)
        for a, v, least in (
            ("kernel_size", kernel_size, 1),
            ("padding", padding, 0),
            ("dilation", dilation, 1),
        )
    )
    s = k if stride is None else _triple(name, "stride", stride)
    planes = (k[1:], s[1:], p[1:], d[1:], ceil_mode)
    depths = ((k[0], 1), (s[0], 1), (p[0], 0), (d[0], 1), ceil_mode)
    y = _by_planes(input, lambda x: ops.max_pool2d(x, *planes), lambda x: ops.max_pool2d(x, *depths))
    if not return_indices:
        return y
    x = input.detach()
    lead, (depth, height, width) = tuple(x.shape[:-3]), x.shape[-3:]
    flat = ops.reshape(x, (-1, depth, height, width))
    within = ops.max_pool2d_indices(flat, *planes)  # in each plane
    p_, q_ = within.shape[-2:]
    tops = ops.reshape(ops.max_pool2d(flat, *planes), (-1, 1, depth, p_ * q_))
    at = ops.max_pool2d_indices(tops, *depths)  # which plane, and where in it
    index = ops.take_along_axis(
        ops.reshape(within, (-1, depth * p_ * q_)), ops.reshape(at, (at.shape[0], -1)), axis=1
    )
    index = ops.reshape(index, at.shape) + ops.floor_divide(at, p_ * q_) * (height * width)
    return y, ops.reshape(index, (*lead, at.shape[-2], p_, q_))


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """The maxima of `output_size` windows of kernel_size at random steps (Graham 2014), as torch's of that name.

    input: (N, C, H, W) or (C, H, W), floating-point
    output_size: an integer or (height, width), or output_ratio: a number or two, each in (0, 1), of the extents
    _random_samples: (N, C, 2) in [0, 1), by which the windows of each plane are laid; drawn where not given
    return_indices: also the int64 positions of the maxima in the flattened last two axes, for max_unpool2d

    ValueError where the sizes do not fit.
    """
    name = "fractional_max_pool2d"
    _lifted(name, input, 2)
    kernel = _checks.pair(name, "kernel_size", kernel_size)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{name}: give output_size or output_ratio, one of the two")
    if output_size is not None:
        size: tuple[int, ...] = _checks.pair(name, "output_size", output_size)
    else:
        ratios = _checks.ratios(name, "output_ratio", output_ratio)
        size = tuple(int(n * ratio) for n, ratio in zip(input.shape[-2:], ratios, strict=True))
    if _random_samples is None:
        planes = tuple(input.shape[:-2]) if input.ndim == 4 else (1, input.shape[0])
        double = str(input.dtype) == "float64"
        samples = ts.random.uniform(0.0, 1.0, (*planes, 2), dtype="float64" if double else "float32")
        if input.device != "cpu":
            samples = samples.to(input.device)
    else:
        samples = ops.asarray(_random_samples)
    y, index = ops.fractional_max_pool2d(input, samples, kernel, size)
    return (y, index) if return_indices else y


def _max_unpool(rank: int) -> Any:
    def unpool(
        input: Tensor,
        indices: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Tensor:
        name = unpool.__name__
        _lifted(name, input, rank)
        if tuple(indices.shape) != tuple(input.shape):
            raise ValueError(
                f"{name}: indices have shape {tuple(indices.shape)}, input {tuple(input.shape)}; they must agree"
            )
        kernel = _checks.several(name, "kernel_size", kernel_size, rank)
        steps = kernel if stride is None else _checks.several(name, "stride", stride, rank)
        pads = (padding,) * rank if isinstance(padding, int) else tuple(padding)
        sizes = tuple(
            (n - 1) * s - 2 * p + k
            for n, s, p, k in zip(input.shape[-rank:], steps, pads, kernel, strict=True)
        )
        if output_size is not None:
            wanted = tuple(output_size)[-rank:]
            if any(abs(w - n) >= s for w, n, s in zip(wanted, sizes, steps, strict=True)):
                raise ValueError(
                    f"{name}: output_size must be within a stride of {sizes}, got {tuple(output_size)}"
                )
            sizes = wanted
        return ops.max_unpool(input, indices, sizes)

    unpool.__name__ = f"max_unpool{rank}d"
    unpool.__doc__ = (
        f"Zeros but for the elements of input, which go to the `indices` that max_pool{rank}d returned: its partial "
        "inverse. output_size resolves which of the sizes that pool to input's is meant."
    )
    return unpool


max_unpool1d, max_unpool2d, max_unpool3d = (_max_unpool(r) for r in (1, 2, 3))


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W)."""
    name = "avg_pool3d"
    _lifted(name, input, 3)
    k, p = _triple(name, "kernel_size", kernel_size), _triple(name, "padding", padding, 0)
    s = k if stride is None else _triple(name, "stride", stride)
    one = None if divisor_override is None else 1  # sums, divided at the end
    y = _by_planes(
        input,
        lambda x: ops.avg_pool2d(x, k[1:], s[1:], p[1:], ceil_mode, count_include_pad, one),
        lambda x: ops.avg_pool2d(x, (k[0], 1), (s[0], 1), (p[0], 0), ceil_mode, count_include_pad, one),
    )
    return y if divisor_override is None else y / divisor_override


def _adaptive(kind: str, rank: int) -> Any:
    pool = resample.adaptive_avg_pool if kind == "avg" else resample.adaptive_max_pool

    def adaptive(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        sizes = (output_size,) * rank if output_size is None else output_size
        if kind == "avg":
            _checks.only(adaptive.__name__, "return_indices", return_indices, False)
            return pool(input, sizes, rank)
        return resample.adaptive_max_pool(input, sizes, rank, return_indices)

    adaptive.__name__ = f"adaptive_{kind}_pool{rank}d"
    word = "means" if kind == "avg" else "maxima"
    adaptive.__doc__ = (
        f"The {word} of `output_size` windows that cover each of the last {rank} axes; None keeps one."
    )
    return adaptive


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive("avg", r) for r in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive("max", r) for r in (1, 2, 3))


def _lp_pool(rank: int, average: Any) -> Any:
    def lp_pool(
        input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Tensor:
        size = math.prod((kernel_size,) * rank if isinstance(kernel_size, int) else tuple(kernel_size))
        mean = average(ops.pow(input, float(norm_type)), kernel_size, stride, 0, ceil_mode)
        return ops.pow(ops.relu(mean) * float(size), 1.0 / norm_type)

    lp_pool.__name__ = f"lp_pool{rank}d"
    lp_pool.__doc__ = "(sum x^p)^(1/p) over each window; 0 where the sum is negative."
    return lp_pool


def _avg_pool2d(input: Tensor, *options: Any) -> Tensor:
    return ops.avg_pool2d(input, *options)


lp_pool1d, lp_pool2d, lp_pool3d = (
    _lp_pool(r, pool) for r, pool in ((1, avg_pool1d), (2, _avg_pool2d), (3, avg_pool3d))
)

# --- rearrangements -------------------------------------------------------------------------------


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C r^2, H, W) -> (*, C, H r, W r): channels become r x r blocks of pixels (Shi et al. 2016)."""
    r = _checks.integer("pixel_shuffle", "upscale_factor", upscale_factor)
    if input.ndim < 3 or input.shape[-3] % (r * r):
        raise ValueError(
            f"pixel_shuffle: input must be (*, C, H, W) with C a multiple of {r * r}, got shape {tuple(input.shape)}"
        )
    *lead, c, h, w = input.shape
    x = ops.reshape(input, (-1, c // (r * r), r, r, h, w))
    return ops.reshape(ops.permute_dims(x, (0, 1, 4, 2, 5, 3)), (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(*, C, H r, W r) -> (*, C r^2, H, W): the inverse of pixel_shuffle."""
    r = _checks.integer("pixel_unshuffle", "downscale_factor", downscale_factor)
    if input.ndim < 3 or input.shape[-2] % r or input.shape[-1] % r:
        raise ValueError(
            f"pixel_unshuffle: input must be (*, C, H, W) with multiples of {r} for H and W, got shape "
            f"{tuple(input.shape)}"
        )
    *lead, c, h, w = input.shape
    x = ops.reshape(input, (-1, c, h // r, r, w // r, r))
    return ops.reshape(ops.permute_dims(x, (0, 1, 3, 5, 2, 4)), (*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels (N, C, ...) in the order first of each group, second of each group, ... (Zhang et al. 2018)."""
    g = _checks.integer("channel_shuffle", "groups", groups)
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
    pads = (padding,) * 2 if isinstance(padding, int) else tuple(padding)
    return (
        _checks.several(name, "kernel_size", kernel_size, 2),
        _checks.several(name, "dilation", dilation, 2),
        pads,
        _checks.several(name, "stride", stride, 2),
    )


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of (N, C, H, W) as columns: (N, C KH KW, L), L windows in row-major order; zeros around."""
    name = "unfold"
    _lifted(name, input, 2)
    batch = input if input.ndim == 4 else ops.expand_dims(input, 0)
    options = _window_options(name, kernel_size, dilation, padding, stride)
    at, full, p = _columns(name, tuple(batch.shape[-2:]), options)
    n, c = batch.shape[:2]
    flat = ops.reshape(pad(batch, (p[1], p[1], p[0], p[0])), (n, c, full[0] * full[1]))
    y = ops.reshape(ops.index_select(flat, 2, at.to(device=flat.device)), (n, c * math.prod(options[0]), -1))
    return y if input.ndim == 4 else y[0]


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """(N, C KH KW, L) -> (N, C, H, W): each column's window added to where `unfold` takes it from."""
    name = "fold"
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


# --- bags -----------------------------------------------------------------------------------------


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of bags of rows of `weight` (V, D): input (B, L) holds a bag in each row, or input (K,)
    bags that begin at `offsets` (B,). Empty bags give 0. The rows are never gathered for sums and means.

    per_sample_weights: of input's shape, for mode "sum". padding_idx: a row that counts for nothing.
    """
    name = "embedding_bag"
    _checks.choice(name, "mode", mode, ("sum", "mean", "max"))
    _checks.only(name, "scale_grad_by_freq", scale_grad_by_freq, False)
    _checks.only(name, "sparse", sparse, False)
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(
                f"{name}: offsets go with an input of one dimension, got shape {tuple(input.shape)}"
            )
        bags, length = input.shape
        starts = ops.arange(bags + 1, device=input.device) * length
    elif input.ndim == 1 and offsets is not None:
        starts = ops.astype(offsets, "int64")
        if not include_last_offset:
            starts = ops.concat((starts, ops.full((1,), input.size, ts.int64, device=input.device)))
        bags = starts.size - 1
    else:
        raise ValueError(
            f"{name}: input must be (B, L), or (K,) with offsets, got shape {tuple(input.shape)}"
        )
    if per_sample_weights is not None:
        if mode != "sum":
            raise ValueError(f'{name}: per_sample_weights go with mode "sum", got {mode!r}')
        if tuple(per_sample_weights.shape) != tuple(input.shape):
            raise ValueError(
                f"{name}: per_sample_weights have shape {tuple(per_sample_weights.shape)}, input {tuple(input.shape)}"
            )
        per_sample_weights = ops.reshape(per_sample_weights, (-1,))
    rows = ops.reshape(input, (-1,))
    if padding_idx is not None:
        kept = rows != padding_idx % weight.shape[0]
        before = ops.concat(
            (ops.zeros((1,), ts.int64, device=rows.device), ops.cumsum(ops.astype(kept, "int64")))
        )
        starts, where = ops.take(before, starts, axis=0), ops.flatnonzero(kept)
        rows = ops.take(rows, where, axis=0)
        if per_sample_weights is not None:
            per_sample_weights = ops.take(per_sample_weights, where, axis=0)
    if max_norm is not None:
        limit_rows(weight, rows, float(max_norm), float(norm_type))
    if mode != "max":
        y = ops.csr_matmul(weight, starts, rows, per_sample_weights, 0)
        lengths = ops.maximum(starts[1:] - starts[:-1], 1)
        return y if mode == "sum" else y / ops.expand_dims(lengths, 1).astype(y.dtype)
    used = starts[1:] > starts[:-1]
    full = ops.flatnonzero(used)
    kept_starts = ops.concat((ops.take(starts, full, axis=0), starts[-1:]))
    tops = ops.segment_reduce(ops.embedding(rows, weight), kept_starts, "max")
    return ops.index_copy(
        ops.zeros((bags, weight.shape[1]), weight.dtype, device=weight.device), 0, full, tops
    )


# --- distances and losses -------------------------------------------------------------------------


def _reduced(name: str, loss: Tensor, reduction: str) -> Tensor:
    _checks.choice(name, "reduction", reduction, ("mean", "sum", "none"))
    return ops.mean(loss) if reduction == "mean" else ops.sum(loss) if reduction == "sum" else loss


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`."""
    one, two = (ops.maximum(ops.vector_norm(x, axis=dim, keepdims=True), eps) for x in (x1, x2))
    return ops.sum((x1 / one) * (x2 / two), axis=dim)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The norm of order p of x1 - x2 + eps along the last axis."""
    return ops.vector_norm(x1 - x2 + eps, axis=-1, keepdims=keepdim, ord=p)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x) for log probabilities x, 0 where t is 0; reduction "batchmean" divides by the first extent."""
    if log_target:
        loss = ops.exp(target) * (target - input)
    else:
        positive = target > 0
        loss = ops.where(positive, target * (ops.log(ops.where(positive, target, 1.0)) - input), 0.0)
    if reduction == "batchmean":
        return ops.sum(loss) / (input.shape[0] if input.ndim else 1)
    return _reduced("kl_div", loss, reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - t x (or x - t log(x + eps)), with Stirling's approximation of log t! if `full`."""
    loss = ops.exp(input) - target * input if log_input else input - target * ops.log(input + eps)
    if full:
        large = ops.where(target > 1, target, 1.0)
        stirling = large * ops.log(large) - large + 0.5 * ops.log(large * (2 * math.pi))
        loss = loss + ops.where(target > 1, stirling, 0.0)
    return _reduced("poisson_nll_loss", loss, reduction)


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log max(var, eps) + (x - t)^2 / max(var, eps)) / 2, plus log(2 pi) / 2 if `full`; no gradient through the
    limit.
    """
    var = ts.asarray(var, dtype=input.dtype) if not isinstance(var, Tensor) else var
    if bool(ops.any(var < 0)):
        raise ValueError("gaussian_nll_loss: var must not be negative")
    if var.ndim == input.ndim - 1 and tuple(var.shape) == tuple(input.shape[:-1]):
        var = ops.expand_dims(var, -1)
    var = var + (ops.maximum(var, eps) - var).detach()
    loss = 0.5 * (ops.log(var) + ops.square(input - target) / var)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return _reduced("gaussian_nll_loss", loss, reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where t is 1, max(0, margin - x) where it is -1."""
    loss = ops.where(target == 1, input, ops.where(target == -1, ops.relu(margin - input), 0.0))
    return _reduced("hinge_embedding_loss", loss, reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x1 - x2) + margin)."""
    return _reduced("margin_ranking_loss", ops.relu(margin - target * (input1 - input2)), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos where t is 1, max(0, cos - margin) where it is -1, over the last axis."""
    cosine = cosine_similarity(input1, input2, -1)
    loss = ops.where(target == 1, 1 - cosine, ops.where(target == -1, ops.relu(cosine - margin), 0.0))
    return _reduced("cosine_embedding_loss", loss, reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-t x))."""
    return _reduced("soft_margin_loss", ops.softplus(-target * input), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes (last axis) of binary cross-entropies of logits."""
    loss = target * ops.softplus(-input) + (1 - target) * ops.softplus(input)
    if weight is not None:
        loss = loss * weight
    return _reduced("multilabel_soft_margin_loss", ops.mean(loss, axis=-1), reduction)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over j != t of max(0, margin - x_t + x_j)^p / C for x (N, C) or (C,) and class numbers t."""
    _checks.choice("multi_margin_loss", "p", p, (1, 2))
    rows = input if input.ndim == 2 else ops.expand_dims(input, 0)
    index = target.reshape((-1, 1))
    gap = ops.relu(margin - ops.gather(rows, 1, index) + rows)
    if p == 2:
        gap = ops.square(gap)
    if weight is not None:
        gap = gap * ops.expand_dims(ops.take(weight, target.reshape((-1,)), 0), 1)
    others = ops.scatter(ops.ones_like(rows.detach()), 1, index, 0.0)
    loss = ops.sum(gap * others, axis=1) / rows.shape[1]
    return _reduced("multi_margin_loss", loss if input.ndim == 2 else loss[0], reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) (Balntas et al. 2016)."""
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = ops.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduced("triplet_margin_loss", ops.relu(near - far + margin), reduction)
