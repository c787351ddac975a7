"""Rows of a table: one each, several summed, or of the identity."""

from __future__ import annotations

from typing import Any

import tensorsmith as ts
from tensorsmith import _core, ops
from tensorsmith.nn import _checks
from tensorsmith.ops.halves import rounded_once
from tensorsmith.ops.sparse import limit_rows, sparse_embedding
from tensorsmith.tensor import Tensor


def _padding(name: str, padding_idx: int, weight: Tensor) -> int:
    rows = weight.shape[0]
    padding_idx = _checks.integer(name, "padding_idx", padding_idx, -(1 << 63))
    if not -rows <= padding_idx < rows:
        raise ValueError(f"{name}: padding_idx must be in [{-rows}, {rows}), got {padding_idx}")
    return padding_idx % rows


def _limit(name: str, weight: Tensor, rows: Tensor, max_norm: float, norm_type: float) -> None:
    _checks.more_than(name, "max_norm", max_norm)
    _checks.more_than(name, "norm_type", norm_type)
    limit_rows(weight, rows, float(max_norm), float(norm_type))


def _check_offsets(name: str, starts: Tensor) -> None:
    """offsets, with the number of elements behind them."""
    if int(starts[0]) != 0:
        raise ValueError(
            f"{name}: offsets must begin with 0, got {int(starts[0]) if starts.size > 1 else 'none'}"
        )
    falls = starts[1:] < starts[:-1]
    if bool(ops.any(falls)):
        at = int(ops.flatnonzero(falls)[0])
        raise ValueError(
            f"{name}: offsets must not descend, nor exceed the {int(starts[-1])} elements of input, got "
            f"{int(starts[at])}" + (f" before {int(starts[at + 1])}" if at + 2 < starts.size else "")
        )


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` (V, D) at the integers `input` (*): (*, D). Row `padding_idx` gets no gradient.

    max_norm: rows that are looked up and whose norm of order norm_type is larger are first scaled to it, in `weight`
    itself. scale_grad_by_freq: a row's gradient is divided by how often it was looked up. sparse: the gradient of
    `weight` is an `ts.RowSparse`, of the rows that were looked up alone; SGD, Adagrad and SparseAdam take it.
    """
    if padding_idx is not None:
        padding_idx = _padding("embedding", padding_idx, weight)
    if max_norm is not None:
        _limit("embedding", weight, input, max_norm, norm_type)
    if sparse or scale_grad_by_freq:
        return sparse_embedding(input, weight, padding_idx, sparse, scale_grad_by_freq)
    return ops.embedding(input, weight, padding_idx)


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """Integers (*) -> int64 (*, num_classes), 1 at each integer's place; -1 counts the classes."""
    tensor = ops.asarray(tensor)
    if num_classes == -1:
        if tensor.size == 0:
            raise ValueError("one_hot: num_classes cannot be counted in an empty tensor; give it")
        num_classes = int(ops.max(tensor)) + 1
    return ops.one_hot(tensor, num_classes)


def _integers(name: str, argument: str, x: Any, weight: Tensor) -> Any:
    """A tensor of integers, made where `weight` is; None stays."""
    if x is None:
        return None
    x = x if isinstance(x, Tensor) else ops.asarray(x, device=weight.device)
    if x.dtype.kind not in ("signed", "unsigned"):
        raise TypeError(f"{name}: {argument} must hold integers, got {x.dtype}")
    return x


def _sums(weight: Tensor, starts: Tensor, rows: Tensor, values: Tensor | None) -> Tensor:
    try:
        y: Tensor = ops.csr_matmul(weight, starts, rows, values, 0)
        return y
    except IndexError as error:
        row = str(error).removeprefix("csr_matmul: column ").partition(" ")[0]
        raise IndexError(
            f"embedding_bag: index {row} in input is out of range: weight has {weight.shape[0]} rows"
        ) from None


def embedding_bag(
    input: Any,
    weight: Tensor,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of bags of rows of `weight` (V, D): input (B, L) holds a bag in each row, or input (K,)
    bags that begin at `offsets` (B,). Empty bags give 0. The rows are never gathered for sums and means.

    include_last_offset: offsets (B + 1,) end with the end of the last bag; what lies behind it counts for nothing.
    per_sample_weights: of input's shape, for mode "sum". padding_idx: a row that counts for nothing.
    """
    name = "embedding_bag"
    _checks.choice(name, "mode", mode, ("sum", "mean", "max"))
    _checks.only(name, "scale_grad_by_freq", scale_grad_by_freq, False)
    _checks.only(name, "sparse", sparse, False)
    if len(_checks.tensor(name, weight, "weight")) != 2:
        raise ValueError(f"{name}: weight must be (V, D), got shape {tuple(weight.shape)}")
    input, offsets = _integers(name, "input", input, weight), _integers(name, "offsets", offsets, weight)
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(
                f"{name}: offsets go with an input of one dimension, got shape {tuple(input.shape)}"
            )
        bags, length = input.shape
        starts = ops.arange(bags + 1, device=input.device) * length
    elif input.ndim == 1 and offsets is not None:
        starts = ops.astype(offsets, "int64")
        bags = starts.size - (1 if include_last_offset else 0)
        if starts.ndim != 1 or bags < 0:
            raise ValueError(f"{name}: offsets must be (B,), got shape {tuple(offsets.shape)}")
        # What lies behind the last bag is one more, to be left out.
        starts = ops.concat((starts, ops.full((1,), input.size, ts.int64, device=input.device)))
        if not _core.capturing():
            _check_offsets(name, starts)
    else:
        raise ValueError(
            f"{name}: input must be (B, L), or (K,) with offsets, got shape {tuple(input.shape)}"
        )
    if per_sample_weights is not None:
        if not isinstance(per_sample_weights, Tensor):
            per_sample_weights = ops.asarray(per_sample_weights, weight.dtype, device=weight.device)
        if mode != "sum":
            raise ValueError(f'{name}: per_sample_weights go with mode "sum", got {mode!r}')
        if tuple(per_sample_weights.shape) != tuple(input.shape):
            raise ValueError(
                f"{name}: per_sample_weights have shape {tuple(per_sample_weights.shape)}, input {tuple(input.shape)}"
            )
        if per_sample_weights.dtype != weight.dtype:
            raise TypeError(
                f"{name}: per_sample_weights must have weight's dtype, {weight.dtype}, got {per_sample_weights.dtype}"
            )
        per_sample_weights = ops.reshape(per_sample_weights, (-1,))
    rows = ops.reshape(input, (-1,))
    if max_norm is not None:
        _limit(name, weight, rows, max_norm, norm_type)
    if padding_idx is not None:
        kept = rows != _padding(name, padding_idx, weight)
        before = ops.concat(
            (ops.zeros((1,), ts.int64, device=rows.device), ops.cumsum(ops.astype(kept, "int64")))
        )
        starts, where = ops.take(before, starts, axis=0), ops.flatnonzero(kept)
        rows = ops.take(rows, where, axis=0)
        if per_sample_weights is not None:
            per_sample_weights = ops.take(per_sample_weights, where, axis=0)
    if mode == "sum":
        return _sums(weight, starts, rows, per_sample_weights)[:bags]
    if mode == "mean":
        lengths = ops.expand_dims(ops.maximum(starts[1:] - starts[:-1], 1), 1)

        def mean(table: Tensor) -> Tensor:
            return (_sums(table, starts, rows, None) / lengths.astype(table.dtype))[:bags]

        return rounded_once(mean, weight)
    used = starts[1:] > starts[:-1]
    full = ops.flatnonzero(used)
    kept_starts = ops.concat((ops.take(starts, full, axis=0), starts[-1:]))
    tops = ops.segment_reduce(ops.embedding(rows, weight), kept_starts, "max")
    empty = ops.zeros((starts.size - 1, weight.shape[1]), weight.dtype, device=weight.device)
    return ops.index_copy(empty, 0, full, tops)[:bags]
