"""NumPy's functions of every day that are put together here from others: the same results."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith._core import ops as core

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4)) + 0.1
I, J = RNG.integers(-9, 9, (3, 4)), RNG.integers(1, 9, (3, 4))
ODD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -2.5, 1e-310, 1e300, -8.0])
Z = X + 1j * np.round(Y)

CASES: list[tuple[str, list[Any]]] = [
    *[(name, [ODD]) for name in (
        "cbrt", "deg2rad", "rad2deg", "degrees", "radians", "sinc", "isposinf", "isneginf", "modf", "fix", "isreal",
    )],
    *[(name, [ODD[:, None], ODD]) for name in ("fmax", "fmin", "logaddexp2")],
    ("cbrt", [X]), ("sinc", [X]), ("fmod", [X, Y]), ("fmod", [I, J]), ("divmod", [X, Y]), ("divmod", [I, J]),
    ("heaviside", [ODD, 0.5]), ("ldexp", [X, I]), ("float_power", [J, I]), ("around", [X, 1]), ("gcd", [I, J]),
    ("lcm", [I, J]), ("gcd", [12, I]), ("isreal", [Z]), ("iscomplex", [Z]), ("unwrap", [np.cumsum(X * 4, 1)]),
    ("unwrap", [X * 9, 1.0, 0]), ("matvec", [X, Y[0]]), ("vecmat", [X[0, :3], X]), ("polyval", [X[0], Y]),
    ("polyfit", [X[0], Y[0], 2]), ("polyfit", [X[0], Y.T, 1]), ("hanning", [7]), ("hamming", [1]), ("blackman", [8]),
    ("bartlett", [5]), ("hanning", [0]), ("shape", [X]), ("ndim", [X]), ("size", [X]), ("size", [X, 1]),
    ("isscalar", [3.0]), ("isscalar", [X]), ("array_equal", [X, X]), ("array_equal", [ODD, ODD]),
    ("array_equal", [ODD, ODD, True]), ("array_equal", [X, X[0]]), ("array_equiv", [X, X[:1]]), ("array_equiv", [X, Z]),
    ("ascontiguousarray", [X.T]), ("ascontiguousarray", [2.0]), ("frombuffer", [X.tobytes(), "float64", 3, 8]),
    ("fromfunction", [lambda i, j: i * 10 + j, (2, 3)]), ("diagflat", [X[0], 1]), ("diag_indices", [3]),
    ("tril_indices_from", [X]), ("triu_indices_from", [X, 1]), ("lexsort", [(I[0], J[0] % 2)]),
    ("i0", [np.linspace(-40, 40, 81)]), ("i0", [np.array([0.0, 29.999, 30.001, 700.0])]), ("kaiser", [9, 8.6]),
    ("kaiser", [1, 2.0]), ("kaiser", [12, 40.0]), ("asfortranarray", [X]), ("isfortran", [X]),
    ("apply_along_axis", [lambda v: v[::-1] * 2, 0, X]), ("apply_along_axis", [lambda v: v.sum(), 1, X]),
]  # fmt: skip


def outputs(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (tuple, list)) else [x]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_the_same_as_numpy(name: str, arguments: list[Any]) -> None:
    def ours(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(ours, x))
        return ts.asarray(x.copy()) if isinstance(x, np.ndarray) else x

    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*arguments)
    got = getattr(ts, name)(*map(ours, arguments))
    for g, e in zip(outputs(got), outputs(expected), strict=True):
        g = g.numpy() if isinstance(g, ts.Tensor) else np.asarray(g)
        assert g.shape == np.shape(e)
        tolerance = 1e-6 if g.dtype == np.float32 else 4e-16 if name == "cbrt" else 1e-11
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=0 if name == "cbrt" else tolerance)


WRITES: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("put", lambda m, x: m.put(x, [0, -1, 5], [1.5, 2.5])),
    ("put wrap", lambda m, x: m.put(x, [13, -14], 7.0, mode="wrap")),
    ("put clip", lambda m, x: m.put(x, [99, -3], 7.0, mode="clip")),
    ("place", lambda m, x: m.place(x, x > 0, [1.0, 2.0, 3.0])),
    ("putmask", lambda m, x: m.putmask(x, x > 0, [1.0, 2.0, 3.0, 4.0, 5.0])),
    ("copyto", lambda m, x: m.copyto(x, 4.0)),
    ("copyto where", lambda m, x: m.copyto(x, x * 2, where=x < 0)),
    ("fill_diagonal", lambda m, x: m.fill_diagonal(x, [9.0, 8.0])),
    ("fill_diagonal wrap", lambda m, x: m.fill_diagonal(x.T, 9.0, wrap=True)),
    ("fill", lambda m, x: x.fill(2.5)),
    ("method put", lambda m, x: x.put([1], 3.0)),
]


@pytest.mark.parametrize(("name", "write"), WRITES, ids=[n for n, _ in WRITES])
def test_writing_as_numpy(name: str, write: Any) -> None:
    mine, theirs = ts.asarray(X.copy()), X.copy()
    write(ts, mine)
    write(np, theirs)
    np.testing.assert_array_equal(mine.numpy(), theirs)


def test_put_along_axis() -> None:
    for axis in (0, 1):
        order = np.argsort(X, axis)[:1] if axis == 0 else np.argsort(X, axis)[:, :2]
        mine, theirs = ts.asarray(X.copy()), X.copy()
        ts.put_along_axis(mine, ts.asarray(order), -1.0, axis)
        np.put_along_axis(theirs, order, -1.0, axis)
        np.testing.assert_array_equal(mine.numpy(), theirs)


def test_partition_and_its_kth_element() -> None:
    for kth in (0, 2, -1):
        np.testing.assert_array_equal(
            ts.partition(ts.asarray(X), kth).numpy()[..., kth], np.partition(X, kth)[..., kth]
        )
        order = ts.argpartition(ts.asarray(X), kth, axis=0).numpy()
        np.testing.assert_array_equal(np.take_along_axis(X, order, 0)[kth], np.partition(X, kth, 0)[kth])
    with pytest.raises(ValueError, match="partition: kth must be from -4 to 3, got 4"):
        ts.partition(ts.asarray(X), 4)


def test_roots_grids_and_iterators() -> None:
    for p in ([1.0, -6.0, 11.0, -6.0], [0.0, 2.0, 0.0, -8.0, 0.0], [5.0]):
        got = np.sort_complex(ts.roots(ts.asarray(np.array(p))).numpy().astype(complex))
        np.testing.assert_allclose(got, np.sort_complex(np.roots(p)), atol=1e-9)
    np.testing.assert_array_equal(ts.mgrid[0:3, 0:1:3j].numpy(), np.mgrid[0:3, 0:1:3j])
    assert [g.shape for g in ts.ogrid[0:3, 0:2]] == [(3, 1), (1, 2)]
    assert [(i, v.item()) for i, v in ts.ndenumerate(ts.asarray(I))] == list(np.ndenumerate(I))
    assert ts.asarray(X)[ts.s_[1:, ::2]].shape == (2, 2)
    assert ts.fromiter(range(3), "int32").tolist() == [0, 1, 2]
    assert list(map(int, divmod(ts.asarray(7), 2))) == [3, 1] and list(
        map(int, divmod(7, ts.asarray(2)))
    ) == [3, 1]
    assert ts.asarray(Z).conjugate().tolist() == np.conj(Z).tolist()
    assert ts.asarray(X).T.flags.f_contiguous and not ts.asarray(X).T.flags.c_contiguous


def test_gradients_go_through() -> None:
    x = ts.asarray(np.array([0.3, -1.7, 8.0])).requires_grad_()
    ts.cbrt(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.abs(x.detach().numpy()) ** (-2 / 3) / 3, rtol=1e-12)
    p = ts.asarray(np.array([2.0, -1.0, 0.5])).requires_grad_()
    ts.polyval(p, ts.asarray(np.array(3.0))).backward()
    assert p.grad.tolist() == [9, 3, 1]


def test_least_squares_and_tensor_equations() -> None:
    a, b = RNG.standard_normal((6, 3)), RNG.standard_normal((6, 2))
    for left, right in ((a, b), (a, b[:, 0]), (a.T, b[:3]), (a[:, [0, 0, 1]], b)):
        got, expected = ts.linalg.lstsq(ts.asarray(left), ts.asarray(right)), np.linalg.lstsq(left, right)
        assert int(got.rank) == expected[2]
        for g, e in zip((got.x, got.residuals, got.s), (expected[0], expected[1], expected[3])):
            if not (e is expected[1] and right.ndim == 1):
                np.testing.assert_allclose(g.numpy(), e, atol=1e-12)
    m, t = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((4, 6, 8, 3))
    square = RNG.standard_normal((3, 3))
    for p in (None, 2, -2, 1, np.inf, "fro"):
        np.testing.assert_allclose(
            ts.linalg.cond(ts.asarray(square), p).numpy(), np.linalg.cond(square, p), rtol=1e-10
        )
    np.testing.assert_allclose(
        ts.linalg.tensorinv(ts.asarray(t), 2).numpy(), np.linalg.tensorinv(t, 2), atol=1e-9
    )
    u = RNG.standard_normal((2, 3, 6))
    np.testing.assert_allclose(
        ts.linalg.tensorsolve(ts.asarray(u), ts.asarray(m[:, :, 0])).numpy(),
        np.linalg.tensorsolve(u, m[:, :, 0]), atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize(
    "subscripts", ["ij,jk->ik", "ij,jk->ki", "bij,bjk->bik", "ji,jk->ik", "bij,kbj->kbi", "ij,kj->ik"]
)
def test_einsum_of_one_product(subscripts: str) -> None:
    extents = {"i": 2, "j": 3, "k": 4, "b": 5}
    a, b = (RNG.standard_normal([extents[c] for c in t]) for t in subscripts.split("->")[0].split(","))
    np.testing.assert_allclose(
        ts.einsum(subscripts, ts.asarray(a), ts.asarray(b)).numpy(), np.einsum(subscripts, a, b), atol=1e-12
    )
    narrow = a[..., :1]
    if subscripts == "ij,kj->ik":  # an extent of 1 meets a larger one
        np.testing.assert_allclose(
            ts.einsum(subscripts, ts.asarray(narrow), ts.asarray(b)).numpy(), np.einsum(subscripts, narrow, b)
        )


def test_einsum_of_lists_of_labels() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    for arguments in (
        (a, [0, 1], b, [1, 2]),
        (a, [0, 1], b, [1, 2], [2, 0]),
        (a, (30, 4)),
        (a, [..., 51], [51, ...]),
        (a, [0, 1], []),
    ):
        mine = [ts.asarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
        np.testing.assert_array_equal(ts.einsum(*mine).numpy(), np.einsum(*arguments))
    for wrong, error, message in (
        ((ts.asarray(a),), TypeError, "einsum: subscripts must be a string, or each operand be followed by"),
        ((ts.asarray(a), ts.asarray(b)), TypeError, "list of labels, got Tensor, Tensor"),
        ((ts.asarray(a), [0, 52]), ValueError, "einsum: labels are integers from 0 to 51 and ..., got 52"),
    ):
        with pytest.raises(error, match=message):
            ts.einsum(*wrong)


@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
def test_spellings_of_new_tensors(name: str) -> None:
    new = getattr(ts, name)
    assert new.__name__ == name and name in new.__doc__
    for made, shape, dtype in (
        (new(2, 3), (2, 3), "float32"),
        (new((2, 3)), (2, 3), "float32"),
        (new([2, 3], "int64"), (2, 3), "int64"),
        (new(4, dtype=np.float64), (4,), "float64"),
        (new(shape=(2,), dtype="".join(["in", "t8"]), device="cpu"), (2,), "int8"),
        (new(()), (), "float32"),
        (new((3, 0)), (3, 0), "float32"),
        (new(300, 301, dtype="bool"), (300, 301), "bool"),
        (new(300, 301, dtype="complex128"), (300, 301), "complex128"),
    ):
        assert made.shape == shape and made.dtype == dtype
        if name != "empty":
            assert (made.numpy() == getattr(np, name)(shape)).all()
    for arguments, keywords, error, message in (
        ((), {}, TypeError, "shape is missing"),
        ((3,), {"order": "C"}, TypeError, "no parameter 'order'"),
        ((3,), {"shape": 3}, TypeError, "no parameter 'shape'"),
        ((-1,), {}, ValueError, "extents must be >= 0"),
        ((3, "x"), {}, TypeError, "'x' is not a dtype"),
        (("ab",), {}, TypeError, "shape must be"),
    ):
        with pytest.raises(error, match=f"{name}.*{message}"):
            new(*arguments, **keywords)


def test_counts_and_widths_are_integers() -> None:
    for num in (2.5, "3", None):
        with pytest.raises(TypeError, match="linspace: num must be an integer, got "):
            ts.linspace(0, 1, num)
    for width in ("a", 1.5, None, ((1, 2.5), (0, 0))):
        with pytest.raises(TypeError, match="pad: pad_width must be made of integers, got "):
            ts.pad(ts.ones((2, 2)), width)


def test_tolerances_may_be_tensors() -> None:
    a = ts.ones((3, 200_001))  # more than a block
    b = a + ts.array([0.0, 0.01, 0.1])[:, None]
    wide, narrow = ts.array([0.0, 0.02, 0.2])[:, None], ts.array([0.0, 0.02, 0.05])[:, None]
    assert ts.allclose(a, b, 0.0, wide)
    assert not ts.allclose(a, b, 0.0, narrow)
    for function in (ts.allclose, ts.isclose):
        with pytest.raises(
            TypeError, match=f"{function.__name__}: rtol must be a number or a tensor, got 'a'"
        ):
            function(a, b, "a")


@pytest.mark.parametrize("k", [1, -2, 2**31, 2**63 - 1, -(2**63), 2**63, -(2**80)])
def test_diagonals_of_any_number(k: int) -> None:
    for shape in ((0, 0), (3, 3), (2, 4)):
        np.testing.assert_array_equal(ts.eye(*shape, k=k).numpy(), np.eye(*shape, k=max(min(k, 99), -99)))
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        for name in ("tril", "triu"):
            expected = getattr(np, name)(x, max(min(k, 99), -99))
            np.testing.assert_array_equal(getattr(ts, name)(ts.asarray(x), k=k).numpy(), expected)


LENGTHS = (0, 1, 15, 16, 17, 63, 64, 65, 127, 1000, 40_000, 200_001)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "float32", "float64", "complex128"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_masks_of_every_length(dtype: str, share: float) -> None:
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        x, y = (np.array(rng.standard_normal(n) * 50).astype(dtype) for _ in range(2))
        mask = rng.random(n) < share
        ours, chosen = ts.asarray(x), ts.asarray(mask)
        np.testing.assert_array_equal(ours[chosen].numpy(), x[mask])
        np.testing.assert_array_equal(ts.nonzero(chosen)[0].numpy(), np.nonzero(mask)[0])
        np.testing.assert_array_equal(ts.where(chosen, ours, ts.asarray(y)).numpy(), np.where(mask, x, y))
        written, values = x.copy(), y[: int(mask.sum())]
        written[mask] = values
        target = ts.asarray(x.copy())
        target[chosen] = ts.asarray(values)
        np.testing.assert_array_equal(target.numpy(), written)


def test_masks_that_are_not_of_all() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    mask = x % 5 < 2
    np.testing.assert_array_equal(ts.asarray(x)[ts.asarray(mask)].numpy(), x[mask])
    np.testing.assert_array_equal(ts.asarray(x).T[ts.asarray(mask).T].numpy(), x.T[mask.T])
    y = ts.asarray(x.copy())
    for wrong in (ts.zeros(3), ts.zeros((1, 2))):
        with pytest.raises(ValueError, match="setitem"):
            y[ts.asarray(mask)] = wrong
    y[ts.asarray(mask)] = ts.zeros(1)
    np.testing.assert_array_equal(y.numpy(), np.where(mask, 0, x))
    y = ts.asarray([True, False, True])
    y[y] = ts.asarray([False, False])  # the mask is what is written
    assert not y.numpy().any()


@pytest.mark.parametrize("kind", ["normal", "few", "ascending", "equal", "nan", "zeros"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elements_at_places_are_those_of_the_sort(kind: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 129, 256, 257, 5000, 16_385, 140_000):
        x = rng.standard_normal(n)
        x = {"few": np.round(x), "ascending": np.sort(x), "equal": x * 0 + 1}.get(kind, x)
        if kind in ("nan", "zeros"):
            x[rng.integers(0, n, n // 3 + 1)] = np.nan if kind == "nan" else -0.0
            x[rng.integers(0, n, n // 3 + 1)] = 0.0
        x = x.astype(dtype)
        places = np.unique(np.append(rng.integers(0, n, 3), n - 1))
        got = core.order_statistics(ts.asarray(x), ts.asarray(places)).numpy()
        expected = ts.sort(ts.asarray(x)).numpy()[places]
        expected = expected * np.nan if np.isnan(x).any() else expected
        np.testing.assert_array_equal(got, expected)
        assert kind == "nan" or (np.signbit(got) == np.signbit(expected)).all()
    for places in ([2, 1], [-1], [3]):
        with pytest.raises(ValueError, match="order_statistics: places must ascend from 0 to 2"):
            core.order_statistics(ts.zeros(3), ts.asarray(places))


def test_distinct_integers_near_and_far() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("int8", "int32", "int64", "uint8", "uint64"):
        for shift in (0, 10**6, 2**62 - 50):
            x = (rng.integers(-60, 60, 1000) + shift).astype(dtype)
            got = ts.unique(ts.asarray(x))
            assert got.dtype == dtype
            np.testing.assert_array_equal(got.numpy(), np.unique(x))
    limits = np.iinfo("int64")
    x = np.resize([limits.min, limits.max, 0], 100)
    np.testing.assert_array_equal(ts.unique(ts.asarray(x)).numpy(), np.unique(x))


@pytest.mark.parametrize("bins", [1, 2, 10, 17, 1000, 1500])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_is_in_its_bin(bins: int, dtype: str) -> None:
    x = np.random.default_rng(bins).standard_normal(5003).astype(dtype)
    x[::50], x[7] = np.round(x[::50]), np.nan
    ours, edges = ts.histogram(ts.asarray(x), bins, range=(-2, 3))
    e = edges.numpy()
    at = np.searchsorted(e, x, "right") - 1
    at[x == e[-1]] = bins - 1
    np.testing.assert_array_equal(ours.numpy(), np.bincount(at[(at >= 0) & (at < bins)], minlength=bins))


def test_allclose_sees_every_element() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 15, 64, 65, 1000, 70_000):
        for dtype in ("float32", "float64"):
            x = rng.standard_normal(n).astype(dtype)
            for odd in (np.nan, np.inf, -np.inf, 0.5):
                a, b = x.copy(), x.copy()
                at = rng.integers(0, n)
                b[at] = odd
                for equal_nan in (False, True):
                    expected = np.allclose(a, b, equal_nan=equal_nan)
                    assert ts.allclose(ts.asarray(a), ts.asarray(b), equal_nan=equal_nan) == expected
                    a[at] = odd
                    expected = np.allclose(a, b, equal_nan=equal_nan)
                    assert ts.allclose(ts.asarray(a), ts.asarray(b), equal_nan=equal_nan) == expected
    assert not ts.allclose(ts.asarray([-1.0, 1.0]), ts.asarray([np.inf, np.inf]))


REDUCED = [np.arange(6).reshape(2, 3), X[:2, :3], np.arange(6).reshape(2, 3) % 2 == 0, Z[:2, :3]]
CHOICES: list[dict[str, Any]] = [
    {"where": [True, False, True]},
    {"axis": 1, "where": [[True], [False]]},
    {"axis": 0, "keepdims": True, "where": np.array([[True, False, True], [False, False, True]])},
    {"axis": (0, 1), "where": False},
]


def both(name: str, x: np.ndarray, options: dict[str, Any]) -> None:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = getattr(np, name)(x, **options)
    for got in (getattr(ts, name)(ts.asarray(x), **options), getattr(ts.asarray(x), name)(**options)):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("options", CHOICES, ids=range(len(CHOICES)))
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "any", "all"])
def test_reductions_of_what_is_chosen(name: str, options: dict[str, Any]) -> None:
    for x in REDUCED:
        if x.dtype != bool or name not in ("var", "std"):
            both(name, x, options)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_reductions_from_an_initial_value(name: str) -> None:
    for x in REDUCED[:2]:
        for options in ({}, *CHOICES):
            for initial in (-3, 2, 100):
                both(name, x, options | {"initial": initial})
    for x in (np.zeros((0, 3)), np.zeros((2, 0, 3), "int32")):
        both(name, x, {"axis": -2, "initial": 5})
    with pytest.raises(ValueError, match=f"{name}: where of shape"):
        getattr(ts, name)(ts.asarray(X), where=[True, False])
    with pytest.raises(TypeError, match=f"{name}.*has no parameter 'wher'"):
        getattr(ts, name)(ts.asarray(X), wher=True)
    if name in ("max", "min"):
        with pytest.raises(ValueError, match=f"{name}: where needs an initial value"):
            getattr(ts, name)(ts.asarray(X), where=X > 0)
    out = ts.zeros(4, dtype="float64")
    getattr(ts, name)(ts.asarray(X), axis=0, initial=1, out=out)
    np.testing.assert_allclose(out.numpy(), getattr(np, name)(X, axis=0, initial=1))


def test_gradients_of_what_is_chosen() -> None:
    x = ts.asarray(X).requires_grad_()
    ts.sum(x, where=X > 0).backward()
    np.testing.assert_array_equal(x.grad.numpy(), (X > 0).astype(float))


@pytest.mark.parametrize("n", [65_536, 77 * 1024, 6 * 31**3])
def test_long_transforms(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    spectrum = np.fft.fft(x)
    size = np.abs(spectrum).max()
    for dtype, eps in (("complex128", 1e-14), ("complex64", 2e-6)):
        ours = ts.asarray(x.astype(dtype))
        np.testing.assert_allclose(ts.fft.fft(ours).numpy(), spectrum, rtol=0, atol=eps * size)
        inverse = ts.fft.ifft(ts.asarray(spectrum.astype(dtype)))
        np.testing.assert_allclose(inverse.numpy(), x, rtol=0, atol=10 * eps)
        half = np.fft.rfft(x.real)
        np.testing.assert_allclose(ts.fft.rfft(ours.real).numpy(), half, rtol=0, atol=eps * size)
        real = ts.fft.irfft(ts.asarray(half.astype(dtype)), n=n)
        np.testing.assert_allclose(real.numpy(), x.real, rtol=0, atol=10 * eps)
    rows = np.stack([x, 1j * x])
    np.testing.assert_allclose(
        ts.fft.fft(ts.asarray(rows)).numpy()[1], 1j * spectrum, rtol=0, atol=1e-14 * size
    )
    before = ts.get_num_threads()
    bits = []
    for threads in (1, 2, 3):
        ts.set_num_threads(threads)
        bits.append(ts.fft.fft(ts.asarray(x)).numpy().tobytes())
    ts.set_num_threads(before)
    assert len(set(bits)) == 1


@pytest.mark.parametrize(
    "shape", [(100, 100), (17, 33), (16, 100), (5, 200), (127, 127), (300, 2), (31, 16), (130, 7)]
)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float32", "float64", "complex128"])
def test_transposed_operands(shape: tuple[int, int], dtype: str) -> None:
    x = (np.random.default_rng(0).standard_normal(shape) * 9).astype(dtype)
    other = np.ascontiguousarray(x.T[::-1])
    np.testing.assert_array_equal(ts.ascontiguousarray(ts.asarray(x).T).numpy(), x.T)
    np.testing.assert_array_equal((ts.asarray(x).T + ts.asarray(other)).numpy(), x.T + other)
    np.testing.assert_array_equal(ts.equal(ts.asarray(x).T, ts.asarray(other)).numpy(), np.equal(x.T, other))


def test_points_of_a_matrix() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 70)).astype("float32")
    cube = rng.integers(0, 99, (5, 6, 7))
    for n in (0, 1, 255, 256, 257, 600, 40_000):
        i, j, k = rng.integers(-30, 30, n), rng.integers(-70, 70, n), rng.integers(-5, 5, n)
        at, to, up = ts.asarray(i), ts.asarray(j), ts.asarray(k)
        np.testing.assert_array_equal(ts.asarray(x)[at, to].numpy(), x[i, j])
        np.testing.assert_array_equal(ts.asarray(x).T[::-1][to, at].numpy(), x.T[::-1][j, i])
        np.testing.assert_array_equal(ts.asarray(cube)[up, up, up].numpy(), cube[k, k, k])
        if n:
            i[-1] = 30
            with pytest.raises(IndexError, match=r"index 30 .*axis 0 of x has size 30"):
                ts.asarray(x)[ts.asarray(i), to]
            i[-1] = np.iinfo("int64").min
            with pytest.raises(IndexError, match="axis 0 of x has size 30"):
                ts.asarray(x)[ts.asarray(i), to]


def test_brackets_put_arrays_together() -> None:
    i, x = np.arange(3), np.arange(3.0)
    for key in (
        np.s_[1:4, 0, 5:9:2],
        np.s_[i, 0, 7],
        np.s_[x, 1],
        np.s_[0:1:5j],
        np.s_[X, X],
        np.s_[x],
        np.s_[i, x],
    ):
        for name in ("r_", "c_"):
            if name == "c_" and any(
                isinstance(k, (slice, int)) for k in (key if isinstance(key, tuple) else (key,))
            ):
                continue
            ours = (
                tuple(ts.asarray(k) if isinstance(k, np.ndarray) else k for k in key)
                if isinstance(key, tuple)
                else key
            )
            expected = getattr(np, name)[key]
            got = getattr(ts, name)[ours]
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
            assert got.dtype.kind == ("signed" if expected.dtype.kind == "i" else "floating")
    np.testing.assert_array_equal(ts.c_[0:3, ts.asarray([4, 5, 6])].numpy(), np.c_[0:3, [4, 5, 6]])
    with pytest.raises(TypeError, match="r_: directives such as 'r'"):
        ts.r_["r", 1]
    with pytest.raises(ValueError, match="r_: a slice needs an end"):
        ts.r_[1:]


def test_text_and_files_of_numbers(tmp_path: Any) -> None:
    x = ts.asarray(X)
    ts.savetxt(tmp_path / "x.txt", x, delimiter=",")
    np.testing.assert_array_equal(ts.loadtxt(tmp_path / "x.txt", "float64", delimiter=",").numpy(), X)
    assert ts.loadtxt(tmp_path / "x.txt", delimiter=",").dtype == ts.get_default_dtype()
    (tmp_path / "gap.txt").write_text("1,,3\n4,5,6\n")
    np.testing.assert_array_equal(
        ts.genfromtxt(tmp_path / "gap.txt", delimiter=",").numpy(), [[1, np.nan, 3], [4, 5, 6]]
    )
    with pytest.raises(ValueError, match="could not convert"):
        ts.loadtxt(["1 two"])
    with pytest.raises(ValueError, match="savetxt: cannot convert float NaN"):
        ts.savetxt(tmp_path / "x.txt", ts.asarray([1.0, 2.0, np.nan]), fmt="%d")
    with pytest.raises(ValueError, match="savetxt: cannot convert float infinity"):
        ts.savetxt(tmp_path / "x.txt", ts.asarray([np.inf]), fmt="%d")
    np.testing.assert_array_equal(ts.loadtxt(tmp_path / "x.txt", "float64", delimiter=",").numpy(), X)
    ts.savetxt(tmp_path / "none.txt", ts.zeros((0, 3)))
    assert (tmp_path / "none.txt").read_text() == ""
    (tmp_path / "bools").write_bytes(bytes([1, 0, 2]))
    with pytest.raises(ValueError, match="fromfile: a bool is 2"):
        ts.fromfile(tmp_path / "bools", ts.bool)
    X.tofile(tmp_path / "x.bin")
    np.testing.assert_array_equal(ts.fromfile(tmp_path / "x.bin", ts.float64).numpy(), X.ravel())
    assert ts.array2string(x, precision=2) == np.array2string(X, precision=2)
    assert ts.array_str(x) == np.array_str(X)
    assert ts.array_repr(x) == repr(x)
    with ts.printoptions(precision=1):
        assert "0.1" in repr(ts.asarray([0.123456]))
    assert ts.binary_repr(5, 8) == "00000101"
    assert ts.format_float_positional(ts.asarray(1e10, "float64")) == "10000000000."


def test_names_that_change_nothing() -> None:
    with ts.errstate(divide="ignore", invalid="warn"):
        assert bool(ts.isinf(ts.asarray(1.0) / 0))
    with pytest.raises(TypeError, match="errstate: there is no 'divid'"):
        ts.errstate(divid="ignore")
    with pytest.raises(ValueError, match="errstate: all='raise'"):
        ts.errstate(all="raise")
    assert (ts.double, ts.half, ts.intp, ts.int_, ts.uintc) == (
        ts.float64, ts.float16, ts.int64, ts.int64, ts.uint32
    )  # fmt: skip
    with pytest.raises(ts.linalg.LinAlgError, match="singular"):
        ts.linalg.inv(ts.zeros((2, 2)))
    assert ts.isfortran(ts.asfortranarray(ts.asarray(X))) and ts.isfortran(ts.asarray(X).T)
    with pytest.raises(ValueError, match="asarray_chkfinite: x holds NaN"):
        ts.asarray_chkfinite([1.0, np.nan])


def test_histograms_say_what_is_wrong() -> None:
    for name in ("histogram", "histogram_bin_edges"):
        call = getattr(ts, name)
        for wrong in ((1, 2, 3), (1,), 5, "ab"):
            with pytest.raises(ValueError, match=f"{name}: range must be two numbers, got"):
                call([1.0, 2.0], range=wrong)
        with pytest.raises(ValueError, match=f"{name}: the edges must ascend, without NaN"):
            call([1.0, 2.0], [1.0, np.nan, 3.0])
        with pytest.raises(ValueError, match=f"{name}: there must be at least two edges, got 1"):
            call([1.0, 2.0], [1.0])
        with pytest.raises(ValueError, match=f"{name}: the range from nan to 1.0 is not finite"):
            call([1.0, 2.0], range=(np.nan, 1))


def test_no_number_is_no_integer() -> None:
    x = ts.asarray([1, 2, 3])
    with pytest.raises(ValueError, match="piecewise: nan cannot be an element of int64"):
        ts.piecewise(x, [x > 1], [np.nan, 0])
    with pytest.raises(ValueError, match="piecewise: -inf cannot be an element of int64"):
        ts.piecewise(x, [x > 1], [1, -np.inf])


@pytest.mark.parametrize("axis", [0, 1, -1, 2])
@pytest.mark.parametrize("endpoint", [True, False])
def test_linspace_between_arrays(axis: int, endpoint: bool) -> None:
    for start, stop in ((X, Y), (X, 2.0), (-1, X), (X[0], Y)):
        ours = [ts.asarray(a) if isinstance(a, np.ndarray) else a for a in (start, stop)]
        expected = np.linspace(start, stop, 5, endpoint, axis=axis)
        np.testing.assert_allclose(
            ts.linspace(*ours, 5, endpoint, axis=axis).numpy(), expected, rtol=1e-12, atol=1e-15
        )
    lists = ts.linspace([0, 1], [2, 3], 3, axis=-1)
    np.testing.assert_allclose(lists.numpy(), np.linspace([0, 1], [2, 3], 3, axis=-1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_nan_quantiles_of_nothing(dtype: str) -> None:
    for shape, axis in (((0,), None), ((3, 0), 1), ((3, 0), 0), ((0, 4), 0)):
        x = ts.zeros(shape, dtype=dtype)
        expected = np.full(np.sum(np.zeros(shape), axis=axis).shape, np.nan)
        np.testing.assert_array_equal(ts.nanmedian(x, axis=axis).numpy(), expected)
        np.testing.assert_array_equal(ts.nanquantile(x, [0.1, 0.9], axis=axis).numpy(), [expected] * 2)


def test_masks_whose_true_is_not_one() -> None:
    for value in (2, 254, 255):
        for n in (3, 8, 64, 600, 40_000):
            bits = np.where(np.arange(n) % 3 == 0, value, 0).astype("uint8").view("bool")
            mask, x = ts.asarray(bits), np.arange(n, dtype="float32")
            np.testing.assert_array_equal(ts.nonzero(mask)[0].numpy(), np.arange(0, n, 3))
            np.testing.assert_array_equal(ts.asarray(x)[mask].numpy(), x[::3])
            for dtype in ("int8", "float32"):
                y = ts.zeros(n, dtype=dtype)
                y[mask] = ts.ones((n + 2) // 3, dtype=dtype)
                np.testing.assert_array_equal(y.numpy(), np.arange(n) % 3 == 0)
                np.testing.assert_array_equal(y[mask].numpy(), np.ones((n + 2) // 3))


def test_distinct_integers_as_far_apart_as_there_are() -> None:
    for low, high in ((-(2**62), 2**62), (-(2**62), 2**62 - 1), (-(2**63), 2**63 - 1), (2**62, 2**62 + 50)):
        x = np.resize(np.array([low, high, low + 1]), 300)
        np.testing.assert_array_equal(ts.unique(ts.asarray(x)).numpy(), np.unique(x))


@pytest.mark.parametrize("n", [3, 40])  # a register and not
def test_histograms_of_extreme_ranges(n: int) -> None:
    tiny = np.resize(np.array([0, 1e-45, 4e-45], "float32"), n)  # their widths have no reciprocal
    counts, edges = ts.histogram(ts.asarray(tiny), 10, range=(0, 1e-44))
    e = edges.numpy().astype("float64")
    places = np.searchsorted(e, tiny.astype("float64"), "right") - 1
    np.testing.assert_array_equal(counts.numpy(), np.bincount(places, minlength=10))
    wide = np.resize([-1.7e308, 1.7e308], n)
    counts, edges = ts.histogram(ts.asarray(wide), 4)
    assert counts.tolist() == [n - n // 2, 0, 0, n // 2]
    np.testing.assert_allclose(edges.numpy(), [-1.7e308, -0.85e308, 0, 0.85e308, 1.7e308])
    for x, span in ((np.full(n, 1e9, "float32"), None), (np.ones(n, "float32"), (0, 1e39))):
        with pytest.raises(ValueError, match="histogram: float32 has no bins from "):
            ts.histogram(ts.asarray(x), 10, range=span)


def test_histograms_of_integers_tell_neighbours_apart() -> None:
    for first in (2**24, -(2**51)):
        x = np.array([first, first + 1, first + 2])
        for bins in (4, x, [first, first + 1, first + 5]):
            counts, edges = ts.histogram(ts.asarray(x), bins)
            expected, theirs = np.histogram(x, bins)
            np.testing.assert_array_equal(counts.numpy(), expected)
            np.testing.assert_array_equal(edges.numpy(), theirs)
    far = np.array([2**53, 2**53 + 1, 2**53 + 2])  # and their edges, beyond float64
    assert ts.histogram(ts.asarray(far), far)[0].tolist() == [1, 2]
    assert ts.histogram(ts.asarray(far), far, weights=np.array([1.0, 2, 4]))[0].tolist() == [1, 6]
    for x in (np.array([-(2**63), 2**63 - 1, 0, 5]), np.array([0, 2**64 - 1, 2**63, 7], "uint64")):
        np.testing.assert_array_equal(ts.histogram(ts.asarray(x), 4)[0].numpy(), np.histogram(x, 4)[0])
    x = np.array([0.1, 0.2])  # edges in a list are as exact as the numbers
    assert ts.histogram(ts.asarray(x), [0.1, 0.2, 0.3])[0].tolist() == [1, 1]


def test_what_is_chosen_of_lists_halves_and_integers() -> None:
    mask = [True, False, True]
    for name in ("mean", "var", "std"):
        for x in ([1.0, 2.0, 4.0], np.array([1, 2, 4]), np.array([1, 2, 4], "uint8")):
            got = getattr(ts, name)(x, where=mask)
            expected = getattr(np, name)(x, where=mask)
            np.testing.assert_allclose(float(got), expected, rtol=1e-6)
            if isinstance(x, list) or x.dtype.kind != "f":
                assert got.dtype == "float32"
        many = ts.full(3000, 100.0, dtype="float16")  # whose sum is no float16
        got = getattr(ts, name)(many, where=ts.ones(3000, dtype="bool"))
        assert got.dtype == "float16" and float(got) == (100 if name == "mean" else 0)
        out = ts.zeros(4, dtype="float64")
        assert getattr(ts, name)(ts.asarray(X), axis=0, out=out) is out
        np.testing.assert_allclose(out.numpy(), getattr(np, name)(X, axis=0))


def test_initial_values_that_a_result_cannot_have() -> None:
    x = ts.asarray(np.array([1, 2], "uint8"))
    for initial in (300, -1, float("nan"), float("inf"), 2**70, np.int64(256), ts.asarray(-2.0)):
        for name in ("max", "min"):
            with pytest.raises(ValueError, match=f"{name}: initial must be from 0 to 255, .* got "):
                getattr(ts, name)(x, initial=initial)
    with pytest.raises(ValueError, match=r"sum: initial must be from 0 to 18446744073709551615, .*, got nan"):
        ts.sum(x, initial=float("nan"))
    assert int(ts.max(x, initial=7.9)) == 7 and int(ts.max(x, initial=ts.asarray(9))) == 9
    for keyword in ("where", "initial"):
        with pytest.raises(TypeError, match=f"sum: {keyword} must .*, got 'a'"):
            ts.sum(x, **{keyword: "a"})


def test_axes_of_numpy_integers() -> None:
    x = ts.asarray(X).requires_grad_()
    ts.var(x, axis=np.int64(1)).sum().backward()
    y = ts.asarray(X).requires_grad_()
    ts.var(y, axis=1).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.grad.numpy())
    for function in (ts.median, ts.nanmedian, lambda v, a: ts.quantile(v, 0.3, a)):
        np.testing.assert_array_equal(
            function(x.detach(), np.int64(0)).numpy(), function(y.detach(), 0).numpy()
        )


def test_medians_between_infinities_and_errors_of_their_own_name() -> None:
    inf = np.inf
    for x in ([inf, inf], [-inf, -inf], [-inf, inf], [1, 2, inf, inf], [-1.7e308, 1.7e308], [5e-324, 5e-324]):
        with np.errstate(invalid="ignore"):
            expected = np.median(x)
        for function in (ts.median, ts.nanmedian):
            np.testing.assert_array_equal(function(ts.asarray(np.array(x))).numpy(), expected)
    assert float(ts.nanquantile(ts.asarray([1.0, inf, inf]), 1.0)) == inf
    big = ts.asarray([60000.0, 60000.0], dtype="float16")
    assert float(ts.median(big)) == 60000 and ts.median(big).dtype == "float16"
    for name, q in (("median", ()), ("quantile", (0.5,)), ("percentile", (50,))):
        with pytest.raises(TypeError, match=f"^{name}: x is complex"):
            getattr(ts, name)(ts.asarray(Z), *q)
        with pytest.raises(IndexError, match=f"^{name}: axis 2"):
            getattr(ts, name)(ts.asarray(X), *q, axis=2)
    for name, most in (("quantile", 1), ("percentile", 100), ("nanquantile", 1), ("nanpercentile", 100)):
        for q in (-1, 101, float("nan"), [0.5, 200.0]):
            with pytest.raises(ValueError, match=f"^{name}: q must be from 0 to {most}, got "):
                getattr(ts, name)(ts.asarray(X), q)
        assert getattr(ts, name)(ts.asarray(X), [], axis=1, keepdims=True).shape == (0, 3, 1)


def test_covariances_of_one_observation_and_without_freedom() -> None:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x, options in (
            (X[:1], {"rowvar": False}), (X, {"rowvar": False}), (X[:1], {}), (X[0], {"rowvar": False}),
            (X[:, :2], {"ddof": 2}), (X[:, :1], {}), (X, {"ddof": 9, "aweights": np.arange(4.0)}),
        ):  # fmt: skip
            expected, got = np.cov(x, **options), ts.cov(ts.asarray(x), **options)
            assert got.shape == expected.shape
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_linspace_of_few_numbers_between_arrays() -> None:
    start, stop = np.array([1.0, 2.0, 3.0]), np.array([[4.0], [5.0]])
    for num in (0, 1, 2):
        for endpoint in (True, False):
            for axis in (0, -1):
                expected = np.linspace(start, stop, num, endpoint, axis=axis)
                got = ts.linspace(ts.asarray(start), ts.asarray(stop), num, endpoint, axis=axis)
                assert got.shape == expected.shape
                np.testing.assert_allclose(got.numpy(), expected)


def test_text_files_of_numbers(tmp_path: Any) -> None:
    lines = "1 2\n3 4"
    for dtype, expected in (
        (None, "float32"), (float, "float32"), (int, "int64"), (np.int32, "int32"), ("float64", "float64"),
        (np.dtype("complex64"), "complex64"), (ts.uint8, "uint8"),
    ):  # fmt: skip
        x = ts.loadtxt(io.StringIO(lines), dtype)
        assert x.dtype == expected and x.tolist() == [[1, 2], [3, 4]]
    path = tmp_path / "x"
    np.arange(5.0).astype(">f8").tofile(path)
    assert ts.fromfile(path, ">f8").tolist() == [0, 1, 2, 3, 4]
    assert ts.fromfile(path, np.float64, count=2).shape == (2,)
    words = tmp_path / "words"
    words.write_text("1 2 x 3")
    calls: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: ts.loadtxt(io.StringIO("1 2\n3")), ValueError, "loadtxt: the number of columns changed"),
        (lambda: ts.loadtxt(io.StringIO("1 x")), ValueError, "loadtxt: could not convert string 'x'"),
        (
            lambda: ts.genfromtxt(io.StringIO("300"), dtype="int8"),
            ValueError,
            "genfromtxt: Python integer 300 out of bounds",
        ),
        (lambda: ts.loadtxt(io.StringIO("1"), "banana"), TypeError, "loadtxt: 'banana' is not a dtype"),
        (lambda: ts.loadtxt(io.StringIO("1"), str), TypeError, "loadtxt: dtype must be one of numbers"),
        (lambda: ts.genfromtxt(io.StringIO("1 2\n3")), ValueError, "genfromtxt: "),
        (
            lambda: ts.genfromtxt(io.StringIO("a b\n1 2"), names=True),
            TypeError,
            "genfromtxt: fields with names",
        ),
        (lambda: ts.genfromtxt(io.StringIO("1 2"), usemask=True), TypeError, "genfromtxt: .*masked arrays"),
        (lambda: ts.loadtxt(io.StringIO("1 2"), delimiter="ab"), TypeError, "loadtxt: "),
        (lambda: ts.fromfile(words, sep=" "), ValueError, "fromfile: "),
        (lambda: ts.savetxt(path, [[1.0], [2.0, 3.0]]), ValueError, "savetxt: "),
        (lambda: ts.fromfile(path, object), TypeError, "fromfile: dtype must be one of numbers"),
        (lambda: ts.savetxt(path, ts.ones((2, 2, 2))), ValueError, "savetxt: Expected 1D or 2D"),
        (lambda: ts.savetxt(path, ts.asarray(1.0)), ValueError, "savetxt: Expected 1D or 2D"),
        (lambda: ts.savetxt(path, ts.ones((2, 2)), "%d %d %d"), ValueError, "savetxt: "),
    ]
    before = path.read_bytes()
    for call, error, message in calls:
        with pytest.raises(error, match=f"^{message}"):
            call()
        assert path.read_bytes() == before
    ts.savetxt(path, ts.asarray([[1.0, 2.5]]), "%g", ",", header="a,b")
    assert path.read_text() == "# a,b\n1,2.5\n"


def test_quantiles_and_histograms_are_recorded() -> None:
    replayed = ts.jit(
        lambda x: (ts.quantile(x, [0.1, 0.9], 0), ts.median(x, 1), *ts.histogram(x, 7, (-2, 2)))
    )
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((5, 40))
        expected = np.quantile(x, [0.1, 0.9], 0), np.median(x, 1), *np.histogram(x, 7, (-2, 2))
        for got, theirs in zip(replayed(ts.asarray(x)), expected, strict=True):
            np.testing.assert_allclose(got.numpy(), theirs, rtol=1e-12)
    with pytest.raises(TypeError, match=r"^percentile: q must be a number or an array of numbers, got"):
        ts.percentile(ts.ones(3), "a")


WRITERS = {
    "copyto": ([1, 2], 3),
    "fill_diagonal": ([[1, 2], [3, 4]], 0),
    "place": ([1, 2], [True, False], [3]),
    "put": ([1, 2], [0], 3),
    "put_along_axis": ([1, 2], [0], 3, 0),
    "putmask": ([1, 2], [True, False], [3]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_writes_into_an_array_names_itself(name: str) -> None:
    write, (data, *rest) = getattr(ts, name), WRITERS[name]
    with pytest.raises(TypeError, match=f"^{name}: the destination must be a tensor, got list"):
        write(data, *rest)
    read_only = np.array(data)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match=f"^{name}: the destination is read-only"):
        write(ts.asarray(read_only), *rest)
    expected, theirs, ours = np.array(data), np.array(data), ts.asarray(np.array(data))
    getattr(np, name)(
        expected, *(np.asarray(r) if name == "put_along_axis" and r == [0] else r for r in rest)
    )
    write(theirs, *rest)
    write(ours, *rest)
    assert theirs.tolist() == ours.tolist() == expected.tolist()


def test_places_that_are_not_there_name_the_function() -> None:
    for name, arguments in {"put": ([7], 1), "put_along_axis": (ts.asarray([7]), 1, 0)}.items():
        with pytest.raises(IndexError, match=f"^{name}: index 7 in the index is out of range"):
            getattr(ts, name)(ts.zeros(3), *arguments)


def test_frequencies_take_integers_of_numpy() -> None:
    for name in ("fftfreq", "rfftfreq"):
        mine, wanted = getattr(ts.fft, name), getattr(np.fft, name)
        np.testing.assert_allclose(mine(np.int64(5), d=0.5).numpy(), wanted(5, 0.5), rtol=1e-6)
        with pytest.raises(TypeError, match=f"{name}: n must be an integer, got 2.5"):
            mine(2.5)
        with pytest.raises(ValueError, match=f"{name}: n must be >= 1, got 0"):
            mine(0)


def test_covariances_of_coefficients_of_complex_values() -> None:
    x, y = np.linspace(0, 1, 7), RNG.standard_normal(7) + 1j * RNG.standard_normal(7)
    for mine, wanted in zip(ts.polyfit(x, ts.asarray(y), 2, cov=True), np.polyfit(x, y, 2, cov=True)):
        assert mine.dtype == str(wanted.dtype)
        np.testing.assert_allclose(mine.numpy(), wanted, rtol=1e-9)


def test_parts_can_be_set() -> None:
    a = np.array([1 + 2j, 3])
    x = ts.asarray(a.copy())
    x.real, a.real = 5, 5
    x.imag, a.imag = [7, 8], [7, 8]
    np.testing.assert_array_equal(x.numpy(), a)
    y = ts.ones(2)
    y.real = 3
    assert y.tolist() == [3, 3]
    with pytest.raises(TypeError, match="imag: a tensor of float32 has no imaginary part to set"):
        y.imag = 1
    with pytest.raises(TypeError, match="geomspace: start and stop must be real, got 1 and 1j"):
        ts.geomspace(1, 1j)


def test_dtypes_make_numbers() -> None:
    for name in ("float64", "float32", "float16", "int64", "uint8", "complex64", "bool_"):
        mine, wanted = getattr(ts, name)(1), getattr(np, name)(1)
        assert (mine.dtype, mine.shape, mine.item()) == (str(wanted.dtype), (), wanted)
    assert ts.int64().item() == 0
    assert (ts.ones(2) * ts.float64(2)).dtype == "float64"
    assert ts.float64([1, 2]).tolist() == [1, 2]
    with pytest.raises(OverflowError, match="256 does not fit uint8"):
        ts.uint8(256)


def test_numbers_are_formatted_as_numbers() -> None:
    assert f"{ts.float64(2.5)} {ts.int64(3)} {ts.bool_(True)} {ts.float64(2.5):.2f}" == "2.5 3 True 2.50"
    assert f"{ts.asarray([1, 2])}" == "tensor([1, 2])"


def test_bytes_are_seen_as_another_dtype() -> None:
    a = np.array([1.5, -2.0, np.nan], np.float32)
    x = ts.asarray(a)
    for dtype in (np.int32, "uint32", ts.int32, np.dtype("f4")):
        np.testing.assert_array_equal(x.view(dtype).numpy(), a.view(np.dtype(dtype)))
    np.testing.assert_array_equal(x.view(dtype="int32")[::-1].numpy(), a.view("int32")[::-1])
    x.view(ts.int32)[0] = 0
    assert a[0] == 0 and ts.shares_memory(x.view(), x)
    for dtype in ("int64", "bool"):
        with pytest.raises(TypeError, match=f"view: float32 is not seen as {dtype}"):
            x.view(dtype)
    with pytest.raises(RuntimeError, match="view: int32 would lose the gradient of float32"):
        ts.ones(2).requires_grad_().view(ts.int32)


def test_parameters_that_are_no_arrays_have_numpys_names() -> None:
    for get in (
        lambda m: m.linspace(start=0, stop=2, num=3),
        lambda m: m.arange(stop=3),
        lambda m: m.eye(N=2, M=3),
        lambda m: m.fft.fftfreq(n=4, d=0.5),
        lambda m: m.fft.rfftfreq(n=5),
    ):
        np.testing.assert_array_equal(get(ts).numpy(), get(np).astype(get(ts).numpy().dtype))
    with pytest.raises(TypeError, match="eye: rows and N are the same"):
        ts.eye(2, N=2)
    with pytest.raises(TypeError, match="arange: stop is needed"):
        ts.arange()


def test_array_without_a_copy() -> None:
    for data in (3, [1, 2]):
        with pytest.raises(ValueError, match="only by a copy"):
            ts.array(data, copy=False)
    x = ts.ones(2)
    assert ts.array(x, copy=False) is x


def test_limits_have_numpys_names() -> None:
    for dtype in ("float16", "float32", "float64"):
        mine, wanted = ts.finfo(dtype), np.finfo(dtype)
        for name in ("epsneg", "nmant", "machep", "negep", "iexp", "minexp", "maxexp"):
            assert getattr(mine, name) == getattr(wanted, name)


def test_functions_of_other_modules_of_numpy_are_not_taken_for_ours() -> None:
    x = ts.asarray([-1.0, 4.0])
    np.testing.assert_array_equal(np.emath.sqrt(x).numpy(), np.emath.sqrt(x.numpy()))
    np.testing.assert_array_equal(np.emath.log(x).numpy(), np.emath.log(x.numpy()))


def test_gradients_go_through_lists() -> None:
    x = ts.asarray([2.0, 3.0], "float64").requires_grad_()
    y = ts.array([[x[0] * x[1], 1], [0.5, x[0]]])
    assert y.dtype == "float64" and y.tolist() == [[6, 1], [0.5, 2]]
    y.sum().backward()
    assert x.grad.tolist() == [4, 2]
    with pytest.raises(ValueError, match="nested lists must have rows of equal length"):
        ts.array([x, 1])
    with pytest.raises(RuntimeError, match="tensor: a list with a gradient in it would lose that"):
        ts.tensor([x[0], x[1]])


def test_what_was_not_given_is_broadcast_by_numpy() -> None:
    x, nothing = np.broadcast_arrays(ts.asarray([1.0, 2.0]), None)
    assert x.tolist() == [1, 2] and nothing.tolist() == [None, None]
    assert [y.shape for y in np.broadcast_arrays(ts.ones(2), 3.0)] == [(2,), (2,)]


def test_letters_of_dtypes() -> None:
    for name in ("float64", "float32", "int64", "uint8", "bool", "complex64"):
        assert getattr(ts, name).char == np.dtype(name).char


def test_floats_without_a_dtype_are_the_default_float() -> None:
    x = ts.ones(4)
    for y in (
        ts.mgrid[0:1:3j],
        ts.mgrid[0:1:0.5, 0:2],
        *ts.ogrid[0:1:3j, 0:2:0.5],
        ts.fromiter([1, 2], float),
        ts.cov(x, x, ddof=0),
        ts.polyint([1, 2]),
        ts.linalg.lstsq([[1, 0], [0, 1], [1, 1]], [1, 2, 3])[0],
        ts.linalg.lstsq(ts.eye(4), [1, 2, 3, 4])[0],
    ):
        assert y.dtype == "float32"
    assert ts.mgrid[0:3].dtype == "int64"


def test_keys_and_places_of_orders_are_checked() -> None:
    for keys in ([[1], [1, 2]], [[1, 2], [1]], [[2, 1], [[1, 2], [2, 1]]]):
        with pytest.raises(ValueError, match="lexsort: the keys must have one shape, got "):
            ts.lexsort(keys)
    for name in ("partition", "argpartition"):
        with pytest.raises(ValueError, match=f"^{name}: kth must be from -3 to 2, got 3"):
            getattr(ts, name)(ts.ones(3), 3)
        with pytest.raises(TypeError, match=f"^{name}: kth must be integers, got 1.5"):
            getattr(ts, name)(ts.ones(3), 1.5)


def test_covariances_are_at_least_of_the_default_float() -> None:
    x = RNG.standard_normal((2, 9)).astype(np.float32)
    before = ts.get_default_dtype()
    ts.set_default_dtype("float64")
    try:
        for name in ("cov", "corrcoef"):
            y = getattr(ts, name)(ts.asarray(x))
            assert y.dtype == "float64"
            np.testing.assert_allclose(y.numpy(), getattr(np, name)(x), rtol=1e-12)
    finally:
        ts.set_default_dtype(before)


def test_stones_rule_looks_at_the_range() -> None:
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=30)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.histogram_bin_edges(x, "stone", (-2, 5)).size
        assert ts.histogram_bin_edges(ts.asarray(x), "stone", (-2, 5)).size == expected


def test_odd_reflections_of_integers_wrap_around() -> None:
    for dtype in ("uint64", "int64", "uint8", "int8"):
        a = np.array([[5, 4, 3, 7], [1, 0, 2, 120]], dtype)
        for mode in ("reflect", "symmetric"):
            for width in ((0, 2), (5, 6)):
                np.testing.assert_array_equal(
                    ts.pad(ts.asarray(a), width, mode=mode, reflect_type="odd").numpy(),
                    np.pad(a, width, mode=mode, reflect_type="odd"),
                )


def test_numpy_writes_tensors_to_its_files() -> None:
    x = ts.asarray([[1.0, 2.0], [3.0, 4.0]])
    file = io.BytesIO()
    np.save(file, x)
    file.seek(0)
    np.testing.assert_array_equal(np.load(file), x.numpy())
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x, b=x.T)
        file.seek(0)
        with np.load(file) as archive:
            np.testing.assert_array_equal(archive["arr_0"], x.numpy())
            np.testing.assert_array_equal(archive["b"], x.numpy().T)


def test_numpys_functions_take_numpys_positions() -> None:
    x = ts.asarray(X)
    for name in ("max", "min", "amax", "any", "all"):
        function = getattr(np, name)
        np.testing.assert_array_equal(function(x, 1, None, True).numpy(), function(X, 1, None, True))
        out = np.empty(3, function(X, 1).dtype)
        assert function(x, 1, out) is out
        np.testing.assert_array_equal(out, function(X, 1))
    for name in ("sum", "prod", "mean"):
        function = getattr(np, name)
        np.testing.assert_allclose(function(x, 1, None, None, True).numpy(), function(X, 1, None, None, True))
    assert np.zeros_like(x, "int32", "C").dtype == "int32"
    assert np.full_like(x, 3, "int32", "C").tolist() == np.full_like(X, 3, "int32").tolist()


def test_matrices_and_vectors_have_their_dimensions() -> None:
    for a, x in (((3,), (3,)), ((), (3,)), ((2, 3), ()), ((2, 3), (2,))):
        with pytest.raises(ValueError, match=r"^matvec: matrices of shape .* do not fit"):
            ts.matvec(ts.ones(a), ts.ones(x))
    for x, a in (((3,), (3,)), ((), (3, 2)), ((2,), (3, 2))):
        with pytest.raises(ValueError, match=r"^vecmat: matrices of shape .* do not fit"):
            ts.vecmat(ts.ones(x), ts.ones(a))
