// The product on tensor cores: C = A B by tiles, in bfloat16, float16 or tf32, with sums in float32.
//
// M N K; a block has BM x BN of C, a warp of it WM x WN, as 16 x 8 fragments of mma.sync. Tiles of A and B
// are 128 bytes deep in K and come by cp.async, kStages - 1 of them on their way while one is used. In shared
// memory a tile has its operand's own order: rows of 128 bytes along K, or a row of BM (BN) numbers for each
// k, whose fragments ldmatrix transposes on the way. The 16-byte pieces of row r are swapped by r % 8
// (exclusive or), so that neither the copies nor the eight rows of an ldmatrix meet in a bank.
//
// Bits: an element is one chain over k, 16 (tf32: 8) at a time; K beyond 4096 is cut into chunks (by K alone)
// whose sums are added in order, by one block or, where tiles are few, by several and a second pass. So no
// bit depends on tiles, layouts or neighbours.
//
// kSplit: float32 as a sum of three bfloat16 numbers x0 + x1 + x2, exactly. Of the nine products the six with
// i + j <= 2 are added, the small ones first; what is left out is below 2^-26 of a product. Tensor cores cut
// off where they should round, so that sums in them drift towards zero: after 64 of K they are added to
// float32 totals.
#pragma once

#include "cuda/gemm.h"
#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kTileBytes = 128;  // of K
constexpr int kGemmStages = 3;

// A tile's way to shared memory.
template <int kItem, bool kAlongK, int BR, int kThreads>
struct TileCopy {
  static constexpr int kPack = 16 / kItem, BK = kTileBytes / kItem;
  static constexpr int kAcross = kAlongK ? 8 : BR / kPack;  // pieces of a row in shared memory
  static constexpr int kRows = kAlongK ? BR : BK, kRowBytes = 16 * kAcross, kBytes = kRows * kRowBytes;
  static constexpr int kTurns = kRows * kAcross / kThreads, kStep = kThreads / kAcross;
  static_assert(kThreads % kAcross == 0 && kRows % kStep == 0);

  TS_INLINE static int place(int row, int piece) {
    // tf32 is read by single numbers where K is outside: four rows of two pieces are to be apart.
    const int swap = kItem == 4 && !kAlongK ? 2 * (row & 3) : row & 7;
    return row * kRowBytes + ((piece ^ swap) << 4);
  }
  static_assert(kStep % 8 == 0);  // a thread's pieces are swapped alike

  static constexpr int kRoom = 0;  // of shared memory beside the tiles
  TS_INLINE static void fill(const MmaOperand&, unsigned char*, std::int64_t) {}
  // Where rows of results lie, if not c.m from one to the next.
  TS_INLINE static const std::int64_t* places(const unsigned char*) { return nullptr; }

  const unsigned char* from;  // this thread's first piece of the tile to come
  std::int64_t step;          // to its next one
  int at;                     // its place in shared memory
  int rows;                   // that the operand has from the tile's first on

  TS_INLINE TileCopy(const MmaOperand& x, const unsigned char* data, const unsigned char*, std::int64_t first,
                     std::int64_t k0) {
    const int piece = static_cast<int>(threadIdx.x) % kAcross, row = static_cast<int>(threadIdx.x) / kAcross;
    at = place(row, piece);
    rows = x.rows - first < BR ? static_cast<int>(x.rows - first) : BR;
    from = data + ((kAlongK ? first : k0) + row) * x.pitch + ((kAlongK ? k0 : first) + piece * kPack) * kItem;
    step = kStep * x.pitch;
  }
  TS_INLINE void advance(const MmaOperand& x) { from += kAlongK ? std::int64_t{kTileBytes} : BK * x.pitch; }
  // Whether all rows are the operand's.
  TS_INLINE bool whole() const { return rows == BR; }
  // left: how much of K there is from the tile's beginning on; `plane` bytes on. kWhole: nothing is outside.
  template <bool kWhole>
  TS_INLINE void start(const MmaOperand&, unsigned char* tile, std::int64_t plane, int left) const {
    const unsigned char* source = from + plane;
    if constexpr (kWhole) {
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn, source += step) {
        computed_here(source);
        copy_async(tile + at + turn * (kStep * kRowBytes), source, 16);
      }
    } else {
      const int along = static_cast<int>(threadIdx.x) % kAcross * kPack;
      const int row = static_cast<int>(threadIdx.x) / kAcross;
      const int stop = kAlongK ? left : rows, last = kAlongK ? rows : left;
      const int whole = along + kPack <= stop ? 16 : along < stop ? (stop - along) * kItem : 0;
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn, source += step) {
        const int bytes = row + turn * kStep < last ? whole : 0;  // of 0 bytes the address is not looked at
        copy_async(tile + at + turn * (kStep * kRowBytes), source, bytes);
      }
    }
  }
};

