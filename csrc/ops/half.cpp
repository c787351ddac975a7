#include "ops/half.h"

#include <algorithm>

#include "core/array.h"
#include "core/dispatch.h"
#include "core/fuse.h"
#include "core/storage.h"
#include "ops/half_table.h"

namespace ts::ops {
namespace {

constexpr int kOperands = kFusedOperands - 1;  // and y
constexpr std::int64_t kBlocksOfAPiece = kFusedPiece / kFusedBlock;

// The views with their axes joined to rows and columns; y is dense.
class Plane {
 public:
  const Pointwise& op;
  const In* x;
  const Out& y;
  const HalfTable* const table;  // of the results, or null

  Plane(const Pointwise& op, const In* x, const Out& y)
      : op(op), x(x), y(y), table(x[0].dtype == y.dtype ? half_table(op, y.dtype, y.size()) : nullptr) {}

  // False where more than two axes remain, or an operand's columns are neither neighbours nor one.
  bool join() {
    const Shape order = memory_order(Shape(y.shape, y.ndim), Shape(y.strides, y.ndim));
    std::int64_t expected = 1;
    int axes = 0;
    for (int i = y.ndim - 1; i >= 0; --i) {
      const int axis = static_cast<int>(order[i]);
      const std::int64_t extent = y.shape[axis];
      if (extent == 1) continue;
      if (y.strides[axis] != expected) return false;
      expected *= extent;
      bool same = axes > 0;
      for (int k = 0; k < op.arity; ++k)
        same = same && x[k].strides[axis] == strides_[k][2 - axes] * extents_[2 - axes];
      if (same) {
        extents_[2 - axes] *= extent;
        continue;
      }
      if (++axes > 2) return false;
      extents_[2 - axes] = extent;
      for (int k = 0; k < op.arity; ++k) {
        strides_[k][2 - axes] = x[k].strides[axis];
        if (axes == 1 && x[k].strides[axis] != 0 && x[k].strides[axis] != 1) return false;
      }
    }
    columns_ = std::min(extents_[1], kFusedBlock);
    rows_ = std::min(extents_[0], kFusedBlock / columns_);
    across_ = (extents_[1] + columns_ - 1) / columns_;
    return true;
  }

  void run() const {
    const std::int64_t blocks = across_ * ((extents_[0] + rows_ - 1) / rows_);
    struct Work {
      const Plane& plane;
      std::int64_t blocks;
    } work{*this, blocks};
    parallel_for((blocks + kBlocksOfAPiece - 1) / kBlocksOfAPiece,
                 [](void* context, std::int64_t piece) {
                   const Work& w = *static_cast<Work*>(context);
                   const std::int64_t end = std::min(w.blocks, (piece + 1) * kBlocksOfAPiece);
                   for (std::int64_t b = piece * kBlocksOfAPiece; b < end; ++b) w.plane.block(b);
                 },
                 &work);
  }

 private:
  void block(std::int64_t number) const {
    const std::int64_t row = number / across_ * rows_, column = number % across_ * columns_;
    const std::int64_t shape[2] = {std::min(rows_, extents_[0] - row),
                                   std::min(columns_, extents_[1] - column)};
    const std::int64_t dense[2] = {shape[1], 1}, to_strides[2] = {extents_[1], 1};
    const auto part = [&](const View& v, const std::int64_t* strides) {
      char* const data =
          static_cast<char*>(v.data) + (row * strides[0] + column * strides[1]) * itemsize(v.dtype);
      return View{data, shape, strides, nullptr, 2, v.dtype};
    };
    const auto buffer = [&](int i) {
      char* const data = static_cast<char*>(scratch()) + kFusedBuffers +
                         static_cast<std::size_t>(i * kFusedBlock) * sizeof(float);
      return View{data, shape, dense, nullptr, 2, DType::float32};
    };
    const Kernels& cpu = kernels(Device::cpu);
    if (table)
      return cpu.half_look_up(In{table->view()}, In{part(x[0], strides_[0])}, Out{part(y, to_strides)},
                              table->by_gathers);
    In wide[kOperands];
    for (int k = 0; k < op.arity; ++k) {
      wide[k] = In{part(x[k], strides_[k])};
      if (x[k].dtype == DType::float32) continue;
      const View to = buffer(k);
      cpu.cast(wide[k], Out{to});
      wide[k] = In{to};
    }
    const Out to{part(y, to_strides)}, result = op.boolean_result ? to : Out{buffer(0)};
    switch (op.arity) {
      case 1:
        (cpu.*op.unary)(wide[0], result);
        break;
      case 2:
        (cpu.*op.binary)(wide[0], wide[1], result);
        break;
      default:
        (cpu.*op.ternary)(wide[0], wide[1], wide[2], result);
    }
    if (!op.boolean_result) cpu.cast(In{result}, to);
  }

  std::int64_t extents_[2] = {1, 1}, strides_[kOperands][2] = {};  // rows, columns
  std::int64_t rows_ = 1, columns_ = 1, across_ = 1;               // of a block; blocks beside one another
};

}  // namespace

namespace {
Kernel kernel_of(const Pointwise& op) {
  return op.arity == 1 ? id(op.unary) : op.arity == 2 ? id(op.binary) : id(op.ternary);
}
}  // namespace

bool gpu_takes_halves(const Pointwise& op) {
  switch (kernel_of(op)) {
    case Kernel::negative:
    case Kernel::relu:
    case Kernel::sigmoid:
    case Kernel::tanh:
    case Kernel::silu:
    case Kernel::gelu:
    case Kernel::gelu_tanh:
    case Kernel::add:
    case Kernel::subtract:
    case Kernel::multiply:
    case Kernel::divide:
    case Kernel::relu_backward:
    case Kernel::sigmoid_backward:
    case Kernel::tanh_backward:
    case Kernel::silu_backward:
    case Kernel::gelu_backward:
    case Kernel::gelu_tanh_backward:
      return true;
    default:
      return false;
  }
}

bool takes_bfloat16(const Pointwise& op) {
  switch (kernel_of(op)) {
    case Kernel::add:
    case Kernel::subtract:
    case Kernel::multiply:
    case Kernel::divide:
    case Kernel::relu:
    case Kernel::relu_backward:
      return true;
    default:
      return false;
  }
}

bool pointwise_by_blocks(const Pointwise& op, const In* x, const Out& y) {
  if (!y.storage || y.storage->device() != Device::cpu) return false;
  for (int k = 0; k < op.arity; ++k)
    if (x[k].storage && x[k].storage->device() != Device::cpu) return false;
  if (y.size() == 0) return true;
  Plane plane(op, x, y);
  if (!plane.join()) return false;
  plane.run();
  return true;
}

}  // namespace ts::ops
