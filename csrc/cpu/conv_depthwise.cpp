// Convolutions of narrow groups, depthwise ones above all, and their weight gradient: a lane is an output
// channel, so that a vector holds neighbouring channels of neighbouring groups (legend in conv_tile.h).
//
//   y[n, p, q, l] = act(bias[l] + sum over taps (i, j) and channels c of
//                       x[n, p.., q.., group(l) * C + c] * w[i, j, c, l])        l = g * O + o
//
// A strip, the rows of one vector of lanes under a few rows of y, is copied to the first-level cache, zeros
// around it; with several channels to a group, [row][column][c][lane] with the channel that each lane wants.
// A window slides along its rows: a vector of x, once loaded, meets all taps of a row of the filter that it
// is under. Reads x and writes y once from memory. The sum runs over i, then c, then j.
#include "cpu/conv_tile.h"
#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

namespace {

// What does not depend on the level, so that the order of a sum does not: a vector is 64 bytes here.
constexpr std::int64_t kVector = 64, kStripBytes = 24 << 10, kStripPixels = 64;
constexpr int kPixels = 8;  // of a tile
#if defined(__AVX512F__)
constexpr int kSums = 15, kGradientPixels = 8;  // taps of a weight gradient's tile and its pixels
#else
constexpr int kSums = 9, kGradientPixels = 4;
#endif

// The filter as `count` rows of `width` taps on neighbouring columns; each tap on its own where columns are
// spread or stepped over otherwise.
struct Rows {
  std::int64_t count, width, step;
  Rows() = default;
  template <class T>
  explicit Rows(const Correlation<T>& k) {
    const std::int64_t w = k.taps.w;
    const bool slides =
        k.spread.w == 1 && (w == 2 ? k.step.w == 1 : (w == 3 || w == 5 || w == 7) && k.step.w <= 2);
    width = slides ? w : 1, step = slides ? k.step.w : 1;
    count = k.taps.h * k.taps.w * k.C / width;
  }
  // Offsets into a strip of `columns` columns.
  template <class T>
  void offsets(const Correlation<T>& k, std::int64_t columns, std::int64_t* to) const {
    constexpr std::int64_t V = Vec<T>::width;
    for (std::int64_t i = 0; i < k.taps.h; ++i)
      for (std::int64_t c = 0; c < k.C; ++c)
        for (std::int64_t j = 0; j < k.taps.w; j += width)
          *to++ = ((i * k.spread.h * columns + j * k.spread.w) * k.C + c) * V;
  }
};

// Rows and columns of y that are computed from one strip.
struct Cut {
  std::int64_t rows, columns;
  Cut() = default;
  template <class T>
  explicit Cut(const Correlation<T>& k) {
    columns = ceil_div(k.Q, ceil_div(k.Q, kStripPixels));
    const std::int64_t row = kVector * k.C * width(k, columns);
    rows = most(1, least(k.P, (kStripBytes / row - k.band_rows(1)) / k.step.h + 1));
  }
  template <class T>
  static std::int64_t width(const Correlation<T>& k, std::int64_t columns) {
    return (columns - 1) * k.step.w + (k.taps.w - 1) * k.spread.w + 1;
  }
  template <class T>
  std::int64_t strip_bytes(const Correlation<T>& k) const {
    // A tile past the last column reads on.
    return kVector * k.C * (width(k, columns) * k.band_rows(rows) + kPixels * k.step.w);
  }
};

// The channels that the lanes of one vector read.
template <class T>
struct Lanes16 {
  using V = Vec<T>;
  using Index = Vec<IntOf<T>>;
  std::int64_t lanes, channel, span;  // lanes that exist; first channel of x, and how many
  std::int64_t at[V::width];          // each lane's first channel, from `channel`
  Index index;

