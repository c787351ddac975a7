// x[index] and x[index, index, ...] of single elements in the host's memory, for those who index: what takes
// time there are the steps to a kernel. Nothing, or false, where the general way has to go, errors included.
#pragma once

#include "ops/getitem.h"

namespace ts::ops {

// Few elements of a vector.
Array take_few(const Array& x, const Key& key);
bool set_few(Array& x, const Key& key, const Operand& value);

// Arrays of int64 of one shape, one for each axis of x: places are checked and asked for a block ahead of the
// one that is read, so that the checks take no time beside the memory's.
Array take_points(const Array& x, const Key& key);

}  // namespace ts::ops
