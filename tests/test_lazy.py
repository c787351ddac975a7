"""Lazy layers: PyTorch's signatures and shapes, the layer that they become, state, optimizers and errors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim

# The layer, its arguments, the shape of an input, what it becomes and with which arguments.
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...], tuple[Any, ...]]] = [
    ("Linear", (3,), {}, (4, 7), (7, 3)),
    ("Linear", (3,), {"bias": False}, (7,), (7, 3)),
    ("Conv1d", (6, 3), {"groups": 2}, (2, 4, 9), (4, 6, 3)),
    ("Conv2d", (6, 3), {"padding": 1, "bias": False}, (4, 9, 9), (4, 6, 3)),
    ("Conv3d", (2, 3), {"stride": 2}, (2, 3, 7, 7, 7), (3, 2, 3)),
    ("ConvTranspose1d", (6, 3), {"groups": 2}, (2, 4, 9), (4, 6, 3)),
    ("ConvTranspose2d", (6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 5, 5), (4, 6, 3)),
    ("ConvTranspose3d", (2, 2), {}, (2, 3, 4, 4, 4), (3, 2, 2)),
    ("BatchNorm1d", (), {}, (5, 3), (3,)),
    ("BatchNorm2d", (1e-3, 0.2), {"affine": False}, (5, 3, 4, 4), (3, 1e-3, 0.2)),
    ("BatchNorm3d", (), {"track_running_stats": False}, (5, 3, 2, 2, 2), (3,)),
    ("InstanceNorm1d", (1e-5, 0.1, True, False), {}, (3, 8), (3, 1e-5, 0.1, True, False)),
    ("InstanceNorm2d", (), {"affine": True, "track_running_stats": True}, (5, 3, 4, 4), (3,)),
    ("InstanceNorm3d", (1e-5, 0.1, False, False), {}, (5, 3, 2, 2, 2), (3,)),
]


def random(*shape: int, seed: int = 0) -> ts.Tensor:
    return ts.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(("name", "args", "options", "shape", "full"), LAYERS)
def test_the_first_input_decides(
    name: str, args: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...], full: tuple[Any, ...]
) -> None:
    """The layer, its draws, its text and its results are those of the layer made with the size."""
    lazy = getattr(nn, f"Lazy{name}")(*args, **options)
    before = dict(lazy.named_parameters())
    assert type(lazy).__name__ == f"Lazy{name}" and repr(lazy).startswith(f"Lazy{name}(")
    x = random(*shape)
    ts.manual_seed(3)
    y = lazy(x)
    ts.manual_seed(3)
    known = getattr(nn, name)(*full, **options)
    np.testing.assert_array_equal(y.detach().numpy(), known(x).detach().numpy())
    assert type(lazy) is type(known) and repr(lazy) == repr(known)
    assert list(lazy.state_dict()) == list(known.state_dict())
    after = dict(lazy.named_parameters())
    assert all(after[key] is value and value.requires_grad for key, value in before.items())
    if after:
        y.sum().backward()
    assert all(p.grad.shape == p.shape for p in after.values())


@pytest.mark.parametrize(("name", "args", "options", "shape", "full"), LAYERS)
def test_state_decides_as_well(
    name: str, args: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...], full: tuple[Any, ...]
) -> None:
    known, lazy = getattr(nn, name)(*full, **options), getattr(nn, f"Lazy{name}")(*args, **options)
    x = random(*shape)
    known(x)
    lazy.load_state_dict(known.state_dict())
    if known.state_dict():
        assert type(lazy) is type(known)
    for layer in (known, lazy):
        layer.eval()
    np.testing.assert_array_equal(lazy(x).detach().numpy(), known(x).detach().numpy())


@pytest.mark.parametrize("name", [n for n in nn.__all__ if n.startswith("Lazy")])
def test_pytorchs_arguments(name: str) -> None:
    import inspect

    torch = pytest.importorskip("torch")

    def arguments(layer: Any) -> list[tuple[str, Any]]:
        return [(p.name, p.default) for p in inspect.signature(layer).parameters.values()]

    assert arguments(getattr(nn, name)) == arguments(getattr(torch.nn, name))


def test_a_network_and_its_optimizer() -> None:
    """An optimizer made before the first input trains the parameters that come with it."""
    ts.manual_seed(0)
    model = nn.Sequential(
        nn.LazyConv2d(4, 3),
        nn.LazyBatchNorm2d(),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(8),
        nn.ReLU(),
        nn.LazyLinear(1),
    )
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    x, losses = random(6, 2, 5, 5), []
    for _ in range(30):
        loss = ts.mean(ts.square(model(x) - 1.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]
    assert [type(m).__name__ for m in model][:2] == ["Conv2d", "BatchNorm2d"]
    twin = copy.deepcopy(model)
    model.eval(), twin.eval()
    np.testing.assert_array_equal(model(x).detach().numpy(), twin(x).detach().numpy())


def test_nothing_is_learnt_from_what_does_not_fit() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(4, 3, groups=2), nn.LazyLinear(3))
    bad: list[tuple[Any, Any, str]] = [
        (lambda: lazy(random(1, 3, 5, 5)), ValueError, "LazyConv2d: in_channels must be divisible by groups, got 3"),
        (lambda: lazy(random(3, 5)), ValueError, "LazyConv2d: input must have 3 or 4 dimensions"),
        (lambda: lazy(ts.zeros((1, 0, 5, 5))), ValueError, "LazyConv2d: in_channels must be >= 1, got an input of"),
        (lambda: nn.LazyLinear(3)(ts.asarray(1.0)), ValueError, "LazyLinear: input must have at least 1 dimension"),
        (lambda: nn.LazyBatchNorm2d()(random(3, 4)), ValueError, "LazyBatchNorm2d: input must be 4-dimensional"),
        (lambda: ts.jit(nn.LazyLinear(3))(random(2, 3)), RuntimeError, "LazyLinear: run the module once before ts.jit"),
    ]  # fmt: skip
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()
    state = {
        "0.weight": np.zeros((4, 1, 3, 3)),
        "0.bias": np.zeros(4),
        "1.weight": np.zeros((3, 5)),
        "1.bias": np.zeros(2),
    }
    with pytest.raises(RuntimeError, match=r"1.bias: shape \(2,\) in the state_dict, \(3,\) in the module"):
        lazy.load_state_dict(state)
    assert [type(m) for m in lazy] == [nn.LazyConv2d, nn.LazyLinear]
    assert lazy[0].weight.shape == (4, 0, 3, 3) and lazy[1].weight.shape == (3, 0)
    lazy.load_state_dict(nn.Sequential(nn.LazyConv2d(4, 3, groups=2), nn.LazyLinear(3)).state_dict())
    assert [type(m) for m in lazy] == [nn.LazyConv2d, nn.LazyLinear]


@pytest.mark.parametrize(("name", "args", "options", "shape", "full"), LAYERS)
def test_a_first_call_that_fails_changes_nothing(
    name: str, args: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...], full: tuple[Any, ...]
) -> None:
    lazy = getattr(nn, f"Lazy{name}")(*args, **options)
    text, keys, state = repr(lazy), list(lazy.state_dict()), ts.random.get_state()
    for bad in (ts.zeros(shape, dtype="int32"), random(*shape).tolist()):
        with pytest.raises(TypeError):
            lazy(bad)
        assert repr(lazy) == text and list(lazy.state_dict()) == keys and ts.random.get_state() == state
    ts.manual_seed(3)
    y = lazy(random(*shape))
    ts.manual_seed(3)
    known = getattr(nn, name)(*full, **options)
    np.testing.assert_array_equal(y.detach().numpy(), known(random(*shape)).detach().numpy())
