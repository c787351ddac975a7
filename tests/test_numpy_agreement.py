"""Generated programs give what NumPy gives: values, shapes, dtypes, and an error where NumPy has one.

What differs by design is left out of the programs or corrected here:

- a float without a dtype is float32; the fixture sets float64, with which NumPy's dtypes follow;
- where NumPy computes small integers in float16 or float64 we use the default float;
- float to integer saturates and NaN becomes 0; NumPy leaves both undefined;
- an integer division by 0 raises ZeroDivisionError, NumPy warns and returns 0;
- max and argmax along an empty axis raise only if there is a result to fill.
"""

# ruff: noqa: B023, SIM905
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

DTYPES = [
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
]  # fmt: skip
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1.5, 0.5, 2.5]

# On bools they are no operation here; in NumPy neither, or one that gives int8.
NUMBERS_ONLY = {"subtract", "negative", "sign", "square", "power", "floor_divide", "remainder"}
BITS = {
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "bitwise_invert",
}
BINARY = """
    add subtract multiply divide floor_divide remainder power maximum minimum less less_equal greater
    greater_equal equal not_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor
    bitwise_left_shift bitwise_right_shift atan2 hypot logaddexp copysign
""".split()
UNARY = """
    negative absolute sign square sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh asin
    acos atan isnan isinf isfinite logical_not bitwise_invert
""".split()


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = ts.get_default_dtype()
    ts.set_default_dtype("float64")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of means of nothing
        yield
    ts.set_default_dtype(before)


class Maker:
    """Random arrays: shapes with 0 and 1, edge values, memory orders."""

    def __init__(self, seed: int) -> None:
        self.r = np.random.default_rng(seed)

    def pick(self, choices: Any) -> Any:
        return choices[int(self.r.integers(len(choices)))]

    def shape(self, most: int = 3) -> tuple[int, ...]:
        return tuple(self.pick([0, 1, 2, 3, 5, 17]) for _ in range(self.r.integers(most + 1)))

    def array(self, dtype: str | None = None, shape: tuple[int, ...] | None = None) -> Any:
        dtype = dtype or self.pick(DTYPES)
        shape = self.shape() if shape is None else shape
        edge = self.r.random(shape) < 0.1
        if dtype == "bool":
            return np.asarray(self.r.integers(0, 2, shape)).astype(bool)
        if dtype.startswith("float"):
            values = self.r.normal(size=shape) * self.pick([1, 10, 1e3])
            return self.layout(np.where(edge, self.r.choice(SPECIAL, shape), values).astype(dtype))
        info = np.iinfo(dtype)
        values = np.asarray(self.r.integers(max(info.min, -9), 10, shape)).astype(dtype)
        return self.layout(
            np.where(edge, self.r.choice(np.array([info.min, info.max, 0], dtype), shape), values)
        )

    def layout(self, a: Any) -> Any:
        """The same values, dense, transposed, every second one, or backwards in memory."""
        kind = self.r.integers(4) if a.ndim else 0
        if kind == 1:
            return np.ascontiguousarray(a.T).T
        if kind == 2:
            wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
            wide[..., ::2] = a
            return wide[..., ::2]
        return np.ascontiguousarray(a[::-1])[::-1] if kind == 3 else a


def agree(expected: Callable[[], Any], got: Callable[[], Any], tolerance: float, what: Any) -> None:
    """Both raise, or both give the same shape, dtype and values."""
    try:
        e = expected()
    except Exception:
        with pytest.raises((ValueError, IndexError, TypeError, OverflowError)):
            got()
        return
    g = got()
    if isinstance(e, (tuple, list)):
        assert len(e) == len(g), what
        for a, b in zip(e, g):
            same(np.asarray(a), b, tolerance, what)
    else:
        same(np.asarray(e), g, tolerance, what)


def same(e: Any, g: Any, tolerance: float, what: Any) -> None:
    values = np.asarray(g)
    assert values.shape == e.shape, what
    if e.dtype != np.float16:
        assert values.dtype == e.dtype, what
    if tolerance and values.dtype.kind == "f":
        finite = np.abs(e[np.isfinite(e)])
        scale = float(finite.max()) if finite.size else 0.0
        unit = 2.0**-24 if values.dtype == np.float32 else 2.0**-53
        near = np.abs(values - e) <= tolerance * unit * scale + np.finfo(e.dtype).tiny
        assert (near | (values == e) | ((values != values) & (e != e))).all(), (what, e, values)
    else:
        np.testing.assert_array_equal(values, e.astype(values.dtype), err_msg=str(what))


