// What the factorisations share: the update C -= A B of a trailing matrix, and triangular solves of strips.
//
// M N K = rows and columns of C, depth. Matrices are row-major, `ld` apart.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/block.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kStrip = 128;             // columns that are solved together
constexpr std::int64_t kStripRow = kStrip + 16;  // and the distance of their rows in scratch
constexpr std::int64_t kSolve = 64;              // rows of a diagonal block
constexpr std::int64_t kUpdateRows = 112;        // rows of C that a piece updates

// Runs body(matrix) over a batch: pieces of some matrices, where a matrix costs `flops`.
template <class Body>
void for_matrices(std::int64_t count, double flops, const Body& body) {
  const std::int64_t grain = flops < 1e6 ? static_cast<std::int64_t>(1e6 / (flops + 100)) + 1 : 1;
  parallel_ranges(count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(i);
  });
}

// y += f x over n elements.
template <class T>
TS_INLINE void axpy(T* y, T f, const T* x, std::int64_t n) {
  const Vec<T> factor(f);
  for (std::int64_t j = 0; j < n; j += Vec<T>::width)
    store_tail(y + j, fma(factor, load_tail(x + j, n - j), load_tail(y + j, n - j)), n - j);
}
// Sum of x y in 64 bytes of lanes, whatever the register.
template <class T>
TS_INLINE T dot(const T* x, const T* y, std::int64_t n) {
  constexpr std::int64_t L = 64 / static_cast<std::int64_t>(sizeof(T)), W = Vec<T>::width;
  Vec<T> sum[L / W];
  for (Vec<T>& s : sum) s = Vec<T>(T(0));
  for (std::int64_t j = 0; j < n; j += L)
    for (std::int64_t l = 0; l < L / W; ++l) {
      const std::int64_t left = n - j - l * W;
      if (left > 0) sum[l] = fma(load_tail(x + j + l * W, left), load_tail(y + j + l * W, left), sum[l]);
    }
  T lanes[L];
  for (std::int64_t l = 0; l < L / W; ++l) sum[l].store(lanes + l * W);
  for (std::int64_t w = L / 2; w > 0; w /= 2)
    for (std::int64_t l = 0; l < w; ++l) lanes[l] += lanes[l + w];
  return lanes[0];
}

template <class T>
void exchange(T* a, T* b, std::int64_t n) {
  if (a == b) return;
  for (std::int64_t j = 0; j < n; j += Vec<T>::width) {
    const Vec<T> x = load_tail(a + j, n - j);
    store_tail(a + j, load_tail(b + j, n - j), n - j);
    store_tail(b + j, x, n - j);
  }
}

template <class T>
T length(T a, T b) {  // sqrt(a^2 + b^2) without overflow
  a = std::abs(a), b = std::abs(b);
  const T high = a > b ? a : b, low = a > b ? b : a;
  if (high == T(0)) return high;
  const T r = low / high;
  return high * std::sqrt(T(1) + r * r);
}

// The largest magnitude, or NaN if there is one.
template <class T>
T largest_of(const T* a, std::int64_t n) {
  T most(0);
  for (std::int64_t i = 0; i < n; ++i) most = std::abs(a[i]) > most || a[i] != a[i] ? std::abs(a[i]) : most;
  return most;
}

