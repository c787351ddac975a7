// Max pooling of images whose rows are contiguous, windows 1 or 2 columns apart (legend in pool_window.h):
// each lane is a window, those at the edges among them.
//
// Rows of x lie between columns of -inf in scratch. A row's windows are reduced once, whichever rows of
// windows hold it, and then the rows of a window are. Taps are met in ascending order both times, so the
// first of equals and the first NaN win as they do in one chain.
#pragma once

#include "cpu/pool_window.h"

namespace ts::cpu::TS_ISA {

// What windows keep so far, a window a lane.
template <class T>
struct MaxLanes {
  using Index = typename Vec<T>::MaskReg;
  Vec<T> best;
  Index index;
  TS_INLINE void next(Vec<T> x, Index tap) {
    // x > best, or the first NaN: not (x <= best) unless best is NaN already.
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
      const __mmask16 number = _mm512_cmp_ps_mask(best.r, best.r, _CMP_ORD_Q);
      const __mmask16 wins = _mm512_mask_cmp_ps_mask(number, x.r, best.r, _CMP_NLE_UQ);
      best = Vec<T>(_mm512_mask_mov_ps(best.r, wins, x.r));
      index = Index(_mm512_mask_mov_epi32(__m512i(index), wins, __m512i(tap)));
    } else {
      const __mmask8 number = _mm512_cmp_pd_mask(best.r, best.r, _CMP_ORD_Q);
      const __mmask8 wins = _mm512_mask_cmp_pd_mask(number, x.r, best.r, _CMP_NLE_UQ);
      best = Vec<T>(_mm512_mask_mov_pd(best.r, wins, x.r));
      index = Index(_mm512_mask_mov_epi64(__m512i(index), wins, __m512i(tap)));
    }
#else
    const auto wins = ~(x <= best).r & (best == best).r;
    best = wins ? x.r : best.r;
#if defined(__AVX2__)
    index = Index(_mm256_blendv_epi8(__m256i(index), __m256i(tap), __m256i(wins)));
#else
    index = wins ? tap : index;
#endif
#endif
  }
  TS_INLINE void next(Vec<T> x, std::int64_t tap) { next(x, Index{} + static_cast<IntOf<T>>(tap)); }
};

template <std::int64_t n>
using Known = std::integral_constant<std::int64_t, n>;

// Calls body(i, count) for the registers that cover [0, n), n > 0. The last one is moved back to end at n.
template <class T, class Body>
TS_INLINE void cover(std::int64_t n, const Body& body) {
  constexpr std::int64_t W = Vec<T>::width;
  if (n < W) return body(std::int64_t{0}, n);
  for (std::int64_t i = 0; i + W < n; i += W) body(i, Known<W>{});
  body(n - W, Known<W>{});
}

// Rows [begin, end) of planes of `rows` each: body(plane, first, last) for at most `strip` rows at a time.
template <class Body>
TS_INLINE void each_strip(std::int64_t begin, std::int64_t end, std::int64_t rows, std::int64_t strip,
                          const Body& body) {
  while (begin < end) {
    const std::int64_t first = begin % rows, last = least(rows, first + least(end - begin, strip));
    body(begin / rows, first, last);
    begin += last - first;
  }
}

// How many rows of `bytes` each, of which `reach` belong together, wait in scratch; 0: too few would fit.
inline std::int64_t rows_held(std::int64_t bytes, std::int64_t reach) {
  constexpr std::int64_t kNear = std::int64_t{32} << 10, kMost = std::int64_t{1} << 20;
  const std::int64_t rows = least(most(kNear / bytes, 4 * reach), kMost / bytes);
  return rows < reach ? 0 : rows;
}

// The rows of x that some windows of a plane read, in the calling thread's scratch.
template <class T>
struct MaxRows {
  static constexpr std::int64_t W = Vec<T>::width;
  using Int = IntOf<T>;
  PoolAxis w;
  std::int64_t lanes;  // windows of a row, and what fills its last register
  std::int64_t lead;   // columns of padding before the image's, whole registers
  std::int64_t part;   // columns of one parity (windows 2 apart), or all
  std::int64_t pitch;  // of rows, each w.stride parts
  std::int64_t held;   // rows
  T* rows = nullptr;
  T* best = nullptr;  // a row's maxima, and which of its taps they are
  Int* taps = nullptr;
  Int* low = nullptr;  // the first tap inside the image, of every window

