// Any reduction by one tree over any axes.
//
// The tree depends on K, the number of elements, and on nothing else: element p of a chunk of 4096 belongs to
// lane p % 32; a lane adds its elements one after another, lanes fold by halves (l and l + 16, then + 8,
// ...), and the chunks' results are reduced the same way. Along rows a warp is the 32 lanes; across columns a
// thread is one lane of one column and the fold goes through shared memory: the same additions, so the same
// bits. Reads x once.
//
// A Term says what is added up:
//   using Value (of the inputs), Sum, Result;
//   start(out)            the empty sum of the output at offset `out`, and what else its steps need
//   step(sum, a, b, p)    takes element p in; b is the second input's, if there is one
//   merge(sum, later)     joins the sum of elements that come later
//   finish(sum, out)      writes the output at offset `out`
#pragma once

#include "core/view.h"
#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kReduceDims = 8, kReduceLanes = 32;
constexpr std::int64_t kReduceChunk = 4096;

// The axes after sorting and joining, innermost first; kept ones carry y's strides too.
struct ReduceAxes {
  std::int64_t kept_size[kReduceDims], kept_x[kReduceDims], kept_x2[kReduceDims], kept_y[kReduceDims];
  std::int64_t size[kReduceDims], x[kReduceDims], x2[kReduceDims];
  std::int64_t outputs, length;
  std::int32_t kept, reduced;
};
// NotImplementedError where more than kReduceDims axes remain.
ReduceAxes reduce_axes(const char* kernel, const View& x, const View* x2, const View& y, int reduced);

struct ReduceOffsets {
  std::int64_t x, x2, y;
};
TS_INLINE ReduceOffsets output_offsets(const ReduceAxes& a, std::int64_t output) {
  ReduceOffsets at{0, 0, 0};
  for (int d = 0; d < a.kept; ++d) {
    const std::int64_t q = d + 1 < a.kept ? output / a.kept_size[d] : 0, i = output - q * a.kept_size[d];
    at.x += i * a.kept_x[d], at.x2 += i * a.kept_x2[d], at.y += i * a.kept_y[d];
    output = q;
  }
  return at;
}
TS_INLINE ReduceOffsets element_offsets(const ReduceAxes& a, std::int64_t p) {
  ReduceOffsets at{0, 0, 0};
  for (int d = 0; d < a.reduced; ++d) {
    const std::int64_t q = d + 1 < a.reduced ? p / a.size[d] : 0, i = p - q * a.size[d];
    at.x += i * a.x[d], at.x2 += i * a.x2[d];
    p = q;
  }
  return at;
}

template <class Term>
struct ReduceInput {
  using Value = typename Term::Value;
  const Value *x, *x2;
  TS_INLINE void step(const Term& term, typename Term::Sum& sum, const ReduceAxes& a, ReduceOffsets base,
                      std::int64_t p) const {
    const ReduceOffsets at = element_offsets(a, p);
    const Value v = x[base.x + at.x];
    term.step(sum, v, x2 ? x2[base.x2 + at.x2] : v, p);
  }
};

// A warp an output and chunk: neighbouring lanes on neighbouring elements.
template <class Term>
__global__ void __launch_bounds__(256)
    reduce_along(const ReduceAxes a, const ReduceInput<Term> in, const Term term,
                 typename Term::Sum* partials, std::int64_t chunks) {
  using Sum = typename Term::Sum;
  const std::int64_t unit = std::int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (unit >= a.outputs * chunks) return;
  const std::int64_t output = unit / chunks, first = unit % chunks * kReduceChunk;
  const std::int64_t end = first + kReduceChunk < a.length ? first + kReduceChunk : a.length;
  const ReduceOffsets at = output_offsets(a, output);
  Sum sum = term.start(at.y);
#pragma unroll 4
  for (std::int64_t p = first + lane; p < end; p += kReduceLanes) in.step(term, sum, a, at, p);
  for (int step = kReduceLanes / 2; step > 0; step /= 2) {
    const Sum other = shuffle_down(sum, step);
    if (lane < step) term.merge(sum, other);
  }
  if (lane != 0) return;
  if (partials)
    partials[unit] = sum;
  else
    term.finish(sum, at.y);
}

