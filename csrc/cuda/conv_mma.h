// A convolution's operands for gemm_mma.h: pieces of 16 bytes of an image's channels, found where they lie.
//
// Rows of the first operand are places and k is (tap, channel); of the second one, for the gradient of the
// filter, rows are (tap, channel) and k the places. Where a place's tap (0, 0) lies is written down in shared
// memory once, for all that copy from there: for each row of the tile, or for each k of the next tiles.
#pragma once

#include "cuda/conv.h"
#include "cuda/gemm_mma.h"

namespace ts::cuda {

struct PatchOperand {
  const unsigned char* data;
  std::int64_t batch, plane;        // bytes: to the next group, to the next part of `split`
  std::int64_t image, line, pixel;  // bytes, of what is seen
  std::int64_t rows, places;
  Sight h, w;
  Pixels split;
  Taps taps;
  std::int64_t out_image, out_line, out_pixel;  // elements of the result
};
struct PatchRows16 : PatchOperand {};
struct PatchColumns16 : PatchOperand {};

struct alignas(16) PatchPlace {
  std::int64_t offset;
  std::int32_t h, w;  // below -2^29: no place
};
TS_INLINE PatchPlace patch_place(const PatchOperand& x, std::int64_t m) {
  if (m >= x.places) return {0, -(1 << 30), 0};
  int n, h, w;
  x.split.split(m, n, h, w);
  h = h * x.h.scale + x.h.base, w = w * x.w.scale + x.w.base;
  return {n * x.image + h * x.line + w * x.pixel, h, w};
}
TS_INLINE bool patch_inside(const PatchOperand& x, const PatchPlace& p, int dh, int dw) {
  return static_cast<unsigned>(p.h + dh) < static_cast<unsigned>(x.h.extent) &&
         static_cast<unsigned>(p.w + dw) < static_cast<unsigned>(x.w.extent);
}

template <int kItem, int BR, int kThreads>
struct PatchRowCopy {
  using Layout = TileCopy<kItem, true, BR, kThreads>;
  static constexpr int kBytes = Layout::kBytes, kRoom = BR * (16 + 8);

  TS_INLINE static void fill(const PatchOperand& x, unsigned char* room, std::int64_t first) {
    for (int r = static_cast<int>(threadIdx.x); r < BR; r += kThreads) {
      reinterpret_cast<PatchPlace*>(room)[r] = patch_place(x, first + r);
      int n, h, w;
      x.split.split(first + r, n, h, w);
      reinterpret_cast<std::int64_t*>(room + BR * 16)[r] = n * x.out_image + h * x.out_line + w * x.out_pixel;
    }
  }
  TS_INLINE static const std::int64_t* places(const unsigned char* room) {
    return reinterpret_cast<const std::int64_t*>(room + BR * 16);
  }

  const unsigned char* data;
  const PatchPlace* table;
  int at, along;   // this thread's first place in shared memory, and where in K its pieces begin
  std::int64_t k;  // the same, from the beginning of K

  TS_INLINE PatchRowCopy(const PatchOperand&, const unsigned char* data, const unsigned char* room,
                         std::int64_t, std::int64_t k0)
      : data(data) {
    const int piece = static_cast<int>(threadIdx.x) % 8, row = static_cast<int>(threadIdx.x) / 8;
    at = Layout::place(row, piece);
    along = piece * Layout::kPack;
    k = k0 + along;
    table = reinterpret_cast<const PatchPlace*>(room) + row;
  }
  TS_INLINE void advance(const PatchOperand&) { k += Layout::BK; }
  TS_INLINE bool whole() const { return true; }
  template <bool kWhole>
  TS_INLINE void start(const PatchOperand& x, unsigned char* tile, std::int64_t plane, int left) const {
    int c, i, j;
    x.taps.split(k, c, i, j);
    const bool some = kWhole || along < left;
    const int dh = i * x.h.step, dw = j * x.w.step;
    const unsigned char* const from = data + plane + dh * x.line + dw * x.pixel + c * kItem;
#pragma unroll
    for (int turn = 0; turn < Layout::kTurns; ++turn) {
      const PatchPlace p = table[turn * Layout::kStep];
      copy_async(tile + at + turn * (Layout::kStep * Layout::kRowBytes), from + p.offset,
                 some && patch_inside(x, p, dh, dw) ? 16 : 0);
    }
  }
};

template <int kItem, int BR, int kThreads>
struct PatchColumnCopy {
  using Layout = TileCopy<kItem, false, BR, kThreads>;
  static constexpr int BK = Layout::BK, kRing = 4;  // tiles whose places are known or in use
  static constexpr int kBytes = Layout::kBytes, kRoom = kRing * BK * 16;

  const unsigned char* data;  // at this thread's tap and channel
  PatchPlace* ring;
  std::int64_t k;  // where the tile to come begins
  int at, row, dh, dw;
  int turn;  // of the ring
  bool some;

  TS_INLINE PatchColumnCopy(const PatchOperand& x, const unsigned char* from, unsigned char* room,
                            std::int64_t first, std::int64_t k0)
      : ring(reinterpret_cast<PatchPlace*>(room)), k(k0), turn(0) {
    const int piece = static_cast<int>(threadIdx.x) % Layout::kAcross;
    row = static_cast<int>(threadIdx.x) / Layout::kAcross;
    at = Layout::place(row, piece);
    const std::int64_t column = first + piece * Layout::kPack;
    some = column < x.rows;
    int c, i, j;
    x.taps.split(column, c, i, j);
    dh = i * x.h.step, dw = j * x.w.step;
    data = from + dh * x.line + dw * x.pixel + c * kItem;
    static_assert(2 * BK <= kThreads);
    if (const int e = static_cast<int>(threadIdx.x); e < 2 * BK) ring[e] = patch_place(x, k0 + e);
  }
  // The places of the tile after the next one: those that they replace were used two tiles ago, and a barrier
  // stands between every two tiles.
  TS_INLINE void advance(const PatchOperand& x) {
    k += BK, turn = (turn + 1) % kRing;
    if (const int e = static_cast<int>(threadIdx.x); e < BK)
      ring[(turn + 1) % kRing * BK + e] = patch_place(x, k + BK + e);
  }
  TS_INLINE bool whole() const { return true; }
  template <bool kWhole>
  TS_INLINE void start(const PatchOperand& x, unsigned char* tile, std::int64_t plane, int left) const {
    const PatchPlace* const table = ring + turn * BK;
#pragma unroll
    for (int step = 0; step < Layout::kTurns; ++step) {
      const int r = row + step * Layout::kStep;
      const PatchPlace p = table[r];
      copy_async(tile + at + step * (Layout::kStep * Layout::kRowBytes), data + plane + p.offset,
                 some && (kWhole || r < left) && patch_inside(x, p, dh, dw) ? 16 : 0);
    }
  }
};

template <int kItem, int BR, int kThreads>
struct CopyOf<PatchRows16, kItem, true, BR, kThreads> {
  using type = PatchRowCopy<kItem, BR, kThreads>;
};
template <int kItem, int BR, int kThreads>
struct CopyOf<PatchColumns16, kItem, false, BR, kThreads> {
  using type = PatchColumnCopy<kItem, BR, kThreads>;
};

}  // namespace ts::cuda
