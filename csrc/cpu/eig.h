// What the eigenproblems of real and of complex general matrices share.
//
// Balanced by powers of two (Parlett & Reinsch 1969), so that rows and columns are of one size and the
// largest element is about 1; turned to Hessenberg form by reflections or rotations; made (quasi-)triangular
// by shifted QR steps (Francis 1961); eigenvectors by back substitution. Double precision throughout.
#pragma once

#include <limits>

#include "core/dtype.h"
#include "cpu/reflector.h"

namespace ts::cpu::TS_ISA {

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr int kMostSteps = 60;  // for one eigenvalue

// A complex number whose operations belong to this level; sums of negatives as in math/complex.h.
struct Number {
  double re = 0, im = 0;
  Number(double x = 0, double y = 0) : re(x), im(y) {}
  explicit Number(ComplexBits<double> z) : re(z.real), im(z.imag) {}
  ComplexBits<double> bits() const { return {re, im}; }

  friend Number operator+(Number a, Number b) { return {a.re + b.re, a.im + b.im}; }
  friend Number operator-(Number a, Number b) { return {a.re - b.re, a.im - b.im}; }
  friend Number operator-(Number a) { return {-a.re, -a.im}; }
  friend Number operator*(Number a, Number b) {
    return {a.re * b.re + -a.im * b.im, a.re * b.im + a.im * b.re};
  }
  friend Number operator/(Number a, double b) { return {a.re / b, a.im / b}; }
  // By Smith (1962), without overflow on the way.
  friend Number operator/(Number a, Number b) {
    if (std::abs(b.re) >= std::abs(b.im)) {
      const double r = b.im / b.re, d = b.re + b.im * r;
      return {(a.re + a.im * r) / d, (a.im + -a.re * r) / d};
    }
    const double r = b.re / b.im, d = b.re * r + b.im;
    return {(a.re * r + a.im) / d, (a.im * r + -a.re) / d};
  }
};
inline double magnitude(double x) { return std::abs(x); }
inline double magnitude(Number z) { return length(z.re, z.im); }
inline Number conjugate(Number z) { return {z.re, -z.im}; }
// With a real part that is not negative.
inline Number square_root(Number z) {
  const double size = magnitude(z);
  if (size == 0) return {};
  const double half = std::sqrt((size + std::abs(z.re)) / 2);
  if (z.re >= 0) return {half, z.im / (2 * half)};
  return {std::abs(z.im) / (2 * half), std::copysign(half, z.im)};
}

struct EigOutput {
  ComplexBits<double>*w, *vectors;  // n, and n x n or null
};

// 0; 1: no convergence; 2: inf or NaN. a (n x n) is overwritten. z: n x n of workspace, or null without
// vectors.
int eig_real(double* a, std::int64_t n, EigOutput out, double* z);
int eig_complex(ComplexBits<double>* a, std::int64_t n, EigOutput out, ComplexBits<double>* z);

// Some 320 n bytes that nobody else writes: products pack at the beginning of scratch, pieces work in its
// second half.
inline double* eig_scratch() {
  return reinterpret_cast<double*>(static_cast<char*>(scratch()) + kScratchBytes / 4);
}

// D^-1 A D / scale: powers of two that bring rows and columns to one size, of 2-norms with the diagonal
// (James, Langou & Lowery 2014: otherwise it harms matrices that are nearly triangular). size(i, j): of an
// element; multiply(i, j, factor). d: n factors. Returns the scale, or a negative number if there is inf or
// NaN.
template <class Size, class Multiply>
double balance(std::int64_t n, double* d, const Size& size, const Multiply& multiply) {
  double most = 0;
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      const double x = size(i, j);
      most = x > most || x != x ? x : most;
    }
  if (!(most <= std::numeric_limits<double>::max())) return -1;
  // 1 / scale must be a number as well.
  const double scale = most > 0x1p-1000 ? std::exp2(std::floor(std::log2(most))) : most > 0 ? 0x1p-1000 : 1;
  for (std::int64_t i = 0; i < n; ++i) {
    d[i] = 1;
    for (std::int64_t j = 0; j < n; ++j) multiply(i, j, 1 / scale);
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (std::int64_t i = 0; i < n; ++i) {
      double row = 0, column = 0;
      for (std::int64_t j = 0; j < n; ++j) {
        const double x = size(i, j), y = size(j, i);
        row += x * x, column += y * y;
      }
      row = std::sqrt(row), column = std::sqrt(column);
      if (row == 0 || column == 0) continue;
      double f = 1;
      const double sum = row + column;
      while (column < row / 2 && f < 0x1p400) column *= 2, row /= 2, f *= 2;
      while (column >= row * 2 && f > 0x1p-400) column /= 2, row *= 2, f /= 2;
      if (column + row >= 0.95 * sum || d[i] * f > 0x1p500 || d[i] * f < 0x1p-500) continue;
      changed = true;
      d[i] *= f;
      for (std::int64_t j = 0; j < n; ++j)
        if (j != i) multiply(i, j, 1 / f), multiply(j, i, f);
    }
  }
  return scale;
}

}  // namespace ts::cpu::TS_ISA