  explicit MaxRows(const PoolShape& s) : w(s.w) {
    lanes = (w.outputs + W - 1) / W * W;
    const std::int64_t reach = (w.kernel - 1) * w.dilation - w.padding;
    lead = (w.padding / w.stride + W) / W * W;
    part = lead + (most(lanes + reach / w.stride + 1, w.inputs / w.stride + 1) + W - 1) / W * W;
    pitch = w.stride * part;
    held = rows_held((pitch + 2 * lanes) * static_cast<std::int64_t>(sizeof(T)),
                     (s.h.kernel - 1) * s.h.dilation + 1);
    for (std::int64_t q = 0; q < w.first_whole(); ++q)
      if (w.low(q) >= w.high(q)) held = 0;  // a window of padding alone
  }
  void place() {
    rows = static_cast<T*>(scratch());
    best = rows + held * pitch;
    taps = reinterpret_cast<Int*>(best + held * lanes);
    low = taps + held * lanes;
    for (T* at = rows; at < best; at += W) Vec<T>(static_cast<T>(-__builtin_inf())).store(at);
    std::memset(low, 0, static_cast<std::size_t>(lanes) * sizeof(Int));
    for (std::int64_t q = 0; q < w.first_whole(); ++q) low[q] = static_cast<Int>(w.low(q));
  }
  // Where a column of the image, or of its padding, lies in a row.
  TS_INLINE std::int64_t at(std::int64_t column) const {
    return lead + (w.stride == 1 ? column : (column & 1) * part + (column >> 1));
  }
  // Rows [row, last) of scratch from x on.
  template <class S>
  void copy(const S* x, std::int64_t x_pitch, std::int64_t row, std::int64_t last) const {
    const std::int64_t n = w.inputs, half = n / 2, step = pitch;
    T *to = rows + row * pitch + lead, *to_odd = to + part;
    const bool all = w.stride == 1;
    for (; row < last; ++row, x += x_pitch, to += step, to_odd += step) {
      if (all) {
        cover<T>(n,
                 [&](std::int64_t i, auto count) { store_lanes(load_lanes(x + i, count), to + i, count); });
        continue;
      }
      if (half > 0)
        cover<T>(half, [&](std::int64_t i, auto count) {
          constexpr bool full = !std::is_same_v<decltype(count), std::int64_t>;
          const auto pairs = Pairs<S>::template load<full>(x + 2 * i, count);
          store_lanes(pairs.even, to + i, count), store_lanes(pairs.odd, to_odd + i, count);
        });
      if (n % 2) to[half] = T(x[n - 1]);
    }
  }
  // The maxima of rows [row, last). A window that begins outside of the image begins with -inf and its first
  // tap inside. Kernel 0: any.
  template <int Kernel>
  TS_INLINE void reduce(std::int64_t row, std::int64_t last) const {
    const MaxRows r = *this;
    const std::int64_t kernel = Kernel ? Kernel : r.w.kernel, step = r.w.dilation;
    const std::int64_t start = -r.w.padding, first = at(start);
    const std::int64_t second = at(start + step) - first, third = at(start + 2 * step) - first;
    const T* from = rows + row * pitch + first;
    T* to = best + row * lanes;
    Int* where = taps + row * lanes;
    for (; row < last; ++row, from += r.pitch, to += r.lanes, where += r.lanes)
      for (std::int64_t q = 0; q < r.lanes; q += W) {
        MaxLanes<T> m{Vec<T>::load(from + q), Vec<Int>::load(r.low + q).r};
        if constexpr (Kernel == 3) {
          m.next(Vec<T>::load(from + second + q), 1);
          m.next(Vec<T>::load(from + third + q), 2);
        } else {
          for (std::int64_t j = 1; j < kernel; ++j)
            m.next(Vec<T>::load(from + q + (r.at(start + j * step) - first)), j);
        }
        m.best.store(to + q);
        Vec<Int>(m.index).store(where + q);
      }
  }
  TS_OUTLINE void reduce(std::int64_t row, std::int64_t last) const {
    w.kernel == 3 ? reduce<3>(row, last) : reduce<0>(row, last);
  }
  // A row of windows: `count` reduced rows from `row` on, every `apart`-th, of whose taps `tap` is the first.
  template <class S, class Index>
  TS_INLINE void merge(std::int64_t row, std::int64_t count, std::int64_t apart, Int tap, S* y,
                       Index* index) const {
    apart *= lanes;
    const Int step = static_cast<Int>(w.kernel);
    const T* const from = best + row * lanes;
    const Int* const where = taps + row * lanes;
    const auto each = [&](const auto& windows) {
      cover<T>(w.outputs, [&](std::int64_t q, auto part) {
        const MaxLanes<T> m = windows(q);
        store_exact(m.best, y + q, part);
        IndexLanes<T, Index>::store(m.index, index + q, part);
      });
    };
    const auto first = [&](std::int64_t q) {
      return MaxLanes<T>{Vec<T>::load(from + q), Vec<Int>::load(where + q).r + tap};
    };
    const auto next = [&](MaxLanes<T>& m, std::int64_t at, Int of) {
      m.next(Vec<T>::load(from + at), Vec<Int>::load(where + at).r + of);
    };
    if (count == 3)
      each([&](std::int64_t q) {
        MaxLanes<T> m = first(q);
        next(m, q + apart, tap + step);
        next(m, q + 2 * apart, tap + 2 * step);
        return m;
      });
    else if (count > 0)
      each([&](std::int64_t q) {
        MaxLanes<T> m = first(q);
        Int of = tap;
        for (std::int64_t i = 1; i < count; ++i) next(m, q += apart, of += step);
        return m;
      });
    else
      each([&](std::int64_t) { return MaxLanes<T>{Vec<T>(static_cast<T>(-__builtin_inf())), {}}; });
  }
};

