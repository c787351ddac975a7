"""Pooling. N C H W images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tensorsmith.bench.case import Case


def _max_pool_jax(m: Any, x: Any) -> Any:
    import jax

    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def cases() -> Iterator[Case]:
    for n, c, h in ((64, 64, 28), (8, 64, 112)):
        nbytes = 4.0 * n * c * h * h * 1.25

        for back in (False, True):
            suffix, passes = (" backward", 2.0) if back else ("", 1.0)
            for word, overrides in (("max_pool2d", {"jax": _max_pool_jax}), ("avg_pool2d", {"jax": None})):

                def function(m: Any, x: Any, word: str = word) -> Any:
                    return getattr(m, word)(x, 2)

                yield Case(
                    f"{word} {n}x{c}x{h}x{h} 2{suffix}",
                    ((n, c, h, h),),
                    function,
                    bytes=nbytes * passes,
                    backward=back,
                    overrides=overrides if not back else {"jax": None},
                )
