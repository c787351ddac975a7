// csrc/cuda/intrinsics.h for the host.
#pragma once

#include <cuda_runtime.h>

#include <tuple>

namespace ts::cuda {

template <class... Params, class... Args>
void launch_on(cudaStream_t stream, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared,
               const Args&... args) {
  if (shared > sizeof cuda_host::dynamic_memory) std::abort();
  cuda_host::submit(stream, [=, held = std::tuple<std::decay_t<Params>...>(static_cast<Params>(args)...)] {
    std::memset(cuda_host::dynamic_memory, 0xff, shared);
    std::apply([&](const auto&... a) { cuda_host::run(kernel, grid, block, a...); }, held);
  });
}

inline unsigned char* dynamic_shared() { return cuda_host::dynamic_memory; }

}  // namespace ts::cuda
