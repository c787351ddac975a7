// What the two files of gemm share.
#pragma once

#include "core/view.h"
#include "cuda/device.h"
#include "cuda/half.h"

namespace ts::cuda {

// bias (N) or (B, M, N), or none.
struct BiasStrides {
  std::int64_t batch = 0, m = 0, n = 0;
  explicit BiasStrides(const View& bias) {
    if (!bias) return;
    n = bias.strides[bias.ndim == 1 ? 0 : 2];
    if (bias.ndim == 3) batch = bias.strides[0], m = bias.strides[1];
  }
};

// On tensor cores: bfloat16, float16, or float32 as `split` or `tf32`. Compute capability 8.0 and newer.
void gemm_cores(const In& a, const In& b, const In& bias, const Out& c, Activation activation,
                MatmulPrecision precision);

}  // namespace ts::cuda
