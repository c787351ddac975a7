"""Recurrent layers over whole sequences: docstring and gradient rules."""

from __future__ import annotations

from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__ = ["recurrent"]


def _steps(x: Any, lengths: Any) -> Any:
    """x with zeros beyond each sequence's end: the gates have no gradient there, but 0 times NaN is none."""
    if lengths is None:
        return x
    inside = core.expand_dims(core.arange(x.shape[0], device=x.device), 1) < lengths
    return core.where(core.expand_dims(inside, 2), x, 0.0)


def _gradients(
    dys: Any,
    x: Any,
    w_input: Any,
    w_hidden: Any,
    b_input: Any,
    b_hidden: Any,
    h0: Any,
    c0: Any,
    lengths: Any,
    y: Any,
    gates: Any,
    extra: Any,
    cell: Any,
    reverse: Any,
    needs: Any,
) -> Any:
    dgates, dhidden, before, dh0, dc0 = core.recurrent_backward(
        gates, extra, y, w_hidden, h0, c0, lengths, *dys[:2], dys[2] if cell == "lstm" else None, cell, reverse
    )  # fmt: skip
    dx = core.matmul(dgates, w_input) if needs[0] else None
    dw_input = core.linear_weight_backward(dgates, _steps(x, lengths)) if needs[1] else None
    dw_hidden = core.linear_weight_backward(dhidden, before) if needs[2] else None
    db_input, db_hidden = _bias_gradients(dgates, dhidden, cell, needs)
    return dx, dw_input, dw_hidden, db_input, db_hidden, dh0, dc0 if cell == "lstm" else None


def _bias_gradients(dgates: Any, dhidden: Any, cell: str, needs: Any, dtype: Any = None) -> tuple[Any, Any]:
    db_input = core.sum(dgates, (0, 1), dtype) if needs[3] or (needs[4] and cell != "gru") else None
    return db_input, (core.sum(dhidden, (0, 1), dtype) if cell == "gru" else db_input) if needs[4] else None


def _gradients_bf16(
    dys: Any,
    x: Any,
    w_input: Any,
    w_hidden: Any,
    b_input: Any,
    b_hidden: Any,
    h0: Any,
    c0: Any,
    lengths: Any,
    y: Any,
    gates: Any,
    extra: Any,
    cell: Any,
    reverse: Any,
    needs: Any,
) -> Any:
    dgates, dhidden, before, dh0, dc0 = core.recurrent_bf16_backward(
        gates, extra, y, w_hidden, h0, c0, lengths, *dys[:2], dys[2] if cell == "lstm" else None, cell, reverse
    )  # fmt: skip
    dx = core.matmul_bf16(dgates, w_input, x.dtype) if needs[0] else None
    dw_input = (
        core.linear_weight_backward_bf16(dgates, _steps(x, lengths), w_input.dtype) if needs[1] else None
    )
    dw_hidden = core.linear_weight_backward_bf16(dhidden, before, w_hidden.dtype) if needs[2] else None
    db_input, db_hidden = _bias_gradients(dgates, dhidden, cell, needs, "float32")
    sums = [db_input, db_hidden, dh0, dc0 if cell == "lstm" else None]
    return (
        dx,
        dw_input,
        dw_hidden,
        *(
            d if d is None or p is None or d.dtype == p.dtype else core.astype(d, p.dtype)
            for d, p in zip(sums, (b_input, b_hidden, h0, c0))
        ),
    )


recurrent = define(
    core.recurrent,
    """One layer and direction of a recurrent network, over all steps at once.

    a_t = w_input x_t + b_input + w_hidden h_{t-1} + b_hidden, and by `cell`
        "tanh", "relu"  h_t = cell(a_t)
        "lstm"          c_t = f c_{t-1} + i g, h_t = o tanh(c_t); gates i, f, g, o (Hochreiter & Schmidhuber 1997)
        "gru"           h_t = (1 - z) n + z h_{t-1}, n = tanh(a_n + r (w_n h_{t-1} + b_n)); gates r, z, n (Cho 2014)

    x: (T, N, I), floating-point    w_input: (G H, I)    w_hidden: (G H, H)    biases: (G H) or None
    h0, c0: (N, H), c0 for "lstm" only    lengths: (N) int64, the steps of each sequence, or None
    reverse: from each sequence's last step to its first
    returns: y (T, N, H), 0 beyond a sequence's end; h and c (N, H) behind its last step (c is empty without a cell
             state)

    ValueError where shapes do not fit, TypeError where dtypes differ.""",
    wrt="x w_input w_hidden b_input b_hidden h0 c0",
    vjp=_gradients,
)

define(
    core.recurrent_backward,
    """The gradients of recurrent at its gates and its first state. It has no rule of its own: a second derivative
    through a recurrent layer raises an error.""",
)

define(
    core.recurrent_bf16,
    """`recurrent` as autocast runs it: products of bfloat16 numbers, summed in float32; gates, states and results are
    float32.

    x, weights, biases and states are bfloat16 or float32, in any mixture; TypeError for other dtypes. What is
    multiplied is rounded to bfloat16: x, h, the weights and, backward, the gates' gradients. The order of the sums is
    that of the machine's engine (docs/kernels/bf16.md). On a GPU the recurrent part is multiplied in float32.""",
    wrt="x w_input w_hidden b_input b_hidden h0 c0",
    vjp=_gradients_bf16,
)

define(
    core.recurrent_bf16_backward,
    """recurrent_backward for recurrent_bf16; it has no rule either.""",
)
