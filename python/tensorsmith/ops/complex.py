"""Complex numbers: their parts, which are views, and what is made of parts.

The gradient of a real loss L at z = x + y i is dL/dx + i dL/dy, as PyTorch has it: the direction in which L grows most.
"""

from __future__ import annotations

import math
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray

__all__ = ["angle", "conj", "conjugate", "imag", "iscomplexobj", "isrealobj", "real"]

real = define(
    core.real, "The real part of x, a view; x itself where it is real.", conjugate=False, x=lambda dy: dy
)
imag = define(
    core.imag,
    "The imaginary part of x, a view; zeros where x is real.",
    conjugate=False,
    x=lambda dy: dy * 1j,
)
conj = define(
    core.conj,
    "x with the imaginary part negated; x itself where it is real.",
    conjugate=False,
    x=lambda dy: core.conj(dy),
)
define(
    core.from_parts,
    "The complex numbers a + b i of two real tensors, which broadcast.",
    conjugate=False,
    a=lambda dy: core.real(dy),
    b=lambda dy: core.imag(dy),
)
conjugate = conj


def angle(x: Any, deg: bool = False) -> Any:
    """The angle of x in the complex plane, in (-pi, pi], or with deg in degrees; of a real x, 0 or pi."""
    re, im = core.real(x), core.imag(x)
    y = core.atan2(im, re)
    if y.requires_grad:  # the angle of 0 has no derivative, and passes no gradient
        zero = core.logical_and(core.equal(re, 0), core.equal(im, 0))
        y = core.where(zero, y.detach(), core.atan2(im, core.where(zero, 1, re)))
    return core.multiply(y, 180.0 / math.pi) if deg else y


def iscomplexobj(x: Any) -> bool:
    """Whether x has a complex dtype."""
    if isinstance(x, (list, tuple)):
        x = asarray(x)
    return isinstance(x, complex) or getattr(getattr(x, "dtype", None), "kind", "") in ("complex", "c")


def isrealobj(x: Any) -> bool:
    """Whether x has no complex dtype."""
    return not iscomplexobj(x)
