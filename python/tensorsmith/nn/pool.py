"""Pools: the largest value, the mean or the norm of each window of (N, C, ...) or (C, ...); and `Upsample`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorsmith.nn import _checks, functional
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor


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


class _WindowPool(_Pool):
    """A pool of windows along `_rank` axes."""

    _rank: int

    def _set_windows(
        self, kernel_size: Any, stride: Any, padding: Any, dilation: Any = None, **options: Any
    ) -> None:
        name, stride = type(self).__name__, kernel_size if stride is None else stride
        windows = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        if dilation is not None:
            windows["dilation"] = dilation
        for argument, value in windows.items():
            _checks.several(name, argument, value, self._rank, int(argument != "padding"))
        self._set(**windows, **options)


class _MaxPool(_WindowPool):
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
        self._set_windows(
            kernel_size, stride, padding, dilation, return_indices=return_indices, ceil_mode=ceil_mode
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._names if name != "return_indices")


class MaxPool1d(_MaxPool):
    """The maximum of each window of (N, C, L) or (C, L); see `MaxPool2d`."""

    _function, _rank = staticmethod(functional.max_pool1d), 1


class MaxPool2d(_MaxPool):
    """The maximum of each window of (N, C, H, W) or (C, H, W); padding counts as -inf, NaN wins.

    Args:
        kernel_size, padding, dilation: an int or (height, width).
        stride: the same; None means `kernel_size`.
        ceil_mode: keep a last window that hangs over the edge.
        return_indices: return (maxima, their positions), for `MaxUnpool2d`.
    """

    _function, _rank = staticmethod(functional.max_pool2d), 2


class MaxPool3d(_MaxPool):
    """The maximum of each window of (N, C, D, H, W) or (C, D, H, W); see `MaxPool2d`."""

    _function, _rank = staticmethod(functional.max_pool3d), 3


class AvgPool1d(_WindowPool):
    """The mean of each window of (N, C, L) or (C, L); see `AvgPool2d`."""

    _function, _rank = staticmethod(functional.avg_pool1d), 1

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self._set_windows(
            kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._names[:3])


class AvgPool2d(AvgPool1d):
    """The mean of each window of (N, C, H, W) or (C, H, W).

    Args:
        kernel_size, padding: an int or (height, width).
        stride: the same; None means `kernel_size`.
        count_include_pad: whether padding's zeros count in the divisor.
        ceil_mode: keep a last window that hangs over the edge.
        divisor_override: divide by this instead of by the window's size.
    """

    _function, _rank = staticmethod(functional.avg_pool2d), 2

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        if divisor_override is not None:
            _checks.integer(type(self).__name__, "divisor_override", divisor_override)
        self.divisor_override = divisor_override
        self._names = (*self._names, "divisor_override")


class AvgPool3d(AvgPool2d):
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W); see `AvgPool2d`."""

    _function, _rank = staticmethod(functional.avg_pool3d), 3


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
