// The kernels of the GPU: one prototype per line of kernels.def. Weak: the table says "not implemented" for
// one that no file here defines.
#pragma once

#include "core/backend.h"

namespace ts::cuda {

#define KERNEL(name, ...) [[gnu::weak]] void name(__VA_ARGS__);
#include "core/kernels.def"

}  // namespace ts::cuda
