"""`Flatten` and `Unflatten`: reshape one range of axes."""

from __future__ import annotations

from collections.abc import Sequence

from tensorsmith.nn import _checks
from tensorsmith.nn.module import Module
from tensorsmith.tensor import Tensor


class Flatten(Module):
    """Axes start_dim to end_dim (included) become one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        shape = input.shape
        rank = len(shape)
        first = self.start_dim + rank if self.start_dim < 0 else self.start_dim
        last = self.end_dim + rank if self.end_dim < 0 else self.end_dim
        if not 0 <= first <= last < rank:
            if rank == 0 and first <= 0 and self.end_dim in (0, -1):
                return input.reshape((1,))
            raise IndexError(
                f"Flatten: start_dim {self.start_dim} and end_dim {self.end_dim} do not name a range of axes "
                f"of an input of shape {tuple(shape)}"
            )
        extent = 1
        for axis in range(first, last + 1):
            extent *= shape[axis]
        return input.reshape((*shape[:first], extent, *shape[last + 1 :]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Axis `dim` becomes axes of extents `unflattened_size`, one of which may be -1."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = _checks.integer("Unflatten", "dim", dim, -64)
        sizes = tuple(unflattened_size)
        self.unflattened_size = tuple(_checks.integer("Unflatten", "unflattened_size", n, -1) for n in sizes)
        if self.unflattened_size.count(-1) > 1:
            raise ValueError(f"Unflatten: unflattened_size may hold one -1, got {sizes}")

    def forward(self, input: Tensor) -> Tensor:
        shape = tuple(input.shape)
        if not -len(shape) <= self.dim < len(shape):
            raise IndexError(f"Unflatten: dim {self.dim} is out of range for an input of shape {shape}")
        axis = self.dim % len(shape)
        sizes = list(self.unflattened_size)
        known = 1
        for size in sizes:
            known *= 1 if size == -1 else size
        if -1 in sizes and known and shape[axis] % known == 0:
            sizes[sizes.index(-1)] = shape[axis] // known
            known = shape[axis]
        if known != shape[axis] or -1 in sizes:
            raise ValueError(
                f"Unflatten: axis {self.dim} has extent {shape[axis]}, which is not {self.unflattened_size}"
            )
        return input.reshape((*shape[:axis], *sizes, *shape[axis + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
