"""Averaged models: their formulas, PyTorch's results, state, statistics of batch norms, the schedule."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.optim import lr_scheduler
from tensorsmith.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)


def model(dtype: str = "float32") -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 4, dtype=dtype), nn.BatchNorm1d(4, dtype=dtype), nn.Linear(4, 2, dtype=dtype)
    )


def moved(module: Any, rng: Any) -> list[Any]:
    """New parameters and statistics; a copy of all of them."""
    with ts.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.copy_(ts.asarray(rng.uniform(1, 20, tensor.shape), dtype=tensor.dtype))
    return values(module)


def values(module: Any) -> list[Any]:
    return [np.array(t.detach().astype("float64").numpy()) for t in [*module.parameters(), *module.buffers()]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["default", "swa", "ema", "multi_swa", "multi_ema"])
def test_averages(kind: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    source = model(dtype)
    options: dict[str, Any] = {
        "default": {},
        "swa": {"avg_fn": get_swa_avg_fn()},
        "ema": {"avg_fn": get_ema_avg_fn(0.75)},
        "multi_swa": {"multi_avg_fn": get_swa_multi_avg_fn()},
        "multi_ema": {"multi_avg_fn": get_ema_multi_avg_fn(0.75)},
    }[kind]
    average = AveragedModel(source, **options)
    history = [moved(source, rng) for _ in range(1)]
    average.update_parameters(source)
    for mine, value in zip(values(average.module), history[0], strict=True):
        np.testing.assert_array_equal(mine, value)
    for _ in range(5):
        history.append(moved(source, rng))
        average.update_parameters(source)
    parameters = len(list(source.parameters()))
    tolerance = {"float64": 1e-14, "float32": 1e-6, "bfloat16": 0.02}[dtype]
    for place, mine in enumerate(values(average.module)):
        expected = history[0][place]
        for count, step in enumerate(history[1:], 1):
            weight = 0.25 if "ema" in kind else 1 / (count + 1)
            expected = expected + weight * (step[place] - expected)
        np.testing.assert_allclose(mine, expected if place < parameters else history[-1][place], tolerance)
    assert average.n_averaged.item() == 6 and average.n_averaged.dtype == ts.int64
    assert all(p.requires_grad and p.is_leaf and p.grad is None for p in average.parameters())
    x = ts.ones((5, 3), dtype=dtype)
    np.testing.assert_array_equal(average.eval()(x).detach().astype("float64").numpy(),
                                  average.module(x).detach().astype("float64").numpy())  # fmt: skip


def test_random_programs_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.optim.swa_utils  # which rounds 1 / (n + 1) to float32, also for averages of float64
    for seed in range(200):
        rng = np.random.default_rng(seed)
        dtype = ("float32", "float64")[seed % 2]
        decay = float(rng.choice([0.0, 0.3, 0.9, 1.0]))
        kinds: list[Any] = [
            lambda u: {},
            lambda u: {"avg_fn": u.get_swa_avg_fn()},
            lambda u, d=decay: {"avg_fn": u.get_ema_avg_fn(d)},
            lambda u: {"avg_fn": lambda a, p, n: a + (p - a) * 0.125 * n},
            # Not with integers: PyTorch's have no functions for lists of them.
            lambda u, d=decay: {"multi_avg_fn": u.get_ema_multi_avg_fn(d)},
            lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
        ]
        buffers = bool(rng.integers(2))
        make = kinds[int(rng.integers(4 if buffers else 6))]
        ours, other = (
            model(dtype),
            torch.nn.Sequential(
                torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
            ).to(getattr(torch, dtype)),
        )  # fmt: skip
        mine = AveragedModel(ours, **make(optim.swa_utils), use_buffers=buffers)
        expected = theirs.AveragedModel(other, **make(theirs), use_buffers=buffers)
        for _ in range(int(rng.integers(1, 6))):
            moved(ours, rng)
            other.load_state_dict(
                {k: torch.from_numpy(np.array(v.numpy())) for k, v in ours.state_dict().items()}
            )
            mine.update_parameters(ours), expected.update_parameters(other)
        state, reference = mine.state_dict(), expected.state_dict()
        assert list(state) == list(reference)
        for key, value in reference.items():
            np.testing.assert_allclose(
                state[key].numpy(), value.numpy(), rtol=1e-5 if dtype == "float32" else 1e-7, err_msg=f"{seed} {key}"
            )  # fmt: skip


def test_the_same_bits_on_any_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    pairs = [rng.standard_normal((2, n)).astype("float32") for n in (1, 70_001, 300_000)]
    seen = []
    threads = ts.get_num_threads()
    try:
        for count in (1, 2):
            ts.set_num_threads(count)
            averages = [ts.tensor(a) for a, _ in pairs]
            for update in (get_ema_multi_avg_fn(0.9), get_swa_multi_avg_fn()):
                update(averages, [ts.asarray(b) for _, b in pairs], 3)
            seen.append(np.concatenate([a.numpy() for a in averages]).tobytes())
    finally:
        ts.set_num_threads(threads)
    assert seen[0] == seen[1]


def test_what_lists_may_hold() -> None:
    z = ts.asarray([1 + 2j, 3j])
    n = ts.asarray([10, 20])
    h = ts.tensor(np.arange(6.0).reshape(2, 3)).T
    get_ema_multi_avg_fn(0.75)([z, n, h], [z * 5, ts.asarray([12, 13]), h * 5], 1)
    np.testing.assert_allclose(z.numpy(), [2 + 4j, 6j])
    assert n.tolist() == [10, 18] and h.tolist() == [[0, 6], [2, 8], [4, 10]]
    same = ts.asarray([0.1, 1e30])
    get_ema_multi_avg_fn(0.0)([same], [ts.asarray([0.3, 1.0])], 1)
    assert same.tolist() == ts.asarray([0.3, 1.0]).tolist()
    with pytest.raises(ValueError, match="1 averages and 0 values"):
        get_swa_multi_avg_fn()([same], [], 1)


def test_state_goes_through_a_file(tmp_path: Any) -> None:
    source = model()
    average = AveragedModel(source, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    rng = np.random.default_rng(0)
    for _ in range(2):
        moved(source, rng)
        average.update_parameters(source)
    ts.save(average.state_dict(), tmp_path / "a.safetensors")
    second = AveragedModel(model(), multi_avg_fn=get_ema_multi_avg_fn(0.5))
    second.load_state_dict(ts.load(tmp_path / "a.safetensors"))
    moved(source, rng)
    average.update_parameters(source), second.update_parameters(source)
    for a, b in zip(values(average), values(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_that_does_not_fit_changes_nothing() -> None:
    source = model()
    average = AveragedModel(source)
    average.update_parameters(source)
    before = values(average)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"2.weight has shape \(3, 4\), its average \(2, 4\)"):
        average.update_parameters(other)
    with pytest.raises(ValueError, match="the model has 2 parameters, the averaged one 6"):
        average.update_parameters(nn.Linear(3, 4))
    with pytest.raises(TypeError, match="model must be a Module, got int"):
        average.update_parameters(3)
    for function in (lambda a, p, n: p[:1], lambda a, p, n: 3):
        bad = AveragedModel(source, avg_fn=function)
        bad.update_parameters(source)
        with pytest.raises(ValueError, match=r"avg_fn must return a tensor of shape \(4, 3\)"):
            bad.update_parameters(source)
        assert bad.n_averaged.item() == 1
    for a, b in zip(values(average), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_junk_is_refused_by_name() -> None:
    for call, error, message in (
        (lambda: AveragedModel(3), TypeError, "AveragedModel: model must be a Module, got int"),
        (lambda: AveragedModel(model(), avg_fn=3), TypeError, "avg_fn must be a function, got int"),
        (lambda: AveragedModel(model(), None, abs, abs), ValueError, "give avg_fn or multi_avg_fn, not both"),
        (
            lambda: get_ema_avg_fn(1.5),
            ValueError,
            r"get_ema_avg_fn: decay must be in \[0, 1\], got 1.5",
        ),
        (lambda: get_ema_multi_avg_fn("x"), TypeError, "get_ema_multi_avg_fn: decay must be a number, got 'x'"),
        (lambda: update_bn(3, model()), TypeError, "update_bn: loader must be an iterable of batches, got int"),
        (lambda: update_bn([], 3), TypeError, "update_bn: model must be a Module, got int"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]


def test_update_bn_measures_the_data() -> None:
    rng = np.random.default_rng(5)
    batches = [rng.standard_normal((8, 4)).astype("float32") * 3 + 1 for _ in range(5)]
    norm = nn.BatchNorm1d(4, momentum=0.3)
    module = nn.Sequential(norm, nn.Dropout(0.0), nn.InstanceNorm1d(4, track_running_stats=True))
    module[1].eval()
    kept = module[2].running_var.numpy().copy()
    update_bn([(ts.asarray(b), "label") for b in batches], nn.Sequential(norm, module[1]))
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean([b.mean(0) for b in batches], 0), rtol=1e-5)
    np.testing.assert_allclose(
        norm.running_var.numpy(), np.mean([b.var(0, ddof=1) for b in batches], 0), rtol=1e-5
    )
    assert norm.num_batches_tracked.item() == 5 and norm.momentum == 0.3
    assert norm.training and not module[1].training
    np.testing.assert_array_equal(module[2].running_var.numpy(), kept)
    before = values(norm)
    module[0].eval()
    with pytest.raises(ValueError):
        update_bn([ts.asarray(batches[0]), ts.ones((3, 7))], nn.Sequential(norm))
    for a, b in zip(values(norm), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert norm.momentum == 0.3 and not norm.training
    update_bn(iter([]), nn.Linear(1, 1))


def test_update_bn_agrees_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.BatchNorm2d(3)
    )
    theirs.load_state_dict({k: torch.from_numpy(np.array(v.numpy())) for k, v in ours.state_dict().items()})
    batches = [rng.standard_normal((4, 2, 6, 6)).astype("float32") for _ in range(3)]
    update_bn([ts.asarray(b) for b in batches], ours)
    torch.optim.swa_utils.update_bn([torch.from_numpy(b) for b in batches], theirs)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-4, atol=1e-6)


def sgd(*rates: float) -> optim.Optimizer:
    return optim.SGD([{"params": [nn.Parameter(ts.zeros(1))], "lr": lr} for lr in rates], lr=1.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_schedule(strategy: str, epochs: int) -> None:
    optimizer = sgd(1.0, 0.5)
    scheduler = SWALR(optimizer, [0.1, 0.2], epochs, strategy)
    for epoch in range(8):
        part = min(1.0, max(1, epoch) if epochs == 0 else epoch / epochs)
        part = part if strategy == "linear" else (1 - math.cos(math.pi * part)) / 2
        np.testing.assert_allclose(
            scheduler.get_last_lr(), [1 + part * (0.1 - 1), 0.5 + part * (0.2 - 0.5)], rtol=1e-12
        )
        scheduler.step()
    saved = json.loads(json.dumps(scheduler.state_dict()))
    second = SWALR(sgd(1.0, 0.5), 0.1, 7)
    second.load_state_dict(saved)
    assert second.state_dict() == scheduler.state_dict()
    with pytest.raises(ValueError, match="_anneal_strategy must be one of 'cos', 'linear', got 3"):
        second.load_state_dict({**saved, "_anneal_strategy": 3})


@pytest.mark.filterwarnings("ignore")
def test_schedules_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rates = [float(x) for x in rng.uniform(0.1, 1, 2)]
        epochs, strategy = int(rng.integers(0, 8)), str(rng.choice(["cos", "linear"]))
        ours = sgd(*rates)
        theirs = torch.optim.SGD(
            [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates], lr=1.0
        )
        made = []
        for module, swalr, optimizer in (
            (lr_scheduler, SWALR, ours),
            (torch.optim.lr_scheduler, torch.optim.swa_utils.SWALR, theirs),
        ):
            first: Any = module.StepLR(optimizer, 2, 0.9)  # type: ignore[attr-defined]
            last: Any = swalr(optimizer, 0.05, epochs, strategy)
            made.append(module.SequentialLR(optimizer, [first, last], [4]) if seed % 2 else last)  # type: ignore[attr-defined]
        for _ in range(12):
            np.testing.assert_allclose(made[0].get_last_lr(), made[1].get_last_lr(), 1e-12, err_msg=str(seed))
            made[0].step(), made[1].step()


def test_schedules_that_fail_change_nothing() -> None:
    optimizer = sgd(1.0)
    before = repr(optimizer)
    for args, error, message in (
        ((0.1, -1), ValueError, "anneal_epochs must be >= 0, got -1"),
        ((0.1, 2.5), TypeError, "anneal_epochs must be an integer, got float 2.5"),
        ((0.1, 2, "x"), ValueError, "anneal_strategy must be one of 'cos', 'linear', got 'x'"),
        (([0.1, 0.2],), ValueError, "1 param groups need 1 values of swa_lr, got 2"),
        (("x",), TypeError, "swa_lr must be a number, got 'x'"),
        ((0.1, 2, "cos", 3), KeyError, "no 'initial_lr'"),
    ):
        with pytest.raises(error, match=message):
            SWALR(optimizer, *args)
        assert repr(optimizer) == before
    with pytest.raises(TypeError, match="SWALR: optimizer must be an Optimizer"):
        SWALR(3, 0.1)
    scheduler = SWALR(optimizer, 0.1)
    optimizer.step()
    optimizer.add_param_group({"params": [nn.Parameter(ts.zeros(1))]})
    state = dict(scheduler.state_dict())
    with pytest.raises(ValueError, match="1 rates for 2 param groups"):
        scheduler.step()
    assert scheduler.state_dict() == state


def test_averages_beside_a_recorded_step() -> None:
    def trained(jit: bool) -> list[Any]:
        ts.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.9))

        def step(x: ts.Tensor) -> ts.Tensor:
            optimizer.zero_grad()
            loss = ts.sum(layer(x) ** 2)
            loss.backward()
            optimizer.step()
            average.update_parameters(layer)
            return loss

        run = ts.jit(step) if jit else step
        for i in range(8):
            run(ts.full((4, 3), 0.1 * i, dtype="float32"))
        assert not jit or run.cache_info().hits > 5
        return [*values(layer), *values(average)]

    for a, b in zip(trained(False), trained(True), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rates_below_zero_are_refused() -> None:
    optimizer = optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="SWALR: swa_lr must be >= 0"):
        SWALR(optimizer, swa_lr=-1.0)
    with pytest.raises(ValueError, match="CyclicLR: base_lr must be >= 0"):
        lr_scheduler.CyclicLR(optimizer, -0.1, 0.1)
    assert optimizer.param_groups[0]["lr"] == 0.1
