// The inverse hyperbolic functions, by log1p of an argument that does not cancel.
//
// Floats are computed as doubles; included by vmath.h.
#pragma once

namespace ts::TS_MATH {
namespace vmath {

namespace area {
template <class V>
TS_INLINE V asinh(V x) {
  const V a = abs(x), one(1.0), huge(0x1p28);
  const V b = min(huge, a);  // beyond it log(2 a), and a NaN stays
  const V near = log1p(b + b * b / (one + sqrt(fma(b, b, one))));
  const V far = log(a) + V(0.69314718055994530942);
  return copysign(select(a < huge, near, far), x);
}
template <class V>
TS_INLINE V acosh(V x) {
  const V one(1.0), two(2.0), zero(0.0), huge(0x1p28), b = min(huge, x), t = b - one;
  // Near 1 it is log1p(t + sqrt(2t + t^2)), whose argument is taken in two words.
  const Pair<V> square = fast_two_sum(t + t, t * t);
  const V root = sqrt(square.high);
  const V rest = (fma_exact(-root, root, square.high) + square.low) / (root + root);
  const Pair<V> sum = fast_two_sum(root, t + rest);
  const V small = select(t == zero, zero, log1p(sum.high) + sum.low / (one + sum.high));
  const V near = select(b < two, small, log(b + sqrt(fma(b, b, -one))));
  const V far = log(x) + V(0.69314718055994530942);
  return select(x < one, V(__builtin_nan("")), select(x < huge, near, far));
}
template <class V>
TS_INLINE V atanh(V x) {
  const V a = abs(x), one(1.0), twice = a + a;
  // Near 0 the quotient is 2a + 2a^2 / (1 - a), whose last term is small.
  const V t = select(a < V(0.5), twice + twice * a / (one - a), twice / (one - a));
  return copysign(V(0.5) * log1p(t), x);
}
}  // namespace area

// asinh 0.6 / 1.6, acosh 0.6 / 1.3, atanh 0.6 / 1.6 ULP.
#define TS_AREA(name)                                               \
  template <class V>                                                \
  TS_INLINE V name(V x) {                                           \
    if constexpr (std::is_same_v<typename V::Element, float>) {     \
      const auto wide = widen(x);                                   \
      return narrow({area::name(wide.low), area::name(wide.high)}); \
    } else {                                                        \
      return area::name(x);                                         \
    }                                                               \
  }
TS_AREA(asinh)
TS_AREA(acosh)
TS_AREA(atanh)
#undef TS_AREA

// The neighbour of a towards b.
template <class V>
TS_INLINE V nextafter(V a, V b) {
  using T = typename V::Element;
  using I = IntOf<T>;
  const V zero(T(0));
  const auto one = bit_cast<I>(zero) + decltype(bit_cast<I>(zero))(I(1));
  const auto away = as<I>((a < b) ^ (a < zero));  // from zero
  const auto bits = bit_cast<I>(a);
  const V step = bit_cast<T>(select(away, bits + one, bits - one));
  const V smallest = copysign(bit_cast<T>(one), b);
  const V y = select(a == zero, smallest, step);
  return select(a == b, b, select((a != a) | (b != b), a + b, y));
}

}  // namespace vmath
}  // namespace ts::TS_MATH
