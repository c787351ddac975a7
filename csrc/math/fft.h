// What a pass of a Fourier transform does with r numbers, on the CPU and the GPU alike (see cpu/fft.cpp).
#pragma once

#include "math/registers.h"

namespace ts::TS_MATH {

template <class T>
struct Point {
  T re, im;
  TS_INLINE friend Point operator+(Point a, Point b) { return {a.re + b.re, a.im + b.im}; }
  TS_INLINE friend Point operator-(Point a, Point b) { return {a.re - b.re, a.im - b.im}; }
  TS_INLINE friend Point operator*(T a, Point b) { return {a * b.re, a * b.im}; }
};
template <class T>
TS_INLINE Point<T> times(Point<T> a, T re, T im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}
template <class T>
TS_INLINE Point<T> times_minus_i(Point<T> a) {
  return {a.im, -a.re};
}

// a_k <- sum_j a_j w^(j k), w = e^(-2 pi i / r).
template <int r, class T>
TS_INLINE void butterfly(Point<T> (&a)[r]) {
  if constexpr (r == 2) {
    const Point<T> b = a[0] - a[1];
    a[0] = a[0] + a[1], a[1] = b;
  } else if constexpr (r == 3) {
    constexpr T sine = T(0.86602540378443864676);
    const Point<T> sum = a[1] + a[2], turn = times_minus_i(sine * (a[1] - a[2]));
    const Point<T> middle = a[0] - T(0.5) * sum;
    a[0] = a[0] + sum, a[1] = middle + turn, a[2] = middle - turn;
  } else if constexpr (r == 4) {
    const Point<T> even = a[0] + a[2], odd = a[1] + a[3], low = a[0] - a[2];
    const Point<T> turn = times_minus_i(a[1] - a[3]);
    a[0] = even + odd, a[1] = low + turn, a[2] = even - odd, a[3] = low - turn;
  } else {
    static_assert(r == 5);
    constexpr T c1 = T(0.30901699437494742410), c2 = T(-0.80901699437494742410);
    constexpr T s1 = T(0.95105651629515357212), s2 = T(0.58778525229247312917);
    const Point<T> p1 = a[1] + a[4], p2 = a[2] + a[3], m1 = a[1] - a[4], m2 = a[2] - a[3];
    const Point<T> r1 = a[0] + c1 * p1 + c2 * p2, r2 = a[0] + c2 * p1 + c1 * p2;
    const Point<T> t1 = times_minus_i(s1 * m1 + s2 * m2), t2 = times_minus_i(s2 * m1 - s1 * m2);
    a[0] = a[0] + p1 + p2;
    a[1] = r1 + t1, a[4] = r1 - t1, a[2] = r2 + t2, a[3] = r2 - t2;
  }
}

}  // namespace ts::TS_MATH
