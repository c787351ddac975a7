// Attention of bfloat16 operands on an engine that is not float32: where q is bfloat16, attention.cpp and
// attention_backward.cpp mean these.
#pragma once

#include "cpu/kernels.h"

namespace ts::cpu::TS_ISA {

struct Drops;  // cpu/attention.h

void attention_bf16(const In& q, const In& k, const In& v, const In& mask, const In& keys, const Drops& drops,
                    const Out& y, const Out& logsumexp, const Attention& options);
void attention_backward_bf16(const In& dy, const In& q, const In& k, const In& v, const In& y, const In& mask,
                             const In& keys, const In& logsumexp, const Drops& drops, const Out& dq,
                             const Out& dk, const Out& dv, const Out& dmask, const Out& partial,
                             const Attention& options);

}  // namespace ts::cpu::TS_ISA
