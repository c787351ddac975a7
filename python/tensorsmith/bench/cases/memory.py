"""Kernels that are bound by memory: twelve rows and more for each of seven families, 10^3 to 10^7 elements, even and
odd, contiguous and strided, forward and with gradients ("backward"). Rows that end in bf16 are stored so.

A row's name starts with its family, so `tensorsmith bench memory --peers --filter "pooling "` is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tensorsmith.bench.case import Case, Task
from tensorsmith.bench.cases import optim, random, rows
from tensorsmith.bench.libraries import Function, Thunk


def cases() -> Iterator[Case | Task]:
    yield from _pointwise()
    yield from _reductions()
    yield from _rows()
    yield from _pooling()
    yield from _indexing()
    yield from _optimizers()
    yield from _random()
    yield from _halves()


def _none(*names: str) -> dict[str, Function | None]:
    return dict.fromkeys(names, None)


# --- pointwise ------------------------------------------------------------------------------------


def _pointwise() -> Iterator[Case]:
    def unary(
        word: str,
        shape: tuple[int, ...],
        label: str,
        back: bool = False,
        dtype: str = "float32",
        **peers: Any,
    ) -> Case:
        size = float(np.prod(shape)) * (8 if dtype == "float64" else 4)
        return Case(
            f"pointwise {word} {label}" + (" backward" if back else ""),
            (shape,),
            lambda m, x, **o: getattr(m, word)(x, **o),
            bytes=size * (5 if back else 2),
            backward=back,
            overrides=peers,
            dtypes=(dtype,),
            compiled=back,
        )

    exact: Function = lambda m, x: m.gelu(x, approximate=False)  # noqa: E731
    yield unary("exp", (1000,), "10^3")
    yield unary("tanh", (10_001,), "10^4 + 1")
    yield unary("tan", (100_000,), "10^5")
    yield unary("sqrt", (1_000_000,), "10^6")
    yield unary("asinh", (999_999,), "10^6 - 1")
    yield unary("atanh", (100_000,), "10^5")
    yield unary("sinh", (100_001,), "10^5 + 1")
    yield unary("erf", (1_000_000,), "10^6 float64", dtype="float64", jax=None)  # JAX computes in float32
    yield unary("gelu", (1_000_000,), "10^6", True, jax=exact)
    yield unary("sigmoid", (10_001,), "10^4 + 1", True)
    yield Case(
        "pointwise atan2 10^6",
        ((1_000_000,), (1_000_000,)),
        lambda m, a, b, **o: m.atan2(a, b, **o),
        bytes=12e6,
    )
    yield Case(
        "pointwise add 10^7 + 1",
        ((10_000_001,), (10_000_001,)),
        lambda m, a, b, **o: m.add(a, b, **o),
        bytes=12e7,
    )
    yield Case(
        "pointwise add x and x.T 1001x1001",
        ((1001, 1001),),
        lambda m, x, **o: m.add(x, x.T, **o),
        bytes=12.0 * 1001 * 1001,
    )
    yield Case(
        "pointwise multiply every second of 2*10^6",
        ((2_000_000,), (2_000_000,)),
        lambda m, a, b, **o: m.multiply(a[::2], b[::2], **o),
        bytes=20e6,
    )
    yield Case(
        "pointwise where with a row 1000x1001",
        ((1000, 1001), (1000, 1001), (1001,)),
        lambda m, c, a, b: m.where(c, a, b),
        bytes=9.0 * 1000 * 1001,
        dtypes=("bool",),
    )


# --- reductions and scans -------------------------------------------------------------------------


def _axis(word: str, axis: int, torch: str | None = None) -> tuple[Function, Function]:
    name = torch or word
    return lambda m, x: getattr(m, word)(x, axis=axis), lambda m, x: getattr(m, name)(x, dim=axis)


def _reductions() -> Iterator[Case]:
    yield Case("reductions sum 10^3", ((1000,),), lambda m, x: m.sum(x), bytes=4e3)
    yield Case("reductions sum 10^7", ((10_000_000,),), lambda m, x: m.sum(x), bytes=4e7)
    for word, axis, (r, c), torch in (
        ("sum", 1, (100_000, 16), None),
        ("sum", 0, (1001, 1003), None),
        ("mean", 1, (4096, 1024), None),
        ("max", 1, (32_768, 64), "amax"),
        ("var", 0, (1001, 1003), None),
        ("argmax", 1, (1000, 1000), None),
        ("logsumexp", 1, (1000, 1001), None),
    ):
        ours, peer = _axis(word, axis, torch)
        yield Case(
            f"reductions {word} {r}x{c} axis {axis}",
            ((r, c),),
            ours,
            bytes=4.0 * r * c,
            overrides={"torch": peer},
        )
    yield Case(
        "reductions sum of every second column 2000x2000",
        ((2000, 2000),),
        lambda m, x: m.sum(x[:, ::2], axis=1),
        bytes=16e6,
        overrides={"torch": lambda m, x: m.sum(x[:, ::2], dim=1)},
    )
    yield Case(
        "reductions var 1000x1001 axis 1 backward",
        ((1000, 1001),),
        lambda m, x: m.var(x, axis=1),
        bytes=16e6,
        backward=True,
        overrides={"torch": lambda m, x: m.var(x, dim=1, correction=0)},
        compiled=True,
    )
    for axis, (r, c) in ((1, (1000, 1001)), (0, (1000, 1000))):
        yield Case(
            f"reductions cumsum {r}x{c} axis {axis}",
            ((r, c),),
            lambda m, x, axis=axis, **o: m.cumsum(x, axis, **o),
            bytes=8.0 * r * c,
        )
    yield Case(
        "reductions topk 10 of 100x10001",
        ((100, 10_001),),
        lambda m, x: m.topk(x, 10),
        bytes=4e6,
        overrides={"numpy": None, "jax": lambda m, x: m.top_k(x, 10)},
    )
    yield Case(
        "reductions histogram 10^6 in 100",
        ((1_000_000,),),
        lambda m, x: m.histogram(x, 100),
        bytes=4e6,
        overrides={"torch": lambda m, x: m.histc(x, 100)},
    )
    yield Case(
        "reductions unique 10^6 of 1000",
        ((1_000_000,),),
        lambda m, x: m.unique(x),
        bytes=8e6,
        overrides={"jax": None},
        dtypes=("int64",),
        high=1000,
    )


# --- rows -----------------------------------------------------------------------------------------


def _batch_norm(relu: bool) -> dict[str, Function]:
    def torch(m: Any, x: Any, w: Any, b: Any) -> Any:
        y = m.nn.functional.batch_norm(x, None, None, w, b, True)
        return m.relu(y) if relu else y

    def jax(m: Any, x: Any, w: Any, b: Any) -> Any:
        y = rows.batch_norm_jax(m, x, w, b)
        return m.relu(y) if relu else y

    return {"torch": torch, "jax": jax}


def _rms_norm_jax(m: Any, x: Any, w: Any) -> Any:
    return x * m.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w


def _group_norm_jax(m: Any, x: Any, w: Any, b: Any) -> Any:
    g = x.reshape(x.shape[0], 8, -1)
    mean, var = g.mean(-1, keepdims=True), g.var(-1, keepdims=True)
    return ((g - mean) * m.rsqrt(var + 1e-5)).reshape(x.shape) * w[:, None, None] + b[:, None, None]


def _rows() -> Iterator[Case]:
    for back in (False, True):
        suffix, passes = (" backward", 2.5) if back else ("", 1.0)
        yield Case(
            f"rows softmax 1000x1001{suffix}",
            ((1000, 1001),),
            lambda m, x: m.softmax(x, -1),
            bytes=8e6 * passes,
            backward=back,
        )
        yield Case(
            f"rows layer_norm 4096x1024{suffix}",
            ((4096, 1024), (1024,), (1024,)),
            lambda m, x, w, b: m.layer_norm(x, (x.shape[-1],), w, b),
            bytes=8.0 * 4096 * 1024 * passes,
            backward=back,
            overrides={"jax": rows.layer_norm_jax},
            compiled=True,
        )
        for relu in (False, True):
            yield Case(
                f"rows batch_norm{' + relu' if relu else ''} 32x64x32x32{suffix}",
                ((32, 64, 32, 32), (64,), (64,)),
                (lambda m, x, w, b: m.batch_norm_relu(x, None, None, w, b, True))
                if relu
                else (lambda m, x, w, b: m.batch_norm(x, None, None, w, b, True)),
                bytes=12.0 * 32 * 64 * 1024 * passes,
                backward=back,
                overrides=_batch_norm(relu),
                compiled=relu,
                channels_last=("tensorsmith", "torch"),
            )
    yield Case(
        "rows cross_entropy 128x10 (10^3) backward",
        ((128, 10), (128,)),
        lambda m, x, t: m.cross_entropy(x, t),
        bytes=4.0 * 1280 * 3,
        backward=True,
        overrides={"jax": rows.cross_entropy_jax},
        dtypes=("float32", "int64"),
        high=10,
    )
    yield Case(
        "rows batch_norm 17x33x15x15 channels first backward",
        ((17, 33, 15, 15), (33,), (33,)),
        lambda m, x, w, b: m.batch_norm(x, None, None, w, b, True),
        bytes=30.0 * 17 * 33 * 225,
        backward=True,
        overrides=_batch_norm(False),
    )
    yield Case(
        "rows rms_norm 1000x767 backward",
        ((1000, 767), (767,)),
        lambda m, x, w: m.rms_norm(x, (x.shape[-1],), w),
        bytes=20.0 * 1000 * 767,
        backward=True,
        overrides={"jax": _rms_norm_jax},
        compiled=True,
    )
    yield Case(
        "rows group_norm 8 of 8x32x56x56 backward",
        ((8, 32, 56, 56), (32,), (32,)),
        lambda m, x, w, b: m.group_norm(x, 8, w, b),
        bytes=20.0 * 8 * 32 * 56 * 56,
        backward=True,
        overrides={"jax": _group_norm_jax},
        channels_last=(),
    )
    yield Case(
        "rows dropout 10^6 - 1 backward",
        ((999_999,),),
        lambda m, x: m.dropout(x, 0.5),
        bytes=20e6,
        backward=True,
        overrides={"jax": None, "torch": lambda m, x: m.nn.functional.dropout(x, 0.5)},
        compiled=True,
    )


# --- pooling and resampling -----------------------------------------------------------------------


def _pooling() -> Iterator[Case]:
    both = ("tensorsmith", "torch")
    last, first = (8, 32, 56, 56), (3, 17, 55, 57)
    pools: tuple[tuple[str, Function, tuple[int, ...], bool, tuple[str, ...], float], ...] = (
        ("max_pool2d 2x2", lambda m, x: m.max_pool2d(x, 2), last, False, ("torch",), 1.25),
        ("max_pool2d 2x2 channels last", lambda m, x: m.max_pool2d(x, 2), last, True, both, 2.5),
        ("max_pool2d 3x3/2", lambda m, x: m.max_pool2d(x, 3, 2, 1), first, True, ("torch",), 2.5),
        ("avg_pool2d 3x3/1 channels last", lambda m, x: m.avg_pool2d(x, 3, 1, 1), last, True, both, 4),
        ("avg_pool2d 2x2", lambda m, x: m.avg_pool2d(x, 2), first, False, ("torch",), 1.25),
        ("adaptive_avg_pool2d 7", lambda m, x: m.adaptive_avg_pool2d(x, 7), last, True, (), 2),
        ("adaptive_avg_pool2d 1", lambda m, x: m.adaptive_avg_pool2d(x, 1), last, False, (), 1),
        ("adaptive_avg_pool2d 1", lambda m, x: m.adaptive_avg_pool2d(x, 1), last, True, (), 2),
        ("adaptive_max_pool2d 5", lambda m, x: m.adaptive_max_pool2d(x, 5), last, False, (), 1),
        (
            "adaptive_max_pool2d 5 channels last",
            lambda m, x: m.adaptive_max_pool2d(x, 5),
            last,
            False,
            both,
            1,
        ),
        ("lp_pool2d 2x2", lambda m, x: m.lp_pool2d(x, 2.0, 2), last, True, both, 2.5),
        ("nearest x2", lambda m, x: m.interpolate(x, scale_factor=2), last, False, ("torch",), 5),
        (
            "bilinear x2",
            lambda m, x: m.interpolate(x, scale_factor=2, mode="bilinear"),
            last,
            False,
            ("torch",),
            5,
        ),
        (
            "bilinear x2 channels last",
            lambda m, x: m.interpolate(x, scale_factor=2, mode="bilinear"),
            last,
            True,
            both,
            10,
        ),
        ("bicubic to 40", lambda m, x: m.interpolate(x, size=40, mode="bicubic"), last, False, (), 1.5),
    )
    for name, function, shape, back, layout, moved in pools:
        size = 4.0 * np.prod(shape)
        yield Case(
            f"pooling {name} {'x'.join(map(str, shape))}" + (" backward" if back else ""),
            (shape,),
            function,
            bytes=moved * size,
            backward=back,
            overrides={
                **_none("jax", "numpy"),
                "torch": lambda m, x, function=function: function(m.nn.functional, x),
            },
            channels_last=layout,
        )
    for back in (False, True):
        yield Case(
            "pooling grid_sample 8x32x56x56" + (" backward" if back else ""),
            (last, (8, 56, 56, 2)),
            lambda m, x, g: m.grid_sample(x, g, align_corners=False),
            bytes=8.0 * np.prod(last) * (2 if back else 1),
            backward=back,
            overrides={
                **_none("jax", "numpy"),
                "torch": lambda m, x, g: m.nn.functional.grid_sample(x, g, align_corners=False),
            },
            channels_last=(),
        )


# --- indexing -------------------------------------------------------------------------------------


def _segments(m: Any, x: Any, offsets: Any) -> Any:
    return m.segment_reduce(x, offsets, "sum")


def _graph(rows: int, degree: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """starts, columns and values of a square matrix with `degree` entries a row."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, rows, rows * degree)
    return np.arange(0, rows * degree + 1, degree), columns, rng.random(rows * degree).astype(np.float32)


