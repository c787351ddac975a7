"""`ts.linalg`: factorisations of matrices and what stands on them, under the names of NumPy and the array standard.

Matrices are the last two axes of float32 or float64 tensors; everything is batched over the others and differentiable.
"""

from tensorsmith.ops.linalg import (
    cholesky,
    det,
    eigh,
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
)

__all__ = [
    "cholesky",
    "det",
    "eigh",
    "eigvalsh",
    "expm",
    "inv",
    "lstsq",
    "lu",
    "lu_factor",
    "matrix_power",
    "matrix_rank",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
]
