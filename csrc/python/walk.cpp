#include "python/walk.h"

#include <deque>
#include <string_view>
#include <unordered_set>

#include "python/kinds.h"

namespace ts::python {

namespace {

PyObject* interned(const char* text) { return PyUnicode_InternFromString(text); }

struct Words {
  PyObject *name = interned("__name__"), *wrapped = interned("__wrapped__"), *self = interned("self"),
           *func = interned("func"), *args = interned("args"), *keywords = interned("keywords"),
           *param_groups = interned("param_groups"), *params = interned("params"),
           *momentum = interned("momentum"), *buckets = interned("_buckets"), *hyper = interned("hyper"),
           *state = interned("state"), *fget = interned("fget"), *in_method = interned("__func__"),
           *hooks = interned("hooks"), *package = interned("__package__"), *modules = interned("sys.modules");
};
const Words& words() {
  static const Words all;
  return all;
}

// The attributes of an object that has a dict of them, or null.
Ref attributes_of(PyObject* object) {
  PyObject* dict = PyObject_GenericGetDict(object, nullptr);
  if (!dict) PyErr_Clear();
  return dict && PyDict_Check(dict) ? Ref(dict) : (Py_XDECREF(dict), Ref());
}

Ref get(PyObject* object, PyObject* name) {
  PyObject* value = PyObject_GetAttr(object, name);
  if (!value) PyErr_Clear();
  return Ref(value);
}

// A member of a class that is a function, or the one in a property, a static method and the like.
Ref function_in(PyObject* member) {
  const auto in = [&](PyObject* name) {
    Ref inner = get(member, name);
    return inner && PyFunction_Check(inner.get()) ? std::move(inner) : Ref();
  };
  PyTypeObject* const type = Py_TYPE(member);
  if (type == &PyFunction_Type) return Ref::share(member);
  if (type == &PyProperty_Type) return in(words().fget);
  if (type == &PyStaticMethod_Type || type == &PyClassMethod_Type) return in(words().in_method);
  switch (class_of(type).kind) {
    case Kind::jitted:
    case Kind::cached:
      return in(words().wrapped);
    case Kind::nothing:
      return std::string_view(type->tp_name) == "cached_property" ? in(words().func) : Ref();
    default:
      return {};
  }
}

bool is_known_function(PyObject* function) {
  return is_known_code(reinterpret_cast<PyFunctionObject*>(function)->func_module);
}

// Of a layer's attributes: walked by themselves, or of no consequence to a call.
struct LayerNames {
  PyObject* hooked = interned("_hooked");
  PyObject* groups[3] = {interned("_parameters"), interned("_buffers"), interned("_modules")};
  PyObject* unused = interned("_non_persistent_buffers_set");
  PyObject* hooks[4] = {interned("_forward_pre_hooks"), interned("_forward_hooks"),
                        interned("_backward_pre_hooks"), interned("_backward_hooks")};
  bool apart(PyObject* name) const {
    return name == groups[0] || name == groups[1] || name == groups[2] || name == unused;
  }
  bool hook(PyObject* name) const {
    return name == hooks[0] || name == hooks[1] || name == hooks[2] || name == hooks[3];
  }
};
const LayerNames& layer_names() {
  static const LayerNames names;
  return names;
}

class Walk {
 public:
  explicit Walk(Guards& guards) : guards_(guards) {
    seen_.reserve(128);
    names_.reserve(128);
  }

  std::string refusal;

  void root(PyObject* function) {
    const Ref name = get(function, words().name);
    const bool named = name && PyUnicode_Check(name.get());
    const int path = guards_.path(Guards::kNowhere, Guards::name, named ? name.get() : words().self);
    if (PyFunction_Check(function)) {  // wherever it comes from
      seen_.insert(function);
      this->function(function, path);
    } else {
      follow(function, path);
    }
  }

