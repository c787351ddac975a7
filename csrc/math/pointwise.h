// The pointwise operations: one formula each, for a register of any element type in the operation's domain.
//
//   struct name { template <class V> static V apply(V x); };
//
// The name is the one in kernels.def; the kernels are generated from there. `Heavy` marks formulas of more
// than a few instructions: they are cut into smaller pieces for the threads. Comparisons and predicates
// return a mask.
#pragma once

#include "math/vmath.h"
#ifndef TS_MATH_COMPLEX
#define TS_MATH_COMPLEX "math/complex.h"
#endif
#include TS_MATH_COMPLEX

namespace ts::TS_MATH {
namespace formula {

struct Light {
  static constexpr bool heavy = false, twin = false;
};
struct Heavy {
  static constexpr bool heavy = true, twin = true;  // twin: two registers side by side, to hide latency
};
struct Lanes {
  static constexpr bool heavy = true, twin = false;
};

template <class V>
using T = typename V::Element;
template <class V>
constexpr bool is_floating = std::is_floating_point_v<T<V>>;
template <class V>
constexpr bool is_bool = std::is_same_v<T<V>, bool>;
template <class V>
constexpr bool is_signed = std::is_signed_v<T<V>>;
template <class V>
constexpr bool is_complex = is_complex_register<V>;

template <class V>
TS_INLINE V number(double x) {
  return V(static_cast<T<V>>(x));
}
template <class V>
TS_INLINE auto is_nan(V x) {
  return x != x;
}

// --- unary ----------------------------------------------------------------------------------------
// In [0, 6]; NaN stays NaN.
template <class V>
TS_INLINE V clip_six(V x) {
  return ts::TS_MATH::min(V(6), ts::TS_MATH::max(V(0), x));
}

#define TS_UNARY(name, weight, expression) \
  struct name : weight {                   \
    template <class V>                     \
    TS_INLINE static V apply(V x) {        \
      return expression;                   \
    }                                      \
  };

TS_UNARY(negative, Light, -x)
TS_UNARY(absolute, Light, ts::TS_MATH::abs(x))
TS_UNARY(square, Light, x* x)
TS_UNARY(sqrt, Light, square_root(x))
TS_UNARY(rsqrt, Light, vmath::rsqrt(x))
TS_UNARY(reciprocal, Light, V(1) / x)
TS_UNARY(exp, Heavy, vmath::exp(x))
TS_UNARY(exp2, Heavy, vmath::exp2(x))
TS_UNARY(expm1, Heavy, vmath::expm1(x))
TS_UNARY(log, Heavy, vmath::log(x))
TS_UNARY(log2, Heavy, vmath::log2(x))
TS_UNARY(log10, Heavy, vmath::log10(x))
TS_UNARY(log1p, Heavy, vmath::log1p(x))
TS_UNARY(sin, Heavy, vmath::sin(x))
TS_UNARY(cos, Heavy, vmath::cos(x))
TS_UNARY(tan, Heavy, vmath::tan(x))
TS_UNARY(sinh, Heavy, vmath::sinh(x))
TS_UNARY(cosh, Heavy, vmath::cosh(x))
TS_UNARY(tanh, Heavy, vmath::tanh(x))
TS_UNARY(asin, Heavy, vmath::asin(x))
TS_UNARY(acos, Heavy, vmath::acos(x))
TS_UNARY(atan, Heavy, vmath::atan(x))
TS_UNARY(asinh, Heavy, vmath::asinh(x))
TS_UNARY(acosh, Heavy, vmath::acosh(x))
TS_UNARY(atanh, Heavy, vmath::atanh(x))
TS_UNARY(erf, Heavy, vmath::erf(x))
TS_UNARY(floor, Light, ts::TS_MATH::floor(x))
TS_UNARY(ceil, Light, ts::TS_MATH::ceil(x))
TS_UNARY(trunc, Light, ts::TS_MATH::trunc(x))
TS_UNARY(round, Light, ts::TS_MATH::round(x))
TS_UNARY(relu, Light, ts::TS_MATH::max(V(0), x))  // the second operand where either is NaN
TS_UNARY(sigmoid, Heavy, vmath::sigmoid(x))
TS_UNARY(log_sigmoid, Heavy, vmath::log_sigmoid(x))
TS_UNARY(silu, Heavy, vmath::silu(x))
TS_UNARY(gelu, Heavy, vmath::gelu(x))
TS_UNARY(gelu_tanh, Heavy, vmath::gelu_tanh(x))
TS_UNARY(softplus, Heavy, vmath::softplus(x))
TS_UNARY(mish, Heavy, vmath::mish(x))
TS_UNARY(hardsigmoid, Light, clip_six(x + V(3)) * number<V>(1.0 / 6))
TS_UNARY(hardswish, Light, x*(clip_six(x + V(3)) * number<V>(1.0 / 6)))
TS_UNARY(softsign, Light, x / (V(1) + ts::TS_MATH::abs(x)))
#undef TS_UNARY

struct sign : Light {
  template <class V>
  TS_INLINE static V apply(V x) {
    if constexpr (is_complex<V>) {
      return vmath::sign(x);
    } else {
      const V zero(0), one(1);
      const V positive = select(x > zero, one, select(x == zero, zero, x));  // NaN stays, -0 becomes 0
      if constexpr (is_signed<V>)
        return select(x < zero, -one, positive);
      else
        return positive;
    }
  }
};
struct bitwise_invert : Light {
  template <class V>
  TS_INLINE static V apply(V x) {
    if constexpr (is_bool<V>)
      return x ^ V(1);
    else
      return ~x;
  }
};

// --- predicates -----------------------------------------------------------------------------------
#define TS_PREDICATE(name, of_float, of_integer) \
  struct name : Light {                          \
    template <class V>                           \
    TS_INLINE static auto apply(V x) {           \
      if constexpr (is_floating<V>)              \
        return of_float;                         \
      else                                       \
        return of_integer;                       \
    }                                            \
  };
TS_PREDICATE(logical_not, x == V(0), x == V(0))
TS_PREDICATE(isnan, x != x, x != x)
TS_PREDICATE(signbit, as<T<V>>(bit_cast<IntOf<T<V>>>(x) < bit_cast<IntOf<T<V>>>(V(0))), x < V(0))
#undef TS_PREDICATE

struct isinf : Light {
  template <class V>
  TS_INLINE static auto apply(V x) {
    if constexpr (is_complex<V>)
      return decltype(x == x){__builtin_isinf(x.re) || __builtin_isinf(x.im)};
    else if constexpr (is_floating<V>)
      return ts::TS_MATH::abs(x) == V(vmath::C<V>::infinity);
    else
      return x != x;
  }
};
struct isfinite : Light {
  template <class V>
  TS_INLINE static auto apply(V x) {
    if constexpr (is_complex<V>)
      return decltype(x == x){__builtin_isfinite(x.re) && __builtin_isfinite(x.im)};
    else if constexpr (is_floating<V>)
      return ts::TS_MATH::abs(x) < V(vmath::C<V>::infinity);
    else
      return x == x;
  }
};

// --- binary: arithmetic ---------------------------------------------------------------------------
#define TS_BINARY(name, weight, expression) \
  struct name : weight {                    \
    template <class V>                      \
    TS_INLINE static V apply(V a, V b) {    \
      return expression;                    \
    }                                       \
  };

struct add : Light {
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    if constexpr (is_bool<V>)
      return a | b;
    else
      return a + b;
  }
};
struct multiply : Light {
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    if constexpr (is_bool<V>)
      return a & b;
    else
      return a * b;
  }
};
TS_BINARY(subtract, Light, a - b)
struct divide : Light {
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    if constexpr (requires { quotient(a, b); })  // registers of the CPU
      return quotient(a, b);
    else
      return a / b;
  }
};
struct maximum : Light {
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    if constexpr (is_floating<V>)
      return select(is_nan(a), a, ts::TS_MATH::max(a, b));
    else
      return ts::TS_MATH::max(a, b);
  }
};
struct minimum : Light {
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    if constexpr (is_floating<V>)
      return select(is_nan(a), a, ts::TS_MATH::min(a, b));
    else
      return ts::TS_MATH::min(a, b);
  }
};
TS_BINARY(atan2, Heavy, vmath::atan2(a, b))
TS_BINARY(hypot, Heavy, vmath::hypot(a, b))
TS_BINARY(logaddexp, Heavy, vmath::logaddexp(a, b))
TS_BINARY(copysign, Light, vmath::copysign(a, b))
TS_BINARY(nextafter, Light, vmath::nextafter(a, b))

