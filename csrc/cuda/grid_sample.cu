// Images at points between their pixels, as cpu/grid_sample.cpp: x (N, H, W, C), grid (N, P, 2), y (N, P, C).
//
// Forward: a thread a number of y. dgrid: a point belongs to as many lanes as 64 bytes have numbers, whose
// sums are folded as the CPU folds its lanes. dx without atomics: the taps of all points are sorted by their
// pixel, and one warp owns a pixel, to which it adds its taps in the order of their points. The CPU's bits.
#include "cuda/divider.h"
#include "cuda/index.h"
#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "math/grid.h"

namespace ts::cuda {
namespace {

struct Points {
  std::int64_t n, p, xy;  // strides of the grid
  std::int64_t H, W;
  GridSample options;

  Points(const View& grid, const View& x, GridSample options)
      : n(grid.strides[0]),
        p(grid.strides[1]),
        xy(grid.strides[2]),
        H(x.shape[1]),
        W(x.shape[2]),
        options(options) {}
  template <class T>
  TS_INLINE Around<T> around(const T* grid, std::int64_t image, std::int64_t point) const {
    return Around<T>(grid + image * n + point * p, xy, H, W, options);
  }
};
struct Images {
  std::int64_t image, row, column;  // strides
  explicit Images(const View& v) : image(v.strides[0]), row(v.strides[1]), column(v.strides[2]) {}
};

template <class T>
__global__ void sample_kernel(const T* x, const Images xs, const T* grid, const Points points, T* y,
                              std::int64_t yn, std::int64_t yp, const Divider C, const Divider P,
                              std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::uint32_t at = static_cast<std::uint32_t>(i), point = C.quotient(at), n = P.quotient(point),
                      c = at - point * C.divisor, p = point - n * P.divisor;
  const Around<T> around = points.around(grid, n, p);
  const T* const from = x + n * xs.image + c;
  T sum = 0;
#pragma unroll
  for (int tap = 0; tap < 4; ++tap) {
    const int r = tap / 2, s = tap % 2;
    if (around.inside(r, s))
      sum =
          fma(Vec<T>(around.weight(r, s)), Vec<T>(from[around.offset(r, s, xs.row, xs.column)]), Vec<T>(sum))
              .r;
  }
  y[n * yn + p * yp + c] = sum;
}

// Four taps for each point: the pixel, counted over all images, and the weight. What a point does not read
// comes behind all pixels.
template <class T>
__global__ void taps_kernel(const T* grid, const Points points, std::int64_t P, std::int64_t count,
                            std::int64_t pixels, std::int64_t* index, T* weights) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int64_t n = i / P;
  const Around<T> around = points.around(grid, n, i - n * P);
#pragma unroll
  for (int tap = 0; tap < 4; ++tap) {
    const int r = tap / 2, s = tap % 2;
    const bool inside = around.inside(r, s);
    index[4 * i + tap] = inside ? around.offset(r, s, points.W, 1) + n * points.H * points.W : pixels;
    weights[4 * i + tap] = inside ? around.weight(r, s) : T(0);
  }
}

// A warp for every sorted tap; it works where those of a pixel begin.
template <class T>
__global__ void __launch_bounds__(256)
    pixels_kernel(const std::uint64_t* keys, const std::uint64_t* places, const T* weights,
                  std::int64_t count, std::int64_t pixels, const T* dy, std::int64_t yn, std::int64_t yp,
                  std::int64_t P, T* dx, std::int64_t C) {
  const std::int64_t first = std::int64_t{blockIdx.x} * 8 + threadIdx.x / kWarp;
  if (first >= count) return;
  const std::uint64_t key = keys[first];
  if (static_cast<std::int64_t>(key) >= pixels || (first > 0 && keys[first - 1] == key)) return;
  for (std::int64_t c = threadIdx.x % kWarp; c < C; c += kWarp) {
    T sum = 0;
    for (std::int64_t i = first; i < count && keys[i] == key; ++i) {
      const std::int64_t tap = static_cast<std::int64_t>(places[i]), point = tap / 4, n = point / P;
      sum = fma(Vec<T>(weights[tap]), Vec<T>(dy[n * yn + (point - n * P) * yp + c]), Vec<T>(sum)).r;
    }
    dx[static_cast<std::int64_t>(key) * C + c] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(256)
    points_kernel(const T* dy, std::int64_t yn, std::int64_t yp, const T* x, const Images xs, std::int64_t C,
                  const T* grid, const Points points, std::int64_t P, std::int64_t count, T* dgrid,
                  std::int64_t gn, std::int64_t gp, std::int64_t gxy) {
  constexpr int kLanes = 64 / static_cast<int>(sizeof(T));
  const std::int64_t i = std::int64_t{blockIdx.x} * (256 / kLanes) + threadIdx.x / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const bool real = i < count;  // all lanes of a warp shuffle
  const std::int64_t n = real ? i / P : 0, p = real ? i - n * P : 0;
  const Around<T> around = points.around(grid, n, p);
  const T* const from = x + n * xs.image;
  const T* const g = dy + n * yn + p * yp;
  T products[2][2];
#pragma unroll
  for (int tap = 0; tap < 4; ++tap) {
    const int r = tap / 2, s = tap % 2;
    T sum = 0;
    if (around.inside(r, s)) {
      const T* const pixel = from + around.offset(r, s, xs.row, xs.column);
      for (std::int64_t c = lane; c < C; c += kLanes)
        sum = fma(Vec<T>(g[c]), Vec<T>(pixel[c]), Vec<T>(sum)).r;
    }
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2) sum = sum + __shfl_xor_sync(kAllLanes, sum, step);
    products[r][s] = sum;
  }
  if (!real || lane > 0) return;
  T* const to = dgrid + n * gn + p * gp;
  around.slopes(products, to, to + gxy);
}

}  // namespace

void grid_sample(In x, In grid, Out y, GridSample options) {
  const std::int64_t N = y.shape[0];
  if (y.size() == 0) return;
  const std::int64_t image = y.size() / N, some = INT32_MAX / image;  // images of a launch: 32-bit divisions
  if (some == 0) not_implemented("grid_sample", "2^31 numbers of one image");
  const Points points(grid, x, options);
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    for (std::int64_t n = 0; n < N; n += some) {
      const std::int64_t count = (N - n < some ? N - n : some) * image;
      launch(&sample_kernel<T>, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0,
             x.as<T>() + n * x.strides[0], Images(x), grid.as<T>() + n * grid.strides[0], points,
             y.as<T>() + n * y.strides[0], y.strides[0], y.strides[1], Divider(y.shape[2]),
             Divider(y.shape[1]), count);
    }
  });
}

