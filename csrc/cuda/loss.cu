// Cross-entropy of rows of logits against class indices, without ever writing the log-softmax.
//
// N rows, C classes, t the row's target, w the class weights (1 if absent), s the smoothing, l =
// logsumexp(x):
//   loss = (1 - s) w_t (l - x_t) + s/C sum_c w_c (l - x_c)                   0 where t is ignored
//   dx_c = dloss [ (a + b W) exp(x_c - l) - a 1[c = t] - b w_c ],  a = (1 - s) w_t,  b = s/C,  W = sum_c w_c
// Forward reads x once (with smoothing twice where a row is longer than registers hold) and writes two
// numbers a row; backward reads x once and writes dx once.
#include "cuda/kernels.h"
#include "cuda/reduce.h"
#include "cuda/rows.h"
#include "cuda/types.h"
#include "math/vmath.h"

namespace ts::cuda {
namespace {

template <class T>
struct Loss {
  RowView<const T> x;
  LineView<const std::int64_t> target;
  const T* weight;  // may be null
  std::int64_t N, C, ignored;
  T uniform, rest;  // smoothing / C, 1 - smoothing

  Loss(const View& x, const View& target, const View& weight, std::int64_t ignored, double smoothing)
      : x(x),
        target(target),
        weight(static_cast<const T*>(weight.data)),
        N(x.shape[0]),
        C(x.shape[1]),
        ignored(ignored),
        uniform(static_cast<T>(smoothing / static_cast<double>(x.shape[1]))),
        rest(static_cast<T>(1 - smoothing)) {}
};

template <class T, Rows kRows, bool kSmooth>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    cross_entropy_kernel(const Loss<T> in, LineView<T> losses, LineView<T> lses) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows>;
  constexpr int kPack = Team::kPack;
  const Team team(in.C, room);
  const std::int64_t r = team.row();
  if (r >= in.N) return;
  typename Team::Row x = team.open(in.x[r], -std::numeric_limits<T>::infinity());
  T m, sum;
  row_exponentials<false>(team, x, m, sum);
  const T lse = m + vmath::log(Vec<T>(sum)).r;
  T smooth = 0;
  if constexpr (kSmooth) {
    const bool aligned = row_aligned(in.weight);
    team.each(x, [&](T(&v)[kPack], typename Team::Index i) {
      RowPack<T> w;
      if (in.weight) w = load_pack(in.weight, aligned, i, team.C, T(0));
#pragma unroll
      for (int k = 0; k < kPack; ++k)
        if (i + k < team.C) smooth += (lse - v[k]) * (in.weight ? w.value[k] : T(1));
    });
    smooth = in.uniform * team.sum(smooth);
  }
  if (team.thread != 0) return;
  const std::int64_t t = in.target[r];
  lses[r] = lse;
  losses[r] =
      t == in.ignored ? T(0) : in.rest * (in.weight ? in.weight[t] : T(1)) * (lse - in.x[r][t]) + smooth;
}

template <class T, Rows kRows, bool kSmooth>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    cross_entropy_backward_kernel(const Loss<T> in, LineView<const T> lses, LineView<const T> dlosses,
                                  RowView<T> dxs) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows>;
  constexpr int kPack = Team::kPack;
  const Team team(in.C, room);
  const std::int64_t r = team.row();
  if (r >= in.N) return;
  typename Team::Row x = team.open(in.x[r], T(0));
  T* const dx = dxs[r];
  const std::int64_t t = in.target[r];
  if (t == in.ignored)
    return team.write(dx, x, [&](T(&v)[kPack], typename Team::Index) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) v[k] = T(0);
    });
  const bool aligned = row_aligned(in.weight);
  T total = static_cast<T>(in.C);
  if (kSmooth && in.weight) {
    total = 0;
    for (std::int64_t i = team.thread / kPack; i < in.C; i += team.step / kPack) total += in.weight[i];
    total = team.sum(total);
  }
  const T g = dlosses[r], own = g * in.rest * (in.weight ? in.weight[t] : T(1)), share = g * in.uniform;
  const T lse = lses[r], scale = kSmooth ? own + share * total : own;
  team.write(dx, x, [&](T(&v)[kPack], typename Team::Index i) {
    RowPack<T> w;
    if (kSmooth && in.weight) w = load_pack(in.weight, aligned, i, team.C, T(0));
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      T p = exp_of_negative(v[k] - lse) * scale;
      if constexpr (kSmooth) p -= in.weight ? w.value[k] * share : share;
      v[k] = i + k == t ? p - own : p;
    }
  });
}

// The weights of the targets that count, in double.
template <class T>
struct TargetWeight {
  using Value = std::int64_t;
  using Sum = double;
  const T* weight;
  T* y;
  std::int64_t ignored;
  TS_INLINE Sum start(std::int64_t) const { return 0; }
  TS_INLINE void step(Sum& s, Value t, Value, std::int64_t) const {
    if (t != ignored) s += weight ? static_cast<double>(weight[t]) : 1.0;
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = static_cast<T>(s); }
};

}  // namespace

void cross_entropy(In x, In target, In weight, Out loss, Out logsumexp, std::int64_t ignore_index,
                   double smoothing) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Loss<T> in(x, target, weight, ignore_index, smoothing);
    const LineView<T> losses(loss), lses(logsumexp);
    if (in.uniform != T(0))
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_kernel, T, true), in.N, in.C, in, losses, lses);
    else
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_kernel, T, false), in.N, in.C, in, losses, lses);
  });
}

void cross_entropy_backward(In x, In target, In weight, In logsumexp, In dloss, Out dx,
                            std::int64_t ignore_index, double smoothing) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Loss<T> in(x, target, weight, ignore_index, smoothing);
    const LineView<const T> lses(logsumexp), dlosses(dloss);
    if (in.uniform != T(0))
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_backward_kernel, T, true), in.N, in.C, in, lses, dlosses,
                     RowView<T>(dx));
    else
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_backward_kernel, T, false), in.N, in.C, in, lses, dlosses,
                     RowView<T>(dx));
  });
}

void class_weight_sum(In target, In weight, Out total, std::int64_t ignore_index) {
  with_floating(total.dtype, [&]<class T>(Type<T>) {
    View one = total;
    one.ndim = 0;
    reduce("class_weight_sum", target, nullptr, one, 1,
           TargetWeight<T>{static_cast<const T*>(weight.data), total.as<T>(), ignore_index});
  });
}

}  // namespace ts::cuda
