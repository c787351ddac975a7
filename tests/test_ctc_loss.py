"""The CTC loss beyond the table of cases: every alignment, PyTorch's numbers, bits, what is impossible, errors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F


def log_softmax(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(shape) * scale
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def spelt(path: tuple[int, ...]) -> list[int]:
    """An alignment without repetitions and blanks (0)."""
    return [c for c, _ in itertools.groupby(path) if c != 0]


@pytest.mark.parametrize("labels", [[], [1], [1, 1], [2, 1], [1, 2, 1], [2, 2, 1]])
def test_every_alignment(labels: list[int]) -> None:
    """The loss and its gradient from all 3^5 paths of 5 frames."""
    x = log_softmax(5, 3)
    chances = np.zeros_like(x)
    for path in itertools.product(range(3), repeat=5):
        if spelt(path) == labels:
            chances[np.arange(5), path] += np.exp(x[np.arange(5), path].sum())
    total = chances[0].sum()
    tensor = ts.tensor(x, requires_grad=True)
    loss = F.ctc_loss(tensor, ts.asarray(labels, dtype="int64"), 5, len(labels), reduction="none")
    loss.backward()
    np.testing.assert_allclose(loss.detach().numpy(), -np.log(total), rtol=1e-13)
    np.testing.assert_allclose(tensor.grad.numpy(), -chances / total, rtol=0, atol=1e-14)


def random_batch(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Logits (T, N, C), targets (N, S), frames and labels of each sequence, the blank."""
    rng = np.random.default_rng(seed)
    n, c = int(rng.integers(1, 6)), int(rng.integers(2, 30))
    t, s = int(rng.integers(1, 60)), int(rng.integers(0, 40))
    blank = int(rng.integers(0, c))
    targets = rng.integers(0, c - 1, (n, s))
    targets += targets >= blank
    frames, counts = rng.integers(0 if t > 30 else 1, t + 1, n), rng.integers(0, s + 1, n)
    return rng.standard_normal((t, n, c)) * 3, targets, frames, counts, blank


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("joined", [False, True])
def test_pytorchs_numbers(seed: int, joined: bool) -> None:
    """Behind a log-softmax, for padded and joined targets; what is impossible is inf, or 0 where that was asked."""
    torch = pytest.importorskip("torch")
    x, targets, frames, counts, blank = random_batch(seed)
    given = np.concatenate([row[:k] for row, k in zip(targets, counts)]) if joined else targets
    zero, reduction = bool(seed % 2), ("none", "sum", "mean")[seed % 3]
    theirs = torch.from_numpy(x).requires_grad_()
    args = (
        torch.from_numpy(given),
        torch.from_numpy(frames),
        torch.from_numpy(counts),
        blank,
        reduction,
        zero,
    )
    expected = torch.nn.functional.ctc_loss(theirs.log_softmax(-1), *args)
    ours = ts.tensor(x, requires_grad=True)
    mine = F.ctc_loss(
        F.log_softmax(ours, -1), ts.asarray(given), tuple(frames.tolist()), ts.asarray(counts.astype("int32")), blank,
        reduction, zero,
    )  # fmt: skip
    np.testing.assert_allclose(mine.detach().numpy(), expected.detach().numpy(), rtol=1e-11, atol=1e-11)
    if np.isfinite(expected.detach().numpy()).all():
        expected.sum().backward()
        mine.sum().backward()
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_float32_is_as_exact_as_its_numbers(seed: int) -> None:
    """Long sequences: what a frame adds is rounded, not what has come together before."""
    x = log_softmax(2000, 1, 40, seed=seed, scale=2.0).astype(np.float32)
    targets = np.random.default_rng(seed).integers(1, 40, (1, 300))
    results = []
    for dtype in ("float32", "float64"):
        tensor = ts.tensor(x.astype(dtype), requires_grad=True)
        loss = F.ctc_loss(tensor, ts.asarray(targets), [2000], [300], reduction="sum")
        loss.backward()
        results.append((float(loss), tensor.grad.numpy()))
    (loss, gradient), (exact, exact_gradient) = results
    assert abs(loss - exact) <= 2e-7 * exact
    assert np.abs(gradient - exact_gradient).max() <= 3e-4
    np.testing.assert_allclose(gradient.sum(-1), -1, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_company(dtype: str) -> None:
    """Threads, the sequences beside it, padding, layout."""
    t, n, c, s = 70, 23, 11, 33
    x = log_softmax(t, n, c, seed=1).astype(dtype)
    rng = np.random.default_rng(2)
    targets, counts = rng.integers(1, c, (n, s)), rng.integers(0, s + 1, n)
    frames = np.minimum(t, 2 * counts + rng.integers(1, 10, n))
    dy = rng.standard_normal(n).astype(dtype)

    def run(x: Any, targets: np.ndarray, pick: slice = slice(None)) -> list[np.ndarray]:
        tensor = x.detach().requires_grad_()
        lengths = [ts.asarray(v[pick]) for v in (frames, counts)]
        loss = ts.ctc_loss(tensor, ts.asarray(np.ascontiguousarray(targets[pick])), *lengths)
        loss.backward(ts.asarray(dy[pick]))
        return [loss.detach().numpy(), tensor.grad.numpy()]

    before = ts.get_num_threads()
    try:
        ts.set_num_threads(1)
        whole = run(ts.asarray(x), targets)
        ts.set_num_threads(2)
        strided = ts.asarray(np.repeat(x, 2, -1))[..., ::2]
        turned = ts.swapaxes(ts.asarray(np.ascontiguousarray(x.swapaxes(0, 1))), 0, 1)
        wide = np.concatenate(
            [targets, np.full((n, 40), -7)], 1
        )  # beyond a sequence's length nothing is read
        for other, labels in ((ts.asarray(x), targets), (strided, targets), (turned, wide)):
            for a, b in zip(run(other, labels), whole, strict=True):
                np.testing.assert_array_equal(a, b)
        part = run(ts.asarray(np.ascontiguousarray(x[:, 4:9])), targets, slice(4, 9))
        np.testing.assert_array_equal(part[0], whole[0][4:9])
        np.testing.assert_array_equal(part[1], whole[1][:, 4:9])
    finally:
        ts.set_num_threads(before)


def test_too_few_frames() -> None:
    """Two equal labels need a blank between them."""
    x = ts.tensor(log_softmax(3, 3, 4), requires_grad=True)
    targets = ts.asarray([[1, 1], [1, 2], [1, 0]])
    loss = F.ctc_loss(x, targets, [2, 2, 3], [2, 2, 1], reduction="none")
    assert np.isinf(loss.detach().numpy()).tolist() == [True, False, False]
    loss.sum().backward()
    bad = np.isnan(x.grad.numpy())
    assert bad[:2, 0].all() and not bad[2].any() and not bad[:, 1:].any()
    x.grad = None
    loss = F.ctc_loss(x, targets, [2, 2, 3], [2, 2, 1], reduction="none", zero_infinity=True)
    assert loss.detach().numpy()[0] == 0
    loss.sum().backward()
    assert not x.grad.numpy()[:, 0].any() and np.isfinite(x.grad.numpy()).all()
    assert float(F.ctc_loss(x, targets, [0, 2, 3], [0, 2, 1], reduction="none")[0]) == 0


def test_certain_and_impossible_classes() -> None:
    """Log-probabilities of 0 and -inf."""
    path = [1, 1, 0, 2, 2, 0]
    x = np.full((6, 1, 3), -np.inf)
    x[np.arange(6), 0, path] = 0
    tensor = ts.tensor(x, requires_grad=True)
    loss = F.ctc_loss(tensor, ts.asarray([[1, 2]]), [6], [2])
    loss.backward()
    assert float(loss) == 0
    np.testing.assert_array_equal(tensor.grad.numpy()[:, 0], -0.5 * np.eye(3)[path])
    assert np.isinf(float(F.ctc_loss(tensor, ts.asarray([[2, 1]]), [6], [2])))
    x[3, 0, 2] = np.nan
    assert np.isnan(float(F.ctc_loss(ts.asarray(x), ts.asarray([[1, 2]]), [6], [2])))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype: str) -> None:
    x = ts.asarray(log_softmax(20, 2, 6)).astype(dtype)
    targets, lengths = ts.asarray([[1, 2, 3], [4, 4, 0]]), ([20, 15], [3, 2])
    results = []
    for given in (x, x.astype("float32")):
        tensor = given.detach().requires_grad_()
        loss = F.ctc_loss(tensor, targets, *lengths, reduction="none")
        loss.sum().backward()
        assert loss.dtype == tensor.grad.dtype == given.dtype
        results.append([v.detach().astype(dtype).astype("float32").numpy() for v in (loss, tensor.grad)])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_one_sequence_and_no_sequence() -> None:
    x = ts.asarray(log_softmax(8, 5))
    one = F.ctc_loss(x, ts.asarray([1, 2]), ts.asarray(8), ts.asarray(2))
    batch = F.ctc_loss(ts.expand_dims(x, 1), ts.asarray([[1, 2]]), [8], [2])
    assert one.shape == () and float(one) == float(batch)
    none = ts.zeros((8, 0, 5))
    assert F.ctc_loss(none, ts.zeros((0, 3), dtype="int64"), [], [], reduction="none").shape == (0,)
    assert float(F.ctc_loss(none, ts.zeros((0, 3), dtype="int64"), [], [], reduction="sum")) == 0


