"""Reductions and scans. R C: rows and columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorsmith.bench.case import Case
from tensorsmith.bench.libraries import Function


def _torch_axis(word: str, axis: int | None) -> Function:
    def function(m: Any, x: Any) -> Any:
        return getattr(m, word)(x) if axis is None else getattr(m, word)(x, dim=axis)

    return function


def cases() -> Iterator[Case]:
    torch_words = {"max": "amax"}
    for r, c in ((64, 64), (1024, 1024), (4096, 4096)):
        for word in ("sum", "mean", "max", "argmax", "var"):
            for axis in (None, 0, 1):

                def function(m: Any, x: Any, word: str = word, axis: int | None = axis) -> Any:
                    return getattr(m, word)(x, axis=axis)

                torch = _torch_axis(torch_words.get(word, word), axis)
                where = "all" if axis is None else f"axis {axis}"
                yield Case(
                    f"{word} {r}x{c} {where}",
                    ((r, c),),
                    function,
                    bytes=4.0 * r * c,
                    overrides={"torch": torch},
                )
    yield Case(
        "cumsum 1024x1024 axis 1",
        ((1024, 1024),),
        lambda m, x: m.cumulative_sum(x, axis=1),
        bytes=8.0 * 1024 * 1024,
        overrides={
            "torch": lambda m, x, **o: m.cumsum(x, dim=1, **o),
            "numpy": lambda m, x, **o: m.cumsum(x, 1, **o),
        },
    )
