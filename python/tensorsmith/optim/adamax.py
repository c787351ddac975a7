"""`Adamax` (Kingma & Ba 2014, section 7.1)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import adamax as step_adamax
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_betas, check_values, refuse


class Adamax(Optimizer):
    """m = beta1 m + (1 - beta1) g; u = max(beta2 u, |g| + eps); p -= lr / (1 - beta1^t) m / u.

    Defaults, state and `state_dict` are PyTorch's. `foreach` and `capturable` are accepted and ignored: every step is
    fused.
    """

    _slots = 6

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        refuse("Adamax", differentiable=differentiable)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        check_values("Adamax", group, ("lr", "eps", "weight_decay"))
        check_betas("Adamax", group)

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, *group["betas"], group["eps"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "exp_avg": 0.0, "exp_inf": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        state = bucket.state
        step_adamax(
            bucket.params, step.grads, state["exp_avg"], state["exp_inf"], state["step"], step.hyper,
            bucket.group["maximize"], step.zero,
        )  # fmt: skip
