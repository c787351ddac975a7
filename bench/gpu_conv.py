"""Convolutions for bench/gpu.py: ResNet-50's layers, forward and both gradients, beside cuDNN's: float32 tensors in
each mode, and tensors of bfloat16 and float16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gpu_products import Case, has_torch, pair

import tensorsmith as ts

try:
    import torch
except ImportError:
    torch = None

# Channels, size, filters, extent of a filter, stride
LAYERS = [
    (64, 56, 64, 3, 1), (128, 28, 128, 3, 1), (256, 14, 256, 3, 1), (512, 7, 512, 3, 1), (128, 56, 128, 3, 2),
    (64, 56, 256, 1, 1), (256, 56, 64, 1, 1), (1024, 14, 256, 1, 1), (256, 56, 512, 1, 2), (3, 224, 64, 7, 2),
]  # fmt: skip
HALVES = {"bfloat16 tensors": "bfloat16", "float16 tensors": "float16"}
MODES = (*HALVES, "ieee", "bfloat16", "tf32", "split")
core = ts._core.ops


def convolutions(scale: int) -> Iterator[Case]:
    batch = max(1, 64 // scale)
    for mode in MODES:
        for channels, size, filters, extent, stride in LAYERS:
            if scale > 1:
                size = min(size, 2 * extent)
            options = (stride, extent // 2, 1, 1)
            x, tx = pair(batch, size, size, channels)
            x, w = ts.permute_dims(x, (0, 3, 1, 2)), pair(filters, channels, extent, extent)
            places = (size + 2 * (extent // 2) - extent) // stride + 1
            dy, tdy = pair(batch, places, places, filters)
            dy, w = ts.permute_dims(dy, (0, 3, 1, 2)), (w[0].astype(HALVES.get(mode, "float32")), w[1])
            x, dy = (v.astype(HALVES.get(mode, "float32")) for v in (x, dy))
            theirs: list[Callable[[], Any] | None] = [None] * 3
            if has_torch():
                dtype = getattr(torch, HALVES.get(mode, "bfloat16" if mode == "bfloat16" else "float32"))
                a, g = (v.permute(0, 3, 1, 2).to(dtype) for v in (tx, tdy))
                f = w[1].to(dtype).contiguous(memory_format=torch.channels_last)
                theirs = peers(a, f, g, stride, extent // 2, mode == "tf32")
            flops = 2.0 * batch * places * places * filters * channels * extent * extent
            name = f"{mode} {channels}x{size} {filters} {extent}x{extent} s{stride}"
            ours = (
                lambda x=x, w=w[0], o=options: core.conv2d(x, w, None, *o),
                lambda x=x, w=w[0], d=dy, o=options: core.conv2d_input_backward(d, w, x.shape, *o),
                lambda x=x, w=w[0], d=dy, o=options: core.conv2d_weight_backward(d, x, w.shape, *o),
            )
            for what, mine, peer in zip(("forward", "dx", "dw"), ours, theirs, strict=True):
                if what == "dx" and channels == 3:
                    continue
                yield Case(
                    f"conv {what} {name}",
                    in_mode(mine, mode if mode not in HALVES else "ieee"),
                    peer,
                    flops=flops,
                )


def in_mode(call: Callable[[], Any], mode: Any) -> Callable[[], Any]:
    def run() -> Any:
        ts.cuda.set_matmul_precision(mode)
        try:
            return call()
        finally:
            ts.cuda.set_matmul_precision("ieee")

    return run


def peers(x: Any, w: Any, dy: Any, stride: int, padding: int, tf32: bool) -> list[Callable[[], Any] | None]:
    def backward(mask: tuple[bool, bool, bool]) -> Callable[[], Any]:
        both = (stride, stride), (padding, padding), (1, 1)
        return lambda: torch.ops.aten.convolution_backward(
            dy, x, w, [w.shape[0]], *both, False, (0, 0), 1, mask
        )

    def allowed(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = True
            return call()

        return run

    return [
        allowed(lambda: torch.nn.functional.conv2d(x, w, None, stride, padding)),
        allowed(backward((True, False, False))),
        allowed(backward((False, True, True))),
    ]
