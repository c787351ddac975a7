// The sizes of the processor's caches.
//
// Safe to include from every SIMD level: declarations only.
#pragma once

#include <cstdint>

namespace ts {

// Bytes of a core's second-level cache; 0 where the system does not say.
std::int64_t l2_bytes();

}  // namespace ts
