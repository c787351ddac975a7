// Conversions from Python: numbers, shapes, dtypes, and arrays from whatever can be one.
#include "python/convert.h"

#include "core/recording.h"
#include "ops/device.h"
#include "ops/scalar.h"

#include <cstring>
#include <memory>
#include <string_view>

namespace ts::python {

namespace {
[[noreturn]] void wrong_type(const Argument& a, const char* wanted) {
  type_error(a.operation, ": ", a.name, " must be ", wanted, ", got ", Py_TYPE(a.object)->tp_name);
}

std::int64_t index_value(const Argument& a, PyObject* object) {
  const Ref number(PyNumber_Index(object));
  if (!number) {
    PyErr_Clear();
    wrong_type(a, "an integer or a sequence of integers");
  }
  int overflow;
  const long long value = PyLong_AsLongLongAndOverflow(number.get(), &overflow);
  if (overflow) value_error(a.operation, ": ", a.name, " does not fit 64 bits");
  return value;
}
}  // namespace

std::int64_t integer_from(const Argument& a) {
  if (PyLong_CheckExact(a.object)) {
    int overflow;
    const long long value = PyLong_AsLongLongAndOverflow(a.object, &overflow);
    if (overflow) value_error(a.operation, ": ", a.name, " does not fit 64 bits");
    return value;
  }
  if (PyBool_Check(a.object) || !PyIndex_Check(a.object)) wrong_type(a, "an integer");
  return index_value(a, a.object);
}

double float_from(const Argument& a) {
  if (PyFloat_CheckExact(a.object)) return PyFloat_AS_DOUBLE(a.object);
  const double value = PyFloat_AsDouble(a.object);
  if (value == -1.0 && PyErr_Occurred()) {
    PyErr_Clear();
    wrong_type(a, "a number");
  }
  return value;
}

bool bool_from(const Argument& a) {
  if (a.object == Py_True) return true;
  if (a.object == Py_False) return false;
  const int value = PyObject_IsTrue(a.object);
  if (value < 0) throw PythonError{};
  return value;
}

Shape integers_from(const Argument& a) {
  const bool several = PySequence_Check(a.object) || (is_tensor(a.object) && array_of(a.object).ndim() == 1);
  if (PyLong_Check(a.object) || (PyIndex_Check(a.object) && !several)) return Shape{index_value(a, a.object)};
  const Ref sequence(PyUnicode_Check(a.object) ? nullptr : PySequence_Fast(a.object, ""));
  if (!sequence) {
    PyErr_Clear();
    wrong_type(a, "an integer or a sequence of integers");
  }
  const Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence.get());
  if (n > kMaxRank)
    value_error(a.operation, ": ", a.name, " has ", n, " entries; at most ", kMaxRank, " are allowed");
  Shape shape(static_cast<int>(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    // An entry's __index__ may change the list.
    if (PySequence_Fast_GET_SIZE(sequence.get()) != n)
      value_error(a.operation, ": ", a.name, " changed while it was read");
    const Ref item = Ref::share(PySequence_Fast_GET_ITEM(sequence.get(), i));
    shape[static_cast<int>(i)] = index_value(a, item.get());
  }
  return shape;
}

namespace {
PyTypeObject* numpy_type(const char* name) {
  const Ref numpy = checked(PyImport_ImportModule("numpy"));
  return reinterpret_cast<PyTypeObject*>(checked(PyObject_GetAttrString(numpy.get(), name)).release());
}
}  // namespace

bool is_ndarray(PyObject* o) {
  static PyTypeObject* type = numpy_type("ndarray");
  return PyObject_TypeCheck(o, type);
}
bool is_numpy_scalar(PyObject* o) {
  static PyTypeObject* type = numpy_type("generic");
  return PyObject_TypeCheck(o, type);
}

std::optional<Scalar> scalar_from(PyObject* o) {
  if (PyFloat_CheckExact(o)) return Scalar::of(PyFloat_AS_DOUBLE(o));
  if (PyBool_Check(o)) return Scalar::of(o == Py_True);
  if (PyLong_CheckExact(o)) {
    int overflow;
    const long long value = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (!overflow) return Scalar::of(static_cast<std::int64_t>(value));
    const unsigned long long large = overflow > 0 ? PyLong_AsUnsignedLongLong(o) : 0;
    if (overflow > 0 && !PyErr_Occurred()) return Scalar::of(static_cast<std::uint64_t>(large));
    PyErr_Clear();
    const double rounded = PyLong_AsDouble(o);
    if (PyErr_Occurred()) {
      PyErr_Clear();
      overflow_error("a Python integer among the operands does not fit 64 bits, nor float64");
    }
    return beyond_64_bits(rounded);
  }
  if (PyComplex_CheckExact(o)) return Scalar::of(PyComplex_RealAsDouble(o), PyComplex_ImagAsDouble(o));
  return std::nullopt;
}

std::vector<Array> Convert<std::vector<Array>>::operator()(const Argument& a) {
  if (!PyList_Check(a.object) && !PyTuple_Check(a.object)) wrong_type(a, "a list or tuple of tensors");
  std::vector<Array> arrays;
  const Py_ssize_t n = PySequence_Fast_GET_SIZE(a.object);
  arrays.reserve(static_cast<std::size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    // An item's __array__ may change the list.
    if (PySequence_Fast_GET_SIZE(a.object) != n)
      value_error(a.operation, ": ", a.name, " changed while it was read");
    const Ref item = Ref::share(PySequence_Fast_GET_ITEM(a.object, i));
    if (item.get() == Py_None)
      arrays.emplace_back();
    else
      arrays.push_back(is_tensor(item.get()) ? array_of(item.get())
                                             : array_from(a.operation, item.get(), true));
  }
  return arrays;
}

Device device_from(const char* operation, PyObject* object) {
  const char* text = PyUnicode_Check(object) ? PyUnicode_AsUTF8(object) : nullptr;
  if (!text)
    type_error(operation, ": device must be a string, 'cpu' or 'cuda', got ", Py_TYPE(object)->tp_name);
  const std::string_view device = text;
  if (device == "cpu" || device == "cpu:0") return Device::cpu;
  if (device == "cuda" || device == "cuda:0") return Device::cuda;
  value_error(operation, ": device must be 'cpu' or 'cuda', got '", device, "'",
              device.substr(0, 5) == "cuda:" ? "; CUDA_VISIBLE_DEVICES chooses which GPU cuda is" : "");
}

// --- arrays from buffers -----------------------------------------------------------------------

namespace {

// The dtype of a buffer's format; native byte order only.
std::optional<DType> dtype_of_format(const char* format, Py_ssize_t itemsize) {
  const char* f = format ? format : "B";
  if (*f == '@' || *f == '=') ++f;
  const auto integer = [&](bool is_signed) -> std::optional<DType> {
    switch (itemsize) {
      case 1:
        return is_signed ? DType::int8 : DType::uint8;
      case 2:
        return is_signed ? DType::int16 : DType::uint16;
      case 4:
        return is_signed ? DType::int32 : DType::uint32;
      case 8:
        return is_signed ? DType::int64 : DType::uint64;
    }
    return std::nullopt;
  };
  if (f[0] && f[1] == 0) {
    switch (f[0]) {
      case '?':
        return DType::boolean;
      case 'b':
      case 'h':
      case 'i':
      case 'l':
      case 'q':
      case 'n':
        return integer(true);
      case 'B':
      case 'H':
      case 'I':
      case 'L':
      case 'Q':
      case 'N':
        return integer(false);
      case 'e':
        return DType::float16;
      case 'f':
        return DType::float32;
      case 'd':
        return DType::float64;
    }
  }
  if (f[0] == 'Z' && f[1] == 'f') return DType::complex64;
  if (f[0] == 'Z' && f[1] == 'd') return DType::complex128;
  return std::nullopt;
}

void release_py_buffer(void* owner) {
  // May be any thread, and the interpreter may be gone.
  if (!Py_IsInitialized()) return;
  const PyGILState_STATE state = PyGILState_Ensure();
  auto* buffer = static_cast<Py_buffer*>(owner);
  PyBuffer_Release(buffer);
  delete buffer;
  PyGILState_Release(state);
}

// The buffer's memory as an array that keeps it alive; nothing where the strides are not whole elements or
// the dtype has no place here.
std::optional<Array> adopt_buffer(PyObject* object) {
  struct Release {
    void operator()(Py_buffer* b) const {
      PyBuffer_Release(b);  // nothing where GetBuffer failed
      delete b;
    }
  };
  std::unique_ptr<Py_buffer, Release> buffer(new Py_buffer{});
  if (PyObject_GetBuffer(object, buffer.get(), PyBUF_RECORDS_RO) < 0) {
    // A tensor of ours that refuses has a reason to give.
    if (is_tensor(object)) throw PythonError{};
    PyErr_Clear();
    return std::nullopt;
  }
  const auto dtype = dtype_of_format(buffer->format, buffer->itemsize);
  bool fits =
      dtype && itemsize(*dtype) == buffer->itemsize && buffer->ndim <= kMaxRank &&
      reinterpret_cast<std::uintptr_t>(buffer->buf) % static_cast<std::uintptr_t>(buffer->itemsize) == 0;
  Shape shape(fits ? buffer->ndim : 0), strides(fits ? buffer->ndim : 0);
  std::int64_t low = 0, high = 0;
  bool empty = false;
  for (int i = 0; fits && i < buffer->ndim; ++i) {
    shape[i] = buffer->shape[i];
    empty |= shape[i] == 0;
    if (buffer->strides[i] % buffer->itemsize != 0) fits = false;
    strides[i] = buffer->strides[i] / buffer->itemsize;
    (strides[i] < 0 ? low : high) += (shape[i] - 1) * strides[i];
  }
  if (!fits) return std::nullopt;
  if (empty) low = high = 0;
  const std::int64_t item = buffer->itemsize;
  char* base = static_cast<char*>(buffer->buf) + low * item;
  const bool read_only = buffer->readonly;
  Storage* storage =
      Storage::adopt(base, empty ? 0 : (high - low + 1) * item, read_only, buffer.get(), release_py_buffer);
  buffer.release();
  return Array(StorageRef(storage), *dtype, shape, strides, -low);
}

// Numbers as they lie here: in this machine's order of bytes, aligned, and whole elements apart.
Ref plain_array(Ref array) {
  const Ref dtype = checked(PyObject_GetAttrString(array.get(), "dtype"));
  const Ref kind = checked(PyObject_GetAttrString(dtype.get(), "kind"));
  const char* letter = PyUnicode_AsUTF8(kind.get());
  if (!letter || !std::strchr("biufc", letter[0])) return array;
  const Ref native = checked(PyObject_CallMethod(dtype.get(), "newbyteorder", "s", "="));
  return checked(PyObject_CallMethod(array.get(), "astype", "Os", native.get(), "C"));
}

// NumPy's reading of the object: nested lists, scalars, __array__.
Ref numpy_array(const char* operation, PyObject* object) {
  static PyObject* ascontiguous = [] {
    const Ref numpy = checked(PyImport_ImportModule("numpy"));
    return checked(PyObject_GetAttrString(numpy.get(), "asarray")).release();
  }();
  Ref array(PyObject_CallOneArg(ascontiguous, object));
  if (!array) {
    // What the object's own __array__ says, and lists as NumPy sees them.
    if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError))
      throw PythonError{};
    if (!PyList_Check(object) && !PyTuple_Check(object)) throw PythonError{};
    PyErr_Clear();
    value_error(operation, ": cannot make an array of a ", Py_TYPE(object)->tp_name,
                ": nested lists must have rows of equal length and hold numbers");
  }
  return array;
}

