"""`Adafactor` (Shazeer & Stern 2018): Adam's second moment in the memory of a row and a column."""

from __future__ import annotations

import math
from typing import Any

import tensorsmith as ts
from tensorsmith.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    Shape,
    Step,
    check_values,
    computed_in,
    number,
    numbers,
)
from tensorsmith.tensor import Tensor


class Adafactor(Optimizer):
    """p -= max(eps2, RMS(p)) min(lr, 1/sqrt(t)) u / max(1, RMS(u) / d), u = g / sqrt(v).

    v is the running mean of g^2 with weight t^beta2_decay for the newest; of a matrix (and of the last two axes of what
    has more) only the means of its rows, r, and of its columns, c, are kept: v = r c / mean(r). No momentum. `eps` is
    (the least sqrt(v) and mean of r, by default the dtype's eps; eps2). `lr` is a bound: the step is relative to
    the size of the parameter. Weight decay is decoupled. Defaults, state and `state_dict` are PyTorch's; `foreach` is
    accepted and ignored. Whole-array operations: some ten passes over a matrix instead of Adam's one.
    """

    _slots = 5

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        check_values("Adafactor", group, ("lr", "weight_decay"))
        if not -math.inf < number("Adafactor", group, "beta2_decay") <= 0:
            raise ValueError(f"Adafactor: beta2_decay must be <= 0, got {group['beta2_decay']!r}")
        if not 1 <= number("Adafactor", group, "d") < math.inf:
            raise ValueError(f"Adafactor: d must be >= 1, got {group['d']!r}")
        eps = group["eps"]
        plain = (
            [0.0 if e is None and not i else e for i, e in enumerate(eps)] if hasattr(eps, "__iter__") else []
        )
        values = numbers({"eps": plain}, "eps")
        if len(values) != 2 or not all(0 <= e < math.inf for e in values):
            raise ValueError(f"Adafactor: eps must be (a number >= 0 or None, a number >= 0), got {eps!r}")

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, group["beta2_decay"], group["d"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "row_var": 0.0, "col_var": 0.0, "variance": 0.0}

    def _shape(self, name: str, parameter: Tensor) -> Shape | None:
        shape = tuple(parameter.shape)
        if name == "step":
            return ()
        if name == "variance":
            return shape if len(shape) < 2 else None
        if len(shape) < 2:
            return None
        return (*shape[:-1], 1) if name == "row_var" else (*shape[:-2], 1, shape[-1])

    def _update(self, bucket: Bucket, step: Step) -> None:
        views = [bucket.views(name) for name in ("step", "row_var", "col_var", "variance")]
        with ts.no_grad():
            for parameter, grad, t, row, column, variance in zip(
                step.params, step.grads, *views, strict=True
            ):
                if grad is None:
                    continue
                self._update_one(bucket.group, step, parameter, grad, t, row, column, variance)
            step.clear()

    def _update_one(
        self,
        group: Group,
        step: Step,
        p: Tensor,
        grad: Tensor,
        t: Any,
        row: Tensor | None,
        column: Tensor | None,
        variance: Tensor | None,
    ) -> None:
        lr, decay, scale, power, d = (step.hyper[i] for i in range(self._slots))
        least = ts.finfo(p.dtype).eps if group["eps"][0] is None else float(group["eps"][0])
        target, dtype = p, computed_in(p)
        t.add_(1)
        if p.size == 0:
            return  # has no mean
        newest = (t**power).astype(dtype)
        p, grad = p.astype(dtype), grad.astype(dtype)  # a half is updated in float32
        g = grad * (-scale if group["maximize"] else scale).astype(dtype)
        rate = ts.minimum(lr, 1 / ts.sqrt(t)) * ts.maximum(group["eps"][1], _rms(p))
        shrunk = p * (1 - lr * decay).astype(dtype)
        if row is not None and column is not None:
            row.add_((ts.mean(g * g, axis=-1, keepdims=True) - row) * newest)
            column.add_((ts.mean(g * g, axis=-2, keepdims=True) - column) * newest)
            v = row * column / ts.clip(ts.mean(row, axis=-2, keepdims=True), least, None)
        else:
            assert variance is not None
            variance.add_((g * g - variance) * newest)
            v = variance
        u = g * ts.rsqrt(ts.clip(v, least * least, None))
        target.copy_(shrunk - u * (rate / ts.maximum(1.0, _rms(u) / d)).astype(dtype))


def _rms(x: Tensor) -> Any:
    """The root of the mean square, float64."""
    return ts.linalg.vector_norm(x).astype(ts.float64) / math.sqrt(x.size)
