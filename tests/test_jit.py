"""ts.jit: replays end with the bits of eager calls, notice what has changed, and refuse what they cannot hold."""

from __future__ import annotations

import collections
import gc
import math
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F
from tensorsmith.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, SequentialLR, StepLR
from tensorsmith.train import MODELS, parameters_hash


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Any:
    before = ts.get_num_threads()
    ts.set_num_threads(request.param)
    yield request.param
    ts.set_num_threads(before)


def tensor(*shape: int, seed: int = 0) -> ts.Tensor:
    return ts.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# --- bits -----------------------------------------------------------------------------------------


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


# --- signatures -----------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "a b")


def test_nested_arguments_and_results() -> None:
    @ts.jit
    def f(pair: Any, *, scale: float, extra: dict[str, Any]) -> Any:
        return Pair([pair.a * scale, pair.b], {"x": extra["x"][0] + 1, "n": 3})

    for i in range(3):
        a, b, x = tensor(2, seed=i), tensor(3, seed=i), tensor(4, seed=i)
        result = f(Pair(a, b), scale=2.0, extra={"x": [x]})
        assert isinstance(result, Pair) and result.a[1] is b and result.b["n"] == 3
        assert np.array_equal(result.a[0].numpy(), a.numpy() * 2)
        assert np.array_equal(result.b["x"].numpy(), x.numpy() + 1)
    assert f.cache_info()[:2] == (2, 1)
    f(Pair(a, b), scale=3.0, extra={"x": [x]})
    assert f.cache_info().misses == 2


def test_numpy_arguments() -> None:
    f = ts.jit(lambda x: x.sum())
    for i in range(3):
        x = np.random.default_rng(i).standard_normal(7).astype(np.float32)
        assert float(f(x)) == float(ts.asarray(x).sum())
    assert f.cache_info().hits == 2


def test_each_signature_has_its_recording() -> None:
    f = ts.jit(lambda x, k=1: x * k)
    calls = [
        (tensor(3),), (tensor(4),), (tensor(3).double(),), (tensor(3, 2)[:, 0],), (tensor(3), 2), (tensor(3), 2.0),
        (tensor(3), True),
    ]  # fmt: skip
    for _ in range(2):
        for args in calls:
            x, k = args[0], args[1] if len(args) > 1 else 1
            y = f(*args)
            assert y.dtype == (x * k).dtype and np.array_equal(y.numpy(), (x * k).numpy())
    assert f.cache_info()[:2] == (len(calls), len(calls))
    with ts.no_grad():
        f(tensor(3))
    assert f.cache_info().misses == len(calls) + 1


def test_the_cache_is_bounded() -> None:
    f = ts.jit(lambda x: x + 1, cache_size=3)
    for n in range(1, 7):
        f(ts.ones((n,)))
    assert f.cache_info() == (0, 6, 3, 3, 0, 0)
    f(ts.ones((6,)))
    f(ts.ones((1,)))  # gone by now
    assert f.cache_info()[:2] == (1, 7)
    f.cache_clear()
    assert f.cache_info() == (0, 0, 3, 0, 0, 0)


def test_the_same_tensor_twice_is_another_signature() -> None:
    f = ts.jit(lambda a, b: a.add_(b))
    x = ts.ones((4,))
    assert f(x, x).tolist() == [2] * 4
    a, b = ts.ones((4,)), ts.full((4,), 5.0)
    assert f(a, b).tolist() == [6] * 4 and b.tolist() == [5] * 4
    both = ts.ones((6,))
    assert f(both[:4], both[2:]).tolist() == [2] * 4 and both.tolist() == [2] * 4 + [1] * 2
    assert f(a, b).tolist() == [11] * 4


def test_an_argument_that_is_also_outside() -> None:
    w = ts.ones((3,))
    f = ts.jit(lambda x: x * 2 + w)
    assert f(w).tolist() == [3] * 3
    y = ts.full((3,), 10.0)
    assert f(y).tolist() == [21] * 3 and f(w).tolist() == [3] * 3 and f(y).tolist() == [21] * 3


