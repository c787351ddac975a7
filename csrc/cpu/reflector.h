// Householder reflections, one and in blocks of 32 (the compact WY form of Schreiber & Van Loan 1989).
//
//   H = I - tau v v', v_0 = 1       H_1 ... H_32 = I - V T V'
//
// M N = rows and columns. v lies below its pivot in the matrix that it has reduced, without v_0.
#pragma once

#include <limits>

#include "cpu/linalg.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kPanel = 32;

// The reflection that takes x (elements `ld` apart) to (beta, 0, ...): x becomes beta and v's tail; returns
// tau.
template <class T>
T reflect(T* x, std::int64_t ld, std::int64_t n) {
  T most(0);
  for (std::int64_t i = 1; i < n; ++i) {
    const T size = std::abs(x[i * ld]);
    if (size > most || size != size) most = size;  // NaN stays
  }
  if (most == T(0)) return T(0);
  if (std::abs(x[0]) > most) most = std::abs(x[0]);
  T sum(0);  // scaled, so that squares neither overflow nor vanish
  for (std::int64_t i = 0; i < n; ++i) {
    const T s = x[i * ld] / most;
    sum += s * s;
  }
  if (most < std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon()) {
    // Near the smallest numbers: 1 / (x_0 - beta) would overflow, tau lose its digits.
    const T first = x[0] / most, beta = first > T(0) ? -std::sqrt(sum) : std::sqrt(sum);
    for (std::int64_t i = 1; i < n; ++i) x[i * ld] = x[i * ld] / most / (first - beta);
    x[0] = beta * most;
    return (beta - first) / beta;
  }
  const T norm = std::sqrt(sum) * most, beta = x[0] > T(0) ? -norm : norm;
  const T tau = (beta - x[0]) / beta, scale = T(1) / (x[0] - beta);
  for (std::int64_t i = 1; i < n; ++i) x[i * ld] *= scale;
  x[0] = beta;
  return tau;
}

// V of a panel (rows k ... m, dense, unit lower trapezoid, kPanel apart) and its T (upper, kPanel apart).
template <class T>
void block_reflector(const T* a, std::int64_t m, std::int64_t ld, std::int64_t k, std::int64_t width,
                     const T* tau, T* v, T* t) {
  for (std::int64_t i = 0; i < m - k; ++i)
    for (std::int64_t j = 0; j < kPanel; ++j)
      v[i * kPanel + j] = j >= width || j > i ? T(0) : j == i ? T(1) : a[(k + i) * ld + k + j];
  T gram[kPanel * kPanel];
  multiply_block<T>(kPanel, block_columns<T>(kPanel, kPanel), m - k, v, 1, kPanel, v, kPanel, 1, gram, kPanel,
                    Start::zero);
  // T(0..j, j) = -tau_j T(0..j, 0..j) V(:, 0..j)' v_j
  for (std::int64_t j = 0; j < kPanel; ++j) {
    for (std::int64_t i = 0; i < kPanel; ++i) t[i * kPanel + j] = T(0);
    if (j >= width) continue;
    t[j * kPanel + j] = tau[k + j];
    for (std::int64_t i = 0; i < j; ++i) {
      T sum(0);
      for (std::int64_t l = i; l < j; ++l) sum += t[i * kPanel + l] * gram[l * kPanel + j];
      t[i * kPanel + j] = -tau[k + j] * sum;
    }
  }
}

// c (m x w, rows ld apart) -= V op(T) V' c, op the transposition if asked for.
template <class T>
void apply(const T* v, const T* t, bool transposed, std::int64_t m, T* c, std::int64_t ld, std::int64_t w) {
  parallel_for((w + kStrip - 1) / kStrip, [&](std::int64_t piece) {
    T* const vc = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
    T* const tvc = vc + kPanel * kStripRow;
    T* const packed = tvc + kPanel * kStripRow;
    const std::int64_t j = piece * kStrip, width = w - j < kStrip ? w - j : kStrip;
    const std::int64_t whole = (width + Vec<T>::width - 1) / Vec<T>::width * Vec<T>::width;
    const Panels columns = block_columns<T>(kPanel, width);
    constexpr std::int64_t kDepth = 1024;  // rows of c packed at a time
    for (std::int64_t i = 0; i < m; i += kDepth) {
      const std::int64_t depth = m - i < kDepth ? m - i : kDepth;
      pack<T>(packed, columns, depth, c + i * ld + j, std::int64_t{1}, ld);
      multiply_block<T>(kPanel, columns, depth, v + i * kPanel, 1, kPanel, packed, 0, depth, vc, kStripRow,
                        i ? Start::add : Start::zero);
    }
    for (std::int64_t i = 0; i < kPanel; ++i)  // behind the width: what the padded product reads
      for (std::int64_t l = width; l < whole; ++l) vc[i * kStripRow + l] = T(0);
    multiply_block<T>(kPanel, block_columns<T>(kPanel, whole), kPanel, t, transposed ? 1 : kPanel,
                      transposed ? kPanel : 1, vc, kStripRow, 1, tvc, kStripRow, Start::zero);
    multiply_block<T>(m, block_columns<T>(m, width), kPanel, v, kPanel, 1, tvc, kStripRow, 1, c + j, ld,
                      Start::subtract);
  });
}

constexpr std::int64_t kRowsTogether = 64;  // of a piece; below 128 x 128 nobody else is called

template <class T>
void transpose_square(T* a, std::int64_t n) {
  constexpr std::int64_t kSide = 16;
  for (std::int64_t i0 = 0; i0 < n; i0 += kSide)
    for (std::int64_t j0 = i0; j0 < n; j0 += kSide)
      for (std::int64_t i = i0; i < n && i < i0 + kSide; ++i)
        for (std::int64_t j = j0 > i ? j0 : i + 1; j < n && j < j0 + kSide; ++j) {
          const T x = a[i * n + j];
          a[i * n + j] = a[j * n + i], a[j * n + i] = x;
        }
}

// q (m x columns, ld_q apart): the first columns of the product of `steps` reflections, whose v lie in the
// columns of a (ld apart) from the diagonal down. v: m * kPanel elements of workspace.
template <class T>
void product_of_reflections(const T* a, std::int64_t ld, const T* tau, std::int64_t steps, std::int64_t m,
                            T* q, std::int64_t ld_q, std::int64_t columns, T* v) {
  T t[kPanel * kPanel];
  for (std::int64_t i = 0; i < m; ++i) {
    std::memset(q + i * ld_q, 0, static_cast<std::size_t>(columns) * sizeof(T));
    if (i < columns) q[i * ld_q + i] = T(1);
  }
  for (std::int64_t k = (steps - 1) / kPanel * kPanel; steps > 0 && k >= 0; k -= kPanel) {
    const std::int64_t end = k + kPanel < steps ? k + kPanel : steps;
    block_reflector(a, m, ld, k, end - k, tau, v, t);
    apply(v, t, false, m - k, q + k * ld_q + k, ld_q, columns - k);
  }
}

// z (n x n) = Q', whose rows are what the reflections of rows and columns 1 to n - 1 make of unit vectors;
// their v lie in a's columns below the diagonal, v_0 in row k + 1 of column k.
template <class T>
void rows_of_product(const T* a, std::int64_t n, const T* tau, T* z, T* v) {
  for (std::int64_t i = 0; i < n; ++i) z[i] = z[i * n] = T(i == 0);
  if (n > 1) product_of_reflections(a + n, n, tau, n - 1, n - 1, z + n + 1, n, n - 1, v);
  transpose_square(z, n);
}

}  // namespace ts::cpu::TS_ISA