// False: not for these windows.
template <class S, class Index>
TS_OUTLINE bool max_pool_rows(const PoolShape& s, const Plane<const S>& x, const Plane<S>& y,
                              const Plane<Index>& index) {
  using T = Computed<S>;
  using Int = IntOf<T>;
  constexpr std::int64_t kPiece = std::int64_t{1} << 16;  // taps of one piece, about
  const bool rows = x.w == 1 && y.w == 1 && index.w == 1, channels = x.c == 1 && s.C > 1;
  const bool tiles = s.h.kernel == 2 && s.w.kernel == 2 && s.w.tiles();  // pool_pairs has them
  if (!rows || channels || tiles || s.w.stride > 2 || s.N == 0 || s.C == 0 || s.h.outputs <= 0 ||
      s.w.outputs <= 0 || s.h.inputs == 0 || s.w.inputs == 0)
    return false;
  const MaxRows<T> layout(s);
  if (layout.held == 0) return false;
  const PoolAxis h = s.h;
  const std::int64_t reach = (h.kernel - 1) * h.dilation + 1, strip = (layout.held - reach) / h.stride + 1;
  const std::int64_t grain = most(strip, 1 + kPiece / (s.w.outputs * h.kernel * s.w.kernel));
  const bool gaps = h.stride > reach;  // rows that no window reads
  parallel_ranges(s.N * s.C * h.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
    MaxRows<T> rows = layout;
    rows.place();
    each_strip(begin, end, h.outputs, strip, [&](std::int64_t plane, std::int64_t p0, std::int64_t p1) {
      const std::int64_t n = plane / s.C, c = plane % s.C, base = most(h.start(p0), std::int64_t{0});
      const auto each_range = [&](const auto& body) {
        for (std::int64_t p = p0, next; p < p1; p = next) {
          next = gaps ? p + 1 : p1;
          body(most(h.start(p), std::int64_t{0}), least(h.start(next - 1) + reach, h.inputs));
        }
      };
      // All rows are copied before any is read: a load from several stores of a moment ago waits for them.
      each_range([&](std::int64_t row, std::int64_t last) {
        rows.copy(x.at(n, c, row, 0), x.h, row - base, last - base);
      });
      each_range([&](std::int64_t row, std::int64_t last) { rows.reduce(row - base, last - base); });
      for (std::int64_t p = p0; p < p1; ++p) {
        const std::int64_t i0 = h.low(p);
        rows.merge(h.start(p) + i0 * h.dilation - base, h.high(p) - i0, h.dilation,
                   static_cast<Int>(i0 * s.w.kernel), y.at(n, c, p, 0), index.at(n, c, p, 0));
      }
    });
  });
  return true;
}

}  // namespace ts::cpu::TS_ISA
