"""What is measured: one table of cases, in families.

A case names its arrays by shape and says what one call costs: `flops` operations, `bytes` moved at least.
Its function is written against a vocabulary (see libraries.py); `torch`, `jax` or `numpy` override it where
their words differ. M N K for products, N C H W for images, B T C for sequences, R C for rows. Arrays are
float32 unless `dtypes` says otherwise; integers are indices below `high`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorsmith.bench.libraries import Function, Library, Thunk


@dataclass(frozen=True)
class Case:
    family: str
    name: str
    shapes: tuple[tuple[int, ...], ...]
    function: Function
    flops: float = 0
    bytes: float = 0
    backward: bool = False
    overrides: Mapping[str, Function | None] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    high: int = 1

    def thunk(self, library: Library) -> Thunk | None:
        """One call of the case with a library; None where the library is told to sit it out."""
        function = self.overrides.get(library.name, self.function)
        if function is None:
            return None
        rng = np.random.default_rng(0)
        arrays = []
        for i, shape in enumerate(self.shapes):
            dtype = self.dtypes[i] if i < len(self.dtypes) else "float32"
            if dtype.startswith("int"):
                array = rng.integers(0, self.high, shape).astype(dtype)
            else:
                array = rng.uniform(0.1, 1.0, shape).astype(dtype)
            arrays.append(library.array(array))
        bind = library.backward if self.backward else library.forward
        return bind(function, arrays)


GEMM_SHAPES = (  # M N K
    (32, 32, 32), (64, 64, 64), (128, 128, 128), (255, 255, 255), (512, 512, 512), (1024, 1024, 1024),
    (2048, 2048, 2048), (1000, 1001, 1003), (64, 512, 784), (128, 10, 512), (1, 1024, 1024), (8, 4096, 1024),
    (4096, 8, 64), (4096, 64, 64), (64, 64, 4096), (768, 3072, 768),
)  # fmt: skip
_PRODUCTS: dict[str, Function] = {
    "NN": lambda m, a, b, **o: m.matmul(a, b, **o),
    "NT": lambda m, a, b, **o: m.matmul(a, b.T, **o),
    "TN": lambda m, a, b, **o: m.matmul(a.T, b, **o),
    "TT": lambda m, a, b, **o: m.matmul(a.T, b.T, **o),
}


def _gemm() -> Iterator[Case]:
    for m, n, k in GEMM_SHAPES:
        for layout, function in _PRODUCTS.items():
            a = (k, m) if layout[0] == "T" else (m, k)
            b = (n, k) if layout[1] == "T" else (k, n)
            yield Case(
                "gemm",
                f"{m}x{n}x{k} {layout}",
                (a, b),
                function,
                2.0 * m * n * k,
                4.0 * (m * k + k * n + m * n),
            )


_SIZES = {"16 KB": (4096,), "4 MB": (1 << 20,), "64 MB": (1 << 24,)}
_UNARY: dict[str, tuple[Function, dict[str, Function | None]]] = {
    "exp": (lambda m, x, **o: m.exp(x, **o), {}),
    "log": (lambda m, x, **o: m.log(x, **o), {}),
    "sin": (lambda m, x, **o: m.sin(x, **o), {}),
    "tanh": (lambda m, x, **o: m.tanh(x, **o), {}),
    "erf": (lambda m, x, **o: m.erf(x, **o), {}),
    "sqrt": (lambda m, x, **o: m.sqrt(x, **o), {}),
    "sigmoid": (lambda m, x, **o: m.sigmoid(x, **o), {}),
    "relu": (lambda m, x: m.relu(x), {}),
    "silu": (lambda m, x: m.silu(x), {}),
    "gelu": (lambda m, x: m.gelu(x), {"jax": lambda m, x: m.gelu(x, approximate=False)}),
}
_BINARY: dict[str, Function] = {
    "add": lambda m, a, b, **o: m.add(a, b, **o),
    "multiply": lambda m, a, b, **o: m.multiply(a, b, **o),
    "divide": lambda m, a, b, **o: m.divide(a, b, **o),
    "maximum": lambda m, a, b, **o: m.maximum(a, b, **o),
}


def _pointwise() -> Iterator[Case]:
    for size, shape in _SIZES.items():
        nbytes = 4.0 * shape[0]
        for name, (function, overrides) in _UNARY.items():
            yield Case(
                "pointwise", f"{name} {size}", (shape,), function, bytes=2 * nbytes, overrides=overrides
            )
        for name, function in _BINARY.items():
            yield Case("pointwise", f"{name} {size}", (shape, shape), function, bytes=3 * nbytes)
    square = (2048, 2048)
    nbytes = 4.0 * 2048 * 2048
    yield Case(
        "pointwise", "x + x.T 16 MB", (square,), lambda m, x, **o: m.add(x, x.T, **o), bytes=3 * nbytes
    )
    yield Case("pointwise", "add row 16 MB", (square, (2048,)), _BINARY["add"], bytes=2 * nbytes)
    yield Case("pointwise", "add column 16 MB", (square, (2048, 1)), _BINARY["add"], bytes=2 * nbytes)
    yield Case(
        "pointwise",
        "gelu 4 MB backward",
        ((1 << 20,),),
        lambda m, x: m.gelu(x),
        bytes=5 * 4.0 * (1 << 20),
        backward=True,
        overrides={"jax": lambda m, x: m.gelu(x, approximate=False)},
    )


def _torch_axis(word: str, axis: int | None) -> Function:
    def function(m: Any, x: Any) -> Any:
        return getattr(m, word)(x) if axis is None else getattr(m, word)(x, dim=axis)

    return function


def _reduce() -> Iterator[Case]:
    torch_words = {"max": "amax"}
    for r, c in ((64, 64), (1024, 1024), (4096, 4096)):
        for word in ("sum", "mean", "max", "argmax", "var"):
            for axis in (None, 0, 1):

                def function(m: Any, x: Any, word: str = word, axis: int | None = axis) -> Any:
                    return getattr(m, word)(x, axis=axis)

                torch = _torch_axis(torch_words.get(word, word), axis)
                where = "all" if axis is None else f"axis {axis}"
                yield Case(
                    "reduce",
                    f"{word} {r}x{c} {where}",
                    ((r, c),),
                    function,
                    bytes=4.0 * r * c,
                    overrides={"torch": torch},
                )
    yield Case(
        "reduce",
        "cumsum 1024x1024 axis 1",
        ((1024, 1024),),
        lambda m, x: m.cumulative_sum(x, axis=1),
        bytes=8.0 * 1024 * 1024,
        overrides={
            "torch": lambda m, x, **o: m.cumsum(x, dim=1, **o),
            "numpy": lambda m, x, **o: m.cumsum(x, 1, **o),
        },
    )


def _layer_norm_jax(m: Any, x: Any, w: Any, b: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * m.rsqrt(variance + 1e-5) * w + b


def _batch_norm_jax(m: Any, x: Any, w: Any, b: Any) -> Any:
    mean = x.mean((0, 2, 3), keepdims=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdims=True)
    return (x - mean) * m.rsqrt(variance + 1e-5) * w[:, None, None] + b[:, None, None]


def _cross_entropy_jax(m: Any, x: Any, t: Any) -> Any:
    return -m.take_along_axis(m.log_softmax(x, -1), t[:, None], -1).mean()


def _rows() -> Iterator[Case]:
    for back in (False, True):
        suffix, passes = (" backward", 2.5) if back else ("", 1.0)
        for r, c in ((128, 10), (1024, 1024), (4096, 4096)):
            nbytes = 8.0 * r * c * passes
            yield Case(
                "rows",
                f"softmax {r}x{c}{suffix}",
                ((r, c),),
                lambda m, x: m.softmax(x, -1),
                bytes=nbytes,
                backward=back,
            )
            yield Case(
                "rows",
                f"cross_entropy {r}x{c}{suffix}",
                ((r, c), (r,)),
                lambda m, x, t: m.cross_entropy(x, t),
                bytes=nbytes / 2,
                backward=back,
                overrides={"jax": _cross_entropy_jax},
                dtypes=("float32", "int64"),
                high=c,
            )
        for r, c in ((1024, 768), (8192, 1024)):
            yield Case(
                "rows",
                f"layer_norm {r}x{c}{suffix}",
                ((r, c), (c,), (c,)),
                lambda m, x, w, b: m.layer_norm(x, (x.shape[-1],), w, b),
                bytes=8.0 * r * c * passes,
                backward=back,
                overrides={"jax": _layer_norm_jax},
            )
        n, ch, h = 64, 64, 28
        yield Case(
            "rows",
            f"batch_norm {n}x{ch}x{h}x{h}{suffix}",
            ((n, ch, h, h), (ch,), (ch,)),
            lambda m, x, w, b: m.batch_norm(x, None, None, w, b, True),
            bytes=12.0 * n * ch * h * h * passes,
            backward=back,
            overrides={
                "jax": _batch_norm_jax,
                "torch": lambda m, x, w, b: m.nn.functional.batch_norm(x, None, None, w, b, True),
            },
        )
        yield Case(
            "rows",
            f"dropout 4 MB{suffix}",
            ((1 << 20,),),
            lambda m, x: m.dropout(x, 0.5),
            bytes=8.0 * (1 << 20) * passes,
            backward=back,
            overrides={"jax": None, "torch": lambda m, x: m.nn.functional.dropout(x, 0.5)},
        )


_CONVOLUTIONS = (
    #  N   C    H    O  K  stride padding groups
    (64, 1, 28, 32, 3, 1, 1, 1),
    (64, 32, 28, 64, 3, 1, 1, 1),
    (8, 64, 28, 64, 3, 1, 1, 1),
    (8, 64, 56, 64, 3, 1, 1, 1),
    (8, 128, 28, 128, 3, 2, 1, 1),
    (4, 3, 224, 64, 7, 2, 3, 1),
    (8, 20, 24, 50, 5, 1, 0, 1),
    (8, 256, 28, 64, 1, 1, 0, 1),
    (8, 96, 56, 96, 3, 1, 1, 96),
)


def _conv() -> Iterator[Case]:
    for n, c, h, o, k, stride, padding, groups in _CONVOLUTIONS:
        size = (h + 2 * padding - k) // stride + 1
        flops = 2.0 * n * o * size * size * (c // groups) * k * k
        nbytes = 4.0 * (n * c * h * h + n * o * size * size + o * (c // groups) * k * k)

        def function(m: Any, x: Any, w: Any, s: int = stride, p: int = padding, g: int = groups) -> Any:
            return m.conv2d(x, w, None, s, p, 1, g)

        def jax(m: Any, x: Any, w: Any, s: int = stride, p: int = padding, g: int = groups) -> Any:
            return m.conv_general_dilated(x, w, (s, s), [(p, p), (p, p)], feature_group_count=g)

        for back in (False, True):
            name = f"{n}x{c}x{h}x{h} -> {o} k{k} s{stride}" + (f" g{groups}" if groups > 1 else "")
            yield Case(
                "conv",
                name + (" backward" if back else ""),
                ((n, c, h, h), (o, c // groups, k, k)),
                function,
                flops * (3 if back else 1),
                nbytes * (3 if back else 1),
                back,
                {"jax": jax},
            )


_ATTENTION = (
    # B   T    H   D   causal
    (12, 64, 4, 32, True),
    (8, 256, 6, 64, True),
    (4, 197, 12, 64, False),
    (2, 1024, 8, 64, True),
    (2, 511, 8, 128, True),
    (1, 4096, 8, 64, False),
)


def _attention() -> Iterator[Case]:
    for b, t, h, d, causal in _ATTENTION:
        flops = 4.0 * b * h * t * t * d * (0.5 if causal else 1)

        # (B, T, H D), as a projection leaves them
        def function(m: Any, q: Any, k: Any, v: Any, h: int = h, causal: bool = causal) -> Any:
            q, k, v = (m.swapaxes(x.reshape(*x.shape[:2], h, -1), 1, 2) for x in (q, k, v))
            y = m.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return m.swapaxes(y, 1, 2).reshape(y.shape[0], y.shape[2], -1)

        def jax(m: Any, q: Any, k: Any, v: Any, h: int = h, causal: bool = causal) -> Any:
            q, k, v = (x.reshape(*x.shape[:2], h, -1) for x in (q, k, v))
            return m.dot_product_attention(q, k, v, is_causal=causal)

        for back in (False, True):
            yield Case(
                "attention",
                f"B{b} T{t} H{h} D{d}" + (" causal" if causal else "") + (" backward" if back else ""),
                ((b, t, h * d),) * 3,
                function,
                flops * (3.5 if back else 1),
                16.0 * b * t * h * d * (3 if back else 1),
                back,
                {"jax": jax},
            )


_RECURRENT = (
    # T   N    I    H
    (50, 32, 128, 128),
    (64, 32, 128, 256),
    (20, 128, 256, 512),
    (100, 1, 128, 256),
)


def _recurrent() -> Iterator[Case]:
    for kind, gates in (("RNN", 1), ("LSTM", 4), ("GRU", 3)):
        for t, n, i, h in _RECURRENT:
            layers: dict[str, Any] = {}

            # Whole layers: a module of each library, made at its first call.
            def function(
                m: Any, x: Any, kind: str = kind, i: int = i, h: int = h, layers: Any = layers
            ) -> Any:
                if m.name not in layers:
                    layers[m.name] = getattr(m.nn, kind)(i, h)
                return layers[m.name](x)[0]

            for back in (False, True):
                products = (2 * i + 3 * h + i) if back else i + h
                yield Case(
                    "recurrent",
                    f"{kind} T{t} N{n} {i}->{h}" + (" backward" if back else ""),
                    ((t, n, i),),
                    function,
                    2.0 * t * n * gates * h * products,
                    backward=back,
                    overrides={"jax": None},
                )


def _linalg() -> Iterator[Case]:
    work = {"cholesky": 1 / 3, "solve": 8 / 3, "qr": 8 / 3, "eigh": 9.0, "svd": 22.0}  # flops over N^3, about
    for name, flops in work.items():
        for n in (64, 256, 512):
            # a a' + N: symmetric, positive definite, whoever makes it
            def function(m: Any, a: Any, name: str = name, n: int = n) -> Any:
                a = m.matmul(a, a.T) + n * m.eye(n)
                result = getattr(m.linalg, name)(*((a, a) if name == "solve" else (a,)))
                return result[0] if isinstance(result, tuple) else result

            yield Case("linalg", f"{name} {n}", ((n, n),), function, (2 + flops) * n**3)


def _max_pool_jax(m: Any, x: Any) -> Any:
    import jax

    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def _pool() -> Iterator[Case]:
    for n, c, h in ((64, 64, 28), (8, 64, 112)):
        nbytes = 4.0 * n * c * h * h * 1.25

        for back in (False, True):
            suffix, passes = (" backward", 2.0) if back else ("", 1.0)
            for word, overrides in (("max_pool2d", {"jax": _max_pool_jax}), ("avg_pool2d", {"jax": None})):

                def function(m: Any, x: Any, word: str = word) -> Any:
                    return getattr(m, word)(x, 2)

                yield Case(
                    "pool",
                    f"{word} {n}x{c}x{h}x{h} 2{suffix}",
                    ((n, c, h, h),),
                    function,
                    bytes=nbytes * passes,
                    backward=back,
                    overrides=overrides if not back else {"jax": None},
                )


def _index() -> Iterator[Case]:
    rows, width, count = 10_000, 256, 4096
    moved = 8.0 * count * width
    for back in (False, True):
        yield Case(
            "index",
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
        "index",
        f"take {count} of {rows}x{width}",
        ((rows, width), (count,)),
        lambda m, x, i, **o: m.take(x, i, axis=0, **o),
        bytes=moved,
        overrides={"torch": lambda m, x, i, **o: m.index_select(x, 0, i, **o)},
        dtypes=("float32", "int64"),
        high=rows,
    )
    yield Case(
        "index",
        "where 4 MB",
        ((1 << 20,), (1 << 20,)),
        lambda m, a, b: m.where(a > b, a, b),
        bytes=14.0 * (1 << 20),
    )
    square, nbytes = (2048, 2048), 4.0 * 2048 * 2048
    yield Case(
        "index",
        "transposed copy 2048x2048",
        (square,),
        lambda m, x: x.T.contiguous(),
        bytes=2 * nbytes,
        overrides={"numpy": lambda m, x: m.ascontiguousarray(x.T), "jax": None},
    )
    yield Case(
        "index", "concat 2 x 16 MB", (square, square), lambda m, a, b: m.concat((a, b)), bytes=4 * nbytes
    )


def _sort() -> Iterator[Case]:
    for shape in ((1000,), (100_000,), (1_000_000,), (1000, 100)):
        nbytes = 8.0 * np.prod(shape)
        where = "x".join(str(n) for n in shape)
        torch_sort: Function = lambda m, x: m.sort(x, stable=True)  # noqa: E731
        yield Case("sort", f"sort {where}", (shape,), lambda m, x: m.sort(x), bytes=nbytes)
        yield Case(
            "sort",
            f"argsort stable {where}",
            (shape,),
            lambda m, x: m.argsort(x, stable=True),
            bytes=1.5 * nbytes,
            overrides={"torch": torch_sort},
        )
    yield Case(
        "sort",
        "topk 10 of 100x10000",
        ((100, 10_000),),
        lambda m, x: m.topk(x, 10),
        bytes=4e6,
        overrides={"numpy": None, "jax": lambda m, x: m.top_k(x, 10)},
    )
    yield Case(
        "sort",
        "bincount 1000000 of 100",
        ((1_000_000,),),
        lambda m, x: m.bincount(x),
        bytes=8e6,
        overrides={"jax": None},
        dtypes=("int64",),
        high=100,
    )
    yield Case(
        "sort",
        "histogram 1000000 in 100",
        ((1_000_000,),),
        lambda m, x: m.histogram(x, 100),
        bytes=4e6,
        overrides={"torch": lambda m, x: m.histc(x, 100), "jax": None},
    )


CASES: tuple[Case, ...] = (
    *_gemm(),
    *_pointwise(),
    *_reduce(),
    *_rows(),
    *_conv(),
    *_attention(),
    *_pool(),
    *_index(),
    *_sort(),
)
