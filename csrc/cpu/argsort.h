// The order of keys, stable: a key and its position are one number, and no two numbers are equal, so any sort
// of them will do: AVX-512's quicksort, else a network or a radix sort.
#pragma once

#include "cpu/quicksort.h"

namespace ts::cpu::TS_ISA {

#if defined(__AVX2__)
template <class K>
TS_INLINE void store_some(Vec<K> v, K* y, std::int64_t count) {
  if (count == Vec<K>::width)
    v.store(y);
  else
    v.store_partial(y, count);
}
#endif

// Up to 2^16 keys of two bytes: key and position are one number of four bytes.
template <class T>
void argsort_short_keys(const T* x, std::int64_t* y, std::int64_t n, const Order<T, true>& order,
                        char* workspace) {
  std::uint32_t* const a = reinterpret_cast<std::uint32_t*>(workspace);
  std::uint32_t* const b = a + (n < kNetworkLength<std::uint32_t> ? kNetworkLength<std::uint32_t> : n);
  for (std::int64_t i = 0; i < n; ++i)
    a[i] = static_cast<std::uint32_t>(order.key(x[i])) << 16 | static_cast<std::uint32_t>(i);
#if defined(__AVX512F__)
  const Vec<std::uint32_t> places(0xffffu);
  quicksort(
      a, std::uint32_t(0), a, b,
      n, [&](Vec<std::uint32_t> v, std::int64_t at, std::int64_t count) __attribute__((always_inline)) {
        constexpr std::int64_t W = Vec<std::uint64_t>::width;
        const auto [low, high] = widened(v & places);
        std::uint64_t* const to = reinterpret_cast<std::uint64_t*>(y) + at;
        store_some(low, to, count < W ? count : W);
        if (count > W) store_some(high, to + W, count - W);
      });
#else
  const std::uint32_t* sorted = a;
  if (n <= kNetworkLength<std::uint32_t>)
    network_sort(a, n);
  else
    sorted = radix_sort(a, b, n, 2, 4);
  for (std::int64_t i = 0; i < n; ++i) y[i] = sorted[i] & 0xffffu;
#endif
}

// Elements whose upper 32 bits, of which the first `bytes` differ, come before their positions. Sorted in a
// or b.
inline std::uint64_t* sort_elements(std::uint64_t* a, std::uint64_t* b, std::int64_t n, int bytes) {
#if defined(__AVX512F__)
  if (bytes == 1 && n > kNetworkLength<std::uint64_t>) return radix_sort(a, b, n, 4, 5);  // one pass
  quicksort(
      a, std::uint64_t(0), a, b,
      n, [&](Vec<std::uint64_t> v, std::int64_t at, std::int64_t count) __attribute__((always_inline)) {
        store_some(v, a + at, count);
      });
  return a;
#else
  if (n > kNetworkLength<std::uint64_t>) return radix_sort(a, b, n, 4, 4 + bytes);
  network_sort(a, n);
  return a;
#endif
}

// The stable order of keys key(0) ... key(n - 1), n < 2^32: elements whose lower 32 bits are the positions.
// a and b have room for n and at least kNetworkLength<uint64>; the result is in one of them.
template <class Key, class GetKey>
inline std::uint64_t* sort_positions(std::int64_t n, const GetKey& key, std::uint64_t* a, std::uint64_t* b) {
  constexpr int kDrop = sizeof(Key) == 8 ? 32 : 0;  // of 8-byte keys the upper half comes first
  constexpr int kBytes = sizeof(Key) == 8 ? 4 : static_cast<int>(sizeof(Key));
  const auto fill = [&](int drop, const std::uint64_t* order) {
    parallel_ranges(n, kSortGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t p = order ? static_cast<std::int64_t>(order[i] & 0xffffffffu) : i;
        a[i] = static_cast<std::uint64_t>(static_cast<std::uint32_t>(key(p) >> drop)) << 32 |
               static_cast<std::uint64_t>(p);
      }
    });
  };
  fill(kDrop, nullptr);
  std::uint64_t* y = sort_elements(a, b, n, kBytes);
  if constexpr (sizeof(Key) == 8) {
    const auto full = [&](std::uint64_t e) { return key(static_cast<std::int64_t>(e & 0xffffffffu)); };
    if (!repair_runs(y, n, [&](std::uint64_t p, std::uint64_t q) { return full(p) < full(q); })) {
      fill(0, nullptr);
      y = sort_elements(a, b, n, 4);
      if (y == a) {  // the next elements go to a
        y = b;
        parallel_ranges(n, kSortGrain, [&](std::int64_t begin, std::int64_t end) {
          std::memcpy(b + begin, a + begin, static_cast<std::size_t>(end - begin) * sizeof(*a));
        });
      }
      fill(32, y);
      y = radix_sort(a, b, n, 4, 8);
    }
  }
  return y;
}

}  // namespace ts::cpu::TS_ISA
