// Dropout in training.
#pragma once

#include <tuple>

#include "core/array.h"

namespace ts::ops {

// {y, mask}: y = x / (1 - p) where kept, 0 elsewhere; one bit of mask (uint8) an element, in memory order. A
// copy of x is made where it is not row-major: permute it into its memory order first.
std::tuple<Array, Array> dropout(Array& state, const Array& x, double p);
Array dropout_backward(const Array& dy, const Array& mask, double p);

}  // namespace ts::ops