def _sparse_product(rows: int, degree: int, width: int, back: bool) -> Task:
    x = np.random.default_rng(1).random((rows, width)).astype(np.float32)
    starts, columns, values = _graph(rows, degree)

    def ours() -> Thunk:
        import tensorsmith as ts

        a = [ts.asarray(v) for v in (starts, columns, values)]
        leaf = ts.asarray(x)
        if not back:
            return lambda: ts.csr_matmul(leaf, *a)
        leaf.requires_grad_()
        ones = ts.ones_like(leaf.detach())

        def step() -> None:
            ts.csr_matmul(leaf, *a).backward(ones)
            leaf.grad = None

        return step

    def torch() -> Thunk:
        import torch

        a = torch.sparse_csr_tensor(*map(torch.from_numpy, (starts, columns, values)), size=(rows, rows))
        leaf: Any = torch.from_numpy(x.copy())
        if not back:
            return lambda: a @ leaf
        leaf.requires_grad_()
        ones = torch.ones_like(leaf.detach())

        def step() -> None:
            (a @ leaf).backward(ones)
            leaf.grad = None

        return step

    def jax() -> Thunk:
        import jax
        from jax.experimental import sparse

        pairs = np.stack([np.repeat(np.arange(rows), degree), columns], 1)
        a = sparse.BCOO((values, pairs), shape=(rows, rows))
        leaf, ones = jax.numpy.asarray(x), jax.numpy.ones_like(x)

        def both(a: Any, x: Any, dy: Any) -> Any:
            y, backward = jax.vjp(lambda x: a @ x, x)
            return y, backward(dy)

        if back:
            f = jax.jit(both)
            return lambda: jax.block_until_ready(f(a, leaf, ones))
        g = jax.jit(lambda a, x: a @ x)
        return lambda: g(a, leaf).block_until_ready()

    return Task(
        f"indexing csr {rows}x{rows}, {degree} a row, x {width}" + (" backward" if back else ""),
        {"tensorsmith": ours, "torch": torch, "jax": jax},
        bytes=4.0 * rows * width * (degree + 1) * (2 if back else 1),
    )


