"""New tensors: from Python and NumPy, from nothing, and from ranges."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.dtypes import as_dtype

__all__ = [
    "arange", "array", "asarray", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "full",
    "full_like", "linspace", "meshgrid", "ones", "ones_like", "tensor", "to_device", "tril", "triu", "zeros",
    "zeros_like",
]  # fmt: skip


# zeros(2, 3), zeros((2, 3)) and NumPy's zeros((2, 3), "int64") are all welcome.
empty, zeros, ones = _core.empty, _core.zeros, _core.ones
full = define(
    core.full,
    "A tensor of `shape` with every element `fill_value`, whose dtype it takes unless one is given.",
    conjugate=False,
    fill_value=lambda dy: dy,
)
empty_like = define(core.empty_like, "A tensor with the shape and memory order of x, contents undefined.")
zeros_like = define(core.zeros_like, "Zeros with the shape, dtype and memory order of x.")
ones_like = define(core.ones_like, "Ones with the shape, dtype and memory order of x.")
full_like = define(
    core.full_like,
    "`fill_value` with the shape, dtype and memory order of x.",
    conjugate=False,
    fill_value=lambda dy: dy,
)
define(
    core.arange,
    """start, start + step, … up to but without stop; arange(n) counts from 0.

    int64 for integers, float32 as soon as one bound or the step is a float. ValueError if step is 0.""",
)


def is_number(x: Any) -> bool:
    """Whether x is a number of Python, which takes the dtype of the tensor that it meets."""
    return type(x) in (bool, int, float, complex)


def arange(start: Any = None, stop: Any = None, step: Any = 1, dtype: Any = None, device: Any = None) -> Any:
    """start, start + step, … up to but without stop; arange(n) counts from 0, and so does arange(stop=n).

    int64 for integers, the default float as soon as one bound or the step is a float: numbers of Python or NumPy, or
    0-d tensors. ValueError if step is 0."""
    if start is None:
        if stop is None:
            raise TypeError("arange: stop is needed")
        start = 0
    try:
        return core.arange(start, stop, step, dtype, device)
    except TypeError:
        bounds = [
            v.item() if hasattr(v, "item") and not getattr(v, "ndim", 0) else v for v in (start, stop, step)
        ]
        if all(a is b for a, b in zip(bounds, (start, stop, step))):
            raise
    return core.arange(*bounds, dtype, device)


eye = define(
    core.eye, "Ones on the k-th diagonal of a (rows, columns) matrix of zeros; columns defaults to rows."
)
tril = define(
    core.tril,
    "The lower triangle of the last two axes: elements above the k-th diagonal are 0.",
    conjugate=False,
    x=lambda dy, k: core.tril(dy, k),
)
triu = define(
    core.triu,
    "The upper triangle of the last two axes: elements below the k-th diagonal are 0.",
    conjugate=False,
    x=lambda dy, k: core.triu(dy, k),
)


to_device = define(
    core.to_device,
    "x on `device`, 'cpu' or 'cuda'; x itself where it is there already.",
    conjugate=False,
    x=lambda dy: dy,
)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    device: Any = None,
) -> Any:
    """`num` evenly spaced numbers from start to stop, which is the last one if endpoint. Complex bounds make them
    complex.

    start, stop: numbers, or arrays which broadcast: the numbers then lie along a new `axis`, and gradients go through
    retstep:     also the step, NaN where there is none
    """
    try:
        num = operator.index(num)
    except TypeError:
        raise TypeError(f"linspace: num must be an integer, got {num!r}") from None
    if num < 0:
        raise ValueError(f"linspace: num must be >= 0, got {num}")
    if not isinstance(endpoint, (bool, np.bool_)):
        raise TypeError(f"linspace: endpoint must be a bool, got {endpoint!r}")
    steps = num - 1 if endpoint else num
    if _extended(start) or _extended(stop):
        a, b = _bound(start, stop, dtype), _bound(stop, start, dtype)
        return _between(a, b, num, steps, endpoint, retstep, dtype, axis, device)
    if retstep:
        step = (stop - start) / steps if steps > 0 else math.nan
        return linspace(start, stop, num, endpoint, False, dtype, axis, device), step
    if isinstance(start, complex) or isinstance(stop, complex):
        a, b = complex(start), complex(stop)
        y = core.from_parts(
            linspace(a.real, b.real, num, endpoint, False, "float64", 0, device),
            linspace(a.imag, b.imag, num, endpoint, False, "float64", 0, device),
        )
        return core.astype(
            y, dtype or ("complex128" if _core.default_dtype() == "float64" else "complex64"), False
        )
    y = core.ramp(float(start), (float(stop) - float(start)) / max(steps, 1), num, device)
    if endpoint and num > 1:
        y[-1] = float(stop)
    kind = core.floor(y) if dtype is not None and as_dtype(dtype).kind in ("signed", "unsigned") else y
    return core.astype(kind, dtype or _core.default_dtype(), False)


def _extended(bound: Any) -> bool:
    """Whether a bound is more than a number: it has elements, or a gradient."""
    many = isinstance(bound, (list, tuple)) or getattr(bound, "ndim", 0) > 0
    return many or bool(getattr(bound, "requires_grad", False))


def _bound(bound: Any, other: Any, dtype: Any) -> Any:
    """A bound as a tensor: a number in the other one's dtype, numbers in lists in float64 where that is asked for."""
    y = asarray(bound)
    if y.dtype.kind != "complex" and not hasattr(bound, "dtype"):
        if dtype is not None and as_dtype(dtype) == "float64":
            return asarray(bound, "float64")
        if y.ndim == 0 and hasattr(other, "dtype") and asarray(other).dtype.kind == "floating":
            return asarray(bound, asarray(other).dtype)
    return y


