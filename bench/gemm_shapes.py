"""The table of docs/kernels/gemm.md: matrix products of sixteen shapes in four layouts, ours and every peer's.

python bench/gemm_shapes.py [--threads N] [--shapes M,N,K ...] [--layouts NN NT TN TT] [--peers numpy torch jax]
                            [--dtype float32|float64] [--rounds R] [--seconds S] [--json FILE]

Each library has a process of its own, because the idle threads of one disturb another in the same process; a process
whose turn it is not is stopped (SIGSTOP). In every round each library makes calls for about S seconds, after one that
is not counted, and ours then measures the peak of FMAs between registers. Printed per shape and layout: the median
time of one of our calls, GFLOP/s, the share of the median peak, and every peer's median time over ours. Operands are
the same NumPy memory for all; NumPy and PyTorch write to an existing result. JAX has float64 behind a switch only, and
is not timed in it. The last line counts the rows that are behind the fastest peer. `--rounds 5 --seconds 0.02` takes
under four minutes on two cores.

N threads are N CPUs of this process's affinity mask, for every library.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LAYOUTS = ("NN", "NT", "TN", "TT")
PEERS = ("numpy", "torch", "jax")
OURS = "tensorsmith"
PEAK = "peak"  # asked of ours in place of a case


def serve(library_name: str, threads: int, dtype: str, pipe: Connection) -> None:
    """A library's process: receives (case, calls), answers with the seconds that the calls took together."""
    import tensorsmith as ts
    from tensorsmith import _core
    from tensorsmith.bench.cases.gemm import cases as gemm_cases
    from tensorsmith.bench.libraries import PEERS as PEER_TYPES
    from tensorsmith.bench.libraries import Ours
    from tensorsmith.bench.measure import FMA_LOOP_FLOPS, FMA_LOOP_PIECES

    library = Ours() if library_name == OURS else PEER_TYPES[library_name][0]()
    library.set_threads(threads)
    cases = {case.name: replace(case, dtypes=(dtype, dtype)) for case in gemm_cases()}
    name, thunk = "", None
    while True:
        request: tuple[str, int] | None = pipe.recv()
        if request is None:
            return
        wanted, calls = request
        if wanted == PEAK:
            begin = time.perf_counter()
            _core.ops.fma_loop(FMA_LOOP_PIECES, getattr(ts, dtype))
            pipe.send(FMA_LOOP_PIECES * FMA_LOOP_FLOPS / (time.perf_counter() - begin))
            continue
        if wanted != name:
            name, thunk = wanted, cases[wanted].thunk(library)
        assert thunk is not None
        thunk()
        begin = time.perf_counter()
        for _ in range(calls):
            thunk()
        pipe.send(time.perf_counter() - begin)


class Worker:
    """A library's process, running only while it is asked."""

    def __init__(self, library: str, threads: int, dtype: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(library, threads, dtype, other), daemon=True)
        self.process.start()

    def ask(self, case: str, calls: int = 1) -> float:
        pid = self.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGCONT)
        self.pipe.send((case, calls))
        answer: float = self.pipe.recv()
        os.kill(pid, signal.SIGSTOP)
        return answer

    def end(self) -> None:
        if self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGCONT)
        self.pipe.send(None)
        self.process.join()


@dataclass
class Row:
    shape: tuple[int, int, int]
    layout: str
    seconds: dict[str, float]  # median of one call, by library
    peak: float  # FLOP/s
    share: float  # of the peak

    @property
    def ratios(self) -> dict[str, float]:
        """Every peer's time over ours."""
        return {name: t / self.seconds[OURS] for name, t in self.seconds.items() if name != OURS}

    def __str__(self) -> str:
        m, n, k = self.shape
        ours, ratios = self.seconds[OURS], self.ratios
        text = (
            f"{f'{m}x{n}x{k}':<15}{self.layout}{ours * 1e6:>12,.2f} µs{2e-9 * m * n * k / ours:>8.1f} GFLOP/s"
        )
        text += f"{self.share:>7.1%}"
        if ratios:
            best = min(ratios, key=ratios.__getitem__)
            text += f"{ratios[best]:>7.2f} {best:<6}" + "".join(f"  {n} {r:.2f}" for n, r in ratios.items())
        return text


def measure(
    workers: dict[str, Worker], shape: tuple[int, int, int], layout: str, rounds: int, seconds: float
) -> Row:
    m, n, k = shape
    case = f"{m}x{n}x{k} {layout}"
    calls = {}
    for name, worker in workers.items():
        once = worker.ask(case)
        if once < seconds / 10:
            once = worker.ask(case, 10) / 10
        calls[name] = max(1, min(100_000, round(seconds / once)))
    times: dict[str, list[float]] = {name: [] for name in workers}
    peaks = []
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.ask(case, calls[name]) / calls[name])
        peaks.append(workers[OURS].ask(PEAK))
    medians = {name: statistics.median(values) for name, values in times.items()}
    peak = statistics.median(peaks)
    return Row(shape, layout, medians, peak, 2.0 * m * n * k / medians[OURS] / peak)


def main() -> None:
    from tensorsmith.bench.cases.gemm import GEMM_SHAPES

    def shape(text: str) -> tuple[int, int, int]:
        m, n, k = (int(part) for part in text.split(","))
        if (m, n, k) not in GEMM_SHAPES:
            raise argparse.ArgumentTypeError(f"{text} is not one of {GEMM_SHAPES}")
        return m, n, k

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--shapes", nargs="+", type=shape, default=list(GEMM_SHAPES), metavar="M,N,K")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--peers", nargs="*", choices=PEERS)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.006, help="of calls per library and round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.perf_counter()

    peers = options.peers
    if peers is None:
        peers = [name for name in PEERS if name != "jax" or options.dtype == "float32"]
    elif "jax" in peers and options.dtype == "float64":
        parser.error("--peers: jax is timed in float32 only")
    cpus = sorted(os.sched_getaffinity(0))
    if not 1 <= options.threads <= len(cpus):
        parser.error(f"--threads must be from 1 to {len(cpus)}, got {options.threads}")
    os.sched_setaffinity(0, cpus[-options.threads :])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TENSORSMITH_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    workers = {name: Worker(name, options.threads, options.dtype) for name in (OURS, *peers)}
    rows: list[Row] = []
    try:
        for each in options.shapes:
            for layout in options.layouts:
                rows.append(measure(workers, each, layout, options.rounds, options.seconds))
                print(rows[-1], flush=True)
    finally:
        for worker in workers.values():
            worker.end()
    if options.json is not None:
        data: dict[str, Any] = {
            "threads": options.threads,
            "dtype": options.dtype,
            "rows": [vars(row) for row in rows],
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    peak = statistics.median(row.peak for row in rows) / 1e9
    print(f"{options.threads} threads; FMA peak {peak:.0f} GFLOP/s; {time.perf_counter() - began:.0f} s")
    if peers:
        fastest = [min(row.ratios.values()) for row in rows]
        print(
            f"{sum(ratio < 1 for ratio in fastest)} of {len(rows)} behind the fastest peer; "
            f"its time over ours: geometric mean {statistics.geometric_mean(fastest):.2f}"
        )


if __name__ == "__main__":
    main()
