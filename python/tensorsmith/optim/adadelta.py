"""`Adadelta` (Zeiler 2012)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import adadelta as step_adadelta
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_values, number, refuse


class Adadelta(Optimizer):
    """s = rho s + (1 - rho) g^2; d = sqrt((a + eps) / (s + eps)) g; a = rho a + (1 - rho) d^2; p -= lr d.

    Defaults, state and `state_dict` are PyTorch's. `foreach` is accepted and ignored: every step is fused.
    """

    _slots = 5

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse("Adadelta", differentiable=differentiable)
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        check_values("Adadelta", group, ("lr", "eps", "weight_decay"))
        if not 0.0 <= number("Adadelta", group, "rho") <= 1.0:
            raise ValueError(f"Adadelta: rho must be in [0, 1], got {group['rho']!r}")

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, group["rho"], group["eps"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "square_avg": 0.0, "acc_delta": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        state = bucket.state
        step_adadelta(
            bucket.params, step.grads, state["square_avg"], state["acc_delta"], state["step"], step.hyper,
            bucket.group["maximize"], zero_grads=step.zero,
        )  # fmt: skip
