// Scans along rows: cumsum, y_c = x_0 + ... + x_c; cumprod; cummax and cummin with their places;
// logcumsumexp.
//
// R rows, C columns. Sums go by blocks of 256: within a block, groups of 16 bytes are scanned in a register
// and carried to the next one; a block starts from the sum of the blocks before it, kept in float64. Products
// and extremes go one by one (blocks of products could overflow where the whole does not), four rows side by
// side where there are as many. Sums of exponentials are those below the largest so far: their exponentials
// and logarithms go a register at a time, their sums one by one in float64. Reads x once, writes y once.
#include <cstring>
#include <limits>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"
#include "math/vmath.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kScanBlock = 256;

// The scan of one block from 0, and its total. Groups are 16 bytes on every level: the same bits.
template <class T>
TS_INLINE T scan_block(const T* x, T* y, std::int64_t n, T offset) {
  typedef T Group __attribute__((vector_size(16)));
  typedef IntOf<T> Places __attribute__((vector_size(16)));
  constexpr int G = 16 / static_cast<int>(sizeof(T));
  const Group zero{};
  Group carry{};
  std::int64_t i = 0;
  for (; i + G <= n; i += G) {
    Group v;
    std::memcpy(&v, x + i, 16);
    Places shift{}, last{};
    for (int step = 1; step < G; step *= 2) {  // lane i + lane i - step
      for (int k = 0; k < G; ++k) shift[k] = static_cast<IntOf<T>>(k < step ? G : k - step);
      v = v + __builtin_shuffle(v, zero, shift);
    }
    for (int k = 0; k < G; ++k) last[k] = G - 1;
    const Group sum = carry + v;
    carry = carry + __builtin_shuffle(v, last);
    const Group out = sum + (zero + offset);
    std::memcpy(y + i, &out, 16);
  }
  T total = carry[0];
  for (; i < n; ++i) {
    total = static_cast<T>(total + x[i]);
    y[i] = static_cast<T>(total + offset);
  }
  return total;
}

// Halves are widened and rounded a block at a time.
template <class S>
TS_INLINE void scan_row(const S* x, S* y, std::int64_t C) {
  using T = Computed<S>;
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, T>;
  Sum before = 0;
  for (std::int64_t i = 0; i < C; i += kScanBlock) {
    const std::int64_t n = C - i < kScanBlock ? C - i : kScanBlock;
    T total;
    if constexpr (is_half_type<S>) {
      alignas(64) T block[kScanBlock];
      each<T>(0, n, [&](std::int64_t k, auto part) { put(block + k, get(x + i + k, part), part); });
      total = scan_block(block, block, n, static_cast<T>(before));
      each<T>(0, n, [&](std::int64_t k, auto part) { put(y + i + k, get(block + k, part), part); });
    } else {
      total = scan_block(x + i, y + i, n, static_cast<T>(before));
    }
    before = static_cast<Sum>(before + static_cast<Sum>(total));
  }
}

// Scans of one row after another, or of four whose chains of operations overlap: body(rows, first).
template <class Body>
void for_scans(std::int64_t rows, std::int64_t columns, const Body& body) {
  constexpr std::int64_t kSide = 4;
  const std::int64_t grain = columns >= kRowGrain ? kSide : (kRowGrain / (columns + 8) / kSide + 1) * kSide;
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (; begin + kSide <= end; begin += kSide) body(std::integral_constant<int, kSide>{}, begin);
    for (; begin < end; ++begin) body(std::integral_constant<int, 1>{}, begin);
  });
}

// Calls body(offset, n, from, to) for K rows from the first on, from and to being x and y or, a block of
// halves after the other, what these are as float32.
template <int K, class S, class Body>
TS_INLINE void for_blocks(const Rows<const S>& xs, const Rows<S>& ys, std::int64_t first, std::int64_t C,
                          const Body& body) {
  using T = Computed<S>;
  const T* from[K];
  T* to[K];
  if constexpr (is_half_type<S>) {
    alignas(64) T block[K][kScanBlock];
    for (int k = 0; k < K; ++k) from[k] = to[k] = block[k];
    for (std::int64_t i = 0; i < C; i += kScanBlock) {
      const std::int64_t n = C - i < kScanBlock ? C - i : kScanBlock;
      for (int k = 0; k < K; ++k)
        each<T>(0, n, [&](std::int64_t c, auto part) {
          put(block[k] + c, get(xs[first + k] + i + c, part), part);
        });
      body(i, n, from, to);
      for (int k = 0; k < K; ++k)
        each<T>(0, n, [&](std::int64_t c, auto part) {
          put(ys[first + k] + i + c, get(block[k] + c, part), part);
        });
    }
  } else {
    for (int k = 0; k < K; ++k) from[k] = xs[first + k], to[k] = ys[first + k];
    body(std::int64_t{0}, C, from, to);
  }
}

