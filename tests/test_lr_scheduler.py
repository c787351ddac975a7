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
    (lambda o: lr_scheduler.ConstantLR(o, 0.25, 4), lambda e: 0.25 if e < 4 else 1.0),
    (lambda o: lr_scheduler.ConstantLR(o, 0.0, 4), lambda e: float(e >= 4)),
    (lambda o: lr_scheduler.PolynomialLR(o, 9, 0.7), lambda e: (1 - min(e, 9) / 9) ** 0.7),
    (
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 3, 0.1),
        lambda e: (
            0.1
            + 0.45 * (1 + math.cos(math.pi * (e / 2 if e < 2 else (e - 2) / 6 if e < 8 else (e - 8) / 18)))
        ),
    ),
    (
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.9, 2, 3, cycle_momentum=False),
        lambda e: 0.1 + 0.8 * min(e % 5 / 2, (5 - e % 5) / 3),
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
        lambda o, e: lr_scheduler.ConstantLR(o, 0.25, 3, e),
        lambda o, e: lr_scheduler.ConstantLR(o, 0.0, 4, e),
        lambda o, e: lr_scheduler.PolynomialLR(o, 9, 0.7, e),
        lambda o, e: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 3, 0.1, e),
        lambda o, e: lr_scheduler.CyclicLR(o, 0.1, 0.9, 2, 3, cycle_momentum=False, last_epoch=e),
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


def test_multiplicative() -> None:
    optimizer = optimizer_with()
    scheduler = lr_scheduler.MultiplicativeLR(optimizer, lambda e: 1 / (1 + e))
    np.testing.assert_allclose(rates(scheduler, 6), [1 / math.factorial(e + 1) for e in range(7)])
    scheduler.step(4)
    assert math.isclose(optimizer.param_groups[0]["lr"], 1 / math.factorial(7) / 5)
    second = lr_scheduler.MultiplicativeLR(optimizer, abs, last_epoch=3)
    assert second.last_epoch == 4 and second.get_last_lr() == scheduler.get_last_lr()
    assert "lr_lambdas" not in json.loads(json.dumps(second.state_dict()))


def test_warm_restarts_within_epochs() -> None:
    """A jump lands where steps do, also at the very restarts, and may land between two."""
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer_with(), 1, 3)
    seen = rates(scheduler, 200)
    for epoch, rate in enumerate(seen):
        scheduler.step(epoch)
        assert scheduler.get_last_lr() == [rate] and scheduler.last_epoch == epoch
    assert [e for e in range(200) if seen[e] == 1] == [0, 1, 4, 13, 40, 121]
    scheduler.step(2.5)
    assert math.isclose(scheduler.get_last_lr()[0], 0.5) and scheduler.last_epoch == 2
    scheduler.step()
    assert scheduler.last_epoch == 3 and scheduler.T_cur == 2.5
    state = dict(scheduler.state_dict())
    for epoch, error in ((-1, ValueError), (math.nan, ValueError), ("x", TypeError)):
        with pytest.raises(error, match="epoch must be"):
            scheduler.step(epoch)
    assert scheduler.state_dict() == state


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range", "cycle", "iterations"])
def test_cyclic(mode: str) -> None:
    optimizer = optimizer_with(cls=optim.Adam)
    options: dict[str, Any] = {"mode": mode, "gamma": 0.9}
    if mode in ("cycle", "iterations"):
        options = {"scale_fn": lambda x: 1 / (1 + x), "scale_mode": mode}
    scheduler = lr_scheduler.CyclicLR(optimizer, 0.1, 0.5, 2, 4, **options)
    for step in range(20):
        height = min(step % 6 / 2, (6 - step % 6) / 4)
        cycle = 1 + step // 6
        height *= {
            "triangular": 1.0,
            "triangular2": 0.5 ** (cycle - 1),
            "exp_range": 0.9**step,
            "cycle": 1 / (1 + cycle),
            "iterations": 1 / (1 + step),
        }[mode]
        assert math.isclose(optimizer.param_groups[0]["lr"], 0.1 + 0.4 * height)
        assert math.isclose(optimizer.param_groups[0]["betas"][0], 0.9 - 0.1 * height)
        scheduler.step()
    assert optimizer.param_groups[0]["betas"][1] == 0.999


def test_a_cycle_after_another_schedule_starts_at_its_base() -> None:
    optimizer = optimizer_with()
    lr_scheduler.ExponentialLR(optimizer, 0.5)
    scheduler = lr_scheduler.CyclicLR(optimizer, 0.1, 0.5, 2, cycle_momentum=False)
    np.testing.assert_allclose(rates(scheduler, 4), [0.1, 0.3, 0.5, 0.3, 0.1])


