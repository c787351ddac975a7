// Fusion: steps of pointwise kernels on the same elements become one, which runs them all on a block of
// elements before it goes to the next.
//
// The kernels themselves do the work, on views of the block: what a fused step computes has the bits of the
// single ones, for an element's bits do not depend on its neighbours. What is read only within the group
// lives in a few buffers that stay in the first-level cache. A reduction may end a group. Of rows that blocks
// hold whole it is the kernel's own work; of a sum or mean of all elements a block is 2^k leaves of the tree,
// so that the block's sum is a part of the whole one.
#pragma once

#include <string>
#include <vector>

#include "core/threads.h"
#include "core/watch.h"

namespace ts {

// Elements: a few buffers of them fill a first-level cache, and they are 2^k leaves of the tree of sums (8
// KiB each: docs/kernels/reduce.md).
constexpr std::int64_t kFusedBlock = 4096;
constexpr std::int64_t kFusedPiece = 32768;  // of a piece of work
constexpr int kFusedOperands = 4, kFusedAxes = 8;
constexpr std::size_t kFusedBuffers = kScratchBytes / 2;  // kernels use the scratch from its beginning
constexpr std::size_t kEpilogueBytes = 128 << 10;         // on the stack: the scratch is the product's
constexpr int kFinished = -2;                             // in place of a buffer: the product's block

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
  // What ends it: nothing; a sum (divided by `count`, if that is not 0) of the last call's result, which is
  // in a buffer; or a reduction of its rows, `rows_each` of them for an index of the outer axis.
  enum Tail : std::uint8_t { none, sum, rows } tail = none;
  void (*reduce)(In x, Out y, int reduced) = nullptr;
  int tail_view = -1;
  DType tail_dtype = DType::float32;
  FusedOperand reduced;
  std::int64_t count = 0, rows_each = 1, row_length = 1;
  // An epilogue's product, which has no operands here: its views come first, the result's is `result_view`.
  // Axes are rows and columns.
  FusedCall product{};
  int result_view = -1;
  bool forgotten = false;  // nobody else reads the result
  int addend_view = -1;    // what the product's kernel adds itself, into the one call's result
};

// The steps may be fused at all.
bool is_pointwise(Kernel kernel);
// What a fused step calls: one attribute, the group.
void run_group(Function, const View* views, const std::byte* attributes);
// The same of a product with its epilogue.
void run_product(Function, const View* views, const std::byte* attributes);

}  // namespace ts
