"""Optimizers against float64 recurrences, state_dict."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import _core, nn, optim

Array = np.ndarray[Any, Any]
SHAPES = [(3, 4), (5,), (), (2, 1, 3), (0, 2), (70, 40)]
MATRICES = [(3, 4), (5, 1), (1, 1), (2, 3), (0, 2), (70, 40)]


# --- references: PyTorch's recurrences, one parameter at a time, in float64 ----------------------


def sgd(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = -g if o["maximize"] else g
    g = g + o["weight_decay"] * p
    if o["momentum"]:
        s["b"] = o["momentum"] * s["b"] + (1 - o["dampening"]) * g if "b" in s else g
        g = g + o["momentum"] * s["b"] if o["nesterov"] else s["b"]
    return p - o["lr"] * g


def adam(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o["betas"]
    g = -g if o["maximize"] else g
    if o["decoupled_weight_decay"]:
        p = p * (1 - o["lr"] * o["weight_decay"])
    else:
        g = g + o["weight_decay"] * p
    t = s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    s["top"] = np.maximum(s.get("top", 0), s["v"])
    v = (s["top"] if o["amsgrad"] else s["v"]) / (1 - b2**t)
    return p - o["lr"] * (s["m"] / (1 - b1**t)) / (np.sqrt(v) + o["eps"])


def rmsprop(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = -g if o["maximize"] else g
    g = g + o["weight_decay"] * p
    s["v"] = o["alpha"] * s.get("v", 0) + (1 - o["alpha"]) * g * g
    v = s["v"]
    if o["centered"]:
        s["a"] = o["alpha"] * s.get("a", 0) + (1 - o["alpha"]) * g
        v = v - s["a"] ** 2
    d = g / (np.sqrt(v) + o["eps"])
    if o["momentum"]:
        d = s["b"] = o["momentum"] * s.get("b", 0) + d
    return p - o["lr"] * d


def adagrad(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = -g if o["maximize"] else g
    g = g + o["weight_decay"] * p
    t = s["t"] = s.get("t", 0) + 1
    s["v"] = s.get("v", o["initial_accumulator_value"]) + g * g
    return p - o["lr"] / (1 + (t - 1) * o["lr_decay"]) * g / (np.sqrt(s["v"]) + o["eps"])


def adadelta(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = -g if o["maximize"] else g
    g = g + o["weight_decay"] * p
    s["v"] = o["rho"] * s.get("v", 0) + (1 - o["rho"]) * g * g
    d = np.sqrt(s.get("a", 0) + o["eps"]) / np.sqrt(s["v"] + o["eps"]) * g
    s["a"] = o["rho"] * s.get("a", 0) + (1 - o["rho"]) * d * d
    return p - o["lr"] * d


def lion(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o["betas"]
    g = -g if o["maximize"] else g
    m = s.get("m", 0)
    s["m"] = b2 * m + (1 - b2) * g
    return p * (1 - o["lr"] * o["weight_decay"]) - o["lr"] * np.sign(b1 * m + (1 - b1) * g)


def moments(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> tuple[Array, Array, int]:
    """The decayed parameter and the gradient, into the state; the step's number."""
    g = -g if o["maximize"] else g
    if o.get("decoupled_weight_decay"):
        p = p * (1 - o["lr"] * o["weight_decay"])
    elif "decoupled_weight_decay" in o:
        g = g + o["weight_decay"] * p
    b1, b2 = o["betas"]
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    s["t"] = s.get("t", 0) + 1
    return p, g, s["t"]


