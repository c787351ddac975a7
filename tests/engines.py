"""Test files run anew in a process that is pinned to an engine for bfloat16."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tensorsmith import _core

ENGINES = ["float32", "avx512_bf16", "amx"]


def run_pinned(file: str, engine: str) -> None:
    """The tests of `file` but those named engine; skips where the machine or the SIMD level lacks the engine."""
    program = "from tensorsmith import _core; print(_core.bf16_engine()[0])"
    environment = {**os.environ, "TENSORSMITH_BF16": engine}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    if found.returncode:
        assert "TENSORSMITH_BF16" in found.stderr and "ValueError" in found.stderr
        pytest.skip(found.stderr.strip().splitlines()[-1])
    assert found.stdout.strip() == engine
    if engine == _core.bf16_engine()[0]:
        return  # they run in this process
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", "not engine"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:]
