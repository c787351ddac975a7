// What is done with a product's result block by block, while it is in cache.
//
// Who runs a fused step leaves an epilogue before it calls the product's kernel. A kernel that can takes it,
// and calls `run` with each block of its result as soon as that is finished, on the thread that made it; a
// kernel that cannot leaves it, and whoever left it does the work afterwards.
//
// The result is a matrix here, in the order of its memory: rows of C of all matrices of a batch, or pixels
// and their channels.
//
// Safe to include from every SIMD level: plain data and declarations only.
#pragma once

#include <cstdint>

namespace ts {

struct Finished {
  std::int64_t row, rows, column, columns;
  const void* data;
  std::int64_t stride;  // from row to row, in elements; columns lie side by side
};

struct Epilogue {
  void (*run)(const Epilogue& epilogue, const Finished& block);
  bool forgotten;  // nobody else reads the result: it may lie anywhere, a block at a time
  // Unless null, nothing is run: this matrix, which lies as the result does, is added to it, last. It may be
  // the result's own memory (of a matrix product, where the depth is one block of K).
  const void* addend = nullptr;
};

constexpr std::int64_t kBlockBytes = 4096;  // a row of A in one block of K

// Leaves one for the kernel that this thread calls next; null takes it back. True if the one before has been
// taken.
bool leave_epilogue(const Epilogue* epilogue);
// The one that was left, or null; from now on it is the caller's to run.
const Epilogue* take_epilogue();

}  // namespace ts
