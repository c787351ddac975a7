// Convolution of bfloat16 numbers and its input gradient on AMX tiles: the correlation of conv_tile.h, sums
// in float32, rounded once where y is bfloat16.
//
// The rows under a band of y are copied to the scratch as records of 32 numbers or a multiple, zeros around
// the image: the channels of a pixel, or, for few channels, all that a row of taps or the whole window sees.
// With a stride, each of its phases is an image of its own, so that neighbouring pixels of y are one record
// apart whatever the stride, and the 16 rows of a tile of the left side are loaded where they lie. Pixels of
// y are counted on through the rows of a band, a few records longer than y's; what is computed there is
// dropped.
//
// The sum runs over i, j, c (zeros up to a multiple of 32 for each record), in the order of ADR 6's `amx`; by
// shapes alone.
#include "cpu/conv_bf16.h"

#if defined(__AVX512F__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,amx-tile,amx-bf16")
#endif
#include "cpu/conv_records.h"
#include "cpu/conv_views.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kNear = 32 << 10;  // bytes of filters that stay in L1

// Outputs [o, o + 32) of group g: [tap][step] squares of pairs.
void pack_panel(const Conv16& f, std::int64_t g, std::int64_t o, std::uint16_t* to) {
  const Correlation<Bits16>& k = f.k;
  const std::int64_t lanes = least(kTile, k.O - o);
  const Bits16* const w = k.w + g * k.wg + o * k.wo;
  for (std::int64_t i = 0; i < f.taps.h; ++i)
    for (std::int64_t j = 0; j < f.taps.w; ++j)
      for (std::int64_t s = 0; s < f.steps; ++s, to += kArea) {
        const std::int64_t depth = least(kTile, f.length - s * kTile);
        if (f.fold == Fold::pixel && (k.wc == 1 || k.wo == 1)) {
          pack_square<true>(to, w + i * k.ws.h + j * k.ws.w + s * kTile * k.wc, k.wo, k.wc, lanes, depth);
          continue;
        }
        Bits16 dense[kArea];
        for (std::int64_t l = 0; l < lanes; ++l)
          for (std::int64_t d = 0; d < depth; ++d) {
            const std::int64_t e = s * kTile + d, tap = e / k.C, c = e % k.C;
            const std::int64_t ti = f.fold == Fold::window ? tap / k.taps.w : i;
            const std::int64_t tj = f.fold == Fold::window ? tap % k.taps.w : f.fold == Fold::row ? tap : j;
            dense[l * kTile + d] = w[l * k.wo + ti * k.ws.h + tj * k.ws.w + c * k.wc];
          }
        pack_square<true>(to, dense, kTile, std::int64_t{1}, lanes, depth);
      }
}

// out = 32 records from each tap's offset on, times a panel.
template <bool Wide>
void tile(const std::uint16_t* a, std::int64_t record, const std::int64_t* offsets, std::int64_t taps,
          std::int64_t steps, const std::uint16_t* b, float* out) {
  zero_tile<Wide>();
  for (std::int64_t t = 0; t < taps; ++t) {
    const std::uint16_t* p = a + offsets[t];
    for (std::int64_t s = 0; s < steps; ++s, p += kTile, b += kArea) multiply_step<Wide>(p, record, b);
  }
  store_tile<Wide>(out);
}

// Bias, relu, rounding: the pixels of a tile that are y's, from the one that is `at` in its band.
void finish(const Conv16& f, const float* sums, std::int64_t at, std::int64_t rows, std::int64_t outputs,
            const float* bias, char* y) {
  const Correlation<Bits16>& k = f.k;
  const unsigned lanes = _bzhi_u32(~0u, static_cast<unsigned>(outputs));
  const auto low = static_cast<__mmask16>(lanes), high = static_cast<__mmask16>(lanes >> 16);
  const __m512 zero = _mm512_setzero_ps();
  const __m512 b0 = bias ? _mm512_maskz_loadu_ps(low, bias) : zero,
               b1 = bias ? _mm512_maskz_loadu_ps(high, bias + 16) : zero;
  std::int64_t p = at / f.cols, q = at % f.cols;
  for (std::int64_t i = 0; i < kTile && p < rows; ++i, sums += kTile) {
    if (q < k.Q) {
      __m512 u = _mm512_loadu_ps(sums), v = _mm512_maskz_loadu_ps(high, sums + 16);
      if (bias) u = _mm512_add_ps(u, b0), v = _mm512_add_ps(v, b1);
      if (k.relu) {  // NaN stays
        u = _mm512_mask_mov_ps(u, _mm512_cmp_ps_mask(u, zero, _CMP_LT_OQ), zero);
        v = _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, zero, _CMP_LT_OQ), zero);
      }
      const std::int64_t to = p * k.ys.h + q * k.ys.w;
      if (f.y_wide) {
        float* const row = reinterpret_cast<float*>(y) + to;
        _mm512_mask_storeu_ps(row, low, u);
        _mm512_mask_storeu_ps(row + 16, high, v);
      } else {
        _mm512_mask_storeu_epi16(reinterpret_cast<std::uint16_t*>(y) + to, lanes,
                                 reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(v, u)));
      }
    }
    if (++q == f.cols) q = 0, ++p;
  }
}

