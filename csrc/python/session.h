// A session: the capture of one call of a Python function, with what it sees of Python objects beside
// kernels.
#pragma once

#include <vector>

#include "core/recording.h"
#include "python/guard.h"
#include "python/signature.h"

namespace ts::python {

struct Input {
  int argument = -1, gradient = -1;  // one of them
  std::int64_t offset = 0;           // bytes, of the array in its storage
  bool written = false;
  DType dtype = DType::float32;  // of a gradient
  Shape shape, strides;
};

// A leaf whose gradient was read or replaced.
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
  Guards guards;  // from before the call
};

// Of a `Session`, which Python holds.
Session& session_of(PyObject* session);
PyTypeObject* session_type();
// Whether the graph that made the tensor could still be walked.
bool node_alive(PyObject* tensor);

bool init_session(PyObject* module);

}  // namespace ts::python
