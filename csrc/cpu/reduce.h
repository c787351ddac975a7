// The reduction tree: in which order K numbers are added, the same on every machine, for every layout and
// thread count.
//
//   stripe  4 chains of 64 bytes: element p of a leaf belongs to chain (p / L) % 4, lane p % L, with L = 64 /
//   sizeof(T) leaf    32 stripes (8 KiB), added one after another into the 4 L running sums fold    (chain 0
//   + chain 1) + (chain 2 + chain 3), then lane i + lane i + L/2, + L/4, ... + 1 above   leaves are added
//   pairwise: ((0 + 1) + (2 + 3)) + ..., as a binary counter carries
//
// The order depends on K alone. Along a contiguous axis a register holds lanes; along any other axis a
// register holds neighbouring outputs and the same additions are made one after another (columns.h). At most
// 32 + 2 + log2(L) + log2(K / leaf) roundings lie between an element and the result: within 2 sqrt(K) eps of
// the sum of magnitudes.
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

constexpr int kTreeBytes = 64;  // a logical register, whatever the hardware's
constexpr int kTreeChains = 4;
constexpr int kTreeParts = kTreeBytes / kVectorBytes;  // hardware registers in it
template <class T>
constexpr int kTreeLanes = kTreeBytes / static_cast<int>(sizeof(T));
template <class T>
constexpr std::int64_t kStripe = kTreeChains * kTreeLanes<T>;
template <class T>
constexpr std::int64_t kLeaf = 32 * kStripe<T>;
template <class T>
constexpr std::int64_t kChunk =
    64 * kLeaf<T>;  // 512 KiB: what one piece takes of a long reduction; a complete subtree

// --- part of a register: the last elements of a row ----------------------------------------------

struct All {};
struct First {
  std::int64_t n;
};

template <class T>
TS_INLINE Vec<T> get(const T* p, All) {
  return Vec<T>::load(p);
}
template <class T>
TS_INLINE Vec<T> get(const T* p, First part) {
  return Vec<T>::load_partial(p, part.n);
}
template <class T>
TS_INLINE void put(T* p, Vec<T> v, All) {
  v.store(p);
}
template <class T>
TS_INLINE void put(T* p, Vec<T> v, First part) {
  v.store_partial(p, part.n);
}

template <class T, int... I>
TS_INLINE Vec<IntOf<T>> indices(std::integer_sequence<int, I...>) {
  constexpr typename Vec<IntOf<T>>::Reg r = {static_cast<IntOf<T>>(I)...};
  return r;
}
// v where the lane is part of the row, `other` beyond it.
template <class T>
TS_INLINE Vec<T> only(Vec<T> v, Vec<T>, All) {
  return v;
}
template <class T>
TS_INLINE Vec<T> only(Vec<T> v, Vec<T> other, First part) {
  const auto inside = indices<T>(std::make_integer_sequence<int, Vec<T>::width>{}) <
                      Vec<IntOf<T>>(static_cast<IntOf<T>>(part.n));
  return select(Mask<T>(inside.r), v, other);
}

// One bit a lane.
template <class T>
TS_INLINE std::uint64_t lane_bits(Mask<T> m) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 1) return _mm512_movepi8_mask(__m512i(m.r));
  if constexpr (sizeof(T) == 4) return _mm512_movepi32_mask(__m512i(m.r));
  if constexpr (sizeof(T) == 8) return _mm512_movepi64_mask(__m512i(m.r));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 1) return static_cast<unsigned>(_mm256_movemask_epi8(__m256i(m.r)));
  if constexpr (sizeof(T) == 4) return static_cast<unsigned>(_mm256_movemask_ps(__m256(m.r)));
  if constexpr (sizeof(T) == 8) return static_cast<unsigned>(_mm256_movemask_pd(__m256d(m.r)));
#else
  if constexpr (sizeof(T) == 1) return static_cast<unsigned>(_mm_movemask_epi8(__m128i(m.r)));
  if constexpr (sizeof(T) == 4) return static_cast<unsigned>(_mm_movemask_ps(__m128(m.r)));
  if constexpr (sizeof(T) == 8) return static_cast<unsigned>(_mm_movemask_pd(__m128d(m.r)));
