// Factorisations of batches of matrices, (..., M, N) float32 or float64, any strides; results are fresh.
#pragma once

#include <tuple>

#include "ops/check.h"

namespace ts::ops {

Array cholesky(const Array& a);               // lower; ValueError where a is not positive definite
std::tuple<Array, Array> lu(const Array& a);  // L below, U above; pivots (..., min(M, N)) int64
Array swap_rows(const Array& b, const Array& pivots, bool inverse);
// a^-1 b by one triangle of a (..., N, N); b (..., N, K), leading axes equal.
Array solve_triangular(const Array& a, const Array& b, bool upper, bool unit);
std::tuple<Array, Array> qr(const Array& a,
                            bool complete);  // Q (..., M, K), R (..., K, N); K = min(M, N), or M
// Of the lower triangle: eigenvalues ascending, eigenvectors as columns (empty unless asked for).
std::tuple<Array, Array> eigh(const Array& a, bool vectors);
// float64 or complex128; complex128 results.
std::tuple<Array, Array> eig(const Array& a, bool vectors);
// Of a square matrix: u, s descending, vh (both empty unless asked for).
std::tuple<Array, Array, Array> svd_square(const Array& a, bool vectors);

}  // namespace ts::ops
