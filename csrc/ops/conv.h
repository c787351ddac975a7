// 2-D convolution and its gradients. x (N, C, H, W) or (C, H, W); weight (O, C / groups, KH, KW); bias (O).
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// Which algorithm this thread's convolutions use where they can: "direct" or "winograd". Returns the one
// before; ValueError for another name.
const char* set_conv_algorithm(const std::string& name);
const char* conv_algorithm_name();

// stride, padding and dilation are one integer or (height, width).
Array conv2d(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
             const Shape& padding, const Shape& dilation, std::int64_t groups);
Array conv2d_relu(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
                  const Shape& padding, const Shape& dilation, std::int64_t groups);
// The gradients of both operands; `shape` is that of the one asked for.
Array conv2d_input_backward(const Array& gradient, const Array& weight, const Shape& shape,
                            const Shape& stride, const Shape& padding, const Shape& dilation,
                            std::int64_t groups);
std::tuple<Array, Array> conv2d_weight_backward(const Array& gradient, const Array& x, const Shape& shape,
                                                const Shape& stride, const Shape& padding,
                                                const Shape& dilation,
                                                std::int64_t groups);  // of weight, of bias

// x (N, C, D, H, W), weight (O, C / groups, KD, KH, KW); stride, padding and dilation have three integers.
// float32 and float64 on the CPU.
Array conv3d(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
             const Shape& padding, const Shape& dilation, std::int64_t groups);
Array conv3d_input_backward(const Array& gradient, const Array& weight, const Shape& shape,
                            const Shape& stride, const Shape& padding, const Shape& dilation,
                            std::int64_t groups);
std::tuple<Array, Array> conv3d_weight_backward(const Array& gradient, const Array& x, const Shape& shape,
                                                const Shape& stride, const Shape& padding,
                                                const Shape& dilation, std::int64_t groups);

// conv2d for bfloat16 and float32 operands in any mixture, rounded to bfloat16; sums are float32. The
// result is bfloat16, or for gradients `dtype`: bfloat16 (none) or float32.
Array conv2d_bf16(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
                  const Shape& padding, const Shape& dilation, std::int64_t groups);
Array conv2d_relu_bf16(const Array& x, const Array& weight, const Array& bias, const Shape& stride,
                       const Shape& padding, const Shape& dilation, std::int64_t groups);
Array conv2d_input_backward_bf16(const Array& gradient, const Array& weight, const Shape& shape,
                                 const Shape& stride, const Shape& padding, const Shape& dilation,
                                 std::int64_t groups, std::optional<DType> dtype);
std::tuple<Array, Array> conv2d_weight_backward_bf16(const Array& gradient, const Array& x,
                                                     const Shape& shape, const Shape& stride,
                                                     const Shape& padding, const Shape& dilation,
                                                     std::int64_t groups, std::optional<DType> dtype);

}  // namespace ts::ops
