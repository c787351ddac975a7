// c[b] = act(a[b] · bmat[b] + bias): a (B, M, K), bmat (B, K, N), c (B, M, N), any strides; the tiles of
// gemm_tile.h.
#include "cuda/gemm_tile.h"
#include "cuda/kernels.h"
#include "cuda/runtime.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

std::atomic<MatmulPrecision> g_precision{MatmulPrecision::ieee};

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
  with_gemm(c.dtype, [&]<class T>(Type<T>) {
    const bool rows_only = bias && bias.ndim == 1;
    const Result<T> result{c.as<T>(),
                           bias.as<T>(),
                           c.strides[0],
                           c.strides[1],
                           c.strides[2],
                           bias && !rows_only ? bias.strides[0] : 0,
                           bias && !rows_only ? bias.strides[1] : 0,
                           bias ? bias.strides[rows_only ? 0 : 2] : 0,
                           activation == Activation::relu};
    product<T>(matrix<T>(a, 1, 2), matrix<T>(b, 2, 1), result, c.shape[1], c.shape[2], a.shape[2],
               c.shape[0]);
  });
}

}  // namespace ts::cuda
