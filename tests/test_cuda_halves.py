"""Kernels of the GPU that take float16 and bfloat16 themselves: the bits of float32 copies, rounded once."""

from __future__ import annotations

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith.nn import functional as F
from tensorsmith.ops.norm import batch_norm_relu

pytestmark = [
    pytest.mark.skipif(not ts.cuda.is_available(), reason=ts.cuda.why_not() or ""),
    pytest.mark.usefixtures("new_tensors_on_the_gpu"),
]


def assert_same_bits(found: ts.Tensor, expected: ts.Tensor) -> None:
    """Any NaN is as good as another."""
    assert found.dtype == expected.dtype
    found, expected = (v.detach().cpu().astype("float32").numpy() for v in (found, expected))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found)[expected == 0], np.signbit(expected)[expected == 0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_pointwise_kernels_of_halves(dtype: str) -> None:
    """What reads and writes halves itself has the bits of the CPU, whatever the operands' layouts."""
    core = ts._core.ops
    rng = np.random.default_rng(5)
    unary = ["negative", "relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"]
    slopes = ["relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"]
    binary = ["add", "subtract", "multiply", "divide", *(f"{name}_backward" for name in slopes)]
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-7, -6e4, 3.3], np.float32)
    for shape in ((8,), (3000,), (37, 64), (5, 7, 33)):
        a, b = (np.resize(np.append(special, rng.standard_normal(50) * 4), shape) for _ in range(2))
        x, y = (ts.array(v.astype(np.float32), device="cpu").astype(dtype) for v in (a, b[..., ::-1]))
        pairs = [(x, y), (x, y[..., :1]), (x, y[..., ::2][..., :1]), (x, 0.3)]
        if x.ndim > 1:
            pairs += [(x, y[0]), (x.T, y.T), (ts.contiguous(x.T).T, y), (x[..., 1:], y[..., 1:])]
        for p, q in pairs:
            both = [p.cuda(), q.cuda() if isinstance(q, ts.Tensor) else q]
            for name in unary:
                assert_same_bits(getattr(core, name)(both[0]), getattr(core, name)(p))
            for name in binary:
                assert_same_bits(getattr(core, name)(*both), getattr(core, name)(p, q))
        for axis in (None, 0, -1):
            for name in ("sum", "mean"):
                wide = getattr(ts, name)(x.cuda().astype("float32"), axis=axis)
                assert_same_bits(getattr(ts, name)(x.cuda(), axis=axis), wide.astype(dtype))
                assert_same_bits(getattr(ts, name)(x.cuda(), axis=axis, dtype="float32"), wide)
        inplace = x.cuda()
        inplace *= y.cuda()
        assert_same_bits(inplace, x * y)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_is_added_to_float32(dtype: str) -> None:
    rng = np.random.default_rng(6)
    a, b = (ts.array(rng.standard_normal((37, 65)).astype(np.float32), device="cpu") for _ in range(2))
    b = b.astype(dtype)
    for p, q in ((a, b), (b, a), (a[:, 1:], b[:, 1:]), (a.T, b.T), (a, b[0]), (b, a[:, :1])):
        assert_same_bits(p.cuda() + q.cuda(), p + q)
    total = a.cuda()
    total += b.cuda()
    assert_same_bits(total, a + b)
    p, q = a.cuda().requires_grad_(), b.cuda().requires_grad_()
    (p + q).backward(a.cuda())
    assert_same_bits(p.grad, a)
    assert_same_bits(q.grad, a.astype(dtype))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("columns", [1, 5, 129, 512, 700, 4099, 17000])
def test_rows_of_halves(dtype: str, columns: int) -> None:
    """Softmax and cross-entropy read and write halves: the numbers of float32 rows, rounded once."""
    rng = np.random.default_rng(columns)
    wide = ts.array((rng.standard_normal((7, columns + 1)) * 3).astype(np.float32)).astype(dtype)
    target = ts.array(rng.integers(0, columns, 7))
    weight = ts.array(rng.random(columns).astype(np.float32))
    for x in (wide[:, :-1], wide[:, 1:], ts.contiguous(wide[:, 1:])):
        exact = x.astype("float32")
        for name in ("softmax", "log_softmax"):
            leaf = x.detach().requires_grad_()
            found, expected = getattr(F, name)(leaf, -1), getattr(F, name)(exact, -1)
            assert_same_bits(found, expected.astype(dtype))
            found.backward(x)
            backward = getattr(ts._core.ops, f"{name}_backward")
            assert_same_bits(leaf.grad, backward(exact, found.detach().astype("float32"), -1).astype(dtype))
        for options in ({}, {"weight": weight, "label_smoothing": 0.1}, {"reduction": "none"}):
            leaves = [x.detach().requires_grad_(), exact.detach().requires_grad_()]
            expected = F.cross_entropy(leaves[1], target, **options)
            assert_same_bits(F.cross_entropy(x, target, **options), expected.astype(dtype))
            with ts.autocast():
                raised = F.cross_entropy(leaves[0], target, **options)
            if dtype == "float16":  # which autocast leaves alone
                raised = F.cross_entropy(leaves[0].astype("float32"), target, **options)
            assert_same_bits(raised, expected)
            for loss in (raised, expected):
                ts.sum(loss).backward()
            assert_same_bits(leaves[0].grad, leaves[1].grad.astype(dtype))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_batch_norm_of_halves(dtype: str) -> None:
    """The numbers of float32 images, rounded once, in every layout; what is a number a channel is float32."""
    rng = np.random.default_rng(14)
    for shape in ((3, 8, 4, 4), (2, 16, 5, 3), (3, 5, 2, 8), (2, 3, 3, 3), (4, 24, 1, 1), (70, 8, 9, 8)):
        images = [ts.array(rng.standard_normal(shape).astype(np.float32)).astype(dtype) for _ in range(2)]
        last = [
            ts.permute_dims(ts.contiguous(ts.permute_dims(v, (0, 2, 3, 1))), (0, 3, 1, 2)) for v in images
        ]
        numbers = rng.random(shape[1] + 1).astype(np.float32)
        for x, dy in (images, last):
            for skip in (0, 1):  # parameters on 16 bytes, and not
                for norm in (F.batch_norm, batch_norm_relu):
                    found = []
                    for wide in (False, True):
                        w, b = (
                            ts.array(numbers)[at : at + shape[1]].detach().requires_grad_()
                            for at in (skip, 1 - skip)
                        )
                        leaf, slope = (v.astype("float32") if wide else v.detach() for v in (x, dy))
                        leaf.requires_grad_()
                        running = ts.zeros(shape[1]), ts.ones(shape[1])
                        y = norm(leaf, *running, w, b, training=True)
                        y.backward(slope)
                        if not wide and shape[2] > 1:
                            assert y.strides == x.strides
                        rounded = [v.astype(dtype) for v in (y.detach(), leaf.grad)]
                        still = norm(leaf.detach(), *running, w.detach(), b.detach()).astype(dtype)
                        found.append([*rounded, still, w.grad, b.grad, *running])
                    for narrow, expected in zip(*found, strict=True):
                        assert_same_bits(narrow, expected)
