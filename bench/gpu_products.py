"""Matrix products and attention for bench/gpu.py: the shapes of GPT-2's training, ours beside cuBLAS and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorsmith as ts

try:
    import torch
except ImportError:
    torch = None


@dataclass
class Case:
    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None
    bytes: float = 0  # read and written, each once
    flops: float = 0


def has_torch() -> bool:
    return torch is not None and torch.cuda.is_available()


def pair(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> tuple[Any, Any]:
    """Standard normal numbers for both: the same, rounded alike, where they are few enough to make on the host."""
    if np.prod(shape) > 2**24:
        theirs = torch.randn(shape, device="cuda", dtype=getattr(torch, dtype)) if has_torch() else None
        return ts.nn.init.normal_(ts.empty(shape, device="cuda")).astype(dtype), theirs
    values = rng.standard_normal(shape, dtype=np.float32)
    ours = ts.array(values, device="cuda").astype(dtype)
    theirs = torch.from_numpy(values).cuda().to(getattr(torch, dtype)) if has_torch() else None
    return ours, theirs


# (M, N, K) of GPT-2 124M at 65,536 tokens, and square ones.
SHAPES = [
    (65536, 2304, 768), (65536, 768, 768), (65536, 3072, 768), (65536, 768, 3072), (65536, 50304, 768),
    (4096, 4096, 4096), (8192, 8192, 8192),
]  # fmt: skip


def products(scale: int) -> Iterator[Case]:
    """Forward (NT), the input's gradient (NN) and the weight's (TN), in each number format."""
    rng = np.random.default_rng(1)
    for kind in ("bfloat16", "ieee", "split", "tf32", "float16"):
        half = kind in ("bfloat16", "float16")
        dtype = kind if half else "float32"
        for shape in (
            SHAPES if kind == "bfloat16" else SHAPES[-2:] if kind != "split" else (SHAPES[0], *SHAPES[-2:])
        ):
            m, n, k = (max(64, v // scale) for v in shape)
            x, tx = pair(rng, m, k, dtype=dtype)
            w, tw = pair(rng, n, k, dtype=dtype)
            dy, tdy = pair(rng, m, n, dtype=dtype)
            for name, ours, theirs in (
                ("NT", lambda x=x, w=w: x @ w.T, lambda x=tx, w=tw: x @ w.T),
                ("NN", lambda d=dy, w=w: d @ w, lambda d=tdy, w=tw: d @ w),
                ("TN", lambda d=dy, x=x: d.T @ x, lambda d=tdy, x=tx: d.T @ x),
            ):
                yield Case(
                    f"gemm {kind} {name} {m}x{n}x{k}",
                    with_mode(ours, "ieee" if half else kind),
                    with_tf32(theirs, kind == "tf32") if has_torch() else None,
                    flops=2.0 * m * n * k,
                )
            del x, tx, w, tw, dy, tdy
            ts.cuda.empty_cache()
            if has_torch():
                torch.cuda.empty_cache()


def with_mode(call: Callable[[], Any], mode: Any) -> Callable[[], Any]:
    def run() -> Any:
        ts.cuda.set_matmul_precision(mode)
        try:
            return call()
        finally:
            ts.cuda.set_matmul_precision("ieee")

    return run


def with_tf32(call: Callable[[], Any], allowed: bool) -> Callable[[], Any]:
    def run() -> Any:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        try:
            return call()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    return run


def attention(scale: int) -> Iterator[Case]:
    """Forward, and forward with backward: heads of 64 and 128, bfloat16 also at 8k; float32 last, for it is slow."""
    rng = np.random.default_rng(2)
    short, long, longest = (8, 12, 1024, 64), (2, 16, 4096, 128), (2, 16, 8192, 128)
    kinds = [
        ("bfloat16", longest),
        ("bfloat16", long),
        ("bfloat16", short),
        ("float32", short),
        ("float32", long),
    ]
    for dtype, (batch, heads, length, size) in kinds:
        length = max(64, length // scale)
        batch = max(1, batch // scale)
        inputs = [pair(rng, batch, heads, length, size, dtype=dtype) for _ in range(3)]
        ours, theirs = [p[0] for p in inputs], [p[1] for p in inputs]
        for causal in (False, True):
            flops = 4.0 * batch * heads * length * length * size * (0.5 if causal else 1.0)
            name = f"{dtype} {'causal ' if causal else ''}{batch}x{heads}x{length}x{size}"
            sdpa = torch.nn.functional.scaled_dot_product_attention if has_torch() else None
            yield Case(
                f"attention {name}",
                lambda a=ours, c=causal: ts.attention(*a, causal=c),
                (lambda a=theirs, c=causal, f=sdpa: f(*a, is_causal=c)) if sdpa else None,
                flops=flops,
            )
            yield Case(
                f"attention and gradients {name}",
                gradients(ours, lambda *a, c=causal: ts.attention(*a, causal=c)),
                gradients(theirs, lambda *a, c=causal, f=sdpa: f(*a, is_causal=c)) if sdpa else None,
                flops=3.5 * flops,
            )


def gradients(inputs: list[Any], call: Callable[..., Any]) -> Callable[[], Any]:
    leaves = [x.detach().requires_grad_() for x in inputs]

    def run() -> None:
        for x in leaves:
            x.grad = None
        call(*leaves).sum().backward()

    return run
