// Rows combined by destination, y[at[m]] = op(y[at[m]], x[m]): the sources of each destination are put
// together first, so that threads share the destinations, and a row of y is read and written once.
#pragma once

#include <utility>

#include "cpu/index.h"

namespace ts::cpu::TS_ISA {

// Row n of y, for n in [begin, end), from its sources, m ascending; they end at ends[n - begin] of `sources`,
// those of `begin` start at `k`. There are `all` sources in the list.
template <class T, class S, class Op>
void combine_listed(const std::uint32_t* ends, std::int64_t begin, std::int64_t end, std::int64_t k,
                    const std::uint32_t* sources, std::int64_t all, const S* x, std::int64_t xs, T* y,
                    std::int64_t ys, std::int64_t B, const Op& op) {
  using I = std::int64_t;
  constexpr I W = Vec<T>::width;
  for (I n = begin; n < end; ++n) {
    const I first = k, last = ends[n - begin];
    T* const to = y + n * ys;
    k = last;
    if (first == last) continue;
    I b = 0;
    // R registers of the row, the last one in part.
    const auto registers = [&]<int R>(std::integral_constant<int, R>, auto part) {
      Vec<T> v[R];
      for (int r = 0; r < R - 1; ++r) v[r] = Vec<T>::load(to + b + r * W);
      v[R - 1] = get(to + b + (R - 1) * W, part);
      for (I j = first; j < last; ++j) {
        const S* const from = x + static_cast<I>(sources[j]) * xs + b;
        if (b == 0 && j + kAhead < all)
          prefetch(x + static_cast<I>(sources[j + kAhead]) * xs, B * static_cast<I>(sizeof(S)), false);
        for (int r = 0; r < R - 1; ++r) v[r] = op(v[r], get(from + r * W, All{}));
        v[R - 1] = op(v[R - 1], get(from + (R - 1) * W, part));
      }
      for (int r = 0; r < R - 1; ++r) v[r].store(to + b + r * W);
      put(to + b + (R - 1) * W, v[R - 1], part);
    };
    using std::integral_constant;
    for (; b + 4 * W <= B; b += 4 * W) registers(integral_constant<int, 4>{}, All{});
#if defined(__AVX512F__)
    if (b == B) continue;
    const First rest{(B - b - 1) % W + 1};
    switch ((B - b + W - 1) / W) {
      case 1:
        registers(integral_constant<int, 1>{}, rest);
        break;
      case 2:
        registers(integral_constant<int, 2>{}, rest);
        break;
      case 3:
        registers(integral_constant<int, 3>{}, rest);
        break;
      default:
        registers(integral_constant<int, 4>{}, rest);
    }
#else
    for (; b + W <= B; b += W) registers(integral_constant<int, 1>{}, All{});
    for (; b < B; ++b)
      for (I j = first; j < last; ++j) to[b] = op(to[b], T(x[static_cast<I>(sources[j]) * xs + b]));
#endif
  }
}

constexpr std::int64_t kSlack = 16;  // elements that sources_within may write beyond what it finds

// The m < M whose destination lies in [low, low + width), ascending, and how far beyond `low` it lies;
// returns how many.
inline std::int64_t sources_within(const std::int64_t* at, std::int64_t is, std::int64_t M, std::int64_t low,
                                   std::int64_t width, std::uint32_t* sources, std::uint32_t* beyond) {
  std::int64_t found = 0, m = 0;
#if defined(__AVX512F__)
  if (is == 1) {
    const __m512i lows = _mm512_set1_epi32(static_cast<int>(low));
    const __m512i widths = _mm512_set1_epi32(static_cast<int>(width));
    __m512i now = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; m + 16 <= M; m += 16) {
      const __m256i first = _mm512_cvtepi64_epi32(_mm512_loadu_si512(at + m));
      const __m256i second = _mm512_cvtepi64_epi32(_mm512_loadu_si512(at + m + 8));
      const __m512i far =
          _mm512_sub_epi32(_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1), lows);
      const __mmask16 in = _mm512_cmplt_epu32_mask(far, widths);
      _mm512_storeu_si512(sources + found, _mm512_maskz_compress_epi32(in, now));
      _mm512_storeu_si512(beyond + found, _mm512_maskz_compress_epi32(in, far));
      found += __builtin_popcount(in);
      now = _mm512_add_epi32(now, _mm512_set1_epi32(16));
    }
  }
#endif
  for (; m < M; ++m) {  // no branch: nothing foretells it
    const std::uint64_t far = static_cast<std::uint64_t>(at[m * is] - low);
    sources[found] = static_cast<std::uint32_t>(m);
    beyond[found] = static_cast<std::uint32_t>(far);
    found += far < static_cast<std::uint64_t>(width);
  }
  return found;
}

// M sources of rows of B, their destinations at[m * is] < N.
template <class T, class S, class Op>
struct Grouping {
  using I = std::int64_t;
  const I* at;
  I is, M;
  const S* x;
  I xs;
  T* y;
  I ys, N, B;
  const Op& op;

