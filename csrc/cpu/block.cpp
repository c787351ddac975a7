// Products of blocks that lie in cache; see block.h.
//
// M N K = rows and columns of C, depth. Reads A once per panel of B, B once per tile of rows, C once.
#include "cpu/block.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class T, int MR, int NV>
void block_tile(std::int64_t depth, const T* a, std::int64_t a_row, std::int64_t a_depth, const T* b,
                std::int64_t b_depth, T* c, std::int64_t c_row, std::int64_t columns, Start start) {
  constexpr int W = Vec<T>::width;
  const Lanes<T> lanes(columns - (NV - 1) * W);
  const bool whole = columns == NV * W;
  Tile<T, MR, NV> t;
  t.zero();
  if (start != Start::zero) {
    const Vec<T> sign(start == Start::subtract ? T(-0.0) : T(0));
    unroll<MR>([&]<int i>() TS_LAMBDA {
      unroll<NV>([&]<int j>() TS_LAMBDA {
        const T* p = c + i * c_row + j * W;
        t.acc[i][j] = (j < NV - 1 || whole ? Vec<T>::load(p) : load_lanes(p, lanes)) ^ sign;
      });
    });
  }
  t.template multiply<false, false, kTouchesAreFree>(depth, a, a_row, a_depth, b, b_depth, lanes);
  if (start == Start::subtract) {  // -(-c + ab), which rounds as c - ab does
    const Vec<T> sign(T(-0.0));
    unroll<MR>([&]<int i>()
                   TS_LAMBDA { unroll<NV>([&]<int j>() TS_LAMBDA { t.acc[i][j] = t.acc[i][j] ^ sign; }); });
  }
  unroll<MR>([&]<int i>() TS_LAMBDA {
    unroll<NV>([&]<int j>() TS_LAMBDA {
      T* p = c + i * c_row + j * W;
      if (j < NV - 1 || whole)
        t.acc[i][j].store(p);
      else
        store_lanes(p, t.acc[i][j], lanes);
    });
  });
}

constexpr int kBlockVectors = 4;

template <class T>
using BlockFunction = void (*)(std::int64_t, const T*, std::int64_t, std::int64_t, const T*, std::int64_t, T*,
                               std::int64_t, std::int64_t, Start);

// of[MR - 1][NV - 1]; null where the registers do not suffice.
template <class T>
struct BlockTiles {
  BlockFunction<T> of[kMaxRows][kBlockVectors];
};
template <class T, int MR, int NV>
constexpr BlockFunction<T> block_function() {
  if constexpr (NV > tile_vectors(MR))
    return nullptr;
  else
    return block_tile<T, MR, NV>;
}
template <class T, int... I>
constexpr BlockTiles<T> make_block_tiles(std::integer_sequence<int, I...>) {
  return {{block_function<T, I / kBlockVectors + 1, I % kBlockVectors + 1>()...}};
}
template <class T>
constexpr BlockTiles<T> kBlockTiles =
    make_block_tiles<T>(std::make_integer_sequence<int, kMaxRows * kBlockVectors>{});

// The tallest tile for a width in registers: who packed the columns may have had other rows in mind.
struct Tallest {
  int of[kBlockVectors];
};
constexpr Tallest make_tallest() {
  Tallest t{};
  for (int nv = 1; nv <= kBlockVectors; ++nv) {
    t.of[nv - 1] = kMaxRows;
    while (tile_vectors(t.of[nv - 1]) < nv) --t.of[nv - 1];
  }
  return t;
}
constexpr Tallest kTallest = make_tallest();

}  // namespace

template <class T>
void multiply_block(std::int64_t m, const Panels& columns, std::int64_t depth, const T* a, std::int64_t a_row,
                    std::int64_t a_depth, const T* b, std::int64_t b_row, std::int64_t b_column, T* c,
                    std::int64_t c_row, Start start) {
  const Panels rows(m, kTallest.of[columns.width / Vec<T>::width - 1], 1);
  for (std::int64_t q = 0; q < columns.count; ++q) {
    const std::int64_t j = columns.first(q), w = columns.width_of(q), n = columns.lanes(q);
    const T* const panel = b + j * b_column;
    for (std::int64_t r = 0; r < rows.count; ++r) {
      const std::int64_t i = rows.first(r);
      kBlockTiles<T>.of[rows.width_of(r) - 1][w / Vec<T>::width - 1](
          depth, a + i * a_row, a_row, a_depth, panel, b_row ? b_row : w, c + i * c_row + j, c_row, n, start);
    }
  }
}

TS_MULTIPLY_BLOCK(float) TS_MULTIPLY_BLOCK(double)

}  // namespace ts::cpu::TS_ISA
