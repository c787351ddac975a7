"""The same bits on avx2 and avx512, and for 1 and 2 threads: every case of the table, forward and gradient, and a
trained network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorsmith import _core

# Prints {case: hash of its outputs and gradients}; runs in a process per SIMD level.
CASES = """
import hashlib, json, sys
sys.path.insert(0, {tests!r})
import numpy as np
import tensorsmith as ts
from cases import load, make_inputs

ts.set_num_threads({threads})
hashes = {{}}
for case in load():
    digest = hashlib.sha256()
    for makers in [case.inputs] + ([case.large] if case.large else []):
        for dtype in case.dtypes:
            inputs = []
            for a in make_inputs(makers):
                x = ts.array(a, dtype=dtype if a.dtype == np.float64 else None)
                inputs.append(x.requires_grad_(case.gradient and x.dtype.kind == "floating"))
            ys = case.op(*inputs)
            ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
            for y in ys:
                digest.update(y.detach().numpy().tobytes())
            for y in ys:
                if y.requires_grad:
                    y.backward(ts.ones_like(y.detach()), retain_graph=True)
            for x in inputs:
                if x.grad is not None:
                    digest.update(x.grad.numpy().tobytes())
    hashes[case.name] = digest.hexdigest()
print(json.dumps(hashes))
"""

# The table has no complex inputs. The compiler sees complex arithmetic as pairs, and may join what it should not.
COMPLEX = """
import hashlib, json
import numpy as np
import tensorsmith as ts

ts.set_num_threads({threads})
rng = np.random.default_rng(0)
hashes = {{}}

def keep(name, *ys):
    hashes[name] = hashlib.sha256(b"".join(y.numpy().tobytes() for y in ys)).hexdigest()

def numbers(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

for n in (7, 97, 1000):
    for dtype in ("complex128", "complex64"):
        a, b = (ts.asarray(numbers(n).astype(dtype)) for _ in range(2))
        for name in ("multiply", "divide", "add", "power", "vdot"):
            keep(f"{{name}} {{n}} {{dtype}}", getattr(ts, name)(a, b))
        for name in ("abs", "exp", "log", "sqrt", "sin", "tan", "tanh", "reciprocal", "sum", "prod", "cumsum"):
            keep(f"{{name}} {{n}} {{dtype}}", getattr(ts, name)(a))
        keep(f"fft {{n}} {{dtype}}", ts.fft.fft(a), ts.fft.ifft(a), ts.fft.rfft(ts.real(a)))
for n in (5, 33):
    m = ts.asarray(numbers(n, n))
    keep(f"eig {{n}}", *ts.linalg.eig(m), *ts.linalg.eig(ts.real(m)))
    keep(f"matmul {{n}}", m @ m)
    for name in ("qr", "svd", "inv", "det"):
        y = getattr(ts.linalg, name)(m)
        keep(f"{{name}} {{n}}", *(y if isinstance(y, tuple) else (y,)))
print(json.dumps(hashes))
"""

TRAINED = """
import contextlib, io, json, sys
from tensorsmith import cli
out = io.StringIO()
with contextlib.redirect_stdout(out):
    code = cli.main(["train", "--epochs", "2", "--checkpoint", {checkpoint!r}])
assert not code, out.getvalue()
print(json.dumps([line for line in out.getvalue().splitlines() if line.startswith(("parameters:", "test accuracy:"))]))
"""


def run(program: str, level: str, threads: int, folder: Path) -> object:
    environment = os.environ | {
        "TENSORSMITH_ISA": level,
        "TENSORSMITH_NUM_THREADS": str(threads),
        "TENSORSMITH_BF16": "float32",  # an engine's bits are its own (ADR 6)
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def levels() -> None:
    if _core.simd_level()[0] != "avx512":
        pytest.skip(
            "compares avx2 with avx512; this run is pinned to another level, or the machine lacks AVX-512"
        )


@pytest.mark.usefixtures("levels")
def test_every_operation(tmp_path: Path) -> None:
    same_hashes(CASES.replace("{tests!r}", repr(str(Path(__file__).parent))), tmp_path)


@pytest.mark.usefixtures("levels")
def test_complex_numbers(tmp_path: Path) -> None:
    same_hashes(COMPLEX, tmp_path)


def same_hashes(program: str, folder: Path) -> None:
    wide = run(program.format(threads=2), "avx512", 2, folder)
    narrow = run(program.format(threads=1), "avx2", 1, folder)
    assert isinstance(wide, dict) and isinstance(narrow, dict)
    assert wide.keys() == narrow.keys()
    different = [name for name in wide if wide[name] != narrow[name]]
    assert not different, f"{len(different)} of {len(wide)}: {different[:20]}"


@pytest.mark.usefixtures("levels")
def test_trained_network(tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "digits.safetensors")
    program = TRAINED.format(checkpoint=checkpoint)
    results = [
        run(program, level, threads, tmp_path)
        for level, threads in (("avx512", 2), ("avx512", 1), ("avx2", 2))
    ]
    assert results[0] and results[0] == results[1] == results[2], results
