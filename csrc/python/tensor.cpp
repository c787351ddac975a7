// The Tensor type: its memory, its attributes and its operators. Everything else about it is in tensor.py.
#include "python/tensor.h"

#include <algorithm>

#include "core/half.h"
#include "core/watch.h"
#include "ops/device.h"
#include "ops/getitem.h"
#include "ops/manipulate.h"
#include "python/autograd.h"
#include "python/jit.h"
#include "python/op.h"

namespace ts::python {

constexpr int kQuickRank = 6;  // as many axes as a Shape holds inline

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

// A tensor whose array is still to be made. Left untracked by the collector until it has something that can
// form a cycle (autograd_of).
TensorObject* new_tensor(bool shares_storage) {
  TensorObject* t;
  if (g_spare_count > 0) {
    t = as_tensor(g_spares[--g_spare_count]);
    PyObject_Init(reinterpret_cast<PyObject*>(t), g_tensor_type);
  } else {
    t = PyObject_GC_New(TensorObject, g_tensor_type);
    if (!t) throw PythonError{};
  }
  t->shares_storage = shares_storage;
  t->autograd = nullptr;
  t->weakrefs = nullptr;
  return t;
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

PyObject* item(PyObject* self, PyObject*) {
  return guarded([&] { return item_of(array_of(self)); });
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

// The key as a recording keeps it.
Ref recorded_key(PyObject* key) { return is_basic_key(key) ? Ref::share(key) : frozen_key(key); }

PyObject* view_or_copy(PyObject* self, Array y) {
  const bool shares = y.storage() == array_of(self).storage();
  if (shares) as_tensor(self)->shares_storage = true;
  TensorObject* t = new_tensor(shares);
  new (&t->array) Array(std::move(y));
  return reinterpret_cast<PyObject*>(t);
}

// --- the commonest keys: Python's own integers, slices of them, None and Ellipsis -------------------------

// Where a view lies: what ops::getitem would find.
struct Place {
  std::int64_t shape[kQuickRank], strides[kQuickRank], offset;
  int rank;
};

// False where the general way has to look at the key, or has something to say about it. Runs no Python code.
bool find_place(const Array& x, PyObject* const* items, Py_ssize_t count, Place& at) {
  const int ndim = x.ndim();
  if (ndim > kQuickRank || count > kQuickRank) return false;
  const auto plain = [](PyObject* o) { return o == Py_None || PyLong_CheckExact(o); };
  int axis = 0, out = 0;
  std::int64_t offset = x.offset();
  const std::int64_t *const shape = x.shape().data(), *const strides = x.strides().data();
  bool ellipsis = false;
  const auto keep = [&](int end) {
    for (; axis < end; ++axis, ++out) at.shape[out] = shape[axis], at.strides[out] = strides[axis];
  };
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const item = items[i];
    if (out == kQuickRank && !PyLong_CheckExact(item)) return false;
    if (PyLong_CheckExact(item)) {
      if (axis == ndim) return false;
      int overflow;
      std::int64_t index = PyLong_AsLongAndOverflow(item, &overflow);
      const std::int64_t extent = shape[axis];
      if (overflow || index < -extent || index >= extent) return false;
      offset += (index < 0 ? index + extent : index) * strides[axis++];
    } else if (PySlice_Check(item)) {
      if (axis == ndim) return false;
      const auto* slice = reinterpret_cast<PySliceObject*>(item);
      if (!plain(slice->start) || !plain(slice->stop) || !plain(slice->step)) return false;
      if (slice->start == Py_None && slice->stop == Py_None && slice->step == Py_None) {
        keep(axis + 1);
        continue;
      }
      Py_ssize_t start, stop, step;
      if (PySlice_Unpack(item, &start, &stop, &step) < 0) {
        PyErr_Clear();
        return false;
      }
      const std::int64_t length = PySlice_AdjustIndices(shape[axis], &start, &stop, step);
      if (length > 0) offset += start * strides[axis];
      at.shape[out] = length, at.strides[out++] = strides[axis++] * step;
    } else if (item == Py_None) {
      at.shape[out] = 1, at.strides[out++] = 0;
    } else if (item == Py_Ellipsis && !ellipsis) {
      ellipsis = true;
      int after = 0;
      for (Py_ssize_t j = i + 1; j < count; ++j) after += items[j] != Py_None;
      if (ndim - after < axis || out + ndim - after - axis > kQuickRank) return false;
      keep(ndim - after);
    } else {
      return false;
    }
  }
  if (out + ndim - axis > kQuickRank) return false;
  keep(ndim);
  at.offset = offset, at.rank = out;
  return true;
}
bool find_place(const Array& x, PyObject* key, Place& at) {
  if (PyTuple_CheckExact(key)) return find_place(x, &PyTuple_GET_ITEM(key, 0), PyTuple_GET_SIZE(key), at);
  return find_place(x, &key, 1, at);
}
Array at_place(const Array& x, const Place& at) {
  return x.as_strided(Shape(at.shape, at.rank), Shape(at.strides, at.rank), at.offset);
}

PyObject* subscript(PyObject* self, PyObject* key) {
  return guarded([&]() -> PyObject* {
    if (g_grad_enabled && tracks_gradient(self)) {
      static Op& op = find_op("getitem");
      const Ref used = recorded_key(key);
      PyObject* arguments[] = {self, used.get()};
      return apply(op, arguments);
    }
    if (Place at; find_place(array_of(self), key, at)) {
      as_tensor(self)->shares_storage = true;
      TensorObject* t = new_tensor(true);
      new (&t->array) Array(at_place(array_of(self), at));
      return reinterpret_cast<PyObject*>(t);
    }
    const DeviceScope scope(array_of(self).device());
    return view_or_copy(self, ops::getitem(array_of(self), key_from(key)));
  });
}

// x[key] = scalar where the key names one element of the host's memory, without a kernel. False: not so, and
// nothing was done.
bool assign_element(Array& x, PyObject* key, const Scalar& value) {
  Place at;
  if (x.device() != Device::cpu || x.read_only() || ts::detail::watching() || !find_place(x, key, at) ||
      at.rank != 0 || x.self_overlaps())
    return false;
  const DType dtype = x.dtype();
  write_scalar("setitem", value, dtype,
               static_cast<char*>(x.storage()->data()) + at.offset * itemsize(dtype));
  x.storage()->bump();
  return true;
}

int assign_subscript(PyObject* self, PyObject* key, PyObject* value) {
  return guarded(
      [&] {
        if (!value) type_error("a tensor's elements cannot be deleted");
        const std::optional<Scalar> scalar = scalar_from(value);
        const bool recorded = g_grad_enabled && as_tensor(self)->autograd;
        if (scalar && !recorded && assign_element(array_of(self), key, *scalar)) return 0;
        const DeviceScope scope(array_of(self).device());
        // Lists take the target's dtype without a stop at the default float.
        Ref source = Ref::share(value);
        if (!scalar && !is_tensor(value)) source = make_tensor(array_from("setitem", value, true, false));
        const bool tracked = !scalar && tracks_gradient(source.get());
        if (recorded || (g_grad_enabled && tracked)) {
          static Op& op = find_op("setitem_");
          const Ref used = recorded_key(key);
          PyObject* arguments[] = {self, used.get(), source.get()};
          checked(apply(op, arguments));
          return 0;
        }
        Array& x = array_of(self);
        const Operand operand = scalar ? Operand(*scalar) : Operand(array_of(source.get()));
        if (Place at; find_place(x, key, at)) {
          Array target = at_place(x, at);
          ops::assign(x, target, operand);
        } else {
          ops::setitem_(x, key_from(key), operand);
        }
        return 0;
      },
      -1);
}

// reshape(2, 3) and reshape((2, 3)).
PyObject* tensor_reshape(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    static Op& op = find_op("reshape");
    Ref packed;
    PyObject* shape = count == 1 && !PyLong_Check(args[0]) ? args[0] : nullptr;
    if (!shape && !(g_grad_enabled && tracks_gradient(self)) && count <= kQuickRank) {
      Shape extents(static_cast<int>(count));
      bool plain = true;
      for (int i = 0; plain && i < count; ++i) {
        int overflow = 0;
        plain = PyLong_CheckExact(args[i]);
        if (plain) extents[i] = PyLong_AsLongAndOverflow(args[i], &overflow);
        plain &= overflow == 0;
      }
      if (plain) {
        const DeviceScope scope(array_of(self).device());
        return view_or_copy(self, ops::reshape(array_of(self), extents));
      }
    }
    if (!shape) {
      packed = checked(PyTuple_New(count));
      for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(packed.get(), i, Py_NewRef(args[i]));
      shape = packed.get();
    }
    PyObject* arguments[] = {self, shape};
    return apply(op, arguments);
  });
}

