// The one door to every kernel.
//
//   launch<&Kernels::softmax>(x, y);
//
// Arrays convert to In and Out on the way (an Out bumps its storage's version and refuses a read-only one),
// scalars pass through. Capture and profiling hang here, because nothing else calls a kernel.
#pragma once

#include "core/array.h"
#include "core/dispatch.h"

namespace ts {

// The member may also be a run-time value, for families that share a signature.
template <class... Params, class... Args>
void launch(void (*Kernels::*kernel)(Params...), Args&&... args) {
  static const Kernels& table = kernels(Device::cpu);
  (table.*kernel)(static_cast<Params>(static_cast<Args&&>(args))...);
}

template <auto Kernel, class... Args>
void launch(Args&&... args) {
  launch(Kernel, static_cast<Args&&>(args)...);
}

}  // namespace ts
