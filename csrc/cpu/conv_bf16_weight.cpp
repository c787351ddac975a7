// The weight gradient of a convolution of bfloat16 numbers on AMX tiles (records: conv_records.h), in
// float32:
//
//   dw[o, i, j, c] = sum over n, p, q of dy[n, o, p, q] * x[...]        dbias[o] = sum of dy
//
// A tile is 32 numbers of a record by 32 outputs, its reduction the pixels of a band: x's records are
// transposed, so that each number's pixels lie side by side, and a tap reads them from an offset on; dy's
// pixels are packed in pairs, zeros where a band has pixels that y has not. (So an inf in x reaches all taps
// of its channel.)
//
// The rows of all images are cut into at most 16 chunks by shape alone; a chunk sums in the order of its
// pixels, 32 at a time as ADR 6's `amx`, and the chunks are added in order.
#include "cpu/conv_bf16.h"

#if defined(__AVX512F__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,amx-tile,amx-bf16")
#endif
#include "cpu/conv_pack.h"
#include "cpu/conv_records.h"
#include "cpu/conv_views.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kBand = 448;  // pixels, about: two panels of them fill the first-level cache
constexpr int kBiasRows = 4;         // of partial sums of dbias

// sum (32 x 32) += 32 rows of x by the squares of dy; fresh: = .
template <bool Wide>
void weight_tile(const std::uint16_t* x, std::int64_t pitch, const std::uint16_t* dy, std::int64_t steps,
                 float* sum, bool fresh) {
  fresh ? zero_tile<Wide>() : load_tile<Wide>(sum);
  for (std::int64_t s = 0; s < steps; ++s, x += kTile, dy += kArea) multiply_step<Wide>(x, pitch, dy);
  store_tile<Wide>(sum);
}

// `pixels` records to to[number][pixel].
void transpose_records(const std::uint16_t* records, std::int64_t padded, std::int64_t pixels,
                       std::int64_t pitch, std::uint16_t* to) {
  alignas(64) std::uint16_t square[kArea];
  for (std::int64_t t = 0; t < pixels; t += kTile)
    for (std::int64_t e = 0; e < padded; e += kTile) {
      pack_square<false>(square, reinterpret_cast<const Bits16*>(records + t * padded + e), std::int64_t{1},
                         padded, kTile, least(kTile, pixels - t));
      for (std::int64_t i = 0; i < kTile; ++i)
        _mm512_storeu_si512(to + (e + i) * pitch + t, _mm512_load_si512(square + i * kTile));
    }
}

// dy's records, each beside one of x: rows [p0, p0 + rows) of one image, the outputs of one group, zeros up
// to `width` numbers.
void copy_gradient(const Conv16& f, const Bits16* dy, std::int64_t p0, std::int64_t rows, std::int64_t width,
                   std::uint16_t* to) {
  const Correlation<Bits16>& k = f.k;
  for (std::int64_t p = 0; p < f.band_height(rows); ++p)
    for (std::int64_t q = 0; q < f.cols; ++q, to += width) {
      const bool there = p < rows && q < k.Q;
      if (there) copy_pixel(dy + (p0 + p) * k.ys.h + q * k.ys.w, k.ys.c, k.O, to);
      const std::int64_t count = there ? k.O : 0;
      if (count < width) std::memset(to + count, 0, static_cast<std::size_t>(width - count) * 2);
    }
}

// The sums of dbias: pixel t adds to row t % 4, so that additions do not wait for each other.
void add_bias(const std::uint16_t* dy, std::int64_t width, std::int64_t pixels, float* sums, bool fresh) {
  __m512 low[kBiasRows], high[kBiasRows];
  for (int r = 0; r < kBiasRows; ++r) {
    low[r] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + r * kTile);
    high[r] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + r * kTile + 16);
  }
  const auto wide = [](const std::uint16_t* p) TS_LAMBDA {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  };
  for (std::int64_t t = 0; t < pixels; t += kBiasRows)
