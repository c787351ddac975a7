// c[b] = act(a[b] · bmat[b] + bias): a (B, M, K), bmat (B, K, N), c (B, M, N), any strides; the tiles of
// gemm_tile.h, and on tensor cores (gemm_mma.cu) for 16-bit dtypes and, where asked for, for float32.
#include "cuda/gemm.h"
#include "cuda/gemm_tile.h"
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
  bool relu;
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
};

// A 16-bit result of a float32 product, for GPUs whose tensor cores lack bfloat16.
template <class R>
struct Rounded {
  R* data;
  const R* bias;
  std::int64_t batch, m, n, bias_batch, bias_m, bias_n;
  bool relu;
  TS_INLINE void shift(std::int64_t b, std::int64_t) {
    data += b * batch;
    if (bias) bias += b * bias_batch;
  }
  TS_INLINE void store(std::int64_t i, std::int64_t j, float y) const {
    if (bias) y = y + to_float(bias[i * bias_m + j * bias_n]);
    if (relu) y = y > 0 || y != y ? y : 0.0f;
    data[i * m + j * n] = from_float<R>(y);
  }
};
template <class R>
struct Widened {
  using Row = const R*;
  using Col = std::int64_t;
  const R* data;
  std::int64_t batch, row_stride, k_stride, rows;
  bool along_k;
  TS_INLINE void shift(std::int64_t b) { data += b * batch; }
  TS_INLINE Row row(std::int64_t r) const { return r < rows ? data + r * row_stride : nullptr; }
  TS_INLINE Col col(std::int64_t k) const { return k * k_stride; }
  TS_INLINE float load(Row r, Col c) const { return r ? to_float(r[c]) : 0.0f; }
};

void gemm_widened(const In& a, const In& b, const In& bias, const Out& c, Activation activation) {
  const auto go = [&]<class R>(Type<R>) {
    const auto operand = [](const View& v, int rows, int k) {
      const bool unit_k = v.strides[k] == 1 || v.shape[k] == 1;
      return Widened<R>{
          static_cast<const R*>(v.data), v.strides[0], v.strides[rows], v.strides[k], v.shape[rows],
          unit_k && v.strides[rows] != 1};
    };
    const BiasStrides s(bias);
    const Rounded<R> result{static_cast<R*>(c.data),
                            static_cast<const R*>(bias.data),
                            c.strides[0],
                            c.strides[1],
                            c.strides[2],
                            s.batch,
                            s.m,
                            s.n,
                            activation == Activation::relu};
    product<float>(operand(a, 1, 2), operand(b, 2, 1), result, c.shape[1], c.shape[2], a.shape[2],
                   c.shape[0]);
  };
  c.dtype == DType::float16 ? go(Type<Float16>{}) : go(Type<BFloat16>{});
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
  const bool cores = capability() >= 80;
  if (is_half(c.dtype))
    return cores ? gemm_cores(a, b, bias, c, activation, MatmulPrecision::ieee)
                 : gemm_widened(a, b, bias, c, activation);
  if (const MatmulPrecision precision = g_precision;
      c.dtype == DType::float32 && precision != MatmulPrecision::ieee && cores)
    return gemm_cores(a, b, bias, c, activation, precision);
  with_gemm(c.dtype, [&]<class T>(Type<T>) {
    const BiasStrides s(bias);
    const Result<T> result{c.as<T>(),    bias.as<T>(), c.strides[0],
                           c.strides[1], c.strides[2], s.batch,
                           s.m,          s.n,          activation == Activation::relu};
    product<T>(matrix<T>(a, 1, 2), matrix<T>(b, 2, 1), result, c.shape[1], c.shape[2], a.shape[2],
               c.shape[0]);
  });
}

}  // namespace ts::cuda
