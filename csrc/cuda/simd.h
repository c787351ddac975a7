// Vec<T>: the register that math/'s formulas run on, here one element: a CUDA thread is a lane.
//
// The vocabulary of cpu/simd.h, with the same rounding, the same NaN rules and the same wrap-around, so that
// the GPU has the CPU's bits (the build has no -fmad, no fast math).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/device.h"

namespace ts::cuda {

template <int Bytes>
struct IntOfSize;
template <>
struct IntOfSize<1> {
  using type = std::int8_t;
};
template <>
struct IntOfSize<2> {
  using type = std::int16_t;
};
template <>
struct IntOfSize<4> {
  using type = std::int32_t;
};
template <>
struct IntOfSize<8> {
  using type = std::int64_t;
};
template <class T>
using IntOf = typename IntOfSize<sizeof(T)>::type;
template <class T>
using Lane = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;
// Integers add, subtract and multiply as unsigned numbers: they wrap. In registers of at least 32 bits.
template <class T, bool = std::is_integral_v<T>>
struct ArithmeticOf {
  using type = T;
};
template <class T>
struct ArithmeticOf<T, true> {
  using type = std::conditional_t<sizeof(T) <= 4, std::uint32_t, std::uint64_t>;
};
// The same in memory.
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

template <class To, class From>
TS_INLINE To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  memcpy(&y, &x, sizeof(To));
  return y;
}

template <class T>
struct Vec {
  using Element = T;
  using Reg = Lane<T>;
  static constexpr int width = 1;

  Reg r;

  Vec() = default;
  TS_INLINE Vec(Reg x) : r(x) {}

  TS_INLINE static Vec load(const T* p) {
    if constexpr (std::is_same_v<T, bool>)
      return Vec(*reinterpret_cast<const Reg*>(p));
    else
      return Vec(*p);
  }
  TS_INLINE Reg operator[](int) const { return r; }
  TS_INLINE void set(int, Reg x) { r = x; }

#define TS_ARITHMETIC(op)                                                     \
  TS_INLINE friend Vec operator op(Vec a, Vec b) {                            \
    using W = typename ArithmeticOf<Reg>::type;                               \
    return Vec(static_cast<Reg>(static_cast<W>(a.r) op static_cast<W>(b.r))); \
  }
  TS_ARITHMETIC(+)
  TS_ARITHMETIC(-)
  TS_ARITHMETIC(*)
#undef TS_ARITHMETIC
  TS_INLINE friend Vec operator/(Vec a, Vec b) { return Vec(static_cast<Reg>(a.r / b.r)); }
#define TS_BITS(op)                                                               \
  TS_INLINE friend Vec operator op(Vec a, Vec b) {                                \
    using I = IntOf<Reg>;                                                         \
    return Vec(bits_as<Reg>(static_cast<I>(bits_as<I>(a.r) op bits_as<I>(b.r)))); \
  }
  TS_BITS(&)
  TS_BITS(|)
  TS_BITS(^)
#undef TS_BITS
  TS_INLINE friend Vec operator-(Vec a) {
    if constexpr (std::is_floating_point_v<Reg>)
      return Vec(-a.r);
    else
      return Vec(static_cast<Reg>(0)) - a;
  }
  TS_INLINE friend Vec operator~(Vec a) {
    using I = IntOf<Reg>;
    return Vec(bits_as<Reg>(static_cast<I>(~bits_as<I>(a.r))));
  }
  TS_INLINE friend Vec operator<<(Vec a, int count) {
    using U = std::make_unsigned_t<Reg>;
    return Vec(static_cast<Reg>(static_cast<U>(static_cast<U>(a.r) << count)));
  }
  TS_INLINE friend Vec operator>>(Vec a, int count) { return Vec(static_cast<Reg>(a.r >> count)); }
};

template <class T>
struct Mask {
  bool r;
  Mask() = default;
  TS_INLINE Mask(bool x) : r(x) {}
  TS_INLINE friend Mask operator&(Mask a, Mask b) { return Mask(a.r && b.r); }
  TS_INLINE friend Mask operator|(Mask a, Mask b) { return Mask(a.r || b.r); }
  TS_INLINE friend Mask operator^(Mask a, Mask b) { return Mask(a.r != b.r); }
  TS_INLINE friend Mask operator~(Mask a) { return Mask(!a.r); }
};

