// gemm on tensor cores: operands as gemm_mma.h wants them, tiles and chunks, launches.
//
// An operand whose rows are not 16-byte aligned, or that has no unit stride, is first copied (reads and
// writes it once); so is one of `split`, into its three planes.
#include <optional>

#include "cuda/gemm.h"
#include "cuda/gemm_mma.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

constexpr std::int64_t kChunk = 4096, kMostChunks = 64;

// x (B, R, C), any strides, -> (B, R, pitch), C contiguous; with To = BFloat16 rounded to it.
template <class T, class To>
__global__ void arrange_kernel(const T* x, std::int64_t batch, std::int64_t row, std::int64_t column, To* y,
                               std::int64_t R, std::int64_t C, std::int64_t pitch) {
  const std::int64_t c = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t b = blockIdx.z;
  for (std::int64_t r = blockIdx.y; r < R; r += gridDim.y)
    if (c < C) {
      const T value = x[b * batch + r * row + c * column];
      To& to = y[(b * R + r) * pitch + c];
      if constexpr (std::is_same_v<T, To>)
        to = value;
      else
        to = from_float<To>(value);
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

// x (B, R, C), any strides, -> (B, R, pitch), C contiguous, rounded to tf32: by tiles of 32 x 32, read along
// the axis that is contiguous, R with kTurned.
template <bool kTurned>
__global__ void round_tf32_kernel(const float* x, std::int64_t batch, std::int64_t row, std::int64_t column,
                                  std::uint32_t* y, std::int64_t R, std::int64_t C, std::int64_t pitch) {
  __shared__ float tile[32][33];
  const int lane = static_cast<int>(threadIdx.x), turn = static_cast<int>(threadIdx.y);
  const std::int64_t c0 = std::int64_t{blockIdx.x} * 32, b = blockIdx.z;
  for (std::int64_t r0 = std::int64_t{blockIdx.y} * 32; r0 < R; r0 += std::int64_t{gridDim.y} * 32) {
    if constexpr (kTurned) {
      __syncthreads();  // the last tile's readers are done
#pragma unroll
      for (int i = turn; i < 32; i += 8)
        if (r0 + lane < R && c0 + i < C) tile[i][lane] = x[b * batch + (r0 + lane) * row + (c0 + i) * column];
      __syncthreads();
    }
#pragma unroll
    for (int i = turn; i < 32; i += 8) {
      const std::int64_t r = r0 + i, c = c0 + lane;
      if (r >= R || c >= C) continue;
      const float value = kTurned ? tile[lane][i] : x[b * batch + r * row + c * column];
      y[(b * R + r) * pitch + c] = round_tf32(ts::detail::bits_of(value));
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
    const std::int64_t columns = split ? ceil_div(C, 4) : C;
    const dim3 grid(blocks_of(ceil_div(columns, block.x)), static_cast<unsigned>(R < 65535 ? R : 65535),
                    static_cast<unsigned>(batches - first < 65535 ? batches - first : 65535));
    const std::int64_t at = first * x.strides[0], to = first * R * pitch;
    if (split)
      launch(fours ? &split_kernel<true> : &split_kernel<false>, grid, block, 0,
             static_cast<const float*>(x.data) + at, x.strides[0], x.strides[outer], x.strides[inner],
             p.copy->as<std::uint16_t>() + to, R, C, pitch, plane);
    else if (become == Become::tf32)
      launch(unit_k ? &round_tf32_kernel<false> : &round_tf32_kernel<true>,
             dim3(blocks_of(ceil_div(C, 32)), static_cast<unsigned>(R < 65535 * 32 ? ceil_div(R, 32) : 65535),
                  grid.z),
             dim3(32, 8), 0, static_cast<const float*>(x.data) + at, x.strides[0], x.strides[outer],
             x.strides[inner], p.copy->as<std::uint32_t>() + to, R, C, pitch);
    else if (rounded)
      launch(&arrange_kernel<float, BFloat16>, grid, block, 0, static_cast<const float*>(x.data) + at,
             x.strides[0], x.strides[outer], x.strides[inner], p.copy->as<BFloat16>() + to, R, C, pitch);
    else if (item == 2)
      launch(&arrange_kernel<std::uint16_t, std::uint16_t>, grid, block, 0,
             static_cast<const std::uint16_t*>(x.data) + at, x.strides[0], x.strides[outer], x.strides[inner],
             p.copy->as<std::uint16_t>() + to, R, C, pitch);
    else
      launch(&arrange_kernel<std::uint32_t, std::uint32_t>, grid, block, 0,
             static_cast<const std::uint32_t*>(x.data) + at, x.strides[0], x.strides[outer], x.strides[inner],
             p.copy->as<std::uint32_t>() + to, R, C, pitch);
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
  const Wgmma asked = wgmma_wanted();
  const Wgmma wanted = K == 0 || (tf32 && asked == Wgmma::where_verified) ? Wgmma::never : asked;
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