def _segment_sum(count: int, rows: int, width: int) -> Task:
    """Ascending segments of uneven length, a few of them empty."""
    offsets = np.sort(np.random.default_rng(0).integers(0, count + 1, rows - 1))
    offsets = np.concatenate([[0], offsets, [count]])
    x = np.random.default_rng(1).random((count, width)).astype(np.float32)

    def ours() -> Thunk:
        import tensorsmith as ts

        data, ends = ts.asarray(x), ts.asarray(offsets)
        return lambda: ts.segment_reduce(data, ends, "sum")

    def torch() -> Thunk:
        import torch

        data, ends = torch.from_numpy(x), torch.from_numpy(offsets)
        return lambda: torch.segment_reduce(data, "sum", offsets=ends, axis=0)

    def jax() -> Thunk:
        import jax

        ids = jax.numpy.asarray(np.repeat(np.arange(rows), np.diff(offsets)))
        data = jax.numpy.asarray(x)
        f = jax.jit(lambda x, ids: jax.ops.segment_sum(x, ids, rows, indices_are_sorted=True))
        return lambda: f(data, ids).block_until_ready()

    def numpy() -> Thunk:
        ends = np.minimum(offsets[:-1], count - 1)
        return lambda: np.add.reduceat(x, ends)

    makers = {"tensorsmith": ours, "torch": torch, "jax": jax, "numpy": numpy}
    return Task(f"indexing segment sum {count}x{width} to {rows}", makers, bytes=4.0 * width * (count + rows))


