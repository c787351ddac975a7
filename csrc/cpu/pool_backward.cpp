// Gradients of 2-D pooling (legend in pool_window.h):
//
//   max: dx[h, w] = sum over the windows (p, q) whose winning tap is this input of dy[p, q]
//   avg: dx[h, w] = sum over the windows (p, q) that hold this input of dy[p, q] / divisor[p, q]
//
// Windows are added in ascending order of (p, q), whichever way the loops run. Channels last, every input
// gathers from its windows (or, windows edge to edge, every window writes its inputs): no zeroing, no races,
// a vector of channels at a time. Rows of overlapping maxima gather too (pool_rows_backward.h). Other layouts
// scatter, one plane a piece. Reads dy and the index about once from memory, writes dx once.
#include "cpu/pool_rows_backward.h"

namespace ts::cpu::TS_ISA {

namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 16;  // inputs of one piece, about

// What a window hands to its inputs. `load` reads a window's values for some neighbouring channels once,
// `share` says what tap `tap` gets of them; `scatter` adds to all inputs of one window of a plane.
template <class S, class Index>
struct MaxShare {
  using T = Computed<S>;
  static constexpr bool kExact = true;  // what a window hands out is its dy
  Plane<const S> dy;
  Plane<const Index> index;

  struct Window {
    const S* dy;
    const Index* index;
    std::int64_t tap;
  };
  struct Loaded {
    Vec<T> dy;
    typename Vec<T>::MaskReg taps;
  };
  TS_INLINE Window window(std::int64_t n, std::int64_t p, std::int64_t q, std::int64_t tap) const {
    return {dy.at(n, 0, p, q), index.at(n, 0, p, q), tap};
  }
  // What the windows of row p begin with, and the q-th of them, its tap j further on.
  TS_INLINE Window row(std::int64_t n, std::int64_t p, std::int64_t tap) const {
    return window(n, p, 0, tap);
  }
  TS_INLINE Window window(const Window& first, std::int64_t, std::int64_t q, std::int64_t j) const {
    return {first.dy + q * dy.w, first.index + q * index.w, first.tap + j};
  }
  TS_INLINE Loaded load(const Window& w, std::int64_t c, std::int64_t count) const {
    return {load_lanes(w.dy + c, count), IndexLanes<T, Index>::load(w.index + c, count)};
  }
  TS_INLINE static Vec<T> share(const Loaded& l, std::int64_t tap) {
    const auto here = l.taps == static_cast<IntOf<T>>(tap);
    return Vec<T>(here ? l.dy.r : typename Vec<T>::Reg{});
  }
  // Offsets of the taps from the window's first, for windows that lie wholly inside.
  struct Offsets {
    std::int64_t of[256];
    Offsets(const PoolShape& s, const Plane<T>& dx) {
      for (std::int64_t t = 0; t < 256 && t < s.h.kernel * s.w.kernel; ++t)
        of[t] = t / s.w.kernel * s.h.dilation * dx.h + t % s.w.kernel * s.w.dilation * dx.w;
    }
  };
  TS_INLINE void scatter(const PoolShape& s, const Plane<T>& dx, const Offsets& offsets, bool whole,
                         std::int64_t n, std::int64_t c, std::int64_t p, std::int64_t q) const {
    const std::int64_t tap = *index.at(n, c, p, q);
    const T share(*dy.at(n, c, p, q));
    if (whole && tap < 256) {
      if (tap < s.h.kernel * s.w.kernel)
        *(dx.at(n, c, s.h.start(p), s.w.start(q)) + offsets.of[tap]) += share;
      return;
    }
    const std::int64_t h = s.h.start(p) + tap / s.w.kernel * s.h.dilation;
    const std::int64_t w = s.w.start(q) + tap % s.w.kernel * s.w.dilation;
    if (h >= 0 && h < s.h.inputs && w >= 0 && w < s.w.inputs) *dx.at(n, c, h, w) += share;
  }
  bool channels_last() const { return dy.c == 1 && index.c == 1; }
  bool rows() const { return dy.w == 1 && index.w == 1; }
};

template <class S>
struct AvgShare {
  using T = Computed<S>;
  static constexpr bool kExact = false;
  Plane<const S> dy;
  const PoolShape& shape;
  const Pool2d& pool;

