// The tape: a node for every recorded operation (autograd.cpp), and the walk back over them (backward.cpp).
#pragma once

#include <vector>

#include "python/op.h"

namespace ts::python {

// A value kept for backward. It must still be what it was: its storage's version is compared when it is used.
struct Saved {
  Ref tensor;    // an input, as the object that was passed
  Array output;  // a result of the node itself, without the object: that would be a cycle
  std::uint32_t version = 0;
};

// One tensor argument of the recorded call: where its gradient goes.
struct Edge {
  int parameter;  // which parameter, and which place in it if that is a list
  int position;
  Ref target;  // Node, or a leaf Tensor; null where no gradient is wanted
  int output;  // of the target node
  Shape shape;
  DType dtype;
  Device device;
};

struct NodeObject {
  PyObject_HEAD std::uint64_t sequence;  // inputs always have a smaller one
  Op* op;                                // null for a node made in Python
  Ref function;                          // of a node made in Python: called with the output gradients
  Ref name;
  std::vector<Edge> edges;
  std::vector<Ref> arguments;          // attributes and lists that the rules ask for, by parameter
  std::vector<Saved> inputs, outputs;  // by parameter, by output
  std::vector<Shape> shapes;           // of the outputs
  std::vector<DType> dtypes;
  std::vector<Ref> hooks;  // by output: lists of callables
  bool freed, is_view;
  PyObject* weakrefs;
};

extern thread_local bool g_grad_enabled;
bool is_node(PyObject* object);
inline NodeObject* as_node(PyObject* object) { return reinterpret_cast<NodeObject*>(object); }
// What errors call it.
const char* node_label(const NodeObject* n);
// Lets go of what backward needed.
void release(NodeObject* n);
// Makes the tensor the node's output of that number.
void set_output(NodeObject* n, PyObject* tensor, int output, bool is_view);
// What `.grad` may hold: a tensor, or a row-sparse gradient.
bool is_gradient(PyObject* object);

// RuntimeError where the tensor is a recorded view of memory that was written after the view was taken. Asked
// before the operation runs: one that works in place writes that memory itself.
void check_view(const char* operation, PyObject* tensor);

// Appends the call to the tape and makes `results` (one object per returned output) its outputs. `versions`
// are those of the tensor arguments before the call.
void record(Op& op, PyObject* const* arguments, const std::uint32_t* versions, Results& arrays,
            PyObject* const* results, bool is_view);

// What autograd.py builds on; the definitions say what each does.
PyObject* run_backward(PyObject* module, PyObject* const* arguments, Py_ssize_t count);
PyObject* set_row_sparse(PyObject* module, PyObject* type);
PyObject* record_python(PyObject* module, PyObject* const* arguments, Py_ssize_t count);

}  // namespace ts::python
