// What the indexing kernels share: element types by size, the combining operations, a walk over rows.
#pragma once

#include <cstring>

#include "core/view.h"
#include "cpu/half.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

constexpr int kMaxRank = 64;
constexpr std::int64_t kAhead = 12;  // rows to prefetch ahead

struct Bytes16 {
  std::uint64_t low, high;
};

// The type that moves an element of this size.
template <class F>
inline void with_size(DType d, F&& f) {
  switch (itemsize(d)) {
    case 1:
      return f(Type<std::uint8_t>{});
    case 2:
      return f(Type<std::uint16_t>{});
    case 4:
      return f(Type<std::uint32_t>{});
    case 8:
      return f(Type<std::uint64_t>{});
    default:
      return f(Type<Bytes16>{});
  }
}

// The type in which T is added: integers wrap, bool is "or".
template <class T>
struct SummandOf : std::conditional<std::is_integral_v<T> && !std::is_same_v<T, bool>,
                                    std::make_unsigned<IntOf<T>>, Type<T>>::type {};
template <class T>
using Summand = typename SummandOf<T>::type;

template <class T>
struct Plus {
  static constexpr bool kVector = !std::is_same_v<T, bool>;
  TS_INLINE T operator()(T a, T b) const { return static_cast<T>(a + b); }
  TS_INLINE Vec<T> operator()(Vec<T> a, Vec<T> b) const { return a + b; }
};
template <class T>
struct Replace {
  static constexpr bool kVector = sizeof(T) < 16;
  TS_INLINE T operator()(T, T b) const { return b; }
  template <class V>
  TS_INLINE V operator()(V, V b) const {
    return b;
  }
};

// Short rows inline, long ones by memcpy; bytes > 0.
TS_INLINE void copy_bytes(char* y, const char* x, std::int64_t bytes) {
  using Bytes = Vec<std::uint8_t>;
  constexpr std::int64_t kWidth = kVectorBytes;
  const auto move = [&](std::int64_t at) {
    Bytes::load(reinterpret_cast<const std::uint8_t*>(x + at)).store(reinterpret_cast<std::uint8_t*>(y + at));
  };
  if (bytes < kWidth || bytes > 4096) {
    std::memcpy(y, x, static_cast<std::size_t>(bytes));
    return;
  }
  std::int64_t at = 0;
  for (; at + kWidth <= bytes; at += kWidth) move(at);
  if (at < bytes) move(bytes - kWidth);
}

TS_INLINE void prefetch(const void* p, std::int64_t bytes, bool write) {
  const char* const at = static_cast<const char*>(p);
  for (std::int64_t i = 0; i < bytes && i < 512; i += 64) {
    if (write)
      __builtin_prefetch(at + i, 1);
    else
      __builtin_prefetch(at + i, 0);
  }
}

// row op= x row, over [0, n) columns. x may be halves where y is float32.
template <class T, class S, class Op>
TS_INLINE void combine_row(T* y, std::int64_t ys, const S* x, std::int64_t xs, std::int64_t n, const Op& op) {
  if (ys == 1 && xs == 1) {
    std::int64_t b = 0;
    if constexpr (Op::kVector) {
      for (; b + Vec<T>::width <= n; b += Vec<T>::width)
        op(Vec<T>::load(y + b), get(x + b, All{})).store(y + b);
#if defined(__AVX512F__)
      if (const First rest{n - b}; b < n) put(y + b, op(get(y + b, rest), get(x + b, rest)), rest);
      return;
#endif
    }
    for (; b < n; ++b) y[b] = op(y[b], T(x[b]));
  } else {
    for (std::int64_t b = 0; b < n; ++b) y[b * ys] = op(y[b * ys], T(x[b * xs]));
  }
}

constexpr std::int64_t kNearBytes = 1 << 20;  // what the second-level cache holds beside the rest
constexpr std::int64_t kAheadElements = 64;

