"""Layers, losses, functions, initialisers and data classes under PyTorch's names take PyTorch's arguments, with its
defaults, and have its attributes, state and text."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F
from tensorsmith.nn.utils import rnn as sequences
from tensorsmith.optim import lr_scheduler, swa_utils
from tensorsmith.utils import data

torch = pytest.importorskip("torch")

Arguments = dict[str, Any]
# What PyTorch's own signature hides (*args), or has for the sake of old code.
HIDDEN = {"args", "kwargs", "self"}
# Ours lacks or adds, and why.
LACKS: dict[str, set[str]] = {
    "nn.Hardtanh": {"min_value", "max_value"},  # names before 0.4
    "F.normalize": {"out"},
}
ADDS: dict[str, set[str]] = {
    "F.adaptive_avg_pool2d": {"return_indices"},  # made with the maxima's
    "F.adaptive_avg_pool3d": {"return_indices"},
    "data.DataLoader": {"seed"},
    "data.RandomSampler": {"seed"},
    "data.SubsetRandomSampler": {"seed"},
    "data.WeightedRandomSampler": {"seed"},
    "data.random_split": {"seed"},
}


def arguments(function: Any) -> Arguments:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in HIDDEN}


def shared(ours: Any, theirs: Any, keep: Any) -> list[str]:
    return [
        name
        for name in dir(theirs)
        if not name.startswith("_")
        and hasattr(ours, name)
        and keep(getattr(theirs, name), getattr(ours, name))
    ]


def both_modules(a: Any, b: Any) -> bool:
    return (
        all(inspect.isclass(c) for c in (a, b))
        and issubclass(a, torch.nn.Module)
        and a is not torch.nn.Module
    )


def both_functions(a: Any, b: Any) -> bool:
    return callable(b) and not inspect.isclass(a) and callable(a) and bool(arguments_or_none(a))


def schedules(a: Any, b: Any) -> bool:
    return all(inspect.isclass(c) and "lr_scheduler" in c.__module__ for c in (a, b))


def averages(a: Any, b: Any) -> bool:
    return all(getattr(c, "__module__", "").endswith("swa_utils") for c in (a, b))


def derivatives(a: Any, b: Any) -> bool:
    return all(getattr(c, "__module__", "").endswith("autograd.functional") for c in (a, b))


def arguments_or_none(function: Any) -> Arguments | None:
    try:
        return arguments(function)
    except (TypeError, ValueError):  # built into PyTorch: its signature is not to be had
        return None


PLACES = [
    ("nn", nn, torch.nn, both_modules),
    ("F", F, torch.nn.functional, both_functions),
    ("init", nn.init, torch.nn.init, both_functions),
    ("rnn", sequences, torch.nn.utils.rnn, both_functions),
    ("data", data, torch.utils.data, lambda a, b: callable(a)),
    ("lr_scheduler", lr_scheduler, torch.optim.lr_scheduler, schedules),
    ("swa_utils", swa_utils, torch.optim.swa_utils, averages),
    ("functional", ts.autograd.functional, torch.autograd.functional, derivatives),
]
NAMES = [
    (place, name, getattr(ours, name), getattr(theirs, name))
    for place, ours, theirs, keep in PLACES
    for name in shared(ours, theirs, keep)
]


def same(mine: Any, other: Any) -> bool:
    if type(other).__module__.startswith("torch") or callable(other):  # a generator, an activation
        return True
    return mine == other or (mine is other)


@pytest.mark.parametrize(("place", "name", "ours", "theirs"), NAMES, ids=[f"{n[0]}.{n[1]}" for n in NAMES])
def test_arguments(place: str, name: str, ours: Any, theirs: Any) -> None:
    mine, other = arguments(ours), arguments(theirs)
    if not other:  # *args alone
        return
    key = f"{place}.{name}"
    assert set(other) - set(mine) == LACKS.get(key, set())
    assert set(mine) - set(other) <= ADDS.get(key, set()) | ({"nonlinearity"} if name == "RNN" else set())
    for argument in set(mine) & set(other):
        assert same(mine[argument], other[argument]), argument
    in_both = [a for a in other if a in mine]
    assert [a for a in mine if a in other] == in_both


def test_whole_modules_are_there() -> None:
    for theirs, ours in ((torch.optim.swa_utils, swa_utils), (torch.optim.lr_scheduler, lr_scheduler)):
        assert [name for name in theirs.__all__ if not hasattr(ours, name)] == []


FORWARDS = [n for n in NAMES if n[0] == "nn" and not n[1].startswith(("Module", "Parameter", "RNNBase"))]


@pytest.mark.parametrize(("place", "name", "ours", "theirs"), FORWARDS, ids=[n[1] for n in FORWARDS])
def test_arguments_of_calls(place: str, name: str, ours: Any, theirs: Any) -> None:
    mine, other = arguments(ours.forward), arguments(theirs.forward)
    if other:
        assert list(mine) == list(other)


# Layers that are made without arguments need no entry; those under no name of these have their sizes here.
MADE: dict[str, tuple[Any, ...]] = {
    "Bilinear": (3, 4, 5), "ChannelShuffle": (2,), "Embedding": (5, 3), "EmbeddingBag": (5, 3),
    "Fold": ((4, 4), (2, 2)),
    "GRU": (3, 4, 2), "GRUCell": (3, 4), "GroupNorm": (2, 4),
    "LPPool1d": (2, 3), "LPPool2d": (2, 3), "LPPool3d": (2, 3),
    "LSTM": (3, 4, 2), "LSTMCell": (3, 4), "LayerNorm": (4,), "Linear": (3, 4), "LocalResponseNorm": (2,),
    "PixelShuffle": (2,), "PixelUnshuffle": (2,), "RMSNorm": (4,), "RNN": (3, 4, 2), "RNNCell": (3, 4),
    "Threshold": (0.1, 20), "Unflatten": (1, (2, 2)), "Unfold": ((2, 2),), "LazyLinear": (3,),
    "MultiheadAttention": (8, 2), "Transformer": (8, 2, 1, 1, 16), "TransformerEncoderLayer": (8, 2, 16),
    "TransformerDecoderLayer": (8, 2, 16),
}  # fmt: skip
KINDS = {
    "LazyConv": (3, 3),
    "Lazy": (),
    "Conv": (4, 6, 3),
    "Norm": (3,),
    "Adaptive": (2,),
    "ConstantPad": (1, 0.5),
    "Pad": (1,),
}
# Ours say more than PyTorch's, or say it in its older words.
TEXT_IS_OURS = {
    "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AvgPool1d", "GroupNorm", "MultiheadAttention",
    "Transformer", "TransformerDecoderLayer", "TransformerEncoderLayer", "TripletMarginWithDistanceLoss", "Upsample",
    "UpsamplingBilinear2d", "UpsamplingNearest2d",
}  # fmt: skip


def made(name: str) -> tuple[Any, ...]:
    if name in MADE:
        return MADE[name]
    return next((args for kind, args in KINDS.items() if kind in name), ())


LAYERS = [
    n[1]
    for n in FORWARDS
    if n[1] not in ("TransformerEncoder", "TransformerDecoder", "FractionalMaxPool2d")
    and ("pool" not in n[1].lower() or "Adaptive" in n[1] or "LPPool" in n[1])
]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", LAYERS)
def test_state_and_text(name: str) -> None:
    args = made(name)
    mine, other = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    state = mine.state_dict()
    assert list(state) == list(other.state_dict())
    if not name.startswith("Lazy"):
        for key, value in other.state_dict().items():
            assert tuple(state[key].shape) == tuple(value.shape), key
            assert str(state[key].dtype) == str(value.dtype).removeprefix("torch."), key
    if name not in TEXT_IS_OURS:
        assert repr(mine) == repr(other)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, 2, "same", "valid"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_pad_in_every_mode(axes: int, padding: Any, mode: str) -> None:
    kernel = (4, 3, 2)[:axes] if padding == "same" else 3
    options = {"padding": padding, "padding_mode": mode, "groups": 2}
    theirs = getattr(torch.nn, f"Conv{axes}d")(4, 6, kernel, **options, dtype=torch.float64)
    ours = getattr(nn, f"Conv{axes}d")(4, 6, kernel, **options, dtype="float64")
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: ts.asarray(v.numpy()) for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 6, 7)[: axes + 2])
    leaf, other = ts.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = nn.Sequential(ours, nn.ReLU())(leaf), theirs(other).relu()
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), atol=1e-12)
    ts.sum(y * y).backward(), (expected * expected).sum().backward()
    np.testing.assert_allclose(leaf.grad.numpy(), other.grad.numpy(), atol=1e-11)
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), atol=1e-11)
    np.testing.assert_allclose(ours(leaf[0]).detach().numpy(), theirs(other[0]).detach().numpy(), atol=1e-12)


def test_padding_modes_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"Conv2d: padding_mode must be one of 'zeros', .* got 'wrap'"):
        nn.Conv2d(1, 1, 3, padding_mode="wrap")
    with pytest.raises(
        ValueError, match="ConvTranspose2d: padding_mode must be one of 'zeros', got 'reflect'"
    ):
        nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect")
    with pytest.raises(ValueError, match="Conv2d: input must have 3 or 4 dimensions"):
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")(ts.zeros((5, 5)))


def test_a_dictionary_of_parameters_is_a_dictionary() -> None:
    ours = nn.ParameterDict({"a": ts.zeros((2,)), "b": ts.ones((3,))})
    a, b = ours["a"], ours["b"]
    assert ours.get("a") is a and ours.get("z") is None and ours.get("z", 3) == 3
    assert ours.copy()["b"] is b and list(ours.copy()) == ["a", "b"]
    assert ours.setdefault("a", ts.ones((2,))) is a and ours.setdefault("c", ts.ones((1,))) is ours["c"]
    assert ours.popitem()[0] == "c" and ours.pop("a") is a and list(ours) == ["b"]
    assert list(ours.fromkeys(["x", "y"], ts.zeros((2,))).state_dict()) == ["x", "y"]
    ours.clear()
    assert len(ours) == 0 == len(list(ours.parameters()))
    for call in (ours.popitem, lambda: ours.pop("a")):
        with pytest.raises(KeyError):
            call()


def test_dtypes_of_modules() -> None:
    layer = nn.Linear(2, 3)
    assert str(layer.half().weight.dtype) == "float16" and str(layer.bfloat16().bias.dtype) == "bfloat16"
    assert str(layer.to(ts.zeros((1,), dtype="float64")).weight.dtype) == "float64"
    with pytest.raises(TypeError, match=r"Module.to: dtype must be a floating-point type, got int64"):
        layer.to(ts.asarray([1]))
    slope = nn.PReLU(2)
    with ts.no_grad():
        slope.weight.fill_(3)
    slope.reset_parameters()
    assert slope.weight.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (3, 8), (4, 2, 3), (1, 6)])
def test_orthogonal(shape: tuple[int, ...], dtype: str) -> None:
    ts.manual_seed(1)
    x = ts.empty(shape, dtype=dtype)
    assert nn.init.orthogonal_(x, gain=2) is x
    m = x.astype("float64").numpy().reshape(shape[0], -1)
    gram = m @ m.T if shape[0] <= m.shape[1] else m.T @ m
    bound = {"float32": 1e-5, "float64": 1e-13, "bfloat16": 0.1}[dtype]
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=bound)


def test_orthogonal_matrices_are_uniform() -> None:
    """No sign is preferred: the mean of the diagonal is 0, its square 1 / n."""
    ts.manual_seed(2)
    diagonals = np.array(
        [np.diag(nn.init.orthogonal_(ts.empty((3, 3), dtype="float64")).numpy()) for _ in range(600)]
    )
    assert np.abs(diagonals.mean()) < 0.05 and abs((diagonals**2).mean() - 1 / 3) < 0.03


@pytest.mark.parametrize(
    ("shape", "groups"), [((4, 2, 3), 1), ((2, 4, 3, 4), 1), ((6, 2, 3, 3, 3), 3), ((4, 4, 1), 2)]
)
def test_dirac(shape: tuple[int, ...], groups: int) -> None:
    expected = torch.nn.init.dirac_(torch.empty(shape), groups)
    np.testing.assert_array_equal(nn.init.dirac_(ts.ones(shape), groups).numpy(), expected.numpy())


def test_sparse() -> None:
    ts.manual_seed(3)
    x = nn.init.sparse_(ts.empty((10, 400)), 0.25, std=0.5).numpy()
    assert ((x == 0).sum(0) == 3).all() and abs(x[x != 0].std() - 0.5) < 0.05
    assert (x == 0).sum(1).min() > 60  # no row is left out


def test_errors_of_initialisers() -> None:
    bad = [
        (lambda: nn.init.orthogonal_(ts.zeros((3,))), "orthogonal_: tensor must have at least 2 dimensions, got"),
        (lambda: nn.init.dirac_(ts.zeros((3, 3))), "dirac_: tensor must have 3, 4 or 5 dimensions"),
        (lambda: nn.init.dirac_(ts.zeros((3, 3, 3)), 2), "dirac_: groups must divide the first extent, got 2 and 3"),
        (lambda: nn.init.sparse_(ts.zeros((3, 3, 3)), 0.5), "sparse_: tensor must be 2-dimensional"),
        (lambda: nn.init.sparse_(ts.zeros((3, 3)), 1.5), r"sparse_: sparsity must be in \[0, 1\], got 1.5"),
    ]  # fmt: skip
    for call, message in bad:
        with pytest.raises(ValueError, match=message):
            call()


def test_sequences_are_padded_on_either_side_and_taken_apart() -> None:
    given = [np.arange(1.0, n + 1)[:, None] * [1, 10] for n in (3, 5, 1)]
    ours, theirs = [ts.asarray(x) for x in given], [torch.from_numpy(x) for x in given]
    for side in ("left", "right"):
        for first in (False, True):
            mine = sequences.pad_sequence(ours, first, -1.0, side)
            expected = torch.nn.utils.rnn.pad_sequence(theirs, first, -1.0, side)
            np.testing.assert_array_equal(mine.numpy(), expected.numpy())
            if side == "right":
                back = sequences.unpad_sequence(mine, [3, 5, 1], first)
                for a, b in zip(back, given, strict=True):
                    np.testing.assert_array_equal(a.numpy(), b)
    packed = sequences.pack_sequence(ours, enforce_sorted=False)
    for a, b in zip(sequences.unpack_sequence(packed), given, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
    for call, message in (
        (
            lambda: sequences.pad_sequence(ours, False, 0.0, "both"),
            "padding_side must be one of 'left', 'right'",
        ),
        (lambda: sequences.pad_sequence([]), "pad_sequence: sequences is empty"),
        (
            lambda: sequences.unpad_sequence(ts.zeros((3, 2)), [3, 4]),
            "2 lengths up to 4 do not fit 2 seq",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.split(5, 1),
        lambda x: x.split(5, dim=-1),
        lambda x: x.split([4, 8], 1),
        lambda x: x[:0].split(2),
        lambda x: x.chunk(5, dim=1),
        lambda x: x.chunk(3),
        lambda x: x[:0].chunk(2),
        lambda x: x.unbind(1),
        lambda x: (x.half(), x.bfloat16().double()),
        lambda x: (x.to("cpu", non_blocking=True), x.to("cpu", copy=True).zero_(), x),
        lambda x: (x.clone().add_(x, alpha=-0.5), x.clone().sub_(x[:1], alpha=3)),
        lambda x: (x.clone().add_(x), x.clone().sub_(2)),
        lambda x: (x.clone().addcmul_(x, x, value=2), x.clone().addcdiv_(x, x + 1)),
        lambda x: (x.clone().masked_fill_(x > 3, 7.5),),
    ],
)
def test_methods_of_tensors(call: Any) -> None:
    x = np.arange(24.0).reshape(2, 12)
    mine, expected = call(ts.asarray(x.copy())), call(torch.from_numpy(x.copy()))
    for a, b in zip(mine, expected, strict=True):
        assert str(a.dtype) == str(b.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    "call",
    [
        lambda y, w, mask: y.add_(w, alpha=0.5),
        lambda y, w, mask: y.sub_(w, alpha=2),
        lambda y, w, mask: y.addcmul_(w, w, value=0.3),
        lambda y, w, mask: y.addcdiv_(w, w + 3, value=0.3),
        lambda y, w, mask: y.masked_fill_(mask, 2.0) * w,
        lambda y, w, mask: w.chunk(3, 1)[1] * y.split(2, 1)[1] + y.unbind(1)[2][:, None],
    ],
)
def test_gradients_of_methods_of_tensors(call: Any) -> None:
    rng = np.random.default_rng(0)
    x, w, mask = rng.standard_normal((3, 6)), rng.standard_normal((3, 6)), rng.random((3, 6)) > 0.5
    found = []
    for make in (ts.asarray, torch.from_numpy):
        a, b = make(x.copy()).requires_grad_(), make(w.copy()).requires_grad_()
        (call(a * 2, b, make(mask)) ** 2).sum().backward()
        found.append((a.grad.numpy(), b.grad.numpy()))
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_pieces_that_do_not_exist() -> None:
    x = ts.zeros((2, 12))
    for call, error, message in (
        (lambda: x.split(0), ValueError, "split: the size of the pieces must be >= 1, got 0"),
        (lambda: x.split(2.0), TypeError, "split: the size of the pieces must be an integer, got 2.0"),
        (lambda: x.split([1, 2], 1), ValueError, r"split: the sizes \(1, 2\) must add up to 12"),
        (lambda: x.split(2, 3), IndexError, "split: axis 3 is out of range"),
        (lambda: x.chunk(0), ValueError, "chunk: the number of chunks must be >= 1, got 0"),
        (lambda: x.chunk("2"), TypeError, "chunk: the number of chunks must be an integer, got '2'"),
    ):
        with pytest.raises(error, match=message):
            call()
