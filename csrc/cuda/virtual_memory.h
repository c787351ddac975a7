// Addresses without memory, and memory for some of them: the driver's virtual memory management.
//
// A range of addresses costs nothing until granules of it are mapped to memory, each for itself, so that any
// granule can be given back while its neighbours are in use.
#pragma once

#include "cuda/device.h"

namespace ts::cuda {

class VirtualMemory {
 public:
  static constexpr std::int64_t kGranule = std::int64_t{2} << 20;

  // Null where the device or its driver has none.
  static VirtualMemory* get();

  // A call failed in a way that is not a lack of memory: no more is to be mapped.
  bool failed() const { return failed_; }

  std::int64_t device_bytes() const { return device_bytes_; }
  // Null where there are no addresses left.
  char* reserve(std::int64_t bytes);
  void release(char* range, std::int64_t bytes);
  // Memory for granules from `at` on; for how many bytes there was some.
  std::int64_t map(char* at, std::int64_t bytes);
  // No work that is on its way may use them.
  void unmap(char* at, std::int64_t bytes);

 private:
  VirtualMemory() = default;
  struct Driver;
  const Driver* driver_ = nullptr;
  int device_ = 0;
  std::int64_t device_bytes_ = 0;
  bool failed_ = false;
};

}  // namespace ts::cuda
