// The machine's own limits, which the bench prints every kernel as a share of.
//
//   copy_loop: y[i] = x[i], by the driver; reads x once, writes y once.
#include "cuda/device.h"
#include "cuda/kernels.h"

namespace ts::cuda {

void copy_loop(In x, Out y, bool) {
  const std::int64_t bytes = y.size() * itemsize(y.dtype);
  if (bytes)
    check(
        cudaMemcpyAsync(y.data, x.data, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, stream()),
        "a copy");
}

}  // namespace ts::cuda
