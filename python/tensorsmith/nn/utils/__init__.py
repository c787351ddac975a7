"""Gradient clipping, parameters as one vector, and parametrizations."""

from __future__ import annotations

import math
from collections.abc import Iterable

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.nn.utils import parametrizations, parametrize, rnn
from tensorsmith.ops.optim import gradient_norm
from tensorsmith.ops.sparse import RowSparse
from tensorsmith.tensor import Tensor


def _gradients(name: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{name}: parameters must be a tensor or several, got a {type(parameters).__name__}")
    gradients = []
    for parameter in parameters:
        _checks.tensor(name, parameter, "every parameter")
        gradient = parameter.grad
        if isinstance(gradient, RowSparse):  # its rows, each there once
            parameter.grad = gradient = gradient.coalesce()
            gradient = gradient.data
        if gradient is not None:
            gradients.append(gradient)
    return gradients


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors as if they were one vector: a 0-d tensor, float64 for norm 2; "inf" is math.inf.

    ValueError with `error_if_nonfinite` where it is NaN or infinite.
    """
    tensors = [tensors] if isinstance(tensors, (Tensor, RowSparse)) else list(tensors)
    tensors = [x.coalesce().data if isinstance(x, RowSparse) else x for x in tensors]
    norm_type = math.inf if norm_type == "inf" else norm_type
    norm_type = float(_checks.number("get_total_norm", "norm_type", norm_type))
    if not norm_type > 0:
        raise ValueError(f"get_total_norm: norm_type must be > 0, got {norm_type}")
    with ts.no_grad():
        if not tensors:
            return ts.zeros(())
        if norm_type == 2.0:
            total = gradient_norm(tensors)
        elif math.isinf(norm_type):
            total = ops.max(ops.stack([ops.max(ops.abs(tensor)).astype(ts.float64) for tensor in tensors]))
        else:
            powers = [ops.sum(ops.abs(tensor).astype(ts.float64) ** norm_type) for tensor in tensors]
            total = ops.sum(ops.stack(powers)) ** (1.0 / norm_type)
    if error_if_nonfinite and not math.isfinite(float(total)):
        raise ValueError(
            f"the total norm of order {norm_type:g} is {float(total)}: it must be finite to clip by it"
        )
    return total


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients, in place, so that their common norm is at most `max_norm`;
    returns the norm before.

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch, and is applied without reading it on the
    host. `foreach` is accepted and ignored.
    """
    _checks.at_least("clip_grad_norm_", "max_norm", max_norm)
    gradients = _gradients("clip_grad_norm_", parameters)
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    if gradients:
        with ts.no_grad():
            scale = ops.minimum(max_norm / (total + 1e-6), 1.0)
            scales: dict[object, Tensor] = {}
            for gradient in gradients:
                if gradient.dtype not in scales:
                    scales[gradient.dtype] = scale.astype(gradient.dtype)
                gradient.mul_(scales[gradient.dtype])
    return total


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Clip every gradient's elements, in place, to [-clip_value, clip_value]; `foreach` is ignored."""
    clip_value = float(_checks.at_least("clip_grad_value_", "clip_value", clip_value))
    with ts.no_grad():
        for gradient in _gradients("clip_grad_value_", parameters):
            gradient.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and joined: a 1-d tensor, differentiable."""
    flat = [parameter.reshape((-1,)) for parameter in parameters]
    if not flat:
        raise ValueError("parameters_to_vector: parameters is empty")
    return ops.concat(flat)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy consecutive pieces of `vec` into the parameters. ValueError if the sizes differ or a parameter is read-only,
    before any change.
    """
    parameters = list(parameters)
    total = sum(parameter.size for parameter in parameters)
    if vec.ndim != 1 or vec.size != total:
        raise ValueError(
            f"vector_to_parameters: vec must be 1-dimensional with {total} elements, got shape "
            f"{tuple(vec.shape)}"
        )
    if any(parameter._read_only for parameter in parameters):
        raise ValueError("vector_to_parameters: a parameter is read-only")
    start = 0
    vec = vec.detach().copy()  # it may lie in the parameters' memory
    with ts.no_grad():
        for parameter in parameters:
            parameter.copy_(vec[start : start + parameter.size].reshape(parameter.shape))
            start += parameter.size
