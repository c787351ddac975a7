"""Threads: how many, the same bits for any number, the interpreter's lock; the runtime under sanitizers."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F

ROOT = pathlib.Path(__file__).parent.parent
COUNTS = [1, 2, 3, 4, 7]


@pytest.fixture(autouse=True)
def threads_as_before():
    before = ts.get_num_threads()
    yield
    ts.set_num_threads(before)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)


# --- long rows, which are cut at places of the tree ---


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [32767, 32768, 32769, 65536 + 5, 100_000, 131_071, 262_144, 524_289, 1_100_000])
def test_a_row_alone_is_reduced_as_among_others(n: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    rows = ts.asarray(rng.standard_normal((3, n)).astype(dtype))
    for reduce in (ts.sum, ts.max, ts.mean, ts.var, lambda x, axis: ts.linalg.vector_norm(x, axis=axis)):
        among = reduce(rows, axis=1)
        for count in COUNTS:
            ts.set_num_threads(count)
            for alone in (rows[1], ts.stack([rows[0], rows[1]], axis=1)[:, 1], ts.flip(rows[1])[::-1]):
                assert reduce(alone, axis=0).item() == among[1].item()
    np.testing.assert_allclose(ts.sum(rows[0]).item(), rows.numpy()[0].sum(dtype="float64"), atol=n * 1e-7)


# --- how many ---


def test_the_number_of_threads_is_what_was_set():
    for count in (*COUNTS, 256):
        ts.set_num_threads(count)
        assert ts.get_num_threads() == count


@pytest.mark.parametrize("count", [0, -1, 257, 2**31 - 1])
def test_an_impossible_number_of_threads_is_refused(count):
    ts.set_num_threads(2)
    with pytest.raises(ValueError, match=rf"set_num_threads: count must be from 1 to 256, got {count}"):
        ts.set_num_threads(count)
    assert ts.get_num_threads() == 2


def test_the_environment_says_how_many():
    run = python("import tensorsmith as ts; print(ts.get_num_threads())", TENSORSMITH_NUM_THREADS="3")
    assert run.stdout == "3\n", run.stderr


@pytest.mark.parametrize("value", ["0", "257", "two", "2.5", "-1", "1e3", "99999999999999999999"])
def test_a_bad_environment_gets_a_sentence(value):
    run = python("import tensorsmith as ts; ts.get_num_threads()", TENSORSMITH_NUM_THREADS=value)
    assert run.returncode != 0
    assert f"TENSORSMITH_NUM_THREADS must be an integer from 1 to 256, got '{value}'" in run.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_the_affinity_mask_is_respected():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "import tensorsmith as ts\n"
        "print(ts.get_num_threads(), ts.config()['threads']['reason'])"
    )
    run = python(code, TENSORSMITH_NUM_THREADS="")
    assert run.stdout.startswith("1 1 CPU in this process's affinity mask"), run


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_the_affinity_mask_is_whole_after_every_call():
    """Beside busy cores the pool moves threads that stand still by their masks, the caller among them."""
    code = (
        "import os, time, numpy as np, tensorsmith as ts\n"
        "ts.set_num_threads(2)\n"
        "whole, a = os.sched_getaffinity(0), ts.asarray(np.ones((256, 256), np.float32))\n"
        "start, calls, narrow = time.monotonic(), 0, 0\n"
        "while time.monotonic() - start < 2:\n"
        "    a @ a\n"
        "    calls, narrow = calls + 1, narrow + (os.sched_getaffinity(0) != whole)\n"
        "print(narrow, calls)"
    )
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        run = python(code)
    finally:
        for process in spin:
            process.kill()
            process.wait()
    assert run.stdout.startswith("0 "), run


# --- the same bits ---

rng = np.random.default_rng(0)


def tensor(*shape: int, grad: bool = False) -> ts.Tensor:
    x = ts.asarray(rng.standard_normal(shape).astype(np.float32))
    return x.requires_grad_() if grad else x


A, B, X = tensor(317, 1031), tensor(1031, 259), tensor(1 << 20)
ROWS, BATCH = tensor(700, 1500), tensor(16, 8, 30, 30)


def trained() -> bytes:
    """The parameters of a small network after three steps."""
    ts.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(8, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24 * 225, 10)
    )
    target = ts.asarray(np.arange(16) % 10)
    for _ in range(3):
        F.cross_entropy(net(BATCH), target).backward()
        with ts.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
                p.grad = None
    return b"".join(p.detach().numpy().tobytes() for p in net.parameters())


BITS = {
    "matmul": lambda: (A @ B).numpy().tobytes(),
    "matmul of a transpose": lambda: (B.T @ A.T).numpy().tobytes(),
    "sum of all": lambda: X.sum().numpy().tobytes(),
    "sum of rows": lambda: ROWS.sum(axis=1).numpy().tobytes(),
    "sum of columns": lambda: ROWS.sum(axis=0).numpy().tobytes(),
    "softmax": lambda: ts.softmax(ROWS, axis=-1).numpy().tobytes(),
    "exp": lambda: ts.exp(X).numpy().tobytes(),
    "training": trained,
}


@pytest.mark.parametrize("name", BITS)
def test_bits_do_not_depend_on_the_number_of_threads(name):
    results = set()
    for count in COUNTS:
        ts.set_num_threads(count)
        results |= {BITS[name]() for _ in range(2)}
    assert len(results) == 1


# --- Python's threads ---


def long_operation() -> tuple[ts.Tensor, float]:
    """A matrix product's left side, sized to take about a second with these threads, and its time."""
    n = 512
    while True:
        a = ts.ones((n, 2048))
        start = time.perf_counter()
        a @ a.T
        took = time.perf_counter() - start
        if took > 0.4:
            return a, took
        n = int(n * min(2.0, max(1.2, (0.6 / took) ** 0.5)))


