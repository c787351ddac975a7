// Twin<T>: two registers worked on side by side.
//
// A long formula is one chain of dependent instructions; two of them fill the pipelines that one leaves idle.
// It has the vocabulary of Vec<T>, so the same formulas serve it.
#pragma once

#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

template <class T>
struct Twin {
  using Element = T;
  static constexpr int width = 2 * Vec<T>::width;

  Vec<T> low, high;

  Twin() = default;
  TS_INLINE Twin(Lane<T> x) : low(x), high(x) {}  // broadcast
  TS_INLINE Twin(Vec<T> a, Vec<T> b) : low(a), high(b) {}

  TS_INLINE static Twin load(const T* p) { return {Vec<T>::load(p), Vec<T>::load(p + Vec<T>::width)}; }
  TS_INLINE void store(T* p) const {
    low.store(p);
    high.store(p + Vec<T>::width);
  }
  TS_INLINE static Twin load_partial(const T* p, std::int64_t n) {
    constexpr int half = Vec<T>::width;
    if (n <= half) return {Vec<T>::load_partial(p, n), Vec<T>(Lane<T>(0))};
    return {Vec<T>::load(p), Vec<T>::load_partial(p + half, n - half)};
  }
  TS_INLINE void store_partial(T* p, std::int64_t n) const {
    constexpr int half = Vec<T>::width;
    if (n <= half) return low.store_partial(p, n);
    low.store(p);
    high.store_partial(p + half, n - half);
  }

  TS_INLINE Lane<T> operator[](int i) const { return i < Vec<T>::width ? low[i] : high[i - Vec<T>::width]; }
  TS_INLINE void set(int i, Lane<T> x) {
    if (i < Vec<T>::width)
      low.set(i, x);
    else
      high.set(i - Vec<T>::width, x);
  }

  TS_INLINE friend Twin operator+(Twin a, Twin b) { return {a.low + b.low, a.high + b.high}; }
  TS_INLINE friend Twin operator-(Twin a, Twin b) { return {a.low - b.low, a.high - b.high}; }
  TS_INLINE friend Twin operator*(Twin a, Twin b) { return {a.low * b.low, a.high * b.high}; }
  TS_INLINE friend Twin operator/(Twin a, Twin b) { return {a.low / b.low, a.high / b.high}; }
  TS_INLINE friend Twin operator&(Twin a, Twin b) { return {a.low & b.low, a.high & b.high}; }
  TS_INLINE friend Twin operator|(Twin a, Twin b) { return {a.low | b.low, a.high | b.high}; }
  TS_INLINE friend Twin operator^(Twin a, Twin b) { return {a.low ^ b.low, a.high ^ b.high}; }
  TS_INLINE friend Twin operator-(Twin a) { return {-a.low, -a.high}; }
  TS_INLINE friend Twin operator~(Twin a) { return {~a.low, ~a.high}; }
  TS_INLINE friend Twin operator<<(Twin a, int count) { return {a.low << count, a.high << count}; }
  TS_INLINE friend Twin operator>>(Twin a, int count) { return {a.low >> count, a.high >> count}; }
};

template <class T>
struct TwinMask {
  Mask<T> low, high;
  TS_INLINE friend TwinMask operator&(TwinMask a, TwinMask b) { return {a.low & b.low, a.high & b.high}; }
  TS_INLINE friend TwinMask operator|(TwinMask a, TwinMask b) { return {a.low | b.low, a.high | b.high}; }
  TS_INLINE friend TwinMask operator^(TwinMask a, TwinMask b) { return {a.low ^ b.low, a.high ^ b.high}; }
  TS_INLINE friend TwinMask operator~(TwinMask a) { return {~a.low, ~a.high}; }
};

#define TS_TWIN_COMPARE(op)                                 \
  template <class T>                                        \
  TS_INLINE TwinMask<T> operator op(Twin<T> a, Twin<T> b) { \
    return {a.low op b.low, a.high op b.high};              \
  }
TS_TWIN_COMPARE(<)
TS_TWIN_COMPARE(<=)
TS_TWIN_COMPARE(>)
TS_TWIN_COMPARE(>=)
TS_TWIN_COMPARE(==)
TS_TWIN_COMPARE(!=)
#undef TS_TWIN_COMPARE

#define TS_TWIN_1(f)               \
  template <class T>               \
  TS_INLINE Twin<T> f(Twin<T> a) { \
    return {f(a.low), f(a.high)};  \
  }
#define TS_TWIN_2(f)                             \
  template <class T>                             \
  TS_INLINE Twin<T> f(Twin<T> a, Twin<T> b) {    \
    return {f(a.low, b.low), f(a.high, b.high)}; \
  }
#define TS_TWIN_3(f)                                            \
  template <class T>                                            \
  TS_INLINE Twin<T> f(Twin<T> a, Twin<T> b, Twin<T> c) {        \
    return {f(a.low, b.low, c.low), f(a.high, b.high, c.high)}; \
  }
TS_TWIN_1(abs)
TS_TWIN_1(sqrt)
TS_TWIN_1(round)
TS_TWIN_1(floor)
TS_TWIN_1(ceil)
TS_TWIN_1(trunc)
TS_TWIN_1(pow2)
TS_TWIN_2(max)
TS_TWIN_2(min)
TS_TWIN_2(scale)
TS_TWIN_3(fma)
TS_TWIN_3(fma_exact)
#undef TS_TWIN_1
#undef TS_TWIN_2
#undef TS_TWIN_3

template <class T>
TS_INLINE Twin<T> select(TwinMask<T> m, Twin<T> a, Twin<T> b) {
  return {select(m.low, a.low, b.low), select(m.high, a.high, b.high)};
}
template <class U, class T>
TS_INLINE Twin<U> bit_cast(Twin<T> a) {
  return {bit_cast<U>(a.low), bit_cast<U>(a.high)};
}
template <class U, class T>
TS_INLINE TwinMask<U> as(TwinMask<T> m) {
  return {as<U>(m.low), as<U>(m.high)};
}
template <class T>
TS_INLINE bool any(TwinMask<T> m) {
  return any(m.low | m.high);
}

struct TwinDoublePair {
  Twin<double> low, high;
};
TS_INLINE TwinDoublePair widen(Twin<float> a) {
  const DoublePair low = widen(a.low), high = widen(a.high);
  return {{low.low, low.high}, {high.low, high.high}};
}
TS_INLINE Twin<float> narrow(TwinDoublePair a) {
  return {narrow({a.low.low, a.low.high}), narrow({a.high.low, a.high.high})};
}

}  // namespace ts::cpu::TS_ISA
