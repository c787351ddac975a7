// Masks: the positions of true, the elements that a mask chooses, and the reverse.
//
// N elements are cut into pieces; where a piece's share of what is chosen begins is known once all have
// counted. Of 64 bytes of the mask AVX-512 makes one word, whose bits its compression and expansion take a
// register at a time; elsewhere eight bytes are looked at together. A byte that came from elsewhere may be
// true without being 1: what is counted must be what is then chosen.
#include <cstring>

#include "cpu/compress.h"
#include "cpu/index.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace ts::cpu::TS_ISA {
namespace {

using I = std::int64_t;

constexpr I kGrain = 1 << 18;      // bytes of the mask that are a piece of nonzero,
constexpr I kMoveGrain = 1 << 15;  // elements of one that moves them

// Of eight bytes, 1 for each that is not 0.
TS_INLINE std::uint64_t ones_of(const std::uint8_t* mask) {
  constexpr std::uint64_t kLow = 0x7f7f7f7f7f7f7f7f;
  std::uint64_t eight;
  std::memcpy(&eight, mask, 8);
  return (eight | ((eight & kLow) + kLow)) >> 7 & 0x0101010101010101u;
}

I count_true(const std::uint8_t* mask, I n) {
  I sum = 0, i = 0;
#if defined(__AVX512F__)
  // Bytes are added up to 255 times before their sums are.
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
  __m512i total = zero;
  while (i + 64 <= n) {
    const I most = (n - i) / 64, last = i + 64 * (most < 255 ? most : 255);
    __m512i bytes = zero;
    for (; i < last; i += 64)
      bytes = _mm512_add_epi8(bytes, _mm512_min_epu8(_mm512_loadu_si512(mask + i), one));
    total = _mm512_add_epi64(total, _mm512_sad_epu8(bytes, zero));
  }
  sum = _mm512_reduce_add_epi64(total);
#endif
  for (; i + 8 <= n; i += 8) sum += static_cast<I>((ones_of(mask + i) * 0x0101010101010101u) >> 56);
  for (; i < n; ++i) sum += mask[i] != 0;
  return sum;
}

// Where every piece's share begins, in scratch memory, and after the last of them the count of all.
const I* starts_of(const std::uint8_t* mask, I n, I grain) {
  const I pieces = (n + grain - 1) / grain;
  I* const starts = static_cast<I*>(scratch());
  parallel_ranges(n, grain,
                  [&](I begin, I end) { starts[begin / grain] = count_true(mask + begin, end - begin); });
  I total = 0;
  for (I piece = 0; piece < pieces; ++piece) {
    const I sum = starts[piece];
    starts[piece] = total;
    total += sum;
  }
  starts[pieces] = total;
  return starts;
}

// The pieces of a kernel that moves `count` elements: body(begin, end, first, last), where [first, last) is
// the piece's share.
template <class Body>
void for_shares(const std::uint8_t* mask, I n, I count, const Body& body) {
  if (n <= kMoveGrain) return body(I(0), n, I(0), count);
  const I grain = even_grain(n, kMoveGrain);
  const I* const starts = starts_of(mask, n, grain);
  parallel_ranges(
      n, grain, [&](I begin, I end) { body(begin, end, starts[begin / grain], starts[begin / grain + 1]); });
}

#if defined(__AVX512F__)

// The bits of up to 64 bytes.
TS_INLINE std::uint64_t bits_of(const std::uint8_t* mask, I n) {
  const __m512i bytes = n >= 64 ? _mm512_loadu_si512(mask)
                                : _mm512_maskz_loadu_epi8(_bzhi_u64(~0ull, static_cast<unsigned>(n)), mask);
  return _mm512_test_epi8_mask(bytes, bytes);
}

// y[i] = the next of v where lane i is chosen; other elements of y are not touched.
template <class T>
TS_INLINE void store_expanded(Vec<T> v, unsigned lanes, T* y) {
  if constexpr (sizeof(T) == 4) {
    const auto k = static_cast<__mmask16>(lanes);
    _mm512_mask_storeu_epi32(y, k, _mm512_maskz_expand_epi32(k, __m512i(v.r)));
  } else {
    const auto k = static_cast<__mmask8>(lanes);
    _mm512_mask_storeu_epi64(y, k, _mm512_maskz_expand_epi64(k, __m512i(v.r)));
  }
}

// The lanes of v that are chosen, `count` of them, to y + at; what is too much is overwritten by the next
// ones, so the last ones, of `last` in all, are stored alone.
template <class T>
TS_INLINE void store_chosen(Vec<T> v, unsigned lanes, I count, T* y, I at, I last) {
  const Vec<T> chosen = compress(v, lanes);
  if (at + Vec<T>::width <= last)
    chosen.store(y + at);
  else
    chosen.store_partial(y + at, count);
}

// body(i, lanes, count) for every register of [begin, end) of which the mask chooses something.
template <int W, class Body>
TS_INLINE void for_chosen(const std::uint8_t* mask, I begin, I end, const Body& body) {
  for (I i = begin; i < end; i += 64) {
    std::uint64_t bits = bits_of(mask + i, end - i);
    for (I at = i; bits; at += W, bits >>= W) {
      const auto lanes = static_cast<unsigned>(bits & ((1u << W) - 1));
      body(at, lanes, static_cast<I>(__builtin_popcount(lanes)));
    }
  }
}

#endif

// y[0 ... last - first) takes what is chosen of x.
template <class T>
void take_piece(const T* x, const std::uint8_t* mask, I begin, I end, T* y, I first, I last) {
  I at = first;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4 || sizeof(T) == 8) {
    constexpr int W = Vec<T>::width;
    return for_chosen<W>(
        mask, begin, end, [&](I i, unsigned lanes, I count) __attribute__((always_inline)) {
          store_chosen(i + W <= end ? Vec<T>::load(x + i) : Vec<T>::load_partial(x + i, end - i), lanes,
                       count, y, at, last);
          at += count;
        });
  }
#endif
  I i = begin;
  // Without a branch, which nothing can foretell, as long as there is room for one element too many.
  for (; i < end && at < last; ++i) y[at] = x[i], at += mask[i] != 0;
}

