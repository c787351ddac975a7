"""`F`: layers as functions, with the names, argument order and defaults of `torch.nn.functional`.

Losses want input and target of one shape: they raise ValueError instead of broadcasting. Options that this
library does not have are refused in words. `inplace=True` is accepted; results are new tensors all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.autograd import Context, Function
from tensorsmith.nn import _checks
from tensorsmith.nn._functional import *  # noqa: F403
from tensorsmith.ops.sparse import limit_rows, sparse_embedding
from tensorsmith.tensor import Tensor

Pair = int | tuple[int, int]
Sizes = int | tuple[int, ...]

# --- linear, convolution, pooling -----------------------------------------------------------------


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b: (..., K) with weight (N, K) and bias (N) -> (..., N)."""
    return ops.linear(input, weight, bias)


def _same(
    name: str, padding: str | Sizes, weight: Tensor, stride: Sizes, dilation: Sizes
) -> tuple[Sizes, tuple[int, ...]]:
    """Zeros at both sides of each axis, and how many results to drop at the front of it."""
    rank = weight.ndim - 2
    none = (0,) * rank
    if not isinstance(padding, str):
        return padding, none
    _checks.choice(name, "padding", padding, ("valid", "same"))
    if padding == "valid":
        return 0, none
    if any(s != 1 for s in _checks.several(name, "stride", stride, rank)):
        raise ValueError(f"{name}: padding='same' needs stride 1, got {stride}")
    steps = _checks.several(name, "dilation", dilation, rank)
    total = [d * (k - 1) for d, k in zip(steps, weight.shape[2:])]
    # An odd total belongs on the far side: pad both by the larger half, drop the first row or column.
    return tuple((t + 1) // 2 for t in total), tuple(t % 2 for t in total)


def _cropped(output: Tensor, crop: tuple[int, ...]) -> Tensor:
    inside: tuple[Any, ...] = (..., *(slice(c, None) for c in crop))
    return output[inside] if any(crop) else output


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of (N, C, L) or (C, L) with weight (O, C / groups, K); `padding` may be "valid" or "same"."""
    padding, crop = _same("conv1d", padding, weight, stride, dilation)
    return _cropped(ops.conv1d(input, weight, bias, stride, padding, dilation, groups), crop)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of (N, C, H, W) or (C, H, W) with weight (O, C / groups, KH, KW).

    `padding` may be "valid" or "same"; "same" needs stride 1.
    """
    padding, crop = _same("conv2d", padding, weight, stride, dilation)
    return _cropped(ops.conv2d(input, weight, bias, stride, padding, dilation, groups), crop)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of (N, C, D, H, W) or (C, D, H, W) with weight (O, C / groups, KD, KH, KW); `padding` may be
    "valid" or "same"."""
    padding, crop = _same("conv3d", padding, weight, stride, dilation)
    return _cropped(ops.conv3d(input, weight, bias, stride, padding, dilation, groups), crop)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of conv1d: (N, C, L) with weight (C, O / groups, K)."""
    return ops.conv_transpose1d(input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of conv2d: (N, C, H, W) with weight (C, O / groups, KH, KW)."""
    return ops.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of conv3d: (N, C, D, H, W) with weight (C, O / groups, KD, KH, KW)."""
    return ops.conv_transpose3d(input, weight, bias, stride, padding, output_padding, groups, dilation)


def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (N, C, H, W) or (C, H, W); with return_indices also the int64 positions of the
    maxima in their flattened plane, which `max_unpool2d` takes.
    """
    y = ops.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)
    if not return_indices:
        return y
    return y, ops.max_pool2d_indices(input.detach(), kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, H, W) or (C, H, W)."""
    return ops.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# --- normalisation, dropout, embedding ------------------------------------------------------------


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of (N, C, ...) over everything else; in training,
    move the running statistics in place.
    """
    return ops.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last axes, whose extents are `normalized_shape`."""
    return ops.layer_norm(input, tuple(normalized_shape), weight, bias, eps)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability p, scale the rest by 1 / (1 - p); not in training:
    the input itself.
    """
    _checks.probability("dropout", "p", p)
    return ops.dropout(input, p, True) if training else input


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` (V, D) at the integers `input` (*): (*, D). Row `padding_idx` gets no gradient.

    max_norm: rows that are looked up and whose norm of order norm_type is larger are first scaled to it, in `weight`
    itself. scale_grad_by_freq: a row's gradient is divided by how often it was looked up. sparse: the gradient of
    `weight` is an `ts.RowSparse`, of the rows that were looked up alone; SGD, Adagrad and SparseAdam take it.
    """
    if padding_idx is not None:
        rows = weight.shape[0]
        if not -rows <= padding_idx < rows:
            raise ValueError(f"embedding: padding_idx must be in [{-rows}, {rows}), got {padding_idx}")
        padding_idx %= rows
    if max_norm is not None:
        limit_rows(weight, input, float(max_norm), float(norm_type))
    if sparse or scale_grad_by_freq:
        return sparse_embedding(input, weight, padding_idx, sparse, scale_grad_by_freq)
    return ops.embedding(input, weight, padding_idx)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Integers (*) -> int64 (*, num_classes), 1 at each integer's place; -1 counts the classes."""
    if num_classes == -1:
        if tensor.size == 0:
            raise ValueError("one_hot: num_classes cannot be counted in an empty tensor; give it")
        num_classes = int(ops.max(tensor)) + 1
    return ops.one_hot(tensor, num_classes)


# --- attention ------------------------------------------------------------------------------------


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale q k^T + mask) v: query (..., H, L, D), key (..., H, S, D), value (..., H, S, E).

    attn_mask: bool, False where a key is hidden, or added; is_causal: query i sees keys up to i. With enable_gqa
    the heads of key and value may be fewer. dropout_p is applied whatever the mode of a module.
    """
    name = "scaled_dot_product_attention"
    _checks.probability(name, "dropout_p", dropout_p)
    if attn_mask is not None and is_causal:
        raise ValueError(
            f"{name}: attn_mask and is_causal=True do not go together; put the triangle in the mask"
        )
    shapes = [tuple(x.shape) for x in (query, key, value)]
    # Without enable_gqa the axis of heads broadcasts as the axes before it do.
    kept = 3 if enable_gqa else 2
    leading = [s[:-kept] for s in shapes]
    if len(set(leading)) > 1 or len({len(s) for s in shapes}) > 1:
        wide = ts.broadcast_shapes(*leading)
        query, key, value = (
            ops.broadcast_to(x, (*wide, *s[-kept:])) for x, s in zip((query, key, value), shapes)
        )
    return ops.attention(query, key, value, attn_mask, scale=scale, causal=is_causal, dropout=dropout_p)


# --- activations ----------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); NaN stays NaN."""
    return ops.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope x."""
    return ops.leaky_relu(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1)."""
    return ops.elu(input, alpha)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return ops.sigmoid(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))) = -softplus(-x)."""
    return -ops.softplus(-input)


def tanh(input: Tensor) -> Tensor:
    """tanh(x)."""
    return ops.tanh(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), or its tanh approximation with approximate="tanh"."""
    _checks.choice("gelu", "approximate", approximate, ("none", "tanh"))
    return ops.gelu(input, approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)."""
    return ops.silu(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, exact for every x: `threshold` only says where PyTorch rounds to x."""
    if beta == 1.0:
        return ops.softplus(input)
    _checks.more_than("softplus", "beta", beta)
    return ops.softplus(input * beta) / beta


