// Fusion: steps of pointwise kernels on the same elements become one, which runs them all on a block of
// elements before it goes to the next.
//
// The kernels themselves do the work, on views of the block: what a fused step computes has the bits of the
// single ones, for an element's bits do not depend on its neighbours. What is read only within the group
// lives in a few buffers that stay in the first-level cache. A sum over all elements may end a group: a block
// is 2^k leaves of its tree, so the block's sum is a part of the whole one.
#pragma once

#include <string>
#include <vector>

#include "core/watch.h"

namespace ts {

struct FusedOperand {
  int view;          // of the group's step
  int buffer;        // its bytes offset in the thread's buffers, or -1: the view's memory
  std::int64_t row;  // bytes from one index of the outer axis to the next
  std::int64_t item;
  DType dtype;
  std::vector<std::int64_t> strides;
};

struct FusedCall {
  Function function;
  Thunk thunk;
  std::vector<std::byte> attributes;
  std::vector<FusedOperand> operands;
};

struct Group {
  std::string name;
  std::vector<FusedCall> calls;
  std::vector<std::int64_t> shape;  // axes joined; blocks are of the outer one
  std::int64_t block, piece;        // indices of the outer axis in each
  // A sum of the last call's result, which is in a buffer.
  Function sum = nullptr;
  int sum_view = -1;
  FusedOperand summed;
};

// The steps may be fused at all.
bool is_pointwise(Kernel kernel);
// What a fused step calls: one attribute, the group.
void run_group(Function, const View* views, const std::byte* attributes);

}  // namespace ts