def test_methods_and_jit_within_jit() -> None:
    inner = ts.jit(lambda x: x * 3)

    class Scale:
        def __init__(self, k: float) -> None:
            self.k = k

        @ts.jit
        def __call__(self, x: Any) -> Any:
            return inner(x) * self.k

    two, five = Scale(2.0), Scale(5.0)
    for _ in range(3):
        assert two(ts.ones((2,))).tolist() == [6, 6] and five(ts.ones((2,))).tolist() == [15, 15]
    five.k = 7.0
    assert five(ts.ones((2,))).tolist() == [21, 21]
    assert inner.cache_info().currsize == 0


# --- what has changed is noticed ------------------------------------------------------------------

SCALE = 2.0
TABLE = {"w": 1.0, "list": [1.0, 2.0]}


def test_globals_and_closures(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = 1.0

    @ts.jit
    def f(x: Any) -> Any:
        return x * SCALE + offset + TABLE["w"] + sum(TABLE["list"])

    x = ts.ones((2,))
    assert f(x).tolist() == [7, 7]
    monkeypatch.setitem(globals(), "SCALE", 10.0)
    assert f(x).tolist() == [15, 15]
    offset = 2.0
    assert f(x).tolist() == [16, 16]
    monkeypatch.setitem(TABLE, "w", 0.0)
    assert f(x).tolist() == [15, 15]
    monkeypatch.setitem(TABLE, "list", [])
    assert f(x).tolist() == [12, 12]
    assert "SCALE" in f.why()[1] and "offset" in f.why()[2] and "'w'" in f.why()[3]


def test_a_model_in_training_and_evaluation() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    f = ts.jit(lambda x: model(x).detach())
    x = tensor(3, 4)
    for _ in range(3):
        model.eval()
        assert np.array_equal(f(x).numpy(), model(x).detach().numpy())
        model.train()
        assert (f(x).numpy() == 0).any()
    assert f.cache_info()[:2] == (4, 2)
    model[1].p = 0.0
    assert np.array_equal(f(x).numpy(), model(x).detach().numpy())


def test_a_tensor_that_is_resized() -> None:
    class Holder:
        w: Any = nn.Parameter(ts.ones((1,)))

    holder = Holder()
    holder.w = nn.Parameter(ts.ones((1,)))
    f = ts.jit(lambda x: (x + holder.w).detach())
    assert f(ts.ones((3,))).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="shape"):  # memory of another size is another tensor
        holder.w.data = ts.full((3,), 4.0)
    holder.w = nn.Parameter(ts.full((3,), 4.0))
    assert f(ts.ones((3,))).tolist() == [5, 5, 5]
    assert "holder.w" in f.why()[-1] and f.cache_info().misses == 2