#define TS_COMPARISON(op)                             \
  template <class T>                                  \
  TS_INLINE Mask<T> operator op(Vec<T> a, Vec<T> b) { \
    return Mask<T>(a.r op b.r);                       \
  }
TS_COMPARISON(<)
TS_COMPARISON(<=)
TS_COMPARISON(>)
TS_COMPARISON(>=)
TS_COMPARISON(==)
TS_COMPARISON(!=)
#undef TS_COMPARISON

template <class T>
TS_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
  return m.r ? a : b;
}
template <class U, class T>
TS_INLINE Mask<U> as(Mask<T> m) {
  return Mask<U>(m.r);
}
template <class U, class T>
TS_INLINE Vec<U> bit_cast(Vec<T> a) {
  return Vec<U>(bits_as<Lane<U>>(a.r));
}
template <class U, class T>
TS_INLINE Vec<U> convert(Vec<T> a) {
  return Vec<U>(static_cast<U>(a.r));
}
template <class T>
TS_INLINE bool any(Mask<T> m) {
  return m.r;
}
template <class T>
TS_INLINE bool all(Mask<T> m) {
  return m.r;
}
TS_INLINE Vec<std::uint64_t> multiply_low32(Vec<std::uint64_t> a, Vec<std::uint64_t> b) {
  return Vec<std::uint64_t>((a.r & 0xffffffffu) * (b.r & 0xffffffffu));
}

template <class T>
TS_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(::fmaf(a.r, b.r, c.r));
  else
    return Vec<T>(::fma(a.r, b.r, c.r));
}
template <class T>
TS_INLINE Vec<T> fma_exact(Vec<T> a, Vec<T> b, Vec<T> c) {
  return fma(a, b, c);
}
template <class T>
TS_INLINE Vec<T> abs(Vec<T> a) {
  if constexpr (std::is_floating_point_v<T>)
    return Vec<T>(
        bits_as<T>(static_cast<IntOf<T>>(bits_as<IntOf<T>>(a.r) & ~(IntOf<T>(1) << (8 * sizeof(T) - 1)))));
  else if constexpr (std::is_signed_v<T>)
    return select(a < Vec<T>(T(0)), -a, a);
  else
    return a;
}
// The second operand where either is NaN.
template <class T>
TS_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  return a.r > b.r ? a : b;
}
template <class T>
TS_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
  return a.r < b.r ? a : b;
}
#define TS_OF_LIBRARY(name, of_float, of_double) \
  template <class T>                             \
  TS_INLINE Vec<T> name(Vec<T> a) {              \
    if constexpr (sizeof(T) == 4)                \
      return Vec<T>(of_float(a.r));              \
    else                                         \
      return Vec<T>(of_double(a.r));             \
  }
TS_OF_LIBRARY(sqrt, ::sqrtf, ::sqrt)
TS_OF_LIBRARY(round, ::rintf, ::rint)
TS_OF_LIBRARY(floor, ::floorf, ::floor)
TS_OF_LIBRARY(ceil, ::ceilf, ::ceil)
TS_OF_LIBRARY(trunc, ::truncf, ::trunc)
#undef TS_OF_LIBRARY

// 2^n for an integral n in the exponent's range.
template <class T>
TS_INLINE Vec<T> pow2(Vec<T> n) {
  constexpr bool f32 = sizeof(T) == 4;
  const Vec<T> magic(f32 ? T(12582912) : T(6755399441055744));
  const Vec<IntOf<T>> bits = bit_cast<IntOf<T>>(n + magic) << (f32 ? 23 : 52);
  return bit_cast<T>(bits + bit_cast<IntOf<T>>(Vec<T>(T(1))));
}
// x * 2^n, rounded once, for integral n with |n| < 1.9 * the largest exponent.
template <class T>
TS_INLINE Vec<T> scale(Vec<T> x, Vec<T> n) {
  // round(n / 2), and its power of two from the same sum.
  constexpr bool f32 = sizeof(T) == 4;
  const Vec<T> magic(f32 ? T(12582912) : T(6755399441055744));
  const Vec<T> shifted = n * Vec<T>(T(0.5)) + magic, rest = n - (shifted - magic);
  const Vec<IntOf<T>> power =
      (bit_cast<IntOf<T>>(shifted) << (f32 ? 23 : 52)) + bit_cast<IntOf<T>>(Vec<T>(T(1)));
  return x * bit_cast<T>(power) * pow2(rest);
}

