"""`Rprop` (Riedmiller & Braun 1993), for gradients of the whole data set."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import rprop as step_rprop
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_values, numbers, refuse


class Rprop(Optimizer):
    """Every element has a step size: times etas[1] where its gradient keeps its sign, times etas[0] where it turns
    (that gradient then counts as 0), within `step_sizes`; p -= sign(g) size.

    Defaults, state and `state_dict` are PyTorch's. `foreach` and `capturable` are accepted and ignored: every step is
    fused.
    """

    _slots = 7

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse("Rprop", differentiable=differentiable)
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize})

    def _check(self, group: Group) -> None:
        check_values("Rprop", group, ("lr",))
        etas, sizes = numbers(group, "etas"), numbers(group, "step_sizes")
        if len(etas) != 2 or not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Rprop: etas must be a number in (0, 1) and one above 1, got {group['etas']!r}")
        if len(sizes) != 2 or not 0 <= sizes[0] <= sizes[1]:
            raise ValueError(
                f"Rprop: step_sizes must be two ascending numbers >= 0, got {group['step_sizes']!r}"
            )

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), 0.0, 1.0, *group["etas"], *group["step_sizes"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "prev": 0.0, "step_size": 0.0}

    def _update(self, bucket: Bucket, step: Step) -> None:
        state = bucket.state
        step_rprop(
            bucket.params, step.grads, state["prev"], state["step_size"], state["step"], step.hyper,
            bucket.group["maximize"], step.zero,
        )  # fmt: skip
