#include "python/guard.h"

#include <cstring>

namespace ts::python {

namespace {

constexpr std::size_t kMostSteps = 16;  // of a path, for people

bool counts_by_value(PyObject* o) {
  return o && (PyFloat_CheckExact(o) || PyLong_CheckExact(o) || PyUnicode_CheckExact(o) ||
               PyBytes_CheckExact(o) || PyComplex_CheckExact(o));
}

Ref in_slot(PyObject* object, PyObject* descriptor) {
  PyObject* value = Py_TYPE(descriptor)->tp_descr_get(descriptor, object, nullptr);
  if (!value) PyErr_Clear();  // nothing is in it
  return Ref(value);
}

PyObject* under(PyObject* dict, PyObject* key) {
  PyObject* value = PyDict_GetItemWithError(dict, key);
  if (!value) PyErr_Clear();
  return value;
}

// The parts of a function that can be exchanged.
struct Exchangeable {
  PyObject* parts[3];
  explicit Exchangeable(PyObject* f)
      : parts{PyFunction_GET_CODE(f), PyFunction_GET_DEFAULTS(f), PyFunction_GET_KW_DEFAULTS(f)} {}
};

}  // namespace

Was::Was(PyObject* object) : object_(object), by_value_(counts_by_value(object)) {
  if (object && !is_tensor(object)) held_ = Ref::share(object);
}

bool Was::same_value(PyObject* now) const {
  if (!now || Py_TYPE(now) != Py_TYPE(object_)) return false;
  // Floats by their bits: -0.0 is not 0.0, and NaN is NaN.
  if (PyFloat_CheckExact(now)) {
    const double a = PyFloat_AS_DOUBLE(now), b = PyFloat_AS_DOUBLE(object_);
    return std::memcmp(&a, &b, sizeof(a)) == 0;
  }
  if (PyComplex_CheckExact(now)) {
    const Py_complex a = PyComplex_AsCComplex(now), b = PyComplex_AsCComplex(object_);
    return std::memcmp(&a, &b, sizeof(a)) == 0;
  }
  const int equal = PyObject_RichCompareBool(now, object_, Py_EQ);
  if (equal < 0) PyErr_Clear();
  return equal > 0;
}

Guards::Guards() {
  // Enough for a small model.
  guards_.reserve(64);
  tensors_.reserve(16);
  parts_.reserve(256);
  paths_.reserve(64);
}

int Guards::path(int from, Way way, PyObject* key, Py_ssize_t position) {
  paths_.push_back({from, way, Ref::share(key), position});
  return static_cast<int>(paths_.size()) - 1;
}

Guard& Guards::add(Guard::Kind kind, PyObject* container, PyObject* key, PyObject* was, int path) {
  return guards_.emplace_back(Guard{kind, path, Ref::share(container), Ref::share(key), Was(was), 0, 0});
}

void Guards::add_item(PyObject* dict, PyObject* key, int path) {
  add(Guard::item, dict, key, under(dict, key), path);
}

void Guards::add_truth(PyObject* dict, PyObject* key, int path) {
  PyObject* now = under(dict, key);
  add(Guard::truth, dict, key, now && PyObject_IsTrue(now) == 1 ? Py_True : Py_False, path);
}

void Guards::add_size(PyObject* dict, int path) {
  add(Guard::size, dict, nullptr, nullptr, path).count = static_cast<std::size_t>(PyDict_GET_SIZE(dict));
}

void Guards::add_table(PyObject* dict, Way way, int path) {
  Guard& g = add(Guard::table, dict, nullptr, nullptr, this->path(path, way, nullptr));
  g.first = parts_.size();
  g.count = static_cast<std::size_t>(PyDict_GET_SIZE(dict));
  PyObject *key, *value;
  for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) {
    parts_.emplace_back(key);
    parts_.emplace_back(value);
  }
}

