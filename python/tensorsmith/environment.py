"""What this build is and how it runs here: the first question of every bug report."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from tensorsmith import _core

__all__ = ["config", "describe"]


def config() -> dict[str, Any]:
    """The version, SIMD level, engine of bfloat16 products, threads, CUDA and allocator of this process, each with
    the reason where there is one.
    """
    import platform

    from tensorsmith import __version__

    level, level_reason = _core.simd_level()
    bf16, bf16_reason = _core.bf16_engine()
    default, default_reason = _core.default_num_threads()
    threads = _core.num_threads()
    thread_reason = (
        default_reason if threads == default else f"set by set_num_threads; the default is {default}"
    )
    return {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "simd": {"level": level, "reason": level_reason},
        "bfloat16": {"engine": bf16, "reason": bf16_reason},
        "threads": {"count": threads, "reason": thread_reason},
        "cuda": dict(zip(("available", "reason"), _core.cuda.state())),
        "allocator": _core.allocator_stats(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith("TENSORSMITH_")},
    }


def describe() -> str:
    """`config` as lines of text."""
    c = config()
    mib = {k: f"{v / 2**20:.1f} MiB" for k, v in c["allocator"].items() if k.endswith("_bytes")}
    lines = {
        "tensorsmith": f"{c['version']} in {os.path.dirname(__file__)}",
        "Python": f"{c['python']} ({sys.executable}), NumPy {c['numpy']}",
        "machine": f"{c['cpu']}; {c['platform']}",
        "SIMD": f"{c['simd']['level']}: {c['simd']['reason']}",
        "bfloat16": f"{c['bfloat16']['engine']}: {c['bfloat16']['reason']}",
        "threads": f"{c['threads']['count']}: {c['threads']['reason']}",
        "CUDA": f"{'available' if c['cuda']['available'] else 'not available'}: {c['cuda']['reason']}",
        "allocator": ", ".join(f"{k.removesuffix('_bytes')} {v}" for k, v in mib.items()),
        "environment": ", ".join(f"{k}={v}" for k, v in c["environment"].items())
        or "no TENSORSMITH_ variables",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return os.uname().machine