def _between(
    start: Any,
    stop: Any,
    num: int,
    steps: int,
    endpoint: bool,
    retstep: bool,
    dtype: Any,
    axis: int,
    device: Any,
) -> Any:
    """linspace of arrays: a new first axis, moved to `axis`."""
    kind = _core.promote_types(start.dtype, stop.dtype)
    kind = kind if kind.kind in ("floating", "complex") else _core.default_dtype()
    if device is not None:
        start, stop = start.to(device), stop.to(device)
    start, stop = core.astype(start, kind, False), core.astype(stop, kind, False)
    step = (
        core.divide(core.subtract(stop, start), steps) if steps > 0 else core.subtract(stop, start) * math.nan
    )
    count = core.astype(core.arange(num, device=start.device), "float64" if kind == "float64" else "float32")
    count = core.reshape(count, (num,) + (1,) * step.ndim)
    start = core.broadcast_to(start, step.shape)
    y = core.add(core.multiply(count, step if steps > 0 else 0), start)
    if endpoint and num > 1:
        last = core.broadcast_to(core.expand_dims(stop, 0), (1, *y.shape[1:]))
        y = core.concat([y[:-1], last], 0)
    if dtype is not None:
        whole = as_dtype(dtype).kind in ("signed", "unsigned")
        y = core.astype(core.floor(y) if whole else y, dtype, False)
    y = core.moveaxis(y, 0, axis)
    return (y, step) if retstep else y