def _indexing() -> Iterator[Case | Task]:
    def scattered(word: str, rows: int, count: int, width: int, back: bool, **peers: Any) -> Case:
        words = word.split()

        def function(m: Any, x: Any, i: Any, s: Any) -> Any:
            wide = i if words[0] == "index_add" else m.broadcast_to(i[:, None], s.shape)
            return getattr(m, words[0])(x, 0, wide, s, *words[1:])

        return Case(
            f"indexing {word} {count}x{width} into {rows}" + (" backward" if back else ""),
            ((rows, width), (count,), (count, width)),
            function,
            bytes=4.0 * width * (2 * rows + 3 * count) * (2 if back else 1),
            backward=back,
            overrides={"numpy": None, "jax": peers.get("jax")},
            dtypes=("float32", "int64", "float32"),
            high=rows,
        )

    yield scattered("index_add", 1000, 100_000, 64, False, jax=lambda m, x, i, s: x.at[i].add(s))
    yield scattered("index_add", 50_000, 8191, 255, True, jax=lambda m, x, i, s: x.at[i].add(s))
    yield scattered("scatter_add", 1001, 20_000, 33, False, jax=lambda m, x, i, s: x.at[i].add(s))
    yield scattered("scatter_reduce amax", 1000, 20_000, 64, False, jax=lambda m, x, i, s: x.at[i].max(s))
    yield scattered("scatter_reduce mean", 1000, 20_000, 64, True)
    rows, width, count = 50_000, 256, 4096
    yield Case(
        f"indexing embedding {count} of {rows}x{width} backward",
        ((count,), (rows, width)),
        lambda m, i, w: m.embedding(i, w),
        bytes=12.0 * count * width + 4.0 * rows * width,
        backward=True,
        overrides={
            "jax": lambda m, i, w: m.take(w, i, axis=0),
            "torch": lambda m, i, w: m.nn.functional.embedding(i, w),
        },
        dtypes=("int64",),
        high=rows,
    )
    for shape, high, axis in (((1000,), 1000, 0), ((4096,), 10_000, 0), ((777,), 1001, 1)):
        source = (high,) if shape == (1000,) else (high, 256) if axis == 0 else (1001, high)
        yield Case(
            f"indexing take {shape[0]} of {'x'.join(map(str, source))} axis {axis}"
            + (" (10^3)" if shape == (1000,) else ""),
            (source, shape),
            lambda m, x, i, axis=axis, **o: m.take(x, i, axis=axis, **o),
            bytes=8.0 * shape[0] * np.prod(source) / high,
            overrides={"torch": lambda m, x, i, axis=axis, **o: m.index_select(x, axis, i, **o)},
            dtypes=("float32", "int64"),
            high=high,
        )
    yield Case(
        "indexing gather 1001x999 axis 1 backward",
        ((1001, 999), (1001, 999)),
        lambda m, x, i: m.gather(x, 1, i),
        bytes=32.0 * 1001 * 999,
        backward=True,
        overrides={"jax": lambda m, x, i: m.take_along_axis(x, i, axis=1), "numpy": None},
        dtypes=("float32", "int64"),
        high=999,
    )
    yield Case(
        "indexing x[x > 0.5] 10^6",
        ((1_000_000,),),
        lambda m, x: x[x > 0.5],
        bytes=8e6,
        overrides={"jax": None},
    )
    yield Case(
        "indexing searchsorted 10^5 in 10^5 + 1",
        ((100_001,), (100_000,)),
        lambda m, x, v: m.searchsorted(m.cumsum(x, 0), v * 50_000),
        bytes=12e5,
    )
    yield _segment_sum(100_000, 9_999, 64)
    yield _sparse_product(20_001, 8, 64, False)
    yield _sparse_product(10_000, 16, 32, True)


