"""Tensors as text and from text, as NumPy prints and reads them.

NumPy does both: its print options are ours. Files of numbers go through its readers, which never load a pickle.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith.ops.creation import asarray
from tensorsmith.tensor import Tensor

__all__ = [
    "array2string", "array_repr", "array_str", "base_repr", "binary_repr", "format_float_positional",
    "format_float_scientific", "fromfile", "genfromtxt", "get_printoptions", "loadtxt", "printoptions", "savetxt",
    "set_printoptions",
]  # fmt: skip

set_printoptions, get_printoptions, printoptions = np.set_printoptions, np.get_printoptions, np.printoptions
base_repr, binary_repr = np.base_repr, np.binary_repr


def _plain(x: Any) -> Any:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else x


def array2string(x: Any, *args: Any, **options: Any) -> str:
    """numpy.array2string of a tensor."""
    return np.array2string(np.asarray(_plain(x)), *args, **options)


def array_str(x: Any, *args: Any, **options: Any) -> str:
    """numpy.array_str of a tensor: its elements alone."""
    return np.array_str(np.asarray(_plain(x)), *args, **options)


def array_repr(x: Any) -> str:
    """How a tensor prints itself."""
    return repr(asarray(x))


def format_float_positional(x: Any, *args: Any, **options: Any) -> str:
    """A number without an exponent, with as few digits as tell it apart."""
    return np.format_float_positional(_plain(x), *args, **options)


def format_float_scientific(x: Any, *args: Any, **options: Any) -> str:
    """A number with an exponent, with as few digits as tell it apart."""
    return np.format_float_scientific(_plain(x), *args, **options)


def _dtype(dtype: Any) -> Any:
    """None is the default float."""
    return np.dtype(str(_core.default_dtype() if dtype is None else dtype))


def loadtxt(file: Any, dtype: Any = None, **options: Any) -> Tensor:
    """The numbers of a text file, a row a line, in the default float without a dtype; numpy.loadtxt's options.

    ValueError where a line has another number of columns, or something that is no number."""
    return asarray(np.loadtxt(file, _dtype(dtype), **options))


def genfromtxt(file: Any, dtype: Any = None, **options: Any) -> Tensor:
    """The same with values that are missing, NaN unless said; numpy.genfromtxt's options."""
    return asarray(np.genfromtxt(file, _dtype(dtype), **options))


def savetxt(file: Any, x: Any, fmt: Any = "%.18e", delimiter: str = " ", **options: Any) -> None:
    """Writes a tensor of up to two dimensions as text, a row a line; numpy.savetxt's options."""
    np.savetxt(file, np.asarray(_plain(x)), fmt, delimiter, **options)


def fromfile(file: Any, dtype: Any = None, count: int = -1, sep: str = "", offset: int = 0) -> Tensor:
    """The elements that a binary file (or with `sep` a text file) holds, without any header."""
    return asarray(np.fromfile(file, _dtype(dtype), count, sep, offset))
