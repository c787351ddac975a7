// Images at points between their pixels: grid_sample, of images whose channels are neighbours.
//
// x (N, H, W, C), grid (N, P, 2) of (x, y) from -1 to 1, y (N, P, C). A point reads one pixel (nearest) or
// four with the weights of bilinear interpolation, added in the order of their rows and columns; what lies
// outside adds nothing. Forward reads the pixels of every point and writes y once. Backward goes over the
// points twice: for dgrid, whose sums over channels are folded in lanes, and for dx, where an image and a
// block of channels belong to one thread, which adds the points in their order.
#include "cpu/half.h"
#include "cpu/kernels.h"
#include "cpu/reduce.h"
#include "cpu/types.h"
#include "math/grid.h"

namespace ts::cpu::TS_ISA {
namespace {

using I = std::int64_t;

// The sum of the lanes of 64 bytes: lane i + lane i + L/2, and so on, on every level.
template <class T, int R>
TS_INLINE T fold_lanes(Vec<T> (&v)[R]) {
  for (int half = R / 2; half > 0; half /= 2)
    for (int r = 0; r < half; ++r) v[r] = v[r] + v[r + half];
  return fold<Add, T>(v[0]);
}

// The pixels of a point that lie inside, and their weights.
template <class T>
struct Taps : Around<T> {
  I at[4];  // offsets of the pixels
  T weights[4];
  int count = 0;

  TS_INLINE Taps(const T* g, I xy, I H, I W, I row, I column, GridSample options)
      : Around<T>(g, xy, H, W, options) {
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) {
        if (!this->inside(i, j)) continue;
        at[count] = this->offset(i, j, row, column);
        weights[count++] = this->weight(i, j);
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
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const I C = x.shape[3], points = y.shape[0] * y.shape[1];
    parallel_ranges(points, (1 << 14) / (C + 16) + 1, [&](I begin, I end) {
      each_point<T>(grid, x, begin, end, options, [&](I n, I p, const Taps<T>& taps) {
        const S* const from = x.as<S>() + n * x.strides[0];
        S* const to = y.as<S>() + n * y.strides[0] + p * y.strides[1];
        if (taps.count == 4) {  // nearly every point: offsets and weights stay in registers
          const S *const a = from + taps.at[0], *const b = from + taps.at[1], *const c = from + taps.at[2],
                         *const d = from + taps.at[3];
          const Vec<T> u(taps.weights[0]), v(taps.weights[1]), w(taps.weights[2]), z(taps.weights[3]);
          each<T>(0, C, [&](I i, auto part) {
            Vec<T> sum = fma(u, get(a + i, part), Vec<T>(T(0)));
            sum = fma(v, get(b + i, part), sum);
            sum = fma(w, get(c + i, part), sum);
            put(to + i, fma(z, get(d + i, part), sum), part);
          });
          return;
        }
        each<T>(0, C, [&](I c, auto part) {
          Vec<T> sum(T(0));
          for (int k = 0; k < taps.count; ++k)
            sum = fma(Vec<T>(taps.weights[k]), get(from + taps.at[k] + c, part), sum);
          put(to + c, sum, part);
        });
      });
    });
  });
}

void grid_sample_backward(In dy, In x, In grid, Out dx, Out dgrid, GridSample options) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
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
            const S* const from = dy.as<S>() + n * dy.strides[0] + p * dy.strides[1];
            each<T>(first, last, [&](I c, auto part) {
              const Vec<T> g = get(from + c, part);
              for (int k = 0; k < taps.count; ++k)
                put(to + taps.at[k] + c, fma(Vec<T>(taps.weights[k]), g, get(to + taps.at[k] + c, part)),
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
        const S* const from = x.as<S>() + n * x.strides[0];
        const S* const g = dy.as<S>() + n * dy.strides[0] + p * dy.strides[1];
        T products[2][2] = {};
        int k = 0;
        for (int i = 0; i < 2; ++i) {
          for (int j = 0; j < 2; ++j) {
            if (!taps.inside(i, j)) continue;
            const S* const pixel = from + taps.at[k++];
            constexpr int R = 64 / kVectorBytes;
            Vec<T> sums[R];
            for (int r = 0; r < R; ++r) sums[r] = Vec<T>(T(0));
            for (I c = 0; c < C; c += 64 / static_cast<I>(sizeof(T)))
              for (int r = 0; r < R; ++r) {
                const I at = c + r * Vec<T>::width;
                if (at >= C) break;
                const I left = C - at;
                if (left >= Vec<T>::width)
                  sums[r] = fma(get(g + at, All{}), get(pixel + at, All{}), sums[r]);
                else
                  sums[r] = fma(get(g + at, First{left}), get(pixel + at, First{left}), sums[r]);
              }
            products[i][j] = fold_lanes(sums);
          }
        }
        T* const to = dgrid.as<T>() + n * dgrid.strides[0] + p * dgrid.strides[1];
        taps.slopes(products, to, to + dgrid.strides[2]);
      });
    });
  });
}

}  // namespace ts::cpu::TS_ISA
