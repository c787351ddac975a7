// Reductions over the last `reduced` axes: y = x_0 + x_1 + ... + x_{K-1} and its kin, by the tree of
// reduce.h.
//
// Each reads x once (variance and logsumexp twice; any and all no further than they must) and writes y once.
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
using Byte = Lane<T>;

template <class F>
struct Plain {  // y = Op over x
  using Op = F;
  static constexpr int kSums = 1, kInputs = 1, kParams = 0, kOutputs = 1;
  template <class T, class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T>, const Vec<T>*, Part part) const {
    s[0] = Op::apply(s[0], only(x, Vec<T>(Lane<T>(Op::template identity<T>)), part));
  }
  template <class T>
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const {
    y[0] = s[0];
  }
};

template <class T>
struct ShiftedExp {  // param: the maximum; an infinite or NaN maximum shifts by 0, and exp and log do what is
                     // due
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
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>* m, Vec<T>* y) const {
    y[0] = shift(m[0]) + vmath::log(s[0]);
  }
};

// --- any, all: look for one element that decides, and stop there ----------------------------------

// `Any` looks for x != 0, all for x == 0. NaN is not 0.
template <bool Any, class T>
TS_INLINE bool decides(const T* p, std::int64_t n) {
  constexpr std::int64_t W = Vec<T>::width;
  const Vec<T> zero{Lane<T>(0)};
  const auto found = [&](Vec<T> v) { return Any ? v != zero : v == zero; };
  std::int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    if (lane_bits(found(Vec<T>::load(p + i)) | found(Vec<T>::load(p + i + W)) |
                  found(Vec<T>::load(p + i + 2 * W)) | found(Vec<T>::load(p + i + 3 * W))))
      return true;
  for (; i < n; ++i)
    if ((p[i] != T(0)) == Any) return true;
  return false;
}

constexpr std::int64_t kLook = 4096;  // elements between two looks at what is known

template <bool Any, class T>
void reduce_truth(const View& x, const View& y, int reduced) {
  Axes a;
  find_axes(x, nullptr, y, reduced, a);
  const T* const base = static_cast<const T*>(x.data);
  auto* const out = static_cast<std::uint8_t*>(y.data);
  // Elements [begin, end) of one output's.
  const auto scan = [&](const T* p, std::int64_t begin, std::int64_t end) {
    alignas(64) T buffer[kLook];
    for (std::int64_t i = begin; i < end; i += kLook) {
      const std::int64_t n = end - i < kLook ? end - i : kLook;
      if (decides<Any>(elements(a, a.x, p, i, n, buffer), n)) return true;
    }
    return false;
  };
  if (a.length < 16 * kReduceGrain) {
    const std::int64_t grain = a.length >= kReduceGrain ? 1 : kReduceGrain / (a.length + 8);
    parallel_ranges(a.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const Offsets at = output_offsets(a, i, a.kept);
        out[at.y] = scan(base + at.x, 0, a.length) == Any;
      }
    });
    return;
  }
  // Long ones by all threads, if their beginning does not decide: whoever finds an element ends the others'
  // search.
  for (std::int64_t i = 0; i < a.outputs; ++i) {
    const Offsets at = output_offsets(a, i, a.kept);
    bool found = scan(base + at.x, 0, kReduceGrain);
    if (!found)
      parallel_ranges(a.length - kReduceGrain, 4 * kReduceGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end && !__atomic_load_n(&found, __ATOMIC_RELAXED);
             p += kReduceGrain) {
          const std::int64_t stop = end - p < kReduceGrain ? end : p + kReduceGrain;
          if (scan(base + at.x, kReduceGrain + p, kReduceGrain + stop))
            __atomic_store_n(&found, true, __ATOMIC_RELAXED);
        }
      });
    out[at.y] = found == Any;
  }
}
template <bool Any>
void truth(const View& x, const View& y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) { reduce_truth<Any, Byte<T>>(x, y, reduced); });
}

}  // namespace

void sum(In x, Out y, int reduced) {
  with_elements(x.dtype, [&]<class T>(Type<T>) { reduce_view<Wrapping<T>>(x, y, reduced, Plain<Add>{}); });
}
void prod(In x, Out y, int reduced) {
  with_elements(x.dtype,
                [&]<class T>(Type<T>) { reduce_view<Wrapping<T>>(x, y, reduced, Plain<Multiply>{}); });
}
void mean(In x, Out y, int reduced) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    std::int64_t count = 1;
    for (int i = x.ndim - reduced; i < x.ndim; ++i) count *= x.shape[i];
    reduce_view<S>(x, y, reduced, Mean<T>{static_cast<T>(count)});
  });
}
void max(In x, Out y, int reduced) {
  with_elements(x.dtype, [&]<class T>(Type<T>) { reduce_view<Byte<T>>(x, y, reduced, Plain<Max>{}); });
}
void min(In x, Out y, int reduced) {
  with_elements(x.dtype, [&]<class T>(Type<T>) { reduce_view<Byte<T>>(x, y, reduced, Plain<Min>{}); });
}
void any(In x, Out y, int reduced) { truth<true>(x, y, reduced); }
void all(In x, Out y, int reduced) { truth<false>(x, y, reduced); }
void logsumexp(In x, Out y, int reduced) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    reduce_view_twice<S>(x, y, Plain<Max>{}, y, ShiftedExp<Computed<S>>{}, reduced);
  });
}

void variance(In x, Out mean, Out variance, int reduced, double correction) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    std::int64_t count = 1;
    for (int i = x.ndim - reduced; i < x.ndim; ++i) count *= x.shape[i];
    const double divisor = static_cast<double>(count) - correction;
    moments<S>(x, mean, variance, reduced, divisor > 0 ? divisor : 0);
  });
}

}  // namespace ts::cpu::TS_ISA
