#include "python/entry.h"

#include <algorithm>

#include "python/autograd.h"

namespace ts::python {

namespace {

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

// An iterator, a generator or a coroutine would be used up by whoever gets the result of the first replay.
void refuse_used_up(const Tree& tree) {
  for (const Tree& item : tree.items) refuse_used_up(item);
  PyObject* const o = tree.object.get();
  if (tree.kind == Tree::value && (PyIter_Check(o) || PyCoro_CheckExact(o) || PyAsyncGen_CheckExact(o)))
    runtime_error("jit: the result is or holds a ", Py_TYPE(o)->tp_name,
                  ", which is used up by whoever reads it first; return a list or a tuple");
}

}  // namespace

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

std::unique_ptr<Entry> make_entry(Session& s, PyObject* result, std::string& why) {
  auto entry = std::make_unique<Entry>();
  entry->key = s.signature.key;
  entry->description = describe(s.signature);
  entry->held = s.signature.held;
  std::vector<Ref> leaves;
  entry->result = take_apart(result, leaves);
  refuse_used_up(entry->result);
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
    const auto same =
        std::find_if(leaves.begin(), leaves.end(), [&](const Ref& l) { return l.get() == leaf.get(); });
    if (&*same != &leaf) {
      Value again;
      again.kind = Value::again;
      again.number = static_cast<int>(same - leaves.begin());
      entry->values.push_back(std::move(again));
      continue;
    }
    entry->values.push_back(describe_value(s, leaf.get(), results));
    hand_out(leaf.get());
  }
  for (Touched& t : s.touched) {
    Gradient g;
    PyObject* leaf = t.leaf.get();
    if (!leaf) continue;  // let go when this was tried before
    for (std::size_t i = 0; i < s.signature.leaves.size(); ++i)
      if (s.signature.leaves[i].get() == leaf) g.leaf.argument = static_cast<int>(i);
    if (g.leaf.argument < 0) {
      if (Py_REFCNT(leaf) == 1) {  // made within, and gone but for this
        t.leaf = Ref();
        continue;
      }
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
    entry->pinned |= s.guards.meet(array_of(leaf.get()).storage());
    entry->pins.push_back(array_of(leaf.get()).data());
  }
  for (const Ref& function : s.first) entry->effects.push_back({0, function});
  for (auto& [position, function] : s.effects) entry->effects.push_back({r.position(position), function});
  entry->guards = std::move(s.guards);
  return entry;
}

}  // namespace ts::python
