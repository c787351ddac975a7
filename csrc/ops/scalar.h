// Integers of Python beyond 64 bits: floats have room for them, no integer dtype does.
#pragma once

#include <limits>

#include "ops/operand.h"

namespace ts {

// `integer` contradicts the rest: unsigned only from 2^63 on, or positive where `real` is negative.
inline Scalar beyond_64_bits(double rounded) {
  return {rounded < 0 ? Kind::signed_integer : Kind::unsigned_integer, rounded,
          std::numeric_limits<std::int64_t>::max()};
}
inline bool is_beyond_64_bits(const Scalar& s) {
  if (s.kind == Kind::unsigned_integer) return s.integer >= 0;
  return s.kind == Kind::signed_integer && s.integer > 0 && s.real < 0;
}

}  // namespace ts
