// Images at points between their pixels: grid_sample, of images whose channels are neighbours.
//
// x (N, H, W, C), grid (N, P, 2) of (x, y) from -1 to 1, y (N, P, C). A point reads one pixel (nearest) or
// four with the weights of bilinear interpolation, added in the order of their rows and columns; what lies
// outside adds nothing. Forward reads the pixels of every point and writes y once. Backward goes over the
// points twice: for dgrid, whose sums over channels are folded in lanes, and for dx, where an image and a
// block of channels belong to one thread, which adds the points in their order.
#include "cpu/kernels.h"
#include "cpu/reduce.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

using I = std::int64_t;

TS_INLINE float whole_below(float x) { return __builtin_floorf(x); }
TS_INLINE double whole_below(double x) { return __builtin_floor(x); }
TS_INLINE float nearest_whole(float x) { return __builtin_nearbyintf(x); }  // half to even
TS_INLINE double nearest_whole(double x) { return __builtin_nearbyint(x); }

// The sum of the lanes of 64 bytes: lane i + lane i + L/2, and so on, on every level.
template <class T, int R>
TS_INLINE T fold_lanes(Vec<T> (&v)[R]) {
  for (int half = R / 2; half > 0; half /= 2)
    for (int r = 0; r < half; ++r) v[r] = v[r] + v[r + half];
  return fold<Add, T>(v[0]);
}

// Where a coordinate lies: its pixel, how far it is from there to the next one, and the slope of that.
template <class T>
struct Place {
  I low;
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
TS_INLINE Place<T> place_of(T g, I size, GridSample options) {
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
  p.low = p.first || p.second ? static_cast<I>(whole) : 0;
  p.part = at - whole;
  p.slope = options.nearest ? T(0) : slope;
  return p;
}

// The pixels of a point that lie inside, and their weights.
template <class T>
struct Taps {
  I at[4];  // offsets of the pixels
  T weight[4];
  int count = 0;
  Place<T> down, across;

  TS_INLINE Taps(const T* g, I xy, I H, I W, I row, I column, GridSample options)
      : down(place_of(g[xy], H, options)), across(place_of(g[0], W, options)) {
    for (int i = 0; i < 2; ++i) {
      if (!(i ? down.second : down.first)) continue;
      const T v = options.nearest ? T(1) : i ? down.part : 1 - down.part;
      for (int j = 0; j < 2; ++j) {
        if (!(j ? across.second : across.first)) continue;
        at[count] = (down.low + i) * row + (across.low + j) * column;
        weight[count++] = options.nearest ? T(1) : v * (j ? across.part : 1 - across.part);
      }
    }
  }
};

template <class T, class F>
TS_INLINE void each_point(const View& grid, const View& x, I begin, I end, GridSample options, const F& f) {
  const I P = grid.shape[1];
  for (I i = begin; i < end; ++i) {
    const I n = i / P, p = i % P;
    const T* const g = static_cast<const T*>(grid.data) + n * grid.strides[0] + p * grid.strides[1];
    f(n, p, Taps<T>(g, grid.strides[2], x.shape[1], x.shape[2], x.strides[1], x.strides[2], options));
  }
}

}  // namespace

void grid_sample(In x, In grid, Out y, GridSample options) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const I C = x.shape[3], points = y.shape[0] * y.shape[1];
    parallel_ranges(points, (1 << 14) / (C + 16) + 1, [&](I begin, I end) {
      each_point<T>(grid, x, begin, end, options, [&](I n, I p, const Taps<T>& taps) {
        const T* const from = x.as<T>() + n * x.strides[0];
        each<T>(0, C, [&](I c, auto part) {
          Vec<T> sum(T(0));
          for (int k = 0; k < taps.count; ++k)
            sum = fma(Vec<T>(taps.weight[k]), get(from + taps.at[k] + c, part), sum);
          put(y.as<T>() + n * y.strides[0] + p * y.strides[1] + c, sum, part);
        });
      });
    });
  });
}

