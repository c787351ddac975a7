"""ts.jit: memory, threads, interrupts, and what people see of a recording."""

from __future__ import annotations

import gc
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from jit_steps import tensor
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F


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
    with pytest.raises(TypeError, match="jit: cache_size must be an integer, got str"):
        ts.jit(lambda x: x, cache_size="a")
    with pytest.raises(ValueError, match="cache_size must be >= 1"):
        ts.jit(lambda x: x, cache_size=0)


def test_graph_is_readable() -> None:
    f = ts.jit(lambda x: ts.sum(x * 2))
    assert f.graph() == "nothing is recorded"
    f(ts.ones((4,)))
    text = f.graph()
    assert "multiply(" in text and "float32[4]" in text and "test_jit_planning.py" in text and "arena" in text


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
        assert "test_jit_planning.py" in product.line
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
