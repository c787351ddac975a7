// softmax(x)_c = exp(x_c - m) / sum_j exp(x_j - m), m = max x, and its logarithm, along rows; and their
// gradients.
//
// R rows, C columns; halves are computed in float32. A row that fits registers is read once and written once;
// a longer one is read twice, the largest and the sum of exponentials coming from the first time.
#include "cuda/kernels.h"
#include "cuda/rows.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

template <class T, Rows kRows, bool kLog, class X>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    softmax_kernel(RowView<const X> xs, RowView<X> ys, std::int64_t R, std::int64_t C) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows, X>;
  constexpr int kPack = Team::kPack;
  const Team team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  typename Team::Row x = team.open(xs[r], -std::numeric_limits<T>::infinity());
  T m, sum;
  row_exponentials<!kLog>(team, x, m, sum);
  const T log_sum = kLog ? vmath::log(Vec<T>(sum)).r : T(0), scale = T(1) / sum;
  team.write(ys[r], x, [&](T(&v)[kPack], typename Team::Index) {
#pragma unroll
    for (int k = 0; k < kPack; ++k)
      v[k] = kLog ? v[k] - m - log_sum : (Team::kKept ? v[k] : exp_of_negative(v[k] - m)) * scale;
  });
}

// dx = y (dy - sum dy y), or dy - exp(y) sum dy
template <class T, Rows kRows, bool kLog, class X>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    softmax_backward_kernel(RowView<const X> dys, RowView<const X> ys, RowView<X> dxs, std::int64_t R,
                            std::int64_t C) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows, X>;
  constexpr int kPack = Team::kPack;
  const Team team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  typename Team::Row dy = team.open(dys[r], T(0)), y = team.open(ys[r], T(0));
  X* const dx = dxs[r];
  const bool aligned = row_aligned(dx);
  T sum = 0;
  team.each(dy, y, [&](T(&d)[kPack], T(&v)[kPack], typename Team::Index) {
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum = kLog ? sum + d[k] : fma(Vec<T>(d[k]), Vec<T>(v[k]), Vec<T>(sum)).r;
  });
  sum = team.sum(sum);
  team.each(dy, y, [&](T(&d)[kPack], T(&v)[kPack], typename Team::Index i) {
    RowPack<T> out;
#pragma unroll
    for (int k = 0; k < kPack; ++k)
      out.value[k] = kLog ? d[k] - vmath::exp(Vec<T>(v[k])).r * sum : v[k] * (d[k] - sum);
    store_pack(dx, aligned, i, team.C, out);
  });
}

template <bool kLog>
void forward(const View& x, const View& y) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    if (x.shape[1] == 0) return;
    launch_rows<T>(TS_ROW_KERNELS(softmax_kernel, T, kLog, X), x.shape[0], x.shape[1], RowView<const X>(x),
                   RowView<X>(y), x.shape[0], x.shape[1]);
  });
}
template <bool kLog>
void backward(const View& dy, const View& y, const View& dx) {
  with_computed(y.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    launch_rows<T>(TS_ROW_KERNELS(softmax_backward_kernel, T, kLog, X), y.shape[0], y.shape[1],
                   RowView<const X>(dy), RowView<const X>(y), RowView<X>(dx), y.shape[0], y.shape[1]);
  });
}

}  // namespace

void softmax(In x, Out y) { forward<false>(x, y); }
void log_softmax(In x, Out y) { forward<true>(x, y); }
void softmax_backward(In dy, In y, Out dx) { backward<false>(dy, y, dx); }
void log_softmax_backward(In dy, In y, Out dx) { backward<true>(dy, y, dx); }

}  // namespace ts::cuda
