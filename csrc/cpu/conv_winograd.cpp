// Correlations of 3 x 3 taps by Winograd's minimal filtering F(4 x 4, 3 x 3): 36 products where the
// definition has 144 (Lavin and Gray 2016; the points 0, 1, -1, 1/2, -2 and infinity, whose transforms hold
// the smallest numbers; legend in conv_tile.h).
//
//   y tile (4 x 4) = A' [ sum over c of (G w G') * (B' x B) ] A       x tile (6 x 6), * element by element
//
// A block of tiles is transformed, multiplied (36 small matrix products on the correlation's register tile)
// and transformed back while it lies in the second-level cache. An element's bits depend on its place in its
// tile and on C alone.
#include "cpu/conv_pack.h"
#include "cpu/conv_tile.h"

namespace ts::cpu::TS_ISA {

namespace {

constexpr int kIn = 6, kOut = 4, kPoints = kIn * kIn;

template <class V>
TS_INLINE void transform_input(const V (&d)[kIn], V (&t)[kIn]) {
  using T = typename V::Element;
  const V u = d[4] - d[2], v = d[3] - d[1];
  t[0] = fma(V(T(1.5)), v, fma(V(T(-2)), d[2], d[0] + d[4]));
  t[1] = fma(V(T(2.5)), d[3], fma(V(T(0.5)), d[2], d[4] - d[1]));
  t[2] = fma(V(T(-2.5)), d[2], fma(V(T(0.5)), d[3], d[4] + d[1]));
  t[3] = fma(V(T(2)), v, u);
  t[4] = fma(V(T(-0.5)), v, u);
  t[5] = fma(V(T(1.5)), u, fma(V(T(-2)), d[3], d[1] + d[5]));
}

template <class V>
TS_INLINE void transform_output(const V (&m)[kIn], V (&y)[kOut]) {
  using T = typename V::Element;
  const V s = m[1] + m[2], d = m[1] - m[2];
  y[0] = (m[0] + s) + (m[3] + m[4]);
  y[1] = fma(V(T(-2)), m[4], fma(V(T(0.5)), m[3], d));
  y[2] = fma(V(T(4)), m[4], fma(V(T(0.25)), m[3], s));
  y[3] = fma(V(T(-8)), m[4], fma(V(T(0.125)), m[3], d)) + m[5];
}

template <class V>
TS_INLINE void transform_filter(const V (&g)[3], V (&u)[kIn]) {
  using T = typename V::Element;
  const V s = g[0] + g[2];
  u[0] = g[0];
  u[1] = (s + g[1]) * V(T(1.0 / 3));
  u[2] = (s - g[1]) * V(T(-1.0 / 3));
  u[3] = fma(V(T(0.25)), g[2], fma(V(T(0.5)), g[1], g[0])) * V(T(-16.0 / 15));
  u[4] = fma(V(T(4)), g[2], fma(V(T(-2)), g[1], g[0])) * V(T(1.0 / 15));
  u[5] = g[2];
}

// Filters [tap][c][lane] to [point][c][lane].
template <class T>
void transform_filters(const T* taps, std::int64_t C, T* to) {
  using V = Vec<T>;
  for (std::int64_t e = 0; e < C * kPanel<T>; e += V::width) {
    V half[3][kIn];
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      V g[3];
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) g[i] = V::load(taps + (i * 3 + j) * C * kPanel<T> + e);
      transform_filter(g, half[j]);
    }
#pragma GCC unroll 6
    for (int a = 0; a < kIn; ++a) {
      const V g[3] = {half[0][a], half[1][a], half[2][a]};
      V u[kIn];
      transform_filter(g, u);
#pragma GCC unroll 6
      for (int b = 0; b < kIn; ++b) u[b].store(to + (a * kIn + b) * C * kPanel<T> + e);
    }
  }
}

