// The gradients of a 2-D convolution with respect to its weights and bias (legend in conv_tile.h):
//
//   dw[o, c, kh, kw] = sum over n, p, q of dy[n, o, p, q] * x[n, c, p * stride + kh * dilation - padding,
//   ...] dbias[o]         = sum over n, p, q of dy[n, o, p, q]
//
// A tile keeps a few input channels of one tap by two vectors of output channels in registers over many
// pixels: per pixel, broadcasts of x and vector loads of dy. The pixels are cut into at most 16 chunks of
// whole rows by their number alone; a chunk sums in the order of the pixels, and the chunks are added in
// order.
#include "cpu/conv_bf16.h"
#include "cpu/conv_pack.h"
#include "cpu/conv_tile.h"
#include "cpu/conv_views.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

namespace {

constexpr int kBiasRows =
    4;  // dbias: column q adds to row q % 4, so that additions do not wait for each other
constexpr std::int64_t kBandPixels = 192, kPanelsTogether = 8;  // that share a copy of x
constexpr std::int64_t kLeastBlocked = 8;                       // channels that are laid out by blocks
constexpr int kSlide = 3,
              kSlideRows = kTileRows * 2 / 3;  // taps that one pass over a row serves, its channels

template <class T>
alignas(64) constexpr T kZeros[kTileRows * kPanel<T>] = {};  // the sums before the first pixel

// Some images, rows and columns of pixels: each extent at least 1.
struct Pixels {
  std::int64_t images, rows, cols;
};

// What a tile sums. By reference and field by field: a structure that is stored in parts and copied as
// vectors would wait for the sums of the tile before to leave the store buffer.
template <class T>
struct Step {
  Band<T> x, dy;
  Pixels pixels;
  const T* from;  // the sums so far
  T* sum;
  std::int64_t tap;       // a slide's sums of the next tap: so much further on, in sum,
  std::int64_t from_tap;  // and in from
  const char* ahead;      // fetched meanwhile: every `ahead_step` bytes, for each pixel
  std::int64_t ahead_step;
};

// sum[r][v] = from[r][v] + over the pixels of x[r] * dy[v].
template <class T, int Rows, int Vectors>
void weight_tile(const Step<T>& step) {
  using V = Vec<T>;
  Band<T> x = step.x, dy = step.dy;
  const Pixels pixels = step.pixels;
  const T* const from = step.from;
  T* const sum = step.sum;
  const char* ahead = step.ahead;
  const std::int64_t ahead_step = step.ahead_step;
  typename V::Reg acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V::load(from + (r * Vectors + v) * V::width).r;
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
        __builtin_prefetch(ahead, 0, 2);
        ahead += ahead_step;
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

// A row of three taps by one vector of dy: column m of x meets column m - j of dy for tap j, so that a
// broadcast serves three FMA where one vector of dy would leave the loads behind.
template <class T, int Rows>
void weight_slide(const Step<T>& step) {
  using V = Vec<T>;
  Band<T> x = step.x, dy = step.dy;
  const Pixels pixels = step.pixels;
  const char* ahead = step.ahead;
  const std::int64_t ahead_step = step.ahead_step;
  typename V::Reg acc[Rows][kSlide];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < kSlide; ++j) acc[r][j] = V::load(step.from + j * step.from_tap + r * V::width).r;
  // Taps [First, Last) that meet the column of x at a.
  const auto meet = [&]<int First, int Last>(const T* a, const T* b) TS_LAMBDA {
    V g[kSlide];
#pragma GCC unroll 4
    for (int j = First; j < Last; ++j) g[j] = V::load(b - j * dy.pixel);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const V c(a[r]);
#pragma GCC unroll 4
      for (int j = First; j < Last; ++j) acc[r][j] = fma(c, g[j], V(acc[r][j])).r;
    }
  };
  std::int64_t n = pixels.images;
  do {
    const T* x_row = x.data;
    const T* dy_row = dy.data;
    std::int64_t p = pixels.rows;
    do {
      const T* a = x_row;
      const T* b = dy_row;
      if (pixels.cols >= kSlide) {
        meet.template operator()<0, 1>(a, b), a += x.pixel, b += dy.pixel;
        meet.template operator()<0, 2>(a, b), a += x.pixel, b += dy.pixel;
        std::int64_t q = pixels.cols - (kSlide - 1);
        do {
          __builtin_prefetch(ahead, 0, 2);
          ahead += ahead_step;
          meet.template operator()<0, 3>(a, b), a += x.pixel, b += dy.pixel;
        } while (--q);
        meet.template operator()<1, 3>(a, b), a += x.pixel, b += dy.pixel;
        meet.template operator()<2, 3>(a, b);
      } else {
        for (std::int64_t q = 0; q < pixels.cols; ++q, a += x.pixel, b += dy.pixel) {
          meet.template operator()<0, 1>(a, b);
          meet.template operator()<1, 2>(a + x.pixel, b + dy.pixel);
          meet.template operator()<2, 3>(a + 2 * x.pixel, b + 2 * dy.pixel);
        }
      }
      x_row += x.row, dy_row += dy.row;
    } while (--p);
    x.data += x.image, dy.data += dy.image;
  } while (--n);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < kSlide; ++j) V(acc[r][j]).store(step.sum + j * step.tap + r * V::width);
}

