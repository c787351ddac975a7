// One matrix product on one thread: C = act(A B + bias), A by any strides, C with unit column stride.
//
// M N K = rows of A and C, columns of B and C, depth. Loops from the outside: columns that kPackedB holds,
// blocks of K, kRowsOnce rows of A, panels of B, tiles. The order of every sum is gemm.cpp's.
//
// Cost: 2 M N K flops; reads A once per kPackedB of B, B once, C once per block of K.
#pragma once

#include "core/caches.h"
#include "core/epilogue.h"
#include "core/kept_scratch.h"
#include "cpu/gemv.h"
#include "cpu/pack.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

template <class T>
constexpr std::int64_t kBlock =
    kBlockBytes / static_cast<std::int64_t>(sizeof(T));  // KC; blocks of one K differ by at most 1

// A matrix with strides, in elements.
template <class T>
struct Matrix {
  T* p;
  std::int64_t row, col;
  TS_INLINE Matrix at(std::int64_t i, std::int64_t j) const { return {p + i * row + j * col, row, col}; }
  TS_INLINE Matrix transposed() const { return {p, col, row}; }
};

// What happens to a finished sum. bias is null, or read along the rows of C (col 1) or across them (col 0);
// addend is null, or a matrix that is added last.
template <class T>
struct Finish {
  Matrix<const T> bias;
  Activation activation;
  Matrix<const T> addend{};
  TS_INLINE Finish at(std::int64_t i, std::int64_t j) const {
    return {bias.p ? bias.at(i, j) : bias, activation, addend.p ? addend.at(i, j) : addend};
  }
};

// What a block of K does with C: writes its sums there, adds them to it, or goes on with the sums that it
// holds.
enum class Sums { fresh, added, resumed };

// Memory that will be needed soon, a line of it touched in every step of k while a tile computes: `lines`
// lines `stride` bytes apart, then as many from `next` bytes on, `groups` times. A tile is given several,
// one after another; the last has no end.
struct Ahead {
  const char* p;
  std::int64_t stride, next, lines, groups;
};
constexpr std::int64_t kLine = 64;  // bytes

// The beginning and the end of a tile: c = t, or c += t, then `finish` where it is given. c has unit column
// stride.
template <class T, int MR, int NV>
TS_INLINE void begin_tile(Tile<T, MR, NV>& t, const T* c, std::int64_t c_row, Sums sums,
                          const Lanes<T>& lanes) {
  if (sums == Sums::resumed)
    t.resume(c, c_row, lanes);
  else
    t.zero();
}
template <class T, int MR, int NV>
TS_INLINE void finish_tile(Tile<T, MR, NV>& t, T* c, std::int64_t c_row, std::int64_t columns, Sums sums,
                           const Finish<T>* finish, const Lanes<T>& lanes) {
  if (sums == Sums::added) t.add(c, c_row, lanes);
  if (finish) {
    if (finish->bias.p) t.add_bias(finish->bias.p, finish->bias.row, finish->bias.col == 0, lanes);
    if (finish->activation == Activation::relu) t.relu();
    if (finish->addend.p) t.add(finish->addend.p, finish->addend.row, lanes);
  }
  if (!kMasksAreFree && columns == NV * Vec<T>::width)
    t.template store<true>(c, c_row, lanes);
  else
    t.store(c, c_row, lanes);
}

// Into L2: what the end of a tile reads, and writes.
template <class T, int MR, int NV>
TS_INLINE void fetch_end(const T* c, std::int64_t c_row, const Finish<T>* finish) {
  constexpr int W = Vec<T>::width;
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) __builtin_prefetch(c + i * c_row + j * W, 0, 2);
  if (!finish || !finish->addend.p || finish->addend.p == c) return;
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) __builtin_prefetch(finish->addend.p + i * finish->addend.row + j * W, 0, 2);
}

// Tiles big enough to leave load slots for fetching ahead.
template <int MR, int NV>
constexpr bool kHasSlots = MR * NV >= kRegisters / 2;

