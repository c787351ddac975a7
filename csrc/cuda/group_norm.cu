// Group norm: y = (x - mean) rstd w + b, mean and variance over a group of channels of an image, w and b by
// channel.
//
// R = N G rows, each D channels of S numbers, K = D S. With h = (x - mean) rstd, and s_c = sum dy, t_c = sum
// dy h over a channel:
//   dx = rstd (dy w_c - a - h b),  a = sum_c w_c s_c / K,  b = sum_c w_c t_c / K
// Forward goes by rows.h: reads x once (rows of more than 16384 numbers, float64 8192, three times) and
// writes y once. Backward has a block a row: warps, or for long channels the block, add up channels, whose
// sums are folded into a and b, and dy and x are read again, from L2 where the rows at work fit it.
#include "cuda/divider.h"
#include "cuda/kernels.h"
#include "cuda/rows.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

// The channel of element i of row r.
struct GroupChannels {
  std::int64_t D, S;
  Divider groups, spatial;
  bool small;  // rows and their elements are below 2^31

  GroupChannels(std::int64_t R, std::int64_t K, std::int64_t C, int count)
      : D(C / count), S(K / D), groups(count), small(R <= INT32_MAX && K <= INT32_MAX) {
    if (small) spatial = Divider(S);
  }
  TS_INLINE std::int64_t first(std::int64_t r) const {
    return (small ? r - std::int64_t{groups.quotient(static_cast<std::uint32_t>(r))} * groups.divisor
                  : r % groups.divisor) *
           D;
  }
  TS_INLINE std::int64_t within(std::int64_t i) const {
    return small ? std::int64_t{spatial.quotient(static_cast<std::uint32_t>(i))} : i / S;
  }
  // f(k, channel within the group) for the elements of a pack from i on that are below K.
  template <int kPack, class F>
  TS_INLINE void each(std::int64_t i, std::int64_t K, F f) const {
    std::int64_t d = within(i), next = (d + 1) * S;
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      if (i + k == next) ++d, next += S;
      if (i + k < K) f(k, d);
    }
  }
};

template <class T, Rows kRows>
__global__ void __launch_bounds__(kRowThreads<kRows>)
    group_norm_kernel(RowView<const T> xs, const T* w, const T* b, RowView<T> ys, LineView<T> means,
                      LineView<T> rstds, std::int64_t R, std::int64_t K, T eps,
                      const GroupChannels channels) {
  __shared__ T room[kWarp];
  using Team = RowTeam<T, kRows>;
  constexpr int kPack = Team::kPack;
  const Team team(K, room);
  const std::int64_t r = team.row();
  if (r >= R) return;
  typename Team::Row x = team.open(xs[r], T(0));
  T mean, rstd;
  row_moments<true>(team, x, eps, mean, rstd);
  const std::int64_t first = channels.first(r);
  team.write(ys[r], x, [&](T(&v)[kPack], typename Team::Index i) {
    channels.template each<kPack>(i, K, [&](int k, std::int64_t d) {
      v[k] = fused((v[k] - mean) * rstd, w[first + d], b ? b[first + d] : T(0));
    });
  });
  if (team.thread == 0) means[r] = mean, rstds[r] = rstd;
}

constexpr int kBackwardThreads = 512;
// Channels of as many numbers are added up by the whole block, shorter ones by a warp.
constexpr std::int64_t kLongChannel = 1024;

