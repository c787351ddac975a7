"""`DataLoader`: batches of a dataset, in an order that a seed fixes, fetched by background threads if wanted.

The order of epoch e depends on (seed, e) alone. `state_dict` holds the seed, the epoch and the number of
batches already given out, so a loader that loads it goes on with the very next batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from itertools import count, islice
from typing import Any

import numpy as np

from tensorsmith.nn import _checks
from tensorsmith.tensor import Tensor
from tensorsmith.utils.data.dataset import IterableDataset, fetcher
from tensorsmith.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SeededSampler,
    SequentialSampler,
    as_indices,
    draw_seed,
    set_epoch,
)


def default_collate(batch: Any) -> Any:
    """A list of samples as one batch.

    Tensors and arrays are stacked; numbers become a tensor of the dtype that NumPy has for all of them (float64 for
    Python's floats, int64 for ints, bool for bools); tuples, named tuples, lists and mappings are collated entry
    by entry; strings and bytes stay a list.
    ValueError where shapes or lengths differ, TypeError for anything else.
    """
    import tensorsmith as ts
    from tensorsmith import ops

    batch = list(batch)
    if not batch:
        raise ValueError("default_collate: the batch is empty")
    first = batch[0]
    if isinstance(first, Tensor):
        return ops.stack(batch)
    if isinstance(first, np.ndarray):
        shapes = {sample.shape for sample in batch}
        if len(shapes) > 1:
            raise ValueError(
                f"default_collate: arrays of one batch must have one shape, got {sorted(shapes)}"
            )
        return ts.asarray(np.stack(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, (bool, int, float, np.generic)):
        numbers = (
            np.array(batch) if all(isinstance(x, (bool, int, float, np.generic)) for x in batch) else None
        )
        if numbers is None or numbers.dtype.kind not in "biufc":
            kinds = sorted({type(x).__name__ for x in batch})
            raise TypeError(f"default_collate: no dtype holds all numbers of the batch: {', '.join(kinds)}")
        return ts.asarray(numbers)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in batch):
            raise ValueError(
                f"default_collate: samples have different lengths: {sorted({len(s) for s in batch})}"
            )
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        if isinstance(first, tuple) and hasattr(first, "_fields"):
            return type(first)(*columns)
        return tuple(columns) if isinstance(first, tuple) else columns
    raise TypeError(
        f"default_collate: samples may hold tensors, arrays, numbers, strings, mappings, tuples and lists, "
        f"not {type(first).__name__}; give a collate_fn"
    )


class DataLoader:
    """Iterates over batches; each `iter(loader)` is one epoch.

    Args:
        dataset: indexable, with a length, or an `IterableDataset`. `dataset.__getitems__(indices)` is
            preferred over single indexing where it exists, and `dataset.__getbatch__(indices)`, the collated batch,
            over both where there is no `collate_fn`.
        batch_size: None gives single samples, as the dataset made them.
        shuffle: a new random order each epoch.
        sampler, batch_sampler: orders of your own; they exclude `shuffle` (and `batch_size`, `drop_last`).
        num_workers: background threads that fetch and collate ahead; batches come in the same order. NumPy
            and this library release the GIL in real work. Random transforms in threads should not draw from
            one shared generator: the order of their draws is not fixed.
        collate_fn: samples -> batch; `default_collate` without.
        drop_last: leave out a last batch that is short.
        timeout: seconds to wait for a worker's batch; 0 waits for ever. RuntimeError when it passes.
        worker_init_fn: called with the worker's number at the start of each thread.
        generator: what the seed is drawn from; None is the default generator.
        prefetch_factor: batches fetched ahead per worker (2).
        seed: the seed itself.
        pin_memory, multiprocessing_context, persistent_workers, pin_memory_device, in_order: accepted for PyTorch's
            sake, without effect: batches always come in order.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        seed: int | None = None,
    ) -> None:
        num_workers = _checks.integer("DataLoader", "num_workers", num_workers, 0)
        if timeout < 0:
            raise ValueError(f"DataLoader: timeout must be >= 0, got {timeout}")
        if prefetch_factor is not None:
            _checks.integer("DataLoader", "prefetch_factor", prefetch_factor)
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle=True exclude each other")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        if batch_size is None and drop_last:
            raise ValueError("DataLoader: drop_last=True needs a batch_size")
        if batch_size is not None and (
            isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1
        ):
            raise ValueError(f"DataLoader: batch_size must be an integer >= 1 or None, got {batch_size!r}")
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "DataLoader: an IterableDataset has its own order: no shuffle, sampler or batch_sampler"
            )
        if not self._iterable and not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"DataLoader: dataset must define __getitem__ and __len__, got {type(dataset).__name__}"
            )
        self.dataset: Any = dataset
        self.batch_size = batch_size if batch_sampler is None else None
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.collate_fn = collate_fn
        self._seed = draw_seed(seed, generator) if shuffle else (int(seed) if seed is not None else 0)
        self.sampler: Iterable[Any]
        if sampler is not None:
            self.sampler = sampler
        elif shuffle:
            self.sampler = RandomSampler(dataset, seed=self._seed)
        else:
            self.sampler = SequentialSampler(dataset)
        self.batch_sampler: Iterable[Any] | None = batch_sampler
        if batch_sampler is None and batch_size is not None and not self._iterable:
            self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        self._epoch = 0  # the epoch of the current (or next) pass
        self._given = 0  # batches of it already given out
        self._resume = False  # whether the next pass continues that epoch
        self._started = False

    # --- the order ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Batches in an epoch; TypeError where the dataset has no length."""
        if self._iterable:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass epoch `epoch`, from its first batch."""
        self._epoch, self._given, self._resume, self._started = int(epoch), 0, True, True

    def _work(self, skip: int) -> Iterator[Any]:
        """What to fetch, batch by batch, from batch `skip` on. The order is fixed here: another pass may begin before
        this one ends."""
        if self._iterable:
            return self._stream(skip)
        batches = self.batch_sampler
        if type(batches) is BatchSampler and type(batches.sampler) in (RandomSampler, SequentialSampler):
            # The library's own samplers: the epoch's order is one array, and a batch a slice of it.
            size, sampler = batches.batch_size, batches.sampler
            if isinstance(sampler, RandomSampler):
                order = sampler.indices()
            else:
                order = np.arange(len(sampler), dtype=np.int64)  # type: ignore[arg-type]
            stop = len(order) - size + 1 if batches.drop_last else len(order)
            return (order[start : start + size] for start in range(skip * size, stop, size))
        return islice(batches if batches is not None else self.sampler, skip, None)

    def _stream(self, skip: int) -> Iterator[Any]:
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from islice(samples, skip, None)
            return
        for _ in range(skip):
            list(islice(samples, self.batch_size))
        while batch := list(islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    # --- fetching ----------------------------------------------------------------------------

    def _fetch(self, work: Any) -> Any:
        if self.batch_size is None and self.batch_sampler is None:  # single samples
            sample = work if self._iterable else self.dataset[work]
            return sample if self.collate_fn is None else self.collate_fn(sample)
        if self._iterable:
            samples = work
        elif self.collate_fn is None and (batch := fetcher(self.dataset, "__getbatch__")) is not None:
            return batch(as_indices(work))
        else:
            indices = work.tolist() if isinstance(work, np.ndarray) else list(work)
            fetch = fetcher(self.dataset, "__getitems__")
            samples = fetch(indices) if fetch is not None else [self.dataset[index] for index in indices]
        return default_collate(samples) if self.collate_fn is None else self.collate_fn(samples)

    def __iter__(self) -> Iterator[Any]:
        if self._resume:
            self._resume = False
        elif self._started:
            self._epoch += 1
            self._given = 0
        self._started = True
        epoch = self._epoch
        set_epoch(self.sampler if self.batch_sampler is None else self.batch_sampler, epoch)
        batches = self._work(self._given)
        # Not map: a StopIteration of the dataset's would look like the end of the epoch.
        fetched = self._ahead(batches) if self.num_workers else (self._fetch(work) for work in batches)
        return self._count(fetched, epoch)

    def _count(self, batches: Iterable[Any], epoch: int) -> Iterator[Any]:
        for batch in batches:
            if self._epoch == epoch:
                self._given += 1
            yield batch
        if self._epoch == epoch:  # the epoch is complete: a state taken now starts the next one
            self._epoch, self._given, self._resume = epoch + 1, 0, True

    def _ahead(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches in order, fetched by threads up to `num_workers * prefetch_factor` ahead."""
        numbers = count()
        init = self.worker_init_fn
        failed: list[Exception] = []

        def start() -> None:
            number = next(numbers)
            try:
                if init is not None:
                    init(number)
            except Exception as error:  # for the caller, who waits for a batch
                failed.append(error)

        def fetch(work: Any) -> Any:
            if failed:
                raise failed[0]
            return self._fetch(work)

        pool = ThreadPoolExecutor(self.num_workers, "tensorsmith-loader", start)
        pending: deque[Future[Any]] = deque()
        ended: list[Exception] = []  # what the sampler raised: due behind the batches that it gave before

        def submit(most: int) -> None:
            try:
                for work in islice(batches, 0 if ended else most):
                    pending.append(pool.submit(fetch, work))
            except Exception as error:
                ended.append(error)

        try:
            submit(self.num_workers * self.prefetch_factor)
            while pending:
                try:
                    batch = pending[0].result(self.timeout or None)
                except FutureTimeout:
                    if not pending[0].done():
                        raise RuntimeError(
                            f"DataLoader: no batch within timeout={self.timeout} seconds"
                        ) from None
                    batch = pending[
                        0
                    ].result()  # just in time; or the timeout is the dataset's own, raised here
                pending.popleft()
                submit(1)
                yield batch
            if ended:
                raise ended[0]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    # --- state -------------------------------------------------------------------------------

    def _seeded(self) -> RandomSampler | SeededSampler | None:
        """The sampler whose seed decides the order, if there is one."""
        sampler = self.sampler if self.batch_sampler is None else self.batch_sampler
        if isinstance(sampler, BatchSampler):
            sampler = sampler.sampler
        return sampler if isinstance(sampler, (RandomSampler, SeededSampler)) else None

    def state_dict(self) -> dict[str, int]:
        """{"seed", "epoch", "batch", "batch_size"}: where the loader stands; plain integers, 0 for no batch_size."""
        sampler = self._seeded()
        return {
            "seed": self._seed if sampler is None else sampler.seed,
            "epoch": self._epoch,
            "batch": self._given,
            "batch_size": self.batch_size or 0,
        }

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go where `state_dict` says: the next `iter` continues there. ValueError before any change, and for batches of
        another size in the midst of an epoch."""
        wanted = {"seed", "epoch", "batch"}
        if set(state_dict) - {"batch_size"} != wanted:
            raise ValueError(
                f"DataLoader.load_state_dict: keys must be {sorted(wanted)} and perhaps 'batch_size', "
                f"got {sorted(state_dict)}"
            )
        seed, epoch, batch = (int(state_dict[key]) for key in ("seed", "epoch", "batch"))
        if epoch < 0 or batch < 0:
            raise ValueError(
                f"DataLoader.load_state_dict: epoch and batch must be >= 0, got {epoch} and {batch}"
            )
        size = int(state_dict.get("batch_size", self.batch_size or 0))
        if batch and size != (self.batch_size or 0):
            raise ValueError(
                f"DataLoader.load_state_dict: the state lies {batch} batches of size {size} into epoch {epoch}, but "
                f"this loader's batch_size is {self.batch_size}"
            )
        self._seed, self._epoch, self._given = seed, epoch, batch
        self._resume = self._started = True
        sampler = self._seeded()
        if sampler is not None:
            sampler.seed = seed


__all__ = ["DataLoader", "Sampler", "default_collate"]