// What copies an operand's tiles: conv_mma.h has others.
template <class Operand, int kItem, bool kAlongK, int BR, int kThreads>
struct CopyOf {
  using type = TileCopy<kItem, kAlongK, BR, kThreads>;
};

// Fragments of a tile: kCount of 16 rows of A, or of 8 columns of B, at one step of 32 bytes of K.
template <class Number, bool kAlongK, int BR, int kThreads>
struct TileFragments {
  static constexpr int kItem = sizeof(Number);
  using Copy = TileCopy<kItem, kAlongK, BR, kThreads>;

  TS_INLINE static std::uint32_t number(const unsigned char* tile, int k, int r) {
    // Not memcpy: that loads a byte or two at a time.
    return *reinterpret_cast<const std::uint32_t*>(tile + Copy::place(k, r / 4) + 4 * (r % 4));
  }
  TS_INLINE static void ready(std::uint32_t (&f)[4]) {
    if constexpr (std::is_same_v<Number, Tf32>)
#pragma unroll
      for (int i = 0; i < 4; ++i) f[i] = round_tf32(f[i]);
  }
  // a[0..3] of the 16 rows from r.
  TS_INLINE static void rows16(std::uint32_t (&f)[4], const unsigned char* tile, int step, int r, int lane) {
    const int low = lane & 7, second = lane >> 3 & 1, fourth = lane >> 4;
    if constexpr (kAlongK) {
      load_matrices(f, tile + Copy::place(r + low + 8 * second, 2 * step + fourth));
    } else if constexpr (kItem == 2) {
      load_matrices_transposed(f, tile + Copy::place(16 * step + low + 8 * fourth, r / 8 + second));
    } else {
      const int g = lane / 4, t = lane % 4;
      f[0] = number(tile, 8 * step + t, r + g), f[1] = number(tile, 8 * step + t, r + g + 8);
      f[2] = number(tile, 8 * step + t + 4, r + g), f[3] = number(tile, 8 * step + t + 4, r + g + 8);
    }
    ready(f);
  }
  // b0, b1 of the 8 columns from r, then of the 8 after them.
  TS_INLINE static void columns16(std::uint32_t (&f)[4], const unsigned char* tile, int step, int r,
                                  int lane) {
    const int low = lane & 7, second = lane >> 3 & 1, fourth = lane >> 4;
    if constexpr (kAlongK) {
      load_matrices(f, tile + Copy::place(r + low + 8 * fourth, 2 * step + second));
    } else if constexpr (kItem == 2) {
      load_matrices_transposed(f, tile + Copy::place(16 * step + low + 8 * second, r / 8 + fourth));
    } else {
      const int g = lane / 4, t = lane % 4;
      f[0] = number(tile, 8 * step + t, r + g), f[1] = number(tile, 8 * step + t + 4, r + g);
      f[2] = number(tile, 8 * step + t, r + g + 8), f[3] = number(tile, 8 * step + t + 4, r + g + 8);
    }
    ready(f);
  }
};

template <class Number>
TS_INLINE void multiply_fragments(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                  std::uint32_t b1) {
  if constexpr (std::is_same_v<Number, BFloat16>)
    multiply_bfloat16(d, a, b0, b1);
  else if constexpr (std::is_same_v<Number, Float16>)
    multiply_float16(d, a, b0, b1);
  else
    multiply_tf32(d, a, b0, b1);
}

// The distance of rows of results in shared memory: fragments of 8 rows meet no bank twice.
template <int BN>
constexpr int kStagedRow = BN + 8;

// blockIdx.x: the tile; blockIdx.y: the chunk of K where chunks are apart; blockIdx.z: the batch.
template <class Number, int BM, int BN, int WM, int WN, bool kAlongA, bool kAlongB, bool kSplit,
          class A = MmaOperand, class B = MmaOperand>
