// Attention's gradients by wgmma (Shah et al. 2024), for what attention_wgmma.h takes. Two passes without
// atomics, 2 T S (4 D + 3 E) flops.
//
// keys: a block has 128 keys of one head of keys, its two multiplying warpgroups 64 each, and goes through
// the queries by 64, those of all heads of its group: s = k q' and dp = v dy' with keys as rows, p and ds
// become the first operand of dv += p dy and dk += ds q where they are, in registers. queries: 128 queries of
// a head, keys by 64, dq += ds k. One thread asks the copy engine for the tiles, kStages ahead; a second warp
// of its warpgroup brings the statistics of a tile's queries.
//
// A tile's exponentials are taken while dp is multiplied, and ds while p dy is; the next tile's scores follow
// the last product of this one at once.
//
// Bits: sums over queries (keys) go in ascending order in tiles that lie at multiples of 64, and what is
// hidden adds exact zeros, so a row of dq, dk or dv depends on no other row of its kind.
#pragma once

#include "cuda/attention_wgmma.h"

namespace ts::cuda {

constexpr int kBackwardRows = 128, kBackwardTile = 64;

// In shared memory a tile of 64 rows is kD / 64 boxes of 64 rows of 128 bytes. Two tiles each of the operands
// that stay, then stages of two tiles, then of each stage 64 logsumexps and 64 deltas.
template <int kD>
struct BackwardRoom {
  static constexpr int kBox = 64 * 128, kTile = kD / 64 * kBox, kStages = 4, kStage = 2 * kTile;
  static constexpr int kRing = 4 * kTile, kStats = kRing + kStages * kStage;
  static constexpr int kBarriers = kStats + kStages * 512, kBytes = kBarriers + 8 * (2 * kStages + 1);
  static_assert(kBytes <= 232448);
};

// The ring's stages in turn.
template <int kStages>
struct BackwardTurn {
  int stage, parity;
  TS_INLINE BackwardTurn next() const {
    return stage + 1 < kStages ? BackwardTurn{stage + 1, parity} : BackwardTurn{0, parity ^ 1};
  }
};

// d (64 x 64) = a b', of tiles of 64 rows.
template <class Number, int kD>
TS_INLINE void begin_scores(float (&d)[32], const unsigned char* a, const unsigned char* b) {
  const std::uint64_t left = matrix_descriptor(a, 16), right = matrix_descriptor(b, 16);
  hold(d);
  products_begin();
#pragma unroll
  for (int step = 0; step < kD / 16; ++step) {
    const int at = step / 4 * (BackwardRoom<kD>::kBox >> 4) + step % 4 * 2;
    warpgroup_scores<Number>(d, left + at, right + at, step > 0);
  }
  products_commit();
}
// d (64 x kD) += a b, a 64 x 64, b a tile of 64 rows.
template <class Number, int kD>
TS_INLINE void begin_sums(float (&d)[kD / 2], std::uint32_t (&a)[16], const unsigned char* b) {
  const std::uint64_t right = matrix_descriptor(b, BackwardRoom<kD>::kBox);
  hold(d), hold(a);
  products_begin();
#pragma unroll
  for (int step = 0; step < 4; ++step)
    warpgroup_values<Number>(d, reinterpret_cast<std::uint32_t(&)[4]>(a[4 * step]), right + step * 128);
  products_commit();
}
template <class Number>
TS_INLINE void to_operand(std::uint32_t (&a)[16], const float (&x)[32]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) a[i] = pack_numbers<Number>(x[2 * i], x[2 * i + 1]);
}

template <int kD>
TS_INLINE void bring_tile(unsigned char* tile, const TensorMap* map, Barrier* there, int row, int head,
                          int b) {
#pragma unroll
  for (int i = 0; i < kD / 64; ++i)
    copy_box(tile + i * BackwardRoom<kD>::kBox, map, there, 64 * i, row, head, b);
}

