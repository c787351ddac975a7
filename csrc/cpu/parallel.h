// parallel_for over a lambda, and the piece sizes that kernels cut their work by.
#pragma once

#include "core/threads.h"

namespace ts::cpu::TS_ISA {

// std::min and std::max would be one function for all SIMD levels.
constexpr std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
constexpr std::int64_t most(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// Runs body(piece) for every piece in [0, pieces).
template <class Body>
inline void parallel_for(std::int64_t pieces, const Body& body) {
  if (pieces == 1) return body(std::int64_t{0});
  ts::parallel_for(
      pieces, [](void* context, std::int64_t piece) { (*static_cast<const Body*>(context))(piece); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// At most `grain`, such that the pieces of n are even in size and number: of few pieces, an odd one would
// leave every other thread idle.
inline std::int64_t even_grain(std::int64_t n, std::int64_t grain) {
  if (n <= grain) return grain;
  const std::int64_t pieces = (n + 2 * grain - 1) / (2 * grain) * 2;
  return (n + pieces - 1) / pieces;
}

// Cuts [0, n) into ranges of `grain` and runs body(begin, end) on each. The cut depends on n and
// grain alone, so results do not depend on the number of threads.
template <class Body>
inline void parallel_ranges(std::int64_t n, std::int64_t grain, const Body& body) {
  if (n <= 0) return;
  if (n <= grain) return body(std::int64_t{0}, n);
  parallel_for((n + grain - 1) / grain, [&](std::int64_t piece) {
    const std::int64_t begin = piece * grain;
    body(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace ts::cpu::TS_ISA
