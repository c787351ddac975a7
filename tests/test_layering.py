"""Who may include or import whom: nn, optim -> ops -> autograd, tensor -> _core -> csrc/python -> csrc/ops ->
csrc/core; and the kernels know of core's plain headers and math alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "tensorsmith"

# What each folder's files may include from the project.
MAY_INCLUDE = {
    "core": {"core"},
    "math": {"math", "cpu", "core"},  # cpu/simd.h: the register type that the formulas are instantiated with
    "cpu": {"cpu", "math", "core"},
    "cuda": {"cuda", "math", "core"},
    "ops": {"ops", "core"},
    "python": {"python", "ops", "core"},
}
# Of core, kernels see only what is safe at every SIMD level.
KERNELS_SEE = {
    "core/dtype.h",
    "core/half.h",
    "core/view.h",
    "core/threads.h",
    "core/kept_scratch.h",
    "core/caches.h",
    "core/backend.h",
    "core/epilogue.h",
    "core/fft_split.h",
    "core/kernels.def",
}
# Headers of the standard library without code that the linker could share between levels.
KERNELS_STD = {
    "cmath", "cstddef", "cstdint", "cstring", "immintrin.h", "limits", "math.h", "stdint.h", "string.h", "type_traits",
    "utility",
}  # fmt: skip

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not beside the tests")


def includes(path: Path) -> list[tuple[str, bool]]:
    found = re.findall(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', path.read_text(), re.M)
    return [(name, bracket == '"') for bracket, name in found]


def sources() -> list[Path]:
    return sorted(p for p in CSRC.rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".def"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(CSRC)))
def test_includes(path: Path) -> None:
    folder = path.relative_to(CSRC).parts[0]
    for name, own in includes(path):
        if own:
            assert name.split("/")[0] in MAY_INCLUDE[folder], f"{path.name} may not include {name}"
            if folder in ("cpu", "math") and name.startswith("core/"):
                assert name in KERNELS_SEE, f"kernels may not include {name}"
        elif folder in ("cpu", "math"):
            assert name in KERNELS_STD, f"kernels may not include <{name}>"
        elif folder in ("core", "ops"):
            assert "Python.h" not in name and "pybind11" not in name, f"{path.name} may not know of Python"


# What each part of the package may import from it, beside errors and dtypes.
MAY_IMPORT = {
    "autograd": {"_core"},
    "dtypes": {"_core"},
    "tensor": {"_core", "autograd", "ops"},
    "ops": {"_core", "autograd", "tensor", "ops", "random"},
    "random": {"_core", "ops", "tensor", "autograd"},
}


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports(part: str) -> None:
    files = sorted((PACKAGE / part).glob("*.py")) if (PACKAGE / part).is_dir() else [PACKAGE / f"{part}.py"]
    for path in files:
        for line in path.read_text().splitlines():
            match = re.match(r"\s*from tensorsmith(?:\.(\w+))?(?:\.\w+)* import (.*)", line)
            if not match:
                continue
            names = [match[1]] if match[1] else re.findall(r"\w+", match[2])
            for name in names:
                if name in ("nn", "optim", "utils", "data", "cli", "train", "serialize", "config", "bench"):
                    raise AssertionError(f"{path.name}: {part} may not import {name}: {line.strip()}")


def test_cuda_has_no_members_without_an_address() -> None:
    """Of arrays of structs with such a member nvcc 13.0 computes addresses that sizeof does not speak of."""
    for path in (CSRC / "cuda").iterdir():
        assert not re.search(r"\[\[no_unique_address\]\]", re.sub("//.*", "", path.read_text())), path.name


def test_kernels_are_launched_through_one_door() -> None:
    """Only csrc/core/launch.h takes a kernel out of a table."""
    for path in sources():
        if path.relative_to(CSRC).parts[0] in ("ops", "python"):
            text = path.read_text()
            assert not re.search(r"kernels\(.*\)\s*\.", text), f"{path.name} calls a kernel past launch()"
