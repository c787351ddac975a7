// Records of bfloat16 numbers: what convolutions read on AMX tiles (conv_bf16.cpp, conv_bf16_weight.cpp).
// Include it behind their check, and after the pragma that allows AMX.
#pragma once

#include "cpu/bf16_tile.h"
#include "cpu/conv_tile.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kTile = kSquare;          // pixels and outputs of a tile
constexpr std::int64_t kBandTarget = 384 << 10;  // bytes: beside the filters in L2

// What a record holds.
enum class Fold { pixel, row, window };

struct Conv16 {
  Correlation<Bits16> k;  // x may be float32, and y
  bool x_wide, y_wide;
  const float* bias;

  Fold fold;
  Pair taps, step, shift;       // of records; how far the last taps reach, in records of a phase
  std::int64_t length, padded;  // of a record
  std::int64_t steps, cols;     // of 32 in a record; records of a row of a band
  std::int64_t panels, panel;   // of 32 outputs in a group; elements of one
  std::int64_t rows;            // of y in a band

  Conv16(const Correlation<Bits16>& given, bool x_is_wide, bool y_is_wide, const float* b)
      : k(given), x_wide(x_is_wide), y_wide(y_is_wide), bias(b) {
    const std::int64_t all = k.depth(), row = k.taps.w * k.C;
    fold = all <= 64 ? Fold::window : k.C < 32 && row > k.C ? Fold::row : Fold::pixel;
    taps = fold == Fold::window ? Pair{1, 1} : fold == Fold::row ? Pair{k.taps.h, 1} : k.taps;
    step = fold == Fold::window ? Pair{1, 1} : fold == Fold::row ? Pair{k.step.h, 1} : k.step;
    if (k.taps.h == 0 || k.taps.w == 0) taps = {0, 0};
    length = fold == Fold::window ? all : fold == Fold::row ? row : k.C;
    shift = {taps.h > 0 ? (taps.h - 1) * k.spread.h / step.h : 0,
             taps.w > 0 ? (taps.w - 1) * k.spread.w / step.w : 0};
    padded = most(kTile, round_up(length, kTile)), steps = taps.h > 0 ? padded / kTile : 0;
    cols = k.Q + shift.w;
    panels = ceil_div(k.O, kTile), panel = taps.h * taps.w * steps * kArea;
    const std::int64_t fit = kBandTarget / (step.h * step.w * cols * padded * 2) - shift.h;
    rows = most(1, least(k.P, fit));
    // At least 8 bands, if they are worth a copy each.
    while (rows > 4 && k.N * ceil_div(k.P, rows) < 8) rows = ceil_div(rows, 2);
  }
  // Whether a tap meets this phase; others are not copied.
  bool met(std::int64_t phase) const {
    bool h = false, w = false;
    for (std::int64_t i = 0; i < taps.h; ++i) h |= i * k.spread.h % step.h == phase / step.w;
    for (std::int64_t j = 0; j < taps.w; ++j) w |= j * k.spread.w % step.w == phase % step.w;
    return h && w;
  }
  std::int64_t band_height(std::int64_t r) const { return r + shift.h; }
  std::int64_t image(std::int64_t r) const { return band_height(r) * cols * padded; }  // of a phase
  // With what the last tile reads past its end.
  std::int64_t band_size(std::int64_t r) const { return step.h * step.w * image(r) + 2 * kTile * padded; }
};

// A pixel's channels.
template <class S>
TS_INLINE void copy_pixel(const S* from, std::int64_t stride, std::int64_t count, std::uint16_t* to) {
  if (stride == 1) {
    for (std::int64_t c = 0; c < count; c += kTile) {
      const std::int64_t n = least(kTile, count - c);
      _mm512_mask_storeu_epi16(to + c, _bzhi_u32(~0u, static_cast<unsigned>(n)), load_bf16(from + c, n));
    }
    return;
  }
  for (std::int64_t c = 0; c < count; ++c) {
    const __m512i one = load_bf16(from + c * stride, 1);
    to[c] = static_cast<std::uint16_t>(_mm_extract_epi16(_mm512_castsi512_si128(one), 0));
  }
}

