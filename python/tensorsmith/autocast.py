"""`ts.autocast`: products in bfloat16, what needs range or precision in float32, the rest in what it is given.

The lists are PyTorch's for the CPU and, for softmax, norms but batch norm, losses and sums, those that it has for GPUs.
The core looks at the switch in `apply` (csrc/python/op.cpp): an operation with `lowered` calls that instead where its
tensors are float32 or bfloat16; one that is `raised` gets its bfloat16 tensors as float32.
"""

from __future__ import annotations

import threading
from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import _Mode
from tensorsmith.dtypes import DType, as_dtype, bfloat16

__all__ = ["autocast", "is_autocast_enabled"]

_LOWERED = {
    "matmul": "matmul_bf16",
    "linear": "linear_bf16",
    "linear_relu": "linear_relu_bf16",
    "conv2d": "conv2d_bf16",
    "conv2d_relu": "conv2d_relu_bf16",
    "conv2d_input_backward": "conv2d_input_backward_bf16",  # what transposed convolutions are
    "recurrent": "recurrent_bf16",
    "cross_entropy": "cross_entropy_wide",
}
_RAISED = (
    "softmax log_softmax logsumexp bce_with_logits weighted_bce_with_logits ctc_loss "
    "layer_norm group_norm rms_norm "
    "max_pool2d avg_pool2d fractional_max_pool2d dropout "
    "sum prod mean var vector_norm cumsum cumprod logcumsumexp "
    "exp exp2 expm1 log log2 log10 log1p power square rsqrt reciprocal sinh cosh tan asin acos"
)

for _name, _target in _LOWERED.items():
    getattr(core, _name)._autocast(getattr(core, _target))
for _name in _RAISED.split():
    getattr(core, _name)._autocast(True)


class autocast(_Mode):
    """Products of float32 tensors in bfloat16, on this thread, within a `with` block or a decorated function.

        with ts.autocast():
            loss = F.cross_entropy(model(x), t)
        loss.backward()

    device_type: "cpu" or "cuda", PyTorch's first argument; one switch serves both. dtype: bfloat16, the only one;
    TypeError for others. enabled: False switches it off inside, for what must stay exact. cache_enabled: nothing is
    cached. Blocks nest.

    - `@`, `matmul`, `linear` (and what is made of them: `einsum`, `nn.Linear`), attention and convolutions round
      float32 operands to bfloat16, sum in float32 and return bfloat16. Bias is added before the sum is rounded.
    - Recurrent layers multiply bfloat16 numbers; their sums, gates, states and results are float32.
    - softmax, losses, sums, means, exponentials, powers, pooling and norms but batch norm take bfloat16 as float32 and
      return float32. Batch norm computes in float32 and returns what it is given.
    - Other operations compute in the dtype of their operands (bfloat16 with float32: float32).
    - float16, float64, complex and integer tensors are left alone, and so are operations in place.

    Parameters stay float32 and nothing is cast ahead of use: a weight is rounded while it is packed for the product,
    and its gradient leaves the product in float32. `backward()` works in the precision of the forward pass, inside
    the block or outside. No gradient needs scaling, for bfloat16 has the range of float32. As
    torch.autocast(device_type="cpu"); Micikevicius et al., 2018, and Kalamkar et al., 2019.
    """

    def __init__(
        self,
        device_type: str | None = None,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if device_type is not None and device_type not in ("cpu", "cuda"):
            raise ValueError(f'autocast: device_type must be "cpu" or "cuda", got {device_type!r}')
        wanted: DType = as_dtype(bfloat16 if dtype is None else dtype)
        if wanted != bfloat16:
            raise TypeError(f"autocast: dtype must be bfloat16, got {wanted}")
        self.dtype = wanted
        self.enabled = bool(enabled)
        self._local = threading.local()  # one object may be entered by several threads, and more than once

    def __enter__(self) -> autocast:  # type: ignore[override]
        before = self._local.__dict__.setdefault("before", [])
        before.append(_core.set_autocast(self.enabled))
        return self

    def __exit__(self, *exc: object) -> None:
        _core.set_autocast(self._local.before.pop())


is_autocast_enabled = _core.is_autocast_enabled
