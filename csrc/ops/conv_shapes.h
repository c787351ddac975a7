// What convolutions of images and volumes check alike: their options and shapes. Conv is Conv2d or Conv3d.
#pragma once

#include <type_traits>

#include "core/backend.h"
#include "core/conv_algorithm.h"
#include "ops/window.h"

namespace ts::ops {

template <class Conv>
Conv read_options(const char* operation, const Shape& stride, const Shape& padding, const Shape& dilation,
                  std::int64_t groups) {
  Conv conv;
  read_axes(operation, "stride", stride, 1, conv.stride);
  read_axes(operation, "padding", padding, 0, conv.padding);
  read_axes(operation, "dilation", dilation, 1, conv.dilation);
  if (groups < 1) value_error(operation, ": groups must be >= 1, got ", groups);
  if (groups > 0x7fffffff) value_error(operation, ": groups must be < 2**31, got ", groups);
  conv.groups = groups;
  if constexpr (std::is_same_v<Conv, Conv2d>) conv.winograd = conv_algorithm() == ConvAlgorithm::winograd;
  return conv;
}

// Checks x's shape, with its batch, and weight's against each other; returns the shape of y.
template <class Conv>
Shape result_shape(const char* operation, const Shape& x, const Shape& weight, const Conv& conv) {
  constexpr int axes = std::extent_v<decltype(conv.stride)>;
  if (weight.rank() != axes + 2)
    value_error(operation, ": weight must have ", axes + 2, " dimensions (O, C / groups, ",
                axes == 3 ? "KD, " : "", "KH, KW), got shape ", weight);
  for (int i = 0; i < axes + 2; ++i)
    if (weight[i] < (i < 2 ? 0 : 1) || weight[i] > 0x7fffffff)
      value_error(operation, ": weight of shape ", weight, " has an extent outside [", i < 2 ? 0 : 1,
                  ", 2**31)");
  if (weight[0] % conv.groups != 0)
    value_error(operation, ": groups=", conv.groups, " does not divide the ", weight[0],
                " output channels of weight");
  if (x[1] != weight[1] * conv.groups)
    value_error(operation, ": x has ", x[1], " channels, but weight of shape ", weight,
                " with groups=", conv.groups, " takes ", weight[1] * conv.groups);
  Shape y = x;
  y[1] = weight[0];
  for (int i = 0; i < axes; ++i)
    y[2 + i] = window_places(operation, 2 + i, x[2 + i], weight[2 + i], conv.stride[i], conv.padding[i],
                             conv.dilation[i], false);
  return y;
}

inline Array channels_last(const char* operation, DType dtype, const Shape& shape) {
  return empty_ordered(operation, dtype, shape, shape.rank() == 4 ? Shape{0, 2, 3, 1} : Shape{0, 2, 3, 4, 1});
}

}  // namespace ts::ops
