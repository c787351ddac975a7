// Operations as Python callables: signatures, calls, and the decision to record.
#include "python/op.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include "python/autograd.h"

namespace ts::python {

namespace {

PyTypeObject* g_op_type;

std::unordered_map<std::string, Op*>& registry() {
  static auto* all = new std::unordered_map<std::string, Op*>;
  return *all;
}

std::string trimmed(std::string s) {
  const auto begin = s.find_first_not_of(' ');
  if (begin == std::string::npos) return "";
  return s.substr(begin, s.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string> split(const std::string& s, char separator) {
  std::vector<std::string> parts;
  int depth = 0;
  std::string part;
  for (char c : s) {
    depth += (c == '(' || c == '[') - (c == ')' || c == ']');
    if (c == separator && depth == 0) {
      parts.push_back(trimmed(part));
      part.clear();
    } else {
      part += c;
    }
  }
  if (!trimmed(part).empty()) parts.push_back(trimmed(part));
  return parts;
}

Ref evaluate(const std::string& literal) {
  static PyObject* globals = PyDict_New();
  return checked(PyRun_String(literal.c_str(), Py_eval_input, globals, globals));
}

void parse_signature(Op& op, const std::string& text) {
  const auto open = text.find('(');
  const auto arrow = text.find("->");
  const auto close = text.rfind(')', arrow == std::string::npos ? text.size() : arrow);
  op.name = text.substr(0, open);
  op.signature = text.substr(open, close - open + 1);
  op.in_place = op.name.size() > 1 && op.name.back() == '_';
  bool keyword_only = false;
  for (const std::string& p : split(text.substr(open + 1, close - open - 1), ',')) {
    if (p == "/") {
      op.positional_only = static_cast<int>(op.parameters.size());
    } else if (p == "*") {
      keyword_only = true;
    } else {
      const auto equals = p.find('=');
      op.parameters.push_back(trimmed(p.substr(0, equals)));
      op.defaults.push_back(equals == std::string::npos ? Ref() : evaluate(trimmed(p.substr(equals + 1))));
      if (!keyword_only) op.positional = static_cast<int>(op.parameters.size());
    }
  }
  if (arrow == std::string::npos) {
    op.outputs = {"y"};
  } else {
    const auto groups = split(text.substr(arrow + 2), ';');
    op.outputs = split(groups[0], ',');
    op.returned = static_cast<int>(op.outputs.size());
    if (groups.size() > 1)
      for (const std::string& hidden : split(groups[1], ',')) op.outputs.push_back(hidden);
  }
}

OpObject* as_op(PyObject* o) { return reinterpret_cast<OpObject*>(o); }

// Functions of Python for calls that have one of these keywords, which the operation itself has not; by its
// name.
struct Extension {
  Ref keywords, function;
};
std::map<std::string, Extension>& extensions() {
  static auto* const all = new std::map<std::string, Extension>;
  return *all;
}
bool extended_by(const Op& op, PyObject* keyword) {
  const auto found = extensions().find(op.name);
  return found != extensions().end() && PySequence_Contains(found->second.keywords.get(), keyword) == 1;
}

// Orders positional and keyword arguments by the signature; false where the operation's extension is meant.
bool bind_arguments(const Op& op, PyObject* const* args, Py_ssize_t given, PyObject* keywords,
                    PyObject** slots) {
  const int count = static_cast<int>(op.parameters.size());
  if (given > op.positional)
    type_error(op.name, op.signature, " takes ", op.positional, " positional arguments, got ", given);
  for (int i = 0; i < given; ++i) slots[i] = args[i];
  for (int i = static_cast<int>(given); i < count; ++i) slots[i] = nullptr;
  const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
  for (Py_ssize_t k = 0; k < named; ++k) {
    PyObject* keyword = PyTuple_GET_ITEM(keywords, k);
    const char* name = PyUnicode_AsUTF8(keyword);
    if (!name) throw PythonError{};
    int i = op.positional_only;
    while (i < count && op.parameters[static_cast<std::size_t>(i)] != name) ++i;
    if (i == count) {
      if (extended_by(op, keyword)) return false;
      type_error(op.name, op.signature, " has no parameter '", name, "'");
    }
    if (slots[i]) type_error(op.name, op.signature, ": ", name, " was given twice");
    slots[i] = args[given + k];
  }
  for (int i = 0; i < count; ++i) {
    if (slots[i]) continue;
    slots[i] = op.defaults[static_cast<std::size_t>(i)].get();
    if (!slots[i])
      type_error(op.name, op.signature, ": ", op.parameters[static_cast<std::size_t>(i)], " is missing");
  }
  return true;
}

// The position of `out` among the keywords of a call to an operation that has no such parameter; -1 if absent
// or None.
Py_ssize_t find_out(PyObject* keywords) {
  for (Py_ssize_t k = 0; keywords && k < PyTuple_GET_SIZE(keywords); ++k)
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, k), "out") == 0) return k;
  return -1;
}

// NumPy's out=: the result is converted into a tensor that exists (the only one, or one for each result), and
// that is returned. Nothing of it is recorded.
PyObject* store_result(const Op& op, PyObject* result, PyObject* out) {
  static Op& copy = find_op("copy_");
  const auto store = [&](PyObject* y, PyObject* destination) {
    if (destination == Py_None) return;
    if (!is_tensor(destination))
      type_error(op.name, ": out must be a tensor, got ", Py_TYPE(destination)->tp_name);
    const Array &from = array_of(y), &to = array_of(destination);
    if (from.shape() != to.shape())
      value_error(op.name, ": out has shape ", to.shape(), ", the result ", from.shape());
    if (kind(from.dtype()) > kind(to.dtype()) || (to.dtype() == DType::boolean && from.dtype() != to.dtype()))
      type_error(op.name, ": a result of dtype ", name(from.dtype()), " cannot be stored in out of dtype ",
                 name(to.dtype()));
    if (g_grad_enabled && (tracks_gradient(y) || tracks_gradient(destination)))
      runtime_error(op.name, ": out= records no gradient; use `with ts.no_grad():` or assign the result");
    PyObject* arguments[] = {destination, y};
    checked(apply(copy, arguments));
  };
  const bool several = PyTuple_CheckExact(result);
  if (!PyTuple_Check(out)) {
    if (several) type_error(op.name, ": out must be a tuple of ", PyTuple_GET_SIZE(result), " tensors");
    store(result, out);
    return Py_NewRef(out);
  }
  const Py_ssize_t wanted = several ? PyTuple_GET_SIZE(result) : 1;
  if (PyTuple_GET_SIZE(out) != wanted)
    value_error(op.name, ": out has ", PyTuple_GET_SIZE(out), " entries, the operation ", wanted, " results");
  for (Py_ssize_t i = 0; i < wanted; ++i)
    store(several ? PyTuple_GET_ITEM(result, i) : result, PyTuple_GET_ITEM(out, i));
  return Py_NewRef(several ? out : PyTuple_GET_ITEM(out, 0));
}

// Whether a call with out= is meant for the operation's extension, and that stores the result itself.
bool extension_stores(const Op& op, PyObject* keywords, Py_ssize_t out) {
  if (!extended_by(op, PyTuple_GET_ITEM(keywords, out))) return false;
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(keywords); ++k)
    if (k != out && extended_by(op, PyTuple_GET_ITEM(keywords, k))) return true;
  return false;
}

