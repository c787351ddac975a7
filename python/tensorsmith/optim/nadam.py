"""`NAdam` (Dozat 2016)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import nadam as step_nadam
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_betas, check_values, refuse


class NAdam(Optimizer):
    """Adam with Nesterov's momentum: p -= lr (mu' m / (1 - P mu') + (1 - mu) g / (1 - P)) / (sqrt(v / (1 - beta2^t)) +
    eps), where mu = beta1 (1 - 0.96^(t momentum_decay) / 2), mu' the next step's, P the product of all mu so far.

    Weight decay adds to g, or with `decoupled_weight_decay` shrinks p by 1 - lr weight_decay. Defaults, state and
    `state_dict` are PyTorch's. `foreach` and `capturable` are accepted and ignored: every step is fused.
    """

    _slots = 7

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse("NAdam", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _check(self, group: Group) -> None:
        check_values("NAdam", group, ("lr", "eps", "weight_decay", "momentum_decay"))
        check_betas("NAdam", group)

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (
            float(group["lr"]),
            group["weight_decay"],
            1.0,
            *group["betas"],
            group["eps"],
            group["momentum_decay"],
        )

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "mu_product": 1.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        group, state = bucket.group, bucket.state
        step_nadam(
            bucket.params, step.grads, state["exp_avg"], state["exp_avg_sq"], state["mu_product"], state["step"],
            step.hyper, group["decoupled_weight_decay"], group["maximize"], step.zero,
        )  # fmt: skip
