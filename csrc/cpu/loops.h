// The innermost loops: y[i] = f(x[i], ...) over n elements, one instance per formula and type.
//
// An operand either advances with i (step 1) or is one value, held in a register's worth of memory (step 0),
// so the same loop serves arrays and scalars. The tail runs the same vector code on a masked register: an
// element's bits do not depend on its position. Costs one read of each operand and one write.
#pragma once

#include "cpu/map.h"
#include "math/pointwise.h"

namespace ts::cpu::TS_ISA {

// Asks for the lines of y that are written 1 KiB on, never beyond its end, where another thread may write.
template <int Width, class R>
TS_INLINE void claim(R* y, std::int64_t i, std::int64_t n) {
  if constexpr (kVectorBytes == 64 && Width * sizeof(R) == 64) {
    constexpr std::int64_t kAhead = 1024 / sizeof(R);
    const R* const p = y + (i + kAhead < n - 4 * Width ? i + kAhead : n - 4 * Width);
    for (int k = 0; k < 4; ++k) __builtin_prefetch(p + k * Width, 1);
  }
}

// Runs body(i, count) over [0, n), which writes y. Short formulas get an unrolled loop of their own for full
// registers; long ones are compiled once, and inlined, so that constants stay in registers.
template <class Formula, int Width, class R, class Body>
TS_INLINE void for_registers(R* y, std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  if constexpr (Formula::heavy) {
    for (; i < n; i += Width) body(i, n - i);
  } else {
    for (; i + 4 * Width <= n; i += 4 * Width) {
      claim<Width>(y, i, n);
      body(i, Width);
      body(i + Width, Width);
      body(i + 2 * Width, Width);
      body(i + 3 * Width, Width);
    }
    for (; i < n; i += Width) body(i, n - i);
  }
}

// The register a formula runs on: two side by side where its chain is long and there are 32 registers to hold
// it.
template <class F, class T>
struct RegisterOf {
  static constexpr bool twin = kVectorBytes == 64 && F::twin && std::is_floating_point_v<T>;
  using type = std::conditional_t<twin, Twin<T>, Vec<T>>;
};
template <class F, class T>
struct RegisterOf<F, ComplexBits<T>> {
  using type = Complex<T>;
};

template <class V, class T>
TS_INLINE V load_some(const T* p, std::int64_t step, std::int64_t count) {
  if constexpr (std::is_same_v<V, Twin<T>>) {
    if (!step) return {Vec<T>::load(p), Vec<T>::load(p)};
  }
  return count >= V::width ? V::load(p) : V::load_partial(p, count);
}
template <class V, class T>
TS_INLINE void store_some(V y, T* p, std::int64_t count) {
  if (count >= V::width)
    y.store(p);
  else
    y.store_partial(p, count);
}
template <class T>
TS_INLINE void store_some(Mask<T> y, bool* p, std::int64_t count) {
  if (count >= Vec<T>::width)
    store_mask(y, p);
  else
    store_mask_partial(y, p, count);
}
template <class T>
TS_INLINE void store_some(ComplexMask<T> y, bool* p, std::int64_t) {
  *p = y.held;
}

#if defined(__AVX512F__)
// The bytes of a register of lanes of Size bytes, of which byte k is that lane of the k-th of Size masks: all
// lanes of the first mask, then of the second.
template <int Size>
TS_INLINE __m512i in_order(__m512i lanes) {
  if constexpr (Size == 4) {
    const __m512i within =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i across = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(across, _mm512_shuffle_epi8(lanes, within));
  } else {
    const __m512i within =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    // words 0, 8, 16, 24, 1, 9, ...
    const __m512i across =
        _mm512_cvtepi8_epi16(_mm256_setr_epi8(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27, 4, 12,
                                              20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31));
    return _mm512_permutexvar_epi16(across, _mm512_shuffle_epi8(lanes, within));
  }
}
#endif
// As for_registers, of results that are masks: there are sizeof(T) registers to a register of bytes.
template <class Formula, class T, class Make>
TS_INLINE void for_masks(bool* y, std::int64_t n, const Make& make) {
  constexpr int W = Vec<T>::width;
  std::int64_t first = 0;
#if defined(__AVX512F__)
  using I = Vec<IntOf<T>>;
  if constexpr (sizeof(T) >= 4)
    for (; first + 64 <= n; first += 64) {
      I bytes(0);
      for (int k = 0; k < static_cast<int>(sizeof(T)); ++k)
        bytes = bytes | select(as<IntOf<T>>(make(first + k * W, W)), I(IntOf<T>(1) << (8 * k)), I(0));
      _mm512_storeu_si512(y + first, in_order<sizeof(T)>(__m512i(bytes.r)));
    }
#endif
  for_registers<Formula, W>(
      y + first, n - first, [&](std::int64_t i, std::int64_t count) __attribute__((always_inline)) {
        store_some(make(first + i, count), y + first + i, count);
      });
}
// Writes y, of which make(i, count) are the elements from i on: a register V of them, or a mask of T's lanes.
template <class F, class T, class V, class R, class Make>
TS_INLINE void for_results(R* y, std::int64_t n, const Make& make) {
  if constexpr (std::is_same_v<R, bool> && !std::is_same_v<T, bool> && std::is_arithmetic_v<T>)
    return for_masks<F, T>(y, n, make);
  else
    for_registers<F, V::width>(
        y, n, [&](std::int64_t i, std::int64_t count) __attribute__((always_inline)) {
          store_some(make(i, count), y + i, count);
        });
}

template <class F, class T, class R>
void unary_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  using V = typename RegisterOf<F, T>::type;
  const T* x = static_cast<const T*>(in[0]);
  R* y = static_cast<R*>(out);
  const std::int64_t sx = step[0];
  for_results<F, T, V>(
      y, n, [&](std::int64_t i, std::int64_t count) __attribute__((always_inline)) {
        return F::apply(load_some<V>(x + i * sx, sx, count));
      });
}

template <class F, class T, class R>
void binary_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  using V = typename RegisterOf<F, T>::type;
  const T* a = static_cast<const T*>(in[0]);
  const T* b = static_cast<const T*>(in[1]);
  R* y = static_cast<R*>(out);
  const std::int64_t sa = step[0], sb = step[1];
  for_results<F, T, V>(
      y, n, [&](std::int64_t i, std::int64_t count) __attribute__((always_inline)) {
        return F::apply(load_some<V>(a + i * sa, sa, count), load_some<V>(b + i * sb, sb, count));
      });
}

template <class F, class T, class R>
void ternary_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  using V = typename RegisterOf<F, T>::type;
  const T* a = static_cast<const T*>(in[0]);
  const T* b = static_cast<const T*>(in[1]);
  const T* c = static_cast<const T*>(in[2]);
  R* y = static_cast<R*>(out);
  const std::int64_t sa = step[0], sb = step[1], sc = step[2];
  for_results<F, T, V>(
      y, n, [&](std::int64_t i, std::int64_t count) __attribute__((always_inline)) {
        return F::apply(load_some<V>(a + i * sa, sa, count), load_some<V>(b + i * sb, sb, count),
                        load_some<V>(c + i * sc, sc, count));
      });
}

}  // namespace ts::cpu::TS_ISA