bool tracked(const Op& op, PyObject* const* arguments);
Device device_of(const Op& op, PyObject* const* arguments);

// out= without a copy: only plain calls that record nothing. False: not one of them, and nothing was done.
bool call_into(const Op& op, PyObject* const* arguments, Py_ssize_t given, PyObject* out) {
  if (!op.call_into || given != static_cast<Py_ssize_t>(op.parameters.size()) || !is_tensor(out))
    return false;
  if (g_grad_enabled && (tracks_gradient(out) || tracked(op, arguments))) return false;
  const DeviceScope scope(device_of(op, arguments));
  return array_of(out).device() == g_device && op.call_into(op, arguments, array_of(out));
}

PyObject* op_vectorcall(PyObject* self, PyObject* const* args, std::size_t flags, PyObject* keywords) {
  Op& op = *as_op(self)->op;
  const Py_ssize_t given = PyVectorcall_NARGS(flags);
  if (const Py_ssize_t at = find_out(keywords); at >= 0 && !op.in_place) [[unlikely]] {
    return guarded([&]() -> PyObject* {
      // The same call without it.
      const Py_ssize_t named = PyTuple_GET_SIZE(keywords);
      if (named == 1 && call_into(op, args, given, args[given])) return Py_NewRef(args[given]);
      if (extension_stores(op, keywords, at))
        return PyObject_Vectorcall(extensions()[op.name].function.get(), args,
                                   static_cast<std::size_t>(given), keywords);
      std::vector<PyObject*> rest(args, args + given + named);
      PyObject* const out = rest[static_cast<std::size_t>(given + at)];
      rest.erase(rest.begin() + given + at);
      const Ref names = checked(PyTuple_New(named - 1));
      for (Py_ssize_t k = 0, to = 0; k < named; ++k)
        if (k != at) PyTuple_SET_ITEM(names.get(), to++, Py_NewRef(PyTuple_GET_ITEM(keywords, k)));
      const Ref result = checked(op_vectorcall(self, rest.data(), static_cast<std::size_t>(given),
                                               named > 1 ? names.get() : nullptr));
      if (out == Py_None) return Py_NewRef(result.get());
      return store_result(op, result.get(), out);
    });
  }
  if (!keywords && given == static_cast<Py_ssize_t>(op.parameters.size()) && given <= op.positional)
    return apply(op, args);
  return guarded([&]() -> PyObject* {
    PyObject* slots[kMaxParameters];
    if (!bind_arguments(op, args, given, keywords, slots))
      return PyObject_Vectorcall(extensions()[op.name].function.get(), args, static_cast<std::size_t>(given),
                                 keywords);
    return apply(op, slots);
  });
}

