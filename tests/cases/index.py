"""Indexing by arrays of integers."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, bools, integers, normal


def gather(x: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    part = tuple(slice(None) if d == dim % x.ndim else slice(n) for d, n in enumerate(index.shape))
    return np.take_along_axis(x[part], index, dim)


def put(x: np.ndarray, index: np.ndarray, src: Any, dim: int, add: bool) -> np.ndarray:
    y = x.copy()
    for i in np.ndindex(*index.shape):
        target = (*i[:dim], index[i], *i[dim + 1 :])
        value = src if np.isscalar(src) else src[i]
        y[target] = y[target] + value if add else value
    return y


def add_at(x: np.ndarray, index: np.ndarray, source: np.ndarray, dim: int) -> np.ndarray:
    y = np.moveaxis(x.copy(), dim, 0)
    np.add.at(y, index, np.moveaxis(source, dim, 0))
    return np.moveaxis(y, 0, dim)


def copy_at(x: np.ndarray, index: np.ndarray, source: np.ndarray, dim: int) -> np.ndarray:
    y = np.moveaxis(x.copy(), dim, 0)
    y[index] = np.moveaxis(source, dim, 0)
    return np.moveaxis(y, 0, dim)


def embedding(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight[x]


CASES = [
    *(
        Case(
            f"take axis={axis}",
            lambda x, i, axis=axis: ts.take(x, i, axis=axis),
            lambda x, i, axis=axis: np.take(x, i, axis),
            [normal(4, 5, 6), integers(-4, 4, 2, 3)],
            exact=True,
        )
        for axis in (0, 1, -1, None)
    ),
    Case(
        "take rows",
        lambda x, i: ts.take(x, i, axis=0),
        lambda x, i: x[i],
        [normal(50, 33), integers(0, 50, 70)],
        exact=True,
        large=[normal(5000, 128), integers(0, 5000, 4000)],
    ),
    Case(
        "take nothing",
        lambda x, i: ts.take(x, i, axis=1),
        lambda x, i: x[:, i],
        [normal(3, 4), integers(0, 1, 0)],
        exact=True,
    ),
    Case(
        "take integers",
        lambda x, i: ts.take(x, i, axis=1),
        lambda x, i: x[:, i],
        [integers(0, 200, 3, 9, dtype="uint8"), integers(0, 9, 14)],
        exact=True,
        gradient=False,
    ),
    Case(
        "index_select",
        lambda x, i: ts.index_select(x, 1, i),
        lambda x, i: x[:, i],
        [normal(3, 5, 2), integers(0, 5, 7)],
        exact=True,
    ),
    Case(
        "take_along_axis",
        lambda x, i: ts.take_along_axis(x, i, axis=1),
        lambda x, i: np.take_along_axis(x, np.broadcast_to(i, (3, 4, 2)), 1),
        [normal(3, 5, 2), integers(-5, 5, 3, 4, 1)],
        exact=True,
    ),
    Case(
        "embedding",
        ts.embedding,
        embedding,
        [integers(0, 7, 3, 4), normal(7, 5)],
        exact=True,
        large=[integers(0, 3000, 64, 50), normal(3000, 96)],
    ),
    *(
        Case(
            f"gather dim={dim}",
            lambda x, i, dim=dim: ts.gather(x, dim, i),
            lambda x, i, dim=dim: gather(x, i, dim),
            [normal(4, 5, 6), integers(0, 4, 3, 4, 5)],
            exact=True,
            large=[normal(100, 90, 20), integers(0, 20, 90, 80, 20)],
        )
        for dim in (0, 1, 2)
    ),
    *(
        Case(
            f"scatter dim={dim}",
            lambda x, s, i, dim=dim: ts.scatter(x, dim, i, s),
            lambda x, s, i, dim=dim: put(x, i, s, dim, False),
            [normal(4, 4, 4), normal(4, 4, 4), integers(0, 4, 4, 3, 4)],
            exact=True,
        )
        for dim in (0, 1, 2)
    ),
    Case(
        "scatter a number",
        lambda x, i: ts.scatter(x, 1, i, 2.5),
        lambda x, i: put(x, i, 2.5, 1, False),
        [normal(4, 5), integers(0, 5, 3, 2)],
        exact=True,
    ),
    *(
        Case(
            f"scatter_add dim={dim}",
            lambda x, s, i, dim=dim: ts.scatter_add(x, dim, i, s),
            lambda x, s, i, dim=dim: put(x, i, s, dim, True),
            [normal(4, 4, 4), normal(4, 4, 4), integers(0, 4, 4, 4, 3)],
            scale=20,
        )
        for dim in (0, 1, 2)
    ),
    *(
        Case(
            f"index_add dim={dim}",
            lambda x, s, i, dim=dim: ts.index_add(x, dim, i, s),
            lambda x, s, i, dim=dim: add_at(x, i, s, dim),
            [
                normal(4, 5, 6),
                normal(*(9 if d == dim else n for d, n in enumerate((4, 5, 6)))),
                integers(0, 4, 9),
            ],
            scale=40,
            large=[
                normal(*(n * 20 for n in (4, 5, 6))),
                normal(*(900 if d == dim else n * 20 for d, n in enumerate((4, 5, 6)))),
                integers(0, 80, 900),
            ],
        )
        for dim in (0, 1, 2)
    ),
    Case(
        "index_copy",
        lambda x, s, i: ts.index_copy(x, 1, i, s),
        lambda x, s, i: copy_at(x, i, s, 1),
        [normal(3, 5, 2), normal(3, 7, 2), integers(0, 5, 7)],
        exact=True,
    ),
    Case(
        "masked_select",
        ts.masked_select,
        lambda x, m: x[m],
        [normal(5, 7), bools(5, 7)],
        exact=True,
    ),
    Case(
        "masked_fill",
        lambda x, m: ts.masked_fill(x, m, -2.0),
        lambda x, m: np.where(m, -2.0, x),
        [normal(5, 7), bools(7)],
        exact=True,
    ),
    Case(
        "nonzero",
        ts.nonzero,
        np.nonzero,
        [bools(5, 7, 3)],
        exact=True,
        gradient=False,
        large=[bools(700, 900)],
    ),
    Case("argwhere", ts.argwhere, np.argwhere, [bools(5, 7)], exact=True, gradient=False),
    Case(
        "one_hot",
        lambda i: ts.one_hot(i, 5),
        lambda i: np.eye(5, dtype=np.int64)[i],
        [integers(0, 5, 3, 4)],
        exact=True,
        gradient=False,
    ),
]
