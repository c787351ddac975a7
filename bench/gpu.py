"""The GPU's bench: each case ours and PyTorch's alternately in one process, on the same random data.

python bench/gpu.py --out DIR writes DIR/<gpu>-<date>.json and .md. A case is timed by the host's clock around a batch
of calls that ends with a wait, 5 batches each, the best; the share is that of the bandwidth that a device copy reaches
here. Files are written anew after every case, so that a run which is cut short leaves what it has; a case that fails
says so and the rest goes on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gpu_conv import convolutions
from gpu_products import Case, attention, has_torch, pair, products

import tensorsmith as ts

try:
    import torch
except ImportError:
    torch = None


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


def kernels(scale: int) -> list[Case]:
    """Sizes over `scale` (1 on a GPU; the host checks the script with smaller ones)."""
    rng = np.random.default_rng(0)
    has = has_torch()

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
        Case("softmax backward", lambda: core.softmax_backward(dy, x), peer(lambda: torch._softmax_backward_data(
            tdy, tx, -1, torch.float32)), 3 * size),
        Case("add of a row", lambda: x + w, peer(lambda: tx + tw), 2 * size),
    ]  # fmt: skip
    image = (max(1, 64 // scale), 28, 28, 256)
    v, tv = pair(*image)
    g, tg = pair(*image)
    v, g = (ts.permute_dims(a, (0, 3, 1, 2)) for a in (v, g))
    if has:
        tv, tg = tv.permute(0, 3, 1, 2), tg.permute(0, 3, 1, 2)
    s, ts_ = pair(256)
    o, to = pair(256)
    found += [
        Case(
            "batch_norm",
            lambda: ts.nn.functional.batch_norm(v, None, None, s, o, training=True),
            peer(lambda: F.batch_norm(tv, None, None, ts_, to, training=True)),
            8.0 * v.size,
        ),
        Case(
            "batch_norm backward",
            lambda: core.batch_norm_backward(g, v, s, o, s),
            peer(lambda: torch.ops.aten.native_batch_norm_backward(
                tg, tv, ts_, None, None, to, ts_, True, 1e-5, (True, True, True))),
            12.0 * v.size,
        ),
    ]  # fmt: skip
    line = 4096 // min(scale, 8)
    z, tz = pair(max(1, n // 4 // line), line, dtype="complex64")
    found += [
        Case("complex multiply", lambda: z * z, peer(lambda: tz * tz), 16.0 * z.size),
        Case(f"fft of rows of {line}", lambda: ts.fft.fft(z), peer(lambda: torch.fft.fft(tz)), 16.0 * z.size),
        Case(
            f"rfft of rows of {columns}", lambda: ts.fft.rfft(x), peer(lambda: torch.fft.rfft(tx)), 2 * size
        ),
    ]
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
    parser.add_argument("--seconds", type=float, default=1e9, help="start no case later than this")
    parser.add_argument("--only", default="", help="a regular expression of case names")
    parser.add_argument(
        "--families", default="kernels,conv,products,attention", help="those whose data is made at all"
    )
    parser.add_argument(
        "--verified", type=Path, help="name this list of kernels that passed the tests, and stop"
    )
    options = parser.parse_args()
    device = ts.cuda.get_device_properties()
    on_host = device["name"].startswith("the host")
    if torch is not None:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    name = re.sub(r"\W+", "-", device["name"]).strip("-").lower()
    stem = options.out / f"{name}-{datetime.date.today()}"
    if options.verified:
        kept = stem.with_suffix(".kernels.txt")
        kept.write_text(
            f"# {device['name']} at {commit() or 'an unknown commit'}\n{options.verified.read_text()}"
        )
        print(kept)
        return
    rows: list[dict[str, Any]] = []
    copy = 0.0
    begin = time.monotonic()
    for case in cases(options.families.split(","), 64 if on_host else 1, 4096 if on_host else 1):
        if not re.search(options.only, case.name):
            continue
        if time.monotonic() - begin > options.seconds:
            print(f"{options.seconds:.0f} s are over; the cases from {case.name!r} on were left out")
            break
        try:
            ours = best_seconds(case.ours, ts.cuda.synchronize)
            theirs = best_seconds(case.theirs, torch.cuda.synchronize) if case.theirs else None
        except Exception as error:  # a failing case must not cost the others
            print(f"{case.name}: {type(error).__name__}: {error}", flush=True)
            rows.append({"case": case.name, "error": f"{type(error).__name__}: {error}"})
            continue
        rate = (case.bytes or case.flops) / ours
        if case.name == "copy":
            copy = max(rate, case.bytes / theirs if theirs else 0.0)
        unit = "GB/s" if case.bytes else "GFLOP/s"
        share = f"{rate / copy:.0%} of copy" if case.bytes and copy else ""
        ratio = f"{theirs / ours:.2f}x PyTorch" if theirs else ""
        print(
            f"{case.name:<44}{ours * 1e6:>12.1f} us {rate / 1e9:>10.1f} {unit:<8}{share:<14}{ratio}",
            flush=True,
        )
        row = {
            "case": case.name,
            "us": ours * 1e6,
            "torch_us": theirs and theirs * 1e6,
            "rate": rate / 1e9,
            "unit": unit,
        }
        rows.append(row)
        write(stem, device, rows)
    write(stem, device, rows)
    print(stem.with_suffix(".md"))


def cases(families: list[str], products_scale: int, scale: int) -> Iterator[Case]:
    """What decides first: the copy's bandwidth and the kernels that are held to it, then products, then attention."""
    if "kernels" in families:
        yield from kernels(scale)
    if "conv" in families:
        yield from convolutions(products_scale)
    if "products" in families:
        yield from products(products_scale)
    if "attention" in families:
        yield from attention(products_scale)


def commit() -> str | None:
    """The sources' commit, where git knows it."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write(stem: Path, device: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    peer = torch.__version__ if torch is not None else None
    found = {"commit": commit(), "device": device, "torch": peer, "cases": rows}
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1))
    lines = [
        f"# {device['name']}",
        "",
        f"PyTorch {peer}; fp32 without tf32 but where it says tf32; best of 5 batches.",
        "",
    ]
    lines += ["| case | ours us | PyTorch us | rate | PyTorch / ours |", "|---|---|---|---|---|"]
    for r in rows:
        if "error" in r:
            lines.append(f"| {r['case']} | {r['error']} | | | |")
            continue
        other = f"{r['torch_us']:.1f}" if r["torch_us"] else "-"
        ratio = f"{r['torch_us'] / r['us']:.2f}" if r["torch_us"] else "-"
        lines.append(f"| {r['case']} | {r['us']:.1f} | {other} | {r['rate']:.1f} {r['unit']} | {ratio} |")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
