// Attention in bfloat16 and float16 on tensor cores, with sums in float32, and its gradients (Dao 2023); for
// heads of up to 128 features without dropout. What else there is goes through float32.
//
// Forward: 128 queries a block, 32 a warp, go through the keys by 64; keys and values of the next tile are on
// their way. A query keeps its largest score so far, its sum of exponentials and its y, which are scaled when
// the largest rises; exponentials become the operand of the second product where they are, in registers. 2 T
// S (D + E) flops. Backward in two passes without atomics: blocks of 64 keys go through the queries for dk
// and dv, blocks of 64 queries through the keys for dq; both compute the scores again, 2 T S (4 D + 3 E)
// flops.
//
// Bits: sums over keys go in ascending order in tiles that lie at multiples of 64; keys that are hidden add
// exact zeros. So a query's result depends on its own row, the keys and the values alone.
#include "cuda/attention_mma.h"

#include <optional>

#include "cuda/attention.h"
#include "cuda/gemm.h"
#include "cuda/kernels.h"

namespace ts::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kForwardQueries = 128, kTile = 64;  // kTile: of backward, queries and keys

template <class Number, int kD, bool kMasked>
__global__ void __launch_bounds__(kMmaThreads)
    forward_kernel(const LowAttending a, const LowResults<Number> y, float* logsumexp) {
  using Tile = HeadTile<kD>;
  constexpr int kKeys = kMmaKeys, kPair = 2 * Tile::bytes(kKeys);
  constexpr int queries = 0, pairs = Tile::bytes(kForwardQueries);  // two stages of keys and values
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const typename Tile::Lane at(lane);
  const int h = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z), g = h / (a.H / a.G);
  // The last queries first: they see the most keys if causal.
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kForwardQueries, own = t0 + 32 * warp;
  const int begin = a.first_key(t0) / kKeys * kKeys, end = a.end_key(t0 + kForwardQueries);
  const auto fetch = [&](int j0, int stage) {
    const int to = pairs + stage * kPair;
    Tile::template start<kKeys>(to, a.k, a.k.at(b, g, j0), a.S - j0);
    Tile::template start<kKeys>(to + kPair / 2, a.v, a.v.at(b, g, j0), a.S - j0);
    commit_copies();
  };
  Tile::template start<kForwardQueries>(queries, a.q, a.q.at(b, h, t0), a.T_ - t0);
  begin < end ? fetch(begin, 0) : commit_copies();
  const float unit = a.unit<kMasked>();
  float out[2][kD / 8][4] = {}, high[2][2], total[2][2];
#pragma unroll
  for (int i = 0; i < 4; ++i) high[i / 2][i % 2] = -kInfinity, total[i / 2][i % 2] = 0;
  for (int j0 = begin, stage = 0; j0 < end; j0 += kKeys, stage ^= 1) {
    wait_copies<0>();
    __syncthreads();  // all copies are there, and the other stage's readers are done
    if (j0 + kKeys < end) fetch(j0 + kKeys, stage ^ 1);
    const int k = pairs + stage * kPair, v = k + kPair / 2;
    float s[2][kKeys / 8][4] = {};
#pragma unroll
    for (int step = 0; step < Tile::kSteps; ++step) {
      std::uint32_t fa[2][4];
      Tile::rows16(fa[0], queries, step, 32 * warp, at);
      Tile::rows16(fa[1], queries, step, 32 * warp + 16, at);
#pragma unroll
      for (int j = 0; j < kKeys / 16; ++j) {
        std::uint32_t fb[4];
        Tile::columns16(fb, k, step, 16 * j, at);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          multiply_low<Number>(s[i][2 * j], fa[i], fb[0], fb[1]);
          multiply_low<Number>(s[i][2 * j + 1], fa[i], fb[2], fb[3]);
        }
      }
    }
    const bool plain = a.plain(own, own + 32, j0, j0 + kKeys);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      a.scores<Number, kMasked>(
          s[i], plain, b, h, [&](int, int e) { return own + 16 * i + 8 * (e / 2) + lane / 4; },
          [&](int j, int e) { return j0 + 8 * j + lane % 4 * 2 + e % 2; });
    float factor[2][2];
    bool same = true;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float most = s[i][0][2 * r];
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j) most = ::fmaxf(most, ::fmaxf(s[i][j][2 * r], s[i][j][2 * r + 1]));
        most = ::fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
        most = ::fmaxf(high[i][r], ::fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2)) * unit);
        const float shift = most > -kInfinity ? most : 0.0f;
        factor[i][r] = exp2_near(high[i][r] - shift);
        same &= factor[i][r] == 1.0f;
        high[i][r] = most;
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const float p = exp2_near(s[i][j][2 * r + e] * unit - shift);
            s[i][j][2 * r + e] = p;
            sum += p;
          }
        total[i][r] = ::fmaf(total[i][r], factor[i][r], sum);
      }
    if (__any_sync(kAllLanes, !same))  // late tiles seldom raise a maximum
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < kD / 8; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) out[i][j][e] *= factor[i][e / 2];
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      std::uint32_t fa[2][4];
      Tile::template fragment<Number>(fa[0], s[0][2 * step], s[0][2 * step + 1]);
      Tile::template fragment<Number>(fa[1], s[1][2 * step], s[1][2 * step + 1]);
