// Factorisations by elimination: Cholesky, LU with partial pivoting, and triangular solves.
//
// B matrices of N x N (M x N for LU), row-major. A panel of 32 columns is eliminated by one block a matrix,
// the rows or columns beside it by a thread each, and what is left by the product: N^3 / 3 (Cholesky, but
// both triangles are computed: 2 N^3 / 3) and 2 N^3 / 3 flops of it.
#include "cuda/linalg.h"

#include "cuda/kernels.h"

namespace ts::cuda {
namespace {

// Columns [k, end) of a (m x n) and their row exchanges, which take whole rows along.
template <class T>
__global__ void __launch_bounds__(kPanelThreads)
    lu_panel_kernel(T* a, std::int64_t* pivots, std::int64_t m, std::int64_t n, std::int64_t k,
                    std::int64_t end, std::int64_t steps) {
  __shared__ T most[kPanelThreads];
  __shared__ std::int64_t place[kPanelThreads];
  a += std::int64_t{blockIdx.x} * m * n;
  pivots += std::int64_t{blockIdx.x} * steps;
  const int t = static_cast<int>(threadIdx.x);
  // NaN before every number, the first of equals.
  const auto better = [](T x, std::int64_t i, T y, std::int64_t j) {
    const bool x_nan = x != x, y_nan = y != y;
    return x_nan != y_nan ? x_nan : x_nan || x == y ? i < j : x > y;
  };
  for (std::int64_t j = k; j < end; ++j) {
    T mine = T(-1);
    std::int64_t at = m;
    for (std::int64_t i = j + t; i < m; i += kPanelThreads)
      if (const T x = magnitude(a[i * n + j]); better(x, i, mine, at)) mine = x, at = i;
    most[t] = mine, place[t] = at;
    for (int half = kPanelThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (t < half && better(most[t + half], place[t + half], most[t], place[t]))
        most[t] = most[t + half], place[t] = place[t + half];
    }
    __syncthreads();
    const std::int64_t best = place[0];
    if (t == 0) pivots[j] = best;
    if (best != j)
      for (std::int64_t i = t; i < n; i += kPanelThreads) {
        const T x = a[j * n + i];
        a[j * n + i] = a[best * n + i], a[best * n + i] = x;
      }
    __syncthreads();
    const T pivot = a[j * n + j];
    if (pivot != T(0)) {
      for (std::int64_t i = j + 1 + t; i < m; i += kPanelThreads) {
        T* const row = a + i * n;
        const T factor = row[j] / pivot;
        row[j] = factor;
        for (std::int64_t l = j + 1; l < end; ++l)
          row[l] = fma(Vec<T>(-factor), Vec<T>(a[j * n + l]), Vec<T>(row[l])).r;
      }
    }
    __syncthreads();
  }
}

// A triangle of `width` rows of L (lower, `row` and `column` elements apart; both negative for an upper one
// from its end), and the same rows of x, a thread a column.
template <class T>
__global__ void __launch_bounds__(128)
    solve_panel_kernel(const T* l, std::int64_t l_batch, std::int64_t row, std::int64_t column, bool unit,
                       int width, T* x, std::int64_t x_batch, std::int64_t step, std::int64_t columns,
                       std::int64_t first) {
  __shared__ T triangle[kPanel][kPanel + 1];
  const std::int64_t batch = first + blockIdx.y;
  l += batch * l_batch, x += batch * x_batch;
  for (int i = static_cast<int>(threadIdx.x); i < width * width; i += 128)
    triangle[i / width][i % width] = l[i / width * row + i % width * column];
  __syncthreads();
  const std::int64_t j = std::int64_t{blockIdx.x} * 128 + threadIdx.x;
  if (j >= columns) return;
  T known[kPanel];
#pragma unroll
  for (int i = 0; i < kPanel; ++i) {
    if (i >= width) break;
    Vec<T> sum(x[i * step + j]);
#pragma unroll
    for (int k = 0; k < i; ++k) sum = fma(Vec<T>(-triangle[i][k]), Vec<T>(known[k]), sum);
    known[i] = unit ? sum.r : sum.r / triangle[i][i];
    x[i * step + j] = known[i];
  }
}
template <class T>
void solve_panel(const T* l, std::int64_t l_batch, std::int64_t row, std::int64_t column, bool unit,
                 std::int64_t width, T* x, std::int64_t x_batch, std::int64_t step, std::int64_t columns,
                 std::int64_t batches) {
  for_each_batch_of(batches, [&](std::int64_t first, unsigned count) {
    launch(&solve_panel_kernel<T>, dim3(blocks_of(ceil_div(columns, 128)), count), dim3(128), 0, l, l_batch,
           row, column, unit, static_cast<int>(width), x, x_batch, step, columns, first);
  });
}

__global__ void swap_rows_size_kernel(const std::int64_t* pivots, std::int64_t steps, std::uint32_t* b,
                                      std::int64_t m, std::int64_t words, bool inverse, std::int64_t first) {
  const std::int64_t batch = first + blockIdx.y;
  const std::int64_t j = std::int64_t{blockIdx.x} * 128 + threadIdx.x;
  if (j >= words) return;
  pivots += batch * steps;
  b += batch * m * words + j;
  for (std::int64_t k = 0; k < steps; ++k) {
    const std::int64_t i = inverse ? steps - 1 - k : k;
    std::uint32_t &upper = b[i * words], &lower = b[pivots[i] * words];
    const std::uint32_t x = upper;
    upper = lower, lower = x;
  }
}

// The block of a on the diagonal at k; then nothing more of a matrix that is not positive definite.
template <class T>
__global__ void __launch_bounds__(kPanelThreads)
    cholesky_panel_kernel(T* a, std::int64_t* info, std::int64_t n, std::int64_t k, int width) {
  __shared__ T block[kPanel][kPanel + 1];
  std::int64_t& failed = info[blockIdx.x];
  if (k > 0 && failed) return;
  a += std::int64_t{blockIdx.x} * n * n + k * n + k;
  const int t = static_cast<int>(threadIdx.x);
  for (int i = t; i < width * width; i += kPanelThreads)
    block[i / width][i % width] = a[i / width * n + i % width];
  std::int64_t minor = 0;
  for (int j = 0; j < width && !minor; ++j) {
    __syncthreads();
    const T pivot = block[j][j];
    if (!(pivot > T(0))) {
      minor = k + j + 1;
      break;
    }
    const T root = ::sqrt(pivot);
    __syncthreads();
    if (t == 0) block[j][j] = root;
    for (int i = j + 1 + t; i < width; i += kPanelThreads) block[i][j] /= root;
    __syncthreads();
    for (int e = t; e < width * width; e += kPanelThreads)
      if (const int i = e / width, l = e % width; l > j && l <= i)
        block[i][l] = fma(Vec<T>(-block[i][j]), Vec<T>(block[l][j]), Vec<T>(block[i][l])).r;
  }
  __syncthreads();
  if (t == 0) failed = minor;
  for (int i = t; i < width * width; i += kPanelThreads)
    if (i % width <= i / width) a[i / width * n + i % width] = block[i / width][i % width];
}

// The rows below it, a thread a row: each solves x L' = a.
template <class T>
__global__ void __launch_bounds__(128)
    cholesky_rows_kernel(T* a, std::int64_t n, std::int64_t k, int width, std::int64_t first) {
  __shared__ T triangle[kPanel][kPanel + 1];
  a += (first + blockIdx.y) * n * n;
  for (int i = static_cast<int>(threadIdx.x); i < width * width; i += 128)
    triangle[i / width][i % width] = a[(k + i / width) * n + k + i % width];
  __syncthreads();
  const std::int64_t i = k + width + std::int64_t{blockIdx.x} * 128 + threadIdx.x;
  if (i >= n) return;
  T known[kPanel];
  T* const row = a + i * n + k;
#pragma unroll
  for (int j = 0; j < kPanel; ++j) {
    if (j >= width) break;
    Vec<T> sum(row[j]);
#pragma unroll
    for (int l = 0; l < j; ++l) sum = fma(Vec<T>(-triangle[j][l]), Vec<T>(known[l]), sum);
    row[j] = known[j] = sum.r / triangle[j][j];
  }
}

// Zeros above the diagonal.
template <class T>
__global__ void lower_kernel(T* a, std::int64_t n, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count && i % n > i / n % n) a[i] = T(0);
}

}  // namespace