__global__ void __launch_bounds__(BM / WM * (BN / WN) * 32)
    gemm_mma_kernel(const A a, const B b, const LowResult c, std::int64_t M, std::int64_t N, std::int64_t K,
                    std::int64_t chunk, std::int64_t first_batch) {
  constexpr int kThreads = BM / WM * (BN / WN) * 32, kItem = sizeof(Number), BK = kTileBytes / kItem;
  using CopyA = typename CopyOf<A, kItem, kAlongA, BM, kThreads>::type;
  using CopyB = typename CopyOf<B, kItem, kAlongB, BN, kThreads>::type;
  using FragmentsA = TileFragments<Number, kAlongA, BM, kThreads>;
  using FragmentsB = TileFragments<Number, kAlongB, BN, kThreads>;
  constexpr int kStage = CopyA::kBytes + CopyB::kBytes, kTilesM = WM / 16, kTilesN = WN / 8;
  static_assert(kTilesN % 2 == 0 && kGemmStages * kStage >= BM * kStagedRow<BN> * 4);
  unsigned char* const shared = dynamic_shared();
  unsigned char* const room = shared + kGemmStages * kStage;
  const std::int64_t batch = first_batch + blockIdx.z;
  // Tiles in groups of 8 rows, so that neighbours share A and B in cache.
  const std::int64_t tiles_m = (M + BM - 1) / BM, tiles_n = (N + BN - 1) / BN;
  const std::int64_t group = blockIdx.x / (8 * tiles_n), in_group = blockIdx.x % (8 * tiles_n);
  const std::int64_t deep = tiles_m - group * 8 < 8 ? tiles_m - group * 8 : 8;
  const std::int64_t m0 = (group * 8 + in_group % deep) * BM, n0 = in_group / deep * BN;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int wm = warp / (BN / WN) * WM, wn = warp % (BN / WN) * WN;
  const unsigned char *const a_data = a.data + batch * a.batch, *const b_data = b.data + batch * b.batch;

  float sums[kTilesM][kTilesN][4];
  [[maybe_unused]] float totals[kSplit ? kTilesM : 1][kSplit ? kTilesN : 1][4];
  const auto clear = [](auto& x) {
#pragma unroll
    for (auto& row : x)
#pragma unroll
      for (auto& tile : row)
#pragma unroll
        for (float& y : tile) y = 0;
  };

  CopyA::fill(a, room, m0);
  std::int64_t begin = std::int64_t{blockIdx.y} * chunk;
  const std::int64_t stop = c.partial && c.apart && begin + chunk < K ? begin + chunk : K;
  for (; begin == 0 || begin < stop; begin += chunk) {
    const std::int64_t end = begin + chunk < stop ? begin + chunk : stop;
    const int depth = static_cast<int>(end - begin);
    const int tiles = (depth + BK - 1) / BK * (kSplit ? kPairs : 1);
    clear(sums);
    if constexpr (kSplit) clear(totals);
    CopyA copy_a(a, a_data, room, m0, begin);
    CopyB copy_b(b, b_data, room + CopyA::kRoom, n0, begin);
    int left = depth, pair = 0, started = 0;
    unsigned char *filled = shared, *used = shared;
    const auto next_stage = [&](unsigned char* stage) {
      return stage == shared + (kGemmStages - 1) * kStage ? shared : stage + kStage;
    };
    const auto start_a = [&]<bool kWhole>() {
      if (!kWhole && started >= tiles) return;
      copy_a.template start<kWhole>(a, filled, kSplit ? plane_of_a(pair) * a.plane : 0, left);
    };
    const auto start_b = [&]<bool kWhole>() {
      if (kWhole || started < tiles) {
        copy_b.template start<kWhole>(b, filled + CopyA::kBytes, kSplit ? plane_of_b(pair) * b.plane : 0,
                                      left);
        if (!kSplit || ++pair == kPairs) copy_a.advance(a), copy_b.advance(b), left -= BK, pair = 0;
        ++started;
        filled = next_stage(filled);
      }
      commit_copies();
    };
    __syncthreads();  // the last chunk's readers are done
#pragma unroll
    for (int s = 0; s < kGemmStages - 1; ++s)
      start_a.template operator()<false>(), start_b.template operator()<false>();
    // Fragments are loaded a step ahead, the next tile's before this one's last products: the tensor cores
    // have work while a barrier or a load is waited for.
    std::uint32_t fa[2][kTilesM][4], fb[2][kTilesN / 2][4];
    const auto load = [&](int step, int to) {
#pragma unroll
      for (int i = 0; i < kTilesM; ++i) FragmentsA::rows16(fa[to][i], used, step, wm + 16 * i, lane);
#pragma unroll
      for (int j = 0; j < kTilesN / 2; ++j)
        FragmentsB::columns16(fb[to][j], used + CopyA::kBytes, step, wn + 16 * j, lane);
    };
    const auto next_tile_there = [&] {
      wait_copies<kGemmStages - 2>();
      __syncthreads();  // everybody's copies; and nobody reads the last stage any more
    };
    [[maybe_unused]] int summed = 0;  // products of planes in `sums`' time
    const auto multiply_tile = [&]<bool kWhole>() {
      constexpr int kSteps = kTileBytes / 32;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        if (step + 1 < kSteps) {
          load(step + 1, (step + 1) % 2);
        } else {
          next_tile_there();
          used = next_stage(used);
          load(0, 0);  // after the last tile they are nobody's
        }
#pragma unroll
        for (int i = 0; i < kTilesM; ++i)
#pragma unroll
          for (int j = 0; j < kTilesN; ++j)
            multiply_fragments<Number>(sums[i][j], fa[step % 2][i], fb[step % 2][j / 2][j % 2 * 2],
                                       fb[step % 2][j / 2][j % 2 * 2 + 1]);
        if (step == 0) start_a.template operator()<kWhole>();
        if (step == 1) start_b.template operator()<kWhole>();
      }
      if constexpr (kSplit) {
        if (summed >= kPairs - 2) {  // the small products' sum apart from the large ones'
#pragma unroll
          for (int i = 0; i < kTilesM; ++i)
#pragma unroll
            for (int j = 0; j < kTilesN; ++j)
#pragma unroll
              for (int e = 0; e < 4; ++e) totals[i][j][e] += sums[i][j][e];
          clear(sums);
        }
        summed = summed == kPairs - 1 ? 0 : summed + 1;
      }
    };
    next_tile_there();
    load(0, 0);
    int tile = 0;
    if (copy_a.whole() && copy_b.whole())
      for (const int whole = depth / BK * (kSplit ? kPairs : 1) - (kGemmStages - 1); tile < whole; ++tile)
        multiply_tile.template operator()<true>();
    for (; tile < tiles; ++tile) multiply_tile.template operator()<false>();
    // Through shared memory, so that rows are written as they lie.
    wait_copies<0>();
    __syncthreads();
    float* const staged = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int i = 0; i < kTilesM; ++i)