def test_chained() -> None:
    optimizer = optimizer_with()
    parts = [lr_scheduler.ConstantLR(optimizer, 0.1, 3), lr_scheduler.ExponentialLR(optimizer, 0.5)]
    scheduler = lr_scheduler.ChainedScheduler(parts, optimizer)
    expected = [(0.1 if e < 3 else 1) * 0.5**e for e in range(6)]
    np.testing.assert_allclose(rates(scheduler, 5), expected)
    saved = json.loads(json.dumps(scheduler.state_dict()))
    assert list(saved) == ["_last_lr", "_schedulers"]
    other = optimizer_with()
    again = lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(other, 0.1, 3), lr_scheduler.ExponentialLR(other, 0.5)]
    )
    other.load_state_dict(optimizer.state_dict())
    again.load_state_dict(saved)
    assert rates(again, 4) == rates(scheduler, 4)
    for bad in (
        {**saved, "_schedulers": saved["_schedulers"][:1]},
        {**saved, "_schedulers": 3},
        {**saved, "x": 1},
    ):
        with pytest.raises(ValueError, match=r"ChainedScheduler\.load_state_dict"):
            again.load_state_dict(bad)
    with pytest.raises(ValueError, match=r"ExponentialLR\.load_state_dict: unknown"):
        again.load_state_dict({**saved, "_schedulers": [saved["_schedulers"][0]] * 2})
    with pytest.raises(ValueError, match=r"schedulers\[1\] belongs to another optimizer"):
        lr_scheduler.ChainedScheduler([parts[0], again])
    with pytest.raises(ValueError, match="cannot start again at epoch 0"):
        lr_scheduler.SequentialLR(optimizer, [parts[0], scheduler], [3])
    fresh = optimizer_with()
    chain = lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(fresh, 0.1, 3), lr_scheduler.ExponentialLR(fresh, 0.5)]
    )
    first = lr_scheduler.SequentialLR(fresh, [chain, lr_scheduler.StepLR(fresh, 1, 0.5)], [4])
    np.testing.assert_allclose(rates(first, 6), [*expected[:4], 1, 0.5, 0.25])


def test_a_chain_that_fails_changes_nothing() -> None:
    optimizer = optimizer_with(momentum=0.9)
    parts = [
        lr_scheduler.ExponentialLR(optimizer, 0.5),
        lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=2),
    ]
    scheduler = lr_scheduler.ChainedScheduler(parts)
    scheduler.step(), scheduler.step()
    state, groups = json.dumps(scheduler.state_dict()), repr(optimizer)
    with pytest.raises(ValueError, match="past the end"):
        scheduler.step()
    assert (json.dumps(scheduler.state_dict()), repr(optimizer)) == (state, groups)


def fails(x: float) -> float:
    raise KeyError(x)


