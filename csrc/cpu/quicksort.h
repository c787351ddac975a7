// Quicksort by registers: one comparison and two compressions a register and level.
//
// A long segment is parted in place, from both ends: blocks are read where room is short, what is below the
// pivot goes to the front, the rest to the back. A segment that the first-level cache holds is parted into
// what is below its pivot, which stays in front of its own memory, and the rest, which goes to the front of
// its twin: nothing is copied back, the twins of a part are what is left of both. What fits in 16 registers
// (8 with AVX2) is sorted there and handed out with its place. Keys are unsigned integers, or floats without
// NaN, whose minima and maxima have twice the throughput. Needs registers that can be compressed (AVX2,
// AVX-512); the result is that of any other sort of the same keys.
#pragma once

#include <limits>

#include "cpu/column_sort.h"
#include "cpu/compress.h"
#include "cpu/sort.h"

#if defined(__AVX2__)
namespace ts::cpu::TS_ISA {

// One bit for each lane below the pivot, or not above it.
template <bool kEqualToo, class K>
TS_INLINE unsigned below(Vec<K> v, Vec<K> pivot) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<K, float>)
    return _mm512_cmp_ps_mask(v.r, pivot.r, kEqualToo ? _CMP_LE_OQ : _CMP_LT_OQ);
  else if constexpr (std::is_same_v<K, double>)
    return _mm512_cmp_pd_mask(v.r, pivot.r, kEqualToo ? _CMP_LE_OQ : _CMP_LT_OQ);
  else if constexpr (sizeof(K) == 4)
    return _mm512_cmp_epu32_mask(__m512i(v.r), __m512i(pivot.r), kEqualToo ? _MM_CMPINT_LE : _MM_CMPINT_LT);
  else
    return _mm512_cmp_epu64_mask(__m512i(v.r), __m512i(pivot.r), kEqualToo ? _MM_CMPINT_LE : _MM_CMPINT_LT);
#else
  const Mask<K> m = kEqualToo ? v <= pivot : v < pivot;
  return static_cast<unsigned>(sizeof(K) == 4 ? _mm256_movemask_ps(__m256(m.r))
                                              : _mm256_movemask_pd(__m256d(m.r)));
#endif
}

// The lanes of `less` from `low` on, the others up to `high`. Both sides have room for a register.
template <class K>
TS_INLINE void store_parted(Vec<K> v, unsigned less, K* low, K* high) {
  constexpr int W = Vec<K>::width;
#if defined(__AVX512F__)
  const int more = W - __builtin_popcount(less);
  compress(v, less).store(low);
  compress(v, less ^ ((1u << W) - 1)).store_partial(high - more, more);
#else
  const Vec<K> parted = compress(v, less);
  parted.store(low), parted.store(high - W);
#endif
}

// The lower and the upper half of the lanes, twice as wide.
struct Widened {
  Vec<std::uint64_t> low, high;
};
TS_INLINE Widened widened(Vec<std::uint32_t> v) {
  using Reg = Vec<std::uint64_t>::Reg;
#if defined(__AVX512F__)
  const __m512i r = __m512i(v.r);
  return {Reg(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(r))),
          Reg(_mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(r, 1)))};
#else
  const __m256i r = __m256i(v.r);
  return {Reg(_mm256_cvtepu32_epi64(_mm256_castsi256_si128(r))),
          Reg(_mm256_cvtepu32_epi64(_mm256_extracti128_si256(r, 1)))};
#endif
}

template <class K>
TS_INLINE Vec<K> operator^(Vec<K> v, Vec<KeyOf<K>> flip)
  requires std::is_floating_point_v<K>
{
  return typename Vec<K>::Reg(typename Vec<KeyOf<K>>::Reg(v.r) ^ flip.r);
}

template <class K>
constexpr K kLast = std::is_floating_point_v<K> ? std::numeric_limits<K>::infinity() : static_cast<K>(~0ull);
#if defined(__AVX512F__)
constexpr int kSortRows = 16;  // registers that are sorted at once
#else
constexpr int kSortRows = 8;
#endif
template <class K>
constexpr std::int64_t kRegisterSort = kSortRows * Vec<K>::width;  // keys that are sorted in registers

constexpr std::int64_t kShared = 8192;      // sorts from here on are for all threads,
constexpr std::int64_t kLeastShare = 4096;  // in segments of about this length or more

