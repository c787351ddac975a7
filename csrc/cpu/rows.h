// Kernels over rows: R rows of C elements, the last stride 1. A row is work for one thread, or, when it is
// long, for all of them; its result is the same either way and does not depend on R. Rows may be stored as
// halves, S, and are computed as T = Computed<S>: the bits of widening, computing, rounding once.
#pragma once

#include <cmath>

#include "core/view.h"
#include "cpu/half.h"
#include "cpu/parallel.h"
#include "cpu/reduce.h"
#include "cpu/stream.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kRowGrain = 1 << 14;  // elements of a piece: 5 to 20 us

// A 2-D view whose last stride is 1.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;
  explicit Rows(const View& v) : data(static_cast<T*>(v.data)), stride(v.strides[0]) {}
  TS_INLINE T* operator[](std::int64_t r) const { return data + r * stride; }
};

// A 1-D view with any stride.
template <class T>
struct Line {
  T* data;
  std::int64_t stride;
  explicit Line(const View& v) : data(static_cast<T*>(v.data)), stride(v.data ? v.strides[0] : 0) {}
  TS_INLINE T& operator[](std::int64_t i) const { return data[i * stride]; }
  explicit operator bool() const { return data != nullptr; }
};

// Whether rows of results go past the caches, which then do not read them first: large ones, of whole lines.
template <class T>
bool streams_rows(const View& y) {
  constexpr std::int64_t kItem = sizeof(T);
  return !is_half_type<T> && y.shape[0] * y.shape[1] * kItem >= 4 * kStreamBytes &&
         y.shape[1] < 2 * kChunk<T> && at_line(y.data) && y.strides[0] * kItem % kLine == 0;
}
template <bool kStreams, class S, class Part>
TS_INLINE void put_row(S* p, Vec<Computed<S>> v, Part part) {
  if constexpr (kStreams && std::is_same_v<Part, All> && !is_half_type<S>)
    stream_lanes(p, v);
  else
    put(p, v, part);
}

// Calls row(threads, r) for every row; `threads` is OneThread or AllThreads.
template <class T, class Row>
void for_rows(std::int64_t rows, std::int64_t columns, const Row& row) {
  if (columns >= 2 * kChunk<T>) {
    for (std::int64_t r = 0; r < rows; ++r) row(AllThreads{}, r);
    return;
  }
  const std::int64_t grain = columns >= kRowGrain ? 1 : kRowGrain / (columns + 8);
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) row(OneThread{}, r);
  });
}

// Rows whose results go past the caches. Work on one alone would leave memory idle, and its stores would then
// wait for each other: so the results of a row are made while the next one is worked on.
//   now = work(r, beside)   calls beside(i, part) once for every register of a row, wherever it likes
//   result(before, i, part) stores a register of an earlier row's results
template <class T, class Work, class Result>
void stream_rows(std::int64_t rows, std::int64_t columns, const Work& work, const Result& result) {
  const std::int64_t grain = columns >= kRowGrain ? 4 : 4 * (kRowGrain / (columns + 8) + 1);
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    auto before = work(begin, [](std::int64_t, auto) {});
    for (std::int64_t r = begin + 1; r < end; ++r)
      before = work(r, [&](std::int64_t i, auto part) { result(before, i, part); });
    each<T>(0, columns, [&](std::int64_t i, auto part) { result(before, i, part); });
    _mm_sfence();
  });
}

// Calls rows(threads, first, count) for groups of at most a register's width of rows, for work that is done
// once for all of them (a logarithm each); a group of rows stays in cache.
template <class T, class Body>
void for_row_groups(std::int64_t rows, std::int64_t columns, const Body& body) {
  constexpr std::int64_t kGroupBytes = 1 << 15;
  constexpr int W = Vec<T>::width;
  if (columns >= 2 * kChunk<T>) {
    for (std::int64_t r = 0; r < rows; ++r) body(AllThreads{}, r, 1);
    return;
  }
  std::int64_t most = kGroupBytes / static_cast<std::int64_t>(sizeof(T)) / (columns + 1) + 1;
  if (most > W) most = W;
  const std::int64_t grain = columns >= kRowGrain ? 1 : (kRowGrain / (columns + 8) + most - 1) / most * most;
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r += most)
      body(OneThread{}, r, static_cast<int>(end - r < most ? end - r : most));
  });
}

// The hardware's maximum: the second operand where either is NaN.
struct Larger {
  template <class T>
  static constexpr T identity = -std::numeric_limits<T>::infinity();
  template <class T>
  TS_INLINE static T apply(T a, T b) {
    return a > b ? a : b;
  }
  template <class T>
  TS_INLINE static Vec<T> apply(Vec<T> a, Vec<T> b) {
    return max(a, b);
  }
};

// The largest of a row; NaN may or may not be seen (who takes exponentials of what remains will see it).
template <class S, class Threads>
TS_INLINE auto row_max(const Threads& threads, const S* x, std::int64_t n) {
  using T = Computed<S>;
  T result;
  threads.template reduce<Larger, T, 1>(
      n,
      [&](Vec<T>* s, std::int64_t i, auto part) {
        s[0] = max(only(get(x + i, part), Vec<T>(Larger::template identity<T>), part), s[0]);
      },
      &result);
  return result;
}

// Sum over i of term(i, part), a register at a time; lanes beyond the row must be 0.
template <class T, class Threads, class Terms>
TS_INLINE T row_sum(const Threads& threads, std::int64_t n, const Terms& term) {
  T result;
  threads.template reduce<Add, T, 1>(
      n, [&](Vec<T>* s, std::int64_t i, auto part) { s[0] = s[0] + term(i, part); }, &result);
  return result;
}

// Sum over i of a(i) b(i), fused.
template <class T, class Threads, class Factors>
TS_INLINE T row_dot(const Threads& threads, std::int64_t n, const Factors& factors) {
  T result;
  threads.template reduce<Add, T, 1>(
      n,
      [&](Vec<T>* s, std::int64_t i, auto part) {
        Vec<T> a, b;
        factors(i, part, a, b);
        s[0] = fma(a, b, s[0]);
      },
      &result);
  return result;
}

// Mean and 1 / sqrt(variance + eps) of a row, the variance in a second pass. Without kCentred the mean is 0.
template <bool kCentred, class S, class Threads, class T>
TS_INLINE void row_moments(const Threads& threads, const S* x, std::int64_t n, double eps, T* mean, T* rstd) {
  *mean = 0;
  if constexpr (kCentred)
    *mean = row_sum<T>(threads, n, [&](std::int64_t i, auto part) { return get(x + i, part); }) /
            static_cast<T>(n);
  const Vec<T> m(*mean), none(T(0));
  const T variance = row_dot<T>(threads, n,
                                [&](std::int64_t i, auto part, Vec<T>& p, Vec<T>& q) {
                                  p = q = only(get(x + i, part) - m, none, part);
                                }) /
                     static_cast<T>(n);
  *rstd = T(1) / std::sqrt(variance + static_cast<T>(eps));
}

}  // namespace ts::cpu::TS_ISA
