// Attention in bfloat16 and float16 by wgmma (Shah et al. 2024): heads of 64 or 128 features without masks,
// causal or in a window. 2 T S (D + E) flops forward.
//
// A block has 128 queries of one head. One warpgroup asks the copy engine for the queries and, kStages ahead,
// for keys and values by 128; two have 64 queries each. While the tensor cores add the last tile's values, a
// warpgroup's other instructions turn the next tile's scores into exponentials. These become the first
// operand of the second product where they are, in registers: a 16 x 16 fragment of it is two 16 x 8
// fragments of the scores, rounded.
//
// Bits: as in attention_mma.cu, in tiles that lie at multiples of 128 keys: a query's result depends on its
// own row, the keys and the values alone. Not those of attention_mma.cu, whose tiles have 64.
#pragma once

#include "cuda/attention_mma.h"
#include "cuda/hopper.h"

namespace ts::cuda {

constexpr int kWgmmaQueries = 128, kWgmmaKeys = 128, kAttentionThreads = 384, kAttentionConsumers = 256;

// In shared memory a tile of 128 rows is kD / 64 boxes of 128 rows of 128 bytes.
template <int kD>
struct AttentionRoom {
  static constexpr int kBox = 128 * 128, kTile = kD / 64 * kBox, kStages = kD == 64 ? 4 : 2;
  static constexpr int kKeys = kTile, kValues = kKeys + kStages * kTile;  // behind the queries
  static constexpr int kBarriers = kValues + kStages * kTile, kBytes = kBarriers + 8 * (4 * kStages + 1);
  static_assert(kBytes <= 232448);
};

// Features, rows, heads, batches: boxes of 64 features of `box` rows.
inline bool encode_heads(TensorMap& map, const LowHeads& x, DType number, std::int64_t rows,
                         std::int64_t heads, std::int64_t batches, int box) {
  // Of an axis of one the stride is not looked at, but must be valid.
  const auto stride = [&](std::int64_t extent, std::int64_t bytes) { return extent > 1 ? bytes : x.width; };
  const std::int64_t strides[3] = {stride(rows, x.row), stride(heads, x.head), stride(batches, x.batch)};
  for (const std::int64_t s : strides)
    if (s <= 0) return false;  // one row, head or batch for all, or backwards
  return encode_tensor_map(map, x.data, number, {x.width / 2, rows, heads, batches}, strides, box);
}

// A step of 16: of q k', both in shared memory, and of p v, p in registers.
template <class Number, int kCount>
TS_INLINE void warpgroup_scores(float (&d)[kCount], std::uint64_t a, std::uint64_t b, int add) {
  if constexpr (std::is_same_v<Number, BFloat16>)
    warpgroup_multiply_bfloat16<0, 0>(d, a, b, add);
  else
    warpgroup_multiply_float16<0, 0>(d, a, b, add);
}
template <class Number, int kCount>
TS_INLINE void warpgroup_values(float (&d)[kCount], std::uint32_t (&a)[4], std::uint64_t b) {
  if constexpr (std::is_same_v<Number, BFloat16>)
    warpgroup_accumulate_bfloat16<1>(d, a, b);
  else
    warpgroup_accumulate_float16<1>(d, a, b);
}

template <class Number, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    attention_wgmma_kernel(const __grid_constant__ TensorMap map_q, const __grid_constant__ TensorMap map_k,
                           const __grid_constant__ TensorMap map_v, const LowAttending a,
                           const LowResults<Number> y, float* logsumexp) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Room = AttentionRoom<kD>;
  constexpr int kKeys = kWgmmaKeys, kBoxes = kD / 64, kStages = Room::kStages;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  unsigned char* const shared = dynamic_shared();
  Barrier* const full_q = reinterpret_cast<Barrier*>(shared + Room::kBarriers);
  Barrier *const full_k = full_q + 1, *const full_v = full_k + kStages;
  Barrier *const empty_k = full_v + kStages, *const empty_v = empty_k + kStages;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(kAllLanes, thread / kWarp, 0), group = warp / 4;
  const int h = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z), g = h / (a.H / a.G);
  // The last queries first: they see the most keys if causal.
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kWgmmaQueries;
  const int begin = a.first_key(t0) / kKeys * kKeys, end = a.end_key(t0 + kWgmmaQueries);
  const int tiles = begin < end ? (end - begin + kKeys - 1) / kKeys : 0;
  if (thread == 0) {
    barrier_start(full_q, 1);
    for (int i = 0; i < kStages; ++i) {
      barrier_start(full_k + i, 1), barrier_start(full_v + i, 1);
      barrier_start(empty_k + i, kAttentionConsumers / kWarp);
      barrier_start(empty_v + i, kAttentionConsumers / kWarp);
    }
    barriers_started();
  }
  __syncthreads();

  if (group == 0) {
    fewer_registers<40>();
    if (thread != 0 || tiles == 0) return;
    const auto bring = [&](unsigned char* tile, const TensorMap* map, Barrier* there, int row, int head) {
      barrier_expect(there, Room::kTile);
#pragma unroll
      for (int i = 0; i < kBoxes; ++i) copy_box(tile + i * Room::kBox, map, there, 64 * i, row, head, b);
    };
    prefetch_map(&map_q), prefetch_map(&map_k), prefetch_map(&map_v);
    bring(shared, &map_q, full_q, t0, h);
    for (int n = 0, stage = 0, parity = 1; n < tiles; ++n) {
      barrier_wait(empty_k + stage, parity);  // the first time at once
      bring(shared + Room::kKeys + stage * Room::kTile, &map_k, full_k + stage, begin + n * kKeys, g);
      barrier_wait(empty_v + stage, parity);
      bring(shared + Room::kValues + stage * Room::kTile, &map_v, full_v + stage, begin + n * kKeys, g);
      if (++stage == kStages) stage = 0, parity ^= 1;
    }
  } else {
    more_registers<232>();
    const int lane = thread % kWarp, first = t0 + 64 * (group - 1), own = first + warp % 4 * 16 + lane / 4;
    float s[kKeys / 2], out[kD / 2] = {}, high[2] = {-infinity, -infinity}, total[2] = {}, factor[2];
    std::uint32_t p[kKeys / 16][4];
    const auto release = [&](Barrier* empty) {
      if (lane == 0) barrier_arrive(empty);
    };
    const auto begin_scores = [&](int stage) {
      const std::uint64_t q = matrix_descriptor(shared + (group - 1) * 8192, 16),
                          k = matrix_descriptor(shared + Room::kKeys + stage * Room::kTile, 16);
      hold(s);
      products_begin();
#pragma unroll
      for (int step = 0; step < kD / 16; ++step) {
        const int box = step / 4 * (Room::kBox >> 4), within = step % 4 * 2;
        warpgroup_scores<Number>(s, q + box + within, k + box + within, step > 0);
      }
      products_commit();
    };
    const auto begin_values = [&](int stage) {
      // Of features 64 on: in the next box. A step of 16 keys is 16 rows of 128 bytes.
      const std::uint64_t v = matrix_descriptor(shared + Room::kValues + stage * Room::kTile, Room::kBox);
      hold(out);
#pragma unroll
      for (auto& fragment : p) hold(fragment);
      products_begin();
#pragma unroll
      for (int step = 0; step < kKeys / 16; ++step) warpgroup_values<Number>(out, p[step], v + step * 128);
      products_commit();
    };
    const auto values_there = [&] {
      products_wait<0>();
      hold(out);
#pragma unroll
      for (auto& fragment : p) hold(fragment);
    };
    // Scores of the keys from j0 on become exponentials, in place.
    const auto exponentials = [&](int j0) {
      if (!a.plain(first, first + 64, j0, j0 + kKeys))
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i)
          if (a.hidden(own + i % 4 / 2 * 8, j0 + i / 4 * 8 + lane % 4 * 2 + i % 2)) s[i] = -infinity;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float most = s[2 * r];
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
          most = ::fmaxf(most, ::fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]));
        most = ::fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
        most = ::fmaxf(high[r], ::fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2)) * a.scale);
        const float shift = most > -infinity ? most : 0.0f;
        factor[r] = exp2_near(high[r] - shift);
        high[r] = most;
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& x = s[4 * j + 2 * r + e];
            x = exp2_near(x * a.scale - shift);
            sum += x;
          }
        total[r] = ::fmaf(total[r], factor[r], sum);
      }
    };
    const auto to_operand = [&] {
#pragma unroll
      for (int step = 0; step < kKeys / 16; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          p[step][i] = pack_numbers<Number>(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
    };

    if (tiles > 0) {
      barrier_wait(full_q, 0);
      barrier_wait(full_k, 0);
      begin_scores(0);
      products_wait<0>();
      hold(s);
      release(empty_k);
      exponentials(begin);
      to_operand();
    }
    struct Turn {
      int stage, parity;
    };
    const auto next = [](Turn t) {
      return t.stage + 1 < kStages ? Turn{t.stage + 1, t.parity} : Turn{0, t.parity ^ 1};
    };
    Turn before{0, 0}, now = next(before);
    if (tiles > 1) barrier_wait(full_k + now.stage, now.parity);
    for (int n = 1; n < tiles; ++n) {
      begin_scores(now.stage);
      barrier_wait(full_v + before.stage, before.parity);
      begin_values(before.stage);
      products_wait<1>();
      hold(s);
      release(empty_k + now.stage);
      exponentials(begin + n * kKeys);
      // The next keys are waited for here, in a loop of its own, also because ptxas would else wait for the
      // values before the exponentials.
      const Turn after = next(now);
      if (n + 1 < tiles) barrier_wait(full_k + after.stage, after.parity);
      values_there();
      release(empty_v + before.stage);
#pragma unroll
      for (int i = 0; i < kD / 2; ++i) out[i] *= factor[i % 4 / 2];
      to_operand();
      before = now, now = after;
    }
    if (tiles > 0) {
      barrier_wait(full_v + before.stage, before.parity);
      begin_values(before.stage);
      values_there();
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = total[r];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      // A query that sees no key: y = 0, and every exponential of backward will be 0.
      const bool none = sum == 0.0f;
      const float inverse = none ? 0.0f : 1.0f / sum;
      const int t = own + 8 * r;
#pragma unroll
      for (int j = 0; j < kD / 8; ++j)
        y.store(b, h, t, 8 * j + lane % 4 * 2, out[4 * j + 2 * r] * inverse,
                out[4 * j + 2 * r + 1] * inverse);
      if (lane % 4 == 0 && t < a.T_)
        logsumexp[(std::int64_t{b} * a.H + h) * a.T_ + t] = none ? infinity : high[r] + ::log2f(sum);
    }
  }
#endif
}

}  // namespace ts::cuda