void grid_sample_backward(In dy, In x, In grid, Out dx, Out dgrid, GridSample options) {
  const std::int64_t C = x.shape[3], P = dy.shape[1], count = dy.shape[0] * P;
  const Points points(grid, x, options);
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    if (dx) {
      const std::int64_t taps = 4 * count, pixels = x.shape[0] * x.shape[1] * x.shape[2];
      const Workspace room(taps * (3 * 8 + static_cast<std::int64_t>(sizeof(T))));
      std::uint64_t *const keys = room.as<std::uint64_t>(), *const places = keys + taps;
      std::int64_t* const index = reinterpret_cast<std::int64_t*>(places + taps);
      T* const weights = reinterpret_cast<T*>(index + taps);
      launch(&taps_kernel<T>, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, grid.as<T>(), points, P,
             count, pixels, index, weights);
      sort_indices(index, 1, taps, pixels, keys, places);
      check(cudaMemsetAsync(dx.data, 0, static_cast<std::size_t>(pixels * C) * sizeof(T), stream()),
            "cudaMemsetAsync");
      launch(&pixels_kernel<T>, dim3(blocks_of(ceil_div(taps, 8))), dim3(256), 0, keys, places, weights, taps,
             pixels, dy.as<T>(), dy.strides[0], dy.strides[1], P, dx.as<T>(), C);
    }
    if (!dgrid) return;
    constexpr std::int64_t kPoints = 256 * sizeof(T) / 64;  // of a block
    launch(&points_kernel<T>, dim3(blocks_of(ceil_div(count, kPoints))), dim3(256), 0, dy.as<T>(),
           dy.strides[0], dy.strides[1], x.as<T>(), Images(x), C, grid.as<T>(), points, P, count,
           dgrid.as<T>(), dgrid.strides[0], dgrid.strides[1], dgrid.strides[2]);
  });
}

}  // namespace ts::cuda
