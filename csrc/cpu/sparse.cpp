// A sparse matrix times dense rows: y_m = sum over k in row m of v_k x_{c_k}.
//
// A N B: the axes before, at and after the summed one of x; M rows of the matrix (CSR: starts, columns c,
// values v). A row's terms are added one after another with FMA, in the order of k, whatever the layout and
// the threads. Reads the matrix once for each of A, each x_{c_k} once, and writes y once.
#include "cpu/csr.h"
#include "cpu/kernels.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// One sum for each of many lines (B = 1). False where the lines are few or lie otherwise.
template <class T>
bool multiply_lines(const Matrix<T>& matrix, In x, Out y) {
  constexpr std::int64_t kGrain = 1 << 15;
  const std::int64_t A = y.shape[0], M = y.shape[1], N = x.shape[1];
  if (A < 8 || x.strides[1] != 1 || y.strides[1] != 1) return false;
  LineTerms<T> shared;
  if (!shared.make(matrix, M, N, static_cast<char*>(scratch()), static_cast<std::int64_t>(kScratchBytes)))
    return false;
  parallel_ranges(A, kGrain / (matrix.starts[M] + M) + 1, [&](std::int64_t begin, std::int64_t end) {
    const LineTerms<T> terms = shared;  // on this thread's stack
    constexpr int R = 4;
    std::int64_t a = begin;
    for (; a + R <= end; a += R)
      terms.template apply<R>(x.as<T>() + a * x.strides[0], x.strides[0], y.as<T>() + a * y.strides[0],
                              y.strides[0]);
    for (; a < end; ++a) terms(x.as<T>() + a * x.strides[0], y.as<T>() + a * y.strides[0]);
  });
  return true;
}

}  // namespace

void csr_matmul(In starts, In columns, In values, In x, Out y) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Matrix<T> shared{starts.as<std::int64_t>(), columns.as<std::int64_t>(), values.as<T>()};
    const std::int64_t A = y.shape[0], M = y.shape[1], B = y.shape[2];
    if (B == 1 && multiply_lines(shared, x, y)) return;
    const bool dense = B > 1 && x.strides[2] == 1 && y.strides[2] == 1;
    constexpr std::int64_t kGrain = 1 << 15;  // terms of a piece
    const std::int64_t terms = (columns.shape[0] / M + 1) * B;
    const std::int64_t rows = kGrain / terms + 1, blocks = (M + rows - 1) / rows;
    const std::int64_t together = rows > M ? rows / M : 1;
    parallel_ranges(A * blocks, together, [&](std::int64_t begin, std::int64_t end) {
      const Matrix<T> matrix = shared;  // on this thread's stack
      for (std::int64_t i = begin; i < end; ++i) {
        const T* const xa = x.as<T>() + i / blocks * x.strides[0];
        T* const ya = y.as<T>() + i / blocks * y.strides[0];
        const std::int64_t first = i % blocks * rows, last = M - first < rows ? M : first + rows;
        for (std::int64_t m = first; m < last; ++m) {
          T* const to = ya + m * y.strides[1];
          if (dense) {
            matrix.row(m, xa, x.strides[1], to, B);
          } else {
            for (std::int64_t b = 0; b < B; ++b)
              to[b * y.strides[2]] = matrix.one(m, xa + b * x.strides[2], x.strides[1]);
          }
        }
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