// Tile::multiply, with lines touched as `ahead` says.
template <bool Masked, bool Near, bool Copy, class T, int MR, int NV>
TS_INLINE void multiply_ahead(Tile<T, MR, NV>& t, std::int64_t steps, const T* a, std::int64_t a_row,
                              std::int64_t a_depth, const T* b, std::int64_t b_depth, const Lanes<T>& lanes,
                              const Ahead* ahead, T* copy) {
  const char* touched = ahead->p;
  for (std::int64_t left = steps, group = 0; left > 0;) {
    const std::int64_t now = left < ahead->lines ? left : ahead->lines;
    if (!kTouchesAreFree && ahead->stride == 0)
      t.template multiply<Masked, false, Near, Copy>(now, a, a_row, a_depth, b, b_depth, lanes, touched, 0,
                                                     copy);
    else
      t.template multiply<Masked, kHasSlots<MR, NV>, Near, Copy>(now, a, a_row, a_depth, b, b_depth, lanes,
                                                                 touched, ahead->stride, copy);
    a += now * a_depth, b += now * b_depth, left -= now, touched += ahead->next;
    if constexpr (Copy) copy += now * NV * Vec<T>::width;
    if (++group == ahead->groups) touched = (++ahead)->p, group = 0;
  }
}

// One tile and one block of K, then `finish` where it is given.
template <class T, int MR, int NV, bool Masked>
void tile(std::int64_t depth, const T* a, std::int64_t a_row, std::int64_t a_depth, const T* b,
          std::int64_t b_depth, T* c, std::int64_t c_row, std::int64_t columns, Sums sums,
          const Finish<T>* finish, bool fetch_c, bool near, const Ahead* ahead) {
  const Lanes<T> lanes(columns - (NV - 1) * Vec<T>::width);
  Tile<T, MR, NV> t;
  begin_tile(t, c, c_row, sums, lanes);
  if (fetch_c) fetch_end<T, MR, NV>(c, c_row, finish);
  T* const no_copy = nullptr;
  if (kHasSlots<MR, NV> && near)
    multiply_ahead<Masked, kHasSlots<MR, NV>, false>(t, depth, a, a_row, a_depth, b, b_depth, lanes, ahead,
                                                     no_copy);
  else
    multiply_ahead<Masked, false, false>(t, depth, a, a_row, a_depth, b, b_depth, lanes, ahead, no_copy);
  finish_tile(t, c, c_row, columns, sums, finish, lanes);
}

// Steps of the first tile over a panel of B, which it copies to `packed` on its way: the loads are there
// anyhow, and stores have a port that tiles leave idle. Between two calls for one tile, its sums lie in
// `waiting`.
template <class T, int MR, int NV, bool Masked>
void packing_tile(std::int64_t steps, bool first, bool last, const T* a, std::int64_t a_row,
                  std::int64_t a_depth, const T* b, std::int64_t b_depth, T* packed, T* waiting, T* c,
                  std::int64_t c_row, std::int64_t columns, Sums sums, const Finish<T>* finish,
                  const Ahead* ahead) {
  constexpr int W = Vec<T>::width;
  const Lanes<T> lanes(columns - (NV - 1) * W);
  Tile<T, MR, NV> t;
  if (first)
    begin_tile(t, c, c_row, sums, lanes);
  else
    t.load(waiting);
  if (last) fetch_end<T, MR, NV>(c, c_row, finish);
  multiply_ahead<Masked, true, true>(t, steps, a, a_row, a_depth, b, b_depth, lanes, ahead, packed);
  if (last)
    finish_tile(t, c, c_row, columns, sums, finish, lanes);
  else
    t.template store<true>(waiting, NV * W, lanes);
}

template <class T>
using TileFunction = void (*)(std::int64_t, const T*, std::int64_t, std::int64_t, const T*, std::int64_t, T*,
                              std::int64_t, std::int64_t, Sums, const Finish<T>*, bool, bool, const Ahead*);

// kTileTable<T>.of[MR - 1][NV - 1][Masked]; null where the registers do not suffice.
template <class T>
struct TileTable {
  TileFunction<T> of[kMaxRows][kMaxVectors][2];
};
template <class T, int MR, int NV, int Masked>
constexpr TileFunction<T> tile_function() {
  if constexpr (NV > tile_vectors(MR))
    return nullptr;
  else
    return tile<T, MR, NV, (kMasksAreFree || Masked)>;
}
template <class T, int... I>
constexpr TileTable<T> make_tile_table(std::integer_sequence<int, I...>) {
  return {{tile_function<T, I / (2 * kMaxVectors) + 1, I / 2 % kMaxVectors + 1, I % 2>()...}};
}
template <class T>
constexpr TileTable<T> kTileTable =
    make_tile_table<T>(std::make_integer_sequence<int, kMaxRows * kMaxVectors * 2>{});

