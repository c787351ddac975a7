// The reduction tree across neighbouring outputs: a register holds the same element of many reductions.
//
// K rows of w outputs. The additions are those of reduce.h: for each of the L lanes the four chains are
// summed side by side, a row of every chain at a time, and the lanes are folded in bit-reversed order, which
// needs a stack of log2 L registers. Reads x once.
#pragma once

#include "cpu/axes.h"
#include "cpu/reduce.h"

namespace ts::cpu::TS_ISA {

constexpr int bit_reverse(int v, int bits) {
  int r = 0;
  for (int i = 0; i < bits; ++i) r |= ((v >> i) & 1) << (bits - 1 - i);
  return r;
}
constexpr int log2_of(int v) { return v <= 1 ? 0 : 1 + log2_of(v / 2); }

// N results for V registers of neighbouring outputs.
template <class T, int N, int V>
struct Tile {
  Vec<T> v[N][V];
};

template <class Op, class T, int N, int V>
TS_INLINE Tile<T, N, V> apply(const Tile<T, N, V>& a, const Tile<T, N, V>& b) {
  Tile<T, N, V> c;
  for (int k = 0; k < N; ++k)
    for (int v = 0; v < V; ++v) c.v[k][v] = Op::apply(a.v[k][v], b.v[k][v]);
  return c;
}

// How many chains of a lane are added at once: as many as registers hold.
template <int N, int V>
constexpr int kChainsOnce = kTreeParts > 1 && N* V > 2 ? 2 : kTreeChains;

// One leaf of n rows, in their order: the sums of lanes and chains wait in a table, four rows of each are
// taken at once.
template <class Op, class T, int N, int V, class Take>
TS_INLINE Tile<T, N, V> leaf_in_order(std::int64_t n, const Take& take) {
  constexpr int L = kTreeLanes<T>, kBits = log2_of(L), kOnce = 4;
  constexpr std::int64_t kSlots = kStripe<T>;
  Vec<T> table[kSlots][V][N];
  std::int64_t row = 0;
  for (; row + kOnce * kSlots <= n; row += (kOnce - 1) * kSlots)
    for (std::int64_t slot = 0; slot < kSlots; ++slot, ++row) {
      Vec<T> sum[V][N];
      for (int v = 0; v < V; ++v)
        for (int k = 0; k < N; ++k)
          sum[v][k] = row == slot ? Vec<T>(Op::template identity<T>) : table[slot][v][k];
#pragma GCC unroll 4
      for (int j = 0; j < kOnce; ++j)
        for (int v = 0; v < V; ++v) take(sum[v], row + j * kSlots, v);
      for (int v = 0; v < V; ++v)
        for (int k = 0; k < N; ++k) table[slot][v][k] = sum[v][k];
    }
  for (; row < n; ++row)
    for (int v = 0; v < V; ++v) take(table[row % kSlots][v], row, v);
  Tile<T, N, V> stack[kBits + 1];
  int top = 0;
  for (int visit = 0; visit < L; ++visit) {
    const int lane = bit_reverse(visit, kBits);
    Tile<T, N, V> sum;
    for (int v = 0; v < V; ++v)
      for (int k = 0; k < N; ++k)
        sum.v[k][v] = Op::apply(Op::apply(table[lane][v][k], table[lane + L][v][k]),
                                Op::apply(table[lane + 2 * L][v][k], table[lane + 3 * L][v][k]));
    for (int carry = visit; carry & 1; carry >>= 1) sum = apply<Op>(stack[--top], sum);
    stack[top++] = sum;
  }
  return stack[0];
}

// One leaf of n rows. take(sums, row, v) takes row `row` of the v-th register into sums[0..N).
template <class Op, class T, int N, int V, class Take>
TS_INLINE Tile<T, N, V> leaf_columns(std::int64_t n, const Take& take) {
  constexpr int L = kTreeLanes<T>, kBits = log2_of(L), kOnce = kChainsOnce<N, V>;
  if constexpr (kTreeParts > 1 && N > 1)
    if (n >= 4 * kStripe<T>) return leaf_in_order<Op, T, N, V>(n, take);
  Tile<T, N, V> none;
  for (int k = 0; k < N; ++k)
    for (int v = 0; v < V; ++v) none.v[k][v] = Vec<T>(Op::template identity<T>);
  Tile<T, N, V> stack[kBits + 1];
  int top = 0;
  for (int visit = 0; visit < L; ++visit) {
    const int lane = bit_reverse(visit, kBits);
    Tile<T, N, V> sum = none;
    if (lane < n && lane + L >= n) {  // one row: the other chains would add nothing
      Vec<T> one[V][N];
      for (int v = 0; v < V; ++v) {
        for (int k = 0; k < N; ++k) one[v][k] = none.v[k][v];
        take(one[v], lane, v);
        for (int k = 0; k < N; ++k) sum.v[k][v] = one[v][k];
      }
    } else if (lane < n) {
      // Of chains first, first + 1, ...: the sum of each two.
      const auto add = [&](int first, Tile<T, N, V>* pairs) __attribute__((always_inline)) {
        Vec<T> chain[kOnce][V][N];
#pragma GCC unroll 16
        for (int j = 0; j < kOnce; ++j)
          for (int v = 0; v < V; ++v)
            for (int k = 0; k < N; ++k) chain[j][v][k] = none.v[k][v];
        std::int64_t row = lane + first * L;
        for (; row + (kOnce - 1) * L < n; row += kStripe<T>) {
#pragma GCC unroll 16
          for (int j = 0; j < kOnce; ++j)
            for (int v = 0; v < V; ++v) take(chain[j][v], row + j * L, v);
        }
#pragma GCC unroll 16
        for (int j = 0; j < kOnce - 1; ++j)
          if (row + j * L < n)
            for (int v = 0; v < V; ++v) take(chain[j][v], row + j * L, v);
#pragma GCC unroll 2
        for (int j = 0; j < kOnce; j += 2)
          for (int v = 0; v < V; ++v)
            for (int k = 0; k < N; ++k) pairs[j / 2].v[k][v] = Op::apply(chain[j][v][k], chain[j + 1][v][k]);
      };
      Tile<T, N, V> pairs[2];
      add(0, pairs);
      if constexpr (kOnce < kTreeChains) add(2, pairs + 1);
      sum = apply<Op>(pairs[0], pairs[1]);
    }
    for (int carry = visit; carry & 1; carry >>= 1) sum = apply<Op>(stack[--top], sum);
    stack[top++] = sum;
  }
  return stack[0];
}

// Rows [begin, end), begin a multiple of the leaf. rows(begin, end) prepares what `take` reads and returns
// it.
template <class Op, class T, int N, int V, class Rows>
inline Tile<T, N, V> tree_columns(std::int64_t begin, std::int64_t end, const Rows& rows) {
  Tile<T, N, V> stack[48];
  int top = 0;
  std::int64_t count = 0;
  for (std::int64_t i = begin; i < end; i += kLeaf<T>, ++count) {
    const std::int64_t n = end - i < kLeaf<T> ? end - i : kLeaf<T>;
    Tile<T, N, V> sum = leaf_columns<Op, T, N, V>(n, rows(i, n));
    for (std::int64_t carry = count; carry & 1; carry >>= 1) sum = apply<Op>(stack[--top], sum);
    stack[top++] = sum;
  }
  Tile<T, N, V> sum = stack[--top];
  while (top > 0) sum = apply<Op>(stack[--top], sum);
  return sum;
}

}  // namespace ts::cpu::TS_ISA
