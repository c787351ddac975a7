// The inverse hyperbolic functions, by log1p of an argument that does not cancel; included by vmath.h.
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

namespace area {
// Of floats: log(1 + t.high + t.low), or where `huge` log(2 a); t >= 0.
template <class V, class Flags>
TS_INLINE V log1p_or_twice(Pair<V> t, Flags huge, V a) {
  Pair<V> u = two_sum(V(1.0f), t.high);
  u.low = u.low + t.low;
  u = {select(huge, a, u.high), select(huge, V(0.0f), u.low)};
  LogSplit<V> p = natural_split(u.high);
  p.r = fma(scale(u.low, -p.k), p.c, p.r);
  p.k = p.k + select(huge, V(1.0f), V(0.0f));
  return natural_sum(p);
}
// log1p(a + a^2 / (1 + sqrt(1 + a^2)))
template <class V>
TS_INLINE V asinh_float(V x) {
  const V a = abs(x), one(1.0f), bound(0x1p60f), b = min(bound, a);
  const V rest = b * b / (one + sqrt(fma(b, b, one)));
  const V y = log1p_or_twice(fast_two_sum(b, rest), a > bound, a);
  return copysign(select(a < V(C<V>::infinity), y, a), x);
}
// log1p(t + sqrt(2t + t^2)), t = x - 1
template <class V>
TS_INLINE V acosh_float(V x) {
  const V one(1.0f), bound(0x1p60f), t = min(bound, x) - one;
  const V root = sqrt(fma(t, t, t + t));
  const V y = log1p_or_twice(two_sum(root, t), x > bound, x);
  return select(x < one, V(C<V>::nan), select(x < V(C<V>::infinity), y, x));
}
// log((1 + a) / (1 - a)) / 2, the quotient in two words; below 2^-12 it is a.
template <class V>
TS_INLINE V atanh_float(V x) {
  const V a = abs(x), one(1.0f);
  const Pair<V> n = fast_two_sum(one, a), d = fast_two_sum(one, -a);
  const V inverse = one / d.high, q = n.high * inverse;
  const V q_low = (fma_exact(-q, d.high, n.high) + fma(-q, d.low, n.low)) * inverse;
  LogSplit<V> p = natural_split(q);
  p.r = fma(scale(q_low, -p.k), p.c, p.r);
  const V y = select(a < V(0x1p-12f), a, V(0.5f) * natural_sum(p));
  if (positive_finite(q)) return copysign(y, x);  // every lane is below 1
  return copysign(select(a < one, y, select(a == one, V(C<V>::infinity), V(C<V>::nan))), x);
}
}  // namespace area

// asinh 1.5 / 1.6, acosh 1.6 / 1.3, atanh 1.5 / 1.6 ULP.
#define TS_AREA(name)                                           \
  template <class V>                                            \
  TS_INLINE V name(V x) {                                       \
    if constexpr (std::is_same_v<typename V::Element, float>) { \
      return area::name##_float(x);                             \
    } else {                                                    \
      return area::name(x);                                     \
    }                                                           \
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