// Whether x takes the place of the best so far: NaN stays, and of equals the last one counts.
template <class T, bool kLargest>
TS_INLINE bool takes_over(T x, T best) {
  if (best != best) return false;
  return x != x || (kLargest ? x >= best : x <= best);
}

template <bool kLargest>
void scan_extremes(const View& x, const View& y, const View& index) {
  with_elements(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const Rows<const S> xs(x);
    const Rows<S> ys(y);
    std::int64_t* const places = static_cast<std::int64_t*>(index.data);
    const std::int64_t C = x.shape[1], pitch = places ? index.strides[0] : 0;
    for_scans(x.shape[0], C, [&](auto count, std::int64_t first) {
      constexpr int K = decltype(count)::value;
      T best[K];
      std::int64_t place[K] = {};
      for (int k = 0; k < K; ++k) best[k] = xs[first + k][0];
      // Whether places are wanted is asked once, and pointers are copied, which no store could then change.
      const auto scan = [&](auto wanted, std::int64_t offset, std::int64_t n, const T* const* from,
                            T* const* to) {
        const T* in[K];
        T* out[K];
        std::int64_t* at[K];
        for (int k = 0; k < K; ++k) {
          in[k] = from[k], out[k] = to[k];
          at[k] = places + (first + k) * pitch + offset;
        }
        for (std::int64_t c = 0; c < n; ++c)
#pragma GCC unroll 4
          for (int k = 0; k < K; ++k) {
            const T value = in[k][c];
            const bool over = takes_over<T, kLargest>(value, best[k]);
            best[k] = over ? value : best[k];
            out[k][c] = best[k];
            if constexpr (decltype(wanted)::value) {
              place[k] = over ? offset + c : place[k];
              at[k][c] = place[k];
            }
          }
      };
      for_blocks<K>(xs, ys, first, C,
                    [&](std::int64_t offset, std::int64_t n, const T* const* from, T* const* to) {
                      places ? scan(std::true_type{}, offset, n, from, to)
                             : scan(std::false_type{}, offset, n, from, to);
                    });
    });
  });
}

// y_c = m + log s with m the largest so far and s the sum of e^(x_j - m).
template <class T>
void log_sums(const T* x, T* y, std::int64_t C) {
  constexpr std::int64_t W = Vec<T>::width;
  alignas(64) T most[kScanBlock], below[kScanBlock], sums[kScanBlock];
  bool higher[kScanBlock];
  T high = -std::numeric_limits<T>::infinity();
  double sum = 0;
  for (std::int64_t i = 0; i < C; i += kScanBlock) {
    const std::int64_t n = C - i < kScanBlock ? C - i : kScanBlock;
    for (std::int64_t k = 0; k < n; ++k) {
      const T value = x[i + k];
      const bool over = value > high;
      // Equal infinities are 0 apart.
      below[k] = value == high ? T(0) : over ? high - value : value - high;
      high = over ? value : high;
      most[k] = high, higher[k] = over;
    }
    for (std::int64_t k = n; k % W != 0; ++k) most[k] = below[k] = sums[k] = T(0);
    for (std::int64_t k = 0; k < n; k += W) vmath::exp(Vec<T>::load(below + k)).store(below + k);
    for (std::int64_t k = 0; k < n; ++k) {
      const double e = static_cast<double>(below[k]);
      sum = sum * (higher[k] ? e : 1.0) + (higher[k] ? 1.0 : e);
      sums[k] = static_cast<T>(sum);
    }
    for (std::int64_t k = 0; k < n; k += W)
      (Vec<T>::load(most + k) + vmath::log(Vec<T>::load(sums + k))).store(most + k);
    std::memcpy(y + i, most, static_cast<std::size_t>(n) * sizeof(T));
  }
}

