"""`LAMB` (You et al. 2020), for large batches."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import lamb as step_lamb
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_betas, check_values


class LAMB(Optimizer):
    """r = m' / (sqrt(v') + eps) + weight_decay p with Adam's bias-corrected moments; p -= lr |p| / |r| r.

    Every parameter has its own trust ratio |p| / |r|, of 2-norms, 1 where one of them is 0; norms are summed in
    float64, in an order that depends on the parameter's size alone. State as Adam's.
    """

    _slots = 6

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        check_values("LAMB", group, ("lr", "eps", "weight_decay"))
        check_betas("LAMB", group)

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, *group["betas"], group["eps"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        state = bucket.state
        step_lamb(
            bucket.params, step.grads, state["exp_avg"], state["exp_avg_sq"], state["step"], step.hyper,
            bucket.group["maximize"], step.zero,
        )  # fmt: skip
