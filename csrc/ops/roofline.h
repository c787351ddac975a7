// The machine's limits, as operations that the bench times.
#pragma once

#include "core/array.h"

namespace ts::ops {

// `pieces` pieces of fused multiply-adds in registers, spread over the threads; each is 3 * 2^22 operations.
Array fma_loop(std::int64_t pieces, DType dtype);
// The same of products of bfloat16 numbers, by this machine's engine for them; each piece is 3 * 2^24
// operations. RuntimeError where that engine is float32.
Array bf16_loop(std::int64_t pieces);
// target[:] = x as plain bytes; with `streaming`, past the caches.
void copy_loop(Array& target, const Array& x, bool streaming);

}  // namespace ts::ops
