"""Learning-rate schedules: each changes `lr` in the optimizer's groups when its `step()` is called.

Formulas, argument order, attributes and chaining (several schedules on one optimizer multiply) are PyTorch's.
`state_dict` holds plain numbers and lists only, so it can go into any file.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tensorsmith.jit import replayed
from tensorsmith.nn import _checks
from tensorsmith.optim.optimizer import Group, Optimizer, number


def _groups_of(name: str, optimizer: Any) -> list[Group]:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: optimizer must be an Optimizer, got {type(optimizer).__name__}")
    return optimizer.param_groups


@contextmanager
def _all_or_nothing(groups: list[Group], *schedulers: LRScheduler) -> Iterator[None]:
    """The groups' values and the schedules' attributes are as before if the block fails."""
    before = [dict(group) for group in groups], [dict(scheduler.__dict__) for scheduler in schedulers]
    try:
        yield
    except BaseException:
        objects = [*groups, *(scheduler.__dict__ for scheduler in schedulers)]
        for values, earlier in zip(objects, [*before[0], *before[1]], strict=True):
            values.clear()
            values.update(earlier)
        raise


def _finite(name: str, key: str, value: Any) -> float:
    """`value`, which must be a finite number."""
    if not math.isfinite(number(name, {key: value}, key)):
        raise ValueError(f"{name}: {key} must be finite, got {value!r}")
    return float(value) if not isinstance(value, (int, float)) else value


def _each_group(name: str, key: str, value: Any, groups: int) -> list[float]:
    """A number >= 0 for each group, from one for all or a list."""
    if not isinstance(value, (list, tuple)):
        value = [value] * groups
    if len(value) != groups:
        raise ValueError(f"{name}: {groups} param groups need {groups} values of {key}, got {len(value)}")
    return [_checks.at_least(name, key, _finite(name, key, entry)) for entry in value]


def _functions(name: str, lr_lambda: Any, groups: int) -> list[Callable[[int], float]]:
    """A function for each group, from one for all or a list."""
    functions = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * groups
    if len(functions) != groups:
        raise ValueError(f"{name}: {groups} param groups need {groups} functions, got {len(functions)}")
    for function in functions:
        if not callable(function):
            raise TypeError(f"{name}: lr_lambda must be a function, got {type(function).__name__}")
    return functions


def _of_pytorch_alone(key: str, value: Any) -> bool:
    """Whether an entry of PyTorch's state_dict says nothing that is needed here: bookkeeping, and functions, which are
    not saved.
    """
    if key in ("lr_lambdas", "_scale_fn_custom"):
        return value is None or (isinstance(value, (list, tuple)) and set(value) <= {None})
    return key in ("_get_lr_called_within_step", "_is_initial", "default_min_lr", "mode_worse", "verbose")


def _set_momentum(group: Group, beta1: bool, value: float) -> None:
    if beta1:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


class LRScheduler:
    """Base: a subclass defines `get_lr()`, the rates for `self.last_epoch`, from the groups' present rates.

    `last_epoch` counts the calls of `step`; -1 starts afresh, anything else resumes and needs `initial_lr`
    in every group. Making a schedule counts one call, so the last_epoch to resume with is one less than it was; rates
    that follow from those before are then the groups' present ones, as in PyTorch.
    """

    _unsaved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        groups = _groups_of(self._name, optimizer)
        _checks.integer(self._name, "last_epoch", last_epoch, -1)
        self.optimizer = optimizer
        with _all_or_nothing(groups):
            for place, group in enumerate(groups):
                if last_epoch == -1:
                    group.setdefault("initial_lr", _finite(self._name, "lr", group["lr"]))
                elif "initial_lr" not in group:
                    raise KeyError(
                        f"{self._name}: last_epoch={last_epoch} resumes, but group {place} has no 'initial_lr'"
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
        if epoch is not None:
            _finite(f"{self._name}.step", "epoch", epoch)
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
        """Take over a `state_dict`, ours or PyTorch's; ValueError names unknown or missing ones before any change."""
        known = set(self.__dict__) - set(self._unsaved)
        state_dict = {key: value for key, value in state_dict.items() if not _of_pytorch_alone(key, value)}
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
        self.lr_lambdas = _functions(self._name, lr_lambda, len(_groups_of(self._name, optimizer)))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base * rate(self.last_epoch) for base, rate in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class MultiplicativeLR(LambdaLR):
    """Times lr_lambda(epoch) in each epoch from 1; a list gives each group a function of its own.

    There is no closed form: a jump to an epoch multiplies the present rate by that epoch's factor, as in PyTorch.
    """

    def get_lr(self) -> list[float]:
        if self._initial:
            return self._present()
        # A group that was added has no function: `step` counts the rates.
        return [
            lr * rate(self.last_epoch) for lr, rate in zip(self._present(), self.lr_lambdas, strict=False)
        ]


