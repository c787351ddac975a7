#include "python/signature.h"

#include <sstream>

#include "ops/conv.h"
#include "ops/operand.h"
#include "python/autograd.h"
#include "python/convert.h"
#include "python/op.h"

namespace ts::python {

namespace {

constexpr int kMaxDepth = 32;

class Signer {
 public:
  Signature s;

  template <class T>
  void raw(const T& value) {
    s.key.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void text(PyObject* object) {
    Py_ssize_t size;
    const char* bytes = PyUnicode_AsUTF8AndSize(object, &size);
    if (!bytes) throw PythonError{};
    raw(size);
    s.key.append(bytes, static_cast<std::size_t>(size));
  }
  void repr(char mark, PyObject* object) {
    s.key += mark;
    raw(Py_TYPE(object));
    const Ref text_of = checked(PyObject_Repr(object));
    text(text_of.get());
  }

  void identity(PyObject* object) {
    s.key += 'o';
    raw(object);
    s.held.push_back(Ref::share(object));
  }

  // Of a container whose class is not Python's own: which class, and attributes beside its items.
  void own(PyObject* container, int depth) {
    raw(Py_TYPE(container));
    const Ref attributes(PyObject_GenericGetDict(container, nullptr));
    if (!attributes) PyErr_Clear();
    if (attributes && PyDict_Check(attributes.get()) && PyDict_GET_SIZE(attributes.get()))
      add(attributes.get(), depth + 1);
  }

  void tensor(PyObject* object) {
    const Array& x = array_of(object);
    // Its memory: that of an earlier leaf, how far apart, and whether ranges that differ run into each other.
    int alias = -1;
    for (std::size_t i = 0; i < s.leaves.size() && alias < 0; ++i) {
      const Array& other = array_of(s.leaves[i].get());
      if (other.storage() == x.storage())
        alias = static_cast<int>(i);
      else if (may_overlap(x, other))
        s.key += 'v', raw(i);
    }
    const Autograd* a = as_tensor(object)->autograd;
    s.key += 't';
    if (Py_TYPE(object) != g_tensor_type) raw(Py_TYPE(object));
    raw(x.dtype());
    raw(static_cast<char>(x.ndim()));
    s.key.append(reinterpret_cast<const char*>(x.shape().data()),
                 sizeof(std::int64_t) * static_cast<std::size_t>(x.ndim()));
    s.key.append(reinterpret_cast<const char*>(x.strides().data()),
                 sizeof(std::int64_t) * static_cast<std::size_t>(x.ndim()));
    s.key +=
        static_cast<char>((a && a->requires_grad ? 1 : 0) | (a && a->node ? 2 : 0) | (x.read_only() ? 4 : 0));
    if (a && a->hooks)
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(a->hooks.get()); ++i)
        identity(PyList_GET_ITEM(a->hooks.get(), i));
    raw(x.device());
    raw(alias);
    if (alias >= 0) raw(x.offset() - array_of(s.leaves[static_cast<std::size_t>(alias)].get()).offset());
    s.leaves.push_back(Ref::share(object));
  }

  void add(PyObject* o, int depth) {
    if (depth > kMaxDepth) type_error("jit: arguments are nested more than ", kMaxDepth, " deep");
    if (is_tensor(o)) {
      tensor(o);
    } else if (PyTuple_Check(o) || PyList_Check(o)) {
      s.key += PyTuple_Check(o) ? '(' : '[';
      if (!PyTuple_CheckExact(o) && !PyList_CheckExact(o)) own(o, depth);
      const Ref items = checked(PySequence_Tuple(o));
      raw(PyTuple_GET_SIZE(items.get()));
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items.get()); ++i)
        add(PyTuple_GET_ITEM(items.get(), i), depth + 1);
    } else if (PyDict_Check(o)) {
      s.key += '{';
      raw(PyDict_GET_SIZE(o));
      if (!PyDict_CheckExact(o)) own(o, depth);
      if (PyODict_Check(o)) {  // its order is not the dict's
        const Ref keys = checked(PySequence_Tuple(o));
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys.get()); ++i)
          add(PyTuple_GET_ITEM(keys.get(), i), depth + 1);
      }
      PyObject *key, *value;
      for (Py_ssize_t at = 0; PyDict_Next(o, &at, &key, &value);) {
        const Ref held_key = Ref::share(key), held_value = Ref::share(value);
        add(key, depth + 1);
        add(value, depth + 1);
      }
    } else if (o == Py_None || o == Py_True || o == Py_False || o == Py_Ellipsis) {
      s.key += 'c';
      raw(o);
    } else if (PyFloat_CheckExact(o)) {
      s.key += 'f';
      raw(PyFloat_AS_DOUBLE(o));
    } else if (PyLong_CheckExact(o)) {
      int overflow;
      const long long value = PyLong_AsLongLongAndOverflow(o, &overflow);
      if (overflow) return repr('i', o);
      s.key += 'l';
      raw(value);
    } else if (PyUnicode_CheckExact(o)) {
      s.key += 's';
      text(o);
    } else if (PyComplex_CheckExact(o) || PySlice_Check(o) || PyBytes_CheckExact(o) || is_numpy_scalar(o)) {
      repr('r', o);
    } else if (is_ndarray(o)) {
      const Ref shared = make_tensor(array_from("jit", o, true));
      tensor(shared.get());
    } else {
      identity(o);
    }
  }
};

}  // namespace

