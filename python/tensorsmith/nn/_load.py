"""Checked copies into existing tensors: everything that can fail happens before the first byte changes."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorsmith as ts
from tensorsmith.tensor import Tensor


class Source:
    """A value that is known to fit its target; `write` copies it."""

    __slots__ = ("replace", "target", "value")

    def __init__(self, target: Tensor, value: Tensor, replace: bool) -> None:
        self.target = target
        self.value = value
        self.replace = replace

    def write(self) -> None:
        """Copy the value (or, where the dtype changes, put it in the target's place)."""
        if self.replace:
            self.target._share(self.value)
        else:
            self.target.detach().copy_(self.value)


def separate(sources: list[Source]) -> None:
    """Copy every value that lies in another source's target, so that the order of writing does not matter."""
    owners = {source.target._address: source.target for source in sources}
    for source in sources:
        if owners.get(source.value._address, source.target) is not source.target:
            source.value = source.value.copy()


def as_tensor(key: str, value: Any) -> Tensor:
    """`value` as a detached Tensor: ours, NumPy's, PyTorch's, a number. TypeError names `key`."""
    if isinstance(value, Tensor):
        return value.detach()
    try:
        if hasattr(value, "detach"):  # a PyTorch tensor that may require gradients
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":  # which NumPy has not
                return ts.from_dlpack(value)
        array = np.asarray(value)
        if array.dtype == object:
            raise TypeError(f"{type(value).__name__} is not an array")
        return ts.asarray(array)
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"{key}: {type(value).__name__} cannot be read as a tensor ({error})") from error


def checked_source(key: str, target: Tensor, value: Any, keep_dtype: bool = False) -> Source:
    """`value`, ready to be copied into `target`. ValueError or TypeError names `key` and both shapes."""
    tensor = as_tensor(key, value)
    if tuple(tensor.shape) != tuple(target.shape):
        raise ValueError(
            f"{key}: shape {tuple(tensor.shape)} in the state_dict, {tuple(target.shape)} in the module"
        )
    if keep_dtype and tensor.dtype != target.dtype:
        return Source(target, tensor.copy(), True)
    if tensor.dtype != target.dtype:
        if ts.isdtype(tensor.dtype, "complex floating") and not ts.isdtype(target.dtype, "complex floating"):
            raise TypeError(f"{key}: {tensor.dtype} cannot be stored as {target.dtype}")
        tensor = tensor.astype(target.dtype)
    return Source(target, tensor, False)
