"""`Parameter`: a tensor that a module trains."""

from __future__ import annotations

from typing import Any

from tensorsmith.tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that registers itself when assigned to a `Module`.

    Args:
        data: a tensor or anything `ts.asarray` takes; memory is shared where possible.
        requires_grad: whether `backward` gives it a gradient; needs a floating-point dtype.
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        parameter: Parameter = super().__new__(cls, () if isinstance(data, Tensor) or data is None else data)
        if isinstance(data, Tensor):
            parameter._share(data)
        parameter.requires_grad_(requires_grad)
        return parameter

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().copy(), self.requires_grad)
        copied: Parameter = memo[id(self)]
        return copied

    def __reduce__(self) -> Any:
        return type(self), (self.detach().numpy(), self.requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
