// The product behind gemm and the convolutions: C = A B by tiles, with operands that say how they are read.
//
// M N K; a tile is BM x BN of C, BK of K at a time. 256 threads, each TM x TN of the tile in registers; tiles
// of A and B go global -> registers -> shared memory, two deep, so that the next one is on its way while this
// one is used. Every element of C is a chain of fused multiply-adds in ascending k over blocks of 512, whose
// sums are added in order; K beyond 4096 is cut into chunks (by K alone) for blocks of their own, and
// likewise. So no bit of C depends on tiles, layouts or neighbours. A is read N / BN times, B M / BM times.
//
// An operand tells rows (m of A, n of B) from columns (k): what depends on one alone is computed once.
//   Row row(r); Col col(k); T load(Row, Col)     r and k may lie outside: such elements are 0
//   along_k: whether neighbours in memory are neighbours in k
// A result: void store(m, n, T).
#pragma once

#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kGemmThreads = 256, kGemmBlock = 512;

template <class T>
TS_INLINE T multiply_add(T a, T b, T c) {
  if constexpr (std::is_floating_point_v<T>)
    return fma(Vec<T>(a), Vec<T>(b), Vec<T>(c)).r;
  else
    return (Vec<T>(a) * Vec<T>(b) + Vec<T>(c)).r;
}

// A matrix (or one for each batch) with strides.
template <class T>
struct Matrix {
  using Row = const T*;
  using Col = std::int64_t;
  const T* data;
  std::int64_t batch, row_stride, k_stride, rows;
  bool along_k;
  TS_INLINE void shift(std::int64_t b) { data += b * batch; }
  TS_INLINE Row row(std::int64_t r) const { return r < rows ? data + r * row_stride : nullptr; }
  TS_INLINE Col col(std::int64_t k) const { return k * k_stride; }
  TS_INLINE T load(Row r, Col c) const { return r ? r[c] : T(0); }
};
template <class T>
struct alignas(sizeof(T) * 4 <= 16 ? sizeof(T) * 4 : 16) Four {
  T value[4];
};

// One operand's way from memory to shared memory: thread t carries kItems elements of a BR x BK tile.
template <class T, class Operand, bool kAlongK, int BR, int BK>
struct Carrier {
  static constexpr int kItems = BR * BK / kGemmThreads;
  static constexpr int kRows = kAlongK ? kItems : 1, kCols = kAlongK ? 1 : kItems;
  static_assert(kGemmThreads % BK == 0 && kGemmThreads % BR == 0);
  typename Operand::Row rows[kRows];
  T held[kItems];
  int thread;

  TS_INLINE static int row_of(int t, int j) { return kAlongK ? t / BK + j * (kGemmThreads / BK) : t % BR; }
  TS_INLINE static int col_of(int t, int j) { return kAlongK ? t % BK : t / BR + j * (kGemmThreads / BR); }

  TS_INLINE Carrier(const Operand& x, std::int64_t first_row) : thread(static_cast<int>(threadIdx.x)) {
#pragma unroll
    for (int j = 0; j < kRows; ++j) rows[j] = x.row(first_row + row_of(thread, j));
  }
  TS_INLINE void fetch(const Operand& x, std::int64_t k, std::int64_t end) {
    typename Operand::Col cols[kCols];
#pragma unroll
    for (int j = 0; j < kCols; ++j) cols[j] = x.col(k + col_of(thread, j));
#pragma unroll
    for (int j = 0; j < kItems; ++j)
      held[j] = k + col_of(thread, j) < end ? x.load(rows[kAlongK ? j : 0], cols[kAlongK ? 0 : j]) : T(0);
  }
  TS_INLINE void put(T (*tile)[BR + 4]) const {
#pragma unroll
    for (int j = 0; j < kItems; ++j) tile[col_of(thread, j)][row_of(thread, j)] = held[j];
  }
};

// blockIdx.x: the tile; blockIdx.y: the chunk of K; blockIdx.z: the batch or group, which shifts all three.
template <class T, int BM, int BN, int BK, int TM, int TN, bool kAlongA, bool kAlongB, class A, class B,
          class C>
