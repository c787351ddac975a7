"""NumPy's functions on our tensors: `np.exp(t)`, `np.concatenate([t, u])` and `array + t` give tensors.

A function of the same name here is called, gradient and all. What only NumPy has runs on the tensors' memory and its
arrays come back as tensors; there a gradient would be lost, so a tensor that carries one is refused.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.ops.creation import asarray
from tensorsmith.ops.ufunc import KEYWORDS, TAKE_KEYWORDS

# NumPy's ufuncs whose name is another one here.
_UFUNCS = {
    "invert": "bitwise_invert", "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift",
    "conjugate": "conj", "rint": "round", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "arctan2": "atan2",
    "arccosh": "acosh", "arcsinh": "asinh", "arctanh": "atanh", "true_divide": "divide",
}  # fmt: skip
_REDUCTIONS = {
    "add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all", "logical_or": "any",
}  # fmt: skip
_RUNNING = {"add": "cumsum", "multiply": "cumprod"}
# What NumPy does with an array as an object, not with its numbers; its files may be open, and named first.
_PLAIN = {
    "array2string",
    "array_repr",
    "array_str",
    "shape",
    "ndim",
    "size",
    "may_share_memory",
    "save",
    "savez",
    "savez_compressed",
    "shares_memory",
}
# Whose further parameters are in another order here, and go by their names.
_BY_NAME = {"all", "amax", "amin", "any", "argmax", "argmin", "max", "mean", "min", "prod", "sum"}
_BY_NAME |= {"empty_like", "full_like", "ones_like", "zeros_like"}


def _is_tensor(x: Any) -> bool:
    return isinstance(x, _core.TensorBase)


def _plain(name: str, x: Any) -> Any:
    """Tensors in (nested) arguments as NumPy arrays; TypeError for one that carries a gradient."""
    if _is_tensor(x):
        if x.requires_grad and _core.is_grad_enabled():
            raise TypeError(f"numpy.{name}: NumPy would lose the gradient of a tensor; use .detach() first")
        return x.numpy()
    if isinstance(x, (list, tuple)) and any(_is_tensor(y) or isinstance(y, (list, tuple)) for y in x):
        parts = [_plain(name, y) for y in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, dict):
        return {key: _plain(name, y) for key, y in x.items()}
    return x


def _tensors(x: Any) -> Any:
    """NumPy arrays in a result as tensors."""
    if isinstance(x, (np.ndarray, np.generic)):
        try:
            return core.asarray(x)
        except TypeError:  # strings, objects
            return x
    if isinstance(x, tuple):
        return type(x)(*map(_tensors, x)) if hasattr(x, "_fields") else tuple(map(_tensors, x))
    return [_tensors(y) for y in x] if isinstance(x, list) else x


def _store(name: str, result: Any, out: Any, where: Any = True) -> Any:
    """The result in `out`, a tensor or a NumPy array; the result itself where that is None."""
    if out is None:
        return result
    if _is_tensor(out):
        return core.copy(result, out=out)
    np.copyto(out, _plain(name, result), casting="same_kind", where=_plain(name, where))
    return out


def _pointwise(name: str, options: dict[str, Any]) -> Any:
    """Our function for a ufunc that is called with these keywords."""
    if options and name not in TAKE_KEYWORDS:
        return None
    return getattr(core, name, None) or getattr(importlib.import_module("tensorsmith"), name, None)


def array_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """`Tensor.__array_ufunc__`."""
    name = ufunc.__name__
    out = options.pop("out", None)
    if options.get("casting") == "same_kind":
        del options["casting"]
    where = options.get("where", True)
    ours = None
    if method == "__call__" and not set(options) - set(KEYWORDS):
        ours = _pointwise(_UFUNCS.get(name, name), options)
        if ours is not None and options and out is not None and _is_tensor(out[0]):
            return ours(*inputs, **options, out=out[0])
    elif method == "reduce" and name in _REDUCTIONS and not set(options) - {"axis", "dtype", "keepdims"}:
        ours = getattr(core, _REDUCTIONS[name])
        options = {"axis": 0, **options}  # NumPy's default for reduce
        if _REDUCTIONS[name] not in ("sum", "prod"):
            options.pop("dtype", None)
    elif method == "accumulate" and name in _RUNNING and not set(options) - {"axis", "dtype"}:
        ours = getattr(core, _RUNNING[name])
        options = {"axis": 0, **options}
    elif method == "outer" and not options:
        ours = getattr(core, _UFUNCS.get(name, name), None)
        if ours is not None:
            a, b = map(asarray, inputs)
            inputs = (core.reshape(a, (*a.shape, *(1,) * b.ndim)), b)
    if method == "at" and _is_tensor(inputs[0]):
        written = np.array(_plain(name, inputs[0]))
        ufunc.at(written, *_plain(name, inputs[1:]))
        core.copy_(inputs[0], written)  # which knows read-only memory, and what gradients need
        return None
    if ours is not None:
        result = ours(*inputs, **options)
    else:
        plain = _plain(name, options)
        if out is not None:  # which keeps what `where` leaves out
            plain["out"] = tuple(o if o is None else np.array(_plain(name, o)) for o in out)
        result = _tensors(getattr(ufunc, method)(*_plain(name, inputs), **plain))
    if out is None:
        return result
    if len(out) == 1:
        return _store(name, result, out[0], where)
    return tuple(_store(name, y, place) for y, place in zip(result, out, strict=True))


def _counterpart(function: Any) -> Any:
    """Our function of the same name, in the namespace that stands for NumPy's."""
    module = getattr(function, "__module__", None)
    if module not in ("numpy", "numpy.linalg", "numpy.fft") or function.__name__ in _PLAIN:
        return None  # numpy.emath's sqrt is another one than numpy's
    return getattr(importlib.import_module("tensorsmith" + module[5:]), function.__name__, None)


@functools.cache
def _keywords(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def array_function(function: Any, types: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """`Tensor.__array_function__`."""
    if not all(issubclass(t, (_core.TensorBase, np.ndarray)) for t in types):
        return NotImplemented
    name = function.__name__
    ours = _counterpart(function)
    if name in _BY_NAME and len(args) > 2:
        names = tuple(inspect.signature(function).parameters)
        args, options = args[:2], {**dict(zip(names[2:], args[2:])), **options}
    if name == "broadcast_arrays" and any(a is None for a in args):
        ours = None  # objects are NumPy's: matplotlib's bars broadcast what was not given as well
    if ours is not None:
        out = options.get("out")
        if isinstance(out, np.ndarray):
            options = {key: value for key, value in options.items() if key != "out"}
            return _store(name, ours(*args, **options), out)
        try:
            return ours(*args, **options)
        except TypeError:
            if _keywords(ours).issuperset(options):
                raise
    # What ours has no keyword for is NumPy's, too.
    return _tensors(function(*_plain(name, args), **_plain(name, options)))
