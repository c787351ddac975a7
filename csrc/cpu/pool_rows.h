// Max pooling of images whose rows are contiguous, windows 1 or 2 columns apart (legend in pool_window.h):
// each lane is a window (forward) or an input (backward), those at the edges among them.
//
// Forward: rows of x lie between columns of -inf in scratch. A row's windows are reduced once, whichever rows
// of windows hold it, and then the rows of a window are. Taps are met in ascending order both times, so the
// first of equals and the first NaN win as they do in one chain.
// Backward: rows of dy and of winning taps lie in scratch between columns that no tap names. An input adds
// dy of its windows, or 0 where they chose another tap: a sum that began with +0 is never -0, so +0 changes
// none.
#pragma once

#include <utility>

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

TS_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
TS_INLINE std::int64_t larger(std::int64_t a, std::int64_t b) { return a < b ? b : a; }

template <std::int64_t n>
using Known = std::integral_constant<std::int64_t, n>;

// Calls body(i) for i in [0, count); without a loop where the type says how many.
template <class Count, class Body>
TS_INLINE void repeat(Count count, const Body& body) {
  if constexpr (std::is_same_v<Count, std::int64_t>)
    for (std::int64_t i = 0; i < count; ++i) body(i);
  else
    [&]<std::int64_t... i>(std::integer_sequence<std::int64_t, i...>) {
      (body(i), ...);
    }(std::make_integer_sequence<std::int64_t, Count::value>{});
}

// Calls body(i, count) for the registers that cover [0, n), n > 0. The last one is moved back to end at n.
template <class T, class Body>
TS_INLINE void cover(std::int64_t n, const Body& body) {
  constexpr std::int64_t W = Vec<T>::width;
  if (n < W) return body(std::int64_t{0}, n);
  for (std::int64_t i = 0; i + W < n; i += W) body(i, Known<W>{});
  body(n - W, Known<W>{});
}

// Rows [begin, end) of planes of `rows` each: body(plane, first, last) for at most `most` rows at a time.
template <class Body>
TS_INLINE void each_strip(std::int64_t begin, std::int64_t end, std::int64_t rows, std::int64_t most,
                          const Body& body) {
  while (begin < end) {
    const std::int64_t first = begin % rows, last = smaller(rows, first + smaller(end - begin, most));
    body(begin / rows, first, last);
    begin += last - first;
  }
}

// How many rows of `bytes` each, of which `reach` belong together, wait in scratch; 0: too few would fit.
inline std::int64_t rows_held(std::int64_t bytes, std::int64_t reach) {
  constexpr std::int64_t kNear = std::int64_t{32} << 10, kMost = std::int64_t{1} << 20;
  const std::int64_t rows = smaller(larger(kNear / bytes, 4 * reach), kMost / bytes);
  return rows < reach ? 0 : rows;
}

