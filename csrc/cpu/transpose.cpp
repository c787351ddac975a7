// Gathering and scattering of tiles; see transpose.h.
#include "cpu/transpose.h"

#include <utility>

namespace ts::cpu::TS_ISA {
namespace {

// N x N elements in N registers: log2 N rounds of interleaving register i with register i + N/2.
template <class T>
struct Square {
  static constexpr int N =
      sizeof(T) >= 4 ? kVectorBytes / static_cast<int>(sizeof(T)) : 16 / static_cast<int>(sizeof(T));
  typedef T Row __attribute__((vector_size(N * sizeof(T))));

  // a[k], b[k], a[k + 1], ... from k = first on
  template <int first, int... I>
  TS_INLINE static Row interleave(Row a, Row b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (I % 2 * N + first + I / 2)...);
#else
    typedef IntOf<T> Index __attribute__((vector_size(N * sizeof(T))));
    return __builtin_shuffle(a, b, Index{static_cast<IntOf<T> >(I % 2 * N + first + I / 2)...});
#endif
  }
  // a[0], a[2], ..., b[shift], b[shift + 2], ...
  template <int shift, int... I>
  TS_INLINE static Row evens(Row a, Row b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (2 * I + (I < N / 2 ? 0 : shift))...);
#else
    typedef IntOf<T> Index __attribute__((vector_size(N * sizeof(T))));
    return __builtin_shuffle(a, b, Index{static_cast<IntOf<T> >(2 * I + (I < N / 2 ? 0 : shift))...});
#endif
  }
  // to[r * to_stride + c] = from[c, r], columns of `from` contiguous and `from_stride` bytes apart
  TS_INLINE static void transpose(T* to, std::int64_t to_stride, const char* from, std::int64_t from_stride) {
    Row a[N], b[N];
    for (int i = 0; i < N; ++i) std::memcpy(&a[i], from + i * from_stride, sizeof(Row));
    for (int round = 1; round < N; round *= 2) {
      for (int i = 0; i < N / 2; ++i) {
        b[2 * i] = interleave<0>(a[i], a[i + N / 2], std::make_integer_sequence<int, N>{});
        b[2 * i + 1] = interleave<N / 2>(a[i], a[i + N / 2], std::make_integer_sequence<int, N>{});
      }
      for (int i = 0; i < N; ++i) a[i] = b[i];
    }
    for (int i = 0; i < N; ++i) std::memcpy(to + i * to_stride, &a[i], sizeof(Row));
  }
};

// A complex128, which moves as it is.
struct Bytes16 {
  std::uint64_t low, high;
};

// to[c] = from[2 * c]: the even ones of two registers at a time. What lies behind the last is not read: the
// last registers, which may have been taken in part before, begin one element earlier.
template <class T>
TS_INLINE void gather_pairs(T* to, const char* from, std::int64_t columns) {
  std::int64_t c = 0;
  if constexpr (sizeof(T) == 4 || sizeof(T) == 8) {
    constexpr std::int64_t N = Square<T>::N, item = sizeof(T);
    using Row = typename Square<T>::Row;
    constexpr auto lanes = std::make_integer_sequence<int, static_cast<int>(N)>{};
    const auto take = [&]<int shift>(std::integral_constant<int, shift>) __attribute__((always_inline)) {
      Row a, b;
      std::memcpy(&a, from + 2 * c * item, sizeof(Row));
      std::memcpy(&b, from + (2 * c + N - shift) * item, sizeof(Row));
      const Row even = Square<T>::template evens<shift>(a, b, lanes);
      std::memcpy(to + c, &even, sizeof(Row));
    };
    for (; c + N < columns; c += N) {
      if constexpr (sizeof(Row) == 64)  // registers across lines are loaded from the first-level cache
        for (std::int64_t k = 0; k < 2; ++k) __builtin_prefetch(from + (2 * c + k * N) * item + 2048);
      take(std::integral_constant<int, 0>{});
    }
    if (columns >= N) {
      c = columns - N;
      return take(std::integral_constant<int, 1>{});
    }
  }
  for (; c < columns; ++c) std::memcpy(to + c, from + 2 * c * sizeof(T), sizeof(T));
}

template <class T>
TS_INLINE void fill_row(T* to, const char* from, std::int64_t columns) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  for (std::int64_t c = 0; c < columns; ++c) to[c] = value;
}

