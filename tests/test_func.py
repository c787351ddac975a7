"""`ts.func`: modules as functions of their parameters, and the transforms under PyTorch's names."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.func import functional_call, stack_module_state
from test_checkpoint import tensor


def network() -> Any:
    ts.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))


def state(net: Any) -> dict[str, Any]:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def attributes(net: Any) -> list[Any]:
    """Every parameter and buffer by identity, where the registries and where attributes have them."""
    return [
        (path, name, id(value), id(module.__dict__[name]))
        for path, module in net.named_modules()
        for registry in (module._parameters, module._buffers)
        for name, value in registry.items()
    ]


def test_it_computes_with_what_is_given() -> None:
    net, other, x = network(), network(), tensor(6, 4)
    with ts.no_grad():
        for value in other.parameters():
            value.mul_(1.5)
    before, kept = attributes(net), [v.tolist() for v in state(net).values()]
    given = {
        name: value.detach().copy().requires_grad_(value.requires_grad)
        for name, value in state(other).items()
    }
    y = functional_call(net, given, (x,))
    expected = other(x)
    assert y.tolist() == expected.tolist()
    assert attributes(net) == before and [v.tolist() for v in state(net).values()] == kept
    y.sum().backward(), expected.sum().backward()
    for name, value in other.named_parameters():
        assert given[name].grad.tolist() == value.grad.tolist(), name
    for name, value in other.named_buffers():  # updated here, and not in the module
        assert given[name].tolist() == value.tolist(), name
    assert all(p.grad is None for p in net.parameters())


def test_gradients_flow_through_computed_tensors() -> None:
    net, x = nn.Linear(3, 2), tensor(5, 3)
    rate = ts.tensor(0.1, requires_grad=True)
    inner = ts.autograd.gradients((net(x) ** 2).sum(), list(net.parameters()), create_graph=True)
    stepped = {name: p - rate * g for (name, p), g in zip(net.named_parameters(), inner, strict=True)}
    (functional_call(net, stepped, x) ** 2).sum().backward()
    assert rate.grad is not None and net.weight.grad is not None and rate.grad.item() != 0


def test_partly_and_with_keywords() -> None:
    net = nn.Linear(3, 2)
    x = tensor(5, 3)
    y = functional_call(net, {"bias": ts.zeros(2)}, kwargs={"input": x})
    np.testing.assert_allclose(y.detach().numpy(), (x @ net.weight.T).detach().numpy(), rtol=1e-6)
    assert functional_call(net, {"no.such": ts.zeros(2)}, x).tolist() == net(x).tolist()
    assert functional_call(net, [{"bias": ts.zeros(2)}, {"weight": net.weight}], x).tolist() == y.tolist()


def test_as_it_was_after_an_error() -> None:
    net = network()
    before = attributes(net)
    with pytest.raises(ValueError):
        functional_call(net, {"0.weight": ts.zeros((3, 4)), "3.weight": ts.zeros((7, 7))}, tensor(6, 4))
    assert attributes(net) == before


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", ts.zeros(()))

    def forward(self, x: Any) -> Any:
        self.count = self.count + 1
        return x * self.count


def test_a_buffer_that_is_replaced_is_replaced_in_the_dict() -> None:
    net, given = Counter(), {"count": ts.asarray(5.0)}
    assert functional_call(net, given, ts.ones(1)).tolist() == [6]
    assert given["count"].item() == 6 and net.count.item() == 0 and net._buffers["count"] is net.count


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


def test_tied_weights() -> None:
    net, x, double = Tied(), ts.eye(2), 2 * ts.eye(2)
    assert functional_call(net, {"first.weight": double}, x).tolist() == (4 * ts.eye(2)).tolist()
    assert (
        functional_call(net, {"second.weight": double}, x, strict=True).tolist() == (4 * ts.eye(2)).tolist()
    )
    y = functional_call(net, {"first.weight": double}, x, tie_weights=False)
    np.testing.assert_allclose(y.detach().numpy(), 2 * net.first.weight.detach().numpy().T, rtol=1e-6)
    both = {"first.weight": double, "second.weight": ts.eye(2)}
    with pytest.raises(ValueError, match=r"'first.weight', 'second.weight' are one tensor of the module"):
        functional_call(net, both, x)
    assert functional_call(net, both, x, tie_weights=False).tolist() == double.tolist()
    assert net.first.weight is net.second.weight


def test_what_is_refused() -> None:
    net, x = nn.Linear(3, 2), tensor(5, 3)
    for call, error, message in (
        (lambda: functional_call(3, {}, x), TypeError, "module must be a Module, got int"),
        (
            lambda: functional_call(net, 3, x),
            TypeError,
            "parameter_and_buffer_dicts must be a dict or a seq.*got int",
        ),
        (lambda: functional_call(net, {"bias": 3}, x), TypeError, "has a int under 'bias'"),
        (lambda: functional_call(net, {}, x, 3), TypeError, "kwargs must be a dict, got int"),
        (lambda: functional_call(net, [{"bias": x}, {"bias": x}], x), ValueError, "'bias' is in several of"),
        (
            lambda: functional_call(net, {"bias": x, "more": x}, x, strict=True),
            RuntimeError,
            "strict: missing 'weight'; unexpected 'more'",
        ),
    ):
        with pytest.raises(error, match=message):
            call()


def test_under_jit() -> None:
    net, x = network(), tensor(6, 4)
    given = state(copy.deepcopy(net))
    call = ts.jit(lambda given, x: functional_call(net, given, x).detach() * 2)
    expected = functional_call(net, state(copy.deepcopy(net)), x).tolist()
    found = [(call(given, x) / 2).tolist() for _ in range(3)]
    np.testing.assert_allclose(found[2], expected, rtol=1e-6)
    assert call.cache_info().hits >= 1, call.why()


def test_stacked_states() -> None:
    nets = [network() for _ in range(3)]
    nets[1][0].weight.requires_grad_(True)
    parameters, buffers = stack_module_state(nets)
    assert list(parameters) == [n for n, _ in nets[0].named_parameters()]
    assert parameters["0.weight"].shape == (3, 3, 4) and parameters["0.weight"].is_leaf
    assert parameters["0.weight"].requires_grad and not buffers["1.running_mean"].requires_grad
    assert buffers["1.num_batches_tracked"].shape == (3,)
    assert parameters["3.bias"][2].tolist() == nets[2][3].bias.tolist()
    nets[1][0].weight.requires_grad_(False)
    for models, error, message in (
        ([], ValueError, "models is empty"),
        ([nn.Linear(1, 1), nn.Tanh()], TypeError, "got Linear and at index 1 Tanh"),
        ([nn.Linear(1, 1), nn.Linear(1, 1).eval()], RuntimeError, "model 1 is not in the mode of the first"),
        ([nn.Linear(1, 1), nn.Linear(2, 1)], RuntimeError, r"'weight' of model 1 has shape \(1, 2\)"),
        ([nn.Linear(1, 1), nn.Linear(1, 1, bias=False)], RuntimeError, "model 1 has other names"),
        (nets, RuntimeError, "'0.weight' of model 1 .* requires_grad=False, and that of the first"),
    ):
        with pytest.raises(error, match=message):
            stack_module_state(models)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own first jvp
def test_transforms_under_pytorchs_names() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(3)
    for lib, make in ((ts, ts.asarray), (torch, torch.from_numpy)):
        func, y = lib.func, make(x.copy())
        value, pull = func.vjp(lambda a, sin=lib.sin: sin(a) * 2, y)
        found = [
            value,
            *pull(y),
            *func.vjp(lambda a, b: a * b, y, y * 2)[1](y),
            func.grad(lambda a: (a * a * a).sum())(y),
            *func.grad_and_value(lambda a: (a * a).sum())(y),
            *func.jvp(lambda a: a * a, (y,), (y,)),
            func.jacrev(lib.sin)(y),
            func.jacfwd(lambda a, b: a * b.sum(), argnums=1)(y, y),
            func.hessian(lambda a: (a**3).sum())(y),
        ]
        found = [f.detach().numpy() for f in found]
        if lib is ts:
            mine = found
    for a, b in zip(mine, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    for name in ("functional_call", "stack_module_state"):
        ours, theirs = (inspect.signature(getattr(lib.func, name)).parameters for lib in (ts, torch))
        assert list(ours) == list(theirs) and [p.default for p in ours.values()] == [
            p.default for p in theirs.values()
        ]
