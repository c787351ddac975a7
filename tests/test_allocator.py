"""The allocator: what it counts, what it keeps, and what happens when there is no memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import _core, nn, optim
from tensorsmith.nn import functional as F


@pytest.fixture(autouse=True)
def disarmed():
    gc.collect()
    yield
    _core.fail_allocation(0)


def live() -> int:
    gc.collect()
    return ts.allocator_stats()["live_bytes"]


# --- what it counts ---


@pytest.mark.parametrize("elements", [1, 1000, 100_000, 3_000_000, 10_000_000])
def test_live_bytes_and_blocks_follow_an_array(elements):
    before = ts.allocator_stats()
    x = ts.zeros(elements)
    during = ts.allocator_stats()
    grown = during["live_bytes"] - before["live_bytes"]
    assert 4 * elements <= grown <= 5 * elements + 8192
    assert during["live_blocks"] == before["live_blocks"] + 1
    assert during["allocations"] == before["allocations"] + 1
    view = x[:1]
    del x
    assert ts.allocator_stats()["live_bytes"] == during["live_bytes"]
    del view
    after = ts.allocator_stats()
    assert (after["live_bytes"], after["live_blocks"]) == (before["live_bytes"], before["live_blocks"])


def test_the_peak_is_the_most_that_was_live():
    before = live()
    _core.reset_peak()
    a, b = ts.zeros(1_000_000), ts.zeros(1_000_000)
    del a, b
    c = ts.zeros(1_000_000)
    stats = ts.allocator_stats()
    assert 8_000_000 <= stats["peak_bytes"] - before <= 10_100_000
    del c
    _core.reset_peak()
    assert ts.allocator_stats()["peak_bytes"] == live()


def test_an_expression_frees_its_temporaries_at_once():
    x = ts.ones(1_000_000)
    before = live()
    _core.reset_peak()
    y = ((x + 1) * 2 - 3) / 4
    assert ts.allocator_stats()["peak_bytes"] - before <= 3 * 5_000_100
    assert y.numpy()[0] == 0.25


# --- what it keeps ---


def test_a_loop_reuses_its_memory():
    x = ts.ones((1000, 1000))

    def step() -> None:
        for _ in range(20):
            ts.exp(x @ x * 1e-9).sum()

    step()
    before = ts.allocator_stats()["system_bytes"]
    step()
    assert ts.allocator_stats()["system_bytes"] == before


@pytest.mark.parametrize("elements", [2_000_000, 30_000_000])
def test_empty_cache_gives_back_what_is_free(elements):
    ts.zeros(elements)
    before = ts.allocator_stats()
    assert before["cached_bytes"] >= 4 * elements
    ts.empty_cache()
    after = ts.allocator_stats()
    assert after["system_bytes"] <= before["system_bytes"] - 4 * elements
    assert after["live_bytes"] == before["live_bytes"]
    assert (ts.ones(elements).numpy()[:: elements // 7] == 1).all()


def test_zeros_of_fresh_memory_touch_nothing_and_of_used_memory_are_zeros():
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    shape = (3000, 3000)
    ts.empty_cache()
    before = resident()
    x = ts.zeros(shape)
    assert resident() - before < 16 << 20  # 36 MB
    assert not x.numpy().any()
    x += 1
    like = ts.zeros_like(x.T, dtype="int32")
    assert like.strides == x.T.strides
    assert not like.numpy().any()
    like -= 1
    del x, like
    for made in (ts.zeros(shape), ts.zeros_like(ts.empty(shape)), ts.zeros(shape, dtype="float64")):
        assert not made.numpy().any()


def test_a_spike_does_not_stay():
    blocks = [ts.empty(5_000_000) for _ in range(20)]  # 400 MB
    del blocks
    assert ts.allocator_stats()["cached_bytes"] >= 400_000_000
    for _ in range(40_000):
        ts.empty(300_000)
    assert ts.allocator_stats()["cached_bytes"] < 200_000_000


def test_what_one_thread_allocates_another_may_free():
    before = live()
    box = [ts.ones(n) for n in (10, 5000, 200_000, 5_000_000) for _ in range(8)]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    made: list[ts.Tensor] = []
    thread = threading.Thread(target=lambda: made.extend(ts.ones(5000) for _ in range(100)))
    thread.start()
    thread.join()
    assert all(x.numpy()[-1] == 1 for x in made)
    made.clear()
    assert live() == before


# --- no memory ---


@pytest.mark.parametrize("shape", [(1 << 38,), (1 << 20, 1 << 20), (1 << 45,), (1 << 60,)])
def test_a_huge_array_is_refused_and_the_next_is_right(shape):
    before = live()
    with pytest.raises(MemoryError, match=r"\d"):
        ts.zeros(shape)
    assert live() == before
    assert ts.ones(1000).sum().numpy() == 1000


def test_a_refusal_says_what_was_asked_and_what_is_live():
    x = ts.zeros(1_000_000)
    message = r"cannot allocate 10995116\d+ bytes \(1.00 TiB\): .* are live in \d+ blocks"
    with pytest.raises(MemoryError, match=message):
        ts.zeros(1 << 38)
    assert x.shape == (1_000_000,)


def test_a_limit_on_address_space_is_met_cleanly():
    code = """
