"""Mistakes that were made once: each stays fixed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import tensorsmith as ts


def test_where_with_a_number_as_condition() -> None:
    assert ts.where(ts.array([0, 2, 0]), 1.0, 5.0).tolist() == [5, 1, 5]


def test_stack_and_concat_of_none() -> None:
    for join in (ts.stack, ts.concat):
        with pytest.raises((TypeError, ValueError)):
            join([None])
        with pytest.raises((TypeError, ValueError)):
            join([ts.ones(2), None])


def test_floats_written_into_integers_are_cut_off() -> None:
    x = ts.arange(5)
    x[1:3] = 2.7
    x[3] = 1e30
    x[4] = float("nan")
    assert x.tolist() == [0, 2, 2, 2**63 - 1, 0]
    assert ts.full((2,), -3.7, dtype="int32").tolist() == [-3, -3]


def test_lists_reach_float64_undiminished() -> None:
    x = ts.zeros(2, dtype="float64")
    x[:] = [0.1, 0.2]
    assert x.tolist() == [0.1, 0.2]


def test_rounding_leaves_integers_alone() -> None:
    big = ts.array([2**53 + 1])
    for op in (ts.floor, ts.ceil, ts.trunc, ts.round):
        assert op(big).tolist() == [2**53 + 1] and op(big).dtype == ts.int64


def test_extents_of_one_do_not_overlap() -> None:
    x = ts.zeros(2, 5, 5).T
    x[2:5, ::7] = 1
    assert float(x.sum()) == 6


def test_buffer_of_a_strided_tensor_is_refused_to_who_ignores_strides() -> None:
    x = ts.arange(12.0).reshape(3, 4)[:, ::2]
    assert np.asarray(x).tolist() == [[0, 2], [4, 6], [8, 10]]
    with pytest.raises(BufferError):
        hashlib.sha256(x)  # asks for plain bytes


def test_in_place_on_a_lone_view_of_a_recorded_tensor() -> None:
    x = ts.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    y = (x * 2).reshape(2, 2).add_(1)
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2, 2]


def test_self_containing_list() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises((ValueError, TypeError, RecursionError)):
        ts.asarray(loop)


def test_arange_counts_integers_exactly() -> None:
    assert ts.arange(2**53, 2**53 + 3).tolist() == [2**53, 2**53 + 1, 2**53 + 2]


def test_batch_norm_of_strided_rows_and_of_one_strided_channel() -> None:
    rng = np.random.default_rng(0)
    for x in (
        ts.asarray(rng.random((6, 10), np.float32))[:, ::2],
        ts.asarray(rng.random((5, 6), np.float32)).T,
        ts.asarray(rng.random((3, 1, 4, 10), np.float32))[..., ::2],
        ts.asarray(rng.random((1, 6), np.float32)).T,
    ):
        c = x.shape[1]
        scale, shift = ts.arange(float(c)) + 1, ts.arange(float(c))
        assert (
            ts.channel_affine(x, scale, shift).tolist()
            == ts.channel_affine(ts.array(x), scale, shift).tolist()
        )
        mine, dense = (ts.nn.functional.batch_norm(v, None, None, training=True) for v in (x, ts.array(x)))
        assert mine.tolist() == dense.tolist()
