// What the CUDA language spells in its own way: launches, dynamic shared memory, asynchronous copies.
//
// The tests' host build has a header of the same name and contents in plain C++.
#pragma once

#include <cuda_runtime.h>

namespace ts::cuda {

template <class... Params, class... Args>
void launch_on(cudaStream_t stream, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared,
               const Args&... args) {
  kernel<<<grid, block, shared, stream>>>(args...);
}

__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  return shared_bytes;
}

}  // namespace ts::cuda
