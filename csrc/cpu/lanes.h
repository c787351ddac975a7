// Operations on registers that the hardware lacks: integer division, shifts by lanes, fmod.
#pragma once

#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

// a / b of floats. Two halves: Intel's divider takes 8 % longer for a whole register.
template <class T>
  requires std::is_floating_point_v<T>
TS_INLINE Vec<T> quotient(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  typedef T Half __attribute__((vector_size(32)));
  Half x[2], y[2];
  std::memcpy(x, &a.r, sizeof(x));
  std::memcpy(y, &b.r, sizeof(y));
  const Half low = x[0] / y[0], high = x[1] / y[1];
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
  else
    return Vec<T>(_mm512_insertf64x4(_mm512_castpd256_pd512(low), high, 1));
#else
  return a / b;
#endif
}

// a / b toward zero; 0 where b is 0, and the lowest number over -1 wraps around. Up to 32 bits the quotient
// is exact in a float type of twice the size, which the compiler turns into vector code.
template <class T>
TS_INLINE Vec<T> divide_toward_zero(Vec<T> a, Vec<T> b) {
  using U = std::make_unsigned_t<T>;
  using F = std::conditional_t<sizeof(T) == 1, float, double>;
  T x[Vec<T>::width], y[Vec<T>::width];
  a.store(x);
  b.store(y);
  for (int i = 0; i < Vec<T>::width; ++i) {
    const bool zero = y[i] == 0, minus = y[i] == static_cast<T>(-1) && std::is_signed_v<T>;
    const T divisor = zero || minus ? T(1) : y[i];
    T q;
    if constexpr (sizeof(T) <= 4)
      q = static_cast<T>(static_cast<F>(x[i]) / static_cast<F>(divisor));
    else
      q = x[i] / divisor;
    x[i] = zero ? T(0) : minus ? static_cast<T>(U(0) - static_cast<U>(q)) : q;
  }
  return Vec<T>::load(x);
}

// Counts outside [0, width) shift every bit out, as in NumPy.
template <class T>
TS_INLINE Vec<T> shift_left(Vec<T> a, Vec<T> count) {
  if constexpr (std::is_same_v<T, bool>) {
    return a;
  } else {
    using U = std::make_unsigned_t<T>;
    const Vec<U> n = bit_cast<U>(count), bits(U(8 * sizeof(T)));
    return bit_cast<T>(
        select(n < bits, Vec<U>(bit_cast<U>(a).r << (n & Vec<U>(U(8 * sizeof(T) - 1))).r), Vec<U>(U(0))));
  }
}
template <class T>
TS_INLINE Vec<T> shift_right(Vec<T> a, Vec<T> count) {
  if constexpr (std::is_same_v<T, bool>) {
    return a & (count ^ Vec<T>(1));
  } else {
    using U = std::make_unsigned_t<T>;
    const auto inside = bit_cast<U>(count) < Vec<U>(U(8 * sizeof(T)));
    const Vec<T> last(T(8 * sizeof(T) - 1));
    const Vec<T> n = bit_cast<T>(select(inside, bit_cast<U>(count), bit_cast<U>(last)));
    const Vec<T> shifted(a.r >> n.r);
    if constexpr (std::is_signed_v<T>)
      return shifted;
    else
      return select(as<T>(inside), shifted, Vec<T>(T(0)));
  }
}

// C's fmod: exact, with the sign of a. One division and one fma unless the quotient is huge or an operand
// special.
template <class T>
TS_INLINE Vec<T> fmod(Vec<T> a, Vec<T> b) {
  const Vec<T> zero(T(0)), ratio = a / b, size = abs(b);
  const Vec<T> q = trunc(ratio);
  Vec<T> r = fma_exact(-q, b, a);  // q is right or one too large or small
  const Vec<T> toward = (r ^ a) & Vec<T>(T(-0.0));
  r = select(as<T>(bit_cast<IntOf<T>>(toward) < Vec<IntOf<T>>(0)) & (r != zero),
             r + (size | (a & Vec<T>(T(-0.0)))), r);
  r = select(abs(r) >= size, r - (size | (a & Vec<T>(T(-0.0)))), r);
  r = abs(r) | (a & Vec<T>(T(-0.0)));
  const auto easy =
      (abs(ratio) < Vec<T>(sizeof(T) == 4 ? T(0x1p22) : T(0x1p51))) & (size < Vec<T>(T(__builtin_inf())));
  if (!all(easy)) {
    for (int i = 0; i < Vec<T>::width; ++i) {
      if (easy.r[i]) continue;
      if constexpr (sizeof(T) == 4)
        r.r[i] = __builtin_fmodf(a[i], b[i]);
      else
        r.r[i] = __builtin_fmod(a[i], b[i]);
    }
  }
  return r;
}

}  // namespace ts::cpu::TS_ISA
