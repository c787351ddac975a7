"""Kernels on arrays that no cache holds, 0.5 to 2 GB moved by a call: the share of a copy of that size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tensorsmith.bench.case import Task
from tensorsmith.bench.cases import optim
from tensorsmith.bench.libraries import Thunk

SIZE = 1 << 27  # elements of x: 512 MiB


def _task(name: str, shape: tuple[int, ...], moved: float, prepare: Callable[[Any, Any], Thunk]) -> Task:
    """`moved` is in bytes an element."""

    def ours() -> Thunk:
        import tensorsmith as ts

        return prepare(ts, ts.random.uniform(0.1, 1.0, shape))

    elements = 1
    for extent in shape:
        elements *= extent
    return Task(name, {"tensorsmith": ours}, bytes=moved * elements)


def _batch_norm(ts: Any, x: Any) -> Thunk:
    w, b = ts.ones(x.shape[1]), ts.zeros(x.shape[1])
    return lambda: ts.batch_norm(x, None, None, w, b, True)


def _layer_norm(ts: Any, x: Any) -> Thunk:
    w, b = ts.ones(x.shape[-1]), ts.zeros(x.shape[-1])
    return lambda: ts.layer_norm(x, (x.shape[-1],), w, b)


def _add_into(ts: Any, x: Any) -> Thunk:
    y = ts.empty_like(x)
    return lambda: ts.add(x, x, out=y)


def _two(word: str) -> Callable[[Any, Any], Thunk]:
    def prepare(ts: Any, x: Any) -> Thunk:
        other, function = x + 1.0, getattr(ts, word)
        return lambda: function(x, other)

    return prepare


def cases() -> Iterator[Task]:
    line, rows, image = (SIZE,), (SIZE // 1024, 1024), (SIZE // (64 * 1024), 64, 32, 32)
    yield _task("copy", line, 8, lambda ts, x: lambda: ts.copy(x))
    yield _task("add", line, 12, _two("add"))
    yield _task("x + x into an array", line, 8, _add_into)
    yield _task("multiply", line, 12, _two("multiply"))
    yield _task("exp", line, 8, lambda ts, x: lambda: ts.exp(x))
    yield _task("gelu", line, 8, lambda ts, x: lambda: ts.gelu(x))
    yield _task("softmax, rows of 1024", rows, 8, lambda ts, x: lambda: ts.softmax(x, -1))
    yield _task("layer_norm, rows of 1024", rows, 8, _layer_norm)
    yield _task("batch_norm, 64 channels of 32x32", image, 12, _batch_norm)
    yield _task("sum", line, 4, lambda ts, x: lambda: ts.sum(x))
    yield _task("sum, axis 0 of rows of 1024", rows, 4, lambda ts, x: lambda: ts.sum(x, axis=0))
    yield _task(
        "transpose of 16384x8192",
        (16384, SIZE // 16384),
        8,
        lambda ts, x: lambda: ts.copy(ts.matrix_transpose(x)),
    )
    yield _task("cast to bfloat16", line, 6, lambda ts, x: lambda: x.astype("bfloat16"))
    yield _task("cast to float64", (SIZE // 2,), 12, lambda ts, x: lambda: x.astype("float64"))
    yield optim.step_of("AdamW", "AdamW", [(SIZE // 2,)])
