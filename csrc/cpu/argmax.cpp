// argmax and argmin over the last `reduced` axes: the first position of the extreme, or of the first NaN,
// counted along the reduced axes.
//
// Along rows: the extreme of each leaf, then the place of the first equal in the first leaf that has it;
// reads x once and one leaf again. Across columns: a register of candidates and one of their positions; reads
// x once.
#include "cpu/kernels.h"
#include "cpu/reduction.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// Whether `candidate`, which comes later, replaces `best`.
template <class Op, class T>
TS_INLINE bool beats(T candidate, T best) {
  if constexpr (std::is_floating_point_v<T>)
    if (best != best) return false;
  return Op::apply(best, candidate) != best;
}

// One bit for each lane in which a equals b; in which either is NaN.
template <class T>
TS_INLINE std::uint64_t equal_bits(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return _mm512_cmp_ps_mask(__m512(a.r), __m512(b.r), _CMP_EQ_OQ);
  if constexpr (std::is_same_v<T, double>) return _mm512_cmp_pd_mask(__m512d(a.r), __m512d(b.r), _CMP_EQ_OQ);
#endif
  return lane_bits(a == b);
}
template <class T>
TS_INLINE std::uint64_t nan_bits(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return _mm512_cmp_ps_mask(__m512(a.r), __m512(b.r), _CMP_UNORD_Q);
  if constexpr (std::is_same_v<T, double>)
    return _mm512_cmp_pd_mask(__m512d(a.r), __m512d(b.r), _CMP_UNORD_Q);
#endif
  return lane_bits((a != a) | (b != b));
}

// One bit for each of the first n <= 64 elements, from bits(register of elements).
template <class T, class Bits>
TS_INLINE std::uint64_t bits_of_block(const T* p, std::int64_t n, const Bits& bits) {
  constexpr std::int64_t W = Vec<T>::width;
  std::uint64_t found = 0;
  if (n == 64) {
#pragma GCC unroll 32
    for (std::int64_t k = 0; k < 64; k += W) found |= bits(Vec<T>::load(p + k)) << k;
    return found;
  }
  for (std::int64_t k = 0; k < n; k += W)
    found |= bits(n - k >= W ? Vec<T>::load(p + k) : Vec<T>::load_partial(p + k, n - k)) << k;
  return found;  // beyond n nobody looks: there is one before
}
// The first i < n that has its bit; there is one.
template <class T, class Bits>
TS_INLINE std::int64_t first_place(const T* p, std::int64_t n, const Bits& bits) {
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64)
    if (const std::uint64_t found = bits_of_block(p + i, 64, bits)) return i + __builtin_ctzll(found);
  return i + __builtin_ctzll(bits_of_block(p + i, n - i, bits));
}
// The same for short rows: where the place is nothing can foretell, so they do without a branch on it, at the
// price of looking at all elements.
template <class T, class Bits>
TS_INLINE std::int64_t first_place_of_few(const T* p, std::int64_t n, const Bits& bits) {
  constexpr std::uint64_t kTop = std::uint64_t{1} << 63;
  if (n < 64) return __builtin_ctzll(bits_of_block(p, n, bits) | kTop);
  // The last block ends with the row and may overlap the one before it.
  std::int64_t where = n - 64 + __builtin_ctzll(bits_of_block(p + n - 64, 64, bits) | kTop);
  for (std::int64_t i = (n - 1) / 64 * 64 - 64; i >= 0; i -= 64) {
    const std::uint64_t found = bits_of_block(p + i, 64, bits);
    where += (i + __builtin_ctzll(found | kTop) - where) & -static_cast<std::int64_t>(found != 0);
  }
  return where;
}

// A load whose value two instructions use: GCC would rather load it twice, which is slow where it crosses
// lines.
template <class T>
TS_INLINE Vec<T> load_once(const T* p) {
  Vec<T> v = Vec<T>::load(p);
  asm("" : "+x"(v.r));
  return v;
}

// Max and Min that pass over NaN in their second operand.
template <class Op>
struct Plain {
  template <class T>
  TS_INLINE static Vec<T> apply(Vec<T> best, Vec<T> x) {
    if constexpr (std::is_same_v<Op, Max>)
      return max(x, best);
    else
      return min(x, best);
  }
};

