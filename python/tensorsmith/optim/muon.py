"""`Muon` (Jordan et al. 2024): momentum whose matrix is made orthogonal."""

from __future__ import annotations

import math
from typing import Any

import tensorsmith as ts
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_values, computed_in, numbers
from tensorsmith.tensor import Tensor


class Muon(Optimizer):
    """m += (1 - momentum)(g - m); p -= lr weight_decay p; p -= lr r NS(m'), for matrices only.

    m' is g + momentum (m - g) with `nesterov`, else m. NS pushes all singular values towards 1 by `ns_steps` of the
    quintic Newton-Schulz iteration x = a x + (b A + c A A) x, A = x x^T, from x = m' / max(|m'|, eps), (a, b, c) being
    `ns_coefficients`. r is sqrt(max(1, rows / columns)), or with `adjust_lr_fn="match_rms_adamw"` 0.2
    sqrt(max(rows, columns)) (Liu et al. 2025), which lets AdamW's learning rates serve. Defaults, state and
    `state_dict` are PyTorch's, but the iteration runs in the parameter's dtype, that of halves in float32: PyTorch's
    rounds to bfloat16; under `ts.autocast` its products do here too. ValueError for a parameter that is not 2-D:
    biases, gains and embeddings are AdamW's.
    """

    _slots = 5
    _hidden = ("step",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        check_values("Muon", group, ("lr", "weight_decay", "momentum", "eps"))
        for number, parameter in enumerate(group["params"]):
            if parameter.ndim != 2:
                raise ValueError(
                    f"Muon: params[{number}] must be a matrix, got shape {tuple(parameter.shape)}"
                )
        if len([c for c in numbers(group, "ns_coefficients") if math.isfinite(c)]) != 3:
            raise ValueError(f"Muon: ns_coefficients must be three numbers, got {group['ns_coefficients']!r}")
        if not isinstance(group["ns_steps"], int) or not 0 < group["ns_steps"] < 100:
            raise ValueError(f"Muon: ns_steps must be an integer from 1 to 99, got {group['ns_steps']!r}")
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"Muon: adjust_lr_fn must be None, 'original' or 'match_rms_adamw', got {group['adjust_lr_fn']!r}"
            )

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, group["momentum"], group["eps"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "momentum_buffer": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        group = bucket.group
        views = [bucket.views(name) for name in self._names(group)]
        with ts.no_grad():
            numbers = step.hyper.astype(computed_in(bucket.params[0]))
            lr, decay, scale, momentum, eps = (numbers[i] for i in range(self._slots))
            for p, grad, t, buffer in zip(step.params, step.grads, *views, strict=True):
                if grad is None:
                    continue
                g = grad * scale  # of a half float32, as the numbers and the state are
                t.add_(1)
                buffer.add_((g - buffer) * (1 - momentum))
                update = g + momentum * (buffer - g) if group["nesterov"] else buffer
                p.copy_(p * (1 - lr * decay) - _orthogonal(update, group, eps) * (lr * _ratio(group, p)))
            step.clear()


def _orthogonal(x: Tensor, group: Group, eps: Tensor) -> Tensor:
    a, b, c = group["ns_coefficients"]
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / ts.maximum(ts.linalg.vector_norm(x), eps)
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def _ratio(group: Group, parameter: Tensor) -> float:
    rows, columns = parameter.shape
    if group["adjust_lr_fn"] == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / max(columns, 1)))
