"""Mistakes that were made once: each stays fixed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

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


def test_transforms_of_no_points() -> None:
    for f in (ts.fft.fft, ts.fft.ifft, ts.fft.rfft, ts.fft.ihfft):
        for norm in ("backward", "ortho", "forward"):
            with pytest.raises(ValueError, match="transform of 0 points"):
                f(ts.zeros((3, 0)), norm=norm)


def test_irfftn_takes_an_extent_of_minus_one_as_it_is() -> None:
    x = np.arange(12.0).reshape(3, 4) + 1j
    for s, axes in (((-1,), (1,)), ((2, -1), (0, 1)), ((-1, -1), (1, 0))):
        np.testing.assert_allclose(
            ts.fft.irfftn(ts.asarray(x), s=s, axes=axes).numpy(), np.fft.irfftn(x, s=s, axes=axes), atol=1e-14
        )


def test_rfftn_takes_an_axis_twice() -> None:
    a = np.random.default_rng(0).standard_normal((3, 7))
    for axes in ((1, 1), (1, 0, -1)):
        mine, wanted = ts.fft.rfftn(ts.asarray(a), axes=axes), np.fft.rfftn(a, axes=axes)
        np.testing.assert_allclose(mine.numpy(), wanted, atol=1e-12)


def test_einsum_of_truth_values_and_gradients_of_odd_extents() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 4)) < 0.3, rng.random((4, 5)) < 0.3
    for subscripts, operands in (
        ("ij,jk->ik", (a, b)),
        ("ij->i", (a,)),
        ("ij,jk", (a, b)),
        ("ij,ij->", (a, a)),
    ):
        y = ts.einsum(subscripts, *map(ts.asarray, operands))
        assert y.dtype == "bool"
        np.testing.assert_array_equal(y.numpy(), np.einsum(subscripts, *operands))
    x, one = ts.ones(4).requires_grad_(), ts.asarray([2.0]).requires_grad_()
    ts.einsum("a,a", x, one).backward()
    assert x.grad.tolist() == [2.0] * 4 and one.grad.tolist() == [4.0]
    empty, v = ts.ones((4, 0)).requires_grad_(), ts.ones(0).requires_grad_()
    ts.sum(ts.matmul(empty, v)).backward()
    assert empty.grad.shape == (4, 0) and v.grad.shape == (0,)


def test_tensordot_takes_numpys_integers() -> None:
    a, b = np.ones((2, 3)), np.ones((3, 4))
    assert ts.tensordot(ts.asarray(a), ts.asarray(b), np.int64(1)).tolist() == [[3.0] * 4] * 2
    assert ts.tensordot(ts.asarray(a), ts.asarray(b), (np.int64(1), np.int64(0))).tolist() == [[3.0] * 4] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ts.fft.fft(x, "a"), "fft: n must be an integer, got 'a'"),
        (lambda x: ts.fft.irfft(x, 2.5), "irfft: n must be an integer, got 2.5"),
        (lambda x: ts.fft.fft(x, axis=(1,)), r"fft: an axis must be an integer, got \(1,\)"),
        (lambda x: ts.fft.fftn(x, axes=-1), "fftn: axes must be integers, got -1"),
        (lambda x: ts.fft.rfft2(x, 3), "rfftn: s must be integers, got 3"),
        (lambda x: ts.fft.fftshift(x, 1.5), "fftshift: axes must be integers, got 1.5"),
        (lambda x: ts.linalg.vecdot(x, x, axis="a"), "vecdot: an axis must be an integer"),
    ],
)
def test_transforms_name_what_is_no_integer(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(ts.ones((3, 4)))
    assert ts.fft.fftshift(ts.arange(4), np.int64(0)).tolist() == [2, 3, 0, 1]


def test_a_base_of_zero_has_no_slope_in_its_exponent() -> None:
    a = ts.tensor([0.0, 0, 2, 0]).requires_grad_()
    b = ts.tensor([0.0, 2, 3, -1]).requires_grad_()
    (g,) = ts.autograd.gradients(ts.sum(a**b), [b], create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), [0, 0, 8 * np.log(2), -np.inf], rtol=1e-6)
    (h,) = ts.autograd.gradients(g[1], [a])
    assert h.tolist()[1] == 0
    (g,) = ts.autograd.gradients(ts.sum(0.0 ** b[:3]), [b])
    assert g.tolist() == [0, 0, 0, 0]


def test_where_keeps_the_memory_order() -> None:
    """As every pointwise operation does: an image with its channels last keeps them there, and so does its gradient."""
    x = ts.ones(2, 4, 5, 3).permute(0, 3, 1, 2).requires_grad_()
    y = ts.where(x > 0, x, 0.0)
    assert y.strides == x.strides
    y.sum().backward()
    assert x.grad.strides == x.strides
    row = ts.zeros(5)
    assert ts.where(x.detach() > 0, row, 1.0).strides == x.strides


def test_names_of_utils_are_reached_from_the_package() -> None:
    code = "import tensorsmith as ts; ts.utils.data.DataLoader"
    subprocess.run([sys.executable, "-c", code], check=True)