bool has_array_interface(PyObject* object) {
  return PyObject_CheckBuffer(object) || PyObject_HasAttrString(object, "__array__") ||
         PyObject_HasAttrString(object, "__array_interface__");
}

// Whether NumPy calls the array's dtype by this name.
bool has_dtype(PyObject* array, const char* name) {
  const Ref dtype = checked(PyObject_GetAttrString(array, "dtype"));
  const Ref text = checked(PyObject_Str(dtype.get()));
  return PyUnicode_CompareWithASCIIString(text.get(), name) == 0;
}

// The precision of nested lists: of the floats among them that came with a dtype of their own (NumPy's
// scalars and arrays, tensors), whatever Python's numbers beside them, which NumPy reads as float64.
class Precision {
  bool typed_ = false, wide_ = false;  // wide: whatever NumPy says
  DType floats_ = DType::boolean;
  PyTypeObject* seen_ = nullptr;  // NumPy's scalars of this type have been counted

  void add(PyObject* object, int depth) {
    if (PyList_Check(object) || PyTuple_Check(object)) {
      if (depth == kMaxRank) return;  // a list may hold itself; NumPy refuses what is too deep
      for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); ++i) {
        const Ref item =
            Ref::share(PySequence_Fast_GET_ITEM(object, i));  // its attributes may change the list
        add(item.get(), depth + 1);
      }
      return;
    }
    if (PyFloat_CheckExact(object) || PyLong_Check(object) || PyComplex_CheckExact(object) ||
        Py_TYPE(object) == seen_ || !has_array_interface(object))
      return;
    const std::optional<Array> x = is_tensor(object) ? array_of(object) : adopt_buffer(object);
    if (is_numpy_scalar(object)) seen_ = Py_TYPE(object);
    if (!x || !has_gradient(x->dtype()))
      wide_ = true;
    else
      floats_ = typed_ ? promote(floats_, x->dtype()) : x->dtype(), typed_ = true;
  }

 public:
  explicit Precision(PyObject* object) { add(object, 0); }

  // What NumPy's float64 or complex128 becomes.
  DType of(DType found) const {
    if (wide_) return found;
    const DType real = !typed_ ? default_float() : is_complex(floats_) ? real_of(floats_) : floats_;
    return found == DType::float64 ? real : complex_of(real);
  }
};

}  // namespace

