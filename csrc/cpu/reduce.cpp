// Reductions over the last `reduced` axes: y = x_0 + x_1 + ... + x_{K-1} and its kin, by the tree of
// reduce.h.
//
// Each reads x once (variance and logsumexp twice) and writes y once.
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
  with_wide_any(x.dtype, [&]<class T>(Type<T>) { reduce_truth<Op, Byte<T>>(x, y, reduced); });
}

}  // namespace

void sum(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) { reduce_view<Wrapping<T>>(x, y, reduced, Plain<Add>{}); });
}
void prod(In x, Out y, int reduced) {
  with_wide_any(x.dtype,
                [&]<class T>(Type<T>) { reduce_view<Wrapping<T>>(x, y, reduced, Plain<Multiply>{}); });
}
void mean(In x, Out y, int reduced) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    std::int64_t count = 1;
    for (int i = x.ndim - reduced; i < x.ndim; ++i) count *= x.shape[i];
    reduce_view<T>(x, y, reduced, Mean<T>{static_cast<T>(count)});
  });
}
void max(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) { reduce_view<Byte<T>>(x, y, reduced, Plain<Max>{}); });
}
void min(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) { reduce_view<Byte<T>>(x, y, reduced, Plain<Min>{}); });
}
void any(In x, Out y, int reduced) { truth<Max>(x, y, reduced); }
void all(In x, Out y, int reduced) { truth<Min>(x, y, reduced); }
void logsumexp(In x, Out y, int reduced) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    reduce_view_twice<T>(x, y, Plain<Max>{}, y, ShiftedExp<T>{}, reduced);
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
