"""`utils.checkpoint`: the gradients of a region that runs twice are those of one that runs once."""

from __future__ import annotations

import functools
import gc
import inspect
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F
from tensorsmith.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def tensor(*shape: int, seed: int = 0) -> ts.Tensor:
    return ts.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def plain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def network() -> Any:
    ts.manual_seed(5)
    return nn.ModuleList(
        [nn.Linear(6, 8), nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.4)),
         nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.3)), nn.Linear(8, 3)]
    )  # fmt: skip


def gradients(run: Callable[..., Any], forward: Callable[..., Any]) -> list[bytes]:
    """The loss and every gradient's bytes of a network whose middle goes through `run`."""
    net, x = network(), tensor(5, 6).requires_grad_()
    ts.manual_seed(9)
    loss = forward(net, x, run)
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())
    return [
        v.detach().numpy().tobytes()
        for v in (loss, x.grad, *(p.grad for p in net.parameters()), ts.random.random(3))
    ]


def one_after_another(net: Any, x: Any, run: Any) -> Any:
    h = run(net[2], run(net[1], net[0](x)))
    return F.cross_entropy(net[3](h), ts.asarray([0, 1, 2, 1, 0]))


def nested(net: Any, x: Any, run: Any) -> Any:
    def outer(h: Any, scale: float) -> Any:
        return run(net[2], run(net[1], h) * scale)

    return (net[3](run(outer, net[0](x), scale=1.5)) ** 2).sum()


def from_the_leaf(net: Any, x: Any, run: Any) -> Any:
    return run(lambda y: net[3](net[2](net[1](net[0](y)))).sum(), x)


def in_a_structure(net: Any, x: Any, run: Any) -> Any:
    def region(given: Any, *, more: Any) -> Any:
        a, (b, n) = given["a"], more
        return {"sum": net[1](a) + b, "rest": (net[2](b) * n, "text", a.shape)}

    h = net[0](x)
    result = run(region, {"a": h * 2}, more=[h + 1, 3])
    assert result["rest"][1:] == ("text", (5, 8))
    return net[3](result["sum"] * result["rest"][0]).sum()


def closes_over(net: Any, x: Any, run: Any) -> Any:
    h = net[0](x)
    scale = ts.sigmoid(h[:, :1])
    y = h
    for layer in (net[1], net[2]):
        y = run(lambda y, layer=layer: layer(y) * scale, y)  # noqa: B023
        scale = scale * 0.5  # the first region's is still the first
    return net[3](y).sum()


@pytest.mark.parametrize("forward", [one_after_another, nested, from_the_leaf, in_a_structure, closes_over])
def test_same_bits_as_without(forward: Any) -> None:
    assert gradients(checkpoint, forward) == gradients(plain, forward)


def test_same_bits_under_autocast() -> None:
    def forward(net: Any, x: Any, run: Any) -> Any:
        with ts.autocast():
            return one_after_another(net, x, run)

    assert gradients(checkpoint, forward) == gradients(plain, forward)
    assert gradients(checkpoint, forward) != gradients(checkpoint, one_after_another)


def test_draws_are_not_repeated_on_request() -> None:
    free = functools.partial(checkpoint, preserve_rng_state=False)
    assert gradients(free, one_after_another) != gradients(plain, one_after_another)


def test_a_generator_among_the_arguments_repeats_its_draws() -> None:
    x, seen = tensor(100).requires_grad_(), []
    generator = ts.random.Generator(3)

    def noisy(x: Any, generator: Any) -> Any:
        seen.append(ts.random.normal(size=(100,), generator=generator))
        return x * seen[-1]

    checkpoint(noisy, x, generator=generator).sum().backward()
    assert seen[0].tolist() == seen[1].tolist() == x.grad.tolist()
    other = ts.random.Generator(3)
    ts.random.normal(size=(100,), generator=other)
    assert generator.get_state() == other.get_state()


def test_nothing_is_kept() -> None:
    alive: list[Any] = []

    def region(x: Any) -> Any:
        h = ts.exp(x * 2)
        alive.append(weakref.ref(h))
        return ts.sin(h)

    x = tensor(4).requires_grad_()
    y = checkpoint(region, x + 0)
    assert alive[0]() is None and y.requires_grad and y.grad_fn.name == "checkpoint"
    z = region(x)
    assert alive[1]() is not None and z.requires_grad


