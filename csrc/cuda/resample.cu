// Images in another size, as cpu/resample.cpp: y[p, q] = sum_j v_j sum_i u_i x[h_i, w_j], a sparse matrix for
// each axis.
//
// A thread a number of y: the sum down a column is made anew for every output that reads the column, which
// costs less than a pass over memory while rows of the matrices are short. Terms are added in the CPU's
// order.
#include "cuda/divider.h"
#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

template <class T>
struct Matrix {
  const std::int64_t *starts, *columns;
  const T* values;  // null: ones

  Matrix(const View& starts, const View& columns, const View& values)
      : starts(static_cast<const std::int64_t*>(starts.data)),
        columns(static_cast<const std::int64_t*>(columns.data)),
        values(static_cast<const T*>(values.data)) {}

  // The sum of row m, whose terms are value times f(column): -0 to begin with keeps the sign of a 0.
  template <class F>
  TS_INLINE T row(std::int64_t m, const F& f) const {
    const std::int64_t first = starts[m], last = starts[m + 1];
    T sum = first == last ? T(0) : T(-0.0);
    for (std::int64_t k = first; k < last; ++k)
      sum = fma(Vec<T>(values ? values[k] : T(1)), Vec<T>(f(columns[k])), Vec<T>(sum)).r;
    return sum;
  }
};

struct Images {
  std::int64_t image, row, column;  // strides
  explicit Images(const View& v) : image(v.strides[0]), row(v.strides[1]), column(v.strides[2]) {}
};

template <class T>
__global__ void resample_kernel(const Matrix<T> down, const Matrix<T> across, const T* x, const Images xs,
                                T* y, const Images ys, const Divider B, const Divider Q, const Divider P,
                                std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::uint32_t at = static_cast<std::uint32_t>(i), pixel = B.quotient(at), line = Q.quotient(pixel),
                      a = P.quotient(line), b = at - pixel * B.divisor, q = pixel - line * Q.divisor,
                      p = line - a * P.divisor;
  const T* const from = x + a * xs.image + b;
  y[a * ys.image + p * ys.row + q * ys.column + b] = across.row(q, [&](std::int64_t column) {
    return down.row(p, [&](std::int64_t row) { return from[row * xs.row + column * xs.column]; });
  });
}

}  // namespace

void resample2d(In row_starts, In rows, In row_values, In column_starts, In columns, In column_values, In x,
                Out y) {
  const std::int64_t A = y.shape[0];
  if (y.size() == 0) return;
  const std::int64_t image = y.size() / A, some = INT32_MAX / image;  // images of a launch: 32-bit divisions
  if (some == 0) not_implemented("resample2d", "2^31 numbers of one image");
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    for (std::int64_t a = 0; a < A; a += some) {
      const std::int64_t count = (A - a < some ? A - a : some) * image;
      launch(&resample_kernel<T>, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0,
             Matrix<T>(row_starts, rows, row_values), Matrix<T>(column_starts, columns, column_values),
             x.as<T>() + a * x.strides[0], Images(x), y.as<T>() + a * y.strides[0], Images(y),
             Divider(y.shape[3]), Divider(y.shape[2]), Divider(y.shape[1]), count);
    }
  });
}

}  // namespace ts::cuda
