// Indexing element by element along one axis: gather, scatter, scatter_add.
//
// index has y's shape in gather and x's in scatter. All elements that may meet in one destination share their
// position off the axis: a thread takes such a line, in ascending order. Gather reads the indices and x's
// elements once and writes y once.
#include "cuda/index.h"
#include "cuda/kernels.h"

namespace ts::cuda {
namespace {

template <class T>
__global__ void gather_kernel(const Walk<3> walk, const T* x, std::int64_t along, const std::int64_t* index,
                              T* y, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::int64_t at[3];
  walk.offsets(i, at);
  y[at[2]] = x[at[0] + index[at[1]] * along];
}

template <class T, class Op>
__global__ void scatter_kernel(const Walk<3> lines, const std::int64_t* index, std::int64_t ai, const T* x,
                               std::int64_t ax, T* y, std::int64_t ay, std::int64_t count,
                               std::int64_t length, Op op) {
  const std::int64_t line = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (line >= count) return;
  std::int64_t at[3];
  lines.offsets(line, at);
  for (std::int64_t i = 0; i < length; ++i) {
    T& target = y[at[2] + index[at[0] + i * ai] * ay];
    target = op(target, x[at[1] + i * ax]);
  }
}

template <class T, class Op>
void scatter_lines(const char* kernel, const View& index, const View& x, const View& y, int axis, Op op) {
  Walk<3> lines;
  std::int64_t count = 1;
  for (int d = 0; d < index.ndim; ++d) {
    if (d == axis) continue;
    lines.add(kernel, index.shape[d], {index.strides[d], x.strides[d], y.strides[d]});
    count *= index.shape[d];
  }
  if (!count || !index.shape[axis]) return;
  launch(&scatter_kernel<T, Op>, dim3(blocks_of(ceil_div(count, 128))), dim3(128), 0, lines,
         static_cast<const std::int64_t*>(index.data), index.strides[axis], static_cast<const T*>(x.data),
         x.strides[axis], static_cast<T*>(y.data), y.strides[axis], count, index.shape[axis], op);
}

struct Times {
  template <class T>
  TS_INLINE T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, bool>)
      return a && b;
    else
      return static_cast<T>(a * b);
  }
};
template <bool kLargest>
struct Extreme {
  template <class T>
  TS_INLINE T operator()(T a, T b) const {
    return b != b || (kLargest ? b > a : b < a) ? b : a;
  }
};

}  // namespace

void gather(In x, In index, Out y, int axis) {
  Walk<3> walk;
  for (int d = 0; d < y.ndim; ++d)
    walk.add("gather", y.shape[d], {d == axis ? 0 : x.strides[d], index.strides[d], y.strides[d]});
  const std::int64_t count = y.size();
  if (count == 0) return;
  with_size(y.dtype, [&]<class T>(Type<T>) {
    launch(&gather_kernel<T>, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, walk, x.as<T>(),
           x.strides[axis], index.as<std::int64_t>(), y.as<T>(), count);
  });
}

void scatter(In index, In x, Out y, int axis) {
  const OnDevice source(x);
  with_size(y.dtype,
            [&]<class T>(Type<T>) { scatter_lines<T>("scatter", index, source.view, y, axis, Replace{}); });
}
void scatter_add(In index, In x, Out y, int axis) {
  with_any(y.dtype,
           [&]<class T>(Type<T>) { scatter_lines<Summand<T>>("scatter_add", index, x, y, axis, Plus{}); });
}

void scatter_reduce(In index, In x, Out y, int axis, Combine combine) {
  with_wide_any(y.dtype, [&]<class T>(Type<T>) {
    if (combine == Combine::product)
      scatter_lines<Summand<T>>("scatter_reduce", index, x, y, axis, Times{});
    else if (combine == Combine::maximum)
      scatter_lines<T>("scatter_reduce", index, x, y, axis, Extreme<true>{});
    else
      scatter_lines<T>("scatter_reduce", index, x, y, axis, Extreme<false>{});
  });
}

}  // namespace ts::cuda
