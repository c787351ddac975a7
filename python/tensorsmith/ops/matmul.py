"""Matrix products: docstrings and gradient rules."""

from __future__ import annotations

import math
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__ = ["linear", "linear_relu", "matmul"]


def _vector_gradients(dy: Any, a: Any, b: Any, needs: Any) -> Any:
    """Of products with a vector, by products with vectors."""
    da = db = None
    if a.ndim == 1 and b.ndim == 1:
        return dy * b if needs[0] else None, dy * a if needs[1] else None
    if b.ndim == 1:  # a (..., M, K), dy (..., M)
        if needs[0]:
            da = core.expand_dims(dy, -1) * b
        if needs[1]:
            db = core.matmul(core.reshape(dy, (-1,)), core.reshape(a, (dy.size, a.shape[-1])))
        return da, db
    if needs[0]:  # b (K, N), dy (N)
        da = core.matmul(b, dy)
    if needs[1]:
        db = core.expand_dims(a, 1) * dy
    return da, db


def _times(a: Any, b: Any, dtype: Any) -> Any:
    """a @ b in the dtype of the operands, which is `dtype`."""
    return core.matmul(a, b)


def _rows(x: Any) -> Any:
    """x as a matrix."""
    return core.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _weight(gradient: Any, x: Any, dtype: Any) -> Any:
    if "complex" in (gradient.dtype.kind, x.dtype.kind):  # the core's takes real numbers
        return core.matmul(core.matrix_transpose(_rows(gradient)), _rows(x))
    return core.linear_weight_backward(gradient, x)


def _product_gradients(
    dy: Any, a: Any, b: Any, needs: Any, times: Any = _times, weight: Any = _weight
) -> Any:
    da = db = None
    if a.ndim == 2 and b.ndim == 2:
        if needs[0]:
            da = times(dy, core.matrix_transpose(b), a.dtype)
        if needs[1]:
            db = times(core.matrix_transpose(a), dy, b.dtype)
        return da, db
    # A 1-D operand is a row on the left and a column on the right.
    if a.ndim == 1:
        dy = core.expand_dims(dy, -2 if b.ndim > 1 else 0)
    if b.ndim == 1:
        dy = core.expand_dims(dy, -1)
    rows = core.expand_dims(a, 0) if a.ndim == 1 else a
    columns = core.expand_dims(b, 1) if b.ndim == 1 else b
    if needs[0]:
        da = times(dy, core.matrix_transpose(columns), a.dtype)
        if a.ndim == 1:
            da = core.squeeze(da, -2)
    if needs[1]:
        if columns.ndim == 2 and rows.ndim > 2:  # one product over all rows, rather than a sum of products
            db = weight(rows, dy, b.dtype)
        else:
            db = times(core.matrix_transpose(rows), dy, b.dtype)
        if b.ndim == 1:
            db = core.squeeze(db, -1)
    return da, db


def _gradients(dy: Any, a: Any, b: Any, needs: Any) -> Any:
    if b.ndim == 1 or (a.ndim == 1 and b.ndim == 2):
        return _vector_gradients(dy, a, b, needs)
    return _product_gradients(dy, a, b, needs)


matmul = define(
    core.matmul,
    """The matrix product, with the rules of numpy.matmul and the @ operator.

    a: (..., M, K) or (K,)    b: (..., K, N) or (K,), any strides; leading axes broadcast, dtypes promote
    returns: (..., M, N); the axis of a 1-D operand is dropped

    Sums run over k in a fixed order: a row's result does not depend on the rows beside it, on threads or on
    the SIMD level. A product with a 1-D operand has an order of its own, that of `sum` (docs/kernels/gemm.md):
    x @ w may differ from the row of x[None] @ w in the last bit. ValueError where shapes do not fit.
    """,
    wrt="a b",
    vjp=_gradients,
)


def _spread(dy: Any, other: Any, shape: Any, axes: Any) -> Any:
    """dy times the other factor of a sum over the last `axes` axes, for a factor of this shape."""
    g = core.expand_dims(dy, tuple(range(-axes, 0))) * other
    if axes and tuple(g.shape[-axes:]) != tuple(shape[-axes:]):  # where `other` has extents of 1
        from tensorsmith.ops.manipulate import broadcast_shapes

        g = core.broadcast_to(g, broadcast_shapes(g.shape, shape))
    return g