template <class Number, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    keys_wgmma_kernel(const __grid_constant__ TensorMap map_q, const __grid_constant__ TensorMap map_k,
                      const __grid_constant__ TensorMap map_v, const __grid_constant__ TensorMap map_dy,
                      const LowAttending a, const float* logsumexp, const float* delta,
                      const LowResults<Number> dk, const LowResults<Number> dv, float natural) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Room = BackwardRoom<kD>;
  using Turn = BackwardTurn<Room::kStages>;
  constexpr int kStages = Room::kStages, kTile = Room::kTile;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  unsigned char* const shared = dynamic_shared();
  float* const stats = reinterpret_cast<float*>(shared + Room::kStats);
  Barrier* const full_own = reinterpret_cast<Barrier*>(shared + Room::kBarriers);
  Barrier *const full = full_own + 1, *const empty = full + kStages;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  const int warp = __shfl_sync(kAllLanes, thread / kWarp, 0), group = warp / 4;
  const int g = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z), heads = a.H / a.G;
  // The first keys, which the most queries see if causal, come first.
  const int j0 = static_cast<int>(blockIdx.x) * kBackwardRows;
  const int begin = a.first_query(j0) / kBackwardTile * kBackwardTile, end = a.end_query(j0 + kBackwardRows);
  const int tiles = begin < end ? (end - begin + kBackwardTile - 1) / kBackwardTile : 0,
            count = tiles * heads;
  if (thread == 0) {
    barrier_start(full_own, 1);
    for (int i = 0; i < kStages; ++i)
      barrier_start(full + i, 2), barrier_start(empty + i, kAttentionConsumers / kWarp);
    barriers_started();
  }
  __syncthreads();

  if (group == 0) {
    fewer_registers<24>();
    if (count == 0 || warp > 1 || (warp == 0 && lane != 0)) return;
    if (warp == 0) {
      prefetch_map(&map_q), prefetch_map(&map_k), prefetch_map(&map_v), prefetch_map(&map_dy);
      barrier_expect(full_own, 4 * kTile);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        bring_tile<kD>(shared + i * kTile, &map_k, full_own, j0 + 64 * i, g, b);
        bring_tile<kD>(shared + (2 + i) * kTile, &map_v, full_own, j0 + 64 * i, g, b);
      }
    }
    Turn now{0, 1};  // the first time a stage is empty at once
    for (int h = g * heads; h < (g + 1) * heads; ++h)
      for (int t0 = begin; t0 < end; t0 += kBackwardTile, now = now.next()) {
        if (warp == 0) {
          unsigned char* const tile = shared + Room::kRing + now.stage * Room::kStage;
          barrier_wait(empty + now.stage, now.parity);
          barrier_expect(full + now.stage, Room::kStage);
          bring_tile<kD>(tile, &map_q, full + now.stage, t0, h, b);
          bring_tile<kD>(tile + kTile, &map_dy, full + now.stage, t0, h, b);
        } else {
          const std::int64_t row = (std::int64_t{b} * a.H + h) * a.T_;
          float x[4];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int t = t0 + lane + kWarp * i;
            // Beyond the last query every exponential is 0.
            x[i] = t < a.T_ ? logsumexp[row + t] : infinity, x[2 + i] = t < a.T_ ? delta[row + t] : 0.0f;
          }
          barrier_wait(empty + now.stage, now.parity);
#pragma unroll
          for (int i = 0; i < 4; ++i) stats[now.stage * 128 + lane + kWarp * i] = x[i];
          __syncwarp();
          if (lane == 0) barrier_arrive(full + now.stage);
        }
      }
  } else {
    more_registers<240>();
    const int first = j0 + 64 * (group - 1), own = first + warp % 4 * 16 + lane / 4;
    const unsigned char* const keys = shared + (group - 1) * kTile;
    const unsigned char* const values = keys + 2 * kTile;
    float to_k[kD / 2] = {}, to_v[kD / 2] = {};
    // With 128 features registers are few: p and ds have the same, one after the other.
    constexpr int kDs = kD == 128 ? 0 : 1;
    std::uint32_t operands[kDs + 1][16];
    const auto tile = [&](Turn t) { return shared + Room::kRing + t.stage * Room::kStage; };
    const auto release = [&](Turn t) {
      if (lane == 0) barrier_arrive(empty + t.stage);
    };
    Turn before{-1, 0}, now{0, 0};
    int n = 0, t0 = begin;
    const int own_begin = a.first_query(first) / kBackwardTile * kBackwardTile,
              own_end = a.end_query(first + 64);
    const auto step = [&] {
      now = now.next(), ++n, t0 += kBackwardTile;
      if (t0 >= end) t0 = begin;
    };
    // Past tiles whose queries see none of this warpgroup's keys. Tile n is there already.
    const auto skip = [&] {
      while (n < count && (t0 < own_begin || t0 >= own_end)) {
        release(now);
        step();
        if (n < count) barrier_wait(full + now.stage, now.parity);
      }
    };
    if (count > 0) {
      barrier_wait(full_own, 0);
      barrier_wait(full, 0);
      skip();
    }
    if (n < count) {
      hold(to_k), hold(to_v);  // zeros that came later would end the overlap: ptxas waits for each product
      do {
        const float2* const lse = reinterpret_cast<const float2*>(stats + now.stage * 128) + lane % 4;
        const Turn after = now.next();
        float s[32], dp[32];
        begin_scores<Number, kD>(s, keys, tile(now));
        begin_scores<Number, kD>(dp, values, tile(now) + kTile);
        products_wait<1>();  // also for dk of the tile before
        hold(s), hold(to_k), hold(operands[0]), hold(operands[kDs]);
        if (before.stage >= 0) release(before);
        if (!a.plain(t0, t0 + kBackwardTile, first, first + 64))
#pragma unroll
          for (int i = 0; i < 32; ++i)
            if (a.hidden(t0 + i / 4 * 8 + lane % 4 * 2 + i % 2, own + i % 4 / 2 * 8)) s[i] = -infinity;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const float2 x = lse[4 * j];
#pragma unroll
          for (int e = 0; e < 4; ++e)
            s[4 * j + e] = exp2_near(::fmaf(s[4 * j + e], a.scale, e % 2 ? -x.y : -x.x));
        }
        // The next tile is waited for here, in a loop of its own, also because ptxas would else wait for dp
        // before the exponentials.
        if (n + 1 < count) barrier_wait(full + after.stage, after.parity);
        to_operand<Number>(operands[0], s);
        begin_sums<Number, kD>(to_v, operands[0], tile(now) + kTile);
        products_wait<1>();
        hold(dp);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const float2 x = lse[32 + 4 * j];
#pragma unroll
          for (int e = 0; e < 4; ++e) dp[4 * j + e] = s[4 * j + e] * (dp[4 * j + e] - (e % 2 ? x.y : x.x));
        }
        if constexpr (kD == 128) {
          products_wait<0>();
          hold(to_v), hold(operands[0]);
        }
        to_operand<Number>(operands[kDs], dp);
        begin_sums<Number, kD>(to_k, operands[kDs], tile(now));
        if constexpr (kD == 128) {  // also for want of registers: the other warpgroup fills the gap
          products_wait<0>();
          hold(to_k), hold(operands[0]);
        }
        before = now;
        step();
        skip();
      } while (n < count);
      products_wait<0>();
      hold(to_k), hold(to_v), hold(operands[0]), hold(operands[kDs]);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      dv.store_row(b, g, own + 8 * r, lane % 4 * 2, to_v, 2 * r, 1.0f);
      dk.store_row(b, g, own + 8 * r, lane % 4 * 2, to_k, 2 * r, natural);
    }
  }
