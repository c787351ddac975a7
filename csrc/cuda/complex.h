// Complex numbers as a register, so that the formulas of math/pointwise.h serve them: math/complex.h without
// the C library, which device code has not.
//
// Sums, products, quotients (Smith's) and whole powers have the CPU's bits; exp, log, sqrt, sin, cos and
// other powers are made of the real functions and differ from it by rounding. Inverse and tangent functions
// are not here: has_complex says which formulas are.
#pragma once

#include "cuda/simd.h"
#include "math/vmath.h"

namespace ts::cuda {

// z = re + im i.
template <class T>
struct Vec<ComplexBits<T>> {
  using Element = ComplexBits<T>;
  using Reg = Element;
  static constexpr int width = 1;

  T re, im;

  Vec() = default;
  TS_INLINE Vec(Element z) : re(z.real), im(z.imag) {}
  TS_INLINE Vec(T real, T imaginary = T(0)) : re(real), im(imaginary) {}
  TS_INLINE static Vec load(const Element* p) { return Vec(*p); }

  TS_INLINE friend Vec operator+(Vec a, Vec b) { return {a.re + b.re, a.im + b.im}; }
  TS_INLINE friend Vec operator-(Vec a, Vec b) { return {a.re - b.re, a.im - b.im}; }
  TS_INLINE friend Vec operator-(Vec a) { return {-a.re, -a.im}; }
  TS_INLINE friend Vec operator*(Vec a, Vec b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  TS_INLINE friend Vec operator/(Vec a, Vec b) {
    const T real = b.re < 0 ? -b.re : b.re, imaginary = b.im < 0 ? -b.im : b.im;
    if (real >= imaginary) {
      if (real == 0 && imaginary == 0) return {a.re / real, a.im / real};
      const T ratio = b.im / b.re, scale = T(1) / (b.re + b.im * ratio);
      return {(a.re + a.im * ratio) * scale, (a.im - a.re * ratio) * scale};
    }
    const T ratio = b.re / b.im, scale = T(1) / (b.im + b.re * ratio);
    return {(a.re * ratio + a.im) * scale, (a.im * ratio - a.re) * scale};
  }
};

template <class T>
TS_INLINE Mask<ComplexBits<T>> operator==(Vec<ComplexBits<T>> a, Vec<ComplexBits<T>> b) {
  return {a.re == b.re && a.im == b.im};
}
template <class T>
TS_INLINE Mask<ComplexBits<T>> operator!=(Vec<ComplexBits<T>> a, Vec<ComplexBits<T>> b) {
  return {a.re != b.re || a.im != b.im};
}
template <class T>
TS_INLINE void put(Vec<ComplexBits<T>> z, ComplexBits<T>* p) {
  *p = {z.re, z.im};
}

template <class T>
constexpr bool is_complex_register<Vec<ComplexBits<T>>> = true;

namespace vmath {

#define TS_REAL(name)                          \
  template <class T>                           \
  TS_INLINE T real_##name(T x) {               \
    return ts::cuda::vmath::name(Vec<T>(x)).r; \
  }
TS_REAL(exp)
TS_REAL(log)
TS_REAL(log1p)
TS_REAL(sin)
TS_REAL(cos)
TS_REAL(sinh)
TS_REAL(cosh)
#undef TS_REAL
template <class T>
TS_INLINE T real_hypot(T x, T y) {
  return ts::cuda::vmath::hypot(Vec<T>(x), Vec<T>(y)).r;
}
template <class T>
TS_INLINE T real_sqrt(T x) {
  return ts::cuda::sqrt(Vec<T>(x)).r;
}
template <class T>
TS_INLINE T real_copysign(T x, T y) {
  if constexpr (sizeof(T) == 4)
    return ::copysignf(x, y);
  else
    return ::copysign(x, y);
}

template <class T>
TS_INLINE Vec<ComplexBits<T>> sign(Vec<ComplexBits<T>> z) {
  if (z.re == 0 && z.im == 0) return {T(0), T(0)};
  const T infinity = T(__builtin_inf()), a = z.re < 0 ? -z.re : z.re, b = z.im < 0 ? -z.im : z.im;
  if (a == infinity && b < infinity) return {z.re > 0 ? T(1) : T(-1), T(0)};
  if (b == infinity && a < infinity) return {T(0), z.im > 0 ? T(1) : T(-1)};
  T size = real_hypot(z.re, z.im);
  if (size == infinity) {  // of finite parts: a half of it is none
    z = {z.re / 2, z.im / 2};
    size = real_hypot(z.re, z.im);
  }
  return {z.re / size, z.im / size};
}

// e^x (cos y + i sin y), as two factors where e^x alone would overflow.
template <class T>
TS_INLINE Vec<ComplexBits<T>> exp(Vec<ComplexBits<T>> z) {
  if (z.im == 0) return {real_exp(z.re), z.im};
  if (z.im - z.im != 0) {  // infinite or NaN
    if (z.re == -T(__builtin_inf())) return {T(0), T(0)};
    const T nan = z.im - z.im;
    return {z.re == T(__builtin_inf()) ? z.re : nan, nan};
  }
  const bool large = z.re > T(sizeof(T) == 4 ? 88 : 709) && z.re < T(__builtin_inf());
  const T size = real_exp(large ? z.re / 2 : z.re), c = size * real_cos(z.im), s = size * real_sin(z.im);
  return large ? Vec<ComplexBits<T>>(c * size, s * size) : Vec<ComplexBits<T>>(c, s);
}
// log |z| + i arg z; near the unit circle by (x - 1) (x + 1) + y y.
template <class T>
TS_INLINE Vec<ComplexBits<T>> log(Vec<ComplexBits<T>> z) {
  const T a = z.re < 0 ? -z.re : z.re, b = z.im < 0 ? -z.im : z.im;
  const T x = a > b ? a : b, y = a > b ? b : a;
  const T size = x > T(0.5) && x < T(1.5) && y < T(1) ? real_log1p((x - 1) * (x + 1) + y * y) / 2
                                                      : real_log(real_hypot(z.re, z.im));
  if constexpr (sizeof(T) == 4)
    return {size, ::atan2f(z.im, z.re)};
  else
    return {size, ::atan2(z.im, z.re)};
}
// With t = sqrt((|x| + |z|) / 2): t + i y / 2t, or for negative x |y| / 2t + i t.
template <class T>
TS_INLINE Vec<ComplexBits<T>> sqrt(Vec<ComplexBits<T>> z) {
  constexpr T infinity = T(__builtin_inf());
  if (z.re == 0 && z.im == 0) return {T(0), z.im};
  if (z.im == infinity || z.im == -infinity) return {infinity, z.im};
  if (z.re == infinity) return {z.re, z.im == z.im ? real_copysign(T(0), z.im) : z.im};
  if (z.re == -infinity) return {z.im == z.im ? T(0) : z.im, real_copysign(infinity, z.im)};
  const T x = z.re < 0 ? -z.re : z.re, y = z.im < 0 ? -z.im : z.im, most = x > y ? x : y;
  // By powers of four, so that neither the sum overflows nor the root loses bits.
  const bool large = most > T(sizeof(T) == 4 ? 1e37 : 1e307),
             small = most < T(sizeof(T) == 4 ? 1e-36 : 1e-306);
  const T in = large ? T(0.0625) : small ? T(sizeof(T) == 4 ? 0x1p60 : 0x1p120) : T(1);
  const T out = large ? T(4) : small ? T(sizeof(T) == 4 ? 0x1p-30 : 0x1p-60) : T(1);
  const T t = real_sqrt((x * in + real_hypot(x * in, y * in)) / 2), other = y * in / (2 * t);
  return z.re >= 0 ? Vec<ComplexBits<T>>(t * out, real_copysign(other * out, z.im))
                   : Vec<ComplexBits<T>>(other * out, real_copysign(t * out, z.im));
}
template <class T>
TS_INLINE Vec<ComplexBits<T>> sin(Vec<ComplexBits<T>> z) {
  return {real_sin(z.re) * real_cosh(z.im), real_cos(z.re) * real_sinh(z.im)};
}
template <class T>
TS_INLINE Vec<ComplexBits<T>> cos(Vec<ComplexBits<T>> z) {
  return {real_cos(z.re) * real_cosh(z.im), -real_sin(z.re) * real_sinh(z.im)};
}
template <class T>
TS_INLINE Vec<ComplexBits<T>> sinh(Vec<ComplexBits<T>> z) {
  return {real_sinh(z.re) * real_cos(z.im), real_cosh(z.re) * real_sin(z.im)};
}
template <class T>
TS_INLINE Vec<ComplexBits<T>> cosh(Vec<ComplexBits<T>> z) {
  return {real_cosh(z.re) * real_cos(z.im), real_sinh(z.re) * real_sin(z.im)};
}

// Whole powers up to 100 by squaring; 0^w is 0 for a positive real part of w and NaN otherwise.
template <class T>
TS_INLINE Vec<ComplexBits<T>> pow(Vec<ComplexBits<T>> a, Vec<ComplexBits<T>> b) {
  if (b.re == 0 && b.im == 0) return {T(1), T(0)};
  if (a.re == 0 && a.im == 0) {
    const T none = b.re > 0 ? T(0) : T(__builtin_nan(""));
    return {none, none};
  }
  if (b.im == 0 && b.re > -100 && b.re < 100 && b.re == static_cast<T>(static_cast<int>(b.re))) {
    int n = static_cast<int>(b.re);
    const bool inverse = n < 0;
    n = inverse ? -n : n;
    Vec<ComplexBits<T>> y(T(1)), square = a;
    for (;; square = square * square) {
      if (n & 1) y = y.im == 0 && y.re == 1 ? square : y * square;
      if ((n >>= 1) == 0) break;
    }
    return inverse ? Vec<ComplexBits<T>>(T(1)) / y : y;
  }
  return exp(b * log(a));
}

}  // namespace vmath

template <class T>
TS_INLINE Vec<ComplexBits<T>> sqrt(Vec<ComplexBits<T>> z) {
  return vmath::sqrt(z);
}

}  // namespace ts::cuda
