// Convolutions of narrow groups by lanes of output channels (conv_lanes.h):
//
//   y[n, p, q, l] = act(bias[l] + sum over taps (i, j) and channels c of
//                       x[n, p.., q.., group(l) * C + c] * w[i, j, c, l])        l = g * O + o
//
// A window slides along a strip's rows: a vector of x, once loaded, meets all taps of a row of the filter
// that it is under. Reads x and writes y once from memory. The sum runs over i, then c, then j.
#include "cpu/conv_lanes.h"

namespace ts::cpu::TS_ISA {

namespace {

template <class T>
struct LaneOut {
  T* y;
  std::int64_t pixel, channel;  // strides
  std::int64_t pixels, lanes;   // that exist
  Vec<T> bias;
  bool relu;
};

// `Pixels` neighbouring pixels of one vector of lanes.
template <class T, int Width, int Step, int Pixels>
void lane_tile(const T* x, std::int64_t pixel, const std::int64_t* offsets, std::int64_t rows, const T* w,
               const LaneOut<T>& out) {
  using V = Vec<T>;
  V acc[Pixels];
#pragma GCC unroll 16
  for (int q = 0; q < Pixels; ++q) acc[q] = V(T(0));
  for (std::int64_t r = 0; r < rows; ++r, w += Width * V::width) {
    const T* at = x + offsets[r];
    V b[Width];
#pragma GCC unroll 16
    for (int j = 0; j < Width; ++j) b[j] = V::load(w + j * V::width);
#pragma GCC unroll 32
    for (int m = 0; m < (Pixels - 1) * Step + Width; ++m, at += pixel) {
      const V a = V::load(at);
#pragma GCC unroll 16
      for (int j = 0; j < Width; ++j)
        if ((m - j) % Step == 0 && m >= j && (m - j) / Step < Pixels)
          acc[(m - j) / Step] = fma(a, b[j], acc[(m - j) / Step]);
    }
  }
#pragma GCC unroll 16
  for (int q = 0; q < Pixels; ++q) {
    acc[q] = acc[q] + out.bias;
    if (out.relu) acc[q] = select(acc[q] < V(T(0)), V(T(0)), acc[q]);
  }
  if (out.channel == 1 && out.lanes == V::width && out.pixels == Pixels) {
#pragma GCC unroll 16
    for (int q = 0; q < Pixels; ++q) acc[q].store(out.y + q * out.pixel);
    return;
  }
#pragma GCC unroll 16
  for (int q = 0; q < Pixels; ++q) {
    if (q >= out.pixels) return;
    if (out.channel == 1)
      acc[q].store_partial(out.y + q * out.pixel, out.lanes);
    else
      for (std::int64_t l = 0; l < out.lanes; ++l)
        out.y[q * out.pixel + l * out.channel] = acc[q][static_cast<int>(l)];
  }
}

template <class T>
using LaneTile = void (*)(const T*, std::int64_t, const std::int64_t*, std::int64_t, const T*,
                          const LaneOut<T>&);

template <class T, int Pixels>
LaneTile<T> lane_tile_of(const TapRows& rows) {
  return tile_for(rows,
                  []<int Width, int Step>() -> LaneTile<T> { return lane_tile<T, Width, Step, Pixels>; });
}

// One of the correlations that are computed together, its filters and offsets in the shared scratch.
template <class T>
struct Part {
  Correlation<T> k;
  TapRows rows;
  StripCut cut;
  LaneTile<T> tile;
  std::int64_t pixels;  // of a tile
  std::int64_t* offsets;
  T* weights;  // as packed
};

// Rows [p0, p1) of one image and one vector of lanes.
template <class T>
void lane_band(const Part<T>& part, const Lanes16<T>& lanes, std::int64_t n, std::int64_t lane,
               std::int64_t p0, std::int64_t p1, Prefetch& next, Prefetch& next_y) {
  using V = Vec<T>;
  const Correlation<T>& k = part.k;
  const T* const weights = part.weights + lane / V::width * part.rows.template panel<T>();
  T* const strip = band_scratch<T>();
  const std::int64_t cols = StripCut::width(k, part.cut.columns), pixel = k.C * V::width;
  LaneOut<T> out{nullptr, k.ys.w, k.ys.c, 0, lanes.lanes, V::load(weights), k.relu};
  for (std::int64_t q0 = 0; q0 < k.Q; q0 += part.cut.columns) {
    const std::int64_t q1 = least(k.Q, q0 + part.cut.columns);
    if (part.rows.count > 0)
      copy_strip(k.x + n * k.xs.n, k.xs, k.H, k.W, k.C, lanes, p0 * k.step.h + k.first.h,
                 k.band_rows(p1 - p0), q0 * k.step.w + k.first.w, cols, strip);
    for (std::int64_t p = p0; p < p1; ++p) {
      const T* from = strip + (p - p0) * k.step.h * cols * pixel;
      T* to = k.y + n * k.ys.n + lane * k.ys.c + p * k.ys.h + q0 * k.ys.w;
      for (std::int64_t q = q0; q < q1; q += part.pixels) {
        next.step();
        next_y.template step<true>();
        out.y = to, out.pixels = least(part.pixels, q1 - q);
        part.tile(from, part.rows.width > 1 ? pixel : k.step.w * pixel, part.offsets, part.rows.count,
                  weights + V::width, out);
        from += part.pixels * k.step.w * pixel, to += part.pixels * k.ys.w;
      }
    }
  }
}

}  // namespace

template <class T>
bool depthwise(const Correlation<T>* parts, int count) {
  using V = Vec<T>;
  if (depthwise_rows(parts, count)) return true;
  constexpr std::int64_t size = sizeof(T);
  Part<T> part[kMaxPhases];
  std::int64_t used = 0, bands = 0;
  std::int64_t outputs = 0;
  int live = 0;
  for (int i = 0; i < count; ++i) {
    const Correlation<T>& k = parts[i];
    if (k.N == 0 || k.G == 0 || k.O == 0 || k.P <= 0 || k.Q <= 0) continue;
    Part<T>& f = part[live++];
    f.k = k, f.rows = TapRows(k), f.cut = StripCut(k);
    // Tiles of 8 pixels or of 7, whichever wastes less.
    f.pixels = round_up(f.cut.columns, 8) <= round_up(f.cut.columns, 7) ? 8 : 7;
    f.tile = f.pixels == 8 ? lane_tile_of<T, 8>(f.rows) : lane_tile_of<T, 7>(f.rows);
    const std::int64_t offset_bytes = round_up(f.rows.count * 8, 64),
                       weight_bytes = packed_lanes(k, f.rows) * size;
    if (f.cut.strip_bytes(k) > kBandBytes || offset_bytes + weight_bytes > kSharedBytes - used) return false;
    f.offsets = reinterpret_cast<std::int64_t*>(shared_scratch<char>() + used);
    f.weights = reinterpret_cast<T*>(shared_scratch<char>() + used + offset_bytes);
    used += offset_bytes + weight_bytes;
    f.rows.offsets(k, StripCut::width(k, f.cut.columns), f.offsets);
    pack_lanes(k, f.rows, f.weights);
    bands = most(bands, ceil_div(k.P, f.cut.rows));
    outputs += k.P * k.Q * k.G * k.O;
  }
  if (live == 0) return true;
  // Pieces: some images, or some bands of one.
  const Correlation<T>& k = part[0].k;
  const std::int64_t images = most(1, least(k.N, (std::int64_t{1} << 15) / outputs)),
                     groups = ceil_div(k.N, images);
  const std::int64_t cuts = images > 1 ? 1 : least(bands, ceil_div(32, groups)),
                     bands_each = ceil_div(bands, cuts), pieces = ceil_div(bands, bands_each);
  parallel_for(groups * pieces, [&](std::int64_t piece) {
    const std::int64_t first = piece % pieces * bands_each, last = least(bands, first + bands_each);
    for (std::int64_t n = piece / pieces * images; n < least(k.N, (piece / pieces + 1) * images); ++n)
      for (std::int64_t band = first; band < last; ++band) {
        // What comes next, while this is computed; before the first band of an image, that band at once.
        const std::int64_t rows = part[0].cut.rows, vectors = ceil_div(k.G * k.O, V::width);
        const std::int64_t h = band * rows * k.step.h + k.first.h;
        const auto fetch = [&](Prefetch& x, std::int64_t from, std::int64_t to, std::int64_t calls) {
          x.start(k.x + n * k.xs.n, k.xs, most(0, from), least(k.H, to), k.W, k.G * k.C, calls);
        };
        Prefetch next, next_y;
        if (band == first) {
          fetch(next, h, h + k.band_rows(rows), 1);
          next.step();
        }
        const std::int64_t calls = vectors * rows * ceil_div(k.Q, part[0].pixels);
        if (band + 1 < last)
          fetch(next, h + k.band_rows(rows), h + rows * k.step.h + k.band_rows(rows), calls);
        const std::int64_t p = band * rows;
        if (live == 1)
          next_y.start(k.y + n * k.ys.n, k.ys, least(k.P, p + (band > first) * rows),
                       least(k.P, p + 2 * rows), k.Q, k.G * k.O, calls);
        for (std::int64_t lane = 0; lane < k.G * k.O; lane += V::width) {
          const Lanes16<T> lanes(k, lane);
          for (int i = 0; i < live; ++i) {
            const std::int64_t p0 = band * part[i].cut.rows;
            if (p0 >= part[i].k.P) continue;
            lane_band(part[i], lanes, n, lane, p0, least(part[i].k.P, p0 + part[i].cut.rows), next, next_y);
          }
        }
      }
  });
  return true;
}

template bool depthwise(const Correlation<float>*, int);
template bool depthwise(const Correlation<double>*, int);

}  // namespace ts::cpu::TS_ISA