void Guards::add_list(PyObject* list, int path) {
  Guard& g = add(Guard::list, list, nullptr, nullptr, path);
  g.first = parts_.size();
  g.count = static_cast<std::size_t>(PyList_GET_SIZE(list));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) parts_.emplace_back(PyList_GET_ITEM(list, i));
}

void Guards::add_elements(PyObject* container, int path) {
  Guard& g = add(Guard::elements, container, nullptr, nullptr, path);
  g.first = parts_.size();
  const Ref iterator = checked(PyObject_GetIter(container));
  while (PyObject* one = PyIter_Next(iterator.get())) parts_.emplace_back(Ref(one).get());
  if (PyErr_Occurred()) throw PythonError{};
  g.count = parts_.size() - g.first;
}

void Guards::add_cell(PyObject* cell, int path) { add(Guard::cell, cell, nullptr, PyCell_GET(cell), path); }

void Guards::add_slot(PyObject* object, PyObject* descriptor, int path) {
  add(Guard::slot, object, descriptor, in_slot(object, descriptor).get(), path);
}

void Guards::add_type(PyObject* object, int path) {
  add(Guard::type_of, object, nullptr, reinterpret_cast<PyObject*>(Py_TYPE(object)), path);
}

void Guards::add_function(PyObject* function, int path) {
  Guard& g = add(Guard::function, function, nullptr, nullptr, path);
  g.first = parts_.size();
  for (PyObject* part : Exchangeable(function).parts) parts_.emplace_back(part);
}

PyObject* hooks_of(PyObject* tensor) {
  const Autograd* a = as_tensor(tensor)->autograd;
  return a && a->hooks && PyList_GET_SIZE(a->hooks.get()) ? a->hooks.get() : nullptr;
}

void Guards::add_tensor(PyObject* tensor, int path) {
  const Array& x = array_of(tensor);
  const Autograd* a = as_tensor(tensor)->autograd;
  tensors_.push_back({path, checked(PyWeakref_NewRef(tensor, nullptr)), x.data(), x.dtype(),
                      a && a->requires_grad, hooks_of(tensor) != nullptr, x.shape(), x.strides()});
}

bool Guards::holds(const Guard& g) const {
  const Was* was = parts_.data() + g.first;
  PyObject* const container = g.container.get();
  switch (g.kind) {
    case Guard::item:
      return g.was.still(under(container, g.key.get()));
    case Guard::truth: {
      PyObject* now = under(container, g.key.get());
      return g.was.still(now && PyObject_IsTrue(now) == 1 ? Py_True : Py_False);
    }
    case Guard::size:
      return static_cast<std::size_t>(PyDict_GET_SIZE(container)) == g.count;
    case Guard::table: {
      if (static_cast<std::size_t>(PyDict_GET_SIZE(container)) != g.count) return false;
      PyObject *key, *value;
      for (Py_ssize_t at = 0; PyDict_Next(container, &at, &key, &value); was += 2)
        if (!was[0].still(key) || !was[1].still(value)) return false;
      return true;
    }
    case Guard::list:
      if (static_cast<std::size_t>(PyList_GET_SIZE(container)) != g.count) return false;
      for (std::size_t i = 0; i < g.count; ++i)
        if (!was[i].still(PyList_GET_ITEM(container, static_cast<Py_ssize_t>(i)))) return false;
      return true;
    case Guard::elements: {
      const Ref iterator(PyObject_GetIter(container));
      std::size_t i = 0;
      while (Ref now = Ref(iterator ? PyIter_Next(iterator.get()) : nullptr))
        if (i == g.count || !was[i++].still(now.get())) return false;
      PyErr_Clear();
      return i == g.count;
    }
    case Guard::cell:
      return g.was.still(PyCell_GET(container));
    case Guard::slot:
      return g.was.still(in_slot(container, g.key.get()).get());
    case Guard::type_of:
      return g.was.still(reinterpret_cast<PyObject*>(Py_TYPE(container)));
    case Guard::function:
      for (PyObject* part : Exchangeable(container).parts)
        if (!was++->still(part)) return false;
      return true;
  }
  return false;
}

