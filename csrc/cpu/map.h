// The iteration engine of the pointwise kernels: y[i] = f(x[i], ...) over any shape and strides.
//
// The kernel supplies a loop over contiguous elements (loops.h); everything else is here and compiled once.
// Axes are sorted by the output's strides and joined where all operands allow. What is contiguous then goes
// straight to the loop; anything else is gathered, in tiles that fit the first-level cache, into contiguous
// buffers, transposing in registers where an operand's unit stride lies on another axis. No allocation.
#pragma once

#include "core/view.h"
#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

// y[i] = f(in[0][i * step[0]], ...), 0 <= i < n. A step is 1 or 0; with 0 there are kVectorBytes of the same
// value.
using Loop = void (*)(const void* const* in, const std::int64_t* step, void* out, std::int64_t n);

constexpr int kMaxInputs = 3;
constexpr std::int64_t kLightGrain = 32768, kHeavyGrain = 8192;  // elements per piece of work

constexpr std::int64_t kAlignFrom = 1024;  // elements from which it pays to begin at a cache line

struct Job {
  Loop loop;
  std::int64_t grain;
  bool copies = false;  // y[i] = in[0][i]
};

void map_strided(Job job, const View& y, const View* const* x, int inputs);
void map_line(Job job, const View& y, const View* const* x, int inputs);

// The operands have y's shape; their dtypes are the loop's affair.
template <class... Inputs>
inline void map(Job job, const Out& y, const Inputs&... x) {
  constexpr std::int64_t steps[] = {(static_cast<void>(x), std::int64_t{1})...};
  if (y.ndim == 1 && y.strides[0] == 1 && ((x.strides[0] == 1) && ...) && y.shape[0] <= job.grain) {
    const void* in[] = {x.data...};
    if (y.shape[0] < kAlignFrom || job.copies) return job.loop(in, steps, y.data, y.shape[0]);
    const View* views[] = {&x...};
    return map_line(job, y, views, sizeof...(x));
  }
  const View* in[] = {&x...};
  map_strided(job, y, in, sizeof...(x));
}

}  // namespace ts::cpu::TS_ISA
