"""Row-sparse gradients: the bits of dense ones, who takes them and who says no."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.nn import functional as F

ROWS, COLUMNS = 50, 24
BATCHES = [np.random.default_rng(seed).integers(0, 20, (6, 5)) for seed in range(4)]


def table(dtype: Any = None) -> nn.Parameter:
    values = np.random.default_rng(7).normal(size=(ROWS, COLUMNS))
    return nn.Parameter(ts.asarray(values, dtype=dtype or ts.float32))


def backward(weight: nn.Parameter, batch: np.ndarray, sparse: bool, **options: Any) -> None:
    y = F.embedding(ts.asarray(batch), weight, sparse=sparse, **options)
    (y * y * ts.asarray(np.arange(COLUMNS), dtype=weight.dtype)).sum().backward()


@pytest.mark.parametrize("dtype", [ts.float32, ts.float64], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 3}, {"padding_idx": -40}, {"scale_grad_by_freq": True}]
)
def test_the_bits_of_the_dense_gradient(dtype: Any, options: dict[str, Any]) -> None:
    sparse, dense = table(dtype), table(dtype)
    for batch in BATCHES[:2]:  # accumulated
        backward(sparse, batch, True, **options)
        backward(dense, batch, False, **options)
    g = sparse.grad
    assert isinstance(g, ts.RowSparse) and g.is_sparse
    assert tuple(g.shape) == (ROWS, COLUMNS) and g.dtype == dtype
    np.testing.assert_allclose(g.to_dense().numpy(), dense.grad.numpy(), rtol=1e-5)
    c = g.coalesce()
    assert c.is_coalesced() and (np.diff(c.rows.numpy()) > 0).all()
    assert c.coalesce() is c
    assert c.indices().shape == (1, c.rows.size) and c.values() is c.data
    assert c.to_dense().numpy().tobytes() == g.to_dense().numpy().tobytes()
    one = table(dtype)
    backward(one, BATCHES[0], True, **options)
    dense.grad = None
    backward(dense, BATCHES[0], False, **options)
    assert one.grad.to_dense().numpy().tobytes() == dense.grad.numpy().tobytes()
    assert one.grad.coalesce().to_dense().numpy().tobytes() == dense.grad.numpy().tobytes()


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "sgd maximize": lambda p: optim.SGD(p, lr=0.1, maximize=True),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
}


@pytest.mark.parametrize("max_norm", [None, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_dense_gradients(name: str, max_norm: float | None) -> None:
    """What is not looked up has gradient zero, which these optimizers answer with no move."""
    tables = [table(), table()]
    layers = [nn.Parameter(ts.ones((COLUMNS,))) for _ in tables]  # a dense one in the same call
    optimizers = [OPTIMIZERS[name]([t, layer]) for t, layer in zip(tables, layers, strict=True)]
    for batch in BATCHES:
        for t, layer, optimizer, sparse in zip(tables, layers, optimizers, (True, False), strict=True):
            optimizer.zero_grad()
            y = F.embedding(ts.asarray(batch), t, sparse=sparse)
            (y * y * layer).sum().backward()
            optimizer.step(max_norm=max_norm)
    tolerance = 0 if max_norm is None else 1e-6  # the norms are summed in another order
    for a, b in zip([tables[0], layers[0]], [tables[1], layers[1]], strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance)


def test_sparse_adam() -> None:
    """Adam on the rows looked up, with the number of steps of the whole table."""
    weight = table(ts.float64)
    expected = weight.detach().numpy().copy()
    m, v = np.zeros_like(expected), np.zeros_like(expected)
    optimizer = optim.SparseAdam([weight], lr=0.05, betas=(0.8, 0.9), eps=1e-3)
    for t, batch in enumerate(BATCHES, 1):
        optimizer.zero_grad()
        backward(weight, batch, True)
        rows = np.unique(batch)
        g = weight.grad.to_dense().numpy()[rows]
        m[rows] = 0.8 * m[rows] + (1 - 0.8) * g
        v[rows] = 0.9 * v[rows] + (1 - 0.9) * g * g
        rate = 0.05 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t)
        expected[rows] -= rate * m[rows] / (np.sqrt(v[rows]) + 1e-3)
        optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)
    state = optimizer.state_dict()
    assert list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    again = optim.SparseAdam([table(ts.float64)])
    again.load_state_dict(state)
    np.testing.assert_array_equal(
        again.state_dict()["state"][0]["exp_avg"].numpy(),
        m.astype(np.float64) * 0 + state["state"][0]["exp_avg"].numpy(),
    )
    weight.grad = ts.ones_like(weight)
    with pytest.raises(ValueError, match=r"SparseAdam: params\[0\] has a dense gradient; use Adam"):
        optimizer.step()


def test_large_tables_and_threads() -> None:
    """Many pieces; rows that cross them."""
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 3000, 9000)
    results = []
    threads = ts.get_num_threads()
    try:
        for count, sparse in ((1, True), (2, True), (2, False)):
            ts.set_num_threads(count)
            weight = nn.Parameter(ts.asarray(rng.normal(size=(3000, 33)) * 0 + 1, dtype=ts.float32))
            optimizer = optim.Adagrad([weight, nn.Parameter(ts.ones((5,)))], lr=0.5)
            for _ in range(2):
                optimizer.zero_grad()
                y = F.embedding(ts.asarray(batch), weight, sparse=sparse)
                (y * ts.asarray(np.arange(33), dtype=ts.float32)).sum().backward()
                optimizer.step()
            results.append(weight.detach().numpy().tobytes())
    finally:
        ts.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


def test_clipping() -> None:
    sparse, dense = table(), table()
    backward(sparse, BATCHES[0], True)
    backward(dense, BATCHES[0], False)
    for w in (sparse, dense):
        norm = nn.utils.clip_grad_norm_([w], 0.5)
        np.testing.assert_allclose(
            float(norm), np.linalg.norm(dense.grad.numpy()) if w is sparse else norm, rtol=1e-6
        )
    np.testing.assert_allclose(sparse.grad.to_dense().numpy(), dense.grad.numpy(), rtol=1e-5)
    for w in (sparse, dense):
        nn.utils.clip_grad_value_([w], 0.01)
    np.testing.assert_allclose(sparse.grad.to_dense().numpy(), dense.grad.numpy(), rtol=1e-5)


def test_with_dense_gradients_and_numbers() -> None:
    weight = table()
    y = F.embedding(ts.asarray(BATCHES[0]), weight, sparse=True).sum() + (weight * 2).sum()
    y.backward()  # tied: one use is dense
    assert isinstance(weight.grad, ts.Tensor)
    expected = 2 + np.bincount(BATCHES[0].ravel(), minlength=ROWS)[:, None] * np.ones(COLUMNS)
    np.testing.assert_array_equal(weight.grad.numpy(), expected)
    weight.grad = None
    backward(weight, BATCHES[0], True)
    half = weight.grad * 0.5
    np.testing.assert_array_equal(half.to_dense().numpy(), weight.grad.to_dense().numpy() * 0.5)
    copied = pickle.loads(pickle.dumps(weight.grad))
    np.testing.assert_array_equal(copied.to_dense().numpy(), weight.grad.to_dense().numpy())
    optimizer = optim.SGD([weight], lr=0.1)
    optimizer.zero_grad(set_to_none=False)
    assert weight.grad.rows.size == 0
    before = weight.detach().numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(weight.detach().numpy(), before)
    backward(weight, BATCHES[0], True)
    optimizer.step(zero_grad=True)
    assert weight.grad.rows.size == 0
    # A table that was itself computed gets a dense gradient.
    base = table()
    F.embedding(ts.asarray(BATCHES[0]), base * 2, sparse=True).sum().backward()
    assert isinstance(base.grad, ts.Tensor)


def test_layer() -> None:
    layer = nn.Embedding(ROWS, COLUMNS, padding_idx=0, sparse=True)
    layer(ts.asarray(BATCHES[0])).sum().backward()
    assert isinstance(layer.weight.grad, ts.RowSparse)
    assert "sparse=True" in repr(layer) and list(layer.state_dict()) == ["weight"]
    layer.double()
    assert layer.weight.grad.dtype == ts.float64
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.rows.size == 0
    limited = nn.Embedding(ROWS, COLUMNS, max_norm=1.0)
    before = limited.weight.detach().numpy().copy()
    limited(ts.asarray(BATCHES[0]))
    norms = np.linalg.norm(limited.weight.detach().numpy(), axis=1)
    seen = np.unique(BATCHES[0])
    np.testing.assert_allclose(norms[seen], 1.0, rtol=1e-5)
    others = np.setdiff1d(np.arange(ROWS), seen)
    np.testing.assert_array_equal(limited.weight.detach().numpy()[others], before[others])


def test_who_says_no() -> None:
    weight = table()
    backward(weight, BATCHES[0], True)
    before = weight.detach().numpy().copy()
    for cls in (optim.Adam, optim.AdamW, optim.RMSprop, optim.Adadelta, optim.Lion, optim.LAMB, optim.Adamax):
        with pytest.raises(TypeError, match=f"{cls.__name__}: a parameter has a row-sparse gradient"):
            cls([weight]).step()
    with pytest.raises(ValueError, match="SGD: a row-sparse gradient needs momentum 0 and weight_decay 0"):
        optim.SGD([weight], lr=0.1, momentum=0.9).step()
    with pytest.raises(ValueError, match="Adagrad: a row-sparse gradient needs weight_decay 0"):
        optim.Adagrad([weight], weight_decay=0.1).step()
    np.testing.assert_array_equal(weight.detach().numpy(), before)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        F.embedding(ts.asarray(BATCHES[0]), weight, sparse=True).sum().backward(create_graph=True)
    with pytest.raises(ValueError, match="must have the tensor's shape"):
        weight.grad = ts.RowSparse(ts.asarray([0]), ts.ones((1, 3)), (2, 3))
    with pytest.raises(ValueError, match="2 rows of"):
        ts.RowSparse(ts.asarray([0, 1]), ts.ones((1, 3)), (2, 3))
    with pytest.raises(IndexError, match="holds 60"):
        weight.grad = ts.RowSparse(ts.asarray([60]), ts.ones((1, COLUMNS)), (ROWS, COLUMNS), True)
        optim.SGD([weight], lr=0.1).step()
    weight.register_hook(lambda g: g * 2)
    with pytest.raises(TypeError, match="must return None for a row-sparse gradient"):
        backward(weight, BATCHES[0], True)


def test_a_dense_gradient_in_a_later_group_moves_nothing() -> None:
    weight, dense = table(), nn.Parameter(ts.ones((2,)))
    before = weight.detach().numpy().copy()
    optimizer = optim.SparseAdam([{"params": [weight]}, {"params": [dense]}], lr=0.1)
    backward(weight, BATCHES[0], True)
    dense.grad = ts.ones((2,))
    with pytest.raises(ValueError, match=r"params\[0\] has a dense gradient"):
        optimizer.step()
    np.testing.assert_array_equal(weight.detach().numpy(), before)
    assert optimizer.state_dict()["state"] == {}


def test_jit_refuses() -> None:
    weight = table()

    @ts.jit
    def step(batch: Any) -> Any:
        loss = F.embedding(batch, weight, sparse=True).sum()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="sparse=True cannot be part of"):
        step(ts.asarray(BATCHES[0]))
