"""`Embedding` and `EmbeddingBag`: rows of a table, looked up by index."""

from __future__ import annotations

from typing import Any

import tensorsmith as ts
from tensorsmith.nn import _checks, functional, init
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.tensor import Tensor


class _Table(Module):
    """num_embeddings rows of embedding_dim numbers."""

    weight: Parameter

    def _build(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        weight: Tensor | None,
        frozen: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        name = type(self).__name__
        self.num_embeddings = _checks.integer(name, "num_embeddings", num_embeddings)
        self.embedding_dim = _checks.integer(name, "embedding_dim", embedding_dim)
        if padding_idx is not None:
            padding_idx = _checks.integer(name, "padding_idx", padding_idx, -num_embeddings)
            if padding_idx >= num_embeddings:
                raise ValueError(
                    f"{name}: padding_idx must be in [{-num_embeddings}, {num_embeddings}), got {padding_idx}"
                )
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        shape = (self.num_embeddings, self.embedding_dim)
        if weight is None:
            self.weight = Parameter(ts.empty(shape, dtype=dtype), not frozen)
            self.reset_parameters()
        else:
            if tuple(weight.shape) != shape:
                raise ValueError(f"{name}: weight must have shape {shape}, got {tuple(weight.shape)}")
            self.weight = Parameter(weight, not frozen)
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Draw a new table; the padding row is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with ts.no_grad():
                self.weight[self.padding_idx].fill_(0)

    @classmethod
    def _extents(cls, embeddings: Tensor) -> tuple[int, int]:
        if embeddings.ndim != 2:
            raise ValueError(
                f"{cls.__name__}.from_pretrained: embeddings must be 2-dimensional, got shape {embeddings.shape}"
            )
        rows, columns = embeddings.shape
        return rows, columns


class Embedding(_Table):
    """Integers (*) in [0, num_embeddings) -> rows (*, embedding_dim) of `weight`, which starts normal(0, 1).

    Args:
        padding_idx: the row that starts at zero and gets no gradient; negative counts from the end.
        max_norm, norm_type: rows whose norm is larger are scaled to it when they are looked up, in place.
        scale_grad_by_freq: divide a row's gradient by how often it was looked up.
        sparse: `weight.grad` is an `ts.RowSparse`, which SGD, Adagrad and SparseAdam take.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if max_norm is not None:
            _checks.more_than("Embedding", "max_norm", max_norm)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self._build(num_embeddings, embedding_dim, padding_idx, _weight, _freeze, device, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An embedding over a given table (num_embeddings, embedding_dim), by default not trained."""
        rows, columns = cls._extents(embeddings)
        return cls(
            rows, columns, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze
        )

    def forward(self, input: Tensor) -> Tensor:
        return functional.embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        for name, default in (("padding_idx", None), ("max_norm", None), ("norm_type", 2.0),
                              ("scale_grad_by_freq", False), ("sparse", False)):  # fmt: skip
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


class EmbeddingBag(_Table):
    """Sums, means or maxima of bags of rows of `weight`: `functional.embedding_bag`.

    Args:
        padding_idx: a row that counts for nothing; negative counts from the end.
        max_norm, norm_type: rows whose norm is larger are scaled to it when they are looked up, in place.
        scale_grad_by_freq, sparse: PyTorch's; only their defaults are supported.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = "EmbeddingBag"
        _checks.choice(name, "mode", mode, ("sum", "mean", "max"))
        _checks.only(name, "scale_grad_by_freq", scale_grad_by_freq, False)
        _checks.only(name, "sparse", sparse, False)
        self.max_norm, self.norm_type, self.mode = max_norm, norm_type, mode
        self.include_last_offset = include_last_offset
        self._build(num_embeddings, embedding_dim, padding_idx, _weight, False, device, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """Bags over a given table (num_embeddings, embedding_dim), by default not trained."""
        rows, columns = cls._extents(embeddings)
        bag = cls(
            rows,
            columns,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            mode=mode,
            sparse=sparse,
            _weight=embeddings,
            include_last_offset=include_last_offset,
            padding_idx=padding_idx,
        )
        bag.weight.requires_grad_(not freeze)
        return bag

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        return functional.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"
