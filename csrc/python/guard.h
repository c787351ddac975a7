// Guards: what a recording took for granted about the Python objects around it, looked at before every
// replay. None of them runs Python code.
#pragma once

#include <string>
#include <vector>

#include "python/tensor.h"

namespace ts::python {

// An object as it was: numbers and strings count by value, all others by identity. Tensors are not held, so
// that they may die; of each there is a guard of its own, which notices.
class Was {
 public:
  explicit Was(PyObject* object);
  bool still(PyObject* now) const { return now == object_ || (by_value_ && same_value(now)); }
  PyObject* held() const { return held_.get(); }

 private:
  bool same_value(PyObject* now) const;
  PyObject* object_;  // null: not there
  Ref held_;
  bool by_value_;
};

struct Guard {
  enum Kind {
    item,      // of a dict: the same under this key
    truth,     // of a dict: as true or false as it was
    size,      // of a dict
    table,     // a dict, whole
    list,      // a list, whole
    elements,  // of a set or deque, in their order
    cell,      // of a closure
    slot,      // an attribute that has a descriptor: the key
    type_of,
    function  // its code and what its parameters are by default
  } kind;
  int path;
  Ref container, key;
  Was was;
  std::size_t first = 0, count = 0;  // of `parts_`: what was in it
};

// A tensor: where it lies, and how.
struct TensorGuard {
  int path;
  Ref tensor;  // a weak reference
  const void* data;
  DType dtype;
  bool requires_grad, hooked;
  Shape shape, strides;
};
// The hooks on the gradient of a leaf, a list, or null where there are none.
PyObject* hooks_of(PyObject* tensor);

class Guards {
 public:
  // How people find an object: by name, or from another one, as its attribute, under a key, at a position.
  enum Way { name, attribute, key, position };
  struct Path {
    int from;
    Way way;
    Ref key;
    Py_ssize_t position;
  };
  static constexpr int kNowhere = -1;

  Guards();
  int path(int from, Way way, PyObject* key, Py_ssize_t position = 0);

  void add_item(PyObject* dict, PyObject* key, int path);  // may be absent
  void add_truth(PyObject* dict, PyObject* key, int path);
  void add_size(PyObject* dict, int path);
  void add_table(PyObject* dict, Way way, int path);
  void add_list(PyObject* list, int path);
  void add_elements(PyObject* container, int path);
  void add_cell(PyObject* cell, int path);
  void add_slot(PyObject* object, PyObject* descriptor, int path);
  void add_type(PyObject* object, int path);
  void add_function(PyObject* function, int path);
  void add_tensor(PyObject* tensor, int path);

  bool hold() const;
  // For people: what no longer holds first, or "".
  std::string broken() const;
  // A tensor among them lies in this storage.
  bool meet(const Storage* storage) const;
  int traverse(visitproc visit, void* arg) const;
  std::string text(int path) const;

 private:
  Guard& add(Guard::Kind kind, PyObject* container, PyObject* key, PyObject* was, int path);
  bool holds(const Guard& g) const;
  static bool holds(const TensorGuard& g);
  std::string text(const Guard& g) const;

  std::vector<Guard> guards_;
  std::vector<TensorGuard> tensors_;
  std::vector<Was> parts_;
  std::vector<Path> paths_;
};

}  // namespace ts::python