// The extreme of n >= 1 elements, or NaN if there is one among them: as the tree of reduce.h has it, but a
// NaN is looked for two registers at a time.
template <class Op, class T>
TS_INLINE T extreme_of(const T* p, std::int64_t n) {
  constexpr std::int64_t W = Vec<T>::width;
  constexpr bool kNaN = std::is_floating_point_v<T>;
  const Vec<T> none{Lane<T>(Op::template identity<T>)};
  Vec<T> best[4] = {none, none, none, none};
  std::uint64_t nans = 0;
  const auto four = [&](std::int64_t i) {
    Vec<T> x[4];
    if constexpr (kTreeParts == 1)  // see Ahead
      for (int k = 0; k < 4; ++k) __builtin_prefetch(reinterpret_cast<const char*>(p + i + k * W) + 2048);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) x[k] = load_once(p + i + k * W), best[k] = Plain<Op>::apply(best[k], x[k]);
    if constexpr (kNaN) nans |= nan_bits(x[0], x[1]) | nan_bits(x[2], x[3]);
  };
  if (n >= 4 * W) {
    std::int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) four(i);
    if (i < n) four(n - 4 * W);  // some of them twice
  } else {
    for (std::int64_t i = 0; i < n; i += W) {
      const std::int64_t left = n - i;
      const Vec<T> x =
          left >= W ? Vec<T>::load(p + i) : only(Vec<T>::load_partial(p + i, left), none, First{left});
      best[0] = Plain<Op>::apply(best[0], x);
      if constexpr (kNaN) nans |= nan_bits(x, x);
    }
  }
  if (nans) return std::numeric_limits<T>::quiet_NaN();
  return fold<Plain<Op>, T>(
      Plain<Op>::apply(Plain<Op>::apply(best[0], best[1]), Plain<Op>::apply(best[2], best[3])));
}

// Rows of up to kFew elements: the extremes of groups of four registers are kept, so that the place is looked
// for among these and then in one group, without a branch on where it is.
constexpr std::int64_t kFew = 256;
template <class Op, class T>
TS_INLINE std::int64_t first_extreme_of_few(const T* p, std::int64_t n) {
  constexpr std::int64_t W = Vec<T>::width, kGroup = 4 * W;
  if (kGroup > 64 || n < kGroup) {
    const T best = extreme_of<Op>(p, n);
    if constexpr (std::is_floating_point_v<T>)
      if (best != best) return first_place(p, n, [](Vec<T> v) { return nan_bits(v, v); });
    const Vec<T> wanted{Lane<T>(best)};
    return first_place_of_few(p, n, [&](Vec<T> v) { return equal_bits(v, wanted); });
  }
  Vec<T> group[kFew / kGroup + 1];
  const std::int64_t groups = (n + kGroup - 1) / kGroup;
  const auto begin_of = [&](std::int64_t g) { return g * kGroup + kGroup <= n ? g * kGroup : n - kGroup; };
  std::uint64_t nans = 0;
  Vec<T> best{Lane<T>(Op::template identity<T>)};
  for (std::int64_t g = 0; g < groups;
       ++g) {  // the last one ends with the row and may overlap the one before it
    Vec<T> x[4];
    const T* const q = p + begin_of(g);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) x[k] = load_once(q + k * W);
    if constexpr (std::is_floating_point_v<T>) nans |= nan_bits(x[0], x[1]) | nan_bits(x[2], x[3]);
    group[g] = Plain<Op>::apply(Plain<Op>::apply(x[0], x[1]), Plain<Op>::apply(x[2], x[3]));
    best = Plain<Op>::apply(best, group[g]);
  }
  if (nans) return first_place(p, n, [](Vec<T> v) { return nan_bits(v, v); });
  const Vec<T> wanted{Lane<T>(fold<Plain<Op>, T>(best))};
  std::uint64_t where = 0;
  for (std::int64_t g = 0; g < groups; ++g) where |= std::uint64_t{equal_bits(group[g], wanted) != 0} << g;
  const std::int64_t at = begin_of(__builtin_ctzll(where));
  std::uint64_t found = 0;
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) found |= equal_bits(Vec<T>::load(p + at + k * W), wanted) << (k * W % 64);
  return at + __builtin_ctzll(found);
}

