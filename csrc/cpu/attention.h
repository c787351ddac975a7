// What attention's two passes share: where its arrays lie, which keys a query sees, and the scores of a tile.
//
// B batches, H heads of queries, G heads of keys, T queries, S keys, D and E features of keys and of values.
// Scores are kept in base 2: s = log2(e) (scale q . k + mask), so that p = 2^(s - logsumexp).
#pragma once

#include <limits>

#include "cpu/block.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/types.h"
#include "math/vmath.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kKeys = 128;           // keys of a block
constexpr std::int64_t kScores = kKeys + 16;  // the distance of rows of scores: not a power of two
constexpr std::int64_t kUnlimited = std::int64_t{1} << 62;
constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;

// The lanes of 64 bytes, whatever the register: sums along a row are kept in this many.
template <class T>
constexpr std::int64_t kLogical = 64 / static_cast<std::int64_t>(sizeof(T));

constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

struct Range {
  std::int64_t begin, end;
};

struct AttentionShape {
  std::int64_t B, H, G, T, S, D, E, left, right;
  std::int64_t D_row, E_row;  // rows of D and E elements, padded

  AttentionShape(const In& q, const In& k, const In& v, const Attention& o)
      : B(q.shape[0]),
        H(q.shape[1]),
        G(k.shape[1]),
        T(q.shape[2]),
        S(k.shape[2]),
        D(q.shape[3]),
        E(v.shape[3]),
        left(o.left < 0 ? kUnlimited : o.left),
        right(o.right < 0 ? kUnlimited : o.right),
        // A multiple of 16 that is odd in cache lines: no two rows of a tile share a set of L1.
        D_row(round_up(D, 32) + 16),
        E_row(round_up(E, 32) + 16) {}

  // The keys of [begin, end) that some query of [t0, t1) may see.
  TS_INLINE Range seen(std::int64_t t0, std::int64_t t1, std::int64_t begin, std::int64_t end) const {
    const std::int64_t low = t0 - left, high = t1 + right;
    return {low > begin ? low : begin, high < end ? high : end};
  }
  // How many of the n keys from j a tile of queries from t needs: 0 if none is seen.
  TS_INLINE std::int64_t reach(std::int64_t t, std::int64_t height, std::int64_t j, std::int64_t n) const {
    const Range r = seen(t, t + height, j, j + n);
    return r.begin < r.end ? r.end - j : 0;
  }
  // Whether every query of the tile sees all n keys from j, but for the masks.
  TS_INLINE bool all_see(std::int64_t t, std::int64_t height, std::int64_t j, std::int64_t n) const {
    return t + height - 1 - left <= j && t + 1 + right >= j + n;
  }
};

// dst (rows x columns, padded with zeros to whole registers) = factor * src.
template <class T>
void copy_scaled(T* dst, std::int64_t dst_row, const T* src, std::int64_t row, std::int64_t column,
                 std::int64_t rows, std::int64_t columns, T factor) {
  constexpr std::int64_t W = Vec<T>::width;
  const Vec<T> f(factor);
  for (std::int64_t i = 0; i < rows; ++i, src += row, dst += dst_row)
    for (std::int64_t j = 0; j < columns; j += W) {
      const std::int64_t n = columns - j < W ? columns - j : W;
      Vec<T> x(T(0));
      if (column == 1)
        x = n == W ? Vec<T>::load(src + j) : load_lanes(src + j, Lanes<T>(n));
      else
        for (std::int64_t l = 0; l < n; ++l) x.r[l] = src[(j + l) * column];
      (x * f).store(dst + j);
    }
}

// 0, 1, 2, ...
template <class T>
TS_INLINE Vec<T> counting() {
  static constexpr T kCount[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return Vec<T>::load(kCount);
}

// The masks of one batch and head, and what they do to the scores of a tile.
template <class T>
struct Shown {
  const AttentionShape& shape;
  const In &mask, &keys;
  std::int64_t b, h;

  // s (rows of queries from t, kScores apart; n keys from j) -> -inf where a key is not seen, and up to
  // `padded`.
  void hide(T* s, std::int64_t rows, std::int64_t t, std::int64_t j, std::int64_t n,
            std::int64_t padded) const {
    constexpr std::int64_t W = Vec<T>::width;
    const T hidden = -std::numeric_limits<T>::infinity();
    for (std::int64_t i = 0; i < rows; ++i) {
      T* const row = s + i * kScores;
      const Range seen = shape.seen(t + i, t + i + 1, j, j + n);
      const std::int64_t low = seen.begin - j, high = seen.end > j ? seen.end - j : 0;
      const Vec<T> first(static_cast<T>(low < padded ? low : padded)), behind(static_cast<T>(high)),
          none(hidden);
      // Whole registers: a vector load that meets several narrower stores waits for all of them.
      for (std::int64_t c = low > 0 ? 0 : high / W * W; c < padded; c += W) {
        const Vec<T> place = counting<T>() + Vec<T>(static_cast<T>(c));
        select(place < first, none, select(place < behind, Vec<T>::load(row + c), none)).store(row + c);
      }
      if (keys) {
        const bool* const shown = keys.as<bool>() + b * keys.strides[0] + j * keys.strides[1];
        for (std::int64_t c = 0; c < n; ++c)
          if (!shown[c * keys.strides[1]]) row[c] = hidden;
      }
      if (!mask) continue;
      const std::int64_t at =
          b * mask.strides[0] + h * mask.strides[1] + (t + i) * mask.strides[2] + j * mask.strides[3];
      const std::int64_t step = mask.strides[3];
      if (mask.dtype == DType::boolean) {
        const bool* const shown = mask.as<bool>() + at;
        for (std::int64_t c = 0; c < n; ++c)
          if (!shown[c * step]) row[c] = hidden;
      } else {
        const T* const added = mask.as<T>() + at;
        for (std::int64_t c = 0; c < n; ++c) row[c] += added[c * step] * T(kLog2E);
      }
    }
  }
  TS_INLINE bool masked() const { return mask || keys; }
};

// The words of dropout: those of query row r begin at block r * blocks of the generator, key j takes word j.
struct Drops {
  const Generator* generator = nullptr;
  std::int64_t blocks;  // of four words, a row
  U32 limit;

  // Bit l: key j + l of query row r is kept. j is a multiple of four.
  TS_INLINE std::uint32_t kept(std::int64_t j, std::int64_t row) const {
    U32 first, second;
    group_words(*generator, row * blocks + j / 4, first, second);
    return at_least(first, limit) | at_least(second, limit) << U32::width;
  }
  // x (n keys from j of query row r) = kept ? x * factor : 0.
  template <class T>
  void apply(T* x, std::int64_t n, std::int64_t j, std::int64_t row, T factor) const {
    const Vec<T> f(factor);
    for (std::int64_t c = 0; c < n; c += kGroupWords) {
      const std::uint32_t bits = kept(j + c, row);
      for (int l = 0; l < kGroupWords; l += Vec<T>::width)
        (keep(Vec<T>::load(x + c + l), bits >> l) * f).store(x + c + l);
    }
  }
};

}  // namespace ts::cpu::TS_ISA
