// 2-D convolution, forward, as an implicit matrix product (legend in conv_tile.h):
//
//   y[n, o, p, q] = act(bias[o] + sum over kh, kw, c of x[n, c, p * stride + kh * dilation - padding, ...] *
//   w[o, c, kh, kw])
//
// Rows are output pixels, columns are output channels, the reduction runs over (kh, kw, c). Weights are
// packed once a call to [panel of O][kh][kw][c][O vector]; pixels are broadcast from x where it lies
// (channels last, no padding) or from a dense copy of the few rows under a band of y. The accumulators of a
// tile live through the whole reduction.
#include "cpu/conv_tile.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

namespace {

template <class T>
struct TileOut {
  T* y;
  std::int64_t pixel, channel;  // strides
  std::int64_t channels;        // of this panel
  const T* bias;                // padded to the panel, or null
  bool relu;
};

// Rows pixels x Vectors registers of output channels. Per step of the reduction: Vectors loads of weights,
// Rows broadcasts of pixels, Rows * Vectors FMA. Row addresses are two bases and three multiples of the pixel
// stride, hidden from the optimiser, which would otherwise keep fourteen pointers and spill them.
template <class T, int Rows, int Vectors>
void correlate_tile(const T* x, std::int64_t pixel, const std::int64_t* offsets, Runs runs, const T* w,
                    const TileOut<T>& out) {
  using V = Vec<T>;
  V acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V(T(0));

  std::int64_t ld = pixel * static_cast<std::int64_t>(sizeof(T)), ld3 = 3 * ld, ld5 = 5 * ld;
  const std::int64_t ld7 = 7 * ld;
  for (std::int64_t run = 0; run < runs.count; ++run) {
    const char* low = reinterpret_cast<const char*>(x + offsets[run]);
    const char* end = low + runs.length * static_cast<std::int64_t>(sizeof(T));
    for (; low != end; low += sizeof(T), w += Vectors * V::width) {
      const char* high = low + ld7;
      asm("" : "+r"(ld), "+r"(ld3), "+r"(ld5));
      V b[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) b[v] = V::load(w + v * V::width);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        const char* base = r < 7 ? low : high;
        const int i = r % 7;
        const char* at = i == 0   ? base
                         : i == 1 ? base + ld
                         : i == 2 ? base + 2 * ld
                         : i == 3 ? base + ld3
                         : i == 4 ? base + 4 * ld
                         : i == 5 ? base + ld5
                                  : base + 2 * ld3;
        const V a(*reinterpret_cast<const T*>(at));
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) acc[r][v] = fma(a, b[v], acc[r][v]);
      }
    }
  }

  if (out.bias) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const V bias = V::load(out.bias + v * V::width);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) acc[r][v] = acc[r][v] + bias;
    }
  }
  if (out.relu) {
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) acc[r][v] = select(acc[r][v] < V(T(0)), V(T(0)), acc[r][v]);
  }
  if (out.channel == 1 && out.channels == Vectors * V::width) {
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) acc[r][v].store(out.y + r * out.pixel + v * V::width);
    return;
  }
  alignas(64) T tile[Rows][Vectors * V::width];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[r][v].store(&tile[r][v * V::width]);
  if (out.channel == 1) {
    for (int r = 0; r < Rows; ++r)
      std::memcpy(out.y + r * out.pixel, tile[r], static_cast<std::size_t>(out.channels) * sizeof(T));
  } else {
    for (std::int64_t c = 0; c < out.channels; ++c)
      for (int r = 0; r < Rows; ++r) out.y[r * out.pixel + c * out.channel] = tile[r][c];
  }
}

template <class T>
using TileFunction = void (*)(const T*, std::int64_t, const std::int64_t*, Runs, const T*, const TileOut<T>&);

