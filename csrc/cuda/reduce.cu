// Reductions over the last `reduced` axes: y = x_0 + x_1 + ... + x_{K-1} and its kin, by the tree of
// reduce.h.
//
// Each reads x once (variance twice; dot a and b once) and writes y once.
#include "cuda/reduce.h"

#include <limits>

#include "cuda/half.h"
#include "cuda/kernels.h"
#include "cuda/types.h"
#include "math/vmath.h"

namespace ts::cuda {

ReduceAxes reduce_axes(const char* kernel, const View& x, const View* x2, const View& y, int reduced) {
  ReduceAxes a{};
  const int kept = x.ndim - reduced;
  a.outputs = a.length = 1;
  struct Axis {
    std::int64_t size, x, x2, y;
  };
  Axis axes[64];
  int count = 0;
  const auto too_many = [&] {
    not_implemented(kernel, "more than 8 separate axes; make the tensor contiguous");
  };
  const auto join = [&] {  // axes[] innermost first
    int last = 0;
    for (int i = 1; i < count; ++i) {
      Axis& l = axes[last];
      if (axes[i].x == l.size * l.x && axes[i].x2 == l.size * l.x2 && axes[i].y == l.size * l.y)
        l.size *= axes[i].size;
      else
        axes[++last] = axes[i];
    }
    if (count) count = last + 1;
    if (count > kReduceDims) too_many();
  };
  // Kept axes by x's strides, ascending; reduced ones in their order, because argmax counts along it.
  for (int i = kept - 1; i >= 0; --i) {
    a.outputs *= x.shape[i];
    if (x.shape[i] == 1) continue;
    const Axis axis{x.shape[i], x.strides[i], x2 ? x2->strides[i] : 0, y.strides[i]};
    int at = count++;
    const auto key = [](const Axis& v) { return v.x < 0 ? -v.x : v.x; };
    for (; at > 0 && key(axes[at - 1]) > key(axis); --at) axes[at] = axes[at - 1];
    axes[at] = axis;
  }
  join();
  a.kept = count;
  for (int i = 0; i < count; ++i)
    a.kept_size[i] = axes[i].size, a.kept_x[i] = axes[i].x, a.kept_x2[i] = axes[i].x2,
    a.kept_y[i] = axes[i].y;
  count = 0;
  for (int i = x.ndim - 1; i >= kept; --i) {
    a.length *= x.shape[i];
    if (x.shape[i] != 1) axes[count++] = {x.shape[i], x.strides[i], x2 ? x2->strides[i] : 0, 0};
  }
  for (int i = 1, last = 0, n = count; i < n; ++i) {  // y plays no part here
    Axis& l = axes[last];
    if (axes[i].x == l.size * l.x && axes[i].x2 == l.size * l.x2) {
      l.size *= axes[i].size;
      count = last + 1;
    } else {
      axes[++last] = axes[i];
      count = last + 1;
    }
  }
  if (count > kReduceDims) too_many();
  a.reduced = count;
  for (int i = 0; i < count; ++i) a.size[i] = axes[i].size, a.x[i] = axes[i].x, a.x2[i] = axes[i].x2;
  a.small = a.outputs <= INT32_MAX && a.length <= INT32_MAX && a.outputs * a.length > 0;
  if (a.small) {
    for (int i = 0; i < a.kept; ++i) a.kept_divider[i] = Divider(a.kept_size[i]);
    for (int i = 0; i < count; ++i) a.divider[i] = Divider(a.size[i]);
  }
  a.quads = count > 0 && a.x[0] == 1 && (!x2 || a.x2[0] == 1) && (count == 1 || a.size[0] % 4 == 0);
  for (int i = 1; i < count; ++i) a.quads &= a.x[i] % 4 == 0 && a.x2[i] % 4 == 0;
  return a;
}

namespace {

template <class T>
using Wrap = typename WrappingOf<Lane<T>>::type;

struct Add {
  template <class T>
  TS_INLINE static T apply(T a, T b) {
    return a + b;
  }
};
struct Multiply {
  template <class T>
  TS_INLINE static T apply(T a, T b) {
    return a * b;
  }
};
// NaN propagates.
struct Greater {
  template <class T>
  TS_INLINE static T apply(T a, T b) {
    return b > a || b != b ? (a != a ? a : b) : a;
  }
};
struct Lesser {
  template <class T>
  TS_INLINE static T apply(T a, T b) {
    return b < a || b != b ? (a != a ? a : b) : a;
  }
};

// y = Op over x, whose elements are T, or halves that become one.
template <class Op, class T, class V = T>
struct Plain {
  using Value = V;
  using Sum = T;
  T identity;
  T* y;
  TS_INLINE Sum start(std::int64_t) const { return identity; }
  TS_INLINE void step(Sum& s, V v, V, std::int64_t) const {
    if constexpr (std::is_same_v<T, V>)
      s = Op::apply(s, v);
    else
      s = Op::apply(s, to_float(v));
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s = Op::apply(s, later); }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = s; }
};
template <class T, class V = T>
struct Mean : Plain<Add, T, V> {
  T count;
  TS_INLINE void finish(const T& s, std::int64_t at) const { this->y[at] = s / count; }
};
template <class T>
struct Truth {
  using Value = T;
  using Sum = std::uint8_t;
  bool all;
  bool* y;
  TS_INLINE Sum start(std::int64_t) const { return all; }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s = all ? s & later : s | later; }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const { merge(s, static_cast<Sum>(v != T(0))); }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = s != 0; }
};
// sum exp(x - m) beside the largest m so far.
template <class T>
struct LogSumExp {
  using Value = T;
  struct Sum {
    T top, sum;
  };
  T* y;
  TS_INLINE static T exp_of(T v) { return vmath::exp(Vec<T>(v)).r; }
  TS_INLINE Sum start(std::int64_t) const { return {-std::numeric_limits<T>::infinity(), T(0)}; }
  TS_INLINE void merge(Sum& s, const Sum& later) const {
    if (later.sum == T(0)) return;
    if (s.sum == T(0)) {
      s = later;
      return;
    }
    const T top = Greater::apply(s.top, later.top);
    // Equal infinities must not make a NaN.
    const T mine = s.top == top ? T(1) : exp_of(s.top - top),
            other = later.top == top ? T(1) : exp_of(later.top - top);
    s.sum = fma(Vec<T>(s.sum), Vec<T>(mine), Vec<T>(later.sum * other)).r;
    s.top = top;
  }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const { merge(s, Sum{v, T(1)}); }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const {
    y[at] = s.sum == T(0) ? s.top : s.top + vmath::log(Vec<T>(s.sum)).r;
  }
};
// The first position of the extreme, or of the first NaN.
template <class T, bool kMax>
struct Extreme {
  using Value = T;
  struct Sum {
    T value;
    std::int64_t position;  // -1: none yet
  };
  std::int64_t* y;
  TS_INLINE Sum start(std::int64_t) const { return {T(0), -1}; }
  TS_INLINE void merge(Sum& s, const Sum& o) const {
    if (o.position < 0) return;
    const bool nan = s.value != s.value, other = o.value != o.value;
    bool better;
    if (s.position < 0)
      better = true;
    else if (nan || other)
      better = other && (!nan || o.position < s.position);
    else if (o.value == s.value)
      better = o.position < s.position;
    else
      better = kMax ? o.value > s.value : o.value < s.value;
    if (better) s = o;
  }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t p) const { merge(s, Sum{v, p}); }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = s.position; }
};
// sum (x - mean)^2 / divisor; mean has y's strides.
template <class T>
struct Spread {
  using Value = T;
  struct Sum {
    T sum, mean;
  };
  const T* mean;
  T* y;
  T divisor;
  TS_INLINE Sum start(std::int64_t at) const { return {T(0), mean[at]}; }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const {
    const Vec<T> d(v - s.mean);
    s.sum = fma(d, d, Vec<T>(s.sum)).r;
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s.sum += later.sum; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = s.sum / divisor; }
};

