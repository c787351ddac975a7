// An entry of the cache: one recording with what it needs of Python. Where its inputs come from, what must
// still hold, how its result is put together, which gradients it leaves behind, and which Python calls (an
// optimizer's new learning rate, a schedule's step) belong between its steps.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "python/session.h"

namespace ts::python {

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
  enum Kind { argument, object, result, input, outside, constant, again } kind = result;
  int number = -1;     // of the argument, result or input; again: of the earlier leaf that it is
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

struct Effect {
  int position;  // before this step
  Ref function;
};

struct Entry {
  std::string key, description;
  std::vector<Ref> held;
  std::unique_ptr<Recording> recording;
  Guards guards;
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

// Whether the array lies in memory that the recording uses from outside.
bool meets(const Entry& e, const Array& x);

// Turns what was captured into an entry; null, with the reason, where someone keeps what it made.
std::unique_ptr<Entry> make_entry(Session& s, PyObject* result, std::string& why);

}  // namespace ts::python
