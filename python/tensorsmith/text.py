"""Tensors as text and from text, as NumPy prints and reads them.

NumPy does both: its print options are ours. Files of numbers go through its readers, which never load a pickle.
"""

from __future__ import annotations

import io
import threading
import warnings
from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith.dtypes import DType
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


def _dtype(operation: str, dtype: Any) -> np.dtype[Any]:
    """What NumPy reads: None is the default float, as float is."""
    if dtype is None or dtype is float:
        dtype = _core.default_dtype()
    try:
        found = np.dtype(dtype.dtype if isinstance(dtype, DType) else dtype)
    except TypeError as error:
        raise TypeError(f"{operation}: {dtype!r} is not a dtype that NumPy reads: {error}") from None
    if found.kind not in "biufc":
        raise TypeError(f"{operation}: dtype must be one of numbers, got {dtype!r}")
    return found


_FILTERS = threading.RLock()  # a file may be lines that another reader makes


def _read(operation: str, reader: Any, file: Any, dtype: Any, *args: Any, **options: Any) -> Tensor:
    found = _dtype(operation, dtype)
    try:
        # NumPy's word for text behind which it stops reading. The filters are the process's: one reader at a time.
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            y = reader(file, found, *args, **options)
    except (ValueError, OverflowError, DeprecationWarning) as error:
        raise ValueError(f"{operation}: {error}") from None
    except TypeError as error:
        raise TypeError(f"{operation}: {error}") from None
    if isinstance(y, np.ma.MaskedArray) or y.dtype.kind not in "biufc":
        raise TypeError(f"{operation}: fields with names and masked arrays do not exist here")
    if y.dtype.kind == "b" and y.size and y.view(np.uint8).max() > 1:
        raise ValueError(f"{operation}: a bool is {y.view(np.uint8).max()}; 0 and 1 are allowed")
    return asarray(y.astype(y.dtype.newbyteorder("="), copy=False))


def loadtxt(file: Any, dtype: Any = None, **options: Any) -> Tensor:
    """The numbers of a text file, a row a line, in the default float without a dtype; numpy.loadtxt's options.

    ValueError where a line has another number of columns, or something that is no number."""
    return _read("loadtxt", np.loadtxt, file, dtype, **options)


def genfromtxt(file: Any, dtype: Any = None, **options: Any) -> Tensor:
    """The same with values that are missing, NaN unless said; numpy.genfromtxt's options but `names` and `usemask`."""
    return _read("genfromtxt", np.genfromtxt, file, dtype, **options)


def savetxt(file: Any, x: Any, fmt: Any = "%.18e", delimiter: str = " ", **options: Any) -> None:
    """Writes a tensor of one or two dimensions as text, a row a line; numpy.savetxt's options.

    ValueError for another tensor, or a format that does not fit its rows; the file is then as it was."""
    try:
        rows = np.asarray(_plain(x))
        tried = rows
        if rows.ndim:  # one row, and those with numbers that a format may refuse
            odd = ~np.isfinite(rows)
            odd = odd.reshape(len(rows), rows[:1].size).any(axis=1)
            odd[:1] = True
            tried = rows[odd]
        np.savetxt(io.StringIO(), tried, fmt, delimiter, **options)
    except TypeError as error:
        raise TypeError(f"savetxt: {error}") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"savetxt: {error}") from None
    np.savetxt(file, rows, fmt, delimiter, **options)


def fromfile(file: Any, dtype: Any = None, count: int = -1, sep: str = "", offset: int = 0) -> Tensor:
    """The elements that a binary file (or with `sep` a text file) holds, without any header; up to `count` of them.

    ValueError for text that is no number."""
    return _read("fromfile", np.fromfile, file, dtype, count, sep, offset)
