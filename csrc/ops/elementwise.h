// Pointwise operations: promote, broadcast, allocate, launch. One generic path for each arity; the list of
// operations is kernels.def's.
#pragma once

#include "core/backend.h"
#include "ops/check.h"
#include "ops/operand.h"

namespace ts::ops {

// One line of kernels.def.
struct Pointwise {
  const char* name;
  int arity;
  Domain domain;
  bool boolean_result;
  void (*Kernels::*unary)(In, Out);
  void (*Kernels::*binary)(In, In, Out);
  void (*Kernels::*ternary)(In, In, In, Out);
};
extern const Pointwise kPointwise[];
extern const int kPointwiseCount;

// The result of the operation on `arity` operands. Integers and bools that meet a floating operation become
// the default float.
Array pointwise(const Pointwise& op, const Operand* operands);
// The same into `out`, whose dtype and shape must be able to take it.
void pointwise_into(const Pointwise& op, const Operand* operands, Array& out);
// The same where `out` has the result's own shape and dtype; false, and nothing is done, where it has not.
bool try_pointwise_into(const Pointwise& op, const Operand* operands, Array& out);

Array where(const Array& condition, const Operand& a, const Operand& b);

// A dense copy in row-major order, or in the memory order of x.
Array contiguous(const Array& x);
Array copy(const Array& x);
Array astype(const Array& x, DType dtype, bool copy);
// Converts and broadcasts x into `out`, which may overlap it.
void copy_into(const char* operation, const Operand& x, Array& out);
// Sums x over the axes that broadcasting gave it, so that it has `shape` again: the gradient of broadcast_to.
Array sum_to(const Array& x, const Shape& shape);
// ValueError/RuntimeError unless `out` can be written in place.
void check_writable(const char* operation, const Array& out);

}  // namespace ts::ops
