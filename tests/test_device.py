"""Where tensors lie: the names of devices, what moves, and the reason where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tensorsmith as ts


def test_cpu_is_here() -> None:
    x = ts.ones(3, device="cpu")
    assert x.device == "cpu"
    assert x.to("cpu") is not None and x.cpu().device == "cpu"
    assert ts.get_default_device() == "cpu"
    assert x.to(ts.zeros(2, dtype=ts.float64)).dtype == ts.float64


def test_names_of_devices() -> None:
    with pytest.raises(ValueError, match="zeros: device must be 'cpu' or 'cuda', got 'tpu'"):
        ts.zeros(3, device="tpu")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES chooses"):
        ts.zeros(3, device="cuda:1")
    with pytest.raises(TypeError, match="device must be a string"):
        ts.zeros(3, device=0)


def test_to_device_has_a_gradient() -> None:
    x = ts.ones(3).requires_grad_()
    (x.to("cpu") * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("/nowhere/libtensorsmith_cuda.so", "this build has CPU kernels only: there is no /nowhere/"),
        (__file__, "the library does not load: "),
        ("libc", "is not a library of tensorsmith's"),
    ],
)
def test_the_reason_why_there_is_none(library: str, reason: str) -> None:
    if library == "libc":
        maps = Path("/proc/self/maps").read_text().split()
        library = next(p for p in maps if p.rsplit("/", 1)[-1].startswith("libc."))
    code = """if True:
        import tensorsmith as ts
        state = ts.config()["cuda"]
        assert not state["available"] and not ts.cuda.is_available() and ts.cuda.why_not() == state["reason"]
        print(state["reason"])
        for make in (lambda: ts.zeros(2, device="cuda"), ts.ones(2).cuda, lambda: ts.set_default_device("cuda")):
            try:
                make()
            except RuntimeError as error:
                assert f"device cuda is not available: {state['reason']}" in str(error)
            else:
                raise AssertionError("no error")
        assert ts.zeros(2).sum().item() == 0
    """
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TENSORSMITH_CUDA_LIBRARY": library},
        capture_output=True,
        text=True,
        check=True,
    )
    assert reason in run.stdout
