// The kernels of this SIMD level: one prototype per line of kernels.def.
#pragma once

#include "core/backend.h"

namespace ts::cpu::TS_ISA {

#define KERNEL(name, ...) void name(__VA_ARGS__);
#include "core/kernels.def"

}  // namespace ts::cpu::TS_ISA
