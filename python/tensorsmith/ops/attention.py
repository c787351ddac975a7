"""Scaled dot-product attention: docstring and gradient rules."""

from __future__ import annotations

import math
from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define, vjp
from tensorsmith.ops.generator import Generator, _state
from tensorsmith.tensor import Tensor

__all__ = ["attention"]


def _gradients(
    dy: Any,
    q: Any,
    k: Any,
    v: Any,
    y: Any,
    logsumexp: Any,
    seed: Any,
    mask: Any,
    keys: Any,
    scale: Any,
    left: Any,
    right: Any,
    dropout: Any,
    needs: Any,
) -> Any:
    dq, dk, dv, dmask = core.attention_backward(
        dy, q, k, v, y, logsumexp, seed, mask, keys, scale, left, right, dropout, needs[3]
    )
    return tuple(g if need else None for g, need in zip((dq, dk, dv, dmask), needs))


define(core.attention, "See attention.", wrt="q k v mask", vjp=_gradients)


def _heads_for(k: Tensor, heads: int) -> Tensor:
    """Every head of keys as often as there are heads of queries for it."""
    have = k.shape[-3] if k.ndim > 2 else heads
    if have == heads:
        return k
    wide = core.expand_dims(k, -3)
    full = (*k.shape[:-3], have, heads // have, *k.shape[-2:])
    return core.reshape(core.broadcast_to(wide, full), (*k.shape[:-3], heads, *k.shape[-2:]))


def _definition(q: Any, k: Any, v: Any, mask: Any, keys: Any, scale: float, left: int, right: int) -> Any:
    """The formula in differentiable operations, with its T x S matrix."""
    heads = q.shape[-3] if q.ndim > 2 else 1
    k, v = _heads_for(k, heads), _heads_for(v, heads)
    scores = core.matmul(q, core.matrix_transpose(k)) * scale
    t, s = scores.shape[-2:]
    hidden = core.zeros((t, s), dtype="bool", device=q.device)
    ahead = core.arange(s, device=q.device) - core.expand_dims(
        core.arange(t, device=q.device), 1
    )  # of key j for query i: j - i
    if left >= 0:
        hidden = hidden | (ahead < -left)
    if right >= 0:
        hidden = hidden | (ahead > right)
    if keys is not None:
        middle = () if q.ndim < 3 else (1,)
        hidden = hidden | core.reshape(~keys, (*q.shape[:-3], *middle, 1, s))
    if mask is not None and mask.dtype.kind == "bool":
        hidden = hidden | ~mask
    elif mask is not None:
        scores = scores + mask
    hidden = core.broadcast_to(hidden, scores.shape)
    lost = core.all(hidden, -1, True)  # a query that sees nothing gives 0
    p = core.softmax(core.where(hidden & ~lost, -math.inf, scores), -1)
    return core.matmul(core.where(lost, 0.0, p), v)


def _second(
    dys: Any,
    gradient: Any,
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    keys: Any,
    scale: Any,
    left: Any,
    right: Any,
    dropout: Any,
) -> Any:
    if dropout:
        raise NotImplementedError(
            "attention: a second derivative with dropout is not supported; use dropout=0"
        )
    added = mask is not None and mask.dtype.kind == "floating"
    # Backward gave the gradient of the mask at its full shape.
    operands = (q, k, v, core.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))) if added else (q, k, v)

    def backward(g: Any, *operands: Any) -> Any:
        def forward(*inside: Any) -> Any:
            q, k, v, *bias = inside
            return _definition(q, k, v, bias[0] if added else mask, keys, scale, left, right)

        return vjp(forward, *operands)[1](g)

    values, pull = vjp(backward, gradient, *operands)
    seeds = tuple(
        core.zeros(x.shape, dtype=x.dtype, device=x.device)
        if d is None or d.size != x.size
        else core.reshape(d, x.shape)
        for d, x in zip(dys, values)
    )
    return (*pull(seeds), None)[:5]


define(
    core.attention_backward,
    "The gradients of attention with respect to q, k, v and, with mask_gradient, mask.",
    wrt="gradient q k v mask",
    vjp=_second,
)


def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    keys: Any = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    dropout: float = 0.0,
    generator: Generator | None = None,
) -> Any:
    """softmax(scale q k^T + mask) v (Vaswani et al. 2017), without the matrix of scores (Dao et al. 2022).

    q: (..., H, T, D)    k: (..., G, S, D)    v: (..., G, S, E), any strides; G divides H, and query head h meets key
             head h // (H / G) (Ainslie et al. 2023). float32 or float64; bfloat16, and float16 on GPUs, with sums in
             float32 and weights that are rounded like the operands for their product (Dao et al. 2022); float16 on the
             CPU in float32
    mask:    what broadcasts to (..., H, T, S): bool, False where a query must not see a key, or of q's dtype, added
             to the scores
    keys:    (B, S) bool, False for keys that nobody sees (padding); B is the product of the axes before H
    scale:   1 / sqrt(D) unless given
    causal:  query i sees keys 0 ... i
    window:  (left, right): query i sees keys i - left ... i + right; None: no limit
    dropout: the probability that a weight becomes 0, the others growing by 1 / (1 - dropout)
    returns: (..., H, T, E); for four axes its memory is that of (B, T, H, E). A query that sees no key gives 0.

    A query's bits depend on itself, the keys and the values, not on the queries, heads and batches beside it.
    ValueError where shapes do not fit, TypeError where dtypes differ.
    """
    left, right = (-1, -1) if window is None else (-1 if w is None else w for w in window)
    if window is not None and any(w is not None and w < 0 for w in window):
        raise ValueError(f"attention: window must be (left, right), each >= 0 or None, got {window}")
    if causal:
        right = 0
    if scale is None:
        features = q.shape[-1]
        scale = 1.0 / math.sqrt(features) if features else 1.0
    state = _state("attention", generator) if dropout else None
    if _core.is_autocast_enabled():
        q, k, v, mask = (x.astype("bfloat16") if _is_float32(x) else x for x in (q, k, v, mask))
    return core.attention(q, k, v, mask, keys, state, scale, left, right, dropout)


def _is_float32(x: Any) -> bool:
    return x is not None and str(x.dtype) == "float32"
