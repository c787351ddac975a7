"""What the documentation says about the code is so."""

from __future__ import annotations

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
def test_the_logit_of_contributing_does_not_exist_yet() -> None:
    """CONTRIBUTING adds it as its example."""
    assert not hasattr(ts, "logit")


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
