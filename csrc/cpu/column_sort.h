// Sorting what fits in registers: R registers of W lanes are W columns of R keys.
//
// Every column is sorted by Batcher's odd-even network, whole registers at a time and without a shuffle; then
// columns are merged in pairs, fours, ... by bitonic steps, of which only log2 of the columns are inside
// registers. In the result, key number lane * R + row comes next; turning that into memory order is log2 R
// rounds of interleaving. For 16 x 8 keys: 63 + 96 exchanges of registers, 96 of lanes and 64 shuffles.
#pragma once

#include <utility>

#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

// The pairs (i, j), i < j, of Batcher's odd-even merge sort of n keys, n a power of two.
struct Exchange {
  int low, high;
};
template <int n>
constexpr int count_exchanges() {
  int count = 0;
  for (int p = 1; p < n; p *= 2)
    for (int k = p; k > 0; k /= 2)
      for (int j = k % p; j + k < n; j += 2 * k)
        for (int i = j; i < j + k && i + k < n; ++i) count += i / (2 * p) == (i + k) / (2 * p);
  return count;
}
template <int n>
struct Exchanges {
  static constexpr int count = count_exchanges<n>();
  Exchange list[count];
};
template <int n>
constexpr Exchanges<n> list_exchanges() {
  Exchanges<n> all{};
  int count = 0;
  for (int p = 1; p < n; p *= 2)
    for (int k = p; k > 0; k /= 2)
      for (int j = k % p; j + k < n; j += 2 * k)
        for (int i = j; i < j + k && i + k < n; ++i)
          if (i / (2 * p) == (i + k) / (2 * p)) all.list[count++] = {i, i + k};
  return all;
}

template <class K, int R>
struct Columns {
  using V = Vec<K>;
  static constexpr int W = V::width;
  using Lanes = std::make_integer_sequence<int, W>;
  using Rows = std::make_integer_sequence<int, R>;

  V row[R];

  TS_INLINE static void exchange(V& a, V& b) {
    const V low = min(a, b), high = max(a, b);
    a = low, b = high;
  }

  template <int... I>
  TS_INLINE void sort_columns(std::integer_sequence<int, I...>) {
    constexpr Exchanges<R> all = list_exchanges<R>();
    (exchange(row[all.list[I].low], row[all.list[I].high]), ...);
  }
  TS_INLINE void sort_columns() { sort_columns(std::make_integer_sequence<int, Exchanges<R>::count>{}); }

  template <int Bits, int... I>
  TS_INLINE static V swapped(V v, std::integer_sequence<int, I...>) {  // lane i is lane i ^ Bits
    return __builtin_shuffle(v.r, typename V::MaskReg{static_cast<IntOf<K>>(I ^ Bits)...});
  }
  // Where bit `Bit` of the lane is 0 from `low`, elsewhere from `high`.
  template <int Bit, int... I>
  TS_INLINE static V mixed(V low, V high, std::integer_sequence<int, I...>) {
    return select(Mask<K>(typename V::MaskReg{static_cast<IntOf<K>>(I & Bit ? 0 : -1)...}), low, high);
  }

  // Lane i against lane i ^ Bits; the smaller goes where bit `Bit` of the lane is 0.
  template <int Bits, int Bit>
  TS_INLINE static void exchange_lanes(V& v) {
    const V other = swapped<Bits>(v, Lanes{});
    v = mixed<Bit>(min(v, other), max(v, other), Lanes{});
  }
  // In groups of G columns, row i against row R - 1 - i of the opposite column.
  template <int G>
  TS_INLINE static void exchange_opposite(V& a, V& b) {
    const V other = swapped<G - 1>(b, Lanes{});
    const V low = min(a, other), high = max(a, other);
    a = mixed<G / 2>(low, high, Lanes{});
    b = swapped<G - 1>(mixed<G / 2>(high, low, Lanes{}), Lanes{});
  }
  template <int Stride, int... I>
  TS_INLINE void exchange_rows(std::integer_sequence<int, I...>) {
    ((I & Stride ? void() : exchange(row[I], row[I | Stride])), ...);
  }
  template <int Stride>
  TS_INLINE void merge_lanes() {
    if constexpr (Stride > 0) {
      for (int i = 0; i < R; ++i) exchange_lanes<Stride, Stride>(row[i]);
      merge_lanes<Stride / 2>();
    }
  }
  template <int Stride>
  TS_INLINE void merge_rows() {
    if constexpr (Stride > 0) {
      exchange_rows<Stride>(Rows{});
      merge_rows<Stride / 2>();
    }
  }
  // Sorted groups of G / 2 columns into sorted groups of G.
  template <int G>
  TS_INLINE void merge() {
    if constexpr (R == 1) {
      exchange_lanes<G - 1, G / 2>(row[0]);
    } else {
      for (int i = 0; i < R / 2; ++i) exchange_opposite<G>(row[i], row[R - 1 - i]);
    }
    merge_lanes<G / 4>();
    merge_rows<R / 2>();
    if constexpr (G < W) merge<2 * G>();
  }

  // a[k], b[k], a[k + 1], ... from k = First on.
  template <int First, int... I>
  TS_INLINE static V interleaved(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shuffle(a.r, b.r,
                             typename V::MaskReg{static_cast<IntOf<K>>(I % 2 * W + First + I / 2)...});
  }
  // From columns one after another to rows: each round moves a bit of the row below those of the lane.
  TS_INLINE void transpose() {
    for (int round = 1; round < R; round *= 2) {
      V next[R];
      for (int i = 0; i < R / 2; ++i) {
        next[2 * i] = interleaved<0>(row[i], row[i + R / 2], Lanes{});
        next[2 * i + 1] = interleaved<W / 2>(row[i], row[i + R / 2], Lanes{});
      }
      for (int i = 0; i < R; ++i) row[i] = next[i];
    }
  }

  TS_INLINE void sort() {
    if constexpr (R > 1) sort_columns();
    merge<2>();
    transpose();
  }
};

}  // namespace ts::cpu::TS_ISA