define(
    core.vecdot,
    """The sum of a b, which broadcast, over their last `axes` axes, in the order of `sum`.

    a, b: any shapes that broadcast    returns: the leading axes

    ValueError where shapes do not fit or have fewer than `axes` axes.
    """,
    a=lambda dy, a_shape, b, axes: _spread(dy, b, a_shape, axes),
    b=lambda dy, a, b_shape, axes: _spread(dy, a, b_shape, axes),
)


def _linear_gradients(dy: Any, x: Any, weight: Any, needs: Any) -> Any:
    dx = core.matmul(dy, weight) if needs[0] else None
    dweight = core.linear_weight_backward(dy, x) if needs[1] else None
    dbias = core.sum(dy, tuple(range(dy.ndim - 1))) if needs[2] else None
    return dx, dweight, dbias


linear = define(
    core.linear,
    """x @ weight.T + bias, the bias added as each result is stored; as torch.nn.functional.linear.

    x: (..., I)    weight: (O, I)    bias: (O) or None, all of one dtype    returns: (..., O)

    ValueError where shapes do not fit, TypeError where dtypes differ.
    """,
    wrt="x weight bias",
    vjp=_linear_gradients,
)


def _linear_relu_gradients(dy: Any, y: Any, x: Any, weight: Any, needs: Any) -> Any:
    return _linear_gradients(core.relu_backward(dy, y), x, weight, needs)


linear_relu = define(
    core.linear_relu,
    """relu(linear(x, weight, bias)) in one pass over the result.""",
    wrt="x weight bias",
    vjp=_linear_relu_gradients,
)


define(
    core.linear_weight_backward,
    """The sum over all rows of gradient (..., O) times x (..., I): (O, I).""",
    gradient=lambda dy, x: core.linear(x, dy),
    x=lambda dy, gradient: core.matmul(gradient, dy),
)

# --- products of bfloat16 numbers whose operands may be float32: what autocast calls ---------------------


def _gradients_bf16(dy: Any, a: Any, b: Any, needs: Any) -> Any:
    return _product_gradients(dy, a, b, needs, core.matmul_bf16, core.linear_weight_backward_bf16)


def _linear_gradients_bf16(dy: Any, x: Any, weight: Any, needs: Any) -> Any:
    dx = core.matmul_bf16(dy, weight, x.dtype) if needs[0] else None
    dweight = core.linear_weight_backward_bf16(dy, x, weight.dtype) if needs[1] else None
    dbias = core.sum(dy, tuple(range(dy.ndim - 1)), "float32") if needs[2] else None
    return dx, dweight, dbias


def _linear_relu_gradients_bf16(dy: Any, y: Any, x: Any, weight: Any, needs: Any) -> Any:
    return _linear_gradients_bf16(core.relu_backward(dy, y), x, weight, needs)


define(
    core.matmul_bf16,
    """`matmul` of a and b (bfloat16 or float32) rounded to bfloat16, summed in float32.

    dtype: of the result, bfloat16 (None) or float32. Gradients are rounded to their operand's dtype once.
    TypeError for other dtypes. The order of the sums is that of the machine's engine (docs/kernels/bf16.md).
    """,
    wrt="a b",
    vjp=_gradients_bf16,
)
define(
    core.linear_bf16,
    """`linear` as a product of bfloat16 numbers: x, weight, bias of bfloat16 or float32; the result is bfloat16.

    Sums and bias are float32, and the result is rounded once.
    """,
    wrt="x weight bias",
    vjp=_linear_gradients_bf16,
)
define(
    core.linear_relu_bf16,
    """relu(linear_bf16(x, weight, bias)) in one pass over the result.""",
    wrt="x weight bias",
    vjp=_linear_relu_gradients_bf16,
)
define(
    core.linear_weight_backward_bf16,
    """The sum over all rows of gradient (..., O) times x (..., I): (O, I), as a product of bfloat16 numbers.

    dtype: of the result, bfloat16 (None) or float32.
    """,
    gradient=lambda dy, x, gradient: core.matmul_bf16(x, core.matrix_transpose(dy), gradient.dtype),
    x=lambda dy, gradient, x: core.matmul_bf16(gradient, dy, x.dtype),
)
