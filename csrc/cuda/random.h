// Philox blocks on the device: the numbering is that of math/philox.h, so a draw has the CPU's bits.
#pragma once

#include "core/view.h"
#include "cuda/simd.h"
#include "math/philox.h"

namespace ts::cuda {

// What a launch knows of the generator: its state lies in device memory, and the launches of one stream are
// in order.
struct Generator {
  const std::uint64_t* state;

  // The four 32-bit words of a block, in the low halves.
  TS_INLINE void words(std::int64_t block, std::uint32_t (&w)[4]) const {
    const std::uint64_t counter = state[1] + static_cast<std::uint64_t>(block), stream = state[2],
                        seed = state[0];
    std::uint32_t c0 = static_cast<std::uint32_t>(counter), c1 = static_cast<std::uint32_t>(counter >> 32);
    std::uint32_t c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int i = 0; i < kPhiloxRounds; ++i, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      const std::uint64_t p0 = std::uint64_t{c0} * 0xD2511F53u, p1 = std::uint64_t{c2} * 0xCD9E8D57u;
      const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
      const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c0 = n0, c1 = static_cast<std::uint32_t>(p1), c2 = n2, c3 = static_cast<std::uint32_t>(p0);
    }
    w[0] = c0, w[1] = c1, w[2] = c2, w[3] = c3;
  }
};

// Moves the counter behind `blocks` blocks, after the kernels launched so far.
void advance(const View& state, std::int64_t blocks);

}  // namespace ts::cuda
