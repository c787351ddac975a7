#include "python/session.h"

#include "python/autograd.h"
#include "python/jit.h"
#include "python/lines.h"
#include "python/walk.h"

namespace ts::python {

namespace {

PyTypeObject* g_session_type;

struct SessionObject {
  PyObject_HEAD Session* session;
};

thread_local Session* t_session = nullptr;

// Of a call to capture: Session(function, args, kwargs, lenient).
PyObject* session_new(PyTypeObject* type, PyObject* args, PyObject*) {
  return guarded([&]() -> PyObject* {
    PyObject *function, *call_args, *call_kwargs;
    int lenient;
    if (!PyArg_ParseTuple(args, "OO!O!p", &function, &PyTuple_Type, &call_args, &PyDict_Type, &call_kwargs,
                          &lenient))
      throw PythonError{};
    auto session = std::make_unique<Session>();
    session->signature = sign(call_args, call_kwargs);
    session->capture.lenient = lenient;
    if (const std::string why = take_for_granted(function, call_args, call_kwargs, session->guards);
        !why.empty())
      session->capture.refuse(why);
    for (const Ref& leaf : session->signature.leaves) {
      const Autograd* a = as_tensor(leaf.get())->autograd;
      if (a && a->node)
        session->capture.refuse(
            "an argument was computed with its gradient recorded, which a replay would lose; pass "
            "x.detach()");
    }
    PyObject* self = type->tp_alloc(type, 0);
    if (!self) throw PythonError{};
    reinterpret_cast<SessionObject*>(self)->session = session.release();
    return self;
  });
}

void session_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Session* session = reinterpret_cast<SessionObject*>(self)->session;
  if (t_session == session) t_session = nullptr;
  delete session;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* session_begin(PyObject* self, PyObject*) {
  return guarded([&]() -> PyObject* {
    Session& s = session_of(self);
    s.capture.begin();
    t_session = &s;
    for (std::size_t i = 0; i < s.signature.leaves.size(); ++i) {
      const Array& x = array_of(s.signature.leaves[i].get());
      const int number = s.capture.bind(x);
      if (number < static_cast<int>(s.inputs.size())) continue;  // the memory of an earlier one
      Input input;
      input.argument = static_cast<int>(i);
      input.offset = x.offset() * itemsize(x.dtype());
      s.inputs.push_back(std::move(input));
    }
    Py_RETURN_NONE;
  });
}

PyObject* session_end(PyObject* self, PyObject*) {
  Session& s = session_of(self);
  s.capture.end();
  if (t_session == &s) t_session = nullptr;
  Py_RETURN_NONE;
}

PyObject* session_refusal(PyObject* self, void*) {
  return PyUnicode_FromString(session_of(self).capture.refusal.c_str());
}

// changed(): the path of the first guard that no longer holds, or None.
PyObject* session_changed(PyObject* self, PyObject*) {
  const Guards& guards = session_of(self).guards;
  if (guards.hold()) Py_RETURN_NONE;
  return PyUnicode_FromString(guards.broken().c_str());
}

PyObject* capturing(PyObject*, PyObject*) { return PyBool_FromLong(current_capture() != nullptr); }

// put_capture_aside(): what runs from here on is not part of the capture; returns what take_capture_up needs.
struct Aside {
  Capture* capture;
  Session* session;
};
PyObject* put_aside(PyObject*, PyObject*) {
  auto* aside = new Aside{exchange_capture(nullptr), std::exchange(t_session, nullptr)};
  return PyCapsule_New(aside, "tensorsmith.capture", [](PyObject* capsule) {
    delete static_cast<Aside*>(PyCapsule_GetPointer(capsule, "tensorsmith.capture"));
  });
}
PyObject* take_up(PyObject*, PyObject* capsule) {
  auto* aside = static_cast<Aside*>(PyCapsule_GetPointer(capsule, "tensorsmith.capture"));
  if (!aside) return nullptr;
  exchange_capture(aside->capture);
  t_session = aside->session;
  Py_RETURN_NONE;
}

// at_replay(function): replays call it here, between their steps.
PyObject* at_replay(PyObject*, PyObject* function) {
  return guarded([&]() -> PyObject* {
    if (t_session) {
      t_session->effects.emplace_back(t_session->capture.steps(), Ref::share(function));
      t_session->capture.barrier();
    }
    Py_RETURN_NONE;
  });
}

// before_replay(function, other): replays call the function first, once. False if `other` is called there,
// too.
PyObject* before_replay(PyObject*, PyObject* args) {
  return guarded([&]() -> PyObject* {
    PyObject *function, *other;
    if (!PyArg_ParseTuple(args, "OO", &function, &other)) throw PythonError{};
    if (!t_session) Py_RETURN_TRUE;
    const auto known = [](PyObject* f) {
      for (const Ref& one : t_session->first)
        if (const int same = PyObject_RichCompareBool(one.get(), f, Py_EQ); same < 0)
          throw PythonError{};
        else if (same)
          return true;
      return false;
    };
    if (known(other)) Py_RETURN_FALSE;
    if (!known(function)) t_session->first.push_back(Ref::share(function));
    Py_RETURN_TRUE;
  });
}

PyMethodDef g_functions[] = {
    {"capturing", capturing, METH_NOARGS, "Whether this thread's operations are being recorded."},
    {"put_capture_aside", put_aside, METH_NOARGS, "Stops recording for a while; see take_capture_up."},
    {"take_capture_up", take_up, METH_O, "Goes on with what put_capture_aside returned."},
    {"at_replay", at_replay, METH_O, "While recording: replays call this function at this place."},
    {"before_replay", before_replay, METH_VARARGS, "While recording: replays call this function first."},
    {"set_package_folder", set_package_folder, METH_O, "Frames of files below it are not the user's."},
    {}};
PyMethodDef g_session_methods[] = {{"begin", session_begin, METH_NOARGS, "Starts the capture."},
                                   {"changed", session_changed, METH_NOARGS, "What the call changed."},
                                   {"end", session_end, METH_NOARGS, "Ends it."},
                                   {}};
PyGetSetDef g_session_getset[] = {
    {"refusal", session_refusal, nullptr, "Why this cannot be replayed, or ''.", nullptr}, {}};

}  // namespace

Session& session_of(PyObject* session) { return *reinterpret_cast<SessionObject*>(session)->session; }
PyTypeObject* session_type() { return g_session_type; }

bool node_alive(PyObject* tensor) {
  const Autograd* a = as_tensor(tensor)->autograd;
  return a && a->node && !reinterpret_cast<NodeObject*>(a->node.get())->freed;
}

namespace detail {

void gradient_touched(PyObject* leaf, bool read) {
  Session* s = t_session;
  if (!s || !current_capture()) return;
  for (const Touched& t : s->touched)
    if (t.leaf.get() == leaf) return;
  Touched t;
  t.leaf = Ref::share(leaf);
  t.read = read;
  const Autograd* a = as_tensor(leaf)->autograd;
  if (read && a && a->grad && !is_tensor(a->grad.get())) {
    s->capture.refuse("the gradient of a tensor is row-sparse; use sparse=False");
  } else if (read && a && a->grad) {
    t.before = a->grad;
    const Array& x = array_of(a->grad.get());
    t.input = s->capture.bind(x);
    if (t.input == static_cast<int>(s->inputs.size())) {
      Input input;
      input.offset = x.offset() * itemsize(x.dtype());
      input.dtype = x.dtype();
      input.shape = x.shape();
      input.strides = x.strides();
      s->inputs.push_back(std::move(input));
    } else {
      s->capture.refuse("the gradient of one tensor shares its memory with another input");
    }
  }
  s->touched.push_back(std::move(t));
}

}  // namespace detail

bool init_session(PyObject* module) {
  static PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(session_new)},
                                {Py_tp_dealloc, reinterpret_cast<void*>(session_dealloc)},
                                {Py_tp_methods, g_session_methods},
                                {Py_tp_getset, g_session_getset},
                                {0, nullptr}};
  static PyType_Spec spec = {"tensorsmith._core.Session", sizeof(SessionObject), 0, Py_TPFLAGS_DEFAULT,
                             slots};
  g_session_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!g_session_type) return false;
  init_lines();
  return PyModule_AddObjectRef(module, "Session", reinterpret_cast<PyObject*>(g_session_type)) == 0 &&
         PyModule_AddFunctions(module, g_functions) == 0;
}

}  // namespace ts::python
