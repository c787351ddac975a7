// Layer norm along rows: y = (x - mean) rstd w + b, mean and variance of the row (biased), rstd = 1/sqrt(var
// + eps).
//
// RMS norm is the same without the mean: y = x rstd w, rstd = 1/sqrt(avg x^2 + eps), dx = rstd (g - h avg(g
// h)).
//
// R rows, C columns. With g = dy w and h = (x - mean) rstd:
//   dx = rstd (g - avg g - h avg(g h)),  dw = sum_r dy h,  db = sum_r dy.
// Forward reads x once and writes y once; a row of more than 16384 numbers (float64: 8192) is read three
// times. Backward reads dy and x once and writes dx once: a fixed number of blocks goes through the rows,
// each thread adds up dw and db of its columns, and a second kernel adds the blocks' sums in order. Rows of
// more than 8192 (2048) are read twice for dx and once more for dw and db.
#include "cuda/kernels.h"
#include "cuda/rows.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

// kCentred: layer norm; otherwise RMS norm, which keeps no means.
template <class T, Rows kRows, bool kCentred>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    layer_norm_kernel(RowView<const T> xs, const T* w, const T* b, RowView<T> ys, LineView<T> means,
                      LineView<T> rstds, std::int64_t R, std::int64_t C, T eps) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows>;
  constexpr int kPack = Team::kPack;
  const Team team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  typename Team::Row x = team.open(xs[r], T(0));
  T mean, rstd;
  row_moments<kCentred>(team, x, eps, mean, rstd);
  const bool w_aligned = row_aligned(w), b_aligned = row_aligned(b);
  team.write(ys[r], x, [&](T(&v)[kPack], typename Team::Index i) {
    RowPack<T> scale, shift;
    if (w) scale = load_pack(w, w_aligned, i, team.C, T(0));
    if (b) shift = load_pack(b, b_aligned, i, team.C, T(0));
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const T h = (v[k] - mean) * rstd;
      v[k] = w && b ? fused(h, scale.value[k], shift.value[k])
             : w    ? h * scale.value[k]
             : b    ? h + shift.value[k]
                    : h;
    }
  });
  if (team.thread != 0) return;
  if constexpr (kCentred) means[r] = mean;
  rstds[r] = rstd;
}

// What a Hopper GPU holds of the next kernel's threads at once: 132 processors of 65536 registers, 128 a
// thread. A constant, so that the sums over rows do not depend on the GPU.
constexpr int kResident = 132 * 512, kBackwardThreads = 512;
template <class T>
constexpr int kBackwardPacks = sizeof(T) == 4 ? 4 : 2;  // of a thread

