"""The GPU: whether there is one, what it is, its memory, and waiting for it.

`ts.zeros(3, device="cuda")`, `x.cuda()` and `module.to("cuda")` put data there; operations run where their operands
are, one after the other, while Python goes on. Reading a value (`item`, `cpu`, printing) waits for it.
"""

from __future__ import annotations

from typing import Any

from tensorsmith._core import cuda as _cuda

__all__ = [
    "empty_cache",
    "get_device_name",
    "get_device_properties",
    "is_available",
    "memory_stats",
    "reset_peak_memory_stats",
    "synchronize",
    "why_not",
]


def is_available() -> bool:
    """Whether this build has CUDA kernels and this machine a GPU that runs them."""
    return bool(_cuda.state()[0])


def why_not() -> str | None:
    """The reason why the GPU is not available, or None."""
    available, reason = _cuda.state()
    return None if available else str(reason)


def synchronize() -> None:
    """Waits until the GPU has done all that it was given. RuntimeError where a kernel failed."""
    _cuda.synchronize()


def memory_stats() -> dict[str, int]:
    """Bytes live, at most live, cached for reuse and taken from the system; blocks live; allocations so far."""
    stats: dict[str, int] = _cuda.memory_stats()
    return stats


def reset_peak_memory_stats() -> None:
    """Counts `peak_bytes` from what is live now."""
    _cuda.reset_peak()


def empty_cache() -> None:
    """Returns cached memory to the system."""
    _cuda.empty_cache()


def get_device_properties() -> dict[str, Any]:
    """name, capability (major, minor), multiprocessors, memory, l2_cache and shared_memory in bytes; the CUDA
    versions of driver and runtime (1000 major + 10 minor)."""
    properties: dict[str, Any] = _cuda.properties()
    return properties


def get_device_name() -> str:
    """The GPU's name."""
    return str(_cuda.properties()["name"])
