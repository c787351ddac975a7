"""Convolutions. N C H W images, O filters. Images of more than 4 channels lie channels last for ours and PyTorch,
as their own layers hand them on; first layers meet ours as NCHW.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tensorsmith.bench.case import Case

_CONVOLUTIONS = (
    #  N   C    H    O  K  stride padding groups dilation
    (64, 1, 28, 32, 3, 1, 1, 1, 1),
    (64, 32, 28, 64, 3, 1, 1, 1, 1),
    (32, 16, 32, 16, 3, 1, 1, 1, 1),
    (32, 3, 32, 16, 3, 1, 1, 1, 1),
    (32, 64, 8, 64, 3, 1, 1, 1, 1),
    (8, 64, 28, 64, 3, 1, 1, 1, 1),
    (8, 64, 56, 64, 3, 1, 1, 1, 1),
    (1, 64, 56, 64, 3, 1, 1, 1, 1),
    (16, 256, 14, 256, 3, 1, 1, 1, 1),
    (4, 512, 7, 512, 3, 1, 1, 1, 1),
    (3, 17, 23, 37, 3, 1, 1, 1, 1),
    (8, 128, 28, 128, 3, 2, 1, 1, 1),
    (4, 64, 28, 64, 3, 1, 2, 1, 2),
    (4, 3, 224, 64, 7, 2, 3, 1, 1),
    (8, 20, 24, 50, 5, 1, 0, 1, 1),
    (8, 256, 28, 64, 1, 1, 0, 1, 1),
    (8, 256, 14, 256, 1, 1, 0, 1, 1),
    (8, 256, 28, 512, 1, 2, 0, 1, 1),
    (8, 128, 28, 128, 3, 1, 1, 32, 1),
    (8, 96, 56, 96, 3, 1, 1, 96, 1),
    (16, 96, 112, 96, 3, 2, 1, 96, 1),
    (16, 384, 14, 384, 3, 1, 1, 384, 1),
    (16, 960, 7, 960, 3, 1, 1, 960, 1),
    (16, 120, 28, 120, 5, 1, 2, 120, 1),
    (8, 192, 28, 192, 7, 1, 3, 192, 1),
)
_TRANSPOSED = (
    # N  C   H   O  K stride padding
    (8, 64, 28, 32, 2, 2, 0),
    (8, 64, 16, 32, 4, 2, 1),
)
_OTHERS = (
    # x                      w                   stride padding
    ((16, 64, 1000), (64, 64, 5), 1, 2),
    ((8, 1, 16000), (64, 1, 80), 4, 38),
    ((2, 32, 16, 28, 28), (32, 32, 3, 3, 3), 1, 1),
)


def _both(
    name: str, shapes: Sequence[tuple[int, ...]], function: Any, flops: float, results: float, jax: Any
) -> Iterator[Case]:
    nbytes = 4.0 * (sum(map(math.prod, shapes)) + results)
    peers = {} if jax is None else {"jax": jax}
    last = ("torch", "tensorsmith") if shapes[0][1] > 4 else ("torch",)
    for back in (False, True):
        times = 3 if back else 1
        yield Case(
            name + (" backward" if back else ""),
            tuple(shapes),
            function,
            flops * times,
            nbytes * times,
            back,
            peers,
            channels_last=last,
        )


def cases() -> Iterator[Case]:
    for n, c, h, o, k, stride, padding, groups, dilation in _CONVOLUTIONS:
        size = (h + 2 * padding - dilation * (k - 1) - 1) // stride + 1

        def function(
            m: Any, x: Any, w: Any, s: int = stride, p: int = padding, d: int = dilation, g: int = groups
        ) -> Any:
            return m.conv2d(x, w, None, s, p, d, g)

        def jax(
            m: Any, x: Any, w: Any, s: int = stride, p: int = padding, d: int = dilation, g: int = groups
        ) -> Any:
            return m.conv_general_dilated(
                x, w, (s, s), [(p, p), (p, p)], rhs_dilation=(d, d), feature_group_count=g
            )

        yield from _both(
            f"{n}x{c}x{h}x{h} -> {o} k{k} s{stride}"
            + (f" g{groups}" if groups > 1 else "")
            + (f" d{dilation}" if dilation > 1 else ""),
            ((n, c, h, h), (o, c // groups, k, k)),
            function,
            2.0 * n * o * size * size * (c // groups) * k * k,
            n * o * size * size,
            jax,
        )

    for n, c, h, o, k, stride, padding in _TRANSPOSED:
        size = (h - 1) * stride - 2 * padding + k

        def transposed(m: Any, x: Any, w: Any, s: int = stride, p: int = padding) -> Any:
            return m.conv_transpose2d(x, w, None, s, p)

        yield from _both(
            f"transposed {n}x{c}x{h}x{h} -> {o} k{k} s{stride}",
            ((n, c, h, h), (c, o, k, k)),
            transposed,
            2.0 * n * c * h * h * o * k * k,
            n * o * size * size,
            None,
        )

    for x_shape, w_shape, stride, padding in _OTHERS:
        rank = len(x_shape) - 2
        places = [(m + 2 * padding - k) // stride + 1 for m, k in zip(x_shape[2:], w_shape[2:])]

        def other(m: Any, x: Any, w: Any, r: int = rank, s: int = stride, p: int = padding) -> Any:
            return getattr(m, f"conv{r}d")(x, w, None, s, p)

        def other_jax(m: Any, x: Any, w: Any, r: int = rank, s: int = stride, p: int = padding) -> Any:
            return m.conv_general_dilated(x, w, (s,) * r, [(p, p)] * r)

        yield from _both(
            f"{'x'.join(map(str, x_shape))} -> {w_shape[0]} k{w_shape[-1]} s{stride}",
            (x_shape, w_shape),
            other,
            2.0 * math.prod(w_shape) * math.prod(places) * x_shape[0],
            x_shape[0] * w_shape[0] * math.prod(places),
            other_jax,
        )
