// jit: sessions that capture a call of a Python function, and the callable that replays what they made.
//
// An entry of the cache is one recording with what it needs of Python: where its inputs come from, what must
// still hold, how its result is put together, which gradients it leaves behind, and which Python calls
// (an optimizer's new learning rate, a schedule's step) belong between its steps.
#include "python/jit.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <memory>

#include "core/profile.h"
#include "core/recording.h"
#include "ops/elementwise.h"
#include "python/autograd.h"
#include "python/guard.h"
#include "python/signature.h"

namespace ts::python {

namespace {

PyTypeObject *g_session_type, *g_replays_type;
std::string g_package;  // folder: frames in it are not the user's

// --- what an entry knows -------------------------------------------------------------------------

// Where a leaf is: an argument of the call, or an object outside that may die.
struct Leaf {
  int argument = -1;
  Ref outside;  // weak reference
  PyObject* get(const std::vector<Ref>& arguments) const {
    if (argument >= 0) return arguments[static_cast<std::size_t>(argument)].get();
    PyObject* object = PyWeakref_GetObject(outside.get());
    return object == Py_None ? nullptr : object;
  }
};

// A tensor that the replay hands out.
struct Value {
  enum Kind { argument, object, result, input, outside, constant } kind = result;
  int number = -1;     // of the argument, result or input
  Ref tensor;          // object: weak reference
  StorageRef storage;  // outside, constant
  Shape shape, strides;
  std::int64_t offset = 0;  // elements; of an input: from where its array began
  DType dtype = DType::float32;
};

// The `.grad` of a leaf: what it must be before, and what it is after.
struct Gradient {
  Leaf leaf;
  bool read = false;  // its value before matters
  int input = -1;     // the input that it is; -1: it must be None
  bool replaced = false;
  bool to_none = false;
  Value value;
};

struct Input {
  int argument = -1, gradient = -1;  // one of them
  std::int64_t offset = 0;           // bytes, of the array in its storage
  bool written = false;
  DType dtype = DType::float32;  // of a gradient
  Shape shape, strides;
};

struct Effect {
  int position;  // before this step
  Ref function;
};

struct Entry {
  std::string key, description;
  std::vector<Ref> held;
  std::unique_ptr<Recording> recording;
  std::vector<Guard> guards;
  std::vector<Input> inputs;
  std::vector<Value> values;  // by leaf of the result
  std::vector<Gradient> gradients;
  std::vector<int> reusable;  // by result: the gradient that alone holds it, or -1
  std::vector<Effect> effects;
  Tree result;
  std::vector<std::pair<const char*, const char*>> outside;  // memory of outside slots, sorted
  bool pinned = false;  // an argument lies in that memory: the same one must come again
  std::vector<const void*> pins;
  std::uint64_t replays = 0;
};

bool meets(const Entry& e, const Array& x) {
  if (x.size() == 0 || e.outside.empty()) return false;
  std::int64_t low = 0, high = 0;
  for (int i = 0; i < x.ndim(); ++i) {
    const std::int64_t reach = (x.shape(i) - 1) * x.stride(i);
    (reach < 0 ? low : high) += reach;
  }
  const std::int64_t item = itemsize(x.dtype());
  const char *begin = static_cast<const char*>(x.data()) + low * item,
             *end = static_cast<const char*>(x.data()) + (high + 1) * item;
  auto next = std::upper_bound(e.outside.begin(), e.outside.end(), std::make_pair(begin, begin),
                               [](const auto& a, const auto& b) { return a.first < b.first; });
  if (next != e.outside.end() && next->first < end) return true;
  return next != e.outside.begin() && std::prev(next)->second > begin;
}

// --- a session -----------------------------------------------------------------------------------

struct Touched {
  Ref leaf;
  Ref before;  // its gradient, if that was read
  bool read = false;
  int input = -1;
};

struct Session {
  Capture capture;
  Signature signature;
  std::vector<Touched> touched;
  std::vector<std::pair<int, Ref>> effects;
  std::vector<Ref> first;  // effects that come before all steps
  std::vector<Input> inputs;
  std::vector<Guard> guards;  // from before the call
};

struct SessionObject {
  PyObject_HEAD Session* session;
};
Session& session_of(PyObject* o) { return *reinterpret_cast<SessionObject*>(o)->session; }

thread_local Session* t_session = nullptr;

// The innermost frame that is not ours: its code, and the line. Null where there is none.
std::pair<Ref, int> user_frame() {
  if (!Py_IsInitialized() || !PyGILState_Check()) return {};
  PyFrameObject* frame = PyEval_GetFrame();
  Ref held = Ref::share(reinterpret_cast<PyObject*>(frame));
  while (frame) {
    Ref code(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
    const char* path = PyUnicode_AsUTF8(reinterpret_cast<PyCodeObject*>(code.get())->co_filename);
    if (!path) PyErr_Clear();
    if (path && std::strncmp(path, g_package.c_str(), g_package.size()) != 0)
      return {std::move(code), PyFrame_GetLineNumber(frame)};
    held = Ref(reinterpret_cast<PyObject*>(PyFrame_GetBack(frame)));
    frame = reinterpret_cast<PyFrameObject*>(held.get());
  }
  return {};
}

LineKey line_key() {
  const auto [code, line] = user_frame();
  return {code.get(), line};
}

std::string line_hook() {
  const auto [code, line] = user_frame();
  if (!code) return "?";
  const auto* c = reinterpret_cast<const PyCodeObject*>(code.get());
  return std::string(PyUnicode_AsUTF8(c->co_filename)) + ":" + std::to_string(line) + " in " +
         PyUnicode_AsUTF8(c->co_name);
}

bool node_alive(PyObject* tensor) {
  const Autograd* a = as_tensor(tensor)->autograd;
  return a && a->node && !reinterpret_cast<NodeObject*>(a->node.get())->freed;
}

// Of a call to capture: Session(args, kwargs, guards, lenient).
PyObject* session_new(PyTypeObject* type, PyObject* args, PyObject*) {
  return guarded([&]() -> PyObject* {
    PyObject *call_args, *call_kwargs, *guards;
    int lenient;
    if (!PyArg_ParseTuple(args, "O!O!O!p", &PyTuple_Type, &call_args, &PyDict_Type, &call_kwargs,
                          &PyList_Type, &guards, &lenient))
      throw PythonError{};
    auto session = std::make_unique<Session>();
    session->signature = sign(call_args, call_kwargs);
    session->capture.lenient = lenient;
    session->guards.reserve(static_cast<std::size_t>(PyList_GET_SIZE(guards)) / 5);
    for (Py_ssize_t i = 0; i + 5 <= PyList_GET_SIZE(guards); i += 5)
      session->guards.push_back(make_guard(PySequence_Fast_ITEMS(guards) + i));
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
  for (const Guard& g : session_of(self).guards)
    if (!g.holds()) return PyUnicode_FromString(g.path.c_str());
  Py_RETURN_NONE;
}

Value describe_value(Session& s, PyObject* tensor, std::vector<Storage*>& results) {
  const Array& x = array_of(tensor);
  Value v;
  v.shape = x.shape();
  v.strides = x.strides();
  v.offset = x.offset();
  v.dtype = x.dtype();
  for (std::size_t i = 0; i < s.signature.leaves.size(); ++i)
    if (s.signature.leaves[i].get() == tensor) {
      v.kind = Value::argument;
      v.number = static_cast<int>(i);
      return v;
    }
  const int number = s.capture.slot_of(x.storage());
  const Slot* slot = number >= 0 ? &s.capture.slot(number) : nullptr;
  if (slot && slot->kind == Slot::input) {
    v.kind = Value::input;
    v.number = slot->number;
    v.offset -= s.inputs[static_cast<std::size_t>(v.number)].offset / itemsize(v.dtype);
  } else if (slot && slot->kind == Slot::inside && !x.storage()->adopted()) {
    v.kind = Value::result;
    auto place = std::find(results.begin(), results.end(), x.storage());
    v.number = static_cast<int>(place - results.begin());
    if (place == results.end()) results.push_back(x.storage());
  } else if (slot && slot->created && !x.storage()->adopted()) {
    v.kind = Value::constant;
    v.storage = x.storage_ref();
  } else if (Py_REFCNT(tensor) > 2 && !(slot && slot->created)) {
    // Someone outside holds it: the object itself comes back.
    v.kind = Value::object;
    v.tensor = checked(PyWeakref_NewRef(tensor, nullptr));
    v.storage = x.storage_ref();
  } else {
    v.kind = Value::outside;
    v.storage = x.storage_ref();
  }
  return v;
}

// Turns what was captured into an entry; null, with the reason, where someone keeps what it made.
Entry* finish(Session& s, PyObject* result, std::string& why) {
  auto entry = std::make_unique<Entry>();
  entry->key = s.signature.key;
  entry->description = describe(s.signature);
  entry->held = s.signature.held;
  std::vector<Ref> leaves;
  entry->result = take_apart(result, leaves);
  std::vector<Storage*> results;
  std::vector<const Storage*> handed_out;
  std::vector<PyObject*> seen;
  const auto hand_out = [&](PyObject* tensor) {
    if (std::find(seen.begin(), seen.end(), tensor) != seen.end()) return;
    seen.push_back(tensor);
    handed_out.push_back(array_of(tensor).storage());
  };
  for (const Ref& leaf : leaves) {
    if (node_alive(leaf.get()))
      runtime_error(
          "jit: the result carries a gradient that a replay would lose; call backward() inside the function, "
          "or return x.detach(), or run it under ts.no_grad()");
    entry->values.push_back(describe_value(s, leaf.get(), results));
    hand_out(leaf.get());
  }
  for (const Touched& t : s.touched) {
    Gradient g;
    PyObject* leaf = t.leaf.get();
    for (std::size_t i = 0; i < s.signature.leaves.size(); ++i)
      if (s.signature.leaves[i].get() == leaf) g.leaf.argument = static_cast<int>(i);
    if (g.leaf.argument < 0) {
      if (Py_REFCNT(leaf) == 1) continue;  // made within, and gone
      g.leaf.outside = checked(PyWeakref_NewRef(leaf, nullptr));
    }
    g.read = t.read;
    g.input = t.input;
    const Autograd* a = as_tensor(leaf)->autograd;
    PyObject* after = a ? a->grad.get() : nullptr;
    g.replaced = !t.read || after != t.before.get();
    g.to_none = !after;
    if (g.replaced && after) {
      if (!is_tensor(after)) runtime_error("jit: a gradient is row-sparse; use sparse=False");
      if (node_alive(after))
        runtime_error("jit: a gradient carries a graph of its own (create_graph), which a replay would lose");
      g.value = describe_value(s, after, results);
      hand_out(after);
    }
    if (t.input >= 0)
      s.inputs[static_cast<std::size_t>(t.input)].gradient = static_cast<int>(entry->gradients.size());
    entry->gradients.push_back(std::move(g));
  }
  // An input's gradient may have been dropped above.
  for (const Input& input : s.inputs)
    if (input.argument < 0 && input.gradient < 0) {
      why = "the gradient of a tensor that no longer exists was used";
      return nullptr;
    }
  for (const std::string& line : s.capture.escaped(handed_out)) {
    why = "a tensor that it computed (" + line + ") is still held by someone when it has returned";
    return nullptr;
  }
  // How many hold each result: one alone may keep its memory for the next replay.
  std::vector<int> holders(results.size());
  for (const Value& v : entry->values)
    if (v.kind == Value::result) ++holders[static_cast<std::size_t>(v.number)];
  for (const Gradient& g : entry->gradients)
    if (g.replaced && !g.to_none && g.value.kind == Value::result)
      ++holders[static_cast<std::size_t>(g.value.number)];
  entry->reusable.assign(results.size(), -1);
  for (std::size_t i = 0; i < entry->gradients.size(); ++i) {
    const Gradient& g = entry->gradients[i];
    if (g.replaced && !g.to_none && !g.read && g.value.kind == Value::result &&
        holders[static_cast<std::size_t>(g.value.number)] == 1)
      entry->reusable[static_cast<std::size_t>(g.value.number)] = static_cast<int>(i);
  }
  entry->recording = s.capture.finish(results);
  const Recording& r = *entry->recording;
  entry->inputs = s.inputs;
  for (const Slot& slot : r.slots()) {
    if (slot.kind == Slot::input) entry->inputs[static_cast<std::size_t>(slot.number)].written = slot.written;
    if (slot.kind == Slot::outside && slot.keep) {
      const char* data = static_cast<const char*>(slot.keep->data());
      entry->outside.emplace_back(data, data + slot.keep->nbytes());
    }
  }
  std::sort(entry->outside.begin(), entry->outside.end());
  for (const Ref& leaf : s.signature.leaves) {
    entry->pinned |= meets(*entry, array_of(leaf.get()));
    // Seen through an argument, memory is an input, though it is also a tensor that the function reaches
    // itself.
    for (const Guard& g : s.guards)
      if (g.kind == Guard::memory && PyWeakref_GetObject(g.expected.get()) != Py_None)
        entry->pinned |=
            array_of(PyWeakref_GetObject(g.expected.get())).storage() == array_of(leaf.get()).storage();
    entry->pins.push_back(array_of(leaf.get()).data());
  }
  for (const Ref& function : s.first) entry->effects.push_back({0, function});
  for (auto& [position, function] : s.effects) entry->effects.push_back({r.position(position), function});
  entry->guards = std::move(s.guards);
  return entry.release();
}

// --- replays -------------------------------------------------------------------------------------

struct Replays {
  std::list<std::shared_ptr<Entry>> entries;  // the latest used first
  std::size_t limit = 16;
  std::uint64_t hits = 0, misses = 0;
};

struct ReplaysObject {
  PyObject_HEAD Replays* replays;
};
Replays& replays_of(PyObject* o) { return *reinterpret_cast<ReplaysObject*>(o)->replays; }

Ref tensor_of(const Value& v, const std::vector<Ref>& arguments, const std::vector<Array>& inputs,
              const std::vector<StorageRef>& results) {
  switch (v.kind) {
    case Value::argument:
      return arguments[static_cast<std::size_t>(v.number)];
    case Value::object:
      if (PyObject* alive = PyWeakref_GetObject(v.tensor.get()); alive != Py_None) return Ref::share(alive);
      [[fallthrough]];
    case Value::outside:
      return make_tensor(Array(v.storage, v.dtype, v.shape, v.strides, v.offset));
    case Value::constant: {
      const DeviceScope scope(v.storage->device());
      return make_tensor(ops::copy(Array(v.storage, v.dtype, v.shape, v.strides, v.offset)));
    }
    case Value::input: {
      const Array& x = inputs[static_cast<std::size_t>(v.number)];
      const std::int64_t begin = x.offset() * itemsize(x.dtype()) / itemsize(v.dtype);
      Ref tensor = make_tensor(Array(x.storage_ref(), v.dtype, v.shape, v.strides, begin + v.offset));
      as_tensor(tensor.get())->shares_storage = true;
      return tensor;
    }
    case Value::result:
      break;
  }
  return make_tensor(
      Array(results[static_cast<std::size_t>(v.number)], v.dtype, v.shape, v.strides, v.offset));
}

// The first guard that does not hold, or null.
const Guard* broken(const Entry& e) {
  for (const Guard& g : e.guards)
    if (!g.holds()) return &g;
  return nullptr;
}

// Whether the entry serves a call with these arguments; otherwise `why`, if wanted.
bool serves(const Entry& e, const Signature& s, std::string* why) {
  const auto no = [&](const std::string& reason) {
    if (why) *why = reason;
    return false;
  };
  if (const Guard* g = broken(e)) return no(g->path + " has changed");
  if (e.recording->stale()) return no("a tensor that it used has been replaced");
  for (std::size_t i = 0; i < s.leaves.size(); ++i) {
    const Array& x = array_of(s.leaves[i].get());
    if (e.pinned ? x.data() != e.pins[i] : meets(e, x))
      return no("an argument shares its memory with a tensor that the function uses");
  }
  for (const Gradient& g : e.gradients) {
    PyObject* leaf = g.leaf.get(s.leaves);
    if (!leaf) return no("a parameter has been replaced");
    if (!g.read) continue;
    const Autograd* a = as_tensor(leaf)->autograd;
    PyObject* now = a ? a->grad.get() : nullptr;
    if ((now != nullptr) != (g.input >= 0))
      return no(now ? "a gradient was None and is not" : "a gradient was there and is None");
    if (!now) continue;
    if (!is_tensor(now)) return no("a gradient is row-sparse");
    const Array& x = array_of(now);
    const Input& input = e.inputs[static_cast<std::size_t>(g.input)];
    if (x.dtype() != input.dtype || x.shape() != input.shape || x.strides() != input.strides ||
        x.read_only() || meets(e, x) || std::any_of(s.leaves.begin(), s.leaves.end(), [&](const Ref& other) {
          return may_overlap(x, array_of(other.get()));
        }))
      return no("a gradient has another shape, dtype or layout");
  }
  return true;
}

PyObject* replay(Entry& e, const Signature& s) {
  // Guards may run Python (==); from here on nothing does until the kernels are through.
  Recording& r = *e.recording;
  std::vector<Array> inputs(e.inputs.size());
  std::vector<void*> bases(e.inputs.size());
  for (std::size_t i = 0; i < e.inputs.size(); ++i) {
    const Input& input = e.inputs[i];
    if (input.argument >= 0)
      inputs[i] = array_of(s.leaves[static_cast<std::size_t>(input.argument)].get());
    else
      inputs[i] = array_of(
          autograd_of(e.gradients[static_cast<std::size_t>(input.gradient)].leaf.get(s.leaves)).grad.get());
    bases[i] = static_cast<char*>(inputs[i].data()) - input.offset;
  }
  std::vector<StorageRef> results(e.reusable.size());
  std::vector<Storage*> storages(e.reusable.size());
  std::vector<bool> reused(e.gradients.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Slot& slot = r.slots()[static_cast<std::size_t>(r.results()[i])];
    const std::int64_t bytes = slot.nbytes;
    const Device device = slot.device;
    if (const int k = e.reusable[i]; k >= 0) {
      // A gradient that nobody but its leaf can see may be written over.
      const Gradient& g = e.gradients[static_cast<std::size_t>(k)];
      const Autograd* a = as_tensor(g.leaf.get(s.leaves))->autograd;
      if (PyObject* now = a ? a->grad.get() : nullptr; now && is_tensor(now)) {
        const Array& x = array_of(now);
        Storage* own = x.storage();
        if (Py_REFCNT(now) == 1 && own->owners() == 1 && !own->adopted() && own->nbytes() == bytes &&
            own->device() == device && x.dtype() == g.value.dtype && x.shape() == g.value.shape &&
            x.strides() == g.value.strides && x.offset() == g.value.offset && !as_tensor(now)->weakrefs &&
            !as_tensor(now)->autograd) {
          own->bump();
          results[i] = x.storage_ref();
          reused[static_cast<std::size_t>(k)] = true;
        }
      }
    }
    if (!results[i]) {
      const DeviceScope scope(device);
      results[i] = StorageRef(Storage::allocate(bytes));
    }
    storages[i] = results[i].get();
  }

  struct Lock {
    explicit Lock(Recording& r) : r(r) {
      if (r.mutex.try_lock()) return;
      PyThreadState* state = PyEval_SaveThread();
      r.mutex.lock();
      PyEval_RestoreThread(state);
    }
    ~Lock() {
      r.finish_run();
      r.mutex.unlock();
    }
    Recording& r;
  };
  {
    const Lock lock(r);
    r.bind(bases.data(), storages.data());
    int begin = 0;
    const int end = static_cast<int>(r.steps().size());
    for (const Effect& effect : e.effects) {
      if (effect.position > begin) {
        r.run(begin, effect.position);
        begin = effect.position;
      }
      checked(into_python([&] { return PyObject_CallNoArgs(effect.function.get()); }));
    }
    if (begin < end) r.run(begin, end);
    r.deliver();
  }
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (e.inputs[i].written) inputs[i].storage()->bump();
  for (std::size_t i = 0; i < e.gradients.size(); ++i) {
    const Gradient& g = e.gradients[i];
    if (!g.replaced || reused[i]) continue;
    PyObject* leaf = g.leaf.get(s.leaves);
    if (!leaf) continue;
    if (g.to_none) {
      if (Autograd* a = as_tensor(leaf)->autograd) a->grad = Ref();
    } else {
      Ref value = tensor_of(g.value, s.leaves, inputs, results);
      autograd_of(leaf).grad = std::move(value);
    }
  }
  std::vector<Ref> leaves;
  leaves.reserve(e.values.size());
  for (const Value& v : e.values) leaves.push_back(tensor_of(v, s.leaves, inputs, results));
  ++e.replays;
  return put_together(e.result, leaves).release();
}

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
    if (!PyArg_ParseTuple(args, "O!O", g_session_type, &session, &result)) throw PythonError{};
    std::string why;
    std::shared_ptr<Entry> entry(finish(session_of(session), result, why));
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
    for (const Guard& g : e->guards) {
      Py_VISIT(g.container.get());
      Py_VISIT(g.key.get());
      Py_VISIT(g.expected.get());
    }
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

// --- functions of the module ---------------------------------------------------------------------

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

PyObject* set_package(PyObject*, PyObject* folder) {
  const char* text = PyUnicode_AsUTF8(folder);
  if (!text) return nullptr;
  g_package = text;
  Py_RETURN_NONE;
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
    {"capturing", capturing, METH_NOARGS, "Whether this thread's operations are being recorded."},
    {"put_capture_aside", put_aside, METH_NOARGS, "Stops recording for a while; see take_capture_up."},
    {"take_capture_up", take_up, METH_O, "Goes on with what put_capture_aside returned."},
    {"at_replay", at_replay, METH_O, "While recording: replays call this function at this place."},
    {"before_replay", before_replay, METH_VARARGS, "While recording: replays call this function first."},
    {"set_package_folder", set_package, METH_O, "Frames of files below it are not the user's."},
    {}};

PyMethodDef g_session_methods[] = {{"begin", session_begin, METH_NOARGS, "Starts the capture."},
                                   {"changed", session_changed, METH_NOARGS, "What the call changed."},
                                   {"end", session_end, METH_NOARGS, "Ends it."},
                                   {}};
PyGetSetDef g_session_getset[] = {
    {"refusal", session_refusal, nullptr, "Why this cannot be replayed, or ''.", nullptr}, {}};
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

bool init_jit(PyObject* module) {
  static PyType_Slot session_slots[] = {{Py_tp_new, reinterpret_cast<void*>(session_new)},
                                        {Py_tp_dealloc, reinterpret_cast<void*>(session_dealloc)},
                                        {Py_tp_methods, g_session_methods},
                                        {Py_tp_getset, g_session_getset},
                                        {0, nullptr}};
  static PyType_Spec session_spec = {"tensorsmith._core.Session", sizeof(SessionObject), 0,
                                     Py_TPFLAGS_DEFAULT, session_slots};
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
  g_session_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&session_spec));
  g_replays_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&replays_spec));
  if (!g_session_type || !g_replays_type) return false;
  set_line_hooks(line_hook, line_key);
  return PyModule_AddObjectRef(module, "Session", reinterpret_cast<PyObject*>(g_session_type)) == 0 &&
         PyModule_AddObjectRef(module, "Replays", reinterpret_cast<PyObject*>(g_replays_type)) == 0 &&
         PyModule_AddFunctions(module, g_functions) == 0;
}

}  // namespace ts::python