// Of |x|: the sum, the root of the sum of squares, the largest or the smallest. NaN propagates.
enum class Norm { one, two, largest, smallest };
template <class T, Norm kNorm>
struct NormOf {
  using Value = T;
  using Sum = T;
  T* y;
  TS_INLINE Sum start(std::int64_t) const {
    return kNorm == Norm::smallest ? std::numeric_limits<T>::infinity() : T(0);
  }
  TS_INLINE static T join(T a, T b) {
    if constexpr (kNorm == Norm::largest)
      return b > a || b != b ? (a != a ? a : b) : a;
    else if constexpr (kNorm == Norm::smallest)
      return b < a || b != b ? (a != a ? a : b) : a;
    else
      return a + b;
  }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const {
    if constexpr (kNorm == Norm::two)
      s = fma(Vec<T>(v), Vec<T>(v), Vec<T>(s)).r;
    else
      s = join(s, abs(Vec<T>(v)).r);
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s = join(s, later); }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const {
    if constexpr (kNorm == Norm::two)
      y[at] = sqrt(Vec<T>(s)).r;
    else
      y[at] = s;
  }
};

// sum a b, each product added by an FMA.
template <class T>
struct Products {
  using Value = T;
  using Sum = T;
  static constexpr bool kPair = true;
  T* y;
  TS_INLINE Sum start(std::int64_t) const { return T(0); }
  TS_INLINE void step(Sum& s, T a, T b, std::int64_t) const { s = fma(Vec<T>(a), Vec<T>(b), Vec<T>(s)).r; }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = s + T(0); }  // no -0, as on the CPU
};
// How many of the kept axes the operand has one element of.
int broadcast_axes(const View& x, int reduced) {
  int count = 0;
  for (int i = 0; i < x.ndim - reduced; ++i) count += x.shape[i] > 1 && x.strides[i] == 0;
  return count;
}

