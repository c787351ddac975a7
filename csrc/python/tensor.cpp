// The Tensor type: its memory and its operators. What Python reaches by name is in attributes.cpp, and in
// tensor.py.

#include <algorithm>

#include "core/half.h"
#include "core/watch.h"
#include "ops/device.h"
#include "ops/getitem.h"
#include "ops/manipulate.h"
#include "python/autograd.h"
#include "python/jit.h"
#include "python/op.h"
#include "python/temporary.h"
#include "python/tensor_slots.h"

namespace ts::python {

PyTypeObject* g_tensor_base;
PyTypeObject* g_tensor_type;

namespace {

// The memory of the last few tensors that went, for the next ones: the interpreter's lock guards it.
constexpr int kSpares = 64;
PyObject* g_spares[kSpares];
int g_spare_count = 0;

void free_tensor(PyObject* self, PyTypeObject* type) {
#ifndef Py_GIL_DISABLED
  if (type == g_tensor_type && g_spare_count < kSpares)
    g_spares[g_spare_count++] = self;
  else
#endif
    type->tp_free(self);
  Py_DECREF(type);
}

void tensor_dealloc(PyObject* self) {
  TensorObject* t = as_tensor(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (t->weakrefs) PyObject_ClearWeakRefs(self);
  if (!t->autograd) {
    t->array.~Array();
    free_tensor(self, type);
    return;
  }
  // A long chain of nodes frees itself recursively; the trashcan bounds the depth.
  Py_TRASHCAN_BEGIN(self, tensor_dealloc) delete t->autograd;
  t->autograd = nullptr;
  t->array.~Array();
  free_tensor(self, type);
  Py_TRASHCAN_END
}

int tensor_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (const Autograd* a = as_tensor(self)->autograd) {
    Py_VISIT(a->node.get());
    Py_VISIT(a->grad.get());
    Py_VISIT(a->hooks.get());
  }
  return 0;
}

int tensor_clear(PyObject* self) {
  if (Autograd* a = as_tensor(self)->autograd) {
    a->node = Ref();
    a->grad = Ref();
    a->hooks = Ref();
  }
  return 0;
}

// Tensor(data, /, dtype=None): a copy of the data; subclasses (Parameter) share a tensor's memory through
// _share.
PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"", "dtype", nullptr};
    PyObject *data, *dtype = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Tensor", const_cast<char**>(names), &data, &dtype))
      return nullptr;
    Array array = array_from("Tensor", data);
    if (dtype != Py_None && dtype_from("Tensor", dtype) != array.dtype()) {
      const Ref plain = make_tensor(std::move(array));
      PyObject* call[] = {plain.get(), dtype, Py_True};
      const Ref cast = checked(apply(find_op("astype"), call));
      array = array_of(cast.get());
    }
    PyObject* self = type->tp_alloc(type, 0);
    if (!self) return nullptr;
    new (&as_tensor(self)->array) Array(std::move(array));
    return self;
  });
}

// --- operators ---------------------------------------------------------------------------------

// Numbers, tensors and what NumPy makes an array of; anything else gets its own say.
bool acceptable(PyObject* o) {
  return is_tensor(o) || PyFloat_Check(o) || PyLong_Check(o) || PyComplex_Check(o) || PyList_Check(o) ||
         PyTuple_Check(o) || PyObject_CheckBuffer(o) || PyObject_HasAttrString(o, "__array__");
}

template <std::size_t N>
struct Name {
  constexpr Name(const char (&text)[N]) { std::copy_n(text, N, value); }
  char value[N];
};

template <Name name>
PyObject* binary(PyObject* a, PyObject* b) {
  static Op& op = find_op(name.value);
  if (!acceptable(a) || !acceptable(b)) Py_RETURN_NOTIMPLEMENTED;
  PyObject* arguments[] = {a, b};
  return apply(op, arguments);
}

// The same, where the result can take the memory of an operand that goes.
template <Name name>
PyObject* arithmetic(PyObject* a, PyObject* b) {
  PyObject* const spent = spent_operand(a, b);
  if (!spent) return binary<name>(a, b);
  static Op& op = find_op(name.value);
  PyObject* arguments[] = {a, b};
  return guarded([&]() -> PyObject* {
    const DeviceScope scope(Device::cpu);
    return op.call_into(op, arguments, array_of(spent)) ? Py_NewRef(spent) : apply(op, arguments);
  });
}

template <Name name>
PyObject* unary(PyObject* a) {
  static Op& op = find_op(name.value);
  return apply(op, &a);
}

PyObject* power(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) Py_RETURN_NOTIMPLEMENTED;
  if (is_tensor(a) && PyLong_CheckExact(b) && PyLong_AsLong(b) == 2 && array_of(a).dtype() != DType::boolean)
    return unary<"square">(a);
  PyErr_Clear();  // an exponent beyond a long is power's business
  return binary<"power">(a, b);
}
PyObject* power_in_place(PyObject* a, PyObject* b, PyObject*) { return binary<"power_">(a, b); }
PyObject* positive(PyObject* a) { return Py_NewRef(a); }