PyObject* op_get(PyObject* self, PyObject* instance, PyObject*) {
  if (!instance || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

PyObject* op_repr(PyObject* self) {
  const Op& op = *as_op(self)->op;
  return PyUnicode_FromFormat("<op %s%s>", op.name.c_str(), op.signature.c_str());
}

PyObject* op_name(PyObject* self, void*) { return PyUnicode_FromString(as_op(self)->op->name.c_str()); }
PyObject* op_module(PyObject*, void*) { return PyUnicode_FromString("tensorsmith"); }
PyObject* op_text_signature(PyObject* self, void*) {
  return PyUnicode_FromString(as_op(self)->op->signature.c_str());
}
PyObject* op_doc(PyObject* self, void*) {
  PyObject* doc = as_op(self)->doc;
  return Py_NewRef(doc ? doc : Py_None);
}
int op_set_doc(PyObject* self, PyObject* doc, void*) {
  Py_XINCREF(doc);
  Py_XSETREF(as_op(self)->doc, doc);
  return 0;
}

// _define(rules, conjugate): each rule (function, sources, wrt, joint) with sources as ("dy" | "dys" |
// "parameter" | "shape" | "output" | "needs", index).
PyObject* op_define(PyObject* self, PyObject* args) {
  return guarded([&]() -> PyObject* {
    Op& op = *as_op(self)->op;
    PyObject* rules;
    int conjugate;
    if (!PyArg_ParseTuple(args, "Op", &rules, &conjugate)) throw PythonError{};
    op.conjugate = conjugate;
    op.rules.clear();
    op.saved_parameters = op.saved_outputs = op.differentiated = 0;
    const Ref sequence = checked(PySequence_Fast(rules, "rules must be a sequence"));
    for (Py_ssize_t r = 0; r < PySequence_Fast_GET_SIZE(sequence.get()); ++r) {
      PyObject *function, *sources, *wrt;
      int joint;
      if (!PyArg_ParseTuple(PySequence_Fast_GET_ITEM(sequence.get(), r), "OO!O!p", &function, &PyTuple_Type,
                            &sources, &PyTuple_Type, &wrt, &joint))
        throw PythonError{};
      Rule rule;
      rule.function = Ref::share(function);
      rule.joint = joint;
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(sources); ++i) {
        const char* kind;
        int index;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(sources, i), "si", &kind, &index)) throw PythonError{};
        const Source::Kind k = !std::strcmp(kind, "dy")          ? Source::dy
                               : !std::strcmp(kind, "dys")       ? Source::dys
                               : !std::strcmp(kind, "shape")     ? Source::shape
                               : !std::strcmp(kind, "parameter") ? Source::parameter
                               : !std::strcmp(kind, "output")    ? Source::output
                                                                 : Source::needs;
        rule.sources.push_back({k, static_cast<std::uint8_t>(index)});
        if (k == Source::parameter) op.saved_parameters |= 1u << index;
        if (k == Source::output) op.saved_outputs |= 1u << index;
      }
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(wrt); ++i) {
        rule.wrt.push_back(static_cast<int>(PyLong_AsLong(PyTuple_GET_ITEM(wrt, i))));
        op.differentiated |= 1u << rule.wrt.back();
      }
      op.rules.push_back(std::move(rule));
    }
    Py_RETURN_NONE;
  });
}