@pytest.mark.parametrize("how", ["attribute", "data", "module", "append", "bias", "item"])
def test_replaced_tensors(how: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    keep = list(model.parameters())  # so that nothing dies
    f = ts.jit(lambda x: model(x).detach())
    x = tensor(2, 3)
    f(x)
    new = nn.Parameter(tensor(3, 3, seed=9))
    if how == "attribute":
        model[0].weight = new
    elif how == "data":
        model[0].weight.data = new.detach()
    elif how == "module":
        model[0] = nn.Linear(3, 3)
    elif how == "append":
        model.append(nn.ReLU())
    elif how == "bias":
        model[0].bias = None
    else:
        with ts.no_grad():
            model[0].weight[0] = 7.0  # in place: the recording reads it
    assert np.array_equal(f(x).numpy(), model(x).detach().numpy())
    assert f.cache_info().misses == (1 if how == "item" else 2)
    assert len(keep) == 4


def test_a_tensor_nobody_else_holds_any_more() -> None:
    def make() -> Any:
        holder = [lambda: None]
        w = ts.ones((2,))
        holder[0] = lambda: w  # not reachable by name

        def get() -> Any:
            return holder[0]()

        def put(value: Any) -> None:
            holder[0] = lambda: value

        return get, put

    get, put = make()
    f = ts.jit(lambda x: x + get())
    x = ts.ones((2,))
    assert f(x).tolist() == [2, 2]
    put(ts.full((2,), 5.0))
    assert f(x).tolist() == [6, 6]


def test_attributes_that_a_later_function_names() -> None:
    class Box:
        factor = 0.0

    box = Box()
    box.factor = 2.0

    def use(b: Any, x: Any) -> Any:
        return x * b.factor

    f = ts.jit(lambda x: use(box, x))  # `box` is seen before `use`
    assert f(ts.ones((2,))).tolist() == [2, 2]
    box.factor = 3.0
    assert f(ts.ones((2,))).tolist() == [3, 3] and f.why()[-1] == "box.factor has changed"


def test_a_hook_is_a_change() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    f = ts.jit(lambda x: model(x).detach())
    x = tensor(2, 3)
    plain = f(x).tolist()
    handle = model[0].register_forward_hook(lambda module, args, y: y * 2)
    assert f(x).tolist() == [[2 * v for v in row] for row in plain]
    second = model[0].register_forward_hook(lambda module, args, y: y * 2)
    assert f(x).tolist() == [[4 * v for v in row] for row in plain]
    second.remove()
    handle.remove()
    assert f(x).tolist() == plain
    assert f.cache_info().misses == 3


def test_optimizer_options() -> None:
    p = nn.Parameter(ts.ones((2,)))
    opt = optim.SGD([p], lr=1.0)

    @ts.jit
    def step() -> None:
        p.grad = ts.ones((2,))
        opt.step()

    step()
    assert p.tolist() == [0, 0]
    opt.param_groups[0]["lr"] = 0.5
    step()
    assert p.tolist() == [-0.5, -0.5] and step.cache_info().misses == 1
    opt.param_groups[0]["maximize"] = True
    step()
    assert p.tolist() == [0, 0] and step.cache_info().misses == 2
    q = nn.Parameter(ts.ones((2,)))
    opt.add_param_group({"params": [q], "lr": 2.0})
    q.grad = ts.ones((2,))
    step()
    assert p.tolist() == [0.5, 0.5] and q.tolist() == [-1, -1]


def test_state_of_a_checkpoint_is_read() -> None:
    def run(jit: bool) -> str:
        ts.manual_seed(0)
        model = nn.Linear(4, 4)
        opt = optim.AdamW(model.parameters(), lr=0.1)

        def step(x: Any) -> None:
            opt.zero_grad()
            (model(x) ** 2).sum().backward()
            opt.step()

        f = ts.jit(step) if jit else step
        f(tensor(2, 4))
        import copy

        saved, weights = copy.deepcopy(opt.state_dict()), copy.deepcopy(model.state_dict())
        f(tensor(2, 4, seed=1))
        opt.load_state_dict(saved)
        model.load_state_dict(weights)
        f(tensor(2, 4, seed=2))
        return parameters_hash(model)

    assert run(False) == run(True)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda y: float(y.sum()), lambda y: int(y.sum()), lambda y: bool(y.sum() > 0), lambda y: y.sum().item(),
        lambda y: y.numpy(), lambda y: y.tolist(), lambda y: np.asarray(y), lambda y: 1 if y.sum() > 0 else 2,
        lambda y: repr(y), lambda y: [1, 2, 3][ts.argmax(y)], lambda y: memoryview(y), lambda y: y.__dlpack__(),
    ],
    ids=["float", "int", "bool", "item", "numpy", "tolist", "asarray", "if", "repr", "index", "buffer", "dlpack"],
)  # fmt: skip
def test_reading_on_the_host_is_refused(read: Any) -> None:
    @ts.jit
    def f(x: Any) -> Any:
        y = x * 2
        read(y)  # the line in question
        return y

    with pytest.raises(RuntimeError, match=r"reads a value on the host.*test_jit.py:\d+ in <lambda>"):
        f(ts.ones((3,)))
    assert f.cache_info().currsize == 0
    assert not ts._core.capturing()
    assert (ts.ones((3,)) * 2).tolist() == [2, 2, 2]


