// The logistic and normal distribution functions and the activations made of them; see vmath.h.
#pragma once

#include "math/decay.h"

namespace ts::TS_MATH {
namespace vmath {

// e^x - 1 = 2 (high + low), x within [expm1_lowest, expm1_highest].
template <class V>
TS_INLINE Pair<V> half_expm1(V x) {
  const V n = round_product(x, V(C<V>::log2e));
  const V exact = fma(n, V(-C<V>::ln2_cut.high), x);
  const V r = fma(n, V(-C<V>::ln2_cut.low), exact);
  const V r_low = fma(n, V(-C<V>::ln2_cut.low), exact - r);
  const V s = scale(V(typename V::Element(0.5)), n), base = s - V(typename V::Element(0.5));
  const V t = fma(s, r, base), t_low = fma(s, r, base - t);
  return {t, fma(s, fma(r * r, polynomial(r, C<V>::exp), r_low), t_low)};
}

// 1 / (1 + e^-w) for w = w.high + w.low. With e^-w = p 2^n it is 2^-n / (2^-n + p), and the factor 2^-n comes
// last: the result is 0 or subnormal only where it should be.
template <class V>
struct Logistic {
  Pair<V> d;  // 2^-n + p
  V n, p;
};
template <class V>
TS_INLINE Logistic<V> logistic_parts(V w, V w_low) {
  using T = typename V::Element;
  const V one(T(1)), bound(C<V>::logistic_bound);
  const V x = min(V(-C<V>::exp_lowest + T(12)), max(-bound, -w));
  const V n = round_product(x, V(C<V>::log2e));
  V r = fma(n, V(-C<V>::ln2_cut.high), x);
  r = fma(n, V(-C<V>::ln2_cut.low), r) - w_low;
  const V e = fma(r * r, polynomial(r, C<V>::exp), r);  // p - 1, less than 1
  const V s = pow2_beside_one(-n), t = one + s, rest = e + ((one - t) + s), d = t + rest;
  return {{d, (t - d) + rest}, n, one + e};
}
// factor / (1 + e^-w)
template <class V>
TS_INLINE V logistic(V factor, Pair<V> w) {
  const Logistic<V> l = logistic_parts(w.high, w.low);
  return scale_down(divide(Pair<V>{factor, V(typename V::Element(0))}, l.d), -l.n);
}
// The same without the second words.
template <class V>
TS_INLINE V short_logistic(V factor, V w) {
  const Logistic<V> l = logistic_parts(w, V(typename V::Element(0)));
  return scale_down(factor / l.d.high, -l.n);
}

// 1 / (1 + e^-w) and 1 / (1 + e^w), the second wrong by at most e^-logistic_bound; for slopes.
template <class V>
struct LogisticPair {
  V s, rest;
};
template <class V>
TS_INLINE LogisticPair<V> logistic_pair(V w, V w_low) {
  const Logistic<V> l = logistic_parts(w, w_low);
  const V q = V(typename V::Element(1)) / l.d.high;
  return {scale(q, -l.n), l.p * q};
}

// 1.1 / 1.0 ULP.
template <class V>
TS_INLINE V tanh(V x) {
  if constexpr (sizeof(typename V::Element) == 4) {
    return tanh_by_segments(x);
  } else {  // E / (E + 2), E = expm1 2x
    const V a = min(V(C<V>::tanh_highest), abs(x));
    const Pair<V> half = half_expm1(a + a), e = fast_two_sum(half.high, half.low);
    const Pair<V> d = fast_two_sum(V(1), e.high);  // near enough where e is above 1
    return copysign(divide(e, Pair<V>{d.high, d.low + e.low}), x);
  }
}

// What follows has two ways: for floats below the end of a table (decay.h) that, else exponentials. The
// second is out of line for floats: the registers of the usual case are not spilled for the rare one.
template <class V>
constexpr bool has_tables = sizeof(typename V::Element) == 4;
template <class Formula, class V>
TS_OUTLINE V far_out(V x) {
  return Formula::apply(x);
}
// near, but from the table's end on the formula of x. NaN is near's, whatever lies beside it. Of two
// registers side by side usually one has lanes beyond.
template <class Table, class Formula, class V>
TS_INLINE V or_far_out(V near, V a, V x) {
  const V end(Table::end);
  if (!any_at_least(a, end)) [[likely]]
    return near;
  if constexpr (requires { x.low; }) {
    if (!any_at_least(a.low, end.low))
      return {near.low, select(a.high >= end.high, far_out<Formula>(x.high), near.high)};
    if (!any_at_least(a.high, end.high))
      return {select(a.low >= end.low, far_out<Formula>(x.low), near.low), near.high};
  }
  return select(a >= end, far_out<Formula>(x), near);
}

// Of a function whose values at x and at -x add up to 1, from the table of those below 0.
template <class Table, class Formula, class V>
TS_INLINE V halves(V x) {
  if constexpr (has_tables<V>) {
    const V a = abs(x), below = Table::apply(a);
    return or_far_out<Table, Formula>(select(x < V(0), below, V(1) - below), a, x);
  } else {
    return Formula::apply(x);
  }
}
// max(x, 0) less an even function.
template <class Table, class Formula, class V>
TS_INLINE V short_of_ramp(V x) {
  if constexpr (has_tables<V>) {
    const V a = abs(x);
    return or_far_out<Table, Formula>(max(V(0), x) - Table::apply(a), a,
                                      x);  // max: the second 0, for its sign
  } else {
    return Formula::apply(x);
  }
}

struct LongSigmoid {
  template <class V>
  TS_INLINE static V apply(V x) {
    return short_logistic(V(1), x);
  }
};
// 1.7 / 1.7 ULP.
template <class V>
TS_INLINE V sigmoid(V x) {
  return halves<SigmoidTable, LongSigmoid>(x);
}

struct LongSilu {
  template <class V>
  TS_INLINE static V apply(V x) {
    const V bounded = max(V(C<V>::exp_lowest - 5), x);  // -inf times 0 would be NaN
    return short_logistic(bounded, bounded);
  }
};
// x sigmoid(x): 1.7 / 1.7 ULP.
template <class V>
TS_INLINE V silu(V x) {
  return short_of_ramp<SiluTable, LongSilu>(x);
}

struct LongSoftplus {
  template <class V>
  TS_INLINE static V apply(V x) {
    using T = typename V::Element;
    const V zero(T(0)),
        lowest = select(x > zero, V(T(-60)), V(C<V>::exp_lowest));  // beside x that is nothing
    const Exponential<V> e = exponential(max(lowest, -abs(x)), zero);
    return max(zero, x) + log1p(scale_down(e.high, e.n), scale(e.low, max(V(T(-90)), e.n)));
  }
};
// log(1 + e^x) = max(x, 0) + log1p(e^-|x|): 1.6 / 1.5 ULP.
template <class V>
TS_INLINE V softplus(V x) {
  if constexpr (has_tables<V>) {
    const V a = abs(x);
    return or_far_out<SoftplusTable, LongSoftplus>(max(V(0), x) + SoftplusTable::apply(a), a, x);
  } else {
    return LongSoftplus::apply(x);
  }
}
struct LongLogSigmoid {
  template <class V>
  TS_INLINE static V apply(V x) {
    return -LongSoftplus::apply(-x);
  }
};
// -softplus(-x): 1.6 / 1.5 ULP.
template <class V>
TS_INLINE V log_sigmoid(V x) {
  if constexpr (has_tables<V>) {
    const V a = abs(x);
    return or_far_out<SoftplusTable, LongLogSigmoid>(min(V(0), x) - SoftplusTable::apply(a), a, x);
  } else {
    return LongLogSigmoid::apply(x);
  }
}
// -t log sigmoid(x) - (1 - t) log sigmoid(-x) = softplus(x) - x t, which cancels where x and t agree: so
// |x| times how far t is from the class of x's sign, and log1p(e^-|x|). Relative to the result it is right to
// some units for t in [0, 1]; an infinite x that t agrees with costs nothing.
template <class V>
TS_INLINE V bce_with_logits(V x, V t) {
  const V zero(typename V::Element(0)), a = abs(x), amiss = select(x > zero, V(1) - t, t);
  const V rest = softplus(-a);
  return select(amiss == zero, rest, fma(a, amiss, rest));
}
// sigmoid(x) - t, from the side of 1/2 on which sigmoid is exact.
template <class V>
TS_INLINE V bce_with_logits_slope(V x, V t) {
  const V rest = sigmoid(-abs(x));
  return select(x > V(0), (V(1) - t) - rest, rest - t);
}
// The same where the two classes weigh a and b: a softplus(x) + b softplus(-x), and a sigmoid(x) - b
// sigmoid(-x).
template <class V>
TS_INLINE V weighted_bce_with_logits(V x, V a, V b) {
  const V zero(typename V::Element(0)), size = abs(x), amiss = select(x > zero, a, b);
  const V rest = (a + b) * softplus(-size);
  return select(amiss == zero, rest, fma(size, amiss, rest));
}
template <class V>
TS_INLINE V weighted_bce_with_logits_slope(V x, V a, V b) {
  const V rest = (a + b) * sigmoid(-abs(x));
  return select(x > V(0), a - rest, rest - b);
}
// x tanh(log(1 + e^x)) = x w / (w + 2) with w = e^x (e^x + 2) in two words; far below 0 it is x e^x, scaled
// last, because e^x alone is subnormal too soon.
struct LongMish {
  template <class V>
  TS_INLINE static V apply(V x) {
    using T = typename V::Element;
    const V zero(T(0)), two(T(2)), bounded = min(V(T(20)), max(V(C<V>::exp_lowest - 5), x));
    const Exponential<V> e = exponential(bounded, zero);
    const V n = max(V(T(-60)), e.n), high = scale(e.high, n), low = scale(e.low, n);
    Pair<V> sum = two_sum(high, two);
    sum.low = sum.low + low;
    Pair<V> w = two_product(high, sum.high);
    w.low = w.low + fma(high, sum.low, low * sum.high);
    Pair<V> d = two_sum(w.high, two);
    d.low = d.low + w.low;
    const auto far = x < V(T(sizeof(T) == 4 ? -20 : -40));  // where e^x / 2 is below the last place
    const V q = select(far, e.high + e.low, divide(w, d));
    return select(x > bounded, x, scale_down(bounded * q, select(far, e.n, zero)));
  }
};
// 1.6 / 1.6 ULP.
template <class V>
TS_INLINE V mish(V x) {
  if constexpr (has_tables<V>)
    return or_far_out<MishTable, LongMish>(x * MishTable::apply(x), abs(x), x);
  else
    return LongMish::apply(x);
}
struct LongLog1pExp {
  template <class V>
  TS_INLINE static V apply(V d) {
    return log1p(exp(-d));
  }
};
// log(e^a + e^b): 1.5 / 1.5 ULP where the result is not near 0, which cancels.
template <class V>
TS_INLINE V logaddexp(V a, V b) {
  using T = typename V::Element;
  const V d = select(a == b, V(T(0)), abs(a - b));  // equal infinities would give NaN
  const V larger = select(a != a, a, max(a, b));
  if constexpr (has_tables<V>)
    return larger + or_far_out<SoftplusTable, LongLog1pExp>(SoftplusTable::apply(d), d, d);
  else
    return larger + LongLog1pExp::apply(d);
}

// The normal distribution: P(N > x) = tail 2^n for x >= 0, both factors as pairs; x_low carries x^2's
// rounding.
template <class V>
struct Tail {
  Exponential<V> e;  // e^(-x^2/2)
  Pair<V> mills;     // P(N > x) e^(x^2/2)
};
template <class V>
TS_INLINE Tail<V> normal_tail(V x) {
  using T = typename V::Element;
  const V half(T(0.5)), four(T(4)), one(T(1));
  const Pair<V> square = two_product(x, x);
  const V d = x + four, v = one / d;
  const V v_low = v * (fma_exact(-v, d, one) - v * ((four - d) + x));
  // u = (x - 4) v = 1 - 8 v; its low part enters through the polynomial's slope, of which three bits are
  // enough
  const V t = V(T(8)) * v, u = one - t, u_low = (one - (u + t)) - V(T(8)) * v_low;
  const V slope = fma(fma(fma(V(T(0.24)), u, V(T(-0.56))), u, V(T(0.774))), u, V(T(-0.608)));
  const Pair<V> p = two_product(u, polynomial(u, C<V>::tail));
  const Pair<V> sum = two_sum(V(C<V>::tail_0.high), p.high);
  const V sum_low = sum.low + (fma(u_low, slope, p.low) + V(C<V>::tail_0.low));
  Pair<V> mills = two_product(v, sum.high);
  mills.low = mills.low + fma(v_low, sum.high, v * sum_low);
  return {exponential(-half * square.high, -half * square.low), mills};
}

// 1.1 / 1.3 ULP.
template <class V>
TS_INLINE V erf(V x) {
  using T = typename V::Element;
  if constexpr (sizeof(T) == 4) return erf_by_segments(x);
  const V a = abs(x), one(T(1)), z = a * a;
  const V small = fma(a, polynomial(z, C<V>::erf), a);
  if (!any_at_least(a, one)) return copysign(small, x);
  // 1 - 2 P(N > a sqrt 2), of which the second term is at most 0.16: its last places do not matter, so that
  // one word does where normal_tail takes two.
  const V b = min(V(T(6)), a), y = b * V(T(1.41421356237309505));
  const V v = one / (y + V(T(4))), u = fma(V(T(-8)), v, one);
  const V mills = fma(u, polynomial(u, C<V>::tail), V(C<V>::tail_0.high)) * v;
  const V w = -(b * b), n = round_product(w, V(C<V>::log2e));
  V r = fma(n, V(-C<V>::ln2_cut.high), w);
  r = fma(n, V(-C<V>::ln2_cut.low), r);
  const V e = fma(r * r, polynomial(r, C<V>::exp), r);
  const V large = one - scale(fma(e, mills, mills), n + one);
  return copysign(select(a < one, small, large), x);
}

// Of floats a >= 4.4: a P(N > a) = density e^(-a^2/2).
template <class V>
struct FarTail {
  V inverse_square, density;
  Exponential<V> e;
};
template <class V>
TS_INLINE FarTail<V> far_tail(V a) {
  const Pair<V> square = two_product(a, a);
  const V half(-0.5f), z = V(1) / square.high;
  return {z, fma(polynomial(z, C<V>::far_tail), z, V(C<V>::far_tail_0)),
          exponential(half * square.high, fma(half, square.low, V(C<V>::far_tail_log)))};
}
struct FarGelu {
  template <class V>
  TS_INLINE static V apply(V x) {
    const FarTail<V> t = far_tail(min(V(14.75f), abs(x)));  // 0 beyond
    const V tail = fma(t.density, t.e.high, t.density * t.e.low);
    return copysign(max(V(0), x) - scale_down(tail, t.e.n), x);
  }
};
// x P(N < x): 1.6 / 1.8 ULP.
template <class V>
TS_INLINE V gelu(V x) {
  using T = typename V::Element;
  if constexpr (has_tables<V>) {
    return short_of_ramp<GeluTable, FarGelu>(x);
  } else {
    const V zero(T(0));
    const auto negative = x < zero;
    const V bounded = min(V(C<V>::tail_highest), max(V(-C<V>::tail_highest), x));
    const Tail<V> tail = normal_tail(abs(bounded));
    Pair<V> p = two_product(tail.e.high, tail.mills.high);
    p.low = p.low + fma(tail.e.high, tail.mills.low, tail.e.low * tail.mills.high);
    Pair<V> xp = two_product(bounded, p.high);
    xp.low = fma(bounded, p.low, xp.low);
    const V below = scale(xp.high + xp.low, tail.e.n);
    const Pair<V> rest = fast_two_sum(V(T(1)), -scale(p.high, tail.e.n));
    const V above = fma_exact(bounded, rest.high, bounded * (rest.low - scale(p.low, tail.e.n)));
    return select(x > bounded, x, copysign(select(negative, below, above), x));
  }
}

// The tanh approximation: x sigmoid(w), w = 2 sqrt(2/pi) (x + 0.044715 x^3) in two words.
template <class V>
TS_INLINE Pair<V> gelu_tanh_argument(V x) {
  const Pair<V> square = two_product(x, x);
  const Pair<V> cubic = two_product(square.high, V(C<V>::gelu_cubic.high));
  const V cubic_low =
      fma(square.low, V(C<V>::gelu_cubic.high), fma(square.high, V(C<V>::gelu_cubic.low), cubic.low));
  Pair<V> slope = two_sum(V(C<V>::gelu_linear.high), cubic.high);
  slope.low = slope.low + (cubic_low + V(C<V>::gelu_linear.low));
  Pair<V> w = two_product(x, slope.high);
  w.low = fma(x, slope.low, w.low);
  return fast_two_sum(w.high, w.low);
}
struct LongGeluTanh {
  template <class V>
  TS_INLINE static V apply(V x) {
    using T = typename V::Element;
    const V bounded = min(V(C<V>::tail_highest), max(V(T(-C<V>::tail_highest)), x));
    return select(x > bounded, x, copysign(logistic(bounded, gelu_tanh_argument(bounded)), x));
  }
};
// Of floats |x| >= 4: e^-w is so small that 1 / (1 + e^-w) is 1 - e^-w.
struct FarGeluTanh {
  template <class V>
  TS_INLINE static V apply(V x) {
    const V a = min(V(11), abs(x));  // 0 beyond
    const Pair<V> w = gelu_tanh_argument(a);
    const Exponential<V> e = exponential(-w.high, -w.low);
    const V low = fma(-scale(e.high, max(V(-90), e.n)), e.high, e.low);
    return copysign(max(V(0), x) - scale_down(fma(a, e.high, a * low), e.n), x);
  }
};
// 1.7 / 1.3 ULP.
template <class V>
TS_INLINE V gelu_tanh(V x) {
  if constexpr (has_tables<V>)
    return short_of_ramp<GeluTanhTable, FarGeluTanh>(x);
  else
    return LongGeluTanh::apply(x);
}

// --- slopes: no ULP bound where they cross zero, a few ULP of the largest term elsewhere ----------
struct LongSiluSlope {
  template <class V>
  TS_INLINE static V apply(V x) {
    const V bounded = min(V(-C<V>::exp_lowest), max(V(C<V>::exp_lowest), x)), one(1);
    const LogisticPair<V> l = logistic_pair(bounded, V(0));
    return l.s * fma(bounded, l.rest, one);
  }
};
template <class V>
TS_INLINE V silu_slope(V x) {
  return halves<SiluSlopeTable, LongSiluSlope>(x);
}
struct LongMishSlope {
  template <class V>
  TS_INLINE static V apply(V x) {
    using T = typename V::Element;
    const V two(T(2)), bounded = min(V(T(20)), max(V(C<V>::exp_lowest), x)), e = exp(bounded);
    const V w = e * (e + two), d = w + two;  // tanh = w / d, 1 - tanh^2 = 4 (1 + w) / d^2
    const V rest = (V(T(4)) / d) * ((w + V(T(1))) / d);
    return fma(bounded * LongSigmoid::apply(bounded), rest, w / d);
  }
};
template <class V>
TS_INLINE V mish_slope(V x) {
  if constexpr (has_tables<V>)
    return or_far_out<MishSlopeTable, LongMishSlope>(MishSlopeTable::apply(x), abs(x), x);
  else
    return LongMishSlope::apply(x);
}
struct LongGeluSlope {
  template <class V>
  TS_INLINE static V apply(V x) {
    using T = typename V::Element;
    const V a = min(V(C<V>::tail_highest), abs(x)), one(1);
    const Tail<V> tail = normal_tail(a);
    const V e = scale(tail.e.high + tail.e.low, tail.e.n);
    const V p = e * (tail.mills.high + tail.mills.low), density = e * V(T(0.39894228040143265));
    return fma(copysign(a, x), density, select(x < V(0), p, one - p));
  }
};
// -a (density - P(N > a) / a) at -a.
struct FarGeluSlope {
  template <class V>
  TS_INLINE static V apply(V x) {
    const V a = min(V(14.75f), abs(x)), one(1);  // 0 beyond
    const FarTail<V> t = far_tail(a);
    const V rest = fma(t.density, t.inverse_square, V(-C<V>::far_tail_0));
    const V below = scale_down(a * (t.e.high + t.e.low) * rest, t.e.n);
    return select(x < V(0), below, one - below);
  }
};
template <class V>
TS_INLINE V gelu_slope(V x) {
  if constexpr (has_tables<V>)
    return halves<GeluSlopeTable, FarGeluSlope>(x);
  else
    return LongGeluSlope::apply(x);
}
struct LongGeluTanhSlope {
  template <class V>
  TS_INLINE static V apply(V x) {
    using T = typename V::Element;
    const V bounded = min(V(C<V>::tail_highest), max(V(T(-C<V>::tail_highest)), x)), one(1);
    const Pair<V> w = gelu_tanh_argument(bounded);
    const LogisticPair<V> l = logistic_pair(w.high, w.low);
    const V dw = fma(bounded * bounded, V(3 * C<V>::gelu_cubic.high), V(C<V>::gelu_linear.high));
    return l.s * fma(bounded * l.rest, dw, one);
  }
};
// The slope at -a, q = e^-w: q (1 - q) (1 - (1 - q) a w').
struct FarGeluTanhSlope {
  template <class V>
  TS_INLINE static V apply(V x) {
    const V a = min(V(11), abs(x)), one(1);
    const Pair<V> w = gelu_tanh_argument(a);
    const Exponential<V> e = exponential(-w.high, -w.low);
    const V rest = one - scale(e.high, max(V(-90), e.n));
    const V dw = fma(a * a, V(3 * C<V>::gelu_cubic.high), V(C<V>::gelu_linear.high));
    const V below = scale_down((e.high + e.low) * rest * fma(-a * rest, dw, one), e.n);
    return select(x < V(0), below, one - below);
  }
};
template <class V>
TS_INLINE V gelu_tanh_slope(V x) {
  if constexpr (has_tables<V>)
    return halves<GeluTanhSlopeTable, FarGeluTanhSlope>(x);
  else
    return LongGeluTanhSlope::apply(x);
}

}  // namespace vmath
}  // namespace ts::TS_MATH