// _autocast(operation): what runs instead under autocast; _autocast(True): bfloat16 tensors become float32.
PyObject* op_autocast(PyObject* self, PyObject* how) {
  return guarded([&]() -> PyObject* {
    Op& op = *as_op(self)->op;
    if (how == Py_True) {
      op.raised = true;
      Py_RETURN_NONE;
    }
    if (Py_TYPE(how) != g_op_type) type_error("_autocast takes an operation or True");
    Op& lowered = *as_op(how)->op;
    if (lowered.parameters.size() < op.parameters.size() ||
        !std::equal(op.parameters.begin(), op.parameters.end(), lowered.parameters.begin()))
      type_error(lowered.name, " does not take the arguments of ", op.name);
    op.lowered = &lowered;
    Py_RETURN_NONE;
  });
}

// _widen(parameters, takes): those that may be halves where a kernel takes float32. takes: "nothing" as it
// is, "bfloat16", or "cpu": there either half.
PyObject* op_widen(PyObject* self, PyObject* args) {
  return guarded([&]() -> PyObject* {
    Op& op = *as_op(self)->op;
    PyObject* parameters;
    const char* takes;
    if (!PyArg_ParseTuple(args, "Os", &parameters, &takes)) throw PythonError{};
    const std::string_view what = takes;
    if (what != "nothing" && what != "bfloat16" && what != "cpu")
      value_error("_widen: takes must be \"nothing\", \"bfloat16\" or \"cpu\", got \"", takes, "\"");
    op.takes = what == "bfloat16" ? Op::Takes::bfloat16
               : what == "cpu"    ? Op::Takes::on_cpu
                                  : Op::Takes::nothing;
    const Ref list = checked(PySequence_Fast(parameters, "_widen takes the names of parameters"));
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list.get()); ++i) {
      const char* name = PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(list.get(), i));
      if (!name) throw PythonError{};
      const auto found = std::find(op.parameters.begin(), op.parameters.end(), name);
      const auto at = static_cast<std::size_t>(found - op.parameters.begin());
      if (found == op.parameters.end() || op.roles[at] != Role::tensor)
        value_error(op.name, " has no tensor named ", name);
      op.widened |= std::uint32_t{1} << at;
    }
    Py_RETURN_NONE;
  });
}