__global__ void __launch_bounds__(kGemmThreads)
    gemm_kernel(A a, B b, C c, std::int64_t M, std::int64_t N, std::int64_t K, std::int64_t chunk,
                std::int64_t first_batch) {
  static_assert(BM / TM * (BN / TN) == kGemmThreads && TM % 4 == 0 && TN % 4 == 0);
  __shared__ __align__(16) T as[2][BK][BM + 4];
  __shared__ __align__(16) T bs[2][BK][BN + 4];
  constexpr int kAcross = BN / TN;
  const std::int64_t batch = first_batch + blockIdx.z;
  a.shift(batch), b.shift(batch), c.shift(batch, blockIdx.y);
  // Tiles in groups of 8 rows, so that neighbours share A and B in cache.
  const std::int64_t tiles_m = (M + BM - 1) / BM, tiles_n = (N + BN - 1) / BN;
  const std::int64_t group = blockIdx.x / (8 * tiles_n), in_group = blockIdx.x % (8 * tiles_n);
  const std::int64_t deep = tiles_m - group * 8 < 8 ? tiles_m - group * 8 : 8;
  const std::int64_t m0 = (group * 8 + in_group % deep) * BM, n0 = in_group / deep * BN;
  const int tx = static_cast<int>(threadIdx.x) % kAcross, ty = static_cast<int>(threadIdx.x) / kAcross;
  const std::int64_t begin = std::int64_t{blockIdx.y} * chunk, end = begin + chunk < K ? begin + chunk : K;

  Carrier<T, A, kAlongA, BM, BK> carry_a(a, m0);
  Carrier<T, B, kAlongB, BN, BK> carry_b(b, n0);
  T sums[TM][TN] = {}, totals[TM][TN] = {};
  const auto close_block = [&] {
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
      for (int j = 0; j < TN; ++j) {
        totals[i][j] = (Vec<T>(totals[i][j]) + Vec<T>(sums[i][j])).r;
        sums[i][j] = T(0);
      }
  };
  if (begin < end) {
    carry_a.fetch(a, begin, end), carry_b.fetch(b, begin, end);
    carry_a.put(as[0]), carry_b.put(bs[0]);
  }
  int stage = 0;
  for (std::int64_t k = begin; k < end; k += BK, stage ^= 1) {
    __syncthreads();
    const bool more = k + BK < end;
    if (more) carry_a.fetch(a, k + BK, end), carry_b.fetch(b, k + BK, end);
#pragma unroll
    for (int p = 0; p < BK; ++p) {
      T x[TM], y[TN];
#pragma unroll
      for (int i = 0; i < TM; i += 4)
        *reinterpret_cast<Four<T>*>(x + i) =
            *reinterpret_cast<const Four<T>*>(&as[stage][p][i / 4 * (BM * 4 / TM) + ty * 4]);
#pragma unroll
      for (int j = 0; j < TN; j += 4)
        *reinterpret_cast<Four<T>*>(y + j) =
            *reinterpret_cast<const Four<T>*>(&bs[stage][p][j / 4 * (BN * 4 / TN) + tx * 4]);
#pragma unroll
      for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) sums[i][j] = multiply_add(x[i], y[j], sums[i][j]);
    }
    if (more) carry_a.put(as[stage ^ 1]), carry_b.put(bs[stage ^ 1]);
    if ((k - begin) % kGemmBlock == kGemmBlock - BK) close_block();
  }
  close_block();
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    const std::int64_t m = m0 + i / 4 * (BM * 4 / TM) + ty * 4 + i % 4;
    if (m >= M) continue;
#pragma unroll
    for (int j = 0; j < TN; ++j) {
      const std::int64_t n = n0 + j / 4 * (BN * 4 / TN) + tx * 4 + j % 4;
      if (n < N) c.store(m, n, totals[i][j]);
    }
  }
}

