// Moving arrays between devices.
#pragma once

#include <cstddef>
#include <vector>

#include "core/array.h"

namespace ts::ops {

// The elements on that device, in the memory order of x; x itself where it is there already.
Array to_device(const Array& x, Device device);

// For functions of the host: the elements of a contiguous view, wherever it lies.
class OnHost {
 public:
  explicit OnHost(const View& x);
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data_);
  }

 private:
  const void* data_;
  std::vector<std::byte> copy_;
};

// A copy of x in page-locked memory of the host, in the memory order of x; x itself where it lies there
// already.
Array pin(const Array& x);
// Whether x lies in such memory.
bool is_pinned(const Array& x);
// target[...] = x between page-locked memory and the accelerator, without waiting: shapes, dtypes and memory
// orders agree, and both are dense.
void copy_async(Array& target, const Array& x);

}  // namespace ts::ops
