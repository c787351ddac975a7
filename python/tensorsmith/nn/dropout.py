"""`Dropout`: zero each element with probability p, scale the rest by 1 / (1 - p) (Hinton et al. 2012)."""

from __future__ import annotations

from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor


class Dropout(Module):
    """Drops in training, passes its input on in evaluation.

    `inplace` is accepted; the result is a new tensor all the same.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = _checks.probability("Dropout", "p", p)
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.dropout(input, self.p, True) if self.training else input

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