@pytest.mark.parametrize("name", BINARY + UNARY)
def test_pointwise(name: str) -> None:
    m = Maker(len(name) * 1000 + ord(name[0]))
    reference = getattr(np, name)
    for _ in range(40 if name in BINARY else 15):
        dtypes = [d for d in DTYPES if (d != "bool" or name not in NUMBERS_ONLY)]
        # uint64 and a signed integer meet in float64, which has no bit operations.
        dtypes = [d for d in dtypes if "float" not in d and d != "uint64"] if name in BITS else dtypes
        if "shift" in name:
            dtypes.remove("bool")
        a = m.array(m.pick(dtypes))
        args = [a]
        if name in BINARY:
            shape = tuple(1 if m.r.random() < 0.2 else n for n in a.shape)[m.pick([0, 0, 0, 1]) :]
            args.append(m.array(m.pick(dtypes), shape) if m.r.random() < 0.8 else m.pick([2, 7, 1]))
            integers = np.result_type(*args).kind in "biu"
            if integers and name in ("floor_divide", "remainder") and not np.all(args[1]):
                with pytest.raises(ZeroDivisionError, match=name):
                    getattr(ts, name)(*args)
                continue
            if integers and name == "power":
                args[1] = np.abs(args[1])  # NumPy refuses negative exponents, we too
                if np.any(args[1] < 0):  # |int64's least|
                    continue
        e = reference(*args)
        if e.dtype.kind == "f" and all(
            np.asarray(x).dtype.kind in "biu" for x in args
        ):  # in the default float
            e = reference(*(np.asarray(x).astype("float64") for x in args))
        got = getattr(ts, name)(*(ts.asarray(x) if isinstance(x, np.ndarray) else x for x in args))
        what = (name, [(np.asarray(x).dtype, np.shape(x)) for x in args])
        assert got.shape == e.shape and (got.dtype == e.dtype), what
        values = got.numpy()
        if e.dtype.kind == "f":
            info = np.finfo(e.dtype)
            bound = 4 * info.eps * np.abs(e) + 2 * info.smallest_subnormal
            if name == "logaddexp":  # near 0 it is a difference
                bound = bound + 4 * info.eps
            ok = (np.abs(values - e) <= bound) | (values == e) | ((values != values) & (e != e))
        else:
            ok = values == e
        assert np.all(ok), (what, values[~ok][:3], e[~ok][:3])


REDUCTIONS = [
    "sum",
    "prod",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "any",
    "all",
    "argmax",
    "argmin",
    "count_nonzero",
]


@pytest.mark.parametrize("name", [*REDUCTIONS, "cumsum"])
def test_reductions(name: str) -> None:
    m = Maker(sum(map(ord, name)))
    for _ in range(80):
        a = m.array()
        axis: Any = m.pick([None, *range(-a.ndim, a.ndim)])
        if a.ndim and m.r.random() < 0.3 and name not in ("argmax", "argmin", "cumsum"):
            axis = tuple(int(x) for x in m.r.permutation(a.ndim)[: m.r.integers(1, a.ndim + 1)])
        if 0 in a.shape and name in ("max", "min", "argmax", "argmin"):
            axis = None  # raises in both
        options = {} if name == "cumsum" else {"keepdims": bool(m.r.integers(2))}
        if name in ("var", "std"):
            options["ddof"] = int(m.r.integers(3))
        t = ts.asarray(a)
        what = (name, a.dtype, a.shape, a.strides, axis, options)
        if name in ("var", "std", "mean", "sum", "cumsum", "prod"):  # an order of summation is no error
            limit = 2 if name == "prod" and a.dtype.kind == "f" else 1e4  # no inf on the way to 0
            a = np.where(np.abs(a.astype("f8")) < limit, a, 1).astype(a.dtype)
            t = ts.asarray(m.layout(a))
        agree(
            lambda: getattr(np, name)(a, axis=axis, **options),
            lambda: getattr(ts, name)(t, axis=axis, **options),
            500 if name != "prod" else 5000,
            what,
        )


