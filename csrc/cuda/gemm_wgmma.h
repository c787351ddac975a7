// The product on Hopper's tensor cores: C = A B by wgmma on tiles that the copy engine brings.
//
// M N K; a block has 128 x kBN of C at a time, and goes from tile to tile. One warpgroup asks for the copies,
// kStages ahead; two multiply, each 64 rows. A stage is 128 bytes deep in K, in its operand's own order: rows
// of 128 bytes along K, or slabs of 64 rows of A (columns of B) with a row of 128 bytes for each k; wgmma
// reads both, so no layout needs a transposed copy. The 16-byte pieces of a row are swapped by its number
// modulo 8.
//
// Bits: as in gemm_mma.h an element is one chain over k, 16 at a time, and K beyond 4096 is cut by K alone
// into chunks whose sums are added in order. The instruction's own additions need not be those of mma.sync.
//
// kSplit: a stage has all three planes of both operands, for six products of 64 of K. The five small ones
// have an accumulator of their own; both go to float32 totals after each stage, as in gemm_mma.h.
#pragma once

#include "cuda/gemm.h"
#include "cuda/hopper.h"

namespace ts::cuda {

constexpr int kWgmmaM = 128, kWgmmaThreads = 384, kWgmmaConsumers = 256;

template <class Number, int kBN, bool kSplit>
struct WgmmaRoom {
  static constexpr int kDeep = 128 / sizeof(Number), kPlanes = kSplit ? 3 : 1, kBytesA = kWgmmaM * 128,
                       kBytesB = kBN * 128;
  static constexpr int kStage = kPlanes * (kBytesA + kBytesB), kStages = 196608 / kStage;
  static constexpr int kStaged = 4096;  // of results, a warp
  static constexpr int kBytes = kStages * kStage + kWgmmaConsumers / kWarp * kStaged + 16 * kStages;
  static_assert(kBytes <= 232448);
};

struct WgmmaShape {
  std::int64_t M, N, K, chunk;
  unsigned units, tiles_m, tiles_n;
  int chunks, apart;           // of K, in all and as units of work: then a block has one
  std::int64_t chunk_results;  // from a chunk's results to the next one's, where they are apart
  int batch_of_a, batch_of_b;  // 0 where all batches share the operand
  float* scratch;              // for a block's sums of the chunks before, where they are not
};

struct WgmmaUnit {
  int m0, n0, batch, first_chunk, end_chunk;
  // Tiles in groups of 16 rows, so that blocks at work together share A and B in cache.
  TS_INLINE WgmmaUnit(const WgmmaShape& s, unsigned unit, int width) {
    const unsigned tiles = s.tiles_m * s.tiles_n, z = unit / tiles, tile = unit % tiles;
    const unsigned group = tile / (16 * s.tiles_n), in_group = tile % (16 * s.tiles_n);
    const unsigned deep = s.tiles_m - group * 16 < 16 ? s.tiles_m - group * 16 : 16;
    m0 = static_cast<int>(group * 16 + in_group % deep) * kWgmmaM;
    n0 = static_cast<int>(in_group / deep) * width;
    batch = static_cast<int>(z) / s.apart;
    first_chunk = s.apart > 1 ? static_cast<int>(z) % s.apart : 0;
    end_chunk = s.apart > 1 ? first_chunk + 1 : s.chunks;
  }
};
TS_INLINE int depth_of(const WgmmaShape& s, int chunk) {
  const std::int64_t left = s.K - chunk * s.chunk;
  return static_cast<int>(left < s.chunk ? left : s.chunk);
}

template <bool kAlongK, int kRows>
TS_INLINE void copy_operand(unsigned char* tile, const TensorMap* map, Barrier* b, int row, int k, int batch,
                            int plane) {
  if constexpr (kAlongK) {
    copy_box(tile, map, b, k, row, batch, plane);
  } else {
#pragma unroll
    for (int i = 0; i < kRows / 64; ++i) copy_box(tile + i * 8192, map, b, row + 64 * i, k, batch, plane);
  }
}

template <class Number, int kTurnA, int kTurnB, int kCount>
TS_INLINE void warpgroup_multiply(float (&d)[kCount], std::uint64_t a, std::uint64_t b, int add) {
  if constexpr (std::is_same_v<Number, BFloat16>)
    warpgroup_multiply_bfloat16<kTurnA, kTurnB>(d, a, b, add);
  else if constexpr (std::is_same_v<Number, Float16>)
    warpgroup_multiply_float16<kTurnA, kTurnB>(d, a, b, add);
  else
    warpgroup_multiply_tf32<kTurnA, kTurnB>(d, a, b, add);
}

// A warp's 16 rows of results from m, kBN columns from n0: bias and activation in registers, then through
// `staged` by 256 (128) bytes of a row, so that 16 bytes a thread go to memory. `offset` results on.
template <class To, int kCount>
TS_INLINE void store_fragments(float (&y)[kCount], const LowResult& c, std::int64_t offset,
                               unsigned char* staged, int batch, int m0, int n0, std::int64_t M,
                               std::int64_t N) {
  constexpr int kItem = sizeof(To), kPack = 16 / kItem, kBN = 2 * kCount;
  constexpr int kRow = kBN * kItem % 256 == 0 ? 256 : 128;  // bytes of a row at a time
  constexpr int kColumns = kRow / kItem, kPieces = kRow / 16, kRows = kWarp / kPieces;
  int lane = static_cast<int>(threadIdx.x) % kWarp;
  computed_here(lane);  // or addresses for all tiles would fill the registers
  const int g = lane / 4, t = lane % 4;
  if (c.bias) {
    const std::int64_t first = batch * c.bias_batch;
    if (c.bias_n == 1) {
      const int n = n0 + 2 * t, left = N - n < kBN ? static_cast<int>(N - n) : kBN;
      const auto add = [&](const auto* bias) {
        bias += first + n;
#pragma unroll
        for (int j = 0; j < kBN / 8; ++j) {
          const float low = 8 * j < left ? to_float(bias[8 * j]) : 0.0f;
          const float high = 8 * j + 1 < left ? to_float(bias[8 * j + 1]) : 0.0f;
          y[4 * j] += low, y[4 * j + 1] += high, y[4 * j + 2] += low, y[4 * j + 3] += high;
        }
      };
      if (c.bias_dtype == DType::float32)
        add(static_cast<const float*>(c.bias));
      else if (c.bias_dtype == DType::bfloat16)
        add(static_cast<const BFloat16*>(c.bias));
      else
        add(static_cast<const Float16*>(c.bias));
    } else {
      const float upper = m0 + g < M ? c.bias_at(first + (m0 + g) * c.bias_m) : 0.0f;
      const float lower = m0 + g + 8 < M ? c.bias_at(first + (m0 + g + 8) * c.bias_m) : 0.0f;
#pragma unroll
      for (int j = 0; j < kBN / 8; ++j)
        y[4 * j] += upper, y[4 * j + 1] += upper, y[4 * j + 2] += lower, y[4 * j + 3] += lower;
    }
  }
  if (c.relu)
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] = rectified(y[i]);
  // Piece `low` + 8 `high` of a row, swapped by the row's number: neither a fragment's eight (four) rows nor
  // a row's pieces meet in a bank.
  const auto place = [&](unsigned char* row, int number, int low, int high) {
    return row + ((low ^ (kItem == 2 ? number & 7 : 2 * (number & 3))) << 4) + 128 * high;
  };
  unsigned char* const to_row = staged + g * kRow + (kItem == 2 ? 4 * t : 8 * (t & 1));
  const int piece = lane % kPieces, row0 = lane / kPieces;
  unsigned char* const from_row = staged + row0 * kRow;
  std::int64_t n = n0 + piece * kPack;
  To* to = static_cast<To*>(c.data) + offset + batch * c.batch + (m0 + row0) * c.m + n * c.n;
#pragma unroll
  for (int part = 0; part < kBN / kColumns; ++part, n += kColumns, to += kColumns * c.n) {
    __syncwarp();  // the last part's readers are done
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int i = 4 * (part * kColumns / 8 + j) + 2 * h;
        if constexpr (kItem == 4)
          *reinterpret_cast<float2*>(place(to_row, g, 2 * j % 8 + t / 2, j / 4) + 8 * kRow * h) =
              float2{y[i], y[i + 1]};
        else
          *reinterpret_cast<std::uint32_t*>(place(to_row, g, j % 8, j / 8) + 8 * kRow * h) =
              pack_pair<To>(y[i], y[i + 1]);
      }
    __syncwarp();
    if (n >= N) continue;
    To* at = to;
#pragma unroll
    for (int turn = 0; turn < 16 / kRows; ++turn, at += kRows * c.m) {
      if (m0 + row0 + kRows * turn >= M) break;
      const uint4 pack = *reinterpret_cast<const uint4*>(
          place(from_row, row0 + kRows * (turn % (8 / kRows)), piece % 8, piece / 8) + kRows * kRow * turn);
      if (c.packed && n + kPack <= N) {
        *reinterpret_cast<uint4*>(at) = pack;
      } else {
        To each[kPack];
        memcpy(each, &pack, 16);
#pragma unroll
        for (int e = 0; e < kPack; ++e)
          if (n + e < N) at[e * c.n] = each[e];
      }
    }
  }
}

