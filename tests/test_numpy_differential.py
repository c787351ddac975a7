"""Hypothesis programs in NumPy and here: the same results, dtypes and errors, or a difference listed in docs/numpy.md.

TENSORSMITH_EXAMPLES sets the number of generated cases of each family, 500 by default.
"""

# ruff: noqa: SIM905
from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

hypothesis = pytest.importorskip("hypothesis", reason="Hypothesis generates the programs")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

EXAMPLES = int(os.environ.get("TENSORSMITH_EXAMPLES", "500"))
examples = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64"]
REAL = ["bool", *INTEGERS, *FLOATS]
ALL = [*REAL, "float16", "complex64", "complex128"]


@pytest.fixture(autouse=True)
def as_numpy() -> Iterator[None]:
    """float64 for what has no dtype: NumPy's default."""
    before = ts.get_default_dtype()
    ts.set_default_dtype("float64")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
    ts.set_default_dtype(before)


def elements(dtype: Any) -> st.SearchStrategy[Any]:
    kind = np.dtype(dtype).kind
    if kind in "iu":
        info = np.iinfo(dtype)
        return st.sampled_from([0, 1, 2, 3, 5, 100, info.max, info.min]) | st.integers(max(info.min, -9), 9)
    if kind == "b":
        return st.booleans()
    numbers = st.sampled_from([0.0, -0.0, 0.5, -1.5, 2.0, 3.25, float("inf"), float("-inf"), float("nan")])
    if kind == "c":
        finite = st.sampled_from([0.0, 0.5, -1.5, 2.0, 3.25])
        return st.builds(complex, finite, finite)
    return numbers


@st.composite
def arrays(
    draw: Any,
    dtypes: list[str] = REAL,
    shape: Any = None,
    min_dims: int = 0,
    max_dims: int = 3,
    min_side: int = 0,
) -> np.ndarray[Any, Any]:
    """An array of any layout: contiguous, transposed, with steps, reversed."""
    dtype = draw(st.sampled_from(dtypes))
    if shape is None:
        shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=4))
    layout = draw(st.sampled_from(["plain", "transposed", "step", "reversed"]))
    low = max(np.iinfo(dtype).min, -9) if np.dtype(dtype).kind in "iu" else None
    fill = elements(dtype) if low is None else st.integers(max(low, -9), 9)
    if layout == "transposed":
        return draw(hnp.arrays(dtype, shape[::-1], elements=elements(dtype), fill=fill)).T
    if layout == "step":
        wide = tuple(2 * n for n in shape)
        return draw(hnp.arrays(dtype, wide, elements=elements(dtype), fill=fill))[
            tuple(slice(None, None, 2) for _ in shape)
        ]
    x = draw(hnp.arrays(dtype, shape, elements=elements(dtype), fill=fill))
    return x[tuple(slice(None, None, -1) for _ in shape)] if layout == "reversed" else x


UNARY = """
negative positive square sign isnan isinf isfinite logical_not conj real imag
""".split()
ELEMENTARY = """
exp log log2 log10 log1p expm1 sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arccosh arctanh sqrt
""".split()
REDUCTIONS = """
sum prod max min any all argmax argmin count_nonzero cumsum cumprod ptp
""".split()
STATISTICS = """
mean var std median nansum nanmean nanmax nanmin nanvar nanmedian average
""".split()
SHAPES = """
flip roll repeat tile moveaxis expand_dims swapaxes delete insert append rot90 diff
""".split()

ERRORS = (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError)


def agree(
    reference: Callable[[], Any], ours: Callable[[], Any], rtol: float = 0.0, atol: float = 0.0
) -> None:
    """Both raise, or both give the same shapes, dtypes and values."""
    try:
        expected = reference()
    except ERRORS:
        with pytest.raises(ERRORS):
            ours()
        return
    got = ours()
    pairs = zip(expected, got, strict=True) if isinstance(expected, (tuple, list)) else [(expected, got)]
    for e, g in pairs:
        e = np.asarray(e)
        g = np.asarray(g)
        assert (g.dtype, g.shape) == (e.dtype, e.shape)
        if e.dtype.kind in "fc" and (rtol or atol):
            limit = {"e": 2.0**-10, "f": 2.0**-20, "F": 2.0**-20}.get(e.dtype.char, 0.0)
            np.testing.assert_allclose(g, e, rtol=max(rtol, limit), atol=max(atol, limit))
        else:
            np.testing.assert_array_equal(g, e)


