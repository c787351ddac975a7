"""Softmax and log-softmax along an axis."""

from __future__ import annotations

import numpy as np

import tensorsmith as ts
from cases import Case, normal


def softmax(x, axis):  # type: ignore[no-untyped-def]
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x, axis):  # type: ignore[no-untyped-def]
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


CASES = [
    Case(
        f"{name} {axis}",
        lambda x, op=op, axis=axis: op(x, axis),
        lambda x, ref=ref, axis=axis: ref(x, axis),
        [normal(2, 3, 4)],
        tolerance=16,
        scale=1.0,
        large=[normal(300, 7, 65)],
    )
    for name, op, ref in (("softmax", ts.softmax, softmax), ("log_softmax", ts.log_softmax, log_softmax))
    for axis in (-1, 0, 1)
]
