"""The idx format of MNIST, plain or gzipped: a strict reader.

A file is two zero bytes, a type code (8: unsigned bytes, the only one read here), the number of dimensions,
each dimension as four bytes (big-endian), and the elements, the last dimension running fastest.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib

import numpy as np

from tensorsmith.errors import FileFormatError

MAX_BYTES = 1 << 30


def read_idx(path: str | os.PathLike[str], ndim: int) -> np.ndarray:
    """Reads an idx file of uint8 with `ndim` dimensions; a name that ends in `.gz` is unpacked on the way.

    Raises FileFormatError for a wrong magic number, dimension count, size, or a damaged archive.
    """
    path = os.fspath(path)
    opener = gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            head = file.read(4 + 4 * ndim)
            if head[:3] != b"\0\0\x08" or len(head) < 4:
                raise FileFormatError(
                    f"{path}: begins with {head[:4].hex(' ') or 'nothing'}, an idx file of bytes with 00 00 08"
                )
            if head[3] != ndim:
                raise FileFormatError(f"{path}: has {head[3]} dimensions, expected {ndim}")
            if len(head) != 4 + 4 * ndim:
                raise FileFormatError(f"{path}: ends within its header, after {len(head)} bytes")
            shape = tuple(int.from_bytes(head[i : i + 4], "big") for i in range(4, len(head), 4))
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise FileFormatError(
                    f"{path}: shape {shape} takes {size} bytes; at most {MAX_BYTES} are read"
                )
            data = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(f"{path}: damaged gzip archive: {error}") from None
    if len(data) != size:
        held = f"{len(data)}" if len(data) < size else "more"
        raise FileFormatError(f"{path}: shape {shape} takes {size} bytes, the file holds {held}")
    return np.frombuffer(data, np.uint8).reshape(shape)
