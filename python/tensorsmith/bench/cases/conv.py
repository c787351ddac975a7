"""Convolutions. N C H W images, O filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorsmith.bench.case import Case

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


def cases() -> Iterator[Case]:
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
                name + (" backward" if back else ""),
                ((n, c, h, h), (o, c // groups, k, k)),
                function,
                flops * (3 if back else 1),
                nbytes * (3 if back else 1),
                back,
                {"jax": jax},
            )