// A chunk's sums, in a workspace (chunks, batches, M, N).
template <class T>
struct Partial {
  T* data;
  std::int64_t batches, M, N;
  TS_INLINE void shift(std::int64_t batch, std::int64_t chunk) { data += (chunk * batches + batch) * M * N; }
  bool fours;  // rows of whole fours
  TS_INLINE void store(std::int64_t m, std::int64_t n, T value) const { data[m * N + n] = value; }
  TS_INLINE void store_four(std::int64_t m, std::int64_t n, float4 x) const {
    *reinterpret_cast<float4*>(data + m * N + n) = x;
  }
};
template <class T, class C>
__global__ void add_chunks(const T* partial, std::int64_t chunks, std::int64_t stride, C c, std::int64_t M,
                           std::int64_t N, std::int64_t first_batch) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= M * N) return;
  const std::int64_t batch = first_batch + blockIdx.z;
  T sum = 0;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
    sum = (Vec<T>(sum) + Vec<T>(partial[chunk * stride + batch * M * N + i])).r;
  c.shift(batch, 0);
  c.store(i / N, i % N, sum);
}

template <class T, int BM, int BN, int BK, int TM, int TN, class A, class B, class C>
void gemm_tiles(const A& a, const B& b, const C& c, std::int64_t M, std::int64_t N, std::int64_t K,
                std::int64_t batches, std::int64_t chunk, std::int64_t chunks) {
  const std::int64_t tiles = ceil_div(M, BM) * ceil_div(N, BN);
  for (std::int64_t first = 0; first < batches; first += 65535) {  // the most blocks along z
    const dim3 grid(blocks_of(tiles), static_cast<unsigned>(chunks),
                    static_cast<unsigned>(batches - first < 65535 ? batches - first : 65535));
    const auto go = [&](auto kernel) {
      launch(kernel, grid, dim3(kGemmThreads), 0, a, b, c, M, N, K, chunk, first);
    };
    if (a.along_k && b.along_k)
      go(&gemm_kernel<T, BM, BN, BK, TM, TN, true, true, A, B, C>);
    else if (a.along_k)
      go(&gemm_kernel<T, BM, BN, BK, TM, TN, true, false, A, B, C>);
    else if (b.along_k)
      go(&gemm_kernel<T, BM, BN, BK, TM, TN, false, true, A, B, C>);
    else
      go(&gemm_kernel<T, BM, BN, BK, TM, TN, false, false, A, B, C>);
  }
}

// other(a, b, result, M, N, K, batches, chunk, chunks) may take the tiles' place, with the same additions.
struct NoOther {
  template <class... Args>
  bool operator()(const Args&...) const {
    return false;
  }
};
template <class T, class A, class B, class C, class Other = NoOther>
void product(const A& a, const B& b, const C& c, std::int64_t M, std::int64_t N, std::int64_t K,
             std::int64_t batches, const Other& other = {}) {
  if (M == 0 || N == 0 || batches == 0) return;
  constexpr std::int64_t kChunk = 4096, kMostChunks = 64;
  const std::int64_t chunk = K <= kChunk                 ? (K > 0 ? K : 1)
                             : K <= kChunk * kMostChunks ? kChunk
                                                         : ceil_div(ceil_div(K, kMostChunks), 16) * 16;
  const std::int64_t chunks = K > 0 ? ceil_div(K, chunk) : 1;
  const auto run = [&](const auto& out) {
    if (other(a, b, out, M, N, K, batches, chunk, chunks)) return;
    // Large tiles where they fill the machine.
    if constexpr (sizeof(T) == 4) {
      if (M > 64 && ceil_div(M, 128) * ceil_div(N, 64) * batches * chunks >= multiprocessors())
        return gemm_tiles<T, 128, 64, 16, 8, 4>(a, b, out, M, N, K, batches, chunk, chunks);
    }
    gemm_tiles<T, 64, 64, 16, 4, 4>(a, b, out, M, N, K, batches, chunk, chunks);
  };
  if (chunks == 1) return run(c);
  const Workspace room(chunks * batches * M * N * static_cast<std::int64_t>(sizeof(T)));
  run(Partial<T>{room.as<T>(), batches, M, N, N % 4 == 0});
  for (std::int64_t first = 0; first < batches; first += 65535) {
    const dim3 grid(blocks_of(ceil_div(M * N, 256)), 1,
                    static_cast<unsigned>(batches - first < 65535 ? batches - first : 65535));
    launch(&add_chunks<T, C>, grid, dim3(256), 0, static_cast<const T*>(room.as<T>()), chunks,
           batches * M * N, c, M, N, first);
  }
}

}  // namespace ts::cuda
