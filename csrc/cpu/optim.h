// What the optimizers share: a walk over the elements of every parameter, with its gradient and its state.
//
// The elements of all parameters, end to end, are cut into pieces of fixed size. A gradient may be
// row-sparse: rows r[0] < r[1] < ... of the parameter, and the values of these rows alone; then only these
// are walked.
#pragma once

#include <cstring>

#include "core/view.h"
#include "cpu/half.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kOptimGrain = 16384;  // elements of a piece: 448 KB of Adam's memory
enum Slot { kLr, kWeightDecay, kGradScale, kFirst };

// Elements [begin, end) of a parameter; element i has its state at offset + i, its gradient at shift + i.
struct Range {
  std::int64_t param, begin, end, offset, shift;
  template <class T>
  TS_INLINE const T* gradient(const Ins& grads) const {
    return grads.data[param].as<T>() + shift;
  }
};

// Calls update(range) for elements [from, to) of parameter k's gradient, and then fills them with zeros if
// asked.
template <class Update>
TS_INLINE void update_gradient(Outs params, const Ins& rows, const Outs& zeroed, std::int64_t k,
                               std::int64_t from, std::int64_t to, std::int64_t offset,
                               const Update& update) {
  if (!rows.size || !rows.data[k]) {
    update(Range{k, from, to, offset, 0});
  } else {
    const std::int64_t* const row = rows.data[k].as<std::int64_t>();
    std::int64_t columns = 1;
    for (int d = 1; d < params.data[k].ndim; ++d) columns *= params.data[k].shape[d];
    for (std::int64_t i = from / columns; i * columns < to; ++i) {
      const std::int64_t shift = (i - row[i]) * columns;
      const std::int64_t first = i * columns < from ? from : i * columns;
      const std::int64_t last = (i + 1) * columns < to ? (i + 1) * columns : to;
      update(Range{k, first - shift, last - shift, offset, shift});
    }
  }
  if (zeroed.size && zeroed.data[k]) {
    const auto size = static_cast<std::int64_t>(itemsize(zeroed.data[k].dtype));
    std::memset(zeroed.data[k].as<char>() + from * size, 0, static_cast<std::size_t>((to - from) * size));
  }
}

// update(range) for ranges of elements of every parameter that has a gradient.
template <class Update>
void for_each_range(Outs params, Ins grads, Ins rows, Outs zeroed, const Update& update) {
  const auto extent = [&](std::int64_t k) {
    return rows.size && rows.data[k] ? grads.data[k].size() : params.data[k].size();
  };
  std::int64_t total = 0;
  for (std::int64_t k = 0; k < params.size; ++k) total += extent(k);
  if (total <= kOptimGrain) {
    std::int64_t offset = 0;
    for (std::int64_t k = 0; k < params.size; ++k) {
      const std::int64_t n = extent(k);
      if (grads.data[k] && n) update_gradient(params, rows, zeroed, k, 0, n, offset, update);
      offset += params.data[k].size();
    }
    return;
  }
  // Where each parameter begins, in what is walked and in the state.
  struct Start {
    std::int64_t walked, state;
  };
  Start* const starts = static_cast<Start*>(scratch());
  starts[0] = {0, 0};
  for (std::int64_t k = 0; k < params.size; ++k)
    starts[k + 1] = {starts[k].walked + extent(k), starts[k].state + params.data[k].size()};
  const std::int64_t grain = (even_grain(total, kOptimGrain) + 63) / 64 * 64;
  parallel_ranges(total, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t k = 0, last = params.size - 1;  // the parameter that holds element `begin`
    while (k < last) {
      const std::int64_t middle = k + (last - k + 1) / 2;
      if (starts[middle].walked <= begin)
        k = middle;
      else
        last = middle - 1;
    }
    for (; k < params.size && starts[k].walked < end; ++k) {
      const std::int64_t from = begin > starts[k].walked ? begin - starts[k].walked : 0;
      const std::int64_t to = (end < starts[k + 1].walked ? end : starts[k + 1].walked) - starts[k].walked;
      if (grads.data[k] && from < to)
        update_gradient(params, rows, zeroed, k, from, to, starts[k].state, update);
    }
  });
}

