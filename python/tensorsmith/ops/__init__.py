"""Every operation on tensors: a file for each family, named as its kernels are."""

from __future__ import annotations

from tensorsmith.ops import (
    conv,
    creation,
    dropout,
    elementwise,
    index,
    loss,
    manipulate,
    matmul,
    norm,
    pool,
    reduce,
    softmax,
)
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

__all__ = [
    name
    for family in (conv, creation, dropout, elementwise, index, loss, manipulate, matmul, norm, pool, reduce, softmax)
    for name in family.__all__
]
