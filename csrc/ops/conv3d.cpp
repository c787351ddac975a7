// 3-D convolution and its gradients: check, allocate channels last beneath (N, C, D, H, W), launch.
#include "core/launch.h"
#include "ops/conv.h"
#include "ops/window.h"

namespace ts::ops {

namespace {

void read_triple(const char* operation, const char* argument, const Shape& value, std::int64_t least,
                 std::int64_t out[3]) {
  if (value.rank() != 1 && value.rank() != 3)
    value_error(operation, ": ", argument, " must be one integer or three (depth, height, width), got ",
                value);
  for (int i = 0; i < 3; ++i) {
    out[i] = value[value.rank() == 1 ? 0 : i];
    if (out[i] < least) value_error(operation, ": ", argument, " must be >= ", least, ", got ", value);
    if (out[i] > 0x7fffffff) value_error(operation, ": ", argument, " must be < 2**31, got ", value);
  }
}

Conv3d read_options(const char* operation, const Shape& stride, const Shape& padding, const Shape& dilation,
                    std::int64_t groups) {
  Conv3d conv;
  read_triple(operation, "stride", stride, 1, conv.stride);
  read_triple(operation, "padding", padding, 0, conv.padding);
  read_triple(operation, "dilation", dilation, 1, conv.dilation);
  if (groups < 1 || groups > 0x7fffffff)
    value_error(operation, ": groups must be in [1, 2**31), got ", groups);
  conv.groups = groups;
  return conv;
}

void check_volumes(const char* operation, const char* argument, const Shape& shape) {
  if (shape.rank() != 5)
    value_error(operation, ": ", argument, " must have 5 dimensions (N, C, D, H, W), got shape ", shape);
  for (std::int64_t extent : shape)
    if (extent < 0) value_error(operation, ": ", argument, " must not be negative, got ", shape);
}

// Checks x's and weight's shapes against each other; returns the shape of y.
Shape result_shape(const char* operation, const Shape& x, const Shape& weight, const Conv3d& conv) {
  if (weight.rank() != 5)
    value_error(operation, ": weight must have 5 dimensions (O, C / groups, KD, KH, KW), got shape ", weight);
  for (int i = 0; i < 5; ++i)
    if (weight[i] < (i < 2 ? 0 : 1) || weight[i] > 0x7fffffff)
      value_error(operation, ": weight of shape ", weight, " has an extent outside [", i < 2 ? 0 : 1,
                  ", 2**31)");
  if (weight[0] % conv.groups != 0)
    value_error(operation, ": groups=", conv.groups, " does not divide the ", weight[0],
                " output channels of weight");
  if (x[1] != weight[1] * conv.groups)
    value_error(operation, ": x has ", x[1], " channels, but weight of shape ", weight,
                " with groups=", conv.groups, " takes ", weight[1] * conv.groups);
  Shape y{x[0], weight[0], 0, 0, 0};
  for (int i = 0; i < 3; ++i)
    y[2 + i] = window_places(operation, 2 + i, x[2 + i], weight[2 + i], conv.stride[i], conv.padding[i],
                             conv.dilation[i], false);
  return y;
}

Array channels_last(const char* operation, DType dtype, const Shape& shape) {
  return empty_ordered(operation, dtype, shape, Shape{0, 2, 3, 4, 1});
}

}  // namespace

Array conv3d(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
             const Shape& padding, const Shape& dilation, std::int64_t groups) {
  const char* operation = "conv3d";
  const Conv3d conv = read_options(operation, stride, padding, dilation, groups);
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
  const Conv3d conv = read_options(operation, stride, padding, dilation, groups);
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
  const Conv3d conv = read_options(operation, stride, padding, dilation, groups);
  check_domain(operation, "x", x.dtype(), Domain::floating);
  check_same_dtype(operation, "gradient", gradient, x.dtype());
  check_volumes(operation, "x", x.shape());
  check_shape(operation, "gradient", gradient, result_shape(operation, x.shape(), shape, conv));
  Array dweight = empty(operation, x.dtype(), shape), dbias = empty(operation, x.dtype(), Shape{shape[0]});
  launch<&Kernels::conv3d_weight_backward>(gradient, x, dweight, dbias, conv);
  return {dweight, dbias};
}

}  // namespace ts::ops
