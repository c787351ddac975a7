// The driver's functions, found at run time: the library is not linked against the driver, and loads where
// there is none.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

namespace ts::cuda {

// As CUDA 12.0 has it; null where the driver does not.
template <class F>
F driver_function(const char* name) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult status{};
#if CUDART_VERSION >= 12050
  const cudaError_t e = cudaGetDriverEntryPointByVersion(name, &entry, 12000, cudaEnableDefault, &status);
#else
  const cudaError_t e = cudaGetDriverEntryPoint(name, &entry, cudaEnableDefault, &status);
#endif
  if (e == cudaSuccess && status == cudaDriverEntryPointSuccess) return reinterpret_cast<F>(entry);
  cudaGetLastError();
  return nullptr;
}

}  // namespace ts::cuda
