"""What the documentation says about the code is so."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tensorsmith as ts
from tensorsmith._core import ops as core

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the documentation is not beside the tests")
def test_support_table_is_current() -> None:
    subprocess.run([sys.executable, str(ROOT / "docs/support.py"), "--check"], check=True)


@pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the sources are not beside the tests")
def test_the_example_of_contributing_does_not_exist_yet() -> None:
    """Not named after it: who follows CONTRIBUTING ends with `pytest -k logit`."""
    assert not hasattr(ts, "logit"), "CONTRIBUTING.md adds logit as its example: choose another one there"


def test_every_public_operation_is_documented() -> None:
    missing = [name for name in ts.ops.__all__ if not getattr(ts, name).__doc__]
    assert not missing, missing


def test_every_operation_has_rules_or_says_why_not() -> None:
    """An operation of floats that is neither differentiable nor marked as constant would fail late, in backward."""
    without = [
        name
        for name in dir(core)
        if not name.startswith("_")
        and getattr(core, name)._differentiable
        and getattr(core, name).__doc__ is None
    ]
    assert not without, f"no docstring, so never passed to define(): {without}"


def test_the_public_names_are_exported_for_type_checkers() -> None:
    """`import x` alone is private to a type checker: `mypy --strict` knew no `ts.Tensor`."""
    tree = ast.parse(Path(ts.__file__).read_text())
    private = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tensorsmith")
        for alias in node.names
        if alias.name not in ("*", "_core") and alias.asname != alias.name
    ]
    assert not private, private


USER = """
import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F


class Double(ts.autograd.Function):
    @staticmethod
    def forward(ctx: ts.autograd.Context, x: ts.Tensor, times: int) -> ts.Tensor:
        return x * times

    @staticmethod
    def backward(ctx: ts.autograd.Context, dy: ts.Tensor) -> tuple[ts.Tensor, None]:
        return dy * 2, None


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(ts.zeros((4, 3), dtype=ts.float32))

    def forward(self, x: ts.Tensor) -> ts.Tensor:
        return x @ self.weight.T


@ts.jit(fallback=True)
def step(x: ts.Tensor, t: ts.Tensor) -> ts.Tensor:
    with ts.autocast():
        loss: ts.Tensor = F.cross_entropy(net(x), t)
    return loss


@ts.no_grad()
def bits(x: ts.Tensor) -> ts.Tensor:
    return (1 | x.to(ts.int64)) ^ (2 & divmod(x, 2)[0])


net = Net()
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
with ts.no_grad():
    net.weight -= 0.1 * net.weight
print(net.weight.item(0, 1), net.weight.shape, -net.weight.T)
print(step.cache_info(), ts.random.default_rng(0).normal(size=3), ts.config(), ts.load("a"), ts.hessian(step))
"""


def test_a_users_file_passes_the_strict_type_checker(tmp_path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    environment = {**os.environ, "PYTHONPATH": str(Path(ts.__file__).parents[1])}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
