// What the passes of attention on tensor cores share: the problem, tiles of heads in shared memory and their
// fragments.
//
// B batches, H heads of queries, G heads of keys, T queries, S keys, D and E features of keys and of values,
// in bfloat16 or float16. Tiles hold kD features (32, 64, 96 or 128), zeros beyond D or E. In shared memory a
// row's 16-byte pieces are swapped by the row (exclusive or), so that neither the copies nor the eight rows
// of an ldmatrix meet in a bank. Scores are in base 2, as in attention.h.
#pragma once

#include <limits>

#include "cuda/half.h"
#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kMmaWarps = 4, kMmaThreads = kMmaWarps * kWarp;
constexpr int kMmaKeys = 64;  // of a tile

// 16-byte aligned rows of unit stride; distances in bytes.
struct LowHeads {
  const unsigned char* data;
  std::int64_t batch, head, row;
  int width;  // bytes of a row
  TS_INLINE const unsigned char* at(int b, int h, int r) const {
    return data + b * batch + h * head + r * row;
  }
};
// A result of any strides, in elements.
template <class Number>
struct LowResults {
  Number* data;
  std::int64_t stride[4];
  int rows, features;
  bool pairs;  // neighbours from an even place on are stored at once

  explicit LowResults(const View& v)
      : data(static_cast<Number*>(v.data)),
        stride{v.strides[0], v.strides[1], v.strides[2], v.strides[3]},
        rows(static_cast<int>(v.shape[2])),
        features(static_cast<int>(v.shape[3])),
        pairs(v.strides[3] == 1 && v.strides[0] % 2 == 0 && v.strides[1] % 2 == 0 && v.strides[2] % 2 == 0 &&
              reinterpret_cast<std::uintptr_t>(v.data) % 4 == 0) {}
  TS_INLINE void store(int b, int h, int r, int c, float x0, float x1) const;
  // Of a row of 2 kCount features, from c on, those of fragments: x[4 j + i], x[4 j + i + 1] are 8 j further.
  template <int kCount>
  TS_INLINE void store_row(int b, int h, int r, int c, const float (&x)[kCount], int i, float factor) const;
};

template <class Number>
TS_INLINE std::uint32_t pack_numbers(float low, float high) {
  if constexpr (std::is_same_v<Number, BFloat16>)
    return pack_bfloat16(low, high);
  else
    return pack_float16(low, high);
}
template <class Number>
TS_INLINE void multiply_low(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<Number, BFloat16>)
    multiply_bfloat16(d, a, b0, b1);
  else
    multiply_float16(d, a, b0, b1);
}

template <class Number>
TS_INLINE void LowResults<Number>::store(int b, int h, int r, int c, float x0, float x1) const {
  if (r >= rows || c >= features) return;
  Number* const to = data + b * stride[0] + h * stride[1] + r * stride[2] + c * stride[3];
  const std::uint32_t both = pack_numbers<Number>(x0, x1);
  if (pairs && c + 1 < features) {
    *reinterpret_cast<std::uint32_t*>(to) = both;
    return;
  }
  to[0].bits = static_cast<std::uint16_t>(both);
  if (c + 1 < features) to[stride[3]].bits = static_cast<std::uint16_t>(both >> 16);
}

template <class Number>
template <int kCount>
TS_INLINE void LowResults<Number>::store_row(int b, int h, int r, int c, const float (&x)[kCount], int i,
                                             float factor) const {
  if (r >= rows) return;
  Number* to = data + b * stride[0] + h * stride[1] + r * stride[2] + c * stride[3];
  if (pairs) {
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j)
      *reinterpret_cast<std::uint32_t*>(to + 8 * j) =
          pack_numbers<Number>(x[4 * j + i] * factor, x[4 * j + i + 1] * factor);
    return;
  }
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j, to += 8 * stride[3]) {
    const std::uint32_t both = pack_numbers<Number>(x[4 * j + i] * factor, x[4 * j + i + 1] * factor);
    to[0].bits = static_cast<std::uint16_t>(both);
    to[stride[3]].bits = static_cast<std::uint16_t>(both >> 16);
  }
}

