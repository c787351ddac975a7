// The runtime's side of the table: the device, its memory, and waiting for it.
#pragma once

#include "cuda/device.h"

namespace ts::cuda {

const char* open(const Host* host);
void synchronize();
void properties(DeviceProperties* out);
void memory_stats(DeviceMemory* out);
void reset_peak();
void empty_cache();

}  // namespace ts::cuda
