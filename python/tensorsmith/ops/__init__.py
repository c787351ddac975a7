"""Every operation on tensors: a file for each family, named as its kernels are."""

from __future__ import annotations

import sys

import tensorsmith.ops.fft  # public as tensorsmith.fft
import tensorsmith.ops.getitem  # the rules of x[key]
import tensorsmith.ops.halves  # what float16 and bfloat16 are computed in
import tensorsmith.ops.keywords  # dtype=, casting= and shape= of operations of the core
import tensorsmith.ops.reduce_where  # where= and initial= of the reductions
import tensorsmith.ops.ufunc  # where=, dtype= and casting= of pointwise operations
import tensorsmith.ops.linalg  # public as tensorsmith.linalg
import tensorsmith.ops.resample  # public in tensorsmith.nn.functional
import tensorsmith.ops.sampling  # the same
import tensorsmith.ops.optim  # steps of tensorsmith.optim; not part of the namespace
from tensorsmith.ops.attention import *
from tensorsmith.ops.complex import *
from tensorsmith.ops.concatenators import *
from tensorsmith.ops.conv import *
from tensorsmith.ops.creation import *
from tensorsmith.ops.diagonal import *
from tensorsmith.ops.dropout import *
from tensorsmith.ops.einsum import *
from tensorsmith.ops.elementwise import *
from tensorsmith.ops.histogram import *
from tensorsmith.ops.index import *
from tensorsmith.ops.join import *
from tensorsmith.ops.loss import *
from tensorsmith.ops.manipulate import *
from tensorsmith.ops.missing import *
from tensorsmith.ops.matmul import *
from tensorsmith.ops.norm import *
from tensorsmith.ops.numeric import *
from tensorsmith.ops.pad import *
from tensorsmith.ops.places import *
from tensorsmith.ops.polynomial import *
from tensorsmith.ops.pool import *
from tensorsmith.ops.quantile import *
from tensorsmith.ops.recurrent import *
from tensorsmith.ops.reduce import *
from tensorsmith.ops.softmax import *
from tensorsmith.ops.sort import *
from tensorsmith.ops.sets import *
from tensorsmith.ops.sparse import *
from tensorsmith.ops.statistics import *

_FAMILIES = (
    "attention", "complex", "concatenators", "conv", "creation", "diagonal", "dropout", "einsum", "elementwise",
    "histogram", "index", "join", "loss", "manipulate", "matmul", "missing", "norm", "numeric", "pad", "places",
    "polynomial", "pool", "quantile", "recurrent", "reduce", "sets", "softmax", "sort", "sparse", "statistics",
)  # fmt: skip
# By module path: some families hold an operation of their own name, which now hides the module here.
__all__ = [name for family in _FAMILIES for name in sys.modules[f"tensorsmith.ops.{family}"].__all__]
