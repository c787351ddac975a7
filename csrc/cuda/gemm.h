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

// Where results go, and what happens on the way: + bias, activation, rounding.
struct LowResult {
  void* data;
  const void* bias;
  float* partial;  // null: straight to `data`
  std::int64_t batch, m, n, bias_batch, bias_m, bias_n;
  std::int64_t batches;
  DType dtype, bias_dtype;
  bool relu;
  bool apart;  // partial has (chunks, batches, M, N), for add_partials; otherwise (batches, M, N)

  TS_INLINE float bias_at(std::int64_t i) const { return load_float(bias, bias_dtype, i); }
  TS_INLINE void store(std::int64_t b, std::int64_t i, std::int64_t j, float y) const {
    if (bias) y = y + bias_at(b * bias_batch + i * bias_m + j * bias_n);
    if (relu) y = y > 0 || y != y ? y : 0.0f;
    const std::int64_t at = b * batch + i * m + j * n;
    if (dtype == DType::float32)
      static_cast<float*>(data)[at] = y;
    else if (dtype == DType::bfloat16)
      static_cast<BFloat16*>(data)[at] = from_float<BFloat16>(y);
    else
      static_cast<Float16*>(data)[at] = from_float<Float16>(y);
  }
};

// On tensor cores, in `number`: bfloat16 (float32 operands are rounded to it) or float16; float32 as `split`
// or `tf32`. Compute capability 8.0 and newer.
void gemm_cores(DType number, const In& a, const In& b, const LowResult& c, std::int64_t M, std::int64_t N,
                MatmulPrecision precision);

}  // namespace ts::cuda