#endif
}

template <class Number, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    queries_wgmma_kernel(const __grid_constant__ TensorMap map_q, const __grid_constant__ TensorMap map_k,
                         const __grid_constant__ TensorMap map_v, const __grid_constant__ TensorMap map_dy,
                         const LowAttending a, const float* logsumexp, const float* delta,
                         const LowResults<Number> dq, float natural) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Room = BackwardRoom<kD>;
  using Turn = BackwardTurn<Room::kStages>;
  constexpr int kStages = Room::kStages, kTile = Room::kTile;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  unsigned char* const shared = dynamic_shared();
  Barrier* const full_own = reinterpret_cast<Barrier*>(shared + Room::kBarriers);
  Barrier *const full = full_own + 1, *const empty = full + kStages;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  const int warp = __shfl_sync(kAllLanes, thread / kWarp, 0), group = warp / 4;
  const int h = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z), g = h / (a.H / a.G);
  // The last queries first: they see the most keys if causal.
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBackwardRows;
  const int begin = a.first_key(t0) / kBackwardTile * kBackwardTile, end = a.end_key(t0 + kBackwardRows);
  if (thread == 0) {
    barrier_start(full_own, 1);
    for (int i = 0; i < kStages; ++i)
      barrier_start(full + i, 1), barrier_start(empty + i, kAttentionConsumers / kWarp);
    barriers_started();
  }
  __syncthreads();

  if (group == 0) {
    fewer_registers<40>();
    if (thread != 0 || begin >= end) return;
    prefetch_map(&map_q), prefetch_map(&map_k), prefetch_map(&map_v), prefetch_map(&map_dy);
    barrier_expect(full_own, 4 * kTile);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      bring_tile<kD>(shared + i * kTile, &map_q, full_own, t0 + 64 * i, h, b);
      bring_tile<kD>(shared + (2 + i) * kTile, &map_dy, full_own, t0 + 64 * i, h, b);
    }
    Turn now{0, 1};  // the first time a stage is empty at once
    for (int j0 = begin; j0 < end; j0 += kBackwardTile, now = now.next()) {
      unsigned char* const tile = shared + Room::kRing + now.stage * Room::kStage;
      barrier_wait(empty + now.stage, now.parity);
      barrier_expect(full + now.stage, Room::kStage);
      bring_tile<kD>(tile, &map_k, full + now.stage, j0, g, b);
      bring_tile<kD>(tile + kTile, &map_v, full + now.stage, j0, g, b);
    }
  } else {
    more_registers<232>();
    const int first = t0 + 64 * (group - 1), own = first + warp % 4 * 16 + lane / 4;
    const unsigned char* const queries = shared + (group - 1) * kTile;
    const unsigned char* const gradients = queries + 2 * kTile;
    float to_q[kD / 2] = {}, lse[2], del[2];
    std::uint32_t ds[16];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int t = own + 8 * r;
      const std::int64_t row = (std::int64_t{b} * a.H + h) * a.T_ + t;
      lse[r] = t < a.T_ ? logsumexp[row] : infinity, del[r] = t < a.T_ ? delta[row] : 0.0f;
    }
    const auto tile = [&](Turn t) { return shared + Room::kRing + t.stage * Room::kStage; };
    const auto release = [&](Turn t) {
      if (lane == 0) barrier_arrive(empty + t.stage);
    };
    Turn before{-1, 0}, now{0, 0};
    int j0 = begin;
    const int own_begin = a.first_key(first) / kBackwardTile * kBackwardTile, own_end = a.end_key(first + 64);
    if (begin < end) {
      barrier_wait(full_own, 0);
      barrier_wait(full, 0);
      // Past tiles whose keys are not seen from this warpgroup's queries.
      while (j0 < end && (j0 < own_begin || j0 >= own_end)) {
        release(now);
        now = now.next(), j0 += kBackwardTile;
        if (j0 < end) barrier_wait(full + now.stage, now.parity);
      }
    }
    // Those behind are at most one, which the copying thread needs no room for.
    if (j0 < end) {
      hold(to_q);  // as in the other kernel
      do {
        const Turn after = now.next();
        float s[32], dp[32];
        begin_scores<Number, kD>(s, queries, tile(now));
        begin_scores<Number, kD>(dp, gradients, tile(now) + kTile);
        products_wait<1>();  // also for dq of the tile before
        hold(s), hold(to_q), hold(ds);
        if (before.stage >= 0) release(before);
        if (!a.plain(first, first + 64, j0, j0 + kBackwardTile))
#pragma unroll
          for (int i = 0; i < 32; ++i)
            if (a.hidden(own + i % 4 / 2 * 8, j0 + i / 4 * 8 + lane % 4 * 2 + i % 2)) s[i] = -infinity;
#pragma unroll
        for (int i = 0; i < 32; ++i) s[i] = exp2_near(::fmaf(s[i], a.scale, -lse[i % 4 / 2]));
        if (j0 + kBackwardTile < own_end)
          barrier_wait(full + after.stage, after.parity);  // as in the other kernel
        products_wait<0>();
        hold(dp);
#pragma unroll
        for (int i = 0; i < 32; ++i) dp[i] = s[i] * (dp[i] - del[i % 4 / 2]);
        to_operand<Number>(ds, dp);
        begin_sums<Number, kD>(to_q, ds, tile(now));
        before = now, now = after;
        j0 += kBackwardTile;
      } while (j0 < own_end);
      products_wait<0>();
      hold(to_q), hold(ds);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) dq.store_row(b, h, own + 8 * r, lane % 4 * 2, to_q, 2 * r, natural);
  }
#endif
}

}  // namespace ts::cuda