template <class T>
using WeightTile = void (*)(const Step<T>&);

template <class T, int Vectors, int Rows = kTileRows>
WeightTile<T> tile_of_rows(int rows) {
  if constexpr (Rows > 1)
    if (rows < Rows) return tile_of_rows<T, Vectors, Rows - 1>(rows);
  return weight_tile<T, Rows, Vectors>;
}
template <class T, int Rows = kSlideRows>
WeightTile<T> slide_of_rows(int rows) {
  if constexpr (Rows > 1)
    if (rows < Rows) return slide_of_rows<T, Rows - 1>(rows);
  return weight_slide<T, Rows>;
}

// sum[q % 4][v] = from[q % 4][v] + dy.
template <class T, int Vectors>
void add_bias(Band<T> dy, Pixels pixels, const T* from, T* sum) {
  using V = Vec<T>;
  V acc[kBiasRows][Vectors];
  for (int r = 0; r < kBiasRows; ++r)
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V::load(from + (r * Vectors + v) * V::width);
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
                sum = fma(Vec<T>(k.x_at(n)[(g * k.C + c) * k.xs.c + h * k.xs.h + w * k.xs.w]),
                          Vec<T>(k.y_at(n)[go * k.ys.c + p * k.ys.h + q * k.ys.w]), Vec<T>(sum))[0];
              }
          dw[g * k.wg + o * k.wo + c * k.wc + i * k.ws.h + j * k.ws.w] = sum;
        }
    if (!dbias) return;
    T sum = 0;
    for (std::int64_t n = 0; n < k.N; ++n)
      for (std::int64_t p = 0; p < k.P; ++p)
        for (std::int64_t q = 0; q < k.Q; ++q) sum += k.y_at(n)[go * k.ys.c + p * k.ys.h + q * k.ys.w];
    dbias[go * dbias_stride] = sum;
  });
}

}  // namespace

