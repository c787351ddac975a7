"""Linear maps and convolutions."""

from __future__ import annotations

from typing import Any

from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.tensor import Tensor

Sizes = int | tuple[int, ...]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b: (..., K) with weight (N, K) and bias (N) -> (..., N)."""
    return ops.linear(input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = x1^T W_o x2 + b_o: (..., A) and (..., B) with weight (O, A, B) and bias (O) -> (..., O)."""
    name = "bilinear"
    if weight.ndim != 3:
        raise ValueError(f"{name}: weight must be (O, A, B), got shape {tuple(weight.shape)}")
    o, a, b = weight.shape
    for argument, x, size in (("input1", input1, a), ("input2", input2, b)):
        if x.ndim < 1 or x.shape[-1] != size:
            raise ValueError(
                f"{name}: the last extent of {argument} must be weight's, {size}, got shape {tuple(x.shape)}"
            )
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]):
        raise ValueError(
            f"{name}: input1 and input2 must agree but for their last extent, got {tuple(input1.shape)} and "
            f"{tuple(input2.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (o,):
        raise ValueError(
            f"{name}: bias must have weight's first extent, ({o},), got shape {tuple(bias.shape)}"
        )
    rows = ops.matmul(input1, ops.reshape(ops.permute_dims(weight, (1, 0, 2)), (a, o * b)))
    rows = ops.reshape(rows, (*input1.shape[:-1], o, b))
    y = ops.sum(rows * ops.expand_dims(input2, -2), axis=-1)
    return y if bias is None else y + bias


def _same(
    name: str, padding: str | Sizes, weight: Tensor, stride: Sizes, dilation: Sizes
) -> tuple[Sizes, tuple[int, ...]]:
    """Zeros at both sides of each axis, and how many results to drop at the front of it."""
    if not isinstance(padding, str):
        return padding, ()
    _checks.choice(name, "padding", padding, ("valid", "same"))
    if padding == "valid":
        return 0, ()
    rank = weight.ndim - 2
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
