"""Weight norm and spectral norm, as parametrizations (see `nn.utils.parametrize`)."""

from __future__ import annotations

from typing import Any, TypeVar

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.nn import functional as F
from tensorsmith.nn.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from tensorsmith.nn.module import Module
from tensorsmith.nn.utils.parametrize import register_parametrization
from tensorsmith.tensor import Tensor

__all__ = ["spectral_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


def _tensor(name: str, module: Any, of: Any) -> Tensor:
    """The module's tensor that is to be normed."""
    if not isinstance(module, Module):
        raise TypeError(f"{name}: module must be a Module, got {type(module).__name__}")
    weight = getattr(module, of, None) if isinstance(of, str) else None
    if not isinstance(weight, Tensor):
        raise ValueError(f"{name}: {type(module).__name__} has no parameter or buffer {of!r}")
    if weight.dtype.kind != "floating":
        raise TypeError(f"{name}: {of!r} must be floating-point, got {weight.dtype}")
    return weight


def _axis(name: str, dim: Any, ndim: int) -> int:
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{name}: dim must be an integer or None, got {type(dim).__name__}")
    if not -ndim <= dim < ndim:
        raise IndexError(f"{name}: dim must be in [{-ndim}, {ndim - 1}], got {dim}")
    return int(dim) % ndim


class _WeightNorm(Module):
    def __init__(self, axis: int | None) -> None:
        super().__init__()
        self.axis = axis

    def _norm(self, v: Tensor) -> Tensor:
        if self.axis is None:
            return ops.vector_norm(v)
        return ops.vector_norm(v, axis=tuple(i for i in range(v.ndim) if i != self.axis), keepdims=True)

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / self._norm(v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._norm(weight), weight

    def _upgrade_tensor(self, state: dict[str, Any], prefix: str, name: str) -> None:
        """From the names that PyTorch's older weight_norm gave them."""
        old = [f"{prefix}{name}{end}" for end in ("_g", "_v")]
        if all(key in state for key in old):
            for number, key in enumerate(old):
                state[f"{prefix}parametrizations.{name}.original{number}"] = state.pop(key)


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """w = g v / ||v||: the direction and the length of a weight apart. Returns the module.

    dim: the axis along which each slice has a length of its own; g, `parametrizations.<name>.original0`, has extent 1
    along the others. None or -1, as in PyTorch: one length for all, of shape (). v is `original1`, of the weight's
    shape. Both are new parameters: make the optimizer afterwards. The module computes what it did.
    `remove_parametrizations` takes it off.

    State dicts with the keys of PyTorch's older `weight_norm` (`weight_g`, `weight_v`) load too. IndexError for a dim
    that the weight does not have, ValueError for a name that the module does not have.

    Source: Salimans & Kingma 2016, "Weight Normalization".
    """
    weight = _tensor("weight_norm", module, name)
    whole = dim is None or dim == -1
    axis = None if whole else _axis("weight_norm", dim, weight.ndim)
    register_parametrization(module, name, _WeightNorm(axis), unsafe=True)
    return module


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, axis: int, eps: float) -> None:
        super().__init__()
        self.axis = axis
        self.eps = eps
        self.n_power_iterations = n_power_iterations
        if weight.ndim == 1:
            return
        with ts.no_grad():
            matrix = self._matrix(weight.detach())
            for name, size in zip(("_u", "_v"), matrix.shape):
                start = ts.random.normal(size=(size,)).to(dtype=weight.dtype, device=weight.device)
                self.register_buffer(name, F.normalize(start, dim=0, eps=eps))
            self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        return ops.moveaxis(weight, self.axis, 0).reshape(weight.shape[self.axis], -1)

    def _iterate(self, matrix: Tensor, count: int) -> None:
        """Steps of the power method, into the buffers."""
        with ts.no_grad():
            for _ in range(count):
                self._u.copy_(F.normalize(matrix @ self._v, dim=0, eps=self.eps))
                self._v.copy_(F.normalize(matrix.T @ self._u, dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        with ts.autocast(enabled=False):
            if weight.ndim == 1:
                return F.normalize(weight, dim=0, eps=self.eps)
            matrix = self._matrix(weight)
            if self.training:
                self._iterate(matrix.detach(), self.n_power_iterations)
            # Copies: backward comes after the next call's iterations, too.
            return weight / ops.sum(self._u.copy() * (matrix @ self._v.copy()))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """w / sigma(w), where sigma is the largest singular value of the weight as a matrix with axis `dim` first. Returns
    the module.

    sigma is estimated by the power method, from 15 steps here and `n_power_iterations` whenever the weight is read in
    training mode; its vectors are the buffers `parametrizations.<name>.0._u` and `_v`, constants for the gradient. The
    parameter, `parametrizations.<name>.original`, stays the same object. dim: None is 1 for transposed convolutions and
    0 for others. eps: what norms are at least. A weight of one axis is divided by its norm.

    IndexError for a dim that the weight does not have, ValueError for a name that the module does not have and for
    n_power_iterations below 1.

    Source: Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks".
    """
    weight = _tensor("spectral_norm", module, name)
    steps = _checks.integer("spectral_norm", "n_power_iterations", n_power_iterations)
    _checks.at_least("spectral_norm", "eps", eps)
    if dim is None:
        dim = int(isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)))
    axis = _axis("spectral_norm", dim, weight.ndim)
    if weight.size == 0:
        raise ValueError(f"spectral_norm: {name!r} has no elements, shape {tuple(weight.shape)}")
    register_parametrization(module, name, _SpectralNorm(weight, steps, axis, float(eps)))
    return module
