// 2-D pooling, forward and backward.
//
// N images, C channels, H W extents of x, P Q extents of y. Tap (i, j) of output (p, q) reads
//   x[n, c, p stride.h + i dilation.h - padding.h, q stride.w + j dilation.w - padding.w]
//   max: y = the largest, padding counts as -inf; NaN wins, the first of equals is the index kept for
//   backward avg: y = (sum over the window, row by row) / divisor
// A thread an output forward; backward a thread an input, which adds what the windows over it send back, in
// order: no atomics. Reads x about once per overlap, from cache, and writes y once.
#include "cuda/divider.h"
#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

struct Plane {
  std::int64_t n, c, h, w;  // strides
  explicit Plane(const View& v)
      : n(v.data ? v.strides[0] : 0),
        c(v.data ? v.strides[1] : 0),
        h(v.data ? v.strides[2] : 0),
        w(v.data ? v.strides[3] : 0) {}
  TS_INLINE std::int64_t at(std::int64_t in, std::int64_t ic, std::int64_t ih, std::int64_t iw) const {
    return in * n + ic * c + ih * h + iw * w;
  }
};
struct Geometry {
  Pool2d pool;
  std::int64_t N, C, H, W, P, Q;
  bool channels_last;  // of the operand that the threads walk
  Divider inner, middle, outer, stride[2], dilation[2];
  std::int64_t first, count;  // image of this launch, and how many elements it has: below 2^31

  Geometry(const View& x, const View& y, const Pool2d& pool, const View& walked)
      : pool(pool),
        N(x.shape[0]),
        C(x.shape[1]),
        H(x.shape[2]),
        W(x.shape[3]),
        P(y.shape[2]),
        Q(y.shape[3]),
        channels_last(walked.strides[1] == 1 && walked.shape[1] > 1),
        inner(walked.shape[channels_last ? 1 : 3]),
        middle(walked.shape[channels_last ? 3 : 2]),
        outer(walked.shape[channels_last ? 2 : 1]),
        stride{Divider(pool.stride[0]), Divider(pool.stride[1])},
        dilation{Divider(pool.dilation[0]), Divider(pool.dilation[1])},
        first(0),
        count(walked.size()) {}
};
struct Position {
  std::int64_t n, c, h, w;
};
// Thread i's element, in memory order.
TS_INLINE Position position(const Geometry& g, std::uint32_t i) {
  const std::uint32_t a = g.inner.quotient(i), b = g.middle.quotient(a), n = g.outer.quotient(b);
  const std::int64_t first = i - a * g.inner.divisor, second = a - b * g.middle.divisor,
                     third = b - n * g.outer.divisor;
  if (g.channels_last) return {g.first + n, first, third, second};
  return {g.first + n, third, second, first};
}
TS_INLINE std::int64_t quotient(const Divider& d, std::int64_t n) {
  return n <= INT32_MAX ? d.quotient(static_cast<std::uint32_t>(n)) : n / d.divisor;
}

template <class T, class Index>
__global__ void max_pool_kernel(const Geometry g, const T* x, Plane xs, T* y, Plane ys, Index* index,
                                Plane is) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= g.count) return;
  const Position at = position(g, i);
  const Pool2d& p = g.pool;
  T best = static_cast<T>(-__builtin_inf());
  std::int64_t tap = 0;
  bool none = true;
  for (std::int64_t a = 0; a < p.kernel[0]; ++a) {
    const std::int64_t h = at.h * p.stride[0] + a * p.dilation[0] - p.padding[0];
    if (h < 0 || h >= g.H) continue;
    for (std::int64_t b = 0; b < p.kernel[1]; ++b) {
      const std::int64_t w = at.w * p.stride[1] + b * p.dilation[1] - p.padding[1];
      if (w < 0 || w >= g.W) continue;
      const T v = x[xs.at(at.n, at.c, h, w)];
      if (none || (best == best && !(v <= best))) best = v, tap = a * p.kernel[1] + b;
      none = false;
    }
  }
  y[ys.at(at.n, at.c, at.h, at.w)] = best;
  if (index) index[is.at(at.n, at.c, at.h, at.w)] = static_cast<Index>(tap);
}

template <class T>
__global__ void avg_pool_kernel(const Geometry g, const T* x, Plane xs, T* y, Plane ys) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= g.count) return;
  const Position at = position(g, i);
  const Pool2d& p = g.pool;
  T sum = 0;
  std::int64_t inside = 0, padded = 0;
  for (std::int64_t a = 0; a < p.kernel[0]; ++a) {
    const std::int64_t h = at.h * p.stride[0] + a * p.dilation[0] - p.padding[0];
    for (std::int64_t b = 0; b < p.kernel[1]; ++b) {
      const std::int64_t w = at.w * p.stride[1] + b * p.dilation[1] - p.padding[1];
      padded += h < g.H + p.padding[0] && w < g.W + p.padding[1];
      if (h < 0 || h >= g.H || w < 0 || w >= g.W) continue;
      sum += x[xs.at(at.n, at.c, h, w)];
      ++inside;
    }
  }
  const std::int64_t divisor = p.divisor ? p.divisor : p.count_include_pad ? padded : inside;
  y[ys.at(at.n, at.c, at.h, at.w)] = sum / static_cast<T>(divisor);
}