template <class T>
using PackingTileFunction = void (*)(std::int64_t, bool, bool, const T*, std::int64_t, std::int64_t, const T*,
                                     std::int64_t, T*, T*, T*, std::int64_t, std::int64_t, Sums,
                                     const Finish<T>*, const Ahead*);

// The same for packing tiles, which are at least half as tall as the tallest.
template <class T>
struct PackingTileTable {
  PackingTileFunction<T> of[kMaxRows][kMaxVectors][2];
};
template <class T, int MR, int NV, int Masked>
constexpr PackingTileFunction<T> packing_tile_function() {
  if constexpr (NV > tile_vectors(MR) || 2 * MR < kMaxRows)
    return nullptr;
  else
    return packing_tile<T, MR, NV, (kMasksAreFree || Masked)>;
}
template <class T, int... I>
constexpr PackingTileTable<T> make_packing_tile_table(std::integer_sequence<int, I...>) {
  return {{packing_tile_function<T, I / (2 * kMaxVectors) + 1, I / 2 % kMaxVectors + 1, I % 2>()...}};
}
template <class T>
constexpr PackingTileTable<T> kPackingTileTable =
    make_packing_tile_table<T>(std::make_integer_sequence<int, kMaxRows * kMaxVectors * 2>{});

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
  int a_height;       // of pack_a's panels
  bool pack_b;
  bool prefetch;      // the operands may come from beyond L2
  bool beyond_l2;     // they are too large for it
  bool large_b;       // all of B, of which this is a part, has kLargeB or more
  bool onto = false;  // C holds the sum of the blocks of K before these
  // Steps of k at a time. Fewer than kBlock: K is one block, whose sums wait in C in between.
  std::int64_t steps = kBlock<T>;
  // Unless 0, the first of kWidths keys: all of B, one block of K, stays packed in the scratch memory for the
  // thread's next piece, for which A has `more` rows.
  std::uint64_t key = 0;
  std::int64_t more = 0;
  const Epilogue* epilogue = nullptr;
  std::int64_t row = 0, column = 0;  // of C's first element in the epilogue's matrix

  // Rows [i, i + height) and columns [j, j + width) of C are done.
  TS_INLINE void finished(std::int64_t i, std::int64_t height, std::int64_t j, std::int64_t width) const {
    if (epilogue) epilogue->run(*epilogue, {row + i, height, column + j, width, c.at(i, j).p, c.row});
  }
};

constexpr std::int64_t kRowsOnce = 70;                      // MC: a block of A fills a quarter of L2
constexpr std::int64_t kManyRows = 768;                     // of a piece that may fill L2 with its B
constexpr std::int64_t kManyRowsOnce = 45;                  // the same for those
constexpr std::int64_t kRowsOnceSmallL2 = 36;               // the same where L2 has less than 1 MiB
constexpr std::int64_t kPackedLow = std::int64_t{1} << 20;  // bytes of A, packed for tiles of kRowsInPlace
constexpr std::int64_t kLargeB = std::int64_t{3} << 20;     // bytes of B, packed a whole block of K at once
constexpr std::int64_t kPackedB = std::int64_t{4} << 20;    // bytes of B packed at a time
constexpr std::int64_t kKeptB = std::int64_t{1} << 20;      // bytes of packed B that L2 keeps beside A and C
constexpr std::int64_t kWidths = kMaxVectors + 1;           // of its panels, in vectors
constexpr std::int64_t kPackedA = std::int64_t{16}
                                  << 20;  // bytes of A packed at a time, shared by all pieces
constexpr std::int64_t kLittleA = std::int64_t{128} << 10;  // bytes of A that are read in place in any order
constexpr std::int64_t kNearRows = 1536;  // bytes from row to row of an A' that is read in place, by kSteps
constexpr std::int64_t kSteps = 192;      // of k, for which a panel of B stays in L1
constexpr std::int64_t kLittleB = std::int64_t{512} << 10;  // bytes of B that four tiles read in place
constexpr std::int64_t kLittleC = std::int64_t{768}
                                  << 10;  // bytes of C that L2 keeps from block to block of K
