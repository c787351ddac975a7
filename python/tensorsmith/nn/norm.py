"""Normalisation: y = (x - mean) / sqrt(var + eps) * weight + bias.

`BatchNorm1d/2d` take mean and var of each channel over batch and positions (Ioffe & Szegedy 2015),
`LayerNorm` of each row over its last axes (Ba, Kiros & Hinton 2016), `GroupNorm` and `InstanceNorm*` of groups of
channels of each image; `RMSNorm` leaves the mean where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks, functional, init
from tensorsmith.nn.functional._norm import _extents
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor


class _BatchNorm(Module):
    """What the batch norms share; they differ in the input they accept.

    In training the batch's statistics normalise and the running ones move:
    running = (1 - momentum) running + momentum batch, with the unbiased variance.
    In evaluation the running ones normalise, or the batch's where `track_running_stats=False`.
    """

    _ranks: tuple[int, ...]
    _form: str
    _fewest: ClassVar[int] = 1  # num_features; a lazy layer has 0 until it knows
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = self._get_name()
        self.num_features = _checks.integer(name, "num_features", num_features, self._fewest)
        self.eps = _checks.at_least(name, "eps", eps)
        self.momentum = momentum if momentum is None else _checks.probability(name, "momentum", momentum)
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        self.register_parameter("weight", Parameter(ts.ones(shape, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(ts.zeros(shape, dtype=dtype)) if affine and bias else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", ts.zeros(shape, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ts.ones(shape, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", ts.zeros((), dtype=ts.int64) if tracked else None)
        if device is not None:
            self.to(device)

    def reset_running_stats(self) -> None:
        """Forget what was measured: mean 0, variance 1."""
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Running statistics, weight 1, bias 0."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return self._normalised(input, ops.batch_norm)

    def _forward_relu(self, input: Tensor) -> Tensor:
        return self._normalised(input, ops.batch_norm_relu)

    def _normalised(self, input: Tensor, operation: Callable[..., Tensor]) -> Tensor:
        if input.ndim not in self._ranks:
            _checks.tensor_rank(self._get_name(), tuple(input.shape), self._ranks, self._form)
        training, momentum, count = self.training, self.momentum, self.num_batches_tracked
        mean, var = self.running_mean, self.running_var
        if training and not self.track_running_stats:  # perhaps only since the layer was made
            mean = var = count = None
        if momentum is None:  # the mean of all batches so far
            momentum = 1.0 / (float(count) + 1.0) if training and count is not None else 0.0
        output = operation(
            input, mean, var, self.weight, self.bias, training or mean is None, momentum, self.eps
        )
        if training and count is not None:
            count.add_(1)
        return output

    def _upgrade_state_dict(self, state: dict[str, Any], prefix: str) -> None:
        # Files without this counter exist (PyTorch before 0.4.1): PyTorch reads them too.
        if self.track_running_stats and prefix + "running_mean" in state:
            state.setdefault(prefix + "num_batches_tracked", self.num_batches_tracked)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch norm of (N, C) or (N, C, L) over N and L."""

    _ranks = (2, 3)
    _form = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch norm of (N, C, H, W) over N, H and W."""

    _ranks = (4,)
    _form = "(N, C, H, W)"


class LayerNorm(Module):
    """Normalises each row over the last axes, whose extents are `normalized_shape`."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        extents = _extents(normalized_shape)
        if not extents:
            raise ValueError("LayerNorm: normalized_shape must name at least one axis, got ()")
        self.normalized_shape = tuple(_checks.integer("LayerNorm", "normalized_shape", n) for n in extents)
        self.eps = _checks.at_least("LayerNorm", "eps", eps)
        self.elementwise_affine = elementwise_affine
        shape = self.normalized_shape
        affine = elementwise_affine
        self.register_parameter("weight", Parameter(ts.ones(shape, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(ts.zeros(shape, dtype=dtype)) if affine and bias else None)
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return ops.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """x / sqrt(mean x^2 + eps) weight over the last axes (Zhang & Sennrich 2019); eps None is the dtype's epsilon."""

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        extents = _extents(normalized_shape)
        if not extents:
            raise ValueError("RMSNorm: normalized_shape must name at least one axis, got ()")
        self.normalized_shape = tuple(_checks.integer("RMSNorm", "normalized_shape", n) for n in extents)
        self.eps = eps if eps is None else _checks.at_least("RMSNorm", "eps", eps)
        self.elementwise_affine = elementwise_affine
        weight = Parameter(ts.ones(self.normalized_shape, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", weight)
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalises each of `num_groups` groups of channels of each image (N, C, ...) (Wu & He 2018)."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups = _checks.integer("GroupNorm", "num_groups", num_groups)
        self.num_channels = _checks.integer("GroupNorm", "num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups {num_groups} must divide num_channels {num_channels}")
        self.eps = _checks.at_least("GroupNorm", "eps", eps)
        self.affine = affine
        shape = (num_channels,)
        self.register_parameter("weight", Parameter(ts.ones(shape, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(ts.zeros(shape, dtype=dtype)) if affine and bias else None)
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return ops.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _InstanceNorm(_BatchNorm):
    """Normalises each channel of each image; running statistics only where asked for."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in self._ranks:
            _checks.tensor_rank(self._get_name(), tuple(input.shape), self._ranks, self._form)
        single = input.ndim == min(self._ranks)
        y = ops.instance_norm(
            ops.expand_dims(input, 0) if single else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return y[0] if single else y


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of (N, C, L) or (C, L) over L."""

    _ranks = (2, 3)
    _form = "(C, L) or (N, C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Instance norm of (N, C, H, W) or (C, H, W) over H and W."""

    _ranks = (3, 4)
    _form = "(C, H, W) or (N, C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of (N, C, D, H, W) or (C, D, H, W) over D, H and W."""

    _ranks = (4, 5)
    _form = "(C, D, H, W) or (N, C, D, H, W)"


class BatchNorm3d(_BatchNorm):
    """Batch norm of (N, C, D, H, W) over N, D, H and W."""

    _ranks = (5,)
    _form = "(N, C, D, H, W)"


class LocalResponseNorm(Module):
    """x / (k + alpha a)^beta, a the mean of x^2 over `size` neighbouring channels: `functional.local_response_norm`."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = _checks.integer("LocalResponseNorm", "size", size)
        self.alpha, self.beta, self.k = alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return functional.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
