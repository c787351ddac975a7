"""Builds csrc/cuda as C++ for the host (see cuda_runtime.h): python tests/cuda_host/build.py OUTPUT.so [--jobs N].

The library has the plug's interface, so the core loads it as a GPU:
TENSORSMITH_CUDA_LIBRARY=OUTPUT.so pytest tests/test_cuda.py
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
FLAGS = [
    "-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-mfma", "-msse4.1",
    "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-variable", "-Wno-maybe-uninitialized",
    f"-I{HERE}", f"-I{CSRC}",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer's and UBSan's checks")
    options = parser.parse_args()
    output: Path = options.output.resolve()
    objects = output.parent / (output.stem + ".objects")
    objects.mkdir(parents=True, exist_ok=True)
    compiler = [os.environ.get("CXX", "g++")]
    if shutil.which("ccache"):
        compiler.insert(0, "ccache")
    flags = FLAGS + (["-fsanitize=undefined"] if options.sanitize else [])
    headers = [*CSRC.glob("c*/*.h"), *CSRC.glob("math/*.h"), *CSRC.glob("core/*.def"), *HERE.rglob("*.h")]
    newest = max(h.stat().st_mtime for h in headers)

    def compile_one(source: Path) -> Path:
        target = objects / (source.stem + ".o")
        if not target.exists() or target.stat().st_mtime < max(newest, source.stat().st_mtime):
            subprocess.run([*compiler, *flags, "-x", "c++", "-c", str(source), "-o", str(target)], check=True)
        return target

    sources = [*sorted((CSRC / "cuda").glob("*.cu")), HERE / "fibers.cpp"]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        built = list(pool.map(compile_one, sources))
    subprocess.run([compiler[-1], "-shared", "-o", str(output), *map(str, built), *flags[:1]], check=True)
    print(output)


if __name__ == "__main__":
    sys.exit(main())