#pragma unroll
      for (int j = 0; j < kD / 16; ++j) {
        std::uint32_t fb[4];
        Tile::across16(fb, v, step, 16 * j, at);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          multiply_low<Number>(out[i][2 * j], fa[i], fb[0], fb[1]);
          multiply_low<Number>(out[i][2 * j + 1], fa[i], fb[2], fb[3]);
        }
      }
    }
  }
  wait_copies<0>();
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = total[i][r];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      // A query that sees no key: y = 0, and every exponential of backward will be 0.
      const bool none = sum == 0.0f;
      const float scale = none ? 0.0f : 1.0f / sum;
      const int t = own + 16 * i + 8 * r + lane / 4;
#pragma unroll
      for (int j = 0; j < kD / 8; ++j)
        y.store(b, h, t, 8 * j + lane % 4 * 2, out[i][j][2 * r] * scale, out[i][j][2 * r + 1] * scale);
      if (lane % 4 == 0 && t < a.T_)
        logsumexp[(std::int64_t{b} * a.H + h) * a.T_ + t] = none ? kInfinity : high[i][r] + ::log2f(sum);
    }
}

// delta = sum_e dy y: a query has 2^shift neighbouring threads, with 16 bytes of its features each.
constexpr int kDeltaThreads = 256;
template <class Number>
__global__ void low_delta_kernel(const LowHeads dy, const LowHeads y, float* delta, int T_, int shift) {
  const int thread = static_cast<int>(threadIdx.x), piece = (thread & ((1 << shift) - 1)) * 8;
  const int t = static_cast<int>(blockIdx.x) * (kDeltaThreads >> shift) + (thread >> shift);
  const int h = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z), left = y.width / 2 - piece;
  float sum = 0;
  if (t < T_ && left > 0) {
    Number ds[8], vs[8];
    const unsigned char *const d = dy.at(b, h, t) + 2 * piece, *const v = y.at(b, h, t) + 2 * piece;
    if (left >= 8) {
      const uint4 x = *reinterpret_cast<const uint4*>(d), z = *reinterpret_cast<const uint4*>(v);
      memcpy(ds, &x, 16), memcpy(vs, &z, 16);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        ds[e] = e < left ? reinterpret_cast<const Number*>(d)[e] : Number{};
        vs[e] = e < left ? reinterpret_cast<const Number*>(v)[e] : Number{};
      }
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) sum = ::fmaf(to_float(ds[e]), to_float(vs[e]), sum);
  }
  for (int step = 1 << shift >> 1; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (piece == 0 && t < T_) delta[(std::int64_t{b} * gridDim.y + h) * T_ + t] = sum;
}

