// Depthwise correlation and its weight gradient: one channel in, one out, so that a vector holds neighbouring
// channels (legend in conv_tile.h, with C = O = 1).
//
//   y[n, p, q, g] = act(bias[g] + sum over taps of x[n, p.., q.., g] * w[tap, g])
//
// Reads x once from memory and writes y once; taps re-read it from the caches.
#include "cpu/conv_tile.h"

namespace ts::cpu::TS_ISA {

namespace {

template <class T>
constexpr std::int64_t kBlock = 256 / static_cast<std::int64_t>(sizeof(T));  // channels of one pass

// Rows pixels of one vector of channels.
template <class T, int Rows>
void depthwise_tile(const T* x, std::int64_t pixel, const std::int64_t* offsets, std::int64_t taps,
                    const T* w, Vec<T> bias, bool relu, T* y, std::int64_t y_pixel, std::int64_t y_channel,
                    std::int64_t channels) {
  using V = Vec<T>;
  V acc[Rows];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) acc[r] = V(T(0));
  for (std::int64_t t = 0; t < taps; ++t, w += kBlock<T>) {
    const T* at = x + offsets[t];
    const V b = V::load(w);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) acc[r] = fma(V::load(at + r * pixel), b, acc[r]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    acc[r] = acc[r] + bias;
    if (relu) acc[r] = select(acc[r] < V(T(0)), V(T(0)), acc[r]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    if (y_channel == 1) {
      if (channels == V::width)
        acc[r].store(y + r * y_pixel);
      else
        acc[r].store_partial(y + r * y_pixel, channels);
    } else {
      for (std::int64_t c = 0; c < channels; ++c)
        y[r * y_pixel + c * y_channel] = acc[r][static_cast<int>(c)];
    }
  }
}

constexpr int kPixels = 7;

}  // namespace

template <class T>
void depthwise(const Correlation<T>& k) {
  using V = Vec<T>;
  constexpr std::int64_t block = kBlock<T>;
  if (k.N == 0 || k.P <= 0 || k.Q <= 0) return;
  const std::int64_t taps = k.taps.h * k.taps.w, blocks = ceil_div(k.G, block);
  const bool copies = taps > 0 && !(k.inside() && k.xs.c == 1 && k.G % V::width == 0);
  const std::int64_t cols = copies ? k.band_cols() : 0;
  const std::int64_t row_bytes = cols * block * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t offset_bytes = round_up(taps * 8, 64);
  const std::int64_t block_size = (taps + 1) * block;  // bias, then weights
  T* const packed = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  if (offset_bytes + blocks * block_size * static_cast<std::int64_t>(sizeof(T)) > kSharedBytes ||
      (copies && k.band_rows(1) > kBandBytes / row_bytes))
    return correlate(k);

  for (std::int64_t g = 0; g < blocks * block; ++g) {
    T* dst = packed + g / block * block_size + g % block;
    dst[0] = k.bias && g < k.G ? k.bias[g * k.bias_stride] : T(0);
    for (std::int64_t i = 0; i < k.taps.h; ++i)
      for (std::int64_t j = 0; j < k.taps.w; ++j)
        dst[(1 + i * k.taps.w + j) * block] = g < k.G ? k.w[g * k.wg + i * k.ws.h + j * k.ws.w] : T(0);
  }
  const std::int64_t row = copies ? cols * block : k.xs.h, column = copies ? block : k.xs.w;
  for (std::int64_t i = 0; i < k.taps.h; ++i)
    for (std::int64_t j = 0; j < k.taps.w; ++j)
      offsets[i * k.taps.w + j] = i * k.spread.h * row + j * k.spread.w * column;

  // Pieces: bands of about 64 K outputs of one block of channels, or several images.
  constexpr std::int64_t kPiece = std::int64_t{1} << 16;
  std::int64_t bands = least(k.P, ceil_div(k.P * k.Q * block, kPiece));
  if (copies) bands = most(bands, ceil_div(k.P, 1 + (kBandBytes / row_bytes - k.band_rows(1)) / k.step.h));
  const std::int64_t band_rows = ceil_div(k.P, bands);
  bands = ceil_div(k.P, band_rows);
  const std::int64_t images = bands > 1 ? 1 : least(k.N, most(1, kPiece / (k.P * k.Q * block)));

  parallel_for(ceil_div(k.N, images) * bands * blocks, [&](std::int64_t piece) {
    const std::int64_t g0 = piece % blocks * block, band = piece / blocks % bands,
                       first = piece / blocks / bands * images;
    const std::int64_t channels = least(block, k.G - g0);
    const std::int64_t p0 = band * band_rows, p1 = least(k.P, p0 + band_rows);
    const T* const weights = packed + g0 / block * block_size;
    for (std::int64_t n = first; n < least(k.N, first + images); ++n) {
      const T* source = k.x + n * k.xs.n + g0 * k.xs.c;
      Band<T> x{source + (p0 * k.step.h + k.first.h) * k.xs.h + k.first.w * k.xs.w, k.xs.h, k.xs.w};
      if (copies) {
        x = {band_scratch<T>(), cols * block, block};
        copy_band(source, k.xs, k.H, k.W, channels, p0 * k.step.h + k.first.h, k.band_rows(p1 - p0),
                  k.first.w, cols, block, band_scratch<T>());
      }
      for (std::int64_t p = p0; p < p1; ++p) {
        const T* from = x.data + (p - p0) * k.step.h * x.row;
        T* to = k.y + n * k.ys.n + g0 * k.ys.c + p * k.ys.h;
        for (std::int64_t c = 0; c < channels; c += V::width) {
          const V bias = V::load(weights + c);
          const std::int64_t count = least(V::width, channels - c);
          const std::int64_t pixel = k.step.w * x.pixel;
          std::int64_t q = 0;
          for (; q + kPixels <= k.Q; q += kPixels)
            depthwise_tile<T, kPixels>(from + q * pixel + c, pixel, offsets, taps, weights + block + c, bias,
                                       k.relu, to + q * k.ys.w + c * k.ys.c, k.ys.w, k.ys.c, count);
          for (; q < k.Q; ++q)
            depthwise_tile<T, 1>(from + q * pixel + c, pixel, offsets, taps, weights + block + c, bias,
                                 k.relu, to + q * k.ys.w + c * k.ys.c, k.ys.w, k.ys.c, count);
        }
      }
    }
  });
}

template void depthwise(const Correlation<float>&);
template void depthwise(const Correlation<double>&);

}  // namespace ts::cpu::TS_ISA
