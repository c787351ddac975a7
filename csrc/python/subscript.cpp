// x[key] and x[key] = value. The commonest keys (Python's own integers, slices of them, None and Ellipsis)
// are found here, without a look at anything but the shape; the rest is ops::getitem's and ops::setitem_'s.
#include "core/watch.h"
#include "ops/device.h"
#include "ops/getitem.h"
#include "python/autograd.h"
#include "python/op.h"
#include "python/tensor_slots.h"

namespace ts::python {

namespace {

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

// The key as a recording keeps it.
Ref recorded_key(PyObject* key) { return is_basic_key(key) ? Ref::share(key) : frozen_key(key); }

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

}  // namespace

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
      return reinterpret_cast<PyObject*>(new_tensor(at_place(array_of(self), at), true));
    }
    const DeviceScope scope(array_of(self).device());
    return view_or_copy(self, ops::getitem(array_of(self), key_from(key)));
  });
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

}  // namespace ts::python
