"""Calls at the edges of NumPy's functions, written once and evaluated with numpy and with tensorsmith as `np`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

NAN, INF = float("nan"), float("inf")
X = "a([[3, 1, 2], [4, 6, 5]])"
F = "a([[3., 1., 2.], [4., 6., 5.]])"
Z = "a([complex(NAN, 0), 1, complex(2, NAN), complex(NAN, 1), 3, 1])"


@pytest.fixture(autouse=True)
def as_numpy() -> Iterator[None]:
    before = ts.get_default_dtype()
    ts.set_default_dtype("float64")
    yield
    ts.set_default_dtype(before)


def evaluate(text: str, module: Any) -> Any:
    def a(data: Any, dtype: str | None = None) -> Any:
        x = np.array(data, dtype)
        return x if module is np else ts.asarray(x)

    with np.errstate(all="ignore"):
        return eval(text, {"np": module, "a": a, "NAN": NAN, "INF": INF})


def outputs(y: Any) -> list[Any]:
    return [part for x in y for part in outputs(x)] if isinstance(y, (tuple, list)) else [y]


SMALLEST = "a([1, -1, 5, -128, 127, 0], 'int8')"
CALLS = [
    # integers at their limits
    f"np.fmod({SMALLEST}, a(-128, 'int8'))", f"np.fmod({SMALLEST}, 3)", f"np.fmod({SMALLEST}, -3)",
    "np.fmod(a([1, 2**63 - 1, -2**63]), a(-2**63))", f"np.gcd({SMALLEST}, a(-128, 'int8'))",
    "np.gcd(a([1, 0, -2**63]), a(-2**63))", f"np.gcd({SMALLEST}, 12)", f"np.gcd({SMALLEST}, a([True] * 6))",
    f"np.lcm({SMALLEST}, 6)", f"np.lcm({SMALLEST}, a([True] * 6))",
    # numbers of Python beside small dtypes
    "np.fmax(a([1, 7], 'int8'), 3)", "np.fmin(a([1.0, 7.0], 'float16'), 3.5)",
    "np.heaviside(a([-1.0, 0.0], 'float16'), 0.5)", "np.heaviside(a([0, 1], 'int8'), a([2.0, 2.0], 'float32'))",
    "np.logaddexp2(a([1.0, 2.0], 'float16'), 1.0).dtype.name",
    # numbers at the ends of the range
    "np.ldexp(a([0.0, 5e-324, 1e308, 3 * 2.0**-1000]), a([40000, 2090, -2097, -75]))",
    "np.ldexp(a([1.0, 3.0, 0.0], 'float16'), a([-24, -25, 99]))", "np.ldexp(a([1.0]), 1.5)",
    "np.sinc(a([0.0, 1e-7, -0.0], 'float16'))", "np.i0(a([700.0, 1e308, -1e300]))", "np.spacing(a([0.0, -0.0]))",
    *[f"np.{f}(a([1j]))" for f in ("cbrt", "deg2rad", "rad2deg", "isposinf", "isneginf", "i0", "unwrap")],
    "np.heaviside(a([1j]), 0.5)", "np.fmod(a([1j]), 2)",
    "np.round(a([complex(INF, 1.26), complex(-1.26, INF)]), 1)", "np.round(a([complex(INF, 126)]), -1)",
    "np.clip(a([1, 9], 'uint32'), 2.5, -300)", "np.clip(a([1, 9], 'uint8'), 2.5, 4)",
    # orders and sets
    f"np.sort({Z})", f"np.unique({Z})", f"np.unique({Z}, return_index=True, return_inverse=True, return_counts=True)",
    "np.unique(a([3, 1, 3]), sorted=False).size", "np.sort_complex(a([2, 1], 'int16')).dtype.name",
    "np.sort_complex(a([2, 1], 'float32')).dtype.name", "np.searchsorted(a([1, 2, 2]), a([2, 3]), 'right')",
    "np.searchsorted(a([2, 1, 2]), 2, 'left', a([1, 0, 2]))", "np.setdiff1d(a([3, 1], 'int8'), a([1.5]))",
    "np.setdiff1d(a([True]), a([2, 3]))", "np.isin(a([1, 2]), [2], kind='sort')",
    *[f"np.quantile(a([5, 1, 9, 9, 2], 'int16'), {q}, method='{m}')" for m in (
        "lower", "higher", "nearest", "inverted_cdf", "averaged_inverted_cdf", "closest_observation")
      for q in ("[0.0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.9, 1.0]", "0.4")],
    "np.quantile(a([2**53 + 1, 2**53 + 3]), 1.0, method='nearest')",
    "np.quantile(a([1.0, NAN, 3.0]), 0.5, method='inverted_cdf')",
    # putting together and taking apart
    f"np.delete({X}, [], axis=1)", f"np.insert({X}, 1, [[7], [8]], axis=1)", f"np.insert({X}, [1], [[7], [8]], axis=1)",
    f"np.insert({X}, [1, 1], [7, 8], axis=-1)", "np.insert(a([1, 2, 3]), [1], [7, 8])",
    "np.insert(a([1, 2], 'uint8'), 0, -1)", "np.insert(a([1, 2], 'int8'), 1, 300)",
    "np.insert(a([1, 2, 3]), a([True, False, True]), 9)", "np.insert(a([1, 2, 3]), slice(0, 2), [7, 8])",
    "np.insert(a([1, 2]), 1, 2.7)", f"np.split({X}, [2, 1], axis=1)", f"np.split({X}, [-1], axis=1)",
    f"np.array_split({X}, [0, 9, 1], axis=1)", "np.rollaxis(a([[1, 2]]), 0, -3)", f"np.rollaxis({X}, 1, -1)",
    "np.argwhere(a(3))", "np.argwhere(a(0))", "np.cumulative_sum(a(3))", "np.cumulative_prod(a(3))",
    "np.trim_zeros(a([[0, 0, 0], [0, 2, 0], [0, 0, 0]]))", "np.trim_zeros(a([[0, 0], [0, 2]]), 'f', axis=0)",
    "np.trim_zeros(a([0, 1, 0]), 'b')", "np.trim_zeros(a([0, 0]))", "np.trim_zeros(a([[0, 0, 0]]))",
    "np.diff(a([1, 2]), prepend=0.5)", "np.diff(a([1, 2]), n=0, prepend=1)", "np.ediff1d(a([1, 4]), to_end=1.5)",
    "np.ediff1d(a([1, 4]), to_begin=9)", f"np.pad({X}, 1, 'median')", f"np.pad({F}, (0, 2), 'median', stat_length=2)",
    "np.pad(a([2**53 + 2, 2**53 + 2]), 1, 'mean')", "np.pad(a([100000001]), 3, 'linear_ramp')",
    # keywords
    "np.array([1, 2], ndmin=3)", "np.array(5, ndmin=1)", f"np.concat([{X}, {F}], axis=1, dtype='float32')",
    f"np.stack([{X}, {X}], dtype='int8')", f"np.concat([{F}], dtype='int8')",
    f"np.concat([{F}], dtype='int8', casting='unsafe')", f"np.concatenate([{X}, {F}], axis=None, dtype='float64')",
    f"np.hstack([{X}, {X}], dtype='float32')", f"np.vstack([{X}, {X}], dtype='float32', casting='safe')",
    f"np.zeros_like({X}, shape=(2, 1))", f"np.ones_like({X}, shape=3, dtype='int8')", f"np.full_like({X}, 7, shape=())",
    "np.eye(3, M=2, k=1)", "np.tri(N=2, M=3)", "np.vander(a([1, 2]), N=3)", "np.tile(a([1, 2]), reps=2)",
    "np.repeat(a([1, 2]), repeats=2)", "np.geomspace(a([1.0, 2.0]), 16.0, 3, axis=1)",
    "np.geomspace([1, -2], [4, -8], 3)",
    "np.logspace(a([0.0, 1.0]), 2.0, 3, axis=-1)", f"np.var({F}, 0, mean=np.mean({F}, 0, keepdims=True))",
    f"np.std({F}, 1, mean=a([[2.0], [5.0]]), correction=1, keepdims=True)",
    f"np.nanstd({F}, 0, correction=1)", f"np.nanvar({F}, 0, mean=a([[3.0, 3.0, 3.0]]))",
    f"np.cov({F}, dtype='float32')", f"np.corrcoef({F}, dtype='float32')", "np.can_cast('int64', 'int8', 'same_kind')",
    "np.can_cast('int8', 'uint8', casting='same_kind')", "np.can_cast('float64', 'int8', casting='unsafe')",
    "np.can_cast('int8', 'int16', casting='no')", "np.partition(a([2, 1]), 0, -1, 'introselect')",
    # integers beyond 64 bits: floats have room for them
    "a([1.0, 2.0], 'float32') * 2**64", "-2**70 - a([1.0])", "a([1.0, INF]) < 2**64", "a([1, 2]) / 2**70",
    "2**70 / a([4])",
    "a([1j]) * 2**65", "a([1.0]) * 10**400", "a([1, -1], 'int8') < 2**64", "a([1, -1]) > -2**63 - 1",
    "a([2**63], 'uint64') == 2**64", "a([1]) != -2**80", "2**64 >= a([1])", "a([1]) + 2**64",
    "a([1], 'uint8') * -2**63",
    "a([1]) - (2**63 + 2**64)", "a([True]) + -2**64", "np.full(2, 2**64, dtype='float64')",
    "np.full(2, -2**64, dtype='int8')",
    "np.arange(2**63 - 1, 2**63 + 1, dtype='uint64')", "np.arange(2**64, 2**64 + 2, dtype='int64')",
    "np.maximum(a([1.0]), 2**64)", "np.asarray(2**70, dtype='float64')", "np.float_power(a([2.0]), 2**64)",
    "np.ones(2, int)", "np.zeros((2, 1), bool)", "np.ones(2, np.int64)", "np.zeros(2, float)",
    "np.interp(a([1.0, 0.5, 2.0, NAN]), a([0.0, 1.0, 2.0]), a([5.0, 7.0, NAN]))",
    "np.unwrap(a([1, 8, 2, -9]), period=7)",
    "np.unwrap(a([1, 8, 2, -9], 'int8'), period=6)", "np.unwrap(a([1, 8, 2]), period=7.5)",
    "np.put(a([1, 2]), [0, 1], [])",
    # numbers of NumPy, arrays and lists where a number of Python stands elsewhere
    "np.arange(np.max(a([1, 4])) + 1)", "np.arange(np.array(3))", "np.arange(1, np.array(2.5))",
    "np.tile(a([1, 2]), np.array(2))", "np.tile([1, 2], np.array([2, 1]))", "np.tile(a([1]), -1)",
    "np.tile(a([1]), 2.5)", "np.split(a([1, 2, 3, 4]), np.array(2))", "np.array_split(a([1, 2, 3]), np.array(2))",
    "np.split(a([1, 2, 3]), np.array([1]))", "np.split(a([1]), 1, 3)", "np.roll([1, 2, 3], 1)",
    f"np.roll({X}, np.array([1, 1]), axis=(0, 1))", "np.roll([[1, 2]], 1, axis=1)",
    "np.broadcast_shapes(np.array(3), 1)", "np.unravel_index(5, (np.array(2), 3))", "np.resize(a([1, 2]), (-1, 2))",
    "np.histogram(a([3.0, 1.0, 2.0]), bins=np.array(3))", "np.count_nonzero([0, 1, 2])",
    "np.cumulative_sum([1, 2])", "np.pad(a([1, 2]), 1, constant_values=np.array(3))",
    "np.pad(a([1, 2]), 1, constant_values=np.array([3, 4]))", "np.pad(a([1, 2]), 1, constant_values=None)",
    "np.pad(a([1.0, 2.0]), 2, 'maximum', stat_length=np.array(1))", "np.round(a([1.25]), 1.5)",
    "np.iscomplexobj([1j])", f"np.size({X}, (0, 1))", f"np.clip({X}, a_min=2, a_max=4)",
    f"np.clip({X}, a_min=None, a_max=4)", f"np.clip({X}, 2, a_max=4)", "round(np.mean(a([1.0, 2.26])), 1)",
    "round(np.mean(a([1.0, 2.26])))", "np.put(a(1), [0], 7)",
    # dtypes of results
    "np.vander(a([100, 5], 'int8'), 3)", "np.vander(a([2.0]), 3)", "np.unwrap(a([[1], [2]], 'int16'), period=4)",
    "np.choose(a([0, 1]), [a([1, 2], 'int32'), 5])",
    "np.select([a([True, False])] * 2, [a([1, 2], 'uint8'), a([True, True])], 7)",
    "np.heaviside(a([1.0, 0.0]), -1)", "np.heaviside(a([3, 0], 'uint32'), -1)", "np.cbrt(a([-0.0]))",
    "np.histogram(a([1, 2]), 2, weights=a([3, 4]))[0]", "np.signbit(np.diag(a([-0.0, 1.0])))",
    "np.diag(a([True, False]))", "np.diag(a([1j, 2]), 1)",
    # what does not fit is refused
    "np.piecewise(a([1, 2], 'uint8'), [a([True, False])], [-1])", "np.copyto(a([1, 2]), 1.5)",
    "np.copyto(a([1, 2]), [1.5, 2.5])", "np.copyto(a([1, 2], 'uint8'), 300)",
    "np.copyto(a([1.0], 'float32'), 1.5, casting='safe')", "np.nanmean(a([1.0, 2.0]), dtype='uint8')",
    # methods
    f"{F}.item(1)", f"{F}.item(-1)", f"{F}.item(1, 2)", f"{F}.item((0, -1))", f"{F}.T.item(1)", f"{F}.item(6)",
    f"{F}.item(2, 0)", f"{F}.item(1.0)", f"{F}.item('a')", f"{F}.item(0, 0, 0)", "a(3).item(0)", f"{F}.item()",
    f"[v.tolist() for v in reversed({F})]", "reversed(a(3))", f"{F}.clip(2, 4, np.zeros_like({F}))",
    f"{F}.round(1, np.zeros_like({F}))", f"{F}.astype('int8', casting='unsafe')", f"{F}.astype('int8', casting='safe')",
    f"{X}.astype('float64', casting='safe')", "np.bincount(a([True, False, True]))",
    "np.choose(a([True, False]), [a([1, 2]), a([3, 4])])", "np.setxor1d(a([NAN, 1.0]), a([NAN, 2.0]))",
    "np.fft.fft(a([1, 2, 3])).dtype.name", "np.fft.fft(a([1, 2, 3], 'float32')).dtype.name",
    "np.copyto(a([1, 2]), a([1.5, 2.5]))", "np.copyto(a([1, 2], 'int8'), a([1, 2]), casting='safe')",
]  # fmt: skip


@pytest.mark.parametrize("text", CALLS)
def test_the_same_as_numpy(text: str) -> None:
    try:
        expected = evaluate(text, np)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        with pytest.raises((TypeError, ValueError, IndexError, OverflowError)) as caught:
            evaluate(text, ts)
        assert isinstance(error, OverflowError) == isinstance(caught.value, OverflowError)
        return
    for g, e in zip(outputs(evaluate(text, ts)), outputs(expected), strict=True):
        g, e = np.asarray(g), np.asarray(e)
        assert (g.dtype, g.shape) == (e.dtype, e.shape)
        if e.dtype.kind in "fc":
            np.testing.assert_allclose(g, e, rtol=1e-3 if e.dtype == "float16" else 1e-6)
        else:
            np.testing.assert_array_equal(g, e)


def test_out_of_functions_that_lacked_it() -> None:
    x = ts.asarray(np.arange(4.0).reshape(2, 2))
    for call, shape, dtype in (
        (lambda out: ts.dot(x, x, out=out), (2, 2), "float64"),
        (lambda out: ts.outer(x, x, out=out), (4, 4), "float64"),
        (lambda out: ts.isposinf(x, out=out), (2, 2), "bool"),
        (lambda out: ts.nanargmax(x, 0, out), (2,), "int64"),
    ):
        out = ts.zeros(shape, dtype=dtype)
        assert call(out) is out
        np.testing.assert_array_equal(np.asarray(out), np.asarray(call(None)))


def test_copyto_keeps_what_the_mask_leaves_out() -> None:
    for source, casting in (([5, 6], "same_kind"), ([5.5, 6.5], "unsafe")):
        x = ts.asarray(np.array([2**53 + 1, 1]))
        values = ts.asarray(np.array(source, "uint64" if casting == "same_kind" else "float64"))
        ts.copyto(x, values, casting, where=[False, True])
        assert x.tolist() == [2**53 + 1, 6]


@pytest.mark.parametrize("tensors", [True, False])
def test_ufuncs_write_only_where_they_are_asked(tensors: bool) -> None:
    x, mask = ts.asarray(np.array([1.0, 2.0, 3.0])), np.array([True, False, True])
    out = ts.asarray(np.full(3, 7.0)) if tensors else np.full(3, 7.0)
    assert np.add(x, 10, out=out, where=ts.asarray(mask) if tensors else mask) is out
    assert out.tolist() == [11, 7, 13]
    whole = ts.asarray(np.zeros(3, "int64"))
    np.add(x, 0.5, out=whole, casting="unsafe")
    assert whole.tolist() == [1, 2, 3]


def test_at_is_a_write_like_others() -> None:
    x = ts.asarray(np.array([1.0, 2.0]))
    np.add.at(x, ts.asarray([0, 0]), [1.0, 2.0])
    assert x.tolist() == [4, 2]
    y = x * ts.asarray(np.array([1.0, 1.0])).requires_grad_()
    np.negative.at(x, [0])
    with pytest.raises(RuntimeError, match=r"changed|modified"):
        y.sum().backward()
    memory = np.array([1.0, 2.0])
    memory.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        np.add.at(ts.asarray(memory), [0], 1.0)
    assert memory.tolist() == [1, 2]
    with pytest.raises(TypeError, match=r"use \.detach"):
        np.add.at(ts.asarray([1.0]).requires_grad_(), [0], 1.0)


def test_ufuncs_that_only_numpy_has() -> None:
    x, y = np.array([1, 2]), np.array([3, 1, 2])
    for ufunc in (np.fmin, np.lcm, np.float_power, np.heaviside):
        got = ufunc.outer(ts.asarray(x), ts.asarray(y))
        np.testing.assert_array_equal(got.numpy(), ufunc.outer(x, y))


def test_the_dtype_of_a_ufunc_is_no_way_round_casting() -> None:
    x = ts.asarray(np.array([1.5, 2.5]))
    for call in (lambda: np.add(x, 1.7, dtype=int), lambda: np.sqrt(x, dtype="int32")):
        with pytest.raises(TypeError):
            call()
    assert np.add(x, 1.7, dtype=int, casting="unsafe").tolist() == [2, 3]
    x.requires_grad_()
    assert np.exp(x, dtype="float32").requires_grad and np.multiply.outer(x, x).requires_grad


@pytest.mark.parametrize("name", ["var", "std", "nanvar", "nanstd", "nanmean"])
def test_spreads_are_no_integers(name: str) -> None:
    with pytest.raises(TypeError, match="dtype is int8; a floating or complex dtype is needed"):
        getattr(ts, name)(ts.asarray([0.5, 1.5]), dtype="int8")


def test_dtypes_compare_with_types_of_python() -> None:
    for dtype, kind in (
        (ts.bool, bool),
        (ts.int64, int),
        (ts.complex128, complex),
        (ts.get_default_dtype(), float),
    ):
        assert dtype == kind and kind == dtype and dtype in (kind,)
        assert dtype not in (np.int8, str, None, [kind]) and ts.int8 != kind
    assert ts.iinfo(np.int8).max == 127 and ts.finfo(np.float32).bits == 32 and ts.can_cast(np.int8, np.int16)


def test_printing_follows_the_options() -> None:
    with ts.printoptions(threshold=4):
        assert repr(ts.arange(9)) == "tensor([0, 1, 2, ..., 6, 7, 8])"
    with ts.printoptions(threshold=10_000):
        assert "..." not in repr(ts.arange(2000))


def test_bfloat16_keeps_its_dtype_on_the_way_to_numpy() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = ts.asarray([1.0, 2.0]).astype("bfloat16")
    assert np.asarray(x).dtype == ml_dtypes.bfloat16 and np.asarray(x).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ts.hstack(None), "hstack: arrays must be a sequence, got None"),
        (lambda x: ts.vstack(1.5), r"vstack: arrays must be a sequence, got 1\.5"),
        (lambda x: ts.broadcast_shapes(None), "broadcast_shapes: a shape must be a sequence, got None"),
        (lambda x: ts.choose(x, None), "choose: choices must be a sequence, got None"),
        (lambda x: ts.select(x, None), "select: choices must be a sequence, got None"),
        (lambda x: ts.lexsort(None), "lexsort: keys must be a sequence, got None"),
        (lambda x: ts.indices(1.5), r"indices: dimensions must be a sequence, got 1\.5"),
        (lambda x: ts.median(x, 1.5), r"median: axis must be an integer or several, got 1\.5"),
        (lambda x: ts.roll(x, 1, 1.5), r"roll: axis must be an integer or several, got 1\.5"),
        (lambda x: ts.diag(x, "a"), "diag: k must be an integer, got 'a'"),
        (lambda x: ts.diff(x, "a"), "diff: n must be an integer, got 'a'"),
        (lambda x: ts.rot90(x, None), "rot90: k must be an integer, got None"),
        (lambda x: ts.resize(x, "a"), "resize: an extent must be an integer, got 'a'"),
        (lambda x: ts.zeros(2, dtype=[1]), r"\[1\] is not a dtype"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(ts.asarray([[1, 2], [3, 4]]))


def test_arguments_that_do_not_fit() -> None:
    x = ts.asarray(np.array([1, 2], "uint8"))
    with pytest.raises(OverflowError, match="the integer 500 does not fit uint8"):
        ts.choose([0, 1], [x, 500])
    with pytest.raises(OverflowError, match="the integer 300 does not fit uint8"):
        ts.select([[True, False]], [x], 300)
    with pytest.raises(TypeError, match=r"round: a tensor of shape \(2,\) is no number; use \.round"):
        round(ts.asarray([1.5, 2.5]))
    with pytest.raises(TypeError, match="clip: max and a_max are the same"):
        ts.clip(ts.asarray([1.0]), max=2, a_max=3)
    with pytest.raises(TypeError, match=r"roll: shift must be made of integers, got 1\.5"):
        ts.roll(ts.asarray([1, 2]), 1.5)
    with pytest.raises(
        TypeError, match=r"split: a number of sections or positions, integers, are needed, got 2\.0"
    ):
        ts.split(ts.asarray([1, 2]), 2.0)


def test_keywords_that_only_numpy_has() -> None:
    x = np.array([[1.0, 9.0], [3.0, 4.0]])
    t = ts.asarray(x)
    for call in (
        lambda a: np.quantile(a, 0.5, weights=np.ones_like(x), method="inverted_cdf"),
        lambda a: np.nansum(a, where=x > 1),
        lambda a: np.take(a, [9], mode="clip"),
        lambda a: np.reshape(a, 4, order="F"),
        lambda a: np.sum(a=a, axis=0),
        lambda a: np.insert(a, obj=1, values=2, axis=0),
    ):  # fmt: skip
        got = call(t)
        assert isinstance(got, ts.Tensor)
        np.testing.assert_array_equal(got.numpy(), call(x))
    with pytest.raises(TypeError, match=r"use \.detach"):
        np.quantile(ts.asarray(x).requires_grad_(), 0.5, weights=x, method="inverted_cdf")
    with pytest.raises(TypeError, match="axis must be an integer"):
        np.cumsum(t, axis="a")


def test_one_out_of_two() -> None:
    x, whole = ts.asarray(np.array([1.5, -2.25])), ts.zeros(2)
    fraction, stored = np.modf(x, out=(None, whole))
    assert stored is whole
    np.testing.assert_array_equal(np.asarray(fraction), [0.5, -0.25])
    np.testing.assert_array_equal(np.asarray(whole), [1.0, -2.0])


def test_an_element_of_a_tensor_with_a_gradient() -> None:
    x = ts.tensor([1.0, 2.0]).requires_grad_()
    assert (x * x).item(1) == 4.0


def test_ldexp_rounds_once() -> None:
    random = np.random.default_rng(0)
    x = random.integers(1, 2**53, 4000).astype("float64") * 2.0 ** random.integers(-1126, 970, 4000)
    e = random.integers(-2200, 2200, 4000)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.asarray(ts.ldexp(ts.asarray(x), ts.asarray(e))), np.ldexp(x, e))


def test_pad_keeps_integers() -> None:
    x = ts.asarray(np.array([1, 2], np.int64))
    large = 2**53 + 1
    assert ts.pad(x, 1, constant_values=large).tolist() == [large, 1, 2, large]
    for array, value in ((x, 2**70), (ts.asarray(np.array([1], np.uint8)), 300)):
        with pytest.raises(OverflowError, match="pad: constant_values must be from"):
            ts.pad(array, 1, constant_values=value)


def test_a_tensor_of_integers_is_a_shape() -> None:
    assert ts.zeros(ts.asarray([3, 2])).shape == (3, 2)
    assert ts.reshape(ts.arange(6), ts.asarray([3, -1])).shape == (3, 2)
    with pytest.raises(TypeError, match="reshape: shape"):
        ts.reshape(ts.arange(6), ts.asarray([3.0, 2.0]))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_at_the_limits(dtype: str) -> None:
    most, inf = float(np.finfo(dtype).max), math.inf
    z = np.array([complex(inf, 1), complex(-inf, 1), complex(2, -inf), complex(most, most)], dtype)
    expected = np.array([1, -1, -1j, (0.5**0.5) * (1 + 1j)], dtype)
    np.testing.assert_allclose(ts.sign(ts.asarray(z)).numpy(), expected, rtol=1e-6)
    z = np.array([complex(1, -0.0), complex(inf, 0)], dtype)
    assert not np.signbit(ts.expm1(ts.asarray(np.array([complex(-0.0, 0.0)], dtype))).numpy().real[0])
    powers = ts.exp2(ts.asarray(z)).numpy()
    np.testing.assert_array_equal(powers, np.array([2, inf], dtype))
    assert np.signbit(powers.imag[0])
    z = np.array([complex(inf, 1), 1], dtype)
    assert ts.cumprod(ts.asarray(z))[0].item() == complex(inf, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rfft_of_the_largest_numbers(dtype: str) -> None:
    most = float(np.finfo(dtype).max)
    np.testing.assert_array_equal(ts.fft.rfft(ts.asarray([most, 0.0], dtype)).numpy(), [most, most])
    assert ts.fft.rfft(ts.asarray([most / 2, most / 2], dtype))[1].item() == 0


def test_what_would_be_lost_is_refused() -> None:
    x = ts.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        x.imag[0] = 9


def test_a_dtype_is_no_array() -> None:
    assert (ts.ones(2).dtype == np.array([1, 2])) is False and ts.ones(2).dtype != [float]
