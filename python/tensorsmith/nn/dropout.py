"""Dropout: of elements, of channels, and for SELU (Hinton et al. 2012, Tompson et al. 2015, Klambauer et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

from tensorsmith import ops
from tensorsmith.nn import _checks, functional
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor


class _Dropout(Module):
    """Drops in training, passes its input on in evaluation.

    `inplace` is accepted; the result is a new tensor all the same.
    """

    _function: Callable[[Tensor, float, bool], Tensor]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = _checks.probability(self._get_name(), "p", p)
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.p, True) if self.training else input

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zeroes each element with probability p and scales the rest by 1 / (1 - p); in evaluation its input."""

    _function = staticmethod(ops.dropout)


class Dropout1d(_Dropout):
    """Zeroes whole channels of (N, C, L) or (C, L) with probability p and scales the rest by 1 / (1 - p)."""

    _function = staticmethod(functional.dropout1d)


class Dropout2d(_Dropout):
    """Zeroes whole channels of (N, C, H, W) or (C, H, W) with probability p and scales the rest by 1 / (1 - p)."""

    _function = staticmethod(functional.dropout2d)


class Dropout3d(_Dropout):
    """Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W) with probability p and scales the rest by
    1 / (1 - p).
    """

    _function = staticmethod(functional.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for networks of SELU: `functional.alpha_dropout`."""

    _function = staticmethod(functional.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """AlphaDropout of whole channels of (N, C, ...)."""

    _function = staticmethod(functional.feature_alpha_dropout)