def t(x: Any) -> Any:
    return ts.asarray(x)


# --- pointwise ----------------------------------------------------------------------------------------

ARITHMETIC = ["add", "subtract", "multiply", "equal", "not_equal", "logical_and", "logical_or", "logical_xor"]
ORDER = ["less", "less_equal", "greater", "greater_equal", "maximum", "minimum"]
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor"]


@examples
@given(st.data())
def test_binary(data: Any) -> None:
    name = data.draw(st.sampled_from(ARITHMETIC + ORDER + BITS))
    dtypes = [*INTEGERS, "bool"] if name in BITS else REAL if name in ORDER else ALL
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4)).input_shapes
    a = data.draw(arrays(dtypes, shapes[0]))
    b = data.draw(
        arrays(dtypes, shapes[1]) | st.sampled_from([0, 1, 2, True] + ([] if name in BITS else [0.5, -3]))
    )
    right = t(b) if isinstance(b, np.ndarray) else b
    agree(lambda: getattr(np, name)(a, b), lambda: getattr(ts, name)(t(a), right), 1e-12, 1e-12)


@examples
@given(arrays(ALL), st.sampled_from(UNARY))
def test_unary(a: np.ndarray[Any, Any], name: str) -> None:
    if a.dtype == bool and name in ("negative", "sign", "positive", "conj"):
        a = a.astype("int8")
    agree(lambda: getattr(np, name)(a), lambda: getattr(ts, name)(t(a)), 1e-6, 1e-6)


@examples
@given(arrays(["float32", "float64", "complex64", "complex128"]), st.sampled_from(ELEMENTARY))
def test_elementary(a: np.ndarray[Any, Any], name: str) -> None:
    agree(lambda: getattr(np, name)(a), lambda: getattr(ts, name)(t(a)), 1e-12, 1e-13)


@examples
@given(st.sampled_from(ALL), st.sampled_from(ALL), st.data())
def test_casts(source: str, target: str, data: Any) -> None:
    a = data.draw(arrays([source]))
    if np.dtype(source).kind == "c" and np.dtype(target).kind not in "cb":
        with pytest.raises(TypeError, match="imaginary"):
            ts.astype(t(a), target)
        return
    if np.dtype(source).kind == "f" and np.dtype(target).kind in "iu":
        a = np.where(np.isfinite(a), np.abs(a), 0).astype(source)  # elsewhere we saturate
    agree(lambda: a.astype(target), lambda: ts.astype(t(a), target))


# --- indexing -----------------------------------------------------------------------------------------


@st.composite
def keys(draw: Any, shape: tuple[int, ...]) -> Any:
    """Basic and advanced keys, mixed: integers, slices, None, Ellipsis, integer arrays, masks."""
    if draw(st.booleans()):
        return draw(hnp.basic_indices(shape, allow_newaxis=True))
    items: list[Any] = []
    axis = 0
    index_shape = draw(st.sampled_from([(), (2,), (3,), (2, 1), (1, 3)]))
    while axis < len(shape) and draw(st.booleans() if items else st.just(True)):
        n = shape[axis]
        kind = draw(st.sampled_from(["array", "slice", "integer", "mask", "none"]))
        if kind == "none":
            items.append(None)
            continue
        if kind == "slice" or n == 0:
            items.append(draw(st.slices(n)))
        elif kind == "integer":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "mask":
            items.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))))
        else:
            items.append(draw(hnp.arrays("int64", index_shape, elements=st.integers(-n, n - 1))))
        axis += 1
    if draw(st.booleans()):
        items.append(Ellipsis)
    return tuple(items)


def ours(key: Any) -> Any:
    return tuple(t(k) if isinstance(k, np.ndarray) else k for k in key) if isinstance(key, tuple) else key


@examples
@given(st.data())
def test_getitem(data: Any) -> None:
    a = data.draw(arrays(ALL, min_dims=1))
    key = data.draw(keys(a.shape))
    agree(lambda: a[key], lambda: t(a)[ours(key)])


