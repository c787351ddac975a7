"""`tensorsmith bench`: every kernel as a share of this machine's limit and as a ratio to every installed
peer.

The limits are measured first, of one thread and of all: fused multiply-adds and products of bfloat16 in registers,
and copies of many sizes. Then, for each row, ours and
a peer take turns in a process that has only these two, one peer after the other, and the medians are printed.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorsmith.bench.case import Case, Reading, Task
from tensorsmith.bench.cases import NAMES as FAMILIES
from tensorsmith.bench.cases import cases
from tensorsmith.bench.libraries import OWN, Ours, installed_peers
from tensorsmith.bench.measure import COPY_SIZES, STREAM_SIZE, Limits, limits
from tensorsmith.bench.worker import time_case
from tensorsmith.durable import check_target

__all__ = ["FAMILIES", "Row", "compare", "run"]

_WORKER = "import sys; from tensorsmith.bench.worker import main; main(*sys.argv[1:])"


@dataclass
class Row:
    """What was measured. `seconds` by library; `beside` has ours as timed in turns with each peer; `alone` is there
    for rows that are about a busy neighbour."""

    family: str
    name: str
    seconds: dict[str, float]
    beside: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    flops: float = 0
    bytes: float = 0
    peak: str = "float32"

    def share(self, limit: Limits) -> float | None:
        """Of the peak of the dtype that it multiplies, or of the bandwidth of a copy that moves as many bytes."""
        if OWN not in self.seconds or not (self.flops or self.bytes):
            return None
        if self.flops:
            return self.flops / self.seconds[OWN] / limit.fma[self.peak]
        return self.bytes / self.seconds[OWN] / limit.bandwidth(self.bytes)

    def ratios(self) -> dict[str, float]:
        """Each peer's time over ours in the same process."""
        return {peer: self.seconds[peer] / ours for peer, ours in self.beside.items()}


