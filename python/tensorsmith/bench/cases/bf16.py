"""bfloat16: products, convolutions, attention, and training steps under autocast. M N K: rows and columns of the
result, depth; N C H W images, channels last, O filters; B T H D: batch, length, heads, features.

Shares are of the peak of the engine that multiplies bfloat16: AMX, vdpbf16ps, or float32's FMA.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tensorsmith.bench.case import Task
from tensorsmith.bench.libraries import Thunk
from tensorsmith.bench.models import STEPS, ours, torch_step

SHAPES = (
    (64, 64, 64), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (1000, 1001, 1003),
    (768, 384, 128), (768, 512, 128), (768, 128, 512), (2048, 1536, 384), (2048, 384, 1536), (128, 512, 784),
)  # fmt: skip

CONVOLUTIONS = (
    # N  C   H   O  K stride
    (8, 64, 56, 64, 3, 1), (16, 256, 14, 256, 3, 1), (4, 512, 7, 512, 3, 1), (8, 128, 28, 128, 3, 2),
    (32, 16, 32, 16, 3, 1), (64, 1, 28, 32, 3, 1), (4, 3, 224, 64, 7, 2), (8, 256, 28, 64, 1, 1),
    (8, 256, 14, 256, 1, 1), (8, 256, 28, 512, 1, 2),
)  # fmt: skip

ATTENTION = (
    # B  T   H  D  causal
    (8, 256, 6, 64, True), (12, 64, 4, 32, True), (2, 1024, 8, 64, True), (1, 4096, 8, 64, True),
    (1, 2048, 8, 128, True), (1, 2048, 8, 128, False),
)  # fmt: skip


def _operands(m: int, n: int, k: int, layout: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if layout[0] == "T" else (m, k), np.float32)
    b = rng.standard_normal((n, k) if layout[1] == "T" else (k, n), np.float32)
    return a, b


def _product(m: int, n: int, k: int, layout: str) -> Thunk:
    import tensorsmith as ts

    a, b = (ts.asarray(x).astype(ts.bfloat16) for x in _operands(m, n, k, layout))
    left = ts.matrix_transpose(a) if layout[0] == "T" else a
    right = ts.matrix_transpose(b) if layout[1] == "T" else b
    return lambda: ts.matmul(left, right)


def _torch_product(m: int, n: int, k: int, layout: str) -> Thunk:
    import torch

    a, b = (torch.from_numpy(x).bfloat16() for x in _operands(m, n, k, layout))
    left, right = a.T if layout[0] == "T" else a, b.T if layout[1] == "T" else b
    result: Any = torch.empty((m, n), dtype=torch.bfloat16)
    return lambda: torch.matmul(left, right, out=result)


def _images(n: int, c: int, h: int, o: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, h, h, c), np.float32), rng.standard_normal((o, c, k, k), np.float32)


def _convolution(n: int, c: int, h: int, o: int, k: int, stride: int, backward: bool) -> Thunk:
    import tensorsmith as ts

    images, filters = _images(n, c, h, o, k)
    x = ts.permute_dims(ts.asarray(images).astype(ts.bfloat16), (0, 3, 1, 2))
    w = ts.asarray(filters).astype(ts.bfloat16)
    if not backward:
        return lambda: ts.conv2d(x, w, None, stride, k // 2)
    leaves = (x.requires_grad_(), w.requires_grad_())
    ones = ts.ones_like(ts.conv2d(x, w, None, stride, k // 2).detach())

    def step() -> None:
        ts.conv2d(x, w, None, stride, k // 2).backward(ones)
        for leaf in leaves:
            leaf.grad = None

    return step


def _torch_convolution(n: int, c: int, h: int, o: int, k: int, stride: int, backward: bool) -> Thunk:
    import torch

    images, filters = (torch.from_numpy(a).bfloat16() for a in _images(n, c, h, o, k))
    x, conv2d = images.permute(0, 3, 1, 2), torch.nn.functional.conv2d
    if not backward:
        return lambda: conv2d(x, filters, None, stride, k // 2)
    leaves = (x.requires_grad_(), filters.requires_grad_())
    ones = torch.ones_like(conv2d(x, filters, None, stride, k // 2).detach())

    def step() -> None:
        conv2d(x, filters, None, stride, k // 2).backward(ones)
        for leaf in leaves:
            leaf.grad = None

    return step


def _attention(b: int, t: int, h: int, d: int, causal: bool, backward: bool) -> Thunk:
    import tensorsmith as ts

    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((b, t, h, d), np.float32) for _ in range(4)]
    *leaves, dy = (ts.permute_dims(ts.asarray(x).astype(ts.bfloat16), (0, 2, 1, 3)) for x in arrays)
    if not backward:
        return lambda: ts.attention(*leaves, causal=causal)
    for leaf in leaves:
        leaf.requires_grad_()

    def step() -> None:
        ts.attention(*leaves, causal=causal).backward(dy)
        for leaf in leaves:
            leaf.grad = None

    return step


def _torch_attention(b: int, t: int, h: int, d: int, causal: bool, backward: bool) -> Thunk:
    import torch

    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((b, t, h, d), np.float32) for _ in range(4)]
    *leaves, dy = (torch.from_numpy(x).bfloat16().transpose(1, 2) for x in arrays)
    attend = torch.nn.functional.scaled_dot_product_attention
    if not backward:
        return lambda: attend(*leaves, is_causal=causal)
    for leaf in leaves:
        leaf.requires_grad_()

    def step() -> None:
        attend(*leaves, is_causal=causal).backward(dy)
        for leaf in leaves:
            leaf.grad = None

    return step


def cases() -> Iterator[Task]:
    for m, n, k in SHAPES:
        for layout in ("NN", "NT", "TN", "TT"):
            makers = {
                "tensorsmith": partial(_product, m, n, k, layout),
                "torch": partial(_torch_product, m, n, k, layout),
            }
            size = 2.0 * (m * k + k * n + m * n)
            yield Task(f"{m}x{n}x{k} {layout}", makers, 2.0 * m * n * k, size, peak="bfloat16")
    for n, c, h, o, k, stride in CONVOLUTIONS:
        size = (h + 2 * (k // 2) - k) // stride + 1
        for backward in (False, True):
            makers = {
                "tensorsmith": partial(_convolution, n, c, h, o, k, stride, backward),
                "torch": partial(_torch_convolution, n, c, h, o, k, stride, backward),
            }
            times = 3 if backward else 1
            name = f"conv {n}x{c}x{h}x{h} -> {o} k{k} s{stride}" + (" backward" if backward else "")
            flops, places = 2.0 * n * o * size * size * c * k * k, n * o * size * size
            moved = 2.0 * (n * c * h * h + o * c * k * k + places) * times
            yield Task(name, makers, flops * times, moved, peak="bfloat16")
    for b, t, h, d, causal in ATTENTION:
        for backward in (False, True):
            makers = {
                "tensorsmith": partial(_attention, b, t, h, d, causal, backward),
                "torch": partial(_torch_attention, b, t, h, d, causal, backward),
            }
            name = f"attention B{b} T{t} H{h} D{d}" + " causal" * causal + " backward" * backward
            flops = 4.0 * b * h * t * t * d * (0.5 if causal else 1) * (3.5 if backward else 1)
            yield Task(name, makers, flops, 8.0 * b * t * h * d * (3 if backward else 1), peak="bfloat16")
    for step in STEPS:
        for recorded, theirs in ((False, True), (True, True), (True, False)):
            makers = {
                "tensorsmith": partial(ours, step, autocast=True, recorded=recorded),
                "torch": partial(torch_step, step, autocast=theirs),
                "torch.compile": partial(torch_step, step, compiled=True, autocast=theirs),
            }
            name = f"{step.name}, autocast{', jit' * recorded}{'' if theirs else ', peers in float32'}"
            yield Task(name, makers, step.flops, peak="bfloat16")
