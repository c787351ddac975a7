// Attention, y_i = sum_j p_ij v_j / sum_j p_ij, p_ij = exp(scale q_i . k_j + mask_ij), and its gradients,
// without the T x S matrix, in float32 and float64 on multiply-adds; float16 and bfloat16 are in
// attention_mma.cu.
//
// Forward: one pass over the keys for each query's maximum and sum of exponentials, a second one for the
// values, a tile of features at a time. Backward: the keys' gradients by blocks of keys that go through the
// queries, the queries' by blocks of queries that go through the keys; both compute the scores again, and
// nothing is added by atomics. Flops: 2 T S (2 D + E) forward, 2 T S (4 D + 3 E) backward for D, E of at most
// a tile; half if causal.
#include "cuda/attention.h"
#include "cuda/kernels.h"

namespace ts::cuda {
namespace {

// Of every query: state[0] = its largest score, state[1] = what its row is multiplied with; and the
// logsumexp.
template <class T>
__global__ void __launch_bounds__(kAttentionThreads)
    scores_kernel(const Attending<T> a, T* state, T* logsumexp) {
  using Tile = AttentionTile<T>;
  constexpr int kTile = Tile::kTile, kWarps = kAttentionThreads / kWarp, kRows = kTile / kWarps;
  T* const strips = reinterpret_cast<T*>(dynamic_shared());
  T* const s = strips + 2 * Tile::kStrip;
  const std::int64_t h = blockIdx.y, b = blockIdx.z, g = h / (a.H / a.G),
                     t0 = std::int64_t{blockIdx.x} * kTile;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  T high[kRows], total[kRows];
  for (int r = 0; r < kRows; ++r) high[r] = -std::numeric_limits<T>::infinity(), total[r] = 0;
  const std::int64_t end = a.end_key(t0 + kTile);
  for (std::int64_t j0 = a.first_key(t0) / kTile * kTile; j0 < end; j0 += kTile) {
    typename Tile::Sums sums;
    Tile::products(sums, a.q.at(b, h, t0), a.q.stride[2], a.q.stride[3], a.T_ - t0, a.k.at(b, g, j0),
                   a.k.stride[2], a.k.stride[3], a.S - j0, a.D, strips);
    for (int i = 0; i < Tile::kEach; ++i)
      for (int j = 0; j < Tile::kEach; ++j)
        s[Tile::row(i) * Tile::kRow + Tile::column(j)] =
            a.score(sums[i][j], b, h, t0 + Tile::row(i), j0 + Tile::column(j));
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T* const line = s + (warp * kRows + r) * Tile::kRow;
      const auto larger = [](T x, T y) { return y > x || y != y ? y : x; };
      T most = line[lane];
      for (int c = lane + kWarp; c < kTile; c += kWarp) most = larger(most, line[c]);
      most = warp_reduce(most, larger);
      const T now = larger(high[r], most),
              shift = now > -std::numeric_limits<T>::infinity() || now != now ? now : T(0);
      T sum = 0;
      for (int c = lane; c < kTile; c += kWarp) sum = sum + exp2_of(line[c] - shift);
      sum = warp_reduce(sum, Sum{});
      total[r] = fma(Vec<T>(total[r]), Vec<T>(exp2_of(high[r] - shift)), Vec<T>(sum)).r;
      high[r] = now;
    }
    __syncthreads();
  }
  if (lane != 0) return;
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t t = t0 + warp * kRows + r;
    if (t >= a.T_) break;
    const std::int64_t at = (b * a.H + h) * a.T_ + t;
    // A query that sees no key: y = 0, and every exponential of backward will be 0.
    const bool none = total[r] == T(0);
    state[2 * at] = high[r] > -std::numeric_limits<T>::infinity() || high[r] != high[r] ? high[r] : T(0);
    state[2 * at + 1] = none ? T(0) : a.factor / total[r];
    logsumexp[at] = none ? std::numeric_limits<T>::infinity() : high[r] + vmath::log2(Vec<T>(total[r])).r;
  }
}

