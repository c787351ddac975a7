"""Where real data is, and the folder of the cases."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import tensorsmith as ts

sys.path.insert(0, str(Path(__file__).parent))

# A job that a shell started in the background ignores Ctrl-C, and so would every process that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """TENSORSMITH_DATA, else shared/data beside the checkout; the test is skipped where there is none."""
    folder = Path(os.environ.get("TENSORSMITH_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}: set TENSORSMITH_DATA")
    return folder


# With TENSORSMITH_VERIFIED=FILE, the kernels that the passing tests launched are added to that file; docs/support.py
# reads those that bench/gpu.sh writes.
VERIFIED = os.environ.get("TENSORSMITH_VERIFIED")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    if not VERIFIED or not item.nodeid.startswith("tests/test_cuda"):
        return (yield)
    with ts.profiler.profile() as p:
        result = yield
    path = Path(VERIFIED)
    before = set(path.read_text().split()) if path.exists() else set()
    path.write_text("\n".join(sorted(before | {event.name for event in p.events})) + "\n")
    return result


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Generator[int, None, None]:
    """Runs the test with one thread and with two."""
    before = ts.get_num_threads()
    ts.set_num_threads(request.param)
    yield request.param
    ts.set_num_threads(before)


@pytest.fixture
def new_tensors_on_the_gpu() -> Generator[None, None, None]:
    """What a test makes, an index or a shape of a case too, lies beside the GPU's operands."""
    ts.set_default_device("cuda")
    yield
    ts.set_default_device("cpu")