// Every element twice: to[2 * r] = to[2 * r + 1] = from[r].
template <class T>
TS_INLINE void repeat_pairs(T* to, const char* from, std::int64_t rows) {
  std::int64_t r = 0;
  if constexpr (sizeof(T) <= 8) {
    constexpr int N = Square<T>::N;
    using Row = typename Square<T>::Row;
    constexpr auto lanes = std::make_integer_sequence<int, N>{};
    for (; r + N <= rows; r += N) {
      Row a;
      std::memcpy(&a, from + r * sizeof(T), sizeof(Row));
      const Row low = Square<T>::template interleave<0>(a, a, lanes);
      const Row high = Square<T>::template interleave<N / 2>(a, a, lanes);
      std::memcpy(to + 2 * r, &low, sizeof(Row));
      std::memcpy(to + 2 * r + N, &high, sizeof(Row));
    }
  }
  for (; r < rows; ++r) {
    T value;
    std::memcpy(&value, from + r * sizeof(T), sizeof(T));
    to[2 * r] = to[2 * r + 1] = value;
  }
}

template <class T>
void gather_as(char* buffer, const char* from, std::int64_t s0, std::int64_t s1, std::int64_t columns,
               std::int64_t rows) {
  constexpr std::int64_t item = sizeof(T);
  T* to = reinterpret_cast<T*>(buffer);
  if (s0 == 0 && s1 == item && columns == 2) return repeat_pairs(to, from, rows);
  std::int64_t r = 0;
  if constexpr (sizeof(T) <= 8) {
    constexpr std::int64_t N = Square<T>::N;
    if (s1 == item && s0 != item) {
      // The last square of a row or column of them begins earlier and does some elements again.
      for (; r < rows && rows >= N; r += N) {
        if (r + N > rows) r = rows - N;
        std::int64_t c = 0;
        for (; c < columns && columns >= N; c += N) {
          if (c + N > columns) c = columns - N;
          Square<T>::transpose(to + r * columns + c, columns, from + c * s0 + r * item, s0);
        }
        for (; c < columns; ++c)
          for (std::int64_t i = 0; i < N; ++i)
            std::memcpy(to + (r + i) * columns + c, from + c * s0 + (r + i) * item, item);
      }
    }
  }
  for (; r < rows; ++r) {
    T* row = to + r * columns;
    if (s1 == 0 && r > 0) {  // the same row again: copies of all rows so far
      const std::int64_t count = r < rows - r ? r : rows - r;
      std::memcpy(row, to, static_cast<std::size_t>(count * columns) * sizeof(T));
      r += count - 1;
      continue;
    }
    const char* p = from + r * s1;
    if (s0 == item)
      std::memcpy(row, p, static_cast<std::size_t>(columns) * sizeof(T));
    else if (s0 == 2 * item)
      gather_pairs(row, p, columns);
    else if (s0 == 0)
      fill_row(row, p, columns);
    else
      for (std::int64_t c = 0; c < columns; ++c) std::memcpy(row + c, p + c * s0, item);
  }
}
template <class T>
void scatter_as(char* to, const char* buffer, std::int64_t s0, std::int64_t s1, std::int64_t columns,
                std::int64_t rows) {
  const T* from = reinterpret_cast<const T*>(buffer);
  for (std::int64_t r = 0; r < rows; ++r, from += columns, to += s1) {
    if (s0 == static_cast<std::int64_t>(sizeof(T))) {
      std::memcpy(to, from, static_cast<std::size_t>(columns) * sizeof(T));
      continue;
    }
    for (std::int64_t c = 0; c < columns; ++c) std::memcpy(to + c * s0, from + c, sizeof(T));
  }
}

}  // namespace

void gather(char* buffer, const char* from, std::int64_t item, std::int64_t s0, std::int64_t s1,
            std::int64_t columns, std::int64_t rows) {
  switch (item) {
    case 1:
      return gather_as<std::uint8_t>(buffer, from, s0, s1, columns, rows);
    case 2:
      return gather_as<std::uint16_t>(buffer, from, s0, s1, columns, rows);
    case 4:
      return gather_as<std::uint32_t>(buffer, from, s0, s1, columns, rows);
    case 8:
      return gather_as<std::uint64_t>(buffer, from, s0, s1, columns, rows);
    default:
      return gather_as<Bytes16>(buffer, from, s0, s1, columns, rows);
  }
}
void scatter(char* to, const char* buffer, std::int64_t item, std::int64_t s0, std::int64_t s1,
             std::int64_t columns, std::int64_t rows) {
  switch (item) {
    case 1:
      return scatter_as<std::uint8_t>(to, buffer, s0, s1, columns, rows);
    case 2:
      return scatter_as<std::uint16_t>(to, buffer, s0, s1, columns, rows);
    case 4:
      return scatter_as<std::uint32_t>(to, buffer, s0, s1, columns, rows);
    case 8:
      return scatter_as<std::uint64_t>(to, buffer, s0, s1, columns, rows);
    default:
      return scatter_as<Bytes16>(to, buffer, s0, s1, columns, rows);
  }
}

}  // namespace ts::cpu::TS_ISA
