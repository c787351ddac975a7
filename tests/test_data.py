"""Datasets, orders and the loader."""

from __future__ import annotations

import json
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith.utils import data
from tensorsmith.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
    permutation,
    random_split,
)


class Squares(Dataset[tuple[int, float]]):
    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[int, float]:
        if not 0 <= index < self.n:
            raise IndexError(index)
        return index, float(index * index)


def tensors(n: int = 10) -> TensorDataset:
    return TensorDataset(ts.arange(2 * n, dtype=ts.float32).reshape((n, 2)), ts.arange(n))


def order(loader: DataLoader) -> list[int]:
    return [int(i) for batch in loader for i in batch[-1].numpy()]


# --- orders --------------------------------------------------------------------------------------


def test_permutation_is_a_permutation_and_fixed() -> None:
    for n in (0, 1, 2, 1000):
        assert sorted(permutation(n, 3).tolist()) == list(range(n))
    assert permutation(8, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]  # frozen: a seed means one order for ever
    assert permutation(1000, 1, 0).tolist() != permutation(1000, 1, 1).tolist()
    assert permutation(1000, 1, 0).tolist() != permutation(1000, 2, 0).tolist()
    with pytest.raises(ValueError, match="n must be >= 0"):
        permutation(-1, 0)


def test_permutation_is_uniform() -> None:
    counts = np.zeros((4, 4))
    for seed in range(4000):
        counts[np.arange(4), permutation(4, seed)] += 1
    chi = ((counts - 1000) ** 2 / 1000).sum()
    assert chi < 40  # 9 degrees of freedom; p < 1e-5


def test_samplers() -> None:
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    sampler = RandomSampler(range(20), seed=1)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    draws = list(RandomSampler(range(3), replacement=True, num_samples=50, seed=2))
    assert len(draws) == 50
    assert set(draws) == {0, 1, 2}
    assert sorted(RandomSampler(range(3), num_samples=7, seed=2).indices()[:6].tolist()) == [0, 0, 1, 1, 2, 2]
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, False)) == 3
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        BatchSampler(range(5), 0, True)


# --- datasets ------------------------------------------------------------------------------------


def test_tensor_dataset() -> None:
    data = tensors()
    x, y = data[3]
    assert x.numpy().tolist() == [6, 7]
    assert int(y) == 3
    assert len(data) == 10
    with pytest.raises(ValueError, match="one first extent"):
        TensorDataset(ts.zeros((3, 2)), ts.zeros((2,)))
    with pytest.raises(TypeError, match="tensor 0 is a ndarray"):
        TensorDataset(np.zeros(3))  # type: ignore[arg-type]


def test_subset_concat_split() -> None:
    part = Subset(Squares(10), [9, 3])
    assert part[0] == (9, 81.0)
    assert part.__getitems__([1, 0]) == [(3, 9.0), (9, 81.0)]
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset)
    assert [both[i][0] for i in range(5)] == [0, 1, 2, 0, 1]
    assert both[-1][0] == 1
    with pytest.raises(IndexError, match="index 5 is out of range for 5"):
        both[5]
    a, b = random_split(Squares(10), [7, 3], seed=1)
    assert sorted(a[i][0] for i in range(7)) + sorted(b[i][0] for i in range(3)) != list(range(10))
    assert sorted([a[i][0] for i in range(7)] + [b[i][0] for i in range(3)]) == list(range(10))
    assert [len(part) for part in random_split(Squares(10), [0.5, 0.25, 0.25], seed=1)] == [6, 2, 2]
    for lengths in ([5, 4], [0.5, 0.4], [1.5, -0.5], [11, -1]):
        with pytest.raises(ValueError, match="must sum to the dataset's 10"):
            random_split(Squares(10), lengths)


def test_a_subset_reads_its_indices_when_asked() -> None:
    part = Subset(tensors(), [4, 5, 6])
    assert part[[0, 2]][1].numpy().tolist() == [4, 6]
    part.indices = [7, 1]
    assert (len(part), int(part[0][1])) == (2, 7)
    assert order(DataLoader(part, 2)) == [7, 1]
    assert order(DataLoader(Subset(part, np.array([[1], [0]])), 2)) == [1, 7]


# --- collating -----------------------------------------------------------------------------------


