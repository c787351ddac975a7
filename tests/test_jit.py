"""ts.jit: replays end with the bits of eager calls, whatever the optimizer and the schedule."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from jit_steps import tensor
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F
from tensorsmith.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, SequentialLR, StepLR
from tensorsmith.train import MODELS, parameters_hash


def residual(size: Any, classes: int, dropout: float) -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x: Any) -> Any:
            return F.relu(x + self.norm(self.conv(x)))

    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), Block(), nn.MaxPool2d(2), Block(), nn.AvgPool2d(2), nn.Flatten(),
        nn.LayerNorm(8 * (size[0] // 4) * (size[1] // 4)), nn.Dropout(dropout),
        nn.Linear(8 * (size[0] // 4) * (size[1] // 4), classes),
    )  # fmt: skip


OPTIMIZERS: dict[str, Any] = {
    "adamw": lambda p: optim.AdamW(p, lr=3e-3),
    "amsgrad": lambda p: optim.Adam(p, lr=3e-3, amsgrad=True, weight_decay=1e-3),
    "sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.02),
    "adamax": lambda p: optim.Adamax(p, lr=3e-3),
    "nadam": lambda p: optim.NAdam(p, lr=3e-3),
    "radam": lambda p: optim.RAdam(p, lr=3e-3, betas=(0.9, 0.99)),
    "lamb": lambda p: optim.LAMB(p, lr=3e-3),
}
SCHEDULES: dict[str, Any] = {
    "cycle": lambda o: OneCycleLR(o, 0.01, total_steps=400, cycle_momentum="lr_decay" not in o.defaults),
    "cosine": lambda o: CosineAnnealingLR(o, 100),
    "sequence": lambda o: SequentialLR(o, [StepLR(o, 10), CosineAnnealingLR(o, 50)], [40]),
}


def train(
    build: Any,
    jit: bool,
    steps: int,
    optimizer: str,
    schedule: str | None,
    within: bool,
    norm: float | None = 1.0,
) -> tuple[list[float], str, Any]:
    ts.manual_seed(3)
    size = (8, 8)
    model = build(size, 10, 0.25)
    opt = OPTIMIZERS[optimizer](model.parameters())
    scheduler = SCHEDULES[schedule](opt) if schedule else None

    def step(x: Any, t: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), t, label_smoothing=0.05)
        loss.backward()
        if norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), norm)
        opt.step()
        if within and scheduler:
            scheduler.step()
        return loss

    run = ts.jit(step) if jit else step
    rng = np.random.default_rng(7)
    losses = []
    for _ in range(steps):
        x = ts.asarray(rng.standard_normal((16, 1, *size), dtype=np.float32))
        losses.append(float(run(x, ts.asarray(rng.integers(0, 10, 16)))))
        if scheduler and not within:
            scheduler.step()
    return losses, parameters_hash(model) + str([float(p.grad.sum()) for p in model.parameters()]), run


@pytest.mark.parametrize("build", [MODELS["mlp"], MODELS["cnn"], residual], ids=["mlp", "cnn", "residual"])
def test_200_steps_have_the_bits_of_eager(build: Any, threads: int) -> None:
    eager = train(build, False, 200, "adamw", "cycle", True)
    replayed = train(build, True, 200, "adamw", "cycle", True)
    assert eager[:2] == replayed[:2]
    assert replayed[2].cache_info()[:2] == (199, 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", [None, *SCHEDULES])
def test_optimizers_and_schedules(optimizer: str, schedule: str | None) -> None:
    for within in (True, False):
        eager = train(MODELS["mlp"], False, 60, optimizer, schedule, within, None)
        replayed = train(MODELS["mlp"], True, 60, optimizer, schedule, within, None)
        assert eager[:2] == replayed[:2]
        assert replayed[2].cache_info().misses == 1


def test_clipping_within_the_step_has_the_bits_of_eager() -> None:
    def run(jit: bool) -> bytes:
        ts.manual_seed(3)
        model = MODELS["mlp"]((8, 8), 10, 0.25)
        opt = optim.AdamW(model.parameters(), lr=3e-3)
        scheduler = SCHEDULES["cosine"](opt)

        def step(x: Any, t: Any) -> Any:
            loss = F.cross_entropy(model(x), t)
            loss.backward()
            opt.step(max_norm=0.5, zero_grad=True)
            scheduler.step()
            return loss

        call = ts.jit(step) if jit else step
        rng = np.random.default_rng(7)
        for _ in range(20):
            call(
                ts.asarray(rng.standard_normal((16, 1, 8, 8), dtype=np.float32)),
                ts.asarray(rng.integers(0, 10, 16)),
            )
        opt.step()
        return parameters_hash(model)

    assert run(False) == run(True)


def test_several_optimizers_and_backwards() -> None:
    def run(jit: bool) -> str:
        ts.manual_seed(0)
        a, b = nn.Linear(6, 6), nn.Linear(6, 2)
        first, second = optim.SGD(a.parameters(), lr=0.1), optim.AdamW(b.parameters(), lr=0.01)

        def step(x: Any) -> Any:
            loss = (b(F.relu(a(x))) ** 2).mean()
            loss.backward()
            first.step()
            first.zero_grad()
            again = (b(a(x)) ** 2).sum()
            again.backward()
            second.step()
            second.zero_grad()
            return {"first": loss, "again": [again]}

        f = ts.jit(step) if jit else step
        values = [f(tensor(4, 6, seed=i)) for i in range(20)]
        return (
            parameters_hash(a)
            + parameters_hash(b)
            + str([(float(v["first"]), float(v["again"][0])) for v in values])
        )

    assert run(False) == run(True)


def test_gradients_accumulate_over_calls() -> None:
    def run(jit: bool) -> list[float]:
        ts.manual_seed(0)
        model = nn.Linear(5, 3)
        opt = optim.SGD(model.parameters(), lr=0.1)

        def micro(x: Any) -> None:
            (model(x) ** 2).sum().backward()

        def update() -> None:
            opt.step()
            opt.zero_grad(set_to_none=False)

        f, u = (ts.jit(micro), ts.jit(update)) if jit else (micro, update)
        out = []
        for i in range(24):
            f(tensor(4, 5, seed=i))
            out.append(float(model.weight.grad.sum()))
            if i % 3 == 2:
                u()
        if jit:
            assert f.cache_info().misses == 2  # the very first has no gradient to add to
        return [*out, float(model.weight.detach().sum())]

    assert run(False) == run(True)


def test_gradients_that_someone_holds_are_not_written_over() -> None:
    model = nn.Linear(3, 3)

    @ts.jit
    def step(x: Any) -> None:
        model.zero_grad()
        model(x).sum().backward()

    step(tensor(2, 3))
    step(tensor(2, 3))
    held = model.weight.grad
    before = held.numpy().copy()
    step(tensor(2, 3, seed=5))
    assert np.array_equal(held.numpy(), before)
    assert not np.array_equal(model.weight.grad.numpy(), before)


def test_results_are_not_written_over() -> None:
    double = ts.jit(lambda x: x * 2)
    a, b = tensor(100), tensor(100, seed=1)
    first, second, third = double(a), double(b), double(a)
    assert np.array_equal(second.numpy(), b.numpy() * 2)
    assert np.array_equal(first.numpy(), a.numpy() * 2) and np.array_equal(third.numpy(), first.numpy())


def test_random_numbers_go_on_and_start_again() -> None:
    noise = ts.jit(lambda x: x + ts.random.normal(size=x.shape))
    x = ts.zeros((16,))
    ts.manual_seed(5)
    replayed = [noise(x).numpy().copy() for _ in range(4)]
    ts.manual_seed(5)
    assert np.array_equal(noise(x).numpy(), replayed[0])
    ts.manual_seed(5)
    for y in replayed:
        assert np.array_equal(y, ts.random.normal(size=16).numpy())


def test_seeds_within() -> None:
    @ts.jit
    def draw() -> Any:
        own = ts.random.default_rng(5)
        ts.manual_seed(3)
        return own.standard_normal(4), ts.random.normal(size=4), own.standard_normal(4), ts.random.Generator()

    def numbers() -> list[Any]:
        return [x.tolist() for x in draw()[:3]]

    own = ts.random.default_rng(5)
    first = numbers()
    assert first[0] == own.standard_normal(4).tolist() and first[2] == own.standard_normal(4).tolist()
    ts.random.normal(size=7)
    assert numbers() == first and numbers() == first and draw.cache_info().hits >= 1
    fresh = ts.jit(lambda: ts.random.default_rng().standard_normal(4))
    assert len({tuple(fresh().tolist()) for _ in range(4)}) == 4
    with pytest.raises(RuntimeError, match="on the host"):
        ts.jit(lambda: ts.random.normal(size=ts.random.get_state()["seed"] % 3))()


def test_in_place_on_arguments_and_buffers() -> None:
    total = ts.zeros((3,))

    @ts.jit
    def add(x: Any, out: Any) -> Any:
        total.add_(x)
        out[1:] = x[:2] * 2
        return out

    expected = np.zeros(3, np.float32)
    for i in range(4):
        x, out = tensor(3, seed=i), ts.zeros((3,))
        version = out._version
        y = add(x, out)
        expected += x.numpy()
        assert y is out and out._version > version
        assert np.array_equal(out.numpy()[1:], x.numpy()[:2] * 2) and out.numpy()[0] == 0
    assert np.array_equal(total.numpy(), expected)


@pytest.mark.parametrize("n", [64, 67, 2 * 67, 3001])  # 67 has no pass of its own
def test_fourier_transforms_of_any_length(n: int) -> None:
    def steps(x: Any) -> Any:
        spectrum = ts.fft.rfft(x)
        return spectrum, ts.fft.irfft(spectrum * 2, n=n), ts.fft.ifft(x)

    replayed = ts.jit(steps)
    for seed in range(3):
        x = ts.asarray(np.random.default_rng(seed).standard_normal((2, n)))
        for got, expected in zip(replayed(x), steps(x), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected.numpy())


class Scaled(nn.Module):
    """Holds a recorded method of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(ts.ones((3,)))
        self.run = ts.jit(self._run)

    def _run(self, x: ts.Tensor) -> ts.Tensor:
        return (self.scale * x).detach()


