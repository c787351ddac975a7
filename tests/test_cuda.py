"""Every case of the table on the GPU: values against float64, bits against a second run, gradients against the CPU's;
layers, files and training steps there, and errors between devices.

Skipped where there is no GPU. tests/cuda_host builds the same kernels for the host; TENSORSMITH_CUDA_LIBRARY then
names that library, and these tests run through it. A case whose kernels CUDA lacks is an expected failure that names
the kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from cases import Case, load, make_inputs
from test_ops import EPS, floats, outputs, rounded, weighted

pytestmark = [
    pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or ""),
    pytest.mark.usefixtures("new_tensors_on_the_gpu"),
]
CASES = [c for c in load() if not str(c).startswith("order_statistics")]  # the GPU's medians sort instead
# Cases of math/pointwise.h, one formula each.
FORMULAS = {
    "absolute", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "clip", "copysign", "cos",
    "cosh", "divide", "elu", "erf", "exp", "exp2", "expm1", "floor", "floor_divide", "fma", "gelu", "gelu_tanh",
    "hypot", "leaky_relu", "lerp", "log", "log10", "log1p", "log2", "log_sigmoid", "logaddexp", "maximum", "minimum",
    "multiply", "negative", "nextafter", "power", "reciprocal", "relu", "remainder", "round", "rsqrt", "sigmoid",
    "silu", "sin", "sinh", "softplus", "sqrt", "square", "subtract", "tan", "tanh", "trunc", "bce_with_logits",
    "weighted_bce_with_logits",
}  # fmt: skip


def tensors(arrays: list[np.ndarray], dtype: str) -> list[Any]:
    return [ts.array(a, dtype=dtype if a.dtype == np.float64 else None).cuda() for a in arrays]


def run(case: Case, inputs: list[Any]) -> list[Any]:
    try:
        return outputs(case.op(*inputs))
    except NotImplementedError as error:
        pytest.xfail(str(error))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case: Case) -> None:
    arrays = make_inputs(case.inputs)
    for dtype in case.dtypes:
        with np.errstate(all="ignore"):
            expected = outputs(case.reference(*rounded(case, arrays, dtype)))
        inputs = tensors(arrays, dtype)
        got, again = run(case, inputs), run(case, inputs)
        for y, second, e in zip(got, again, expected, strict=True):
            assert y.device == "cuda"
            y, e = y.cpu().numpy(), np.asarray(e)
            np.testing.assert_array_equal(y, second.cpu().numpy())
            assert y.shape == e.shape
            if case.exact or e.dtype.kind in "biu":
                np.testing.assert_array_equal(y, e)
                continue
            # Sums go by another tree than the CPU's.
            bound = 2 * case.tolerance * EPS[str(y.dtype)] * (np.abs(e) + case.scale)
            error = np.abs(y.astype(np.float64) - e)
            bad = ~((error <= bound) | (y == e) | (np.isnan(e) & np.isnan(y)))
            assert not bad.any(), f"{bad.sum()} of {bad.size} off, worst {error[bad].max():.3g}"
        for x, a in zip(inputs, tensors(arrays, dtype), strict=True):
            np.testing.assert_array_equal(x.cpu().numpy(), a.cpu().numpy())


@pytest.mark.parametrize("case", [c for c in CASES if c.layouts], ids=str)
def test_layouts(case: Case) -> None:
    """The bits do not depend on how the inputs lie in memory."""
    inputs = tensors(make_inputs(case.inputs), case.dtypes[0])
    expected = run(case, inputs)
    for layout in ("transposed", "reversed"):
        moved = []
        for x in inputs:
            if layout == "transposed":
                axes = tuple(range(x.ndim))[::-1]
                y = ts.contiguous(ts.permute_dims(x, axes)) if x.ndim else x
                moved.append(ts.permute_dims(y, axes) if x.ndim else y)
            else:
                wide = ts.zeros(*[2 * n + 1 for n in x.shape], dtype=x.dtype) if x.ndim else x
                index = tuple(slice(2 * n - 1, None, -2) if n else slice(0, 0) for n in x.shape)
                if x.ndim:
                    wide[index] = x
                moved.append(wide[index] if x.ndim else x)
        for y, e in zip(run(case, moved), expected, strict=True):
            np.testing.assert_array_equal(y.cpu().numpy(), e.cpu().numpy(), err_msg=layout)


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=str)
def test_gradient(case: Case) -> None:
    """float64 gradients are the CPU's (which the full Jacobian holds to account) but for rounding."""
    arrays = make_inputs(case.inputs)
    found = []
    for device in ("cpu", "cuda"):
        ts.set_default_device(device)
        inputs = [ts.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
        try:
            weighted(case.op(*inputs)).backward()
        except NotImplementedError as error:
            pytest.xfail(str(error))
        found.append(
            [None if inputs[i].grad is None else inputs[i].grad.cpu().numpy() for i in floats(arrays)]
        )
    for mine, cpu in zip(found[1], found[0], strict=True):
        assert (mine is None) == (cpu is None)
        if cpu is not None:
            np.testing.assert_allclose(mine, cpu, rtol=1e-10, atol=1e-11 * max(1, np.abs(cpu).max(initial=0)))


@pytest.mark.parametrize("case", [c for c in CASES if str(c) in FORMULAS], ids=str)
def test_pointwise_bits(case: Case) -> None:
    """Formulas have the CPU's bits."""
    arrays = make_inputs(case.inputs)
    for dtype in case.dtypes:
        mine = run(case, tensors(arrays, dtype))
        ts.set_default_device("cpu")
        theirs = outputs(
            case.op(*(ts.array(a, dtype=dtype if a.dtype == np.float64 else None) for a in arrays))
        )
        ts.set_default_device("cuda")
        for y, e in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(y.cpu().numpy(), e.numpy())


# Python code that makes tensors on the way; its cases make none.
COMPOSED = {
    "conv_transpose3d s1 p0 d1 g1", "conv_transpose3d s2 p1 d1 g2", "interpolate nearest", "pad reflect",
    "pad replicate", "pad circular", "grid_sample", "bincount weights", "histogram", "histogram weights", "unique",
    "unique_counts", "unique_values",
}  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if str(c) in COMPOSED], ids=str)
def test_the_default_device_does_not_matter(case: Case) -> None:
    ts.set_default_device("cpu")
    assert all(y.device == "cuda" for y in run(case, tensors(make_inputs(case.inputs), case.dtypes[0])))


