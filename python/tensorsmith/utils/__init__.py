"""Tools around training: `utils.data` feeds it, `utils.checkpoint` saves memory."""

from tensorsmith.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
