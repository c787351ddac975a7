// Any reduction by one tree over any axes.
//
// The tree depends on K, the number of elements, and on nothing else. In a chunk of 4096 thread t of 32 has
// the elements p with p / 4 % 32 = t, in four sums by p % 4, each in ascending order; sums 0 and 2, 1 and 3,
// then the two are merged, and threads fold by halves (t and t + 16, then + 8, ...). Chunks' results are
// merged by 32 threads, or beyond 1024 of them by 1024, which take every 32nd (1024th) and fold likewise.
// Along rows the threads are a warp's lanes, and four elements one or two 16-byte loads; across columns they
// are rows of a block and the fold goes through shared memory: the same additions, so the same bits. Reads x
// once.
//
// A Term says what is added up:
//   using Value (of the inputs), Sum, Result;
//   start(out)            the empty sum of the output at offset `out`, and what else its steps need
//   step(sum, a, b, p)    takes element p in; b is the second input's, if the term has kPair, else a
//   merge(sum, later)     joins the sum of elements that come later; an empty sum changes no bit
//   finish(sum, out)      writes the output at offset `out`
#pragma once

#include "core/view.h"
#include "cuda/divider.h"
#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kReduceDims = 8;
constexpr int kReduceChunk = 4096, kReduceWays = 4;  // elements; sums of a thread
constexpr int kReduceStep = kReduceWays * kWarp;
constexpr std::int64_t kManyPartials = 1024;

// The axes after sorting and joining, innermost first; kept ones carry y's strides too.
struct ReduceAxes {
  std::int64_t kept_size[kReduceDims], kept_x[kReduceDims], kept_x2[kReduceDims], kept_y[kReduceDims];
  std::int64_t size[kReduceDims], x[kReduceDims], x2[kReduceDims];
  Divider kept_divider[kReduceDims], divider[kReduceDims];
  std::int64_t outputs, length;
  std::int32_t kept, reduced;
  bool small;  // outputs and length are below 2^31: places by the dividers
  bool quads;  // four elements from a multiple of 4 on are neighbours, aligned if their row is
};
// NotImplementedError where more than kReduceDims axes remain.
ReduceAxes reduce_axes(const char* kernel, const View& x, const View* x2, const View& y, int reduced);

struct ReduceOffsets {
  std::int64_t x, x2, y;
};
TS_INLINE ReduceOffsets output_offsets(const ReduceAxes& a, std::int64_t output) {
  ReduceOffsets at{0, 0, 0};
#pragma unroll 1
  for (int d = 0; d < a.kept; ++d) {
    std::int64_t q = 0;
    if (d + 1 < a.kept)
      q = a.small ? std::int64_t{a.kept_divider[d].quotient(static_cast<std::uint32_t>(output))}
                  : output / a.kept_size[d];
    const std::int64_t i = output - q * a.kept_size[d];
    at.x += i * a.kept_x[d], at.x2 += i * a.kept_x2[d], at.y += i * a.kept_y[d];
    output = q;
  }
  return at;
}
TS_INLINE ReduceOffsets element_offsets(const ReduceAxes& a, std::int64_t p) {
  ReduceOffsets at{0, 0, 0};
#pragma unroll 1
  for (int d = 0; d < a.reduced; ++d) {
    std::int64_t q = 0;
    if (d + 1 < a.reduced)
      q = a.small ? std::int64_t{a.divider[d].quotient(static_cast<std::uint32_t>(p))} : p / a.size[d];
    const std::int64_t i = p - q * a.size[d];
    at.x += i * a.x[d], at.x2 += i * a.x2[d];
    p = q;
  }
  return at;
}

template <class Term>
constexpr bool reduces_pairs() {
  if constexpr (requires { Term::kPair; })
    return Term::kPair;
  else
    return false;
}

template <class T>
struct alignas(sizeof(T) * 4 <= 16 ? sizeof(T) * 4 : 16) Quad {
  T value[4];
};
// Aligned for a load of a quad, whose rows of 16 bytes are loaded one by one.
template <class T>
TS_INLINE bool quad_aligned(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % alignof(Quad<T>) == 0;
}

template <class Term>
struct ReduceInput {
  using Value = typename Term::Value;
  static constexpr bool kPair = reduces_pairs<Term>();
  const Value *x, *x2;

  // Four elements of each input.
  struct Elements {
    Quad<Value> a, b;
  };
  TS_INLINE void load_quad(Elements& e, ReduceOffsets at) const {
    e.a = *reinterpret_cast<const Quad<Value>*>(x + at.x);
    if constexpr (kPair) e.b = *reinterpret_cast<const Quad<Value>*>(x2 + at.x2);
  }
  TS_INLINE void load_one(Elements& e, int i, ReduceOffsets at) const {
    e.a.value[i] = x[at.x];
    if constexpr (kPair) e.b.value[i] = x2[at.x2];
  }
  TS_INLINE static void step(const Term& term, typename Term::Sum& sum, const Elements& e, int i,
                             std::int64_t p) {
    term.step(sum, e.a.value[i], kPair ? e.b.value[i] : e.a.value[i], p);
  }
};