// _extend(keywords, function): what a call with one of these keywords goes to; with out= as well where that
// is among them.
PyObject* op_extend(PyObject* self, PyObject* args) {
  return guarded([&]() -> PyObject* {
    PyObject *keywords, *function;
    if (!PyArg_ParseTuple(args, "O!O", &PyTuple_Type, &keywords, &function)) throw PythonError{};
    extensions()[as_op(self)->op->name] = {Ref::share(keywords), Ref::share(function)};
    Py_RETURN_NONE;
  });
}

Ref names(const std::vector<std::string>& strings) {
  Ref tuple = checked(PyTuple_New(static_cast<Py_ssize_t>(strings.size())));
  for (std::size_t i = 0; i < strings.size(); ++i)
    PyTuple_SET_ITEM(tuple.get(), static_cast<Py_ssize_t>(i), PyUnicode_FromString(strings[i].c_str()));
  return tuple;
}
PyObject* op_parameters(PyObject* self, void*) {
  return guarded([&] { return names(as_op(self)->op->parameters).release(); });
}
PyObject* op_outputs(PyObject* self, void*) {
  return guarded([&] { return names(as_op(self)->op->outputs).release(); });
}
PyObject* op_differentiable(PyObject* self, void*) {
  return PyBool_FromLong(as_op(self)->op->differentiable);
}

PyGetSetDef op_getset[] = {
    {"__name__", op_name, nullptr, nullptr, nullptr},
    {"__qualname__", op_name, nullptr, nullptr, nullptr},
    {"__module__", op_module, nullptr, nullptr, nullptr},
    {"__text_signature__", op_text_signature, nullptr, nullptr, nullptr},
    {"__doc__", op_doc, op_set_doc, nullptr, nullptr},
    {"_parameters", op_parameters, nullptr, "The names of the parameters, in order.", nullptr},
    {"_outputs", op_outputs, nullptr, "The names of the results, hidden ones included.", nullptr},
    {"_differentiable", op_differentiable, nullptr, "Whether results can carry a gradient.", nullptr},
    {}};
PyMethodDef op_methods[] = {
    {"_define", op_define, METH_VARARGS, "Sets the gradient rules; see autograd.define."},
    {"_autocast", op_autocast, METH_O, "Sets what autocast does; see autocast.py."},
    {"_extend", op_extend, METH_VARARGS, "Gives keywords to a function of Python; see ops/reduce.py."},
    {"_widen", op_widen, METH_VARARGS, "Lets float16 and bfloat16 be computed in float32; see halves.py."},
    {}};
PyMemberDef op_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(OpObject, vectorcall), READONLY, nullptr}, {}};

// Memory that others see through other tensors cannot be written by a recorded operation: the others would
// not know of the new values' gradient.
void check_in_place(const Op& op, PyObject* target, bool recording) {
  TensorObject* t = as_tensor(target);
  if (!op.differentiable && tracks_gradient(target))
    runtime_error(op.name,
                  ": has no gradient, so it cannot change a tensor in place while that tensor's gradient is "
                  "recorded; use `with ts.no_grad():` or a copy");
  if (t->autograd && t->autograd->requires_grad && !t->autograd->node)
    runtime_error(op.name,
                  ": a leaf tensor that requires a gradient cannot be changed in place while gradients are "
                  "recorded; use `with ts.no_grad():` or a copy");
  if (recording && t->shares_storage && t->array.storage()->owners() > 1)
    runtime_error(op.name,
                  ": the destination shares its memory with another tensor, which would not learn of the "
                  "gradient; use the operation that returns a new tensor, or write to a copy");
}

bool tracked(const Op& op, PyObject* const* arguments) {
  for (std::size_t i = 0; i < op.roles.size(); ++i) {
    PyObject* a = arguments[i];
    if (op.shape_only >> i & 1) continue;
    if (op.roles[i] == Role::tensor) {
      if (is_tensor(a) && tracks_gradient(a)) return true;
    } else if (op.roles[i] == Role::tensors && (PyList_Check(a) || PyTuple_Check(a))) {
      for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(a); ++k) {
        PyObject* item = PySequence_Fast_GET_ITEM(a, k);
        if (is_tensor(item) && tracks_gradient(item)) return true;
      }
    }
  }
  return false;
}