void cholesky(Out a, Out info) {
  const std::int64_t batches = a.shape[0], n = a.shape[2];
  if (batches == 0) return;
  if (n == 0)
    return check(cudaMemsetAsync(info.data, 0, static_cast<std::size_t>(8 * batches), stream()), "clearing");
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    T* const data = a.as<T>();
    for (std::int64_t k = 0; k < n; k += kPanel) {
      const std::int64_t width = n - k < kPanel ? n - k : kPanel, below = k + width, rest = n - below;
      launch(&cholesky_panel_kernel<T>, dim3(blocks_of(batches)), dim3(kPanelThreads), 0, data,
             info.as<std::int64_t>(), n, k, static_cast<int>(width));
      if (rest == 0) break;
      for_each_batch_of(batches, [&](std::int64_t first, unsigned count) {
        launch(&cholesky_rows_kernel<T>, dim3(blocks_of(ceil_div(rest, 128)), count), dim3(128), 0, data, n,
               k, static_cast<int>(width), first);
      });
      const T* const l = data + below * n + k;
      product<T>(operand(l, n * n, n, 1, rest), operand(l, n * n, n, 1, rest),
                 Subtracted<T>{data + below * n + below, n * n, n}, rest, rest, width, batches);
    }
    const std::int64_t count = batches * n * n;
    launch(&lower_kernel<T>, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, data, n, count);
  });
}

