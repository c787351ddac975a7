"""The built extension: no code shared between SIMD levels, little exported, size and import time within bounds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tensorsmith as ts
from tensorsmith import _core

EXTENSION = Path(_core.__file__)


def run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_exports_only_its_entry_point() -> None:
    exported = [line.split()[-1] for line in run("nm", "-D", "--defined-only", str(EXTENSION)).splitlines()]
    ours = [
        name
        for name in exported
        if "ts" in name and not name.startswith(("_ZNSt", "_ZSt", "_ZNKSt", "_ZN8pybind11"))
    ]
    assert "PyInit__core" in exported
    assert not [name for name in ours if name.startswith(("_ZN2ts", "_ZNK2ts"))], ours[:5]


def test_needs_only_the_system_libraries() -> None:
    needed = [
        line.split("[")[1].rstrip("]")
        for line in run("readelf", "-d", str(EXTENSION)).splitlines()
        if "NEEDED" in line
    ]
    allowed = ("libstdc++.so", "libgcc_s.so", "libc.so", "libm.so", "libpthread.so", "ld-linux")
    assert all(n.startswith(allowed) for n in needed), needed


def test_no_fast_math_start_up_code() -> None:
    # -ffast-math links code that changes the processor's rounding of subnormals for the whole process.
    assert "set_fast_math" not in run("nm", "-a", str(EXTENSION))


OBJECTS = sorted((Path(__file__).parents[1] / "build").glob("*/CMakeFiles/cpu_*.dir/csrc/cpu/*.o"))


@pytest.mark.skipif(not OBJECTS, reason="no object files: install from the checkout (pip install .) first")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda p: f"{p.parts[-4]}/{p.stem}")
def test_kernels_share_no_code_between_levels(path: Path) -> None:
    """Every inline function or template of a kernel is in its level's namespace: of one shared by levels, the linker
    would keep a single copy, perhaps the AVX-512 one, for every machine."""
    level = path.parts[-4].removeprefix("cpu_").removesuffix(".dir").removesuffix("_lean")
    for line in run("nm", "--defined-only", str(path)).splitlines():
        kind, name = line.split()[-2:]
        if kind in "WVu" and name != "DW.ref.__gxx_personality_v0":
            assert f"2ts3cpu{len(level)}{level}" in name, f"{name} is shared between levels"


def test_import_time_and_laziness() -> None:
    program = (
        "import numpy, sys, time; t = time.perf_counter(); import tensorsmith; "
        "heavy = [m for m in ('ssl', 'subprocess', 'multiprocessing', 'tensorsmith.nn') if m in sys.modules]; "
        "print(time.perf_counter() - t, *heavy)"
    )
    times = []
    for _ in range(5):
        words = run(sys.executable, "-c", program).split()
        times.append(float(words[0]))
        assert not words[1:], f"import brings in {words[1:]}"
    assert min(times) <= 0.100, f"import takes {min(times) * 1e3:.0f} ms beyond NumPy's"


def test_import_leaves_the_process_alone() -> None:
    program = """
import signal, threading, numpy as np, random
before = (signal.getsignal(signal.SIGINT), threading.active_count(), random.getstate(), np.random.get_state()[1][0])
import tensorsmith
after = (signal.getsignal(signal.SIGINT), threading.active_count(), random.getstate(), np.random.get_state()[1][0])
assert before == after
assert float(np.float32(1e-40) * np.float32(1)) != 0, "subnormals are flushed"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_levels_are_described() -> None:
    level, reason = _core.simd_level()
    assert level in ("baseline", "avx2", "avx512") and reason
    assert ts.config()
