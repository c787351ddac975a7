"""tensorsmith: deep learning from first principles.

`tensorsmith` itself is an array namespace with NumPy's semantics (`ts.sum(x, axis=, keepdims=)`); `tensorsmith.nn`,
`optim` and `utils.data` have PyTorch's names; `ts.grad`, `ts.vjp` and `ts.jvp` are JAX's words.
"""

from __future__ import annotations

import math as _math
from typing import TYPE_CHECKING, Any

from tensorsmith import _core
from tensorsmith._core import AxisError as AxisError
from tensorsmith.dtypes import (
    DType as DType,
    bfloat16 as bfloat16,
    bool_ as bool_,
    complex64 as complex64,
    complex128 as complex128,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    get_default_dtype as get_default_dtype,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    isdtype as isdtype,
    set_default_dtype as set_default_dtype,
    uint8 as uint8,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
)
from tensorsmith.errors import FileFormatError as FileFormatError, errstate as errstate
from tensorsmith.inspection import (
    __array_namespace_info__ as __array_namespace_info__,
    can_cast as can_cast,
    finfo as finfo,
    iinfo as iinfo,
    promote_types as promote_types,
    result_type as result_type,
)
from tensorsmith.tensor import Tensor as Tensor
from tensorsmith.autograd import (
    enable_grad as enable_grad,
    grad as grad,
    is_grad_enabled as is_grad_enabled,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
    value_and_grad as value_and_grad,
    vjp as vjp,
)
from tensorsmith.ops import *
from tensorsmith import autograd as autograd, ops as ops, random as random
from tensorsmith.autocast import autocast as autocast, is_autocast_enabled as is_autocast_enabled
from tensorsmith.jit import jit as jit
from tensorsmith.random import manual_seed as manual_seed

if TYPE_CHECKING:
    from tensorsmith.autograd.transforms import hessian as hessian, jacobian as jacobian, jvp as jvp
    from tensorsmith import (
        cuda as cuda,
        data as data,
        func as func,
        linalg as linalg,
        nn as nn,
        optim as optim,
        utils as utils,
    )
    from tensorsmith.environment import config as config
    from tensorsmith.npy import savez as savez, savez_compressed as savez_compressed
    from tensorsmith.serialize import (
        load as load,
        load_checkpoint as load_checkpoint,
        save as save,
        save_checkpoint as save_checkpoint,
    )
    from tensorsmith.text import (
        array2string as array2string,
        array_repr as array_repr,
        array_str as array_str,
        base_repr as base_repr,
        binary_repr as binary_repr,
        format_float_positional as format_float_positional,
        format_float_scientific as format_float_scientific,
        fromfile as fromfile,
        genfromtxt as genfromtxt,
        get_printoptions as get_printoptions,
        loadtxt as loadtxt,
        printoptions as printoptions,
        savetxt as savetxt,
        set_printoptions as set_printoptions,
    )

__version__ = "0.1.0"

bool = bool_  # the Array API's name
# NumPy's names of C's types.
half, single, double, csingle, cdouble = float16, float32, float64, complex64, complex128
byte, short, intc, int_, long, intp, longlong = int8, int16, int32, int64, int64, int64, int64
ubyte, ushort, uintc, uint, ulong, uintp, ulonglong = uint8, uint16, uint32, uint64, uint64, uint64, uint64
True_, False_ = True, False
e = _math.e
euler_gamma = 0.5772156649015329
inf = _math.inf
nan = _math.nan
newaxis = None
pi = _math.pi

get_num_threads = _core.num_threads
allocator_stats = _core.allocator_stats
empty_cache = _core.empty_cache


def set_num_threads(count: int) -> None:
    """Uses `count` threads from now on, 1 to 256; results do not depend on it. ValueError otherwise."""
    _core.set_num_threads(count)


def set_default_device(device: str) -> None:
    """Where this thread's new tensors lie from now on, "cpu" or "cuda". RuntimeError where there is no GPU."""
    _core.set_device(device)


def get_default_device() -> str:
    """Where this thread's new tensors lie."""
    return str(_core.device())


__array_api_version__ = "2025.12"

_MODULES = (
    "fft", "func", "linalg", "nn", "optim", "utils", "data", "cuda", "bench", "cli", "train", "serialize", "profiler",
)  # fmt: skip
_MEMBERS = {
    "config": "environment",
    "hessian": "autograd.transforms",
    "jacobian": "autograd.transforms",
    "jvp": "autograd.transforms",
    "load": "serialize",
    "load_checkpoint": "serialize",
    "save": "serialize",
    "save_checkpoint": "serialize",
    "savez": "npy",
    "savez_compressed": "npy",
    **dict.fromkeys(
        (
            "array2string", "array_repr", "array_str", "base_repr", "binary_repr", "format_float_positional",
            "format_float_scientific", "fromfile", "genfromtxt", "get_printoptions", "loadtxt", "printoptions",
            "savetxt", "set_printoptions",
        ),
        "text",
    ),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """`ts.nn`, `ts.optim`, … are imported at their first use, so that `import tensorsmith` stays quick."""
    import importlib

    if name in _MEMBERS:
        value = getattr(importlib.import_module(f"tensorsmith.{_MEMBERS[name]}"), name)
        globals()[name] = value  # over the submodule of the same name
        return value
    if name in _MODULES:
        return importlib.import_module(f"tensorsmith.{name}")
    raise AttributeError(f"module 'tensorsmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_MEMBERS})