def _dim(name: str, dim: int | None, rank: int) -> int:
    if dim is None:  # PyTorch's guess
        return 0 if rank in (0, 1, 3) else 1
    return dim


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) / sum exp(x) along `dim`."""
    if dtype is not None:
        input = input.astype(dtype)
    return ops.softmax(input, _dim("softmax", dim, input.ndim))


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """x - log sum exp(x) along `dim`."""
    if dtype is not None:
        input = input.astype(dtype)
    return ops.log_softmax(input, _dim("log_softmax", dim, input.ndim))


# --- losses ---------------------------------------------------------------------------------------

_REDUCTIONS = ("mean", "sum", "none")


def _reduction(name: str, reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    if size_average is not None or reduce is not None:  # PyTorch's old spelling
        if reduce is False:
            return "none"
        return "sum" if size_average is False else "mean"
    if reduction not in _REDUCTIONS:
        _checks.choice(name, "reduction", reduction, _REDUCTIONS)
    return reduction


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        wrong = type(target if isinstance(input, Tensor) else input).__name__
        raise TypeError(f"{name}: input and target must be tensors, got a {wrong}; use ts.asarray")
    have, want = tuple(target.shape), tuple(input.shape)
    if have == want:
        return
    if [n for n in have if n != 1] == [n for n in want if n != 1]:
        fix = f"use target.reshape({want})"
    else:
        try:
            ts.broadcast_shapes(have, want)
            fix = "if that is meant, broadcast first: ts.broadcast_arrays(input, target)"
        except ValueError:
            fix = "they must describe the same elements"
    raise ValueError(f"{name}: target has shape {have}, input {want}; losses do not broadcast; {fix}")


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return ops.mean(loss)
    return ops.sum(loss) if reduction == "sum" else loss


def _weighted(name: str, loss: Tensor, weight: Tensor | None, reduction: str, normalise: bool) -> Tensor:
    """`loss` times an element weight; `normalise` divides the mean by the sum of weights."""
    if weight is None:
        return _reduced(loss, reduction)
    weight = ops.broadcast_to(weight, loss.shape)
    if reduction == "mean" and normalise:
        return ops.sum(loss * weight) / ops.sum(weight)
    return _reduced(loss * weight, reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)^2; with `weight`, the mean is the weighted one."""
    _same_shape("mse_loss", input, target)
    reduction = _reduction("mse_loss", reduction, size_average, reduce)
    return _weighted("mse_loss", ops.square(input - target), weight, reduction, True)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - t|; with `weight`, the mean is the weighted one."""
    _same_shape("l1_loss", input, target)
    reduction = _reduction("l1_loss", reduction, size_average, reduce)
    return _weighted("l1_loss", ops.abs(input - target), weight, reduction, True)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where d = |x - t| < beta, else d - beta / 2 (Girshick 2015)."""
    _same_shape("smooth_l1_loss", input, target)
    reduction = _reduction("smooth_l1_loss", reduction, size_average, reduce)
    _checks.at_least("smooth_l1_loss", "beta", beta)
    if beta == 0:
        return _reduced(ops.abs(input - target), reduction)
    return _reduced(_huber(input - target, beta) / beta, reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where d = |x - t| < delta, else delta (d - delta / 2) (Huber 1964)."""
    _same_shape("huber_loss", input, target)
    reduction = _reduction("huber_loss", reduction, None, None)
    _checks.more_than("huber_loss", "delta", delta)
    return _weighted("huber_loss", _huber(input - target, delta), weight, reduction, True)


def _huber(difference: Tensor, delta: float) -> Tensor:
    distance = ops.abs(difference)
    near = ops.minimum(distance, delta)  # near^2 / 2 + delta (d - near) is both branches at once
    return near * (distance - 0.5 * near) if delta == 1.0 else _huber_scaled(distance, near, delta)


def _huber_scaled(distance: Tensor, near: Tensor, delta: float) -> Tensor:
    return 0.5 * near * near + delta * (distance - near)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) with both logarithms held at >= -100; x outside [0, 1] gives NaN."""
    _same_shape("binary_cross_entropy", input, target)
    reduction = _reduction("binary_cross_entropy", reduction, size_average, reduce)
    loss = _BinaryCrossEntropy.apply(input, target)
    return _weighted("binary_cross_entropy", loss, weight, reduction, False)


def _held_log(x: Tensor) -> Tensor:
    return ops.maximum(ops.log(x), -100.0)


class _BinaryCrossEntropy(Function):
    """The loss of each element; its gradient divides by max(x (1 - x), 1e-12),
    PyTorch's finite stand-in at 0 and 1.
    """

    @staticmethod
    def forward(ctx: Context, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(x, target)
        return -(target * _held_log(x) + (1.0 - target) * _held_log(1.0 - x))

    @staticmethod
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, target = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        dx = dtarget = None
        if ctx.needs_input_grad[0]:
            dx = dy * (x - target) / ops.maximum(x * (1.0 - x), 1e-12)
        if ctx.needs_input_grad[1]:
            dtarget = dy * (_held_log(1.0 - x) - _held_log(x))
        return dx, dtarget


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(p t log s(x) + (1 - t) log(1 - s(x))), s the sigmoid, p `pos_weight` (1 without):
    softplus(x) - x t, stable.
    """
    name = "binary_cross_entropy_with_logits"
    _same_shape(name, input, target)
    reduction = _reduction(name, reduction, size_average, reduce)
    if pos_weight is None:
        loss = ops.softplus(input) - input * target
    else:
        loss = (1.0 - target) * input + (1.0 + (pos_weight - 1.0) * target) * ops.softplus(-input)
    return _weighted(name, loss, weight, reduction, False)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-w_t log softmax(x)_t over the class axis: (C), (N, C) or (N, C, ...) with integer targets (),
    (N) or (N, ...).

    `target` may instead hold probabilities, with the shape of `input`. The mean divides by the sum of the
    targets' weights (PyTorch's rule), or by the batch size for probabilities.
    """
    reduction = _reduction("cross_entropy", reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        _checks.probability("cross_entropy", "label_smoothing", label_smoothing)
    if ts.isdtype(target.dtype, "real floating"):
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    return ops.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"cross_entropy: floating-point target has shape {tuple(target.shape)}, input "
            f"{tuple(input.shape)}: "
            "probabilities need the input's shape; class numbers need an integer dtype"
        )
    axis = 0 if input.ndim == 1 else 1
    classes = input.shape[axis]
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / classes
    if weight is not None:
        if tuple(weight.shape) != (classes,):
            raise ValueError(f"cross_entropy: weight must have shape ({classes},), got {tuple(weight.shape)}")
        target = target * weight.reshape((classes,) + (1,) * (input.ndim - axis - 1))
    loss = -ops.sum(target * ops.log_softmax(input, axis), axis=axis)
    return _reduced(loss, reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-w_t x_t for log probabilities (N, C, ...): `cross_entropy` without its log-softmax."""
    reduction = _reduction("nll_loss", reduction, size_average, reduce)
    return ops.nll_loss(input, target, weight, ignore_index, reduction)
