"""`tensorsmith bench`: every kernel as a share of this machine's limit and as a ratio to every installed
peer.

The limits are measured first: fused multiply-adds in registers, and a copy of memory that no cache holds.
Then the libraries take turns on each case, in one process, and the medians are printed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tensorsmith.bench import steps
from tensorsmith.bench.cases import CASES
from tensorsmith.bench.libraries import Library, NotThere, Ours, Thunk, installed_peers
from tensorsmith.bench.measure import Limits, busy_neighbour, import_seconds, limits, median_seconds

__all__ = ["FAMILIES", "compare", "run"]

OWN = "tensorsmith"
FAMILIES = (
    *dict.fromkeys(case.family for case in CASES),
    "random",
    "optim",
    "steps",
    "overhead",
    "neighbour",
)


@dataclass
class Row:
    family: str
    name: str
    seconds: dict[str, float]  # by library
    flops: float = 0
    bytes: float = 0
    note: str = ""

    def share(self, limit: Limits) -> float | None:
        """Of the FMA peak, or of the bandwidth of a copy that moves as many bytes."""
        if OWN not in self.seconds or not (self.flops or self.bytes):
            return None
        if self.flops:
            return self.flops / self.seconds[OWN] / limit.fma["float32"]
        return self.bytes / self.seconds[OWN] / limit.bandwidth(self.bytes)


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
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise ValueError(f"the folder of --json {json_file} does not exist")
    import tensorsmith as ts

    ours = Ours()
    others = installed_peers() if peers else []
    for library in (ours, *others):
        library.set_threads(threads or ts.get_num_threads())
    limit = limits(min(0.5, 2 * seconds))
    config = ts.config()
    simd, count = config["simd"]["level"], config["threads"]["count"]
    print(f"tensorsmith {config['version']}, {config['cpu']}, {simd}, {count} threads\n{limit}", flush=True)

    rows: list[Row] = []
    family = ""
    for row in _rows(families or FAMILIES, ours, others, peers, contains, seconds):
        if row.family != family:
            family = row.family
            print(f"\n{family:<48}{'µs':>12}{'rate':>14}{'share':>8}  peers' time / ours", flush=True)
        rows.append(row)
        print(_line(row, limit), flush=True)
    if json_file is not None:
        data = {"config": config, "limits": asdict(limit), "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return rows


def _line(row: Row, limit: Limits) -> str:
    own = row.seconds.get(OWN)
    share = row.share(limit)
    if row.flops and own:
        rate = f"{row.flops / own / 1e9:.1f} GFLOP/s"
    elif row.bytes and own:
        rate = f"{row.bytes / own / 1e9:.1f} GB/s"
    else:
        rate = ""
    ratios = "  ".join(f"{name} {t / own:.2f}" for name, t in row.seconds.items() if name != OWN and own)
    time = f"{own * 1e6:,.2f}" if own else "-"
    percent = f"{share:.0%}" if share is not None else ""
    return f"  {row.name:<46}{time:>12}{rate:>14}{percent:>8}  {ratios}{row.note}"


def _rows(
    families: Sequence[str],
    ours: Library,
    others: Sequence[Library],
    peers: bool,
    contains: str | None,
    seconds: float,
) -> Iterator[Row]:
    def wanted(name: str) -> bool:
        return contains is None or contains in name

    def timed(family: str, name: str, thunks: dict[str, Thunk], flops: float = 0, nbytes: float = 0) -> Row:
        return Row(
            family,
            name,
            dict(zip(thunks, median_seconds(list(thunks.values()), seconds), strict=True)),
            flops,
            nbytes,
        )

    for family in families:
        for case in CASES:
            if case.family != family or not wanted(case.name):
                continue
            thunks: dict[str, Thunk] = {}
            for library in (ours, *others):
                try:
                    thunk = case.thunk(library)
                except NotThere:
                    thunk = None
                if thunk is not None:
                    thunks[library.name] = thunk
            yield timed(family, case.name, thunks, case.flops, case.bytes)
        if family == "random":
            for name, nbytes, thunks in steps.random_cases(peers):
                if wanted(name):
                    yield timed(family, name, thunks, nbytes=nbytes)
        if family == "optim":
            for name, nbytes, thunks in steps.optimizer_cases(peers):
                if wanted(name):
                    yield timed(family, name, thunks, nbytes=nbytes)
        if family == "steps":
            for step in steps.STEPS:
                if wanted(step.name):
                    yield timed(family, step.name, steps.contestants(step, peers), step.flops)
        if family == "overhead":
            for name, thunks in steps.overhead_cases(peers):
                if wanted(name):
                    yield timed(family, name, thunks)
            if wanted("import"):
                yield _imports(others)
        if family == "neighbour":
            yield from _neighbour(peers, seconds, contains)


def _imports(others: Sequence[Library]) -> Row:
    names = [OWN, "numpy", *(p.name for p in others if p.name != "numpy")]
    times = {name: import_seconds(name) for name in names}
    beyond = (times[OWN] - times["numpy"]) * 1e3
    return Row("overhead", "import", times, note=f"  ({beyond:.0f} ms beyond NumPy's)")


def _neighbour(peers: bool, seconds: float, contains: str | None) -> Iterator[Row]:
    """A training step alone, and beside a process that keeps one core busy; the figure is the slowdown."""
    if len(os.sched_getaffinity(0)) < 2:
        return
    for step in steps.STEPS:
        if contains is not None and contains not in step.name:
            continue
        thunks = steps.contestants(step, peers)
        alone = dict(zip(thunks, median_seconds(list(thunks.values()), seconds), strict=True))
        with busy_neighbour():
            beside = dict(zip(thunks, median_seconds(list(thunks.values()), seconds), strict=True))
        slower = ", ".join(f"{name} {beside[name] / alone[name]:.2f}x" for name in thunks)
        yield Row("neighbour", step.name, beside, step.flops, note=f"  (slower than alone: {slower})")


def compare(a: Path, b: Path) -> str:
    """Two files of `run(json_file=...)` side by side: our times, and how much faster the second is."""
    first, second = (_by_case(path) for path in (a, b))
    lines = [f"{'':<58}{a.name:>14}{b.name:>14}   A / B"]
    for key, row in first.items():
        if key in second and OWN in row["seconds"] and OWN in second[key]["seconds"]:
            x, y = row["seconds"][OWN] * 1e6, second[key]["seconds"][OWN] * 1e6
            lines.append(f"{' '.join(key):<58}{x:>12,.2f}µs{y:>12,.2f}µs{x / y:>8.2f}")
    return "\n".join(lines)


def _by_case(path: Path) -> dict[tuple[str, str], Any]:
    try:
        return {
            (row["family"], row["name"]): row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
        }
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is not a file of `tensorsmith bench --json`") from None