// One more step for every parameter that has a gradient.
inline void count_steps(Outs params, Ins grads, Out step) {
  if (!step) return;
  for (std::int64_t k = 0; k < params.size; ++k)
    if (grads.data[k]) step.as<double>()[k] += 1;
}

// A full register or the first n lanes, of numbers or of halves: the loop body is written once for all.
template <class T>
struct Whole {
  TS_INLINE Vec<T> operator()(const T* p) const { return Vec<T>::load(p); }
  TS_INLINE void operator()(Vec<T> x, T* p) const { x.store(p); }
  template <class S>
  TS_INLINE Vec<T> operator()(const S* p) const {
    return get(p, All{});
  }
  template <class S>
  TS_INLINE void operator()(Vec<T> x, S* p) const {
    put(p, x, All{});
  }
};
template <class T>
struct Partial {
  std::int64_t n;
  TS_INLINE Vec<T> operator()(const T* p) const { return Vec<T>::load_partial(p, n); }
  TS_INLINE void operator()(Vec<T> x, T* p) const { x.store_partial(p, n); }
  template <class S>
  TS_INLINE Vec<T> operator()(const S* p) const {
    return get(p, First{n});
  }
  template <class S>
  TS_INLINE void operator()(Vec<T> x, S* p) const {
    put(p, x, First{n});
  }
};

// body(io, i) for every register of [begin, end); io(p + i) loads and io(x, p + i) stores.
template <class T, class Body>
TS_INLINE void for_each_register(std::int64_t begin, std::int64_t end, const Body& body) {
  std::int64_t i = begin;
  for (; i + Vec<T>::width <= end; i += Vec<T>::width) body(Whole<T>{}, i);
  if (i < end) body(Partial<T>{end - i}, i);
}

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};
template <class F>
TS_INLINE void with_flag(bool value, const F& f) {
  if (value)
    f(Flag<true>{});
  else
    f(Flag<false>{});
}

// What every optimizer does to the gradient first: scale and sign, then the coupled decay.
template <class T, bool kDecay>
struct Gradient {
  Vec<T> scale, decay;

  Gradient(const double* hyper, bool maximize)
      : scale(static_cast<T>(maximize ? -hyper[kGradScale] : hyper[kGradScale])),
        decay(static_cast<T>(hyper[kWeightDecay])) {}
  TS_INLINE Vec<T> operator()(Vec<T> g, Vec<T> p) const {
    g = g * scale;
    return kDecay ? fma(decay, p, g) : g;
  }
};

// Squares summed in float64: element i of a range goes to sum i mod kLanes, then the sums are added pairwise.
class SquareSum {
 public:
  static constexpr int kLanes = 32;

  SquareSum() {
    for (auto& s : sums_) s = Vec<double>(0.0);
  }
  // The next kLanes elements; the last call may hold fewer, followed by zeros.
  TS_INLINE void add(const float* x) {
    constexpr int kWidth = Vec<float>::width, kHalf = Vec<double>::width;
    for (int r = 0; r < kLanes / kWidth; ++r) {
      const DoublePair v = widen(Vec<float>::load(x + r * kWidth));
      sums_[r * kWidth / kHalf] = fma(v.low, v.low, sums_[r * kWidth / kHalf]);
      sums_[r * kWidth / kHalf + 1] = fma(v.high, v.high, sums_[r * kWidth / kHalf + 1]);
    }
  }
  TS_INLINE void add(const double* x) {
    constexpr int kWidth = Vec<double>::width;
    for (int r = 0; r < kLanes / kWidth; ++r) {
      const Vec<double> v = Vec<double>::load(x + r * kWidth);
      sums_[r] = fma(v, v, sums_[r]);
    }
  }
  template <class S>
  TS_INLINE void add(const S* x) {
    alignas(64) float wide[kLanes];
    for (int i = 0; i < kLanes; i += Vec<float>::width) get(x + i, All{}).store(wide + i);
    add(wide);
  }
  double total() const {
    double lanes[kLanes];
    std::memcpy(lanes, sums_, sizeof lanes);
    for (int half = kLanes / 2; half; half /= 2)
      for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
    return lanes[0];
  }

 private:
  Vec<double> sums_[kLanes / Vec<double>::width];
};

}  // namespace ts::cpu::TS_ISA