// 32 neighbouring outputs a block, a thread a lane of one of them.
template <class Term>
__global__ void __launch_bounds__(1024)
    reduce_across(const ReduceAxes a, const ReduceInput<Term> in, const Term term,
                  typename Term::Sum* partials, std::int64_t chunks) {
  using Sum = typename Term::Sum;
  Sum* const sums = reinterpret_cast<Sum*>(dynamic_shared());
  const int column = static_cast<int>(threadIdx.x), lane = static_cast<int>(threadIdx.y);
  const std::int64_t output = std::int64_t{blockIdx.x} * 32 + column, chunk = blockIdx.y;
  const bool inside = output < a.outputs;
  const ReduceOffsets at = output_offsets(a, inside ? output : 0);
  const std::int64_t first = chunk * kReduceChunk;
  const std::int64_t end = first + kReduceChunk < a.length ? first + kReduceChunk : a.length;
  Sum sum = term.start(at.y);
  if (inside)
#pragma unroll 4
    for (std::int64_t p = first + lane; p < end; p += kReduceLanes) in.step(term, sum, a, at, p);
  sums[lane * 33 + column] = sum;
  for (int step = kReduceLanes / 2; step > 0; step /= 2) {
    __syncthreads();
    if (lane < step) {
      term.merge(sum, sums[(lane + step) * 33 + column]);
      sums[lane * 33 + column] = sum;
    }
  }
  if (lane != 0 || !inside) return;
  if (partials)
    partials[output * chunks + chunk] = sum;
  else
    term.finish(sum, at.y);
}

// Reduces the chunks' sums, `count` of them an output, by the same tree.
template <class Term>
__global__ void __launch_bounds__(256)
    reduce_partials(const ReduceAxes a, const Term term, const typename Term::Sum* from, std::int64_t count,
                    typename Term::Sum* partials, std::int64_t chunks) {
  using Sum = typename Term::Sum;
  const std::int64_t unit = std::int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (unit >= a.outputs * chunks) return;
  const std::int64_t output = unit / chunks, first = unit % chunks * kReduceChunk;
  const std::int64_t end = first + kReduceChunk < count ? first + kReduceChunk : count;
  const ReduceOffsets at = output_offsets(a, output);
  Sum sum = term.start(at.y);
  for (std::int64_t p = first + lane; p < end; p += kReduceLanes) term.merge(sum, from[output * count + p]);
  for (int step = kReduceLanes / 2; step > 0; step /= 2) {
    const Sum other = shuffle_down(sum, step);
    if (lane < step) term.merge(sum, other);
  }
  if (lane != 0) return;
  if (partials)
    partials[unit] = sum;
  else
    term.finish(sum, at.y);
}

template <class Term>
void reduce(const char* kernel, const View& x, const View* x2, const View& y, int reduced, const Term& term) {
  using Sum = typename Term::Sum;
  using Value = typename Term::Value;
  const ReduceAxes a = reduce_axes(kernel, x, x2, y, reduced);
  if (a.outputs == 0) return;
  const ReduceInput<Term> in{static_cast<const Value*>(x.data),
                             x2 ? static_cast<const Value*>(x2->data) : nullptr};
  std::int64_t chunks = a.length > kReduceChunk ? ceil_div(a.length, kReduceChunk) : 1;
  const Workspace partials(chunks > 1 ? a.outputs * chunks * static_cast<std::int64_t>(sizeof(Sum)) : 0);
  Sum* const out = chunks > 1 ? partials.as<Sum>() : nullptr;
  // Across where the outputs' neighbours are memory's; 65535 is the most blocks along y.
  const bool across = a.kept > 0 && a.kept_x[0] == 1 && a.kept_size[0] >= 8 && a.length > 1 &&
                      !(a.reduced == 1 && a.x[0] == 1) && chunks <= 65535;
  if (across)
    launch(&reduce_across<Term>, dim3(blocks_of(ceil_div(a.outputs, 32)), static_cast<unsigned>(chunks)),
           dim3(32, kReduceLanes), 33 * kReduceLanes * sizeof(Sum), a, in, term, out, chunks);
  else
    launch(&reduce_along<Term>, dim3(blocks_of(ceil_div(a.outputs * chunks, 8))), dim3(256), 0, a, in, term,
           out, chunks);
  if (chunks == 1) return;
  if (chunks > kReduceChunk * kReduceChunk) runtime_error("%s: too many elements in one sum", kernel);
  const std::int64_t more = ceil_div(chunks, kReduceChunk);
  const Workspace second(more > 1 ? a.outputs * more * static_cast<std::int64_t>(sizeof(Sum)) : 0);
  const auto join = [&](const Sum* from, std::int64_t count, Sum* to, std::int64_t pieces) {
    launch(&reduce_partials<Term>, dim3(blocks_of(ceil_div(a.outputs * pieces, 8))), dim3(256), 0, a, term,
           from, count, to, pieces);
  };
  if (more == 1) return join(out, chunks, nullptr, 1);
  join(out, chunks, second.as<Sum>(), more);
  join(second.as<Sum>(), more, nullptr, 1);
}

}  // namespace ts::cuda
