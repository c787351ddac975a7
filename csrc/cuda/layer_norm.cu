// Layer norm along rows: y = (x - mean) rstd w + b, mean and variance of the row (biased), rstd = 1/sqrt(var
// + eps).
//
// RMS norm is the same without the mean: y = x rstd w, rstd = 1/sqrt(avg x^2 + eps), dx = rstd (g - h avg(g
// h)).
//
// R rows, C columns. With g = dy w and h = (x - mean) rstd:
//   dx = rstd (g - avg g - h avg(g h)),  dw = sum_r dy h,  db = sum_r dy.
// Forward reads x three times, after the first from cache, and writes y once. Backward reads dy and x twice,
// the second time from cache, and writes dx once; dw and db read both once more.
#include "cuda/kernels.h"
#include "cuda/rows.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

template <class T>
TS_INLINE T fused(T a, T b, T c) {
  return fma(Vec<T>(a), Vec<T>(b), Vec<T>(c)).r;
}

// kCentred: layer norm; otherwise RMS norm, which keeps no means.
template <class T, bool kBlock, bool kCentred>
__global__ void __launch_bounds__(kRowThreads)
    layer_norm_kernel(RowView<const T> xs, const T* w, const T* b, RowView<T> ys, LineView<T> means,
                      LineView<T> rstds, std::int64_t R, std::int64_t C, T eps) {
  __shared__ T room[kWarp];
  const RowTeam<T, kBlock> team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  const T* const x = xs[r];
  T* const y = ys[r];
  T sum = 0, squares = 0;
  T mean = 0;
  if constexpr (kCentred) {
    team.each([&](std::int64_t i) { sum += x[i]; });
    mean = team.sum(sum) / static_cast<T>(C);
  }
  team.each([&](std::int64_t i) { squares = fused(x[i] - mean, x[i] - mean, squares); });
  const T variance = team.sum(squares) / static_cast<T>(C), rstd = T(1) / sqrt(Vec<T>(variance + eps)).r;
  team.each([&](std::int64_t i) {
    const T h = (x[i] - mean) * rstd;
    y[i] = w && b ? fused(h, w[i], b[i]) : w ? h * w[i] : b ? h + b[i] : h;
  });
  if (team.thread != 0) return;
  if constexpr (kCentred) means[r] = mean;
  rstds[r] = rstd;
}

template <class T, bool kBlock, bool kCentred>
__global__ void __launch_bounds__(kRowThreads)
    layer_norm_dx_kernel(RowView<const T> dys, RowView<const T> xs, const T* w, LineView<const T> means,
                         LineView<const T> rstds, RowView<T> dxs, std::int64_t R, std::int64_t C) {
  __shared__ T room[kWarp];
  const RowTeam<T, kBlock> team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  const T *const dy = dys[r], *const x = xs[r];
  T* const dx = dxs[r];
  const T mean = kCentred ? means[r] : T(0), rstd = rstds[r];
  T g_sum = 0, gh_sum = 0;
  team.each([&](std::int64_t i) {
    const T g = w ? dy[i] * w[i] : dy[i];
    g_sum += g;
    gh_sum = fused(g, (x[i] - mean) * rstd, gh_sum);
  });
  const T g_mean = kCentred ? team.sum(g_sum) / static_cast<T>(C) : T(0),
          gh_mean = team.sum(gh_sum) / static_cast<T>(C);
  team.each([&](std::int64_t i) {
    const T h = (x[i] - mean) * rstd, g = w ? dy[i] * w[i] : dy[i];
    dx[i] = (g - fused(h, gh_mean, g_mean)) * rstd;
  });
}

// Sums over rows: 32 columns a block, rows dealt to 8 threads; a piece of rows a block, pieces added in
// order.
constexpr int kColumns = 32, kDeep = 8;
constexpr std::int64_t kPieceRows = 512;

