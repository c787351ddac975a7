// Reductions over the last `reduced` axes: y = x_0 + x_1 + ... + x_{K-1} and its kin, by the tree of reduce.h.
//
// Each reads x once (variance and logsumexp twice, argmax once and one leaf again) and writes y once.
#include "cpu/kernels.h"
#include "cpu/moments.h"
#include "cpu/types.h"
#include "math/vmath.h"

namespace ts::cpu::TS_ISA {
namespace {

// Integers wrap, so they are added as unsigned numbers; bool is a byte.
template <class T>
struct WrappingOf {
  using type = T;
};
template <>
struct WrappingOf<std::int32_t> {
  using type = std::uint32_t;
};
template <>
struct WrappingOf<std::int64_t> {
  using type = std::uint64_t;
};
template <>
struct WrappingOf<bool> {
  using type = std::uint8_t;
};
template <class T>
using Wrapping = typename WrappingOf<T>::type;
template <class T>
using Byte = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;

template <class F>
struct Plain {  // y = Op over x
  using Op = F;
  static constexpr int kSums = 1, kInputs = 1, kParams = 0, kOutputs = 1;
  template <class T, class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T>, const Vec<T>*, Part part) const {
    s[0] = Op::apply(s[0], only(x, Vec<T>(Lane<T>(Op::template identity<T>)), part));
  }
  template <class T>
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const { y[0] = s[0]; }
};

template <class T>
struct ShiftedExp {  // param: the maximum; an infinite or NaN maximum shifts by 0, and exp and log do what is due
  using Op = Add;
  static constexpr int kSums = 1, kInputs = 1, kParams = 1, kOutputs = 1;
  TS_INLINE static Vec<T> shift(Vec<T> m) {
    const Vec<T> zero(T(0));
    return select(m - m == zero, m, zero);
  }
  template <class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T>, const Vec<T>* m, Part part) const {
    s[0] = s[0] + only(vmath::exp(x - shift(m[0])), Vec<T>(T(0)), part);
  }
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>* m, Vec<T>* y) const { y[0] = shift(m[0]) + vmath::log(s[0]); }
};

// --- any, all: of x != 0, as bytes ---------------------------------------------------------------

template <class Op, class T>
void reduce_truth(const View& x, const View& y, int reduced) {
  Axes a;
  find_axes(x, nullptr, y, reduced, a);
  const std::int64_t grain = a.length >= kReduceGrain ? 1 : kReduceGrain / (a.length + 8);
  constexpr std::int64_t kBlock = 4096;
  parallel_ranges(a.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) std::uint8_t truth[kBlock];
    for (std::int64_t i = begin; i < end; ++i) {
      const Offsets at = output_offsets(a, i, a.kept);
      std::uint8_t result = Op::template identity<std::uint8_t> != 0;
      for (std::int64_t p = 0; p < a.length; p += kBlock) {
        const std::int64_t n = a.length - p < kBlock ? a.length - p : kBlock;
        gather(a, a.x, static_cast<const T*>(x.data) + at.x, p, n, truth,
               [](T v) { return static_cast<std::uint8_t>(v != T(0)); });
        std::uint8_t block = result;
        for (std::int64_t j = 0; j < n; ++j) block = Op::apply(block, truth[j]);
        result = block;
      }
      static_cast<std::uint8_t*>(y.data)[at.y] = result;
    }
  });
}
template <class Op>
void truth(const View& x, const View& y, int reduced) {
  with_any(x.dtype, [&]<class T>(Type<T>) { reduce_truth<Op, Byte<T>>(x, y, reduced); });
}

// --- argmax, argmin ------------------------------------------------------------------------------

// Whether `candidate`, which comes later, replaces `best`.
template <class Op, class T>
TS_INLINE bool beats(T candidate, T best) {
  if constexpr (std::is_floating_point_v<T>)
    if (best != best) return false;
  return Op::apply(best, candidate) != best;
}

// The extreme value of each leaf, then the place of the first equal in the first leaf that has it.
template <class Op, class T>
std::int64_t first_extreme(const Axes& a, const T* x, std::int64_t begin, std::int64_t end, T* value) {
  alignas(64) T buffer[kLeaf<T>];
  const auto extreme = [&](const T* p, std::int64_t n) {
    T result;
    leaf<Op, T, 1>(0, n, [&](Vec<T>* s, std::int64_t i, auto part) {
      s[0] = Op::apply(s[0], only(get(p + i, part), Vec<T>(Lane<T>(Op::template identity<T>)), part));
    }, &result);
    return result;
  };
  std::int64_t where = begin;
  T best{};
  for (std::int64_t p = begin; p < end; p += kLeaf<T>) {
    const std::int64_t n = end - p < kLeaf<T> ? end - p : kLeaf<T>;
    const T candidate = extreme(elements(a, a.x, x, p, n, buffer), n);
    if (p == begin || beats<Op>(candidate, best)) best = candidate, where = p;
  }
  const std::int64_t n = end - where < kLeaf<T> ? end - where : kLeaf<T>;
  const T* const p = elements(a, a.x, x, where, n, buffer);
  std::int64_t i = 0;
  const Vec<T> wanted{Lane<T>(best)};
  for (; i + Vec<T>::width <= n; i += Vec<T>::width) {
    const Vec<T> v = Vec<T>::load(p + i);
    if (any_lane((v == wanted) | (v != v))) break;
  }
  while (i < n - 1 && !(p[i] == best || p[i] != p[i])) ++i;
  *value = best;
  return where + i;
}

