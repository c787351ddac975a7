"""ts.autocast: what runs in which precision, nesting, threads, gradients, recordings, and that training works."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.nn import functional as F


def normal(seed: int, *shape: int) -> ts.Tensor:
    return ts.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_precisions() -> None:
    x, w, b = normal(1, 6, 8), normal(2, 4, 8), normal(3, 4)
    with ts.autocast():
        assert ts.is_autocast_enabled()
        y = F.linear(x, w, b)
        assert y.dtype == ts.bfloat16
        assert (x @ ts.matrix_transpose(w)).dtype == ts.bfloat16
        assert ts.einsum("ij,kj->ik", x, w).dtype == ts.bfloat16
        assert F.relu(y).dtype == ts.bfloat16
        assert (y + ts.ones((4,))).dtype == ts.float32
        for raised in (
            ts.softmax(y, -1),
            F.layer_norm(y, (4,)),
            F.cross_entropy(y, ts.zeros((6,), dtype=ts.int64)),
            ts.exp(y),
            ts.sum(y),
            ts.mean(y),
            y**2,
            y**3,
            ts.linalg.vector_norm(y),
            ts.linalg.norm(y),
            ts.linalg.norm(y[0], 3),
        ):
            assert raised.dtype == ts.float32
        # left alone
        assert (ts.ones((2, 2), dtype=ts.float64) @ ts.ones((2, 2), dtype=ts.float64)).dtype == ts.float64
        assert (ts.ones((2, 2), dtype=ts.int64) @ ts.ones((2, 2), dtype=ts.int64)).dtype == ts.int64
    assert not ts.is_autocast_enabled()
    assert F.linear(x, w, b).dtype == ts.float32
    expected = F.linear(*(v.astype(ts.bfloat16).astype(ts.float32) for v in (x, w)), b)
    np.testing.assert_allclose(y.astype(ts.float32).numpy(), expected.numpy(), rtol=2**-8, atol=1e-6)


def test_losses_and_scans_are_float32() -> None:
    x = ts.asarray(np.random.default_rng(0).standard_normal((6, 2, 4))).astype("bfloat16")
    with ts.autocast():
        losses = [
            F.binary_cross_entropy_with_logits(x, ts.zeros_like(x)),
            F.ctc_loss(x, [[1, 2], [1, 3]], [6, 6], [2, 2]),
            F.cross_entropy(x[0], ts.asarray([1, 2])),
            ts.logcumsumexp(x, 0),
        ]
    assert [str(loss.dtype) for loss in losses] == ["float32"] * 4


def test_nesting_decorator_and_threads() -> None:
    x = normal(1, 3, 3)

    @ts.autocast()
    def product() -> ts.Tensor:
        return x @ x

    assert product().dtype == ts.bfloat16
    with ts.autocast():
        with ts.autocast(enabled=False):
            assert (x @ x).dtype == ts.float32
            assert product().dtype == ts.bfloat16
            assert (x @ x).dtype == ts.float32
        assert (x @ x).dtype == ts.bfloat16
        seen = []
        other = threading.Thread(target=lambda: seen.append((x @ x).dtype))
        other.start()
        other.join()
        assert seen == [ts.float32]
    with pytest.raises(ZeroDivisionError), ts.autocast():
        raise ZeroDivisionError
    assert not ts.is_autocast_enabled()


def test_reentry() -> None:
    context = ts.autocast()
    with context, context:
        assert ts.is_autocast_enabled()
    assert not ts.is_autocast_enabled()


def test_pytorchs_arguments() -> None:
    x = ts.ones((2, 2))
    for context in (
        ts.autocast("cpu"),
        ts.autocast("cuda", ts.bfloat16),
        ts.autocast(device_type="cpu", dtype=ts.bfloat16, enabled=True, cache_enabled=False),
    ):
        with context:
            assert (x @ x).dtype == ts.bfloat16
    with ts.autocast("cpu", ts.bfloat16, False):
        assert (x @ x).dtype == ts.float32
    with pytest.raises(ValueError, match='autocast: device_type must be "cpu" or "cuda", got \'tpu\''):
        ts.autocast("tpu")


@pytest.mark.parametrize("dtype", [ts.float16, ts.float32, "int8"])
def test_unsupported_dtypes(dtype: object) -> None:
    with pytest.raises(TypeError, match="autocast: dtype must be bfloat16"):
        ts.autocast(dtype=dtype)


def test_gradients_are_float32_and_close() -> None:
    ts.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 5)
    )
    x, t = normal(1, 32, 20), ts.asarray(np.arange(32) % 5)

    def gradients(enabled: bool, inside: bool) -> list[np.ndarray]:
        model.zero_grad()
        with ts.autocast(enabled=enabled):
            loss = F.cross_entropy(model(x), t)
            assert loss.dtype == ts.float32
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert all(p.grad is not None and p.grad.dtype == ts.float32 for p in model.parameters())
        return [p.grad.numpy().copy() for p in model.parameters() if p.grad is not None]

    exact, low = gradients(False, False), gradients(True, False)
    for a, b in zip(exact, low):
        assert not np.array_equal(a, b)
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a)  # three layers of 2^-9 an operand
    for a, b in zip(low, gradients(True, True)):  # backward inside the block computes the same
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_returns_what_it_is_given(training: bool) -> None:
    """In float32 within, its parameters' gradients and running statistics too."""
    ts.manual_seed(0)
    norm = nn.BatchNorm2d(5).train(training)
    exact = normal(1, 6, 5, 4, 4)
    x = exact.astype(ts.bfloat16).requires_grad_()
    with ts.autocast():
        assert norm(exact).dtype == ts.float32
        y = norm(x)
    assert y.dtype == ts.bfloat16
    ts.sum(y * y).backward()
    assert x.grad is not None and x.grad.dtype == ts.bfloat16
    assert norm.weight.grad.dtype == norm.running_mean.dtype == ts.float32
    expected = F.batch_norm(
        x.detach().astype(ts.float32), norm.running_mean, norm.running_var, training=training
    )
    np.testing.assert_array_equal(
        y.detach().astype(ts.float32).numpy(), expected.astype(ts.bfloat16).astype(ts.float32).numpy()
    )