def test_replayed_with_other_lengths() -> None:
    """A recording reads lengths and labels anew, and checks them."""

    def step(x: Any, targets: Any, frames: Any, counts: Any) -> tuple[Any, Any]:
        x = x.detach().requires_grad_()
        loss = F.ctc_loss(x, targets, frames, counts, zero_infinity=True)
        loss.backward()
        return loss.detach(), x.grad

    run = ts.jit(step)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        given = [
            ts.asarray(log_softmax(12, 3, 6, seed=seed)),
            *(
                ts.asarray(v)
                for v in (rng.integers(1, 6, (3, 4)), rng.integers(5, 13, 3), rng.integers(0, 5, 3))
            ),
        ]
        for a, b in zip(run(*given), step(*given), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert run.cache_info().hits == 3
    given[1] = given[1] * 0 + 6
    with pytest.raises(IndexError, match="ctc_loss: target 6 at"):
        run(*given[:3], ts.asarray([1, 1, 1]))


def test_a_layer_learns_to_spell() -> None:
    ts.manual_seed(0)
    layer, loss = nn.Linear(8, 5, dtype="float64"), nn.CTCLoss()
    x, targets = (
        ts.asarray(log_softmax(12, 4, 8, seed=3)),
        ts.asarray([[1, 2, 3], [4, 4, 0], [2, 1, 2], [3, 0, 0]]),
    )
    optimizer = ts.optim.Adam(layer.parameters(), lr=0.1)
    first = last = 0.0
    for step in range(60):
        optimizer.zero_grad()
        value = loss(F.log_softmax(layer(x), -1), targets, (12,) * 4, (3, 2, 3, 1))
        value.backward()
        optimizer.step()
        first, last = (float(value), 0.0) if step == 0 else (first, float(value))
    assert last < 0.3 * first


def test_targets_and_lengths_are_what_numpy_takes() -> None:
    x = ts.asarray(log_softmax(6, 2, 4))
    expected = float(F.ctc_loss(x, ts.asarray([[1, 2], [3, 1]]), [6, 6], [2, 2]))
    for targets in ([[1, 2], [3, 1]], ((1, 2), (3, 1)), [1, 2, 3, 1], np.array([[1, 2], [3, 1]], np.uint8)):
        assert float(F.ctc_loss(x, targets, (6, 6), np.array([2, 2]))) == expected
    assert float(F.ctc_loss(x[:, 0], [1, 2], 6, 2)) == float(F.ctc_loss(x[:, :1], [[1, 2]], [6], [2]))
    assert np.isfinite(float(F.ctc_loss(x, [], [6, 6], [0, 0])))


def test_errors() -> None:
    x, targets = ts.asarray(log_softmax(6, 2, 4)), ts.asarray([[1, 2], [3, 1]])
    huge = ts.asarray(np.array([2, 2**64 - 1], np.uint64))
    bad = [
        (lambda: F.ctc_loss(x[0, 0], targets, [6, 6], [2, 2]), ValueError, r"log_probs must be \(T, N, C\) or"),
        (lambda: F.ctc_loss(x.astype("int64"), targets, [6, 6], [2, 2]), TypeError, "log_probs is int64"),
        (lambda: F.ctc_loss(x, targets[:1], [6, 6], [2, 2]), ValueError, r"targets must have shape \(2, 2\)"),
        (lambda: F.ctc_loss(x, targets.astype("float32"), [6, 6], [2, 2]), TypeError, "targets must hold integers"),
        (lambda: F.ctc_loss(x, targets, [6], [2, 2]), ValueError, r"input_lengths must have shape \(2,\)"),
        (lambda: F.ctc_loss(x, targets, [6.0, 6.0], [2, 2]), TypeError, "input_lengths must hold integers"),
        (lambda: F.ctc_loss(x, targets, [6, 7], [2, 2]), ValueError, r"input_lengths must be in \[0, 6\], got 7 at 1"),
        (lambda: F.ctc_loss(x, targets, [6, 6], [3, 2]), ValueError, r"target_lengths must be in \[0, 2\], got 3 at 0"),
        (lambda: F.ctc_loss(x, targets, [6, 6], [2, -1]), ValueError, r"target_lengths must be in \[0, 2\], got -1"),
        (lambda: F.ctc_loss(x, targets.reshape(-1), [6, 6], [2, 1]), ValueError, "add up to the 4 labels of targets"),
        (lambda: F.ctc_loss(x, targets + 1, [6, 6], [2, 2]), IndexError, r"target 4 at \(1, 0\) is out of range for 4"),
        (lambda: F.ctc_loss(x, targets, [6, 6], [2, 2], blank=4), ValueError, r"blank must be a class, in \[0, 4\)"),
        (lambda: F.ctc_loss(x, targets, [6, 6], [2, 2], blank=2), ValueError, r"target 2 at \(0, 1\) is the blank"),
        (lambda: F.ctc_loss(x, targets, [6, 6], [2, 2], reduction="avg"), ValueError, "reduction must be one of"),
        (lambda: F.ctc_loss([[0.0]], targets, [1], [1]), TypeError, "log_probs must be a tensor, got a list"),
        (lambda: F.ctc_loss(x, [[1, 2], [3]], [6, 6], [2, 1]), ValueError, "targets must have rows of one length"),
        (lambda: F.ctc_loss(x, [[1.0], [3.0]], [6, 6], [1, 1]), TypeError, r"targets must hold integers, got \[\["),
        (lambda: F.ctc_loss(x, "ab", [6, 6], [2, 2]), TypeError, "targets must hold integers, got 'ab'"),
        (lambda: F.ctc_loss(x, targets, None, [2, 2]), TypeError, "input_lengths must hold integers, got None"),
        (lambda: F.ctc_loss(x, targets, huge, [2, 2]), ValueError, r"input_lengths .* got 18446744073709551615 at 1"),
        (lambda: F.ctc_loss(x, targets, [6, 6], huge), ValueError, r"target_lengths .* got 18446744073709551615"),
        (lambda: F.ctc_loss(x, targets.reshape(-1), [6, 6], huge), ValueError, "got .2, 18446744073709551615"),
        (lambda: F.ctc_loss(x, ts.stack([huge, huge]), [6, 6], [2, 2]), IndexError, "target 18446744073709551615 at"),
        (lambda: F.cross_entropy(x[0], huge), IndexError, "cross_entropy: target 18446744073709551615 at pos"),
        (lambda: nn.CTCLoss(blank=-1), ValueError, "CTCLoss: blank must be >= 0, got -1"),
    ]  # fmt: skip
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()
    assert float(F.ctc_loss(x, ts.asarray([[1, 0], [3, 1]]), [6, 6], [1, 2])) > 0  # padding may be the blank
    leaf = x.detach().requires_grad_()
    loss = F.ctc_loss(leaf, targets, [6, 6], [2, 2])
    gradient = ts.grad(lambda v: F.ctc_loss(v, targets, [6, 6], [2, 2]))(leaf)
    assert gradient.shape == leaf.shape and loss.requires_grad
    loss.backward(create_graph=True)
    with pytest.raises(RuntimeError, match="ctc_loss_backward"):
        ts.sum(leaf.grad).backward()