@examples
@given(st.data())
def test_setitem(data: Any) -> None:
    a = data.draw(arrays(ALL, min_dims=1)).copy()
    key = data.draw(keys(a.shape))
    try:
        chosen = a[key]
    except IndexError:
        with pytest.raises(IndexError):
            t(a)[ours(key)] = 1
        return
    value: Any = 1
    if data.draw(st.booleans()):
        value = (np.arange(chosen.size).reshape(chosen.shape) % 2).astype(a.dtype)
    x = ts.array(a)
    a[key] = value
    x[ours(key)] = t(value) if isinstance(value, np.ndarray) else value
    np.testing.assert_array_equal(x.numpy(), a)


# --- reductions and order -----------------------------------------------------------------------------


@examples
@given(st.data())
def test_reductions(data: Any) -> None:
    name = data.draw(st.sampled_from(REDUCTIONS))
    a = data.draw(arrays([*INTEGERS, *FLOATS], min_dims=1, min_side=1))
    if a.dtype.kind == "f":
        a = np.where(np.isfinite(a), a, 1).astype(a.dtype)
    axis = data.draw(st.none() | st.integers(-a.ndim, a.ndim - 1))
    options = {} if name in ("cumsum", "cumprod") else {"keepdims": data.draw(st.booleans())}
    agree(
        lambda: getattr(np, name)(a, axis=axis, **options),
        lambda: getattr(ts, name)(t(a), axis=axis, **options), 1e-12, 1e-12,
    )  # fmt: skip


@examples
@given(st.data())
def test_statistics(data: Any) -> None:
    name = data.draw(st.sampled_from(STATISTICS))
    a = data.draw(arrays(["float64", "float32"], min_dims=1, min_side=1))
    a = np.where(np.isinf(a), 4, a).astype(a.dtype)
    axis = data.draw(st.none() | st.integers(-a.ndim, a.ndim - 1))
    agree(lambda: getattr(np, name)(a, axis=axis), lambda: getattr(ts, name)(t(a), axis=axis), 1e-6, 1e-6)


@examples
@given(st.data())
def test_quantiles(data: Any) -> None:
    a = data.draw(arrays(["float64"], min_dims=1, min_side=1))
    a = np.where(np.isfinite(a), a, 1.0)
    q = data.draw(
        st.floats(0, 1) | st.lists(st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1]), min_size=1, max_size=3)
    )
    axis = data.draw(st.none() | st.integers(-a.ndim, a.ndim - 1))
    method = data.draw(
        st.sampled_from(["linear", "lower", "higher", "nearest", "midpoint", "hazen", "weibull"])
    )
    agree(
        lambda: np.quantile(a, q, axis=axis, method=method),
        lambda: ts.quantile(t(a), q, axis=axis, method=method), 1e-9, 1e-9,
    )  # fmt: skip


@examples
@given(st.data())
def test_sorting(data: Any) -> None:
    a = data.draw(arrays(REAL, min_dims=1))
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    agree(lambda: np.sort(a, axis=axis), lambda: ts.sort(t(a), axis=axis))
    agree(lambda: np.argsort(a, axis=axis, kind="stable"), lambda: ts.argsort(t(a), axis=axis))
    agree(lambda: np.unique(a), lambda: ts.unique(t(a)))


@examples
@given(st.data())
def test_sets(data: Any) -> None:
    a, b = data.draw(arrays(INTEGERS)), data.draw(arrays(INTEGERS))
    name = data.draw(st.sampled_from(["isin", "union1d", "intersect1d", "setdiff1d", "setxor1d"]))
    got = getattr(ts, name)(t(a), t(b))
    expected = getattr(np, name)(a, b)
    np.testing.assert_array_equal(got.numpy(), expected)


# --- shapes -------------------------------------------------------------------------------------------


