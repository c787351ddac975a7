"""NumPy's files, `.npy` and `.npz`, read by a checked reader of our own. Objects (pickles) are refused unread.

A file is taken only if it is whole and consistent: its header is the dictionary that the format asks for, its data has
exactly the bytes that shape and dtype need, and bools are 0 or 1. Anything else is a FileFormatError with the file
and the numbers.
"""

from __future__ import annotations

import ast
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from tensorsmith.durable import replacing
from tensorsmith.errors import FileFormatError

MAGIC = b"\x93NUMPY"
ZIP = b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
_LONGEST_HEADER = 10_000
_CODES = {f"{kind}{size}" for kind, sizes in {"i": "1248", "u": "1248", "f": "248"}.items() for size in sizes}
_CODES |= {"b1", "c8", "c16"}


def _exactly(name: str, file: BinaryIO, count: int, what: str) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise FileFormatError(f"{name}: the {what} takes {count} bytes, the file has {len(data)} more")
    return data


def _header(name: str, file: BinaryIO) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    if _exactly(name, file, 6, "magic string") != MAGIC:
        raise FileFormatError(f"{name}: does not begin with {MAGIC!r}: not a .npy file")
    major, minor = _exactly(name, file, 2, "version")
    if (major, minor) not in ((1, 0), (2, 0), (3, 0)):
        raise FileFormatError(
            f"{name}: version {major}.{minor} of the .npy format is not known; 1.0 to 3.0 are"
        )
    form = "<H" if major == 1 else "<I"
    (length,) = struct.unpack(form, _exactly(name, file, struct.calcsize(form), "length of the header"))
    if length > _LONGEST_HEADER:
        raise FileFormatError(f"{name}: the header has {length} bytes; at most {_LONGEST_HEADER} are read")
    raw = _exactly(name, file, length, "header")
    try:
        header = ast.literal_eval(raw.decode("utf-8" if major == 3 else "latin-1").strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise FileFormatError(f"{name}: the header is not a Python dictionary of literals") from None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise FileFormatError(
            f"{name}: the header must have the keys descr, fortran_order and shape, and no others"
        )
    descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    if not isinstance(descr, str) or descr[:1] not in "<>|=" or descr[1:] not in _CODES:
        raise FileFormatError(f"{name}: dtype {descr!r} is not a number; objects and structures are not read")
    if not isinstance(fortran, bool):
        raise FileFormatError(f"{name}: fortran_order is {fortran!r}, not True or False")
    if (
        not isinstance(shape, tuple)
        or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
        or len(shape) > 64
    ):
        raise FileFormatError(f"{name}: shape {shape!r} is not a tuple of at most 64 sizes")
    return np.dtype(descr), fortran, shape


def read_array(name: str, file: BinaryIO, available: int) -> np.ndarray[Any, Any]:
    """The array of a .npy file that has `available` bytes from here to its end."""
    start = file.tell()
    dtype, fortran, shape = _header(name, file)
    size = math.prod(shape) * dtype.itemsize
    rest = available - (file.tell() - start)
    if size != rest:
        raise FileFormatError(
            f"{name}: shape {shape} of {dtype.name} takes {size} bytes, the file has {rest}"
        )
    data = np.frombuffer(bytearray(_exactly(name, file, size, "data")), dtype)
    if dtype.kind == "b" and data.size and data.view(np.uint8).max() > 1:
        raise FileFormatError(f"{name}: a bool is {data.view(np.uint8).max()}; 0 and 1 are allowed")
    data = data.astype(dtype.newbyteorder("="), copy=False)
    try:
        return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)
    except ValueError:  # without elements, but beyond what can be addressed
        raise FileFormatError(f"{name}: shape {shape} is too large") from None


def _read_zip(name: str, file: BinaryIO) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                key = entry.filename.removesuffix(".npy")
                if key == entry.filename:
                    raise FileFormatError(
                        f"{name}: entry {entry.filename!r} is not a .npy file; pickle is not supported"
                    )
                if key in arrays:
                    raise FileFormatError(f"{name}: entry {key!r} occurs twice")
                with archive.open(entry) as part:
                    arrays[key] = read_array(
                        f"{name}, entry {key!r}", io.BytesIO(part.read()), entry.file_size
                    )
    except FileFormatError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
    ) as e:  # fmt: skip
        raise FileFormatError(f"{name}: not a whole zip archive: {e}") from None
    return arrays


class Archive(dict[str, Any]):
    """The tensors of an .npz file by their names. `files` lists those and `with` takes it, as with NumPy's; the file
    has been read whole and is not open."""

    @property
    def files(self) -> list[str]:
        return list(self)

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def load(path: str | os.PathLike[str]) -> Any:
    """The tensor of a .npy file, or an Archive, a dict of name to tensor, of an .npz file. FileFormatError for anything
    else."""
    import tensorsmith as ts

    name = os.fspath(path)
    with open(name, "rb") as file:
        start = file.read(len(MAGIC))
        file.seek(0)
        if start[:4] in (ZIP, EMPTY_ZIP):
            return Archive((key, ts.asarray(array)) for key, array in _read_zip(name, file).items())
        return ts.asarray(read_array(name, file, os.fstat(file.fileno()).st_size))


def _plain(name: str, x: Any) -> np.ndarray[Any, Any]:
    array = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
    if array.dtype.str[1:] not in _CODES:
        raise TypeError(f"{name}: .npy has no dtype {array.dtype}; convert it first")
    return array


def write(path: str | os.PathLike[str], x: Any) -> None:
    """Writes a tensor (or array) as a .npy file."""
    array = _plain("save", x)
    with replacing(os.fspath(path)) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def savez(path: str | os.PathLike[str], /, *args: Any, **arrays: Any) -> None:
    """Writes tensors as an .npz archive, under their keywords and arr_0, arr_1, ... (NumPy's `savez`)."""
    _write_zip(path, _named("savez", args, arrays), zipfile.ZIP_STORED)


def savez_compressed(path: str | os.PathLike[str], /, *args: Any, **arrays: Any) -> None:
    """`savez`, compressed."""
    _write_zip(path, _named("savez_compressed", args, arrays), zipfile.ZIP_DEFLATED)


def _write_zip(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray[Any, Any]], method: int) -> None:
    name = os.fspath(path)
    with (
        replacing(name if name.endswith(".npz") else f"{name}.npz") as file,
        zipfile.ZipFile(file, "w", method) as archive,
    ):
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array, allow_pickle=False)


def _named(name: str, args: tuple[Any, ...], arrays: Mapping[str, Any]) -> dict[str, Any]:
    named = {f"arr_{i}": x for i, x in enumerate(args)}
    if clash := set(named) & set(arrays):
        raise ValueError(f"{name}: {sorted(clash)} are names of positional arrays")
    return {key: _plain(name, x) for key, x in {**named, **arrays}.items()}