class StepLR(LRScheduler):
    """Times gamma every step_size epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = _checks.integer("StepLR", "step_size", step_size)
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

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict`, ours or PyTorch's, which counts the milestones; ValueError before any change."""
        state = dict(state_dict)
        if isinstance(state.get("milestones"), Counter):
            state["milestones"] = sorted(state["milestones"].elements())
        super().load_state_dict(state)

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


class ConstantLR(LRScheduler):
    """Times factor for the first total_iters epochs. After factor 0, what follows is the initial lr."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 <= number("ConstantLR", {"factor": factor}, "factor") <= 1:
            raise ValueError(f"ConstantLR: factor must be in [0, 1], got {factor}")
        self.factor = factor
        self.total_iters = _checks.integer("ConstantLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.factor for lr in self._present()]
        if self._initial or self.last_epoch != self.total_iters:
            return self._present()
        if self.factor == 0:
            return list(self.base_lrs)
        return [lr * (1.0 / self.factor) for lr in self._present()]

    def _rates_at(self, epoch: int) -> list[float]:
        return [base * (self.factor if epoch < self.total_iters else 1.0) for base in self.base_lrs]


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


class PolynomialLR(LRScheduler):
    """initial lr (1 - epoch / total_iters)^power for total_iters epochs, then 0; power must be >= 0."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = _checks.integer("PolynomialLR", "total_iters", total_iters)
        self.power = _checks.at_least("PolynomialLR", "power", _finite("PolynomialLR", "power", power))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._initial or self.last_epoch > self.total_iters:
            return self._present()
        ratio = (1 - self.last_epoch / self.total_iters) / (1 - (self.last_epoch - 1) / self.total_iters)
        return [lr * ratio**self.power for lr in self._present()]

    def _rates_at(self, epoch: int) -> list[float]:
        part: float = (1 - min(self.total_iters, epoch) / self.total_iters) ** self.power
        return [base * part for base in self.base_lrs]


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


class CosineAnnealingWarmRestarts(LRScheduler):
    """eta_min + (initial lr - eta_min) (1 + cos(pi T_cur / T_i)) / 2, again and again (Loshchilov & Hutter 2016).

    T_cur counts the epochs since the last restart; T_i, the epochs until the next, is T_0 at first and T_mult times as
    long after each. A jump may go to a part of an epoch, `step(epoch + i / batches)`: `last_epoch` is its whole part.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0 = _checks.integer("CosineAnnealingWarmRestarts", "T_0", T_0)
        self.T_i = self.T_0
        self.T_mult = _checks.integer("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        self.eta_min = _finite("CosineAnnealingWarmRestarts", "eta_min", eta_min)
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        part = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * part for base in self.base_lrs]

    def _place(self, epoch: float) -> tuple[float, int]:
        """T_cur and T_i at `epoch`."""
        if self.T_mult == 1:
            return epoch % self.T_0, self.T_0
        span = self.T_0
        while epoch >= span:
            epoch -= span
            span *= self.T_mult
        return epoch, span

    @replayed
    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or jump to `epoch`, which need not be whole. ValueError for a negative one."""
        if epoch is not None:
            _checks.at_least(
                "CosineAnnealingWarmRestarts.step", "epoch", _finite(f"{self._name}.step", "epoch", epoch)
            )
        with _all_or_nothing([], self):
            if epoch is not None:
                self.T_cur, self.T_i = self._place(epoch)
            elif self._step_count == 0:
                self.T_cur, self.T_i = self._place(self.last_epoch + 1)
            else:
                self.T_cur += 1
                if self.T_cur >= self.T_i:
                    self.T_cur %= self.T_i
                    self.T_i *= self.T_mult
            super().step(None if epoch is None else math.floor(epoch))


