// The gradients of a 2-D convolution with respect to its weights and bias (legend in conv_tile.h):
//
//   dw[o, c, kh, kw] = sum over n, p, q of dy[n, o, p, q] * x[n, c, p * stride + kh * dilation - padding,
//   ...] dbias[o]         = sum over n, p, q of dy[n, o, p, q]
//
// A tile keeps a few input channels of one tap by two vectors of output channels in registers over many
// pixels: per pixel, broadcasts of x and vector loads of dy. The pixels are cut into at most 16 chunks of
// whole rows by their number alone; a chunk sums in the order of the pixels, and the chunks are added in
// order.
#include "cpu/conv_pack.h"
#include "cpu/conv_tile.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

namespace {

constexpr int kBiasRows =
    4;  // dbias: column q adds to row q % 4, so that additions do not wait for each other

// Some images, rows and columns of pixels: each extent at least 1.
struct Pixels {
  std::int64_t images, rows, cols;
};

// sum[r][v] += over the pixels of x[r] * dy[v].
template <class T, int Rows, int Vectors>
void weight_tile(Band<T> x, Band<T> dy, Pixels pixels, T* sum) {
  using V = Vec<T>;
  typename V::Reg acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V::load(sum + (r * Vectors + v) * V::width).r;
  // Loops that run at least once: otherwise the sums would be kept twice, and spilled.
  std::int64_t n = pixels.images;
  do {
    const T* x_row = x.data;
    const T* dy_row = dy.data;
    std::int64_t p = pixels.rows;
    do {
      const T* a = x_row;
      const T* b = dy_row;
      std::int64_t q = pixels.cols;
      do {
        V g[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) g[v] = V::load(b + v * V::width);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
          const V c(a[r]);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) acc[r][v] = fma(c, g[v], V(acc[r][v])).r;
        }
        a += x.pixel, b += dy.pixel;
      } while (--q);
      x_row += x.row, dy_row += dy.row;
    } while (--p);
    x.data += x.image, dy.data += dy.image;
  } while (--n);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) V(acc[r][v]).store(sum + (r * Vectors + v) * V::width);
}

template <class T>
using WeightTile = void (*)(Band<T>, Band<T>, Pixels, T*);

template <class T, int Vectors>
WeightTile<T> tile_of_rows(int rows) {
  switch (rows) {
#define TS_ROWS(R) \
  case R:          \
    return &weight_tile < T, R <= kTileRows ? R : 1, Vectors > ;
    TS_ROWS(1)
    TS_ROWS(2)
    TS_ROWS(3)
    TS_ROWS(4)
    TS_ROWS(5)
    TS_ROWS(6)
    TS_ROWS(7)
    TS_ROWS(8)
    TS_ROWS(9)
    TS_ROWS(10)
    TS_ROWS(11)
    TS_ROWS(12)
    TS_ROWS(13)
    TS_ROWS(14)
#undef TS_ROWS
    default:
      __builtin_unreachable();
  }
}

// sum[q % 4][v] += dy.
template <class T, int Vectors>
void add_bias(Band<T> dy, Pixels pixels, T* sum) {
  using V = Vec<T>;
  V acc[kBiasRows][Vectors];
  for (int r = 0; r < kBiasRows; ++r)
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V::load(sum + (r * Vectors + v) * V::width);
  for (std::int64_t n = 0; n < pixels.images; ++n)
    for (std::int64_t p = 0; p < pixels.rows; ++p) {
      const T* b = dy.data + n * dy.image + p * dy.row;
      std::int64_t q = 0;
      for (; q + kBiasRows <= pixels.cols; q += kBiasRows, b += kBiasRows * dy.pixel)
#pragma GCC unroll 4
        for (int r = 0; r < kBiasRows; ++r)
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) acc[r][v] = acc[r][v] + V::load(b + r * dy.pixel + v * V::width);
#pragma GCC unroll 4
      for (int r = 0; r < kBiasRows - 1; ++r)
        if (q + r < pixels.cols)
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) acc[r][v] = acc[r][v] + V::load(b + r * dy.pixel + v * V::width);
    }
  for (int r = 0; r < kBiasRows; ++r)
    for (int v = 0; v < Vectors; ++v) acc[r][v].store(sum + (r * Vectors + v) * V::width);
}

