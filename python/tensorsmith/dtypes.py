"""The element types, under the names of NumPy and the Array API."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorsmith import _core

_PYTHON_TYPES: dict[Any, str] = {bool: "bool", int: "int64"}


class DType:
    """An element type: `ts.float32`. Compares equal to its name, to NumPy's dtype of the same name, and to Python's
    type of numbers that it stands for (bool, int, float: the default float, complex)."""

    __slots__ = ("itemsize", "kind", "name")

    def __call__(self, value: Any = 0) -> Any:
        """`ts.float64(2.5)`: a number, or numbers, as a tensor of this dtype; 0-d where NumPy has a scalar."""
        from tensorsmith.ops.creation import array

        return array(value, self)

    def __init__(self, name: str, itemsize: int, kind: str) -> None:
        self.name = name
        self.itemsize = itemsize
        self.kind = kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype; its presence lets NumPy accept this object wherever it takes a dtype."""
        if self.name == "bfloat16":
            try:
                import ml_dtypes
            except ImportError:
                raise TypeError("NumPy has no bfloat16; install ml_dtypes to exchange it") from None
            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.name)

    @property
    def char(self) -> str:
        """NumPy's letter, which SciPy's sparse matrices ask for."""
        return self.dtype.char

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self is other
        if isinstance(other, str):
            return self.name == other
        if isinstance(other, np.dtype) or (isinstance(other, type) and issubclass(other, np.generic)):
            return self.name == np.dtype(other).name
        return isinstance(other, type) and other in (bool, int, float, complex) and as_dtype(other) is self

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"tensorsmith.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return as_dtype, (self.name,)


ALL = tuple(DType(*description) for description in _core.dtypes())
_BY_NAME = {d.name: d for d in ALL}

bool_ = _BY_NAME["bool"]
uint8 = _BY_NAME["uint8"]
uint16 = _BY_NAME["uint16"]
uint32 = _BY_NAME["uint32"]
uint64 = _BY_NAME["uint64"]
int8 = _BY_NAME["int8"]
int16 = _BY_NAME["int16"]
int32 = _BY_NAME["int32"]
int64 = _BY_NAME["int64"]
float16 = _BY_NAME["float16"]
bfloat16 = _BY_NAME["bfloat16"]
float32 = _BY_NAME["float32"]
float64 = _BY_NAME["float64"]
complex64 = _BY_NAME["complex64"]
complex128 = _BY_NAME["complex128"]


def as_dtype(x: Any) -> DType:
    """The DType that `x` names: a DType, a name, a NumPy dtype or scalar type, or bool, int, float; else TypeError."""
    if isinstance(x, DType):
        return x
    if isinstance(x, str) and x in _BY_NAME:
        return _BY_NAME[x]
    if x is float:
        return _core.default_dtype()
    try:
        if x in _PYTHON_TYPES:
            return _BY_NAME[_PYTHON_TYPES[x]]
        return _BY_NAME[np.dtype(x).name]
    except (TypeError, KeyError):
        raise TypeError(f"{x!r} is not a dtype; dtypes are {', '.join(_BY_NAME)}") from None


_KINDS: dict[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": ("signed",),
    "unsigned integer": ("unsigned",),
    "integral": ("signed", "unsigned"),
    "real floating": ("floating",),
    "complex floating": ("complex",),
    "numeric": ("signed", "unsigned", "floating", "complex"),
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether `dtype` is of a kind ("bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating", "numeric"), equals a dtype, or is any of a tuple of those (Array API)."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return as_dtype(dtype).kind in _KINDS[kind]
    return as_dtype(dtype) is as_dtype(kind)


def get_default_dtype() -> DType:
    """The dtype of floats that come without one: float32 unless set_default_dtype said otherwise."""
    return _core.default_dtype()


def set_default_dtype(dtype: Any) -> None:
    """Makes float32 or float64 the dtype of Python floats, of `zeros`, `ones`, …, and of integers that meet a
    floating operation. With float64 these follow NumPy."""
    _core.set_default_dtype(dtype)