  struct Window {
    const S* dy;
    T divisor;
    std::int64_t tap;
  };
  struct Loaded {
    Vec<T> share;
  };
  TS_INLINE T divisor(std::int64_t p, std::int64_t q) const {
    const std::int64_t divisor = shape.divisor(p, q, pool);
    return static_cast<T>(divisor ? divisor : 1);
  }
  TS_INLINE Window window(std::int64_t n, std::int64_t p, std::int64_t q, std::int64_t tap) const {
    return {dy.at(n, 0, p, q), divisor(p, q), tap};
  }
  TS_INLINE Window row(std::int64_t n, std::int64_t p, std::int64_t tap) const {
    return {dy.at(n, 0, p, 0), T(0), tap};
  }
  TS_INLINE Window window(const Window& first, std::int64_t p, std::int64_t q, std::int64_t) const {
    return {first.dy + q * dy.w, divisor(p, q), 0};
  }
  TS_INLINE Loaded load(const Window& w, std::int64_t c, std::int64_t count) const {
    return {load_lanes(w.dy + c, count) / Vec<T>(w.divisor)};
  }
  TS_INLINE static Vec<T> share(const Loaded& l, std::int64_t) { return l.share; }
  struct Offsets {
    Offsets(const PoolShape&, const Plane<T>&) {}
  };
  TS_INLINE void scatter(const PoolShape& s, const Plane<T>& dx, const Offsets&, bool, std::int64_t n,
                         std::int64_t c, std::int64_t p, std::int64_t q) const {
    const T share = T(*dy.at(n, c, p, q)) / divisor(p, q);
    const std::int64_t i1 = s.h.high(p), j0 = s.w.low(q), j1 = s.w.high(q);
    for (std::int64_t i = s.h.low(p); i < i1; ++i) {
      T* to = dx.at(n, c, s.h.start(p) + i * s.h.dilation, s.w.start(q));
      for (std::int64_t j = j0; j < j1; ++j) to[j * s.w.dilation * dx.w] += share;
    }
  }
  // The windows of row p, to a plane whose rows are contiguous: tap by tap, the last one first, so that an
  // input still adds its windows in ascending order.
  TS_INLINE void scatter_row(const PoolShape& s, const Plane<T>& dx, std::int64_t n, std::int64_t c,
                             std::int64_t p) const {
    constexpr std::int64_t kBlock = 256;
    const std::int64_t Q = s.w.outputs, step = s.w.stride, i1 = s.h.high(p);
    const std::int64_t q_first = s.w.first_whole(), q_end = s.w.end_whole();
    const T whole = q_first < q_end ? divisor(p, q_first) : T(1);  // the same of all whole ones in the row
    T shares[kBlock];
    for (std::int64_t q0 = 0; q0 < Q; q0 += kBlock) {
      const std::int64_t count = Q - q0 < kBlock ? Q - q0 : kBlock;
      const S* const from = dy.at(n, c, p, q0);
      for (std::int64_t q = 0; q < count; ++q) {
        const bool inside = q0 + q >= q_first && q0 + q < q_end;
        shares[q] = T(from[q * dy.w]) / (inside ? whole : divisor(p, q0 + q));
      }
      for (std::int64_t i = s.h.low(p); i < i1; ++i) {
        T* const row = dx.at(n, c, s.h.start(p) + i, 0);
        for (std::int64_t j = s.w.kernel - 1; j >= 0; --j) {
          const std::int64_t at = s.w.start(q0) + j, behind = s.w.inputs - at;  // of the first window's tap
          const std::int64_t first = at < 0 ? (-at + step - 1) / step : 0;
          const std::int64_t most = behind <= 0 ? 0 : (behind + step - 1) / step;
          const std::int64_t last = most < count ? most : count;
          if (step == 1) {
            each<T>(first, last, [&](std::int64_t q, auto part) {
              put(row + at + q, get(row + at + q, part) + get(shares + q, part), part);
            });
          } else {
            for (std::int64_t q = first; q < last; ++q) row[at + q * step] += shares[q];
          }
        }
      }
    }
  }
  bool channels_last() const { return dy.c == 1; }
  bool rows() const { return false; }
};

// Averages whose windows overlap, channels last: the shares of the rows of windows that hold a row of inputs,
// divided once a window instead of once an input, wait in scratch.
template <class S>
struct HeldShare {
  using T = Computed<S>;
  static constexpr std::int64_t kHeldBytes = std::int64_t{512} << 10;  // a part of the second-level cache
  const AvgShare<S>& of;

