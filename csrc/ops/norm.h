// Normalisation over the last axes or over each channel.
#pragma once

#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// x (..., *normalized_shape); weight and bias of that shape, or absent. Returns y and the rows' mean and
// 1/std.
std::tuple<Array, Array, Array> layer_norm(const Array& x, const Shape& normalized_shape, const Array& weight,
                                           const Array& bias, double eps);
// dx, dweight and dbias; without `parameters` the last two are empty.
std::tuple<Array, Array, Array> layer_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                                    const Array& mean, const Array& rstd,
                                                    const Shape& normalized_shape, bool parameters);

// The same without a mean: y = x / sqrt(avg x^2 + eps) weight; and 1/rms.
std::tuple<Array, Array> rms_norm(const Array& x, const Shape& normalized_shape, const Array& weight,
                                  double eps);
std::tuple<Array, Array> rms_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                           const Array& rstd, const Shape& normalized_shape);

// x (N, C, ...), weight (C), bias (C) or absent. Returns y and the mean and 1/std of every group of an image.
std::tuple<Array, Array, Array> group_norm(const Array& x, std::int64_t groups, const Array& weight,
                                           const Array& bias, double eps);
std::tuple<Array, Array, Array> group_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                                    const Array& mean, const Array& rstd,
                                                    std::int64_t groups);

// x (N, C, ...), the rest (C) or absent; the running statistics are updated in place. Returns y and this
// batch's mean and 1/std.
std::tuple<Array, Array, Array> batch_norm(const Array& x, const Array& weight, const Array& bias,
                                           const Array& running_mean, const Array& running_var,
                                           double momentum, double eps);
std::tuple<Array, Array, Array> batch_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                                    const Array& mean, const Array& rstd);
// The same with max(0, ...) of the result, and dy where that is > 0.
std::tuple<Array, Array, Array> batch_norm_relu(const Array& x, const Array& weight, const Array& bias,
                                                const Array& running_mean, const Array& running_var,
                                                double momentum, double eps);
std::tuple<Array, Array, Array> batch_norm_relu_backward(const Array& dy, const Array& x, const Array& weight,
                                                         const Array& bias, const Array& mean,
                                                         const Array& rstd);
// y = x * scale + shift, channel by channel.
Array channel_affine(const Array& x, const Array& scale, const Array& shift);

}  // namespace ts::ops
