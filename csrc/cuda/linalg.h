// What the factorisations share: panels of 32 columns, a block a matrix; the rest by the product of
// gemm_tile.h.
#pragma once

#include "cuda/gemm_tile.h"
#include "cuda/types.h"

namespace ts::cuda {

constexpr int kPanel = 32, kPanelThreads = 256;

// c -= a b
template <class T>
struct Subtracted {
  T* data;
  std::int64_t batch, ld;
  TS_INLINE void shift(std::int64_t b, std::int64_t) { data += b * batch; }
  TS_INLINE void store(std::int64_t m, std::int64_t n, T value) const {
    T& c = data[m * ld + n];
    c = (Vec<T>(c) - Vec<T>(value)).r;
  }
};
// c = a b
template <class T>
struct Stored {
  T* data;
  std::int64_t batch, ld;
  TS_INLINE void shift(std::int64_t b, std::int64_t) { data += b * batch; }
  TS_INLINE void store(std::int64_t m, std::int64_t n, T value) const { data[m * ld + n] = value; }
};

// An operand of a product whose rows are `row` elements apart and whose depth is `k` elements apart.
template <class T>
Matrix<T> operand(const T* data, std::int64_t batch, std::int64_t row, std::int64_t k, std::int64_t rows) {
  return {data, batch, row, k, rows, k == 1};
}

// launches(first, count) for at most 65535 matrices, the most blocks along y.
template <class Launches>
void for_each_batch_of(std::int64_t batches, const Launches& launches) {
  for (std::int64_t first = 0; first < batches; first += 65535)
    launches(first, static_cast<unsigned>(batches - first < 65535 ? batches - first : 65535));
}

template <class T>
TS_INLINE T magnitude(T x) {
  return x < T(0) ? -x : x;
}
template <class T>
TS_INLINE T largest_in_block(T x, T* shared) {
  return block_reduce(x, T(0), shared, [](T a, T b) { return a > b || a != a ? a : b; });
}

}  // namespace ts::cuda
