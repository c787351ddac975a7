"""Matrix products and attention for bench/gpu.py: the shapes of GPT-2's training, ours beside cuBLAS and PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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


def pair(*shape: int, dtype: str = "float32") -> tuple[Any, Any]:
    """Normal numbers, each library's own: drawn where they are used, for copies would take longer than the products."""
    ts.set_default_device("cuda")
    ours = ts.random.standard_normal(shape, dtype="float32").astype(dtype)
    ts.set_default_device("cpu")
    return ours, torch.randn(*shape, device="cuda").to(getattr(torch, dtype)) if has_torch() else None


# (M, N, K) of GPT-2 124M at 65,536 tokens, and square ones.
SHAPES = [
    (65536, 2304, 768), (65536, 768, 768), (65536, 3072, 768), (65536, 768, 3072), (65536, 50304, 768),
    (4096, 4096, 4096), (8192, 8192, 8192),
]  # fmt: skip


def engines(kind: str) -> list[tuple[str, str]]:
    """What there is for a number format on this GPU: a case's name has the first, TENSORSMITH_CUDA_WGMMA the second."""
    hopper = ts.cuda.get_device_properties()["capability"] == (9, 0)
    return [("", "0"), (" wgmma", "only")] if hopper and kind != "ieee" else [("", "0")]


def products(scale: int) -> Iterator[Case]:
    """Forward (NT), the input's gradient (NN) and the weight's (TN), in each number format and by each kernel."""
    for kind in ("bfloat16", "ieee", "split", "tf32", "float16"):
        half = kind in ("bfloat16", "float16")
        dtype = kind if half else "float32"
        for shape in (
            SHAPES if kind == "bfloat16" else SHAPES[-2:] if kind != "split" else (SHAPES[0], *SHAPES[-2:])
        ):
            m, n, k = (max(64, v // scale) for v in shape)
            x, tx = pair(m, k, dtype=dtype)
            w, tw = pair(n, k, dtype=dtype)
            dy, tdy = pair(m, n, dtype=dtype)
            for name, ours, theirs in (
                ("NT", lambda x=x, w=w: x @ w.T, lambda x=tx, w=tw: x @ w.T),
                ("NN", lambda d=dy, w=w: d @ w, lambda d=tdy, w=tw: d @ w),
                ("TN", lambda d=dy, x=x: d.T @ x, lambda d=tdy, x=tx: d.T @ x),
            ):
                for engine, wgmma in engines(kind):
                    yield Case(
                        f"gemm {kind} {name} {m}x{n}x{k}{engine}",
                        with_mode(ours, "ieee" if half else kind, wgmma),
                        with_tf32(theirs, kind == "tf32") if has_torch() else None,
                        flops=2.0 * m * n * k,
                    )
            del x, tx, w, tw, dy, tdy
            ts.cuda.empty_cache()
            if has_torch():
                torch.cuda.empty_cache()


def with_mode(call: Callable[[], Any], mode: Any, wgmma: str) -> Callable[[], Any]:
    def run() -> Any:
        ts.cuda.set_matmul_precision(mode)
        os.environ["TENSORSMITH_CUDA_WGMMA"] = wgmma
        try:
            return call()
        finally:
            ts.cuda.set_matmul_precision("ieee")
            del os.environ["TENSORSMITH_CUDA_WGMMA"]

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
        inputs = [pair(batch, heads, length, size, dtype=dtype) for _ in range(3)]
        ours, theirs = [p[0] for p in inputs], [p[1] for p in inputs]
        for causal in (False, True):
            flops = 4.0 * batch * heads * length * length * size * (0.5 if causal else 1.0)
            name = f"{dtype} {'causal ' if causal else ''}{batch}x{heads}x{length}x{size}"
            sdpa = torch.nn.functional.scaled_dot_product_attention if has_torch() else None
            for engine, wgmma in engines("ieee" if dtype == "float32" else dtype):
                yield Case(
                    f"attention {name}{engine}",
                    with_mode(lambda a=ours, c=causal: ts.attention(*a, causal=c), "ieee", wgmma),
                    (lambda a=theirs, c=causal, f=sdpa: f(*a, is_causal=c)) if sdpa else None,
                    flops=flops,
                )
                yield Case(
                    f"attention and gradients {name}{engine}",
                    with_mode(
                        gradients(ours, lambda *a, c=causal: ts.attention(*a, causal=c)), "ieee", wgmma
                    ),
                    gradients(theirs, lambda *a, c=causal, f=sdpa: f(*a, is_causal=c)) if sdpa else None,
                    flops=3.5 * flops,
                )
            if sdpa and dtype != "float32" and size == 128:
                engine, wgmma = engines(dtype)[-1]
                for which in ("FLASH_ATTENTION", "CUDNN_ATTENTION"):
                    yield Case(
                        f"attention {name}{engine} beside {which.lower()}",
                        with_mode(lambda a=ours, c=causal: ts.attention(*a, causal=c), "ieee", wgmma),
                        lambda a=theirs, c=causal, w=which: by_backend(w, *a, causal=c),
                        flops=flops,
                    )


def by_backend(name: str, *inputs: Any, causal: bool) -> Any:
    """PyTorch's attention by one of its kernels, which it would else choose itself."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, name)):
        return torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=causal)


def gradients(inputs: list[Any], call: Callable[..., Any]) -> Callable[[], Any]:
    leaves = [x.detach().requires_grad_() for x in inputs]

    def run() -> None:
        for x in leaves:
            x.grad = None
        call(*leaves).sum().backward()

    return run
