// cumprod, y_c = x_0 ... x_c, cummax and cummin with their places, and logcumsumexp, along rows.
//
// R rows, C columns; a thread a row, one element after another: parts of a product could overflow where the
// whole does not. Products and sums of floats in float64. Reads x once, writes y once.
#include <limits>

#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"
#include "math/vmath.h"

namespace ts::cuda {
namespace {

template <class T, class Product>
__global__ void cumprod_kernel(const T* x, std::int64_t xs, T* y, std::int64_t ys, std::int64_t R,
                               std::int64_t C) {
  const std::int64_t r = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= R) return;
  Product product = 1;
  for (std::int64_t c = 0; c < C; ++c) {
    product *= static_cast<Product>(x[r * xs + c]);
    y[r * ys + c] = static_cast<T>(product);
  }
}

// NaN stays, and of equals the last one counts.
template <class T, bool kLargest>
__global__ void extremes_kernel(const T* x, std::int64_t xs, T* y, std::int64_t ys, std::int64_t* index,
                                std::int64_t is, std::int64_t R, std::int64_t C) {
  const std::int64_t r = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= R) return;
  T best = x[r * xs];
  std::int64_t place = 0;
  for (std::int64_t c = 0; c < C; ++c) {
    const T value = x[r * xs + c];
    if (best == best && (value != value || (kLargest ? value >= best : value <= best)))
      best = value, place = c;
    y[r * ys + c] = best;
    if (index) index[r * is + c] = place;
  }
}

// y_c = m + log s with m the largest so far and s the sum of e^(x_j - m).
template <class T>
__global__ void log_sums_kernel(const T* x, std::int64_t xs, T* y, std::int64_t ys, std::int64_t R,
                                std::int64_t C) {
  const std::int64_t r = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= R) return;
  T high = -std::numeric_limits<T>::infinity();
  double sum = 0;
  for (std::int64_t c = 0; c < C; ++c) {
    const T value = x[r * xs + c];
    const bool over = value > high;
    const T below = value == high ? T(0) : over ? high - value : value - high;  // equal infinities: 0 apart
    const double e = static_cast<double>(vmath::exp(Vec<T>(below)).r);
    high = over ? value : high;
    sum = sum * (over ? e : 1.0) + (over ? 1.0 : e);
    y[r * ys + c] = high + vmath::log(Vec<T>(static_cast<T>(sum))).r;
  }
}

// sums_c = dy_c + e^(y_c - y_{c+1}) sums_{c+1}, from the end.
template <class T>
__global__ void decayed_sums_kernel(const T* dy, std::int64_t ds, const T* y, std::int64_t ys, T* sums,
                                    std::int64_t ss, std::int64_t R, std::int64_t C) {
  const std::int64_t r = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= R) return;
  double sum = 0;
  T behind = 0;
  for (std::int64_t c = C; c-- > 0;) {
    const T here = y[r * ys + c], apart = c + 1 == C || here == behind ? T(0) : here - behind;
    sum = sum * static_cast<double>(vmath::exp(Vec<T>(apart)).r) + static_cast<double>(dy[r * ds + c]);
    sums[r * ss + c] = static_cast<T>(sum);
    behind = here;
  }
}

template <bool kLargest>
void extremes(const View& x, const View& y, const View& index) {
  with_wide_any(x.dtype, [&]<class B>(Type<B>) {
    using T = Lane<B>;
    if (x.size() == 0) return;
    launch(&extremes_kernel<T, kLargest>, dim3(blocks_of(ceil_div(x.shape[0], 64))), dim3(64), 0,
           static_cast<const T*>(x.data), x.strides[0], static_cast<T*>(y.data), y.strides[0],
           static_cast<std::int64_t*>(index.data), index ? index.strides[0] : std::int64_t{0}, x.shape[0],
           x.shape[1]);
  });
}

}  // namespace

void cumprod(In x, Out y) {
  with_wide_any(x.dtype, [&]<class B>(Type<B>) {
    using T = Lane<B>;
    using Product = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
    if (x.size() == 0) return;
    launch(&cumprod_kernel<T, Product>, dim3(blocks_of(ceil_div(x.shape[0], 64))), dim3(64), 0, x.as<T>(),
           x.strides[0], y.as<T>(), y.strides[0], x.shape[0], x.shape[1]);
  });
}
void cummax(In x, Out y, Out index) { extremes<true>(x, y, index); }
void cummin(In x, Out y, Out index) { extremes<false>(x, y, index); }
void logcumsumexp(In x, Out y) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    if (x.size() == 0) return;
    launch(&log_sums_kernel<T>, dim3(blocks_of(ceil_div(x.shape[0], 64))), dim3(64), 0, x.as<T>(),
           x.strides[0], y.as<T>(), y.strides[0], x.shape[0], x.shape[1]);
  });
}
void logcumsumexp_backward(In dy, In y, Out sums) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    if (y.size() == 0) return;
    launch(&decayed_sums_kernel<T>, dim3(blocks_of(ceil_div(y.shape[0], 64))), dim3(64), 0, dy.as<T>(),
           dy.strides[0], y.as<T>(), y.strides[0], sums.as<T>(), sums.strides[0], y.shape[0], y.shape[1]);
  });
}

}  // namespace ts::cuda