// --- attributes --------------------------------------------------------------------------------

constexpr char kPermuteDims[] = "permute_dims", kMatrixTranspose[] = "matrix_transpose";

PyObject* tuple_of(const Shape& values) {
  PyObject* tuple = PyTuple_New(values.rank());
  for (int i = 0; tuple && i < values.rank(); ++i) PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(values[i]));
  return tuple;
}

PyObject* get_shape(PyObject* self, void*) { return tuple_of(array_of(self).shape()); }
PyObject* get_strides(PyObject* self, void*) {
  Shape strides = array_of(self).strides();
  for (int i = 0; i < strides.rank(); ++i) strides[i] *= itemsize(array_of(self).dtype());
  return tuple_of(strides);
}
// The axes reversed (T), or the last two swapped (mT).
template <const char* operation>
PyObject* get_transposed(PyObject* self, void*) {
  return guarded([&]() -> PyObject* {
    const Array& x = array_of(self);
    if (x.ndim() < 2 || (g_grad_enabled && tracks_gradient(self))) {
      static Op& op = find_op(operation);
      PyObject* arguments[] = {self, Py_None};
      return apply(op, arguments);
    }
    if (operation == kMatrixTranspose || x.ndim() == 2)
      return view_or_copy(self, x.transpose(x.ndim() - 2, x.ndim() - 1));
    return view_or_copy(self, ops::permute_dims(x, Axes{}));
  });
}

PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(array_of(self).ndim()); }
PyObject* get_size(PyObject* self, void*) { return PyLong_FromLongLong(array_of(self).size()); }
PyObject* get_itemsize(PyObject* self, void*) {
  return PyLong_FromLongLong(itemsize(array_of(self).dtype()));
}
PyObject* get_nbytes(PyObject* self, void*) { return PyLong_FromLongLong(array_of(self).nbytes()); }
PyObject* get_dtype(PyObject* self, void*) { return dtype_object(array_of(self).dtype()).release(); }
PyObject* get_device(PyObject* self, void*) {
  return PyUnicode_InternFromString(name(array_of(self).device()));
}
PyObject* get_version(PyObject* self, void*) {
  return PyLong_FromUnsignedLong(array_of(self).storage()->version());
}
PyObject* get_read_only(PyObject* self, void*) { return PyBool_FromLong(array_of(self).read_only()); }

PyObject* get_requires_grad(PyObject* self, void*) { return PyBool_FromLong(tracks_gradient(self)); }
int set_requires_grad(PyObject* self, PyObject* value, void*) {
  return guarded(
      [&] {
        const int wanted = value ? PyObject_IsTrue(value) : 0;
        if (wanted < 0) throw PythonError{};
        const Autograd* a = as_tensor(self)->autograd;
        if (a && a->node) {
          if (!wanted) runtime_error("requires_grad: a computed tensor keeps its gradient; use .detach()");
          return 0;
        }
        if (wanted && !has_gradient(array_of(self).dtype()))
          type_error("requires_grad: only floating and complex dtypes have gradients, got ",
                     name(array_of(self).dtype()));
        if (wanted || a) autograd_of(self).requires_grad = wanted;
        return 0;
      },
      -1);
}
PyObject* get_grad(PyObject* self, void*) {
  touch_gradient(self, true);
  const Autograd* a = as_tensor(self)->autograd;
  return Py_NewRef(a && a->grad ? a->grad.get() : Py_None);
}
int set_row_sparse_grad(PyObject* self, PyObject* value) {
  const Array& x = array_of(self);
  const Ref shape = checked(PyObject_GetAttrString(value, "shape")),
            dtype = checked(PyObject_GetAttrString(value, "dtype"));
  if (integers_from(Argument{"grad", "shape", shape.get(), false}) != x.shape() ||
      dtype_from("grad", dtype.get()) != x.dtype())
    value_error("grad: must have the tensor's shape ", x.shape(), " and dtype ", name(x.dtype()));
  autograd_of(self).grad = Ref::share(value);
  return 0;
}
int set_grad(PyObject* self, PyObject* value, void*) {
  return guarded(
      [&] {
        touch_gradient(self, false);
        if (!value || value == Py_None) {
          if (Autograd* a = as_tensor(self)->autograd) a->grad = Ref();
          return 0;
        }
        if (!is_gradient(value)) type_error("grad: must be a tensor or None, got ", Py_TYPE(value)->tp_name);
        if (!is_tensor(value)) return set_row_sparse_grad(self, value);
        const Array &x = array_of(self), &g = array_of(value);
        if (g.shape() != x.shape() || g.dtype() != x.dtype())
          value_error("grad: must have the tensor's shape ", x.shape(), " and dtype ", name(x.dtype()),
                      ", got ", g.shape(), " and ", name(g.dtype()));
        autograd_of(self).grad = Ref::share(value);
        return 0;
      },
      -1);
}
PyObject* get_grad_fn(PyObject* self, void*) {
  const Autograd* a = as_tensor(self)->autograd;
  return Py_NewRef(a && a->node ? a->node.get() : Py_None);
}
PyObject* get_is_leaf(PyObject* self, void*) {
  const Autograd* a = as_tensor(self)->autograd;
  return PyBool_FromLong(!a || !a->node);
}

