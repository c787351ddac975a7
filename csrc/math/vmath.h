// Elementary functions of a vector register: exponentials and logarithms here, trig.h, special.h and power.h
// beside it.
//
// V is a register type with an Element (float or double) and the vocabulary of cpu/simd.h: + - * /,
// comparisons, select, fma, min, max, round, scale (x 2^n), bit_cast, fma_exact; and that of cpu/lookup.h.
// One formula serves both precisions; what differs is the table in coefficients.h. Bits do not depend on the
// register's width. Each function states its largest error in units in the last place (ULP) as float / double
// over all inputs, subnormal and overflowing ones included. Without FMA (baseline) log2 and log10 reach 1.9.
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
// Of a magnitude >= 0, one instruction with AVX-512.
template <class V>
TS_INLINE V with_sign(V magnitude, V sign) {
  return magnitude ^ sign_bit(sign);
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

// x 2^n rounded once, |x| within [1/2, 2^20] or 0 and n above -2 bits of the mantissa below exponent_lowest,
// without the interrupt that Intel's processors take for 150 cycles where a product is subnormal or 0: such a
// number's bit pattern is the integer that adding 2^mantissa rounds it to.
template <class V>
TS_INLINE V scale_down(V x, V n) {
  using T = typename V::Element;
  constexpr bool f32 = sizeof(T) == 4;
  const V low(C<V>::exponent_lowest), zero(T(0));
  if (!any_at_least(low, n)) return scale(x, n);
  const V up = select(n > low, zero, V(f32 ? T(149) : T(1074))), whole(f32 ? T(0x1p23) : T(0x1p52));
  const V t = scale(x, n + up), a = abs(t);
  const auto subnormal = (up > zero) & (a < whole);
  const auto bits = bit_cast<IntOf<T>>(select(subnormal, a, zero) + whole) - bit_cast<IntOf<T>>(whole);
  return select(subnormal, copysign(bit_cast<T>(bits), x), scale(select(subnormal, whole, t), -up));
}

// --- exponentials ---------------------------------------------------------------------------------
// The nearest integer of x factor, which is small; rounded once, with two instructions.
template <class V>
TS_INLINE V round_product(V x, V factor) {
  return fma(x, factor, V(C<V>::magic)) - V(C<V>::magic);
}
// e^(x.high + x.low) = (high + low) 2^n with 0.7 < high < 1.42; x within exp's range.
template <class V>
struct Exponential {
  V high, low, n;
};
template <class V>
TS_INLINE Exponential<V> exponential(V x, V x_low) {
  const V n = round_product(x, V(C<V>::log2e));
  V r = fma(n, V(-C<V>::ln2_cut.high), x);  // exact
  r = fma(n, V(-C<V>::ln2_cut.low), r) + x_low;
  const V e = fma(r * r, polynomial(r, C<V>::exp), r);
  const V one(1);
  const V high = one + e;
  return {high, (one - high) + e, n};
}

// 1.0 / 1.0 ULP. Where the result is 0, e^0 is computed and dropped: an underflow interrupts Intel's
// processors for 150 cycles, and a masked score asks for e^-inf.
template <class V>
TS_INLINE V exp(V x) {
  const V zero(typename V::Element(0));
  const auto none = x < V(C<V>::exp_lowest);
  x = min(V(C<V>::exp_highest), select(none, zero, x));
  const V n = round_product(x, V(C<V>::log2e));
  V r = fma(n, V(-C<V>::ln2_cut.high), x);
  r = fma(n, V(-C<V>::ln2_cut.low), r);
  return select(none, zero, scale(fma(fma(polynomial(r, C<V>::exp), r, V(1)), r, V(1)), n));
}

// 2^(n + f), n whole and |f| <= 1/2.
template <class V>
TS_INLINE V exp2_sum(V n, V f) {
  if constexpr (sizeof(typename V::Element) == 4) {
    return scale(fma(f, polynomial(f, C<V>::exp2), V(1)), n);
  } else {
    const V r = f * V(C<V>::ln2.high);
    return scale(fma(fma(polynomial(r, C<V>::exp), r, V(1)), r, V(1)), n);
  }
}
// 1.0 / 1.1 ULP.
template <class V>
TS_INLINE V exp2(V x) {
  const V zero(typename V::Element(0));
  const auto none = x < V(C<V>::exp2_lowest);
  x = min(V(C<V>::exp2_highest), select(none, zero, x));
  const V n = (x + V(C<V>::magic)) - V(C<V>::magic);
  return select(none, zero, exp2_sum(n, x - n));
}

// 2^n (e^r - 1) + (2^n - 1), halved on the way so that 2^n does not overflow. 1.5 / 1.5 ULP.
template <class V>
TS_INLINE V expm1(V x) {
  const V half(typename V::Element(0.5));
  const V bounded = min(V(C<V>::expm1_highest), max(V(C<V>::expm1_lowest), x));
  const V n = round_product(bounded, V(C<V>::log2e));
  const V exact = fma(n, V(-C<V>::ln2_cut.high), bounded);
  const V r = fma(n, V(-C<V>::ln2_cut.low), exact);
  const V r_low = fma(n, V(-C<V>::ln2_cut.low), exact - r);
  const V e = r + fma(r * r, polynomial(r, C<V>::exp), r_low), s = scale(half, n);
  const V y = fma(s, e, s - half);
  return select(abs(x) < V(C<V>::epsilon), x, y + y);
}

// Of floats: |x| = n log 2 + r with -0.25 < r <= 0.46, and with t = 2^(-2n-1)
//   sinh |x| = 2^n ((1/2 - t) cosh r + (1/2 + t) sinh r), cosh x the same with the factors swapped.
// No division, and below 0.45, where n = 0, it is sinh r, cosh r alone.
template <class V>
struct Hyperbolic {
  V even, odd;      // cosh r - 1, sinh r
  V less, more, n;  // 1/2 - t, 1/2 + t
};
template <class V>
TS_INLINE Hyperbolic<V> hyperbolic(V x) {
  const V a = min(V(C<V>::exp_highest), abs(x)), half(0.5f);
  const V n = (fma(a, V(C<V>::log2e), V(-0.15f)) + V(C<V>::magic)) - V(C<V>::magic);
  V r = fma(n, V(-C<V>::ln2_cut.high), a);
  r = fma(n, V(-C<V>::ln2_cut.low), r);
  const V z = r * r, t = scale(half, max(V(-60.0f), -(n + n)));  // below that it does not count
  return {z * fma(z, polynomial(z, C<V>::cosh), half), fma(r * z, polynomial(z, C<V>::sinh), r), half - t,
          half + t, n};
}

// 1.5 / 1.6 ULP.
template <class V>
TS_INLINE V sinh(V x) {
  using T = typename V::Element;
  if constexpr (sizeof(T) == 4) {
    const Hyperbolic<V> h = hyperbolic(x);
    return copysign(scale(h.less + fma(h.less, h.even, h.more * h.odd), h.n), x);
  } else {
    const V a = abs(x), z = a * a;
    const V small = fma(a * z, polynomial(z, C<V>::sinh), a);
    const Exponential<V> e = exponential(min(V(C<V>::exp_highest), a), V(T(0)));
    const V half = scale(e.high + e.low, e.n - V(T(1)));
    const V large = half - V(T(0.25)) / half;
    return copysign(select(a < V(T(1)), small, large), x);
  }
}

// 1.8 / 1.5 ULP.
template <class V>
TS_INLINE V cosh(V x) {
  using T = typename V::Element;
  if constexpr (sizeof(T) == 4) {
    const Hyperbolic<V> h = hyperbolic(x);
    return scale(h.more + fma(h.more, h.even, h.less * h.odd), h.n);
  } else {
    const Exponential<V> e = exponential(min(V(C<V>::exp_highest), abs(x)), V(T(0)));
    const V half = scale(e.high + e.low, e.n - V(T(1)));
    return half + V(T(0.25)) / half;
  }
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
// log(1 + f) - f, of doubles
template <class V>
TS_INLINE V log1p_rest(V f) {
  using T = typename V::Element;
  const V s = f / (V(T(2)) + f), z = s * s, square = V(T(0.5)) * f * f;
  return fma(s, fma(z, polynomial(z, C<V>::log_quotient), square), -square);
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

// x = 2^k m, m within [0.75, 1.5), and m = (1 + r) / c with one of 16 reciprocals c, so that
// log x = k log 2 + l + log(1 + r) with l = -log c and |r| <= 1/16. Around 1, c is 1 and l is 0: nothing
// cancels. The other c are chosen among all numbers nearby so that l is a float to 2^-40, a double to 2^-65
// (natural) or 2^-70 (binary).
template <class V>
struct LogSplit {
  V k, l, m, c, r;
};
template <class V>
TS_INLINE LogSplit<V> log_split(V x, const typename V::Element (&reciprocals)[16],
                                const typename V::Element (&logarithms)[16]) {
  const auto scaled = exponent_mantissa(x);
  const auto index = bit_cast<typename C<V>::Bits>(scaled.m) >> (C<V>::mantissa_bits - 4);
  const V c = lookup(reciprocals, index);
  return {scaled.k, lookup(logarithms, index), scaled.m, c, fma_exact(scaled.m, c, V(-1))};
}
// c and l for the natural logarithm.
template <class V>
TS_INLINE LogSplit<V> natural_split(V x) {
  if constexpr (sizeof(typename V::Element) == 4) {
    static constexpr float kReciprocals[16] = {1.0f,         0.913425744f, 0.866331398f, 0.818432331f,
                                               0.783058465f, 0.74706769f,  0.71426338f,  0.682568729f,
                                               1.30999827f,  1.24883354f,  1.21276224f,  1.17036951f,
                                               1.12982428f,  1.08042181f,  1.04429162f,  1.0f};
    static constexpr float kLogarithms[16] = {0.0f,          0.0905531943f,  0.143487766f,   0.20036456f,
                                              0.244547918f,  0.291599482f,   0.336503506f,   0.381892055f,
                                              -0.27002582f,  -0.222209945f,  -0.192900598f,  -0.157319516f,
                                              -0.122062117f, -0.0773515254f, -0.0433387756f, 0.0f};
    return log_split(x, kReciprocals, kLogarithms);
  } else {
    static constexpr double kReciprocals[16] = {1.0,
                                                0.914284379803777,
                                                0.8648125277032502,
                                                0.8205130002362362,
                                                0.7804939180156208,
                                                0.7442341698719933,
                                                0.7110903093488845,
                                                0.680908981114924,
                                                1.3060396382071107,
                                                1.2548002009666683,
                                                1.2075781602896827,
                                                1.1635935412372078,
                                                1.1227997260632592,
                                                1.0846539971048637,
                                                1.0491677759912597,
                                                1.0};
    static constexpr double kLogarithms[16] = {0.0,
                                               0.08961361828037127,
                                               0.1452425265187118,
                                               0.197825524292031,
                                               0.24782833147774058,
                                               0.29539954921908534,
                                               0.34095583987658645,
                                               0.38432663651569543,
                                               -0.26699938124137274,
                                               -0.2269763574926999,
                                               -0.18861683346812894,
                                               -0.15151309695077142,
                                               -0.11582532152912596,
                                               -0.08126103945651972,
                                               -0.04799725560646663,
                                               0.0};
    return log_split(x, kReciprocals, kLogarithms);
  }
}
template <class V>
TS_INLINE V natural_sum(LogSplit<V> p) {
  const V rest = fma(p.r * p.r, polynomial(p.r, C<V>::log), p.r);
  return fma(p.k, V(C<V>::ln2_cut.high), p.l + fma(p.k, V(C<V>::ln2_cut.low), rest));
}
template <class V>
TS_INLINE LogSplit<V> binary_split(V x) {
  if constexpr (sizeof(typename V::Element) == 4) {
    static constexpr float kReciprocals[16] = {1.0f,         0.911690533f, 0.865880549f, 0.822707415f,
                                               0.778046608f, 0.747634411f, 0.711926758f, 0.678074002f,
                                               1.30189967f,  1.2537452f,   1.20479631f,  1.166453f,
                                               1.11740148f,  1.08470762f,  1.05088079f,  1.0f};
    static constexpr float kLogarithms[16] = {0.0f,          0.1333839f,    0.207760081f,   0.281548649f,
                                              0.362071514f,  0.419595122f,  0.490199268f,   0.560485363f,
                                              -0.380618274f, -0.326244175f, -0.268789262f,  -0.222128183f,
                                              -0.160147637f, -0.117306218f, -0.0715990216f, 0.0f};
    return log_split(x, kReciprocals, kLogarithms);
  } else {
    static constexpr double kReciprocals[16] = {1.0,
                                                0.9142620355241331,
                                                0.8649482199014265,
                                                0.8205418673229583,
                                                0.7804638877551339,
                                                0.7442161305523077,
                                                0.7111528931478213,
                                                0.6807840878746887,
                                                1.3060585502665556,
                                                1.254836526542726,
                                                1.207656173534986,
                                                1.1636169405923045,
                                                1.1228279321393086,
                                                1.0846497184866073,
                                                1.049182528445585,
                                                1.0};
    static constexpr double kLogarithms[16] = {0.0,
                                               0.12932038127621023,
                                               0.2093143264471646,
                                               0.2853511472078368,
                                               0.3575962149735831,
                                               0.426206434314002,
                                               0.49176833184572966,
                                               0.5547307779171832,
                                               -0.3852195739791263,
                                               -0.32749942974767665,
                                               -0.27220976977762934,
                                               -0.21861620527258274,
                                               -0.16713685875433326,
                                               -0.1172292076528194,
                                               -0.06926568837815099,
                                               0.0};
    return log_split(x, kReciprocals, kLogarithms);
  }
}
template <class V>
TS_INLINE LogSplit<V> decimal_split(V x) {
  static constexpr float kReciprocals[16] = {1.0f,         0.91360122f,  0.867551029f, 0.817122638f,
                                             0.782639921f, 0.743362784f, 0.713778615f, 0.677501321f,
                                             1.31250715f,  1.2613523f,   1.21069443f,  1.16525137f,
                                             1.12435496f,  1.0872767f,   1.0471164f,   1.0f};
  static constexpr float kLogarithms[16] = {0.0f,           0.0392433293f,  0.0617049709f,  0.0877127573f,
                                            0.106438003f,   0.128799185f,   0.146436468f,   0.169089854f,
                                            -0.118101679f,  -0.100836404f,  -0.0830345452f, -0.0664196238f,
                                            -0.0509034395f, -0.0363400802f, -0.0199949611f, 0.0f};
  return log_split(x, kReciprocals, kLogarithms);
}

// 1.1 / 1.0 ULP.
template <class V>
TS_INLINE V log(V x) {
  const V y = natural_sum(natural_split(x));
  return positive_finite(x) ? y : log_edges(x, y);
}
// 1.1 / 0.9 ULP.
template <class V>
TS_INLINE V log2(V x) {
  if constexpr (sizeof(typename V::Element) == 4) {
    const LogSplit<V> p = binary_split(x);
    const V small = p.r * fma(p.r, polynomial(p.r, C<V>::log2), V(C<V>::log2_e.low));
    const V y = p.k + (p.l + fma(p.r, V(C<V>::log2_e.high), small));
    return positive_finite(x) ? y : log_edges(x, y);
  } else {
    const LogParts<V> p = log_parts(x);
    return log_edges(x, log_sum(p, log1p_rest(p.f), {1, 0}, C<V>::log2_e));
  }
}
// 1.1 / 0.9 ULP.
template <class V>
TS_INLINE V log10(V x) {
  if constexpr (sizeof(typename V::Element) == 4) {
    const LogSplit<V> p = decimal_split(x);
    const V small = p.r * fma(p.r, polynomial(p.r, C<V>::log10), V(C<V>::log10_e.low));
    const V rest = fma(p.r, V(C<V>::log10_e.high), small);
    const V y = fma(p.k, V(C<V>::log10_2_cut.high), p.l + fma(p.k, V(C<V>::log10_2_cut.low), rest));
    return positive_finite(x) ? y : log_edges(x, y);
  } else {
    const LogParts<V> p = log_parts(x);
    return log_edges(x, log_sum(p, log1p_rest(p.f), C<V>::log10_2_cut, C<V>::log10_e));
  }
}

// log(1 + x + more), `more` being far below x: 1 + x is taken as the pair u + low, u = 2^k (1 + f), and low /
// 2^k joins f. 1.1 / 0.9 ULP.
template <class V, class... More>
TS_INLINE V log1p(V x, More... more) {
  using T = typename V::Element;
  Pair<V> u = two_sum(V(T(1)), x);
  u.low = (u.low + ... + more);
  if constexpr (sizeof(T) == 4) {
    LogSplit<V> p = natural_split(u.high);
    p.r = fma(scale(u.low, -p.k), p.c, p.r);
    const V y = select(abs(x) < V(C<V>::epsilon), x, natural_sum(p));
    return positive_finite(u.high) ? y : log_edges(u.high, y);
  } else {
    LogParts<V> p = log_parts(u.high);
    const Pair<V> f = two_sum(p.f, scale(u.low, -p.k));
    const Pair<V> sum = fast_two_sum(p.k * V(C<V>::ln2_cut.high), f.high);
    const V y = sum.high + (sum.low + fma(p.k, V(C<V>::ln2_cut.low), f.low + log1p_rest(f.high)));
    return select(abs(x) < V(C<V>::epsilon), x, log_edges(u.high, y));
  }
}

// --- roots ----------------------------------------------------------------------------------------
// 1.5 / 1.5 ULP.
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
#include "math/segments.h"
#include "math/special.h"
#include "math/trig.h"
