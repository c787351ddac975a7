// One function per noun adds its operations to the core module's `ops`.
#pragma once

#include "python/op.h"

namespace ts::python {

// BIND(noun): bindings/<noun>.cpp.
#define TS_BINDINGS(BIND) \
  BIND(elementwise)       \
  BIND(complex)           \
  BIND(fft)               \
  BIND(creation)          \
  BIND(manipulate)        \
  BIND(getitem)           \
  BIND(attention)         \
  BIND(conv)              \
  BIND(recurrent)         \
  BIND(linalg)            \
  BIND(pool)              \
  BIND(index)             \
  BIND(random)            \
  BIND(dropout)           \
  BIND(optim)             \
  BIND(matmul)            \
  BIND(reduce)            \
  BIND(sort)              \
  BIND(resample)          \
  BIND(sparse)            \
  BIND(softmax)           \
  BIND(loss)              \
  BIND(norm)              \
  BIND(roofline)

#define TS_DECLARE(noun) void bind_##noun(PyObject* ops);
TS_BINDINGS(TS_DECLARE)
#undef TS_DECLARE

// zeros, ones and empty with their several spellings, which end in the operations of these names.
void add_creators(PyObject* core);

}  // namespace ts::python
