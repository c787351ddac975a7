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
    yield from _resampling()


def _resampling() -> Iterator[Case]:
    shape = (8, 32, 56, 56)
    read = 4.0 * 8 * 32 * 56 * 56
    rows: tuple[tuple[str, Any, float], ...] = (
        ("max_pool2d 3x3/2", lambda m, x: m.max_pool2d(x, 3, 2, 1), 1.25),
        ("avg_pool2d 3x3/1", lambda m, x: m.avg_pool2d(x, 3, 1, 1), 2),
        ("adaptive_avg_pool2d 7", lambda m, x: m.adaptive_avg_pool2d(x, 7), 1),
        ("adaptive_avg_pool2d 1", lambda m, x: m.adaptive_avg_pool2d(x, 1), 1),
        ("adaptive_max_pool2d 5", lambda m, x: m.adaptive_max_pool2d(x, 5), 1),
        ("interpolate nearest x2", lambda m, x: m.interpolate(x, scale_factor=2), 5),
        ("interpolate bilinear x2", lambda m, x: m.interpolate(x, scale_factor=2, mode="bilinear"), 5),
        ("interpolate bicubic x2", lambda m, x: m.interpolate(x, scale_factor=2, mode="bicubic"), 5),
        ("pad reflect 3", lambda m, x: m.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect"), 2.2),
        ("pixel_unshuffle 2", lambda m, x: m.pixel_unshuffle(x, 2), 2),
        ("unfold 3x3", lambda m, x: m.unfold(x, 3, padding=1), 10),
    )
    for name, function, moved in rows:
        for back in (False, True):
            yield Case(
                f"{name} 8x32x56x56" + (" backward" if back else ""),
                (shape,),
                function,
                bytes=moved * read * (2.0 if back else 1.0),
                backward=back,
                overrides={"jax": None, "numpy": None},
            )
