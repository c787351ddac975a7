"""Convolution, one to three dimensions and transposed, against a direct sum in float64."""

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
    large: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
) -> Case:
    def op(x: Any, w: Any, b: Any) -> Any:
        return ts.conv2d(x, w, b, stride, padding, dilation, groups)

    inputs = [normal(*x), normal(*w), normal(w[0])]
    big = [normal(*large[0]), normal(*large[1]), normal(large[1][0])] if large else None
    return Case(
        f"conv2d {name}",
        op,
        reference(stride, padding, dilation, groups),
        inputs,
        scale=float(np.prod(w[1:])),
        large=big,
    )


def transposed(
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    extra: tuple[int, ...],
    groups: int,
    dilation: tuple[int, ...],
) -> Callable[..., Any]:
    """Every element of x adds its filter to the result, one tap at a time."""

    def run(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        n, c, *sizes = x.shape
        o, each = w.shape[1], c // groups
        full = [
            (m - 1) * s + d * (k - 1) + 1 + e
            for m, s, d, k, e in zip(sizes, stride, dilation, w.shape[2:], extra)
        ]
        y = np.zeros((n, o * groups, *full))
        for tap in np.ndindex(*w.shape[2:]):
            place = tuple(
                slice(t * d, t * d + (m - 1) * s + 1, s) for t, d, m, s in zip(tap, dilation, sizes, stride)
            )
            for g in range(groups):
                part = np.einsum(
                    "nc...,co->no...",
                    x[:, g * each : (g + 1) * each],
                    w[(slice(g * each, (g + 1) * each), slice(None), *tap)],
                )
                y[(slice(None), slice(g * o, (g + 1) * o), *place)] += part
        inside = tuple(slice(p, m - p) for p, m in zip(padding, full))
        return y[(slice(None), slice(None), *inside)] + b.reshape(-1, *[1] * len(sizes))

    return run


def volumes(
    stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], groups: int
) -> Callable[..., Any]:
    """conv3d, or with a first extent of 1 conv1d's and conv2d's, one tap at a time."""

    def run(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
        places = [
            (m - d * (k - 1) - 1) // s + 1 for m, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation)
        ]
        c, o = w.shape[1], w.shape[0] // groups
        y = np.zeros((x.shape[0], w.shape[0], *places))
        for tap in np.ndindex(*w.shape[2:]):
            seen = x[
                (
                    ...,
                    *(
                        slice(t * d, t * d + (m - 1) * s + 1, s)
                        for t, d, m, s in zip(tap, dilation, places, stride)
                    ),
                )
            ]
            for g in range(groups):
                y[:, g * o : (g + 1) * o] += np.einsum(
                    "nc...,oc->no...",
                    seen[:, g * c : (g + 1) * c],
                    w[(slice(g * o, (g + 1) * o), slice(None), *tap)],
                )
        return y + b.reshape(-1, *[1] * len(places))

    return run


def other(
    name: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    extra: tuple[int, ...] | None = None,
) -> Case:
    outputs = w[0] if extra is None else w[1] * groups

    def op(x: Any, w: Any, b: Any) -> Any:
        if extra is None:
            return getattr(ts, name)(x, w, b, stride, padding, dilation, groups)
        return getattr(ts, name)(x, w, b, stride, padding, extra, groups, dilation)

    expected = (
        volumes(stride, padding, dilation, groups)
        if extra is None
        else transposed(stride, padding, extra, groups, dilation)
    )
    options = " ".join(
        f"{k}{v}" for k, v in (("s", stride[0]), ("p", padding[0]), ("d", dilation[0]), ("g", groups))
    )
    return Case(
        f"{name} {options}",
        op,
        expected,
        [normal(*x), normal(*w), normal(outputs)],
        scale=float(np.prod(w[1:])),
    )


OTHERS = [
    other("conv1d", (2, 3, 6), (4, 3, 3), (1,), (1,), (1,)),
    other("conv1d", (1, 4, 7), (2, 2, 2), (2,), (0,), (3,), groups=2),
    other("conv3d", (1, 2, 3, 3, 2), (2, 2, 2, 2, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    other("conv3d", (2, 2, 4, 3, 3), (2, 1, 2, 2, 1), (2, 1, 2), (1, 1, 0), (2, 1, 1), groups=2),
    other("conv3d", (1, 2, 4, 3, 3), (3, 2, 3, 2, 3), (1, 1, 1), (1, 0, 2), (1, 1, 1)),
    other("conv3d", (2, 2, 6, 3, 2), (2, 2, 2, 3, 1), (2, 2, 1), (1, 2, 0), (3, 1, 1)),
    other("conv3d", (1, 18, 2, 2, 1), (4, 9, 2, 2, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1), groups=2),
    other("conv_transpose3d", (1, 2, 3, 2, 1), (2, 3, 2, 2, 1), (2, 1, 1), (1, 0, 0), (1, 1, 1), extra=(1, 0, 0)),
    other("conv_transpose1d", (2, 3, 4), (3, 2, 3), (2,), (1,), (1,), extra=(1,)),
    other("conv_transpose2d", (1, 2, 3, 2), (2, 3, 2, 2), (1, 1), (0, 0), (1, 1), extra=(0, 0)),
    other("conv_transpose2d", (1, 4, 3, 2), (4, 1, 3, 2), (3, 2), (1, 1), (2, 1), groups=2, extra=(2, 1)),
    other("conv_transpose3d", (1, 2, 2, 2, 2), (2, 2, 2, 2, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1), extra=(0, 0, 0)),
    other("conv_transpose3d", (1, 2, 2, 3, 2), (2, 1, 3, 2, 2), (2, 1, 2), (1, 0, 1), (1, 2, 1), groups=2, extra=(1, 0, 1)),
]  # fmt: skip


def by_winograd(name: str, run: Callable[..., Any], expected: Callable[..., Any], *inputs: Any) -> Case:
    """Many channels: values and bits here; gradients and errors in test_conv.py. The bound is half of the contract for
    sums, 2 sqrt(K) eps of the absolute sum, K = 9 C."""

    def op(*arguments: Any) -> Any:
        with ts.conv_algorithm("winograd"):
            return run(*arguments)

    return Case(
        f"{name} winograd", op, expected, [normal(*shape) for shape in inputs], scale=1000.0, gradient=False
    )


def _flipped(dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    return reference((1, 1), (2, 2), (1, 1), 1)(dy, w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))


CASES = [
    *OTHERS,
    by_winograd(
        "conv2d",
        lambda x, w, b: ts.conv2d(x, w, b, padding=1),
        reference((1, 1), (1, 1), (1, 1), 1),
        (3, 35, 9, 14),
        (33, 35, 3, 3),
        (33,),
    ),
    by_winograd(
        "conv2d_input_backward",
        lambda dy, w: ts._core.ops.conv2d_input_backward(dy, w, (2, 32, 8, 13)),
        _flipped,
        (2, 40, 6, 11),
        (40, 32, 3, 3),
    ),
    case("plain", (1, 2, 4, 3), (3, 2, 2, 2), large=((8, 16, 30, 29), (24, 16, 3, 3))),
    case("one channel", (2, 1, 4, 3), (4, 1, 3, 3), padding=(1, 1)),
    case("padding", (1, 2, 3, 4), (2, 2, 3, 3), padding=(1, 2)),
    case("stride", (1, 2, 5, 4), (2, 2, 2, 2), stride=(2, 1)),
    case("stride and padding", (1, 2, 4, 3), (2, 2, 3, 3), stride=(2, 2), padding=(1, 1)),
    case("dilation", (1, 1, 5, 4), (2, 1, 2, 2), dilation=(2, 3)),
    case("groups", (1, 4, 3, 2), (4, 2, 2, 2), groups=2),
    case("depthwise", (1, 4, 3, 2), (4, 1, 2, 2), groups=4),
    case(
        "depthwise 3x3",
        (1, 3, 3, 9),
        (3, 1, 3, 3),
        padding=(1, 1),
        groups=3,
        large=((3, 3, 19, 75), (3, 1, 3, 3)),
    ),
    case("depthwise 5x5 stride", (2, 2, 5, 4), (2, 1, 5, 5), stride=(2, 2), padding=(2, 2), groups=2),
    case("depthwise wide stride", (1, 2, 4, 7), (2, 1, 2, 3), stride=(2, 3), dilation=(1, 2), groups=2),
    case(
        "narrow groups",
        (1, 6, 3, 2),
        (9, 2, 2, 2),
        padding=(1, 0),
        groups=3,
        large=((3, 6, 17, 21), (9, 2, 3, 3)),
    ),
    case("multiplied channels", (1, 3, 3, 3), (6, 1, 3, 2), groups=3),
    case("few outputs", (1, 9, 3, 3), (3, 9, 2, 2), padding=(1, 1), large=((4, 9, 20, 37), (3, 9, 3, 3))),
    case("few outputs spread", (1, 8, 4, 3), (5, 8, 2, 2), stride=(1, 2), dilation=(2, 1)),
    case("few inputs of many", (1, 2, 3, 3), (10, 2, 2, 2), padding=(1, 1)),
    case("1x1", (2, 3, 2, 2), (4, 3, 1, 1)),
    Case(
        "conv2d_relu",
        lambda x, w, b: ts.conv2d_relu(x, w, b),
        lambda x, w, b: np.maximum(reference((1, 1), (0, 0), (1, 1), 1)(x, w, b), 0),
        [normal(1, 2, 4, 3), normal(3, 2, 2, 2), normal(3)],
        scale=8.0,
    ),
]