// Reads dy about K / 14 times and x about O / 32 times, both from the caches; writes dw once.
//
// A tile's channels of x lie side by side in the scratch, [block of channels][image][row][column][pitch]: one
// line for a pixel, the next one's beside it, whatever the number of channels, so that a block stays in the
// first-level cache for all taps. Few channels stay as they are: the taps of a row and their channels are one
// run.
template <class T>
void weight_gradient(const Correlation<T>& given, T* dw, T* dbias, std::int64_t dbias_stride) {
  using V = Vec<T>;
  Correlation<T> k = given;
  join_volumes(k);
  const std::int64_t K = k.depth(), panels = ceil_div(k.O, kPanel<T>), all_panels = k.G * panels;
  if (k.G == 0 || k.O == 0) return;

  const std::int64_t units = k.N * most(k.P, 0) * (k.Q > 0);
  const std::int64_t size = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t panel_size = (kBiasRows + K) * kPanel<T>;
  const std::int64_t offset_bytes = round_up(k.taps.h * k.taps.w * 8, 64);
  // The cut by size: in `logical` panels of 32 channels, whatever the register width.
  const std::int64_t total_bytes = k.G * ceil_div(k.O, 32) * 32 * (kBiasRows + K) * 8;
  // Another chunk costs its sums, fewer chunks a copy of x for fewer panels.
  const bool copies_pay = k.taps.h * k.taps.w * least(4, ceil_div(k.O, 32)) >= 8 * k.step.h * k.step.w;
  const std::int64_t chunk_units = weight_chunk(units, k.Q, copies_pay ? 512 : 128, total_bytes),
                     chunks = most(1, ceil_div(units, chunk_units));

  const bool blocked = K > 0 && k.C >= kLeastBlocked;
  const bool slides = blocked && k.O <= V::width && k.taps.w == kSlide && k.step.w == 1 && k.spread.w == 1;
  const bool even = k.z.S == 1;  // the distance from image to image
  const bool copies_x = K > 0 && (blocked || !even || !(k.inside() && (k.xs.c == 1 || k.C == 1)));
  const std::int64_t cols = copies_x ? k.band_cols() : 0;
  const bool whole = slides || k.C <= V::width || k.xs.c != 1;  // vectors of channels are copied best
  const Tiles blocks(k.C, whole ? V::width : kTileRows);
  const std::int64_t pitch = blocks.count > 1 && blocked ? round_up(blocks.rows(0), V::width / 2) : k.C;
  // Of a row in the scratch, at most: by sizes alone, because it decides between two orders of the sum.
  const std::int64_t x_row_bytes = round_up(cols * (blocked ? 2 : 1) * k.C * size, 64),
                     dy_row_bytes = most(k.Q, 0) * kPanelsTogether * 32 * 8;
  if (offset_bytes + total_bytes > kSharedBytes ||
      (units > 0 && k.band_rows(1) > (kBandBytes - dy_row_bytes) / most(x_row_bytes, 1)))
    return weight_directly(k, dw, dbias, dbias_stride);

  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  T* const partial = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  const auto partial_at = [&](std::int64_t chunk, std::int64_t panel) {
    return partial + (chunk * all_panels + panel) * panel_size;
  };
  const Runs runs = K == 0 || blocked ? Runs{0, 0}
                                      : window_runs(k.taps, k.spread, k.C, copies_x ? cols * k.C : k.xs.h,
                                                    copies_x ? k.C : k.xs.w, offsets);

  // A band of about 192 pixels keeps a panel of dy and the channels of a tile in the first-level cache: rows
  // of an image, or several whole images.
  const std::int64_t height = units > 0 ? k.band_rows(1) : 0;  // rows of x under one row of dy
  const std::int64_t row_bytes = most(1, k.step.h * x_row_bytes + dy_row_bytes);
  const std::int64_t room = kBandBytes - height * x_row_bytes - dy_row_bytes;
  const std::int64_t band_rows = least(ceil_div(kBandPixels, most(1, k.Q)), 1 + room / row_bytes);
  const std::int64_t image_bytes = most(1, k.P * row_bytes + height * x_row_bytes);
  const std::int64_t band_images =
      band_rows < k.P ? 1 : most(1, least(band_rows / most(1, k.P), kBandBytes / image_bytes));
  const std::int64_t splits = chunks >= kMaxChunks ? 1 : least(all_panels, ceil_div(kMaxChunks, chunks));
  const std::int64_t per_split = ceil_div(all_panels, splits);
  const Tiles run_tiles(runs.length);
  const std::int64_t block_count = blocked ? blocks.count : 1;
  const int most_rows = slides ? kSlideRows : kTileRows;
  const std::int64_t tiles =  // of a panel
      blocked ? block_count * Tiles(blocks.rows(0), most_rows).count * k.taps.h * (slides ? 1 : k.taps.w)
              : runs.count * run_tiles.count;

  parallel_for(chunks * splits, [&](std::int64_t piece) {
    const std::int64_t chunk = piece / splits, begin = piece % splits * per_split;
    const std::int64_t end = least(all_panels, begin + per_split);
    if (begin >= end) return;
    if (units == 0)
      std::memset(partial_at(chunk, begin), 0, static_cast<std::size_t>((end - begin) * panel_size * size));
    const std::int64_t first_unit = chunk * chunk_units, last_unit = least(units, first_unit + chunk_units);
    for (std::int64_t unit = first_unit; unit < last_unit;) {
      const bool fresh = unit == first_unit;  // no sums yet
      const std::int64_t n = unit / k.P, p0 = unit % k.P;
      const std::int64_t rows = least(least(band_rows, k.P - p0), last_unit - unit);
      const std::int64_t images = rows == k.P ? least(band_images, (last_unit - unit) / k.P) : 1;
      unit += rows * images;
      const std::int64_t h0 = p0 * k.step.h + k.first.h, x_rows = k.band_rows(rows);
      // What comes next, while this is computed.
      Ahead ahead;
      if (unit < last_unit) {
        const std::int64_t m = unit / k.P, p = unit % k.P, h = p * k.step.h + k.first.h;
        const std::int64_t in_row = even ? images : 1;
        ahead.add(k.x_at(m), k.xs, in_row, most(0, h), least(k.H, h + x_rows), k.W, k.G * k.C);
        ahead.add<T>(k.y_at(m), k.ys, in_row, p, least(k.P, p + rows), k.Q, k.G * k.O);
      }
      std::int64_t tiles_left = (end - begin) * tiles;
      T* const x_scratch = band_scratch<T>();
      T* const dy_scratch = x_scratch + round_up(images * x_rows * cols * pitch, 64 / size);
      Step<T> step;
      step.pixels = {images, rows, k.Q};
      step.from_tap = 0;
      for (std::int64_t first = begin, last; first < end; first = last) {
        const std::int64_t g = first / panels;
        last = least(least(end, (g + 1) * panels), first + kPanelsTogether);
        const T* const source = k.x_at(n) + g * k.C * k.xs.c;
        std::int64_t c = 0;
        for (std::int64_t b = 0; b < block_count; ++b) {
          const int channels = blocked ? blocks.rows(b) : static_cast<int>(k.C);
          Band<T> x{source + h0 * k.xs.h + k.first.w * k.xs.w, k.xs.h, k.xs.w, k.xs.n};
          if (copies_x) {
            x = {x_scratch, cols * pitch, pitch, x_rows * cols * pitch};
            for (std::int64_t i = 0; i < images; ++i)
              copy_band(k.x_at(n + i) + (g * k.C + c) * k.xs.c, k.xs, k.H, k.W, std::int64_t{channels}, h0,
                        x_rows, k.first.w, cols, pitch, x_scratch + i * x.image);
          }
          step.x = {nullptr, k.step.h * x.row, k.step.w * x.pixel, x.image};
          for (std::int64_t panel = first; panel < last; ++panel) {
            const std::int64_t o = panel % panels * kPanel<T>, count = least(kPanel<T>, k.O - o);
            const bool narrow = count <= V::width;
            const std::int64_t width = narrow ? V::width : kPanel<T>;
            T* const sums = partial_at(chunk, panel);
            Band<T> dy{k.y_at(n) + (g * k.O + o) * k.ys.c + p0 * k.ys.h, k.ys.h, k.ys.w, k.ys.n};
            if (!((even || images == 1) && k.ys.c == 1 && count == width &&
                  (k.ys.w == width || tiles < 6))) {  // pixels side by side
              T* const copy = dy_scratch + (panel - first) * images * rows * k.Q * kPanel<T>;
              dy = {copy, k.Q * width, width, rows * k.Q * width};
              for (std::int64_t i = 0; i < images && b == 0; ++i)
                copy_band<T>(k.y_at(n + i) + (g * k.O + o) * k.ys.c, k.ys, k.P, k.Q, count, p0, rows,
                             std::int64_t{0}, k.Q, width, copy + i * dy.image);
            }
            if (dbias && b == 0) {
              const T* const from = fresh ? kZeros<T> : sums;
              narrow ? add_bias<T, 1>(dy, {images, rows, k.Q}, from, sums)
                     : add_bias<T, 2>(dy, {images, rows, k.Q}, from, sums);
            }
            step.dy = {nullptr, dy.row, dy.pixel, dy.image};
            step.tap = k.C * width;
            // `channels` of x at `from`, for row i of the taps, into the sums from `row` on.
            const auto run_tile = [&](WeightTile<T> tile, const T* from, std::int64_t i, int channels,
                                      std::int64_t row) {
              // The rows whose tap lies inside the image.
              const std::int64_t at = h0 + i * k.spread.h;
              const std::int64_t r0 = at < 0 ? least(rows, ceil_div(-at, k.step.h)) : 0;
              const std::int64_t r1 = least(rows, at < k.H ? ceil_div(k.H - at, k.step.h) : 0);
              step.sum = sums + (kBiasRows + row) * width;
              step.from = fresh ? kZeros<T> : step.sum;
              step.from_tap = fresh ? 0 : step.tap;
              step.x.data = from + r0 * step.x.row, step.dy.data = dy.data + r0 * dy.row;
              step.pixels.rows = r1 - r0;
              ahead.share(tiles_left--, most(1, images * (r1 - r0) * k.Q), step.ahead, step.ahead_step);
              if (r1 > r0)
                tile(step);
              else if (fresh)
                for (std::int64_t j = 0; j < (slides ? kSlide : 1); ++j)
                  std::memset(step.sum + j * step.tap, 0, static_cast<std::size_t>(channels * width * size));
            };
            if (blocked) {
              const Tiles tiles_of_block(channels, most_rows);
              for (std::int64_t i = 0; i < k.taps.h; ++i)
                for (std::int64_t j = 0; j < (slides ? 1 : k.taps.w); ++j) {
                  const T* from = x.data + i * k.spread.h * x.row + j * k.spread.w * pitch;
                  std::int64_t row = (i * k.taps.w + j) * k.C + c;
                  for (std::int64_t t = 0; t < tiles_of_block.count; ++t) {
                    const int length = tiles_of_block.rows(t);
                    run_tile(slides   ? slide_of_rows<T>(length)
                             : narrow ? tile_of_rows<T, 1>(length)
                                      : tile_of_rows<T, 2>(length),
                             from, i, length, row);
                    from += length, row += length;
                  }
                }
            } else {
              std::int64_t row = 0;
              for (std::int64_t run = 0; run < runs.count; ++run) {
                const T* from = x.data + offsets[run];
                for (std::int64_t t = 0; t < run_tiles.count; ++t) {
                  const int length = run_tiles.rows(t);
                  run_tile(narrow ? tile_of_rows<T, 1>(length) : tile_of_rows<T, 2>(length), from,
                           run * k.taps.h / runs.count, length, row);
                  from += length, row += length;
                }
              }
            }
          }
          c += channels;
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

template void weight_gradient(const Correlation<float>&, float*, float*, std::int64_t);
template void weight_gradient(const Correlation<double>&, double*, double*, std::int64_t);

void conv2d_weight_backward(In dy, In x, Out dweight, Out dbias, Conv2d conv) {
  if (dy.dtype == DType::bfloat16) return conv2d_weight_backward_bf16(dy, x, dweight, dbias, conv);
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    Correlation<T> k = correlation_of<T>(x, dweight, dy, conv);
    T* const db = dbias ? dbias.as<T>() : nullptr;
    const std::int64_t db_stride = dbias ? dbias.strides[0] : 0;
    leave_out_pixels(k);
    if (!(k.narrow() && depthwise_weight(k, dweight.as<T>(), db, db_stride)))
      weight_gradient(k, dweight.as<T>(), db, db_stride);
  });
}

}  // namespace ts::cpu::TS_ISA
