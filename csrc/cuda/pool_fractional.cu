// Fractional max pooling (Graham 2014): windows of one size whose starts follow a random sequence, as
// math/fractional.h says; every plane has samples of its own. A thread an output, which reads its window: an
// input is read from memory about once and from cache by the other windows over it. Writes y and index once.
#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"
#include "math/fractional.h"

namespace ts::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(256)
    fractional_max_pool_kernel(const T* x, const T* samples, T* y, std::int64_t* index, std::int64_t H,
                               std::int64_t W, std::int64_t P, std::int64_t Q, int height, int width) {
  const std::int64_t plane = blockIdx.x;
  const FractionalStarts<T> columns(samples[plane * 2], W, width, Q),
      rows(samples[plane * 2 + 1], H, height, P);
  const T* const from = x + plane * H * W;
  for (std::int64_t at = std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x; at < P * Q;
       at += std::int64_t{gridDim.y} * blockDim.x) {
    const std::int64_t p = at / Q, corner = rows[p] * W + columns[at - p * Q];
    T best = static_cast<T>(-__builtin_inf());
    std::int64_t where = corner;
    for (int i = 0; i < height; ++i)
      for (int j = 0; j < width; ++j) {
        const T v = from[corner + i * W + j];
        if (v > best || v != v) best = v, where = corner + i * W + j;
      }
    y[plane * P * Q + at] = best;
    index[plane * P * Q + at] = where;
  }
}

}  // namespace

void fractional_max_pool2d(In x, In samples, Out y, Out index, int height, int width) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    constexpr std::int64_t kMostBlocks = 65535;  // along y
    const std::int64_t A = x.shape[0], P = y.shape[1], Q = y.shape[2], blocks = ceil_div(P * Q, 256);
    const unsigned threads = P * Q < 256 ? static_cast<unsigned>(ceil_div(P * Q, kWarp) * kWarp) : 256;
    launch(&fractional_max_pool_kernel<T>,
           dim3(blocks_of(A), blocks_of(blocks < kMostBlocks ? blocks : kMostBlocks)), dim3(threads), 0,
           x.as<T>(), samples.as<T>(), y.as<T>(), index.as<std::int64_t>(), x.shape[1], x.shape[2], P, Q,
           height, width);
  });
}

}  // namespace ts::cuda
