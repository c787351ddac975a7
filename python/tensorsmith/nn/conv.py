"""`Conv2d`: y[n, o] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, c, h s + i d - p, w s + j d - p].

N batch, C channels, H x W image; weight (O, C / groups, KH, KW).
"""

from __future__ import annotations

import math
from typing import Any

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks, functional, init
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor


class Conv2d(Module):
    """Convolution over images (N, C, H, W), or one image (C, H, W).

    Args:
        kernel_size, stride, dilation: an int or (height, width).
        padding: an int or (height, width) of zeros at both sides, "valid" (none) or "same" (stride 1).
        groups: divides both channel counts; each group of inputs meets its own group of outputs.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _checks.cpu("Conv2d", device)
        self.in_channels = _checks.integer("Conv2d", "in_channels", in_channels)
        self.out_channels = _checks.integer("Conv2d", "out_channels", out_channels)
        self.kernel_size = _checks.pair("Conv2d", "kernel_size", kernel_size)
        self.stride = _checks.pair("Conv2d", "stride", stride)
        self.dilation = _checks.pair("Conv2d", "dilation", dilation)
        self.groups = _checks.integer("Conv2d", "groups", groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"Conv2d: {name} must be divisible by groups, got {channels} and {groups}")
        if isinstance(padding, str):
            self.padding: str | tuple[int, int] = _checks.choice(
                "Conv2d", "padding", padding, ("valid", "same")
            )
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(f"Conv2d: padding='same' needs stride 1, got {self.stride}")
        else:
            self.padding = _checks.pair("Conv2d", "padding", padding, 0)
        _checks.only("Conv2d", "padding_mode", padding_mode, "zeros")
        self.padding_mode = padding_mode
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(ts.empty(shape, dtype=dtype))
        if bias:
            self.bias = Parameter(ts.empty((self.out_channels,), dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters: uniform in +-1/sqrt(fan_in), as in PyTorch."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight.size // self.out_channels)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if isinstance(padding, str):
            return functional.conv2d(
                input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
            )
        return ops.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _forward_relu(self, input: Tensor) -> Tensor:
        padding = self.padding
        if isinstance(padding, str):
            return ops.relu(self.forward(input))
        return ops.conv2d_relu(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding != (0, 0):
            text += (
                f", padding={self.padding}"
                if isinstance(self.padding, tuple)
                else f", padding={self.padding!r}"
            )
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text
