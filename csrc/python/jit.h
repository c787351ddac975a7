// What the Python side of a capture sees beside kernels: gradients of leaves that are read and replaced.
#pragma once

#include "core/watch.h"
#include "python/tensor.h"

namespace ts::python {

namespace detail {
void gradient_touched(PyObject* leaf, bool read);
}

// The `.grad` of a leaf is about to be read, or replaced unread.
inline void touch_gradient(PyObject* leaf, bool read) {
  if (ts::detail::watching()) [[unlikely]]
    detail::gradient_touched(leaf, read);
}

bool init_jit(PyObject* module);

}  // namespace ts::python
