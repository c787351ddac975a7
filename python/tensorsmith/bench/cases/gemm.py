"""Matrix products. M N K: rows and columns of the result, depth."""

from __future__ import annotations

from collections.abc import Iterator

from tensorsmith.bench.case import Case
from tensorsmith.bench.libraries import Function

GEMM_SHAPES = (  # M N K
    (32, 32, 32), (64, 64, 64), (128, 128, 128), (255, 255, 255), (512, 512, 512), (1024, 1024, 1024),
    (2048, 2048, 2048), (1000, 1001, 1003), (64, 512, 784), (128, 10, 512), (1, 1024, 1024), (8, 4096, 1024),
    (4096, 8, 64), (4096, 64, 64), (64, 64, 4096), (768, 3072, 768),
)  # fmt: skip
_PRODUCTS: dict[str, Function] = {
    "NN": lambda m, a, b, **o: m.matmul(a, b, **o),
    "NT": lambda m, a, b, **o: m.matmul(a, b.T, **o),
    "TN": lambda m, a, b, **o: m.matmul(a.T, b, **o),
    "TT": lambda m, a, b, **o: m.matmul(a.T, b.T, **o),
}


def cases() -> Iterator[Case]:
    for m, n, k in GEMM_SHAPES:
        for layout, function in _PRODUCTS.items():
            a = (k, m) if layout[0] == "T" else (m, k)
            b = (n, k) if layout[1] == "T" else (k, n)
            yield Case(
                f"{m}x{n}x{k} {layout}",
                (a, b),
                function,
                2.0 * m * n * k,
                4.0 * (m * k + k * n + m * n),
            )