def test_other_threads_run_during_a_long_operation():
    a, _ = long_operation()
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.002)

    ticker = threading.Thread(target=tick)
    ticker.start()
    start = time.perf_counter()
    a @ a.T
    end = time.perf_counter()
    done.set()
    ticker.join()
    during = [t for t in ticks if start < t < end]
    assert len(during) > 20 * (end - start), f"{len(during)} ticks in {end - start:.2f} s"


def test_threads_that_compute_at_once_get_what_one_alone_gets():
    ts.set_num_threads(2)
    names = [n for n in BITS if n != "training"]
    want = {name: BITS[name]() for name in names}
    wrong: list[object] = []

    def compute(first: int) -> None:
        try:
            for k in range(24):
                name = names[(first + k) % len(names)]
                if BITS[name]() != want[name]:
                    wrong.append(name)
                if first == 0 and k % 8 == 0:
                    ts.set_num_threads(1 + k // 8)
                x = ts.asarray(np.ones((60, 60), np.float32)).requires_grad_()
                (x @ x).sum().backward()
                if not (x.grad.numpy() == 120).all():
                    wrong.append("gradient")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=compute, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- the pool and the allocator themselves ---

SOURCES = [ROOT / "tests/cpp/runtime_stress.cpp"] + [
    ROOT / "csrc/core" / f"{name}.cpp" for name in ("allocator", "default_threads", "scratch", "threads")
]
BUILDS = {
    "plain": (["-O3"], ["10000", "fork"], []),
    "address": (["-O1", "-fsanitize=address,undefined"], ["3000"], ["overrun", "use-after-free"]),
    "thread": (["-O1", "-fsanitize=thread"], ["3000"], ["race"]),
}


@pytest.mark.skipif(not SOURCES[1].exists(), reason="the sources are not here")
@pytest.mark.parametrize("build", BUILDS)
def test_the_runtime_survives_stress(build, tmp_path):
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    flags, arguments, planted = BUILDS[build]
    program = str(tmp_path / "stress")
    command = [compiler, "-std=c++20", "-pthread", f"-I{ROOT / 'csrc'}", *flags, *map(str, SOURCES)]
    built = subprocess.run([*command, "-o", program], capture_output=True, text=True)
    if built.returncode and "sanitize" in " ".join(flags) and "cannot find" in built.stderr:
        pytest.skip("this compiler's sanitizers are not installed")
    assert built.returncode == 0, built.stderr

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "TENSORSMITH_FAIL_ALLOC": ""}
        return subprocess.run([program, *words], capture_output=True, text=True, timeout=120, env=env)

    for error in planted:
        caught = run(error)
        assert caught.returncode and "Sanitizer" in caught.stderr, f"{error} was not caught"
    result = run(*arguments)
    assert result.returncode == 0 and result.stdout == "ok\n", result.stdout + result.stderr
