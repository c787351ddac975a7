"""2-D pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, apart, normal
from cases.conv import windows

Pair = tuple[int, int]


def maximum(
    kernel: Pair, stride: Pair, padding: Pair = (0, 0), dilation: Pair = (1, 1)
) -> Callable[..., Any]:
    def run(x: np.ndarray) -> np.ndarray:
        x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), constant_values=-np.inf)
        return windows(x, kernel, stride, dilation).max((4, 5))

    return run


SAMPLES = np.array([[[0.1, 0.8], [0.95, 0.0]]])


def fractional(x: np.ndarray) -> np.ndarray:
    """2 x 2 windows of (1, 2, 6, 5) to (4, 3), by SAMPLES."""
    y = np.empty((1, 2, 4, 3), x.dtype)
    for c in range(2):
        starts = []
        for u, last, count in ((SAMPLES[0, c, 1], 4, 4), (SAMPLES[0, c, 0], 3, 3)):
            step = last / (count - 1)
            starts.append([int((i + u) * step) - int(u * step) for i in range(count - 1)] + [last])
        for p, h in enumerate(starts[0]):
            for q, w in enumerate(starts[1]):
                y[0, c, p, q] = x[0, c, h : h + 2, w : w + 2].max()
    return y


def average(
    kernel: Pair, stride: Pair, padding: Pair = (0, 0), count_padding: bool = True
) -> Callable[..., Any]:
    def run(x: np.ndarray) -> np.ndarray:
        widths = ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)
        total = windows(np.pad(x, widths), kernel, stride, (1, 1)).sum((4, 5))
        ones = np.pad(np.ones_like(x), widths, constant_values=float(count_padding))
        return total / windows(ones, kernel, stride, (1, 1)).sum((4, 5))

    return run


CASES = [
    Case("max_pool2d", lambda x: ts.max_pool2d(x, 2), maximum((2, 2), (2, 2)), [apart(1, 2, 4, 3)], exact=True, large=[normal(8, 16, 33, 31)]),
    Case("max_pool2d overlapping", lambda x: ts.max_pool2d(x, 3, 1, 1), maximum((3, 3), (1, 1), (1, 1)), [apart(1, 2, 3, 4)], exact=True),
    Case("max_pool2d options", lambda x: ts.max_pool2d(x, (2, 3), (2, 1), (1, 1), (1, 2)), maximum((2, 3), (2, 1), (1, 1), (1, 2)), [apart(1, 1, 4, 5)], exact=True),
    Case("fractional_max_pool2d", lambda x: ts.fractional_max_pool2d(x, ts.asarray(SAMPLES, dtype=x.dtype), 2, (4, 3))[0], fractional, [apart(1, 2, 6, 5)], exact=True),
    Case("avg_pool2d", lambda x: ts.avg_pool2d(x, 2), average((2, 2), (2, 2)), [normal(1, 2, 4, 3)], scale=1.0, large=[normal(8, 16, 33, 31)]),
    Case("avg_pool2d padding", lambda x: ts.avg_pool2d(x, 3, 2, 1), average((3, 3), (2, 2), (1, 1)), [normal(1, 1, 4, 5)], scale=1.0),
    Case("avg_pool2d own count", lambda x: ts.avg_pool2d(x, 3, 2, 1, count_include_pad=False), average((3, 3), (2, 2), (1, 1), False), [normal(1, 1, 4, 5)], scale=1.0),
]  # fmt: skip