def test_memory() -> None:
    """The peak of a deep chain is that of its pieces."""
    layers = [nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU()) for _ in range(16)]
    x, peaks = tensor(4096, 64), {}
    for name, run in (("plain", plain), ("checkpoint", checkpoint)):
        for _ in range(2):
            gc.collect()
            h = x.detach().requires_grad_()
            before = ts.allocator_stats()["live_bytes"]
            for layer in layers:
                h = run(layer, h)
            peaks[name] = ts.allocator_stats()["live_bytes"] - before
            h.sum().backward()
            del h
    assert peaks["checkpoint"] < peaks["plain"] / 3, peaks


def test_only_gradients_that_were_asked_for() -> None:
    """An output that nobody uses sends no zeros: sqrt at 0 would make NaN of them."""
    x = ts.zeros(3).requires_grad_()
    a, b, number, constant = checkpoint(lambda x: (x * 2, ts.sqrt(x), 7, ts.ones(2)), x)
    assert number == 7 and not constant.requires_grad and b.requires_grad
    a.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_outputs_one_by_one() -> None:
    x = tensor(3).requires_grad_()
    a, b = checkpoint(lambda x: (x * 2, x * x), x)
    a.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [2, 2, 2]
    x.grad = None
    b.sum().backward()
    assert x.grad.tolist() == (2 * x).tolist()
    with pytest.raises(RuntimeError, match="was freed by an earlier backward"):
        (a + b).sum().backward()


def test_twice_through_a_retained_graph() -> None:
    layer, x = nn.Linear(3, 2), tensor(4, 3)
    y = checkpoint(layer, x).sum()
    y.backward(retain_graph=True)
    once = layer.weight.grad.numpy().copy()
    y.backward()
    assert (layer.weight.grad.numpy() == 2 * once).all()


def test_gradients_of_chosen_tensors() -> None:
    net, x = network(), tensor(5, 6)
    net.eval()
    for run in (plain, checkpoint):
        h = net[0](x)
        loss = net[3](run(net[1], h)).sum()
        found = ts.autograd.gradients(loss, [h, net[1][1].weight, net[0].weight])
        if run is plain:
            expected = [g.tolist() for g in found]
    assert [g.tolist() for g in found] == expected
    assert net[1][1].weight.grad is None


def test_higher_derivatives() -> None:
    weight = tensor(4, seed=1).astype("float64").requires_grad_()
    x = tensor(4).astype("float64").requires_grad_()
    results = []
    for run in (plain, checkpoint):
        h = x * weight  # computed, and the region uses the weight as well
        y = run(lambda h: (ts.sin(h * weight) * h).sum(), h)
        first = ts.autograd.gradients(y, (x, weight), create_graph=True)
        second = ts.autograd.gradients(sum((g * g).sum() for g in first), (x, weight), create_graph=True)
        third = ts.autograd.gradients(second[0].sum(), (x, weight))
        results.append([g.detach().numpy() for g in (*first, *second, *third)])
    for mine, expected in zip(*results, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)


def test_hooks_run_once_for_each_gradient() -> None:
    for run in (plain, checkpoint):
        layer, x, seen = nn.Linear(3, 3, bias=False), tensor(2, 3).requires_grad_(), []
        with ts.no_grad():
            layer.weight.copy_(ts.eye(3))
        layer.weight.register_hook(lambda g, seen=seen: seen.append(("weight", g.sum().item())) or g * 2)
        x.register_hook(lambda g, seen=seen: seen.append(("x", g.sum().item())) or g * 3)
        layer.register_full_backward_hook(
            lambda m, i, o, seen=seen: seen.append(("layer", o[0].sum().item()))
        )

        def region(x: Any, layer: Any = layer, seen: Any = seen) -> Any:
            h = layer(x)
            h.register_hook(lambda g: seen.append(("inside", g.sum().item())))
            return h * 2

        (run(region, x).sum() + layer(x).sum()).backward()
        result = seen, layer.weight.grad.tolist(), x.grad.tolist()
        if run is plain:
            expected = result
    assert sorted(result[0]) == sorted(expected[0]) and result[1:] == expected[1:]


def test_without_gradients_it_is_the_plain_call() -> None:
    calls = []
    layer = nn.Linear(3, 3)
    with ts.no_grad():
        y = checkpoint(lambda x: calls.append(1) or layer(x), tensor(2, 3))
    assert not y.requires_grad and len(calls) == 1
    z = checkpoint(lambda x: x * 2, tensor(2))
    assert z.grad_fn is None and checkpoint(lambda: 5) == 5