template <class Number, int kBN, bool kAlongA, bool kAlongB, bool kSplit>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    gemm_wgmma_kernel(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                      const LowResult c, const WgmmaShape s) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Room = WgmmaRoom<Number, kBN, kSplit>;
  constexpr int kStages = Room::kStages, kDeep = Room::kDeep, kPlanes = Room::kPlanes;
  constexpr int kBytesA = Room::kBytesA, kBytesB = Room::kBytesB, kPlanesA = kPlanes * kBytesA;
  unsigned char* const shared = dynamic_shared();
  unsigned char* const staged = shared + kStages * Room::kStage;
  Barrier* const full = reinterpret_cast<Barrier*>(staged + kWgmmaConsumers / kWarp * Room::kStaged);
  Barrier* const empty = full + kStages;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(kAllLanes, thread / kWarp, 0), group = warp / 4;
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i)
      barrier_start(full + i, 1), barrier_start(empty + i, kWgmmaConsumers / kWarp);
    barriers_started();
  }
  __syncthreads();
  int stage = 0, parity = 0;
  const auto next = [&] {
    if (++stage == kStages) stage = 0, parity ^= 1;
  };

  if (group == 0) {
    fewer_registers<40>();
    if (thread != 0) return;
    prefetch_map(&map_a);
    prefetch_map(&map_b);
    for (unsigned unit = blockIdx.x; unit < s.units; unit += gridDim.x) {
      const WgmmaUnit u(s, unit, kBN);
      for (int chunk = u.first_chunk; chunk < u.end_chunk; ++chunk) {
        const int begin = static_cast<int>(chunk * s.chunk), depth = depth_of(s, chunk);
        for (int k = 0; k < depth; k += kDeep, next()) {
          barrier_wait(empty + stage, parity ^ 1);  // the first time at once
          barrier_expect(full + stage, Room::kStage);
          unsigned char* const tile = shared + stage * Room::kStage;
#pragma unroll
          for (int p = 0; p < kPlanes; ++p) {
            copy_operand<kAlongA, kWgmmaM>(tile + p * kBytesA, &map_a, full + stage, u.m0, begin + k,
                                           u.batch * s.batch_of_a, p);
            copy_operand<kAlongB, kBN>(tile + kPlanesA + p * kBytesB, &map_b, full + stage, u.n0, begin + k,
                                       u.batch * s.batch_of_b, p);
          }
        }
      }
    }
  } else {
    more_registers<232>();
    constexpr int kSteps = 4, kCount = kBN / 2, kStepA = kAlongA ? 2 : 128,
                  kStepB = kAlongB ? 2 : 128;  // 16 bytes each
    const int consumer = group - 1;
    float sums[kCount] = {};
    [[maybe_unused]] float large[kSplit ? kCount : 1] = {}, totals[kSplit ? kCount : 1];
    const auto release = [&](int which) {
      if (thread % kWarp == 0) barrier_arrive(empty + which);
    };
    const auto descriptor_a = [&](const unsigned char* tile) {
      return matrix_descriptor(tile + consumer * 8192, kAlongA ? 16 : 8192);
    };
    const auto descriptor_b = [&](const unsigned char* tile) {
      return matrix_descriptor(tile + kPlanesA, kAlongB ? 16 : 8192);
    };
    // The second warpgroup begins some stages after the first, so that one multiplies while the other stores.
    if (!kSplit && consumer == 1 && blockIdx.x < s.units &&
        depth_of(s, WgmmaUnit(s, blockIdx.x, kBN).first_chunk) > 2 * kDeep)
      barrier_wait(full + 2, 0);

    for (unsigned unit = blockIdx.x; unit < s.units; unit += gridDim.x) {
      const WgmmaUnit u(s, unit, kBN);
      for (int chunk = u.first_chunk; chunk < u.end_chunk; ++chunk) {
        const int blocks = (depth_of(s, chunk) + kDeep - 1) / kDeep;
        if constexpr (kSplit) {
#pragma unroll
          for (int i = 0; i < kCount; ++i) totals[i] = 0;
          for (int block = 0; block < blocks; ++block, next()) {
            barrier_wait(full + stage, parity);
            const std::uint64_t a = descriptor_a(shared + stage * Room::kStage);
            const std::uint64_t b = descriptor_b(shared + stage * Room::kStage);
            hold(sums), hold(large);
            products_begin();
#pragma unroll
            for (int pair = 0; pair < kPairs; ++pair) {
              const std::uint64_t in_a = a + plane_of_a(pair) * (kBytesA >> 4);
              const std::uint64_t in_b = b + plane_of_b(pair) * (kBytesB >> 4);
#pragma unroll
              for (int step = 0; step < kSteps; ++step) {
                if (pair < kPairs - 1)
                  warpgroup_multiply<Number, !kAlongA, !kAlongB>(sums, in_a + step * kStepA,
                                                                 in_b + step * kStepB, pair > 0 || step > 0);
                else
                  warpgroup_multiply<Number, !kAlongA, !kAlongB>(large, in_a + step * kStepA,
                                                                 in_b + step * kStepB, step > 0);
              }
              if (pair >= kPairs - 2) products_commit();
            }
            products_wait<1>();
            hold(sums);
#pragma unroll
            for (int i = 0; i < kCount; ++i) totals[i] += sums[i];
            products_wait<0>();
            hold(large);
            release(stage);
#pragma unroll
            for (int i = 0; i < kCount; ++i) totals[i] += large[i];
          }
        } else {
          int before = 0;
          for (int block = 0; block < blocks; ++block, next()) {
            barrier_wait(full + stage, parity);
            const std::uint64_t a = descriptor_a(shared + stage * Room::kStage);
            const std::uint64_t b = descriptor_b(shared + stage * Room::kStage);
            hold(sums);
            products_begin();
#pragma unroll
            for (int step = 0; step < kSteps; ++step)
              warpgroup_multiply<Number, !kAlongA, !kAlongB>(sums, a + step * kStepA, b + step * kStepB,
                                                             block > 0 || step > 0);
            products_commit();
            hold(sums);
            products_wait<1>();
            if (block > 0) release(before);
            before = stage;
          }
          products_wait<0>();
          hold(sums);
          release(before);
        }
        const auto finish = [&](float(&y)[kCount]) {
          if (u.end_chunk - u.first_chunk > 1) {
            // A thread keeps its own sums: nobody else reads them.
            float4* const kept = reinterpret_cast<float4*>(s.scratch) +
                                 blockIdx.x * static_cast<std::int64_t>(kCount / 4 * kWgmmaConsumers) +
                                 (thread - 128);
            if (chunk > u.first_chunk)
#pragma unroll
              for (int i = 0; i < kCount / 4; ++i) {
                const float4 x = kept[i * kWgmmaConsumers];
                y[4 * i] = x.x + y[4 * i], y[4 * i + 1] = x.y + y[4 * i + 1];
                y[4 * i + 2] = x.z + y[4 * i + 2], y[4 * i + 3] = x.w + y[4 * i + 3];
              }
            if (chunk + 1 < u.end_chunk) {
#pragma unroll
              for (int i = 0; i < kCount / 4; ++i)
                kept[i * kWgmmaConsumers] = float4{y[4 * i], y[4 * i + 1], y[4 * i + 2], y[4 * i + 3]};
              return;
            }
          }
          const std::int64_t offset = u.first_chunk * s.chunk_results;
          unsigned char* const mine = staged + (warp - 4) * Room::kStaged;
          const int m = u.m0 + (warp - 4) * 16;
          if (std::is_same_v<Number, Tf32> || c.dtype == DType::float32)
            store_fragments<float>(y, c, offset, mine, u.batch, m, u.n0, s.M, s.N);
          else if constexpr (!std::is_same_v<Number, Tf32>)
            store_fragments<Number>(y, c, offset, mine, u.batch, m, u.n0, s.M, s.N);
        };
        if constexpr (kSplit)
          finish(totals);
        else
          finish(sums);
      }
    }
  }
#endif
}

}  // namespace ts::cuda
