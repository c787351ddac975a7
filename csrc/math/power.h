// x^y; see vmath.h.
#pragma once

#include "math/vmath.h"

namespace ts::TS_MATH {
namespace vmath {

// |x|^y of floats, x positive and finite. log2 x = k + l + log2(1 + r) is a pair to 2^-33: the polynomial's
// first two terms, their products and the sum carry what they round away.
template <class V>
TS_INLINE V power_magnitude_short(V x, V y) {
  const LogSplit<V> s = binary_split(x);
  const Pair<V> product = two_product(s.m, s.c);
  const V r = product.high - V(1.0f), one(C<V>::log2_e.high), two(C<V>::power_slope.high);
  const V factor = fma(r, two, one);  // log2(1 + r) / r
  V low = fma_exact(r, two, one - factor) + fma(r, V(C<V>::power_slope.low), V(C<V>::log2_e.low));
  low = fma(r * r, polynomial(r, C<V>::power), low);
  Pair<V> rest = two_product(r, factor);
  const V slope = fma(r, fma(r, one, -one), one);  // of log2 at 1 + r
  rest.low = fma(product.low, slope, fma(r, low, rest.low));
  const Pair<V> whole = fast_two_sum(s.k, s.l);
  Pair<V> log2 = fast_two_sum(whole.high, rest.high);
  log2.low = log2.low + (whole.low + rest.low);
  const V bound(200.0f);
  Pair<V> w = two_product(y, log2.high);
  w.low = select(abs(w.high) < bound, fma(y, log2.low, w.low), V(0.0f));
  w.high = min(bound, max(-bound, w.high));
  const V n = ((w.high + w.low) + V(C<V>::magic)) - V(C<V>::magic);  // the low word may be as large as 0.2
  return exp2_sum(n, (w.high - n) + w.low);
}

// log2 x to 2^-64, x positive and finite: log(1 + f) = 2 s + s z (2/3 + z p(z)), s = f / (2 + f), z = s^2, in
// pairs.
constexpr Table kPairLog = {0.40000000000000385, 0.2857142857086969,  0.22222222398447045,
                            0.18181793939110455, 0.15386354831248383, 0.13265461360103087,
                            0.13121749469128383};
template <class D>
TS_INLINE Pair<D> log2_pair(D x) {
  const LogParts<D> parts = log_parts(x);
  const Pair<D> d = fast_two_sum(D(2.0), parts.f);
  const D inverse = D(1.0) / d.high, s = parts.f * inverse;
  const D s_low = (fma_exact(-s, d.high, parts.f) - s * d.low) * inverse;
  Pair<D> z = two_product(s, s);
  z.low = fma(s + s, s_low, z.low);
  Pair<D> w = fast_two_sum(D(0.66666666666666663), z.high * polynomial(z.high, kPairLog));
  w.low = w.low + D(3.7007434154171886e-17);
  Pair<D> t = two_product(z.high, w.high);
  t.low = t.low + fma(z.high, w.low, z.low * w.high);
  Pair<D> u = two_product(s, t.high);
  u.low = u.low + fma(s, t.low, s_low * t.high);
  Pair<D> sum = fast_two_sum(s + s, u.high);
  sum.low = sum.low + (u.low + (s_low + s_low));
  Pair<D> log2 = two_product(sum.high, D(C<D>::log2_e.high));
  log2.low = log2.low + fma(sum.high, D(C<D>::log2_e.low), sum.low * D(C<D>::log2_e.high));
  const Pair<D> y = fast_two_sum(parts.k, log2.high);
  return {y.high, y.low + log2.low};
}
template <class D>
TS_INLINE D power_magnitude(D x, D y) {
  const D zero(0.0);
  const Pair<D> log2 = log2_pair(x);
  Pair<D> w = two_product(y, log2.high);
  const D bound(1100.0);
  w.low = select(abs(w.high) < bound, fma(y, log2.low, w.low), zero);
  w.high = min(bound, max(-bound, w.high));
  const D n = round(w.high), fraction = w.high - n;
  Pair<D> r = two_product(fraction, D(C<D>::ln2.high));
  r.low = r.low + fma(fraction, D(C<D>::ln2.low), w.low * D(C<D>::ln2.high));
  const D e = fma(r.high * r.high, polynomial(r.high, C<D>::exp), r.high);
  const Pair<D> p = fast_two_sum(D(1.0), e);
  return scale(p.high + fma(r.low, p.high, p.low), n);
}

// Where an operand is not positive and finite. `magnitude` is that of |x|^y for finite x that are not 0.
template <class V>
TS_INLINE V power_edges(V x, V y, V magnitude) {
  using T = typename V::Element;
  const V zero(T(0)), one(T(1)), infinity(C<V>::infinity);
  const V a = abs(x);
  const auto grows = (a > one) ^ (y < zero);  // |x|^|y| large and y positive, or neither
  magnitude =
      select((a == zero) | (a == infinity) | (abs(y) == infinity), select(grows, infinity, zero), magnitude);
  const auto integral = trunc(y) == y;
  const V half_y = y * V(T(0.5));
  const auto odd = integral & (trunc(half_y) != half_y);
  V result = select(odd, copysign(magnitude, x), magnitude);
  result = select((x < zero) & ~integral & (a < infinity), V(C<V>::nan), result);
  result = select((a == one) & (abs(y) == infinity), one, result);
  result = select((x != x) | (y != y), x + y, result);
  return select((y == zero) | (x == one), one, result);
}
// 1.0 / 0.8 ULP.
template <class V>
TS_INLINE V pow(V x, V y) {
  using T = typename V::Element;
  V magnitude;
  if constexpr (sizeof(T) == 4)
    magnitude = power_magnitude_short(abs(x), y);
  else
    magnitude = power_magnitude(abs(x), y);
  return positive_finite(x) && finite(y) ? magnitude : power_edges(x, y, magnitude);
}

}  // namespace vmath
}  // namespace ts::TS_MATH
