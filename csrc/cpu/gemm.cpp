// Matrix products: C[b] = act(A[b] B[b] + bias), any strides.
//
//   c[i, j] = act( sum over blocks of KC of ( sum over k in the block of a[i, k] b[k, j] ) + bias )
//
// M N K = rows of A and C, columns of B and C, depth. MR, NR = rows and columns of the register tile
// (microkernel.h).
//
// An element's bits depend on its own row of A, its own column of B and K, on nothing else: inside a block
// one chain of FMAs in ascending k that starts from 0, blocks added in ascending order, bias and activation
// last. The paths below differ in what they copy, never in that order; C is cut along M and N only, so
// threads do not change it.
//
// Cost: 2 M N K flops; packed operands are read once per piece of C that uses them, C once per block of K.
#include "cpu/gemv.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class T>
constexpr std::int64_t kBlock =
    4096 / static_cast<std::int64_t>(sizeof(T));  // KC; blocks of one K differ by at most 1

// A matrix with strides, in elements.
template <class T>
struct Matrix {
  T* p;
  std::int64_t row, col;
  TS_INLINE Matrix at(std::int64_t i, std::int64_t j) const { return {p + i * row + j * col, row, col}; }
  TS_INLINE Matrix transposed() const { return {p, col, row}; }
};

// What happens to a finished sum. bias is null, or read along the rows of C (col 1) or across them (col 0).
template <class T>
struct Finish {
  Matrix<const T> bias;
  Activation activation;
  TS_INLINE Finish at(std::int64_t i, std::int64_t j) const {
    return {bias.p ? bias.at(i, j) : bias, activation};
  }
  TS_INLINE bool nothing() const { return !bias.p && activation == Activation::none; }
};

// Memory that will be needed soon, a line of it touched in every step of k while a tile computes: `lines`
// lines `stride` bytes apart, then as many from `next` bytes on, `groups` times. A tile is given several,
// one after another; the last has no end.
struct Ahead {
  const char* p;
  std::int64_t stride, next, lines, groups;
};
constexpr std::int64_t kLine = 64;  // bytes

// One tile and one block of K: c = a b, or c += a b, then `finish` where it is given. c has unit column
// stride.
template <class T, int MR, int NV, bool Masked>
void tile(std::int64_t depth, const T* a, std::int64_t a_row, std::int64_t a_depth, const T* b,
          std::int64_t b_depth, T* c, std::int64_t c_row, std::int64_t columns, bool add,
          const Finish<T>* finish, bool fetch_c, const Ahead* ahead) {
  const Lanes<T> lanes(columns - (NV - 1) * Vec<T>::width);
  Tile<T, MR, NV> t;
  t.zero();
  if (fetch_c) {
    for (int i = 0; i < MR; ++i)
      for (int j = 0; j < NV; ++j) __builtin_prefetch(c + i * c_row + j * Vec<T>::width, 0, 2);
  }
  const char* touched = ahead->p;
  for (std::int64_t left = depth, group = 0; left > 0;) {
    const std::int64_t steps = left < ahead->lines ? left : ahead->lines;
    t.template multiply<Masked, (MR * NV >= kRegisters / 2)>(steps, a, a_row, a_depth, b, b_depth, lanes,
                                                             touched, ahead->stride);
    a += steps * a_depth, b += steps * b_depth, left -= steps, touched += ahead->next;
    if (++group == ahead->groups) touched = (++ahead)->p, group = 0;
  }
  if (add) t.add(c, c_row, lanes);
  if (finish) {
    if (finish->bias.p) t.add_bias(finish->bias.p, finish->bias.row, finish->bias.col == 0, lanes);
    if (finish->activation == Activation::relu) t.relu();
  }
  t.store(c, c_row, lanes);
}

template <class T>
using TileFunction = void (*)(std::int64_t, const T*, std::int64_t, std::int64_t, const T*, std::int64_t, T*,
                              std::int64_t, std::int64_t, bool, const Finish<T>*, bool, const Ahead*);

