"""`ASGD`: averaged stochastic gradient descent (Polyak & Juditsky 1992)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import asgd as step_asgd
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_values, refuse


class ASGD(Optimizer):
    """p = (1 - lambd eta) p - eta g with eta = lr / (1 + lambd lr t)^alpha; the state `ax` is the mean of the p of all
    steps after t0.

    Defaults, state and `state_dict` are PyTorch's. `foreach` and `capturable` are accepted and ignored: every step is
    fused.
    """

    _slots = 6

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        refuse("ASGD", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def _check(self, group: Group) -> None:
        check_values("ASGD", group, ("lr", "lambd", "alpha", "t0", "weight_decay"))

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (
            float(group["lr"]),
            group["weight_decay"],
            1.0,
            group["lambd"],
            group["alpha"],
            group["t0"],
        )

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "eta": 0.0, "mu": 0.0, "ax": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        state = bucket.state
        step_asgd(
            bucket.params, step.grads, state["ax"], state["eta"], state["mu"], state["step"], step.hyper,
            bucket.group["maximize"], step.zero,
        )  # fmt: skip
