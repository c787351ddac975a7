"""Learning-rate schedules: each changes `lr` in the optimizer's groups when its `step()` is called.

Formulas, argument order, attributes and chaining (several schedules on one optimizer multiply) are PyTorch's.
`state_dict` holds plain numbers and lists only, so it can go into any file.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tensorsmith.jit import replayed
from tensorsmith.optim.optimizer import Group, Optimizer


def _groups_of(name: str, optimizer: Any) -> list[Group]:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: optimizer must be an Optimizer, got {type(optimizer).__name__}")
    return optimizer.param_groups


class LRScheduler:
    """Base: a subclass defines `get_lr()`, the rates for `self.last_epoch`, from the groups' present rates.

    `last_epoch` counts the calls of `step`; -1 starts afresh, anything else resumes and needs `initial_lr`
    in every group. Making a schedule counts one call, so the last_epoch to resume with is one less than it was; rates
    that follow from those before are then the groups' present ones, as in PyTorch.
    """

    _unsaved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        groups = _groups_of(self._name, optimizer)
        self.optimizer = optimizer
        for number, group in enumerate(groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{self._name}: last_epoch={last_epoch} resumes, but group {number} has no 'initial_lr'"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self._begin()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _begin(self) -> None:
        self._step_count = 0
        self.step()

    @property
    def _initial(self) -> bool:
        """Whether this is the step that making the schedule takes."""
        return self._step_count == 1

    def _rewind(self) -> None:
        self.last_epoch -= 1

    def get_lr(self) -> list[float]:
        """The rates for `self.last_epoch`."""
        raise NotImplementedError

    def _rates_at(self, epoch: int) -> list[float]:
        """The rates for `epoch`, without a recurrence; `self.last_epoch` is already `epoch`."""
        return self.get_lr()

    def get_last_lr(self) -> list[float]:
        """The rates that the last `step` set, one a group."""
        return self._last_lr

    @replayed
    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch (or batch, as the schedule is meant), or jump to `epoch`."""
        if self._step_count == 1 and epoch is None and self.optimizer._steps_taken == 0:
            warnings.warn(
                f"{self._name}.step() was called before optimizer.step(): the first learning rate "
                "is never used",
                UserWarning,
                stacklevel=2,
            )
        before = self.last_epoch, self._step_count
        self._step_count += 1
        try:
            if epoch is None:
                self.last_epoch += 1
                rates = self.get_lr()
            else:
                self.last_epoch = epoch
                rates = self._rates_at(epoch)
            if len(rates) != len(self._groups()):
                raise ValueError(
                    f"{self._name}.step: {len(rates)} rates for {len(self._groups())} param groups; make the schedule "
                    "after the last add_param_group"
                )
        except BaseException:
            self.last_epoch, self._step_count = before
            raise
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups

    def _present(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions."""
        return {key: value for key, value in self.__dict__.items() if key not in self._unsaved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; ValueError names unknown or missing entries, before any change."""
        known = set(self.__dict__) - set(self._unsaved)
        given = set(state_dict)
        if given != known:
            raise ValueError(
                f"{self._name}.load_state_dict: unknown entries {sorted(given - known)}, missing "
                f"{sorted(known - given)}"
            )
        for key, value in state_dict.items():
            for kinds in ((int, float), (list, tuple)):
                if isinstance(self.__dict__[key], kinds) and not isinstance(value, kinds):
                    raise ValueError(f"{self._name}.load_state_dict: {key!r} cannot be {value!r}")
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """initial lr times lr_lambda(epoch); a list gives each group a function of its own."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(_groups_of("LambdaLR", optimizer))
        if isinstance(lr_lambda, (list, tuple)):
            if len(lr_lambda) != groups:
                raise ValueError(
                    f"LambdaLR: {groups} param groups need {groups} functions, got {len(lr_lambda)}"
                )
            self.lr_lambdas = list(lr_lambda)
        else:
            self.lr_lambdas = [lr_lambda] * groups
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base * rate(self.last_epoch) for base, rate in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class StepLR(LRScheduler):
    """Times gamma every step_size epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be >= 1, got {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._present()
        return [lr * self.gamma for lr in self._present()]

    def _rates_at(self, epoch: int) -> list[float]:
        return [base * self.gamma ** (epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """Times gamma at each of the milestones."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = self.gamma ** self.milestones.count(self.last_epoch)
        return [lr * factor for lr in self._present()]

    def _rates_at(self, epoch: int) -> list[float]:
        return [base * self.gamma ** bisect_right(self.milestones, epoch) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """Times gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._present() if self._initial else [lr * self.gamma for lr in self._present()]

    def _rates_at(self, epoch: int) -> list[float]:
        return [base * self.gamma**epoch for base in self.base_lrs]


class LinearLR(LRScheduler):
    """The factor goes linearly from start_factor to end_factor over total_iters epochs, then stays."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must be in (0, 1], got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must be in [0, 1], got {end_factor}")
        if total_iters < 1:
            raise ValueError(f"LinearLR: total_iters must be >= 1, got {total_iters}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in self._present()]
        if self._initial or self.last_epoch > self.total_iters:
            return self._present()
        rise = self.end_factor - self.start_factor
        factor = 1 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise)
        return [lr * factor for lr in self._present()]

    def _rates_at(self, epoch: int) -> list[float]:
        part = min(self.total_iters, epoch) / self.total_iters
        factor = self.start_factor + (self.end_factor - self.start_factor) * part
        return [base * factor for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """eta_min + (initial lr - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov & Hutter 2016)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be >= 1, got {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, span, low = self.last_epoch, self.T_max, self.eta_min
        if t == 0 or self._initial:
            return self._present()
        if (t - 1 - span) % (2 * span) == 0:  # leaving the minimum, where the ratio below is 0 / 0
            rise = (1 - math.cos(math.pi / span)) / 2
            return [
                lr + (base - low) * rise for base, lr in zip(self.base_lrs, self._present(), strict=False)
            ]
        ratio = (1 + math.cos(math.pi * t / span)) / (1 + math.cos(math.pi * (t - 1) / span))
        return [ratio * (lr - low) + low for lr in self._present()]

    def _rates_at(self, epoch: int) -> list[float]:
        part = (1 + math.cos(math.pi * epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * part for base in self.base_lrs]


class OneCycleLR(LRScheduler):
    """Up to max_lr, then down to nearly nothing, one batch a step (Smith & Topin 2017).

    From max_lr / div_factor to max_lr over the first pct_start of the total steps, down to
    max_lr / div_factor / final_div_factor over the rest (with `three_phase`, as long down as up, then the
    rest); momentum (or Adam's beta1) goes the other way. Give `total_steps`, or `epochs` and
    `steps_per_epoch`. Stepping past the end raises ValueError.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
            if epochs < 1 or steps_per_epoch < 1:
                raise ValueError(
                    f"OneCycleLR: epochs and steps_per_epoch must be >= 1, got {epochs} and {steps_per_epoch}"
                )
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"OneCycleLR: total_steps must be >= 1, got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        rise = float(pct_start * total_steps) - 1
        self._phases: list[list[Any]]  # end, rates from and to, momenta from and to
        if three_phase:
            self._phases = [
                [rise, "initial_lr", "max_lr", "max_momentum", "base_momentum"],
                [2 * rise, "max_lr", "initial_lr", "base_momentum", "max_momentum"],
                [total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"],
            ]
        else:
            self._phases = [
                [rise, "initial_lr", "max_lr", "max_momentum", "base_momentum"],
                [total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum"],
            ]
        groups = _groups_of("OneCycleLR", optimizer)
        tops = self._each_group("max_lr", max_lr, len(groups))
        if cycle_momentum:
            defaults = optimizer.defaults
            if "momentum" not in defaults and "betas" not in defaults:
                raise ValueError("OneCycleLR: cycle_momentum=True needs an optimizer with momentum or betas")
            self.use_beta1 = "betas" in defaults
            lows = self._each_group("base_momentum", base_momentum, len(groups))
            highs = self._each_group("max_momentum", max_momentum, len(groups))
        if last_epoch == -1:
            bounds = [(top / div_factor, top, top / div_factor / final_div_factor) for top in tops]
            for number, group in enumerate(groups):
                group["initial_lr"], group["max_lr"], group["min_lr"] = bounds[number]
                if cycle_momentum:
                    self._set_momentum(group, highs[number])
                    group["base_momentum"], group["max_momentum"] = lows[number], highs[number]
        super().__init__(optimizer, last_epoch)

    @staticmethod
    def _each_group(name: str, value: float | list[float], groups: int) -> list[float]:
        if isinstance(value, (list, tuple)):
            if len(value) != groups:
                raise ValueError(
                    f"OneCycleLR: {groups} param groups need {groups} values of {name}, got {len(value)}"
                )
            return list(value)
        return [value] * groups

    def _set_momentum(self, group: Group, value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return start + part * (end - start)
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} is past the end, total_steps={self.total_steps}")
        begin = 0.0
        for phase in self._phases:
            end = phase[0]
            if step <= end or phase is self._phases[-1]:
                break
            begin = end
        part = (step - begin) / (end - begin) if end != begin else 1.0
        groups = [
            group for group in self._groups() if "max_lr" in group
        ]  # those that there were at the start
        rates = [self._between(group[phase[1]], group[phase[2]], part) for group in groups]
        if self.cycle_momentum and len(groups) == len(self._groups()):
            for group in groups:
                self._set_momentum(group, self._between(group[phase[3]], group[phase[4]], part))
        return rates


class SequentialLR(LRScheduler):
    """Schedules one after the other: schedules[i + 1] starts, at its epoch 0,
    when milestones[i] is reached.
    """

    _unsaved = ("optimizer", "_schedulers", "_first")

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        if not schedulers:
            raise ValueError("SequentialLR: schedulers is empty")
        for number, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"SequentialLR: schedulers[{number}] is a {type(scheduler).__name__}")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"SequentialLR: schedulers[{number}] is a ReduceLROnPlateau, which needs a metric to step"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: schedulers[{number}] belongs to another optimizer")
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} milestones, "
                f"got {len(milestones)}"
            )
        self._schedulers = schedulers
        self._milestones = list(milestones)
        self.optimizer = optimizer
        self.last_epoch = last_epoch + 1
        # Each schedule has made its first step already: take those back, then begin with the one for epoch 0.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for scheduler in schedulers:
            scheduler._rewind()
        self._first = schedulers[bisect_right(self._milestones, 0)]
        self._first._begin()
        self._last_lr = self._first.get_last_lr()

    def _rewind(self) -> None:
        self.last_epoch -= 1
        for scheduler in self._schedulers:
            scheduler._rewind()

    def _begin(self) -> None:
        self.last_epoch += 1
        self._first._begin()
        self._last_lr = self._first.get_last_lr()

    @replayed
    def step(self, epoch: int | None = None) -> None:
        """Step the schedule whose turn it is."""
        epoch_now = self.last_epoch + 1 if epoch is None else epoch
        turn = bisect_right(self._milestones, epoch_now)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == epoch_now:
            scheduler.step(0)
        elif epoch is not None:
            scheduler.step(epoch - (self._milestones[turn - 1] if turn else 0))
        else:
            scheduler.step()
        self.last_epoch = epoch_now
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """This schedule's numbers and, under "_schedulers", those of its parts."""
        return {
            **super().state_dict(),
            "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; ValueError before any change."""
        own = dict(state_dict)
        parts = own.pop("_schedulers", [])
        if len(parts) != len(self._schedulers):
            raise ValueError(
                f"SequentialLR.load_state_dict: {len(parts)} schedulers given, there are "
                f"{len(self._schedulers)}"
            )
        before = [dict(scheduler.__dict__) for scheduler in self._schedulers]
        try:
            for scheduler, part in zip(self._schedulers, parts, strict=True):
                scheduler.load_state_dict(part)
            super().load_state_dict(own)
        except BaseException:
            for scheduler, attributes in zip(self._schedulers, before, strict=True):
                scheduler.__dict__.update(attributes)
            raise


class ReduceLROnPlateau(LRScheduler):
    """Times factor when the metric given to `step` has not improved for more than `patience` epochs.

    "Improved" means beyond `threshold`, relative ("rel") or absolute ("abs"), downwards for mode "min".
    After a reduction, `cooldown` epochs do not count; no rate goes below `min_lr`,
    nor changes by less than `eps`.
    """

    _unsaved = ("optimizer", "_least")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        groups = len(_groups_of("ReduceLROnPlateau", optimizer))
        if not factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be < 1, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
            )
        if isinstance(min_lr, (list, tuple)):
            if len(min_lr) != groups:
                raise ValueError(
                    f"ReduceLROnPlateau: {groups} param groups need {groups} values of min_lr, got "
                    f"{len(min_lr)}"
                )
            self.min_lrs = list(min_lr)
            self._least: float | None = None
        else:
            self.min_lrs = [min_lr] * groups
            self._least = min_lr
        self.optimizer = optimizer
        self.factor = factor
        self.patience = patience
        self.cooldown = cooldown
        self.eps = eps
        self.mode = mode
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.last_epoch = 0
        self._last_lr = self._present()
        self._reset()

    def _reset(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether bad epochs do not count at present."""
        return self.cooldown_counter > 0

    def is_better(self, a: float, best: float) -> bool:
        """Whether `a` improves on `best` by more than the threshold."""
        sign = 1.0 if self.mode == "min" else -1.0
        margin = self.threshold * best if self.threshold_mode == "rel" else self.threshold
        return sign * a < sign * best - margin if math.isfinite(best) else sign * a < sign * best

    def step(self, metrics: Any, epoch: int | None = None) -> None:
        """Take note of this epoch's metric, a number or a 0-d tensor."""
        self._note(float(metrics), epoch)

    @replayed
    def _note(self, current: float, epoch: int | None) -> None:
        if len(self.min_lrs) != len(self._groups()):  # a group was added
            if self._least is None:
                raise ValueError(
                    f"ReduceLROnPlateau.step: {len(self.min_lrs)} values of min_lr for {len(self._groups())} param "
                    "groups; set min_lrs"
                )
            self.min_lrs = [self._least] * len(self._groups())
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self._groups(), self.min_lrs, strict=True):
                rate = max(float(group["lr"]) * self.factor, least)
                if float(group["lr"]) - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._present()