// sums_c = dy_c + e^(y_c - y_{c+1}) sums_{c+1}, from the end.
template <class T>
void decayed_sums(const T* dy, const T* y, T* sums, std::int64_t C) {
  constexpr std::int64_t W = Vec<T>::width;
  alignas(64) T decay[kScanBlock];
  double sum = 0;
  for (std::int64_t end = C; end > 0;) {
    const std::int64_t n = (end - 1) % kScanBlock + 1, begin = end - n;
    for (std::int64_t k = 0; k < n; ++k) {
      const std::int64_t c = begin + k;
      decay[k] = c + 1 == C || y[c] == y[c + 1] ? T(0) : y[c] - y[c + 1];
    }
    for (std::int64_t k = n; k % W != 0; ++k) decay[k] = T(0);
    for (std::int64_t k = 0; k < n; k += W) vmath::exp(Vec<T>::load(decay + k)).store(decay + k);
    for (std::int64_t k = n; k-- > 0;) {
      sum = sum * static_cast<double>(decay[k]) + static_cast<double>(dy[begin + k]);
      sums[begin + k] = static_cast<T>(sum);
    }
    end = begin;
  }
}

template <class T>
void complex_products(const View& x, const View& y) {
  const Rows<const ComplexBits<T>> xs(x);
  const Rows<ComplexBits<T>> ys(y);
  for_scans(x.shape[0], x.shape[1], [&](auto count, std::int64_t first) {
    constexpr int K = decltype(count)::value;
    double re[K], im[K];
    for (std::int64_t c = 0; c < x.shape[1]; ++c)
      for (int k = 0; k < K; ++k) {
        const ComplexBits<T> z = xs[first + k][c];
        const double a = c == 0 ? z.real : re[k] * z.real - im[k] * z.imag;
        im[k] = c == 0 ? z.imag : re[k] * z.imag + im[k] * z.real;
        re[k] = a;
        ys[first + k][c] = {static_cast<T>(re[k]), static_cast<T>(im[k])};
      }
  });
}

}  // namespace

void cumprod(In x, Out y) {
  if (x.dtype == DType::complex64) return complex_products<float>(x, y);
  if (x.dtype == DType::complex128) return complex_products<double>(x, y);
  const std::int64_t R = x.shape[0], C = x.shape[1];
  const auto multiply = [&]<class S>(Type<S>) {
    using T = Computed<S>;
    using Product = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
    const Rows<const S> xs(x);
    const Rows<S> ys(y);
    for_scans(R, C, [&](auto count, std::int64_t first) {
      constexpr int K = decltype(count)::value;
      Product product[K];
      for (int k = 0; k < K; ++k) product[k] = 1;
      for_blocks<K>(xs, ys, first, C, [&](std::int64_t, std::int64_t n, const T* const* from, T* const* to) {
        for (std::int64_t c = 0; c < n; ++c)
          for (int k = 0; k < K; ++k) {
            product[k] *= static_cast<Product>(from[k][c]);  // integers wrap
            to[k][c] = static_cast<T>(product[k]);
          }
      });
    });
  };
  is_half(x.dtype) ? with_stored(x.dtype, multiply) : with_wide(x.dtype, multiply);
}

void cummax(In x, Out y, Out index) { scan_extremes<true>(x, y, index); }
void cummin(In x, Out y, Out index) { scan_extremes<false>(x, y, index); }

void logcumsumexp(In x, Out y) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Rows<const T> xs(x);
    const Rows<T> ys(y);
    const std::int64_t C = x.shape[1], grain = 1 + kRowGrain / 4 / (C + 8);
    parallel_ranges(x.shape[0], grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) log_sums(xs[r], ys[r], C);
    });
  });
}
void logcumsumexp_backward(In dy, In y, Out sums) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    const Rows<const T> dys(dy), ys(y);
    const Rows<T> to(sums);
    const std::int64_t C = y.shape[1], grain = 1 + kRowGrain / 4 / (C + 8);
    parallel_ranges(y.shape[0], grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) decayed_sums(dys[r], ys[r], to[r], C);
    });
  });
}

void cumsum(In x, Out y) {
  const auto scan = [&]<class T>(Type<T>) {
    const Rows<const T> xs(x);
    const Rows<T> ys(y);
    const std::int64_t C = x.shape[1];
    const std::int64_t grain = C >= kRowGrain ? 1 : kRowGrain / (C + 8);
    parallel_ranges(x.shape[0], grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) scan_row(xs[r], ys[r], C);
    });
  };
  switch (x.dtype) {  // integers wrap: as unsigned numbers
    case DType::float32:
      return scan(Type<float>{});
    case DType::float64:
      return scan(Type<double>{});
    case DType::float16:
      return scan(Type<Float16>{});
    case DType::bfloat16:
      return scan(Type<BFloat16>{});
    case DType::int32:
      return scan(Type<std::uint32_t>{});
    case DType::int64:
      return scan(Type<std::uint64_t>{});
    default:
      return scan(Type<std::uint8_t>{});
  }
}

}  // namespace ts::cpu::TS_ISA
