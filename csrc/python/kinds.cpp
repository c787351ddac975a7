#include "python/kinds.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

namespace ts::python {

namespace {

constexpr std::size_t kMost = 1024;  // classes and pieces of code that are remembered

struct Known {
  Ref layer, optimizer, schedule, jitted, partial, cached, deque, array, ndarray, generic;
};

const Known& known() {
  static const Known* const all = [] {
    const auto from = [](const char* module, const char* name) {
      const Ref imported = checked(PyImport_ImportModule(module));
      return checked(PyObject_GetAttrString(imported.get(), name));
    };
    return new Known{from("tensorsmith.nn.module", "Module"),
                     from("tensorsmith.optim.optimizer", "Optimizer"),
                     from("tensorsmith.optim.lr_scheduler", "LRScheduler"),
                     from("tensorsmith.jit", "Jitted"),
                     from("functools", "partial"),
                     from("functools", "_lru_cache_wrapper"),
                     from("collections", "deque"),
                     from("array", "array"),
                     from("numpy", "ndarray"),
                     from("numpy", "generic")};
  }();
  return *all;
}

std::string_view text_of(PyObject* string) {
  Py_ssize_t size = 0;
  const char* text = string && PyUnicode_Check(string) ? PyUnicode_AsUTF8AndSize(string, &size) : nullptr;
  if (!text) PyErr_Clear();
  return {text ? text : "", static_cast<std::size_t>(size)};
}

Ref attribute(PyTypeObject* type, const char* name) {
  PyObject* value = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name);
  if (!value) PyErr_Clear();
  return Ref(value);
}

template <std::size_t N>
bool among(const std::string_view (&packages)[N], PyObject* module_name) {
  const std::string_view name = text_of(module_name);
  return std::find(packages, packages + N, name.substr(0, name.find('.'))) != packages + N;
}

// Of the package, or of a library whose objects need no look.
bool is_foreign(PyObject* module_name) {
  constexpr std::string_view kForeign[] = {"tensorsmith", "numpy", "builtins", "torch", "jax", "scipy"};
  // Programs within the package, whose steps are a user's.
  constexpr std::string_view kPrograms[] = {"tensorsmith.bench", "tensorsmith.train"};
  for (const std::string_view program : kPrograms)
    if (text_of(module_name).substr(0, program.size()) == program) return false;
  // A C type may have a descriptor there.
  return !module_name || !PyUnicode_Check(module_name) || among(kForeign, module_name);
}

Kind find_kind(PyTypeObject* type) {
  const Known& k = known();
  const auto is = [&](const Ref& of) {
    return PyType_IsSubtype(type, reinterpret_cast<PyTypeObject*>(of.get()));
  };
  const auto is_a = [&](PyTypeObject& of) { return PyType_IsSubtype(type, &of); };
  if (is_a(PyFloat_Type) || is_a(PyLong_Type) || is_a(PyUnicode_Type) || is_a(PyBytes_Type) ||
      is_a(PyComplex_Type) || type == Py_TYPE(Py_None))
    return Kind::plain;
  if (is_a(*g_tensor_base)) return Kind::tensor;
  if (is_a(PyFunction_Type)) return Kind::function;
  if (is_a(PyMethod_Type)) return Kind::method;
  if (is_a(PyTuple_Type)) return Kind::tuple;
  if (is_a(PyList_Type)) return Kind::list;
  if (is_a(PyDict_Type)) return Kind::dict;
  if (is_a(PyModule_Type)) return Kind::module_of_python;
  if (is_a(PyType_Type)) return Kind::class_;
  if (is_a(PySet_Type) || is_a(PyFrozenSet_Type) || is_a(PyByteArray_Type) || is(k.deque) || is(k.array))
    return Kind::elements;
  if (type == &PyDictProxy_Type || is_a(PyDictKeys_Type) || is_a(PyDictValues_Type) || is_a(PyDictItems_Type))
    return Kind::holder;
  if (is_a(_PyWeakref_RefType)) return Kind::weak;
  if (is(k.jitted)) return Kind::jitted;
  if (is(k.layer)) return Kind::layer;
  if (is(k.optimizer)) return Kind::optimizer;
  if (is(k.schedule)) return Kind::nothing;  // its step runs at every replay
  if (is(k.partial)) return Kind::partial;
  if (is(k.cached)) return Kind::cached;
  if (is(k.ndarray) || is(k.generic)) return Kind::nothing;
  const Ref module = attribute(type, "__module__"), name = attribute(type, "__name__");
  const std::string_view from = text_of(module.get()), called = text_of(name.get());
  if (type->tp_iternext && (from == "builtins" || from == "itertools")) return Kind::used_up;
  if ((from == "random" && called == "Random") ||
      (from.substr(0, 13) == "numpy.random." && (called == "Generator" || called == "RandomState")))
    return Kind::used_up;
  return is_foreign(module.get()) ? Kind::nothing : Kind::instance;
}

// The map would hold on to every class and function that there ever was.
template <class Map>
void keep_small(Map& map) {
  if (map.size() < kMost) return;
  for (const auto& entry : map) Py_DECREF(entry.first);
  map.clear();
}

bool may_be_name(PyObject* constant) {
  return PyUnicode_CheckExact(constant) && PyUnicode_IsIdentifier(constant);
}

// Byte code, as far as it tells globals from attributes: words of an instruction and its argument, the number
// of a name.
struct ByteCode {
  int load_global, load_name, import_name, extended;
  int flags;  // low bits of LOAD_GLOBAL's argument that are none of the number
  ByteCode() {
    const Ref opcode = checked(PyImport_ImportModule("opcode"));
    const Ref map = checked(PyObject_GetAttrString(opcode.get(), "opmap"));
    const auto number = [&](const char* name) {
      PyObject* value = PyDict_GetItemString(map.get(), name);
      return value ? static_cast<int>(PyLong_AsLong(value)) : -1;
    };
    load_global = number("LOAD_GLOBAL");
    load_name = number("LOAD_NAME");
    import_name = number("IMPORT_NAME");
    extended = number("EXTENDED_ARG");
    flags = PY_VERSION_HEX >= 0x030B0000 ? 1 : 0;
  }
};

void collect_globals(PyObject* code, PyObject* names, Names& found) {
  static const ByteCode byte_code;
  const Ref words = checked(PyObject_GetAttrString(code, "co_code"));
  const auto* at = reinterpret_cast<const unsigned char*>(PyBytes_AS_STRING(words.get()));
  Py_ssize_t argument = 0;
  for (Py_ssize_t i = 0; i + 1 < PyBytes_GET_SIZE(words.get()); i += 2) {
    argument = argument << 8 | at[i + 1];
    if (at[i] == byte_code.extended) continue;
    const Py_ssize_t number = at[i] == byte_code.load_global ? argument >> byte_code.flags
                              : at[i] == byte_code.load_name ? argument
                                                             : -1;
    if (number >= 0 && number < PyTuple_GET_SIZE(names))
      found.globals.push_back(PyTuple_GET_ITEM(names, number));
    if (at[i] == byte_code.import_name && argument < PyTuple_GET_SIZE(names))
      found.imports.push_back(PyTuple_GET_ITEM(names, argument));
    argument = 0;
  }
}

void collect_names(PyObject* code, Names& found) {
  const Ref names = checked(PyObject_GetAttrString(code, "co_names"));
  const Ref constants = checked(PyObject_GetAttrString(code, "co_consts"));
  const auto take = [&](PyObject* name) {
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    found.all.push_back(name);  // for good: there are not many
  };
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.get()); ++i) take(PyTuple_GET_ITEM(names.get(), i));
  collect_globals(code, names.get(), found);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(constants.get()); ++i) {
    PyObject* const constant = PyTuple_GET_ITEM(constants.get(), i);
    if (PyCode_Check(constant))
      collect_names(constant, found);
    else if (may_be_name(constant))
      take(constant);
  }
}

