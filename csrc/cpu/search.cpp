// searchsorted: the place of every x in a sorted row; histogram and bincount: how many fall into each bin.
//
// R rows of N sorted numbers (or of N bin edges), M numbers to place. A search halves the row without
// branches, in the lanes of four registers (AVX-512's gather) or 16 side by side, so that cache misses
// overlap. Reads x once.
#include <cstring>
#include <limits>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// Whether the number `a` of a sorted row comes before x: a < x or, kRight, a <= x, with NaN above every
// number.
template <bool kRight, class T>
TS_INLINE bool before(T a, T x) {
  if constexpr (std::is_floating_point_v<T>)
    return (kRight ? a <= x : a < x) | ((x != x) & (kRight | (a == a)));
  else
    return kRight ? a <= x : a < x;
}
template <bool kRight, class T>
TS_INLINE Mask<T> before(Vec<T> a, Vec<T> x) {
  const Mask<T> below = kRight ? a <= x : a < x;
  if constexpr (!std::is_floating_point_v<T>) return below;
  return below | (kRight ? x != x : (x != x) & (a == a));
}

// How many of sorted[0..n) are before each of kSide numbers.
constexpr int kSide = 16;
template <bool kRight, class T>
TS_INLINE void places(const T* sorted, std::int64_t n, std::int64_t stride, const T* x, std::int64_t* y) {
  std::int64_t base[kSide] = {};
  std::int64_t length = n;
  while (length > 1) {
    const std::int64_t half = length / 2;
#pragma GCC unroll 16
    for (int j = 0; j < kSide; ++j)
      base[j] +=
          half & -static_cast<std::int64_t>(before<kRight>(sorted[(base[j] + half - 1) * stride], x[j]));
    length -= half;
  }
  for (int j = 0; j < kSide; ++j) y[j] = base[j] + (n > 0 && before<kRight>(sorted[base[j] * stride], x[j]));
}

#if defined(__AVX512F__)

// p[at] in every lane.
template <class T>
TS_INLINE Vec<T> gather(const T* p, Vec<IntOf<T>> at) {
  using Reg = typename Vec<T>::Reg;
  if constexpr (sizeof(T) == 4)
    return Reg(_mm512_i32gather_epi32(__m512i(at.r), p, 4));
  else
    return Reg(_mm512_i64gather_epi64(__m512i(at.r), p, 8));
}

// The same of R registers of numbers, 0 < n < 2^31: what misses a cache is on its way for all of them.
template <bool kRight, int R, class T>
TS_INLINE void places_in_lanes(const T* sorted, std::int64_t n, const T* x, std::int64_t* y) {
  using Index = Vec<IntOf<T>>;
  constexpr int W = Vec<T>::width;
  Vec<T> v[R];
  Index base[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) v[r] = Vec<T>::load(x + r * W), base[r] = Index(IntOf<T>(0));
  for (std::int64_t length = n; length > 1;) {
    const std::int64_t half = length / 2;
    const Index step(static_cast<IntOf<T>>(half));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Mask<T> below = before<kRight>(gather(sorted + half - 1, base[r]), v[r]);
      base[r] = select(as<IntOf<T>>(below), base[r] + step, base[r]);
    }
    length -= half;
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const Index place = base[r] - Index(before<kRight>(gather(sorted, base[r]), v[r]).r);
    if constexpr (sizeof(T) == 8) {
      _mm512_storeu_si512(y + r * W, __m512i(place.r));
    } else {
      _mm512_storeu_si512(y + r * W, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(__m512i(place.r))));
      _mm512_storeu_si512(y + r * W + 8,
                          _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(__m512i(place.r), 1)));
    }
  }
}

#endif

template <class T, bool kRight>
void search_row(const T* sorted, std::int64_t n, std::int64_t stride, const T* x, std::int64_t* y,
                std::int64_t m) {
  std::int64_t i = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) >= 4)
    if (stride == 1 && n > 0 && n <= INT32_MAX)
      for (constexpr std::int64_t kLanes = 4 * Vec<T>::width; i + kLanes <= m; i += kLanes)
        places_in_lanes<kRight, 4>(sorted, n, x + i, y + i);
