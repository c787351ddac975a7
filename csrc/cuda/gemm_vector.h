// The product of float32 matrices whose rows are read 16 bytes at a time: gemm_tile.h's additions, bit for
// bit, on larger tiles.
//
// M N K; a tile is 128 x 128 of C, 8 of K at a time, three deep in shared memory; four warps have 64 x 64 of
// C each, a thread 16 x 8 as eight squares of 4 x 4: a step of k is 24 numbers from shared memory for 128
// multiply-adds, which leaves a quarter of its rate. In shared memory a row of 128 numbers belongs to one k.
// What lies along M or N in memory goes there by cp.async, what lies along K through registers, which turn
// it; the second four of k begin 16 numbers later, so that this meets in no bank. Fragments are loaded a step
// ahead, across tiles too. Two blocks share a multiprocessor: to leave them registers, totals of earlier
// blocks of K wait in shared memory.
#pragma once

#include "cuda/gemm_tile.h"

namespace ts::cuda {

constexpr int kVectorTile = 128, kVectorDeep = 8, kVectorThreads = 128, kVectorStages = 3;
constexpr int kVectorStrip = kVectorDeep * kVectorTile + 16;  // numbers of an operand's stage
constexpr int kVectorTiles = kVectorStages * 2 * kVectorStrip * 4,
              kVectorTotals = kVectorTile * kVectorTile * 4;

TS_INLINE constexpr int vector_place(int row, int deep) { return deep * kVectorTile + deep / 4 * 16 + row; }

TS_INLINE float4 load_four(const float* p, int count) {
  if (count >= 4) return *reinterpret_cast<const float4*>(p);
  float4 x = {0, 0, 0, 0};
  if (count > 0) x.x = p[0];
  if (count > 1) x.y = p[1];
  if (count > 2) x.z = p[2];
  return x;
}

// An operand's way to shared memory: a thread carries two fours of a 128 x 8 tile. fetch() is for one tile
// after the other, with what is left of K from that tile on (kWhole: at least 8, and whole() is true). Along
// K it loads the fours of two rows into registers, which put() writes to the tile; else it starts their
// copies.
struct FoursAlongK {
  static constexpr bool kHolds = true;
  static constexpr int kApart = kVectorTile / 2;
  float4 held[2];
  TS_INLINE static int row() { return static_cast<int>(threadIdx.x / 2); }
  TS_INLINE static int deep() { return static_cast<int>(threadIdx.x % 2 * 4); }
  TS_INLINE void put(float* tile) const {
    float* const to = tile + vector_place(row(), deep());
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      to[i * kApart] = held[i].x, to[i * kApart + kVectorTile] = held[i].y;
      to[i * kApart + 2 * kVectorTile] = held[i].z, to[i * kApart + 3 * kVectorTile] = held[i].w;
    }
  }
};
// Of the same four rows, at k and k + 4.
struct FoursAcrossK {
  static constexpr bool kHolds = false;
  TS_INLINE static int row() { return static_cast<int>(threadIdx.x % 32 * 4); }
  TS_INLINE static int deep() { return static_cast<int>(threadIdx.x / 32); }
  TS_INLINE void put(float*) const {}
};

template <bool kAlongK>
struct FourCarrier : FoursAlongK {
  using Operand = Matrix<float>;
  const unsigned char* from;
  std::int64_t step;  // to the other row
  int rows;           // that the operand has from this thread's first one on

  TS_INLINE FourCarrier(const Matrix<float>& x, std::int64_t first_row, std::int64_t begin) {
    from = reinterpret_cast<const unsigned char*>(x.data + (first_row + row()) * x.row_stride +
                                                  (begin + deep()));
    step = 4 * kApart * x.row_stride;
    rows = static_cast<int>(x.rows - first_row) - row();
  }
  TS_INLINE static bool whole(const Matrix<float>& x, std::int64_t first_row) {
    return x.rows - first_row >= kVectorTile;
  }
  template <bool kWhole>
  TS_INLINE void fetch(const Matrix<float>&, float*, int left) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float* const p = reinterpret_cast<const float*>(from + i * step);
      held[i] =
          kWhole ? *reinterpret_cast<const float4*>(p) : load_four(p, i * kApart < rows ? left - deep() : 0);
    }
    from += 4 * kVectorDeep;
  }
};
template <>
struct FourCarrier<false> : FoursAcrossK {
  using Operand = Matrix<float>;
  const unsigned char* from;
  std::int64_t step;  // to k + 4
  int bytes;          // of the four rows

