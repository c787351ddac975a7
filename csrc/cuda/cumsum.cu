// y_i = x_0 + ... + x_i along rows: float32 in double, integers wrap.
//
// R rows, C columns. A block takes a row 1024 elements at a time: scans in warps, warps' totals scanned, and
// the sum so far carried on. Reads x once, writes y once.
#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

constexpr int kThreads = 1024;

template <class S>
TS_INLINE S warp_scan(S x, int lane) {
  for (int step = 1; step < kWarp; step *= 2) {
    const S other = __shfl_up_sync(kAllLanes, x, step);
    if (lane >= step) x = x + other;
  }
  return x;
}

template <class T, class S>
__global__ void __launch_bounds__(kThreads)
    cumsum_kernel(const T* x, std::int64_t xs, T* y, std::int64_t ys, std::int64_t C) {
  __shared__ S totals[kThreads / kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  x += std::int64_t{blockIdx.x} * xs;
  y += std::int64_t{blockIdx.x} * ys;
  S carried = 0;
  for (std::int64_t first = 0; first < C; first += kThreads) {
    const std::int64_t i = first + threadIdx.x;
    S sum = warp_scan(i < C ? static_cast<S>(x[i]) : S(0), lane);
    __syncthreads();
    if (lane == kWarp - 1) totals[warp] = sum;
    __syncthreads();
    const S scanned = warp_scan(totals[lane], lane);
    const S before = __shfl_sync(kAllLanes, scanned, warp > 0 ? warp - 1 : 0);
    const S all = __shfl_sync(kAllLanes, scanned, kWarp - 1);
    if (i < C) y[i] = static_cast<T>(carried + (warp > 0 ? before : S(0)) + sum);
    carried = carried + all;
  }
}

}  // namespace

void cumsum(In x, Out y) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    using L = Lane<T>;
    using S = std::conditional_t<std::is_floating_point_v<T>, double, typename WrappingOf<L>::type>;
    if (x.size() == 0) return;
    launch(&cumsum_kernel<L, S>, dim3(blocks_of(x.shape[0])), dim3(kThreads), 0, x.as<L>(), x.strides[0],
           y.as<L>(), y.strides[0], x.shape[1]);
  });
}

}  // namespace ts::cuda