// tiles<T>.of[MR - 1][NV - 1][Masked]; null where the registers do not suffice.
template <class T>
struct Tiles {
  TileFunction<T> of[kMaxRows][kMaxVectors][2];
};
template <class T, int MR, int NV, int Masked>
constexpr TileFunction<T> tile_function() {
  if constexpr (NV > tile_vectors(MR))
    return nullptr;
  else
    return tile < T, MR, NV, kMasksAreFree || Masked > ;
}
template <class T, int... I>
constexpr Tiles<T> make_tiles(std::integer_sequence<int, I...>) {
  return {{tile_function<T, I / (2 * kMaxVectors) + 1, I / 2 % kMaxVectors + 1, I % 2>()...}};
}
template <class T>
constexpr Tiles<T> kTiles = make_tiles<T>(std::make_integer_sequence<int, kMaxRows * kMaxVectors * 2>{});

// How K is cut: blocks of at most KC whose depths differ by at most one. By K alone.
struct Blocks {
  std::int64_t count, deepest, deep;  // the first `deep` have depth `deepest`, the others one less
  TS_INLINE Blocks(std::int64_t k, std::int64_t most) {
    count = k > most ? (k + most - 1) / most : 1;
    deepest = (k + count - 1) / count;
    deep = count - (deepest * count - k);
  }
  TS_INLINE std::int64_t depth(std::int64_t i) const { return i < deep ? deepest : deepest - 1; }
  TS_INLINE std::int64_t first(std::int64_t i) const { return i * deepest - (i > deep ? i - deep : 0); }
};

// C (m x n) = finish(A B) on one thread; c.col == 1.
template <class T>
struct Product {
  std::int64_t m, n, k;
  Matrix<const T> a, b;
  Matrix<T> c;
  Finish<T> finish;
  const T* a_packed;  // by pack_a, or null: A is read where it lies
  bool pack_b;
  bool prefetch;  // the operands come from beyond L2
};

constexpr std::int64_t kRowsOnce = 70;                    // MC: a block of A fills a quarter of L2
constexpr std::int64_t kPackedB = std::int64_t{4} << 20;  // bytes of B packed at a time
constexpr std::int64_t kPackedA = std::int64_t{16}
                                  << 20;  // bytes of A packed at a time, shared by all pieces
constexpr std::int64_t kBeyondL2 = std::int64_t{3}
                                   << 20;  // operands of more bytes than this are fetched ahead

// The part of A that one piece packs: kStrip steps of one block of K for kGroup panels. Block k0 begins at
// k0 * m.
constexpr std::int64_t kStrip = 64, kGroup = 32;

template <class T>
void pack_a(T* dst, Matrix<const T> a, std::int64_t m, std::int64_t k, std::int64_t block, std::int64_t strip,
            std::int64_t group) {
  const Panels rows(m, kMaxRows, 1);
  const Blocks blocks(k, kBlock<T>);
  const std::int64_t k0 = blocks.first(block), depth = blocks.depth(block), i0 = rows.first(group * kGroup);
  const std::int64_t begin = strip * kStrip, end = begin + kStrip < depth ? begin + kStrip : depth;
  const std::int64_t panels = rows.count - group * kGroup < kGroup ? rows.count : (group + 1) * kGroup;
  pack<T>(dst + k0 * m + i0 * depth, rows.part(group * kGroup, panels), depth, begin, end, a.at(i0, k0).p,
          a.row, a.col);
}

// The panels of B of one piece, packed a slice at a time between the tiles of the panel before, which fetch
// the slice meanwhile. Slices are thin, because rows of B a power of two apart share few sets of cache.
//
// One panel more than a block of K has: the spare one takes the first panel of the next block.
template <class T>
struct PackedColumns {
  Matrix<const T> b;
  const Panels& columns;
  const Blocks& blocks;
  std::int64_t column0, column1, slots;
  T* const packed = static_cast<T*>(scratch());
  // The panel in the making, and how much of it is done.
  std::int64_t block = 0, q = 0, done = 0, depth = 0;