// y's features [e0, e0 + kTile) of a tile of queries.
template <class T>
__global__ void __launch_bounds__(kAttentionThreads)
    values_kernel(const Attending<T> a, const T* state, const Heads<T> y, std::int64_t parts) {
  using Tile = AttentionTile<T>;
  constexpr int kTile = Tile::kTile;
  T* const strips = reinterpret_cast<T*>(dynamic_shared());
  T *const p = strips + 2 * Tile::kStrip, *const v = p + Tile::kSquare;
  const std::int64_t h = blockIdx.y, b = blockIdx.z, g = h / (a.H / a.G);
  const std::int64_t t0 = blockIdx.x / parts * kTile, e0 = blockIdx.x % parts * kTile;
  typename Tile::Sums out;
  Tile::clear(out);
  T high[Tile::kEach], scale[Tile::kEach];
  for (int i = 0; i < Tile::kEach; ++i) {
    const std::int64_t t = t0 + Tile::row(i), at = (b * a.H + h) * a.T_ + (t < a.T_ ? t : a.T_ - 1);
    high[i] = state[2 * at], scale[i] = state[2 * at + 1];
  }
  const std::int64_t end = a.end_key(t0 + kTile);
  for (std::int64_t j0 = a.first_key(t0) / kTile * kTile; j0 < end; j0 += kTile) {
    typename Tile::Sums sums;
    Tile::products(sums, a.q.at(b, h, t0), a.q.stride[2], a.q.stride[3], a.T_ - t0, a.k.at(b, g, j0),
                   a.k.stride[2], a.k.stride[3], a.S - j0, a.D, strips);
    __syncthreads();
    for (int i = 0; i < Tile::kEach; ++i)
      for (int j = 0; j < Tile::kEach; ++j) {
        const std::int64_t t = t0 + Tile::row(i), key = j0 + Tile::column(j);
        T x = exp2_of(a.score(sums[i][j], b, h, t, key) - high[i]);
        if (a.generator.state && !a.kept(b, h, t, key)) x = 0;
        p[Tile::row(i) * Tile::kRow + Tile::column(j)] = x;
      }
    Tile::load(v, a.v.at(b, g, j0) + e0 * a.v.stride[3], a.v.stride[2], a.v.stride[3], a.S - j0, a.E - e0);
    __syncthreads();
    Tile::template accumulate<false>(out, p, v);
  }
  Tile::store(out, y.at(b, h, t0) + e0 * y.stride[3], y.stride[2], y.stride[3], a.T_ - t0, a.E - e0, scale);
}

// --- backward
// ------------------------------------------------------------------------------------------------

// delta = sum_e dy y, a warp a query.
template <class T>
__global__ void delta_kernel(const Heads<const T> dy, const Heads<const T> y, T* delta, std::int64_t H,
                             std::int64_t T_, std::int64_t E, std::int64_t rows) {
  const std::int64_t at = std::int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  if (at >= rows) return;
  const std::int64_t t = at % T_, h = at / T_ % H, b = at / (T_ * H);
  T sum = 0;
  for (std::int64_t e = threadIdx.x % kWarp; e < E; e += kWarp)
    sum =
        fma(Vec<T>(dy.at(b, h, t)[e * dy.stride[3]]), Vec<T>(y.at(b, h, t)[e * y.stride[3]]), Vec<T>(sum)).r;
  sum = warp_reduce(sum, Sum{});
  if (threadIdx.x % kWarp == 0) delta[at] = sum;
}

// Of a tile: p as the values met it, and ds, the gradient of the scores in natural units.
template <class T>
struct Gradients {
  const Attending<T>& a;
  const Heads<const T>& dy;
  const T *logsumexp, *delta;
  T* strips;