// Operands of more bytes are fetched ahead. L2 would hold them, but in a network they were last used long
// ago, or by the other thread.
constexpr std::int64_t kFetched = std::int64_t{256} << 10;
constexpr std::int64_t kBeyondL2 = std::int64_t{3} << 19;  // those of more bytes are, whoever used them last
// A line of the next rows of A is touched so often in a row, where there are steps enough. One line a step
// is more than a core can wait for; to touch a line that is on its way costs nothing where touches are free.
constexpr std::int64_t kTouches = kTouchesAreFree ? 4 : 1;

inline bool small_l2() {
  const std::int64_t bytes = l2_bytes();
  return bytes > 0 && bytes < 1 << 20;
}

// The part of A that one piece packs: kStrip steps of one block of K for kGroup panels. Block k0 begins at
// k0 * m.
constexpr std::int64_t kStrip = 64, kGroup = 32;

template <class T>
void pack_a(T* dst, Matrix<const T> a, int height, std::int64_t m, std::int64_t k, std::int64_t block,
            std::int64_t strip, std::int64_t group) {
  const Panels rows(m, height, 1);
  const Blocks blocks(k, kBlock<T>);
  const std::int64_t k0 = blocks.first(block), depth = blocks.depth(block), i0 = rows.first(group * kGroup);
  const std::int64_t begin = strip * kStrip, end = begin + kStrip < depth ? begin + kStrip : depth;
  const std::int64_t panels = rows.count - group * kGroup < kGroup ? rows.count : (group + 1) * kGroup;
  pack<T>(dst + k0 * m + i0 * depth, rows.part(group * kGroup, panels), depth, begin, end, a.at(i0, k0).p,
          a.row, a.col);
}

// The panels of B of one piece, packed a slice at a time between the tiles of the panel before, which fetch
// the slice meanwhile, or by the panel's own first tile (packing_tile). Slices are thin, because rows of B a
// power of two apart share few sets of cache.
//
// Slots: two where one pass over the rows of A is all that a panel serves; else one more than a block of K
// has panels, the spare one for the first panel of the next block.
template <class T>
struct PackedColumns {
  const Matrix<const T> b;
  const Panels& columns;
  const Blocks& blocks;
  std::int64_t column0, column1, slots;
  std::int64_t strip;  // steps in a slice
  T* const packed = static_cast<T*>(scratch());
  // The panel in the making, and how much of it is done.
  std::int64_t block = 0, q = 0, done = 0, depth = 0;

  TS_INLINE T* panel(std::int64_t at_block, std::int64_t at) const {
    const std::int64_t index = at_block * (column1 - column0) + at - column0;
    return packed + index % slots * columns.width * blocks.deepest;
  }
  TS_INLINE void begin(std::int64_t at_block, std::int64_t at) {
    block = at_block, q = at, done = 0, depth = blocks.depth(block);
  }
  TS_INLINE std::int64_t slice_end() const { return done + strip < depth ? done + strip : depth; }
  // Packs the steps from `done` to `end`.
  TS_INLINE void copy(std::int64_t end) const {
    pack<T>(panel(block, q), columns.part(q, q + 1), depth, done, end,
            b.at(blocks.first(block), columns.first(q)).p, b.col, b.row);
  }
  // All panels of one block of K. Of a large B every row is a page (or several) that the TLBs have lost when
  // its next columns are packed: here it is looked up once for all columns of the piece, and asked for
  // kRowsAhead before.
  [[gnu::noinline]] void copy_block(std::int64_t at_block) const {
    constexpr std::int64_t kRows = 8, kRowsAhead = 16,
                           per_line = kLine / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t steps = blocks.depth(at_block), j0 = columns.first(column0),
                       width = (column1 < columns.count ? columns.first(column1) : columns.n) - j0;
    for (std::int64_t k0 = 0; k0 < steps; k0 += kRows) {
      const std::int64_t k1 = k0 + kRows < steps ? k0 + kRows : steps;
      const T* const src = b.at(blocks.first(at_block), j0).p;
      for (std::int64_t k = k0 + kRowsAhead; k < k1 + kRowsAhead && k < steps; ++k)
        for (std::int64_t x = 0; x < width; x += per_line) __builtin_prefetch(src + k * b.row + x, 0, 2);
      for (std::int64_t at = column0; at < column1; ++at)
        pack<T>(panel(at_block, at), columns.part(at, at + 1), steps, k0, k1, src + columns.first(at) - j0, 1,
                b.row);
    }
  }
  // The lines of the slice from `from` on, without the first `groups_done` groups.
  TS_INLINE Ahead ahead(std::int64_t from, std::int64_t groups_done) const {
    constexpr std::int64_t size = sizeof(T);
    const T* const p = b.at(blocks.first(block) + from, columns.first(q)).p;
    const std::int64_t steps = strip < depth - from ? strip : depth - from, width = columns.width_of(q);
    const bool rows = b.col == 1;
    const std::int64_t stride = (rows ? b.row : b.col) * size, bytes = (rows ? width : steps) * size;
    const std::int64_t before = stride % kLine ? kLine - 1 : reinterpret_cast<std::uintptr_t>(p) % kLine;
    return {reinterpret_cast<const char*>(p) + groups_done * kLine, stride, kLine, rows ? steps : width,
            (before + bytes + kLine - 1) / kLine - groups_done};
  }
};

