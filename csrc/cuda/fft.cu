// Discrete Fourier transforms of rows: cpu/fft.cpp's passes, factors and additions, so its bits.
//
// R rows of N complex numbers. A row of up to kMost bytes, twice, is in shared memory from its one read to
// its one write, several short rows a block; longer ones take a launch a pass, which reads and writes them.
// Thread i of a pass of radix r has the numbers i + j N / r, so neighbours read neighbours; i = q + s p.
#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"
#include "math/fft.h"

namespace ts::cuda {
namespace {

constexpr int kFftThreads = 256;

template <class T>
struct Rows {
  const T* x;
  T* y;
  std::int64_t R, dx, dy;  // strides in numbers of T
  const T* twiddle;
  Fft f;
};

// In from x, as the CPU's `load`.
template <class T>
TS_INLINE Point<T> fft_load(const Rows<T>& a, const T* x, int i) {
  if (a.f.kind == Fft::from_real) return {x[2 * i], x[2 * i + 1]};
  const Point<T>* const z = reinterpret_cast<const Point<T>*>(x);
  if (a.f.kind == Fft::complex) {
    const Point<T> v = z[i];
    return a.f.inverse ? Point<T>{v.im, v.re} : v;
  }
  const int M = static_cast<int>(a.f.length);
  const T* const w = a.twiddle + a.f.ends;
  Point<T> v = z[i], other = {z[M - i].re, -z[M - i].im};
  if (i == 0) v.im = 0, other.im = 0;
  const Point<T> sum = (v + other) - times_minus_i(times(v - other, w[i], -w[M + 1 + i]));
  return {sum.im, sum.re};
}
// Out to y, place i (of N; from_real has N + 1).
template <class T>
TS_INLINE void fft_store(const Rows<T>& a, const Point<T>* z, T* y, int i) {
  const T scale = static_cast<T>(a.f.scale);
  const int N = static_cast<int>(a.f.length);
  if (a.f.kind == Fft::complex) {
    const Point<T> v = z[i];
    reinterpret_cast<Point<T>*>(y)[i] =
        a.f.inverse ? Point<T>{scale * v.im, scale * v.re} : Point<T>{scale * v.re, scale * v.im};
  } else if (a.f.kind == Fft::from_real) {
    const T half = scale / 2;
    const T* const w = a.twiddle + a.f.ends;
    const int at = i == N ? 0 : i, mirror = i == 0 || i == N ? 0 : N - i;
    const Point<T> v = half * z[at], other = {half * z[mirror].re, -half * z[mirror].im};
    reinterpret_cast<Point<T>*>(y)[i] = (v + other) + times_minus_i(times(v - other, w[i], w[N + 1 + i]));
  } else {
    const Point<T> v = z[i];
    y[2 * i] = scale * v.im, y[2 * i + 1] = scale * v.re;
  }
}
template <class T>
TS_INLINE int fft_outputs(const Rows<T>& a) {
  return static_cast<int>(a.f.length) + (a.f.kind == Fft::from_real ? 1 : 0);
}

template <int r, class T>
TS_INLINE void fft_radix(const Point<T>* x, Point<T>* y, const T* w, int m, int s, int i) {
  const int p = static_cast<int>(static_cast<unsigned>(i) / static_cast<unsigned>(s)), q = i - p * s;
  Point<T> v[r];
#pragma unroll
  for (int j = 0; j < r; ++j) v[j] = x[i + j * (m * s)];
  butterfly<r>(v);
#pragma unroll
  for (int k = 1; k < r; ++k) v[k] = times(v[k], w[2 * (k - 1) * m + p], w[(2 * k - 1) * m + p]);
#pragma unroll
  for (int k = 0; k < r; ++k) y[q + s * (r * p + k)] = v[k];
}
// Any radix, from its definition.
template <class T>
TS_INLINE void fft_any(int r, const Point<T>* x, Point<T>* y, const T* w, int m, int s, int i) {
  const int p = i / s, q = i - p * s, step = m * s;
  const T* const root = w + 2 * (r - 1) * m;
  for (int k = 0; k < r; ++k) {
    Point<T> sum = x[i];
    for (int j = 1, at = k; j < r; ++j, at = at + k < r ? at + k : at + k - r)
      sum = sum + times(x[i + j * step], root[at], root[r + at]);
    if (k > 0) sum = times(sum, w[2 * (k - 1) * m + p], w[(2 * k - 1) * m + p]);
    y[q + s * (r * p + k)] = sum;
  }
}
template <class T>
TS_INLINE void fft_item(int r, const Point<T>* x, Point<T>* y, const T* w, int m, int s, int i) {
  switch (r) {
    case 2:
      return fft_radix<2>(x, y, w, m, s, i);
    case 3:
      return fft_radix<3>(x, y, w, m, s, i);
    case 4:
      return fft_radix<4>(x, y, w, m, s, i);
    case 5:
      return fft_radix<5>(x, y, w, m, s, i);
    default:
      return fft_any(r, x, y, w, m, s, i);
  }
}

// Whole rows in shared memory, blockDim.y of them a block.
template <class T>
__global__ void __launch_bounds__(kFftThreads) fft_rows_kernel(const Rows<T> a) {
  const int N = static_cast<int>(a.f.length), thread = static_cast<int>(threadIdx.x);
  const int step = static_cast<int>(blockDim.x);
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const bool some = row < a.R;
  Point<T>* from = reinterpret_cast<Point<T>*>(dynamic_shared()) + std::int64_t{2} * N * threadIdx.y;
  Point<T>* to = from + N;
  const T* const x = a.x + row * a.dx;
  if (some)
    for (int i = thread; i < N; i += step) from[i] = fft_load(a, x, i);
  const T* w = a.twiddle;
  int n = N, s = 1;
  for (int pass = 0; pass < a.f.passes; ++pass) {
    __syncthreads();
    const int r = a.f.radix[pass], m = n / r;
    if (some)
      for (int i = thread; i < m * s; i += step) fft_item(r, from, to, w, m, s, i);
    w += 2 * (r - 1) * m + 2 * r;
    n = m, s *= r;
    Point<T>* const other = from;
    from = to, to = other;
  }
  __syncthreads();
  if (some)
    for (int i = thread; i < fft_outputs(a); i += step) fft_store(a, from, a.y + row * a.dy, i);
}

// The same a launch at a time, for rows beyond that: in, each pass, out.
template <class T>
__global__ void fft_load_kernel(const Rows<T> a, Point<T>* z) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kFftThreads + threadIdx.x;
  if (i >= a.f.length) return;
  for (std::int64_t row = blockIdx.y; row < a.R; row += gridDim.y)
    z[row * a.f.length + i] = fft_load(a, a.x + row * a.dx, static_cast<int>(i));
}
template <class T>
__global__ void fft_pass_kernel(std::int64_t R, int r, const Point<T>* x, Point<T>* y, const T* w, int m,
                                int s) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kFftThreads + threadIdx.x, N = std::int64_t{r} * m * s;
  if (i >= std::int64_t{m} * s) return;
  for (std::int64_t row = blockIdx.y; row < R; row += gridDim.y)
    fft_item(r, x + row * N, y + row * N, w, m, s, static_cast<int>(i));
}
template <class T>
__global__ void fft_store_kernel(const Rows<T> a, const Point<T>* z) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kFftThreads + threadIdx.x;
  if (i >= fft_outputs(a)) return;
  for (std::int64_t row = blockIdx.y; row < a.R; row += gridDim.y)
    fft_store(a, z + row * a.f.length, a.y + row * a.dy, static_cast<int>(i));
}

