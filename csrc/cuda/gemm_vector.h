// The product of float32 matrices whose rows are read 16 bytes at a time: gemm_tile.h's additions, bit for
// bit, on larger tiles.
//
// M N K; a tile is 128 x 128 of C, 8 of K at a time, two deep in shared memory; 256 threads have 8 x 8 of C
// each, as four squares of 4 x 4, a warp 32 x 64. In shared memory a row of 128 numbers belongs to one k;
// what lies along K in memory is turned on the way, and groups of 16 are swapped by k / 4 so that this meets
// in no bank. Two blocks share a multiprocessor: to leave them registers, totals of earlier blocks of K wait
// in shared memory.
#pragma once

#include "cuda/gemm_tile.h"

namespace ts::cuda {

constexpr int kVectorTile = 128, kVectorDeep = 8;
constexpr int kVectorTiles = 4 * kVectorDeep * kVectorTile * 4;  // bytes: two stages of two operands
constexpr int kVectorTotals = kVectorTile * kVectorTile * 4;

TS_INLINE float4 load_four(const float* p, int count) {
  if (count >= 4) return *reinterpret_cast<const float4*>(p);
  float4 x = {0, 0, 0, 0};
  if (count > 0) x.x = p[0];
  if (count > 1) x.y = p[1];
  if (count > 2) x.z = p[2];
  return x;
}

// Four numbers along k, or of four rows, to their places in shared memory.
template <bool kAlongK>
TS_INLINE void put_four(float* tile, int row, int deep, float4 x) {
  if constexpr (kAlongK) {
    float* const to = tile + deep * kVectorTile + (row ^ 4 * deep);
    to[0] = x.x, to[kVectorTile] = x.y, to[2 * kVectorTile] = x.z, to[3 * kVectorTile] = x.w;
  } else {
    *reinterpret_cast<float4*>(tile + deep * kVectorTile + (row ^ 16 * (deep / 4))) = x;
  }
}

// One operand's way to shared memory: thread t carries four numbers of a 128 x 8 tile.
template <bool kAlongK>
struct FourCarrier {
  using Operand = Matrix<float>;
  const float* from;
  int advance;  // to those of the next tile
  int count;    // 0 to 4: how many numbers the operand has there; along K 4 or none
  float4 held;

  TS_INLINE static int row() { return static_cast<int>(kAlongK ? threadIdx.x / 2 : threadIdx.x % 32 * 4); }
  TS_INLINE static int deep() { return static_cast<int>(kAlongK ? threadIdx.x % 2 * 4 : threadIdx.x / 32); }

  TS_INLINE FourCarrier(const Matrix<float>& x, std::int64_t first_row, std::int64_t begin) {
    const std::int64_t left = x.rows - first_row - row();
    from = x.data + (first_row + row()) * x.row_stride + (begin + deep()) * x.k_stride;
    advance = static_cast<int>(kVectorDeep * x.k_stride);
    count = left <= 0 ? 0 : kAlongK || left > 4 ? 4 : static_cast<int>(left);
  }
  // left: of K.
  TS_INLINE void fetch(const Matrix<float>&, int left) {
    const int deeper = left - deep();
    held = load_four(from, kAlongK ? (count < deeper ? count : deeper) : deeper > 0 ? count : 0);
    from += advance;
  }
  TS_INLINE void put(float* tile) const { put_four<kAlongK>(tile, row(), deep(), held); }
};

// blockIdx as in gemm_kernel. C: store(m, n, float), and store_four(m, n, float4) where c.fours.
template <class CarrierA, class CarrierB, class C>
__global__ void __launch_bounds__(kGemmThreads, 2)
    gemm_vector_kernel(typename CarrierA::Operand a, typename CarrierB::Operand b, C c, std::int64_t M,
                       std::int64_t N, std::int64_t K, std::int64_t chunk, std::int64_t first_batch) {
  constexpr int kStage = kVectorDeep * kVectorTile;
  float* const shared = reinterpret_cast<float*>(dynamic_shared());
  float4* const totals = reinterpret_cast<float4*>(shared + 4 * kStage) + threadIdx.x;
  a.shift(first_batch + blockIdx.z), b.shift(first_batch + blockIdx.z);
  // Tiles in groups of 8 rows, so that neighbours share A and B in cache.
  const std::int64_t tiles_m = (M + kVectorTile - 1) / kVectorTile;
  const std::int64_t tiles_n = (N + kVectorTile - 1) / kVectorTile;
  const std::int64_t group = blockIdx.x / (8 * tiles_n), in_group = blockIdx.x % (8 * tiles_n);
  const std::int64_t deep = tiles_m - group * 8 < 8 ? tiles_m - group * 8 : 8;
  const int m0 = static_cast<int>(group * 8 + in_group % deep) * kVectorTile;
  const int n0 = static_cast<int>(in_group / deep) * kVectorTile;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int m = warp / 2 * 32 + lane / 8 * 4, n = warp % 2 * 64 + lane % 8 * 4;  // and m + 16, n + 32
  const std::int64_t begin = std::int64_t{blockIdx.y} * chunk, end = begin + chunk < K ? begin + chunk : K;

  CarrierA carry_a(a, m0, begin);
  CarrierB carry_b(b, n0, begin);
  float sums[8][8] = {};
  // Totals are 0 + the first block's sums + the next ones'; where there is one block they stay in registers.
  const auto add_totals = [&](bool first) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      float(&s)[8] = sums[i / 2];
      const int j = i % 2 * 4;
      const float4 x = first ? float4{0, 0, 0, 0} : totals[i * kGemmThreads];
      s[j] = x.x + s[j], s[j + 1] = x.y + s[j + 1], s[j + 2] = x.z + s[j + 2], s[j + 3] = x.w + s[j + 3];
    }
  };
  int left = static_cast<int>(end - begin);
  if (left > 0) {
    carry_a.fetch(a, left), carry_b.fetch(b, left);
    carry_a.put(shared), carry_b.put(shared + 2 * kStage);
  }
  int stage = 0, done = 0;  // done: of K, of this chunk
  for (; left > 0; left -= kVectorDeep, stage ^= 1) {
    __syncthreads();
    const bool more = left > kVectorDeep;
    if (more) carry_a.fetch(a, left - kVectorDeep), carry_b.fetch(b, left - kVectorDeep);
    const float *const at_a = shared + stage * kStage, *const at_b = shared + (2 + stage) * kStage;
#pragma unroll
    for (int p = 0; p < kVectorDeep; ++p) {
      float x[8], y[8];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *reinterpret_cast<Four<float>*>(x + 4 * h) =
            *reinterpret_cast<const Four<float>*>(at_a + p * kVectorTile + ((m + 16 * h) ^ 16 * (p / 4)));
        *reinterpret_cast<Four<float>*>(y + 4 * h) =
            *reinterpret_cast<const Four<float>*>(at_b + p * kVectorTile + (n ^ 16 * (p / 4)) + 32 * h);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) sums[i][j] = multiply_add(x[i], y[j], sums[i][j]);
    }
    if (more) carry_a.put(shared + (stage ^ 1) * kStage), carry_b.put(shared + (2 + (stage ^ 1)) * kStage);
    done += kVectorDeep;
    if (done % kGemmBlock == 0 && more) {
      add_totals(done == kGemmBlock);
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        float(&s)[8] = sums[i / 2];
        const int j = i % 2 * 4;
        totals[i * kGemmThreads] = float4{s[j], s[j + 1], s[j + 2], s[j + 3]};
        s[j] = s[j + 1] = s[j + 2] = s[j + 3] = 0;
      }
    }
  }
  add_totals(done <= kGemmBlock);
  c.shift(first_batch + blockIdx.z, blockIdx.y);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = m0 + m + i / 4 * 16 + i % 4;
    if (row >= M) continue;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int column = n0 + n + 32 * h;
      const float* const s = sums[i] + 4 * h;
      bool stored = false;
      if constexpr (requires { c.fours; })
        if (c.fours && column + 4 <= N) {
          c.store_four(row, column, float4{s[0], s[1], s[2], s[3]});
          stored = true;
        }
      if (!stored) {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (column + e < N) c.store(row, column + e, s[e]);
      }
    }
  }
}

