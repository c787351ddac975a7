// The machine's limits, as operations that the bench times.
#pragma once

#include "core/array.h"

namespace ts::ops {

// `pieces` pieces of fused multiply-adds in registers, spread over the threads; each is 3 * 2^22 operations.
Array fma_loop(std::int64_t pieces, DType dtype);
// target[:] = x as plain bytes; with `streaming`, past the caches.
void copy_loop(Array& target, const Array& x, bool streaming);

}  // namespace ts::ops