// The definition, for windows or rows too large for the scratch; one chunk.
template <class T>
void weight_directly(const Correlation<T>& k, T* dw, T* dbias, std::int64_t dbias_stride) {
  parallel_for(k.G * k.O, [&](std::int64_t go) {
    const std::int64_t g = go / k.O, o = go % k.O;
    const T* dy = k.y + go * k.ys.c;
    for (std::int64_t i = 0; i < k.taps.h; ++i)
      for (std::int64_t j = 0; j < k.taps.w; ++j)
        for (std::int64_t c = 0; c < k.C; ++c) {
          T sum = 0;
          for (std::int64_t n = 0; n < k.N; ++n)
            for (std::int64_t p = 0; p < k.P; ++p)
              for (std::int64_t q = 0; q < k.Q; ++q) {
                const std::int64_t h = p * k.step.h + i * k.spread.h + k.first.h;
                const std::int64_t w = q * k.step.w + j * k.spread.w + k.first.w;
                if (h < 0 || h >= k.H || w < 0 || w >= k.W) continue;
                sum = fma(Vec<T>(k.x[n * k.xs.n + (g * k.C + c) * k.xs.c + h * k.xs.h + w * k.xs.w]),
                          Vec<T>(dy[n * k.ys.n + p * k.ys.h + q * k.ys.w]), Vec<T>(sum))[0];
              }
          dw[g * k.wg + o * k.wo + c * k.wc + i * k.ws.h + j * k.ws.w] = sum;
        }
    if (!dbias) return;
    T sum = 0;
    for (std::int64_t n = 0; n < k.N; ++n)
      for (std::int64_t p = 0; p < k.P; ++p)
        for (std::int64_t q = 0; q < k.Q; ++q) sum += dy[n * k.ys.n + p * k.ys.h + q * k.ys.w];
    dbias[go * dbias_stride] = sum;
  });
}

