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

// log2 x of doubles to 2^-64, x positive and finite: as above, with a term more in pairs.
template <class D>
TS_INLINE Pair<D> log2_pair(D x) {
  const LogSplit<D> s = binary_split(x);
  const Pair<D> product = two_product(s.m, s.c);
  const D r = product.high - D(1.0), one(C<D>::log2_e.high), two(C<D>::power_slope.high);
  const D three(C<D>::power_cubic.high), inner = fma(r, three, two), factor = fma(r, inner, one);
  D low = fma(r, polynomial(r, C<D>::power), D(C<D>::power_cubic.low));
  low = fma(r, low, fma_exact(r, three, two - inner) + D(C<D>::power_slope.low));
  low = fma(r, low, fma_exact(r, inner, one - factor) + D(C<D>::log2_e.low));
  Pair<D> rest = two_product(r, factor);
  const D slope = fma(r, fma(r, one, -one), one);  // of log2 at 1 + r
  rest.low = fma(product.low, slope, fma(r, low, rest.low));
  const Pair<D> whole = fast_two_sum(s.k, s.l);
  Pair<D> log2 = fast_two_sum(whole.high, rest.high);
  log2.low = log2.low + (whole.low + rest.low);
  return log2;
}
template <class D>
TS_INLINE D exp2_pair(Pair<D> w) {
  const D n = (w.high + D(C<D>::magic)) - D(C<D>::magic);
  return exp2_sum(n, (w.high - n) + w.low);
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
// 1.0 / 1.1 ULP, doubles without FMA 1.2.
template <class V>
TS_INLINE V pow(V x, V y) {
  using T = typename V::Element;
  if constexpr (sizeof(T) == 4) {
    const V magnitude = power_magnitude_short(abs(x), y);
    return positive_finite(x) && finite(y) ? magnitude : power_edges(x, y, magnitude);
  } else {
    const Pair<V> log2 = log2_pair(abs(x));
    Pair<V> w = two_product(y, log2.high);
    const V bound(1100.0), low = fma(y, log2.low, w.low);
    if (positive_finite(x) && finite(y) && !any_at_least(abs(w.high), bound))
      return exp2_pair(Pair<V>{w.high, low});
    w.low = select(abs(w.high) < bound, low, V(0.0));
    w.high = min(bound, max(-bound, w.high));
    return power_edges(x, y, exp2_pair(w));
  }
}

}  // namespace vmath
}  // namespace ts::TS_MATH