template <class T>
void fft_in_memory(const Rows<T>& a) {
  const std::int64_t N = a.f.length;
  const Workspace room(2 * a.R * N * static_cast<std::int64_t>(sizeof(Point<T>)));
  Point<T>* from = room.as<Point<T>>();
  Point<T>* to = from + a.R * N;
  const auto grid = [&](std::int64_t items) {
    return dim3(blocks_of(ceil_div(items, kFftThreads)), static_cast<unsigned>(a.R < 65535 ? a.R : 65535));
  };
  launch(&fft_load_kernel<T>, grid(N), dim3(kFftThreads), 0, a, from);
  const T* w = a.twiddle;
  std::int64_t n = N, s = 1;
  for (int pass = 0; pass < a.f.passes; ++pass) {
    const int r = a.f.radix[pass];
    const std::int64_t m = n / r;
    launch(&fft_pass_kernel<T>, grid(m * s), dim3(kFftThreads), 0, a.R, r, static_cast<const Point<T>*>(from),
           to, w, static_cast<int>(m), static_cast<int>(s));
    w += 2 * (r - 1) * m + 2 * r;
    n = m, s *= r;
    std::swap(from, to);
  }
  launch(&fft_store_kernel<T>, grid(N + 1), dim3(kFftThreads), 0, a, static_cast<const Point<T>*>(from));
}

}  // namespace

void fft(In x, In twiddle, Out y, Out, Fft plan) {
  if (plan.length >= std::int64_t{1} << 30) not_implemented("fft", "rows of 2^30 or more numbers");
  with_floating(twiddle.dtype, [&]<class T>(Type<T>) {
    const auto step = [](const View& v) { return v.strides[0] * (is_complex(v.dtype) ? 2 : 1); };
    const Rows<T> a{x.as<T>(), y.as<T>(), x.shape[0], step(x), step(y), twiddle.as<T>(), plan};
    const std::int64_t bytes = 2 * plan.length * static_cast<std::int64_t>(sizeof(Point<T>));
    // What a block may have: 227 KB on compute capability 9.0, 99 KB on 8.6, 64 KB before 8.0.
    if (bytes > (capability() == 90 || capability() == 80 || capability() == 100 ? 128 << 10
                 : capability() >= 80                                            ? 96 << 10
                                                                                 : 64 << 10))
      return fft_in_memory(a);
    int across = 8;  // threads of a row
    while (across < kFftThreads && across * 4 < plan.length) across *= 2;
    int down = kFftThreads / across;
    while (down > 1 && (down * bytes > 32 << 10 || a.R <= down / 2)) down /= 2;
    launch(&fft_rows_kernel<T>, dim3(blocks_of(ceil_div(a.R, down))),
           dim3(static_cast<unsigned>(across), static_cast<unsigned>(down)),
           static_cast<std::size_t>(down * bytes), a);
  });
}

}  // namespace ts::cuda