// dk and dv of 64 keys, 16 a warp: tiles of scores are keys by queries.
template <class Number, int kD, bool kMasked>
__global__ void __launch_bounds__(kMmaThreads)
    keys_kernel(const LowAttending a, const LowHeads dy, const float* logsumexp, const float* delta,
                const LowResults<Number> dk, const LowResults<Number> dv, float natural) {
  using Tile = HeadTile<kD>;
  constexpr int kBytes = Tile::bytes(kTile);
  constexpr int keys = 0, values = kBytes, pairs = 2 * kBytes;  // two stages of q and dy
  float* const stats =
      reinterpret_cast<float*>(dynamic_shared() + pairs + 4 * kBytes);  // of both: logsumexp, delta
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const typename Tile::Lane at(lane);
  const int g = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z), group = a.H / a.G;
  const int j0 = static_cast<int>(blockIdx.x) * kTile, own = j0 + 16 * warp;
  const int begin = a.first_query(j0) / kTile * kTile, end = a.end_query(j0 + kTile);
  const int tiles = begin < end ? (end - begin + kTile - 1) / kTile : 0, count = tiles * group;
  // Tile n is of head n / tiles; this thread brings one number of its queries.
  const auto fetch = [&](int n, int stage) {
    const int h = g * group + n / tiles, t0 = begin + n % tiles * kTile, t = t0 + thread % kTile;
    Tile::template start<kTile>(pairs + 2 * stage * kBytes, a.q, a.q.at(b, h, t0), a.T_ - t0);
    Tile::template start<kTile>(pairs + (2 * stage + 1) * kBytes, dy, dy.at(b, h, t0), a.T_ - t0);
    commit_copies();
    const float* const from = thread < kTile ? logsumexp : delta;
    // Beyond the last query every exponential is 0.
    return t < a.T_ ? from[(std::int64_t{b} * a.H + h) * a.T_ + t] : thread < kTile ? kInfinity : 0.0f;
  };
  Tile::template start<kTile>(keys, a.k, a.k.at(b, g, j0), a.S - j0);
  Tile::template start<kTile>(values, a.v, a.v.at(b, g, j0), a.S - j0);
  if (count > 0)
    stats[thread] = fetch(0, 0);
  else
    commit_copies();
  const float unit = a.unit<kMasked>();
  float to_k[kD / 8][4] = {}, to_v[kD / 8][4] = {};
  for (int n = 0, stage = 0; n < count; ++n, stage ^= 1) {
    wait_copies<0>();
    __syncthreads();
    float next = 0;
    if (n + 1 < count) next = fetch(n + 1, stage ^ 1);
    const int h = g * group + n / tiles, t0 = begin + n % tiles * kTile;
    const int q = pairs + 2 * stage * kBytes, d = q + kBytes;
    const float *const lse = stats + stage * 2 * kTile, *const del = lse + kTile;
    float p[kTile / 8][4], ds[kTile / 8][4];
    Tile::template products<Number, kTile>(p, keys, 16 * warp, q, at);
    a.scores<Number, kMasked>(
        p, a.plain(t0, t0 + kTile, own, own + 16), b, h,
        [&](int j, int e) { return t0 + 8 * j + lane % 4 * 2 + e % 2; },
        [&](int, int e) { return own + 8 * (e / 2) + lane / 4; });
#pragma unroll
    for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) p[j][e] = exp2_near(p[j][e] * unit - lse[8 * j + lane % 4 * 2 + e % 2]);
    Tile::template accumulate<Number, kTile>(to_v, p, d, at);
    Tile::template products<Number, kTile>(ds, values, 16 * warp, d, at);
#pragma unroll
    for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) ds[j][e] = p[j][e] * (ds[j][e] - del[8 * j + lane % 4 * 2 + e % 2]);
    Tile::template accumulate<Number, kTile>(to_k, ds, q, at);
    if (n + 1 < count) stats[(stage ^ 1) * 2 * kTile + thread] = next;
  }
  wait_copies<0>();
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int j = 0; j < kD / 8; ++j) {
      const int key = own + 8 * r + lane / 4, c = 8 * j + lane % 4 * 2;
      dv.store(b, g, key, c, to_v[j][2 * r], to_v[j][2 * r + 1]);
      dk.store(b, g, key, c, to_k[j][2 * r] * natural, to_k[j][2 * r + 1] * natural);
    }
}

