// searchsorted: the place of every x in a sorted row; histogram and bincount: how many fall into each bin.
//
// A thread a number. Counts are integers, so that atomics give the same sums in any order. Reads x once.
#include "cuda/kernels.h"
#include "cuda/order.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

template <class T, bool kRight>
__global__ void search_kernel(const T* sorted, std::int64_t sorted_row, std::int64_t sorted_step,
                              std::int64_t N, const T* x, std::int64_t x_row, std::int64_t x_step,
                              std::int64_t* y, std::int64_t y_row, std::int64_t y_step, std::int64_t M,
                              std::int64_t count, const Order<T, true> order) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int64_t r = i / M, m = i % M;
  const T* const row = sorted + r * sorted_row;
  const auto key = order.key(x[r * x_row + m * x_step]);
  std::int64_t low = 0, high = N;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    const auto other = order.key(row[middle * sorted_step]);
    if (kRight ? other <= key : other < key)
      low = middle + 1;
    else
      high = middle;
  }
  y[r * y_row + m * y_step] = low;
}

TS_INLINE void count_one(std::int64_t* bin) {
  static_assert(sizeof(unsigned long long) == 8);
  atomicAdd(reinterpret_cast<unsigned long long*>(bin), 1ull);
}

__global__ void bincount_kernel(const std::int64_t* x, std::int64_t n, std::int64_t* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) count_one(y + x[i]);
}

// e_i <= x < e_{i+1}, the last bin closed. Equal widths give a first guess, which the edges put right.
template <class T>
__global__ void histogram_kernel(const T* x, std::int64_t n, const T* edges, std::int64_t bins,
                                 std::int64_t* y, bool uniform) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const T value = x[i], low = edges[0], high = edges[bins];
  if (!(value >= low && value <= high)) return;  // NaN too
  std::int64_t bin = 0;
  if (uniform) {
    bin = static_cast<std::int64_t>((value - low) * (static_cast<T>(bins) / (high - low)));
    bin = bin < bins ? bin : bins - 1;
    while (bin > 0 && value < edges[bin]) --bin;
    while (bin + 1 < bins && value >= edges[bin + 1]) ++bin;
  } else {
    for (std::int64_t length = bins; length > 1;) {
      const std::int64_t half = length / 2;
      bin += edges[bin + half] <= value ? half : 0;
      length -= half;
    }
  }
  count_one(y + bin);
}

void clear(const View& y) {
  check(cudaMemsetAsync(y.data, 0, static_cast<std::size_t>(y.size()) * 8, stream()), "clearing memory");
}

}  // namespace

void searchsorted(In sorted, In x, Out index, bool right) {
  with_any(x.dtype, [&]<class B>(Type<B>) {
    using T = Lane<B>;
    const std::int64_t count = x.size();
    if (count == 0) return;
    const auto go = [&](auto kernel) {
      launch(kernel, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, sorted.as<T>(), sorted.strides[0],
             sorted.strides[1], sorted.shape[1], x.as<T>(), x.strides[0], x.strides[1],
             index.as<std::int64_t>(), index.strides[0], index.strides[1], x.shape[1], count,
             Order<T, true>(false, true));
    };
    right ? go(&search_kernel<T, true>) : go(&search_kernel<T, false>);
  });
}

void bincount(In x, Out y) {
  if (y.size() == 0) return;
  clear(y);
  if (x.size() == 0) return;
  launch(&bincount_kernel, dim3(blocks_of(ceil_div(x.size(), 256))), dim3(256), 0, x.as<std::int64_t>(),
         x.size(), y.as<std::int64_t>());
}

void histogram(In x, In edges, Out y, bool uniform) {
  clear(y);
  if (x.size() == 0) return;
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    launch(&histogram_kernel<T>, dim3(blocks_of(ceil_div(x.size(), 256))), dim3(256), 0, x.as<T>(), x.size(),
           edges.as<T>(), y.shape[0], y.as<std::int64_t>(), uniform);
  });
}

}  // namespace ts::cuda