#pragma unroll
      for (int j = 0; j < kTilesN; ++j)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float2* const at = reinterpret_cast<float2*>(
              staged + (wm + 16 * i + 8 * h + lane / 4) * kStagedRow<BN> + wn + 8 * j + lane % 4 * 2);
          if constexpr (kSplit)
            *at = float2{totals[i][j][2 * h], totals[i][j][2 * h + 1]};
          else
            *at = float2{sums[i][j][2 * h], sums[i][j][2 * h + 1]};
        }
    __syncthreads();
    float* const to =
        !c.partial ? nullptr : c.partial + ((c.apart ? blockIdx.y * c.batches : 0) + batch) * M * N;
    const bool first = begin == 0 || c.apart, last = end == K && !c.apart;
    const auto write = [&]<class To>(To) {
      write_tile<To, BM, BN, kStagedRow<BN>, kThreads>(staged, c, to, first, last, batch, m0, n0, M, N,
                                                       CopyA::places(room));
    };
    if (c.dtype == DType::float32 || c.apart)
      write(0.0f);
    else if (c.dtype == DType::bfloat16)
      write(BFloat16{});
    else
      write(Float16{});
    if (K == 0) return;
  }
}

// The chunks' sums in order, for few tiles: partial (chunks, batches, M, N), kEach neighbours a thread.
template <int kEach>
__global__ void add_partials(const LowResult c, std::int64_t chunks, std::int64_t M, std::int64_t N,
                             std::int64_t first_batch) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kEach;
  if (i >= M * N) return;
  struct alignas(4 * kEach) Pack {
    float x[kEach];
  };
  const std::int64_t batch = first_batch + blockIdx.z, stride = c.batches * M * N;
  const float* from = c.partial + batch * M * N + i;
  Pack sum = *reinterpret_cast<const Pack*>(from);
#pragma unroll 4
  for (std::int64_t chunk = 1; chunk < chunks; ++chunk) {
    const Pack x = *reinterpret_cast<const Pack*>(from + chunk * stride);
#pragma unroll
    for (int e = 0; e < kEach; ++e) sum.x[e] = sum.x[e] + x.x[e];
  }
#pragma unroll
  for (int e = 0; e < kEach; ++e) c.store(batch, i / N, i % N + e, sum.x[e]);
}
// Their launch, for M N of results.
inline void add_chunks_of(const LowResult& c, std::int64_t chunks, std::int64_t M, std::int64_t N) {
  const bool four = N % 4 == 0;
  for (std::int64_t first = 0; first < c.batches; first += 65535) {
    const dim3 grid(blocks_of(ceil_div(M * N, four ? 1024 : 256)), 1,
                    static_cast<unsigned>(c.batches - first < 65535 ? c.batches - first : 65535));
    launch(four ? &add_partials<4> : &add_partials<1>, grid, dim3(256), 0, c, chunks, M, N, first);
  }
}

}  // namespace ts::cuda
