"""Streams, events, graphs, page-locked memory and running out of memory, on the GPU or through tests/cuda_host."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith.nn import functional as F

pytestmark = pytest.mark.usefixtures("new_tensors_on_the_gpu")
if not ts.cuda.is_available():
    pytest.skip(ts.cuda.why_not() or "", allow_module_level=True)
ON_HOST = ts.cuda.get_device_properties()["name"].startswith("the host")


def test_streams() -> None:
    s = ts.cuda.Stream()
    assert ts.cuda.current_stream() == ts.cuda.default_stream() != s
    x = ts.ones(1000)
    s.wait_stream(ts.cuda.default_stream())
    with ts.cuda.stream(s) as current:
        assert ts.cuda.current_stream() == current == s
        y = x * 2
        event = s.record_event()
    assert ts.cuda.current_stream() == ts.cuda.default_stream()
    event.wait()
    assert (y + x).sum().item() == 3000
    s.synchronize()
    assert s.query() and event.query()
    assert s.__cuda_stream__() == (0, s.cuda_stream)


def test_memory_that_several_streams_use() -> None:
    """Freed while another stream may read it: handed out again when that one is through."""
    streams = [ts.cuda.Stream(priority=-1), ts.cuda.Stream(), ts.cuda.default_stream()]
    base = ts.arange(5000.0)
    ts.cuda.synchronize()
    live = ts.cuda.memory_stats()["live_blocks"]
    for step in range(50):
        results = []
        for s in streams:
            s.wait_stream(ts.cuda.default_stream())
            with ts.cuda.stream(s):
                results.append(base + step)
        for s in streams[:2]:
            ts.cuda.default_stream().wait_stream(s)
        total = (results[0] + results[1] + results[2]).sum().item()
        assert total == 3 * (5000 * 4999 / 2 + 5000 * step)
    del results
    assert ts.cuda.memory_stats()["live_blocks"] == live
    del s, streams
    assert (base + 1).sum().item() == 5000 * 4999 / 2 + 5000


def test_memory_that_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """That another stream is not through yet is no error of the next launch."""
    monkeypatch.setenv("CUDA_HOST_EVENTS", "late")  # of the host's events; a GPU has work for half a second
    n, count = (8, 1) if ON_HOST else (8192, 20)
    s, x = ts.cuda.Stream(), ts.ones(n, n)
    s.wait_stream(ts.cuda.default_stream())
    with ts.cuda.stream(s):
        for _ in range(count):
            y = x @ x
    del x
    assert ts.ones(10).sum().item() == 10
    s.synchronize()
    assert y[0, 0].item() == n


def test_events_measure() -> None:
    begin, end = ts.cuda.Event(enable_timing=True), ts.cuda.Event(enable_timing=True)
    with pytest.raises(RuntimeError, match="the time between two events"):
        begin.elapsed_time(end)
    begin.record()
    ts.ones(100) + 1
    end.record()
    end.synchronize()
    assert begin.elapsed_time(end) >= 0


def test_graphs() -> None:
    """A captured training step: nothing runs while it is captured; replays see what inputs hold now."""
    rng = np.random.default_rng(3)
    x, t = (
        ts.array(rng.standard_normal((8, 5)).astype(np.float32)),
        ts.array(rng.standard_normal((8, 3)).astype(np.float32)),
    )
    found = []
    for captured in (False, True):
        ts.manual_seed(0)
        layer = ts.nn.Linear(5, 3).to("cuda")
        optimizer = ts.optim.AdamW(layer.parameters(), lr=0.1)

        def step(layer: Any = layer, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad(set_to_none=False)
            loss = ts.nn.functional.mse_loss(layer(x), t)
            loss.backward()
            optimizer.step()
            return loss

        losses = [step().item()]  # makes the optimizer's state
        if captured:
            g = ts.cuda.Graph()
            before = layer.weight.detach().cpu().numpy().copy()
            with ts.cuda.graph(g):
                loss = step()
            np.testing.assert_array_equal(layer.weight.detach().cpu().numpy(), before)
            for _ in range(4):
                g.replay()
                losses.append(loss.item())
        else:
            losses += [step().item() for _ in range(4)]
        found.append(losses)
    assert found[0] == found[1]


def test_graph_memory_is_its_own() -> None:
    x = ts.ones(1000)
    g = ts.cuda.Graph()
    with ts.cuda.graph(g):
        y = (x * 2 + 1) * x  # the intermediate results' memory is reused within
    others = [ts.full((1000,), float(i)) for i in range(20)]
    x[:] = 3
    g.replay()
    assert y.tolist() == [21.0] * 1000
    assert all((o == i).all() for i, o in enumerate(others))
    live = ts.cuda.memory_stats()["live_blocks"]
    del y, g
    assert ts.cuda.memory_stats()["live_blocks"] == live - 1


def test_other_threads_go_on_while_one_captures() -> None:
    """Also on the stream that both began with: a graph has what its own thread did."""
    x, g, found = ts.ones(5), ts.cuda.Graph(), []
    stream = ts.cuda.current_stream()

    def work() -> None:
        found.append((ts.array([1.0, 2.0], device="cuda") * 3).tolist())

    with ts.cuda.graph(g):
        assert ts.cuda.current_stream() == stream
        y = x + 1
        other = threading.Thread(target=work)
        other.start()
        other.join()
        y = y * 2
    assert found == [[3.0, 6.0]]
    g.replay()
    assert y.tolist() == [4.0] * 5 and ts.cuda.current_stream() == stream
    s = ts.cuda.Stream()
    with ts.cuda.stream(s):
        x[:] = 2
        g.replay()
        assert y.tolist() == [6.0] * 5


def test_a_graph_that_is_given_up_while_another_is_captured() -> None:
    """It waits for the GPU before it goes, which must not be then."""
    x, old, g = ts.ones(5), ts.cuda.Graph(), ts.cuda.Graph()
    with ts.cuda.graph(old):
        y = x + 1
    old.replay()
    with ts.cuda.graph(g):
        z = x * 3
        del old
        z = z + 1
    g.replay()
    assert z.tolist() == [4.0] * 5 and y.tolist() == [2.0] * 5
    with pytest.raises(RuntimeError, match="while work is captured"), ts.cuda.graph(ts.cuda.Graph()):
        del g
        x.tolist()
    assert (x + 1).tolist() == [2.0] * 5


def test_reading_a_value_while_capturing() -> None:
    x, g = ts.ones(3), ts.cuda.Graph()
    with (
        pytest.raises(RuntimeError, match="a value is wanted on the host while work is captured"),
        ts.cuda.graph(g),
    ):
        (x + 1).sum().item()
    assert (x + 1).sum().item() == 6  # given up
    with pytest.raises(RuntimeError, match="nothing was captured yet"):
        g.replay()


def test_pinned_memory() -> None:
    a = np.arange(24.0, dtype=np.float32).reshape(4, 6)
    x = ts.array(a, device="cpu")
    pinned = ts.cuda.pin_memory(x)
    assert ts.cuda.is_pinned(pinned) and not ts.cuda.is_pinned(x) and ts.cuda.pin_memory(pinned) is not x
    y = ts.zeros(4, 6)
    ts.cuda.copy_async(y, pinned)
    np.testing.assert_array_equal((y * 2).cpu().numpy(), 2 * a)
    back = ts.cuda.pin_memory(ts.zeros(4, 6, device="cpu"))
    ts.cuda.copy_async(back, y + 1)
    ts.cuda.synchronize()
    np.testing.assert_array_equal(back.numpy(), a + 1)
    np.testing.assert_array_equal(pinned.cuda().cpu().numpy(), a)
    assert ts.cuda.memory_stats()["pinned_bytes"] > 0
    with pytest.raises(ValueError, match="x must be in page-locked memory"):
        ts.cuda.copy_async(y, x)
    with pytest.raises(ValueError, match="one of target and x must be on cpu"):
        ts.cuda.copy_async(y, y + 1)
    with pytest.raises(ValueError, match="must lie in memory alike"):
        ts.cuda.copy_async(ts.zeros(6, 4).T, pinned)


def test_dlpack() -> None:
    """The same memory, without a copy; the producer is told which stream will read it."""
    x = ts.arange(12.0).reshape(3, 4)
    live = ts.cuda.memory_stats()["live_blocks"]
    y = ts.from_dlpack(x.T.__dlpack__(max_version=(1, 0)))
    assert y.device == "cuda" and tuple(y.shape) == (4, 3)
    y[1] = -1.0
    assert x[:, 1].tolist() == [-1.0] * 3

    class Producer:
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.tensor.__dlpack_device__()

        def __dlpack__(self, **asked: Any) -> Any:
            self.asked = asked
            return self.tensor.__dlpack__(**asked)

    producer = Producer(x)
    z = ts.from_dlpack(producer)
    assert producer.asked["stream"] == ts.cuda.current_stream().cuda_stream
    del x, producer
    assert z[2].tolist() == [8.0, -1.0, 10.0, 11.0]
    assert ts.from_dlpack(z.__dlpack__(dl_device=(1, 0))).device == "cpu"
    del y, z
    assert ts.cuda.memory_stats()["live_blocks"] == live - 1


def test_a_capsule_that_goes_does_not_swallow_a_complaint() -> None:
    with pytest.raises(IndexError, match="target 7 at position 1 is out of range"):
        x = ts.zeros(2, 3)
        loss = F.cross_entropy(x, ts.asarray([0, 7]))
        capsule = x.__dlpack__(stream=-1)
        del capsule
        loss.item()


def test_running_out_of_memory() -> None:
    """All that there is, then an error that says what is live; what is freed can be used again."""
    ts.cuda.empty_cache()
    size = ts.cuda.get_device_properties()["memory"] // 8
    held = []
    with pytest.raises(MemoryError, match=r"no memory for .* MiB are live in \d+ blocks \(the largest .*\)"):
        for _ in range(9):
            held.append(ts.empty(size, dtype=ts.uint8))
    assert len(held) >= 4
    x = ts.ones(10)
    assert x.sum().item() == 10
    held.clear()
    again = ts.empty(size * 3, dtype=ts.uint8)  # the cached blocks go back to the driver for it
    del again
    ts.cuda.empty_cache()
    assert ts.cuda.memory_stats()["cached_bytes"] < size


def test_matmul_precision_has_names() -> None:
    assert ts.cuda.get_matmul_precision() == "ieee"
    ts.cuda.set_matmul_precision("tf32")
    assert ts.cuda.get_matmul_precision() == "tf32"
    ts.cuda.set_matmul_precision("ieee")
    with pytest.raises(ValueError, match="precision must be one of"):
        ts.cuda.set_matmul_precision("fast")  # type: ignore[arg-type]