def test_shapes_that_depend_on_values_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"depends on values.*test_jit.py"):
        ts.jit(lambda x: x[x > 0])(tensor(5))
    with pytest.raises(RuntimeError, match=r"depends on values.*test_jit.py"):
        ts.jit(lambda x: ts.nonzero(x))(tensor(5))


def test_a_result_with_a_graph_is_refused() -> None:
    w = ts.ones((3,)).requires_grad_()
    f = ts.jit(lambda x: x * w)
    with pytest.raises(RuntimeError, match="carries a gradient"):
        f(ts.ones((3,)))
    with ts.no_grad():
        assert f(ts.ones((3,))).tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="computed with its gradient recorded"):
        ts.jit(lambda x: x.detach())(w * 2)


def test_what_outlives_the_call_is_refused_after_two_tries() -> None:
    kept = []

    @ts.jit
    def f(x: Any) -> Any:
        y = x + 1
        kept.append(y)
        return y * 2

    assert f(ts.ones((1,))).tolist() == [4] and f(ts.ones((1,))).tolist() == [4]
    with pytest.raises(RuntimeError, match="it changes kept"):
        f(ts.ones((1,)))

    class Holder:
        last: Any = None

    holder = Holder()

    @ts.jit
    def g(x: Any) -> Any:
        setattr(holder, "la" + "st", x + 1)
        return x

    g(ts.ones((1,)))
    g(ts.ones((1,)))
    with pytest.raises(RuntimeError, match=r"add at .*test_jit.py:\d+ in g.*still held"):
        g(ts.ones((1,)))


def test_a_cache_may_be_filled_by_the_first_call() -> None:
    cache: dict[int, Any] = {}

    @ts.jit
    def f(x: Any) -> Any:
        if 0 not in cache:
            cache[0] = ts.arange(3, dtype=ts.float32) * 2
        return x + cache[0]

    for _ in range(4):
        assert f(ts.ones((3,))).tolist() == [1, 3, 5]
    assert f.cache_info()[:2] == (2, 2)


def test_fallback_runs_eagerly_and_says_so_once() -> None:
    @ts.jit(fallback=True)
    def f(x: Any) -> float:
        return float(x.sum())

    with pytest.warns(RuntimeWarning, match=r"runs without recordings.*test_jit.py:\d+ in f"):
        assert f(ts.ones((3,))) == 3
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(ts.full((3,), 2.0)) == 6


def test_a_refusal_that_the_function_swallows_is_still_one() -> None:
    @ts.jit
    def f(x: Any) -> Any:
        try:
            k = float(x.sum())
        except RuntimeError:
            k = 0.0
        return x * k

    with pytest.raises(RuntimeError, match="reads a value on the host"):
        f(ts.ones((2,)))


def test_an_exception_leaves_nothing_behind() -> None:
    @ts.jit
    def f(x: Any, fail: bool) -> Any:
        y = x + 1
        if fail:
            raise KeyError("mine")
        return y

    with pytest.raises(KeyError):
        f(ts.ones((2,)), True)
    assert not ts._core.capturing()
    assert f(ts.ones((2,)), False).tolist() == [2, 2] == f(ts.ones((2,)), False).tolist()


# --- errors in replays ----------------------------------------------------------------------------


def test_indices_are_checked_in_replays() -> None:
    table = nn.Embedding(5, 3)

    @ts.jit
    def f(x: Any) -> Any:
        return table(x).detach()

    good, bad = ts.asarray([0, 4]), ts.asarray([0, 5])
    f(good)
    with pytest.raises(IndexError, match=r"embedding: index 5 .*recorded at .*test_jit.py:\d+ in f"):
        f(bad)
    assert np.array_equal(f(good).numpy(), table(good).detach().numpy())
    assert f.cache_info().misses == 1


