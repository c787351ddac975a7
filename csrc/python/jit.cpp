// jit: the callable that keeps recordings and replays the one that serves a call.
#include "python/jit.h"

#include <algorithm>
#include <list>
#include <memory>

#include "core/profile.h"
#include "python/replay.h"

namespace ts::python {

namespace {

PyTypeObject* g_replays_type;

struct Replays {
  std::list<std::shared_ptr<Entry>> entries;  // the latest used first
  std::size_t limit = 16;
  std::uint64_t hits = 0, misses = 0;
};

struct ReplaysObject {
  PyObject_HEAD Replays* replays;
};
Replays& replays_of(PyObject* o) { return *reinterpret_cast<ReplaysObject*>(o)->replays; }

PyObject* replays_call(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static PyObject* slow = PyUnicode_InternFromString("_record");
    const auto record = [&](const std::string& why) {
      const Ref reason = checked(PyUnicode_FromString(why.c_str()));
      const Ref named = kwargs ? Ref::share(kwargs) : checked(PyDict_New());
      return into_python(
          [&] { return PyObject_CallMethodObjArgs(self, slow, args, named.get(), reason.get(), nullptr); });
    };
    if (current_capture()) return record("inside");
    const Ref keep = Ref::share(self);
    Replays& all = replays_of(self);
    if (all.entries.empty()) return record("first call");
    const Signature s = sign(args, kwargs ? kwargs : nullptr);
    std::string why;
    for (auto e = all.entries.begin(); e != all.entries.end(); ++e) {
      if ((*e)->key != s.key || !serves(**e, s, nullptr)) continue;
      ++all.hits;
      if (e != all.entries.begin()) all.entries.splice(all.entries.begin(), all.entries, e);
      const std::shared_ptr<Entry> entry = all.entries.front();  // another thread may clear the cache
      return replay(*entry, s);
    }
    const auto same =
        std::find_if(all.entries.begin(), all.entries.end(), [&](const auto& e) { return e->key == s.key; });
    if (same == all.entries.end())
      why = "other arguments: " + describe(s);
    else
      serves(**same, s, &why);
    return record(why);
  });
}

// _keep(session, result): adds the entry and gives the result as replays will; or a string with the
// reason why there is none.
PyObject* replays_keep(PyObject* self, PyObject* args) {
  return guarded([&]() -> PyObject* {
    PyObject *session, *result;
    if (!PyArg_ParseTuple(args, "O!O", session_type(), &session, &result)) throw PythonError{};
    std::string why;
    std::shared_ptr<Entry> entry(make_entry(session_of(session), result, why));
    if (!entry) return PyUnicode_FromString(why.c_str());
    Replays& all = replays_of(self);
    // One that would never serve again makes room.
    all.entries.remove_if([&](const auto& e) { return e->key == entry->key && e->recording->stale(); });
    all.entries.push_front(std::move(entry));
    while (all.entries.size() > all.limit) all.entries.pop_back();
    Py_RETURN_NONE;
  });
}

// _strip(result): the tensors without their history, as replays give them.
PyObject* replays_strip(PyObject*, PyObject* result) {
  return guarded([&]() -> PyObject* {
    std::vector<Ref> leaves;
    const Tree tree = take_apart(result, leaves);
    for (Ref& leaf : leaves) {
      const Autograd* a = as_tensor(leaf.get())->autograd;
      if (a && a->node) leaf = make_tensor(Array(array_of(leaf.get())));
    }
    return put_together(tree, leaves).release();
  });
}

PyObject* replays_counts(PyObject* self, void*) {
  const Replays& r = replays_of(self);
  return Py_BuildValue("KKnn", r.hits, r.misses, static_cast<Py_ssize_t>(r.limit),
                       static_cast<Py_ssize_t>(r.entries.size()));
}

PyObject* replays_on_cuda(PyObject* self, void*) {
  int as_graphs = 0, kernel_by_kernel = 0;
  for (const auto& e : replays_of(self).entries) {
    if (!e->recording->graphs()) continue;
    const bool whole = !e->recording->graphs()->segments.empty() && e->recording->kernel_by_kernel().empty();
    ++(whole ? as_graphs : kernel_by_kernel);
  }
  return Py_BuildValue("ii", as_graphs, kernel_by_kernel);
}