// What a register of floats becomes in double: two registers on the CPU, twice the same one here.
struct DoublePair {
  Vec<double> low, high;
};
TS_INLINE DoublePair widen(Vec<float> a) {
  const Vec<double> wide(static_cast<double>(a.r));
  return {wide, wide};
}
TS_INLINE Vec<float> narrow(DoublePair a) { return Vec<float>(static_cast<float>(a.low.r)); }

// --- cpu/lanes.h -----------------------------------------------------------------------------------------

// Toward zero; 0 where b is 0, and the lowest number over -1 wraps around.
template <class T>
TS_INLINE Vec<T> divide_toward_zero(Vec<T> a, Vec<T> b) {
  if (b.r == 0) return Vec<T>(T(0));
  if constexpr (std::is_signed_v<T>)
    if (b.r == T(-1)) return -a;
  return Vec<T>(static_cast<T>(a.r / b.r));
}
// Counts outside [0, width) shift every bit out.
template <class T>
TS_INLINE Vec<T> shift_left(Vec<T> a, Vec<T> count) {
  if constexpr (std::is_same_v<T, bool>) {
    return a;
  } else {
    using U = std::make_unsigned_t<T>;
    const U n = static_cast<U>(count.r);
    return n < U(8 * sizeof(T)) ? a << static_cast<int>(n) : Vec<T>(T(0));
  }
}
template <class T>
TS_INLINE Vec<T> shift_right(Vec<T> a, Vec<T> count) {
  if constexpr (std::is_same_v<T, bool>) {
    return a & (count ^ Vec<T>(1));
  } else {
    using U = std::make_unsigned_t<T>;
    const U n = static_cast<U>(count.r);
    if (n < U(8 * sizeof(T))) return a >> static_cast<int>(n);
    return std::is_signed_v<T> ? a >> static_cast<int>(8 * sizeof(T) - 1) : Vec<T>(T(0));
  }
}
template <class T>
TS_INLINE Vec<T> fmod(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(::fmodf(a.r, b.r));
  else
    return Vec<T>(::fmod(a.r, b.r));
}

// cpu/lookup.h
TS_INLINE Vec<float> lookup(const float (&table)[16], Vec<std::int32_t> index) {
  return Vec<float>(table[index.r & 15]);
}
TS_INLINE Vec<double> lookup(const double (&table)[16], Vec<std::uint64_t> index) {
  return Vec<double>(table[index.r & 15]);
}
template <class V>
TS_INLINE V square_root(V x) {
  return sqrt(x);
}
template <class T>
struct Scaled {
  Vec<T> k, m;
};
TS_INLINE Scaled<float> exponent_mantissa(Vec<float> x) {
  const Mask<float> low = x < Vec<float>(0x1p-126f);
  x = select(low, x * Vec<float>(0x1p24f), x);
  const std::int32_t start = bits_as<std::int32_t>(0.75f), offset = bits_as<std::int32_t>(x.r) - start;
  return {Vec<float>(static_cast<float>(offset >> 23) - (low.r ? 24.0f : 0.0f)),
          Vec<float>(bits_as<float>((offset & 0x7fffff) + start))};
}
TS_INLINE Scaled<double> exponent_mantissa(Vec<double> x) {
  const Mask<double> low = x < Vec<double>(0x1p-1022);
  x = select(low, x * Vec<double>(0x1p54), x);
  const std::int64_t start = bits_as<std::int64_t>(0.75), offset = bits_as<std::int64_t>(x.r) - start;
  return {Vec<double>(static_cast<double>(offset >> 52) - (low.r ? 54.0 : 0.0)),
          Vec<double>(bits_as<double>((offset & 0xfffffffffffff) + start))};
}
template <class T>
TS_INLINE Vec<T> pow2_beside_one(Vec<T> n) {
  return pow2(max(Vec<T>(sizeof(T) == 4 ? T(-126) : T(-1022)), n));
}
template <class T>
TS_INLINE bool any_at_least(Vec<T> a, Vec<T> b) {
  return a.r >= b.r;
}
template <class T>
TS_INLINE bool positive_finite(Vec<T> x) {
  return x.r > T(0) && x.r < T(__builtin_inf());
}
template <class T>
TS_INLINE bool finite(Vec<T> x) {
  return ::fabs(x.r) < T(__builtin_inf());
}

}  // namespace ts::cuda

#define TS_MATH cuda
#define TS_MATH_COMPLEX "cuda/complex.h"
