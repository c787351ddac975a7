"""Convolutions over sequences, images and volumes, and their transposes.

N batch, C channels in, O channels out; weight (O, C / groups, *kernel_size), transposed (C, O / groups, *kernel_size).
Conv2d: y[n, o] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, c, h s + i d - p, w s + j d - p].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks, functional, init
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor

Sizes = int | tuple[int, ...]


class _Conv(Module):
    """What they share. `kernel_size`, `stride`, `padding` and `dilation` are an int, or one for each axis."""

    _axes: ClassVar[int]
    _transposed: ClassVar[bool] = False
    _fewest: ClassVar[int] = 1  # in_channels; a lazy layer has 0 until it knows
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes,
        padding: str | Sizes,
        dilation: Sizes,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name, axes = type(self).__name__, self._axes
        self.in_channels = _checks.integer(name, "in_channels", in_channels, self._fewest)
        self.out_channels = _checks.integer(name, "out_channels", out_channels)
        self.kernel_size = _checks.several(name, "kernel_size", kernel_size, axes)
        self.stride = _checks.several(name, "stride", stride, axes)
        self.dilation = _checks.several(name, "dilation", dilation, axes)
        self.groups = _checks.integer(name, "groups", groups)
        for key, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            if count % groups:
                raise ValueError(f"{name}: {key} must be divisible by groups, got {count} and {groups}")
        if isinstance(padding, str) and not self._transposed:
            self.padding: str | tuple[int, ...] = _checks.choice(name, "padding", padding, ("valid", "same"))
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"{name}: padding='same' needs stride 1, got {self.stride}")
        else:
            self.padding = _checks.several(name, "padding", padding, axes, 0)
        modes = ("zeros",) if self._transposed else ("zeros", "reflect", "replicate", "circular")
        self.padding_mode = _checks.choice(name, "padding_mode", padding_mode, modes)
        # In another mode than zeros: what is added before and after each axis, the last axis first.
        self._edges = None if padding_mode == "zeros" else self._both_sides()
        self.transposed, self.output_padding = self._transposed, (0,) * axes
        channels = [self.out_channels, self.in_channels // self.groups]
        if self._transposed:
            channels = [self.in_channels, self.out_channels // self.groups]
        self.weight = Parameter(ts.empty((*channels, *self.kernel_size), dtype=dtype))
        if bias:
            self.bias = Parameter(ts.empty((self.out_channels,), dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def _both_sides(self) -> list[int]:
        if isinstance(self.padding, str):
            lengths = [
                d * (k - 1) * (self.padding == "same") for d, k in zip(self.dilation, self.kernel_size)
            ]
            pairs = [(n // 2, n - n // 2) for n in lengths]
        else:
            pairs = [(n, n) for n in self.padding]
        return [n for pair in reversed(pairs) for n in pair]

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """`input` with `_edges` around it, and the zeros that are left to add."""
        if self._edges is None:
            return input, self.padding
        _checks.spatial(self._get_name(), _checks.tensor(self._get_name(), input), self._axes)
        return functional.pad(input, self._edges, self.padding_mode), (0,) * self._axes

    def reset_parameters(self) -> None:
        """Draw new parameters: uniform in +-1/sqrt(fan_in), as in PyTorch."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight.size // self.weight.shape[0])
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        none = (0,) * self._axes
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding != none:
            text += f", padding={self.padding}"
        if any(d != 1 for d in self.dilation):
            text += f", dilation={self.dilation}"
        if self.output_padding != none:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Forward(_Conv):
    """Args:
    kernel_size, stride, dilation: an int, or one for each axis.
    padding: an int, or one for each axis, of elements added at both sides, "valid" (none) or "same" (stride 1).
    padding_mode: what is added: "zeros", or the input's own by "reflect", "replicate" or "circular".
    groups: divides both channel counts; each group of inputs meets its own group of outputs.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str | Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class Conv1d(_Forward):
    """Convolution over sequences (N, C, L), or one sequence (C, L). Arguments as Conv2d's."""

    _axes = 1

    def forward(self, input: Tensor) -> Tensor:
        input, padding = self._padded(input)
        return functional.conv1d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv2d(_Forward):
    """Convolution over images (N, C, H, W), or one image (C, H, W).

    Args:
        kernel_size, stride, dilation: an int or (height, width).
        padding: an int or (height, width) of elements added at both sides, "valid" (none) or "same" (stride 1).
        padding_mode: what is added: "zeros", or the image's own by "reflect", "replicate" or "circular".
        groups: divides both channel counts; each group of inputs meets its own group of outputs.
    """

    _axes = 2

    def forward(self, input: Tensor) -> Tensor:
        input, padding = self._padded(input)
        if isinstance(padding, str):
            return functional.conv2d(
                input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
            )
        return ops.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _forward_relu(self, input: Tensor) -> Tensor:
        padding = self.padding
        if isinstance(padding, str) or self._edges is not None:
            return ops.relu(self.forward(input))
        return ops.conv2d_relu(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv3d(_Forward):
    """Convolution over volumes (N, C, D, H, W), or one volume (C, D, H, W). Arguments as Conv2d's."""

    _axes = 3

    def forward(self, input: Tensor) -> Tensor:
        input, padding = self._padded(input)
        return functional.conv3d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class _Transposed(_Conv):
    """Args:
    kernel_size, stride, padding, dilation: an int, or one for each axis, of the convolution that this transposes.
    output_padding: results added at the far side, fewer than stride or than dilation.
    """

    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.output_padding = _checks.several(
            type(self).__name__, "output_padding", output_padding, self._axes, 0
        )

    def _extra(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """The output padding that gives `output_size` (the last axes, or all)."""
        if output_size is None:
            return self.output_padding
        name, wanted = type(self).__name__, tuple(output_size)[-self._axes :]
        _checks.tensor_rank(
            name, tuple(input.shape), (self._axes + 1, self._axes + 2), "(N, C, ...) or (C, ...)"
        )
        assert isinstance(self.padding, tuple)
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-self._axes :], self.stride, self.padding, self.dilation, self.kernel_size
            )
        ]
        extra = tuple(w - n for w, n in zip(wanted, least))
        if len(wanted) != self._axes or any(not 0 <= e < s for e, s in zip(extra, self.stride)):
            most = tuple(n + s - 1 for n, s in zip(least, self.stride))
            raise ValueError(
                f"{name}: output_size must be from {tuple(least)} to {most}, got {tuple(output_size)}"
            )
        return extra


class ConvTranspose1d(_Transposed):
    """The transpose of Conv1d, over (N, C, L) or (C, L). Arguments as ConvTranspose2d's."""

    _axes = 1

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._extra(input, output_size)
        return ops.conv_transpose1d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class ConvTranspose2d(_Transposed):
    """The transpose of Conv2d, the gradient at its input: images (N, C, H, W), or one image (C, H, W), that grow by
    the stride.

    Args:
        kernel_size, stride, padding, dilation: an int or (height, width), of the convolution that this transposes.
        output_padding: rows and columns added at the far side, fewer than stride or than dilation; `output_size` of a
            call chooses it.
        groups: divides both channel counts.
    """

    _axes = 2

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._extra(input, output_size)
        return ops.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class ConvTranspose3d(_Transposed):
    """The transpose of Conv3d, over (N, C, D, H, W) or (C, D, H, W). Arguments as ConvTranspose2d's."""

    _axes = 3

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._extra(input, output_size)
        return ops.conv_transpose3d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )
