"""Reductions and cumulative sums."""

from __future__ import annotations

import numpy as np

import tensorsmith as ts
from cases import Case, apart, bools, integers, normal, off_zero

S = (2, 3, 4)
AXES = {"all": None, "last": -1, "first": 0, "two": (0, 2)}
BIG = (40, 33, 129)


def logsumexp(x, axis=None):  # type: ignore[no-untyped-def]
    return np.log(np.exp(x).sum(axis))


def logcumsumexp(x, axis):  # type: ignore[no-untyped-def]
    return np.logaddexp.accumulate(x, axis)


def std(x, axis=None):  # type: ignore[no-untyped-def]
    return x.std(axis)


FLOATS = {
    "sum": (ts.sum, np.sum, normal),
    "mean": (ts.mean, np.mean, normal),
    "prod": (ts.prod, np.prod, off_zero),
    "max": (ts.max, np.max, apart),
    "min": (ts.min, np.min, apart),
    "var": (ts.var, np.var, normal),
    "std": (ts.std, std, normal),
    "logsumexp": (ts.logsumexp, logsumexp, normal),
}
COUNTS = {"any": (ts.any, np.any), "all": (ts.all, np.all)}
PLACES = {"argmax": (ts.argmax, np.argmax), "argmin": (ts.argmin, np.argmin)}

CASES = [
    *(
        Case(f"{n} {a}", lambda x, op=op, axis=axis: op(x, axis=axis), lambda x, ref=ref, axis=axis: ref(x, axis=axis),
             [make(*S)], tolerance=16, scale=24.0, large=[normal(*BIG)])
        for n, (op, ref, make) in FLOATS.items()
        for a, axis in AXES.items()
    ),
    Case("sum keepdims", lambda x: ts.sum(x, axis=1, keepdims=True), lambda x: x.sum(1, keepdims=True), [normal(*S)], scale=4.0),
    Case("var correction", lambda x: ts.var(x, axis=0, correction=1), lambda x: x.var(0, ddof=1), [normal(4, 3)], tolerance=16, scale=4.0),
    Case("sum empty", lambda x: ts.sum(x, axis=0), lambda x: x.sum(0), [normal(0, 3)], exact=True),
    Case("sum 0-d", ts.sum, np.sum, [normal()], exact=True),
    *(Case(f"sum {d}", lambda x: ts.sum(x, axis=0), lambda x: x.astype("int64").sum(0), [integers(0, 200, 5, 3, dtype=d)], gradient=False, large=[integers(0, 200, *BIG, dtype=d)]) for d in ("int64", "int32", "uint8")),
    Case("sum bool", ts.sum, np.sum, [bools(5, 7)], gradient=False),
    *(Case(f"max {d}", lambda x: ts.max(x, axis=1), lambda x: x.max(1), [integers(0, 200, 5, 3, dtype=d)], gradient=False) for d in ("int64", "int32", "uint8")),
    *(
        Case(f"{n} {a}", lambda x, op=op, axis=axis: op(x, axis=axis), lambda x, ref=ref, axis=axis: ref(x, axis=axis), [bools(*S)], gradient=False)
        for n, (op, ref) in COUNTS.items()
        for a, axis in AXES.items()
    ),
    *(
        Case(f"{n} {a}", lambda x, op=op, axis=axis: op(x, axis=axis), lambda x, ref=ref, axis=axis: ref(x, axis=axis), [apart(*S)], gradient=False, large=[normal(*BIG)])
        for n, (op, ref) in PLACES.items()
        for a, axis in AXES.items()
        if a != "two"
    ),
    Case("cumsum", lambda x: ts.cumsum(x, axis=1), lambda x: x.cumsum(1), [normal(3, 4)], scale=4.0, large=[normal(64, 1000)]),
    Case("logcumsumexp", lambda x: ts.logcumsumexp(x, 1), lambda x: logcumsumexp(x, 1), [normal(3, 5, scale=3)], scale=2.0, large=[normal(64, 1000)]),
    Case("logcumsumexp first", lambda x: ts.logcumsumexp(x, 0), lambda x: logcumsumexp(x, 0), [normal(*S, scale=3)], scale=2.0),
]  # fmt: skip