  TS_INLINE FourCarrier(const Matrix<float>& x, std::int64_t first_row, std::int64_t begin) {
    const std::int64_t left = x.rows - first_row - row();
    from =
        reinterpret_cast<const unsigned char*>(x.data + (first_row + row()) + (begin + deep()) * x.k_stride);
    step = 16 * x.k_stride;
    bytes = left <= 0 ? 0 : left > 4 ? 16 : static_cast<int>(left) * 4;
  }
  TS_INLINE static bool whole(const Matrix<float>& x, std::int64_t first_row) {
    return x.rows - first_row >= kVectorTile;
  }
  template <bool kWhole>
  TS_INLINE void fetch(const Matrix<float>&, float* tile, int left) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_async(tile + vector_place(row(), deep()) + i * vector_place(0, 4), from,
                 kWhole                  ? 16
                 : deep() + 4 * i < left ? bytes
                                         : 0);  // of 0 bytes the address is not looked at
      from += step;
    }
  }
};

// blockIdx as in gemm_kernel. C: store(m, n, float), and store_four(m, n, float4) where c.fours.
template <class CarrierA, class CarrierB, class C>
__global__ void __launch_bounds__(kVectorThreads, 2)
    gemm_vector_kernel(typename CarrierA::Operand a, typename CarrierB::Operand b, C c, std::int64_t M,
                       std::int64_t N, std::int64_t K, std::int64_t chunk, std::int64_t first_batch) {
  constexpr int kTilesOfBlock = kGemmBlock / kVectorDeep;
  float4* const totals = reinterpret_cast<float4*>(dynamic_shared() + kVectorTiles) + threadIdx.x;
  a.shift(first_batch + blockIdx.z), b.shift(first_batch + blockIdx.z);
  // Tiles in groups of 8 rows, so that neighbours share A and B in cache.
  const std::int64_t tiles_m = (M + kVectorTile - 1) / kVectorTile;
  const std::int64_t tiles_n = (N + kVectorTile - 1) / kVectorTile;
  const std::int64_t group = blockIdx.x / (8 * tiles_n), in_group = blockIdx.x % (8 * tiles_n);
  const std::int64_t deep = tiles_m - group * 8 < 8 ? tiles_m - group * 8 : 8;
  const int m0 = static_cast<int>(group * 8 + in_group % deep) * kVectorTile;
  const int n0 = static_cast<int>(in_group / deep) * kVectorTile;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int m = warp / 2 * 64 + lane / 8 * 4, n = warp % 2 * 64 + lane % 8 * 4;  // and m + 16 h, n + 32
  const std::int64_t begin = std::int64_t{blockIdx.y} * chunk, end = begin + chunk < K ? begin + chunk : K;

  CarrierA carry_a(a, m0, begin);
  CarrierB carry_b(b, n0, begin);
  float sums[16][8] = {};
  // Totals are 0 + the first block's sums + the next ones'; where there is one block they stay in registers.
  const auto add_totals = [&](bool first) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float(&s)[8] = sums[i / 2];
      const int j = i % 2 * 4;
      const float4 x = first ? float4{0, 0, 0, 0} : totals[i * kVectorThreads];
      s[j] = x.x + s[j], s[j + 1] = x.y + s[j + 1], s[j + 2] = x.z + s[j + 2], s[j + 3] = x.w + s[j + 3];
    }
  };

  // Tiles are fetched two ahead, and what is held then put down one ahead. Stages by their bytes.
  constexpr int kStage = 2 * kVectorStrip * 4;
  const auto after = [](int stage) { return stage == (kVectorStages - 1) * kStage ? 0 : stage + kStage; };
  const auto at = [&](int bytes) { return reinterpret_cast<float*>(dynamic_shared() + bytes); };
  const int depth = static_cast<int>(end - begin), tiles = (depth + kVectorDeep - 1) / kVectorDeep;
  int left = depth;  // of K, from the next tile to be fetched on
  int used = 0, next = kStage, last = 2 * kStage;
  const auto fetch_a = [&]<bool kWhole>(int to) { carry_a.template fetch<kWhole>(a, at(to), left); };
  const auto fetch_b = [&]<bool kWhole>(int to) {
    carry_b.template fetch<kWhole>(b, at(to) + kVectorStrip, left);
  };
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    fetch_a.template operator()<false>(tile * kStage), fetch_b.template operator()<false>(tile * kStage);
    commit_copies();
    left -= kVectorDeep;
    if (tile == 0) carry_a.put(at(0)), carry_b.put(at(0) + kVectorStrip);
  }

  float x[2][16], y[2][8];
  const auto load = [&](int step, int to) {
#pragma unroll
    for (int h = 0; h < 4; ++h)
      *reinterpret_cast<Four<float>*>(x[to] + 4 * h) =
          *reinterpret_cast<const Four<float>*>(at(used + 4 * m) + vector_place(16 * h, step));
#pragma unroll
    for (int h = 0; h < 2; ++h)
      *reinterpret_cast<Four<float>*>(y[to] + 4 * h) =
          *reinterpret_cast<const Four<float>*>(at(used + 4 * n) + kVectorStrip + vector_place(32 * h, step));
  };
  const auto next_tile_there = [&] {
    wait_copies<kVectorStages - 2>();
    __syncthreads();  // everybody's copies; and nobody reads the last stage any more
  };
  // One multiply-add for each of the six loads: those of a tile's first step end the tile before it, so that
  // the compiler does not put the barrier and the loads last.
  const auto is_early = [](int i, int j) { return i % 4 == 0 && j % 4 == 0; };
  const auto multiply = [&](int step, bool early, bool late) {
#pragma unroll
    for (int i = 0; i < 16; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (is_early(i, j) ? early : late)
          sums[i][j] = multiply_add(x[step % 2][i], y[step % 2][j], sums[i][j]);
  };
  const auto multiply_tile = [&]<bool kWhole>() {
#pragma unroll
    for (int step = 0; step < kVectorDeep; ++step) {
      if (step + 1 < kVectorDeep) {
        load(step + 1, (step + 1) % 2);
      } else {
        next_tile_there();
        used = next, next = last, last = after(last), left -= kVectorDeep;
        load(0, 0);  // after the last tile they are nobody's
      }
      multiply(step, step > 0, true);
      if (step == 0 && !CarrierA::kHolds) fetch_a.template operator()<kWhole>(last);
      if (step == 1 && !CarrierB::kHolds) fetch_b.template operator()<kWhole>(last);
      if (step == 1) commit_copies();
      if (step == 5) carry_a.put(at(next));
      if (step == 6) {
        carry_b.put(at(next) + kVectorStrip);
        if (CarrierA::kHolds) fetch_a.template operator()<kWhole>(last);
        if (CarrierB::kHolds) fetch_b.template operator()<kWhole>(last);
      }
    }
  };
  next_tile_there();
  load(0, 0);
  const int whole = CarrierA::whole(a, m0) && CarrierB::whole(b, n0) ? depth / kVectorDeep - 2 : 0;
  for (int tile = 0; tile < tiles;) {
    const int stop = tile + kTilesOfBlock < tiles ? tile + kTilesOfBlock : tiles;
    const bool first = tile == 0;
    multiply(0, true, false);
    for (const int until = whole < stop ? whole : stop - 1; tile < until; ++tile) {
      multiply_tile.template operator()<true>();
      multiply(0, true, false);
    }
    for (;;) {
      multiply_tile.template operator()<false>();
      if (++tile == stop) break;
      multiply(0, true, false);
    }
    if (tile == tiles) break;
    add_totals(first);
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float(&s)[8] = sums[i / 2];
      const int j = i % 2 * 4;
      totals[i * kVectorThreads] = float4{s[j], s[j + 1], s[j + 2], s[j + 3]};
      s[j] = s[j + 1] = s[j + 2] = s[j + 3] = 0;
    }
  }
  wait_copies<0>();
  add_totals(depth <= kGemmBlock);
  c.shift(first_batch + blockIdx.z, blockIdx.y);