  struct Window {
    const T* share;
    std::int64_t tap;
  };
  struct Loaded {
    Vec<T> share;
  };
  std::int64_t rows() const { return (of.shape.h.kernel + of.shape.h.stride - 1) / of.shape.h.stride; }
  std::int64_t row_size() const { return of.shape.w.outputs * of.shape.C; }
  bool fits() const { return rows() * row_size() * static_cast<std::int64_t>(sizeof(T)) <= kHeldBytes; }
  T* held(std::int64_t p) const { return static_cast<T*>(scratch()) + p % rows() * row_size(); }

  // Rows [begin, end) of windows are held from here on.
  void hold(std::int64_t n, std::int64_t begin, std::int64_t end) const {
    constexpr std::int64_t W = Vec<T>::width;
    const std::int64_t C = of.shape.C;
    for (std::int64_t p = begin; p < end; ++p) {
      T* to = held(p);
      for (std::int64_t q = 0; q < of.shape.w.outputs; ++q, to += C) {
        const auto window = of.window(n, p, q, 0);
        std::int64_t c = 0;
        for (; c + W <= C; c += W) of.load(window, c, W).share.store(to + c);
        if (c < C) store_lanes(of.load(window, c, C - c).share, to + c, C - c);
      }
    }
  }
  TS_INLINE Window row(std::int64_t, std::int64_t p, std::int64_t tap) const { return {held(p), tap}; }
  TS_INLINE Window window(const Window& first, std::int64_t, std::int64_t q, std::int64_t) const {
    return {first.share + q * of.shape.C, 0};
  }
  TS_INLINE Loaded load(const Window& w, std::int64_t c, std::int64_t count) const {
    return {load_lanes(w.share + c, count)};
  }
  TS_INLINE static Vec<T> share(const Loaded& l, std::int64_t) { return l.share; }
};

// Windows edge to edge, channels last: every window writes all of its inputs; what no window covers is 0.
template <class S, class Share>
void write_windows(const Share& share, const PoolShape& s, const Plane<S>& dx) {
  constexpr int W = Vec<Computed<S>>::width;
  const std::int64_t P = s.h.outputs, Q = s.w.outputs, KH = s.h.kernel, KW = s.w.kernel;
  const auto clear = [&](std::int64_t n, std::int64_t h, std::int64_t w) {
    std::memset(dx.at(n, 0, h, w), 0, static_cast<std::size_t>(s.C) * sizeof(S));
  };
  parallel_ranges(s.N * P, 1 + kPiece / (KH * s.w.inputs * s.C), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / P, p = row % P;
      for (std::int64_t q = 0; q < Q; ++q) {
        const auto window = share.window(n, p, q, 0);
        S* const corner = dx.at(n, 0, p * KH, q * KW);
        for (std::int64_t c = 0; c < s.C; c += W) {
          const std::int64_t count = s.C - c < W ? s.C - c : W;
          const auto loaded = share.load(window, c, count);
          std::int64_t tap = 0;
          for (std::int64_t i = 0; i < KH; ++i) {
            S* to = corner + c + i * dx.h;
            for (std::int64_t j = 0; j < KW; ++j, to += dx.w) {
              if constexpr (Share::kExact)
                store_exact(share.share(loaded, tap++), to, count);
              else
                store_lanes(share.share(loaded, tap++), to, count);
            }
          }
        }
      }
      for (std::int64_t h = p * KH; h < (p + 1) * KH; ++h)
        for (std::int64_t w = Q * KW; w < s.w.inputs; ++w) clear(n, h, w);
      if (p + 1 == P)
        for (std::int64_t h = P * KH; h < s.h.inputs; ++h)
          for (std::int64_t w = 0; w < s.w.inputs; ++w) clear(n, h, w);
    }
  });
}

