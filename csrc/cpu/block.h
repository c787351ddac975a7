// Products of blocks that lie in cache, by the register tile: for kernels that are made of many small
// products (attention, recurrent cells, factorisations).
//
//   c[i, j] = start + sum over k of a[i, k] b[k, j]      one chain of FMAs per element, k ascending
//
// M N K = rows and columns of C, depth. A has any strides. B has rows of whole registers: packed in the
// panels of pack.h, or where it lies, padded. C has unit stride along N and exact rows.
#pragma once

#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

// What the sums start from: c = ab, c = c + ab, c = c - ab.
enum class Start { zero, add, subtract };

// Columns for a C of `m` rows: as wide a tile as its heights leave registers for.
template <class T>
TS_INLINE Panels block_columns(std::int64_t m, std::int64_t n) {
  const int height = static_cast<int>(Panels(m, kMaxRows, 1).width), most = tile_vectors(height);
  return Panels(n, (most < 4 ? most : 4) * Vec<T>::width, Vec<T>::width);
}

// The panel of column j begins at b + j * b_column. b_row 0: it is packed, as deep as b_column says;
// otherwise its rows lie b_row apart (and b_column is 1).
template <class T>
void multiply_block(std::int64_t m, const Panels& columns, std::int64_t depth, const T* a, std::int64_t a_row,
                    std::int64_t a_depth, const T* b, std::int64_t b_row, std::int64_t b_column, T* c,
                    std::int64_t c_row, Start start);

#define TS_MULTIPLY_BLOCK(T)                                                                            \
  template void multiply_block<T>(std::int64_t, const Panels&, std::int64_t, const T*, std::int64_t,    \
                                  std::int64_t, const T*, std::int64_t, std::int64_t, T*, std::int64_t, \
                                  Start);
extern TS_MULTIPLY_BLOCK(float) extern TS_MULTIPLY_BLOCK(double)

}  // namespace ts::cpu::TS_ISA
