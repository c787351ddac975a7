// gemm on tensor cores: operands as gemm_mma.h wants them, tiles and chunks, launches.
//
// An operand whose rows are not 16-byte aligned, or that has no unit stride, is first copied (reads and
// writes it once); so is one of `split`, into its three planes.
#include <optional>

#include "cuda/divider.h"
#include "cuda/gemm.h"
#include "cuda/gemm_mma.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

constexpr std::int64_t kChunk = 4096, kMostChunks = 64;

// x (B, R, C), any strides, -> (B, R, pitch), C contiguous, floats rounded where To is narrower. A thread
// makes 16 bytes of y at a time, kArranged times; pieces: of a row. kPacks: whole ones are read by 16 bytes.
constexpr int kArrangeThreads = 256, kArranged = 2;
template <class To>
constexpr int kPiece = 16 / static_cast<int>(sizeof(To));
template <class T, class To, bool kPacks>
__global__ void __launch_bounds__(kArrangeThreads)
    arrange_kernel(const T* x, std::int64_t batch, std::int64_t row, std::int64_t column, To* y,
                   std::int64_t R, std::int64_t C, std::int64_t pitch, const Divider pieces,
                   std::uint32_t count) {
  constexpr int kEach = kPiece<To>, kWide = 16 / static_cast<int>(sizeof(T));
  x += blockIdx.z * batch, y += blockIdx.z * R * pitch;
  alignas(16) T values[kArranged][kEach];
  const std::uint32_t first = blockIdx.x * (kArrangeThreads * kArranged) + threadIdx.x;
#pragma unroll
  for (int u = 0; u < kArranged; ++u) {
    const std::uint32_t i = first + u * kArrangeThreads;
    if (i >= count) break;
    const std::uint32_t r = pieces.quotient(i);
    const std::int64_t c = std::int64_t{i - r * pieces.divisor} * kEach;
    const T* const from = x + r * row + c * column;
    if (kPacks && c + kEach <= C) {
#pragma unroll
      for (int e = 0; e < kEach; e += kWide) {
        const uint4 pack = *reinterpret_cast<const uint4*>(from + e);
        memcpy(values[u] + e, &pack, 16);
      }
    } else {
#pragma unroll
      for (int e = 0; e < kEach; ++e) values[u][e] = c + e < C ? from[e * column] : T{};
    }
  }
#pragma unroll
  for (int u = 0; u < kArranged; ++u) {
    const std::uint32_t i = first + u * kArrangeThreads;
    if (i >= count) break;
    const std::uint32_t r = pieces.quotient(i);
    To* const to = y + r * pitch + std::int64_t{i - r * pieces.divisor} * kEach;
    if constexpr (std::is_same_v<To, BFloat16>) {
      store_pack(to, values[u]);
    } else {
      alignas(16) To out[kEach];
#pragma unroll
      for (int e = 0; e < kEach; ++e)
        if constexpr (std::is_same_v<To, Tf32>)
          out[e] = {round_tf32(ts::detail::bits_of(values[u][e]))};
        else
          out[e] = values[u][e];
      uint4 pack;
      memcpy(&pack, out, 16);
      *reinterpret_cast<uint4*>(to) = pack;
    }
  }
}

// Its launches, for `batches` of x from `at` on.
template <class T, class To>
void arrange(const View& x, std::int64_t at, std::int64_t batch, std::int64_t row, std::int64_t column, To* y,
             std::int64_t R, std::int64_t C, std::int64_t pitch, unsigned batches, bool packs) {
  const T* from = static_cast<const T*>(x.data) + at;
  const std::int64_t pieces = pitch / kPiece<To>, most = INT32_MAX / pieces;
  if (R <= most || batches == 1) {
    for (std::int64_t first = 0; first < R; first += most) {
      const std::int64_t count = (R - first < most ? R - first : most) * pieces;
      launch(packs ? &arrange_kernel<T, To, true> : &arrange_kernel<T, To, false>,
             dim3(blocks_of(ceil_div(count, kArrangeThreads * kArranged)), 1, batches), dim3(kArrangeThreads),
             0, from + first * row, batch, row, column, y + first * pitch, R, C, pitch, Divider(pieces),
             static_cast<std::uint32_t>(count));
    }
  } else {
    for (unsigned b = 0; b < batches; ++b)
      arrange<T, To>(x, at + b * batch, batch, row, column, y + b * R * pitch, R, C, pitch, 1, packs);
  }
}

