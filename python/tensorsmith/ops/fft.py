"""The transforms that `tensorsmith.fft` is made of. Their matrices are symmetric, so a transform's gradient is one."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__: list[str] = []


def _half_spectrum(x: Any, n: int, axis: int, weight: float) -> Any:
    """x, of n // 2 + 1 frequencies, with those that have a conjugate in the whole spectrum times `weight`."""
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    k = core.arange(x.shape[axis], device=x.device)
    alone = core.logical_or(core.equal(k, 0), core.equal(core.multiply(k, 2), n))
    return x * core.reshape(core.where(alone, 1.0, weight), shape)


def _rfft_gradient(dy: Any, x_shape: Any, axis: int, scale: float) -> Any:
    n = x_shape[axis]
    return core.irfft(_half_spectrum(dy, n, axis, 0.5), n, axis, scale)


define(
    core.fft,
    "scale * sum_j x_j exp(-2 pi i j k / N) along an axis of a complex x; + for `inverse`.",
    conjugate=False,
    x=lambda dy, axis, inverse, scale: core.fft(dy, axis, not inverse, scale),
)
define(
    core.rfft,
    "The first N/2 + 1 elements of the transform of a real x.",
    conjugate=False,
    x=_rfft_gradient,
)
define(
    core.irfft,
    "The n real numbers whose transform begins with x.",
    conjugate=False,
    x=lambda dy, n, axis, scale: _half_spectrum(core.rfft(dy, axis, scale), n, axis, 2.0),
)