// dq of 64 queries, 16 a warp.
template <class Number, int kD, bool kMasked>
__global__ void __launch_bounds__(kMmaThreads)
    queries_kernel(const LowAttending a, const LowHeads dy, const float* logsumexp, const float* delta,
                   const LowResults<Number> dq, float natural) {
  using Tile = HeadTile<kD>;
  constexpr int kBytes = Tile::bytes(kTile);
  constexpr int queries = 0, gradients = kBytes, pairs = 2 * kBytes;  // two stages of k and v
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const typename Tile::Lane at(lane);
  const int h = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z), g = h / (a.H / a.G);
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile, own = t0 + 16 * warp;
  const int begin = a.first_key(t0) / kTile * kTile, end = a.end_key(t0 + kTile);
  const auto fetch = [&](int j0, int stage) {
    Tile::template start<kTile>(pairs + 2 * stage * kBytes, a.k, a.k.at(b, g, j0), a.S - j0);
    Tile::template start<kTile>(pairs + (2 * stage + 1) * kBytes, a.v, a.v.at(b, g, j0), a.S - j0);
    commit_copies();
  };
  Tile::template start<kTile>(queries, a.q, a.q.at(b, h, t0), a.T_ - t0);
  Tile::template start<kTile>(gradients, dy, dy.at(b, h, t0), a.T_ - t0);
  begin < end ? fetch(begin, 0) : commit_copies();
  float lse[2], del[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int t = own + 8 * r + lane / 4;
    const std::int64_t row = (std::int64_t{b} * a.H + h) * a.T_ + t;
    lse[r] = t < a.T_ ? logsumexp[row] : kInfinity, del[r] = t < a.T_ ? delta[row] : 0.0f;
  }
  const float unit = a.unit<kMasked>();
  float to_q[kD / 8][4] = {};
  for (int j0 = begin, stage = 0; j0 < end; j0 += kTile, stage ^= 1) {
    wait_copies<0>();
    __syncthreads();
    if (j0 + kTile < end) fetch(j0 + kTile, stage ^ 1);
    const int k = pairs + 2 * stage * kBytes, v = k + kBytes;
    float p[kTile / 8][4], ds[kTile / 8][4];
    Tile::template products<Number, kTile>(p, queries, 16 * warp, k, at);
    Tile::template products<Number, kTile>(ds, gradients, 16 * warp, v, at);
    a.scores<Number, kMasked>(
        p, a.plain(own, own + 16, j0, j0 + kTile), b, h,
        [&](int, int e) { return own + 8 * (e / 2) + lane / 4; },
        [&](int j, int e) { return j0 + 8 * j + lane % 4 * 2 + e % 2; });
#pragma unroll
    for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) ds[j][e] = exp2_near(p[j][e] * unit - lse[e / 2]) * (ds[j][e] - del[e / 2]);
    Tile::template accumulate<Number, kTile>(to_q, ds, k, at);
  }
  wait_copies<0>();
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int j = 0; j < kD / 8; ++j)
      dq.store(b, h, own + 8 * r + lane / 4, 8 * j + lane % 4 * 2, to_q[j][2 * r] * natural,
               to_q[j][2 * r + 1] * natural);
}

// --- launches ------------------------------------------------------------------------------------------

// An array of x's shape in memory of its own, rows `pitch` apart.
struct Temporary {
  std::int64_t shape[4], strides[4];
  Workspace room;
  View view;

  Temporary(const View& x, DType dtype, std::int64_t pitch)
      : shape{x.shape[0], x.shape[1], x.shape[2], x.shape[3]},
        strides{x.shape[1] * x.shape[2] * pitch, x.shape[2] * pitch, pitch, 1},
        room(x.shape[0] * x.shape[1] * x.shape[2] * pitch * itemsize(dtype)),
        view(x) {
    view.data = room.as<void>();
    view.shape = shape, view.strides = strides;
    view.dtype = dtype;
  }
};
// What a kernel reads of an operand, and the copy that this may need.
struct LowOperand {
  std::optional<Temporary> copy;
  LowHeads heads;