// Reads dy about K / 14 times and x about O / 32 times, both from the caches; writes dw once.
template <class T>
void weight_gradient(const Correlation<T>& k, T* dw, T* dbias, std::int64_t dbias_stride) {
  using V = Vec<T>;
  const std::int64_t K = k.depth(), panels = ceil_div(k.O, kPanel<T>), all_panels = k.G * panels;
  if (k.G == 0 || k.O == 0) return;

  const std::int64_t units = k.N * most(k.P, 0) * (k.Q > 0);
  const std::int64_t size = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t panel_size = (kBiasRows + K) * kPanel<T>;
  const std::int64_t offset_bytes = round_up(k.taps.h * k.taps.w * 8, 64);
  // The cut by size: in `logical` panels of 32 channels, whatever the register width.
  const std::int64_t total_bytes = k.G * ceil_div(k.O, 32) * 32 * (kBiasRows + K) * 8;
  const std::int64_t chunk_units = weight_chunk(units, k.Q, total_bytes),
                     chunks = most(1, ceil_div(units, chunk_units));

  const bool copies_x = K > 0 && !(k.inside() && (k.xs.c == 1 || k.C == 1));
  const bool copies_dy = !(k.ys.c == 1 && k.O % V::width == 0);
  const std::int64_t cols = copies_x ? k.band_cols() : 0;
  const std::int64_t x_row_bytes = round_up(cols * k.C * size, 64), dy_row_bytes = most(k.Q, 0) * 32 * 8;
  if (offset_bytes + total_bytes > kSharedBytes ||
      (units > 0 && k.band_rows(1) > (kBandBytes - dy_row_bytes) / most(x_row_bytes, 1)))
    return weight_directly(k, dw, dbias, dbias_stride);

  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  T* const partial = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  const auto partial_at = [&](std::int64_t chunk, std::int64_t panel) {
    return partial + (chunk * all_panels + panel) * panel_size;
  };
  const Runs runs = K == 0 ? Runs{0, 0}
                           : window_runs(k.taps, k.spread, k.C, copies_x ? cols * k.C : k.xs.h,
                                         copies_x ? k.C : k.xs.w, offsets);

  // A band of about 256 pixels keeps a panel of dy and the channels of a tile in the first-level cache: rows
  // of an image, or several whole images.
  const std::int64_t height = units > 0 ? k.band_rows(1) : 0;  // rows of x under one row of dy
  const std::int64_t row_bytes = most(1, k.step.h * x_row_bytes + dy_row_bytes);
  const std::int64_t room = kBandBytes - height * x_row_bytes - dy_row_bytes;
  const std::int64_t band_rows = least(ceil_div(256, most(1, k.Q)), 1 + room / row_bytes);
  const std::int64_t image_bytes = most(1, k.P * row_bytes + height * x_row_bytes);
  const std::int64_t band_images =
      band_rows < k.P ? 1 : most(1, least(band_rows / most(1, k.P), kBandBytes / image_bytes));
  const std::int64_t splits = chunks >= kMaxChunks ? 1 : least(all_panels, ceil_div(kMaxChunks, chunks));
  const std::int64_t per_split = ceil_div(all_panels, splits),
                     runs_per_row = K == 0 ? 1 : runs.count / k.taps.h;

  parallel_for(chunks * splits, [&](std::int64_t piece) {
    const std::int64_t chunk = piece / splits, begin = piece % splits * per_split;
    const std::int64_t end = least(all_panels, begin + per_split);
    if (begin >= end) return;
    std::memset(partial_at(chunk, begin), 0, static_cast<std::size_t>((end - begin) * panel_size * size));
    const Tiles tiles(runs.length);
    const std::int64_t last_unit = least(units, (chunk + 1) * chunk_units);
    for (std::int64_t unit = chunk * chunk_units; unit < last_unit;) {
      const std::int64_t n = unit / k.P, p0 = unit % k.P;
      const std::int64_t rows = least(least(band_rows, k.P - p0), last_unit - unit);
      const std::int64_t images = rows == k.P ? least(band_images, (last_unit - unit) / k.P) : 1;
      unit += rows * images;
      const std::int64_t h0 = p0 * k.step.h + k.first.h, x_rows = k.band_rows(rows);
      // What comes next, while this is computed.
      Prefetch next_x, next_dy;
      if (unit < last_unit) {
        const std::int64_t m = unit / k.P, p = unit % k.P, calls = (end - begin) * runs.count * tiles.count;
        const std::int64_t h = p * k.step.h + k.first.h;
        next_x.start(k.x + m * k.xs.n, k.xs, most(0, h), least(k.H, h + x_rows), k.W, k.G * k.C, calls);
        next_dy.start(k.y + m * k.ys.n, k.ys, p, least(k.P, p + rows), k.Q, k.G * k.O, calls);
      }
      T* const x_scratch = band_scratch<T>();
      T* const dy_scratch = x_scratch + images * x_rows * cols * k.C;
      std::int64_t copied = -1;
      for (std::int64_t panel = begin; panel < end; ++panel) {
        const std::int64_t g = panel / panels, o = panel % panels * kPanel<T>,
                           count = least(kPanel<T>, k.O - o);
        const T* source = k.x + n * k.xs.n + g * k.C * k.xs.c;
        Band<T> x{source + h0 * k.xs.h + k.first.w * k.xs.w, k.xs.h, k.xs.w, k.xs.n};
        if (copies_x) {
          x = {x_scratch, cols * k.C, k.C, x_rows * cols * k.C};
          for (std::int64_t i = 0; i < images && copied != g; ++i)
            copy_band(source + i * k.xs.n, k.xs, k.H, k.W, k.C, h0, x_rows, k.first.w, cols, k.C,
                      x_scratch + i * x.image);
          copied = g;
        }
        const bool narrow = count <= V::width;
        const std::int64_t width = narrow ? V::width : kPanel<T>;
        const T* gradient = k.y + n * k.ys.n + (g * k.O + o) * k.ys.c;
        Band<T> dy{gradient + p0 * k.ys.h, k.ys.h, k.ys.w, k.ys.n};
        if (copies_dy) {
          dy = {dy_scratch, k.Q * width, width, rows * k.Q * width};
          for (std::int64_t i = 0; i < images; ++i)
            copy_band(gradient + i * k.ys.n, k.ys, k.P, k.Q, count, p0, rows, std::int64_t{0}, k.Q, width,
                      dy_scratch + i * dy.image);
        }
        T* sum = partial_at(chunk, panel);
        if (dbias) {
          const Pixels all{images, rows, k.Q};
          narrow ? add_bias<T, 1>(dy, all, sum) : add_bias<T, 2>(dy, all, sum);
        }
        sum += kBiasRows * width;
        for (std::int64_t run = 0; run < runs.count; ++run) {
          // The rows whose tap lies inside the image.
          const std::int64_t at = h0 + run / runs_per_row * k.spread.h;
          const std::int64_t r0 = at < 0 ? least(rows, ceil_div(-at, k.step.h)) : 0;
          const std::int64_t r1 = least(rows, at < k.H ? ceil_div(k.H - at, k.step.h) : 0);
          const Pixels pixels{images, r1 - r0, k.Q};
          Band<T> from{x.data + offsets[run] + r0 * k.step.h * x.row, k.step.h * x.row, k.step.w * x.pixel,
                       x.image};
          const Band<T> to{dy.data + r0 * dy.row, dy.row, dy.pixel, dy.image};
          for (std::int64_t t = 0; t < tiles.count; ++t) {
            const int tile_rows = tiles.rows(t);
            if (r1 > r0)
              (narrow ? tile_of_rows<T, 1>(tile_rows) : tile_of_rows<T, 2>(tile_rows))(from, to, pixels, sum);
            from.data += tile_rows, sum += tile_rows * width;
            next_x.step(), next_dy.step();
          }
        }
      }
    }
  });

  // Adds the chunks in order, into the first, and puts every weight in its place.
  if (chunks > 1)
    parallel_ranges(all_panels * panel_size / V::width, most(1, (1 << 15) / (chunks * V::width)),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t v = begin; v < end; ++v) {
                        T* at = partial + v * V::width;
                        V sum = V::load(at);
                        for (std::int64_t chunk = 1; chunk < chunks; ++chunk)
                          sum = sum + V::load(at + chunk * all_panels * panel_size);
                        sum.store(at);
                      }
                    });
  parallel_ranges(all_panels, most(1, (1 << 16) / panel_size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t panel = begin; panel < end; ++panel) {
      const std::int64_t g = panel / panels, o = panel % panels * kPanel<T>,
                         count = least(kPanel<T>, k.O - o);
      const std::int64_t width = count <= V::width ? V::width : kPanel<T>;
      const T* sum = partial_at(0, panel);
      unpack_filters(k, sum + kBiasRows * width, count, width, dw + g * k.wg + o * k.wo);
      if (dbias)
        for (std::int64_t l = 0; l < count; ++l)
          dbias[(g * k.O + o + l) * dbias_stride] =
              (sum[l] + sum[width + l]) + (sum[2 * width + l] + sum[3 * width + l]);
    }
  });
}

}  // namespace

