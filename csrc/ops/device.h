// Moving arrays between devices.
#pragma once

#include "core/array.h"

namespace ts::ops {

// The elements on that device, in the memory order of x; x itself where it is there already.
Array to_device(const Array& x, Device device);

// A copy of x in page-locked memory of the host, in the memory order of x; x itself where it lies there
// already.
Array pin(const Array& x);
// Whether x lies in such memory.
bool is_pinned(const Array& x);
// target[...] = x between page-locked memory and the accelerator, without waiting: shapes, dtypes and memory
// orders agree, and both are dense.
void copy_async(Array& target, const Array& x);

}  // namespace ts::ops