  TS_INLINE T* panel(std::int64_t at_block, std::int64_t at) const {
    const std::int64_t slot = (at_block * (slots - 1) + at - column0) % slots;
    return packed + slot * columns.width * blocks.deepest;
  }
  TS_INLINE void begin(std::int64_t at_block, std::int64_t at) {
    block = at_block, q = at, done = 0, depth = blocks.depth(block);
  }
  TS_INLINE void slice() {
    if (done == depth) return;
    const std::int64_t end = done + kStrip < depth ? done + kStrip : depth;
    pack<T>(panel(block, q), columns.part(q, q + 1), depth, done, end,
            b.at(blocks.first(block), columns.first(q)).p, b.col, b.row);
    done = end;
  }
  TS_INLINE void finish() {
    while (done < depth) slice();
  }
  // The lines of the next slice.
  TS_INLINE Ahead ahead() const {
    constexpr std::int64_t size = sizeof(T);
    const T* const p = b.at(blocks.first(block) + done, columns.first(q)).p;
    const std::int64_t steps = depth - done < kStrip ? depth - done : kStrip, width = columns.width_of(q);
    if (b.col == 1)
      return {reinterpret_cast<const char*>(p), b.row * size, kLine, steps,
              (width * size + 2 * kLine - 2) / kLine};
    return {reinterpret_cast<const char*>(p), b.col * size, kLine, width,
            (steps * size + 2 * kLine - 2) / kLine};
  }
};

template <class T>
void multiply(const Product<T>& p) {
  constexpr std::int64_t W = Vec<T>::width;
  constexpr std::int64_t size = sizeof(T);
  const Panels rows(p.m, p.a_packed ? kMaxRows : kRowsInPlace, 1);
  const std::int64_t rows_once = kRowsOnce / (p.a_packed ? kMaxRows : kRowsInPlace);  // panels
  const Panels columns(p.n, tile_vectors(static_cast<int>(rows.width)) * W, W);
  const Blocks blocks(p.k, kBlock<T>);
  std::int64_t columns_once = columns.count;
  if (p.pack_b) {
    columns_once = kPackedB / size / ((blocks.deepest + 1) * columns.width);
    if (columns_once < 1) columns_once = 1;
  }

  for (std::int64_t column0 = 0; column0 < columns.count; column0 += columns_once) {
    const std::int64_t column1 =
        column0 + columns_once < columns.count ? column0 + columns_once : columns.count;
    PackedColumns<T> packing{p.b, columns, blocks, column0, column1, column1 - column0 + 1};
    if (p.pack_b) packing.begin(0, column0), packing.finish();
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      const std::int64_t depth = blocks.depth(block), k0 = blocks.first(block);
      const bool last = block == blocks.count - 1;
      for (std::int64_t row0 = 0; row0 < rows.count; row0 += rows_once) {
        const std::int64_t row1 = row0 + rows_once < rows.count ? row0 + rows_once : rows.count;
        const Ahead nothing{reinterpret_cast<const char*>(p.b.p), 0, 0, depth, 0};
        Ahead ahead[3] = {nothing, nothing, nothing};
        // The rows of A that come next.
        Ahead next_a{};
        if (p.prefetch && rows.count > rows_once && !(row1 == rows.count && last)) {
          const bool wrap = row1 == rows.count;
          const std::int64_t i = wrap ? 0 : rows.first(row1), k1 = wrap ? k0 + depth : k0;
          const std::int64_t end = (wrap ? 0 : row1) + rows_once;
          const std::int64_t height = (end < rows.count ? rows.first(end) : p.m) - i;
          if (p.a_packed)
            next_a = {reinterpret_cast<const char*>(p.a_packed + k1 * p.m + i * depth), kLine, 32 * kLine, 32,
                      height * depth * size / (32 * kLine)};
          else if (p.a.col == 1)
            next_a = {reinterpret_cast<const char*>(p.a.at(i, k1).p), kLine, p.a.row * size,
                      (depth * size + 2 * kLine - 2) / kLine, height};
        }
        for (std::int64_t q = column0; q < column1; ++q) {
          const std::int64_t j = columns.first(q), n = columns.lanes(q);
          const int nv = static_cast<int>(columns.width_of(q) / W);
          const bool masked = !p.pack_b && n % W != 0;
          const T* b = p.b.at(k0, j).p;
          std::int64_t b_depth = p.b.row;
          if (p.pack_b) {
            packing.finish();
            b = packing.panel(block, q), b_depth = nv * W;
            if (row0 == 0 && q + 1 < column1)
              packing.begin(block, q + 1);
            else if (row1 == rows.count && q + 1 == column1 && !last)
              packing.begin(block + 1, column0);
          }
          for (std::int64_t r = row0; r < row1; ++r) {
            const std::int64_t i = rows.first(r), h = rows.width_of(r);
            const T* a = p.a_packed ? p.a_packed + k0 * p.m + i * depth : p.a.at(i, k0).p;
            const Finish<T> finish = p.finish.at(i, j);
            if (p.prefetch) {
              Ahead* next = ahead;
              std::int64_t left = depth;
              if (packing.done < packing.depth) {
                *next = packing.ahead();
                left -= next->lines * next->groups;
                ++next;
              }
              if (next_a.groups > 0 && left > 0) {
                *next = next_a;
                const std::int64_t groups = (left + next_a.lines - 1) / next_a.lines;
                next_a.p += groups * next_a.next, next_a.groups -= groups;
                ++next;
              }
              *next = nothing;
            }
            kTiles<T>.of[h - 1][nv - 1][masked](depth, a, p.a_packed ? 1 : p.a.row, p.a_packed ? h : p.a.col,
                                                b, b_depth, p.c.at(i, j).p, p.c.row, n, block > 0,
                                                last ? &finish : nullptr, p.prefetch, ahead);
            if (p.pack_b && p.prefetch) packing.slice();
          }
        }
      }
    }
  }
}

