"""Bags of embeddings: where they begin and end, what is left out, and errors that name the caller's argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F

TABLE = np.asarray([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]])


@pytest.mark.parametrize(
    ("offsets", "options", "message"),
    [
        ([1, 2], {}, "embedding_bag: offsets must begin with 0, got 1"),
        ([], {}, "embedding_bag: offsets must begin with 0, got none"),
        ([0, 3, 1], {}, "must not descend, nor exceed the 4 elements of input, got 3 before 1"),
        ([0, 5], {}, "must not descend, nor exceed the 4 elements of input, got 5$"),
        ([[0]], {}, r"embedding_bag: offsets must be \(B,\), got shape \(1, 1\)"),
        ([0], {"padding_idx": 3}, r"embedding_bag: padding_idx must be in \[-3, 3\), got 3"),
        ([0], {"padding_idx": -4}, r"embedding_bag: padding_idx must be in \[-3, 3\), got -4"),
    ],
)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_offsets_and_padding_are_checked(offsets: Any, options: Any, message: str, mode: str) -> None:
    rows, table = ts.asarray([0, 1, 2, 1]), ts.asarray(TABLE)
    with pytest.raises(ValueError, match=message):
        F.embedding_bag(rows, table, ts.asarray(offsets, dtype=ts.int64), mode=mode, **options)
    if options:
        with pytest.raises(ValueError, match=message):
            F.embedding_bag(rows[None], table, mode=mode, **options)


def test_what_is_no_row_or_weight_is_named() -> None:
    table, rows = ts.asarray(TABLE), ts.asarray([[0, 3]])
    for mode in ("sum", "mean"):
        with pytest.raises(
            IndexError, match="embedding_bag: index 3 in input is out of range: weight has 3 rows"
        ):
            F.embedding_bag(rows, table, mode=mode)
    with pytest.raises(TypeError, match="embedding_bag: offsets must hold integers, got float32"):
        F.embedding_bag(rows[0], table, ts.asarray([0.0, 1.5]))
    with pytest.raises(TypeError, match="per_sample_weights must have weight's dtype, float64, got float32"):
        F.embedding_bag(rows, table, mode="sum", per_sample_weights=ts.ones((1, 2)))
    with pytest.raises(ValueError, match=r"embedding_bag: weight must be \(V, D\), got shape \(3,\)"):
        F.embedding_bag(rows, ts.ones(3))
    with pytest.raises(TypeError, match="embedding_bag: weight must be a tensor, got a list"):
        F.embedding_bag(rows, TABLE.tolist())
    for options, error, message in (
        ({"max_norm": "a"}, TypeError, "max_norm must be a number, got str 'a'"),
        ({"max_norm": -1.0}, ValueError, "max_norm must be > 0, got -1.0"),
        ({"padding_idx": "a"}, TypeError, "padding_idx must be an integer, got str 'a'"),
    ):
        for call in (F.embedding_bag, F.embedding):
            with pytest.raises(error, match=f"{call.__name__}: {message}"):
                call(ts.asarray([[0, 1]]), table, **options)


def test_lists_are_taken() -> None:
    table = ts.asarray(TABLE)
    y = F.embedding_bag([0, 2, 1], table, [0, 1], mode="sum", per_sample_weights=[1.0, 2.0, 1.0])
    assert y.tolist() == [[1.0, 2.0], [13.0, 8.0]]
    with pytest.raises(TypeError, match="embedding_bag: input must hold integers, got float"):
        F.embedding_bag([0.0, 1.0], table, [0])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 1])
def test_what_lies_behind_the_last_offset_is_left_out(mode: str, padding: int | None) -> None:
    table = ts.asarray(TABLE).requires_grad_()
    rows, offsets = ts.asarray([0, 2, 1, 2, 2]), ts.asarray([0, 1, 1, 3])
    y = F.embedding_bag(rows, table, offsets, mode=mode, include_last_offset=True, padding_idx=padding)
    bags = [TABLE[[0]], TABLE[[]], TABLE[[2, 1] if padding is None else [2]]]
    reduce = getattr(np, mode)
    expected = [reduce(bag, axis=0) if len(bag) else np.zeros(2) for bag in bags]
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    y.sum().backward()
    assert table.grad.numpy()[2].max() == (0.5 if mode == "mean" and padding is None else 1)


def test_all_rows_that_are_looked_up_are_limited() -> None:
    table = ts.asarray(TABLE.copy())
    F.embedding_bag(ts.asarray([[0, 1]]), table, mode="sum", max_norm=1.0, padding_idx=1)
    np.testing.assert_allclose(np.linalg.norm(table.numpy(), axis=1), [1, 1, np.hypot(5, 6)], rtol=1e-6)


def test_means_of_halves_are_rounded_once() -> None:
    rng = np.random.default_rng(0)
    table = ts.asarray(rng.normal(size=(40, 8))).astype(ts.bfloat16)
    rows = ts.asarray(rng.integers(0, 40, (50, 7)))
    exact = table.astype(ts.float64).numpy()[rows.numpy()].mean(1)
    y = F.embedding_bag(rows, table, mode="mean").astype(ts.float64).numpy()
    np.testing.assert_allclose(y, exact, rtol=2.0**-8, atol=1e-6)


def test_segments_end_where_the_data_do() -> None:
    x = ts.asarray([1.0, 2.0, 3.0])
    for how in ("max", "min", "prod"):
        for offsets in ([1, 3], [0, 2]):
            with pytest.raises(ValueError, match="segment_reduce: offsets must go from 0 to 3"):
                ts.segment_reduce(x, ts.asarray(offsets), how)
    for call in (ts.segment_softmax, lambda x, offsets: ts.segment_reduce(x, offsets, "prod")):
        for offsets, error, message in (
            ([0, 2, 1, 3], ValueError, "offsets must not descend"),
            ([0, 2], ValueError, "offsets must go from 0 to 3"),
            ([0.0, 3.0], TypeError, "offsets must hold integers, got float"),
            ([[0, 3]], ValueError, r"offsets must be \(M \+ 1,\)"),
        ):
            with pytest.raises(error, match=rf"segment_\w+: {message}"):
                call(x, ts.asarray(offsets))
    with pytest.raises(IndexError, match="segment_softmax: axis 1 is out of range"):
        ts.segment_softmax(x, ts.asarray([0, 3]), 1)


def test_bags_over_a_given_table() -> None:
    table = ts.asarray(TABLE)
    for freeze in (True, False):
        bag = nn.EmbeddingBag.from_pretrained(table, freeze, mode="sum", padding_idx=-1)
        assert bag.weight.requires_grad is not freeze and bag.padding_idx == 2
        assert bag(ts.asarray([[0, 1, 2]])).tolist() == [[4, -2]]
    with pytest.raises(ValueError, match="embeddings must be 2-dimensional"):
        nn.EmbeddingBag.from_pretrained(ts.ones(3))
