// softmax(x)_c = exp(x_c - m) / sum_j exp(x_j - m), m = max x, and its logarithm, along rows; and their
// gradients.
//
// R rows, C columns. A row is read three times (twice backward), after the first time from cache; y is
// written once.
#include "cuda/kernels.h"
#include "cuda/rows.h"
#include "cuda/types.h"
#include "math/vmath.h"

namespace ts::cuda {
namespace {

template <class T>
TS_INLINE T exp_of(T x) {
  return vmath::exp(Vec<T>(x)).r;
}

template <class T, bool kBlock, bool kLog>
__global__ void __launch_bounds__(kRowThreads)
    softmax_kernel(RowView<const T> xs, RowView<T> ys, std::int64_t R, std::int64_t C) {
  __shared__ T room[kWarp];
  const RowTeam<T, kBlock> team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  const T* const x = xs[r];
  T* const y = ys[r];
  T m = x[0];
  team.each([&](std::int64_t i) { m = Largest{}(m, x[i]); });
  m = team.max(m);
  T sum = 0;
  team.each([&](std::int64_t i) { sum += exp_of(x[i] - m); });
  sum = team.sum(sum);
  if constexpr (kLog) {
    const T log_sum = vmath::log(Vec<T>(sum)).r;
    team.each([&](std::int64_t i) { y[i] = x[i] - m - log_sum; });
  } else {
    const T scale = T(1) / sum;
    team.each([&](std::int64_t i) { y[i] = exp_of(x[i] - m) * scale; });
  }
}

// dx = y (dy - sum dy y), or dy - exp(y) sum dy
template <class T, bool kBlock, bool kLog>
__global__ void __launch_bounds__(kRowThreads)
    softmax_backward_kernel(RowView<const T> dys, RowView<const T> ys, RowView<T> dxs, std::int64_t R,
                            std::int64_t C) {
  __shared__ T room[kWarp];
  const RowTeam<T, kBlock> team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  const T *const dy = dys[r], *const y = ys[r];
  T* const dx = dxs[r];
  T sum = 0;
  team.each([&](std::int64_t i) {
    if constexpr (kLog)
      sum += dy[i];
    else
      sum = fma(Vec<T>(dy[i]), Vec<T>(y[i]), Vec<T>(sum)).r;
  });
  sum = team.sum(sum);
  team.each([&](std::int64_t i) {
    if constexpr (kLog)
      dx[i] = dy[i] - exp_of(y[i]) * sum;
    else
      dx[i] = y[i] * (dy[i] - sum);
  });
}

template <bool kLog>
void forward(const View& x, const View& y) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    if (x.shape[1] == 0) return;
    launch_rows(&softmax_kernel<T, false, kLog>, &softmax_kernel<T, true, kLog>, x.shape[0], x.shape[1],
                RowView<const T>(x), RowView<T>(y), x.shape[0], x.shape[1]);
  });
}
template <bool kLog>
void backward(const View& dy, const View& y, const View& dx) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    launch_rows(&softmax_backward_kernel<T, false, kLog>, &softmax_backward_kernel<T, true, kLog>, y.shape[0],
                y.shape[1], RowView<const T>(dy), RowView<const T>(y), RowView<T>(dx), y.shape[0],
                y.shape[1]);
  });
}

}  // namespace

void softmax(In x, Out y) { forward<false>(x, y); }
void log_softmax(In x, Out y) { forward<true>(x, y); }
void softmax_backward(In dy, In y, Out dx) { backward<false>(dy, y, dx); }
void log_softmax_backward(In dy, In y, Out dx) { backward<true>(dy, y, dx); }

}  // namespace ts::cuda
