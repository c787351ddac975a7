"""Timing several thunks fairly, and the machine's own limits."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

Thunk = Callable[[], object]
FMA_LOOP_FLOPS = 3 << 22  # of one piece of fma_loop: csrc/cpu/roofline.cpp
BF16_LOOP_FLOPS = 3 << 24  # of one piece of bf16_loop: csrc/cpu/roofline_bf16.cpp
FMA_LOOP_PIECES = 64
COPY_SIZES = tuple(1 << k for k in range(15, 30, 2))  # from the nearest cache to memory
STREAM_SIZE = 1 << 30  # past caches that many machines share
_TASKS = "/proc/self/task"  # a folder for each thread


def median_seconds(thunks: Sequence[Thunk], seconds: float) -> list[float]:
    """The median time of one call of each thunk. They take turns, so that a change in the machine's pace
    meets all of them, and begin when the other's threads have come to rest; each gets about `seconds` in at least
    five turns.
    """
    for thunk in thunks:  # compile, allocate, fault pages in
        thunk()
        thunk()
    counts = []
    for thunk in thunks:
        once = _clock(thunk, 1)
        counts.append(max(1, int(min(seconds / 9, 0.01) / max(once, 1e-8))))
    samples: list[list[float]] = [[] for _ in thunks]
    spent = [0.0] * len(thunks)
    while min(map(len, samples)) < 5 or min(spent) < seconds:
        for i, thunk in enumerate(thunks):
            if len(thunks) > 1:
                let_threads_rest()
                thunk()
            elapsed = _clock(thunk, counts[i])
            spent[i] += elapsed
            samples[i].append(elapsed / counts[i])
        if max(map(len, samples)) >= 1000:
            break
    return [statistics.median(s) for s in samples]


def let_threads_rest(most: float = 1.0) -> None:
    """Waits until no other thread of this process runs, `most` seconds if they do not stop. A library's threads look
    for more work after a call, libgomp's for 8 to 10 ms, OpenBLAS's for 130, and take a core from whoever comes next.
    """
    if not os.path.isdir(_TASKS):  # no Linux: long enough for libgomp
        time.sleep(0.02)
        return
    end = time.perf_counter() + most
    time.sleep(0.001)
    while time.perf_counter() < end and _others_run():
        time.sleep(0.001)


def _others_run() -> bool:
    own = str(threading.get_native_id())
    for task in os.listdir(_TASKS):
        try:
            with open(f"{_TASKS}/{task}/stat") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        if state == "R" and task != own:
            return True
    return False


def _clock(thunk: Thunk, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        thunk()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Limits:
    """What this machine can do with the given threads."""

    fma: dict[str, float]  # dtype -> FLOP/s; bfloat16: of products that are summed in float32
    engine: str  # what multiplies bfloat16: amx, avx512_bf16 or float32
    copy: dict[int, float]  # bytes moved by a copy (read and written) -> bytes per second

    def bandwidth(self, nbytes: float) -> float:
        """Of a copy that moves about as many bytes, and so lives in the same cache or in memory."""
        nearest = min(self.copy, key=lambda size: abs(math.log(size / max(nbytes, 1))))
        return self.copy[nearest]

    def __str__(self) -> str:
        names = {dtype: f"{dtype} ({self.engine})" if dtype == "bfloat16" else dtype for dtype in self.fma}
        fma = ", ".join(f"{names[dtype]} {rate / 1e9:.0f}" for dtype, rate in self.fma.items())
        copy = ", ".join(f"{_size(size)} {rate / 1e9:.0f}" for size, rate in self.copy.items())
        return f"FMA peak {fma} GFLOP/s\ncopy that moves {copy} GB/s"


def _size(nbytes: int) -> str:
    return f"{nbytes >> 20} MB" if nbytes >> 20 else f"{nbytes >> 10} KB"


def limits(seconds: float = 0.5, copies_of: Sequence[int] = COPY_SIZES) -> Limits:
    """Runs fused multiply-adds and products of bfloat16 in registers, and copies that move so many bytes; the best
    of each.
    """
    import tensorsmith as ts
    from tensorsmith import _core

    fma = {}
    for name in ("float32", "float64"):
        thunk = partial(_core.ops.fma_loop, FMA_LOOP_PIECES, getattr(ts, name))
        fma[name] = FMA_LOOP_PIECES * FMA_LOOP_FLOPS / _best(thunk, seconds)
    engine = _core.bf16_engine()[0]
    if engine == "float32":
        fma["bfloat16"] = fma["float32"]
    else:
        thunk = partial(_core.ops.bf16_loop, FMA_LOOP_PIECES)
        fma["bfloat16"] = FMA_LOOP_PIECES * BF16_LOOP_FLOPS / _best(thunk, seconds)
    copy = {}
    for moved in copies_of:
        # Memory of our own: huge pages, and whole lines, without which no store goes past the caches.
        source, target = ts.ones(moved // 8), ts.zeros(moved // 8)
        copies = [partial(_core.ops.copy_loop_, target, source, streaming) for streaming in (False, True)]
        copy[moved] = moved / min(_best(thunk, seconds / len(copies_of)) for thunk in copies)
    return Limits(fma, engine, copy)


def _best(thunk: Thunk, seconds: float) -> float:
    thunk()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 5 or time.perf_counter() < end:
        samples.append(_clock(thunk, 1))
    return min(samples)


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """One of this process's cores is taken by another process that does not rest while this one lives."""
    core = max(os.sched_getaffinity(0))
    script = (
        f"import os\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\n"
        f"while os.getppid() == {os.getpid()}:\n for _ in range(10**6): pass"
    )
    process = subprocess.Popen([sys.executable, "-I", "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def import_seconds(module: str, rounds: int = 7) -> float:
    """Time that `import module` takes beyond starting Python, in a process of its own; the best of a few."""
    script = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return min(
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
        for _ in range(rounds)
    )