// Channels last: every input adds what its windows hand it, found once for all channels, some windows at a
// time. Sums of halves wait for the next ones in float32, some channels at a time.
template <class S, class Share>
void gather_windows(const Share& share, const PoolShape& s, const Plane<S>& dx) {
  using T = Computed<S>;
  constexpr int W = Vec<T>::width, kWindows = 32;
  constexpr std::int64_t kHeld = is_half_type<S> ? 1024 : 1;
  const std::int64_t block = is_half_type<S> ? kHeld : s.C;
  // Row p of windows, as the inputs of row h see it; its tap is -1 where dilation passes these over.
  const auto row_of_windows = [&](std::int64_t n, std::int64_t h, std::int64_t p) {
    const std::int64_t down = h - s.h.start(p), spread = s.h.dilation;
    if (spread > 1 && down % spread != 0) return share.row(n, p, -1);
    return share.row(n, p, (spread > 1 ? down / spread : down) * s.w.kernel);
  };
  constexpr int kAbove = 8;  // such rows are found once for all columns
  const auto add_windows = [&](const typename Share::Window* above, std::int64_t n, std::int64_t h,
                               std::int64_t w, std::int64_t p0, std::int64_t p1, std::int64_t q0,
                               std::int64_t q1, std::int64_t begin) {
    const std::int64_t end = s.C - begin < block ? s.C : begin + block;
    S* const to = dx.at(n, 0, h, w);
    [[maybe_unused]] alignas(64) T held[kHeld];
    typename Share::Window windows[kWindows];
    int found = 0;
    bool first = true;
    const auto add = [&](bool last) {
      const auto channels = [&](std::int64_t c, auto count, auto windows_found) {
        Vec<T> sum(T(0));
        if constexpr (is_half_type<S>)
          sum = first ? sum : Vec<T>::load(held + (c - begin));
        else
          sum = first ? sum : load_lanes(to + c, count);
        for (int i = 0; i < windows_found; ++i)
          sum = sum + share.share(share.load(windows[i], c, count), windows[i].tap);
        if constexpr (is_half_type<S>)
          if (!last) sum.store(held + (c - begin));
        if (!is_half_type<S> || last) store_lanes(sum, to + c, count);
      };
      const auto all_channels = [&](auto windows_found) {
        std::int64_t c = begin;
        for (; c + W <= end; c += W) channels(c, Known<W>{}, windows_found);
        if (c < end) channels(c, end - c, windows_found);
      };
      switch (found) {  // as many as windows of 3 x 3, 2 apart or 1, have; known, they take no loop
        case 1:
          all_channels(std::integral_constant<int, 1>{});
          break;
        case 2:
          all_channels(std::integral_constant<int, 2>{});
          break;
        case 4:
          all_channels(std::integral_constant<int, 4>{});
          break;
        case 9:
          all_channels(std::integral_constant<int, 9>{});
          break;
        default:
          all_channels(found);
      }
      found = 0, first = false;
    };
    for (std::int64_t p = p0; p < p1; ++p) {
      const typename Share::Window row = p - p0 < kAbove ? above[p - p0] : row_of_windows(n, h, p);
      if (row.tap < 0) continue;
      for (std::int64_t q = q0; q < q1; ++q) {
        const std::int64_t right = w - s.w.start(q);
        if (s.w.dilation > 1 && right % s.w.dilation != 0) continue;
        const std::int64_t j = s.w.dilation > 1 ? right / s.w.dilation : right;
        windows[found++] = share.window(row, p, q, j);
        if (found == kWindows) add(false);
      }
    }
    if (found > 0 || first || is_half_type<S>) add(true);
  };
  const std::int64_t reach = (s.w.kernel - 1) * s.w.dilation;
  parallel_ranges(s.N * s.h.inputs, 1 + kPiece / (s.w.inputs * s.C),
                  [&](std::int64_t begin, std::int64_t end) {
                    [[maybe_unused]] std::int64_t held = 0;  // rows of windows before this one are held
                    for (std::int64_t row = begin; row < end; ++row) {
                      const std::int64_t n = row / s.h.inputs, h = row % s.h.inputs;
                      const std::int64_t p0 = s.h.first_window(h), p1 = s.h.end_window(h);
                      if constexpr (requires { share.hold(n, p0, p1); }) {
                        if (row == begin || h == 0 || held < p0) held = p0;
                        if (held < p1) share.hold(n, held, p1), held = p1;
                      }
                      typename Share::Window above[kAbove];
                      for (std::int64_t p = p0; p < p1 && p - p0 < kAbove; ++p)
                        above[p - p0] = row_of_windows(n, h, p);
                      std::int64_t q0 = 0, q1 = 0;  // the windows that may hold column w
                      for (std::int64_t w = 0; w < s.w.inputs; ++w) {
                        while (s.w.start(q0) + reach < w) ++q0;
                        while (q1 < s.w.outputs && s.w.start(q1) <= w) ++q1;
                        for (std::int64_t c = 0; c < s.C; c += block)
                          add_windows(above, n, h, w, p0, p1, q0, q1, c);
                      }
                    }
                  });
}

