// Quicksort of unsigned keys by registers: one comparison and two compressions a register and level.
//
// A segment is parted into what is below its pivot, which stays in front of its own memory, and the rest,
// which goes to the front of its twin: nothing is copied back, the twins of a part are what is left of both.
// Short segments are sorted by the network and handed out with their place. Needs AVX-512's compression; the
// result is that of any other sort of the same keys.
#pragma once

#include "cpu/sort.h"

#if defined(__AVX512F__)
namespace ts::cpu::TS_ISA {

template <class K>
TS_INLINE Vec<K> compress(Vec<K> v, unsigned lanes) {
  using Reg = typename Vec<K>::Reg;
  if constexpr (sizeof(K) == 4)
    return Reg(_mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), __m512i(v.r)));
  else
    return Reg(_mm512_maskz_compress_epi64(static_cast<__mmask8>(lanes), __m512i(v.r)));
}
// One bit for each lane below the pivot, or not above it.
template <bool kEqualToo, class K>
TS_INLINE unsigned below(Vec<K> v, Vec<K> pivot) {
  const __m512i a = __m512i(v.r), b = __m512i(pivot.r);
  if constexpr (sizeof(K) == 4)
    return kEqualToo ? _mm512_cmple_epu32_mask(a, b) : _mm512_cmplt_epu32_mask(a, b);
  else
    return kEqualToo ? _mm512_cmple_epu64_mask(a, b) : _mm512_cmplt_epu64_mask(a, b);
}

template <class K>
struct Segment {
  K* keys;
  K* twin;
  std::int64_t n, at;  // at: the place of its first element in the result
  int depth;
};

// Leaf(keys, count, at) takes sorted keys and where they belong.
template <class K, class Leaf>
struct Quicksort {
  static constexpr std::int64_t W = Vec<K>::width;
  static constexpr int kDepth = 96;
  static constexpr std::int64_t kShort =
      512;  // for the network: padding a longer one costs more than a split
  const Leaf& leaf;

  // Elements below the pivot to the front of keys, the others to the front of twin; how many are below.
  template <bool kEqualToo>
  TS_INLINE static std::int64_t part(K* keys, K* twin, std::int64_t n, K pivot) {
    const Vec<K> p(pivot);
    std::int64_t low = 0, high = 0, i = 0;
    const auto take = [&](Vec<K> v, unsigned lanes) {
      const unsigned less = below<kEqualToo>(v, p) & lanes, more = ~less & lanes;
      const int down = __builtin_popcount(less), up = __builtin_popcount(more);
      compress(v, less).store_partial(keys + low, down);
      compress(v, more).store_partial(twin + high, up);
      low += down, high += up;
    };
    for (; i + 2 * W <= n; i += 2 * W) {
      const Vec<K> v = Vec<K>::load(keys + i), w = Vec<K>::load(keys + i + W);
      take(v, (1u << W) - 1), take(w, (1u << W) - 1);
    }
    for (; i < n; i += W) {
      const std::int64_t m = n - i < W ? n - i : W;
      take(Vec<K>::load_partial(keys + i, m), (1u << m) - 1);
    }
    return low;
  }

  // The median of 4 registers' worth of elements, evenly spread.
  static K median(const K* keys, std::int64_t n) {
    constexpr std::int64_t kSample = 4 * W;
    K sample[kSample];
    for (std::int64_t i = 0; i < kSample; ++i) sample[i] = keys[(2 * i + 1) * (n / (2 * kSample))];
    Network<K>::sort(sample, kSample);
    return sample[kSample / 2];
  }

  // Two segments in place of a long one, either possibly empty.
  void split(const Segment<K>& s, Segment<K>* parts) const {
    const K pivot = median(s.keys, s.n);
    std::int64_t low = part<false>(s.keys, s.twin, s.n, pivot);
    if (low == 0) {  // the pivot is the least: all equal to it are done
      low = part<true>(s.twin, s.keys, s.n, pivot);
      leaf(s.twin, low, s.at);
      parts[0] = {s.keys, s.twin, 0, s.at, 0};
      parts[1] = {s.keys, s.twin + low, s.n - low, s.at + low, s.depth + 1};
      return;
    }
    parts[0] = {s.keys, s.twin + (s.n - low), low, s.at, s.depth + 1};
    parts[1] = {s.twin, s.keys + low, s.n - low, s.at + low, s.depth + 1};
  }

  void run(const Segment<K>& s) const {
    if (s.n == 0) return;
    if (s.n <= kShort) {
      alignas(64) K keys[kShort];
      std::memcpy(keys, s.keys, static_cast<std::size_t>(s.n) * sizeof(K));
      network_sort(keys, s.n);
      return leaf(keys, s.n, s.at);
    }
    if (s.depth > kDepth)  // pivots that keep failing
      return leaf(radix_sort(s.keys, s.twin, s.n, 0, sizeof(K)), s.n, s.at);
    Segment<K> parts[2];
    split(s, parts);
    run(parts[0]), run(parts[1]);
  }
};

// a[0..n) and b[0..n) are the twins.
template <class K, class Leaf>
void quicksort(K* a, K* b, std::int64_t n, const Leaf& leaf) {
  const Quicksort<K, Leaf> sort{leaf};
  constexpr int kSegments = 64;
  Segment<K> list[2][kSegments];
  list[0][0] = {a, b, n, 0, 0};
  int count = 1, now = 0;
  // Level by level until there are enough segments to share; then each to its end.
  if (n >= kSortGrain / 2)
    for (; 2 * count <= kSegments; count *= 2, now ^= 1)
      parallel_for(count, [&](std::int64_t i) {
        const Segment<K>& s = list[now][i];
        Segment<K>* const parts = list[now ^ 1] + 2 * i;
        if (s.n > sort.kShort)
          sort.split(s, parts);
        else
          parts[0] = s, parts[1] = {s.keys, s.twin, 0, s.at, 0};
      });
  parallel_for(count, [&](std::int64_t i) { sort.run(list[now][i]); });
}

}  // namespace ts::cpu::TS_ISA
#endif
