"""Every operation on tensors: a file for each family, named as its kernels are."""

from __future__ import annotations

import sys

from tensorsmith.ops.conv import *  # noqa: F403
from tensorsmith.ops.creation import *  # noqa: F403
from tensorsmith.ops.dropout import *  # noqa: F403
from tensorsmith.ops.elementwise import *  # noqa: F403
from tensorsmith.ops.index import *  # noqa: F403
from tensorsmith.ops.loss import *  # noqa: F403
from tensorsmith.ops.manipulate import *  # noqa: F403
from tensorsmith.ops.matmul import *  # noqa: F403
from tensorsmith.ops.norm import *  # noqa: F403
from tensorsmith.ops.pool import *  # noqa: F403
from tensorsmith.ops.reduce import *  # noqa: F403
from tensorsmith.ops.softmax import *  # noqa: F403

_FAMILIES = (
    "conv", "creation", "dropout", "elementwise", "index", "loss", "manipulate", "matmul", "norm", "pool", "reduce",
    "softmax",
)  # fmt: skip
# By module path: some families hold an operation of their own name, which now hides the module here.
__all__ = [name for family in _FAMILIES for name in sys.modules[f"tensorsmith.ops.{family}"].__all__]
