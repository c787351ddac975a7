"""Dropout: of elements, of whole channels, and towards what SELU keeps normalised."""

from __future__ import annotations

from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.nn.functional._activation import _SELU_ALPHA, _SELU_SCALE
from tensorsmith.tensor import Tensor


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability p, scale the rest by 1 / (1 - p); not in training:
    the input itself.
    """
    _checks.probability("dropout", "p", p)
    return ops.dropout(input, p, True) if training else input


def _channels(name: str, input: Tensor, rank: int) -> Tensor:
    """A one for each channel of each image, to be dropped and multiplied with."""
    _checks.spatial(name, input.shape, rank)
    shape = tuple(input.shape[:-rank]) + (1,) * rank
    return ops.ones(shape, input.dtype, device=input.device)


def _channel_dropout(rank: int, input: Tensor, p: float, training: bool) -> Tensor:
    name = f"dropout{rank}d"
    _checks.probability(name, "p", p)
    ones = _channels(name, input, rank)
    return input * ops.dropout(ones, p, True) if training else input


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each channel of (N, C, L) or (C, L) with probability p, scale the rest by 1 / (1 - p) (Tompson et al.
    2015); not in training: the input itself.
    """
    return _channel_dropout(1, input, p, training)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each channel of (N, C, H, W) or (C, H, W) with probability p, scale the rest by 1 / (1 - p) (Tompson et al.
    2015); not in training: the input itself.
    """
    return _channel_dropout(2, input, p, training)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each channel of (N, C, D, H, W) or (C, D, H, W) with probability p, scale the rest by 1 / (1 - p) (Tompson
    et al. 2015); not in training: the input itself.
    """
    return _channel_dropout(3, input, p, training)


def _alpha(input: Tensor, like: Tensor, p: float) -> Tensor:
    if p == 1.0:
        return input * 0.0
    low = -_SELU_SCALE * _SELU_ALPHA  # SELU far to the left
    scale = ((1 - p) * (1 + p * low * low)) ** -0.5
    kept = ops.dropout(like, p, True) > 0
    return ops.where(kept, input, low) * scale - scale * p * low


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Set each element with probability p to SELU's limit, then scale and shift all, so that mean 0 and variance 1
    stay (Klambauer et al. 2017); not in training: the input itself.
    """
    _checks.probability("alpha_dropout", "p", p)
    return _alpha(input, ops.ones_like(input.detach()), p) if training else input


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """alpha_dropout of whole channels of (N, C, ...)."""
    name = "feature_alpha_dropout"
    _checks.probability(name, "p", p)
    if input.ndim < 2:
        raise ValueError(f"{name}: input must be (N, C, ...), got shape {tuple(input.shape)}")
    shape = tuple(input.shape[:2]) + (1,) * (input.ndim - 2)
    return _alpha(input, ops.ones(shape, input.dtype, device=input.device), p) if training else input
