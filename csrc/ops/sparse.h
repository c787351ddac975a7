// Products with sparse matrices.
#pragma once

#include "ops/check.h"

namespace ts::ops {

// The (M, N) matrix in CSR form times x along `axis`, whose extent N becomes M. starts (M + 1) and columns
// are integers, values (of x's dtype) optional: ones.
Array csr_matmul(const Array& x, const Array& starts, const Array& columns, const Array& values,
                 std::int64_t axis);

// A matrix in CSR form as the kernels take it: int64, contiguous, its columns those of `axis` of x.
struct Csr {
  Array starts, columns, values;
  std::int64_t rows() const { return starts.size() - 1; }
};
Csr checked_csr(const char* operation, const Array& starts, const Array& columns, const Array& values,
                const Array& x, int axis);

}  // namespace ts::ops