PyObject* richcompare(PyObject* a, PyObject* b, int comparison) {
  switch (comparison) {
    case Py_EQ:
      if (!acceptable(b)) Py_RETURN_NOTIMPLEMENTED;
      return binary<"equal">(a, b);
    case Py_NE:
      if (!acceptable(b)) Py_RETURN_NOTIMPLEMENTED;
      return binary<"not_equal">(a, b);
    case Py_LT:
      return binary<"less">(a, b);
    case Py_LE:
      return binary<"less_equal">(a, b);
    case Py_GT:
      return binary<"greater">(a, b);
    default:
      return binary<"greater_equal">(a, b);
  }
}

Py_hash_t tensor_hash(PyObject* self) { return _Py_HashPointer(self); }

// The one element, as a Python number.
PyObject* item_of(const Array& x) {
  host_read("item", x.storage());
  if (x.device() != Device::cpu) return item_of(ops::to_device(x, Device::cpu));
  if (x.size() != 1)
    value_error("item: only a tensor with one element converts to a Python number, got shape ", x.shape());
  switch (x.dtype()) {
    case DType::boolean:
      return PyBool_FromLong(*x.data_as<std::uint8_t>() != 0);
    case DType::float32:
      return PyFloat_FromDouble(*x.data_as<float>());
    case DType::float64:
      return PyFloat_FromDouble(*x.data_as<double>());
    case DType::uint8:
      return PyLong_FromLong(*x.data_as<std::uint8_t>());
    case DType::uint16:
      return PyLong_FromLong(*x.data_as<std::uint16_t>());
    case DType::uint32:
      return PyLong_FromUnsignedLong(*x.data_as<std::uint32_t>());
    case DType::uint64:
      return PyLong_FromUnsignedLongLong(*x.data_as<std::uint64_t>());
    case DType::int8:
      return PyLong_FromLong(*x.data_as<std::int8_t>());
    case DType::int16:
      return PyLong_FromLong(*x.data_as<std::int16_t>());
    case DType::int32:
      return PyLong_FromLong(*x.data_as<std::int32_t>());
    case DType::int64:
      return PyLong_FromLongLong(*x.data_as<std::int64_t>());
    case DType::float16:
      return PyFloat_FromDouble(float_from_float16(x.data_as<Bits16>()->bits));
    case DType::bfloat16:
      return PyFloat_FromDouble(float_from_bfloat16(x.data_as<Bits16>()->bits));
    case DType::complex64: {
      const auto z = *x.data_as<ComplexBits<float>>();
      return PyComplex_FromDoubles(z.real, z.imag);
    }
    case DType::complex128: {
      const auto z = *x.data_as<ComplexBits<double>>();
      return PyComplex_FromDoubles(z.real, z.imag);
    }
  }
  return nullptr;
}

PyObject* to_int(PyObject* self) {
  const Ref number(item(self, nullptr));
  return number ? PyNumber_Long(number.get()) : nullptr;
}
PyObject* to_float(PyObject* self) {
  const Ref number(item(self, nullptr));
  return number ? PyNumber_Float(number.get()) : nullptr;
}
PyObject* to_index(PyObject* self) {
  return guarded([&]() -> PyObject* {
    const Array& x = array_of(self);
    if (is_floating(x.dtype()) || x.ndim() != 0)
      type_error("only a 0-d integer tensor can be used as an index, got dtype ", name(x.dtype()),
                 " and shape ", x.shape());
    const Ref number = checked(item_of(x));
    return PyNumber_Long(number.get());
  });
}
int to_bool(PyObject* self) {
  return guarded(
      [&] {
        const Array& x = array_of(self);
        if (x.size() != 1)
          value_error("the truth value of a tensor of shape ", x.shape(),
                      " is ambiguous; use .any(), .all() or compare one element");
        const Ref number = checked(item_of(x));
        return PyObject_IsTrue(number.get());
      },
      -1);
}

Py_ssize_t length(PyObject* self) {
  return guarded(
      [&] {
        const Array& x = array_of(self);
        if (x.ndim() == 0) type_error("len() of a 0-d tensor");
        return static_cast<Py_ssize_t>(x.shape(0));
      },
      Py_ssize_t{-1});
}

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weakrefs), READONLY, nullptr}, {}};

}  // namespace

// Left untracked by the collector until it has something that can form a cycle (autograd_of).
TensorObject* new_tensor(Array&& array, bool shares_storage) {
  TensorObject* t;
  if (g_spare_count > 0) {
    t = as_tensor(g_spares[--g_spare_count]);
    PyObject_Init(reinterpret_cast<PyObject*>(t), g_tensor_type);
  } else {
    t = PyObject_GC_New(TensorObject, g_tensor_type);
    if (!t) throw PythonError{};
  }
  new (&t->array) Array(std::move(array));
  t->shares_storage = shares_storage;
  t->autograd = nullptr;
  t->weakrefs = nullptr;
  return t;
}

Ref make_tensor(Array array) { return Ref(reinterpret_cast<PyObject*>(new_tensor(std::move(array), false))); }

