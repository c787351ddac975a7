"""What the array standard and NumPy ask a namespace about itself: its dtypes, devices, and their limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorsmith import _core, dtypes
from tensorsmith.dtypes import DType, as_dtype

__all__ = ["__array_namespace_info__", "can_cast", "finfo", "iinfo", "promote_types", "result_type"]

# (bits of the significand, of the exponent)
_FORMATS = {"float16": (11, 5), "bfloat16": (8, 8), "float32": (24, 8), "float64": (53, 11)}


def _dtype_of(x: Any) -> DType:
    """What `x`, a dtype or an array, has for a dtype."""
    return as_dtype(x if isinstance(x, (DType, type)) else getattr(x, "dtype", x))


class finfo:
    """The limits of a floating dtype, or of the parts of a complex one: bits, eps, max, min, smallest_normal,
    smallest_subnormal, tiny, resolution, precision, and NumPy's epsneg, nmant, machep, negep, iexp, minexp, maxexp;
    `dtype` is the real dtype. TypeError for other dtypes."""

    def __init__(self, dtype: Any) -> None:
        d = _dtype_of(dtype)
        real = {"complex64": "float32", "complex128": "float64"}.get(d.name, d.name)
        if real not in _FORMATS:
            raise TypeError(f"finfo: {d} is not a floating dtype; see iinfo for integers")
        digits, exponent = _FORMATS[real]
        top = 1 << (exponent - 1)
        self.dtype = as_dtype(real)
        self.bits = 8 * self.dtype.itemsize
        self.eps, self.epsneg = 2.0 ** (1 - digits), 2.0**-digits
        self.nmant, self.machep, self.negep = digits - 1, 1 - digits, -digits
        self.iexp, self.minexp, self.maxexp = exponent, 2 - top, top
        self.max = (2.0 - self.eps) * 2.0 ** (top - 1)
        self.min = -self.max
        self.smallest_normal = self.tiny = 2.0 ** (2 - top)
        self.smallest_subnormal = self.smallest_normal * self.eps
        self.precision = int((digits - 1) * math.log10(2))
        self.resolution = 10.0**-self.precision

    def __repr__(self) -> str:
        return f"finfo(dtype={self.dtype}, eps={self.eps}, min={self.min}, max={self.max})"


class iinfo:
    """The limits of an integer dtype: bits, min, max. TypeError for other dtypes."""

    def __init__(self, dtype: Any) -> None:
        d = _dtype_of(dtype)
        if d.kind not in ("signed", "unsigned"):
            raise TypeError(f"iinfo: {d} is not an integer dtype; see finfo for floats")
        self.dtype = d
        self.bits = 8 * d.itemsize
        signed = d.kind == "signed"
        self.min = -(1 << (self.bits - 1)) if signed else 0
        self.max = (1 << (self.bits - signed)) - 1

    def __repr__(self) -> str:
        return f"iinfo(dtype={self.dtype}, min={self.min}, max={self.max})"


def promote_types(a: Any, b: Any) -> DType:
    """The dtype that holds every value of both, by NumPy's rules."""
    return _core.promote_types(as_dtype(a), as_dtype(b))


_SCALARS: dict[type, str] = {bool: "bool", int: "int64", float: "float", complex: "complex"}
_ORDER = ("bool", "unsigned", "signed", "floating", "complex")


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that an operation on these tensors, dtypes and Python numbers computes in.

    A Python number lifts it only if it is of a higher kind: to int64, the default float, or the complex dtype of
    the same precision. ValueError without arguments."""
    if not arrays_and_dtypes:
        raise ValueError("result_type: at least one array or dtype is needed")
    result: DType | None = None
    numbers: list[type] = []
    for x in arrays_and_dtypes:
        if type(x) in _SCALARS:
            numbers.append(type(x))
            continue
        d = as_dtype(x.dtype if hasattr(x, "dtype") and not isinstance(x, (DType, np.dtype, type)) else x)
        result = d if result is None else _core.promote_types(result, d)
    for number in sorted(numbers, key=list(_SCALARS).index):
        name = _SCALARS[number]
        kind = "bool" if result is None else result.kind
        if name == "bool":
            result = result or dtypes.bool_
        elif name == "int64":
            result = result if result is not None and kind != "bool" else dtypes.int64
        elif name == "float":
            result = (
                result if result is not None and kind in ("floating", "complex") else _core.default_dtype()
            )
        elif result is None or kind != "complex":
            base = result if result is not None and kind == "floating" else _core.default_dtype()
            result = dtypes.complex128 if base is dtypes.float64 else dtypes.complex64
    assert result is not None
    return result


_RANKS = ("bool", "unsigned", "signed", "floating", "complex")


def can_cast(from_: Any, to: Any, /, casting: str = "safe") -> bool:
    """Whether a dtype (or a tensor's dtype) becomes `to` under NumPy's rule `casting`.

    "safe": promotion does not leave `to`; "same_kind": or neither is of a lower kind; "no", "equiv": the two are the
    same; "unsafe": always"""
    source = _dtype_of(from_)
    target = as_dtype(to)
    if casting not in ("no", "equiv", "safe", "same_kind", "unsafe"):
        raise ValueError(f"can_cast: casting must be no, equiv, safe, same_kind or unsafe, got {casting!r}")
    if casting in ("no", "equiv"):
        return source is target
    kept = casting == "unsafe" or _core.promote_types(source, target) is target
    return kept or (casting == "same_kind" and _RANKS.index(source.kind) <= _RANKS.index(target.kind))


class _Info:
    """Capabilities, devices and dtypes, as the array standard asks for them."""

    def capabilities(self) -> dict[str, Any]:
        """Boolean indexing and data-dependent shapes exist; arrays have at most 64 dimensions."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where this thread's new tensors lie."""
        return str(_core.device())

    def devices(self) -> tuple[str, ...]:
        """The devices of this machine."""
        from tensorsmith import cuda

        return ("cpu", "cuda") if cuda.is_available() else ("cpu",)

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """The dtypes of Python numbers and of indices."""
        real = _core.default_dtype()
        return {
            "real floating": real,
            "complex floating": dtypes.complex128 if real is dtypes.float64 else dtypes.complex64,
            "integral": dtypes.int64,
            "indexing": dtypes.int64,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The standard's dtypes by name; `kind` as in `isdtype`."""
        standard = {d.name: d for d in dtypes.ALL if d.name not in ("float16", "bfloat16")}
        if kind is None:
            return standard
        return {name: d for name, d in standard.items() if dtypes.isdtype(d, kind)}


def __array_namespace_info__() -> _Info:
    """The standard's inspection object."""
    return _Info()