// a - floor(a / b) b, exact: fmod, then the sign of b.
struct remainder : Lanes {
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    if constexpr (is_floating<V>) {
      const V zero(0), r = fmod(a, b);
      const V moved = select((r < zero) ^ (b < zero), r + b, r);
      return select(r == zero, vmath::copysign(r, b), moved);
    } else if constexpr (is_signed<V>) {
      const V r = a - divide_toward_zero(a, b) * b;
      return select((r != V(0)) & ((r ^ b) < V(0)), r + b, r);
    } else {
      return a - divide_toward_zero(a, b) * b;
    }
  }
};
struct floor_divide : Lanes {
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    if constexpr (is_floating<V>) {
      const V zero(0), one(1), half = number<V>(0.5);
      const V r = fmod(a, b);
      V q = (a - r) / b;
      q = select((r != zero) & ((r < zero) ^ (b < zero)), q - one, q);
      const V whole = ts::TS_MATH::floor(q);
      const V rounded = select(q - whole > half, whole + one, whole);
      return select(b == zero, a / b, select(q == zero, vmath::copysign(zero, a / b), rounded));
    } else if constexpr (is_signed<V>) {
      const V q = divide_toward_zero(a, b), r = a - q * b;
      return select((r != V(0)) & ((r ^ b) < V(0)), q - V(1), q);
    } else {
      return divide_toward_zero(a, b);
    }
  }
};
struct power : Heavy {
  template <class V>
  TS_INLINE static V apply(V x, V y) {
    if constexpr (is_floating<V> || is_complex<V>) {
      return vmath::pow(x, y);
    } else {  // squaring; wraps around as products do
      V result(1);
      for (int bit = 0; bit < 8 * static_cast<int>(sizeof(T<V>)); ++bit) {
        const V rest = y >> bit;
        if (!any(rest != V(0))) break;
        result = select((rest & V(1)) != V(0), result * x, result);
        x = x * x;
      }
      return result;
    }
  }
};