def test_batch_norm_takes_parameters_of_bfloat16_beside_float32() -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.MaxPool2d(2), nn.BatchNorm2d(8)).bfloat16()
    with ts.autocast():
        y = net(normal(1, 2, 8, 6, 6))
    assert y.dtype == ts.float32
    ts.sum(y * y).backward()
    assert all(p.grad is not None and p.grad.dtype == ts.bfloat16 for p in net.parameters())
    norm = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
    x = normal(2, 2, 8, 6, 6).astype(ts.bfloat16)
    with ts.autocast():
        assert norm(x).dtype == norm.eval()(x).dtype == ts.float32


def test_jit_records_for_each_mode() -> None:
    w = normal(2, 40, 40)

    @ts.jit
    def step(x: ts.Tensor) -> ts.Tensor:
        return ts.relu(x @ w) + x

    x = normal(1, 40, 40)
    plain = step(x).numpy()
    with ts.autocast():
        low = step(x).numpy()
        np.testing.assert_array_equal(step(x).numpy(), low)
        np.testing.assert_array_equal((ts.relu(x @ w) + x).numpy(), low)
    assert not np.array_equal(low, plain)
    np.testing.assert_array_equal(step(x).numpy(), plain)
    assert step.cache_info().currsize == 2


def test_jit_of_a_step_with_the_block_inside() -> None:
    def make() -> tuple[nn.Module, ts.optim.Optimizer]:
        ts.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Linear(64, 5))
        return model, ts.optim.AdamW(model.parameters(), lr=1e-2)

    x, t = normal(1, 64, 20), ts.asarray(np.arange(64) % 5)
    losses = []
    for jitted in (False, True):
        model, optimizer = make()

        def step(x: ts.Tensor, t: ts.Tensor, model: Any = model, optimizer: Any = optimizer) -> ts.Tensor:
            optimizer.zero_grad()
            with ts.autocast():
                loss = F.cross_entropy(model(x), t)
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = ts.jit(step) if jitted else step
        losses.append([float(run(x, t)) for _ in range(8)])
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