def test_classes_are_checked_in_replays_before_anything_changes() -> None:
    ts.manual_seed(0)
    model = nn.Linear(4, 3)
    opt = optim.SGD(model.parameters(), lr=0.1)

    @ts.jit
    def step(x: Any, t: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), t)
        loss.backward()
        opt.step()
        return loss

    x = tensor(2, 4)
    step(x, ts.asarray([0, 1]))
    before = parameters_hash(model)
    with pytest.raises(IndexError, match=r"cross_entropy: target 3 at position 1 .*in step"):
        step(x, ts.asarray([0, 3]))
    assert parameters_hash(model) == before
    step(x, ts.asarray([2, 2]))


def definite(a: Any) -> Any:
    return ts.linalg.cholesky(a)


def eigen(a: Any) -> Any:
    return ts.linalg.eigh(a)[0]


def singular(a: Any) -> Any:
    return ts.linalg.svdvals(a)


@pytest.mark.parametrize(
    ("f", "bad", "message"),
    [
        (definite, -np.eye(3), "cholesky: matrix 0 .* not positive definite"),
        (eigen, np.full((3, 3), np.nan), "eigh: matrix 0 of the batch holds inf or NaN"),
        (singular, np.full((3, 3), np.inf), "svd: matrix 0 of the batch holds inf or NaN"),
    ],
)
def test_factorisations_are_checked_in_replays(f: Any, bad: Any, message: str) -> None:
    g = ts.jit(f)
    for scale in (1.0, 2.0):
        a = ts.asarray(np.eye(3) * scale)
        assert np.array_equal(g(a).numpy(), f(a).numpy())
    with pytest.raises(ValueError, match=message + r".*recorded at .*test_jit.py:\d+ in"):
        g(ts.asarray(bad))
    assert np.array_equal(g(a).numpy(), f(a).numpy()) and g.cache_info().misses == 1


def test_lengths_are_checked_in_replays() -> None:
    recurrent = ts._core.ops.recurrent
    x, w = tensor(5, 2, 3), [tensor(16, 3), tensor(16, 4), None, None, ts.zeros((2, 4)), ts.zeros((2, 4))]
    f = ts.jit(lambda x, n: recurrent(x, *w, n, "lstm", False)[0])
    for lengths in ([5, 3], [1, 5]):
        n = ts.asarray(lengths)
        assert np.array_equal(f(x, n).numpy(), recurrent(x, *w, n, "lstm", False)[0].numpy())
    with pytest.raises(ValueError, match=r"lengths must be in \[0, 5\], got 6 at 1 .*recorded at"):
        f(x, ts.asarray([5, 6]))
    assert f.cache_info().misses == 1


def test_sparse_rows_are_checked_in_replays() -> None:
    multiply = ts._core.ops.csr_matmul
    f = ts.jit(lambda x, starts, columns: multiply(x, starts, columns, None, 0))
    x = tensor(4, 3)
    for starts, columns in ([0, 1, 3], [3, 0, 1]), ([0, 2, 3], [1, 1, 2]):
        a, b = ts.asarray(starts), ts.asarray(columns)
        assert np.array_equal(f(x, a, b).numpy(), multiply(x, a, b, None, 0).numpy())
    with pytest.raises(ValueError, match=r"starts must not descend.*recorded at"):
        f(x, ts.asarray([0, 4, 3]), b)
    with pytest.raises(IndexError, match=r"column 4 is out of range.*recorded at"):
        f(x, a, ts.asarray([1, 1, 4]))
    assert f.cache_info().misses == 1


def test_indexing_by_arrays() -> None:
    f = ts.jit(lambda x, i, j: (x[i, j], ts.take(x, i, 0)))
    x = tensor(4, 5)
    for i, j in ([0, 1], [2, 3]), ([-1, 3], [-5, 4]), ([1, 1], [0, 0]):
        a, b = f(x, np.asarray(i), np.asarray(j))
        assert np.array_equal(a.numpy(), x.numpy()[i, j]) and np.array_equal(b.numpy(), x.numpy()[i])
    with pytest.raises(IndexError, match="index 4"):
        f(x, np.asarray([0, 4]), np.asarray([0, 0]))
    with pytest.raises(IndexError, match="index -6"):
        f(x, np.asarray([0, 1]), np.asarray([0, -6]))
    assert f.cache_info().misses == 1