struct LowAttending {
  int B, H, G, T_, S, left, right;
  LowHeads q, k, v;
  const void* mask;
  std::int64_t mask_stride[4];
  bool mask_is_bool;
  const bool* keys;
  std::int64_t keys_stride[2];
  float scale;  // times log2(e)

  // Whether all queries of [t0, t1) see all keys of [j0, j1), and nothing is added.
  TS_INLINE bool plain(int t0, int t1, int j0, int j1) const {
    return !mask && !keys && j1 <= S && j0 >= t1 - 1 - left && j1 - 1 <= t0 + right;
  }
  TS_INLINE bool hidden(int t, int j) const { return j < t - left || j > t + right || j >= S; }
  // s and what the mask adds to it, -inf where that or `keys` hides the key.
  template <class Number>
  TS_INLINE float masked(float s, int b, int h, int t, int j) const {
    constexpr float hidden = -std::numeric_limits<float>::infinity();
    if (t >= T_ || j >= S) return hidden;
    if (keys && !keys[b * keys_stride[0] + j * keys_stride[1]]) return hidden;
    if (!mask) return s;
    const std::int64_t at = b * mask_stride[0] + h * mask_stride[1] + t * mask_stride[2] + j * mask_stride[3];
    if (mask_is_bool) return static_cast<const bool*>(mask)[at] ? s : hidden;
    return ::fmaf(to_float(static_cast<const Number*>(mask)[at]), 1.4426950408889634f, s);
  }
  // What products are in units of scores: with masks scores() has scaled them.
  template <bool kMasked>
  TS_INLINE float unit() const {
    return kMasked ? 1.0f : scale;
  }
  // Hides a tile's products, in place, from the queries that must not see them; with masks they become
  // scores. query(j, e) and key(j, e) of s[j][e].
  template <class Number, bool kMasked, int kColumns, class Query, class Key>
  TS_INLINE void scores(float (&s)[kColumns][4], bool plain, int b, int h, Query query, Key key) const {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    if constexpr (kMasked)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) s[j][e] = masked<Number>(s[j][e] * scale, b, h, query(j, e), key(j, e));
    if (plain) return;
#pragma unroll
    for (int j = 0; j < kColumns; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (hidden(query(j, e), key(j, e))) s[j][e] = -infinity;
  }
  TS_INLINE int first_key(int t0) const { return t0 - left > 0 ? t0 - left : 0; }
  TS_INLINE int end_key(int t1) const { return t1 + right < S ? t1 + right : S; }
  TS_INLINE int first_query(int j0) const { return j0 - right > 0 ? j0 - right : 0; }
  TS_INLINE int end_query(int j1) const { return j1 + left < T_ ? j1 + left : T_; }
};

// Tiles are named by their offset in shared memory, a multiple of a row's bytes.
template <int kD>
struct HeadTile {
  static constexpr int kPieces = kD / 8, kPitch = kD <= 32 ? 4 : kD <= 64 ? 8 : 16;  // of 16 bytes
  static constexpr int kSteps = kD / 16, kRow = kPitch * 16;
  static constexpr int bytes(int rows) { return rows * kRow; }

  TS_INLINE static int place(int row, int piece) {
    const int swap = kPitch == 4 ? row >> 1 & 3 : row & 7;
    return row * kRow + (piece ^ swap) * 16;
  }
  // kRows rows on their way, `rows` of which exist. A thread has one piece of every kStep-th row.
  template <int kRows>
  TS_INLINE static void start(int tile, const LowHeads& x, const unsigned char* from, int rows) {
    constexpr int kStep = kMmaThreads / kPitch;
    static_assert(kRows % kStep == 0 && kStep % 8 == 0);  // the swap is the same in all of a thread's rows
    const int piece = static_cast<int>(threadIdx.x) % kPitch, row = static_cast<int>(threadIdx.x) / kPitch;
    if (kPieces < kPitch && piece >= kPieces) return;
    const int left = x.width - 16 * piece, whole = left < 0 ? 0 : left < 16 ? left : 16;
    unsigned char* const to = dynamic_shared() + tile + place(row, piece);
    from += row * x.row + 16 * piece;
#pragma unroll
    for (int r = 0; r < kRows; r += kStep, from += kStep * x.row) {
      copy_async(to + r * kRow, from, r + row < rows ? whole : 0);  // none are read beyond the last row
    }
  }

