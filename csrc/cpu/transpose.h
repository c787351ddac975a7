// Tiles between strided memory and a contiguous buffer of rows; transposed in registers where the rows are
// the contiguous direction.
#pragma once

#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

// buffer[r * columns + c] = from[c * s0 + r * s1]; strides in bytes, `item` 1, 2, 4, 8 or 16 bytes.
void gather(char* buffer, const char* from, std::int64_t item, std::int64_t s0, std::int64_t s1,
            std::int64_t columns, std::int64_t rows);
// The reverse.
void scatter(char* to, const char* buffer, std::int64_t item, std::int64_t s0, std::int64_t s1,
             std::int64_t columns, std::int64_t rows);

}  // namespace ts::cpu::TS_ISA
