// What the Tensor type is put together from, by file.
#pragma once

#include "python/tensor.h"

namespace ts::python {

constexpr int kQuickRank = 6;  // as many axes as a Shape holds inline

// tensor.cpp
TensorObject* new_tensor(Array&& array, bool shares_storage);
PyObject* item(PyObject* self, PyObject*);
// y, which may be a view of self's memory: both know then that it is shared.
PyObject* view_or_copy(PyObject* self, Array y);

// subscript.cpp
PyObject* subscript(PyObject* self, PyObject* key);
int assign_subscript(PyObject* self, PyObject* key, PyObject* value);

// buffer.cpp
int get_buffer(PyObject* self, Py_buffer* view, int flags);
void release_buffer(PyObject* self, Py_buffer* view);

// attributes.cpp
extern PyGetSetDef tensor_attributes[];
extern PyMethodDef tensor_methods[];

}  // namespace ts::python