// Elements [first, first + n) of the output at `base`, of which this is thread `t` of those that fold.
template <class Term>
TS_INLINE typename Term::Sum reduce_chunk(const ReduceAxes& a, const ReduceInput<Term>& in, const Term& term,
                                          ReduceOffsets base, std::int64_t first, int n, int t) {
  using Input = ReduceInput<Term>;
  using Elements = typename Input::Elements;
  constexpr bool kNarrow = sizeof(typename Term::Value) <= 4;
  typename Term::Sum sum[kReduceWays];
#pragma unroll
  for (int i = 0; i < kReduceWays; ++i) sum[i] = term.start(base.y);
  int q = kReduceWays * t;
  // Fours by load(elements, q), kAhead of them on their way before the first is used.
  const auto run = [&]<int kAhead>(std::integral_constant<int, kAhead>, auto load) {
    const auto take = [&](const Elements& e, int at) {
#pragma unroll
      for (int i = 0; i < kReduceWays; ++i) Input::step(term, sum[i], e, i, first + at + i);
    };
    if constexpr (kAhead > 1) {
      for (; q + (kAhead - 1) * kReduceStep + kReduceWays <= n; q += kAhead * kReduceStep) {
        Elements e[kAhead];
#pragma unroll
        for (int u = 0; u < kAhead; ++u) load(e[u], q + u * kReduceStep);
#pragma unroll
        for (int u = 0; u < kAhead; ++u) take(e[u], q + u * kReduceStep);
      }
    }
#pragma unroll 1
    for (; q + kReduceWays <= n; q += kReduceStep) {
      Elements e;
      load(e, q);
      take(e, q);
    }
  };
  bool quads = a.quads && quad_aligned(in.x + base.x);
  if constexpr (Input::kPair) quads &= quad_aligned(in.x2 + base.x2);
  const std::int64_t row = a.x[0], row2 = a.x2[0];
  const ReduceOffsets start{base.x + first * row, base.x2 + first * row2, 0};
  if (a.reduced == 1 && quads) {
    run(std::integral_constant < int, kNarrow ? 4 : 2 > {},
        [&](Elements& e, int p) { in.load_quad(e, {start.x + p, start.x2 + p, 0}); });
  } else if (a.reduced == 1) {  // neighbouring threads on neighbouring columns, or strides
    run(std::integral_constant < int, kNarrow ? 4 : 2 > {}, [&](Elements& e, int p) {
#pragma unroll
      for (int i = 0; i < kReduceWays; ++i)
        in.load_one(e, i, {start.x + (p + i) * row, start.x2 + (p + i) * row2, 0});
    });
  } else {
    run(std::integral_constant<int, 1>{}, [&](Elements& e, int p) {
      const auto place = [&](int i) {
        const ReduceOffsets at = element_offsets(a, first + p + i);
        return ReduceOffsets{base.x + at.x, base.x2 + at.x2, 0};
      };
      if (quads) return in.load_quad(e, place(0));
      for (int i = 0; i < kReduceWays; ++i) in.load_one(e, i, place(i));
    });
  }
#pragma unroll
  for (int i = 0; i < kReduceWays - 1; ++i)  // what is left of the last four
    if (q + i < n) {
      const ReduceOffsets at = element_offsets(a, first + q + i);
      Elements e;
      in.load_one(e, i, {base.x + at.x, base.x2 + at.x2, 0});
      Input::step(term, sum[i], e, i, first + q + i);
    }
  term.merge(sum[0], sum[2]);
  term.merge(sum[1], sum[3]);
  term.merge(sum[0], sum[1]);
  return sum[0];
}

template <class Term>
TS_INLINE void fold_lanes(const Term& term, typename Term::Sum& sum, int t, int team) {
  for (int step = team / 2; step > 0; step /= 2) {
    const typename Term::Sum other = shuffle_down(sum, step);
    if (t < step) term.merge(sum, other);
  }
}

// `team` lanes an output and chunk, a power of two: those that have elements.
template <class Term>
__global__ void __launch_bounds__(256)
    reduce_along(const ReduceAxes a, const ReduceInput<Term> in, const Term term,
                 typename Term::Sum* partials, std::int64_t chunks, int team_bits) {
  const int team = 1 << team_bits, t = static_cast<int>(threadIdx.x) & (team - 1);
  const std::int64_t unit = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) >> team_bits;
  const bool inside = unit < a.outputs * chunks;  // all lanes are needed to fold
  const std::int64_t output = !inside ? 0 : chunks == 1 ? unit : unit / chunks;
  const std::int64_t first = inside ? (unit - output * chunks) * kReduceChunk : 0, rest = a.length - first;
  const int n = !inside ? 0 : rest < kReduceChunk ? static_cast<int>(rest) : kReduceChunk;
  const ReduceOffsets base = output_offsets(a, output);
  typename Term::Sum sum = reduce_chunk(a, in, term, base, first, n, t);
  fold_lanes(term, sum, t, team);
  if (t != 0 || !inside) return;
  if (partials)
    partials[unit] = sum;
  else
    term.finish(sum, base.y);
}

