// Depthwise convolution of channels that lie together: conv_depthwise.cpp's sums in the same order, but a
// tile of neighbouring pixels goes over all channels, vector by vector, and reads x where it lies. So x and y
// are met in the order of their addresses, the one pattern that comes from memory at a copy's speed; a row of
// x is read from the second-level cache by the next rows of taps.
//
// Rows and columns outside the image are pointers to zeros.
//
// What the second-level cache does not hold is met as a stream: the rows of x that the next row of y needs
// are asked for, line after line, while this one is computed. A y that no cache holds goes past them.
#include "cpu/conv_lanes.h"
#include "cpu/stream.h"

namespace ts::cpu::TS_ISA {

namespace {

constexpr std::int64_t kMostTaps = 25;  // more are bound by arithmetic, and better off with a strip
constexpr std::int64_t kFarBytes = std::int64_t{2} << 20;  // of x: asked for ahead

// A row of taps under one tile: column m at x + m * pixel.
template <class T>
struct TapRow {
  const T* x;
  std::int64_t pixel;
};

template <class T>
struct RowTile {
  const TapRow<T>* rows;
  const T* const* columns;          // at an edge: each column of each row
  std::int64_t count, first, last;  // rows of taps; channels
  const T* w;                       // [vector][bias, then row and tap][lane]
  T* y;
  std::int64_t pixel;  // of y
  bool relu;
  bool past;          // y goes past the caches
  const char* ahead;  // asked for meanwhile, so many lines with every vector
  std::int64_t ahead_lines;
};

// `Pixels` neighbouring pixels of channels [first, last). Off the edge these are whole vectors.
template <class T, int Width, int Step, int Pixels, bool Edge>
void row_tile(const RowTile<T>& tile) {
  using V = Vec<T>;
  constexpr int kColumns = (Pixels - 1) * Step + Width;
  const std::int64_t count = tile.count, last = tile.last;
  const char* ahead = tile.ahead;
  const T* w = tile.w + tile.first / V::width * (1 + count * Width) * V::width;
  // One vector of channels from c on, of which the last has `lanes`.
  const auto vector = [&]<bool Whole>(std::int64_t c, std::int64_t lanes) TS_LAMBDA {
    const V bias = V::load(w);
    w += V::width;
    for (std::int64_t i = 0; i < tile.ahead_lines; ++i, ahead += kLine) __builtin_prefetch(ahead, 0, 2);
    V acc[Pixels];
#pragma GCC unroll 16
    for (int q = 0; q < Pixels; ++q) acc[q] = V(T(0));
    for (std::int64_t r = 0; r < count; ++r, w += Width * V::width) {
      V b[Width];
#pragma GCC unroll 16
      for (int j = 0; j < Width; ++j) b[j] = V::load(w + j * V::width);
      const T* at = Edge ? nullptr : tile.rows[r].x + c;
      const std::int64_t pixel = Edge ? 0 : tile.rows[r].pixel;
#pragma GCC unroll 32
      for (int m = 0; m < kColumns; ++m, at += pixel) {
        const T* const from = Edge ? tile.columns[r * kColumns + m] + c : at;
        const V a = Whole ? V::load(from) : V::load_partial(from, lanes);
#pragma GCC unroll 16
        for (int j = 0; j < Width; ++j)
          if ((m - j) % Step == 0 && m >= j && (m - j) / Step < Pixels)
            acc[(m - j) / Step] = fma(a, b[j], acc[(m - j) / Step]);
      }
    }
#pragma GCC unroll 16
    for (int q = 0; q < Pixels; ++q) {
      acc[q] = acc[q] + bias;
      if (tile.relu) acc[q] = select(acc[q] < V(T(0)), V(T(0)), acc[q]);
      T* const to = tile.y + q * tile.pixel + c;
      if (!Whole)
        acc[q].store_partial(to, lanes);
      else if (tile.past)
        stream_lanes(to, acc[q]);
      else
        acc[q].store(to);
    }
  };
  std::int64_t c = tile.first;
  for (; c + V::width <= last; c += V::width) vector.template operator()<true>(c, V::width);
  if constexpr (Edge)
    if (c < last) vector.template operator()<false>(c, last - c);
}

template <class T>
using RowTileFunction = void (*)(const RowTile<T>&);

template <class T, int Pixels, bool Edge>
RowTileFunction<T> row_tile_of(const TapRows& rows) {
  return tile_for(rows, []<int Width, int Step>() -> RowTileFunction<T> {
    return row_tile<T, Width, Step, Pixels, Edge>;
  });
}

// One of the correlations that are computed together.
template <class T>
struct RowPart {
  Correlation<T> k;
  TapRows rows;
  RowTileFunction<T> inner, edge;
  std::int64_t pixels, columns;  // of a tile: of y, of x
  const T* weights;
  bool far, past;  // x is too large for a core's own cache; y for all, and in whole lines

