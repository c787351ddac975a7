"""`SGD`: stochastic gradient descent with momentum (Polyak 1964; Nesterov as in Sutskever et al. 2013)."""

from __future__ import annotations

import math
from typing import Any

from tensorsmith.ops.optim import sgd as step_sgd
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_values, number, refuse


class SGD(Optimizer):
    """g += weight_decay p; b = momentum b + (1 - dampening) g (b = g first); p -= lr b,
    or lr (g + momentum b) for Nesterov.

    Defaults, state and `state_dict` are PyTorch's. `foreach` and `fused` are accepted and ignored: every
    step is fused.
    """

    _slots = 5
    _hidden = ("step",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        refuse("SGD", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _check(self, group: Group) -> None:
        check_values("SGD", group, ("lr", "momentum", "weight_decay"))
        if not math.isfinite(number("SGD", group, "dampening")):
            raise ValueError(f"SGD: dampening must be finite, got {group['dampening']!r}")
        if group["nesterov"] and (not group["momentum"] > 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov=True needs momentum > 0 and dampening 0, got "
                f"momentum={group['momentum']!r} and "
                f"dampening={group['dampening']!r}"
            )

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, group["momentum"], group["dampening"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "momentum_buffer": 0.0} if group["momentum"] else {}

    def _update(self, bucket: Bucket, step: Step) -> None:
        group = bucket.group
        momentum = count = None
        if group["momentum"]:
            momentum, count = bucket.flat("momentum_buffer"), bucket.flat("step")
        step_sgd(
            bucket.params, step.grads, momentum, count, step.hyper, group["nesterov"], group["maximize"],
            step.rows, step.zero,
        )  # fmt: skip

    def _check_rows(self, group: Group) -> None:
        if group["momentum"] != 0 or group["weight_decay"] != 0:
            raise ValueError(
                "SGD: a row-sparse gradient needs momentum 0 and weight_decay 0, got "
                f"momentum={group['momentum']!r} and weight_decay={group['weight_decay']!r}"
            )