template <int R, class K, class Put>
TS_INLINE void sort_in_registers(const K* keys, KeyOf<K> flip, std::int64_t n, const Put& put) {
  using V = Vec<K>;
  constexpr std::int64_t W = V::width;
  const Vec<KeyOf<K>> flips(flip);
  Columns<K, R> c;
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    const std::int64_t left = n - i * W;
    if (left >= W)
      c.row[i] = V::load(keys + i * W) ^ flips;
    else if (left > 0)
      c.row[i] = select(first_lanes<K>(left), V::load_partial(keys + i * W, left) ^ flips, V(kLast<K>));
    else
      c.row[i] = V(kLast<K>);
  }
  c.sort();
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    if (n > i * W) put(c.row[i], i * W, n - i * W < W ? n - i * W : W);
}
// put(register, at, count) takes n <= kRegisterSort keys, which are keys[i] ^ flip, in order.
template <class K, class Put>
TS_OUTLINE void sort_short(const K* keys, KeyOf<K> flip, std::int64_t n, const Put& put) {
  constexpr std::int64_t W = Vec<K>::width;
  if (n > 8 * W) return sort_in_registers<kSortRows>(keys, flip, n, put);
  if (n > 4 * W) return sort_in_registers<8>(keys, flip, n, put);
  if (n > W) return sort_in_registers<4>(keys, flip, n, put);
  if (n > 0) return sort_in_registers<1>(keys, flip, n, put);
}

#if defined(__AVX512F__)
template <class K>
struct IntoHalf {
  K* to;
  TS_INLINE void operator()(Vec<K> v, std::int64_t at, std::int64_t) const { v.store(to + at); }
};
// Twice as many keys: two sorted halves, the second turned round, are one bitonic sequence, whose smaller and
// larger halves are sorted one after the other. Cheaper than parting them, and only the second half is
// padded.
template <class K, class Put>
TS_OUTLINE void sort_merged(const K* keys, KeyOf<K> flip, std::int64_t n, const Put& put) {
  using V = Vec<K>;
  constexpr std::int64_t W = V::width, kHalf = kRegisterSort<K>;
  constexpr int R = kSortRows, last = W - 1;
  alignas(64) K half[3][kHalf];
  for (std::int64_t i = (n - kHalf) / W * W; i < kHalf; i += W) V(kLast<K>).store(half[1] + i);
  sort_short(keys, flip, kHalf, IntoHalf<K>{half[0]});
  sort_short(keys + kHalf, flip, n - kHalf, IntoHalf<K>{half[1]});
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    const V a = V::load(half[0] + i * W);
    const V b = Columns<K, R>::template swapped<last>(V::load(half[1] + (R - 1 - i) * W),
                                                      typename Columns<K, R>::Lanes{});
    min(a, b).store(half[0] + i * W);
    max(a, b).store(half[2] + i * W);
  }
  for (int larger = 0; larger < 2; ++larger) {
    Columns<K, R> c;
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) c.row[i] = V::load(half[2 * larger] + i * W);
    c.template merge_rows<R / 2>();
    c.template merge_lanes<W / 2>();
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
      if (const std::int64_t at = larger * kHalf + i * W; n > at) put(c.row[i], at, n - at < W ? n - at : W);
  }
}
template <class K>
constexpr std::int64_t kSortLeaf = 2 * kRegisterSort<K>;
#else
template <class K>
constexpr std::int64_t kSortLeaf = kRegisterSort<K>;
#endif
// The same of n <= kSortLeaf keys.
template <class K, class Put>
TS_INLINE void sort_leaf(const K* keys, KeyOf<K> flip, std::int64_t n, const Put& put) {
#if defined(__AVX512F__)
  if (n > kRegisterSort<K>) return sort_merged(keys, flip, n, put);
#endif
  sort_short(keys, flip, n, put);
}

template <class K>
constexpr std::int64_t kNear = 16384 / static_cast<std::int64_t>(sizeof(K));  // keys that are sorted by twins

template <class K>
struct Segment {
  K* keys;
  K* twin;             // room for as many
  std::int64_t n, at;  // at: the place of its first element in the result
  int depth;
};

// Put(register, at, count) takes sorted keys and where they belong.
template <class K, class Put>
struct Quicksort {
  static constexpr std::int64_t W = Vec<K>::width;
  static constexpr int kDepth = 96;
  const Put& put;