// x = x0 + x1 + x2. Four neighbours a thread, with kFours from aligned rows.
template <bool kFours>
__global__ void split_kernel(const float* x, std::int64_t batch, std::int64_t row, std::int64_t column,
                             std::uint16_t* y, std::int64_t R, std::int64_t C, std::int64_t pitch,
                             std::int64_t plane) {
  const std::int64_t c = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * 4;
  const std::int64_t b = blockIdx.z;
  for (std::int64_t r = blockIdx.y; r < R; r += gridDim.y) {
    if (c >= C) continue;
    const float* const from = x + b * batch + r * row + c * column;
    float left[4] = {};
    if (kFours && c + 4 <= C) {
      const float4 four = *reinterpret_cast<const float4*>(from);
      left[0] = four.x, left[1] = four.y, left[2] = four.z, left[3] = four.w;
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (c + e < C) left[e] = from[e * column];
    }
    std::uint16_t* to = y + (b * R + r) * pitch + c;  // the pitch is of whole fours
#pragma unroll
    for (int i = 0; i < 3; ++i, to += plane) {
      std::uint32_t parts[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) parts[e] = split_off(left[e]);
      *reinterpret_cast<uint2*>(to) = uint2{parts[0] | parts[1] << 16, parts[2] | parts[3] << 16};
    }
  }
}

// x (B, R, C) whose R is contiguous -> (B, R, pitch), C contiguous, rounded to tf32: by tiles of 32 x 32.
__global__ void turn_tf32_kernel(const float* x, std::int64_t batch, std::int64_t row, std::int64_t column,
                                 std::uint32_t* y, std::int64_t R, std::int64_t C, std::int64_t pitch) {
  __shared__ float tile[32][33];
  const int lane = static_cast<int>(threadIdx.x), turn = static_cast<int>(threadIdx.y);
  const std::int64_t c0 = std::int64_t{blockIdx.x} * 32, b = blockIdx.z;
  for (std::int64_t r0 = std::int64_t{blockIdx.y} * 32; r0 < R; r0 += std::int64_t{gridDim.y} * 32) {
    __syncthreads();  // the last tile's readers are done
#pragma unroll
    for (int i = turn; i < 32; i += 8)
      if (r0 + lane < R && c0 + i < C) tile[i][lane] = x[b * batch + (r0 + lane) * row + (c0 + i) * column];
    __syncthreads();
#pragma unroll
    for (int i = turn; i < 32; i += 8) {
      const std::int64_t r = r0 + i, c = c0 + lane;
      if (r < R && c < C) y[(b * R + r) * pitch + c] = round_tf32(ts::detail::bits_of(tile[lane][i]));
    }
  }
}

// One operand: what the kernel reads, and the copy that this may need.
struct Prepared {
  MmaOperand operand;
  bool along_k;
  std::optional<Workspace> copy;
};