// y[m] = x[at[m]], x of N elements. The strides are values here: behind a reference, a store of T might
// change them.
template <class T>
TS_INLINE void take_elements(const T* x, std::int64_t N, std::int64_t xs, const std::int64_t* at,
                             std::int64_t is, T* y, std::int64_t ys, std::int64_t n) {
  std::int64_t m = 0;
  if (xs == 1 && is == 1 && ys == 1) {
    // From further away loads one by one, asked for ahead, overtake the hardware's gather.
    if (N * static_cast<std::int64_t>(sizeof(T)) > kNearBytes)
      for (; m + kAheadElements + 4 <= n; m += 4) {
        for (int j = 0; j < 4; ++j) __builtin_prefetch(x + at[m + kAheadElements + j]);
        for (int j = 0; j < 4; ++j) y[m + j] = x[at[m + j]];
      }
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 8)
      for (; m + 8 <= n; m += 8)
        _mm512_storeu_si512(y + m, _mm512_i64gather_epi64(_mm512_loadu_si512(at + m), x, 8));
    if constexpr (sizeof(T) == 4)
      for (; m + 8 <= n; m += 8)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + m),
                            _mm512_i64gather_epi32(_mm512_loadu_si512(at + m), x, 4));
#endif
    for (; m < n; ++m) y[m] = x[at[m]];
  }
  for (; m < n; ++m) y[m * ys] = x[at[m * is] * xs];
}

// y[at[m]] = op(y[at[m]], x[m]), m ascending; see take_elements.
template <class T, class S, class Op>
TS_INLINE void combine_elements(T* y, std::int64_t ys, const std::int64_t* at, std::int64_t is, const S* x,
                                std::int64_t xs, std::int64_t n, const Op& op) {
  if (ys == 1 && is == 1) {
    for (std::int64_t m = 0; m < n; ++m) {
      T& element = y[at[m]];
      element = op(element, T(x[m * xs]));
    }
    return;
  }
  for (std::int64_t m = 0; m < n; ++m) {
    T& element = y[at[m * is] * ys];
    element = op(element, T(x[m * xs]));
  }
}

// Steps through the positions of a shape in row-major order, run by run along the last axis, with the
// offset of each of kOperands views.
template <int kOperands>
class Odometer {
 public:
  Odometer(const std::int64_t* shape, const std::int64_t* const (&strides)[kOperands], int ndim,
           std::int64_t flat)
      : ndim_(ndim), inner_(ndim ? shape[ndim - 1] : 1) {
    for (int k = 0; k < kOperands; ++k) offset_[k] = 0, inner_stride_[k] = ndim ? strides[k][ndim - 1] : 0;
    for (int d = ndim - 1; d >= 0; --d) {
      shape_[d] = shape[d];
      position_[d] = flat % shape[d];
      flat /= shape[d];
      for (int k = 0; k < kOperands; ++k) {
        stride_[k][d] = strides[k][d];
        offset_[k] += position_[d] * strides[k][d];
      }
    }
  }

  std::int64_t offset(int k) const { return offset_[k]; }
  std::int64_t inner_stride(int k) const { return inner_stride_[k]; }
  // Positions left in this row, at most `limit`.
  std::int64_t run(std::int64_t limit) const {
    const std::int64_t left = ndim_ ? inner_ - position_[ndim_ - 1] : 1;
    return left < limit ? left : limit;
  }
  // By `count` positions, which run() allowed.
  void advance(std::int64_t count) {
    int d = ndim_ - 1;
    if (d < 0) return;
    position_[d] += count;
    for (int k = 0; k < kOperands; ++k) offset_[k] += count * stride_[k][d];
    for (; d > 0 && position_[d] == shape_[d]; --d) {
      position_[d] = 0;
      ++position_[d - 1];
      for (int k = 0; k < kOperands; ++k) offset_[k] += stride_[k][d - 1] - shape_[d] * stride_[k][d];
    }
  }

 private:
  int ndim_;
  std::int64_t inner_, shape_[kMaxRank], position_[kMaxRank], stride_[kOperands][kMaxRank];
  std::int64_t offset_[kOperands], inner_stride_[kOperands];
};

}  // namespace ts::cpu::TS_ISA
