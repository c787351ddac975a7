"""`Adam` (Kingma & Ba 2014) and `AdamW`, with decoupled weight decay (Loshchilov & Hutter 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorsmith.ops.optim import adam as step_adam
from tensorsmith.optim.optimizer import Bucket, Group, Optimizer, Step, check_betas, check_values, refuse


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= lr m' / (sqrt(v') + eps),
    bias-corrected.

    `amsgrad` divides by the largest v so far (Reddi et al. 2018). Weight decay adds to g, or with
    `decoupled_weight_decay` shrinks p by 1 - lr weight_decay. Defaults, state and `state_dict` are PyTorch's.
    `foreach`, `capturable` and `fused` are accepted and ignored: every step is fused.
    """

    _slots = 6

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        refuse(self._name, differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _check(self, group: Group) -> None:
        check_values(self._name, group, ("lr", "eps", "weight_decay"))
        check_betas(self._name, group)

    def _hyper(self, group: Group) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return (float(group["lr"]), group["weight_decay"], 1.0, beta1, beta2, group["eps"])

    def _names(self, group: Group) -> dict[str, float]:
        names = {"step": 0.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}
        if group["amsgrad"]:
            names["max_exp_avg_sq"] = 0.0
        return names

    def _update(self, bucket: Bucket, step: Step) -> None:
        group, state = bucket.group, bucket.state
        amsgrad = group["amsgrad"]
        step_adam(
            bucket.params,
            step.grads,
            state["exp_avg"],
            state["exp_avg_sq"],
            bucket.flat("max_exp_avg_sq") if amsgrad else None,
            state["step"],
            step.hyper,
            group["decoupled_weight_decay"],
            amsgrad,
            group["maximize"],
            zero_grads=step.zero,
        )


class AdamW(Adam):
    """Adam whose weight decay shrinks p by 1 - lr weight_decay, apart from the gradient."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            differentiable=differentiable,
            decoupled_weight_decay=True,
        )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As `Optimizer.load_state_dict`; the decay stays decoupled, also with what Adam saved."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
