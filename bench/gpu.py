"""The GPU's bench: each case ours and PyTorch's alternately in one process, on the same random data.

python bench/gpu.py --out DIR writes DIR/<gpu>-<date>.json and .md. A case is timed by the host's clock around a batch
of calls that ends with a wait, 5 batches each, the best; the share is that of the bandwidth that a device copy reaches
here, or of PyTorch's rate for products.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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


def best_seconds(call: Callable[[], Any], wait: Callable[[], None]) -> float:
    """The best of 5 batches of about 20 ms."""
    call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    count = max(1, min(200, int(0.02 / max(time.perf_counter() - start, 1e-6))))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        times.append((time.perf_counter() - start) / count)
    return min(times)


def cases(scale: int) -> list[Case]:
    """Sizes over `scale` (1 on a GPU; the host checks the script with smaller ones)."""
    rng = np.random.default_rng(0)
    has = torch is not None and torch.cuda.is_available()

    def pair(*shape: int, dtype: str = "float32") -> tuple[Any, Any]:
        values = rng.standard_normal(shape).astype(dtype)
        return ts.array(values, device="cuda"), torch.from_numpy(values).cuda() if has else None

    def peer(call: Callable[[], Any]) -> Callable[[], Any] | None:
        return call if has else None

    n, rows, columns = 2**26 // scale, 16384 // scale, 4096 // min(scale, 8)
    a, ta = pair(n)
    b, tb = pair(n)
    x, tx = pair(rows, columns)
    w, tw = pair(columns)
    bias, tbias = pair(columns)
    dy, tdy = pair(rows, columns)
    labels = rng.integers(0, columns, rows)
    t, tt = ts.array(labels, device="cuda"), torch.from_numpy(labels).cuda() if has else None
    core = ts._core.ops
    y, mean, rstd = (core.layer_norm(x, (columns,), w, bias), *two_moments(x))
    del y
    F = torch.nn.functional if torch is not None else None
    size = 4.0 * rows * columns
    found = [
        Case("copy", lambda: core.copy(a), peer(lambda: ta.clone()), 8.0 * n),
        Case("add", lambda: a + b, peer(lambda: ta + tb), 12.0 * n),
        Case("gelu", lambda: core.gelu(a), peer(lambda: F.gelu(ta)), 8.0 * n),
        Case("exp", lambda: core.exp(a), peer(lambda: torch.exp(ta)), 8.0 * n),
        Case("transpose", lambda: core.contiguous(x.T), peer(lambda: tx.T.contiguous()), 2 * size),
        Case("sum all", lambda: core.sum(a), peer(lambda: ta.sum()), 4.0 * n),
        Case("sum rows", lambda: core.sum(x, 1), peer(lambda: tx.sum(1)), size),
        Case("sum columns", lambda: core.sum(x, 0), peer(lambda: tx.sum(0)), size),
        Case("softmax", lambda: core.softmax(x), peer(lambda: torch.softmax(tx, -1)), 2 * size),
        Case(
            "layer_norm",
            lambda: core.layer_norm(x, (columns,), w, bias),
            peer(lambda: F.layer_norm(tx, (columns,), tw, tbias)),
            2 * size,
        ),
        Case(
            "layer_norm backward",
            lambda: core.layer_norm_backward(dy, x, w, mean, rstd, (columns,)),
            peer(lambda: torch.ops.aten.native_layer_norm_backward(
                tdy, tx, (columns,), *moments(tx), tw, tbias, (True, True, True))),
            3 * size,
        ),
        Case("cross_entropy", lambda: core.cross_entropy(x, t), peer(lambda: F.cross_entropy(tx, tt)), size),
    ]  # fmt: skip
    for m, k, n_ in ((1024, 1024, 1024), (4096, 4096, 4096), (16384, 768, 3072), (16384, 3072, 768)):
        m, k, n_ = (max(64, v // min(scale, 64)) for v in (m, k, n_))
        p, tp = pair(m, k)
        q, tq = pair(k, n_)
        r, tr = pair(n_, k)
        u, tu = pair(m, n_)
        flops = 2.0 * m * k * n_
        found += [
            Case(
                f"gemm NN {m}x{k}x{n_}", lambda p=p, q=q: p @ q, peer(lambda p=tp, q=tq: p @ q), flops=flops
            ),
            Case(
                f"gemm NT {m}x{k}x{n_}",
                lambda p=p, r=r: p @ r.T,
                peer(lambda p=tp, r=tr: p @ r.T),
                flops=flops,
            ),
            Case(
                f"gemm TN {k}x{m}x{n_}",
                lambda p=p, u=u: p.T @ u,
                peer(lambda p=tp, u=tu: p.T @ u),
                flops=flops,
            ),
        ]
    batch = max(1, 64 // scale)
    for channels, size_, out, kernel in ((64, 56, 64, 3), (256, 14, 256, 3), (256, 56, 64, 1)):
        values, weights = pair(batch, channels, size_, size_), pair(out, channels, kernel, kernel)
        flops = 2.0 * batch * out * channels * kernel * kernel * size_ * size_
        image = values[1].to(memory_format=torch.channels_last) if has else None
        theirs = peer(lambda v=image, g=weights[1], k=kernel: F.conv2d(v, g, padding=k // 2))
        name = f"conv {channels}x{size_} {kernel}x{kernel}"
        ours = ts.permute_dims(core.contiguous(ts.permute_dims(values[0], (0, 2, 3, 1))), (0, 3, 1, 2))
        found.append(
            Case(name, lambda v=ours, g=weights[0], k=kernel: ts.nn.functional.conv2d(v, g, padding=k // 2), theirs,
                 flops=flops)
        )  # fmt: skip
    parameters = [ts.nn.Parameter(ts.zeros(max(1, n // 64), device="cuda")) for _ in range(32)]
    for p in parameters:
        p.grad = ts.ones_like(p.detach())
    optimizer = ts.optim.AdamW(parameters)
    step = None
    if has:
        mirror = [torch.nn.Parameter(torch.zeros(p.size, device="cuda")) for p in parameters]
        for p in mirror:
            p.grad = torch.ones_like(p)
        fused = torch.optim.AdamW(mirror, fused=True)
        step = fused.step
    found.append(Case("adamw", optimizer.step, step, 28.0 * 32 * max(1, n // 64)))
    return found


def two_moments(x: Any) -> tuple[Any, Any]:
    """A row's mean and 1 / sqrt(variance + 1e-5), as layer_norm keeps them."""
    return ts.mean(x, axis=1), 1.0 / ts.sqrt(ts.var(x, axis=1) + 1e-5)