// Columns [w0, w0 + cols) of row h, channels together, zeros outside the image.
template <class S>
void copy_row(const Correlation<Bits16>& k, const S* image, std::int64_t h, std::int64_t w0,
              std::int64_t cols, std::uint16_t* to) {
  const std::int64_t left = least(cols, most(0, -w0)),
                     right = h < 0 || h >= k.H ? left : most(left, least(cols, k.W - w0));
  std::memset(to, 0, static_cast<std::size_t>(left * k.C) * 2);
  std::memset(to + right * k.C, 0, static_cast<std::size_t>((cols - right) * k.C) * 2);
  if (left == right) return;
  const S* const from = image + h * k.xs.h + (w0 + left) * k.xs.w;
  to += left * k.C;
  if ((k.xs.c == 1 || k.C == 1) && k.xs.w == k.C) {
    copy_pixel(from, std::int64_t{1}, (right - left) * k.C, to);
  } else if (k.xs.w == 1) {
    alignas(64) std::uint16_t some[kTile];
    for (std::int64_t c = 0; c < k.C; ++c)
      for (std::int64_t w = 0; w < right - left; w += kTile) {
        const std::int64_t n = least(kTile, right - left - w);
        _mm512_store_si512(some, load_bf16(from + c * k.xs.c + w, n));
        for (std::int64_t i = 0; i < n; ++i) to[(w + i) * k.C + c] = some[i];
      }
  } else {
    for (std::int64_t w = 0; w < right - left; ++w) copy_pixel(from + w * k.xs.w, k.xs.c, k.C, to + w * k.C);
  }
}

// Few channels: the records of rows [p0, p0 + count) of y, from rows of x that are made dense in `rows`.
template <class S>
void copy_folded(const Conv16& f, const S* image, std::int64_t p0, std::int64_t count, std::uint16_t* band,
                 std::uint16_t* rows) {
  const Correlation<Bits16>& k = f.k;
  const bool window = f.fold == Fold::window;
  const std::int64_t seen = window ? k.taps.h : 1, cols = k.band_cols();
  const std::int64_t run = k.spread.w == 1 || k.taps.w == 1 ? k.taps.w * k.C : k.C,
                     runs = k.taps.w * k.C / run;
  // Rows that several windows see are made dense once (steps beyond the window would leave too many).
  const bool once = window && k.spread.h == 1 && k.step.h <= k.taps.h && k.step.w <= k.taps.w;
  for (std::int64_t h = 0; once && h < k.band_rows(count); ++h)
    copy_row(k, image, p0 * k.step.h + k.first.h + h, k.first.w, cols, rows + h * cols * k.C);
  for (std::int64_t phase = 0; phase < f.step.h; ++phase) {
    if (!f.met(phase)) continue;
    std::uint16_t* to = band + phase * f.image(count);
    for (std::int64_t r = 0; r < f.band_height(count); ++r) {
      for (std::int64_t i = 0; i < seen && !once; ++i)
        copy_row(k, image, (p0 + r) * k.step.h + k.first.h + (window ? i * k.spread.h : phase), k.first.w,
                 cols, rows + i * cols * k.C);
      // 32 numbers of every record: the runs that they are of, each a load of what it gives.
      for (std::int64_t e = 0; e < f.padded; e += kTile) {
        std::int64_t from[kTile];
        __mmask32 lanes[kTile];
        int count = 0;
        for (std::int64_t m = e / run; m < seen * runs && m * run < e + kTile; ++m, ++count) {
          const std::int64_t at = m * run - e;  // the lane of its first number
          from[count] = (m / runs * cols + m % runs * k.spread.w) * k.C - at;
          lanes[count] = _bzhi_u32(~0u, static_cast<unsigned>(least(kTile, at + run))) &
                         ~_bzhi_u32(~0u, static_cast<unsigned>(most(0, at)));
        }
        const std::uint16_t* x = rows + (once ? r * k.step.h * cols * k.C : 0);
        for (std::int64_t q = 0; q < f.cols; ++q, x += k.step.w * k.C) {
          __m512i record = _mm512_setzero_si512();
          for (int m = 0; m < count; ++m) record = _mm512_mask_loadu_epi16(record, lanes[m], x + from[m]);
          _mm512_storeu_si512(to + q * f.padded + e, record);
        }
      }
      to += f.cols * f.padded;
    }
  }
}

