"""Modules: registration, state_dict, hooks, errors with the module's path, containers."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import _core, nn
from test_nn import close, random, tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2, bias=False)
        self.register_buffer("scale", ts.ones((1,)), persistent=False)

    def forward(self, x: ts.Tensor) -> ts.Tensor:
        return self.head(self.norm(self.body(x))) * self.scale


KEYS = [
    "body.0.weight",
    "body.0.bias",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
    "head.weight",
]


# --- registration and walking --------------------------------------------------------------------


def test_names() -> None:
    net = Net()
    assert list(net.state_dict()) == KEYS
    assert [name for name, _ in net.named_parameters()] == [
        k for k in KEYS if "running" not in k and "num" not in k
    ]
    assert [name for name, _ in net.named_buffers()] == ["scale", *KEYS[4:7]]
    assert [name for name, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "norm", "head"]
    assert [name for name, _ in net.named_children()] == ["body", "norm", "head"]
    assert net.get_submodule("body.0") is net.body[0]
    assert net.get_parameter("body.0.weight") is net.body[0].weight
    assert net.get_buffer("norm.running_mean") is net.norm.running_mean
    with pytest.raises(AttributeError, match=r"Sequential at 'body' has no module '7' \(of 'body\.7\.x'\)"):
        net.get_submodule("body.7.x")
    with pytest.raises(AttributeError, match="has no parameter 'scale'"):
        net.get_parameter("scale")


def test_shared_parameters_appear_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 3
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    assert len(net.state_dict()) == 4
    layer = nn.Linear(2, 2)
    twice = nn.Sequential(layer, layer)
    assert len(list(twice.modules())) == 2
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    twice.load_state_dict(twice.state_dict())


def test_assignment() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(TypeError, match="cannot assign a Tensor as parameter 'weight' of Linear"):
        layer.weight = ts.zeros((3, 2))  # type: ignore[assignment]
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    assert layer.bias is None
    layer.bias = nn.Parameter(ts.zeros((3,)))
    assert list(layer.state_dict()) == ["weight", "bias"]
    del layer.bias
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'bias'"):
        layer.bias  # noqa: B018
    layer.thing = 3  # type: ignore[assignment]
    layer.thing = nn.Identity()
    layer.thing = None
    assert "thing" in layer._modules
    with pytest.raises(TypeError, match="as module 'thing'"):
        layer.thing = 3
    norm = nn.BatchNorm1d(2)
    norm.running_mean = ts.ones((2,))
    assert norm.state_dict()["running_mean"].numpy().tolist() == [1, 1]
    with pytest.raises(TypeError, match="as buffer 'running_mean'"):
        norm.running_mean = 3  # type: ignore[assignment]
    for bad in ("a.b", ""):
        with pytest.raises(KeyError):
            layer.register_buffer(bad, None)
    with pytest.raises(KeyError, match="already has an attribute 'forward'"):
        layer.register_parameter("forward", None)
    with pytest.raises(TypeError, match=r"wrap it in nn\.Parameter"):
        layer.register_parameter("w", ts.zeros((1,)))  # type: ignore[arg-type]


def test_forgotten_super_init() -> None:
    class Forgot(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    class Called(nn.Module):
        def __init__(self) -> None:
            self.size = 1

    with pytest.raises(AttributeError, match=r"Forgot\.__init__\(\) must call super\(\)\.__init__\(\) first"):
        Forgot()
    with pytest.raises(AttributeError, match=r"must call super\(\)\.__init__\(\) first"):
        Called()(1)
    with pytest.raises(NotImplementedError, match=r"Module does not define forward"):
        nn.Module()(1)


def test_modes_apply_and_requires_grad() -> None:
    net = Net()
    assert not any(m.training for m in net.eval().modules())
    assert all(m.training for m in net.train().modules())
    seen: list[str] = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential", "BatchNorm1d", "Linear", "Net"]
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    net.requires_grad_()
    net(tensor(random(5, 4), ts.float32)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(ValueError, match="mode must be True or False"):
        net.train(2)  # type: ignore[arg-type]


def test_to_keeps_the_parameters() -> None:
    net = Net()
    before = list(net.parameters())
    assert net.to(ts.float64) is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert {t.dtype for t in [*net.parameters(), net.norm.running_var]} == {ts.float64}
    assert net.norm.num_batches_tracked.dtype == ts.int64
    net(tensor(random(5, 4))).sum().backward()
    assert before[0].grad.dtype == ts.float64
    net.float()
    assert before[0].dtype == before[0].grad.dtype == ts.float32
    net.double().to("cpu", ts.float32, non_blocking=True).cpu()
    assert before[0].dtype == ts.float32
    with pytest.raises(TypeError, match="floating-point type, got int64"):
        net.to(ts.int64)
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'tpu'"):
        net.to("tpu")


def test_parameter() -> None:
    data = ts.ones((2,))
    p = nn.Parameter(data)
    assert isinstance(p, ts.Tensor)
    assert p.requires_grad
    data[0] = 5.0
    assert p.detach().numpy().tolist() == [5, 1]  # shared
    q = copy.deepcopy(p)
    assert type(q) is nn.Parameter
    data[0] = 7.0
    assert q.detach().numpy().tolist() == [5, 1]
    assert "Parameter containing" in repr(p)
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="only floating"):
        nn.Parameter(ts.arange(3))


def test_deepcopy_and_collection() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    assert all(a is not b for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert twin.head.weight is twin._modules["head"]._parameters["weight"]
    x = tensor(random(5, 4), ts.float32)
    close(twin.eval()(x), net.eval()(x).detach().numpy(), 0)
    twin = pickle.loads(pickle.dumps(net))
    assert type(twin.head.weight) is nn.Parameter
    assert bits(twin) == bits(net)
    alive = weakref.ref(net)
    net.register_forward_hook(lambda *_: None)
    del net
    gc.collect()
    assert alive() is None


def test_repr() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
            self.more = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1), nn.Tanh()])
            self.drop = nn.Dropout(0.2)

    assert repr(Deep()) == (
        "Deep(\n"
        "  (net): Sequential(\n"
        "    (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (more): ModuleList(\n"
        "    (0-1): 2 x Linear(in_features=1, out_features=1, bias=True)\n"
        "    (2): Tanh()\n"
        "  )\n"
        "  (drop): Dropout(p=0.2, inplace=False)\n"
        ")"
    )
    for layer, text in (
        (
            nn.BatchNorm2d(2),
            "BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
        ),
        (nn.LayerNorm(3), "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)"),
        (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        (nn.AvgPool2d(2), "AvgPool2d(kernel_size=2, stride=2, padding=0)"),
        (nn.Embedding(3, 2, padding_idx=-3), "Embedding(3, 2, padding_idx=0)"),
        (nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
        (nn.CrossEntropyLoss(), "CrossEntropyLoss()"),
        (nn.GELU(), "GELU(approximate='none')"),
    ):
        assert repr(layer) == text


# --- state_dict ----------------------------------------------------------------------------------


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


def test_state_dict_shares_and_loads() -> None:
    net, other = Net(), Net()
    state = net.state_dict()
    assert not any(value.requires_grad for value in state.values())
    assert net.state_dict(keep_vars=True)["head.weight"] is net.head.weight
    parameters = list(other.parameters())
    assert repr(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert bits(other) == bits(net)
    assert all(a is b for a, b in zip(parameters, other.parameters(), strict=True))
    state["head.weight"][0, 0] = 9.0
    assert net.head.weight.detach().numpy()[0, 0] == 9
    assert other.head.weight.detach().numpy()[0, 0] != 9


def test_a_module_can_swap_its_own_layers() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    a, b = (np.array(net[i].weight.detach().numpy()) for i in (0, 1))
    state = net.state_dict()
    state["0.weight"], state["1.weight"] = state["1.weight"], state["0.weight"]
    net.load_state_dict(state)
    np.testing.assert_array_equal(net[0].weight.detach().numpy(), b)
    np.testing.assert_array_equal(net[1].weight.detach().numpy(), a)


def test_state_dict_takes_arrays_and_casts() -> None:
    net = nn.Linear(2, 2)
    net.load_state_dict({"weight": np.arange(4.0).reshape(2, 2), "bias": [1, 2]})
    assert net.weight.dtype == ts.float32
    assert net.weight.detach().numpy().tolist() == [[0, 1], [2, 3]]
    net.load_state_dict({"weight": np.arange(4.0).reshape(2, 2), "bias": np.zeros(2)}, assign=True)
    assert net.weight.dtype == ts.float64
    norm = nn.BatchNorm1d(2)
    old = norm.state_dict()
    del old["num_batches_tracked"]  # files from before this counter
    norm.load_state_dict(old)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "head.weight",
            np.zeros((2, 4)),
            r"head\.weight: shape \(2, 4\) in the state_dict, \(2, 3\) in the module",
        ),
        ("head.weight", "zeros", r"head\.weight: str cannot be read"),
        (
            "head.weight",
            np.zeros((2, 3), np.complex128),
            r"head\.weight: complex128 cannot be stored as float32",
        ),
        ("head.weight", None, "missing keys: 'head.weight'"),
        ("extra", np.zeros(1), "unexpected keys: 'extra'"),
    ],
)
def test_load_is_all_or_nothing(key: str, value: Any, message: str) -> None:
    net = Net()
    before = bits(net)
    state = OrderedDict((name, np.ones(v.shape)) for name, v in net.state_dict().items())
    state[key] = value
    if value is None:
        del state[key]
    state["norm.bias"] = np.zeros((7,))  # a second error: both are listed
    with pytest.raises(RuntimeError, match=message) as error:
        net.load_state_dict(state)
    assert "norm.bias: shape (7,)" in str(error.value)
    assert "nothing was changed" in str(error.value)
    assert bits(net) == before


@pytest.mark.parametrize(
    "change", [lambda net, state: net.load_state_dict(state), lambda net, state: net.double()]
)
def test_memory_may_run_out_anywhere(change: Any) -> None:
    net = Net()
    state = {name: np.ones(v.shape) for name, v in net.state_dict().items()}
    before = bits(net)
    for n in range(1, 100):
        _core.fail_allocation(n)
        try:
            change(net, state)
            break
        except MemoryError:
            assert bits(net) == before
        finally:
            _core.fail_allocation(0)
    assert 3 < n < 99
    assert bits(net) != before


def test_load_not_strict() -> None:
    net = Net()
    result = net.load_state_dict({"head.weight": np.ones((2, 3)), "extra": np.ones(1)}, strict=False)
    assert result.unexpected_keys == ["extra"]
    assert result.missing_keys == KEYS[:-1]
    assert net.head.weight.detach().numpy().all()
    with pytest.raises(RuntimeError, match="shape"):
        net.load_state_dict({"head.weight": np.ones((3, 2))}, strict=False)
    with pytest.raises(TypeError, match="must be a mapping, got list"):
        net.load_state_dict([1])  # type: ignore[arg-type]


# --- hooks ---------------------------------------------------------------------------------------


def test_forward_hooks() -> None:
    layer = nn.Linear(2, 2)
    x = tensor(random(3, 2), ts.float32)
    plain = layer(x).detach().numpy()
    calls: list[str] = []
    first = layer.register_forward_pre_hook(lambda m, args: calls.append("pre"))
    second = layer.register_forward_pre_hook(lambda m, args: (args[0] * 2,), prepend=True)
    third = layer.register_forward_hook(lambda m, args, y: y + 1)
    fourth = layer.register_forward_hook(lambda m, args, kwargs, y: calls.append("kw"), with_kwargs=True)
    assert layer._hooked
    close(layer(x), layer.forward(x * 2).detach().numpy() + 1, 1e-6)
    assert calls == ["pre", "kw"]
    for handle in (first, second, third, fourth):
        handle.remove()
        handle.remove()
    assert not layer._hooked
    close(layer(x), plain, 0)
    with layer.register_forward_hook(lambda m, args, y: y * 0):
        assert not layer(x).detach().numpy().any()
    close(layer(x), plain, 0)
    with layer.register_forward_pre_hook(lambda m, args, kwargs: ((x * 0,), kwargs), with_kwargs=True):
        close(layer(x), np.broadcast_to(layer.bias.detach().numpy(), (3, 2)), 1e-6)
    with pytest.raises(TypeError, match="hook must be callable"):
        layer.register_forward_hook(3)  # type: ignore[arg-type]


def test_always_called_hook() -> None:
    layer = nn.Linear(2, 2)
    seen: list[Any] = []
    layer.register_forward_hook(lambda m, args, y: seen.append(y), always_call=True)
    with pytest.raises(ValueError, match="linear"):
        layer(ts.zeros((1, 3)))
    assert seen == [None]


def test_backward_hooks() -> None:
    layer = nn.Linear(2, 3).double()
    x = tensor(random(4, 2), requires_grad=True)
    dy = random(4, 3, seed=1)
    seen: list[Any] = []
    layer.register_full_backward_hook(lambda m, dx, dy: seen.append((m, dx, dy)))
    before = layer.register_full_backward_pre_hook(lambda m, dy: (dy[0] * 2,))
    layer(x).backward(tensor(dy))
    ((module, (dx,), (seen_dy,)),) = seen
    assert module is layer
    w = layer.weight.detach().numpy()
    close(seen_dy, 2 * dy)
    close(dx, 2 * dy @ w)
    close(x.grad, 2 * dy @ w)
    close(layer.weight.grad, 2 * dy.T @ x.detach().numpy())
    before.remove()
    x.grad = None
    with layer.register_full_backward_hook(lambda m, dx, dy: (dx[0] * 0,)):
        layer(x).backward(tensor(dy))
    assert not x.grad.numpy().any()
    seen.clear()
    layer(tensor(random(4, 2))).backward(tensor(dy))  # no input needs a gradient: the hook still runs
    assert seen[0][1] == (None,)
    with ts.no_grad():
        layer(x)


# --- errors carry the module's path --------------------------------------------------------------


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", [])) if sys.version_info >= (3, 11) else str(error)


def test_error_names_the_module_and_the_shapes() -> None:
    net = Net()
    net.body.append(nn.Sequential(nn.Linear(3, 5), nn.Linear(4, 3)))
    with pytest.raises(ValueError) as caught:
        net(ts.zeros((2, 4)))
    text = notes(caught.value)
    assert (
        "in Net.body.2.1: Linear(in_features=4, out_features=3, bias=True), called with (float32 (2, 5))"
        in text
    )
    assert text.count("in Net") == 1
    if sys.version_info >= (3, 11):
        assert len(caught.value.__notes__) == 1
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError) as caught:
        layer(ts.zeros((2, 3)))
    assert "in Linear(in_features=2, out_features=2, bias=True), called with (float32 (2, 3))" in notes(
        caught.value
    )


def test_error_in_a_list_of_layers_and_of_the_users_own_forward() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList([nn.Linear(2, 2), nn.Linear(3, 2)])

        def forward(self, x: ts.Tensor, extra: Any = None) -> ts.Tensor:
            if extra is not None:
                raise KeyError(extra)
            return self.branches[0](x) + self.branches[1](x)

    with pytest.raises(ValueError) as caught:
        nn.Sequential(nn.Identity(), Branches())(ts.zeros((1, 2)))
    assert "in Sequential.1.branches.1: Linear(in_features=3" in notes(caught.value)
    with pytest.raises(KeyError) as other:
        Branches()(ts.zeros((1, 2)), "why")
    if sys.version_info >= (3, 11):
        assert "in Branches, called with (float32 (1, 2), str)" in notes(other.value)


# --- containers ----------------------------------------------------------------------------------


def test_backward_hooks_see_a_place_for_each_result() -> None:
    class Several(nn.Module):
        def forward(self, x: Any) -> Any:
            return 5, x * 2, {"x": x}

    layer, seen = Several(), []
    layer.register_full_backward_pre_hook(lambda m, dy: (None, dy[1] * 10, None))
    layer.register_full_backward_hook(
        lambda m, dx, dy: seen.append([None if g is None else g.tolist() for g in dy])
    )
    x = ts.ones(2).requires_grad_()
    layer(x)[1].sum().backward()
    assert seen == [[None, [10, 10], None]] and x.grad.tolist() == [20, 20]


def test_a_layer_is_no_parameter() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="cannot assign a ReLU as parameter 'weight' of Linear"):
        layer.weight = nn.ReLU()  # type: ignore[assignment]
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_containers_added_and_repeated() -> None:
    one, other = nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())
    same = one
    one += other
    assert same is one and [type(m) for m in one] == [nn.ReLU, nn.Tanh]
    assert len(one * 2) == len(2 * one) == 4 and (one * 2)[2] is one[0]
    one *= 3
    assert same is one and list(one._modules) == list("012345")
    with pytest.raises(ValueError, match="repetitions must be >= 1, got 0"):
        one * 0
    many = nn.ParameterList([ts.ones(1)])
    many += [ts.ones(2)]
    assert [p.shape for p in many] == [(1,), (2,)]
    named = nn.ParameterDict({"a": ts.ones(1), "b": ts.ones(1)})
    assert list(reversed(named)) == ["b", "a"]
    assert list(named | nn.ParameterDict({"c": ts.ones(1)})) == ["a", "b", "c"] and len(named) == 2
    named |= nn.ParameterDict({"c": ts.ones(1)})
    assert list(named.state_dict()) == ["a", "b", "c"]


def test_sequential() -> None:
    a, b, c = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3)
    net = nn.Sequential(a, b)
    net.append(c)
    assert net[-1] is c
    assert list(net[1:]) == [b, c]
    assert list(net[1:]._modules) == ["1", "2"]
    net.insert(1, nn.Tanh())
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "ReLU", "Linear"]
    del net[1]
    assert list(net) == [a, b, c]
    assert net.pop(1) is b
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    net[0] = nn.Identity()
    assert len(net + nn.Sequential(b)) == 3
    named = nn.Sequential(OrderedDict(first=a, second=b))
    assert list(named.state_dict()) == ["first.weight", "first.bias"]
    assert named[0] is named.first
    with pytest.raises(IndexError, match="index 2 is out of range for 2 entries"):
        named[2]
    with pytest.raises(TypeError, match="must be a Module or None, got function"):
        nn.Sequential(lambda x: x)


@pytest.mark.parametrize("padding", [1, "same"])
def test_relu_with_its_layer_has_the_same_bits(padding: Any) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=padding),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 7),
        nn.ReLU(),
        nn.Linear(7, 3),
    )
    x = tensor(random(5, 2, 4, 4), ts.float32)
    results = []
    for hooks in (False, True):
        calls: list[Any] = []
        if hooks:
            for module in net:
                module.register_forward_hook(lambda m, args, y, calls=calls: calls.append(m))
        net.zero_grad()
        y = net(x)
        y.sum().backward()
        assert calls == (list(net) if hooks else [])
        results.append([y.detach().numpy().tobytes(), *(p.grad.numpy().tobytes() for p in net.parameters())])
    assert results[0] == results[1]


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList([nn.Linear(1, 1)])
    layers += [nn.Linear(1, 1)]
    layers.insert(0, nn.Tanh())
    layers.extend([nn.ReLU()])
    assert [type(m).__name__ for m in layers] == ["Tanh", "Linear", "Linear", "ReLU"]
    assert isinstance(layers[1:3], nn.ModuleList)
    assert list(layers.state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert len(layers + [nn.ReLU()]) == 5
    table = nn.ModuleDict({"a": nn.Linear(1, 1)})
    table["b"] = nn.ReLU()
    table.update([("c", nn.Tanh())])
    assert list(table) == ["a", "b", "c"]
    assert "b" in table
    assert list(table.state_dict()) == ["a.weight", "a.bias"]
    del table["a"]
    assert isinstance(table.pop("b"), nn.ReLU)
    assert len(table) == 1
    with pytest.raises(KeyError):
        table["a"]
    table.clear()
    assert list(table.items()) == []


def test_parameter_list_and_dict() -> None:
    values = nn.ParameterList([ts.zeros((2,)), nn.Parameter(ts.ones((3,)))])
    values.append(ts.zeros((1,)))
    assert [p.shape for p in values] == [(2,), (3,), (1,)]
    assert all(p.requires_grad for p in values.parameters())
    assert list(values.state_dict()) == ["0", "1", "2"]
    values[-1] = ts.ones((4,))
    assert values[2].shape == (4,)
    assert len(values[:2]) == 2
    assert "(0): Parameter of float32 2" in repr(values)
    table = nn.ParameterDict({"w": ts.zeros((2, 3))})
    assert list(table.state_dict()) == ["w"]
    assert "w" in table
    with pytest.raises(TypeError, match="ParameterList: entries must be"):
        values.append(3)