def test_collate() -> None:
    Point = namedtuple("Point", "x y")
    sample = {
        "tensor": ts.ones((2,)),
        "array": np.zeros((2, 3), np.uint8),
        "number": 1.5,
        "count": 3,
        "flag": True,
        "scalar": np.float32(2),
        "text": "a",
        "pair": (1, [2.0]),
        "point": Point(1, 2),
    }
    batch = default_collate([sample, sample])
    assert batch["tensor"].shape == (2, 2)
    assert (batch["array"].shape, batch["array"].dtype) == ((2, 2, 3), ts.uint8)
    assert (batch["number"].dtype, batch["count"].dtype) == (ts.float64, ts.int64)
    assert (batch["flag"].dtype, batch["scalar"].dtype) == (ts.bool_, ts.float32)
    assert batch["text"] == ["a", "a"]
    assert batch["pair"][0].numpy().tolist() == [1, 1]
    assert batch["pair"][1][0].numpy().tolist() == [2.0, 2.0]
    assert isinstance(batch["point"], Point)
    with pytest.raises(ValueError, match="one shape"):
        default_collate([np.zeros(2), np.zeros(3)])
    with pytest.raises(ValueError, match="different lengths"):
        default_collate([(1, 2), (1,)])
    with pytest.raises(TypeError, match="not set; give a collate_fn"):
        default_collate([{1}, {2}])


# --- the loader ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(
    "data",
    [Squares(10), tensors(), Subset(tensors(20), range(0, 20, 2))],
    ids=lambda data: type(data).__name__,
)
def test_batches_come_in_order(data: Any, workers: int) -> None:
    loader = DataLoader(data, 4, num_workers=workers)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert [len(batch[1]) for batch in batches] == [4, 4, 2]
    whole = default_collate([data[i] for i in range(10)])
    for column in (0, 1):
        joined = np.concatenate([batch[column].numpy() for batch in batches])
        np.testing.assert_array_equal(joined, whole[column].numpy())
    dropped = DataLoader(data, 4, drop_last=True, num_workers=workers)
    assert len(list(dropped)) == len(dropped) == 2


def test_shuffle_depends_on_the_seed_alone() -> None:
    a = DataLoader(tensors(), 3, shuffle=True, seed=7)
    b = DataLoader(tensors(), 5, shuffle=True, seed=7, num_workers=2)
    epochs = [order(a) for _ in range(3)]
    assert epochs == [order(b) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    a.set_epoch(1)
    assert order(a) == epochs[1]
    assert order(a) == epochs[2]
    ts.manual_seed(5)
    c = order(DataLoader(tensors(), shuffle=True))
    ts.manual_seed(5)
    assert order(DataLoader(tensors(), shuffle=True)) == c


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_resume_continues_with_the_next_batch(workers: int, stop: int) -> None:
    def loader(seed: int) -> DataLoader:
        return DataLoader(tensors(), 3, shuffle=True, seed=seed, num_workers=workers)

    whole = loader(1)
    expected = [order(whole) for _ in range(3)]
    interrupted = loader(1)
    seen = order(interrupted)
    batches = iter(interrupted)
    for _ in range(stop):
        seen += [int(i) for i in next(batches)[1].numpy()]
    state = json.loads(json.dumps(interrupted.state_dict()))
    del batches
    resumed = loader(2)
    resumed.load_state_dict(state)
    seen += order(resumed)
    seen += order(resumed)
    assert seen == [i for epoch in expected for i in epoch]


def test_state_after_an_epoch_is_the_start_of_the_next() -> None:
    loader = DataLoader(tensors(), 3, shuffle=True, seed=1)
    order(loader)
    state = {"seed": 1, "epoch": 1, "batch": 0, "batch_size": 3}
    assert loader.state_dict() == state
    for bad in (
        {"seed": 1},
        {"seed": 1, "epoch": -1, "batch": 0},
        {**state, "more": 1},
        {**state, "batch": 2, "batch_size": 4},
    ):
        with pytest.raises(ValueError, match=r"DataLoader\.load_state_dict"):
            loader.load_state_dict(bad)
    assert loader.state_dict() == state
    loader.load_state_dict({**state, "batch_size": 4})  # between epochs every size will do
    assert loader.state_dict() == state


@pytest.mark.parametrize("workers", [0, 2])
def test_passes_side_by_side_have_their_own_orders(workers: int) -> None:
    def loader() -> DataLoader:
        return DataLoader(tensors(), 3, shuffle=True, seed=1, num_workers=workers)

    one = loader()
    apart = [order(one), order(one)]
    two = loader()
    together: list[list[int]] = [[], []]
    for batches in zip(two, two):
        for seen, (_, numbers) in zip(together, batches):
            seen += [int(i) for i in numbers.numpy()]
    assert together == apart


def test_own_samplers_collate_and_single_samples() -> None:
    assert order(DataLoader(tensors(), 2, sampler=[3, 1, 2])) == [3, 1, 2]
    assert order(DataLoader(tensors(), batch_sampler=[[3, 1], [2]])) == [3, 1, 2]
    assert list(DataLoader(Squares(4), 2, collate_fn=lambda b: b)) == [
        [(0, 0.0), (1, 1.0)],
        [(2, 4.0), (3, 9.0)],
    ]
    assert list(DataLoader(Squares(3), None)) == [(0, 0.0), (1, 1.0), (2, 4.0)]
    assert len(DataLoader(Squares(3), None)) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_given_samplers_keep_their_own_order_and_length(workers: int) -> None:
    """The loader cuts the orders of the library's samplers itself: also of those that it did not make."""
    drawn = RandomSampler(range(8), seed=3)
    expected = list(drawn)
    for options in (
        {"batch_sampler": BatchSampler(RandomSampler(range(8), seed=3), 3, False)},
        {"sampler": RandomSampler(range(8), seed=3), "batch_size": 3},
        {"sampler": SequentialSampler(range(8)), "batch_size": 3},
        {"batch_sampler": BatchSampler(SequentialSampler(range(8)), 3, True)},
    ):
        loader = DataLoader(tensors(), num_workers=workers, **options)
        batches = [batch[1].numpy().tolist() for batch in loader]
        sequential = isinstance(loader.batch_sampler.sampler, SequentialSampler)  # type: ignore[union-attr]
        indices = list(range(8)) if sequential else expected
        whole = [indices[i : i + 3] for i in range(0, 6 if loader.batch_sampler.drop_last else 8, 3)]  # type: ignore[union-attr]
        assert batches == whole
        assert len(loader) == len(whole)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda seed: RandomSampler(range(10), seed=seed),
        lambda seed: data.SubsetRandomSampler(range(10), seed=seed),
        lambda seed: data.WeightedRandomSampler([1.0] * 10, 10, seed=seed),
    ],
)
def test_resume_keeps_the_order_of_a_given_sampler(make: Any, batched: bool) -> None:
    def loader(seed: int) -> DataLoader:
        if batched:
            return DataLoader(tensors(), batch_sampler=BatchSampler(make(seed), 3, False))
        return DataLoader(tensors(), 3, sampler=make(seed))

    first, second = loader(1), loader(2)
    batches = iter(first)
    next(batches)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert order(second) == [int(i) for batch in batches for i in batch[-1].numpy()]
    assert order(second) == order(first)


