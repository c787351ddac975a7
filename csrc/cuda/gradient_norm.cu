// gradient_norm: the square root of the sum of squares of every element of every gradient, in float64.
//
// A fixed tree: each gradient by that of reduce.h, then the gradients in order. Reads every gradient once.
#include "cuda/kernels.h"
#include "cuda/reduce.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

template <class T>
struct Squares {
  using Value = T;
  using Sum = double;
  double* y;
  TS_INLINE Sum start(std::int64_t) const { return 0; }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const {
    s = ::fma(static_cast<double>(v), static_cast<double>(v), s);
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t) const { *y = s; }
};

__global__ void norm_kernel(const double* sums, std::int64_t count, double* norm) {
  double total = 0;
  for (std::int64_t i = 0; i < count; ++i) total += sums[i];
  *norm = ::sqrt(total);
}

}  // namespace

void gradient_norm(Ins grads, Out norm) {
  const Workspace room((grads.size > 0 ? grads.size : 1) * 8);
  double* const sums = room.as<double>();
  for (std::int64_t k = 0; k < grads.size; ++k) {
    const In& g = grads.data[k];
    // In memory order: the gradient is dense, so one axis holds it all.
    const std::int64_t size = g.size(), unit = 1;
    View flat = g;
    flat.ndim = 1, flat.shape = &size, flat.strides = &unit;
    View one = norm;
    one.ndim = 0;
    with_floating(g.dtype, [&]<class T>(Type<T>) {
      reduce("gradient_norm", flat, nullptr, one, 1, Squares<T>{sums + k});
    });
  }
  launch(&norm_kernel, dim3(1), dim3(1), 0, static_cast<const double*>(sums), grads.size, norm.as<double>());
}

}  // namespace ts::cuda
