// Pointwise kernels that read and write halves: the formula in float32, rounded once, with the bits of a
// cast, the operation and a cast. csrc/ops/half.cpp has the same list (gpu_takes_halves).
#pragma once

#include "core/view.h"

namespace ts::cuda {

#define TS_HALF_UNARY(KERNEL) \
  KERNEL(negative) KERNEL(relu) KERNEL(sigmoid) KERNEL(tanh) KERNEL(silu) KERNEL(gelu) KERNEL(gelu_tanh)
#define TS_HALF_ARITHMETIC(KERNEL) KERNEL(add) KERNEL(subtract) KERNEL(multiply) KERNEL(divide)
#define TS_HALF_SLOPES(KERNEL) \
  KERNEL(relu_backward)        \
  KERNEL(sigmoid_backward)     \
  KERNEL(tanh_backward) KERNEL(silu_backward) KERNEL(gelu_backward) KERNEL(gelu_tanh_backward)
#define TS_HALF_BINARY(KERNEL) TS_HALF_ARITHMETIC(KERNEL) TS_HALF_SLOPES(KERNEL)

namespace halves {
#define TS_DECLARE(name) void name(In x, Out y);
TS_HALF_UNARY(TS_DECLARE)
#undef TS_DECLARE
// Of add one operand may be float32, and then y is.
#define TS_DECLARE(name) void name(In a, In b, Out y);
TS_HALF_BINARY(TS_DECLARE)
#undef TS_DECLARE
}  // namespace halves

}  // namespace ts::cuda