// The records under rows [p0, p0 + count) of y, for the channels of one group.
template <class S>
void copy_records(const Conv16& f, const S* image, std::int64_t p0, std::int64_t count, std::uint16_t* band) {
  const Correlation<Bits16>& k = f.k;
  const std::int64_t height = f.band_height(count), tail = f.padded - f.length;
  const bool squares = k.xs.c != 1 && k.xs.w == 1 && k.step.w == 1;
  for (std::int64_t phase = 0; phase < f.step.h * f.step.w; ++phase) {
    const std::int64_t ph = phase / f.step.w, pw = phase % f.step.w;
    if (!f.met(phase)) continue;
    std::uint16_t* row = band + phase * f.image(count);
    for (std::int64_t r = 0; r < height; ++r, row += f.cols * f.padded) {
      const std::int64_t h = (p0 + r) * k.step.h + k.first.h + ph, w0 = k.first.w + pw;
      const std::int64_t left = least(f.cols, w0 < 0 ? ceil_div(-w0, k.step.w) : 0),
                         right = h < 0 || h >= k.H || w0 >= k.W
                                     ? left
                                     : most(left, least(f.cols, ceil_div(k.W - w0, k.step.w)));
      std::memset(row, 0, static_cast<std::size_t>(left * f.padded) * 2);
      std::memset(row + right * f.padded, 0, static_cast<std::size_t>((f.cols - right) * f.padded) * 2);
      const S* const from = image + h * k.xs.h + w0 * k.xs.w;
      if (!squares) {
        for (std::int64_t q = left; q < right; ++q) {
          std::uint16_t* const to = row + q * f.padded;
          copy_pixel(from + q * k.step.w * k.xs.w, k.xs.c, k.C, to);
          if (tail > 0) std::memset(to + f.length, 0, static_cast<std::size_t>(tail) * 2);
        }
        continue;
      }
      // Rows of pixels (NCHW): 32 pixels by 32 channels at a time, transposed.
      alignas(64) std::uint16_t square[kArea];
      for (std::int64_t q = left; q < right; q += kTile)
        for (std::int64_t c = 0; c < f.padded; c += kTile) {
          const std::int64_t n = least(kTile, right - q);
          pack_square<false>(square, from + c * k.xs.c + q, std::int64_t{1}, k.xs.c, n,
                             least(kTile, k.C - c));
          for (std::int64_t i = 0; i < n; ++i)
            _mm512_storeu_si512(row + (q + i) * f.padded + c, _mm512_load_si512(square + i * kTile));
        }
    }
  }
}

// The same from image n for group g, whichever the fold and x's type; `rows` as of copy_folded.
inline void copy_image(const Conv16& f, std::int64_t n, std::int64_t g, std::int64_t p0, std::int64_t count,
                       std::uint16_t* band, std::uint16_t* rows) {
  const std::int64_t from = n * f.k.xs.n + g * f.k.C * f.k.xs.c;
  const auto copy = [&](const auto* x) {
    if (f.fold == Fold::pixel)
      copy_records(f, x + from, p0, count, band);
    else
      copy_folded(f, x + from, p0, count, band, rows);
  };
  f.x_wide ? copy(reinterpret_cast<const float*>(f.k.x)) : copy(f.k.x);
}

}  // namespace ts::cpu::TS_ISA
