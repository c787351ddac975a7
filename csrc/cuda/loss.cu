// Cross-entropy of rows of logits against class indices, without ever writing the log-softmax.
//
// N rows, C classes, t the row's target, w the class weights (1 if absent), s the smoothing, l =
// logsumexp(x):
//   loss = (1 - s) w_t (l - x_t) + s/C sum_c w_c (l - x_c)                   0 where t is ignored
//   dx_c = dloss [ (a + b W) exp(x_c - l) - a 1[c = t] - b w_c ],  a = (1 - s) w_t,  b = s/C,  W = sum_c w_c
// Forward reads x twice, the second time from cache, and writes two numbers a row; backward reads x once and
// writes dx once.
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

template <class T, bool kBlock>
__global__ void __launch_bounds__(kRowThreads)
    cross_entropy_kernel(const Loss<T> in, LineView<T> losses, LineView<T> lses) {
  __shared__ T room[kWarp];
  const RowTeam<T, kBlock> team(in.C, room);
  const std::int64_t r = team.row();
  if (r >= in.N) return;
  const T* const x = in.x[r];
  T m = x[0];
  team.each([&](std::int64_t i) { m = Largest{}(m, x[i]); });
  m = team.max(m);
  T sum = 0;
  team.each([&](std::int64_t i) { sum += vmath::exp(Vec<T>(x[i] - m)).r; });
  const T lse = m + vmath::log(Vec<T>(team.sum(sum))).r;
  T smooth = 0;
  if (in.uniform != T(0)) {
    team.each([&](std::int64_t i) { smooth += (lse - x[i]) * (in.weight ? in.weight[i] : T(1)); });
    smooth = in.uniform * team.sum(smooth);
  }
  if (team.thread != 0) return;
  const std::int64_t t = in.target[r];
  lses[r] = lse;
  losses[r] = t == in.ignored ? T(0) : in.rest * (in.weight ? in.weight[t] : T(1)) * (lse - x[t]) + smooth;
}

template <class T, bool kBlock>
__global__ void __launch_bounds__(kRowThreads)
    cross_entropy_backward_kernel(const Loss<T> in, LineView<const T> lses, LineView<const T> dlosses,
                                  RowView<T> dxs) {
  __shared__ T room[kWarp];
  const RowTeam<T, kBlock> team(in.C, room);
  const std::int64_t r = team.row();
  if (r >= in.N) return;
  const T* const x = in.x[r];
  T* const dx = dxs[r];
  const std::int64_t t = in.target[r];
  if (t == in.ignored) {
    team.each([&](std::int64_t i) { dx[i] = T(0); });
    return;
  }
  T total = static_cast<T>(in.C);
  if (in.weight && in.uniform != T(0)) {
    total = 0;
    team.each([&](std::int64_t i) { total += in.weight[i]; });
    total = team.sum(total);
  }
  const T g = dlosses[r], own = g * in.rest * (in.weight ? in.weight[t] : T(1)), share = g * in.uniform;
  const T lse = lses[r], scale = in.uniform == T(0) ? own : own + share * total;
  team.each([&](std::int64_t i) {
    T p = vmath::exp(Vec<T>(x[i] - lse)).r * scale;
    if (in.uniform != T(0)) p -= in.weight ? in.weight[i] * share : share;
    dx[i] = i == t ? p - own : p;
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
    launch_rows(&cross_entropy_kernel<T, false>, &cross_entropy_kernel<T, true>, in.N, in.C, in,
                LineView<T>(loss), LineView<T>(logsumexp));
  });
}

void cross_entropy_backward(In x, In target, In weight, In logsumexp, In dloss, Out dx,
                            std::int64_t ignore_index, double smoothing) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Loss<T> in(x, target, weight, ignore_index, smoothing);
    launch_rows(&cross_entropy_backward_kernel<T, false>, &cross_entropy_backward_kernel<T, true>, in.N, in.C,
                in, LineView<const T>(logsumexp), LineView<const T>(dloss), RowView<T>(dx));
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
