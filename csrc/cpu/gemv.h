// Few rows times a big matrix: bound by reading B once, so B is neither packed nor walked in strips.
//
//   sums[i, j] = sum over k of a[i, k] b[k, j]      one block of K, k ascending, one chain per element:
//   tile's order
//
// Cost: reads B once, in the order of its memory.
#pragma once

#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

// `steps` rows of B, NV registers of their columns: added to the sums in L1.
template <class T, int MR, int NV, bool Masked>
TS_INLINE void columns_of_rows(std::int64_t steps, const T* a, std::int64_t a_row, std::int64_t a_depth,
                               const T* b, std::int64_t b_depth, const Lanes<T>& lanes, T* sums,
                               std::int64_t sums_row) {
  constexpr std::int64_t W = Vec<T>::width;
  Tile<T, MR, NV> t;
  unroll<MR>([&]<int i>() TS_LAMBDA {
    unroll<NV>([&]<int j>() TS_LAMBDA {
      const T* const p = sums + i * sums_row + j * W;
      t.acc[i][j] = Masked ? load_lanes(p, lanes) : Vec<T>::load(p);
    });
  });
  t.template multiply<Masked>(steps, a, a_row, a_depth, b, b_depth, lanes);
  t.template store<!Masked>(sums, sums_row, lanes);
}

// MR rows of A; B's rows contiguous. sums (MR x n, sums_row apart) stays in L1 while kRows rows of B stream
// past.
template <class T, int MR>
[[gnu::noinline]] void rows_times_rows(std::int64_t depth, const T* a, std::int64_t a_row,
                                       std::int64_t a_depth, const T* b, std::int64_t b_depth, std::int64_t n,
                                       T* sums, std::int64_t sums_row) {
  constexpr std::int64_t W = Vec<T>::width;
  constexpr int kRows = 8, NV = MR * 2 < kRegisters / 2 ? 2 : 1;
  for (int i = 0; i < MR; ++i)
    for (std::int64_t j = 0; j < n; ++j) sums[i * sums_row + j] = T(0);
  for (std::int64_t k = 0; k < depth; k += kRows) {
    const std::int64_t steps = depth - k < kRows ? depth - k : kRows;
    const T *const pa = a + k * a_depth, *const pb = b + k * b_depth;
    std::int64_t j = 0;
    for (; j + NV * W <= n; j += NV * W)
      columns_of_rows<T, MR, NV, false>(steps, pa, a_row, a_depth, pb + j, b_depth, Lanes<T>(W), sums + j,
                                        sums_row);
    for (; j < n; j += W)
      columns_of_rows<T, MR, 1, true>(steps, pa, a_row, a_depth, pb + j, b_depth,
                                      Lanes<T>(n - j < W ? n - j : W), sums + j, sums_row);
  }
}

// The next `steps` k of W columns of B (`lanes` of them exist, `column` apart): acc[i] += a[i, k] b[k, :].
// The square is transposed on its way into registers, so that lanes are columns and k stays in order. With
// Whole, steps and lanes are W.
template <class T, int MR, bool Whole>
TS_INLINE void square_of_columns(std::int64_t steps, const T* a, std::int64_t a_row, const T* b,
                                 std::int64_t column, std::int64_t lanes, Vec<T>* acc) {
  constexpr int W = Vec<T>::width;
  Vec<T> r[W];
  if constexpr (Whole) {
    load_transposed<T>([&](int x) TS_LAMBDA { return b + x * column; }, r);
  } else {
    unroll<W>([&]<int x>() TS_LAMBDA {
      r[x] = load_lanes(b, Lanes<T>(steps));
      b += x + 1 < lanes ? column : 0;  // beyond the last: that one again
    });
    transpose<T>(r);
  }
  Vec<T> sum[MR];
  unroll<MR>([&]<int i>() TS_LAMBDA { sum[i] = acc[i]; });
  unroll<W>([&]<int s>() TS_LAMBDA {
    if (Whole || s < steps)
      unroll<MR>([&]<int i>() TS_LAMBDA { sum[i] = fma(Vec<T>(a[i * a_row + s]), r[s], sum[i]); });
  });
  unroll<MR>([&]<int i>() TS_LAMBDA { acc[i] = sum[i]; });
}

// MR rows of A, contiguous (a_depth is 1); B's columns contiguous (b[k + j * b_column]), W of them at a time.
// One or two rows have too few chains of FMAs to fill the pipelines, so they take 2 W, unless columns
// collide.
template <class T, int MR>
[[gnu::noinline]] void rows_times_columns(std::int64_t depth, const T* a, std::int64_t a_row,
                                          std::int64_t /*a_depth*/, const T* b, std::int64_t b_column,
                                          std::int64_t n, T* sums, std::int64_t sums_row) {
  constexpr std::int64_t W = Vec<T>::width;
  const auto strip = [&]<int squares>(std::int64_t j) TS_LAMBDA {
    const T* const first = b + j * b_column;
    const std::int64_t lanes = n - j < squares * W ? n - j - (squares - 1) * W : W;  // of the last square
    Vec<T> acc[squares][MR];
    for (auto& row : acc)
      for (auto& x : row) x = Vec<T>(T(0));
    const auto part = [&](std::int64_t k, std::int64_t steps) TS_LAMBDA {
      unroll<squares>([&]<int q>() TS_LAMBDA {
        square_of_columns<T, MR, false>(steps, a + k, a_row, first + k + q * W * b_column, b_column,
                                        q + 1 == squares ? lanes : W, acc[q]);
      });
    };
    // A short first step brings the loads to cache lines, so that each line is read once.
    const std::uintptr_t misaligned = reinterpret_cast<std::uintptr_t>(first) / sizeof(T) % W;
    std::int64_t k = misaligned ? W - static_cast<std::int64_t>(misaligned) : 0;
    if (k > depth) k = depth;
    if (k > 0) part(0, k);
    if (lanes == W)
      for (; k + W <= depth; k += W)
        unroll<squares>([&]<int q>() TS_LAMBDA {
          square_of_columns<T, MR, true>(W, a + k, a_row, first + k + q * W * b_column, b_column, W, acc[q]);
        });
    for (; k < depth; k += W) part(k, depth - k < W ? depth - k : W);
    unroll<squares>([&]<int q>() TS_LAMBDA {
      for (int i = 0; i < MR; ++i)
        store_tail(sums + i * sums_row + j + q * W, acc[q][i], q + 1 == squares ? lanes : W);
    });
  };
  // Products that follow one another with one B go through its columns forwards and backwards in turn: what
  // the one before has left in L2 comes first.
  static thread_local bool backwards = true;
  backwards = !backwards;
  constexpr int kSquares = MR <= 2 ? 2 : 1;
  const std::int64_t wide =
      MR <= 2 && !rows_collide<T>(b_column) ? (n + W - 1) / (2 * W) : 0;  // strips of 2 W
  const std::int64_t strips = wide + (n - wide * 2 * W + W - 1) / W;
  for (std::int64_t i = 0; i < strips; ++i) {
    const std::int64_t s = backwards ? strips - 1 - i : i;
    if (s < wide)
      strip.template operator()<kSquares>(s * 2 * W);
    else
      strip.template operator()<1>((wide + s) * W);
  }
}

}  // namespace ts::cpu::TS_ISA