void sort_once(std::vector<PyObject*>& names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

}  // namespace

bool is_known_code(PyObject* module_name) {
  // copy: through its table of types lies all that other libraries registered.
  constexpr std::string_view kLibraries[] = {"abc",  "collections", "copy",    "copyreg", "dataclasses",
                                             "enum", "functools",   "logging", "typing",  "warnings"};
  return is_foreign(module_name) || among(kLibraries, module_name);
}

const Class& class_of(PyTypeObject* type) {
  static std::unordered_map<PyTypeObject*, Class> classes;
  const auto found = classes.find(type);
  if (found != classes.end()) return found->second;
  Class c{find_kind(type), {}, false};
  if (PyObject* mro = type->tp_mro)
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); ++i) {
      auto* base = reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(mro, i));
      if (!PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE)) continue;
      const Ref module = attribute(base, "__module__");
      if (!is_known_code(module.get())) c.own.push_back(base);
      c.whole |= text_of(module.get()) == "collections";
    }
  keep_small(classes);
  Py_INCREF(type);
  return classes.emplace(type, std::move(c)).first->second;
}

const Names& names_of(PyCodeObject* code) {
  static std::unordered_map<PyCodeObject*, Names> all;
  const auto found = all.find(code);
  if (found != all.end()) return found->second;
  Names names;
  collect_names(reinterpret_cast<PyObject*>(code), names);
  sort_once(names.all);
  sort_once(names.globals);
  sort_once(names.imports);
  keep_small(all);
  Py_INCREF(code);
  return all.emplace(code, std::move(names)).first->second;
}

}  // namespace ts::python
