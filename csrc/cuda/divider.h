// n / d for n < 2^31 and a divisor that the host knows: a multiplication. A divisor of 0, the extent of an
// empty axis, is taken as 1: nobody divides by it.
#pragma once

#include "cuda/device.h"

namespace ts::cuda {

struct Divider {
  std::uint32_t divisor, factor, shift;
  Divider() = default;
  explicit Divider(std::int64_t d) : divisor(static_cast<std::uint32_t>(d > 0 ? d : 1)), factor(0), shift(0) {
    while ((std::int64_t{1} << shift) < d) ++shift;
    const std::uint64_t rest = (std::uint64_t{1} << shift) - divisor;
    factor = static_cast<std::uint32_t>((rest << 32) / divisor + 1);
  }
  TS_INLINE std::uint32_t quotient(std::uint32_t n) const { return (__umulhi(n, factor) + n) >> shift; }
};

}  // namespace ts::cuda
