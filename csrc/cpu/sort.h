// Sorting unsigned keys: a network of comparators for short runs, a radix sort for the rest.
//
// Every order is a total one on integers (Order turns values into keys), so the result does not depend on the
// algorithm that was chosen, the SIMD level or the threads.
#pragma once

#include "cpu/half.h"
#include "cpu/parallel.h"
#include "cpu/reduce.h"

namespace ts::cpu::TS_ISA {

template <class T>
using KeyOf = std::make_unsigned_t<IntOf<T>>;

// Values as integers that sort as they do. NaN is one value; zeros may be (`kOneZero`), which stability
// needs.
template <class T, bool kOneZero>
struct Order {
  using Key = KeyOf<T>;
  static constexpr Key kTop = static_cast<Key>(Key(1) << (8 * sizeof(Key) - 1));
  Key flip, nan;

  // Ascending or descending with NaN at the end; or, with `greatest`, NaN above every number.
  Order(bool descending, bool greatest)
      : flip(descending ? static_cast<Key>(~Key(0)) : Key(0)),
        nan(greatest ? static_cast<Key>(~Key(0)) : static_cast<Key>(~flip)) {}

  TS_INLINE Key key(T x) const {
    if constexpr (std::is_floating_point_v<T>) {
      const T value = kOneZero ? x + T(0) : x;
      IntOf<T> bits;
      __builtin_memcpy(&bits, &value, sizeof(T));
      const Key k = static_cast<Key>(bits) ^ (static_cast<Key>(bits >> (8 * sizeof(T) - 1)) | kTop);
      return (x == x ? k : nan) ^ flip;
    } else {
      return static_cast<Key>((static_cast<Key>(x) ^ (std::is_signed_v<T> ? kTop : Key(0))) ^ flip);
    }
  }
  TS_INLINE T value(Key k) const {
    k = static_cast<Key>(k ^ flip);
    if constexpr (std::is_floating_point_v<T>) {
      const Key bits = k ^ (k & kTop ? kTop : static_cast<Key>(~Key(0)));
      T x;
      __builtin_memcpy(&x, &bits, sizeof(T));
      return x;
    } else {
      return static_cast<T>(k ^ (std::is_signed_v<T> ? kTop : Key(0)));
    }
  }
};

// Halves, by their bits: in the order of the floats that they stand for.
template <class S, bool kOneZero>
  requires is_half_type<S>
struct Order<S, kOneZero> {
  using Key = std::uint16_t;
  static constexpr Key kTop = 0x8000, kInfinity = std::is_same_v<S, BFloat16> ? 0x7f80 : 0x7c00;
  Key flip, nan;

  Order(bool descending, bool greatest)
      : flip(descending ? Key(0xffff) : Key(0)), nan(greatest ? Key(0xffff) : static_cast<Key>(~flip)) {}

  TS_INLINE Key key(S x) const {
    const Key bits = kOneZero && x.bits == kTop ? Key(0) : x.bits;
    const Key k = static_cast<Key>(bits ^ (bits & kTop ? 0xffff : kTop));
    return static_cast<Key>(((bits & 0x7fff) > kInfinity ? nan : k) ^ flip);
  }
  TS_INLINE S value(Key k) const {
    k = static_cast<Key>(k ^ flip);
    return {static_cast<Key>(k ^ (k & kTop ? kTop : Key(0xffff)))};
  }
};

// --- the network: bitonic, the pairs of a step side by side in registers -----------------------------------

template <class K>
struct Network {
  using V = Vec<K>;
  static constexpr std::int64_t W = V::width;
  using Lanes = std::make_integer_sequence<int, V::width>;