// Any layout: clears a plane and lets its windows add to it. A plane of halves is summed in scratch.
template <class S, class Share>
void scatter_windows(const Share& share, const PoolShape& s, const Plane<S>& dx) {
  using T = Computed<S>;
  const std::int64_t size = s.h.inputs * s.w.inputs;
  const std::int64_t p_first = s.h.first_whole(), p_end = s.h.end_whole();
  const std::int64_t q_first = s.w.first_whole(), q_end = s.w.end_whole();
  const auto sums = [&]() -> Plane<T> {
    if constexpr (is_half_type<S>)
      return {static_cast<T*>(scratch()), 0, 0, s.w.inputs, 1};
    else
      return dx;
  };
  const typename Share::Offsets offsets(s, sums());
  parallel_ranges(s.N * s.C, 1 + kPiece / size, [&](std::int64_t begin, std::int64_t end) {
    const Plane<T> to = sums();
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t n = at / s.C, c = at % s.C;
      for (std::int64_t h = 0; h < s.h.inputs; ++h)
        for (std::int64_t w = 0; w < s.w.inputs; ++w) *to.at(n, c, h, w) = T(0);
      for (std::int64_t p = 0; p < s.h.outputs; ++p) {
        if constexpr (requires { share.scatter_row(s, to, n, c, p); })
          if (to.w == 1) {
            share.scatter_row(s, to, n, c, p);
            continue;
          }
        const bool row_whole = p >= p_first && p < p_end;
        for (std::int64_t q = 0; q < s.w.outputs; ++q)
          share.scatter(s, to, offsets, row_whole && q >= q_first && q < q_end, n, c, p, q);
      }
      if constexpr (is_half_type<S>)
        for (std::int64_t h = 0; h < s.h.inputs; ++h) {
          const T* const row = to.at(n, c, h, 0);
          S* const rounded = dx.at(n, c, h, 0);
          if (dx.w == 1)
            each<T>(0, s.w.inputs,
                    [&](std::int64_t w, auto part) { put(rounded + w, get(row + w, part), part); });
          else
            for (std::int64_t w = 0; w < s.w.inputs; ++w) rounded[w * dx.w] = stored_as<S>(row[w]);
        }
    }
  });
}

