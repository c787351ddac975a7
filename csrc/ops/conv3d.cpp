// 3-D convolution and its gradients: check, allocate channels last beneath (N, C, D, H, W), launch.
#include "core/launch.h"
#include "ops/conv.h"
#include "ops/conv_shapes.h"

namespace ts::ops {

namespace {

void check_volumes(const char* operation, const char* argument, const Shape& shape) {
  if (shape.rank() != 5)
    value_error(operation, ": ", argument, " must have 5 dimensions (N, C, D, H, W), got shape ", shape);
  for (std::int64_t extent : shape)
    if (extent < 0) value_error(operation, ": ", argument, " must not be negative, got ", shape);
}

}  // namespace

Array conv3d(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
             const Shape& padding, const Shape& dilation, std::int64_t groups) {
  const char* operation = "conv3d";
  const Conv3d conv = read_options<Conv3d>(operation, stride, padding, dilation, groups);
  check_domain(operation, "x", x.dtype(), Domain::floating);
  check_same_dtype(operation, "weight", weight, x.dtype());
  check_volumes(operation, "x", x.shape());
  const Shape shape = result_shape(operation, x.shape(), weight.shape(), conv);
  if (bias) {
    check_same_dtype(operation, "bias", bias, x.dtype());
    check_shape(operation, "bias", bias, Shape{weight.shape(0)});
  }
  Array y = channels_last(operation, x.dtype(), shape);
  launch<&Kernels::conv3d>(x, weight, bias, y, conv);
  return y;
}

Array conv3d_input_backward(const Array& gradient, const Array& weight, const Shape& shape,
                            const Shape& stride, const Shape& padding, const Shape& dilation,
                            std::int64_t groups) {
  const char* operation = "conv3d_input_backward";
  const Conv3d conv = read_options<Conv3d>(operation, stride, padding, dilation, groups);
  check_domain(operation, "gradient", gradient.dtype(), Domain::floating);
  check_same_dtype(operation, "weight", weight, gradient.dtype());
  check_volumes(operation, "shape", shape);
  check_shape(operation, "gradient", gradient, result_shape(operation, shape, weight.shape(), conv));
  Array dx = channels_last(operation, gradient.dtype(), shape);
  launch<&Kernels::conv3d_input_backward>(gradient, weight, dx, conv);
  return dx;
}

std::tuple<Array, Array> conv3d_weight_backward(const Array& gradient, const Array& x, const Shape& shape,
                                                const Shape& stride, const Shape& padding,
                                                const Shape& dilation, std::int64_t groups) {
  const char* operation = "conv3d_weight_backward";
  const Conv3d conv = read_options<Conv3d>(operation, stride, padding, dilation, groups);
  check_domain(operation, "x", x.dtype(), Domain::floating);
  check_same_dtype(operation, "gradient", gradient, x.dtype());
  check_volumes(operation, "x", x.shape());
  check_shape(operation, "gradient", gradient, result_shape(operation, x.shape(), shape, conv));
  Array dweight = empty(operation, x.dtype(), shape), dbias = empty(operation, x.dtype(), Shape{shape[0]});
  launch<&Kernels::conv3d_weight_backward>(gradient, x, dweight, dbias, conv);
  return {dweight, dbias};
}

}  // namespace ts::ops
