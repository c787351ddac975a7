// What the two files of gemm share.
#pragma once

#include "core/view.h"
#include "cuda/device.h"
#include "cuda/half.h"

namespace ts::cuda {

TS_INLINE float load_float(const void* p, DType dtype, std::int64_t i) {
  return dtype == DType::float32    ? static_cast<const float*>(p)[i]
         : dtype == DType::bfloat16 ? to_float(static_cast<const BFloat16*>(p)[i])
                                    : to_float(static_cast<const Float16*>(p)[i]);
}

// bias (N) or (B, M, N), or none.
struct BiasStrides {
  std::int64_t batch = 0, m = 0, n = 0;
  explicit BiasStrides(const View& bias) {
    if (!bias) return;
    n = bias.strides[bias.ndim == 1 ? 0 : 2];
    if (bias.ndim == 3) batch = bias.strides[0], m = bias.strides[1];
  }
};

TS_INLINE float rectified(float y) { return y > 0 || y != y ? y : 0.0f; }

// Where results go, and what happens on the way: + bias, activation, rounding.
struct LowResult {
  void* data;
  const void* bias;
  float* partial;  // null: straight to `data`
  std::int64_t batch, m, n, bias_batch, bias_m, bias_n;
  std::int64_t batches;
  DType dtype, bias_dtype;
  bool relu;
  bool apart;           // partial has (chunks, batches, M, N), for add_partials; otherwise (batches, M, N)
  bool packed = false;  // rows of `data` are contiguous and begin on 16 bytes

  std::int64_t width() const { return dtype == DType::float32 ? 4 : 2; }
  // Of M rows; decides `packed`.
  void pack(std::int64_t M) {
    const auto aligned = [&](std::int64_t stride, std::int64_t extent) {
      return extent <= 1 || stride * width() % 16 == 0;
    };
    packed = n == 1 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && aligned(m, M) &&
             aligned(batch, batches);
  }

  TS_INLINE float bias_at(std::int64_t i) const { return load_float(bias, bias_dtype, i); }
  TS_INLINE void store(std::int64_t b, std::int64_t i, std::int64_t j, float y) const {
    if (bias) y = y + bias_at(b * bias_batch + i * bias_m + j * bias_n);
    if (relu) y = rectified(y);
    const std::int64_t at = b * batch + i * m + j * n;
    if (dtype == DType::float32)
      static_cast<float*>(data)[at] = y;
    else if (dtype == DType::bfloat16)
      static_cast<BFloat16*>(data)[at] = from_float<BFloat16>(y);
    else
      static_cast<Float16*>(data)[at] = from_float<Float16>(y);
  }
};

// 16 bytes of results.
TS_INLINE void store_pack(float* p, const float (&y)[4]) {
  *reinterpret_cast<float4*>(p) = float4{y[0], y[1], y[2], y[3]};
}
template <class T>
TS_INLINE std::uint32_t pack_pair(float low, float high) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return pack_bfloat16(low, high);
  else
    return pack_float16(low, high);
}
template <class T>
TS_INLINE void store_pack(T* p, const float (&y)[8]) {
  *reinterpret_cast<uint4*>(p) = uint4{pack_pair<T>(y[0], y[1]), pack_pair<T>(y[2], y[3]),
                                       pack_pair<T>(y[4], y[5]), pack_pair<T>(y[6], y[7])};
}

