// Elementary functions of a vector register: exponentials and logarithms here, trig.h, special.h and power.h
// beside it.
//
// V is a register type with an Element (float or double) and the vocabulary of cpu/simd.h: + - * /,
// comparisons, select, fma, min, max, round, scale (x 2^n), bit_cast, fma_exact. One formula serves both
// precisions; what differs is the table in coefficients.h. Bits do not depend on the register's width. Each
// function states its largest error in units in the last place (ULP) as float / double over all inputs,
// subnormal and overflowing ones included.
// Without FMA (baseline) log2 and log10 reach 1.9.
#pragma once

#include "math/coefficients.h"
#include "math/registers.h"

namespace ts::TS_MATH {
namespace vmath {

template <class V>
using C = Coefficients<typename V::Element>;

// c[0] + x c[1] + x^2 c[2] + ...
template <int I = 0, class V, int N>
TS_INLINE V polynomial(V x, Table<typename V::Element, N> c) {
  if constexpr (I == N - 1)
    return V(c.value[I]);
  else
    return fma(polynomial<I + 1>(x, c), x, V(c.value[I]));
}

template <class V>
TS_INLINE V sign_bit(V x) {
  return x & V(static_cast<typename V::Element>(-0.0));
}
template <class V>
TS_INLINE V copysign(V magnitude, V sign) {
  return abs(magnitude) | sign_bit(sign);
}
// A value as the unevaluated sum high + low.
template <class V>
struct Pair {
  V high, low;
};
// a + b exactly, for |a| >= |b| or a = 0.
template <class V>
TS_INLINE Pair<V> fast_two_sum(V a, V b) {
  const V s = a + b;
  return {s, (a - s) + b};
}
template <class V>
TS_INLINE Pair<V> two_sum(V a, V b) {
  const V s = a + b, t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}
// a * b exactly.
template <class V>
TS_INLINE Pair<V> two_product(V a, V b) {
  const V p = a * b;
  return {p, fma_exact(a, b, -p)};
}
// a / b with the error of one rounding, b normal.
template <class V>
TS_INLINE V divide(Pair<V> a, Pair<V> b) {
  const V inverse = V(1) / b.high, q = a.high * inverse;
  const V rest = fma_exact(-q, b.high, a.high) + fma(-q, b.low, a.low);
  return fma(rest, inverse, q);
}

// --- exponentials ---------------------------------------------------------------------------------
// e^(x.high + x.low) = (high + low) 2^n with 0.7 < high < 1.42; x within exp's range.
template <class V>
struct Exponential {
  V high, low, n;
};
template <class V>
TS_INLINE Exponential<V> exponential(V x, V x_low) {
  const V n = round(x * V(C<V>::log2e));
  V r = fma(n, V(-C<V>::ln2_cut.high), x);  // exact
  r = fma(n, V(-C<V>::ln2_cut.low), r) + x_low;
  const V e = fma(r * r, polynomial(r, C<V>::exp), r);
  const V one(1);
  const V high = one + e;
  return {high, (one - high) + e, n};
}

// 1.0 / 1.0 ULP.
template <class V>
TS_INLINE V exp(V x) {
  x = min(V(C<V>::exp_highest), max(V(C<V>::exp_lowest), x));
  const V n = round(x * V(C<V>::log2e));
  V r = fma(n, V(-C<V>::ln2_cut.high), x);
  r = fma(n, V(-C<V>::ln2_cut.low), r);
  return scale(V(1) + fma(r * r, polynomial(r, C<V>::exp), r), n);
}

// 1.3 / 1.1 ULP.
template <class V>
TS_INLINE V exp2(V x) {
  x = min(V(C<V>::exp2_highest), max(V(C<V>::exp2_lowest), x));
  const V n = round(x);
  const V r = (x - n) * V(C<V>::ln2.high);
  return scale(V(1) + fma(r * r, polynomial(r, C<V>::exp), r), n);
}

// e^x - 1 = 2 (high + low), x within [expm1_lowest, expm1_highest].
template <class V>
TS_INLINE Pair<V> half_expm1(V x) {
  const V n = round(x * V(C<V>::log2e));
  const V exact = fma(n, V(-C<V>::ln2_cut.high), x);
  const V r = fma(n, V(-C<V>::ln2_cut.low), exact);
  const V r_low = fma(n, V(-C<V>::ln2_cut.low), exact - r);
  const V s = scale(V(typename V::Element(0.5)), n), base = s - V(typename V::Element(0.5));
  const V t = fma(s, r, base), t_low = fma(s, r, base - t);
  return {t, fma(s, fma(r * r, polynomial(r, C<V>::exp), r_low), t_low)};
}
// 1.1 / 1.1 ULP.
template <class V>
TS_INLINE V expm1(V x) {
  const V bounded = min(V(C<V>::expm1_highest), max(V(C<V>::expm1_lowest), x));
  const Pair<V> half = half_expm1(bounded);
  const V sum = half.high + half.low;
  return select(abs(x) < V(C<V>::epsilon), x, sum + sum);
}

// 1.0 / 1.0 ULP.
template <class V>
TS_INLINE V tanh(V x) {
  const V a = min(V(C<V>::tanh_highest), abs(x));
  const Pair<V> half = half_expm1(a + a), e = fast_two_sum(half.high, half.low);
  const Pair<V> d = fast_two_sum(V(1), e.high);  // near enough where e is above 1
  return copysign(divide(e, Pair<V>{d.high, d.low + e.low}), x);
}

// 1.7 / 1.6 ULP.
template <class V>
TS_INLINE V sinh(V x) {
  using T = typename V::Element;
  const V a = abs(x), z = a * a;
  const V small = fma(a * z, polynomial(z, C<V>::sinh), a);
  const Exponential<V> e = exponential(min(V(C<V>::exp_highest), a), V(T(0)));
  const V half = scale(e.high + e.low, e.n - V(T(1)));
  const V large = half - V(T(0.25)) / half;
  return copysign(select(a < V(T(1)), small, large), x);
}

// 1.5 / 1.5 ULP.
template <class V>
TS_INLINE V cosh(V x) {
  using T = typename V::Element;
  const Exponential<V> e = exponential(min(V(C<V>::exp_highest), abs(x)), V(T(0)));
  const V half = scale(e.high + e.low, e.n - V(T(1)));
  return half + V(T(0.25)) / half;
}

// --- logarithms -----------------------------------------------------------------------------------
// x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2, for positive finite x.
template <class V>
struct LogParts {
  V k, f;
};
template <class V>
TS_INLINE LogParts<V> log_parts(V x) {
  using T = typename V::Element;
  const auto low = x < V(C<V>::min_normal);
  x = select(low, x * V(C<V>::subnormal_scale), x);
  using Bits = decltype(bit_cast<IntOf<T>>(x));
  const Bits root = bit_cast<IntOf<T>>(V(T(0.70710678118654752)));
  const Bits offset = bit_cast<IntOf<T>>(x) - root;
  const Bits exponent = offset >> C<V>::mantissa_bits;
  const Bits mantissa = offset & Bits((IntOf<T>(1) << C<V>::mantissa_bits) - 1);
  const V k = bit_cast<T>(exponent + bit_cast<IntOf<T>>(V(C<V>::magic))) - V(C<V>::magic);
  return {k - select(low, V(C<V>::subnormal_shift), V(T(0))), bit_cast<T>(mantissa + root) - V(T(1))};
}
// log(1 + f) - f
template <class V>
TS_INLINE V log1p_rest(V f) {
  using T = typename V::Element;
  if constexpr (sizeof(T) == 4) {
    return f * f * polynomial(f, C<V>::log);
  } else {
    const V s = f / (V(T(2)) + f), z = s * s, square = V(T(0.5)) * f * f;
    return fma(s, fma(z, polynomial(z, C<V>::log), square), -square);
  }
}
// Where the argument is not a positive finite number.
template <class V>
TS_INLINE V log_edges(V x, V y) {
  using T = typename V::Element;
  const V edge = select(x == V(T(0)), V(-C<V>::infinity), V(C<V>::nan));
  return select(x > V(T(0)), select(x < V(C<V>::infinity), y, x), edge);
}
// k log(2) + f log_b(e) + rest log_b(e); `exponent` splits log_b(2) so that k * high is exact.
template <class V>
TS_INLINE V log_sum(LogParts<V> x, V rest, Split<typename V::Element> exponent,
                    Split<typename V::Element> unit) {
  const V f = x.f * V(unit.high), f_low = fma(x.f, V(unit.high), -f) + x.f * V(unit.low);
  const Pair<V> sum = fast_two_sum(x.k * V(exponent.high), f);
  return sum.high + (sum.low + fma(rest, V(unit.high), fma(x.k, V(exponent.low), f_low)));
}

// 0.9 / 0.9 ULP.
template <class V>
TS_INLINE V log(V x) {
  const LogParts<V> p = log_parts(x);
  const Pair<V> sum = fast_two_sum(p.k * V(C<V>::ln2_cut.high), p.f);
  return log_edges(x, sum.high + (sum.low + fma(p.k, V(C<V>::ln2_cut.low), log1p_rest(p.f))));
}
// 1.1 / 0.9 ULP.
template <class V>
TS_INLINE V log2(V x) {
  const LogParts<V> p = log_parts(x);
  return log_edges(x, log_sum(p, log1p_rest(p.f), {1, 0}, C<V>::log2_e));
}
// 1.0 / 0.9 ULP.
template <class V>
TS_INLINE V log10(V x) {
  const LogParts<V> p = log_parts(x);
  return log_edges(x, log_sum(p, log1p_rest(p.f), C<V>::log10_2_cut, C<V>::log10_e));
}

// log(1 + x): 1 + x is taken as the pair u + low, u = 2^k (1 + f), and low / 2^k joins f. 1.0 / 0.9 ULP.
template <class V>
TS_INLINE V log1p(V x) {
  using T = typename V::Element;
  const Pair<V> u = two_sum(V(T(1)), x);
  LogParts<V> p = log_parts(u.high);
  const Pair<V> f = two_sum(p.f, scale(u.low, -p.k));
  const Pair<V> sum = fast_two_sum(p.k * V(C<V>::ln2_cut.high), f.high);
  const V y = sum.high + (sum.low + fma(p.k, V(C<V>::ln2_cut.low), f.low + log1p_rest(f.high)));
  return select(abs(x) < V(C<V>::epsilon), x, log_edges(u.high, y));
}

// --- roots ---------------------------------------------------------------------------------------- 1.5
// / 1.5 ULP.
template <class V>
TS_INLINE V rsqrt(V x) {
  return V(1) / sqrt(x);
}

// sqrt(x^2 + y^2) without overflow: both are scaled by the power of two of the larger. 1.0 / 1.0 ULP.
template <class V>
TS_INLINE V hypot(V x, V y) {
  using T = typename V::Element;
  constexpr bool f32 = sizeof(T) == 4;
  constexpr T big = f32 ? T(0x1p60) : T(0x1p500), down = f32 ? T(0x1p-66) : T(0x1p-520);
  constexpr T up = f32 ? T(0x1p90) : T(0x1p600);
  const V a = max(abs(x), abs(y)), b = min(abs(x), abs(y));
  const auto high = a > V(big), low = a < V(1 / big);
  const V s = select(high, V(down), select(low, V(up), V(1)));
  const V back = select(high, V(1 / down), select(low, V(1 / up), V(1)));
  const V u = a * s, v = b * s;
  const Pair<V> u2 = two_product(u, u);
  const Pair<V> sum = fast_two_sum(u2.high, v * v);
  const V y0 = sqrt(sum.high + (sum.low + u2.low)) * back;
  const V infinity(C<V>::infinity);
  return select((abs(x) == infinity) | (abs(y) == infinity), infinity,
                select(x != x, x, select(y != y, y, y0)));
}

}  // namespace vmath
}  // namespace ts::TS_MATH

#include "math/area.h"
#include "math/power.h"
#include "math/special.h"
#include "math/trig.h"
