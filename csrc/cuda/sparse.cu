// A sparse matrix times dense rows: y_m = sum over k in row m of v_k x_{c_k}.
//
// A N B: the axes before, at and after the summed one of x; M rows of the matrix (CSR). A thread an element
// of y adds its terms in the order of k: the CPU's bits.
#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

struct Strides3 {
  std::int64_t a, row, b;
  explicit Strides3(const View& v) : a(v.strides[0]), row(v.strides[1]), b(v.strides[2]) {}
};

template <class T>
__global__ void csr_kernel(const std::int64_t* starts, const std::int64_t* columns, const T* values,
                           const T* x, const Strides3 xs, T* y, const Strides3 ys, std::int64_t M,
                           std::int64_t B, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int64_t b = i % B, m = i / B % M, a = i / (B * M);
  const T* const from = x + a * xs.a + b * xs.b;
  T sum = 0;
  for (std::int64_t k = starts[m]; k < starts[m + 1]; ++k)
    sum = fma(Vec<T>(values ? values[k] : T(1)), Vec<T>(from[columns[k] * xs.row]), Vec<T>(sum)).r;
  y[a * ys.a + m * ys.row + b * ys.b] = sum;
}

}  // namespace

void csr_matmul(In starts, In columns, In values, In x, Out y) {
  const std::int64_t count = y.size();
  if (count == 0) return;
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    launch(&csr_kernel<T>, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, starts.as<std::int64_t>(),
           columns.as<std::int64_t>(), values.as<T>(), x.as<T>(), Strides3(x), y.as<T>(), Strides3(y),
           y.shape[1], y.shape[2], count);
  });
}

}  // namespace ts::cuda
