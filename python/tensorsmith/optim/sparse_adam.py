"""`SparseAdam`: Adam for row-sparse gradients, which leaves the other rows and their moments alone."""

from __future__ import annotations

from typing import Any

from tensorsmith.ops.optim import adam as step_adam
from tensorsmith.ops.sparse import RowSparse
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_betas, check_values


class SparseAdam(Optimizer):
    """Adam on the rows that a gradient has; t counts the parameter's steps, not the row's.

    p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps). Defaults, state and `state_dict` are PyTorch's.
    ValueError for a gradient that is not row-sparse: use `Adam` for it.
    """

    _slots = 6
    _rows_only = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def _check(self, group: Group) -> None:
        check_values("SparseAdam", group, ("lr", "eps"))
        if not group["eps"] > 0:
            raise ValueError(f"SparseAdam: eps must be > 0, got {group['eps']!r}")
        check_betas("SparseAdam", group)

    def _hyper(self, group: Group) -> tuple[float, ...]:
        return (float(group["lr"]), 0.0, 1.0, *group["betas"], group["eps"])

    def _names(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _check_rows(self, group: Group) -> None:
        for number, parameter in enumerate(group["params"]):
            if parameter.grad is not None and not isinstance(parameter.grad, RowSparse):
                raise ValueError(f"SparseAdam: params[{number}] has a dense gradient; use Adam for it")

    def _update(self, bucket: Bucket, step: Step) -> None:
        group, state = bucket.group, bucket.state
        step_adam(
            bucket.params, step.grads, state["exp_avg"], state["exp_avg_sq"], None, state["step"], step.hyper,
            maximize=group["maximize"], rows=step.rows, zero_grads=step.zero, plain_eps=True,
        )  # fmt: skip