def index(m: Maker, n: int) -> Any:
    kind = m.r.integers(8)
    if kind <= 2:
        bounds = [m.pick([None, *range(-n - 2, n + 3)]) for _ in range(2)]
        return slice(*bounds, m.pick([None, 1, 2, -1, -2, 3]))
    if kind == 3 and n:
        return m.pick([int, np.int64])(m.r.integers(-n, n))
    if kind == 4 and n:
        return m.r.integers(-n, n, tuple(m.pick([0, 1, 2, 3]) for _ in range(m.r.integers(3))))
    if kind == 5:
        return m.r.random(n) < 0.5
    if kind == 6 and n:
        return [int(x) for x in m.r.integers(-n, n, 2)]
    return slice(None)


def key_for(m: Maker, shape: tuple[int, ...]) -> Any:
    if m.r.random() < 0.08:
        return m.r.random(shape) < 0.5
    items: list[Any] = []
    stop = int(m.r.integers(len(shape) + 1))
    i = 0
    while i < stop:
        chance = m.r.random()
        if chance < 0.1:
            items.append(None)
        elif chance < 0.2 and i + 2 <= stop:
            items.append(m.r.random(shape[i : i + 2]) < 0.5)
            i += 2
        else:
            items.append(index(m, shape[i]))
            i += 1
    if stop == len(shape):
        items.insert(int(m.r.integers(len(items) + 1)), ...) if m.r.random() < 0.3 else None
    return items[0] if len(items) == 1 and m.r.random() < 0.5 else tuple(items)