  explicit LowOperand(const View& x) {
    bool aligned = x.strides[3] == 1 && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
    for (int i = 0; i < 3; ++i) aligned &= x.strides[i] % 8 == 0;
    const View* from = &x;
    if (!aligned) {
      copy.emplace(x, x.dtype, ceil_div(x.shape[3], 8) * 8);
      cast(In{x}, Out{copy->view});
      from = &copy->view;
    }
    heads = {static_cast<const unsigned char*>(from->data), 2 * from->strides[0], 2 * from->strides[1],
             2 * from->strides[2], 2 * static_cast<int>(x.shape[3])};
  }
};

LowAttending attending(const In& q, const In& k, const View& mask, const View& keys, const LowHeads& qs,
                       const LowHeads& ks, const LowHeads& vs, const Attention& o) {
  constexpr int kFar = 1 << 30;
  const auto limit = [](std::int64_t n) { return n < 0 || n > kFar ? kFar : static_cast<int>(n); };
  LowAttending a{static_cast<int>(q.shape[0]),
                 static_cast<int>(q.shape[1]),
                 static_cast<int>(k.shape[1]),
                 static_cast<int>(q.shape[2]),
                 static_cast<int>(k.shape[2]),
                 limit(o.left),
                 limit(o.right),
                 qs,
                 ks,
                 vs,
                 mask.data,
                 {},
                 mask && mask.dtype == DType::boolean,
                 static_cast<const bool*>(keys.data),
                 {},
                 static_cast<float>(o.scale * 1.4426950408889634)};
  if (mask)
    for (int i = 0; i < 4; ++i) a.mask_stride[i] = mask.strides[i];
  if (keys) a.keys_stride[0] = keys.strides[0], a.keys_stride[1] = keys.strides[1];
  return a;
}

// f<Number, kD, kMasked>() for the widest head; with masks (or a scale that is not positive, so that the
// largest product is not the largest score), which take registers, kD is 128.
template <class F>
void with_head(DType dtype, std::int64_t features, bool masked, F&& f) {
  const auto go = [&]<class Number>() {
    if (masked)
      f.template operator()<Number, 128, true>();
    else if (features <= 32)
      f.template operator()<Number, 32, false>();
    else if (features <= 64)
      f.template operator()<Number, 64, false>();
    else if (features <= 96)
      f.template operator()<Number, 96, false>();
    else
      f.template operator()<Number, 128, false>();
  };
  if (dtype == DType::bfloat16)
    go.template operator()<BFloat16>();
  else
    go.template operator()<Float16>();
}

bool fits(const View& q, const View& k, const View& v, const Attention& o) {
  constexpr std::int64_t kMost = 1 << 29, kFeatures = 128;
  return capability() >= 80 && o.dropout == 0 && q.shape[3] <= kFeatures && v.shape[3] <= kFeatures &&
         q.shape[2] < kMost && k.shape[2] < kMost;
}

// x in float32; nothing for an operand that was not given or has no float dtype.
struct Wide {
  std::optional<Temporary> copy;
  View view;
  Wide(const View& x, bool read) : view(x) {
    if (!x || !is_half(x.dtype)) return;
    copy.emplace(x, DType::float32, x.shape[3]);
    view = copy->view;
    if (read) cast(In{x}, Out{view});
  }
};

[[noreturn]] void no_wgmma() {
  runtime_error(
      "attention: TENSORSMITH_CUDA_WGMMA is 'only', which takes heads of 64 or 128 features, alike in q, k "
      "and "
      "v, without masks and dropout, with a scale above 0 and no operand broadcast, on compute capability "
      "9.0");
}

}  // namespace

void low_attention(In q, In k, In v, In mask, In keys, Out state, Out y, Out logsumexp, Out seed,
                   Attention options) {
  const Wgmma wanted = wgmma_wanted();
  if (!fits(q, k, v, options)) {
    if (wanted == Wgmma::only) no_wgmma();
    const Wide qs(q, true), ks(k, true), vs(v, true), added(mask, true), wide(y, false);
    attention(In{qs.view}, In{ks.view}, In{vs.view}, In{added.view}, keys, state, Out{wide.view}, logsumexp,
              seed, options);
    return cast(In{wide.view}, y);
  }
  const LowOperand qs(q), ks(k), vs(v);
  const LowAttending a = attending(q, k, mask, keys, qs.heads, ks.heads, vs.heads, options);
  if (wanted != Wgmma::never && attention_wgmma(q.dtype, a, q.shape[3], v.shape[3], y, logsumexp.as<float>()))
    return;
  if (wanted == Wgmma::only) no_wgmma();
  const std::int64_t features = q.shape[3] > v.shape[3] ? q.shape[3] : v.shape[3];
  with_head(q.dtype, features, mask || keys || !(a.scale > 0), [&]<class Number, int kD, bool kMasked>() {
    launch(&forward_kernel<Number, kD, kMasked>,
           dim3(blocks_of(ceil_div(a.T_, kForwardQueries)), static_cast<unsigned>(a.H),
                static_cast<unsigned>(a.B)),
           dim3(kMmaThreads), HeadTile<kD>::bytes(kForwardQueries + 4 * kMmaKeys), a, LowResults<Number>(y),
           logsumexp.as<float>());
  });
}