PyObject* detach(PyObject* self, PyObject*) {
  return guarded([&] {
    as_tensor(self)->shares_storage = true;
    Ref y = make_tensor(array_of(self));
    as_tensor(y.get())->shares_storage = true;
    return y.release();
  });
}

// _share(tensor): this object becomes another view of the tensor's memory. Used by Parameter and set_data.
PyObject* share(PyObject* self, PyObject* other) {
  return guarded([&]() -> PyObject* {
    if (!is_tensor(other)) type_error("_share: expected a tensor, got ", Py_TYPE(other)->tp_name);
    array_of(self) = array_of(other);
    Py_RETURN_NONE;
  });
}

PyObject* is_contiguous(PyObject* self, PyObject*) { return PyBool_FromLong(array_of(self).is_contiguous()); }

// _register_hook(callable): appends it to the hooks of this tensor's gradient; returns the list that holds
// it.
PyObject* register_hook(PyObject* self, PyObject* hook) {
  return guarded([&]() -> PyObject* {
    if (!tracks_gradient(self)) runtime_error("register_hook: the tensor does not require a gradient");
    Autograd& a = autograd_of(self);
    Ref* hooks = &a.hooks;
    if (a.node) {
      auto& all = reinterpret_cast<NodeObject*>(a.node.get())->hooks;
      if (all.size() <= static_cast<std::size_t>(a.output))
        all.resize(static_cast<std::size_t>(a.output) + 1);
      hooks = &all[static_cast<std::size_t>(a.output)];
    }
    if (!*hooks) *hooks = checked(PyList_New(0));
    if (PyList_Append(hooks->get(), hook) < 0) throw PythonError{};
    return Py_NewRef(hooks->get());
  });
}

PyGetSetDef getset[] = {
    {"shape", get_shape, nullptr, "The extents, a tuple of int.", nullptr},
    {"strides", get_strides, nullptr, "The distance in bytes between neighbours along each axis.", nullptr},
    {"T", get_transposed<kPermuteDims>, nullptr, "The axes in reverse order.", nullptr},
    {"mT", get_transposed<kMatrixTranspose>, nullptr, "The last two axes swapped.", nullptr},
    {"ndim", get_ndim, nullptr, "The number of axes.", nullptr},
    {"size", get_size, nullptr, "The number of elements.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes in an element.", nullptr},
    {"nbytes", get_nbytes, nullptr, "Bytes in all elements.", nullptr},
    {"dtype", get_dtype, nullptr, "The element type.", nullptr},
    {"device", get_device, nullptr, "Where the memory is: \"cpu\" or \"cuda\".", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad,
     "Whether gradients flow to or through this tensor.", nullptr},
    {"grad", get_grad, set_grad, "The gradient that backward accumulated, or None.", nullptr},
    {"grad_fn", get_grad_fn, nullptr, "The node of the graph that made this tensor, or None for a leaf.",
     nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Whether no recorded operation made this tensor.", nullptr},
    {"_version", get_version, nullptr, "How many times this tensor's memory was written.", nullptr},
    {"_read_only", get_read_only, nullptr, "Whether the memory refuses writes.", nullptr},
    {}};

PyMethodDef methods[] = {
    {"reshape", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(tensor_reshape)), METH_FASTCALL,
     "reshape(self, *shape)\n--\n\nThe elements in another shape, a view where possible; one extent may be "
     "-1."},
    {"item", item, METH_NOARGS, "The one element as a Python number; ValueError unless size is 1."},
    {"detach", detach, METH_NOARGS, "The same memory without a gradient history."},
    {"is_contiguous", is_contiguous, METH_NOARGS, "Whether the elements lie row-major without gaps."},
    {"_share", share, METH_O, "Become a view of another tensor's memory."},
    {"_register_hook", register_hook, METH_O, "Append a gradient hook; the list that holds it."},
    {}};

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weakrefs), READONLY, nullptr}, {}};

