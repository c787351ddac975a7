"""`RAdam` (Liu et al. 2019)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import radam as step_radam
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_betas, check_values, refuse


class RAdam(Optimizer):
    """Adam whose step is rectified while few gradients have been seen: by
    sqrt((r - 4) (r - 2) R / ((R - 4) (R - 2) r)) with R = 2 / (1 - beta2) - 1 and r = R - 2 t beta2^t / (1 - beta2^t),
    or without division by sqrt(v) where r <= 5.

    Weight decay adds to g, or with `decoupled_weight_decay` shrinks p by 1 - lr weight_decay. Defaults, state and
    `state_dict` are PyTorch's. `foreach` and `capturable` are accepted and ignored: every step is fused.
    """

    _slots = 6

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse("RAdam", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _check(self, group: Group) -> None:
        check_values("RAdam", group, ("lr", "eps", "weight_decay"))
        check_betas("RAdam", group)

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (
            float(group["lr"]),
            group["weight_decay"],
            1.0,
            *group["betas"],
            group["eps"],
        )

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        group, state = bucket.group, bucket.state
        step_radam(
            bucket.params, step.grads, state["exp_avg"], state["exp_avg_sq"], state["step"], step.hyper,
            group["decoupled_weight_decay"], group["maximize"], step.zero,
        )  # fmt: skip