def test_results_may_be_written_in_place() -> None:
    x = tensor(5).requires_grad_()
    y = checkpoint(lambda x: x * 2, x).relu_()
    y.sum().backward()
    assert x.grad.tolist() == (2.0 * (x > 0)).tolist()


def test_what_stays_behind_keeps_its_gradient() -> None:
    """An auxiliary loss that the function leaves in an attribute."""
    weight, kept = tensor(3).requires_grad_(), []

    def region(h: Any) -> Any:
        kept.append((h * h).sum())
        return h * 3

    y = checkpoint(region, weight * 2)
    (y.sum() + kept[0]).backward()
    np.testing.assert_allclose(weight.grad.numpy(), 6 + 8 * weight.detach().numpy(), rtol=1e-6)


def test_what_else_the_function_returns() -> None:
    x = tensor(3).requires_grad_()
    weight = nn.Parameter(tensor(3, seed=1))
    y, w, again = checkpoint(lambda x: (x, weight, x), x * 1)
    assert y is again
    (y * 2 + w * 3 + again).sum().backward()
    assert x.grad.tolist() == [3, 3, 3] and weight.grad.tolist() == [3, 3, 3]


# --- what differs when it runs again --------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (
            [lambda x: x * 2, lambda x: (x * 2)[:2]],
            r"result 0 .* float32\(3,\) on cpu .* in forward and float32\(2,\)",
        ),
        ([lambda x: x * 2, lambda x: (x * 2).astype("float64")], r"and float64\(3,\) on cpu"),
        ([lambda x: x * 2, lambda x: (x * 2, x * 3)], r"returned 2 tensors, 2 of them with .* and 1, 1 with"),
        ([lambda x: (x * 2, ts.ones(1)), lambda x: x * 2], r"returned 1 tensors, 1 of them .* and 2, 1 with"),
        ([lambda x: x * 2, lambda x: x.detach()], r"returned 1 tensors, 0 of them"),
    ],
)
def test_other_results(results: Any, message: str) -> None:
    x, calls = tensor(3).requires_grad_(), iter(results)
    y = checkpoint(lambda x: next(calls)(x), x)
    with pytest.raises(CheckpointError, match=message):
        (y[0] if isinstance(y, tuple) else y).sum().backward()
    assert x.grad is None


def test_results_are_not_compared_on_request() -> None:
    x, shapes = tensor(3).requires_grad_(), iter(((3,), (4,)))
    y = checkpoint(lambda x: (x * 2, ts.ones(next(shapes))), x, determinism_check="none")
    y[0].sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_another_parameter() -> None:
    x, weights = tensor(3).requires_grad_(), iter((nn.Parameter(tensor(3)), nn.Parameter(tensor(3))))
    y = checkpoint(lambda x: x * next(weights), x).sum()
    with pytest.raises(CheckpointError, match=r"uses a leaf of shape \(3,\) when it runs again"):
        y.backward()


def test_a_computed_tensor_that_is_no_argument() -> None:
    x = tensor(3).requires_grad_()
    holder = [ts.exp(x)]
    y = checkpoint(lambda x: x * holder[0], x).sum()
    with pytest.raises(RuntimeError, match=r"computed before it \(by exp\) and is not an argument"):
        y.backward()
    assert x.grad is None
    checkpoint(lambda x, h: x * h, x, holder[0]).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), (ts.exp(x) * (1 + x)).detach().numpy(), rtol=1e-6)


def test_a_tensor_of_the_region_around() -> None:
    """What comes into the outer region ends there, so the inner one may reach it in any way."""
    x = tensor(3).requires_grad_()

    def outer(h: Any) -> Any:
        holder = [h]
        return checkpoint(lambda y: y * holder[0], h * 2)

    checkpoint(outer, x * 1).sum().backward()
    assert x.grad.tolist() == (4 * x).tolist()


def test_a_cell_that_is_assigned_stays_the_functions_own() -> None:
    x = tensor(3).requires_grad_()
    last = x * 2

    def region(y: Any) -> Any:
        nonlocal last
        last = y * 3
        return last * 2

    checkpoint(region, x).sum().backward()
    assert x.grad.tolist() == [6, 6, 6] and last.tolist() == (x * 3).tolist()


@pytest.mark.parametrize("what", ["argument", "leaf"])
def test_writes_between_are_noticed(what: str) -> None:
    bias, x = nn.Parameter(tensor(3)), tensor(3)
    y = checkpoint(lambda x: x + bias, x).sum()
    with ts.no_grad():
        (x if what == "argument" else bias).add_(1)
    with pytest.raises(
        RuntimeError, match=r"checkpoint: an argument or a parameter .* was modified in place"
    ):
        y.backward()


