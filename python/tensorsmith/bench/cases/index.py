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
    yield from _scattered()


def _scattered() -> Iterator[Case]:
    """Element by element and row by row, into a result that is copied first, as all of these return a new one."""
    n = 1000
    for dim in (0, 1):
        yield Case(
            f"gather {n}x{n} axis {dim}",
            ((n, n), (n, n)),
            lambda m, x, i, dim=dim: m.gather(x, dim, i),
            bytes=16.0 * n * n,
            overrides={
                "jax": lambda m, x, i, dim=dim: m.take_along_axis(x, i, axis=dim),
                "numpy": lambda m, x, i, dim=dim: m.take_along_axis(x, i, axis=dim),
            },
            dtypes=("float32", "int64"),
            high=n,
        )
        for word in ("scatter_add", "scatter"):
            yield Case(
                f"{word} {n}x{n} axis {dim}",
                ((n, n), (n, n), (n, n)),
                lambda m, x, i, s, word=word, dim=dim: getattr(m, word)(x, dim, i, s),
                bytes=24.0 * n * n,
                overrides={"jax": None, "numpy": None},
                dtypes=("float32", "int64", "float32"),
                high=n,
            )
    for rows, width, count in ((50_000, 256, 8192), (1000, 64, 100_000)):
        yield Case(
            f"index_add {count}x{width} into {rows}",
            ((rows, width), (count,), (count, width)),
            lambda m, x, i, s: m.index_add(x, 0, i, s),
            bytes=4.0 * width * (2 * rows + 3 * count),
            overrides={"jax": None, "numpy": None},
            dtypes=("float32", "int64", "float32"),
            high=rows,
        )
