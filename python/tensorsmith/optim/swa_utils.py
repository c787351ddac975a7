"""Averages of a model's parameters along its training, and the schedule that goes with them.

Stochastic weight averaging (Izmailov et al. 2018): avg += (p - avg) / (n + 1). Exponential moving average (Polyak &
Juditsky 1992): avg += (1 - decay) (p - avg). Either is one kernel call for all parameters of a dtype, which reads each
twice and writes one: a step of SGD whose rate is the weight. Names, arguments and state are PyTorch's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorsmith as ts
from tensorsmith.jit import replayed
from tensorsmith.nn import _checks
from tensorsmith.nn.module import Module
from tensorsmith.nn.norm import _BatchNorm, _InstanceNorm
from tensorsmith.ops.optim import sgd
from tensorsmith.optim.lr_scheduler import LRScheduler, _all_or_nothing, _each_group, _groups_of
from tensorsmith.optim.optimizer import Optimizer, number
from tensorsmith.tensor import Tensor

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


def _alike(tensors: Sequence[Tensor]) -> list[list[int]]:
    """The places of tensors that share a dtype and a device."""
    places: dict[Any, list[int]] = {}
    for place, tensor in enumerate(tensors):
        places.setdefault((tensor.dtype, tensor.device), []).append(place)
    return list(places.values())


def _towards(averages: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """average += weight (value - average), in place; integers are cut, as PyTorch's are."""
    if len(averages) != len(values):
        raise ValueError(f"average: {len(averages)} averages and {len(values)} values")
    with ts.no_grad():
        for places in _alike(averages):
            old, new = [averages[i].detach() for i in places], [values[i].detach() for i in places]
            if weight == 1.0:
                for average, value in zip(old, new, strict=True):
                    average.copy_(value)
            elif ts.isdtype(old[0].dtype, "real floating"):
                # SGD with weight decay 1 on the gradient -value: p -= weight (p - value).
                hyper = ts.asarray([weight, 1.0, -1.0, 0.0, 0.0], dtype=ts.float64, device=old[0].device)
                sgd(old, new, None, None, hyper)
            elif ts.isdtype(old[0].dtype, "complex floating"):
                for average, value in zip(old, new, strict=True):
                    average.copy_(average + (value - average) * weight)
            else:
                for average, value in zip(old, new, strict=True):
                    start = average.astype(ts.float64)
                    average.copy_((start + (value.astype(ts.float64) - start) * weight).astype(average.dtype))


def _checked_decay(name: str, decay: float) -> float:
    return _checks.probability(name, "decay", number(name, {"decay": decay}, "decay"))


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """The function that moves lists of averages by (1 - decay) (value - average), in place.

    ValueError unless decay is in [0, 1].
    """
    weight = 1 - _checked_decay("get_ema_multi_avg_fn", decay)

    def ema_update(
        ema_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor], num_averaged: Any
    ) -> None:
        _towards(ema_param_list, current_param_list, weight)

    return ema_update