PyObject* replays_miss(PyObject* self, PyObject*) {
  ++replays_of(self).misses;
  Py_RETURN_NONE;
}

PyObject* replays_clear(PyObject* self, PyObject*) {
  auto entries = std::move(replays_of(self).entries);
  replays_of(self).entries.clear();
  replays_of(self).hits = replays_of(self).misses = 0;
  Py_RETURN_NONE;
}

const char* name_of(Slot::Kind kind) {
  constexpr const char* names[] = {"inside", "input", "outside", "constant", "result"};
  return names[kind];
}

// _entries(): for people: a dict for each recording, the latest used first.
PyObject* replays_entries(PyObject* self, PyObject*) {
  return guarded([&]() -> PyObject* {
    Ref list = checked(PyList_New(0));
    for (const auto& e : replays_of(self).entries) {
      const Recording& r = *e->recording;
      Ref steps = checked(PyList_New(0));
      const std::vector<int> together = r.together();
      for (std::size_t number = 0; number < r.steps().size(); ++number) {
        const Step& step = r.steps()[number];
        Ref operands = checked(PyList_New(0));
        for (int k = step.first; k < step.first + step.count; ++k) {
          const Use& use = r.operands()[static_cast<std::size_t>(k)];
          const View& view = r.views()[static_cast<std::size_t>(k)];
          Ref shape = checked(PyTuple_New(view.ndim));
          for (int d = 0; d < view.ndim; ++d)
            PyTuple_SET_ITEM(shape.get(), d, PyLong_FromLongLong(view.shape[d]));
          const char* kind = use.slot == kNothing ? "none"
                             : use.slot == kPool
                                 ? "number"
                                 : name_of(r.slots()[static_cast<std::size_t>(use.slot)].kind);
          const Ref operand = checked(Py_BuildValue("siOsOL", kind, use.slot, shape.get(), name(view.dtype),
                                                    use.written ? Py_True : Py_False, use.offset));
          if (PyList_Append(operands.get(), operand.get()) < 0) throw PythonError{};
        }
        const Ref one = checked(
            Py_BuildValue("sOsi", step.name, operands.get(),
                          r.lines().empty() ? "" : r.lines()[static_cast<std::size_t>(step.line)].c_str(),
                          together[number]));
        if (PyList_Append(steps.get(), one.get()) < 0) throw PythonError{};
      }
      const Recording::Stats& stats = r.stats();
      Ref graphs = checked(PyList_New(0));
      Ref apart = checked(PyList_New(0));
      if (r.graphs())
        for (const Segment& s : r.graphs()->segments) {
          const Ref one = checked(Py_BuildValue("iiO", s.begin, s.end, s.graph ? Py_True : Py_False));
          if (PyList_Append(graphs.get(), one.get()) < 0) throw PythonError{};
        }
      for (const std::string& reason : r.kernel_by_kernel()) {
        const Ref one = checked(PyUnicode_FromString(reason.c_str()));
        if (PyList_Append(apart.get(), one.get()) < 0) throw PythonError{};
      }
      const Ref entry = checked(Py_BuildValue(
          "{sssOsLsLsLsLsLsKsOsOsO}", "signature", e->description.c_str(), "steps", steps.get(), "captured",
          stats.calls, "kept", stats.steps, "arena_bytes", stats.arena_bytes, "unshared_bytes",
          stats.unshared_bytes, "result_bytes", stats.result_bytes, "replays", e->replays, "cuda",
          r.graphs() ? Py_True : Py_False, "graphs", graphs.get(), "kernel_by_kernel", apart.get()));
      if (PyList_Append(list.get(), entry.get()) < 0) throw PythonError{};
    }
    return list.release();
  });
}

PyObject* replays_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self) reinterpret_cast<ReplaysObject*>(self)->replays = new Replays;
  return self;
}

int replays_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  for (const auto& e : replays_of(self).entries) {
    for (const Ref& h : e->held) Py_VISIT(h.get());
    if (const int stop = e->guards.traverse(visit, arg)) return stop;
    for (const Effect& effect : e->effects) Py_VISIT(effect.function.get());
  }
  return 0;
}

