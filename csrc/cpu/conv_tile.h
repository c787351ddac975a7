// Convolution's shared parts: the correlation that forward and the input gradient both are, and the copy of a
// band of images into dense channels-last rows.
//
//   y[n, p, q, g, o] = act(bias[g, o] + sum over taps (i, j) and channels c of
//                          x[n, p * step.h + i * spread.h + first.h, q * step.w + j * spread.w + first.w, g,
//                          c]
//                          * w[i, j, g, c, o])          x is 0 outside the image
//
// N images, G groups, C and O channels of x and y in one group, H W extents of x, P Q extents of y.
// The sum runs over i, then j, then c, one fused multiply-add after the other: neither the tile nor the
// layout nor the register width changes its bits.
//
// Volumes are S images each, the slices of y. A window has taps in several slices of x, D in all, before
// those of its rows: images of x that lie a constant distance apart, and none of them is copied for that.
#pragma once

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

struct Pair {
  std::int64_t h, w;
};

// Where the elements of one operand lie: strides of image, channel, row and column.
struct Strides4 {
  std::int64_t n, c, h, w;
};

// The third axis: slice s * step + t * spread + first of x meets tap t for slice s of y. Strides in elements.
struct Slices {
  std::int64_t D = 1, S = 1, step = 1, taps = 1, first = 0, spread = 1;
  std::int64_t xs = 0, ys = 0, ws = 0;

  // The taps of slice s that meet x: [begin, end).
  std::int64_t begin(std::int64_t s) const {
    const std::int64_t at = s * step + first;
    return at >= 0 ? 0 : (-at + spread - 1) / spread < taps ? (-at + spread - 1) / spread : taps;
  }
  std::int64_t end(std::int64_t s) const {
    const std::int64_t left = D - (s * step + first), count = left > 0 ? (left + spread - 1) / spread : 0;
    const std::int64_t low = begin(s), high = count < taps ? count : taps;
    return high > low ? high : low;
  }
  // Slices of x under `count` slices of y.
  std::int64_t reach(std::int64_t count) const { return (count - 1) * step + (taps - 1) * spread + 1; }
};

template <class T>
struct Correlation {
  std::int64_t N, G, C, O, H, W, P, Q;  // N: images of y, S to a volume
  Pair step, taps, first, spread;
  const T* x;
  Strides4 xs;
  const T* w;
  std::int64_t wg, wo, wc;  // group, output channel, input channel
  Pair ws;                  // taps
  T* y;
  Strides4 ys;
  const T* bias;  // (G * O) or null
  std::int64_t bias_stride;
  bool relu;
  Slices z;

  // Image n of y, and the one of x under its first tap.
  T* y_at(std::int64_t n) const { return y + n / z.S * ys.n + n % z.S * z.ys; }
  const T* x_at(std::int64_t n) const { return x + n / z.S * xs.n + (n % z.S * z.step + z.first) * z.xs; }
  // Groups too narrow to fill a vector each. By shape alone: the sum of the two ways differs in its order.
  bool narrow() const { return G > 1 && C > 0 && O > 0 && C <= 8 && O <= 8; }
  std::int64_t depth() const { return z.taps * taps.h * taps.w * C; }
  // No tap of any pixel falls outside the image.
  bool inside() const {
    return first.h >= 0 && first.w >= 0 && first.h + (taps.h - 1) * spread.h + (P - 1) * step.h < H &&
           first.w + (taps.w - 1) * spread.w + (Q - 1) * step.w < W;
  }
  // Rows and columns of x under `rows` rows of y.
  std::int64_t band_rows(std::int64_t rows) const {
    return (rows - 1) * step.h + (taps.h - 1) * spread.h + 1;
  }
  std::int64_t band_cols() const { return (Q - 1) * step.w + (taps.w - 1) * spread.w + 1; }
};

// Taps 1 x 1 see only the pixels that they step on: an image of those, where no tap falls outside.
template <class T>
void leave_out_pixels(Correlation<T>& k) {
  if (k.taps.h != 1 || k.taps.w != 1 || k.first.h != 0 || k.first.w != 0 || !k.inside()) return;
  k.xs.h *= k.step.h, k.xs.w *= k.step.w;
  k.H = k.P, k.W = k.Q, k.step = {1, 1};
}

// Slices that each see one of x, all the same distance apart, are images like any others.
template <class T>
void join_volumes(Correlation<T>& k) {
  const Slices z = k.z;
  if (z.taps != 1 || z.first < 0 || (z.S - 1) * z.step + z.first >= z.D) return;
  if (z.S > 1 && k.N > z.S && (k.xs.n != z.S * z.step * z.xs || k.ys.n != z.S * z.ys)) return;
  k.x += z.first * z.xs;
  if (z.S > 1) k.xs.n = z.step * z.xs, k.ys.n = z.ys;
  k.z = {};
}