void grid_sample_backward(In dy, In x, In grid, Out dx, Out dgrid, GridSample options) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const I N = x.shape[0], H = x.shape[1], C = x.shape[3], P = dy.shape[1];
    if (dx) {
      constexpr I kChannels = 128 / sizeof(T);  // of a piece
      const I blocks = (C + kChannels - 1) / kChannels;
      parallel_ranges(N * blocks, (1 << 14) / (P * kChannels) + 1, [&](I begin, I end) {
        for (I i = begin; i < end; ++i) {
          const I n = i / blocks, first = i % blocks * kChannels,
                  last = C - first < kChannels ? C : first + kChannels;
          T* const to = dx.as<T>() + n * dx.strides[0];
          for (I r = 0; r < H * x.shape[2]; ++r)
            each<T>(first, last, [&](I c, auto part) {
              put(to + r / x.shape[2] * dx.strides[1] + r % x.shape[2] * dx.strides[2] + c, Vec<T>(T(0)),
                  part);
            });
          each_point<T>(grid, dx, n * P, n * P + P, options, [&](I, I p, const Taps<T>& taps) {
            const T* const from = dy.as<T>() + n * dy.strides[0] + p * dy.strides[1];
            each<T>(first, last, [&](I c, auto part) {
              const Vec<T> g = get(from + c, part);
              for (int k = 0; k < taps.count; ++k)
                put(to + taps.at[k] + c, fma(Vec<T>(taps.weight[k]), g, get(to + taps.at[k] + c, part)),
                    part);
            });
          });
        }
      });
    }
    if (!dgrid) return;
    // dy times each of the four pixels, summed over channels; a pixel outside counts as 0.
    parallel_ranges(N * P, (1 << 14) / (C + 16) + 1, [&](I begin, I end) {
      each_point<T>(grid, x, begin, end, options, [&](I n, I p, const Taps<T>& taps) {
        const T* const from = x.as<T>() + n * x.strides[0];
        const T* const g = dy.as<T>() + n * dy.strides[0] + p * dy.strides[1];
        T products[2][2] = {};
        int k = 0;
        for (int i = 0; i < 2; ++i) {
          if (!(i ? taps.down.second : taps.down.first)) continue;
          for (int j = 0; j < 2; ++j) {
            if (!(j ? taps.across.second : taps.across.first)) continue;
            const T* const pixel = from + taps.at[k++];
            constexpr int R = 64 / kVectorBytes;
            Vec<T> sums[R];
            for (int r = 0; r < R; ++r) sums[r] = Vec<T>(T(0));
            for (I c = 0; c < C; c += 64 / static_cast<I>(sizeof(T)))
              for (int r = 0; r < R; ++r) {
                const I at = c + r * Vec<T>::width;
                if (at >= C) break;
                const I left = C - at;
                if (left >= Vec<T>::width)
                  sums[r] = fma(Vec<T>::load(g + at), Vec<T>::load(pixel + at), sums[r]);
                else
                  sums[r] = fma(Vec<T>::load_partial(g + at, left), Vec<T>::load_partial(pixel + at, left),
                                sums[r]);
              }
            products[i][j] = fold_lanes(sums);
          }
        }
        const T across = (1 - taps.down.part) * (products[0][1] - products[0][0]) +
                         taps.down.part * (products[1][1] - products[1][0]);
        const T down = (1 - taps.across.part) * (products[1][0] - products[0][0]) +
                       taps.across.part * (products[1][1] - products[0][1]);
        T* const to = dgrid.as<T>() + n * dgrid.strides[0] + p * dgrid.strides[1];
        to[0] = taps.across.slope == 0 ? T(0) : across * taps.across.slope;
        to[dgrid.strides[2]] = taps.down.slope == 0 ? T(0) : down * taps.down.slope;
      });
    });
  });
}

}  // namespace ts::cpu::TS_ISA
