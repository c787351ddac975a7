// 2-D pooling, forward (legend in pool_window.h):
//
//   max: y = max over the window, padding counts as -inf; NaN wins, the first of equals is the index kept for
//   backward avg: y = (sum over the window, row by row) / divisor
//
// Channels last: a vector holds neighbouring channels. Channels first, stride 1 or 2: a vector holds
// neighbouring outputs of a row, for maxima those at the edges too (pool_rows.h). Anything else: element by
// element. Reads x once from memory, writes y (and the index) once.
#include "cpu/pool_rows.h"

namespace ts::cpu::TS_ISA {

namespace {

// --- what a window computes, for a vector and for one element ------------------------------------
template <class S, class Index>
struct MaxPool {
  using T = Computed<S>;
  Plane<Index> index;
  struct One {
    T best;
    Index index;
  };
  using Lanes = MaxLanes<T>;
  TS_INLINE static One empty_one() { return {static_cast<T>(-__builtin_inf()), 0}; }
  TS_INLINE static Lanes empty() {
    return {Vec<T>(static_cast<T>(-__builtin_inf())), typename Vec<T>::MaskReg{}};
  }
  TS_INLINE static void add(One& s, T x, std::int64_t tap, bool first) {
    if (first || x > s.best || (x != x && s.best == s.best)) s = {x, static_cast<Index>(tap)};
  }
  TS_INLINE static void add(Lanes& s, Vec<T> x, std::int64_t tap, bool first) {
    if (first)
      s = {x, typename Lanes::Index{} + static_cast<IntOf<T>>(tap)};
    else
      s.next(x, tap);
  }
  TS_INLINE void write(const One& s, S* y, std::int64_t n, std::int64_t c, std::int64_t p, std::int64_t q,
                       std::int64_t) const {
    *y = stored_as<S>(s.best);
    *index.at(n, c, p, q) = s.index;
  }
  TS_INLINE void write(const Lanes& s, S* y, std::int64_t n, std::int64_t c, std::int64_t p, std::int64_t q,
                       std::int64_t, std::int64_t lanes) const {
    store_exact(s.best, y, lanes);
    IndexLanes<T, Index>::store(s.index, index.at(n, c, p, q), lanes);
  }
  bool channels_last() const { return index.c == 1; }
  bool rows() const { return index.w == 1; }
};

template <class S>
struct AvgPool {
  using T = Computed<S>;
  struct One {
    T sum;
  };
  struct Lanes {
    Vec<T> sum;
  };
  TS_INLINE static One empty_one() { return {T(0)}; }
  TS_INLINE static Lanes empty() { return {Vec<T>(T(0))}; }
  TS_INLINE static void add(One& s, T x, std::int64_t, bool) { s.sum += x; }
  TS_INLINE static void add(Lanes& s, Vec<T> x, std::int64_t, bool) { s.sum = s.sum + x; }
  TS_INLINE void write(const One& s, S* y, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                       std::int64_t divisor) const {
    *y = stored_as<S>(divisor ? s.sum / static_cast<T>(divisor) : T(0));
  }
  TS_INLINE void write(const Lanes& s, S* y, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                       std::int64_t divisor, std::int64_t lanes) const {
    store_lanes(divisor ? s.sum / Vec<T>(static_cast<T>(divisor)) : Vec<T>(T(0)), y, lanes);
  }
  bool channels_last() const { return true; }
  bool rows() const { return true; }
};

// count elements of x, `stride` (1 or 2) apart.
template <class S>
TS_INLINE Vec<Computed<S>> load_row(const S* x, std::int64_t stride, std::int64_t count) {
  using T = Computed<S>;
  constexpr int W = Vec<T>::width;
  if (stride == 1) return load_lanes(x, count);
  const std::int64_t elements = 2 * count - 1;
  const Vec<T> low = load_lanes(x, elements < W ? elements : W);
  const Vec<T> high = elements > W ? get(x + W, First{elements - W}) : Vec<T>(T(0));
  typename Vec<T>::MaskReg even;
  for (int i = 0; i < W; ++i) even[i] = 2 * i;
  return Vec<T>(__builtin_shuffle(low.r, high.r, even));
}

// Neighbouring windows of 2 x 2, edge to edge and wholly inside: every element is loaded once.
template <bool kFull, class S, class Pool>
TS_INLINE typename Pool::Lanes pool_pairs(const S* x, std::int64_t pitch, std::int64_t count) {
  auto state = Pool::empty();
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i, x += pitch) {
    const auto pairs = Pairs<S>::template load<kFull>(x, count);
    Pool::add(state, pairs.even, 2 * i, i == 0);
    Pool::add(state, pairs.odd, 2 * i + 1, false);
  }
  return state;
}

// One output pixel, channels last. A window of constant size (Kernel x Kernel, wholly inside) unrolls.
template <int Kernel, class S, class Pool>
TS_INLINE void pool_channels(const Pool& pool, const PoolShape& s, const Plane<const S>& x, S* y,
                             std::int64_t n, std::int64_t p, std::int64_t q, std::int64_t divisor) {
  constexpr int W = Vec<Computed<S>>::width;
  const std::int64_t i0 = Kernel ? 0 : s.h.low(p), i1 = Kernel ? Kernel : s.h.high(p);
  const std::int64_t j0 = Kernel ? 0 : s.w.low(q), j1 = Kernel ? Kernel : s.w.high(q);
  const S* const corner = x.at(n, 0, s.h.start(p), s.w.start(q));
  const std::int64_t C = s.C, kernel = s.w.kernel, down = s.h.dilation * x.h, right = s.w.dilation * x.w;
  for (std::int64_t c = 0; c < C; c += W) {
    const std::int64_t lanes = C - c < W ? C - c : W;
    auto state = Pool::empty();
#pragma GCC unroll 3
    for (std::int64_t i = i0; i < i1; ++i)
#pragma GCC unroll 3
      for (std::int64_t j = j0; j < j1; ++j)
        Pool::add(state, load_lanes(corner + c + i * down + j * right, lanes), i * kernel + j,
                  i == i0 && j == j0);
    pool.write(state, y + c, n, c, p, q, divisor, lanes);
  }
}

template <class S, class Pool>
void pool_forward(const Pool& pool, const PoolShape& s, const Plane<const S>& x, const Plane<S>& y,
                  const Pool2d& options, bool average) {
  using T = Computed<S>;
  constexpr int W = Vec<T>::width;
  constexpr std::int64_t kPiece = std::int64_t{1} << 14;  // taps of one piece, about
  const std::int64_t P = s.h.outputs, Q = s.w.outputs, taps = s.h.kernel * s.w.kernel;
  if (s.N == 0 || s.C == 0 || P <= 0 || Q <= 0) return;
  const auto divisor = [&](std::int64_t p, std::int64_t q) { return average ? s.divisor(p, q, options) : 1; };
  const auto one = [&](std::int64_t n, std::int64_t c, std::int64_t p, std::int64_t q) {
    const std::int64_t i0 = s.h.low(p), i1 = s.h.high(p), j0 = s.w.low(q), j1 = s.w.high(q);
    auto state = Pool::empty_one();
    for (std::int64_t i = i0; i < i1; ++i)
      for (std::int64_t j = j0; j < j1; ++j)
        Pool::add(state, T(*x.at(n, c, s.h.start(p) + i * s.h.dilation, s.w.start(q) + j * s.w.dilation)),
                  i * s.w.kernel + j, i == i0 && j == j0);
    pool.write(state, y.at(n, c, p, q), n, c, p, q, divisor(p, q));
  };

  const std::int64_t q_first = s.w.first_whole(), q_end = s.w.end_whole();
  if (x.c == 1 && y.c == 1 && pool.channels_last() && s.C > 1) {
    const bool two = s.h.kernel == 2 && s.w.kernel == 2, three = s.h.kernel == 3 && s.w.kernel == 3;
    const std::int64_t p_first = s.h.first_whole(), p_end = s.h.end_whole();
    const std::int64_t grain = 1 + kPiece / (Q * s.C * taps);
    parallel_ranges(s.N * P, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t n = row / P, p = row % P;
        const bool row_whole = p >= p_first && p < p_end;
        for (std::int64_t q = 0; q < Q; ++q) {
          S* to = y.at(n, 0, p, q);
          const bool whole = row_whole && q >= q_first && q < q_end;
          if (whole && two)
            pool_channels<2>(pool, s, x, to, n, p, q, divisor(p, q));
          else if (whole && three)
            pool_channels<3>(pool, s, x, to, n, p, q, divisor(p, q));
          else
            pool_channels<0>(pool, s, x, to, n, p, q, divisor(p, q));
        }
      }
    });
    return;
  }

  const bool vectors = x.w == 1 && y.w == 1 && pool.rows() && s.w.stride <= 2;
  const bool pairs =
      s.h.kernel == 2 && s.w.kernel == 2 && s.w.stride == 2 && s.h.dilation == 1 && s.w.dilation == 1;
  const std::int64_t grain = 1 + kPiece / (Q * taps);
  parallel_ranges(s.N * s.C * P, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t n = begin / P / s.C, c = begin / P % s.C, p = begin % P - 1;
    for (std::int64_t row = begin; row < end; ++row) {
      if (++p == P) {
        p = 0;
        if (++c == s.C) c = 0, ++n;
      }
      if (!vectors) {
        for (std::int64_t q = 0; q < Q; ++q) one(n, c, p, q);
        continue;
      }
      for (std::int64_t q = 0; q < q_first; ++q) one(n, c, p, q);
      const std::int64_t i0 = s.h.low(p), i1 = s.h.high(p);
      std::int64_t q = q_first;
      if (pairs && i1 - i0 == 2) {
        const S* from = x.at(n, c, s.h.start(p), s.w.start(q));
        S* to = y.at(n, c, p, q);
        const std::int64_t over = divisor(p, q);  // the same of all whole windows
        for (; q + W <= q_end; q += W, from += 2 * W, to += W)
          pool.write(pool_pairs<true, S, Pool>(from, x.h, W), to, n, c, p, q, over, W);
        if (q < q_end)
          pool.write(pool_pairs<false, S, Pool>(from, x.h, q_end - q), to, n, c, p, q, over, q_end - q);
        q = q_end;
      }
      for (; q < q_end; q += W) {
        const std::int64_t lanes = q_end - q < W ? q_end - q : W;
        auto state = Pool::empty();
        for (std::int64_t i = i0; i < i1; ++i) {
          const S* from = x.at(n, c, s.h.start(p) + i * s.h.dilation, s.w.start(q));
          for (std::int64_t j = 0; j < s.w.kernel; ++j)
            Pool::add(state, load_row(from + j * s.w.dilation, s.w.stride, lanes), i * s.w.kernel + j,
                      i == i0 && j == 0);
        }
        pool.write(state, y.at(n, c, p, q), n, c, p, q, divisor(p, q), lanes);
      }
      for (std::int64_t q = q_end; q < Q; ++q) one(n, c, p, q);
    }
  });
}

}  // namespace

void max_pool2d(In x, Out y, Out index, Pool2d pool) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    with_index(index.dtype, [&]<class I>(Type<I>) {
      const PoolShape shape(x, y, pool);
      if (!max_pool_rows(shape, plane<S>(x), plane<S>(y), plane<I>(index)))
        pool_forward<S>(MaxPool<S, I>{plane<I>(index)}, shape, plane<S>(x), plane<S>(y), pool, false);
    });
  });
}

void avg_pool2d(In x, Out y, Pool2d pool) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    pool_forward<S>(AvgPool<S>{}, PoolShape(x, y, pool), plane<S>(x), plane<S>(y), pool, true);
  });
}

}  // namespace ts::cpu::TS_ISA
