"""Learning-rate schedules: their formulas, resuming, chaining, optimizers that they drive."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.optim import lr_scheduler

Array = np.ndarray[Any, Any]


def optimizer_with(lr: float = 1.0, cls: Any = optim.SGD, **options: Any) -> optim.Optimizer:
    optimizer = cls([nn.Parameter(ts.zeros((1,)))], lr=lr, **options)
    optimizer.step()
    return optimizer


def rates(scheduler: Any, steps: int) -> list[float]:
    seen = [scheduler.get_last_lr()[0]]
    for _ in range(steps):
        scheduler.step()
        seen.append(scheduler.get_last_lr()[0])
        assert scheduler.optimizer.param_groups[0]["lr"] == seen[-1]
    return seen


SCHEDULES: list[tuple[Callable[[Any], Any], Callable[[int], float]]] = [
    (lambda o: lr_scheduler.StepLR(o, 3, 0.5), lambda e: 0.5 ** (e // 3)),
    (lambda o: lr_scheduler.MultiStepLR(o, [5, 2, 5], 0.5), lambda e: 0.5 ** sum(e >= m for m in (2, 5, 5))),
    (lambda o: lr_scheduler.ExponentialLR(o, 0.9), lambda e: 0.9**e),
    (lambda o: lr_scheduler.LambdaLR(o, lambda e: 1 / (1 + e)), lambda e: 1 / (1 + e)),
    (lambda o: lr_scheduler.LinearLR(o, 0.25, 0.75, 4), lambda e: 0.25 + 0.5 * min(e, 4) / 4),
    (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 7, 0.1),
        lambda e: 0.1 + 0.45 * (1 + math.cos(math.pi * e / 7)),
    ),
]


@pytest.mark.parametrize(("make", "formula"), SCHEDULES)
def test_schedule(make: Callable[[Any], Any], formula: Callable[[int], float]) -> None:
    scheduler = make(optimizer_with())
    np.testing.assert_allclose(rates(scheduler, 20), [formula(e) for e in range(21)], rtol=1e-12)
    scheduler.step(4)
    assert math.isclose(scheduler.get_last_lr()[0], formula(4), rel_tol=1e-12)


@pytest.mark.parametrize(("make", "formula"), SCHEDULES)
def test_schedule_resumes(make: Callable[[Any], Any], formula: Callable[[int], float]) -> None:
    first = make(optimizer_with())
    rates(first, 5)
    saved = json.loads(json.dumps(first.state_dict()))
    optimizer = optimizer_with()
    second = make(optimizer)
    optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(saved)
    assert rates(second, 10) == rates(first, 10)
    with pytest.raises(ValueError, match="unknown entries"):
        second.load_state_dict({**saved, "extra": 1})
    for key, value in (("last_epoch", "x"), ("_step_count", None), ("base_lrs", 1.0)):
        with pytest.raises(ValueError, match=f"'{key}' cannot be {value!r}"):
            second.load_state_dict({**saved, key: value})


@pytest.mark.parametrize("number", range(len(SCHEDULES)))
@pytest.mark.parametrize("epochs", [1, 3, 9])
def test_last_epoch_resumes_where_it_was(number: int, epochs: int) -> None:
    """A new optimizer with the rates of the last step, and a schedule made with `last_epoch` one less than it was."""
    make = [
        lambda o, e: lr_scheduler.StepLR(o, 4, 0.5, e),
        lambda o, e: lr_scheduler.MultiStepLR(o, [5, 2, 5], 0.5, e),
        lambda o, e: lr_scheduler.ExponentialLR(o, 0.9, e),
        lambda o, e: lr_scheduler.LambdaLR(o, lambda e: 1 / (1 + e), e),
        lambda o, e: lr_scheduler.LinearLR(o, 0.25, 0.75, 4, e),
        lambda o, e: lr_scheduler.CosineAnnealingLR(o, 7, 0.1, e),
    ][number]
    first = make(optimizer_with(), -1)
    rates(first, epochs)
    optimizer = optimizer_with()
    optimizer.load_state_dict(first.optimizer.state_dict())
    second = make(optimizer, first.last_epoch - 1)
    assert second.last_epoch == first.last_epoch
    np.testing.assert_allclose(rates(second, 5), rates(first, 5), rtol=1e-12)


def test_chained_schedules_multiply() -> None:
    optimizer = optimizer_with()
    a = lr_scheduler.ExponentialLR(optimizer, 0.9)
    b = lr_scheduler.StepLR(optimizer, 2, 0.1)
    for _ in range(4):
        a.step()
        b.step()
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.9**4 * 0.01)


def test_one_cycle() -> None:
    optimizer = optimizer_with(cls=optim.AdamW)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=11, pct_start=0.4)
    seen = rates(scheduler, 10)
    up = [0.04 + 0.96 * (1 - math.cos(math.pi * e / 3.4)) / 2 for e in range(4)]
    np.testing.assert_allclose(seen[:4], up)
    assert math.isclose(seen[10], 0.04 / 1e4)
    assert seen[4] == max(seen)
    assert math.isclose(optimizer.param_groups[0]["betas"][0], 0.95)
    assert optimizer.param_groups[0]["betas"][1] == 0.999
    scheduler.step()
    with pytest.raises(ValueError, match="step 12 is past the end, total_steps=11"):
        scheduler.step()
    three = lr_scheduler.OneCycleLR(
        optimizer_with(momentum=0.9),
        1.0,
        epochs=2,
        steps_per_epoch=10,
        three_phase=True,
        anneal_strategy="linear",
    )
    seen = rates(three, 19)
    assert math.isclose(seen[5], 1.0)
    assert math.isclose(seen[10], 0.04)
    assert math.isclose(three.optimizer.param_groups[0]["momentum"], 0.95)
    with pytest.raises(ValueError, match="give total_steps"):
        lr_scheduler.OneCycleLR(optimizer_with(momentum=0.9), 1.0)
    with pytest.raises(ValueError, match="needs an optimizer with momentum or betas"):
        lr_scheduler.OneCycleLR(optimizer_with(cls=optim.Adagrad), 1.0, total_steps=3)


def test_sequential() -> None:
    optimizer = optimizer_with()
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 4),
        lr_scheduler.ExponentialLR(optimizer, 0.5),
        lr_scheduler.CosineAnnealingLR(optimizer, 3),
    ]
    scheduler = lr_scheduler.SequentialLR(optimizer, parts, [4, 7])
    expected = [0.1 + 0.9 * e / 4 for e in range(4)] + [1.0, 0.5, 0.25] + [1.0, 0.75, 0.25, 0.0]
    np.testing.assert_allclose(rates(scheduler, 10), expected, atol=1e-12)
    saved = json.loads(json.dumps(scheduler.state_dict()))
    scheduler.load_state_dict(saved)
    with pytest.raises(ValueError, match="milestones"):
        lr_scheduler.SequentialLR(optimizer, parts, [4])


def test_plateau() -> None:
    optimizer = optimizer_with()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    seen = []
    for metric in (1.0, 0.9, 0.9, ts.asarray(0.95), 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95):
        scheduler.step(metric)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]
    rising = lr_scheduler.ReduceLROnPlateau(
        optimizer_with(), "max", patience=0, threshold=0.1, threshold_mode="abs"
    )
    for metric in (0.5, 0.55, 0.7):
        rising.step(metric)
    assert rising.optimizer.param_groups[0]["lr"] == 0.1
    assert rising.best == 0.7
    with pytest.raises(ValueError, match="factor must be < 1"):
        lr_scheduler.ReduceLROnPlateau(optimizer, factor=1.0)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_what_counts_as_better(mode: str, threshold_mode: str) -> None:
    torch = pytest.importorskip("torch")
    options = {"mode": mode, "threshold": 0.1, "threshold_mode": threshold_mode}
    ours = lr_scheduler.ReduceLROnPlateau(optimizer_with(), **options)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), **options
    )
    for best in (-2.0, 0.0, 2.0, math.inf, -math.inf):
        for metric in (-2.3, -2.1, -1.9, -1.7, -0.15, 0.05, 0.15, 1.7, 1.9, 2.1, 2.3, math.nan):
            assert ours.is_better(metric, best) == theirs._is_better(metric, best)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [("StepLR", (1,)), ("LambdaLR", (abs,)), ("OneCycleLR", (1.0, 9)), ("ReduceLROnPlateau", ())],
)
def test_what_is_no_optimizer(cls: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=f"{cls}: optimizer must be an Optimizer, got Linear"):
        getattr(lr_scheduler, cls)(nn.Linear(1, 1), *arguments)


def test_a_group_added_later() -> None:
    def grown(make: Callable[[Any], Any]) -> Any:
        scheduler = make(optimizer_with(momentum=0.9))
        scheduler.optimizer.add_param_group({"params": [nn.Parameter(ts.zeros((1,)))]})
        return scheduler

    plateau = grown(lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, min_lr=0.2))
    for _ in range(3):
        plateau.step(1.0)
    assert plateau.get_last_lr() == [0.2, 0.2]
    listed = grown(lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, min_lr=[0.2]))
    with pytest.raises(ValueError, match="1 values of min_lr for 2 param groups"):
        listed.step(1.0)
    for make in (
        lambda o: lr_scheduler.LambdaLR(o, lambda e: 0.5),
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=9),
    ):
        scheduler = grown(make)
        state, groups = dict(scheduler.state_dict()), repr(scheduler.optimizer)
        with pytest.raises(ValueError, match="1 rates for 2 param groups"):
            scheduler.step()
        assert (scheduler.state_dict(), repr(scheduler.optimizer)) == (state, groups)


def test_a_step_or_schedule_that_fails_changes_nothing() -> None:
    optimizer = optimizer_with(cls=optim.Adagrad)
    before = repr(optimizer)
    with pytest.raises(ValueError, match="needs an optimizer with momentum"):
        lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    with pytest.raises(ZeroDivisionError):
        lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9, cycle_momentum=False, div_factor=0)
    assert repr(optimizer) == before
    cycle = lr_scheduler.OneCycleLR(optimizer_with(momentum=0.9), 0.1, total_steps=2)
    sequence = lr_scheduler.SequentialLR(cycle.optimizer, [cycle], [])
    sequence.step()
    sequence.step()
    state = json.loads(json.dumps(sequence.state_dict()))
    with pytest.raises(ValueError, match="past the end"):
        sequence.step()
    assert json.loads(json.dumps(sequence.state_dict())) == state


def test_stepping_before_the_optimizer_warns() -> None:
    scheduler = lr_scheduler.StepLR(optim.SGD([nn.Parameter(ts.zeros((1,)))], lr=1.0), 2)
    with pytest.warns(UserWarning, match=r"before optimizer\.step"):
        scheduler.step()