// 9 x 3 would leave panels of n columns two vectors wide at most: 9 x 2 loads more for every FMA than 14 x 2.
template <class T>
bool narrow_panels(std::int64_t n) {
  constexpr std::int64_t W = Vec<T>::width;
  return Panels(n, tile_vectors(kRowsInPlace) * W, W).width <= 2 * W;
}

// The height of tiles over an A that is read where it lies: 9 x 3, but 14 x 2 for narrow panels, unless rows
// of A share one set of L1.
template <class T>
int rows_in_place(const Product<T>& p) {
  const bool one_set = p.a.row * static_cast<std::int64_t>(sizeof(T)) % 4096 == 0 && p.a.row != 0;
  return !one_set && narrow_panels<T>(p.n) ? kMaxRows : kRowsInPlace;
}

template <class T>
void multiply(const Product<T>& p) {
  constexpr std::int64_t W = Vec<T>::width;
  constexpr std::int64_t size = sizeof(T);
  const int in_place = rows_in_place(p);
  const Panels rows(p.m, p.a_packed ? p.a_height : in_place, 1);
  const std::int64_t block_height = small_l2()         ? kRowsOnceSmallL2
                                    : p.m >= kManyRows ? kManyRowsOnce
                                                       : kRowsOnce;
  const std::int64_t row_blocks = (rows.count * rows.width + block_height - 1) / block_height;
  const std::int64_t rows_once = (rows.count + row_blocks - 1) / row_blocks;  // panels
  const Panels columns(p.n, tile_vectors(static_cast<int>(rows.width)) * W, W);
  const Blocks blocks(p.k, p.steps);
  const Sums later = p.steps < kBlock<T> ? Sums::resumed : Sums::added;
  const auto sums_of = [&](std::int64_t block) {
    return block > 0 ? later : p.onto ? Sums::added : Sums::fresh;
  };
  std::int64_t columns_once = columns.count;
  if (p.pack_b) {
    columns_once = kPackedB / size / ((blocks.deepest + 1) * columns.width);
    if (columns_once < 1) columns_once = 1;
  }

  const std::uint64_t key = p.pack_b && p.key ? p.key + static_cast<std::uint64_t>(columns.width / W) : 0;
  const bool pack_now = p.pack_b && !(key && scratch_keeps(key));
  const bool at_once = pack_now && p.b.col == 1 && p.large_b && p.m >= kManyRows;
  const bool tiles_pack =
      pack_now && !at_once && p.b.col == 1 && 2 * rows.width_of(rows.count - 1) >= kMaxRows;
  std::int64_t strip = kStrip;
  if (tiles_pack) {
    const std::int64_t tiles = (rows_once < rows.count ? rows_once : rows.count) - 1;
    strip = p.prefetch ? (blocks.deepest + tiles - 1) / tiles : blocks.deepest;
  }
  alignas(64) T waiting[kRegisters * W];  // sums of the first tile over the panel that is packed

  // Panels of B that L1 does not hold.
  const bool near = (p.beyond_l2 && kTouchesAreFree) || (!p.pack_b && p.k * p.n * size > kLittleB / 16);

  // Rows of A that lie side by side, read in place: each step of k is a line far from the one before it.
  const bool beside = !p.a_packed && p.a.row == 1 && p.a.col != 1;
  for (std::int64_t column0 = 0; column0 < columns.count; column0 += columns_once) {
    const std::int64_t column1 =
        column0 + columns_once < columns.count ? column0 + columns_once : columns.count;
    const std::int64_t slots = rows.count <= rows_once && !key ? 2 : column1 - column0 + 1;
    PackedColumns<T> packing{p.b, columns, blocks, column0, column1, slots, strip};
    // The next slice of the panel in the making, through its first tile where that can read B as it lies.
    const auto slice = [&] {
      const std::int64_t end = packing.slice_end();
      if (packing.done == end) return;
      if (tiles_pack) {
        const std::int64_t k0 = blocks.first(packing.block), j = columns.first(packing.q);
        const std::int64_t n = columns.lanes(packing.q), nv = columns.width_of(packing.q) / W;
        const std::int64_t k = k0 + packing.done, h = rows.width_of(0);
        const bool last = packing.block == blocks.count - 1;
        const Ahead nothing{reinterpret_cast<const char*>(p.b.p), 0, 0, packing.depth, 0};
        Ahead ahead[2] = {nothing, nothing};
        if (p.prefetch && end < packing.depth) ahead[0] = packing.ahead(end, 0);
        const Finish<T> finish = p.finish.at(0, j);
        kPackingTileTable<T>.of[h - 1][nv - 1][n % W != 0](
            end - packing.done, packing.done == 0, end == packing.depth,
            p.a_packed ? p.a_packed + k0 * p.m + packing.done * h : p.a.at(0, k).p, p.a_packed ? 1 : p.a.row,
            p.a_packed ? h : p.a.col, p.b.at(k, j).p, p.b.row,
            packing.panel(packing.block, packing.q) + packing.done * nv * W, waiting, p.c.at(0, j).p, p.c.row,
            n, sums_of(packing.block), last ? &finish : nullptr, ahead);
      } else {
        packing.copy(end);
      }
      packing.done = end;
    };
    if (pack_now && !at_once) packing.begin(0, column0);
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      const std::int64_t depth = blocks.depth(block), k0 = blocks.first(block);
      const bool last = block == blocks.count - 1;
      if (at_once) packing.copy_block(block);
      for (std::int64_t row0 = 0; row0 < rows.count; row0 += rows_once) {
        const std::int64_t row1 = row0 + rows_once < rows.count ? row0 + rows_once : rows.count;
        const Ahead nothing{reinterpret_cast<const char*>(p.b.p), 0, 0, depth, 0};
        Ahead ahead[3] = {nothing, nothing, nothing};
        // The rows of A that come next.
        Ahead next_a{};
        const bool done = row1 == rows.count;
        if (p.prefetch && (done && last ? p.more > 0 : rows.count > rows_once)) {
          const bool beyond = done && last, wrap = done && !last;
          const std::int64_t i = beyond ? p.m : wrap ? 0 : rows.first(row1), k1 = wrap ? k0 + depth : k0;
          const std::int64_t end = (wrap ? 0 : row1) + rows_once, tall = rows_once * rows.width;
          const std::int64_t height = beyond             ? (tall < p.more ? tall : p.more)
                                      : end < rows.count ? rows.first(end) - i
                                                         : p.m - i;
          const std::int64_t steps = (row1 - row0) * (column1 - column0) * kLine;  // for a byte of a row
          const std::int64_t most = steps / (height * size);
          const std::int64_t touches = most >= kTouches ? kTouches : most >= 2 ? 2 : 1;
          if (p.a_packed)
            next_a = {reinterpret_cast<const char*>(p.a_packed + k1 * p.m + i * depth), kLine / touches,
                      32 * kLine, 32 * touches, height * depth * size / (32 * kLine)};
          else if (p.a.col == 1)
            next_a = {reinterpret_cast<const char*>(p.a.at(i, k1).p), kLine / touches, p.a.row * size,
                      touches * ((depth * size + 2 * kLine - 2) / kLine), height};
        }
        if (p.prefetch && later == Sums::resumed && done && !last)  // A', whose steps are rows
          next_a = {reinterpret_cast<const char*>(p.a.at(0, k0 + depth).p), p.a.col * size, kLine,
                    blocks.depth(block + 1), (p.m * size + 2 * kLine - 2) / kLine};
        for (std::int64_t q = column0; q < column1; ++q) {
          const std::int64_t j = columns.first(q), n = columns.lanes(q);
          const int nv = static_cast<int>(columns.width_of(q) / W);
          const bool masked = !p.pack_b && n % W != 0;
          const T* b = p.b.at(k0, j).p;
          std::int64_t b_depth = p.b.row;
          if (p.pack_b) {
            while (packing.done < packing.depth) slice();
            b = packing.panel(block, q), b_depth = nv * W;
            if (at_once) {  // done
            } else if (pack_now && row0 == 0 && q + 1 < column1) {
              packing.begin(block, q + 1);
            } else if (row1 == rows.count && q + 1 == column1 && !last) {
              packing.begin(block + 1, column0);
            }
          }
          for (std::int64_t r = row0 + (tiles_pack && row0 == 0); r < row1; ++r) {
            const std::int64_t i = rows.first(r), h = rows.width_of(r);
            const T* a = p.a_packed ? p.a_packed + k0 * p.m + i * depth : p.a.at(i, k0).p;
            const Finish<T> finish = p.finish.at(i, j);
            if (p.prefetch) {
              Ahead* next = ahead;
              std::int64_t left = depth;
              if (packing.done < packing.depth) {
                *next = packing.ahead(packing.done, tiles_pack && packing.done > 0);
                left -= next->lines * next->groups;
                if (next->groups > 0) ++next;
              }
              if (next_a.groups > 0 && left > 0) {
                *next = next_a;
                const std::int64_t groups = (left + next_a.lines - 1) / next_a.lines;
                next_a.p += groups * next_a.next, next_a.groups -= groups;
                ++next;
              }
              *next = nothing;
            } else if (beside && r + 1 < rows.count) {  // the lines in which the next tile's rows end
              const std::int64_t end = rows.first(r + 1) + rows.width_of(r + 1);
              ahead[0] = {reinterpret_cast<const char*>(p.a.at(end - 1, k0).p), p.a.col * size, 0, depth, 1};
            }
            kTileTable<T>.of[h - 1][nv - 1][masked](
                depth, a, p.a_packed ? 1 : p.a.row, p.a_packed ? h : p.a.col, b, b_depth, p.c.at(i, j).p,
                p.c.row, n, sums_of(block), last ? &finish : nullptr, p.prefetch, near, ahead);
            if (p.pack_b && p.prefetch) slice();
          }
        }
        if (last) {
          const std::int64_t i = rows.first(row0), j = columns.first(column0);
          p.finished(i, (row1 < rows.count ? rows.first(row1) : p.m) - i, j,
                     (column1 < columns.count ? columns.first(column1) : p.n) - j);
        }
      }
    }
  }
  if (key) keep_scratch(key);
}

