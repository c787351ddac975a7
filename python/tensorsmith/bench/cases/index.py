"""Indexing, copies and joins."""

from __future__ import annotations

from collections.abc import Iterator

from tensorsmith.bench.case import Case


def cases() -> Iterator[Case]:
    rows, width, count = 10_000, 256, 4096
    moved = 8.0 * count * width
    for back in (False, True):
        yield Case(
            f"embedding {count} of {rows}x{width}" + (" backward" if back else ""),
            ((count,), (rows, width)),
            lambda m, i, w: m.embedding(i, w),
            bytes=moved + (8.0 * rows * width if back else 0),
            backward=back,
            overrides={
                "jax": lambda m, i, w: m.take(w, i, axis=0),
                "torch": lambda m, i, w: m.nn.functional.embedding(i, w),
            },
            dtypes=("int64",),
            high=rows,
        )
    yield Case(
        f"take {count} of {rows}x{width}",
        ((rows, width), (count,)),
        lambda m, x, i, **o: m.take(x, i, axis=0, **o),
        bytes=moved,
        overrides={"torch": lambda m, x, i, **o: m.index_select(x, 0, i, **o)},
        dtypes=("float32", "int64"),
        high=rows,
    )
    yield Case(
        "where 4 MB",
        ((1 << 20,), (1 << 20,)),
        lambda m, a, b: m.where(a > b, a, b),
        bytes=14.0 * (1 << 20),
    )
    square, nbytes = (2048, 2048), 4.0 * 2048 * 2048
    yield Case(
        "transposed copy 2048x2048",
        (square,),
        lambda m, x: x.T.contiguous(),
        bytes=2 * nbytes,
        overrides={"numpy": lambda m, x: m.ascontiguousarray(x.T), "jax": None},
    )
    yield Case("concat 2 x 16 MB", (square, square), lambda m, a, b: m.concat((a, b)), bytes=4 * nbytes)