  // Lane i against lane i ^ Stride; the smaller goes down where bit `Size` of i is 0, if Up.
  template <int Size, int Stride, bool Up, int... I>
  TS_INLINE static V step(V v, std::integer_sequence<int, I...>) {
    constexpr typename V::MaskReg partner = {static_cast<IntOf<K>>(I ^ Stride)...};
    constexpr typename V::MaskReg low = {
        static_cast<IntOf<K>>(((I & Stride) == 0) == (((I & Size) == 0) == Up) ? -1 : 0)...};
    const V other(__builtin_shuffle(v.r, partner));
    return select(Mask<K>(low), min(v, other), max(v, other));
  }
  template <int Size, int Stride, bool Up>
  TS_INLINE static V steps(V v) {
    v = step<Size, Stride, Up>(v, Lanes{});
    if constexpr (Stride > 1)
      return steps<Size, Stride / 2, Up>(v);
    else
      return v;
  }
  template <int Size, bool Up>
  TS_INLINE static V sort_lanes(V v) {
    if constexpr (Size == V::width) {
      return steps<Size, Size / 2, Up>(v);
    } else {
      return sort_lanes<2 * Size, Up>(steps<Size, Size / 2, true>(v));
    }
  }

  // n is a power of two and at least two registers.
  static void sort(K* a, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += 2 * W) {
      sort_lanes<2, true>(V::load(a + i)).store(a + i);
      sort_lanes<2, false>(V::load(a + i + W)).store(a + i + W);
    }
    for (std::int64_t size = 2 * W; size < n; size *= 2)
      for (std::int64_t i = 0; i < n; i += 2 * size)
        merge<true>(a + i, size), merge<false>(a + i + size, size);
    merge<true>(a, n);
  }
  // A bitonic run into an ascending or descending one.
  template <bool Up>
  TS_INLINE static void merge(K* a, std::int64_t size) {
    std::int64_t stride = size / 2;
    for (; stride >= 2 * W; stride /= 4) {  // two steps at a time
      const std::int64_t s = stride / 2;
      for (std::int64_t block = 0; block < size; block += 4 * s)
        for (std::int64_t i = block; i < block + s; i += W) {
          V v[4];
          for (int k = 0; k < 4; ++k) v[k] = V::load(a + i + k * s);
          compare<Up>(v[0], v[2]), compare<Up>(v[1], v[3]);
          compare<Up>(v[0], v[1]), compare<Up>(v[2], v[3]);
          for (int k = 0; k < 4; ++k) v[k].store(a + i + k * s);
        }
    }
    if (stride == W) {
      for (std::int64_t i = 0; i < size; i += 2 * W) {
        V low = V::load(a + i), high = V::load(a + i + W);
        compare<Up>(low, high);
        steps<V::width, V::width / 2, Up>(low).store(a + i);
        steps<V::width, V::width / 2, Up>(high).store(a + i + W);
      }
    } else {
      for (std::int64_t i = 0; i < size; i += W)
        steps<V::width, V::width / 2, Up>(V::load(a + i)).store(a + i);
    }
  }
  template <bool Up>
  TS_INLINE static void compare(V& a, V& b) {
    const V low = min(a, b), high = max(a, b);
    a = Up ? low : high;
    b = Up ? high : low;
  }
};

template <class K>
constexpr std::int64_t kNetworkLength = sizeof(K) == 8 ? 512 : 2048;  // the longest run it is used for

inline std::int64_t padded_length(std::int64_t n, std::int64_t least) {
  while (least < n) least *= 2;
  return least;
}

// a[0..n) ascending, n <= kNetworkLength; a has room for kNetworkLength.
template <class K>
inline void network_sort(K* a, std::int64_t n) {
  const std::int64_t length = padded_length(n, 2 * Vec<K>::width);
  for (std::int64_t i = n; i < length; ++i) a[i] = static_cast<K>(~K(0));
  Network<K>::sort(a, length);
}

// --- the radix sort: a byte at a time, the least significant first
// ------------------------------------------

// Long runs are cut into chunks; each counts its bytes and later knows where its elements go.
constexpr std::int64_t kSortGrain = 1 << 14;
inline std::int64_t sort_chunk(std::int64_t n) {
  const std::int64_t grain = (n + 127) / 128;
  return n < 2 * kSortGrain ? n : grain < kSortGrain ? kSortGrain : grain;
}