// What becomes of float32 numbers: bfloat16, its three planes, or tf32, then along K.
enum class Become { same, bfloat16, planes, tf32 };
void prepare(Prepared& p, const View& x, int rows, int k, Become become) {
  const bool split = become == Become::planes, rounded = become == Become::bfloat16;
  const std::int64_t item = itemsize(x.dtype);
  const bool unit_k = x.strides[k] == 1 || x.shape[k] == 1,
             unit_rows = x.strides[rows] == 1 || x.shape[rows] == 1;
  p.along_k = unit_k || !unit_rows || become == Become::tf32;
  const int inner = p.along_k ? k : rows, outer = p.along_k ? rows : k;
  const auto aligned = [&](std::int64_t stride, std::int64_t extent) {
    return extent <= 1 || (stride >= 0 && stride * item % 16 == 0);
  };
  const std::int64_t R = x.shape[outer], C = x.shape[inner];
  if (become == Become::same && (unit_k || unit_rows) && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 &&
      aligned(x.strides[outer], R) && aligned(x.strides[0], x.shape[0])) {
    p.operand = {static_cast<const unsigned char*>(x.data), x.strides[0] * item, 0, x.strides[outer] * item,
                 x.shape[rows]};
    return;
  }
  const std::int64_t batches = x.strides[0] == 0 ? 1 : x.shape[0];
  const std::int64_t width = split || rounded ? 2 : item, pitch = ceil_div(C, 16 / width) * (16 / width);
  const std::int64_t plane = batches * R * pitch;
  p.copy.emplace(plane * width * (split ? 3 : 1));
  const dim3 block(C >= 1024 ? 256 : 32);
  const bool fours = x.strides[inner] == 1 && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 &&
                     aligned(x.strides[outer], R) && aligned(x.strides[0], x.shape[0]);
  for (std::int64_t first = 0; first < batches; first += 65535) {
    const unsigned some = static_cast<unsigned>(batches - first < 65535 ? batches - first : 65535);
    const std::int64_t at = first * x.strides[0], to = first * R * pitch;
    const std::int64_t batch = x.strides[0], row = x.strides[outer], column = x.strides[inner];
    if (split)
      launch(fours ? &split_kernel<true> : &split_kernel<false>,
             dim3(blocks_of(ceil_div(ceil_div(C, 4), block.x)), static_cast<unsigned>(R < 65535 ? R : 65535),
                  some),
             block, 0, static_cast<const float*>(x.data) + at, batch, row, column,
             p.copy->as<std::uint16_t>() + to, R, C, pitch, plane);
    else if (become == Become::tf32 && !unit_k && unit_rows)
      launch(&turn_tf32_kernel,
             dim3(blocks_of(ceil_div(C, 32)), static_cast<unsigned>(R < 65535 * 32 ? ceil_div(R, 32) : 65535),
                  some),
             dim3(32, 8), 0, static_cast<const float*>(x.data) + at, batch, row, column,
             p.copy->as<std::uint32_t>() + to, R, C, pitch);
    else if (become == Become::tf32)
      arrange<float, Tf32>(x, at, batch, row, column, p.copy->as<Tf32>() + to, R, C, pitch, some, fours);
    else if (rounded)
      arrange<float, BFloat16>(x, at, batch, row, column, p.copy->as<BFloat16>() + to, R, C, pitch, some,
                               fours);
    else if (item == 2)
      arrange<std::uint16_t, std::uint16_t>(x, at, batch, row, column, p.copy->as<std::uint16_t>() + to, R, C,
                                            pitch, some, fours);
    else
      arrange<std::uint32_t, std::uint32_t>(x, at, batch, row, column, p.copy->as<std::uint32_t>() + to, R, C,
                                            pitch, some, fours);
  }
  p.operand = {p.copy->as<unsigned char>(), x.strides[0] == 0 ? 0 : R * pitch * width, plane * width,
               pitch * width, x.shape[rows]};
}

template <class Number, int BM, int BN, int WM, int WN, bool kSplit>
void run_tiles(const Prepared& a, const Prepared& b, const LowResult& c, std::int64_t M, std::int64_t N,
               std::int64_t K, std::int64_t chunk, std::int64_t chunks) {
  constexpr int kThreads = BM / WM * (BN / WN) * 32;
  const std::int64_t tiles = ceil_div(M, BM) * ceil_div(N, BN);
  for (std::int64_t first = 0; first < c.batches; first += 65535) {
    const dim3 grid(blocks_of(tiles), static_cast<unsigned>(c.apart ? chunks : 1),
                    static_cast<unsigned>(c.batches - first < 65535 ? c.batches - first : 65535));
    const auto go = [&](auto kernel) {
      launch(kernel, grid, dim3(kThreads), kGemmStages * (BM + BN) * kTileBytes, a.operand, b.operand, c, M,
             N, K, chunk, first);
    };
    if (a.along_k && b.along_k)
      go(&gemm_mma_kernel<Number, BM, BN, WM, WN, true, true, kSplit>);
    else if (a.along_k)
      go(&gemm_mma_kernel<Number, BM, BN, WM, WN, true, false, kSplit>);
    else if (b.along_k)
      go(&gemm_mma_kernel<Number, BM, BN, WM, WN, false, true, kSplit>);
    else
      go(&gemm_mma_kernel<Number, BM, BN, WM, WN, false, false, kSplit>);
  }
}

}  // namespace

