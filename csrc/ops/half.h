// Pointwise operations of float16 and bfloat16 on the CPU: float32 within, a block at a time.
#pragma once

#include "ops/elementwise.h"

namespace ts::ops {

// Whether the CPU has a kernel that takes bfloat16 for this one: short formulas (cpu/elementwise_half.h).
bool takes_bfloat16(const Pointwise& op);
// Whether the GPU has a kernel that takes float16 and bfloat16 (cuda/elementwise_half.h).
bool gpu_takes_halves(const Pointwise& op);

// y = op(x...): operands of any dtype, of y's shape (broadcast), scalars as float32; y a half, or bool where
// the operation says so, dense; it may be exactly one of the operands. The bits are those of casting whole
// operands, computing, and casting the result. False, and nothing is done, where their layouts do not go
// together, and elsewhere than on the CPU.
bool pointwise_by_blocks(const Pointwise& op, const In* x, const Out& y);

}  // namespace ts::ops
