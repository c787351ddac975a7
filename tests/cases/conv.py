"""2-D convolution against a direct sum in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, normal


def windows(
    x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> np.ndarray:
    """(N, C, P, Q, KH, KW): what each output position sees."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def reference(
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int
) -> Callable[..., Any]:
    def run(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
        patches = windows(x, w.shape[2:], stride, dilation)
        c, o = w.shape[1], w.shape[0] // groups
        y = np.concatenate(
            [
                np.einsum("ncpqij,ocij->nopq", patches[:, g * c : (g + 1) * c], w[g * o : (g + 1) * o])
                for g in range(groups)
            ],
            axis=1,
        )
        return y if b is None else y + b[:, None, None]

    return run


def case(
    name: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    large: bool = False,
) -> Case:
    def op(x: Any, w: Any, b: Any) -> Any:
        return ts.conv2d(x, w, b, stride, padding, dilation, groups)

    inputs = [normal(*x), normal(*w), normal(w[0])]
    big = [normal(8, 16, 30, 29), normal(24, 16, 3, 3), normal(24)] if large else None
    return Case(
        f"conv2d {name}",
        op,
        reference(stride, padding, dilation, groups),
        inputs,
        scale=float(np.prod(w[1:])),
        large=big,
    )


CASES = [
    case("plain", (1, 2, 4, 3), (3, 2, 2, 2), large=True),
    case("one channel", (2, 1, 4, 3), (4, 1, 3, 3), padding=(1, 1)),
    case("padding", (1, 2, 3, 4), (2, 2, 3, 3), padding=(1, 2)),
    case("stride", (1, 2, 5, 4), (2, 2, 2, 2), stride=(2, 1)),
    case("stride and padding", (1, 2, 4, 3), (2, 2, 3, 3), stride=(2, 2), padding=(1, 1)),
    case("dilation", (1, 1, 5, 4), (2, 1, 2, 2), dilation=(2, 3)),
    case("groups", (1, 4, 3, 2), (4, 2, 2, 2), groups=2),
    case("depthwise", (1, 4, 3, 2), (4, 1, 2, 2), groups=4),
    case("1x1", (2, 3, 2, 2), (4, 3, 1, 1)),
    Case(
        "conv2d_relu",
        lambda x, w, b: ts.conv2d_relu(x, w, b),
        lambda x, w, b: np.maximum(reference((1, 1), (0, 0), (1, 1), 1)(x, w, b), 0),
        [normal(1, 2, 4, 3), normal(3, 2, 2, 2), normal(3)],
        scale=8.0,
    ),
]