def test_a_computed_argument_is_not_written() -> None:
    h = tensor(3).requires_grad_() * 2
    before = h.tolist()
    with pytest.raises(RuntimeError, match="relu_: the destination shares its memory with another tensor"):
        checkpoint(lambda x: x.relu_() * 2, h)
    assert h.tolist() == before


def test_statistics_that_the_function_writes() -> None:
    norm, mean, variance = nn.BatchNorm1d(3), ts.zeros(3), ts.ones(3)
    x = tensor(6, 3).requires_grad_()
    checkpoint(norm, x).sum().backward()
    assert norm.num_batches_tracked.item() == 2  # as in PyTorch
    y = checkpoint(F.batch_norm, x, mean, variance, training=True).sum()
    y.backward(retain_graph=True), y.backward()


def test_an_error_in_backward_leaves_modes_and_numbers() -> None:
    x, calls = tensor(3).requires_grad_(), []

    def region(x: Any) -> Any:
        calls.append(ts.random.random(2).tolist())
        if len(calls) > 1:
            raise KeyError("second")
        return x * 2

    y = checkpoint(region, x).sum()
    before = ts.random.get_state()
    with ts.autocast(), pytest.raises(KeyError, match="second"):
        y.backward()
    assert ts.random.get_state() == before and calls[0] == calls[1]
    assert not ts.is_autocast_enabled() and ts.is_grad_enabled() and x.grad is None


def test_contexts() -> None:
    seen = []

    class Told(nullcontext):  # type: ignore[type-arg]
        def __enter__(self) -> Any:
            seen.append(self.enter_result)

    x = tensor(3).requires_grad_()
    y = checkpoint(lambda x: x * 2, x, context_fn=lambda: (Told("first"), Told("second"))).sum()
    assert seen == ["first"]
    y.backward()
    assert seen == ["first", "second"]


# --- in pieces ------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
def test_sequential(segments: int) -> None:
    ts.manual_seed(1)
    net = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.5))))
    results = []
    for run in (lambda x: net(x), lambda x: checkpoint_sequential(net, segments, x, use_reentrant=False)):
        net.zero_grad()
        ts.manual_seed(2)
        x = tensor(7, 4).requires_grad_()
        run(x).sum().backward()
        results.append([g.numpy().tobytes() for g in (x.grad, *(p.grad for p in net.parameters()))])
    assert results[0] == results[1]


def test_what_is_refused() -> None:
    x, several = tensor(3), functools.partial(checkpoint_sequential, [ts.sin])
    for call, error, message in (
        (lambda: checkpoint(3, x), TypeError, "checkpoint: function must be callable, got int"),
        (lambda: checkpoint(ts.sin, x, determinism_check="all"), ValueError, "must be 'default' or 'none', got 'all'"),
        (lambda: checkpoint(ts.sin, x, preserve_rng_state=1), TypeError, "preserve_rng_state must be True or False"),
        (lambda: checkpoint(ts.sin, x, context_fn=3), TypeError, "context_fn must be callable, got int"),
        (lambda: several(2, x), ValueError, "segments must be from 1 to 1, the number of functions, got 2"),
        (lambda: several(0, x), ValueError, "segments must be from 1 to 1"),
        (lambda: several(1.0, x), TypeError, "segments must be an integer, got float"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


# --- recordings, PyTorch --------------------------------------------------------------------------


def test_steps_under_jit() -> None:
    def train(jit: bool, run: Any) -> list[bytes]:
        net, x, t = network(), tensor(5, 6), ts.asarray([0, 1, 2, 1, 0])
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x: Any, t: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(net[3](run(net[2], run(net[1], net[0](x)))), t)
            loss.backward()
            optimizer.step()
            return loss

        call = ts.jit(step) if jit else step
        ts.manual_seed(4)
        losses = [call(x, t).detach().numpy().tobytes() for _ in range(5)]
        if jit:
            assert call.cache_info().hits >= 2, call.why()
        return [*losses, *(p.detach().numpy().tobytes() for p in net.parameters())]

    expected = train(False, plain)
    assert train(False, checkpoint) == expected
    assert train(True, checkpoint) == expected


def test_arguments_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.utils.checkpoint
    for mine, other in (
        (checkpoint, theirs.checkpoint),
        (checkpoint_sequential, theirs.checkpoint_sequential),
    ):
        ours = list(inspect.signature(mine).parameters)
        assert [name for name in inspect.signature(other).parameters if name not in ours] == []