void lu(Out a, Out pivots) {
  const std::int64_t batches = a.shape[0], m = a.shape[1], n = a.shape[2], steps = m < n ? m : n;
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    T* const data = a.as<T>();
    for (std::int64_t k = 0; k < steps; k += kPanel) {
      const std::int64_t end = k + kPanel < steps ? k + kPanel : steps, width = end - k;
      launch(&lu_panel_kernel<T>, dim3(blocks_of(batches)), dim3(kPanelThreads), 0, data,
             pivots.as<std::int64_t>(), m, n, k, end, steps);
      if (end >= n) continue;
      solve_panel<T>(data + k * n + k, m * n, n, 1, true, width, data + k * n + end, m * n, n, n - end,
                     batches);
      if (end >= m) continue;
      product<T>(operand<T>(data + end * n + k, m * n, n, 1, m - end),
                 operand<T>(data + k * n + end, m * n, 1, n, n - end),
                 Subtracted<T>{data + end * n + end, m * n, n}, m - end, n - end, width, batches);
    }
  });
}

void swap_rows(In pivots, Out b, bool inverse) {
  const std::int64_t batches = b.shape[0], m = b.shape[1], steps = pivots.shape[1];
  const std::int64_t words = b.shape[2] * itemsize(b.dtype) / 4;
  for_each_batch_of(batches, [&](std::int64_t first, unsigned count) {
    launch(&swap_rows_size_kernel, dim3(blocks_of(ceil_div(words, 128)), count), dim3(128), 0,
           pivots.as<std::int64_t>(), steps, b.as<std::uint32_t>(), m, words, inverse, first);
  });
}

void solve_triangular(In a, Out b, bool upper, bool unit) {
  const std::int64_t batches = b.shape[0], n = b.shape[1], w = b.shape[2];
  if (batches == 0 || n == 0 || w == 0) return;
  with_floating(b.dtype, [&]<class T>(Type<T>) {
    // An upper triangle is a lower one from its end.
    const std::int64_t turn = upper ? -1 : 1, row = turn * a.strides[1], column = turn * a.strides[2];
    const T* const l = a.as<T>() + (upper ? (n - 1) * (a.strides[1] + a.strides[2]) : 0);
    T* const x = b.as<T>() + (upper ? (n - 1) * w : 0);
    const std::int64_t step = turn * w;
    for (std::int64_t k = 0; k < n; k += kPanel) {
      const std::int64_t width = n - k < kPanel ? n - k : kPanel, below = k + width;
      solve_panel<T>(l + k * (row + column), a.strides[0], row, column, unit, width, x + k * step, n * w,
                     step, w, batches);
      if (below == n) break;
      product<T>(operand<T>(l + below * row + k * column, a.strides[0], row, column, n - below),
                 operand<T>(x + k * step, n * w, 1, step, w), Subtracted<T>{x + below * step, n * w, step},
                 n - below, w, width, batches);
    }
  });
}

}  // namespace ts::cuda