JUNK: list[tuple[str, tuple[Any, ...], type[Exception], str]] = [
    ("ConstantLR", (2.0,), ValueError, r"factor must be in \[0, 1\], got 2.0"),
    ("ConstantLR", ("x",), TypeError, "factor must be a number, got 'x'"),
    ("ConstantLR", (0.5, 0), ValueError, "total_iters must be >= 1, got 0"),
    ("ConstantLR", (0.5, 4, "x"), TypeError, "last_epoch must be an integer"),
    ("ConstantLR", (0.5, 4, -2), ValueError, "last_epoch must be >= -1, got -2"),
    ("MultiplicativeLR", (0.5,), TypeError, "lr_lambda must be a function, got float"),
    ("MultiplicativeLR", ([abs, abs],), ValueError, "1 param groups need 1 functions, got 2"),
    ("PolynomialLR", (2.5,), TypeError, "total_iters must be an integer, got float 2.5"),
    ("PolynomialLR", (5, -1), ValueError, "power must be >= 0, got -1"),
    ("PolynomialLR", (5, math.nan), ValueError, "power must be finite, got nan"),
    ("CosineAnnealingWarmRestarts", (0,), ValueError, "T_0 must be >= 1, got 0"),
    ("CosineAnnealingWarmRestarts", (2, 1.5), TypeError, "T_mult must be an integer, got float 1.5"),
    ("CosineAnnealingWarmRestarts", (2, 1, None), TypeError, "eta_min must be a number, got None"),
    ("CyclicLR", (0.1, "x"), TypeError, "max_lr must be a number, got 'x'"),
    ("CyclicLR", ([0.1, 0.2], 0.3), ValueError, "1 param groups need 1 values of base_lr, got 2"),
    ("CyclicLR", (0.1, 0.3, 0), ValueError, "step_size_up must be > 0, got 0"),
    ("CyclicLR", (0.1, 0.3, 2, -1), ValueError, "step_size_down must be >= 0, got -1"),
    ("CyclicLR", (0.1, 0.3, 2, 2, "square"), ValueError, "mode must be one of 'triangular', .* got 'square'"),
    ("CyclicLR", (0.1, 0.3, 2, 2, "", 1.0, 3), TypeError, "scale_fn must be a function, got int"),
    ("CyclicLR", (0.1, 0.3, 2, 2, "", 1.0, abs, "x"), ValueError, "scale_mode must be one of 'cycle', 'iterations'"),
    ("CyclicLR", (0.1, 0.3), ValueError, "cycle_momentum=True needs an optimizer with momentum or betas"),
    ("OneCycleLR", ("x", 9), TypeError, "max_lr must be a number, got 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "error", "message"), JUNK)
def test_junk_is_refused_by_name(
    name: str, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    optimizer = optimizer_with(cls=optim.Adagrad)
    before = repr(optimizer)
    with pytest.raises(error, match=f"{name}: {message}"):
        getattr(lr_scheduler, name)(optimizer, *arguments)
    assert repr(optimizer) == before


def test_schedules_of_no_schedules() -> None:
    for junk, error, message in (
        ([], ValueError, "schedulers is empty"),
        (3, TypeError, "schedulers must be a list, got int"),
        ([3], TypeError, r"schedulers\[0\] is a int"),
        ([lr_scheduler.ReduceLROnPlateau(optimizer_with())], ValueError, ".* needs a metric"),
    ):
        with pytest.raises(error, match=f"ChainedScheduler: {message}"):
            lr_scheduler.ChainedScheduler(junk)


def test_functions_that_fail_leave_the_optimizer() -> None:
    optimizer = optimizer_with(momentum=0.9)
    before = repr(optimizer)
    for make in (
        lambda: lr_scheduler.LambdaLR(optimizer, fails),
        lambda: lr_scheduler.CyclicLR(optimizer, 0.1, 0.2, scale_fn=fails),
        lambda: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5, last_epoch=7),
    ):
        with pytest.raises((KeyError, ValueError)):
            make()
        assert repr(optimizer) == before
    scheduler = lr_scheduler.MultiplicativeLR(optimizer, fails)
    state, groups = dict(scheduler.state_dict()), repr(optimizer)
    with pytest.raises(KeyError):
        scheduler.step()
    for epoch in ("x", math.nan):
        with pytest.raises((TypeError, ValueError), match=r"MultiplicativeLR\.step: epoch must be"):
            scheduler.step(epoch)
    assert (scheduler.state_dict(), repr(optimizer)) == (state, groups)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.MultiplicativeLR(o, lambda e: 0.5),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, 4),
        lambda o: lr_scheduler.PolynomialLR(o, 9),
        lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
        lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.CyclicLR(o, 0.1, 0.5, 4)]),
    ],
)
def test_new_schedules_and_a_group_added_later(make: Callable[[Any], Any]) -> None:
    scheduler = make(optimizer_with(momentum=0.9))
    scheduler.optimizer.add_param_group({"params": [nn.Parameter(ts.zeros((1,)))], "lr": 0.7})
    state, groups = json.dumps(scheduler.state_dict()), repr(scheduler.optimizer)
    try:
        scheduler.step()
    except ValueError as error:  # what follows from each group's first rate
        assert "1 rates for 2 param groups" in str(error)
        assert (json.dumps(scheduler.state_dict()), repr(scheduler.optimizer)) == (state, groups)
    else:  # what follows from the present rates goes for the new group, too
        assert len(scheduler.get_last_lr()) == 2


def drawn(rng: Any, groups: int, depth: int = 0) -> Callable[[Any, Any], Any]:
    """A schedule of either library, with random numbers: make(module, optimizer)."""
    count = int(rng.integers(2, 9))
    factor = float(rng.uniform(0.2, 1))
    each = [float(x) for x in rng.uniform(0.1, 1, groups)]
    kinds: list[Callable[[Any, Any], Any]] = [
        lambda m, o: m.ConstantLR(o, factor, count),
        lambda m, o: m.MultiplicativeLR(o, [lambda e, f=f: f ** (1 / (1 + e)) for f in each]),
        lambda m, o: m.PolynomialLR(o, count, factor * 2),
        lambda m, o: m.CosineAnnealingWarmRestarts(o, count, int(count) % 3 + 1, factor / 9),
        lambda m, o: m.CyclicLR(o, each, factor, count, None if count < 4 else 3, mode="triangular2"),
        lambda m, o: m.CyclicLR(o, each, factor, count, 2, "exp_range", 0.9, base_momentum=factor / 2),
        lambda m, o: m.CyclicLR(o, factor / 3, each, 3, scale_fn=lambda x: 1 / x**2, cycle_momentum=False),
        lambda m, o: m.StepLR(o, count, factor),
        lambda m, o: m.LinearLR(o, factor, 1.0, count),
    ]
    if depth:  # PyTorch's CyclicLR starts where the schedule before it did
        kinds = kinds[:4] + kinds[7:]
    if depth < 2 and rng.random() < 0.4:
        parts = [drawn(rng, groups, depth + 1) for _ in range(int(rng.integers(1, 4)))]
        return lambda m, o: m.ChainedScheduler([part(m, o) for part in parts], o)
    if depth == 0 and rng.random() < 0.3:
        parts = [kinds[int(rng.integers(len(kinds)))] for _ in range(3)]
        return lambda m, o: m.SequentialLR(o, [part(m, o) for part in parts], [2, 2 + count])
    return kinds[int(rng.integers(len(kinds)))]


