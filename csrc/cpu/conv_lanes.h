// Narrow groups, depthwise ones above all: what their correlation and their weight gradient share (legend in
// conv_tile.h). A lane is an output channel, so that a vector holds neighbouring channels of neighbouring
// groups.
//
// A strip, the rows of one vector of lanes under a few rows of y, is copied to the first-level cache, zeros
// around it; with several channels to a group, [row][column][c][lane] with the channel that each lane wants.
#pragma once

#include "cpu/conv_tile.h"
#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

// What does not depend on the level, so that the order of a sum does not: a vector is 64 bytes here.
constexpr std::int64_t kLaneVector = 64, kStripBytes = 24 << 10, kStripPixels = 64;
constexpr int kLanePixels = 8;  // of a tile

// The filter as `count` rows of `width` taps on neighbouring columns; each tap on its own where columns are
// spread or stepped over otherwise.
struct TapRows {
  std::int64_t count, width, step;
  TapRows() = default;
  template <class T>
  explicit TapRows(const Correlation<T>& k) {
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
  // Elements of one vector's packed filters.
  template <class T>
  std::int64_t panel() const {
    return (1 + count * width) * Vec<T>::width;
  }
};

// instance<width, step>() for these rows: the tile that is compiled for them.
template <class Instance>
auto tile_for(const TapRows& rows, const Instance& instance) {
  const bool two = rows.step == 2;
  switch (rows.width) {
    case 2:
      return instance.template operator()<2, 1>();
    case 3:
      return two ? instance.template operator()<3, 2>() : instance.template operator()<3, 1>();
    case 5:
      return two ? instance.template operator()<5, 2>() : instance.template operator()<5, 1>();
    case 7:
      return two ? instance.template operator()<7, 2>() : instance.template operator()<7, 1>();
    default:
      return instance.template operator()<1, 1>();
  }
}

// Filters and bias to [vector][bias, then row and tap][lane], zeros in lanes past the last.
template <class T>
std::int64_t packed_lanes(const Correlation<T>& k, const TapRows& rows) {
  return ceil_div(k.G * k.O, Vec<T>::width) * rows.panel<T>();
}
template <class T>
void pack_lanes(const Correlation<T>& k, const TapRows& rows, T* packed) {
  using V = Vec<T>;
  for (std::int64_t lane = 0; lane < round_up(k.G * k.O, V::width); ++lane) {
    T* to = packed + lane / V::width * rows.panel<T>() + lane % V::width;
    const bool there = lane < k.G * k.O;
    *to = there && k.bias ? k.bias[lane * k.bias_stride] : T(0);
    const T* const w = there ? k.w + lane / k.O * k.wg + lane % k.O * k.wo : nullptr;
    for (std::int64_t i = 0; i < k.taps.h; ++i)
      for (std::int64_t c = 0; c < k.C; ++c)
        for (std::int64_t j = 0; j < k.taps.w; ++j)
          *(to += V::width) = there ? w[i * k.ws.h + j * k.ws.w + c * k.wc] : T(0);
  }
}

// Depthwise filters of up to 25 taps on at least a vector of channels that lie together, rows of at least 7
// pixels; false, with nothing done, for others (conv_depthwise_rows.cpp).
template <class T>
bool depthwise_rows(const Correlation<T>* parts, int count);

// Rows and columns of y that are computed from one strip.
struct StripCut {
  std::int64_t rows, columns;
  StripCut() = default;
  template <class T>
  explicit StripCut(const Correlation<T>& k) {
    columns = ceil_div(k.Q, ceil_div(k.Q, kStripPixels));
    const std::int64_t row = kLaneVector * k.C * width(k, columns);
    rows = most(1, least(k.P, (kStripBytes / row - k.band_rows(1)) / k.step.h + 1));
  }
  template <class T>
  static std::int64_t width(const Correlation<T>& k, std::int64_t columns) {
    return (columns - 1) * k.step.w + (k.taps.w - 1) * k.spread.w + 1;
  }
  template <class T>
  std::int64_t strip_bytes(const Correlation<T>& k) const {
    // A tile past the last column reads on.
    return kLaneVector * k.C * (width(k, columns) * k.band_rows(rows) + kLanePixels * k.step.w);
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

}  // namespace ts::cpu::TS_ISA
