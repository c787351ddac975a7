// x^y; see vmath.h.
#pragma once

#include "math/vmath.h"

namespace ts::TS_MATH {
namespace vmath {

// |x|^y for a float's x and y in double precision, to 2^-30: short polynomials do.
constexpr double kShortLog[] = {0.6666666564175492, 0.40000336169557277, 0.2853723944273403, 0.23583571026835937};
constexpr double kShortExp[] = {0.5000000044371429,   0.16666666365922184,   0.04166635984409908,
                                0.008333390144213103, 0.0013940720429539142, 0.000198456149865989};
template <class D>
TS_INLINE D power_magnitude_short(D x, D y) {
  const LogParts<D> p = log_parts(x);
  const D s = p.f / (D(2.0) + p.f), z = s * s;
  const D log2 = fma(fma(s, z * polynomial(z, kShortLog), s + s), D(1.4426950408889634), p.k);
  const D finite = select(x == D(0.0), D(-__builtin_inf()), select(x < D(__builtin_inf()), log2, x));
  const D w = min(D(200.0), max(D(-200.0), y * finite));
  const D n = round(w), r = (w - n) * D(0.6931471805599453);
  return scale(D(1.0) + fma(r * r, polynomial(r, kShortExp), r), n);
}

// log2 x to 2^-64, x positive and finite: log(1 + f) = 2 s + s z (2/3 + z p(z)), s = f / (2 + f), z = s^2, in pairs.
constexpr double kPairLog[] = {0.40000000000000385, 0.2857142857086969,  0.22222222398447045, 0.18181793939110455,
                               0.15386354831248383, 0.13265461360103087, 0.13121749469128383};
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
  const D infinity(__builtin_inf()), zero(0.0);
  const Pair<D> log2 = log2_pair(x);
  Pair<D> w = two_product(y, log2.high);
  const D extreme = y * select(x == zero, -infinity, select(x < infinity, log2.high, x));
  const D bound(1100.0);
  const auto inside = abs(extreme) < bound;
  w.low = select(inside, fma(y, log2.low, w.low), zero);
  w.high = min(bound, max(-bound, extreme));
  w.high = select(extreme != extreme, extreme, w.high);
  const D n = round(w.high), fraction = w.high - n;
  Pair<D> r = two_product(fraction, D(C<D>::ln2.high));
  r.low = r.low + fma(fraction, D(C<D>::ln2.low), w.low * D(C<D>::ln2.high));
  const D e = fma(r.high * r.high, polynomial(r.high, C<D>::exp), r.high);
  const Pair<D> p = fast_two_sum(D(1.0), e);
  return scale(p.high + fma(r.low, p.high, p.low), n);
}

template <class V>
TS_INLINE V pow(V x, V y) {
  using T = typename V::Element;
  const V zero(T(0)), one(T(1)), half(T(0.5));
  const V a = abs(x);
  V magnitude;
  if constexpr (sizeof(T) == 4) {
    const auto x2 = widen(a), y2 = widen(y);
    magnitude = narrow({power_magnitude_short(x2.low, y2.low), power_magnitude_short(x2.high, y2.high)});
  } else {
    magnitude = power_magnitude(a, y);
  }
  const auto integral = trunc(y) == y;
  const V half_y = y * half;
  const auto odd = integral & (trunc(half_y) != half_y);
  V result = select(odd, copysign(magnitude, x), magnitude);
  result = select((x < zero) & ~integral & (a < V(C<V>::infinity)), V(C<V>::nan), result);
  result = select((a == one) & (abs(y) == V(C<V>::infinity)), one, result);
  result = select((x != x) | (y != y), x + y, result);
  return select((y == zero) | (x == one), one, result);
}

}  // namespace vmath
}  // namespace ts::TS_MATH