template <class Op, class T>
void argextreme(const View& x, const View& y, int reduced) {
  Axes a;
  find_axes(x, nullptr, y, reduced, a);
  const T* const data = static_cast<const T*>(x.data);
  std::int64_t* const index = static_cast<std::int64_t*>(y.data);
  if (a.length < 2 * kChunk<T>) {
    const std::int64_t grain = a.length >= kReduceGrain ? 1 : kReduceGrain / (a.length + 8);
    parallel_ranges(a.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const Offsets at = output_offsets(a, i, a.kept);
        T value;
        index[at.y] = first_extreme<Op, T>(a, data + at.x, 0, a.length, &value);
      }
    });
    return;
  }
  struct Found {
    std::int64_t where;
    T value;
  };
  const std::int64_t chunks = (a.length + kChunk<T> - 1) / kChunk<T>;
  Found* const found = static_cast<Found*>(scratch());
  parallel_for(a.outputs * chunks, [&](std::int64_t piece) {
    const std::int64_t begin = piece % chunks * kChunk<T>;
    const std::int64_t end = a.length - begin < kChunk<T> ? a.length : begin + kChunk<T>;
    const T* const row = data + output_offsets(a, piece / chunks, a.kept).x;
    found[piece].where = first_extreme<Op, T>(a, row, begin, end, &found[piece].value);
  });
  for (std::int64_t i = 0; i < a.outputs; ++i) {
    Found best = found[i * chunks];
    for (std::int64_t q = 1; q < chunks; ++q)
      if (beats<Op>(found[i * chunks + q].value, best.value)) best = found[i * chunks + q];
    index[output_offsets(a, i, a.kept).y] = best.where;
  }
}

}  // namespace

void sum(In x, Out y, int reduced) {
  with_any(x.dtype, [&]<class T>(Type<T>) { reduce_view<Wrapping<T>>(x, y, reduced, Plain<Add>{}); });
}
void prod(In x, Out y, int reduced) {
  with_any(x.dtype, [&]<class T>(Type<T>) { reduce_view<Wrapping<T>>(x, y, reduced, Plain<Multiply>{}); });
}
void mean(In x, Out y, int reduced) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    std::int64_t count = 1;
    for (int i = x.ndim - reduced; i < x.ndim; ++i) count *= x.shape[i];
    reduce_view<T>(x, y, reduced, Mean<T>{static_cast<T>(count)});
  });
}
void max(In x, Out y, int reduced) {
  with_any(x.dtype, [&]<class T>(Type<T>) { reduce_view<Byte<T>>(x, y, reduced, Plain<Max>{}); });
}
void min(In x, Out y, int reduced) {
  with_any(x.dtype, [&]<class T>(Type<T>) { reduce_view<Byte<T>>(x, y, reduced, Plain<Min>{}); });
}
void any(In x, Out y, int reduced) { truth<Max>(x, y, reduced); }
void all(In x, Out y, int reduced) { truth<Min>(x, y, reduced); }
void argmax(In x, Out y, int reduced) {
  with_any(x.dtype, [&]<class T>(Type<T>) { argextreme<Max, Byte<T>>(x, y, reduced); });
}
void argmin(In x, Out y, int reduced) {
  with_any(x.dtype, [&]<class T>(Type<T>) { argextreme<Min, Byte<T>>(x, y, reduced); });
}

void logsumexp(In x, Out y, int reduced) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    reduce_view<T>(x, y, reduced, Plain<Max>{});
    reduce_view<T>(x, y, reduced, ShiftedExp<T>{}, y.as<T>());
  });
}

void variance(In x, Out mean, Out variance, int reduced, double correction) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    std::int64_t count = 1;
    for (int i = x.ndim - reduced; i < x.ndim; ++i) count *= x.shape[i];
    const double divisor = static_cast<double>(count) - correction;
    moments<T>(x, mean, variance, reduced, divisor > 0 ? divisor : 0);
  });
}

}  // namespace ts::cpu::TS_ISA