template <class T>
struct TwoSums {
  T dy, dyh;
};
template <class T>
TS_INLINE TwoSums<T> reduce_two(TwoSums<T> x, TwoSums<T>* shared, bool block) {
  const auto warp = [](TwoSums<T> v) {
    v.dy = warp_reduce(v.dy, Sum{});
    v.dyh = warp_reduce(v.dyh, Sum{});
    return v;
  };
  x = warp(x);
  if (!block) return x;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  __syncthreads();  // the last one's readers are done
  if (lane == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  return warp(lane < static_cast<int>(blockDim.x) / kWarp ? shared[lane] : TwoSums<T>{T(0), T(0)});
}

// sums: s, then R D numbers on t.
template <class T, bool kLong>
__global__ void __launch_bounds__(kBackwardThreads)
    group_norm_backward_kernel(RowView<const T> dys, RowView<const T> xs, const T* w, LineView<const T> means,
                               LineView<const T> rstds, RowView<T> dxs, T* sums, std::int64_t R,
                               std::int64_t K, const GroupChannels channels) {
  __shared__ TwoSums<T> room[kWarp];
  constexpr int kPack = kRowPack<T>, kOnce = 4;
  const std::int64_t r = blockIdx.x, D = channels.D, S = channels.S, first = channels.first(r);
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp, warp = thread / kWarp;
  const T mean = means[r], rstd = rstds[r];
  const T *const dy = dys[r], *const x = xs[r];
  T *const s = sums + r * D, *const t = s + R * D;

  const int member = kLong ? thread : lane, step = (kLong ? threads : kWarp) * kPack;
  for (std::int64_t d = kLong ? 0 : warp; d < D; d += kLong ? 1 : threads / kWarp) {
    const T *const g = dy + d * S, *const v = x + d * S;
    const bool aligned = row_aligned(g) && row_aligned(v);
    TwoSums<T> sum{T(0), T(0)};
    for (std::int64_t i = member * kPack; i < S; i += kOnce * step) {
      RowPack<T> gs[kOnce], vs[kOnce];
#pragma unroll
      for (int j = 0; j < kOnce; ++j)
        if (i + j * step < S) {
          gs[j] = load_pack(g, aligned, i + j * step, S, T(0));
          vs[j] = load_pack(v, aligned, i + j * step, S, mean);
        }
#pragma unroll
      for (int j = 0; j < kOnce; ++j)
        if (i + j * step < S)
#pragma unroll
          for (int k = 0; k < kPack; ++k) {
            sum.dy += gs[j].value[k];
            sum.dyh = fused(gs[j].value[k], (vs[j].value[k] - mean) * rstd, sum.dyh);
          }
    }
    sum = reduce_two(sum, room, kLong);
    if (member == 0) s[d] = sum.dy, t[d] = sum.dyh;
  }
  __syncthreads();

  TwoSums<T> total{T(0), T(0)};
  for (std::int64_t d = thread; d < D; d += threads) {
    total.dy = fused(w[first + d], s[d], total.dy);
    total.dyh = fused(w[first + d], t[d], total.dyh);
  }
  total = reduce_two(total, room, true);
  const T a = total.dy / static_cast<T>(K), b = total.dyh / static_cast<T>(K);

  T* const dx = dxs[r];
  const bool aligned = row_aligned(dy) && row_aligned(x), dx_aligned = row_aligned(dx);
  const std::int64_t stride = std::int64_t{threads} * kPack;
  for (std::int64_t i = thread * kPack; i < K; i += 2 * stride) {
    RowPack<T> gs[2], vs[2], out;
#pragma unroll
    for (int j = 0; j < 2; ++j)
      if (i + j * stride < K) {
        gs[j] = load_pack(dy, aligned, i + j * stride, K, T(0));
        vs[j] = load_pack(x, aligned, i + j * stride, K, mean);
      }
#pragma unroll
    for (int j = 0; j < 2; ++j)
      if (i + j * stride < K) {
        channels.template each<kPack>(i + j * stride, K, [&](int k, std::int64_t d) {
          const T h = (vs[j].value[k] - mean) * rstd;
          out.value[k] = (gs[j].value[k] * w[first + d] - fused(h, b, a)) * rstd;
        });
        store_pack(dx, dx_aligned, i + j * stride, K, out);
      }
  }
}

}  // namespace

void group_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, int groups, double eps) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const std::int64_t R = x.shape[0], K = x.shape[1];
    launch_rows<T>(&group_norm_kernel<T, Rows::warp>, &group_norm_kernel<T, Rows::block>,
                   &group_norm_kernel<T, Rows::streamed>, R, K, RowView<const T>(x), weight.as<T>(),
                   bias.as<T>(), RowView<T>(y), LineView<T>(mean), LineView<T>(rstd), R, K,
                   static_cast<T>(eps), GroupChannels(R, K, weight.shape[0], groups));
  });
}

void group_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out sums, int groups) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const std::int64_t R = x.shape[0], K = x.shape[1];
    const GroupChannels channels(R, K, weight.shape[0], groups);
    int threads = 64;
    while (threads * 2 * kRowPack<T> < K && threads < kBackwardThreads) threads *= 2;
    launch(channels.S >= kLongChannel ? &group_norm_backward_kernel<T, true>
                                      : &group_norm_backward_kernel<T, false>,
           dim3(blocks_of(R)), dim3(static_cast<unsigned>(threads)), 0, RowView<const T>(dy),
           RowView<const T>(x), weight.as<T>(), LineView<const T>(mean), LineView<const T>(rstd),
           RowView<T>(dx), sums.as<T>(), R, K, channels);
  });
}

}  // namespace ts::cuda
