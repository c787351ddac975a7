// From Python arguments to C++ parameters and back: one `Convert<T>` for each type that operations take.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "ops/check.h"
#include "ops/elementwise.h"
#include "python/tensor.h"

namespace ts::python {

// What a conversion may need to name in an error, and to keep alive while the operation runs.
struct Argument {
  const char* operation;
  const char* name;
  PyObject* object;
  bool optional;  // the signature's default is None
};

std::int64_t integer_from(const Argument& a);  // anything with __index__; TypeError otherwise
double float_from(const Argument& a);
bool bool_from(const Argument& a);
Shape integers_from(const Argument& a);               // an integer or a sequence of them
std::optional<Scalar> scalar_from(PyObject* object);  // a Python or NumPy number

bool is_ndarray(PyObject* object);
bool is_numpy_scalar(PyObject* object);

Device device_from(const char* operation,
                   PyObject* object);  // "cpu", "cuda" or "cuda:0"; ValueError otherwise

enum class Role { attribute, tensor, tensors };

template <class T>
struct Convert;

template <>
struct Convert<Array> {
  static constexpr Role role = Role::tensor;
  Array held;
  const Array& operator()(const Argument& a) {
    if (is_tensor(a.object)) return array_of(a.object);
    if (a.object == Py_None && a.optional) return held;
    held = array_from(a.operation, a.object, true);
    return held;
  }
};

// The destination of an in-place operation: a tensor, nothing that would need a copy.
template <>
struct Convert<Array&> {
  static constexpr Role role = Role::tensor;
  Array& operator()(const Argument& a) {
    if (!is_tensor(a.object))
      type_error(a.operation, ": ", a.name, " must be a tensor, got ", Py_TYPE(a.object)->tp_name);
    return array_of(a.object);
  }
};

template <>
struct Convert<Operand> {
  static constexpr Role role = Role::tensor;
  Array held;
  Operand operator()(const Argument& a) {
    if (is_tensor(a.object)) return Operand(array_of(a.object));
    if (const auto scalar = scalar_from(a.object)) return Operand(*scalar);
    held = array_from(a.operation, a.object, true);
    return Operand(held);
  }
};

template <>
struct Convert<std::vector<Array>> {
  static constexpr Role role = Role::tensors;
  std::vector<Array> operator()(const Argument& a);
};

template <>
struct Convert<std::int64_t> {
  static constexpr Role role = Role::attribute;
  std::int64_t operator()(const Argument& a) { return integer_from(a); }
};
template <>
struct Convert<double> {
  static constexpr Role role = Role::attribute;
  double operator()(const Argument& a) { return float_from(a); }
};
template <>
struct Convert<bool> {
  static constexpr Role role = Role::attribute;
  bool operator()(const Argument& a) { return bool_from(a); }
};
template <>
struct Convert<Scalar> {
  static constexpr Role role = Role::attribute;
  Scalar operator()(const Argument& a) {
    if (const auto s = scalar_from(a.object)) return *s;
    type_error(a.operation, ": ", a.name, " must be a number, got ", Py_TYPE(a.object)->tp_name);
  }
};
template <>
struct Convert<std::string> {
  static constexpr Role role = Role::attribute;
  std::string operator()(const Argument& a) {
    if (!PyUnicode_Check(a.object))
      type_error(a.operation, ": ", a.name, " must be a string, got ", Py_TYPE(a.object)->tp_name);
    return PyUnicode_AsUTF8(a.object);
  }
};
template <>
struct Convert<DType> {
  static constexpr Role role = Role::attribute;
  DType operator()(const Argument& a) { return dtype_from(a.operation, a.object); }
};
template <>
struct Convert<Device> {
  static constexpr Role role = Role::attribute;
  Device operator()(const Argument& a) { return device_from(a.operation, a.object); }
};
// A shape or any other list of integers; one integer stands for a list of one.
template <>
struct Convert<Shape> {
  static constexpr Role role = Role::attribute;
  Shape operator()(const Argument& a) { return integers_from(a); }
};
template <>
struct Convert<Axes> {
  static constexpr Role role = Role::attribute;
  Axes operator()(const Argument& a) {
    if (a.object == Py_None) return Axes{};
    return Axes{false, integers_from(a)};
  }
};
template <class T>
struct Convert<std::optional<T>> {
  static constexpr Role role = Role::attribute;
  std::optional<T> operator()(const Argument& a) {
    if (a.object == Py_None) return std::nullopt;
    return Convert<T>{}(a);
  }
};

// The parameter type as the table above spells it: Array& stays (a destination), const Array& is an Array.
template <class P>
using Spelled =
    std::conditional_t<std::is_same_v<P, Array&>, Array&, std::remove_cv_t<std::remove_reference_t<P>>>;

}  // namespace ts::python