# --- optimizers, random numbers -------------------------------------------------------------------


def _optimizers() -> Iterator[Task]:
    one: dict[str, list[tuple[int, ...]]] = {
        "10^3": [(1000,)],
        "10^6 + 1": [(1_000_001,)],
        "10^7": [(10_000_000,)],
    }
    many: dict[str, list[tuple[int, ...]]] = {"100 x 10^3": [(1000,)] * 100, "odd 33 x 4099": [(4099,)] * 33}
    for name, label in (
        ("SGD", "10^7"),
        ("SGD", "100 x 10^3"),
        ("Adam", "10^3"),
        ("Adam", "odd 33 x 4099"),
        ("AdamW", "10^7"),
        ("AdamW", "100 x 10^3"),
        ("RMSprop", "10^6 + 1"),
        ("Adagrad", "10^6 + 1"),
        ("Adadelta", "100 x 10^3"),
        ("Adamax", "10^6 + 1"),
        ("NAdam", "odd 33 x 4099"),
        ("RAdam", "100 x 10^3"),
        ("Rprop", "10^6 + 1"),
        ("ASGD", "odd 33 x 4099"),
    ):
        yield optim.step_of(f"optimizers {name} {label}", name, (one | many)[label])


def _random() -> Iterator[Task]:
    for name, n, label in (
        ("uniform", 1000, "10^3"),
        ("uniform", 10_000_000, "10^7"),
        ("normal", 1001, "10^3 + 1"),
        ("normal", 1_000_000, "10^6"),
    ):
        yield random.floats(f"random {name} {label}", name, n)
    for name, parameters, n, label in (
        ("bernoulli", (0.3,), 1_000_001, "10^6 + 1"),
        ("exponential", (), 100_001, "10^5 + 1"),
        ("gamma", (2.5,), 100_000, "10^5"),
        ("gamma", (0.5,), 10_001, "10^4 + 1"),
        ("poisson", (3.0,), 100_001, "10^5 + 1"),
        ("poisson", (100.0,), 100_000, "10^5"),
        ("binomial", (1000, 0.4), 100_001, "10^5 + 1"),
        ("integers", (0, 1000), 1_000_000, "10^6"),
        ("permutation", (), 100_001, "10^5 + 1"),
    ):
        given = f"({', '.join(f'{p:g}' for p in parameters)})" if parameters else ""
        yield random.distribution(f"random {name}{given} {label}", name, parameters, n)
    yield random.categorical("random categorical 10^5 of 1000", 1000, 100_000)


