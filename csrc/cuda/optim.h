// What the optimizers share: a walk over the elements of every parameter, with its gradient and its state.
//
// A launch takes up to 48 parameters (their addresses are its arguments); a block 4096 elements of one of
// them. A gradient may be row-sparse: rows r[0] < r[1] < ... of the parameter, and the values of these rows
// alone. The scalars of a step are computed in float64, once a parameter, and rounded once.
#pragma once

#include <cmath>

#include "cuda/simd.h"
#include "cuda/types.h"

namespace ts::cuda {

enum Slot { kLr, kWeightDecay, kGradScale, kFirst };
constexpr int kParameters = 48, kStepThreads = 256;
constexpr std::int64_t kStepBlock = 4096;  // elements

struct Batch {
  void* param[kParameters];
  const void* grad[kParameters];
  void* zeroed[kParameters];              // the gradient again where it becomes zeros, else null
  const std::int64_t* rows[kParameters];  // of a row-sparse gradient, else null
  std::int64_t columns[kParameters];
  std::int64_t size[kParameters];    // of the gradient
  std::int64_t offset[kParameters];  // of the state
  std::int32_t number[kParameters];  // in the group
  std::int32_t first_block[kParameters + 1];
  std::int32_t count;

  // The parameter that this block works on.
  TS_INLINE int parameter() const {
    int k = 0;
    for (int last = count - 1; k < last;) {
      const int middle = k + (last - k + 1) / 2;
      if (first_block[middle] <= static_cast<int>(blockIdx.x))
        k = middle;
      else
        last = middle - 1;
    }
    return k;
  }
  // This block's elements of it.
  TS_INLINE std::int64_t begin(int k) const {
    return (std::int64_t{blockIdx.x} - first_block[k]) * kStepBlock;
  }
  TS_INLINE std::int64_t end(int k) const {
    const std::int64_t stop = begin(k) + kStepBlock;
    return stop < size[k] ? stop : size[k];
  }
  // Where element i of the gradient is in the parameter.
  TS_INLINE std::int64_t place(int k, std::int64_t i) const {
    if (!rows[k]) return i;
    const std::int64_t row = i / columns[k];
    return rows[k][row] * columns[k] + (i - row * columns[k]);
  }
};

// Once a parameter: rule.begin(hyper, t, number) before a step, and the step's numbers; rule.end after it.
template <class Rule>
__global__ void begin_step_kernel(const Batch batch, const double* hyper, double* step, const Rule rule,
                                  typename Rule::Numbers* numbers) {
  const int k = static_cast<int>(threadIdx.x);
  if (k >= batch.count) return;
  if (step) step[batch.number[k]] += 1;
  const double t = step ? step[batch.number[k]] : 0;
  rule.begin(hyper, t, batch.number[k]);
  numbers[k] = rule.prepare(hyper, t, batch.number[k]);
}
template <class Rule>
__global__ void end_step_kernel(const Batch batch, const double* hyper, const double* step, const Rule rule) {
  const int k = static_cast<int>(threadIdx.x);
  if (k < batch.count) rule.end(hyper, step[batch.number[k]], batch.number[k]);
}

// What every optimizer does to the gradient first: scale and sign, then the coupled decay.
template <class T>
struct Gradient {
  T scale, decay;
  TS_INLINE Gradient(const double* hyper, bool coupled, bool maximize)
      : scale(static_cast<T>(maximize ? -hyper[kGradScale] : hyper[kGradScale])),
        decay(coupled ? static_cast<T>(hyper[kWeightDecay]) : T(0)) {}
  TS_INLINE Vec<T> operator()(Vec<T> g, Vec<T> x) const {
    const Vec<T> d = g * Vec<T>(scale);
    return decay != T(0) ? fma(Vec<T>(decay), x, d) : d;
  }
};

// A rule: coupled(), whether the decay goes through the gradient; prepare(hyper, t, number), the numbers of a
// step; apply(numbers, i, x, d), the new parameter, with element i of the state; states(near, far), its
// arrays of state: those that there always are, and others.
struct Rule {
  static constexpr bool kEnds = false;
  TS_INLINE bool coupled() const { return true; }
  TS_INLINE void begin(const double*, double, int) const {}
};
constexpr int kNearStates = 2;
// Elements that a thread has on their way at once: what is written might be what is read next, for all that
// the compiler knows.
constexpr int kStepAhead = 4;

// kDense: no gradient of the batch is row-sparse.
template <class T, class Rule, bool kDense>
__global__ void __launch_bounds__(kStepThreads)
    step_kernel(const Batch batch, const double* hyper, const typename Rule::Numbers* all, const Rule rule,
                bool maximize) {
  const int k = batch.parameter();
  const typename Rule::Numbers numbers = all[k];
  const Gradient<T> gradient(hyper, rule.coupled(), maximize);
  const std::int64_t begin = batch.begin(k), offset = batch.offset[k] + (kDense ? begin : 0);
  const int n = static_cast<int>(batch.end(k) - begin);
  T* const p = static_cast<T*>(batch.param[k]) + (kDense ? begin : 0);
  const T* const g = static_cast<const T*>(batch.grad[k]) + begin;
  T* const zeroed = batch.zeroed[k] ? static_cast<T*>(batch.zeroed[k]) + begin : nullptr;
  for (int first = static_cast<int>(threadIdx.x); first < n; first += kStepAhead * kStepThreads) {
    T x[kStepAhead], d[kStepAhead], near[kNearStates][kStepAhead];
    const auto place = [&](int u) {
      const int i = first + u * kStepThreads;
      return kDense ? i : batch.place(k, begin + i);
    };
#pragma unroll
    for (int u = 0; u < kStepAhead; ++u) {
      if (first + u * kStepThreads >= n) break;
      const std::int64_t at = place(u);
      x[u] = p[at], d[u] = g[first + u * kStepThreads];
      Rule from = rule;
      int state = 0;
      from.states([&](T*& s) { near[state++][u] = s[offset + at]; }, [](T*&) {});
    }
#pragma unroll
    for (int u = 0; u < kStepAhead; ++u) {
      if (first + u * kStepThreads >= n) break;
      const std::int64_t at = place(u);
      Rule own = rule, to = rule;
      int state = 0;
      own.states([&](T*& s) { s = near[state++]; },
                 [&](T*& s) {
                   if (s) s += offset + at - u;
                 });
      p[at] = own.apply(numbers, u, Vec<T>(x[u]), gradient(Vec<T>(d[u]), Vec<T>(x[u]))).r;
      state = 0;
      to.states([&](T*& s) { s[offset + at] = near[state++][u]; }, [](T*&) {});
      if (zeroed) zeroed[first + u * kStepThreads] = T(0);
    }
  }
}

// launches(batch) for every 48 parameters that have a gradient.
template <class Launches>
void for_each_batch(const Outs& params, const Ins& grads, const Ins& rows, const Outs& zeroed,
                    const Launches& launches) {
  Batch batch{};
  std::int64_t offset = 0;
  for (std::int64_t k = 0; k < params.size; ++k) {
    const View& p = params.data[k];
    if (grads.data[k]) {
      const int at = batch.count++;
      batch.param[at] = p.data;
      batch.grad[at] = grads.data[k].data;
      batch.zeroed[at] = zeroed.size ? zeroed.data[k].data : nullptr;
      batch.rows[at] = rows.size && rows.data[k] ? rows.data[k].as<std::int64_t>() : nullptr;
      batch.columns[at] = p.ndim > 0 && p.shape[0] > 0 ? p.size() / p.shape[0] : 1;
      batch.size[at] = grads.data[k].size();
      batch.offset[at] = offset;
      batch.number[at] = static_cast<std::int32_t>(k);
      batch.first_block[at + 1] =
          batch.first_block[at] + static_cast<std::int32_t>(ceil_div(batch.size[at], kStepBlock));
      if (batch.count == kParameters) {
        launches(batch);
        batch.count = 0;
      }
    }
    offset += p.size();
  }
  if (batch.count > 0) launches(batch);
}

template <class T, class Rule>
void run(const Outs& params, const Ins& grads, const Ins& rows, const Outs& zeroed, const View& step,
         const View& hyper, const Rule& rule, bool maximize) {
  const double* const h = static_cast<const double*>(hyper.data);
  double* const steps = static_cast<double*>(step.data);
  for_each_batch(params, grads, rows, zeroed, [&](const Batch& batch) {
    const Workspace room(kParameters * static_cast<std::int64_t>(sizeof(typename Rule::Numbers)));
    auto* const numbers = room.as<typename Rule::Numbers>();
    launch(&begin_step_kernel<Rule>, dim3(1), dim3(kParameters), 0, batch, h, steps, rule, numbers);
    bool dense = true;
    for (int k = 0; k < batch.count; ++k) dense &= !batch.rows[k];
    if (const auto blocks = static_cast<unsigned>(batch.first_block[batch.count]); blocks > 0)
      launch(dense ? &step_kernel<T, Rule, true> : &step_kernel<T, Rule, false>, dim3(blocks),
             dim3(kStepThreads), 0, batch, h, static_cast<const typename Rule::Numbers*>(numbers), rule,
             maximize);
    if constexpr (Rule::kEnds)
      launch(&end_step_kernel<Rule>, dim3(1), dim3(kParameters), 0, batch, h,
             static_cast<const double*>(steps), rule);
  });
}

}  // namespace ts::cuda
