// 2-D pooling and its gradients: check, allocate in the memory order of the input, launch.
#include "ops/pool.h"

#include "core/launch.h"
#include "core/threads.h"
#include "ops/device.h"
#include "ops/elementwise.h"
#include "ops/window.h"

namespace ts::ops {

namespace {

Pool2d read_options(const char* operation, const Shape& kernel_size, const std::optional<Shape>& stride,
                    const Shape& padding, const Shape& dilation) {
  Pool2d pool{};
  read_axes(operation, "kernel_size", kernel_size, 1, pool.kernel);
  read_axes(operation, "stride", stride ? *stride : kernel_size, 1, pool.stride);
  read_axes(operation, "padding", padding, 0, pool.padding);
  read_axes(operation, "dilation", dilation, 1, pool.dilation);
  for (int i = 0; i < 2; ++i)
    if (pool.padding[i] > pool.kernel[i] / 2)
      value_error(operation, ": padding must be at most half of kernel_size ", pool.kernel[i], ", got ",
                  pool.padding[i]);
  return pool;
}

Pool2d read_average(const char* operation, const Shape& kernel_size, const std::optional<Shape>& stride,
                    const Shape& padding, bool count_include_pad,
                    const std::optional<std::int64_t>& divisor) {
  Pool2d pool = read_options(operation, kernel_size, stride, padding, Shape{1});
  if (divisor && *divisor == 0) value_error(operation, ": divisor_override must not be 0");
  pool.count_include_pad = count_include_pad;
  pool.divisor = divisor ? *divisor : 0;
  return pool;
}

Shape result_shape(const char* operation, const Shape& x, const Pool2d& pool, bool ceil_mode) {
  Shape y = x;
  for (int i = 0; i < 2; ++i)
    y[2 + i] = window_places(operation, 2 + i, x[2 + i], pool.kernel[i], pool.stride[i], pool.padding[i],
                             pool.dilation[i], ceil_mode);
  return y;
}

DType index_dtype(const Pool2d& pool) {
  return pool.kernel[0] <= 256 && pool.kernel[1] <= 256 / pool.kernel[0] ? DType::uint8 : DType::int32;
}

Array allocate(const char* operation, const Array& like, DType dtype, const Shape& shape) {
  return empty_ordered(operation, dtype, shape, memory_order(like.shape(), like.strides()));
}

// The shape of x, checked against the gradient of y.
Shape input_shape(const char* operation, const Array& dy, const Shape& shape, const Pool2d& pool,
                  bool ceil_mode) {
  Shape full = shape;
  if (shape.rank() == 3) full.insert(0, 1);
  if (full.rank() != 4)
    value_error(operation, ": shape must be that of x, (N, C, H, W) or (C, H, W), got ", shape);
  for (std::int64_t extent : full)
    if (extent < 0) value_error(operation, ": shape must not be negative, got ", shape);
  check_shape(operation, "gradient", dy, result_shape(operation, full, pool, ceil_mode));
  return full;
}

// Whether halves must be widened for a gradient: the CPU's kernel sums a plane of them in scratch, a GPU's
// takes none.
bool sums_need_room(const Array& dy, const Shape& shape) {
  constexpr auto kMost = static_cast<std::int64_t>(kScratchBytes / sizeof(float));
  return is_half(dy.dtype()) && (dy.device() != Device::cpu || (shape[3] > 0 && shape[2] > kMost / shape[3]));
}

}  // namespace

std::tuple<Array, Array> max_pool2d(const Array& given, const Shape& kernel_size,
                                    const std::optional<Shape>& stride, const Shape& padding,
                                    const Shape& dilation, bool ceil_mode) {
  const char* operation = "max_pool2d";
  const Pool2d pool = read_options(operation, kernel_size, stride, padding, dilation);
  const Array x = as_batch(operation, "x", given);
  check_floating(operation, "x", x.dtype());
  const Shape shape = result_shape(operation, x.shape(), pool, ceil_mode);
  if (pool.kernel[0] * pool.kernel[1] > 0x7fffffff)
    value_error(operation, ": kernel_size must hold fewer than 2**31 elements, got ", kernel_size);
  Array y = allocate(operation, x, x.dtype(), shape),
        index = allocate(operation, x, index_dtype(pool), shape);
  launch<&Kernels::max_pool2d>(x, y, index, pool);
  return {like_batch(given, y), like_batch(given, index)};
}

Array max_pool2d_backward(const Array& gradient, const Array& index, const Shape& shape,
                          const Shape& kernel_size, const std::optional<Shape>& stride, const Shape& padding,
                          const Shape& dilation, bool ceil_mode) {
  const char* operation = "max_pool2d_backward";
  const Pool2d pool = read_options(operation, kernel_size, stride, padding, dilation);
  const Array dy = as_batch(operation, "gradient", gradient), taps = as_batch(operation, "index", index);
  check_floating(operation, "gradient", dy.dtype());
  check_same_dtype(operation, "index", taps, index_dtype(pool));
  const Shape full = input_shape(operation, dy, shape, pool, ceil_mode);
  if (sums_need_room(dy, full))
    return astype(max_pool2d_backward(astype(gradient, DType::float32, false), index, shape, kernel_size,
                                      stride, padding, dilation, ceil_mode),
                  dy.dtype(), false);
  check_shape(operation, "index", taps, dy.shape());
  // The index has x's memory order; dy, after a reshape, often another: a quarter of the elements to reorder
  // once.
  Array ordered = dy;
  if (memory_order(dy.shape(), dy.strides()) != memory_order(taps.shape(), taps.strides())) {
    ordered = allocate(operation, taps, dy.dtype(), dy.shape());
    copy_into(operation, dy, ordered);
  }
  Array dx = allocate(operation, taps, dy.dtype(), full);
  // A tap outside its window is never found there: the kernel reads and writes nothing for it.
  launch<&Kernels::max_pool2d_backward>(ordered, taps, dx, pool);
  return like_batch(gradient, dx);
}

namespace {

template <class T>
void require_unit_interval(const T* samples, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    if (!(samples[i] >= T(0) && samples[i] <= T(1)))
      value_error("fractional_max_pool2d: samples must be in [0, 1], got ", samples[i], " at position ", i);
}
void require_samples(In samples) {
  const OnHost elements(samples);
  if (samples.dtype == DType::float32)
    require_unit_interval(elements.as<float>(), samples.size());
  else
    require_unit_interval(elements.as<double>(), samples.size());
}

}  // namespace

std::tuple<Array, Array> fractional_max_pool2d(const Array& given, const Array& samples,
                                               const Shape& kernel_size, const Shape& output_size) {
  const char* operation = "fractional_max_pool2d";
  const Array x = as_batch(operation, "x", given);
  check_domain(operation, "x", x.dtype(), Domain::floating);
  std::int64_t kernel[2], out[2];
  read_axes(operation, "kernel_size", kernel_size, 1, kernel);
  read_axes(operation, "output_size", output_size, 1, out);
  for (int i = 0; i < 2; ++i)
    if (kernel[i] > x.shape(2 + i) || out[i] > x.shape(2 + i) - kernel[i] + 1)
      value_error(operation, ": kernel_size + output_size - 1 must be at most the extent ", x.shape(2 + i),
                  " of axis ", 2 + i - (4 - given.ndim()), " of x, got kernel_size ", kernel[i],
                  " and output_size ", out[i]);
  if (kernel[0] > 0x7fffffff || kernel[1] > 0x7fffffff || out[0] + out[1] > std::int64_t{1} << 22)
    value_error(operation, ": output_size must add up to at most 2**22, kernel_size be below 2**31, got ",
                output_size, " and ", kernel_size);
  check_same_dtype(operation, "samples", samples, x.dtype());
  check_shape(operation, "samples", samples, Shape{x.shape(0), x.shape(1), 2});
  const Array drawn = contiguous(samples);
  // A GPU's kernel takes others as 0, and nobody waits for it.
  if (samples.device() == Device::cpu || detail::watching())
    perform("fractional_max_pool2d samples", &require_samples, drawn);
  const std::int64_t A = x.shape(0) * x.shape(1);
  Array y = empty(operation, x.dtype(), Shape{x.shape(0), x.shape(1), out[0], out[1]}),
        index = empty(operation, DType::int64, y.shape());
  if (y.size() > 0) {
    Array flat = *y.view_as({A, out[0], out[1]}), places = *index.view_as({A, out[0], out[1]});
    launch<&Kernels::fractional_max_pool2d>(*contiguous(x).view_as({A, x.shape(2), x.shape(3)}),
                                            *drawn.view_as({A, 2}), flat, places, static_cast<int>(kernel[0]),
                                            static_cast<int>(kernel[1]));
  }
  return {like_batch(given, y), like_batch(given, index)};
}

Array avg_pool2d(const Array& given, const Shape& kernel_size, const std::optional<Shape>& stride,
                 const Shape& padding, bool ceil_mode, bool count_include_pad,
                 const std::optional<std::int64_t>& divisor_override) {
  const char* operation = "avg_pool2d";
  const Pool2d pool =
      read_average(operation, kernel_size, stride, padding, count_include_pad, divisor_override);
  const Array x = as_batch(operation, "x", given);
  check_floating(operation, "x", x.dtype());
  Array y = allocate(operation, x, x.dtype(), result_shape(operation, x.shape(), pool, ceil_mode));
  launch<&Kernels::avg_pool2d>(x, y, pool);
  return like_batch(given, y);
}

Array avg_pool2d_backward(const Array& gradient, const Shape& shape, const Shape& kernel_size,
                          const std::optional<Shape>& stride, const Shape& padding, bool ceil_mode,
                          bool count_include_pad, const std::optional<std::int64_t>& divisor_override) {
  const char* operation = "avg_pool2d_backward";
  const Pool2d pool =
      read_average(operation, kernel_size, stride, padding, count_include_pad, divisor_override);
  const Array dy = as_batch(operation, "gradient", gradient);
  check_floating(operation, "gradient", dy.dtype());
  const Shape full = input_shape(operation, dy, shape, pool, ceil_mode);
  if (sums_need_room(dy, full))
    return astype(avg_pool2d_backward(astype(gradient, DType::float32, false), shape, kernel_size, stride,
                                      padding, ceil_mode, count_include_pad, divisor_override),
                  dy.dtype(), false);
  Array dx = allocate(operation, dy, dy.dtype(), full);
  launch<&Kernels::avg_pool2d_backward>(dy, dx, pool);
  return like_batch(gradient, dx);
}

}  // namespace ts::ops