// The device of the tensor arguments, where the operation runs; this thread's own where there are none.
Device device_of(const Op& op, PyObject* const* arguments) {
  int first = -1;
  Device device = g_device;
  const auto look = [&](PyObject* a, int i) {
    if (!is_tensor(a)) return;
    const Device d = array_of(a).device();
    if (first < 0) {
      first = i;
      device = d;
    } else if (d != device && !op.moves) [[unlikely]] {
      runtime_error(op.name, ": ", op.parameters[static_cast<std::size_t>(first)], " is on ", name(device),
                    ", ", op.parameters[static_cast<std::size_t>(i)], " on ", name(d),
                    "; move one of them with .to()");
    }
  };
  for (std::size_t i = 0; i < op.roles.size(); ++i) {
    PyObject* a = arguments[i];
    if (op.roles[i] == Role::tensor)
      look(a, static_cast<int>(i));
    else if (op.roles[i] == Role::tensors && (PyList_Check(a) || PyTuple_Check(a)))
      for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(a); ++k)
        look(PySequence_Fast_GET_ITEM(a, k), static_cast<int>(i));
  }
  return device;
}

bool share_storage(const Op& op, PyObject* const* arguments, const Array& y) {
  bool shares = false;
  for (std::size_t i = 0; i < op.roles.size(); ++i)
    if (op.roles[i] == Role::tensor && is_tensor(arguments[i]) &&
        array_of(arguments[i]).storage() == y.storage()) {
      as_tensor(arguments[i])->shares_storage = true;
      shares = true;
    }
  return shares;
}

PyObject* apply_checked(Op& op, PyObject* const* arguments) {
  const bool recording = g_grad_enabled && op.differentiable && tracked(op, arguments);
  const DeviceScope scope(device_of(op, arguments));
  std::uint32_t versions[kMaxParameters];
  if (recording) {
    for (std::size_t i = 0; i < op.roles.size(); ++i)
      if (op.roles[i] == Role::tensor && is_tensor(arguments[i])) {
        check_view(op.name.c_str(), arguments[i]);
        versions[i] = array_of(arguments[i]).storage()->version();
      } else if (op.roles[i] == Role::tensors &&
                 (PyList_Check(arguments[i]) || PyTuple_Check(arguments[i]))) {
        for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(arguments[i]); ++k)
          if (is_tensor(PySequence_Fast_GET_ITEM(arguments[i], k)))
            check_view(op.name.c_str(), PySequence_Fast_GET_ITEM(arguments[i], k));
      }
  }

  Results results;
  if (op.in_place) {
    PyObject* target = arguments[0];
    if (is_tensor(target) && g_grad_enabled && (recording || as_tensor(target)->autograd))
      check_in_place(op, target, recording);
    op.call(op, arguments, results);
    if (recording) {
      results.push_back(Array(array_of(target)));
      record(op, arguments, versions, results, &target, false);
    }
    return Py_NewRef(target);
  }

  op.call(op, arguments, results);
  const int returned = op.returns_list ? results.size() : op.returned;
  Ref tensors[kMaxOutputs];
  Ref list;
  PyObject* objects[kMaxOutputs];
  PyObject** outputs = objects;
  std::unique_ptr<PyObject*[]> many;
  if (returned > kMaxOutputs) {
    many.reset(new PyObject*[static_cast<std::size_t>(returned)]);
    outputs = many.get();
  }
  if (returned != 1 || op.returns_list) list = checked(PyTuple_New(returned));
  bool is_view = false;
  for (int i = 0; i < returned; ++i) {
    const bool shares = share_storage(op, arguments, results[i]);
    is_view |= shares;
    // The saved outputs need the array once more.
    const bool kept = recording && (i >= 32 || (op.saved_outputs >> i & 1));
    Ref tensor = make_tensor(kept || recording ? Array(results[i]) : std::move(results[i]));
    as_tensor(tensor.get())->shares_storage = shares;
    outputs[i] = tensor.get();
    if (list)
      PyTuple_SET_ITEM(list.get(), i, tensor.release());
    else
      tensors[i] = std::move(tensor);
  }
  if (recording) record(op, arguments, versions, results, outputs, is_view);
  return list ? list.release() : tensors[0].release();
}