// 32 neighbouring outputs a block; thread y of blockDim.y, a power of two: those that have elements.
template <class Term>
__global__ void __launch_bounds__(1024)
    reduce_across(const ReduceAxes a, const ReduceInput<Term> in, const Term term,
                  typename Term::Sum* partials, std::int64_t chunks) {
  using Sum = typename Term::Sum;
  Sum* const sums = reinterpret_cast<Sum*>(dynamic_shared());
  const int column = static_cast<int>(threadIdx.x), t = static_cast<int>(threadIdx.y);
  const std::int64_t output = std::int64_t{blockIdx.x} * 32 + column, chunk = blockIdx.y;
  const bool inside = output < a.outputs;
  const ReduceOffsets base = output_offsets(a, inside ? output : 0);
  const std::int64_t first = chunk * kReduceChunk, rest = a.length - first;
  const int n = !inside ? 0 : rest < kReduceChunk ? static_cast<int>(rest) : kReduceChunk;
  Sum sum = reduce_chunk(a, in, term, base, first, n, t);
  sums[t * 33 + column] = sum;
  for (int step = static_cast<int>(blockDim.y) / 2; step > 0; step /= 2) {
    __syncthreads();
    if (t < step) {
      term.merge(sum, sums[(t + step) * 33 + column]);
      sums[t * 33 + column] = sum;
    }
  }
  if (t != 0 || !inside) return;
  if (partials)
    partials[output * chunks + chunk] = sum;
  else
    term.finish(sum, base.y);
}

// Merges the chunks' sums, `count` of them an output: by a warp, or by the whole block (of 1024).
template <class Term, bool kBlock>
__global__ void __launch_bounds__(kBlock ? 1024 : 256)
    reduce_partials(const ReduceAxes a, const Term term, const typename Term::Sum* partials,
                    std::int64_t count) {
  using Sum = typename Term::Sum;
  constexpr int kThreads = kBlock ? 1024 : kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t output = kBlock ? blockIdx.x : std::int64_t{blockIdx.x} * (256 / kWarp) + warp;
  if (output >= a.outputs) return;
  const Sum* const from = partials + output * count;
  const ReduceOffsets base = output_offsets(a, output);
  Sum sum = term.start(base.y);
#pragma unroll 8
  for (std::int64_t p = kBlock ? static_cast<int>(threadIdx.x) : lane; p < count; p += kThreads)
    term.merge(sum, from[p]);
  fold_lanes(term, sum, lane, kWarp);
  if constexpr (kBlock) {
    Sum* const sums = reinterpret_cast<Sum*>(dynamic_shared());
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (warp != 0) return;
    sum = sums[lane];
    fold_lanes(term, sum, lane, kWarp);
  }
  if (lane == 0) term.finish(sum, base.y);
}

template <class Term>
void reduce(const char* kernel, const View& x, const View* x2, const View& y, int reduced, const Term& term) {
  using Sum = typename Term::Sum;
  using Value = typename Term::Value;
  const ReduceAxes a = reduce_axes(kernel, x, x2, y, reduced);
  if (a.outputs == 0) return;
  const ReduceInput<Term> in{static_cast<const Value*>(x.data),
                             x2 ? static_cast<const Value*>(x2->data) : nullptr};
  const std::int64_t chunks = a.length > kReduceChunk ? ceil_div(a.length, kReduceChunk) : 1;
  const Workspace partials(chunks > 1 ? a.outputs * chunks * static_cast<std::int64_t>(sizeof(Sum)) : 0);
  Sum* const out = chunks > 1 ? partials.as<Sum>() : nullptr;
  int team_bits = 0;  // the threads that have elements
  while (team_bits < 5 && (std::int64_t{kReduceWays} << team_bits) < a.length) ++team_bits;
  // Across where the outputs' neighbours are memory's; 65535 is the most blocks along y.
  const bool across = a.kept > 0 && a.kept_x[0] == 1 && a.kept_size[0] >= 8 && a.length > 1 &&
                      !(a.reduced == 1 && a.x[0] == 1) && chunks <= 65535;
  if (across)
    launch(&reduce_across<Term>, dim3(blocks_of(ceil_div(a.outputs, 32)), static_cast<unsigned>(chunks)),
           dim3(32, 1u << team_bits), (std::size_t{33} << team_bits) * sizeof(Sum), a, in, term, out, chunks);
  else
    launch(&reduce_along<Term>, dim3(blocks_of(ceil_div((a.outputs * chunks) << team_bits, 256))), dim3(256),
           0, a, in, term, out, chunks, team_bits);
  if (chunks == 1) return;
  if (chunks > kManyPartials)
    launch(&reduce_partials<Term, true>, dim3(blocks_of(a.outputs)), dim3(1024), kWarp * sizeof(Sum), a, term,
           static_cast<const Sum*>(out), chunks);
  else
    launch(&reduce_partials<Term, false>, dim3(blocks_of(ceil_div(a.outputs, 8))), dim3(256), 0, a, term,
           static_cast<const Sum*>(out), chunks);
}

}  // namespace ts::cuda
