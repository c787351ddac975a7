// Factorisations by elimination: Cholesky, LU with partial pivoting, and triangular solves.
//
// B matrices of N x N (M x N for LU), row-major. Blocked: a narrow panel is eliminated row by row, the rest
// is updated by the register tile (linalg.h), N^3 / 3 and 2 N^3 / 3 flops of it.
#include "cpu/linalg.h"

namespace ts::cpu::TS_ISA {
namespace {

// The lower triangle of a (n x n) = L with a = L L'. Returns 0, or the order of the first leading minor that
// is not positive.
template <class T>
std::int64_t cholesky_one(T* a, std::int64_t n) {
  for (std::int64_t k = 0; k < n; k += kSolve) {
    const std::int64_t w = n - k < kSolve ? n - k : kSolve;
    // The diagonal block as U = L', whose rows are contiguous.
    T u[kSolve * kSolve];
    for (std::int64_t i = 0; i < w; ++i)
      for (std::int64_t j = i; j < w; ++j) u[i * kSolve + j] = a[(k + j) * n + k + i];
    for (std::int64_t i = 0; i < w; ++i) {
      T* const row = u + i * kSolve;
      if (!(row[i] > T(0))) return k + i + 1;
      const T pivot = std::sqrt(row[i]);
      row[i] = pivot;
      for (std::int64_t j = i + 1; j < w; ++j) row[j] /= pivot;
      for (std::int64_t j = i + 1; j < w; ++j) axpy(u + j * kSolve + j, -row[j], row + j, w - j);
    }
    for (std::int64_t i = 0; i < w; ++i)
      for (std::int64_t j = i; j < w; ++j) a[(k + j) * n + k + i] = u[i * kSolve + j];
    // The rows below: each solves x U = a, that is U' x' = a', a strip of them at a time.
    const std::int64_t below = k + w, rest = n - below;
    parallel_for((rest + kStrip - 1) / kStrip, [&](std::int64_t piece) {
      T* const strip = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
      const std::int64_t i0 = below + piece * kStrip, rows = n - i0 < kStrip ? n - i0 : kStrip;
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < w; ++j) strip[j * kStripRow + i] = a[(i0 + i) * n + k + j];
      for (std::int64_t j = 0; j < w; ++j)
        for (std::int64_t i = rows; i % Vec<T>::width != 0; ++i) strip[j * kStripRow + i] = T(0);
      solve_strip(u, std::int64_t{1}, kSolve, false, w, strip, rows);
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < w; ++j) a[(i0 + i) * n + k + j] = strip[j * kStripRow + i];
    });
    // The trailing triangle, in bands of rows that end at the diagonal.
    constexpr std::int64_t kBand = 4 * kSolve;
    for (std::int64_t i = below; i < n; i += kBand) {
      const std::int64_t rows = n - i < kBand ? n - i : kBand;
      update<T>(rows, i + rows - below, w, a + i * n + k, n, 1, a + below * n + k, 1, n, a + i * n + below,
                n);
    }
  }
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i + 1; j < n; ++j) a[i * n + j] = T(0);
  return 0;
}

// a (m x n) = P L U in place: L below the diagonal, its own diagonal ones. pivots[i]: the row that was
// swapped with row i. A column without a pivot stays as it is.
template <class T>
void lu_one(T* a, std::int64_t* pivots, std::int64_t m, std::int64_t n) {
  constexpr std::int64_t kPanel = 32;
  const std::int64_t steps = m < n ? m : n;
  for (std::int64_t k = 0; k < steps; k += kPanel) {
    const std::int64_t end = k + kPanel < steps ? k + kPanel : steps;
    for (std::int64_t j = k; j < end; ++j) {
      std::int64_t best = j;
      T most = std::abs(a[j * n + j]);
      for (std::int64_t i = j + 1; i < m; ++i) {
        const T x = std::abs(a[i * n + j]);
        if (x > most || (x != x && most == most)) most = x, best = i;
      }
      pivots[j] = best;
      exchange(a + j * n, a + best * n, n);
      const T pivot = a[j * n + j];
      if (pivot == T(0)) continue;
      for (std::int64_t i = j + 1; i < m; ++i) {
        T* const row = a + i * n;
        row[j] /= pivot;
        axpy(row + j + 1, -row[j], a + j * n + j + 1, end - j - 1);
      }
    }
    if (end >= n) continue;
    solve_rows(a + k * n + k, n, std::int64_t{1}, true, end - k, a + k * n + end, n, n - end);
    update<T>(m - end, n - end, end - k, a + end * n + k, n, 1, a + k * n + end, n, 1, a + end * n + end, n);
  }
}

double cube(std::int64_t n) {
  return static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
}

}  // namespace

void cholesky(Out a, Out info) {
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const std::int64_t n = a.shape[2];
    for_matrices(a.shape[0], cube(n), [&](std::int64_t i) {
      info.as<std::int64_t>()[i] = cholesky_one(a.as<T>() + i * n * n, n);
    });
  });
}

void lu(Out a, Out pivots) {
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const std::int64_t m = a.shape[1], n = a.shape[2], steps = m < n ? m : n;
    for_matrices(a.shape[0], 2 * cube(steps) + 100, [&](std::int64_t i) {
      lu_one(a.as<T>() + i * m * n, pivots.as<std::int64_t>() + i * steps, m, n);
    });
  });
}

void swap_rows(In pivots, Out b, bool inverse) {
  with_floating(b.dtype, [&]<class T>(Type<T>) {
    const std::int64_t m = b.shape[1], w = b.shape[2], steps = pivots.shape[1];
    for_matrices(b.shape[0], static_cast<double>(steps * w), [&](std::int64_t i) {
      const std::int64_t* const to = pivots.as<std::int64_t>() + i * steps;
      T* const rows = b.as<T>() + i * m * w;
      for (std::int64_t k = 0; k < steps; ++k) {
        const std::int64_t step = inverse ? steps - 1 - k : k;
        exchange(rows + step * w, rows + to[step] * w, w);
      }
    });
  });
}

void solve_triangular(In a, Out b, bool upper, bool unit) {
  with_floating(b.dtype, [&]<class T>(Type<T>) {
    const std::int64_t n = b.shape[1], w = b.shape[2];
    if (n == 0 || w == 0) return;
    const double flops = static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(w);
    for_matrices(b.shape[0], flops, [&](std::int64_t i) {
      const T* const l = a.as<T>() + i * a.strides[0];
      T* const x = b.as<T>() + i * n * w;
      if (upper)
        solve_lower(l + (n - 1) * (a.strides[1] + a.strides[2]), -a.strides[1], -a.strides[2], unit, n,
                    x + (n - 1) * w, -w, w);
      else
        solve_lower(l, a.strides[1], a.strides[2], unit, n, x, w, w);
    });
  });
}

}  // namespace ts::cpu::TS_ISA