template <class T, bool kCentred>
__global__ void __launch_bounds__(kColumns* kDeep)
    layer_norm_columns(RowView<const T> dys, RowView<const T> xs, LineView<const T> means,
                       LineView<const T> rstds, T* dw, T* db, std::int64_t R, std::int64_t C) {
  __shared__ T sums[2][kDeep][kColumns];
  const int column = static_cast<int>(threadIdx.x), deep = static_cast<int>(threadIdx.y);
  const std::int64_t c = std::int64_t{blockIdx.x} * kColumns + column;
  const std::int64_t first = std::int64_t{blockIdx.y} * kPieceRows;
  const std::int64_t end = first + kPieceRows < R ? first + kPieceRows : R;
  T w_sum = 0, b_sum = 0;
  if (c < C)
#pragma unroll 4
    for (std::int64_t r = first + deep; r < end; r += kDeep) {
      const T dy = dys[r][c];
      w_sum = fused(dy, (xs[r][c] - (kCentred ? means[r] : T(0))) * rstds[r], w_sum);
      b_sum += dy;
    }
  sums[0][deep][column] = w_sum, sums[1][deep][column] = b_sum;
  for (int step = kDeep / 2; step > 0; step /= 2) {
    __syncthreads();
    if (deep < step)
      for (int k = 0; k < 2; ++k) sums[k][deep][column] += sums[k][deep + step][column];
  }
  if (deep != 0 || c >= C) return;
  const std::int64_t at = std::int64_t{blockIdx.y} * C + c;
  if (dw) dw[at] = sums[0][0][column];
  if (db) db[at] = sums[1][0][column];
}

template <class T>
__global__ void add_pieces(const T* from, T* to, std::int64_t pieces, std::int64_t C) {
  const std::int64_t c = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= C) return;
  T sum = 0;
  for (std::int64_t piece = 0; piece < pieces; ++piece) sum += from[piece * C + c];
  to[c] = sum;
}

template <class T, bool kCentred>
void forward(const View& x, const T* weight, const T* bias, const View& y, const LineView<T>& mean,
             const View& rstd, double eps) {
  const std::int64_t R = x.shape[0], C = x.shape[1];
  launch_rows(&layer_norm_kernel<T, false, kCentred>, &layer_norm_kernel<T, true, kCentred>, R, C,
              RowView<const T>(x), weight, bias, RowView<T>(y), mean, LineView<T>(rstd), R, C,
              static_cast<T>(eps));
}

template <class T, bool kCentred>
void backward(const View& dy, const View& x, const T* weight, const LineView<const T>& means,
              const View& rstd, const View& dx, T* dweight, T* dbias) {
  const std::int64_t R = x.shape[0], C = x.shape[1];
  const RowView<const T> dys(dy), xs(x);
  const LineView<const T> rstds(rstd);
  launch_rows(&layer_norm_dx_kernel<T, false, kCentred>, &layer_norm_dx_kernel<T, true, kCentred>, R, C, dys,
              xs, weight, means, rstds, RowView<T>(dx), R, C);
  if ((!dweight && !dbias) || C == 0) return;
  const std::int64_t pieces = R > 0 ? ceil_div(R, kPieceRows) : 1;
  const Workspace room(2 * pieces * C * static_cast<std::int64_t>(sizeof(T)));
  T* const w_sums = pieces > 1 ? room.as<T>() : dweight;
  T* const b_sums = pieces > 1 ? room.as<T>() + pieces * C : dbias;
  launch(&layer_norm_columns<T, kCentred>, dim3(blocks_of(ceil_div(C, kColumns)), blocks_of(pieces)),
         dim3(kColumns, kDeep), 0, dys, xs, means, rstds, dweight ? w_sums : static_cast<T*>(nullptr),
         dbias ? b_sums : static_cast<T*>(nullptr), R, C);
  if (pieces == 1) return;
  const dim3 grid(blocks_of(ceil_div(C, 256)));
  if (dweight) launch(&add_pieces<T>, grid, dim3(256), 0, static_cast<const T*>(w_sums), dweight, pieces, C);
  if (dbias) launch(&add_pieces<T>, grid, dim3(256), 0, static_cast<const T*>(b_sums), dbias, pieces, C);
}

}  // namespace

void layer_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, double eps) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    forward<T, true>(x, weight.as<T>(), bias.as<T>(), y, LineView<T>(mean), rstd, eps);
  });
}
void rms_norm(In x, In weight, Out y, Out rstd, double eps) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    forward<T, false>(x, weight.as<T>(), nullptr, y, LineView<T>(), rstd, eps);
  });
}
void layer_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    backward<T, true>(dy, x, weight.as<T>(), LineView<const T>(mean), rstd, dx, dweight.as<T>(),
                      dbias.as<T>());
  });
}
void rms_norm_backward(In dy, In x, In weight, In rstd, Out dx, Out dweight) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    backward<T, false>(dy, x, weight.as<T>(), LineView<const T>(), rstd, dx, dweight.as<T>(), nullptr);
  });
}

}  // namespace ts::cuda