Signature sign(PyObject* args, PyObject* kwargs) {
  Signer signer;
  signer.s.key += static_cast<char>(g_grad_enabled | g_autocast << 1);
  signer.s.key += *ops::conv_algorithm_name();
  signer.raw(default_float());
  signer.raw(g_device);
  const Py_ssize_t count = PyTuple_GET_SIZE(args);
  signer.raw(count);
  for (Py_ssize_t i = 0; i < count; ++i) signer.add(PyTuple_GET_ITEM(args, i), 0);
  if (kwargs && PyDict_GET_SIZE(kwargs)) {
    // In their order, which **kwargs shows.
    PyObject *name, *value;
    for (Py_ssize_t at = 0; PyDict_Next(kwargs, &at, &name, &value);) {
      signer.s.key += '=';
      signer.text(name);
      signer.add(value, 0);
    }
  }
  return std::move(signer.s);
}

std::string describe(const Signature& s) {
  std::ostringstream text;
  for (std::size_t i = 0; i < s.leaves.size(); ++i) {
    const Array& x = array_of(s.leaves[i].get());
    text << (i ? ", " : "") << name(x.dtype()) << x.shape();
    if (!x.is_contiguous()) text << " strides " << x.strides();
  }
  return text.str();
}

Tree take_apart(PyObject* o, std::vector<Ref>& leaves, int depth) {
  if (depth > kMaxDepth) type_error("jit: the result is nested more than ", kMaxDepth, " deep");
  Tree tree;
  if (is_tensor(o)) {
    tree.kind = Tree::tensor;
    tree.leaf = static_cast<int>(leaves.size());
    leaves.push_back(Ref::share(o));
  } else if (PyTuple_Check(o) || PyList_CheckExact(o)) {
    tree.kind = PyTuple_Check(o) ? Tree::tuple : Tree::list;
    tree.object = Ref::share(reinterpret_cast<PyObject*>(Py_TYPE(o)));
    const Ref items = checked(PySequence_Tuple(o));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items.get()); ++i)
      tree.items.push_back(take_apart(PyTuple_GET_ITEM(items.get(), i), leaves, depth + 1));
  } else if (PyDict_CheckExact(o)) {
    tree.kind = Tree::dict;
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(o, &at, &key, &value);) {
      tree.keys.push_back(Ref::share(key));
      tree.items.push_back(take_apart(value, leaves, depth + 1));
    }
  } else {
    tree.object = Ref::share(o);
  }
  return tree;
}

Ref put_together(const Tree& tree, const std::vector<Ref>& leaves) {
  const auto size = static_cast<Py_ssize_t>(tree.items.size());
  switch (tree.kind) {
    case Tree::tensor:
      return leaves[static_cast<std::size_t>(tree.leaf)];
    case Tree::tuple: {
      Ref tuple = checked(PyTuple_New(size));
      for (Py_ssize_t i = 0; i < size; ++i)
        PyTuple_SET_ITEM(tuple.get(), i,
                         put_together(tree.items[static_cast<std::size_t>(i)], leaves).release());
      if (tree.object.get() == reinterpret_cast<PyObject*>(&PyTuple_Type)) return tuple;
      // A named tuple.
      const Ref make = checked(PyObject_GetAttrString(tree.object.get(), "_make"));
      return checked(PyObject_CallOneArg(make.get(), tuple.get()));
    }
    case Tree::list: {
      Ref list = checked(PyList_New(size));
      for (Py_ssize_t i = 0; i < size; ++i)
        PyList_SET_ITEM(list.get(), i,
                        put_together(tree.items[static_cast<std::size_t>(i)], leaves).release());
      return list;
    }
    case Tree::dict: {
      Ref dict = checked(PyDict_New());
      for (std::size_t i = 0; i < tree.items.size(); ++i)
        if (PyDict_SetItem(dict.get(), tree.keys[i].get(), put_together(tree.items[i], leaves).get()) < 0)
          throw PythonError{};
      return dict;
    }
    default:
      return tree.object;
  }
}

}  // namespace ts::python
