"""Attention, heads split off as views. B T H D: batch, length, heads, features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorsmith.bench.case import Case

_ATTENTION = (
    # B   T    H   D   causal
    (12, 64, 4, 32, True),
    (8, 256, 6, 64, True),
    (4, 197, 12, 64, False),
    (2, 1024, 8, 64, True),
    (2, 511, 8, 128, True),
    (1, 4096, 8, 64, False),
)


def cases() -> Iterator[Case]:
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
                f"B{b} T{t} H{h} D{d}" + (" causal" if causal else "") + (" backward" if back else ""),
                ((b, t, h * d),) * 3,
                function,
                flops * (3.5 if back else 1),
                16.0 * b * t * h * d * (3 if back else 1),
                back,
                {"jax": jax},
            )