// --- buffer ------------------------------------------------------------------------------------

const char* format_of(DType d) {
  switch (d) {
    case DType::boolean:
      return "?";
    case DType::uint8:
      return "B";
    case DType::uint16:
      return "H";
    case DType::uint32:
      return "I";
    case DType::uint64:
      return "L";
    case DType::int8:
      return "b";
    case DType::int16:
      return "h";
    case DType::int32:
      return "i";
    case DType::int64:
      return "l";
    case DType::float16:
      return "e";
    case DType::float32:
      return "f";
    case DType::float64:
      return "d";
    case DType::complex64:
      return "Zf";
    case DType::complex128:
      return "Zd";
    default:
      return nullptr;
  }
}

// Shape and strides for the view's lifetime, and the storage: the tensor may get other memory meanwhile.
struct Export {
  StorageRef storage;
  Shape shape, strides;
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  try {
    const Array& x = array_of(self);
    view->obj = nullptr;
    if (tracks_gradient(self) && g_grad_enabled)
      buffer_error("a tensor that requires a gradient would lose it in another library; use .detach() first");
    if (x.device() != Device::cpu)
      buffer_error("the tensor is on ", name(x.device()),
                   ", whose memory only its kernels reach; use .cpu()");
    if (!format_of(x.dtype())) buffer_error("dtype ", name(x.dtype()), " has no buffer format");
    if ((flags & PyBUF_WRITABLE) && x.read_only()) buffer_error("the tensor's memory is read-only");
    // PyBUF_STRIDES holds the bit of PyBUF_ND, which alone asks for a shape and row-major memory.
    if (((flags & PyBUF_STRIDES) != PyBUF_STRIDES || (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS) &&
        !x.is_contiguous())
      buffer_error("the tensor is not contiguous");
    host_read("NumPy or another library", x.storage());
    auto* keep = new Export{x.storage_ref(), x.shape(), x.strides()};
    for (int i = 0; i < x.ndim(); ++i) keep->strides[i] *= itemsize(x.dtype());
    view->buf = x.data();
    view->obj = Py_NewRef(self);
    view->len = x.nbytes();
    view->itemsize = itemsize(x.dtype());
    view->readonly = x.read_only();
    view->ndim = x.ndim();
    view->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(format_of(x.dtype())) : nullptr;
    view->shape = (flags & PyBUF_ND) ? reinterpret_cast<Py_ssize_t*>(keep->shape.data()) : nullptr;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES
                        ? reinterpret_cast<Py_ssize_t*>(keep->strides.data())
                        : nullptr;
    view->suboffsets = nullptr;
    view->internal = keep;
    // Whoever holds the buffer can write at any time.
    as_tensor(self)->shares_storage = true;
    return 0;
  } catch (...) {
    translate_exception();
    return -1;
  }
}

void release_buffer(PyObject*, Py_buffer* view) { delete static_cast<Export*>(view->internal); }

}  // namespace

Ref make_tensor(Array array) {
  TensorObject* t = new_tensor(false);
  new (&t->array) Array(std::move(array));
  return Ref(reinterpret_cast<PyObject*>(t));
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
      {Py_tp_getset, getset},
      {Py_tp_methods, methods},
      {Py_tp_members, members},
      {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
      {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
      {Py_mp_length, reinterpret_cast<void*>(length)},
      {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
      {Py_mp_ass_subscript, reinterpret_cast<void*>(assign_subscript)},
      {Py_nb_add, reinterpret_cast<void*>(binary<"add">)},
      {Py_nb_subtract, reinterpret_cast<void*>(binary<"subtract">)},
      {Py_nb_multiply, reinterpret_cast<void*>(binary<"multiply">)},
      {Py_nb_true_divide, reinterpret_cast<void*>(binary<"divide">)},
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
