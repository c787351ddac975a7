"""Tools around training; `utils.data` feeds it."""

from tensorsmith.utils import data

__all__ = ["data"]
