"""Datasets: `dataset[i]` is a sample. `__getitems__(indices)`, where it exists, fetches a batch's samples in one call;
`__getbatch__(indices)` fetches them collated.
"""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from tensorsmith import ops
from tensorsmith.tensor import Tensor
from tensorsmith.utils.data.sampler import Indices, as_indices, draw_seed, permutation

T = TypeVar("T", covariant=True)


def fetcher(dataset: Any, name: str) -> Any:
    """`dataset`'s own `__getitems__` or `__getbatch__`, or None: one that it inherits knows no `__getitem__` of a class
    derived since, nor does one that its `__getattr__` finds elsewhere.
    """
    if name in getattr(dataset, "__dict__", ()):
        return getattr(dataset, name)
    for parent in type(dataset).__mro__:
        if name in vars(parent):
            return getattr(dataset, name, None)
        if "__getitem__" in vars(parent):
            return None
    return None


class Dataset(Generic[T]):
    """Base: define `__getitem__(index)` and `__len__()`."""

    def __getitem__(self, index: int) -> T:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__()")

    def __add__(self, other: Dataset[T]) -> ConcatDataset[T]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T]):
    """Base: define `__iter__()`; samples come in its order, once a pass."""

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__()")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is the i-th row of every tensor: a tuple. A `DataLoader` takes a batch's rows in one
    indexing call.
    """

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset: at least one tensor is needed")
        for number, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"TensorDataset: tensor {number} is a {type(tensor).__name__}; use ts.asarray"
                )
            if tensor.ndim == 0 or tensor.shape[0] != tensors[0].shape[0]:
                raise ValueError(
                    f"TensorDataset: tensors must have one first extent, got shapes "
                    f"{[tuple(other.shape) for other in tensors]}"
                )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def batch(self, indices: Indices) -> tuple[Tensor, ...]:
        """The rows `indices` of every tensor: what collating the samples would give."""
        import tensorsmith as ts

        index = ts.asarray(indices)
        return tuple(ops.take(tensor, index, axis=0) for tensor in self.tensors)

    __getbatch__ = batch

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])


class Subset(Dataset[T]):
    """The samples of `dataset` at `indices`."""

    def __init__(self, dataset: Dataset[T], indices: Sequence[int] | Indices) -> None:
        self.dataset = dataset
        self.indices = indices.reshape(-1) if isinstance(indices, np.ndarray) else indices

    def _place(self, index: int) -> Any:
        place = self.indices[index]
        return operator.index(place) if hasattr(place, "__index__") else place

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self._place(i) for i in index]]  # type: ignore[index]
        return self.dataset[self._place(index)]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[T]:
        chosen = [self._place(index) for index in indices]
        fetch = fetcher(self.dataset, "__getitems__")
        return fetch(chosen) if fetch is not None else [self.dataset[index] for index in chosen]

    @property
    def __getbatch__(self) -> Callable[[Indices], Any]:
        fetch = fetcher(self.dataset, "__getbatch__")
        if fetch is None:
            raise AttributeError(f"Subset: {type(self.dataset).__name__} has no __getbatch__")
        return lambda indices: fetch(self._chosen(indices))

    def _chosen(self, indices: Indices) -> Indices:
        if isinstance(self.indices, np.ndarray):
            return as_indices(self.indices[indices])
        return as_indices([self._place(index) for index in indices.tolist()])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T]):
    """Datasets one after the other."""

    def __init__(self, datasets: Iterable[Dataset[T]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: datasets is empty")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset: an IterableDataset has no indices")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> T:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"ConcatDataset: index {index} is out of range for {len(self)} samples")
        index %= len(self)
        part = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[part][index - (self.cumulative_sizes[part - 1] if part else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class StackDataset(Dataset[Any]):
    """Sample i is what all datasets have at i: a tuple, or a dict where they were given by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: give datasets by position or by name, at least one")
        self.datasets: Any = kwargs or args
        lengths = [len(dataset) for dataset in kwargs.values() or args]
        if len(set(lengths)) > 1:
            raise ValueError(f"StackDataset: datasets must have one length, got {lengths}")
        self._length = lengths[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


class ChainDataset(IterableDataset[Any]):
    """The samples of several `IterableDataset`s, one dataset after the other."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(
                    f"ChainDataset: datasets must be IterableDatasets, got {type(dataset).__name__}"
                )

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            yield from dataset  # type: ignore[misc]

    def __len__(self) -> int:
        lengths: list[int] = [len(dataset) for dataset in self.datasets]  # type: ignore[arg-type]
        return sum(lengths)


def random_split(
    dataset: Dataset[T],
    lengths: Sequence[int | float],
    generator: Any = None,
    *,
    seed: int | None = None,
) -> list[Subset[T]]:
    """Disjoint random subsets of the given lengths, or of the given fractions (which must sum to 1).

    Fractions are rounded down and the rest dealt out one by one from the first. The order comes from
    `seed`, `generator`, or the default generator.
    """
    n, lengths = len(dataset), list(lengths)  # type: ignore[arg-type]
    if abs(sum(lengths) - 1) < 1e-9 and all(0 <= part <= 1 for part in lengths):
        sizes = [int(np.floor(n * part)) for part in lengths]
        for position in range(n - sum(sizes)):
            sizes[position % len(sizes)] += 1
    else:
        sizes = [operator.index(part) for part in lengths if hasattr(part, "__index__")]
        if len(sizes) < len(lengths) or any(size < 0 for size in sizes) or sum(sizes) != n:
            raise ValueError(
                f"random_split: lengths must sum to the dataset's {n}, or be fractions that sum to 1, got "
                f"{list(lengths)}"
            )
    order = permutation(n, draw_seed(seed, generator))
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