def meshgrid(*arrays: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    """Coordinate matrices of 1-D coordinate vectors; indexing "xy" (Cartesian) or "ij" (matrix).

    sparse: extents of 1 where a coordinate does not change    copy=False: views, whose elements may share memory"""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    n = len(arrays)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    arrays = tuple(core.reshape(asarray(a), (-1,)) for a in arrays)
    shape = [arrays[i].shape[0] for i in order]
    grids = []
    for i, a in enumerate(arrays):
        extents = [1] * n
        extents[order.index(i)] = a.shape[0]
        grid = core.reshape(a, extents)
        grid = grid if sparse else core.broadcast_to(grid, shape)
        grids.append(core.copy(grid) if copy else grid)
    return tuple(grids)


def asarray(data: Any, dtype: Any = None, copy: bool | None = None, device: Any = None) -> Any:
    """A tensor of anything array-like: numbers, nested lists, NumPy arrays, buffers, tensors.

    NumPy arrays and tensors share memory where their dtype is kept, read-only ones staying read-only; arrays of another
    byte order, unaligned ones and fields of records are copied.
    copy: True always copies; False raises ValueError where a copy would be needed; None copies only then.
    Python floats become float32, integers int64; NumPy's dtypes are kept. Gradients go through nested lists of tensors.
    On another device than the data's it is
    always a copy, and copy=False raises ValueError.
    """
    if isinstance(data, _core.TensorBase) and dtype is None and device is None and not copy:
        return data
    from tensorsmith.tensor import Tensor

    if device is not None:
        here = asarray(data, dtype, copy) if isinstance(data, Tensor) else _on_cpu(data, dtype, copy)
        if copy is False and here.device != str(device).partition(":")[0]:
            raise ValueError(f"asarray: data on {here.device} gets to {device} only by a copy")
        return core.to_device(here, device)
    if isinstance(data, Tensor):
        if dtype is not None and data.dtype != dtype and copy is False:
            raise ValueError(f"asarray: dtype {data.dtype} becomes {dtype} only by a copy")
        return core.astype(data, dtype or data.dtype, bool(copy))
    if isinstance(data, int) and not -(2**63) <= data < 2**64 and dtype is not None:
        data = float(data) if as_dtype(dtype).kind in ("floating", "complex") else data
    try:
        shared = core.asarray(data)
    except RuntimeError:
        if not (isinstance(data, (list, tuple)) and _carries_gradient(data)):
            raise
        return _assembled(data, dtype, copy)
    if copy is False and isinstance(data, (bool, int, float, complex, list, tuple)):
        raise ValueError(f"asarray: a {type(data).__name__} becomes a tensor only by a copy")
    if copy is False and isinstance(data, np.ndarray) and lies_apart(data):
        raise ValueError(
            f"asarray: an array of dtype {data.dtype} that lies so becomes a tensor only by a copy"
        )
    if dtype is not None and shared.dtype != dtype:
        if copy is False:
            raise ValueError(f"asarray: dtype {shared.dtype} becomes {dtype} only by a copy")
        if isinstance(data, (int, float, complex, list, tuple)):
            return _from_python(data, shared, dtype)
        return core.astype(shared, dtype, True)
    return core.copy(shared) if copy else shared


def _carries_gradient(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return any(map(_carries_gradient, data))
    return isinstance(data, _core.TensorBase) and data.requires_grad


def _assembled(data: Any, dtype: Any, copy: bool | None) -> Any:
    """Nested lists with gradients in them: as `asarray` without, stacked."""
    before = _core.set_grad_enabled(False)
    try:
        plain = asarray(data, dtype, copy)
    finally:
        _core.set_grad_enabled(before)

    def stacked(part: Any) -> Any:
        if isinstance(part, (list, tuple)):
            return core.stack([stacked(p) for p in part], 0)
        return core.astype(asarray(part), plain.dtype, False)

    return stacked(data)


def lies_apart(array: np.ndarray[Any, Any]) -> bool:
    """Whether its elements lie as no tensor's do: in another byte order, unaligned, or not whole elements apart."""
    size = array.itemsize or 1
    return not (array.dtype.isnative and array.flags.aligned) or any(s % size for s in array.strides)


def _on_cpu(data: Any, dtype: Any, copy: bool | None) -> Any:
    """`asarray` whatever the default device."""
    before = _core.device()
    _core.set_device("cpu")
    try:
        return asarray(data, dtype, copy)
    finally:
        _core.set_device(before)


def _from_python(data: Any, shared: Any, dtype: Any) -> Any:
    """Python numbers straight to `dtype`: floats without a stop at float32, integers only if they fit."""
    if shared.dtype.kind in ("floating", "complex"):
        return core.astype(core.asarray(np.asarray(data)), dtype, True)
    y = core.astype(shared, dtype, True)
    if y.dtype.kind in ("signed", "unsigned") and not core.all(core.equal(y, shared)):
        wrong = core.not_equal(y, shared)
        value = core.reshape(shared, (-1,))[int(core.argmax(core.reshape(wrong, (-1,))))].item()
        raise OverflowError(f"asarray: the integer {value} does not fit {y.dtype}")
    return y


def array(
    data: Any, dtype: Any = None, copy: bool | None = True, device: Any = None, *, ndmin: int = 0
) -> Any:
    """A tensor of anything array-like, a copy unless copy is False or None (NumPy's `array`); ValueError where False
    would take one.

    ndmin: as many dimensions at least; those that are missing come first, with extent 1"""
    y = asarray(data, dtype, copy, device)
    return core.reshape(y, (1,) * (ndmin - y.ndim) + tuple(y.shape)) if y.ndim < ndmin else y


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Any:
    """A new leaf tensor with a copy of the data (PyTorch's `tensor`)."""
    y = asarray(data, dtype, True, device)
    if y.requires_grad and isinstance(data, (list, tuple)):
        raise RuntimeError("tensor: a list with a gradient in it would lose that; use ts.asarray or ts.stack")
    return y.detach().requires_grad_(requires_grad)


def from_numpy(array: Any) -> Any:
    """A tensor over the memory of a NumPy array, read-only if the array is.

    ValueError if the array's strides are not whole elements, TypeError for a dtype without a counterpart."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a NumPy array, got {type(array).__name__}")
    if array.itemsize and any(s % array.itemsize for s in array.strides):
        raise ValueError(
            f"from_numpy: strides {array.strides} are not multiples of the item size {array.itemsize}"
        )
    return core.asarray(array)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """A tensor over the memory of another library's array (DLPack); a read-only one stays read-only.

    x: anything with `__dlpack__`, or a capsule, which can be consumed once. device: "cpu" or "cuda". copy: True copies,
    False raises BufferError where the producer would have to."""
    from tensorsmith.tensor import Tensor

    if isinstance(x, Tensor):
        if copy is False and device is not None and str(device).partition(":")[0] != x.device:
            raise BufferError(f"from_dlpack: a tensor on {x.device} gets to {device} only by a copy")
        y = x.detach() if device is None else core.to_device(x.detach(), device)
        return core.copy(y) if copy else y
    if not hasattr(x, "__dlpack__"):
        return _core.from_dlpack(x)[0]
    target = None if device is None else (1, 0) if str(device).partition(":")[0] == "cpu" else (2, 0)
    asked: dict[str, Any] = {"max_version": (1, 0)}
    if target is not None and tuple(x.__dlpack_device__()) != target:
        asked["dl_device"] = target
    if copy is not None:
        asked["copy"] = copy
    place = getattr(x, "__dlpack_device__", None)  # some producers of the CPU have none
    if place is not None and place()[0] == 2 and (target is None or target[0] == 2):
        from tensorsmith import cuda

        asked["stream"] = cuda.current_stream().cuda_stream  # waits for what the producer has given its own
    try:
        capsule = x.__dlpack__(**asked)
    except TypeError:  # a producer of before DLPack 1.0
        if copy is False and "dl_device" in asked:
            raise BufferError(f"from_dlpack: a {type(x).__name__} gets to {device} only by a copy") from None
        capsule = x.__dlpack__(**{k: v for k, v in asked.items() if k == "stream"})
    y, copied = _core.from_dlpack(capsule)
    if device is not None:
        y = core.to_device(y, device)
    return core.copy(y) if copy and not copied else y