  Lanes16(const Correlation<T>& k, std::int64_t lane) {
    lanes = least(V::width, k.G * k.O - lane);
    channel = lane / k.O * k.C;
    span = (lane + lanes - 1) / k.O * k.C + k.C - channel;
    for (int l = 0; l < V::width; ++l) {
      at[l] = (lane + least(l, lanes - 1)) / k.O * k.C - channel;
      index.set(l, static_cast<IntOf<T>>(at[l]));
    }
  }
};

template <class T>
TS_INLINE Vec<T> permute(Vec<T> x, Vec<IntOf<T>> index) {
  return __builtin_shuffle(x.r, index.r);
}

// Rows [h0, h0 + rows) and columns [w0, w0 + cols) of an H x W image to dst[row][column][c][lane], zeros
// outside the image.
template <class T>
void copy_strip(const T* image, const Strides4& s, std::int64_t H, std::int64_t W, std::int64_t C,
                const Lanes16<T>& lanes, std::int64_t h0, std::int64_t rows, std::int64_t w0,
                std::int64_t cols, T* dst, Prefetch* next = nullptr, Prefetch* and_next = nullptr) {
  using V = Vec<T>;
  const std::int64_t left = least(cols, most(0, -w0)), right = most(left, least(cols, W - w0));
  const std::int64_t pixel = C * V::width;
  const auto zero = [](T* p, std::int64_t n) { std::memset(p, 0, static_cast<std::size_t>(n) * sizeof(T)); };
  const T* const source = image + lanes.channel * s.c;
  const bool straight = lanes.span == lanes.lanes && C == 1 && s.c == 1;
  const bool permuted = !straight && s.c == 1 && lanes.span <= V::width;
  for (std::int64_t r = 0; r < rows; ++r, dst += cols * pixel) {
    const std::int64_t h = h0 + r;
    if (next) next->step(), and_next->step();
    if (h < 0 || h >= H) {
      zero(dst, cols * pixel);
      continue;
    }
    zero(dst, left * pixel);
    zero(dst + right * pixel, (cols - right) * pixel);
    const T* from = source + h * s.h + (w0 + left) * s.w;
    T* to = dst + left * pixel;
    if (straight && lanes.lanes == V::width) {
      for (std::int64_t i = left; i < right; ++i, from += s.w, to += V::width) V::load(from).store(to);
    } else if (straight) {
      for (std::int64_t i = left; i < right; ++i, from += s.w, to += V::width)
        V::load_partial(from, lanes.lanes).store(to);
    } else if (lanes.span <= V::width && s.w == 1) {
      const bool as_it_is = lanes.span == lanes.lanes && C == 1;
      for (std::int64_t i = left; i < right; i += V::width, from += V::width) {
        const std::int64_t count = least(V::width, right - i);
        V square[V::width];
        for (int l = 0; l < V::width; ++l)
          square[l] = l < lanes.span ? V::load_partial(from + l * s.c, count) : V(T(0));
        transpose<T>(square);
        for (std::int64_t l = 0; l < count; ++l)
          if (as_it_is)
            square[l].store(to), to += V::width;
          else
            for (std::int64_t c = 0; c < C; ++c, to += V::width)
              permute(square[l], lanes.index + Vec<IntOf<T>>(static_cast<IntOf<T>>(c))).store(to);
      }
    } else if (permuted) {
      for (std::int64_t i = left; i < right; ++i, from += s.w) {
        const V x = lanes.span == V::width ? V::load(from) : V::load_partial(from, lanes.span);
        for (std::int64_t c = 0; c < C; ++c, to += V::width)
          permute(x, lanes.index + Vec<IntOf<T>>(static_cast<IntOf<T>>(c))).store(to);
      }
    } else {
      for (std::int64_t i = left; i < right; ++i, from += s.w)
        for (std::int64_t c = 0; c < C; ++c, to += V::width)
          for (int l = 0; l < V::width; ++l) to[l] = from[(lanes.at[l] + c) * s.c];
    }
  }
}

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
LaneTile<T> lane_tile_of(const Rows& rows) {
  const bool two = rows.step == 2;
  switch (rows.width) {
    case 2:
      return lane_tile<T, 2, 1, Pixels>;
    case 3:
      return two ? lane_tile<T, 3, 2, Pixels> : lane_tile<T, 3, 1, Pixels>;
    case 5:
      return two ? lane_tile<T, 5, 2, Pixels> : lane_tile<T, 5, 1, Pixels>;
    case 7:
      return two ? lane_tile<T, 7, 2, Pixels> : lane_tile<T, 7, 1, Pixels>;
    default:
      return lane_tile<T, 1, 1, Pixels>;
  }
}

// One of the correlations that are computed together, its filters and offsets in the shared scratch.
template <class T>
struct Part {
  Correlation<T> k;
  Rows rows;
  Cut cut;
  LaneTile<T> tile;
  std::int64_t pixels;  // of a tile
  std::int64_t* offsets;
  T* weights;  // [vector][bias, then row and tap][lane]
  std::int64_t panel() const { return (1 + rows.count * rows.width) * Vec<T>::width; }
};

template <class T>
void pack_lanes(const Part<T>& part) {
  using V = Vec<T>;
  const Correlation<T>& k = part.k;
  part.rows.offsets(k, Cut::width(k, part.cut.columns), part.offsets);
  for (std::int64_t lane = 0; lane < round_up(k.G * k.O, V::width); ++lane) {
    T* to = part.weights + lane / V::width * part.panel() + lane % V::width;
    const bool there = lane < k.G * k.O;
    *to = there && k.bias ? k.bias[lane * k.bias_stride] : T(0);
    const T* const w = there ? k.w + lane / k.O * k.wg + lane % k.O * k.wo : nullptr;
    for (std::int64_t i = 0; i < k.taps.h; ++i)
      for (std::int64_t c = 0; c < k.C; ++c)
        for (std::int64_t j = 0; j < k.taps.w; ++j)
          *(to += V::width) = there ? w[i * k.ws.h + j * k.ws.w + c * k.wc] : T(0);
  }
}

// Rows [p0, p1) of one image and one vector of lanes.
template <class T>
void lane_band(const Part<T>& part, const Lanes16<T>& lanes, std::int64_t n, std::int64_t lane,
               std::int64_t p0, std::int64_t p1, Prefetch& next, Prefetch& next_y) {
  using V = Vec<T>;
  const Correlation<T>& k = part.k;
  const T* const weights = part.weights + lane / V::width * part.panel();
  T* const strip = band_scratch<T>();
  const std::int64_t cols = Cut::width(k, part.cut.columns), pixel = k.C * V::width;
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
  constexpr std::int64_t size = sizeof(T);
  Part<T> part[kMaxPhases];
  std::int64_t used = 0, bands = 0;
  std::int64_t outputs = 0;
  int live = 0;
  for (int i = 0; i < count; ++i) {
    const Correlation<T>& k = parts[i];
    if (k.N == 0 || k.G == 0 || k.O == 0 || k.P <= 0 || k.Q <= 0) continue;
    Part<T>& f = part[live++];
    f.k = k, f.rows = Rows(k), f.cut = Cut(k);
    // Tiles of 8 pixels or of 7, whichever wastes less.
    f.pixels = round_up(f.cut.columns, 8) <= round_up(f.cut.columns, 7) ? 8 : 7;
    f.tile = f.pixels == 8 ? lane_tile_of<T, 8>(f.rows) : lane_tile_of<T, 7>(f.rows);
    const std::int64_t vectors = ceil_div(k.G * k.O, V::width);
    const std::int64_t offset_bytes = round_up(f.rows.count * 8, 64),
                       weight_bytes = vectors * f.panel() * size;
    if (f.cut.strip_bytes(k) > kBandBytes || offset_bytes + weight_bytes > kSharedBytes - used) return false;
    f.offsets = reinterpret_cast<std::int64_t*>(shared_scratch<char>() + used);
    f.weights = reinterpret_cast<T*>(shared_scratch<char>() + used + offset_bytes);
    used += offset_bytes + weight_bytes;
    pack_lanes(f);
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

// --- the weight gradient ---------------------------------------------------------------------
namespace {

// sum[r][j] += over rows x cols pixels of x[offsets[r] + j] * dy; with Bias, bias += dy.
template <class T, int Width, int Step, int Count, bool Bias>
void lane_gradient(const T* x, std::int64_t row, std::int64_t pixel, const std::int64_t* offsets, Band<T> dy,
                   std::int64_t rows, std::int64_t cols, T* sum, T* bias) {
  using V = Vec<T>;
  constexpr int Q = kGradientPixels;
  typename V::Reg acc[Count][Width], total = V(T(0)).r;
  std::int64_t at[Count];
#pragma GCC unroll 16
  for (int r = 0; r < Count; ++r) {
    at[r] = offsets[r];
#pragma GCC unroll 16
    for (int j = 0; j < Width; ++j) acc[r][j] = V::load(sum + (r * Width + j) * V::width).r;
  }
  if constexpr (Bias) total = V::load(bias).r;
  do {  // at least one row
    const T* a = x;
    const T* b = dy.data;
    std::int64_t q = cols;
    for (; q >= Q; q -= Q, a += Q * Step * pixel, b += Q * dy.pixel) {
      V g[Q];
#pragma GCC unroll 16
      for (int i = 0; i < Q; ++i) {
        g[i] = V::load(b + i * dy.pixel);
        if constexpr (Bias) total = (V(total) + g[i]).r;
      }
#pragma GCC unroll 16
      for (int r = 0; r < Count; ++r) {
        const T* from = a + at[r];
#pragma GCC unroll 32
        for (int m = 0; m < (Q - 1) * Step + Width; ++m, from += pixel) {
          const V c = V::load(from);
#pragma GCC unroll 16
          for (int j = 0; j < Width; ++j)
            if ((m - j) % Step == 0 && m >= j && (m - j) / Step < Q)
              acc[r][j] = fma(c, g[(m - j) / Step], V(acc[r][j])).r;
        }
      }
    }
    for (; q > 0; --q, a += Step * pixel, b += dy.pixel) {
      const V g = V::load(b);
      if constexpr (Bias) total = (V(total) + g).r;
#pragma GCC unroll 16
      for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
        for (int j = 0; j < Width; ++j) acc[r][j] = fma(V::load(a + at[r] + j * pixel), g, V(acc[r][j])).r;
    }
    x += row, dy.data += dy.row;
  } while (--rows);
#pragma GCC unroll 16
  for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < Width; ++j) V(acc[r][j]).store(sum + (r * Width + j) * V::width);
  if constexpr (Bias) V(total).store(bias);
}

template <class T, int Width, int Step>
void lane_gradients(const T* x, std::int64_t row, std::int64_t pixel, const std::int64_t* offsets,
                    std::int64_t count, Band<T> dy, std::int64_t rows, std::int64_t cols, T* sum, T* bias) {
  constexpr int kMost = kSums / Width;
  for (std::int64_t r = 0; r < count;) {
    const std::int64_t left = least(kMost, count - r);
    const auto run = [&]<int Count>() {
      (bias && r == 0 ? lane_gradient<T, Width, Step, Count, true>
                      : lane_gradient<T, Width, Step, Count, false>)(x, row, pixel, offsets + r, dy, rows,
                                                                     cols, sum, bias);
      r += Count, sum += Count * Width * Vec<T>::width;
    };
    if constexpr (kMost >= 9)
      if (left >= 9) {
        run.template operator()<9>();
        continue;
      }
    if constexpr (kMost >= 3)
      if (left >= 3) {
        run.template operator()<3>();
        continue;
      }
    if constexpr (kMost >= 2)
      if (left >= 2) {
        run.template operator()<2>();
        continue;
      }
    run.template operator()<1>();
  }
}

template <class T>
using LaneGradient = void (*)(const T*, std::int64_t, std::int64_t, const std::int64_t*, std::int64_t,
                              Band<T>, std::int64_t, std::int64_t, T*, T*);

template <class T>
LaneGradient<T> lane_gradient_of(const Rows& rows) {
  const bool two = rows.step == 2;
  switch (rows.width) {
    case 2:
      return lane_gradients<T, 2, 1>;
    case 3:
      return two ? lane_gradients<T, 3, 2> : lane_gradients<T, 3, 1>;
    case 5:
      return two ? lane_gradients<T, 5, 2> : lane_gradients<T, 5, 1>;
    case 7:
      return two ? lane_gradients<T, 7, 2> : lane_gradients<T, 7, 1>;
    default:
      return lane_gradients<T, 1, 1>;
  }
}

}  // namespace

// Reads x and dy about once from memory; the sums of a chunk are [vector][dbias, then row and tap][lane].
template <class T>
bool depthwise_weight(const Correlation<T>& k, T* dw, T* dbias, std::int64_t dbias_stride) {
  using V = Vec<T>;
  constexpr std::int64_t size = sizeof(T);
  const std::int64_t units = k.N * k.P, L = k.G * k.O;
  if (units <= 0 || k.Q <= 0 || L == 0) return false;
  const Rows rows(k);
  const Cut cut(k);
  const std::int64_t taps = rows.count * rows.width, panel = (1 + taps) * V::width;
  const std::int64_t vectors = ceil_div(L, V::width), offset_bytes = round_up(rows.count * 8, 64);
  const std::int64_t chunk_units =
      weight_chunk(units, k.Q, 64, round_up(L, kVector / size) * (1 + taps) * size);
  const std::int64_t chunks = ceil_div(units, chunk_units), sum_size = vectors * panel;
  if (offset_bytes + chunks * sum_size * size > kSharedBytes ||
      cut.strip_bytes(k) + cut.rows * cut.columns * kVector > kBandBytes)
    return false;

  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  T* const partial = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  const std::int64_t cols = Cut::width(k, cut.columns), pixel = k.C * V::width;
  rows.offsets(k, cols, offsets);
  const LaneGradient<T> gradient = lane_gradient_of<T>(rows);
  const std::int64_t splits = least(vectors, ceil_div(kMaxChunks, chunks)),
                     per_split = ceil_div(vectors, splits);

  parallel_for(chunks * splits, [&](std::int64_t piece) {
    const std::int64_t chunk = piece / splits, v0 = piece % splits * per_split,
                       v1 = least(vectors, v0 + per_split);
    if (v0 >= v1) return;
    T* const sums = partial + chunk * sum_size;
    std::memset(sums + v0 * panel, 0, static_cast<std::size_t>((v1 - v0) * panel * size));
    const std::int64_t last = least(units, (chunk + 1) * chunk_units);
    for (std::int64_t unit = chunk * chunk_units; unit < last;) {
      const std::int64_t n = unit / k.P, p = unit % k.P, count = least(least(cut.rows, k.P - p), last - unit);
      unit += count;
      Prefetch next_x, next_dy;
      if (unit < last) {
        const std::int64_t m = unit / k.P, at = unit % k.P, h = at * k.step.h + k.first.h;
        const std::int64_t end = least(k.P, at + cut.rows);
        const std::int64_t seen = at > 0 ? k.band_rows(0) : 0;
        next_x.start(k.x + m * k.xs.n, k.xs, most(0, h + seen), least(k.H, h + k.band_rows(end - at)), k.W,
                     k.G * k.C, (v1 - v0) * k.band_rows(count));
        next_dy.start(k.y + m * k.ys.n, k.ys, at, end, k.Q, L, (v1 - v0) * k.band_rows(count));
      }
      for (std::int64_t v = v0; v < v1; ++v) {
        const Lanes16<T> lanes(k, v * V::width);
        Lanes16<T> own = lanes;  // of dy: lane by lane
        own.channel = v * V::width, own.span = lanes.lanes;
        for (int l = 0; l < V::width; ++l) own.at[l] = least(l, lanes.lanes - 1);
        T* const sum = sums + v * panel;
        for (std::int64_t q0 = 0; q0 < k.Q; q0 += cut.columns) {
          const std::int64_t width = least(cut.columns, k.Q - q0);
          T* const strip = band_scratch<T>();
          copy_strip(k.x + n * k.xs.n, k.xs, k.H, k.W, k.C, lanes, p * k.step.h + k.first.h,
                     k.band_rows(count), q0 * k.step.w + k.first.w, cols, strip, &next_x, &next_dy);
          Band<T> dy{k.y + n * k.ys.n + own.channel * k.ys.c + p * k.ys.h + q0 * k.ys.w, k.ys.h, k.ys.w};
          if (k.ys.c != 1 || lanes.lanes < V::width) {
            T* const copy = strip + cut.strip_bytes(k) / size;
            copy_strip(static_cast<const T*>(k.y) + n * k.ys.n, k.ys, k.P, k.Q, std::int64_t{1}, own, p,
                       count, q0, width, copy);
            dy = {copy, width * V::width, V::width};
          }
          gradient(strip, k.step.h * cols * pixel, rows.width > 1 ? pixel : k.step.w * pixel, offsets,
                   rows.count, dy, count, width, sum + V::width, dbias ? sum : nullptr);
        }
      }
    }
  });

  for (std::int64_t chunk = 1; chunk < chunks; ++chunk)
    for (std::int64_t v = 0; v < sum_size; v += V::width)
      (V::load(partial + v) + V::load(partial + chunk * sum_size + v)).store(partial + v);
  for (std::int64_t lane = 0; lane < L; ++lane) {
    const T* from = partial + lane / V::width * panel + lane % V::width;
    if (dbias) dbias[lane * dbias_stride] = *from;
    T* const to = dw + lane / k.O * k.wg + lane % k.O * k.wo;
    for (std::int64_t i = 0; i < k.taps.h; ++i)
      for (std::int64_t c = 0; c < k.C; ++c)
        for (std::int64_t j = 0; j < k.taps.w; ++j)
          to[i * k.ws.h + j * k.ws.w + c * k.wc] = *(from += V::width);
  }
  return true;
}

template bool depthwise_weight(const Correlation<float>&, float*, float*, std::int64_t);
template bool depthwise_weight(const Correlation<double>&, double*, double*, std::int64_t);

}  // namespace ts::cpu::TS_ISA
