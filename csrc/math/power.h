// x^y; see vmath.h.
#pragma once

#include "math/vmath.h"

namespace ts::TS_MATH {
namespace vmath {

// A float's log2 x = k + log2(1 + f) and y log2 x in double precision, to 2^-30: a short polynomial does.
constexpr Table kShortLog = {0.6666666564175492, 0.40000336169557277, 0.2853723944273403,
                             0.23583571026835937};
template <class D>
TS_INLINE D short_power(D k, D f, D y) {
  const D s = f / (D(2.0) + f), z = s * s;
  return y * fma(fma(s, z * polynomial(z, kShortLog), s + s), D(1.4426950408889634), k);
}
// |x|^y: the exponent in double, what remains of it in float again.
template <class V>
TS_INLINE V power_magnitude_short(V x, V y) {
  const LogParts<V> p = log_parts(x);
  const auto k = widen(p.k), f = widen(p.f), wide = widen(y);
  using D = decltype(k.low);
  const D w = short_power(k.low, f.low, wide.low), v = short_power(k.high, f.high, wide.high);
  const D bound(200.0);
  const D w_bounded = min(bound, max(-bound, w)), v_bounded = min(bound, max(-bound, v));
  const D w_whole = round(w_bounded), v_whole = round(v_bounded);
  const D ln2(0.6931471805599453);
  const V n = narrow({w_whole, v_whole});
  const V r = narrow({(w_bounded - w_whole) * ln2, (v_bounded - v_whole) * ln2});
  return scale(V(1) + fma(r * r, polynomial(r, C<V>::exp), r), n);
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
  const V infinity(C<V>::infinity);
  const auto plain = (x > V(T(0))) & (x < infinity) & (abs(y) < infinity);
  if (!any(~plain)) return magnitude;
  return power_edges(x, y, magnitude);
}

}  // namespace vmath
}  // namespace ts::TS_MATH
