// c[b] = act(a[b] · bmat[b] + bias): a (B, M, K), bmat (B, K, N), c (B, M, N), any strides; the tiles of
// gemm_tile.h, and on tensor cores (gemm_mma.cu) for 16-bit dtypes and, where asked for, for float32.
#include "cuda/gemm.h"
#include "cuda/gemm_tile.h"
#include "cuda/gemm_vector.h"
#include "cuda/kernels.h"
#include "cuda/runtime.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

std::atomic<MatmulPrecision> g_precision{MatmulPrecision::ieee};

template <class T>
Matrix<T> matrix(const View& v, int rows, int k) {
  const bool unit_k = v.strides[k] == 1 || v.shape[k] == 1;
  return {static_cast<const T*>(v.data), v.strides[0], v.strides[rows], v.strides[k], v.shape[rows],
          unit_k && v.strides[rows] != 1};
}

template <class T>
struct Result {
  T* data;
  const T* bias;
  std::int64_t batch, m, n, bias_batch, bias_m, bias_n;
  bool relu, fours = false;  // fours: rows of C can be written 16 bytes at a time
  TS_INLINE void shift(std::int64_t b, std::int64_t) {
    data += b * batch;
    if (bias) bias += b * bias_batch;
  }
  TS_INLINE void store(std::int64_t i, std::int64_t j, T value) const {
    Vec<T> y(value);
    if (bias) y = y + Vec<T>(bias[i * bias_m + j * bias_n]);
    if (relu) y = ts::cuda::max(Vec<T>(T(0)), y);
    data[i * m + j * n] = y.r;
  }
  TS_INLINE void store_four(std::int64_t i, std::int64_t j, float4 x) const {
    float y[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (bias) y[e] = y[e] + bias[i * bias_m + (j + e) * bias_n];
      if (relu) y[e] = ts::cuda::max(Vec<float>(0.0f), Vec<float>(y[e])).r;
    }
    *reinterpret_cast<float4*>(data + i * m + j) = float4{y[0], y[1], y[2], y[3]};
  }
};

// 16-bit products in float32, for GPUs whose tensor cores lack bfloat16.
struct Widened {
  using Row = std::int64_t;
  using Col = std::int64_t;
  const void* data;
  DType dtype;
  std::int64_t batch, row_stride, k_stride, rows;
  bool along_k, rounds;  // rounds: float32 numbers to bfloat16
  Widened(const View& v, int r, int k, DType number)
      : data(v.data),
        dtype(v.dtype),
        batch(v.strides[0]),
        row_stride(v.strides[r]),
        k_stride(v.strides[k]),
        rows(v.shape[r]),
        along_k((v.strides[k] == 1 || v.shape[k] == 1) && v.strides[r] != 1),
        rounds(v.dtype != number) {}
  TS_INLINE void shift(std::int64_t b) {
    data = static_cast<const char*>(data) + b * batch * (dtype == DType::float32 ? 4 : 2);
  }
  TS_INLINE Row row(std::int64_t r) const { return r < rows ? r * row_stride : INT64_MIN; }
  TS_INLINE Col col(std::int64_t k) const { return k * k_stride; }
  TS_INLINE float load(Row r, Col c) const {
    if (r == INT64_MIN) return 0;
    const float x = load_float(data, dtype, r + c);
    return rounds ? to_float(from_float<BFloat16>(x)) : x;
  }
};
struct WidenedResult {
  LowResult c;
  std::int64_t batch = 0;
  TS_INLINE void shift(std::int64_t b, std::int64_t) { batch = b; }
  TS_INLINE void store(std::int64_t i, std::int64_t j, float y) const { c.store(batch, i, j, y); }
};

void gemm_low(DType number, const In& a, const In& b, const In& bias, const Out& c, Activation activation,
              MatmulPrecision precision) {
  const BiasStrides s(bias);
  const LowResult result{c.data,
                         bias.data,
                         nullptr,
                         c.strides[0],
                         c.strides[1],
                         c.strides[2],
                         s.batch,
                         s.m,
                         s.n,
                         c.shape[0],
                         c.dtype,
                         bias.dtype,
                         activation == Activation::relu,
                         false};
  if (capability() >= 80)
    gemm_cores(number, a, b, result, c.shape[1], c.shape[2], precision);
  else
    product<float>(Widened(a, 1, 2, number), Widened(b, 2, 1, number), WidenedResult{result}, c.shape[1],
                   c.shape[2], a.shape[2], c.shape[0]);
}

template <class F>
void with_gemm(DType d, const F& f) {
  switch (d) {
    case DType::float32:
      return f(Type<float>{});
    case DType::float64:
      return f(Type<double>{});
    case DType::int32:
      return f(Type<std::int32_t>{});
    case DType::int64:
      return f(Type<std::int64_t>{});
    case DType::uint8:
      return f(Type<std::uint8_t>{});
    default:
      unsupported_dtype(d);
  }
}

}  // namespace

void set_matmul_precision(MatmulPrecision precision) { g_precision = precision; }
MatmulPrecision matmul_precision() { return g_precision; }

void gemm(In a, In b, In bias, Out c, Activation activation) {
  if (is_half(c.dtype)) return gemm_low(c.dtype, a, b, bias, c, activation, MatmulPrecision::ieee);
  if (const MatmulPrecision precision = g_precision;
      c.dtype == DType::float32 && precision != MatmulPrecision::ieee && capability() >= 80)
    return gemm_low(precision == MatmulPrecision::bfloat16 ? DType::bfloat16 : c.dtype, a, b, bias, c,
                    activation, precision);
  with_gemm(c.dtype, [&]<class T>(Type<T>) {
    const BiasStrides s(bias);
    Result<T> result{c.as<T>(),    bias.as<T>(), c.strides[0],
                     c.strides[1], c.strides[2], s.batch,
                     s.m,          s.n,          activation == Activation::relu};
    const Matrix<T> left = matrix<T>(a, 1, 2), right = matrix<T>(b, 2, 1);
    const std::int64_t M = c.shape[1], N = c.shape[2], K = a.shape[2], batches = c.shape[0];
    if constexpr (std::is_same_v<T, float>) {
      const bool aligned = reinterpret_cast<std::uintptr_t>(result.data) % 16 == 0;
      result.fours = aligned && result.n == 1 && (M == 1 || result.m % 4 == 0) &&
                     (batches == 1 || result.batch % 4 == 0);
      product<T>(left, right, result, M, N, K, batches,
                 [](const auto&... args) { return gemm_vectors(args...); });
    } else {
      product<T>(left, right, result, M, N, K, batches);
    }
  });
}

void gemm_bf16(In a, In b, In bias, Out c, Activation activation, Bf16Engine) {
  gemm_low(DType::bfloat16, a, b, bias, c, activation, MatmulPrecision::ieee);
}

}  // namespace ts::cuda