PyObject* view_or_copy(PyObject* self, Array y) {
  const bool shares = y.storage() == array_of(self).storage();
  if (shares) as_tensor(self)->shares_storage = true;
  return reinterpret_cast<PyObject*>(new_tensor(std::move(y), shares));
}

PyObject* item(PyObject* self, PyObject*) {
  return guarded([&] { return item_of(array_of(self)); });
}

Autograd& autograd_of(PyObject* tensor) {
  TensorObject* t = as_tensor(tensor);
  if (!t->autograd) {
    t->autograd = new Autograd;
    if (!PyObject_GC_IsTracked(tensor)) PyObject_GC_Track(tensor);
  }
  return *t->autograd;
}

bool init_tensor(PyObject* module) {
  static PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(tensor_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(tensor_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(tensor_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(tensor_clear)},
      {Py_tp_richcompare, reinterpret_cast<void*>(richcompare)},
      {Py_tp_hash, reinterpret_cast<void*>(tensor_hash)},
      {Py_tp_getset, tensor_attributes},
      {Py_tp_methods, tensor_methods},
      {Py_tp_members, members},
      {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
      {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
      {Py_mp_length, reinterpret_cast<void*>(length)},
      {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
      {Py_mp_ass_subscript, reinterpret_cast<void*>(assign_subscript)},
      {Py_nb_add, reinterpret_cast<void*>(arithmetic<"add">)},
      {Py_nb_subtract, reinterpret_cast<void*>(arithmetic<"subtract">)},
      {Py_nb_multiply, reinterpret_cast<void*>(arithmetic<"multiply">)},
      {Py_nb_true_divide, reinterpret_cast<void*>(arithmetic<"divide">)},
      {Py_nb_floor_divide, reinterpret_cast<void*>(binary<"floor_divide">)},
      {Py_nb_remainder, reinterpret_cast<void*>(binary<"remainder">)},
      {Py_nb_power, reinterpret_cast<void*>(power)},
      {Py_nb_matrix_multiply, reinterpret_cast<void*>(binary<"matmul">)},
      {Py_nb_and, reinterpret_cast<void*>(binary<"bitwise_and">)},
      {Py_nb_or, reinterpret_cast<void*>(binary<"bitwise_or">)},
      {Py_nb_xor, reinterpret_cast<void*>(binary<"bitwise_xor">)},
      {Py_nb_lshift, reinterpret_cast<void*>(binary<"bitwise_left_shift">)},
      {Py_nb_rshift, reinterpret_cast<void*>(binary<"bitwise_right_shift">)},
      {Py_nb_inplace_add, reinterpret_cast<void*>(binary<"add_">)},
      {Py_nb_inplace_subtract, reinterpret_cast<void*>(binary<"subtract_">)},
      {Py_nb_inplace_multiply, reinterpret_cast<void*>(binary<"multiply_">)},
      {Py_nb_inplace_true_divide, reinterpret_cast<void*>(binary<"divide_">)},
      {Py_nb_inplace_floor_divide, reinterpret_cast<void*>(binary<"floor_divide_">)},
      {Py_nb_inplace_remainder, reinterpret_cast<void*>(binary<"remainder_">)},
      {Py_nb_inplace_power, reinterpret_cast<void*>(power_in_place)},
      {Py_nb_inplace_and, reinterpret_cast<void*>(binary<"bitwise_and_">)},
      {Py_nb_inplace_or, reinterpret_cast<void*>(binary<"bitwise_or_">)},
      {Py_nb_inplace_xor, reinterpret_cast<void*>(binary<"bitwise_xor_">)},
      {Py_nb_inplace_lshift, reinterpret_cast<void*>(binary<"bitwise_left_shift_">)},
      {Py_nb_inplace_rshift, reinterpret_cast<void*>(binary<"bitwise_right_shift_">)},
      {Py_nb_negative, reinterpret_cast<void*>(unary<"negative">)},
      {Py_nb_positive, reinterpret_cast<void*>(positive)},
      {Py_nb_absolute, reinterpret_cast<void*>(unary<"absolute">)},
      {Py_nb_invert, reinterpret_cast<void*>(unary<"bitwise_invert">)},
      {Py_nb_int, reinterpret_cast<void*>(to_int)},
      {Py_nb_float, reinterpret_cast<void*>(to_float)},
      {Py_nb_index, reinterpret_cast<void*>(to_index)},
      {Py_nb_bool, reinterpret_cast<void*>(to_bool)},
      {0, nullptr}};
  static PyType_Spec spec = {"tensorsmith._core.TensorBase", sizeof(TensorObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
  PyObject* type = PyType_FromSpec(&spec);
  if (!type) return false;
  g_tensor_base = g_tensor_type = reinterpret_cast<PyTypeObject*>(type);
  return PyModule_AddObjectRef(module, "TensorBase", type) == 0;
}

void set_tensor_type(PyTypeObject* type) {
  while (g_spare_count > 0) g_tensor_type->tp_free(g_spares[--g_spare_count]);
  g_tensor_type = type;
  // The class adds no memory of its own, so the base's way to free it serves, without the generic detour.
  type->tp_dealloc = tensor_dealloc;
}

}  // namespace ts::python
