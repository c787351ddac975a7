"""The transforms that `tensorsmith.fft` is made of. Complex results carry no gradient."""

from __future__ import annotations

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__: list[str] = []

define(core.fft, "scale * sum_j x_j exp(-2 pi i j k / N) along an axis of a complex x; + for `inverse`.")
define(core.rfft, "The first N/2 + 1 elements of the transform of a real x.")
define(core.irfft, "The n real numbers whose transform begins with x.")