  // Of from[i] ^ flip, the elements below the pivot to the front of keys, the others to the front of twin;
  // how many are below. `from` may be keys.
  template <bool kEqualToo>
  TS_INLINE static std::int64_t part(const K* from, KeyOf<K> flip, K* keys, K* twin, std::int64_t n,
                                     K pivot) {
    const Vec<K> p(pivot);
    const Vec<KeyOf<K>> flips(flip);
    std::int64_t low = 0, high = 0, i = 0;
    // Whole registers: what follows the compressed lanes is not yet written, and in keys already read.
    const auto take = [&](Vec<K> v) {
      const unsigned less = below<kEqualToo>(v, p);
      const int down = __builtin_popcount(less);
      compress(v, less).store(keys + low);
      compress(v, less ^ ((1u << W) - 1)).store(twin + high);
      low += down, high += W - down;
    };
    for (; i + W <= n; i += W) take(Vec<K>::load(from + i) ^ flips);
    const unsigned lanes = (1u << (n - i)) - 1;
    const Vec<K> v = Vec<K>::load_partial(from + i, n - i) ^ flips;
    const unsigned less = below<kEqualToo>(v, p) & lanes, more = ~less & lanes;
    compress(v, less).store_partial(keys + low, __builtin_popcount(less));
    compress(v, more).store_partial(twin + high, __builtin_popcount(more));
    low += __builtin_popcount(less);
    return low;
  }

