// Cross-entropy of rows of logits against class indices, without ever writing the log-softmax.
//
// N rows, C classes, t the row's target, w the class weights (1 if absent), s the smoothing, l =
// logsumexp(x):
//   loss = (1 - s) w_t (l - x_t) + s/C sum_c w_c (l - x_c)                   0 where t is ignored
//   dx_c = dloss [ (a + b W) exp(x_c - l) - a 1[c = t] - b w_c ],  a = (1 - s) w_t,  b = s/C,  W = sum_c w_c
// A target that is no class counts as ignored, and check_targets complains of it.
// Logits may be halves, of which the rest is float32. Forward reads x once (with smoothing twice where a row
// is longer than registers hold) and writes two numbers a row; backward reads x once and writes dx once.
#include "cuda/kernels.h"
#include "cuda/reduce.h"
#include "cuda/rows.h"
#include "cuda/types.h"
#include "math/vmath.h"

namespace ts::cuda {
namespace {

template <class T, class X>
struct Loss {
  RowView<const X> x;
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
  TS_INLINE bool counts(std::int64_t t) const {
    return t != ignored && static_cast<std::uint64_t>(t) < static_cast<std::uint64_t>(C);
  }
};

// A block has kChecked targets, and names the first that is neither a class nor ignored.
constexpr std::int64_t kChecked = 16384;
struct Least {
  TS_INLINE std::int64_t operator()(std::int64_t a, std::int64_t b) const { return b < a ? b : a; }
};
__global__ void __launch_bounds__(1024)
    check_targets(LineView<const std::int64_t> target, std::int64_t N, std::int64_t C, std::int64_t ignored,
                  const Complaints to) {
  __shared__ std::int64_t room[kWarp];
  const std::int64_t begin = std::int64_t{blockIdx.x} * kChecked,
                     end = begin + kChecked < N ? begin + kChecked : N;
  std::int64_t worst = INT64_MAX;
#pragma unroll 4
  for (std::int64_t i = begin + threadIdx.x; i < end; i += 1024) {
    const std::int64_t t = target[i];
    const bool fits = t == ignored || static_cast<std::uint64_t>(t) < static_cast<std::uint64_t>(C);
    worst = !fits && i < worst ? i : worst;
  }
  worst = block_reduce(worst, std::int64_t{INT64_MAX}, room, Least{});
  if (threadIdx.x != 0 || worst == INT64_MAX || atomicCAS(&to.first->taken, 0, 1) != 0) return;
  to.first->value = target[worst], to.first->position = worst;
  to.first->classes = C, to.first->ignored = ignored;
  __threadfence_system();
  *static_cast<volatile std::int32_t*>(to.waiting) = 1;
}

template <class T, Rows kRows, bool kSmooth, class X>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    cross_entropy_kernel(const Loss<T, X> in, LineView<T> losses, LineView<T> lses) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows, X>;
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
  losses[r] = in.counts(t)
                  ? in.rest * (in.weight ? in.weight[t] : T(1)) * (lse - from_stored<T>(in.x[r][t])) + smooth
                  : T(0);
}

template <class T, Rows kRows, bool kSmooth, class X>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    cross_entropy_backward_kernel(const Loss<T, X> in, LineView<const T> lses, LineView<const T> dlosses,
                                  RowView<X> dxs) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows, X>;
  constexpr int kPack = Team::kPack;
  const Team team(in.C, room);
  const std::int64_t r = team.row();
  if (r >= in.N) return;
  typename Team::Row x = team.open(in.x[r], T(0));
  X* const dx = dxs[r];
  const std::int64_t t = in.target[r];
  if (!in.counts(t))
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
  std::uint64_t classes;
  TS_INLINE Sum start(std::int64_t) const { return 0; }
  TS_INLINE void step(Sum& s, Value t, Value, std::int64_t) const {
    if (t != ignored && static_cast<std::uint64_t>(t) < classes)
      s += weight ? static_cast<double>(weight[t]) : 1.0;
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = static_cast<T>(s); }
};

}  // namespace

void cross_entropy(In x, In target, In weight, Out loss, Out logsumexp, std::int64_t ignore_index,
                   double smoothing) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    const Loss<T, X> in(x, target, weight, ignore_index, smoothing);
    const LineView<T> losses(loss), lses(logsumexp);
    launch(&check_targets, dim3(blocks_of(ceil_div(in.N, kChecked))), dim3(1024), 0, in.target, in.N, in.C,
           in.ignored, complaints());
    if (in.uniform != T(0))
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_kernel, T, true, X), in.N, in.C, in, losses, lses);
    else
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_kernel, T, false, X), in.N, in.C, in, losses, lses);
  });
}

void cross_entropy_backward(In x, In target, In weight, In logsumexp, In dloss, Out dx,
                            std::int64_t ignore_index, double smoothing) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    const Loss<T, X> in(x, target, weight, ignore_index, smoothing);
    const LineView<const T> lses(logsumexp), dlosses(dloss);
    if (in.uniform != T(0))
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_backward_kernel, T, true, X), in.N, in.C, in, lses, dlosses,
                     RowView<X>(dx));
    else
      launch_rows<T>(TS_ROW_KERNELS(cross_entropy_backward_kernel, T, false, X), in.N, in.C, in, lses,
                     dlosses, RowView<X>(dx));
  });
}

void class_weight_sum(In target, In weight, Out total, std::int64_t ignore_index) {
  with_floating(total.dtype, [&]<class T>(Type<T>) {
    View one = total;
    one.ndim = 0;
    reduce("class_weight_sum", target, nullptr, one, 1,
           TargetWeight<T>{static_cast<const T*>(weight.data), total.as<T>(), ignore_index,
                           weight ? static_cast<std::uint64_t>(weight.shape[0]) : UINT64_MAX});
  });
}

}  // namespace ts::cuda
