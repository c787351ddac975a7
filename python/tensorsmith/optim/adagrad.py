"""`Adagrad` (Duchi, Hazan & Singer 2011)."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import adagrad as step_adagrad
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_values, refuse


class Adagrad(Optimizer):
    """s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    s starts at `initial_accumulator_value`. Defaults, state and `state_dict` are PyTorch's. `foreach` and
    `fused` are accepted and ignored: every step is fused.
    """

    _slots = 5
    _state_from_start = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        refuse("Adagrad", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "maximize": maximize,
            },
        )
        self._prepare()

    def _check(self, group: Group) -> None:
        check_values("Adagrad", group, ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"))

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), group["weight_decay"], 1.0, group["lr_decay"], group["eps"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "sum": float(group["initial_accumulator_value"])}

    def _update(self, bucket: Bucket, step: Step) -> None:
        state = bucket.state
        step_adagrad(
            bucket.params, step.grads, state["sum"], state["step"], step.hyper, bucket.group["maximize"],
            step.rows, step.zero,
        )  # fmt: skip

    def _check_rows(self, group: Group) -> None:
        if group["weight_decay"] != 0:
            raise ValueError(
                "Adagrad: a row-sparse gradient needs weight_decay 0, got "
                f"weight_decay={group['weight_decay']!r}"
            )