template <class T>
void correlate(const Correlation<T>& c);
// The weight gradient of a window of one slice (z.taps == 1), with y = dy; dbias may be null.
template <class T>
void weight_gradient(const Correlation<T>& c, T* dw, T* dbias, std::int64_t dbias_stride);
// 3 x 3 by Winograd's algorithm; false, with nothing done, where shapes do not suit it.
template <class T>
bool winograd(const Correlation<T>& c);
// Narrow groups, a vector of the outputs of several at a time: correlations (the phases of one gradient) that
// share N, G, C and O, computed together. False, with nothing done, where they do not fit the scratch.
constexpr int kMaxPhases = 4;
template <class T>
bool depthwise(const Correlation<T>* parts, int count);
// The weight gradient, with y = dy; false where a row does not fit the scratch.
template <class T>
bool depthwise_weight(const Correlation<T>& c, T* dw, T* dbias, std::int64_t dbias_stride);

// --- scratch ---------------------------------------------------------------------------------
// The caller's scratch holds what all workers read (packed weights) or add to (partial gradients) in its
// first part; every thread's own bands lie in the rest.
constexpr std::int64_t kSharedBytes = std::int64_t{40} << 20;
constexpr std::int64_t kBandBytes = static_cast<std::int64_t>(kScratchBytes) - kSharedBytes;

