"""`ts.profiler`: what every kernel call took, eager or replayed.

    with ts.profiler.profile() as p:
        step(x, t)
    print(p.table())
    p.chrome_trace("step.json")  # for chrome://tracing or ui.perfetto.dev

Times are of the calls at the door, on the thread that made them; Python's own time is what lies between them. An
eager call costs some microseconds more while it is watched (its Python line is looked up), a replayed one less.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorsmith import _core

__all__ = ["Event", "profile"]


@dataclass(frozen=True)
class Event:
    """One call: times in seconds, the start on `time.perf_counter`'s clock."""

    name: str
    start: float
    duration: float
    flops: float  # of products and convolutions; 0 where bytes are what counts
    bytes: float  # each operand once
    line: str  # of the caller, "file:line in function"; where it was recorded, if replayed
    shapes: str


class profile:
    """Notes every kernel call of the process within the `with` block; RuntimeError if one is running."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __enter__(self) -> profile:
        _core.start_profile()
        return self

    def __exit__(self, *exc: object) -> None:
        self.events = [
            Event(name, start * 1e-9, duration * 1e-9, flops, nbytes, line, shapes)
            for name, start, duration, flops, nbytes, line, shapes in _core.stop_profile()
        ]

    def table(self, by: str = "name", limits: bool = False, rows: int = 30) -> str:
        """Time, calls, rates and Python line, the slowest first.

        by: "name" (of the kernel), "line" or "shapes" (name and shapes).
        limits: measure this machine's limits first (a second) and add the share of them.
        """
        if by not in ("name", "line", "shapes"):
            raise ValueError(f"table: by must be 'name', 'line' or 'shapes', got {by!r}")
        limit: Any = None
        if limits:
            from tensorsmith.bench.measure import limits as measure

            limit = measure(0.2)
        groups: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            key = event.line if by == "line" else event.name
            groups[f"{event.name} {event.shapes}" if by == "shapes" else key].append(event)
        total = sum(event.duration for event in self.events)
        width = min(max([len(_short(key)) for key in groups], default=4), 56)
        share = f"{'share':>7}" if limit else ""
        lines = [f"{by:<{width}}{'µs':>12}{'%':>6}{'calls':>7}{'rate':>16}{share}  line"]
        for key, events in sorted(groups.items(), key=lambda item: -sum(e.duration for e in item[1]))[:rows]:
            time = sum(e.duration for e in events)
            flops, nbytes = sum(e.flops for e in events), sum(e.bytes for e in events)
            rate = f"{flops / time / 1e9:,.1f} GFLOP/s" if flops and time else ""
            rate = rate or (f"{nbytes / time / 1e9:,.1f} GB/s" if time else "")
            part = ""
            if limit and time:
                best = (
                    flops / limit.fma["float32"]
                    if flops
                    else sum(e.bytes / limit.bandwidth(e.bytes) for e in events)
                )
                part = f"{best / time:>7.0%}"
            lines.append(
                f"{_short(key)[:width]:<{width}}{time * 1e6:>12,.1f}{time / total:>6.0%}{len(events):>7}"
                f"{rate:>16}{part if limit else ''}  {_short(events[0].line)}"
            )
        if len(groups) > rows:
            lines.append(f"... and {len(groups) - rows} more")
        if self.events:
            span = max(e.start + e.duration for e in self.events) - min(e.start for e in self.events)
            lines.append(
                f"{len(self.events)} calls, {total * 1e6:,.1f} µs in kernels of {span * 1e6:,.1f} µs"
            )
        return "\n".join(lines)

    def chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes the calls as Chrome's trace JSON."""
        events = [
            {
                "name": e.name,
                "ph": "X",
                "pid": os.getpid(),
                "tid": 0,
                "ts": e.start * 1e6,
                "dur": e.duration * 1e6,
                "args": {"line": e.line, "shapes": e.shapes, "flops": e.flops, "bytes": e.bytes},
            }
            for e in self.events
        ]
        text = json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})
        Path(path).write_text(text, encoding="utf-8")


def _short(line: str) -> str:
    return line.rsplit("/", 1)[-1]
