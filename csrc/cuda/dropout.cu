// Dropout: y = keep ? x / (1 - p) : 0, with one mask bit an element.
//
// Element i in memory order takes word i of the generator and is dropped where word < p 2^32; its bit is bit
// i % 8 of mask byte i / 8. A thread a byte: two blocks of words. Reads x once, writes y once and 1/32 of a
// float32's bytes of mask; backward reads dy and the mask and writes dx.
#include "cuda/kernels.h"
#include "cuda/random.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

template <class T>
__global__ void dropout_kernel(const Generator generator, const T* x, T* y, std::uint8_t* mask,
                               std::int64_t n, std::uint64_t threshold, T scale) {
  const std::int64_t byte = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, first = byte * 8;
  if (first >= n) return;
  unsigned bits = 0;
  for (int half = 0; half < 2; ++half) {
    std::uint32_t w[4];
    generator.words(2 * byte + half, w);
    for (int j = 0; j < 4; ++j) {
      const std::int64_t i = first + 4 * half + j;
      if (i >= n) break;
      const bool keep = w[j] >= threshold;
      bits |= static_cast<unsigned>(keep) << (4 * half + j);
      y[i] = keep ? x[i] * scale : T(0);
    }
  }
  mask[byte] = static_cast<std::uint8_t>(bits);
}

template <class T>
__global__ void dropout_backward_kernel(const T* dy, const std::uint8_t* mask, T* dx, std::int64_t n,
                                        T scale) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) dx[i] = mask[i / 8] >> (i % 8) & 1 ? dy[i] * scale : T(0);
}

}  // namespace

void dropout(In x, Out state, Out y, Out mask, double p) {
  const std::int64_t n = y.size();
  if (n == 0) return;
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    launch(&dropout_kernel<T>, dim3(blocks_of(ceil_div(ceil_div(n, 8), 128))), dim3(128), 0,
           Generator{state.as<std::uint64_t>()}, x.as<T>(), y.as<T>(), mask.as<std::uint8_t>(), n,
           static_cast<std::uint64_t>(p * 0x1p32 + 0.5), p < 1 ? static_cast<T>(1 / (1 - p)) : T(0));
  });
  advance(state, (n + 3) / 4);
}

void dropout_backward(In dy, In mask, Out dx, double p) {
  const std::int64_t n = dx.size();
  if (n == 0) return;
  with_floating(dx.dtype, [&]<class T>(Type<T>) {
    launch(&dropout_backward_kernel<T>, dim3(blocks_of(ceil_div(n, 256))), dim3(256), 0, dy.as<T>(),
           mask.as<std::uint8_t>(), dx.as<T>(), n, p < 1 ? static_cast<T>(1 / (1 - p)) : T(0));
  });
}

}  // namespace ts::cuda