template <class T, int Vectors>
TileFunction<T> tile_of_rows(int rows) {
  switch (rows) {
#define TS_ROWS(R) \
  case R:          \
    return &correlate_tile < T, R <= kTileRows ? R : 1, Vectors > ;
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

// Weights of output channels [o, o + count) of group g to [tap][c][width], zeros past count.
template <class T>
void pack_panel(const Correlation<T>& k, std::int64_t g, std::int64_t o, std::int64_t count,
                std::int64_t width, T* dst) {
  const T* w = k.w + g * k.wg + o * k.wo;
  for (std::int64_t i = 0; i < k.taps.h; ++i)
    for (std::int64_t j = 0; j < k.taps.w; ++j)
      for (std::int64_t c = 0; c < k.C; ++c, dst += width) {
        const T* from = w + i * k.ws.h + j * k.ws.w + c * k.wc;
        for (std::int64_t l = 0; l < count; ++l) dst[l] = from[l * k.wo];
        for (std::int64_t l = count; l < width; ++l) dst[l] = T(0);
      }
}

// For windows or rows too large for the scratch: the definition, element by element, in the same order.
template <class T>
void correlate_directly(const Correlation<T>& k) {
  parallel_for(k.N * k.P, [&](std::int64_t piece) {
    const std::int64_t n = piece / k.P, p = piece % k.P;
    for (std::int64_t q = 0; q < k.Q; ++q)
      for (std::int64_t go = 0; go < k.G * k.O; ++go) {
        const std::int64_t g = go / k.O, o = go % k.O;
        T sum = 0;
        for (std::int64_t i = 0; i < k.taps.h; ++i)
          for (std::int64_t j = 0; j < k.taps.w; ++j) {
            const std::int64_t h = p * k.step.h + i * k.spread.h + k.first.h;
            const std::int64_t w = q * k.step.w + j * k.spread.w + k.first.w;
            if (h < 0 || h >= k.H || w < 0 || w >= k.W) continue;
            const T* x = k.x + n * k.xs.n + g * k.C * k.xs.c + h * k.xs.h + w * k.xs.w;
            const T* weight = k.w + g * k.wg + o * k.wo + i * k.ws.h + j * k.ws.w;
            for (std::int64_t c = 0; c < k.C; ++c)
              sum = fma(Vec<T>(x[c * k.xs.c]), Vec<T>(weight[c * k.wc]), Vec<T>(sum))[0];
          }
        if (k.bias) sum += k.bias[go * k.bias_stride];
        if (k.relu && sum < T(0)) sum = T(0);
        k.y[n * k.ys.n + go * k.ys.c + p * k.ys.h + q * k.ys.w] = sum;
      }
  });
}

// A product of 1 x 1 taps sees no rows and no images: joins them where memory allows.
template <class T>
void join_pixels(Correlation<T>& k) {
  if (k.taps.h != 1 || k.taps.w != 1 || k.first.h != 0 || k.first.w != 0) return;
  if (k.step.h != 1 || k.step.w != 1 || k.P != k.H || k.Q != k.W) return;
  if (k.xs.h == k.W * k.xs.w && k.ys.h == k.Q * k.ys.w) {
    k.W = k.Q = k.H * k.W;
    k.H = k.P = 1;
    k.xs.h = k.ys.h = 0;
    if (k.xs.n == k.W * k.xs.w && k.ys.n == k.Q * k.ys.w) {
      k.W = k.Q = k.N * k.W;
      k.N = 1;
    }
  }
}

}  // namespace

// Reads x (KH * KW times, from the caches), writes y once; packs w once a call.
template <class T>
void correlate(const Correlation<T>& given) {
  Correlation<T> k = given;
  if (k.N == 0 || k.G == 0 || k.O == 0 || k.P <= 0 || k.Q <= 0) return;
  join_pixels(k);
  const std::int64_t K = k.depth(), width = Vec<T>::width;
  const bool copies = K > 0 && !(k.inside() && (k.xs.c == 1 || k.C == 1));
  const std::int64_t cols = copies ? k.band_cols() : 0;
  const std::int64_t column = copies ? k.C : k.xs.w;

  // The shared scratch: offsets of the runs, bias, then as many panels as fit.
  const std::int64_t panels = ceil_div(k.O, kPanel<T>), all_panels = k.G * panels;
  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  const std::int64_t offset_bytes = round_up(k.taps.h * k.taps.w * 8, 64);
  const std::int64_t panel_size = (K + 1) * kPanel<T>;  // bias, then weights
  T* const packed = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  const std::int64_t room = kSharedBytes - offset_bytes;
  const std::int64_t fitting = room / (panel_size * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t row_bytes = cols * k.C * static_cast<std::int64_t>(sizeof(T));
  if (offset_bytes > kSharedBytes / 2 || fitting < 1 ||
      (copies && k.band_rows(1) > kBandBytes / most(row_bytes, 1)))
    return correlate_directly(k);

  // Pieces of about 4 M multiply-adds: whole images, bands of an image's rows, and for few of those also
  // panels.
  constexpr std::int64_t kPiece = std::int64_t{1} << 22;
  const std::int64_t row_macs = most(1, k.Q * k.G * k.O * most(K, 1));
  std::int64_t bands = least(k.P, ceil_div(k.P * row_macs, kPiece));
  if (copies) {
    const std::int64_t rows_fit = 1 + (kBandBytes / most(row_bytes, 1) - k.band_rows(1)) / k.step.h;
    bands = most(bands, ceil_div(k.P, rows_fit));
  }
  const std::int64_t band_rows = ceil_div(k.P, bands);
  bands = ceil_div(k.P, band_rows);
  std::int64_t groups_of_images = bands > 1 ? k.N : ceil_div(k.N, most(1, kPiece / (k.P * row_macs)));
  const std::int64_t images = ceil_div(k.N, groups_of_images);
  groups_of_images = ceil_div(k.N, images);
  // One row of pixels (1 x 1, joined) is cut along Q.
  const std::int64_t blocks =
      k.P > 1 ? 1 : ceil_div(k.Q, most(2 * kTileRows, kPiece / most(1, row_macs / k.Q)));
  const std::int64_t block = ceil_div(ceil_div(k.Q, blocks), kTileRows) * kTileRows;
  const std::int64_t blocks_q = blocks == 1 ? 1 : ceil_div(k.Q, block);

  for (std::int64_t panel0 = 0; panel0 < all_panels; panel0 += fitting) {
    const std::int64_t panel1 = least(all_panels, panel0 + fitting);
    const auto panel_at = [&](std::int64_t panel) { return packed + (panel - panel0) * panel_size; };
    parallel_ranges(panel1 - panel0, most(1, (1 << 16) / panel_size),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t panel = panel0 + begin; panel < panel0 + end; ++panel) {
                        const std::int64_t g = panel / panels, o = panel % panels * kPanel<T>;
                        const std::int64_t count = least(kPanel<T>, k.O - o);
                        T* dst = panel_at(panel);
                        for (std::int64_t l = 0; l < kPanel<T>; ++l)
                          dst[l] = k.bias && l < count ? k.bias[(g * k.O + o + l) * k.bias_stride] : T(0);
                        if (K > 0)
                          pack_panel(k, g, o, count, count <= width ? width : kPanel<T>, dst + kPanel<T>);
                      }
                    });

    const std::int64_t pixel_pieces = groups_of_images * bands * blocks_q, here = panel1 - panel0;
    const std::int64_t piece_macs = images * band_rows * row_macs / blocks_q;
    const std::int64_t splits =
        least(here, most(1, least(ceil_div(16, pixel_pieces), piece_macs / (kPiece / 8))));
    const std::int64_t per_split = ceil_div(here, splits);
    const Runs runs = K == 0
                          ? Runs{0, 0}
                          : window_runs(k.taps, k.spread, k.C, copies ? cols * k.C : k.xs.h, column, offsets);

    parallel_for(pixel_pieces * splits, [&](std::int64_t piece) {
      const std::int64_t split = piece % splits, place = piece / splits;
      const std::int64_t bq = place % blocks_q, band = place / blocks_q % bands,
                         first = place / blocks_q / bands * images;
      const std::int64_t begin = panel0 + split * per_split, end = least(panel1, begin + per_split);
      const std::int64_t p0 = band * band_rows, p1 = least(k.P, p0 + band_rows);
      const std::int64_t q0 = blocks_q == 1 ? 0 : bq * block,
                         q1 = blocks_q == 1 ? k.Q : least(k.Q, q0 + block);
      const Tiles tiles(q1 - q0);
      for (std::int64_t n = first; n < least(k.N, first + images); ++n) {
        std::int64_t copied = -1;  // the group whose channels are in the band
        for (std::int64_t panel = begin; panel < end; ++panel) {
          const std::int64_t g = panel / panels, o = panel % panels * kPanel<T>;
          const std::int64_t count = least(kPanel<T>, k.O - o);
          const T* source = k.x + n * k.xs.n + g * k.C * k.xs.c;
          Band<T> x{source + (p0 * k.step.h + k.first.h) * k.xs.h + k.first.w * k.xs.w, k.xs.h, k.xs.w};
          if (copies) {
            x = {band_scratch<T>(), cols * k.C, k.C};
            if (copied != g)
              copy_band(source, k.xs, k.H, k.W, k.C, p0 * k.step.h + k.first.h, k.band_rows(p1 - p0),
                        k.first.w, cols, k.C, band_scratch<T>());
            copied = g;
          }
          const T* panel_data = panel_at(panel);
          TileOut<T> out{nullptr, k.ys.w, k.ys.c, count, k.bias ? panel_data : nullptr, k.relu};
          for (std::int64_t p = p0; p < p1; ++p) {
            const T* row = x.data + (p - p0) * k.step.h * x.row;
            T* y = k.y + n * k.ys.n + (g * k.O + o) * k.ys.c + p * k.ys.h;
            std::int64_t q = q0;
            for (std::int64_t t = 0; t < tiles.count; ++t) {
              const int rows = tiles.rows(t);
              const TileFunction<T> tile =
                  count <= width ? tile_of_rows<T, 1>(rows) : tile_of_rows<T, 2>(rows);
              out.y = y + q * k.ys.w;
              tile(row + q * k.step.w * x.pixel, k.step.w * x.pixel, offsets, runs, panel_data + kPanel<T>,
                   out);
              q += rows;
            }
          }
        }
      }
    });
  }
}

