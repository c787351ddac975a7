// The Python object around an Array, written against the C API: making one is on every path, and costs 20 ns
// here.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <structmember.h>

#include <cxxabi.h>

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "core/array.h"

namespace ts::ops {
class Key;
}

namespace ts::python {

// An owned reference.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* owned) : p_(owned) {}
  static Ref share(PyObject* borrowed) {
    Py_XINCREF(borrowed);
    return Ref(borrowed);
  }
  Ref(const Ref& other) : p_(other.p_) { Py_XINCREF(p_); }
  Ref(Ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~Ref() { Py_XDECREF(p_); }
  PyObject* get() const { return p_; }
  PyObject* release() { return std::exchange(p_, nullptr); }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  PyObject* p_ = nullptr;
};

// A Python exception is set; unwinds to the next function that Python called.
struct PythonError {};

// The owned object, or PythonError where it is null.
inline Ref checked(PyObject* owned) {
  if (!owned) throw PythonError{};
  return Ref(owned);
}

// Calls into Python code. An interpreter that is shutting down ends its other threads (pthread_exit) where
// they ask for its lock: such a thread sleeps here until the process is gone, for our frames must not unwind
// without the lock.
template <class Call>
PyObject* into_python(Call&& call) {
  try {
    return call();
  } catch (abi::__forced_unwind&) {
    while (true) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// What a tensor knows of its place in the graph; most tensors know nothing and carry no record.
struct Autograd {
  bool requires_grad = false;      // a leaf that wants its gradient
  Ref node;                        // the Node that made it, or null
  int output = 0;                  // which of the node's outputs it is
  Ref grad;                        // Tensor or null
  Ref hooks;                       // list of callables on a leaf, or null
  std::uint32_t view_version = 0;  // of a recorded view: its storage's version when it was taken
};

struct TensorObject {
  PyObject_HEAD Array array;
  bool shares_storage;  // an operation made it as a view, or a view of it was made
  Autograd* autograd;
  PyObject* weakrefs;
};

// The C base class, and the Python class `Tensor` that results are made of.
extern PyTypeObject* g_tensor_base;
extern PyTypeObject* g_tensor_type;

inline bool is_tensor(PyObject* o) {
  return Py_TYPE(o) == g_tensor_type || PyType_IsSubtype(Py_TYPE(o), g_tensor_base);
}
inline TensorObject* as_tensor(PyObject* o) { return reinterpret_cast<TensorObject*>(o); }
inline Array& array_of(PyObject* o) { return as_tensor(o)->array; }

// A new Tensor around the array.
Ref make_tensor(Array array);
// The record, made if absent.
Autograd& autograd_of(PyObject* tensor);

// Part of a graph that gradients flow through.
inline bool tracks_gradient(PyObject* tensor) {
  const Autograd* a = as_tensor(tensor)->autograd;
  return a && (a->requires_grad || a->node);
}

// Runs `body`, turning C++ exceptions into Python ones; `failure` is what the C API expects then.
template <class Body, class Result = decltype(std::declval<Body>()())>
Result guarded(Body&& body, Result failure = Result{}) noexcept;
// Sets the Python exception for the C++ exception in flight.
void translate_exception() noexcept;

template <class Body, class Result>
Result guarded(Body&& body, Result failure) noexcept {
  try {
    return body();
  } catch (...) {
    translate_exception();
    return failure;
  }
}

// The Python object of a dtype (tensorsmith.DType instances, made in module.cpp), and back; TypeError where
// it names none.
Ref dtype_object(DType dtype);
DType dtype_from(const char* operation, PyObject* object);

// An array from whatever Python offers: a Tensor, a NumPy array, a buffer, a scalar or nested lists. Shares
// memory where it can when `share` is set. Lists of Python floats become the default float, or stay float64
// without `narrow`.
Array array_from(const char* operation, PyObject* object, bool share = false, bool narrow = true);

// What stands between the brackets.
ops::Key key_from(PyObject* object);
// Integers, slices, None, Ellipsis, and tuples of them.
bool is_basic_key(PyObject* key);
// The key with copies of its arrays, for a recording: whoever changes them later changes no gradient.
Ref frozen_key(PyObject* key);

// The Python class that results are made of: a subclass of TensorBase without memory of its own.
void set_tensor_type(PyTypeObject* type);

bool init_tensor(PyObject* module);
bool init_op(PyObject* module);
bool init_autograd(PyObject* module);

}  // namespace ts::python