#endif
}

// Calls body(i, part) for the registers that cover [begin, end).
template <class T, class Body>
TS_INLINE void each(std::int64_t begin, std::int64_t end, const Body& body) {
  constexpr std::int64_t W = Vec<T>::width;
  std::int64_t i = begin;
  for (; i + 4 * W <= end; i += 4 * W) {
    body(i, All{});
    body(i + W, All{});
    body(i + 2 * W, All{});
    body(i + 3 * W, All{});
  }
  for (; i + W <= end; i += W) body(i, All{});
  if (i < end) body(i, First{end - i});
}

// --- what is done with two partial results -------------------------------------------------------

// Integers are added and multiplied as unsigned numbers: they wrap.
struct Add {
  template <class T>
  static constexpr T identity = T(0);
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    return V(a + b);
  }
};
struct Multiply {
  template <class T>
  static constexpr T identity = T(1);
  template <class V>
  TS_INLINE static V apply(V a, V b) {
    return V(a * b);
  }
};
// NaN propagates; of equals (+0 and -0) the first. max and min of simd.h give the second operand where either
// is NaN.
struct Max {
  template <class T>
  static constexpr T identity =
      std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
  template <class T>
  TS_INLINE static T apply(T a, T b) {
    return (b > a || b != b) ? b : a;
  }
  template <class T>
  TS_INLINE static Vec<T> apply(Vec<T> a, Vec<T> b) {
    if constexpr (std::is_floating_point_v<T>)
      return select(b != b, b, max(b, a));
    else
      return max(b, a);
  }
};
struct Min {
  template <class T>
  static constexpr T identity =
      std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  template <class T>
  TS_INLINE static T apply(T a, T b) {
    return (b < a || b != b) ? b : a;
  }
  template <class T>
  TS_INLINE static Vec<T> apply(Vec<T> a, Vec<T> b) {
    if constexpr (std::is_floating_point_v<T>)
      return select(b != b, b, min(b, a));
    else
      return min(b, a);
  }
};

// --- the fold of a register ----------------------------------------------------------------------

// Lane i with lane i + W/2, then W/4, ...
template <class Op, int Half, class T, int... I>
TS_INLINE Vec<T> fold_once(Vec<T> v, std::integer_sequence<int, I...>) {
  constexpr typename Vec<T>::MaskReg from = {static_cast<IntOf<T>>(I ^ Half)...};
  return Op::apply(v, Vec<T>(__builtin_shuffle(v.r, from)));
}
template <class Op, class T>
TS_INLINE T fold(Vec<T> v) {
  constexpr int W = Vec<T>::width;
  constexpr std::make_integer_sequence<int, W> lanes;
  if constexpr (W > 32) v = fold_once<Op, 32>(v, lanes);
  if constexpr (W > 16) v = fold_once<Op, 16>(v, lanes);
  if constexpr (W > 8) v = fold_once<Op, 8>(v, lanes);
  if constexpr (W > 4) v = fold_once<Op, 4>(v, lanes);
  if constexpr (W > 2) v = fold_once<Op, 2>(v, lanes);
  v = fold_once<Op, 1>(v, lanes);
  return static_cast<T>(v[0]);
}

