"""`RMSprop` (Hinton 2012, lecture 6e)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import rmsprop as step_rmsprop
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_values, refuse


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2; p -= lr g / (sqrt(s) + eps),
    through a momentum buffer where momentum > 0.

    `centered` subtracts the square of the mean gradient from s (Graves 2013). Defaults, state and
    `state_dict` are PyTorch's. `foreach` and `capturable` are accepted and ignored: every step is fused.
    """

    _slots = 6

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse("RMSprop", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def _check(self, group: Group) -> None:
        check_values("RMSprop", group, ("lr", "eps", "weight_decay", "momentum", "alpha"))

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (
            float(group["lr"]),
            group["weight_decay"],
            1.0,
            group["alpha"],
            group["eps"],
            group["momentum"],
        )

    def _names(self, group: Group) -> dict[str, float]:
        names = {"step": 0.0, "square_avg": 0.0}
        if group["momentum"] > 0:
            names["momentum_buffer"] = 0.0
        if group["centered"]:
            names["grad_avg"] = 0.0
        return names

    def _update(self, bucket: Bucket, step: Step) -> None:
        group, state = bucket.group, bucket.state
        centered = group["centered"]
        step_rmsprop(
            bucket.params,
            step.grads,
            state["square_avg"],
            bucket.flat("momentum_buffer") if group["momentum"] > 0 else None,
            bucket.flat("grad_avg") if centered else None,
            state["step"],
            step.hyper,
            centered,
            group["maximize"],
            zero_grads=step.zero,
        )
