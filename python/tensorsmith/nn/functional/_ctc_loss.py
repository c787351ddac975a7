"""Connectionist temporal classification."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn.functional._loss import _reduction
from tensorsmith.tensor import Tensor

_NAME = "ctc_loss"


def ctc_loss(
    log_probs: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability that frames spell their labels, summed over the alignments (Graves et al. 2006).

    log_probs: (T, N, C), or (T, C) for one sequence, a log-softmax over the classes
    targets: (N, S), or the labels of all sequences one after another; (S) for one sequence. No label is `blank`
    input_lengths, target_lengths: (N), or () for one sequence
        All three are tensors, arrays or (nested) sequences of integers.
    reduction: "none", "sum", or "mean": each loss over its number of labels (at least 1), then the batch's mean
    zero_infinity: 0 for sequences with too few frames, whose loss is infinite, and for their gradients

    The gradient of log_probs is the derivative, without the softmax that PyTorch adds to it; behind a log-softmax both
    are the same.
    """
    reduction = _reduction(_NAME, reduction, None, None)
    if not isinstance(log_probs, Tensor):
        raise TypeError(
            f"{_NAME}: log_probs must be a tensor, got a {type(log_probs).__name__}; use ts.asarray"
        )
    if log_probs.ndim not in (2, 3):
        raise ValueError(
            f"{_NAME}: log_probs must be (T, N, C) or (T, C), got shape {tuple(log_probs.shape)}"
        )
    batched = log_probs.ndim == 3
    x = log_probs if batched else ops.expand_dims(log_probs, 1)
    inputs = _lengths("input_lengths", input_lengths, x, batched)
    lengths = _lengths("target_lengths", target_lengths, x, batched)
    targets = _integers("targets", targets, x.device)
    if not batched:
        targets = ops.reshape(targets, (1, -1))
    elif targets.ndim == 1:
        targets = _padded(targets, lengths)
    loss: Tensor = ops.ctc_loss(x, targets, inputs, lengths, blank)
    if zero_infinity:
        loss = ops.where(loss == math.inf, 0.0, loss)
    if reduction == "mean":
        return ops.mean(loss / ops.astype(ops.maximum(lengths, 1), loss.dtype))
    if reduction == "sum":
        return ops.sum(loss)
    return loss if batched else loss[0]


def _integers(argument: str, values: Any, device: Any) -> Tensor:
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except ValueError:  # rows of several lengths
            raise ValueError(
                f"{_NAME}: {argument} must have rows of one length, got {values!r}; pad them, or join them"
            ) from None
        if array.size == 0 and array.dtype == np.float64:  # what NumPy makes of []
            array = array.astype(np.int64)
        if array.dtype.kind not in "iu":
            raise TypeError(f"{_NAME}: {argument} must hold integers, got {values!r}")
        values = ts.asarray(array, device=device)
    if values.dtype.kind not in ("signed", "unsigned"):
        raise TypeError(f"{_NAME}: {argument} must hold integers, got {values.dtype}")
    return values


def _lengths(argument: str, lengths: Any, x: Tensor, batched: bool) -> Tensor:
    """(N,), an integer for each sequence."""
    lengths = _integers(argument, lengths, x.device)
    shape = tuple(lengths.shape)
    if shape != ((x.shape[1],) if batched else ()) and (batched or shape != (1,)):
        raise ValueError(
            f"{_NAME}: {argument} must have shape {(x.shape[1],) if batched else ()}, a length for each sequence, "
            f"got {shape}"
        )
    return ops.reshape(lengths, (-1,))


def _padded(targets: Tensor, lengths: Tensor) -> Tensor:
    """Labels one sequence after another, (sum of lengths), as (N, S)."""
    given = lengths.tolist()
    if min(given, default=0) < 0 or sum(given) != targets.shape[0]:
        raise ValueError(
            f"{_NAME}: target_lengths must be >= 0 and add up to the {targets.shape[0]} labels of targets, "
            f"got {given}"
        )
    counts = np.array(given, np.int64)
    places = np.arange(counts.max(initial=0))
    index = np.where(places < counts[:, None], (np.cumsum(counts) - counts)[:, None] + places, 0)
    if targets.shape[0] == 0:
        return ops.zeros((len(counts), 0), dtype=targets.dtype, device=targets.device)
    return ops.take(targets, ts.asarray(index, device=targets.device), 0)
