"""ts.jit on the GPU, or through tests/cuda_host: recordings become graphs, with the bits of eager calls."""

from __future__ import annotations

import gc
import re
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from jit_steps import Model, train
from tensorsmith import nn, optim
from tensorsmith.bench import models
from tensorsmith.nn import functional as F

pytestmark = [
    pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or ""),
    pytest.mark.usefixtures("new_tensors_on_the_gpu"),
]


def cnn(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(3 * 4 * 4, 5),
    )  # fmt: skip


MODELS: dict[str, Model] = {
    "mlp": (models._mlp(12, 8, 5), (6, 12), False, 5),
    "cnn": (cnn, (3, 1, 8, 8), False, 5),
    "gpt": (models.gpt(1, 2, 16, 8), (2, 8), True, 256),
    "lstm": (models._lstm(6, 5), (2, 4), True, 256),
}


@pytest.mark.parametrize("name", MODELS)
def test_replayed_trainings_have_the_bits_of_eager_ones(name: str) -> None:
    """With dropout and a schedule: what changes from step to step is read from memory by the graphs."""
    for fused_clipping in (False, True):
        eager = train(MODELS[name], False, 6, 0.2, fused_clipping)
        replayed = train(MODELS[name], True, 6, 0.2, fused_clipping)
        assert eager[:2] == replayed[:2] and np.isfinite(eager[1]).all()
        info = replayed[2].cache_info()
        assert info[:2] == (5, 1) and (info.cuda_graphs, info.kernel_by_kernel) == (1, 0)
        steps = [line for line in replayed[2].graph().splitlines() if "    # " in line]
        graphs = re.search(r"graphs: steps (\d+) to (\d+)", replayed[2].graph())
        assert graphs and int(graphs[2]) - int(graphs[1]) > len(steps) / 2


def test_generators_go_on_wherever_they_were_used() -> None:
    x = ts.ones(64)
    f = ts.jit(lambda x: F.dropout(x, 0.5))
    ends = []
    for run in (lambda x: F.dropout(x, 0.5), f):
        ts.manual_seed(7)
        drawn = [run(x).tolist() for _ in range(3)]
        drawn.append(ts.random.uniform(size=3).tolist())
        before = ts.get_default_device()
        ts.set_default_device("cpu")
        drawn.append(ts.random.uniform(size=3).tolist())  # the state comes back to the host
        ts.set_default_device(before)
        drawn += [run(x).tolist() for _ in range(2)]
        ts.manual_seed(7)
        drawn.append(run(x).tolist())
        assert drawn[-1] == drawn[0] and drawn[1] != drawn[0]
        ends.append(drawn)
    assert ends[0] == ends[1]
    assert f.cache_info().misses == 1


def test_cpu_recordings_see_that_the_gpu_drew() -> None:
    generator = ts.random.Generator(11)
    reference = ts.random.Generator(11)
    ts.set_default_device("cpu")

    def draw(n: int) -> Any:
        return ts.random.uniform(size=n, generator=generator) * 1

    f = ts.jit(draw)
    drawn = [f(4).tolist() for _ in range(3)]
    ts.set_default_device("cuda")
    drawn.append(draw(4).tolist())
    ts.set_default_device("cpu")
    drawn += [f(4).tolist() for _ in range(3)]
    ts.set_default_device("cuda")
    drawn.append(draw(4).tolist())
    ts.set_default_device("cpu")
    drawn += [f(4).tolist() for _ in range(2)]
    assert drawn == [ts.random.uniform(size=4, generator=reference).tolist() for _ in drawn]
    assert f.cache_info().hits >= 5

    def both() -> Any:
        a = ts.random.uniform(size=4, generator=generator)
        ts.set_default_device("cuda")
        try:
            return a, ts.random.uniform(size=4, generator=generator)
        finally:
            ts.set_default_device("cpu")

    both()
    with pytest.raises(RuntimeError, match="on the CPU and on the GPU from one generator"):
        ts.jit(both)()


def test_inputs_and_results_at_other_addresses() -> None:
    w = ts.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))

    def g(x: Any) -> Any:
        y = x @ w + 1
        return y, y.sum() * 2

    f = ts.jit(g)
    rng = np.random.default_rng(0)
    xs = [ts.asarray(rng.standard_normal((5, 3)).astype(np.float32)) for _ in range(6)]
    wide = ts.asarray(rng.standard_normal((10, 3)).astype(np.float32))
    held = [f(x) for x in [*xs, wide[5:], wide[:5], *xs]]  # nothing is handed out twice while it is held
    for x, (y, total) in zip([*xs, wide[5:], wide[:5], *xs], held, strict=True):
        expected = g(x)
        np.testing.assert_array_equal(y.cpu().numpy(), expected[0].cpu().numpy())
        assert total.item() == expected[1].item()
    assert f.cache_info().misses == 1 and f.cache_info().cuda_graphs == 1
    del held
    before = ts.cuda.memory_stats()["live_blocks"]
    for x in xs:
        f(x)
    assert ts.cuda.memory_stats()["live_blocks"] == before
    f.cache_clear()
    gc.collect()
    assert ts.cuda.memory_stats()["live_blocks"] < before


