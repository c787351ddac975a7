#include "core/fuse.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/epilogue.h"
#include "core/error.h"
#include "core/threads.h"

namespace ts {

namespace {

constinit thread_local const Epilogue* t_epilogue [[gnu::tls_model("initial-exec")]] = nullptr;

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

// Runs an epilogue's calls on a block of the product's result, some rows of it at a time.
void run_finished(const Group& g, const View* views, const Finished& block) {
  alignas(64) char buffers[kEpilogueBytes];
  const std::int64_t columns_once = std::min(block.columns, kFusedBlock),
                     rows_once = kFusedBlock / columns_once;
  for (std::int64_t i = 0; i < block.rows; i += rows_once)
    for (std::int64_t j = 0; j < block.columns; j += columns_once) {
      const std::int64_t shape[] = {std::min(rows_once, block.rows - i),
                                    std::min(columns_once, block.columns - j)};
      for (const FusedCall& call : g.calls) {
        View part[kFusedOperands];
        std::int64_t strides[kFusedOperands][2];
        for (std::size_t k = 0; k < call.operands.size(); ++k) {
          const FusedOperand& o = call.operands[k];
          std::int64_t* const s = strides[k];
          char* data;
          if (o.buffer >= 0) {
            s[0] = shape[1], s[1] = 1;
            data = buffers + o.buffer;
          } else if (o.buffer == kFinished) {
            s[0] = block.stride, s[1] = 1;
            data = static_cast<char*>(const_cast<void*>(block.data)) + (i * s[0] + j) * o.item;
          } else {
            s[0] = o.strides[0], s[1] = o.strides[1];
            data = static_cast<char*>(views[o.view].data) +
                   ((block.row + i) * s[0] + (block.column + j) * s[1]) * o.item;
          }
          part[k] = View{data, shape, s, nullptr, 2, o.dtype};
        }
        call.thunk(call.function, part, call.attributes.data());
      }
    }
}

struct GroupEpilogue : Epilogue {
  const Group& g;
  const View* views;
};

void run_epilogue(const Epilogue& e, const Finished& block) {
  const auto& self = static_cast<const GroupEpilogue&>(e);
  run_finished(self.g, self.views, block);
}

}  // namespace

bool leave_epilogue(const Epilogue* epilogue) { return !std::exchange(t_epilogue, epilogue); }
const Epilogue* take_epilogue() { return std::exchange(t_epilogue, nullptr); }

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

void run_product(Function, const View* views, const std::byte* attributes) {
  const Group* g;
  std::memcpy(&g, attributes, sizeof(g));
  const bool adds = g->addend_view >= 0;
  const GroupEpilogue epilogue{
      {&run_epilogue, g->forgotten && !adds, adds ? views[g->addend_view].data : nullptr}, *g, views};
  struct Left {
    explicit Left(const Epilogue* e) { leave_epilogue(e); }
    ~Left() { leave_epilogue(nullptr); }
  };
  bool taken;
  {
    const Left left(&epilogue);
    g->product.thunk(g->product.function, views, g->product.attributes.data());
    taken = leave_epilogue(nullptr);
  }
  if (taken) return;
  if (adds && views[g->addend_view].data == views[g->result_view].data)
    runtime_error("replay: a product has written over what was to be added to it");
  const std::int64_t columns = g->shape[1], rows = g->shape[0],
                     each = std::max<std::int64_t>(1, kFusedPiece / columns);
  struct Work {
    const GroupEpilogue& epilogue;
    std::int64_t rows, columns, each;
  } work{epilogue, rows, columns, each};
  parallel_for((rows + each - 1) / each,
               [](void* context, std::int64_t number) {
                 const Work& w = *static_cast<Work*>(context);
                 const Group& group = w.epilogue.g;
                 const std::int64_t row = number * w.each;
                 const char* const data = static_cast<const char*>(w.epilogue.views[group.result_view].data);
                 run_finished(group, w.epilogue.views,
                              {row, std::min(w.each, w.rows - row), 0, w.columns,
                               data + row * w.columns * itemsize(w.epilogue.views[group.result_view].dtype),
                               w.columns});
               },
               &work);
}

}  // namespace ts
