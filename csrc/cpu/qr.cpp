// QR by Householder reflections, in blocks of 32 (the compact WY form of Schreiber & Van Loan 1989).
//
//   H = I - tau v v', v_0 = 1       H_1 ... H_32 = I - V T V'       A = Q R
//
// B matrices of M x N, row-major. A panel of 32 columns is reduced row by row; the columns to its right take
// C -= V T' (V' C), a strip of 128 columns a piece, by the register tile. Q is built in the same way from the
// last panel to the first. Cost: 2 M N^2 - 2 N^3 / 3 flops, as much again for Q.
#include "cpu/linalg.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kPanel = 32;

// The reflection that takes x (elements `ld` apart) to (beta, 0, ...): x becomes beta and v's tail; returns
// tau.
template <class T>
T reflect(T* x, std::int64_t ld, std::int64_t n) {
  T most(0);
  for (std::int64_t i = 1; i < n; ++i) most = std::abs(x[i * ld]) > most ? std::abs(x[i * ld]) : most;
  if (most == T(0)) return T(0);
  if (std::abs(x[0]) > most) most = std::abs(x[0]);
  T sum(0);  // scaled, so that squares neither overflow nor vanish
  for (std::int64_t i = 0; i < n; ++i) {
    const T s = x[i * ld] / most;
    sum += s * s;
  }
  const T norm = std::sqrt(sum) * most, beta = x[0] > T(0) ? -norm : norm;
  const T tau = (beta - x[0]) / beta, scale = T(1) / (x[0] - beta);
  for (std::int64_t i = 1; i < n; ++i) x[i * ld] *= scale;
  x[0] = beta;
  return tau;
}

// Columns [k, end) of a (m x n), below row k. The row vector w = v' A of the panel is gathered row by row.
template <class T>
void reduce_panel(T* a, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t end, T* tau) {
  for (std::int64_t j = k; j < end; ++j) {
    T* const pivot = a + j * n + j;
    tau[j] = reflect(pivot, n, m - j);
    const std::int64_t right = end - j - 1;
    if (tau[j] == T(0) || right == 0) continue;
    T w[kPanel] = {};
    std::memcpy(w, pivot + 1, static_cast<std::size_t>(right) * sizeof(T));
    for (std::int64_t i = 1; i < m - j; ++i) axpy(w, pivot[i * n], pivot + i * n + 1, right);
    axpy(pivot + 1, -tau[j], w, right);
    for (std::int64_t i = 1; i < m - j; ++i) axpy(pivot + i * n + 1, -tau[j] * pivot[i * n], w, right);
  }
}

// V of a panel (rows k ... m, dense, unit lower trapezoid, kPanel apart) and its T (upper, kPanel apart).
template <class T>
void block_reflector(const T* a, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t width,
                     const T* tau, T* v, T* t) {
  for (std::int64_t i = 0; i < m - k; ++i)
    for (std::int64_t j = 0; j < kPanel; ++j)
      v[i * kPanel + j] = j >= width || j > i ? T(0) : j == i ? T(1) : a[(k + i) * n + k + j];
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

// a (m x n) -> R; q (m x columns): the first columns of the reflections' product.
template <class T>
void qr_one(T* a, std::int64_t m, std::int64_t n, T* tau, T* q, std::int64_t columns) {
  const std::int64_t steps = m < n ? m : n;
  T* const v = static_cast<T*>(scratch());
  T t[kPanel * kPanel];
  for (std::int64_t k = 0; k < steps; k += kPanel) {
    const std::int64_t end = k + kPanel < steps ? k + kPanel : steps;
    reduce_panel(a, m, n, k, end, tau);
    if (end == n) continue;
    block_reflector(a, m, n, k, end - k, tau, v, t);
    apply(v, t, true, m - k, a + k * n + end, n, n - end);
  }
  std::memset(q, 0, static_cast<std::size_t>(m * columns) * sizeof(T));
  for (std::int64_t i = 0; i < m && i < columns; ++i) q[i * columns + i] = T(1);
  for (std::int64_t k = (steps - 1) / kPanel * kPanel; steps > 0 && k >= 0; k -= kPanel) {
    const std::int64_t end = k + kPanel < steps ? k + kPanel : steps;
    block_reflector(a, m, n, k, end - k, tau, v, t);
    apply(v, t, false, m - k, q + k * columns + k, columns, columns - k);
  }
  for (std::int64_t i = 1; i < m; ++i)
    std::memset(a + i * n, 0, static_cast<std::size_t>(i < n ? i : n) * sizeof(T));
}

}  // namespace

void qr(Out a, Out tau, Out q) {
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const std::int64_t m = a.shape[1], n = a.shape[2], steps = m < n ? m : n, columns = q.shape[2];
    const double flops = 4.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(steps);
    for_matrices(a.shape[0], flops, [&](std::int64_t i) {
      qr_one(a.as<T>() + i * m * n, m, n, tau.as<T>() + i * steps, q.as<T>() + i * m * columns, columns);
    });
  });
}

}  // namespace ts::cpu::TS_ISA