// Sorts a[0..n) by its bytes [first, last), stably; b is as long. Returns where the result is: a or b.
template <class K>
inline K* radix_sort(K* a, K* b, std::int64_t n, int first, int last) {
  const std::int64_t chunk = sort_chunk(n), chunks = n ? (n + chunk - 1) / chunk : 0;
  std::int64_t* const table = static_cast<std::int64_t*>(scratch());
  for (int byte = first; byte < last; ++byte) {
    const int shift = 8 * byte;
    parallel_for(chunks, [&](std::int64_t c) {
      std::int64_t counts[2][256] = {};  // two: equal neighbours do not wait for each other
      const std::int64_t end = n < (c + 1) * chunk ? n : (c + 1) * chunk;
      std::int64_t i = c * chunk;
      for (; i + 2 <= end; i += 2) ++counts[0][(a[i] >> shift) & 255], ++counts[1][(a[i + 1] >> shift) & 255];
      if (i < end) ++counts[0][(a[i] >> shift) & 255];
      for (int d = 0; d < 256; ++d) table[c * 256 + d] = counts[0][d] + counts[1][d];
    });
    std::int64_t at = 0;
    bool one = false;
    for (int d = 0; d < 256; ++d) {
      const std::int64_t before = at;
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t count = table[c * 256 + d];
        table[c * 256 + d] = at;
        at += count;
      }
      one = one || at - before == n;
    }
    if (one) continue;  // all have this byte in common
    parallel_for(chunks, [&](std::int64_t c) {
      const std::int64_t end = n < (c + 1) * chunk ? n : (c + 1) * chunk;
      std::int64_t to[256];
      std::memcpy(to, table + c * 256, sizeof(to));
      for (std::int64_t i = c * chunk; i < end; ++i) b[to[(a[i] >> shift) & 255]++] = a[i];
    });
    K* const swap = a;
    a = b, b = swap;
  }
  return a;
}

// After a sort by the upper half alone: puts runs of equal upper halves in order by insertion, a run at a
// time. `less(x, y)` orders two elements of a run. False where a run is too long for that: sort again by all.
template <class Less>
inline bool repair_runs(std::uint64_t* a, std::int64_t n, const Less& less) {
  constexpr std::int64_t kLongest = 32;
  const std::int64_t chunk = sort_chunk(n), chunks = n ? (n + chunk - 1) / chunk : 0;
  std::int64_t starts[130];
  starts[0] = 0;
  for (std::int64_t c = 1; c < chunks; ++c) {  // no run lies in two pieces
    std::int64_t i = c * chunk;
    while (i < n && i < c * chunk + kLongest && a[i] >> 32 == a[i - 1] >> 32) ++i;
    if (i == c * chunk + kLongest) return false;
    starts[c] = i;
  }
  starts[chunks] = n;
  bool failed[130] = {};
  parallel_for(chunks, [&](std::int64_t c) {
    const std::int64_t end = starts[c + 1];
    for (std::int64_t i = starts[c]; i + 1 < end;) {
      if (a[i] >> 32 != a[i + 1] >> 32) {
        ++i;
        continue;
      }
      std::int64_t stop = i + 2;
      while (stop < end && a[stop] >> 32 == a[i] >> 32) ++stop;
      if (stop - i > kLongest) {
        failed[c] = true;
        return;
      }
      for (std::int64_t p = i + 1; p < stop; ++p) {
        const std::uint64_t moving = a[p];
        std::int64_t q = p;
        for (; q > i && less(moving, a[q - 1]); --q) a[q] = a[q - 1];
        a[q] = moving;
      }
      i = stop;
    }
  });
  for (std::int64_t c = 0; c < chunks; ++c)
    if (failed[c]) return false;
  return true;
}

}  // namespace ts::cpu::TS_ISA