// C (m x n, unit columns) -= A B, K deep; A and B have any strides. B is packed once, in the caller's
// scratch.
template <class T>
void update(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t a_row,
            std::int64_t a_depth, const T* b, std::int64_t b_depth, std::int64_t b_column, T* c,
            std::int64_t ld) {
  if (m <= 0 || n <= 0 || k <= 0) return;
  T* const packed = static_cast<T*>(scratch());
  constexpr std::int64_t kWide = 1 << 14;  // columns at a time: 64 deep, they take 8 MiB at most
  for (std::int64_t j = 0; j < n; j += kWide) {
    const std::int64_t width = n - j < kWide ? n - j : kWide;
    const Panels columns = block_columns<T>(m, width);
    pack<T>(packed, columns, k, b + j * b_column, b_column, b_depth);
    const Panels pieces(
        m, 2.0 * static_cast<double>(m) * static_cast<double>(width * k) < 1e6 ? m : kUpdateRows, 1);
    parallel_for(pieces.count, [&](std::int64_t piece) {
      const std::int64_t i = pieces.first(piece), rows = pieces.width_of(piece);
      // Rows of A packed as well: theirs are often a power of two apart.
      const Panels tiles(rows, kMaxRows, 1);
      T* const mine = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
      pack<T>(mine, tiles, k, a + i * a_row, a_row, a_depth);
      for (std::int64_t r = 0; r < tiles.count; ++r)
        multiply_block<T>(tiles.width_of(r), columns, k, mine + tiles.first(r) * k, 1, tiles.width_of(r),
                          packed, 0, k, c + (i + tiles.first(r)) * ld + j, ld, Start::subtract);
    });
  }
}

// strip (n x w, kStripRow apart) = L^-1 strip, n <= kSolve. L: lower, element (i, j) at l[i * row + j *
// column].
template <class T>
void solve_strip(const T* l, std::int64_t row, std::int64_t column, bool unit, std::int64_t n, T* strip,
                 std::int64_t w) {
  constexpr std::int64_t kInner = 16;
  const std::int64_t whole = (w + Vec<T>::width - 1) / Vec<T>::width * Vec<T>::width;
  for (std::int64_t i0 = 0; i0 < n; i0 += kInner) {
    const std::int64_t i1 = i0 + kInner < n ? i0 + kInner : n;
    for (std::int64_t i = i0; i < i1; ++i) {
      T* const x = strip + i * kStripRow;
      for (std::int64_t j = i0; j < i; ++j) axpy(x, -l[i * row + j * column], strip + j * kStripRow, whole);
      if (unit) continue;
      const Vec<T> pivot(l[i * row + i * column]);
      for (std::int64_t c = 0; c < whole; c += Vec<T>::width) (Vec<T>::load(x + c) / pivot).store(x + c);
    }
    if (i1 < n)
      multiply_block<T>(n - i1, block_columns<T>(n - i1, whole), i1 - i0, l + i1 * row + i0 * column, row,
                        column, strip + i0 * kStripRow, kStripRow, 1, strip + i1 * kStripRow, kStripRow,
                        Start::subtract);
  }
}

// b (n x w, unit columns) = L^-1 b for n <= kSolve rows and any number of columns.
template <class T>
void solve_rows(const T* l, std::int64_t row, std::int64_t column, bool unit, std::int64_t n, T* b,
                std::int64_t ld, std::int64_t w) {
  parallel_for((w + kStrip - 1) / kStrip, [&](std::int64_t piece) {
    T* const strip = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
    const std::int64_t j = piece * kStrip, width = w - j < kStrip ? w - j : kStrip;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t c = 0; c < width; c += Vec<T>::width)
        load_tail(b + i * ld + j + c, width - c).store(strip + i * kStripRow + c);
    solve_strip(l, row, column, unit, n, strip, width);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t c = 0; c < width; c += Vec<T>::width)
        store_tail(b + i * ld + j + c, Vec<T>::load(strip + i * kStripRow + c), width - c);
  });
}

// b (n x w) = L^-1 b. An upper triangle is the lower one read from its last row and column: `row` and
// `column` negative, b's rows likewise.
template <class T>
void solve_lower(const T* l, std::int64_t row, std::int64_t column, bool unit, std::int64_t n, T* b,
                 std::int64_t ld, std::int64_t w) {
  for (std::int64_t i = 0; i < n; i += kSolve) {
    const std::int64_t rows = n - i < kSolve ? n - i : kSolve;
    solve_rows(l + i * row + i * column, row, column, unit, rows, b + i * ld, ld, w);
    update<T>(n - i - rows, w, rows, l + (i + rows) * row + i * column, row, column, b + i * ld, ld, 1,
              b + (i + rows) * ld, ld);
  }
}

}  // namespace ts::cpu::TS_ISA
