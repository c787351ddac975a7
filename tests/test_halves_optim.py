"""Optimizers of float16 and bfloat16 parameters: arithmetic and state in float32, parameters rounded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import optim
from tensorsmith.ops.sparse import RowSparse

HALVES = ["float16", "bfloat16"]
MAKERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
    "SGD momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, 0.01, weight_decay=0.01),
    "Adam amsgrad": lambda p: optim.Adam(p, 0.01, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, 0.01),
    "Adamax": lambda p: optim.Adamax(p, 0.01),
    "NAdam": lambda p: optim.NAdam(p, 0.01),
    "RAdam": lambda p: optim.RAdam(p, 0.01),
    "LAMB": lambda p: optim.LAMB(p, 0.01),
    "RMSprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, 0.01),
    "Adadelta": lambda p: optim.Adadelta(p),
    "Lion": lambda p: optim.Lion(p, 0.01),
    "Rprop": lambda p: optim.Rprop(p, 0.01),
    "ASGD": lambda p: optim.ASGD(p, 0.01),
    "Adafactor": lambda p: optim.Adafactor(p, 0.01, eps=(1e-7, 1e-3)),
    "Muon": lambda p: optim.Muon(p, 0.01),
}
# Odd sizes, several to a piece and one of several pieces.
SHAPES = [(3, 5), (1, 1), (17, 1031), (64, 64)]


def bits(x: Any) -> bytes:
    return x.detach().astype("float32").numpy().tobytes()


def parameters(dtype: str, seed: int = 0) -> list[ts.Tensor]:
    rng = np.random.default_rng(seed)
    return [ts.asarray(rng.standard_normal(s)).astype(dtype).requires_grad_() for s in SHAPES]


def give(params: list[ts.Tensor], seed: int, wide: list[ts.Tensor] | None = None) -> None:
    """Gradients, and the same in float32 for `wide`."""
    rng = np.random.default_rng(seed)
    for i, p in enumerate(params):
        p.grad = ts.asarray(rng.standard_normal(p.shape)).astype(p.dtype)
        if wide:
            wide[i].grad = p.grad.astype("float32")


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", MAKERS)
def test_a_step_is_float32s_rounded_once(name: str, dtype: str) -> None:
    """Bit for bit, step by step: the wide parameters are rounded after every step, as the narrow ones are."""
    make = MAKERS[name]
    narrow = parameters(dtype)
    wide = [p.detach().astype("float32").requires_grad_() for p in narrow]
    mine, reference = make(narrow), make(wide)
    for step in range(4):
        give(narrow, step, wide)
        mine.step()
        reference.step()
        for p, w in zip(narrow, wide, strict=True):
            assert p.dtype == dtype
            assert bits(p) == bits(w.astype(dtype)), (name, step)
            with ts.no_grad():
                w.copy_(w.astype(dtype))
    for (_, a), (_, b) in zip(mine.state.items(), reference.state.items(), strict=True):
        for key in a:
            assert (
                a[key].dtype
                == b[key].dtype
                == ("float64" if key in ("step", "mu_product", "eta", "mu") else "float32")
            )
            assert a[key].numpy().tobytes() == b[key].numpy().tobytes(), (name, key)


@pytest.mark.parametrize("name", ["SGD momentum", "AdamW", "LAMB", "RMSprop", "ASGD"])
def test_threads_clipping_and_zeroing(name: str) -> None:
    found = []
    before = ts.get_num_threads()
    try:
        for threads in (1, 2):
            ts.set_num_threads(threads)
            params = parameters("bfloat16")
            wide = [p.detach().astype("float32").requires_grad_() for p in params]
            mine, reference = MAKERS[name](params), MAKERS[name](wide)
            give(params, 9, wide)
            mine.step(max_norm=0.5, zero_grad=True)
            reference.step(max_norm=0.5)
            assert all(bits(p) == bits(w.astype("bfloat16")) for p, w in zip(params, wide, strict=True))
            assert all(not ts.any(p.grad != 0) for p in params)
            found.append([bits(p) for p in params])
    finally:
        ts.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", HALVES)
def test_resumes_where_it_stopped(dtype: str, tmp_path: Path) -> None:
    def fresh() -> tuple[ts.nn.Module, Any]:
        model = ts.nn.Sequential(ts.nn.Linear(5, 7), ts.nn.Tanh(), ts.nn.Linear(7, 2)).to(dtype=dtype)
        return model, optim.AdamW(model.parameters(), 0.01)

    def train(model: ts.nn.Module, optimizer: Any, steps: range) -> None:
        for step in steps:
            give(list(model.parameters()), step)
            optimizer.step()

    model, optimizer = fresh()
    train(model, optimizer, range(3))
    path = str(tmp_path / "half.safetensors")
    ts.save_checkpoint(path, model=model, optimizer=optimizer)
    again, resumed = fresh()
    ts.load_checkpoint(path, model=again, optimizer=resumed)
    assert all(entry["exp_avg"].dtype == "float32" for entry in resumed.state.values())
    train(model, optimizer, range(3, 6))
    train(again, resumed, range(3, 6))
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert p.dtype == q.dtype == dtype
        assert bits(p) == bits(q)


def test_state_in_bfloat16_is_taken_over_as_float32() -> None:
    """As PyTorch saves it: its state has the parameters' dtype."""
    params = parameters("bfloat16")
    optimizer = optim.Adam(params, 0.01)
    give(params, 1)
    optimizer.step()
    saved = optimizer.state_dict()
    for entry in saved["state"].values():
        entry.update({k: v.astype("bfloat16") for k, v in entry.items() if k.startswith("exp")})
    other = optim.Adam(params, 0.01)
    other.load_state_dict(saved)
    for number, entry in enumerate(other.state.values()):
        assert entry["exp_avg"].dtype == "float32"
        assert bits(entry["exp_avg"]) == bits(saved["state"][number]["exp_avg"])


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1), lambda p: optim.Adagrad(p, 0.1)])
def test_row_sparse_gradients(make: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(4)
    p = ts.asarray(rng.standard_normal((9, 7))).astype("bfloat16").requires_grad_()
    w = p.detach().astype("float32").requires_grad_()
    rows = ts.asarray([1, 4, 8])
    g = ts.asarray(rng.standard_normal((3, 7))).astype("bfloat16")
    p.grad, w.grad = RowSparse(rows, g, p.shape), RowSparse(rows, g.astype("float32"), w.shape)
    make([p]).step()
    make([w]).step()
    assert bits(p) == bits(w.astype("bfloat16"))


def test_small_steps_are_not_lost_in_the_state() -> None:
    """A second moment of weight 0.999 moves in float32; in bfloat16 it would stand still."""
    p = ts.ones((8,), dtype="bfloat16").requires_grad_()
    optimizer = optim.Adam([p], 1e-3)
    for _ in range(200):
        p.grad = ts.ones((8,), dtype="bfloat16")
        optimizer.step()
    v = optimizer.state[p]["exp_avg_sq"]
    np.testing.assert_allclose(v.numpy(), 1 - 0.999**200, rtol=1e-5)


def test_lbfgs() -> None:
    x = ts.asarray([3.0, -2.0]).astype("bfloat16").requires_grad_()
    optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe")

    def closure() -> ts.Tensor:
        optimizer.zero_grad()
        loss = ts.sum((x.astype("float32") - ts.asarray([0.5, 1.5])) ** 2)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert x.dtype == "bfloat16"
    assert x.tolist() == [0.5, 1.5]
    assert optimizer.state[x]["d"].dtype == "float32"


def test_a_gradient_of_another_dtype_is_refused() -> None:
    p = ts.ones((3,), dtype="bfloat16")
    with pytest.raises(TypeError, match=r"sgd: grads\[0\] is float32, its parameter bfloat16"):
        ts.ops.optim.core.sgd([p], [ts.ones((3,))], None, None, ts.zeros((5,), dtype="float64"))


def test_loads_what_pytorch_saved() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(4, 3).to(torch.bfloat16)
    ours = ts.nn.Linear(4, 3).to(dtype="bfloat16")
    adamw = torch.optim.AdamW(theirs.parameters(), 0.1)
    theirs(torch.ones(2, 4, dtype=torch.bfloat16)).sum().backward()
    adamw.step()
    ours.load_state_dict(theirs.state_dict())
    assert ours.weight.tolist() == theirs.weight.tolist()
    optimizer = optim.AdamW(ours.parameters(), 0.1)
    optimizer.load_state_dict(adamw.state_dict())
    assert optimizer.state[ours.weight]["exp_avg"].dtype == "float32"
    assert optimizer.state[ours.weight]["exp_avg"].tolist() == adamw.state[theirs.weight]["exp_avg"].tolist()