// Reads x about once, writes y once; packs the filters once a call.
void correlate_bf16(const Conv16& f) {
  const Correlation<Bits16>& k = f.k;
  if (k.N == 0 || k.G == 0 || k.O == 0 || k.P <= 0 || k.Q <= 0) return;
  auto* const packed = shared_scratch<std::uint16_t>();
  const std::int64_t all = k.G * f.panels;
  parallel_ranges(all, most(1, (1 << 16) / most(1, f.panel)), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      pack_panel(f, i / f.panels, i % f.panels * kTile, packed + i * f.panel);
  });
  const std::int64_t bands = ceil_div(k.P, f.rows), places = k.N * bands;
  // Few bands: more pieces from fewer panels each, who copy the band again.
  const std::int64_t splits = least(all, ceil_div(4, places)), each = ceil_div(all, splits);
  parallel_for(places * splits, [&](std::int64_t piece) {
    const std::int64_t n = piece / splits / bands, p0 = piece / splits % bands * f.rows;
    const std::int64_t rows = least(f.rows, k.P - p0), first = piece % splits * each,
                       last = least(all, first + each);
    if (first >= last) return;
    const TileConfig config;
    _tile_loadconfig(&config);
    char* const memory = band_scratch<char>();
    float* const sums = reinterpret_cast<float*>(memory);
    auto* const offsets = reinterpret_cast<std::int64_t*>(memory + kArea * 4);
    const std::int64_t taps = f.taps.h * f.taps.w;
    auto* const band = reinterpret_cast<std::uint16_t*>(memory + kArea * 4 + round_up(taps * 8, 64));
    for (std::int64_t i = 0; i < f.taps.h; ++i)
      for (std::int64_t j = 0; j < f.taps.w; ++j) {
        const std::int64_t h = i * k.spread.h, w = j * k.spread.w;
        offsets[i * f.taps.w + j] = (h % f.step.h * f.step.w + w % f.step.w) * f.image(rows) +
                                    (h / f.step.h * f.cols + w / f.step.w) * f.padded;
      }
    const std::int64_t pixels = rows * f.cols - f.shift.w;
    const std::int64_t item = f.y_wide ? 4 : 2;
    char* const y = reinterpret_cast<char*>(k.y) + (n * k.ys.n + p0 * k.ys.h) * item;
    for (std::int64_t i = first; i < last;) {
      const std::int64_t g = i / f.panels, stop = least(last, (g + 1) * f.panels);
      if (taps > 0) copy_image(f, n, g, p0, rows, band, band + f.band_size(rows));
      const auto run = [&](std::int64_t panel, std::int64_t at) {
        const std::int64_t o = panel % f.panels * kTile, outputs = least(kTile, k.O - o), c = g * k.O + o;
        (outputs > 16 ? tile<true> : tile<false>)(band + at * f.padded, f.padded, offsets, taps, f.steps,
                                                  packed + panel * f.panel, sums);
        finish(f, sums, at, rows, outputs, f.bias ? f.bias + c : nullptr, y + c * k.ys.c * item);
      };
      // The side that stays in L1 is the one that the inner loop meets again.
      if (f.panel * 2 <= kNear) {
        for (; i < stop; ++i)
          for (std::int64_t at = 0; at < pixels; at += kTile) run(i, at);
      } else {
        for (std::int64_t at = 0; at < pixels; at += kTile)
          for (std::int64_t panel = i; panel < stop; ++panel) run(panel, at);
        i = stop;
      }
    }
    _tile_release();
  });
}

}  // namespace

void conv2d_bf16(In x, In weight, In bias, Out y, Conv2d conv, Activation activation) {
  Correlation<Bits16> k = correlation_of<Bits16>(x, weight, y, conv);
  k.relu = activation == Activation::relu;
  correlate_bf16(
      Conv16(k, x.dtype == DType::float32, y.dtype == DType::float32, static_cast<const float*>(bias.data)));
}

void conv2d_input_backward_bf16(In dy, In weight, Out dx, Conv2d conv) {
  for_each_phase<Bits16>(dy, weight, dx, conv, [&](const Correlation<Bits16>& k) {
    correlate_bf16(Conv16(k, dy.dtype == DType::float32, dx.dtype == DType::float32, nullptr));
  });
}

}  // namespace ts::cpu::TS_ISA

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace ts::cpu::TS_ISA {

// csrc/ops computes in float32 where there are no tiles, which is so on this level.
void conv2d_bf16(In, In, In, Out, Conv2d, Activation) { __builtin_trap(); }
void conv2d_input_backward_bf16(In, In, Out, Conv2d) { __builtin_trap(); }

}  // namespace ts::cpu::TS_ISA
#endif