def ours(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(ours(k) for k in key)
    return ts.asarray(key) if isinstance(key, np.ndarray) else key


@pytest.mark.parametrize("seed", range(4))
def test_getitem(seed: int) -> None:
    m = Maker(seed)
    for _ in range(250):
        shape = tuple(m.pick([1, 2, 3, 4, 5]) for _ in range(m.r.integers(5)))
        a = m.layout(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(m.pick(DTYPES)))
        key = key_for(m, a.shape)
        agree(lambda: a[key], lambda: ts.asarray(a)[ours(key)], 0, (a.shape, key))


@pytest.mark.parametrize("seed", range(4))
def test_setitem(seed: int) -> None:
    m = Maker(100 + seed)
    for _ in range(200):
        shape = tuple(m.pick([3, 4, 5]) for _ in range(m.r.integers(5)))
        a = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(m.pick(DTYPES))
        key = key_for(m, a.shape)
        try:
            selected = a[key].shape
        except IndexError:
            selected = (1,)
        value = 5
        if m.r.random() < 0.7:
            part = tuple(1 if m.r.random() < 0.2 else n for n in selected)[m.pick([0, 0, 1]) :]
            value = m.r.integers(0, 90, part).astype(m.pick(DTYPES))

        def reference() -> Any:
            b = a.copy()
            b[key] = value
            return b

        def got() -> Any:
            b = ts.array(a)
            b[ours(key)] = ours(value)
            return b

        agree(reference, got, 0, (a.dtype, a.shape, key, value))


@pytest.mark.parametrize("seed", range(3))
def test_matmul(seed: int) -> None:
    m = Maker(200 + seed)
    for _ in range(150):
        rows, inner, columns = (m.pick([0, 1, 2, 3, 5, 8, 17, 33]) for _ in range(3))
        batch = tuple(m.pick([1, 2, 3]) for _ in range(m.r.integers(3)))
        other = tuple(1 if m.r.random() < 0.3 else n for n in batch)[int(m.r.integers(len(batch) + 1)) :]
        left = (*batch, rows, inner) if m.r.random() < 0.8 else (inner,)
        right = (*other, inner + (m.r.random() < 0.03), columns) if m.r.random() < 0.8 else (inner,)
        dtypes = [m.pick(DTYPES[1:]), m.pick(DTYPES[1:])]
        a, b = (
            m.layout((m.r.normal(size=s) * (1 if "f" in d else 10)).astype("i8" if "i" in d else d).astype(d))
            for s, d in zip((left, right), dtypes)
        )
        agree(
            lambda: a @ b,
            lambda: ts.asarray(a) @ ts.asarray(b),
            200,
            (dtypes, left, right),
        )


@pytest.mark.parametrize("seed", range(3))
def test_shapes(seed: int) -> None:
    m = Maker(300 + seed)
    for _ in range(150):
        a = m.array()
        t, n = ts.asarray(a), a.ndim
        axis, second, count = (int(m.r.integers(-n - 1, n + 1)) for _ in range(3))
        other = m.array(shape=a.shape)
        for name, call in {
            "flip": lambda lib, x: lib.flip(x, axis=axis),
            "roll": lambda lib, x: lib.roll(x, count, axis=axis),
            "roll all": lambda lib, x: lib.roll(x, count, axis=tuple(range(n))) if n else x + x,
            "repeat": lambda lib, x: lib.repeat(x, abs(count), axis=axis if n else None),
            "tile": lambda lib, x: lib.tile(x, (abs(count), 2)),
            "concatenate": lambda lib, x: lib.concatenate([x, lib.asarray(other)], axis=axis),
            "stack": lambda lib, x: lib.stack([x, lib.asarray(other)], axis=axis),
            "expand_dims": lambda lib, x: lib.expand_dims(x, axis),
            "squeeze": lambda lib, x: lib.squeeze(x, axis=axis if n else None),
            "swapaxes": lambda lib, x: lib.swapaxes(x, axis, second),
            "moveaxis": lambda lib, x: lib.moveaxis(x, axis, second),
            "reshape": lambda lib, x: lib.reshape(x, (-1, 2)),
            "ravel": lambda lib, x: lib.ravel(x.T),
            "tril": lambda lib, x: lib.tril(x, count) if n > 1 else x.T,
            "where": lambda lib, x: lib.where(lib.asarray(other) != 0, x, lib.asarray(other)),
            "split": lambda lib, x: lib.split(x, 2, axis=axis),
            "isclose": lambda lib, x: lib.isclose(x, lib.asarray(other)),
            "nonzero": lambda lib, x: lib.nonzero(x),
        }.items():
            agree(lambda: call(np, a), lambda: call(ts, t), 0, (name, a.dtype, a.shape, axis, second))


def test_casts() -> None:
    """To an integer: towards 0, saturating, NaN to 0; from an integer: wrapping; to bool: whether not 0."""
    values = [0.0, -0.0, 0.5, -0.9, 1.5, -1.5, 255.9, 256.0, -1.0, 2.0**31, 2.0**31 - 1, -(2.0**31) - 1]
    values += [2.0**63, -(2.0**63), 1e300, -1e300, np.inf, -np.inf, np.nan, 2.0**53 + 2, 5e-324]
    for source in ("float32", "float64"):
        a = np.array(values).astype(source)
        for target in ("uint8", "int32", "int64"):
            info = np.iinfo(target)
            expected = [
                0 if v != v else max(info.min, min(info.max, int(v))) if abs(v) < np.inf else
                (info.max if v > 0 else info.min)
                for v in a.tolist()
            ]  # fmt: skip
            for length in (1, len(a)):
                got = ts.asarray(a)[:length].astype(target)
                assert got.tolist() == expected[:length], (source, target)
        np.testing.assert_array_equal(ts.asarray(a).astype("bool").numpy(), a != 0)
    integers = np.array([0, 1, -1, 255, 256, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)])
    for target in DTYPES:
        np.testing.assert_array_equal(ts.asarray(integers).astype(target).numpy(), integers.astype(target))


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_python_numbers_reach_their_dtype_unrounded(default: str) -> None:
    ts.set_default_dtype(default)
    for value in (0.1, [0.1, 1e-320], [[0.1], [1e300]]):
        np.testing.assert_array_equal(ts.asarray(value, dtype="float64").numpy(), np.asarray(value))
        np.testing.assert_array_equal(ts.tensor(value, dtype=ts.float64).numpy(), np.asarray(value))
    assert ts.asarray([16777217.0], dtype="int64").tolist() == [16777217]
    x = ts.zeros(3, dtype="float64")
    x[[0, 2]] = 0.1
    x[x == 0] = [0.2]
    assert x.tolist() == [0.1, 0.2, 0.1]
    with pytest.raises(OverflowError, match=r"asarray: the integer 300 does not fit uint8"):
        ts.asarray([1, 300], dtype="uint8")


@pytest.mark.parametrize("seed", range(2))
def test_overlap(seed: int) -> None:
    """Operands that share memory with the destination are read as they were before."""
    m = Maker(400 + seed)
    for _ in range(100):
        a = np.arange(30).astype(m.pick(DTYPES[1:]))
        x = ts.array(a)
        target = slice(int(m.r.integers(10)), int(m.r.integers(12, 30)), int(m.r.integers(1, 3)))
        n = len(a[target])
        start = int(m.r.integers(31 - n))
        backwards = slice(start + n - 1, start - 1 if start else None, -1)
        source = m.pick([slice(start, start + n), backwards])
        name = m.pick(["add", "subtract", "multiply", "maximum"])
        a[target] = getattr(np, name)(a[target].copy(), a[source].copy())
        getattr(x[target], name + "_")(x[source])
        np.testing.assert_array_equal(x.numpy(), a)
        a[target] = a[source].copy()
        x[target] = x[source]
        np.testing.assert_array_equal(x.numpy(), a)


