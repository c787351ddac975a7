// Operations whose operands are bfloat16, or float32 that is rounded to it: sums in float32.
#pragma once

#include <optional>

#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

inline bool takes_bf16(const Array& x) { return x.dtype() == DType::bfloat16 || x.dtype() == DType::float32; }
// TypeError for other dtypes.
inline void check_takes_bf16(const char* operation, const char* argument, const Array& x) {
  if (!takes_bf16(x))
    type_error(operation, ": ", argument, " is ", name(x.dtype()), "; bfloat16 or float32 is needed");
}
// What the result is asked to be: bfloat16 where nothing is said, or float32.
inline DType bf16_result(const char* operation, std::optional<DType> dtype) {
  const DType result = dtype.value_or(DType::bfloat16);
  if (result != DType::bfloat16 && result != DType::float32)
    type_error(operation, ": dtype must be bfloat16 or float32, got ", name(result));
  return result;
}
// float32 numbers that are bfloat16 ones.
inline Array rounded(const Array& x) {
  return astype(x.dtype() == DType::float32 ? astype(x, DType::bfloat16, false) : x, DType::float32, false);
}

}  // namespace ts::ops
