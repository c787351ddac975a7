// 2-D convolution and its gradients: check, allocate channels last beneath (N, C, H, W), launch.
#include "ops/conv.h"

#include <algorithm>

#include "core/conv_algorithm.h"
#include "core/dispatch.h"
#include "core/launch.h"
#include "ops/bf16.h"
#include "ops/conv_shapes.h"

namespace ts::ops {

namespace {

// --- bfloat16: operands rounded to it, sums in float32, one rounding of the result -----------------------

// The GPU's kernels take halves, and float32 beside bfloat16, as they are.
bool on_gpu(const Array& x) { return x.device() == Device::cuda; }

// Whether the kernels' products of bfloat16 take these shapes; others are computed in float32, product for
// product the same numbers. By the machine's engine and the shapes alone. sums: for a weight gradient.
bool on_tiles(const Array& x, const Shape& image, const Shape& weight, const Conv2d& conv,
              bool sums = false) {
  if (on_gpu(x)) return true;
  if (bf16_engine().engine != Bf16Engine::amx) return false;
  const auto up = [](std::int64_t n) { return (n + 31) / 32 * 32; };
  const std::int64_t o = weight[0] / conv.groups, c = weight[1], taps = weight[2] * weight[3];
  if (o == 0 || c == 0 || (conv.groups > 1 && c <= 8 && o <= 8)) return false;
  // The scratch holds all filters, and the rows under one row of results (cpu/conv_bf16.cpp).
  const std::int64_t record = std::max({up(c), up(o), 32 * weight[3]});
  const auto reach = [&](int axis) {
    return (weight[2 + axis] - 1) * conv.dilation[axis] + 2 * conv.stride[axis];
  };
  constexpr double kMost = 16 << 20;
  // A weight gradient's sums, and its band in four layouts.
  if (sums && 4.0 * static_cast<double>(conv.groups) * static_cast<double>(up(o)) *
                      static_cast<double>(4 + taps * up(c)) >
                  2 * kMost)
    return false;
  const double filters = 2.0 * static_cast<double>(conv.groups) * static_cast<double>(taps) *
                         static_cast<double>(std::max(up(o), up(c))) * static_cast<double>(record);
  const double band = 2.0 * static_cast<double>(reach(0)) *
                      static_cast<double>(image[3] + 2 * conv.padding[1] + reach(1)) *
                      static_cast<double>(record);
  return filters <= 2 * kMost && band <= (sums ? kMost / 4 : kMost);
}

// Whether a convolution of x's dtype, with its rounding, is one of halves.
bool takes_half(const Array& x) {
  return x.dtype() == DType::bfloat16 || (x.dtype() == DType::float16 && on_gpu(x));
}

// Filters as the tiles want them: bfloat16, (O, KH, KW, C) in memory.
Array filters_of(const char* operation, const Array& weight) {
  if (on_gpu(weight)) return weight;
  Array last = channels_last(operation, DType::bfloat16, weight.shape());
  copy_into(operation, weight, last);
  return last;
}

// lowered: operands are bfloat16 or float32, in any mixture; else all of one dtype, which is y's.
Array forward(const char* operation, const Array& given, const Array& weight, const Array& bias,
              const Shape& stride, const Shape& padding, const Shape& dilation, std::int64_t groups,
              Activation activation, bool lowered = false) {
  const Conv2d conv = read_options<Conv2d>(operation, stride, padding, dilation, groups);
  const Array x = as_batch(operation, "x", given);
  const bool low = lowered || takes_half(x);
  if (lowered) {
    check_takes_bf16(operation, "x", x);
    check_takes_bf16(operation, "weight", weight);
  } else {
    if (!low) check_domain(operation, "x", x.dtype(), Domain::floating);
    check_same_dtype(operation, "weight", weight, x.dtype());
  }
  const Shape shape = result_shape(operation, x.shape(), weight.shape(), conv);
  if (bias) {
    lowered ? check_takes_bf16(operation, "bias", bias)
            : check_same_dtype(operation, "bias", bias, x.dtype());
    check_shape(operation, "bias", bias, Shape{weight.shape(0)});
  }
  if (!low) {
    Array y = channels_last(operation, x.dtype(), shape);
    launch<&Kernels::conv2d>(x, weight, bias, y, conv, activation);
    return like_batch(given, y);
  }
  const Array wide_bias = bias ? astype(bias, DType::float32, false) : bias;
  if (on_tiles(x, x.shape(), weight.shape(), conv)) {
    Array y = channels_last(operation, lowered ? DType::bfloat16 : x.dtype(), shape);
    launch<&Kernels::conv2d>(x, filters_of(operation, weight), wide_bias ? contiguous(wide_bias) : wide_bias,
                             y, conv, activation);
    return like_batch(given, y);
  }
  Array y = channels_last(operation, DType::float32, shape);
  launch<&Kernels::conv2d>(rounded(x), rounded(weight), wide_bias, y, conv, activation);
  return like_batch(given, astype(y, DType::bfloat16, false));
}

// The shape of x with its batch axis.
Shape batch_shape(const char* operation, const Shape& shape) {
  if (shape.rank() != 3 && shape.rank() != 4)
    value_error(operation, ": shape must be that of x, (N, C, H, W) or (C, H, W), got ", shape);
  Shape full = shape;
  if (shape.rank() == 3) full.insert(0, 1);
  for (std::int64_t extent : full)
    if (extent < 0) value_error(operation, ": shape must not be negative, got ", shape);
  return full;
}

}  // namespace

const char* conv_algorithm_name() {
  return conv_algorithm() == ConvAlgorithm::winograd ? "winograd" : "direct";
}
const char* set_conv_algorithm(const std::string& name) {
  if (name != "direct" && name != "winograd")
    value_error("conv_algorithm: algorithm must be 'direct' or 'winograd', got '", name, "'");
  const char* const before = conv_algorithm_name();
  ts::set_conv_algorithm(name == "winograd" ? ConvAlgorithm::winograd : ConvAlgorithm::direct);
  return before;
}

Array conv2d(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
             const Shape& padding, const Shape& dilation, std::int64_t groups) {
  return forward("conv2d", x, weight, bias, stride, padding, dilation, groups, Activation::none);
}

Array conv2d_relu(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
                  const Shape& padding, const Shape& dilation, std::int64_t groups) {
  return forward("conv2d_relu", x, weight, bias, stride, padding, dilation, groups, Activation::relu);
}

Array conv2d_bf16(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
                  const Shape& padding, const Shape& dilation, std::int64_t groups) {
  return forward("conv2d_bf16", x, weight, bias, stride, padding, dilation, groups, Activation::none, true);
}

Array conv2d_relu_bf16(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
                       const Shape& padding, const Shape& dilation, std::int64_t groups) {
  return forward("conv2d_relu_bf16", x, weight, bias, stride, padding, dilation, groups, Activation::relu,
                 true);
}

namespace {

// With `result`, operands are bfloat16 or float32, in any mixture; else all of one dtype, which is dx's.
Array input_gradient(const char* operation, const Array& gradient, const Array& weight, const Shape& shape,
                     const Conv2d& conv, std::optional<DType> result) {
  const Array dy = as_batch(operation, "gradient", gradient);
  if (result) {
    check_takes_bf16(operation, "gradient", dy);
    check_takes_bf16(operation, "weight", weight);
  } else {
    if (takes_half(dy))
      result = dy.dtype();
    else
      check_domain(operation, "gradient", dy.dtype(), Domain::floating);
    check_same_dtype(operation, "weight", weight, dy.dtype());
  }
  const Shape full = batch_shape(operation, shape);
  check_shape(operation, "gradient", dy, result_shape(operation, full, weight.shape(), conv));
  if (result && on_tiles(dy, full, weight.shape(), conv)) {
    Array dx = channels_last(operation, *result, full);
    const Array seen = on_gpu(dy) && !is_half(dy.dtype()) ? astype(dy, DType::bfloat16, false) : dy;
    launch<&Kernels::conv2d_input_backward>(seen, filters_of(operation, weight), dx, conv);
    return like_batch(gradient, dx);
  }
  Array dx = channels_last(operation, result ? DType::float32 : dy.dtype(), full);
  launch<&Kernels::conv2d_input_backward>(result ? rounded(dy) : dy, result ? rounded(weight) : weight, dx,
                                          conv);
  return like_batch(gradient, result ? astype(dx, *result, false) : dx);
}

std::tuple<Array, Array> weight_gradient(const char* operation, const Array& gradient, const Array& given,
                                         const Shape& shape, const Conv2d& conv,
                                         std::optional<DType> result) {
  Array dy = as_batch(operation, "gradient", gradient), x = as_batch(operation, "x", given);
  if (result) {
    check_takes_bf16(operation, "gradient", dy);
    check_takes_bf16(operation, "x", x);
  } else {
    if (takes_half(x))
      result = x.dtype();
    else
      check_domain(operation, "x", x.dtype(), Domain::floating);
    check_same_dtype(operation, "gradient", dy, x.dtype());
  }
  check_shape(operation, "gradient", dy, result_shape(operation, x.shape(), shape, conv));
  if (result && on_tiles(x, x.shape(), shape, conv, true))
    dy = is_half(dy.dtype()) ? dy : astype(dy, DType::bfloat16, false);
  else if (result)
    dy = rounded(dy), x = rounded(x);
  const DType summed = result ? DType::float32 : x.dtype();
  Array dweight = empty(operation, summed, shape), dbias = empty(operation, summed, Shape{shape[0]});
  launch<&Kernels::conv2d_weight_backward>(dy, x, dweight, dbias, conv);
  if (result) return {astype(dweight, *result, false), astype(dbias, *result, false)};
  return {dweight, dbias};
}

}  // namespace

Array conv2d_input_backward(const Array& gradient, const Array& weight, const Shape& shape,
                            const Shape& stride, const Shape& padding, const Shape& dilation,
                            std::int64_t groups) {
  const char* operation = "conv2d_input_backward";
  return input_gradient(operation, gradient, weight, shape,
                        read_options<Conv2d>(operation, stride, padding, dilation, groups), std::nullopt);
}

Array conv2d_input_backward_bf16(const Array& gradient, const Array& weight, const Shape& shape,
                                 const Shape& stride, const Shape& padding, const Shape& dilation,
                                 std::int64_t groups, std::optional<DType> dtype) {
  const char* operation = "conv2d_input_backward_bf16";
  return input_gradient(operation, gradient, weight, shape,
                        read_options<Conv2d>(operation, stride, padding, dilation, groups),
                        bf16_result(operation, dtype));
}

std::tuple<Array, Array> conv2d_weight_backward(const Array& gradient, const Array& x, const Shape& shape,
                                                const Shape& stride, const Shape& padding,
                                                const Shape& dilation, std::int64_t groups) {
  const char* operation = "conv2d_weight_backward";
  return weight_gradient(operation, gradient, x, shape,
                         read_options<Conv2d>(operation, stride, padding, dilation, groups), std::nullopt);
}

std::tuple<Array, Array> conv2d_weight_backward_bf16(const Array& gradient, const Array& x,
                                                     const Shape& shape, const Shape& stride,
                                                     const Shape& padding, const Shape& dilation,
                                                     std::int64_t groups, std::optional<DType> dtype) {
  const char* operation = "conv2d_weight_backward_bf16";
  return weight_gradient(operation, gradient, x, shape,
                         read_options<Conv2d>(operation, stride, padding, dilation, groups),
                         bf16_result(operation, dtype));
}

}  // namespace ts::ops
