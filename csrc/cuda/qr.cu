// QR by Householder reflections, in blocks of 32 (the compact WY form of Schreiber & Van Loan 1989): A = Q R.
//
//   H = I - tau v v', v_0 = 1       H_1 ... H_32 = I - V T V'
//
// B matrices of M x N, row-major. A panel of 32 columns is reduced by one block a matrix; the columns to its
// right take C -= V T' (V' C) by the product, and Q is built in the same way from the last panel to the
// first. 2 M N^2 - 2 N^3 / 3 flops, as much again for Q.
#include "cuda/kernels.h"
#include "cuda/linalg.h"

namespace ts::cuda {
namespace {

// Columns [k, end) of a (m x n), below row k: v below the diagonal, R on it and above.
template <class T>
__global__ void __launch_bounds__(kPanelThreads)
    qr_panel_kernel(T* a, T* taus, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t end,
                    std::int64_t steps) {
  __shared__ T room[kWarp];
  a += std::int64_t{blockIdx.x} * m * n;
  taus += std::int64_t{blockIdx.x} * steps;
  const int t = static_cast<int>(threadIdx.x);
  for (std::int64_t j = k; j < end; ++j) {
    T* const pivot = a + j * n + j;
    const std::int64_t rows = m - j;
    T most(0);
    for (std::int64_t i = 1 + t; i < rows; i += kPanelThreads)
      if (const T x = magnitude(pivot[i * n]); x > most || x != x) most = x;
    most = largest_in_block(most, room);
    const T head = pivot[0];
    T tau(0), beta = head, scale(0);
    if (most != T(0)) {  // scaled, so that squares neither overflow nor vanish
      if (magnitude(head) > most) most = magnitude(head);
      T sum(0);
      for (std::int64_t i = t; i < rows; i += kPanelThreads) {
        const T s = pivot[i * n] / most;
        sum += s * s;
      }
      const T norm = ::sqrt(block_reduce(sum, T(0), room, Sum{})) * most;
      beta = head > T(0) ? -norm : norm;
      tau = (beta - head) / beta, scale = T(1) / (head - beta);
    }
    __syncthreads();
    if (tau != T(0))
      for (std::int64_t i = 1 + t; i < rows; i += kPanelThreads) pivot[i * n] *= scale;
    if (t == 0) pivot[0] = beta, taus[j] = tau;
    __syncthreads();
    // A warp a column: w = v' a, a -= tau w v.
    if (tau != T(0))
      for (std::int64_t c = 1 + t / kWarp; c < end - j; c += kPanelThreads / kWarp) {
        T w = t % kWarp == 0 ? pivot[c] : T(0);
        for (std::int64_t i = 1 + t % kWarp; i < rows; i += kWarp) w += pivot[i * n] * pivot[i * n + c];
        w = tau * warp_reduce(w, Sum{});
        if (t % kWarp == 0) pivot[c] -= w;
        for (std::int64_t i = 1 + t % kWarp; i < rows; i += kWarp) pivot[i * n + c] -= w * pivot[i * n];
      }
    __syncthreads();
  }
}

// v: the panel's V, (rows, 32) dense from row k on; t: its T (32, 32). Columns beyond `width` are 0.
template <class T>
__global__ void __launch_bounds__(kPanelThreads)
    block_reflector_kernel(const T* a, const T* taus, std::int64_t m, std::int64_t n, std::int64_t k,
                           int width, std::int64_t steps, T* v, T* t_out) {
  __shared__ T gram[kPanel][kPanel + 1], t[kPanel][kPanel + 1];
  const std::int64_t rows = m - k;
  a += std::int64_t{blockIdx.x} * m * n;
  taus += std::int64_t{blockIdx.x} * steps + k;
  v += std::int64_t{blockIdx.x} * rows * kPanel;
  t_out += std::int64_t{blockIdx.x} * kPanel * kPanel;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  for (std::int64_t e = thread; e < rows * kPanel; e += kPanelThreads) {
    const std::int64_t i = e / kPanel, j = e % kPanel;
    v[e] = j >= width || j > i ? T(0) : j == i ? T(1) : a[(k + i) * n + k + j];
  }
  for (int e = thread; e < kPanel * kPanel; e += kPanelThreads) t[e / kPanel][e % kPanel] = T(0);
  __syncthreads();
  for (int pair = thread / kWarp; pair < width * width; pair += kPanelThreads / kWarp) {
    const int i = pair / width, j = pair % width;
    if (i > j) continue;
    T sum(0);
    for (std::int64_t r = lane; r < rows; r += kWarp) sum += v[r * kPanel + i] * v[r * kPanel + j];
    sum = warp_reduce(sum, Sum{});
    if (lane == 0) gram[i][j] = sum;
  }
  __syncthreads();
  // T(0..j, j) = -tau_j T(0..j, 0..j) V(:, 0..j)' v_j
  for (int j = 0; j < width; ++j) {
    if (thread < j) {
      T sum(0);
      for (int l = thread; l < j; ++l) sum += t[thread][l] * gram[l][j];
      t[thread][j] = -taus[j] * sum;
    } else if (thread == j) {
      t[j][j] = taus[j];
    }
    __syncthreads();
  }
  for (int e = thread; e < kPanel * kPanel; e += kPanelThreads) t_out[e] = t[e / kPanel][e % kPanel];
}

template <class T>
__global__ void identity_kernel(T* q, std::int64_t rows, std::int64_t columns, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) q[i] = T(i / columns % rows == i % columns);
}
// Zeros below the diagonal.
template <class T>
__global__ void upper_kernel(T* a, std::int64_t rows, std::int64_t columns, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count && i / columns % rows > i % columns) a[i] = T(0);
}

