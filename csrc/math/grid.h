// Where grid_sample reads: the pixels around a point, and their weights.
#pragma once

#include <cstdint>

#include "core/backend.h"
#include "math/registers.h"

namespace ts::TS_MATH {

TS_INLINE float whole_below(float x) { return __builtin_floorf(x); }
TS_INLINE double whole_below(double x) { return __builtin_floor(x); }
TS_INLINE float nearest_whole(float x) { return __builtin_nearbyintf(x); }  // half to even
TS_INLINE double nearest_whole(double x) { return __builtin_nearbyint(x); }

// Where a coordinate lies: its pixel, how far it is from there to the next one, and the slope of that.
template <class T>
struct Place {
  std::int64_t low;
  T part, slope;
  bool first, second;  // whether the pixel and the next one are inside
};

template <class T>
TS_INLINE T clipped(T at, T high, T& slope) {
  if (at < 0) {
    slope = 0;
    return 0;
  }
  if (at > high) {
    slope = 0;
    return high;
  }
  return at;
}

template <class T>
TS_INLINE Place<T> place_of(T g, std::int64_t size, GridSample options) {
  const T n = static_cast<T>(size), high = static_cast<T>(size - 1);
  T slope = options.align ? high / 2 : n / 2;
  T at = options.align ? (g + 1) * slope : ((g + 1) * n - 1) / 2;
  if (options.padding == GridPadding::border) {
    at = clipped(at, high, slope);
  } else if (options.padding == GridPadding::reflection) {
    const T low = options.align ? T(0) : T(-0.5), span = options.align ? high : n;
    if (span == 0) {
      at = at * 0, slope = 0;
    } else {
      const T off = at < low ? low - at : at - low, turns = whole_below(off / span),
              rest = off - turns * span;
      if (at < low) slope = -slope;
      const bool odd = turns - 2 * whole_below(turns / 2) != 0;
      if (odd) slope = -slope;
      at = clipped((odd ? span - rest : rest) + low, high, slope);
    }
  }
  const T whole = options.nearest ? nearest_whole(at) : whole_below(at);
  Place<T> p;
  p.first = whole >= 0 && whole <= high;  // NaN is outside
  p.second = !options.nearest && whole >= -1 && whole < high;
  p.low = p.first || p.second ? static_cast<std::int64_t>(whole) : 0;
  p.part = at - whole;
  p.slope = options.nearest ? T(0) : slope;
  return p;
}

// The pixels that a point of the grid reads: row i and column j of 0 and 1.
template <class T>
struct Around {
  Place<T> down, across;
  bool nearest;

  TS_INLINE Around(const T* g, std::int64_t xy, std::int64_t H, std::int64_t W, GridSample options)
      : down(place_of(g[xy], H, options)), across(place_of(g[0], W, options)), nearest(options.nearest) {}
  TS_INLINE bool inside(int i, int j) const {
    return (i ? down.second : down.first) && (j ? across.second : across.first);
  }
  TS_INLINE std::int64_t offset(int i, int j, std::int64_t row, std::int64_t column) const {
    return (down.low + i) * row + (across.low + j) * column;
  }
  TS_INLINE T weight(int i, int j) const {
    if (nearest) return T(1);
    return (i ? down.part : 1 - down.part) * (j ? across.part : 1 - across.part);
  }
  // dgrid, (x, y), from the sums of dy times each pixel, 0 for one outside.
  TS_INLINE void slopes(const T (&products)[2][2], T* x, T* y) const {
    const T dx =
        (1 - down.part) * (products[0][1] - products[0][0]) + down.part * (products[1][1] - products[1][0]);
    const T dy = (1 - across.part) * (products[1][0] - products[0][0]) +
                 across.part * (products[1][1] - products[0][1]);
    *x = across.slope == 0 ? T(0) : dx * across.slope;
    *y = down.slope == 0 ? T(0) : dy * down.slope;
  }
};

}  // namespace ts::TS_MATH
