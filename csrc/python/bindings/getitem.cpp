#include "ops/getitem.h"

#include "python/bindings.h"

namespace ts::python {

namespace {

bool is_basic_item(PyObject* o) {
  return (PyLong_Check(o) && !PyBool_Check(o)) || PySlice_Check(o) || o == Py_None || o == Py_Ellipsis;
}

void append(std::vector<ops::Index>& items, PyObject* o) {
  if (o == Py_None) {
    items.push_back({ops::Index::new_axis});
  } else if (o == Py_Ellipsis) {
    items.push_back({ops::Index::ellipsis});
  } else if (PySlice_Check(o)) {
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(o, &start, &stop, &step) < 0) throw PythonError{};
    items.push_back({ops::Index::slice, start, stop, step});
  } else {
    const Py_ssize_t i = PyNumber_AsSsize_t(o, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred()) throw PythonError{};
    items.push_back({ops::Index::integer, i});
  }
}

}  // namespace

bool is_basic_key(PyObject* key) {
  if (!PyTuple_Check(key)) return is_basic_item(key);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); ++i)
    if (!is_basic_item(PyTuple_GET_ITEM(key, i))) return false;
  return true;
}

template <>
struct Convert<ops::Key> {
  static constexpr Role role = Role::attribute;
  ops::Key operator()(const Argument& a) {
    ops::Key key;
    if (PyTuple_Check(a.object))
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(a.object); ++i)
        append(key.items, PyTuple_GET_ITEM(a.object, i));
    else
      append(key.items, a.object);
    return key;
  }
};

void bind_getitem(PyObject* m) {
  add_op(m, "getitem(x, key, /)", &ops::getitem);
  add_op(m, "setitem_(x, key, value, /)", &ops::setitem_).moves = true;
  add_op(m, "setitem(x, key, value, /)", &ops::setitem);
  add_op(m, "getitem_backward(dy, key, shape, /) -> dx", &ops::getitem_backward);
}

}  // namespace ts::python
