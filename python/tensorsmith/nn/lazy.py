"""Layers that learn how many features or channels they take from their first input, and are then what their name says
without "Lazy".

Until then the parameters that depend on it have extent 0. They stay the same objects, so an optimizer that was made
before knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import tensorsmith as ts
from tensorsmith import _core
from tensorsmith.nn import _checks
from tensorsmith.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Sizes,
    _Conv,
    _Forward,
    _Transposed,
)
from tensorsmith.nn.linear import Linear
from tensorsmith.nn.module import Module
from tensorsmith.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    _BatchNorm,
)
from tensorsmith.tensor import Tensor


class _Lazy(Module):
    """What they share: `_becomes` is the class, `_count` the attribute to learn."""

    _becomes: ClassVar[type[Module]]
    _count: ClassVar[str]
    _fewest: ClassVar[int] = 0

    def _size_of(self, input: Tensor) -> int:
        """What `_count` is, from an input."""
        raise NotImplementedError

    def _size_in(self, shape: tuple[int, ...]) -> int:
        """The same from the shape that a weight or running mean has in a state_dict."""
        raise NotImplementedError

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """The shapes, then, of parameters and buffers that depend on it."""
        raise NotImplementedError

    def _dependent(self) -> dict[str, Tensor]:
        """Those that there are."""
        found = {name: getattr(self, name) for name in self._shapes(0)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def _tensors(self, size: int) -> dict[str, Tensor]:
        """New ones of these shapes."""
        shapes = self._shapes(size)
        return {
            name: ts.zeros(shapes[name], dtype=have.dtype, device=have.device)
            for name, have in self._dependent().items()
        }

    def _awaited(self, state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
        for name in ("weight", "running_mean"):
            if getattr(self, name, None) is not None and prefix + name in state:
                size = self._size_in(tuple(getattr(state[prefix + name], "shape", ())))
                return self._tensors(size) if size else {}
        return {}

    def _adopt(self, tensors: Mapping[str, Tensor]) -> None:
        self._become(self._size_in(tuple(next(iter(tensors.values())).shape)), tensors)

    def _become(self, size: int, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            getattr(self, name)._share(tensor)
        setattr(self, self._count, size)
        self.__class__ = self._becomes  # type: ignore[assignment]

    def reset_parameters(self) -> None:
        """Nothing yet: they are drawn when their shapes are known."""

    def _first(self, input: Tensor, *args: Any) -> Tensor:
        """The first call. After an error it is lazy again, and the generator where it was."""
        if _core.capturing():
            raise RuntimeError(
                f"{self._get_name()}: run the module once before ts.jit records it: it draws parameters"
            )
        lazy, state = self.__class__, ts.random.get_state()
        before = {name: have.detach() for name, have in self._dependent().items()}
        try:
            self._learn(input)
            result: Tensor = self.forward(input, *args)
        except BaseException:
            for name, tensor in before.items():
                getattr(self, name)._share(tensor)
            self.__class__ = lazy
            setattr(self, self._count, 0)
            ts.random.set_state(state)
            raise
        return result

    def _learn(self, input: Tensor) -> None:
        name = self._get_name()
        _checks.tensor(name, input)
        size = self._size_of(input)
        if size == 0:
            raise ValueError(
                f"{name}: {self._count} must be >= 1, got an input of shape {tuple(input.shape)}"
            )
        self._become(size, self._tensors(size))
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return self._first(input)


class LazyLinear(_Lazy, Linear):
    """Linear whose in_features are those of its first input."""

    _becomes, _count = Linear, "in_features"

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, out_features, bias, device, dtype)

    def _size_of(self, input: Tensor) -> int:
        if input.ndim == 0:
            raise ValueError(
                "LazyLinear: input must have at least 1 dimension, (..., in_features), got shape ()"
            )
        return int(input.shape[-1])

    def _size_in(self, shape: tuple[int, ...]) -> int:
        return shape[-1] if len(shape) == 2 else 0

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.out_features, size)}


class _LazyConv(_Lazy, _Conv):
    _count = "in_channels"

    def _size_of(self, input: Tensor) -> int:
        name, shape = self._get_name(), tuple(input.shape)
        _checks.spatial(name, shape, self._axes)
        size = shape[-self._axes - 1]
        if size % self.groups:
            raise ValueError(f"{name}: in_channels must be divisible by groups, got {size} and {self.groups}")
        return int(size)

    def _size_in(self, shape: tuple[int, ...]) -> int:
        if len(shape) != self._axes + 2:
            return 0
        return shape[0] if self._transposed else shape[1] * self.groups

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        channels = (
            (size, self.out_channels // self.groups)
            if self._transposed
            else (self.out_channels, size // self.groups)
        )
        return {"weight": (*channels, *self.kernel_size)}


class _LazyForward(_LazyConv, _Forward):
    def __init__(
        self,
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
            0, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )


class LazyConv1d(_LazyForward, Conv1d):
    """Conv1d whose in_channels are those of its first input."""

    _becomes = Conv1d


class LazyConv2d(_LazyForward, Conv2d):
    """Conv2d whose in_channels are those of its first input."""

    _becomes = Conv2d


class LazyConv3d(_LazyForward, Conv3d):
    """Conv3d whose in_channels are those of its first input."""

    _becomes = Conv3d


class _LazyTransposed(_LazyConv, _Transposed):
    def __init__(
        self,
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
            0, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode, device,
            dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        return self._first(input, output_size)


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):
    """ConvTranspose1d whose in_channels are those of its first input."""

    _becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):
    """ConvTranspose2d whose in_channels are those of its first input."""

    _becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):
    """ConvTranspose3d whose in_channels are those of its first input."""

    _becomes = ConvTranspose3d


class _LazyNorm(_Lazy, _BatchNorm):
    _count = "num_features"

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def _size_of(self, input: Tensor) -> int:
        shape = tuple(input.shape)
        _checks.tensor_rank(self._get_name(), shape, self._ranks, self._form)
        return int(shape[0 if self._form.startswith("(C") and len(shape) == min(self._ranks) else 1])

    def _size_in(self, shape: tuple[int, ...]) -> int:
        return shape[0] if len(shape) == 1 else 0

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (size,))


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """BatchNorm1d whose num_features are those of its first input."""

    _becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """BatchNorm2d whose num_features are those of its first input."""

    _becomes = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """BatchNorm3d whose num_features are those of its first input."""

    _becomes = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """InstanceNorm1d whose num_features are those of its first input."""

    _becomes = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """InstanceNorm2d whose num_features are those of its first input."""

    _becomes = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """InstanceNorm3d whose num_features are those of its first input."""

    _becomes = InstanceNorm3d
