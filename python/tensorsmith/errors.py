"""Errors of our own; all others are Python's built-in types."""


class FileFormatError(ValueError):
    """A file is not what it should be; the message names the file, the place in it and the numbers."""