def adamax(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    p, g, t = moments(p, g, s, {**o, "decoupled_weight_decay": False})
    s["u"] = np.maximum(o["betas"][1] * s.get("u", 0), np.abs(g) + o["eps"])
    return p - o["lr"] / (1 - o["betas"][0] ** t) * s["m"] / s["u"]


def nadam(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    p, g, t = moments(p, g, s, o)
    mu, following = (o["betas"][0] * (1 - 0.5 * 0.96 ** (i * o["momentum_decay"])) for i in (t, t + 1))
    s["mu"] = s.get("mu", 1) * mu
    d = np.sqrt(s["v"] / (1 - o["betas"][1] ** t)) + o["eps"]
    p = p - o["lr"] * (1 - mu) / (1 - s["mu"]) * g / d
    return p - o["lr"] * following / (1 - s["mu"] * following) * s["m"] / d


def radam(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    p, g, t = moments(p, g, s, o)
    b1, b2 = o["betas"]
    most = 2 / (1 - b2) - 1
    seen = most - 2 * t * b2**t / (1 - b2**t)
    d = s["m"] / (1 - b1**t)
    if seen > 5:
        rect = (seen - 4) * (seen - 2) * most / ((most - 4) * (most - 2) * seen)
        d = d * np.sqrt(rect) * np.sqrt(1 - b2**t) / (np.sqrt(s["v"]) + o["eps"])
    return p - o["lr"] * d


def lamb(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    p, g, t = moments(p, g, s, o)
    b1, b2 = o["betas"]
    r = s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + o["eps"]) + o["weight_decay"] * p
    long, wide = np.linalg.norm(p), np.linalg.norm(r)
    return p - o["lr"] * (long / wide if long > 0 and wide > 0 else 1.0) * r


def rprop(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = -g if o["maximize"] else g
    turn = g * s.get("g", 0)
    factor = np.where(turn > 0, o["etas"][1], np.where(turn < 0, o["etas"][0], 1))
    s["size"] = np.clip(s.get("size", o["lr"]) * factor, *o["step_sizes"])
    s["g"] = np.where(turn < 0, 0, g)
    return p - np.sign(s["g"]) * s["size"]


def asgd(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = -g if o["maximize"] else g
    g = g + o["weight_decay"] * p
    eta, mu = s.get("eta", o["lr"]), s.get("mu", 1)
    t = s["t"] = s.get("t", 0) + 1
    p = p * (1 - o["lambd"] * eta) - eta * g
    s["ax"] = s.get("ax", 0) + mu * (p - s.get("ax", 0))
    s["eta"] = o["lr"] / (1 + o["lambd"] * o["lr"] * t) ** o["alpha"]
    s["mu"] = 1 / max(1, t - o["t0"])
    return p


def adafactor(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    t = s["t"] = s.get("t", 0) + 1
    if p.size == 0:
        return p
    g = -g if o["maximize"] else g
    least = o["eps"][0] or 1e-16

    def rms(x: Array) -> float:
        return float(np.sqrt(np.mean(x * x)))

    def moved(name: str, target: Array) -> Array:
        s[name] = (1 - t ** o["beta2_decay"]) * s.get(name, 0) + t ** o["beta2_decay"] * target
        return s[name]

    rate = max(o["eps"][1], rms(p)) * min(o["lr"], t**-0.5)
    p = p * (1 - o["lr"] * o["weight_decay"])
    if p.ndim < 2:
        v = moved("v", g * g)
    else:
        row, column = (
            moved("row", (g * g).mean(-1, keepdims=True)),
            moved("column", (g * g).mean(-2, keepdims=True)),
        )
        v = row * column / np.maximum(row.mean(-2, keepdims=True), least)
    u = g / np.maximum(np.sqrt(v), least)
    return p - rate / max(1, rms(u) / o["d"]) * u


def muon(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    m = s["m"] = s.get("m", 0) + (1 - o["momentum"]) * (g - s.get("m", 0))
    x = g + o["momentum"] * (m - g) if o["nesterov"] else m
    left, values, right = np.linalg.svd(x, full_matrices=False)
    values = values / max(float(np.linalg.norm(x)), o["eps"])
    a, b, c = o["ns_coefficients"]
    for _ in range(o["ns_steps"]):  # the iteration acts on the singular values alone
        values = a * values + b * values**3 + c * values**5
    matched = o["adjust_lr_fn"] == "match_rms_adamw"
    ratio = 0.2 * math.sqrt(max(p.shape)) if matched else math.sqrt(max(1, p.shape[0] / p.shape[1]))
    return p * (1 - o["lr"] * o["weight_decay"]) - o["lr"] * ratio * (left * values) @ right


Reference = Callable[[Array, Array, dict[str, Any], dict[str, Any]], Array]
CASES: list[tuple[type[optim.Optimizer], Reference, dict[str, Any]]] = [
    (optim.SGD, sgd, {"lr": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "weight_decay": 0.01, "maximize": True}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.Adam, adam, {"lr": 0.02, "amsgrad": True, "maximize": True}),
    (optim.AdamW, adam, {"lr": 0.02}),
    (optim.AdamW, adam, {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"momentum": 0.9, "weight_decay": 0.1}),
    (optim.RMSprop, rmsprop, {"centered": True, "momentum": 0.5, "alpha": 0.9, "maximize": True}),
    (optim.Adadelta, adadelta, {}),
    (optim.Adadelta, adadelta, {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1, "maximize": True}),
    (optim.Lion, lion, {}),
    (optim.Lion, lion, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}),
    (optim.Adamax, adamax, {}),
    (optim.Adamax, adamax, {"lr": 0.05, "betas": (0.7, 0.9), "weight_decay": 0.1, "maximize": True}),
    (optim.NAdam, nadam, {}),
    (optim.NAdam, nadam, {"lr": 0.05, "weight_decay": 0.1, "momentum_decay": 0.1, "maximize": True}),
    (optim.NAdam, nadam, {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    (optim.RAdam, radam, {}),
    (optim.RAdam, radam, {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}),
    (
        optim.RAdam,
        radam,
        {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.2, "decoupled_weight_decay": True},
    ),
    (optim.LAMB, lamb, {}),
    (
        optim.LAMB,
        lamb,
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3, "maximize": True},
    ),
    (optim.Rprop, rprop, {}),
    (optim.Rprop, rprop, {"lr": 0.1, "etas": (0.3, 1.7), "step_sizes": (0.05, 0.2), "maximize": True}),
    (optim.ASGD, asgd, {}),
    (optim.ASGD, asgd, {"lr": 0.1, "lambd": 0.1, "t0": 1.0, "weight_decay": 0.1, "maximize": True}),
    (optim.Adafactor, adafactor, {}),
    (
        optim.Adafactor,
        adafactor,
        {"lr": 0.3, "beta2_decay": -0.5, "d": 1.2, "eps": (1e-3, 0.1), "maximize": True},
    ),
    (optim.Adafactor, adafactor, {"lr": 2.0, "weight_decay": 0.1}),
    (optim.Muon, muon, {}),
    (optim.Muon, muon, {"lr": 0.1, "momentum": 0.8, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}),
    (optim.Muon, muon, {"lr": 0.05, "weight_decay": 0.3, "ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 9}),
    (optim.Adagrad, adagrad, {}),
    (
        optim.Adagrad,
        adagrad,
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2},
    ),
]
IDS = [f"{cls.__name__}-{','.join(options)}" for cls, _, options in CASES]


def parameters(dtype: Any = None, seed: int = 0, cls: Any = None) -> list[nn.Parameter]:
    rng = np.random.default_rng(seed)
    shapes = MATRICES if cls is optim.Muon else SHAPES
    return [nn.Parameter(ts.asarray(rng.normal(size=shape), dtype=dtype or ts.float64)) for shape in shapes]


def gradient(rng: np.random.Generator, parameter: nn.Parameter) -> Array:
    return rng.normal(size=parameter.shape)


def close(actual: Any, expected: Array, dtype: Any) -> None:
    tolerance = 1e-12 if dtype == ts.float64 else 2e-5
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [ts.float64, ts.float32], ids=str)
@pytest.mark.parametrize(("cls", "reference", "options"), CASES, ids=IDS)
def test_recurrence(cls: Any, reference: Reference, options: dict[str, Any], dtype: Any) -> None:
    params = parameters(dtype, cls=cls)
    optimizer = cls(params, **options)
    values = [p.detach().numpy().astype(np.float64) for p in params]
    states: list[dict[str, Any]] = [{} for _ in params]
    rng = np.random.default_rng(1)
    for step in range(6):
        for i, p in enumerate(params):
            if i == 1 and step in (0, 3):  # no gradient: not updated, not counted
                p.grad = None
                continue
            g = gradient(rng, p)
            p.grad = ts.asarray(g, dtype=dtype)
            values[i] = reference(
                values[i], np.asarray(p.grad.numpy(), np.float64), states[i], optimizer.param_groups[0]
            )
        optimizer.step()
    for p, value in zip(params, values, strict=True):
        close(p, value, dtype)


@pytest.mark.parametrize(("cls", "reference"), [(optim.Rprop, rprop), (optim.ASGD, asgd)])
@pytest.mark.parametrize("loaded", [False, True])
def test_the_first_gradient_meets_the_rate_of_its_step(cls: Any, reference: Reference, loaded: bool) -> None:
    params = [nn.Parameter(ts.full((5,), 2.0, dtype=ts.float64)) for _ in range(2)]
    optimizer = cls(params, lr=0.1)
    values, states = [p.detach().numpy().copy() for p in params], [{}, {}]  # type: ignore[var-annotated]
    rng = np.random.default_rng(0)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        for i, p in enumerate(params):
            p.grad = None
            if i == 0 or step >= 2:  # the second parameter thaws
                p.grad = ts.asarray(gradient(rng, p))
                values[i] = reference(values[i], p.grad.numpy(), states[i], optimizer.param_groups[0])
        optimizer.step()
        if loaded:
            fresh = cls(params)
            fresh.load_state_dict(optimizer.state_dict())
            optimizer = fresh
    for p, value in zip(params, values, strict=True):
        close(p, value, ts.float64)


@pytest.mark.parametrize(
    "cls", [cls for cls in dict.fromkeys(c for c, _, _ in CASES) if cls is not optim.Muon]
)
def test_parameters_that_get_their_shape_later(cls: Any) -> None:
    """The second layer's first gradient comes after steps of the first one's; the first has kept its state."""
    layers, twins = (
        [nn.LazyLinear(3, bias=bias, dtype=ts.float64) for bias in (True, False)] for _ in range(2)
    )
    optimizers = [
        cls([p for layer in layers for p in layer.parameters()], lr=0.1),
        cls(twins[0].parameters(), lr=0.1),
    ]
    x = ts.asarray(np.random.default_rng(0).normal(size=(2, 4)))
    with ts.no_grad():
        for pair in (layers, twins):
            pair[0](x)
            pair[0].weight.copy_(np.linspace(-1, 1, 12).reshape(3, 4))
            pair[0].bias.fill_(0.5)
    for step in range(4):
        for pair, optimizer in zip((layers, twins), optimizers, strict=True):
            optimizer.zero_grad()
            loss = (pair[0](x) ** 2).sum()
            if pair is layers and step >= 2:
                loss = loss + (pair[1](x) ** 2).sum()
            loss.backward()
            optimizer.step()
    assert (layers[0].weight == twins[0].weight).all()
    assert float(optimizers[0].state[layers[1].weight]["step"]) == 2 if cls is not optim.SGD else True


@pytest.mark.parametrize("cls", [optim.Adam, optim.SGD])
def test_a_group_and_its_list_may_change(cls: Any) -> None:
    """What is appended to a group's list is stepped, what is taken away is not, and the rest keeps its state."""
    options = {"lr": 0.1, "momentum": 0.9} if cls is optim.SGD else {"lr": 0.1}
    a, b, c, d, twin = (nn.Parameter(ts.ones((3,), dtype=ts.float64)) for _ in range(5))
    optimizer, alone = cls([{"params": [a, b]}, {"params": [d]}], **options), cls([twin], **options)

    def step(scale: float) -> None:
        for p in (a, b, c, d, twin):
            p.grad = ts.full((3,), scale, dtype=ts.float64)
        optimizer.step(max_norm=1e9)
        alone.step()

    step(1.0)
    optimizer.param_groups[0]["params"].append(c)
    step(2.0)
    assert (a == twin).all()
    assert (c != 1).all()
    assert sorted(optimizer.state_dict()["state"]) == [0, 1, 2, 3]
    optimizer.param_groups[0]["params"].pop(1)
    optimizer.param_groups.pop(1)
    still = b.detach().numpy().copy(), d.detach().numpy().copy()
    step(3.0)
    assert (a == twin).all()
    assert np.array_equal(still, (b.detach().numpy(), d.detach().numpy()))


def test_a_dtype_may_change_before_the_first_step() -> None:
    for cls in (optim.Adadelta, optim.Lion, optim.Adam):
        layer = nn.Linear(3, 2)
        optimizer = cls(layer.parameters())
        layer.to(ts.float64)
        layer(ts.ones((1, 3), dtype=ts.float64)).sum().backward()
        optimizer.step()
        assert optimizer.state[layer.weight]["step"] == 1


def test_nothing_moves_where_a_later_group_cannot() -> None:
    memory = np.ones(3, np.float32)
    memory.flags.writeable = False
    moving, fixed = nn.Parameter(ts.ones((2,))), nn.Parameter(ts.asarray(memory, copy=False))
    optimizer = optim.SGD([{"params": [moving]}, {"params": [fixed]}], lr=0.1)
    moving.grad, fixed.grad = ts.ones_like(moving), ts.ones_like(fixed)
    with pytest.raises(ValueError, match=r"SGD\.step: a parameter of shape \(3,\) is read-only"):
        optimizer.step()
    assert (moving == 1).all()
    fixed.grad = None  # frozen: its memory does not matter
    optimizer.step()
    assert (moving == 1 - np.float32(0.1)).all()


def test_zeros_are_written_where_the_gradient_is() -> None:
    layer = nn.Linear(2, 2)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    for clear in (optimizer.zero_grad, layer.zero_grad):
        layer.weight.grad = ts.ones((2, 2))
        held = layer.weight.grad
        clear(set_to_none=False)
        assert layer.weight.grad is held
        assert not held.any()
        (layer.weight**3).sum().backward(create_graph=True)
        assert layer.weight.grad.requires_grad
        clear(set_to_none=False)
        assert not layer.weight.grad.requires_grad
        layer.weight.grad = ts.broadcast_to(ts.ones((1,)), (2, 2))
        clear(set_to_none=False)
        assert not layer.weight.grad.any()


def test_loading_forgets_state_that_is_no_longer_there() -> None:
    p, q = nn.Parameter(ts.zeros((1,))), nn.Parameter(ts.zeros((1,)))
    optimizer, plain = optim.SGD([p], lr=1.0, momentum=0.9), optim.SGD([q], lr=1.0)
    p.grad = ts.ones((1,))
    optimizer.step()
    optimizer.load_state_dict(plain.state_dict())
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step()
    assert float(p) == -2  # the buffer begins with this gradient


def test_adamw_stays_adamw_with_what_adam_saved() -> None:
    p = nn.Parameter(ts.ones(1))
    adam = optim.Adam([p], weight_decay=0.5)
    p.grad = ts.zeros(1)
    adam.step()
    adamw = optim.AdamW([p], lr=0.1)
    adamw.load_state_dict(adam.state_dict())
    assert adamw.param_groups[0]["decoupled_weight_decay"] is True
    assert adamw.param_groups[0]["weight_decay"] == 0.5


def test_a_tensor_among_the_values_may_be_written() -> None:
    p, decay = nn.Parameter(ts.ones(1, dtype=ts.float64)), ts.asarray(0.5)
    optimizer = optim.SGD([p], lr=0.5, weight_decay=decay)
    for expected in (0.75, 0.375):
        p.grad = ts.zeros(1, dtype=ts.float64)
        optimizer.step()
        assert float(p) == expected
        decay.fill_(1.0)


def test_groups_have_their_own_values_and_dtypes() -> None:
    a, b, c = parameters()[:3]
    d = nn.Parameter(ts.ones((3,), dtype=ts.float32))
    optimizer = optim.SGD([{"params": [a, d]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 0.25, "momentum": 0.5})
    before = [p.detach().numpy().copy() for p in (a, b, c, d)]
    for p in (a, b, c, d):
        p.grad = ts.ones_like(p)
    optimizer.step()
    for p, old, lr in zip((a, b, c, d), before, (0.1, 0.5, 0.25, 0.1), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), old - lr, rtol=1e-6)
    assert len(optimizer.param_groups) == 3


def test_lr_is_read_at_every_step_and_may_be_a_tensor() -> None:
    p = nn.Parameter(ts.zeros((2,)))
    optimizer = optim.SGD([p], lr=1.0)
    for lr in (1.0, 0.5, ts.asarray(0.25)):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = ts.ones((2,))
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [-1.75, -1.75])


def test_momentum_may_come_later() -> None:
    p = nn.Parameter(ts.zeros((2,)))
    optimizer = optim.SGD([p], lr=1.0)
    for momentum in (0.0, 0.9, 0.9):
        optimizer.param_groups[0]["momentum"] = momentum
        p.grad = ts.ones((2,))
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [-1 - 1 - 1.9] * 2, rtol=1e-6)


def test_closure_and_zero_grad() -> None:
    p = nn.Parameter(ts.asarray([3.0]))
    optimizer = optim.SGD([p], lr=0.25)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with ts.no_grad():
        loss = optimizer.step(closure)
    assert float(loss) == 9.0
    assert float(p) == 1.5
    optimizer.zero_grad(set_to_none=False)
    assert float(p.grad) == 0.0
    optimizer.zero_grad()
    assert p.grad is None


def test_step_keeps_saved_values_honest() -> None:
    p = nn.Parameter(ts.asarray([3.0]))
    loss = (p * p).sum()
    p.grad = ts.ones((1,))
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="version"):
        loss.backward()


# --- clipping and zeroing within the step ---------------------------------------------------------


@pytest.mark.parametrize("dtype", [ts.float64, ts.float32], ids=str)
@pytest.mark.parametrize("max_norm", [None, 0.5, 1e6])
@pytest.mark.parametrize(("cls", "reference", "options"), CASES, ids=IDS)
def test_clipping_and_zeroing_in_the_step(
    cls: Any, reference: Reference, options: dict[str, Any], max_norm: float | None, dtype: Any
) -> None:
    """The same bits as clip_grad_norm_, step and zero_grad one after another."""
    pair = [parameters(dtype, cls=cls), parameters(dtype, cls=cls)]
    separate, together = (cls(params, **options) for params in pair)
    rng = np.random.default_rng(1)
    for step in range(3):
        for p, q in zip(*pair, strict=True):
            g = gradient(rng, p)
            p.grad, q.grad = ts.asarray(g, dtype=dtype), ts.asarray(g.copy(), dtype=dtype)
        if step == 1:
            pair[0][2].grad = pair[1][2].grad = None
        if max_norm is not None:
            nn.utils.clip_grad_norm_(pair[0], max_norm)
        separate.step()
        kept = [q.grad for q in pair[1]]
        together.step(max_norm=max_norm, zero_grad=True)
        for p, q, g in zip(*pair, kept, strict=True):
            assert p.detach().numpy().tobytes() == q.detach().numpy().tobytes()
            assert q.grad is g
            assert g is None or not g.numpy().any()
    together.step()  # and the next is not scaled any more
    assert together._buckets[0].hyper.numpy()[2] == 1


def test_gradients_that_share_memory_are_zeroed_after_the_step() -> None:
    shared = ts.ones((40_000,))
    params = [nn.Parameter(ts.zeros((40_000,))) for _ in range(2)]
    for p in params:
        p.grad = shared
    turned = nn.Parameter(ts.zeros((30, 20)))
    turned.grad = ts.ones((20, 30)).T
    optim.SGD([*params, turned], lr=1.0).step(zero_grad=True)
    for p in (*params, turned):
        assert (p.detach().numpy() == -1).all()
        assert not p.grad.numpy().any()


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adafactor, optim.Muon])
@pytest.mark.parametrize("apart", [False, True])
def test_a_gradient_that_two_read_is_zeroed_after_both(cls: Any, apart: bool) -> None:
    params = [nn.Parameter(ts.ones((3, 2))) for _ in range(2)]
    optimizer = cls([{"params": [p]} for p in params] if apart else params, lr=0.1)
    params[0].grad = params[1].grad = ts.asarray([[1.0, 2], [-3, 1], [2, 2]], dtype=ts.float32)
    optimizer.step(zero_grad=True)
    assert (params[0] == params[1]).all()
    assert (params[0] != 1).all()
    assert not params[0].grad.any()


def test_bad_max_norm() -> None:
    params = parameters()
    for p in params:
        p.grad = ts.ones_like(p)
    before = [p.detach().numpy().copy() for p in params]
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"SGD.step: max_norm must be a finite number >= 0"):
            optim.SGD(params, lr=0.1).step(max_norm=bad)
    for p, old in zip(params, before, strict=True):
        assert (p.detach().numpy() == old).all()


def test_lamb_does_not_depend_on_threads_or_neighbours() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=n).astype(np.float32) for n in (100_003, 7, 16_384, 16_385, 1)]
    grads = [rng.normal(size=v.size).astype(np.float32) for v in values]

    def stepped(which: list[int]) -> list[bytes]:
        params = [nn.Parameter(ts.asarray(values[i].copy())) for i in which]
        optimizer = optim.LAMB(params, lr=0.1)
        for _ in range(2):
            for p, i in zip(params, which, strict=True):
                p.grad = ts.asarray(grads[i])
            optimizer.step()
        return [p.detach().numpy().tobytes() for p in params]

    threads = ts.get_num_threads()
    try:
        ts.set_num_threads(2)
        together = stepped([0, 1, 2, 3, 4])
        ts.set_num_threads(1)
        for i in range(5):
            assert stepped([i]) == [together[i]]
    finally:
        ts.set_num_threads(threads)


