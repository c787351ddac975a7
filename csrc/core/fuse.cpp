#include "core/fuse.h"

#include <algorithm>
#include <cstring>

#include "core/threads.h"

namespace ts {

namespace {

// Runs the calls for outer indices [begin, end).
void run_block(const Group& g, const View* views, char* buffers, std::int64_t begin, std::int64_t end) {
  std::int64_t shape[kFusedAxes];
  std::copy(g.shape.begin(), g.shape.end(), shape);
  shape[0] = end - begin;
  for (const FusedCall& call : g.calls) {
    View block[kFusedOperands];
    for (std::size_t i = 0; i < call.operands.size(); ++i) {
      const FusedOperand& o = call.operands[i];
      char* const data =
          o.buffer < 0 ? static_cast<char*>(views[o.view].data) + begin * o.row : buffers + o.buffer;
      block[i] = View{data, shape, o.strides.data(), nullptr, static_cast<int>(g.shape.size()), o.dtype};
    }
    call.thunk(call.function, block, call.attributes.data());
  }
  if (g.tail != Group::rows) return;
  // Each row is whole, so that its result is the kernel's own.
  const std::int64_t count = (end - begin) * g.rows_each, x_shape[] = {count, g.row_length},
                     x_strides[] = {g.row_length, 1}, one = 1;
  const FusedOperand& x = g.reduced;
  char* const data =
      x.buffer < 0 ? static_cast<char*>(views[x.view].data) + begin * x.row : buffers + x.buffer;
  char* const y = static_cast<char*>(views[g.tail_view].data) + begin * g.rows_each * itemsize(g.tail_dtype);
  g.reduce(In{{data, x_shape, x_strides, nullptr, 2, x.dtype}},
           Out{{y, &count, &one, nullptr, 1, g.tail_dtype}}, 1);
}

// partial[i] = earlier + later, as a binary counter carries: the upper part of the tree of sums.
template <class T>
T pairwise(const T* sums, std::int64_t count) {
  T partial[64];
  int top = 0;
  for (std::int64_t q = 0; q < count; ++q) {
    T sum = sums[q];
    for (std::int64_t carry = q; carry & 1; carry >>= 1) sum = partial[--top] + sum;
    partial[top++] = sum;
  }
  T sum = partial[--top];
  while (top > 0) sum = partial[--top] + sum;
  return sum;
}

struct Work {
  const Group& g;
  const View* views;
  char* sums;

  void piece(std::int64_t number) const {
    char* buffers = static_cast<char*>(scratch()) + kFusedBuffers;
    const std::int64_t rows = g.shape[0], first = number * g.piece, last = std::min(first + g.piece, rows);
    for (std::int64_t begin = first; begin < last; begin += g.block) {
      const std::int64_t end = std::min(begin + g.block, last), count = end - begin, one = 1;
      run_block(g, views, buffers, begin, end);
      if (g.tail != Group::sum) continue;
      const In x{{buffers + g.reduced.buffer, &count, &one, nullptr, 1, g.reduced.dtype}};
      const Out y{{sums + begin / g.block * g.reduced.item, nullptr, nullptr, nullptr, 0, g.reduced.dtype}};
      g.reduce(x, y, 1);
    }
  }
};

}  // namespace

bool is_pointwise(Kernel kernel) {
  switch (kernel) {
#define UNARY(name, domain) case Kernel::name:
#define PREDICATE(name, domain) case Kernel::name:
#define BINARY(name, domain) case Kernel::name:
#define COMPARE(name, domain) case Kernel::name:
#define TERNARY(name, domain) case Kernel::name:
#define KERNEL(name, ...)
#include "core/kernels.def"
    case Kernel::where:
    case Kernel::cast:
      return true;
    default:
      return false;
  }
}

void run_group(Function, const View* views, const std::byte* attributes) {
  const Group* g;
  std::memcpy(&g, attributes, sizeof(g));
  const std::int64_t pieces = (g->shape[0] + g->piece - 1) / g->piece;
  const std::int64_t blocks = (g->shape[0] + g->block - 1) / g->block;
  std::vector<double> sums(g->tail == Group::sum ? static_cast<std::size_t>(blocks) : 0);
  Work work{*g, views, reinterpret_cast<char*>(sums.data())};
  parallel_for(pieces, [](void* w, std::int64_t number) { static_cast<Work*>(w)->piece(number); }, &work);
  if (g->tail != Group::sum) return;
  const auto finish = [&]<class T>(T* y) {
    const T sum = pairwise(reinterpret_cast<const T*>(sums.data()), blocks);
    *y = g->count ? sum / static_cast<T>(g->count) : sum;
  };
  void* y = views[g->tail_view].data;
  if (g->reduced.dtype == DType::float32)
    finish(static_cast<float*>(y));
  else
    finish(static_cast<double*>(y));
}

}  // namespace ts
