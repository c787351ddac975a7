// x[mask] of a mask that is the whole key and has x's shape, both dense and in the host's memory. Nothing, or
// false, where the general way has to go, errors included.
#pragma once

#include "ops/getitem.h"

namespace ts::ops {

inline bool is_mask(const Array& index) { return index.dtype() == DType::boolean; }

Array take_masked(const Array& x, const Key& key);
bool put_masked(Array& x, const Key& key, const Operand& value);  // a vector of as many elements

}  // namespace ts::ops
