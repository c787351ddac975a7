// Mean and variance by two passes of the tree: mean = sum x / K, variance = sum (x - mean)^2 / divisor.
#pragma once

#include "cpu/reduction.h"

namespace ts::cpu::TS_ISA {

template <class T>
struct Mean {
  using Op = Add;
  static constexpr int kSums = 1, kInputs = 1, kParams = 0, kOutputs = 1;
  T count;
  template <class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T>, const Vec<T>*, Part) const {
    s[0] = s[0] + x;
  }
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const { y[0] = s[0] / Vec<T>(count); }
};

template <class T>
struct SquaredDeviation {  // param: the mean
  using Op = Add;
  static constexpr int kSums = 1, kInputs = 1, kParams = 1, kOutputs = 1;
  T divisor;
  template <class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T>, const Vec<T>* mean, Part part) const {
    const Vec<T> d = only(x - mean[0], Vec<T>(T(0)), part);
    s[0] = fma(d, d, s[0]);
  }
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const { y[0] = s[0] / Vec<T>(divisor); }
};

// y = term over the last `reduced` axes of x.
template <class S, class Term>
void reduce_view(const View& x, const View& y, int reduced, const Term& term) {
  using T = Computed<S>;
  Axes axes;
  find_axes(x, nullptr, y, reduced, axes);
  Operands<S> o;
  o.x = static_cast<const S*>(x.data);
  o.y[0] = static_cast<T*>(y.data);
  o.partials = static_cast<T*>(scratch());
  reduce(axes, o, term);
}

// `second` with the results of `first`, which lie as its own do, as its parameter.
template <class S, class One, class Two>
void reduce_view_twice(const View& x, const View& y, const One& first, const View& y2, const Two& second,
                       int reduced) {
  using T = Computed<S>;
  Axes axes;
  find_axes(x, nullptr, y, reduced, axes);
  Operands<S> o;
  o.x = static_cast<const S*>(x.data);
  o.y[0] = static_cast<T*>(y.data);
  o.partials = static_cast<T*>(scratch());
  Operands<S> o2 = o;
  o2.params[0] = o.y[0];
  o2.y[0] = static_cast<T*>(y2.data);
  reduce_twice(axes, o, first, o2, second);
}

// mean and variance have one set of strides.
template <class S>
void moments(const View& x, const View& mean, const View& variance, int reduced, double divisor) {
  using T = Computed<S>;
  double count = 1;
  for (int i = x.ndim - reduced; i < x.ndim; ++i) count *= static_cast<double>(x.shape[i]);
  reduce_view_twice<S>(x, mean, Mean<T>{static_cast<T>(count)}, variance,
                       SquaredDeviation<T>{static_cast<T>(divisor)}, reduced);
}

}  // namespace ts::cpu::TS_ISA
