"""Orders of indices, from a seed and an epoch alone, so that a run can be taken up at any batch.

An order is the stable sort of 64-bit Philox numbers keyed by (seed, epoch). NumPy guarantees the raw stream
of its Philox, so the same seed gives the same order on every machine.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tensorsmith.nn import _checks
from tensorsmith.tensor import Tensor

T = TypeVar("T", covariant=True)
Indices = npt.NDArray[np.int64]

_MASK = 2**64 - 1
_lock = threading.Lock()


def permutation(n: int, seed: int, epoch: int = 0) -> Indices:
    """0 ... n-1 in the random order of (seed, epoch): int64, the same everywhere."""
    if n < 0:
        raise ValueError(f"permutation: n must be >= 0, got {n}")
    keys = np.random.Philox(key=np.array([seed & _MASK, epoch & _MASK], np.uint64)).random_raw(n)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def draw_seed(seed: int | None, generator: Any) -> int:
    """`seed`; else a number drawn from `generator`, or from the default generator (see `ts.manual_seed`)."""
    if seed is not None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"seed must be an integer, got {type(seed).__name__}")
        return int(seed) & _MASK
    import tensorsmith as ts

    with _lock:
        return int(ts.random.integers(0, 2**63 - 1, (), generator=generator))


class Sampler(Generic[T]):
    """Base: an iterable over indices; `set_epoch(epoch)` is called before each pass where it exists."""

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError


class SequentialSampler(Sampler[int]):
    """0 ... n-1."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """All indices in a new random order each epoch; with `replacement`, `num_samples` independent draws.

    Each pass uses the next epoch, or the one given to `set_epoch`.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Any = None,
        *,
        seed: int | None = None,
    ) -> None:
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"RandomSampler: num_samples must be >= 1, got {num_samples}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.seed = draw_seed(seed, generator)
        self.epoch = 0

    @property
    def num_samples(self) -> int:
        """The length of a pass."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def indices(self) -> Indices:
        """The whole pass as one array; the next call gives the next epoch's."""
        n, epoch = len(self.data_source), self.epoch
        self.epoch = epoch + 1
        if self.replacement:
            if n == 0:
                raise ValueError("RandomSampler: nothing to draw from: data_source is empty")
            raw = np.random.Philox(key=np.array([self.seed, epoch & _MASK], np.uint64)).random_raw(
                self.num_samples
            )
            draws: Indices = (raw % np.uint64(n)).astype(np.int64)  # biased by less than n / 2^64
            return draws
        rounds = -(-self.num_samples // n) if n else 0
        orders = [permutation(n, self.seed, epoch + (part << 32)) for part in range(rounds)]
        return np.concatenate(orders)[: self.num_samples] if orders else np.empty(0, np.int64)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def __len__(self) -> int:
        return self.num_samples


class SeededSampler(Sampler[int]):
    """A pass of `num_samples` indices that depends on (seed, epoch) alone; each uses the next epoch, or the one given
    to `set_epoch`."""

    num_samples: int

    def __init__(self, generator: Any, seed: int | None) -> None:
        self.seed = draw_seed(seed, generator)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def _draw(self, epoch: int) -> Iterable[int]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return iter(self._draw(epoch))

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(SeededSampler):
    """The given indices in a new random order each epoch."""

    def __init__(self, indices: Sequence[int], generator: Any = None, *, seed: int | None = None) -> None:
        super().__init__(generator, seed)
        self.indices = indices

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """The length of a pass."""
        return len(self.indices)

    def _draw(self, epoch: int) -> Iterable[int]:
        return [self.indices[i] for i in permutation(len(self.indices), self.seed, epoch).tolist()]


class WeightedRandomSampler(SeededSampler):
    """`num_samples` indices, i with a probability proportional to weights[i]: independent draws, or without
    `replacement` each index at most once, drawn one after the other from those that are left (Efraimidis & Spirakis
    2006).

    ValueError for weights that are negative, not finite or all 0, and where fewer than `num_samples` have a weight.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
        *,
        seed: int | None = None,
    ) -> None:
        name = "WeightedRandomSampler"
        try:
            values = np.asarray(weights.cpu().numpy() if isinstance(weights, Tensor) else weights, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: weights must be a list of numbers, got {weights!r}") from None
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.any():
            raise ValueError(f"{name}: weights must be a list of numbers >= 0, some above 0, got {weights!r}")
        self.num_samples = _checks.integer(name, "num_samples", num_samples)
        possible = np.count_nonzero(values)
        if not replacement and num_samples > possible:
            raise ValueError(f"{name}: num_samples is {num_samples}, but only {possible} weights are above 0")
        super().__init__(generator, seed)
        self.weights, self.replacement = values, replacement

    def _draw(self, epoch: int) -> Iterable[int]:
        count = self.num_samples if self.replacement else len(self.weights)
        raw = np.random.Philox(key=np.array([self.seed & _MASK, epoch & _MASK], np.uint64)).random_raw(count)
        chance = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # in (0, 1), without rounding
        if self.replacement:
            sums = np.cumsum(self.weights / self.weights.max())
            places = np.searchsorted(sums, chance * sums[-1], side="right")
        else:
            with np.errstate(divide="ignore"):
                waits = -np.log(chance) / (
                    self.weights / self.weights.max()
                )  # of exponential clocks: inf where the weight is 0
            places = np.argsort(waits, kind="stable")[: self.num_samples]
        chosen: list[int] = places.tolist()
        return chosen


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` consecutive indices of a sampler; `drop_last` leaves a short last one out."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"BatchSampler: batch_size must be an integer >= 1, got {batch_size!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass, where the sampler has one."""
        set_epoch(self.sampler, epoch)

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]  # TypeError for a sampler without a length
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


def set_epoch(sampler: Any, epoch: int) -> None:
    """Tell a sampler which epoch comes, if it wants to know."""
    method = getattr(sampler, "set_epoch", None)
    if method is not None:
        method(epoch)


def as_indices(order: Sequence[int] | Indices) -> Indices:
    """A batch's indices as an int64 array; TypeError for one that is no integer."""
    if isinstance(order, np.ndarray) and order.dtype.kind in "iu":
        return order.astype(np.int64, copy=False)
    try:
        return np.array([operator.index(index) for index in order], dtype=np.int64)
    except TypeError:
        raise TypeError(f"DataLoader: the indices of a batch must be integers, got {list(order)}") from None