  // The rows that this lane names for ldmatrix, at the first step: of A, and of B whose columns are rows of
  // the tile. A step further is an exclusive or with its pieces, eight rows further an addition.
  struct Lane {
    int a, b;
    TS_INLINE explicit Lane(int lane)
        : a(place((lane & 7) + 8 * (lane >> 3 & 1), lane >> 4)),
          b(place((lane & 7) + 8 * (lane >> 4), lane >> 3 & 1)) {}
  };
  // Of A, 16 rows from r on, at a step of 16 features.
  TS_INLINE static void rows16(std::uint32_t (&f)[4], int tile, int step, int r, Lane lane) {
    load_matrices(f, dynamic_shared() + (((tile + lane.a) ^ 32 * step) + r * kRow));
  }
  // Of B, whose columns are rows of the tile: b0, b1 of eight from r on, then of the next eight.
  TS_INLINE static void columns16(std::uint32_t (&f)[4], int tile, int step, int r, Lane lane) {
    load_matrices(f, dynamic_shared() + (((tile + lane.b) ^ 32 * step) + r * kRow));
  }
  // Of B, whose columns are features from c on, at a step of 16 rows of the tile.
  TS_INLINE static void across16(std::uint32_t (&f)[4], int tile, int step, int c, Lane lane) {
    load_matrices_transposed(f, dynamic_shared() + (((tile + lane.a) ^ 2 * c) + 16 * step * kRow));
  }
  // s (16 rows of a from ra on times kColumns rows of b) = a b'.
  template <class Number, int kColumns>
  TS_INLINE static void products(float (&s)[kColumns / 8][4], int a, int ra, int b, Lane lane) {
#pragma unroll
    for (auto& tile : s)
#pragma unroll
      for (float& x : tile) x = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t fa[4];
      rows16(fa, a, step, ra, lane);
#pragma unroll
      for (int j = 0; j < kColumns / 16; ++j) {
        std::uint32_t fb[4];
        columns16(fb, b, step, 16 * j, lane);
        multiply_low<Number>(s[2 * j], fa, fb[0], fb[1]);
        multiply_low<Number>(s[2 * j + 1], fa, fb[2], fb[3]);
      }
    }
  }
  // out (16 rows of kD features) += p b, p 16 x kRows in fragments of results, b kRows rows of the tile.
  template <class Number, int kRows>
  TS_INLINE static void accumulate(float (&out)[kD / 8][4], const float (&p)[kRows / 8][4], int b,
                                   Lane lane) {
#pragma unroll
    for (int step = 0; step < kRows / 16; ++step) {
      std::uint32_t fa[4];
      fragment<Number>(fa, p[2 * step], p[2 * step + 1]);
#pragma unroll
      for (int j = 0; j < kD / 16; ++j) {
        std::uint32_t fb[4];
        across16(fb, b, step, 16 * j, lane);
        multiply_low<Number>(out[2 * j], fa, fb[0], fb[1]);
        multiply_low<Number>(out[2 * j + 1], fa, fb[2], fb[3]);
      }
    }
  }
  // Two 16 x 8 fragments of results, rounded, are one of A.
  template <class Number>
  TS_INLINE static void fragment(std::uint32_t (&fa)[4], const float (&x)[4], const float (&y)[4]) {
    fa[0] = pack_numbers<Number>(x[0], x[1]), fa[1] = pack_numbers<Number>(x[2], x[3]);
    fa[2] = pack_numbers<Number>(y[0], y[1]), fa[3] = pack_numbers<Number>(y[2], y[3]);
  }
};

// Forward by wgmma (attention_wgmma.h); false for what it does not take, and where the GPU has none.
bool attention_wgmma(DType number, const LowAttending& a, std::int64_t D, std::int64_t E, const View& y,
                     float* logsumexp);
// Backward (attention_wgmma_backward.h). `natural`: the scale of the scores as they were given.
bool attention_wgmma_backward(DType number, const LowAttending& a, const LowHeads& dy, std::int64_t D,
                              std::int64_t E, const float* logsumexp, const float* delta, const View& dq,
                              const View& dk, const View& dv, float natural);

}  // namespace ts::cuda
