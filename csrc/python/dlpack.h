// Exchange of memory with other libraries through DLPack.
#pragma once

#include "python/tensor.h"

namespace ts::python {

PyObject* to_dlpack(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* from_dlpack(PyObject*, PyObject* capsule);

}  // namespace ts::python