int replays_gc_clear(PyObject* self) {
  const auto entries = std::move(replays_of(self).entries);
  replays_of(self).entries.clear();
  return 0;
}

void replays_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  auto* o = reinterpret_cast<ReplaysObject*>(self);
  replays_gc_clear(self);
  delete o->replays;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* replays_get(PyObject* self, PyObject* instance, PyObject*) {
  if (!instance || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

PyObject* replays_limit(PyObject* self, void*) { return PyLong_FromSize_t(replays_of(self).limit); }
int replays_set_limit(PyObject* self, PyObject* value, void*) {
  const Py_ssize_t limit = value ? PyLong_AsSsize_t(value) : -1;
  if (limit == -1 && PyErr_Occurred()) return -1;
  if (limit < 1) {
    PyErr_Format(PyExc_ValueError, "jit: cache_size must be >= 1, got %zd", limit);
    return -1;
  }
  replays_of(self).limit = static_cast<std::size_t>(limit);
  return 0;
}

PyObject* begin_profile(PyObject*, PyObject*) {
  return guarded([]() -> PyObject* {
    start_profile();
    Py_RETURN_NONE;
  });
}
PyObject* end_profile(PyObject*, PyObject*) {
  return guarded([]() -> PyObject* {
    Ref list = checked(PyList_New(0));
    for (const Event& e : stop_profile()) {
      const Ref one = checked(Py_BuildValue("sLLddss", e.name, static_cast<long long>(e.start),
                                            static_cast<long long>(e.duration), e.flops, e.bytes,
                                            e.line.c_str(), e.shapes.c_str()));
      if (PyList_Append(list.get(), one.get()) < 0) throw PythonError{};
    }
    return list.release();
  });
}

PyMethodDef g_functions[] = {
    {"start_profile", begin_profile, METH_NOARGS, "Notes every kernel call from here on."},
    {"stop_profile", end_profile, METH_NOARGS, "(name, start, ns, flops, bytes, line, shapes) of each."},
    {}};
PyMethodDef g_replays_methods[] = {
    {"_keep", replays_keep, METH_VARARGS, "Adds a finished session's recording."},
    {"_strip", replays_strip, METH_O | METH_STATIC, "A result without gradient history."},
    {"_miss", replays_miss, METH_NOARGS, "Counts a call that had to run."},
    {"_entries", replays_entries, METH_NOARGS, "What is recorded, for people."},
    {"cache_clear", replays_clear, METH_NOARGS, "Forgets every recording."},
    {}};
PyGetSetDef g_replays_getset[] = {
    {"_counts", replays_counts, nullptr, "(hits, misses, limit, size)", nullptr},
    {"_on_cuda", replays_on_cuda, nullptr, "(recordings that are graphs, those that are not)", nullptr},
    {"_limit", replays_limit, replays_set_limit, "How many recordings are kept.", nullptr},
    {}};

}  // namespace

bool init_jit(PyObject* module) {
  static PyType_Slot replays_slots[] = {{Py_tp_new, reinterpret_cast<void*>(replays_new)},
                                        {Py_tp_dealloc, reinterpret_cast<void*>(replays_dealloc)},
                                        {Py_tp_traverse, reinterpret_cast<void*>(replays_traverse)},
                                        {Py_tp_clear, reinterpret_cast<void*>(replays_gc_clear)},
                                        {Py_tp_call, reinterpret_cast<void*>(replays_call)},
                                        {Py_tp_descr_get, reinterpret_cast<void*>(replays_get)},
                                        {Py_tp_methods, g_replays_methods},
                                        {Py_tp_getset, g_replays_getset},
                                        {0, nullptr}};
  static PyType_Spec replays_spec = {"tensorsmith._core.Replays", sizeof(ReplaysObject), 0,
                                     Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                     replays_slots};
  g_replays_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&replays_spec));
  return g_replays_type &&
         PyModule_AddObjectRef(module, "Replays", reinterpret_cast<PyObject*>(g_replays_type)) == 0 &&
         PyModule_AddFunctions(module, g_functions) == 0 && init_session(module);
}

}  // namespace ts::python