template <class T>
TS_INLINE T* shared_scratch() {
  return static_cast<T*>(ts::scratch());
}
template <class T>
TS_INLINE T* band_scratch() {
  return reinterpret_cast<T*>(static_cast<char*>(ts::scratch()) + kSharedBytes);
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// The rows of y that one chunk of a weight gradient sums, whose partial sums take `bytes`: at most 16 chunks
// of at least `pixels`, within 16 MiB.
constexpr std::int64_t kMaxChunks = 16;
inline std::int64_t weight_chunk(std::int64_t rows, std::int64_t cols, std::int64_t pixels,
                                 std::int64_t bytes) {
  const std::int64_t chunks =
      least(least(kMaxChunks, rows * cols / pixels), (std::int64_t{16} << 20) / most(bytes, 1));
  return most(1, ceil_div(rows, most(1, chunks)));
}

// --- bands -----------------------------------------------------------------------------------
// A block of images with their channels together: what a tile reads.
template <class T>
struct Band {
  const T* data;
  std::int64_t row, pixel, image = 0;  // strides
};

// `channels` rows, `row` apart, of `width` elements, `step` apart (at most a vector's width), to
// dst[column][pitch]: squares of them are transposed in registers. The rows are more streams than the
// hardware follows, so they are fetched ahead.
template <class T>
void interleave(const T* src, std::int64_t row, std::int64_t step, std::int64_t channels, std::int64_t width,
                std::int64_t pitch, T* dst) {
  using V = Vec<T>;
  constexpr int W = V::width;
  constexpr std::int64_t kAhead = 128 / static_cast<std::int64_t>(sizeof(T));
  const bool apart = !rows_collide<T>(row);
  const std::int64_t columns = W / step, span = columns * step;  // of a square; those between are dropped
  for (std::int64_t i = 0; i < width; i += columns, src += span, dst += columns * pitch) {
    const std::int64_t count = least(columns, width - i), elements = (count - 1) * step + 1;
    for (std::int64_t c = 0; c < channels; c += W) {
      const std::int64_t lanes = least(W, channels - c);
      const T* const from = src + c * row;
      T* const to = dst + c;
      V r[W];
      for (std::int64_t l = 0; l < lanes; ++l) __builtin_prefetch(from + l * row + kAhead);
      if (elements == W && lanes == W) {
        if (apart) {
          load_transposed<T>([&](int l) TS_LAMBDA { return from + l * row; }, r);
        } else {
          unroll<W>([&]<int l>() TS_LAMBDA { r[l] = V::load(from + l * row); });
          transpose<T>(r);
        }
        unroll<W>([&]<int l>() TS_LAMBDA { r[l].store(to + l * pitch); });
        continue;
      }
      for (int l = 0; l < W; ++l) r[l] = l < lanes ? V::load_partial(from + l * row, elements) : V(T(0));
      transpose<T>(r);
      for (std::int64_t l = 0; l < count; ++l) r[l * step].store_partial(to + l * pitch, lanes);
    }
  }
}

// `count` pixels, `step` apart, of at most two vectors of channels each, to dst[pixel][pitch], zeros past the
// last channel.
template <class T>
void copy_pixels(const T* src, std::int64_t step, std::int64_t channels, std::int64_t count,
                 std::int64_t pitch, T* dst) {
  using V = Vec<T>;
  constexpr std::int64_t W = V::width;
  if (channels == pitch && pitch == 2 * W) {
    for (; count > 0; --count, src += step, dst += pitch)
      V::load(src).store(dst), V::load(src + W).store(dst + W);
  } else if (pitch == W) {
    for (; count > 0; --count, src += step, dst += pitch) V::load_partial(src, channels).store(dst);
  } else if (pitch < W) {
    for (; count > 0; --count, src += step, dst += pitch)
      V::load_partial(src, channels).store_partial(dst, pitch);
  } else {
    for (; count > 0; --count, src += step, dst += pitch)
      for (std::int64_t v = 0; v < pitch; v += W)
        V::load_partial(src + v, most(0, least(W, channels - v))).store_partial(dst + v, least(W, pitch - v));
  }
}

// Copies rows [h0, h0 + rows) and columns [w0, w0 + cols) of an H x W image of `channels` channels to
// dst[row][column][pitch], zeros outside the image and in channels past the last.
template <class T>
void copy_band(const T* src, const Strides4& s, std::int64_t H, std::int64_t W, std::int64_t channels,
               std::int64_t h0, std::int64_t rows, std::int64_t w0, std::int64_t cols, std::int64_t pitch,
               T* dst) {
  if (w0 == 0 && cols == W && s.h == W * s.w && h0 >= 0 && h0 + rows <= H && rows > 1) {  // one long row
    src += h0 * s.h;
    cols = W = rows * cols;
    h0 = 0, H = rows = 1;
  }
  const std::int64_t left = least(cols, most(0, -w0)), right = most(left, least(cols, W - w0));
  const std::int64_t width = right - left;
  const auto zero = [](T* p, std::int64_t n) { std::memset(p, 0, static_cast<std::size_t>(n) * sizeof(T)); };
  for (std::int64_t r = 0; r < rows; ++r, dst += cols * pitch) {
    const std::int64_t h = h0 + r;
    if (h < 0 || h >= H || width == 0) {
      zero(dst, cols * pitch);
      continue;
    }
    zero(dst, left * pitch);
    zero(dst + right * pitch, (cols - right) * pitch);
    const T* from = src + h * s.h + (w0 + left) * s.w;
    T* to = dst + left * pitch;
    if ((s.c == 1 || channels == 1) && (s.w == channels || width == 1) && pitch == channels) {
      std::memcpy(to, from, static_cast<std::size_t>(width * channels) * sizeof(T));
      continue;
    }
    if (s.c == 1 && pitch <= 2 * Vec<T>::width) {  // masks leave out what is not there
      copy_pixels(from, s.w, channels, width, pitch, to);
      continue;
    }
    if (pitch > channels)
      for (std::int64_t i = 0; i < width; ++i) zero(to + i * pitch + channels, pitch - channels);
    if (s.c == 1 && channels > 1) {
      for (std::int64_t i = 0; i < width; ++i)
        std::memcpy(to + i * pitch, from + i * s.w, static_cast<std::size_t>(channels) * sizeof(T));
    } else if (s.w >= 1 && s.w <= least(4, Vec<T>::width) && channels >= 4) {
      interleave(from, s.c, s.w, channels, width, pitch, to);
    } else {
      // Eight channels at a time: their lines of dst stay in the cache between passes over the row.
      for (std::int64_t c0 = 0; c0 < channels; c0 += 8) {
        const std::int64_t c1 = least(c0 + 8, channels);
        for (std::int64_t i = 0; i < width; ++i)
          for (std::int64_t c = c0; c < c1; ++c) to[i * pitch + c] = from[i * s.w + c * s.c];
      }
    }
  }
}

// The offsets of a window's runs of contiguous elements, in the order of the sum. Neighbouring taps of a row
// make one run where they touch. Returns the number of runs; offsets may be null to ask for it.
struct Runs {
  std::int64_t count, length;
  // Slices that have these runs, and how far it is to the next: in x, and in the filters from the last run.
  std::int64_t slices = 1, slice = 0, gap = 0;
};
inline Runs window_runs(Pair taps, Pair spread, std::int64_t channels, std::int64_t row, std::int64_t column,
                        std::int64_t* offsets) {
  const bool joined = taps.w == 1 || spread.w * column == channels;
  const std::int64_t per_row = joined ? 1 : taps.w;
  if (offsets)
    for (std::int64_t i = 0; i < taps.h; ++i)
      for (std::int64_t j = 0; j < per_row; ++j)
        offsets[i * per_row + j] = i * spread.h * row + j * spread.w * column;
  return {taps.h * per_row, (joined ? taps.w : 1) * channels};
}

// Memory that comes next, for the inner loops to fetch into the second-level cache, a line at a time and
// evenly: many at once would fill the queue that the loops' own loads wait in.
class Ahead {
 public:
  // Rows [begin, end) of `count` channels-last images, if they lie about one after the other.
  template <class T>
  void add(const T* images, const Strides4& s, std::int64_t count, std::int64_t begin, std::int64_t end,
           std::int64_t W, std::int64_t channels) {
    const std::int64_t size = sizeof(T), rows = (end - begin) * s.h;
    if (s.c != 1 || begin >= end || s.w < channels || W * s.w > s.h || s.h > 2 * W * channels ||
        (count > 1 && (rows > s.n || s.n > 2 * rows)))
      return;
    part_[parts_++] = {reinterpret_cast<const char*>(images + begin * s.h),
                       (count > 1 ? (count - 1) * s.n + rows : rows) * size};
  }
  // The next of `pieces` about equal shares for a loop of `steps`: it fetches at, at + step, at + 2 step, ...
  TS_INLINE void share(std::int64_t pieces, std::int64_t steps, const char*& at, std::int64_t& step) {
    Part& part = part_[part_[0].bytes > 0 ? 0 : 1];
    const std::int64_t bytes = least(part.bytes, ceil_div(part_[0].bytes + part_[1].bytes, most(1, pieces)));
    at = part.at, step = least(64, ceil_div(bytes, steps));
    part.at += bytes, part.bytes -= bytes;
  }

 private:
  struct Part {
    const char* at = nullptr;
    std::int64_t bytes = 0;
  };
  Part part_[2];
  int parts_ = 0;
};

// Fetches the rows of a channels-last image that come next into the cache, a few lines at each call, while a
// tile that does not need them is computed.
class Prefetch {
 public:
  // `calls` calls to step() cover rows [begin, end) of an image; no calls: nothing.
  template <class T>
  void start(const T* image, const Strides4& s, std::int64_t begin, std::int64_t end, std::int64_t W,
             std::int64_t channels, std::int64_t calls) {
    rows_ = s.c == 1 && s.w >= channels && s.h > 0 && calls > 0 ? end - begin : 0;
    if (rows_ <= 0) return;
    row_ = s.h * static_cast<std::int64_t>(sizeof(T));
    width_ = ((W - 1) * s.w + channels) * static_cast<std::int64_t>(sizeof(T));
    at_ = reinterpret_cast<const char*>(image + begin * s.h);
    lines_ = ceil_div(rows_ * ceil_div(width_, 64), calls);
    column_ = 0;
  }
  template <bool Write = false>
  TS_INLINE void step() {
    for (std::int64_t i = 0; i < lines_ && rows_ > 0; ++i) {
      __builtin_prefetch(at_ + column_, Write, 2);
      column_ += 64;
      if (column_ >= width_) column_ = 0, at_ += row_, --rows_;
    }
  }

 private:
  const char* at_ = nullptr;
  std::int64_t rows_ = 0, row_ = 0, width_ = 0, lines_ = 0, column_ = 0;
};

// --- register tiles --------------------------------------------------------------------------
// Rows x vectors of accumulators that fit the registers beside the operands: 14 x 2 of 32, 6 x 2 of 16.
#if defined(__AVX512F__)
constexpr int kTileRows = 14;
#elif defined(__AVX2__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 5;
#endif
constexpr int kTileVectors = 2;
template <class T>
struct TileOut {
  T* y;
  std::int64_t pixel, jump, channel;  // strides: of a pixel, of half the pixels, of a channel
  std::int64_t channels;              // of this panel
  const T* bias;                      // padded to the panel, or null
  bool relu;
};
// tile(x, pixel, jump, offsets, runs, panel, out): some pixels by one panel of filters, in correlate.cpp.
template <class T>
using TileFunction = void (*)(const T*, std::int64_t, std::int64_t, const std::int64_t*, const Runs&,
                              const T*, const TileOut<T>&);
template <class T>
TileFunction<T> correlate_tile_of(int rows, int vectors);

template <class T>
constexpr int kPanel = kTileVectors * Vec<T>::width;  // output channels that share one pass

// The sizes of [0, n) cut into the fewest tiles of at most `most` rows, as equal as can be.
struct Tiles {
  std::int64_t count, base, extra;  // the first `extra` tiles have base + 1 rows
  TS_INLINE explicit Tiles(std::int64_t n, std::int64_t most = kTileRows)
      : count(ceil_div(n, most)), base(count ? n / count : 0), extra(count ? n % count : 0) {}
  TS_INLINE int rows(std::int64_t tile) const { return static_cast<int>(base + (tile < extra)); }
};

}  // namespace ts::cpu::TS_ISA
