"""Distances, and losses that ask for a margin."""

from __future__ import annotations

from collections.abc import Callable

from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.nn.functional._loss import _check_broadcast, _raised, _reduced, _reduction, _same_shape
from tensorsmith.ops.halves import rounded_once
from tensorsmith.tensor import Tensor


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim` of the shape that both broadcast to."""
    x1, x2 = ops.asarray(x1), ops.asarray(x2)
    if tuple(x1.shape) != tuple(x2.shape):
        x1, x2 = ops.broadcast_arrays(x1, x2)
    _checks.number("cosine_similarity", "eps", eps)

    def formula(x1: Tensor, x2: Tensor) -> Tensor:
        one, two = (ops.maximum(ops.vector_norm(x, axis=dim, keepdims=True), eps) for x in (x1, x2))
        return ops.sum((x1 / one) * (x2 / two), axis=dim)

    return rounded_once(formula, x1, x2, raised=True)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The norm of order p of x1 - x2 + eps along the last axis."""
    _checks.number("pairwise_distance", "p", p)
    _checks.number("pairwise_distance", "eps", eps)

    def formula(x1: Tensor, x2: Tensor) -> Tensor:
        return ops.vector_norm(x1 - x2 + eps, axis=-1, keepdims=keepdim, ord=p)

    return rounded_once(formula, ops.asarray(x1), ops.asarray(x2), raised=True)


def _hinge(x: Tensor) -> Tensor:
    """max(0, x), whose slope at 0 is 1: what lies on the margin is still moved."""
    return ops.clip(x, 0.0)


def _by_label(target: Tensor, alike: Tensor, apart: Tensor) -> Tensor:
    """`alike` where t is 1, max(0, apart) where it is -1, else 0."""
    return ops.where(target == 1, alike, ops.where(target == -1, _hinge(apart), 0.0))


@_raised
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where t is 1, max(0, margin - x) where it is -1."""
    _same_shape("hinge_embedding_loss", input, target)
    reduction = _reduction("hinge_embedding_loss", reduction, size_average, reduce)
    _checks.number("hinge_embedding_loss", "margin", margin)
    return _reduced(_by_label(target, input, margin - input), reduction)


@_raised
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x1 - x2) + margin)."""
    _same_shape("margin_ranking_loss", input1, input2, ("input1", "input2"))
    _same_shape("margin_ranking_loss", input1, target, ("input1", "target"))
    reduction = _reduction("margin_ranking_loss", reduction, size_average, reduce)
    _checks.number("margin_ranking_loss", "margin", margin)
    return _reduced(_hinge(margin - target * (input1 - input2)), reduction)


@_raised
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos where t is 1, max(0, cos - margin) where it is -1, over the last axis."""
    _same_shape("cosine_embedding_loss", input1, input2, ("input1", "input2"))
    _checks.tensor("cosine_embedding_loss", target, "target")
    if tuple(target.shape) != tuple(input1.shape[:-1]):
        raise ValueError(
            f"cosine_embedding_loss: target must have shape {tuple(input1.shape[:-1])}, a number for each vector, "
            f"got {tuple(target.shape)}"
        )
    reduction = _reduction("cosine_embedding_loss", reduction, size_average, reduce)
    cosine = cosine_similarity(input1, input2, -1)
    _checks.number("cosine_embedding_loss", "margin", margin)
    return _reduced(_by_label(target, 1 - cosine, cosine - margin), reduction)


@_raised
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-t x))."""
    _same_shape("soft_margin_loss", input, target)
    reduction = _reduction("soft_margin_loss", reduction, size_average, reduce)
    return _reduced(ops.softplus(-target * input), reduction)


@_raised
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes (last axis) of binary cross-entropies of logits."""
    _same_shape("multilabel_soft_margin_loss", input, target)
    reduction = _reduction("multilabel_soft_margin_loss", reduction, size_average, reduce)
    loss = ops.bce_with_logits(input, target)
    if weight is not None:
        _check_broadcast("multilabel_soft_margin_loss", "weight", weight, tuple(loss.shape))
        loss = loss * weight
    return _reduced(ops.mean(loss, axis=-1), reduction)


def _class_numbers(name: str, target: Tensor) -> None:
    if target.dtype.kind not in ("signed", "unsigned"):
        raise TypeError(f"{name}: target must hold integers, class numbers, got {target.dtype}")


@_raised
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over j != t of w_t max(0, margin - x_t + x_j)^p / C for x (N, C) or (C,) and class numbers t; `weight` (C,)
    holds w.
    """
    name = "multi_margin_loss"
    _checks.choice(name, "p", p, (1, 2))
    _checks.number(name, "margin", margin)
    _checks.tensor(name, input)
    _checks.tensor(name, target, "target")
    targets: list[tuple[int, ...]] = [(input.shape[0],)] if input.ndim == 2 else [(), (1,)]
    if input.ndim not in (1, 2) or tuple(target.shape) not in targets:
        raise ValueError(
            f"{name}: input must be (N, C) with target (N), or (C) with one class, got shapes "
            f"{tuple(input.shape)} and {tuple(target.shape)}"
        )
    _class_numbers(name, target)
    classes = input.shape[-1]
    if weight is not None and _checks.tensor(name, weight, "weight") != (classes,):
        raise ValueError(f"{name}: weight must have shape ({classes},), got {tuple(weight.shape)}")
    reduction = _reduction(name, reduction, size_average, reduce)
    rows = input if input.ndim == 2 else ops.expand_dims(input, 0)
    index = target.reshape((-1, 1))
    gap = ops.relu(margin - ops.gather(rows, 1, index) + rows)
    if p == 2:
        gap = ops.square(gap)
    if weight is not None:
        gap = gap * ops.expand_dims(ops.take(weight, target.reshape((-1,)), 0), 1)
    others = ops.scatter(ops.ones_like(rows.detach()), 1, index, 0.0)
    loss = ops.sum(gap * others, axis=1) / rows.shape[1]
    return _reduced(loss if target.ndim else loss[0], reduction)


@_raised
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over classes j of the target and i outside it of max(0, 1 - x_j + x_i) / C, for x (N, C) or (C). target: the
    same shape, int64: class numbers, of which those before the first negative one count.
    """
    name = "multilabel_margin_loss"
    _same_shape(name, input, target)
    if input.ndim not in (1, 2):
        raise ValueError(f"{name}: input must be (N, C) or (C), got shape {tuple(input.shape)}")
    _class_numbers(name, target)
    reduction = _reduction(name, reduction, size_average, reduce)
    rows, classes = (v if v.ndim == 2 else ops.expand_dims(v, 0) for v in (input, target))
    counts = ops.cumulative_prod(ops.astype(classes >= 0, rows.dtype), axis=1)
    index = ops.maximum(classes, 0)
    inside = ops.scatter_add(ops.zeros_like(rows.detach()), 1, index, counts) > 0
    gaps = ops.relu(1 - ops.expand_dims(ops.gather(rows, 1, index), 2) + ops.expand_dims(rows, 1))
    gaps = ops.where(ops.expand_dims(inside, 1), 0.0, gaps * ops.expand_dims(counts, 2))
    loss = ops.sum(gaps, axis=(1, 2)) / rows.shape[1]
    return _reduced(loss if input.ndim == 2 else loss[0], reduction)


@_raised
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) (Balntas et al. 2016)."""
    reduction = _reduction("triplet_margin_loss", reduction, size_average, reduce)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


@_raised
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """triplet_margin_loss with any distance: a function of two tensors, pairwise_distance unless given."""
    name = "triplet_margin_with_distance_loss"
    reduction = _reduction(name, reduction, None, None)
    distance = pairwise_distance if distance_function is None else distance_function
    return _triplet(name, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    name: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    _same_shape(name, anchor, positive, ("anchor", "positive"))
    _same_shape(name, anchor, negative, ("anchor", "negative"))
    _checks.number(name, "margin", margin)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = ops.minimum(far, distance(positive, negative))
    return _reduced(_hinge(near - far + margin), reduction)
