"""Sequences of different lengths: padded, and packed as PyTorch packs them.

T steps, N sequences, * the features of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.tensor import Tensor


class _Packed(NamedTuple):
    data: Tensor  # (sum of lengths, *)
    batch_sizes: Tensor  # (T,): how many sequences have a step t
    sorted_indices: Tensor | None  # the order of the sequences in `data`, unless enforced
    unsorted_indices: Tensor | None  # its inverse


class PackedSequence(_Packed):
    """The steps of all sequences, longest sequence first: all first steps, then all second ones, without padding.

    `unsorted_indices` follow from `sorted_indices`.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = ops.argsort(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **options: Any) -> PackedSequence:
        """`data` as `Tensor.to` makes it, the indices on its device; the batch sizes stay on the CPU."""
        data = self.data.to(*args, **options)
        indices = (None if i is None else i.to(data.device) for i in self[2:])
        return PackedSequence(data, self.batch_sizes, *indices)

    def cpu(self) -> PackedSequence:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self) -> PackedSequence:
        """On the GPU."""
        return self.to("cuda")


def _lengths(function: str, lengths: Any, least: int = 1) -> np.ndarray:
    values = lengths.numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    if values.ndim != 1 or values.dtype.kind not in "iu" or values.size == 0:
        raise ValueError(f"{function}: lengths must be a list of integers, got {lengths!r}")
    if values.min() < least:
        raise ValueError(f"{function}: every length must be at least {least}, got {int(values.min())}")
    return values.astype(np.int64)


def _places(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of descending lengths: the batch sizes, and the flat positions t N + n of the packed steps."""
    shown = np.arange(lengths.max())[:, None] < lengths
    return shown.sum(1), np.flatnonzero(shown)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """(T, N, *), or (N, T, *) with batch_first, as a PackedSequence. `enforce_sorted`: ValueError unless the lengths
    descend; otherwise they are sorted here, and pad_packed_sequence puts the sequences back."""
    name = "pack_padded_sequence"
    values = _lengths(name, lengths)
    if input.ndim < 2:
        raise ValueError(f"{name}: input must be (T, N, ...), got shape {tuple(input.shape)}")
    x = ops.swapaxes(input, 0, 1) if batch_first else input
    if x.shape[1] != len(values) or x.shape[0] < values.max():
        raise ValueError(
            f"{name}: {len(values)} lengths up to {values.max()} do not fit {x.shape[1]} sequences of "
            f"{x.shape[0]} steps"
        )
    order = None
    ascends = bool((np.diff(values) > 0).any())
    if ascends and enforce_sorted:
        raise ValueError(f"{name}: lengths must descend, or pass enforce_sorted=False")
    if not enforce_sorted:
        order = np.argsort(-values, kind="stable")
        values = values[order]
        if ascends:
            x = ops.take(x, ts.asarray(order, device=x.device), 1)
    sizes, places = _places(values)
    data = ops.take(
        ops.reshape(x[: values.max()], (-1, *x.shape[2:])), ts.asarray(places, device=x.device), 0
    )
    if order is None:
        return PackedSequence(data, ts.asarray(sizes), None, None)
    sorting, inverse = (ts.asarray(o, device=x.device) for o in (order, np.argsort(order)))
    return PackedSequence(data, ts.asarray(sizes), sorting, inverse)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(padded, lengths): the inverse of pack_padded_sequence, in the original order."""
    if not isinstance(sequence, PackedSequence):
        raise TypeError(
            f"pad_packed_sequence: sequence must be a PackedSequence, got a {type(sequence).__name__}"
        )
    sizes = sequence.batch_sizes.numpy()
    lengths = (np.arange(sizes[0]) < sizes[:, None]).sum(0)
    steps = len(sizes)
    if total_length is not None and total_length < steps:
        raise ValueError(
            f"pad_packed_sequence: total_length {total_length} is less than the {steps} steps there are"
        )
    # Step t of sequence n lies where it was packed; what does not exist is the row of padding behind the data.
    rows = sequence.data.shape[0]
    index = np.full((total_length or steps, len(lengths)), rows)
    index.reshape(-1)[_places(lengths)[1]] = np.arange(rows)
    if sequence.unsorted_indices is not None:
        order = sequence.unsorted_indices.cpu().numpy()
        index, lengths = index[:, order], lengths[order]
    data = sequence.data
    padding = ops.full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    padded = ops.take(ops.concat([data, padding], 0), ts.asarray(index.reshape(-1), device=data.device), 0)
    padded = ops.reshape(padded, (*index.shape, *data.shape[1:]))
    return ops.swapaxes(padded, 0, 1) if batch_first else padded, ts.asarray(lengths)


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Tensors (T_n, *) as one (max T_n, N, *), or (N, max T_n, *) with batch_first; padded behind their ends, or
    before their starts ("left")."""
    name = "pad_sequence"
    _checks.choice(name, "padding_side", padding_side, ("left", "right"))
    if len(sequences) == 0:
        raise ValueError(f"{name}: sequences is empty")
    steps = max(len(x) for x in sequences)
    padded = []
    for x in sequences:
        rest = ops.full((steps - len(x), *x.shape[1:]), padding_value, dtype=x.dtype, device=x.device)
        padded.append(ops.concat([x, rest] if padding_side == "right" else [rest, x], 0))
    return ops.stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences (T_n, *) of a tensor (T, N, *), or (N, T, *) with batch_first: the inverse of pad_sequence."""
    name = "unpad_sequence"
    values = _lengths(name, lengths, 0)
    x = padded_sequences if batch_first else ops.swapaxes(padded_sequences, 0, 1)
    if len(values) != x.shape[0] or values.max() > x.shape[1]:
        raise ValueError(
            f"{name}: {len(values)} lengths up to {values.max()} do not fit {x.shape[0]} sequences of "
            f"{x.shape[1]} steps"
        )
    return [x[n, :length] for n, length in enumerate(values.tolist())]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (T_n, *) of a PackedSequence, in their original order: the inverse of pack_sequence."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (T_n, *) as a PackedSequence."""
    return pack_padded_sequence(pad_sequence(sequences), [len(x) for x in sequences], False, enforce_sorted)
