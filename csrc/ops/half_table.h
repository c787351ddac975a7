// Unary operations of halves by tables: an operand has 65,536 values, and so has the result.
#pragma once

#include "ops/elementwise.h"

namespace ts::ops {

// The results of an operation for every half of a dtype, by the bits of the operand.
struct HalfTable {
  static constexpr std::int64_t kValues = 1 << 16;

  std::uint16_t margin_before, results[kValues], margin_behind;  // the margins are for gathers
  bool by_gathers;                                               // whether they are the faster way to read it

  View view() const { return line(results, DType::uint16); }
  static View line(const void* data, DType d) {  // of kValues elements, for a kernel
    static constexpr std::int64_t count = kValues, one = 1;
    return {const_cast<void*>(data), &count, &one, nullptr, 1, d};
  }
};

// That of `op` and dtype d: 128 KiB that stay. Null where computing is as fast, and where there is no table
// yet and `size` elements do not pay for one. Two threads may both make a table; one is kept.
const HalfTable* half_table(const Pointwise& op, DType d, std::int64_t size);

}  // namespace ts::ops
