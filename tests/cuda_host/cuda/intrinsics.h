// csrc/cuda/intrinsics.h for the host.
#pragma once

#include <cuda_runtime.h>

namespace ts::cuda {

template <class... Params, class... Args>
void launch_on(cudaStream_t, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared,
               const Args&... args) {
  if (shared > sizeof cuda_host::dynamic_memory) std::abort();
  std::memset(cuda_host::dynamic_memory, 0xff, shared);
  cuda_host::run(kernel, grid, block, static_cast<Params>(args)...);
}

inline unsigned char* dynamic_shared() { return cuda_host::dynamic_memory; }

}  // namespace ts::cuda