// Room for a panel's V and T and for two products of 32 rows.
template <class T>
struct Reflector {
  std::int64_t batches, m, columns;
  Workspace room;
  T *v, *t, *first, *second;

  Reflector(std::int64_t batches, std::int64_t m, std::int64_t columns)
      : batches(batches),
        m(m),
        columns(columns),
        room(batches * kPanel * (m + kPanel + 2 * columns) * static_cast<std::int64_t>(sizeof(T))),
        v(room.as<T>()),
        t(v + batches * kPanel * m),
        first(t + batches * kPanel * kPanel),
        second(first + batches * kPanel * columns) {}

  void build(const T* a, const T* taus, std::int64_t n, std::int64_t k, std::int64_t width,
             std::int64_t steps) {
    launch(&block_reflector_kernel<T>, dim3(blocks_of(batches)), dim3(kPanelThreads), 0, a, taus, m, n, k,
           static_cast<int>(width), steps, v, t);
  }
  // c (rows k..m, w columns, ld apart, `batch` from matrix to matrix) -= V op(T) V' c
  void apply(std::int64_t k, bool transposed, T* c, std::int64_t ld, std::int64_t batch, std::int64_t w) {
    const std::int64_t rows = m - k, v_batch = rows * kPanel, w_batch = kPanel * w;
    product<T>(operand<T>(v, v_batch, 1, kPanel, kPanel), operand<T>(c, batch, 1, ld, w),
               Stored<T>{first, w_batch, w}, kPanel, w, rows, batches);
    product<T>(operand<T>(t, kPanel * kPanel, transposed ? 1 : kPanel, transposed ? kPanel : 1, kPanel),
               operand<T>(first, w_batch, 1, w, w), Stored<T>{second, w_batch, w}, kPanel, w, kPanel,
               batches);
    product<T>(operand<T>(v, v_batch, kPanel, 1, rows), operand<T>(second, w_batch, 1, w, w),
               Subtracted<T>{c, batch, ld}, rows, w, kPanel, batches);
  }
};

}  // namespace

void qr(Out a, Out tau, Out q) {
  const std::int64_t batches = a.shape[0], m = a.shape[1], n = a.shape[2], steps = m < n ? m : n;
  const std::int64_t columns = q.shape[2];
  if (batches == 0 || m == 0) return;
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    T *const data = a.as<T>(), *const result = q.as<T>(), *const taus = tau.as<T>();
    Reflector<T> reflector(batches, m, n > columns ? n : columns);
    for (std::int64_t k = 0; k < steps; k += kPanel) {
      const std::int64_t end = k + kPanel < steps ? k + kPanel : steps;
      launch(&qr_panel_kernel<T>, dim3(blocks_of(batches)), dim3(kPanelThreads), 0, data, taus, m, n, k, end,
             steps);
      if (end == n) continue;
      reflector.build(data, taus, n, k, end - k, steps);
      reflector.apply(k, true, data + k * n + end, n, m * n, n - end);
    }
    const auto blocks = [](std::int64_t count) { return dim3(blocks_of(ceil_div(count, 256))); };
    if (const std::int64_t count = batches * m * columns; count > 0)
      launch(&identity_kernel<T>, blocks(count), dim3(256), 0, result, m, columns, count);
    for (std::int64_t k = (steps - 1) / kPanel * kPanel; steps > 0 && k >= 0; k -= kPanel) {
      const std::int64_t end = k + kPanel < steps ? k + kPanel : steps;
      reflector.build(data, taus, n, k, end - k, steps);
      reflector.apply(k, false, result + k * columns + k, columns, m * columns, columns - k);
    }
    if (const std::int64_t count = batches * m * n; count > 0)
      launch(&upper_kernel<T>, blocks(count), dim3(256), 0, data, m, n, count);
  });
}

}  // namespace ts::cuda
