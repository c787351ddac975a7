// Moving arrays between devices.
#pragma once

#include "core/array.h"

namespace ts::ops {

// The elements on that device, in the memory order of x; x itself where it is there already.
Array to_device(const Array& x, Device device);

}  // namespace ts::ops
