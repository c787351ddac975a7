// Indexing element by element along one axis: gather, scatter, scatter_add.
//
// index has y's shape in gather and x's in scatter; the indexed operand has the same rank and its own
// extents. Elements move by their size alone. In scatter all elements that may meet in one destination
// share their position off the axis: a piece takes whole such lines, each in ascending order.
#include "cpu/grouped_rows.h"
#include "cpu/index.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements of a piece

// Reads the indices and x's elements once, writes y once.
template <class T>
void gather_typed(In x, In index, Out y, int axis) {
  const int ndim = y.ndim;
  std::int64_t xs[kMaxRank];  // x's strides; where x is along the axis comes from the index
  for (int d = 0; d < ndim; ++d) xs[d] = d == axis ? 0 : x.strides[d];
  const std::int64_t along = x.strides[axis];
  parallel_ranges(y.size(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    Odometer<3> walk(y.shape, {xs, index.strides, y.strides}, ndim, begin);
    const std::int64_t sx = walk.inner_stride(0), si = walk.inner_stride(1), sy = walk.inner_stride(2);
    for (std::int64_t left = end - begin; left > 0;) {
      const std::int64_t run = walk.run(left);
      const T* const from = x.as<T>() + walk.offset(0);
      const std::int64_t* const at = index.as<std::int64_t>() + walk.offset(1);
      T* const to = y.as<T>() + walk.offset(2);
      if (si == 0 && sx == 1 && sy == 1) {  // rows: one index for all of the run
        copy_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(from + *at * along),
                   run * static_cast<std::int64_t>(sizeof(T)));
      } else if (sx == 0 && si == 1 && sy == 1 && along == 1) {  // along a contiguous last axis
        take_elements(from, x.shape[axis], 1, at, 1, to, 1, run);
      } else {
        for (std::int64_t i = 0; i < run; ++i) to[i * sy] = from[i * sx + at[i * si] * along];
      }
      walk.advance(run);
      left -= run;
    }
  });
}

// y[..index[..i..]..] = op(itself, x[..i..]), x stored as S. Reads the indices and x once, writes y at each.
template <class T, class S = T, class Op>
void scatter_typed(In index, In x, Out y, int axis, const Op& op) {
  std::int64_t shape[kMaxRank], is[kMaxRank], xs[kMaxRank], ys[kMaxRank];  // the axes other than `axis`
  std::int64_t lines = 1;
  int ndim = 0;
  for (int d = 0; d < index.ndim; ++d) {
    if (d == axis) continue;
    shape[ndim] = index.shape[d];
    is[ndim] = index.strides[d], xs[ndim] = x.strides[d], ys[ndim] = y.strides[d];
    lines *= shape[ndim++];
  }
  const std::int64_t length = index.shape[axis];
  const std::int64_t ai = index.strides[axis], ax = x.strides[axis], ay = y.strides[axis];
  if (!lines || !length) return;
  if (ndim == 1 && is[0] == 0 && xs[0] == 1 && ys[0] == 1 &&
      combine_grouped(index.as<std::int64_t>(), ai, length, x.as<S>(), ax, y.as<T>(), ay, y.shape[axis],
                      lines, op))
    return;
  const bool last_axis = axis == index.ndim - 1;
  // Across lines at least 128 bytes of neighbours.
  constexpr std::int64_t kNeighbours = 128 / sizeof(T);
  std::int64_t grain = kGrain / length + 1;
  if (!last_axis && grain < kNeighbours) grain = kNeighbours;
  parallel_ranges(lines, grain, [&](std::int64_t begin, std::int64_t end) {
    Odometer<3> walk(shape, {is, xs, ys}, ndim, begin);
    const std::int64_t si = walk.inner_stride(0), sx = walk.inner_stride(1), sy = walk.inner_stride(2);
    for (std::int64_t left = end - begin; left > 0;) {
      const std::int64_t run = walk.run(left);
      const std::int64_t* const at = index.as<std::int64_t>() + walk.offset(0);
      const S* const from = x.as<S>() + walk.offset(1);
      T* const to = y.as<T>() + walk.offset(2);
      const auto step = [&](std::int64_t line, std::int64_t i) {
        T& target = to[line * sy + at[line * si + i * ai] * ay];
        target = op(target, T(from[line * sx + i * ax]));
      };
      if (!last_axis && si == 0) {  // rows: one index for all of the run
        const std::int64_t bytes = run * static_cast<std::int64_t>(sizeof(T));
        for (std::int64_t i = 0; i < length; ++i) {
          if (i + kAhead < length) prefetch(to + at[(i + kAhead) * ai] * ay, bytes, true);
          combine_row(to + at[i * ai] * ay, sy, from + i * ax, sx, run, op);
        }
      } else if (last_axis) {
        for (std::int64_t line = 0; line < run; ++line)
          combine_elements(to + line * sy, ay, at + line * si, ai, from + line * sx, ax, length, op);
      } else {
        for (std::int64_t i = 0; i < length; ++i)
          for (std::int64_t line = 0; line < run; ++line) step(line, i);
      }
      walk.advance(run);
      left -= run;
    }
  });
}

template <class T>
struct Product {
  static constexpr bool kVector = !std::is_same_v<T, bool>;
  TS_INLINE T operator()(T a, T b) const { return static_cast<T>(a * b); }
  TS_INLINE Vec<T> operator()(Vec<T> a, Vec<T> b) const { return a * b; }
};
template <class T, bool kLargest>
struct Extreme {
  static constexpr bool kVector = !std::is_same_v<T, bool>;
  TS_INLINE T operator()(T a, T b) const { return (b != b || (kLargest ? b > a : b < a)) ? b : a; }
  TS_INLINE Vec<T> operator()(Vec<T> a, Vec<T> b) const {
    return select((b != b) | (kLargest ? b > a : b < a), b, a);
  }
};

}  // namespace

void scatter_reduce(In index, In x, Out y, int axis, Combine combine) {
  with_wide_any(y.dtype, [&]<class T>(Type<T>) {
    switch (combine) {
      case Combine::product:
        return scatter_typed<Summand<T>>(index, x, y, axis, Product<Summand<T>>{});
      case Combine::maximum:
        return scatter_typed<T>(index, x, y, axis, Extreme<T, true>{});
      default:
        return scatter_typed<T>(index, x, y, axis, Extreme<T, false>{});
    }
  });
}

void gather(In x, In index, Out y, int axis) {
  with_size(y.dtype, [&]<class T>(Type<T>) { gather_typed<T>(x, index, y, axis); });
}

void scatter(In index, In x, Out y, int axis) {
  with_size(y.dtype, [&]<class T>(Type<T>) { scatter_typed<T>(index, x, y, axis, Replace<T>{}); });
}

void scatter_add(In index, In x, Out y, int axis) {
  if (is_half(x.dtype))
    return with_stored(x.dtype, [&]<class S>(Type<S>) {
      if constexpr (is_half_type<S>) scatter_typed<float, S>(index, x, y, axis, Plus<float>{});
    });
  with_any(y.dtype,
           [&]<class T>(Type<T>) { scatter_typed<Summand<T>>(index, x, y, axis, Plus<Summand<T>>{}); });
}

}  // namespace ts::cpu::TS_ISA
