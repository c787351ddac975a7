// What a walk (walk.h) has to know of classes and code, found out once for each.
#pragma once

#include <vector>

#include "python/tensor.h"

namespace ts::python {

enum class Kind : std::uint8_t {
  plain,    // numbers, strings: guards hold their value, and nothing is behind them
  nothing,  // nothing that a call depends on
  tensor,
  function,
  method,
  jitted,
  cached,   // functools.cache
  partial,  // functools.partial
  tuple,
  list,
  dict,
  elements,  // set, deque, bytearray, array
  holder,    // views of a dict: what is behind them counts
  weak,      // a weak reference
  module_of_python,
  layer,
  optimizer,
  class_,
  instance,
  used_up  // an iterator, or a generator of random numbers: every use of it is another one
};

struct Class {
  Kind kind;
  std::vector<PyTypeObject*> own;  // it and its bases, without those whose code is known
  bool whole = false;              // UserDict and its like, whose code names the attributes that hold items
};

// Valid until the next call.
const Class& class_of(PyTypeObject* type);
// Whether code of that module needs no look: it is the package's, or a library's.
bool is_known_code(PyObject* module_name);
// What the code and the functions within it ask for. Interned.
struct Names {
  std::vector<PyObject*> all;  // with strings that may be names (getattr, hasattr)
  std::vector<PyObject*> globals;
  std::vector<PyObject*> imports;  // modules, of whatever level
};
// Valid until the next call.
const Names& names_of(PyCodeObject* code);

}  // namespace ts::python