// The same for few rows and a B too big to be read twice: gemv.h, then C a row at a time.
constexpr std::int64_t kFewRows = 8;

template <class T>
using FewFunction = void (*)(std::int64_t, const T*, std::int64_t, std::int64_t, const T*, std::int64_t,
                             std::int64_t, T*, std::int64_t);
// few_rows<T>.of[B's columns are contiguous][rows - 1]
template <class T>
struct FewFunctions {
  FewFunction<T> of[2][kFewRows];
};
template <class T, int... I>
constexpr FewFunctions<T> make_few(std::integer_sequence<int, I...>) {
  return {{{rows_times_rows<T, I + 1>...}, {rows_times_columns<T, I + 1>...}}};
}
template <class T>
constexpr FewFunctions<T> kFew = make_few<T>(std::make_integer_sequence<int, kFewRows>{});

template <class T>
bool few_rows(const Product<T>& p) {
  if (p.b.col == 1) return p.n >= 64 && (p.m == 1 || (p.m > 4 && p.m <= kFewRows && p.prefetch));
  return p.m <= kFewRows && p.b.row == 1;
}

template <class T>
void multiply_few(const Product<T>& p) {
  constexpr std::int64_t kColumns = 512;  // the sums of 8 rows fill a third of L1, in float64 two thirds
  constexpr std::int64_t W = Vec<T>::width;
  T* const sums = static_cast<T*>(scratch());
  const Blocks blocks(p.k, kBlock<T>);
  for (std::int64_t j0 = 0; j0 < p.n; j0 += kColumns) {
    const std::int64_t n = p.n - j0 < kColumns ? p.n - j0 : kColumns;
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      const std::int64_t k0 = blocks.first(block), depth = blocks.depth(block);
      const T *a = p.a.at(0, k0).p, *b = p.b.at(k0, j0).p;
      const bool columns = p.b.col != 1;
      kFew<T>.of[columns][p.m - 1](depth, a, p.a.row, p.a.col, b, columns ? p.b.col : p.b.row, n, sums,
                                   kColumns);
      for (std::int64_t i = 0; i < p.m; ++i)
        for (std::int64_t j = 0; j < n; j += W) {
          const Lanes<T> lanes(n - j < W ? n - j : W);
          Tile<T, 1, 1> t;
          t.acc[0][0] = load_lanes(sums + i * kColumns + j, lanes);
          T* const c = p.c.at(i, j0 + j).p;
          if (block > 0) t.add(c, 0, lanes);
          if (block + 1 == blocks.count) {
            const Finish<T> f = p.finish.at(i, j0 + j);
            if (f.bias.p) t.add_bias(f.bias.p, 0, f.bias.col == 0, lanes);
            if (f.activation == Activation::relu) t.relu();
          }
          t.store(c, 0, lanes);
        }
    }
  }
}

