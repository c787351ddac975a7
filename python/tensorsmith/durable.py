"""Files that are written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file to write that takes path's place when all went well: write, fsync, rename, fsync of the
    folder.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"save: {path} is not a regular file")
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp")
    try:
        file = _open_alone(temporary)
    except OSError as error:
        error.filename = path  # what was asked for
        raise
    with file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            if os.path.exists(path):
                os.fchmod(file.fileno(), stat.S_IMODE(os.stat(path).st_mode))
            os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_alone(path: str) -> BinaryIO:
    """Opens path for one writer at a time; another process or thread that saves to the same place waits its
    turn.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return os.fdopen(descriptor, "wb")
            except FileNotFoundError:
                pass  # the writer before us renamed it; start afresh
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