template void correlate(const Correlation<float>&);
template void correlate(const Correlation<double>&);

void conv2d(In x, In weight, In bias, Out y, Conv2d conv, Activation activation) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    Correlation<T> k;
    k.N = x.shape[0], k.G = conv.groups, k.C = weight.shape[1],
    k.O = conv.groups ? weight.shape[0] / conv.groups : 0;
    k.H = x.shape[2], k.W = x.shape[3], k.P = y.shape[2], k.Q = y.shape[3];
    k.step = {conv.stride[0], conv.stride[1]};
    k.taps = {weight.shape[2], weight.shape[3]};
    k.first = {-conv.padding[0], -conv.padding[1]};
    k.spread = {conv.dilation[0], conv.dilation[1]};
    k.x = x.as<T>(), k.xs = {x.strides[0], x.strides[1], x.strides[2], x.strides[3]};
    k.w = weight.as<T>(), k.wo = weight.strides[0], k.wc = weight.strides[1], k.wg = k.O * k.wo;
    k.ws = {weight.strides[2], weight.strides[3]};
    k.y = y.as<T>(), k.ys = {y.strides[0], y.strides[1], y.strides[2], y.strides[3]};
    k.bias = bias ? bias.as<T>() : nullptr, k.bias_stride = bias ? bias.strides[0] : 0;
    k.relu = activation == Activation::relu;
    if (k.C == 1 && k.O == 1 && k.G > 1)
      depthwise(k);
    else
      correlate(k);
  });
}

}  // namespace ts::cpu::TS_ISA