// The windows that may hold input `in` of an axis.
TS_INLINE std::int64_t first_window(const Geometry& g, int axis, std::int64_t in) {
  const Pool2d& p = g.pool;
  const std::int64_t past = in + p.padding[axis] - (p.kernel[axis] - 1) * p.dilation[axis];
  return past <= 0 ? 0 : quotient(g.stride[axis], past + p.stride[axis] - 1);
}
TS_INLINE std::int64_t end_window(const Geometry& g, int axis, std::int64_t in, std::int64_t outputs) {
  const std::int64_t end = quotient(g.stride[axis], in + g.pool.padding[axis]) + 1;
  return end < outputs ? end : outputs;
}
// Which tap of window `out` reads input `in`; -1 if none does.
TS_INLINE std::int64_t tap_of(const Geometry& g, int axis, std::int64_t out, std::int64_t in) {
  const Pool2d& p = g.pool;
  const std::int64_t distance = in + p.padding[axis] - out * p.stride[axis];
  if (distance < 0) return -1;
  const std::int64_t tap = quotient(g.dilation[axis], distance);
  return tap * p.dilation[axis] == distance && tap < p.kernel[axis] ? tap : -1;
}

template <class T, class Index, bool kMax>
__global__ void pool_backward_kernel(const Geometry g, const T* dy, Plane ys, const Index* index, Plane is,
                                     T* dx, Plane xs) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= g.count) return;
  const Position at = position(g, i);
  const Pool2d& p = g.pool;
  T sum = 0;
  const std::int64_t q0 = first_window(g, 1, at.w), q1 = end_window(g, 1, at.w, g.Q);
  const std::int64_t p1 = end_window(g, 0, at.h, g.P);
  for (std::int64_t row = first_window(g, 0, at.h); row < p1; ++row) {
    const std::int64_t a = tap_of(g, 0, row, at.h);
    if (a < 0) continue;
    for (std::int64_t column = q0; column < q1; ++column) {
      const std::int64_t b = tap_of(g, 1, column, at.w);
      if (b < 0) continue;
      const T d = dy[ys.at(at.n, at.c, row, column)];
      if constexpr (kMax) {
        if (static_cast<std::int64_t>(index[is.at(at.n, at.c, row, column)]) == a * p.kernel[1] + b) sum += d;
      } else {
        std::int64_t divisor = p.divisor;
        if (divisor == 0) {
          std::int64_t extent[2];
          const std::int64_t size[2] = {g.H, g.W}, out[2] = {row, column};
          for (int axis = 0; axis < 2; ++axis) {
            extent[axis] = 0;
            for (std::int64_t t = 0; t < p.kernel[axis]; ++t) {
              const std::int64_t in = out[axis] * p.stride[axis] + t * p.dilation[axis] - p.padding[axis];
              extent[axis] +=
                  p.count_include_pad ? in < size[axis] + p.padding[axis] : in >= 0 && in < size[axis];
            }
          }
          divisor = extent[0] * extent[1];
        }
        sum += d / static_cast<T>(divisor);
      }
    }
  }
  dx[xs.at(at.n, at.c, at.h, at.w)] = sum;
}

// Launches over as many images as leave 32-bit divisions.
template <class... Params, class... Args>
void launch_pool(void (*kernel)(const Geometry, Params...), Geometry g, const Args&... args) {
  if (g.count == 0) return;
  const std::int64_t image = g.count / g.N, some = image <= INT32_MAX ? INT32_MAX / image : 0;
  if (some == 0) not_implemented("pool2d", "2^31 numbers of one image");
  for (; g.first < g.N; g.first += some) {
    g.count = (g.N - g.first < some ? g.N - g.first : some) * image;
    launch(kernel, dim3(blocks_of(ceil_div(g.count, 256))), dim3(256), 0, g, args...);
  }
}

template <class F>
void with_index(const View& index, const F& f) {
  if (index.data && index.dtype == DType::int32)
    f(Type<std::int32_t>{});
  else
    f(Type<std::uint8_t>{});
}

}  // namespace

void max_pool2d(In x, Out y, Out index, Pool2d pool) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    with_index(index, [&]<class I>(Type<I>) {
      launch_pool(&max_pool_kernel<T, I>, Geometry(x, y, pool, y), x.as<T>(), Plane(x), y.as<T>(), Plane(y),
                  index.as<I>(), Plane(index));
    });
  });
}
void avg_pool2d(In x, Out y, Pool2d pool) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    launch_pool(&avg_pool_kernel<T>, Geometry(x, y, pool, y), x.as<T>(), Plane(x), y.as<T>(), Plane(y));
  });
}
void max_pool2d_backward(In dy, In index, Out dx, Pool2d pool) {
  with_floating(dx.dtype, [&]<class T>(Type<T>) {
    with_index(index, [&]<class I>(Type<I>) {
      launch_pool(&pool_backward_kernel<T, I, true>, Geometry(dx, dy, pool, dx), dy.as<T>(), Plane(dy),
                  index.as<I>(), Plane(index), dx.as<T>(), Plane(dx));
    });
  });
}
void avg_pool2d_backward(In dy, Out dx, Pool2d pool) {
  with_floating(dx.dtype, [&]<class T>(Type<T>) {
    launch_pool(&pool_backward_kernel<T, std::uint8_t, false>, Geometry(dx, dy, pool, dx), dy.as<T>(),
                Plane(dy), static_cast<const std::uint8_t*>(nullptr), Plane(View{}), dx.as<T>(), Plane(dx));
  });
}

}  // namespace ts::cuda
