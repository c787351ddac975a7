"""2-D convolution: docstrings and gradient rules."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__ = ["conv2d", "conv2d_relu"]

_OPTIONS = """
    x:       (N, C, H, W) or (C, H, W), float32 or float64, any strides
    weight:  (O, C / groups, KH, KW)
    bias:    (O), or None
    stride, padding, dilation:  an integer, or (height, width)
    groups:  divides C and O
    returns: (N, O, P, Q) with P = (H + 2 * padding - dilation * (KH - 1) - 1) // stride + 1, Q likewise;
             its memory is channels last

Raises ValueError where shapes or options do not fit, TypeError where dtypes differ or are not floating.
"""


def _gradients(
    dy: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any, needs: Any
) -> Any:
    options = (stride, padding, dilation, groups)
    dx = core.conv2d_input_backward(dy, weight, x.shape, *options) if needs[0] else None
    dweight = dbias = None
    if needs[1] or needs[2]:
        dweight, dbias = core.conv2d_weight_backward(dy, x, weight.shape, *options)
    return dx, dweight, dbias


conv2d = define(
    core.conv2d,
    """Cross-correlation of images with filters, as torch.nn.functional.conv2d.

    y[n, o, p, q] = bias[o] + sum over c, i, j of
        x[n, c, p * stride + i * dilation - padding, q * stride + j * dilation - padding] * weight[o, c, i, j]
"""
    + _OPTIONS,
    wrt="x weight bias",
    vjp=_gradients,
)


def _gradients_relu(
    dy: Any, y: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any, needs: Any
) -> Any:
    return _gradients(core.relu_backward(dy, y), x, weight, stride, padding, dilation, groups, needs)


conv2d_relu = define(
    core.conv2d_relu,
    """relu(conv2d(...)) in one pass over the result.
"""
    + _OPTIONS,
    wrt="x weight bias",
    vjp=_gradients_relu,
)


# The three are the trilinear form sum(dy * conv2d(x, weight)) seen from each of its arguments.
def _input_gradient(dy: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    return core.conv2d(dy, weight, None, stride, padding, dilation, groups)


def _input_weight(
    dy: Any, gradient: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Any:
    return core.conv2d_weight_backward(gradient, dy, weight.shape, stride, padding, dilation, groups)[0]


define(
    core.conv2d_input_backward,
    """The gradient of conv2d with respect to x, whose shape is `shape`.""",
    gradient=_input_gradient,
    weight=_input_weight,
)


def _weight_gradients(
    ddweight: Any,
    ddbias: Any,
    gradient: Any,
    x: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    needs: Any,
) -> Any:
    options = (stride, padding, dilation, groups)
    dgradient = dx = None
    if ddweight is not None:
        if needs[0]:
            dgradient = core.conv2d(x, ddweight, ddbias, *options)
        if needs[1]:
            dx = core.conv2d_input_backward(gradient, ddweight, x.shape, *options)
    elif ddbias is not None and needs[0]:
        dgradient = core.broadcast_to(core.reshape(ddbias, (-1, 1, 1)), gradient.shape)
    return dgradient, dx


define(
    core.conv2d_weight_backward,
    """The gradients of conv2d with respect to weight, whose shape is `shape`, and bias.""",
    wrt="gradient x",
    vjp=_weight_gradients,
)
