"""`MaxPool2d` and `AvgPool2d`: the largest value, or the mean, of each window of an image (N, C, H,
W) or (C, H, W).
"""

from __future__ import annotations

from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor

Pair = int | tuple[int, int]


class MaxPool2d(Module):
    """The maximum of each window; padding counts as -inf, NaN wins.

    Args:
        kernel_size, padding, dilation: an int or (height, width).
        stride: the same; None means `kernel_size`.
        ceil_mode: keep a last window that hangs over the edge.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        _checks.pair("MaxPool2d", "kernel_size", kernel_size)
        _checks.pair("MaxPool2d", "stride", kernel_size if stride is None else stride)
        _checks.pair("MaxPool2d", "padding", padding, 0)
        _checks.pair("MaxPool2d", "dilation", dilation)
        _checks.only("MaxPool2d", "return_indices", return_indices, False)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return ops.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window.

    Args:
        kernel_size, padding: an int or (height, width).
        stride: the same; None means `kernel_size`.
        count_include_pad: whether padding's zeros count in the divisor.
        ceil_mode: keep a last window that hangs over the edge.
        divisor_override: divide by this instead of by the window's size.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        _checks.pair("AvgPool2d", "kernel_size", kernel_size)
        _checks.pair("AvgPool2d", "stride", kernel_size if stride is None else stride)
        _checks.pair("AvgPool2d", "padding", padding, 0)
        if divisor_override is not None:
            _checks.integer("AvgPool2d", "divisor_override", divisor_override)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return ops.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