// c = finish(sums) where strides allow no vectors: C or its bias with no unit stride.
template <class T>
void finish_elements(std::int64_t m, std::int64_t n, Matrix<const T> sums, Finish<T> finish, Matrix<T> c) {
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      T x = *sums.at(i, j).p;
      if (finish.bias.p) x = x + *finish.bias.at(i, j).p;
      if (finish.activation == Activation::relu && x < T(0)) x = T(0);
      *c.at(i, j).p = x;
    }
}

// Packing costs a pass over the operand: worth it where tiles would read it often, or in an order that
// vectors, cache sets or the TLB do not like.
template <class T>
bool worth_packing_a(Matrix<const T> a, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t size = sizeof(T);
  if (m < 4 || n <= 64 || m * k * size <= 32 * 1024 || kMaxRows * k * size > kPackedA) return false;
  return a.col != 1;
}
template <class T>
bool worth_packing_b(Matrix<const T> b, std::int64_t m, std::int64_t n, std::int64_t k) {
  if (b.col != 1 && n > 1) return true;
  return m > 4 * kMaxRows && k * n > 64 * 64;
}

// Where C is cut: `rows` x `columns` pieces of each matrix, or `together` matrices to a piece. By size alone.
struct Cut {
  std::int64_t rows, columns, together, matrices;
  TS_INLINE std::int64_t pieces() const { return rows * columns * ((matrices + together - 1) / together); }
};
inline Cut cut(std::int64_t matrices, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr double kSmall = 2e6, kLarge = 6e8;               // flops: 10 us and 3 ms at 200 GF/s
  constexpr std::int64_t kAreaMost = std::int64_t{1} << 20;  // elements of C in a piece
  const double dm = static_cast<double>(m), dn = static_cast<double>(n), dk = static_cast<double>(k);
  const double flops =
      2 * dm * dn * dk + 16 * (dm * dk + dk * dn + dm * dn);  // an element read: as long as 16 flops
  Cut c{1, 1, 1, matrices};
  if (flops < kSmall) {
    c.together = static_cast<std::int64_t>(kSmall / flops) + 1;
    return c;
  }
  std::int64_t pieces = static_cast<std::int64_t>(flops / kLarge) + 1;
  const std::int64_t least = matrices > 4          ? 1
                             : m <= kFewRows       ? 2
                             : flops > 64 * kSmall ? 8
                             : flops > 8 * kSmall  ? 4
                             : flops > 2 * kSmall  ? 2
                                                   : 1;
  if (pieces < least) pieces = least;
  while (m * n / pieces > kAreaMost) pieces *= 2;
  // Columns first: every column of B is then packed by one piece alone.
  const std::int64_t most_columns = n >= 256 ? n / 64 : n >= 64 ? n / 32 : 1;
  c.columns = most_columns < pieces ? most_columns : pieces;
  c.rows = (pieces + c.columns - 1) / c.columns;
  const std::int64_t most_rows = c.columns > 1 ? (m + 63) / 64 : (m + 15) / 16;
  if (c.rows > most_rows) c.rows = most_rows;
  return c;
}

// One matrix product or a batch of them, vectors along the rows of C.
template <class T>
struct Problem {
  std::int64_t matrices, m, n, k;
  Matrix<const T> a, b, bias;
  Matrix<T> c;
  std::int64_t step_a, step_b, step_c, step_bias;  // from matrix to matrix
  Activation activation;
  bool elementwise;  // C or the bias is finished element by element

