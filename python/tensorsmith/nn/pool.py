"""Pools: the largest value, the mean or the norm of each window of (N, C, ...) or (C, ...); and `Upsample`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorsmith import ops
from tensorsmith.nn import _checks, functional
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor

Pair = int | tuple[int, int]


class MaxPool2d(Module):
    """The maximum of each window; padding counts as -inf, NaN wins.

    Args:
        kernel_size, padding, dilation: an int or (height, width).
        stride: the same; None means `kernel_size`.
        ceil_mode: keep a last window that hangs over the edge.
        return_indices: return (maxima, their positions), for `MaxUnpool2d`.
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
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        return functional.max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
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


class _Pool(Module):
    """A pool whose arguments become attributes and then those of a function."""

    _function: Callable[..., Tensor]
    _names: tuple[str, ...]

    def _set(self, **options: Any) -> None:
        for name, value in options.items():
            setattr(self, name, value)
        self._names = tuple(options)

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, **{name: getattr(self, name) for name in self._names})

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._names)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self._set(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
            dilation=dilation,
            return_indices=return_indices,
            ceil_mode=ceil_mode,
        )


class MaxPool1d(_MaxPool):
    """The maximum of each window of (N, C, L) or (C, L)."""

    _function = staticmethod(functional.max_pool1d)


class MaxPool3d(_MaxPool):
    """The maximum of each window of (N, C, D, H, W) or (C, D, H, W)."""

    _function = staticmethod(functional.max_pool3d)


class AvgPool1d(_Pool):
    """The mean of each window of (N, C, L) or (C, L)."""

    _function = staticmethod(functional.avg_pool1d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        stride = kernel_size if stride is None else stride
        self._set(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )


class AvgPool3d(_Pool):
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W)."""

    _function = staticmethod(functional.avg_pool3d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        stride = kernel_size if stride is None else stride
        self._set(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )


class _AdaptivePool(_Pool):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self._set(output_size=output_size)


class AdaptiveAvgPool1d(_AdaptivePool):
    """The means of `output_size` windows that cover the last axis."""

    _function = staticmethod(functional.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptivePool):
    """The means of `output_size` windows that cover each of the last two axes; None keeps one."""

    _function = staticmethod(functional.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptivePool):
    """The means of `output_size` windows that cover each of the last three axes; None keeps one."""

    _function = staticmethod(functional.adaptive_avg_pool3d)


class _AdaptiveMaxPool(_Pool):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self._set(output_size=output_size, return_indices=return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The maxima of `output_size` windows that cover the last axis."""

    _function = staticmethod(functional.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The maxima of `output_size` windows that cover each of the last two axes; None keeps one."""

    _function = staticmethod(functional.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The maxima of `output_size` windows that cover each of the last three axes; None keeps one."""

    _function = staticmethod(functional.adaptive_max_pool3d)


class FractionalMaxPool2d(_Pool):
    """The maxima of windows at random steps, new ones at every call: `functional.fractional_max_pool2d`.

    One of output_size and output_ratio must be given.
    """

    _function = staticmethod(functional.fractional_max_pool2d)

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        super().__init__()
        name = "FractionalMaxPool2d"
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{name}: give output_size or output_ratio, one of the two")
        self._set(
            kernel_size=_checks.pair(name, "kernel_size", kernel_size),
            output_size=None if output_size is None else _checks.pair(name, "output_size", output_size),
            output_ratio=None if output_ratio is None else _checks.ratios(name, "output_ratio", output_ratio),
            return_indices=return_indices,
            _random_samples=_random_samples,
        )


class _LPPool(_Pool):
    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self._set(norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class LPPool1d(_LPPool):
    """(sum x^p)^(1/p) over each window of (N, C, L) or (C, L)."""

    _function = staticmethod(functional.lp_pool1d)


class LPPool2d(_LPPool):
    """(sum x^p)^(1/p) over each window of (N, C, H, W) or (C, H, W)."""

    _function = staticmethod(functional.lp_pool2d)


class Upsample(_Pool):
    """Other spatial extents by interpolation: `functional.interpolate`."""

    _function = staticmethod(functional.interpolate)

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self._set(
            size=size,
            scale_factor=scale_factor,
            mode=mode,
            align_corners=align_corners,
            recompute_scale_factor=recompute_scale_factor,
        )


class UpsamplingNearest2d(Upsample):
    """Upsample of images, "nearest"."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Upsample of images, "bilinear" with the corners' centres in place."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class _MaxUnpool(_Pool):
    kernel_size: Any
    stride: Any
    padding: Any

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self._set(kernel_size=kernel_size, stride=kernel_size if stride is None else stride, padding=padding)

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:  # type: ignore[override]
        return type(self)._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool):
    """The partial inverse of `MaxPool1d(return_indices=True)`: zeros but for the maxima."""

    _function = staticmethod(functional.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """The partial inverse of `MaxPool2d(return_indices=True)`: zeros but for the maxima."""

    _function = staticmethod(functional.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """The partial inverse of `MaxPool3d(return_indices=True)`: zeros but for the maxima."""

    _function = staticmethod(functional.max_unpool3d)


class LPPool3d(_LPPool):
    """(sum x^p)^(1/p) over each window of (N, C, D, H, W) or (C, D, H, W)."""

    _function = staticmethod(functional.lp_pool3d)


class PixelShuffle(_Pool):
    """(*, C r^2, H, W) -> (*, C, H r, W r): channels become blocks of pixels."""

    _function = staticmethod(functional.pixel_shuffle)

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self._set(upscale_factor=upscale_factor)


class PixelUnshuffle(_Pool):
    """(*, C, H r, W r) -> (*, C r^2, H, W): the inverse of `PixelShuffle`."""

    _function = staticmethod(functional.pixel_unshuffle)

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self._set(downscale_factor=downscale_factor)


class ChannelShuffle(_Pool):
    """Channels in the order first of each group, second of each group, ..."""

    _function = staticmethod(functional.channel_shuffle)

    def __init__(self, groups: int) -> None:
        super().__init__()
        self._set(groups=groups)


class Unfold(_Pool):
    """The windows of (N, C, H, W) as columns (N, C KH KW, L)."""

    _function = staticmethod(functional.unfold)

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self._set(kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)


class Fold(_Pool):
    """Columns (N, C KH KW, L) added up to images (N, C, *output_size)."""

    _function = staticmethod(functional.fold)

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self._set(
            output_size=output_size,
            kernel_size=kernel_size,
            dilation=dilation,
            padding=padding,
            stride=stride,
        )
