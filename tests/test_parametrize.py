"""`nn.utils.parametrize` and `parametrizations`: weights that are computed, as PyTorch has them."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.nn.utils import parametrizations, parametrize
from test_checkpoint import tensor


class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        return ts.triu(x) + ts.triu(x, 1).T

    def right_inverse(self, x: Any) -> Any:
        return ts.triu(x)


class Scaled(nn.Module):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return x * self.factor

    def right_inverse(self, x: Any) -> Any:
        return x / self.factor


class Sum(nn.Module):
    def forward(self, a: Any, b: Any) -> Any:
        return a + b

    def right_inverse(self, x: Any) -> Any:
        return x / 2, x / 2


class Returns(nn.Module):
    """A parametrization that goes wrong."""

    def __init__(self, forward: Any = None, inverse: Any = None) -> None:
        super().__init__()
        self.there = forward or (lambda x: x * 1)
        if inverse is not None:
            self.right_inverse = inverse

    def forward(self, *x: Any) -> Any:
        return self.there(*x)


def square() -> Any:
    ts.manual_seed(3)
    return nn.Linear(3, 3)


def contents(module: Any) -> Any:
    return (
        type(module),
        [(name, id(p), p.tolist()) for name, p in module.named_parameters()],
        [(name, id(b), b.tolist()) for name, b in module.named_buffers()],
        sorted(module.__dict__),
        [name for name, _ in module.named_modules()],
    )


# --- registration ---------------------------------------------------------------------------------


def test_a_parameter_is_computed() -> None:
    layer, x = square(), tensor(4, 3)
    weight, value = layer.weight, layer.weight.detach().numpy().copy()
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    symmetric = np.triu(value) + np.triu(value, 1).T
    np.testing.assert_array_equal(layer.weight.detach().numpy(), symmetric)
    assert layer.parametrizations.weight.original is weight  # an optimizer knows it
    assert isinstance(layer, nn.Linear) and type(layer).__name__ == "ParametrizedLinear"
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert parametrize.is_parametrized(layer) and parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias") and not parametrize.is_parametrized(square())
    (layer(x) ** 2).sum().backward()
    assert weight.grad is not None and (np.tril(weight.grad.numpy(), -1) == 0).all()


def test_one_after_another() -> None:
    layer = square()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    before = layer.weight.detach().numpy()
    parametrize.register_parametrization(layer, "weight", Scaled(3.0))
    np.testing.assert_allclose(layer.weight.detach().numpy(), 3 * before, rtol=1e-6)
    parametrize.register_parametrization(layer, "bias", Scaled(0.5))
    assert len(layer.parametrizations.weight) == 2 and list(layer.parametrizations) == ["weight", "bias"]
    layer.weight = ts.eye(3) * 6  # through every right_inverse
    np.testing.assert_allclose(layer.parametrizations.weight.original.tolist(), (2 * ts.eye(3)).tolist())
    np.testing.assert_allclose(layer.weight.tolist(), (6 * ts.eye(3)).tolist())
    parametrize.remove_parametrizations(layer, "weight")
    assert not parametrize.is_parametrized(layer, "weight") and parametrize.is_parametrized(layer, "bias")
    parametrize.remove_parametrizations(layer, "bias")
    assert type(layer) is nn.Linear and "parametrizations" not in layer._modules
    assert sorted(layer.state_dict()) == ["bias", "weight"]


def test_several_originals() -> None:
    layer = square()
    value = layer.weight.detach().numpy().copy()
    parametrize.register_parametrization(layer, "weight", Sum())
    made = layer.parametrizations.weight
    assert made.ntensors == 2 and not made.is_tensor
    assert isinstance(made.original0, nn.Parameter) and made.original0._address != made.original1._address
    np.testing.assert_array_equal(layer.weight.detach().numpy(), value)
    layer.weight = ts.ones((3, 3))
    assert made.original1.tolist() == (0.5 * ts.ones((3, 3))).tolist()
    with pytest.raises(
        ValueError, match=r"'weight' is made of 2 tensors, so leave_parametrized must be True"
    ):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert parametrize.is_parametrized(layer, "weight")
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer.weight) is nn.Parameter and layer.weight.tolist() == ts.ones((3, 3)).tolist()


def test_frozen_parameters_stay_parameters() -> None:
    layer = square()
    layer.weight.requires_grad_(False)
    parametrize.register_parametrization(layer, "weight", Sum())
    assert (
        isinstance(layer.parametrizations.weight.original0, nn.Parameter) and not layer.weight.requires_grad
    )
    parametrize.remove_parametrizations(layer, "weight")
    assert isinstance(layer.weight, nn.Parameter) and not layer.weight.requires_grad


def test_buffers() -> None:
    norm = nn.BatchNorm1d(3)
    norm.register_buffer("scale", ts.ones(3), persistent=False)
    parametrize.register_parametrization(norm, "running_mean", Scaled())
    parametrize.register_parametrization(norm, "scale", Scaled())
    assert "parametrizations.running_mean.original" in norm.state_dict()
    assert "parametrizations.scale.original" not in norm.state_dict()
    parametrize.remove_parametrizations(norm, "scale")
    parametrize.remove_parametrizations(norm, "running_mean")
    assert (
        "scale" in norm._buffers and "scale" not in norm.state_dict() and "running_mean" in norm.state_dict()
    )


def test_removal_keeps_the_value_or_the_original() -> None:
    for leave in (True, False):
        layer = square()
        weight = layer.weight
        parametrize.register_parametrization(layer, "weight", Returns(lambda x: x * 2))
        original, computed = weight.tolist(), layer.weight.tolist()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=leave)
        assert layer.weight is weight and weight.tolist() == (computed if leave else original)
        assert weight.is_leaf and weight.requires_grad


FAILURES = [
    (dict(forward=lambda x: 3), ValueError, "the parametrization must return a tensor, got int"),
    (dict(forward=lambda x: x[:2]), ValueError, r"float32\(2, 3\), where the tensor is float32\(3, 3\); pass unsafe"),
    (dict(forward=lambda x: x.astype("float64")), ValueError, r"returned float64\(3, 3\), where the tensor is float32"),
    (dict(inverse=lambda x: x[:2]), ValueError, r"right_inverse returned float32\(2, 3\), where the original is"),
    (dict(inverse=lambda x: 3), ValueError, "right_inverse must return a tensor or several, got int"),
    (dict(inverse=lambda x: ()), ValueError, "right_inverse must return a tensor or several, got tuple"),
    (dict(forward=lambda x: x @ ts.ones(7)), ValueError, "matmul"),
]  # fmt: skip


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize(("parts", "error", "message"), FAILURES)
def test_a_failed_registration_changes_nothing(parts: Any, error: Any, message: str, more: bool) -> None:
    layer = square()
    if more:
        parametrize.register_parametrization(layer, "weight", Scaled())
        message = message if "forward" in parts else "right_inverse"
    before = contents(layer)
    with pytest.raises(error, match=message):
        parametrize.register_parametrization(layer, "weight", Returns(**parts))
    assert contents(layer) == before


def test_unsafe_may_change_the_shape() -> None:
    layer = square()
    parametrize.register_parametrization(layer, "weight", Returns(lambda x: x[:2]), unsafe=True)
    assert layer.weight.shape == (2, 3) and layer.parametrizations.weight.original.shape == (3, 3)
    parametrize.remove_parametrizations(layer, "weight")
    assert layer.weight.shape == (2, 3)


def test_what_is_refused() -> None:
    layer = square()
    register, remove = parametrize.register_parametrization, parametrize.remove_parametrizations
    parametrize.register_parametrization(layer, "bias", Returns())
    own = square()
    own.parametrizations = nn.Identity()
    odd = nn.Module()
    odd.keys = nn.Parameter(tensor(2))
    for call, error, message in (
        (lambda: register(3, "weight", Symmetric()), TypeError, "module must be a Module, got int"),
        (lambda: register(layer, "weight", 3), TypeError, "parametrization must be a Module, got int"),
        (lambda: register(layer, 3, Symmetric()), TypeError, "tensor_name must be a string, got int"),
        (lambda: register(layer, "wight", Symmetric()), ValueError, "has no parameter or buffer 'wight'"),
        (lambda: register(nn.Linear(2, 2, bias=False), "bias", Scaled()), ValueError, "no parameter or buffer 'bias'"),
        (lambda: register(own, "weight", Symmetric()), ValueError, "an attribute 'parametrizations' of its own"),
        (lambda: register(odd, "keys", Scaled()), ValueError, "'keys' cannot be parametrized"),
        (lambda: register(nn.LazyLinear(2), "weight", Scaled()), RuntimeError, "has not got its shapes yet"),
        (lambda: remove(layer, "weight"), ValueError, "has no parametrization of 'weight'"),
        (lambda: setattr(layer, "bias", 3), TypeError, "cannot assign a int as the parametrized 'bias' of"),
        (lambda: setattr(layer, "bias", ts.zeros(3)), RuntimeError, "Returns has no right_inverse"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    with pytest.raises(
        ValueError, match=r"right_inverse returned float32\(2,\) for an original float32\(3,\)"
    ):
        twice = square()
        register(twice, "bias", Scaled())
        twice.bias = ts.zeros(2)
    assert twice.bias.shape == (3,)


# --- what else modules do -------------------------------------------------------------------------


def test_cached() -> None:
    layer, counts = square(), []
    parametrize.register_parametrization(
        layer, "weight", Returns(lambda x: counts.append(1) or x * 2, lambda x: x / 2)
    )
    counts.clear()
    x = tensor(4, 3)
    with parametrize.cached():
        with parametrize.cached():
            assert layer.weight is layer.weight
        layer(x).sum().backward()
        assert len(counts) == 1 and layer.parametrizations.weight.original.grad is not None
        with ts.no_grad():
            assert not layer.weight.requires_grad
        layer.weight = ts.ones((3, 3))
        assert layer.weight.tolist() == ts.ones((3, 3)).tolist()
    counts.clear()
    assert layer.weight is not layer.weight and len(counts) == 2


@pytest.mark.parametrize("make", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_copies(make: Any) -> None:
    layer = make(square()).eval()
    x = tensor(4, 3)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other) is type(layer) and other(x).tolist() == layer(x).tolist()
        with ts.no_grad():
            next(iter(other.parametrizations.parameters())).mul_(-3)
        assert other(x).tolist() != layer(x).tolist()
        parametrize.remove_parametrizations(other, "weight")
        assert type(other) is nn.Linear and type(layer) is not nn.Linear


def test_dtypes_follow() -> None:
    layer = parametrizations.spectral_norm(square()).to(ts.float64)
    assert layer.weight.dtype == "float64" and layer.parametrizations.weight[0]._u.dtype == "float64"
    assert layer(tensor(4, 3).astype("float64")).dtype == "float64"
    for dtype in ("bfloat16", "float16"):
        for make in (parametrizations.weight_norm, parametrizations.spectral_norm):
            low = make(nn.Linear(3, 3).to(getattr(ts, dtype)))
            assert low.weight.dtype == dtype and low(tensor(4, 3).astype(dtype)).dtype == dtype


def test_inside_other_layers() -> None:
    """Recurrent layers and `Sequential`, which joins a `Linear` with its `ReLU`, read the computed weight."""
    lstm, x = nn.LSTM(3, 4), tensor(5, 2, 3)
    before = lstm(x)[0].tolist()
    parametrizations.weight_norm(lstm, "weight_hh_l0")
    np.testing.assert_allclose(lstm(x)[0].tolist(), before, rtol=1e-5, atol=1e-6)
    assert "parametrizations.weight_hh_l0.original0" in lstm.state_dict()
    net = nn.Sequential(square(), nn.ReLU())
    parametrize.register_parametrization(net[0], "weight", Returns(lambda x: x * 0))
    assert (net(x) == net[0].bias.relu()).all()


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_training_under_jit(norm: str) -> None:
    def train(jit: bool) -> list[Any]:
        ts.manual_seed(2)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        for layer in (net[0], net[2]):
            getattr(parametrizations, norm)(layer)
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        call = ts.jit(step) if jit else step
        result = [call(tensor(6, 4, seed=i)).detach().numpy().tobytes() for i in range(5)]
        net.eval()  # a recording follows
        result.append(call(tensor(6, 4)).detach().numpy().tobytes())
        if jit:
            assert call.cache_info().hits >= 3, call.why()
        return [*result, *(v.numpy().tobytes() for v in net.state_dict().values())]

    assert train(True) == train(False)


def test_caches_are_refused_under_jit() -> None:
    layer = parametrizations.weight_norm(square())

    @ts.jit
    def call(x: Any) -> Any:
        with parametrize.cached():
            return layer(x).detach()

    with pytest.raises(
        RuntimeError, match=r"'weight' of ParametrizedLinear is read under parametrize.cached\(\)"
    ):
        call(tensor(4, 3))


# --- the norms ------------------------------------------------------------------------------------


LAYERS = {
    "Linear": ((5, 4), (6, 5)),
    "Conv1d": ((3, 4, 3), (2, 3, 7)),
    "Conv2d": ((3, 4, 3), (2, 3, 6, 5)),
    "ConvTranspose2d": ((3, 4, 3), (2, 3, 4, 4)),
    "Embedding": ((6, 4), None),
}


def both(name: str, norm: str, **options: Any) -> tuple[Any, Any, Any, Any]:
    torch = pytest.importorskip("torch")
    size, shape = LAYERS[name]
    theirs = getattr(torch.nn, name)(*size).double()
    theirs = getattr(torch.nn.utils.parametrizations, norm)(theirs, **options)
    ours = getattr(nn, name)(*size).double()
    ours = getattr(parametrizations, norm)(ours, **options)
    given = np.array([[0, 3], [5, 1]]) if shape is None else np.random.default_rng(1).standard_normal(shape)
    return ours, theirs, ts.asarray(given), torch.from_numpy(given)


def compare(ours: Any, theirs: Any, x: Any, y: Any, steps: int = 3) -> None:
    for _ in range(steps):
        for module in (ours, theirs):
            module.zero_grad()
        mine, other = ours(x), theirs(y)
        np.testing.assert_allclose(mine.detach().numpy(), other.detach().numpy(), rtol=1e-9, atol=1e-12)
        (mine**3).sum().backward(), (other**3).sum().backward()
        for (name, p), (key, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert name == key
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=name)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dim", [0, 1, None, -1])
@pytest.mark.parametrize("name", LAYERS)
def test_weight_norm_is_pytorchs(name: str, dim: Any) -> None:
    ours, theirs, x, y = both(name, "weight_norm", dim=dim)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in state.items()
    }
    assert str(ours) == str(theirs)
    ours.load_state_dict(state)
    compare(ours, theirs, x, y)


@pytest.mark.parametrize("options", [{}, {"dim": 1, "n_power_iterations": 3}, {"eps": 0.1}])
@pytest.mark.parametrize("name", LAYERS)
def test_spectral_norm_is_pytorchs(name: str, options: Any) -> None:
    ours, theirs, x, y = both(name, "spectral_norm", **options)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state) and str(ours) == str(theirs)
    ours.load_state_dict(state)
    compare(ours, theirs, x, y)
    ours.eval(), theirs.eval()
    compare(ours, theirs, x, y)


def test_spectral_norm_of_a_vector() -> None:
    layer = nn.LayerNorm(4)
    with ts.no_grad():
        layer.weight.copy_(ts.asarray([3.0, 0.0, 4.0, 0.0]))
    parametrizations.spectral_norm(layer)
    np.testing.assert_allclose(layer.weight.tolist(), [0.6, 0, 0.8, 0], rtol=1e-6)
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]


def test_the_largest_singular_value_becomes_one() -> None:
    ts.manual_seed(0)
    layer = parametrizations.spectral_norm(nn.Linear(6, 5))
    for _ in range(60):
        layer.weight  # noqa: B018
    assert abs(np.linalg.norm(layer.weight.detach().numpy(), 2) - 1) < 1e-5
    kept = layer.parametrizations.weight[0]._u.tolist()
    layer.eval()
    layer.weight  # noqa: B018
    assert layer.parametrizations.weight[0]._u.tolist() == kept


def test_backward_after_another_forward() -> None:
    layer, x = parametrizations.spectral_norm(square()), tensor(4, 3)
    first, second = layer(x).sum(), layer(2 * x).sum()
    (first - second).backward()
    assert layer.parametrizations.weight.original.grad is not None


def test_spectral_norm_stays_exact_under_autocast() -> None:
    layer = parametrizations.spectral_norm(square()).eval()
    expected = layer.weight.tolist()
    with ts.autocast():
        assert layer.weight.tolist() == expected


def test_weight_norm_changes_nothing_and_loads_older_names() -> None:
    layer, x = nn.Conv2d(3, 4, 3), tensor(2, 3, 5, 5)
    before = layer(x).detach().numpy()
    parametrizations.weight_norm(layer)
    np.testing.assert_allclose(layer(x).detach().numpy(), before, rtol=1e-4, atol=1e-6)
    old = {"bias": ts.zeros(4), "weight_g": ts.ones((4, 1, 1, 1)), "weight_v": ts.ones((4, 3, 3, 3))}
    nn.Sequential(layer).load_state_dict({f"0.{name}": value for name, value in old.items()})
    np.testing.assert_allclose(layer.weight.detach().numpy(), np.full((4, 3, 3, 3), 27**-0.5), rtol=1e-6)
    parametrize.remove_parametrizations(layer, "weight")
    assert list(layer.state_dict()) == ["bias", "weight"]


def test_errors_of_norms() -> None:
    weight_norm, spectral_norm, layer = parametrizations.weight_norm, parametrizations.spectral_norm, square()
    before = contents(layer)
    for call, error, message in (
        (lambda: weight_norm(3), TypeError, "weight_norm: module must be a Module, got int"),
        (lambda: weight_norm(layer, "w"), ValueError, "weight_norm: Linear has no parameter or buffer 'w'"),
        (lambda: weight_norm(layer, dim=2), IndexError, r"weight_norm: dim must be in \[-2, 1\], got 2"),
        (lambda: weight_norm(layer, dim=0.5), TypeError, "weight_norm: dim must be an integer or None, got float"),
        (lambda: spectral_norm(layer, dim=-3), IndexError, r"spectral_norm: dim must be in \[-2, 1\], got -3"),
        (lambda: spectral_norm(layer, n_power_iterations=0), ValueError, "n_power_iterations must be >= 1, got 0"),
        (lambda: spectral_norm(layer, eps=-1), ValueError, "spectral_norm: eps must be"),
        (lambda: spectral_norm(layer, "none"), ValueError, "has no parameter or buffer 'none'"),
        (lambda: spectral_norm(nn.BatchNorm1d(2), "num_batches_tracked"), TypeError, "floating-point, got int64"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    assert contents(layer) == before


def test_names_and_arguments_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.utils
    for place, names in (
        ("parametrizations", ["weight_norm", "spectral_norm"]),
        (
            "parametrize",
            ["cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
             "type_before_parametrizations", "ParametrizationList"],
        ),
    ):  # fmt: skip
        for name in names:
            ours, other = (getattr(getattr(u, place), name) for u in (nn.utils, theirs))
            mine, expected = inspect.signature(ours).parameters, inspect.signature(other).parameters
            assert list(mine) == list(expected), name
            assert [p.default for p in mine.values()] == [p.default for p in expected.values()], name