  // C' = B' A'.
  TS_INLINE void transpose() {
    const Matrix<const T> t = a.transposed();
    a = b.transposed(), b = t, c = c.transposed(), bias = bias.transposed();
    const std::int64_t s = step_a, length = m;
    step_a = step_b, step_b = s, m = n, n = length;
  }

  // C's rows [i, i + height) and columns [j, j + width) of one matrix; `a_packed` as in Product.
  void piece(std::int64_t matrix, std::int64_t i, std::int64_t height, std::int64_t j, std::int64_t width,
             const T* a_packed) const {
    Product<T> p{height,   width, k,    a.at(i, 0), b.at(0, j), c.at(i, j), {bias, activation},
                 a_packed, false, false};
    p.a.p += matrix * step_a, p.b.p += matrix * step_b, p.c.p += matrix * step_c;
    if (bias.p) p.finish.bias.p = bias.at(i, j).p + matrix * step_bias;
    p.pack_b = worth_packing_b(p.b, height, width, k);
    p.prefetch = (m + n) * k * static_cast<std::int64_t>(sizeof(T)) > kBeyondL2;
    if (!elementwise) return few_rows(p) ? multiply_few(p) : multiply(p);
    T* const sums = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
    const Finish<T> finish = p.finish;
    const Matrix<T> target = p.c;
    p.c = {sums, width, 1}, p.finish = {{}, Activation::none};
    few_rows(p) ? multiply_few(p) : multiply(p);
    finish_elements<T>(height, width, {sums, width, 1}, finish, target);
  }

  void run() const {
    const Cut parts = cut(matrices, m, n, k);
    const Panels across(n, (n + parts.columns * 32 - 1) / (parts.columns * 32) * 32, 32);
    const auto each = [&](std::int64_t matrix, std::int64_t row0, std::int64_t rows, std::int64_t count,
                          std::int64_t index, const T* a_packed) {
      const Panels down(rows, (rows + count - 1) / count, 1);
      const std::int64_t q = index / down.count, r = index % down.count;
      piece(matrix, row0 + down.first(r), down.width_of(r), across.first(q), across.lanes(q), a_packed);
    };
    if (!worth_packing_a(a, m, n, k)) {
      const Panels down(m, (m + parts.rows - 1) / parts.rows, 1);
      const std::int64_t cuts = down.count * across.count;
      parallel_for((matrices + parts.together - 1) / parts.together * cuts, [&](std::int64_t index) {
        const std::int64_t first = index / cuts * parts.together;
        const std::int64_t end = first + parts.together < matrices ? first + parts.together : matrices;
        for (std::int64_t matrix = first; matrix < end; ++matrix)
          each(matrix, 0, m, parts.rows, index % cuts, nullptr);
      });
      return;
    }
    // A is packed once, for all pieces, some MiB of it at a time.
    T* const packed = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 4;
    const Blocks blocks(k, kBlock<T>);
    std::int64_t most = kPackedA / sizeof(T) / k / kMaxRows * kMaxRows;
    if (most < kMaxRows) most = kMaxRows;
    const Panels chunks(m, most, 1);
    for (std::int64_t matrix = 0; matrix < matrices; ++matrix)
      for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk) {
        const std::int64_t row0 = chunks.first(chunk), rows = chunks.width_of(chunk);
        Matrix<const T> here = a.at(row0, 0);
        here.p += matrix * step_a;
        const std::int64_t strips = (blocks.deepest + kStrip - 1) / kStrip;
        const std::int64_t groups = (Panels(rows, kMaxRows, 1).count + kGroup - 1) / kGroup;
        parallel_for(blocks.count * strips * groups, [&](std::int64_t index) {
          pack_a<T>(packed, here, rows, k, index / groups / strips, index / groups % strips, index % groups);
        });
        parallel_for(across.count, [&](std::int64_t index) { each(matrix, row0, rows, 1, index, packed); });
      }
  }
};

