// What a call costs: operations and bytes, for the profiler and for deciding what may run at once.
#pragma once

#include "core/backend.h"

namespace ts {

// Multiplications and additions, of the kernels that are made of them; 0 says that bytes are what counts.
double flops_of(Kernel kernel, const View* views, const std::byte* attributes);
// Of an operand that is read or written once; a broadcast axis counts once.
double bytes_of(const View& view);

}  // namespace ts
