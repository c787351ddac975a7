// Unary operations of halves by tables: an operand has 65,536 values, and so has the result.
#pragma once

#include "ops/elementwise.h"

namespace ts::ops {

// The results of `op` for every half of dtype d, by the bits of the operand: 128 KiB that stay. Null where
// computing is as fast, and where there is no table yet and `size` elements do not pay for one. Two threads
// may both make a table; one is kept.
const std::uint16_t* half_table(const Pointwise& op, DType d, std::int64_t size);

}  // namespace ts::ops