def test_training_reaches_the_accuracy_of_float32() -> None:
    from tensorsmith.data import Digits

    def read(train: bool) -> tuple[ts.Tensor, ts.Tensor]:
        d = Digits(train=train)
        return ts.asarray((d.data.reshape(len(d.data), -1) / 16.0).astype(np.float32)), ts.asarray(d.targets)

    (x, t), (x_test, t_test) = read(True), read(False)

    def accuracy(enabled: bool) -> float:
        ts.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 10)
        )
        optimizer = ts.optim.AdamW(model.parameters(), lr=2e-3)
        for _ in range(12):
            for i in range(0, len(x) - 63, 64):
                optimizer.zero_grad()
                with ts.autocast(enabled=enabled):
                    loss = F.cross_entropy(model(x[i : i + 64]), t[i : i + 64])
                loss.backward()
                optimizer.step()
        with ts.no_grad(), ts.autocast(enabled=enabled):
            return float(ts.mean((ts.argmax(model(x_test), 1) == t_test).astype(ts.float32)))

    exact, low = accuracy(False), accuracy(True)
    assert exact > 0.9 and low > exact - 0.015, (exact, low)


@pytest.mark.skipif(not ts.cuda.is_available(), reason="no GPU")
def test_gpus_attend_in_bfloat16() -> None:
    q, k, v = (normal(i, 1, 2, 9, 8).cuda().requires_grad_() for i in range(3))
    mask = ts.zeros(9, 9, device="cuda")
    with ts.autocast():
        y = ts.attention(q.astype("bfloat16"), k, v, mask, causal=True)
        assert ts.is_autocast_enabled()
    assert str(y.dtype) == "bfloat16"
    y.astype("float32").sum().backward()
    assert str(q.grad.dtype) == "float32" and float(ts.abs(v.grad).max()) > 0


def test_float16_is_left_alone() -> None:
    x, w = normal(1, 6, 8).astype(ts.float16), normal(2, 4, 8)
    image, kernel = normal(3, 2, 3, 5, 5).astype(ts.float16), normal(4, 4, 3, 3, 3)

    def results() -> list[Any]:
        leaf = x.detach().requires_grad_()
        ts.sum(ts.softmax(F.linear(leaf, w), -1) ** 2).backward()
        return [F.linear(x, w), ts.softmax(x, -1), F.conv2d(image, kernel), F.max_pool2d(image, 2), leaf.grad]

    expected = results()
    with ts.autocast():
        found = results()
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype == ts.float16
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_what_is_made_of_several_operations_has_the_dtypes_of_the_table() -> None:
    x, y, image = (ts.asarray(np.linspace(-2, 2, n).reshape(shape)) for n, shape in (
        (24, (4, 6)), (24, (4, 6)), (128, (1, 2, 8, 8))))  # fmt: skip
    for dtype, expected in ((ts.bfloat16, ts.float32), (ts.float16, ts.float16)):
        a, b, planes = x.astype(dtype), y.astype(dtype), image.astype(dtype)
        with ts.autocast():
            for loss in (F.mse_loss, F.huber_loss, F.smooth_l1_loss, F.soft_margin_loss, F.l1_loss):
                assert loss(a, b, reduction="none").dtype == expected
            for size in (1, 2, 3):
                assert F.adaptive_avg_pool2d(planes, size).dtype == expected
                assert F.adaptive_max_pool2d(planes, size).dtype == expected
            assert F.normalize(a).dtype == F.cosine_similarity(a, b).dtype == expected
            assert F.group_norm(a, 2, None, ts.ones(6)).dtype == expected
    with ts.autocast():
        a, b = x.astype(ts.bfloat16), (x + 0.3).astype(ts.bfloat16)
        wide = F.mse_loss(a.astype(ts.float32), b.astype(ts.float32), reduction="none")
        np.testing.assert_array_equal(F.mse_loss(a, b, reduction="none").numpy(), wide.numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolutions_with_a_bias_are_bfloat16(rank: int) -> None:
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1](4, 3, 3, stride=2)
    x = ts.random.normal(size=(2, 4, *[4] * rank)).requires_grad_()
    exact = layer(x.detach()).detach()
    with ts.autocast():
        y = layer(x)
    assert y.dtype == ts.bfloat16
    np.testing.assert_allclose(y.detach().astype(ts.float32).numpy(), exact.numpy(), atol=0.03)
    y.sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == layer.bias.grad.dtype == ts.float32


def test_generators_run_within_the_block_and_their_callers_do_not() -> None:
    @ts.autocast()
    def products() -> Any:
        yield (ts.ones((2, 2)) @ ts.ones((2, 2))).dtype
        yield ts.is_autocast_enabled()

    assert [(value, ts.is_autocast_enabled()) for value in products()] == [
        (ts.bfloat16, False),
        (True, False),
    ]