@pytest.mark.filterwarnings("ignore")
def test_random_programs_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    theirs_module = torch.optim.lr_scheduler
    for seed in range(300):
        rng = np.random.default_rng(seed)
        groups = int(rng.integers(1, 4))
        starts = [float(x) for x in rng.uniform(0.1, 2, groups)]
        options = {"betas": (0.8, 0.99)} if seed % 2 else {"momentum": 0.9}
        name = "Adam" if seed % 2 else "SGD"
        ours = getattr(optim, name)(
            [{"params": [nn.Parameter(ts.zeros(1))], "lr": lr} for lr in starts], lr=1, **options
        )
        theirs = getattr(torch.optim, name)(
            [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in starts], lr=1, **options
        )
        make = drawn(rng, groups)
        mine, other = make(lr_scheduler, ours), make(theirs_module, theirs)
        jumps = not isinstance(mine, (lr_scheduler.ChainedScheduler, lr_scheduler.SequentialLR))
        for _ in range(25):
            np.testing.assert_allclose(mine.get_last_lr(), other.get_last_lr(), rtol=1e-11, err_msg=str(seed))
            for a, b in zip(ours.param_groups, theirs.param_groups, strict=True):
                keys = ("lr", "betas" if seed % 2 else "momentum")
                np.testing.assert_allclose(
                    *[np.hstack([g[k] for k in keys]) for g in (a, b)], rtol=1e-11, err_msg=str(seed)
                )
            if jumps and rng.random() < 0.1:
                epoch = int(rng.integers(0, 20))
                mine.step(epoch), other.step(epoch)
            else:
                mine.step(), other.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda module, o: module.LambdaLR(o, lambda e: 0.9**e),
        lambda module, o: module.MultiStepLR(o, [3, 3, 10], 0.5),
        lambda module, o: module.CyclicLR(o, 0.1, 1.0, 4, cycle_momentum=False),
        lambda module, o: module.OneCycleLR(o, 0.5, 30),
        lambda module, o: module.SequentialLR(o, [module.LinearLR(o), module.ExponentialLR(o, 0.9)], [7]),
        lambda module, o: module.ChainedScheduler([module.StepLR(o, 4), module.ConstantLR(o, 0.5, 8)]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_saved_goes_on(make: Callable[[Any, Any], Any]) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    ours = optimizer_with(0.1, momentum=0.9)
    other, mine = make(torch.optim.lr_scheduler, theirs), make(lr_scheduler, ours)
    for _ in range(5):
        other.step()
    mine.load_state_dict(other.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for _ in range(20):
        mine.step(), other.step()
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-11)


def test_a_rate_that_is_a_tensor_is_read_once() -> None:
    rate = ts.asarray(0.5)
    scheduler = lr_scheduler.LambdaLR(optimizer_with(rate), lambda e: 0.5**e)
    rate.fill_(8.0)
    assert rates(scheduler, 2) == [0.5, 0.25, 0.125]
    assert json.loads(json.dumps(scheduler.state_dict()))["base_lrs"] == [0.5]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o), lr_scheduler.PolynomialLR(o, 30)]
        ),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 4),
        lambda o: lr_scheduler.MultiplicativeLR(o, lambda e: 0.9),
    ],
)
def test_schedules_step_in_replays(make: Callable[[Any], Any]) -> None:
    def losses(jit: bool) -> list[float]:
        ts.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        scheduler = make(optimizer)

        def step(x: ts.Tensor) -> ts.Tensor:
            optimizer.zero_grad()
            loss = ts.sum(layer(x) ** 2)
            loss.backward()
            optimizer.step()
            scheduler.step()
            return loss

        run = ts.jit(step) if jit else step
        seen = [run(ts.full((4, 3), 0.1 * i, dtype="float32")).item() for i in range(12)]
        assert not jit or run.cache_info().hits > 8
        return [*seen, optimizer.param_groups[0]["lr"]]

    assert losses(False) == losses(True)