bool Guards::holds(const TensorGuard& g) {
  PyObject* tensor = PyWeakref_GetObject(g.tensor.get());
  if (tensor == Py_None) return false;
  const Array& x = array_of(tensor);
  const Autograd* a = as_tensor(tensor)->autograd;
  return x.data() == g.data && x.dtype() == g.dtype && x.shape() == g.shape && x.strides() == g.strides &&
         (a && a->requires_grad) == g.requires_grad && (hooks_of(tensor) != nullptr) == g.hooked;
}

bool Guards::hold() const {
  for (const Guard& g : guards_)
    if (!holds(g)) return false;
  for (const TensorGuard& g : tensors_)
    if (!holds(g)) return false;
  return true;
}

std::string Guards::broken() const {
  for (const Guard& g : guards_)
    if (!holds(g)) return text(g);
  for (const TensorGuard& g : tensors_)
    if (!holds(g)) return text(g.path);
  return "";
}

namespace {

std::string words(PyObject* object) {
  const char* text = object ? PyUnicode_AsUTF8(object) : nullptr;
  if (!text) PyErr_Clear();
  return text ? text : "?";
}

std::string step(Guards::Way way, PyObject* key, Py_ssize_t position) {
  switch (way) {
    case Guards::name:
      return words(key);
    case Guards::attribute:
      return "." + words(key);
    case Guards::key:
      return "[" + words(Ref(PyObject_Repr(key)).get()) + "]";
    case Guards::position:
      return "[" + std::to_string(position) + "]";
  }
  return "";
}

}  // namespace

std::string Guards::text(int path) const {
  std::vector<int> steps;
  for (; path != kNowhere; path = paths_[static_cast<std::size_t>(path)].from) steps.push_back(path);
  std::string text;
  for (std::size_t i = steps.size(); i-- > 0;) {
    if (i + 1 < steps.size() && i >= kMostSteps) {
      i = kMostSteps;
      text += "...";
      continue;
    }
    const Path& p = paths_[static_cast<std::size_t>(steps[i])];
    text += step(p.way, p.key.get(), p.position);
  }
  return text;
}

// Of a dict or list, the first entry that is another one.
std::string Guards::text(const Guard& g) const {
  const Was* was = parts_.data() + g.first;
  if (g.kind == Guard::table) {
    const Path& p = paths_[static_cast<std::size_t>(g.path)];  // its key is not known
    PyObject *key, *value;
    if (static_cast<std::size_t>(PyDict_GET_SIZE(g.container.get())) == g.count)
      for (Py_ssize_t at = 0; PyDict_Next(g.container.get(), &at, &key, &value); was += 2)
        if (was[0].still(key) && !was[1].still(value)) return text(p.from) + step(p.way, key, 0);
    return text(p.from);
  }
  if (g.kind == Guard::list && static_cast<std::size_t>(PyList_GET_SIZE(g.container.get())) == g.count)
    for (std::size_t i = 0; i < g.count; ++i)
      if (!was[i].still(PyList_GET_ITEM(g.container.get(), static_cast<Py_ssize_t>(i))))
        return text(g.path) + step(position, nullptr, static_cast<Py_ssize_t>(i));
  return text(g.path);
}

bool Guards::meet(const Storage* storage) const {
  for (const TensorGuard& g : tensors_)
    if (PyObject* tensor = PyWeakref_GetObject(g.tensor.get());
        tensor != Py_None && array_of(tensor).storage() == storage)
      return true;
  return false;
}

int Guards::traverse(visitproc visit, void* arg) const {
  for (const Guard& g : guards_) {
    Py_VISIT(g.container.get());
    Py_VISIT(g.key.get());
    Py_VISIT(g.was.held());
  }
  for (const TensorGuard& g : tensors_) Py_VISIT(g.tensor.get());
  for (const Was& was : parts_) Py_VISIT(was.held());
  for (const Path& p : paths_) Py_VISIT(p.key.get());
  return 0;
}

}  // namespace ts::python