// dx and, of the rows that the block goes through, the sums for dw and db. The next row is on its way while
// one is worked on.
template <class T, bool kCentred>
__global__ void __launch_bounds__(kBackwardThreads)
    layer_norm_backward_kernel(RowView<const T> dys, RowView<const T> xs, const T* w, LineView<const T> means,
                               LineView<const T> rstds, RowView<T> dxs, T* dw, T* db, std::int64_t R, int C) {
  constexpr int kPack = kRowPack<T>;
  using Packs = RowPack<T>[kBackwardPacks<T>];
  __shared__ T room[2][2][kWarp];
  const int first = static_cast<int>(threadIdx.x) * kPack, step = static_cast<int>(blockDim.x) * kPack;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const bool w_aligned = row_aligned(w);
  const auto fetch = [&](RowPack<T>* to, const T* row) {
    const bool aligned = row_aligned(row);
#pragma unroll
    for (int j = 0; j < kBackwardPacks<T>; ++j)
      if (first + j * step < C) to[j] = load_pack(row, aligned, first + j * step, C, T(0));
  };
  Packs w_sum{}, b_sum{}, x, dy;
  std::int64_t r = blockIdx.x;
  fetch(x, xs[r]), fetch(dy, dys[r]);
  T mean = kCentred ? means[r] : T(0), rstd = rstds[r];
  for (int turn = 0; r < R; turn ^= 1) {
    const std::int64_t next = r + gridDim.x;
    Packs next_x, next_dy;
    T next_mean = 0, next_rstd = 0;
    if (next < R) {
      fetch(next_x, xs[next]), fetch(next_dy, dys[next]);
      next_mean = kCentred ? means[next] : T(0), next_rstd = rstds[next];
    }
    T g_sum = 0, gh_sum = 0;
#pragma unroll
    for (int j = 0; j < kBackwardPacks<T>; ++j)
      if (first + j * step < C) {
        RowPack<T> scale;
        if (w) scale = load_pack(w, w_aligned, first + j * step, C, T(0));
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
          const T d = dy[j].value[k], h = (x[j].value[k] - mean) * rstd, g = w ? d * scale.value[k] : d;
          if constexpr (kCentred) g_sum += g;
          gh_sum = fused(g, h, gh_sum);
          w_sum[j].value[k] = fused(d, h, w_sum[j].value[k]);
          b_sum[j].value[k] += d;
        }
      }
    if constexpr (kCentred) g_sum = warp_reduce(g_sum, Sum{});
    gh_sum = warp_reduce(gh_sum, Sum{});
    if (lane == 0) room[turn][0][warp] = g_sum, room[turn][1][warp] = gh_sum;
    __syncthreads();  // the other turn's readers are past the one before
    T g_mean = 0;
    if constexpr (kCentred)
      g_mean = warp_reduce(lane < warps ? room[turn][0][lane] : T(0), Sum{}) / static_cast<T>(C);
    const T gh_mean = warp_reduce(lane < warps ? room[turn][1][lane] : T(0), Sum{}) / static_cast<T>(C);
    T* const dx = dxs[r];
    const bool aligned = row_aligned(dx);
#pragma unroll
    for (int j = 0; j < kBackwardPacks<T>; ++j)
      if (first + j * step < C) {
        RowPack<T> scale, out;
        if (w) scale = load_pack(w, w_aligned, first + j * step, C, T(0));
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
          const T d = dy[j].value[k], h = (x[j].value[k] - mean) * rstd, g = w ? d * scale.value[k] : d;
          out.value[k] = (g - fused(h, gh_mean, g_mean)) * rstd;
        }
        store_pack(dx, aligned, first + j * step, C, out);
      }
#pragma unroll
    for (int j = 0; j < kBackwardPacks<T>; ++j) x[j] = next_x[j], dy[j] = next_dy[j];
    mean = next_mean, rstd = next_rstd, r = next;
  }
  const std::int64_t at = std::int64_t{blockIdx.x} * C;
#pragma unroll
  for (int j = 0; j < kBackwardPacks<T>; ++j)
    if (first + j * step < C) {
      if (dw) store_pack(dw + at, false, first + j * step, C, w_sum[j]);
      if (db) store_pack(db + at, false, first + j * step, C, b_sum[j]);
    }
}

