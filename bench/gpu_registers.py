"""Registers, stack and spills of every kernel, from a build log with -Xptxas -v: python bench/gpu_registers.py LOG."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for 'sm_(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.S,
)


def main() -> None:
    found = ENTRY.findall(Path(sys.argv[1]).read_text(errors="replace"))
    names = [entry[0] for entry in found]
    if shutil.which("c++filt"):
        names = subprocess.run(
            ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
        ).stdout.splitlines()
    worst: dict[str, list[int]] = {}
    for name, (_, _, stack, stores, loads, registers) in zip(names, found, strict=True):
        plain = name.replace("(anonymous namespace)::", "").replace("ts::cuda::", "")
        kernel = re.split(r"[<(]", re.sub(r"^void ", "", plain))[0]
        row = worst.setdefault(kernel, [0, 0, 0, 0])
        row[0] += 1
        for i, value in enumerate((registers, stack, int(stores) + int(loads)), 1):
            row[i] = max(row[i], int(value))
    print(
        f"{'kernel':<34}{'instances':>10}{'registers':>10}{'stack':>8}{'spills':>8}  (most of any instance)"
    )
    for kernel, (count, registers, stack, spills) in sorted(worst.items()):
        print(f"{kernel:<34}{count:>10}{registers:>10}{stack:>8}{spills:>8}")
    spilling = sum(int(e[3]) + int(e[4]) > 0 for e in found)
    print(f"{len(found)} kernels, {spilling} spill")


if __name__ == "__main__":
    main()
