"""Linear algebra, N x N."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorsmith.bench.case import Case


def cases() -> Iterator[Case]:
    work = {"cholesky": 1 / 3, "solve": 8 / 3, "qr": 8 / 3, "eigh": 9.0, "svd": 22.0}  # flops over N^3, about
    for name, flops in work.items():
        for n in (64, 256, 512):
            # a a' + N: symmetric, positive definite, whoever makes it
            def function(m: Any, a: Any, name: str = name, n: int = n) -> Any:
                a = m.matmul(a, a.T) + n * m.eye(n)
                result = getattr(m.linalg, name)(*((a, a) if name == "solve" else (a,)))
                return result[0] if isinstance(result, tuple) else result

            yield Case(f"{name} {n}", ((n, n),), function, (2 + flops) * n**3)