// Whether four numbers beside each other can be read at once.
inline bool in_fours(const Matrix<float>& x, std::int64_t K, std::int64_t batches) {
  const std::int64_t inner = x.along_k ? x.k_stride : x.row_stride;
  const std::int64_t outer = x.along_k ? x.row_stride : x.k_stride, extent = x.along_k ? x.rows : K;
  constexpr std::int64_t kFar = INT32_MAX / kVectorDeep;  // FourCarrier's advance
  if (x.k_stride > kFar || x.k_stride < -kFar) return false;
  return (inner == 1 || (x.along_k ? K : x.rows) == 1) &&
         reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && (extent == 1 || outer % 4 == 0) &&
         (batches == 1 || x.batch % 4 == 0);
}

// Whether the tiles are for such a product.
inline bool vectors_fit(std::int64_t M, std::int64_t N, std::int64_t chunk, std::int64_t blocks) {
  return M > 64 && N > 64 && M <= INT32_MAX - kVectorTile && N <= INT32_MAX - kVectorTile &&
         ceil_div(M, kVectorTile) * ceil_div(N, kVectorTile) * blocks >= multiprocessors() &&
         (chunk <= kGemmBlock || capability() >= 80);  // older ones have 64 KB for a block's tiles and totals
}
template <class CarrierA, class CarrierB, class C>
void launch_vectors(const typename CarrierA::Operand& a, const typename CarrierB::Operand& b, const C& c,
                    std::int64_t M, std::int64_t N, std::int64_t K, std::int64_t batches, std::int64_t chunk,
                    std::int64_t chunks) {
  const std::size_t shared = kVectorTiles + (chunk > kGemmBlock ? kVectorTotals : 0);
  for (std::int64_t first = 0; first < batches; first += 65535) {
    const dim3 grid(blocks_of(ceil_div(M, kVectorTile) * ceil_div(N, kVectorTile)),
                    static_cast<unsigned>(chunks),
                    static_cast<unsigned>(batches - first < 65535 ? batches - first : 65535));
    launch(&gemm_vector_kernel<CarrierA, CarrierB, C>, grid, dim3(kGemmThreads), shared, a, b, c, M, N, K,
           chunk, first);
  }
}

// False where the operands or the size are not for it.
template <class C>
bool gemm_vectors(const Matrix<float>& a, const Matrix<float>& b, const C& c, std::int64_t M, std::int64_t N,
                  std::int64_t K, std::int64_t batches, std::int64_t chunk, std::int64_t chunks) {
  if (!vectors_fit(M, N, chunk, batches * chunks) || !in_fours(a, K, batches) || !in_fours(b, K, batches))
    return false;
  const auto go = [&]<bool kAlongA, bool kAlongB>() {
    launch_vectors<FourCarrier<kAlongA>, FourCarrier<kAlongB>>(a, b, c, M, N, K, batches, chunk, chunks);
  };
  if (a.along_k && b.along_k)
    go.template operator()<true, true>();
  else if (a.along_k)
    go.template operator()<true, false>();
  else if (b.along_k)
    go.template operator()<false, true>();
  else
    go.template operator()<false, false>();
  return true;
}

}  // namespace ts::cuda