std::int64_t reduced_count(const View& x, int reduced) {
  std::int64_t count = 1;
  for (int i = x.ndim - reduced; i < x.ndim; ++i) count *= x.shape[i];
  return count;
}

template <class T>
constexpr T lowest() {
  if constexpr (std::is_floating_point_v<T>)
    return -std::numeric_limits<T>::infinity();
  else
    return std::numeric_limits<T>::lowest();
}
template <class T>
constexpr T highest() {
  if constexpr (std::is_floating_point_v<T>)
    return std::numeric_limits<T>::infinity();
  else
    return std::numeric_limits<T>::max();
}

}  // namespace

void sum(In x, Out y, int reduced) {
  if (is_half(x.dtype))
    return with_half(x.dtype, [&]<class H>(Type<H>) {
      reduce("sum", x, nullptr, y, reduced, Plain<Add, float, H>{0, y.as<float>()});
    });
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("sum", x, nullptr, y, reduced, Plain<Add, Wrap<T>>{0, y.as<Wrap<T>>()});
  });
}
void prod(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("prod", x, nullptr, y, reduced, Plain<Multiply, Wrap<T>>{1, y.as<Wrap<T>>()});
  });
}
void mean(In x, Out y, int reduced) {
  if (is_half(x.dtype))
    return with_half(x.dtype, [&]<class H>(Type<H>) {
      reduce("mean", x, nullptr, y, reduced,
             Mean<float, H>{{0, y.as<float>()}, static_cast<float>(reduced_count(x, reduced))});
    });
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    reduce("mean", x, nullptr, y, reduced,
           Mean<T>{{0, y.as<T>()}, static_cast<T>(reduced_count(x, reduced))});
  });
}
void max(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("max", x, nullptr, y, reduced, Plain<Greater, Lane<T>>{lowest<Lane<T>>(), y.as<Lane<T>>()});
  });
}
void min(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("min", x, nullptr, y, reduced, Plain<Lesser, Lane<T>>{highest<Lane<T>>(), y.as<Lane<T>>()});
  });
}
void any(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("any", x, nullptr, y, reduced, Truth<Lane<T>>{false, y.as<bool>()});
  });
}
void all(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("all", x, nullptr, y, reduced, Truth<Lane<T>>{true, y.as<bool>()});
  });
}
void argmax(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("argmax", x, nullptr, y, reduced, Extreme<Lane<T>, true>{y.as<std::int64_t>()});
  });
}
void argmin(In x, Out y, int reduced) {
  with_wide_any(x.dtype, [&]<class T>(Type<T>) {
    reduce("argmin", x, nullptr, y, reduced, Extreme<Lane<T>, false>{y.as<std::int64_t>()});
  });
}
void logsumexp(In x, Out y, int reduced) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    reduce("logsumexp", x, nullptr, y, reduced, LogSumExp<T>{y.as<T>()});
  });
}
void variance(In x, Out mean, Out variance, int reduced, double correction) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const double count = static_cast<double>(reduced_count(x, reduced)), divisor = count - correction;
    reduce("variance", x, nullptr, mean, reduced, Mean<T>{{0, mean.as<T>()}, static_cast<T>(count)});
    reduce("variance", x, nullptr, variance, reduced,
           Spread<T>{mean.as<T>(), variance.as<T>(), static_cast<T>(divisor > 0 ? divisor : 0)});
  });
}

void vector_norm(In x, Out y, int reduced, double order) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const auto run = [&](const auto& term) { reduce("vector_norm", x, nullptr, y, reduced, term); };
    if (order == 1)
      run(NormOf<T, Norm::one>{y.as<T>()});
    else if (order == 2)
      run(NormOf<T, Norm::two>{y.as<T>()});
    else if (order > 0)
      run(NormOf<T, Norm::largest>{y.as<T>()});
    else
      run(NormOf<T, Norm::smallest>{y.as<T>()});
  });
}

// Axes are sorted by the first operand's strides: the one that is not broadcast. A product does not depend on
// the order of its factors.
void dot(In a, In b, Out y, int reduced) {
  const bool swapped = broadcast_axes(a, reduced) > broadcast_axes(b, reduced);
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    reduce("dot", swapped ? b : a, swapped ? &a : &b, y, reduced, Products<T>{y.as<T>()});
  });
}

}  // namespace ts::cuda