# --- memory, threads, interrupts ------------------------------------------------------------------


def test_peak_memory_is_not_above_eager() -> None:
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 10))
    opt = optim.AdamW(model.parameters())

    def step(x: Any, t: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), t)
        loss.backward()
        opt.step()
        return loss

    x, t = tensor(512, 256), ts.zeros((512,), dtype=ts.int64)

    def peak(f: Any) -> int:
        f(x, t)
        f(x, t)
        gc.collect()
        ts._core.reset_peak()
        f(x, t)
        return int(ts.allocator_stats()["peak_bytes"])

    f = ts.jit(step)
    eager, replayed = peak(step), peak(f)
    assert replayed <= eager
    memory = f.memory()[0]
    assert memory["arena_bytes"] < memory["unshared_bytes"]


def test_dead_results_are_dropped() -> None:
    @ts.jit
    def f(x: Any) -> Any:
        ts.exp(x) + 1
        return x * 2

    f(ts.ones((4,)))
    assert "exp" not in f.graph() and "multiply" in f.graph()


def test_calls_from_several_threads() -> None:
    f = ts.jit(lambda x: ((x * 2 + 1) * x).sum())
    inputs = [tensor(50_000, seed=i) for i in range(8)]
    expected = [float(((x * 2 + 1) * x).sum()) for x in inputs]
    f(inputs[0])
    wrong = []

    def work(k: int) -> None:
        for i in range(200):
            j = (i * 3 + k) % 8
            if float(f(inputs[j])) != expected[j]:
                wrong.append(j)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_a_replay_is_interrupted() -> None:
    a = tensor(700, 700)

    @ts.jit
    def long(x: Any) -> Any:
        for _ in range(400):
            x = ts.tanh(x @ a)
        return x

    x = tensor(700, 700, seed=1)
    long(x)

    class Stop(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        began = time.perf_counter()
        with pytest.raises(Stop):
            for _ in range(100):
                long(x)
        assert time.perf_counter() - began < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.isfinite(long(x).numpy()).all()


def test_the_function_and_its_recordings_are_collected() -> None:
    import weakref

    def make() -> Any:
        model = nn.Linear(3, 3)
        f = ts.jit(lambda x: model(x).detach())
        f(tensor(2, 3))
        f(tensor(2, 3))
        return weakref.ref(f), weakref.ref(model)

    f, model = make()
    gc.collect()
    assert f() is None and model() is None


def test_bad_options() -> None:
    with pytest.raises(TypeError, match="expected a function"):
        ts.jit(3)
    with pytest.raises(ValueError, match="cache_size must be >= 1"):
        ts.jit(lambda x: x, cache_size=0)


def test_graph_is_readable() -> None:
    f = ts.jit(lambda x: ts.sum(x * 2))
    assert f.graph() == "nothing is recorded"
    f(ts.ones((4,)))
    text = f.graph()
    assert "multiply(" in text and "float32[4]" in text and "test_jit.py" in text and "arena" in text


# --- the profiler ---------------------------------------------------------------------------------


def test_the_profiler_sees_eager_and_replayed_calls(tmp_path: Any) -> None:
    import json

    f = ts.jit(lambda a, b: ts.exp(a @ b))
    a, b = tensor(8, 16), tensor(16, 4)
    f(a, b)
    for call in (f, lambda a, b: ts.exp(a @ b)):
        with ts.profiler.profile() as p:
            call(a, b)
        product, exp = p.events
        assert (product.name, exp.name) == ("gemm", "exp")
        assert product.flops == 2 * 8 * 16 * 4 and exp.bytes == 2 * 8 * 4 * 4
        assert product.start + product.duration <= exp.start and exp.duration > 0
        assert "test_jit.py" in product.line
    for by in ("name", "line", "shapes"):
        assert "2 calls" in p.table(by=by)
    p.chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [e["name"] for e in trace] == ["gemm", "exp"] and trace[0]["dur"] > 0
    with pytest.raises(RuntimeError, match="not running"):
        ts._core.stop_profile()
    with pytest.raises(ValueError, match="by must be"):
        p.table(by="size")


def test_a_call_may_be_recorded_while_it_is_profiled() -> None:
    f = ts.jit(lambda x: x * 2)
    with ts.profiler.profile() as p:
        f(ts.ones((3,)))
        f(ts.ones((3,)))
    assert [e.name for e in p.events].count("multiply") == 2 and f.cache_info().hits == 1


# --- fusion ---------------------------------------------------------------------------------------


def activation(x: Any, b: Any, t: Any, n: Any) -> Any:
    return ts.tanh(x * 2 + b) * t


def columns_and_casts(x: Any, b: Any, t: Any, n: Any) -> Any:
    y = (x - n).astype(ts.float64) * 0.1
    return ts.where(y > 0, y, -y).astype(ts.float32) + b, y


def shared_and_in_place(x: Any, b: Any, t: Any, n: Any) -> Any:
    y = ts.exp(x * 0.1)
    z = y + x
    z *= y
    y += b
    return y * z, z


def summed(x: Any, b: Any, t: Any, n: Any) -> Any:
    return ((x * 2 + 1).relu() * t).sum(), (x * x).mean(), (x - t).sum(axis=0), ((x - t) ** 2).mean()


def integers(x: Any, b: Any, t: Any, n: Any) -> Any:
    i = (x * 100).astype(ts.int32)
    return (i * 3 + 1).sum(), ((i & 7) == 3).astype(ts.float32) * x


@pytest.mark.parametrize("f", [activation, columns_and_casts, shared_and_in_place, summed, integers])
@pytest.mark.parametrize(
    "shape",
    [(300, 100), (64, 512), (1, 40_000), (131_072,), (1_000_000,), (40_000, 3), (3, 70_000), (8, 16, 32, 5)],
)
def test_fused_steps_have_the_bits_of_single_ones(f: Any, shape: tuple[int, ...], threads: int) -> None:
    args = tensor(*shape), tensor(shape[-1], seed=1), tensor(*shape, seed=2), tensor(*shape[:-1], 1, seed=3)
    g = ts.jit(f)
    for k in range(2):
        moved = tuple(a + k for a in args)
        expected, got = f(*moved), g(*moved)
        for a, b in zip(expected, got) if isinstance(expected, tuple) else [(expected, got)]:
            assert a.dtype == b.dtype and a.shape == b.shape
            assert a.numpy().tobytes() == b.numpy().tobytes()
    if shape != (3, 70_000) or f is summed:  # a row that no cache holds, beside one that is repeated
        assert "+" in g.graph().split("arena")[1]


REDUCTIONS: dict[str, Any] = {
    "sum": lambda y: ts.sum(y, axis=-1),
    "mean": lambda y: ts.mean(y, axis=-1, keepdims=True),
    "max": lambda y: ts.max(y, axis=-1),
    "min": lambda y: ts.min(y, axis=-1),
    "prod": lambda y: ts.prod(y, axis=-1),
    "logsumexp": lambda y: ts.logsumexp(y, axis=-1),
    "any": lambda y: ts.any(y > 1, axis=-1),
    "all": lambda y: ts.all(y > -3, axis=-1),
    "argmax": lambda y: ts.argmax(y, axis=-1),
    "sum of two axes": lambda y: ts.sum(y, axis=(-2, -1)),
    "mean of all": lambda y: ts.mean(y),
    "integers": lambda y: ts.sum((y * 10).astype(ts.int64), axis=-1),
    "with the values": lambda y: (y, ts.max(y, axis=-1)),
    "columns": lambda y: ts.sum(y, axis=0),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(
    "shape", [(300, 100), (4, 30, 111), (2, 9000), (5000, 3), (3, 70_000), (2, 3, 5, 7, 64)]
)
@pytest.mark.parametrize("dtype", [ts.float32, ts.float64])
def test_rows_that_end_a_group(name: str, shape: tuple[int, ...], dtype: Any, threads: int) -> None:
    x, b = tensor(*shape).astype(dtype), tensor(shape[-1], seed=1).astype(dtype)
    n = tensor(*shape[:-1], 1, seed=3).astype(dtype)

    def f(x: Any) -> Any:
        return REDUCTIONS[name]((x * 2 + b) * n)

    g = ts.jit(f)
    g(x)
    for k in range(2):
        expected, got = f(x + k), g(x + k)
        for u, v in zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]:
            assert u.dtype == v.dtype and u.shape == v.shape and u.numpy().tobytes() == v.numpy().tobytes()
    kinds = {"integers": "sum", "with the values": "max"}
    if shape == (300, 100) and name not in ("columns", "sum of two axes", "mean of all"):
        assert f"+{kinds.get(name, name)}" in g.graph()


def test_special_values_in_fused_rows() -> None:
    x = tensor(100, 100)
    x[3, 5], x[4, 6], x[5, :], x[6, :], x[7, 0], x[8, 2] = math.nan, math.inf, -0.0, 0.0, -math.inf, -math.nan
    for name, reduce in REDUCTIONS.items():
        f = ts.jit(lambda x, reduce=reduce: reduce(ts.abs(x) * ts.sign(x) + x * 0))
        f(x)
        expected, got = reduce(ts.abs(x) * ts.sign(x) + x * 0), f(x)
        for u, v in zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]:
            assert u.numpy().tobytes() == v.numpy().tobytes(), name


