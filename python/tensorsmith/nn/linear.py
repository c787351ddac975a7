"""`Identity`, `Linear`: y = x W^T + b, and `Bilinear`."""

from __future__ import annotations

import math
from typing import Any

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks, functional, init
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor


class Identity(Module):
    """Returns its input; takes and ignores any arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input


class Linear(Module):
    """y = x W^T + b on the last axis: (..., in_features) -> (..., out_features).

    `weight` (out_features, in_features) and `bias` (out_features) start uniform in
    +-1/sqrt(in_features), as in PyTorch.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features = _checks.integer("Linear", "in_features", in_features, 0)
        self.out_features = _checks.integer("Linear", "out_features", out_features, 0)
        self.weight = Parameter(ts.empty((self.out_features, self.in_features), dtype=dtype))
        if bias:
            self.bias = Parameter(ts.empty((self.out_features,), dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        if self.in_features == 0:
            if self.bias is not None:
                init.zeros_(self.bias)
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return ops.linear(input, self.weight, self.bias)

    def _forward_relu(self, input: Tensor) -> Tensor:
        return ops.linear_relu(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Bilinear(Module):
    """y_o = x1^T W_o x2 + b_o on the last axes: (..., in1_features) and (..., in2_features) -> (..., out_features).

    `weight` (out_features, in1_features, in2_features) and `bias` (out_features) start uniform in
    +-1/sqrt(in1_features), as in PyTorch.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in1_features = _checks.integer("Bilinear", "in1_features", in1_features)
        self.in2_features = _checks.integer("Bilinear", "in2_features", in2_features)
        self.out_features = _checks.integer("Bilinear", "out_features", out_features)
        self.weight = Parameter(
            ts.empty((self.out_features, self.in1_features, self.in2_features), dtype=dtype)
        )
        if bias:
            self.bias = Parameter(ts.empty((self.out_features,), dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        bound = 1 / math.sqrt(self.in1_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return functional.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
