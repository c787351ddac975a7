"""Recurrent layers. T N I H: steps, rows, inputs, units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorsmith.bench.case import Case

_RECURRENT = (
    # T   N    I    H
    (50, 32, 128, 128),
    (64, 32, 128, 256),
    (20, 128, 256, 512),
    (100, 1, 128, 256),
)


def cases() -> Iterator[Case]:
    for kind, gates in (("RNN", 1), ("LSTM", 4), ("GRU", 3)):
        for t, n, i, h in _RECURRENT:
            layers: dict[str, Any] = {}

            # Whole layers: a module of each library, made at its first call.
            def function(
                m: Any, x: Any, kind: str = kind, i: int = i, h: int = h, layers: Any = layers
            ) -> Any:
                if m.name not in layers:
                    layers[m.name] = getattr(m.nn, kind)(i, h)
                return layers[m.name](x)[0]

            for back in (False, True):
                products = (2 * i + 3 * h + i) if back else i + h
                yield Case(
                    f"{kind} T{t} N{n} {i}->{h}" + (" backward" if back else ""),
                    ((t, n, i),),
                    function,
                    2.0 * t * n * gates * h * products,
                    backward=back,
                    overrides={"jax": None},
                )