// The folds of Vec<T>::width registers at once, fold(lanes[i]) in lane i: every step joins two registers in
// one, so that a fold costs two shuffles and an addition where it alone costs log2 of the width of each. The
// rows enter in the order in which shuffles within 16 bytes, which are the cheap ones, leave them.
template <class Op, int Lanes, bool kHigh, class T, int... I>
TS_INLINE Vec<T> half_of(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  constexpr auto source = [](int i) {  // of lane i, when a register holds groups of `Lanes` lanes
    constexpr int W = Vec<T>::width, P = 16 / static_cast<int>(sizeof(T)), half = Lanes / 2;
    const int part = half >= P ? W : P;  // within which a's come first
    const int at = i % part, from_b = at >= part / 2, j = at - from_b * (part / 2);
    return from_b * W + i / part * part + j / half * Lanes + j % half + (kHigh ? half : 0);
  };
  constexpr typename Vec<T>::MaskReg from = {static_cast<IntOf<T>>(source(I))...};
  return Vec<T>(__builtin_shuffle(a.r, b.r, from));
}
template <class Op, int Lanes, class T>
TS_INLINE Vec<T> join_halves(Vec<T> a, Vec<T> b) {
  constexpr std::make_integer_sequence<int, Vec<T>::width> lanes;
  return Op::apply(half_of<Op, Lanes, false>(a, b, lanes), half_of<Op, Lanes, true>(a, b, lanes));
}
template <class Op, class T, int Lanes = 2, int First = 0>
TS_INLINE Vec<T> fold_together(const Vec<T>* rows) {
  constexpr int W = Vec<T>::width, P = 16 / static_cast<int>(sizeof(T)), G = W / P;
  if constexpr (Lanes > W)
    return rows[First % G * P + First / G];
  else
    return join_halves<Op, Lanes>(fold_together<Op, T, 2 * Lanes, First>(rows),
                                  fold_together<Op, T, 2 * Lanes, First + W / Lanes>(rows));
}

// --- the tree along a row ------------------------------------------------------------------------
//
// N results at once, of one Op. step(sums, i, part) takes the elements [i, i + width) into the registers
// sums[0..N); step.ahead(i), where it is, asks for what follows the stripe at i.

// The part of the tree above the leaves: push() adds a leaf's results, finish() returns the whole.
template <class Op, class T, int N>
struct Pairwise {
  T partial[48][N];
  std::int64_t count = 0;
  int top = 0;

  TS_INLINE void push(const T* leaf) {
    T sum[N];
    for (int k = 0; k < N; ++k) sum[k] = leaf[k];
    for (std::int64_t carry = count++; carry & 1; carry >>= 1) {
      --top;
      for (int k = 0; k < N; ++k) sum[k] = Op::apply(partial[top][k], sum[k]);
    }
    for (int k = 0; k < N; ++k) partial[top][k] = sum[k];
    ++top;
  }
  TS_INLINE void finish(T* out) {
    if (top == 0) {
      for (int k = 0; k < N; ++k) out[k] = Op::template identity<T>;
      return;
    }
    --top;
    for (int k = 0; k < N; ++k) out[k] = partial[top][k];
    while (top > 0) {
      --top;
      for (int k = 0; k < N; ++k) out[k] = Op::apply(partial[top][k], out[k]);
    }
  }
};

// The end of a leaf: its chains, and of the lanes what makes one register of them.
template <class Op, class T, int N>
TS_INLINE void join_chains(const Vec<T> (&sum)[kTreeChains * kTreeParts][N], Vec<T>* out) {
  for (int k = 0; k < N; ++k) {
    Vec<T> lanes[kTreeParts];
    for (int q = 0; q < kTreeParts; ++q) {
      const Vec<T> even = Op::apply(sum[q][k], sum[kTreeParts + q][k]);
      const Vec<T> odd = Op::apply(sum[2 * kTreeParts + q][k], sum[3 * kTreeParts + q][k]);
      lanes[q] = Op::apply(even, odd);
    }
    for (int half = kTreeParts / 2; half > 0; half /= 2)
      for (int q = 0; q < half; ++q) lanes[q] = Op::apply(lanes[q], lanes[q + half]);
    out[k] = lanes[0];
  }
}

