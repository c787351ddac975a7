"""The GPU's memory in expandable ranges (TENSORSMITH_CUDA_EXPANDABLE=1) and in segments: growth, fragmentation, running
out, giving back, graphs and streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

if not ts.cuda.is_available():
    pytest.skip(ts.cuda.why_not() or "", allow_module_level=True)
ON_HOST = ts.cuda.get_device_properties()["name"].startswith("the host")
MIB = 2**20


@pytest.fixture(autouse=True, params=["ranges", "segments"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TENSORSMITH_CUDA_EXPANDABLE", "1" if request.param == "ranges" else "0")
    ts.cuda.empty_cache()
    ts.set_default_device("cuda")
    yield request.param
    ts.set_default_device("cpu")
    ts.cuda.empty_cache()


def block(mib: float) -> Any:
    return ts.empty(int(mib * MIB), dtype=ts.uint8)


def marked(mib: float, value: float) -> Any:
    """A block of float32 with the value at every 64 KiB and at its end."""
    x = ts.empty(max(1, int(mib * MIB / 4)))
    x[::16384] = value
    x[-1:] = value
    return x


def holds(x: Any, value: float) -> bool:
    return bool((x[::16384] == value).all().item()) and x[-1].item() == value


def taken() -> float:
    """MiB from the driver, beyond what is live."""
    stats = ts.cuda.memory_stats()
    return (stats["system_bytes"] - stats["live_bytes"]) / MIB


def test_blocks_hold_what_was_written(memory: str) -> None:
    """Of many sizes, freed in an order that joins and cuts."""
    rng = np.random.default_rng(0)
    held: dict[int, Any] = {}
    for step in range(80):
        if len(held) > 12 or (held and rng.random() < 0.4):
            key = int(rng.choice(list(held)))
            assert holds(held.pop(key), key), step
        else:
            held[step] = marked(2.0 ** rng.uniform(-18, 4), step)
    for key, x in held.items():
        assert holds(x, key)
    stats = ts.cuda.memory_stats()
    assert stats["system_bytes"] == stats["live_bytes"] + stats["cached_bytes"]


@pytest.mark.skipif(not ON_HOST, reason="fills the memory, which is small on the host")
def test_growth_without_fragmentation(memory: str) -> None:
    """Two of three blocks are freed, and then one block wants what they had: segments of 20 MiB that hold a live block
    each cannot give it."""
    total = ts.cuda.get_device_properties()["memory"] // MIB
    count = (total - 64) // 20 * 3
    held = [block(6) for i in range(count)]
    live = held[::3]
    for i, x in enumerate(live[::8]):
        x[-1:] = i
    del held
    wanted = (
        4 * count - 2 * (count // 3) - 20
    )  # a granule of each gap may be shared with a neighbour that lives
    if memory == "segments":
        with pytest.raises(MemoryError, match=r"cached \(\d+ free pieces of at most 1\d.\d MiB\)"):
            block(wanted)
    else:
        large = block(wanted)
        large[:: 2 * MIB] = 200
        assert (large[:: 2 * MIB] == 200).all().item()
        del large
    assert all(x[-1].item() == i for i, x in enumerate(live[::8]))
    del live, x
    assert block(total - 64).size == (total - 64) * MIB


def test_doubling(memory: str) -> None:
    """A buffer that grows by copies: ranges join what the smaller ones left, segments keep all of them."""
    ts.cuda.empty_cache()
    before = taken()
    x, size, largest = block(2), 2, 64 if ON_HOST else 1024
    while size < largest:
        size *= 2
        x = block(size)
        x[:1] = 1
    assert taken() - before <= size + 20
    del x
    y = block(size * 3 // 2)  # of the two last ones' addresses
    if memory == "ranges":
        assert taken() - before < size // 2
    else:
        assert taken() - before > size
    del y


@pytest.mark.skipif(not ON_HOST, reason="fills the memory, which is small on the host")
def test_running_out(memory: str) -> None:
    total = ts.cuda.get_device_properties()["memory"] // MIB
    held = []
    with pytest.raises(
        MemoryError,
        match=rf"no memory for 128.0 MiB: .* MiB are live in \d+ blocks \(the largest 128.0, 128.0 and 128.0\), .* MiB "
        rf"cached \(\d+ free pieces of at most .* MiB\); the driver gave .* MiB and has .* of {total}.0 MiB left",
    ):
        for _ in range(9):
            held.append(block(128))
    assert len(held) >= 6
    x = ts.ones(10)
    assert x.sum().item() == 10  # the context is as it was
    left = taken()
    assert left < 128
    held.pop()
    held.append(block(128))
    held.clear()
    assert block(total // 2).size == total // 2 * MIB


def test_giving_back(memory: str) -> None:
    """Whole granules between live blocks go back, and what lives stays."""
    held = [marked(3, i) for i in range(40)]
    kept = held[::10]
    del held
    before = taken()
    ts.cuda.empty_cache()
    after = taken()
    assert after <= before
    if memory == "ranges":
        assert after < 4 * 5 + 4  # at most the rest of two granules around each
    assert all(holds(x, 10 * i) for i, x in enumerate(kept))
    del kept
    ts.cuda.empty_cache()
    stats = ts.cuda.memory_stats()
    assert stats["system_bytes"] <= stats["live_bytes"] + 20 * MIB


def test_a_graph_keeps_its_memory(memory: str) -> None:
    """What a graph computes on the way lies in memory that is free, but is its own until it is gone."""
    size = 11 * MIB // 4  # float32s: large enough for segments of their own
    x, g = ts.full((size,), 2.0), ts.cuda.Graph()
    with ts.cuda.graph(g):
        y = ((x + 1) * (x + 2)).sum()
    live = ts.cuda.memory_stats()["live_bytes"]
    ts.cuda.empty_cache()
    others = [marked(11, i) for i in range(6)]
    for value in (1.0, 3.0):
        x[:] = value
        g.replay()
        assert y.item() == (value + 1) * (value + 2) * size
        assert all(holds(o, i) for i, o in enumerate(others))
    del others, y
    before = ts.cuda.memory_stats()
    del g
    ts.cuda.empty_cache()
    stats = ts.cuda.memory_stats()
    assert stats["live_bytes"] < live and stats["system_bytes"] <= before["system_bytes"] - 22 * MIB


def test_streams(memory: str) -> None:
    """Each has its pool; a stream's memory is the first one's when it is gone."""
    first = ts.ones(MIB // 2)
    for _ in range(2):
        s = ts.cuda.Stream()
        s.wait_stream(ts.cuda.default_stream())
        with ts.cuda.stream(s):
            parts = [first * k for k in range(5)]
            small = [ts.full((5,), float(k)) for k in range(5)]
        ts.cuda.default_stream().wait_stream(s)
        del s
        total = parts[1] + parts[4]
        assert (total == 5).all().item() and [v[0].item() for v in small] == [0, 1, 2, 3, 4]
        del parts, small, total
    ts.cuda.empty_cache()
    assert (first == 1).all().item()
    assert taken() < 40


def test_an_unknown_value(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORSMITH_CUDA_EXPANDABLE", "yes")
    with pytest.raises(RuntimeError, match="TENSORSMITH_CUDA_EXPANDABLE is 'yes'; 0 and 1 are known"):
        block(300)
    monkeypatch.setenv("TENSORSMITH_CUDA_EXPANDABLE", "1")
    assert block(30).size == 30 * MIB


@pytest.mark.skipif(not ON_HOST, reason="asks the host to be a device without virtual memory")
def test_a_device_without_virtual_memory(memory: str) -> None:
    """Segments then, for what was asked to be ranges."""
    if memory == "segments":
        pytest.skip("once is enough")
    program = (
        "import tensorsmith as ts; a = ts.empty(30 * 2**20, dtype=ts.uint8, device='cuda'); "
        "b = ts.full((10,), 3.0, device='cuda'); print(b.sum().item(), ts.cuda.memory_stats()['system_bytes'])"
    )
    environment = os.environ | {"TENSORSMITH_CUDA_EXPANDABLE": "1", "CUDA_HOST_VIRTUAL_MEMORY": "0"}
    run = [sys.executable, "-c", program]
    found = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["30.0", str(32 * MIB)]


def test_the_run_time_in_ranges(memory: str) -> None:
    """Streams, events, graphs, page-locked memory and DLPack, with every allocation in a range."""
    if memory == "segments":
        pytest.skip("that is test_cuda_runtime.py itself")
    file = Path(__file__).with_name("test_cuda_runtime.py")
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
