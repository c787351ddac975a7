// Where the elements of a reduction lie: kept axes and reduced axes of any strides, coalesced; no allocation.
#pragma once

#include <cstring>

#include "core/view.h"
#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

constexpr int kMaxRank = 64;

// Up to two inputs that share a shape, and outputs that share the kept axes. Strides in elements.
struct Axes {
  int kept = 0, reduced = 0;
  std::int64_t outputs = 1, length = 1;  // products of the extents; length is K
  std::int64_t kept_shape[kMaxRank], kept_x[kMaxRank], kept_x2[kMaxRank], kept_y[kMaxRank];
  std::int64_t shape[kMaxRank], x[kMaxRank], x2[kMaxRank];

  // The last axis, which the vector runs along or the odometer spins on.
  TS_INLINE std::int64_t inner_kept_x() const { return kept ? kept_x[kept - 1] : 0; }
  TS_INLINE std::int64_t inner_x() const { return reduced ? x[reduced - 1] : 1; }
};

// The kept axes in an order that walks x as memory lies (their order does not change any result), the reduced
// axes in theirs (it is the order of addition, and what argmax counts along); adjacent axes are merged.
TS_OUTLINE void find_axes(const View& x, const View* x2, const View& y, int reduced, Axes& a) {
  const int kept = x.ndim - reduced;
  int order[kMaxRank];
  int n = 0;
  const auto size_of = [](std::int64_t stride) { return stride < 0 ? -stride : stride; };
  for (int i = 0; i < kept; ++i) {
    a.outputs *= x.shape[i];
    if (x.shape[i] == 1) continue;
    int at = n++;
    for (; at > 0 && size_of(x.strides[order[at - 1]]) < size_of(x.strides[i]); --at)
      order[at] = order[at - 1];
    order[at] = i;
  }
  for (int q = 0; q < n; ++q) {
    const int i = order[q];
    const std::int64_t extent = x.shape[i], sx = x.strides[i], sx2 = x2 ? x2->strides[i] : sx,
                       sy = y.strides[i];
    if (a.kept > 0) {
      const int last = a.kept - 1;
      if (a.kept_x[last] == sx * extent && a.kept_x2[last] == sx2 * extent && a.kept_y[last] == sy * extent) {
        a.kept_shape[last] *= extent;
        a.kept_x[last] = sx, a.kept_x2[last] = sx2, a.kept_y[last] = sy;
        continue;
      }
    }
    a.kept_shape[a.kept] = extent;
    a.kept_x[a.kept] = sx, a.kept_x2[a.kept] = sx2, a.kept_y[a.kept] = sy;
    ++a.kept;
  }
  for (int i = kept; i < x.ndim; ++i) {
    const std::int64_t extent = x.shape[i], sx = x.strides[i], sx2 = x2 ? x2->strides[i] : sx;
    a.length *= extent;
    if (extent == 1) continue;
    if (a.reduced > 0) {
      const int last = a.reduced - 1;
      if (a.x[last] == sx * extent && a.x2[last] == sx2 * extent) {
        a.shape[last] *= extent;
        a.x[last] = sx, a.x2[last] = sx2;
        continue;
      }
    }
    a.shape[a.reduced] = extent;
    a.x[a.reduced] = sx, a.x2[a.reduced] = sx2;
    ++a.reduced;
  }
}

struct Offsets {
  std::int64_t x = 0, x2 = 0, y = 0;
};
// Of the `index`-th output, counting only the first `axes` kept axes.
inline Offsets output_offsets(const Axes& a, std::int64_t index, int axes) {
  Offsets at;
  for (int i = axes - 1; i >= 0; --i) {
    std::int64_t c = index;  // the outermost needs no division
    if (i > 0) c = index % a.kept_shape[i], index /= a.kept_shape[i];
    at.x += c * a.kept_x[i], at.x2 += c * a.kept_x2[i], at.y += c * a.kept_y[i];
  }
  return at;
}

// Walks the reduced axes of one input run by run: a run is what is left of the innermost axis.
struct Runs {
  const Axes& a;
  const std::int64_t* strides;
  std::int64_t at[kMaxRank], offset = 0;

  Runs(const Axes& axes, const std::int64_t* s, std::int64_t begin) : a(axes), strides(s) {
    for (int i = a.reduced - 1; i >= 0; --i) {
      at[i] = begin % a.shape[i];
      begin /= a.shape[i];
      offset += at[i] * strides[i];
    }
  }
  // The longest run from here, at most `most`; then step over it with advance().
  TS_INLINE std::int64_t run(std::int64_t most) const {
    if (a.reduced == 0) return 1;
    const std::int64_t left = a.shape[a.reduced - 1] - at[a.reduced - 1];
    return left < most ? left : most;
  }
  TS_INLINE void advance(std::int64_t run) {
    int i = a.reduced - 1;
    if (i < 0) return;
    at[i] += run;
    offset += run * strides[i];
    while (i > 0 && at[i] == a.shape[i]) {
      offset -= at[i] * strides[i];
      at[i] = 0;
      --i;
      ++at[i];
      offset += strides[i];
    }
  }
};

// Every second element, by registers, two for one; most of these cross from line to line, so they are asked
// for ahead.
template <class T, class U, class Load>
TS_INLINE void gather_pairs(const T* p, std::int64_t n, U* buffer, const Load& load) {
  constexpr std::int64_t kBlock = 64, kLine = 64 / static_cast<std::int64_t>(sizeof(T)), kAhead = 32 * kLine;
  std::int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    for (std::int64_t k = 0; k < 2 * kBlock; k += kLine) __builtin_prefetch(p + 2 * i + kAhead + k);
    for (std::int64_t k = 0; k < kBlock; ++k) buffer[i + k] = load(p[2 * (i + k)]);
  }
  for (; i < n; ++i) buffer[i] = load(p[2 * i]);
}

// Elements [begin, begin + n) of one output's reduction, side by side: where they lie, or copied into
// `buffer`.
template <class T, class U, class Load>
TS_OUTLINE void gather(const Axes& a, const std::int64_t* strides, const T* base, std::int64_t begin,
                       std::int64_t n, U* buffer, const Load& load) {
  Runs runs(a, strides, begin);
  const std::int64_t step = a.reduced ? strides[a.reduced - 1] : 1;
  while (n > 0) {
    const std::int64_t run = runs.run(n);
    const T* p = base + runs.offset;
    if (step == 1)
      for (std::int64_t i = 0; i < run; ++i) buffer[i] = load(p[i]);
    else if (step == 2)
      gather_pairs(p, run, buffer, load);
    else
      for (std::int64_t i = 0; i < run; ++i) buffer[i] = load(p[i * step]);
    runs.advance(run);
    buffer += run;
    n -= run;
  }
}
template <class T>
TS_INLINE const T* elements(const Axes& a, const std::int64_t* strides, const T* base, std::int64_t begin,
                            std::int64_t n, T* buffer) {
  if (a.reduced == 0) return base;
  if (a.reduced == 1 && strides[0] == 1) return base + begin;
  gather(a, strides, base, begin, n, buffer, [](T v) { return v; });
  return buffer;
}

}  // namespace ts::cpu::TS_ISA