#pragma GCC unroll 4
    for (int r = 0; r < kBiasRows; ++r) {
      if (t + r >= pixels) break;
      low[r] = _mm512_add_ps(low[r], wide(dy + (t + r) * width));
      high[r] = _mm512_add_ps(high[r], wide(dy + (t + r) * width + 16));
    }
  for (int r = 0; r < kBiasRows; ++r)
    _mm512_storeu_ps(sums + r * kTile, low[r]), _mm512_storeu_ps(sums + r * kTile + 16, high[r]);
}

}  // namespace

void conv2d_weight_backward_bf16(In dy, In x, Out dweight, Out dbias, Conv2d conv) {
  const Conv16 f(correlation_of<Bits16>(x, dweight, dy, conv), x.dtype == DType::float32, false, nullptr);
  const Correlation<Bits16>& k = f.k;

  const std::int64_t taps = f.taps.h * f.taps.w, all = k.G * f.panels, blocks = f.padded / kTile;
  const std::int64_t panel = (kBiasRows + taps * f.padded) * kTile;  // dbias, then [tap][number][32 outputs]
  const std::int64_t units = k.N * most(0, k.P) * (k.Q > 0);
  const std::int64_t chunk_units = weight_chunk(units, k.Q, 1024, all * panel * 4),
                     chunks = most(1, ceil_div(units, chunk_units));
  const std::int64_t splits = least(all, ceil_div(4, chunks)), each = ceil_div(all, splits);
  float* const partial = shared_scratch<float>();
  // A band: some rows of an image, or several whole images.
  const std::int64_t band_rows = most(1, least(k.P, kBand / f.cols));
  const std::int64_t image_pixels = f.band_height(band_rows) * f.cols;
  const std::int64_t band_images = band_rows < k.P ? 1 : most(1, kBand / image_pixels);
  const std::int64_t reach = f.shift.h * f.cols + f.shift.w, phases = f.step.h * f.step.w;

  parallel_for(chunks * splits, [&](std::int64_t piece) {
    const std::int64_t chunk = piece / splits, begin = piece % splits * each, end = least(all, begin + each);
    if (begin >= end) return;
    float* const sums = partial + chunk * all * panel;
    if (units == 0) std::memset(sums + begin * panel, 0, static_cast<std::size_t>((end - begin) * panel) * 4);
    const TileConfig config;
    _tile_loadconfig(&config);
    const std::int64_t last = least(units, (chunk + 1) * chunk_units);
    for (std::int64_t unit = chunk * chunk_units; unit < last;) {
      const bool fresh = unit == chunk * chunk_units;
      const std::int64_t n = unit / k.P, p0 = unit % k.P;
      const std::int64_t rows = least(least(band_rows, k.P - p0), last - unit);
      const std::int64_t images = rows == k.P ? least(band_images, (last - unit) / k.P) : 1;
      unit += rows * images;
      const std::int64_t each_image = f.band_height(rows) * f.cols, pixels = images * each_image;
      const std::int64_t steps = ceil_div(pixels, kTile);
      const std::int64_t pitch = round_up(steps * kTile + reach, 64) + 32;  // an odd number of lines
      auto* const band = band_scratch<std::uint16_t>();
      std::uint16_t* const across = band + round_up(f.band_size(rows), 32);
      std::uint16_t* const dense = across + phases * f.padded * pitch;
      const std::int64_t width = f.panels * kTile;
      std::uint16_t* const squares = dense + steps * kTile * width;
      std::uint16_t* const row_scratch = squares + f.panels * steps * kArea;
      for (std::int64_t first = begin; first < end;) {
        const std::int64_t g = first / f.panels, stop = least(end, (g + 1) * f.panels);
        for (std::int64_t m = 0; m < images; ++m) {
          copy_image(f, n + m, g, p0, rows, band, row_scratch);
          for (std::int64_t phase = 0; phase < phases; ++phase)
            if (f.met(phase))
              transpose_records(band + phase * f.image(rows), f.padded, each_image, pitch,
                                across + phase * f.padded * pitch + m * each_image);
          copy_gradient(f, k.y + (n + m) * k.ys.n + g * k.O * k.ys.c, p0, rows, width,
                        dense + m * each_image * width);
        }
        for (std::int64_t e = 0; e < phases * f.padded; ++e)
          std::memset(across + e * pitch + pixels, 0, static_cast<std::size_t>(pitch - pixels) * 2);
        std::memset(dense + pixels * width, 0,
                    static_cast<std::size_t>((steps * kTile - pixels) * width) * 2);
        for (std::int64_t i = first; i < stop; ++i) {
          const std::int64_t o = i % f.panels * kTile;
          for (std::int64_t s = 0; s < steps; ++s)
            pack_square<true>(squares + (i - first) * steps * kArea + s * kArea,
                              reinterpret_cast<const Bits16*>(dense + s * kTile * width + o), std::int64_t{1},
                              width, kTile, kTile);
          add_bias(dense + o, width, pixels, sums + i * panel, fresh);
        }
        for (std::int64_t block = 0; block < blocks; ++block)
          for (std::int64_t i = first; i < stop; ++i) {
            const bool wide = k.O - i % f.panels * kTile > 16;
            for (std::int64_t tap = 0; tap < taps; ++tap) {
              const std::int64_t h = tap / f.taps.w * k.spread.h, w = tap % f.taps.w * k.spread.w;
              const std::int64_t phase = h % f.step.h * f.step.w + w % f.step.w;
              const std::uint16_t* const at =
                  across + (phase * f.padded + block * kTile) * pitch + h / f.step.h * f.cols + w / f.step.w;
              (wide ? weight_tile<true>
                    : weight_tile<false>)(at, pitch, squares + (i - first) * steps * kArea, steps,
                                          sums + i * panel +
                                              (kBiasRows + tap * f.padded + block * kTile) * kTile,
                                          fresh);
            }
          }
        first = stop;
      }
    }
    _tile_release();
  });

  // Adds the chunks in order, into the first, and puts every weight in its place.
  Correlation<float> filters;  // what unpack_filters reads
  filters.taps = k.taps, filters.C = k.C, filters.wo = k.wo, filters.wc = k.wc, filters.ws = k.ws;
  parallel_ranges(all, most(1, (1 << 16) / panel), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* const sum = partial + i * panel;
      for (std::int64_t chunk = 1; chunk < chunks; ++chunk)
        for (std::int64_t v = 0; v < panel; v += 16) {
          const float* const other = sum + chunk * all * panel + v;
          _mm512_storeu_ps(sum + v, _mm512_add_ps(_mm512_loadu_ps(sum + v), _mm512_loadu_ps(other)));
        }
      float* const rows = sum + kBiasRows * kTile;
      if (f.length < f.padded)  // leave out what a record is padded with
        for (std::int64_t tap = 1; tap < taps; ++tap)
          std::memmove(rows + tap * f.length * kTile, rows + tap * f.padded * kTile,
                       static_cast<std::size_t>(f.length * kTile) * 4);
      const std::int64_t g = i / f.panels, o = i % f.panels * kTile, count = least(kTile, k.O - o);
      const std::int64_t to = (g * k.O + o) * dweight.strides[0];
      unpack_filters(filters, rows, count, kTile, dweight.as<float>() + to);
      for (std::int64_t l = 0; l < count && dbias; ++l)
        dbias.as<float>()[(g * k.O + o + l) * dbias.strides[0]] =
            (sum[l] + sum[kTile + l]) + (sum[2 * kTile + l] + sum[3 * kTile + l]);
    }
  });
}

}  // namespace ts::cpu::TS_ISA

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace ts::cpu::TS_ISA {

// csrc/ops computes in float32 where there are no tiles, which is so on this level.
void conv2d_weight_backward_bf16(In, In, Out, Out, Conv2d) { __builtin_trap(); }

}  // namespace ts::cpu::TS_ISA
#endif
