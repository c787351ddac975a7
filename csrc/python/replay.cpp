#include "python/replay.h"

#include <algorithm>

#include "ops/elementwise.h"
#include "python/autograd.h"

namespace ts::python {

namespace {

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
    case Value::again:  // is found among the leaves
    case Value::result:
      break;
  }
  return make_tensor(
      Array(results[static_cast<std::size_t>(v.number)], v.dtype, v.shape, v.strides, v.offset));
}

}  // namespace

bool serves(const Entry& e, const Signature& s, std::string* why) {
  const auto no = [&](const std::string& reason) {
    if (why) *why = reason;
    return false;
  };
  if (!e.guards.hold()) return no(why ? e.guards.broken() + " has changed" : "");
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
  // Before they are written: a check that fails may come behind the first write.
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (e.inputs[i].written) inputs[i].storage()->bump();
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
  for (const Value& v : e.values)
    leaves.push_back(v.kind == Value::again ? leaves[static_cast<std::size_t>(v.number)]
                                            : tensor_of(v, s.leaves, inputs, results));
  ++e.replays;
  return put_together(e.result, leaves).release();
}

}  // namespace ts::python
