"""Files that are written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def check_target(option: str, path: Path, *, replaced: bool = True) -> None:
    """ValueError where a file cannot be written, said before the work whose result it is to hold.

    replaced: by `replacing`, which needs to write to the folder; else in place.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"the folder of {option} {path} does not exist")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder; a file is needed")
    if not replaced and path.exists():
        if not os.access(path, os.W_OK):
            raise ValueError(f"{option} {path} cannot be written to")
    elif not os.access(folder, os.W_OK):
        raise ValueError(f"the folder of {option} {path} cannot be written to")


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
