"""Attention against its definition in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorsmith as ts
from cases import Case, Make, bools, normal


def reference(causal: bool = False, window: tuple[int, int] | None = None) -> Callable[..., np.ndarray]:
    def run(
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        mask: np.ndarray | None = None,
        keys: np.ndarray | None = None,
    ) -> np.ndarray:
        group = q.shape[1] // k.shape[1]
        k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
        ahead = np.arange(k.shape[2]) - np.arange(q.shape[2])[:, None]
        if causal:
            scores = np.where(ahead > 0, -np.inf, scores)
        if window is not None:
            scores = np.where((ahead < -window[0]) | (ahead > window[1]), -np.inf, scores)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
        if keys is not None:
            scores = np.where(keys[:, None, None], scores, -np.inf)
        high = scores.max(-1, keepdims=True, initial=-np.inf)
        p = np.exp(scores - np.where(np.isfinite(high), high, 0))
        total = p.sum(-1, keepdims=True)
        return p / np.where(total == 0, 1, total) @ v

    return run


def case(
    name: str,
    inputs: list[Make],
    causal: bool = False,
    window: tuple[int, int] | None = None,
    large: list[Make] | None = None,
) -> Case:
    def op(*arrays: Any) -> Any:
        return ts.attention(*arrays, causal=causal, window=window)

    return Case(
        f"attention {name}", op, reference(causal, window), inputs, tolerance=16, scale=4.0, large=large
    )


def low(
    name: str, dtype: str, inputs: list[Make], causal: bool = False, large: list[Make] | None = None
) -> Case:
    """Computed in `dtype`, from numbers rounded to it; what is left is the result's own rounding and that of weights."""

    def rounded(a: np.ndarray) -> np.ndarray:
        return ts.array(a, dtype="float32", device="cpu").astype(dtype).astype("float64").numpy()

    def op(*arrays: Any) -> Any:
        y = ts.attention(*(x.astype(dtype) for x in arrays), causal=causal)
        assert str(y.dtype) == dtype
        return y.astype("float32")

    def of_rounded(*arrays: np.ndarray) -> np.ndarray:
        return reference(causal)(*map(rounded, arrays))

    digits = 2.0**16 if dtype == "bfloat16" else 2.0**13  # of float32 that are lost
    return Case(
        f"attention {name} in {dtype}",
        op,
        of_rounded,
        inputs,
        ("float32",),
        digits,
        1.0,
        False,
        False,
        large=large,
    )


def qkv(b: int, h: int, g: int, t: int, s: int, d: int, e: int) -> list[Make]:
    return [normal(b, h, t, d), normal(b, g, s, d), normal(b, g, s, e)]


CASES = [
    case("plain", qkv(2, 1, 1, 3, 4, 3, 2), large=qkv(2, 3, 3, 300, 290, 33, 17)),
    case("causal", qkv(1, 2, 2, 4, 4, 2, 2), causal=True, large=qkv(1, 4, 2, 270, 270, 16, 20)),
    case("causal, fewer keys", qkv(1, 1, 1, 5, 2, 2, 2), causal=True),
    case("grouped", qkv(1, 4, 2, 2, 3, 2, 1)),
    case("window", qkv(1, 1, 1, 6, 6, 2, 2), window=(2, 1), large=qkv(1, 1, 1, 400, 1300, 8, 8)),
    case("added mask", [*qkv(2, 2, 2, 2, 3, 2, 1), normal(2, 1, 3)]),
    case("mask of every score", [*qkv(2, 2, 1, 2, 3, 2, 1), normal(2, 2, 2, 3)]),
    case("bool mask", [*qkv(1, 2, 2, 4, 5, 2, 2), bools(4, 5)]),
    case("a query that sees nothing", [*qkv(1, 1, 1, 2, 3, 2, 2), lambda rng: np.array([[True] * 3, [False] * 3])]),
    case("padding", [*qkv(2, 1, 1, 3, 4, 2, 2), normal(3, 4), lambda rng: np.array([[1, 1, 0, 1], [1, 0, 0, 0]]) > 0]),
    case("no keys", qkv(1, 1, 1, 2, 0, 2, 2)),
    low("plain", "bfloat16", qkv(2, 2, 1, 5, 7, 8, 6), large=qkv(2, 3, 3, 130, 190, 33, 17)),
    low("causal", "float16", qkv(1, 2, 2, 70, 70, 16, 16), causal=True),
]  # fmt: skip
