// Gradients of maxima of rows (pool_rows.h), overlapping or not: each lane is an input.
//
// Rows of dy and of winning taps lie in scratch between columns that no tap names. An input adds dy of its
// windows, or 0 where they chose another tap: a sum that began with +0 is never -0, so +0 changes none.
#pragma once

#include <utility>

#include "cpu/pool_rows.h"

namespace ts::cpu::TS_ISA {

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
    pitch = lead + (most(lanes + (w.padding + 1) / Step, w.outputs) + W - 1) / W * W;
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
        pairs.rounded().store(dx + 2 * u, least(n - 2 * u, 2 * W));
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
  const std::int64_t strip = most((layout.held - 1) * h.stride - h.kernel + 2, std::int64_t{1});
  const std::int64_t grain = most(strip, 1 + kPiece / s.w.inputs);
  parallel_ranges(s.N * s.C * h.inputs, grain, [&](std::int64_t begin, std::int64_t end) {
    Rows rows = layout;
    rows.place();
    each_strip(begin, end, h.inputs, strip, [&](std::int64_t plane, std::int64_t h0, std::int64_t h1) {
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