  void listed(const std::uint32_t* ends, I begin, I end, I k, const std::uint32_t* sources, I all) const {
    combine_listed(ends, begin, end, k, sources, all, x, xs, y, ys, B, op);
  }
  I destinations_of_a_piece() const { return (I(128) << 10) * N / (M * B * I(sizeof(T))) + 1; }

  // A piece finds and counts the sources of a range of destinations. (Lines that two cores write in turns
  // would cost more than it takes to look at all indices.) False where the scratch does not suffice.
  bool by_range() const {
    const I ranges = least(2 * num_threads(), N), list = M + kSlack;
    if ((N + ranges * (3 * list + 1)) * 4 > static_cast<I>(kScratchBytes)) return false;
    std::uint32_t* const ends = static_cast<std::uint32_t*>(scratch());
    std::uint32_t* const counts = ends + N;
    std::uint32_t* const lists = counts + ranges;
    const auto low = [&](I range) { return N * range / ranges; };
    parallel_for(ranges, [&](I range) {
      std::uint32_t* const sources = lists + range * 3 * list;
      std::uint32_t *const found = sources + list, *const beyond = found + list;
      std::uint32_t* const places = ends + low(range);
      const I width = low(range + 1) - low(range);
      const I count = sources_within(at, is, M, low(range), width, found, beyond);
      counts[range] = static_cast<std::uint32_t>(count);
      std::memset(places, 0, static_cast<std::size_t>(width) * 4);
      for (I i = 0; i < count; ++i) ++places[beyond[i]];
      std::uint32_t before = 0;
      for (I n = 0; n < width; ++n) before += std::exchange(places[n], before);
      for (I i = 0; i < count; ++i) sources[places[beyond[i]]++] = found[i];
    });
    parallel_ranges(N, destinations_of_a_piece(), [&](I begin, I end) {
      for (I range = 0; range < ranges && begin < end; ++range) {
        const I stop = least(end, low(range + 1));
        if (begin >= stop) continue;
        listed(ends + begin, begin, stop, begin > low(range) ? ends[begin - 1] : 0, lists + range * 3 * list,
               counts[range]);
        begin = stop;
      }
    });
    return true;
  }

  // Pieces of `grain` sources are counted into tables of their own.
  void by_tables(I grain) const {
    const I pieces = (M + grain - 1) / grain;
    std::uint32_t* const ends = static_cast<std::uint32_t*>(scratch());
    std::uint32_t* const sources = ends + N;
    std::uint32_t* const tables = sources + M;
    parallel_ranges(M, grain, [&](I begin, I end) {
      std::uint32_t* const counts = tables + begin / grain * N;
      std::memset(counts, 0, static_cast<std::size_t>(N) * 4);
      for (I m = begin; m < end; ++m) ++counts[at[m * is]];
    });
    std::uint32_t before = 0;
    for (I n = 0; n < N; ++n) {
      for (I p = 0; p < pieces; ++p) before += std::exchange(tables[p * N + n], before);
      ends[n] = before;
    }
    parallel_ranges(M, grain, [&](I begin, I end) {
      std::uint32_t* const places = tables + begin / grain * N;
      for (I m = begin; m < end; ++m) sources[places[at[m * is]]++] = static_cast<std::uint32_t>(m);
    });
    parallel_ranges(N, destinations_of_a_piece(), [&](I begin, I end) {
      listed(ends + begin, begin, end, begin ? ends[begin - 1] : 0, sources, M);
    });
  }
};

// y[at[m]] = op(y[at[m]], x[m]) for rows of B, m ascending for each of the N destinations. False where the
// rows are not worth it, or lie otherwise, or one thread works alone; the result is the same either way.
template <class T, class S, class Op>
bool combine_grouped(const std::int64_t* at, std::int64_t is, std::int64_t M, const S* x, std::int64_t xs,
                     T* y, std::int64_t ys, std::int64_t N, std::int64_t B, const Op& op) {
  if constexpr (!Op::kVector) {
    return false;
  } else {
    using I = std::int64_t;
    constexpr I size = sizeof(T), room = static_cast<I>(kScratchBytes) / 4;
    if (num_threads() == 1 || B * size < 64 || B * size > 1024 || M * B * size < (I(512) << 10) ||
        N > 2 * M || M >= (I(1) << 31) || 2 * N + M > room)
      return false;
    const Grouping<T, S, Op> grouping{at, is, M, x, xs, y, ys, N, B, op};
    const I grain = even_grain(M, M <= I(8) << 14 ? I(1) << 14 : (M + 7) / 8);
    const bool many = M >= I(1) << 16 && N <= grain / 2 && (M / grain + 2) * N + M <= room;
    if (many)
      grouping.by_tables(grain);
    else if (!grouping.by_range())
      grouping.by_tables(M);
    return true;
  }
}

}  // namespace ts::cpu::TS_ISA