// The same for few rows and a B too big to be read twice: gemv.h, then C a row at a time.
constexpr std::int64_t kFewRows = 8;

template <class T>
using FewFunction = void (*)(std::int64_t, const T*, std::int64_t, std::int64_t, const T*, std::int64_t,
                             std::int64_t, T*, std::int64_t);
// kFew<T>.of[B's columns are contiguous][rows - 1]
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
  if (p.b.col == 1) return p.n >= 64 && (p.m == 1 || (p.m > 4 && p.m <= kFewRows && p.beyond_l2));
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
      std::int64_t a_row = p.a.row, a_depth = p.a.col;
      if (columns && a_depth != 1) {  // gemv.h wants contiguous rows there
        T* const copy = sums + kFewRows * kColumns;
        for (std::int64_t i = 0; i < p.m; ++i)
          for (std::int64_t k = 0; k < depth; ++k) copy[i * depth + k] = a[i * a_row + k * a_depth];
        a = copy, a_row = depth, a_depth = 1;
      }
      kFew<T>.of[columns][p.m - 1](depth, a, a_row, a_depth, b, columns ? p.b.col : p.b.row, n, sums,
                                   kColumns);
      for (std::int64_t i = 0; i < p.m; ++i)
        for (std::int64_t j = 0; j < n; j += W) {
          const Lanes<T> lanes(n - j < W ? n - j : W);
          Tile<T, 1, 1> t;
          t.acc[0][0] = load_lanes(sums + i * kColumns + j, lanes);
          T* const c = p.c.at(i, j0 + j).p;
          if (block > 0 || p.onto) t.add(c, 0, lanes);
          if (block + 1 == blocks.count) {
            const Finish<T> f = p.finish.at(i, j0 + j);
            if (f.bias.p) t.add_bias(f.bias.p, 0, f.bias.col == 0, lanes);
            if (f.activation == Activation::relu) t.relu();
            if (f.addend.p) t.add(f.addend.p, 0, lanes);
          }
          store_tail(c, t.acc[0][0], n - j);
        }
    }
    p.finished(0, p.m, j0, n);
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

}  // namespace ts::cpu::TS_ISA