  // Row p of image n. `table` has room for the rows of taps and the columns of each.
  void run(std::int64_t n, std::int64_t p, const T* zeros, char* table) const {
    const std::int64_t per_row = rows.width > 0 ? k.taps.w / rows.width : 0, channels = k.G;
    const std::int64_t whole = channels / Vec<T>::width * Vec<T>::width;
    const std::int64_t apart = rows.width > 1 ? 1 : k.step.w;  // columns of x
    TapRow<T>* const taps = reinterpret_cast<TapRow<T>*>(table);
    const T** const at = reinterpret_cast<const T**>(taps + rows.count);
    RowTile<T> tile{taps, at, rows.count, 0, whole, weights, nullptr, k.ys.w, k.relu, past, nullptr, 0};
    const std::int64_t vectors = ceil_div(channels, Vec<T>::width);
    // The rows below those that this row of y sees.
    const std::int64_t below = p * k.step.h + k.first.h + (k.taps.h - 1) * k.spread.h + 1;
    if (far && below >= 0 && below + k.step.h <= k.H) {
      tile.ahead = reinterpret_cast<const char*>(k.x + n * k.xs.n + below * k.xs.h);
      tile.ahead_lines = ceil_div(k.step.h * k.xs.h * static_cast<std::int64_t>(sizeof(T)),
                                  kLine * vectors * ceil_div(k.Q, pixels));
    }
    const std::int64_t reach = k.taps.w > 0 ? (k.taps.w - rows.width) * k.spread.w : 0;
    for (std::int64_t next = 0; next < k.Q; next += pixels) {
      const std::int64_t q = least(next, k.Q - pixels);  // the last tile begins where a whole one fits
      const std::int64_t first = k.first.w + q * k.step.w;
      const bool inside = first >= 0 && first + reach + (columns - 1) * apart < k.W;
      const bool every = !inside || whole < channels;
      for (std::int64_t r = 0; r < rows.count; ++r) {
        const std::int64_t h = p * k.step.h + k.first.h + r / per_row * k.spread.h;
        const std::int64_t w = first + r % per_row * rows.width * k.spread.w;
        const bool there = h >= 0 && h < k.H;
        const T* const row = there ? k.x + n * k.xs.n + h * k.xs.h : zeros;
        const std::int64_t pixel = there ? k.xs.w : 0;
        if (inside) taps[r] = {row + w * pixel, apart * pixel};
        if (every)
          for (std::int64_t m = 0; m < columns; ++m) {
            const std::int64_t column = w + m * apart;
            at[r * columns + m] = column >= 0 && column < k.W ? row + column * pixel : zeros;
          }
      }
      tile.y = k.y + n * k.ys.n + p * k.ys.h + q * k.ys.w;
      tile.first = 0, tile.last = whole;
      if (inside) inner(tile), tile.first = whole;
      tile.last = channels;
      if (every) edge(tile);
      tile.ahead += vectors * tile.ahead_lines * kLine;
    }
  }
};

}  // namespace

template <class T>
bool depthwise_rows(const Correlation<T>* parts, int count) {
  using V = Vec<T>;
  constexpr std::int64_t size = sizeof(T);
  RowPart<T> part[kMaxPhases];
  int live = 0;
  std::int64_t used = 0, table = 0, P = 0;
  bool past = false;
  for (int i = 0; i < count; ++i) {
    const Correlation<T>& k = parts[i];
    if (k.N == 0 || k.G == 0 || k.P <= 0 || k.Q <= 0) continue;
    if (k.C != 1 || k.O != 1 || k.G < V::width || k.xs.c != 1 || k.ys.c != 1 || k.Q < kLanePixels - 1 ||
        k.taps.h * k.taps.w > kMostTaps)
      return false;
    RowPart<T>& f = part[live++];
    f.k = k, f.rows = TapRows(k);
    // Tiles of 8 pixels or of 7, whichever wastes less.
    f.pixels = k.Q >= 8 && round_up(k.Q, 8) <= round_up(k.Q, 7) ? 8 : 7;
    f.inner = f.pixels == 8 ? row_tile_of<T, 8, false>(f.rows) : row_tile_of<T, 7, false>(f.rows);
    f.edge = f.pixels == 8 ? row_tile_of<T, 8, true>(f.rows) : row_tile_of<T, 7, true>(f.rows);
    f.columns = (f.pixels - 1) * f.rows.step + f.rows.width;
    f.far = count == 1 && k.N * k.H * k.W * k.G * size >= kFarBytes && k.xs.w == k.G && k.xs.h == k.W * k.G;
    f.past = at_line(k.y) && k.G % (kLine / size) == 0 && k.ys.w % (kLine / size) == 0 &&
             k.ys.h % (kLine / size) == 0 && k.ys.n % (kLine / size) == 0 &&
             count * k.N * k.P * k.Q * k.G * size >= kStreamBytes;
    past = past || f.past;
    table = most(table, f.rows.count * (static_cast<std::int64_t>(sizeof(TapRow<T>)) + f.columns * 8));
    const std::int64_t bytes = packed_lanes(k, f.rows) * size;
    if (bytes > kSharedBytes - used) return false;
    T* const weights = reinterpret_cast<T*>(shared_scratch<char>() + used);
    pack_lanes(k, f.rows, weights);
    f.weights = weights, used += bytes;
    P = most(P, k.P);
  }
  if (live == 0) return true;
  const Correlation<T>& k = part[0].k;
  const std::int64_t channels = k.G, zero_bytes = round_up(channels, V::width) * size;
  if (zero_bytes > kSharedBytes - used) return false;
  T* const zeros = reinterpret_cast<T*>(shared_scratch<char>() + used);
  std::memset(zeros, 0, static_cast<std::size_t>(zero_bytes));

  if (table > kBandBytes) return false;
  // Pieces of some rows of all images, by sizes alone.
  const std::int64_t least_rows = ceil_div(std::int64_t{1} << 15, k.Q * channels);
  const std::int64_t piece_rows = most(least_rows, ceil_div(k.N * P, 32));
  parallel_for(ceil_div(k.N * P, piece_rows), [&](std::int64_t piece) {
    const std::int64_t last = least(k.N * P, (piece + 1) * piece_rows);
    for (std::int64_t row = piece * piece_rows; row < last; ++row)
      for (int i = 0; i < live; ++i)
        if (row % P < part[i].k.P) part[i].run(row / P, row % P, zeros, band_scratch<char>());
    if (past) _mm_sfence();
  });
  return true;
}

template bool depthwise_rows(const Correlation<float>*, int);
template bool depthwise_rows(const Correlation<double>*, int);

}  // namespace ts::cpu::TS_ISA