class CyclicLR(LRScheduler):
    """From base_lr up to max_lr and down again, one batch a step, for ever (Smith 2017).

    step_size_up steps up, step_size_down (None: as many) down. mode: "triangular", "triangular2" (each cycle half as
    high) or "exp_range" (the height times gamma^step); or give `scale_fn`, what the height is multiplied by, of the
    cycle, from 1, (scale_mode "cycle") or of the step ("iterations"). momentum (or Adam's beta1) goes the other way.
    It starts at base_lr also where another schedule was made first; PyTorch's then starts at that one's initial lr.
    """

    _unsaved = ("optimizer", "_scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        groups = _groups_of("CyclicLR", optimizer)
        base_lrs = _each_group("CyclicLR", "base_lr", base_lr, len(groups))
        self.max_lrs = _each_group("CyclicLR", "max_lr", max_lr, len(groups))
        up = _checks.more_than("CyclicLR", "step_size_up", _finite("CyclicLR", "step_size_up", step_size_up))
        down = up if step_size_down is None else _finite("CyclicLR", "step_size_down", step_size_down)
        _checks.at_least("CyclicLR", "step_size_down", down)
        self.total_size = float(up + down)
        self.step_ratio = up / self.total_size
        if scale_fn is None:
            _checks.choice("CyclicLR", "mode", mode, ("triangular", "triangular2", "exp_range"))
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        elif not callable(scale_fn):
            raise TypeError(f"CyclicLR: scale_fn must be a function, got {type(scale_fn).__name__}")
        self.mode = mode
        self.gamma = _finite("CyclicLR", "gamma", gamma)
        self.scale_mode = _checks.choice("CyclicLR", "scale_mode", scale_mode, ("cycle", "iterations"))
        self._scale_fn = scale_fn
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
                raise ValueError("CyclicLR: cycle_momentum=True needs an optimizer with momentum or betas")
            self.use_beta1 = "betas" in optimizer.defaults
            self.base_momentums = _each_group("CyclicLR", "base_momentum", base_momentum, len(groups))
            self.max_momentums = _each_group("CyclicLR", "max_momentum", max_momentum, len(groups))
        with _all_or_nothing(groups):
            if last_epoch == -1:
                for place, group in enumerate(groups):
                    group["lr"] = base_lrs[place]
                    if cycle_momentum:
                        group["base_momentum"] = self.base_momentums[place]
                        group["max_momentum"] = self.max_momentums[place]
            super().__init__(optimizer, last_epoch)
            self.base_lrs = base_lrs  # also where an earlier schedule began elsewhere
            self._last_lr = self.get_lr()
            for group, rate in zip(groups, self._last_lr, strict=True):
                group["lr"] = rate

    def scale_fn(self, x: float) -> float:
        """What the height of a cycle is multiplied by; x: the cycle, from 1, or the step, as `scale_mode` says."""
        if self._scale_fn is not None:
            return self._scale_fn(x)
        if self.mode == "triangular":
            return 1.0
        return float(0.5 ** (x - 1) if self.mode == "triangular2" else self.gamma**x)

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        part = 1 + self.last_epoch / self.total_size - cycle
        height = part / self.step_ratio if part <= self.step_ratio else (part - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        rates = [
            low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)
        ]
        if self.cycle_momentum and len(rates) == len(self._groups()):
            lows, highs = self.base_momentums, self.max_momentums
            for group, low, high in zip(self._groups(), lows, highs, strict=True):
                _set_momentum(group, self.use_beta1, high - (high - low) * height * scale)
        return rates


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
        tops = _each_group("OneCycleLR", "max_lr", max_lr, len(groups))
        if cycle_momentum:
            defaults = optimizer.defaults
            if "momentum" not in defaults and "betas" not in defaults:
                raise ValueError("OneCycleLR: cycle_momentum=True needs an optimizer with momentum or betas")
            self.use_beta1 = "betas" in defaults
            lows = _each_group("OneCycleLR", "base_momentum", base_momentum, len(groups))
            highs = _each_group("OneCycleLR", "max_momentum", max_momentum, len(groups))
        with _all_or_nothing(groups):
            if last_epoch == -1:
                bounds = [(top / div_factor, top, top / div_factor / final_div_factor) for top in tops]
                for place, group in enumerate(groups):
                    group["initial_lr"], group["max_lr"], group["min_lr"] = bounds[place]
                    if cycle_momentum:
                        _set_momentum(group, self.use_beta1, highs[place])
                        group["base_momentum"], group["max_momentum"] = lows[place], highs[place]
            super().__init__(optimizer, last_epoch)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict`, ours or PyTorch's; ValueError before any change."""
        state = dict(state_dict)
        if "_schedule_phases" in state:  # PyTorch's names
            names = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
            state["_phases"] = [[phase[name] for name in names] for phase in state.pop("_schedule_phases")]
            state["anneal_strategy"] = state.pop("_anneal_func_type")
        super().load_state_dict(state)

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
                _set_momentum(group, self.use_beta1, self._between(group[phase[3]], group[phase[4]], part))
        return rates


class _Several(LRScheduler):
    """A schedule made of others, which have stepped once already."""

    _unsaved: tuple[str, ...] = ("optimizer", "_schedulers")
    _schedulers: list[LRScheduler]

    def _parts(self, schedulers: Any, optimizer: Any) -> list[LRScheduler]:
        """The schedules that were given; optimizer: whose they must be, None for the first one's."""
        if not isinstance(schedulers, (list, tuple)):
            raise TypeError(f"{self._name}: schedulers must be a list, got {type(schedulers).__name__}")
        if not schedulers:
            raise ValueError(f"{self._name}: schedulers is empty")
        for place, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"{self._name}: schedulers[{place}] is a {type(scheduler).__name__}")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{self._name}: schedulers[{place}] is a ReduceLROnPlateau, which needs a metric to step"
                )
            if optimizer is None:
                optimizer = scheduler.optimizer
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{self._name}: schedulers[{place}] belongs to another optimizer")
        return list(schedulers)

    def _all(self) -> list[LRScheduler]:
        """This schedule, its parts, and theirs."""
        return [self, *(one for part in self._schedulers for one in _with_parts(part))]

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
        if not isinstance(parts, (list, tuple)) or len(parts) != len(self._schedulers):
            given = len(parts) if isinstance(parts, (list, tuple)) else repr(parts)
            raise ValueError(
                f"{self._name}.load_state_dict: {given} schedulers given, there are {len(self._schedulers)}"
            )
        with _all_or_nothing([], *self._all()):
            for scheduler, part in zip(self._schedulers, parts, strict=True):
                scheduler.load_state_dict(part)
            super().load_state_dict(own)


def _with_parts(scheduler: LRScheduler) -> list[LRScheduler]:
    return scheduler._all() if isinstance(scheduler, _Several) else [scheduler]


class SequentialLR(_Several):
    """Schedules one after the other: schedules[i + 1] starts, at its epoch 0,
    when milestones[i] is reached.
    """

    _unsaved = ("optimizer", "_schedulers", "_first")

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        schedulers = self._parts(schedulers, optimizer)
        for place, scheduler in enumerate(schedulers[1:], 1):
            if any(isinstance(one, ChainedScheduler) for one in _with_parts(scheduler)):
                raise ValueError(
                    f"SequentialLR: schedulers[{place}] is a ChainedScheduler, which cannot start again at epoch 0; "
                    "put it first, or chain the sequences"
                )
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
        with _all_or_nothing(optimizer.param_groups, *self._all()):
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


class ChainedScheduler(_Several):
    """Schedules that step together, in their order: those that multiply the present rate do so one after the other.

    optimizer: theirs, checked if given. A step that fails in one of them leaves all, and the rates, as they were.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if optimizer is not None:
            _groups_of("ChainedScheduler", optimizer)
        self._schedulers = self._parts(schedulers, optimizer)
        self.optimizer = self._schedulers[0].optimizer
        self._last_lr = self._present()

    def _rewind(self) -> None:
        for scheduler in self._schedulers:
            scheduler._rewind()

    def _begin(self) -> None:
        for scheduler in self._schedulers:
            scheduler._begin()
        self._last_lr = self._present()

    @replayed
    def step(self) -> None:
        """Step each schedule once."""
        with _all_or_nothing(self.optimizer.param_groups, *self._all()):
            for scheduler in self._schedulers:
                scheduler.step()
            self._last_lr = self._present()


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