void gemm_cores(DType number, const In& a, const In& b, const LowResult& c, std::int64_t M, std::int64_t N,
                MatmulPrecision precision) {
  const std::int64_t K = a.shape[2], batches = c.batches;
  if (M == 0 || N == 0 || batches == 0) return;
  LowResult result = c;
  // Where C lies along M: its transpose, of the transposed operands. The same products, the same sums.
  const bool turned = c.m == 1 && c.n != 1;
  if (turned) {
    std::swap(M, N);
    std::swap(result.m, result.n);
    std::swap(result.bias_m, result.bias_n);
  }
  result.pack(M);
  const bool split = number == DType::float32 && precision == MatmulPrecision::split;
  const bool tf32 = number == DType::float32 && !split;
  const Wgmma wanted = K == 0 ? Wgmma::never : wgmma_wanted();
  const auto becomes = [&](const View& x) {
    return split                                                  ? Become::planes
           : x.dtype != number                                    ? Become::bfloat16
           : tf32 && wanted != Wgmma::never && capability() == 90 ? Become::tf32
                                                                  : Become::same;
  };
  Prepared left, right;
  if (K > 0) {
    prepare(turned ? right : left, a, 1, 2, becomes(a));
    prepare(turned ? left : right, b, 2, 1, becomes(b));
  } else {
    left.operand = right.operand = {};
    left.operand.rows = M, right.operand.rows = N;
    left.along_k = right.along_k = true;
  }
  const std::int64_t chunk = K <= kChunk                 ? (K > 0 ? K : 1)
                             : K <= kChunk * kMostChunks ? kChunk
                                                         : ceil_div(ceil_div(K, kMostChunks), 64) * 64;
  const std::int64_t chunks = K > 0 ? ceil_div(K, chunk) : 1;
  if (wanted != Wgmma::never) {
    if (gemm_wgmma(number, split, left.operand, right.operand, left.along_k, right.along_k, result, M, N, K,
                   chunk, chunks))
      return;
    if (wanted == Wgmma::only)
      runtime_error("gemm: TENSORSMITH_CUDA_WGMMA is 'only', and this product or GPU (%d) is not for it",
                    capability());
  }
  const auto blocks = [&](std::int64_t size) { return ceil_div(M, size) * ceil_div(N, size) * batches; };
  const bool wide = M > 64 && N > 64 && blocks(128) * chunks >= multiprocessors();
  std::optional<Workspace> partial;
  if (chunks > 1) {
    result.apart = blocks(wide ? 128 : 64) < 2 * multiprocessors();
    partial.emplace((result.apart ? chunks : 1) * batches * M * N * 4);
    result.partial = partial->as<float>();
  }
  const auto run = [&]<class Number>(Type<Number>) {
    // Fragments of tf32 need more addresses than fit beside 64 x 64 sums.
    constexpr int WN = std::is_same_v<Number, Tf32> ? 32 : 64;
    wide ? run_tiles<Number, 128, 128, 64, WN, false>(left, right, result, M, N, K, chunk, chunks)
         : run_tiles<Number, 64, 64, 32, 32, false>(left, right, result, M, N, K, chunk, chunks);
  };
  if (split)
    wide ? run_tiles<BFloat16, 128, 128, 64, 32, true>(left, right, result, M, N, K, chunk, chunks)
         : run_tiles<BFloat16, 64, 64, 32, 32, true>(left, right, result, M, N, K, chunk, chunks);
  else if (number == DType::float32)
    run(Type<Tf32>{});
  else if (number == DType::bfloat16)
    run(Type<BFloat16>{});
  else
    run(Type<Float16>{});
  if (result.apart) add_chunks_of(result, chunks, M, N);
}

}  // namespace ts::cuda
