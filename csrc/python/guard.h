// Guards: what a recording took for granted about the Python objects around it, looked at before every
// replay.
#pragma once

#include <string>
#include <vector>

#include "python/tensor.h"

namespace ts::python {

struct Guard {
  enum Kind {
    item,        // of a dict: the same object
    equal_item,  // of a dict: an equal number or string of the same type
    truth_item,  // of a dict: as true or false as it was
    dict_size,
    list_item,
    list_size,
    cell,  // of a closure: the same object
    equal_cell,
    memory  // of a tensor: where it lies, and how
  } kind;
  Ref container;
  Ref key;
  Ref expected;  // a weak reference where it is a tensor, so that it may die
  bool weak = false;
  Py_ssize_t number = 0;
  // memory
  const void* data = nullptr;
  Shape shape, strides;
  DType dtype = DType::float32;
  bool requires_grad = false;
  std::string path;  // for people: "model.0.weight"

  bool holds() const;
};

// From five objects: kind, container, key, expected, path.
Guard make_guard(PyObject* const* description);

}  // namespace ts::python