def get_swa_multi_avg_fn() -> MultiAverage:
    """The function that moves lists of averages by (value - average) / (num_averaged + 1), in place."""

    def swa_update(
        averaged_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor], num_averaged: Any
    ) -> None:
        _towards(averaged_param_list, current_param_list, 1 / (float(num_averaged) + 1))

    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The function of (average, value, count) that returns decay average + (1 - decay) value.

    ValueError unless decay is in [0, 1].
    """
    decay = _checked_decay("get_ema_avg_fn", decay)

    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        with ts.no_grad():
            return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> Average:
    """The function of (average, value, count) that returns average + (value - average) / (count + 1)."""

    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        with ts.no_grad():
            return averaged_param + (current_param - averaged_param) / (float(num_averaged) + 1)

    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of those that the model had.

    The first `update_parameters` copies, later ones average: with `multi_avg_fn(averages, values, count)`, which
    changes lists of one dtype in place, or `avg_fn(average, value, count)`, which returns the new average; by default
    the mean of all. Buffers are averaged with `use_buffers`, else copied. Calls go to the copy.

    Args:
        model: any `Module`; it is copied, not changed.
        device: where the averages lie; the model's device if None.

    `state_dict` has `n_averaged`, an int64, and the copy's entries under `module.`
    """

    n_averaged: Tensor
    module: Module

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel: model must be a Module, got {type(model).__name__}")
        for name, function in (("avg_fn", avg_fn), ("multi_avg_fn", multi_avg_fn)):
            if function is not None and not callable(function):
                raise TypeError(f"AveragedModel: {name} must be a function, got {type(function).__name__}")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: give avg_fn or multi_avg_fn, not both")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", ts.zeros((), dtype=ts.int64, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @replayed
    def update_parameters(self, model: Module) -> None:
        """Take the model's present parameters into the averages.

        ValueError, before any change, where its parameters or buffers are not those of the copy.
        """
        if not isinstance(model, Module):
            raise TypeError(f"update_parameters: model must be a Module, got {type(model).__name__}")
        parameters = self._pairs("parameters", self.module.named_parameters(), model.named_parameters())
        buffers = self._pairs("buffers", self.module.named_buffers(), model.named_buffers())
        averaged, copied = (parameters + buffers, []) if self.use_buffers else (parameters, buffers)
        with ts.no_grad():
            if float(self.n_averaged) == 0:
                copied = averaged + copied
            elif averaged:
                self._average([average for average, _ in averaged], [value for _, value in averaged])
            for average, value in copied:
                average.copy_(value)
            self.n_averaged.add_(1)

    @staticmethod
    def _pairs(
        kind: str, mine: Iterable[tuple[str, Tensor]], given: Iterable[tuple[str, Tensor]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Each average with the value that it takes in, cast and moved to where it lies."""
        averages, values = list(mine), list(given)
        if len(averages) != len(values):
            raise ValueError(
                f"update_parameters: the model has {len(values)} {kind}, the averaged one {len(averages)}"
            )
        pairs = []
        for (name, average), (_, value) in zip(averages, values, strict=True):
            if average.shape != value.shape:
                raise ValueError(
                    f"update_parameters: {name} has shape {tuple(value.shape)}, its average {tuple(average.shape)}"
                )
            if average._read_only:
                raise ValueError(f"update_parameters: the average of {name} is read-only")
            pairs.append((average.detach(), value.detach().to(dtype=average.dtype, device=average.device)))
        return pairs

    def _average(self, averages: list[Tensor], values: list[Tensor]) -> None:
        if self.avg_fn is not None:
            count = self.n_averaged
            results = [
                self.avg_fn(average, value, count) for average, value in zip(averages, values, strict=True)
            ]
            for average, result in zip(averages, results, strict=True):
                if not isinstance(result, Tensor) or result.shape != average.shape:
                    shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
                    raise ValueError(
                        f"avg_fn must return a tensor of shape {tuple(average.shape)}, got {shape}"
                    )
            for average, result in zip(averages, results, strict=True):
                average.copy_(result.astype(average.dtype))
            return
        function = self.multi_avg_fn or get_swa_multi_avg_fn()
        for places in _alike(averages):
            function([averages[i] for i in places], [values[i] for i in places], self.n_averaged)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Measure the running statistics of the model's batch norms afresh: one pass over `loader`, in training mode,
    without gradients; every batch counts alike.

    A batch is the input or a list or tuple that begins with it; it is moved to `device` if given. Each layer's mode and
    momentum are as before in the end, and if a batch fails, so are the statistics. Nothing is done without batch norms.
    """
    if not isinstance(model, Module):
        raise TypeError(f"update_bn: model must be a Module, got {type(model).__name__}")
    if not isinstance(loader, Iterable):
        raise TypeError(f"update_bn: loader must be an iterable of batches, got {type(loader).__name__}")
    modules = list(model.modules())
    norms = [m for m in modules if isinstance(m, _BatchNorm) and not isinstance(m, _InstanceNorm)]
    if not norms:
        return
    modes = [module.training for module in modules]
    momenta = [norm.momentum for norm in norms]
    before = [
        [(buffer, buffer.copy()) for buffer in norm._buffers.values() if buffer is not None] for norm in norms
    ]
    with ts.no_grad():
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
            model.train()
            for batch in loader:
                first = batch[0] if isinstance(batch, (list, tuple)) else batch
                model(first.to(device) if device is not None else first)
        except BaseException:
            for buffers in before:
                for buffer, value in buffers:
                    buffer.copy_(value)
            raise
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode


class SWALR(LRScheduler):
    """From the present rate to swa_lr within anneal_epochs, then constant; anneal_strategy: "cos" or "linear".

    swa_lr: a number, or a list with one for each group; it is kept in the groups. A jump to epoch 0 starts from the
    present rates, one elsewhere steps, as in PyTorch: there is no closed form.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        groups = _groups_of("SWALR", optimizer)
        rates = _each_group("SWALR", "swa_lr", swa_lr, len(groups))
        self._anneal_strategy = _checks.choice("SWALR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.anneal_epochs = _checks.integer("SWALR", "anneal_epochs", anneal_epochs, 0)
        with _all_or_nothing(groups):
            for group, rate in zip(groups, rates, strict=True):
                group["swa_lr"] = rate
            super().__init__(optimizer, last_epoch)

    def anneal_func(self, t: float) -> float:
        """How much of the way is gone at t, in [0, 1]."""
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[float]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = (
            self.anneal_func(max(0.0, min(1.0, s / max(1, self.anneal_epochs)))) for s in (step - 1, step)
        )
        rates = []
        for group in self._groups():
            if "swa_lr" not in group:  # added later: `step` counts the rates
                continue
            end, rate = group["swa_lr"], float(group["lr"])
            start = end if before == 1 else (rate - before * end) / (1 - before)
            rates.append(end * now + start * (1 - now))
        return rates

    def _rates_at(self, epoch: int) -> list[float]:
        if epoch == 0:
            self._step_count = 1
        return self.get_lr()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; ValueError before any change."""
        if "_anneal_strategy" in state_dict:
            _checks.choice(
                "SWALR.load_state_dict",
                "_anneal_strategy",
                state_dict["_anneal_strategy"],
                ("cos", "linear"),
            )
        super().load_state_dict(state_dict)
