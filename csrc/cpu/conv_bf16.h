// Convolutions of bfloat16 numbers on AMX tiles (conv_bf16.cpp): where filters (weight_backward: dy) are
// bfloat16, csrc/ops means these. The other images, read or written, are bfloat16 or float32; bias is
// contiguous float32.
#pragma once

#include "cpu/kernels.h"

namespace ts::cpu::TS_ISA {

void conv2d_bf16(In x, In weight, In bias, Out y, Conv2d conv, Activation activation);
void conv2d_input_backward_bf16(In dy, In weight, Out dx, Conv2d conv);
void conv2d_weight_backward_bf16(In dy, In x, Out dweight, Out dbias, Conv2d conv);  // float32 results

}  // namespace ts::cpu::TS_ISA