// Elements [begin, begin + n) side by side as numbers: where they lie, or in the buffer, as halves always
// are.
template <class S, class T>
TS_INLINE const T* numbers_of(const Axes& a, const S* x, std::int64_t begin, std::int64_t n, T* buffer) {
  if constexpr (!is_half_type<S>) {
    return elements(a, a.x, x, begin, n, buffer);
  } else {
    if (a.reduced == 0 || (a.reduced == 1 && a.x[0] == 1))
      each<T>(0, n, [&](std::int64_t i, auto part) { put(buffer + i, get(x + begin + i, part), part); });
    else
      gather(a, a.x, x, begin, n, buffer, [](S v) { return static_cast<T>(v); });
    return buffer;
  }
}

// The extreme value of each leaf, then the place of the first equal in the first leaf that has it.
template <class Op, class S, class T>
std::int64_t first_extreme(const Axes& a, const S* x, std::int64_t begin, std::int64_t end, T* value) {
  alignas(64) T buffer[kLeaf<T>];
  std::int64_t where = begin;
  T best{};
  for (std::int64_t p = begin; p < end; p += kLeaf<T>) {
    const std::int64_t n = end - p < kLeaf<T> ? end - p : kLeaf<T>;
    const T candidate = extreme_of<Op>(numbers_of(a, x, p, n, buffer), n);
    if (p == begin || beats<Op>(candidate, best)) best = candidate, where = p;
  }
  const std::int64_t n = end - where < kLeaf<T> ? end - where : kLeaf<T>;
  const T* const p = numbers_of(a, x, where, n, buffer);
  *value = best;
  if constexpr (std::is_floating_point_v<T>)
    if (best != best) return where + first_place(p, n, [](Vec<T> v) { return nan_bits(v, v); });
  const Vec<T> wanted{Lane<T>(best)};
  return where + first_place(p, n, [&](Vec<T> v) { return equal_bits(v, wanted); });
}

// Columns [first, first + V registers or `part` of one) of K rows. Positions are counted in integers as wide
// as T, so in blocks that they can hold.
template <class Op, int V, class S, class Part>
TS_INLINE void extreme_tile(const Axes& a, const S* x, std::int64_t* index, std::int64_t stride, Part part) {
  using T = Computed<S>;
  using I = IntOf<T>;
  constexpr int W = Vec<T>::width;
  constexpr std::int64_t kMost = sizeof(T) == 1 ? 127 : std::int64_t{1} << 30;
  T best[V * W] = {};
  std::int64_t where[V * W] = {};
  std::int64_t lanes = V * W;
  if constexpr (std::is_same_v<Part, First>) lanes = part.n;
  Runs runs(a, a.x, 0);
  const std::int64_t step = a.reduced ? a.x[a.reduced - 1] : 0;
  for (std::int64_t begin = 0; begin < a.length; begin += kMost) {
    const std::int64_t n = a.length - begin < kMost ? a.length - begin : kMost;
    Vec<T> top[V];
    Vec<I> place[V];
    for (int v = 0; v < V; ++v) top[v] = get(x + runs.offset + v * W, part), place[v] = Vec<I>(I(0));
    for (std::int64_t i = 0; i < n;) {
      const std::int64_t run = runs.run(n - i);
      const S* p = x + runs.offset;
      for (std::int64_t j = 0; j < run; ++j, ++i, p += step) {
        const Vec<I> now(static_cast<I>(i));
        for (int v = 0; v < V; ++v) {
          const Vec<T> candidate = get(p + v * W, part);
          Mask<T> wins = std::is_same_v<Op, Max> ? candidate > top[v] : candidate < top[v];
          if constexpr (std::is_floating_point_v<T>)
            wins = wins | ((candidate != candidate) & (top[v] == top[v]));
          top[v] = select(wins, candidate, top[v]);
          place[v] = select(Mask<I>(wins.r), now, place[v]);
        }
      }
      runs.advance(run);
    }
    for (int v = 0; v < V; ++v)
      for (int k = 0; k < W && v * W + k < lanes; ++k) {
        const T candidate = static_cast<T>(top[v][k]);
        if (begin == 0 || beats<Op>(candidate, best[v * W + k])) {
          best[v * W + k] = candidate;
          where[v * W + k] = begin + place[v][k];
        }
      }
  }
  for (std::int64_t k = 0; k < lanes; ++k) index[k * stride] = where[k];
}