PyObject* cast(PyObject* tensor, PyObject* dtype) {
  static Op& astype = find_op("astype");
  PyObject* arguments[] = {tensor, dtype, Py_False};
  return apply_checked(astype, arguments);
}

// The arguments with the tensors of dtype `half` among `which` as float32, as operations that are recorded.
struct Widened {
  Ref held[kMaxParameters];
  PyObject* slots[kMaxParameters];

  Widened(const Op& op, PyObject* const* arguments, std::uint32_t which, DType half) {
    static PyObject* const float32 = PyUnicode_InternFromString("float32");
    for (std::size_t i = 0; i < op.roles.size(); ++i) {
      slots[i] = arguments[i];
      if (!(which >> i & 1) || op.roles[i] != Role::tensor || !is_tensor(arguments[i]) ||
          array_of(arguments[i]).dtype() != half)
        continue;
      held[i] = checked(cast(arguments[i], float32));
      slots[i] = held[i].get();
    }
  }
};

// The first of the operands that an operation takes as halves though its kernels do not, if it is one.
std::optional<DType> half_of(const Op& op, PyObject* const* arguments) {
  const auto first = static_cast<std::size_t>(std::countr_zero(op.widened));
  if (!is_tensor(arguments[first])) return {};
  const Array& x = array_of(arguments[first]);
  const DType d = x.dtype();
  const bool gpu = x.device() == Device::cuda;
  // What takes bfloat16 takes float16 on the GPU too.
  if (!is_half(d) || (op.takes == Op::Takes::bfloat16 && (d == DType::bfloat16 || gpu)) ||
      (op.takes == Op::Takes::on_cpu && !gpu))
    return {};
  return d;
}

// The operation that stands for `op` under autocast.
PyObject* apply_lowered(Op& op, PyObject* const* arguments) {
  PyObject* slots[kMaxParameters];
  for (std::size_t i = 0; i < op.lowered->parameters.size(); ++i)
    slots[i] = i < op.parameters.size() ? arguments[i] : op.lowered->defaults[i].get();
  return apply_checked(*op.lowered, slots);
}

PyObject* apply_widened(Op& op, PyObject* const* arguments, DType half) {
  // What autocast lowers takes bfloat16 as it is.
  Ref results = checked(half == DType::bfloat16 && op.lowered
                            ? apply_lowered(op, arguments)
                            : apply_checked(op, Widened(op, arguments, op.widened, half).slots));
  const Ref name_of_half = checked(PyUnicode_FromString(name(half)));
  const auto narrow = [&](PyObject* result) {
    if (!is_tensor(result) || array_of(result).dtype() != DType::float32) return Ref(Py_NewRef(result));
    return Ref(cast(result, name_of_half.get()));
  };
  if (!PyTuple_Check(results.get())) return narrow(results.get()).release();
  Ref list = checked(PyTuple_New(PyTuple_GET_SIZE(results.get())));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(results.get()); ++i)
    PyTuple_SET_ITEM(list.get(), i, narrow(PyTuple_GET_ITEM(results.get(), i)).release());
  return list.release();
}

