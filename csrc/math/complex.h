// Complex numbers as a register of one element, so that the formulas of pointwise.h serve them.
//
// The elementary functions are libm's (C99 Annex G): the same bits at every SIMD level. Products and
// quotients are NumPy's: (a c - b d) + (a d + b c) i, and Smith's division. Differences beside sums are
// written as sums with a negative: GCC 12 joins a pair of them with its products to fmaddsub in spite of
// -ffp-contract=off, here and there. Sources that compute much with these are compiled without its means to.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "math/vmath.h"

namespace ts::TS_MATH {

// z = re + im i.
template <class T>
struct Complex {
  using Element = ComplexBits<T>;
  static constexpr int width = 1;

  T re, im;

  Complex() = default;
  TS_INLINE Complex(T real, T imaginary = T(0)) : re(real), im(imaginary) {}
  TS_INLINE static Complex load(const Element* p) { return {p->real, p->imag}; }
  TS_INLINE static Complex load_partial(const Element* p, std::int64_t) { return load(p); }
  TS_INLINE void store(Element* p) const { p->real = re, p->imag = im; }
  TS_INLINE void store_partial(Element* p, std::int64_t) const { store(p); }

  TS_INLINE friend Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
  TS_INLINE friend Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
  TS_INLINE friend Complex operator-(Complex a) { return {-a.re, -a.im}; }
  TS_INLINE friend Complex operator*(Complex a, Complex b) {
    return {a.re * b.re + -a.im * b.im, a.re * b.im + a.im * b.re};
  }
  TS_INLINE friend Complex operator/(Complex a, Complex b) {
    const T real = b.re < 0 ? -b.re : b.re, imaginary = b.im < 0 ? -b.im : b.im;
    if (real >= imaginary) {
      if (real == 0 && imaginary == 0) return {a.re / real, a.im / real};
      const T ratio = b.im / b.re, scale = T(1) / (b.re + b.im * ratio);
      return {(a.re + a.im * ratio) * scale, (a.im + -a.re * ratio) * scale};
    }
    const T ratio = b.re / b.im, scale = T(1) / (b.im + b.re * ratio);
    return {(a.re * ratio + a.im) * scale, (a.im * ratio + -a.re) * scale};
  }
};

template <class T>
struct ComplexMask {
  bool held;
  TS_INLINE friend ComplexMask operator&(ComplexMask a, ComplexMask b) { return {a.held && b.held}; }
  TS_INLINE friend ComplexMask operator|(ComplexMask a, ComplexMask b) { return {a.held || b.held}; }
  TS_INLINE friend ComplexMask operator^(ComplexMask a, ComplexMask b) { return {a.held != b.held}; }
};
template <class T>
TS_INLINE ComplexMask<T> operator==(Complex<T> a, Complex<T> b) {
  return {a.re == b.re && a.im == b.im};
}
template <class T>
TS_INLINE ComplexMask<T> operator!=(Complex<T> a, Complex<T> b) {
  return {a.re != b.re || a.im != b.im};
}

template <class T>
constexpr bool is_complex_register<Complex<T>> = true;

namespace vmath {

template <class T>
struct LibmComplexOf;
template <>
struct LibmComplexOf<float> {
  using type = __complex__ float;
};
template <>
struct LibmComplexOf<double> {
  using type = __complex__ double;
};
template <class T>
using LibmComplex = typename LibmComplexOf<T>::type;

// libm, for either precision.
#define TS_REAL(name)                       \
  template <class T>                        \
  TS_INLINE T libm_##name(T x) {            \
    if constexpr (std::is_same_v<T, float>) \
      return __builtin_##name##f(x);        \
    else                                    \
      return __builtin_##name(x);           \
  }
TS_REAL(expm1)
TS_REAL(log1p)
TS_REAL(log)
TS_REAL(exp)
TS_REAL(sin)
TS_REAL(cos)
#undef TS_REAL
template <class T>
TS_INLINE T libm_hypot(T x, T y) {
  if constexpr (std::is_same_v<T, float>)
    return __builtin_hypotf(x, y);
  else
    return __builtin_hypot(x, y);
}
template <class T>
TS_INLINE T libm_atan2(T y, T x) {
  if constexpr (std::is_same_v<T, float>)
    return __builtin_atan2f(y, x);
  else
    return __builtin_atan2(y, x);
}

#define TS_COMPLEX(name) TS_COMPLEX_AS(name, name)
#define TS_COMPLEX_AS(own, name)            \
  template <class T>                        \
  TS_INLINE Complex<T> own(Complex<T> z) {  \
    LibmComplex<T> c;                       \
    __real__ c = z.re, __imag__ c = z.im;   \
    if constexpr (std::is_same_v<T, float>) \
      c = __builtin_c##name##f(c);          \
    else                                    \
      c = __builtin_c##name(c);             \
    return {__real__ c, __imag__ c};        \
  }
TS_COMPLEX(exp)
TS_COMPLEX(log)
TS_COMPLEX(sqrt)
TS_COMPLEX(sin)
TS_COMPLEX(cos)
TS_COMPLEX(tan)
TS_COMPLEX(sinh)
TS_COMPLEX(cosh)
TS_COMPLEX(asin)
TS_COMPLEX(acos)
TS_COMPLEX(atan)
TS_COMPLEX(asinh)
TS_COMPLEX(acosh)
TS_COMPLEX(atanh)
TS_COMPLEX_AS(libm_tanh, tanh)
#undef TS_COMPLEX
#undef TS_COMPLEX_AS

// At an infinite real part the imaginary one is 0 with its own sign, not that of sin(2y).
template <class T>
TS_INLINE Complex<T> tanh(Complex<T> z) {
  if (!__builtin_isinf(z.re) || !__builtin_isfinite(z.im)) return libm_tanh(z);
  return {z.re > 0 ? T(1) : T(-1), z.im < 0 ? T(-0.0) : T(0)};
}

template <class T>
TS_INLINE Complex<T> exp2(Complex<T> z) {
  const T ln2 = T(0.69314718055994530942);
  return exp(Complex<T>{z.re * ln2, z.im * ln2});
}
template <class T>
TS_INLINE Complex<T> log2(Complex<T> z) {
  const Complex<T> y = log(z);
  return {y.re * T(1.44269504088896340736), y.im * T(1.44269504088896340736)};
}
template <class T>
TS_INLINE Complex<T> log10(Complex<T> z) {
  const Complex<T> y = log(z);
  return {y.re * T(0.43429448190325182765), y.im * T(0.43429448190325182765)};
}
// e^x cos y - 1 = expm1(x) cos y - 2 sin^2(y / 2).
template <class T>
TS_INLINE Complex<T> expm1(Complex<T> z) {
  // Of -0 too 0, as the array standard has it.
  if (z.im == 0) return {libm_expm1(z.re) + T(0), z.im};
  if (z.im - z.im != 0) {  // infinite or NaN
    if (z.re == -T(__builtin_inf())) return {T(-1), T(0)};
    if (z.re == T(__builtin_inf())) return {z.re, T(__builtin_nan(""))};
    return {T(__builtin_nan("")), T(__builtin_nan(""))};
  }
  const T half = libm_sin(z.im / 2);
  return {libm_expm1(z.re) * libm_cos(z.im) - 2 * half * half, libm_exp(z.re) * libm_sin(z.im)};
}
// log |1 + z| + i arg(1 + z).
template <class T>
TS_INLINE Complex<T> log1p(Complex<T> z) {
  const T x = z.re, y = z.im;
  const bool small = x > T(-0.5) && x < T(0.5) && y > T(-0.5) && y < T(0.5);
  const T size = small ? libm_log1p(x * (2 + x) + y * y) / 2 : libm_log(libm_hypot(1 + x, y));
  return {size, libm_atan2(y, 1 + x)};
}

template <class T>
TS_INLINE Complex<T> sign(Complex<T> z) {
  if (z.re == 0 && z.im == 0) return {T(0), T(0)};
  if (__builtin_isinf(z.re) && __builtin_isfinite(z.im)) return {z.re > 0 ? T(1) : T(-1), T(0)};
  if (__builtin_isinf(z.im) && __builtin_isfinite(z.re)) return {T(0), z.im > 0 ? T(1) : T(-1)};
  T size = libm_hypot(z.re, z.im);
  if (__builtin_isinf(size)) {  // of finite parts: a half of it is none
    z = {z.re / 2, z.im / 2};
    size = libm_hypot(z.re, z.im);
  }
  return {z.re / size, z.im / size};
}

// Whole powers up to 100 by squaring; 0^w is 0 for a positive real part of w and NaN otherwise.
template <class T>
TS_INLINE Complex<T> pow(Complex<T> a, Complex<T> b) {
  if (b.re == 0 && b.im == 0) return {T(1), T(0)};
  if (a.re == 0 && a.im == 0) {
    if (b.re > 0) return {T(0), T(0)};
    return {T(__builtin_nan("")), T(__builtin_nan(""))};
  }
  if (b.im == 0 && b.re > -100 && b.re < 100 && b.re == static_cast<T>(static_cast<int>(b.re))) {
    int n = static_cast<int>(b.re);
    const bool inverse = n < 0;
    n = inverse ? -n : n;
    Complex<T> y(T(1)), square = a;
    for (;; square = square * square) {
      if (n & 1) y = y.im == 0 && y.re == 1 ? square : y * square;
      if ((n >>= 1) == 0) break;
    }
    return inverse ? Complex<T>(T(1)) / y : y;
  }
  LibmComplex<T> c, e;
  __real__ c = a.re, __imag__ c = a.im, __real__ e = b.re, __imag__ e = b.im;
  if constexpr (std::is_same_v<T, float>)
    c = __builtin_cpowf(c, e);
  else
    c = __builtin_cpow(c, e);
  return {__real__ c, __imag__ c};
}

}  // namespace vmath

template <class T>
TS_INLINE Complex<T> sqrt(Complex<T> z) {
  return vmath::sqrt(z);
}

}  // namespace ts::TS_MATH