class _Workers:
    """A process for each peer, for as long as a run takes."""

    def __init__(self, peers: Sequence[str], threads: int, seconds: float) -> None:
        self._processes = {
            peer: subprocess.Popen(
                [sys.executable, "-c", _WORKER, peer, str(threads), str(seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process, which ends them
            )
            for peer in peers
        }

    def __enter__(self) -> _Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()

    def time(self, family: str, name: str) -> list[list[dict[str, float]]]:
        """What each process answers; one that has died is left out from now on."""
        answers = []
        for peer, process in list(self._processes.items()):
            assert process.stdin is not None and process.stdout is not None
            try:
                print(json.dumps([family, name]), file=process.stdin, flush=True)
                answers.append(json.loads(process.stdout.readline()))
            except (BrokenPipeError, json.JSONDecodeError):
                print(
                    f"{peer}'s process died at {family} {name!r}; it takes no further part", file=sys.stderr
                )
                process.kill()
                process.communicate()
                del self._processes[peer]
        return answers


def run(
    families: Sequence[str] = (),
    *,
    peers: bool = False,
    threads: int | None = None,
    contains: str | None = None,
    seconds: float = 0.3,
    json_file: Path | None = None,
) -> list[Row]:
    """Measures the families (all by default), prints a table for each and returns the rows."""
    unknown = [f for f in families if f not in FAMILIES]
    if unknown:
        raise ValueError(f"no family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    if json_file is not None:
        check_target("--json", json_file, replaced=False)
    chosen = {
        family: [case for case in cases(family) if contains is None or contains in case.name]
        for family in families or FAMILIES
    }
    if not any(chosen.values()):
        raise ValueError(f"no name of a case in {', '.join(chosen)} contains {contains!r}")
    import tensorsmith as ts

    ours, threads = Ours(), threads or ts.get_num_threads()
    streams = "stream" in chosen
    found = {}
    for count in sorted({1, threads}):
        ours.set_threads(count)
        found[count] = limits(min(0.5, 2 * seconds), (*COPY_SIZES, STREAM_SIZE) if streams else COPY_SIZES)
    limit = found[threads]
    config = ts.config()
    simd, count = config["simd"]["level"], config["threads"]["count"]
    print(f"tensorsmith {config['version']}, {config['cpu']}, {simd}, {count} threads", flush=True)
    for threads_of, one in found.items():
        print(f"{threads_of} thread{'s' * (threads_of > 1)}: {one}", flush=True)

    rows: list[Row] = []
    with _Workers(installed_peers() if peers else [], threads, seconds) as workers:
        for family, rows_of in chosen.items():
            print(f"\n{family:<48}{'µs':>12}{'rate':>15}{'share':>8}  peers' time / ours", flush=True)
            for case in rows_of:
                answers = [a for a in workers.time(family, case.name) if a[0]]
                row = _row(family, case, answers or [time_case(case, [ours], seconds)])
                rows.append(row)
                print(_line(row, limit), flush=True)
    if peers:
        print(summary(rows), flush=True)
    if json_file is not None:
        data = {
            "config": config,
            "limits": asdict(limit),
            "limits_of_one_thread": asdict(found[1]),
            "rows": [asdict(row) for row in rows],
        }
        json_file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return rows


def _row(family: str, case: Case | Task | Reading, answers: list[list[dict[str, float]]]) -> Row:
    """The answers of all processes joined; our time is the median of theirs."""
    row = Row(family, case.name, {}, flops=case.flops, bytes=case.bytes)
    if isinstance(case, Task):
        row.peak = case.peak
    own: list[list[float]] = [[] for _ in answers[0]]
    for times in answers:
        for kept, seconds, ours in zip((row.seconds, row.alone), times, own, strict=False):
            kept |= seconds
            ours.append(seconds.get(OWN, math.nan))
        row.beside |= {peer: times[0][OWN] for peer in times[0] if peer != OWN}
    for kept, ours in zip((row.seconds, row.alone), own, strict=False):
        kept[OWN] = statistics.median(ours)
    return row


def _line(row: Row, limit: Limits) -> str:
    own = row.seconds[OWN]
    share = row.share(limit)
    if row.flops:
        rate = f"{row.flops / own / 1e9:.1f} GFLOP/s"
    elif row.bytes:
        rate = f"{row.bytes / own / 1e9:.1f} GB/s"
    else:
        rate = ""
    ratios = "  ".join(f"{name} {ratio:.2f}" for name, ratio in row.ratios().items())
    percent = f"{share:.0%}" if share is not None else ""
    note = ""
    if row.alone:
        slower = (f"{name} {row.seconds[name] / alone:.2f}x" for name, alone in row.alone.items())
        note = f"  (slower than alone: {', '.join(slower)})"
    if row.name == "import" and "numpy" in row.seconds:
        note = f"  ({(own - row.seconds['numpy']) * 1e3:.0f} ms beyond NumPy's)"
    return f"  {row.name:<46}{own * 1e6:>12,.2f}{rate:>15}{percent:>8}  {ratios}{note}"


def summary(rows: Sequence[Row]) -> str:
    """How many rows have a peer, which of them are behind the best one, and the geometric means."""
    met = [row for row in rows if row.beside]
    lines = [f"\n{len(met)} rows beside a peer"]
    for peer in dict.fromkeys(peer for row in met for peer in row.beside):
        ratios = [row.ratios()[peer] for row in met if peer in row.beside]
        lines.append(
            f"  {peer:<16}{statistics.geometric_mean(ratios):.2f} times our time, {len(ratios)} rows"
        )
    behind = sorted(
        ((min(row.ratios().values()), row) for row in met if min(row.ratios().values()) < 1),
        key=lambda pair: pair[0],
    )
    lines.append(f"{len(behind)} behind the best peer")
    for ratio, row in behind:
        best = min(row.ratios(), key=lambda peer: row.ratios()[peer])
        lines.append(f"  {ratio:.2f} {best:<14}{row.family} {row.name}")
    return "\n".join(lines)


def compare(a: Path, b: Path) -> str:
    """Two files of `run(json_file=...)` side by side: our times, and how much faster the second is."""
    first, second = (_own_seconds(path) for path in (a, b))
    lines = [f"{'':<58}{a.name:>14}{b.name:>14}   A / B"]
    for key, seconds in first.items():
        if key in second:
            x, y = seconds * 1e6, second[key] * 1e6
            lines.append(f"{' '.join(key):<58}{x:>12,.2f}µs{y:>12,.2f}µs{x / y:>8.2f}")
    return "\n".join(lines)


def _own_seconds(path: Path) -> dict[tuple[str, str], float]:
    """Our time by family and name, of the rows that have one."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found = {
            (str(row["family"]), str(row["name"])): float(row["seconds"].get(OWN, math.nan)) for row in rows
        }
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"{path} is not a file of `tensorsmith bench --json`") from None
    return {key: seconds for key, seconds in found.items() if 0 < seconds < math.inf}