  // The same in place: the elements below the pivot come first. Two blocks are held back, so that both ends
  // have room for what the next one brings, wherever it is read. n is two blocks or more.
  template <bool kEqualToo>
  TS_INLINE static std::int64_t part_in_place(K* keys, KeyOf<K> flip, std::int64_t n, K pivot) {
    constexpr int R = kSortRows / 2;  // two blocks are no more than what is sorted in registers
    constexpr std::int64_t kBlock = R * W;
    constexpr std::int64_t kAhead = 1024 / static_cast<std::int64_t>(sizeof(K));
    const Vec<K> p(pivot);
    const Vec<KeyOf<K>> flips(flip);
    alignas(64) K rest[3 * kBlock];
    std::int64_t low = 0, high = n, left = 0, right = n, held = 0;
    const auto hold = [&](std::int64_t from, std::int64_t count) {
      Vec<K>::load_partial(keys + from, count).store(rest + held);
      held += count;
    };
    for (; left < kBlock; left += W) hold(left, W);
    for (; right > n - kBlock; right -= W) hold(right - W, W);
    while (right - left >= kBlock) {
      const bool back = high - right < left - low;  // without a branch: nothing can foretell it
      const K* const block = back ? keys + right - kBlock : keys + left;
      left += back ? 0 : kBlock, right -= back ? kBlock : 0;
      Vec<K> v[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) v[r] = Vec<K>::load(block + r * W) ^ flips;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        __builtin_prefetch(keys + left + kAhead + r * W);
        __builtin_prefetch(keys + right - kBlock - kAhead + r * W);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const unsigned less = below<kEqualToo>(v[r], p);
        const int down = __builtin_popcount(less);
        store_parted(v[r], less, keys + low, keys + high);
        low += down, high -= W - down;
      }
    }
    for (; left < right; left += W) hold(left, right - left < W ? right - left : W);
    for (std::int64_t i = 0; i < held; i += W) {
      const std::int64_t count = held - i < W ? held - i : W;
      const Vec<K> v = Vec<K>::load(rest + i) ^ flips;
      const unsigned lanes = (1u << count) - 1, less = below<kEqualToo>(v, p) & lanes, more = ~less & lanes;
      const int down = __builtin_popcount(less);
      compress(v, less).store_partial(keys + low, down);
      low += down, high -= count - down;
      compress(v, more).store_partial(keys + high, count - down);
    }
    return low;
  }
  // And into other memory: from[i] ^ flip, those below the pivot from the front of keys on, the others from
  // its end back.
  TS_INLINE static std::int64_t part_to_ends(const K* from, KeyOf<K> flip, K* keys, std::int64_t n, K pivot) {
    const Vec<K> p(pivot);
    const Vec<KeyOf<K>> flips(flip);
    std::int64_t low = 0, high = n;
    std::int64_t i = 0;
    for (; i + 2 * W <= n; i += W) {  // n - i elements are missing between low and high
      const Vec<K> v = Vec<K>::load(from + i) ^ flips;
      const unsigned less = below<false>(v, p);
      const int down = __builtin_popcount(less);
      store_parted(v, less, keys + low, keys + high);
      low += down, high -= W - down;
    }
    for (; i < n; i += W) {
      const std::int64_t count = n - i < W ? n - i : W;
      const Vec<K> v = Vec<K>::load_partial(from + i, count) ^ flips;
      const unsigned lanes = (1u << count) - 1, less = below<false>(v, p) & lanes, more = less ^ lanes;
      const int down = __builtin_popcount(less);
      compress(v, less).store_partial(keys + low, down);
      low += down, high -= count - down;
      compress(v, more).store_partial(keys + high, count - down);
    }
    return low;
  }

  // The median of R medians of W columns or, below, of R registers' worth of elements, evenly spread.
  template <int R>
  TS_INLINE static K median(const K* from, KeyOf<K> flip, std::int64_t n) {
    Columns<K, R> sample;
    const std::int64_t step = (n - W) / (R - 1);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) sample.row[i] = Vec<K>::load(from + i * step) ^ Vec<KeyOf<K>>(flip);
    sample.sort_columns();
    Columns<K, 1> medians;
    medians.row[0] = sample.row[R / 2];
    medians.sort();
    return medians.row[0][W / 2];
  }

  // Two segments in place of a long one, either possibly empty.
  void split(const Segment<K>& s, Segment<K>* parts) const { split(s.keys, KeyOf<K>(0), s, parts); }
  // The same, where the elements are from[i] ^ flip.
  void split(const K* from, KeyOf<K> flip, const Segment<K>& s, Segment<K>* parts) const {
    const K pivot = s.n > 32 * W ? median<8>(from, flip, s.n) : median<4>(from, flip, s.n);
    std::int64_t low = part<false>(from, flip, s.keys, s.twin, s.n, pivot);
    if (low == 0) {  // the pivot is the least: all equal to it are done
      low = part<true>(s.twin, KeyOf<K>(0), s.twin, s.keys, s.n, pivot);
      for (std::int64_t i = 0; i < low; i += W) put(Vec<K>(pivot), s.at + i, low - i < W ? low - i : W);
      parts[0] = {s.keys, s.twin, 0, s.at, 0};
      parts[1] = {s.keys, s.twin + low, s.n - low, s.at + low, s.depth + 1};
      return;
    }
    parts[0] = {s.keys, s.twin + (s.n - low), low, s.at, s.depth + 1};
    parts[1] = {s.twin, s.keys + low, s.n - low, s.at + low, s.depth + 1};
  }

  // Two segments in place of a long one whose elements are from[i] ^ flip; `from` may be its keys.
  void split_long(const K* from, KeyOf<K> flip, const Segment<K>& s, Segment<K>* parts) const {
    const K pivot = median<8>(from, flip, s.n);
    std::int64_t low = from == s.keys ? part_in_place<false>(s.keys, flip, s.n, pivot)
                                      : part_to_ends(from, flip, s.keys, s.n, pivot);
    parts[0] = {s.keys, s.twin, low, s.at, s.depth + 1};
    if (low == 0) {  // the pivot is the least: all equal to it are done
      low = part_in_place<true>(s.keys, KeyOf<K>(0), s.n, pivot);
      for (std::int64_t i = 0; i < low; i += W) put(Vec<K>(pivot), s.at + i, low - i < W ? low - i : W);
    }
    parts[1] = {s.keys + low, s.twin + low, s.n - low, s.at + low, s.depth + 1};
  }
  // Of any length; the results may go where its keys lie.
  void run_long(const Segment<K>& s) const {
    if (s.n <= kNear<K>) return run_near(s.keys, KeyOf<K>(0), s);
    if (s.depth > kDepth) return run_radix(s);  // pivots that keep failing
    Segment<K> parts[2];
    split_long(s.keys, KeyOf<K>(0), s, parts);
    run_long(parts[0]), run_long(parts[1]);
  }
  TS_OUTLINE void run_near(const K* from, KeyOf<K> flip, const Segment<K>& s) const {
    if (s.n <= kSortLeaf<K>)
      return sort_leaf(
          from, flip, s.n, [&](Vec<K> v, std::int64_t at, std::int64_t count) __attribute__((always_inline)) {
            put(v, s.at + at, count);
          });
    K* const near = reinterpret_cast<K*>(static_cast<char*>(scratch()) + kScratchBytes) - 2 * kNear<K>;
    Segment<K> parts[2];
    split(from, flip, {near, near + kNear<K>, s.n, s.at, s.depth}, parts);
    run(parts[0]), run(parts[1]);
  }

  void run(const Segment<K>& s) const {
    if (s.n <= kSortLeaf<K>)
      return sort_leaf(
          s.keys, KeyOf<K>(0),
          s.n, [&](Vec<K> v, std::int64_t at, std::int64_t count) __attribute__((always_inline)) {
            put(v, s.at + at, count);
          });
    if (s.depth > kDepth) return run_radix(s);  // pivots that keep failing
    Segment<K> parts[2];
    split(s, parts);
    run(parts[0]), run(parts[1]);
  }
  void run_radix(const Segment<K>& s) const {
    using Key = KeyOf<K>;
    const Order<K, false> order(false, false);
    Key* const keys = reinterpret_cast<Key*>(s.keys);
    for (std::int64_t i = 0; i < s.n; ++i) {
      K x;
      std::memcpy(&x, keys + i, sizeof(K));
      const Key k = order.key(x);
      std::memcpy(keys + i, &k, sizeof(K));
    }
    const Key* const sorted = radix_sort(keys, reinterpret_cast<Key*>(s.twin), s.n, 0, sizeof(K));
    for (std::int64_t i = 0; i < s.n; i += W) {
      K x[W];
      const std::int64_t count = s.n - i < W ? s.n - i : W;
      for (std::int64_t j = 0; j < count; ++j) x[j] = order.value(sorted[i + j]);
      put(Vec<K>::load_partial(x, count), s.at + i, count);
    }
  }
};