#endif
  for (; i + kSide <= m; i += kSide) places<kRight>(sorted, n, stride, x + i, y + i);
  if (i == m) return;
  T rest[kSide] = {};
  std::int64_t result[kSide];
  std::memcpy(rest, x + i, static_cast<std::size_t>(m - i) * sizeof(T));
  places<kRight>(sorted, n, stride, rest, result);
  std::memcpy(y + i, result, static_cast<std::size_t>(m - i) * sizeof(*y));
}

// Counts over [0, n) into `bins` counters: every piece has a table of its own, and the tables are added, so
// nothing is counted concurrently. count(table, begin, end) adds what it finds.
template <class Count>
void count_pieces(std::int64_t n, std::int64_t bins, std::int64_t* y, const Count& count) {
  const std::int64_t pitch = bins + 8;  // a line of cache between two tables
  std::int64_t pieces = (n >> 16) + 1;
  if (pieces > n / (4 * bins + 1)) pieces = n / (4 * bins + 1);  // clearing tables must not become the work
  const std::int64_t fit = static_cast<std::int64_t>(kScratchBytes / 8) / pitch;
  if (pieces > fit) pieces = fit;
  if (pieces > 64) pieces = 64;
  std::memset(y, 0, static_cast<std::size_t>(bins) * sizeof(*y));
  if (pieces < 2) return count(y, 0, n);
  std::int64_t* const tables = static_cast<std::int64_t*>(scratch());
  parallel_for(pieces, [&](std::int64_t piece) {
    std::int64_t* const table = tables + piece * pitch;
    std::memset(table, 0, static_cast<std::size_t>(bins) * sizeof(*table));
    count(table, n / pieces * piece, piece + 1 == pieces ? n : n / pieces * (piece + 1));
  });
  for (std::int64_t piece = 0; piece < pieces; ++piece)
    for (std::int64_t b = 0; b < bins; ++b) y[b] += tables[piece * pitch + b];
}

// What is counted goes to four tables in turns where these are small: equal neighbours would wait for each
// other. Bin `bins` is of what lies outside.
constexpr std::int64_t kFewBins = 1024;
struct FourTables {
  std::int64_t (&tables)[4][kFewBins + 1];
  template <class Index>
  TS_INLINE void add(const Index* at, std::int64_t n) const {
    std::int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      for (int k = 0; k < 4; ++k) ++tables[k][at[i + k]];
    for (; i < n; ++i) ++tables[0][at[i]];
  }
};
struct OneTable {
  std::int64_t* table;
  std::int64_t bins;
  template <class Index>
  TS_INLINE void add(const Index* at, std::int64_t n) const {
    std::int64_t outside = 0;
    for (std::int64_t i = 0; i < n; ++i) ++*(at[i] < bins ? table + at[i] : &outside);
  }
};
// count(counters) adds bins to the counters, which are then added to the table.
template <class Count>
void count_into(std::int64_t* table, std::int64_t bins, const Count& count) {
  if (bins > kFewBins) return count(OneTable{table, bins});
  std::int64_t tables[4][kFewBins + 1];
  for (auto& one : tables) std::memset(one, 0, static_cast<std::size_t>(bins + 1) * sizeof(one[0]));
  count(FourTables{tables});
  for (std::int64_t b = 0; b < bins; ++b)
    table[b] += tables[0][b] + tables[1][b] + tables[2][b] + tables[3][b];
}

// The bin of x among edges e_0 <= ... <= e_B: e_i <= x < e_{i+1}, the last one closed; B where there is none.
// A guess from equal widths is put right by the edges themselves, so it only has to be close; there is none
// where the widths or their reciprocals are beyond T.
template <class T>
struct Bins {
  const T* edges;
  std::int64_t count;
  bool uniform;
  T low, high, scale;

  Bins(const T* e, std::int64_t bins, bool equal_widths)
      : edges(e), count(bins), low(e[0]), high(e[bins]), scale(static_cast<T>(bins) / (high - low)) {
    constexpr T kLargest = std::numeric_limits<T>::max();
    uniform = equal_widths && high - low <= kLargest && scale <= kLargest;
  }