@pytest.mark.parametrize("n", [8192, 8193, 10_241, 12_300, 100_001, 262_145])
@pytest.mark.parametrize("dtype", [ts.float32, ts.float64])
def test_sums_of_any_length_end_a_group(n: int, dtype: Any, threads: int) -> None:
    x, y = tensor(n).astype(dtype), tensor(n, seed=1).astype(dtype)

    def f(x: Any, y: Any) -> Any:
        return (x * y).sum(), (ts.exp(x) * 2 + y * y).sum()

    g = ts.jit(f)
    g(x, y)
    assert "multiply+sum" in g.graph()
    for a, b in zip(f(x, y), g(x, y), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("order", [(0, 3, 1, 2), (3, 2, 1, 0)])
def test_fusion_keeps_layouts(order: tuple[int, ...]) -> None:
    base = tensor(8, 16, 24, 10)
    x = base.permute_dims(np.argsort(order).tolist())

    def f(x: Any) -> Any:
        return ts.sigmoid(x * 2) - x.sum() + x

    g = ts.jit(f)
    g(x)
    expected, got = f(x), g(x)
    assert expected.strides == got.strides and np.array_equal(expected.numpy(), got.numpy())


def test_nothing_is_fused_over_memory_that_is_shared() -> None:
    memory = np.arange(20_001, dtype=np.float32)

    def f(a: Any, b: Any) -> Any:
        a *= 2
        a += 1
        return b * a

    def run(f: Any) -> np.ndarray:
        memory[:] = np.arange(20_001)
        for _ in range(2):
            y = f(ts.asarray(memory[1:]), ts.asarray(memory[:-1]))
        return np.stack([y.numpy(), memory[1:]])

    assert np.array_equal(run(f), run(ts.jit(f)))


def test_a_schedule_between_pointwise_steps_stays_between() -> None:
    p = nn.Parameter(ts.ones((10_000,)))
    opt = optim.SGD([p], lr=1.0)

    @ts.jit
    def step() -> Any:
        with ts.no_grad():
            before = p * 2 + 1
            p.grad = before * 0.5
        opt.step()
        with ts.no_grad():
            return p * 3 + before

    q = np.ones(10_000, np.float32)
    for lr in (1.0, 0.5, 0.25):
        opt.param_groups[0]["lr"] = lr
        before = q * 2 + 1
        q = q - np.float32(lr) * (before * np.float32(0.5))
        assert np.allclose(step().numpy(), q * 3 + before)
    assert step.cache_info().misses == 1