@examples
@given(st.data())
def test_joining_and_splitting(data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    parts = [data.draw(arrays(ALL, shape)) for _ in range(data.draw(st.integers(1, 3)))]
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    name = data.draw(st.sampled_from(["concatenate", "stack", "vstack", "hstack", "dstack", "column_stack"]))
    options = {"axis": axis} if name in ("concatenate", "stack") else {}
    agree(
        lambda: getattr(np, name)(parts, **options),
        lambda: getattr(ts, name)([t(p) for p in parts], **options),
    )
    n = data.draw(st.integers(1, 4))
    agree(lambda: np.array_split(parts[0], n, axis=axis), lambda: ts.array_split(t(parts[0]), n, axis=axis))
    agree(lambda: np.split(parts[0], n, axis=axis), lambda: ts.split(t(parts[0]), n, axis=axis))


@examples
@given(st.data())
def test_shape_operations(data: Any) -> None:
    a = data.draw(arrays(ALL, min_dims=1, min_side=1))
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    name = data.draw(st.sampled_from(SHAPES))
    k = data.draw(st.integers(0, 3))
    calls: dict[str, tuple[Any, ...]] = {
        "flip": (axis,), "roll": (k, axis), "repeat": (k, axis), "tile": (k,), "moveaxis": (axis, 0),
        "expand_dims": (axis,), "swapaxes": (axis, 0), "delete": (0, axis), "insert": (0, 1, axis), "append": (a, axis),
        "rot90": (k,), "diff": (1, axis),
    }  # fmt: skip
    args = calls[name]
    agree(lambda: getattr(np, name)(a, *args), lambda: getattr(ts, name)(t(a), *args))


@examples
@given(st.data())
def test_pad(data: Any) -> None:
    a = data.draw(arrays([*INTEGERS, "float64"], min_dims=1, max_dims=2, min_side=1))
    width = [(data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))) for _ in range(a.ndim)]
    mode = data.draw(
        st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap", "maximum", "minimum"])
    )
    agree(lambda: np.pad(a, width, mode=mode), lambda: ts.pad(t(a), width, mode=mode))


# --- products and transforms ----------------------------------------------------------------------------

EINSUM = ["ij,jk->ik", "ij,jk", "ii->i", "ii", "ij->ji", "ij->", "ij,ij->i", "i,j->ij", "bij,bjk->bik", "ij,jk,kl->il",
          "...ij,...jk->...ik", "ij,kj->ik", "i,i", "ij,j", "ijk->kji", "ij,ij"]  # fmt: skip


@examples
@given(st.sampled_from(EINSUM), st.sampled_from(["float64", "int64", "complex128", "int16"]), st.data())
def test_einsum(subscripts: str, dtype: str, data: Any) -> None:
    letters = {c: data.draw(st.integers(1, 4)) for c in "ijklb"}
    operands = []
    for term in subscripts.split("->")[0].split(","):
        shape = tuple(letters[c] for c in term.replace("...", ""))
        operands.append(data.draw(arrays([dtype], ((2,) if "..." in term else ()) + shape)))
    operands = [np.where(np.isfinite(x), x, 1).astype(dtype) for x in operands]
    agree(
        lambda: np.einsum(subscripts, *operands),
        lambda: ts.einsum(subscripts, *map(t, operands)),
        1e-12,
        1e-12,
    )


@examples
@given(st.data())
def test_products(data: Any) -> None:
    dtype = data.draw(st.sampled_from([*INTEGERS, *FLOATS, "complex64", "complex128"]))
    m, k, n = (data.draw(st.integers(0 if i != 1 else 1, 5)) for i in range(3))
    a, b = data.draw(arrays([dtype], (m, k))), data.draw(arrays([dtype], (k, n)))
    a, b = (np.where(np.isfinite(x), x, 1).astype(dtype) for x in (a, b))
    name = data.draw(st.sampled_from(["matmul", "dot", "kron", "outer", "tensordot"]))
    args = (1,) if name == "tensordot" else ()
    agree(lambda: getattr(np, name)(a, b, *args), lambda: getattr(ts, name)(t(a), t(b), *args), 1e-12, 1e-12)


@examples
@given(st.data())
def test_fft(data: Any) -> None:
    name = data.draw(
        st.sampled_from(["fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fftn", "ifftn", "rfftn", "irfftn"])
    )
    real = name in ("rfft", "ihfft", "rfftn")
    dtypes = FLOATS if real else ["complex64", "complex128", *FLOATS]
    a = data.draw(arrays(dtypes, min_dims=1, min_side=2))
    a = np.where(np.isfinite(a), a, 1).astype(a.dtype)
    norm = data.draw(st.sampled_from(["backward", "forward", "ortho"]))
    n = data.draw(st.none() | st.integers(2, 70)) if not name.endswith("n") else None
    options = {"norm": norm} | ({"n": n} if n is not None else {})
    agree(
        lambda: getattr(np.fft, name)(a, **options),
        lambda: getattr(ts.fft, name)(t(a), **options),
        1e-11,
        1e-11,
    )