  TS_INLINE std::int64_t of(T x) const {
    if (!(x >= low && x <= high)) return count;  // NaN too
    if (!uniform) {
      std::int64_t base = 0, length = count;
      while (length > 1) {
        const std::int64_t half = length / 2;
        base += edges[base + half] <= x ? half : 0;
        length -= half;
      }
      return base;
    }
    std::int64_t i = static_cast<std::int64_t>((x - low) * scale);
    i = i < count ? i : count - 1;
    while (i > 0 && x < edges[i]) --i;
    while (i + 1 < count && x >= edges[i + 1]) ++i;
    return i;
  }

  // Of n numbers.
  TS_INLINE void of(const T* x, std::int64_t n, IntOf<T>* at) const {
    std::int64_t i = 0;
#if defined(__AVX512F__)
    using V = Vec<T>;
    using Index = Vec<IntOf<T>>;
    constexpr std::int64_t W = V::width;
    if (uniform && count <= INT32_MAX) {
      const Index zero(IntOf<T>(0)), one(IntOf<T>(1)), end(static_cast<IntOf<T>>(count)), last = end - one;
      for (; i + W <= n; i += W) {
        const V v = V::load(x + i);
        const Mask<T> inside = (v >= V(low)) & (v <= V(high));
        Index bin = min(convert<IntOf<T>>(select(inside, (v - V(low)) * V(scale), V(T(0)))), last);
        for (;;) {
          const Mask<IntOf<T>> down = as<IntOf<T>>(inside & (v < gather(edges, bin))) & (bin > zero);
          const Mask<IntOf<T>> up = as<IntOf<T>>(inside & (v >= gather(edges + 1, bin))) & (bin < last);
          if (!any(down | up)) break;
          bin = bin + Index(down.r) - Index(up.r);
        }
        select(as<IntOf<T>>(inside), bin, end).store(at + i);
      }
    }
#endif
    for (; i < n; ++i) at[i] = static_cast<IntOf<T>>(of(x[i]));
  }
};

}  // namespace

void searchsorted(In sorted, In x, Out index, bool right) {
  with_any(x.dtype, [&]<class T>(Type<T>) {
    const Rows<const T> rows(sorted), xs(x);
    const Rows<std::int64_t> ys(index);
    const std::int64_t N = sorted.shape[1], M = x.shape[1], R = x.shape[0];
    constexpr std::int64_t kGrain = 1 << 12;
    const std::int64_t pieces = (M + kGrain - 1) / kGrain;
    const std::int64_t grain = M < kGrain ? kGrain / (M + 8) + 1 : 1;
    parallel_ranges(R * pieces, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t r = i / pieces, first = i % pieces * kGrain;
        const std::int64_t m = M - first < kGrain ? M - first : kGrain;
        if (right)
          search_row<T, true>(rows[r], N, sorted.strides[1], xs[r] + first, ys[r] + first, m);
        else
          search_row<T, false>(rows[r], N, sorted.strides[1], xs[r] + first, ys[r] + first, m);
      }
    });
  });
}

void bincount(In x, Out y) {
  const std::int64_t* const at = x.as<std::int64_t>();
  const std::int64_t bins = y.shape[0];
  count_pieces(
      x.shape[0], bins, y.as<std::int64_t>(), [&](std::int64_t* table, std::int64_t begin, std::int64_t end) {
        count_into(table, bins, [&](const auto& counters) { counters.add(at + begin, end - begin); });
      });
}

void histogram(In x, In edges, Out y, bool uniform) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const T* const values = x.as<T>();
    const std::int64_t B = y.shape[0];
    const Bins<T> bins(edges.as<T>(), B, uniform);
    constexpr std::int64_t kBlock = 256;
    count_pieces(x.shape[0], B, y.as<std::int64_t>(),
                 [&](std::int64_t* table, std::int64_t begin, std::int64_t end) {
                   count_into(table, B, [&](const auto& counters) {
                     IntOf<T> at[kBlock];
                     for (std::int64_t i = begin; i < end; i += kBlock) {
                       const std::int64_t n = end - i < kBlock ? end - i : kBlock;
                       bins.of(values + i, n, at);
                       counters.add(at, n);
                     }
                   });
                 });
  });
}

}  // namespace ts::cpu::TS_ISA