def test_layers_of_moved_modules() -> None:
    """With tensors of the CPU as the default, as after module.to("cuda") alone."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((5, 3, 4)).astype(np.float32)
    found = []
    for device in ("cpu", "cuda"):
        ts.set_default_device("cpu")
        ts.manual_seed(0)
        lstm, cell = ts.nn.LSTM(4, 6).to(device), ts.nn.GRUCell(4, 6).to(device)
        heads = ts.nn.MultiheadAttention(4, 2, add_zero_attn=True, add_bias_kv=True).to(device)
        bags = [ts.nn.EmbeddingBag(10, 3, mode=mode).to(device) for mode in ("sum", "mean", "max")]
        steps = ts.array(x, device=device)
        packed = ts.nn.utils.rnn.pack_padded_sequence(steps, [2, 5, 3], enforce_sorted=False)
        index = ts.array([1, 2, 2, 9, 0], device=device)
        starts = ts.array([0, 2, 2], device=device)
        results = [
            ts.nn.utils.rnn.pad_packed_sequence(lstm(packed)[0])[0],
            cell(steps[0]),
            heads(steps, steps, steps)[0],
            *(bag(index, starts) for bag in bags),
            *(bag(ts.stack([index, index])) for bag in bags),
            ts.nn.functional.fold(ts.nn.functional.unfold(ts.reshape(steps, (1, 3, 5, 4)), 2), (5, 4), 2),
        ]
        assert all(y.device == device for y in results)
        found.append([y.detach().cpu().numpy() for y in results])
    for mine, cpu in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, cpu, rtol=1e-5, atol=1e-6)


def test_files_take_tensors_from_the_gpu(tmp_path: Any) -> None:
    from tensorsmith import serialize

    x, net = ts.arange(6.0), ts.nn.Linear(3, 2)
    ts.savez(tmp_path / "x.npz", x, half=x.astype("float16"))
    assert np.load(tmp_path / "x.npz")["half"].tolist() == x.tolist()
    serialize.save({"x": x, "b": x.astype("bfloat16"), **net.state_dict()}, tmp_path / "x.safetensors")
    loaded = serialize.load(tmp_path / "x.safetensors")
    assert loaded["b"].tolist() == x.tolist() and loaded["weight"].tolist() == net.weight.tolist()


def test_out_of_memory_leaves_everything_usable() -> None:
    x = ts.ones(1000)
    with pytest.raises(MemoryError, match=r"no memory for .* MiB are live in \d+ blocks"):
        ts.empty(1 << 40)
    assert (x + 1).sum().item() == 2000
    stats = ts.cuda.memory_stats()
    assert 4000 <= stats["live_bytes"] <= stats["system_bytes"]


def test_an_index_out_of_range_is_an_index_error() -> None:
    x = ts.ones(4, 3)
    with pytest.raises(IndexError, match=r"index 4 in .* is out of range"):
        ts.take(x, ts.array([0, 4]), axis=0)
    assert (x + 1).sum().item() == 24


@pytest.mark.parametrize("rows", [3, 40_000])
def test_a_target_out_of_range_is_an_index_error_at_the_next_wait(rows: int) -> None:
    """Nobody waits for the check; the row is as if ignored, nothing outside is read, and the GPU stays usable."""
    rng = np.random.default_rng(3)
    x = ts.array(rng.standard_normal((rows, 3)).astype(np.float32))
    good = rng.integers(0, 3, rows)
    expected = ts.nn.functional.cross_entropy(x, ts.array(good)).item()
    for position, bad in ((rows - 1, 3), (1, -1), (0, 2**62)):
        labels = good.copy()
        labels[position] = bad
        match = rf"cross_entropy: target {bad} at position {position} is out of range for 3 classes: valid are 0 to 2"
        for wait in (lambda y: y.item(), lambda y: ts.cuda.synchronize(), lambda y: y.cpu()):
            p = ts.tensor(x, requires_grad=True)
            loss = ts.nn.functional.cross_entropy(
                p, ts.array(labels), weight=ts.ones(3), label_smoothing=0.1, reduction="sum"
            )
            loss.backward()
            with pytest.raises(IndexError, match=match):
                wait(loss)
            np.testing.assert_array_equal(p.grad.cpu().numpy()[position], 0)  # told once
    first, second = good.copy(), good.copy()
    first[1], second[0] = 7, 8
    ts.nn.functional.cross_entropy(x, ts.array(first)), ts.nn.functional.cross_entropy(x, ts.array(second))
    with pytest.raises(IndexError, match="target 7 at position 1"):
        ts.cuda.synchronize()
    labels = good.copy()
    labels[0] = -100  # ignored
    ts.nn.functional.cross_entropy(x, ts.array(labels)).item()
    assert ts.nn.functional.cross_entropy(x, ts.array(good)).item() == expected


def test_mixed_devices() -> None:
    x, y = ts.ones(3, device="cpu"), ts.ones(3)
    with pytest.raises(RuntimeError, match="add: a is on cpu, b on cuda; move one of them"):
        x + y
    assert (y + np.ones(3, np.float32)).device == "cuda"  # NumPy's follow the tensors
    x[:] = y + 1  # and assignment copies
    assert x.tolist() == [2, 2, 2]


def test_gradients_cross_devices() -> None:
    w = ts.ones(3, device="cpu").requires_grad_()
    (w.cuda() * 2).sum().backward()
    assert w.grad.device == "cpu" and w.grad.tolist() == [2, 2, 2]


OPTIMIZERS = [
    lambda p: ts.optim.SGD(p, lr=0.1),
    lambda p: ts.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: ts.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    lambda p: ts.optim.AdamW(p, lr=0.01),
    lambda p: ts.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    lambda p: ts.optim.Adagrad(p, lr=0.1),
    lambda p: ts.optim.Adadelta(p, lr=1.0),
    lambda p: ts.optim.Lion(p, lr=0.001, weight_decay=0.1),
    lambda p: ts.optim.Adamax(p, lr=0.01, weight_decay=0.1),
    lambda p: ts.optim.NAdam(p, lr=0.01),
    lambda p: ts.optim.RAdam(p, lr=0.01, weight_decay=0.1),
    lambda p: ts.optim.LAMB(p, lr=0.01, weight_decay=0.1),
    lambda p: ts.optim.Rprop(p, lr=0.01),
    lambda p: ts.optim.ASGD(p, lr=0.01),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_training_steps_follow_the_cpus(make: Any) -> None:
    """A small network of every common layer, five steps, every optimizer; then the gradient's norm."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((6, 2, 8, 8)).astype(np.float32), rng.integers(0, 3, 6)
    found = []
    for device in ("cpu", "cuda"):
        ts.set_default_device("cpu")
        ts.manual_seed(1)
        net = ts.nn.Sequential(
            ts.nn.Conv2d(2, 4, 3, padding=1),
            ts.nn.BatchNorm2d(4),
            ts.nn.ReLU(),
            ts.nn.MaxPool2d(2),
            ts.nn.Flatten(),
            ts.nn.Linear(64, 8),
            ts.nn.LayerNorm(8),
            ts.nn.GELU(),
            ts.nn.Linear(8, 3),
        ).to(device)
        x, t = ts.array(images, device=device), ts.array(labels, device=device)
        optimizer = make(net.parameters())
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = ts.nn.functional.cross_entropy(net(x), t)
            loss.backward()
            norm = ts.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses += [loss.item(), float(norm)]
        assert all(p.device == device for p in net.parameters())
        found.append(losses)
    np.testing.assert_allclose(found[1], found[0], rtol=2e-3)


@pytest.mark.parametrize("make", [ts.optim.SGD, ts.optim.Adagrad, ts.optim.SparseAdam])
def test_row_sparse_steps_follow_the_cpus(make: Any) -> None:
    batches = np.random.default_rng(2).integers(0, 20, (4, 7))
    found = []
    for device in ("cpu", "cuda"):
        table = ts.nn.Parameter(ts.arange(60.0, device=device).reshape(20, 3) / 60)
        optimizer = make([table], lr=0.1)
        for batch in batches:
            optimizer.zero_grad()
            y = ts.nn.functional.embedding(ts.array(batch, device=device), table, sparse=True)
            (y * y).sum().backward()
            assert isinstance(table.grad, ts.RowSparse)
            optimizer.step()
        found.append(table.detach().cpu().numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
