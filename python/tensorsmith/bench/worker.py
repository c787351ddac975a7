"""A process that times ours and one peer: `main(PEER, THREADS, SECONDS)`.

It reads requests, a line of JSON each, [family, name of the row], and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from tensorsmith.bench.case import Case, Reading, Task
from tensorsmith.bench.cases import cases
from tensorsmith.bench.libraries import OWN, Library, NotThere, contestants
from tensorsmith.bench.measure import busy_neighbour, median_seconds


def time_case(
    case: Case | Task | Reading, libraries: Sequence[Library], seconds: float
) -> list[dict[str, float]]:
    """The median seconds of each library that takes part, and for `beside` tasks those alone before."""
    if isinstance(case, Reading):
        return [{library.name: case.read(library.module) for library in libraries if not library.compiles}]
    thunks = {}
    for library in libraries:
        try:
            thunk = case.thunk(library)
            if thunk is not None:
                thunk()
                thunks[library.name] = thunk
        except NotThere:
            continue
        except Exception as error:  # a peer's compiler may give up; ours may not
            if library.module == OWN:
                raise
            print(f"{library.name} sits out {case.name}: {error}", file=sys.stderr)
    if not thunks or (len(libraries) > 1 and len(thunks) == 1):
        return [{}]
    calls = list(thunks.values())
    times = [dict(zip(thunks, median_seconds(calls, seconds), strict=True))]
    if isinstance(case, Task) and case.beside:
        with busy_neighbour():
            times.insert(0, dict(zip(thunks, median_seconds(calls, seconds), strict=True)))
    return times


def main(peer: str, threads: str, seconds: str) -> None:
    # Answers have a channel of their own: libraries print what they like.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    libraries = contestants(peer)
    for library in libraries:
        library.set_threads(int(threads))
    for line in sys.stdin:
        family, name = json.loads(line)
        case = next(case for case in cases(family) if case.name == name)
        print(json.dumps(time_case(case, libraries, float(seconds))), file=answers)