// Sorts from[i] ^ flip, 0 <= i < n, in a[0..n), with b as room; `from` may be a, and what put writes may take
// the place of a's elements.
template <class K, class Put>
void quicksort(const K* from, KeyOf<K> flip, K* a, K* b, std::int64_t n, const Put& put) {
  const Quicksort<K, Put> sort{put};
  if (n <= kNear<K> && (n < kShared || num_threads() == 1)) return sort.run_near(from, flip, {a, b, n, 0, 0});
  constexpr int kSegments = 16;
  Segment<K> list[2][kSegments];
  sort.split_long(from, flip, {a, b, n, 0, 0}, list[0]);
  int count = 2, now = 0;
  // Level by level until there are enough segments to share; then each to its end.
  for (; 2 * count <= kSegments && 2 * count * kLeastShare <= n; count *= 2, now ^= 1)
    parallel_for(count, [&](std::int64_t i) {
      const Segment<K>& s = list[now][i];
      Segment<K>* const parts = list[now ^ 1] + 2 * i;
      if (s.n > kNear<K>)
        sort.split_long(s.keys, KeyOf<K>(0), s, parts);
      else
        parts[0] = s, parts[1] = {s.keys, s.twin, 0, s.at, 0};
    });
  if (n < kShared)
    for (int i = 0; i < count; ++i) sort.run_long(list[now][i]);
  else
    parallel_for(count, [&](std::int64_t i) { sort.run_long(list[now][i]); });
}

// Whether x holds what does not sort as it is: NaN, or a zero that the flip makes -0.
template <class T>
bool holds_special(const T* x, std::int64_t n, bool flips) {
#if defined(__AVX512F__)
  constexpr int kNan = 0x81, kZero = 0x02, kMinusZero = 0x04;
  const auto special = [&](Vec<T> v) -> unsigned {
    if constexpr (sizeof(T) == 4)
      return flips ? _mm512_fpclass_ps_mask(v.r, kNan | kZero)
                   : _mm512_fpclass_ps_mask(v.r, kNan | kMinusZero);
    else
      return flips ? _mm512_fpclass_pd_mask(v.r, kNan | kZero)
                   : _mm512_fpclass_pd_mask(v.r, kNan | kMinusZero);
  };
#else
  // Zeros of the kind in question: as integers they are its bits.
  using Key = KeyOf<T>;
  const Vec<Key> zero(flips ? Key(0) : static_cast<Key>(Key(1) << (8 * sizeof(T) - 1)));
  const auto special = [&](Vec<T> v) -> unsigned {
    const auto zeros = Vec<Key>(typename Vec<Key>::Reg(v.r)) == zero;
    const auto either = __m256i((v != v).r) | __m256i(zeros.r);
    return static_cast<unsigned>(sizeof(T) == 4 ? _mm256_movemask_ps(__m256(either))
                                                : _mm256_movemask_pd(__m256d(either)));
  };
#endif
  constexpr std::int64_t W = Vec<T>::width;
  std::int64_t i = 0;
  unsigned any = 0;
  for (; i + 4 * W <= n && !any; i += 4 * W)
    any = special(Vec<T>::load(x + i)) | special(Vec<T>::load(x + i + W)) |
          special(Vec<T>::load(x + i + 2 * W)) | special(Vec<T>::load(x + i + 3 * W));
  for (; i < n && !any; i += W) {
    const std::int64_t left = n - i < W ? n - i : W;
    any = special(Vec<T>::load_partial(x + i, left)) & ((1u << left) - 1);
  }
  return any != 0;
}

}  // namespace ts::cpu::TS_ISA
#endif