def moments(x: Any) -> tuple[Any, Any]:
    """The same of a PyTorch tensor, in the shape that its backward takes."""
    return x.mean(1, keepdim=True), torch.rsqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--only", default="", help="a regular expression of case names")
    options = parser.parse_args()
    device = ts.cuda.get_device_properties()
    on_host = device["name"].startswith("the host")
    if torch is not None:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    rows = []
    copy = 0.0
    for case in cases(4096 if on_host else 1):
        if not re.search(options.only, case.name):
            continue
        try:
            ours = best_seconds(case.ours, ts.cuda.synchronize)
        except NotImplementedError as error:
            print(f"{case.name}: {error}")
            continue
        theirs = best_seconds(case.theirs, torch.cuda.synchronize) if case.theirs else None
        rate = (case.bytes or case.flops) / ours
        if case.name == "copy":
            copy = max(rate, case.bytes / theirs if theirs else 0.0)
        unit = "GB/s" if case.bytes else "GFLOP/s"
        share = f"{rate / copy:.0%} of copy" if case.bytes and copy else ""
        ratio = f"{theirs / ours:.2f}x PyTorch" if theirs else ""
        rows.append(
            {
                "case": case.name,
                "us": ours * 1e6,
                "torch_us": theirs and theirs * 1e6,
                "rate": rate / 1e9,
                "unit": unit,
            }
        )
        print(
            f"{case.name:<28}{ours * 1e6:>12.1f} us {rate / 1e9:>10.1f} {unit:<8}{share:<14}{ratio}",
            flush=True,
        )
    name = re.sub(r"\W+", "-", device["name"]).strip("-").lower()
    stem = options.out / f"{name}-{datetime.date.today()}"
    peer = torch.__version__ if torch is not None else None
    stem.with_suffix(".json").write_text(
        json.dumps({"device": device, "torch": peer, "cases": rows}, indent=1)
    )
    lines = [f"# {device['name']}", "", f"PyTorch {peer}, fp32 without tf32; best of 5 batches.", ""]
    lines += ["| case | ours us | PyTorch us | rate | PyTorch / ours |", "|---|---|---|---|---|"]
    for r in rows:
        other = f"{r['torch_us']:.1f}" if r["torch_us"] else "-"
        ratio = f"{r['torch_us'] / r['us']:.2f}" if r["torch_us"] else "-"
        lines.append(f"| {r['case']} | {r['us']:.1f} | {other} | {r['rate']:.1f} {r['unit']} | {ratio} |")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(stem.with_suffix(".md"))


if __name__ == "__main__":
    main()
