// The one door to every kernel.
//
//   launch<&Kernels::softmax>(x, y);
//
// Arrays convert to In and Out on the way (an Out bumps its storage's version and refuses a read-only one),
// scalars pass through. The operands' device chooses the table. Capture and profiling hang here (watch.h),
// because nothing else calls a kernel.
#pragma once

#include <type_traits>

#include "core/array.h"
#include "core/dispatch.h"
#include "core/watch.h"

namespace ts {

namespace detail {

// The devices of an operand, a bit each. What lies on the caller's stack (no storage) goes anywhere.
template <class Operand>
unsigned devices_of(const Operand& x) {
  unsigned devices = 0;
  if constexpr (std::is_base_of_v<View, Operand>) {
    if (x.storage) devices = 1u << static_cast<int>(x.storage->device());
  } else if constexpr (std::is_same_v<Operand, Ins> || std::is_same_v<Operand, Outs>) {
    for (std::int64_t i = 0; i < x.size; ++i) devices |= devices_of(x.data[i]);
  }
  return devices;
}

// The table for such a set of devices; RuntimeError where there are several.
const Kernels& table_of(unsigned devices, Kernel kernel);

template <class... Params>
void run(void (*Kernels::*kernel)(Params...), std::type_identity_t<Params>... operands) {
  static const Kernels& cpu = kernels(Device::cpu);
  const unsigned devices = (0u | ... | devices_of(operands));
  const Kernels* table = &cpu;
  if (devices > 1) [[unlikely]]
    table = &table_of(devices, id(kernel));
  if (watching()) [[unlikely]]
    return describe<Params...>(name(id(kernel)), id(kernel), table->*kernel, operands...);
  (table->*kernel)(operands...);
}

}  // namespace detail

// The member may also be a run-time value, for families that share a signature.
template <class... Params, class... Args>
void launch(void (*Kernels::*kernel)(Params...), Args&&... args) {
  detail::run(kernel, static_cast<Params>(static_cast<Args&&>(args))...);
}

template <auto Kernel, class... Args>
void launch(Args&&... args) {
  launch(Kernel, static_cast<Args&&>(args)...);
}

// The same for a function of the host that reads or writes arrays where no kernel does, such as a check of
// indices: a capture records it, and a replay calls it again. What it throws reaches the replay's caller.
template <class... Params, class... Args>
void perform(const char* name, void (*function)(Params...), Args&&... args) {
  if (detail::watching()) [[unlikely]]
    return detail::describe<Params...>(name, Kernel::count, function,
                                       static_cast<Params>(static_cast<Args&&>(args))...);
  function(static_cast<Params>(static_cast<Args&&>(args))...);
}

}  // namespace ts