// y[i] = the next of x where the mask is true.
template <class T>
void put_piece(const std::uint8_t* mask, const T* x, T* y, I begin, I end, I first, I last) {
  I at = first;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4 || sizeof(T) == 8) {
    constexpr int W = Vec<T>::width;
    return for_chosen<W>(
        mask, begin, end, [&](I i, unsigned lanes, I count) __attribute__((always_inline)) {
          store_expanded(at + W <= last ? Vec<T>::load(x + at) : Vec<T>::load_partial(x + at, last - at),
                         lanes, y + i);
          at += count;
        });
  }
#endif
  for (I i = begin; i < end && at < last; ++i) {
    y[i] = mask[i] ? x[at] : y[i];
    at += mask[i] != 0;
  }
}

}  // namespace

// Reads x twice (once to count), writes the positions once.
void nonzero(In x, Out index, Out count) {
  const I n = x.size();
  const std::uint8_t* const in = x.as<std::uint8_t>();
  const I* const starts = starts_of(in, n, kGrain);
  const I pieces = (n + kGrain - 1) / kGrain;
  count.as<I>()[0] = starts[pieces];
  if (!index) return;
  I* const out = index.as<I>();
  parallel_ranges(n, kGrain, [&](I begin, I end) {
    I at = starts[begin / kGrain];
#if defined(__AVX512F__)
    const I last = starts[begin / kGrain + 1];
    const __m512i lane = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    for_chosen<8>(
        in, begin, end, [&](I i, unsigned lanes, I chosen) __attribute__((always_inline)) {
          const Vec<I> places(Vec<I>::Reg(_mm512_add_epi64(_mm512_set1_epi64(i), lane)));
          store_chosen(places, lanes, chosen, out, at, last);
          at += chosen;
        });
#else
    I i = begin;
#if defined(__AVX2__)
    const I last = starts[begin / kGrain + 1];
    for (; i + 8 <= end && at + 8 <= last; i += 8) {  // what is written too much, the next ones overwrite
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in + i));
      const unsigned zeros =
          static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128())));
      const unsigned lanes = ~zeros & 0xffu;
      const __m128i order = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLaneOrders.of[lanes]));
      const Vec<I> from(i), low(Vec<I>::Reg(_mm256_cvtepu8_epi64(order))),
          high(Vec<I>::Reg(_mm256_cvtepu8_epi64(_mm_srli_si128(order, 4))));
      (from + low).store(out + at), (from + high).store(out + at + 4);
      at += __builtin_popcount(lanes);
    }
#endif
    for (; i + 8 <= end; i += 8) {
      for (std::uint64_t ones = ones_of(in + i); ones; ones &= ones - 1)
        out[at++] = i + (__builtin_ctzll(ones) >> 3);
    }
    for (; i < end; ++i)
      if (in[i]) out[at++] = i;
#endif
  });
}

// Reads x once and the mask once or twice, writes y once.
void take_masked(In x, In mask, Out y) {
  const auto* const chosen = mask.as<std::uint8_t>();
  with_size(y.dtype, [&]<class T>(Type<T>) {
    for_shares(chosen, x.size(), y.size(), [&](I begin, I end, I first, I last) {
      take_piece(x.as<T>(), chosen, begin, end, y.as<T>(), first, last);
    });
  });
}

void put_masked(In mask, In x, Out y) {
  const auto* const chosen = mask.as<std::uint8_t>();
  with_size(y.dtype, [&]<class T>(Type<T>) {
    for_shares(chosen, y.size(), x.size(), [&](I begin, I end, I first, I last) {
      put_piece(chosen, x.as<T>(), y.as<T>(), begin, end, first, last);
    });
  });
}

}  // namespace ts::cpu::TS_ISA
