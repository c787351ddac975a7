// Images in other sizes and at points: check, allocate, launch.
#pragma once

#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// x (N, C, H, W) with a sparse matrix applied along H and one along W (csr_matmul's arguments, twice); the
// result lies channels last where x does, else channels first.
Array resample2d(const Array& x, const Array& row_starts, const Array& rows, const Array& column_starts,
                 const Array& columns, const Array& row_values, const Array& column_values);

// x (N, C, H, W) at the points grid (N, P, Q, 2): (N, C, P, Q), channels last in memory. padding: 0 zeros, 1
// border, 2 reflection. Bilinear unless `nearest`.
Array grid_sample(const Array& x, const Array& grid, bool nearest, std::int64_t padding, bool align);
// dx, channels last in memory, and dgrid.
std::tuple<Array, Array> grid_sample_backward(const Array& dy, const Array& x, const Array& grid,
                                              bool nearest, std::int64_t padding, bool align);

}  // namespace ts::ops
