"""Attention."""

from __future__ import annotations

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.tensor import Tensor


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale q k^T + mask) v: query (..., H, L, D), key (..., H, S, D), value (..., H, S, E).

    attn_mask: bool, False where a key is hidden, or added; is_causal: query i sees keys up to i. With enable_gqa
    the heads of key and value may be fewer. dropout_p is applied whatever the mode of a module.
    """
    name = "scaled_dot_product_attention"
    _checks.probability(name, "dropout_p", dropout_p)
    if attn_mask is not None and is_causal:
        raise ValueError(
            f"{name}: attn_mask and is_causal=True do not go together; put the triangle in the mask"
        )
    shapes = [tuple(x.shape) for x in (query, key, value)]
    # Without enable_gqa the axis of heads broadcasts as the axes before it do.
    kept = 3 if enable_gqa else 2
    leading = [s[:-kept] for s in shapes]
    if len(set(leading)) > 1 or len({len(s) for s in shapes}) > 1:
        wide = ts.broadcast_shapes(*leading)
        query, key, value = (
            ops.broadcast_to(x, (*wide, *s[-kept:])) for x, s in zip((query, key, value), shapes)
        )
    return ops.attention(query, key, value, attn_mask, scale=scale, causal=is_causal, dropout=dropout_p)