import resource, tensorsmith as ts
ts.ones((300, 300)) @ ts.ones((300, 300))
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
kept = []
try:
    while True:
        kept.append(ts.empty(1 << 26))
except MemoryError as error:
    print(len(kept) >= 12, "(256.00 MiB)" in str(error))
kept.clear()
print(float(ts.ones((3 << 28,), dtype=ts.uint8)[-1]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "True True\n1.0\n", run.stderr


def test_the_environment_makes_an_allocation_fail():
    code = """
import tensorsmith as ts
kept, failed = [], 0
for _ in range(200):
    try:
        kept.append(ts.ones(10))
    except MemoryError:
        failed += 1
print(failed, len(kept))
"""
    env = {**os.environ, "TENSORSMITH_FAIL_ALLOC": "100"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert run.stdout == "1 199\n", run.stderr


class Step:
    """A training step that can be put back to where it was."""

    def __init__(self) -> None:
        ts.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 32), nn.GELU(),
            nn.LayerNorm(32), nn.Linear(32, 10),
        )  # fmt: skip
        self.optimizer = optim.AdamW(self.net.parameters(), lr=1e-2)
        rng = np.random.default_rng(0)
        self.x = ts.asarray(rng.standard_normal((8, 1, 8, 8)).astype(np.float32))
        self.target = ts.asarray(rng.integers(0, 10, 8))

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.net(self.x), self.target).backward()
        self.optimizer.step()

    def parameters(self) -> list[bytes]:
        return [p.detach().numpy().tobytes() for p in self.net.parameters()]

    def state(self) -> list[bytes]:
        return [v.numpy().tobytes() for v in self.net.state_dict().values()]


def test_a_training_step_survives_the_failure_of_any_allocation():
    reference = Step()
    reference()
    after_one = reference.parameters()
    before = ts.allocator_stats()["allocations"]
    reference()
    total = ts.allocator_stats()["allocations"] - before
    after_two = reference.parameters()
    assert total > 20

    for first in (True, False):  # the first step also makes the optimizer's state
        for n in range(1, total, 7):
            step = Step()
            if not first:
                step()
            step.optimizer.zero_grad()
            statistics = {k: v.numpy().copy() for k, v in step.net.state_dict().items()}
            parameters, live_before = step.parameters(), live()
            _core.fail_allocation(n)
            with pytest.raises(MemoryError, match="cannot allocate"):
                step()
            _core.fail_allocation(0)
            assert step.parameters() == parameters
            step.optimizer.zero_grad()
            if not first:
                assert live() == live_before
            step.net.load_state_dict({k: ts.asarray(v) for k, v in statistics.items()})
            step()
            assert step.parameters() == (after_one if first else after_two), f"allocation {n} of {total}"
