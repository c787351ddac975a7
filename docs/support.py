"""Writes docs/support.md, the table of kernels, from csrc/core/kernels.def; --check only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
INTEGERS = "int8–int64 uint8–uint64"
DTYPES = {
    "floating": "float32 float64",
    "numeric": f"float32 float64 {INTEGERS}",
    "integral": f"bool {INTEGERS}",
    "any": f"bool float32 float64 {INTEGERS}",
    "inexact": "float32 float64 complex64 complex128",
    "number": f"float32 float64 complex64 complex128 {INTEGERS}",
    "all": f"bool float32 float64 complex64 complex128 {INTEGERS}",
}
# CUDA kernels whose code is new since their GPU run.
REWRITTEN = ("gemm", "gemm_bf16", "conv2d", "conv2d_input_backward", "conv2d_weight_backward", "cast",
             "batch_norm", "batch_norm_backward", "batch_norm_relu", "channel_affine", "sum", "mean",
             "softmax", "softmax_backward", "log_softmax", "log_softmax_backward", "cross_entropy",
             "cross_entropy_backward", "sgd", "rmsprop", "adagrad", "adadelta", "lion", "rprop", "asgd", "adam",
             "adamax", "nadam", "radam")  # fmt: skip


def table() -> str:
    """The Markdown page."""
    lines = [
        "# Support",
        "",
        "Written by `python docs/support.py` from `csrc/core/kernels.def`; a test keeps it current.",
        "",
        "Reductions take int8, int16 and the larger unsigned integers through int32 or int64, complex numbers by "
        "their parts; float16 and bfloat16 are computed in float32 and rounded once.",
        "",
        "CPU kernels exist for every row at the levels baseline, avx2 and avx512. CUDA kernels take the real dtypes",
        "among those listed, and those that `docs/kernels/cuda.md` names complex ones; the tests run them on the host",
        "(`tests/cuda_host`). Verified on a GPU is what passing",
        "tests launched there (`bench/gpu.sh`), at the commit named; what changed since has run on the host only.",
        "",
        "| kernel | kind | dtypes | CPU | CUDA |",
        "|---|---|---|---|---|",
    ]
    text = (ROOT / "csrc/core/kernels.def").read_text()
    body = text[text.rindex("#endif") :]
    pattern = re.compile(r"^(UNARY|PREDICATE|BINARY|COMPARE|TERNARY|REDUCE|KERNEL)\((\w+), ([^)]*)\)", re.M)
    sources = "\n".join(path.read_text() for path in (ROOT / "csrc/cuda").glob("*.cu"))
    cuda = set(re.findall(r"^void (\w+)\(", sources, re.M))
    gpus = verified()
    gpus |= {
        name: f"rewritten since, not yet run on a GPU; before it {gpus[name]}"
        for name in REWRITTEN
        if name in gpus
    }
    for kind, name, rest in pattern.findall(body):
        written = kind not in ("KERNEL", "REDUCE") or name in cuda
        gpu = gpus.get(name, "run on the host; not yet run on a GPU") if written else "not written"
        dtypes = "see its family's page" if kind == "KERNEL" else DTYPES[rest.strip()]
        lines.append(f"| {name} | {kind.lower()} | {dtypes} | verified by the test suite | {gpu} |")
    return "\n".join(lines) + "\n"


def verified() -> dict[str, str]:
    """What is said of the kernels that bench/results/*.kernels.txt list: a line "# <GPU> at <commit>", then names."""
    found = {}
    for path in sorted(
        (ROOT / "bench/results").glob("*.kernels.txt"), key=lambda p: p.name[-len("2026-01-01.kernels.txt") :]
    ):
        where, *names = path.read_text().splitlines()
        found |= dict.fromkeys(names, f"verified on {where.removeprefix('# ')}")
    return found


if __name__ == "__main__":
    page = ROOT / "docs/support.md"
    if "--check" in sys.argv:
        sys.exit(0 if page.read_text() == table() else "docs/support.md is stale: run python docs/support.py")
    page.write_text(table())