def test_allclose_of_many() -> None:
    """Blocks: one element that differs is found wherever it lies, in every layout."""
    x = np.random.default_rng(0).standard_normal((300, 501))
    for where in (0, 40_000, 65_536, x.size - 1):
        y = x.copy()
        y.flat[where] += 1e-3
        assert ts.allclose(ts.asarray(x), ts.asarray(x)) and not ts.allclose(ts.asarray(x), ts.asarray(y))
        assert not ts.allclose(ts.asarray(x).T, ts.asarray(y).T)
        assert ts.allclose(ts.asarray(x), ts.asarray(y), atol=1e-2)
        y.flat[where] = np.nan
        assert not ts.allclose(ts.asarray(y), ts.asarray(y))
        assert ts.allclose(ts.asarray(y).requires_grad_(), ts.asarray(y), equal_nan=True)
    assert ts.allclose(ts.asarray(x), ts.asarray(x[:1]), atol=100.0)
    assert not ts.allclose(ts.asarray(x), ts.asarray(x[:, :1]))
    assert ts.allclose(ts.asarray(x), x + 1j * 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var"])
def test_columns_that_no_cache_holds(name: str, dtype: str) -> None:
    """Added row after row into a table: the bits that the rows of the transposed copy give."""
    x = np.random.default_rng(0).standard_normal((4100 if dtype == "float32" else 2051, 1603)).astype(dtype)
    x[5, 7], x[:, 3], x[:, 9] = np.nan, -0.0, np.finfo(dtype).smallest_subnormal
    ours = getattr(ts, name)(ts.asarray(x), axis=0).numpy()
    rows = getattr(ts, name)(ts.asarray(np.ascontiguousarray(x.T)), axis=1).numpy()
    assert ours.tobytes() == rows.tobytes()
    view = getattr(ts, name)(ts.asarray(x)[:, 2:-3], axis=0).numpy()
    assert view.tobytes() == rows[2:-3].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint32"])
@pytest.mark.parametrize("kind", ["random", "few", "ascending", "descending", "equal", "special"])
@pytest.mark.parametrize("n", [4097, 8193, 16_385, 100_003])
def test_sorts_in_place(n: int, kind: str, dtype: str) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n) * 1e5 + (1e6 if dtype == "uint32" else 0)
    if kind == "few":
        x = np.round(x / 1e5)
    elif kind in ("ascending", "descending"):
        x = np.sort(x)[:: 1 if kind == "ascending" else -1]
    elif kind == "equal":
        x = np.full(n, 3.0)
    elif kind == "special" and dtype[0] == "f":
        for value in (np.nan, -0.0, np.inf, 0.0):
            x[rng.integers(0, n, n // 5)] = value
    x = np.abs(x).astype(dtype) if dtype == "uint32" else x.astype(dtype)
    if kind == "special" and dtype == "int64":
        x = rng.integers(-(2**62), 2**62, n)
    expected = np.sort(x)
    threads = ts.get_num_threads()
    try:
        for count in (1, 2):
            ts.set_num_threads(count)
            y = ts.sort(ts.asarray(x)).numpy()
            np.testing.assert_array_equal(y, expected)
            signs = np.signbit(y[y == 0])
            assert (signs == np.sort(np.signbit(x[x == 0]))[::-1]).all()
            numbers = expected[expected == expected]
            down = ts.sort(ts.asarray(x), descending=True).numpy()
            np.testing.assert_array_equal(down[: numbers.size], numbers[::-1])
    finally:
        ts.set_num_threads(threads)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint64", "float32"])
@pytest.mark.parametrize("number", [0, 1, -3, 300, 2**63, 2**64 - 1])
def test_of_an_integer_only_its_truth_counts(name: str, dtype: str, number: int) -> None:
    x = np.array([0, 1, 2]).astype(dtype)
    for a, b in ((x, number), (number, x)):
        ours = [v if v is number else ts.asarray(v) for v in (a, b)]
        expected = getattr(np, name)(np.asarray(a, bool), np.asarray(b, bool))
        np.testing.assert_array_equal(getattr(ts, name)(*ours).numpy(), expected)
        out = ts.zeros(3, dtype="bool")
        np.testing.assert_array_equal(getattr(ts, name)(*ours, out=out).numpy(), expected)
