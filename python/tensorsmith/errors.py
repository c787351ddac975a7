"""Errors of our own; all others are Python's built-in types."""

from contextlib import ContextDecorator


class FileFormatError(ValueError):
    """A file is not what it should be; the message names the file, the place in it and the numbers."""


class errstate(ContextDecorator):  # NumPy's name
    """NumPy's `with errstate(divide="ignore"):`, in which nothing changes: floating-point arithmetic never warns here.

    TypeError for a word that NumPy does not know, ValueError for "raise" and "call", which are not to be had."""

    def __init__(self, **options: object) -> None:
        for name, value in options.items():
            if name not in ("all", "divide", "over", "under", "invalid", "call"):
                raise TypeError(f"errstate: there is no {name!r}")
            if name != "call" and value not in (None, "ignore", "warn", "print", "log"):
                raise ValueError(f"errstate: {name}={value!r}: arithmetic does not raise here")

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None
