"""Activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorsmith as ts
from tensorsmith import _core, ops
from tensorsmith.autograd import Function
from tensorsmith.nn import _checks
from tensorsmith.ops.halves import rounded_once
from tensorsmith.ops.manipulate import _axis
from tensorsmith.tensor import Tensor


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); NaN stays NaN."""
    return ops.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope x."""
    return ops.leaky_relu(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1)."""
    return ops.elu(input, alpha)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return ops.sigmoid(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))) = -softplus(-x)."""
    return -ops.softplus(-input)


def tanh(input: Tensor) -> Tensor:
    """tanh(x)."""
    return ops.tanh(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), or its tanh approximation with approximate="tanh"."""
    _checks.choice("gelu", "approximate", approximate, ("none", "tanh"))
    return ops.gelu(input, approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)."""
    return ops.silu(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, exact for every x: `threshold` only says where PyTorch rounds to x."""
    if beta == 1.0:
        return ops.softplus(input)
    _checks.more_than("softplus", "beta", beta)

    def scaled(x: Tensor) -> Tensor:
        z = x * beta
        y = ops.softplus(z) / beta
        return ops.where(z > 50.0, ops.astype(x, y.dtype, copy=False), y)  # z may be infinite where x is not

    return rounded_once(scaled, input)


def _dim(name: str, dim: int | None, rank: int) -> int:
    if dim is None:  # PyTorch's guess
        return 0 if rank in (0, 1, 3) else 1
    return dim


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) / sum exp(x) along `dim`."""
    if dtype is not None:
        input = input.astype(dtype)
    return ops.softmax(input, _dim("softmax", dim, input.ndim))


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """x - log sum exp(x) along `dim`."""
    if dtype is not None:
        input = input.astype(dtype)
    return ops.log_softmax(input, _dim("log_softmax", dim, input.ndim))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale elu(x, alpha) with the constants of Klambauer et al. 2017."""
    return rounded_once(lambda x: ops.elu(x, _SELU_ALPHA) * _SELU_SCALE, input)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (exp(x / alpha) - 1) (Barron 2017)."""
    if _checks.number("celu", "alpha", alpha) == 0:
        raise ValueError("celu: alpha must not be 0")

    def formula(x: Tensor) -> Tensor:
        z = x * (1 / alpha)  # above 0 where x is, unless alpha is below
        curve = ops.elu(z, 1.0) if alpha > 0 else ops.expm1(z)
        return ops.where(x > 0, ops.astype(x, curve.dtype, copy=False), curve * alpha)

    return rounded_once(formula, input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x))."""
    return ops.mish(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x clip(x + 3, 0, 6) / 6."""
    return ops.hardswish(input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """clip(x + 3, 0, 6) / 6."""
    return ops.hardsigmoid(input)


class _Limited(Function):
    """clip, but the gradient at the limits is 0."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, low: float, high: float) -> Tensor:
        y = ops.clip(input, low, high)
        ctx.save_for_backward(y)
        ctx.limits = low, high
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        (y,), (low, high) = ctx.saved_tensors, ctx.limits
        return ops.where(ops.logical_or(y <= low, y >= high), 0.0, dy), None, None


def _limited(input: Tensor, low: float, high: float) -> Tensor:
    if not (_core.is_grad_enabled() and getattr(input, "requires_grad", False)):
        return ops.clip(input, low, high)
    y: Tensor = _Limited.apply(input, low, high)
    return y


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; at the limits the gradient is 0."""
    low, high = (
        _checks.number("hardtanh", key, value) for key, value in (("min_val", min_val), ("max_val", max_val))
    )
    if not low <= high:
        raise ValueError(f"hardtanh: min_val must be <= max_val, got {min_val} and {max_val}")
    return _limited(input, low, high)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """x limited to [0, 6]; at 0 and 6 the gradient is 0."""
    return _limited(input, 0.0, 6.0)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return ops.softsign(input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return rounded_once(lambda x: x - ops.tanh(x), input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, 0 within it."""
    _checks.at_least("softshrink", "lambd", lambd)
    return input - ops.clip(input, -lambd, lambd)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where |x| <= lambd, else x."""
    return ops.where(ops.abs(input) <= _checks.number("hardshrink", "lambd", lambd), 0.0, input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value; NaN stays NaN."""
    _checks.number("threshold", "threshold", threshold)
    return ops.where(input <= threshold, _checks.number("threshold", "value", value), input)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight x: one weight, or one for each channel (axis 1)."""
    if weight.size != 1:
        if input.ndim < 2 or input.shape[1] != weight.size:
            raise ValueError(
                f"prelu: weight must have 1 element or one for each channel, got {weight.size} for "
                f"input {tuple(input.shape)}"
            )
        weight = weight.reshape((-1,) + (1,) * (input.ndim - 2))
    return ops.leaky_relu(input, weight.reshape(()) if weight.size == 1 else weight)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a sigmoid(b) for the halves a and b of x along `dim` (Dauphin et al. 2017)."""
    if input.shape[_axis("glu", dim, input.ndim)] % 2:
        raise ValueError(f"glu: dimension {dim} must be even, got shape {tuple(input.shape)}")

    def gated(x: Tensor) -> Tensor:
        a, b = ops.split(x, 2, dim)
        return a * ops.sigmoid(b)

    return rounded_once(gated, input)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    return softmax(-input, dim, dtype=dtype)


def _drawn(name: str, input: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Random numbers as many as `input` has and of its dtype; those of halves are drawn in float32."""
    if input.dtype.kind != "floating":
        raise TypeError(f"{name}: input must be floating-point, got {input.dtype}")
    dtype = ts.float64 if input.dtype == ts.float64 else ts.float32
    return ops.astype(draw(ops.empty_like(input.detach(), dtype=dtype)), input.dtype, copy=False)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x where x > 0, else a x: in training with an `a` for each element from [lower, upper), else with their mean (Xu
    et al. 2015).
    """
    if not _checks.number("rrelu", "lower", lower) <= _checks.number("rrelu", "upper", upper):
        raise ValueError(f"rrelu: lower must be <= upper, got {lower} and {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    slope = _drawn("rrelu", input, lambda x: x.uniform_(lower, upper))
    return ops.where(input > 0, input, input * slope)


def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """softmax((logits + g) / tau) along `dim`, g Gumbel noise: a sample that gradients pass (Jang et al. 2017). `hard`
    gives the one of its largest element, with the gradient of the soft one. `eps` is accepted and not needed.
    """
    _checks.more_than("gumbel_softmax", "tau", tau)
    noise = _drawn("gumbel_softmax", logits, lambda x: ops.log(x.exponential_()))
    y = ops.softmax((logits - noise) / tau, dim)
    if not hard:
        return y
    still = y.detach()
    top = ops.expand_dims(ops.argmax(still, axis=dim), dim)
    return ops.scatter(ops.zeros_like(still), dim, top, 1.0) - still + y