// A tile of results on its way from shared memory (float32, kRow numbers from row to row) to C: each thread
// has the same few columns of every kStep-th row. `sums` (M, N), if any, holds the chunks of K before;
// `places`, if any, where the tile's rows begin in C.
template <class To, int BM, int BN, int kRow, int kThreads>
TS_INLINE void write_tile(const float* staged, const LowResult& c, float* sums, bool first, bool last,
                          std::int64_t batch, std::int64_t m0, std::int64_t n0, std::int64_t M,
                          std::int64_t N, const std::int64_t* places = nullptr) {
  constexpr int kPack = 16 / static_cast<int>(sizeof(To)), kAcross = BN / kPack, kStep = kThreads / kAcross;
  static_assert(kThreads % kAcross == 0 && kRow % 4 == 0);
  const int thread = static_cast<int>(threadIdx.x), column = thread % kAcross * kPack;
  const std::int64_t n = n0 + column;
  if (n >= N) return;
  const int count = N - n < kPack ? static_cast<int>(N - n) : kPack;
  const int rows = M - m0 < BM ? static_cast<int>(M - m0) : BM;
  const bool whole = count == kPack, whole_sums = whole && N % 4 == 0;
  float bias[kPack] = {};
  if (c.bias && c.bias_m == 0)
#pragma unroll
    for (int e = 0; e < kPack; ++e)
      if (e < count) bias[e] = c.bias_at(batch * c.bias_batch + (n + e) * c.bias_n);
  const int row0 = thread / kAcross;
  const float* from = staged + row0 * kRow + column;
  To* const columns = static_cast<To*>(c.data) + batch * c.batch + n * c.n;
  To* to = columns + (m0 + row0) * c.m;
  if (sums) sums += (m0 + row0) * N + n;
#pragma unroll 1
  for (int row = row0; row < rows; row += kStep, from += kStep * kRow, to += kStep * c.m) {
    float y[kPack];
    // Eight lanes read 16 bytes each at a time: of 32 that belong together, half of the lanes begin with the
    // second half, or they would meet in the banks.
    const int turn = kPack == 8 ? thread >> 2 & 1 : 0;
#pragma unroll
    for (int half = 0; half < kPack / 4; ++half) {
      const float4 x = reinterpret_cast<const float4*>(from)[half ^ turn];
      y[4 * half] = x.x, y[4 * half + 1] = x.y, y[4 * half + 2] = x.z, y[4 * half + 3] = x.w;
    }
    if constexpr (kPack == 8)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float low = turn ? y[e + 4] : y[e], high = turn ? y[e] : y[e + 4];
        y[e] = low, y[e + 4] = high;
      }
    if (sums) {
      float* const at = sums + (row - row0) * N;
      if (whole_sums) {
#pragma unroll
        for (int e = 0; e < kPack; e += 4) {
          float4& sum = *reinterpret_cast<float4*>(at + e);
          if (!first) {
            const float4 x = sum;
            y[e] = x.x + y[e], y[e + 1] = x.y + y[e + 1], y[e + 2] = x.z + y[e + 2],
            y[e + 3] = x.w + y[e + 3];
          }
          if (!last) sum = float4{y[e], y[e + 1], y[e + 2], y[e + 3]};
        }
      } else {
#pragma unroll
        for (int e = 0; e < kPack; ++e)
          if (e < count) {
            if (!first) y[e] = at[e] + y[e];
            if (!last) at[e] = y[e];
          }
      }
      if (!last) continue;
    }
    if (c.bias) {
      if (c.bias_m != 0)
#pragma unroll
        for (int e = 0; e < kPack; ++e)
          if (e < count)
            bias[e] = c.bias_at(batch * c.bias_batch + (m0 + row) * c.bias_m + (n + e) * c.bias_n);
#pragma unroll
      for (int e = 0; e < kPack; ++e) y[e] = y[e] + bias[e];
    }
    if (c.relu)
#pragma unroll
      for (int e = 0; e < kPack; ++e) y[e] = rectified(y[e]);
    if (places) to = columns + places[row];
    if (whole && c.packed) {
      store_pack(to, y);
    } else {
#pragma unroll
      for (int e = 0; e < kPack; ++e)
        if (e < count) to[e * c.n] = from_float<To>(y[e]);
    }
  }
}

struct Tf32 {
  std::uint32_t bits;
};

// Of x = x0 + x1 + x2, each the bfloat16 nearest to what is left, the next one. The largest numbers are cut
// off, for they would round to infinity; infinity and NaN are x0.
TS_INLINE std::uint16_t split_off(float& left) {
  std::uint16_t part = bfloat16_from_float(left);
  const bool finite = (ts::detail::bits_of(left) & 0x7f800000u) != 0x7f800000u;
  if (finite && (part & 0x7f80) == 0x7f80) part = static_cast<std::uint16_t>(ts::detail::bits_of(left) >> 16);
  left = finite ? left - float_from_bfloat16(part) : 0.0f;
  return part;
}

// An operand with one unit stride, 16-byte aligned rows and planes: `rows` of M or N.
struct MmaOperand {
  const unsigned char* data;
  std::int64_t batch, plane, pitch;  // bytes
  std::int64_t rows;
};

// The planes whose products make a float32 product, the smallest first: a digit a pair.
constexpr int kPairs = 6;
TS_INLINE int plane_of_a(int pair) { return 0x012010 >> 4 * (kPairs - 1 - pair) & 15; }
TS_INLINE int plane_of_b(int pair) { return 0x210100 >> 4 * (kPairs - 1 - pair) & 15; }

// On tensor cores, in `number`: bfloat16 (float32 operands are rounded to it) or float16; float32 as `split`
// or `tf32`. Compute capability 8.0 and newer.
void gemm_cores(DType number, const In& a, const In& b, const LowResult& c, std::int64_t M, std::int64_t N,
                MatmulPrecision precision);

// The same with wgmma, on compute capability 9.0; false where that is not to be had. What the environment's
// TENSORSMITH_CUDA_WGMMA says about it: nothing or 1 (wherever it can be), 0, 2 (also in kernels that no GPU
// has run), or for tests `only`.
enum class Wgmma { never, where_possible, also_untried, only };
Wgmma wgmma_wanted();
bool gemm_wgmma(DType number, bool split, const MmaOperand& a, const MmaOperand& b, bool a_along_k,
                bool b_along_k, const LowResult& c, std::int64_t M, std::int64_t N, std::int64_t K,
                std::int64_t chunk, std::int64_t chunks);

}  // namespace ts::cuda
