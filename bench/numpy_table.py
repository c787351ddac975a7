"""NumPy's own ground: ours against NumPy, each in a process of its own, which take turns row by row and are stopped
between: OpenBLAS's threads look for work long after a product.

    python bench/numpy_table.py [--threads 2] [--sizes 10,1e4,1e6] [--dtypes float32] [--filter sort,take]
                                 [--seconds .02]

Prints a line for every row, the rows below 1.0 from 10^4 elements on, those below 0.5 under 100, and geometric means.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Row = Callable[[], object]


def arrays(n: int, dtype: str) -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    side = math.isqrt(n)
    x, y, p = rng.standard_normal(n), rng.standard_normal(n), rng.uniform(0.5, 1.5, n)
    m = rng.standard_normal((side, side))
    a = {
        "x": x,
        "y": y,
        "p": p,
        "m": m,
        "out": np.zeros(n),
        "w": np.zeros(n),
        "wm": np.zeros((side, side)),
        "o": np.sort(x),
    }
    a = {k: v.astype(dtype) for k, v in a.items()}
    mask = rng.random(n) > 0.5
    return a | {
        "i": rng.integers(0, 10**9, n), "small": rng.integers(0, 100, n), "mask": mask,
        "mm": rng.random((side, side)) > 0.5, "rm": rng.random(side) > 0.5, "at": rng.integers(0, n, n),
        "row": rng.integers(0, side, side),
        "column": rng.integers(0, side, side), "ym": y[: int(mask.sum())].astype(dtype),
        "z": (x + 1j * y).astype("complex64" if dtype == "float32" else "complex128"),
    }  # fmt: skip


def rows(xp: Any, a: dict[str, Any], n: int) -> dict[str, Row]:
    x, y, p, m, i, at, mask = (a[k] for k in ("x", "y", "p", "m", "i", "at", "mask"))
    w, wm, row, column, z = a["w"], a["wm"], a["row"], a["column"], a["z"]

    def write(target: Any, key: Any, value: Any) -> Row:
        def run() -> None:
            target[key] = value

        return run

    def write_zeros() -> (
        None
    ):  # untouched ones cost NumPy nothing from some size on: the system clears pages later
        zeros = xp.zeros(n, dtype=a["dtype"])
        zeros += x

    return {
        "add": lambda: x + y, "add out": lambda: xp.add(x, y, out=a["out"]), "scale": lambda: x * 2.5,
        "chain": lambda: 2.0 * x + y - x * y, "exp": lambda: xp.exp(x), "log": lambda: xp.log(p),
        "sqrt": lambda: xp.sqrt(p), "sin": lambda: xp.sin(x), "tanh": lambda: xp.tanh(x), "power": lambda: p**2.5,
        "divide": lambda: x / p, "abs": lambda: xp.abs(x), "maximum": lambda: xp.maximum(x, y),
        "compare": lambda: x > y,
        "where": lambda: xp.where(mask, x, y), "clip": lambda: xp.clip(x, -0.5, 0.5),
        "astype": lambda: x.astype("float64" if a["dtype"] == "float32" else "float32"),
        "add strided": lambda: x[::2] + y[::2], "add transposed": lambda: m + m.T, "copy transposed": lambda: m.T + 0,
        "add row": lambda: m + m[0], "add column": lambda: m + m[:, :1], "all isfinite": lambda: xp.all(xp.isfinite(x)),
        "integer add": lambda: i + i, "sum": lambda: x.sum(), "sum axis 0": lambda: m.sum(axis=0),
        "sum axis 1": lambda: m.sum(axis=1), "mean": lambda: x.mean(), "var": lambda: x.var(),
        "std axis 0": lambda: m.std(axis=0), "max": lambda: x.max(), "max axis 0": lambda: m.max(axis=0),
        "max axis 1": lambda: m.max(axis=1), "argmax": lambda: x.argmax(), "argmax axis 1": lambda: m.argmax(axis=1),
        "prod": lambda: p.prod(), "any": lambda: xp.any(mask), "cumsum": lambda: xp.cumsum(x),
        "cumsum axis 0": lambda: xp.cumsum(m, axis=0), "norm": lambda: xp.linalg.norm(x),
        "integer sum": lambda: i.sum(),
        "count_nonzero": lambda: xp.count_nonzero(mask), "sort": lambda: xp.sort(x),
        "sort axis 0": lambda: xp.sort(m, axis=0), "argsort": lambda: xp.argsort(x),
        "sort integers": lambda: xp.sort(i),
        "unique": lambda: xp.unique(a["small"]), "searchsorted": lambda: xp.searchsorted(a["o"], y),
        "median": lambda: xp.median(x), "bincount": lambda: xp.bincount(a["small"]),
        "histogram": lambda: xp.histogram(x, 10), "x[i]": lambda: x[3], "m[i, j]": lambda: m[1, 2],
        "x[a:b]": lambda: x[2:-2], "m[:, j]": lambda: m[:, 1], "m[..., None]": lambda: m[..., None],
        "x[array]": lambda: x[at], "m[array]": lambda: m[row], "m[:, array]": lambda: m[:, row],
        "m[array, array]": lambda: m[row, column], "x[mask]": lambda: x[mask], "m[mask]": lambda: m[a["mm"]],
        "m[row mask]": lambda: m[a["rm"]], "take": lambda: xp.take(x, at, axis=0), "nonzero": lambda: xp.nonzero(mask),
        "x[i] = 1": write(w, 3, 1.5), "x[a:b] = 1": write(w, slice(2, -2), 1.5), "x[:] = y": write(w, slice(0, n), y),
        "x[array] = 1": write(w, at, 1.5), "x[array] = y": write(w, at, y), "x[mask] = 1": write(w, mask, 1.5),
        "x[mask] = y": write(w, mask, a["ym"]), "m[array] = m": write(wm, row, m),
        "m[:, j] = x": write(wm, (slice(None), 1), m[0]), "concatenate": lambda: xp.concatenate([x, y]),
        "stack": lambda: xp.stack([x, y]), "reshape": lambda: x.reshape(1, -1), "transpose": lambda: m.T,
        "repeat": lambda: xp.repeat(x, 2), "tile": lambda: xp.tile(x, 2), "roll": lambda: xp.roll(x, 3),
        "zeros": lambda: xp.zeros(n, dtype=a["dtype"]), "zeros += x": write_zeros, "arange": lambda: xp.arange(n),
        "linspace": lambda: xp.linspace(0, 1, n), "matmul": lambda: m @ m, "matrix vector": lambda: m @ m[0],
        "dot": lambda: x @ y, "outer": lambda: xp.outer(m[0], m[1]), "einsum": lambda: xp.einsum("ij,ij->i", m, m),
        "fft": lambda: xp.fft.fft(z), "rfft": lambda: xp.fft.rfft(x), "ifft": lambda: xp.fft.ifft(z),
        "diff": lambda: xp.diff(x), "pad": lambda: xp.pad(x, 2), "allclose": lambda: xp.allclose(x, x),
    }  # fmt: skip


def best(run: Row, seconds: float) -> float:
    began = time.perf_counter()
    run()
    once = time.perf_counter() - began
    if once > 0.25:
        return once
    began = time.perf_counter()
    run()
    count = max(1, int(2e-4 / max(time.perf_counter() - began, 1e-7)))
    shortest, end = math.inf, time.perf_counter() + seconds
    while True:
        began = time.perf_counter()
        for _ in range(count):
            run()
        now = time.perf_counter()
        shortest = min(shortest, (now - began) / count)
        if now > end:
            return shortest


def serve(library: str, threads: int) -> None:
    """Answers "n dtype row seconds" with the shortest time, one line each."""
    import numpy as np

    xp: Any = np
    if library == "tensorsmith":
        import tensorsmith as xp

        xp.set_default_dtype("float64")
        xp.set_num_threads(threads)
    made: tuple[Any, ...] = ()
    for line in sys.stdin:
        n, dtype, row, seconds = line.rstrip("\n").split("\t")
        if made[:2] != (n, dtype):
            a = arrays(int(n), dtype)
            if library == "tensorsmith":
                a = {k: xp.asarray(v) for k, v in a.items()}
            made = (n, dtype, rows(xp, a | {"dtype": dtype}, int(n)))
        print(best(made[2][row], float(seconds)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", default="10,1e3,1e4,1e5,1e6,1e7")
    parser.add_argument("--dtypes", default="float32,float64")
    parser.add_argument("--filter", default="")
    parser.add_argument("--seconds", type=float, default=0.02)
    parser.add_argument("--serve", default="")
    o = parser.parse_args()
    if o.serve:
        return serve(o.serve, o.threads)
    environment = os.environ | {
        k: str(o.threads) for k in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    command = [sys.executable, __file__, "--threads", str(o.threads), "--serve"]
    workers = {
        name: subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for name in ("numpy", "tensorsmith")
    }

    def ask(name: str, *question: Any) -> float:
        worker = workers[name]
        assert worker.stdin and worker.stdout
        worker.send_signal(signal.SIGCONT)
        print(*question, sep="\t", file=worker.stdin, flush=True)
        seconds = float(worker.stdout.readline())
        worker.send_signal(signal.SIGSTOP)
        return seconds

    import numpy as np

    ratios: list[tuple[float, str]] = []
    for n in [int(float(s)) for s in o.sizes.split(",")]:
        for dtype in o.dtypes.split(","):
            names = [
                r
                for r in rows(np, arrays(9, dtype) | {"dtype": dtype}, 9)
                if any(f in r for f in o.filter.split(","))
            ]
            for row in names:
                if row == "matmul" and n > 4_000_000:
                    continue
                times = {"numpy": math.inf, "tensorsmith": math.inf}
                for _ in range(2):
                    for name in times:
                        times[name] = min(times[name], ask(name, n, dtype, row, o.seconds / 2))
                ratio = times["numpy"] / times["tensorsmith"]
                label = f"{row:18}{dtype:9}{n:>9}"
                print(
                    f"{label}{times['numpy'] * 1e6:12.2f}{times['tensorsmith'] * 1e6:12.2f} us {ratio:7.2f}",
                    flush=True,
                )
                ratios.append((ratio, label))
    for low, high, least in ((0, 100, 0.5), (10_000, 10**12, 1.0)):
        chosen = [(r, label) for r, label in ratios if low <= int(label.split()[-1]) < high]
        if not chosen:
            continue
        mean = math.exp(sum(math.log(r) for r, _ in chosen) / len(chosen))
        behind = sorted(c for c in chosen if c[0] < least)
        where = "under 100 elements" if high == 100 else "from 10,000 elements on"
        print(f"{where}: {len(chosen)} rows, geometric mean {mean:.2f}, {len(behind)} below {least}")
        for r, label in behind:
            print(f"  {r:5.2f}  {label}")
    for worker in workers.values():
        assert worker.stdin
        worker.send_signal(signal.SIGCONT)
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
