"""`ts.linalg`: products, norms and factorisations of matrices, under the names of NumPy and the array standard.

Matrices are the last two axes; factorisations take float32, float64, complex64 and complex128, `lu` and `lu_factor` the
real ones. Everything is batched over the other axes and differentiable.
"""

from tensorsmith.ops.einsum import tensordot, vecdot
from tensorsmith.ops.linalg import (
    cholesky,
    cond,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    expm,
    inv,
    lstsq,
    lu,
    lu_factor,
    matrix_power,
    matrix_rank,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
    svdvals,
    tensorinv,
    tensorsolve,
)
from tensorsmith.ops.manipulate import matrix_transpose
from tensorsmith.ops.matmul import matmul
from tensorsmith.ops.matrix import (
    cross,
    diagonal,
    matrix_norm,
    multi_dot,
    norm,
    outer,
    trace,
    vector_norm,
)

LinAlgError = ValueError  # what a matrix that is singular, or not positive definite, raises

__all__ = [
    "LinAlgError",
    "cholesky",
    "cond",
    "cross",
    "det",
    "eig",
    "diagonal",
    "eigh",
    "eigvals",
    "eigvalsh",
    "expm",
    "inv",
    "lstsq",
    "lu",
    "lu_factor",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]
