"""Writes docs/support.md, the table of kernels, from csrc/core/kernels.def; --check only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DTYPES = {
    "floating": "float32 float64",
    "numeric": "float32 float64 int32 int64 uint8",
    "integral": "bool int32 int64 uint8",
    "any": "bool float32 float64 int32 int64 uint8",
}


def table() -> str:
    """The Markdown page."""
    lines = [
        "# Support",
        "",
        "Written by `python docs/support.py` from `csrc/core/kernels.def`; a test keeps it current.",
        "",
        "CPU kernels exist for every row at the levels baseline, avx2 and avx512. There is no CUDA backend yet.",
        "",
        "| kernel | kind | dtypes | CPU | CUDA |",
        "|---|---|---|---|---|",
    ]
    text = (ROOT / "csrc/core/kernels.def").read_text()
    body = text[text.rindex("#endif") :]
    pattern = re.compile(r"^(UNARY|PREDICATE|BINARY|COMPARE|TERNARY|REDUCE|KERNEL)\((\w+), ([^)]*)\)", re.M)
    for kind, name, rest in pattern.findall(body):
        dtypes = "see its family's page" if kind == "KERNEL" else DTYPES[rest.strip()]
        lines.append(f"| {name} | {kind.lower()} | {dtypes} | verified by the test suite | not written |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = ROOT / "docs/support.md"
    if "--check" in sys.argv:
        sys.exit(0 if page.read_text() == table() else "docs/support.md is stale: run python docs/support.py")
    page.write_text(table())