# --- bfloat16 -------------------------------------------------------------------------------------


def _halves() -> Iterator[Case | Task]:
    def case(
        name: str, shapes: tuple[tuple[int, ...], ...], function: Function, moved: float, **options: Any
    ) -> Case:
        """`moved`: how often the bytes of the first array are read or written."""
        back = options.get("backward", False)
        options.setdefault("dtypes", ("bfloat16",) * len(shapes))
        return Case(
            f"{name}{' backward' if back else ''} bf16",
            shapes,
            function,
            bytes=2.0 * float(np.prod(shapes[0])) * moved,
            **options,
        )

    square = (1000, 1001)
    yield case("pointwise add 10^7 + 1", ((10_000_001,),) * 2, lambda m, a, b, **o: m.add(a, b, **o), 3)
    yield case(
        "pointwise gelu 10^6",
        ((1_000_000,),),
        lambda m, x: m.gelu(x),
        2,
        overrides={"jax": lambda m, x: m.gelu(x, approximate=False)},
    )
    yield case("reductions sum 10^7", ((10_000_000,),), lambda m, x: m.sum(x), 1)
    for word, axis, shape in (("mean", 1, (4096, 1024)), ("var", 0, (1001, 1003))):
        ours, peer = _axis(word, axis)
        yield case(f"reductions {word} axis {axis}", (shape,), ours, 1, overrides={"torch": peer})
    for back in (False, True):
        passes = 2.5 if back else 1.0
        yield case(
            "rows softmax 1000x1001", (square,), lambda m, x: m.softmax(x, -1), 2 * passes, backward=back
        )
        yield case(
            "rows layer_norm 4096x1024",
            ((4096, 1024), (1024,), (1024,)),
            lambda m, x, w, b: m.layer_norm(x, (x.shape[-1],), w, b),
            2 * passes,
            backward=back,
            overrides={"jax": rows.layer_norm_jax},
            compiled=True,
        )
    yield case(
        "rows batch_norm 32x64x32x32",
        ((32, 64, 32, 32), (64,), (64,)),
        lambda m, x, w, b: m.batch_norm(x, None, None, w, b, True),
        7.5,
        backward=True,
        overrides=_batch_norm(False),
        channels_last=("tensorsmith", "torch"),
    )
    yield case(
        "rows cross_entropy 1000x1001",
        (square, (1000,)),
        lambda m, x, t: m.cross_entropy(x, t),
        3,
        backward=True,
        overrides={"jax": rows.cross_entropy_jax},
        dtypes=("bfloat16", "int64"),
        high=1001,
    )
    yield case(
        "pooling max_pool2d 2x2 channels last 8x32x56x56",
        ((8, 32, 56, 56),),
        lambda m, x: m.max_pool2d(x, 2),
        2.5,
        backward=True,
        overrides=_none("jax", "numpy"),
        channels_last=("tensorsmith", "torch"),
    )
    yield Case(
        "indexing embedding 4096 of 50000x256 backward bf16",
        ((4096,), (50_000, 256)),
        lambda m, i, w: m.embedding(i, w),
        bytes=6.0 * 4096 * 256 + 2.0 * 50_000 * 256,
        backward=True,
        overrides={
            "jax": lambda m, i, w: m.take(w, i, axis=0),
            "torch": lambda m, i, w: m.nn.functional.embedding(i, w),
        },
        dtypes=("int64", "bfloat16"),
        high=50_000,
    )
    yield optim.step_of("optimizers AdamW 10^7 bf16", "AdamW", [(10_000_000,)], "bfloat16")
