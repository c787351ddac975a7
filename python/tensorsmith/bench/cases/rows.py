"""Rows: softmax, losses, norms, dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorsmith.bench.case import Case


def layer_norm_jax(m: Any, x: Any, w: Any, b: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * m.rsqrt(variance + 1e-5) * w + b


def batch_norm_jax(m: Any, x: Any, w: Any, b: Any) -> Any:
    mean = x.mean((0, 2, 3), keepdims=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdims=True)
    return (x - mean) * m.rsqrt(variance + 1e-5) * w[:, None, None] + b[:, None, None]


def cross_entropy_jax(m: Any, x: Any, t: Any) -> Any:
    return -m.take_along_axis(m.log_softmax(x, -1), t[:, None], -1).mean()


def cases() -> Iterator[Case]:
    for back in (False, True):
        suffix, passes = (" backward", 2.5) if back else ("", 1.0)
        for r, c in ((128, 10), (1024, 1024), (4096, 4096)):
            nbytes = 8.0 * r * c * passes
            yield Case(
                f"softmax {r}x{c}{suffix}",
                ((r, c),),
                lambda m, x: m.softmax(x, -1),
                bytes=nbytes,
                backward=back,
            )
            yield Case(
                f"cross_entropy {r}x{c}{suffix}",
                ((r, c), (r,)),
                lambda m, x, t: m.cross_entropy(x, t),
                bytes=nbytes / 2,
                backward=back,
                overrides={"jax": cross_entropy_jax},
                dtypes=("float32", "int64"),
                high=c,
            )
        for r, c in ((1024, 768), (8192, 1024)):
            yield Case(
                f"layer_norm {r}x{c}{suffix}",
                ((r, c), (c,), (c,)),
                lambda m, x, w, b: m.layer_norm(x, (x.shape[-1],), w, b),
                bytes=8.0 * r * c * passes,
                backward=back,
                overrides={"jax": layer_norm_jax},
            )
        n, ch, h = 64, 64, 28
        yield Case(
            f"batch_norm {n}x{ch}x{h}x{h}{suffix}",
            ((n, ch, h, h), (ch,), (ch,)),
            lambda m, x, w, b: m.batch_norm(x, None, None, w, b, True),
            bytes=12.0 * n * ch * h * h * passes,
            backward=back,
            overrides={
                "jax": batch_norm_jax,
                "torch": lambda m, x, w, b: m.nn.functional.batch_norm(x, None, None, w, b, True),
            },
        )
        yield Case(
            f"dropout 4 MB{suffix}",
            ((1 << 20,),),
            lambda m, x: m.dropout(x, 0.5),
            bytes=8.0 * (1 << 20) * passes,
            backward=back,
            overrides={"jax": None, "torch": lambda m, x: m.nn.functional.dropout(x, 0.5)},
        )
