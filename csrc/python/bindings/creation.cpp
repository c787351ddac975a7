#include "ops/creation.h"

#include <limits>

#include "ops/device.h"
#include "python/bindings.h"

namespace ts::python {

namespace {

// Which diagonal: any Python integer, for beyond the corners all are alike.
struct Diagonal {
  std::int64_t k;
};

}  // namespace

template <>
struct Convert<Diagonal> {
  static constexpr Role role = Role::attribute;
  Diagonal operator()(const Argument& a) {
    int overflow = 0;
    if (PyLong_CheckExact(a.object)) PyLong_AsLongLongAndOverflow(a.object, &overflow);
    using Limits = std::numeric_limits<std::int64_t>;
    if (overflow) return {overflow > 0 ? Limits::max() : Limits::min()};
    return {integer_from(a)};
  }
};

namespace {

// zeros(2, 3), zeros((2, 3)) and NumPy's zeros((2, 3), "int64"), with dtype= and device=: what the operation
// of the arguments (shape, dtype, device) is called with.
template <const char* name>
PyObject* create(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  return guarded([&]() -> PyObject* {
    static Op& op = find_op(name);
    PyObject *shape = count > 0 ? args[0] : nullptr, *dtype = Py_None, *device = Py_None;
    const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    for (Py_ssize_t k = 0; k < named; ++k) {
      PyObject* const keyword = PyTuple_GET_ITEM(keywords, k);
      const auto is = [&](const char* text) { return PyUnicode_CompareWithASCIIString(keyword, text) == 0; };
      if (is("dtype"))
        dtype = args[count + k];
      else if (is("device"))
        device = args[count + k];
      else if (is("shape") && !shape)
        shape = args[count + k];
      else
        type_error(name, "(shape, *more, dtype=None, device=None) has no parameter '",
                   PyUnicode_AsUTF8(keyword), "' beside those given");
    }
    if (!shape) type_error(name, "(shape, *more, dtype=None, device=None): shape is missing");
    Ref extents;
    // int and numpy.int64 have the attribute as well, which their numbers use.
    if (count == 2 && (PyType_Check(args[1]) || !PyObject_HasAttrString(args[1], "__index__"))) {
      if (dtype == Py_None) dtype = args[1];
    } else if (count > 1) {
      extents = checked(PyTuple_New(count));
      for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(extents.get(), i, Py_NewRef(args[i]));
      shape = extents.get();
    }
    PyObject* arguments[] = {shape, dtype, device};
    return apply(op, arguments);
  });
}

template <const char* name>
void add_creator(PyObject* core, const char* doc) {
  static PyMethodDef method = {name,
                               reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(create<name>)),
                               METH_FASTCALL | METH_KEYWORDS, doc};
  static PyObject* const package = PyUnicode_InternFromString("tensorsmith");
  const Ref function = checked(PyCFunction_NewEx(&method, nullptr, package));
  if (PyModule_AddObjectRef(core, name, function.get()) < 0) throw PythonError{};
}

constexpr char kEmpty[] = "empty", kZeros[] = "zeros", kOnes[] = "ones";

}  // namespace

void bind_creation(PyObject* m) {
  // The conversion from Python is the whole operation.
  add_op(m, "asarray(x, /)", +[](const Array& x) { return Array(x); }).differentiable = false;
  add_op(m, "to_device(x, device)", &ops::to_device);
  add_op(m, "pin_memory(x)", &ops::pin).differentiable = false;
  Op& copy = add_op(m, "copy_async_(target, x)", &ops::copy_async);
  copy.differentiable = false;
  copy.moves = true;
  add_op(m, "empty(shape, dtype=None, device=None)", &ops::empty).differentiable = false;
  add_op(m, "zeros(shape, dtype=None, device=None)", &ops::zeros).differentiable = false;
  add_op(m, "ones(shape, dtype=None, device=None)", &ops::ones).differentiable = false;
  add_op(m, "full(shape, fill_value, dtype=None, device=None)", &ops::full);
  add_op(m, "empty_like(x, dtype=None, device=None)", &ops::empty_like).differentiable = false;
  add_op(m, "zeros_like(x, dtype=None, device=None)", &ops::zeros_like).differentiable = false;
  add_op(m, "ones_like(x, dtype=None, device=None)", &ops::ones_like).differentiable = false;
  add_op(m, "full_like(x, fill_value, dtype=None, device=None)", &ops::full_like).shape_only = 1;
  add_op(m, "arange(start, stop=None, step=1, dtype=None, device=None)", &ops::arange).differentiable = false;
  add_op(m, "ramp(start, step, count, device=None)", &ops::ramp).differentiable = false;
  add_op(
      m, "eye(rows, columns=None, k=0, dtype=None, device=None)",
      +[](std::int64_t rows, std::optional<std::int64_t> columns, Diagonal diagonal,
          std::optional<DType> dtype,
          std::optional<Device> device) { return ops::eye(rows, columns, diagonal.k, dtype, device); })
      .differentiable = false;
  add_op(m, "tril(x, k=0)", +[](const Array& x, Diagonal diagonal) { return ops::tril(x, diagonal.k); });
  add_op(m, "triu(x, k=0)", +[](const Array& x, Diagonal diagonal) { return ops::triu(x, diagonal.k); });
}

void add_creators(PyObject* core) {
  add_creator<kEmpty>(
      core,
      "empty(shape, *more, dtype=None, device=None)\n--\n\n"
      "A tensor whose contents are undefined: empty(2, 3) or empty((2, 3)); dtype defaults to "
      "float32.\n\nValueError for a negative extent, MemoryError for more memory than there is.");
  add_creator<kZeros>(core,
                      "zeros(shape, *more, dtype=None, device=None)\n--\n\n"
                      "A tensor of zeros: zeros(2, 3) or zeros((2, 3)); dtype defaults to float32.\n\n"
                      "ValueError for a negative extent, MemoryError for more memory than there is.");
  add_creator<kOnes>(core,
                     "ones(shape, *more, dtype=None, device=None)\n--\n\n"
                     "A tensor of ones: ones(2, 3) or ones((2, 3)); dtype defaults to float32.\n\n"
                     "ValueError for a negative extent, MemoryError for more memory than there is.");
}

}  // namespace ts::python
