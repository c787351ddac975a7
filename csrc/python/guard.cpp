#include "python/guard.h"

#include <cstring>

#include "core/error.h"

namespace ts::python {

namespace {

bool same_value(PyObject* now, PyObject* expected) {
  if (now == expected) return true;
  if (!now || Py_TYPE(now) != Py_TYPE(expected)) return false;
  // Floats by their bits: -0.0 is not 0.0, and NaN is NaN.
  if (PyFloat_CheckExact(now)) {
    const double a = PyFloat_AS_DOUBLE(now), b = PyFloat_AS_DOUBLE(expected);
    return std::memcmp(&a, &b, sizeof(a)) == 0;
  }
  const int equal = PyObject_RichCompareBool(now, expected, Py_EQ);
  if (equal < 0) PyErr_Clear();
  return equal > 0;
}

PyObject* target(const Guard& g) { return g.weak ? PyWeakref_GetObject(g.expected.get()) : g.expected.get(); }

}  // namespace

bool Guard::holds() const {
  switch (kind) {
    case item:
      return PyDict_GetItemWithError(container.get(), key.get()) == target(*this);
    case equal_item:
      return same_value(PyDict_GetItemWithError(container.get(), key.get()), expected.get());
    case truth_item: {
      PyObject* now = PyDict_GetItemWithError(container.get(), key.get());
      return now && (PyObject_IsTrue(now) == 1) == (expected.get() == Py_True);
    }
    case dict_size:
      return PyDict_GET_SIZE(container.get()) == number;
    case list_item:
      return number < PyList_GET_SIZE(container.get()) &&
             PyList_GET_ITEM(container.get(), number) == target(*this);
    case list_size:
      return PyList_GET_SIZE(container.get()) == number;
    case cell:
      return PyCell_GET(container.get()) == target(*this);
    case equal_cell:
      return same_value(PyCell_GET(container.get()), expected.get());
    case memory: {
      PyObject* tensor = target(*this);
      if (tensor == Py_None) return false;
      const Array& x = array_of(tensor);
      const Autograd* a = as_tensor(tensor)->autograd;
      return x.data() == data && x.dtype() == dtype && x.shape() == shape && x.strides() == strides &&
             (a && a->requires_grad) == requires_grad;
    }
  }
  return false;
}

Guard make_guard(PyObject* const* description) {
  PyObject *container = description[1], *key = description[2], *expected = description[3];
  const long kind = PyLong_AsLong(description[0]);
  const char* path = PyUnicode_AsUTF8(description[4]);
  if (!path || (kind == -1 && PyErr_Occurred())) throw PythonError{};
  if (kind < Guard::item || kind > Guard::memory) value_error("jit: no guard of kind ", kind);
  Guard g;
  g.kind = static_cast<Guard::Kind>(kind);
  g.container = Ref::share(container);
  g.key = Ref::share(key);
  g.path = path;
  if (g.kind == Guard::dict_size || g.kind == Guard::list_size || g.kind == Guard::list_item)
    g.number = PyLong_AsSsize_t(key);
  if (is_tensor(expected)) {
    g.weak = true;
    g.expected = checked(PyWeakref_NewRef(expected, nullptr));
    if (g.kind == Guard::memory) {
      const Array& x = array_of(expected);
      const Autograd* a = as_tensor(expected)->autograd;
      g.data = x.data();
      g.dtype = x.dtype();
      g.shape = x.shape();
      g.strides = x.strides();
      g.requires_grad = a && a->requires_grad;
    }
  } else {
    g.expected = Ref::share(expected);
  }
  return g;
}

}  // namespace ts::python