#pragma unroll
  for (int i = 0; i < 16; ++i) {
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
  return (inner == 1 || (x.along_k ? K : x.rows) == 1) &&
         reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && (extent == 1 || outer % 4 == 0) &&
         (batches == 1 || x.batch % 4 == 0);
}

// Whether the tiles are for such a product.
inline bool vectors_fit(std::int64_t M, std::int64_t N, std::int64_t blocks) {
  return capability() >= 80 && M > 64 && N > 64 && M <= INT32_MAX - kVectorTile &&
         N <= INT32_MAX - kVectorTile &&
         ceil_div(M, kVectorTile) * ceil_div(N, kVectorTile) * blocks >= multiprocessors();
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
    launch(&gemm_vector_kernel<CarrierA, CarrierB, C>, grid, dim3(kVectorThreads), shared, a, b, c, M, N, K,
           chunk, first);
  }
}

// False where the operands or the size are not for it.
template <class C>
bool gemm_vectors(const Matrix<float>& a, const Matrix<float>& b, const C& c, std::int64_t M, std::int64_t N,
                  std::int64_t K, std::int64_t batches, std::int64_t chunk, std::int64_t chunks) {
  if (!vectors_fit(M, N, batches * chunks) || !in_fours(a, K, batches) || !in_fours(b, K, batches))
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