TS_BINARY(bitwise_and, Light, a& b)
TS_BINARY(bitwise_or, Light, a | b)
TS_BINARY(bitwise_xor, Light, a ^ b)
// Counts outside [0, width) shift everything out, as in NumPy.
struct bitwise_left_shift : Light {
  template <class V>
  TS_INLINE static V apply(V a, V count) {
    return shift_left(a, count);
  }
};
struct bitwise_right_shift : Light {
  template <class V>
  TS_INLINE static V apply(V a, V count) {
    return shift_right(a, count);
  }
};

// --- binary: activations and gradients ------------------------------------------------------------
TS_BINARY(leaky_relu, Light, select(a > V(0), a, a* b))
TS_BINARY(elu, Heavy, select(a > V(0), a, b* vmath::expm1(a)))
TS_BINARY(relu_backward, Light, select(b > V(0), a, V(0)))
TS_BINARY(sigmoid_backward, Light, a* b*(V(1) - b))
TS_BINARY(tanh_backward, Light, a* ts::TS_MATH::fma(-b, b, V(1)))
TS_BINARY(silu_backward, Heavy, a* vmath::silu_slope(b))
TS_BINARY(gelu_backward, Heavy, a* vmath::gelu_slope(b))
TS_BINARY(gelu_tanh_backward, Heavy, a* vmath::gelu_tanh_slope(b))
TS_BINARY(softplus_backward, Heavy, a* vmath::sigmoid(b))
TS_BINARY(mish_backward, Heavy, a* vmath::mish_slope(b))
TS_BINARY(bce_with_logits, Heavy, vmath::bce_with_logits(a, b))
#undef TS_BINARY

// --- comparisons ----------------------------------------------------------------------------------
#define TS_COMPARE(name, expression)        \
  struct name : Light {                     \
    template <class V>                      \
    TS_INLINE static auto apply(V a, V b) { \
      return expression;                    \
    }                                       \
  };
TS_COMPARE(equal, a == b)
TS_COMPARE(not_equal, a != b)
TS_COMPARE(less, a < b)
TS_COMPARE(less_equal, a <= b)
TS_COMPARE(greater, a > b)
TS_COMPARE(greater_equal, a >= b)
TS_COMPARE(logical_and, (a != V(0)) & (b != V(0)))
TS_COMPARE(logical_or, (a != V(0)) | (b != V(0)))
TS_COMPARE(logical_xor, (a != V(0)) ^ (b != V(0)))
#undef TS_COMPARE

// --- ternary --------------------------------------------------------------------------------------
struct clip : Light {
  template <class V>
  TS_INLINE static V apply(V x, V low, V high) {
    return minimum::apply(maximum::apply(x, low), high);
  }
};
struct fma : Light {
  template <class V>
  TS_INLINE static V apply(V a, V b, V c) {
    return fma_exact(a, b, c);
  }
};
struct lerp : Light {
  template <class V>
  TS_INLINE static V apply(V a, V b, V weight) {
    return ts::TS_MATH::fma(weight, b - a, a);
  }
};
struct leaky_relu_backward : Light {
  template <class V>
  TS_INLINE static V apply(V dy, V x, V slope) {
    return select(x > V(0), dy, dy * slope);
  }
};
struct bce_with_logits_backward : Heavy {
  template <class V>
  TS_INLINE static V apply(V dy, V x, V t) {
    return dy * vmath::bce_with_logits_slope(x, t);
  }
};
struct weighted_bce_with_logits : Heavy {
  template <class V>
  TS_INLINE static V apply(V x, V a, V b) {
    return vmath::weighted_bce_with_logits(x, a, b);
  }
};
struct weighted_bce_with_logits_slope : Heavy {
  template <class V>
  TS_INLINE static V apply(V x, V a, V b) {
    return vmath::weighted_bce_with_logits_slope(x, a, b);
  }
};

}  // namespace formula
}  // namespace ts::TS_MATH