// Channels first, 2 x 2 windows edge to edge: a vector of outputs of one row writes two vectors of each input
// row.
template <class S, class Index>
void write_row_pairs(const MaxShare<S, Index>& share, const PoolShape& s, const Plane<S>& dx) {
  using T = Computed<S>;
  constexpr int W = Vec<T>::width;
  const std::int64_t P = s.h.outputs, Q = s.w.outputs;
  parallel_ranges(s.N * s.C * P, 1 + kPiece / (2 * s.w.inputs), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / P / s.C, c = row / P % s.C, p = row % P;
      for (std::int64_t q = 0; q < Q; q += W) {
        const std::int64_t count = Q - q < W ? Q - q : W;
        const Vec<T> dy = load_lanes(share.dy.at(n, c, p, q), count);
        const auto taps = IndexLanes<T, Index>::load(share.index.at(n, c, p, q), count);
        for (int i = 0; i < 2; ++i) {
          const auto left = taps == static_cast<IntOf<T>>(2 * i),
                     right = taps == static_cast<IntOf<T>>(2 * i + 1);
          const typename Vec<T>::Reg a = left ? dy.r : typename Vec<T>::Reg{},
                                     b = right ? dy.r : typename Vec<T>::Reg{};
          Pairs<S>{a, b}.store(dx.at(n, c, 2 * p + i, 2 * q), 2 * count);
        }
      }
      for (std::int64_t w = 2 * Q; w < s.w.inputs; ++w)
        *dx.at(n, c, 2 * p, w) = *dx.at(n, c, 2 * p + 1, w) = S{};
      if (p + 1 == P)
        for (std::int64_t h = 2 * P; h < s.h.inputs; ++h)
          for (std::int64_t w = 0; w < s.w.inputs; ++w) *dx.at(n, c, h, w) = S{};
    }
  });
}

template <class S, class Share>
void pool_backward(const Share& share, const PoolShape& s, const Plane<S>& dx) {
  if (s.N == 0 || s.C == 0 || s.h.inputs == 0 || s.w.inputs == 0) return;
  const bool tiles = s.h.tiles() && s.w.tiles() && s.h.outputs > 0 && s.w.outputs > 0;
  if (share.channels_last() && dx.c == 1 && s.C > 1) {
    if (tiles) return write_windows(share, s, dx);
    if constexpr (!Share::kExact)
      if (const HeldShare<S> held{share}; held.fits()) return gather_windows(held, s, dx);
    return gather_windows(share, s, dx);
  }
  if constexpr (requires { share.index; })
    if (tiles && s.h.kernel == 2 && s.w.kernel == 2 && share.rows() && dx.w == 1)
      return write_row_pairs(share, s, dx);
  if constexpr (std::is_same_v<Share, MaxShare<S, std::uint8_t>>)
    if (max_pool_backward_rows(s, share.dy, share.index, dx)) return;
  scatter_windows(share, s, dx);
}

}  // namespace

void max_pool2d_backward(In dy, In index, Out dx, Pool2d pool) {
  with_stored(dy.dtype, [&]<class S>(Type<S>) {
    with_index(index.dtype, [&]<class I>(Type<I>) {
      pool_backward<S>(MaxShare<S, I>{plane<S>(dy), plane<I>(index)}, PoolShape(dx, dy, pool), plane<S>(dx));
    });
  });
}

void avg_pool2d_backward(In dy, Out dx, Pool2d pool) {
  with_stored(dy.dtype, [&]<class S>(Type<S>) {
    const PoolShape shape(dx, dy, pool);
    pool_backward<S>(AvgShare<S>{plane<S>(dy), shape, pool}, shape, plane<S>(dx));
  });
}

}  // namespace ts::cpu::TS_ISA
