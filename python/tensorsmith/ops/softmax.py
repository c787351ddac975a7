"""Softmax and log-softmax: docstrings and gradient rules."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.halves import widened

__all__ = ["log_softmax", "softmax"]

softmax = define(
    core.softmax,
    """exp(x - m) / sum exp(x - m) along an axis, m its maximum: positive, with sum 1.

    x: floating-point, any shape and strides. A NaN, a +inf or nothing but -inf makes the row NaN.
    AxisError for an axis that x does not have, TypeError for other dtypes.""",
    x=lambda dy, y, axis: core.softmax_backward(dy, y, axis),
)


def _softmax_second(dy: Any, gradient: Any, y: Any, axis: int) -> Any:
    dy, gradient, y = widened(dy, gradient, y)
    total = core.sum(gradient * y, axis, None, True)
    weighted = core.sum(dy * y, axis, None, True)
    return core.softmax_backward(dy, y, axis), dy * (gradient - total) - gradient * weighted


define(
    core.softmax_backward,
    "The gradient of softmax: y (gradient - sum gradient y) along an axis.",
    wrt="gradient y",
    vjp=_softmax_second,
)

log_softmax = define(
    core.log_softmax,
    """x - logsumexp(x) along an axis: the logarithm of softmax, without its underflow.

    x: floating-point, any shape and strides. Errors as softmax.""",
    x=lambda dy, y, axis: core.log_softmax_backward(dy, y, axis),
)


def _log_softmax_second(dy: Any, gradient: Any, y: Any, axis: int) -> Any:
    dy, gradient, y = widened(dy, gradient, y)
    p = core.exp(y)
    kept = core.sum(dy * p, axis, None, True)
    return dy - kept, -(dy * p) * core.sum(gradient, axis, None, True)


define(
    core.log_softmax_backward,
    "The gradient of log_softmax: gradient - exp(y) sum gradient along an axis.",
    wrt="gradient y",
    vjp=_log_softmax_second,
)
