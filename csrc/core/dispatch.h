// Which table of kernels serves a device, and which SIMD level serves the CPU.
#pragma once

#include "core/backend.h"
#include "core/storage.h"

namespace ts {

// The table for a device; RuntimeError with the reason where the device cannot be had.
const Kernels& kernels(Device device);

struct SimdLevel {
  const char* name;    // "baseline", "avx2" or "avx512"
  const char* reason;  // a sentence for `tensorsmith info`
};
// Chosen at the first call: the best that the CPU and the system support, or TENSORSMITH_ISA.
// ValueError if that names a level that is unknown or that this machine lacks.
const SimdLevel& simd_level();

}  // namespace ts