def test_indices_that_are_no_integers() -> None:
    with pytest.raises(TypeError, match=r"indices of a batch must be integers, got \[1.7, 0\]"):
        next(iter(DataLoader(tensors(), 2, sampler=[1.7, 0])))


def test_an_attribute_named_batch_means_nothing() -> None:
    dataset = Squares(4)
    dataset.batch = 7  # type: ignore[attr-defined]
    assert order(DataLoader(dataset, 2)) == [0, 1, 4, 9]


def test_getitems_is_preferred() -> None:
    class Fast(Squares):
        def __getitems__(self, indices: list[int]) -> list[tuple[int, float]]:
            calls.append(indices)
            return [(i, 0.0) for i in indices]

    calls: list[list[int]] = []
    list(DataLoader(Fast(5), 2))
    assert calls == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("workers", [0, 2])
def test_iterable_dataset(workers: int) -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

    batches = [batch.numpy().tolist() for batch in DataLoader(Stream(), 2, num_workers=workers)]
    assert batches == [[0, 1], [2, 3], [4]]
    loader = DataLoader(Stream(), 2, drop_last=True)
    loader.load_state_dict({"seed": 0, "epoch": 0, "batch": 1})
    assert [batch.numpy().tolist() for batch in loader] == [[2, 3]]
    with pytest.raises(ValueError, match="its own order"):
        DataLoader(Stream(), shuffle=True)
    with pytest.raises(TypeError):
        len(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_reach_the_loop(workers: int) -> None:
    class Broken(Squares):
        def __getitem__(self, index: int) -> tuple[int, float]:
            if index == 5:
                raise KeyError("sample 5")
            return super().__getitem__(index)

    batches = iter(DataLoader(Broken(8), 2, num_workers=workers))
    next(batches)
    next(batches)
    with pytest.raises(KeyError, match="sample 5"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_iteration_of_the_dataset_does_not_end_the_epoch(workers: int) -> None:
    class Broken(Squares):
        def __getitem__(self, index: int) -> tuple[int, float]:
            return super().__getitem__(index if index < 3 else next(iter([])))

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(DataLoader(Broken(8), 2, num_workers=workers))


def test_an_error_of_worker_init_fn_reaches_the_loop() -> None:
    def fail(number: int) -> None:
        raise KeyError(f"worker {number}")

    with pytest.raises(KeyError, match="worker"):
        list(DataLoader(Squares(8), 2, num_workers=2, worker_init_fn=fail))


def test_numbers_of_a_batch_are_not_cut_to_the_first_one() -> None:
    for batch, dtype in (
        ([1, 2.5], "float64"),
        ([True, 2], "int64"),
        ([np.int32(1), np.float64(2.5)], "float64"),
        ([np.float32(1), np.float32(2.5)], "float32"),
    ):
        (collated,) = DataLoader(batch, 2)
        assert collated.dtype == dtype and collated.numpy().tolist() == batch
    for bad in ([1, None], [1, "2"], [1, 2**70]):
        with pytest.raises(TypeError, match="default_collate: no dtype holds all numbers of the batch"):
            list(DataLoader(bad, 2))


def test_workers_run_ahead_and_stop() -> None:
    gate = threading.Event()
    fetched: list[int] = []

    class Slow(Squares):
        def __getitem__(self, index: int) -> tuple[int, float]:
            fetched.append(index)
            gate.wait(5)
            return super().__getitem__(index)

    started: list[int] = []
    loader = DataLoader(Slow(100), 1, num_workers=2, prefetch_factor=2, worker_init_fn=started.append)
    batches = iter(loader)
    gate.set()
    next(batches)
    time.sleep(0.05)
    assert len(fetched) <= 6  # 4 in flight, and those handed out
    assert set(started) <= {0, 1}
    batches.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while any(t.name.startswith("tensorsmith-loader") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_timeout() -> None:
    release = threading.Event()

    class Stuck(Squares):
        def __getitem__(self, index: int) -> tuple[int, float]:
            release.wait(10)
            return 0, 0.0

    batches = iter(DataLoader(Stuck(4), 2, num_workers=1, timeout=0.05))
    with pytest.raises(RuntimeError, match=r"no batch within timeout=0\.05"):
        next(batches)
    release.set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer >= 1 or None, got 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"num_workers": -1}, "num_workers must be >= 0, got -1"),
        ({"shuffle": True, "sampler": [0]}, "sampler and shuffle=True exclude each other"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler excludes"),
        ({"batch_size": None, "drop_last": True}, "drop_last=True needs a batch_size"),
        ({"prefetch_factor": 0}, "prefetch_factor"),
        ({"timeout": -1}, "timeout"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(4), **options)


def test_subsets_in_random_order() -> None:
    sampler = data.SubsetRandomSampler([4, 9, 2, 7], seed=1)
    orders = [list(sampler) for _ in range(4)]
    assert len(sampler) == 4 and all(sorted(order) == [2, 4, 7, 9] for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    sampler.set_epoch(2)
    assert list(sampler) == orders[2] and list(data.SubsetRandomSampler([4, 9, 2, 7], seed=1)) == orders[0]
    loader = data.DataLoader(list(range(10)), 3, sampler=sampler)
    loader.set_epoch(1)
    assert [int(x) for batch in loader for x in batch] == orders[1]


def test_weights_decide_how_often() -> None:
    weights = [0.0, 1.0, 3.0, 0.0, 4.0]
    sampler = data.WeightedRandomSampler(weights, 20_000, seed=5)
    counts = np.bincount(list(sampler), minlength=5) / 20_000
    np.testing.assert_allclose(counts, np.array(weights) / 8, atol=0.02)
    assert counts[0] == counts[3] == 0 and len(sampler) == 20_000
    assert list(sampler) != list(sampler)
    first = np.zeros(5)
    once = data.WeightedRandomSampler(ts.asarray(weights), 2, replacement=False, seed=6)
    for _ in range(4000):
        pair = list(once)
        assert len(set(pair)) == 2 and not {0, 3} & set(pair)
        first[pair[0]] += 1 / 4000
    np.testing.assert_allclose(first, np.array(weights) / 8, atol=0.03)


def test_weights_that_decide_nothing() -> None:
    for weights in ([], [0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0]]):
        with pytest.raises(ValueError, match="WeightedRandomSampler: weights must be a list of numbers >= 0"):
            data.WeightedRandomSampler(weights, 1)
    state = ts.random.get_state()
    for wrong in (["a"], [1j]):
        with pytest.raises(TypeError, match="WeightedRandomSampler: weights must be a list of numbers, got"):
            data.WeightedRandomSampler(wrong, 1)  # type: ignore[arg-type]
    assert ts.random.get_state() == state
    with pytest.raises(ValueError, match="num_samples is 3, but only 2 weights are above 0"):
        data.WeightedRandomSampler([1.0, 0.0, 2.0], 3, replacement=False)
    with pytest.raises(ValueError, match="WeightedRandomSampler: num_samples must be >= 1, got 0"):
        data.WeightedRandomSampler([1.0], 0)


def test_datasets_side_by_side_and_one_after_the_other() -> None:
    assert data.StackDataset([1, 2], "ab")[1] == (2, "b")
    named = data.StackDataset(x=[1, 2], y=[3.0, 4.0])
    assert named[0] == {"x": 1, "y": 3.0} and len(named) == 2
    batch = next(iter(data.DataLoader(named, 2)))
    assert batch["x"].tolist() == [1, 2] and batch["y"].tolist() == [3.0, 4.0]

    class Count(data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(range(3))

        def __len__(self) -> int:
            return 3

    chain = data.ChainDataset([Count(), Count()])
    assert len(chain) == 6
    assert [x.tolist() for x in data.DataLoader(chain, 4)] == [[0, 1, 2, 0], [1, 2]]
    for call, error, message in (
        (lambda: data.StackDataset(), ValueError, "give datasets by position or by name"),
        (lambda: data.StackDataset([1], [1, 2]), ValueError, r"datasets must have one length, got \[1, 2\]"),
        (lambda: data.ChainDataset([[1]]), TypeError, "datasets must be IterableDatasets, got list"),
    ):
        with pytest.raises(error, match=message):
            call()


class Tenfold(TensorDataset):
    def __getitem__(self, index: Any) -> tuple[ts.Tensor, ...]:
        return tuple(x * 10 for x in super().__getitem__(index))


class Wrapped:
    """Passes on what it does not have itself."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        return tuple(x * 10 for x in self.dataset[index])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)


class TenfoldSubset(Subset[Any]):
    def __getitem__(self, index: Any) -> Any:
        return tuple(x * 10 for x in super().__getitem__(index))


@pytest.mark.parametrize(
    "dataset",
    [
        Tenfold(ts.arange(4.0)),
        Subset(Tenfold(ts.arange(4.0)), range(4)),
        TenfoldSubset(TensorDataset(ts.arange(4.0)), np.arange(4)),
        Wrapped(TensorDataset(ts.arange(4.0))),
    ],
    ids=lambda d: type(d).__name__,
)
def test_a_batch_is_made_of_what_getitem_gives(dataset: Any) -> None:
    (batch,) = next(iter(DataLoader(dataset, 4)))
    assert batch.tolist() == [0, 10, 20, 30]


def test_a_subset_is_read_as_it_stands() -> None:
    part = Subset(TensorDataset(ts.arange(4.0)), [0, 1])
    part.indices = [2, 3]
    assert next(iter(DataLoader(part, 2)))[0].tolist() == [2, 3]
    part.dataset = Wrapped(TensorDataset(ts.arange(4.0)))  # type: ignore[assignment]
    assert next(iter(DataLoader(part, 2)))[0].tolist() == [20, 30]


def test_batches_before_a_failing_sampler_are_given() -> None:
    def order() -> Iterator[int]:
        yield from range(2)
        raise KeyError("lost")

    class Order:
        def __iter__(self) -> Iterator[int]:
            return order()

    for workers in (0, 2):
        batches = iter(DataLoader(TensorDataset(ts.arange(4.0)), 1, sampler=Order(), num_workers=workers))
        assert [next(batches)[0].tolist() for _ in range(2)] == [[0], [1]]
        with pytest.raises(KeyError, match="lost"):
            next(batches)


def test_a_dataset_may_time_out() -> None:
    class Slow(Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            raise TimeoutError("the database")

        def __len__(self) -> int:
            return 2

    with pytest.raises(TimeoutError, match="the database"):
        next(iter(DataLoader(Slow(), num_workers=1)))


def test_strings_of_numpy_stay_a_list() -> None:
    assert default_collate(list(np.array(["a", "b"]))) == ["a", "b"]


def test_the_smallest_weight_is_drawn_before_none() -> None:
    for seed in range(20):
        assert list(data.WeightedRandomSampler([0, 1e-309], 1, replacement=False, seed=seed)) == [1]
