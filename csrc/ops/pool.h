// 2-D pooling and its gradients. x (N, C, H, W) or (C, H, W).
#pragma once

#include <optional>
#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// y, and the winning tap of every window for the gradient. stride None is kernel_size.
std::tuple<Array, Array> max_pool2d(const Array& x, const Shape& kernel_size,
                                    const std::optional<Shape>& stride, const Shape& padding,
                                    const Shape& dilation, bool ceil_mode);
// `shape` is x's.
Array max_pool2d_backward(const Array& gradient, const Array& index, const Shape& shape,
                          const Shape& kernel_size, const std::optional<Shape>& stride, const Shape& padding,
                          const Shape& dilation, bool ceil_mode);
// samples: (N, C, 2) for x (N, C, H, W), (1, C, 2) for (C, H, W). Returns y, and int64 positions in H W.
std::tuple<Array, Array> fractional_max_pool2d(const Array& x, const Array& samples, const Shape& kernel_size,
                                               const Shape& output_size);
Array avg_pool2d(const Array& x, const Shape& kernel_size, const std::optional<Shape>& stride,
                 const Shape& padding, bool ceil_mode, bool count_include_pad,
                 const std::optional<std::int64_t>& divisor_override);
Array avg_pool2d_backward(const Array& gradient, const Shape& shape, const Shape& kernel_size,
                          const std::optional<Shape>& stride, const Shape& padding, bool ceil_mode,
                          bool count_include_pad, const std::optional<std::int64_t>& divisor_override);

}  // namespace ts::ops