// One leaf, elements [begin, end), at most kLeaf<T> of them, but for the fold of the registers that remain.
template <class Op, class T, int N, class Step>
TS_INLINE void leaf_lanes(std::int64_t begin, std::int64_t end, const Step& step, Vec<T>* out) {
  constexpr int R = kTreeChains * kTreeParts;
  constexpr std::int64_t W = Vec<T>::width;
  const Vec<T> none(Op::template identity<T>);
  if (end - begin <= W) {  // the other chains are the identity
    for (int k = 0; k < N; ++k) out[k] = none;
    if (end - begin == W)
      step(out, begin, All{});
    else if (end > begin)
      step(out, begin, First{end - begin});
    return;
  }
  Vec<T> sum[R][N];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < N; ++k) sum[r][k] = none;
  std::int64_t i = begin;
  for (; i + R * W <= end; i += R * W) {
    if constexpr (requires { step.ahead(i); }) step.ahead(i);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) step(sum[r], i + r * W, All{});
  }
  if (i < end) {  // through memory, so that the registers above are named by constants
    Vec<T> last[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      for (int k = 0; k < N; ++k) last[r][k] = sum[r][k];
    int r = 0;
    for (; i + W <= end; i += W, ++r) step(last[r], i, All{});
    if (i < end) step(last[r], i, First{end - i});
#pragma GCC unroll 16
    for (int q = 0; q < R; ++q)
      for (int k = 0; k < N; ++k) sum[q][k] = last[q][k];
  }
  join_chains<Op, T, N>(sum, out);
}
template <class Op, class T, int N, class Step>
TS_INLINE void leaf(std::int64_t begin, std::int64_t end, const Step& step, T* out) {
  Vec<T> lanes[N];
  leaf_lanes<Op, T, N>(begin, end, step, lanes);
  for (int k = 0; k < N; ++k) out[k] = fold<Op, T>(lanes[k]);
}

// Elements [begin, end), begin a multiple of the leaf. The leaf stands here once: most of the code of a
// reduction is copies of it.
template <class Op, class T, int N, class Step>
TS_INLINE void tree(std::int64_t begin, std::int64_t end, const Step& step, T* out) {
  Pairwise<Op, T, N> above;
  for (std::int64_t i = begin;; i += kLeaf<T>) {
    const bool last = end - i <= kLeaf<T>;
    leaf<Op, T, N>(i, last ? end : i + kLeaf<T>, step, out);
    if (last && i == begin) return;
    above.push(out);
    if (last) return above.finish(out);
  }
}

// A step whose memory is asked for 2 KiB on. Registers that cross from one line into the next are loaded at
// half the rate from the second-level cache, at nearly the full one from the first.
constexpr std::int64_t kFarBytes = std::int64_t{2} << 20;  // from here on memory is asked for in any case
template <class T, class Step, class S = T>
struct Ahead : Step {
  const S *x, *x2;  // null: of this operand not; S: how it is stored (half.h)

  TS_INLINE void ahead(std::int64_t i) const {
    if constexpr (kTreeParts == 1)
      for (const S* const p : {x, x2})
        if (p)
          for (int r = 0; r < kTreeChains; ++r)
            __builtin_prefetch(reinterpret_cast<const char*>(p + i + r * kTreeLanes<T>) + 2048);
  }
};

// How the work inside one row is done: by the thread that has the row, or, for long rows, in chunks by all of
// them. Both make the same additions.
struct OneThread {
  template <class Op, class T, int N, class Step>
  TS_INLINE void reduce(std::int64_t n, const Step& step, T* out) const {
    tree<Op, T, N>(0, n, step, out);
  }
  template <class T, class Body>
  TS_INLINE void each_of(std::int64_t n, const Body& body) const {
    each<T>(0, n, body);
  }
};
struct AllThreads {
  template <class Op, class T, int N, class Step>
  void reduce(std::int64_t n, const Step& step, T* out) const {
    T* const partial = static_cast<T*>(scratch());
    parallel_ranges(n, kChunk<T>, [&](std::int64_t begin, std::int64_t end) {
      tree<Op, T, N>(begin, end, step, partial + begin / kChunk<T> * N);
    });
    Pairwise<Op, T, N> above;
    for (std::int64_t q = 0; q * kChunk<T> < n; ++q) above.push(partial + q * N);
    above.finish(out);
  }
  template <class T, class Body>
  void each_of(std::int64_t n, const Body& body) const {
    parallel_ranges(n, kChunk<T> / 4,
                    [&](std::int64_t begin, std::int64_t end) { each<T>(begin, end, body); });
  }
};

}  // namespace ts::cpu::TS_ISA