Array array_from(const char* operation, PyObject* object, bool share, bool narrow) {
  if (is_tensor(object)) {
    if (share) return array_of(object);
    const DeviceScope scope(array_of(object).device());
    return ops::contiguous(ops::copy(array_of(object)));
  }
  // What Python and NumPy hold goes where the operation computes.
  if (const Device device = g_device; device != Device::cpu) {
    const DeviceScope here(Device::cpu);
    return ops::to_device(array_from(operation, object, true, narrow), device);
  }
  if (const auto scalar = scalar_from(object)) {
    const Operand operand(*scalar);
    Array y = empty(operation, result_type(&operand, 1), Shape{});
    ops::copy_into(operation, *scalar, y);
    return y;
  }
  if (object == Py_None || PyUnicode_Check(object))
    type_error(operation, ": cannot make an array of ", object == Py_None ? "None" : "a string");
  // Bytes hold text as far as NumPy is concerned; here they are a buffer of uint8.
  std::optional<Array> adopted = PyObject_CheckBuffer(object) ? adopt_buffer(object) : std::nullopt;
  // A NumPy scalar cannot be written to, what is made of it can.
  if (adopted) return share && !is_numpy_scalar(object) ? *adopted : ops::contiguous(ops::copy(*adopted));
  const Ref array = numpy_array(operation, object);
  adopted = adopt_buffer(array.get());
  if (!adopted) {
    const Ref plain = plain_array(array);
    if (plain.get() != array.get()) adopted = adopt_buffer(plain.get());
  }
  if (!adopted && has_dtype(array.get(), "bfloat16")) {  // of ml_dtypes, which has no buffers
    const Ref bits = checked(PyObject_CallMethod(array.get(), "view", "s", "uint16"));
    adopted = adopt_buffer(bits.get());
    if (adopted) adopted = adopted->view_dtype(DType::bfloat16);
    if (adopted && !share) adopted = ops::contiguous(ops::copy(*adopted));
  }
  if (!adopted) {
    const Ref described = checked(PyObject_GetAttrString(array.get(), "dtype"));
    const Ref text = checked(PyObject_Str(described.get()));
    type_error(operation, ": cannot make an array of a ", Py_TYPE(object)->tp_name, " with NumPy dtype ",
               PyUnicode_AsUTF8(text.get()));
  }
  if (const DType d = adopted->dtype(); narrow && (d == DType::float64 || d == DType::complex128))
    if (const DType own = Precision(object).of(d); own != d) return ops::astype(*adopted, own, false);
  // NumPy's temporary belongs to nobody else. A recording may write to what it has seen being made.
  return current_capture() ? ops::copy(*adopted) : *adopted;
}

}  // namespace ts::python
