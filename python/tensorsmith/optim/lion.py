"""`Lion` (Chen et al. 2023)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import lion as step_lion
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_betas, check_values


class Lion(Optimizer):
    """p = (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g.

    One buffer a parameter, decoupled decay; steps of one size, so lr is three to ten times smaller than Adam's.
    """

    _slots = 5

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        )

    def _check(self, group: Group) -> None:
        check_values("Lion", group, ("lr", "weight_decay"))
        check_betas("Lion", group)

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, *group["betas"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "exp_avg": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        state = bucket.state
        step_lion(
            bucket.params, step.grads, state["exp_avg"], state["step"], step.hyper, bucket.group["maximize"],
            zero_grads=step.zero,
        )  # fmt: skip