void low_attention_backward(In dy, In q, In k, In v, In y, In mask, In keys, In logsumexp, In seed, Out dq,
                            Out dk, Out dv, Out dmask, Out delta, Out partial, Attention options) {
  const Wgmma wanted = wgmma_wanted();
  if (!fits(q, k, v, options) || dmask) {
    if (wanted == Wgmma::only) no_wgmma();
    const Wide dys(dy, true), qs(q, true), ks(k, true), vs(v, true), ys(y, true), added(mask, true);
    const Wide to_q(dq, false), to_k(dk, false), to_v(dv, false), to_mask(dmask, false);
    attention_backward(In{dys.view}, In{qs.view}, In{ks.view}, In{vs.view}, In{ys.view}, In{added.view}, keys,
                       logsumexp, seed, Out{to_q.view}, Out{to_k.view}, Out{to_v.view}, Out{to_mask.view},
                       delta, partial, options);
    cast(In{to_q.view}, dq), cast(In{to_k.view}, dk), cast(In{to_v.view}, dv);
    if (dmask) cast(In{to_mask.view}, dmask);
    return;
  }
  const LowOperand dys(dy), qs(q), ks(k), vs(v), ys(y);
  const LowAttending a = attending(q, k, mask, keys, qs.heads, ks.heads, vs.heads, options);
  const std::int64_t features = q.shape[3] > v.shape[3] ? q.shape[3] : v.shape[3];
  const float natural = static_cast<float>(options.scale);
  const unsigned H = static_cast<unsigned>(a.H), G = static_cast<unsigned>(a.G),
                 B = static_cast<unsigned>(a.B);
  const float *const lse = logsumexp.as<float>(), *const deltas = delta.as<float>();
  int shift = 0;
  while (8 << shift < v.shape[3]) ++shift;
  const dim3 rows(blocks_of(ceil_div(a.T_, kDeltaThreads >> shift)), H, B);
  const auto sums = q.dtype == DType::bfloat16 ? &low_delta_kernel<BFloat16> : &low_delta_kernel<Float16>;
  launch(sums, rows, dim3(kDeltaThreads), 0, dys.heads, ys.heads, delta.as<float>(), a.T_, shift);
  if ((wanted == Wgmma::only || wanted == Wgmma::also_untried) &&
      attention_wgmma_backward(q.dtype, a, dys.heads, q.shape[3], v.shape[3], lse, deltas, dq, dk, dv,
                               natural))
    return;
  if (wanted == Wgmma::only) no_wgmma();
  with_head(q.dtype, features, mask || keys || !(a.scale > 0), [&]<class Number, int kD, bool kMasked>() {
    constexpr std::size_t kShared = HeadTile<kD>::bytes(6 * kTile);
    launch(&keys_kernel<Number, kD, kMasked>, dim3(blocks_of(ceil_div(a.S, kTile)), G, B), dim3(kMmaThreads),
           kShared + 4 * kTile * sizeof(float), a, dys.heads, lse, deltas, LowResults<Number>(dk),
           LowResults<Number>(dv), natural);
    launch(&queries_kernel<Number, kD, kMasked>, dim3(blocks_of(ceil_div(a.T_, kTile)), H, B),
           dim3(kMmaThreads), kShared, a, dys.heads, lse, deltas, LowResults<Number>(dq), natural);
  });
}

}  // namespace ts::cuda
