"""Pointwise operations: contiguous, transposed and broadcast operands."""

from __future__ import annotations

from collections.abc import Iterator

from tensorsmith.bench.case import Case
from tensorsmith.bench.libraries import Function

_SIZES = {"16 KB": (4096,), "4 MB": (1 << 20,), "64 MB": (1 << 24,)}
_UNARY: dict[str, tuple[Function, dict[str, Function | None]]] = {
    "exp": (lambda m, x, **o: m.exp(x, **o), {}),
    "log": (lambda m, x, **o: m.log(x, **o), {}),
    "sin": (lambda m, x, **o: m.sin(x, **o), {}),
    "tanh": (lambda m, x, **o: m.tanh(x, **o), {}),
    "erf": (lambda m, x, **o: m.erf(x, **o), {}),
    "sqrt": (lambda m, x, **o: m.sqrt(x, **o), {}),
    "sigmoid": (lambda m, x, **o: m.sigmoid(x, **o), {}),
    "relu": (lambda m, x: m.relu(x), {}),
    "silu": (lambda m, x: m.silu(x), {}),
    "gelu": (lambda m, x: m.gelu(x), {"jax": lambda m, x: m.gelu(x, approximate=False)}),
}
_BINARY: dict[str, Function] = {
    "add": lambda m, a, b, **o: m.add(a, b, **o),
    "multiply": lambda m, a, b, **o: m.multiply(a, b, **o),
    "divide": lambda m, a, b, **o: m.divide(a, b, **o),
    "maximum": lambda m, a, b, **o: m.maximum(a, b, **o),
}


def cases() -> Iterator[Case]:
    for size, shape in _SIZES.items():
        nbytes = 4.0 * shape[0]
        for name, (function, overrides) in _UNARY.items():
            yield Case(f"{name} {size}", (shape,), function, bytes=2 * nbytes, overrides=overrides)
        for name, function in _BINARY.items():
            yield Case(f"{name} {size}", (shape, shape), function, bytes=3 * nbytes)
    square = (2048, 2048)
    nbytes = 4.0 * 2048 * 2048
    yield Case("x + x.T 16 MB", (square,), lambda m, x, **o: m.add(x, x.T, **o), bytes=3 * nbytes)
    yield Case("add row 16 MB", (square, (2048,)), _BINARY["add"], bytes=2 * nbytes)
    yield Case("add column 16 MB", (square, (2048, 1)), _BINARY["add"], bytes=2 * nbytes)
    yield Case(
        "gelu 4 MB backward",
        ((1 << 20,),),
        lambda m, x: m.gelu(x),
        bytes=5 * 4.0 * (1 << 20),
        backward=True,
        overrides={"jax": lambda m, x: m.gelu(x, approximate=False)},
    )