  template <class Put>
  TS_INLINE void tile(std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t t0, std::int64_t j0,
                      Put put) const {
    using Tile = AttentionTile<T>;
    typename Tile::Sums s, dp;
    Tile::products(s, a.q.at(b, h, t0), a.q.stride[2], a.q.stride[3], a.T_ - t0, a.k.at(b, g, j0),
                   a.k.stride[2], a.k.stride[3], a.S - j0, a.D, strips);
    Tile::products(dp, dy.at(b, h, t0), dy.stride[2], dy.stride[3], a.T_ - t0, a.v.at(b, g, j0),
                   a.v.stride[2], a.v.stride[3], a.S - j0, a.E, strips);
    __syncthreads();
    for (int i = 0; i < Tile::kEach; ++i) {
      const std::int64_t t = t0 + Tile::row(i), at = (b * a.H + h) * a.T_ + (t < a.T_ ? t : a.T_ - 1);
      for (int j = 0; j < Tile::kEach; ++j) {
        const std::int64_t key = j0 + Tile::column(j);
        const T p = exp2_of(a.score(s[i][j], b, h, t, key) - logsumexp[at]);
        T met = p, d = dp[i][j];
        if (a.generator.state) {
          const T keep = a.kept(b, h, t, key) ? a.factor : T(0);
          met = met * keep, d = d * keep;
        }
        const bool inside = t < a.T_ && key < a.S;
        put(Tile::row(i), Tile::column(j), inside ? met : T(0), inside ? p * (d - delta[at]) : T(0), inside);
      }
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kAttentionThreads)
    keys_backward_kernel(const Attending<T> a, const Heads<const T> dy, const T* logsumexp, const T* delta,
                         const Heads<T> dk, const Heads<T> dv, T natural, std::int64_t parts) {
  using Tile = AttentionTile<T>;
  constexpr int kTile = Tile::kTile;
  T* const strips = reinterpret_cast<T*>(dynamic_shared());
  T *const p = strips + 2 * Tile::kStrip, *const ds = p + Tile::kSquare, *const x = ds + Tile::kSquare;
  const std::int64_t g = blockIdx.y, b = blockIdx.z, group = a.H / a.G;
  const std::int64_t j0 = blockIdx.x / parts * kTile, c0 = blockIdx.x % parts * kTile;
  typename Tile::Sums to_k, to_v;
  Tile::clear(to_k), Tile::clear(to_v);
  const Gradients<T> gradients{a, dy, logsumexp, delta, strips};
  const std::int64_t end = a.end_query(j0 + kTile);
  for (std::int64_t h = g * group; h < (g + 1) * group; ++h)
    for (std::int64_t t0 = a.first_query(j0) / kTile * kTile; t0 < end; t0 += kTile) {
      gradients.tile(b, h, g, t0, j0, [&](int r, int c, T met, T d, bool) {
        p[r * Tile::kRow + c] = met;
        ds[r * Tile::kRow + c] = d;
      });
      if (c0 < a.E) {
        Tile::load(x, dy.at(b, h, t0) + c0 * dy.stride[3], dy.stride[2], dy.stride[3], a.T_ - t0, a.E - c0);
        __syncthreads();
        Tile::template accumulate<true>(to_v, p, x);
      }
      __syncthreads();
      if (c0 < a.D) {
        Tile::load(x, a.q.at(b, h, t0) + c0 * a.q.stride[3], a.q.stride[2], a.q.stride[3], a.T_ - t0,
                   a.D - c0);
        __syncthreads();
        Tile::template accumulate<true>(to_k, ds, x);
      }
    }
  T one[Tile::kEach], scale[Tile::kEach];
  for (int i = 0; i < Tile::kEach; ++i) one[i] = 1, scale[i] = natural;
  if (c0 < a.E)
    Tile::store(to_v, dv.at(b, g, j0) + c0 * dv.stride[3], dv.stride[2], dv.stride[3], a.S - j0, a.E - c0,
                one);
  if (c0 < a.D)
    Tile::store(to_k, dk.at(b, g, j0) + c0 * dk.stride[3], dk.stride[2], dk.stride[3], a.S - j0, a.D - c0,
                scale);
}

template <class T>
__global__ void __launch_bounds__(kAttentionThreads)
    queries_backward_kernel(const Attending<T> a, const Heads<const T> dy, const T* logsumexp, const T* delta,
                            const Heads<T> dq, T* dmask, T natural, std::int64_t parts) {
  using Tile = AttentionTile<T>;
  constexpr int kTile = Tile::kTile;
  T* const strips = reinterpret_cast<T*>(dynamic_shared());
  T *const ds = strips + 2 * Tile::kStrip, *const x = ds + Tile::kSquare;
  const std::int64_t h = blockIdx.y, b = blockIdx.z, g = h / (a.H / a.G);
  const std::int64_t t0 = blockIdx.x / parts * kTile, c0 = blockIdx.x % parts * kTile;
  typename Tile::Sums to_q;
  Tile::clear(to_q);
  const Gradients<T> gradients{a, dy, logsumexp, delta, strips};
  T* const to_mask = dmask && c0 == 0 ? dmask + ((b * a.H + h) * a.T_ + t0) * a.S : nullptr;
  const std::int64_t end = a.end_key(t0 + kTile);
  for (std::int64_t j0 = a.first_key(t0) / kTile * kTile; j0 < end; j0 += kTile) {
    gradients.tile(b, h, g, t0, j0, [&](int r, int c, T, T d, bool inside) {
      ds[r * Tile::kRow + c] = d;
      if (to_mask && inside) to_mask[r * a.S + j0 + c] = d;
    });
    Tile::load(x, a.k.at(b, g, j0) + c0 * a.k.stride[3], a.k.stride[2], a.k.stride[3], a.S - j0, a.D - c0);
    __syncthreads();
    Tile::template accumulate<false>(to_q, ds, x);
  }
  T scale[Tile::kEach];
  for (int i = 0; i < Tile::kEach; ++i) scale[i] = natural;
  Tile::store(to_q, dq.at(b, h, t0) + c0 * dq.stride[3], dq.stride[2], dq.stride[3], a.T_ - t0, a.D - c0,
              scale);
}

template <class T>
std::size_t room(int squares) {
  using Tile = AttentionTile<T>;
  return static_cast<std::size_t>(2 * Tile::kStrip + squares * Tile::kSquare) * sizeof(T);
}
// Heads and batches are blocks along y and z.
void check_grid(const char* kernel, const View& q) {
  if (q.shape[0] > 65535 || q.shape[1] > 65535) not_implemented(kernel, "more than 65535 batches or heads");
}

}  // namespace

void attention(In q, In k, In v, In mask, In keys, Out state, Out y, Out logsumexp, Out seed,
               Attention options) {
  if (y.size() == 0) return;
  check_grid("attention", q);
  if (is_half(q.dtype)) return low_attention(q, k, v, mask, keys, state, y, logsumexp, seed, options);
  if (options.dropout > 0)
    check(cudaMemcpyAsync(seed.data, state.data, 24, cudaMemcpyDeviceToDevice, stream()), "a copy");
  with_floating(q.dtype, [&]<class T>(Type<T>) {
    constexpr std::int64_t kTile = AttentionTile<T>::kTile;
    const Attending<T> a(q, k, v, mask, keys, seed.as<std::uint64_t>(), options);
    const Workspace rows(2 * logsumexp.size() * static_cast<std::int64_t>(sizeof(T)));
    const auto H = static_cast<unsigned>(a.H), B = static_cast<unsigned>(a.B);
    const std::int64_t tiles = ceil_div(a.T_, kTile), parts = ceil_div(a.E, kTile);
    launch(&scores_kernel<T>, dim3(blocks_of(tiles), H, B), dim3(kAttentionThreads), room<T>(1), a,
           rows.as<T>(), logsumexp.as<T>());
    launch(&values_kernel<T>, dim3(blocks_of(tiles * parts), H, B), dim3(kAttentionThreads), room<T>(2), a,
           static_cast<const T*>(rows.as<T>()), Heads<T>(y), parts);
  });
  if (options.dropout > 0) advance(state, logsumexp.size() * ((k.shape[2] + 3) / 4));
}

void attention_backward(In dy, In q, In k, In v, In y, In mask, In keys, In logsumexp, In seed, Out dq,
                        Out dk, Out dv, Out dmask, Out delta, Out partial, Attention options) {
  check_grid("attention_backward", q);
  if (is_half(q.dtype))
    return low_attention_backward(dy, q, k, v, y, mask, keys, logsumexp, seed, dq, dk, dv, dmask, delta,
                                  partial, options);
  with_floating(q.dtype, [&]<class T>(Type<T>) {
    constexpr std::int64_t kTile = AttentionTile<T>::kTile;
    const Attending<T> a(q, k, v, mask, keys, seed.as<std::uint64_t>(), options);
    const auto H = static_cast<unsigned>(a.H), G = static_cast<unsigned>(a.G), B = static_cast<unsigned>(a.B);
    const std::int64_t rows = a.B * a.H * a.T_;
    launch(&delta_kernel<T>, dim3(blocks_of(ceil_div(rows, 8))), dim3(256), 0, Heads<const T>(dy),
           Heads<const T>(y), delta.as<T>(), a.H, a.T_, a.E, rows);
    if (dmask)
      check(cudaMemsetAsync(dmask.data, 0, static_cast<std::size_t>(dmask.size()) * sizeof(T), stream()),
            "clearing memory");
    const T natural = static_cast<T>(options.scale);
    const std::int64_t widest = ceil_div(a.D > a.E ? a.D : a.E, kTile), parts = ceil_div(a.D, kTile);
    launch(&keys_backward_kernel<T>, dim3(blocks_of(ceil_div(a.S, kTile) * widest), G, B),
           dim3(kAttentionThreads), room<T>(3), a, Heads<const T>(dy), logsumexp.as<T>(),
           static_cast<const T*>(delta.as<T>()), Heads<T>(dk), Heads<T>(dv), natural, widest);
    launch(&queries_backward_kernel<T>, dim3(blocks_of(ceil_div(a.T_, kTile) * parts), H, B),
           dim3(kAttentionThreads), room<T>(2), a, Heads<const T>(dy), logsumexp.as<T>(),
           static_cast<const T*>(delta.as<T>()), Heads<T>(dq), dmask.as<T>(), natural, parts);
  });
}

}  // namespace ts::cuda
