"""`MultiheadAttention`: heads_h = attention(q W_h^q, k W_h^k, v W_h^v), joined and projected (Vaswani et al. 2017).

L queries, S keys, N batch, E embedding, H heads.
"""

from __future__ import annotations

import math
from typing import Any

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks, init
from tensorsmith.nn.linear import Linear
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor


def _seen_in_order(length: int, keys: int, device: Any) -> Tensor:
    """(L, S): query i sees keys up to i."""
    return ops.expand_dims(ops.arange(length, device=device), 1) >= ops.arange(keys, device=device)


class MultiheadAttention(Module):
    """Attention with projections, under PyTorch's parameter names: in_proj_weight (3E, E), in_proj_bias (3E),
    out_proj; q_proj_weight, k_proj_weight and v_proj_weight where kdim or vdim differ from embed_dim.

    Args:
        embed_dim: E, which num_heads divides.
        dropout: of the attention weights, in training.
        bias: of the projections.
        add_bias_kv: one more key and value, learned. add_zero_attn: one more key and value of zeros.
        kdim, vdim: features of keys and values, E unless given.
        batch_first: (N, L, E) instead of (L, N, E).
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = "MultiheadAttention"
        self.embed_dim = _checks.integer(name, "embed_dim", embed_dim)
        self.num_heads = _checks.integer(name, "num_heads", num_heads)
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"{name}: embed_dim must be divisible by num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        self.kdim = self.embed_dim if kdim is None else _checks.integer(name, "kdim", kdim)
        self.vdim = self.embed_dim if vdim is None else _checks.integer(name, "vdim", vdim)
        self.dropout = _checks.probability(name, "dropout", dropout)
        self.head_dim = self.embed_dim // self.num_heads
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn
        e = self.embed_dim
        separate = {"q_proj_weight": e, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
        joint = self.kdim == e and self.vdim == e
        for key, features in separate.items():
            self.register_parameter(key, None if joint else Parameter(ts.empty((e, features), dtype=dtype)))
        self.register_parameter(
            "in_proj_weight", Parameter(ts.empty((3 * e, e), dtype=dtype)) if joint else None
        )
        self.register_parameter("in_proj_bias", Parameter(ts.empty((3 * e,), dtype=dtype)) if bias else None)
        self.out_proj = Linear(e, e, bias=bias, dtype=dtype)
        for key in ("bias_k", "bias_v"):
            self.register_parameter(key, Parameter(ts.empty((1, 1, e), dtype=dtype)) if add_bias_kv else None)
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Draw new projections, as in PyTorch: the inner ones by Xavier, their biases 0."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            assert self.out_proj.bias is not None
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights): weights (N, L, S), or (N, H, L, S) without `average_attn_weights`; None unless
        `need_weights`, which needs the matrix of scores and is slower. In training they are those that dropout left.

        key_padding_mask (N, S) and attn_mask (L, S) or (N H, L, S): bool, True where a key is ignored, or added to
        the scores. is_causal: query i sees keys up to i; an attn_mask given with it is taken to say just that.
        """
        name = "MultiheadAttention"
        _checks.tensor_rank(name, tuple(query.shape), (2, 3), "(L, E) or batched")
        if key.ndim != query.ndim or value.ndim != query.ndim:
            raise ValueError(
                f"{name}: query, key and value must have as many dimensions each, got shapes "
                f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
            )
        batched = query.ndim == 3
        q, k, v = self._project(query, key, value)
        if not batched:
            q, k, v = (ops.expand_dims(x, 0) for x in (q, k, v))
            if key_padding_mask is not None:
                key_padding_mask = ops.expand_dims(key_padding_mask, 0)
        elif not self.batch_first:
            q, k, v = (ops.swapaxes(x, 0, 1) for x in (q, k, v))
        n, length, keys = q.shape[0], q.shape[1], k.shape[1]
        if k.shape[0] != n or v.shape[0] != n or v.shape[1] != keys:
            raise ValueError(
                f"{name}: key and value must have one length and query's batch, got shapes {tuple(query.shape)}, "
                f"{tuple(key.shape)} and {tuple(value.shape)}"
            )
        if is_causal and (self.bias_k is not None or self.add_zero_attn):
            # Their keys lie behind those of the triangle.
            is_causal, attn_mask = False, ~_seen_in_order(length, keys, q.device)
        mask, shown = self._masks(
            key_padding_mask, None if is_causal else attn_mask, n, length, keys, q.dtype
        )
        k, v, mask, shown = self._extra_keys(k, v, mask, shown)
        q, k, v = (
            ops.permute_dims(ops.reshape(x, (*x.shape[:2], self.num_heads, self.head_dim)), (0, 2, 1, 3))
            for x in (q, k, v)
        )
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = self._weights(q, k, mask, shown, is_causal)
            weights = ops.dropout(weights, p) if p else weights
            heads = ops.matmul(weights, v)
            weights = ops.mean(weights, 1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        else:
            heads = ops.attention(q, k, v, mask, shown, causal=is_causal, dropout=p)
        joined = ops.permute_dims(heads, (0, 2, 1, 3) if self.batch_first or not batched else (2, 0, 1, 3))
        joined = ops.reshape(joined, (*joined.shape[:2], self.embed_dim))
        output = self.out_proj(joined if batched else joined[0])
        return output, weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        e, bias = self.embed_dim, self.in_proj_bias
        if self.in_proj_weight is None:
            weights: list[Tensor | None] = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        elif query is key and key is value:
            return list(ops.split(ops.linear(query, self.in_proj_weight, bias), 3, -1))
        else:
            weights = [self.in_proj_weight[i * e : (i + 1) * e] for i in range(3)]
        biases = [None if bias is None else bias[i * e : (i + 1) * e] for i in range(3)]
        return [ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]

    def _masks(
        self, padding: Tensor | None, mask: Tensor | None, n: int, length: int, keys: int, dtype: Any
    ) -> tuple[Tensor | None, Tensor | None]:
        """Both masks in the words of ops.attention: what is added or seen (N, H, L, S), which keys are seen (N, S)."""
        name = "MultiheadAttention"
        for argument, given in (("attn_mask", mask), ("key_padding_mask", padding)):
            if given is None:
                continue
            _checks.tensor(name, given, argument)
            if given.dtype.kind not in ("bool", "floating"):
                raise TypeError(f"{name}: {argument} must be bool or floating-point, got {given.dtype}")
        shown = None
        if mask is not None:
            allowed = ((length, keys), (n * self.num_heads, length, keys))
            if tuple(mask.shape) not in allowed:
                raise ValueError(
                    f"{name}: attn_mask must have shape {allowed[0]} or {allowed[1]}, got {tuple(mask.shape)}"
                )
            mask = ~mask if mask.dtype.kind == "bool" else mask.astype(dtype)
            if mask.ndim == 3:
                mask = ops.reshape(mask, (n, self.num_heads, length, keys))
        if padding is not None:
            if tuple(padding.shape) != (n, keys):
                raise ValueError(
                    f"{name}: key_padding_mask must have shape {(n, keys)}, got {tuple(padding.shape)}"
                )
            if padding.dtype.kind == "bool":
                shown = ~padding
            else:
                added = ops.reshape(padding.astype(dtype), (n, 1, 1, keys))
                if mask is None:
                    mask = added
                elif mask.dtype.kind == "bool":
                    mask = ops.where(mask, added, -math.inf)
                else:
                    mask = mask + added
        return mask, shown

    def _extra_keys(
        self, k: Tensor, v: Tensor, mask: Tensor | None, shown: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Keys and values behind the given ones, which every query sees."""
        n = k.shape[0]
        extra = []
        if self.bias_k is not None:
            extra.append([ops.broadcast_to(b, (n, 1, self.embed_dim)) for b in (self.bias_k, self.bias_v)])
        if self.add_zero_attn:
            extra.append([ops.zeros((n, 1, self.embed_dim), dtype=k.dtype, device=k.device)] * 2)
        if not extra:
            return k, v, mask, shown
        count = len(extra)
        k = ops.concat([k, *(e[0] for e in extra)], 1)
        v = ops.concat([v, *(e[1] for e in extra)], 1)
        if mask is not None:
            ones = (ops.ones if mask.dtype.kind == "bool" else ops.zeros)(
                (*mask.shape[:-1], count), dtype=mask.dtype, device=mask.device
            )
            mask = ops.concat([mask, ones], -1)
        if shown is not None:
            shown = ops.concat([shown, ops.ones((n, count), dtype="bool", device=shown.device)], 1)
        return k, v, mask, shown

    def _weights(
        self, q: Tensor, k: Tensor, mask: Tensor | None, shown: Tensor | None, causal: bool
    ) -> Tensor:
        scores = ops.matmul(q * (1 / math.sqrt(self.head_dim)), ops.matrix_transpose(k))
        length, keys = scores.shape[-2:]
        if mask is not None:
            scores = ops.where(mask, scores, -math.inf) if mask.dtype.kind == "bool" else scores + mask
        if causal:
            scores = ops.where(_seen_in_order(length, keys, q.device), scores, -math.inf)
        if shown is not None:
            scores = ops.where(ops.reshape(shown, (-1, 1, 1, keys)), scores, -math.inf)
        return ops.softmax(scores, -1)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"
