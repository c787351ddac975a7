// What a kernel sees of an array: where its elements lie, and nothing of who owns them.
//
// Safe to include from every SIMD level: plain data and forced-inline functions only.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace ts {

class Storage;

struct View {
  void* data;  // the first element; null for an optional operand that was not given
  const std::int64_t* shape;
  const std::int64_t* strides;  // in elements; 0 where broadcast, negative where reversed
  const Storage* storage;       // for capture; null for a scalar that lives on the caller's stack
  std::int32_t ndim;
  DType dtype;

  [[gnu::always_inline]] explicit operator bool() const { return data != nullptr; }
  [[gnu::always_inline]] std::int64_t size() const {
    std::int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
};

// The role is part of a kernel's signature: an operand that it reads, or one that it writes
// (and may read: an accumulator, a running mean).
struct In : View {
  template <class T>
  [[gnu::always_inline]] const T* as() const {
    return static_cast<const T*>(data);
  }
};
struct Out : View {
  template <class T>
  [[gnu::always_inline]] T* as() const {
    return static_cast<T*>(data);
  }
};

// Several operands of one role, for kernels that serve many arrays in one call.
struct Ins {
  const In* data;
  std::int64_t size;
};
struct Outs {
  const Out* data;
  std::int64_t size;
};

}  // namespace ts