@pytest.mark.parametrize("cls", [optim.Adafactor, optim.Muon])
def test_whole_array_optimizers_replay(cls: Any) -> None:
    """Adafactor and Muon are made of operations: a recording has their bits, with a rate that moves."""
    rng = np.random.default_rng(0)
    xs = [ts.asarray(rng.normal(size=(8, 6)), dtype=ts.float32) for _ in range(6)]

    def trained(jit: bool) -> bytes:
        weight = nn.Parameter(ts.asarray(np.random.default_rng(1).normal(size=(6, 5)), dtype=ts.float32))
        optimizer = cls([weight], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = ts.square(x @ weight).mean()
            loss.backward()
            optimizer.step()
            return loss

        run = ts.jit(step) if jit else step
        for number, x in enumerate(xs):
            optimizer.param_groups[0]["lr"] = 0.1 / (number + 1)
            run(x)
        return weight.detach().numpy().tobytes()

    assert trained(True) == trained(False)


@pytest.mark.parametrize("value", ["abc", "1", None, [1.0], 1j, ts.ones((2,))], ids=str)
@pytest.mark.parametrize(
    ("cls", "key"),
    [
        (optim.SGD, "lr"),
        (optim.AdamW, "weight_decay"),
        (optim.Adafactor, "d"),
        (optim.Muon, "momentum"),
        (optim.Adadelta, "rho"),
        (optim.SGD, "dampening"),
        (optim.SparseAdam, "eps"),
    ],
)
def test_a_value_that_is_no_number(cls: Any, key: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{cls.__name__}: {key} must be a number, got "):
        cls([nn.Parameter(ts.ones((2, 2)))], **{key: value})


def test_things_that_are_no_parameters_and_no_state() -> None:
    with pytest.raises(TypeError, match="SGD: params must be an iterable of tensors or dicts, got NoneType"):
        optim.SGD(None, lr=0.1)
    with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\), got 0.9"):
        optim.Adam([nn.Parameter(ts.ones((2,)))], betas=0.9)
    with pytest.raises(ValueError, match=r"Lion: betas must be two numbers in \[0, 1\), got 0.9"):
        optim.Lion([nn.Parameter(ts.ones((2,)))], betas=0.9)
    with pytest.raises(ValueError, match="LBFGS: max_iter must be an integer >= 1, got 'a'"):
        optim.LBFGS([nn.Parameter(ts.ones((2,)))], max_iter="a")
    optimizer = optim.Adam([nn.Parameter(ts.ones((2,)))])
    group = optimizer.state_dict()["param_groups"][0]
    for state, message in (
        ({"state": "abc", "param_groups": [group]}, "'state' must have a dict for each parameter"),
        ({"state": {0: "abc"}, "param_groups": [group]}, "'state' must have a dict for each parameter"),
        ({"state": {}, "param_groups": "a"}, "'param_groups' must be dicts with a list 'params'"),
        ({"state": {}, "param_groups": [{"lr": 1}]}, "'param_groups' must be dicts with a list 'params'"),
        ({"state": {}, "param_groups": 2}, "'param_groups' must be dicts with a list 'params'"),
        (
            {"state": {}, "param_groups": [{**group, "params": [[0]]}]},
            r"'params' must hold numbers, got \[\[0\]\]",
        ),
        (
            {"state": {}, "param_groups": [{**group, "amsgrad": ts.ones((2,))}]},
            "amsgrad must be True or False",
        ),
        (
            {"state": {0: {"exp_avg": np.ones(2, complex)}}, "param_groups": [group]},
            "of real numbers, got complex128",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)


def test_bad_values_of_adafactor_and_muon() -> None:
    matrix, vector = nn.Parameter(ts.ones((2, 2))), nn.Parameter(ts.ones((2,)))
    for cls, options, message in (
        (optim.Adafactor, {"beta2_decay": 0.5}, "beta2_decay must be <= 0, got 0.5"),
        (optim.Adafactor, {"d": 0.5}, "d must be >= 1, got 0.5"),
        (optim.Adafactor, {"eps": (1e-3, None)}, "eps must be"),
        (optim.Adafactor, {"eps": 1e-3}, "eps must be"),
        (optim.Muon, {"ns_coefficients": (1.0, 2.0, "a")}, "ns_coefficients must be three numbers"),
        (optim.Muon, {"ns_steps": 100}, "ns_steps must be an integer from 1 to 99, got 100"),
        (optim.Muon, {"ns_coefficients": (1.0, 2.0)}, "ns_coefficients must be three numbers"),
        (optim.Muon, {"adjust_lr_fn": "rms"}, "adjust_lr_fn must be None, 'original'"),
    ):
        with pytest.raises(ValueError, match=message):
            cls([matrix], **options)
    with pytest.raises(ValueError, match=r"params\[1\] must be a matrix, got shape \(2,\)"):
        optim.Muon([matrix, vector])


# --- state_dict ----------------------------------------------------------------------------------


def run(optimizer: optim.Optimizer, params: list[nn.Parameter], rng: np.random.Generator, steps: int) -> None:
    for _ in range(steps):
        for p in params:
            p.grad = ts.asarray(gradient(rng, p), dtype=p.dtype)
        optimizer.step()


@pytest.mark.parametrize(("cls", "reference", "options"), CASES, ids=IDS)
def test_resume_has_the_same_bits(cls: Any, reference: Reference, options: dict[str, Any]) -> None:
    params = parameters(ts.float32, cls=cls)
    optimizer = cls(params, **options)
    run(optimizer, params, np.random.default_rng(1), 3)
    state = optimizer.state_dict()
    state = {  # through plain arrays and JSON, as a file would
        "state": {
            str(i): {k: np.array(v.numpy()) for k, v in entry.items()} for i, entry in state["state"].items()
        },
        "param_groups": json.loads(json.dumps(state["param_groups"])),
    }
    copies = [nn.Parameter(p.detach().copy()) for p in params]
    resumed = cls(copies, lr=123.0)
    resumed.load_state_dict(state)
    run(optimizer, params, np.random.default_rng(2), 3)
    run(resumed, copies, np.random.default_rng(2), 3)
    for p, q in zip(params, copies, strict=True):
        assert p.detach().numpy().tobytes() == q.detach().numpy().tobytes()
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_state_dict_has_pytorchs_layout() -> None:
    params = parameters()
    optimizer = optim.Adam(params, amsgrad=True)
    assert optimizer.state_dict()["state"] == {}
    params[0].grad = ts.ones_like(params[0])
    params[3].grad = ts.ones_like(params[3])
    optimizer.step()
    state = optimizer.state_dict()
    assert list(state) == ["state", "param_groups"]
    assert list(state["state"]) == [0, 3]
    assert list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert state["state"][3]["exp_avg"].shape == params[3].shape
    assert float(state["state"][3]["step"]) == 1
    assert state["param_groups"][0]["params"] == [0, 1, 2, 3, 4, 5]
    momentum = optim.SGD(params, lr=0.1, momentum=0.9)
    momentum.step()
    assert list(momentum.state_dict()["state"][0]) == ["momentum_buffer"]
    plain = optim.SGD(params, lr=0.1)
    plain.step()
    assert plain.state_dict()["state"] == {}
    assert list(optim.Adagrad(params).state_dict()["state"]) == [0, 1, 2, 3, 4, 5]


def test_load_of_its_own_state_changes_nothing() -> None:
    params = parameters()
    optimizer = optim.Adam(params)
    run(optimizer, params, np.random.default_rng(1), 2)
    before = [v.numpy().tobytes() for e in optimizer.state_dict()["state"].values() for v in e.values()]
    optimizer.load_state_dict(optimizer.state_dict())
    assert [
        v.numpy().tobytes() for e in optimizer.state_dict()["state"].values() for v in e.values()
    ] == before


def spoil(state: dict[str, Any], how: str) -> dict[str, Any]:
    bad = {
        "state": {i: dict(e) for i, e in state["state"].items()},
        "param_groups": [dict(g) for g in state["param_groups"]],
    }
    if how == "shape":
        bad["state"][5]["exp_avg"] = np.zeros((40, 70))
    elif how == "missing":
        del bad["state"][3]["exp_avg_sq"]
    elif how == "step":
        bad["state"][3]["step"] = np.float64("nan")
    elif how == "type":
        bad["state"][3]["exp_avg"] = "zeros"
    elif how == "count":
        bad["param_groups"][0]["params"] = [0, 1]
    elif how == "groups":
        bad["param_groups"] *= 2
    elif how == "value":
        bad["param_groups"][0]["betas"] = (0.9, 1.0)
    elif how == "keys":
        del bad["param_groups"]
    return bad


@pytest.mark.parametrize("how", ["shape", "missing", "step", "type", "count", "groups", "value", "keys"])
def test_load_is_all_or_nothing(how: str) -> None:
    params = parameters()
    optimizer = optim.Adam(params)
    run(optimizer, params, np.random.default_rng(1), 2)
    other = optim.Adam(parameters(seed=5), lr=0.5)
    run(other, other.param_groups[0]["params"], np.random.default_rng(3), 1)

    def snapshot() -> Any:
        state = optimizer.state_dict()
        return repr(state["param_groups"]), {
            (i, k): v.numpy().tobytes() for i, e in state["state"].items() for k, v in e.items()
        }

    before = snapshot()
    with pytest.raises(ValueError, match=r"Adam\.load_state_dict"):
        optimizer.load_state_dict(spoil(other.state_dict(), how))
    assert snapshot() == before
    optimizer.load_state_dict(other.state_dict())
    assert snapshot() != before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_lives_its_own_life(copied: Any) -> None:
    params = parameters()
    optimizer = optim.AdamW(params)
    run(optimizer, params, np.random.default_rng(1), 2)
    twins, twin = copied((params, optimizer))
    assert twin.param_groups[0]["params"][0] is twins[0]
    for o, ps in ((optimizer, params), (twin, twins)):
        o.param_groups[0]["lr"] = 0.5
        run(o, ps, np.random.default_rng(2), 2)
    for p, q in zip(params, twins, strict=True):
        assert p.detach().numpy().tobytes() == q.detach().numpy().tobytes()


@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW, optim.RMSprop])
def test_memory_may_run_out_anywhere(cls: Any) -> None:
    params = parameters()
    for p in params:
        p.grad = ts.ones_like(p)
    source = cls(params, momentum=0.9) if cls is not optim.AdamW else cls(params)
    source.step()
    state = source.state_dict()
    target = cls(params)
    before = [p.detach().numpy().tobytes() for p in params]

    def until_it_works(action: Callable[[], Any], unchanged: Callable[[], bool]) -> None:
        for n in range(1, 200):
            _core.fail_allocation(n)
            try:
                action()
                return
            except MemoryError:
                assert unchanged()
            finally:
                _core.fail_allocation(0)
        raise AssertionError("never enough memory")

    until_it_works(lambda: target.load_state_dict(state), lambda: target.state_dict()["state"] == {})
    assert len(target.state_dict()["state"]) == len(params)
    fresh = cls(params, lr=0.1)
    until_it_works(fresh.step, lambda: [p.detach().numpy().tobytes() for p in params] == before)
    assert [p.detach().numpy().tobytes() for p in params] != before


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (optim.SGD, {"lr": -1}, "SGD: lr must be a finite number >= 0, got -1"),
        (optim.SGD, {"lr": math.nan}, "SGD: lr"),
        (optim.SGD, {"momentum": -0.1}, "SGD: momentum"),
        (optim.SGD, {"nesterov": True}, "SGD: nesterov=True needs momentum > 0"),
        (optim.SGD, {"differentiable": True}, "SGD: differentiable=True is not supported"),
        (optim.Adam, {"betas": (0.9, 1.0)}, r"Adam: betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        (optim.Adam, {"betas": (0.9,)}, "Adam: betas"),
        (optim.AdamW, {"eps": -1e-8}, "AdamW: eps"),
        (optim.AdamW, {"weight_decay": -1}, "AdamW: weight_decay"),
        (optim.RMSprop, {"alpha": -1}, "RMSprop: alpha"),
        (optim.Adagrad, {"lr_decay": -1}, "Adagrad: lr_decay"),
        (optim.Adamax, {"betas": (1.0, 0.9)}, "Adamax: betas"),
        (optim.NAdam, {"momentum_decay": -1}, "NAdam: momentum_decay"),
        (optim.RAdam, {"differentiable": True}, "RAdam: differentiable=True is not supported"),
        (optim.LAMB, {"weight_decay": -1}, "LAMB: weight_decay"),
        (optim.Rprop, {"etas": (1.5, 1.2)}, r"Rprop: etas must be a number in \(0, 1\) and one above 1"),
        (optim.Rprop, {"step_sizes": (1, 0.5)}, "Rprop: step_sizes must be two ascending"),
        (optim.ASGD, {"t0": -1}, "ASGD: t0"),
        (optim.SparseAdam, {"eps": 0.0}, "SparseAdam: eps must be > 0"),
        (optim.SGD, {"dampening": math.inf}, "SGD: dampening must be finite, got inf"),
        (optim.Rprop, {"etas": 0.5}, r"Rprop: etas must be a number in \(0, 1\) and one above 1, got 0.5"),
        (optim.Rprop, {"step_sizes": ("a", 1)}, "Rprop: step_sizes must be two ascending numbers"),
    ],
)
def test_bad_values(cls: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(parameters(), **options)


def test_bad_parameters() -> None:
    a, b = parameters()[:2]
    with pytest.raises(ValueError, match="params is empty"):
        optim.SGD([])
    with pytest.raises(TypeError, match="got one Tensor"):
        optim.SGD(a)
    with pytest.raises(ValueError, match=r"params\[1\] appears twice"):
        optim.SGD([a, a])
    with pytest.raises(ValueError, match="appears twice"):
        optim.SGD([{"params": [a]}, {"params": [b, a]}])
    with pytest.raises(ValueError, match=r"params\[1\] is the result of an operation"):
        optim.SGD([a, a * 2])
    with pytest.raises(TypeError, match=r"params\[0\] must be a Tensor, got int"):
        optim.SGD([1])
    with pytest.raises(TypeError, match="floating-point, got int64"):
        optim.SGD([ts.arange(3)])
    with pytest.raises(TypeError, match="ordered"):
        optim.SGD([{"params": {a, b}}])


def test_named_parameters_are_taken() -> None:
    layer = nn.Linear(2, 3)
    optimizer = optim.SGD(layer.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert "lr: 0.1" in repr(optimizer)


@pytest.mark.parametrize("cls", [optim.Adam, optim.LBFGS])
def test_state_that_is_shown_cannot_be_changed_in_vain(cls: Any) -> None:
    p = nn.Parameter(ts.ones((2,)))
    optimizer = cls([p], lr=0.1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    name = next(iter(optimizer.state[p]))
    for change in (
        lambda: optimizer.state.clear(),
        lambda: optimizer.state.pop(p),
        lambda: optimizer.state.__setitem__(p, {}),
        lambda: optimizer.state[p].update({name: ts.zeros((2,))}),
        lambda: optimizer.state[p].__setitem__(name, ts.zeros((2,))),
        lambda: optimizer.state[p].__delitem__(name),
    ):
        with pytest.raises(
            TypeError, match=r"Optimizer\.state: shows what the optimizer keeps, and a change"
        ):
            change()
    assert type(copy.deepcopy(optimizer.state)) is type(optimizer.state_dict()["state"][0]) is dict


def test_an_optimizer_made_of_a_step_alone_is_told_what_is_missing() -> None:
    class Descent(optim.Optimizer):
        def step(self, closure: Any = None) -> None: ...  # type: ignore[override]

    with pytest.raises(
        NotImplementedError, match="Descent: a subclass of Optimizer defines _slots, _check, _hyper"
    ):
        Descent([nn.Parameter(ts.ones((2,)))], {"lr": 0.1})
