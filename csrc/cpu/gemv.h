// Few rows times a big matrix: bound by reading B once, so B is neither packed nor walked in strips.
//
//   sums[i, j] = sum over k of a[i, k] b[k, j]      one block of K, k ascending, one chain per element:
//   tile's order
//
// Cost: reads B once, in the order of its memory.
#pragma once

#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

// One row of A; B's rows contiguous. sums (n) stays in L1 while eight rows of B stream past.
template <class T>
[[gnu::noinline]] void row_times_rows(std::int64_t depth, const T* a, std::int64_t a_depth, const T* b,
                                      std::int64_t b_depth, std::int64_t n, T* sums) {
  constexpr std::int64_t W = Vec<T>::width;
  constexpr int kRows = 8;
  for (std::int64_t j = 0; j < n; ++j) sums[j] = T(0);
  const auto pass = [&]<int rows>(std::int64_t k) TS_LAMBDA {
    Vec<T> x[rows];
    unroll<rows>([&]<int i>() TS_LAMBDA { x[i] = Vec<T>(a[(k + i) * a_depth]); });
    const T* p = b + k * b_depth;
    std::int64_t j = 0;
    for (; j + W <= n; j += W) {
      Vec<T> sum = Vec<T>::load(sums + j);
      unroll<rows>([&]<int i>() TS_LAMBDA { sum = fma(x[i], Vec<T>::load(p + i * b_depth + j), sum); });
      sum.store(sums + j);
    }
    if (j < n) {
      const Lanes<T> lanes(n - j);
      Vec<T> sum = load_lanes(sums + j, lanes);
      unroll<rows>([&]<int i>() TS_LAMBDA { sum = fma(x[i], load_lanes(p + i * b_depth + j, lanes), sum); });
      store_lanes(sums + j, sum, lanes);
    }
  };
  std::int64_t k = 0;
  for (; k + kRows <= depth; k += kRows) pass.template operator()<kRows>(k);
  for (; k < depth; ++k) pass.template operator()<1>(k);
}

// The next `steps` k of W columns of B (`lanes` of them exist, `column` apart): acc[i] += a[i, k] b[k, :].
// The square is transposed in registers, so that lanes are columns and k stays in order.
template <class T, int MR, bool Whole>
TS_INLINE void square_of_columns(std::int64_t steps, const T* a, std::int64_t a_row, std::int64_t a_depth,
                                 const T* b, std::int64_t column, std::int64_t lanes, Vec<T>* acc) {
  constexpr int W = Vec<T>::width;
  Vec<T> r[W];
  unroll<W>([&]<int x>() TS_LAMBDA {
    r[x] = Whole ? Vec<T>::load(b) : load_lanes(b, Lanes<T>(steps));
    b += x + 1 < lanes ? column : 0;  // beyond the last: that one again
  });
  transpose<T>(r);
  Vec<T> sum[MR];
  unroll<MR>([&]<int i>() TS_LAMBDA { sum[i] = acc[i]; });
  unroll<W>([&]<int s>() TS_LAMBDA {
    if (Whole || s < steps)
      unroll<MR>([&]<int i>() TS_LAMBDA { sum[i] = fma(Vec<T>(a[i * a_row + s * a_depth]), r[s], sum[i]); });
  });
  unroll<MR>([&]<int i>() TS_LAMBDA { acc[i] = sum[i]; });
}

// MR rows of A; B's columns contiguous (b[k + j * b_column]), W of them at a time: more would compete for the
// same sets of cache where columns are a power of two apart.
template <class T, int MR>
[[gnu::noinline]] void rows_times_columns(std::int64_t depth, const T* a, std::int64_t a_row,
                                          std::int64_t a_depth, const T* b, std::int64_t b_column,
                                          std::int64_t n, T* sums, std::int64_t sums_row) {
  constexpr std::int64_t W = Vec<T>::width;
  for (std::int64_t j = 0; j < n; j += W) {
    const T* const first = b + j * b_column;
    const std::int64_t lanes = n - j < W ? n - j : W;
    Vec<T> acc[MR];
    for (auto& x : acc) x = Vec<T>(T(0));
    // A short first step brings the loads to cache lines, so that each line is read once.
    const std::uintptr_t misaligned = reinterpret_cast<std::uintptr_t>(first) / sizeof(T) % W;
    std::int64_t k = 0, steps = misaligned ? W - static_cast<std::int64_t>(misaligned) : W;
    for (; k < depth; k += steps, steps = W) {
      if (steps > depth - k) steps = depth - k;
      const T* pa = a + k * a_depth;
      if (steps == W)
        square_of_columns<T, MR, true>(W, pa, a_row, a_depth, first + k, b_column, lanes, acc);
      else
        square_of_columns<T, MR, false>(steps, pa, a_row, a_depth, first + k, b_column, lanes, acc);
    }
    for (int i = 0; i < MR; ++i) store_lanes(sums + i * sums_row + j, acc[i], Lanes<T>(lanes));
  }
}

}  // namespace ts::cpu::TS_ISA
