"""Modules, layers, losses and initialisation against float64 NumPy."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import sys
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import _core, nn
from tensorsmith.nn import functional as F

Array = np.ndarray[Any, Any]


def tensor(values: Any, dtype: Any = None, requires_grad: bool = False) -> ts.Tensor:
    result = ts.asarray(np.asarray(values), dtype=dtype)
    return result.requires_grad_() if requires_grad else result


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


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
    net.double().to("cpu", ts.float32).cpu()
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


# --- layers --------------------------------------------------------------------------------------


def conv_reference(
    x: Array, w: Array, b: Array, s: tuple[int, int], p: tuple[int, int], d: tuple[int, int], g: int
) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (p[0], p[0]), (p[1], p[1])))
    n, _, h, width = x.shape
    o, cg, kh, kw = w.shape
    rows = (h - d[0] * (kh - 1) - 1) // s[0] + 1
    columns = (width - d[1] * (kw - 1) - 1) // s[1] + 1
    y = np.zeros((n, o, rows, columns)) + b[:, None, None]
    for group in range(g):
        outs = slice(group * o // g, (group + 1) * o // g)
        ins = slice(group * cg, (group + 1) * cg)
        for i in range(kh):
            for j in range(kw):
                patch = x[:, ins, i * d[0] :: s[0], j * d[1] :: s[1]][:, :, :rows, :columns]
                y[:, outs] += np.einsum("nchw,oc->nohw", patch, w[outs, :, i, j])
    return y


def test_linear() -> None:
    layer = nn.Linear(4, 3, dtype=ts.float64)
    x = random(2, 5, 4)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    close(layer(tensor(x)), x @ w.T + b)
    close(F.linear(tensor(x), layer.weight), x @ w.T)
    assert nn.Identity(1, a=2)(layer) is layer


@pytest.mark.parametrize(
    ("options", "image"),
    [
        ({"kernel_size": 3}, (6, 7)),
        ({"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}, (7, 9)),
        ({"kernel_size": 3, "groups": 2, "padding": 1}, (5, 5)),
        ({"kernel_size": 3, "padding": "same", "dilation": 2}, (8, 7)),
        ({"kernel_size": (2, 4), "padding": "same"}, (5, 6)),
        ({"kernel_size": 3, "padding": "valid", "bias": False}, (5, 6)),
    ],
)
def test_conv2d(options: dict[str, Any], image: tuple[int, int]) -> None:
    layer = nn.Conv2d(4, 6, **options, dtype=ts.float64)
    x = random(2, 4, *image)
    w = layer.weight.detach().numpy()
    b = np.zeros(6) if layer.bias is None else layer.bias.detach().numpy()
    y = layer(tensor(x))
    if options.get("padding") == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        before = [t // 2 for t in totals]
        padded = np.pad(x, ((0, 0), (0, 0), *((a, t - a) for a, t in zip(before, totals, strict=True))))
        expected = conv_reference(padded, w, b, (1, 1), (0, 0), layer.dilation, layer.groups)
        assert expected.shape[2:] == image
    else:
        padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
        expected = conv_reference(x, w, b, layer.stride, padding, layer.dilation, layer.groups)
    close(y, expected)
    close(layer(tensor(x[0])), expected[0])


def test_pools() -> None:
    x = random(2, 3, 6, 8)
    windows = x.reshape(2, 3, 3, 2, 4, 2)
    close(nn.MaxPool2d(2)(tensor(x)), windows.max((3, 5)))
    close(nn.AvgPool2d(2)(tensor(x)), windows.mean((3, 5)))
    close(nn.MaxPool2d(2)(tensor(x[0])), windows.max((3, 5))[0])
    ones = ts.ones((1, 1, 2, 2))
    assert nn.AvgPool2d(2, padding=1)(ones).numpy().tolist() == [[[[0.25, 0.25], [0.25, 0.25]]]]
    assert nn.AvgPool2d(2, padding=1, count_include_pad=False)(ones).numpy().tolist() == [[[[1, 1], [1, 1]]]]
    assert nn.AvgPool2d(2, divisor_override=3)(ones).numpy().ravel().tolist() == pytest.approx([4 / 3])
    assert nn.MaxPool2d(3, stride=2, ceil_mode=True)(ts.ones((1, 1, 6, 6))).shape == (1, 1, 3, 3)


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(3, dtype=ts.float64)
    axes = (0, *range(2, len(shape)))
    column = (1, 3) + (1,) * (len(shape) - 2)
    running_mean, running_var = np.zeros(3), np.ones(3)
    with ts.no_grad():
        layer.weight.copy_(tensor([1.0, 2.0, 3.0]))
        layer.bias.copy_(tensor([0.5, 0.0, -1.0]))
    w, b = np.array([1.0, 2.0, 3.0]).reshape(column), np.array([0.5, 0.0, -1.0]).reshape(column)
    for step in range(3):
        x = random(*shape, seed=step) * 2 + 1
        mean, var = x.mean(axes), x.var(axes)
        expected = (x - mean.reshape(column)) / np.sqrt(var.reshape(column) + 1e-5) * w + b
        close(layer(tensor(x)), expected, 1e-10)
        count = x.size // 3
        running_mean = 0.9 * running_mean + 0.1 * mean
        running_var = 0.9 * running_var + 0.1 * var * count / (count - 1)
    close(layer.running_mean, running_mean)
    close(layer.running_var, running_var)
    assert int(layer.num_batches_tracked) == 3
    layer.eval()
    expected = (x - running_mean.reshape(column)) / np.sqrt(running_var.reshape(column) + 1e-5) * w + b
    close(layer(tensor(x)), expected, 1e-10)
    assert int(layer.num_batches_tracked) == 3
    layer.reset_running_stats()
    assert not layer.running_mean.numpy().any()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (33, 5, 7), (4, 17, 9, 11), (3, 64, 40, 40)])
def test_batch_norm_takes_a_relu(shape: tuple[int, ...], affine: bool, last: bool) -> None:
    """The bits of the two layers, forward and backward, in both layouts; a hook between them keeps them apart."""
    order = (0, *range(2, len(shape)), 1)
    back = (0, len(shape) - 1, *range(1, len(shape) - 1))
    x, dy = (random(*shape, seed=s).astype(np.float32) for s in (0, 1))
    if last:
        x, dy = (np.ascontiguousarray(a.transpose(order)).transpose(back) for a in (x, dy))
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    results = []
    for together in (True, False):
        layer = kind(shape[1], affine=affine)
        if affine:
            with ts.no_grad():
                layer.weight.copy_(ts.asarray(random(shape[1], seed=2).astype(np.float32)))
                layer.bias.copy_(ts.asarray(random(shape[1], seed=3).astype(np.float32)))
        net = nn.Sequential(layer, nn.ReLU())
        if not together:
            layer.register_forward_hook(lambda *_: None)
        leaf = ts.asarray(x).requires_grad_()
        y = net(leaf)
        y.backward(ts.asarray(dy))
        gradients = [leaf.grad] + ([layer.weight.grad, layer.bias.grad] if affine else [])
        results.append([y.detach(), *gradients, layer.running_mean, layer.running_var])
    for a, b in zip(*results, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
        assert a.strides == b.strides


def test_batch_norm_cumulative_and_untracked() -> None:
    layer = nn.BatchNorm1d(2, momentum=None, dtype=ts.float64)
    xs = [random(5, 2, seed=s) for s in range(3)]
    for x in xs:
        layer(tensor(x))
    close(layer.running_mean, np.mean([x.mean(0) for x in xs], axis=0))
    free = nn.BatchNorm1d(2, track_running_stats=False, affine=False, dtype=ts.float64).eval()
    assert list(free.state_dict()) == []
    close(free(tensor(xs[0])), (xs[0] - xs[0].mean(0)) / np.sqrt(xs[0].var(0) + 1e-5), 1e-10)
    with pytest.raises(ValueError, match="more than one value per channel"):
        nn.BatchNorm1d(2)(ts.zeros((1, 2)))
    with pytest.raises(
        ValueError, match=r"BatchNorm2d: input must be 4-dimensional, \(N, C, H, W\), got shape"
    ):
        nn.BatchNorm2d(2)(ts.zeros((1, 2)))


def test_layer_norm() -> None:
    x = random(2, 3, 4) * 3 + 1
    layer = nn.LayerNorm((3, 4), dtype=ts.float64)
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    close(layer(tensor(x)), (x - mean) / np.sqrt(var + 1e-5), 1e-10)
    plain = nn.LayerNorm(4, elementwise_affine=False)
    assert list(plain.state_dict()) == []
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]


def test_dropout() -> None:
    ts.manual_seed(0)
    layer = nn.Dropout(0.25)
    x = tensor(np.ones((100, 100)), ts.float32, True)
    y = layer(x)
    kept = y.detach().numpy() != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(y.detach().numpy()[kept], 4 / 3, rtol=1e-6)
    y.sum().backward()
    close(x.grad, np.where(kept, 4 / 3, 0), 1e-6)
    assert layer.eval()(x) is x
    assert not nn.Dropout(1.0)(x).detach().numpy().any()


def test_embedding() -> None:
    layer = nn.Embedding(5, 3, padding_idx=1)
    table = layer.weight.detach().numpy()
    assert not table[1].any()
    index = np.array([[0, 1, 4], [4, 4, 2]])
    y = layer(tensor(index))
    close(y, table[index], 0)
    y.sum().backward()
    assert layer.weight.grad.numpy()[:, 0].tolist() == [1, 0, 1, 0, 3]
    given = nn.Embedding.from_pretrained(ts.ones((2, 3)))
    assert not given.weight.requires_grad
    with pytest.raises(IndexError, match="5"):
        layer(tensor([0, 5]))


def test_flatten_unflatten() -> None:
    x = ts.zeros((2, 3, 4, 5))
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(1, 2)(x).shape == (2, 12, 5)
    assert nn.Flatten(0)(x).shape == (120,)
    assert nn.Unflatten(1, (3, -1))(ts.zeros((2, 12))).shape == (2, 3, 4)
    with pytest.raises(IndexError, match="start_dim 3 and end_dim 1"):
        nn.Flatten(3, 1)(x)
    with pytest.raises(ValueError, match="axis 1 has extent 12"):
        nn.Unflatten(1, (5, -1))(ts.zeros((2, 12)))


def erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


ACTIVATIONS = [
    (nn.ReLU(), F.relu, lambda x: np.maximum(x, 0)),
    (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    (nn.ELU(1.5), lambda x: F.elu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    (nn.Sigmoid(), F.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    (nn.LogSigmoid(), F.logsigmoid, lambda x: -np.log1p(np.exp(-x))),
    (nn.Tanh(), F.tanh, np.tanh),
    (nn.GELU(), F.gelu, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    (
        nn.GELU("tanh"),
        lambda x: F.gelu(x, "tanh"),
        lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    (nn.SiLU(), F.silu, lambda x: x / (1 + np.exp(-x))),
    (nn.Softplus(2.0), lambda x: F.softplus(x, 2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    (nn.Softmax(1), lambda x: F.softmax(x, 1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    (
        nn.LogSoftmax(-1),
        lambda x: F.log_softmax(x, -1),
        lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    ),
]


@pytest.mark.parametrize(
    ("layer", "function", "reference"), ACTIVATIONS, ids=lambda v: repr(v) if isinstance(v, nn.Module) else ""
)
def test_activation(layer: nn.Module, function: Any, reference: Any) -> None:
    x = random(4, 5) * 3
    close(layer(tensor(x)), reference(x), 1e-11)
    close(function(tensor(x)), reference(x), 1e-11)
    v = tensor(x, requires_grad=True)
    dy = random(4, 5, seed=1)
    layer(v).backward(tensor(dy))
    step = 1e-6
    numeric = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        numeric[i] = ((reference(up) - reference(down)) * dy).sum() / (2 * step)
    close(v.grad, numeric, 1e-7)


# --- losses --------------------------------------------------------------------------------------


def log_softmax(x: Array, axis: int = 1) -> Array:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def huber(d: Array, delta: float) -> Array:
    return np.where(np.abs(d) < delta, d * d / 2, delta * (np.abs(d) - delta / 2))


def logits_loss(x: Array, t: Array) -> Array:
    return np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))


X, T = random(4, 5) * 2, random(4, 5, seed=1)
P, Q = 1 / (1 + np.exp(-X)), np.abs(np.tanh(T))
LOSSES = [
    (nn.MSELoss, {}, X, T, lambda x, t: (x - t) ** 2),
    (nn.L1Loss, {}, X, T, lambda x, t: np.abs(x - t)),
    (nn.SmoothL1Loss, {}, X, T, lambda x, t: huber(x - t, 1.0)),
    (nn.SmoothL1Loss, {"beta": 0.5}, X, T, lambda x, t: huber(x - t, 0.5) / 0.5),
    (nn.SmoothL1Loss, {"beta": 0.0}, X, T, lambda x, t: np.abs(x - t)),
    (nn.HuberLoss, {"delta": 2.0}, X, T, lambda x, t: huber(x - t, 2.0)),
    (nn.BCELoss, {}, P, Q, lambda x, t: -(t * np.log(x) + (1 - t) * np.log1p(-x))),
    (nn.BCEWithLogitsLoss, {}, X, Q, logits_loss),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("cls", "options", "x", "t", "reference"), LOSSES)
def test_elementwise_loss(
    cls: Any, options: dict[str, Any], x: Array, t: Array, reference: Any, reduction: str
) -> None:
    loss = cls(**options, reduction=reduction)
    expected = reference(x, t)
    reduced = {"mean": expected.mean(), "sum": expected.sum(), "none": expected}[reduction]
    v, target = tensor(x, requires_grad=True), tensor(t, requires_grad=True)
    value = loss(v, target)
    close(value, reduced, 1e-11)
    ops_sum = value.sum()
    ops_sum.backward()
    scale = 1 / x.size if reduction == "mean" else 1.0
    step = 1e-6
    close(v.grad, scale * (reference(x + step, t) - reference(x - step, t)) / (2 * step), 1e-7)
    close(target.grad, scale * (reference(x, t + step) - reference(x, t - step)) / (2 * step), 1e-7)
    with pytest.raises(ValueError, match=r"target has shape \(4,\), input \(4, 5\); losses do not broadcast"):
        loss(tensor(x), tensor(t[:, 0]))


def test_shape_mismatch_tells_the_fix() -> None:
    with pytest.raises(
        ValueError,
        match=r"mse_loss: target has shape \(4,\), input \(4, 1\);.*use target\.reshape\(\(4, 1\)\)",
    ):
        F.mse_loss(ts.zeros((4, 1)), ts.zeros((4,)))
    with pytest.raises(ValueError, match=r"ts\.broadcast_arrays"):
        F.l1_loss(ts.zeros((4, 3)), ts.zeros((3,)))
    with pytest.raises(ValueError, match="must describe the same elements"):
        F.l1_loss(ts.zeros((4, 3)), ts.zeros((4, 2)))


def test_weights_of_elementwise_losses() -> None:
    x, t, w = tensor(X), tensor(T), np.abs(random(4, 5, seed=2))
    close(F.mse_loss(x, t, weight=tensor(w)), ((X - T) ** 2 * w).sum() / w.sum())
    q, pw = tensor(Q), np.array([1.0, 2.0, 0.5, 3.0, 1.0])
    close(F.binary_cross_entropy(tensor(P), q, tensor(w)), (logits_loss(X, Q) * w).mean(), 1e-11)
    expected = (1 - Q) * X + (1 + (pw - 1) * Q) * np.log1p(np.exp(-X))
    close(F.binary_cross_entropy_with_logits(x, q, pos_weight=tensor(pw)), expected.mean(), 1e-11)


def test_bce_at_the_edges() -> None:
    x = tensor([0.0, 1.0, 0.0, 1.0], ts.float64, True)
    loss = F.binary_cross_entropy(x, tensor([0.0, 1.0, 1.0, 0.0]), reduction="none")
    assert loss.detach().numpy().tolist() == [0, 0, 100, 100]
    loss.sum().backward()
    assert x.grad.numpy().tolist() == [0, 0, -1e12, 1e12]
    assert np.isnan(float(F.binary_cross_entropy(tensor([1.5]), tensor([1.0]))))
    far = F.binary_cross_entropy_with_logits(tensor([1000.0, -1000.0]), tensor([1.0, 1.0]), reduction="none")
    assert far.numpy().tolist() == [0, 1000]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("extra", [(), (3,)])
def test_cross_entropy(reduction: str, smoothing: float, weighted: bool, extra: tuple[int, ...]) -> None:
    x = random(6, 5, *extra) * 3
    target = np.random.default_rng(1).integers(0, 5, (6, *extra))
    target.flat[2] = -100
    w = np.array([1.0, 0.5, 2.0, 1.5, 0.25]) if weighted else np.ones(5)
    logp = log_softmax(x)
    kept = target != -100
    picked = np.take_along_axis(logp, np.where(kept, target, 0)[:, None], 1)[:, 0]
    wt = np.where(kept, w[np.where(kept, target, 0)], 0)
    column = (5,) + (1,) * len(extra)
    smooth = -(logp * w.reshape(column)).sum(1) * kept / 5
    losses = (1 - smoothing) * -picked * wt + smoothing * smooth
    expected = {"mean": losses.sum() / wt.sum(), "sum": losses.sum(), "none": losses}[reduction]
    loss = nn.CrossEntropyLoss(
        tensor(w) if weighted else None, reduction=reduction, label_smoothing=smoothing
    )
    v = tensor(x, requires_grad=True)
    value = loss(v, tensor(target))
    close(value, expected, 1e-11)
    value.sum().backward()
    if smoothing == 0.0:
        scale = wt / (wt.sum() if reduction == "mean" else 1.0)
        onehot = np.moveaxis(np.eye(5)[np.where(kept, target, 0)], -1, 1)
        close(v.grad, (np.exp(logp) - onehot) * scale[:, None], 1e-11)
        nll = nn.NLLLoss(tensor(w) if weighted else None, reduction=reduction)
        close(nll(tensor(logp), tensor(target)), expected, 1e-11)


def test_cross_entropy_with_probabilities() -> None:
    x, w = random(4, 5, 2), np.array([1.0, 0.5, 2.0, 1.5, 0.25])
    q = np.exp(log_softmax(random(4, 5, 2, seed=1)))
    smoothed = q * 0.9 + 0.1 / 5
    expected = -(smoothed * w[:, None] * log_softmax(x)).sum(1)
    close(
        F.cross_entropy(tensor(x), tensor(q), tensor(w), label_smoothing=0.1, reduction="none"),
        expected,
        1e-11,
    )
    close(F.cross_entropy(tensor(x), tensor(q)), -(q * log_softmax(x)).sum(1).mean(), 1e-11)
    with pytest.raises(ValueError, match="probabilities need the input's shape"):
        F.cross_entropy(tensor(x), tensor(q[0]))


def test_cross_entropy_errors() -> None:
    x = ts.zeros((2, 3))
    with pytest.raises(IndexError, match="3"):
        F.cross_entropy(x, tensor([0, 3]))
    with pytest.raises(IndexError, match="3"):
        F.nll_loss(x, tensor([0, 3]))
    with pytest.raises(ValueError, match="cross_entropy"):
        F.cross_entropy(x, tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none', got 'avg'"):
        F.mse_loss(x, x, reduction="avg")
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 2"):
        nn.CrossEntropyLoss(label_smoothing=2)


def test_one_hot() -> None:
    assert F.one_hot(tensor([0, 2])).numpy().tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(tensor([[1]]), 3).numpy().tolist() == [[[0, 1, 0]]]


# --- bad layer arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(-1, 2), "Linear: in_features must be >= 0, got -1"),
        (lambda: nn.Conv2d(0, 1, 3), "Conv2d: in_channels must be >= 1, got 0"),
        (lambda: nn.Conv2d(1, 1, 3, stride=0), "Conv2d: stride must be >= 1, got 0"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), "Conv2d: kernel_size must be an integer or a pair"),
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            "Conv2d: in_channels must be divisible by groups, got 3 and 2",
        ),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding must be >= 0, got -1"),
        (
            lambda: nn.Conv2d(1, 1, 3, padding="full"),
            "Conv2d: padding must be one of 'valid', 'same', got 'full'",
        ),
        (lambda: nn.Conv2d(1, 1, 3, 2, "same"), r"Conv2d: padding='same' needs stride 1, got \(2, 2\)"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="reflect"), "padding_mode='reflect' is not supported"),
        (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size must be >= 1, got 0"),
        (lambda: nn.AvgPool2d(2, 0), "AvgPool2d: stride must be >= 1, got 0"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), "AvgPool2d: divisor_override"),
        (lambda: nn.BatchNorm2d(0), "BatchNorm2d: num_features must be >= 1, got 0"),
        (lambda: nn.BatchNorm1d(2, eps=-1), "BatchNorm1d: eps must be >= 0, got -1"),
        (lambda: nn.BatchNorm1d(2, momentum=1.5), r"BatchNorm1d: momentum must be in \[0, 1\], got 1.5"),
        (lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape must name at least one axis"),
        (lambda: nn.LayerNorm((3, 0)), "LayerNorm: normalized_shape must be >= 1, got 0"),
        (lambda: nn.Dropout(1.5), r"Dropout: p must be in \[0, 1\], got 1.5"),
        (lambda: nn.Dropout(math.nan), "Dropout: p"),
        (lambda: nn.Embedding(0, 3), "Embedding: num_embeddings must be >= 1, got 0"),
        (lambda: nn.Embedding(3, 3, padding_idx=3), r"padding_idx must be in \[-3, 3\), got 3"),
        (lambda: nn.Embedding(3, 3, max_norm=0.0), "Embedding: max_norm must be > 0, got 0.0"),
        (lambda: nn.GELU("erf"), "GELU: approximate must be one of 'none', 'tanh', got 'erf'"),
        (lambda: nn.Softplus(0), "Softplus: beta must be > 0, got 0"),
        (lambda: nn.HuberLoss(delta=0), "HuberLoss: delta must be > 0, got 0"),
        (lambda: nn.MSELoss(reduction="avg"), "MSELoss: reduction must be one of"),
        (lambda: nn.Unflatten(1, (-1, -1)), "Unflatten: unflattened_size may hold one -1"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_not_an_integer() -> None:
    with pytest.raises(TypeError, match=r"Linear: in_features must be an integer, got float 2\.5"):
        nn.Linear(2.5, 2)  # type: ignore[arg-type]


# --- initialisation ------------------------------------------------------------------------------


def test_default_initialisation_is_pytorchs() -> None:
    ts.manual_seed(0)
    layer = nn.Linear(100, 400)
    bound = 1 / math.sqrt(100)
    for values in (layer.weight.detach().numpy(), layer.bias.detach().numpy()):
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.95 * bound
    assert abs(layer.weight.detach().numpy().std() - bound / math.sqrt(3)) < 0.001
    conv = nn.Conv2d(8, 16, 5, groups=2)
    assert 0.95 / math.sqrt(100) < np.abs(conv.weight.detach().numpy()).max() <= 1 / math.sqrt(100)
    assert abs(nn.Embedding(100, 100).weight.detach().numpy().std() - 1) < 0.02
    ts.manual_seed(0)
    assert nn.Linear(100, 400).weight.detach().numpy().tobytes() == layer.weight.detach().numpy().tobytes()


@pytest.mark.parametrize(
    ("fill", "std", "bound"),
    [
        (lambda w: nn.init.xavier_uniform_(w), math.sqrt(2 / 700), math.sqrt(6 / 700)),
        (lambda w: nn.init.xavier_normal_(w, gain=2.0), 2 * math.sqrt(2 / 700), None),
        (lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), math.sqrt(2 / 300), math.sqrt(6 / 300)),
        (lambda w: nn.init.kaiming_normal_(w, a=1.0, mode="fan_out"), math.sqrt(1 / 400), None),
        (lambda w: nn.init.normal_(w, 0.0, 0.3), 0.3, None),
        (lambda w: nn.init.uniform_(w, -2.0, 2.0), 2 / math.sqrt(3), 2.0),
        (lambda w: nn.init.trunc_normal_(w), 0.87963, 2.0),
        (lambda w: nn.init.trunc_normal_(w, std=1.0, a=-0.1, b=0.1), 0.0577, 0.1),
    ],
)
def test_init(fill: Any, std: float, bound: float | None) -> None:
    ts.manual_seed(1)
    w = nn.Parameter(ts.empty((400, 300)))
    assert fill(w) is w
    values = w.detach().numpy()
    assert abs(values.mean()) < 0.02 * std
    assert abs(values.std() / std - 1) < 0.02
    if bound is not None:
        assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
    assert w.requires_grad
    assert w.is_leaf


def test_truncated_tail() -> None:
    w = nn.init.trunc_normal_(ts.empty((200, 200)), a=4.0, b=6.0)
    values = w.numpy()
    assert values.min() >= 4
    assert values.max() <= 6
    assert abs(values.mean() - 4.2257) < 0.01  # the mean of a normal beyond 4


def test_constants_gains_and_errors() -> None:
    w = ts.empty((2, 3))
    assert nn.init.constant_(w, 2.5).numpy().tolist() == [[2.5] * 3] * 2
    assert nn.init.ones_(w).numpy().all()
    assert not nn.init.zeros_(w).numpy().any()
    assert nn.init.eye_(w).numpy().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert nn.init.calculate_gain("tanh") == 5 / 3
    assert nn.init.calculate_gain("leaky_relu", 1.0) == 1.0
    with pytest.raises(ValueError, match="nonlinearity must be one of"):
        nn.init.calculate_gain("softmax")
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        nn.init.xavier_uniform_(ts.empty((3,)))
    with pytest.raises(ValueError, match="mode must be one of 'fan_in', 'fan_out', got 'fan'"):
        nn.init.kaiming_normal_(w, mode="fan")
    with pytest.raises(ValueError, match="a must be < b"):
        nn.init.trunc_normal_(w, a=1.0, b=1.0)


# --- utilities -----------------------------------------------------------------------------------


def with_gradients(dtype: Any = None) -> tuple[list[nn.Parameter], Array]:
    params = [nn.Parameter(ts.zeros(shape, dtype=dtype)) for shape in ((3, 4), (5,), ())]
    params.append(nn.Parameter(ts.zeros((2,))))  # without a gradient
    grads = [random(*p.shape, seed=i) for i, p in enumerate(params[:3])]
    for p, g in zip(params, grads, strict=False):
        p.grad = tensor(g, p.dtype)
    return params, np.concatenate([np.ravel(g) for g in grads])


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, math.inf])
def test_clip_grad_norm(order: float) -> None:
    params, flat = with_gradients(ts.float64)
    norm = np.abs(flat).max() if order == math.inf else (np.abs(flat) ** order).sum() ** (1 / order)
    total = nn.utils.clip_grad_norm_(iter(params), 0.5, order)
    close(total, norm, 1e-12)
    clipped = np.concatenate([np.ravel(p.grad.numpy()) for p in params[:3]])
    np.testing.assert_allclose(clipped, flat * 0.5 / (norm + 1e-6), rtol=1e-12)
    nn.utils.clip_grad_norm_(params, 1e9, order)
    np.testing.assert_array_equal(clipped, np.concatenate([np.ravel(p.grad.numpy()) for p in params[:3]]))
    assert params[3].grad is None


def test_clip_others() -> None:
    params, flat = with_gradients()
    nn.utils.clip_grad_value_(params, 0.3)
    clipped = np.concatenate([np.ravel(p.grad.numpy()) for p in params[:3]])
    np.testing.assert_allclose(clipped, np.clip(flat, -0.3, 0.3), rtol=1e-6)
    params[0].grad = tensor(np.full((3, 4), np.nan), ts.float32)
    with pytest.raises(ValueError, match="it must be finite"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert float(nn.utils.clip_grad_norm_([], 1.0)) == 0
    with pytest.raises(ValueError, match="max_norm must be >= 0"):
        nn.utils.clip_grad_norm_(params, -1.0)


def test_vector() -> None:
    layer = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (8,)
    nn.utils.vector_to_parameters(vector * 2, layer.parameters())
    close(nn.utils.parameters_to_vector(layer.parameters()), 2 * vector.detach().numpy(), 1e-6)
    with pytest.raises(ValueError, match=r"with 8 elements, got shape \(7,\)"):
        nn.utils.vector_to_parameters(ts.zeros((7,)), layer.parameters())