// --- forward -------------------------------------------------------------------------------------

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
    part = lead + (larger(lanes + reach / w.stride + 1, w.inputs / w.stride + 1) + W - 1) / W * W;
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
  const std::int64_t reach = (h.kernel - 1) * h.dilation + 1, most = (layout.held - reach) / h.stride + 1;
  const std::int64_t grain = larger(most, 1 + kPiece / (s.w.outputs * h.kernel * s.w.kernel));
  const bool gaps = h.stride > reach;  // rows that no window reads
  parallel_ranges(s.N * s.C * h.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
    MaxRows<T> rows = layout;
    rows.place();
    each_strip(begin, end, h.outputs, most, [&](std::int64_t plane, std::int64_t p0, std::int64_t p1) {
      const std::int64_t n = plane / s.C, c = plane % s.C, base = larger(h.start(p0), std::int64_t{0});
      const auto each_range = [&](const auto& body) {
        for (std::int64_t p = p0, next; p < p1; p = next) {
          next = gaps ? p + 1 : p1;
          body(larger(h.start(p), std::int64_t{0}), smaller(h.start(next - 1) + reach, h.inputs));
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

// --- backward ------------------------------------------------------------------------------------

// Rows of windows as the inputs of a plane see them. Step: columns from a window to the next one.
template <class S, int Step>
struct GatherRows {
  using T = Computed<S>;
  using Int = IntOf<T>;
  static constexpr std::int64_t W = Vec<T>::width;
  PoolAxis w;
  std::int64_t lanes;  // registers' worth of columns of one parity (Step 2), or of all
  std::int64_t lead;   // columns before the first window, whole registers
  std::int64_t pitch;
  std::int64_t held;        // rows
  std::int64_t windows[3];  // window(j)
  T* dy = nullptr;
  Int* taps = nullptr;

  explicit GatherRows(const PoolShape& s) : w(s.w) {
    lanes = ((w.inputs + Step - 1) / Step + W - 1) / W * W;
    lead = ((w.kernel - 1) / Step + W) / W * W;
    pitch = lead + (larger(lanes + (w.padding + 1) / Step, w.outputs) + W - 1) / W * W;
    held = rows_held(2 * pitch * static_cast<std::int64_t>(sizeof(T)), (s.h.kernel - 1) / s.h.stride + 1);
    for (int j = 0; j < 3; ++j) windows[j] = window(j);
  }
  void place() {
    dy = static_cast<T*>(scratch());
    taps = reinterpret_cast<Int*>(dy + held * pitch);
    std::memset(taps, -1, static_cast<std::size_t>(held * pitch) * sizeof(Int));
  }
  template <class Index>
  TS_INLINE void copy(const S* from, const Index* index, std::int64_t row) const {
    const std::int64_t at = row * pitch + lead;
    T* const to = dy + at;
    Int* const where = taps + at;
    cover<T>(w.outputs, [&](std::int64_t q, auto count) {
      store_lanes(load_lanes(from + q, count), to + q, count);
      store_lanes(Vec<Int>(IndexLanes<T, Index>::load(index + q, count)), where + q, count);
    });
  }
  // The window whose tap j is column Step u + e, counted from window u; e is the parity of j + padding.
  TS_INLINE std::int64_t window(std::int64_t j) const {
    return Step == 1 ? w.padding - j : (((j + w.padding) & 1) + w.padding - j) / 2;
  }
  TS_INLINE static void add(Vec<T>& sum, const T* dy, const Int* taps, Int tap) {
    const Vec<T> share = Vec<T>::load(dy);
    const Vec<Int> chosen = Vec<Int>::load(taps);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
      sum = Vec<T>(_mm512_mask_add_ps(
          sum.r, _mm512_cmpeq_epi32_mask(__m512i(chosen.r), _mm512_set1_epi32(tap)), sum.r, share.r));
    else
      sum = Vec<T>(_mm512_mask_add_pd(
          sum.r, _mm512_cmpeq_epi64_mask(__m512i(chosen.r), _mm512_set1_epi64(tap)), sum.r, share.r));
#else
    const auto here = chosen.r == typename Vec<Int>::Reg{} + tap;
    sum = sum + Vec<T>(here ? share.r : typename Vec<T>::Reg{});
#endif
  }
  // A row of inputs: it is in the windows of `count` rows from row `row` on, the first of its taps in them is
  // `tap`, `tap` - `step` and so on. Kernel 0: any.
  template <int Kernel, class Count>
  TS_INLINE void gather(S* dx, std::int64_t row, Count count, Int tap, Int step) const {
    const std::int64_t kernel = Kernel ? Kernel : w.kernel, n = w.inputs, next = pitch;
    const std::int64_t odd = w.padding & 1;  // even taps are odd columns
    const T* const from = dy + row * pitch + lead;
    const Int* const where = taps + row * pitch + lead;
    const std::int64_t known[3] = {windows[0], windows[1], windows[2]};
    const GatherRows r = *this;
    // The sums of columns u and on (Step 2: columns 2 u + e), of the taps first, first - Step, ...
    const auto sum_of = [&](std::int64_t u, std::int64_t first) {
      Vec<T> sum(T(0));
      repeat(count, [&](std::int64_t k) {
        const std::int64_t at = u + k * next;
        const Int of = static_cast<Int>(tap - static_cast<Int>(k) * step);
#pragma GCC unroll 3
        for (std::int64_t j = first; j >= 0; j -= Step) {
          const std::int64_t window_at = at + (Kernel ? known[j] : r.window(j));
          add(sum, from + window_at, where + window_at, static_cast<Int>(of + j));
        }
      });
      return sum;
    };
    if constexpr (Step == 1) {
      cover<T>(n, [&](std::int64_t u, auto part) { store_lanes(sum_of(u, kernel - 1), dx + u, part); });
    } else {
      const std::int64_t even_tap = (kernel - 1) & ~std::int64_t{1}, odd_tap = kernel - 1 - (kernel & 1);
      for (std::int64_t u = 0; 2 * u < n; u += W) {
        const Vec<T> a = sum_of(u, even_tap), b = sum_of(u, odd_tap);
        const Pairs<S> pairs = odd ? Pairs<S>{b, a} : Pairs<S>{a, b};
        pairs.rounded().store(dx + 2 * u, smaller(n - 2 * u, 2 * W));
      }
    }
  }
};

// False: not for these windows.
template <int Step, class S, class Index>
bool gather_rows(const PoolShape& s, const Plane<const S>& dy, const Plane<const Index>& index,
                 const Plane<S>& dx) {
  using Rows = GatherRows<S, Step>;
  using Int = typename Rows::Int;
  constexpr std::int64_t kPiece = std::int64_t{1} << 16;  // inputs of one piece, about
  const Rows layout(s);
  if (layout.held == 0) return false;
  const PoolAxis& h = s.h;
  const Int step = static_cast<Int>(h.stride * s.w.kernel);
  const std::int64_t dx_pitch = dx.h, kernel = s.w.kernel;
  // As many rows of inputs as have their windows in scratch.
  const std::int64_t most = larger((layout.held - 1) * h.stride - h.kernel + 2, std::int64_t{1});
  const std::int64_t grain = larger(most, 1 + kPiece / s.w.inputs);
  parallel_ranges(s.N * s.C * h.inputs, grain, [&](std::int64_t begin, std::int64_t end) {
    Rows rows = layout;
    rows.place();
    each_strip(begin, end, h.inputs, most, [&](std::int64_t plane, std::int64_t h0, std::int64_t h1) {
      const std::int64_t n = plane / s.C, c = plane % s.C, base = h.first_window(h0);
      for (std::int64_t p = base, last = h.end_window(h1 - 1); p < last; ++p)
        rows.copy(dy.at(n, c, p, 0), index.at(n, c, p, 0), p - base);
      std::int64_t p0 = base, p1 = base;  // the windows that hold row `row`
      S* to = dx.at(n, c, h0, 0);
      for (std::int64_t row = h0; row < h1; ++row, to += dx_pitch) {
        while (h.start(p0) + h.kernel <= row) ++p0;
        while (p1 < h.outputs && h.start(p1) <= row) ++p1;
        const Int tap = static_cast<Int>((row - h.start(p0)) * kernel);
        if (kernel != 3)
          rows.template gather<0>(to, p0 - base, p1 - p0, tap, step);
        else if (p1 - p0 == 1)
          rows.template gather<3>(to, p0 - base, Known<1>{}, tap, step);
        else if (p1 - p0 == 2)
          rows.template gather<3>(to, p0 - base, Known<2>{}, tap, step);
        else if (p1 - p0 == 3)
          rows.template gather<3>(to, p0 - base, Known<3>{}, tap, step);
        else
          rows.template gather<0>(to, p0 - base, p1 - p0, tap, step);
      }
    });
  });
  return true;
}
template <class S>
bool max_pool_backward_rows(const PoolShape& s, const Plane<const S>& dy,
                            const Plane<const std::uint8_t>& index, const Plane<S>& dx) {
  // Beyond, a window finds its input sooner than an input tells its windows' taps apart.
  constexpr std::int64_t kMost = 9 * Vec<Computed<S>>::width / 4;
  const bool few = s.h.kernel * s.w.kernel <= kMost;
  if (dy.w != 1 || index.w != 1 || dx.w != 1 || s.h.dilation != 1 || s.w.dilation != 1 || !few ||
      s.h.outputs == 0 || s.w.outputs == 0)
    return false;
  if constexpr (kMost >= 9) {  // not where a register is two float64
    if (s.w.stride == 1) return gather_rows<1>(s, dy, index, dx);
    if (s.w.stride == 2) return gather_rows<2>(s, dy, index, dx);
  }
  return false;
}

}  // namespace ts::cpu::TS_ISA
