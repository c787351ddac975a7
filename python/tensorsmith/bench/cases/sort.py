"""Sorting and counting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tensorsmith.bench.case import Case
from tensorsmith.bench.libraries import Function


def cases() -> Iterator[Case]:
    for shape in ((1000,), (100_000,), (1_000_000,), (1000, 100)):
        nbytes = 8.0 * np.prod(shape)
        where = "x".join(str(n) for n in shape)
        torch_sort: Function = lambda m, x: m.sort(x, stable=True)  # noqa: E731
        yield Case(f"sort {where}", (shape,), lambda m, x: m.sort(x), bytes=nbytes)
        yield Case(
            f"argsort stable {where}",
            (shape,),
            lambda m, x: m.argsort(x, stable=True),
            bytes=1.5 * nbytes,
            overrides={"torch": torch_sort},
        )
    yield Case(
        "topk 10 of 100x10000",
        ((100, 10_000),),
        lambda m, x: m.topk(x, 10),
        bytes=4e6,
        overrides={"numpy": None, "jax": lambda m, x: m.top_k(x, 10)},
    )
    yield Case(
        "bincount 1000000 of 100",
        ((1_000_000,),),
        lambda m, x: m.bincount(x),
        bytes=8e6,
        overrides={"jax": None},
        dtypes=("int64",),
        high=100,
    )
    yield Case(
        "histogram 1000000 in 100",
        ((1_000_000,),),
        lambda m, x: m.histogram(x, 100),
        bytes=4e6,
        overrides={"torch": lambda m, x: m.histc(x, 100), "jax": None},
    )