template <class Op, class S>
void extreme_columns(const Axes& a, const S* x, std::int64_t* index) {
  using T = Computed<S>;
  constexpr int V = 4;
  constexpr std::int64_t kTile = V * Vec<T>::width;
  const int last = a.kept - 1;
  const std::int64_t width = a.kept_shape[last], outer = a.outputs / width, stride = a.kept_y[last];
  const std::int64_t tiles = (width + kTile - 1) / kTile;
  parallel_ranges(outer * tiles, kReduceGrain / (kTile * a.length) + 1,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      const Offsets at = output_offsets(a, i / tiles, last);
                      std::int64_t c = i % tiles * kTile;
                      const std::int64_t stop = width - c < kTile ? width : c + kTile;
                      const S* const row = x + at.x;
                      std::int64_t* const out = index + at.y;
                      if (stop - c == kTile) {
                        extreme_tile<Op, V>(a, row + c, out + c * stride, stride, All{});
                        continue;
                      }
                      for (; c + Vec<T>::width <= stop; c += Vec<T>::width)
                        extreme_tile<Op, 1>(a, row + c, out + c * stride, stride, All{});
                      if (c < stop)
                        extreme_tile<Op, 1>(a, row + c, out + c * stride, stride, First{stop - c});
                    }
                  });
}

template <class Op, class S>
void argextreme(const View& x, const View& y, int reduced) {
  using T = Computed<S>;
  Axes a;
  find_axes(x, nullptr, y, reduced, a);
  if (a.outputs == 0) return;
  const S* const data = static_cast<const S*>(x.data);
  std::int64_t* const index = static_cast<std::int64_t*>(y.data);
  if (a.kept > 0 && a.kept_x[a.kept - 1] == 1 && a.inner_x() != 1) return extreme_columns<Op>(a, data, index);
  if (a.length < 2 * kChunk<T>) {
    const std::int64_t grain = a.length >= kReduceGrain ? 1 : kReduceGrain / (a.length + 8);
    if (a.length <= kFew && a.reduced == 1 && a.x[0] == 1)
      return parallel_ranges(a.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const Offsets at = output_offsets(a, i, a.kept);
          alignas(64) T buffer[is_half_type<S> ? kFew : 1];
          index[at.y] = first_extreme_of_few<Op>(numbers_of(a, data + at.x, 0, a.length, buffer), a.length);
        }
      });
    parallel_ranges(a.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const Offsets at = output_offsets(a, i, a.kept);
        T value;
        index[at.y] = first_extreme<Op>(a, data + at.x, 0, a.length, &value);
      }
    });
    return;
  }
  struct Found {
    std::int64_t where;
    T value;
  };
  const std::int64_t chunks = (a.length + kChunk<T> - 1) / kChunk<T>;
  Found* const found = static_cast<Found*>(scratch());
  parallel_for(a.outputs * chunks, [&](std::int64_t piece) {
    const std::int64_t begin = piece % chunks * kChunk<T>;
    const std::int64_t end = a.length - begin < kChunk<T> ? a.length : begin + kChunk<T>;
    const S* const row = data + output_offsets(a, piece / chunks, a.kept).x;
    found[piece].where = first_extreme<Op>(a, row, begin, end, &found[piece].value);
  });
  for (std::int64_t i = 0; i < a.outputs; ++i) {
    Found best = found[i * chunks];
    for (std::int64_t q = 1; q < chunks; ++q)
      if (beats<Op>(found[i * chunks + q].value, best.value)) best = found[i * chunks + q];
    index[output_offsets(a, i, a.kept).y] = best.where;
  }
}

}  // namespace

void argmax(In x, Out y, int reduced) {
  with_elements(x.dtype, [&]<class T>(Type<T>) { argextreme<Max, Lane<T>>(x, y, reduced); });
}
void argmin(In x, Out y, int reduced) {
  with_elements(x.dtype, [&]<class T>(Type<T>) { argextreme<Min, Lane<T>>(x, y, reduced); });
}

}  // namespace ts::cpu::TS_ISA
