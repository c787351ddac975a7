// The attributes and methods of a tensor that Python reaches by name.
#include "ops/device.h"
#include "ops/manipulate.h"
#include "python/autograd.h"
#include "python/jit.h"
#include "python/op.h"
#include "python/tensor_slots.h"

namespace ts::python {

namespace {

// item(), item(5) and item(1, 2).
PyObject* item_at(PyObject* self, PyObject* index) {
  const Py_ssize_t count = PyTuple_GET_SIZE(index);
  if (count == 0) return item(self, nullptr);
  PyObject* key = count == 1 ? PyTuple_GET_ITEM(index, 0) : index;
  return guarded([&]() -> PyObject* {
    Ref from = Ref::share(self);
    if (!PyTuple_Check(key)) {
      if (!PyIndex_Check(key))
        type_error("item: an index must be an integer or a tuple of integers, got ", Py_TYPE(key)->tp_name);
      from = checked(PyObject_CallMethod(self, "reshape", "i", -1));
    }
    const Ref element = checked(PyObject_GetItem(from.get(), key));
    return is_tensor(element.get()) ? item(element.get(), nullptr) : nullptr;
  });
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

PyObject* get_address(PyObject* self, void*) { return PyLong_FromVoidPtr(array_of(self).data()); }

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
    if (!PyCallable_Check(hook))
      type_error("register_hook: hook must be callable, got ", Py_TYPE(hook)->tp_name);
    if (!tracks_gradient(self)) runtime_error("register_hook: the tensor does not require a gradient");
    Autograd& a = autograd_of(self);
    Ref* hooks = &a.hooks;
    if (a.node) {
      auto& all = as_node(a.node.get())->hooks;
      if (all.size() <= static_cast<std::size_t>(a.output))
        all.resize(static_cast<std::size_t>(a.output) + 1);
      hooks = &all[static_cast<std::size_t>(a.output)];
    }
    if (!*hooks) *hooks = checked(PyList_New(0));
    if (PyList_Append(hooks->get(), hook) < 0) throw PythonError{};
    return Py_NewRef(hooks->get());
  });
}

}  // namespace

PyGetSetDef tensor_attributes[] = {
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
    {"_address", get_address, nullptr, "Where the first element lies.", nullptr},
    {"_read_only", get_read_only, nullptr, "Whether the memory refuses writes.", nullptr},
    {}};

PyMethodDef tensor_methods[] = {
    {"reshape", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(tensor_reshape)), METH_FASTCALL,
     "reshape(self, *shape)\n--\n\nThe elements in another shape, a view where possible; one extent may be "
     "-1."},
    {"item", item_at, METH_VARARGS,
     "item(self, *index)\n--\n\nThe one element, or that at a flat position or at coordinates, as a Python "
     "number; ValueError unless it is one."},
    {"detach", detach, METH_NOARGS, "The same memory without a gradient history."},
    {"is_contiguous", is_contiguous, METH_NOARGS, "Whether the elements lie row-major without gaps."},
    {"_share", share, METH_O, "Become a view of another tensor's memory."},
    {"_register_hook", register_hook, METH_O, "Append a gradient hook; the list that holds it."},
    {}};

}  // namespace ts::python