template <class T, Rows kRows, bool kCentred>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    layer_norm_dx_kernel(RowView<const T> dys, RowView<const T> xs, const T* w, LineView<const T> means,
                         LineView<const T> rstds, RowView<T> dxs, std::int64_t R, std::int64_t C) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows>;
  constexpr int kPack = Team::kPack;
  const Team team(C, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  typename Team::Row dy = team.open(dys[r], T(0)), x = team.open(xs[r], T(0));
  T* const dx = dxs[r];
  const bool aligned = row_aligned(dx), w_aligned = row_aligned(w);
  const T mean = kCentred ? means[r] : T(0), rstd = rstds[r];
  T g_sum = 0, gh_sum = 0;
  team.each(dy, x, [&](T(&d)[kPack], T(&v)[kPack], typename Team::Index i) {
    RowPack<T> scale;
    if (w) scale = load_pack(w, w_aligned, i, team.C, T(0));
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const T g = w ? d[k] * scale.value[k] : d[k];
      g_sum += g;
      gh_sum = fused(g, (v[k] - mean) * rstd, gh_sum);
    }
  });
  const T g_mean = kCentred ? team.sum(g_sum) / static_cast<T>(C) : T(0),
          gh_mean = team.sum(gh_sum) / static_cast<T>(C);
  team.each(dy, x, [&](T(&d)[kPack], T(&v)[kPack], typename Team::Index i) {
    RowPack<T> scale, out;
    if (w) scale = load_pack(w, w_aligned, i, team.C, T(0));
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const T h = (v[k] - mean) * rstd, g = w ? d[k] * scale.value[k] : d[k];
      out.value[k] = (g - fused(h, gh_mean, g_mean)) * rstd;
    }
    store_pack(dx, aligned, i, team.C, out);
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

// The blocks' sums of a column, of dw (blockIdx.y = 0) or db: 32 columns a block, pieces dealt to 32 threads,
// folded by halves.
template <class T>
__global__ void __launch_bounds__(1024)
    add_pieces(const T* dw_pieces, const T* db_pieces, T* dw, T* db, std::int64_t pieces, std::int64_t C) {
  __shared__ T sums[32][33];
  const int column = static_cast<int>(threadIdx.x), deep = static_cast<int>(threadIdx.y);
  const std::int64_t c = std::int64_t{blockIdx.x} * 32 + column;
  const T* const from = blockIdx.y == 0 ? dw_pieces : db_pieces;
  T* const to = blockIdx.y == 0 ? dw : db;
  if (!from) return;
  T sum = 0;
  if (c < C)
#pragma unroll 8
    for (std::int64_t piece = deep; piece < pieces; piece += 32) sum += from[piece * C + c];
  sums[deep][column] = sum;
  for (int step = 16; step > 0; step /= 2) {
    __syncthreads();
    if (deep < step) sums[deep][column] += sums[deep + step][column];
  }
  if (deep == 0 && c < C) to[c] = sums[0][column];
}

template <class T, bool kCentred>
void forward(const View& x, const T* weight, const T* bias, const View& y, const LineView<T>& mean,
             const View& rstd, double eps) {
  const std::int64_t R = x.shape[0], C = x.shape[1];
  launch_rows<T>(TS_ROW_KERNELS(layer_norm_kernel, T, kCentred), R, C, RowView<const T>(x), weight, bias,
                 RowView<T>(y), mean, LineView<T>(rstd), R, C, static_cast<T>(eps));
}

template <class T, bool kCentred>
void backward(const View& dy, const View& x, const T* weight, const LineView<const T>& means,
              const View& rstd, const View& dx, T* dweight, T* dbias) {
  const std::int64_t R = x.shape[0], C = x.shape[1];
  constexpr std::int64_t kEach = kBackwardPacks<T> * kRowPack<T>;
  const RowView<const T> dys(dy), xs(x);
  const LineView<const T> rstds(rstd);
  const bool once = R > 0 && C > 0 && C <= kBackwardThreads * kEach;
  int threads = kWarp;
  while (threads * kEach < C && threads < kBackwardThreads) threads *= 2;
  std::int64_t pieces = 1;
  if (once)
    pieces = R < kResident / threads ? R : kResident / threads;
  else if (R > 0)
    pieces = ceil_div(R, kPieceRows);
  const bool wanted = (dweight || dbias) && C > 0;
  const Workspace room(wanted ? 2 * pieces * C * static_cast<std::int64_t>(sizeof(T)) : 0);
  T* const w_sums = !dweight || !wanted ? nullptr : pieces > 1 ? room.as<T>() : dweight;
  T* const b_sums = !dbias || !wanted ? nullptr : pieces > 1 ? room.as<T>() + pieces * C : dbias;
  if (once) {
    launch(&layer_norm_backward_kernel<T, kCentred>, dim3(blocks_of(pieces)),
           dim3(static_cast<unsigned>(threads)), 0, dys, xs, weight, means, rstds, RowView<T>(dx), w_sums,
           b_sums, R, static_cast<int>(C));
  } else {
    launch_rows<T>(TS_ROW_KERNELS(layer_norm_dx_kernel, T, kCentred), R, C, dys, xs, weight, means, rstds,
                   RowView<T>(dx), R, C);
    if (!wanted) return;
    launch(&layer_norm_columns<T, kCentred>, dim3(blocks_of(ceil_div(C, kColumns)), blocks_of(pieces)),
           dim3(kColumns, kDeep), 0, dys, xs, means, rstds, w_sums, b_sums, R, C);
  }
  if (pieces == 1) return;
  if (!w_sums && !b_sums) return;
  launch(&add_pieces<T>, dim3(blocks_of(ceil_div(C, 32)), 2), dim3(32, 32), 0, static_cast<const T*>(w_sums),
         static_cast<const T*>(b_sums), dweight, dbias, pieces, C);
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