// One array where a list of them is asked for (concat, stack) is that of its rows, as in NumPy.
PyObject* apply_to_rows(Op& op, PyObject* const* arguments) {
  const Ref rows(PySequence_Tuple(arguments[0]));
  if (!rows) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw PythonError{};
    PyErr_Clear();
    type_error(op.name, ": ", op.parameters[0], " must be a list or tuple of tensors, or an array with rows");
  }
  PyObject* slots[kMaxParameters];
  std::copy_n(arguments, op.parameters.size(), slots);
  slots[0] = rows.get();
  return apply_checked(op, slots);
}
bool is_array(PyObject* o) {
  return is_tensor(o) || (!PyList_Check(o) && !PyTuple_Check(o) && PyObject_HasAttrString(o, "__array__"));
}

// Without autocast, and under it for tensors that it leaves alone.
PyObject* apply_as_given(Op& op, PyObject* const* arguments) {
  if (op.takes_list && is_array(arguments[0])) [[unlikely]]
    return apply_to_rows(op, arguments);
  if (op.widened) [[unlikely]]
    if (const auto half = half_of(op, arguments)) return apply_widened(op, arguments, *half);
  return apply_checked(op, arguments);
}

// Under autocast an operation runs in the precision that it is listed with (python/tensorsmith/autocast.py).
PyObject* apply_autocast(Op& op, PyObject* const* arguments) {
  bool lowers = op.lowered != nullptr;
  bool halves = false;
  for (std::size_t i = 0; i < op.roles.size(); ++i) {
    if (op.roles[i] != Role::tensor || !is_tensor(arguments[i])) continue;
    const DType d = array_of(arguments[i]).dtype();
    if (!(op.differentiated >> i & 1)) continue;  // lengths
    lowers &= d == DType::float32 || d == DType::bfloat16;
    halves |= d == DType::bfloat16;
  }
  if (lowers) return apply_lowered(op, arguments);
  if (!op.raised || !halves) return apply_as_given(op, arguments);
  Widened wide(op, arguments, ~std::uint32_t{0}, DType::bfloat16);
  return apply_as_given(op, wide.slots);
}

}  // namespace

thread_local bool g_autocast = false;

PyObject* apply(Op& op, PyObject* const* arguments) {
  return guarded([&] {
    if (g_autocast && (op.lowered || op.raised)) [[unlikely]]
      return apply_autocast(op, arguments);
    return apply_as_given(op, arguments);
  });
}

Op& find_op(const char* name) {
  const auto found = registry().find(name);
  if (found == registry().end()) runtime_error("no operation named ", name);
  return *found->second;
}

Op& add_op(PyObject* module, const char* signature, Op prototype) {
  Op* op = new Op(std::move(prototype));  // lives as long as the process
  parse_signature(*op, signature);
  if (op->parameters.size() != op->roles.size() || op->parameters.size() > kMaxParameters)
    runtime_error("the signature ", signature, " names ", op->parameters.size(),
                  " parameters, the function has ", op->roles.size());
  op->takes_list = !op->roles.empty() && op->roles[0] == Role::tensors;
  registry()[op->name] = op;
  Ref object = checked(g_op_type->tp_alloc(g_op_type, 0));
  as_op(object.get())->vectorcall = op_vectorcall;
  as_op(object.get())->op = op;
  as_op(object.get())->doc = nullptr;
  if (PyObject_SetAttrString(module, op->name.c_str(), object.get()) < 0) throw PythonError{};
  return *op;
}

bool init_op(PyObject*) {
  static PyType_Slot slots[] = {{Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                                {Py_tp_descr_get, reinterpret_cast<void*>(op_get)},
                                {Py_tp_repr, reinterpret_cast<void*>(op_repr)},
                                {Py_tp_getset, op_getset},
                                {Py_tp_methods, op_methods},
                                {Py_tp_members, op_members},
                                {0, nullptr}};
  static PyType_Spec spec = {"tensorsmith._core.Op", sizeof(OpObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
                                 Py_TPFLAGS_DISALLOW_INSTANTIATION,
                             slots};
  g_op_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return g_op_type != nullptr;
}

}  // namespace ts::python