// One vector of channels of a 6 x 6 tile, whose pixels lie at `pixels`, to to[point * stride].
template <class T, bool Partial>
TS_INLINE void transform_pixels(const T* const* pixels, std::int64_t c, std::int64_t channels, T* to,
                                std::int64_t stride) {
  using V = Vec<T>;
  V half[kIn][kIn];
#pragma GCC unroll 6
  for (int j = 0; j < kIn; ++j) {
    V d[kIn], t[kIn];
#pragma GCC unroll 6
    for (int i = 0; i < kIn; ++i) {
      const T* at = pixels[i * kIn + j] + c;
      d[i] = Partial ? V::load_partial(at, channels) : V::load(at);
    }
    transform_input(d, t);
#pragma GCC unroll 6
    for (int i = 0; i < kIn; ++i) half[i][j] = t[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < kIn; ++i) {
    V t[kIn];
    transform_input(half[i], t);
#pragma GCC unroll 6
    for (int j = 0; j < kIn; ++j) t[j].store(to + (i * kIn + j) * stride);
  }
}

// One vector of output channels: from[point * stride] to 4 x 4 pixels, of which rows x cols exist.
template <class T>
TS_INLINE void transform_sums(const T* from, std::int64_t stride, Vec<T> bias, bool relu, T* y,
                              const Strides4& ys, std::int64_t rows, std::int64_t cols, std::int64_t lanes) {
  using V = Vec<T>;
  V half[kOut][kIn];
#pragma GCC unroll 6
  for (int j = 0; j < kIn; ++j) {
    V m[kIn], t[kOut];
#pragma GCC unroll 6
    for (int i = 0; i < kIn; ++i) m[i] = V::load(from + (i * kIn + j) * stride);
    transform_output(m, t);
#pragma GCC unroll 4
    for (int i = 0; i < kOut; ++i) half[i][j] = t[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < kOut; ++i) {
    if (i >= rows) return;
    V t[kOut];
    transform_output(half[i], t);
#pragma GCC unroll 4
    for (int j = 0; j < kOut; ++j) {
      if (j >= cols) break;
      t[j] = t[j] + bias;
      if (relu) t[j] = select(t[j] < V(T(0)), V(T(0)), t[j]);
      T* const to = y + i * ys.h + j * ys.w;
      if (ys.c == 1 && lanes == V::width)
        t[j].store(to);
      else if (ys.c == 1)
        t[j].store_partial(to, lanes);
      else
        for (std::int64_t l = 0; l < lanes; ++l) to[l * ys.c] = t[j][static_cast<int>(l)];
    }
  }
}

}  // namespace

// Reads x 36 / 16 times and writes y once; transforms w once a call.
template <class T>
bool winograd(const Correlation<T>& k) {
  using V = Vec<T>;
  constexpr std::int64_t size = sizeof(T), panel_lanes = kPanel<T>;
  if (k.taps.h != 3 || k.taps.w != 3 || k.step.h != 1 || k.step.w != 1 || k.spread.h != 1 || k.spread.w != 1)
    return false;
  const std::int64_t down = ceil_div(k.P, kOut), across = ceil_div(k.Q, kOut), tiles = k.N * down * across;
  // By the shape of one image alone: a result must not depend on its batch.
  if (k.C < 32 || k.O < 32 || down * across < 4 || 2 * k.P * k.Q < down * across * kOut * kOut) return false;
  if (k.G * round_up(k.O, 32) * (kPoints * k.C + 1) * size > kSharedBytes ||
      64 * 40 * k.C * size > kBandBytes)
    return false;
  if (tiles == 0 || k.G == 0) return true;

  // Panels of filters in the shared scratch, each its bias and [point][c][lane].
  const std::int64_t panels = ceil_div(k.O, panel_lanes), panel_size = (1 + kPoints * k.C) * panel_lanes;
  T* const packed = shared_scratch<T>();
  parallel_for(k.G * panels, [&](std::int64_t panel) {
    const std::int64_t g = panel / panels, o = panel % panels * panel_lanes,
                       count = least(panel_lanes, k.O - o);
    T* const to = packed + panel * panel_size;
    for (std::int64_t l = 0; l < panel_lanes; ++l)
      to[l] = k.bias && l < count ? k.bias[(g * k.O + o + l) * k.bias_stride] : T(0);
    pack_filters(k, k.w + g * k.wg + o * k.wo, count, panel_lanes, band_scratch<T>());
    transform_filters(band_scratch<T>(), k.C, to + panel_lanes);
  });

  // A block of tiles: its transforms fill about a quarter of the second-level cache. Rows of tiles are a line
  // further apart than they are long, or a power of two would put them all into one set.
  constexpr std::int64_t kBlockBytes = 512 << 10, kRows = 14;
  const std::int64_t row = round_up(k.C, 64 / size) + 64 / size;
  std::int64_t block = most(1, least(6, kBlockBytes / (kPoints * row * size * kRows))) * kRows;
  block = least(block, most(kRows, round_up(ceil_div(tiles, 16), kRows)));
  const std::int64_t blocks = ceil_div(tiles, block);
  parallel_for(blocks * k.G, [&](std::int64_t piece) {
    const std::int64_t g = piece % k.G, first = piece / k.G * block, count = least(block, tiles - first);
    const std::int64_t x_stride = block * row + 64 / size, sum_stride = block * panel_lanes + 64 / size;
    T* const zeros = band_scratch<T>();
    T* const dense = zeros + row;  // a tile of which the channels lie apart
    T* const x = dense + kPoints * row;
    T* const sums = x + kPoints * x_stride;
    std::memset(zeros, 0, static_cast<std::size_t>(row * size));

    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t n = (first + t) / (down * across), at = (first + t) % (down * across);
      const std::int64_t h = at / across * kOut + k.first.h, w = at % across * kOut + k.first.w;
      const T* const image = k.x + n * k.xs.n + g * k.C * k.xs.c;
      const T* pixels[kPoints];
      for (int i = 0; i < kIn; ++i)
        for (int j = 0; j < kIn; ++j) {
          const bool inside = h + i >= 0 && h + i < k.H && w + j >= 0 && w + j < k.W;
          const T* from = inside ? image + (h + i) * k.xs.h + (w + j) * k.xs.w : zeros;
          if (inside && k.xs.c != 1) {
            T* const to = dense + (i * kIn + j) * row;
            for (std::int64_t c = 0; c < k.C; ++c) to[c] = from[c * k.xs.c];
            from = to;
          }
          pixels[i * kIn + j] = from;
        }
      std::int64_t c = 0;
      for (; c + V::width <= k.C; c += V::width)
        transform_pixels<T, false>(pixels, c, V::width, x + t * row + c, x_stride);
      if (c < k.C) transform_pixels<T, true>(pixels, c, k.C - c, x + t * row + c, x_stride);
    }

    const std::int64_t start = 0;
    const Tiles cut(count);
    for (std::int64_t panel = 0; panel < panels; ++panel) {
      const T* const weights = packed + (g * panels + panel) * panel_size;
      for (std::int64_t point = 0; point < kPoints; ++point) {
        const T* from = x + point * x_stride;
        T* to = sums + point * sum_stride;
        for (std::int64_t t = 0; t < cut.count; ++t) {
          const int rows = cut.rows(t), half = (rows + 1) / 2;
          correlate_tile_of<T>(rows, kTileVectors)(
              from, row, half * row, &start, {1, k.C}, weights + (1 + point * k.C) * panel_lanes,
              {to, panel_lanes, half * panel_lanes, 1, panel_lanes, nullptr, false});
          from += rows * row, to += rows * panel_lanes;
        }
      }
      for (std::int64_t t = 0; t < count; ++t) {
        const std::int64_t n = (first + t) / (down * across), at = (first + t) % (down * across);
        const std::int64_t p = at / across * kOut, q = at % across * kOut;
        for (std::int64_t l = 0; l < panel_lanes; l += V::width) {
          const std::int64_t o = panel * panel_lanes + l, lanes = least(V::width, k.O - o);
          if (lanes <= 0) break;
          transform_sums(sums + t * panel_lanes + l, sum_stride, V::load(weights + l), k.relu,
                         k.y + n * k.ys.n + (g * k.O + o) * k.ys.c + p * k.ys.h + q * k.ys.w, k.ys, k.P - p,
                         k.Q - q, lanes);
        }
      }
    }
  });
  return true;
}

template bool winograd(const Correlation<float>&);
template bool winograd(const Correlation<double>&);

}  // namespace ts::cpu::TS_ISA
