// The signature of a call: what must be equal for two calls to be the same work on other elements.
#pragma once

#include <string>
#include <vector>

#include "python/tensor.h"

namespace ts::python {

// Nested tuples, lists and dicts, with tensors and other values at the leaves.
struct Tree {
  enum Kind { tuple, list, dict, tensor, value } kind = value;
  Ref object;             // value: itself; tuple: its type
  std::vector<Ref> keys;  // of a dict
  std::vector<Tree> items;
  int leaf = -1;  // of a tensor: its number
};

struct Signature {
  std::string key;
  std::vector<Ref> leaves;  // tensors in order; NumPy arrays become tensors over the same memory
  std::vector<Ref> held;    // objects that stand in the key by their address
};

// Of the arguments, the gradient mode and the default dtype. TypeError for nesting without end.
Signature sign(PyObject* args, PyObject* kwargs);
// What tells two signatures apart, in words.
std::string describe(const Signature& s);
// Takes a result apart; tensors go to `leaves`.
Tree take_apart(PyObject* object, std::vector<Ref>& leaves, int depth = 0);
// Puts one together around other leaves.
Ref put_together(const Tree& tree, const std::vector<Ref>& leaves);

}  // namespace ts::python