@ts.jit
def doubled(x: ts.Tensor) -> ts.Tensor:
    return x * 2


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"]
)
def test_copies_of_what_holds_a_recorded_function(again: Any) -> None:
    module, x = Scaled(), ts.ones((3,))
    module.run(x)
    other = again(module)
    with ts.no_grad():
        other.scale.fill_(5)
    for _ in range(2):
        assert module.run(x).tolist() == [1, 1, 1]
        assert other.run(x).tolist() == [5, 5, 5]
    assert other.run.cache_info()[:2] == (1, 1)
    assert again(doubled) is doubled
    layer = nn.Linear(3, 3)
    assert copy.deepcopy(ts.jit(layer))._function is not layer


def test_a_leaf_that_is_made_within_and_gets_a_gradient() -> None:
    layer = ts.nn.Linear(4, 1)

    def penalty(x: ts.Tensor) -> ts.Tensor:
        between = (x * 2).detach().requires_grad_()
        (slope,) = ts.autograd.gradients(layer(between).tanh().sum(), between, create_graph=True)
        loss = ((slope**2).sum(1).sqrt() - 1).square().mean()
        layer.zero_grad()
        loss.backward()
        return loss.detach()

    recorded, x = ts.jit(penalty), ts.random.standard_normal((3, 4))
    losses, gradients = [], []
    for step in (recorded, recorded, recorded, penalty):
        losses.append(step(x).item())
        gradients.append(layer.weight.grad.numpy().tobytes())
    assert len(set(losses)) == 1 and len(set(gradients)) == 1
    assert recorded.cache_info().hits > 0
