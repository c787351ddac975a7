#include "ops/getitem.h"

#include "python/bindings.h"

namespace ts::python {

namespace {

// Whether the item is no array: an integer (NumPy's too), a slice, None or Ellipsis.
bool is_basic_item(PyObject* o) {
  if (PyLong_Check(o)) return !PyBool_Check(o);
  return PySlice_Check(o) || o == Py_None || o == Py_Ellipsis ||
         (PyIndex_Check(o) && !is_tensor(o) && !is_ndarray(o));
}

constexpr const char* kIndices =
    "an index is made of integers, slices, ..., None and arrays of integers or booleans";

// An index that is an array, of an item that is read or written. What cannot be one at all is an IndexError,
// as in NumPy.
Array index_array(PyObject* o, bool share) {
  // Their bytes would be read as numbers.
  if (PyBytes_Check(o) || PyByteArray_Check(o))
    index_error("index: ", kIndices, ", got a ", Py_TYPE(o)->tp_name);
  try {
    return array_from("index", o, share);
  } catch (const Error& error) {
    if (error.kind != ErrorKind::type) throw;
    index_error(error.what(), "; ", kIndices);
  }
}

void append(ops::Key& key, PyObject* o) {
  if (PyLong_CheckExact(o) || (is_basic_item(o) && PyIndex_Check(o))) {
    const Py_ssize_t i = PyNumber_AsSsize_t(o, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred()) throw PythonError{};
    key.push_back({ops::Index::integer, i});
  } else if (PySlice_Check(o)) {
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(o, &start, &stop, &step) < 0) throw PythonError{};
    key.push_back({ops::Index::slice, start, stop, step});
  } else if (o == Py_None) {
    key.push_back({ops::Index::new_axis});
  } else if (o == Py_Ellipsis) {
    key.push_back({ops::Index::ellipsis});
  } else if (is_tensor(o)) {
    key.push_back(array_of(o));
  } else {
    Array index = index_array(o, true);
    if (index.size() == 0 && (PyList_Check(o) || PyTuple_Check(o)))
      index = ops::astype(index, DType::int64, false);
    key.push_back(std::move(index));
  }
}

}  // namespace

bool is_basic_key(PyObject* key) {
  if (!PyTuple_Check(key)) return is_basic_item(key);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); ++i)
    if (!is_basic_item(PyTuple_GET_ITEM(key, i))) return false;
  return true;
}

Ref frozen_key(PyObject* key) {
  const auto frozen = [](PyObject* item) {
    return is_basic_item(item) ? Ref::share(item) : make_tensor(index_array(item, false));
  };
  if (!PyTuple_Check(key)) return frozen(key);
  Ref items = checked(PyTuple_New(PyTuple_GET_SIZE(key)));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); ++i)
    PyTuple_SET_ITEM(items.get(), i, frozen(PyTuple_GET_ITEM(key, i)).release());
  return items;
}

ops::Key key_from(PyObject* object) {
  ops::Key key;
  if (PyTuple_Check(object))
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) append(key, PyTuple_GET_ITEM(object, i));
  else
    append(key, object);
  return key;
}

template <>
struct Convert<ops::Key> {
  static constexpr Role role = Role::attribute;
  ops::Key operator()(const Argument& a) { return key_from(a.object); }
};

void bind_getitem(PyObject* m) {
  add_op(m, "getitem(x, key, /)", &ops::getitem);
  add_op(m, "setitem_(x, key, value, /)", &ops::setitem_).moves = true;
  add_op(m, "setitem(x, key, value, /)", &ops::setitem);
  add_op(m, "getitem_backward(dy, key, shape, /) -> dx", &ops::getitem_backward);
}

}  // namespace ts::python
