"""float16 and bfloat16 where kernels take float32: computed in float32, results and gradients rounded once.

The core looks at the lists in `apply` (csrc/python/op.cpp). Pointwise operations, reductions, products, indexing and
attention take halves by themselves; factorisations, as NumPy's, do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core

__all__: list[str] = []


def is_half(x: Any) -> bool:
    """Of a tensor, for operations made of several."""
    return str(x.dtype) in ("float16", "bfloat16")


def widened(*tensors: Any) -> list[Any]:
    """The halves among them as float32, for rules made of several operations."""
    return [core.astype(t, "float32") if t is not None and is_half(t) else t for t in tensors]


def raised(x: Any) -> Any:
    """Under autocast a bfloat16 tensor as float32, for operations made of several that are raised."""
    if _core.is_autocast_enabled() and str(getattr(x, "dtype", "")) == "bfloat16":
        return core.astype(x, "float32")
    return x


def rounded_once(formula: Callable[..., Any], *tensors: Any, raised: bool = False) -> Any:
    """A formula of several operations; of halves in float32, result and gradients rounded at the end.

    raised: under autocast the result stays float32, as a norm's.
    """
    if not any(is_half(t) for t in tensors):
        return formula(*tensors)
    y = formula(*widened(*tensors))
    dtypes = {str(t.dtype) for t in tensors}
    if len(dtypes) > 1 or (raised and dtypes == {"bfloat16"} and _core.is_autocast_enabled()):
        return y
    return core.astype(y, dtypes.pop())


# Tensors that may be halves; the first tells of which dtype results are.
_WIDENED = {
    "fractional_max_pool2d": "x samples",
    "csr_matmul": "x values",
    "recurrent": "x w_input w_hidden b_input b_hidden h0 c0",
}

# Those whose CPU kernels read and write halves.
_WIDENED_ON_GPUS = {
    "layer_norm": "x weight bias",
    "rms_norm": "x weight",
    "group_norm": "x weight bias",
    "dropout": "x",
    "max_pool2d": "x",
    "max_pool2d_taps": "x",
    "avg_pool2d": "x",
    "resample2d": "x",
}

# Products, whose kernels take bfloat16 as it is.
_WIDENED_FLOAT16 = {
    "linear": "x weight bias",
    "linear_relu": "x weight bias",
    "conv2d": "x weight bias",
    "conv2d_relu": "x weight bias",
    "conv2d_input_backward": "gradient weight",
    "conv2d_weight_backward": "gradient x",
}

for _lists, _takes in ((_WIDENED, "nothing"), (_WIDENED_ON_GPUS, "cpu"), (_WIDENED_FLOAT16, "bfloat16")):
    for _name, _parameters in _lists.items():
        getattr(core, _name)._widen(_parameters.split(), _takes)