def test_arguments_written_in_place() -> None:
    def g(x: Any, y: Any) -> Any:
        x += y
        y *= 2
        return (x * y).sum()

    f = ts.jit(g)
    for _ in range(4):
        a = [ts.ones(7) for _ in range(2)]
        b = [ts.ones(7) for _ in range(2)]
        assert f(*a).item() == g(*b).item()
        for x, y in zip(a, b, strict=True):
            assert x.tolist() == y.tolist()
    held = []
    for _ in range(40):  # always elsewhere
        held.append([ts.ones(7), ts.ones(7)])
        f(*held[-1])
    assert all(x.tolist() == [2.0] * 7 and y.tolist() == [2.0] * 7 for x, y in held)
    assert f.cache_info()[:2] == (43, 1) and f.cache_info().kernel_by_kernel == 1
    assert "kernel by kernel: an argument that is written in place" in f.graph()


def test_what_is_made_on_the_host_is_brought_there() -> None:
    table = np.arange(4, dtype=np.float32)
    memory = ts.asarray(table, device="cpu")
    f = ts.jit(lambda x: (x * memory.to("cuda") + ts.asarray([1.0, 2.0, 3.0, 4.0])) * 2)
    for _ in range(3):
        assert f(ts.ones(4)).tolist() == [2.0, 6.0, 10.0, 14.0]
    memory[0] = 5  # read at each replay
    assert f(ts.ones(4)).tolist() == [12.0, 6.0, 10.0, 14.0]
    assert f.cache_info().misses == 1


def test_checks_come_before_anything_changes() -> None:
    layer = nn.Linear(4, 3).to("cuda")
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    table = ts.asarray(np.arange(20, dtype=np.float32).reshape(5, 4))

    def step(i: Any, t: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(table[i]), t)
        loss.backward()
        optimizer.step()
        return loss

    f = ts.jit(step)
    rows, classes = ts.asarray([0, 4, 2]), ts.asarray([0, 1, 2])
    for _ in range(3):
        f(rows, classes)
    before = layer.weight.detach().cpu().numpy().copy()
    with pytest.raises(
        IndexError, match=r"target 3 at position 1 is out of range for 3 classes.*recorded at"
    ):
        f(rows, ts.asarray([0, 3, 1]))
    with pytest.raises(IndexError, match=r"index 5 .* is out of range.*recorded at"):
        f(ts.asarray([0, 5, 1]), classes)
    np.testing.assert_array_equal(layer.weight.detach().cpu().numpy(), before)
    f(rows, ts.asarray([0, -100, 1]))  # ignored
    assert f.cache_info()[:2] == (5, 1)
    steps = [line for line in f.graph().splitlines() if "    # " in line]
    assert (
        "index_range(" in steps[0] and "cross_entropy targets(" in steps[1] and "(checked above)" in steps[2]
    )


def test_reading_on_the_host_is_refused() -> None:
    x = ts.ones(3)
    for read in (float, bool, lambda v: v.item(), lambda v: v.cpu(), lambda v: v.tolist()):
        f = ts.jit(lambda x, read=read: read(x.sum()))
        with pytest.raises(RuntimeError, match=r"on the host.*test_cuda_jit.py:\d+"):
            f(x)
        assert f.cache_info().currsize == 0
    assert (x + 1).sum().item() == 6
    with pytest.raises(RuntimeError, match="depend"):
        ts.jit(lambda x: x[x > 0])(x)
    with pytest.warns(RuntimeWarning, match="runs without recordings"):
        g = ts.jit(lambda x: x * float(x.sum()), fallback=True)
        assert g(x).tolist() == [3.0] * 3
    assert g(x).tolist() == [3.0] * 3


def test_within_the_users_own_graph() -> None:
    x = ts.ones(5)
    f = ts.jit(lambda x: (x + 1) * x)
    for _ in range(2):
        f(x)
    g = ts.cuda.Graph()
    with ts.cuda.graph(g):
        y = f(x)
    x[:] = 2
    g.replay()
    assert y.tolist() == [6.0] * 5
    assert f(x).tolist() == [6.0] * 5


def test_on_another_stream() -> None:
    x = ts.arange(100.0)
    f = ts.jit(lambda x: ((x + 1) * x).sum())
    expected = f(x).item()
    s = ts.cuda.Stream()
    for _ in range(3):
        assert f(x).item() == expected
        s.wait_stream(ts.cuda.default_stream())
        with ts.cuda.stream(s):
            assert f(x).item() == expected
    assert f.cache_info().hits == 6


def test_profiled_and_precision() -> None:
    a = ts.asarray(np.random.default_rng(1).standard_normal((17, 17)).astype(np.float32))
    f = ts.jit(lambda a: (a @ a + 1) * 2)
    expected = f(a).tolist()
    for _ in range(2):
        assert f(a).tolist() == expected
    with ts.profiler.profile() as p:
        assert f(a).tolist() == expected
    assert "matmul" in p.table() or "gemm" in p.table()
    ts.cuda.set_matmul_precision("tf32")
    try:
        assert f(a).tolist() == ((a @ a + 1) * 2).tolist()
    finally:
        ts.cuda.set_matmul_precision("ieee")
    assert f(a).tolist() == expected


def test_gradients_that_someone_holds_are_not_written_over() -> None:
    layer = nn.Linear(4, 3).to("cuda")
    x = ts.ones((2, 4))

    def step(x: Any) -> Any:
        for p in layer.parameters():
            p.grad = None
        loss = (layer(x) ** 2).sum()
        loss.backward()
        return loss

    f = ts.jit(step)
    for _ in range(3):
        f(x)
    first = layer.weight.grad
    value = first.cpu().numpy().copy()
    x *= 2
    f(x)  # someone holds the gradient: it stays
    np.testing.assert_array_equal(first.cpu().numpy(), value)
    assert not np.array_equal(layer.weight.grad.cpu().numpy(), value)