template <class T>
void gemm_floating(In a, In b, In bias, Out c, Activation activation) {
  Problem<T> p;
  p.matrices = c.shape[0], p.m = c.shape[1], p.n = c.shape[2], p.k = a.shape[2];
  if (p.matrices == 0 || p.m == 0 || p.n == 0) return;
  p.a = {a.as<T>(), a.strides[1], a.strides[2]}, p.b = {b.as<T>(), b.strides[1], b.strides[2]};
  p.c = {c.as<T>(), c.strides[1], c.strides[2]}, p.bias = {bias.as<T>(), 0, 0};
  p.step_a = a.strides[0], p.step_b = b.strides[0], p.step_c = c.strides[0], p.step_bias = 0;
  p.activation = activation;
  if (bias) {
    p.bias.col = bias.strides[bias.ndim - 1];
    if (bias.ndim == 3) p.step_bias = bias.strides[0], p.bias.row = bias.strides[1];
  }
  // A batch that shares B is one product.
  if (p.matrices > 1 && p.step_b == 0 && p.step_a == p.m * p.a.row && p.step_c == p.m * p.c.row &&
      p.step_bias == p.m * p.bias.row) {
    p.m *= p.matrices;
    p.matrices = 1;
  }
  // Vectors run along the rows of C; where only its columns have unit stride, along those.
  if ((p.c.col != 1 && p.c.row == 1 && p.m > 1) || (p.n == 1 && p.m > 1)) p.transpose();
  p.elementwise = (p.c.col != 1 && p.n > 1) || (p.bias.p && p.bias.col != 0 && p.bias.col != 1 && p.n > 1);
  if (p.n == 1) p.bias.col = 1;
  p.run();
}

// Integers wrap around. One row of C at a time, a block of its columns at a time.
template <class T>
void gemm_integer(In a, In b, In bias, Out c, Activation activation) {
  using U = std::make_unsigned_t<T>;
  using Sum = std::conditional_t<(sizeof(T) < 4), std::uint32_t, U>;  // no promotion to a signed int
  const std::int64_t m = c.shape[1], n = c.shape[2], k = a.shape[2];
  constexpr std::int64_t kColumns = 256;
  const std::int64_t grain = 1 + 1000000 / (n * k + 16);
  parallel_ranges(c.shape[0] * m, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t matrix = row / m, i = row % m;
      const T* pa = a.as<T>() + matrix * a.strides[0] + i * a.strides[1];
      T* pc = c.as<T>() + matrix * c.strides[0] + i * c.strides[1];
      for (std::int64_t j0 = 0; j0 < n; j0 += kColumns) {
        const std::int64_t width = n - j0 < kColumns ? n - j0 : kColumns;
        Sum sum[kColumns] = {};
        for (std::int64_t l = 0; l < k; ++l) {
          const Sum x = static_cast<Sum>(pa[l * a.strides[2]]);
          const T* pb = b.as<T>() + matrix * b.strides[0] + l * b.strides[1] + j0 * b.strides[2];
          if (b.strides[2] == 1)
            for (std::int64_t j = 0; j < width; ++j) sum[j] += x * static_cast<Sum>(pb[j]);
          else
            for (std::int64_t j = 0; j < width; ++j) sum[j] += x * static_cast<Sum>(pb[j * b.strides[2]]);
        }
        for (std::int64_t j = 0; j < width; ++j) {
          Sum x = sum[j];
          if (bias && bias.ndim == 1) x += static_cast<Sum>(bias.as<T>()[(j0 + j) * bias.strides[0]]);
          if (bias && bias.ndim == 3)
            x += static_cast<Sum>(
                bias.as<T>()[matrix * bias.strides[0] + i * bias.strides[1] + (j0 + j) * bias.strides[2]]);
          const T y = static_cast<T>(x);
          pc[(j0 + j) * c.strides[2]] = activation == Activation::relu && y < T(0) ? T(0) : y;
        }
      }
    }
  });
}

}  // namespace

void gemm(In a, In b, In bias, Out c, Activation activation) {
  with_wide(c.dtype, [&]<class T>(Type<T>) {
    if constexpr (std::is_floating_point_v<T>)
      gemm_floating<T>(a, b, bias, c, activation);
    else
      gemm_integer<T>(a, b, bias, c, activation);
  });
}

}  // namespace ts::cpu::TS_ISA
