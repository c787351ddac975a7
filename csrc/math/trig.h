// Circular functions and their inverses; see vmath.h.
#pragma once

#include <cmath>

#include "math/vmath.h"

namespace ts::TS_MATH {
namespace vmath {

// x = quadrant pi/2 + high - excess, |high| <= pi/4 and a little; the quadrant's lowest two bits are right.
template <class V, class Bits>
struct Angle {
  V high, excess;
  Bits quadrant;
};
struct HugeAngle {
  double high, low;
  std::int64_t quadrant;
};

// Payne and Hanek's reduction of one huge number, 2^17 <= |x| < inf: of the product with 2/pi only the bits
// between the multiples of 4 and what rounds away are computed, in integers.
TS_OUTLINE HugeAngle reduce_huge(double x) {
  // 0 and then the bits of 2/pi.
  static constexpr std::uint64_t kTwoOverPi[20] = {
      0x0000000000000000, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
      0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484, 0xe99c7026b45f7e41,
      0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7,
      0x4f463f669e5fea2d, 0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab};
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff) - 1075;  // |x| = mantissa 2^exponent
  const std::uint64_t mantissa = (bits & 0xfffffffffffff) | 0x10000000000000;
  const int first = exponent - 2 + 64;  // the first bit of kTwoOverPi whose product is not a multiple of 4
  const std::uint64_t* word = kTwoOverPi + first / 64;
  const int shift = first % 64;
  std::uint64_t w[3];
  for (int i = 0; i < 3; ++i) w[i] = shift ? word[i] << shift | word[i + 1] >> (64 - shift) : word[i];
  // mantissa * w modulo 2^192, in units of 2^-190
  using Wide = unsigned __int128;
  const Wide low = Wide(w[2]) * mantissa,
             middle = Wide(w[1]) * mantissa + static_cast<std::uint64_t>(low >> 64);
  const std::uint64_t top = w[0] * mantissa + static_cast<std::uint64_t>(middle >> 64);
  std::uint64_t quadrant = top >> 62;
  Wide fraction =
      ((Wide(top) << 64 | static_cast<std::uint64_t>(middle)) << 2) | static_cast<std::uint64_t>(low) >> 62;
  const bool up = static_cast<bool>(fraction >> 127);  // nearest quadrant: the rest is negative
  if (up) {
    quadrant += 1;
    fraction = -fraction;
  }
  const std::uint64_t lead = static_cast<std::uint64_t>(fraction >> 64);
  const int zeros = lead ? __builtin_clzll(lead) : 64;  // never beyond 62 + 1 for a double
  fraction <<= zeros;
  std::uint64_t unit_bits = static_cast<std::uint64_t>(1023 - zeros - 53) << 52;
  double unit;
  std::memcpy(&unit, &unit_bits, sizeof(unit));
  const double high = static_cast<double>(static_cast<std::int64_t>(fraction >> 75)) * unit;
  const double rest = static_cast<double>(static_cast<std::uint64_t>(fraction >> 11)) * unit * 0x1p-64;
  const Split<double> half_pi = Coefficients<double>::half_pi;
  double angle = high * half_pi.high;
  double error = ::fma(high, half_pi.high, -angle) + (high * half_pi.low + rest * half_pi.high);
  if (up != (x < 0)) angle = -angle, error = -error;
  if (x < 0) quadrant = -quadrant;
  return {angle, error, static_cast<std::int64_t>(quadrant) & 3};
}

// Of x + turns pi/2. The sum of three words of pi/2 is exact until its last rounding, which goes into the
// excess; a zero keeps its sign.
template <class V>
TS_INLINE auto reduce_angle(V x, int turns) {
  using T = typename V::Element;
  const V magic(C<V>::magic + static_cast<T>(turns)), t = fma(x, V(C<V>::two_over_pi), magic), n = t - magic;
  const V exact = fma_exact(-n, V(C<V>::half_pi.high), x);
  const Pair<V> second = two_product(n, V(C<V>::half_pi.low));
  const V high = exact - second.high;
  const V excess = ((high - exact) + second.high) + fma(n, V(C<V>::half_pi_rest), second.low);
  const auto quadrant = bit_cast<IntOf<T>>(t);
  return Angle<V, std::remove_const_t<decltype(quadrant)>>{high, excess, quadrant};
}
// The same where some lanes are too large for it: they are taken one by one.
template <class V>
TS_INLINE auto reduce_huge_angle(V x, int turns) {
  using T = typename V::Element;
  auto angle = reduce_angle(x, turns);
  for (int i = 0; i < V::width; ++i) {
    const double wide = static_cast<double>(x[i]);
    if (!(::fabs(wide) >= static_cast<double>(C<V>::huge_angle))) continue;
    HugeAngle one = {__builtin_nan(""), 0, 0};
    if (::fabs(wide) < __builtin_inf()) one = reduce_huge(wide);
    angle.high.set(i, static_cast<T>(one.high));
    angle.excess.set(i, static_cast<T>(static_cast<double>(angle.high[i]) - one.high - one.low));
    angle.quadrant.set(i, static_cast<IntOf<T>>(one.quadrant + turns));
  }
  return angle;
}

template <class V, class Bits>
TS_INLINE V sine_of(Angle<V, Bits> a) {
  using T = typename V::Element;
  constexpr int sign_shift = 8 * sizeof(T) - 2;
  const V one(T(1)), half(T(0.5)), z = a.high * a.high;
  const V sine = fma(a.high, fma(z, polynomial(z, C<V>::sin), one), -a.excess);
  const V cosine = one + fma(z, fma(z, polynomial(z, C<V>::cos), -half), a.high * a.excess);
  const V y = select(as<T>((a.quadrant & Bits(IntOf<T>(1))) == Bits(IntOf<T>(0))), sine, cosine);
  return y ^ bit_cast<T>((a.quadrant & Bits(IntOf<T>(2))) << sign_shift);
}
// In odd quadrants -1 / tan.
template <class V, class Bits>
TS_INLINE V tangent_of(Angle<V, Bits> a) {
  using T = typename V::Element;
  const V one(T(1)), z = a.high * a.high;
  const auto even = (a.quadrant & Bits(IntOf<T>(1))) == Bits(IntOf<T>(0));
  const V more = fma(a.high * z, polynomial(z, C<V>::tan), -fma(a.excess, z, a.excess));
  const Pair<V> t = fast_two_sum(a.high, more);
  const V inverse = -one / t.high;
  const V cotangent = fma(inverse, fma(inverse, t.low, fma_exact(inverse, t.high, one)), inverse);
  return select(as<T>(even), t.high, cotangent);
}
// Out of line: the registers of the usual case are not spilled for the rare one.
template <class V>
TS_OUTLINE V sine_of_huge(V x, int turns) {
  return sine_of(reduce_huge_angle(x, turns));
}
template <class V>
TS_OUTLINE V tangent_of_huge(V x) {
  return tangent_of(reduce_huge_angle(x, 0));
}

// 1.2 / 1.2 ULP.
template <class V>
TS_INLINE V sin(V x) {
  if (any_at_least(abs(x), V(C<V>::huge_angle))) [[unlikely]]
    return sine_of_huge(x, 0);
  return sine_of(reduce_angle(x, 0));
}
// 1.2 / 1.2 ULP.
template <class V>
TS_INLINE V cos(V x) {
  if (any_at_least(abs(x), V(C<V>::huge_angle))) [[unlikely]]
    return sine_of_huge(x, 1);
  return sine_of(reduce_angle(x, 1));
}
// 1.5 / 1.2 ULP.
template <class V>
TS_INLINE V tan(V x) {
  if (any_at_least(abs(x), V(C<V>::huge_angle))) [[unlikely]]
    return tangent_of_huge(x);
  return tangent_of(reduce_angle(x, 0));
}

// --- inverses -------------------------------------------------------------------------------------
// The angle of (x, y), both >= 0: offset + atan(t) with |t| <= tan(pi/8), offset 0, pi/4 or pi/2.
template <class V>
struct Octant {
  V t, offset, offset_low;
};
template <class V>
TS_INLINE Octant<V> octant(V y, V x) {
  using T = typename V::Element;
  const V zero(T(0)), half(T(0.5));
  const auto steep = y > x * V(T(2.41421356237309505)), flat = y <= x * V(T(0.41421356237309505));
  const V numerator = select(steep, -x, select(flat, y, y - x));
  const V denominator = select(steep, y, select(flat, x, y + x));
  const V quarter = V(C<V>::half_pi.high) * half, quarter_low = V(C<V>::half_pi.low) * half;
  return {numerator / denominator, select(steep, quarter + quarter, select(flat, zero, quarter)),
          select(steep, quarter_low + quarter_low, select(flat, zero, quarter_low))};
}
// 1.9 / 1.9 ULP.
template <class V>
TS_INLINE V atan(V x) {
  const Octant<V> o = octant(abs(x), V(typename V::Element(1)));
  const V z = o.t * o.t;
  const V y = o.offset + (o.t + fma(o.t * z, polynomial(z, C<V>::atan), o.offset_low));
  return copysign(y, x);
}

// 1.9 / 1.9 ULP.
template <class V>
TS_INLINE V atan2(V y, V x) {
  using T = typename V::Element;
  const V zero(T(0)), one(T(1)), infinity(C<V>::infinity);
  V a = abs(x), b = abs(y);
  const auto both_infinite = (a == infinity) & (b == infinity), origin = (a == zero) & (b == zero);
  a = select(both_infinite | origin, one, a);
  b = select(both_infinite, one, select(origin, zero, b));
  const V s = select(max(a, b) > V(C<V>::largest * T(0.25)), V(T(0.125)), one);  // a + b must not overflow
  const Octant<V> o = octant(b * s, a * s);
  const V z = o.t * o.t, p = o.t * z * polynomial(z, C<V>::atan);
  // x < 0: pi - (offset + atan t)
  const V pi(C<V>::half_pi.high * 2), pi_low(C<V>::half_pi.low * 2);
  const auto left = as<T>(bit_cast<IntOf<T>>(x) < bit_cast<IntOf<T>>(zero));
  const V offset = select(left, pi - o.offset, o.offset),
          low = select(left, pi_low - o.offset_low, o.offset_low);
  const V t = select(left, -o.t, o.t), more = select(left, -p, p);
  return select(x != x, x, select(y != y, y, copysign(offset + (t + (more + low)), y)));
}

// Beyond 1/2: asin x = pi/2 - 2 asin(sqrt((1 - x) / 2)).
template <class V>
struct HalfAngle {
  V s, more;  // asin of the reduced argument is s + more
};
template <class V>
TS_INLINE HalfAngle<V> half_angle(V a) {
  using T = typename V::Element;
  const V half(T(0.5)), one(T(1));
  const auto small = a < half;
  const V z = select(small, a * a, half * (one - a));
  const V s = select(small, a, sqrt(z));
  return {s, s * z * polynomial(z, C<V>::asin)};
}
// 1.1 / 1.1 ULP.
template <class V>
TS_INLINE V asin(V x) {
  using T = typename V::Element;
  const V a = abs(x);
  const HalfAngle<V> h = half_angle(a);
  const Pair<V> rest = fast_two_sum(V(C<V>::half_pi.high), -(h.s + h.s));
  const V large = rest.high + (rest.low + (V(C<V>::half_pi.low) - (h.more + h.more)));
  return copysign(select(a < V(T(0.5)), h.s + h.more, large), x);
}
// 1.1 / 1.1 ULP.
template <class V>
TS_INLINE V acos(V x) {
  using T = typename V::Element;
  const V a = abs(x), zero(T(0));
  const HalfAngle<V> h = half_angle(a);
  const V s = copysign(h.s, x), more = copysign(h.more, x);
  const Pair<V> rest = fast_two_sum(V(C<V>::half_pi.high), -s);
  const V small = rest.high + (rest.low + (V(C<V>::half_pi.low) - more));
  const auto left = x < zero;
  const V base = select(left, V(C<V>::half_pi.high * 2), zero),
          base_low = select(left, V(C<V>::half_pi.low * 2), zero);
  const V large = base + ((s + s) + (base_low + (more + more)));
  return select(a < V(T(0.5)), small, large);
}

}  // namespace vmath
}  // namespace ts::TS_MATH