void conv2d_weight_backward(In dy, In x, Out dweight, Out dbias, Conv2d conv) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    Correlation<T> k;
    k.N = x.shape[0], k.G = conv.groups, k.C = dweight.shape[1], k.O = dweight.shape[0] / conv.groups;
    k.H = x.shape[2], k.W = x.shape[3], k.P = dy.shape[2], k.Q = dy.shape[3];
    k.step = {conv.stride[0], conv.stride[1]};
    k.taps = {dweight.shape[2], dweight.shape[3]};
    k.first = {-conv.padding[0], -conv.padding[1]};
    k.spread = {conv.dilation[0], conv.dilation[1]};
    k.x = x.as<T>(), k.xs = {x.strides[0], x.strides[1], x.strides[2], x.strides[3]};
    k.w = nullptr, k.wo = dweight.strides[0], k.wc = dweight.strides[1], k.wg = k.O * k.wo;
    k.ws = {dweight.strides[2], dweight.strides[3]};
    // dy is read here; the tiles know it as the other operand.
    k.y = static_cast<T*>(dy.data), k.ys = {dy.strides[0], dy.strides[1], dy.strides[2], dy.strides[3]};
    k.bias = nullptr, k.bias_stride = 0, k.relu = false;
    T* const db = dbias ? dbias.as<T>() : nullptr;
    const std::int64_t db_stride = dbias ? dbias.strides[0] : 0;
    leave_out_pixels(k);
    if (!(k.narrow() && depthwise_weight(k, dweight.as<T>(), db, db_stride)))
      weight_gradient(k, dweight.as<T>(), db, db_stride);
  });
}

}  // namespace ts::cpu::TS_ISA
