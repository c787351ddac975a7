"""Losses with kernels of their own: docstrings and gradient rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.halves import widened

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["bce_with_logits", "cross_entropy", "ctc_loss", "nll_loss", "weighted_bce_with_logits"]

bce_with_logits = define(
    core.bce_with_logits,
    """-(b log s(a) + (1 - b) log s(-a)), s the sigmoid: binary cross-entropy of logits a, targets b.

    Within a few units of the last place for b in [0, 1]: small losses do not cancel. 0 for an infinite logit that
    agrees with its target.""",
    a=lambda dy, a, b: core.bce_with_logits_backward(dy, a, b),
    b=lambda dy, a: -(dy * a),
)
define(
    core.bce_with_logits_backward,
    "The gradient of bce_with_logits at its logits: a (s(b) - c).",
    a=lambda dy, b, c: core.bce_with_logits_backward(dy, b, c),
    b=lambda dy, a, b: core.sigmoid_backward(dy * a, core.sigmoid(b)),
    c=lambda dy, a: -(dy * a),
)

weighted_bce_with_logits = define(
    core.weighted_bce_with_logits,
    """b softplus(a) + c softplus(-a): binary cross-entropy of logits a, classes weighing b and c; `bce_with_logits`
    where these are 1 - t and t. As exact as that for b and c >= 0.""",
    a=lambda dy, a, b, c: core.weighted_bce_with_logits_slope(a, dy * b, dy * c),
    b=lambda dy, a: dy * core.softplus(a),
    c=lambda dy, a: dy * core.softplus(-a),
)
define(
    core.weighted_bce_with_logits_slope,
    "The slope of weighted_bce_with_logits at its logits: b s(a) - c s(-a).",
    a=lambda dy, a, b, c: core.sigmoid_backward(dy * (b + c), core.sigmoid(a)),
    b=lambda dy, a: dy * core.sigmoid(a),
    c=lambda dy, a: -(dy * core.sigmoid(-a)),
)


def _cross_entropy_gradient(
    dy: Any,
    x: Any,
    target: Any,
    weight: Any,
    lse: Any,
    total: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Any:
    return core.cross_entropy_backward(
        dy, x, target, weight, lse, total, ignore_index, reduction, label_smoothing
    )


cross_entropy = define(
    core.cross_entropy,
    """-w_t log softmax(x)_t over the class axis, without writing the log-softmax; as PyTorch's.

    x: (C,), (N, C) or (N, C, ...)    target: class indices, x's shape without C    weight: (C,) or None
    ignore_index: this target counts 0    label_smoothing: the share s of a uniform target, in [0, 1]
    reduction: "none" (target's shape), "sum", or "mean" over the targets' weights

    IndexError for a target that is neither a class nor ignore_index, ValueError where shapes do not fit.""",
    x=_cross_entropy_gradient,
)
define(
    core.cross_entropy_wide,
    "cross_entropy under autocast: of logits in bfloat16 a loss in float32.",
    x=_cross_entropy_gradient,
)


def _valid(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Which targets count, and the targets with class 0 for those that do not."""
    counts = core.not_equal(target, ignore_index)
    return counts, core.where(counts, target, 0)


def _second(
    dy: Any,
    gradient: Any,
    x: Any,
    target: Any,
    weight: Any,
    lse: Any,
    total: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Any:
    # dx = gradient (a softmax(x) - constants), a the row's weight (1 - s) w_t + s / C sum w.
    dtypes = gradient.dtype, x.dtype
    dy, gradient, x, weight = widened(dy, gradient, x, weight)
    axis = 0 if x.ndim == 1 else 1
    options = (target, weight, lse, total, ignore_index, reduction, label_smoothing)
    unit = core.cross_entropy_backward(core.ones(gradient.shape, dtype=x.dtype, device=x.device), x, *options)
    dgradient = core.sum(dy * unit, axis if reduction == "none" else None)
    counts, classes = _valid(target, ignore_index)
    own = 1.0 if weight is None else core.take(weight, classes, 0)
    smooth = x.shape[axis] if weight is None else core.sum(weight)
    scale = own * (1.0 - label_smoothing) + smooth * (label_smoothing / x.shape[axis])
    scale = gradient * scale
    scale = core.where(counts, scale / total if reduction == "mean" else scale, 0.0)
    p = core.softmax(x, axis)
    dx = core.softmax_backward(dy * core.expand_dims(scale, axis), p, axis)
    return core.astype(dgradient, dtypes[0]), core.astype(dx, dtypes[1])


define(
    core.cross_entropy_backward,
    "The gradient of cross_entropy with respect to x, given that of its result.",
    wrt="gradient x",
    vjp=_second,
)


def nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-w_t x_t for log probabilities x: cross_entropy without its log-softmax; same shapes and reductions.

    IndexError for a target that is neither a class nor ignore_index, ValueError where shapes do not fit.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"nll_loss: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    x, target = asarray(x), asarray(target)
    axis = 0 if x.ndim == 1 else 1
    expected = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
    if x.ndim == 0 or tuple(target.shape) != expected:
        raise ValueError(f"nll_loss: target must have shape {expected}, got {tuple(target.shape)}")
    if target.dtype.kind not in ("signed", "unsigned"):
        raise TypeError(f"nll_loss: target is {target.dtype}; class indices of an integer dtype are needed")
    classes = x.shape[axis]
    weight = None if weight is None else asarray(weight)
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ValueError(f"nll_loss: weight must have shape ({classes},), got {tuple(weight.shape)}")
    counts, target = _valid(target, ignore_index)
    # A recording cannot read the targets: gather checks them at every replay.
    if target.size and not _core.capturing() and bool(core.any((target < 0) | (target >= classes))):
        wrong = int(core.max(target)) if int(core.max(target)) >= classes else int(core.min(target))
        raise IndexError(
            f"nll_loss: target {wrong} is out of range for {classes} classes: valid are 0 to {classes - 1}"
        )
    own = core.astype(counts, x.dtype)
    if weight is not None:
        own = own * core.take(weight, target, 0)
    picked = core.squeeze(core.gather(x, axis, core.expand_dims(target, axis)), axis)
    loss = core.where(counts, -(own * picked), 0.0)
    if reduction == "none":
        return loss
    return core.sum(loss) if reduction == "sum" else core.sum(loss) / core.sum(own)


ctc_loss = define(
    core.ctc_loss,
    """Connectionist temporal classification (Graves et al. 2006): -log of the probability that frames spell a
    sequence of labels, summed over the alignments.

    log_probs: (T, N, C), a log-softmax    targets: (N, S) integers, of which target_lengths (N) count
    input_lengths: (N), frames of each sequence    blank: the class of no label
    returns: (N,), inf where there are too few frames: one a label, and one between two equal ones

    The gradient is that of log_probs as they are: -(probability of class c in frame t). One through log_softmax adds
    its softmax. An infinite loss has NaN for gradient, unless its own gradient is 0.
    IndexError for a target that is no class, ValueError for one that is the blank, and for lengths that do not fit.""",
    log_probs=lambda dy, log_probs, targets, input_lengths, target_lengths, y, alpha, blank: (
        core.ctc_loss_backward(dy, log_probs, targets, input_lengths, target_lengths, y, alpha, blank)
    ),
)
define(
    core.ctc_loss_backward,
    """The gradient of ctc_loss with respect to log_probs. It has no rule of its own: a second derivative raises an
    error.""",
)
