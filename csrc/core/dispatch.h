// Which table of kernels serves a device, which SIMD level serves the CPU, and the library of the
// accelerator.
#pragma once

#include "core/backend.h"
#include "core/storage.h"

namespace ts {

// The table for a device; RuntimeError with the reason where the device cannot be had.
const Kernels& kernels(Device device);
// What the accelerator's library offers beside kernels; the library is loaded at the first call.
const Accelerator& accelerator(Device device);

// Whether the accelerator can be had, and the reason in a sentence. Loads its library, but never throws.
struct AcceleratorState {
  bool available;
  const char* reason;
};
AcceleratorState accelerator_state();

struct SimdLevel {
  const char* name;    // "baseline", "avx2" or "avx512"
  const char* reason;  // a sentence for `tensorsmith info`
};
// Chosen at the first call: the best that the CPU and the system support, or TENSORSMITH_ISA.
// ValueError if that names a level that is unknown or that this machine lacks.
const SimdLevel& simd_level();

// What multiplies bfloat16 numbers. Chosen at the first call: the best that the CPU, the system and the level
// support, or TENSORSMITH_BF16. ValueError if that names an engine that is unknown or that is not to be had.
struct Bf16Choice {
  Bf16Engine engine;
  const char* name;    // "float32", "avx512_bf16" or "amx"
  const char* reason;  // a sentence for `tensorsmith info`
};
const Bf16Choice& bf16_engine();

}  // namespace ts
