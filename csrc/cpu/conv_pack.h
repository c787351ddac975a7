// Filters in memory, any strides, and filters in panels, [tap][c][width lanes of output channels], both ways.
//
// Filters usually hold their taps, or channels and taps, side by side: squares of them are transposed in
// registers.
#pragma once

#include "cpu/conv_tile.h"
#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

// The filters' elements in the order of memory, up to a vector of contiguous ones at a time: calls
// square(offset, count, row) with the offset of the first from the filter's start and the panel rows
// (tap * C + c) of each.
template <class T, class Square>
void for_each_square(const Correlation<T>& k, const Square& square) {
  constexpr std::int64_t W = Vec<T>::width;
  const std::int64_t taps = k.taps.h * k.taps.w, C = k.C;
  std::int64_t row[W];
  // Taps side by side, first to last or (flipped) last to first; if channels follow each other too, one long
  // run.
  const std::int64_t step = k.taps.w > 1 ? k.ws.w : k.ws.h;
  const bool ordered =
      taps > 1 && (step == 1 || step == -1) && (k.taps.w == 1 || k.taps.h == 1 || k.ws.h == step * k.taps.w);
  if (ordered) {
    const bool joined = k.wc == taps;
    const std::int64_t length = joined ? C * taps : taps, low = step < 0 ? -(taps - 1) : 0;
    for (std::int64_t c0 = 0; c0 < C; c0 += joined ? C : 1) {
      std::int64_t c = c0, t = 0;
      for (std::int64_t e = 0; e < length; e += W) {
        const std::int64_t count = least(W, length - e);
        for (std::int64_t i = 0; i < count; ++i) {
          row[i] = (step < 0 ? taps - 1 - t : t) * C + c;
          if (++t == taps) t = 0, ++c;
        }
        square(low + c0 * k.wc + e, count, row);
      }
    }
    return;
  }
  const std::int64_t run = k.wc == 1 ? W : 1;
  for (std::int64_t i = 0; i < k.taps.h; ++i)
    for (std::int64_t j = 0; j < k.taps.w; ++j)
      for (std::int64_t c = 0; c < C; c += run) {
        const std::int64_t count = least(run, C - c);
        for (std::int64_t l = 0; l < count; ++l) row[l] = (i * k.taps.w + j) * C + c + l;
        square(i * k.ws.h + j * k.ws.w + c * k.wc, count, row);
      }
}

// Output channels [0, count) of filters at w to panel rows of `width` lanes, zeros past count.
template <class T>
void pack_filters(const Correlation<T>& k, const T* w, std::int64_t count, std::int64_t width, T* panel) {
  using V = Vec<T>;
  for_each_square(k, [&](std::int64_t offset, std::int64_t n, const std::int64_t* row) {
    if (n == 1) {
      T* to = panel + row[0] * width;
      for (std::int64_t l = 0; l < width; ++l) to[l] = l < count ? w[l * k.wo + offset] : T(0);
      return;
    }
    for (std::int64_t l0 = 0; l0 < width; l0 += V::width) {
      V lanes[V::width];
      // The filters are too many streams for the hardware to follow.
      for (int l = 0; l < V::width && l0 + l < count; ++l)
        __builtin_prefetch(w + (l0 + l) * k.wo + offset + 6 * V::width);
      for (int l = 0; l < V::width; ++l)
        lanes[l] = l0 + l < count ? V::load_partial(w + (l0 + l) * k.wo + offset, n) : V(T(0));
      transpose<T>(lanes);
      for (std::int64_t i = 0; i < n; ++i) lanes[i].store(panel + row[i] * width + l0);
    }
  });
}

// The reverse: panel rows to output channels [0, count) of filters at w.
template <class T>
void unpack_filters(const Correlation<T>& k, const T* panel, std::int64_t count, std::int64_t width, T* w) {
  using V = Vec<T>;
  for_each_square(k, [&](std::int64_t offset, std::int64_t n, const std::int64_t* row) {
    if (n == 1) {
      for (std::int64_t l = 0; l < count; ++l) w[l * k.wo + offset] = panel[row[0] * width + l];
      return;
    }
    for (std::int64_t l0 = 0; l0 < count; l0 += V::width) {
      V rows[V::width];
      for (int l = 0; l < V::width && l0 + l < count; ++l)
        __builtin_prefetch(w + (l0 + l) * k.wo + offset + 6 * V::width, 1);
      for (std::int64_t i = 0; i < V::width; ++i)
        rows[i] = i < n ? V::load(panel + row[i] * width + l0) : V(T(0));
      transpose<T>(rows);
      for (std::int64_t l = 0; l < least(V::width, count - l0); ++l)
        rows[l].store_partial(w + (l0 + l) * k.wo + offset, n);
    }
  });
}

}  // namespace ts::cpu::TS_ISA
