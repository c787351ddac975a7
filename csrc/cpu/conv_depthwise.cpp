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

namespace {

constexpr int kTapGroup = 9;  // taps whose sums are in registers together

// sum[t] += over rows x cols pixels of x[offsets[t]] * dy.
template <class T, int Taps>
void depthwise_weight_tile(Band<T> x, Band<T> dy, std::int64_t rows, std::int64_t cols,
                           const std::int64_t* offsets, T* sum) {
  using V = Vec<T>;
  typename V::Reg acc[Taps];
  std::int64_t at[Taps];
#pragma GCC unroll 16
  for (int t = 0; t < Taps; ++t) acc[t] = V::load(sum + t * kBlock<T>).r, at[t] = offsets[t];
  do {  // at least one row and one column
    const T* a = x.data;
    const T* b = dy.data;
    std::int64_t q = cols;
    do {
      const V g = V::load(b);
#pragma GCC unroll 16
      for (int t = 0; t < Taps; ++t) acc[t] = fma(V::load(a + at[t]), g, V(acc[t])).r;
      a += x.pixel, b += dy.pixel;
    } while (--q);
    x.data += x.row, dy.data += dy.row;
  } while (--rows);
#pragma GCC unroll 16
  for (int t = 0; t < Taps; ++t) V(acc[t]).store(sum + t * kBlock<T>);
}

template <class T>
void depthwise_weight_taps(std::int64_t taps, Band<T> x, Band<T> dy, std::int64_t rows, std::int64_t cols,
                           const std::int64_t* offsets, T* sum) {
  switch (taps) {
#define TS_TAPS(N) \
  case N:          \
    return depthwise_weight_tile<T, N>(x, dy, rows, cols, offsets, sum);
    TS_TAPS(1)
    TS_TAPS(2)
    TS_TAPS(3)
    TS_TAPS(4)
    TS_TAPS(5)
    TS_TAPS(6)
    TS_TAPS(7)
    TS_TAPS(8)
    TS_TAPS(9)
#undef TS_TAPS
    default:
      __builtin_unreachable();
  }
}

}  // namespace

// Reads x and dy about once from memory; the sums of a chunk are [1 + taps][block], dbias first.
template <class T>
bool depthwise_weight(const Correlation<T>& k, T* dw, T* dbias, std::int64_t dbias_stride) {
  using V = Vec<T>;
  constexpr std::int64_t block = kBlock<T>, size = sizeof(T);
  const std::int64_t taps = k.taps.h * k.taps.w, blocks = ceil_div(k.G, block),
                     block_size = (taps + 1) * block;
  const std::int64_t cols = k.Q > 0 ? k.band_cols() : 0, x_row = cols * block, dy_row = k.Q * block;
  const std::int64_t offset_bytes = round_up(taps * 8, 64);
  const std::int64_t chunk_units = weight_chunk(k.N * k.P, k.Q, blocks * block_size * size);
  const std::int64_t units = k.N * k.P, chunks = ceil_div(units, chunk_units);
  if (units == 0 || k.Q == 0 || offset_bytes + chunks * blocks * block_size * size > kSharedBytes ||
      (k.band_rows(1) * x_row + dy_row) * size > kBandBytes)
    return false;

  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  T* const partial = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  for (std::int64_t i = 0; i < k.taps.h; ++i)
    for (std::int64_t j = 0; j < k.taps.w; ++j)
      offsets[i * k.taps.w + j] = i * k.spread.h * x_row + j * k.spread.w * block;
  // Both operands are copied to dense bands of one block of channels: the taps then read the first-level
  // cache.
  const std::int64_t fit =
      1 + (kBandBytes / size - k.band_rows(1) * x_row - dy_row) / (k.step.h * x_row + dy_row);
  const std::int64_t band_rows = least(fit, ceil_div(64, k.Q));

  parallel_for(chunks * blocks, [&](std::int64_t piece) {
    const std::int64_t g0 = piece % blocks * block, channels = least(block, k.G - g0), chunk = piece / blocks;
    T* const sums = partial + piece * block_size;
    std::memset(sums, 0, static_cast<std::size_t>(block_size * size));
    const std::int64_t last = least(units, (chunk + 1) * chunk_units);
    for (std::int64_t unit = chunk * chunk_units; unit < last;) {
      const std::int64_t n = unit / k.P, p = unit % k.P, rows = least(least(band_rows, k.P - p), last - unit);
      unit += rows;
      T* const x = band_scratch<T>();
      T* const dy = x + k.band_rows(rows) * x_row;
      copy_band(k.x + n * k.xs.n + g0 * k.xs.c, k.xs, k.H, k.W, channels, p * k.step.h + k.first.h,
                k.band_rows(rows), k.first.w, cols, block, x);
      copy_band(static_cast<const T*>(k.y) + n * k.ys.n + g0 * k.ys.c, k.ys, k.P, k.Q, channels, p, rows,
                std::int64_t{0}, k.Q, block, dy);
      for (std::int64_t c = 0; c < channels; c += V::width) {
        const Band<T> from{x + c, k.step.h * x_row, k.step.w * block}, to{dy + c, dy_row, block};
        for (std::int64_t t = 0; t < taps; t += kTapGroup)
          depthwise_weight_taps(least(kTapGroup, taps - t), from, to, rows, k.Q, offsets + t,
                                sums + (1 + t) * block + c);
        if (!dbias) continue;
        V sum = V::load(sums + c);
        for (std::int64_t i = 0; i < rows * k.Q; ++i) sum = sum + V::load(to.data + i * block);
        sum.store(sums + c);
      }
    }
  });

  for (std::int64_t g = 0; g < k.G; ++g)
    for (std::int64_t t = dbias ? -1 : 0; t < taps; ++t) {
      const T* from = partial + g / block * block_size + (1 + t) * block + g % block;
      T sum = from[0];
      for (std::int64_t chunk = 1; chunk < chunks; ++chunk) sum += from[chunk * blocks * block_size];
      if (t < 0)
        dbias[g * dbias_stride] = sum;
      else
        dw[g * k.wg + t / k.taps.w * k.ws.h + t % k.taps.w * k.ws.w] = sum;
    }
  return true;
}

template bool depthwise_weight(const Correlation<float>&, float*, float*, std::int64_t);
template bool depthwise_weight(const Correlation<double>&, double*, double*, std::int64_t);

}  // namespace ts::cpu::TS_ISA
