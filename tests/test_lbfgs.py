"""LBFGS: against PyTorch's, on functions with a known minimum, and what a failing closure leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim

START = np.array([-1.2, 1.0, 0.7, 2.0])


def rosenbrock(x: Any) -> Any:
    return 100 * ((x[1:] - x[:-1] ** 2) ** 2).sum() + ((1 - x[:-1]) ** 2).sum()


def closure_of(optimizer: optim.LBFGS, function: Callable[[], Any]) -> Callable[[], Any]:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = function()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("history_size", [100, 2])
@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_goes_where_pytorch_goes(line_search_fn: str | None, history_size: int) -> None:
    torch = pytest.importorskip("torch")
    options: dict[str, Any] = {
        "lr": 1 if line_search_fn else 1e-3,
        "max_iter": 8,
        "history_size": history_size,
        "line_search_fn": line_search_fn,
    }
    x, y = nn.Parameter(ts.asarray(START)), torch.nn.Parameter(torch.tensor(START))
    ours, theirs = optim.LBFGS([x], **options), torch.optim.LBFGS([y], **options)

    def their_closure() -> Any:
        theirs.zero_grad()
        loss = rosenbrock(y)
        loss.backward()
        return loss

    for _ in range(5):
        a, b = float(ours.step(closure_of(ours, lambda: rosenbrock(x)))), theirs.step(their_closure).item()
        assert math.isclose(a, b, rel_tol=1e-9)
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-9)
        assert int(ours.state[x]["func_evals"]) == theirs.state[y]["func_evals"]
    y.data.add_(0.1)
    with ts.no_grad():
        x.copy_(y.detach().numpy())
    ours.load_state_dict(theirs.state_dict())
    ours.step(closure_of(ours, lambda: rosenbrock(x)))
    theirs.step(their_closure)
    np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-7)


@pytest.mark.parametrize("dtype", [ts.float64, ts.float32], ids=str)
def test_finds_the_minimum_of_several_parameters(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = ts.asarray(rng.normal(size=(40, 6)), dtype=dtype)
    b = ts.asarray(rng.normal(size=(40, 2)), dtype=dtype)
    weight, unused = nn.Parameter(ts.zeros((6, 2), dtype=dtype)), nn.Parameter(ts.ones((3,), dtype=dtype))
    optimizer = optim.LBFGS([weight, unused], line_search_fn="strong_wolfe", max_iter=60)
    optimizer.step(closure_of(optimizer, lambda: ((a @ weight - b) ** 2).sum()))
    expected = np.linalg.lstsq(a.numpy().astype(float), b.numpy().astype(float), rcond=None)[0]
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-6 if dtype == ts.float64 else 1e-3)
    assert (unused.detach().numpy() == 1).all()


def test_a_pole_in_the_way() -> None:
    """The first trial lands where the loss is not a number: the search goes back from there."""
    x = nn.Parameter(ts.asarray([5.0], dtype=ts.float64))
    optimizer = optim.LBFGS([x], lr=50, line_search_fn="strong_wolfe", max_iter=50, max_eval=500)
    optimizer.step(closure_of(optimizer, lambda: (x - ts.log(x)).sum()))
    assert abs(float(x) - 1) < 1e-4


def test_starting_at_the_minimum_does_nothing() -> None:
    x = nn.Parameter(ts.ones((3,), dtype=ts.float64))
    optimizer = optim.LBFGS([x])
    assert float(optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))) == 0
    assert (x.detach().numpy() == 1).all()
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("through", ["json", "checkpoint"])
def test_resume_has_the_same_bits(through: str, tmp_path: Path) -> None:
    x = nn.Parameter(ts.asarray(START))
    optimizer = optim.LBFGS([x], max_iter=3, line_search_fn="strong_wolfe", history_size=4)
    step = closure_of(optimizer, lambda: rosenbrock(x))
    for _ in range(2):
        optimizer.step(step)
    y = nn.Parameter(x.detach().copy())
    resumed = optim.LBFGS([y])
    if through == "json":
        state = optimizer.state_dict()
        entry = {name: value.numpy().tolist() for name, value in state["state"][0].items()}
        state = {"state": {"0": entry}, "param_groups": state["param_groups"]}
        resumed.load_state_dict(json.loads(json.dumps(state)))
    else:
        ts.save_checkpoint(tmp_path / "c.safetensors", optimizer=optimizer)
        ts.load_checkpoint(tmp_path / "c.safetensors", optimizer=resumed)
    for _ in range(3):
        optimizer.step(step)
        resumed.step(closure_of(resumed, lambda: rosenbrock(y)))
    assert x.detach().numpy().tobytes() == y.detach().numpy().tobytes()


def test_a_failing_closure_changes_nothing() -> None:
    x = nn.Parameter(ts.asarray(START))
    optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=4)
    good = closure_of(optimizer, lambda: rosenbrock(x))
    optimizer.step(good)
    before, state = x.detach().numpy().copy(), optimizer.state_dict()["state"][0]
    calls = iter(range(100))

    def failing() -> Any:
        if next(calls) == 3:
            raise KeyError("lost")
        return good()

    with pytest.raises(KeyError, match="lost"):
        optimizer.step(failing)
    assert (x.detach().numpy() == before).all()
    for name, value in optimizer.state_dict()["state"][0].items():
        np.testing.assert_array_equal(value.numpy(), state[name].numpy())


def test_bad_calls() -> None:
    x = nn.Parameter(ts.asarray(START))
    with pytest.raises(ValueError, match="history_size must be an integer >= 1, got 0"):
        optim.LBFGS([x], history_size=0)
    with pytest.raises(ValueError, match="line_search_fn must be None or 'strong_wolfe', got 'armijo'"):
        optim.LBFGS([x], line_search_fn="armijo")
    with pytest.raises(ValueError, match="one dtype"):
        optim.LBFGS([x, nn.Parameter(ts.ones((2,), dtype=ts.float32))])
    with pytest.raises(ValueError, match="one param group"):
        optim.LBFGS([{"params": [x]}, {"params": [nn.Parameter(ts.ones((2,)))]}])
    optimizer = optim.LBFGS([x])
    with pytest.raises(TypeError, match="needs a closure"):
        optimizer.step()
    with pytest.raises(ValueError, match="max_norm and zero_grad are not supported"):
        optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)), max_norm=1.0)
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"nothing was changed:\n.*'d': shape \(4,\) given, \(2,\) expected"):
        optim.LBFGS([nn.Parameter(ts.ones((2,), dtype=ts.float64))]).load_state_dict(state)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "got NoneType"),
        ("1.0", "got str"),
        (1j, "got complex"),
        (ts.ones((3, 2)), r"got shape \(3, 2\)"),
    ],
    ids=str,
)
def test_what_a_closure_must_return(value: Any, message: str) -> None:
    x = nn.Parameter(ts.asarray(START))
    with pytest.raises(
        TypeError, match=f"LBFGS.step: the closure must return the loss, one number, {message}"
    ):
        optim.LBFGS([x]).step(lambda: value)
    assert (x.detach().numpy() == START).all()


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_gradients_that_are_no_numbers_move_nothing(line_search_fn: str | None) -> None:
    x, none = nn.Parameter(ts.asarray(START)), nn.Parameter(ts.zeros((0, 2), dtype=ts.float64))
    optimizer = optim.LBFGS([x, none], line_search_fn=line_search_fn)
    optimizer.step(closure_of(optimizer, lambda: (x * math.nan).sum()))
    optimizer.step(closure_of(optimizer, lambda: (x * math.inf).sum()))
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    assert (x.detach().numpy() == START).all()
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    assert np.isfinite(x.detach().numpy()).all()
    empty = optim.LBFGS([none])
    assert float(empty.step(closure_of(empty, lambda: none.sum()))) == 0


def test_state_that_is_none() -> None:
    x = nn.Parameter(ts.asarray(START))
    optimizer = optim.LBFGS([x])
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    good = optimizer.state_dict()
    for name, value, message in (
        ("n_iter", "abc", "'n_iter': not made of numbers"),
        ("func_evals", -5, "'func_evals': must be an integer >= 0, got -5"),
        ("n_iter", math.nan, "'n_iter': must be an integer >= 0, got nan"),
        ("ro", ["a"], "'ro': not made of numbers"),
        ("old_dirs", 3, "'old_dirs': must be a list of vectors"),
        ("d", "abc", "'d': str cannot be read as a tensor"),
    ):
        state = {"state": {0: {**good["state"][0], name: value}}, "param_groups": good["param_groups"]}
        with pytest.raises(ValueError, match=f"nothing was changed:(.|\n)*{message}"):
            optim.LBFGS([nn.Parameter(ts.asarray(START))]).load_state_dict(state)


def test_a_recording_refuses_it() -> None:
    x = nn.Parameter(ts.asarray(START))
    optimizer = optim.LBFGS([x])

    @ts.jit
    def step() -> Any:
        return optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))

    with pytest.raises(RuntimeError, match="value"):
        step()