  // Tensors, tuples, lists, dicts and numbers among the arguments are in the signature.
  void argument(PyObject* value, int from, Guards::Way way, PyObject* key, Py_ssize_t position, int depth) {
    const int path = guards_.path(from, way, key, position);
    if (depth > 32) return;
    if (PyTuple_Check(value)) {
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i)
        argument(PyTuple_GET_ITEM(value, i), path, Guards::position, nullptr, i, depth + 1);
    } else if (PyList_Check(value)) {
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); ++i)
        argument(PyList_GET_ITEM(value, i), path, Guards::position, nullptr, i, depth + 1);
    } else if (PyDict_Check(value)) {
      PyObject *name, *item;
      for (Py_ssize_t at = 0; PyDict_Next(value, &at, &name, &item);)
        argument(item, path, Guards::key, name, 0, depth + 1);
    } else if (is_tensor(value)) {
      if (PyObject* hooks = hooks_of(value)) follow(hooks, path, Guards::attribute, words().hooks);
      return;
    } else {
      return follow(value, path);
    }
    if (PyTuple_CheckExact(value) || PyList_CheckExact(value) || PyDict_CheckExact(value)) return;
    if (const Ref attributes = attributes_of(value))
      argument(attributes.get(), path, Guards::attribute, words().self, 0, depth + 1);
  }

  // Attributes come last: only then is it known which of them the code names.
  void finish() {
    do {
      while (!queue_.empty()) {
        const Found next = queue_.front();
        queue_.pop_front();
        look(next);
      }
      look_at_attributes();
    } while (!queue_.empty());
    for (const auto& [object, name, path] : used_if_named_)
      if (refusal.empty() && names_.count(name))
        refusal = used_up(object, guards_.path(path, Guards::attribute, name));
  }

 private:
  struct Found {
    PyObject* object;
    Kind kind;
    int path;
  };
  // A dict of which those names count that some code asks for; or the slots of an object.
  struct Named {
    Ref dict;
    int path;
    Guards::Way way;
    PyObject* slots_of = nullptr;
  };

  bool first(PyObject* object) { return seen_.insert(object).second; }

  void follow(PyObject* value, int path) {
    const Kind kind = class_of(Py_TYPE(value)).kind;
    if (kind != Kind::plain && kind != Kind::nothing && first(value)) queue_.push_back({value, kind, path});
  }
  void follow(PyObject* value, int from, Guards::Way way, PyObject* key, Py_ssize_t position = 0) {
    const Kind kind = class_of(Py_TYPE(value)).kind;
    if (kind != Kind::plain && kind != Kind::nothing && first(value))
      queue_.push_back({value, kind, guards_.path(from, way, key, position)});
  }

  void look(const Found& found) {
    const auto& [object, kind, path] = found;
    switch (kind) {
      case Kind::plain:
      case Kind::nothing:
        return;
      case Kind::tensor:
        guards_.add_tensor(object, path);
        if (PyObject* hooks = hooks_of(object)) follow(hooks, path, Guards::attribute, words().hooks);
        return;
      case Kind::function:
        if (is_known_function(object))
          closure(object);  // it may have been made around a user's (ts.grad)
        else
          function(object, path);
        return;
      case Kind::method:
        // A method's name may be an attribute's of something else (random.choice).
        if (class_of(Py_TYPE(PyMethod_GET_SELF(object))).kind != Kind::used_up)
          follow(PyMethod_GET_SELF(object), path);
        follow(PyMethod_GET_FUNCTION(object), path);
        return;
      case Kind::jitted:
      case Kind::cached:
        if (const Ref inner = get(object, words().wrapped)) follow(inner.get(), path);
        return;
      case Kind::partial: {
        const Ref function = get(object, words().func), args = get(object, words().args),
                  named = get(object, words().keywords);
        for (const Ref& part : {function, args, named})
          if (part) follow(part.get(), path);
        return;
      }
      case Kind::tuple:
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i)
          follow(PyTuple_GET_ITEM(object, i), path, Guards::position, nullptr, i);
        return own(object, path);
      case Kind::list:
        guards_.add_list(object, path);
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); ++i)
          follow(PyList_GET_ITEM(object, i), path, Guards::position, nullptr, i);
        return own(object, path);
      case Kind::dict:
        table(object, path, Guards::key);
        if (PyODict_Check(object)) guards_.add_elements(object, path);  // its order is not the dict's
        return own(object, path);
      case Kind::elements:
        guards_.add_elements(object, path);
        elements(object, path);
        return own(object, path);
      case Kind::holder:
        return behind(object, path);
      case Kind::weak:
        return follow(PyWeakref_GetObject(object), path);
      case Kind::module_of_python:
        if (const Ref name = get(object, words().name); !is_known_code(name.get()))
          named_.push_back({attributes_of(object), path, Guards::attribute});
        return;
      case Kind::layer:
        return layer(object, path);
      case Kind::optimizer:
        return optimizer(object, path);
      case Kind::class_:
        classes(Py_TYPE(object), path);
        return classes(reinterpret_cast<PyTypeObject*>(object), path);
      case Kind::instance:
        return instance(object, path);
      case Kind::used_up:
        if (refusal.empty()) refusal = used_up(object, path);
        return;
    }
  }

  void function(PyObject* f, int path) {
    guards_.add_function(f, path);
    auto* code = reinterpret_cast<PyCodeObject*>(PyFunction_GET_CODE(f));
    const Names& names = names_of(code);
    names_.insert(names.all.begin(), names.all.end());
    closure(f);
    PyObject* const globals = PyFunction_GET_GLOBALS(f);
    PyObject* const builtins = PyEval_GetBuiltins();
    for (PyObject* name : names.globals) {
      PyObject* value = PyDict_GetItemWithError(globals, name);
      // A global may come to hide a builtin.
      if (!value && !(builtins && PyDict_GetItemWithError(builtins, name))) continue;
      if (!items_.insert({globals, name}).second) continue;
      const int path = guards_.path(Guards::kNowhere, Guards::name, name);
      guards_.add_item(globals, name, path);
      if (value) follow(value, path);
    }
    for (PyObject* name : names.imports) imported(name, globals);
    if (PyObject* defaults = PyFunction_GET_DEFAULTS(f)) follow(defaults, path);
    if (PyObject* defaults = PyFunction_GET_KW_DEFAULTS(f)) follow(defaults, path);
    if (PyObject* attributes = reinterpret_cast<PyFunctionObject*>(f)->func_dict) {
      named_.push_back({Ref::share(attributes), path, Guards::attribute});
      if (PyObject* inner = PyDict_GetItemWithError(attributes, words().wrapped)) follow(inner, path);
    }
  }

  void closure(PyObject* f) {
    PyObject* const cells = PyFunction_GET_CLOSURE(f);
    if (!cells) return;
    const Ref free = checked(PyObject_GetAttrString(PyFunction_GET_CODE(f), "co_freevars"));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(cells); ++i) {
      PyObject* const cell = PyTuple_GET_ITEM(cells, i);
      const int named = guards_.path(Guards::kNowhere, Guards::name, PyTuple_GET_ITEM(free.get(), i));
      if (first(cell)) guards_.add_cell(cell, named);
      if (PyObject* value = PyCell_GET(cell)) follow(value, named);
    }
  }

  // What a function imports while it runs. Of `from ..a import b` the code says a, whatever the number of
  // dots: it is looked for in every package around.
  void imported(PyObject* name, PyObject* globals) {
    module(name, !is_known_code(name));
    PyObject* const package = PyDict_GetItemWithError(globals, words().package);
    if (!package || !PyUnicode_Check(package)) return;
    const bool empty = PyUnicode_GET_LENGTH(name) == 0;
    for (Py_ssize_t end = PyUnicode_GET_LENGTH(package); end > 0;
         end = PyUnicode_FindChar(package, '.', 0, end, -1)) {
      const Ref outer = checked(PyUnicode_Substring(package, 0, end));
      const Ref whole = empty ? outer : checked(PyUnicode_FromFormat("%U.%U", outer.get(), name));
      module(whole.get(), false);
    }
  }

  void module(PyObject* name, bool guard_absent) {
    PyObject* const modules = PyImport_GetModuleDict();
    PyObject* const found = PyDict_GetItemWithError(modules, name);
    if (!found && !guard_absent) return;
    const int path =
        guards_.path(guards_.path(Guards::kNowhere, Guards::name, words().modules), Guards::key, name);
    if (items_.insert({modules, name}).second) guards_.add_item(modules, name, path);
    if (found) follow(found, path);
  }

  // The dict that a view of it holds.
  void behind(PyObject* view, int path) {
    std::vector<PyObject*> all;
    const auto visit = [](PyObject* object, void* list) {
      static_cast<std::vector<PyObject*>*>(list)->push_back(object);
      return 0;
    };
    Py_TYPE(view)->tp_traverse(view, visit, &all);
    for (PyObject* one : all) follow(one, path);
  }

  // A dict of which everything counts.
  void table(PyObject* dict, int path, Guards::Way way) {
    guards_.add_table(dict, way, path);
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) follow(value, path, way, key);
  }

  void elements(PyObject* container, int path) {
    const Ref iterator = checked(PyObject_GetIter(container));
    Py_ssize_t number = 0;
    while (const Ref one = Ref(PyIter_Next(iterator.get())))
      follow(one.get(), path, Guards::position, nullptr, number++);
    if (PyErr_Occurred()) throw PythonError{};
  }

  void layer(PyObject* layer, int path) {
    const LayerNames& names = layer_names();
    const Ref dict = attributes_of(layer);
    if (!dict) return;
    guards_.add_type(layer, path);
    guards_.add_table(dict.get(), Guards::attribute, path);
    // Where no hook is in place, which `_hooked` tells, nobody looks at the tables of hooks.
    const bool hooked = PyDict_GetItemWithError(dict.get(), names.hooked) != Py_False;
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict.get(), &at, &key, &value);)
      if (class_of(Py_TYPE(value)).kind == Kind::used_up)
        used_if_named_.push_back({value, key, path});
      else if (!names.apart(key) && (hooked || !names.hook(key)))
        follow(value, path, Guards::attribute, key);
    for (PyObject* group : names.groups)
      if (PyObject* items = PyDict_GetItemWithError(dict.get(), group); items && PyDict_Check(items))
        table(items, path, Guards::attribute);
    classes(Py_TYPE(layer), path);
  }

  // Numbers that its kernels read from memory may change; what chooses the kernel's work may not.
  void optimizer(PyObject* optimizer, int path) {
    const Ref groups = get(optimizer, words().param_groups), buckets = get(optimizer, words().buckets);
    if (groups && PyList_Check(groups.get()) && first(groups.get())) {
      const int list = guards_.path(path, Guards::attribute, words().param_groups);
      guards_.add_list(groups.get(), list);
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(groups.get()); ++i) {
        PyObject* const group = PyList_GET_ITEM(groups.get(), i);
        const int where = guards_.path(list, Guards::position, nullptr, i);
        PyObject *key, *value;
        for (Py_ssize_t at = 0; PyDict_Check(group) && PyDict_Next(group, &at, &key, &value);) {
          const bool parameters = key == words().params;
          if (!parameters && !PyBool_Check(value) && key != words().momentum) continue;
          const int item = guards_.path(where, Guards::key, key);
          if (key == words().momentum)
            guards_.add_truth(group, key, item);
          else
            guards_.add_item(group, key, item);
          if (parameters) follow(value, item);
        }
      }
    }
    for (Py_ssize_t i = 0; buckets && PyList_Check(buckets.get()) && i < PyList_GET_SIZE(buckets.get());
         ++i) {
      PyObject* const bucket = PyList_GET_ITEM(buckets.get(), i);
      if (const Ref hyper = get(bucket, words().hyper)) follow(hyper.get(), path);
      if (const Ref state = get(bucket, words().state))
        follow(state.get(), path, Guards::attribute, words().state);
    }
    classes(Py_TYPE(optimizer), path);
  }

  // Any other object with attributes of its own.
  void instance(PyObject* object, int path) {
    guards_.add_type(object, path);
    if (Ref dict = attributes_of(object)) {
      guards_.add_size(dict.get(), path);
      if (class_of(Py_TYPE(object)).whole) table(dict.get(), path, Guards::attribute);
      named_.push_back({std::move(dict), path, Guards::attribute});
    }
    for (PyTypeObject* base : own_classes(Py_TYPE(object)))
      named_.push_back({Ref::share(base->tp_dict), path, Guards::attribute, object});
    classes(Py_TYPE(object), path);
  }

  // Of a container: attributes beside its items, where its class is the user's.
  void own(PyObject* container, int path) {
    if (!class_of(Py_TYPE(container)).own.empty()) instance(container, path);
  }

  static std::vector<PyTypeObject*> own_classes(PyTypeObject* type) { return class_of(type).own; }

  // The functions of a user's class, whose code names globals, and what else of it is named.
  void classes(PyTypeObject* type, int path) {
    for (PyTypeObject* base : own_classes(type)) {
      PyObject* const dict = base->tp_dict;
      if (!first(dict)) continue;
      guards_.add_size(dict, path);
      PyObject *key, *member;
      for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &member);) {
        const Ref inner = function_in(member);
        if (!inner) continue;
        if (items_.insert({dict, key}).second)
          guards_.add_item(dict, key, guards_.path(path, Guards::attribute, key));
        if (!is_known_function(inner.get()) && first(inner.get()))
          function(inner.get(), guards_.path(path, Guards::attribute, key));
      }
      named_.push_back({Ref::share(dict), path, Guards::attribute});
    }
  }

  void look_at_attributes() {
    // All of them again where there are more names than before.
    std::size_t i = names_seen_ == names_.size() ? named_seen_ : 0;
    names_seen_ = names_.size();
    named_seen_ = named_.size();
    for (; i < named_seen_; ++i) {
      const Named& n = named_[i];  // nothing is added here: what is found waits in the queue
      // Whichever are fewer.
      if (static_cast<std::size_t>(PyDict_GET_SIZE(n.dict.get())) < names_.size()) {
        PyObject *key, *value;
        for (Py_ssize_t at = 0; PyDict_Next(n.dict.get(), &at, &key, &value);)
          if (names_.count(key)) attribute(n, key, value);
      } else {
        for (PyObject* name : names_)
          if (PyObject* value = PyDict_GetItemWithError(n.dict.get(), name)) attribute(n, name, value);
      }
    }
  }

  void attribute(const Named& n, PyObject* name, PyObject* value) {
    if (n.slots_of) {
      if (Py_TYPE(value) != &PyMemberDescr_Type || !items_.insert({n.slots_of, name}).second) return;
      const int path = guards_.path(n.path, n.way, name);
      guards_.add_slot(n.slots_of, value, path);
      const Ref now = Ref(Py_TYPE(value)->tp_descr_get(value, n.slots_of, nullptr));
      if (now)
        follow(now.get(), path);
      else
        PyErr_Clear();
      return;
    }
    if (!items_.insert({n.dict.get(), name}).second) return;
    const int path = guards_.path(n.path, n.way, name);
    guards_.add_item(n.dict.get(), name, path);
    follow(value, path);
  }

  std::string used_up(PyObject* object, int path) const {
    return "it uses " + guards_.text(path) + ", of type " + Py_TYPE(object)->tp_name +
           ", which gives something else each time, while a replay goes on with what it gave the first time; "
           "take the item or the numbers outside of the jitted function and pass them as an argument, or use "
           "tensorsmith.random";
  }

  struct Hash {
    std::size_t operator()(const std::pair<PyObject*, PyObject*>& pair) const {
      const auto a = reinterpret_cast<std::size_t>(pair.first),
                 b = reinterpret_cast<std::size_t>(pair.second);
      return (a * 0x9e3779b97f4a7c15u) ^ (b >> 4);
    }
  };

  Guards& guards_;
  std::deque<Found> queue_;
  std::unordered_set<PyObject*> seen_, names_;
  std::unordered_set<std::pair<PyObject*, PyObject*>, Hash> items_;  // that have a guard: dict and key
  std::vector<Named> named_;
  struct UsedIfNamed {
    PyObject *object, *name;
    int path;
  };
  std::vector<UsedIfNamed> used_if_named_;  // of layers
  std::size_t names_seen_ = 0, named_seen_ = 0;
};

}  // namespace

std::string take_for_granted(PyObject* function, PyObject* args, PyObject* kwargs, Guards& guards) {
  Walk walk(guards);
  walk.root(function);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i) {
    PyObject* const value = PyTuple_GET_ITEM(args, i);
    if (is_tensor(value) && !hooks_of(value)) continue;
    const Ref name = checked(PyUnicode_FromFormat("argument %zd", i));
    walk.argument(value, Guards::kNowhere, Guards::name, name.get(), 0, 0);
  }
  PyObject *key, *value;
  for (Py_ssize_t at = 0; PyDict_Next(kwargs, &at, &key, &value);) {
    const Ref name = checked(PyUnicode_FromFormat("argument %U", key));
    walk.argument(value, Guards::kNowhere, Guards::name, name.get(), 0, 0);
  }
  walk.finish();
  return walk.refusal;
}

}  // namespace ts::python
